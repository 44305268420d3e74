//! The inverse of [`super::lower`]: makes a graph out of a model of the edge runtime, so that what
//! reads graphs can read a model file. It checks the model, but does not change or improve it.

use std::collections::BTreeMap;

use edgesmith_data::Normalization;
use edgesmith_edge_runtime as edge;
use edgesmith_graph::{
    Add, Affine, Array, AveragePool, Binary, BinaryFunction, Clip, Concat, Constant, Conv,
    ConvTranspose, Flatten, Function, Gather, GlobalAveragePool, Graph, GraphBuilder, GraphError,
    Groups, LayerNormalization, LeakyRelu, Linear, Map, MatrixProduct, MaxPool, Multiply, Op, Pad,
    ParameterId, Place, Prelu, Quantization, Reduce, ReduceFunction, Reshape, Role, Select, Shape,
    Softmax, Transpose, TransposedAxis, ValueId, Weights, WindowAxis,
};

use super::{InputForm, Interface, OutputForm, table};

/// Factor for the fraction bits of the sides of an addition in a file of version 1.
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
    /// A layer has no operation of a graph here.
    #[error("{node}, a {kind}, is not read as a graph")]
    Unsupported {
        /// The layer, such as `node3`.
        node: String,
        /// The kind of layer.
        kind: &'static str,
    },
    /// A sum or mean is multiplied by something else than its scales say, or a table has something
    /// else.
    #[error("{node} does not compute what its scales say")]
    Factor {
        /// The layer, such as `node3`.
        node: String,
    },
}

