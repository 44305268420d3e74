//! Files that leave the worker: the edge-runtime model, safetensors, ONNX. Conversions only; what is
//! converted was trained and compressed before.

mod edge;
pub mod onnx;
pub mod safetensors;

pub use edge::float_model;
pub(crate) use edge::{convolution, input_spec, value_ids};
