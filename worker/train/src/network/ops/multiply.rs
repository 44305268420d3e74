//! The product of a value with one number per channel, or with a value of the same shape.

use burn::tensor::Tensor;
use edgesmith_graph::Multiply;

use super::{Call, Trainable, inputs};

impl Trainable for Multiply {
    fn forward(&self, values: Vec<Tensor<4>>, _: &Call) -> Tensor<4> {
        // A number per channel is a picture of one pixel, which burn repeats.
        let [value, factor] = inputs(values);
        value * factor
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent.iter().any(|&silent| silent)
    }
}
