//! How much a channel contributes to what the layers that read it compute.

use edgesmith_graph::{ChannelId, Channels, Evaluator, Graph, Role, Weights};

use super::{ImportanceError, add_shares, values};
use crate::fold::Folded;

/// Observes on examples how large channels are, and weighs them by the layers that read them.
///
/// For a convolution or linear layer that reads a channel, it is the L2 norm of the folded weights
/// that multiply the channel, times the root of the channel's mean square. Where a layer reads a
/// channel at several indices, as after flattening, the squares of the products are added. A
/// depthwise convolution passes its channels on and does not count. A channel that no such layer
/// reads gets 0.
#[derive(Debug)]
pub struct Influence<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    evaluator: Evaluator<'a, f32>,
    /// By value, and by index of its channels: the sum of squares over examples and positions.
    squares: Vec<Vec<f64>>,
    examples: u32,
}

impl<'a> Influence<'a> {
    /// A network with one input.
    ///
    /// # Panics
    /// If `weights` do not fit `graph`.
    pub fn new(graph: &'a Graph, weights: &'a Weights) -> Self {
        let squares = graph.values().map(|(_, value)| vec![0.0; value.shape.channels() as usize]);
        let (squares, evaluator) = (squares.collect(), Evaluator::new(graph, weights));
        Self { graph, weights, evaluator, squares, examples: 0 }
    }

    /// Observes one example: the numbers of the network's input.
    ///
    /// # Errors
    /// If it has the wrong size, or the network's values on it are not finite.
    pub fn observe(&mut self, example: Vec<f32>) -> Result<(), ImportanceError> {
        let values = values(self.graph, &self.evaluator, example)?;
        for (sums, numbers) in self.squares.iter_mut().zip(&values) {
            let positions = numbers.len() / sums.len();
            for (sum, channel) in sums.iter_mut().zip(numbers.chunks_exact(positions)) {
                *sum += channel.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>();
            }
        }
        self.examples += 1;
        Ok(())
    }

