//! Invalid models: validation, the session and the file reader refuse each with its node and
//! reason.

use edgesmith_edge_runtime::{
    Conv, FloatAdd, FloatGlobalAveragePool, FloatLayer, FloatLeakyRelu, FloatNode, InputSpec,
    IntConv, IntLayer, IntNode, Model, ModelError, Network, Problem, Quantization, Requantization,
    Session, Shape, ValueId,
};

use crate::models::{float_model, int_model};

fn problem(model: &Model) -> Problem {
    let error = model.validate().unwrap_err();
    // Compared as text, because NaN differs from itself.
    assert_eq!(Session::new(model).unwrap_err().to_string(), error.to_string());
    assert_eq!(Model::from_bytes(&model.to_bytes()).unwrap_err().to_string(), error.to_string());
    match error {
        ModelError::Node { problem, .. } | ModelError::Input(problem) => problem,
        other => panic!("{other}"),
    }
}

/// The problem of the first random integer model whose node 0 is `wanted`, after `change`.
fn changed(wanted: impl Fn(&IntLayer) -> bool, change: impl Fn(&mut Model)) -> Problem {
    let mut model = (0..)
        .map(|seed| int_model(seed, 1))
        .find(|model| match &model.network {
            Network::Int8 { nodes, .. } => wanted(&nodes[0].layer),
            Network::Fp32(_) => false,
        })
        .expect("some seed gives such a model");
    assert!(model.validate().is_ok());
    change(&mut model);
    problem(&model)
}

fn layer(model: &mut Model) -> &mut IntLayer {
    match &mut model.network {
        Network::Int8 { nodes, .. } => &mut nodes[0].layer,
        Network::Fp32(_) => panic!("not an integer network"),
    }
}

fn changed_conv(
    change: impl Fn(&mut Conv<i8, i32>, &mut Vec<Requantization>, &mut (u8, u8)),
) -> Problem {
    changed(
        |layer| matches!(layer, IntLayer::Conv(_)),
        |model| match layer(model) {
            IntLayer::Conv(IntConv { conv, requantize, clamp }) => change(conv, requantize, clamp),
            _ => panic!("not a convolution"),
        },
    )
}

fn changed_input(change: impl Fn(&mut InputSpec)) -> Problem {
    changed(|_| true, |model| change(&mut model.input))
}

#[test]
fn invalid_inputs_are_refused() {
    assert_eq!(changed_input(|input| input.height = 0), Problem::Zero("height"));
    assert!(matches!(
        changed_input(|input| input.mean.push(0.0)),
        Problem::WrongSize { what: "the mean", .. }
    ));
    assert!(matches!(
        changed_input(|input| input.std[0] = 0.0),
        Problem::BadNumber { what: "the standard deviation", positive: true, .. }
    ));
    assert!(matches!(
        changed_input(|input| input.mean[0] = f32::NAN),
        Problem::BadNumber { what: "the mean", .. }
    ));
    assert!(matches!(
        changed_input(|input| (input.height, input.width) = (u32::MAX, u32::MAX)),
        Problem::TooLarge { what: "the image", .. }
    ));
}

#[test]
fn invalid_sizes_and_shapes_of_convolutions_are_refused() {
    assert!(matches!(
        changed_conv(|conv, _, _| conv.weight.push(1)),
        Problem::WrongSize { what: "the weight", .. }
    ));
    assert!(matches!(
        changed_conv(|conv, _, _| conv.bias.push(1)),
        Problem::WrongSize { what: "the bias", .. }
    ));
    assert!(matches!(
        changed_conv(|_, requantize, _| requantize.clear()),
        Problem::WrongSize { what: "the requantization", .. }
    ));
    assert!(matches!(
        changed_conv(|conv, _, _| conv.in_channels += 1),
        Problem::ShapeMismatch { what: "channels", value: 0, .. }
    ));
    assert_eq!(changed_conv(|conv, _, _| conv.stride = 0), Problem::Zero("stride"));
    assert_eq!(changed_conv(|conv, _, _| conv.kernel = 0), Problem::Zero("kernel"));
    assert_eq!(changed_conv(|conv, _, _| conv.out_channels = 0), Problem::Zero("out_channels"));
    assert!(matches!(
        changed_conv(|conv, _, _| conv.padding = conv.kernel),
        Problem::PaddingTooLarge { .. }
    ));
    assert!(matches!(
        changed_conv(|conv, _, _| (conv.kernel, conv.out_channels) = (u32::MAX, u32::MAX)),
        Problem::WrongSize { what: "the weight", expected: u64::MAX, .. }
    ));
    assert!(matches!(
        changed_conv(|conv, _, _| {
            conv.kernel = 60;
            conv.padding = 0;
            conv.weight = vec![0; (conv.in_channels * conv.out_channels * 3600) as usize];
        }),
        Problem::KernelTooLarge { kernel: 60, .. }
    ));
}

