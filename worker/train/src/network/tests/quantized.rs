//! Simulated quantization of networks of every operation, compared with a reference in `f64`.
//!
//! Rounding has no slopes. What learns is a surrogate whose slopes are those of learned step size
//! quantization: `s · clamp(x / s) + s · d`, where `d` is what rounding adds at the point, held
//! fixed, and `s` times the outermost level where it clamps. Its central differences are compared
//! with the gradients of the network.

use std::collections::BTreeMap;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_graph::{
    Affine, Array, Evaluator, Graph, Node, NodeId, Op, Operation as _, Quantization, ValueId,
    Weights,
};
use edgesmith_kernels::Nearest;
use edgesmith_testing::{noise, random_weights};

use super::cases;
use super::net::Net;
use super::random;
use super::reference::statistics;
use crate::network::Network;
use crate::network::held::Held;
use crate::tests::sizes;

const BATCH: usize = 2;

const STEP: f64 = 1e-6;

/// Largest integer of weights: few, so that some weights are beyond.
const LARGEST: u8 = 5;

/// Steps of values and weights that are coarse, so that rounding to `f32` hardly ever decides, and
/// ranges that cut some numbers off.
pub(crate) fn annotation(graph: &Graph, seed: u64) -> Quantization {
    let mut quantization = Quantization::none(graph);
    let mut random = noise(4096, seed as u8).into_iter();
    let mut random = || random.next().unwrap();
    for (id, _) in graph.values() {
        let zero_point = [0, 4, 128, 128, 251][(random().abs() * 5.0) as usize];
        quantization.set_value(id, Affine { scale: 0.13 + 0.04 * random(), zero_point });
    }
    for (_, node) in graph.nodes() {
        if matches!(node.op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Linear(_)) {
            let weight = node.parameters[0];
            let rows = graph.parameter(weight).shape[0];
            let mut scales: Vec<f64> =
                (0..rows).map(|_| f64::from(0.15f32 + 0.05 * random())).collect();
            if random() < -0.4 {
                scales = vec![scales[0]; scales.len()];
            }
            quantization.set_parameter(weight, scales);
            if random() < -0.5 {
                quantization.set_signs(weight);
            } else {
                quantization.set_largest(weight, LARGEST);
            }
        }
    }
    quantization
}

/// What rounding does to a number at the point where slopes are taken.
#[derive(Clone, Copy)]
enum Rounded {
    /// It adds so many scales.
    By(f64),
    /// It clamps to this level.
    To(f64),
    /// It becomes a sign, as if it had been moved there from this number.
    Sign { number: f64, sign: f64 },
}

/// A quantized network, whose rounding can be held fixed.
struct Surrogate<'a> {
    graph: &'a Graph,
    quantization: &'a Quantization,
    held: Held,
    evaluator: Evaluator<'a, f64>,
    /// By parameter.
    numbers: Vec<Vec<f64>>,
    /// By value.
    scales: Vec<f64>,
    /// By parameter.
    rows: Vec<Vec<f64>>,
    /// What each rounding of a pass does, in order.
    rounded: Vec<Vec<Rounded>>,
    at: usize,
    /// Whether some number is so near to the middle between two levels, or to a level where it
    /// clamps, that rounding to `f32` may decide.
    unclear: bool,
}

impl<'a> Surrogate<'a> {
    fn new(graph: &'a Graph, weights: &Weights, quantization: &'a Quantization) -> Self {
        let numbers = |id| weights.of(graph, id).data.iter().map(|&w| f64::from(w)).collect();
        let scale = |id| f64::from(quantization.value(id).unwrap().scale);
        let rows = |id| {
            let scales = quantization.parameter(id).unwrap_or_default();
            // Rows that have one scale share it.
            let shared = scales.iter().all(|scale| *scale == scales[0]);
            let scales = if shared { &scales[..scales.len().min(1)] } else { scales };
            scales.iter().map(|&scale| f64::from(scale as f32)).collect()
        };
        Self {
            graph,
            quantization,
            held: Held::new(graph, quantization),
            evaluator: Evaluator::new(graph, weights),
            numbers: graph.parameters().map(|(id, _)| numbers(id)).collect(),
            scales: graph.values().map(|(id, _)| scale(id)).collect(),
            rows: graph.parameters().map(|(id, _)| rows(id)).collect(),
            rounded: Vec::new(),
            at: 0,
            unclear: false,
        }
    }

