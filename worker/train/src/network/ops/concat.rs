//! Values side by side.

use burn::tensor::Tensor;
use edgesmith_graph::Concat;

use super::{Call, Trainable};

impl Trainable for Concat {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        Tensor::cat(values, call.layout.channels())
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent.iter().all(|&silent| silent)
    }
}
