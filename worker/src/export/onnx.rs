//! ONNX files of networks. What a model file computes is written by lifting it first
//! ([`super::lift`]).
//!
//! Those of a study's classifiers have the same form for all users. Input `image`: float
//! `[batch][channels][height][width]` of pixel values 0 to 255; normalisation is part of the graph.
//! Output `logits`: float `[batch][classes]`. The file says so itself, and docs/operating.md says it
//! in full. Other networks keep the names and axes that they have.
//!
//! On x86 processors with AVX2 and without VNNI, ONNX Runtime's kernels for uint8 activations and
//! int8 weights saturate their sums at 16 bits; the session option `session.x64quantprecision` set
//! to `1` makes them exact.

use edgesmith_compress::fold;
use edgesmith_data::Normalization;
use edgesmith_graph::{Graph, Quantization, Weights};
use edgesmith_onnx::{Imported, Input, Output, Port, Scales, write};

use super::{InputForm, Lifted};

/// The key of the metadata that says how a network reads the pixels of images. A file of this
/// program without it reads them as they are, 0 to 255.
pub const PIXELS_KEY: &str = "pixels";
/// The file does not say it: its input is normalised outside, somehow.
pub const PIXELS_UNKNOWN: &str = "unknown";

const IMAGE: &str = "image";
const LOGITS: &str = "logits";
/// What an input of pixels is, for the reader of a file.
const PIXELS_DOC: &str = "Pixels as whole numbers from 0 to 255, without normalisation: the graph \
                          normalises them.";
/// How they lie in the input of a classifier.
const LAYOUT_DOC: &str = "Layout NCHW; three channels are red, green, blue.";
/// What the output is, for the reader of a file.
const LOGITS_DOC: &str = "One score per class, before softmax; the class with the highest score is \
                          the answer. Classes are in the order of their numbers; if they have \
                          names, the metadata has them under \"classes\", as a JSON list.";

/// The bytes of the ONNX file of a classifier of images, which computes the same as `graph`; see
/// [`edgesmith_onnx::write()`]. `metadata` is stored in the file.
///
/// # Panics
/// If the graph has not one input and one output, `weights` or `quantization` do not fit it, or
/// `normalization` has the wrong number of channels.
pub fn to_bytes(
    graph: &Graph,
    weights: &Weights,
    quantization: Option<&Quantization>,
    normalization: &Normalization,
    metadata: &[(&str, String)],
) -> Vec<u8> {
    let port = |name, value| Port::batched(name, 0..graph.shape(value).sizes().len() as u32);
    let image = graph.inputs().next().expect("an input");
    let input = Input {
        port: port(IMAGE, image),
        doc: format!("{PIXELS_DOC} {LAYOUT_DOC}"),
        scales: Some(scales(normalization)),
    };
    let output = Output { port: port(LOGITS, graph.outputs()[0]), doc: LOGITS_DOC.to_owned() };
    write(graph, weights, quantization, &[input], &[output], metadata)
}

/// The bytes of the ONNX file of a network of a study: as [`to_bytes`] if it is a classifier of
/// images, else as [`of_lifted`]. `metadata` is stored in the file.
///
/// # Panics
/// If the model's parts do not fit together.
#[must_use]
pub fn of_study(lifted: &Lifted, metadata: &[(&str, String)]) -> Vec<u8> {
    let Lifted { graph, weights, quantization, interface } = lifted;
    match (&interface.inputs[..], &interface.outputs[..]) {
        ([InputForm { normalization: Some(normalization), order, .. }], [_])
            if order.is_sorted() =>
        {
            to_bytes(graph, weights, quantization.as_ref(), normalization, metadata)
        }
        _ => of_lifted(lifted, metadata),
    }
}

/// The bytes of the ONNX file of any model that was lifted, whose inputs and outputs have the names
/// and axes of the model, after one for examples. Inputs of bytes become pixels, 0 to 255.
/// `metadata` is stored in the file.
///
/// # Panics
/// If the model's parts do not fit together.
#[must_use]
pub fn of_lifted(lifted: &Lifted, metadata: &[(&str, String)]) -> Vec<u8> {
    let Lifted { graph, weights, quantization, interface } = lifted;
    let inputs = interface.inputs.iter().map(|input| Input {
        port: Port::batched(&input.name, input.order.iter().copied()),
        doc: input.normalization.as_ref().map_or("", |_| PIXELS_DOC).to_owned(),
        scales: input.normalization.as_ref().map(scales),
    });
    let outputs = interface.outputs.iter().map(|output| Output {
        port: Port::batched(&output.name, output.order.iter().copied()),
        doc: String::new(),
    });
    let inputs: Vec<Input> = inputs.collect();
    let outputs = named_apart(&inputs, outputs);
    write(graph, weights, quantization.as_ref(), &inputs, &outputs, metadata)
}

