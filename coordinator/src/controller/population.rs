//! The population of an evolutionary algorithm without separate generations.
//!
//! Each trial that completes enters the population at once. The first trials are random; after
//! that the algorithm makes children of the members. The algorithm itself decides which members
//! become parents and which leave.

use edgesmith_common::TrialNumber;
use edgesmith_search_space::{Genotype, Space};
use rand::{Rng, RngExt};

use super::breeding::Parent;
use super::fitness::Fitness;
use super::history::History;
use super::{FinishedTrial, Proposal};

/// The members of one study's population, and the trials that may become members.
#[derive(Debug)]
pub(super) struct Population {
    history: History,
    /// Largest number of members.
    capacity: usize,
    /// Number of trials that completed, including those that have left.
    completed: usize,
    /// In the order of completion.
    members: Vec<Member>,
}

/// A trial that completed with finite values.
#[derive(Debug)]
pub(super) struct Member {
    /// Which trial.
    pub(super) number: TrialNumber,
    /// Its candidate.
    pub(super) genotype: Genotype,
    /// Its fitness.
    pub(super) fitness: Fitness,
}

impl Member {
    /// The individual of a finished trial; `None` if it has no fitness.
    pub(super) fn new(genotype: Genotype, finished: &FinishedTrial) -> Option<Self> {
        let fitness = Fitness::of(finished)?;
        Some(Self { number: finished.number(), genotype, fitness })
    }

    /// The member as a parent.
    pub(super) fn parent(&self) -> Parent<'_> {
        (self.number, &self.genotype)
    }
}

impl Population {
    /// An empty population for `capacity` members.
    pub(super) fn new(space: Space, capacity: usize) -> Self {
        Self { history: History::new(space), capacity, completed: 0, members: Vec::new() }
    }

    /// The space that candidates come from.
    pub(super) fn space(&self) -> &Space {
        self.history.space()
    }

    /// Largest number of members.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// In the order of completion. One more than the capacity until the algorithm removes one.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Fitness of the members, in their order.
    pub(super) fn fitness(&self) -> Vec<&Fitness> {
        self.members.iter().map(|member| &member.fitness).collect()
    }

    /// A new candidate: random in the first generation, then a child made by `breed`. When `breed`
    /// is called, there is at least one member.
    pub(super) fn suggest(
        &self,
        rng: &mut dyn Rng,
        breed: impl FnMut(&mut dyn Rng) -> (Genotype, Vec<TrialNumber>),
    ) -> Option<Proposal> {
        // Trials without a result do not count towards the first generation.
        let started = self.completed + self.history.running();
        if started < self.capacity || self.members.is_empty() {
            return self.history.fresh_sample(rng);
        }
        self.history.first_fresh(rng, breed)
    }

    /// Binary tournament of two random members: returns the second if it is `better` than the
    /// first, else the first. `better` takes positions in [`Population::members`].
    pub(super) fn tournament(
        &self,
        rng: &mut dyn Rng,
        better: impl Fn(usize, usize) -> bool,
    ) -> &Member {
        let mut draw = || rng.random_range(0..self.members.len());
        let (first, second) = (draw(), draw());
        &self.members[if better(second, first) { second } else { first }]
    }

    /// Records that trial `number` was proposed.
    pub(super) fn propose(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.history.propose(number, proposal);
    }

    /// Records a finished trial. If it completed, it becomes the last member and is returned.
    pub(super) fn finish(&mut self, finished: &FinishedTrial) -> Option<&Member> {
        let genotype = self.history.finish(finished.number())?;
        let member = Member::new(genotype, finished)?;
        self.completed += 1;
        self.members.push(member);
        self.members.last()
    }

    /// Whether there are more members than the capacity.
    pub(super) fn is_over_capacity(&self) -> bool {
        self.members.len() > self.capacity
    }

    /// Removes the member at `position`.
    pub(super) fn remove(&mut self, position: usize) {
        self.members.remove(position);
    }
}
