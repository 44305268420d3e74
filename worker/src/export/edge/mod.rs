//! Lowers a graph to a model of the edge runtime, in fp32 or, where it is annotated, in integers.
//! One file per operation says what layer it becomes. It decides nothing about the network: folding
//! and quantization come before.
//!
//! In integers, values have the scales of the annotation, except that operations which only move
//! numbers hand on the scale of what they read. An operation that has no form in integers is
//! computed in fp32, between layers that convert. The same happens around what a partial annotation
//! leaves out.

mod coarse;
mod error;
mod interface;
mod lift;
mod unquantized;

use edgesmith_compress::Coarse;
use edgesmith_data::Normalization;
use edgesmith_edge_runtime as edge;
use edgesmith_graph::{
    self as graph, Affine, Clip, Graph, Node, NodeId, Op, Quantization, ValueId, Weights,
};

pub use coarse::lower_coarse;
pub use error::LowerError;
pub use interface::{InputForm, Interface, OutputForm};
pub use lift::{LiftError, Lifted, lift, lift_with_places};
pub use unquantized::{Unquantized, UnquantizedError, unquantized};

/// What an operation becomes in the engine.
trait Lower {
    /// The layer in fp32.
    fn float(&self, site: &Site<'_>) -> Result<edge::Layer, LowerError>;

    /// The layer in integers. The values that it reads are bytes.
    fn integer(&self, site: &Site<'_>) -> Result<Integer, LowerError>;

    /// Whether there are any networks in which it has a form in integers.
    fn has_integers(&self) -> bool {
        true
    }
}

/// What an operation becomes in integers.
enum Integer {
    /// A layer whose output has the scale of the annotation.
    Layer(edge::Layer),
    /// A layer that moves bytes, whose output has the scale of its input.
    Moves(edge::Layer),
    /// A layer that moves bytes whose scale is not that of the output, which they get first.
    Joins(edge::Layer),
    /// A layer that reads bytes and writes fp32.
    Real(edge::Layer),
    /// Nothing: it is computed in fp32.
    None,
}

/// Lists the operations. Each line is the name of the file and the operation.
macro_rules! layers {
    ($($file:ident: $operation:ident,)+) => {
        $(mod $file;)+

        fn float_layer(site: &Site<'_>) -> Result<edge::Layer, LowerError> {
            match &site.node.op {
                $(Op::$operation(op) => op.float(site),)+
            }
        }

        fn integer_layer(site: &Site<'_>) -> Result<Integer, LowerError> {
            match &site.node.op {
                $(Op::$operation(op) => op.integer(site),)+
            }
        }

        /// Whether the engine computes an operation in integers, where what it reads and writes has
        /// scales.
        pub fn has_integer_form(op: &Op) -> bool {
            match op {
                $(Op::$operation(op) => op.has_integers(),)+
            }
        }
    };
}

layers! {
    add: Add,
    average_pool: AveragePool,
    batch_normalization: BatchNormalization,
    binary: Binary,
    clip: Clip,
    concat: Concat,
    constant: Constant,
    conv: Conv,
    conv_transpose: ConvTranspose,
    flatten: Flatten,
    gather: Gather,
    global_average_pool: GlobalAveragePool,
    layer_normalization: LayerNormalization,
    leaky_relu: LeakyRelu,
    linear: Linear,
    map: Map,
    matrix_product: MatrixProduct,
    max_pool: MaxPool,
    multiply: Multiply,
    pad: Pad,
    prelu: Prelu,
    reduce: Reduce,
    reshape: Reshape,
    resize: Resize,
    select: Select,
    softmax: Softmax,
    transpose: Transpose,
}

/// The model of a network that reads one image and is folded already: in integers as `quantization`
/// annotates it, or in fp32.
///
/// # Errors
/// See [`lower_as`].
///
/// # Panics
/// If `weights` or `quantization` do not fit `graph`, or `normalization` has the wrong number of
/// channels.
pub fn lower(
    graph: &Graph,
    weights: &Weights,
    quantization: Option<&Quantization>,
    normalization: &Normalization,
) -> Result<edge::Model, LowerError> {
    input_spec(graph, normalization)?;
    lower_as(graph, weights, quantization, &Interface::of(graph, Some(normalization)))
}

/// The model of a network that is folded already: in integers as `quantization` annotates it, or in
/// fp32.
///
/// # Errors
/// If the engine does not run one of the operations, or a value is not quantized.
///
/// # Panics
/// If `weights` or `quantization` do not fit `graph`, or a normalisation has the wrong number of
/// channels.
pub fn lower_as(
    graph: &Graph,
    weights: &Weights,
    quantization: Option<&Quantization>,
    interface: &Interface,
) -> Result<edge::Model, LowerError> {
    let annotation = quantization.map(Annotation::Whole);
    Ok(lower_with(graph, weights, annotation, None, interface)?.model)
}

/// The model of a network that is folded already: in integers where `quantization` has the scales
/// of everything that an operation reads and writes, else in fp32.
///
/// # Errors
/// If the engine does not run one of the operations.
///
/// # Panics
/// See [`lower_as`].
pub fn lower_partly(
    graph: &Graph,
    weights: &Weights,
    quantization: &Quantization,
    interface: &Interface,
) -> Result<edge::Model, LowerError> {
    Ok(lower_integers(graph, weights, quantization, true, interface)?.model)
}

/// As [`lower_partly`] if it is `partly` annotated, else as [`lower_as`] with an annotation, and
/// how the model holds the values of the network.
///
/// # Errors
/// If the engine does not run one of the operations, or a value is not quantized that has to be.
///
/// # Panics
/// See [`lower_as`].
pub fn lower_integers(
    graph: &Graph,
    weights: &Weights,
    quantization: &Quantization,
    partly: bool,
    interface: &Interface,
) -> Result<Lowered, LowerError> {
    if partly {
        let quantization = quantization.with_clipped(graph);
        lower_with(graph, weights, Some(Annotation::Part(&quantization)), None, interface)
    } else {
        lower_with(graph, weights, Some(Annotation::Whole(quantization)), None, interface)
    }
}

/// A model, and how it holds the values of the network.
#[derive(Debug)]
pub struct Lowered {
    /// The model.
    pub model: edge::Model,
    /// Whether nodes compute in fp32, besides the last layer, which answers in real numbers.
    pub has_real_nodes: bool,
    /// By value of the graph. One that is computed along with a clip is not held.
    pub held: Vec<Held>,
}

/// How a model holds a value of the network. It is held twice where a layer in fp32 and one in
/// integers are next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// In four bytes for each number.
    pub fp32: bool,
    /// In a byte for each number.
    pub bytes: bool,
}

/// Scales of a network.
#[derive(Debug, Clone, Copy)]
enum Annotation<'a> {
    /// Every value has some; one without is a mistake.
    Whole(&'a Quantization),
    /// What has none stays real.
    Part(&'a Quantization),
}

impl<'a> Annotation<'a> {
    fn quantization(self) -> &'a Quantization {
        match self {
            Self::Whole(quantization) | Self::Part(quantization) => quantization,
        }
    }
}

fn lower_with(
    graph: &Graph,
    weights: &Weights,
    annotation: Option<Annotation<'_>>,
    coarse: Option<&Coarse>,
    interface: &Interface,
) -> Result<Lowered, LowerError> {
    let quantization = annotation.map(Annotation::quantization);
    let given = graph.inputs().len();
    if given != interface.inputs.len() {
        return Err(LowerError::Inputs { given, expected: interface.inputs.len() });
    }
    let mut lowering = Lowering {
        graph,
        annotation,
        coarse,
        inputs: Vec::with_capacity(given),
        nodes: Vec::new(),
        forms: vec![Forms::default(); graph.values().len()],
        has_real_nodes: false,
    };
    for (id, form) in graph.inputs().zip(&interface.inputs) {
        lowering.input(id, form)?;
    }
    graph.inputs().for_each(|id| lowering.round(id));
    for (id, clip) in layers(graph) {
        let node = graph.node(id);
        let (output, clip) = match clip {
            Some((last, clip)) => (graph.node(last).output, Some(clip)),
            None => (node.output, None),
        };
        let inputs = Vec::new();
        lowering.node(Site { graph, weights, quantization, node, clip, output, inputs })?;
    }
    let (given, expected) = (graph.outputs().len(), interface.outputs.len());
    if given != expected {
        return Err(LowerError::Outputs { given, expected });
    }
    let outputs = graph.outputs().iter().zip(&interface.outputs).map(|(id, form)| {
        let Forms { float, bytes } = lowering.forms[id.index()];
        let value = float.or(bytes.map(|(value, _)| value)).expect("every value is lowered");
        edge::Output { name: form.name.clone(), value, order: form.order.clone() }
    });
    let outputs = outputs.collect();
    let Lowering { inputs, nodes, forms, has_real_nodes, .. } = lowering;
    let (rounding, notes) = (edge::Rounding::Once, edge::Notes::default());
    let model = edge::Model { inputs, nodes, outputs, rounding, notes };
    let held = forms
        .iter()
        .map(|forms| Held { fp32: forms.float.is_some(), bytes: forms.bytes.is_some() });
    Ok(Lowered { model, has_real_nodes, held: held.collect() })
}

/// The nodes of a graph that become layers, in order, with the clip that becomes a part of each. In
/// fp32, each is one layer of the model.
pub(crate) fn layers(graph: &Graph) -> Vec<(NodeId, Option<(NodeId, Clip)>)> {
    let mut clips = graph.absorbed_clips();
    for (id, node) in graph.nodes() {
        // Not behind a batch normalisation, which is a layer of its own here.
        clips[id.index()].take_if(|(clip, _)| graph.node(*clip).inputs[0] != node.output);
    }
    let mut merged = vec![false; graph.nodes().len()];
    clips.iter().flatten().for_each(|(clip, _)| merged[clip.index()] = true);
    let all = graph.nodes().filter(|(id, _)| !merged[id.index()]);
    all.map(|(id, _)| (id, clips[id.index()])).collect()
}

/// Size and normalisation of the image, for the edge runtime.
///
/// # Errors
/// If the network does not read one picture.
///
/// # Panics
/// If `normalization` has the wrong number of channels.
pub fn input_spec(
    graph: &Graph,
    normalization: &Normalization,
) -> Result<edge::InputSpec, LowerError> {
    let given = graph.inputs().len();
    if given != 1 {
        return Err(LowerError::Inputs { given, expected: 1 });
    }
    let shape = graph.input();
    let [height, width] = *shape.space() else {
        return Err(LowerError::Image { shape: shape.to_string() });
    };
    let Normalization { mean, std } = normalization.clone();
    let channels = shape.channels() as usize;
    assert!(mean.len() == channels && std.len() == channels, "constants for every image channel");
    Ok(edge::InputSpec { channels: shape.channels(), height, width, mean, std })
}

/// The model so far.
struct Lowering<'a> {
    graph: &'a Graph,
    annotation: Option<Annotation<'a>>,
    coarse: Option<&'a Coarse>,
    inputs: Vec<edge::Input>,
    nodes: Vec<edge::Node>,
    /// By value of the graph.
    forms: Vec<Forms>,
    /// Whether a node is computed in fp32.
    has_real_nodes: bool,
}

