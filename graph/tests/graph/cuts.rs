//! Removing channels: the smaller graph computes what the masked one computes.

use std::collections::BTreeSet;

use edgesmith_graph::{
    Array, ChannelGroup, ChannelId, Channels, Concat, CutError, Evaluator, Flatten, GatherChannels,
    Graph, GroupSize, Op, Operation, Shape, Weights,
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Net, picture, random};

/// A random choice of channels that may be removed, such that every value keeps one.
fn removable(graph: &Graph, channels: &Channels, seed: u64) -> BTreeSet<ChannelId> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut removed = BTreeSet::new();
    for group in channels.groups().iter().filter(|group| !group.fixed) {
        for &channel in &group.channels {
            if rng.random_bool(0.4) {
                removed.insert(channel);
                let left = |(id, _)| channels.of_value(id).iter().any(|c| !removed.contains(c));
                if !graph.values().all(left) {
                    removed.remove(&channel);
                }
            }
        }
    }
    removed
}

/// All numbers at indices of removed channels set to 0.
fn masked(
    graph: &Graph,
    channels: &Channels,
    weights: &Weights,
    removed: &BTreeSet<ChannelId>,
) -> Weights {
    let mut masked = weights.clone();
    for (id, parameter) in graph.parameters() {
        let array = masked.arrays.get_mut(&*parameter.name).unwrap();
        for axis in 0..array.shape.len() {
            let Some(of) = channels.of_parameter(id, axis) else { continue };
            let inner: usize = array.shape[axis + 1..].iter().product();
            for (at, value) in array.data.iter_mut().enumerate() {
                if removed.contains(&of[at / inner % array.shape[axis]]) {
                    *value = 0.0;
                }
            }
        }
    }
    masked
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_pruned_graph_equals_the_masked_one(seed: u64, nodes in 1usize..14) {
        let graph = random::graph(seed, nodes);
        let channels = graph.channels();
        let removed = removable(&graph, &channels, seed);
        let weights = random::weights(&graph, seed);
        let cut = graph.clone().without(&channels, removed.clone()).unwrap();
        let slim = cut.weights(&weights);
        prop_assert_eq!(slim.check(&cut.graph), Ok(()));

        let masked = masked(&graph, &channels, &weights, &removed);
        let input = random::input(&graph, seed);
        let expected = Evaluator::<f64>::new(&graph, &masked).run(vec![input.clone()]);
        let got = Evaluator::<f64>::new(&cut.graph, &slim).run(vec![input]);
        // Not only the outputs: every value has its kept channels.
        for (id, value) in graph.values() {
            let positions = value.shape.positions() as usize;
            let of = channels.of_value(id);
            let kept = expected[id.index()].chunks_exact(positions).zip(of);
            let kept = kept.filter(|(_, channel)| !removed.contains(channel));
            let kept: Vec<f64> = kept.flat_map(|(values, _)| values).copied().collect();
            prop_assert_eq!(kept.len(), got[id.index()].len());
            for (a, b) in kept.iter().zip(&got[id.index()]) {
                prop_assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{}: {a} {b}", value.name);
            }
        }
    }

    #[test]
    fn nothing_removed_changes_nothing(seed: u64, nodes in 1usize..14) {
        let graph = random::graph(seed, nodes);
        let cut = graph.clone().without(&graph.channels(), []).unwrap();
        prop_assert_eq!(&cut.graph, &graph);
        let weights = random::weights(&graph, seed);
        prop_assert_eq!(cut.weights(&weights), weights);
    }

    #[test]
    fn groups_shrink_to_the_sizes_asked_for(seed: u64, nodes in 1usize..14) {
        let graph = random::graph(seed, nodes);
        let channels = graph.channels();
        let sizes: Vec<GroupSize> = channels.groups().iter().map(GroupSize::from).collect();
        prop_assert_eq!(graph.group_sizes(), sizes);
        let kept = |group: GroupSize| {
            let parts = (seed % 3) as usize + group.first.index() % 2;
            if group.fixed { group.channels } else { group.channels.div_ceil(parts.max(1)) }
        };
        let removed = |group: &ChannelGroup| group.channels[kept(group.into())..].to_vec();
        let removed: Vec<ChannelId> = channels.groups().iter().flat_map(removed).collect();
        let cut = graph.clone().without(&channels, removed).map(|cut| cut.graph);
        prop_assert_eq!(graph.shrunk(|_, group| kept(group)), cut);
    }

    #[test]
    fn a_cut_can_be_cut_again(seed: u64, nodes in 1usize..14) {
        let graph = random::graph(seed, nodes);
        let channels = graph.channels();
        let once = graph.clone().without(&channels, removable(&graph, &channels, seed)).unwrap();
        let (cut, weights) = (once.graph.clone(), once.weights(&random::weights(&graph, seed)));
        let channels = cut.channels();
        let removed = removable(&cut, &channels, !seed);
        let twice = cut.clone().without(&channels, removed.iter().copied()).unwrap();
        let masked = masked(&cut, &channels, &weights, &removed);
        let input = random::input(&graph, seed);
        let expected = Evaluator::<f64>::new(&cut, &masked).output(input.clone());
        let got = Evaluator::<f64>::new(&twice.graph, &twice.weights(&weights)).output(input);
        for (a, b) in expected.iter().zip(&got) {
            prop_assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{a} {b}");
        }
    }

    /// Whatever is added is zero, so it changes nothing.
    #[test]
    fn a_padded_graph_with_zeros_computes_the_same(
        seed: u64,
        nodes in 1usize..14,
        multiple in 1u32..5,
    ) {
        let graph = random::graph(seed, nodes);
        let padded = graph.padded(multiple);
        let weights = random::weights(&graph, seed);
        let arrays = padded.parameters().map(|(_, parameter)| {
            let name = parameter.name.to_string();
            let array = zero_padded(&weights.arrays[&name], &parameter.sizes());
            (name, array)
        });
        let zeros = Weights { arrays: arrays.collect() };
        prop_assert_eq!(zeros.check(&padded), Ok(()));
        let input = random::input(&graph, seed);
        let expected = Evaluator::<f64>::new(&graph, &weights).output(input.clone());
        let got = Evaluator::<f64>::new(&padded, &zeros).output(input);
        for (a, b) in expected.iter().zip(&got) {
            prop_assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{a} {b}");
        }
        prop_assert_eq!(graph.padded(1), graph);
    }
}

