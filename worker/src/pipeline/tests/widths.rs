//! Trials whose weights and values have other bits than 8.

use edgesmith_common::ScopedMetric;
use edgesmith_edge_runtime as edge;
use edgesmith_graph::LayerNormalization;

use super::prune::compress;
use super::recipe::{run, step, study};
use super::*;

/// The model of a trial, its size and its accuracy.
fn quantized(settings: &str, more: &str) -> (Model, f64, f64) {
    let context = AttemptContext::offline(Vec::new());
    let text = study(&(step("quantize", settings) + more));
    let trained = run(&text, &context).unwrap_or_else(|error| panic!("{settings}: {error:?}"));
    let model = Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap();
    let figure = |of: &ScopedMetric| trained.compressed.get(of).unwrap();
    let bytes = figure(&Metric::MODEL_BYTES.whole());
    assert_eq!(bytes, model.counted_bytes() as f64);
    // The same again, from the same seed.
    assert_eq!(run(&text, &context).unwrap().model, trained.model, "{settings}");
    (model, bytes, figure(&ScopedMetric::VALIDATION_ACCURACY))
}

fn bits_of(model: &Model) -> Vec<u8> {
    let bits = model.nodes.iter().filter_map(|node| match &node.layer {
        edge::Layer::Leveled(layer) => Some(layer.bits),
        _ => None,
    });
    bits.collect()
}

#[test]
fn fewer_bits_make_smaller_files() {
    let (int8, of_int8, accuracy) = quantized("", "");
    assert!(int8.has_integers() && bits_of(&int8).is_empty());
    let mut last = of_int8;
    for bits in [4, 2, 1] {
        let (model, bytes, found) = quantized(&format!("weight_bits = {bits}"), "");
        assert!(model.has_integers() && !model.runs_by_reference());
        assert!(bytes < last, "{bits} bits: {bytes} bytes");
        if bits == 4 {
            assert!(found > accuracy - 0.1, "{found} of {accuracy}");
        }
        last = bytes;
    }
}

/// A model with a factor or scale for each channel where it has one for all, and whether it has one
/// anywhere.
fn for_each_channel(model: &Model) -> (Model, bool) {
    let (mut each, mut any) = (model.clone(), false);
    for node in &mut each.nodes {
        match &mut node.layer {
            edge::Layer::IntConv(layer) => {
                any |= layer.requantize.len() < layer.factors().len();
                layer.requantize = layer.factors();
            }
            edge::Layer::IntLinear(layer) => {
                any |= layer.logit_scale.len() < layer.scales().len();
                layer.logit_scale = layer.scales();
            }
            _ => {}
        }
    }
    (each, any)
}

#[test]
fn a_scale_for_each_layer_is_stored_once_and_computes_the_same() {
    let train = step("quantize-aware-train", "epochs = 1");
    for (bits, more) in [(8, ""), (8, &*train), (4, ""), (1, "")] {
        let of = |granularity: &str| {
            quantized(&format!("weight_bits = {bits}\ngranularity = \"{granularity}\""), more)
        };
        let (layer, bytes, _) = of("layer");
        let (each, any) = for_each_channel(&layer);
        assert!(any && bytes < each.counted_bytes() as f64, "{bits} bits");
        assert!(layer.nodes.iter().all(|node| match &node.layer {
            edge::Layer::IntConv(layer) => layer.requantize.len() == 1,
            edge::Layer::IntLinear(layer) => layer.logit_scale.len() == 1,
            _ => true,
        }));
        let [mut one, mut other] = [&layer, &each].map(|model| edge::Session::new(model).unwrap());
        let input = layer.image().unwrap();
        for seed in 0..20usize {
            let image: Vec<u8> =
                (0..input.bytes()).map(|i| (i * i * 7 + seed * 31) as u8).collect();
            assert_eq!(one.run(&image).unwrap(), other.run(&image).unwrap());
        }
        // Channels have scales of their own, so all are listed.
        let (channel, of_channel, _) = of("channel");
        assert!(bytes < of_channel, "{bits} bits: {bytes} and {of_channel}");
        assert_eq!(for_each_channel(&channel).0, channel);
    }
}

