//! Models of random networks, run by the engine.

use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor, TensorData};
use edge::Session;
use edgesmith_compress::{QuantizeError, fold};
use edgesmith_graph::{Concat, Conv, GraphBuilder, Groups, Place, Role, Shape};
use edgesmith_search_space::{Architecture, DataShape, MAX_VALUE_ELEMENTS};
use edgesmith_testing::{
    arbitrary_graph, assert_close, images_for, normalization, random_bytes, random_weights,
    reference, residual_graph,
};
use edgesmith_train::Network;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::evaluate::RunError;
use crate::export::float_model;

/// The int8 model of a trained network, calibrated on images of its size.
fn integer_model(
    graph: &Graph,
    weights: &Weights,
    images: &[Vec<u8>],
) -> Result<edge::Model, RunError> {
    let go_on = &mut || ControlFlow::Continue(());
    let set = images_for(graph, images);
    crate::export::integer_model(graph, weights, &normalization(graph), &set, go_on)
}

fn logits(model: &edge::Model, image: &[u8]) -> Vec<f32> {
    Session::new(model).unwrap().run(image).unwrap().to_vec()
}

/// Root mean square error of the int8 logits, relative to the spread of the fp32 logits, and
/// the share of images on which both have the same top-1 class.
fn agreement(graph: &Graph, weights: &Weights, seed: u64) -> (f64, f64) {
    let images: Vec<Vec<u8>> = (0..200).map(|i| random_bytes(graph, seed + i)).collect();
    let model = integer_model(graph, weights, &images[..100]).unwrap();
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
        let plane = graph.input().positions() as usize;
        let pixels = image.iter().enumerate();
        let normalized: Vec<f32> =
            pixels.map(|(i, &byte)| model.input.normalized(i / plane, byte)).collect();
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
    let edge::Network::Int8 { input: code, .. } = model.network else { panic!("integers") };
    let levels: std::collections::BTreeSet<u8> =
        (0..=255).map(|byte| code.quantize(model.input.normalized(0, byte))).collect();
    assert!(levels.len() >= 255, "{}", levels.len());
}

#[test]
fn clips_become_clamps_of_bytes() {
    let graph = residual_graph();
    let (graph, weights) = fold(&graph, &random_weights(&graph, 1));
    let clamps = |affine: Affine| {
        let mut quantization = Quantization::none(&graph);
        graph.values().for_each(|(id, _)| quantization.set_value(id, affine));
        let sites = sites(&graph, &weights, Some(&quantization)).unwrap();
        ["stem", "stage1.block1.project", "stage2.block1.expand"].map(|name| {
            let site = sites.iter().find(|site| site.name() == name);
            site.unwrap().clamp().unwrap()
        })
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
        let table = leaky_relu::table(slope, input, output);
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

#[test]
fn what_the_engine_does_not_run_is_named() {
    let lowered = |build: &dyn Fn(&mut GraphBuilder, ValueId) -> ValueId| {
        let mut builder = GraphBuilder::new();
        let image = builder.input("image", Shape::new(4, &[6, 6]).unwrap()).unwrap();
        let output = build(&mut builder, image);
        let graph = builder.finish(&[output]).unwrap();
        let weights = random_weights(&graph, 1);
        lower(&graph, &weights, None, &normalization(&graph)).unwrap_err().to_string()
    };
    let conv = |conv: Conv, shape: [u32; 4]| {
        lowered(&|builder, image| {
            let weight = builder.parameter("w", &shape, Role::Weight).unwrap();
            builder.node("c", conv.clone(), &[image], &[weight], Place::default()).unwrap()
        })
    };
    let run = "the engine edge-runtime does not run c: a conv";
    let grouped = Conv { groups: Groups::Equal(2), ..Conv::dense(3, 1) };
    assert_eq!(conv(grouped, [4, 2, 3, 3]), format!("{run} in groups"));
    let unequal = format!("{run} with an unequal kernel, stride or padding");
    assert_eq!(conv(Conv::dense(3, 1), [4, 4, 3, 1]), unequal);
    let mut uneven = Conv::dense(3, 1);
    uneven.axes[0].before = 0;
    assert_eq!(conv(uneven, [4, 4, 3, 3]), unequal);
    let mut dilated = Conv::dense(3, 1);
    dilated.axes.iter_mut().for_each(|axis| axis.dilation = 2);
    assert_eq!(conv(dilated, [4, 4, 3, 3]), format!("{run} with dilation"));
    let several = format!("{run} with several filters per channel");
    assert_eq!(conv(Conv::depthwise(3, 1), [8, 1, 3, 3]), several);
    let concat = lowered(&|builder, image| {
        builder.node("both", Concat::channels(), &[image, image], &[], Place::default()).unwrap()
    });
    assert_eq!(concat, "the engine edge-runtime does not run both: a concat");
    // Values that nobody calibrated.
    let graph = residual_graph();
    let (graph, weights) = fold(&graph, &random_weights(&graph, 1));
    let none = Quantization::none(&graph);
    let error = lower(&graph, &weights, Some(&none), &normalization(&graph)).unwrap_err();
    assert!(error.to_string().starts_with("image has no quantization"), "{error}");
}
