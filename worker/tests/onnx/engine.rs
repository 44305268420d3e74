//! Random graphs in the engine, which computes what the graph's own evaluation does, and read back
//! from its models.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use edgesmith_compress::{Calibration, Scheme, correct_quantized, equalize, fold, learn_rounding};
use edgesmith_edge_runtime::{Model, Session};
use edgesmith_graph::{Evaluator, Graph, Role, Weights};
use edgesmith_testing::random_weights;
use edgesmith_worker::export::{Interface, Lifted, lift, lower_as, lower_partly};

use crate::random::{GRAPHS, in_levels, normalization, normalized, pictures, random_graph};

#[test]
fn the_engine_computes_what_a_graph_does() {
    let mut errors = Vec::new();
    for seed in 0..GRAPHS {
        let graph = random_graph(seed);
        let (weights, images) = (random_weights(&graph, seed), pictures(&graph, seed));
        // From their files.
        let [mut float, mut int] = models(&graph, &weights, &images)
            .map(|model| Session::new(&Model::from_bytes(&model.to_bytes()).unwrap()).unwrap());
        let evaluator = Evaluator::<f32>::new(&graph, &weights);
        for image in &images {
            let expected = evaluator.output(normalized(&graph, image));
            let error = difference(float.run(image).unwrap(), &expected);
            assert!(error <= 1e-4, "graph {seed}: {error}");
            errors.push(difference(int.run(image).unwrap(), &expected));
        }
    }
    // What is computed in integers is near, for all but a few networks, which amplify rounding.
    errors.sort_by(f32::total_cmp);
    let [half, most] = [errors.len() / 2, errors.len() * 9 / 10].map(|at| errors[at]);
    assert!(half < 0.03 && most < 0.2, "{half} {most}");
}

/// Equalized, every other layer in fp32, the others with learned rounding and corrected biases.
#[test]
fn every_part_of_a_scheme_works_with_every_operation() {
    let mut errors = Vec::new();
    for seed in 0..GRAPHS {
        let (graph, weights) = {
            let graph = random_graph(seed);
            let weights = random_weights(&graph, seed);
            fold(&graph, &weights)
        };
        let images = pictures(&graph, seed);
        let examples: Vec<_> = images.iter().map(|image| normalized(&graph, image)).collect();
        let equalized = equalize(&graph, &weights);
        let evaluators = [&weights, &equalized].map(|w| Evaluator::<f32>::new(&graph, w));
        for example in &examples {
            let [expected, found] = evaluators.each_ref().map(|e| e.output(example.clone()));
            assert!(difference(&found, &expected) < 1e-3, "graph {seed}");
        }
        let layers = graph.nodes().filter(|(_, node)| {
            let first = node.parameters.first();
            first.is_some_and(|&id| graph.parameter(id).role == Role::Weight)
        });
        let real = layers.step_by(2).map(|(_, node)| graph.value(node.output).name.to_string());
        let scheme = Scheme { real: real.collect(), clip_ranges: true, ..Scheme::default() };
        let mut calibration = Calibration::new(&graph, &equalized);
        examples.iter().for_each(|example| calibration.observe(example.clone()).unwrap());
        let quantization = calibration.finish((-2.0, 2.0), &scheme).unwrap();
        let go_on = &mut || ControlFlow::Continue(());
        let learned = learn_rounding(&graph, &equalized, &quantization, &examples, go_on).unwrap();
        let corrected =
            correct_quantized(&graph, &equalized, &learned, &quantization, &examples, go_on);
        let corrected = corrected.unwrap();
        assert_eq!(corrected.check(&graph), Ok(()));
        let interface = Interface::of(&graph, Some(&normalization(&graph)));
        let model = lower_partly(&graph, &corrected, &quantization, &interface).unwrap();
        let mut session = Session::new(&model).unwrap();
        for (image, example) in images.iter().zip(&examples) {
            let expected = evaluators[0].output(example.clone());
            errors.push(difference(session.run(image).unwrap(), &expected));
        }
    }
    errors.sort_by(f32::total_cmp);
    let [half, most] = [errors.len() / 2, errors.len() * 9 / 10].map(|at| errors[at]);
    assert!(half < 0.02 && most < 0.1, "{half} {most}");
}

/// Every kind of layer that lowering makes. Files of version 1 have one more, whose sums round
/// twice.
const KINDS: [&str; 31] = [
    "average pool",
    "average pool in integers",
    "concatenation",
    "constant",
    "convolution",
    "convolution in integers",
    "dequantize",
    "function of each number",
    "function of two numbers",
    "gather",
    "layer normalisation",
    "linear",
    "linear in integers",
    "matrix product",
    "max pool",
    "pad",
    "parametric ReLU",
    "product in integers",
    "quantize",
    "reduction",
    "reduction in integers",
    "reshape",
    "resize",
    "resize in integers",
    "select",
    "softmax",
    "sum in integers",
    "table",
    "transpose",
    "transposed convolution",
    "transposed convolution in integers",
];

#[test]
fn models_of_every_kind_of_layer_are_read_as_graphs() {
    let (mut kinds, mut errors) = (BTreeSet::new(), Vec::new());
    for seed in 0..GRAPHS {
        let graph = random_graph(seed);
        let (weights, images) = (random_weights(&graph, seed), pictures(&graph, seed));
        for model in models(&graph, &weights, &images) {
            kinds.extend(model.nodes.iter().map(|node| node.layer.name()));
            let lifted = lift(&model).unwrap_or_else(|error| panic!("graph {seed}: {error}"));
            let Lifted { graph, weights, quantization, interface } = lifted;
            assert_eq!(weights.check(&graph), Ok(()));
            assert_eq!(interface.inputs[0].normalization, Some(normalization(&graph)));
            let mut session = Session::new(&model).unwrap();
            for image in &images {
                let input = normalized(&graph, image);
                let found = session.run(image).unwrap();
                let Some(quantization) = &quantization else {
                    let expected = Evaluator::<f32>::new(&graph, &weights).output(input);
                    let error = difference(found, &expected);
                    assert!(error <= 1e-4, "graph {seed}: {error}");
                    continue;
                };
                errors.push(difference(found, &in_levels(&graph, &weights, quantization, input)));
            }
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), KINDS);
    // A level of rounding here and there, and what a few nodes make of it.
    errors.sort_by(f32::total_cmp);
    let [half, most] = [errors.len() / 2, errors.len() * 9 / 10].map(|at| errors[at]);
    assert!(half < 0.01 && most < 0.05, "{half} {most}");
}

/// The models of a graph in fp32 and in integers.
fn models(graph: &Graph, weights: &Weights, images: &[Vec<u8>]) -> [Model; 2] {
    let interface = Interface::of(graph, Some(&normalization(graph)));
    let mut calibration = Calibration::new(graph, weights);
    images.iter().for_each(|image| calibration.observe(normalized(graph, image)).unwrap());
    let quantization = calibration.finish((-2.0, 2.0), &Scheme::default()).unwrap();
    [None, Some(&quantization)]
        .map(|quantization| lower_as(graph, weights, quantization, &interface).unwrap())
}

/// The largest difference, as a share of the largest expected number, or of 1.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1f32, |largest, x| largest.max(x.abs()));
    let pairs = found.iter().zip(expected);
    pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest
}
