//! What each operation computes and refuses, on numbers small enough to check by hand.

use edgesmith_graph::{
    Add, AveragePool, BatchNormalization, Binary, BinaryFunction, Clip, Concat, Constant, Conv,
    ConvTranspose, Coordinates, Dual, Effect, Flatten, Function, Gather, GlobalAveragePool, Groups,
    InferError, LayerNormalization, LeakyRelu, Linear, Map, MatrixProduct, MaxPool, Memory,
    Multiply, Op, Operands, Operation, Pad, Prelu, Reduce, ReduceFunction, Reshape, Resize,
    ResizeAxis, ResizeMode, Rounding, Select, Shape, Softmax, Transpose, TransposedAxis,
    WindowAxis,
};
use smallvec::smallvec;

fn shape(channels: u32, space: &[u32]) -> Shape {
    Shape::new(channels, space).unwrap()
}

/// The output for these inputs and parameters.
fn output(
    op: impl Into<Op>,
    inputs: &[(&Shape, &[f64])],
    parameters: &[(&[u32], &[f64])],
) -> Result<Vec<f64>, InferError> {
    let op = op.into();
    let shapes: Vec<&Shape> = inputs.iter().map(|(shape, _)| *shape).collect();
    let sizes: Vec<&[u32]> = parameters.iter().map(|(shape, _)| *shape).collect();
    let operands = Operands { inputs: &shapes, parameters: &sizes };
    let shape = op.infer(&operands)?;
    let values: Vec<&[f64]> = inputs.iter().map(|(_, values)| *values).collect();
    let numbers: Vec<&[f64]> = parameters.iter().map(|(_, numbers)| *numbers).collect();
    let output = op.evaluate(&operands, &values, &numbers, &shape);
    assert_eq!(output.len() as u64, shape.elements());
    Ok(output)
}

fn close(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (a, b) in got.iter().zip(expected) {
        assert!((a - b).abs() < 1e-12, "{got:?}, not {expected:?}");
    }
}

#[test]
fn add_and_multiply() {
    let (map, gate) = (shape(2, &[2]), shape(2, &[]));
    let (a, b) = ([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]);
    let sum = output(Add, &[(&map, &a), (&map, &b)], &[]).unwrap();
    close(&sum, &[11.0, 22.0, 33.0, 44.0]);
    let product = output(Multiply, &[(&map, &a), (&map, &b)], &[]).unwrap();
    close(&product, &[10.0, 40.0, 90.0, 160.0]);
    let scaled = output(Multiply, &[(&map, &a), (&gate, &[2.0, -1.0])], &[]).unwrap();
    close(&scaled, &[2.0, 4.0, -3.0, -4.0]);
    for op in [Op::from(Add), Op::from(Multiply)] {
        let other = shape(2, &[3]);
        let error = output(op, &[(&map, &a), (&other, &[0.0; 6])], &[]).unwrap_err().to_string();
        assert_eq!(error, "its inputs have shapes 2x2 and 2x3, which do not fit together");
    }
    // What has fewer axes has one number per channel, whichever input it is.
    let sum = output(Add, &[(&gate, &[10.0, 20.0]), (&map, &a)], &[]).unwrap();
    close(&sum, &[11.0, 12.0, 23.0, 24.0]);
    // And an axis of size 1 is repeated: one picture for all channels, one number for all positions.
    let sum = output(Add, &[(&shape(1, &[2]), &[10.0, 20.0]), (&map, &a)], &[]).unwrap();
    close(&sum, &[11.0, 22.0, 13.0, 24.0]);
    let column: (&Shape, &[f64]) = (&shape(1, &[2, 1]), &[10.0, 20.0]);
    let row: (&Shape, &[f64]) = (&shape(1, &[1, 2]), &[1.0, 2.0]);
    close(&output(Add, &[column, row], &[]).unwrap(), &[11.0, 12.0, 21.0, 22.0]);
    close(&output(Multiply, &[column, row], &[]).unwrap(), &[10.0, 20.0, 20.0, 40.0]);
    let error = output(Add, &[(&map, &a)], &[]).unwrap_err().to_string();
    assert_eq!(error, "it takes 2 inputs, but has 1");
}

/// The reason why an operation does not work on an input of zeros.
fn refusal(op: impl Into<Op>, input: &Shape) -> String {
    let zeros = vec![0.0; input.elements() as usize];
    output(op, &[(input, &zeros)], &[]).unwrap_err().to_string()
}

