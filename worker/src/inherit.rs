//! Initial weights for a new network from those of a trained relative: network morphism where the
//! shapes allow it (Chen et al. 2016, *Net2Net*; Wei et al. 2016), otherwise an approximation. It
//! does not choose the relative and does not train.
//!
//! Corresponding layers ([`Plan::counterparts`]) copy their weights channel by channel. If the new
//! network has fewer channels, it gets the most important ones. If it has more, some are duplicated
//! and the weights that read them are halved, so that the network computes the same. Smaller
//! kernels are cut out of the centre; larger ones are padded with zeros. New blocks start as the
//! identity if their shapes allow it. All other weights are fresh.

use std::collections::HashMap;

use edgesmith_search_space::{ChannelGroupId, Layer, LayerId, LayerOp, Plan, Source};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::compress::{fold, importance};
use edgesmith_graph::Weights;
use edgesmith_train::fresh_weights;

/// Relative noise on the weights of a duplicated channel, so that training can separate the two.
const NOISE: f64 = 0.02;

/// Initial weights for `plan`, inherited from the weights `donor` of `donor_plan`.
///
/// # Panics
/// If `donor` does not fit `donor_plan`.
pub fn inherit(plan: &Plan, donor_plan: &Plan, donor: &Weights, seed: [u8; 32]) -> Weights {
    inherit_with(plan, donor_plan, donor, seed, NOISE)
}

fn inherit_with(
    plan: &Plan,
    donor_plan: &Plan,
    donor: &Weights,
    seed: [u8; 32],
    noise: f64,
) -> Weights {
    let mut weights = fresh_weights(plan.graph(), seed);
    let counterparts: HashMap<LayerId, LayerId> =
        plan.counterparts(donor_plan).into_iter().collect();
    for id in plan.ids().filter(|&id| is_new_block(plan.layer(id), donor_plan)) {
        start_as_identity(plan, id, &mut weights);
    }
    let mut donors = Donors { channels: Channels::new(donor_plan, donor, seed), noise };
    for id in plan.ids() {
        if let Some(&twin) = counterparts.get(&id) {
            donors.hand_down(plan, id, donor_plan, twin, donor, &mut weights);
        }
    }
    weights
}

/// The donor's channel that a channel of the new network comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Origin {
    channel: usize,
    /// Number of channels of the new network that come from it.
    copies: usize,
    /// Whether this is a duplicate, not the first of them.
    again: bool,
}

/// Chooses which of the donor's channels a new network gets.
struct Channels {
    importance: Vec<Vec<f64>>,
    seed: [u8; 32],
}

impl Channels {
    fn new(donor_plan: &Plan, donor: &Weights, seed: [u8; 32]) -> Self {
        let folded = fold(donor_plan, donor);
        let groups = 0..donor_plan.groups().len();
        let importance = groups.map(|group| importance(&folded, ChannelGroupId(group))).collect();
        Self { importance, seed }
    }

    /// The origins of `count` channels that come from a group. They are the same for all layers, so
    /// that channels stay aligned.
    fn origins(&self, group: ChannelGroupId, count: usize) -> Vec<Origin> {
        let importance = &self.importance[group.0];
        let there = importance.len();
        let mut channels: Vec<usize> = (0..there).collect();
        if count < there {
            // The sort is stable, so that on ties the earlier channel is kept.
            channels.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]));
            channels.truncate(count);
            channels.sort_unstable();
        }
        let mut rng = ChaCha8Rng::from_seed(self.seed);
        // Stream 0 is used for the fresh weights.
        rng.set_stream(1 + group.0 as u64);
        channels.extend((there..count).map(|_| rng.random_range(0..there)));
        let mut copies = vec![0; there];
        channels.iter().for_each(|&channel| copies[channel] += 1);
        channels
            .iter()
            .enumerate()
            .map(|(at, &channel)| Origin { channel, copies: copies[channel], again: at >= there })
            .collect()
    }
}

struct Donors {
    channels: Channels,
    noise: f64,
}

