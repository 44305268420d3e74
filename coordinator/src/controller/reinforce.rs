//! REINFORCE: Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist
//! Reinforcement Learning", Machine Learning 8, 1992, on a categorical policy.
//!
//! The policy has independent logits for each choice. Each trial that completes moves them one step
//! of Adam along `(reward - baseline) * grad ln p(candidate)`, with a bonus for entropy and a moving
//! average of rewards as the baseline. The probability is the present policy's, although the
//! candidate was drawn from the policy of the time when it was proposed, and now and then changed so
//! as to be new: with few trials out the two are close, and the bias that this leaves is not
//! corrected.
//!
//! The reward depends on order alone, so that it has no units and no weights to set: one minus the
//! share of the trials so far that dominate this one under constraint-domination, the rank of
//! Fonseca and Fleming ("Genetic Algorithms for Multiobjective Optimization", ICGA 1993) turned into
//! `0..1`. With one objective that is the quantile. Every trial on the front earns most, wherever on
//! it.

use std::collections::BTreeMap;

use edgesmith_common::TrialNumber;
use edgesmith_search_space::{Genotype, Space};
use rand::Rng;

use super::fitness::Fitness;
use super::policy::Policy;
use super::seen::Seen;
use super::{Controller, FinishedTrial, Proposal};

/// What a trial earns before anything is known: the middle of the range.
const NEUTRAL: f64 = 0.5;

/// REINFORCE at work on one study.
#[derive(Debug)]
pub struct Reinforce {
    seen: Seen,
    learning_rate: f64,
    entropy: f64,
    baseline_decay: f64,
    policy: Policy,
    baseline: f64,
    /// Proposed and not finished.
    out: BTreeMap<TrialNumber, Genotype>,
    /// Every complete trial's.
    completed: Vec<Fitness>,
}

impl Reinforce {
    /// A controller of `space` whose policy moves by `learning_rate` a step, is held open by an
    /// `entropy` bonus, and compares rewards with their moving average of decay `baseline_decay`
    /// (`0..1`).
    pub fn new(space: Space, learning_rate: f64, entropy: f64, baseline_decay: f64) -> Self {
        let policy = Policy::uniform(&space);
        Self {
            seen: Seen::new(space),
            learning_rate,
            entropy,
            baseline_decay,
            policy,
            baseline: NEUTRAL,
            out: BTreeMap::new(),
            completed: Vec::new(),
        }
    }

    /// The share of the trials so far that do not dominate this one, in `0..1` exclusive.
    fn reward(&self, fitness: &Fitness) -> f64 {
        let dominators = self.completed.iter().filter(|other| other.dominates(fitness)).count();
        1.0 - (dominators as f64 + 0.5) / (self.completed.len() as f64 + 1.0)
    }
}

impl Controller for Reinforce {
    fn suggest(&self, _number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        let space = self.seen.space();
        self.seen.first_fresh(rng, |rng| (self.policy.sample(space, rng), Vec::new()))
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.seen.insert(&proposal.genotype);
        self.out.insert(number, proposal.genotype.clone());
    }

    fn update(&mut self, finished: &FinishedTrial) {
        let Some(genotype) = self.out.remove(&finished.number()) else { return };
        let reward = match finished {
            FinishedTrial::Complete { objectives, violation, .. } => {
                let Some(fitness) = Fitness::new(objectives, *violation) else { return };
                let reward = self.reward(&fitness);
                self.completed.push(fitness);
                reward
            }
            // Worse than anything that was measured.
            FinishedTrial::Infeasible { .. } | FinishedTrial::Pruned { .. } => 0.0,
            FinishedTrial::Failed { .. } => return,
        };
        let advantage = (reward - self.baseline) as f32;
        let gradient = self.policy.gradient(&genotype, advantage, self.entropy as f32);
        self.policy.descend(&gradient, self.learning_rate as f32);
        self.baseline += (1.0 - self.baseline_decay) * (reward - self.baseline);
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{medium_space, proposal};
    use super::*;

    fn complete(objectives: &[f64], violation: f64) -> FinishedTrial {
        let objectives = objectives.to_vec();
        FinishedTrial::Complete { number: TrialNumber(0), objectives, violation }
    }

    fn after(results: &[FinishedTrial]) -> Reinforce {
        let mut reinforce = Reinforce::new(medium_space(), 0.1, 0.01, 0.9);
        for result in results {
            let next = proposal(&reinforce, 0);
            reinforce.proposed(TrialNumber(0), &next);
            reinforce.update(result);
        }
        reinforce
    }

    #[test]
    fn the_reward_is_the_share_of_trials_that_do_not_dominate() {
        let reinforce = after(&[
            complete(&[1.0, 4.0], 0.0),
            complete(&[2.0, 2.0], 0.0),
            complete(&[0.0, 0.0], 1.0),
        ]);
        let reward = |objectives: &[f64], violation| {
            reinforce.reward(&Fitness::new(objectives, violation).unwrap())
        };
        assert_eq!(reward(&[4.0, 1.0], 0.0), 1.0 - 0.5 / 4.0);
        assert_eq!(reward(&[1.0, 1.0], 0.0), 1.0 - 0.5 / 4.0);
        assert_eq!(reward(&[3.0, 3.0], 0.0), 1.0 - 1.5 / 4.0);
        assert_eq!(reward(&[0.0, 0.0], 2.0), 1.0 - 3.5 / 4.0);
    }

    #[test]
    fn rewards_do_not_depend_on_units() {
        let reward = |unit: f64| {
            let results = [1.0, 3.0, 2.0].map(|v| complete(&[v * unit], 0.0));
            after(&results).reward(&Fitness::new(&[2.5 * unit], 0.0).unwrap())
        };
        assert_eq!(reward(1.0), reward(1e9));
    }

    #[test]
    fn infeasible_candidates_become_less_likely_and_failed_ones_do_not() {
        let number = TrialNumber(0);
        let start = after(&[]);
        assert_eq!(after(&[FinishedTrial::Failed { number }]).policy, start.policy);

        let mut reinforce = after(&[]);
        let next = proposal(&reinforce, 0);
        let before = reinforce.policy.log_probability(&next.genotype);
        reinforce.proposed(number, &next);
        reinforce.update(&FinishedTrial::Infeasible { number });
        assert!(reinforce.policy.log_probability(&next.genotype) < before);
        assert!(reinforce.baseline < start.baseline);
    }
}
