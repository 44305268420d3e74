//! Uniform sampling without repetition: the baseline that every other algorithm has to beat.

use edgesmith_common::TrialNumber;
use edgesmith_search_space::Space;
use rand::Rng;

use super::history::History;
use super::{Controller, FinishedTrial, Proposal};

/// Samples every choice uniformly. It does not learn.
#[derive(Debug)]
pub struct Random {
    history: History,
}

impl Random {
    /// A controller of `space`; it has no settings.
    pub fn new(space: Space) -> Self {
        Self { history: History::new(space) }
    }
}

impl Controller for Random {
    fn suggest(&self, _number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        self.history.fresh_sample(rng)
    }

    fn is_quick(&self) -> bool {
        true
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.history.propose(number, proposal);
    }

    fn update(&mut self, finished: &FinishedTrial) {
        self.history.finish(finished.number());
    }
}
