//! The inverse of [`super::lower`]: makes a graph out of a model of the edge runtime, so that what
//! reads graphs can read a model file. It checks the model, but does not change or improve it.

use std::collections::BTreeMap;

use edgesmith_data::Normalization;
use edgesmith_edge_runtime as edge;
use edgesmith_graph::{
    Add, Affine, Array, Clip, Conv, Flatten, GlobalAveragePool, Graph, GraphBuilder, GraphError,
    Linear, Op, ParameterId, Place, Quantization, Role, Shape, ValueId, Weights,
};

/// Bits that the engine adds below the point of each side of a sum.
const FRACTION: f64 = (1u64 << 20) as f64;

/// A model as a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Lifted {
    /// The network. Batch normalisation is folded already.
    pub graph: Graph,
    /// Its weights. Those of a model in integers are the real numbers that the integers mean.
    pub weights: Weights,
    /// How a model in integers holds them.
    pub quantization: Option<Quantization>,
    /// Of the image.
    pub normalization: Normalization,
}

/// Why a model does not become a graph. Each message is written to follow "failed to …: ".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LiftError {
    /// The engine does not run it.
    #[error(transparent)]
    Model(#[from] edge::ModelError),
    /// Its layers do not make a graph, for example because a convolution reads a vector.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The integers of a layer mean numbers that fp32 does not have.
    #[error("the numbers of {node} are too large or too small for fp32")]
    Range {
        /// The layer, such as `node3`.
        node: String,
    },
    /// A scale of the logits is 0 or negative.
    #[error("{node} has a scale that is not above 0")]
    Scale {
        /// The layer, such as `node3`.
        node: String,
    },
    /// A sum or mean is multiplied by something else than its scales say.
    #[error("the factors of {node} are not those of its scales")]
    Factor {
        /// The layer, such as `node3`.
        node: String,
    },
}

/// The graph of a model. Layer `i` computes the value `node{i}`, from the parameters
/// `node{i}.weight` and `node{i}.bias`. A clamp of bytes becomes a clip to the numbers that these
/// bytes mean.
///
/// Lowering the result gives the same model. In integers there is one exception: the graph has its
/// biases in fp32, so one that no fp32 number means exactly becomes the nearest that fp32 has. A
/// model that [`super::lower`] made has none of these.
///
/// # Errors
/// If the engine does not accept the model, or the model computes something that the graph cannot
/// say.
pub fn lift(model: &edge::Model) -> Result<Lifted, LiftError> {
    model.validate()?;
    let edge::InputSpec { channels, height, width, mean, std } = &model.input;
    let shape = Shape::new(*channels, &[*height, *width]);
    let shape = shape.expect("the engine accepts no empty image, and none that is too large");
    let mut lifting = Lifting::new(shape)?;
    match &model.network {
        edge::Network::Fp32(nodes) => nodes.iter().try_for_each(|node| lifting.float(node))?,
        edge::Network::Int8 { input, nodes } => {
            lifting.quantize(lifting.values[0], *input);
            nodes.iter().try_for_each(|node| lifting.integer(node))?;
        }
    }
    let Lifting { builder, weights, values, affines, scales } = lifting;
    let output = *values.last().expect("at least the image");
    let graph = builder.finish(&[output])?;
    let quantization = match &model.network {
        edge::Network::Fp32(_) => None,
        edge::Network::Int8 { .. } => {
            let mut quantization = Quantization::none(&graph);
            affines.into_iter().for_each(|(id, affine)| quantization.set_value(id, affine));
            scales.into_iter().for_each(|(id, scales)| quantization.set_parameter(id, scales));
            Some(quantization)
        }
    };
    let normalization = Normalization { mean: mean.clone(), std: std.clone() };
    Ok(Lifted { graph, weights, quantization, normalization })
}

/// The graph so far.
struct Lifting {
    builder: GraphBuilder,
    weights: Weights,
    /// The graph's value for each value of the engine.
    values: Vec<ValueId>,
    affines: BTreeMap<ValueId, Affine>,
    scales: Vec<(ParameterId, Vec<f64>)>,
}

/// A convolution or linear layer.
struct Layer {
    op: Op,
    weight_shape: Vec<u32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    /// Of the weight in integers.
    scales: Option<Vec<f64>>,
}