    /// The outputs for a batch, one example after another. The first pass decides what rounding
    /// does in those after it.
    fn outputs(&mut self, inputs: &[Vec<f64>]) -> Vec<f64> {
        self.at = 0;
        let input = self.graph.inputs().next().unwrap();
        let normalizations = self.graph.absorbed_normalizations();
        let mut examples = Vec::new();
        for example in inputs {
            examples.push(vec![self.value(input, Nearest::Away, example)]);
        }
        for (id, node) in self.graph.nodes() {
            let form = self.held.forms[id.index()];
            for (slot, &parameter) in node.parameters.iter().enumerate() {
                let numbers = match (slot, form.multiplies) {
                    (0, true) => self.weight(parameter.index()),
                    (1, true) => {
                        let channels = self.numbers[parameter.index()].len();
                        self.bias(parameter.index(), self.units(node, channels))
                    }
                    _ => self.numbers[parameter.index()].clone(),
                };
                self.evaluator.parameter_mut(parameter).copy_from_slice(&numbers);
            }
            let mut read = Vec::new();
            for values in &examples {
                let mut values: Vec<Vec<f64>> = values.clone();
                for &input in &node.inputs {
                    if form.reads && self.held.scales[input.index()].is_none() {
                        values[input.index()] =
                            self.value(input, Nearest::Away, &values[input.index()].clone());
                    }
                }
                read.push(values);
            }
            let normalizes =
                |id: NodeId| matches!(self.graph.node(id).op, Op::BatchNormalization(_));
            if let Op::Clip(clip) = &node.op
                && self.graph.producer(node.inputs[0]).is_some_and(normalizes)
            {
                // Whole steps are often exactly at an end, and beside it in `f32`.
                let ends = [clip.low, clip.high].map(f64::from);
                let at_an_end = |number: &f64| ends.iter().any(|end| (number - end).abs() < 1e-6);
                let input = node.inputs[0].index();
                self.unclear |= read.iter().any(|values| values[input].iter().any(at_an_end));
            }
            if matches!(node.op, Op::BatchNormalization(_)) {
                let input = node.inputs[0];
                let channels = self.graph.shape(input).channels() as usize;
                let of: Vec<&[f64]> = read.iter().map(|values| &*values[input.index()]).collect();
                let statistics = statistics(&of, channels);
                for (slot, numbers) in [2, 3].into_iter().zip(&statistics) {
                    let parameter = node.parameters[slot];
                    self.evaluator.parameter_mut(parameter).copy_from_slice(numbers);
                }
                let layer = self.graph.producer(input).filter(|layer| {
                    normalizations[layer.index()] == Some(id)
                        && self.held.forms[layer.index()].multiplies
                });
                if let Some(layer) = layer {
                    let shift = self.shift(node, self.graph.node(layer), &statistics);
                    self.evaluator.parameter_mut(node.parameters[1]).copy_from_slice(&shift);
                }
            }
            for (values, read) in examples.iter_mut().zip(&read) {
                let output = self.evaluator.node(id, read);
                let output = match form.writes {
                    Some((scale, nearest)) => self.value(scale, nearest, &output),
                    None => output,
                };
                values.push(output);
            }
        }
        let output = self.graph.outputs()[0].index();
        examples.into_iter().flat_map(|mut values| values.swap_remove(output)).collect()
    }

    fn value(&mut self, scale: ValueId, nearest: Nearest, numbers: &[f64]) -> Vec<f64> {
        let zero_point = f64::from(self.quantization.value(scale).unwrap().zero_point);
        let scales = vec![self.scales[scale.index()]];
        self.round(numbers, &scales, [-zero_point, 255.0 - zero_point], nearest)
    }

    fn weight(&mut self, parameter: usize) -> Vec<f64> {
        let (numbers, rows) = (self.numbers[parameter].clone(), self.rows[parameter].clone());
        let (id, _) = self.graph.parameters().nth(parameter).unwrap();
        let largest = f64::from(self.quantization.largest(id));
        let signs = self.quantization.is_signs(id);
        let nearest = if signs { Nearest::Sign } else { Nearest::Away };
        self.round(&numbers, &rows, [-largest, largest], nearest)
    }