    /// The importance of each channel.
    ///
    /// # Errors
    /// If there were no examples.
    pub fn finish(&self, channels: &Channels) -> Result<Vec<f64>, ImportanceError> {
        if self.examples == 0 {
            return Err(ImportanceError::NoExamples);
        }
        let Self { graph, weights, .. } = self;
        let mut importance = vec![0.0; channels.count()];
        let normalizations = graph.absorbed_normalizations();
        for (id, node) in graph.nodes() {
            let Some(&weight) = node.parameters.first() else { continue };
            let mixes = channels.of_parameter(weight, 1).is_some();
            if graph.parameter(weight).role != Role::Weight || !mixes {
                continue;
            }
            let normalization = normalizations[id.index()].map(|id| graph.node(id));
            let folded = Folded::of(graph, weights, node, normalization).weight;
            let input = node.inputs[0];
            let read = channels.of_value(input);
            let [filters, per_part] =
                [0, 1].map(|axis| graph.parameter(weight).shape[axis] as usize);
            // Indices of the input that filters of one part of a grouped convolution read.
            let filters_of_part = filters / (read.len() / per_part);
            let taps = folded.len() / (filters * per_part);
            let positions = graph.shape(input).positions() as f64 * f64::from(self.examples);
            // In the order in which the channels first come up.
            let mut order: Vec<ChannelId> = Vec::new();
            let mut energy: Vec<f64> = vec![0.0; channels.count()];
            let mut seen = vec![false; channels.count()];
            for (index, channel) in read.iter().enumerate() {
                let first = index / per_part * filters_of_part;
                let norm: f64 = (first..first + filters_of_part)
                    .flat_map(|filter| {
                        let start = (filter * per_part + index % per_part) * taps;
                        &folded[start..start + taps]
                    })
                    .map(|w| f64::from(*w).powi(2))
                    .sum();
                energy[channel.index()] += norm * self.squares[input.index()][index] / positions;
                if !std::mem::replace(&mut seen[channel.index()], true) {
                    order.push(*channel);
                }
            }
            let amounts: Vec<f64> = order.iter().map(|c| energy[c.index()].sqrt()).collect();
            add_shares(&mut importance, &order, &amounts);
        }
        Ok(importance)
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{Conv, Flatten, GraphBuilder, Groups, Linear, Place, Shape};
    use edgesmith_testing::{conv_graph, random_image, random_weights};

    use super::*;

    /// By hand: a linear layer after a flatten, and a grouped convolution.
    #[test]
    fn weights_multiply_the_size_of_what_they_read() {
        let mut b = GraphBuilder::new();
        let x = b.input("x", Shape::new(1, &[1, 2]).unwrap()).unwrap();
        let v = b.parameter("a.weight", &[4, 1, 1, 1], Role::Weight).unwrap();
        let a = b.node("a", Conv::dense(1, 1), &[x], &[v], Place::default()).unwrap();
        let w = b.parameter("b.weight", &[4, 2, 1, 1], Role::Weight).unwrap();
        let grouped = Conv { groups: Groups::Equal(2), ..Conv::dense(1, 1) };
        let c = b.node("b", grouped, &[a], &[w], Place::default()).unwrap();
        let flat = b.node("flat", Flatten, &[c], &[], Place::default()).unwrap();
        let u = b.parameter("c.weight", &[1, 8], Role::Weight).unwrap();
        let d = b.node("c", Linear, &[flat], &[u], Place::default()).unwrap();
        let graph = b.finish(&[d]).unwrap();
        let mut weights = Weights::default();
        weights.set("a", "weight", vec![4, 1, 1, 1], vec![1.0, 2.0, -3.0, 4.0]);
        weights.set("b", "weight", vec![4, 2, 1, 1], vec![1.0, 0.0, 0.0, 2.0, 0.0, 0.5, 1.0, 0.5]);
        weights.set("c", "weight", vec![1, 8], vec![1.0, 1.0, 2.0, 0.0, 0.0, 3.0, 1.0, 1.0]);
        let mut influence = Influence::new(&graph, &weights);
        influence.observe(vec![1.0, 3.0]).unwrap();
        influence.observe(vec![-3.0, 1.0]).unwrap();
        let channels = graph.channels();
        let importance = influence.finish(&channels).unwrap();
        let of = |name: &str| -> Vec<f64> {
            let ids = channels.of_value(graph.value_named(name).unwrap());
            ids.iter().map(|id| importance[id.index()]).collect()
        };
        // The mean square of x is 5; those of the channels of `a` are 5, 20, 45 and 80. Channels 0
        // and 2 stay together, and so do 1 and 3.
        let (even, odd) = (5f64 * 1.0 + 45.0 * 1.0, 20f64 * 4.0 + 80.0 * 0.5);
        let total = even.sqrt() + odd.sqrt();
        let close = |got: &[f64], expected: &[f64]| {
            let mut pairs = got.iter().zip(expected);
            assert!(pairs.all(|(a, b)| (a - b).abs() < 1e-9), "{got:?} {expected:?}");
        };
        close(&of("a"), &[even, odd, even, odd].map(|energy| energy.sqrt() / total));
        // The channels of `b` are x times 1, 4, 2 and -1. Both positions of each are read apart,
        // and x has the mean square 5 at each.
        let squares = [1f64, 16.0, 4.0, 1.0];
        let read = [2f64, 4.0, 9.0, 2.0];
        let energy = |i: usize| 5.0 * squares[i] * read[i];
        let (even, odd) = (energy(0) + energy(2), energy(1) + energy(3));
        let total = even.sqrt() + odd.sqrt();
        close(&of("b"), &[even, odd, even, odd].map(|energy| energy.sqrt() / total));
    }

    #[test]
    fn it_follows_the_folded_weights_of_the_reader() {
        let graph = conv_graph();
        let mut weights = random_weights(&graph, 2);
        let run = |weights: &Weights| {
            let mut influence = Influence::new(&graph, weights);
            influence.observe(random_image(&graph, 1)).unwrap();
            influence.finish(&graph.channels()).unwrap()
        };
        let before = run(&weights);
        // All filters of the reader twice as large, and their normalisation half as large.
        let reader = "stage1.block1.conv";
        for (part, factor) in [("weight", 2.0), ("gamma", 0.5), ("mean", 2.0)] {
            let array = weights.arrays.get_mut(&format!("{reader}.{part}")).unwrap();
            array.data.iter_mut().for_each(|number| *number *= factor);
        }
        for (a, b) in before.iter().zip(run(&weights)) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }
}
