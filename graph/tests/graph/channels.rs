//! Which channels belong together, on graphs small enough to say it by hand.

use edgesmith_graph::{
    Add, Binary, BinaryFunction, ChannelId, Clip, Concat, Flatten, Function, GlobalAveragePool,
    Map, Multiply, Op, Reduce, ReduceFunction, Shape, Softmax, ValueId,
};

use crate::{Net, picture};

fn ids(channels: &[ChannelId]) -> Vec<usize> {
    channels.iter().map(|channel| channel.index()).collect()
}

#[test]
fn a_residual_sum_ties_both_sides_and_their_readers() {
    let mut net = Net::new();
    let image = net.input(picture(3, 4, 4));
    let stem = net.conv(image, 4, 3);
    let depthwise = net.depthwise(stem, 4, 3);
    let branch = net.normalize(depthwise);
    let sum = net.op(Add, &[stem, branch]);
    let pooled = net.op(GlobalAveragePool, &[sum]);
    let output = net.linear(pooled, 2);
    let graph = net.builder.finish(&[output]).unwrap();
    let channels = graph.channels();
    for value in [depthwise, branch, sum, pooled] {
        assert_eq!(channels.of_value(value), channels.of_value(stem));
    }
    // The image, the stem with all that is tied to it, and the output.
    assert_eq!(channels.count(), 3 + 4 + 2);
    let fixed: Vec<bool> = channels.groups().iter().map(|group| group.fixed).collect();
    assert_eq!(fixed, [true, false, true]);
    assert_eq!(channels.groups()[1].first, stem);
    let parameter = |name: &str| graph.parameters().find(|(_, p)| *p.name == *name).unwrap().0;
    let linear = parameter("n6.weight");
    assert_eq!(channels.of_parameter(linear, 1), Some(channels.of_value(stem)));
    assert_eq!(channels.of_parameter(linear, 0), Some(channels.of_value(output)));
    let depthwise = parameter("n2.weight");
    assert_eq!(channels.of_parameter(depthwise, 0), Some(channels.of_value(stem)));
    // A depthwise filter reads one channel; the axis has no channels of its own, nor has a kernel.
    assert_eq!([1, 2, 3].map(|axis| channels.of_parameter(depthwise, axis)), [None; 3]);
}

#[test]
fn a_concatenation_keeps_its_parts_apart() {
    let mut net = Net::new();
    let image = net.input(picture(1, 4, 4));
    let (a, b) = (net.conv(image, 2, 1), net.conv(image, 3, 1));
    let both = net.op(Concat::channels(), &[a, b]);
    let output = net.conv(both, 2, 1);
    let graph = net.builder.finish(&[output]).unwrap();
    let channels = graph.channels();
    let parts = [ids(channels.of_value(a)), ids(channels.of_value(b))];
    assert_eq!(ids(channels.of_value(both)), parts.concat());
    let groups = [a, b].map(|value| channels.group_of(channels.of_value(value)[0]));
    assert_ne!(groups[0], groups[1]);
    assert!(groups.iter().all(|group| !channels.groups()[group.index()].fixed));
}

#[test]
fn a_flatten_ties_the_positions_of_a_channel() {
    let mut net = Net::new();
    let image = net.input(picture(1, 1, 3));
    let stem = net.conv(image, 2, 1);
    let flat = net.op(Flatten, &[stem]);
    let output = net.linear(flat, 2);
    let graph = net.builder.finish(&[output]).unwrap();
    let channels = graph.channels();
    let [a, b] = channels.of_value(stem) else { panic!("two channels") };
    assert_eq!(channels.of_value(flat), [*a, *a, *a, *b, *b, *b]);
}

#[test]
fn a_grouped_convolution_ties_the_same_place_of_each_group() {
    let mut net = Net::new();
    let image = net.input(picture(1, 4, 4));
    let stem = net.conv(image, 4, 1);
    let grouped = net.grouped(stem, 6, 3, 2);
    let output = net.conv(grouped, 1, 1);
    let graph = net.builder.finish(&[output]).unwrap();
    let channels = graph.channels();
    let [a, b, c, d] = channels.of_value(stem) else { panic!("four channels") };
    assert_eq!((a, b), (c, d));
    let of = channels.of_value(grouped);
    assert_eq!(of[..3], of[3..]);
    assert_ne!(channels.group_of(*a), channels.group_of(of[0]));
}

#[test]
fn a_depthwise_convolution_with_several_filters_ties_them_to_their_input() {
    let mut net = Net::new();
    let image = net.input(picture(1, 4, 4));
    let stem = net.conv(image, 2, 1);
    let depthwise = net.depthwise(stem, 6, 3);
    let output = net.conv(depthwise, 1, 1);
    let graph = net.builder.finish(&[output]).unwrap();
    let channels = graph.channels();
    let [a, b] = channels.of_value(stem) else { panic!("two channels") };
    assert_eq!(channels.of_value(depthwise), [*a, *a, *a, *b, *b, *b]);
}

