//! ONNX Runtime, and what it computes of random graphs: what the graph's own evaluation does, in
//! fp32 and where it is annotated.

use std::collections::BTreeSet;
use std::process::Command;

use edgesmith_compress::{Calibration, Scheme};
use edgesmith_graph::{Evaluator, Graph, Op, Quantization};
use edgesmith_onnx::proto::ModelProto;
use edgesmith_onnx::write::{NEWER, OLDER};
use edgesmith_testing::random_weights;
use edgesmith_worker::export::onnx;
use prost::Message;

use crate::random::{GRAPHS, in_levels, normalization, normalized, pictures, random_graph};

const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/onnx_check.py");

#[test]
fn onnx_runtime_computes_what_a_graph_does() {
    let Some(python) = python() else { return };
    let cases = (0..GRAPHS).map(|seed| {
        let graph = random_graph(seed);
        let (weights, images) = (random_weights(&graph, seed), pictures(&graph, seed));
        let evaluator = Evaluator::<f32>::new(&graph, &weights);
        let outputs = images.iter().map(|image| evaluator.output(normalized(&graph, image)));
        let outputs = outputs.collect::<Vec<_>>().concat();
        let file = onnx::to_bytes(&graph, &weights, None, &normalization(&graph), &[]);
        Case { file, images: images.concat(), outputs }
    });
    // ONNX Runtime refuses operators that are newer than the file says.
    let mut versions = BTreeSet::new();
    let cases = cases.inspect(|case| {
        let model = ModelProto::decode(case.file.as_slice()).unwrap();
        versions.insert(model.opset_import[0].version);
    });
    // Where the outputs cancel out, only rounding is left to compare.
    let is_left = |case: &Case| case.outputs.iter().any(|output| output.abs() > 1e-3);
    let cases: Vec<Case> = cases.filter(is_left).collect();
    assert_eq!(versions.into_iter().collect::<Vec<_>>(), [OLDER.opset, NEWER.opset]);
    check(&python, &cases, &["--relative", "--tolerance", "1e-4", "--agreement", "0"]);
}

#[test]
fn onnx_runtime_quantizes_where_a_graph_is_annotated() {
    let Some(python) = python() else { return };
    let cases = (0..GRAPHS).map(|seed| {
        let graph = random_graph(seed);
        let (weights, images) = (random_weights(&graph, seed), pictures(&graph, seed));
        let mut calibration = Calibration::new(&graph, &weights);
        images.iter().for_each(|image| calibration.observe(normalized(&graph, image)).unwrap());
        // No pixel is halfway between two levels.
        let quantization = calibration.finish((-0.97, 1.31), &Scheme::default()).unwrap();
        let outputs = images
            .iter()
            .map(|image| in_levels(&graph, &weights, &quantization, normalized(&graph, image)));
        let outputs = outputs.collect::<Vec<_>>().concat();
        let normalization = normalization(&graph);
        let file = onnx::to_bytes(&graph, &weights, Some(&quantization), &normalization, &[]);
        let case = Case { file, images: images.concat(), outputs };
        (case, averages_in_range(&graph, &quantization))
    });
    let (cases, others): (Vec<_>, Vec<_>) = cases.partition(|(_, in_range)| *in_range);
    let in_range = cases.len();
    let cases: Vec<Case> = cases.into_iter().chain(others).map(|(case, _)| case).collect();
    // A level of rounding here and there, if a number is halfway between two, and what a few nodes
    // make of it.
    let options = ["--relative", "--agreement", "0", "--tolerance"];
    check(&python, &cases, &[&options[..], &["0.02", "--as-written"]].concat());
    // Kernels in integers round at other places.
    check(&python, &cases[..in_range], &[&options[..], &["0.1"]].concat());
}

/// Whether ONNX Runtime has an integer kernel for all means of a graph: it refuses one whose output
/// has a scale that is far below its input's, as means have that cancel out.
fn averages_in_range(graph: &Graph, quantization: &Quantization) -> bool {
    let scale = |id| quantization.value(id).map_or(1.0, |affine| affine.scale);
    let mut means = graph.nodes().filter(|(_, node)| matches!(node.op, Op::GlobalAveragePool(_)));
    means.all(|(_, node)| {
        let positions = graph.shape(node.inputs[0]).positions() as f32;
        scale(node.inputs[0]) / (positions * scale(node.output)) < 256.0
    })
}

/// The interpreter, where it has what the check needs.
pub fn python() -> Option<String> {
    let python = std::env::var("EDGESMITH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", "import numpy, onnxruntime"]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let message = format!("{python} has no onnxruntime and numpy: ONNX files were not checked");
    assert!(std::env::var_os("EDGESMITH_REQUIRE_ONNX").is_none(), "{message}");
    println!("{message}");
    None
}

/// An ONNX file, and what it has to compute of some images.
pub struct Case {
    pub file: Vec<u8>,
    pub images: Vec<u8>,
    pub outputs: Vec<f32>,
}

/// Has ONNX Runtime compute all cases.
pub fn check(python: &str, cases: &[Case], options: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let mut arguments = Vec::new();
    for (index, Case { file, images, outputs }) in cases.iter().enumerate() {
        let outputs = &outputs.iter().flat_map(|output| output.to_le_bytes()).collect();
        for (name, bytes) in [("model.onnx", file), ("images", images), ("outputs", outputs)] {
            let path = directory.path().join(format!("{index}.{name}"));
            std::fs::write(&path, bytes).unwrap();
            arguments.push(path);
        }
    }
    let output = Command::new(python).arg(CHECK).args(options).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaint}");
    println!("{said}");
}
