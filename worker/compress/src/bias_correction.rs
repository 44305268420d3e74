//! Bias correction: a pass that changed a network, such as pruning or quantization, also moved the
//! mean of what its layers compute. The biases move it back (Nagel et al. 2019, "Data-free
//! quantization through weight equalization and bias correction", here with examples). It changes
//! nothing else.

use std::ops::ControlFlow;

use edgesmith_graph::{Evaluator, Graph, ParameterId, Quantization, Role, ValueId, Weights};

use crate::levels::{Levels, rounded};
use crate::walk::Walk;

/// The weights of a changed network with other biases: layer by layer, each channel of the layer's
/// output gets the mean over `examples` that it has in the original. A layer sees the inputs that
/// the corrected layers before it compute. Layers without a bias stay as they are, and so do layers
/// that share theirs.
///
/// `original` and `changed` have the same nodes, and `kept` says which channels of a value of the
/// original the changed network has, ascending. An example is the numbers of the only input.
/// `pause` is called before each node and example; `None` if it breaks.
///
/// # Panics
/// If the weights do not fit their graphs, or an example does not have the size of the input.
pub fn correct_biases<'k>(
    original: (&Graph, &Weights),
    changed: (&Graph, &Weights),
    kept: impl Fn(ValueId) -> &'k [u32],
    examples: &[Vec<f32>],
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Option<Weights> {
    correct(original, changed, kept, |_, _| (), examples, pause)
}

