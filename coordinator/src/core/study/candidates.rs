//! The candidates of a study's trials, by which imports recognise those that the study has already.

use std::collections::HashSet;

use edgesmith_search_space::{CanonicalHash, Genotype, Space};

use super::trials::Trials;

/// The candidates of a study's first trials. It grows when results are imported, so that a large
/// import, which comes in many parts, hashes every trial once.
#[derive(Debug, Default)]
pub struct Candidates {
    /// Number of trials.
    trials: u32,
    hashes: HashSet<CanonicalHash>,
}

impl Candidates {
    /// Whether a candidate can be hashed and no trial has it.
    pub(super) fn lack(&mut self, space: &Space, trials: &Trials, genotype: &Genotype) -> bool {
        let new = trials.after(self.trials).iter();
        let hashes = new.map(|trial| space.canonical_hash(trial.genotype()));
        self.hashes.extend(hashes.filter_map(Result::ok));
        self.trials = trials.count();
        space.canonical_hash(genotype).is_ok_and(|hash| !self.hashes.contains(&hash))
    }
}