#[test]
fn squeeze_and_excitation_has_a_hidden_group_of_its_own() {
    let mut net = Net::new();
    let image = net.input(picture(1, 4, 4));
    let stem = net.conv(image, 4, 1);
    let squeezed = net.op(GlobalAveragePool, &[stem]);
    let hidden = net.linear(squeezed, 2);
    let hidden = net.op(Clip::RELU, &[hidden]);
    let gate = net.linear(hidden, 4);
    let gate = net.op(Map { function: Function::Sigmoid }, &[gate]);
    let scaled = net.op(Multiply, &[stem, gate]);
    let output = net.conv(scaled, 1, 1);
    let graph = net.builder.finish(&[output]).unwrap();
    let channels = graph.channels();
    assert_eq!(channels.of_value(gate), channels.of_value(stem));
    assert_eq!(channels.of_value(scaled), channels.of_value(stem));
    let free: Vec<usize> =
        channels.groups().iter().filter(|g| !g.fixed).map(|g| g.channels.len()).collect();
    assert_eq!(free, [4, 2]);
}

#[test]
fn one_channel_that_is_repeated_under_many_stays() {
    let mut net = Net::new();
    let image = net.input(picture(1, 4, 4));
    let (wide, single) = (net.conv(image, 3, 1), net.conv(image, 1, 1));
    let position = net.constant(&[3, 4]);
    let sum = net.op(Add, &[single, wide]);
    let sum = net.op(Add, &[sum, position]);
    let output = net.conv(sum, 1, 1);
    let graph = net.builder.finish(&[output]).unwrap();
    let channels = graph.channels();
    let fixed = |value| {
        let channel = channels.of_value(value)[0];
        channels.groups()[channels.group_of(channel).index()].fixed
    };
    assert!(fixed(single) && !fixed(wide));
    for value in [sum, position] {
        assert_eq!(channels.of_value(value), channels.of_value(wide));
    }
    let constant = graph.parameter_named("n3.value").unwrap();
    assert_eq!(channels.of_parameter(constant, 0), Some(channels.of_value(wide)));
    assert_eq!(channels.of_parameter(constant, 1), None);
}

#[test]
fn channels_stay_where_they_depend_on_each_other_or_zeros_make_no_number() {
    let is_free = |build: &dyn Fn(&mut Net, ValueId) -> ValueId| {
        let mut net = Net::new();
        let image = net.input(picture(1, 2, 2));
        let hidden = net.conv(image, 3, 1);
        let value = build(&mut net, hidden);
        let output = net.conv(value, 1, 1);
        let channels = net.builder.finish(&[output]).unwrap().channels();
        !channels.groups()[channels.group_of(channels.of_value(hidden)[0]).index()].fixed
    };
    let of = |op: Op| is_free(&|net, x| net.op(op.clone(), &[x]));
    let map = |function| of(Map { function }.into());
    assert!(map(Function::Exponential) && map(Function::Power { exponent: 0.5 }));
    assert!(!map(Function::Logarithm) && !map(Function::Power { exponent: -0.5 }));
    let softmax = |axis| of(Softmax { axis, log: false }.into());
    assert!(softmax(1) && softmax(2) && !softmax(0));
    let sum = |axes: &[u32]| of(Reduce { function: ReduceFunction::Sum, axes: axes.into() }.into());
    assert!(sum(&[1, 2]) && !sum(&[0]) && !sum(&[0, 2]));
    let binary = |function| is_free(&|net, x| net.op(Binary { function }, &[x, x]));
    assert!(binary(BinaryFunction::Subtract) && binary(BinaryFunction::Equal));
    assert!(!binary(BinaryFunction::Divide) && !binary(BinaryFunction::Power));
}

/// A value that a node reads twice at different places ties its channels to themselves.
#[test]
fn channels_may_be_tied_within_one_value() {
    let mut net = Net::new();
    let input = net.input(Shape::new(1, &[]).unwrap());
    let wide = net.linear(input, 4);
    let narrow = net.linear(input, 2);
    let twice = net.op(Concat::channels(), &[narrow, narrow]);
    let sum = net.op(Add, &[wide, twice]);
    let output = net.linear(sum, 1);
    let graph = net.builder.finish(&[output]).unwrap();
    let channels = graph.channels();
    let [a, b] = channels.of_value(narrow) else { panic!("two channels") };
    assert_eq!(channels.of_value(wide), [*a, *b, *a, *b]);
}
