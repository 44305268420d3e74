//! Graphs as documents: what is written is read back, and documents that make no graph are errors.

use edgesmith_graph::*;
use serde_json::{Value, json};
use smallvec::SmallVec;

use crate::{Net, random};

/// A document with every operation. Studies keep such documents, so it never changes; an operation
/// that is added later is appended by [`every`] and here.
const DOCUMENT: &str = include_str!("document.json");

/// A graph with every operation.
fn every() -> Graph {
    let mut net = Net::new();
    let image = net.input(Shape::new(3, &[8, 6]).unwrap());
    let odd = WindowAxis { stride: 2, dilation: 1, before: 0, after: 1 };
    let uneven =
        Conv { axes: SmallVec::from_buf([odd, WindowAxis::same(3, 1)]), groups: Groups::Equal(1) };
    let mut x = net.try_conv(image, uneven, 4, 3).unwrap();
    x = net.normalize(x);
    x = net.op(Clip::RELU, &[x]);
    x = net.op(Clip::RELU6, &[x]);
    x = net.depthwise(x, 4, 3);
    let side = net.op(LeakyRelu { slope: 0.1 }, &[x]);
    x = net.op(Add, &[x, side]);
    x = net.op(Map::from(Function::HardSwish), &[x]);
    let gate = net.op(GlobalAveragePool, &[x]);
    let gate = net.op(Map::from(Function::Sigmoid), &[gate]);
    x = net.op(Multiply, &[x, gate]);
    x = net.op(Concat::channels(), &[x, side]);
    x = net.op(Gather::shuffle(8, 2), &[x]);
    let pool = MaxPool {
        kernel: SmallVec::from_buf([2, 2]),
        axes: SmallVec::from_elem(WindowAxis::valid(2), 2),
    };
    x = net.op(pool, &[x]);
    let pad = Pad {
        before: SmallVec::from_buf([0, 1, 0]),
        after: SmallVec::from_buf([0, 0, 2]),
        value: f32::NEG_INFINITY,
    };
    x = net.op(pad, &[x]);
    let pool = AveragePool {
        kernel: SmallVec::from_buf([1, 2]),
        axes: SmallVec::from_buf([WindowAxis::valid(1), WindowAxis::valid(1)]),
        counted: SmallVec::from_buf([(0, 0), (0, 0)]),
    };
    x = net.op(pool, &[x]);
    let axis = TransposedAxis { stride: 2, dilation: 1, before: 1, after: 0, extra: 1 };
    let up = ConvTranspose { axes: SmallVec::from_elem(axis, 2), groups: Groups::Equal(1) };
    let weight = net.builder.parameter("up.weight", &[4, 8, 2, 2], Role::Weight).unwrap();
    x = net.builder.node("up", up, &[x], &[weight], Place::default()).unwrap();
    for mode in [ResizeMode::Nearest(Rounding::HalfUp), ResizeMode::Linear] {
        let axis = ResizeAxis { size: 4, scale: 0.7, coordinates: Coordinates::PytorchHalfPixel };
        x = net.op(Resize { mode, axes: SmallVec::from_elem(axis, 2) }, &[x]);
    }
    x = net.op(Transpose { order: SmallVec::from_buf([0, 2, 1]) }, &[x]);
    x = net.op(MatrixProduct { transposed: [true, false] }, &[x, x]);
    x = net.op(Reshape { sizes: SmallVec::from_buf([4, 2, 8]) }, &[x]);
    let settings = [
        Function::Elu { alpha: 0.3 },
        Function::HardSigmoid { slope: 0.2, offset: 0.5 },
        Function::Scale { factor: 0.1, offset: 3.0 },
        Function::Power { exponent: 2.0 },
        Function::GeluTanh,
    ];
    for function in settings {
        x = net.op(Map::from(function), &[x]);
    }
    let parameter = |net: &mut Net, name: &str, shape: &[u32], role| {
        net.builder.parameter(name.to_owned(), shape, role).unwrap()
    };
    let slope = parameter(&mut net, "slope", &[4], Role::Slope);
    x = net.builder.node("prelu", Prelu, &[x], &[slope], Place::default()).unwrap();
    let numbers = parameter(&mut net, "numbers", &[1, 2], Role::Constant);
    let held = net.builder.node("held", Constant, &[], &[numbers], Place::default()).unwrap();
    let less = net.op(Binary::from(BinaryFunction::LessOrEqual), &[x, held]);
    x = net.op(Select, &[less, x, held]);
    let scale = parameter(&mut net, "scale", &[2, 8], Role::Scale);
    let normalization = LayerNormalization { axes: SmallVec::from_slice(&[1, 2]), epsilon: 1e-5 };
    let place = Place::default();
    x = net.builder.node("normalized", normalization, &[x], &[scale], place).unwrap();
    let reduce = Reduce { function: ReduceFunction::L2, axes: SmallVec::from_slice(&[2]) };
    let norm = net.op(reduce, &[x]);
    x = net.op(Binary::from(BinaryFunction::Divide), &[x, norm]);
    x = net.op(Softmax { axis: 1, log: true }, &[x]);
    x = net.op(Flatten, &[x]);
    let place = Place { stage: Some(1), block: Some(2), part: "head".into() };
    x = net.builder.node("placed", LeakyRelu { slope: -0.25 }, &[x], &[], place).unwrap();
    x = net.linear(x, 3);
    net.builder.finish(&[x]).unwrap()
}