    /// Rounds to the levels `scale · low ..= scale · high` of each row.
    fn round(
        &mut self,
        numbers: &[f64],
        scales: &[f64],
        [low, high]: [f64; 2],
        nearest: Nearest,
    ) -> Vec<f64> {
        let row = numbers.len() / scales.len();
        let scale = |place: usize| scales[place / row];
        if self.at == self.rounded.len() {
            let positions = numbers.iter().enumerate().map(|(place, x)| (x, x / scale(place)));
            let rounded = positions.map(|(&number, position)| {
                if nearest == Nearest::Sign {
                    self.unclear |= number.abs() < 2e-3;
                    return Rounded::Sign { number, sign: number.signum() };
                }
                let middle = position - position.floor() - 0.5;
                // A sum that is exactly there may be beside it in `f32`.
                let exact = |end: f64| position == end && nearest == Nearest::Away;
                let edge = |end: f64| (position - end).abs() < 2e-3 && !exact(end);
                self.unclear |= middle.abs() < 2e-3 || edge(low) || edge(high);
                if position <= low {
                    return Rounded::To(low);
                } else if position >= high {
                    return Rounded::To(high);
                }
                Rounded::By(match nearest {
                    Nearest::Away => position.round() - position,
                    Nearest::Up => (position + 0.5).floor() - position,
                    Nearest::Sign => unreachable!("see above"),
                })
            });
            let rounded = rounded.collect();
            self.rounded.push(rounded);
        }
        let rounded = &self.rounded[self.at];
        self.at += 1;
        let moved =
            numbers.iter().enumerate().zip(rounded).map(|((place, x), rounded)| match rounded {
                Rounded::By(scales) => x + scales * scale(place),
                Rounded::To(level) => level * scale(place),
                Rounded::Sign { number, sign } => x - number + sign * scale(place),
            });
        moved.collect()
    }

    /// By channel, the step between the sums of a layer.
    fn units(&self, layer: &Node, channels: usize) -> Vec<f64> {
        let source = self.held.scale_of(layer.inputs[0]).index();
        let rows = self.rows[layer.parameters[0].index()].iter().cycle().take(channels);
        rows.map(|row| row * self.scales[source]).collect()
    }

    /// Rounds a bias to whole units. What that adds does not depend on the scales.
    fn bias(&mut self, parameter: usize, units: Vec<f64>) -> Vec<f64> {
        self.whole(self.numbers[parameter].clone(), vec![0.0; units.len()], units)
    }

    /// The shift of a normalisation with which it is a layer with a bias of whole units.
    fn shift(&mut self, node: &Node, layer: &Node, [mean, variance]: &[Vec<f64>; 2]) -> Vec<f64> {
        let Op::BatchNormalization(op) = &node.op else { unreachable!("it normalises") };
        let [scale, shift] = [0, 1].map(|slot| self.numbers[node.parameters[slot].index()].clone());
        let units = self.units(layer, shift.len());
        let gains = scale.iter().zip(variance);
        let gains =
            gains.map(|(scale, variance)| scale / (variance + f64::from(op.epsilon)).sqrt());
        let gains: Vec<f64> = gains.collect();
        let fixed = mean.iter().zip(&gains).map(|(mean, gain)| -mean * gain).collect();
        let units = units.iter().zip(&gains).map(|(unit, gain)| unit * gain.abs()).collect();
        self.whole(shift, fixed, units)
    }

    /// Moves numbers so that with what is added to them they are whole units. The first pass
    /// decides by how much.
    fn whole(&mut self, numbers: Vec<f64>, added: Vec<f64>, units: Vec<f64>) -> Vec<f64> {
        if self.at == self.rounded.len() {
            let moved = numbers.iter().zip(added).zip(&units).map(|((x, added), unit)| {
                let position = (x + added) / unit;
                self.unclear |= (position - position.floor() - 0.5).abs() < 2e-3;
                Rounded::By(position.round() * unit - (x + added))
            });
            let moved = moved.collect();
            self.rounded.push(moved);
        }
        let rounded = &self.rounded[self.at];
        self.at += 1;
        let moved = numbers.iter().zip(rounded).map(|(x, rounded)| match rounded {
            Rounded::By(moved) => x + moved,
            Rounded::To(_) | Rounded::Sign { .. } => unreachable!("biases are only rounded"),
        });
        moved.collect()
    }
}

