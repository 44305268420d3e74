//! NSGA-II: Deb, Pratap, Agarwal, Meyarivan, "A Fast and Elitist Multiobjective Genetic Algorithm:
//! NSGA-II", IEEE Transactions on Evolutionary Computation 6(2), 2002.
//!
//! The original makes a generation, waits for all of it, and keeps the best half of parents and
//! children. Here workers never wait (the steady-state form): each trial that completes enters at
//! once, the worst member leaves, and children are made from the current members. Because members
//! leave one at a time, crowding is computed again before each removal. Selection (binary
//! tournament by front, then crowding) and constraint handling are the paper's. The paper's
//! operators are for real numbers and bits. For categorical choices they are uniform crossover and
//! a change of each choice with a probability of `mutations` divided by the number of choices.

use edgesmith_common::TrialNumber;
use edgesmith_search_space::Space;
use rand::Rng;

use super::breeding::{Breeding, Parent};
use super::fitness::{Standing, standings};
use super::population::Population;
use super::{Controller, FinishedTrial, Proposal};

/// NSGA-II, running on one study.
#[derive(Debug)]
pub struct Nsga2 {
    population: Population,
    breeding: Breeding,
    /// Standing of each member of the population among all members.
    standings: Vec<Standing>,
}

impl Nsga2 {
    /// A controller of `space` with `population` members (at least 2). Children have two parents
    /// with probability `crossover` (`0..=1`), and `mutations` changed choices on average.
    pub fn new(space: Space, population: usize, crossover: f64, mutations: usize) -> Self {
        Self {
            breeding: Breeding::new(crossover, mutations),
            population: Population::new(space, population.max(2)),
            standings: Vec::new(),
        }
    }

    /// The better of two random members.
    fn parent(&self, rng: &mut dyn Rng) -> Parent<'_> {
        let better = |a: usize, b: usize| self.standings[a].compare(&self.standings[b]).is_lt();
        self.population.tournament(rng, better).parent()
    }

    /// Position of the worst member; the oldest of several equal ones.
    fn worst(&self) -> usize {
        let worst = (0..self.standings.len())
            .rev()
            .max_by(|&a, &b| self.standings[a].compare(&self.standings[b]));
        worst.expect("the population is not empty")
    }

    fn rank(&mut self) {
        self.standings = standings(&self.population.fitness());
    }
}

impl Controller for Nsga2 {
    fn suggest(&self, _number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        let space = self.population.space();
        self.population.suggest(rng, |rng| self.breeding.child(space, |rng| self.parent(rng), rng))
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.population.propose(number, proposal);
    }

    fn update(&mut self, finished: &FinishedTrial) {
        if self.population.finish(finished).is_none() {
            return;
        }
        self.rank();
        if self.population.is_over_capacity() {
            self.population.remove(self.worst());
            self.rank();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{medium_space, proposal};
    use super::*;

    /// Runs trials with these results, numbered from `first`.
    fn feed(nsga2: &mut Nsga2, first: u32, results: &[([f64; 2], f64)]) {
        for (number, &(objectives, violation)) in (first..).map(TrialNumber).zip(results) {
            let next = proposal(nsga2, number.0);
            nsga2.proposed(number, &next);
            let objectives = objectives.to_vec();
            nsga2.update(&FinishedTrial::Complete { number, objectives, violation });
        }
    }

    fn members(nsga2: &Nsga2) -> Vec<u32> {
        nsga2.population.members().iter().map(|m| m.number.0).collect()
    }

    #[test]
    fn dominated_trials_leave_first_and_good_old_ones_stay() {
        let mut nsga2 = Nsga2::new(medium_space(), 3, 0.9, 1);
        let points = [[0.0, 4.0], [4.0, 0.0], [3.0, 3.0], [1.0, 1.0], [5.0, 5.0]];
        feed(&mut nsga2, 0, &points.map(|p| (p, 0.0)));
        assert_eq!(members(&nsga2), [0, 1, 3]);
    }

    #[test]
    fn crowded_trials_leave_before_those_far_from_others() {
        let mut nsga2 = Nsga2::new(medium_space(), 4, 0.9, 1);
        let points = [[0.0, 10.0], [10.0, 0.0], [5.0, 5.0], [1.0, 9.0], [0.5, 9.5]];
        feed(&mut nsga2, 0, &points.map(|p| (p, 0.0)));
        assert_eq!(members(&nsga2), [0, 1, 2, 3]);
    }

    #[test]
    fn violators_leave_before_the_feasible_and_the_worst_of_them_first() {
        let mut nsga2 = Nsga2::new(medium_space(), 2, 0.9, 1);
        feed(&mut nsga2, 0, &[([0.0, 0.0], 2.0), ([0.0, 0.0], 1.0), ([9.0, 9.0], 0.0)]);
        assert_eq!(members(&nsga2), [1, 2]);
        feed(&mut nsga2, 3, &[([10.0, 10.0], 0.0)]);
        assert_eq!(members(&nsga2), [2, 3]);
    }

    #[test]
    fn the_crossover_rate_decides_how_many_parents_a_child_has() {
        for (crossover, most) in [(0.0, 1), (1.0, 2)] {
            let mut nsga2 = Nsga2::new(medium_space(), 8, crossover, 1);
            let front: Vec<_> = (0..8).map(|i| ([f64::from(i), f64::from(8 - i)], 0.0)).collect();
            feed(&mut nsga2, 0, &front);
            let parents: Vec<usize> = (8..40).map(|n| proposal(&nsga2, n).parents.len()).collect();
            assert_eq!(parents.iter().max(), Some(&most), "at odds {crossover}");
        }
    }
}
