//! The shared networks: each computes what was recorded.

use std::collections::BTreeMap;
use std::path::Path;

use edgesmith_graph::{Graph, Op, Operation as _};
use edgesmith_onnx::read::{Imported, PortAxis, ReadOptions, read};

use crate::support::{Numbers, assert_close, npz, run, shared};

fn import(path: &Path, shapes: &[(&str, &[u32])]) -> Imported {
    let shapes = shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec()));
    let options = ReadOptions { input_shapes: shapes.collect(), ..ReadOptions::default() };
    let imported = read(&std::fs::read(path).unwrap(), &options);
    imported.unwrap_or_else(|errors| panic!("{}: {errors}", path.display()))
}

fn kinds(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    graph.nodes().for_each(|(_, node)| *kinds.entry(node.op.kind()).or_default() += 1);
    kinds
}

fn moves(graph: &Graph) -> usize {
    let moves = |op: &Op| matches!(op, Op::Transpose(_) | Op::Reshape(_) | Op::Gather(_));
    graph.nodes().filter(|(_, node)| moves(&node.op)).count()
}

#[test]
fn exports_of_pytorch() {
    let Some(folder) = shared("onnx-pytorch") else { return };
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "onnx")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let arrays = path.with_file_name(format!("{}.npz", name.split('.').next().unwrap()));
        let imported = import(path, &[]);
        println!("{name}: {:?}", kinds(&imported.graph));
        let output = run(&imported, &[npz(&arrays, "input")]);
        assert_close(name, &output[0], &npz(&arrays, "output"), 1e-4);
        let fixed = name.contains("dynamo").then_some(3);
        assert_eq!(imported.inputs[0].axes[0], PortAxis::Batch(fixed), "{name}");
        assert_eq!(moves(&imported.graph), 0, "{name}");
    }
}

#[test]
fn networks_of_products() {
    let Some(folder) = shared("onnx-real") else { return };
    for (name, shape) in
        [("page_orientation", [2, 3, 224, 224]), ("text_orientation_cls", [2, 3, 48, 192])]
    {
        let path = folder.join(format!("{name}.onnx"));
        let arrays = folder.join(format!("{name}.npz"));
        let imported = import(&path, &[("x", &shape)]);
        println!("{name}: {:?}", kinds(&imported.graph));
        let input = npz(&arrays, "input");
        assert_eq!(input.dims, shape.map(|size| size as usize));
        let output = run(&imported, &[input]);
        assert_close(name, &output[0], &npz(&arrays, "output"), 1e-4);
        assert_eq!(imported.inputs[0].axes[0], PortAxis::Batch(None), "{name}");
        assert_eq!(moves(&imported.graph), 0, "{name}");
    }
    let bytes = std::fs::read(folder.join("text_orientation_cls.onnx")).unwrap();
    let error = read(&bytes, &ReadOptions::default()).unwrap_err().to_string();
    assert_eq!(error, "input \"x\" has free sizes (?, 3, ?, ?); give --input-shape x=1,3,?,?");
}

#[test]
fn networks_of_mlperf_tiny() {
    let Some(folder) = shared("mlperf-tiny") else { return };
    for (name, dims) in [
        ("ad_autoencoder", vec![2, 640]),
        ("ic_resnet8", vec![2, 32, 32, 3]),
        ("kws_dscnn_weightonly", vec![2, 49, 10, 1]),
        ("vww_mobilenetv1_025_96", vec![2, 96, 96, 3]),
    ] {
        let imported = import(&folder.join(format!("{name}.onnx")), &[]);
        println!("{name}: {:?}", kinds(&imported.graph));
        let elements = dims.iter().product::<usize>();
        let data = (0..elements).map(|i| (i % 17) as f32 / 17.0).collect();
        let output = run(&imported, &[Numbers { dims, data }]);
        assert!(output[0].data.iter().all(|x| x.is_finite()), "{name}");
        assert_eq!(moves(&imported.graph), 0, "{name}");
    }
}
