//! Invalid models: validation and the session refuse each with its node and reason, and so does the
//! reader of files.

use edgesmith_edge_runtime::*;

fn fp32() -> Element {
    Element::Fp32
}

fn byte(zero_point: u8) -> Element {
    Element::Uint8(Quantization { scale: 0.5, zero_point })
}

/// A model with one layer, which reads `inputs` times an input of these sizes.
fn model(sizes: &[u32], element: Element, inputs: usize, layer: impl Into<Layer>) -> Model {
    let shape = Shape::new(sizes).unwrap();
    let input = Input {
        name: "x".to_owned(),
        shape,
        order: (0..sizes.len() as u32).collect(),
        array: Array::Fp32,
        element,
    };
    Model {
        inputs: vec![input],
        nodes: vec![Node {
            inputs: vec![ValueId(0); inputs],
            layer: layer.into(),
            output: element,
        }],
        outputs: vec![Output::new("y", ValueId(0), sizes.len())],
        rounding: Rounding::Once,
        notes: Notes::default(),
    }
}

fn error(model: &Model) -> ModelError {
    let error = model.validate().unwrap_err();
    // Compared as text, because NaN differs from itself.
    assert_eq!(Session::new(model).unwrap_err().to_string(), error.to_string());
    assert_eq!(Model::from_bytes(&model.to_bytes()).unwrap_err().to_string(), error.to_string());
    error
}

fn problem(model: &Model) -> Problem {
    match error(model) {
        ModelError::Node { problem, .. }
        | ModelError::Input { problem, .. }
        | ModelError::Output { problem, .. }
        | ModelError::Note(problem) => problem,
        other => panic!("{other}"),
    }
}

fn tanh() -> Map {
    Map { function: Function::Tanh }
}

fn changed(change: impl Fn(&mut Model)) -> ModelError {
    let mut model = model(&[2, 3, 3], fp32(), 1, tanh());
    assert!(model.validate().is_ok());
    change(&mut model);
    error(&model)
}

#[test]
fn invalid_inputs_and_outputs_are_refused() {
    let said = |change: &dyn Fn(&mut Model)| changed(change).to_string();
    assert_eq!(said(&|model| model.inputs.clear()), "the model has no inputs");
    assert_eq!(said(&|model| model.outputs.clear()), "the model has no outputs");
    assert_eq!(said(&|model| model.nodes.clear()), "the model has no nodes");
    assert_eq!(
        said(&|model| model.inputs.push(model.inputs[0].clone())),
        "the model's input x is invalid: another one has the same name"
    );
    assert_eq!(
        said(&|model| model.outputs[0].name.clear()),
        "the model's output  is invalid: it has no name"
    );
    for order in [vec![0, 1], vec![0, 1, 1], vec![1, 2, 3]] {
        assert_eq!(
            said(&|model| model.inputs[0].order = order.clone()),
            "the model's input x is invalid: the order of its axes does not have each of 3 axes \
             once"
        );
    }
    assert_eq!(
        said(&|model| model.outputs[0].value = ValueId(2)),
        "the model's output y is invalid: it reads value 2, but only values below 2 are computed \
         before it"
    );
    let bytes = |mean: Vec<f32>, std: Vec<f32>| {
        said(&|model| {
            let (mean, std, tables) = (mean.clone(), std.clone(), Vec::new());
            model.inputs[0].array = Array::Bytes(Normalization { mean, std, tables });
        })
    };
    assert!(bytes(vec![0.0; 3], vec![1.0; 2]).contains("the mean has 3 elements"));
    assert!(bytes(vec![0.0; 2], vec![1.0, 0.0]).contains("the standard deviation is 0"));
    assert!(bytes(vec![0.0, f32::NAN], vec![1.0; 2]).contains("the mean is NaN"));
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let error = said(&|model| {
            model.inputs[0].element = Element::Uint8(Quantization { scale, zero_point: 0 });
        });
        assert!(error.contains("which is not a finite positive number"), "{error}");
    }
}