/// The engine's values that hold a value of the graph.
#[derive(Debug, Clone, Copy, Default)]
struct Forms {
    float: Option<edge::ValueId>,
    bytes: Option<(edge::ValueId, edge::Quantization)>,
}

impl Lowering<'_> {
    fn input(&mut self, id: ValueId, form: &InputForm) -> Result<(), LowerError> {
        let graph_shape = self.graph.shape(id);
        let element = self.known(id)?.map_or(edge::Element::Fp32, edge::Element::Uint8);
        let array = match &form.normalization {
            None => edge::Array::Fp32,
            Some(Normalization { mean, std }) => {
                let channels = graph_shape.channels() as usize;
                assert!(mean.len() == channels && std.len() == channels, "one per channel");
                let (mean, std) = (mean.clone(), std.clone());
                edge::Array::Bytes(edge::Normalization::new(mean, std, element))
            }
        };
        let name = form.name.clone();
        let refused = |problem| edge::ModelError::Input { name: name.clone(), problem };
        let shape = edge::Shape::new(&graph_shape.sizes()).map_err(refused)?;
        let order = form.order.clone();
        let number = edge::ValueId(self.inputs.len() as u32);
        self.keep(id, number, element);
        self.inputs.push(edge::Input { name, shape, order, array, element });
        Ok(())
    }

    fn node(&mut self, mut site: Site<'_>) -> Result<(), LowerError> {
        let node = site.node;
        if self.annotation.is_some() {
            let layer = self.integer_layer(&mut site)?;
            if self.integer(&site, layer)? {
                return Ok(());
            }
        }
        self.has_real_nodes = true;
        let mut layer = float_layer(&site)?;
        if let Some(coarse) = self.coarse {
            layer = coarse::leveled(self.graph, node, coarse, layer);
        }
        let inputs = node.inputs.iter().map(|&input| self.float(input)).collect();
        self.push(site.output, inputs, layer, edge::Element::Fp32);
        self.round(site.output);
        Ok(())
    }

    /// Rounds a value in fp32, if it is to be.
    fn round(&mut self, id: ValueId) {
        if let Some(grid) = self.coarse.and_then(|coarse| coarse.value(id)) {
            let value = self.float(id);
            self.push(id, vec![value], coarse::round(grid), edge::Element::Fp32);
        }
    }

    /// What a node becomes in integers.
    fn integer_layer(&self, site: &mut Site<'_>) -> Result<Integer, LowerError> {
        // Bytes, where the value has them or can have them.
        for &input in &site.node.inputs {
            let held = self.forms[input.index()].bytes.map(|(_, quantization)| quantization);
            match held.map_or_else(|| self.known(input), |held| Ok(Some(held)))? {
                Some(quantization) => site.inputs.push(quantization),
                None => return Ok(Integer::None),
            }
        }
        let layer = match integer_layer(site) {
            Err(LowerError::NotQuantized { .. }) if self.is_partial() => Integer::None,
            // In fp32, signs would be the real numbers behind them: another network.
            Err(LowerError::Overflow { .. }) if self.is_partial() && !site.has_signs() => {
                Integer::None
            }
            other => other?,
        };
        let held = |input: ValueId| self.forms[input.index()].bytes.is_some();
        let left_out = self.is_partial() && self.known(site.output)?.is_none();
        Ok(match layer {
            Integer::Layer(_) | Integer::Joins(_) if left_out => Integer::None,
            // Bytes that are there are moved. There is no use in making them to move them.
            Integer::Moves(_) if left_out && !held(site.node.inputs[0]) => Integer::None,
            other => other,
        })
    }

    /// The quantization of a value; `None` if it stays real.
    fn known(&self, id: ValueId) -> Result<Option<edge::Quantization>, LowerError> {
        match self.annotation {
            None => Ok(None),
            Some(Annotation::Part(quantization)) => {
                Ok(quantization.value(id).map(engine_quantization))
            }
            Some(Annotation::Whole(quantization)) => {
                affine(self.graph, quantization, id).map(|affine| Some(engine_quantization(affine)))
            }
        }
    }

    fn is_partial(&self) -> bool {
        matches!(self.annotation, Some(Annotation::Part(_)))
    }

    /// Adds a layer in integers, if there is one.
    fn integer(&mut self, site: &Site<'_>, layer: Integer) -> Result<bool, LowerError> {
        let joins = matches!(layer, Integer::Joins(_));
        let (layer, element) = match layer {
            Integer::None => return Ok(false),
            Integer::Layer(layer) | Integer::Joins(layer) => {
                (layer, edge::Element::Uint8(site.output()?))
            }
            Integer::Moves(layer) => (layer, edge::Element::Uint8(site.inputs[0])),
            Integer::Real(layer) => (layer, edge::Element::Fp32),
        };
        let mut inputs = Vec::with_capacity(site.node.inputs.len());
        for &input in &site.node.inputs {
            let (mut value, from) = self.bytes(input)?;
            if let edge::Element::Uint8(to) = element
                && joins
                && from != to
            {
                let table = edge::Table { function: None, tables: table(from, to, |x| x) };
                value = self.add(vec![value], table.into(), element);
            }
            inputs.push(value);
        }
        self.push(site.output, inputs, layer, element);
        Ok(true)
    }

    /// A value in fp32, converted if need be.
    fn float(&mut self, id: ValueId) -> edge::ValueId {
        if let Some(value) = self.forms[id.index()].float {
            return value;
        }
        let (value, _) = self.forms[id.index()].bytes.expect("values are lowered in order");
        let real = self.add(vec![value], edge::Dequantize.into(), edge::Element::Fp32);
        self.forms[id.index()].float = Some(real);
        real
    }

    /// A value in bytes, converted if need be.
    fn bytes(&mut self, id: ValueId) -> Result<(edge::ValueId, edge::Quantization), LowerError> {
        if let Some(bytes) = self.forms[id.index()].bytes {
            return Ok(bytes);
        }
        let real = self.forms[id.index()].float.expect("values are lowered in order");
        let quantization = self.known(id)?.expect("only what has scales is read as bytes");
        let element = edge::Element::Uint8(quantization);
        let value = self.add(vec![real], edge::Quantize.into(), element);
        self.forms[id.index()].bytes = Some((value, quantization));
        Ok((value, quantization))
    }

    /// Adds the layer that computes a value of the graph.
    fn push(
        &mut self,
        id: ValueId,
        inputs: Vec<edge::ValueId>,
        layer: edge::Layer,
        element: edge::Element,
    ) {
        let value = self.add(inputs, layer, element);
        self.keep(id, value, element);
    }

    fn add(
        &mut self,
        inputs: Vec<edge::ValueId>,
        layer: edge::Layer,
        output: edge::Element,
    ) -> edge::ValueId {
        self.nodes.push(edge::Node { inputs, layer, output });
        edge::ValueId((self.inputs.len() + self.nodes.len()) as u32 - 1)
    }

    fn keep(&mut self, id: ValueId, value: edge::ValueId, element: edge::Element) {
        let forms = &mut self.forms[id.index()];
        match element {
            edge::Element::Fp32 => forms.float = Some(value),
            edge::Element::Uint8(quantization) => forms.bytes = Some((value, quantization)),
        }
    }
}

