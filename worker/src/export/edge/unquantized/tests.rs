//! Models in integers beside those that their networks were before.

use std::mem::discriminant;
use std::ops::ControlFlow;

use edgesmith_compress::Scheme;
use edgesmith_graph::{
    Concat, Conv, Flatten, GlobalAveragePool, Graph, GraphBuilder, LayerNormalization, Linear,
    MaxPool, Place, Role, Shape, Weights, WindowAxis,
};
use edgesmith_testing::{
    arbitrary_graph, images_for, normalization, random_bytes, random_weights, residual_graph,
};
use proptest::prelude::*;

use super::*;
use crate::export::{float_model, integer_model};

/// The model in integers of a network with random weights, and the one in fp32.
fn both(graph: &Graph, weights: &Weights, scheme: &Scheme) -> [edge::Model; 2] {
    let images: Vec<Vec<u8>> = (0..4).map(|seed| random_bytes(graph, seed)).collect();
    let (set, normalization) = (images_for(graph, &images), normalization(graph));
    let go_on = &mut || ControlFlow::Continue(());
    let integers = integer_model(graph, weights, &normalization, &set, scheme, go_on).unwrap();
    [integers, float_model(graph, weights, &normalization).unwrap()]
}

/// Checks that the form in fp32 has the layers of the network in fp32, and gives it.
fn assert_found([integers, float]: &[edge::Model; 2]) -> Unquantized {
    let found = unquantized(integers).unwrap();
    assert!(!found.model.has_integers());
    let [layers, expected] = [&found.model, float].map(|model| {
        let shapes = model.validate().unwrap();
        let layers =
            model.nodes.iter().map(|node| (discriminant(&node.layer), node.inputs.clone()));
        (layers.collect::<Vec<_>>(), shapes.all().iter().map(|of| of.shape).collect::<Vec<_>>())
    });
    assert_eq!(layers, expected);
    assert_eq!((found.places.len(), found.names.len()), (layers.0.len(), integers.nodes.len()));
    // Each layer stands for one with as many numbers.
    let shapes = [integers, &found.model].map(|model| model.validate().unwrap());
    for (node, &place) in found.places.iter().enumerate() {
        let of = |model: &edge::Model, node| edge::ValueId((model.inputs.len() + node) as u32);
        let [one, other] = [of(integers, place), of(&found.model, node)];
        assert_eq!(shapes[0].of(one).elements(), shapes[1].of(other).elements());
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_model_in_integers_has_the_layers_of_its_network(graph in arbitrary_graph(), seed: u64) {
        assert_found(&both(&graph, &random_weights(&graph, seed), &Scheme::default()));
    }
}

#[test]
fn layers_that_stay_in_fp32_have_no_conversions_in_fp32() {
    let graph = residual_graph();
    let weights = random_weights(&graph, 3);
    let [whole, _] = both(&graph, &weights, &Scheme::default());
    let real = edgesmith_search_space::layer_names(&graph).nth(2).unwrap().to_owned();
    let scheme = Scheme { real: [real].into(), ..Scheme::default() };
    let mixed = both(&graph, &weights, &scheme);
    let converts = |model: &edge::Model| {
        let converts = |node: &&edge::Node| {
            matches!(node.layer, edge::Layer::Quantize(_) | edge::Layer::Dequantize(_))
        };
        model.nodes.iter().filter(converts).count()
    };
    assert_eq!((converts(&whole), converts(&mixed[0])), (0, 2));
    let found = assert_found(&mixed);
    assert_eq!(mixed[0].nodes.len(), found.model.nodes.len() + 2);
    // What is in fp32 already is itself.
    let [_, float] = mixed;
    let same = unquantized(&float).unwrap();
    assert_eq!(same.places, (0..float.nodes.len()).collect::<Vec<_>>());
}

/// Bytes of two scales that are put together get one first, which fp32 does not need; and a layer
/// normalisation has no form in integers.
#[test]
fn bytes_that_get_another_scale_are_no_layer_in_fp32() {
    let mut b = GraphBuilder::new();
    let image = b.input("image", Shape::new(1, &[8, 8]).unwrap()).unwrap();
    let weight = b.parameter("conv.weight", &[4, 1, 3, 3], Role::Weight).unwrap();
    let conv = b.node("conv", Conv::dense(3, 1), &[image], &[weight], Place::default()).unwrap();
    let axes = [WindowAxis::same(3, 1); 2];
    let pool = MaxPool { kernel: [3, 3].into(), axes: axes.to_vec().into() };
    let pool = b.node("pool", pool, &[image], &[], Place::default()).unwrap();
    let joined = b.node("join", Concat { axis: 0 }, &[conv, pool], &[], Place::default()).unwrap();
    let mean = b.node("mean", GlobalAveragePool, &[joined], &[], Place::default()).unwrap();
    let [scale, shift] = [("scale", Role::Scale), ("shift", Role::Shift)]
        .map(|(name, role)| b.parameter(format!("norm.{name}"), &[5], role).unwrap());
    let norm = LayerNormalization { axes: vec![0].into(), epsilon: 1e-5 };
    let norm = b.node("norm", norm, &[mean], &[scale, shift], Place::default()).unwrap();
    let weight = b.parameter("fc.weight", &[10, 5], Role::Weight).unwrap();
    let flat = b.node("flat", Flatten, &[norm], &[], Place::default()).unwrap();
    let classes = b.node("fc", Linear, &[flat], &[weight], Place::default()).unwrap();
    let graph = b.finish(&[classes]).unwrap();
    let models = both(&graph, &random_weights(&graph, 3), &Scheme::default());
    let copies = |node: &&edge::Node| matches!(node.layer, edge::Layer::Table(_));
    assert!(models[0].nodes.iter().filter(copies).count() > 0, "{:?}", models[0].nodes);
    assert_found(&models);
}
