//! The inverse of [`super::lower`]: makes a graph out of a model of the edge runtime, so that what
//! reads graphs can read a model file. It checks the model, but does not change or improve it.
//! `operations` says which operation a layer is, `integers` what the integers of a layer mean,
//! `tables` what tables of bytes compute, and `taps` how the positions of a resize came about.

mod integers;
mod operations;
mod tables;
mod taps;

use std::collections::BTreeMap;

use edgesmith_data::Normalization;
use edgesmith_edge_runtime as edge;
use edgesmith_graph::{
    Add, Affine, Array, AveragePool, BinaryFunction, Clip, Concat, Constant, Flatten, Function,
    Gather, Graph, GraphBuilder, GraphError, LayerNormalization, Linear, Map, MatrixProduct,
    MaxPool, Multiply, Op, Pad, ParameterId, Place, Prelu, Quantization, Role, Select, Shape,
    Softmax, Transpose, ValueId, Weights,
};

use self::integers::{Unit, quantization};
use self::operations::{
    float_clip, function_op, geometry, is_per_channel, transposed_geometry, windows,
};
use super::{InputForm, Interface, OutputForm};

/// Factor for the fraction bits of the sides of an addition in a file of version 1.
const FRACTION: f64 = (1u64 << 20) as f64;

/// The same number, of other bytes.
const SAME: Map = Map { function: Function::Scale { factor: 1.0, offset: 0.0 } };

/// What follows the name of a layer in that of what it computes before its clip.
const UNCLIPPED: &str = ".unclipped";

/// A model as a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Lifted {
    /// The network. Batch normalisation is folded already.
    pub graph: Graph,
    /// Its weights. Those of a model in integers are the real numbers that the integers mean.
    pub weights: Weights,
    /// How a model in integers holds them.
    pub quantization: Option<Quantization>,
    /// How its arrays come from outside and go there.
    pub interface: Interface,
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
    /// A convolution of a vector has groups of several channels, which no layer of a graph has.
    #[error("{node} is a convolution of a vector in groups of channels, which a graph cannot say")]
    Groups {
        /// The layer, such as `node3`.
        node: String,
    },
    /// The positions of a resize were not computed by one of a graph's.
    #[error("the positions of {node} are those of no resize that a graph has")]
    Taps {
        /// The layer, such as `node3`.
        node: String,
    },
    /// A sum or mean is multiplied by something else than its scales say, or a table has something
    /// else, or bytes are moved to other scales.
    #[error("{node} does not compute what its scales say")]
    Factor {
        /// The layer, such as `node3`.
        node: String,
    },
}

/// The graph of a model. Layer `i` computes the value `node{i}`, or what an output is called, from
/// the parameters `node{i}.weight` and `node{i}.bias`. A clamp of bytes becomes a clip to the
/// numbers that these bytes mean.
///
/// A model of the operations that spaces have is the same again when the result is lowered. Other
/// models may have sums with a clamp and linear layers that read maps, which become several layers,
/// and biases that no fp32 number means exactly, which become the nearest ones. A value and what it
/// is converted to are one value of the graph, which the annotation says the scale of. Weights that
/// are levels become the numbers that they stand for, and rounding of values in fp32 is left out.
///
/// # Errors
/// If the engine does not accept the model, or the model computes something that the graph cannot
/// say.
pub fn lift(model: &edge::Model) -> Result<Lifted, LiftError> {
    lift_with_values(model).map(|(lifted, _)| lifted)
}

/// As [`lift`], with the place of the layer of the model that each node of the graph is part of.
///
/// # Errors
/// See [`lift`].
pub fn lift_with_places(model: &edge::Model) -> Result<(Lifted, Vec<usize>), LiftError> {
    let (lifted, values) = lift_with_values(model)?;
    // Values of the graph are in the order of the layers that compute them.
    let place = |value: ValueId| values.iter().position(|last| last.index() >= value.index());
    let nodes = lifted.graph.nodes();
    let places = nodes.map(|(_, node)| place(node.output).expect("each was made of a layer"));
    let places = places.collect();
    Ok((lifted, places))
}