/// The weights `changed` of a folded network ([`crate::fold()`]) with the biases with which its
/// layers keep the means that they have with the weights `original`, when weights and values are
/// rounded as `quantization` says. Only biases change, and stay real. `changed` may be `original`,
/// or what a pass that chooses the rounding made of it.
///
/// It holds the values of two networks for all examples ([`crate::held_numbers`]). `pause` is
/// called before each node and example; `None` if it breaks.
///
/// # Panics
/// If the weights or `quantization` do not fit `graph`, or an example does not have the size of the
/// only input.
pub fn correct_quantized(
    graph: &Graph,
    original: &Weights,
    changed: &Weights,
    quantization: &Quantization,
    examples: &[Vec<f32>],
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Option<Weights> {
    let levels = Levels::of(graph, quantization);
    let held = |value, numbers: &mut [f32]| levels.round(value, numbers);
    let most = graph.values().map(|(_, value)| value.shape.channels()).max().unwrap_or(0);
    let channels: Vec<u32> = (0..most).collect();
    let all = |value| &channels[..graph.shape(value).channels() as usize];
    let rounded = rounded(graph, changed, quantization);
    let mut weights = correct((graph, original), (graph, &rounded), all, held, examples, pause)?;
    // Other layers keep the numbers that were rounded here.
    for (id, parameter) in graph.parameters().filter(|(_, p)| p.role != Role::Bias) {
        let array = changed.of(graph, id).clone();
        weights.arrays.insert(parameter.name.to_string(), array);
    }
    Some(weights)
}

/// As [`correct_biases`]; `held` makes of the numbers of a value of the changed network those that
/// it is held in.
pub(crate) fn correct<'k>(
    original: (&Graph, &Weights),
    changed: (&Graph, &Weights),
    kept: impl Fn(ValueId) -> &'k [u32],
    held: impl Fn(ValueId, &mut [f32]),
    examples: &[Vec<f32>],
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Option<Weights> {
    let (graph, mut weights) = (changed.0, changed.1.clone());
    let before = Evaluator::<f32>::new(original.0, original.1);
    let mut after = Evaluator::<f32>::new(graph, &weights);
    let mut readers = vec![0; graph.parameters().len()];
    for id in graph.nodes().flat_map(|(_, node)| &node.parameters) {
        readers[id.index()] += 1;
    }
    let mut walk = Walk::new(graph, examples);
    for input in graph.inputs() {
        walk.new.iter_mut().for_each(|values| held(input, &mut values[input.index()]));
    }
    for (id, node) in graph.nodes() {
        for (old, new) in walk.old.iter_mut().zip(&mut walk.new) {
            if pause().is_break() {
                return None;
            }
            old.push(before.node(id, old));
            new.push(after.node(id, new));
        }
        let output = node.output.index();
        let is_own_bias = |id: &&ParameterId| {
            graph.parameter(**id).role == Role::Bias && readers[id.index()] == 1
        };
        let bias = node.parameters.iter().find(is_own_bias);
        if let Some(&bias) = bias {
            let channels = graph.shape(node.output).channels() as usize;
            let was = means(&walk.old, output, original.0.shape(node.output).channels() as usize);
            let is = means(&walk.new, output, channels);
            let moved: Vec<f32> = kept(node.output)
                .iter()
                .zip(&is)
                .map(|(&channel, is)| (was[channel as usize] - is) as f32)
                .collect();
            let numbers = after.parameter_mut(bias);
            numbers.iter_mut().zip(&moved).for_each(|(number, moved)| *number += moved);
            let name = graph.parameter(bias).name.to_string();
            weights.arrays.get_mut(&name).expect("they fit").data = numbers.to_vec();
            for values in &mut walk.new {
                let positions = values[output].len() / channels;
                for (channel, moved) in values[output].chunks_exact_mut(positions).zip(&moved) {
                    channel.iter_mut().for_each(|number| *number += moved);
                }
            }
        }
        walk.new.iter_mut().for_each(|values| held(node.output, &mut values[output]));
        walk.forget(id, node);
    }
    Some(weights)
}

/// The mean of each channel of a value over all examples and positions.
fn means(examples: &[Vec<Vec<f32>>], value: usize, channels: usize) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    let mut count = 0;
    for values in examples {
        let positions = values[value].len() / channels;
        count += positions;
        for (sum, channel) in sums.iter_mut().zip(values[value].chunks_exact(positions)) {
            *sum += channel.iter().map(|&number| f64::from(number)).sum::<f64>();
        }
    }
    sums.iter().map(|sum| sum / count.max(1) as f64).collect()
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{Channels, Cut, GraphBuilder, Linear, Place, Shape};
    use edgesmith_search_space::{Pruning, pruning};
    use edgesmith_testing::{arbitrary_graph, random_image, random_weights};
    use proptest::prelude::*;

    use super::*;
    use crate::{Calibration, Scheme, cut_least, fold};

    fn go_on() -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Each value of a network for each example, by the plain evaluator.
    fn all(graph: &Graph, weights: &Weights, examples: &[Vec<f32>]) -> Vec<Vec<Vec<f32>>> {
        let evaluator = Evaluator::<f32>::new(graph, weights);
        examples.iter().map(|example| evaluator.run(vec![example.clone()])).collect()
    }

    fn pruned(graph: &Graph, weights: &Weights) -> Cut {
        let half = Pruning::of_stages([0.5; 4]);
        cut_least(graph, weights, |group| pruning::kept(graph, group, &half).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn layers_keep_the_means_of_the_original(graph in arbitrary_graph(), seed: u64) {
            let (graph, weights) = fold(&graph, &random_weights(&graph, seed));
            let cut = pruned(&graph, &weights);
            let slim = cut.weights(&weights);
            let examples: Vec<_> = (0..5).map(|i| random_image(&graph, seed ^ i)).collect();
            let corrected = correct_biases(
                (&graph, &weights),
                (&cut.graph, &slim),
                |value| cut.kept(value),
                &examples,
                &mut go_on,
            );
            let corrected = corrected.unwrap();
            prop_assert_eq!(corrected.check(&cut.graph), Ok(()));
            let (old, new) =
                (all(&graph, &weights, &examples), all(&cut.graph, &corrected, &examples));
            for (_, node) in cut.graph.nodes() {
                let role = |role| node.parameters.iter().any(|id| cut.graph.parameter(*id).role == role);
                if !role(Role::Bias) {
                    continue;
                }
                let (output, shape) = (node.output, cut.graph.shape(node.output));
                let was = means(&old, output.index(), graph.shape(output).channels() as usize);
                let is = means(&new, output.index(), shape.channels() as usize);
                for (&channel, is) in cut.kept(output).iter().zip(&is) {
                    let was = was[channel as usize];
                    let scale = was.abs().max(1.0);
                    prop_assert!((was - is).abs() < 1e-3 * scale, "{was} {is}");
                }
            }
            // Only biases changed.
            for (_, parameter) in cut.graph.parameters() {
                let name = &*parameter.name;
                if parameter.role != Role::Bias {
                    prop_assert_eq!(&corrected.arrays[name], &slim.arrays[name]);
                }
            }
        }
    }

    #[test]
    fn a_bias_that_two_layers_share_stays() {
        let mut b = GraphBuilder::new();
        let x = b.input("x", Shape::new(2, &[]).unwrap()).unwrap();
        let bias = b.parameter("b", &[2], Role::Bias).unwrap();
        let v = b.parameter("v", &[2, 2], Role::Weight).unwrap();
        let w = b.parameter("w", &[2, 2], Role::Weight).unwrap();
        let first = b.node("first", Linear, &[x], &[v, bias], Place::default()).unwrap();
        let second = b.node("second", Linear, &[first], &[w, bias], Place::default()).unwrap();
        let graph = b.finish(&[second]).unwrap();
        let (weights, moved) = (random_weights(&graph, 1), random_weights(&graph, 2));
        let cut = graph.clone().without(&graph.channels(), []).unwrap();
        let examples = [vec![1.0, 2.0]];
        let both = ((&graph, &weights), (&cut.graph, &moved));
        let same = correct_biases(both.0, both.1, |v| cut.kept(v), &examples, &mut go_on);
        assert_eq!(same, Some(moved));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn quantized_layers_keep_their_means(graph in arbitrary_graph(), seed: u64) {
            let (graph, weights) = fold(&graph, &random_weights(&graph, seed));
            let examples: Vec<_> = (0..5).map(|i| random_image(&graph, seed ^ i)).collect();
            let mut calibration = Calibration::new(&graph, &weights);
            examples.iter().for_each(|example| calibration.observe(example.clone()).unwrap());
            let mut quantization = calibration.finish((-1.5, 1.5), &Scheme::default()).unwrap();
            // So few levels that much is lost.
            for (id, _) in graph.parameters() {
                let Some(scales) = quantization.parameter(id) else { continue };
                let scales = scales.iter().map(|scale| scale * 30.0).collect();
                quantization.set_parameter(id, scales);
            }
            let both = (&weights, &weights);
            let corrected =
                correct_quantized(&graph, both.0, both.1, &quantization, &examples, &mut go_on);
            let corrected = corrected.unwrap();
            let levels = Levels::of(&graph, &quantization);
            let small = rounded(&graph, &corrected, &quantization);
            let small = Evaluator::<f32>::new(&graph, &small);
            // By example, by value, before it is rounded.
            let new: Vec<Vec<Vec<f32>>> = examples.iter().map(|example| {
                let (mut before, mut held) = (vec![example.clone()], vec![example.clone()]);
                levels.round(graph.inputs().next().unwrap(), &mut held[0]);
                for (id, node) in graph.nodes() {
                    let mut value = small.node(id, &held);
                    before.push(value.clone());
                    levels.round(node.output, &mut value);
                    held.push(value);
                }
                before
            }).collect();
            let old = all(&graph, &weights, &examples);
            for (_, node) in graph.nodes().filter(|(_, node)| graph.macs(node) > 0) {
                let channels = graph.shape(node.output).channels() as usize;
                let was = means(&old, node.output.index(), channels);
                let is = means(&new, node.output.index(), channels);
                for (was, is) in was.iter().zip(is) {
                    // Added to the sum or to the bias of a layer, the correction differs in the
                    // last bit, and a value in the middle of two levels may become the other one.
                    prop_assert!((was - is).abs() < 2e-2 * was.abs().max(1.0), "{was} {is}");
                }
            }
            for (_, parameter) in graph.parameters() {
                let name = &*parameter.name;
                let same = corrected.arrays[name] == weights.arrays[name];
                prop_assert!(same || parameter.role == Role::Bias);
            }
        }
    }

    #[test]
    fn what_did_not_change_is_not_corrected_and_a_stop_is_heard() {
        let graph = edgesmith_testing::residual_graph();
        let (graph, weights) = fold(&graph, &random_weights(&graph, 4));
        let channels: Channels = graph.channels();
        let cut = graph.clone().without(&channels, []).unwrap();
        let examples = [random_image(&graph, 1)];
        let both = ((&graph, &weights), (&cut.graph, &weights));
        let same = correct_biases(both.0, both.1, |v| cut.kept(v), &examples, &mut go_on);
        assert_eq!(same.as_ref(), Some(&weights));
        let stop = &mut || ControlFlow::Break(());
        assert_eq!(correct_biases(both.0, both.1, |v| cut.kept(v), &examples, stop), None);
    }
}
