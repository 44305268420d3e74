//! A fully connected layer, the same at each position.

use burn::tensor::Tensor;
use edgesmith_graph::Linear;

use super::{Call, Trainable, inputs};

impl Trainable for Linear {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let weight = call.weight();
        let [outputs, channels, ..] = weight.dims();
        let transposed = weight.reshape([outputs, channels]).transpose();
        call.batch_first(value, |value| {
            // Each position is a row of the matrix product.
            let [batch, _, rows, columns] = value.dims();
            let features = value.permute([0, 2, 3, 1]);
            let features = features.reshape([batch * rows * columns, channels]);
            let product = features.matmul(transposed);
            let sums = match call.bias() {
                Some(bias) => product + bias.unsqueeze(),
                None => product,
            };
            sums.reshape([batch, rows, columns, outputs]).permute([0, 3, 1, 2])
        })
    }

    /// Each output channel has its own row of weights, and its bias.
    fn keeps_silence(&self, _: &[bool]) -> bool {
        true
    }
}