/// As [`lift`], with the value of the graph that each layer of the model computes. What else is
/// computed for it comes right before in the graph.
fn lift_with_values(model: &edge::Model) -> Result<(Lifted, Vec<ValueId>), LiftError> {
    model.validate()?;
    let mut lifting = Lifting::new(model)?;
    model.nodes.iter().try_for_each(|node| lifting.add(node))?;
    let Lifting { builder, weights, mut values, affines, scales, .. } = lifting;
    let outputs: Vec<ValueId> =
        model.outputs.iter().map(|output| values[output.value.0 as usize]).collect();
    let graph = builder.finish(&outputs)?;
    let quantization = model.has_integers().then(|| {
        let mut quantization = Quantization::none(&graph);
        affines.into_iter().for_each(|(id, affine)| quantization.set_value(id, affine));
        scales.into_iter().for_each(|(id, scales)| quantization.set_parameter(id, scales));
        quantization
    });
    let interface = interface(model, &graph);
    let values = values.split_off(model.inputs.len());
    Ok((Lifted { graph, weights, quantization, interface }, values))
}

/// The value that a value is, before it was converted.
fn unconverted(model: &edge::Model, mut value: usize) -> usize {
    while let Some(place) = value.checked_sub(model.inputs.len())
        && let edge::Layer::Quantize(_) | edge::Layer::Dequantize(_) | edge::Layer::Round(_) =
            model.nodes[place].layer
    {
        value = model.nodes[place].inputs[0].0 as usize;
    }
    value
}

/// How the arrays of a model come from outside, and go there.
fn interface(model: &edge::Model, graph: &Graph) -> Interface {
    let input = |input: &edge::Input| InputForm {
        name: input.name.clone(),
        normalization: match &input.array {
            edge::Array::Fp32 => None,
            edge::Array::Bytes(edge::Normalization { mean, std, .. }) => {
                Some(Normalization { mean: mean.clone(), std: std.clone() })
            }
        },
        order: input.order.clone(),
    };
    let is_bytes = |value: edge::ValueId| {
        let place = value.0 as usize;
        let element = match place.checked_sub(model.inputs.len()).map(|at| &model.nodes[at]) {
            Some(node) if matches!(node.layer, edge::Layer::Dequantize(_)) => return true,
            Some(node) => node.output,
            None => model.inputs[place].element,
        };
        matches!(element, edge::Element::Uint8(_))
    };
    let output = |(output, &id): (&edge::Output, &ValueId)| {
        // The mean of each channel has fewer axes than in a file of version 1.
        let axes = graph.shape(id).sizes().len() as u32;
        let order = output.order.iter().copied().filter(|&axis| axis < axes).collect();
        OutputForm { name: output.name.clone(), bytes: is_bytes(output.value), order }
    };
    Interface {
        inputs: model.inputs.iter().map(input).collect(),
        outputs: model.outputs.iter().zip(graph.outputs()).map(output).collect(),
    }
}

