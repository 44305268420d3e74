//! Writes ONNX files (opset 17, IR version 8) of edge-runtime models, so that the exported model is
//! the measured one. An fp32 model becomes plain float operators; batch normalisation is already
//! folded. An int8 model becomes the same graph with QuantizeLinear and DequantizeLinear nodes
//! (QDQ), which ONNX Runtime fuses into integer kernels.
//!
//! Input `image`: float `[batch][channels][height][width]` of pixel values 0 to 255; normalisation
//! is part of the graph. Output `logits`: float `[batch][classes]`. The file says so itself, and
//! docs/operating.md says it in full. There is no reader.
//!
//! On x86 processors with AVX2 and without VNNI, ONNX Runtime's kernels for uint8 activations and
//! int8 weights saturate their sums at 16 bits; the session option `session.x64quantprecision` set
//! to `1` makes them exact.

mod graph;
mod proto;

use edgesmith_edge_runtime::{
    Activation, Conv, FloatConv, FloatDepthwise, FloatLayer, FloatNode, InputSpec, IntAdd, IntConv,
    IntDepthwise, IntLayer, IntLinear, IntNode, Linear, Model, Network, Quantization,
    Requantization, ValueId,
};
use prost::Message;

use self::graph::{GraphBuilder, Name, int, ints};
use self::proto::{
    Dimension, DimensionProto, FLOAT, ModelProto, OperatorSetIdProto, StringStringEntryProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;
const IMAGE: &str = "image";
const LOGITS: &str = "logits";
/// What the input is, for the reader of a file.
const IMAGE_DOC: &str = "Pixels as whole numbers from 0 to 255, without normalisation: the graph \
                         normalises them. Layout NCHW; three channels are red, green, blue.";
/// What the output is, for the reader of a file.
const LOGITS_DOC: &str = "One score per class, before softmax; the class with the highest score is \
                          the answer. Classes are in the order of their numbers; if they have \
                          names, the metadata has them under \"classes\", as a JSON list.";

/// The bytes of an ONNX file that computes the same as `model`: in fp32 up to the order of sums, in
/// int8 up to one level of rounding per requantization. `metadata` is stored in the file.
pub fn to_bytes(model: &Model, metadata: &[(&str, String)]) -> Vec<u8> {
    let mut builder = GraphBuilder::default();
    let image = normalize(&mut builder, &model.input);
    let classes = match &model.network {
        Network::Fp32(nodes) => float_nodes(&mut builder, image, nodes),
        Network::Int8 { input, nodes } => int_nodes(&mut builder, image, *input, nodes),
    };
    let mut graph = builder.finish();
    graph.name = "edgesmith".to_owned();
    let InputSpec { channels, height, width, .. } = model.input;
    graph.input = vec![value_info(IMAGE, IMAGE_DOC, &[channels, height, width])];
    graph.output = vec![value_info(LOGITS, LOGITS_DOC, &[classes])];
    let entry = |(key, value): &(&str, String)| StringStringEntryProto {
        key: (*key).to_owned(),
        value: value.clone(),
    };
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "edgesmith".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string: format!("{IMAGE}: {IMAGE_DOC}\n{LOGITS}: {LOGITS_DOC}"),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata.iter().map(entry).collect(),
    }
    .encode_to_vec()
}

/// A float tensor with a batch dimension of any size before `sizes`.
fn value_info(name: &str, doc: &str, sizes: &[u32]) -> ValueInfoProto {
    let batch = Dimension::Parameter("batch".to_owned());
    let sizes = sizes.iter().map(|&size| Dimension::Value(i64::from(size)));
    let dim =
        std::iter::once(batch).chain(sizes).map(|d| DimensionProto { value: Some(d) }).collect();
    let tensor_type =
        Some(TensorTypeProto { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) });
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type }),
        doc_string: doc.to_owned(),
    }
}

