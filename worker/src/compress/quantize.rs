//! Post-training static quantization (Jacob et al. 2018): symmetric int8 weights with a scale per
//! output channel, affine uint8 activations with one scale per tensor, int32 biases, integer
//! requantization. It calibrates on images and does not train.

use edgesmith_edge_runtime as edge;
use edgesmith_search_space::{Activation, LayerId, LayerOp, Plan, Source};

use super::range::{Observer, quantization};
use super::{Folded, FoldedLayer, fold};
use crate::export::{convolution, input_spec, value_ids};
use edgesmith_data::Normalization;
use edgesmith_graph::Weights;

/// Largest absolute int8 weight; -128 is not used, so that weights are symmetric.
const WEIGHT_MAX: f64 = 127.0;
/// Upper limit of `255 * sum |weight| + |bias|` of a channel, in accumulator units: half of int32,
/// so that it cannot overflow even if every weight is rounded up.
const ACCUMULATOR_MAX: f64 = (1u64 << 30) as f64;
/// Factor for the fraction bits of the sides of an addition, as the edge runtime defines them.
const ADD_FRACTION: f64 = (1u64 << 20) as f64;

/// Why a network cannot be quantized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantizeError {
    /// There are no calibration images.
    #[error("failed to quantize: no calibration images")]
    NoImages,
    /// An image does not have the size of the plan's input.
    #[error(
        "failed to quantize: calibration image has {given} bytes, but the network reads {expected}"
    )]
    ImageSize {
        /// Size of the image, bytes.
        given: usize,
        /// Size of the plan's input, bytes.
        expected: usize,
    },
    /// A layer computes NaN or infinite values.
    #[error("failed to quantize: layer {layer} computes values that are not finite")]
    NonFinite {
        /// The layer's name.
        layer: String,
    },
}

/// The network in integers, calibrated on `images` (bytes `[channels][height][width]` at the plan's
/// resolution; a few hundred training images are enough).
///
/// Ranges of activations minimise the squared quantization error over the calibration images. The
/// range of the input image covers all possible bytes. Weight scales are wide enough that no image
/// can overflow an accumulator.
///
/// # Errors
/// If there are no images, an image has the wrong size, or the network's values are not finite.
///
/// # Panics
/// If `weights` do not fit `plan`, or `normalization` has the wrong number of channels.
pub fn quantize<'a>(
    plan: &Plan,
    weights: &Weights,
    normalization: &Normalization,
    images: impl IntoIterator<Item = &'a [u8]>,
) -> Result<edge::Model, QuantizeError> {
    let folded = fold(plan, weights);
    let input = input_spec(plan, normalization);
    let outputs: Vec<edge::Quantization> = calibrate(&folded, &input, images)?
        .iter()
        .map(|observer| quantization(observer.range()))
        .collect();
    let codes = Codes { input: quantization(image_range(&input)), outputs };
    let nodes = plan.ids().map(|id| node(&folded, &codes, id)).collect();
    Ok(edge::Model { input, network: edge::Network::Int8 { input: codes.input, nodes } })
}

/// The quantization of every value.
struct Codes {
    input: edge::Quantization,
    /// By [`LayerId`].
    outputs: Vec<edge::Quantization>,
}

impl Codes {
    fn of(&self, source: Source) -> edge::Quantization {
        match source {
            Source::Input => self.input,
            Source::Layer(id) => self.outputs[id.0],
        }
    }
}

/// Observes the output of every layer, by [`LayerId`].
fn calibrate<'a>(
    folded: &Folded,
    input: &edge::InputSpec,
    images: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Observer>, QuantizeError> {
    let plan = &folded.plan;
    let expected = plan.input().elements() as usize;
    let mut observers = vec![Observer::new(); plan.layers().len()];
    let mut none = true;
    for image in images {
        if image.len() != expected {
            return Err(QuantizeError::ImageSize { given: image.len(), expected });
        }
        none = false;
        let values = folded.forward(&normalized(input, image));
        for ((observer, values), layer) in observers.iter_mut().zip(&values).zip(plan.layers()) {
            if values.iter().any(|v| !v.is_finite()) {
                return Err(QuantizeError::NonFinite { layer: layer.name.clone() });
            }
            observer.observe(values);
        }
    }
    if none { Err(QuantizeError::NoImages) } else { Ok(observers) }
}

