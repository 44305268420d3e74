//! Parametric ReLU.

use burn::tensor::Tensor;
use edgesmith_graph::Prelu;

use super::{Call, Trainable, inputs};

impl Trainable for Prelu {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let slope = call.along(&[0], call.vector(0).expect("it is not optional"));
        // Not a sum of two clamps: at 0, burn's let the gradient through on both sides.
        let below = value.clone().lower_elem(0.0);
        value.clone().mask_where(below, value * slope)
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0]
    }
}