/// An array of another shape: the same numbers where both overlap, and zeros elsewhere.
fn zero_padded(array: &Array, shape: &[usize]) -> Array {
    let index = |mut at: usize, shape: &[usize]| {
        let mut index = vec![0; shape.len()];
        for (place, size) in index.iter_mut().zip(shape).rev() {
            (*place, at) = (at % size, at / size);
        }
        index
    };
    let old = |at: usize| {
        let index = index(at, shape);
        let inside = index.iter().zip(&array.shape).all(|(place, size)| place < size);
        let places = index.iter().zip(&array.shape);
        inside.then(|| places.fold(0, |at, (place, size)| at * size + place))
    };
    let count = shape.iter().product();
    let data = (0..count).map(|at| old(at).map_or(0.0, |at| array.data[at])).collect();
    Array { shape: shape.to_vec(), data }
}

/// An operation that states no ties is never pruned, so the properties above say nothing of it.
#[test]
fn channels_of_every_operation_are_removed() {
    let mut kinds = BTreeSet::new();
    for seed in 0..300 {
        let graph = random::graph(seed, 12);
        let channels = graph.channels();
        let removed = removable(&graph, &channels, seed);
        let cut = graph.nodes().filter(|(_, node)| {
            channels.of_value(node.output).iter().any(|channel| removed.contains(channel))
        });
        kinds.extend(cut.map(|(_, node)| node.op.kind()));
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), Op::KINDS);
}

