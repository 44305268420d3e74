//! The inference engine that runs a compressed network on a device, and the model file it reads.
//!
//! It is what accuracy and latency are measured with and what may be shipped, so it depends on
//! almost nothing: no tensor library, no async, no training. It runs one image at a time in fp32, or
//! in integers only (Jacob et al. 2018). It does not convert, quantize or optimise models: the
//! worker writes files that are ready to run.

mod model;

pub use model::{
    Activation, Conv, FloatLayer, FloatNode, InputSpec, IntLayer, IntNode, Linear, Model, Network,
    Quantization, Requantization, ValueId,
};
