//! Local search: hill climbing from random candidates. On tables of small search spaces it is a
//! strong baseline (White, Nolen, Savani, "Exploring the Loss Landscape in Neural Architecture
//! Search", UAI 2021; Ottelander, Dushatskiy, Virgolin, Bosman, "Local Search is a Remarkably
//! Strong Baseline for Neural Architecture Search", EMO 2021).
//!
//! A climb moves to the first neighbour that is better. Neighbours differ in one choice and are
//! tried in random order. When all are tried, the next climb starts from a random candidate. With
//! several objectives a climb has its own front (Pareto local search; Paquete, Chiarandini,
//! Stützle 2004): the climb continues at once from a neighbour that enters the front, and ends
//! when all neighbours of the front are tried.
//!
//! Workers never wait: if all neighbours are running, starting points of the next climb are
//! proposed. That climb begins from the best starting point that has finished by then.

use std::collections::BTreeMap;

use edgesmith_common::TrialNumber;
use edgesmith_search_space::{Genotype, Space};
use rand::{Rng, RngExt};

use super::fitness::{Fitness, best};
use super::history::History;
use super::population::Member;
use super::{Controller, FinishedTrial, Proposal};

/// Local search, running on one study.
#[derive(Debug)]
pub struct LocalSearch {
    history: History,
    /// For each running step, the climb that it belongs to. Starting points are not listed.
    steps: BTreeMap<TrialNumber, u32>,
    /// The front of the climb, in the order of entry. The climb continues from the newest.
    climb: Vec<Member>,
    /// Number of the current climb.
    current: u32,
    /// Candidates that the next climb may start from.
    starts: Vec<Member>,
}

impl LocalSearch {
    /// A controller of `space`; it has no settings.
    pub fn new(space: Space) -> Self {
        Self {
            history: History::new(space),
            steps: BTreeMap::new(),
            climb: Vec::new(),
            current: 0,
            starts: Vec::new(),
        }
    }

    /// The newest member of the front that has untried neighbours, and these neighbours.
    fn next_step(&self) -> Option<(&Member, Vec<Genotype>)> {
        self.climb.iter().rev().find_map(|member| {
            let untried = self.untried(&member.genotype);
            (!untried.is_empty()).then_some((member, untried))
        })
    }

    fn untried(&self, genotype: &Genotype) -> Vec<Genotype> {
        let space = self.history.space();
        let mut untried = Vec::new();
        let active = space.active(genotype);
        // Other options of the others describe the same candidate.
        for (place, choice) in space.choices().iter().enumerate().filter(|(i, _)| active[*i]) {
            let own = genotype.indices()[place];
            for option in (0..choice.options.len() as u16).filter(|option| *option != own) {
                let mut indices = genotype.indices().to_vec();
                indices[place] = option;
                let neighbour = space.genotype(indices).expect("an option of the choice");
                if self.history.is_fresh(&neighbour) {
                    untried.push(neighbour);
                }
            }
        }
        untried
    }

    /// Takes a step if the candidate is better than the current position of the climb.
    fn step(&mut self, member: Member) {
        let beaten = |other: &Member| {
            other.fitness.dominates(&member.fitness) || other.fitness == member.fitness
        };
        if !self.climb.iter().any(beaten) {
            self.climb.retain(|other| !member.fitness.dominates(&other.fitness));
            self.climb.push(member);
        }
    }

    /// Begins the next climb if this one has ended.
    fn begin_next_climb(&mut self) {
        let steps_running = self.steps.values().any(|&climb| climb == self.current);
        if self.starts.is_empty() || steps_running || self.next_step().is_some() {
            return;
        }
        let fitness: Vec<&Fitness> = self.starts.iter().map(|start| &start.fitness).collect();
        let best = best(&fitness).expect("at least one start");
        self.climb = vec![self.starts.swap_remove(best)];
        self.starts.clear();
        self.current += 1;
    }
}

impl Controller for LocalSearch {
    fn suggest(&self, _number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        if let Some((member, mut untried)) = self.next_step() {
            let genotype = untried.swap_remove(rng.random_range(0..untried.len()));
            return Some(Proposal { genotype, parents: vec![member.number] });
        }
        self.history.fresh_sample(rng)
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.history.propose(number, proposal);
        if !proposal.parents.is_empty() {
            self.steps.insert(number, self.current);
        }
    }

