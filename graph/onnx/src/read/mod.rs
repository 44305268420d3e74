//! Reads ONNX files (opset 7 to 23): a graph with its weights, and how the tensors of the file lie
//! in the graph's values.
//!
//! `model` takes the file apart. `import` walks over its nodes: what is known is folded (`fold`),
//! and for the rest one file per family in `ops` adds the graph's operations (`network`). Tensors
//! are views (`view`), so that most of what only moves numbers adds nothing; `arrange` moves values
//! where an operation needs that. `passes` then recognise what exporters write in parts.

mod arrange;
mod call;
mod constant;
mod error;
mod fold;
mod import;
mod inputs;
mod model;
mod network;
mod numbers;
mod ops;
mod order;
mod passes;
mod view;
mod wire;

use std::collections::BTreeMap;

use edgesmith_graph::{Affine, Graph, Quantization, ValueId, Weights};

pub use self::error::{Malformed, ReadError, ReadErrors};
pub use self::numbers::External;
pub use crate::port::{Port, PortAxis};

use self::call::Tensor;
use self::error::Fault;
use self::import::Import;
use self::model::Model;
use self::numbers::Beside;
use self::view::{Element, View};

/// Axes that a tensor may have.
const MAX_RANK: usize = 32;

/// The newest version of ONNX's operators that is read.
const NEWEST: i64 = 23;

/// What the reader is told beside the file.
#[derive(Default)]
pub struct ReadOptions<'a> {
    /// Shapes of inputs, by name, with the batch first. They are needed where the file leaves sizes
    /// open; the size of the batch may stay open in the graph all the same.
    pub input_shapes: BTreeMap<String, Vec<u32>>,
    /// Gives the bytes of files that hold tensors, by their path relative to the network's folder.
    pub external: Option<&'a External<'a>>,
    /// Which axis the examples are along.
    pub batch: BatchAxis,
}

/// Which axis of the inputs the examples are along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchAxis {
    /// The first one of each input; none if the network mixes it with other axes and all sizes are
    /// known.
    #[default]
    First,
    /// None: the whole input is one example.
    None,
}

/// A network that was read.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Its operations.
    pub graph: Graph,
    /// Its numbers.
    pub weights: Weights,
    /// By input of the graph.
    pub inputs: Vec<Port>,
    /// By output of the graph.
    pub outputs: Vec<Port>,
    /// The scales of values and weights, if the network was quantized.
    pub quantization: Option<Quantization>,
    /// What the file says of itself.
    pub about: About,
}

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// The version of ONNX's operators.
    pub opset: i64,
    /// The version of the format.
    pub ir_version: i64,
    /// The program that wrote it.
    pub producer: String,
    /// And its version.
    pub producer_version: String,
    /// Keys and values.
    pub metadata: Vec<(String, String)>,
}

/// Reads a network. It opens no files and computes in memory in proportion to the file.
///
/// # Errors
/// Everything that keeps the network from being read; see [`ReadError`].
pub fn read(bytes: &[u8], options: &ReadOptions<'_>) -> Result<Imported, ReadErrors> {
    let model = Model::decode(bytes)?;
    let opset = opset(&model)?;
    if let Some(name) = model.graph.sparse {
        let problem = "it is sparse; export the network with dense numbers".to_owned();
        return Err(ReadError::Tensor { tensor: name.to_owned(), problem }.into());
    }
    if model.graph.outputs.is_empty() {
        return Err(Malformed::NoGraph.into());
    }
    let shapes = inputs::shapes(&model, options)?;
    let beside = Beside::new(options.external);
    let attempt = |batch: bool| {
        let attempt = Attempt {
            model: &model,
            bytes: bytes.len(),
            opset,
            beside: &beside,
            shapes: &shapes,
            batch,
        };
        attempt.best()
    };
    if options.batch == BatchAxis::None {
        return attempt(false);
    }
    attempt(true).or_else(|errors| {
        let mixed = |errors: &ReadErrors| {
            errors.problems.iter().any(|problem| matches!(problem, ReadError::Batch { .. }))
        };
        let fixed = shapes.iter().all(|shape| shape.batch_is_known());
        if !mixed(&errors) || !fixed {
            return Err(errors);
        }
        attempt(false).map_err(|without| if mixed(&without) { errors } else { without })
    })
}

/// The version of ONNX's own operators.
fn opset(model: &Model<'_>) -> Result<i64, Malformed> {
    let own = model.opsets.iter().filter(|(domain, _)| matches!(*domain, "" | "ai.onnx"));
    let version = own.map(|(_, version)| *version).max().unwrap_or(0);
    if (7..=NEWEST).contains(&version) {
        Ok(version)
    } else {
        Err(Malformed::Opset { version, newest: NEWEST })
    }
}

