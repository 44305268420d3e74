//! Networks as ONNX files and in the engine: those of models on the digits' test images, and random
//! graphs of every operation.
//!
//! What asks ONNX Runtime needs a Python with `onnxruntime` and `numpy` (`EDGESMITH_PYTHON`, else
//! `python3`); without one the tests say so and pass, unless `EDGESMITH_REQUIRE_ONNX` is set.

mod engine;
mod models;
mod random;
mod runtime;
