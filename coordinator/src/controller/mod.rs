//! Search algorithms: they propose candidates and learn from finished trials.
//!
//! A [`Controller`] is one search algorithm, running on one study. It has no clock, no random
//! generator and no access to storage. The caller passes a random generator made for each trial,
//! and reports proposals and results to the controller in order. A controller never waits: it
//! proposes from what it knows, regardless of how many trials are still running.
//! `docs/algorithms.md` explains how to choose an algorithm and what its settings do.

use edgesmith_common::spec::AlgorithmSpec;
use edgesmith_common::{Purpose, StudySpec, TrialNumber};
use edgesmith_search_space::Genotype;
use rand::Rng;

mod auto;
mod breeding;
#[cfg(test)]
mod conformance;
mod fitness;
#[cfg(test)]
mod golden;
mod history;
#[cfg(test)]
mod learning;
mod local_search;
mod model_based;
mod nsga2;
mod nsga3;
mod policy;
mod population;
mod ppo;
mod random;
mod regularized_evolution;
mod reinforce;
mod reward;

pub use auto::{Auto, Part, Portfolio};
pub use local_search::LocalSearch;
pub use model_based::ModelBased;
pub use nsga2::Nsga2;
pub use nsga3::Nsga3;
pub use ppo::Ppo;
pub use random::Random;
pub use regularized_evolution::RegularizedEvolution;
pub use reinforce::Reinforce;

use model_based::Arithmetic;
use policy::Policy;
use ppo::PpoSettings;
use reward::Reward;

/// A candidate to try next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The candidate.
    pub genotype: Genotype,
    /// The trials that it was made from: none if it was sampled, two after a crossover.
    pub parents: Vec<TrialNumber>,
}

/// A search algorithm, running on one study.
///
/// The state depends only on the calls to [`Controller::proposed`] and [`Controller::update`] and
/// their order, so replaying them into a fresh controller restores it exactly.
pub trait Controller: Send {
    /// Proposes trial `number`, and changes nothing. The candidate is a valid network of the space
    /// that was not proposed before. `None` if nothing new is left in the space.
    fn suggest(&self, number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal>;

    /// Whether a proposal takes no longer than to have another thread make it: some ten
    /// microseconds.
    fn is_quick(&self) -> bool {
        false
    }

    /// Reports that the trial was recorded (also called in replay). If it failed and is tried
    /// again, this is called again.
    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal);

    /// Reports that a trial finished. Trials that were never proposed, or finished before, change
    /// nothing.
    fn update(&mut self, finished: &FinishedTrial);
}

/// The result of a trial, as far as an algorithm may know it.
#[derive(Debug, Clone, PartialEq)]
pub enum FinishedTrial {
    /// Trained and measured.
    Complete {
        /// Which trial.
        number: TrialNumber,
        /// One value per objective of the study, with the sign chosen so that less is better.
        objectives: Vec<f64>,
        /// Sum of the normalised constraint violations, at least 0; 0 is feasible.
        violation: f64,
    },
    /// Stopped early at a rung.
    Pruned {
        /// Which trial.
        number: TrialNumber,
    },
    /// Cannot be built, or breaks a constraint that is known before training.
    Infeasible {
        /// Which trial.
        number: TrialNumber,
    },
    /// All attempts failed, or screening scored others higher. Nothing was measured, and little is
    /// known about the candidate.
    Failed {
        /// Which trial.
        number: TrialNumber,
    },
}

impl FinishedTrial {
    /// Which trial.
    pub fn number(&self) -> TrialNumber {
        match self {
            FinishedTrial::Complete { number, .. }
            | FinishedTrial::Pruned { number }
            | FinishedTrial::Infeasible { number }
            | FinishedTrial::Failed { number } => *number,
        }
    }
}

/// The portfolio that a study asks for, with nothing proposed yet; `None` if its algorithm has no
/// parts.
pub fn portfolio(spec: &StudySpec) -> Option<Portfolio> {
    match spec.algorithm {
        AlgorithmSpec::Auto => Some(Portfolio::new(spec.budget.trials)),
        AlgorithmSpec::Random
        | AlgorithmSpec::RegularizedEvolution { .. }
        | AlgorithmSpec::ModelBased { .. }
        | AlgorithmSpec::Nsga2 { .. }
        | AlgorithmSpec::Nsga3 { .. }
        | AlgorithmSpec::LocalSearch
        | AlgorithmSpec::Reinforce { .. }
        | AlgorithmSpec::Ppo { .. } => None,
    }
}

/// The controller that a study asks for, with nothing proposed yet.
pub fn build(spec: &StudySpec) -> Box<dyn Controller> {
    let space = spec.space.clone();
    match spec.algorithm {
        AlgorithmSpec::Random => Box::new(Random::new(space)),
        AlgorithmSpec::RegularizedEvolution { population, sample, mutations } => {
            Box::new(RegularizedEvolution::new(space, population, sample, mutations))
        }
        AlgorithmSpec::Auto => {
            Box::new(Auto::new(space, spec.budget.trials, Arithmetic::new(spec)))
        }
        AlgorithmSpec::ModelBased { initial } => {
            Box::new(ModelBased::new(space, initial, Arithmetic::new(spec)))
        }
        AlgorithmSpec::Nsga2 { population, crossover, mutations } => {
            Box::new(Nsga2::new(space, population, crossover, mutations))
        }
        AlgorithmSpec::Nsga3 { population, crossover, mutations } => {
            Box::new(Nsga3::new(space, population, crossover, mutations))
        }
        AlgorithmSpec::LocalSearch => Box::new(LocalSearch::new(space)),
        AlgorithmSpec::Reinforce { learning_rate, entropy, baseline_decay, policy, reward } => {
            let policy = Policy::new(policy, &space, spec.seed.derive(Purpose::Policy));
            let reward = Reward::new(reward, &spec.objectives);
            Box::new(Reinforce::new(space, policy, reward, learning_rate, entropy, baseline_decay))
        }
        AlgorithmSpec::Ppo { learning_rate, entropy, batch, epochs, clip, policy, reward } => {
            let policy = Policy::new(policy, &space, spec.seed.derive(Purpose::Policy));
            let reward = Reward::new(reward, &spec.objectives);
            let settings = PpoSettings { learning_rate, entropy, batch, epochs, clip };
            Box::new(Ppo::new(space, policy, reward, settings))
        }
    }
}
