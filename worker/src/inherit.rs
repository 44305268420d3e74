//! Initial weights for a new network from those of a trained relative: network morphism where the
//! shapes allow it (Chen et al. 2016, *Net2Net*; Wei et al. 2016), otherwise an approximation. It
//! does not choose the relative and does not train.
//!
//! Corresponding nodes ([`counterparts`]) copy their weights channel by channel. If the new network
//! has fewer channels, it gets the most important ones. If it has more, some are duplicated and the
//! weights that read them are halved, so that the network computes the same. Smaller kernels are
//! cut out of the centre; larger ones are padded with zeros. New blocks start as the identity if
//! their shapes allow it. All other weights are fresh. Where a node stands is read from its
//! annotation, never from its name.

use edgesmith_compress::{importance, rank};
use edgesmith_graph::{
    Array, ChannelId, Channels, Clip, Graph, Groups, Node, NodeId, Op, ParameterId, Place, ValueId,
    Weights,
};
use edgesmith_search_space::counterparts;
use edgesmith_train::fresh_weights;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

/// Relative noise on the weights of a duplicated channel, so that training can separate the two.
const NOISE: f64 = 0.02;

/// Initial weights for `graph`, inherited from the weights `donor` of `donor_graph`. Both are
/// networks of a space.
///
/// # Panics
/// If `donor` does not fit `donor_graph`.
pub fn inherit(graph: &Graph, donor_graph: &Graph, donor: &Weights, seed: [u8; 32]) -> Weights {
    inherit_with(graph, donor_graph, donor, seed, NOISE)
}

fn inherit_with(
    graph: &Graph,
    donor_graph: &Graph,
    donor: &Weights,
    seed: [u8; 32],
    noise: f64,
) -> Weights {
    let weights = fresh_weights(graph, seed);
    let mut heir = Heir { layers: Layers::of(graph), weights };
    for (id, node) in graph.nodes().filter(|(_, node)| is_new_block(&node.place, donor_graph)) {
        heir.start_as_identity(id, node);
    }
    let donor = Donor::new(donor_graph, donor, seed, noise);
    for (id, twin) in counterparts(graph, donor_graph) {
        heir.take(id, &donor, twin);
    }
    heir.weights
}

/// A graph and what belongs to its convolutions and linear layers.
struct Layers<'a> {
    graph: &'a Graph,
    normalizations: Vec<Option<NodeId>>,
    clips: Vec<Option<(NodeId, Clip)>>,
    fused: Vec<bool>,
}

/// The new network.
struct Heir<'a> {
    layers: Layers<'a>,
    weights: Weights,
}

/// The trained relative.
struct Donor<'a> {
    layers: Layers<'a>,
    weights: &'a Weights,
    channels: Channels,
    importance: Vec<f64>,
    seed: [u8; 32],
    noise: f64,
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

impl<'a> Layers<'a> {
    fn of(graph: &'a Graph) -> Self {
        let normalizations = graph.absorbed_normalizations();
        Self { graph, normalizations, clips: graph.absorbed_clips(), fused: graph.fused() }
    }

    /// The parameters with one number per output channel: the bias, and those of the normalisation.
    fn per_channel(&self, id: NodeId) -> Vec<ParameterId> {
        let normalization = self.normalizations[id.index()].map(|id| self.graph.node(id));
        let own = self.graph.node(id).parameters[1..].iter();
        let own = own.chain(normalization.into_iter().flat_map(|node| &node.parameters));
        own.copied().collect()
    }

    /// What a layer computes, with its normalisation and its clip.
    fn output(&self, id: NodeId) -> ValueId {
        let clip = self.clips[id.index()].map(|(clip, _)| clip);
        let last = clip.or(self.normalizations[id.index()]).unwrap_or(id);
        self.graph.node(last).output
    }

    /// Shape of a layer's weight, `[out, in, rows, columns]`.
    fn weight(&self, id: NodeId) -> [usize; 4] {
        let shape = &self.graph.parameter(self.graph.node(id).parameters[0]).shape;
        // Kernels over one axis have one row, and linear layers a kernel of one position.
        match shape[..] {
            [out, inputs] => [out, inputs, 1, 1],
            [out, inputs, columns] => [out, inputs, 1, columns],
            [out, inputs, rows, columns] => [out, inputs, rows, columns],
            _ => panic!("the weight of a layer has two to four axes"),
        }
        .map(|size| size as usize)
    }
}

