//! A categorical policy over a space: independent logits for the options of each choice, the
//! gradient of its REINFORCE loss by burn's automatic differentiation, and Adam.
//!
//! The state is plain vectors and tensors live only within one call, so a policy can be replayed to
//! the bit. Nothing here draws from burn's own generator.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_search_space::{Genotype, Space};
use rand::{Rng, RngExt};

/// Logit of an option that a choice does not have: its probability is exactly 0.
const ABSENT: f32 = -1e9;

/// Decays and guard of Adam, as Kingma & Ba (2015) recommend them.
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// Logits with the moments of their optimizer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Policy {
    /// Number of options of each choice.
    options: Vec<usize>,
    /// Choice after choice, as [`Space::encode`] orders options.
    logits: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    steps: i32,
}

impl Policy {
    /// Every option equally likely.
    pub(super) fn uniform(space: &Space) -> Self {
        let zeros = vec![0.0; space.encoding_len()];
        Self {
            options: space.choices().iter().map(|c| c.options.len()).collect(),
            logits: zeros.clone(),
            mean: zeros.clone(),
            variance: zeros,
            steps: 0,
        }
    }

    /// Draws a genotype of the space that the policy was made for.
    pub(super) fn sample(&self, space: &Space, rng: &mut dyn Rng) -> Genotype {
        let indices = self.choices().map(|logits| draw(logits, rng.random())).collect();
        space.genotype(indices).expect("a policy's options are its space's")
    }

