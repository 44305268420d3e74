//! Post-training static quantization (Jacob et al. 2018): symmetric weights of at most 8 bits with
//! a scale per output channel or per layer, affine uint8 values with one scale per value, int32
//! biases. It calibrates on examples and annotates the network. It does not train, and does not
//! make the integers: lowering to an engine does. What no engine computes in integers is in
//! `coarse.rs`, from the same calibration.

use edgesmith_graph::{Affine, Evaluator, Graph, Op, Quantization, ValueId, Weights};

use crate::range::Observer;
use crate::real::{Real, weight};
use crate::{Coarse, Granularity, RangeRule, Scheme, bits};

/// Upper limit of `255 * sum |weight| + |bias|` of a channel, in accumulator units: half of int32,
/// so that it cannot overflow even if every weight is rounded up.
const ACCUMULATOR_MAX: f64 = (1u64 << 30) as f64;

/// Why a network cannot be quantized.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QuantizeError {
    /// The network was calibrated on no examples.
    #[error("failed to quantize: no calibration images")]
    NoImages,
    /// An example does not have the size of the network's input.
    #[error(
        "failed to quantize: calibration image has {given} numbers, but the network reads \
         {expected}"
    )]
    ImageSize {
        /// Numbers of the example.
        given: usize,
        /// Numbers of the network's input.
        expected: usize,
    },
    /// A layer computes NaN or infinite values.
    #[error("failed to quantize: layer {layer} computes values that are not finite")]
    NonFinite {
        /// The layer's name.
        layer: String,
    },
    /// A share of the numbers that no range can hold.
    #[error(
        "failed to quantize: the range of a value cannot hold a share of {share} of its numbers; \
         the share has to be above 0 and at most 1"
    )]
    Share {
        /// The share that was asked for.
        share: f64,
    },
    /// A layer that is to stay real, or to have other bits, is not there.
    #[error(
        "failed to quantize: {layer} cannot stay in fp32 or have its own bits, because the network \
         has no layer of this name with a weight"
    )]
    NoLayer {
        /// The name.
        layer: String,
    },
}

/// Observes the values of a network on examples, and then chooses their quantization.
#[derive(Debug)]
pub struct Calibration<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    evaluator: Evaluator<'a, f32>,
    observed: Vec<Observed<'a>>,
    examples: usize,
}

/// A value that is held as integers.
#[derive(Debug)]
struct Observed<'a> {
    value: ValueId,
    /// Name of the layer that computes it.
    layer: &'a str,
    observer: Observer,
}

impl<'a> Calibration<'a> {
    /// A network with one input, which is folded ([`crate::fold()`]). All its values get a
    /// quantization, except those before a clip that is computed along with its layer
    /// ([`Graph::absorbed_clips`]).
    ///
    /// # Panics
    /// If `weights` do not fit `graph`.
    pub fn new(graph: &'a Graph, weights: &'a Weights) -> Self {
        let name = |value: ValueId| -> &'a str { &graph.value(value).name };
        let clips = graph.absorbed_clips();
        let observed = graph.nodes().filter_map(|(id, node)| {
            if clips[id.index()].is_some() {
                return None;
            }
            let merged = clips.iter().flatten().any(|(clip, _)| *clip == id);
            let layer = name(if merged { node.inputs[0] } else { node.output });
            Some(Observed { value: node.output, layer, observer: Observer::new() })
        });
        let observed = observed.collect();
        let evaluator = Evaluator::new(graph, weights);
        Self { graph, weights, evaluator, observed, examples: 0 }
    }