/// What a slope is by.
#[derive(Clone, Copy)]
enum Place {
    Input(usize, usize),
    Number(usize, usize),
    Scale(usize),
    Row(usize, usize),
}

/// Compares a pass and all gradients. False if rounding to `f32` may decide, or a number is not
/// finite.
fn check(name: &str, graph: &Graph, seed: u64, fast: bool) -> bool {
    let device = Device::flex().autodiff();
    let weights = random_weights(graph, seed);
    let quantization = annotation(graph, seed);
    let shape = sizes(graph, BATCH);
    let numbers = noise(shape.iter().product(), seed as u8 ^ 1);
    let numbers: Vec<f32> = numbers.into_iter().map(|number| 2.0 * number).collect();
    let examples = numbers.chunks_exact(numbers.len() / BATCH);
    let mut inputs: Vec<Vec<f64>> =
        examples.map(|input| input.iter().map(|&number| number.into()).collect()).collect();
    let mut surrogate = Surrogate::new(graph, &weights, &quantization);
    let expected = surrogate.outputs(&inputs);
    if surrogate.unclear || expected.iter().any(|output| !output.is_finite()) {
        return false;
    }

    let network = Network::quantized(graph, &weights, &quantization, &device);
    let batch = Tensor::<4>::from_data(TensorData::new(numbers, shape), &device).require_grad();
    let output = network.forward_on(batch.clone(), fast);
    let got = output.clone().inner().into_data().try_into_vec::<f32>().unwrap();
    let size = expected.iter().fold(1.0f64, |size, value| size.max(value.abs()));
    for (got, expected) in got.iter().zip(&expected) {
        let error = (f64::from(*got) - expected).abs();
        assert!(error < 1e-4 * size, "{name}: {got} instead of {expected}");
    }

    let factors = noise(expected.len(), seed as u8 + 2);
    let weighted = Tensor::from_data(TensorData::new(factors.clone(), output.dims()), &device);
    let mut gradients = (output * weighted).sum().backward();
    let by_input = batch.grad_remove(&mut gradients);
    let of_input = |tensor: Tensor<4>| tensor.into_data().try_into_vec::<f32>().unwrap();
    let by_input = by_input.map(of_input).unwrap_or_else(|| vec![0.0; shape.iter().product()]);
    let gradients = network.gradients(&GradientsParams::from_grads(gradients, &network));

    let mut all: BTreeMap<String, Vec<(Place, f32, f32)>> = BTreeMap::new();
    let of_example = by_input.len() / BATCH;
    for (at, &slope) in by_input.iter().enumerate() {
        let place = Place::Input(at / of_example, at % of_example);
        all.entry("input".to_owned()).or_default().push((place, slope, 1.0));
    }
    for (id, parameter) in graph.parameters() {
        let name = parameter.name.to_string();
        let array = gradients.arrays.get(&name).map(|array| &array.data);
        for (at, &slope) in array.into_iter().flatten().enumerate() {
            let place = Place::Number(id.index(), at);
            all.entry(name.clone()).or_default().push((place, slope, 1.0));
        }
        let scales = gradients.arrays.get(&format!("{name}@scale")).map(|array| &array.data);
        for (at, &slope) in scales.into_iter().flatten().enumerate() {
            let rows = surrogate.rows[id.index()].len() as u64;
            let largest = f32::from(quantization.largest(id));
            let factor = factor(parameter.elements() / rows, largest);
            let place = Place::Row(id.index(), at);
            all.entry(format!("{name}@scale")).or_default().push((place, slope, factor));
        }
    }
    for (id, value) in graph.values() {
        let name = format!("{}@scale", value.name);
        if let Some(array) = gradients.arrays.get(&name) {
            let factor = factor(value.shape.elements(), 255.0);
            all.entry(name).or_default().push((Place::Scale(id.index()), array.data[0], factor));
        }
    }
    for (what, places) in all {
        let mut compared = Vec::new();
        for (place, got, factor) in places {
            let mut at = |step: f64| {
                let number: &mut f64 = match place {
                    Place::Input(example, at) => &mut inputs[example][at],
                    Place::Number(parameter, at) => &mut surrogate.numbers[parameter][at],
                    Place::Scale(value) => &mut surrogate.scales[value],
                    Place::Row(parameter, at) => &mut surrogate.rows[parameter][at],
                };
                let before = std::mem::replace(number, *number + step);
                let outputs = surrogate.outputs(&inputs);
                match place {
                    Place::Input(example, at) => inputs[example][at] = before,
                    Place::Number(parameter, at) => surrogate.numbers[parameter][at] = before,
                    Place::Scale(value) => surrogate.scales[value] = before,
                    Place::Row(parameter, at) => surrogate.rows[parameter][at] = before,
                }
                let outputs = outputs.into_iter().zip(&factors);
                outputs.map(|(output, &factor)| output * f64::from(factor)).sum::<f64>()
            };
            let [low, middle, high] = [-STEP, 0.0, STEP].map(&mut at);
            let (before, after) = ((middle - low) / STEP, (high - middle) / STEP);
            // Numbers are often exactly at a kink, because 0 is a level.
            if (before - after).abs() < 1e-3 * before.abs().max(1e-3) {
                compared.push((got, f64::from(factor) * (before + after) / 2.0));
            }
        }
        let size = compared.iter().fold(0.01f64, |size, (_, slope)| size.max(slope.abs()));
        for (got, slope) in compared {
            let error = (f64::from(got) - slope).abs();
            assert!(error < 2e-3 * size, "{name}: gradient of {what} {got} instead of {slope}");
        }
    }
    true
}

