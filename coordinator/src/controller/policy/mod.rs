//! A distribution over the candidates of a space, which is trained by gradients: a categorical
//! distribution for each choice, independent of the others or drawn one after the other by a
//! recurrent network.
//!
//! The state is plain vectors, and tensors live only within one call, so a replayed policy is equal
//! to the bit. Nothing here uses burn's own random generator.

mod adam;
mod categorical;
mod lstm;

use edgesmith_common::spec::PolicySpec;
use edgesmith_search_space::{Genotype, Space};
use rand::Rng;

use adam::Adam;
use categorical::Categorical;
use lstm::Lstm;

use super::Proposal;
use super::history::History;

/// A policy with its optimizer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Policy {
    space: Space,
    net: Net,
    adam: Adam,
}

#[derive(Debug, Clone, PartialEq)]
enum Net {
    Categorical(Categorical),
    Lstm(Lstm),
}

impl Policy {
    /// A policy that has not learned yet. The categorical one is uniform. The recurrent one is
    /// nearly uniform, with initial weights from `seed`.
    pub(super) fn new(kind: PolicySpec, space: &Space, seed: [u8; 32]) -> Self {
        let net = match kind {
            PolicySpec::Categorical => Net::Categorical(Categorical::uniform(space)),
            PolicySpec::Lstm => Net::Lstm(Lstm::new(space, seed)),
        };
        let adam = Adam::new(net.parameters());
        Self { space: space.clone(), net, adam }
    }

    /// A new candidate, drawn from the policy if it still draws new ones.
    pub(super) fn suggest(&self, history: &History, rng: &mut dyn Rng) -> Option<Proposal> {
        history.first_fresh(rng, |rng| (self.sample(rng), Vec::new()))
    }

    /// Draws a genotype of the space that the policy was made for.
    fn sample(&self, rng: &mut dyn Rng) -> Genotype {
        match &self.net {
            Net::Categorical(categorical) => categorical.sample(&self.space, rng),
            Net::Lstm(lstm) => lstm.sample(&self.space, rng),
        }
    }

    /// Natural logarithm of the probability that the policy draws `genotype`, or one that differs
    /// from it only in choices without effect, given those before them.
    pub(super) fn log_probability(&self, genotype: &Genotype) -> f64 {
        let active = self.space.active_in_order(genotype);
        match &self.net {
            Net::Categorical(categorical) => categorical.log_probability(genotype, &active),
            Net::Lstm(lstm) => lstm.log_probability(genotype, &active),
        }
    }

    /// Gradient over the parameters of `-advantage * ln p(genotype) - entropy * H`, where `p` is as
    /// in [`Policy::log_probability`]. `H` is the sum of the entropies in nats of all choices that
    /// have an effect in `genotype`; those of the recurrent policy are taken along it.
    pub(super) fn gradient(&self, genotype: &Genotype, advantage: f32, entropy: f32) -> Vec<f32> {
        let active = self.space.active_in_order(genotype);
        match &self.net {
            Net::Categorical(net) => net.gradient(genotype, &active, advantage, entropy),
            Net::Lstm(lstm) => lstm.gradient(genotype, &active, advantage, entropy),
        }
    }

    /// One step of Adam against `gradient`.
    pub(super) fn descend(&mut self, gradient: &[f32], learning_rate: f32) {
        let parameters = match &mut self.net {
            Net::Categorical(categorical) => categorical.parameters_mut(),
            Net::Lstm(lstm) => lstm.parameters_mut(),
        };
        self.adam.step(parameters, gradient, learning_rate);
    }
}

impl Net {
    fn parameters(&self) -> usize {
        match self {
            Net::Categorical(categorical) => categorical.parameters().len(),
            Net::Lstm(lstm) => lstm.parameters().len(),
        }
    }
}

/// Probabilities of options with these logits.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|l| f64::from(l - top).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / total).collect()
}

