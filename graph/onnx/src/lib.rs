//! Networks as ONNX files, written and read.
//!
//! [`write()`] makes a file of any graph, and [`read()`] makes a graph of a file. `proto` has the
//! messages of the format that are written. It does not train, compress or run networks, and opens
//! no files: it works on bytes.

mod port;
pub mod proto;
pub mod read;
pub mod write;

pub use port::{Port, PortAxis};
pub use read::{Imported, ReadErrors, ReadOptions, read};
pub use write::{Input, Output, Scales, write};