/// The bytes of the ONNX file of a network that was read from one, in fp32: what is constant is
/// folded, batch normalisation too, and axes are moved only where that computes something. It has
/// the same inputs and outputs, except that its only input becomes one of pixels, 0 to 255, if
/// `normalization` says how the network reads them. `metadata` is stored in the file.
///
/// # Panics
/// If `normalization` is given and does not fit the only input.
#[must_use]
pub fn of_imported(
    imported: &Imported,
    normalization: Option<&Normalization>,
    metadata: &[(&str, String)],
) -> Vec<u8> {
    let network = fold(&imported.graph, &imported.weights);
    imported_file(imported, (&network.0, &network.1, None), normalization, metadata)
}

/// As [`of_imported`], with the scales of a quantized network, and without folding batch
/// normalisation; `None` if it has no scales.
///
/// # Panics
/// If `normalization` is given and does not fit the only input.
#[must_use]
pub fn of_quantized(
    imported: &Imported,
    normalization: Option<&Normalization>,
    metadata: &[(&str, String)],
) -> Option<Vec<u8>> {
    let Imported { graph, weights, quantization, .. } = imported;
    let network = (graph, weights, Some(quantization.as_ref()?));
    Some(imported_file(imported, network, normalization, metadata))
}

/// The file of a network with the inputs and outputs of one that was read.
fn imported_file(
    imported: &Imported,
    (graph, weights, quantization): (&Graph, &Weights, Option<&Quantization>),
    normalization: Option<&Normalization>,
    metadata: &[(&str, String)],
) -> Vec<u8> {
    assert!(normalization.is_none() || imported.inputs.len() == 1, "one input of pixels");
    let inputs = imported.inputs.iter().map(|port| Input {
        port: port.clone(),
        doc: normalization.map_or("", |_| PIXELS_DOC).to_owned(),
        scales: normalization.map(scales),
    });
    let outputs =
        imported.outputs.iter().map(|port| Output { port: port.clone(), doc: String::new() });
    let inputs: Vec<Input> = inputs.collect();
    let outputs = named_apart(&inputs, outputs);
    write(graph, weights, quantization, &inputs, &outputs, metadata)
}

/// The outputs under names that no input and no other output has: an output may be an input, or be
/// there twice.
fn named_apart(inputs: &[Input], outputs: impl Iterator<Item = Output>) -> Vec<Output> {
    let mut names: Vec<String> = inputs.iter().map(|input| input.port.name.clone()).collect();
    let rename = |mut output: Output| {
        while names.contains(&output.port.name) {
            output.port.name.push_str("_out");
        }
        names.push(output.port.name.clone());
        output
    };
    outputs.map(rename).collect()
}

