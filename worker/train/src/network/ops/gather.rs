//! Chosen indices of an axis in a chosen order.

use burn::tensor::Tensor;
use edgesmith_graph::Gather;

use super::{Call, Trainable, inputs, select};

impl Trainable for Gather {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        select(value, call.axis(self.axis), self.indices.iter().copied())
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0]
    }
}