/// A node that becomes a layer, with the clip after it if that becomes a part of the layer.
struct Site<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    quantization: Option<&'a Quantization>,
    node: &'a Node,
    clip: Option<Clip>,
    /// What the layer computes: the node's output, or the clip's.
    output: ValueId,
    /// In integers, what each input is held in.
    inputs: Vec<edge::Quantization>,
}

impl<'a> Site<'a> {
    /// The shape of the first input.
    fn input_shape(&self) -> &'a graph::Shape {
        self.graph.shape(self.node.inputs[0])
    }

    /// Numbers of a parameter.
    fn parameter(&self, slot: usize) -> &'a [f32] {
        &self.weights.of(self.graph, self.node.parameters[slot]).data
    }

    /// Numbers of the weight.
    fn weight(&self) -> &'a [f32] {
        self.parameter(0)
    }

    /// The bias, one per output channel.
    fn bias(&self) -> Vec<f32> {
        match self.node.parameters.get(1) {
            Some(&bias) => self.weights.of(self.graph, bias).data.clone(),
            None => vec![0.0; self.graph.shape(self.output).channels() as usize],
        }
    }

    /// The activation that the clip after the node is.
    fn activation(&self) -> edge::Activation {
        match self.clip {
            None => edge::Activation::Linear,
            Some(Clip::RELU) => edge::Activation::Relu,
            Some(Clip::RELU6) => edge::Activation::Relu6,
            Some(Clip { low, high }) => edge::Activation::Clip { low, high },
        }
    }

    /// Whether the weight is the signs of its numbers, in integers.
    fn has_signs(&self) -> bool {
        let weight = self.node.parameters.first();
        self.quantization.zip(weight).is_some_and(|(q, &weight)| q.is_signs(weight))
    }

    /// The weight and the bias in integers, the bias at scale `input scale * weight scale`.
    fn integers(&self) -> Result<Integers, LowerError> {
        let (quantization, id) = (self.quantization, self.node.parameters[0]);
        let quantization = quantization.ok_or_else(|| self.unquantized())?;
        let scales = quantization.parameter(id).ok_or_else(|| self.unquantized())?.to_vec();
        let (weight, input) = (self.weight(), self.input_scale(0));
        let per_filter = weight.len() / scales.len();
        let filters = weight.chunks_exact(per_filter).zip(&scales);
        let level = |w: f32, scale: f64| quantization.level(id, w, scale);
        let weight: Vec<i8> = filters
            .flat_map(|(filter, &scale)| filter.iter().map(move |&w| level(w, scale)))
            .collect();
        let bias = self.bias().into_iter().zip(&scales);
        let bias: Vec<i32> =
            bias.map(|(b, scale)| (f64::from(b) / (input * scale)).round() as i32).collect();
        let fits = |(filter, bias): (&[i8], &i32)| {
            let weights: i64 = filter.iter().map(|&w| i64::from(w.unsigned_abs())).sum();
            weights * 255 + i64::from(bias.unsigned_abs()) <= i64::from(i32::MAX)
        };
        if !weight.chunks_exact(per_filter).zip(&bias).all(fits) {
            return Err(LowerError::Overflow { value: self.name() });
        }
        Ok(Integers { weight, bias, scales })
    }

    /// Refuses a sum of so many bytes that it could leave 32 bits.
    fn check_sum(&self, mut counts: impl Iterator<Item = u32>) -> Result<(), LowerError> {
        let most = counts.try_fold(255, |most: u64, count| most.checked_mul(count.into()));
        if most.is_none_or(|most| most > i32::MAX as u64) {
            return Err(LowerError::Overflow { value: self.name() });
        }
        Ok(())
    }

    /// The quantization of a value in the annotation.
    fn affine(&self, value: ValueId) -> Result<Affine, LowerError> {
        let quantization = self.quantization.ok_or_else(|| self.unquantized())?;
        affine(self.graph, quantization, value)
    }

    /// The scale of an input in integers.
    fn input_scale(&self, input: usize) -> f64 {
        f64::from(self.inputs[input].scale)
    }

    /// What the output is held in, in integers.
    fn output(&self) -> Result<edge::Quantization, LowerError> {
        Ok(engine_quantization(self.affine(self.output)?))
    }

    /// The scale of the output in integers.
    fn output_scale(&self) -> Result<f64, LowerError> {
        Ok(f64::from(self.output()?.scale))
    }

    /// Lowest and highest output byte, with the clip.
    fn clamp(&self) -> Result<(u8, u8), LowerError> {
        let output = self.output()?;
        Ok(match self.clip {
            Some(Clip { low, high }) => (output.quantize(low), output.quantize(high)),
            None => (u8::MIN, u8::MAX),
        })
    }

    /// A function of each byte of the input.
    fn table(&self, function: edge::Function) -> Result<Integer, LowerError> {
        let tables = table(self.inputs[0], self.output()?, |x| function.apply(x));
        Ok(Integer::Layer(edge::Table { function: Some(function), tables }.into()))
    }

    fn unquantized(&self) -> LowerError {
        LowerError::NotQuantized { value: self.name() }
    }

    fn name(&self) -> String {
        self.graph.value(self.node.output).name.to_string()
    }
}

