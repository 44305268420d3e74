//! Makes a trained network small: structured pruning and integer quantization, on plain arrays.
