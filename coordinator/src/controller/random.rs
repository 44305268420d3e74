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
        self.history.is_sparse()
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.history.propose(number, proposal);
    }

    fn update(&mut self, finished: &FinishedTrial) {
        self.history.finish(finished.number());
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_common::StudySpec;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Near its end, a study searches long for what is left.
    #[test]
    fn a_proposal_is_quick_while_most_of_the_space_is_new() {
        let text = "study.name = \"s\"\nbudget.trials = 1\ntable.path = \"t.csv\"\n\
                    objectives = [{ metric = \"validation_accuracy\" }]\n";
        let space = StudySpec::parse(text).unwrap().space;
        let (mut random, size) = (Random::new(space.clone()), space.size());
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut number = 0;
        while random.is_quick() {
            let proposal = random.suggest(TrialNumber(number), &mut rng).unwrap();
            random.proposed(TrialNumber(number), &proposal);
            number += 1;
        }
        assert_eq!(u128::from(number), size.div_ceil(4));
    }
}