/// One way to read a file.
struct Attempt<'m> {
    model: &'m Model<'m>,
    /// The size of the file.
    bytes: usize,
    opset: i64,
    beside: &'m Beside<'m>,
    shapes: &'m [inputs::InputShape<'m>],
    /// Whether the first axes are the batch.
    batch: bool,
}

impl Attempt<'_> {
    /// With the axes of the inputs in the order in which the network needs them.
    fn best(&self) -> Result<Imported, ReadErrors> {
        let plain = self.run(&[])?;
        let Some(orders) = inputs::better_orders(&plain.graph, &plain.inputs) else {
            return Ok(plain);
        };
        let moves = |imported: &Imported| passes::moves(&imported.graph);
        match self.run(&orders) {
            Ok(turned) if moves(&turned) < moves(&plain) => Ok(turned),
            _ => Ok(plain),
        }
    }

    fn run(&self, orders: &[Option<Vec<usize>>]) -> Result<Imported, ReadErrors> {
        let graph = &self.model.graph;
        let batch = if self.batch { inputs::batch(self.shapes)? } else { None };
        let mut import = Import::new(self.model, self.opset, self.beside, batch, self.bytes);
        let mut views = vec![];
        for (place, shape) in self.shapes.iter().enumerate() {
            let order = orders.get(place).and_then(|order| order.as_deref());
            let view = shape.declare(&mut import.network, self.batch, order);
            views.push((shape.name, view.map_err(|fault| fault.of(shape.name, "Input"))?));
        }
        let results = import.graph(graph, &views)?;
        if !import.problems.is_empty() {
            return Err(ReadErrors { problems: import.problems });
        }
        let mut network = import.network;
        let names = graph.outputs.iter().map(|output| output.name);
        let (mut outputs, mut ids): (Vec<Port>, Vec<ValueId>) = (vec![], vec![]);
        for (name, tensor) in names.zip(results) {
            network.current = name.to_owned();
            let view = output(&tensor, &mut network).map_err(|fault| fault.of(name, "Output"))?;
            ids.push(view.id);
            outputs.push(port(name, &view, batch));
        }
        let inputs = views.iter().map(|(name, view)| port(name, view, batch)).collect();
        let graph = network.builder.finish(&ids).map_err(ReadError::from)?;
        let (graph, mut weights) = passes::all(graph, network.weights);
        weights.arrays.retain(|name, _| graph.parameter_named(name).is_some());
        weights.check(&graph).map_err(|error| Fault::invalid(error.to_string()).of("", "Graph"))?;
        let quantization = quantization(&graph, &network.value_scales, &network.parameter_scales);
        Ok(Imported { graph, weights, inputs, outputs, quantization, about: self.about() })
    }

    fn about(&self) -> About {
        let Model { ir_version, producer, producer_version, metadata, .. } = self.model;
        About {
            opset: self.opset,
            ir_version: *ir_version,
            producer: (*producer).to_owned(),
            producer_version: (*producer_version).to_owned(),
            metadata: metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }
}

/// A tensor at the network's end, each axis of which is one of its value.
fn output(tensor: &Tensor, network: &mut network::Network) -> Result<View, Fault> {
    let view = tensor.to_view(network)?;
    if view.element == Element::Quantized {
        return Err(Fault::unsupported(
            "it is an output of integers that stand for real numbers",
            "export the network with a DequantizeLinear at its end",
        ));
    }
    let view = network.tidy(&view)?;
    let mixed =
        (0..view.rank()).any(|axis| view.axes[axis].batch.is_some() && !view.wide(axis).is_empty());
    if mixed {
        return Err(Fault::batch("it is an output with one axis for examples and something else"));
    }
    Ok(view)
}

fn port(name: &str, view: &View, batch: Option<u32>) -> Port {
    let layout = view.layout().expect("it is tidy");
    let axis = |axis: usize| match layout.iter().position(|&of| of == Some(axis)) {
        _ if view.axes[axis].batch.is_some() => PortAxis::Batch(batch),
        Some(of) => PortAxis::Of(of as u32),
        None => PortAxis::One,
    };
    Port { name: name.to_owned(), axes: (0..view.rank()).map(axis).collect() }
}

fn quantization(
    graph: &Graph,
    values: &BTreeMap<String, Option<(f32, u8)>>,
    parameters: &BTreeMap<String, Vec<f64>>,
) -> Option<Quantization> {
    let mut quantization = Quantization::none(graph);
    let mut any = false;
    for (id, value) in graph.values() {
        if let Some(&Some((scale, zero_point))) = values.get(&*value.name) {
            quantization.set_value(id, Affine { scale, zero_point });
            any = true;
        }
    }
    for (id, parameter) in graph.parameters() {
        if let Some(scales) = parameters.get(&*parameter.name)
            && scales.len() == parameter.shape[0] as usize
            && scales.iter().all(|&scale| scale > 0.0 && scale.is_finite())
        {
            quantization.set_parameter(id, scales.clone());
            any = true;
        }
    }
    any.then_some(quantization)
}