/// `(pixel - 255 * mean) / (255 * std)`
fn normalize(builder: &mut GraphBuilder, input: &InputSpec) -> Name {
    let scaled = |values: &[f32]| values.iter().map(|v| v * 255.0).collect::<Vec<f32>>();
    let dims = [1, input.channels, 1, 1];
    let mean = builder.floats("image.mean", &dims, &scaled(&input.mean));
    let std = builder.floats("image.std", &dims, &scaled(&input.std));
    let centred = builder.node("Sub", &[IMAGE, &mean], "image.centred", vec![]);
    builder.node("Div", &[&centred, &std], "image.normalized", vec![])
}

/// Adds the nodes of an fp32 model; returns the number of classes.
fn float_nodes(builder: &mut GraphBuilder, image: Name, nodes: &[FloatNode]) -> u32 {
    let mut values = vec![image];
    let mut classes = 0;
    for (index, node) in nodes.iter().enumerate() {
        let name = format!("node{index}");
        let inputs: Vec<Name> = node.inputs.iter().map(|&v| value(&values, v)).collect();
        let output = match &node.layer {
            FloatLayer::Conv(FloatConv { conv, activation }) => {
                float_conv(builder, &name, &inputs[0], conv, false, *activation)
            }
            FloatLayer::Depthwise(FloatDepthwise { conv, activation }) => {
                float_conv(builder, &name, &inputs[0], conv, true, *activation)
            }
            FloatLayer::Add(_) => builder.node("Add", &[&inputs[0], &inputs[1]], &name, vec![]),
            FloatLayer::GlobalAveragePool(_) => {
                builder.node("GlobalAveragePool", &[&inputs[0]], &name, vec![])
            }
            FloatLayer::Linear(linear) => {
                classes = linear.out_features;
                let dims = [linear.out_features, linear.in_features];
                let weight = builder.floats(&format!("{name}.weight"), &dims, &linear.weight);
                let bias = builder.floats(&format!("{name}.bias"), &dims[..1], &linear.bias);
                gemm(builder, &name, &inputs[0], &weight, &bias)
            }
        };
        values.push(output);
    }
    classes
}

fn float_conv(
    builder: &mut GraphBuilder,
    name: &str,
    input: &str,
    conv: &Conv<f32, f32>,
    depthwise: bool,
    activation: Activation,
) -> Name {
    let dims = weight_dims(conv, depthwise);
    let weight = builder.floats(&format!("{name}.weight"), &dims, &conv.weight);
    let bias = builder.floats(&format!("{name}.bias"), &dims[..1], &conv.bias);
    let attributes = conv_attributes(conv, depthwise);
    let output =
        builder.node("Conv", &[input, &weight, &bias], &format!("{name}.conv"), attributes);
    match activation {
        Activation::Linear => output,
        Activation::Relu => builder.node("Relu", &[&output], name, vec![]),
        Activation::Relu6 => clip(builder, name, &output, 0.0, 6.0),
    }
}

/// Adds the nodes of an int8 model in QDQ form; returns the number of classes. A value is known by
/// the name of its dequantized tensor.
fn int_nodes(
    builder: &mut GraphBuilder,
    image: Name,
    input: Quantization,
    nodes: &[IntNode],
) -> u32 {
    let image = requantize(builder, IMAGE, &image, input);
    let mut values = vec![(image, input)];
    let mut classes = 0;
    for (index, node) in nodes.iter().enumerate() {
        let name = format!("node{index}");
        let inputs: Vec<(Name, Quantization)> =
            node.inputs.iter().map(|&v| value(&values, v)).collect();
        let (source, quantization) = &inputs[0];
        let output = match &node.layer {
            IntLayer::Conv(IntConv { conv, requantize, clamp }) => {
                let scales = Scales::of(requantize, *quantization, node.output);
                let output = int_conv(builder, &name, source, &scales, conv, false);
                clamped(builder, &name, output, *clamp, node.output)
            }
            IntLayer::Depthwise(IntDepthwise { conv, requantize, clamp }) => {
                let scales = Scales::of(requantize, *quantization, node.output);
                let output = int_conv(builder, &name, source, &scales, conv, true);
                clamped(builder, &name, output, *clamp, node.output)
            }
            IntLayer::Add(IntAdd { clamp, .. }) => {
                let sum = format!("{name}.sum");
                let output = builder.node("Add", &[source, &inputs[1].0], &sum, vec![]);
                clamped(builder, &name, output, *clamp, node.output)
            }
            IntLayer::GlobalAveragePool(_) => {
                builder.node("GlobalAveragePool", &[source], &format!("{name}.mean"), vec![])
            }
            IntLayer::Linear(IntLinear { linear, logit_scale }) => {
                classes = linear.out_features;
                let scales = Scales::new(logit_scale.clone(), *quantization);
                let output = int_linear(builder, &name, source, &scales, linear);
                values.push((output, node.output));
                continue;
            }
        };
        values.push((requantize(builder, &name, &output, node.output), node.output));
    }
    classes
}

