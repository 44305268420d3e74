//! Structured channel pruning with real reconstruction: the result is a smaller network with the
//! same wiring, not a mask. It does not say how important channels are ([`crate::importance`] does)
//! or how many stay ([`crate::budget`] does, or the recipe), and does not fine-tune.

use edgesmith_graph::{ChannelGroup, ChannelId, Channels, Cut, Graph, Weights};

use crate::importance::l1_norm;

/// Removes the least important channels of each group, so that as many stay as `kept` says, by the
/// group's place in [`Channels::groups`]. `importance` has a number per channel, by
/// [`ChannelId::index`]. The result computes the same as the original network with the removed
/// channels set to zero.
///
/// A channel is removed from all layers that write it, because residual sums and depthwise
/// convolutions tie layers together. On ties the earlier channel is kept; kept channels stay in
/// order.
///
/// # Panics
/// If `channels` or `importance` are of another graph, or `kept` removes channels that are fixed
/// or all channels of a group.
pub fn cut_to(graph: &Graph, channels: &Channels, importance: &[f64], kept: &[usize]) -> Cut {
    assert_eq!(channels.groups().len(), kept.len(), "a number of kept channels for each group");
    let removed = channels.groups().iter().zip(kept).flat_map(|(group, &kept)| {
        let mut ranked = group.channels.clone();
        rank(&mut ranked, importance);
        ranked.split_off(kept.min(ranked.len()))
    });
    graph.clone().without(channels, removed).expect("every group that may lose channels keeps one")
}

/// [`cut_to`] by the L1 norm ([`l1_norm`]), with `kept(group)` channels of each group.
///
/// # Panics
/// If `weights` do not fit `graph`; see also [`cut_to`].
pub fn cut_least(graph: &Graph, weights: &Weights, kept: impl Fn(&ChannelGroup) -> usize) -> Cut {
    let channels = graph.channels();
    let kept: Vec<usize> = channels.groups().iter().map(kept).collect();
    cut_to(graph, &channels, &l1_norm(graph, &channels, weights), &kept)
}

/// What [`cut_least`] leaves of a network and its weights.
///
/// # Panics
/// See [`cut_least`].
pub fn prune(
    graph: &Graph,
    weights: &Weights,
    kept: impl Fn(&ChannelGroup) -> usize,
) -> (Graph, Weights) {
    let cut = cut_least(graph, weights, kept);
    let weights = cut.weights(weights);
    (cut.graph, weights)
}

/// Sorts channels from the most important to the least. On ties the earlier one comes first.
pub fn rank(channels: &mut [ChannelId], importance: &[f64]) {
    // The sort is stable.
    channels.sort_by(|a, b| importance[b.index()].total_cmp(&importance[a.index()]));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use edgesmith_graph::Role;
    use edgesmith_search_space::{
        Activation, Architecture, DataShape, Operation, Pruning, Skip, Stage, pruning,
    };
    use edgesmith_testing::{
        arbitrary_graph, assert_close, random_image, random_weights, reference,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::importance::{
        Activity, Influence, geometric_median, l2_norm, normalization_scale, random, taylor,
    };

    fn pruned(graph: &Graph, weights: &Weights, ratios: &[f64]) -> (Graph, Weights) {
        let pruning = Pruning::of_stages(ratios);
        prune(graph, weights, |group| pruning::kept(graph, group, &pruning).unwrap())
    }

    /// The importance of each channel by every criterion.
    fn criteria(graph: &Graph, weights: &Weights, seed: u64) -> Vec<(&'static str, Vec<f64>)> {
        let channels = graph.channels();
        let mut state = seed;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as f64
        };
        let (mut activity, mut influence) =
            (Activity::new(graph, weights), Influence::new(graph, weights));
        for seed in 0..3 {
            activity.observe(random_image(graph, seed)).unwrap();
            influence.observe(random_image(graph, seed)).unwrap();
        }
        let mut effects = BTreeMap::new();
        for (_, node) in graph.nodes().filter(|(_, node)| graph.macs(node) > 0) {
            let filters = (0..graph.shape(node.output).channels()).map(|_| draw()).collect();
            effects.insert(graph.value(node.output).name.to_string(), filters);
        }
        vec![
            ("l1", l1_norm(graph, &channels, weights)),
            ("l2", l2_norm(graph, &channels, weights)),
            ("scale", normalization_scale(graph, &channels, weights).unwrap()),
            ("median", geometric_median(graph, &channels, weights)),
            ("activity", activity.finish(&channels).unwrap()),
            ("influence", influence.finish(&channels).unwrap()),
            ("taylor", taylor(graph, &channels, &effects)),
            ("random", random(&channels, draw)),
        ]
    }

    /// Sets the channels that are not kept to zero: filters, scale and shift of every layer that
    /// writes them.
    fn masked(graph: &Graph, weights: &Weights, importance: &[f64], kept: &[usize]) -> Weights {
        let channels = graph.channels();
        let mut removed = vec![false; channels.count()];
        for (group, &kept) in channels.groups().iter().zip(kept) {
            let mut ranked = group.channels.clone();
            rank(&mut ranked, importance);
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
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_pruned_network_equals_the_masked_one_by_every_criterion(
            graph in arbitrary_graph(),
            seed: u64,
            ratios in prop::collection::vec(0.0..0.95f64, 0..4),
        ) {
            let weights = random_weights(&graph, seed);
            let image = random_image(&graph, seed);
            let channels = graph.channels();
            let pruning = Pruning::of_stages(&ratios[..]);
            let kept = |group: &ChannelGroup| pruning::kept(&graph, group, &pruning).unwrap();
            let counts: Vec<usize> = channels.groups().iter().map(kept).collect();
            for (name, importance) in criteria(&graph, &weights, seed) {
                let cut = cut_to(&graph, &channels, &importance, &counts);
                let slim = cut.weights(&weights);
                prop_assert_eq!(&cut.graph, &pruning::pruned(graph.clone(), &pruning), "{}", name);
                prop_assert_eq!(slim.check(&cut.graph), Ok(()));
                let masked = masked(&graph, &weights, &importance, &counts);
                let expected = reference(&graph, &masked, &image);
                assert_close(&reference(&cut.graph, &slim, &image), &expected, 1e-4);
                if name == "l1" {
                    prop_assert_eq!((cut.graph, slim), pruned(&graph, &weights, &ratios));
                }
            }
        }

        /// So what stays can be said by the groups of the whole network, however often it is cut.
        #[test]
        fn groups_stay_in_order_when_a_network_is_cut(
            graph in arbitrary_graph(),
            seed: u64,
            ratio in 0.0..0.9f64,
        ) {
            let weights = random_weights(&graph, seed);
            let channels = graph.channels();
            let keeps = |group: &ChannelGroup| match (group.channels.len(), group.fixed) {
                (count, true) => count,
                (count, false) => ((count as f64 * (1.0 - ratio)) as usize).max(1),
            };
            let kept: Vec<usize> = channels.groups().iter().map(keeps).collect();
            let importance = l1_norm(&graph, &channels, &weights);
            let cut = cut_to(&graph, &channels, &importance, &kept).graph.channels();
            let after: Vec<usize> = cut.groups().iter().map(|g| g.channels.len()).collect();
            prop_assert_eq!(after, kept);
            let fixed = |channels: &Channels| -> Vec<bool> {
                channels.groups().iter().map(|group| group.fixed).collect()
            };
            prop_assert_eq!(fixed(&cut), fixed(&channels));
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
