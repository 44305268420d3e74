//! The logistic function.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use edgesmith_graph::Sigmoid;

use super::{Call, Trainable, inputs};

impl Trainable for Sigmoid {
    fn forward(&self, values: Vec<Tensor<4>>, _: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        sigmoid(value)
    }

    /// The sigmoid of 0 is 0.5.
    fn keeps_silence(&self, _: &[bool]) -> bool {
        false
    }
}