fn normalized(input: &edge::InputSpec, image: &[u8]) -> Vec<f32> {
    let plane = (input.height * input.width) as usize;
    image.iter().enumerate().map(|(i, &byte)| input.normalized(i / plane, byte)).collect()
}

/// From the darkest to the brightest normalised byte of any channel; includes zero.
fn image_range(input: &edge::InputSpec) -> (f32, f32) {
    (0..input.channels as usize).fold((0.0f32, 0.0f32), |(low, high), channel| {
        (low.min(input.normalized(channel, 0)), high.max(input.normalized(channel, 255)))
    })
}

fn node(folded: &Folded, codes: &Codes, id: LayerId) -> edge::IntNode {
    let plan = &folded.plan;
    let layer = plan.layer(id);
    let output = codes.outputs[id.0];
    let input = codes.of(layer.inputs[0]);
    let input_scale = f64::from(input.scale);
    let output_scale = f64::from(output.scale);
    let int_layer = match layer.op {
        LayerOp::Conv { kernel, stride, activation } => {
            let channels = Channels::new(folded.layer(id), input_scale, Some(output_scale));
            edge::IntLayer::Conv {
                requantize: channels.requantize(input_scale, output_scale),
                conv: convolution(plan, id, kernel, stride, channels.weight, channels.bias),
                clamp: clamp(activation, output),
            }
        }
        LayerOp::Depthwise { kernel, stride, activation } => {
            let channels = Channels::new(folded.layer(id), input_scale, Some(output_scale));
            edge::IntLayer::Depthwise {
                requantize: channels.requantize(input_scale, output_scale),
                conv: convolution(plan, id, kernel, stride, channels.weight, channels.bias),
                clamp: clamp(activation, output),
            }
        }
        LayerOp::Add => {
            let scales = [0, 1].map(|side| f64::from(codes.of(layer.inputs[side]).scale));
            let twice = 2.0 * scales[0].max(scales[1]);
            edge::IntLayer::Add {
                sides: scales.map(|scale| edge::Requantization::from_real(scale / twice)),
                output: edge::Requantization::from_real(twice / (ADD_FRACTION * output_scale)),
                clamp: clamp(None, output),
            }
        }
        LayerOp::GlobalAveragePool => {
            let shape = plan.input_shape(id);
            let positions = f64::from(shape.height * shape.width);
            edge::IntLayer::GlobalAveragePool {
                requantize: edge::Requantization::from_real(
                    input_scale / (positions * output_scale),
                ),
            }
        }
        LayerOp::Linear => {
            let channels = Channels::new(folded.layer(id), input_scale, None);
            edge::IntLayer::Linear {
                logit_scale: channels.scales.iter().map(|s| (s * input_scale) as f32).collect(),
                linear: edge::Linear {
                    in_features: plan.input_shape(id).channels,
                    out_features: plan.output_shape(id).channels,
                    weight: channels.weight,
                    bias: channels.bias,
                },
            }
        }
    };
    edge::IntNode { inputs: value_ids(&layer.inputs), layer: int_layer, output }
}

/// Quantized weights and biases of one layer.
struct Channels {
    weight: Vec<i8>,
    /// Quantized with `input scale * weight scale`.
    bias: Vec<i32>,
    /// Weight scale per output channel, above 0.
    scales: Vec<f64>,
}

