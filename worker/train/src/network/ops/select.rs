//! At each place a number of one of two values.

use burn::tensor::Tensor;
use edgesmith_graph::Select;

use super::{Call, Trainable, inputs};

impl Trainable for Select {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let values: [Tensor<4>; 3] = inputs(call.aligned(values));
        let [condition, a, b] = values.map(|value| call.repeated(value));
        b.mask_where(condition.not_equal_scalar(0.0), a)
    }

    /// A condition of 0 chooses the third input.
    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[2] && (silent[0] || silent[1])
    }
}