/// The scales of the weights and biases of a layer, per output channel.
struct Scales {
    weight: Vec<f32>,
    /// Weight scale times input scale.
    bias: Vec<f32>,
}

impl Scales {
    fn new(bias: Vec<f32>, input: Quantization) -> Self {
        Self { weight: bias.iter().map(|scale| scale / input.scale).collect(), bias }
    }

    /// Computes the scales from the requantization factors, because a model does not store the
    /// scales.
    fn of(requantize: &[Requantization], input: Quantization, output: Quantization) -> Self {
        let scale = |r: &Requantization| (r.to_real() * f64::from(output.scale)) as f32;
        Self::new(requantize.iter().map(scale).collect(), input)
    }
}

fn int_conv(
    builder: &mut GraphBuilder,
    name: &str,
    input: &str,
    scales: &Scales,
    conv: &Conv<i8, i32>,
    depthwise: bool,
) -> Name {
    let dims = weight_dims(conv, depthwise);
    let weight = dequantized_weight(builder, name, &dims, &conv.weight, &scales.weight);
    let bias = dequantized_bias(builder, name, &conv.bias, &scales.bias);
    let attributes = conv_attributes(conv, depthwise);
    builder.node("Conv", &[input, &weight, &bias], &format!("{name}.conv"), attributes)
}

fn int_linear(
    builder: &mut GraphBuilder,
    name: &str,
    input: &str,
    scales: &Scales,
    linear: &Linear<i8, i32>,
) -> Name {
    let dims = [linear.out_features, linear.in_features];
    let weight = dequantized_weight(builder, name, &dims, &linear.weight, &scales.weight);
    let bias = dequantized_bias(builder, name, &linear.bias, &scales.bias);
    gemm(builder, name, input, &weight, &bias)
}

/// Int8 weights followed by a DequantizeLinear with one scale per output channel.
fn dequantized_weight(
    builder: &mut GraphBuilder,
    name: &str,
    dims: &[u32],
    weight: &[i8],
    scales: &[f32],
) -> Name {
    let name = format!("{name}.weight");
    let quantized = builder.int8s(&format!("{name}_quantized"), dims, weight);
    let scale = builder.floats(&format!("{name}_scale"), &dims[..1], scales);
    let zeros = vec![0; scales.len()];
    let zero = builder.int8s(&format!("{name}_zero_point"), &dims[..1], &zeros);
    builder.node("DequantizeLinear", &[&quantized, &scale, &zero], &name, vec![int("axis", 0)])
}

/// Int32 biases followed by a DequantizeLinear. Their zero point is 0, which is the default.
fn dequantized_bias(builder: &mut GraphBuilder, name: &str, bias: &[i32], scales: &[f32]) -> Name {
    let name = format!("{name}.bias");
    let dims = [bias.len() as u32];
    let quantized = builder.int32s(&format!("{name}_quantized"), &dims, bias);
    let scale = builder.floats(&format!("{name}_scale"), &dims, scales);
    builder.node("DequantizeLinear", &[&quantized, &scale], &name, vec![int("axis", 0)])
}

