//! Hard swish.

use burn::tensor::Tensor;
use edgesmith_graph::HardSwish;

use super::{Call, Trainable, inputs};

impl Trainable for HardSwish {
    fn forward(&self, values: Vec<Tensor<4>>, _: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let gate = value.clone().add_scalar(3.0).clamp(0.0, 6.0).div_scalar(6.0);
        value * gate
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0]
    }
}
