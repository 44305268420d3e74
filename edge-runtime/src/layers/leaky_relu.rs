//! Leaky ReLU (Maas et al. 2013, "Rectifier Nonlinearities Improve Neural Network Acoustic
//! Models"), elementwise.

use super::{Fp32, Int8, Kind, Layer, Operands, Prepared, Site};
use crate::error::{ModelError, Problem};
use crate::file::{Reader, Writer};
use crate::kernels::for_each_isa;
use crate::model::ValueId;
use crate::validate::{Shape, check_number};

pub(super) const KIND: Kind = Kind { code: 6, name: "leaky ReLU", inputs: 1, logits: false };

/// Leaky ReLU in fp32: `x` if `x >= 0`, else `slope * x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloatLeakyRelu {
    /// Finite.
    pub slope: f32,
}

/// Leaky ReLU in integers: a table, so that every device computes the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct IntLeakyRelu {
    /// What the table was made with, finite. The engine does not use it.
    pub slope: f32,
    /// The output byte for each input byte. It includes the scales and zero points of both.
    pub table: Box<[u8; 256]>,
}

impl Layer for FloatLeakyRelu {
    type Arithmetic = Fp32;
    type Prepared = Self;

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { slope: file.float()? })
    }

    fn write(&self, file: &mut Writer) {
        file.float(self.slope);
    }

    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
        check_number("the slope", self.slope, false)?;
        Ok(inputs[0].1)
    }

    fn prepare(&self, _: &Site<Fp32>) -> Self {
        *self
    }
}

impl Prepared<Fp32> for FloatLeakyRelu {
    fn scratch(&self) -> usize {
        0
    }

    fn run(&self, operands: Operands<Fp32>) {
        float_leaky_relu(operands.isa, self.slope, operands.left, operands.output);
    }
}

impl Layer for IntLeakyRelu {
    type Arithmetic = Int8;
    type Prepared = Self;

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { slope: file.float()?, table: Box::new(file.array()?) })
    }

    fn write(&self, file: &mut Writer) {
        file.float(self.slope);
        file.array(&self.table);
    }

    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
        check_number("the slope", self.slope, false)?;
        Ok(inputs[0].1)
    }

    fn prepare(&self, _: &Site<Int8>) -> Self {
        self.clone()
    }
}

impl Prepared<Int8> for IntLeakyRelu {
    fn scratch(&self) -> usize {
        0
    }

    fn run(&self, operands: Operands<Int8>) {
        for (output, &input) in operands.output.iter_mut().zip(operands.left) {
            *output = self.table[usize::from(input)];
        }
    }
}

for_each_isa! {
    /// `output = input` where it is not negative, else `slope * input`
    fn float_leaky_relu(slope: f32, input: &[f32], output: &mut [f32]) = leaky_relu_body
}

#[inline(always)]
fn leaky_relu_body<const FMA: bool>(slope: f32, input: &[f32], output: &mut [f32]) {
    for (output, &input) in output.iter_mut().zip(input) {
        *output = if input >= 0.0 { input } else { slope * input };
    }
}
