//! Structured channel pruning by L1 norm (Li et al. 2017, "Pruning filters for efficient
//! convnets"), with real reconstruction: the result is a smaller network with the same wiring, not
//! a mask. It does not choose how many channels to remove (the recipe does) and does not fine-tune.

use edgesmith_search_space::{ChannelGroupId, Layer, LayerOp, Plan};

use super::{Folded, fold};
use edgesmith_graph::{Array, Weights};

/// Removes the least important channels, so that the plan becomes [`Plan::pruned`] by `ratios` (one
/// per stage). The result computes the same as the original network with the removed channels set
/// to zero.
///
/// A channel is removed from all layers that write its group, because residual sums and depthwise
/// convolutions tie layers together. Its importance is a sum over the convolutions and depthwise
/// convolutions that write the group: the L1 norm of its filter, as a share of the norms of all
/// filters of that layer. So each layer has the same influence at any scale of its weights. Norms
/// are taken after folding batch normalisation. It removes the scale of the raw weights, so their
/// norms say almost nothing. On ties the earlier channel is kept; kept channels stay in order.
///
/// # Panics
/// If `weights` do not fit `plan`.
pub fn prune(plan: &Plan, weights: &Weights, ratios: &[f64]) -> (Plan, Weights) {
    let pruned = plan.pruned(ratios);
    let kept = kept_channels(&fold(plan, weights), &pruned);
    let mut slim = Weights::default();
    for id in plan.ids() {
        let layer = plan.layer(id);
        let outputs = &kept[layer.group.0];
        let inputs = &kept[plan.source_group(layer.inputs[0]).0];
        let parts: &[&str] = match layer.op {
            LayerOp::Conv { .. } | LayerOp::Depthwise { .. } => {
                &["weight", "gamma", "beta", "mean", "variance"]
            }
            LayerOp::Linear => &["weight", "bias"],
            LayerOp::Add | LayerOp::GlobalAveragePool => &[],
        };
        for &part in parts {
            let whole = weights.get(&layer.name, part);
            let rows = select(whole, 0, outputs);
            // A depthwise filter has no separate input dimension: it is removed with its output
            // channel.
            let mixes_channels = !matches!(layer.op, LayerOp::Depthwise { .. });
            let slice =
                if part == "weight" && mixes_channels { select(&rows, 1, inputs) } else { rows };
            slim.set(&layer.name, part, slice.shape, slice.data);
        }
    }
    (pruned, slim)
}

/// For every group of `plan`, the channels that `pruned` keeps, ascending.
fn kept_channels(network: &Folded, pruned: &Plan) -> Vec<Vec<usize>> {
    let plan = &network.plan;
    (0..plan.groups().len())
        .map(|index| {
            let group = ChannelGroupId(index);
            let (before, after) = (plan.channels(group) as usize, pruned.channels(group) as usize);
            let mut channels: Vec<usize> = (0..before).collect();
            if after < before {
                let importance = importance(network, group);
                // The sort is stable, so that on ties the earlier channel is kept.
                channels.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]));
                channels.truncate(after);
                channels.sort_unstable();
            }
            channels
        })
        .collect()
}

/// The importance of each channel of a group; see [`prune`].
pub fn importance(network: &Folded, group: ChannelGroupId) -> Vec<f64> {
    let plan = &network.plan;
    let mut importance = vec![0.0; plan.channels(group) as usize];
    for id in plan.ids() {
        let layer = plan.layer(id);
        if layer.group != group || !has_filters(layer) {
            continue;
        }
        let weight = &network.layer(id).weight;
        let norms: Vec<f64> = weight
            .chunks_exact(weight.len() / importance.len())
            .map(|filter| filter.iter().map(|w| f64::from(w.abs())).sum())
            .collect();
        let total: f64 = norms.iter().sum();
        if total > 0.0 {
            importance.iter_mut().zip(&norms).for_each(|(sum, norm)| *sum += norm / total);
        }
    }
    importance
}

fn has_filters(layer: &Layer) -> bool {
    matches!(layer.op, LayerOp::Conv { .. } | LayerOp::Depthwise { .. })
}

/// Selects the given indices of dimension `axis`, in the given order.
fn select(array: &Array, axis: usize, indices: &[usize]) -> Array {
    let outer: usize = array.shape[..axis].iter().product();
    let size = array.shape[axis];
    let inner: usize = array.shape[axis + 1..].iter().product();
    let mut data = Vec::with_capacity(outer * indices.len() * inner);
    for block in 0..outer {
        for &index in indices {
            let start = (block * size + index) * inner;
            data.extend_from_slice(&array.data[start..start + inner]);
        }
    }
    let mut shape = array.shape.clone();
    shape[axis] = indices.len();
    Array { shape, data }
}

#[cfg(test)]
mod tests {
    use edgesmith_search_space::{Activation, Architecture, DataShape, Operation, Stage};
    use proptest::prelude::*;

    use super::*;
    use edgesmith_testing::reference;
    use edgesmith_testing::{arbitrary_graph, assert_close, random_image, random_weights};

