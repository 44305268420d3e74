//! Plans the memory of a model: the place of each value in one arena, so that values which are
//! never needed at the same time share memory, and all else that a session keeps. The method is
//! greedy by size (Pisarchyk and Lee 2020, "Efficient Memory Management for Deep Neural Net
//! Inference"). A plan depends on sizes and on a named target, never on the machine that makes it.

use std::ops::Range;

use crate::error::ModelError;
use crate::kernels::Isa;
use crate::layers::{Memory, Site};
use crate::model::{Array, Element, Model};
use crate::validate::Values;

/// Largest number of bytes of a session's plan.
pub const MAX_SESSION_BYTES: u64 = 1 << 29;

/// For whom a plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// This engine on a computer, of whatever kind.
    Host,
}

impl Target {
    /// Every place begins at a multiple of this, bytes.
    #[must_use]
    pub fn alignment(self) -> u64 {
        match self {
            Self::Host => 64,
        }
    }
}

/// Something that needs memory for a while: its size, and the first and last step at which it is
/// in use, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Bytes.
    pub bytes: u64,
    /// The step that makes it.
    pub first: usize,
    /// The last step that uses it.
    pub last: usize,
}

/// Places in an arena. Those that are in use at the same step do not overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrangement {
    /// One per lifetime, bytes from the beginning of the arena.
    pub places: Vec<Range<u64>>,
    /// Length of the arena, bytes.
    pub bytes: u64,
}

/// Places the largest first, each in the lowest gap that is free during its lifetime.
#[must_use]
pub fn arrange(lifetimes: &[Lifetime], target: Target) -> Arrangement {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(lifetimes[index].bytes));
    let mut places = vec![0..0; lifetimes.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(lifetimes.len());
    for index in order {
        let Lifetime { bytes, first, last } = lifetimes[index];
        let mut start = 0;
        // `placed` is sorted by position, so the first gap that is wide enough is the lowest.
        for &other in &placed {
            let place: &Range<u64> = &places[other];
            if lifetimes[other].first > last || lifetimes[other].last < first {
                continue;
            }
            if start + bytes <= place.start {
                break;
            }
            start = start.max(place.end.next_multiple_of(target.alignment()));
        }
        places[index] = start..start + bytes;
        let at = placed.partition_point(|&other| places[other].start <= start);
        placed.insert(at, index);
    }
    let bytes = places.iter().map(|place| place.end).max().unwrap_or(0);
    Arrangement { places, bytes }
}

/// All memory that a session uses, apart from weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The place of each value in the arena.
    pub values: Vec<Range<u64>>,
    /// The place of each node's scratch memory in the arena.
    pub scratch: Vec<Range<u64>>,
    /// Length of the arena, bytes.
    pub arena: u64,
    /// Tables that are made of sizes, and constants, bytes.
    pub tables: u64,
    /// Arrays in which the outputs are handed out, bytes.
    pub outputs: u64,
}

impl Plan {
    /// All bytes together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.arena + self.tables + self.outputs
    }
}

impl Model {
    /// Plans the memory of a session.
    ///
    /// # Errors
    /// If the model is not valid or needs more than [`MAX_SESSION_BYTES`].
    pub fn plan(&self, target: Target) -> Result<Plan, ModelError> {
        self.plan_values(&self.validate()?, target)
    }