impl Lifting {
    fn new(image: Shape) -> Result<Self, GraphError> {
        let mut builder = GraphBuilder::new();
        let values = vec![builder.input("image", image)?];
        let weights = Weights::default();
        Ok(Self { builder, weights, values, affines: BTreeMap::new(), scales: Vec::new() })
    }

    fn float(&mut self, node: &edge::FloatNode) -> Result<(), LiftError> {
        let inputs = self.inputs(&node.inputs);
        let clip = |activation: &edge::Activation| match activation {
            edge::Activation::Linear => None,
            edge::Activation::Relu => Some(Clip::RELU),
            edge::Activation::Relu6 => Some(Clip::RELU6),
        };
        match &node.layer {
            edge::FloatLayer::Conv(conv, activation) => {
                self.layer(float_conv(conv, false), inputs[0], clip(activation))
            }
            edge::FloatLayer::Depthwise(conv, activation) => {
                self.layer(float_conv(conv, true), inputs[0], clip(activation))
            }
            edge::FloatLayer::Add => self.node(Add, &inputs, &[], None),
            edge::FloatLayer::GlobalAveragePool => self.node(GlobalAveragePool, &inputs, &[], None),
            edge::FloatLayer::Linear(linear) => {
                let input = self.vector(inputs[0])?;
                let (weight, bias) = (linear.weight.clone(), linear.bias.clone());
                let weight_shape = vec![linear.out_features, linear.in_features];
                let op = Op::from(Linear);
                self.layer(Layer { op, weight_shape, weight, bias, scales: None }, input, None)
            }
        }
    }

    fn integer(&mut self, node: &edge::IntNode) -> Result<(), LiftError> {
        let inputs = self.inputs(&node.inputs);
        let scales: Vec<f64> =
            inputs.iter().map(|input| f64::from(self.affines[input].scale)).collect();
        let output = f64::from(node.output.scale);
        match &node.layer {
            edge::IntLayer::Conv { conv, requantize, clamp } => {
                let clip = self.layer_clip(*clamp, node.output)?;
                let layer = self.int_conv(conv, false, requantize, [scales[0], output])?;
                self.layer(layer, inputs[0], clip)?;
            }
            edge::IntLayer::Depthwise { conv, requantize, clamp } => {
                let clip = self.layer_clip(*clamp, node.output)?;
                let layer = self.int_conv(conv, true, requantize, [scales[0], output])?;
                self.layer(layer, inputs[0], clip)?;
            }
            edge::IntLayer::Add { sides, output: sum, clamp } => {
                let twice = 2.0 * scales[0].max(scales[1]);
                self.check_factor(sides[0], scales[0] / twice)?;
                self.check_factor(sides[1], scales[1] / twice)?;
                self.check_factor(*sum, twice / (FRACTION * output))?;
                let clip = match clamp {
                    (u8::MIN, u8::MAX) => None,
                    clamp => Some(self.clip(*clamp, node.output)?),
                };
                self.node(Add, &inputs, &[], clip)?;
            }
            edge::IntLayer::GlobalAveragePool { requantize } => {
                let positions = self.builder.shape(inputs[0]).positions() as f64;
                self.check_factor(*requantize, scales[0] / (positions * output))?;
                self.node(GlobalAveragePool, &inputs, &[], None)?;
            }
            edge::IntLayer::Linear { linear, logit_scale } => {
                if logit_scale.iter().any(|&scale| scale <= 0.0) {
                    return Err(LiftError::Scale { node: self.name() });
                }
                let input = self.vector(inputs[0])?;
                let units = logit_scale.iter().map(|&scale| Unit::of_logit(scale));
                let weight_shape = vec![linear.out_features, linear.in_features];
                let (weight, bias) = (&linear.weight, &linear.bias);
                let layer =
                    self.reals(Linear.into(), weight_shape, (weight, bias), units, scales[0])?;
                self.layer(layer, input, None)?;
            }
        }
        let value = *self.values.last().expect("added above");
        self.quantize(value, node.output);
        Ok(())
    }

    /// The name of the layer that comes next.
    fn name(&self) -> String {
        format!("node{}", self.values.len() - 1)
    }

    fn inputs(&self, inputs: &[edge::ValueId]) -> Vec<ValueId> {
        inputs.iter().map(|input| self.values[input.0 as usize]).collect()
    }