impl<'a> Donor<'a> {
    fn new(graph: &'a Graph, weights: &'a Weights, seed: [u8; 32], noise: f64) -> Self {
        let channels = graph.channels();
        let importance = importance::l1_norm(graph, &channels, weights);
        Self { layers: Layers::of(graph), weights, channels, importance, seed, noise }
    }

    /// The origins of `count` channels that come from `all` of an axis. They are the same for all
    /// axes with these channels, so that channels stay aligned.
    fn origins(&self, all: &[ChannelId], count: usize) -> Vec<Origin> {
        let there = all.len();
        let mut channels: Vec<usize> = (0..there).collect();
        if count < there {
            let mut ranked = all.to_vec();
            rank(&mut ranked, &self.importance);
            ranked.truncate(count);
            channels.retain(|&channel| ranked.contains(&all[channel]));
        }
        let mut rng = ChaCha8Rng::from_seed(self.seed);
        // Stream 0 is used for the fresh weights.
        rng.set_stream(1 + self.channels.group_of(all[0]).index() as u64);
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

impl Heir<'_> {
    /// Sets the weights of a layer from those of its counterpart.
    fn take(&mut self, id: NodeId, donor: &Donor, twin: NodeId) {
        let (node, from) = (self.layers.graph.node(id), donor.layers.graph.node(twin));
        let [out, inputs, rows, columns] = self.layers.weight(id);
        let [_, theirs, tall, wide] = donor.layers.weight(twin);
        let axis = |axis| donor.channels.of_parameter(from.parameters[0], axis);
        let outputs = donor.origins(axis(0).expect("filters are channels"), out);
        let inputs = match axis(1) {
            Some(channels) => donor.origins(channels, inputs),
            // A depthwise filter has no inputs to choose from.
            None => vec![Origin { channel: 0, copies: 1, again: false }],
        };
        let mut rng = ChaCha8Rng::from_seed(donor.seed);
        // By the layer's place among those that are computed by themselves.
        let before = self.layers.fused[..id.index()].iter().filter(|fused| !**fused).count();
        rng.set_stream((1 << 32) + before as u64);
        let jitter = Normal::new(1.0, donor.noise).expect("a finite deviation");
        let whole = &donor.weights.of(donor.layers.graph, from.parameters[0]).data;
        let mut values = Vec::with_capacity(out * inputs.len() * rows * columns);
        for row in &outputs {
            for column in &inputs {
                let at = (row.channel * theirs + column.channel) * tall * wide;
                let filter = &whole[at..at + tall * wide];
                for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                    // Kernels are odd, so their centres can be aligned.
                    let place = |i: usize, own: usize, size: usize| {
                        (i + size / 2).checked_sub(own / 2).filter(|&at| at < size)
                    };
                    let value = match (place(y, rows, tall), place(x, columns, wide)) {
                        (Some(y), Some(x)) => filter[y * wide + x],
                        _ => 0.0,
                    };
                    let apart =
                        if row.again || column.again { jitter.sample(&mut rng) } else { 1.0 };
                    values.push((f64::from(value) * apart) as f32 / column.copies as f32);
                }
            }
        }
        self.set(node.parameters[0], values);
        let theirs = donor.layers.per_channel(twin);
        for (own, theirs) in self.layers.per_channel(id).into_iter().zip(theirs) {
            let theirs = &donor.weights.of(donor.layers.graph, theirs).data;
            self.set(own, outputs.iter().map(|row| theirs[row.channel]).collect());
        }
    }

    /// Sets a fresh convolution so that its block is initially the identity: the last one of a
    /// residual branch outputs zero, others copy each channel. If the number of channels or the
    /// resolution changes, it stays random.
    fn start_as_identity(&mut self, id: NodeId, node: &Node) {
        let Op::Conv(conv) = &node.op else { return };
        let graph = self.layers.graph;
        let normalization = self.layers.normalizations[id.index()].map(|id| graph.node(id));
        if let Some(normalization) = normalization.filter(|_| self.ends_branch(id, node)) {
            let [scale, ..] = normalization.parameters[..] else { return };
            let channels = graph.parameter(scale).elements() as usize;
            return self.set(scale, vec![0.0; channels]);
        }
        let [out, inputs, rows, columns] = self.layers.weight(id);
        let depthwise = conv.groups == Groups::PerChannel;
        let strides = conv.axes.iter().any(|axis| axis.stride != 1);
        // A residual branch outputs zero at its end; its layers before that are better left random.
        if strides || !(depthwise || inputs == out) || self.is_branch(node) {
            return;
        }
        let mut values = vec![0.0; out * inputs * rows * columns];
        for channel in 0..out {
            let column = if depthwise { 0 } else { channel };
            values[((channel * inputs + column) * rows + rows / 2) * columns + columns / 2] = 1.0;
        }
        self.set(node.parameters[0], values);
    }

