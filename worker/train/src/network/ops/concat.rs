//! Values side by side along an axis.

use burn::tensor::Tensor;
use edgesmith_graph::Concat;

use super::{Call, Trainable};

impl Trainable for Concat {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        Tensor::cat(values, call.axis(self.axis))
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent.iter().all(|&silent| silent)
    }
}
