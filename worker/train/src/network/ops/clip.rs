//! Clipping to an interval.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use edgesmith_graph::Clip;

use super::{Call, Trainable, inputs};

impl Trainable for Clip {
    fn forward(&self, values: Vec<Tensor<4>>, _: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        match (self.low.is_finite(), self.high.is_finite()) {
            // burn has a faster operation for it.
            (true, false) if *self == Clip::RELU => relu(value),
            (true, false) => value.clamp_min(self.low),
            (false, true) => value.clamp_max(self.high),
            (true, true) => value.clamp(self.low, self.high),
            (false, false) => value,
        }
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0] && (self.low..=self.high).contains(&0.0)
    }
}
