//! Models of random networks, run by the engine.

use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor, TensorData};
use edge::Session;
use edgesmith_compress::{Granularity, QuantizeError, RangeRule, Rounding, Scheme, Widths, fold};
use edgesmith_graph::{
    Add, AveragePool, Concat, Evaluator, Flatten, Function, GlobalAveragePool, GraphBuilder, Map,
    MatrixProduct, MaxPool, Place, Rebuild, Reduce, ReduceFunction, Reshape, Shape, Softmax,
    WindowAxis,
};
use edgesmith_search_space::{Architecture, DataShape, MAX_VALUE_ELEMENTS};
use edgesmith_testing::{
    arbitrary_graph, assert_close, conv_graph, images_for, normalization, random_bytes,
    random_weights, reference, residual_graph,
};
use edgesmith_train::Network;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::evaluate::{RunError, quantize};
use crate::export::float_model;

/// The int8 model of a trained network, calibrated on images of its size.
fn integer_model(
    graph: &Graph,
    weights: &Weights,
    images: &[Vec<u8>],
) -> Result<edge::Model, RunError> {
    integer_model_by(&Scheme::default(), graph, weights, images)
}

/// The same by another scheme than the usual one.
fn integer_model_by(
    scheme: &Scheme,
    graph: &Graph,
    weights: &Weights,
    images: &[Vec<u8>],
) -> Result<edge::Model, RunError> {
    let go_on = &mut || ControlFlow::Continue(());
    let set = images_for(graph, images);
    crate::export::integer_model(graph, weights, &normalization(graph), &set, scheme, go_on)
}

fn logits(model: &edge::Model, image: &[u8]) -> Vec<f32> {
    Session::new(model).unwrap().run(image).unwrap().to_vec()
}

/// Root mean square error of the int8 logits, relative to the spread of the fp32 logits, and
/// the share of images on which both have the same top-1 class.
fn agreement(graph: &Graph, weights: &Weights, seed: u64) -> (f64, f64) {
    agreement_by(&Scheme::default(), graph, weights, seed)
}

