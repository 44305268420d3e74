//! Proximal policy optimization: Schulman, Wolski, Dhariwal, Radford, Klimov, "Proximal Policy
//! Optimization Algorithms", arXiv:1707.06347, 2017, as MnasNet searches with it (Tan et al., CVPR
//! 2019).
//!
//! When a batch of trials has completed, the policy makes several steps of Adam on the clipped
//! surrogate objective: each trial is weighted by the ratio of its present probability to its
//! probability when it was proposed, until the ratio has moved by `clip`. Because of that ratio the
//! policy can learn from trials of older policies, so workers do not have to wait for a batch.
//! Rewards are normalised by the mean and deviation of their batch, as implementations of the paper
//! do. A proposal that was changed to make it new has the probability of the changed proposal.

use std::collections::BTreeMap;

use edgesmith_common::TrialNumber;
use edgesmith_search_space::{Genotype, Space};
use rand::Rng;

use super::history::History;
use super::policy::Policy;
use super::reward::Reward;
use super::{Controller, FinishedTrial, Proposal};

/// Settings of the updates.
#[derive(Debug, Clone, Copy)]
pub(super) struct PpoSettings {
    /// Step size of Adam.
    pub(super) learning_rate: f64,
    /// Weight of the entropy bonus.
    pub(super) entropy: f64,
    /// Number of trials in an update, at least 2.
    pub(super) batch: usize,
    /// Number of steps of Adam in an update.
    pub(super) epochs: usize,
    /// How far the probability ratio of a trial may move away from 1 in an update.
    pub(super) clip: f64,
}

/// PPO, running on one study.
#[derive(Debug)]
pub struct Ppo {
    history: History,
    policy: Policy,
    reward: Reward,
    settings: PpoSettings,
    /// For each running trial, the natural logarithm of its probability when it was proposed.
    log_p: BTreeMap<TrialNumber, f64>,
    /// Trials that finished since the last update.
    batch: Vec<Drawn>,
}

/// A finished trial to learn from.
#[derive(Debug)]
struct Drawn {
    genotype: Genotype,
    /// Natural logarithm of its probability when it was proposed.
    log_p: f64,
    reward: f64,
}

impl Ppo {
    /// A controller of `space` whose policy is trained with `reward`.
    pub(super) fn new(space: Space, policy: Policy, reward: Reward, settings: PpoSettings) -> Self {
        Self {
            history: History::new(space),
            policy,
            reward,
            settings,
            log_p: BTreeMap::new(),
            batch: Vec::new(),
        }
    }

    /// Learns from the batch.
    fn learn(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let count = batch.len() as f64;
        let mean = batch.iter().map(|drawn| drawn.reward).sum::<f64>() / count;
        let square = |drawn: &Drawn| (drawn.reward - mean).powi(2);
        let deviation = (batch.iter().map(square).sum::<f64>() / count).sqrt();
        if deviation < 1e-12 {
            // All rewards are the same: there is nothing to learn.
            return;
        }
        for _ in 0..self.settings.epochs {
            let mut gradient: Vec<f32> = Vec::new();
            for Drawn { genotype, log_p, reward } in &batch {
                let ratio = (self.policy.log_probability(genotype) - log_p).exp();
                let weight = surrogate(ratio, (reward - mean) / deviation, self.settings.clip);
                let (weight, entropy) = (weight / count, self.settings.entropy / count);
                let own = self.policy.gradient(genotype, weight as f32, entropy as f32);
                gradient.resize(own.len(), 0.0);
                gradient.iter_mut().zip(own).for_each(|(sum, value)| *sum += value);
            }
            self.policy.descend(&gradient, self.settings.learning_rate as f32);
        }
    }
}

/// The factor of the gradient of `ln p` in the gradient of `min(ratio * A, clip(ratio) * A)`.
fn surrogate(ratio: f64, advantage: f64, clip: f64) -> f64 {
    let clipped = if advantage > 0.0 { ratio > 1.0 + clip } else { ratio < 1.0 - clip };
    if clipped { 0.0 } else { ratio * advantage }
}

impl Controller for Ppo {
    fn suggest(&self, _number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        self.policy.suggest(&self.history, rng)
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.history.propose(number, proposal);
        self.log_p.insert(number, self.policy.log_probability(&proposal.genotype));
    }

    fn update(&mut self, finished: &FinishedTrial) {
        let number = finished.number();
        let Some(genotype) = self.history.finish(number) else { return };
        let Some(log_p) = self.log_p.remove(&number) else { return };
        let Some(reward) = self.reward.of_finished(finished) else { return };
        self.batch.push(Drawn { genotype, log_p, reward });
        if self.batch.len() >= self.settings.batch {
            self.learn();
        }
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_common::spec::{PolicySpec, RewardSpec};

    use super::super::conformance::{medium_space, proposal};
    use super::*;

    #[test]
    fn the_weight_is_the_slope_of_the_clipped_objective() {
        let objective = |ratio: f64, advantage: f64| {
            let clipped = ratio.clamp(0.8, 1.2);
            (ratio * advantage).min(clipped * advantage)
        };
        for advantage in [-2.0, 0.5] {
            for ratio in [0.3, 0.79, 0.9, 1.0, 1.1, 1.21, 3.0] {
                // d/d(ln p) of the objective is ratio * d/d(ratio).
                let slope = objective(ratio + 1e-6, advantage) - objective(ratio - 1e-6, advantage);
                let expected = ratio * slope / 2e-6;
                let got = surrogate(ratio, advantage, 0.2);
                assert!((got - expected).abs() < 1e-6, "{ratio} {advantage}: {got} {expected}");
            }
        }
    }

    #[test]
    fn a_batch_moves_the_policy_by_no_more_than_the_clip_allows() {
        let space = medium_space();
        let policy = Policy::new(PolicySpec::Categorical, &space, [0; 32]);
        let settings =
            PpoSettings { learning_rate: 1e-3, entropy: 0.0, batch: 2, epochs: 500, clip: 0.2 };
        let reward = Reward::new(RewardSpec::Rank, &[]);
        let mut ppo = Ppo::new(space, policy.clone(), reward, settings);
        let mut drawn = Vec::new();
        for n in 0..2 {
            let next = proposal(&ppo, n);
            ppo.proposed(TrialNumber(n), &next);
            drawn.push(next.genotype);
        }
        ppo.update(&FinishedTrial::Infeasible { number: TrialNumber(1) });
        assert_eq!(ppo.policy, policy, "a batch is not complete");
        let (number, objectives) = (TrialNumber(0), vec![1.0]);
        ppo.update(&FinishedTrial::Complete { number, objectives, violation: 0.0 });
        let moved = |n: usize| {
            (ppo.policy.log_probability(&drawn[n]) - policy.log_probability(&drawn[n])).exp()
        };
        // Momentum carries it a little beyond. Without a clip, five hundred steps go beyond 1e6.
        assert!((1.15..1.6).contains(&moved(0)), "{}", moved(0));
        assert!((0.5..0.85).contains(&moved(1)), "{}", moved(1));
    }
}
