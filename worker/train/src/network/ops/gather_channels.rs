//! Chosen channels in a chosen order.

use burn::tensor::{Int, Tensor, TensorData};
use edgesmith_graph::GatherChannels;

use super::{Call, Trainable, inputs};

impl Trainable for GatherChannels {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let indices: Vec<i32> = self.indices.iter().map(|&index| index as i32).collect();
        let count = indices.len();
        let indices =
            Tensor::<1, Int>::from_data(TensorData::new(indices, [count]), &value.device());
        value.select(call.layout.channels(), indices)
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0]
    }
}
