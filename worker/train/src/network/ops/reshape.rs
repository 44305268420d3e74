//! The same numbers with other sizes.

use burn::tensor::Tensor;
use edgesmith_graph::Reshape;

use super::{Call, Trainable, inputs};

impl Trainable for Reshape {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        call.reshape(value)
    }

    /// Only channels that stay whole are added.
    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0]
    }
}
