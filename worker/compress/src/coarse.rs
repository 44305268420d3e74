//! Quantization that no engine on a device computes in integers: weights as levels of 1 to 16 bits,
//! symmetric or affine, and values rounded to 8 or 16 bits or left in fp32. It chooses the levels,
//! and says what the weights become. It computes nothing in integers.

use std::ops::ControlFlow;

use edgesmith_graph::{Graph, Op, ParameterId, ValueId, Weights};

use crate::bias_correction::correct;
use crate::bits;
use crate::levels::moves;
use crate::real::{Real, weight};
use crate::scheme::Widths;
use crate::{Granularity, QuantizeError, Scheme};

/// How weights are held and values are rounded.
#[derive(Debug, Clone, PartialEq)]
pub struct Coarse {
    /// By value.
    values: Vec<Option<Grid>>,
    /// By parameter.
    weights: Vec<Option<Rows>>,
}

/// The levels of a value: `real = scale * (level - zero point)`, from level 0 to the last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// Above 0.
    pub scale: f32,
    /// The level that means 0.
    pub zero_point: u16,
    /// 255 or 65535.
    pub last: u16,
}

/// The levels of a weight: `real = scale * (level - zero point)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Of a level: 1, 2, 4, 8 or 16.
    pub bits: u8,
    /// One for each output channel, or one for all.
    pub scales: Vec<f32>,
    /// One for each scale, or none if weights are symmetric.
    pub zero_points: Vec<i16>,
    /// Output channel by output channel.
    pub levels: Vec<i16>,
}

impl Grid {
    /// A range that contains zero, which is one of its levels.
    fn covering((low, high): (f32, f32), last: u16) -> Self {
        let scale = (high - low).max(edgesmith_graph::Affine::NARROWEST) / f32::from(last);
        let zero_point = (-low / scale).round().clamp(0.0, f32::from(last)) as u16;
        Self { scale, zero_point, last }
    }

    /// Rounds numbers to the nearest levels, halves away from zero.
    pub fn round(self, numbers: &mut [f32]) {
        let zero = f32::from(self.zero_point);
        for number in numbers {
            let level = ((*number / self.scale).round() + zero).clamp(0.0, f32::from(self.last));
            *number = self.scale * (level - zero);
        }
    }
}

impl Rows {
    /// Those of weights of `channels` output channels.
    fn of(weights: &[f32], channels: usize, bits: u32, affine: bool, whole: bool) -> Self {
        let rows = if whole { 1 } else { channels };
        let mut found = Self {
            bits: bits as u8,
            scales: Vec::with_capacity(rows),
            zero_points: Vec::new(),
            levels: Vec::with_capacity(weights.len()),
        };
        for row in weights.chunks_exact(weights.len() / rows) {
            if affine && bits > 1 {
                let (scale, zero) = bits::affine(row, bits).unwrap_or((1.0, 0));
                let rule = (f64::from(scale as f32), zero);
                found.scales.push(scale as f32);
                found.zero_points.push(zero as i16);
                found.levels.extend(row.iter().map(|&w| bits::affine_level(w, rule, bits) as i16));
            } else {
                let scale = bits::scale(row, bits).unwrap_or(1.0) as f32;
                let level = |&w: &f32| bits::level(w, f64::from(scale), bits) as i16;
                found.scales.push(scale);
                found.levels.extend(row.iter().map(level));
            }
        }
        found
    }

    /// The weights that the levels stand for, computed as the engine does.
    pub fn weights(&self) -> Vec<f32> {
        let row = self.levels.len() / self.scales.len();
        let zero = |row: usize| self.zero_points.get(row).map_or(0, |zero| i32::from(*zero));
        let rows = self.levels.chunks_exact(row).zip(&self.scales).enumerate();
        rows.flat_map(|(row, (levels, &scale))| {
            let zero = zero(row);
            levels.iter().map(move |&level| scale * (i32::from(level) - zero) as f32)
        })
        .collect()
    }
}