impl Donors {
    /// Sets the weights of a layer from those of its counterpart.
    fn hand_down(
        &mut self,
        plan: &Plan,
        id: LayerId,
        donor_plan: &Plan,
        twin: LayerId,
        donor: &Weights,
        weights: &mut Weights,
    ) {
        let (layer, from) = (plan.layer(id), donor_plan.layer(twin));
        let (Some([out, inputs, kernel, _]), Some([_, theirs, size, _])) =
            (plan.weight_shape(id), donor_plan.weight_shape(twin))
        else {
            return;
        };
        let rows = self.channels.origins(from.group, out);
        let columns = match layer.op {
            LayerOp::Depthwise { .. } => vec![Origin { channel: 0, copies: 1, again: false }],
            _ => self.channels.origins(donor_plan.source_group(from.inputs[0]), inputs),
        };
        let mut rng = ChaCha8Rng::from_seed(self.channels.seed);
        rng.set_stream((1 << 32) + id.0 as u64);
        let jitter = Normal::new(1.0, self.noise).expect("a finite deviation");
        let whole = &donor.get(&from.name, "weight").data;
        let mut values = Vec::with_capacity(out * inputs * kernel * kernel);
        for row in &rows {
            for column in &columns {
                let at = (row.channel * theirs + column.channel) * size * size;
                let filter = &whole[at..at + size * size];
                for (y, x) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                    // Kernels are odd, so their centres can be aligned.
                    let place = |i: usize| (i + size / 2).checked_sub(kernel / 2);
                    let value = match (place(y), place(x)) {
                        (Some(y), Some(x)) if y < size && x < size => filter[y * size + x],
                        _ => 0.0,
                    };
                    let apart =
                        if row.again || column.again { jitter.sample(&mut rng) } else { 1.0 };
                    values.push((f64::from(value) * apart) as f32 / column.copies as f32);
                }
            }
        }
        let shape = weights.get(&layer.name, "weight").shape.clone();
        weights.set(&layer.name, "weight", shape, values);
        let per_row: &[&str] = match layer.op {
            LayerOp::Linear => &["bias"],
            _ => &["gamma", "beta", "mean", "variance"],
        };
        for part in per_row {
            let of = &donor.get(&from.name, part).data;
            let values = rows.iter().map(|row| of[row.channel]).collect();
            weights.set(&layer.name, part, vec![out], values);
        }
    }
}

/// Whether a layer belongs to a block that the donor does not have.
fn is_new_block(layer: &Layer, donor_plan: &Plan) -> bool {
    let block = block_of(layer);
    block.is_some() && donor_plan.layers().iter().all(|other| block_of(other) != block)
}

/// Sets a fresh layer so that its block is initially the identity: the last layer of a residual
/// branch outputs zero, other layers copy each channel. If the number of channels or the resolution
/// changes, the layer stays random.
fn start_as_identity(plan: &Plan, id: LayerId, weights: &mut Weights) {
    let layer = plan.layer(id);
    if ends_branch(plan, id) {
        let out = plan.channels(layer.group) as usize;
        return weights.set(&layer.name, "gamma", vec![out], vec![0.0; out]);
    }
    let (Some([out, inputs, kernel, _]), Some(stride)) =
        (plan.weight_shape(id), stride_of(layer.op))
    else {
        return;
    };
    let depthwise = matches!(layer.op, LayerOp::Depthwise { .. });
    // A residual branch outputs zero at its end; its layers before that are better left random.
    if stride != 1 || !(depthwise || inputs == out) || is_branch(plan, id) {
        return;
    }
    let mut values = vec![0.0; out * inputs * kernel * kernel];
    for channel in 0..out {
        let column = if depthwise { 0 } else { channel };
        values[((channel * inputs + column) * kernel + kernel / 2) * kernel + kernel / 2] = 1.0;
    }
    let shape = weights.get(&layer.name, "weight").shape.clone();
    weights.set(&layer.name, "weight", shape, values);
}

/// Whether the layer's own block adds its output to the block's input. (Later blocks may add to it
/// as well.)
fn ends_branch(plan: &Plan, id: LayerId) -> bool {
    let block = block_of(plan.layer(id));
    let adds = |other: &Layer| {
        matches!(other.op, LayerOp::Add)
            && other.inputs.contains(&Source::Layer(id))
            && block_of(other) == block
    };
    plan.layers().iter().any(adds)
}

/// Whether a layer belongs to an inverted residual.
fn is_branch(plan: &Plan, id: LayerId) -> bool {
    let Some(block) = block_of(plan.layer(id)) else { return false };
    plan.layers().iter().any(|other| other.name.strip_prefix(block) == Some(".project"))
}