#[test]
fn concat_and_flatten() {
    let (one, two) = (shape(1, &[2]), shape(2, &[2]));
    let (a, b) = ([1.0, 2.0], [3.0, 4.0, 5.0, 6.0]);
    let both = output(Concat::channels(), &[(&one, &a), (&two, &b)], &[]).unwrap();
    close(&both, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert!(output(Concat::channels(), &[(&one, &a), (&shape(1, &[3]), &[0.0; 3])], &[]).is_err());
    assert_eq!(output(Concat::channels(), &[], &[]), Err(InferError::NoInputs));
    let columns = Concat { axis: 1 };
    let wide = shape(2, &[1]);
    let got = output(columns, &[(&two, &b), (&wide, &[7.0, 8.0])], &[]).unwrap();
    close(&got, &[3.0, 4.0, 7.0, 5.0, 6.0, 8.0]);
    assert!(output(columns, &[(&two, &b), (&one, &a)], &[]).is_err());
    assert!(output(columns, &[(&two, &b), (&shape(2, &[2, 1]), &b)], &[]).is_err());
    let error = refusal(Concat { axis: 2 }, &two);
    assert_eq!(error, "it works along axis 2, but its input is 2x2");
    assert!(output(Concat { axis: u32::MAX }, &[(&two, &b)], &[]).is_err());
    close(&output(Flatten, &[(&two, &b)], &[]).unwrap(), &b);
}

#[test]
fn gather() {
    let two = shape(2, &[2]);
    let x = [3.0, 4.0, 5.0, 6.0];
    let channels = Gather::channels([1, 0, 1]);
    close(&output(channels, &[(&two, &x)], &[]).unwrap(), &[5.0, 6.0, 3.0, 4.0, 5.0, 6.0]);
    let columns = Gather { axis: 1, indices: vec![1, 1, 0] };
    close(&output(columns, &[(&two, &x)], &[]).unwrap(), &[4.0, 4.0, 3.0, 6.0, 6.0, 5.0]);
    let error = output(Gather::channels([2]), &[(&two, &x)], &[]).unwrap_err();
    assert_eq!(error, InferError::Index { index: 2, axis: 0, size: 2 });
    assert_eq!(error.to_string(), "it reads index 2 of axis 0, where its input has a size of 2");
    assert!(output(Gather::channels([]), &[(&two, &x)], &[]).is_err());
    assert_eq!(
        refusal(Gather::slice(2, 0..1), &two),
        "it works along axis 2, but its input is 2x2"
    );
    assert_eq!(Gather::slice(0, 1..3), Gather::channels([1, 2]));
}

#[test]
fn transpose_and_reshape() {
    let map = shape(2, &[1, 3]);
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let transpose = |order: &[u32]| Transpose { order: order.into() };
    let got = output(transpose(&[2, 0, 1]), &[(&map, &x)], &[]).unwrap();
    close(&got, &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    close(&output(transpose(&[0, 2, 1]), &[(&map, &x)], &[]).unwrap(), &x);
    assert_eq!(
        refusal(transpose(&[1, 0]), &map),
        "its order has 2 entries, where 3 are needed for 2x1x3"
    );
    for order in [[0, 1, 1], [0, 1, 3], [u32::MAX, 0, 1]] {
        let error = refusal(transpose(&order), &map);
        assert!(error.ends_with("which does not have each axis once"), "{error}");
    }
    let reshape = |sizes: &[u32]| Reshape { sizes: sizes.into() };
    for sizes in [&[6][..], &[3, 2], &[1, 1, 6, 1]] {
        close(&output(reshape(sizes), &[(&map, &x)], &[]).unwrap(), &x);
    }
    assert_eq!(
        refusal(reshape(&[2, 2]), &map),
        "its sizes are 2x2, but its input is 2x1x3, which has another number of numbers"
    );
    for sizes in [&[][..], &[6, 0], &[u32::MAX, u32::MAX, u32::MAX]] {
        assert!(output(reshape(sizes), &[(&map, &x)], &[]).is_err());
    }
}

#[test]
fn matrix_products() {
    let (a, b) = (shape(2, &[3]), shape(3, &[2]));
    let (x, y) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, -1.0, 2.0, 0.5, 1.0]);
    let product = |transposed| MatrixProduct { transposed };
    let expected = [0.5, 7.0, 2.0, 16.0];
    let got = output(product([false, false]), &[(&a, &x), (&b, &y)], &[]).unwrap();
    close(&got, &expected);
    // The same matrices, given the other way around.
    let (a_t, b_t) = (shape(3, &[2]), shape(2, &[3]));
    let (x_t, y_t) = ([1.0, 4.0, 2.0, 5.0, 3.0, 6.0], [1.0, -1.0, 0.5, 0.0, 2.0, 1.0]);
    let got = output(product([true, true]), &[(&a_t, &x_t), (&b_t, &y_t)], &[]).unwrap();
    close(&got, &expected);
    let error = output(product([false, true]), &[(&a, &x), (&b, &y)], &[]).unwrap_err();
    assert_eq!(error, InferError::Unlike { first: "2x3".into(), other: "3x2".into() });
    let vector = shape(6, &[]);
    assert!(output(product([false, false]), &[(&vector, &x), (&vector, &y)], &[]).is_err());

    // An axis of size 1 is repeated.
    let (rows, columns) = (shape(2, &[1, 2]), shape(1, &[2, 1]));
    let got = output(product([false; 2]), &[(&rows, &x[..4]), (&columns, &[1.0, 10.0])], &[]);
    close(&got.unwrap(), &[21.0, 43.0]);
    let three = shape(3, &[2, 1]);
    assert!(output(product([false; 2]), &[(&rows, &x[..4]), (&three, &y)], &[]).is_err());
    let operands = Operands { inputs: &[&rows, &columns], parameters: &[] };
    let shape = product([false; 2]).infer(&operands).unwrap();
    assert_eq!(shape.to_string(), "2x1x1");
    assert_eq!(product([false; 2]).macs(&operands, &shape), 4);
}

