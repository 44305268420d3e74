//! The sum of two values.

use burn::tensor::Tensor;
use edgesmith_graph::Add;

use super::{Call, Trainable, inputs};

impl Trainable for Add {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [a, b] = inputs(call.aligned(values));
        a + b
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent.iter().all(|&silent| silent)
    }
}
