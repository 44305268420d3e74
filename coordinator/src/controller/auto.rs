//! The default: a portfolio of model-based search and mutation. It reports which part made each
//! proposal.
//!
//! The model proposes most trials. Every [`EVERY`]th is an incumbent with one changed choice, as in
//! regularized evolution and NSGA-II. So a model that is wrong about a space does not hold the
//! study back. On the benchmarks of `docs/benchmarks.md` it is as good as the best of its parts,
//! within noise.

use std::collections::BTreeMap;

use edgesmith_common::TrialNumber;
use edgesmith_search_space::{Genotype, Space};
use rand::{Rng, RngExt};

use super::model_based::{Arithmetic, ModelBased};
use super::{Controller, FinishedTrial, Proposal};

/// One of this many proposals is a mutation.
const EVERY: u32 = 20;
/// Number of random trials before the model is used.
const INITIAL: usize = 12;

/// The portfolio, running on one study.
#[derive(Debug)]
pub struct Auto {
    model: ModelBased,
    /// Which part made each proposal.
    proposers: BTreeMap<TrialNumber, &'static str>,
}

impl Auto {
    /// A controller of `space`; `arithmetic` as for [`ModelBased::new`].
    pub fn new(space: Space, arithmetic: Option<Arithmetic>) -> Self {
        Self { model: ModelBased::new(space, INITIAL, arithmetic), proposers: BTreeMap::new() }
    }

    /// Which part proposes trial `number`. It depends on the number and on what is known now.
    fn proposer(&self, number: TrialNumber) -> &'static str {
        if !self.model.is_ready() {
            "random"
        } else if number.0 % EVERY == EVERY - 1 && self.model.incumbents().next().is_some() {
            "mutation"
        } else {
            "model-based"
        }
    }
}

impl Controller for Auto {
    fn suggest(&self, number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        if self.proposer(number) != "mutation" {
            return self.model.suggest(number, rng);
        }
        let incumbents: Vec<(TrialNumber, &Genotype)> = self.model.incumbents().collect();
        let history = self.model.history();
        history.first_fresh(rng, |rng| {
            let (parent, genotype) = incumbents[rng.random_range(0..incumbents.len())];
            (history.space().mutate(genotype, 1, rng), vec![parent])
        })
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        // The first proposal of a trial counts, even if the trial is tried again later.
        let proposer = self.proposer(number);
        self.proposers.entry(number).or_insert(proposer);
        self.model.proposed(number, proposal);
    }

    fn update(&mut self, finished: &FinishedTrial) {
        self.model.update(finished);
    }

    fn proposed_by(&self, number: TrialNumber) -> Option<&'static str> {
        self.proposers.get(&number).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{medium_space, proposal};
    use super::*;

    #[test]
    fn it_reports_which_part_made_each_proposal() {
        let mut auto = Auto::new(medium_space(), None);
        for n in 0..40 {
            let number = TrialNumber(n);
            let next = proposal(&auto, n);
            auto.proposed(number, &next);
            let objectives = vec![f64::from(next.genotype.indices().iter().sum::<u16>())];
            auto.update(&FinishedTrial::Complete { number, objectives, violation: 0.0 });
        }
        let by = |n| auto.proposed_by(TrialNumber(n));
        assert_eq!((by(0), by(11)), (Some("random"), Some("random")));
        assert_eq!((by(12), by(19), by(20)), (Some("model-based"), Some("mutation"), by(12)));
        assert_eq!(by(40), None);
    }
}
