//! All numbers of a value as one vector.

use burn::tensor::Tensor;
use edgesmith_graph::Flatten;

use super::{Call, Trainable, inputs};

impl Trainable for Flatten {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        call.reshape(value)
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0]
    }
}
