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
use crate::export::{float_model, integer_model, lower_as};

fn lowered(lifted: &Lifted) -> edge::Model {
    let Lifted { graph, weights, quantization, interface } = lifted;
    lower_as(graph, weights, quantization.as_ref(), interface).unwrap()
}

fn integers(graph: &Graph, weights: &Weights, seed: u64) -> Result<edge::Model, RunError> {
    let set = images_for(graph, &[random_bytes(graph, seed)]);
    let go_on = &mut || ControlFlow::Continue(());
    let scheme = edgesmith_compress::Scheme::default();
    integer_model(graph, weights, &normalization(graph), &set, &scheme, go_on)
}

fn residual_integers() -> edge::Model {
    let graph = residual_graph();
    integers(&graph, &random_weights(&graph, 1), 1).unwrap()
}

fn normalized(model: &edge::Model, image: &[u8]) -> Vec<f32> {
    let edge::Array::Bytes(normalization) = &model.inputs[0].array else { panic!("bytes") };
    let plane = model.inputs[0].shape.positions();
    let pixels = image.iter().enumerate();
    pixels.map(|(i, &byte)| normalization.real(i / plane, byte)).collect()
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
        let input = normalized(&model, &image);
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
            let count = model.nodes.len();
            let node = &mut model.nodes[index as usize % count];
            let any_factor = edge::Requantization {
                multiplier: if bits & 1 == 0 { 0 } else { (bits >> 2 | 1 << 30) as i32 },
                shift: (bits % 62) as i32 - 31,
            };
            let any_scale = f32::from_bits(bits & 0x7fff_ffff);
            let any_clamp = (bits as u8 / 2, 128 + (bits >> 8) as u8 / 2);
            if let edge::Element::Uint8(output) = &mut node.output {
                match change {
                    0 => output.scale = any_scale,
                    1 => output.zero_point = bits as u8,
                    _ => {}
                }
            }
            match &mut node.layer {
                edge::Layer::IntConv(edge::IntConv { conv, requantize, clamp, .. }) => match change {
                    2 => requantize[0] = any_factor,
                    3 => *clamp = any_clamp,
                    4 => conv.bias[0] = bits as i32 / 2,
                    _ => {}
                },
                edge::Layer::IntSum(edge::IntSum { multipliers, clamp, .. }) => match change {
                    2 => multipliers[0] = bits as i32,
                    3 => *clamp = any_clamp,
                    _ => {}
                },
                edge::Layer::IntReduce(edge::IntReduce { requantize, .. }) => {
                    if change == 2 {
                        *requantize = any_factor;
                    }
                }
                edge::Layer::IntLinear(edge::IntLinear { linear, logit_scale }) => match change {
                    2 => logit_scale[0] = any_scale,
                    3 => logit_scale[0] = -any_scale,
                    4 => linear.bias[0] = bits as i32 / 2,
                    _ => {}
                },
                other => unreachable!("no space has a {}", other.name()),
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
    let count = model.nodes.len();
    let mut expected = Vec::new();
    // All but the mean and the logits.
    for (i, node) in model.nodes.iter_mut().take(count - 2).enumerate() {
        let edge::Element::Uint8(output) = &mut node.output else { panic!("bytes") };
        output.zero_point = 7;
        let wanted = [(7, 255), (0, 255), (9, 100)][i % 3];
        let sum = match &mut node.layer {
            edge::Layer::IntConv(edge::IntConv { clamp, .. }) => {
                *clamp = wanted;
                false
            }
            edge::Layer::IntSum(edge::IntSum { clamp, .. }) => {
                *clamp = wanted;
                true
            }
            other => panic!("no space has a {}", other.name()),
        };
        let real = |byte: f32| (byte - 7.0) * output.scale;
        expected.push(match wanted {
            (0, 255) => None,
            // A sum has a clip wherever it has a clamp.
            (7, 255) if sum => Some(Clip { low: 0.0, high: real(255.0) }),
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
    let model = integers(&graph, &weights, 1).unwrap();
    assert_eq!(lowered(&lift(&model).unwrap()), model);
    let layers = &model.nodes;
    let edge::Layer::IntLinear(edge::IntLinear { linear, .. }) = &layers.last().unwrap().layer
    else {
        panic!()
    };
    let edge::Layer::IntConv(edge::IntConv { conv, .. }) = &layers[0].layer else { panic!() };
    for bias in [&linear.bias, &conv.bias] {
        assert!(bias.iter().all(|bias| bias.abs() > 1 << 24), "{bias:?}");
    }
}

#[test]
fn a_map_is_flattened_before_a_linear_layer() {
    let graph = residual_graph();
    let weights = random_weights(&graph, 1);
    let mut model = float_model(&graph, &weights, &normalization(&graph)).unwrap();
    let layers = &mut model.nodes;
    // Without the mean, of 16 positions.
    let pool = layers.len() - 2;
    layers.remove(pool);
    layers[pool].inputs = vec![edge::ValueId(pool as u32)];
    model.outputs[0].value = edge::ValueId(pool as u32 + 1);
    let edge::Layer::FloatLinear(linear) = &mut layers[pool].layer else { panic!() };
    linear.in_features *= 16;
    linear.weight =
        (0..linear.in_features * linear.out_features).map(|i| (i as f32).sin()).collect();
    let Lifted { graph, weights, .. } = lift(&model).unwrap();
    let kinds: Vec<_> = graph.nodes().map(|(_, node)| node.op.kind()).collect();
    assert_eq!(kinds[kinds.len() - 2..], ["flatten", "linear"]);
    let image = random_bytes(&graph, 3);
    let input = normalized(&model, &image);
    let output = Evaluator::<f32>::new(&graph, &weights).output(input);
    let mut session = edge::Session::new(&model).unwrap();
    assert_close(&output, session.run(&image).unwrap(), 1e-4);
}

#[test]
fn what_a_graph_cannot_say_is_refused() {
    let error = |change: &dyn Fn(&mut [edge::Node])| {
        let mut model = residual_integers();
        change(&mut model.nodes);
        lift(&model).unwrap_err().to_string()
    };
    let doubled = error(&|nodes| {
        let pool = nodes.len() - 2;
        let edge::Layer::IntReduce(edge::IntReduce { requantize, .. }) = &mut nodes[pool].layer
        else {
            panic!("the mean")
        };
        requantize.shift += 1;
    });
    assert!(doubled.ends_with("does not compute what its scales say"), "{doubled}");
    let negative = error(&|nodes| {
        let edge::Layer::IntLinear(edge::IntLinear { logit_scale, .. }) =
            &mut nodes.last_mut().unwrap().layer
        else {
            panic!("the logits")
        };
        logit_scale[0] *= -1.0;
    });
    assert!(negative.ends_with("has a scale that is not above 0"), "{negative}");
    let tiny = error(&|nodes| {
        let edge::Layer::IntLinear(edge::IntLinear { logit_scale, .. }) =
            &mut nodes.last_mut().unwrap().layer
        else {
            panic!("the logits")
        };
        logit_scale[0] = f32::MAX;
    });
    assert!(tiny.ends_with("are too large or too small for fp32"), "{tiny}");
    let table = error(&|nodes| {
        // The depthwise convolution that keeps its input's shape.
        let function = Some(edge::Function::LeakyRelu { slope: 0.5 });
        nodes[2].layer = edge::Table { function, tables: vec![0; 256] }.into();
    });
    assert_eq!(table, "node2 does not compute what its scales say");
    let invalid = error(&|nodes| nodes[0].inputs.clear());
    assert!(invalid.contains("it reads 0 values instead of 1"), "{invalid}");
}

/// A model of one layer in fp32 that reads a value of these sizes.
fn model_of(sizes: &[u32], layer: edge::Layer, output: &[usize]) -> edge::Model {
    let shape = edge::Shape::new(sizes).unwrap();
    let input = edge::Input {
        name: "node".to_owned(),
        shape,
        order: (0..sizes.len() as u32).collect(),
        array: edge::Array::Fp32,
        element: edge::Element::Fp32,
    };
    let node = edge::Node { inputs: vec![edge::ValueId(0)], layer, output: edge::Element::Fp32 };
    let outputs = output
        .iter()
        .enumerate()
        .map(|(place, axes)| edge::Output::new(&format!("out{place}"), edge::ValueId(1), *axes));
    edge::Model {
        inputs: vec![input],
        nodes: vec![node],
        outputs: outputs.collect(),
        rounding: edge::Rounding::Once,
        notes: edge::Notes::default(),
    }
}

/// What the engine computes, and what the lifted graph does.
fn assert_lifted(model: &edge::Model) -> Lifted {
    let lifted = lift(model).unwrap();
    let elements = model.inputs[0].shape.elements();
    let numbers: Vec<f32> = (0..elements).map(|i| (i as f32 * 1.3).sin()).collect();
    let mut session = edge::Session::new(model).unwrap();
    session.run_on(&[edge::Tensor::Fp32(&numbers)]).unwrap();
    let values = Evaluator::<f32>::new(&lifted.graph, &lifted.weights).run(vec![numbers]);
    for (place, output) in lifted.graph.outputs().iter().enumerate() {
        assert_close(session.output(place), &values[output.index()], 1e-5);
    }
    lifted
}

/// Layers that no graph lowers to.
#[test]
fn layers_of_other_makers_are_lifted() {
    let gone = edge::Reduce { function: edge::ReduceFunction::Maximum, axes: vec![2], keep: false };
    let lifted = assert_lifted(&model_of(&[2, 3, 4], gone.into(), &[2]));
    assert_eq!(lifted.graph.output().sizes()[..], [2, 3]);
    // Twice the same output, and names that a layer could have.
    let gone = edge::Reduce { function: edge::ReduceFunction::Sum, axes: vec![1, 2], keep: false };
    let lifted = assert_lifted(&model_of(&[2, 3, 4], gone.into(), &[1, 1]));
    assert_eq!(lifted.interface.outputs[1].name, "out1");
    let conv = |groups: u32, activation| edge::FloatConv {
        conv: edge::Conv {
            in_channels: 4,
            out_channels: 4,
            groups,
            axes: vec![],
            weight: (0..16 / groups).map(|i| i as f32).collect(),
            bias: vec![0.5; 4],
        },
        activation,
    };
    assert_lifted(&model_of(&[4], conv(4, edge::Activation::Relu).into(), &[1]));
    let linear = |groups| model_of(&[4], conv(groups, edge::Activation::Linear).into(), &[1]);
    let lifted = assert_lifted(&linear(4));
    let again = lower_as(&lifted.graph, &lifted.weights, None, &lifted.interface).unwrap();
    assert_eq!(again, linear(4));
    let error = lift(&linear(2)).unwrap_err().to_string();
    assert!(error.contains("a convolution of a vector in groups"), "{error}");
    let tap = |indices, share: f32| edge::Taps { indices, weights: [1.0 - share, share] };
    let choice = vec![tap([2, 2], 0.0), tap([0, 0], 0.0), tap([2, 2], 0.0)];
    let same = vec![tap([0, 0], 0.0), tap([1, 1], 0.0)];
    let resize = edge::Resize { axes: vec![same.clone(), choice] };
    assert_lifted(&model_of(&[2, 2, 3], resize.into(), &[3]));
    let uneven = vec![tap([0, 1], 0.1), tap([0, 1], 0.5), tap([1, 2], 0.6)];
    let resize = edge::Resize { axes: vec![same, uneven] };
    let error = lift(&model_of(&[2, 2, 3], resize.into(), &[3])).unwrap_err().to_string();
    assert!(error.contains("those of no resize that a graph has"), "{error}");
}

#[test]
fn inputs_and_outputs_keep_their_names_types_and_orders() {
    let mut model = model_of(&[3, 2, 2], edge::Softmax { axis: 0, log: false }.into(), &[3]);
    let second = edge::Input { name: "extra".to_owned(), ..model.inputs[0].clone() };
    model.inputs.push(second);
    model.inputs[0].order = vec![1, 2, 0];
    let normalization = edge::Normalization::new(vec![0.5; 3], vec![0.25; 3], edge::Element::Fp32);
    model.inputs[1].array = edge::Array::Bytes(normalization);
    model.outputs[0].value = edge::ValueId(2);
    model.outputs[0].order = vec![2, 0, 1];
    model.outputs.push(edge::Output::new("whole", edge::ValueId(1), 3));
    let Lifted { graph, weights, quantization, interface } = lift(&model).unwrap();
    let forms: Vec<(&str, bool, &[u32])> = interface
        .inputs
        .iter()
        .map(|input| (&*input.name, input.normalization.is_some(), &input.order[..]))
        .collect();
    assert_eq!(forms, [("node", false, &[1, 2, 0][..]), ("extra", true, &[0, 1, 2])]);
    assert_eq!(interface.outputs[0].order, [2, 0, 1]);
    assert_eq!(lower_as(&graph, &weights, quantization.as_ref(), &interface).unwrap(), model);
}

/// Models of version 1 have sums that round twice, and means that keep their axes.
#[test]
fn models_of_version_1_are_lifted() {
    let files: [&[u8]; 2] = [
        include_bytes!("../../../../../edge-runtime/tests/engine/written/fp32.edge"),
        include_bytes!("../../../../../edge-runtime/tests/engine/written/int8.edge"),
    ];
    for file in files {
        let old = edge::Model::from_bytes(file).unwrap();
        let lifted = lift(&old).unwrap();
        let new = lowered(&lifted);
        let image: Vec<u8> = (0..64u32).map(|i| (i * i * 7 % 251) as u8).collect();
        let [before, after] = [&old, &new]
            .map(|model| edge::Session::new(model).unwrap().run(&image).unwrap().to_vec());
        // Rounding once instead of twice moves a byte here and there.
        let tolerance = if old.has_integers() { 0.1 } else { 1e-5 };
        assert_close(&after, &before, tolerance);
    }
}
