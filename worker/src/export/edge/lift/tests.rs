//! Models that are lifted, and lowered again.

use std::ops::ControlFlow;

use edgesmith_graph::{Evaluator, Op, Operation as _};
use edgesmith_testing::{
    arbitrary_graph, assert_close, images_for, normalization, random_bytes, random_weights,
    residual_graph,
};
use proptest::prelude::*;

use super::*;
use crate::evaluate::RunError;
use crate::export::{float_model, integer_model, lower};

fn lowered(lifted: &Lifted) -> edge::Model {
    let Lifted { graph, weights, quantization, normalization } = lifted;
    lower(graph, weights, quantization.as_ref(), normalization).unwrap()
}

fn integers(graph: &Graph, weights: &Weights, seed: u64) -> Result<edge::Model, RunError> {
    let set = images_for(graph, &[random_bytes(graph, seed)]);
    let go_on = &mut || ControlFlow::Continue(());
    integer_model(graph, weights, &normalization(graph), &set, go_on)
}

fn residual_integers() -> edge::Model {
    let graph = residual_graph();
    integers(&graph, &random_weights(&graph, 1), 1).unwrap()
}

fn nodes(model: &mut edge::Model) -> &mut Vec<edge::IntNode> {
    match &mut model.network {
        edge::Network::Int8 { nodes, .. } => nodes,
        edge::Network::Fp32(_) => panic!("integers"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_lifted_fp32_model_lowers_to_the_same_bytes(graph in arbitrary_graph(), seed: u64) {
        let weights = random_weights(&graph, seed);
        let model = float_model(&graph, &weights, &normalization(&graph)).unwrap();
        let lifted = lift(&model).unwrap();
        prop_assert_eq!(lifted.weights.check(&lifted.graph), Ok(()));
        prop_assert_eq!(&lifted.quantization, &None);
        prop_assert_eq!(lowered(&lifted).to_bytes(), model.to_bytes());

        let image = random_bytes(&graph, seed);
        let plane = graph.input().positions() as usize;
        let pixels = image.iter().enumerate();
        let input = pixels.map(|(i, &byte)| model.input.normalized(i / plane, byte)).collect();
        let output = Evaluator::<f32>::new(&lifted.graph, &lifted.weights).output(input);
        let mut session = edge::Session::new(&model).unwrap();
        assert_close(&output, session.run(&image).unwrap(), 1e-4);
    }

    /// Also with filters, biases and factors that are zero, tiny or huge.
    #[test]
    fn a_lifted_int8_model_lowers_to_the_same_bytes(
        graph in arbitrary_graph(),
        seed: u64,
        scales in prop::collection::vec(
            prop_oneof![
                Just(1.0f32), Just(1.0), Just(1.0),
                Just(0.0), Just(1e-20), Just(1e-7), Just(1e-6), Just(1e-5), Just(1e4)
            ],
            8,
        ),
    ) {
        let mut weights = random_weights(&graph, seed);
        let arrays = weights.arrays.iter_mut();
        for (i, (_, array)) in arrays.filter(|(n, _)| !n.ends_with("variance")).enumerate() {
            let chunk = array.data.len() / array.shape[0];
            for (channel, values) in array.data.chunks_exact_mut(chunk).enumerate() {
                let scale = scales[(i * 3 + channel) % scales.len()];
                values.iter_mut().for_each(|v| *v *= scale);
            }
        }
        // Several huge layers overflow.
        let Ok(model) = integers(&graph, &weights, seed) else { return Ok(()) };
        let lifted = lift(&model).unwrap();
        prop_assert_eq!(lifted.weights.check(&lifted.graph), Ok(()));
        prop_assert_eq!(lowered(&lifted), model);
    }

    /// Models that nobody lowered: any factors, clamps, scales and biases.
    #[test]
    fn no_valid_model_panics(
        graph in arbitrary_graph(),
        seed: u64,
        changes in prop::collection::vec((any::<u32>(), 0..5u8, any::<u32>()), 1..6),
    ) {
        let mut model = integers(&graph, &random_weights(&graph, seed), seed).unwrap();
        for (index, change, bits) in changes {
            let nodes = nodes(&mut model);
            let count = nodes.len();
            let node = &mut nodes[index as usize % count];
            let any_factor = edge::Requantization {
                multiplier: if bits & 1 == 0 { 0 } else { (bits >> 2 | 1 << 30) as i32 },
                shift: (bits % 62) as i32 - 31,
            };
            let any_scale = f32::from_bits(bits & 0x7fff_ffff);
            let any_clamp = (bits as u8 / 2, 128 + (bits >> 8) as u8 / 2);
            match change {
                0 => node.output.scale = any_scale,
                1 => node.output.zero_point = bits as u8,
                _ => {}
            }
            match &mut node.layer {
                edge::IntLayer::Conv(edge::IntConv { conv, requantize, clamp })
                | edge::IntLayer::Depthwise(edge::IntDepthwise { conv, requantize, clamp }) => match change {
                    2 => requantize[0] = any_factor,
                    3 => *clamp = any_clamp,
                    4 => conv.bias[0] = bits as i32 / 2,
                    _ => {}
                },
                edge::IntLayer::Add(edge::IntAdd { output, clamp, .. }) => match change {
                    2 => *output = any_factor,
                    3 => *clamp = any_clamp,
                    _ => {}
                },
                edge::IntLayer::GlobalAveragePool(edge::IntGlobalAveragePool { requantize }) => {
                    if change == 2 {
                        *requantize = any_factor;
                    }
                }
                edge::IntLayer::LeakyRelu(_) => unreachable!("no space has it"),
                edge::IntLayer::Linear(edge::IntLinear { linear, logit_scale }) => match change {
                    2 => logit_scale[0] = any_scale,
                    3 => logit_scale[0] = -any_scale,
                    4 => linear.bias[0] = bits as i32 / 2,
                    _ => {}
                },
            }
        }
        if let Ok(lifted) = lift(&model) {
            prop_assert!(model.validate().is_ok());
            prop_assert_eq!(lifted.weights.check(&lifted.graph), Ok(()));
        }
    }
}

#[test]
fn a_clamp_of_bytes_is_a_clip() {
    let mut model = residual_integers();
    let count = nodes(&mut model).len();
    let mut expected = Vec::new();
    for (i, node) in nodes(&mut model).iter_mut().take(count - 2).enumerate() {
        node.output.zero_point = 7;
        let wanted = [(7, 255), (0, 255), (9, 100)][i % 3];
        match &mut node.layer {
            edge::IntLayer::Conv(edge::IntConv { clamp, .. })
            | edge::IntLayer::Depthwise(edge::IntDepthwise { clamp, .. })
            | edge::IntLayer::Add(edge::IntAdd { clamp, .. }) => *clamp = wanted,
            edge::IntLayer::GlobalAveragePool(_)
            | edge::IntLayer::LeakyRelu(_)
            | edge::IntLayer::Linear(_) => {
                panic!("only the last two, and no space has a leaky ReLU")
            }
        }
        let real = |byte: f32| (byte - 7.0) * node.output.scale;
        expected.push(match wanted {
            (0, 255) => None,
            // A sum has a clip wherever it has a clamp.
            (7, 255) if matches!(node.layer, edge::IntLayer::Add(edge::IntAdd { .. })) => {
                Some(Clip { low: 0.0, high: real(255.0) })
            }
            (7, 255) => Some(Clip::RELU),
            _ => Some(Clip { low: real(9.0), high: real(100.0) }),
        });
    }
    let Lifted { graph, quantization, .. } = lift(&model).unwrap();
    let quantization = quantization.unwrap();
    for (i, expected) in expected.into_iter().enumerate() {
        let value = graph.value_named(&format!("node{i}")).unwrap();
        assert!(quantization.value(value).is_some());
        let clip = match &graph.node(graph.producer(value).unwrap()).op {
            Op::Clip(clip) => Some(*clip),
            _ => None,
        };
        assert_eq!(clip, expected, "node{i}");
        let whole = graph.value_named(&format!("node{i}.unclipped"));
        assert_eq!(whole.and_then(|whole| quantization.value(whole)), None);
    }
}

/// A bias of 30 bits has the same integer again although fp32 has 24.
#[test]
fn large_biases_are_exact() {
    let graph = residual_graph();
    let mut weights = random_weights(&graph, 1);
    let last = weights.arrays.get_mut("classifier.weight").unwrap();
    last.data.iter_mut().for_each(|weight| *weight *= 1e-9);
    let stem = weights.arrays.get_mut("stem.gamma").unwrap();
    stem.data.iter_mut().for_each(|gamma| *gamma *= 1e-9);
    let mut model = integers(&graph, &weights, 1).unwrap();
    assert_eq!(lowered(&lift(&model).unwrap()), model);
    let layers = nodes(&mut model);
    let edge::IntLayer::Linear(edge::IntLinear { linear, .. }) = &layers.last().unwrap().layer
    else {
        panic!()
    };
    let edge::IntLayer::Conv(edge::IntConv { conv, .. }) = &layers[0].layer else { panic!() };
    for bias in [&linear.bias, &conv.bias] {
        assert!(bias.iter().all(|bias| bias.abs() > 1 << 24), "{bias:?}");
    }
}

#[test]
fn a_map_is_flattened_before_a_linear_layer() {
    let graph = residual_graph();
    let weights = random_weights(&graph, 1);
    let mut model = float_model(&graph, &weights, &normalization(&graph)).unwrap();
    let edge::Network::Fp32(layers) = &mut model.network else { panic!() };
    // Without the mean, of 16 positions.
    let pool = layers.len() - 2;
    layers.remove(pool);
    layers[pool].inputs = vec![edge::ValueId(pool as u32)];
    let edge::FloatLayer::Linear(linear) = &mut layers[pool].layer else { panic!() };
    linear.in_features *= 16;
    linear.weight =
        (0..linear.in_features * linear.out_features).map(|i| (i as f32).sin()).collect();
    let Lifted { graph, weights, .. } = lift(&model).unwrap();
    let kinds: Vec<_> = graph.nodes().map(|(_, node)| node.op.kind()).collect();
    assert_eq!(kinds[kinds.len() - 2..], ["flatten", "linear"]);
    let image = random_bytes(&graph, 3);
    let input = image.iter().map(|&byte| model.input.normalized(0, byte)).collect();
    let output = Evaluator::<f32>::new(&graph, &weights).output(input);
    let mut session = edge::Session::new(&model).unwrap();
    assert_close(&output, session.run(&image).unwrap(), 1e-4);
}

#[test]
fn what_a_graph_cannot_say_is_refused() {
    let error = |change: &dyn Fn(&mut [edge::IntNode])| {
        let mut model = residual_integers();
        change(nodes(&mut model));
        lift(&model).unwrap_err().to_string()
    };
    let doubled = error(&|nodes| {
        let pool = nodes.len() - 2;
        let edge::IntLayer::GlobalAveragePool(edge::IntGlobalAveragePool { requantize }) =
            &mut nodes[pool].layer
        else {
            panic!("the mean")
        };
        requantize.shift += 1;
    });
    assert!(doubled.ends_with("does not compute what its scales say"), "{doubled}");
    let negative = error(&|nodes| {
        let edge::IntLayer::Linear(edge::IntLinear { logit_scale, .. }) =
            &mut nodes.last_mut().unwrap().layer
        else {
            panic!("the logits")
        };
        logit_scale[0] *= -1.0;
    });
    assert!(negative.ends_with("has a scale that is not above 0"), "{negative}");
    let tiny = error(&|nodes| {
        let edge::IntLayer::Linear(edge::IntLinear { logit_scale, .. }) =
            &mut nodes.last_mut().unwrap().layer
        else {
            panic!("the logits")
        };
        logit_scale[0] = f32::MAX;
    });
    assert!(tiny.ends_with("are too large or too small for fp32"), "{tiny}");
    let table = error(&|nodes| {
        // The depthwise convolution that keeps its input's shape.
        let (slope, table) = (0.5, Box::new([0; 256]));
        nodes[2].layer = edge::IntLayer::LeakyRelu(edge::IntLeakyRelu { slope, table });
    });
    assert_eq!(table, "node2 does not compute what its scales say");
    let invalid = error(&|nodes| nodes[0].inputs.clear());
    assert!(invalid.contains("it reads 0 values instead of 1"), "{invalid}");
    let one = edge::Conv {
        in_channels: 1,
        out_channels: 1,
        kernel: 1,
        stride: 1,
        padding: 0,
        weight: vec![1.0],
        bias: vec![0.0],
    };
    let linear =
        edge::Linear { in_features: 1, out_features: 2, weight: vec![1.0; 2], bias: vec![0.0; 2] };
    let layers = [
        edge::FloatLayer::GlobalAveragePool(edge::FloatGlobalAveragePool),
        edge::FloatLayer::Conv(edge::FloatConv { conv: one, activation: edge::Activation::Linear }),
        edge::FloatLayer::Linear(linear),
    ];
    let layers = layers.into_iter().enumerate();
    let layers =
        layers.map(|(i, layer)| edge::FloatNode { inputs: vec![edge::ValueId(i as u32)], layer });
    let input =
        edge::InputSpec { channels: 1, height: 2, width: 2, mean: vec![0.0], std: vec![1.0] };
    let model = edge::Model { input, network: edge::Network::Fp32(layers.collect()) };
    let vector = lift(&model).unwrap_err().to_string();
    assert!(vector.starts_with("node \"node1\" (conv): "), "{vector}");
}