/// Quantizes a tensor to uint8 and back.
fn requantize(builder: &mut GraphBuilder, name: &str, input: &str, q: Quantization) -> Name {
    let scale = builder.floats(&format!("{name}.scale"), &[], &[q.scale]);
    let zero = builder.uint8(&format!("{name}.zero_point"), q.zero_point);
    let quantized = format!("{name}.quantized");
    let bytes = builder.node("QuantizeLinear", &[input, &scale, &zero], &quantized, vec![]);
    let dequantized = format!("{name}.dequantized");
    builder.node("DequantizeLinear", &[&bytes, &scale, &zero], &dequantized, vec![])
}

/// Adds the activation that a clamp of output bytes means. Quantization itself saturates at 0 and
/// 255, so the full range needs no node.
fn clamped(
    builder: &mut GraphBuilder,
    name: &str,
    input: Name,
    (low, high): (u8, u8),
    q: Quantization,
) -> Name {
    let real = |byte: u8| (f32::from(byte) - f32::from(q.zero_point)) * q.scale;
    let name = format!("{name}.activation");
    match (low, high) {
        (0, 255) if q.zero_point != 0 => input,
        (low, 255) if low == q.zero_point => builder.node("Relu", &[&input], &name, vec![]),
        (low, high) => clip(builder, &name, &input, real(low), real(high)),
    }
}

fn clip(builder: &mut GraphBuilder, name: &str, input: &str, low: f32, high: f32) -> Name {
    let low = builder.floats(&format!("{name}.min"), &[], &[low]);
    let high = builder.floats(&format!("{name}.max"), &[], &[high]);
    builder.node("Clip", &[input, &low, &high], name, vec![])
}

/// Flattens `[batch][features][1][1]` and multiplies by the transposed weights.
fn gemm(builder: &mut GraphBuilder, name: &str, input: &str, weight: &str, bias: &str) -> Name {
    let flat = builder.node("Flatten", &[input], &format!("{name}.flat"), vec![int("axis", 1)]);
    builder.node("Gemm", &[&flat, weight, bias], LOGITS, vec![int("transB", 1)])
}

fn weight_dims<W, B>(conv: &Conv<W, B>, depthwise: bool) -> [u32; 4] {
    let inputs = if depthwise { 1 } else { conv.in_channels };
    [conv.out_channels, inputs, conv.kernel, conv.kernel]
}

fn conv_attributes<W, B>(conv: &Conv<W, B>, depthwise: bool) -> Vec<proto::AttributeProto> {
    let group = if depthwise { conv.in_channels } else { 1 };
    vec![
        ints("kernel_shape", &[conv.kernel; 2]),
        ints("strides", &[conv.stride; 2]),
        ints("pads", &[conv.padding; 4]),
        int("group", i64::from(group)),
    ]
}

