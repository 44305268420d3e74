//! Converts networks to files: the edge-runtime model, safetensors and ONNX. It does not train or
//! compress.

mod edge;
pub mod onnx;

pub use edge::float_model;
pub(crate) use edge::{convolution, input_spec, value_ids};