fn agreement_by(scheme: &Scheme, graph: &Graph, weights: &Weights, seed: u64) -> (f64, f64) {
    let images: Vec<Vec<u8>> = (0..200).map(|i| random_bytes(graph, seed + i)).collect();
    let model = integer_model_by(scheme, graph, weights, &images[..100]).unwrap();
    let float = float_model(graph, weights, &normalization(graph)).unwrap();
    let (mut error, mut spread, mut same) = (0.0, 0.0, 0);
    let top = |l: &[f32]| (0..l.len()).max_by(|&a, &b| l[a].total_cmp(&l[b]));
    // The second half was not used for calibration.
    for image in &images[100..] {
        let (int8, fp32) = (logits(&model, image), logits(&float, image));
        let mean = fp32.iter().sum::<f32>() / fp32.len() as f32;
        error += int8.iter().zip(&fp32).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        spread += fp32.iter().map(|l| f64::from(l - mean).powi(2)).sum::<f64>();
        same += usize::from(top(&int8) == top(&fp32));
    }
    // Logits are of order one. The lower bound is for networks whose logits hardly differ and
    // so have almost no spread.
    ((error / spread.max(25.0)).sqrt(), same as f64 / 100.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_engine_accepts_the_model_for_any_weights(
        graph in arbitrary_graph(),
        seed: u64,
        scales in prop::collection::vec(
            prop_oneof![Just(0.0f32), Just(1e-20), Just(1e-6), Just(1.0), Just(1e4)],
            8,
        ),
    ) {
        // Makes filters, gammas and biases of some channels zero, tiny or huge.
        let mut weights = random_weights(&graph, seed);
        let arrays = weights.arrays.iter_mut();
        for (i, (_, array)) in arrays.filter(|(n, _)| !n.ends_with("variance")).enumerate() {
            let chunk = array.data.len() / array.shape[0];
            for (channel, values) in array.data.chunks_exact_mut(chunk).enumerate() {
                let scale = scales[(i * 3 + channel) % scales.len()];
                values.iter_mut().for_each(|v| *v *= scale);
            }
        }
        let image = random_bytes(&graph, seed);
        let model = match integer_model(&graph, &weights, std::slice::from_ref(&image)) {
            // Several huge layers overflow.
            Err(RunError::Quantize(QuantizeError::NonFinite { .. })) => return Ok(()),
            other => other.unwrap(),
        };
        prop_assert!(logits(&model, &image).iter().all(|l| l.is_finite()));
    }
}

/// Weights of fewer than 8 bits in the engine of integers: every level is one of so many bits, what
/// is computed is what real numbers with these weights and rounded values are, and the file is
/// smaller.
#[test]
fn weights_of_few_bits_run_in_integers() {
    let graph = residual_graph();
    let weights = random_weights(&graph, 5);
    let (folded, real) = fold(&graph, &weights);
    let images: Vec<Vec<u8>> = (0..20).map(|i| random_bytes(&graph, i)).collect();
    let mut sizes = Vec::new();
    for (bits, largest) in [(8, 127), (4, 7), (2, 1), (1, 1)] {
        for (granularity, correct_biases, rounding) in [
            (Granularity::Channel, false, Rounding::Nearest),
            (Granularity::Layer, true, Rounding::Nearest),
            (Granularity::Channel, true, Rounding::Learned),
        ] {
            if bits == 1 && rounding == Rounding::Learned {
                continue;
            }
            let widths = Widths { weights: bits, ..Widths::default() };
            let scheme =
                Scheme { granularity, correct_biases, rounding, widths, ..Scheme::default() };
            let model = integer_model_by(&scheme, &graph, &weights, &images).unwrap();
            let levels = model.nodes.iter().filter_map(|node| match &node.layer {
                edge::Layer::IntConv(layer) => Some(layer.conv.weight.clone()),
                edge::Layer::IntLinear(layer) => Some(layer.linear.weight.clone()),
                _ => None,
            });
            let levels: Vec<i8> = levels.flatten().collect();
            assert!(levels.iter().all(|level| level.unsigned_abs() <= largest), "{bits} bits");
            assert!(levels.iter().any(|level| level.unsigned_abs() == largest), "{bits} bits");
            if bits == 1 {
                assert!(levels.iter().all(|level| *level != 0));
            }
            // The same integers, whatever computes them.
            for image in &images {
                let mut plain = Session::portable(&model).unwrap();
                assert_eq!(logits(&model, image), plain.run(image).unwrap());
            }
            if granularity == Granularity::Channel && rounding == Rounding::Nearest {
                sizes.push(model.counted_bytes());
                // Against the graph's evaluation with the levels times the scales.
                let input = input_spec(&graph, &normalization(&graph)).unwrap();
                let go_on = &mut || ControlFlow::Continue(());
                let set = images_for(&graph, &images);
                let (changed, quantization) =
                    quantize(&folded, &real, &input, &set, &scheme, go_on).unwrap();
                let mut rounded = changed.clone();
                for (id, parameter) in folded.parameters() {
                    let Some(scales) = quantization.parameter(id) else { continue };
                    let numbers = &mut rounded.arrays.get_mut(&*parameter.name).unwrap().data;
                    let row = numbers.len() / scales.len();
                    for (row, &scale) in numbers.chunks_exact_mut(row).zip(scales) {
                        for number in row {
                            let most = f64::from(largest);
                            let level = (f64::from(*number) / scale).round().clamp(-most, most);
                            let level = if bits == 1 { f64::from(number.signum()) } else { level };
                            *number = (level * scale) as f32;
                        }
                    }
                }
                let (mut error, mut power) = (0.0, 0.0);
                for image in &images {
                    let evaluator = Evaluator::<f32>::new(&folded, &rounded);
                    let values = evaluator.run(vec![normalized(&model, image)]);
                    let expected = &values[folded.outputs()[0].index()];
                    for (found, expected) in logits(&model, image).iter().zip(expected) {
                        error += f64::from(found - expected).powi(2);
                        power += f64::from(*expected).powi(2);
                    }
                }
                // Only the values are rounded in between.
                assert!(error < 0.01 * power, "{bits} bits: {error} of {power}");
            }
        }
    }
    assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
}

/// Schemes that use everything there is.
fn schemes() -> impl Strategy<Value = Scheme> {
    let calibration = prop_oneof![
        Just(RangeRule::MeanSquaredError),
        Just(RangeRule::MinMax),
        Just(RangeRule::Percentile(0.99)),
        Just(RangeRule::Entropy),
    ];
    let granularity = prop_oneof![Just(Granularity::Channel), Just(Granularity::Layer)];
    let rounding = prop_oneof![Just(Rounding::Nearest), Just(Rounding::Learned)];
    let switches = (any::<bool>(), any::<bool>(), any::<bool>());
    (calibration, granularity, rounding, switches).prop_map(
        |(calibration, granularity, rounding, (clip_ranges, equalize, correct_biases))| Scheme {
            calibration,
            clip_ranges,
            granularity,
            equalize,
            correct_biases,
            rounding,
            ..Scheme::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_engine_accepts_the_model_of_any_scheme(
        graph in arbitrary_graph(),
        scheme in schemes(),
        seed: u64,
        scales in prop::collection::vec(
            prop_oneof![Just(0.0f32), Just(1e-20), Just(1e-6), Just(1.0), Just(1e4)],
            8,
        ),
    ) {
        let mut weights = random_weights(&graph, seed);
        for (i, (_, array)) in weights.arrays.iter_mut().enumerate() {
            if array.shape.len() == 4 {
                array.data.iter_mut().for_each(|number| *number *= scales[i % scales.len()]);
            }
        }
        let images: Vec<Vec<u8>> = (0..3).map(|i| random_bytes(&graph, seed ^ i)).collect();
        let model = match integer_model_by(&scheme, &graph, &weights, &images) {
            Err(RunError::Quantize(QuantizeError::NonFinite { .. })) => return Ok(()),
            other => other.unwrap(),
        };
        prop_assert!(logits(&model, &images[0]).iter().all(|l| l.is_finite()));
    }
}

/// Models that were made before there were schemes.
#[test]
fn the_usual_scheme_makes_the_bytes_that_it_always_made() {
    let hashes = [
        "b9e582161224dbe2a261c4fb9ab235ab1fa13661f4f8d0d72a18064fe5bbfadc",
        "2f957050be5e7114d2c9f8a25869da656be69e43ff24c95f1c4e79ff7ea083b8",
    ];
    for (graph, hash) in [residual_graph(), conv_graph()].into_iter().zip(hashes) {
        let images: Vec<Vec<u8>> = (0..20).map(|seed| random_bytes(&graph, seed)).collect();
        let model = integer_model(&graph, &random_weights(&graph, 7), &images).unwrap();
        let found = edgesmith_common::ArtifactHash::of(&model.to_bytes());
        assert_eq!(found.to_string(), hash);
    }
}

#[test]
fn each_part_of_a_scheme_brings_int8_nearer_to_fp32() {
    let mut errors = Vec::new();
    let layer = Scheme { granularity: Granularity::Layer, ..Scheme::default() };
    let corrected = Scheme { correct_biases: true, ..layer.clone() };
    let learned = Scheme { rounding: Rounding::Learned, ..corrected.clone() };
    let channel = Scheme { granularity: Granularity::Channel, ..learned.clone() };
    for scheme in [layer, corrected, learned, channel] {
        let graph = conv_graph();
        let error = |seed| agreement_by(&scheme, &graph, &random_weights(&graph, seed), seed).0;
        errors.push((0..4).map(error).sum::<f64>() / 4.0);
    }
    assert!(errors.is_sorted_by(|before, after| after < before), "{errors:?}");
}

#[test]
fn int8_is_close_to_fp32() {
    // The networks are fixed, because this holds for most networks and not for all: a network of
    // one channel may amplify rounding without bound.
    let mut runner = TestRunner::deterministic();
    let mut errors: Vec<f64> = (0..60)
        .map(|seed| {
            let graph = arbitrary_graph().new_tree(&mut runner).unwrap().current();
            agreement(&graph, &random_weights(&graph, seed), seed).0
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    assert!(errors[30] < 0.03 && errors[54] < 0.12, "{errors:?}");
}

#[test]
fn a_wide_network_keeps_its_predictions() {
    let graph = &residual_graph();
    let (error, same) = agreement(graph, &random_weights(graph, 3), 3);
    assert!(error < 0.05, "{error}");
    assert!(same >= 0.95, "{same}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_engine_computes_the_same_as_the_trained_network(graph in arbitrary_graph(), seed: u64) {
        let weights = random_weights(&graph, seed);
        let model = float_model(&graph, &weights, &normalization(&graph)).unwrap();
        let image = random_bytes(&graph, seed);
        let normalized = normalized(&model, &image);
        let expected = reference(&graph, &weights, &normalized);
        assert_close(&logits(&model, &image), &expected, 1e-4);

        let [height, width] = graph.input().space()[..] else { panic!("an image") };
        let shape = [1, graph.input().channels(), height, width].map(|size| size as usize);
        let device = Device::flex();
        let batch = Tensor::from_data(TensorData::new(normalized, shape), &device);
        let burn = Network::new(&graph, &weights, &device).forward(batch);
        let burn = burn.into_data().try_into_vec::<f32>().unwrap();
        assert_close(&logits(&model, &image), &burn, 1e-4);
    }
}

#[test]
fn every_network_of_a_space_is_within_the_limits_of_the_engine() {
    assert_eq!(MAX_VALUE_ELEMENTS, edge::MAX_VALUE_ELEMENTS);
}

#[test]
fn every_byte_of_a_grey_image_has_its_own_level() {
    let architecture = Architecture { resolution: 4, stem_width: 2, stages: vec![] };
    let graph = architecture.graph(DataShape { channels: 1, classes: 2 }).unwrap();
    let weights = random_weights(&graph, 1);
    let model = integer_model(&graph, &weights, &[random_bytes(&graph, 1)]).unwrap();
    let edge::Array::Bytes(normalization) = &model.inputs[0].array else { panic!("bytes") };
    let levels: std::collections::BTreeSet<u8> = normalization.tables.iter().copied().collect();
    assert!(levels.len() >= 255, "{}", levels.len());
}

/// The annotation without the scales that `left_out` says, by number of a value or, after all
/// values, of a parameter.
fn without(graph: &Graph, whole: &Quantization, left_out: impl Fn(usize) -> bool) -> Quantization {
    let mut part = Quantization::none(graph);
    let values = graph.values().len();
    for (id, _) in graph.values().filter(|(id, _)| !left_out(id.index())) {
        whole.value(id).into_iter().for_each(|affine| part.set_value(id, affine));
    }
    for (id, _) in graph.parameters().filter(|(id, _)| !left_out(values + id.index())) {
        whole.parameter(id).into_iter().for_each(|scales| part.set_parameter(id, scales.to_vec()));
    }
    part
}

#[test]
fn what_has_no_scales_stays_real() {
    let graph = residual_graph();
    let (graph, weights) = fold(&graph, &random_weights(&graph, 3));
    let normalization = normalization(&graph);
    let images: Vec<Vec<u8>> = (0..40).map(|seed| random_bytes(&graph, seed)).collect();
    let input = input_spec(&graph, &normalization).unwrap();
    let go_on = &mut || ControlFlow::Continue(());
    let set = images_for(&graph, &images);
    let scheme = &Scheme::default();
    let whole = crate::evaluate::calibrate(&graph, &weights, &input, &set, scheme, go_on).unwrap();
    let interface = Interface::of(&graph, Some(&normalization));
    let lowered = |left_out: &dyn Fn(usize) -> bool| {
        let part = without(&graph, &whole, left_out);
        lower_partly(&graph, &weights, &part, &interface).unwrap()
    };
    // With all scales and without any it is what the others make.
    let float = lower(&graph, &weights, None, &normalization).unwrap();
    assert_eq!(lowered(&|_| true), float);
    let integers = lower(&graph, &weights, Some(&whole), &normalization).unwrap();
    assert_eq!(lowered(&|_| false), integers);
    let count = graph.values().len() + graph.parameters().len();
    let kinds = |model: &edge::Model| -> Vec<&str> {
        model.nodes.iter().map(|node| node.layer.name()).collect()
    };
    let mut mixed = 0;
    for left_out in 0..count {
        let model = lowered(&|number| number == left_out);
        model.validate().unwrap();
        let kinds = kinds(&model);
        mixed += usize::from(
            kinds.contains(&"convolution") && kinds.contains(&"convolution in integers"),
        );
        for image in &images[..5] {
            let (found, expected) = (logits(&model, image), logits(&float, image));
            let spread = expected.iter().fold(1.0f32, |most, logit| most.max(logit.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                let error = (found - expected).abs() / spread;
                assert!(error < 0.15, "{error} without {left_out}: {kinds:?}");
            }
        }
    }
    assert!(mixed >= 10, "{mixed} of {count}");
    // A dead channel may get so small a scale that its bias has no place in 32 bits.
    let mut tiny = without(&graph, &whole, |_| false);
    for (id, parameter) in graph.parameters().filter(|(_, parameter)| parameter.shape.len() == 4) {
        tiny.set_parameter(id, vec![1e-12; parameter.shape[0] as usize]);
    }
    let model = lower_partly(&graph, &weights, &tiny, &interface).unwrap();
    model.validate().unwrap();
    assert!(!kinds(&model).contains(&"convolution in integers"));
    let refused = lower(&graph, &weights, Some(&tiny), &normalization).unwrap_err();
    assert!(refused.to_string().contains("could leave 32 bits"), "{refused}");
    // A layer whose weight has no scales stands between conversions.
    let weight = graph.nodes().find_map(|(_, node)| {
        let inner = matches!(node.op, Op::Conv(_)) && graph.inputs().all(|id| id != node.inputs[0]);
        inner.then(|| graph.values().len() + node.parameters[0].index())
    });
    let kinds = kinds(&lowered(&|number| Some(number) == weight));
    let at = kinds.iter().position(|kind| *kind == "convolution").unwrap();
    assert_eq!([kinds[at - 1], kinds[at + 1]], ["dequantize", "quantize"]);
}

#[test]
fn layers_that_are_named_stay_real() {
    let graph = residual_graph();
    let weights = random_weights(&graph, 3);
    let normalization = normalization(&graph);
    let images: Vec<Vec<u8>> = (0..40).map(|seed| random_bytes(&graph, seed)).collect();
    let set = images_for(&graph, &images);
    let model = |real: &[&str]| {
        let real = real.iter().map(|&name| name.to_owned()).collect();
        let scheme = Scheme { real, ..Scheme::default() };
        let go_on = &mut || ControlFlow::Continue(());
        crate::export::integer_model(&graph, &weights, &normalization, &set, &scheme, go_on)
    };
    let float = float_model(&graph, &weights, &normalization).unwrap();
    let layers = graph.nodes().filter(|(_, node)| graph.macs(node) > 0);
    let layers: Vec<&str> = layers.map(|(_, node)| &*graph.value(node.output).name).collect();
    // All of them make the fp32 network.
    assert_eq!(model(&layers).unwrap(), float);
    for &name in &layers {
        let model = model(&[name]).unwrap();
        model.validate().unwrap();
        let kinds: Vec<&str> = model.nodes.iter().map(|node| node.layer.name()).collect();
        let real = |kind: &&&str| ["convolution", "linear"].contains(*kind);
        assert_eq!(kinds.iter().filter(real).count(), 1, "{name}: {kinds:?}");
        let at = kinds.iter().position(|kind| real(&kind)).unwrap();
        // The first layer reads the picture itself, and the last one writes what is read outside.
        if name != layers[0] {
            assert_eq!(kinds[at - 1], "dequantize", "{name}");
        }
        let last = name == layers[layers.len() - 1];
        assert_eq!(kinds.get(at + 1).copied(), (!last).then_some("quantize"), "{name}");
        let conversion = |kind: &&&str| ["quantize", "dequantize"].contains(*kind);
        let conversions = usize::from(name != layers[0]) + usize::from(!last);
        assert_eq!(kinds.iter().filter(conversion).count(), conversions, "{name}");
        for image in &images[..5] {
            let (found, expected) = (logits(&model, image), logits(&float, image));
            assert_close(&found, &expected, 0.3);
        }
        let (split, go_on) = (edgesmith_common::Split::Test, &mut || ControlFlow::Continue(()));
        let figures = crate::evaluate::evaluate(&model, &set, split.clone(), go_on).unwrap();
        let right = images.iter().filter(|image| {
            let logits = logits(&model, image);
            logits.iter().all(|logit| *logit <= logits[0])
        });
        let accuracy = edgesmith_common::Metric::ACCURACY.on(split);
        assert_eq!(figures.get(&accuracy), Some(right.count() as f64 / 40.0));
    }
    let refused = model(&["stem.relu"]).unwrap_err().to_string();
    let expected = "stem.relu cannot stay in fp32 or have its own bits, because the network has no \
                    layer of this name with a weight";
    assert!(refused.ends_with(expected), "{refused}");
}

/// `relu(x + tanh(x))`, and the values but the sum.
fn rectified_sum() -> (Graph, [ValueId; 3]) {
    let mut builder = GraphBuilder::new();
    let x = builder.input("x", Shape::new(4, &[5, 5]).unwrap()).unwrap();
    let mut add = |name: &str, op: Op, inputs: &[ValueId]| {
        builder.node(name.to_owned(), op, inputs, &[], Place::default()).unwrap()
    };
    let map = add("map", Map { function: Function::Tanh }.into(), &[x]);
    let sum = add("sum", Add.into(), &[x, map]);
    let relu = add("relu", Clip::RELU.into(), &[sum]);
    (builder.finish(&[relu]).unwrap(), [x, map, relu])
}

#[test]
fn a_sum_before_a_rectifier_has_its_scale() {
    let (graph, [x, map, relu]) = rectified_sum();
    let mut quantization = Quantization::none(&graph);
    for (value, low, high) in [(x, -2.0, 2.0), (map, -1.0, 1.0), (relu, 0.0, 2.5)] {
        quantization.set_value(value, Affine::covering(low, high));
    }
    let (weights, interface) = (Weights::default(), Interface::of(&graph, None));
    let model = lower_partly(&graph, &weights, &quantization, &interface).unwrap();
    let kinds: Vec<&str> = model.nodes.iter().map(|node| node.layer.name()).collect();
    assert_eq!(kinds, ["table", "sum in integers", "table"]);
    let float = lower_as(&graph, &weights, None, &interface).unwrap();
    let numbers: Vec<f32> = (0..100).map(|i| i as f32 * 0.04 - 2.0).collect();
    let answer = |model: &edge::Model| {
        let mut session = Session::new(model).unwrap();
        session.run_on(&[edge::Tensor::Fp32(&numbers)]).unwrap();
        session.output(0).to_vec()
    };
    for (found, real) in answer(&model).iter().zip(answer(&float)) {
        // A step each of the inputs, of the sum, and the end of the scale.
        assert!((found - real.min(2.5)).abs() < 0.025, "{found} for {real}");
    }
}

/// Nine million bytes have a sum of more than 32 bits.
#[test]
fn sums_that_could_leave_32_bits_are_computed_in_fp32() {
    let side = 3000;
    let mut ops: Vec<Op> = vec![GlobalAveragePool.into()];
    for function in [ReduceFunction::Sum, ReduceFunction::Mean] {
        ops.push(Reduce { function, axes: vec![1, 2].into() }.into());
    }
    let axes = vec![WindowAxis::valid(1); 2];
    let (kernel, counted) = (vec![side; 2].into(), vec![(0, 0); 2].into());
    ops.push(AveragePool { kernel, axes: axes.into(), counted }.into());
    for op in ops {
        let mut builder = GraphBuilder::new();
        let x = builder.input("x", Shape::new(1, &[side, side]).unwrap()).unwrap();
        let y = builder.node("y", op.clone(), &[x], &[], Place::default()).unwrap();
        let graph = builder.finish(&[y]).unwrap();
        let mut quantization = Quantization::none(&graph);
        graph.values().for_each(|(id, _)| {
            quantization.set_value(id, Affine { scale: 0.1, zero_point: 3 });
        });
        let (weights, interface) = (Weights::default(), Interface::of(&graph, None));
        let model = lower_partly(&graph, &weights, &quantization, &interface).unwrap();
        model.validate().unwrap();
        let refused = lower_as(&graph, &weights, Some(&quantization), &interface).unwrap_err();
        assert!(matches!(refused, LowerError::Overflow { .. }), "{op:?}: {refused}");
    }
}

#[test]
fn clips_become_clamps_of_bytes() {
    let graph = residual_graph();
    let (graph, weights) = fold(&graph, &random_weights(&graph, 1));
    let clamps = |affine: Affine| {
        let mut quantization = Quantization::none(&graph);
        graph.values().for_each(|(id, _)| quantization.set_value(id, affine));
        for (id, parameter) in graph.parameters() {
            quantization.set_parameter(id, vec![0.1; parameter.shape[0] as usize]);
        }
        let normalization = normalization(&graph);
        let model = lower(&graph, &weights, Some(&quantization), &normalization).unwrap();
        // The convolutions come in the order of the graph.
        let clamps: Vec<(u8, u8)> = model
            .nodes
            .iter()
            .filter_map(|node| match &node.layer {
                edge::Layer::IntConv(conv) => Some(conv.clamp),
                _ => None,
            })
            .collect();
        let convs = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Conv(_)));
        let names: Vec<&str> = convs.map(|(_, node)| &*graph.value(node.output).name).collect();
        ["stem", "stage1.block1.project", "stage2.block1.expand"]
            .map(|name| clamps[names.iter().position(|other| *other == name).unwrap()])
    };
    // ReLU, nothing, ReLU6.
    let wide = clamps(Affine { scale: 0.04, zero_point: 3 });
    assert_eq!(wide, [(3, 255), (0, 255), (3, 153)]);
    let narrow = clamps(Affine { scale: 0.01, zero_point: 0 });
    assert_eq!(narrow, [(0, 255), (0, 255), (0, 255)]);
}

#[test]
fn the_table_of_a_leaky_relu_has_the_nearest_bytes() {
    let input = edge::Quantization { scale: 0.03, zero_point: 100 };
    let output = edge::Quantization { scale: 0.05, zero_point: 60 };
    for slope in [-0.5, 0.1, 1.5] {
        let leaky = edge::Function::LeakyRelu { slope };
        let table = table(input, output, |x| leaky.apply(x));
        for byte in 0..=u8::MAX {
            let x = input.dequantize(byte);
            let exact = if x < 0.0 { slope * x } else { x };
            let [low, high] = [0, 255].map(|byte| output.dequantize(byte));
            let error =
                (output.dequantize(table[usize::from(byte)]) - exact.clamp(low, high)).abs();
            assert!(error <= 0.501 * output.scale, "{slope} {byte}");
        }
    }
}

/// The normalised image.
fn normalized(model: &edge::Model, image: &[u8]) -> Vec<f32> {
    let edge::Array::Bytes(normalization) = &model.inputs[0].array else { panic!("bytes") };
    let plane = model.inputs[0].shape.positions();
    let pixels = image.iter().enumerate();
    pixels.map(|(i, &byte)| normalization.real(i / plane, byte)).collect()
}

#[test]
fn what_is_not_quantized_is_named() {
    let graph = residual_graph();
    let (graph, weights) = fold(&graph, &random_weights(&graph, 1));
    let none = Quantization::none(&graph);
    let error = lower(&graph, &weights, Some(&none), &normalization(&graph)).unwrap_err();
    assert!(error.to_string().starts_with("image has no quantization"), "{error}");
}

/// A network of operations that move bytes, join them, look them up, and one that has no form in
/// integers.
fn mixed_graph() -> Graph {
    let mut builder = GraphBuilder::new();
    let image = builder.input("image", Shape::new(2, &[6, 6]).unwrap()).unwrap();
    let mut count = 0;
    let mut add = |op: Op, inputs: &[ValueId]| {
        count += 1;
        let name = format!("n{count}");
        builder.node(name, op, inputs, &[], Place::default()).unwrap()
    };
    let axes = vec![WindowAxis::valid(2); 2];
    let pooled = add(MaxPool { kernel: vec![2; 2].into(), axes: axes.into() }.into(), &[image]);
    let shares = add(Map { function: Function::Sigmoid }.into(), &[pooled]);
    let joined = add(Concat::channels().into(), &[pooled, shares]);
    let matrix = add(Reshape { sizes: vec![6, 6].into() }.into(), &[joined]);
    let product = add(MatrixProduct { transposed: [false, true] }.into(), &[matrix, matrix]);
    let sum = add(Add.into(), &[product, matrix]);
    let flat = add(Flatten.into(), &[sum]);
    builder.finish(&[flat, shares]).unwrap()
}

#[test]
fn operations_without_a_form_in_integers_run_in_fp32_between() {
    let graph = mixed_graph();
    let weights = Weights::default();
    let images: Vec<Vec<u8>> = (0..20).map(|seed| random_bytes(&graph, seed)).collect();
    let model = integer_model(&graph, &weights, &images).unwrap();
    let count = |name| model.nodes.iter().filter(|node| node.layer.name() == name).count();
    // The sigmoid, and one scale for both that are joined.
    assert_eq!((count("table"), count("quantize"), count("dequantize")), (3, 1, 1));
    assert_eq!(count("matrix product"), 1);
    let float = float_model(&graph, &weights, &normalization(&graph)).unwrap();
    assert_eq!(float.outputs.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["n7", "n2"]);
    let evaluator = Evaluator::<f32>::new(&graph, &weights);
    for image in &images {
        let values = evaluator.run(vec![normalized(&float, image)]);
        let [mut exact, mut near] = [&float, &model].map(|model| Session::new(model).unwrap());
        exact.run(image).unwrap();
        near.run(image).unwrap();
        for (index, output) in graph.outputs().iter().enumerate() {
            assert_close(exact.output(index), &values[output.index()], 1e-5);
            let largest = values[output.index()].iter().fold(0f32, |m, x| m.max(x.abs()));
            for (near, exact) in near.output(index).iter().zip(exact.output(index)) {
                assert!((near - exact).abs() < 0.05 * largest, "{near} {exact}");
            }
        }
    }
}

/// No byte lies between the logits and their shares.
#[test]
fn a_softmax_reads_logits_in_fp32() {
    let graph = residual_graph();
    let mut rebuild = Rebuild::new(&graph);
    graph.nodes().for_each(|(id, _)| rebuild.copy(id).unwrap());
    let output = graph.outputs()[0];
    let scores = rebuild.value(output);
    let softmax = Softmax { axis: 0, log: false };
    let shares = rebuild.builder.node("shares", softmax, &[scores], &[], Place::default()).unwrap();
    rebuild.replace(output, shares);
    let graph = rebuild.finish().unwrap();
    let weights = random_weights(&graph, 1);
    let model = integer_model(&graph, &weights, &[random_bytes(&graph, 1)]).unwrap();
    let names: Vec<&str> = model.nodes.iter().map(|node| node.layer.name()).collect();
    assert_eq!(names[names.len() - 2..], ["linear in integers", "softmax"]);
    let sum: f32 = logits(&model, &random_bytes(&graph, 2)).iter().sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
}

#[test]
fn inputs_and_outputs_have_types_and_orders_of_their_own() {
    let graph = mixed_graph();
    let mut interface = Interface::of(&graph, None);
    interface.inputs[0].order = vec![1, 2, 0];
    interface.outputs[1] =
        OutputForm { bytes: false, name: "shares".to_owned(), order: vec![2, 1, 0] };
    let model = lower_as(&graph, &Weights::default(), None, &interface).unwrap();
    assert_eq!(model.image(), None);
    let listed: Vec<f32> = (0..72).map(|i| (i as f32).sin()).collect();
    let outside: Vec<f32> =
        (0..36).flat_map(|position| [listed[position], listed[36 + position]]).collect();
    let mut session = Session::new(&model).unwrap();
    session.run_on(&[edge::Tensor::Fp32(&outside)]).unwrap();
    let values = Evaluator::<f32>::new(&graph, &Weights::default()).run(vec![listed]);
    assert_close(session.output(0), &values[graph.outputs()[0].index()], 1e-5);
    let shares = &values[graph.outputs()[1].index()];
    let transposed: Vec<f32> = (0..18)
        .map(|at| {
            let (column, row, channel) = (at / 6, at / 2 % 3, at % 2);
            shares[channel * 9 + row * 3 + column]
        })
        .collect();
    assert_close(session.output(1), &transposed, 1e-5);
    assert_eq!(model.outputs[1].name, "shares");
    interface.outputs.pop();
    let error = lower_as(&graph, &Weights::default(), None, &interface).unwrap_err();
    assert_eq!(error.to_string(), "the network has another number of outputs: 2, not 1");
}
