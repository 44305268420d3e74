//! Shared by the tests: arrays of NumPy, and running a network that was read.

use std::io::Read;
use std::path::{Path, PathBuf};

use edgesmith_graph::Evaluator;
use edgesmith_onnx::read::{Imported, Port, PortAxis};

/// An array of real numbers, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    pub dims: Vec<usize>,
    pub data: Vec<f32>,
}

/// A folder of the shared data, if it is there.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut folders = above.map(|above| above.join("shared/data").join(folder));
    if let Some(found) = folders.find(|folder| folder.is_dir()) {
        return Some(found);
    }
    println!("there is no folder {folder} of shared data: its networks are not read");
    None
}

/// An array of a `.npz` file.
pub fn npz(path: &Path, name: &str) -> Numbers {
    let bytes = std::fs::read(path).unwrap();
    let number = |at: usize, width: usize| -> usize {
        bytes[at..at + width].iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte))
    };
    // The list of entries is at the end.
    let end =
        (0..bytes.len() - 3).rev().find(|&at| bytes[at..].starts_with(b"PK\x05\x06")).unwrap();
    let mut at = number(end + 16, 4);
    for _ in 0..number(end + 10, 2) {
        let [named, extra, comment] = [28, 30, 32].map(|field| number(at + field, 2));
        let entry = std::str::from_utf8(&bytes[at + 46..at + 46 + named]).unwrap();
        if entry == format!("{name}.npy") {
            let header = number(at + 42, 4);
            let start = header + 30 + number(header + 26, 2) + number(header + 28, 2);
            let stored = &bytes[start..start + number(at + 20, 4)];
            if number(at + 10, 2) == 0 {
                return npy(stored);
            }
            let mut plain = vec![];
            flate2::read::DeflateDecoder::new(stored).read_to_end(&mut plain).unwrap();
            return npy(&plain);
        }
        at += 46 + named + extra + comment;
    }
    panic!("{} has no array {name}", path.display());
}

/// An array of float32 in rows.
fn npy(bytes: &[u8]) -> Numbers {
    let wide = bytes[6] > 1;
    let start = if wide { 12 } else { 10 };
    let length = usize::from(bytes[8]) + (usize::from(bytes[9]) << 8);
    let header = std::str::from_utf8(&bytes[start..start + length]).unwrap();
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split_once('(').unwrap().1.split_once(')').unwrap().0;
    let dims = shape.split(',').filter_map(|dim| dim.trim().parse().ok()).collect();
    let numbers = bytes[start + length..].chunks_exact(4);
    let data = numbers.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Numbers { dims, data }
}

/// The outputs of a network for tensors as the file has them.
pub fn run(imported: &Imported, inputs: &[Numbers]) -> Vec<Numbers> {
    let examples = examples(imported, inputs);
    let evaluator = Evaluator::<f32>::new(&imported.graph, &imported.weights);
    let graph = &imported.graph;
    let runs: Vec<Vec<Vec<f32>>> = (0..examples)
        .map(|example| {
            let ports = imported.inputs.iter().zip(inputs).zip(graph.inputs());
            let values = ports.map(|((port, numbers), id)| {
                let mut value = vec![0.0; graph.shape(id).elements() as usize];
                let places = places(port, &numbers.dims, &sizes(imported, id), example);
                for (place, from) in places {
                    value[place] = numbers.data[from];
                }
                value
            });
            evaluator.run(values.collect())
        })
        .collect();
    let outputs = imported.outputs.iter().zip(graph.outputs());
    outputs
        .map(|(port, &id)| {
            let sizes = sizes(imported, id);
            let dims: Vec<usize> = port
                .axes
                .iter()
                .map(|axis| match axis {
                    PortAxis::Batch(_) => examples,
                    PortAxis::Of(of) => sizes[*of as usize],
                    PortAxis::One => 1,
                })
                .collect();
            let mut data = vec![f32::NAN; dims.iter().product()];
            for (example, values) in runs.iter().enumerate() {
                for (place, to) in places(port, &dims, &sizes, example) {
                    data[to] = values[id.index()][place];
                }
            }
            Numbers { dims, data }
        })
        .collect()
}

fn examples(imported: &Imported, inputs: &[Numbers]) -> usize {
    let batch = |port: &Port| port.axes.iter().position(|a| matches!(a, PortAxis::Batch(_)));
    let mut ports = imported.inputs.iter().zip(inputs);
    ports.find_map(|(port, numbers)| batch(port).map(|axis| numbers.dims[axis])).unwrap_or(1)
}

fn sizes(imported: &Imported, id: edgesmith_graph::ValueId) -> Vec<usize> {
    let shape = imported.graph.shape(id);
    let space = shape.space().iter();
    std::iter::once(&shape.channels()).chain(space).map(|&size| size as usize).collect()
}

/// For the numbers of an example: the place in the value, and that in the tensor.
fn places(port: &Port, dims: &[usize], sizes: &[usize], example: usize) -> Vec<(usize, usize)> {
    let mut places = vec![(0, 0)];
    for (axis, &dim) in port.axes.iter().zip(dims) {
        let step: usize = match axis {
            PortAxis::Of(of) => sizes[*of as usize + 1..].iter().product(),
            PortAxis::Batch(_) | PortAxis::One => 0,
        };
        let range = match axis {
            PortAxis::Batch(_) => example..example + 1,
            PortAxis::Of(_) | PortAxis::One => 0..dim,
        };
        places = places
            .into_iter()
            .flat_map(|(value, tensor)| {
                range.clone().map(move |index| (value + index * step, tensor * dim + index))
            })
            .collect();
    }
    places
}

/// Checks that two tensors differ by at most a share of the largest number, or of 1.
pub fn assert_close(what: &str, given: &Numbers, expected: &Numbers, tolerance: f32) {
    assert_eq!(given.dims, expected.dims, "{what}");
    let largest = expected.data.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let pairs = given.data.iter().zip(&expected.data);
    let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    let allowed = tolerance * largest.min(1.0);
    assert!(difference <= allowed, "{what}: {difference} where {allowed} is allowed");
    println!("{what}: within {:.1e} of {largest}", difference);
}

/// How two tensors differ by more than a share of each number or an absolute amount, if they do.
pub fn difference(
    given: &Numbers,
    expected: &Numbers,
    relative: f32,
    absolute: f32,
) -> Option<String> {
    if given.dims != expected.dims {
        return Some(format!("shape {:?} where {:?} is right", given.dims, expected.dims));
    }
    let near = |a: f32, b: f32| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= absolute + relative * b.abs()
    };
    let mut pairs = given.data.iter().zip(&expected.data).enumerate();
    let (place, (a, b)) = pairs.find(|(_, (a, b))| !near(**a, **b))?;
    Some(format!("number {place} is {a} where {b} is right"))
}
