//! A file of version 2 with every kind of layer that there was then, written when the version was
//! new; `leveled.rs` has those that came later. It is read,
//! computes what its own test vectors say, and is written as the same bytes.

use edgesmith_edge_runtime::*;

const FILE: &[u8] = include_bytes!("written/every_kind.edge");

/// The model of the file, without its test vectors.
fn model() -> Model {
    let quantization = Quantization { scale: 0.02, zero_point: 120 };
    let (fp32, bytes) = (Element::Fp32, Element::Uint8(quantization));
    let shape = Shape::new(&[2, 4, 3]).unwrap();
    let normalization = Normalization::new(vec![0.4, 0.5], vec![0.25, 0.2], bytes);
    let inputs = vec![
        Input {
            name: "numbers".to_owned(),
            shape,
            order: vec![1, 2, 0],
            array: Array::Fp32,
            element: fp32,
        },
        Input {
            name: "image".to_owned(),
            shape,
            order: vec![0, 1, 2],
            array: Array::Bytes(normalization),
            element: bytes,
        },
    ];
    let (real, byte) = (ValueId(0), ValueId(1));
    let mut nodes = Vec::new();
    let mut add = |inputs: &[ValueId], layer: Layer, output| {
        nodes.push(Node { inputs: inputs.to_vec(), layer, output });
    };
    let half = Requantization::from_real(0.5);
    let small = Requantization::from_real(0.004);
    let axes = || vec![WindowAxis::new(3, 1, 1), WindowAxis::new(2, 2, 1)];
    let transposed = || {
        let (dilation, before, after) = (1, 1, 0);
        vec![TransposedAxis { kernel: 2, stride: 2, dilation, before, after, extra: 1 }; 2]
    };
    // Exact, so that every compiler makes the same.
    let floats =
        |count: usize| (0..count).map(|i| (i * 37 % 64) as f32 / 32.0 - 1.0).collect::<Vec<_>>();
    let ints = |count: usize| (0..count).map(|i| (i * 37 % 255) as u8 as i8).collect::<Vec<_>>();
    let conv = Conv {
        in_channels: 2,
        out_channels: 4,
        groups: 2,
        axes: axes(),
        weight: floats(24),
        bias: floats(4),
    };
    let activation = Activation::Clip { low: -0.5, high: 2.0 };
    add(&[real], FloatConv { conv, activation }.into(), fp32);
    let conv = Conv {
        in_channels: 2,
        out_channels: 3,
        groups: 1,
        axes: axes(),
        weight: ints(36),
        bias: vec![100, -200, 300],
    };
    let (requantize, clamp) = (vec![small; 3], (120, 255));
    let weight_scale = vec![0.25, 0.5, 1.0];
    add(&[byte], IntConv { conv, weight_scale, requantize, clamp }.into(), bytes);
    let conv = ConvTranspose {
        in_channels: 2,
        out_channels: 2,
        groups: 1,
        axes: transposed(),
        weight: floats(16),
        bias: floats(2),
    };
    add(&[real], FloatConvTranspose { conv, activation: Activation::Relu }.into(), fp32);
    let conv = ConvTranspose {
        in_channels: 2,
        out_channels: 2,
        groups: 2,
        axes: transposed(),
        weight: ints(8),
        bias: vec![7, -7],
    };
    let (requantize, clamp) = (vec![small; 2], (0, 255));
    let weight_scale = Vec::new();
    add(&[byte], IntConvTranspose { conv, weight_scale, requantize, clamp }.into(), bytes);
    let (in_features, out_features) = (24, 2);
    let (weight, bias) = (floats(48), floats(2));
    add(&[real], FloatLinear { in_features, out_features, weight, bias }.into(), fp32);
    let (weight, bias) = (ints(48), vec![9, -9]);
    let linear = Linear { in_features, out_features, weight, bias };
    add(&[byte], IntLinear { linear, logit_scale: vec![0.001, 0.002] }.into(), fp32);
    let functions = [
        Function::Absolute,
        Function::Clip { low: -0.25, high: f32::INFINITY },
        Function::Elu { alpha: 0.5 },
        Function::Erf,
        Function::Exponential,
        Function::Gelu,
        Function::GeluTanh,
        Function::HardSigmoid { slope: 0.2, offset: 0.5 },
        Function::HardSwish,
        Function::LeakyRelu { slope: 0.1 },
        Function::Power { exponent: 2.0 },
        Function::Scale { factor: 2.0, offset: -1.0 },
        Function::Sigmoid,
        Function::Silu,
        Function::Softplus,
        Function::Tanh,
    ];
    for function in functions {
        add(&[real], Map { function }.into(), fp32);
    }
    let positive = ValueId(2 + 6);
    for function in [Function::Logarithm, Function::SquareRoot] {
        add(&[positive], Map { function }.into(), fp32);
    }
    let tables = (0..=255).rev().collect();
    add(&[byte], Table { function: Some(Function::Tanh), tables }.into(), bytes);
    let tables = (0..512).map(|i| (i * 7) as u8).collect();
    add(&[byte], Table { function: None, tables }.into(), bytes);
    add(&[real], Prelu { slope: vec![0.5, -0.5] }.into(), fp32);
    for function in [
        BinaryFunction::Add,
        BinaryFunction::Divide,
        BinaryFunction::Equal,
        BinaryFunction::Less,
        BinaryFunction::LessOrEqual,
        BinaryFunction::Maximum,
        BinaryFunction::Minimum,
        BinaryFunction::Multiply,
        BinaryFunction::Power,
        BinaryFunction::Subtract,
    ] {
        add(&[positive, real], Binary { function }.into(), fp32);
    }
    add(&[real, positive, real], Select.into(), fp32);
    add(&[byte, byte], IntSum::from_real([0.75, -1.5], (3, 250)).into(), bytes);
    add(&[byte, byte], IntProduct { requantize: small, clamp: (3, 250) }.into(), bytes);
    let sum = IntAddTwice { sides: [half; 2], output: small, clamp: (0, 255) };
    add(&[byte, byte], sum.into(), bytes);
    add(&[real], Quantize.into(), bytes);
    add(&[byte], Dequantize.into(), fp32);
    add(&[byte, byte], Concat { axis: 1 }.into(), bytes);
    add(&[real], Gather { axis: 2, indices: vec![2, 0, 2] }.into(), fp32);
    let numbers = Numbers::Fp32(floats(6));
    add(&[], Constant { sizes: vec![2, 3], numbers }.into(), fp32);
    let numbers = Numbers::Bytes(vec![1, 2, 3]);
    add(&[], Constant { sizes: vec![3], numbers }.into(), bytes);
    let (scale, shift) = (floats(6), floats(6));
    let layer = LayerNormalization { axes: vec![0, 2], epsilon: 1e-5, scale, shift };
    add(&[real], layer.into(), fp32);
    add(&[real, real], MatrixProduct { transposed: [true, false] }.into(), fp32);
    add(&[real], Softmax { axis: 0, log: false }.into(), fp32);
    add(&[real], Softmax { axis: 2, log: true }.into(), fp32);
    add(&[byte], Transpose { order: vec![2, 0, 1] }.into(), bytes);
    add(&[byte], Reshape { sizes: vec![3, 8] }.into(), bytes);
    let fill = Fill::Fp32(-1.0);
    add(&[real], Pad { before: vec![0, 1, 2], after: vec![1, 0, 0], fill }.into(), fp32);
    let fill = Fill::Byte(9);
    add(&[byte], Pad { before: vec![0, 1, 0], after: vec![0, 0, 1], fill }.into(), bytes);
    add(&[byte], MaxPool { axes: axes() }.into(), bytes);
    let pool = AveragePool { axes: axes(), counted: vec![(0, 1), (1, 0)] };
    let counts = pool.counts(&shape).unwrap().into_iter();
    let factor = |count| Requantization::from_real(0.9 / f64::from(count));
    let factors = counts.map(|count| (count, factor(count))).collect();
    add(&[real], pool.clone().into(), fp32);
    add(&[byte], IntAveragePool { pool, factors }.into(), bytes);
    use ReduceFunction::*;
    for (function, keep) in
        [(Mean, true), (Sum, false), (Maximum, true), (Minimum, false), (L2, true)]
    {
        add(&[real], Reduce { function, axes: vec![2], keep }.into(), fp32);
        if function != L2 {
            let reduce = Reduce { function, axes: vec![1, 2], keep };
            add(&[byte], IntReduce { reduce, requantize: half }.into(), bytes);
        }
    }
    let taps = |weights: [f32; 2]| vec![Taps { indices: [0, 2], weights }; 5];
    add(&[real], Resize { axes: vec![taps([0.25, 0.75]), taps([1.0, 0.0])] }.into(), fp32);
    let taps = |weights: [u32; 2]| vec![Taps { indices: [1, 2], weights }; 2];
    add(&[byte], IntResize { axes: vec![taps([512, 1536]), taps([2048, 0])] }.into(), bytes);
    let mut model = Model {
        inputs,
        nodes,
        outputs: vec![Output::new("placeholder", real, 3)],
        rounding: Rounding::Once,
        notes: Notes {
            classes: Vec::new(),
            preprocessing: vec![("colour".to_owned(), "rgb".to_owned())],
            provenance: vec![("study".to_owned(), "golden".to_owned())],
            tests: Vec::new(),
            tolerances: Vec::new(),
            others: vec![Section { tag: *b"more", bytes: vec![1, 2, 3] }],
        },
    };
    // All values are outputs.
    let values = model.validate().unwrap();
    let output =
        |value: &Value| Output::new(&format!("v{}", value.id.0), value.id, value.shape.axes());
    model.outputs = values.all().iter().map(output).collect();
    model
}

#[test]
fn a_file_with_every_kind_stays_readable() {
    let read = Model::from_bytes(FILE).unwrap();
    assert_eq!(read.to_bytes(), FILE);
    let expected =
        Model { notes: Notes { tests: Vec::new(), ..read.notes.clone() }, ..read.clone() };
    assert_eq!(model(), expected);
    for mut session in Session::each(&read).unwrap() {
        let test = &read.notes.tests[0];
        assert!(session.difference(test).unwrap() < 1e-4);
        // Bytes are the same, bit for bit.
        for ((output, array), expected) in
            read.outputs.iter().zip(session.outputs()).zip(&test.outputs)
        {
            let values = read.validate().unwrap();
            if values.all()[output.value.0 as usize].element != Element::Fp32 {
                assert_eq!(array, expected, "{}", output.name);
            }
        }
    }
}

#[test]
fn it_has_every_kind_of_then() {
    let names: std::collections::BTreeSet<&str> =
        model().nodes.iter().map(|node| node.layer.name()).collect();
    assert_eq!(names.len(), 32);
}
