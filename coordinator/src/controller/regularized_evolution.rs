//! Regularized (aging) evolution: Real, Aggarwal, Huang, Le, "Regularized Evolution for Image
//! Classifier Architecture Search", AAAI 2019, algorithm 1.
//!
//! The population is a queue of the trials that completed last. A child is a mutated copy of the
//! best of a random sample. When a new member enters a full population, the oldest is removed, even
//! if it is the best. This is the paper's distributed form: children are made from the current
//! members while other trials are running. As an extension of the paper, "best" is decided by
//! constraint-domination, and with several objectives by front and crowding distance within the
//! sample (Deb et al. 2002).

use edgesmith_common::TrialNumber;
use edgesmith_search_space::Space;
use rand::{Rng, RngExt};

use super::fitness::{Fitness, best};
use super::population::{Member, Population};
use super::{Controller, FinishedTrial, Proposal};

/// Aging evolution, running on one study.
#[derive(Debug)]
pub struct RegularizedEvolution {
    /// The oldest member first.
    population: Population,
    sample: usize,
    mutations: usize,
}

impl RegularizedEvolution {
    /// A controller of `space` with `population` members. A parent is the best of `sample` draws
    /// (with replacement), and a child differs from it in `mutations` choices. Numbers below 1
    /// count as 1.
    pub fn new(space: Space, population: usize, sample: usize, mutations: usize) -> Self {
        Self {
            population: Population::new(space, population.max(1)),
            sample: sample.max(1),
            mutations: mutations.max(1),
        }
    }

    /// The best of a random sample; the population is not empty.
    fn parent(&self, rng: &mut dyn Rng) -> &Member {
        let members = self.population.members();
        let mut sample: Vec<usize> =
            (0..self.sample).map(|_| rng.random_range(0..members.len())).collect();
        // Each member once. The youngest comes first, so that it wins a tie.
        sample.sort_unstable_by(|a, b| b.cmp(a));
        sample.dedup();
        let contestants: Vec<&Fitness> = sample.iter().map(|&i| &members[i].fitness).collect();
        &members[sample[best(&contestants).expect("a sample of at least one")]]
    }
}

impl Controller for RegularizedEvolution {
    fn suggest(&self, _number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        self.population.suggest(rng, |rng| {
            let parent = self.parent(rng);
            let child = self.population.space().mutate(&parent.genotype, self.mutations, rng);
            (child, vec![parent.number])
        })
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.population.propose(number, proposal);
    }

    fn update(&mut self, finished: &FinishedTrial) {
        self.population.finish(finished);
        if self.population.is_over_capacity() {
            self.population.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{medium_space, proposal, rng};
    use super::*;

    fn complete(number: u32, loss: f64) -> FinishedTrial {
        let number = TrialNumber(number);
        FinishedTrial::Complete { number, objectives: vec![loss], violation: 0.0 }
    }

    #[test]
    fn the_best_member_is_removed_when_it_is_the_oldest() {
        let mut evolution = RegularizedEvolution::new(medium_space(), 4, 64, 1);
        for n in 0..4 {
            let next = proposal(&evolution, n);
            evolution.proposed(TrialNumber(n), &next);
            evolution.update(&complete(n, f64::from(n)));
        }
        assert_eq!(proposal(&evolution, 4).parents, [TrialNumber(0)]);
        let next = proposal(&evolution, 4);
        evolution.proposed(TrialNumber(4), &next);
        evolution.update(&complete(4, 9.0));
        assert_eq!(proposal(&evolution, 5).parents, [TrialNumber(1)]);
    }

    #[test]
    fn children_differ_from_their_parent_in_the_requested_number_of_choices() {
        let mut evolution = RegularizedEvolution::new(medium_space(), 1, 1, 3);
        let first = proposal(&evolution, 0);
        evolution.proposed(TrialNumber(0), &first);
        evolution.update(&complete(0, 0.0));
        let child = evolution.suggest(TrialNumber(1), &mut rng(1)).unwrap();
        let pairs = child.genotype.indices().iter().zip(first.genotype.indices());
        assert_eq!(pairs.filter(|(a, b)| a != b).count(), 3);
    }

    #[test]
    fn trials_without_a_result_are_replaced_in_the_first_generation() {
        let mut evolution = RegularizedEvolution::new(medium_space(), 3, 3, 1);
        for n in 0..6 {
            let next = proposal(&evolution, n);
            assert_eq!(next.parents, [], "trial {n} is of the first generation");
            evolution.proposed(TrialNumber(n), &next);
            match n {
                0 => evolution.update(&FinishedTrial::Infeasible { number: TrialNumber(n) }),
                1 => evolution.update(&FinishedTrial::Failed { number: TrialNumber(n) }),
                2 => evolution.update(&FinishedTrial::Pruned { number: TrialNumber(n) }),
                _ => evolution.update(&complete(n, 0.0)),
            }
        }
        assert_eq!(proposal(&evolution, 6).parents.len(), 1);
    }
}