/// The graph so far.
struct Lifting {
    builder: GraphBuilder,
    weights: Weights,
    /// The graph's value for each value of the engine.
    values: Vec<ValueId>,
    affines: BTreeMap<ValueId, Affine>,
    scales: Vec<(ParameterId, Vec<f64>)>,
    /// What the outputs are called, by value of the engine.
    outputs: BTreeMap<usize, String>,
    /// How many inputs the model has.
    inputs: usize,
    /// What the names of layers begin with, before their number. No input's name does.
    prefix: String,
    /// Whether the mean of each channel is a map of one position, as files of version 1 have it.
    keeps_axes: bool,
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
    /// With the inputs of a model that is valid.
    fn new(model: &edge::Model) -> Result<Self, GraphError> {
        let (mut builder, mut affines) = (GraphBuilder::new(), BTreeMap::new());
        let mut values = Vec::with_capacity(model.inputs.len());
        for edge::Input { name, shape, element, .. } in &model.inputs {
            let shape = Shape::new(shape.sizes()[0], &shape.sizes()[1..]);
            let shape = shape.expect("the engine accepts no empty value, and none too large");
            let value = builder.input(name.clone(), shape)?;
            if let edge::Element::Uint8(edge::Quantization { scale, zero_point }) = *element {
                affines.insert(value, Affine { scale, zero_point });
            }
            values.push(value);
        }
        let mut prefix = "node".to_owned();
        while model.inputs.iter().any(|input| input.name.starts_with(&prefix)) {
            prefix.push('_');
        }
        let mut outputs = BTreeMap::new();
        for edge::Output { name, value, .. } in &model.outputs {
            // Other values have the other names.
            let taken = name.starts_with(&prefix) || model.inputs.iter().any(|i| i.name == *name);
            if !taken {
                let value = unconverted(model, value.0 as usize);
                outputs.entry(value).or_insert_with(|| name.clone());
            }
        }
        Ok(Self {
            builder,
            weights: Weights::default(),
            values,
            affines,
            scales: Vec::new(),
            outputs,
            inputs: model.inputs.len(),
            prefix,
            keeps_axes: model.rounding == edge::Rounding::Twice,
        })
    }