    /// Gradient over the logits of `-advantage * ln p(genotype) - entropy * H`, where `H` is the sum
    /// of the entropies of all choices in nats.
    pub(super) fn gradient(&self, genotype: &Genotype, advantage: f32, entropy: f32) -> Vec<f32> {
        let device = Device::flex().autodiff();
        // Choices are rows, padded to the widest, so that one softmax serves all.
        let rows = self.options.len();
        let columns = self.options.iter().copied().max().unwrap_or(0);
        let mut logits = vec![ABSENT; rows * columns];
        let mut picked = vec![0.0; rows * columns];
        for (row, (mine, &index)) in self.choices().zip(genotype.indices()).enumerate() {
            logits[row * columns..][..mine.len()].copy_from_slice(mine);
            picked[row * columns + usize::from(index)] = 1.0;
        }
        let matrix = |values: Vec<f32>| {
            Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &device)
        };
        let logits = matrix(logits).require_grad(); // [choices, options]
        let log_p = log_softmax(logits.clone(), 1); // [choices, options]
        let taken = (log_p.clone() * matrix(picked)).sum(); // [1]
        let negative_entropy = (log_p.clone().exp() * log_p).sum(); // [1]
        let loss = taken * -advantage + negative_entropy * entropy;
        let gradients = loss.backward();
        let padded = logits.grad(&gradients).expect("the loss depends on the logits").into_data();
        let padded: Vec<f32> = padded.iter::<f32>().collect();
        let own = |(row, &options): (usize, &usize)| &padded[row * columns..][..options];
        self.options.iter().enumerate().flat_map(own).copied().collect()
    }

    /// One step of Adam against `gradient`.
    pub(super) fn descend(&mut self, gradient: &[f32], learning_rate: f32) {
        self.steps = self.steps.saturating_add(1);
        let unbias1 = 1.0 - BETA1.powi(self.steps);
        let unbias2 = 1.0 - BETA2.powi(self.steps);
        let moments = self.mean.iter_mut().zip(&mut self.variance);
        for ((logit, (mean, variance)), &g) in self.logits.iter_mut().zip(moments).zip(gradient) {
            *mean = BETA1 * *mean + (1.0 - BETA1) * g;
            *variance = BETA2 * *variance + (1.0 - BETA2) * g * g;
            *logit -= learning_rate * (*mean / unbias1) / ((*variance / unbias2).sqrt() + EPSILON);
        }
    }

    /// The logits of each choice.
    fn choices(&self) -> impl Iterator<Item = &[f32]> {
        let mut rest = self.logits.as_slice();
        self.options.iter().map(move |&options| {
            let (mine, others) = rest.split_at(options);
            rest = others;
            mine
        })
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
    // Rounding may leave a rest behind the last option.
    index.min(logits.len() - 1) as u16
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{medium_space, rng};
    use super::*;

    /// A policy away from the uniform one, over choices of one to several options.
    fn uneven() -> (Space, Policy) {
        let space = medium_space();
        let mut policy = Policy::uniform(&space);
        for (i, logit) in policy.logits.iter_mut().enumerate() {
            *logit = ((i * 37 % 19) as f32 - 9.0) / 6.0;
        }
        (space, policy)
    }

    impl Policy {
        /// Natural logarithm of the odds that the policy draws `genotype`.
        pub(in super::super) fn log_probability(&self, genotype: &Genotype) -> f64 {
            let picks = self.choices().zip(genotype.indices());
            picks.map(|(logits, &index)| softmax(logits)[usize::from(index)].ln()).sum()
        }

        /// Sum of the entropies of all choices, nats.
        fn entropy(&self) -> f64 {
            self.choices().flat_map(softmax).map(|p| -p * p.ln()).sum()
        }
    }

    fn loss(policy: &Policy, genotype: &Genotype, advantage: f64, entropy: f64) -> f64 {
        -advantage * policy.log_probability(genotype) - entropy * policy.entropy()
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (space, policy) = uneven();
        let genotype = policy.sample(&space, &mut rng(3));
        let gradient = policy.gradient(&genotype, 0.7, 0.3);
        let step = 1e-2;
        for (i, &g) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut moved = policy.clone();
                moved.logits[i] += by;
                (f64::from(moved.logits[i]), loss(&moved, &genotype, 0.7, 0.3))
            };
            let ((x1, up), (x0, down)) = (moved(step), moved(-step));
            let expected = (up - down) / (x1 - x0);
            assert!((f64::from(g) - expected).abs() < 1e-4, "logit {i}: {g} against {expected}");
        }
    }

    #[test]
    fn the_gradient_is_the_closed_form() {
        let (space, policy) = uneven();
        let genotype = policy.sample(&space, &mut rng(5));
        for (advantage, entropy) in [(1.0, 0.0), (-0.5, 0.0), (0.0, 1.0), (0.4, 0.02)] {
            let gradient = policy.gradient(&genotype, advantage, entropy);
            let mut expected = Vec::new();
            for (logits, &index) in policy.choices().zip(genotype.indices()) {
                let p = softmax(logits);
                let h: f64 = -p.iter().map(|p| p * p.ln()).sum::<f64>();
                expected.extend(p.iter().enumerate().map(|(i, p)| {
                    let taken = f64::from(u8::from(i == usize::from(index)));
                    f64::from(advantage) * (p - taken) + f64::from(entropy) * p * (p.ln() + h)
                }));
            }
            assert_eq!(gradient.len(), expected.len());
            for (g, e) in gradient.iter().zip(&expected) {
                assert!((f64::from(*g) - e).abs() < 1e-5, "{g} against {e}");
            }
        }
    }

    #[test]
    fn gradients_and_steps_repeat_to_the_bit() {
        let (space, policy) = uneven();
        let run = || {
            let mut policy = policy.clone();
            for n in 0..20 {
                let genotype = policy.sample(&space, &mut rng(n));
                let gradient = policy.gradient(&genotype, 0.3, 0.01);
                policy.descend(&gradient, 0.1);
            }
            policy.logits.iter().map(|l| l.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn the_first_step_of_adam_is_the_learning_rate_against_the_sign() {
        let (_, mut policy) = uneven();
        let before = policy.logits.clone();
        let gradient: Vec<f32> =
            (0..before.len()).map(|i| if i % 2 == 0 { 0.5 } else { -20.0 }).collect();
        policy.descend(&gradient, 0.1);
        for (i, (after, before)) in policy.logits.iter().zip(&before).enumerate() {
            let expected = if i % 2 == 0 { -0.1 } else { 0.1 };
            assert!((after - before - expected).abs() < 1e-5);
        }
    }

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
}