    /// Observes all values on one example: the numbers of the network's input.
    ///
    /// # Errors
    /// If it has the wrong size, or the network's values on it are not finite.
    pub fn observe(&mut self, example: Vec<f32>) -> Result<(), QuantizeError> {
        let (given, expected) = (example.len(), self.graph.input().elements() as usize);
        if given != expected {
            return Err(QuantizeError::ImageSize { given, expected });
        }
        let values = self.evaluator.run(vec![example]);
        for Observed { value, layer, observer } in &mut self.observed {
            let values = &values[value.index()];
            if values.iter().any(|v| !v.is_finite()) {
                return Err(QuantizeError::NonFinite { layer: layer.to_string() });
            }
            observer.observe(values);
        }
        self.examples += 1;
        Ok(())
    }

    /// The quantization by `scheme`. What stays real has none. The range of the input covers
    /// `input`, from the lowest to the highest possible number. Weight scales are wide enough that
    /// no example can overflow an accumulator.
    ///
    /// # Errors
    /// If there were no examples, or the scheme names a layer that does not exist.
    pub fn finish(
        self,
        (low, high): (f32, f32),
        scheme: &Scheme,
    ) -> Result<Quantization, QuantizeError> {
        if self.examples == 0 {
            return Err(QuantizeError::NoImages);
        }
        if let RangeRule::Percentile(share) = scheme.calibration
            && !(share > 0.0 && share <= 1.0)
        {
            return Err(QuantizeError::Share { share });
        }
        let Self { graph, weights, .. } = self;
        let missing = |layer: String| QuantizeError::NoLayer { layer };
        let real = Real::of(graph, &scheme.real);
        let real = real.map_err(|name| missing(name.to_owned()))?;
        let bits_of = scheme.bits_of(graph).map_err(missing)?;
        let ranges = self.ranges((low, high), scheme.calibration, scheme.clip_ranges);
        let covering =
            |range: &Option<(f32, f32)>| range.map(|(low, high)| Affine::covering(low, high));
        let values: Vec<Option<Affine>> = ranges.iter().map(covering).collect();
        let mut quantization = Quantization::none(graph);
        for (id, _) in graph.values().filter(|(id, _)| !real.value(*id)) {
            values[id.index()].into_iter().for_each(|affine| quantization.set_value(id, affine));
        }
        let clips = graph.absorbed_clips();
        for (id, node) in graph.nodes().filter(|(id, _)| !real.node(*id)) {
            let Some(weight) = weight(graph, id) else { continue };
            let output = clips[id.index()].map_or(node.output, |(clip, _)| graph.node(clip).output);
            let scale =
                |value: ValueId| f64::from(values[value.index()].expect("observed above").scale);
            let (input, output) = (scale(node.inputs[0]), scale(output));
            let weights_of = &weights.of(graph, weight).data;
            let bias = node.parameters.get(1).map(|&bias| weights.of(graph, bias).data.as_slice());
            let ratio =
                if graph.outputs().contains(&node.output) { 1.0 / input } else { output / input };
            let channels = graph.parameter(weight).shape[0] as usize;
            let bits = bits_of[weight.index()];
            let least = least_scales(weights_of, channels, bias, input);
            let scales = match scheme.granularity {
                Granularity::Channel => {
                    let filters = weights_of.chunks_exact(weights_of.len() / channels);
                    let scales = filters.zip(least).map(|(filter, least)| {
                        widened(bits::scale(filter, bits), least).unwrap_or(ratio)
                    });
                    scales.collect()
                }
                Granularity::Layer => {
                    let least = least.into_iter().fold(0.0, f64::max);
                    let scale = widened(bits::scale(weights_of, bits), least);
                    vec![scale.unwrap_or(ratio); channels]
                }
            };
            quantization.set_parameter(weight, scales);
            if bits == 1 {
                quantization.set_signs(weight);
            } else {
                let largest = bits::largest(bits).min(i32::from(Quantization::LARGEST));
                quantization.set_largest(weight, largest as u8);
            }
        }
        Ok(quantization)
    }

