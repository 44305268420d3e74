//! Leaky ReLU.

use burn::tensor::Tensor;
use burn::tensor::activation::leaky_relu;
use edgesmith_graph::LeakyRelu;

use super::{Call, Trainable, inputs};

impl Trainable for LeakyRelu {
    fn forward(&self, values: Vec<Tensor<4>>, _: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        leaky_relu(value, f64::from(self.slope))
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0]
    }
}
