//! Writes ONNX files (opset 17, IR version 8) of networks, folded or not. A quantized network
//! becomes the same operators with QuantizeLinear and DequantizeLinear nodes (QDQ) around them,
//! which ONNX Runtime fuses into integer kernels. One file in `ops/` per operation says what
//! becomes of it.

mod file;
mod ops;
mod site;

use edgesmith_graph::{Graph, Quantization, Shape, Weights};
use prost::Message;

use self::file::{File, Name};
use self::site::{Network, Site, to_bytes_and_back};
use crate::proto::{
    Dimension, DimensionProto, FLOAT, ModelProto, OperatorSetIdProto, StringStringEntryProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// The IR version of the files.
pub const IR_VERSION: i64 = 8;
/// The opset of the files.
pub const OPSET: i64 = 17;

/// An input of a file: float `[batch][channels][positions…]`.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its name in the file.
    pub name: String,
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

/// An output of a file: float `[batch][channels][positions…]`.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its name in the file.
    pub name: String,
    /// What it is, for the reader of the file.
    pub doc: String,
}

/// The bytes of an ONNX file that computes the same as `graph`: in fp32 up to the order of sums, in
/// int8 up to one level of rounding for each quantized value. Tensors have the names of the graph's
/// values, except inputs and outputs. Outputs stay real, even if they are annotated. `metadata` is
/// stored in the file.
///
/// # Panics
/// If `inputs` and `outputs` are not as many as the graph's or two have the same name, or
/// `weights`, `quantization` or the scales of an input do not fit the graph.
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
    let network = Network { graph, weights, quantization };
    let mut file = File::default();
    for name in inputs.iter().map(|i| &i.name).chain(outputs.iter().map(|o| &o.name)) {
        assert_eq!(file.claim(name), *name, "inputs and outputs of different names");
    }
    // Values come first: their names are taken before those of nodes that are added.
    let mut names: Vec<Name> = Vec::with_capacity(graph.values().len());
    for (id, value) in graph.values() {
        let output = graph.outputs().iter().position(|&output| output == id);
        names.push(match (inputs.get(id.index()), output) {
            (Some(input), _) => input.name.clone(),
            (None, Some(output)) => outputs[output].name.clone(),
            (None, None) => file.claim(&value.name),
        });
    }
    // By value, the tensor that its readers read.
    let mut read = Vec::with_capacity(names.len());
    for (id, input) in graph.inputs().zip(inputs) {
        let tensor = match &input.scales {
            Some(scales) => normalize(&mut file, &input.name, scales, graph.shape(id)),
            None => input.name.clone(),
        };
        read.push(match network.affine(id) {
            Some(affine) => to_bytes_and_back(&mut file, &input.name, &tensor, affine),
            None => tensor,
        });
    }
    for (_, node) in graph.nodes() {
        let tensors = node.inputs.iter().map(|input| read[input.index()].clone()).collect();
        let batch = inputs.first().map(|input| input.name.clone());
        let output = names[node.output.index()].clone();
        let mut site = Site { file: &mut file, network, node, inputs: tensors, batch, output };
        let tensor = ops::write(&mut site);
        read.push(tensor);
    }
    for (id, output) in graph.outputs().iter().zip(outputs) {
        // It is an input, or an output twice.
        if names[id.index()] != output.name {
            file.node("Identity", &[&read[id.index()]], &output.name, vec![]);
        }
    }
    let mut onnx = file.finish();
    onnx.name = "edgesmith".to_owned();
    let ports = graph.inputs().zip(inputs);
    onnx.input = ports.map(|(id, i)| value_info(&i.name, &i.doc, graph.shape(id))).collect();
    let ports = graph.outputs().iter().zip(outputs);
    onnx.output = ports.map(|(&id, o)| value_info(&o.name, &o.doc, graph.shape(id))).collect();
    let docs = inputs.iter().map(|i| (&i.name, &i.doc));
    let docs = docs.chain(outputs.iter().map(|o| (&o.name, &o.doc)));
    let docs: Vec<String> = docs.map(|(name, doc)| format!("{name}: {doc}")).collect();
    let entry = |(key, value): &(&str, String)| StringStringEntryProto {
        key: (*key).to_owned(),
        value: value.clone(),
    };
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "edgesmith".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string: docs.join("\n"),
        graph: Some(onnx),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata.iter().map(entry).collect(),
    }
    .encode_to_vec()
}

/// A float tensor of a value, with a batch dimension of any size before it.
fn value_info(name: &str, doc: &str, shape: &Shape) -> ValueInfoProto {
    let batch = Dimension::Parameter("batch".to_owned());
    let size = |size: u32| Dimension::Value(i64::from(size));
    let channels = size(shape.channels());
    let space = shape.space().iter().map(|&axis| size(axis));
    let dims = [batch, channels].into_iter().chain(space);
    let dim = dims.map(|d| DimensionProto { value: Some(d) }).collect();
    let tensor_type =
        Some(TensorTypeProto { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) });
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type }),
        doc_string: doc.to_owned(),
    }
}

/// `(number - mean) / std`
fn normalize(file: &mut File, input: &str, scales: &Scales, shape: &Shape) -> Name {
    let Scales { mean, std } = scales;
    let channels = shape.channels() as usize;
    assert!(mean.len() == channels && std.len() == channels, "constants for every channel");
    let mut dims = vec![1, shape.channels()];
    dims.resize(2 + shape.space().len(), 1);
    let mean = file.floats(&format!("{input}.mean"), &dims, mean);
    let std = file.floats(&format!("{input}.std"), &dims, std);
    let centred = file.claim(&format!("{input}.centred"));
    file.node("Sub", &[input, &mean], &centred, vec![]);
    let normalized = file.claim(&format!("{input}.normalized"));
    file.node("Div", &[&centred, &std], &normalized, vec![]);
    normalized
}
