//! Numbers along an axis as shares of their sum.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softmax};
use edgesmith_graph::Softmax;

use super::{Call, Trainable, inputs};

impl Trainable for Softmax {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let axis = call.axis(self.axis);
        if self.log { log_softmax(value, axis) } else { softmax(value, axis) }
    }

    /// Zeros have equal shares.
    fn keeps_silence(&self, _: &[bool]) -> bool {
        false
    }
}