fn value<T: Clone>(values: &[T], id: ValueId) -> T {
    values[id.0 as usize].clone()
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use edgesmith_graph::Graph;
    use edgesmith_testing::{
        images_for, normalization, random_bytes, random_weights, residual_graph,
    };

    use super::*;
    use crate::export::{float_model, integer_model};

    fn models() -> (Graph, Model, Model) {
        let graph = residual_graph();
        let (weights, constants) = (random_weights(&graph, 1), normalization(&graph));
        let set = images_for(&graph, &[random_bytes(&graph, 1)]);
        let go_on = &mut || ControlFlow::Continue(());
        let int8 = integer_model(&graph, &weights, &constants, &set, go_on).unwrap();
        let float = float_model(&graph, &weights, &constants).unwrap();
        (graph, float, int8)
    }

    fn decoded(model: &Model) -> ModelProto {
        ModelProto::decode(to_bytes(model, &[("study", "digits".to_owned())]).as_slice()).unwrap()
    }

    fn count(model: &ModelProto, op_type: &str) -> usize {
        let nodes = &model.graph.as_ref().unwrap().node;
        nodes.iter().filter(|node| node.op_type == op_type).count()
    }

    #[test]
    fn float_and_int8_graphs_have_every_layer() {
        let (network, float, int8) = models();
        let (float, int8) = (decoded(&float), decoded(&int8));
        let layers = network.fused().iter().filter(|fused| !**fused).count();
        for model in [&float, &int8] {
            let others = count(model, "Add") + count(model, "GlobalAveragePool");
            assert_eq!(count(model, "Conv") + others + count(model, "Gemm"), layers);
            assert_eq!(model.metadata_props[0].key, "study");
            assert_eq!(model.opset_import[0].version, OPSET);
        }
        assert_eq!(count(&float, "DequantizeLinear"), 0);
        // One for the image and one for every layer except the classifier.
        assert_eq!(count(&int8, "QuantizeLinear"), layers);
    }

    #[test]
    fn inputs_of_a_node_come_before_it_and_names_are_unique() {
        let (_, float, int8) = models();
        for model in [float, int8] {
            let graph = decoded(&model).graph.unwrap();
            let constants = graph.initializer.iter().map(|tensor| tensor.name.clone());
            let mut known: Vec<String> = constants.chain([IMAGE.to_owned()]).collect();
            for node in graph.node {
                assert!(node.input.iter().all(|name| known.contains(name)), "{node:?}");
                assert!(!known.contains(&node.output[0]), "{node:?}");
                known.extend(node.output);
            }
            assert!(known.contains(&LOGITS.to_owned()));
        }
    }

    #[test]
    fn the_documentation_says_what_the_file_says() {
        let page = include_str!("../../../../docs/operating.md");
        let (_, section) = page.split_once("### ONNX files").unwrap();
        let section = section.split("\n#").next().unwrap().replace('\n', " ");
        let (network, float, int8) = models();
        for model in [float, int8] {
            let file = decoded(&model);
            let graph = file.graph.unwrap();
            let dims = |value: &ValueInfoProto| {
                let tensor = value.r#type.clone().unwrap().tensor_type.unwrap();
                assert_eq!(tensor.elem_type, FLOAT);
                let dim = tensor.shape.unwrap().dim.into_iter().map(|d| d.value.unwrap());
                dim.collect::<Vec<_>>()
            };
            let ([image], [logits]) = (&graph.input[..], &graph.output[..]) else { panic!() };
            let shape = network.input();
            let value = |size: u32| Dimension::Value(i64::from(size));
            let batch = Dimension::Parameter("batch".to_owned());
            let [height, width] = *shape.space() else { panic!("an image") };
            let expected = [batch.clone(), value(shape.channels()), value(height), value(width)];
            assert_eq!(dims(image), expected);
            assert_eq!(dims(logits)[0], batch);
            assert!(image.doc_string.contains("0 to 255") && image.doc_string.contains("NCHW"));
            assert!(logits.doc_string.contains("before softmax"));
            assert!(file.doc_string.contains(&image.doc_string));
            assert!(file.doc_string.contains(&logits.doc_string));
            // Pixels are normalised in the graph.
            assert_eq!(graph.node[0].input[0], image.name);
            assert_eq!((&*graph.node[0].op_type, &*graph.node[1].op_type), ("Sub", "Div"));
            for fact in [
                format!("opset {}", file.opset_import[0].version),
                format!("IR version {}", file.ir_version),
                format!("`{}`", image.name),
                format!("`{}`", logits.name),
                "float32 `[batch][channels][height][width]` (NCHW)".to_owned(),
                "float32 `[batch][classes]`".to_owned(),
                "whole numbers from 0 to 255".to_owned(),
                "ONNX Runtime 1.12".to_owned(),
                format!("`{}`", edgesmith_train::safetensors::CLASSES_KEY),
            ] {
                assert!(section.contains(&fact), "docs/operating.md does not say {fact}");
            }
        }
    }
}
