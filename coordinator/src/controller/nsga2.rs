//! NSGA-II: Deb, Pratap, Agarwal, Meyarivan, "A Fast and Elitist Multiobjective Genetic Algorithm:
//! NSGA-II", IEEE Transactions on Evolutionary Computation 6(2), 2002.
//!
//! The original makes a generation, waits for all of it, and keeps the best half of parents and
//! children. Here workers never wait: each trial that completes enters at once and the worst leaves
//! (the steady-state form), and children are bred from the survivors of that moment. Removing one
//! at a time also measures crowding anew before each removal. Selection (binary tournament by
//! front, then crowding) and constraint handling are the paper's. For categorical choices the
//! operators are uniform crossover and a change of each choice with odds of `mutations` in the
//! number of choices, in place of the paper's operators for real numbers and bits.

use std::collections::BTreeMap;

use edgesmith_common::TrialNumber;
use edgesmith_search_space::{Genotype, Space};
use rand::{Rng, RngExt};

use super::breeding::Breeding;
use super::fitness::{Fitness, Standing, standings};
use super::seen::Seen;
use super::{Controller, FinishedTrial, Proposal};

/// NSGA-II at work on one study.
#[derive(Debug)]
pub struct Nsga2 {
    seen: Seen,
    population: usize,
    breeding: Breeding,
    /// Proposed and not finished.
    out: BTreeMap<TrialNumber, Genotype>,
    /// Trials that completed, dropped ones too.
    completed: usize,
    /// At most `population`, in the order of completion.
    survivors: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    number: TrialNumber,
    genotype: Genotype,
    fitness: Fitness,
    /// Among the survivors.
    standing: Standing,
}

impl Nsga2 {
    /// A controller of `space` with `population` survivors (at least 2), children that have two
    /// parents with odds `crossover` (`0..=1`), and `mutations` changed choices on average.
    pub fn new(space: Space, population: usize, crossover: f64, mutations: usize) -> Self {
        Self {
            breeding: Breeding::new(&space, crossover, mutations),
            seen: Seen::new(space),
            population: population.max(2),
            out: BTreeMap::new(),
            completed: 0,
            survivors: Vec::new(),
        }
    }

    /// The better of two random survivors, of which there is at least one.
    fn tournament(&self, rng: &mut dyn Rng) -> &Member {
        let mut draw = || &self.survivors[rng.random_range(0..self.survivors.len())];
        let (a, b) = (draw(), draw());
        if b.standing.compare(&a.standing).is_lt() { b } else { a }
    }

    fn enter(&mut self, member: Member) {
        self.survivors.push(member);
        self.rank();
        if self.survivors.len() > self.population {
            // The first of the worst, which is the oldest.
            let worst = (0..self.survivors.len())
                .rev()
                .max_by(|&a, &b| self.survivors[a].standing.compare(&self.survivors[b].standing));
            self.survivors.remove(worst.expect("survivors are not empty"));
            self.rank();
        }
    }

    fn rank(&mut self) {
        let fitness: Vec<&Fitness> = self.survivors.iter().map(|m| &m.fitness).collect();
        let standings = standings(&fitness);
        for (member, standing) in self.survivors.iter_mut().zip(standings) {
            member.standing = standing;
        }
    }
}

impl Controller for Nsga2 {
    fn suggest(&self, _number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        // The first generation is random. Trials that yielded nothing do not count to it.
        let random = self.completed + self.out.len() < self.population || self.survivors.is_empty();
        let space = self.seen.space();
        self.seen.first_fresh(rng, |rng| {
            if random {
                return (space.sample(rng), Vec::new());
            }
            let pick = |rng: &mut dyn Rng| {
                let parent = self.tournament(rng);
                (parent.number, &parent.genotype)
            };
            self.breeding.child(space, pick, rng)
        })
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.seen.insert(&proposal.genotype);
        self.out.insert(number, proposal.genotype.clone());
    }

    fn update(&mut self, finished: &FinishedTrial) {
        let number = finished.number();
        let Some(genotype) = self.out.remove(&number) else { return };
        if let FinishedTrial::Complete { objectives, violation, .. } = finished
            && let Some(fitness) = Fitness::new(objectives, *violation)
        {
            self.completed += 1;
            let standing = Standing { front: 0, crowding: 0.0 };
            self.enter(Member { number, genotype, fitness, standing });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{medium_space, proposal};
    use super::*;

    fn feed(nsga2: &mut Nsga2, results: &[([f64; 2], f64)]) {
        for &(objectives, violation) in results {
            let number = TrialNumber(nsga2.completed as u32);
            let next = proposal(nsga2, number.0);
            nsga2.proposed(number, &next);
            let objectives = objectives.to_vec();
            nsga2.update(&FinishedTrial::Complete { number, objectives, violation });
        }
    }

    fn survivors(nsga2: &Nsga2) -> Vec<u32> {
        nsga2.survivors.iter().map(|m| m.number.0).collect()
    }

    #[test]
    fn dominated_trials_leave_first_and_good_old_ones_stay() {
        let mut nsga2 = Nsga2::new(medium_space(), 3, 0.9, 1);
        let points = [[0.0, 4.0], [4.0, 0.0], [3.0, 3.0], [1.0, 1.0], [5.0, 5.0]];
        feed(&mut nsga2, &points.map(|p| (p, 0.0)));
        assert_eq!(survivors(&nsga2), [0, 1, 3]);
    }

    #[test]
    fn crowded_trials_leave_before_lonely_ones() {
        let mut nsga2 = Nsga2::new(medium_space(), 4, 0.9, 1);
        let points = [[0.0, 10.0], [10.0, 0.0], [5.0, 5.0], [1.0, 9.0], [0.5, 9.5]];
        feed(&mut nsga2, &points.map(|p| (p, 0.0)));
        assert_eq!(survivors(&nsga2), [0, 1, 2, 3]);
    }

    #[test]
    fn violators_leave_before_the_feasible_and_the_worst_of_them_first() {
        let mut nsga2 = Nsga2::new(medium_space(), 2, 0.9, 1);
        feed(&mut nsga2, &[([0.0, 0.0], 2.0), ([0.0, 0.0], 1.0), ([9.0, 9.0], 0.0)]);
        assert_eq!(survivors(&nsga2), [1, 2]);
        feed(&mut nsga2, &[([10.0, 10.0], 0.0)]);
        assert_eq!(survivors(&nsga2), [2, 3]);
    }

    #[test]
    fn crossover_odds_decide_how_many_parents_a_child_has() {
        for (crossover, most) in [(0.0, 1), (1.0, 2)] {
            let mut nsga2 = Nsga2::new(medium_space(), 8, crossover, 1);
            let front: Vec<_> = (0..8).map(|i| ([f64::from(i), f64::from(8 - i)], 0.0)).collect();
            feed(&mut nsga2, &front);
            let parents: Vec<usize> = (8..40).map(|n| proposal(&nsga2, n).parents.len()).collect();
            assert_eq!(parents.iter().max(), Some(&most), "at odds {crossover}");
        }
    }
}