    /// Whether the layer's own block adds its output to the block's input. (Later blocks may add to
    /// it as well.)
    fn ends_branch(&self, id: NodeId, node: &Node) -> bool {
        let output = self.layers.output(id);
        let adds = |other: &Node| {
            matches!(other.op, Op::Add(_))
                && other.inputs.contains(&output)
                && block(&other.place) == block(&node.place)
        };
        self.layers.graph.nodes().any(|(_, other)| adds(other))
    }

    /// Whether a layer belongs to a block that ends in a linear projection, as an inverted residual
    /// does: its last convolution has no activation.
    fn is_branch(&self, node: &Node) -> bool {
        let own = |(_, other): &(NodeId, &Node)| {
            matches!(other.op, Op::Conv(_)) && block(&other.place) == block(&node.place)
        };
        let last = self.layers.graph.nodes().rfind(own);
        last.is_some_and(|(id, _)| self.layers.clips[id.index()].is_none())
    }

    fn set(&mut self, parameter: ParameterId, data: Vec<f32>) {
        let parameter = self.layers.graph.parameter(parameter);
        let array = Array { shape: parameter.sizes(), data };
        self.weights.arrays.insert(parameter.name.to_string(), array);
    }
}

/// Stage and block of a place; `None` outside of blocks.
fn block(place: &Place) -> Option<(Option<u32>, u32)> {
    place.block.map(|block| (place.stage, block))
}

/// Whether a place is in a block that the donor does not have.
fn is_new_block(place: &Place, donor: &Graph) -> bool {
    let own = block(place);
    own.is_some() && donor.nodes().all(|(_, node)| block(&node.place) != own)
}

#[cfg(test)]
mod tests {
    use edgesmith_compress::prune;
    use edgesmith_search_space::{
        Activation, Architecture, DataShape, Operation, Pruning, Skip, Stage, pruning,
    };
    use proptest::prelude::*;

    use super::*;
    use edgesmith_graph::ChannelGroup;
    use edgesmith_testing::reference;
    use edgesmith_testing::{arbitrary_graph, assert_close, random_image, random_weights};

    fn network(operation: Operation, [stem, depth, width, kernel]: [u32; 4]) -> Graph {
        let stage = |stride| Stage {
            depth,
            width,
            kernel,
            operation,
            stride,
            activation: Activation::Relu,
            squeeze: 0,
            skip: Skip::Add,
        };
        let architecture =
            Architecture { resolution: 6, stem_width: stem, stages: vec![stage(1), stage(2)] };
        architecture.graph(DataShape { channels: 3, classes: 4 }).unwrap()
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
            // Few networks have the same data shape.
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
            let small = network(operation, [stem, depth, width, 2 * kernel + 1]);
            let own = network(
                operation,
                [stem + more_width, depth + more_depth, width + more_width, 2 * (kernel + larger) + 1],
            );
            let donor = random_weights(&small, u64::from(seed));
            let weights = inherit_with(&own, &small, &donor, [seed; 32], 0.0);
            weights.check(&own).unwrap();
            let image = random_image(&small, u64::from(seed) + 1);
            assert_close(&reference(&own, &weights, &image), &reference(&small, &donor, &image), 1e-3);
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
        fn a_narrower_relative_equals_the_pruned_network(donor_graph in arbitrary_graph(), seed: u8, ratio in 0.0..0.8) {
            let ratios = [ratio; 3];
            let donor = random_weights(&donor_graph, u64::from(seed));
            let kept = |group: &ChannelGroup| {
                let pruning = Pruning::of_stages(ratios);
                pruning::kept(&donor_graph, group, &pruning).unwrap()
            };
            let (own, pruned) = prune(&donor_graph, &donor, kept);
            prop_assert_eq!(inherit(&own, &donor_graph, &donor, [seed; 32]), pruned);
        }

        #[test]
        fn weights_are_inherited_between_any_two_networks(own in arbitrary_graph(), donor_graph in arbitrary_graph(), seed: u8) {
            prop_assume!(own.input().channels() == donor_graph.input().channels());
            prop_assume!(own.output() == donor_graph.output());
            let donor = random_weights(&donor_graph, u64::from(seed));
            inherit(&own, &donor_graph, &donor, [seed; 32]).check(&own).unwrap();
        }
    }
}
