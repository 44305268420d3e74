//! Uniform sampling without repetition: the baseline that every other algorithm has to beat.

use edgesmith_common::TrialNumber;
use edgesmith_search_space::Space;
use rand::Rng;

use super::seen::Seen;
use super::{Controller, FinishedTrial, Proposal};

/// Samples every choice uniformly and learns nothing.
#[derive(Debug)]
pub struct Random {
    seen: Seen,
}

impl Random {
    /// A controller of `space`; it has no settings.
    pub fn new(space: Space) -> Self {
        Self { seen: Seen::new(space) }
    }
}

impl Controller for Random {
    fn suggest(&self, _number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        self.seen.first_fresh(rng, |rng| (self.seen.space().sample(rng), Vec::new()))
    }

    fn proposed(&mut self, _number: TrialNumber, proposal: &Proposal) {
        self.seen.insert(&proposal.genotype);
    }

    fn update(&mut self, _finished: &FinishedTrial) {}
}