/// The option at `point`, in `0..1`, of the cumulative distribution.
fn draw(logits: &[f32], point: f64) -> u16 {
    let mut left = point;
    let mut passed = |p: &f64| {
        left -= p;
        left >= 0.0
    };
    let index = softmax(logits).iter().take_while(|p| passed(p)).count();
    // The probabilities may sum to less than `point` because of rounding.
    index.min(logits.len() - 1) as u16
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;

    use edgesmith_search_space::{DistilSpace, FineTuneSpace, QuantizeSpace, StepSpace};

    use super::super::conformance::{medium_space, recipes_of, rng};
    use super::*;

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0f32, 3f32.ln(), f32::MIN];
        let mut rng = rng(11);
        let mut counts = [0; 3];
        for _ in 0..4000 {
            counts[usize::from(draw(&logits, rng.random()))] += 1;
        }
        assert!((900..1100).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[2], 0);
        assert_eq!(draw(&logits, 1.0), 2, "a rest of rounding belongs to the last option");
    }

    /// Where a later choice decides whether an earlier one has an effect, which a policy that draws
    /// one after the other cannot know.
    #[test]
    fn the_probabilities_of_all_draws_sum_to_one() {
        let alpha = [0.5, 0.25, 0.0].map(|alpha| alpha.into()).to_vec();
        let space = recipes_of(vec![
            StepSpace::Distil(DistilSpace::of_answers(alpha, vec![2.0.into(), 4.0.into()])),
            StepSpace::Quantize(QuantizeSpace::default()),
            StepSpace::QuantizeAwareTrain(FineTuneSpace::plain(vec![0, 1, 2], Vec::new())),
        ]);
        let open = |options: &usize| *options > 1;
        let all: Vec<usize> = space.choices().iter().map(|c| c.options.len()).collect();
        assert_eq!(all.iter().copied().filter(open).collect::<Vec<_>>(), [3, 2, 3]);
        for kind in [PolicySpec::Categorical, PolicySpec::Lstm] {
            let mut policy = Policy::new(kind, &space, [3; 32]);
            for seed in 0..20 {
                let drawn = policy.sample(&mut rng(seed));
                let gradient = policy.gradient(&drawn, 1.0, 0.0);
                policy.descend(&gradient, 0.2);
            }
            let mut sum = 0.0;
            for mut rest in 0..all.iter().product() {
                let option = |options: &usize| {
                    let option = rest % options;
                    rest /= options;
                    option as u16
                };
                let genotype = space.genotype(all.iter().map(option).collect()).unwrap();
                let active = space.active_in_order(&genotype);
                let mut picks = genotype.indices().iter().zip(&active);
                // All options of a choice without effect are one draw.
                if picks.all(|(index, active)| *active || *index == 0) {
                    sum += policy.log_probability(&genotype).exp();
                }
            }
            assert!((sum - 1.0).abs() < 1e-4, "{kind:?}: {sum}");
        }
    }

    /// Genotypes of one candidate teach the same.
    #[test]
    fn choices_without_effect_teach_nothing() {
        let space = medium_space();
        for kind in [PolicySpec::Categorical, PolicySpec::Lstm] {
            let mut policy = Policy::new(kind, &space, [3; 32]);
            let genotype = policy.sample(&mut rng(1));
            let gradient = policy.gradient(&genotype, 1.0, 0.1);
            policy.descend(&gradient, 0.1);
            let log_p = policy.log_probability(&genotype);
            let gradient = policy.gradient(&genotype, 1.0, 0.1);
            let active = space.active_in_order(&genotype);
            assert!(active.contains(&false));
            for (place, choice) in space.choices().iter().enumerate().filter(|(i, _)| !active[*i]) {
                let mut indices = genotype.indices().to_vec();
                indices[place] = (indices[place] + 1) % choice.options.len() as u16;
                let other = space.genotype(indices).unwrap();
                assert_eq!(policy.log_probability(&other), log_p, "{kind:?} {}", choice.name);
                assert_eq!(policy.gradient(&other, 1.0, 0.1), gradient, "{kind:?}");
            }
        }
    }

    #[test]
    fn rewarded_candidates_become_likely_and_steps_are_reproducible() {
        let space = medium_space();
        for kind in [PolicySpec::Categorical, PolicySpec::Lstm] {
            let run = || {
                let mut policy = Policy::new(kind, &space, [3; 32]);
                let wanted = policy.sample(&mut rng(1));
                let before = policy.log_probability(&wanted);
                for _ in 0..30 {
                    let gradient = policy.gradient(&wanted, 1.0, 0.0);
                    policy.descend(&gradient, 0.01);
                }
                assert!(policy.log_probability(&wanted) > before + 1.0, "{kind:?}");
                policy
            };
            assert_eq!(run(), run(), "{kind:?}");
        }
    }
}
