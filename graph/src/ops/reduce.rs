//! Sums, means and the like along axes.

use smallvec::SmallVec;

use super::broadcast::{reduced, reduced_ties, repeated};
use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Slot};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// Reduces some axes to size 1; they stay as axes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// What the result is of the numbers along these axes.
    pub function: ReduceFunction,
    /// Which axes, ascending, at least one; axis 0 is the channels.
    pub axes: SmallVec<[u32; 3]>,
}

/// A function of any number of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReduceFunction {
    /// The square root of the sum of the squares.
    L2,
    /// The largest one.
    Maximum,
    /// The mean.
    Mean,
    /// The smallest one.
    Minimum,
    /// The sum.
    Sum,
}

impl Operation for Reduce {
    fn kind(&self) -> &'static str {
        "reduce"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        reduced(operands.one()?, &self.axes)
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
        Memory::Separate
    }

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        reduced_ties(&self.axes)
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        _: &[&[S]],
        output: &Shape,
    ) -> Vec<S> {
        let input = operands.inputs[0];
        let combine = |a: S, b: S| match self.function {
            ReduceFunction::L2 | ReduceFunction::Mean | ReduceFunction::Sum => a + b,
            ReduceFunction::Maximum => {
                if b > a {
                    b
                } else {
                    a
                }
            }
            ReduceFunction::Minimum => {
                if b < a {
                    b
                } else {
                    a
                }
            }
        };
        let mut values: Vec<Option<S>> = vec![None; output.elements() as usize];
        for (&x, place) in inputs[0].iter().zip(repeated(output, input)) {
            let x = if self.function == ReduceFunction::L2 { x * x } else { x };
            values[place] = Some(values[place].map_or(x, |so_far| combine(so_far, x)));
        }
        let count = S::constant((input.elements() / output.elements()) as f64);
        let values = values.into_iter().flatten().map(|value| match self.function {
            ReduceFunction::L2 => value.sqrt(),
            ReduceFunction::Mean => value / count,
            ReduceFunction::Maximum | ReduceFunction::Minimum | ReduceFunction::Sum => value,
        });
        values.collect()
    }
}