    /// Sets the channels that are not kept to zero: filters, gamma and beta of every layer that
    /// writes them.
    fn masked(plan: &Plan, weights: &Weights, kept: &[Vec<usize>]) -> Weights {
        let mut masked = weights.clone();
        for layer in plan.layers().iter().filter(|layer| has_filters(layer)) {
            for part in ["weight", "gamma", "beta"] {
                let array = masked.arrays.get_mut(&format!("{}.{part}", layer.name)).unwrap();
                let chunk = array.data.len() / array.shape[0];
                for (channel, values) in array.data.chunks_exact_mut(chunk).enumerate() {
                    if !kept[layer.group.0].contains(&channel) {
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
            plan in arbitrary_graph().prop_map(Plan::of),
            seed: u64,
            ratios in prop::collection::vec(0.0..0.95f64, 0..4),
        ) {
            let weights = random_weights(plan.graph(), seed);
            let image = random_image(plan.graph(), seed);
            let (slim_plan, slim) = prune(&plan, &weights, &ratios);
            prop_assert_eq!(&slim_plan, &plan.pruned(&ratios));
            for id in slim_plan.ids() {
                if let Some(shape) = slim_plan.weight_shape(id) {
                    let weight = slim.get(&slim_plan.layer(id).name, "weight");
                    prop_assert_eq!(weight.data.len(), shape.iter().product::<usize>());
                    prop_assert_eq!(weight.shape[..2].to_vec(), shape[..2].to_vec());
                }
            }
            let kept = kept_channels(&fold(&plan, &weights), &slim_plan);
            let expected = reference(plan.graph(), &masked(&plan, &weights, &kept), &image);
            assert_close(&reference(slim_plan.graph(), &slim, &image), &expected, 1e-4);
        }

        #[test]
        fn ratio_zero_keeps_all_weights(plan in arbitrary_graph().prop_map(Plan::of), seed: u64) {
            let weights = random_weights(plan.graph(), seed);
            prop_assert_eq!(prune(&plan, &weights, &[0.0; 3]), (plan, weights));
        }
    }

    #[test]
    fn the_filters_of_largest_norm_stay_in_order() {
        let (plan, mut weights) = stem_and_conv();
        // Filters of one input channel and nine taps with norms in the ratio 3 : 9 : 1 : 6.
        let filters = [3.0f32, -9.0, 1.0, 6.0];
        let data = filters.iter().flat_map(|norm| [norm / 9.0; 9]).collect();
        weights.set("stem", "weight", vec![4, 1, 3, 3], data);
        weights.set("stem", "beta", vec![4], vec![0.1, 0.2, 0.3, 0.4]);
        let (slim_plan, slim) = prune(&plan, &weights, &[0.5]);
        assert_eq!(slim_plan.channels(slim_plan.layers()[0].group), 2);
        assert_eq!(slim.get("stem", "beta").data, [0.2, 0.4]);
    }

    #[test]
    fn norms_are_taken_after_folding_normalisation() {
        let (plan, mut weights) = stem_and_conv();
        weights.set("stem", "weight", vec![4, 1, 3, 3], vec![1.0; 36]);
        weights.set("stem", "gamma", vec![4], vec![1.0, -3.0, 1.0, 2.0]);
        weights.set("stem", "variance", vec![4], vec![0.01, 1.0, 4.0, 1.0]);
        weights.set("stem", "beta", vec![4], vec![0.1, 0.2, 0.3, 0.4]);
        let (_, slim) = prune(&plan, &weights, &[0.5]);
        assert_eq!(slim.get("stem", "beta").data, [0.1, 0.2]);
    }

    #[test]
    fn every_layer_of_a_group_has_equal_influence_at_any_scale() {
        // The depthwise convolution shares the stem's group. Its weights are a thousand times
        // larger, but differ less between channels.
        let (plan, mut weights) = stem_and_depthwise();
        let rows = |norms: [f32; 2]| norms.iter().flat_map(|n| [n / 9.0; 9]).collect::<Vec<_>>();
        weights.set("stem", "weight", vec![2, 1, 3, 3], rows([1.0, 9.0]));
        weights.set("stage1.block1.depthwise", "weight", vec![2, 1, 3, 3], rows([5500.0, 4500.0]));
        let (_, slim) = prune(&plan, &weights, &[0.5]);
        assert_eq!(slim.get("stem", "weight").data, [1.0; 9]);
    }

    #[test]
    fn dead_layers_do_not_divide_by_zero() {
        let (plan, mut weights) = stem_and_conv();
        weights.set("stem", "weight", vec![4, 1, 3, 3], vec![0.0; 36]);
        weights.set("stem", "beta", vec![4], vec![0.1, 0.2, 0.3, 0.4]);
        let (_, slim) = prune(&plan, &weights, &[0.5]);
        assert_eq!(slim.get("stem", "beta").data, [0.1, 0.2]);
    }

    fn stem_and_conv() -> (Plan, Weights) {
        network(4, Operation::Conv)
    }

    fn stem_and_depthwise() -> (Plan, Weights) {
        network(2, Operation::Separable)
    }

    fn network(stem_width: u32, operation: Operation) -> (Plan, Weights) {
        let activation = Activation::Relu;
        let stage = Stage { depth: 1, width: 4, kernel: 3, operation, stride: 1, activation };
        let architecture = Architecture { resolution: 4, stem_width, stages: vec![stage] };
        let plan = Plan::lower(&architecture, DataShape { channels: 1, classes: 2 }).unwrap();
        let mut weights = random_weights(plan.graph(), 1);
        for (name, array) in &mut weights.arrays {
            if name.ends_with("gamma") || name.ends_with("variance") {
                array.data.fill(1.0);
            }
        }
        (plan, weights)
    }
}
