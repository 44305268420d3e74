//! Networks in integers beside the same ones in fp32, with times that are made up.

use std::cell::RefCell;
use std::ops::ControlFlow;

use edgesmith_common::{Fp32Timing, LayerTimes};
use edgesmith_compress::{Scheme, prune};
use edgesmith_edge_runtime::Layer;
use edgesmith_graph::{ChannelGroup, Function, LayerNormalization, Map};
use edgesmith_search_space::layer_names;
use edgesmith_testing::{images_for, normalization, random_bytes, random_weights, residual_graph};

use super::own_network::on_network;
use super::*;
use crate::export::integer_model;

/// A network as its file in integers, with these layers in fp32.
fn quantized(graph: &Graph, weights: &Weights, fp32: &[&str]) -> Model {
    let images: Vec<Vec<u8>> = (0..4).map(|seed| random_bytes(graph, seed)).collect();
    let real = fp32.iter().map(ToString::to_string).collect();
    let scheme = Scheme { real, ..Scheme::default() };
    let (set, go_on) = (images_for(graph, &images), &mut || ControlFlow::Continue(()));
    integer_model(graph, weights, &normalization(graph), &set, &scheme, go_on).unwrap()
}

/// The weights that a study on this network has.
fn weights_of(graph: &Graph) -> Weights {
    random_weights(graph, 5)
}

fn measurement(p50_ms: f64) -> Measurement {
    Measurement {
        device: worker().info,
        engine: EngineName::edge_runtime(),
        engine_version: "0".to_owned(),
        threads: 1,
        batch: 1,
        warmup_runs: 0,
        samples: 50,
        p50_ms,
        p95_ms: p50_ms,
        min_ms: p50_ms,
        noise: None,
        energy_mj: None,
        original: None,
        slower_layers: Vec::new(),
        unquantized: None,
        slower_in_integers: Vec::new(),
    }
}

/// What is found of a model that takes 2 ms, where the network as it came takes `original_ms`, and
/// its form in fp32 `fp32_ms` if it can be timed. A node takes what `node` says. Also, how many
/// layers the models had that were timed.
fn compared(
    (task, files): &(TaskWork, Vec<Vec<u8>>),
    shipped: &Model,
    [original_ms, fp32_ms]: [Option<f64>; 2],
    node: impl Fn(&Layer) -> f64,
) -> (Measurement, Vec<usize>) {
    let study = Study::of(&task.spec, None).unwrap();
    let original = original_ms.map(|ms| measurement(ms).timing());
    let (gate, timed) = (QuietGate::default(), RefCell::new(Vec::new()));
    let context = AttemptContext::offline(files.clone());
    let time = Timers {
        whole: |model: &Model| {
            assert!(!model.has_integers());
            timed.borrow_mut().push(model.nodes.len());
            fp32_ms.map(measurement).ok_or(ProbeError::Threads { asked: 2 })
        },
        nodes: |model: &Model| Ok(model.nodes.iter().map(|of| node(&of.layer)).collect()),
    };
    let measured = Measurement { original, ..measurement(2.0) };
    let found = compare(&study, shipped, measured, (&gate, &context), &time).unwrap();
    (found, timed.into_inner())
}

fn on_own(graph: &Graph) -> (TaskWork, Vec<Vec<u8>>) {
    let (task, file) = on_network(graph.clone(), "train = \"as-it-is\"");
    (task, vec![file])
}

fn by_kind(layer: &Layer) -> f64 {
    match layer {
        Layer::IntConv(_) => 0.2,
        Layer::Quantize(_) | Layer::Dequantize(_) => 0.5,
        _ => 0.1,
    }
}

fn layers(of: &[LayerTimes]) -> Vec<(&str, bool)> {
    of.iter().map(|of| (&*of.layer, of.conversions)).collect()
}

#[test]
fn a_candidate_of_a_space_is_timed_in_fp32_too() {
    let study = (task(None, None), Vec::new());
    let graph = residual_graph();
    let shipped = quantized(&graph, &weights_of(&graph), &[]);
    let (found, timed) = compared(&study, &shipped, [None, Some(1.0)], by_kind);
    assert_eq!(timed, [shipped.nodes.len()]);
    assert_eq!(found.unquantized, Some(measurement(1.0).timing()));
    assert!(found.is_slower_in_integers() && found.slower_layers.is_empty());
    let named = &found.slower_in_integers;
    assert!(!named.is_empty() && named.iter().all(|of| of.layer.starts_with("node")));
    assert!(named.iter().all(|of| (of.shipped_ms, of.original_ms) == (0.2, 0.1)));
    // No layers are looked for if it is not slower, or if it could not be timed.
    let (found, _) = compared(&study, &shipped, [None, Some(1.95)], |_| unreachable!());
    let fp32_ms = found.unquantized.map(|of| of.p50_ms);
    assert_eq!((fp32_ms, found.slower_in_integers), (Some(1.95), vec![]));
    let (found, _) = compared(&study, &shipped, [None, None], |_| unreachable!());
    assert_eq!(found, measurement(2.0));
    // A network in fp32 has no other form.
    let float = float_model(&graph, &weights_of(&graph), &normalization(&graph)).unwrap();
    let (found, timed) = compared(&study, &float, [None, Some(1.0)], |_| unreachable!());
    assert_eq!((found, timed), (measurement(2.0), vec![]));
}