    /// Notes how a value is held. The engine has a place for the quantization of the logits, and
    /// does not use it; what is there need not be valid.
    fn quantize(
        &mut self,
        value: ValueId,
        edge::Quantization { scale, zero_point }: edge::Quantization,
    ) {
        if scale > 0.0 && scale.is_finite() {
            self.affines.insert(value, Affine { scale, zero_point });
        }
    }

    /// A value as a vector, flattened if need be.
    fn vector(&mut self, value: ValueId) -> Result<ValueId, LiftError> {
        if self.builder.shape(value).space().is_empty() {
            return Ok(value);
        }
        let name = format!("{}.flat", self.name());
        let flat = self.builder.node(name, Flatten, &[value], &[], Place::default())?;
        if let Some(&affine) = self.affines.get(&value) {
            self.affines.insert(flat, affine);
        }
        Ok(flat)
    }

    /// Adds a layer with its parameters, and a clip after it if there is one.
    fn layer(&mut self, layer: Layer, input: ValueId, clip: Option<Clip>) -> Result<(), LiftError> {
        let Layer { op, weight_shape, weight, bias, scales } = layer;
        let name = self.name();
        let bias_shape = [bias.len() as u32];
        let parameters = [
            ("weight", &*weight_shape, Role::Weight, weight),
            ("bias", &bias_shape, Role::Bias, bias),
        ];
        let mut ids = Vec::with_capacity(parameters.len());
        for (part, shape, role, data) in parameters {
            let name = format!("{name}.{part}");
            ids.push(self.builder.parameter(name.clone(), shape, role)?);
            let shape = shape.iter().map(|&size| size as usize).collect();
            self.weights.arrays.insert(name, Array { shape, data });
        }
        self.scales.extend(scales.map(|scales| (ids[0], scales)));
        self.node(op, &[input], &ids, clip)
    }

    /// Adds what the next value of the engine is: a node, and a clip after it if there is one.
    fn node(
        &mut self,
        op: impl Into<Op>,
        inputs: &[ValueId],
        parameters: &[ParameterId],
        clip: Option<Clip>,
    ) -> Result<(), LiftError> {
        let (name, place) = (self.name(), Place::default);
        let value = match clip {
            None => self.builder.node(name, op, inputs, parameters, place())?,
            Some(clip) => {
                let whole = format!("{name}.unclipped");
                let value = self.builder.node(whole, op, inputs, parameters, place())?;
                self.builder.node(name, clip, &[value], &[], place())?
            }
        };
        self.values.push(value);
        Ok(())
    }

    /// The clip that the clamp of a convolution means. Where the bytes begin at zero anyway it is
    /// a ReLU, which then changes nothing that fits into a byte.
    fn layer_clip(
        &self,
        clamp: (u8, u8),
        output: edge::Quantization,
    ) -> Result<Option<Clip>, LiftError> {
        match clamp {
            (low, u8::MAX) if low == output.zero_point => Ok(Some(Clip::RELU)),
            (u8::MIN, u8::MAX) => Ok(None),
            clamp => Ok(Some(self.clip(clamp, output)?)),
        }
    }

    /// The clip to the numbers that a range of bytes means.
    fn clip(&self, clamp: (u8, u8), output: edge::Quantization) -> Result<Clip, LiftError> {
        let (low, high) = (output.dequantize(clamp.0), output.dequantize(clamp.1));
        if (output.quantize(low), output.quantize(high)) == clamp {
            Ok(Clip { low, high })
        } else {
            Err(LiftError::Range { node: self.name() })
        }
    }

    /// Checks that a layer multiplies by what its scales say. What is off by less than `2^-16`
    /// moves no byte by more than a level.
    fn check_factor(&self, given: edge::Requantization, expected: f64) -> Result<(), LiftError> {
        let expected = edge::Requantization::from_real(expected).to_real();
        let error = (given.to_real() - expected).abs();
        if error <= expected * 2f64.powi(-16) + 2f64.powi(-31) {
            Ok(())
        } else {
            Err(LiftError::Factor { node: self.name() })
        }
    }

    fn int_conv(
        &self,
        conv: &edge::Conv<i8, i32>,
        depthwise: bool,
        factors: &[edge::Requantization],
        [input, output]: [f64; 2],
    ) -> Result<Layer, LiftError> {
        let units = factors.iter().map(|&factor| Unit::of_factor(factor, output));
        let (op, weight_shape) = geometry(conv, depthwise);
        self.reals(op, weight_shape, (&conv.weight, &conv.bias), units, input)
    }

