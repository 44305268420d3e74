//! Functions of two numbers, at each place of two values.

use burn::tensor::Tensor;
use edgesmith_graph::{Binary, BinaryFunction};

use super::{Call, Trainable, inputs};

impl Trainable for Binary {
    fn forward(&self, values: Vec<Tensor<4>>, call: &Call) -> Tensor<4> {
        let [a, b] = inputs(call.aligned(values));
        match self.function {
            BinaryFunction::Divide => a / b,
            BinaryFunction::Equal => call.repeated(a).equal(call.repeated(b)).float(),
            BinaryFunction::Less => call.repeated(a).lower(call.repeated(b)).float(),
            BinaryFunction::LessOrEqual => call.repeated(a).lower_equal(call.repeated(b)).float(),
            BinaryFunction::Maximum => call.repeated(a).max_pair(call.repeated(b)),
            BinaryFunction::Minimum => call.repeated(a).min_pair(call.repeated(b)),
            BinaryFunction::Power => a.powf(b),
            BinaryFunction::Subtract => a - b,
        }
    }

    fn keeps_silence(&self, silent: &[bool]) -> bool {
        match self.function {
            BinaryFunction::Less
            | BinaryFunction::Maximum
            | BinaryFunction::Minimum
            | BinaryFunction::Subtract => silent.iter().all(|&silent| silent),
            // Zeros are equal, have no quotient, and their power is 1.
            BinaryFunction::Divide
            | BinaryFunction::Equal
            | BinaryFunction::LessOrEqual
            | BinaryFunction::Power => false,
        }
    }
}
