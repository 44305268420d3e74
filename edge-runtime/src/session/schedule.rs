//! Where the values of a network lie in the arena, and which of them a step reads and writes.

use std::ops::Range;

use super::MAX_SESSION_ELEMENTS;
use crate::error::ModelError;
use crate::kernels::Isa;
use crate::layers::{Arithmetic, Operands, Prepared};
use crate::model::ValueId;
use crate::planner::{Lifetime, plan};
use crate::validate::Shapes;

/// The place of each value of a network. The logits are not in the arena.
pub(super) struct Schedule {
    /// One range per value, except for the last value.
    pub places: Vec<Range<usize>>,
    /// Length of the arena.
    pub arena: usize,
}

impl Schedule {
    /// `inputs` yields the inputs of each node, in order.
    pub fn new<'a>(shapes: &Shapes, inputs: impl Iterator<Item = &'a [ValueId]>) -> Self {
        let mut values: Vec<Lifetime> = shapes
            .all()
            .iter()
            .enumerate()
            .map(|(step, shape)| Lifetime { size: shape.elements(), first: step, last: step })
            .collect();
        for (node, inputs) in inputs.enumerate() {
            for input in inputs {
                // Node `i` computes value `i + 1` at step `i + 1`.
                values[input.0 as usize].last = node + 1;
            }
        }
        values.pop();
        let plan = plan(&values);
        Self { places: plan.places, arena: plan.total }
    }

    /// Fails if arena and scratch memory together exceed the limit.
    pub fn check(&self, scratch: usize) -> Result<(), ModelError> {
        let (elements, limit) = ((self.arena + scratch) as u64, MAX_SESSION_ELEMENTS);
        if elements <= limit { Ok(()) } else { Err(ModelError::TooMuchMemory { elements, limit }) }
    }
}

/// One node with its prepared layer.
pub(super) struct Step<P> {
    pub layer: P,
    left: Range<usize>,
    right: Range<usize>,
    /// Empty for the logits.
    output: Range<usize>,
}

impl<P> Step<P> {
    /// The step of node `node`.
    pub fn new(schedule: &Schedule, inputs: &[ValueId], node: usize, layer: P) -> Self {
        let place = |value: ValueId| schedule.places[value.0 as usize].clone();
        let left = place(inputs[0]);
        let right = inputs.get(1).map_or(left.clone(), |&value| place(value));
        Self { layer, left, right, output: schedule.places.get(node + 1).cloned().unwrap_or(0..0) }
    }

    /// Runs the layer on the arena.
    pub fn run<A: Arithmetic>(
        &self,
        isa: Isa,
        arena: &mut [A::Element],
        scratch: &mut [A::Scratch],
        logits: &mut [f32],
    ) where
        P: Prepared<A>,
    {
        const APART: &str = "values in use at the same time do not overlap";
        let (left, right, output) = if self.left == self.right {
            let [input, output] =
                arena.get_disjoint_mut([self.left.clone(), self.output.clone()]).expect(APART);
            (&*input, &*input, output)
        } else {
            let [left, right, output] = arena
                .get_disjoint_mut([self.left.clone(), self.right.clone(), self.output.clone()])
                .expect(APART);
            (&*left, &*right, output)
        };
        self.layer.run(Operands { isa, left, right, scratch, output, logits });
    }
}
