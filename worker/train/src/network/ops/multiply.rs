//! The product of two values.

use burn::tensor::Tensor;
use edgesmith_graph::Multiply;

use super::{Call, Trainable, inputs};

impl Trainable for Multiply {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [a, b] = inputs(call.aligned(values));
        a * b
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent.iter().any(|&silent| silent)
    }
}
