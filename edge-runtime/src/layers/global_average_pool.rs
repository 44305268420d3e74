//! Mean of every channel.

use super::{Fp32, Int8, Kind, Layer, Operands, Prepared, Site};
use crate::error::{ModelError, Problem};
use crate::file::{Reader, Writer};
use crate::kernels::fp32::float_pool;
use crate::kernels::int8::{PreparedPool, Rescale, int_pool};
use crate::model::{Requantization, ValueId};
use crate::validate::{Shape, check_factor};

pub(super) const KIND: Kind =
    Kind { code: 4, name: "global average pool", inputs: 1, logits: false };

/// Mean of every channel in fp32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloatGlobalAveragePool;

/// Mean of every channel in integers: the sum over positions of `q - zero`, scaled by `requantize`.
#[derive(Debug, Clone, PartialEq)]
pub struct IntGlobalAveragePool {
    /// The factor: `input scale / (positions * output scale)`.
    pub requantize: Requantization,
}

impl Layer for FloatGlobalAveragePool {
    type Arithmetic = Fp32;
    type Prepared = Self;

    fn read(_: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self)
    }

    fn write(&self, _: &mut Writer) {}

    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
        Ok(pixel(inputs[0].1))
    }

    fn prepare(&self, _: &Site<Fp32>) -> Self {
        *self
    }
}

impl Prepared<Fp32> for FloatGlobalAveragePool {
    fn scratch(&self) -> usize {
        0
    }

    fn run(&self, operands: Operands<Fp32>) {
        float_pool(operands.isa, operands.left, operands.output);
    }
}

impl Layer for IntGlobalAveragePool {
    type Arithmetic = Int8;
    type Prepared = PreparedPool;

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { requantize: file.factor()? })
    }

    fn write(&self, file: &mut Writer) {
        file.factor(self.requantize);
    }

    fn output(&self, inputs: &[(ValueId, Shape)]) -> Result<Shape, Problem> {
        check_factor(self.requantize)?;
        let shape = inputs[0].1;
        if shape.positions() as u64 * 255 > i32::MAX as u64 {
            return Err(Problem::AccumulatorOverflow { channel: 0 });
        }
        Ok(pixel(shape))
    }

    fn prepare(&self, site: &Site<Int8>) -> PreparedPool {
        let whole = (u8::MIN, u8::MAX);
        let rescale = Rescale::new(&[self.requantize], site.output.zero_point, whole);
        PreparedPool::new(site.inputs[0].1.zero_point, rescale)
    }
}

impl Prepared<Int8> for PreparedPool {
    fn scratch(&self) -> usize {
        0
    }

    fn run(&self, operands: Operands<Int8>) {
        int_pool(operands.isa, self, operands.left, operands.output);
    }
}

/// A map of one position.
fn pixel(input: Shape) -> Shape {
    Shape { height: 1, width: 1, ..input }
}