    /// The real numbers that the integers of a layer mean: a bias counts units, and a weight is a
    /// unit per `input`, the scale of what the layer reads.
    fn reals(
        &self,
        op: Op,
        weight_shape: Vec<u32>,
        (weight, bias): (&[i8], &[i32]),
        units: impl Iterator<Item = Unit>,
        input: f64,
    ) -> Result<Layer, LiftError> {
        let out_of_range = || LiftError::Range { node: self.name() };
        let (biases, scales): (Vec<f32>, Vec<f64>) = bias
            .iter()
            .zip(units)
            .map(|(&bias, unit)| {
                let (real, unit) = unit.of_bias(bias).ok_or_else(out_of_range)?;
                Ok((real, unit / input))
            })
            .collect::<Result<Vec<_>, LiftError>>()?
            .into_iter()
            .unzip();
        let mut reals = Vec::with_capacity(weight.len());
        for (filter, scale) in weight.chunks_exact(weight.len() / scales.len()).zip(&scales) {
            for &integer in filter {
                let real = (f64::from(integer) * scale) as f32;
                // A real number that is infinite or lost its digits is another integer.
                if (f64::from(real) / scale).round() != f64::from(integer) {
                    return Err(out_of_range());
                }
                reals.push(real);
            }
        }
        Ok(Layer { op, weight_shape, weight: reals, bias: biases, scales: Some(scales) })
    }
}

fn float_conv(conv: &edge::Conv<f32, f32>, depthwise: bool) -> Layer {
    let (op, weight_shape) = geometry(conv, depthwise);
    let (weight, bias) = (conv.weight.clone(), conv.bias.clone());
    Layer { op, weight_shape, weight, bias, scales: None }
}

/// The operation, and the shape of its weight.
fn geometry<W, B>(conv: &edge::Conv<W, B>, depthwise: bool) -> (Op, Vec<u32>) {
    let edge::Conv { in_channels, out_channels, kernel, stride, padding, .. } = *conv;
    let mut op =
        if depthwise { Conv::depthwise(kernel, stride) } else { Conv::dense(kernel, stride) };
    for axis in &mut op.axes {
        (axis.before, axis.after) = (padding, padding);
    }
    let reads = if depthwise { 1 } else { in_channels };
    (op.into(), vec![out_channels, reads, kernel, kernel])
}

/// The real number that 1 means in the accumulator of a channel. A model does not store it, but
/// factors that were computed from it and rounded, so it is one of a range.
#[derive(Debug, Clone, Copy)]
struct Unit {
    low: f64,
    likely: f64,
    high: f64,
}

impl Unit {
    /// Steps that a factor may be away from its rounded value: half of one, and a little less
    /// because of what is computed with it.
    const HALF: f64 = 0.4999;

    /// The units with which requantization has this factor, where `output` is the scale of what it
    /// makes.
    fn of_factor(factor: edge::Requantization, output: f64) -> Self {
        let edge::Requantization { multiplier, shift } = factor;
        if multiplier == 0 {
            // Any factor below 2^-32.
            let likely = 2f64.powi(-34) * output;
            return Self { low: likely / 2.0, likely, high: likely * 2.0 };
        }
        let smallest = shift == *edge::Requantization::SHIFTS.start();
        let below = match multiplier {
            // What is smaller becomes 0.
            0x4000_0000 if smallest => -1e-4,
            // What is smaller is rounded in steps half as large.
            0x4000_0000 => Self::HALF / 2.0,
            _ => Self::HALF,
        };
        let (step, steps) = (2f64.powi(shift - 31) * output, f64::from(multiplier));
        let [low, high] = [steps - below, steps + Self::HALF].map(|steps| steps * step);
        Self { low, likely: (steps * step).max(low), high }
    }

    /// The units with which logits have this scale, which is above 0.
    fn of_logit(scale: f32) -> Self {
        let likely = f64::from(scale);
        let below = (likely - f64::from(scale.next_down())) * Self::HALF;
        Self { low: likely - below, likely, high: likely + below }
    }

