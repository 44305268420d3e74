//! The inverse of [`super::lower`]: makes a graph out of a model of the edge runtime, so that what
//! reads graphs can read a model file. It checks the model, but does not change or improve it.

use std::collections::BTreeMap;

use edgesmith_data::Normalization;
use edgesmith_edge_runtime as edge;
use edgesmith_graph::{
    Add, Affine, Array, Clip, Conv, Flatten, GlobalAveragePool, Graph, GraphBuilder, GraphError,
    LeakyRelu, Linear, Op, ParameterId, Place, Quantization, Role, Shape, ValueId, Weights,
};

use super::add::FRACTION;
use super::leaky_relu;

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
    /// A sum or mean is multiplied by something else than its scales say, or a table has something
    /// else.
    #[error("{node} does not compute what its scales say")]
    Factor {
        /// The layer, such as `node3`.
        node: String,
    },
}

/// The graph of a model. Layer `i` computes the value `node{i}`, from the parameters
/// `node{i}.weight` and `node{i}.bias`. A clamp of bytes becomes a clip to the numbers that these
/// bytes mean.
///
/// A model that [`super::lower`] made is the same again when the result is lowered. Other models
/// may have sums with a clamp and linear layers that read maps, which become nodes that are not
/// lowered, and biases that no fp32 number means exactly, which become the nearest ones.
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
            edge::FloatLayer::Conv(edge::FloatConv { conv, activation }) => {
                self.layer(float_conv(conv, false), inputs[0], clip(activation))
            }
            edge::FloatLayer::Depthwise(edge::FloatDepthwise { conv, activation }) => {
                self.layer(float_conv(conv, true), inputs[0], clip(activation))
            }
            edge::FloatLayer::Add(_) => self.node(Add, &inputs, &[], None),
            edge::FloatLayer::GlobalAveragePool(_) => {
                self.node(GlobalAveragePool, &inputs, &[], None)
            }
            edge::FloatLayer::LeakyRelu(edge::FloatLeakyRelu { slope }) => {
                self.node(LeakyRelu { slope: *slope }, &inputs, &[], None)
            }
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
            edge::IntLayer::Conv(edge::IntConv { conv, requantize, clamp }) => {
                let clip = self.layer_clip(*clamp, node.output)?;
                let layer = self.int_conv(conv, false, requantize, [scales[0], output])?;
                self.layer(layer, inputs[0], clip)?;
            }
            edge::IntLayer::Depthwise(edge::IntDepthwise { conv, requantize, clamp }) => {
                let clip = self.layer_clip(*clamp, node.output)?;
                let layer = self.int_conv(conv, true, requantize, [scales[0], output])?;
                self.layer(layer, inputs[0], clip)?;
            }
            edge::IntLayer::Add(edge::IntAdd { sides, output: sum, clamp }) => {
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
            edge::IntLayer::GlobalAveragePool(edge::IntGlobalAveragePool { requantize }) => {
                let positions = self.builder.shape(inputs[0]).positions() as f64;
                self.check_factor(*requantize, scales[0] / (positions * output))?;
                self.node(GlobalAveragePool, &inputs, &[], None)?;
            }
            edge::IntLayer::LeakyRelu(edge::IntLeakyRelu { slope, table }) => {
                let Affine { scale, zero_point } = self.affines[&inputs[0]];
                let input = edge::Quantization { scale, zero_point };
                if **table != leaky_relu::table(*slope, input, node.output) {
                    return Err(LiftError::Factor { node: self.name() });
                }
                self.node(LeakyRelu { slope: *slope }, &inputs, &[], None)?;
            }
            edge::IntLayer::Linear(edge::IntLinear { linear, logit_scale }) => {
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
mod tests;
