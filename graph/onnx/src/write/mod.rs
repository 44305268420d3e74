//! Writes ONNX files (opset 17, or 13 where that has all operators) of networks, folded or not. A
//! quantized network
//! becomes the same operators with QuantizeLinear and DequantizeLinear nodes (QDQ) around them,
//! which ONNX Runtime fuses into integer kernels. One file in `ops/` per operation says what
//! becomes of it.

mod border;
mod file;
mod ops;
mod site;

use edgesmith_graph::{Graph, Quantization, Shape, Weights};
use prost::Message;

use self::file::{File, Name};
use self::site::{Network, Site, to_bytes_and_back};
use crate::port::Port;
use crate::proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto};

/// Which versions of ONNX a file is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Of the operators.
    pub opset: i64,
    /// Of the format.
    pub ir: i64,
}

/// The versions of files that need nothing newer.
pub const OLDER: Versions = Versions { opset: 13, ir: 7 };
/// The versions of all others.
pub const NEWER: Versions = Versions { opset: 17, ir: 8 };

/// An input of a file, in fp32.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its name in the file, and its axes. Those of the value that it leaves out have size 1.
    pub port: Port,
    /// What it is, for the reader of the file.
    pub doc: String,
    /// The network reads `(number - mean) / std` of each channel, and the file computes that;
    /// `None` if the network reads the numbers as they are.
    pub scales: Option<Scales>,
}

/// How numbers are normalised, per channel.
#[derive(Debug, Clone)]
pub struct Scales {
    /// What is subtracted.
    pub mean: Vec<f32>,
    /// What the difference is divided by.
    pub std: Vec<f32>,
}

/// An output of a file, in fp32.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its name in the file, and its axes. Those of the value that it leaves out have size 1.
    pub port: Port,
    /// What it is, for the reader of the file.
    pub doc: String,
    /// Whether its numbers are those that the bytes of its value mean, if that is annotated.
    pub bytes: bool,
}

