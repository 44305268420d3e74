//! The largest network of a space, found greedily with few lowerings. What a network costs is not
//! decided here.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use super::{FIRST_CHOICES, STAGE_CHOICES, StagedSpace};
use crate::{Architecture, ArchitectureError, Choice, Cost, Genotype, Precision};

impl StagedSpace {
    /// The genotype with the largest network of the space, by parameters and then by MACs, before
    /// any compression. It is found greedily, choice by choice, until no change makes the network
    /// larger, also not adding one or two absent stages and changing those, or leaving out several
    /// neighbouring stages. The result is exact when the largest option of each choice does not
    /// depend on the others. It may be smaller than the largest if strides leave too few positions
    /// for all stages, and another choice of stages has more parameters.
    ///
    /// # Errors
    /// If no genotype of the space is a valid network.
    pub fn largest(&self) -> Result<Genotype, ArchitectureError> {
        Search { space: self, sizes: RefCell::default() }.largest()
    }
}

/// Parameters and MACs of a network; `None` if it is not valid.
type Size = Option<(u64, u64)>;

/// The sizes of the networks that were lowered so far, without their absent stages. Lowering is
/// what a search takes its time for, and it comes to the same networks again and again.
struct Search<'a> {
    space: &'a StagedSpace,
    sizes: RefCell<HashMap<Architecture, Size>>,
}

