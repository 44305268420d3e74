//! Lowers a graph to a model of the edge runtime, in fp32 or, where it is annotated, in integers.
//! One file per operation that the engine runs says what layer it becomes. It decides nothing about
//! the network: folding and quantization come before.

mod error;
mod lift;

use edgesmith_data::Normalization;
use edgesmith_edge_runtime as edge;
use edgesmith_graph::{
    self as graph, Affine, Clip, Graph, Node, Op, Operation as _, Quantization, ValueId, Weights,
};

pub use error::LowerError;
pub use lift::{LiftError, Lifted, lift};

/// What an operation becomes in the engine.
trait Lower {
    /// The layer in fp32.
    fn float(&self, site: &Site<'_>) -> Result<edge::FloatLayer, LowerError>;

    /// The layer in integers. The values that it reads and writes are quantized, and its weight is.
    fn integer(&self, site: &Site<'_>) -> Result<edge::IntLayer, LowerError>;
}

/// Lists what the engine runs, and what it does not run. Each line is the name of the file and the
/// operation.
macro_rules! layers {
    (runs { $($file:ident: $operation:ident,)+ } does_not_run { $($other:ident,)+ }) => {
        $(mod $file;)+

        fn float_layer(site: &Site<'_>) -> Result<edge::FloatLayer, LowerError> {
            match &site.node.op {
                $(Op::$operation(op) => op.float(site),)+
                $(Op::$other(_))|+ => Err(site.unsupported("")),
            }
        }

        fn integer_layer(site: &Site<'_>) -> Result<edge::IntLayer, LowerError> {
            match &site.node.op {
                $(Op::$operation(op) => op.integer(site),)+
                $(Op::$other(_))|+ => Err(site.unsupported("")),
            }
        }
    };
}

layers! {
    runs {
        add: Add,
        conv: Conv,
        global_average_pool: GlobalAveragePool,
        leaky_relu: LeakyRelu,
        linear: Linear,
    }
    does_not_run {
        AveragePool,
        BatchNormalization,
        // One right after a convolution is part of it.
        Clip,
        Concat,
        ConvTranspose,
        Flatten,
        Gather,
        HardSwish,
        MatrixProduct,
        MaxPool,
        Multiply,
        Pad,
        Reshape,
        Resize,
        Sigmoid,
        Transpose,
    }
}

/// The model of a network that is folded already: in integers as `quantization` annotates it, or
/// in fp32.
///
/// # Errors
/// If the engine does not run one of the operations, or a value is not quantized.
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
    let sites = sites(graph, weights, quantization)?;
    let input = input_spec(graph, normalization)?;
    let network = match quantization {
        None => {
            let nodes = sites.iter().map(|site| {
                Ok(edge::FloatNode { inputs: site.inputs.clone(), layer: float_layer(site)? })
            });
            edge::Network::Fp32(nodes.collect::<Result<_, _>>()?)
        }
        Some(quantization) => {
            let image = graph.inputs().next().ok_or(LowerError::Inputs { given: 0 })?;
            let image = engine_quantization(affine(graph, quantization, image)?);
            let nodes = sites.iter().map(|site| {
                let output = engine_quantization(site.affine(site.output)?);
                let layer = integer_layer(site)?;
                Ok(edge::IntNode { inputs: site.inputs.clone(), layer, output })
            });
            edge::Network::Int8 { input: image, nodes: nodes.collect::<Result<_, _>>()? }
        }
    };
    Ok(edge::Model { input, network })
}

/// Size and normalisation of the image, for the edge runtime.
///
/// # Errors
/// If the network does not read a picture.
///
/// # Panics
/// If `normalization` has the wrong number of channels.
pub fn input_spec(
    graph: &Graph,
    normalization: &Normalization,
) -> Result<edge::InputSpec, LowerError> {
    let shape = graph.input();
    let [height, width] = *shape.space() else {
        return Err(LowerError::Image { shape: shape.to_string() });
    };
    let Normalization { mean, std } = normalization.clone();
    let channels = shape.channels() as usize;
    assert!(mean.len() == channels && std.len() == channels, "constants for every image channel");
    Ok(edge::InputSpec { channels: shape.channels(), height, width, mean, std })
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
    /// What it reads, in the engine's numbers: value 0 is the image, layer `i` computes value
    /// `i + 1`.
    inputs: Vec<edge::ValueId>,
}

/// The layers of a network, in order.
fn sites<'a>(
    graph: &'a Graph,
    weights: &'a Weights,
    quantization: Option<&'a Quantization>,
) -> Result<Vec<Site<'a>>, LowerError> {
    let given = graph.inputs().len();
    if given != 1 {
        return Err(LowerError::Inputs { given });
    }
    let clips = graph.absorbed_clips();
    let merged = |id| clips.iter().flatten().any(|(clip, _)| *clip == id);
    let mut numbers = vec![edge::ValueId(0); graph.values().len()];
    let mut sites = Vec::with_capacity(graph.nodes().len());
    for (id, node) in graph.nodes().filter(|(id, _)| !merged(*id)) {
        let (output, clip) = match clips[id.index()] {
            Some((last, clip)) => (graph.node(last).output, Some(clip)),
            None => (node.output, None),
        };
        let inputs = node.inputs.iter().map(|input| numbers[input.index()]).collect();
        sites.push(Site { graph, weights, quantization, node, clip, output, inputs });
        numbers[output.index()] = edge::ValueId(sites.len() as u32);
    }
    let last = sites.last().map(|site| site.output);
    if graph.outputs().len() == 1 && last == Some(graph.outputs()[0]) {
        Ok(sites)
    } else {
        Err(LowerError::Outputs)
    }
}

