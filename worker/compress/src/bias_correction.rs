//! Bias correction: a pass that changed a network, such as pruning, also moved the mean of what its
//! layers compute. The biases move it back (Nagel et al. 2019, "Data-free quantization through
//! weight equalization and bias correction", here with examples). It changes nothing else.

use std::ops::ControlFlow;

use edgesmith_graph::{Evaluator, Graph, NodeId, ParameterId, Role, ValueId, Weights};

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
    let (graph, mut weights) = (changed.0, changed.1.clone());
    let before = Evaluator::<f32>::new(original.0, original.1);
    let mut after = Evaluator::<f32>::new(graph, &weights);
    let last_reader = last_readers(graph);
    let mut readers = vec![0; graph.parameters().len()];
    for id in graph.nodes().flat_map(|(_, node)| &node.parameters) {
        readers[id.index()] += 1;
    }
    // By example, by value. A value that nothing reads later is empty.
    let values = || examples.iter().map(|example| vec![example.clone()]).collect::<Vec<_>>();
    let (mut old, mut new) = (values(), values());
    for (id, node) in graph.nodes() {
        for (old, new) in old.iter_mut().zip(&mut new) {
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
            let was = means(&old, output, original.0.shape(node.output).channels() as usize);
            let is = means(&new, output, channels);
            let moved: Vec<f32> = kept(node.output)
                .iter()
                .zip(&is)
                .map(|(&channel, is)| (was[channel as usize] - is) as f32)
                .collect();
            let numbers = after.parameter_mut(bias);
            numbers.iter_mut().zip(&moved).for_each(|(number, moved)| *number += moved);
            let name = graph.parameter(bias).name.to_string();
            weights.arrays.get_mut(&name).expect("they fit").data = numbers.to_vec();
            for values in &mut new {
                let positions = values[output].len() / channels;
                for (channel, moved) in values[output].chunks_exact_mut(positions).zip(&moved) {
                    channel.iter_mut().for_each(|number| *number += moved);
                }
            }
        }
        for input in node.inputs.iter().filter(|input| last_reader[input.index()] == Some(id)) {
            for values in old.iter_mut().chain(&mut new) {
                values[input.index()] = Vec::new();
            }
        }
    }
    Some(weights)
}

/// The node that reads each value last; `None` if none does.
fn last_readers(graph: &Graph) -> Vec<Option<NodeId>> {
    graph.readers().iter().map(|readers| readers.last().copied()).collect()
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
    use edgesmith_search_space::pruning;
    use edgesmith_testing::{arbitrary_graph, random_image, random_weights};
    use proptest::prelude::*;

    use super::*;
    use crate::{cut_least, fold};

    fn go_on() -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Each value of a network for each example, by the plain evaluator.
    fn all(graph: &Graph, weights: &Weights, examples: &[Vec<f32>]) -> Vec<Vec<Vec<f32>>> {
        let evaluator = Evaluator::<f32>::new(graph, weights);
        examples.iter().map(|example| evaluator.run(vec![example.clone()])).collect()
    }

    fn pruned(graph: &Graph, weights: &Weights) -> Cut {
        cut_least(graph, weights, |group| pruning::kept(graph, group, &[0.5; 4]))
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