#[test]
fn padding_rounds_up_what_is_tied_to_nothing_else() {
    let mut net = Net::new();
    let image = net.input(picture(1, 2, 2));
    let stem = net.conv(image, 5, 1);
    let wide = net.conv(stem, 6, 1);
    let grouped = net.grouped(wide, 6, 1, 2);
    let flat = net.op(Flatten, &[grouped]);
    let output = net.linear(flat, 3);
    let graph = net.builder.finish(&[output]).unwrap();
    let padded = graph.padded(4);
    let channels: Vec<u32> = padded.values().map(|(_, value)| value.shape.channels()).collect();
    assert_eq!(channels, [1, 8, 6, 6, 24, 3]);
}

#[test]
fn a_concatenation_and_a_shuffle_are_cut_exactly() {
    let mut net = Net::new();
    let image = net.input(picture(1, 2, 2));
    let (a, b) = (net.conv(image, 2, 1), net.conv(image, 2, 1));
    let both = net.op(Concat, &[a, b]);
    // [a0, b0, a1, b1]
    let shuffled = net.op(GatherChannels::shuffle(4, 2), &[both]);
    let features = net.op(Flatten, &[shuffled]);
    let output = net.linear(features, 2);
    let graph = net.builder.finish(&[output]).unwrap();
    let channels = graph.channels();
    let removed = BTreeSet::from([channels.of_value(b)[0]]);
    let cut = graph.clone().without(&channels, removed.clone()).unwrap();
    assert_eq!(cut.graph.shape(b).channels(), 1);
    assert_eq!(cut.graph.shape(features).channels(), 12);
    let mut weights = random::weights(&graph, 1);
    let linear = weights.arrays.get_mut("n6.weight").unwrap();
    linear.data = (0..32u8).map(f32::from).collect();
    let kept = &cut.weights(&weights).arrays["n6.weight"];
    assert_eq!(kept.shape, [2, 12]);
    // The four positions of b0 are gone from each row.
    let row: Vec<f32> = [0u8, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15].map(f32::from).to_vec();
    assert_eq!(kept.data[..12], row);
}

#[test]
fn inputs_outputs_and_the_last_channel_of_a_value_stay() {
    let mut net = Net::new();
    let input = net.input(Shape::new(2, &[]).unwrap());
    let hidden = net.linear(input, 2);
    let output = net.linear(hidden, 2);
    let graph = net.builder.finish(&[output]).unwrap();
    let channels = graph.channels();
    let remove = |value| {
        let of: BTreeSet<ChannelId> = channels.of_value(value).iter().copied().collect();
        graph.clone().without(&channels, of).unwrap_err()
    };
    assert_eq!(remove(input), CutError::Fixed { value: "input".into() });
    assert_eq!(remove(output), CutError::Fixed { value: "n2".into() });
    assert_eq!(remove(hidden), CutError::Empty { value: "n1".into() });
}

#[test]
fn a_group_shrinks_neither_to_nothing_nor_if_it_is_fixed() {
    let mut net = Net::new();
    let image = net.input(picture(3, 4, 4));
    let hidden = net.conv(image, 4, 3);
    let output = net.conv(hidden, 2, 1);
    let graph = net.builder.finish(&[output]).unwrap();
    let name = |value| graph.value(value).name.to_string();
    let shrunk = |of, to: usize| {
        let kept = |_: &Graph, g: GroupSize| if g.first == of { to } else { g.channels };
        graph.clone().shrunk(kept).map(|graph| graph.shape(of).channels())
    };
    assert_eq!(shrunk(hidden, 1), Ok(1));
    assert_eq!(shrunk(hidden, 0), Err(CutError::Empty { value: name(hidden) }));
    assert_eq!(shrunk(output, 1), Err(CutError::Fixed { value: name(output) }));
    assert_eq!(shrunk(output, 2), Ok(2));
}