impl<'a> Site<'a> {
    /// The shape of the first input.
    fn input_shape(&self) -> &'a graph::Shape {
        self.graph.shape(self.node.inputs[0])
    }

    /// Numbers of the weight.
    fn weight(&self) -> &'a [f32] {
        &self.weights.of(self.graph, self.node.parameters[0]).data
    }

    /// The bias, one per output channel.
    fn bias(&self) -> Vec<f32> {
        match self.node.parameters.get(1) {
            Some(&bias) => self.weights.of(self.graph, bias).data.clone(),
            None => vec![0.0; self.graph.shape(self.output).channels() as usize],
        }
    }

    /// The weight and the bias in integers, the bias at scale `input scale * weight scale`.
    fn integers(&self) -> Result<Integers, LowerError> {
        let scales = self.quantization.and_then(|q| q.parameter(self.node.parameters[0]));
        let scales = scales.ok_or_else(|| self.unquantized())?.to_vec();
        let (weight, input) = (self.weight(), self.scale(self.node.inputs[0])?);
        let filters = weight.chunks_exact(weight.len() / scales.len()).zip(&scales);
        let weight = filters
            .flat_map(|(filter, scale)| {
                filter.iter().map(move |&w| (f64::from(w) / scale).round() as i8)
            })
            .collect();
        let bias = self.bias().into_iter().zip(&scales);
        let bias = bias.map(|(b, scale)| (f64::from(b) / (input * scale)).round() as i32).collect();
        Ok(Integers { weight, bias, scales })
    }

    /// The quantization of a value.
    fn affine(&self, value: ValueId) -> Result<Affine, LowerError> {
        let quantization = self.quantization.ok_or_else(|| self.unquantized())?;
        affine(self.graph, quantization, value)
    }

    /// The scale of a value.
    fn scale(&self, value: ValueId) -> Result<f64, LowerError> {
        Ok(f64::from(self.affine(value)?.scale))
    }

    /// Lowest and highest output byte, with the clip.
    fn clamp(&self) -> Result<(u8, u8), LowerError> {
        let output = engine_quantization(self.affine(self.output)?);
        Ok(match self.clip {
            Some(Clip { low, high }) => (output.quantize(low), output.quantize(high)),
            None => (u8::MIN, u8::MAX),
        })
    }

    fn unsupported(&self, with: &'static str) -> LowerError {
        LowerError::Unsupported { node: self.name(), kind: self.node.op.kind(), with }
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

fn affine(graph: &Graph, quantization: &Quantization, id: ValueId) -> Result<Affine, LowerError> {
    let value = || graph.value(id).name.to_string();
    quantization.value(id).ok_or_else(|| LowerError::NotQuantized { value: value() })
}

fn engine_quantization(Affine { scale, zero_point }: Affine) -> edge::Quantization {
    edge::Quantization { scale, zero_point }
}

#[cfg(test)]
mod tests;