impl Channels {
    /// Chooses for every output channel the smallest scale with which its weights fit int8 and its
    /// accumulator cannot overflow. If all weights of a channel are zero, the scale keeps its bias
    /// as exact as int32 allows.
    fn new(layer: &FoldedLayer, input_scale: f64, output_scale: Option<f64>) -> Self {
        let filter_len = layer.weight.len() / layer.bias.len();
        let mut channels =
            Self { weight: Vec::with_capacity(layer.weight.len()), bias: vec![], scales: vec![] };
        for (filter, &bias) in layer.weight.chunks_exact(filter_len).zip(&layer.bias) {
            let bias = f64::from(bias);
            let magnitudes = filter.iter().map(|w| f64::from(w.abs()));
            let largest = magnitudes.clone().fold(0.0, f64::max);
            let reach = 255.0 * magnitudes.sum::<f64>() + bias.abs() / input_scale;
            let scale = (largest / WEIGHT_MAX).max(reach / ACCUMULATOR_MAX);
            // A channel of zeros: any scale would work; with this one the requantization factor
            // is 1.
            let scale = if scale > 0.0 { scale } else { output_scale.unwrap_or(1.0) / input_scale };
            channels.weight.extend(filter.iter().map(|&w| (f64::from(w) / scale).round() as i8));
            channels.bias.push((bias / (input_scale * scale)).round() as i32);
            channels.scales.push(scale);
        }
        channels
    }

    fn requantize(&self, input_scale: f64, output_scale: f64) -> Vec<edge::Requantization> {
        self.scales
            .iter()
            .map(|s| edge::Requantization::from_real(input_scale * s / output_scale))
            .collect()
    }
}