#[test]
fn a_depthwise_convolution_keeps_its_channels() {
    let problem = changed(
        |layer| matches!(layer, IntLayer::Depthwise(_)),
        |model| match layer(model) {
            IntLayer::Depthwise(layer) => layer.conv.out_channels += 1,
            _ => panic!("not depthwise"),
        },
    );
    assert!(matches!(problem, Problem::NotDepthwise { .. }));
}

#[test]
fn invalid_numbers_of_integer_layers_are_refused() {
    for bad in [
        Requantization { multiplier: -1, shift: 0 },
        Requantization { multiplier: 5, shift: 0 },
        Requantization { multiplier: 1 << 30, shift: 31 },
        Requantization { multiplier: 1 << 30, shift: -32 },
        Requantization { multiplier: 1 << 30, shift: i32::MIN },
    ] {
        let Requantization { multiplier, shift } = bad;
        assert_eq!(
            changed_conv(|_, requantize, _| requantize[0] = bad),
            Problem::BadRequantization { multiplier, shift }
        );
    }
    assert_eq!(changed_conv(|_, _, clamp| *clamp = (9, 8)), Problem::EmptyClamp(9, 8));
    assert_eq!(
        changed_conv(|conv, _, _| conv.bias[0] = i32::MIN),
        Problem::AccumulatorOverflow { channel: 0 }
    );
    let problem = changed(
        |layer| matches!(layer, IntLayer::Add(_)),
        |model| match layer(model) {
            IntLayer::Add(sum) => sum.sides[1] = Requantization::from_real(1.5),
            _ => panic!("not a sum"),
        },
    );
    assert!(matches!(problem, Problem::BadRequantization { shift: 1, .. }));
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let problem = changed(
            |_| true,
            |model| match &mut model.network {
                Network::Int8 { input, .. } => *input = Quantization { scale, zero_point: 0 },
                Network::Fp32(_) => panic!("not an integer network"),
            },
        );
        assert!(matches!(problem, Problem::BadNumber { positive: true, .. }));
    }
}

#[test]
fn invalid_wiring_is_refused() {
    let nodes = |change: &dyn Fn(&mut Vec<IntNode>)| {
        changed(
            |_| true,
            |model| match &mut model.network {
                Network::Int8 { nodes, .. } => change(nodes),
                Network::Fp32(_) => panic!("not an integer network"),
            },
        )
    };
    assert_eq!(
        nodes(&|nodes| nodes[0].inputs[0] = ValueId(1)),
        Problem::ForwardReference { value: 1, limit: 1 }
    );
    assert_eq!(
        nodes(&|nodes| nodes[1].inputs[0] = ValueId(u32::MAX)),
        Problem::ForwardReference { value: u32::MAX, limit: 2 }
    );
    assert_eq!(
        nodes(&|nodes| nodes[1].inputs.push(ValueId(0))),
        Problem::InputCount { expected: 1, found: 2 }
    );
    assert_eq!(
        nodes(&|nodes| nodes[0].inputs.clear()),
        Problem::InputCount {
            expected: if matches!(first_layer(), IntLayer::Add(_)) { 2 } else { 1 },
            found: 0
        }
    );
    assert_eq!(
        nodes(&|nodes| {
            nodes.pop();
        }),
        Problem::LinearNotLast
    );
    assert_eq!(
        nodes(&|nodes| {
            let last = nodes[1].clone();
            nodes.push(last);
        }),
        Problem::LinearNotLast
    );
}