/// How numbers from 0 to 255 are normalised.
fn scales(Normalization { mean, std }: &Normalization) -> Scales {
    let scaled = |values: &[f32]| values.iter().map(|v| v * 255.0).collect();
    Scales { mean: scaled(mean), std: scaled(std) }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use edgesmith_graph::{
        Add, Affine, Conv, Function, Gather, GraphBuilder, Map, Place, Role, Shape,
    };
    use edgesmith_onnx::proto::{Dimension, FLOAT, ModelProto, ValueInfoProto};
    use edgesmith_onnx::write::{NEWER, OLDER};
    use edgesmith_testing::{
        images_for, normalization, random_bytes, random_weights, residual_graph,
    };

    use prost::Message;

    use super::*;
    use crate::export::{Interface, Lifted, float_model, integer_model, lift};

    /// A network, as it ships in fp32 and in int8.
    fn models() -> (Graph, Lifted, Lifted) {
        let graph = residual_graph();
        let (weights, constants) = (random_weights(&graph, 1), normalization(&graph));
        let set = images_for(&graph, &[random_bytes(&graph, 1)]);
        let go_on = &mut || ControlFlow::Continue(());
        let int8 = integer_model(&graph, &weights, &constants, &set, go_on).unwrap();
        let float = float_model(&graph, &weights, &constants).unwrap();
        (graph, lift(&float).unwrap(), lift(&int8).unwrap())
    }

    fn interface(graph: &Graph) -> Interface {
        Interface::of(graph, Some(&normalization(graph)))
    }

    fn decoded(lifted: &Lifted) -> ModelProto {
        let bytes = of_study(lifted, &[("study", "digits".to_owned())]);
        ModelProto::decode(bytes.as_slice()).unwrap()
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
            let versions = (model.opset_import[0].version, model.ir_version);
            assert_eq!(versions, (OLDER.opset, OLDER.ir));
        }
        assert_eq!(count(&float, "DequantizeLinear"), 0);
        // One for the image and one for every layer except the classifier.
        assert_eq!(count(&int8, "QuantizeLinear"), layers);
    }

    #[test]
    fn inputs_of_a_node_come_before_it_and_names_are_unique() {
        let (_, float, int8) = models();
        for model in [float, int8] {
            check_names(&decoded(&model));
        }
    }

    fn check_names(model: &ModelProto) {
        let graph = model.graph.as_ref().unwrap();
        let mut known = std::collections::BTreeSet::from([IMAGE]);
        for constant in &graph.initializer {
            assert!(known.insert(&constant.name), "{}", constant.name);
        }
        for node in &graph.node {
            assert!(node.input.iter().all(|name| known.contains(&**name)), "{node:?}");
            assert!(known.insert(&node.output[0]), "{node:?}");
        }
        assert!(known.contains(LOGITS));
    }

    /// Names of the graph that the file has for something else, and a weight that is read twice.
    #[test]
    fn any_names_of_a_graph_become_unique_ones() {
        let mut builder = GraphBuilder::new();
        let image = builder.input("logits", Shape::new(2, &[3, 3]).unwrap()).unwrap();
        let weight = builder.parameter("image.scale", &[2, 2, 1, 1], Role::Weight).unwrap();
        let mut conv = |name: &'static str, input| {
            let conv = Conv::dense(1, 1);
            builder.node(name, conv, &[input], &[weight], Place::default()).unwrap()
        };
        let first = conv("image", image);
        let second = conv("image.mean", first);
        let gather = Gather::channels([1, 0]);
        let gather = builder.node("x", gather, &[second], &[], Place::default()).unwrap();
        let sigmoid = Map { function: Function::Sigmoid };
        let sigmoid = builder.node("x.indices", sigmoid, &[gather], &[], Place::default()).unwrap();
        let inputs = [sigmoid, sigmoid];
        let last = builder.node("x.quantized", Add, &inputs, &[], Place::default()).unwrap();
        let graph = builder.finish(&[last]).unwrap();
        let mut quantization = Quantization::none(&graph);
        for (id, _) in graph.values() {
            quantization.set_value(id, Affine { scale: 0.1, zero_point: 3 });
        }
        quantization.set_parameter(weight, vec![0.1, 0.2]);
        for quantization in [None, Some(quantization)] {
            let (weights, interface) = (random_weights(&graph, 1), interface(&graph));
            let file = decoded(&Lifted { graph: graph.clone(), weights, quantization, interface });
            check_names(&file);
            let values = |names: &[&str]| {
                let nodes = &file.graph.as_ref().unwrap().node;
                names.iter().all(|name| nodes.iter().any(|node| node.output == [*name]))
            };
            assert!(values(&["image_2", "image.mean", "x", "x.indices", LOGITS]));
        }
    }

    #[test]
    fn an_output_that_is_the_input_is_the_normalised_image() {
        let mut builder = GraphBuilder::new();
        let image = builder.input("image", Shape::new(2, &[3, 3]).unwrap()).unwrap();
        let graph = builder.finish(&[image]).unwrap();
        let (weights, interface) = (Weights::default(), interface(&graph));
        let file = decoded(&Lifted { graph, weights, quantization: None, interface });
        check_names(&file);
        let nodes = file.graph.unwrap().node;
        let types: Vec<&str> = nodes.iter().map(|node| &*node.op_type).collect();
        assert_eq!(types, ["Sub", "Div", "Identity"]);
    }

    #[test]
    fn the_documentation_says_what_the_file_says() {
        let page = include_str!("../../../docs/operating.md");
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
                format!("opset {}, IR version {}", OLDER.opset, OLDER.ir),
                format!("opset {}, IR version {}", NEWER.opset, NEWER.ir),
                format!("`{}`", image.name),
                format!("`{}`", logits.name),
                "float32 `[batch][channels][height][width]` (NCHW)".to_owned(),
                "float32 `[batch][classes]`".to_owned(),
                "whole numbers from 0 to 255".to_owned(),
                "ONNX Runtime 1.7".to_owned(),
                "ONNX Runtime 1.12".to_owned(),
                format!("`{}`", edgesmith_train::safetensors::CLASSES_KEY),
            ] {
                assert!(section.contains(&fact), "docs/operating.md does not say {fact}");
            }
        }
    }
}
