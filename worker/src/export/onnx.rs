//! ONNX files of networks. What a model file computes is written by lifting it first
//! ([`super::lift`]).
//!
//! Those of a study's classifiers have the same form for all users. Input `image`: float
//! `[batch][channels][height][width]` of pixel values 0 to 255; normalisation is part of the graph.
//! Output `logits`: float `[batch][classes]`. The file says so itself, and docs/operating.md says
//! it in full. Other networks keep the names and axes that they have.
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
    classifier(graph, weights, quantization, normalization, (false, metadata))
}

/// As [`to_bytes`], with an output whose numbers are those that bytes mean, or not.
fn classifier(
    graph: &Graph,
    weights: &Weights,
    quantization: Option<&Quantization>,
    normalization: &Normalization,
    (bytes, metadata): (bool, &[(&str, String)]),
) -> Vec<u8> {
    let port = |name, value| Port::batched(name, 0..graph.shape(value).sizes().len() as u32);
    let image = graph.inputs().next().expect("an input");
    let input = Input {
        port: port(IMAGE, image),
        doc: format!("{PIXELS_DOC} {LAYOUT_DOC}"),
        scales: Some(scales(normalization)),
    };
    let port = port(LOGITS, graph.outputs()[0]);
    let output = Output { port, doc: LOGITS_DOC.to_owned(), bytes };
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
        ([InputForm { normalization: Some(normalization), order, .. }], [output])
            if order.is_sorted() =>
        {
            let rest = (output.bytes, metadata);
            classifier(graph, weights, quantization.as_ref(), normalization, rest)
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
        bytes: output.bytes,
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
    // Scales of a file are those of what the network hands out, too.
    let outputs = imported.outputs.iter().map(|port| Output {
        port: port.clone(),
        doc: String::new(),
        bytes: true,
    });
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

    use edgesmith_edge_runtime::{Session, Tensor};
    use edgesmith_graph::{
        Add, Affine, Array as Numbers, Conv, ConvTranspose, Evaluator, Function, Gather,
        GraphBuilder, Groups, Map, Op, Place, Role, Shape, TransposedAxis,
    };
    use edgesmith_onnx::ReadOptions;
    use edgesmith_onnx::proto::{Dimension, FLOAT, ModelProto, ValueInfoProto};
    use edgesmith_onnx::write::{NEWER, OLDER};
    use edgesmith_testing::{
        assert_close, images_for, normalization, random_bytes, random_weights, residual_graph,
    };

    use prost::Message;

    use super::*;
    use crate::export::{
        Interface, Lifted, float_model, imported_integer_model, integer_model, lift,
    };

    /// A network, as it ships in fp32 and in int8.
    fn models() -> (Graph, Lifted, Lifted) {
        let graph = residual_graph();
        let (weights, constants) = (random_weights(&graph, 1), normalization(&graph));
        let set = images_for(&graph, &[random_bytes(&graph, 1)]);
        let go_on = &mut || ControlFlow::Continue(());
        let scheme = edgesmith_compress::Scheme::default();
        let int8 = integer_model(&graph, &weights, &constants, &set, &scheme, go_on).unwrap();
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
        let layers = network.layers().count();
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

    /// What a network answers, as its annotation has it in integers.
    fn answer(imported: &Imported, numbers: &[f32]) -> (Vec<&'static str>, Vec<f32>, Vec<u8>) {
        let model = imported_integer_model(imported).expect("it has scales").unwrap();
        let kinds = model.nodes.iter().map(|node| node.layer.name()).collect();
        let mut session = Session::new(&model).unwrap();
        session.run_on(&[Tensor::Fp32(numbers)]).unwrap();
        let answer = session.output(0).to_vec();
        (kinds, answer, of_lifted(&lift(&model).unwrap(), &[]))
    }

    fn imported(file: &[u8]) -> Imported {
        edgesmith_onnx::read(file, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The file of one layer that adds nothing to its input, with these scales of its weight.
    fn quantized_file(op: Op, weight: Numbers, scales: Vec<f64>, output: Affine) -> Vec<u8> {
        let mut builder = GraphBuilder::new();
        let channels = scales.len() as u32;
        let x = builder.input("x", Shape::new(channels, &[2, 2]).unwrap()).unwrap();
        let sizes: Vec<u32> = weight.shape.iter().map(|&size| size as u32).collect();
        let w = builder.parameter("w", &sizes, Role::Weight).unwrap();
        let y = builder.node("c", op, &[x], &[w], Place::default()).unwrap();
        let graph = builder.finish(&[y]).unwrap();
        let mut weights = Weights::default();
        weights.arrays.insert("w".to_owned(), weight);
        let mut quantization = Quantization::none(&graph);
        quantization.set_value(x, Affine { scale: 0.02, zero_point: 128 });
        quantization.set_value(y, output);
        quantization.set_parameter(w, scales);
        let [input, output] = ["x", "y"].map(|name| Port::batched(name, 0..3));
        let input = Input { port: input, doc: String::new(), scales: None };
        let output = Output { port: output, doc: String::new(), bytes: true };
        write(&graph, &weights, Some(&quantization), &[input], &[output], &[])
    }

    #[test]
    fn outputs_of_quantized_files_end_where_their_scales_do() {
        let weight = Numbers { shape: vec![1, 1, 1, 1], data: vec![1.0] };
        let affine = Affine { scale: 0.005, zero_point: 128 };
        let file = quantized_file(Conv::dense(2, 1).into(), weight, vec![0.01], affine);
        let file = imported(&file);
        let expected = [0.635, -0.64, 0.1, 0.0];
        let numbers = [2.4, -2.4, 0.1, 0.0];
        let (kinds, found, lifted) = answer(&file, &numbers);
        assert!(kinds.contains(&"convolution in integers"), "{kinds:?}");
        assert_close(&found, &expected, 1e-5);
        for again in [of_quantized(&file, None, &[]).unwrap(), lifted] {
            assert_close(&answer(&imported(&again), &numbers).1, &expected, 1e-5);
        }
    }

    #[test]
    fn transposed_convolutions_of_quantized_files_run_in_integers() {
        let axis = TransposedAxis { stride: 1, dilation: 1, before: 0, after: 0, extra: 0 };
        for (groups, reads) in [(Groups::of(1, 2), 2), (Groups::of(2, 2), 1)] {
            let op = ConvTranspose { axes: vec![axis; 2].into(), groups };
            let data = vec![1.0, 0.5, 0.25, 1.0][..2 * reads].to_vec();
            let weight = Numbers { shape: vec![2, reads, 1, 1], data };
            let affine = Affine { scale: 0.05, zero_point: 128 };
            let file = imported(&quantized_file(op.into(), weight, vec![0.01, 0.0125], affine));
            let numbers: Vec<f32> = (0..8).map(|i| i as f32 * 0.3 - 1.0).collect();
            let (kinds, found, _) = answer(&file, &numbers);
            assert_eq!(kinds[kinds.len() - 1], "transposed convolution in integers", "{kinds:?}");
            let real = Evaluator::<f32>::new(&file.graph, &file.weights).output(numbers);
            assert!(
                found.iter().zip(&real).all(|(a, b)| (a - b).abs() < 0.06),
                "{found:?} {real:?}"
            );
        }
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
