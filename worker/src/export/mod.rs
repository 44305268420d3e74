//! Files that leave the worker: the edge-runtime model, safetensors, ONNX.
