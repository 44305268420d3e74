//! Shared ONNX networks, read, lowered and run by the engine from its file: they compute what was
//! recorded. Without the folder of shared data the tests say so and pass.

use std::path::{Path, PathBuf};

use edgesmith_compress::fold;
use edgesmith_data::arrays::{NumberArray, read_npz};
use edgesmith_edge_runtime::{Model, Session, Tensor};
use edgesmith_graph::Evaluator;
use edgesmith_onnx::read::{Imported, ReadOptions, read};
use edgesmith_worker::export::{Interface, lift, lower_as, onnx};

/// A folder of the shared data, if it is there.
fn shared(folder: &str) -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut folders = above.map(|above| above.join("shared/data").join(folder));
    let found = folders.find(|folder| folder.is_dir());
    if found.is_none() {
        println!("there is no folder {folder} of shared data: its networks are not run");
    }
    found
}

fn import(path: &Path, shapes: &[(&str, &[u32])]) -> Imported {
    let shapes = shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec()));
    let options = ReadOptions { input_shapes: shapes.collect(), ..ReadOptions::default() };
    let imported = read(&std::fs::read(path).unwrap(), &options);
    imported.unwrap_or_else(|errors| panic!("{}: {errors}", path.display()))
}

/// The network in the engine, read back from its file.
fn engine(imported: &Imported) -> Session {
    Session::new(&model(imported)).unwrap()
}

fn model(imported: &Imported) -> Model {
    let (graph, weights) = fold(&imported.graph, &imported.weights);
    let model = lower_as(&graph, &weights, None, &Interface::imported(imported)).unwrap();
    Model::from_bytes(&model.to_bytes()).unwrap()
}

/// The network from the ONNX file that is made of the engine's model.
fn exported(imported: &Imported) -> Imported {
    let file = onnx::of_lifted(&lift(&model(imported)).unwrap(), &[]);
    read(&file, &ReadOptions::default()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn array(path: &Path, name: &str) -> NumberArray {
    let arrays = read_npz(&std::fs::read(path).unwrap()).unwrap();
    arrays.into_iter().find(|(other, _)| other == name).unwrap().1
}

/// Runs all examples of the recorded arrays. The largest difference, as a share of the largest
/// output, or of 1.
fn difference(imported: &Imported, arrays: &Path) -> f32 {
    let mut session = engine(imported);
    let [input, output] = ["input", "output"].map(|name| array(arrays, name));
    let (examples, mut largest, mut worst) = (input.shape[0], 1f32, 0f32);
    let inputs = input.numbers.chunks_exact(input.numbers.len() / examples);
    let outputs = output.numbers.chunks_exact(output.numbers.len() / examples);
    for (input, output) in inputs.zip(outputs) {
        session.run_on(&[Tensor::Fp32(input)]).unwrap();
        assert_eq!(session.output(0).len(), output.len());
        for (found, expected) in session.output(0).iter().zip(output) {
            largest = largest.max(expected.abs());
            worst = worst.max((found - expected).abs());
        }
    }
    worst / largest
}

#[test]
fn the_engine_computes_what_was_recorded() {
    let mut networks = Vec::new();
    if let Some(folder) = shared("onnx-pytorch") {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        for path in files.filter(|path| path.extension().is_some_and(|e| e == "onnx")) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let arrays = path.with_file_name(format!("{}.npz", name.split('.').next().unwrap()));
            networks.push((import(&path, &[]), name.to_owned(), arrays));
        }
    }
    if let Some(folder) = shared("onnx-real") {
        for (name, shape) in
            [("page_orientation", [2, 3, 224, 224]), ("text_orientation_cls", [2, 3, 48, 192])]
        {
            let imported = import(&folder.join(format!("{name}.onnx")), &[("x", &shape)]);
            networks.push((imported, name.to_owned(), folder.join(format!("{name}.npz"))));
        }
    }
    for (imported, name, arrays) in networks {
        let difference = difference(&imported, &arrays);
        println!("{name}: {difference:e}");
        assert!(difference <= 1e-4, "{name}: {difference}");
        // And so does what is exported of the engine's model.
        let difference = self::difference(&exported(&imported), &arrays);
        assert!(difference <= 1e-4, "{name}, exported: {difference}");
    }
}

/// These have no recorded outputs; the graph's own evaluation has to agree.
#[test]
fn the_engine_computes_what_the_graph_does() {
    let Some(folder) = shared("mlperf-tiny") else { return };
    for name in ["ad_autoencoder", "ic_resnet8", "kws_dscnn_weightonly", "vww_mobilenetv1_025_96"] {
        let imported = import(&folder.join(format!("{name}.onnx")), &[]);
        let Imported { graph, weights, .. } = &imported;
        let order = &Interface::imported(&imported).inputs[0].order;
        let sizes = graph.input().sizes();
        let count = graph.input().elements() as usize;
        let outside: Vec<f32> = (0..count).map(|i| (i % 17) as f32 / 17.0).collect();
        // The same numbers channel by channel.
        let mut listed = vec![0.0; count];
        for (at, number) in outside.iter().enumerate() {
            let (mut rest, mut place) = (at, vec![0; sizes.len()]);
            for &axis in order.iter().rev() {
                let size = sizes[axis as usize] as usize;
                place[axis as usize] = rest % size;
                rest /= size;
            }
            let listed_at =
                place.iter().zip(&*sizes).fold(0, |index, (p, &size)| index * size as usize + p);
            listed[listed_at] = *number;
        }
        let expected = Evaluator::<f32>::new(graph, weights).output(listed);
        let mut session = engine(&imported);
        session.run_on(&[Tensor::Fp32(&outside)]).unwrap();
        for (found, expected) in session.output(0).iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{name}");
        }
    }
}