#[test]
fn invalid_wiring_is_refused() {
    let said =
        |change: &dyn Fn(&mut Node)| changed(|model| change(&mut model.nodes[0])).to_string();
    let start = "the model's node 0 (function of each number) is invalid: ";
    let reads = |value: u32| {
        format!("{start}it reads value {value}, but only values below 1 are computed before it")
    };
    assert_eq!(said(&|node| node.inputs[0] = ValueId(1)), reads(1));
    assert_eq!(said(&|node| node.inputs[0] = ValueId(u32::MAX)), reads(u32::MAX));
    assert_eq!(
        said(&|node| node.inputs.push(ValueId(0))),
        format!("{start}it reads 2 values instead of 1")
    );
    assert_eq!(
        said(&|node| node.output = byte(0)),
        format!("{start}it writes fp32, but its output does not hold that")
    );
    let table = || Table { function: None, tables: vec![0; 256] };
    assert_eq!(
        said(&|node| {
            node.layer = table().into();
            node.output = byte(0);
        }),
        "the model's node 0 (table) is invalid: it reads bytes, but value 0 does not hold that"
    );
    let error = changed(|model| {
        let node = model.nodes[0].clone();
        model.nodes = vec![node; MAX_NODES + 1];
    });
    assert!(matches!(error, ModelError::TooManyNodes { .. }));
}

fn conv() -> IntConv {
    IntConv {
        conv: Conv {
            in_channels: 2,
            out_channels: 4,
            groups: 1,
            axes: vec![WindowAxis::new(3, 1, 1); 2],
            weight: vec![1; 72],
            bias: vec![0; 4],
        },
        weight_scale: vec![0.5; 4],
        requantize: vec![Requantization::from_real(0.1); 4],
        clamp: (0, 255),
    }
}