#[test]
fn padding() {
    let map = shape(1, &[2, 2]);
    let x = [1.0, 2.0, 3.0, 4.0];
    let pad = |before: &[u32], after: &[u32], value| Pad {
        before: before.into(),
        after: after.into(),
        value,
    };
    let got = output(pad(&[0, 1, 0], &[0, 0, 2], 9.0), &[(&map, &x)], &[]).unwrap();
    close(&got, &[9.0, 9.0, 9.0, 9.0, 1.0, 2.0, 9.0, 9.0, 3.0, 4.0, 9.0, 9.0]);
    let got = output(pad(&[1, 0, 0], &[0, 0, 0], 0.0), &[(&map, &x)], &[]).unwrap();
    close(&got, &[0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(
        refusal(pad(&[0, 1], &[0, 0, 0], 0.0), &map),
        "its padding has 2 entries, where 3 are needed for 1x2x2"
    );
    assert_eq!(refusal(pad(&[0; 3], &[0; 3], f32::NAN), &map), "its constant is NaN");
    let huge = pad(&[u32::MAX; 3], &[u32::MAX; 3], 0.0);
    assert!(refusal(huge, &map).contains("more than"));
}

#[test]
fn average_pools_count_what_they_are_told_to() {
    let row = shape(1, &[3]);
    let x = [1.0, 2.0, 6.0];
    let pool = |before: u32, after: u32, counted: (u32, u32)| AveragePool {
        kernel: smallvec![2],
        axes: smallvec![WindowAxis { stride: 1, dilation: 1, before, after }],
        counted: smallvec![counted],
    };
    let of = |pool| output(pool, &[(&row, &x)], &[]).unwrap();
    close(&of(pool(1, 1, (0, 0))), &[1.0, 1.5, 4.0, 6.0]);
    close(&of(pool(1, 1, (1, 0))), &[0.5, 1.5, 4.0, 6.0]);
    close(&of(pool(1, 1, (1, 1))), &[0.5, 1.5, 4.0, 3.0]);
    // A window on padding that counts is a mean of zeros.
    close(&of(pool(2, 0, (2, 0))), &[0.0, 0.5, 1.5, 4.0]);
    assert_eq!(
        refusal(pool(2, 0, (0, 0)), &row),
        "with a padding of 2, a window of 2 can lie on padding alone"
    );
    assert_eq!(
        refusal(pool(1, 0, (2, 0)), &row),
        "its counted padding is (2, 0), where the padding is (1, 0)"
    );
    let dilated = AveragePool {
        kernel: smallvec![2, 2],
        axes: smallvec![WindowAxis { dilation: 2, ..WindowAxis::valid(1) }, WindowAxis::valid(2)],
        counted: smallvec![(0, 0); 2],
    };
    let numbers: Vec<f64> = (0..12).map(f64::from).collect();
    let got = output(dilated.clone(), &[(&shape(1, &[3, 4]), &numbers)], &[]).unwrap();
    close(&got, &[4.5, 6.5]);
    let few = AveragePool { counted: smallvec![], ..dilated.clone() };
    assert_eq!(
        refusal(few, &shape(1, &[3, 4])),
        "its counted padding has 0 entries, where 2 are needed for 1x3x4"
    );
    assert!(refusal(dilated, &row).starts_with("it works on 2 axes of positions"));
}

/// The last window of a larger padding reaches the input, as with `ceil_mode` in ONNX.
#[test]
fn padding_after_the_input_may_be_larger_than_a_step_of_the_last_window() {
    let row = shape(1, &[5]);
    let axis = |after| WindowAxis { stride: 4, dilation: 1, before: 0, after };
    let pool = |after| MaxPool { kernel: smallvec![2], axes: smallvec![axis(after)] };
    let x = [1.0, 2.0, 3.0, 4.0, 5.0];
    close(&output(pool(1), &[(&row, &x)], &[]).unwrap(), &[2.0, 5.0]);
    close(&output(pool(4), &[(&row, &x)], &[]).unwrap(), &[2.0, 5.0]);
    assert!(output(pool(5), &[(&row, &x)], &[]).is_err());
}

#[test]
fn resizing() {
    let row = shape(1, &[4]);
    let x = [1.0, 2.0, 4.0, 8.0];
    let resize = |mode, size, scale, coordinates| Resize {
        mode,
        axes: smallvec![ResizeAxis { size, scale, coordinates }],
    };
    let of = |resize| output(resize, &[(&row, &x)], &[]).unwrap();
    let linear =
        |size, scale, coordinates| of(resize(ResizeMode::Linear, size, scale, coordinates));
    close(&linear(8, 2.0, Coordinates::HalfPixel), &[1.0, 1.25, 1.75, 2.5, 3.5, 5.0, 7.0, 8.0]);
    close(&linear(2, 0.5, Coordinates::HalfPixel), &[1.5, 6.0]);
    close(&linear(7, 9.0, Coordinates::AlignCorners), &[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]);
    close(&linear(1, 0.25, Coordinates::AlignCorners), &[1.0]);
    close(&linear(1, 0.25, Coordinates::PytorchHalfPixel), &[1.0]);
    close(&linear(1, 0.25, Coordinates::HalfPixel), &[3.0]);
    close(&linear(8, 2.0, Coordinates::Asymmetric), &[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 8.0]);
    // Three positions where the scale says 2.8: the same on both sides.
    let moved = linear(3, 0.7, Coordinates::HalfPixelSymmetric);
    let back: Vec<f64> = x.iter().rev().copied().collect();
    let mirrored = resize(ResizeMode::Linear, 3, 0.7, Coordinates::HalfPixelSymmetric);
    let mirrored = output(mirrored, &[(&row, &back)], &[]).unwrap();
    for (a, b) in moved.iter().zip(mirrored.iter().rev()) {
        assert!((a - b).abs() < 1e-5, "{moved:?} {mirrored:?}");
    }
    let nearest = |rounding, size, scale, coordinates| {
        of(resize(ResizeMode::Nearest(rounding), size, scale, coordinates))
    };
    // Positions at 0.5 and 2.5.
    let half = |rounding| nearest(rounding, 2, 0.5, Coordinates::HalfPixel);
    close(&half(Rounding::HalfDown), &[1.0, 4.0]);
    close(&half(Rounding::HalfUp), &[2.0, 8.0]);
    close(&half(Rounding::Floor), &[1.0, 4.0]);
    close(&half(Rounding::Ceil), &[2.0, 8.0]);
    let thirds = |rounding| nearest(rounding, 6, 1.5, Coordinates::Asymmetric);
    close(&thirds(Rounding::HalfUp), &[1.0, 2.0, 2.0, 4.0, 8.0, 8.0]);
    close(&thirds(Rounding::Floor), &[1.0, 1.0, 2.0, 4.0, 4.0, 8.0]);
    close(&thirds(Rounding::Ceil), &[1.0, 2.0, 4.0, 4.0, 8.0, 8.0]);

    // Each axis by itself.
    let axes = smallvec![
        ResizeAxis { size: 1, scale: 0.5, coordinates: Coordinates::HalfPixel },
        ResizeAxis { size: 3, scale: 1.5, coordinates: Coordinates::AlignCorners },
    ];
    let both = Resize { mode: ResizeMode::Linear, axes };
    let got = output(both.clone(), &[(&shape(1, &[2, 2]), &x)], &[]).unwrap();
    close(&got, &[2.5, 3.75, 5.0]);
    assert!(refusal(both, &row).starts_with("it works on 2 axes of positions"));
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let error = refusal(resize(ResizeMode::Linear, 2, scale, Coordinates::HalfPixel), &row);
        assert!(error.starts_with("its scale is"), "{error}");
    }
    assert!(
        refusal(resize(ResizeMode::Linear, 0, 1.0, Coordinates::HalfPixel), &row)
            .contains("a size of 0")
    );
    assert!(
        refusal(resize(ResizeMode::Linear, u32::MAX, 1.0, Coordinates::HalfPixel), &row)
            .contains("more than")
    );
    // Scales at the limits of f32 read what is there.
    for coordinates in [Coordinates::HalfPixel, Coordinates::HalfPixelSymmetric] {
        for mode in [ResizeMode::Linear, ResizeMode::Nearest(Rounding::HalfDown)] {
            for scale in [f32::MIN_POSITIVE / 2.0, f32::MAX] {
                let taps = ResizeAxis { size: 3, scale, coordinates }.taps(mode, 4);
                assert!(taps.iter().flatten().all(|(at, _)| *at < 4), "{taps:?}");
            }
        }
    }
}

#[test]
fn transposed_convolutions() {
    let row = shape(1, &[2]);
    let x = [1.0, 10.0];
    let kernel: (&[u32], &[f64]) = (&[1, 1, 3], &[1.0, 2.0, 3.0]);
    let bias: (&[u32], &[f64]) = (&[1], &[100.0]);
    let conv = |stride, dilation, before, after, extra| ConvTranspose {
        axes: smallvec![TransposedAxis { stride, dilation, before, after, extra }],
        groups: Groups::Equal(1),
    };
    let of = |conv| output(conv, &[(&row, &x)], &[kernel]);
    close(&of(conv(1, 1, 0, 0, 0)).unwrap(), &[1.0, 12.0, 23.0, 30.0]);
    close(&of(conv(2, 1, 0, 0, 0)).unwrap(), &[1.0, 2.0, 13.0, 20.0, 30.0]);
    close(&of(conv(2, 1, 1, 2, 1)).unwrap(), &[2.0, 13.0, 20.0]);
    close(&of(conv(1, 2, 0, 0, 0)).unwrap(), &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    let extra = output(conv(1, 1, 0, 0, 1), &[(&row, &x)], &[kernel, bias]).unwrap();
    close(&extra, &[101.0, 112.0, 123.0, 130.0, 100.0]);
    let error = of(conv(1, 1, 2, 2, 0)).unwrap_err().to_string();
    assert_eq!(error, "its crop is 4 of 4 positions");
    assert!(of(conv(0, 1, 0, 0, 0)).is_err() && of(conv(1, 0, 0, 0, 0)).is_err());
    assert!(of(conv(u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX)).is_err());

    // Two groups: each output channel reads its half of the input.
    let two =
        ConvTranspose { axes: smallvec![TransposedAxis::valid(1); 2], groups: Groups::Equal(2) };
    let weight: (&[u32], &[f64]) = (&[2, 2, 1, 1], &[1.0, 10.0, 100.0, 1000.0]);
    let pixels = shape(4, &[1, 1]);
    let got = output(two, &[(&pixels, &[1.0, 2.0, 3.0, 4.0])], &[weight]).unwrap();
    close(&got, &[21.0, 4300.0]);
    let operands = Operands { inputs: &[&row], parameters: &[&[1, 1, 3]] };
    assert_eq!(conv(2, 1, 0, 0, 0).macs(&operands, &shape(1, &[5])), 6);
}

#[test]
fn activations() {
    let vector = shape(4, &[]);
    let x = [-4.0, -1.0, 2.0, 9.0];
    let of = |op: Op| output(op, &[(&vector, &x)], &[]).unwrap();
    close(&of(Clip::RELU.into()), &[0.0, 0.0, 2.0, 9.0]);
    close(&of(Clip::RELU6.into()), &[0.0, 0.0, 2.0, 6.0]);
    close(&of(LeakyRelu { slope: 0.25 }.into()), &[-1.0, -0.25, 2.0, 9.0]);
    for slope in [f32::NAN, f32::INFINITY] {
        assert!(output(LeakyRelu { slope }, &[(&vector, &x)], &[]).is_err());
    }
    let slopes: (&[u32], &[f64]) = (&[2], &[0.5, -1.0]);
    let pairs = shape(2, &[2]);
    let leaky = output(Prelu, &[(&pairs, &[-4.0, 2.0, -1.0, 9.0])], &[slopes]).unwrap();
    close(&leaky, &[-2.0, 2.0, 1.0, 9.0]);
    assert!(output(Prelu, &[(&vector, &x)], &[slopes]).is_err());
    for (low, high) in [(1.0, 0.0), (f32::NAN, 1.0), (0.0, f32::NAN)] {
        assert!(output(Clip { low, high }, &[(&vector, &x)], &[]).is_err());
    }
}

#[test]
fn functions_of_a_number() {
    let vector = shape(4, &[]);
    let x = [-4.0, -1.0, 2.0, 9.0];
    let of = |function| output(Map { function }, &[(&vector, &x)], &[]).unwrap();
    close(&of(Function::Absolute), &[4.0, 1.0, 2.0, 9.0]);
    close(&of(Function::HardSwish), &[0.0, -1.0 / 3.0, 5.0 / 3.0, 9.0]);
    close(&of(Function::HardSigmoid { slope: 0.25, offset: 0.5 }), &[0.0, 0.25, 1.0, 1.0]);
    close(&of(Function::Scale { factor: -2.0, offset: 1.0 }), &[9.0, 3.0, -3.0, -17.0]);
    close(&of(Function::Power { exponent: 2.0 }), &[16.0, 1.0, 4.0, 81.0]);
    close(&of(Function::Power { exponent: 3.0 })[..2], &[-64.0, -1.0]);
    close(&of(Function::SquareRoot)[3..], &[3.0]);
    let e = std::f64::consts::E;
    close(&of(Function::Elu { alpha: 2.0 })[1..3], &[2.0 / e - 2.0, 2.0]);
    close(&of(Function::Exponential)[1..3], &[1.0 / e, e * e]);
    close(&of(Function::Logarithm)[3..], &[2.0 * 3.0f64.ln()]);
    close(&of(Function::Sigmoid)[1..2], &[1.0 / (1.0 + e)]);
    close(&of(Function::Silu)[1..2], &[-1.0 / (1.0 + e)]);
    close(&of(Function::Softplus)[1..2], &[(1.0 + 1.0 / e).ln()]);
    close(&of(Function::Tanh)[1..2], &[-(e - 1.0 / e) / (e + 1.0 / e)]);
    // From tables: erf(1) and the normal distribution at 2.
    close(&of(Function::Erf)[1..2], &[-0.842_700_792_949_714_9]);
    close(&of(Function::Gelu)[2..3], &[2.0 * 0.977_249_868_051_820_8]);
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (2.0 + 0.044715 * 8.0);
    close(&of(Function::GeluTanh)[2..3], &[1.0 + inner.tanh()]);
    // Far from 0 nothing overflows.
    for x in [-1e4f32, 1e4] {
        for function in [Function::Sigmoid, Function::Silu, Function::Softplus, Function::Gelu] {
            assert!(function.of(x).is_finite(), "{function:?}");
        }
    }
    let bad = Map { function: Function::Power { exponent: f32::NAN } };
    let error = output(bad, &[(&vector, &x)], &[]).unwrap_err().to_string();
    assert_eq!(error, "its exponent is NaN");
}

#[test]
fn the_slope_of_every_function_is_its_difference() {
    let functions = [
        Function::Absolute,
        Function::Elu { alpha: 0.7 },
        Function::Erf,
        Function::Exponential,
        Function::Gelu,
        Function::GeluTanh,
        Function::HardSigmoid { slope: 0.2, offset: 0.5 },
        Function::HardSwish,
        Function::Logarithm,
        Function::Power { exponent: 1.5 },
        Function::Scale { factor: 3.0, offset: 1.0 },
        Function::Sigmoid,
        Function::Silu,
        Function::Softplus,
        Function::SquareRoot,
        Function::Tanh,
    ];
    for function in functions {
        for x in [-1.3f64, 0.4, 2.2] {
            let numeric = (function.of(x + 1e-6) - function.of(x - 1e-6)) / 2e-6;
            let exact = function.of(Dual { value: x, slope: 1.0 });
            if numeric.is_nan() {
                continue;
            }
            assert_eq!(exact.value, function.of(x));
            assert!((exact.slope - numeric).abs() < 1e-6, "{function:?} at {x}: {exact:?}");
        }
    }
}

/// Proxies of untrained networks read it.
#[test]
fn functions_say_up_to_where_they_are_off() {
    let effect = |function| Map { function }.effect();
    let off = |off_up_to| Effect::Activates { off_up_to };
    assert_eq!(effect(Function::HardSwish), off(Some(-3.0)));
    assert_eq!(effect(Function::HardSigmoid { slope: 0.25, offset: 0.5 }), off(Some(-2.0)));
    assert_eq!(effect(Function::HardSigmoid { slope: 0.0, offset: 0.5 }), off(None));
    assert_eq!(effect(Function::Gelu), off(None));
    assert_eq!(effect(Function::Scale { factor: 2.0, offset: 0.0 }), Effect::Combines);
}

#[test]
fn functions_of_two_numbers_and_a_choice() {
    let vector = shape(3, &[]);
    let (a, b) = ([4.0, -1.0, 2.0], [2.0, 3.0, 2.0]);
    let of = |function| output(Binary { function }, &[(&vector, &a), (&vector, &b)], &[]).unwrap();
    close(&of(BinaryFunction::Divide), &[2.0, -1.0 / 3.0, 1.0]);
    close(&of(BinaryFunction::Equal), &[0.0, 0.0, 1.0]);
    close(&of(BinaryFunction::Less), &[0.0, 1.0, 0.0]);
    close(&of(BinaryFunction::LessOrEqual), &[0.0, 1.0, 1.0]);
    close(&of(BinaryFunction::Maximum), &[4.0, 3.0, 2.0]);
    close(&of(BinaryFunction::Minimum), &[2.0, -1.0, 2.0]);
    close(&of(BinaryFunction::Power), &[16.0, -1.0, 4.0]);
    close(&of(BinaryFunction::Subtract), &[2.0, -4.0, 0.0]);
    let subtract = Binary { function: BinaryFunction::Subtract };
    let map = shape(3, &[2]);
    let difference = output(subtract, &[(&vector, &a), (&map, &[1.0; 6])], &[]).unwrap();
    close(&difference, &[3.0, 3.0, -2.0, -2.0, 1.0, 1.0]);

    let (one, condition) = (shape(1, &[]), [0.0, -0.5, 1.0]);
    let inputs: [(&Shape, &[f64]); 3] = [(&vector, &condition), (&one, &[7.0]), (&vector, &b)];
    close(&output(Select, &inputs, &[]).unwrap(), &[2.0, 7.0, 7.0]);
    let error = output(Select, &inputs[..2], &[]).unwrap_err().to_string();
    assert_eq!(error, "it takes 3 inputs, but has 2");
    let error = output(Select, &[inputs[0], inputs[1], (&shape(2, &[]), &[0.0; 2])], &[]);
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "its inputs have shapes 3 and 2, which do not fit together");
}

#[test]
fn reductions_keep_their_axes() {
    let map = shape(2, &[1, 3]);
    let x = [1.0, -2.0, 4.0, 3.0, 3.0, -4.0];
    let of = |function, axes: &[u32]| {
        output(Reduce { function, axes: axes.into() }, &[(&map, &x)], &[]).unwrap()
    };
    close(&of(ReduceFunction::Mean, &[2]), &[1.0, 2.0 / 3.0]);
    close(&of(ReduceFunction::Sum, &[0]), &[4.0, 1.0, 0.0]);
    close(&of(ReduceFunction::Maximum, &[1, 2]), &[4.0, 3.0]);
    close(&of(ReduceFunction::Minimum, &[0, 2]), &[-4.0]);
    close(&of(ReduceFunction::L2, &[0]), &[10.0f64.sqrt(), 13.0f64.sqrt(), 32.0f64.sqrt()]);
    let reduce = |axes: &[u32]| Reduce { function: ReduceFunction::Sum, axes: axes.into() };
    let inferred = reduce(&[0, 2]).infer(&Operands { inputs: &[&map], parameters: &[] });
    assert_eq!(inferred, Ok(shape(1, &[1, 1])));
    let error = |axes: &[u32]| output(reduce(axes), &[(&map, &x)], &[]).unwrap_err().to_string();
    assert_eq!(error(&[]), "its list of axes is [], which names none");
    assert_eq!(error(&[1, 1]), "its list of axes is [1, 1], which is not ascending");
    assert_eq!(error(&[1, 3]), "it works along axis 3, but its input is 2x1x3");
}

#[test]
fn shares_sum_to_one_along_their_axis() {
    let map = shape(2, &[2]);
    let of = |axis, log, x: &[f64]| output(Softmax { axis, log }, &[(&map, x)], &[]).unwrap();
    let three = 3.0f64.ln();
    let x = [0.0, three, three, 0.0];
    close(&of(1, false, &x), &[0.25, 0.75, 0.75, 0.25]);
    close(&of(0, true, &x), &[0.25f64.ln(), 0.75f64.ln(), 0.75f64.ln(), 0.25f64.ln()]);
    // No exponential overflows.
    let huge = [1e4, 1e4 + three, -1e4, -1e4 - three];
    close(&of(1, false, &huge), &[0.25, 0.75, 0.75, 0.25]);
    let error = output(Softmax { axis: 2, log: false }, &[(&map, &x)], &[]).unwrap_err();
    assert_eq!(error.to_string(), "it works along axis 2, but its input is 2x2");
}

#[test]
fn layers_are_normalised_along_their_axes() {
    let map = shape(2, &[2]);
    let x = [1.0, 3.0, 5.0, 11.0];
    let norm = |axes: &[u32]| LayerNormalization { axes: axes.into(), epsilon: 3.0 };
    let of = |axes: &[u32], parameters: &[(&[u32], &[f64])]| {
        output(norm(axes), &[(&map, &x)], parameters)
    };
    // Means 2 and 8, variances 1 and 9.
    let (small, large) = (1.0 / 2.0, 3.0 / 12.0f64.sqrt());
    close(&of(&[1], &[]).unwrap(), &[-small, small, -large, large]);
    let scale: (&[u32], &[f64]) = (&[2], &[2.0, 4.0]);
    let shift: (&[u32], &[f64]) = (&[2], &[0.0, 1.0]);
    close(&of(&[1], &[scale]).unwrap(), &[-1.0, 2.0, -2.0 * large, 4.0 * large]);
    close(&of(&[1], &[scale, shift]).unwrap(), &[-1.0, 3.0, -2.0 * large, 4.0 * large + 1.0]);
    // Along the channels: means 3 and 7, variances 4 and 16.
    let (left, right) = (2.0 / 7.0f64.sqrt(), 4.0 / 19.0f64.sqrt());
    close(&of(&[0], &[]).unwrap(), &[-left, -right, left, right]);
    close(&of(&[0], &[scale]).unwrap(), &[-2.0 * left, -2.0 * right, 4.0 * left, 4.0 * right]);
    let whole: (&[u32], &[f64]) = (&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let got = of(&[0, 1], &[whole]).unwrap();
    let deviation = (14.0f64 + 3.0).sqrt();
    close(&got, &[-4.0, -4.0, 0.0, 24.0].map(|x| x / deviation));
    let error = of(&[0, 1], &[scale]).unwrap_err().to_string();
    assert_eq!(error, "its Scale has shape [2], where [2, 2] is needed");
    let zero = LayerNormalization { axes: smallvec![0], epsilon: 0.0 };
    assert_eq!(output(zero, &[(&map, &x)], &[]).unwrap_err().to_string(), "its epsilon is 0");
}

#[test]
fn a_constant_is_its_parameter() {
    let value: (&[u32], &[f64]) = (&[2, 1], &[3.0, -1.0]);
    close(&output(Constant, &[], &[value]).unwrap(), &[3.0, -1.0]);
    let inferred = Constant.infer(&Operands { inputs: &[], parameters: &[&[2, 1]] });
    assert_eq!(inferred, Ok(shape(2, &[1])));
    let error = output(Constant, &[(&shape(1, &[]), &[0.0])], &[value]).unwrap_err().to_string();
    assert_eq!(error, "it takes 0 inputs, but has 1");
}

#[test]
fn averages_and_normalisation() {
    let map = shape(2, &[1, 2]);
    let x = [1.0, 3.0, -5.0, 5.0];
    close(&output(GlobalAveragePool, &[(&map, &x)], &[]).unwrap(), &[2.0, 0.0]);
    let op = BatchNormalization { epsilon: 1.0 };
    let channels: &[u32] = &[2];
    let parameters: [(&[u32], &[f64]); 4] = [
        (channels, &[2.0, 1.0]),
        (channels, &[0.5, 0.0]),
        (channels, &[1.0, -5.0]),
        (channels, &[3.0, 99.0]),
    ];
    close(&output(op, &[(&map, &x)], &parameters).unwrap(), &[0.5, 2.5, 0.0, 1.0]);
    let mut wrong = parameters;
    wrong[2].0 = &[3];
    let error = output(op, &[(&map, &x)], &wrong).unwrap_err().to_string();
    assert_eq!(error, "its Mean has shape [3], where [2] is needed");
    for epsilon in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(output(BatchNormalization { epsilon }, &[(&map, &x)], &parameters).is_err());
    }
}

#[test]
fn linear_layers_work_at_each_position() {
    let sequence = shape(2, &[3]);
    let x = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
    let weight: (&[u32], &[f64]) = (&[1, 2], &[2.0, 0.5]);
    let bias: (&[u32], &[f64]) = (&[1], &[100.0]);
    let got = output(Linear, &[(&sequence, &x)], &[weight, bias]).unwrap();
    close(&got, &[107.0, 114.0, 121.0]);
    close(&output(Linear, &[(&sequence, &x)], &[weight]).unwrap(), &[7.0, 14.0, 21.0]);
    let error = output(Linear, &[(&sequence, &x)], &[(&[1, 3], &[0.0; 3])]).unwrap_err();
    assert_eq!(error.to_string(), "its Weight has shape [1, 3], where [1, 2] is needed");
}

#[test]
fn a_convolution_of_a_sequence_is_that_of_a_picture_of_one_row() {
    let axis = WindowAxis { stride: 2, dilation: 2, before: 1, after: 2 };
    let one = Conv { axes: smallvec![axis], groups: Groups::Equal(1) };
    let two = Conv { axes: smallvec![WindowAxis::valid(1), axis], groups: Groups::Equal(1) };
    let x: Vec<f64> = (0..14).map(|i| f64::from(i * i % 11)).collect();
    let w: Vec<f64> = (0..18).map(|i| f64::from(i * 7 % 5) - 2.0).collect();
    let bias: (&[u32], &[f64]) = (&[3], &[1.0, 2.0, 3.0]);
    let row = output(one, &[(&shape(2, &[7]), &x)], &[(&[3, 2, 3], &w), bias]).unwrap();
    let picture = output(two, &[(&shape(2, &[1, 7]), &x)], &[(&[3, 2, 1, 3], &w), bias]).unwrap();
    close(&row, &picture);
    // The first window reads positions -1, 1 and 3 of both channels.
    let expected = 1.0 + w[1] * x[1] + w[2] * x[3] + w[4] * x[8] + w[5] * x[10];
    close(&row[..1], &[expected]);
}

#[test]
fn depthwise_convolutions_have_one_spelling() {
    assert_eq!(Groups::of(4, 4), Groups::PerChannel);
    assert_eq!((Groups::of(2, 4), Groups::of(1, 1)), (Groups::Equal(2), Groups::Equal(1)));
    let conv = Conv { groups: Groups::Equal(2), ..Conv::dense(1, 1) };
    let weight: (&[u32], &[f64]) = (&[2, 1, 1, 1], &[1.0, 2.0]);
    let error = output(conv, &[(&shape(2, &[1, 1]), &[3.0, 4.0])], &[weight]).unwrap_err();
    assert_eq!(error.to_string(), "its grouping is 2 equal parts of one channel; it is depthwise");
    let conv = Conv { groups: Groups::PerChannel, ..Conv::dense(1, 1) };
    let got = output(conv, &[(&shape(2, &[1, 1]), &[3.0, 4.0])], &[weight]).unwrap();
    close(&got, &[3.0, 8.0]);
}

#[test]
fn operations_that_can_write_over_their_input_say_so() {
    let axes = || smallvec![0];
    let in_place: Vec<&str> = [
        Op::from(Add),
        AveragePool { kernel: smallvec![], axes: smallvec![], counted: smallvec![] }.into(),
        BatchNormalization { epsilon: 1.0 }.into(),
        Binary { function: BinaryFunction::Less }.into(),
        Clip::RELU.into(),
        Concat::channels().into(),
        Constant.into(),
        Conv::dense(1, 1).into(),
        ConvTranspose { axes: smallvec![], groups: Groups::PerChannel }.into(),
        Flatten.into(),
        Gather::channels([0]).into(),
        GlobalAveragePool.into(),
        LayerNormalization { axes: axes(), epsilon: 1.0 }.into(),
        LeakyRelu { slope: 0.5 }.into(),
        Linear.into(),
        Map { function: Function::Tanh }.into(),
        MatrixProduct { transposed: [false; 2] }.into(),
        MaxPool { kernel: smallvec![1], axes: smallvec![WindowAxis::valid(1)] }.into(),
        Multiply.into(),
        Pad { before: smallvec![], after: smallvec![], value: 0.0 }.into(),
        Prelu.into(),
        Reduce { function: ReduceFunction::Sum, axes: axes() }.into(),
        Reshape { sizes: smallvec![] }.into(),
        Resize { mode: ResizeMode::Linear, axes: smallvec![] }.into(),
        Select.into(),
        Softmax { axis: 0, log: true }.into(),
        Transpose { order: smallvec![] }.into(),
    ]
    .iter()
    .filter(|op| op.memory() == Memory::InPlace)
    .map(Operation::kind)
    .collect();
    assert_eq!(
        in_place,
        [
            "batch_normalization",
            "binary",
            "clip",
            "flatten",
            "layer_normalization",
            "leaky_relu",
            "map",
            "multiply",
            "prelu",
            "reshape",
            "select",
            "softmax"
        ]
    );
}
