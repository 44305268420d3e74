//! Fresh weights for a network.
//!
//! Randomness comes only from the seed, never from burn's global generator, so that trainings on
//! several threads do not affect each other.

use edgesmith_graph::{Array, Graph, Op, Role, Weights};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};

/// Standard deviation of a convolution's fresh weights, times the square root of its fan-in. Batch
/// normalisation cancels any common factor of a filter, so in training the scale only decides how
/// far a step turns the filter: the same step turns a smaller filter farther, and the gradient also
/// grows as the filter shrinks (van Laarhoven 2017, *L2 regularization versus batch and weight
/// normalization*). Steps are at right angles to the filter and so make it longer: small filters
/// learn fast at first and grow. docs/benchmarks.md has measurements of larger scales.
const SCALE: f64 = 0.1;

/// Fresh weights. Convolutions are normal with standard deviation `0.1 / sqrt(fan_in)`, which is
/// small because batch normalisation follows all of them. Batch normalisation starts as the
/// identity. Linear layers are uniform in `±1/sqrt(inputs)`. Biases are zero.
pub fn fresh_weights(graph: &Graph, seed: [u8; 32]) -> Weights {
    let mut rng = ChaCha8Rng::from_seed(seed);
    let mut weights = Weights::default();
    for (_, node) in graph.nodes() {
        for &id in &node.parameters {
            let parameter = graph.parameter(id);
            let shape = parameter.sizes();
            let (count, fan_in) = (shape.iter().product(), shape[1..].iter().product::<usize>());
            let scale = 1.0 / (fan_in as f64).sqrt();
            let data = match parameter.role {
                Role::Weight if matches!(node.op, Op::Linear(_)) => {
                    let uniform = Uniform::new(-scale, scale).expect("a positive bound");
                    (0..count).map(|_| uniform.sample(&mut rng) as f32).collect()
                }
                Role::Weight => {
                    let normal = Normal::new(0.0, SCALE * scale).expect("a finite deviation");
                    (0..count).map(|_| normal.sample(&mut rng) as f32).collect()
                }
                Role::Scale | Role::Variance => vec![1.0; count],
                Role::Bias | Role::Shift | Role::Mean => vec![0.0; count],
            };
            weights.arrays.insert(parameter.name.to_string(), Array { shape, data });
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::super::Network;
    use super::*;
    use crate::tests::sizes;
    use edgesmith_testing::{conv_graph, residual_graph, scale_filters};

    #[test]
    fn fresh_weights_fit_their_plan_and_follow_the_seed() {
        for graph in [conv_graph(), residual_graph()] {
            let weights = fresh_weights(&graph, [1; 32]);
            assert_eq!(weights.check(&graph), Ok(()));
            assert_eq!(weights, fresh_weights(&graph, [1; 32]));
            assert_ne!(weights, fresh_weights(&graph, [2; 32]));
        }
    }

    #[test]
    fn the_deviation_of_convolutions_follows_their_fan_in() {
        let graphs =
            [(conv_graph(), "stage2.block1.conv"), (residual_graph(), "stage1.block1.depthwise")];
        for (graph, layer) in graphs {
            let weights = fresh_weights(&graph, [7; 32]);
            let array = weights.get(layer, "weight");
            let [_, inputs, kernel, _] = array.shape[..] else { panic!("four dimensions") };
            let squares = array.data.iter().map(|v| f64::from(v * v));
            let deviation = (squares.sum::<f64>() / array.data.len() as f64).sqrt();
            let expected = SCALE / ((inputs * kernel * kernel) as f64).sqrt();
            assert!((deviation / expected - 1.0).abs() < 0.2, "{layer}: {deviation}, {expected}");
        }
    }

    /// The small scale relies on this: a layer without normalisation would need another scale.
    #[test]
    fn the_scale_of_convolutions_does_not_change_outputs_in_training() {
        for graph in [conv_graph(), residual_graph()] {
            let small = fresh_weights(&graph, [3; 32]);
            let mut large = small.clone();
            scale_filters(&mut large, 14.0);
            assert_ne!(small, large);
            let shape = sizes(&graph, 5);
            let pixels =
                (0..shape.iter().product()).map(|i: usize| (i * i % 97) as f32 / 48.0 - 1.0);
            let images = TensorData::new(pixels.collect::<Vec<f32>>(), shape);
            let [small, large] = [small, large].map(|weights| {
                let device = Device::flex().autodiff();
                let network = Network::new(&graph, &weights, &device);
                let logits = network.forward(Tensor::from_data(images.clone(), &device));
                logits.inner().into_data().try_into_vec::<f32>().unwrap()
            });
            for (small, large) in small.iter().zip(&large) {
                assert!((small - large).abs() < 0.02 * large.abs().max(1.0), "{small} {large}");
            }
        }
    }
}