    /// Adds a layer, in fp32 or in integers.
    fn add(&mut self, node: &edge::Node) -> Result<(), LiftError> {
        let inputs = self.inputs(&node.inputs);
        let scale = |element| match element {
            edge::Element::Uint8(quantization) => f64::from(quantization.scale),
            edge::Element::Fp32 => 1.0,
        };
        let affines: Vec<Option<Affine>> =
            inputs.iter().map(|input| self.affines.get(input).copied()).collect();
        let scales: Vec<f64> =
            affines.iter().map(|a| a.map_or(1.0, |affine| f64::from(affine.scale))).collect();
        let output = scale(node.output);
        match &node.layer {
            edge::Layer::FloatConv(edge::FloatConv { conv, activation })
                if conv.axes.is_empty() && is_per_channel(conv) =>
            {
                let clip = float_clip(*activation);
                self.lines((&conv.weight, &conv.bias), inputs[0], clip)?;
            }
            edge::Layer::FloatConv(edge::FloatConv { conv, activation }) => {
                self.check_groups(conv)?;
                let (op, weight_shape) = geometry(conv);
                let (weight, bias) = (conv.weight.clone(), conv.bias.clone());
                let layer = Layer { op, weight_shape, weight, bias, scales: None };
                self.layer(layer, inputs[0], float_clip(*activation))?;
            }
            edge::Layer::IntConv(layer) => {
                self.check_groups(&layer.conv)?;
                let clip = self.layer_clip(layer.clamp, quantization(node.output))?;
                let layer = self.int_conv(layer, [scales[0], output])?;
                self.layer(layer, inputs[0], clip)?;
            }
            edge::Layer::FloatConvTranspose(edge::FloatConvTranspose { conv, activation }) => {
                let (op, weight_shape) = transposed_geometry(conv);
                let (weight, bias) = (conv.weight.clone(), conv.bias.clone());
                let layer = Layer { op, weight_shape, weight, bias, scales: None };
                self.layer(layer, inputs[0], float_clip(*activation))?;
            }
            edge::Layer::IntConvTranspose(layer) => {
                let edge::IntConvTranspose { conv, clamp, .. } = layer;
                let clip = self.layer_clip(*clamp, quantization(node.output))?;
                let factors = layer.factors().into_iter();
                let units = factors.map(|factor| Unit::of_factor(factor, output));
                let (op, weight_shape) = transposed_geometry(conv);
                let numbers = (&conv.weight[..], &conv.bias[..]);
                let layer = self.reals(op, weight_shape, numbers, units, scales[0])?;
                self.layer(layer, inputs[0], clip)?;
            }
            edge::Layer::FloatLinear(linear) => {
                let input = self.vector(inputs[0])?;
                let (weight, bias) = (linear.weight.clone(), linear.bias.clone());
                let weight_shape = vec![linear.out_features, linear.in_features];
                let op = Op::from(Linear);
                self.layer(Layer { op, weight_shape, weight, bias, scales: None }, input, None)?;
            }
            edge::Layer::IntLinear(layer) => {
                let edge::IntLinear { linear, logit_scale } = layer;
                if logit_scale.iter().any(|&scale| scale <= 0.0) {
                    return Err(LiftError::Scale { node: self.name() });
                }
                let input = self.vector(inputs[0])?;
                let units = layer.scales().into_iter().map(Unit::of_logit);
                let weight_shape = vec![linear.out_features, linear.in_features];
                let (weight, bias) = (&linear.weight, &linear.bias);
                let layer =
                    self.reals(Linear.into(), weight_shape, (weight, bias), units, scales[0])?;
                self.layer(layer, input, None)?;
            }
            edge::Layer::Binary(edge::Binary { function }) => match function {
                edge::BinaryFunction::Add => self.node(Add, &inputs, &[], None)?,
                edge::BinaryFunction::Multiply => self.node(Multiply, &inputs, &[], None)?,
                edge::BinaryFunction::Divide => self.binary(BinaryFunction::Divide, &inputs)?,
                edge::BinaryFunction::Equal => self.binary(BinaryFunction::Equal, &inputs)?,
                edge::BinaryFunction::Less => self.binary(BinaryFunction::Less, &inputs)?,
                edge::BinaryFunction::LessOrEqual => {
                    self.binary(BinaryFunction::LessOrEqual, &inputs)?;
                }
                edge::BinaryFunction::Maximum => self.binary(BinaryFunction::Maximum, &inputs)?,
                edge::BinaryFunction::Minimum => self.binary(BinaryFunction::Minimum, &inputs)?,
                edge::BinaryFunction::Power => self.binary(BinaryFunction::Power, &inputs)?,
                edge::BinaryFunction::Subtract => self.binary(BinaryFunction::Subtract, &inputs)?,
            },
            edge::Layer::IntAddTwice(edge::IntAddTwice { sides, output: sum, clamp }) => {
                let twice = 2.0 * scales[0].max(scales[1]);
                self.check_factor(sides[0].to_real(), scales[0] / twice)?;
                self.check_factor(sides[1].to_real(), scales[1] / twice)?;
                self.check_factor(sum.to_real(), twice / (FRACTION * output))?;
                let clip = self.any_clip(*clamp, quantization(node.output))?;
                self.node(Add, &inputs, &[], clip)?;
            }
            edge::Layer::IntSum(edge::IntSum { multipliers, shift, clamp }) => {
                let step = 2f64.powi(-(*shift as i32));
                for (multiplier, scale) in multipliers.iter().zip(&scales) {
                    // The smaller one of two factors has fewer digits.
                    let factor = f64::from(*multiplier) * step;
                    if (factor - scale / output).abs() > step {
                        self.check_factor(factor, scale / output)?;
                    }
                }
                let clip = self.any_clip(*clamp, quantization(node.output))?;
                self.node(Add, &inputs, &[], clip)?;
            }
            edge::Layer::IntProduct(edge::IntProduct { requantize, clamp }) => {
                self.check_factor(requantize.to_real(), scales[0] * scales[1] / output)?;
                let clip = self.any_clip(*clamp, quantization(node.output))?;
                self.node(Multiply, &inputs, &[], clip)?;
            }
            edge::Layer::Reduce(reduce) => self.reduce(reduce, inputs[0])?,
            edge::Layer::IntReduce(edge::IntReduce { reduce, requantize }) => {
                let sizes = self.builder.shape(inputs[0]).sizes();
                let count: f64 =
                    reduce.axes.iter().map(|&axis| f64::from(sizes[axis as usize])).product();
                match reduce.function {
                    edge::ReduceFunction::Mean => {
                        self.check_factor(requantize.to_real(), scales[0] / (count * output))?;
                    }
                    edge::ReduceFunction::Sum => {
                        self.check_factor(requantize.to_real(), scales[0] / output)?;
                    }
                    edge::ReduceFunction::L2
                    | edge::ReduceFunction::Maximum
                    | edge::ReduceFunction::Minimum => {}
                }
                self.reduce(reduce, inputs[0])?;
            }
            edge::Layer::Map(edge::Map { function }) => {
                self.node(function_op(*function), &inputs, &[], None)?;
            }
            edge::Layer::Table(table) => {
                let (input, output) = (quantized(affines[0]), quantization(node.output));
                self.table(table, inputs[0], (input, output))?;
            }
            edge::Layer::MaxPool(edge::MaxPool { axes }) => {
                let (axes, kernel) = windows(axes);
                self.node(
                    MaxPool { kernel: kernel.into(), axes: axes.into() },
                    &inputs,
                    &[],
                    None,
                )?;
            }
            edge::Layer::AveragePool(edge::AveragePool { axes, counted }) => {
                let (axes, kernel) = windows(axes);
                let (kernel, axes) = (kernel.into(), axes.into());
                let counted = counted.clone().into();
                self.node(AveragePool { kernel, axes, counted }, &inputs, &[], None)?;
            }
            edge::Layer::IntAveragePool(edge::IntAveragePool { pool, factors }) => {
                for (count, factor) in factors {
                    let expected = scales[0] / (f64::from(*count) * output);
                    self.check_factor(factor.to_real(), expected)?;
                }
                let (axes, kernel) = windows(&pool.axes);
                let (kernel, axes) = (kernel.into(), axes.into());
                let counted = pool.counted.clone().into();
                self.node(AveragePool { kernel, axes, counted }, &inputs, &[], None)?;
            }
            edge::Layer::Concat(edge::Concat { axis }) => {
                self.node(Concat { axis: *axis }, &inputs, &[], None)?;
            }
            edge::Layer::Gather(edge::Gather { axis, indices }) => {
                let op = Gather { axis: *axis, indices: indices.clone() };
                self.node(op, &inputs, &[], None)?;
            }
            edge::Layer::Transpose(edge::Transpose { order }) => {
                self.node(Transpose { order: order.clone().into() }, &inputs, &[], None)?;
            }
            edge::Layer::Reshape(edge::Reshape { sizes }) => self.reshape(sizes, inputs[0])?,
            edge::Layer::Pad(edge::Pad { before, after, fill }) => {
                let value = match fill {
                    edge::Fill::Fp32(value) => *value,
                    edge::Fill::Byte(byte) => quantization(node.output).dequantize(*byte),
                };
                let (before, after) = (before.clone().into(), after.clone().into());
                self.node(Pad { before, after, value }, &inputs, &[], None)?;
            }
            edge::Layer::Resize(edge::Resize { axes }) => {
                let weights = |[a, b]: [f64; 2]| [a as f32, b as f32];
                self.resize(axes, inputs[0], &weights, 1.0)?;
            }
            edge::Layer::IntResize(edge::IntResize { axes }) => {
                let whole = edge::IntResize::WHOLE;
                let parts = |[share, _]: [f64; 2]| {
                    let first = ((share * f64::from(whole)).round() as u32).min(whole);
                    [first, whole - first]
                };
                self.resize(axes, inputs[0], &parts, whole)?;
            }
            edge::Layer::Leveled(leveled) => {
                return self.add(&edge::Node { layer: leveled.real(), ..node.clone() });
            }
            edge::Layer::Dequantize(_) | edge::Layer::Round(_) => self.values.push(inputs[0]),
            edge::Layer::Quantize(_) => {
                let edge::Quantization { scale, zero_point } = quantization(node.output);
                if affines[0].is_none_or(|affine| affine == Affine { scale, zero_point }) {
                    self.values.push(inputs[0]);
                } else {
                    // Real numbers that were bytes of another scale before.
                    self.node(SAME, &inputs, &[], None)?;
                }
            }
            edge::Layer::MatrixProduct(edge::MatrixProduct { transposed }) => {
                self.node(MatrixProduct { transposed: *transposed }, &inputs, &[], None)?;
            }
            edge::Layer::Select(_) => self.node(Select, &inputs, &[], None)?,
            edge::Layer::Softmax(edge::Softmax { axis, log }) => {
                self.node(Softmax { axis: *axis, log: *log }, &inputs, &[], None)?;
            }
            edge::Layer::Prelu(edge::Prelu { slope }) => {
                let shape = [slope.len() as u32];
                let slope = self.parameter("slope", &shape, Role::Slope, slope)?;
                self.node(Prelu, &inputs, &[slope], None)?;
            }
            edge::Layer::Constant(edge::Constant { sizes, numbers }) => {
                let numbers = match numbers {
                    edge::Numbers::Fp32(numbers) => numbers.clone(),
                    edge::Numbers::Bytes(bytes) => {
                        let quantization = quantization(node.output);
                        bytes.iter().map(|&byte| quantization.dequantize(byte)).collect()
                    }
                };
                let constant = self.parameter("constant", sizes, Role::Constant, &numbers)?;
                self.node(Constant, &[], &[constant], None)?;
            }
            edge::Layer::LayerNormalization(layer) => {
                let edge::LayerNormalization { axes, epsilon, scale, shift } = layer;
                let sizes = self.builder.shape(inputs[0]).sizes();
                let shape: Vec<u32> = axes.iter().map(|&axis| sizes[axis as usize]).collect();
                let scale = self.parameter("scale", &shape, Role::Scale, scale)?;
                let shift = self.parameter("shift", &shape, Role::Shift, shift)?;
                let op = LayerNormalization { axes: axes.clone().into(), epsilon: *epsilon };
                self.node(op, &inputs, &[scale, shift], None)?;
            }
        }
        if let edge::Element::Uint8(quantization) = node.output {
            let value = *self.values.last().expect("added above");
            self.quantize(value, quantization);
        }
        Ok(())
    }

