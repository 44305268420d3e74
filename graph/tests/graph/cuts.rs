//! Removing channels: the smaller graph computes what the masked one computes.

use std::collections::BTreeSet;

use edgesmith_graph::{
    Array, ChannelGroup, ChannelId, Channels, Concat, CutError, Evaluator, Flatten, Gather,
    GlobalAveragePool, Graph, GroupSize, Op, Operation, Reshape, Shape, Weights,
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

/// Operations that never state a tie.
const NEVER_CUT: [&str; 1] = ["matrix_product"];

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
    let tied = Op::KINDS.iter().copied().filter(|kind| !NEVER_CUT.contains(kind));
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), tied.collect::<Vec<_>>());
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
    let both = net.op(Concat::channels(), &[a, b]);
    // [a0, b0, a1, b1]
    let shuffled = net.op(Gather::shuffle(4, 2), &[both]);
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
fn a_reshape_is_cut_and_padded_where_its_channels_stay_whole() {
    let mut net = Net::new();
    let image = net.input(picture(1, 2, 3));
    let stem = net.conv(image, 4, 1);
    let row = net.op(Reshape { sizes: [4, 6][..].into() }, &[stem]);
    let wide = net.conv(image, 4, 1);
    let halves = net.op(Reshape { sizes: [2, 2, 6][..].into() }, &[wide]);
    let split = net.conv(image, 2, 1);
    let parts = net.op(Reshape { sizes: [4, 3][..].into() }, &[split]);
    let mixed = net.conv(image, 3, 1);
    let strewn = net.op(Reshape { sizes: [2, 9][..].into() }, &[mixed]);
    let vectors = [row, halves, parts, strewn].map(|value| net.op(Flatten, &[value]));
    let all = net.op(Concat::channels(), &vectors);
    let output = net.linear(all, 1);
    let graph = net.builder.finish(&[output]).unwrap();
    let channels = graph.channels();
    let first = |value| channels.of_value(value)[0];
    assert_eq!(channels.of_value(wide)[..2], [first(halves); 2]);
    assert_eq!(channels.of_value(parts)[..2], [first(split); 2]);
    let fixed = |value| channels.groups()[channels.group_of(first(value)).index()].fixed;
    assert_eq!([stem, wide, split, mixed, strewn].map(fixed), [false, false, false, true, true]);
    let cut = graph.clone().without(&channels, [row, halves, split].map(first)).unwrap().graph;
    let shapes = [row, halves, parts].map(|value| cut.shape(value).to_string());
    assert_eq!(shapes, ["3x6", "1x2x6", "2x3"]);
    // Nothing else is tied to these channels, so that they may grow.
    let mut net = Net::new();
    let image = net.input(picture(1, 2, 3));
    let stem = net.conv(image, 3, 1);
    let row = net.op(Reshape { sizes: [3, 6][..].into() }, &[stem]);
    let output = net.op(GlobalAveragePool, &[row]);
    let output = net.linear(output, 1);
    let padded = net.builder.finish(&[output]).unwrap().padded(4);
    assert_eq!(padded.shape(row).to_string(), "4x6");
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