/// The graph of a model. Layer `i` computes the value `node{i}`, or what an output is called, from
/// the parameters `node{i}.weight` and `node{i}.bias`. A clamp of bytes becomes a clip to the numbers that these
/// bytes mean.
///
/// A model of the operations that spaces have is the same again when the result is lowered. Other
/// models may have sums with a clamp and linear layers that read maps, which become several layers,
/// and biases that no fp32 number means exactly, which become the nearest ones.
///
/// # Errors
/// If the engine does not accept the model, or the model computes something that the graph cannot
/// say.
pub fn lift(model: &edge::Model) -> Result<Lifted, LiftError> {
    model.validate()?;
    let mut lifting = Lifting::new(model)?;
    model.nodes.iter().try_for_each(|node| lifting.add(node))?;
    let Lifting { builder, weights, values, affines, scales, .. } = lifting;
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
    Ok(Lifted { graph, weights, quantization, interface })
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
    let output = |(output, &id): (&edge::Output, &ValueId)| {
        // The mean of each channel has fewer axes than in a file of version 1.
        let axes = graph.shape(id).sizes().len() as u32;
        let order = output.order.iter().copied().filter(|&axis| axis < axes).collect();
        OutputForm { name: output.name.clone(), order }
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
                outputs.entry(value.0 as usize).or_insert_with(|| name.clone());
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
        let name = self.name();
        let unsupported = || LiftError::Unsupported { node: name.clone(), kind: node.layer.name() };
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
            edge::Layer::FloatConv(edge::FloatConv { conv, activation }) => {
                let (op, weight_shape) = geometry(conv);
                let (weight, bias) = (conv.weight.clone(), conv.bias.clone());
                let layer = Layer { op, weight_shape, weight, bias, scales: None };
                self.layer(layer, inputs[0], float_clip(*activation))?;
            }
            edge::Layer::IntConv(layer) => {
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
            edge::Layer::FloatLinear(linear) => {
                let input = self.vector(inputs[0])?;
                let (weight, bias) = (linear.weight.clone(), linear.bias.clone());
                let weight_shape = vec![linear.out_features, linear.in_features];
                let op = Op::from(Linear);
                self.layer(Layer { op, weight_shape, weight, bias, scales: None }, input, None)?;
            }
            edge::Layer::IntLinear(edge::IntLinear { linear, logit_scale }) => {
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
            edge::Layer::Reduce(reduce) if self.is_global_mean(reduce, inputs[0]) => {
                self.node(GlobalAveragePool, &inputs, &[], None)?;
            }
            edge::Layer::Reduce(edge::Reduce { function, axes, keep: true }) => {
                let function = match function {
                    edge::ReduceFunction::L2 => ReduceFunction::L2,
                    edge::ReduceFunction::Maximum => ReduceFunction::Maximum,
                    edge::ReduceFunction::Mean => ReduceFunction::Mean,
                    edge::ReduceFunction::Minimum => ReduceFunction::Minimum,
                    edge::ReduceFunction::Sum => ReduceFunction::Sum,
                };
                let op = Reduce { function, axes: axes.clone().into() };
                self.node(op, &inputs, &[], None)?;
            }
            edge::Layer::IntReduce(edge::IntReduce { reduce, requantize }) => {
                if !self.is_global_mean(reduce, inputs[0]) {
                    return Err(unsupported());
                }
                let positions = self.builder.shape(inputs[0]).positions() as f64;
                self.check_factor(requantize.to_real(), scales[0] / (positions * output))?;
                self.node(GlobalAveragePool, &inputs, &[], None)?;
            }
            edge::Layer::Map(edge::Map { function }) => {
                self.node(function_op(*function), &inputs, &[], None)?;
            }
            edge::Layer::Table(edge::Table { function, tables }) => {
                // Without a function, bytes of another scale.
                let same = edge::Function::Scale { factor: 1.0, offset: 0.0 };
                let function = function.unwrap_or(same);
                let op = function_op(function);
                let Affine { scale, zero_point } = affines[0].ok_or_else(unsupported)?;
                let input = edge::Quantization { scale, zero_point };
                if *tables != table(input, quantization(node.output), |x| function.apply(x)) {
                    return Err(LiftError::Factor { node: self.name() });
                }
                self.node(op, &inputs, &[], None)?;
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
            edge::Layer::Reshape(edge::Reshape { sizes }) => match sizes[..] {
                [_] => self.node(Flatten, &inputs, &[], None)?,
                _ => self.node(Reshape { sizes: sizes.clone().into() }, &inputs, &[], None)?,
            },
            edge::Layer::Pad(edge::Pad { before, after, fill: edge::Fill::Fp32(value) }) => {
                let (before, after) = (before.clone().into(), after.clone().into());
                self.node(Pad { before, after, value: *value }, &inputs, &[], None)?;
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
                let edge::Numbers::Fp32(numbers) = numbers else { return Err(unsupported()) };
                let constant = self.parameter("constant", sizes, Role::Constant, numbers)?;
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
            edge::Layer::Reduce(_)
            | edge::Layer::Dequantize(_)
            | edge::Layer::IntAveragePool(_)
            | edge::Layer::IntConvTranspose(_)
            | edge::Layer::IntResize(_)
            | edge::Layer::Pad(_)
            | edge::Layer::Quantize(_)
            | edge::Layer::Resize(_) => return Err(unsupported()),
        }
        if let edge::Element::Uint8(quantization) = node.output {
            let value = *self.values.last().expect("added above");
            self.quantize(value, quantization);
        }
        Ok(())
    }

    /// Whether a reduction is the mean of each channel, as a vector.
    fn is_global_mean(&self, reduce: &edge::Reduce, input: ValueId) -> bool {
        let axes = 1 + self.builder.shape(input).space().len();
        *reduce == edge::Reduce::global_mean(axes, self.keeps_axes)
    }

    fn binary(&mut self, function: BinaryFunction, inputs: &[ValueId]) -> Result<(), LiftError> {
        self.node(Binary { function }, inputs, &[], None)
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

    /// The clip that the clamp of another layer means.
    fn any_clip(
        &self,
        clamp: (u8, u8),
        output: edge::Quantization,
    ) -> Result<Option<Clip>, LiftError> {
        match clamp {
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
    fn check_factor(&self, given: f64, expected: f64) -> Result<(), LiftError> {
        let expected = edge::Requantization::from_real(expected).to_real();
        let error = (given - expected).abs();
        if error <= expected * 2f64.powi(-16) + 2f64.powi(-31) {
            Ok(())
        } else {
            Err(LiftError::Factor { node: self.name() })
        }
    }

    fn int_conv(
        &self,
        layer: &edge::IntConv,
        [input, output]: [f64; 2],
    ) -> Result<Layer, LiftError> {
        let edge::IntConv { conv, requantize, .. } = layer;
        let units = requantize.iter().map(|&factor| Unit::of_factor(factor, output));
        let (op, weight_shape) = geometry(conv);
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

/// The clip that an activation is.
fn float_clip(activation: edge::Activation) -> Option<Clip> {
    match activation {
        edge::Activation::Linear => None,
        edge::Activation::Relu => Some(Clip::RELU),
        edge::Activation::Relu6 => Some(Clip::RELU6),
        edge::Activation::Clip { low, high } => Some(Clip { low, high }),
    }
}

/// The operation that computes a function.
fn function_op(function: edge::Function) -> Op {
    let map = |function| Op::from(Map { function });
    match function {
        edge::Function::Clip { low, high } => Clip { low, high }.into(),
        edge::Function::LeakyRelu { slope } => LeakyRelu { slope }.into(),
        edge::Function::Absolute => map(Function::Absolute),
        edge::Function::Elu { alpha } => map(Function::Elu { alpha }),
        edge::Function::Erf => map(Function::Erf),
        edge::Function::Exponential => map(Function::Exponential),
        edge::Function::Gelu => map(Function::Gelu),
        edge::Function::GeluTanh => map(Function::GeluTanh),
        edge::Function::HardSigmoid { slope, offset } => {
            map(Function::HardSigmoid { slope, offset })
        }
        edge::Function::HardSwish => map(Function::HardSwish),
        edge::Function::Logarithm => map(Function::Logarithm),
        edge::Function::Power { exponent } => map(Function::Power { exponent }),
        edge::Function::Scale { factor, offset } => map(Function::Scale { factor, offset }),
        edge::Function::Sigmoid => map(Function::Sigmoid),
        edge::Function::Silu => map(Function::Silu),
        edge::Function::Softplus => map(Function::Softplus),
        edge::Function::SquareRoot => map(Function::SquareRoot),
        edge::Function::Tanh => map(Function::Tanh),
    }
}

/// The quantization of a layer in integers.
fn quantization(element: edge::Element) -> edge::Quantization {
    match element {
        edge::Element::Uint8(quantization) => quantization,
        edge::Element::Fp32 => unreachable!("the model is valid"),
    }
}

/// How windows move, and their kernels.
fn windows(axes: &[edge::WindowAxis]) -> (Vec<WindowAxis>, Vec<u32>) {
    let window = |axis: &edge::WindowAxis| {
        let &edge::WindowAxis { stride, dilation, before, after, .. } = axis;
        WindowAxis { stride, dilation, before, after }
    };
    (axes.iter().map(window).collect(), axes.iter().map(|axis| axis.kernel).collect())
}

/// The operation, and the shape of its weight. A convolution of a vector is a linear layer.
fn geometry<W, B>(conv: &edge::Conv<W, B>) -> (Op, Vec<u32>) {
    let edge::Conv { in_channels, out_channels, groups, .. } = *conv;
    let (axes, kernel) = windows(&conv.axes);
    let op = if axes.is_empty() && groups == 1 {
        Op::from(Linear)
    } else {
        Op::from(Conv { axes: axes.into(), groups: Groups::of(groups, in_channels) })
    };
    let mut weight_shape = vec![out_channels, in_channels / groups];
    weight_shape.extend(kernel);
    (op, weight_shape)
}

/// The operation, and the shape of its weight.
fn transposed_geometry<W, B>(conv: &edge::ConvTranspose<W, B>) -> (Op, Vec<u32>) {
    let edge::ConvTranspose { in_channels, out_channels, groups, .. } = *conv;
    let axis = |axis: &edge::TransposedAxis| {
        let &edge::TransposedAxis { stride, dilation, before, after, extra, .. } = axis;
        TransposedAxis { stride, dilation, before, after, extra }
    };
    let axes = conv.axes.iter().map(axis).collect();
    let mut weight_shape = vec![out_channels, in_channels / groups];
    weight_shape.extend(conv.axes.iter().map(|axis| axis.kernel));
    (ConvTranspose { axes, groups: Groups::of(groups, in_channels) }.into(), weight_shape)
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
