//! A constant around a value.

use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;
use edgesmith_graph::Pad;

use super::{Call, Trainable, inputs};

impl Trainable for Pad {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let mut padding = [(0, 0); 4];
        for (axis, (&before, &after)) in (0..).zip(self.before.iter().zip(&self.after)) {
            padding[call.axis(axis)] = (before as usize, after as usize);
        }
        value.pad(padding, PadMode::Constant(self.value))
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0] && self.value == 0.0
    }
}