/// Lowest and highest output byte after the activation.
fn clamp(activation: Option<Activation>, output: edge::Quantization) -> (u8, u8) {
    let zero = output.zero_point;
    match activation {
        None => (0, 255),
        Some(Activation::Relu) => (zero, 255),
        Some(Activation::Relu6) => (zero, output.quantize(6.0)),
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_edge_runtime::Session;
    use edgesmith_search_space::{Architecture, DataShape, Stage};
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::*;
    use edgesmith_testing::residual_graph;
    use edgesmith_testing::{arbitrary_graph, normalization, random_bytes, random_weights};

    fn quantized(plan: &Plan, weights: &Weights, images: &[Vec<u8>]) -> edge::Model {
        let images = images.iter().map(Vec::as_slice);
        quantize(plan, weights, &normalization(plan.graph()), images).unwrap()
    }

    fn logits(model: &edge::Model, image: &[u8]) -> Vec<f32> {
        Session::new(model).unwrap().run(image).unwrap().to_vec()
    }

    /// Root mean square error of the int8 logits, relative to the spread of the fp32 logits, and
    /// the share of images on which both have the same top-1 class.
    fn agreement(plan: &Plan, weights: &Weights, seed: u64) -> (f64, f64) {
        let images: Vec<Vec<u8>> = (0..200).map(|i| random_bytes(plan.graph(), seed + i)).collect();
        let model = quantized(plan, weights, &images[..100]);
        let float = crate::export::float_model(plan, weights, &normalization(plan.graph()));
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
            plan in arbitrary_graph().prop_map(Plan::of),
            seed: u64,
            scales in prop::collection::vec(
                prop_oneof![Just(0.0f32), Just(1e-20), Just(1e-6), Just(1.0), Just(1e4)],
                8,
            ),
        ) {
            // Makes filters, gammas and biases of some channels zero, tiny or huge.
            let mut weights = random_weights(plan.graph(), seed);
            let arrays = weights.arrays.iter_mut();
            for (i, (_, array)) in arrays.filter(|(n, _)| !n.ends_with("variance")).enumerate() {
                let chunk = array.data.len() / array.shape[0];
                for (channel, values) in array.data.chunks_exact_mut(chunk).enumerate() {
                    let scale = scales[(i * 3 + channel) % scales.len()];
                    values.iter_mut().for_each(|v| *v *= scale);
                }
            }
            let image = random_bytes(plan.graph(), seed);
            let images = [image.as_slice()];
            let model = match quantize(&plan, &weights, &normalization(plan.graph()), images) {
                // Several huge layers overflow.
                Err(QuantizeError::NonFinite { .. }) => return Ok(()),
                other => other.unwrap(),
            };
            prop_assert!(logits(&model, &image).iter().all(|l| l.is_finite()));
        }
    }

    #[test]
    fn int8_is_close_to_fp32() {
        // The plans are fixed, because this holds for most networks and not for all: a network of
        // one channel may amplify rounding without bound.
        let mut runner = TestRunner::deterministic();
        let mut errors: Vec<f64> = (0..60)
            .map(|seed| {
                let plan =
                    arbitrary_graph().prop_map(Plan::of).new_tree(&mut runner).unwrap().current();
                agreement(&plan, &random_weights(plan.graph(), seed), seed).0
            })
            .collect();
        errors.sort_by(f64::total_cmp);
        assert!(errors[30] < 0.03 && errors[54] < 0.12, "{errors:?}");
    }

    #[test]
    fn a_wide_network_keeps_its_predictions() {
        let plan = Plan::of(residual_graph());
        let (error, same) = agreement(&plan, &random_weights(plan.graph(), 3), 3);
        assert!(error < 0.05, "{error}");
        assert!(same >= 0.95, "{same}");
    }

    #[test]
    fn a_channel_without_weights_keeps_its_bias() {
        let layer = FoldedLayer { weight: vec![0.0, 0.0, 0.5, -0.25], bias: vec![0.75, 0.0] };
        let channels = Channels::new(&layer, 0.01, Some(0.02));
        let real = |c: usize| f64::from(channels.bias[c]) * channels.scales[c] * 0.01;
        assert!((real(0) - 0.75).abs() < 1e-8 && channels.bias[1] == 0);
        assert_eq!(channels.weight, [0, 0, 127, -64]);
        let silent = FoldedLayer { weight: vec![0.0], bias: vec![0.0] };
        let channels = Channels::new(&silent, 0.01, Some(0.02));
        assert_eq!((channels.weight, channels.bias), (vec![0], vec![0]));
    }

    #[test]
    fn a_bias_much_larger_than_the_weights_widens_the_scale() {
        let layer = FoldedLayer { weight: vec![1e-9], bias: vec![100.0] };
        let channels = Channels::new(&layer, 0.01, None);
        let real = f64::from(channels.bias[0]) * channels.scales[0] * 0.01;
        assert!((real - 100.0).abs() < 1e-6, "{real}");
    }

    #[test]
    fn relu6_saturates_at_the_byte_for_six() {
        let output = edge::Quantization { scale: 0.04, zero_point: 3 };
        assert_eq!(clamp(Some(Activation::Relu6), output), (3, 153));
        assert_eq!(clamp(Some(Activation::Relu), output), (3, 255));
        assert_eq!(clamp(None, output), (0, 255));
        let narrow = edge::Quantization { scale: 0.01, zero_point: 0 };
        assert_eq!(clamp(Some(Activation::Relu6), narrow), (0, 255));
    }

    #[test]
    fn calibration_refuses_wrong_images_and_values_that_are_not_finite() {
        let plan = Plan::of(residual_graph());
        let weights = random_weights(plan.graph(), 1);
        let run = |weights: &Weights, images: &[&[u8]]| {
            quantize(&plan, weights, &normalization(plan.graph()), images.iter().copied())
                .unwrap_err()
        };
        assert_eq!(run(&weights, &[]), QuantizeError::NoImages);
        let error = run(&weights, &[&[0; 63]]).to_string();
        assert!(
            error.ends_with("calibration image has 63 bytes, but the network reads 64"),
            "{error}"
        );
        let mut huge = weights.clone();
        huge.arrays.get_mut("stem.gamma").unwrap().data.fill(3e38);
        huge.arrays.get_mut("stem.weight").unwrap().data.fill(3e38);
        let error = run(&huge, &[&[255; 64]]).to_string();
        assert!(error.contains("layer stem computes values that are not finite"), "{error}");
    }

    #[test]
    fn every_byte_of_a_grey_image_has_its_own_level() {
        let stages: Vec<Stage> = vec![];
        let architecture = Architecture { resolution: 4, stem_width: 2, stages };
        let data = DataShape { channels: 1, classes: 2 };
        let plan = Plan::lower(&architecture, data).unwrap();
        let spec = input_spec(&plan, &normalization(plan.graph()));
        let code = quantization(image_range(&spec));
        let levels: std::collections::BTreeSet<u8> =
            (0..=255).map(|byte| code.quantize(spec.normalized(0, byte))).collect();
        assert!(levels.len() >= 255, "{}", levels.len());
    }
}