    /// The levels by `scheme` where no engine computes in integers, or values stay in fp32. What
    /// stays real has none. The range of the input is as in [`Calibration::finish`]. Values of 16
    /// bits have so many levels that clipping gains nothing: the rules of least error cover all of
    /// their numbers then.
    ///
    /// # Errors
    /// If there were no examples and values are rounded, or the scheme names a layer that does not
    /// exist.
    pub fn coarse(self, input: (f32, f32), scheme: &Scheme) -> Result<Coarse, QuantizeError> {
        let rounds = scheme.widths.activations < 32;
        if rounds && self.examples == 0 {
            return Err(QuantizeError::NoImages);
        }
        let rule = match scheme.calibration {
            RangeRule::MeanSquaredError | RangeRule::Entropy if scheme.widths.activations > 8 => {
                RangeRule::MinMax
            }
            rule => rule,
        };
        let ranges = if rounds { self.ranges(input, rule, scheme.clip_ranges) } else { Vec::new() };
        let range = |value: ValueId| ranges.get(value.index()).copied().flatten();
        Coarse::new(self.graph, self.weights, scheme, range)
    }

    /// The range of each value that is held, by value. Each contains zero.
    fn ranges(
        &self,
        (low, high): (f32, f32),
        rule: RangeRule,
        clipped: bool,
    ) -> Vec<Option<(f32, f32)>> {
        let mut ranges = vec![None; self.graph.values().len()];
        let input = self.graph.inputs().next().expect("checked by the evaluator");
        ranges[input.index()] = Some((low.min(0.0), high.max(0.0)));
        for Observed { value, observer, .. } in &self.observed {
            ranges[value.index()] = Some(observer.range(rule));
        }
        if clipped {
            clip_ranges(self.graph, &mut ranges);
        }
        ranges
    }
}

/// Gives each value that only a clip reads the range of the clip's output. What that does not
/// reach, the clip cuts off anyway.
fn clip_ranges(graph: &Graph, values: &mut [Option<(f32, f32)>]) {
    let readers = graph.readers();
    for (id, node) in graph.nodes().filter(|(_, node)| matches!(node.op, Op::Clip(_))) {
        let input = node.inputs[0];
        let alone = readers[input.index()][..] == [id] && !graph.outputs().contains(&input);
        // One that is computed along with its layer has no quantization.
        if alone && graph.producer(input).is_some() && values[input.index()].is_some() {
            values[input.index()] = values[node.output.index()];
        }
    }
}

/// For every output channel the smallest scale with which its accumulator cannot overflow; 0 if all
/// weights and the bias of a channel are zero.
fn least_scales(
    weight: &[f32],
    channels: usize,
    bias: Option<&[f32]>,
    input_scale: f64,
) -> Vec<f64> {
    let filters = weight.chunks_exact(weight.len() / channels).enumerate();
    let scale = |(channel, filter): (usize, &[f32])| {
        let bias = bias.map_or(0.0, |bias| f64::from(bias[channel]));
        let sum = filter.iter().map(|w| f64::from(w.abs())).sum::<f64>();
        (255.0 * sum + bias.abs() / input_scale) / ACCUMULATOR_MAX
    };
    filters.map(scale).collect()
}

