//! How genetic algorithms make a child for categorical choices: a uniform crossover of two parents,
//! then each choice that has an effect is changed with the same probability.

use edgesmith_common::TrialNumber;
use edgesmith_search_space::{Genotype, Space};
use rand::{Rng, RngExt};

/// Rates of crossover and mutation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Breeding {
    crossover: f64,
    /// Changed choices of a child, on average.
    mutations: usize,
}

/// A trial that may become a parent.
pub(super) type Parent<'a> = (TrialNumber, &'a Genotype);

impl Breeding {
    /// Children have two parents with probability `crossover` (`0..=1`), and `mutations` changed
    /// choices on average.
    pub(super) fn new(crossover: f64, mutations: usize) -> Self {
        Self { crossover: crossover.clamp(0.0, 1.0), mutations }
    }

    /// A child of one or two parents drawn by `pick`, and the trial numbers of these parents.
    pub(super) fn child<'a>(
        &self,
        space: &Space,
        pick: impl FnMut(&mut dyn Rng) -> Parent<'a>,
        rng: &mut dyn Rng,
    ) -> (Genotype, Vec<TrialNumber>) {
        let (child, parents) = recombined(space, self.crossover, pick, rng);
        let active = space.active(&child);
        let open = space.choices().iter().zip(active);
        let open = open.filter(|(choice, active)| *active && choice.options.len() > 1).count();
        let mutation = (self.mutations as f64 / open.max(1) as f64).min(1.0);
        let changes = (0..open).filter(|_| rng.random_bool(mutation)).count();
        (space.mutate(&child, changes, rng), parents)
    }
}

/// A child before mutation, and its parents. With probability `crossover` (`0..=1`) it is a uniform
/// crossover of two parents drawn by `pick`, else a copy of one. It is also a copy if `pick` draws
/// the same parent twice.
pub(super) fn recombined<'a>(
    space: &Space,
    crossover: f64,
    mut pick: impl FnMut(&mut dyn Rng) -> Parent<'a>,
    rng: &mut dyn Rng,
) -> (Genotype, Vec<TrialNumber>) {
    let (first, genotype) = pick(rng);
    if rng.random_bool(crossover) {
        let (second, other) = pick(rng);
        if second != first {
            return (space.crossover(genotype, other, rng), vec![first, second]);
        }
    }
    (genotype.clone(), vec![first])
}

/// Choices with more than one option.
pub(super) fn open_choices(space: &Space) -> usize {
    space.choices().iter().filter(|choice| choice.options.len() > 1).count()
}
