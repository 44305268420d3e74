//! The mean of each channel.

use burn::tensor::Tensor;
use edgesmith_graph::GlobalAveragePool;

use super::{Call, Trainable, inputs};

impl Trainable for GlobalAveragePool {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let [channels, rows, columns] = call.layout.picture(&value);
        let row = call.layout.reshape(value, [channels, 1, rows * columns]);
        row.mean_dim(call.layout.columns())
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0]
    }
}