#[test]
fn what_is_no_integer_runs_in_fp32_or_by_reference() {
    let (int8, _, accuracy) = quantized("", "");
    let (wide, of_wide, found) = quantized("weight_bits = 16\nactivation_bits = 16", "");
    assert!(int8.is_quantized() && wide.is_quantized());
    assert!(wide.runs_by_reference() && !wide.has_integers());
    assert!(bits_of(&wide).iter().all(|bits| *bits == 16) && !bits_of(&wide).is_empty());
    assert!((found - accuracy).abs() < 0.05, "{found} of {accuracy}");
    let (real, of_real, found) = quantized("weight_bits = 8\nactivation_bits = 32", "");
    assert!(!real.runs_by_reference() && !real.has_integers() && real.is_quantized());
    assert!((found - accuracy).abs() < 0.05, "{found} of {accuracy}");
    assert!(of_real < 0.8 * of_wide, "{of_real} of {of_wide}");
    let settings = "weight_bits = 4\naffine_weights = true\ngranularity = \"layer\"";
    let (affine, of_affine, _) = quantized(settings, "");
    assert!(affine.runs_by_reference());
    assert!(of_affine < of_real);
}

#[test]
fn layers_have_bits_of_their_own() {
    let context = AttemptContext::offline(Vec::new());
    let settings = "weight_bits = 8\nactivation_bits = 32\nmixed = [\"stem\", \"classifier\"]\n\
                    mixed_bits = [2, 32]";
    let trained = run(&study(&step("quantize", settings)), &context).unwrap();
    // The first option of each choice.
    let model = Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap();
    let bits = bits_of(&model);
    assert_eq!((bits[0], *bits.last().unwrap()), (2, 2));
    assert!(bits[1..bits.len() - 1].iter().all(|bits| *bits == 8) && bits.len() > 2);
}

/// Training with the rounding gives back most of what 2 bits cost.
#[test]
fn weights_of_2_bits_are_trained() {
    let train = step("quantize-aware-train", "epochs = 6\nlearning_rate = 0.01");
    let (plain, _, without) = quantized("weight_bits = 2", "");
    let (model, _, with) = quantized("weight_bits = 2", &train);
    for model in [plain, model] {
        for node in &model.nodes {
            if let edge::Layer::IntConv(layer) = &node.layer {
                assert!(layer.conv.weight.iter().all(|level| level.unsigned_abs() <= 1));
            }
        }
    }
    assert!(with > without + 0.05, "{with} after {without}");
}

/// A weight that went is 0 with any bits, also where a sign would be more.
#[test]
fn pruned_weights_stay_zero_with_any_bits() {
    let context = AttemptContext::offline(Vec::new());
    let prune = step("prune", "granularity = \"weights\"\nshare = 0.5");
    for bits in [1, 4, 16] {
        for activations in [8, 32] {
            let settings = format!("weight_bits = {bits}\nactivation_bits = {activations}");
            let text = study(&(prune.clone() + &step("quantize", &settings)));
            let trained = run(&text, &context).unwrap();
            let model = Model::from_bytes(&context.fetch(trained.model).unwrap()).unwrap();
            let zeros = |node: &edge::Node| -> Option<(usize, usize)> {
                let count =
                    |zeros: Vec<bool>| (zeros.iter().filter(|zero| **zero).count(), zeros.len());
                Some(count(match &node.layer {
                    edge::Layer::IntConv(layer) => {
                        layer.conv.weight.iter().map(|w| *w == 0).collect()
                    }
                    edge::Layer::IntLinear(layer) => {
                        layer.linear.weight.iter().map(|w| *w == 0).collect()
                    }
                    edge::Layer::Leveled(layer) => layer.levels().iter().map(|w| *w == 0).collect(),
                    _ => return None,
                }))
            };
            for (zeros, all) in model.nodes.iter().filter_map(zeros) {
                assert!(2 * zeros + 1 >= all, "{text}: {zeros} of {all}");
                assert!(bits != 1 || 2 * zeros <= all + 1, "{text}: {zeros} of {all}");
            }
        }
    }
}

