//! Networks as ONNX files, written and read.
//!
//! [`write()`] makes a file of any graph. `proto` has the messages of the format. It does not train,
//! compress or run networks, and opens no files: it works on bytes.

pub mod proto;
pub mod write;

pub use write::{Input, Output, Scales, write};