/// What the gradient of a scale is multiplied with, for so many numbers and this highest level
/// (Esser et al. 2020, section 2.2).
fn factor(numbers: u64, largest: f32) -> f32 {
    (numbers as f32 * largest).powf(-0.5)
}

/// Checks a graph with the first seed that is clear.
fn check_any(name: &str, graph: &Graph, fast: bool) -> bool {
    (0..200).any(|seed| check(name, graph, seed, fast))
}

#[test]
fn every_operation_is_rounded_and_learns_as_the_formulas_say() {
    for fast in [false, true] {
        let mut kinds = std::collections::BTreeSet::new();
        let mut left_out = Vec::new();
        for case in cases::all() {
            if check_any(&case.name, &case.graph, fast) {
                kinds.extend(case.graph.nodes().map(|(_, node)| node.op.kind()));
            } else {
                left_out.push(case.name);
            }
        }
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), Op::KINDS);
        // Linear interpolation between two levels is often exactly in the middle, and a level at
        // the end of a clip has no slope.
        assert_eq!(left_out, ["resize", "normalisation that two nodes read"]);
    }
}

#[test]
fn random_networks_are_rounded_and_learn_as_the_formulas_say() {
    let mut checked = 0;
    for seed in 0..40 {
        let graph = random::graph(seed, 5);
        checked += u32::from(check_any(&format!("network {seed}"), &graph, seed % 2 == 0));
    }
    assert!(checked > 5, "{checked}");
}