/// The name of the layer's block: the layer's name without its last part. `None` for layers outside
/// blocks.
fn block_of(layer: &Layer) -> Option<&str> {
    layer.name.rsplit_once('.').map(|(block, _)| block)
}

fn stride_of(op: LayerOp) -> Option<u32> {
    match op {
        LayerOp::Conv { stride, .. } | LayerOp::Depthwise { stride, .. } => Some(stride),
        LayerOp::Add | LayerOp::GlobalAveragePool | LayerOp::Linear => None,
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_search_space::{Activation, Architecture, DataShape, Operation, Stage};
    use proptest::prelude::*;

    use super::*;
    use crate::compress::prune;
    use edgesmith_testing::reference;
    use edgesmith_testing::{arbitrary_graph, assert_close, random_image, random_weights};

    fn plan(operation: Operation, [stem, depth, width, kernel]: [u32; 4]) -> Plan {
        let stage = |stride| Stage {
            depth,
            width,
            kernel,
            operation,
            stride,
            activation: Activation::Relu,
        };
        let architecture =
            Architecture { resolution: 6, stem_width: stem, stages: vec![stage(1), stage(2)] };
        Plan::lower(&architecture, DataShape { channels: 3, classes: 4 }).unwrap()
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            Just(Operation::Conv),
            Just(Operation::Separable),
            (1..4u32).prop_map(|expansion| Operation::InvertedResidual { expansion }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 1000,
            // Few plans have the same data shape.
            max_global_rejects: 20_000,
            ..ProptestConfig::default()
        })]

        /// Wider, deeper and with larger kernels, the network computes the same up to the noise.
        #[test]
        fn a_larger_relative_computes_the_same(
            operation in operation(),
            (stem, more_stem) in (1..4u32, 0..3u32),
            (depth, more_depth) in (1..3u32, 0..3u32),
            (width, more_width) in (1..4u32, 0..4u32),
            (kernel, larger) in (0..2u32, 0..2u32),
            seed: u8,
        ) {
            // Widens stem and stage alike, because a residual connection appears or disappears when
            // widths become equal or different.
            let more_width = if more_stem > 0 || more_width > 0 { more_stem.max(more_width) } else { 0 };
            let small = plan(operation, [stem, depth, width, 2 * kernel + 1]);
            let own = plan(
                operation,
                [stem + more_width, depth + more_depth, width + more_width, 2 * (kernel + larger) + 1],
            );
            let donor = random_weights(small.graph(), u64::from(seed));
            let weights = inherit_with(&own, &small, &donor, [seed; 32], 0.0);
            weights.check(own.graph()).unwrap();
            let image = random_image(small.graph(), u64::from(seed) + 1);
            assert_close(&reference(own.graph(), &weights, &image), &reference(small.graph(), &donor, &image), 1e-3);
            // With noise the output is close, and another seed gives another network.
            if more_width > 0 {
                let noisy = inherit(&own, &small, &donor, [seed; 32]);
                prop_assert_ne!(&noisy, &weights);
                prop_assert_eq!(&noisy, &inherit(&own, &small, &donor, [seed; 32]));
            }
        }

        /// It keeps the same channels as pruning, and so computes the same as the network pruned to
        /// that size.
        #[test]
        fn a_narrower_relative_equals_the_pruned_network(donor_plan in arbitrary_graph().prop_map(Plan::of), seed: u8, ratio in 0.0..0.8) {
            let ratios = [ratio; 3];
            let donor = random_weights(donor_plan.graph(), u64::from(seed));
            let (own, pruned) = prune(&donor_plan, &donor, &ratios);
            prop_assert_eq!(inherit(&own, &donor_plan, &donor, [seed; 32]), pruned);
        }

        #[test]
        fn weights_are_inherited_between_any_two_networks(own in arbitrary_graph().prop_map(Plan::of), donor_plan in arbitrary_graph().prop_map(Plan::of), seed: u8) {
            prop_assume!(own.input().channels == donor_plan.input().channels);
            prop_assume!(own.classes() == donor_plan.classes());
            let donor = random_weights(donor_plan.graph(), u64::from(seed));
            inherit(&own, &donor_plan, &donor, [seed; 32]).check(own.graph()).unwrap();
        }
    }
}
