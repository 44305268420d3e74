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

    /// As [`Policy::log_probability`](super::Policy::log_probability); `active` says which choices
    /// have an effect.
    pub(super) fn log_probability(&self, genotype: &Genotype, active: &[bool]) -> f64 {
        let picks = self.choices().zip(genotype.indices()).zip(active);
        let picks = picks.filter(|(_, active)| **active);
        picks.map(|((logits, &index), _)| softmax(logits)[usize::from(index)].ln()).sum()
    }

    /// Draws a genotype of the space that the policy was made for.
    pub(super) fn sample(&self, space: &Space, rng: &mut dyn Rng) -> Genotype {
        let indices = self.choices().map(|logits| draw(logits, rng.random())).collect();
        space.genotype(indices).expect("a policy's options are its space's")
    }

    /// As [`Policy::gradient`](super::Policy::gradient).
    pub(super) fn gradient(
        &self,
        genotype: &Genotype,
        active: &[bool],
        advantage: f32,
        entropy: f32,
    ) -> Vec<f32> {
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
        let mut padded: Vec<f32> = padded.iter::<f32>().collect();
        // Rows do not depend on each other.
        for (row, _) in active.iter().enumerate().filter(|(_, active)| !**active) {
            padded[row * columns..][..columns].fill(0.0);
        }
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
        /// Sum of the entropies of these choices, nats.
        fn entropy(&self, active: &[bool]) -> f64 {
            let choices = self.choices().zip(active).filter(|(_, active)| **active);
            choices.flat_map(|(logits, _)| softmax(logits)).map(|p| -p * p.ln()).sum()
        }
    }

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let (space, policy) = uneven();
        let genotype = policy.sample(&space, &mut rng(3));
        let active = space.active_in_order(&genotype);
        assert!(active.contains(&false));
        let gradient = policy.gradient(&genotype, &active, 0.7, 0.3);
        let loss = |policy: &Categorical| {
            -0.7 * policy.log_probability(&genotype, &active) - 0.3 * policy.entropy(&active)
        };
        let step = 1e-2;
        for (i, &g) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut moved = policy.clone();
                moved.logits[i] += by;
                (f64::from(moved.logits[i]), loss(&moved))
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
            let gradient =
                policy.gradient(&genotype, &space.active_in_order(&genotype), advantage, entropy);
            let mut expected = Vec::new();
            let picks =
                policy.choices().zip(genotype.indices()).zip(space.active_in_order(&genotype));
            for ((logits, &index), active) in picks {
                let p = softmax(logits);
                if !active {
                    expected.extend(p.iter().map(|_| 0.0));
                    continue;
                }
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
