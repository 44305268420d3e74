//! Fresh weights for a network.
//!
//! Randomness comes only from the seed, never from burn's global generator, so that trainings on
//! several threads do not affect each other.

use edgesmith_graph::{Array, Graph, Op, Role, Weights};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};

/// Standard deviation of the fresh weights of a convolution that is normalised, times the square
/// root of its fan-in. Batch normalisation cancels any common factor of a filter, so in training
/// the scale only decides how far a step turns the filter: the same step turns a smaller filter
/// farther, and the gradient also grows as the filter shrinks (van Laarhoven 2017, *L2
/// regularization versus batch and weight normalization*). Steps are at right angles to the filter
/// and so make it longer: small filters learn fast at first and grow. docs/benchmarks.md has
/// measurements of larger scales.
const NORMALIZED: f64 = 0.1;

/// The same for a convolution that is not normalised. Half of what a ReLU reads becomes 0, so twice
/// the variance keeps values of the same size through many layers (He et al. 2015).
const PLAIN: f64 = std::f64::consts::SQRT_2;

/// Fresh weights. Convolutions are normal with standard deviation `0.1 / sqrt(fan_in)` if batch
/// normalisation cancels the scale, else `sqrt(2 / fan_in)`. Batch normalisation starts as the
/// identity, and so does layer normalisation after it has normalised. Linear layers are uniform in
/// `±1/sqrt(inputs)`. Biases are zero, and slopes of negative numbers a quarter (He et al. 2015).
/// Constants are left out, because they come with the network.
pub fn fresh_weights(graph: &Graph, seed: [u8; 32]) -> Weights {
    let mut rng = ChaCha8Rng::from_seed(seed);
    let mut weights = Weights::default();
    let normalized = graph.absorbed_normalizations();
    for (node_id, node) in graph.nodes() {
        for &id in &node.parameters {
            let parameter = graph.parameter(id);
            let name = parameter.name.to_string();
            // A parameter of several nodes is drawn once.
            if weights.arrays.contains_key(&name) {
                continue;
            }
            let shape = parameter.sizes();
            let (count, fan_in) = (shape.iter().product(), shape[1..].iter().product::<usize>());
            let scale = 1.0 / (fan_in as f64).sqrt();
            let data = match parameter.role {
                Role::Weight if matches!(node.op, Op::Linear(_)) => {
                    let uniform = Uniform::new(-scale, scale).expect("a positive bound");
                    (0..count).map(|_| uniform.sample(&mut rng) as f32).collect()
                }
                Role::Weight => {
                    let is_normalized = normalized[node_id.index()].is_some();
                    let factor = if is_normalized { NORMALIZED } else { PLAIN };
                    let normal = Normal::new(0.0, factor * scale).expect("a finite deviation");
                    (0..count).map(|_| normal.sample(&mut rng) as f32).collect()
                }
                Role::Scale | Role::Variance => vec![1.0; count],
                Role::Bias | Role::Shift | Role::Mean => vec![0.0; count],
                Role::Slope => vec![0.25; count],
                Role::Constant => continue,
            };
            weights.arrays.insert(name, Array { shape, data });
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use edgesmith_graph::{Add, Clip, Concat, Conv, Place};

    use super::super::Network;
    use super::super::tests::Net;
    use super::*;
    use crate::tests::sizes;
    use edgesmith_testing::{conv_graph, noise, residual_graph, scale_filters};

    #[test]
    fn fresh_weights_fit_their_network_and_follow_the_seed() {
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
            let expected = NORMALIZED / ((inputs * kernel * kernel) as f64).sqrt();
            assert!((deviation / expected - 1.0).abs() < 0.2, "{layer}: {deviation}, {expected}");
        }
    }

    /// The small scale of normalised convolutions relies on this.
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

    #[test]
    fn values_keep_their_size_through_convolutions_without_normalisation() {
        let (mut net, input) = Net::new(16, &[8, 8]);
        let mut value = input;
        for _ in 0..12 {
            value = net.conv(Conv::dense(3, 1), value, 16, &[3, 3], true).unwrap();
            value = net.op(Clip::RELU, &[value]);
        }
        let graph = net.finish(value);
        let weights = fresh_weights(&graph, [4; 32]);
        let device = Device::flex();
        let numbers = TensorData::new(noise(16 * 64, 1), [1, 16, 8, 8]);
        let network = Network::new(&graph, &weights, &device);
        let output = network.forward(Tensor::from_data(numbers, &device));
        let size = output.powi_scalar(2).mean().sqrt().into_scalar::<f32>();
        assert!((0.05..5.0).contains(&size), "{size}");
    }

    #[test]
    fn slopes_start_at_a_quarter_and_constants_are_left_out() {
        let (mut net, input) = Net::new(3, &[4, 4]);
        let active = net.prelu(input);
        let normalized = net.normalize_layer(&[0], active);
        let constant = net.constant(&[3]);
        let output = net.op(Add, &[normalized, constant]);
        let weights = fresh_weights(&net.finish(output), [4; 32]);
        let expected =
            [("n1.slope", vec![0.25; 3]), ("n2.scale", vec![1.0; 3]), ("n2.shift", vec![0.0; 3])];
        let arrays = weights.arrays.into_iter().map(|(name, array)| (name, array.data));
        assert!(arrays.eq(expected.map(|(name, data)| (name.to_owned(), data))));
    }

    #[test]
    fn a_parameter_of_two_nodes_is_drawn_once() {
        let (mut net, input) = Net::new(3, &[4, 4]);
        let weight = net.builder.parameter("weight", &[3, 3, 1, 1], Role::Weight).unwrap();
        let [first, second] = ["first", "second"].map(|name| {
            let conv = Conv::dense(1, 1);
            net.builder.node(name, conv, &[input], &[weight], Place::default()).unwrap()
        });
        let output = net.op(Concat::channels(), &[first, second]);
        let shared = fresh_weights(&net.finish(output), [4; 32]);
        let (mut net, input) = Net::new(3, &[4, 4]);
        let output = net.conv(Conv::dense(1, 1), input, 3, &[1, 1], false).unwrap();
        let alone = fresh_weights(&net.finish(output), [4; 32]);
        assert_eq!(shared.arrays["weight"], alone.arrays["n1.weight"]);
    }
}