impl Search<'_> {
    fn largest(&self) -> Result<Genotype, ArchitectureError> {
        let (stages, choices) = (self.space.definition.stages.len(), 0..self.space.choices.len());
        let mut best = self.climbed(self.gentlest()?, choices.clone());
        // Each round makes the network larger, and one per stage is far more than is ever needed.
        for _ in 0..=stages {
            let before = self.size_of(&best);
            for stage in 0..stages {
                if self.is_absent(&best, stage) {
                    best = self.with_stages_added(best, stage);
                }
            }
            for first in 0..stages {
                best = self.with_stages_left_out(best, first);
            }
            if self.size_of(&best) == before {
                break;
            }
            best = self.climbed(best, choices.clone());
        }
        Ok(best)
    }

    /// Adds this stage, if it is absent and some form of it makes the network larger; else with the
    /// next absent one, if both together do. A stage that is narrower than its neighbours makes it
    /// smaller at first, and another one after it may make up for that.
    fn with_stages_added(&self, best: Genotype, first: usize) -> Genotype {
        let mut added = best.clone();
        let stages = first..self.space.definition.stages.len();
        for stage in stages.filter(|stage| self.is_absent(&best, *stage)).take(2) {
            let Some(with) = self.with_smallest(&added, stage) else { break };
            let all = self.choices_of(stage);
            // All others first, because its depth would at once be 0 again.
            added = self.climbed(with, all.start + 1..all.end);
            let whole = self.climbed(added.clone(), all);
            if self.size_of(&whole) > self.size_of(&best) {
                return whole;
            }
        }
        best
    }

    fn is_absent(&self, genotype: &Genotype, stage: usize) -> bool {
        let depth = genotype.0[self.choice_of(stage, "depth")];
        self.space.definition.stages[stage].depth[usize::from(depth)] == 0
    }

    /// Leaves out this stage and as many of the next ones as make the network larger: they may be
    /// narrow stages between two wide ones.
    fn with_stages_left_out(&self, mut best: Genotype, first: usize) -> Genotype {
        let definition = &self.space.definition;
        let mut without = best.clone();
        for (stage, of) in definition.stages.iter().enumerate().skip(first) {
            let Some(absent) = of.depth.iter().position(|depth| *depth == 0) else { break };
            without.0[self.choice_of(stage, "depth")] = absent as u16;
            if self.size_of(&without).is_none() {
                continue;
            }
            // The next stage gets more channels, so another operation may be larger there.
            let adapted = if stage + 1 < definition.stages.len() {
                let operation = self.choice_of(stage + 1, "operation");
                self.climbed(without.clone(), operation..operation + 1)
            } else {
                without.clone()
            };
            if self.size_of(&adapted) > self.size_of(&best) {
                best = adapted;
            }
        }
        best
    }

    fn size_of(&self, genotype: &Genotype) -> Size {
        let mut network = self.space.architecture(genotype);
        network.stages.retain(|stage| stage.depth > 0);
        if let Some(size) = self.sizes.borrow().get(&network) {
            return *size;
        }
        let graph = network.graph(self.space.data).ok();
        let cost = graph.map(|graph| Cost::of(&graph, Precision::Fp32));
        let size = cost.map(|cost| (cost.parameters, cost.macs));
        self.sizes.borrow_mut().insert(network, size);
        size
    }

    fn is_valid(&self, genotype: &Genotype) -> bool {
        self.size_of(genotype).is_some()
    }

    /// Changes one choice of a valid genotype after the other, among these, until no change makes
    /// the network larger.
    fn climbed(&self, from: Genotype, choices: Range<usize>) -> Genotype {
        let (mut best_size, mut best) = (self.size_of(&from), from);
        loop {
            let before = best_size;
            for choice in choices.clone() {
                for other in self.larger(&best, choice) {
                    let other_size = self.size_of(&other);
                    if other_size > best_size {
                        (best, best_size) = (other, other_size);
                    }
                }
            }
            if best_size == before {
                return best;
            }
        }
    }

    /// The genotype with this stage, which is absent in `from`, in its smallest form; `None` if it
    /// is not absent, must be, or is not valid in its smallest form.
    fn with_smallest(&self, from: &Genotype, stage: usize) -> Option<Genotype> {
        if !self.is_absent(from, stage) {
            return None;
        }
        let depths = &self.space.definition.stages[stage].depth;
        let place = self.choice_of(stage, "depth");
        let mut added = from.clone();
        for choice in self.choices_of(stage) {
            added.0[choice] = least(&self.space.choices[choice]);
        }
        let present = (0..depths.len()).filter(|option| depths[*option] > 0);
        added.0[place] = present.min_by_key(|option| depths[*option])? as u16;
        self.is_valid(&added).then_some(added)
    }

    /// The genotypes among which the largest one is that differs from the valid genotype `from` in
    /// one choice. Networks grow with the numbers of a choice until they are too large, so for most
    /// choices this is only the largest valid number. It is searched for by bisection, because a
    /// choice may have many options and a network many layers.
    fn larger(&self, from: &Genotype, choice: usize) -> Vec<Genotype> {
        let of = &self.space.choices[choice];
        let with = |option: u16| {
            let mut other = from.clone();
            other.0[choice] = option;
            other
        };
        let all = 0..of.options.len() as u16;
        let field = of.name.rsplit('.').next().unwrap_or(&of.name);
        match field {
            "stride" | "squeeze" | "skip" => all.map(with).collect(),
            "operation" => {
                // Some operations are larger only with a large expansion, which the others ignore.
                let expansion = choice - place("operation") + place("expansion");
                let expanded = |other: &Genotype| {
                    if self.is_valid(other) { self.larger(other, expansion) } else { Vec::new() }
                };
                let others = all.map(with);
                others.flat_map(|other| expanded(&other).into_iter().chain([other])).collect()
            }
            "resolution" | "stem_width" | "width" | "kernel" | "expansion" | "depth" => {
                let now = number(of, from.0[choice]);
                let mut above: Vec<u16> =
                    all.clone().filter(|option| number(of, *option) > now).collect();
                above.sort_by_key(|option| number(of, *option));
                let valid = |option: &u16| self.is_valid(&with(*option));
                // Mostly all of them are valid.
                let end = match above.last() {
                    Some(last) if !valid(last) => above.partition_point(valid),
                    Some(_) | None => above.len(),
                };
                // Without the stage, the next one reads a feature map that may be larger.
                let absent = all.filter(|option| field == "depth" && number(of, *option) == 0);
                above[..end].last().copied().into_iter().chain(absent).map(with).collect()
            }
            // The others change neither parameters nor MACs.
            _ => Vec::new(),
        }
    }

    /// The genotype that is most likely to be valid: fewest blocks, smallest sizes and strides, and
    /// the largest resolution at which the network is valid.
    fn gentlest(&self) -> Result<Genotype, ArchitectureError> {
        let mut genotype = Genotype(self.space.choices.iter().map(least).collect());
        let resolution = &self.space.choices[0];
        let mut resolutions: Vec<u16> = (0..resolution.options.len() as u16).collect();
        resolutions.sort_by_key(|option| std::cmp::Reverse(number(resolution, *option)));
        let mut refused = None;
        for option in resolutions {
            genotype.0[0] = option;
            match self.space.decode(&genotype).graph(self.space.data) {
                Ok(_) => return Ok(genotype),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.expect("at least one resolution"))
    }

    /// The place of a stage's field in a genotype.
    fn choice_of(&self, stage: usize, field: &str) -> usize {
        self.choices_of(stage).start + place(field)
    }

    /// The places of a stage's choices in a genotype; the first is its depth.
    fn choices_of(&self, stage: usize) -> Range<usize> {
        let recipe = &self.space.definition.recipe;
        let each = STAGE_CHOICES.len() + recipe.stage_shares().len();
        let first = FIRST_CHOICES + stage * each;
        first..first + each
    }
}

