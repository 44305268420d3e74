//! Sums, means and the like along axes.

use burn::tensor::Tensor;
use edgesmith_graph::{Reduce, ReduceFunction};

use super::{Call, Trainable, inputs};

impl Trainable for Reduce {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [value] = inputs(values);
        let along = |value: Tensor<4>, reduce: fn(Tensor<4>, usize) -> Tensor<4>| {
            self.axes.iter().fold(value, |value, &axis| reduce(value, call.axis(axis)))
        };
        match self.function {
            ReduceFunction::L2 => {
                let squares = along(value.clone() * value, Tensor::sum_dim);
                // The gradient of a root at 0 is not finite. That of the length of a vector of
                // zeros counts as 0.
                let zero = squares.clone().equal_scalar(0.0);
                squares.mask_fill(zero.clone(), 1.0).sqrt().mask_fill(zero, 0.0)
            }
            ReduceFunction::Maximum => along(value, Tensor::max_dim),
            ReduceFunction::Mean => along(value, Tensor::mean_dim),
            ReduceFunction::Minimum => along(value, Tensor::min_dim),
            ReduceFunction::Sum => along(value, Tensor::sum_dim),
        }
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        silent[0]
    }
}