/// The normalisation of a training with it is a part of scales and biases at its end.
#[test]
fn weights_of_1_bit_are_trained_with_normalised_batches() {
    let train = |more: &str| {
        step("quantize-aware-train", &format!("epochs = 30\nlearning_rate = 0.01\n{more}"))
    };
    let (_, _, without) = quantized("weight_bits = 1", "");
    let (plain, _, trained) = quantized("weight_bits = 1", &train(""));
    let (model, _, with) = quantized("weight_bits = 1", &train("normalize = true"));
    println!("{without}, trained {trained}, normalised {with}");
    assert!(with > without + 0.25, "{with} after {without}, and {trained}");
    assert!(model != plain && model.nodes.len() == plain.nodes.len() && model.has_integers());
    for node in &model.nodes {
        if let edge::Layer::IntConv(layer) = &node.layer {
            assert!(layer.conv.weight.iter().all(|level| level.unsigned_abs() <= 1));
        }
    }
}

/// A convolution of 8 channels, layer normalisation, and a linear layer.
fn normalized_network() -> (Graph, Weights) {
    let mut b = GraphBuilder::new();
    let image = b.input("image", Shape::new(1, &[8, 8]).unwrap()).unwrap();
    let conv = [
        b.parameter("conv.weight", &[8, 1, 3, 3], Role::Weight).unwrap(),
        b.parameter("conv.bias", &[8], Role::Bias).unwrap(),
    ];
    let linear = [
        b.parameter("fc.weight", &[10, 8], Role::Weight).unwrap(),
        b.parameter("fc.bias", &[10], Role::Bias).unwrap(),
    ];
    let conv = b.node("conv", Conv::dense(3, 1), &[image], &conv, Place::default()).unwrap();
    let layers = LayerNormalization { axes: [0][..].into(), epsilon: 1e-5 };
    let normal = b.node("normal", layers, &[conv], &[], Place::default()).unwrap();
    let pool = b.node("pool", GlobalAveragePool, &[normal], &[], Place::default()).unwrap();
    let classes = b.node("fc", Linear, &[pool], &linear, Place::default()).unwrap();
    let graph = b.finish(&[classes]).unwrap();
    let weights = edgesmith_testing::random_weights(&graph, 7);
    (graph, weights)
}

/// Layer normalisation has no form in integers, so what it reads and writes is held in fp32, and in
/// bytes as well, because layers of integers stand on both sides.
#[test]
fn what_is_computed_in_fp32_counts_four_bytes_in_peak_memory() {
    let (graph, weights) = normalized_network();
    let (task, file) = compress(&graph, &weights, &step("quantize", ""));
    let context = AttemptContext::offline(vec![file]);
    let trained = match worker().execute(task, &context) {
        Ok(Outcome::TrialTrained(trained)) => trained,
        other => panic!("{other:?}"),
    };
    let peaks = trained.stages.iter().map(|stage| {
        let peak = stage.figures.get(&Metric::PEAK_MEMORY_BYTES.whole());
        (&*stage.pass, peak.unwrap())
    });
    // The image, and what the convolution writes. The normalisation writes to the same place.
    let (image, numbers) = (64.0, 8.0 * 64.0);
    let (fp32, quantized) = (4.0 * image + 4.0 * numbers, image + (4.0 + 1.0) * numbers);
    let peaks: Vec<_> = peaks.collect();
    assert_eq!(peaks, [("original", fp32), ("quantize", quantized)]);
    let whole = Metric::PEAK_MEMORY_BYTES.whole();
    assert_eq!(trained.compressed.get(&whole), Some(quantized));
}