    fn update(&mut self, finished: &FinishedTrial) {
        let number = finished.number();
        let Some(genotype) = self.history.finish(number) else { return };
        let climb = self.steps.remove(&number);
        if let Some(member) = Member::new(genotype, finished) {
            match climb {
                None => self.starts.push(member),
                Some(climb) if climb == self.current => self.step(member),
                // A climb ends only when none of its steps is running.
                Some(_) => {}
            }
        }
        self.begin_next_climb();
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{medium_space, proposal};
    use super::*;

    /// Makes a proposal and completes it with its `loss`.
    fn go_on(search: &mut LocalSearch, n: u32, loss: impl Fn(&Proposal) -> Vec<f64>) -> Proposal {
        let number = TrialNumber(n);
        let next = proposal(search, n);
        search.proposed(number, &next);
        let objectives = loss(&next);
        search.update(&FinishedTrial::Complete { number, objectives, violation: 0.0 });
        next
    }

    fn differ(a: &Genotype, b: &Genotype) -> usize {
        a.indices().iter().zip(b.indices()).filter(|(a, b)| a != b).count()
    }

    #[test]
    fn it_moves_to_the_first_better_neighbour_and_tries_no_other_of_the_last_centre() {
        let mut search = LocalSearch::new(medium_space());
        let start = go_on(&mut search, 0, |_| vec![5.0]);
        for n in 1..4 {
            let worse = go_on(&mut search, n, |_| vec![5.0]);
            assert_eq!(
                (worse.parents.as_slice(), differ(&worse.genotype, &start.genotype)),
                (&[TrialNumber(0)][..], 1)
            );
        }
        let better = go_on(&mut search, 4, |_| vec![4.0]);
        for n in 5..10 {
            let next = go_on(&mut search, n, |_| vec![9.0]);
            assert_eq!(next.parents, [TrialNumber(4)]);
            assert_eq!(differ(&next.genotype, &better.genotype), 1);
        }
    }

    #[test]
    fn a_climb_ends_when_all_neighbours_are_tried_and_the_next_starts_elsewhere() {
        let mut search = LocalSearch::new(medium_space());
        go_on(&mut search, 0, |_| vec![0.0]);
        let neighbours = search.untried(&search.climb[0].genotype.clone()).len() as u32;
        let mut tried = 0;
        let restart = (1..).find(|&n| {
            tried += 1;
            go_on(&mut search, n, |_| vec![1.0]).parents.is_empty()
        });
        // Some neighbours are the same network, so there are fewer trials than neighbours.
        assert!(restart.is_some() && tried > 10 && tried <= neighbours + 1, "{tried}");
        // It climbs from there, although that is worse than the end of the first climb.
        let next = go_on(&mut search, 1000, |_| vec![9.0]);
        assert_eq!(next.parents, [TrialNumber(restart.unwrap())]);
    }

    #[test]
    fn starts_are_proposed_while_the_last_neighbours_run_and_the_best_is_taken() {
        let mut search = LocalSearch::new(medium_space());
        go_on(&mut search, 0, |_| vec![0.0]);
        let mut steps = Vec::new();
        let mut starts = Vec::new();
        for n in 1..200 {
            let next = proposal(&search, n);
            let number = TrialNumber(n);
            search.proposed(number, &next);
            if next.parents.is_empty() { &mut starts } else { &mut steps }.push(number);
            if starts.len() == 3 {
                break;
            }
        }
        let complete = |number, loss| FinishedTrial::Complete {
            number,
            objectives: vec![loss],
            violation: 0.0,
        };
        for (&start, loss) in starts.iter().zip([3.0, 1.0, 2.0]) {
            search.update(&complete(start, loss));
            assert_eq!(search.current, 1, "steps are still out");
        }
        for &step in &steps {
            search.update(&complete(step, 5.0));
        }
        assert_eq!((search.current, search.climb[0].number), (2, starts[1]));
    }

    #[test]
    fn with_several_objectives_a_climb_has_a_front() {
        let mut search = LocalSearch::new(medium_space());
        go_on(&mut search, 0, |_| vec![5.0, 5.0]);
        go_on(&mut search, 1, |_| vec![4.0, 6.0]);
        go_on(&mut search, 2, |_| vec![6.0, 4.0]);
        go_on(&mut search, 3, |_| vec![7.0, 7.0]);
        let numbers: Vec<u32> = search.climb.iter().map(|m| m.number.0).collect();
        assert_eq!(numbers, [0, 1, 2]);
        go_on(&mut search, 4, |_| vec![3.0, 3.0]);
        assert_eq!(search.climb.len(), 1);
    }
}
