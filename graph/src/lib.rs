//! Networks as graphs: operations in execution order on values of known shapes.
//!
//! A [`Graph`] is structure only. It declares its parameters by name and shape; their numbers are
//! [`Weights`], which travel apart. One file per operation in `ops/` says everything there is to
//! know about it: shape inference, cost, which channels belong together ([`ties`]), and a slow
//! reference evaluation. From the ties follow the [`Channels`] of a graph, the sets of indices that
//! are kept or removed together, and [`Graph::without`] removes some of them. [`Evaluator`] runs a
//! graph on plain numbers.
//!
//! [`Rebuild`] makes a graph out of another one, for passes that change the structure, and
//! [`Quantization`] annotates values and parameters.
//!
//! A graph is read and written by serde; the module `document` states its frozen form.
//!
//! It does not train, choose scales or run on a device, and it does not choose a memory layout:
//! shapes say sizes, not strides. It has no I/O, threads, clock or randomness, and builds for
//! wasm32. `docs/graph.md` tells how to add an operation.

mod channels;
mod cost;
mod cut;
mod document;
mod evaluate;
mod graph;
mod input_scale;
mod logits;
mod normalization;
mod ops;
mod pad;
mod quantization;
mod rebuild;
mod scalar;
mod shape;
pub mod ties;
mod weights;

pub use channels::{ChannelGroup, ChannelGroupId, ChannelId, Channels, GroupSize};
pub use cost::Cost;
pub use cut::{Cut, CutError};
pub use evaluate::Evaluator;
pub use graph::{
    Graph, GraphBuilder, GraphError, MAX_CHANNELS, MAX_PARAMETER_ELEMENTS, Node, NodeId, Parameter,
    ParameterId, Place, Value, ValueId,
};
pub use ops::*;
pub use quantization::{Affine, Quantization, sign};
pub use rebuild::Rebuild;
pub use scalar::{Dual, Scalar};
pub use shape::{MAX_ELEMENTS, Shape, ShapeError};
pub use weights::{Array, Weights, WeightsError};