impl Coarse {
    /// Of a folded network. `range_of` gives the range of a value that is held somewhere, which
    /// contains zero; it is not asked where values stay in fp32.
    ///
    /// # Errors
    /// If the scheme names a layer that does not exist.
    pub(crate) fn new(
        graph: &Graph,
        weights: &Weights,
        scheme: &Scheme,
        range_of: impl Fn(ValueId) -> Option<(f32, f32)>,
    ) -> Result<Self, QuantizeError> {
        let missing = |name: &str| QuantizeError::NoLayer { layer: name.to_owned() };
        let real = Real::of(graph, &scheme.real).map_err(missing)?;
        let bits_of = scheme.bits_of(graph).map_err(|name| missing(&name))?;
        let Widths { affine, activations, .. } = scheme.widths;
        let mut coarse = Self {
            values: vec![None; graph.values().len()],
            weights: vec![None; graph.parameters().len()],
        };
        if activations < 32 {
            let last = if activations == 16 { u16::MAX } else { u16::from(u8::MAX) };
            for (id, _) in graph.values().filter(|(id, _)| !real.value(*id)) {
                // What a network answers is not rounded, as in integers.
                if !graph.outputs().contains(&id) {
                    coarse.values[id.index()] =
                        range_of(id).map(|range| Grid::covering(range, last));
                }
            }
            // Numbers that are only moved are on their levels already, however often.
            let mut moved = vec![false; graph.values().len()];
            for (_, node) in graph.nodes() {
                let only_moves = moves(&node.op) && !matches!(node.op, Op::Resize(_));
                if !only_moves {
                    continue;
                }
                let (input, output) = (node.inputs[0].index(), node.output.index());
                if coarse.values[input].is_some() || moved[input] {
                    (coarse.values[output], moved[output]) = (None, true);
                }
            }
        }
        for (id, _) in graph.nodes().filter(|(id, _)| !real.node(*id)) {
            let Some(weight) = weight(graph, id) else { continue };
            let channels = graph.parameter(weight).shape[0] as usize;
            let whole = scheme.granularity == Granularity::Layer;
            let numbers = &weights.of(graph, weight).data;
            let rows = Rows::of(numbers, channels, bits_of[weight.index()], affine, whole);
            coarse.weights[weight.index()] = Some(rows);
        }
        Ok(coarse)
    }

    /// How a value is rounded; `None` if it is not.
    pub fn value(&self, id: ValueId) -> Option<Grid> {
        self.values[id.index()]
    }

    /// How a weight is held; `None` if it stays real.
    pub fn weight(&self, id: ParameterId) -> Option<&Rows> {
        self.weights[id.index()].as_ref()
    }

    /// The weights of a network with those in place that its levels stand for.
    ///
    /// # Panics
    /// If it is that of another graph.
    pub fn rounded(&self, graph: &Graph, weights: &Weights) -> Weights {
        let mut rounded = weights.clone();
        for (id, parameter) in graph.parameters() {
            if let Some(rows) = self.weight(id) {
                rounded.arrays.get_mut(&*parameter.name).expect("they fit").data = rows.weights();
            }
        }
        rounded
    }

