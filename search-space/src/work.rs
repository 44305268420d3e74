//! The work of training staged networks, without building them: it is the sum over their parts, and
//! the work of each part is kept.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::FixedState;

use crate::lower::Part;
use crate::{Architecture, DataShape, Stage, training_work};

/// Largest number of parts and of stages that are kept. Spaces in which the numbers of channels add
/// up have more.
const MOST: usize = 100_000;

/// The training work of networks for one kind of data.
#[derive(Debug, Clone)]
pub struct TrainingWork {
    data: DataShape,
    parts: Memory<Part>,
    stages: Memory<Stage>,
}

/// Parts with the channels and the side of their input; `None` for one that is not valid there.
type Memory<P> = HashMap<(P, [u32; 2]), Option<Known>, FixedState>;

#[derive(Debug, Clone, Copy)]
struct Known {
    work: u64,
    /// Channels and side of the output.
    output: [u32; 2],
}

impl TrainingWork {
    /// Of networks for such images and classes.
    pub fn new(data: DataShape) -> Self {
        Self { data, parts: Memory::default(), stages: Memory::default() }
    }

    /// The [`training_work`] of a network; `None` if it is not valid.
    pub fn of(&mut self, network: &Architecture) -> Option<u64> {
        let image = [self.data.channels, network.resolution];
        let stem = Part::Stem(network.stem_width, network.stem_activation());
        let mut so_far = self.part(stem, image)?;
        for stage in &network.stages {
            so_far = so_far.then(self.stage(stage, so_far.output)?);
        }
        let classifier = self.part(Part::Classifier(self.data.classes), so_far.output)?;
        Some(so_far.then(classifier).work)
    }

    fn stage(&mut self, stage: &Stage, input: [u32; 2]) -> Option<Known> {
        let key = (stage.clone(), input);
        if let Some(known) = self.stages.get(&key) {
            return *known;
        }
        let mut so_far = Some(Known { work: 0, output: input });
        for block in 0..stage.depth {
            // Equal blocks are one part.
            let alike = Stage { depth: 1, stride: 1, ..stage.clone() };
            let block = Part::Block(alike, stage.stride_of(block));
            so_far = so_far.and_then(|so_far| Some(so_far.then(self.part(block, so_far.output)?)));
        }
        remember(&mut self.stages, key, so_far);
        so_far
    }

    fn part(&mut self, part: Part, input: [u32; 2]) -> Option<Known> {
        let key = (part, input);
        if let Some(known) = self.parts.get(&key) {
            return *known;
        }
        let known = key.0.graph(input).ok().map(|graph| {
            let shape = graph.shape(graph.outputs()[0]);
            // The classifier's output has no side.
            let side = shape.space().first().copied().unwrap_or(1);
            Known { work: training_work(&graph), output: [shape.channels(), side] }
        });
        remember(&mut self.parts, key, known);
        known
    }
}

impl Known {
    /// This part and the next one.
    fn then(self, next: Self) -> Self {
        Self { work: self.work.saturating_add(next.work), output: next.output }
    }
}

fn remember<P: Hash + Eq>(memory: &mut Memory<P>, key: (P, [u32; 2]), known: Option<Known>) {
    if memory.len() >= MOST {
        memory.clear();
    }
    memory.insert(key, known);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Activation, Operation, Skip};

    fn stage() -> impl Strategy<Value = Stage> {
        let operation = prop_oneof![
            Just(Operation::Conv),
            Just(Operation::Separable),
            (1_u32..4).prop_map(|expansion| Operation::InvertedResidual { expansion }),
        ];
        let activation = prop::sample::select(Activation::ALL.to_vec());
        let skip = prop::sample::select(Skip::ALL.to_vec());
        let numbers = (0_u32..4, 1_u32..4, 0_u32..3, 1_u32..3, 0_u32..3);
        (numbers, operation, activation, skip).prop_map(
            |((depth, width, kernel, stride, squeeze), operation, activation, skip)| Stage {
                depth,
                width: 4 * width,
                kernel: 2 * kernel + 1,
                operation,
                stride,
                activation,
                squeeze: 2 * squeeze,
                skip,
            },
        )
    }

    proptest! {
        #[test]
        fn it_is_that_of_the_whole_network(
            networks in prop::collection::vec(
                (1_u32..18, 1_u32..3, prop::collection::vec(stage(), 0..4)),
                1..8,
            ),
        ) {
            let data = DataShape { channels: 3, classes: 10 };
            let mut works = TrainingWork::new(data);
            for (resolution, stem, stages) in networks {
                let network = Architecture { resolution, stem_width: 4 * stem, stages };
                let whole = network.graph(data).ok().map(|graph| training_work(&graph));
                prop_assert_eq!(works.of(&network), whole);
                prop_assert_eq!(works.of(&network), whole);
            }
        }
    }
}