    /// `values` are those of this model.
    pub(crate) fn plan_values(&self, values: &Values, target: Target) -> Result<Plan, ModelError> {
        let elements = |id| values.of(id).elements() as u64;
        // All inputs are there at step 0, node `i` runs at step `i + 1`, and the outputs are read
        // after the last node.
        let mut lifetimes = Vec::with_capacity(values.all().len() + self.nodes.len());
        for (index, value) in values.all().iter().enumerate() {
            let step = (index + 1).saturating_sub(self.inputs.len());
            let bytes = elements(value.id)
                * match value.element {
                    Element::Fp32 => 4,
                    Element::Uint8(_) => 1,
                };
            lifetimes.push(Lifetime { bytes, first: step, last: step });
        }
        for (node, step) in self.nodes.iter().zip(1..) {
            for input in &node.inputs {
                lifetimes[input.0 as usize].last = step;
            }
        }
        for output in &self.outputs {
            lifetimes[output.value.0 as usize].last = self.nodes.len() + 1;
        }
        let mut tables = 0u64;
        for input in &self.inputs {
            if let (Array::Bytes(_), Element::Fp32) = (&input.array, input.element) {
                tables += u64::from(input.shape.channels()) * 256 * 4;
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let inputs: Vec<_> =
                node.inputs.iter().map(|value| values.all()[value.0 as usize]).collect();
            let output = values.all()[self.inputs.len() + index];
            let (isa, rounding) = (Isa::PORTABLE, self.rounding);
            let site = Site { isa, rounding, inputs: &inputs, output };
            let memory: Memory = node.layer.memory(&site);
            tables += memory.tables;
            let (first, last) = (index + 1, index + 1);
            lifetimes.push(Lifetime { bytes: memory.scratch, first, last });
        }
        let Arrangement { mut places, bytes: arena } = arrange(&lifetimes, target);
        let scratch = places.split_off(values.all().len());
        let outputs = self.outputs.iter().map(|output| elements(output.value) * 4).sum();
        let plan = Plan { values: places, scratch, arena, tables, outputs };
        let (bytes, limit) = (plan.bytes(), MAX_SESSION_BYTES);
        if bytes <= limit { Ok(plan) } else { Err(ModelError::TooMuchMemory { bytes, limit }) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lifetime(bytes: u64, first: usize, last: usize) -> Lifetime {
        Lifetime { bytes, first, last }
    }

    fn plan(lifetimes: &[Lifetime]) -> Arrangement {
        arrange(lifetimes, Target::Host)
    }

    #[test]
    fn a_chain_needs_memory_for_two_neighbours() {
        let chain: Vec<_> = (0..10).map(|i| lifetime(128, i, i + 1)).collect();
        assert_eq!(plan(&chain).bytes, 256);
    }

    #[test]
    fn a_shortcut_keeps_its_memory_until_it_is_read() {
        // Value 0 is read again at step 3.
        let values =
            [lifetime(64, 0, 3), lifetime(128, 1, 2), lifetime(128, 2, 3), lifetime(64, 3, 4)];
        let plan = plan(&values);
        assert_eq!(plan.bytes, 320);
        assert_eq!(plan.places[3].end - plan.places[3].start, 64);
    }

    proptest! {
        #[test]
        fn values_in_use_together_never_overlap(
            values in prop::collection::vec((1u64..500, 0usize..20, 0usize..5), 1..40)
        ) {
            let values: Vec<_> = values
                .into_iter()
                .map(|(bytes, first, more)| lifetime(bytes, first, first + more))
                .collect();
            let plan = plan(&values);
            let peak = (0..25)
                .map(|step| {
                    let used = values.iter().filter(|v| v.first <= step && step <= v.last);
                    used.map(|v| v.bytes).sum()
                })
                .max();
            prop_assert!(Some(plan.bytes) >= peak);
            let whole: u64 = values.iter().map(|v| v.bytes.next_multiple_of(64)).sum();
            prop_assert!(plan.bytes <= whole);
            for (i, a) in values.iter().enumerate() {
                let p = &plan.places[i];
                prop_assert_eq!(p.end - p.start, a.bytes);
                prop_assert!(p.start.is_multiple_of(64));
                for (j, b) in values.iter().enumerate().skip(i + 1) {
                    let q = &plan.places[j];
                    let together = a.first <= b.last && b.first <= a.last;
                    prop_assert!(!together || p.end <= q.start || q.end <= p.start);
                }
            }
        }
    }
}
