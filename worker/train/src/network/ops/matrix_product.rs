//! The product of two values as matrices.

use burn::tensor::Tensor;
use edgesmith_graph::MatrixProduct;

use super::{Call, Trainable, inputs};

impl Trainable for MatrixProduct {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let values: [Tensor<4>; 2] = inputs(values);
        // The channels of a sequence are the rows of its matrix; a picture has one matrix per
        // channel.
        let sequence = call.output.space().len() == 1;
        let matrices = |value: Tensor<4>| {
            let value = call.layout.to_batch_first(value);
            if sequence { value.swap_dims(1, 2) } else { value }
        };
        let [a, b] = values.map(matrices);
        let turned = |value: Tensor<4>, place: usize| {
            if self.transposed[place] { value.swap_dims(2, 3) } else { value }
        };
        let product = turned(a, 0).matmul(turned(b, 1));
        call.layout.arrange(if sequence { product.swap_dims(1, 2) } else { product })
    }

    /// No channels are added to what it reads or computes.
    fn keeps_silence(&self, _: &[bool]) -> bool {
        false
    }
}
