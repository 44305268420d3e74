//! Shared by fp32 and integers: where the values of a network lie in the arena, and which of them a
//! step reads and writes.

use std::ops::Range;

use super::MAX_SESSION_ELEMENTS;
use crate::error::ModelError;
use crate::kernels::Geometry;
use crate::model::{Conv, ValueId};
use crate::planner::{Lifetime, plan};
use crate::validate::{Shape, Shapes};

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

/// One node with its prepared operation.
pub(super) struct Step<Op> {
    pub op: Op,
    left: Range<usize>,
    right: Range<usize>,
    output: Range<usize>,
}

impl<Op> Step<Op> {
    /// The step of node `node`.
    pub fn new(schedule: &Schedule, inputs: &[ValueId], node: usize, op: Op) -> Self {
        let place = |value: ValueId| schedule.places[value.0 as usize].clone();
        let left = place(inputs[0]);
        let right = inputs.get(1).map_or(left.clone(), |&value| place(value));
        Self { op, left, right, output: schedule.places[node + 1].clone() }
    }

    /// First input, second input (the same as the first if there is only one) and output.
    pub fn borrow<'a, T>(&self, arena: &'a mut [T]) -> (&'a [T], &'a [T], &'a mut [T]) {
        const APART: &str = "values in use at the same time do not overlap";
        if self.left == self.right {
            let [input, output] =
                arena.get_disjoint_mut([self.left.clone(), self.output.clone()]).expect(APART);
            (input, input, output)
        } else {
            let [left, right, output] = arena
                .get_disjoint_mut([self.left.clone(), self.right.clone(), self.output.clone()])
                .expect(APART);
            (left, right, output)
        }
    }
}

/// Sizes of a convolution that reads a map of `shape`.
pub(super) fn geometry<W, B>(conv: &Conv<W, B>, shape: Shape) -> Geometry {
    Geometry {
        channels: shape.channels as usize,
        height: shape.height as usize,
        width: shape.width as usize,
        kernel: conv.kernel as usize,
        stride: conv.stride as usize,
        padding: conv.padding as usize,
    }
}

/// Turns an image `[channels][height][width]` into a map `[height][width][channels]`, with a
/// look-up table for each channel.
pub(super) fn load_image<T: Copy>(image: &[u8], tables: &[[T; 256]], map: &mut [T]) {
    let positions = image.len() / tables.len();
    for (channel, (plane, table)) in image.chunks_exact(positions).zip(tables).enumerate() {
        let pixels = map[channel..].iter_mut().step_by(tables.len());
        for (value, &byte) in pixels.zip(plane) {
            *value = table[usize::from(byte)];
        }
    }
}
