//! Weights for a new network from those of a trained relative: network morphism where the shapes allow it
//! (Chen et al. 2016, *Net2Net*; Wei et al. 2016), the nearest thing to it elsewhere. It does not choose
//! the relative and does not train.
//!
//! Layers that correspond ([`Plan::counterparts`]) take over their weights channel by channel. Where the
//! new network has fewer channels it gets the most important ones, where it has more some of them are there
//! twice and their readers' weights are halved, so that the function stays; smaller kernels are cut out of
//! the centre, larger ones get zeros around it. New blocks begin as the identity where their shapes allow
//! it. The rest begins fresh.

use std::collections::HashMap;

use edgesmith_search_space::{ChannelGroupId, Layer, LayerId, LayerOp, Plan, Source};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::compress::{fold, importance};
use crate::network::Weights;

/// Relative deviation of a doubled channel's weights from the original's, so that the two can part.
const NOISE: f64 = 0.02;

/// The start of a network of `plan` as a relative of `donor`, whose weights fit `donor_plan`.
///
/// # Panics
/// When `donor` are not weights of `donor_plan`.
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
    let mut weights = Weights::init(plan, seed);
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

/// A channel of a new network, as one of the donor's.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Origin {
    channel: usize,
    /// How many channels of the new network come from it.
    copies: usize,
    /// Whether it is not the first of them.
    again: bool,
}

/// Which of a donor's channels a new network gets.
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

    /// The origins of `count` channels that come from a group: the same for all layers, so that those
    /// which must stay aligned do.
    fn origins(&self, group: ChannelGroupId, count: usize) -> Vec<Origin> {
        let importance = &self.importance[group.0];
        let there = importance.len();
        let mut channels: Vec<usize> = (0..there).collect();
        if count < there {
            // Stable: ties keep the earlier channel.
            channels.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]));
            channels.truncate(count);
            channels.sort_unstable();
        }
        let mut rng = ChaCha8Rng::from_seed(self.seed);
        // Stream 0 drew the fresh weights.
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
    /// Sets a layer's weights from those of its counterpart.
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
                    // Kernels are odd, so centres lie on each other.
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

/// Whether a layer is of a block that the donor has nothing in the place of.
fn is_new_block(layer: &Layer, donor_plan: &Plan) -> bool {
    let block = block_of(layer);
    block.is_some() && donor_plan.layers().iter().all(|other| block_of(other) != block)
}

/// Sets a fresh layer so that its block changes nothing at first: the last one of a residual branch is
/// silent, others pass each channel on. Where channels or positions change, it stays random.
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
    // A residual branch is silent at its end; what it computes before that is best left random.
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

/// Whether a layer's output is what its own block adds to its input. (Blocks that follow may add to it
/// in turn.)
fn ends_branch(plan: &Plan, id: LayerId) -> bool {
    let block = block_of(plan.layer(id));
    let adds = |other: &Layer| {
        matches!(other.op, LayerOp::Add)
            && other.inputs.contains(&Source::Layer(id))
            && block_of(other) == block
    };
    plan.layers().iter().any(adds)
}

/// Whether a layer is of an inverted residual.
fn is_branch(plan: &Plan, id: LayerId) -> bool {
    let Some(block) = block_of(plan.layer(id)) else { return false };
    plan.layers().iter().any(|other| other.name.strip_prefix(block) == Some(".project"))
}

/// What comes before the last part of a layer's name, for layers that are of a block.
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
    use crate::compress::testing::{arbitrary_plan, assert_close, random_image, random_weights};
    use crate::network::reference::forward;

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
            // Few plans are of the same data.
            max_global_rejects: 20_000,
            ..ProptestConfig::default()
        })]

        /// Wider, deeper and with larger kernels: the same function, but for the noise.
        #[test]
        fn a_larger_relative_computes_the_same(
            operation in operation(),
            (stem, more_stem) in (1..4u32, 0..3u32),
            (depth, more_depth) in (1..3u32, 0..3u32),
            (width, more_width) in (1..4u32, 0..4u32),
            (kernel, larger) in (0..2u32, 0..2u32),
            seed: u8,
        ) {
            // A residual appears or vanishes where widths become equal or different.
            let more_width = if more_stem > 0 || more_width > 0 { more_stem.max(more_width) } else { 0 };
            let small = plan(operation, [stem, depth, width, 2 * kernel + 1]);
            let own = plan(
                operation,
                [stem + more_width, depth + more_depth, width + more_width, 2 * (kernel + larger) + 1],
            );
            let donor = random_weights(&small, u64::from(seed));
            let weights = inherit_with(&own, &small, &donor, [seed; 32], 0.0);
            weights.check(&own).unwrap();
            let image = random_image(&small, u64::from(seed) + 1);
            assert_close(&forward(&own, &weights, &image), &forward(&small, &donor, &image), 1e-3);
            // With the noise it is near, and another draw is another network.
            if more_width > 0 {
                let noisy = inherit(&own, &small, &donor, [seed; 32]);
                prop_assert_ne!(&noisy, &weights);
                prop_assert_eq!(&noisy, &inherit(&own, &small, &donor, [seed; 32]));
            }
        }

        /// The same channels as pruning keeps, and so the same function as pruning to that size.
        #[test]
        fn a_slimmer_relative_is_the_pruned_network(donor_plan in arbitrary_plan(), seed: u8, ratio in 0.0..0.8) {
            let ratios = [ratio; 3];
            let donor = random_weights(&donor_plan, u64::from(seed));
            let (own, pruned) = prune(&donor_plan, &donor, &ratios);
            prop_assert_eq!(inherit(&own, &donor_plan, &donor, [seed; 32]), pruned);
        }

        #[test]
        fn any_two_networks_are_related_somehow(own in arbitrary_plan(), donor_plan in arbitrary_plan(), seed: u8) {
            prop_assume!(own.input().channels == donor_plan.input().channels);
            prop_assume!(own.classes() == donor_plan.classes());
            let donor = random_weights(&donor_plan, u64::from(seed));
            inherit(&own, &donor_plan, &donor, [seed; 32]).check(&own).unwrap();
        }
    }
}
