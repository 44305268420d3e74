//! Structured channel pruning by L1 norm (Li et al. 2017, "Pruning filters for efficient
//! convnets"), with real reconstruction: the result is a smaller network with the same wiring, not
//! a mask. It does not choose how many channels to remove (the recipe does) and does not fine-tune.

use edgesmith_graph::{ChannelGroup, ChannelId, Channels, Cut, Graph, Role, Weights};

use crate::fold::Folded;

/// Removes the least important channels of each group, so that `kept(group)` of them stay. The
/// result computes the same as the original network with the removed channels set to zero.
///
/// A channel is removed from all layers that write it, because residual sums and depthwise
/// convolutions tie layers together; see [`importance`]. On ties the earlier channel is kept; kept
/// channels stay in order.
///
/// # Panics
/// If `weights` do not fit `graph`, or `kept` removes channels that are fixed or all channels of a
/// value.
pub fn prune(
    graph: &Graph,
    weights: &Weights,
    kept: impl Fn(&ChannelGroup) -> usize,
) -> (Graph, Weights) {
    let cut = cut_least(graph, weights, kept);
    let weights = cut.weights(weights);
    (cut.graph, weights)
}

/// The same, with what is left of each value.
///
/// # Panics
/// See [`prune`].
pub fn cut_least(graph: &Graph, weights: &Weights, kept: impl Fn(&ChannelGroup) -> usize) -> Cut {
    let channels = graph.channels();
    let importance = importance(graph, &channels, weights);
    let removed = channels.groups().iter().flat_map(|group| {
        let mut ranked = group.channels.clone();
        rank(&mut ranked, &importance);
        ranked.split_off(kept(group).min(ranked.len()))
    });
    graph.clone().without(&channels, removed).expect("every group that may lose channels keeps one")
}

/// Sorts channels from the most important to the least. On ties the earlier one comes first.
pub fn rank(channels: &mut [ChannelId], importance: &[f64]) {
    // The sort is stable.
    channels.sort_by(|a, b| importance[b.index()].total_cmp(&importance[a.index()]));
}

/// The importance of each channel, by [`ChannelId::index`]: a sum over the convolutions and linear
/// layers that write it, of the L1 norm of its filter as a share of the norms of all filters of
/// that layer. So each layer has the same influence at any scale of its weights. Norms are taken
/// after folding batch normalisation. It removes the scale of the raw weights, so their norms say
/// almost nothing.
///
/// # Panics
/// If `weights` do not fit `graph`.
pub fn importance(graph: &Graph, channels: &Channels, weights: &Weights) -> Vec<f64> {
    let mut importance = vec![0.0; channels.count()];
    let normalizations = graph.absorbed_normalizations();
    for (id, node) in graph.nodes() {
        let Some(&weight) = node.parameters.first() else { continue };
        let filters = match graph.parameter(weight).role {
            Role::Weight => channels.of_parameter(weight, 0),
            Role::Bias
            | Role::Scale
            | Role::Shift
            | Role::Mean
            | Role::Variance
            | Role::Slope
            | Role::Constant => None,
        };
        let Some(filters) = filters else { continue };
        let normalization = normalizations[id.index()].map(|id| graph.node(id));
        let weight = Folded::of(graph, weights, node, normalization).weight;
        let norms: Vec<f64> = weight
            .chunks_exact(weight.len() / filters.len())
            .map(|filter| filter.iter().map(|w| f64::from(w.abs())).sum())
            .collect();
        let total: f64 = norms.iter().sum();
        if total > 0.0 {
            for (channel, norm) in filters.iter().zip(&norms) {
                importance[channel.index()] += norm / total;
            }
        }
    }
    importance
}

#[cfg(test)]
mod tests {
    use edgesmith_search_space::{
        Activation, Architecture, DataShape, Operation, Skip, Stage, pruning,
    };
    use edgesmith_testing::{
        arbitrary_graph, assert_close, random_image, random_weights, reference,
    };
    use proptest::prelude::*;

    use super::*;

    fn pruned(graph: &Graph, weights: &Weights, ratios: &[f64]) -> (Graph, Weights) {
        prune(graph, weights, |group| pruning::kept(graph, group, ratios))
    }