/// The problem of a convolution over 2x5x6 after `change`. What it is written as means nothing,
/// because its lists do not have the right lengths.
fn changed_conv(change: impl Fn(&mut IntConv)) -> Problem {
    let mut layer = conv();
    assert!(model(&[2, 5, 6], byte(3), 1, layer.clone()).validate().is_ok());
    change(&mut layer);
    match model(&[2, 5, 6], byte(3), 1, layer).validate().unwrap_err() {
        ModelError::Node { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn invalid_convolutions_are_refused() {
    let said = |change: &dyn Fn(&mut IntConv)| changed_conv(change).to_string();
    assert_eq!(
        said(&|layer| layer.conv.weight.push(1)),
        "the weight has 73 elements, but the shapes require 72"
    );
    assert!(said(&|layer| layer.conv.bias.push(1)).starts_with("the bias has 5"));
    assert!(said(&|layer| layer.requantize.clear()).starts_with("the requantization has 0"));
    assert!(said(&|layer| layer.weight_scale.truncate(2)).starts_with("the weight scale has 2"));
    assert!(said(&|layer| layer.requantize.truncate(3)).starts_with("the requantization has 3"));
    assert_eq!(said(&|layer| layer.conv.in_channels = 3), "it needs 3 channels, but value 0 has 2");
    assert_eq!(
        said(&|layer| layer.conv.groups = 3),
        "2 input and 4 output channels do not make 3 equal groups"
    );
    assert_eq!(said(&|layer| layer.conv.groups = 0), "groups is 0");
    assert_eq!(said(&|layer| layer.conv.axes[0].stride = 0), "stride is 0");
    assert_eq!(said(&|layer| layer.conv.axes[1].kernel = 0), "kernel is 0");
    assert_eq!(said(&|layer| layer.conv.axes[1].dilation = 0), "dilation is 0");
    assert_eq!(
        said(&|layer| layer.conv.axes[1].dilation = 4),
        "its kernel of 9 places does not fit into 8 padded places"
    );
    assert!(
        said(&|layer| layer.conv.axes[0].before = u32::MAX).starts_with("its padded input has")
    );
    assert_eq!(
        said(&|layer| {
            layer.conv.axes.pop();
        }),
        "axes of windows has 1 elements, but the shapes require 2"
    );
    assert!(
        said(&|layer| {
            layer.conv.out_channels = u32::MAX;
            layer.conv.axes[0] = WindowAxis::new(1 << 10, 1, 1 << 10);
        })
        .ends_with("require 26388279060480")
    );
    for bad in [
        Requantization { multiplier: -1, shift: 0 },
        Requantization { multiplier: 5, shift: 0 },
        Requantization { multiplier: 1 << 30, shift: 31 },
        Requantization { multiplier: 1 << 30, shift: -32 },
        Requantization { multiplier: 1 << 30, shift: i32::MIN },
    ] {
        let Requantization { multiplier, shift } = bad;
        assert_eq!(
            changed_conv(|layer| layer.requantize[0] = bad),
            Problem::BadRequantization { multiplier, shift }
        );
    }
    assert_eq!(changed_conv(|layer| layer.clamp = (9, 8)), Problem::EmptyClamp(9, 8));
    assert_eq!(
        changed_conv(|layer| layer.conv.bias[0] = i32::MIN),
        Problem::AccumulatorOverflow { channel: 0 }
    );
}

#[test]
fn every_layer_checks_its_settings() {
    let said = |sizes: &[u32], element, inputs, layer: Layer| {
        problem(&model(sizes, element, inputs, layer)).to_string()
    };
    let float = |layer: Layer| said(&[2, 3, 4], fp32(), 1, layer);
    let int = |layer: Layer| said(&[2, 3, 4], byte(3), 1, layer);
    assert_eq!(
        float(Concat { axis: 3 }.into()),
        "its axis 3 is not one of the 3 axes of its input"
    );
    assert_eq!(
        float(Gather { axis: 1, indices: vec![0, 3] }.into()),
        "an index is 3, which is out of range; the limit is 2"
    );
    assert_eq!(float(Gather { axis: 1, indices: vec![] }.into()), "a size is 0");
    assert_eq!(
        float(Transpose { order: vec![0, 0, 1] }.into()),
        "the order of its axes does not have each of 3 axes once"
    );
    assert_eq!(
        float(Reshape { sizes: vec![5, 5] }.into()),
        "the shapes 2x3x4 and 5x5 do not fit together"
    );
    assert_eq!(
        float(Reshape { sizes: vec![1; 9] }.into()),
        "a value has 9 axes; it must have 1 to 6"
    );
    let pad = |fill| Layer::from(Pad { before: vec![0; 3], after: vec![0; 3], fill });
    assert_eq!(float(pad(Fill::Byte(0))), "it writes bytes, but its output does not hold that");
    assert_eq!(int(pad(Fill::Fp32(0.0))), "it writes fp32, but its output does not hold that");
    assert_eq!(
        float(MaxPool { axes: vec![WindowAxis::new(2, 1, 0), WindowAxis::new(1, 1, 1)] }.into()),
        "one of its windows has only padding"
    );
    let pool = |counted| AveragePool { axes: vec![WindowAxis::new(3, 1, 1); 2], counted };
    assert_eq!(
        float(pool(vec![(0, 0), (2, 0)]).into()),
        "the counted padding is 2, which is out of range; the limit is 1"
    );
    assert_eq!(
        int(IntAveragePool { pool: pool(vec![(0, 0); 2]), factors: vec![] }.into()),
        "its factors are not for the numbers of places that its windows have"
    );
    let reduce = |axes: &[u32], keep| {
        Layer::from(Reduce { function: ReduceFunction::L2, axes: axes.to_vec(), keep })
    };
    assert_eq!(float(reduce(&[], true)), "the number of axes is 0");
    assert_eq!(float(reduce(&[2, 1], true)), "its axes are not in ascending order");
    assert_eq!(float(reduce(&[0], false)), "it reduces the channels, so the axes must stay");
    let l2 = Reduce { function: ReduceFunction::L2, axes: vec![1], keep: true };
    assert_eq!(
        int(IntReduce { reduce: l2, requantize: Requantization::ZERO }.into()),
        "it has no form in integers"
    );
    assert_eq!(
        float(Softmax { axis: 7, log: false }.into()),
        "its axis 7 is not one of the 3 axes of its input"
    );
    let normalization =
        |epsilon, scale| LayerNormalization { axes: vec![0], epsilon, scale, shift: Vec::new() };
    assert_eq!(
        float(normalization(0.1, vec![1.0; 3]).into()),
        "the scale has 3 elements, but the shapes require 2"
    );
    assert!(float(normalization(-1.0, vec![]).into()).starts_with("epsilon is -1"));
    let taps = Taps { indices: [0, 9], weights: [1.0, 0.0] };
    assert_eq!(
        float(Resize { axes: vec![vec![taps]; 2] }.into()),
        "a position is 9, which is out of range; the limit is 2"
    );
    let taps = Taps { indices: [0, 0], weights: [1, 1] };
    assert_eq!(
        int(IntResize { axes: vec![vec![taps]; 2] }.into()),
        "a sum of weights is 2, which is out of range; the limit is 2048"
    );
    assert_eq!(
        int(Table { function: None, tables: vec![0; 255] }.into()),
        "the table has 255 elements, but the shapes require 512"
    );
    assert_eq!(
        float(Prelu { slope: vec![1.0] }.into()),
        "the slope has 1 elements, but the shapes require 2"
    );
    for slope in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(
            float(Map { function: Function::LeakyRelu { slope } }.into()),
            format!("the slope is {slope}, which is not a finite number")
        );
    }
    assert_eq!(
        float(Map { function: Function::Clip { low: 1.0, high: f32::NAN } }.into()),
        "its outputs are clipped to the empty range 1 to NaN"
    );
    let sum = |shift| IntSum { multipliers: [1, 1], shift, clamp: (0, 255) };
    let twice = |layer: Layer| said(&[2, 3, 4], byte(3), 2, layer);
    for shift in [0, 63] {
        assert!(twice(sum(shift).into()).starts_with(&format!("the shift is {shift}")));
    }
    let half = Requantization::from_real(0.5);
    let sides = [half, Requantization::from_real(1.5)];
    assert_eq!(
        twice(IntAddTwice { sides, output: half, clamp: (0, 255) }.into()),
        "a requantization has multiplier 1610612736 and shift 1, which are out of range"
    );
    let product = MatrixProduct { transposed: [false; 2] };
    assert_eq!(said(&[2, 3, 4], fp32(), 2, product.into()), "it needs 4 rows, but value 0 has 3");
    assert_eq!(said(&[2], fp32(), 2, product.into()), "the shapes 2 and 2 do not fit together");
    let constant = Constant { sizes: vec![1], numbers: Numbers::Fp32(vec![f32::NAN]) };
    assert_eq!(
        said(&[2], fp32(), 0, constant.into()),
        "a number is NaN, which is not a finite number"
    );
    // Only numbers of one scale can be moved.
    let mut moved = model(&[2, 3, 4], byte(3), 1, Reshape { sizes: vec![24] });
    moved.nodes[0].output = byte(4);
    assert_eq!(
        problem(&moved).to_string(),
        "it moves numbers as they are, but value 0 has another type than its output"
    );
}

#[test]
fn values_that_are_too_large_are_refused() {
    let gather = Gather { axis: 0, indices: vec![0; 2] };
    let large = model(&[1, 4096, 4096], fp32(), 1, gather);
    assert_eq!(
        problem(&large).to_string(),
        "a value has 33554432 elements; at most 16777216 are allowed"
    );
    let spread = ConvTranspose {
        in_channels: 1,
        out_channels: 1,
        groups: 1,
        axes: vec![TransposedAxis {
            kernel: 1,
            stride: u32::MAX,
            dilation: u32::MAX,
            before: 0,
            after: 0,
            extra: u32::MAX,
        }],
        weight: vec![1.0],
        bias: vec![0.0],
    };
    let activation = Activation::Linear;
    let large = model(&[1, 1000], fp32(), 1, FloatConvTranspose { conv: spread, activation });
    assert!(matches!(problem(&large), Problem::TooLarge { .. }));
}

#[test]
fn shapes_are_inferred() {
    let model = model(&[2, 5, 6], byte(3), 1, conv());
    let values = model.validate().unwrap();
    assert_eq!(values.of(ValueId(1)).sizes(), [4, 5, 6]);
    assert_eq!(values.all().len(), 2);
}
