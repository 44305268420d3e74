//! Cost, against calculations by hand.

use edgesmith_graph::{
    Add, Clip, Cost, Function, GlobalAveragePool, Linear, Map, Multiply, Place, Prelu, Role, Shape,
};

use crate::{Net, picture};

#[test]
fn an_inverted_residual_matches_a_calculation_by_hand() {
    let mut net = Net::new();
    let image = net.input(picture(1, 4, 4));
    let stem = net.conv(image, 5, 3);
    let entry = net.op(Clip::RELU, &[stem]);
    let expand = net.conv(entry, 15, 1);
    let expand = net.normalize(expand);
    let expand = net.op(Clip::RELU6, &[expand]);
    let depthwise = net.depthwise(expand, 15, 3);
    let depthwise = net.op(Clip::RELU6, &[depthwise]);
    let project = net.conv(depthwise, 5, 1);
    let sum = net.op(Add, &[entry, project]);
    let pooled = net.op(GlobalAveragePool, &[sum]);
    let output = net.linear(pooled, 10);
    let graph = net.builder.finish(&[output]).unwrap();
    let positions = 16;
    assert_eq!(
        graph.cost(),
        Cost {
            macs: (9 * 5 + 5 * 15 + 9 * 15 + 15 * 5) * positions + 50,
            // Normalisation folds into the bias that is there already.
            parameters: (45 + 5) + (75 + 15) + (135 + 15) + (75 + 5) + (50 + 10),
            // The block's input, its expansion and the depthwise output; activations are written
            // over their inputs.
            peak_elements: positions * (5 + 15 + 15),
        }
    );
}

#[test]
fn normalisation_that_cannot_be_folded_has_a_factor_and_an_offset() {
    let mut net = Net::new();
    let input = net.input(picture(3, 2, 2));
    let first = net.normalize(input);
    let conv = net.conv(first, 4, 1);
    let folded = net.normalize(conv);
    let output = net.conv(folded, 2, 1);
    let graph = net.builder.finish(&[output]).unwrap();
    assert_eq!(graph.cost().parameters, 6 + (12 + 4) + (8 + 2));
    let absorbed = graph.absorbed_normalizations();
    assert_eq!(absorbed.iter().flatten().count(), 1);
    let absorbed_by_conv = absorbed[graph.producer(conv).unwrap().index()];
    assert_eq!(absorbed_by_conv, graph.producer(folded));
}

#[test]
fn slopes_and_constants_ship() {
    let mut net = Net::new();
    let input = net.input(picture(3, 2, 2));
    let active = net.with(Prelu, &[input], &[("slope", &[3], Role::Slope)]);
    let constant = net.constant(&[3, 2, 1]);
    let output = net.op(Add, &[active, constant]);
    let graph = net.builder.finish(&[output]).unwrap();
    assert_eq!(graph.cost().parameters, 3 + 6);
    // The activation is written over its input; the constant and the sum are beside it.
    assert_eq!(graph.cost().peak_elements, 12 + 6 + 12);
}

/// The output of a convolution that something else reads too is needed as it is.
#[test]
fn normalisation_of_a_value_with_other_readers_is_not_folded() {
    let mut net = Net::new();
    let input = net.input(picture(1, 2, 2));
    let conv = net.conv(input, 4, 1);
    let normalized = net.normalize(conv);
    let output = net.op(Add, &[conv, normalized]);
    let graph = net.builder.finish(&[output]).unwrap();
    assert_eq!(graph.cost().parameters, (4 + 4) + 8);
    // Nor is one written over its input.
    assert_eq!(graph.cost().peak_elements, 3 * 16);
}

#[test]
fn values_that_nobody_reads_take_memory_only_at_once() {
    let mut net = Net::new();
    let input = net.input(Shape::new(4, &[]).unwrap());
    net.linear(input, 100);
    let output = net.linear(input, 2);
    let graph = net.builder.finish(&[output]).unwrap();
    assert_eq!(graph.cost().peak_elements, 104);
}

/// Folding would change the other layer that has the weight.
#[test]
fn a_parameter_of_two_nodes_counts_once_and_is_not_folded_into() {
    let mut net = Net::new();
    let input = net.input(Shape::new(4, &[]).unwrap());
    let weight = net.builder.parameter("shared", &[4, 4], Role::Weight).unwrap();
    let linear = |net: &mut Net, name: &'static str, input| {
        net.builder.node(name, Linear, &[input], &[weight], Place::default()).unwrap()
    };
    let first = linear(&mut net, "first", input);
    let normalized = net.normalize(first);
    let output = linear(&mut net, "second", normalized);
    let graph = net.builder.finish(&[output]).unwrap();
    assert_eq!(graph.shipped_parameters(), [16, 8, 0]);
    assert_eq!(graph.cost().parameters, 24);
    assert!(graph.absorbed_normalizations().iter().all(Option::is_none));
}

#[test]
fn only_what_follows_its_layer_directly_moves_nothing() {
    let mut net = Net::new();
    let image = net.input(picture(2, 2, 2));
    let before = net.op(Clip::RELU, &[image]);
    let conv = net.conv(before, 2, 1);
    let normalized = net.normalize(conv);
    let clipped = net.op(Clip::RELU, &[normalized]);
    let active = net.op(Map { function: Function::HardSwish }, &[clipped]);
    let squeezed = net.op(GlobalAveragePool, &[active]);
    let gate = net.op(Map { function: Function::Sigmoid }, &[squeezed]);
    let scaled = net.op(Multiply, &[active, gate]);
    let output = net.op(Clip::RELU6, &[scaled]);
    let graph = net.builder.finish(&[output]).unwrap();
    let (map, vector) = (8, 2);
    let expected = [
        Some(2 * map),
        Some(2 * map),
        None,
        None,
        // An activation other than a clip is a pass of its own.
        Some(2 * map),
        Some(map + vector),
        Some(2 * vector),
        Some(2 * map + vector),
        Some(2 * map),
    ];
    assert_eq!(graph.traffic(), expected);
}
