//! Single operators at the edges of what they take.

use edgesmith_graph::{Function, Map, Op};
use edgesmith_onnx::read::{Imported, ReadOptions, read};

use crate::make::{File, Setting, numbers};
use crate::support::{Numbers, difference, run};

fn import(file: &File) -> Imported {
    read(&file.bytes(), &ReadOptions::default()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn error(file: &File) -> String {
    read(&file.bytes(), &ReadOptions::default()).unwrap_err().to_string()
}

#[test]
fn numbers_that_are_too_large_are_refused() {
    let pad = |pads: [i64; 4]| {
        File::new(13)
            .input("x", &[0, 4])
            .ints("pads", &[4], &pads)
            .node("Pad", &["x", "pads"], &["y"], &[])
            .output("y")
    };
    assert!(error(&pad([0, i64::MIN, 0, 0])).contains("pads are too large"));
    assert!(error(&pad([0, 0, 0, 1 << 32])).contains("pads are too large"));
    assert!(error(&pad([0, 1 << 31, 0, 1 << 31])).starts_with("node"));
    let transposed = |settings: &[(&str, Setting<'_>)]| {
        File::new(13)
            .input("x", &[0, 1, 4, 4])
            .floats("w", &[1, 1, 3, 3], &[1.0; 9])
            .node("ConvTranspose", &["x", "w"], &["y"], settings)
            .output("y")
    };
    let wanted = [("output_shape", Setting::Ints(&[i64::MIN, 8]))];
    assert!(error(&transposed(&wanted)).contains("its output_shape has a size of -9223372036854"));
    let wanted = [
        ("output_shape", Setting::Ints(&[1 << 33, 8])),
        ("output_padding", Setting::Ints(&[0xffff_ffff, 0])),
    ];
    assert!(error(&transposed(&wanted)).contains("its output_shape has a size of 8589934592"));
    let blocks = File::new(13)
        .input("x", &[0, 4, 2, 2])
        .node("DepthToSpace", &["x"], &["y"], &[("blocksize", Setting::Int(0xffff_ffff))])
        .output("y");
    assert!(error(&blocks).contains("do not divide 4 channels"));
}

#[test]
fn unknown_settings_are_named() {
    let with = |op_type: &str, opset: u8, settings: &[(&str, Setting<'_>)]| {
        let file = File::new(opset).input("x", &[0, 4, 4, 4]);
        error(&file.node(op_type, &["x"], &["y"], settings).output("y"))
    };
    let gelu = with("Gelu", 20, &[("approximate", Setting::Text("sigmoid"))]);
    assert!(gelu.contains("is not supported: its approximate is \"sigmoid\""), "{gelu}");
    let settings = [("blocksize", Setting::Int(2)), ("mode", Setting::Text("RCD"))];
    let blocks = with("DepthToSpace", 13, &settings);
    assert!(blocks.contains("is not supported: its mode is \"RCD\""), "{blocks}");
    for name in ["strides", "dilations"] {
        let kernel = ("kernel_shape", Setting::Ints(&[2, 2]));
        let pool = with("MaxPool", 13, &[kernel, (name, Setting::Ints(&[1, 0]))]);
        assert!(pool.contains(&format!("its {name} [1, 0] are not all above 0")), "{pool}");
    }
    let integers = File::new(13)
        .input("x", &[0, 4])
        .ints("i", &[1], &[3])
        .node("Sqrt", &["i"], &["r"], &[])
        .node("Add", &["x", "r"], &["y"], &[])
        .output("y");
    assert!(error(&integers).contains("it takes real numbers, but has integers"));
}

#[test]
fn zeros_have_no_direction() {
    let file = File::new(13).input("x", &[0, 3]);
    let file = file.node("LpNormalization", &["x"], &["y"], &[]).output("y");
    let x = Numbers { dims: vec![2, 3], data: vec![0.0, 0.0, 0.0, 0.0, 3.0, 4.0] };
    let y = run(&import(&file), &[x]);
    assert_eq!(y[0].data[..3], [0.0; 3]);
    assert!((y[0].data[4] - 0.6).abs() < 1e-6);
}

#[test]
fn the_whole_batch_may_be_sliced() {
    let file = |end: i64| {
        File::new(13)
            .input("x", &[4, 3])
            .ints("start", &[1], &[0])
            .ints("end", &[1], &[end])
            .ints("axis", &[1], &[0])
            .node("Slice", &["x", "start", "end", "axis"], &["s"], &[])
            .node("Relu", &["s"], &["y"], &[])
            .output("y")
    };
    assert_eq!(import(&file(4)).outputs[0].batch(), Some(4));
    // Read as one example.
    assert_eq!(import(&file(3)).outputs[0].batch(), None);
}

#[test]
fn the_batch_is_not_resized() {
    let file = |batch: i64| {
        File::new(18)
            .input("x", &[0, 2, 4, 4])
            .ints("sizes", &[4], &[batch, 2, 6, 8])
            .node(
                "Resize",
                &["x", "", "", "sizes"],
                &["y"],
                &[("keep_aspect_ratio_policy", Setting::Text("not_larger"))],
            )
            .output("y")
    };
    let error = error(&file(3));
    assert!(error.contains("it resizes the batch"), "{error}");
    let fixed = File::new(18)
        .input("x", &[8, 2, 4, 4])
        .ints("sizes", &[3], &[8, 6, 8])
        .node(
            "Resize",
            &["x", "", "", "sizes"],
            &["y"],
            &[
                ("keep_aspect_ratio_policy", Setting::Text("not_smaller")),
                ("axes", Setting::Ints(&[0, 2, 3])),
            ],
        )
        .output("y");
    let x = numbers(&[8, 2, 4, 4], 1);
    assert_eq!(run(&import(&fixed), &[x])[0].dims, [8, 2, 8, 8]);
}

#[test]
fn only_a_cube_makes_a_gelu() {
    let file = |exponent: f32| {
        File::new(13)
            .input("x", &[0, 4])
            .floats("e", &[], &[exponent])
            .floats("c", &[], &[0.044_715])
            .floats("r", &[], &[0.797_884_6])
            .floats("one", &[], &[1.0])
            .floats("half", &[], &[0.5])
            .node("Pow", &["x", "e"], &["p"], &[])
            .node("Mul", &["p", "c"], &["m"], &[])
            .node("Add", &["x", "m"], &["a"], &[])
            .node("Mul", &["a", "r"], &["s"], &[])
            .node("Tanh", &["s"], &["t"], &[])
            .node("Add", &["t", "one"], &["u"], &[])
            .node("Mul", &["x", "u"], &["v"], &[])
            .node("Mul", &["v", "half"], &["y"], &[])
            .output("y")
    };
    let gelus = |exponent: f32| {
        let gelu = Map { function: Function::GeluTanh };
        let imported = import(&file(exponent));
        imported.graph.nodes().filter(|(_, node)| node.op == Op::from(gelu)).count()
    };
    assert_eq!((gelus(3.0), gelus(3.5)), (1, 0));
}

#[test]
fn blocks_have_rows_and_columns() {
    for op_type in ["DepthToSpace", "SpaceToDepth"] {
        for settings in [&[("blocksize", Setting::Int(0))][..], &[]] {
            let file = File::new(13).input("x", &[0, 4, 4, 4]);
            let error = error(&file.node(op_type, &["x"], &["y"], settings).output("y"));
            assert!(error.contains("its blocksize is 0"), "{error}");
        }
    }
}

#[test]
fn free_sizes_are_shown_by_their_names() {
    let file = File::new(13).input("x", &[0, 3, 0]).node("Relu", &["x"], &["y"], &[]).output("y");
    assert_eq!(
        error(&file),
        "input \"x\" has free sizes (n, 3, n); give --input-shape x=1,3,n, with numbers for the \
         names"
    );
}

/// `z[n, l] = sum over i, j, k of x[n, i] * x[n, j] * v[i, j, k] * w[k, l]`
#[test]
fn an_einsum_of_several_tensors_is_a_product_after_the_other() {
    let file = |equation: &str| {
        let inputs = ["x", "x", "v", "w"];
        File::new(13)
            .input("x", &[0, 2])
            .floats("v", &[2, 2, 3], &numbers(&[12], 2).data)
            .floats("w", &[3, 4], &numbers(&[12], 3).data)
            .node("Einsum", &inputs, &["y"], &[("equation", Setting::Text(equation))])
            .output("y")
    };
    let x = numbers(&[5, 2], 1);
    let (v, w) = (numbers(&[12], 2).data, numbers(&[12], 3).data);
    let mut expected = vec![0.0; 5 * 4];
    for (at, result) in expected.iter_mut().enumerate() {
        let (n, l) = (at / 4, at % 4);
        for (i, j, k) in (0..12).map(|at| (at / 6, at / 3 % 2, at % 3)) {
            *result += x.data[n * 2 + i] * x.data[n * 2 + j] * v[at_of(i, j, k)] * w[k * 4 + l];
        }
    }
    let expected = Numbers { dims: vec![5, 4], data: expected };
    let result = run(&import(&file("ni,nj,ijk,kl->nl")), std::slice::from_ref(&x));
    assert_eq!(difference(&result[0], &expected, 1e-5, 1e-5), None);
    let sum = run(&import(&file("ni,nj,ijk,kl->n")), std::slice::from_ref(&x));
    let sums = expected.data.chunks(4).map(|row| row.iter().sum()).collect();
    let expected = Numbers { dims: vec![5], data: sums };
    assert_eq!(difference(&sum[0], &expected, 1e-5, 1e-5), None);
    // Without an arrow, what is there once.
    let file = File::new(13)
        .input("x", &[0, 2])
        .floats("w", &[2, 3], &numbers(&[6], 2).data)
        .node("Einsum", &["x", "w"], &["y"], &[("equation", Setting::Text("ni,ia"))])
        .output("y");
    // The letters of the result come in the order of the alphabet: `a`, and then `n`.
    assert_eq!(run(&import(&file), &[x])[0].dims, [3, 5]);
    // Half an arrow is no letter.
    for equation in ["a-b", "a>b"] {
        let file = File::new(13)
            .input("x", &[0, 2, 3])
            .node("Einsum", &["x"], &["y"], &[("equation", Setting::Text(equation))])
            .output("y");
        let error = error(&file);
        assert!(error.contains("is not a product of matrices"), "{equation}: {error}");
    }
}

fn at_of(i: usize, j: usize, k: usize) -> usize {
    (i * 2 + j) * 3 + k
}

#[test]
fn channels_around_a_channel_normalise_it() {
    let settings = |size: i64| {
        vec![
            ("size", Setting::Int(size)),
            ("alpha", Setting::Float(0.5)),
            ("beta", Setting::Float(0.6)),
            ("bias", Setting::Float(1.5)),
        ]
    };
    let file = |size: i64| {
        File::new(13)
            .input("x", &[0, 5, 2, 3])
            .node("LRN", &["x"], &["y"], &settings(size))
            .output("y")
    };
    let x = numbers(&[2, 5, 2, 3], 1);
    for size in [1, 3, 4] {
        let mut expected = x.clone();
        for (at, number) in expected.data.iter_mut().enumerate() {
            let (example, channel, place) = (at / 30, at / 6 % 5, at % 6);
            let first = channel.saturating_sub((size - 1) / 2);
            let last = (channel + size / 2).min(4);
            let squares = (first..=last).map(|c| x.data[example * 30 + c * 6 + place].powi(2));
            let mean = squares.sum::<f32>() / size as f32;
            *number /= (1.5 + 0.5 * mean).powf(0.6);
        }
        let result = run(&import(&file(size as i64)), std::slice::from_ref(&x));
        assert_eq!(difference(&result[0], &expected, 1e-5, 1e-5), None, "{size}");
    }
    assert!(error(&file(0)).contains("a size of 0"));
}
