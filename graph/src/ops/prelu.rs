//! Parametric ReLU (He et al. 2015, "Delving deep into rectifiers").

use smallvec::smallvec;

use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Role, Slot};
use crate::ties::{Port, Tie, Ties};
use crate::{Scalar, Shape};

/// `x` where it is not negative, else `slope * x`, with a slope for each channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prelu;

impl Operation for Prelu {
    fn kind(&self) -> &'static str {
        "prelu"
    }

    fn slots(&self) -> &'static [Slot] {
        const SLOTS: [Slot; 1] = [Slot::required(Role::Slope)];
        &SLOTS
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        operands.expect(0, Role::Slope, &[input.channels()])?;
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
        Effect::Activates { off_up_to: None }
    }

    fn is_alike(&self, _: &Self) -> bool {
        true
    }

    fn memory(&self) -> Memory {
        Memory::InPlace
    }

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        smallvec![
            Tie::same(Port::Input(0), Port::Output),
            Tie::same(Port::Parameter(0, 0), Port::Output),
        ]
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        parameters: &[&[S]],
        _: &Shape,
    ) -> Vec<S> {
        let positions = operands.inputs[0].positions() as usize;
        let channels = inputs[0].chunks_exact(positions).zip(parameters[0]);
        let leak = |x: S, slope: S| if x < S::constant(0.0) { slope * x } else { x };
        channels.flat_map(|(values, &slope)| values.iter().map(move |&x| leak(x, slope))).collect()
    }
}