/// Two layers of which every number is worked out by hand. A scale that a row has to itself counts
/// the 3 numbers of the row, one that both rows share all 6, and that of a value its 2 numbers of
/// one example, whatever the batch is.
#[test]
fn gradients_of_scales_are_sums_over_their_own_numbers() {
    let (mut net, input) = Net::new(3, &[]);
    let middle = net.linear(input, 2, false);
    let output = net.linear(middle, 1, false);
    let graph = net.finish(output);
    let (input, middle) = (graph.inputs().next().unwrap(), graph.value_named("n1").unwrap());
    let numbers = [
        ("n1.weight", [2, 3], &[0.26, -0.66, 0.09, 0.5, 2.0, -0.12][..]),
        ("n2.weight", [1, 2], &[0.9, -0.55]),
    ];
    let named = numbers.map(|(name, shape, data)| {
        (name.to_owned(), Array { shape: shape.to_vec(), data: data.to_vec() })
    });
    let weights = Weights { arrays: named.into() };
    let device = Device::flex().autodiff();
    let gradients = |rows: [f64; 2]| -> BTreeMap<String, Array> {
        let mut quantization = Quantization::none(&graph);
        quantization.set_value(input, Affine { scale: 0.5, zero_point: 128 });
        quantization.set_value(middle, Affine { scale: 0.07, zero_point: 128 });
        for ((_, node), scales) in graph.nodes().zip([rows.to_vec(), vec![0.25]]) {
            quantization.set_parameter(node.parameters[0], scales);
            quantization.set_largest(node.parameters[0], 5);
        }
        let network = Network::quantized(&graph, &weights, &quantization, &device);
        // All are levels of the input.
        let examples = TensorData::new(vec![1.0f32, -0.5, 2.0, 0.5, 8.0, 0.5], sizes(&graph, 2));
        let output = network.forward(Tensor::from_data(examples, &device));
        // The second example counts half.
        let shares = TensorData::new(vec![1.0f32, 0.5], output.dims());
        let gradients = (output * Tensor::from_data(shares, &device)).sum().backward();
        network.gradients(&GradientsParams::from_grads(gradients, &network)).arrays
    };
    let assert_near = |gradients: &BTreeMap<String, Array>, name: &str, expected: &[f64]| {
        let got = &gradients[name].data;
        assert_eq!(got.len(), expected.len(), "{name}");
        for (got, expected) in got.iter().zip(expected) {
            let error = (f64::from(*got) - expected).abs();
            assert!(error < 1e-4 * expected.abs(), "{name}: {got} instead of {expected}");
        }
    };

    // The first row is 1.3, -3.3 and 0.45 steps, the second 5/3, 20/3 and -0.4: the levels are
    // 1, -3 and 0, and 2, 5 and 0. A scale learns what rounding adds, or the level where it clamps.
    let learned = gradients([0.2, 0.3]);
    let [first, second] = [[-0.3, 0.3, -0.45], [1.0 / 3.0, 5.0, 0.4]];
    let along = |example: [f64; 3], row: [f64; 3]| -> f64 {
        example[0] * row[0] + example[1] * row[1] + example[2] * row[2]
    };
    let (one, other) = ([1.0, -0.5, 2.0], [0.5, 8.0, 0.5]);
    // The second layer has 3.6 and -2.2 steps, so its levels stand for 1 and -0.5. The second
    // number of the second example clamps, so nothing before it learns of it.
    let row = 1.0 / f64::sqrt(3.0 * 5.0);
    let of_first = along(one, first) + 0.5 * along(other, first);
    let of_second = -0.5 * along(one, second);
    assert_near(&learned, "n1.weight@scale", &[row * of_first, row * of_second]);
    // The middle is 0.5 and -0.15, then -4.7 and 12.3: in steps 7 + 1/7, -2 - 1/7, -67 - 1/7, and
    // beyond the last, 127.
    let value = 1.0 / f64::sqrt(2.0 * 255.0);
    let of_middle = (-1.0 / 7.0 - 0.5 / 7.0) + 0.5 * (1.0 / 7.0 - 0.5 * 127.0);
    assert_near(&learned, "n1@scale", &[value * of_middle]);
    // What the second layer reads are these levels. Rounding adds 0.4 and 0.2 steps.
    let of_last = 0.07 * ((7.0 * 0.4 - 2.0 * 0.2) + 0.5 * (-67.0 * 0.4 + 127.0 * 0.2));
    assert_near(&learned, "n2.weight@scale", &[1.0 / f64::sqrt(2.0 * 5.0) * of_last]);

    // With the scale of the second row, the first one is 13/15, -2.2 and 0.3 steps. It gives 0.6
    // and -4.65, which do not clamp.
    let learned = gradients([0.3, 0.3]);
    let first = [2.0 / 15.0, 0.2, -0.3];
    let of_both = along(one, first) + 0.5 * along(other, first) + of_second;
    assert_near(&learned, "n1.weight@scale", &[of_both / f64::sqrt(6.0 * 5.0)]);
}
