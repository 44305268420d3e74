//! The norm of a filter (Li et al. 2017, "Pruning filters for efficient convnets").

use edgesmith_graph::{Channels, Graph, Weights};

use super::of_filters;

/// The L1 norm of the filters that write a channel.
///
/// # Panics
/// If `weights` do not fit `graph`.
pub fn l1_norm(graph: &Graph, channels: &Channels, weights: &Weights) -> Vec<f64> {
    of_filters(graph, channels, weights, |filters| {
        let norm = |filter: &&[f32]| filter.iter().map(|w| f64::from(w.abs())).sum();
        filters.iter().map(norm).collect()
    })
}

/// The L2 norm of the filters that write a channel.
///
/// # Panics
/// If `weights` do not fit `graph`.
pub fn l2_norm(graph: &Graph, channels: &Channels, weights: &Weights) -> Vec<f64> {
    of_filters(graph, channels, weights, |filters| {
        let norm = |filter: &&[f32]| filter.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
        filters.iter().map(|filter| norm(filter).sqrt()).collect()
    })
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::ChannelId;
    use edgesmith_testing::{arbitrary_graph, random_weights};
    use proptest::prelude::*;

    use super::*;
    use crate::fold;

    /// The sum over layers of the share that a channel's filter has of the layer's norms, channel
    /// by channel, from the network that is folded first.
    fn naive(
        graph: &Graph,
        weights: &Weights,
        channel: ChannelId,
        channels: &Channels,
        norm: fn(&[f32]) -> f64,
    ) -> f64 {
        let (graph, weights) = fold(graph, weights);
        let mut sum = 0.0;
        for (_, node) in graph.nodes() {
            let Some(&weight) = node.parameters.first() else { continue };
            let Some(rows) = channels.of_parameter(weight, 0) else { continue };
            let array = weights.of(&graph, weight);
            if array.shape.len() == 1 {
                continue;
            }
            let size = array.shape[1..].iter().product::<usize>();
            let filter = |row: usize| &array.data[row * size..(row + 1) * size];
            let mut total = 0.0;
            for row in 0..rows.len() {
                total += norm(filter(row));
            }
            for (row, of_row) in rows.iter().enumerate() {
                if *of_row == channel {
                    sum += norm(filter(row)) / total;
                }
            }
        }
        sum
    }

    fn sum_of_sizes(filter: &[f32]) -> f64 {
        let mut sum = 0.0;
        for weight in filter {
            sum += if *weight < 0.0 { -f64::from(*weight) } else { f64::from(*weight) };
        }
        sum
    }

    fn length(filter: &[f32]) -> f64 {
        filter.iter().fold(0.0f64, |length, weight| length.hypot(f64::from(*weight)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn norms_equal_those_of_plain_loops(graph in arbitrary_graph(), seed: u64) {
            let weights = random_weights(&graph, seed);
            // Those of the folded graph, whose parameters the loops read.
            let channels = fold(&graph, &weights).0.channels();
            let (l1, l2) = (
                l1_norm(&graph, &graph.channels(), &weights),
                l2_norm(&graph, &graph.channels(), &weights),
            );
            for channel in channels.groups().iter().flat_map(|group| group.channels.clone()) {
                let of = |norm| naive(&graph, &weights, channel, &channels, norm);
                // Networks pruned by it stay what they were, so this one is equal bit for bit.
                prop_assert_eq!(l1[channel.index()], of(sum_of_sizes));
                prop_assert!((l2[channel.index()] - of(length)).abs() < 1e-9);
            }
        }
    }
}