#[test]
fn the_document_with_every_operation_never_changes() {
    let graph = every();
    let held: Value = serde_json::from_str(DOCUMENT).unwrap();
    assert_eq!(serde_json::to_value(&graph).unwrap(), held);
    let read: Graph = serde_json::from_str(DOCUMENT).unwrap();
    assert_eq!(read, graph);
    for kind in Op::KINDS {
        assert!(graph.nodes().any(|(_, node)| node.op.kind() == *kind), "{kind} is in no document");
    }
    for (_, node) in graph.nodes() {
        let tag = format!("\"kind\":\"{}\"", node.op.kind());
        assert!(serde_json::to_string(&graph).unwrap().contains(&tag), "{tag}");
    }
}

#[test]
fn random_graphs_survive_a_round_trip() {
    for seed in 0..200 {
        let graph = random::graph(seed, 12);
        let text = serde_json::to_string(&graph).unwrap();
        assert_eq!(serde_json::from_str::<Graph>(&text).unwrap(), graph, "{text}");
    }
}

#[test]
fn documents_that_make_no_graph_are_errors() {
    let good: Value = serde_json::from_str(DOCUMENT).unwrap();
    let read = |document: &Value| serde_json::from_value::<Graph>(document.clone());
    for (pointer, value, said) in [
        ("/nodes/0/inputs/0", json!(1), "reads value 1, which does not stand before it"),
        ("/nodes/0/inputs/0", json!(4_000_000_000u32), "does not stand before it"),
        ("/nodes/0/parameters/0", json!(99), "reads parameter 99"),
        ("/nodes/0/parameters", json!([]), "takes 1 to 2 parameters"),
        ("/outputs/0", json!(77), "the network reads value 77"),
        ("/outputs", json!([]), "has no output"),
        ("/nodes/1/name", json!("n1"), "\"n1\""),
        ("/inputs/0/channels", json!(0), "has a size of 0"),
        ("/inputs/0/channels", json!(5), "n1"),
        ("/inputs/0/space", json!([4_000_000_000u32, 4_000_000_000u32]), "more than"),
        ("/parameters/0/shape", json!([0]), "has shape [0]"),
        ("/parameters/0/role", json!("colour"), "colour"),
        ("/nodes/0/op/kind", json!("attention"), "attention"),
        ("/nodes/0/op/axes/0/stride", json!(0), "stride"),
        ("/nodes/2/op/high", json!("high"), "\"high\" is not a number"),
        ("/nodes/2/op/low", Value::Null, "op"),
    ] {
        let mut document = good.clone();
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        match read(&document) {
            Ok(_) => panic!("{pointer} is accepted"),
            Err(error) if said == "op" => assert!(!error.to_string().is_empty()),
            Err(error) => assert!(error.to_string().contains(said), "{pointer}: {error}"),
        }
    }
    assert!(read(&good).is_ok());
}

/// Writes the document, after an operation was added.
#[test]
#[ignore = "it writes document.json"]
fn write_document() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graph/document.json");
    std::fs::write(path, serde_json::to_string_pretty(&every()).unwrap() + "\n").unwrap();
}
