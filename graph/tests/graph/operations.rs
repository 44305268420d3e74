//! What each operation computes and refuses, on numbers small enough to check by hand.

use edgesmith_graph::{
    Add, BatchNormalization, Clip, Concat, Conv, Flatten, GatherChannels, GlobalAveragePool,
    Groups, HardSwish, InferError, LeakyRelu, Linear, Memory, Multiply, Op, Operands, Operation,
    Shape, Sigmoid, WindowAxis,
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
    assert!(output(Add, &[(&map, &a), (&gate, &[0.0; 2])], &[]).is_err());
    let error = output(Add, &[(&map, &a)], &[]).unwrap_err().to_string();
    assert_eq!(error, "it takes 2 inputs, but has 1");
}

#[test]
fn concat_flatten_and_gather() {
    let (one, two) = (shape(1, &[2]), shape(2, &[2]));
    let (a, b) = ([1.0, 2.0], [3.0, 4.0, 5.0, 6.0]);
    let both = output(Concat, &[(&one, &a), (&two, &b)], &[]).unwrap();
    close(&both, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert!(output(Concat, &[(&one, &a), (&shape(1, &[3]), &[0.0; 3])], &[]).is_err());
    assert_eq!(output(Concat, &[], &[]), Err(InferError::NoInputs));
    close(&output(Flatten, &[(&two, &b)], &[]).unwrap(), &b);
    let gather = GatherChannels { indices: vec![1, 0, 1] };
    close(&output(gather, &[(&two, &b)], &[]).unwrap(), &[5.0, 6.0, 3.0, 4.0, 5.0, 6.0]);
    let error = output(GatherChannels { indices: vec![2] }, &[(&two, &b)], &[]).unwrap_err();
    assert_eq!(error, InferError::Channel { index: 2, channels: 2 });
    assert!(output(GatherChannels { indices: vec![] }, &[(&two, &b)], &[]).is_err());
    assert_eq!(GatherChannels::slice(1..3).indices, [1, 2]);
}

#[test]
fn activations() {
    let vector = shape(4, &[]);
    let x = [-4.0, -1.0, 2.0, 9.0];
    let of = |op: Op| output(op, &[(&vector, &x)], &[]).unwrap();
    close(&of(Clip::RELU.into()), &[0.0, 0.0, 2.0, 9.0]);
    close(&of(Clip::RELU6.into()), &[0.0, 0.0, 2.0, 6.0]);
    close(&of(HardSwish.into()), &[0.0, -1.0 / 3.0, 5.0 / 3.0, 9.0]);
    close(&of(LeakyRelu { slope: 0.25 }.into()), &[-1.0, -0.25, 2.0, 9.0]);
    for slope in [f32::NAN, f32::INFINITY] {
        assert!(output(LeakyRelu { slope }, &[(&vector, &x)], &[]).is_err());
    }
    let e = std::f64::consts::E;
    close(&of(Sigmoid.into())[1..2], &[1.0 / (1.0 + e)]);
    for (low, high) in [(1.0, 0.0), (f32::NAN, 1.0), (0.0, f32::NAN)] {
        assert!(output(Clip { low, high }, &[(&vector, &x)], &[]).is_err());
    }
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
fn only_operations_that_read_each_number_once_write_over_their_input() {
    let in_place: Vec<&str> = [
        Op::from(Add),
        BatchNormalization { epsilon: 1.0 }.into(),
        Clip::RELU.into(),
        Concat.into(),
        Conv::dense(1, 1).into(),
        Flatten.into(),
        GatherChannels { indices: vec![0] }.into(),
        GlobalAveragePool.into(),
        HardSwish.into(),
        LeakyRelu { slope: 0.5 }.into(),
        Linear.into(),
        Multiply.into(),
        Sigmoid.into(),
    ]
    .iter()
    .filter(|op| op.memory() == Memory::InPlace)
    .map(Operation::kind)
    .collect();
    assert_eq!(
        in_place,
        [
            "batch_normalization",
            "clip",
            "flatten",
            "hard_swish",
            "leaky_relu",
            "multiply",
            "sigmoid"
        ]
    );
}
