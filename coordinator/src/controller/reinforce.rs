//! REINFORCE: Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist
//! Reinforcement Learning", Machine Learning 8, 1992, on a categorical policy or the recurrent one
//! of Zoph & Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017.
//!
//! Each trial that completes moves the policy one step of Adam along
//! `(reward - baseline) * grad ln p(candidate)`, with a bonus for entropy and a moving average of
//! rewards as the baseline. The probability is that under the present policy. But the candidate was
//! drawn from the policy at the time of the proposal, and sometimes changed to make it new. With
//! few trials running the two policies are close, and the remaining bias is not corrected.
//! [`Ppo`](super::Ppo) corrects it.

use edgesmith_common::TrialNumber;
use edgesmith_search_space::Space;
use rand::Rng;

use super::history::History;
use super::policy::Policy;
use super::reward::Reward;
use super::{Controller, FinishedTrial, Proposal};

/// REINFORCE, running on one study.
#[derive(Debug)]
pub struct Reinforce {
    history: History,
    learning_rate: f64,
    entropy: f64,
    baseline_decay: f64,
    policy: Policy,
    reward: Reward,
    /// `None` before the first reward.
    baseline: Option<f64>,
}

impl Reinforce {
    /// A controller of `space` whose policy is trained with `reward`, with steps of
    /// `learning_rate`. An entropy bonus with weight `entropy` keeps it from converging too early.
    /// Rewards are compared with their moving average, which has the decay `baseline_decay`
    /// (`0..1`).
    pub(super) fn new(
        space: Space,
        policy: Policy,
        reward: Reward,
        learning_rate: f64,
        entropy: f64,
        baseline_decay: f64,
    ) -> Self {
        Self {
            history: History::new(space),
            learning_rate,
            entropy,
            baseline_decay,
            policy,
            baseline: reward.neutral(),
            reward,
        }
    }
}

impl Controller for Reinforce {
    fn suggest(&self, _number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        self.policy.suggest(&self.history, rng)
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.history.propose(number, proposal);
    }

    fn update(&mut self, finished: &FinishedTrial) {
        let Some(genotype) = self.history.finish(finished.number()) else { return };
        let Some(reward) = self.reward.of_finished(finished) else { return };
        let baseline = self.baseline.unwrap_or(reward);
        let advantage = (reward - baseline) as f32;
        let gradient = self.policy.gradient(&genotype, advantage, self.entropy as f32);
        self.policy.descend(&gradient, self.learning_rate as f32);
        self.baseline = Some(baseline + (1.0 - self.baseline_decay) * (reward - baseline));
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_common::spec::{PolicySpec, RewardSpec};

    use super::super::conformance::{medium_space, proposal};
    use super::*;

    #[test]
    fn infeasible_candidates_become_less_likely_and_failed_ones_do_not() {
        let number = TrialNumber(0);
        let start = || {
            let space = medium_space();
            let policy = Policy::new(PolicySpec::Categorical, &space, [0; 32]);
            let reward = Reward::new(RewardSpec::Rank, &[]);
            Reinforce::new(space, policy, reward, 0.1, 0.01, 0.9)
        };
        let mut failed = start();
        let next = proposal(&failed, 0);
        failed.proposed(number, &next);
        failed.update(&FinishedTrial::Failed { number });
        assert_eq!(failed.policy, start().policy);

        let mut reinforce = start();
        let next = proposal(&reinforce, 0);
        let before = reinforce.policy.log_probability(&next.genotype);
        reinforce.proposed(number, &next);
        reinforce.update(&FinishedTrial::Infeasible { number });
        assert!(reinforce.policy.log_probability(&next.genotype) < before);
        assert!(reinforce.baseline < start().baseline);
    }
}