    /// Sets the channels that are not kept to zero: filters, scale and shift of every layer that
    /// writes them.
    fn masked(graph: &Graph, weights: &Weights, ratios: &[f64]) -> Weights {
        let channels = graph.channels();
        let importance = importance(graph, &channels, weights);
        let mut removed = vec![false; channels.count()];
        for group in channels.groups() {
            let mut ranked = group.channels.clone();
            rank(&mut ranked, &importance);
            let kept = pruning::kept(graph, group, ratios);
            ranked[kept..].iter().for_each(|channel| removed[channel.index()] = true);
        }
        let mut masked = weights.clone();
        for (id, parameter) in graph.parameters() {
            if matches!(parameter.role, Role::Weight | Role::Scale | Role::Shift) {
                let array = masked.arrays.get_mut(&*parameter.name).unwrap();
                let rows = channels.of_parameter(id, 0).unwrap();
                let chunk = array.data.len() / rows.len();
                for (channel, values) in rows.iter().zip(array.data.chunks_exact_mut(chunk)) {
                    if removed[channel.index()] {
                        values.fill(0.0);
                    }
                }
            }
        }
        masked
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_pruned_network_equals_the_masked_one(
            graph in arbitrary_graph(),
            seed: u64,
            ratios in prop::collection::vec(0.0..0.95f64, 0..4),
        ) {
            let weights = random_weights(&graph, seed);
            let image = random_image(&graph, seed);
            let (slim_graph, slim) = pruned(&graph, &weights, &ratios);
            prop_assert_eq!(&slim_graph, &pruning::pruned(graph.clone(), &ratios));
            prop_assert_eq!(slim.check(&slim_graph), Ok(()));
            let expected = reference(&graph, &masked(&graph, &weights, &ratios), &image);
            assert_close(&reference(&slim_graph, &slim, &image), &expected, 1e-4);
        }

        #[test]
        fn ratio_zero_keeps_all_weights(graph in arbitrary_graph(), seed: u64) {
            let weights = random_weights(&graph, seed);
            prop_assert_eq!(pruned(&graph, &weights, &[0.0; 3]), (graph, weights));
        }
    }

    #[test]
    fn the_filters_of_largest_norm_stay_in_order() {
        let (graph, mut weights) = stem_and_conv();
        // Filters of one input channel and nine taps with norms in the ratio 3 : 9 : 1 : 6.
        let filters = [3.0f32, -9.0, 1.0, 6.0];
        let data = filters.iter().flat_map(|norm| [norm / 9.0; 9]).collect();
        weights.set("stem", "weight", vec![4, 1, 3, 3], data);
        weights.set("stem", "beta", vec![4], vec![0.1, 0.2, 0.3, 0.4]);
        let (slim_graph, slim) = pruned(&graph, &weights, &[0.5]);
        let stem = slim_graph.value_named("stem").unwrap();
        assert_eq!(slim_graph.shape(stem).channels(), 2);
        assert_eq!(slim.get("stem", "beta").data, [0.2, 0.4]);
    }

    #[test]
    fn norms_are_taken_after_folding_normalisation() {
        let (graph, mut weights) = stem_and_conv();
        weights.set("stem", "weight", vec![4, 1, 3, 3], vec![1.0; 36]);
        weights.set("stem", "gamma", vec![4], vec![1.0, -3.0, 1.0, 2.0]);
        weights.set("stem", "variance", vec![4], vec![0.01, 1.0, 4.0, 1.0]);
        weights.set("stem", "beta", vec![4], vec![0.1, 0.2, 0.3, 0.4]);
        let (_, slim) = pruned(&graph, &weights, &[0.5]);
        assert_eq!(slim.get("stem", "beta").data, [0.1, 0.2]);
    }

    #[test]
    fn every_layer_of_a_group_has_equal_influence_at_any_scale() {
        // The depthwise convolution shares the stem's group. Its weights are a thousand times
        // larger, but differ less between channels.
        let (graph, mut weights) = stem_and_depthwise();
        let rows = |norms: [f32; 2]| norms.iter().flat_map(|n| [n / 9.0; 9]).collect::<Vec<_>>();
        weights.set("stem", "weight", vec![2, 1, 3, 3], rows([1.0, 9.0]));
        weights.set("stage1.block1.depthwise", "weight", vec![2, 1, 3, 3], rows([5500.0, 4500.0]));
        let (_, slim) = pruned(&graph, &weights, &[0.5]);
        assert_eq!(slim.get("stem", "weight").data, [1.0; 9]);
    }

    #[test]
    fn dead_layers_do_not_divide_by_zero() {
        let (graph, mut weights) = stem_and_conv();
        weights.set("stem", "weight", vec![4, 1, 3, 3], vec![0.0; 36]);
        weights.set("stem", "beta", vec![4], vec![0.1, 0.2, 0.3, 0.4]);
        let (_, slim) = pruned(&graph, &weights, &[0.5]);
        assert_eq!(slim.get("stem", "beta").data, [0.1, 0.2]);
    }

    fn stem_and_conv() -> (Graph, Weights) {
        network(4, Operation::Conv)
    }

    fn stem_and_depthwise() -> (Graph, Weights) {
        network(2, Operation::Separable)
    }

    fn network(stem_width: u32, operation: Operation) -> (Graph, Weights) {
        let activation = Activation::Relu;
        let (squeeze, skip) = (0, Skip::Add);
        let stage = Stage {
            depth: 1,
            width: 4,
            kernel: 3,
            operation,
            stride: 1,
            activation,
            squeeze,
            skip,
        };
        let architecture = Architecture { resolution: 4, stem_width, stages: vec![stage] };
        let graph = architecture.graph(DataShape { channels: 1, classes: 2 }).unwrap();
        let mut weights = random_weights(&graph, 1);
        for (name, array) in &mut weights.arrays {
            if name.ends_with("gamma") || name.ends_with("variance") {
                array.data.fill(1.0);
            }
        }
        (graph, weights)
    }
}
