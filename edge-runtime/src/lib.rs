//! The inference engine that runs a compressed network on a device, and the model file it reads.
//!
//! Accuracy and latency are measured with it, and it may be shipped, so it has almost no
//! dependencies: no tensor library, no async, no training. It runs one example at a time in fp32, in
//! integers (Jacob et al. 2018), or partly in either, on one thread. It does not convert, quantize or optimise
//! models: the worker does that and writes files that are ready to run.

mod error;
mod file;
mod kernels;
mod layers;
mod model;
mod planner;
mod quantization;
mod session;
mod shape;
mod test_vectors;
mod validate;

pub use error::{FormatProblem, InputError, ModelError, Problem};
pub use file::{FORMAT_VERSION, Packing, StoredTensor};
// The enum of layers, and the structs of every kind.
pub use layers::*;
pub use model::*;
pub use planner::{Arrangement, Lifetime, MAX_SESSION_BYTES, Plan, Target, arrange};
pub use session::{Session, Tensor};
pub use shape::{MAX_AXES, MAX_VALUE_ELEMENTS, Shape};
pub use test_vectors::{MAX_TESTS, TestResult};
pub use validate::{MAX_NODES, MAX_PORTS, Values};

/// Name of this engine in measurements.
pub const ENGINE_NAME: &str = "edge-runtime";

/// Version of this engine in measurements.
pub const ENGINE_VERSION: &str = env!("CARGO_PKG_VERSION");
