//! Numbers along an axis as shares of their sum.

use super::broadcast::{reduced, reduced_ties, repeated};
use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Slot};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// `e^x` as a share of the sum along an axis, or the logarithm of that share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Softmax {
    /// Which axis; 0 is the channels.
    pub axis: u32,
    /// Whether the result is the logarithm.
    pub log: bool,
}

impl Operation for Softmax {
    fn kind(&self) -> &'static str {
        "softmax"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        reduced(input, &[self.axis])?;
        Ok(input.clone())
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
        Effect::Rescales
    }

    fn is_alike(&self, _: &Self) -> bool {
        true
    }

    fn memory(&self) -> Memory {
        Memory::InPlace
    }

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        reduced_ties(&[self.axis])
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        _: &[&[S]],
        _: &Shape,
    ) -> Vec<S> {
        let input = operands.inputs[0];
        let rest = reduced(input, &[self.axis]).expect("the operands were accepted");
        let places = repeated(&rest, input);
        let mut largest: Vec<Option<S>> = vec![None; rest.elements() as usize];
        for (&x, &place) in inputs[0].iter().zip(&places) {
            largest[place] =
                Some(largest[place].map_or(x, |so_far| if x > so_far { x } else { so_far }));
        }
        let largest: Vec<S> = largest.into_iter().flatten().collect();
        // No exponential overflows, and at least one is 1.
        let lower =
            || inputs[0].iter().zip(&places).map(|(&x, &place)| (x - largest[place], place));
        let mut sums = vec![S::constant(0.0); largest.len()];
        lower().for_each(|(x, place)| sums[place] = sums[place] + x.exp());
        let share = |(x, place): (S, usize)| {
            if self.log { x - sums[place].ln() } else { x.exp() / sums[place] }
        };
        lower().map(share).collect()
    }
}
