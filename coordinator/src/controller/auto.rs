//! The default: a portfolio of model-based search and mutation. It reports which part made each
//! proposal.
//!
//! The model proposes most trials. Every [`EVERY`]th is an incumbent with one changed choice, as in
//! regularized evolution and NSGA-II. So a model that is wrong about a space does not hold the
//! study back. On the benchmarks of `docs/benchmarks.md` it is as good as the best of its parts,
//! within noise.

use edgesmith_common::TrialNumber;
use edgesmith_search_space::{Genotype, Space};
use rand::{Rng, RngExt};

use super::fitness::Fitness;
use super::model_based::{Arithmetic, ModelBased};
use super::{Controller, FinishedTrial, Proposal};

/// One of this many proposals is a mutation.
const EVERY: u32 = 20;
/// Numbers of random trials before the model is used: a quarter of the study, within these.
const INITIAL: [u32; 2] = [4, 12];

/// The portfolio, running on one study.
#[derive(Debug)]
pub struct Auto {
    model: ModelBased,
    /// As it was before the first proposal.
    start: Portfolio,
}

/// A part of the portfolio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Random trials, before the model is used.
    Random,
    /// An incumbent with one changed choice.
    Mutation,
    /// The model.
    ModelBased,
}

impl Part {
    /// The name that users see.
    pub fn name(self) -> &'static str {
        match self {
            Part::Random => "random",
            Part::Mutation => "mutation",
            Part::ModelBased => "model-based",
        }
    }
}

/// Counts the trials of a study as [`Auto`] does. It says which part proposes a trial without a
/// model at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portfolio {
    /// Number of random trials before the model is used.
    initial: usize,
    /// Trials whose result shows something about their candidate.
    observed: usize,
    /// Those of them that were measured.
    completed: usize,
    /// Trials that are proposed and not finished.
    running: usize,
}

impl Portfolio {
    /// Of a study of so many trials, with nothing proposed yet.
    pub fn new(trials: u32) -> Self {
        let [least, most] = INITIAL;
        let initial = (trials / 4).clamp(least, most) as usize;
        Self { initial, observed: 0, completed: 0, running: 0 }
    }

    /// The study has so many trials now.
    pub fn extend_to(&mut self, trials: u32) {
        self.initial = Self::new(trials).initial;
    }

    /// The part that proposes trial `number`, from what is known now.
    pub fn part(&self, number: TrialNumber) -> Part {
        if self.observed + self.running < self.initial || self.completed < 2 {
            Part::Random
        } else if number.0 % EVERY == EVERY - 1 {
            Part::Mutation
        } else {
            Part::ModelBased
        }
    }

    /// A trial was proposed, or is tried again.
    pub fn propose(&mut self) {
        self.running += 1;
    }

    /// A trial that was proposed has finished.
    pub fn finish(&mut self, finished: &FinishedTrial) {
        self.running = self.running.saturating_sub(1);
        match finished {
            FinishedTrial::Complete { .. } => {
                let counts = usize::from(Fitness::of(finished).is_some());
                self.observed += counts;
                self.completed += counts;
            }
            FinishedTrial::Infeasible { .. } | FinishedTrial::Pruned { .. } => self.observed += 1,
            FinishedTrial::Failed { .. } => {}
        }
    }
}

impl Auto {
    /// A controller of `space` for so many trials; `arithmetic` as for [`ModelBased::new`].
    pub fn new(space: Space, trials: u32, arithmetic: Option<Arithmetic>) -> Self {
        let start = Portfolio::new(trials);
        Self { model: ModelBased::new(space, start.initial, arithmetic), start }
    }

    fn portfolio(&self) -> Portfolio {
        let (observed, completed) = self.model.counts();
        Portfolio { observed, completed, running: self.model.history().running(), ..self.start }
    }
}

impl Controller for Auto {
    fn suggest(&self, number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        match self.portfolio().part(number) {
            Part::Random | Part::ModelBased => self.model.suggest(number, rng),
            Part::Mutation => {
                let incumbents: Vec<(TrialNumber, &Genotype)> = self.model.incumbents().collect();
                let history = self.model.history();
                history.first_fresh(rng, |rng| {
                    let (parent, genotype) = incumbents[rng.random_range(0..incumbents.len())];
                    (history.space().mutate(genotype, 1, rng), vec![parent])
                })
            }
        }
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.model.proposed(number, proposal);
    }

    fn update(&mut self, finished: &FinishedTrial) {
        self.model.update(finished);
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{Call, medium_space, result, study_with};
    use super::*;

    #[test]
    fn the_portfolio_counts_as_the_model_does_and_names_the_part() {
        let mut auto = Auto::new(medium_space(), 80, None);
        let calls = study_with(&mut auto, 80, result);
        let mut portfolio = Portfolio::new(80);
        let mut followed = Auto::new(medium_space(), 80, None);
        let mut parts = Vec::new();
        for call in &calls {
            match call {
                Call::Proposed(number, proposal) => {
                    parts.push(portfolio.part(TrialNumber(*number)));
                    portfolio.propose();
                    followed.proposed(TrialNumber(*number), proposal);
                }
                Call::Finished(finished) => {
                    portfolio.finish(finished);
                    followed.update(finished);
                }
            }
            assert_eq!(portfolio, followed.portfolio());
        }
        assert_eq!(
            portfolio.observed + portfolio.running,
            auto.model.history().running() + auto.model.counts().0
        );
        assert_eq!((parts[0], parts[11]), (Part::Random, Part::Random));
        assert_eq!(
            (parts[38], parts[39], parts[40]),
            (Part::ModelBased, Part::Mutation, Part::ModelBased)
        );
    }

    #[test]
    fn a_small_study_begins_with_fewer_random_trials() {
        let random = |trials: u32| {
            let mut portfolio = Portfolio::new(trials);
            portfolio.completed = 2;
            (0..).find(|&observed| {
                portfolio.observed = observed;
                portfolio.part(TrialNumber(0)) != Part::Random
            })
        };
        assert_eq!([1, 16, 24, 47, 48, 1000].map(random), [4, 4, 6, 11, 12, 12].map(Some));
        let mut extended = Portfolio { observed: 5, completed: 5, ..Portfolio::new(16) };
        assert_eq!(extended.part(TrialNumber(5)), Part::ModelBased);
        extended.extend_to(100);
        assert_eq!(extended.part(TrialNumber(5)), Part::Random);
    }
}