/// The weight and the bias of a layer in integers.
struct Integers {
    weight: Vec<i8>,
    bias: Vec<i32>,
    /// Of the weight, one per output channel.
    scales: Vec<f64>,
}

impl Integers {
    /// The factors that make bytes of accumulators: one per output channel, or one for all.
    fn requantize(&self, site: &Site<'_>) -> Result<Vec<edge::Requantization>, LowerError> {
        let (input, output) = (site.input_scale(0), site.output_scale()?);
        let factors = self.scales.iter().map(|scale| input * scale / output);
        let factors = factors.map(edge::Requantization::from_real).collect();
        Ok(one_if_equal(factors, |factor| (factor.multiplier, factor.shift)))
    }
}

/// The numbers of all channels as the file has them: once, if all have the same bits.
fn one_if_equal<T, B: PartialEq>(mut numbers: Vec<T>, bits: impl Fn(&T) -> B) -> Vec<T> {
    if numbers.windows(2).all(|pair| bits(&pair[0]) == bits(&pair[1])) {
        numbers.truncate(1);
    }
    numbers
}

/// The output byte for each input byte.
fn table(
    input: edge::Quantization,
    output: edge::Quantization,
    function: impl Fn(f32) -> f32,
) -> Vec<u8> {
    (0..=u8::MAX).map(|byte| output.quantize(function(input.dequantize(byte)))).collect()
}

fn affine(graph: &Graph, quantization: &Quantization, id: ValueId) -> Result<Affine, LowerError> {
    let value = || graph.value(id).name.to_string();
    quantization.value(id).ok_or_else(|| LowerError::NotQuantized { value: value() })
}

fn engine_quantization(Affine { scale, zero_point }: Affine) -> edge::Quantization {
    edge::Quantization { scale, zero_point }
}

#[cfg(test)]
mod tests;
