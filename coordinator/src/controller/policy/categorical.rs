//! A categorical policy over a space: independent logits for the options of each choice, and the
//! gradient of its REINFORCE loss by burn's automatic differentiation.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_search_space::{Genotype, Space};
use rand::{Rng, RngExt};

use super::{draw, softmax};

/// Logit of an option that a choice does not have: its probability is exactly 0.
const ABSENT: f32 = -1e9;

/// Logits of all options.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Categorical {
    /// Number of options of each choice.
    options: Vec<usize>,
    /// One choice after the other, in the order of [`Space::encode`].
    logits: Vec<f32>,
}

impl Categorical {
    /// Every option equally likely.
    pub(super) fn uniform(space: &Space) -> Self {
        Self {
            options: space.choices().iter().map(|c| c.options.len()).collect(),
            logits: vec![0.0; space.encoding_len()],
        }
    }

    /// All parameters.
    pub(super) fn parameters(&self) -> &[f32] {
        &self.logits
    }

    /// All parameters, mutable.
    pub(super) fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.logits
    }

    /// Natural logarithm of the probability that the policy draws `genotype`.
    pub(super) fn log_probability(&self, genotype: &Genotype) -> f64 {
        let picks = self.choices().zip(genotype.indices());
        picks.map(|(logits, &index)| softmax(logits)[usize::from(index)].ln()).sum()
    }

    /// Draws a genotype of the space that the policy was made for.
    pub(super) fn sample(&self, space: &Space, rng: &mut dyn Rng) -> Genotype {
        let indices = self.choices().map(|logits| draw(logits, rng.random())).collect();
        space.genotype(indices).expect("a policy's options are its space's")
    }

    /// As [`Policy::gradient`](super::Policy::gradient).
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

#[cfg(test)]
mod tests {
    use super::super::super::conformance::{medium_space, rng};
    use super::*;

    /// A policy that is not uniform, over choices of one to several options.
    fn uneven() -> (Space, Categorical) {
        let space = medium_space();
        let mut policy = Categorical::uniform(&space);
        for (i, logit) in policy.logits.iter_mut().enumerate() {
            *logit = ((i * 37 % 19) as f32 - 9.0) / 6.0;
        }
        (space, policy)
    }

    impl Categorical {
        /// Sum of the entropies of all choices, nats.
        fn entropy(&self) -> f64 {
            self.choices().flat_map(softmax).map(|p| -p * p.ln()).sum()
        }
    }

    fn loss(policy: &Categorical, genotype: &Genotype, advantage: f64, entropy: f64) -> f64 {
        -advantage * policy.log_probability(genotype) - entropy * policy.entropy()
    }

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
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
    fn the_gradient_agrees_with_the_closed_form() {
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
}