    /// Declares a parameter of the next layer.
    fn parameter(
        &mut self,
        part: &str,
        shape: &[u32],
        role: Role,
        numbers: &[f32],
    ) -> Result<ParameterId, LiftError> {
        let name = format!("{}.{part}", self.name());
        let id = self.builder.parameter(name.clone(), shape, role)?;
        let shape = shape.iter().map(|&size| size as usize).collect();
        self.weights.arrays.insert(name, Array { shape, data: numbers.to_vec() });
        Ok(id)
    }

    /// The name of the layer that comes next.
    fn name(&self) -> String {
        format!("{}{}", self.prefix, self.values.len() - self.inputs)
    }

    fn inputs(&self, inputs: &[edge::ValueId]) -> Vec<ValueId> {
        inputs.iter().map(|input| self.values[input.0 as usize]).collect()
    }

    /// Notes how a value is held.
    fn quantize(
        &mut self,
        value: ValueId,
        edge::Quantization { scale, zero_point }: edge::Quantization,
    ) {
        self.affines.insert(value, Affine { scale, zero_point });
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
        let place = Place::default;
        let name = self.outputs.get(&self.values.len()).cloned().unwrap_or_else(|| self.name());
        let value = match clip {
            None => self.builder.node(name, op, inputs, parameters, place())?,
            Some(clip) => {
                let whole = format!("{name}{UNCLIPPED}");
                let value = self.builder.node(whole, op, inputs, parameters, place())?;
                self.builder.node(name, clip, &[value], &[], place())?
            }
        };
        self.values.push(value);
        Ok(())
    }
}

/// How the bytes that a layer reads are held.
fn quantized(affine: Option<Affine>) -> edge::Quantization {
    let Affine { scale, zero_point } = affine.expect("the model is valid");
    edge::Quantization { scale, zero_point }
}

#[cfg(test)]
mod tests;
