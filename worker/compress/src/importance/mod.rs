//! How important each channel of a network is for pruning. One file per criterion. Each gives a
//! number per channel, by [`ChannelId::index`]; a larger one means more important. Numbers of two
//! criteria cannot be compared with each other.
//!
//! Criteria that read filters take them after folding batch normalisation. It removes the scale of
//! the raw weights, so these say almost nothing. A channel that several layers write gets the sum
//! over these layers. What a criterion gives within a layer counts as a share of the layer's total,
//! except where its file says otherwise. So each layer has the same influence at any scale of its
//! weights.
//!
//! It does not choose how many channels stay ([`crate::budget`] does) and removes none
//! ([`crate::cut_to`] does).

use edgesmith_graph::{ChannelId, Channels, Evaluator, Graph, NodeId, Role, Weights};

use crate::fold::Folded;

mod activity;
mod influence;
mod median;
mod norm;
mod scale;
mod taylor;

pub use activity::Activity;
pub use influence::Influence;
pub use median::geometric_median;
pub use norm::{l1_norm, l2_norm};
pub use scale::normalization_scale;
pub use taylor::taylor;

/// Why the importance of channels is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportanceError {
    /// Channels that could be removed have no batch normalisation. Most exports have it folded.
    #[error(
        "the channels of layer {layer:?} have no batch normalisation, so it has no scale that \
         could rank them; choose another importance"
    )]
    NoNormalization {
        /// The first layer that writes them.
        layer: String,
    },
    /// No example was observed.
    #[error("channels cannot be ranked by what they compute, because there are no examples")]
    NoExamples,
    /// An example does not have the size of the network's input.
    #[error("an example has {given} numbers, but the network reads {expected}")]
    ExampleSize {
        /// Numbers of the example.
        given: usize,
        /// Numbers of the network's input.
        expected: usize,
    },
    /// A layer computes NaN or infinite values.
    #[error("layer {layer:?} computes values that are not finite")]
    NonFinite {
        /// The layer's name.
        layer: String,
    },
}

/// The control: a number per channel from `draw`, which the caller makes of its own random stream.
/// It is called once per channel, in the order of their indices.
pub fn random(channels: &Channels, mut draw: impl FnMut() -> f64) -> Vec<f64> {
    (0..channels.count()).map(|_| draw()).collect()
}

/// For each convolution and linear layer, what `measure` gives for its folded filters, as shares of
/// the layer's total.
fn of_filters(
    graph: &Graph,
    channels: &Channels,
    weights: &Weights,
    measure: impl Fn(&[&[f32]]) -> Vec<f64>,
) -> Vec<f64> {
    let mut importance = vec![0.0; channels.count()];
    let normalizations = graph.absorbed_normalizations();
    for (id, filters) in writers(graph, channels) {
        let normalization = normalizations[id.index()].map(|id| graph.node(id));
        let weight = Folded::of(graph, weights, graph.node(id), normalization).weight;
        let rows: Vec<&[f32]> = weight.chunks_exact(weight.len() / filters.len()).collect();
        add_shares(&mut importance, filters, &measure(&rows));
    }
    importance
}

/// The convolutions and linear layers, and the channel that each of their filters writes.
fn writers<'a>(
    graph: &'a Graph,
    channels: &'a Channels,
) -> impl Iterator<Item = (NodeId, &'a [ChannelId])> {
    graph.nodes().filter_map(|(id, node)| {
        let weight = *node.parameters.first()?;
        if graph.parameter(weight).role != Role::Weight {
            return None;
        }
        Some((id, channels.of_parameter(weight, 0)?))
    })
}

/// Adds each amount as a share of their total. Nothing, if that is 0.
fn add_shares(importance: &mut [f64], channels: &[ChannelId], amounts: &[f64]) {
    let total: f64 = amounts.iter().sum();
    if total > 0.0 {
        for (channel, amount) in channels.iter().zip(amounts) {
            importance[channel.index()] += amount / total;
        }
    }
}

/// All values of a network on one example: the numbers of its only input.
fn values(
    graph: &Graph,
    evaluator: &Evaluator<f32>,
    example: Vec<f32>,
) -> Result<Vec<Vec<f32>>, ImportanceError> {
    let (given, expected) = (example.len(), graph.input().elements() as usize);
    if given != expected {
        return Err(ImportanceError::ExampleSize { given, expected });
    }
    let values = evaluator.run(vec![example]);
    for ((_, value), numbers) in graph.values().zip(&values) {
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(ImportanceError::NonFinite { layer: value.name.to_string() });
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use edgesmith_testing::{arbitrary_graph, conv_graph, random_weights};
    use proptest::prelude::*;

    use super::*;
    use crate::fold;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Exports are folded; their channels are ranked like those of the network that was
        /// trained.
        #[test]
        fn folding_changes_no_filter(graph in arbitrary_graph(), seed: u64) {
            let weights = random_weights(&graph, seed);
            let (folded, numbers) = fold(&graph, &weights);
            for measure in [l1_norm, l2_norm, geometric_median] {
                prop_assert_eq!(
                    measure(&graph, &graph.channels(), &weights),
                    measure(&folded, &folded.channels(), &numbers)
                );
            }
        }
    }

    #[test]
    fn random_numbers_are_those_drawn() {
        let channels = conv_graph().channels();
        let mut drawn = 0.0;
        let importance = random(&channels, || {
            drawn += 1.0;
            drawn
        });
        assert_eq!(importance.len(), channels.count());
        assert!(importance.iter().zip(1..).all(|(number, i)| *number == f64::from(i)));
    }

    #[test]
    fn examples_are_checked() {
        let graph = conv_graph();
        let mut weights = random_weights(&graph, 1);
        let mut activity = Activity::new(&graph, &weights);
        assert_eq!(
            activity.observe(vec![0.0; 63]).unwrap_err().to_string(),
            "an example has 63 numbers, but the network reads 64"
        );
        assert_eq!(activity.finish(&graph.channels()), Err(ImportanceError::NoExamples));
        assert_eq!(
            Influence::new(&graph, &weights).finish(&graph.channels()),
            Err(ImportanceError::NoExamples)
        );
        weights.arrays.get_mut("stem.weight").unwrap().data.fill(3e38);
        assert_eq!(
            Influence::new(&graph, &weights).observe(vec![255.0; 64]).unwrap_err().to_string(),
            "layer \"stem\" computes values that are not finite"
        );
    }
}