/// A scale that is at least `least`; `None` if any works.
fn widened(scale: Option<f64>, least: f64) -> Option<f64> {
    match scale {
        Some(scale) => Some(scale.max(least)),
        None => (least > 0.0).then_some(least),
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::{Add, Clip, GraphBuilder, Place, Shape};
    use edgesmith_testing::{arbitrary_graph, random_image, random_weights, residual_graph};
    use proptest::prelude::*;

    use super::*;
    use crate::fold;

    fn calibrated(graph: &Graph, weights: &Weights, seeds: u64) -> Quantization {
        let mut calibration = Calibration::new(graph, weights);
        for seed in 0..seeds {
            calibration.observe(random_image(graph, seed)).unwrap();
        }
        calibration.finish((-1.5, 1.5), &Scheme::default()).unwrap()
    }

    /// Of 8 bits, channel by channel.
    fn weight_scales(
        weight: &[f32],
        channels: usize,
        bias: Option<&[f32]>,
        input_scale: f64,
    ) -> Vec<Option<f64>> {
        let filters = weight.chunks_exact(weight.len() / channels);
        let least = least_scales(weight, channels, bias, input_scale);
        filters.zip(least).map(|(filter, least)| widened(bits::scale(filter, 8), least)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Rounding a value to its levels is off by half a step inside the range.
        #[test]
        fn values_seen_are_near_a_level(graph in arbitrary_graph(), seed: u64) {
            let (graph, weights) = fold(&graph, &random_weights(&graph, seed));
            let quantization = calibrated(&graph, &weights, 1);
            let image = random_image(&graph, 0);
            let values = Evaluator::<f32>::new(&graph, &weights).run(vec![image]);
            let merged = graph.absorbed_clips();
            for (id, _) in graph.values() {
                let hidden = graph.producer(id).is_some_and(|id| merged[id.index()].is_some());
                let affine = quantization.value(id);
                prop_assert_eq!(affine.is_none(), hidden);
                let Some(Affine { scale, zero_point }) = affine else { continue };
                let level = |real: f32| (real / scale).round() + f32::from(zero_point);
                let inside = |real: &&f32| (0.0..=255.0).contains(&level(**real));
                let count = values[id.index()].iter().filter(inside).count();
                prop_assert!(2 * count >= values[id.index()].len(), "most are in the range");
            }
        }

        /// The largest possible sum of a channel stays within half of int32.
        #[test]
        fn no_example_can_overflow_an_accumulator(graph in arbitrary_graph(), seed: u64) {
            let (graph, weights) = fold(&graph, &random_weights(&graph, seed));
            let quantization = calibrated(&graph, &weights, 1);
            for (_, node) in graph.nodes().filter(|(_, node)| graph.macs(node) > 0) {
                let scales = quantization.parameter(node.parameters[0]).unwrap();
                let input = f64::from(quantization.value(node.inputs[0]).unwrap().scale);
                let numbers = &weights.of(&graph, node.parameters[0]).data;
                let bias = &weights.of(&graph, node.parameters[1]).data;
                let filters = numbers.chunks_exact(numbers.len() / scales.len());
                for ((filter, &scale), &bias) in filters.zip(scales).zip(bias) {
                    prop_assert!(filter.iter().all(|&w| (f64::from(w) / scale).abs() <= 127.001));
                    let integers = filter.iter().map(|&w| (f64::from(w) / scale).round().abs());
                    let sum = 255.0 * integers.sum::<f64>() + f64::from(bias).abs() / (input * scale);
                    prop_assert!(sum < 2.0 * ACCUMULATOR_MAX);
                }
            }
        }
    }

    #[test]
    fn a_channel_without_weights_keeps_its_bias_exact() {
        let weight = [0.0, 0.0, 0.5, -0.25];
        let scales = weight_scales(&weight, 2, Some(&[0.75, 0.0]), 0.01);
        let scales: Vec<f64> = scales.into_iter().flatten().collect();
        let bias = (0.75 / (0.01 * scales[0])).round() * scales[0] * 0.01;
        assert!((bias - 0.75).abs() < 1e-8, "{bias}");
        assert_eq!(scales[1], f64::from(0.5f32) / 127.0);
        assert_eq!(weight_scales(&[0.0], 1, Some(&[0.0]), 0.01), [None]);
    }

    #[test]
    fn a_bias_much_larger_than_the_weights_widens_the_scale() {
        let scales = weight_scales(&[1e-9], 1, Some(&[100.0]), 0.01);
        let scales: Vec<f64> = scales.into_iter().flatten().collect();
        let bias = (100.0 / (0.01 * scales[0])).round();
        assert!(bias <= ACCUMULATOR_MAX && (bias * scales[0] * 0.01 - 100.0).abs() < 1e-6);
    }

    #[test]
    fn a_layer_may_have_one_scale() {
        let (graph, weights) = fold(&residual_graph(), &random_weights(&residual_graph(), 1));
        let quantized = |granularity| {
            let mut calibration = Calibration::new(&graph, &weights);
            calibration.observe(random_image(&graph, 1)).unwrap();
            let scheme = Scheme { granularity, ..Scheme::default() };
            calibration.finish((-1.5, 1.5), &scheme).unwrap()
        };
        let (channels, layer) = (quantized(Granularity::Channel), quantized(Granularity::Layer));
        for (id, _) in graph.values() {
            assert_eq!(channels.value(id), layer.value(id));
        }
        let mut unlike = 0;
        for (id, _) in graph.parameters() {
            let Some(scales) = channels.parameter(id) else { continue };
            let largest = scales.iter().copied().fold(0.0, f64::max);
            assert_eq!(layer.parameter(id).unwrap(), vec![largest; scales.len()]);
            unlike += usize::from(scales.iter().any(|scale| *scale != largest));
        }
        assert!(unlike > 3);
    }

    #[test]
    fn sums_may_cover_what_a_clip_lets_through() {
        // The sum is read by a rectifier alone, or by something else, too.
        for outputs in 1..3 {
            let mut builder = GraphBuilder::new();
            let x = builder.input("x", Shape::new(2, &[]).unwrap()).unwrap();
            let mut node = |name: &'static str, op: Op, inputs: &[ValueId]| {
                builder.node(name, op, inputs, &[], Place::default()).unwrap()
            };
            let sum = node("sum", Add.into(), &[x, x]);
            let last = node("last", Clip::RELU6.into(), &[sum]);
            let graph = builder.finish(&[last, sum][..outputs]).unwrap();
            let weights = Weights::default();
            let quantized = |clip_ranges| {
                let mut calibration = Calibration::new(&graph, &weights);
                calibration.observe(vec![-4.0, 4.0]).unwrap();
                let scheme = Scheme { clip_ranges, ..Scheme::default() };
                calibration.finish((-4.0, 4.0), &scheme).unwrap()
            };
            assert_eq!(quantized(false).value(sum), Some(Affine::covering(-8.0, 8.0)));
            let same = quantized(true).value(sum) == Some(Affine::covering(0.0, 6.0));
            assert_eq!(same, outputs == 1);
            assert_eq!(quantized(true).value(x), Some(Affine::covering(-4.0, 4.0)));
        }
    }

    #[test]
    fn a_share_that_no_range_can_hold_is_refused() {
        let (graph, weights) = fold(&residual_graph(), &random_weights(&residual_graph(), 1));
        for share in [0.0, 1.5, f64::NAN] {
            let mut calibration = Calibration::new(&graph, &weights);
            calibration.observe(random_image(&graph, 1)).unwrap();
            let calibration_rule = RangeRule::Percentile(share);
            let scheme = Scheme { calibration: calibration_rule, ..Scheme::default() };
            let text = calibration.finish((0.0, 1.0), &scheme).unwrap_err().to_string();
            assert!(text.ends_with("the share has to be above 0 and at most 1"), "{text}");
        }
    }

    #[test]
    fn wrong_images_and_values_that_are_not_finite_are_refused() {
        let (graph, weights) = fold(&residual_graph(), &random_weights(&residual_graph(), 1));
        let none = Calibration::new(&graph, &weights).finish((0.0, 1.0), &Scheme::default());
        assert_eq!(none.unwrap_err(), QuantizeError::NoImages);
        let error = Calibration::new(&graph, &weights).observe(vec![0.0; 63]).unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with("image has 63 numbers, but the network reads 64"), "{text}");
        let mut huge = weights.clone();
        huge.arrays.get_mut("stem.weight").unwrap().data.fill(3e38);
        let error = Calibration::new(&graph, &huge).observe(vec![255.0; 64]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("layer stem computes values that are not finite"), "{text}");
    }
}
