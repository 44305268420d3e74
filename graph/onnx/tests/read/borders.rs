//! How tensors at the border of a file lie in the graph's values, and what is told beside the file.

use edgesmith_onnx::read::{BatchAxis, Imported, PortAxis, ReadOptions, read};

use crate::make::{File, Setting, numbers};
use crate::support::run;
use crate::wire::field;

fn import(file: &File, options: &ReadOptions<'_>) -> Imported {
    read(&file.bytes(), options).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Channels last, around a convolution.
fn channels_last(batch: i64) -> File {
    File::new(13)
        .input("x", &[batch, 6, 5, 3])
        .floats("w", &[2, 3, 1, 1], &numbers(&[6], 1).data)
        .node("Transpose", &["x"], &["t"], &[("perm", Setting::Ints(&[0, 3, 1, 2]))])
        .node("Conv", &["t", "w"], &["c"], &[])
        .node("Transpose", &["c"], &["y"], &[("perm", Setting::Ints(&[0, 2, 3, 1]))])
        .output("y")
}

#[test]
fn axes_of_the_file_are_named() {
    use PortAxis::{Batch, Of, One};
    let imported = import(&channels_last(0), &ReadOptions::default());
    assert_eq!(imported.graph.nodes().len(), 1);
    assert_eq!(imported.graph.input().to_string(), "3x6x5");
    assert_eq!(imported.inputs[0].axes, [Batch(None), Of(1), Of(2), Of(0)]);
    assert_eq!(imported.outputs[0].axes, [Batch(None), Of(1), Of(2), Of(0)]);
    let fixed = import(&channels_last(4), &ReadOptions::default());
    assert_eq!(fixed.inputs[0].axes[0], Batch(Some(4)));
    assert_eq!(fixed.outputs[0].batch(), Some(4));
    let options = ReadOptions { batch: BatchAxis::None, ..ReadOptions::default() };
    let single = import(&channels_last(1), &options);
    assert_eq!(single.inputs[0].axes, [One, Of(1), Of(2), Of(0)]);
    assert_eq!(single.graph.input().to_string(), "3x6x5");
}

#[test]
fn numbers_beside_the_file_are_asked_for() {
    // float16: 1, -2
    let beside = |path: &str| match path {
        "net.data" => Ok(vec![9, 9, 0x00, 0x3c, 0x00, 0xc0]),
        other => Err(format!("there is no {other}")),
    };
    let entry = |key: &str, value: &str| {
        field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
    };
    let file = |path: &str| {
        let tensor = [
            vec![0x08, 2, 0x10, 10, 0x70, 1],
            field(8, b"w"),
            entry("location", path),
            entry("offset", "2"),
            entry("length", "4"),
        ];
        File::new(13)
            .input("x", &[0, 2])
            .constant(&tensor.concat())
            .node("Mul", &["x", "w"], &["y"], &[])
            .output("y")
    };
    let options = ReadOptions { external: Some(&beside), ..ReadOptions::default() };
    let x = numbers(&[1, 2], 5);
    let y = run(&import(&file("net.data"), &options), std::slice::from_ref(&x));
    assert_eq!(y[0].data, [x.data[0], -2.0 * x.data[1]]);
    let error = |path: &str, options: &ReadOptions<'_>| {
        read(&file(path).bytes(), options).unwrap_err().to_string()
    };
    assert!(error("other.data", &options).contains("there is no other.data"));
    assert!(error("../net.data", &options).contains("not a path below the network's folder"));
    assert!(error("net.data", &ReadOptions::default()).contains("\"net.data\" beside the network"));
}

#[test]
fn a_large_file_beside_the_network_is_read_once() {
    let (rows, columns) = (4096usize, 4352usize);
    let asked = std::cell::Cell::new(0);
    let beside = |_: &str| {
        asked.set(asked.get() + 1);
        Ok(vec![0; rows * columns * 4])
    };
    let tensor = |name: &str, dims: &[usize]| {
        let dims = dims.iter().flat_map(|&dim| [0x08, dim as u8 | 0x80, (dim >> 7) as u8]);
        let entry = |key: &str, value: &str| {
            field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
        };
        let length = if name == "b" { columns } else { rows * columns } * 4;
        [
            dims.collect(),
            vec![0x10, 1, 0x70, 1],
            field(8, name.as_bytes()),
            entry("location", "net.data"),
            entry("length", &length.to_string()),
        ]
        .concat()
    };
    let file = File::new(13)
        .input("x", &[0, rows as i64])
        .constant(&tensor("w", &[rows, columns]))
        .constant(&tensor("b", &[columns]))
        .node("MatMul", &["x", "w"], &["m"], &[])
        .node("Add", &["m", "b"], &["y"], &[])
        .output("y");
    let options = ReadOptions { external: Some(&beside), ..ReadOptions::default() };
    let imported = import(&file, &options);
    assert_eq!(imported.weights.arrays["w"].data.len(), rows * columns);
    assert_eq!(asked.get(), 1);
}

#[test]
fn shapes_that_are_given_have_to_fit() {
    let error = |name: &str, shape: &[u32]| {
        let input_shapes = [(name.to_owned(), shape.to_vec())].into();
        let options = ReadOptions { input_shapes, ..ReadOptions::default() };
        read(&channels_last(0).bytes(), &options).unwrap_err().to_string()
    };
    assert!(error("z", &[1]).contains("the network's inputs are x"));
    assert!(error("x", &[1, 6]).contains("it has 2 sizes, but the input has 4"));
    assert!(error("x", &[1, 7, 5, 3]).contains("axis 1 is 6 in the file, not 7"));
}