/// The number that an option of a choice is; 0 if it is none.
fn number(choice: &Choice, option: u16) -> u32 {
    choice.options[usize::from(option)].parse().unwrap_or(0)
}

/// The option of a choice with the smallest number.
fn least(choice: &Choice) -> u16 {
    let all = 0..choice.options.len() as u16;
    all.min_by_key(|option| number(choice, *option)).unwrap_or(0)
}

/// The place of a field among a stage's choices.
fn place(field: &str) -> usize {
    STAGE_CHOICES.iter().position(|of| *of == field).expect("a stage has this choice")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Activation, DataShape, FlatRecipe, Operation, RecipeSpace, SpaceDefinition, StageSpace,
    };

    /// A space with these stages, and as many other options as a study may have.
    fn space(stages: Vec<StageSpace>) -> StagedSpace {
        let definition = SpaceDefinition {
            resolution: (1..=64).collect(),
            stem_width: (1..=256).collect(),
            stages,
            recipe: RecipeSpace::Flat(FlatRecipe {
                prune: vec![0.0, 0.5],
                precision: Precision::ALL.to_vec(),
                alpha: vec![0.0],
                temperature: vec![1.0],
            }),
        };
        StagedSpace::new(definition, DataShape { channels: 3, classes: 10 }).unwrap()
    }

    fn stage(depth: Vec<u32>, width: Vec<u32>, stride: Vec<u32>) -> StageSpace {
        StageSpace {
            depth,
            width,
            kernel: (0..16).map(|k| 2 * k + 1).collect(),
            operation: Operation::NAMES.map(str::to_owned).to_vec(),
            expansion: (1..=16).collect(),
            stride,
            activation: Activation::ALL.to_vec(),
            squeeze: vec![0],
            skip: vec![crate::Skip::Add],
        }
    }

    /// The largest network, and how many networks were lowered to find it.
    fn found(space: &StagedSpace) -> (Genotype, usize) {
        let search = Search { space, sizes: RefCell::default() };
        let largest = search.largest().unwrap();
        let lowered = search.sizes.borrow().len();
        (largest, lowered)
    }

    /// Trying all options of all choices lowers more than ten thousand networks.
    #[test]
    fn the_largest_network_of_the_largest_space_is_found_with_few_lowerings() {
        let space = space(vec![stage((0..=63).collect(), (1..=256).collect(), vec![1]); 16]);
        let (largest, lowered) = found(&space);
        let stages = space.architecture(&largest).stages;
        assert!(stages.iter().all(|stage| (stage.depth, stage.width) == (63, 256)), "{stages:?}");
        assert!(lowered < 1500, "{lowered}");
    }

    /// Sixteen stages of which runs may have to be left out, because they are narrow or because
    /// their strides use up the positions.
    #[test]
    fn few_networks_are_lowered_where_stages_have_to_be_left_out() {
        for (narrow, strides) in [(2, vec![1]), (2, vec![1, 2]), (64, vec![2]), (200, vec![1, 2])] {
            for wide_at in [0, 1, 2, 5, 15] {
                let stages = (0..16).map(|i| {
                    let width = if i % (wide_at + 1) == wide_at { 256 } else { narrow };
                    stage(vec![0, 1, 3], vec![width, 1], strides.clone())
                });
                let (_, lowered) = found(&space(stages.collect()));
                assert!(lowered < 1500, "{narrow} {strides:?} {wide_at}: {lowered}");
            }
        }
    }
}