#[test]
fn a_network_that_is_only_quantized_is_compared_with_itself_as_it_came() {
    let graph = residual_graph();
    let names: Vec<&str> = layer_names(&graph).collect();
    let shipped = quantized(&graph, &weights_of(&graph), &[names[1]]);
    let (found, timed) = compared(&on_own(&graph), &shipped, [Some(1.0), None], by_kind);
    assert_eq!((found.unquantized, timed), (None, vec![]));
    let named = layers(&found.slower_layers);
    assert_eq!(named[0], (names[1], true), "what converts around it takes longest");
    assert!(named.iter().all(|(name, _)| names.contains(name)), "{named:?}");
    assert!(!named.contains(&(names[1], false)) && named.contains(&(names[0], false)));
}

#[test]
fn a_network_that_is_pruned_first_is_compared_with_both() {
    let graph = residual_graph();
    let half = |group: &ChannelGroup| {
        if group.fixed { group.channels.len() } else { group.channels.len().div_ceil(2) }
    };
    let (pruned, weights) = prune(&graph, &weights_of(&graph), half);
    let shipped = quantized(&pruned, &weights, &[]);
    let study = on_own(&graph);
    let (found, timed) = compared(&study, &shipped, [Some(4.0), Some(1.0)], by_kind);
    assert_eq!(timed.len(), 1);
    assert!(found.is_slower_in_integers() && !found.is_slower_than_original());
    assert_eq!(found.slower_layers, []);
    let names: Vec<&str> = layer_names(&graph).collect();
    let known =
        |of: &[LayerTimes]| !of.is_empty() && of.iter().all(|of| names.contains(&&*of.layer));
    assert!(known(&found.slower_in_integers), "{:?}", found.slower_in_integers);
    let (found, _) = compared(&study, &shipped, [Some(1.0), Some(1.5)], by_kind);
    assert!(known(&found.slower_in_integers) && known(&found.slower_layers));
}

/// A convolution, a function, a layer normalisation, which has no form in integers, and a linear
/// layer.
fn normalized() -> Graph {
    let mut b = GraphBuilder::new();
    let image = b.input("image", Shape::new(1, &[8, 8]).unwrap()).unwrap();
    let weight = b.parameter("conv.weight", &[8, 1, 3, 3], Role::Weight).unwrap();
    let conv = b.node("conv", Conv::dense(3, 1), &[image], &[weight], Place::default()).unwrap();
    let map = Map { function: Function::Sigmoid };
    let map = b.node("sigmoid", map, &[conv], &[], Place::default()).unwrap();
    let mean = b.node("mean", GlobalAveragePool, &[map], &[], Place::default()).unwrap();
    let parameters = [("norm.scale", Role::Scale), ("norm.shift", Role::Shift)]
        .map(|(name, role)| b.parameter(name, &[8], role).unwrap());
    let norm = LayerNormalization { axes: vec![0].into(), epsilon: 1e-5 };
    let norm = b.node("norm", norm, &[mean], &parameters, Place::default()).unwrap();
    let weight = b.parameter("fc.weight", &[10, 8], Role::Weight).unwrap();
    let classes = b.node("fc", Linear, &[norm], &[weight], Place::default()).unwrap();
    b.finish(&[classes]).unwrap()
}

#[test]
fn layers_without_weights_and_conversions_are_named_themselves() {
    let graph = normalized();
    let shipped = quantized(&graph, &weights_of(&graph), &[]);
    let node = |layer: &Layer| match layer {
        Layer::Table(_) => 0.3,
        Layer::Quantize(_) | Layer::Dequantize(_) => 0.4,
        _ => 0.1,
    };
    let (found, _) = compared(&on_own(&graph), &shipped, [Some(1.0), None], node);
    assert_eq!(layers(&found.slower_layers), [("norm", true), ("sigmoid", false)]);
    let [norm, sigmoid] = &found.slower_layers[..] else { panic!() };
    assert_eq!((norm.shipped_ms, norm.original_ms), (0.8, 0.0));
    assert_eq!((sigmoid.shipped_ms, sigmoid.original_ms), (0.3, 0.1));
}

#[test]
fn a_timing_is_that_of_its_measurement() {
    let mut of = measurement(2.0);
    (of.p95_ms, of.min_ms, of.energy_mj) = (3.0, 1.0, Some(0.5));
    let expected =
        Fp32Timing { p50_ms: 2.0, p95_ms: 3.0, min_ms: 1.0, noisy: false, energy_mj: Some(0.5) };
    assert_eq!(of.timing(), expected);
}