    /// The rounded weights of a folded network with the biases with which its layers keep the means
    /// that they have with the weights `original`, when values are rounded, too
    /// ([`crate::correct_quantized`]). `None` if `pause` breaks.
    ///
    /// # Panics
    /// If the weights do not fit `graph`, or an example does not have the size of the only input.
    pub fn corrected(
        &self,
        graph: &Graph,
        original: &Weights,
        examples: &[Vec<f32>],
        pause: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Option<Weights> {
        let held = |value: ValueId, numbers: &mut [f32]| {
            if let Some(grid) = self.value(value) {
                grid.round(numbers);
            }
        };
        let most = graph.values().map(|(_, value)| value.shape.channels()).max().unwrap_or(0);
        let channels: Vec<u32> = (0..most).collect();
        let all = |value| &channels[..graph.shape(value).channels() as usize];
        let rounded = self.rounded(graph, original);
        correct((graph, original), (graph, &rounded), all, held, examples, pause)
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_graph::Evaluator;
    use edgesmith_testing::{arbitrary_graph, random_image, random_weights, residual_graph};
    use proptest::prelude::*;

    use super::*;
    use crate::{Calibration, fold};

    fn scheme(weights: u32, affine: bool, activations: u32, granularity: Granularity) -> Scheme {
        let widths = Widths { weights, affine, activations, ..Widths::default() };
        Scheme { widths, granularity, ..Scheme::default() }
    }

    fn coarse(graph: &Graph, weights: &Weights, scheme: &Scheme) -> Coarse {
        let mut calibration = Calibration::new(graph, weights);
        for seed in 0..3 {
            calibration.observe(random_image(graph, seed)).unwrap();
        }
        calibration.coarse((-1.5, 1.5), scheme).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Naively, number by number, in f64.
        #[test]
        fn weights_are_at_their_levels(
            graph in arbitrary_graph(), seed: u64, affine: bool, layer: bool,
            bits in prop_oneof![Just(1u32), Just(2), Just(4), Just(8), Just(16)],
        ) {
            let (graph, weights) = fold(&graph, &random_weights(&graph, seed));
            let granularity = if layer { Granularity::Layer } else { Granularity::Channel };
            let scheme = scheme(bits, affine, 32, granularity);
            let coarse = coarse(&graph, &weights, &scheme);
            let rounded = coarse.rounded(&graph, &weights);
            for (id, parameter) in graph.parameters() {
                let (was, is) = (&weights.of(&graph, id).data, &rounded.of(&graph, id).data);
                let Some(rows) = coarse.weight(id) else {
                    prop_assert_eq!(was, is);
                    continue;
                };
                let count = if layer { 1 } else { parameter.shape[0] as usize };
                prop_assert_eq!(rows.scales.len(), count);
                prop_assert_eq!(rows.zero_points.len(), if affine && bits > 1 { count } else { 0 });
                for (place, (was, is)) in was.iter().zip(is).enumerate() {
                    let row = place / (rows.levels.len() / count);
                    let zero = rows.zero_points.get(row).map_or(0, |zero| i64::from(*zero));
                    let (level, scale) = (i64::from(rows.levels[place]), f64::from(rows.scales[row]));
                    prop_assert!((f64::from(*is) - scale * (level - zero) as f64).abs() < 1e-6 * scale.max(1.0));
                    if *was == 0.0 {
                        prop_assert_eq!(*is, 0.0);
                    } else if bits == 1 {
                        prop_assert_eq!(level, if *was > 0.0 { 1 } else { -1 });
                    } else if bits >= 8 {
                        prop_assert!((was - is).abs() <= rows.scales[row] * 1.001);
                    }
                }
            }
        }

        #[test]
        fn values_of_16_bits_are_near_a_level(graph in arbitrary_graph(), seed: u64) {
            let (graph, weights) = fold(&graph, &random_weights(&graph, seed));
            let coarse = coarse(&graph, &weights, &scheme(8, false, 16, Granularity::Channel));
            let values = Evaluator::<f32>::new(&graph, &weights).run(vec![random_image(&graph, 0)]);
            let mut held = 0;
            for (id, _) in graph.values().filter(|(id, _)| graph.producer(*id).is_some()) {
                let Some(grid) = coarse.value(id) else { continue };
                held += 1;
                prop_assert_eq!(grid.last, u16::MAX);
                let mut rounded = values[id.index()].clone();
                grid.round(&mut rounded);
                // The first image was observed, so all of it is in the range.
                for (real, level) in values[id.index()].iter().zip(&rounded) {
                    prop_assert!((real - level).abs() <= grid.scale * 1.01, "{real} at {level}");
                }
            }
            prop_assert!(held > 0);
            prop_assert!(graph.outputs().iter().all(|id| coarse.value(*id).is_none()));
        }
    }

    #[test]
    fn layers_have_bits_of_their_own_and_may_stay_real() {
        let (graph, weights) = fold(&residual_graph(), &random_weights(&residual_graph(), 1));
        let layers: Vec<_> =
            graph.nodes().filter_map(|(id, _)| weight(&graph, id).map(|w| (id, w))).collect();
        let name = |at: usize| graph.value(graph.node(layers[at].0).output).name.to_string();
        let mut scheme = scheme(4, false, 16, Granularity::Channel);
        scheme.widths.layers.insert(name(1), 16);
        scheme.real.insert(name(0));
        let found = coarse(&graph, &weights, &scheme);
        assert!(found.weight(layers[0].1).is_none());
        assert_eq!(found.weight(layers[1].1).unwrap().bits, 16);
        assert_eq!(found.weight(layers[2].1).unwrap().bits, 4);
        scheme.widths.layers.insert("nothing".to_owned(), 8);
        let mut calibration = Calibration::new(&graph, &weights);
        calibration.observe(random_image(&graph, 1)).unwrap();
        let error = calibration.coarse((-1.0, 1.0), &scheme).unwrap_err();
        assert_eq!(error, QuantizeError::NoLayer { layer: "nothing".to_owned() });
    }

    /// The correction makes the means of the last layer those of the real network.
    #[test]
    fn corrected_biases_keep_the_means() {
        let (graph, weights) = fold(&residual_graph(), &random_weights(&residual_graph(), 2));
        let scheme = scheme(2, false, 8, Granularity::Channel);
        let coarse = coarse(&graph, &weights, &scheme);
        let examples: Vec<Vec<f32>> = (0..8).map(|seed| random_image(&graph, seed)).collect();
        let go_on = &mut || ControlFlow::Continue(());
        let corrected = coarse.corrected(&graph, &weights, &examples, go_on).unwrap();
        let output = graph.outputs()[0];
        let mean = |weights: &Weights, rounds: bool| {
            let evaluator = Evaluator::<f32>::new(&graph, weights);
            let mut sum = vec![0.0; graph.shape(output).elements() as usize];
            for example in &examples {
                let mut values = vec![example.clone()];
                if rounds && let Some(grid) = coarse.value(graph.inputs().next().unwrap()) {
                    grid.round(&mut values[0]);
                }
                for (id, node) in graph.nodes() {
                    let mut value = evaluator.node(id, &values);
                    if rounds && let Some(grid) = coarse.value(node.output) {
                        grid.round(&mut value);
                    }
                    values.push(value);
                }
                let answers = &values[output.index()];
                sum.iter_mut().zip(answers).for_each(|(sum, answer)| *sum += f64::from(*answer));
            }
            sum
        };
        let (real, fixed) = (mean(&weights, false), mean(&corrected, true));
        let plain = mean(&coarse.rounded(&graph, &weights), true);
        let distance =
            |means: &[f64]| means.iter().zip(&real).map(|(a, b)| (a - b).abs()).sum::<f64>();
        assert!(distance(&fixed) < 1e-3, "{}", distance(&fixed));
        assert!(distance(&plain) > 0.1, "{}", distance(&plain));
    }
}