/// The bytes of an ONNX file that computes the same as `graph`: in fp32 up to the order of sums, in
/// int8 up to one level of rounding for each quantized value. Tensors have the names of the graph's
/// values, except inputs and outputs. Outputs stay real, even if they are annotated, unless
/// [`Output::bytes`] says otherwise. `metadata` is stored in the file.
///
/// # Panics
/// If `inputs` and `outputs` are not as many as the graph's or two have the same name, or their
/// axes, `weights`, `quantization` or the scales of an input do not fit the graph.
pub fn write(
    graph: &Graph,
    weights: &Weights,
    quantization: Option<&Quantization>,
    inputs: &[Input],
    outputs: &[Output],
    metadata: &[(&str, String)],
) -> Vec<u8> {
    assert_eq!(inputs.len(), graph.inputs().len(), "all inputs of the graph");
    assert_eq!(outputs.len(), graph.outputs().len(), "all outputs of the graph");
    let mut used: Vec<bool> = graph.readers().iter().map(|readers| !readers.is_empty()).collect();
    for (id, _) in graph.outputs().iter().zip(outputs).filter(|(_, output)| output.bytes) {
        used[id.index()] = true;
    }
    let network = Network { graph, weights, quantization, read: &used };
    let mut file = File::default();
    let ports = inputs.iter().map(|i| &i.port).chain(outputs.iter().map(|o| &o.port));
    for Port { name, .. } in ports {
        assert_eq!(file.claim(name), *name, "inputs and outputs of different names");
    }
    // Values come first: their names are taken before those of nodes that are added.
    let mut names: Vec<Name> = Vec::with_capacity(graph.values().len());
    for (id, value) in graph.values() {
        let output = graph.outputs().iter().position(|&output| output == id);
        let output = output.map(|place| &outputs[place]);
        // What bytes mean gets the name of the output, and not what they are made of.
        let output = output.filter(|output| !output.bytes || network.affine(id).is_none());
        names.push(match (inputs.get(id.index()), output) {
            (Some(input), _) => input.port.name.clone(),
            (None, Some(Output { port, .. })) if border::is_plain(port, graph.shape(id)) => {
                port.name.clone()
            }
            (None, _) => file.claim(&value.name),
        });
    }
    // By value, the tensor that its readers read, and the real numbers that this is made of.
    let mut read = Vec::with_capacity(names.len());
    let mut real = Vec::with_capacity(names.len());
    let mut batch = None;
    for (id, Input { port, scales, .. }) in graph.inputs().zip(inputs) {
        let mut tensor = border::inside(&mut file, port, graph.shape(id));
        batch.get_or_insert_with(|| tensor.clone());
        if let Some(scales) = scales {
            tensor = normalize(&mut file, (&port.name, &tensor), scales, graph.shape(id));
        }
        real.push(tensor.clone());
        read.push(match network.affine(id) {
            Some(affine) => to_bytes_and_back(&mut file, &port.name, &tensor, affine),
            None => tensor,
        });
    }
    for (_, node) in graph.nodes() {
        let tensors = node.inputs.iter().map(|input| read[input.index()].clone()).collect();
        let batch = batch.clone();
        let output = names[node.output.index()].clone();
        let mut site = Site { file: &mut file, network, node, inputs: tensors, batch, output };
        let tensor = ops::write(&mut site);
        let quantized = network.affine(node.output).is_some();
        real.push(if quantized { names[node.output.index()].clone() } else { tensor.clone() });
        read.push(tensor);
    }
    for (&id, Output { port, bytes, .. }) in graph.outputs().iter().zip(outputs) {
        let tensor = if *bytes { &read[id.index()] } else { &real[id.index()] };
        // It is an input, or an output twice, or lies in another way, or was bytes.
        if *tensor != port.name {
            border::outside(&mut file, tensor, port, graph.shape(id));
        }
    }
    let versions = if file.newest() > OLDER.opset { NEWER } else { OLDER };
    let mut onnx = file.finish();
    onnx.name = "edgesmith".to_owned();
    let info = |port: &Port, doc: &str, id| border::value_info(port, doc, graph.shape(id));
    let ports = graph.inputs().zip(inputs);
    onnx.input = ports.map(|(id, i)| info(&i.port, &i.doc, id)).collect();
    let ports = graph.outputs().iter().zip(outputs);
    onnx.output = ports.map(|(&id, o)| info(&o.port, &o.doc, id)).collect();
    let docs = inputs.iter().map(|i| (&i.port.name, &i.doc));
    let docs = docs.chain(outputs.iter().map(|o| (&o.port.name, &o.doc)));
    let docs = docs.filter(|(_, doc)| !doc.is_empty());
    let docs: Vec<String> = docs.map(|(name, doc)| format!("{name}: {doc}")).collect();
    let entry = |(key, value): &(&str, String)| StringStringEntryProto {
        key: (*key).to_owned(),
        value: value.clone(),
    };
    ModelProto {
        ir_version: versions.ir,
        producer_name: "edgesmith".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string: docs.join("\n"),
        graph: Some(onnx),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: versions.opset }],
        metadata_props: metadata.iter().map(entry).collect(),
    }
    .encode_to_vec()
}

/// `(number - mean) / std`
fn normalize(
    file: &mut File,
    (input, tensor): (&str, &str),
    scales: &Scales,
    shape: &Shape,
) -> Name {
    let Scales { mean, std } = scales;
    let channels = shape.channels() as usize;
    assert!(mean.len() == channels && std.len() == channels, "constants for every channel");
    let mut dims = vec![1, shape.channels()];
    dims.resize(2 + shape.space().len(), 1);
    let mean = file.floats(&format!("{input}.mean"), &dims, mean);
    let std = file.floats(&format!("{input}.std"), &dims, std);
    let centred = file.claim(&format!("{input}.centred"));
    file.node("Sub", &[tensor, &mean], &centred, vec![]);
    let normalized = file.claim(&format!("{input}.normalized"));
    file.node("Div", &[&centred, &std], &normalized, vec![]);
    normalized
}
