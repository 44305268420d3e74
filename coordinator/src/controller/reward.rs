//! The reward of a policy for a finished trial.
//!
//! *Rank* has no units and no weights to set. It is one minus the share of the recent trials that
//! dominate this one under constraint-domination: the rank of Fonseca and Fleming ("Genetic
//! Algorithms for Multiobjective Optimization", ICGA 1993) mapped to `0..1`. With one objective
//! that is the quantile. All trials on the front get the highest reward.
//!
//! *Target* is MnasNet's (Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for
//! Mobile", CVPR 2019): the accuracy times a power of the ratio of the other objective to its
//! target.

use std::collections::VecDeque;

use edgesmith_common::spec::RewardSpec;
use edgesmith_common::{Goal, Objective};

use super::FinishedTrial;
use super::fitness::Fitness;

/// Number of recent trials that a rank compares with: enough for a fine rank, with an amount of
/// work that does not grow with the study.
const RECENT: usize = 1000;

/// How rewards are computed.
#[derive(Debug)]
pub(super) enum Reward {
    /// By rank.
    Rank {
        /// The latest [`RECENT`] trials that completed.
        recent: VecDeque<Fitness>,
    },
    /// `accuracy * (value / target)^w`.
    Target {
        /// Position of the accuracy. It is maximised, so its values are negated.
        accuracy: usize,
        /// Position of the other objective.
        other: usize,
        target: f64,
        /// `w` for values up to the target.
        within: f64,
        /// `w` for values above it.
        beyond: f64,
    },
}

impl Reward {
    /// The reward that a study asks for; by rank if its objectives do not fit a target.
    pub(super) fn new(spec: RewardSpec, objectives: &[Objective]) -> Self {
        let rank = Reward::Rank { recent: VecDeque::new() };
        let RewardSpec::Target { target, within, beyond } = spec else { return rank };
        let is_accuracy = |o: &Objective| o.of.metric.is_evaluated() && o.goal == Goal::Maximize;
        let accuracy = objectives.iter().position(is_accuracy);
        match (accuracy, objectives.len()) {
            (Some(accuracy), 2) => {
                Reward::Target { accuracy, other: 1 - accuracy, target, within, beyond }
            }
            _ => rank,
        }
    }

    /// The reward to expect before any trial has finished: the middle of the ranks. `None` if there
    /// is no such value.
    pub(super) fn neutral(&self) -> Option<f64> {
        match self {
            Reward::Rank { .. } => Some(0.5),
            Reward::Target { .. } => None,
        }
    }

    /// The reward of a finished trial; `None` if the trial shows nothing about its candidate.
    /// Complete trials are remembered for later ranks.
    pub(super) fn of_finished(&mut self, finished: &FinishedTrial) -> Option<f64> {
        match finished {
            FinishedTrial::Complete { .. } => Some(self.of(Fitness::of(finished)?)),
            // Worse than every measured trial.
            FinishedTrial::Infeasible { .. } | FinishedTrial::Pruned { .. } => Some(0.0),
            FinishedTrial::Failed { .. } => None,
        }
    }

    /// The reward of a complete trial, which is remembered for later ranks.
    fn of(&mut self, fitness: Fitness) -> f64 {
        match self {
            Reward::Rank { recent } => {
                let dominators = recent.iter().filter(|other| other.dominates(&fitness)).count();
                let reward = 1.0 - (dominators as f64 + 0.5) / (recent.len() as f64 + 1.0);
                recent.push_back(fitness);
                if recent.len() > RECENT {
                    recent.pop_front();
                }
                reward
            }
            Reward::Target { accuracy, other, target, within, beyond } => {
                let objectives = fitness.objectives();
                let (accuracy, value) = (-objectives[*accuracy], objectives[*other]);
                let exponent = if value <= *target { *within } else { *beyond };
                // A value of 0 would result in infinity if the exponent is below 0.
                let ratio = (value / *target).max(1e-9);
                let reward = accuracy * ratio.powf(exponent);
                // The paper has no other constraints. Here a violation reduces the reward.
                reward / (1.0 + fitness.violation())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank() -> Reward {
        Reward::new(RewardSpec::Rank, &[])
    }

    fn fitness(objectives: &[f64], violation: f64) -> Fitness {
        Fitness::new(objectives, violation).unwrap()
    }

    #[test]
    fn a_rank_is_the_share_of_trials_that_do_not_dominate() {
        let of = |objectives: &[f64], violation: f64| {
            let mut reward = rank();
            for (objectives, violation) in
                [(&[1.0, 4.0], 0.0), (&[2.0, 2.0], 0.0), (&[0.0, 0.0], 1.0)]
            {
                reward.of(fitness(objectives, violation));
            }
            reward.of(fitness(objectives, violation))
        };
        assert_eq!(of(&[4.0, 1.0], 0.0), 1.0 - 0.5 / 4.0);
        assert_eq!(of(&[1.0, 1.0], 0.0), 1.0 - 0.5 / 4.0);
        assert_eq!(of(&[3.0, 3.0], 0.0), 1.0 - 1.5 / 4.0);
        assert_eq!(of(&[0.0, 0.0], 2.0), 1.0 - 3.5 / 4.0);
    }

    #[test]
    fn ranks_do_not_depend_on_units() {
        let of = |unit: f64| {
            let mut reward = rank();
            for value in [1.0, 3.0, 2.0] {
                reward.of(fitness(&[value * unit], 0.0));
            }
            reward.of(fitness(&[2.5 * unit], 0.0))
        };
        assert_eq!(of(1.0), of(1e9));
    }

    #[test]
    fn ranks_compare_with_recent_trials_only() {
        let mut reward = rank();
        reward.of(fitness(&[0.0], 0.0));
        for _ in 0..RECENT {
            reward.of(fitness(&[2.0], 0.0));
        }
        assert_eq!(reward.of(fitness(&[1.0], 0.0)), 1.0 - 0.5 / (RECENT as f64 + 1.0));
    }

    #[test]
    fn targets_are_soft_or_hard_as_in_the_paper() {
        let objectives = ["latency_ms@board", "validation_accuracy"]
            .map(|of| Objective::natural(of.parse().unwrap()));
        let of = |within: f64, beyond: f64, latency: f64, violation: f64| {
            let spec = RewardSpec::Target { target: 80.0, within, beyond };
            Reward::new(spec, &objectives).of(fitness(&[latency, -0.75], violation))
        };
        // Soft: doubling the latency costs about 5 % of the accuracy, as the paper chose it.
        assert!((of(-0.07, -0.07, 160.0, 0.0) / 0.75 - 0.952_6).abs() < 1e-3);
        assert!((of(-0.07, -0.07, 40.0, 0.0) / 0.75 - 1.049_7).abs() < 1e-3);
        // Hard: nothing is gained below the target, all is lost in proportion above.
        assert_eq!(of(0.0, -1.0, 40.0, 0.0), 0.75);
        assert_eq!(of(0.0, -1.0, 160.0, 0.0), 0.375);
        assert_eq!(of(0.0, -1.0, 40.0, 1.0), 0.375);
    }
}
