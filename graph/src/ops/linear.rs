//! A fully connected layer.

use smallvec::smallvec;

use super::{Effect, InferError, Memory, Multiplications, Operands, Operation, Role, Slot};
use crate::ties::{Port, Tie, Ties};
use crate::{Scalar, Shape};

/// Each output channel is a weighted sum of all input channels, plus its bias; the same at each
/// position. The weight is `[out, in]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Linear;

impl Operation for Linear {
    fn kind(&self) -> &'static str {
        "linear"
    }

    fn slots(&self) -> &'static [Slot] {
        const SLOTS: [Slot; 2] = [Slot::required(Role::Weight), Slot::optional(Role::Bias)];
        &SLOTS
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        let weight = operands.parameters[0];
        let out = weight.first().copied().unwrap_or(0);
        operands.expect(0, Role::Weight, &[out, input.channels()])?;
        operands.expect(1, Role::Bias, &[out])?;
        Ok(input.with_channels(out)?)
    }

    fn macs(&self, operands: &Operands, output: &Shape) -> u64 {
        output.elements().saturating_mul(operands.inputs[0].channels().into())
    }

    fn multiplications(&self, _: &Operands) -> Option<Multiplications> {
        // It is a pointwise convolution.
        Some(Multiplications::Pointwise)
    }

    fn absorbs_factors(&self) -> bool {
        true
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

    fn ties(&self, operands: &Operands, _: &Shape) -> Ties {
        let mut ties = smallvec![
            Tie::same(Port::Input(0), Port::Parameter(0, 1)),
            Tie::same(Port::Output, Port::Parameter(0, 0)),
        ];
        if operands.parameters.len() > 1 {
            ties.push(Tie::same(Port::Output, Port::Parameter(1, 0)));
        }
        ties
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        parameters: &[&[S]],
        output: &Shape,
    ) -> Vec<S> {
        let channels = operands.inputs[0].channels() as usize;
        let positions = output.positions() as usize;
        let mut values = Vec::with_capacity(output.elements() as usize);
        for (out, row) in parameters[0].chunks_exact(channels).enumerate() {
            let bias = parameters.get(1).map_or(S::constant(0.0), |bias| bias[out]);
            for position in 0..positions {
                let inputs = inputs[0][position..].iter().step_by(positions);
                values.push(row.iter().zip(inputs).fold(bias, |sum, (&w, &x)| sum + w * x));
            }
        }
        values
    }
}