    /// The real number that a bias means, and the unit with which it does. Large biases leave
    /// little choice, because fp32 has fewer digits than they have. `None` if it is beyond fp32.
    fn of_bias(self, bias: i32) -> Option<(f32, f64)> {
        let count = f64::from(bias);
        let nearest = (count * self.likely) as f32;
        if (f64::from(nearest) / self.likely).round() == count {
            return Some((nearest, self.likely));
        }
        // From the nearest number away.
        let (mut below, mut above) = (nearest, nearest);
        for _ in 0..4 {
            for real in [below, above] {
                let unit = (f64::from(real) / count).clamp(self.low, self.high);
                if (f64::from(real) / unit).round() == count {
                    return Some((real, unit));
                }
            }
            (below, above) = (below.next_down(), above.next_up());
        }
        let error = (f64::from(nearest) / self.likely - count).abs();
        (error <= count.abs() * f64::from(f32::EPSILON)).then_some((nearest, self.likely))
    }
}

#[cfg(test)]
mod tests {
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
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0..9u8, any::<u32>()), 1..6),
        ) {
            let mut model = integers(&graph, &random_weights(&graph, seed), seed).unwrap();
            for (index, change, bits) in changes {
                let nodes = nodes(&mut model);
                let count = nodes.len();
                let node = &mut nodes[index.index(count)];
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
                    edge::IntLayer::Conv { conv, requantize, clamp }
                    | edge::IntLayer::Depthwise { conv, requantize, clamp } => match change {
                        2 => requantize[0] = any_factor,
                        3 => *clamp = any_clamp,
                        4 => conv.bias[0] = bits as i32 / 2,
                        _ => {}
                    },
                    edge::IntLayer::Add { output, clamp, .. } => match change {
                        2 => *output = any_factor,
                        3 => *clamp = any_clamp,
                        _ => {}
                    },
                    edge::IntLayer::GlobalAveragePool { requantize } => {
                        if change == 2 {
                            *requantize = any_factor;
                        }
                    }
                    edge::IntLayer::Linear { linear, logit_scale } => match change {
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
                edge::IntLayer::Conv { clamp, .. }
                | edge::IntLayer::Depthwise { clamp, .. }
                | edge::IntLayer::Add { clamp, .. } => *clamp = wanted,
                edge::IntLayer::GlobalAveragePool { .. } | edge::IntLayer::Linear { .. } => {
                    panic!("only the last two")
                }
            }
            let real = |byte: f32| (byte - 7.0) * node.output.scale;
            expected.push(match wanted {
                (0, 255) => None,
                // A sum has a clip wherever it has a clamp.
                (7, 255) if matches!(node.layer, edge::IntLayer::Add { .. }) => {
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
        let edge::IntLayer::Linear { linear, .. } = &layers.last().unwrap().layer else { panic!() };
        let edge::IntLayer::Conv { conv, .. } = &layers[0].layer else { panic!() };
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
            let edge::IntLayer::GlobalAveragePool { requantize } = &mut nodes[pool].layer else {
                panic!("the mean")
            };
            requantize.shift += 1;
        });
        assert!(doubled.starts_with("the factors of node"), "{doubled}");
        let negative = error(&|nodes| {
            let edge::IntLayer::Linear { logit_scale, .. } = &mut nodes.last_mut().unwrap().layer
            else {
                panic!("the logits")
            };
            logit_scale[0] *= -1.0;
        });
        assert!(negative.ends_with("has a scale that is not above 0"), "{negative}");
        let tiny = error(&|nodes| {
            let edge::IntLayer::Linear { logit_scale, .. } = &mut nodes.last_mut().unwrap().layer
            else {
                panic!("the logits")
            };
            logit_scale[0] = f32::MAX;
        });
        assert!(tiny.ends_with("are too large or too small for fp32"), "{tiny}");
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
        let linear = edge::Linear {
            in_features: 1,
            out_features: 2,
            weight: vec![1.0; 2],
            bias: vec![0.0; 2],
        };
        let layers = [
            edge::FloatLayer::GlobalAveragePool,
            edge::FloatLayer::Conv(one, edge::Activation::Linear),
            edge::FloatLayer::Linear(linear),
        ];
        let layers = layers.into_iter().enumerate();
        let layers = layers
            .map(|(i, layer)| edge::FloatNode { inputs: vec![edge::ValueId(i as u32)], layer });
        let input =
            edge::InputSpec { channels: 1, height: 2, width: 2, mean: vec![0.0], std: vec![1.0] };
        let model = edge::Model { input, network: edge::Network::Fp32(layers.collect()) };
        let vector = lift(&model).unwrap_err().to_string();
        assert!(vector.starts_with("node \"node1\" (conv): "), "{vector}");
    }
}