/// The layer of node 0 in `invalid_wiring_is_refused`.
fn first_layer() -> IntLayer {
    layer(&mut int_model(0, 1)).clone()
}

#[test]
fn sums_of_unequal_shapes_are_refused() {
    let mut model = (0..)
        .map(|seed| float_model(seed, 2))
        .find(|model| {
            let shapes = model.validate().unwrap();
            let Network::Fp32(nodes) = &model.network else { return false };
            nodes.len() == 3
                && matches!(nodes[1].layer, FloatLayer::Add(_))
                && shapes.all()[0] != shapes.all()[1]
        })
        .expect("some seed gives such a model");
    let Network::Fp32(nodes) = &mut model.network else { panic!("not a network in fp32") };
    nodes[1].inputs = vec![ValueId(0), ValueId(1)];
    assert!(matches!(problem(&model), Problem::UnequalShapes(..)));
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let mut model = float_model(3, 1);
    let Network::Fp32(nodes) = &mut model.network else { panic!("not a network in fp32") };
    let Some(FloatLayer::Linear(linear)) = nodes.last_mut().map(|node| &mut node.layer) else {
        panic!("no logits");
    };
    linear.bias[0] = f32::INFINITY;
    assert!(matches!(problem(&model), Problem::BadNumber { what: "the bias", .. }));
}

#[test]
fn slopes_that_are_not_finite_are_refused() {
    for slope in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut model = float_model(3, 1);
        let Network::Fp32(nodes) = &mut model.network else { panic!("not a network in fp32") };
        nodes[0] = FloatNode {
            inputs: vec![ValueId(0)],
            layer: FloatLayer::LeakyRelu(FloatLeakyRelu { slope }),
        };
        let problem = problem(&model);
        assert_eq!(
            problem.to_string(),
            format!("the slope is {slope}, which is not a finite number")
        );
    }
}

#[test]
fn too_much_memory_is_refused() {
    // An image and sums of the largest allowed size, all needed until the end.
    let mut model = float_model(3, 1);
    model.input =
        InputSpec { channels: 1, height: 4096, width: 4096, mean: vec![0.0], std: vec![1.0] };
    let Network::Fp32(nodes) = &mut model.network else { panic!("not a network in fp32") };
    let mut last = nodes.pop().unwrap();
    nodes.clear();
    let node = |inputs: [u32; 2]| FloatNode {
        inputs: inputs.map(ValueId).to_vec(),
        layer: FloatLayer::Add(FloatAdd),
    };
    for value in 0..5 {
        nodes.push(node([value, value]));
    }
    for value in 0..5 {
        nodes.push(node([value, value + 1]));
    }
    nodes.push(FloatNode {
        inputs: vec![ValueId(10)],
        layer: FloatLayer::GlobalAveragePool(FloatGlobalAveragePool),
    });
    last.inputs = vec![ValueId(11)];
    let FloatLayer::Linear(linear) = &mut last.layer else { panic!("no logits") };
    linear.in_features = 1;
    linear.weight = vec![1.0; linear.out_features as usize];
    nodes.push(last);
    assert!(model.validate().is_ok());
    assert!(matches!(Session::new(&model), Err(ModelError::TooMuchMemory { .. })));
}

#[test]
fn shapes_are_inferred() {
    let model = float_model(5, 6);
    let shapes = model.validate().unwrap();
    let InputSpec { channels, height, width, .. } = model.input;
    assert_eq!(shapes.of(ValueId(0)), Shape { channels, height, width });
    let Network::Fp32(nodes) = &model.network else { panic!("not a network in fp32") };
    assert_eq!(shapes.all().len(), nodes.len() + 1);
    let logits = shapes.of(ValueId(nodes.len() as u32));
    assert_eq!((logits.height, logits.width), (1, 1));
    assert_eq!(shapes.classes(), logits.channels as usize);
}
