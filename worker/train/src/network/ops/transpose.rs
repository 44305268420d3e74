//! The axes of a value in another order.

use burn::tensor::Tensor;
use edgesmith_graph::Transpose;

use super::{Call, Trainable, inputs};

impl Trainable for Transpose {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        // The axis of the batch stays, and so does one that the value does not have.
        let mut order: [usize; 4] = std::array::from_fn(|axis| axis);
        for (to, &from) in (0..).zip(&self.order) {
            order[call.axis(to)] = call.axis(from);
        }
        value.permute(order)
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0] && self.order[0] == 0
    }
}
