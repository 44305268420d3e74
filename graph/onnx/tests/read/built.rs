//! Networks built from public definitions, against ONNX Runtime; and what passes make of them.
//!
//! Needs a Python with `numpy`, `onnx` and `onnxruntime` (`EDGESMITH_PYTHON`, else `python3`);
//! without one the tests say so and pass, unless `EDGESMITH_REQUIRE_ONNX` is set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use edgesmith_graph::{Graph, Operation as _};
use edgesmith_onnx::read::{Imported, ReadOptions, read};

use crate::support::{assert_close, npz, run};

/// The folder with the networks, written once.
fn networks() -> Option<PathBuf> {
    let python = std::env::var("EDGESMITH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", "import numpy, onnx, onnxruntime"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        let message = format!("{python} has no onnx and onnxruntime: networks were not built");
        assert!(std::env::var_os("EDGESMITH_REQUIRE_ONNX").is_none(), "{message}");
        println!("{message}");
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx-networks");
    std::fs::create_dir_all(&folder).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/onnx_networks.py");
    let written = Command::new(python).arg(script).arg(&folder).current_dir(&folder).status();
    assert!(written.unwrap().success(), "the networks are written");
    Some(folder)
}

fn kinds(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    graph.nodes().for_each(|(_, node)| *kinds.entry(node.op.kind()).or_default() += 1);
    kinds
}

#[test]
fn networks_from_public_definitions() {
    let Some(folder) = networks() else { return };
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "onnx") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let imported = read(&std::fs::read(&path).unwrap(), &ReadOptions::default());
        let imported = imported.unwrap_or_else(|errors| panic!("{name}: {errors}"));
        let arrays = folder.join(format!("{name}.npz"));
        let outputs = run(&imported, &[npz(&arrays, "input")]);
        for (place, output) in outputs.iter().enumerate() {
            let key = if place == 0 { "output".to_owned() } else { format!("output{place}") };
            assert_close(&format!("{name} {key}"), output, &npz(&arrays, &key), 1e-4);
        }
        println!("{name}: {:?}", kinds(&imported.graph));
        all.insert(name, imported);
    }
    let count =
        |name: &str, kind: &str| kinds(&all[name].graph).get(kind).copied().unwrap_or_default();
    // What is written in parts is recognised.
    assert_eq!(count("attention", "layer_normalization"), 3);
    assert_eq!(count("attention", "binary"), 0);
    assert_eq!(count("attention", "matrix_product"), 2);
    assert_eq!(count("attention", "linear"), 5);
    assert_eq!(count("attention", "transpose"), 0);
    // Convolution, GELU, a scale of the query.
    assert_eq!(count("attention", "map"), 2);
    // Shuffles are a choice of channels, and the layouts of Keras are resolved.
    assert_eq!((count("shuffle", "transpose"), count("shuffle", "reshape")), (0, 0));
    assert_eq!((count("channels_last", "transpose"), count("channels_last", "reshape")), (0, 0));
    assert_eq!(count("group_norm", "binary"), 0);
    let quantization = all["quantized"].quantization.as_ref().unwrap();
    let scaled = |imported: &Imported| {
        imported.graph.parameters().filter(|(id, _)| quantization.parameter(*id).is_some()).count()
    };
    assert_eq!(scaled(&all["quantized"]), 2);
}
