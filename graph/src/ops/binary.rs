//! A function of two numbers, at each place of two values.

use super::broadcast::{broadcast, broadcast_ties, pairwise};
use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Slot};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// Applies a function of two numbers, elementwise. The values are repeated to fit each other, as
/// those of [`crate::Add`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Binary {
    /// Which one.
    pub function: BinaryFunction,
}

/// A function of two numbers. A comparison gives 1 where it holds, else 0. Sums and products are
/// operations of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryFunction {
    /// `a / b`
    Divide,
    /// `a = b`
    Equal,
    /// `a < b`
    Less,
    /// `a <= b`
    LessOrEqual,
    /// The larger one.
    Maximum,
    /// The smaller one.
    Minimum,
    /// `a^b`
    Power,
    /// `a - b`
    Subtract,
}

impl BinaryFunction {
    /// The function of two numbers.
    pub fn of<S: Scalar>(self, a: S, b: S) -> S {
        let truth = |holds: bool| S::constant(f64::from(u8::from(holds)));
        match self {
            BinaryFunction::Divide => a / b,
            BinaryFunction::Equal => truth(a == b),
            BinaryFunction::Less => truth(a < b),
            BinaryFunction::LessOrEqual => truth(a <= b),
            BinaryFunction::Maximum => {
                if b > a {
                    b
                } else {
                    a
                }
            }
            BinaryFunction::Minimum => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            BinaryFunction::Power => a.powf(b),
            BinaryFunction::Subtract => a - b,
        }
    }
}

impl From<BinaryFunction> for Binary {
    fn from(function: BinaryFunction) -> Self {
        Self { function }
    }
}

impl Operation for Binary {
    fn kind(&self) -> &'static str {
        "binary"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        broadcast(&operands.two()?)
    }

    fn macs(&self, _: &Operands, _: &Shape) -> u64 {
        0
    }

    fn multiplications(&self, _: &Operands) -> Option<Multiplications> {
        None
    }

    fn absorbs_factors(&self) -> bool {
        false
    }

    fn effect(&self) -> Effect {
        Effect::Combines
    }

    fn is_alike(&self, _: &Self) -> bool {
        true
    }

    fn memory(&self) -> Memory {
        Memory::InPlace
    }

    fn ties(&self, operands: &Operands, output: &Shape) -> Ties {
        match self.function {
            // Channels that are removed count as 0, of which these may make no finite number.
            BinaryFunction::Divide | BinaryFunction::Power => Ties::new(),
            BinaryFunction::Equal
            | BinaryFunction::Less
            | BinaryFunction::LessOrEqual
            | BinaryFunction::Maximum
            | BinaryFunction::Minimum
            | BinaryFunction::Subtract => broadcast_ties(operands, output),
        }
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        _: &[&[S]],
        output: &Shape,
    ) -> Vec<S> {
        pairwise(operands, inputs, output, |a, b| self.function.of(a, b))
    }
}
