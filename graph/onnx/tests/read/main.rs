//! Reading ONNX files: the shared networks against their recorded outputs, small networks made
//! here, files of our own writer, ONNX's own tests, and hostile files.

mod backend;
mod borders;
mod built;
mod hostile;
mod make;
mod networks;
mod operators;
mod quantized;
mod round_trip;
mod support;
mod wire;
