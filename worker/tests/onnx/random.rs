//! Random graphs of every operation, and inputs for them.

use std::collections::BTreeSet;

use edgesmith_data::Normalization;
use edgesmith_graph::{
    Add, Affine, AveragePool, BatchNormalization, Binary, BinaryFunction, Clip, Concat, Constant,
    Conv, ConvTranspose, Coordinates, Evaluator, Flatten, Function, Gather, GlobalAveragePool,
    Graph, GraphBuilder, Groups, LayerNormalization, LeakyRelu, Linear, Map, MatrixProduct,
    MaxPool, Multiply, Node, Op, Operands, Operation as _, Pad, ParameterId, Place, Prelu,
    Quantization, Reduce, ReduceFunction, Reshape, Resize, ResizeAxis, ResizeMode, Role, Rounding,
    Select, Shape, Softmax, Transpose, TransposedAxis, ValueId, Weights, WindowAxis,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[test]
fn random_graphs_have_every_operation() {
    let graphs: Vec<Graph> = (0..GRAPHS).map(random_graph).collect();
    let nodes = || graphs.iter().flat_map(Graph::nodes).map(|(_, node)| node);
    let kinds: BTreeSet<&str> = nodes().map(|node| node.op.kind()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), Op::KINDS);
    // And what ONNX says in another way.
    let with = |graph: &Graph, of: &dyn Fn(&Op, &Shape) -> bool| {
        let mut readers = graph.nodes().filter(|(_, node)| !node.inputs.is_empty());
        readers.any(|(_, node)| of(&node.op, graph.shape(node.inputs[0])))
    };
    let some = |of: &dyn Fn(&Op, &Shape) -> bool| graphs.iter().any(|graph| with(graph, of));
    let unequal = |axes: &[WindowAxis]| axes.iter().any(|axis| axis.before != axis.after);
    for axes in 1..=2 {
        assert!(some(&|op, _| matches!(op, Op::Conv(conv) if conv.axes.len() == axes)));
        assert!(some(&|op, _| matches!(op, Op::MaxPool(pool) if pool.axes.len() == axes)));
    }
    for axes in 0..=2 {
        let at = |shape: &Shape| shape.space().len() == axes;
        assert!(some(&|op, shape| matches!(op, Op::Linear(_)) && at(shape)));
        assert!(some(&|op, shape| matches!(op, Op::Multiply(_)) && at(shape)));
        assert!(some(&|op, shape| matches!(op, Op::GlobalAveragePool(_)) && at(shape)));
        assert!(some(&|op, shape| matches!(op, Op::BatchNormalization(_)) && at(shape)));
    }
    let dilated = |pool: &AveragePool| pool.axes.iter().any(|axis| axis.dilation > 1);
    let counts = |pool: &AveragePool| pool.counted.iter().any(|&counted| counted != (0, 0));
    for (is_dilated, is_counted) in [(false, false), (false, true), (true, true)] {
        let alike = |pool: &AveragePool| (dilated(pool), counts(pool)) == (is_dilated, is_counted);
        assert!(some(&|op, _| matches!(op, Op::AveragePool(pool) if alike(pool))));
    }
    for linear in [false, true] {
        let mode = |resize: &Resize| (resize.mode == ResizeMode::Linear) == linear;
        assert!(some(&|op, _| matches!(op, Op::Resize(resize) if mode(resize))));
    }
    for group in [Groups::Equal(1), Groups::Equal(2), Groups::PerChannel] {
        assert!(some(&|op, _| matches!(op, Op::ConvTranspose(conv) if conv.groups == group)));
    }
    for group in [Groups::Equal(1), Groups::Equal(2), Groups::PerChannel] {
        assert!(some(&|op, _| matches!(op, Op::Conv(conv) if conv.groups == group)));
    }
    assert!(some(&|op, _| matches!(op, Op::Conv(conv) if unequal(&conv.axes))));
    assert!(some(&|op, _| matches!(op, Op::Conv(conv) if conv.axes[0].dilation > 1)));
    let beyond = |pool: &MaxPool| pool.axes[0].before >= pool.kernel[0];
    assert!(some(&|op, _| matches!(op, Op::MaxPool(pool) if beyond(pool))));
    assert!(some(&|op, _| matches!(op, Op::MaxPool(pool) if unequal(&pool.axes))));
    assert!(some(&|op, _| matches!(op, Op::Clip(clip) if clip.low == f32::NEG_INFINITY)));
    assert!(nodes().any(|node| node.op == Linear.into() && node.parameters.len() == 1));
    for function in BINARY {
        assert!(some(&|op, _| *op == Op::from(Binary { function })), "{function:?}");
    }
    let functions: BTreeSet<String> = nodes().filter_map(function).collect();
    assert_eq!(functions.len(), 16, "{functions:?}");
    // Normalised along the last axes, and along others.
    let along = |first: bool| {
        move |op: &Op, shape: &Shape| {
            matches!(op, Op::LayerNormalization(norm)
            if (norm.axes.last() == Some(&(shape.space().len() as u32))) == first)
        }
    };
    assert!(some(&along(true)) && some(&along(false)));
}

/// The name of the function of a node that applies one.
fn function(node: &Node) -> Option<String> {
    let Op::Map(Map { function }) = &node.op else { return None };
    let name = format!("{function:?}");
    Some(name.split(' ').next().unwrap().to_owned())
}

/// How many random graphs are compared.
pub const GRAPHS: u64 = 160;

/// Values that a random graph may have at most, so that the reference stays fast.
const MAX_ELEMENTS: u64 = 2_000;

/// A graph of random operations on a picture or a sequence.
pub fn random_graph(seed: u64) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut net = Net::default();
    let axes = rng.random_range(1..=2);
    let space: Vec<u32> = (0..axes).map(|_| rng.random_range(1..7)).collect();
    let shape = Shape::new(rng.random_range(1..5), &space).unwrap();
    let mut values = vec![net.builder.input("input", shape).unwrap()];
    for _ in 0..10 {
        if let Some(value) = random_node(&mut net, &mut rng, &values)
            && net.builder.shape(value).elements() <= MAX_ELEMENTS
        {
            values.push(value);
        }
    }
    let mut output = *values.last().unwrap();
    // A map of positions may be the output too.
    if rng.random_bool(0.5) {
        let features = net.add(Flatten, &[output], &[]).unwrap();
        output = net.linear(features, 3, true).unwrap();
    }
    net.builder.finish(&[output]).unwrap()
}

/// Adds a random node, unless the operation that was drawn fits none of the values.
fn random_node(net: &mut Net, rng: &mut ChaCha8Rng, values: &[ValueId]) -> Option<ValueId> {
    let mut pick = || {
        let back = rng.random_range(0..values.len()).min(rng.random_range(0..values.len()));
        values[values.len() - 1 - back]
    };
    let (first, second) = (pick(), pick());
    let shape = net.builder.shape(first).clone();
    let axes = shape.space().len();
    let same_space = net.builder.shape(second).space() == shape.space();
    let alike = *net.builder.shape(second) == shape;
    let operands = [&shape, net.builder.shape(second)];
    let fits = Add.infer(&Operands { inputs: &operands, parameters: &[] }).is_ok();
    match rng.random_range(0..33) {
        0 => random_conv(net, rng, first, Groups::Equal(1)),
        1 => random_conv(net, rng, first, Groups::PerChannel),
        2 if shape.channels().is_multiple_of(2) => {
            random_conv(net, rng, first, Groups::of(2, shape.channels()))
        }
        3 if axes > 0 => {
            let kernel = rng.random_range(1..4);
            let axis = WindowAxis {
                stride: rng.random_range(1..3),
                dilation: rng.random_range(1..3),
                before: rng.random_range(0..4),
                after: rng.random_range(0..4),
            };
            let (kernel, axes) = ((0..axes).map(|_| kernel), (0..axes).map(|_| axis));
            net.add(MaxPool { kernel: kernel.collect(), axes: axes.collect() }, &[first], &[])
        }
        4 => {
            let parts = [
                ("scale", Role::Scale),
                ("shift", Role::Shift),
                ("mean", Role::Mean),
                ("variance", Role::Variance),
            ];
            let parts = parts.map(|(part, role)| net.parameter(part, &[shape.channels()], role));
            net.add(BatchNormalization { epsilon: 1e-2 }, &[first], &parts)
        }
        5 => {
            let clips = [
                Clip::RELU,
                Clip::RELU6,
                Clip { low: f32::NEG_INFINITY, high: 0.5 },
                Clip { low: -0.5, high: f32::INFINITY },
                Clip { low: -0.25, high: 0.75 },
            ];
            net.add(clips[rng.random_range(0..clips.len())], &[first], &[])
        }
        6 | 7 => random_map(net, rng, first),
        8 if fits => net.add(Add, &[first, second], &[]),
        9 if same_space => net.add(Concat::channels(), &[first, second, first], &[]),
        10 => {
            // Squeeze-and-excitation.
            let squeezed = net.add(GlobalAveragePool, &[first], &[])?;
            let hidden = net.linear(squeezed, rng.random_range(1..4), false)?;
            let hidden = net.add(Clip::RELU, &[hidden], &[])?;
            let gate = net.linear(hidden, shape.channels(), true)?;
            let gate = net.add(Map { function: Function::Sigmoid }, &[gate], &[])?;
            net.add(Multiply, &[first, gate], &[])
        }
        11 => {
            let axis = rng.random_range(0..=axes);
            let size = shape.sizes()[axis];
            let count = rng.random_range(1..=size + 1);
            let indices = (0..count).map(|_| rng.random_range(0..size)).collect();
            net.add(Gather { axis: axis as u32, indices }, &[first], &[])
        }
        12 if shape.elements() < 200 => net.add(Flatten, &[first], &[]),
        13 => net.linear(first, rng.random_range(1..6), rng.random_bool(0.5)),
        14 if fits => net.add(Multiply, &[first, second], &[]),
        15 => net.add(LeakyRelu { slope: rng.random_range(-0.5..1.5) }, &[first], &[]),
        16 if axes > 0 => {
            let axis = rng.random_range(1..=axes) as u32;
            net.add(Concat { axis }, &[first, first], &[])
        }
        17 if axes > 0 => {
            let transposed = [[false, true], [true, false]][rng.random_range(0..2)];
            net.add(MatrixProduct { transposed }, &[first, first], &[])
        }
        18 => {
            let mut order: Vec<u32> = (0..=axes as u32).collect();
            order.rotate_left(rng.random_range(0..=axes));
            net.add(Transpose { order: order.into() }, &[first], &[])
        }
        19 => {
            let (channels, positions) = (shape.channels(), shape.positions() as u32);
            let sizes = match rng.random_range(0..3) {
                0 if channels.is_multiple_of(2) => vec![channels / 2, 2, positions],
                1 => vec![positions, channels],
                _ => vec![channels, positions],
            };
            net.add(Reshape { sizes: sizes.into() }, &[first], &[])
        }
        20 => {
            let mut some = || (0..=axes).map(|_| rng.random_range(0..2)).collect();
            let (before, after) = (some(), some());
            net.add(Pad { before, after, value: 0.75 }, &[first], &[])
        }
        21 if axes > 0 => random_average_pool(net, rng, first),
        22 if axes > 0 => {
            let resize = random_resize(rng, shape.space());
            net.add(resize, &[first], &[])
        }
        23 | 24 => random_conv_transpose(net, rng, first),
        25 if alike => net.add(Add, &[first, second], &[]),
        26 if fits => random_binary(net, rng, first, second),
        27 if fits => {
            let less = net.add(Binary { function: BinaryFunction::Less }, &[first, second], &[])?;
            net.add(Select, &[[less, first][rng.random_range(0..2)], second, first], &[])
        }
        28 => {
            let slope = net.parameter("slope", &[shape.channels()], Role::Slope);
            net.add(Prelu, &[first], &[slope])
        }
        29 => {
            let mut sizes = shape.sizes();
            sizes.truncate(rng.random_range(1..=sizes.len()));
            sizes.iter_mut().filter(|_| rng.random_bool(0.2)).for_each(|size| *size = 1);
            let value = net.parameter("value", &sizes, Role::Constant);
            let constant = net.add(Constant, &[], &[value])?;
            match rng.random_range(0..4) {
                0 => Some(constant),
                1 => net.add(Multiply, &[constant, constant], &[]),
                2 => net.add(Add, &[constant, first], &[]),
                _ => net.add(Multiply, &[first, constant], &[]),
            }
        }
        30 => {
            let functions = [
                ReduceFunction::L2,
                ReduceFunction::Maximum,
                ReduceFunction::Mean,
                ReduceFunction::Minimum,
                ReduceFunction::Sum,
            ];
            let function = functions[rng.random_range(0..functions.len())];
            net.add(Reduce { function, axes: random_axes(rng, axes).into() }, &[first], &[])
        }
        31 => {
            let softmax =
                Softmax { axis: rng.random_range(0..=axes as u32), log: rng.random_bool(0.5) };
            net.add(softmax, &[first], &[])
        }
        32 => {
            let axes = random_axes(rng, axes);
            let sizes: Vec<u32> = axes.iter().map(|&axis| shape.sizes()[axis as usize]).collect();
            let parts = [("scale", Role::Scale), ("shift", Role::Shift)];
            let parts = parts.iter().take(rng.random_range(0..=2));
            let parts: Vec<ParameterId> =
                parts.map(|&(part, role)| net.parameter(part, &sizes, role)).collect();
            net.add(LayerNormalization { axes: axes.into(), epsilon: 0.1 }, &[first], &parts)
        }
        _ => None,
    }
}

fn random_average_pool(net: &mut Net, rng: &mut ChaCha8Rng, input: ValueId) -> Option<ValueId> {
    let axes = net.builder.shape(input).space().len();
    let kernel: Vec<u32> = (0..axes).map(|_| rng.random_range(1..4)).collect();
    let dilated = rng.random_bool(0.3);
    let axis = |rng: &mut ChaCha8Rng| WindowAxis {
        stride: rng.random_range(1..4),
        dilation: if dilated { 2 } else { 1 },
        before: rng.random_range(0..3),
        after: rng.random_range(0..4),
    };
    let axes: Vec<WindowAxis> = (0..axes).map(|_| axis(rng)).collect();
    let how = rng.random_range(0..3);
    let counted = axes.iter().map(|axis| match how {
        0 => (0, 0),
        1 => (axis.before, axis.after),
        _ => (rng.random_range(0..=axis.before), rng.random_range(0..=axis.after)),
    });
    let counted = counted.collect();
    net.add(AveragePool { kernel: kernel.into(), axes: axes.into(), counted }, &[input], &[])
}

fn random_resize(rng: &mut ChaCha8Rng, space: &[u32]) -> Resize {
    let roundings = [Rounding::HalfDown, Rounding::HalfUp, Rounding::Floor, Rounding::Ceil];
    let mode = match rng.random_range(0..8) {
        at @ 0..4 => ResizeMode::Nearest(roundings[at]),
        _ => ResizeMode::Linear,
    };
    let alike = rng.random_bool(0.7);
    let all = [
        Coordinates::HalfPixel,
        Coordinates::PytorchHalfPixel,
        Coordinates::Asymmetric,
        Coordinates::AlignCorners,
        Coordinates::HalfPixelSymmetric,
    ];
    let first = rng.random_range(0..all.len());
    let axes = space.iter().map(|&size| {
        let scale = [0.5, 0.6, 1.0, 1.3, 2.0, 2.75][rng.random_range(0..6)];
        let size = ((size as f32 * scale) as u32).max(1) + u32::from(rng.random_bool(0.1));
        let coordinates = all[if alike { first } else { rng.random_range(0..all.len()) }];
        ResizeAxis { size, scale, coordinates }
    });
    Resize { mode, axes: axes.collect() }
}

fn random_conv_transpose(net: &mut Net, rng: &mut ChaCha8Rng, input: ValueId) -> Option<ValueId> {
    let shape = net.builder.shape(input).clone();
    let (channels, axes) = (shape.channels(), shape.space().len());
    if !(1..=2).contains(&axes) {
        return None;
    }
    let halves = if channels.is_multiple_of(2) { 2 } else { 1 };
    let parts = [1, halves, channels][rng.random_range(0..3)];
    let filters = parts * rng.random_range(1..3);
    let kernel: Vec<u32> = (0..axes).map(|_| rng.random_range(1..4)).collect();
    let axes = kernel.iter().map(|&kernel| TransposedAxis {
        stride: rng.random_range(1..4),
        dilation: rng.random_range(1..3),
        before: rng.random_range(0..kernel),
        after: rng.random_range(0..2),
        extra: rng.random_range(1..4),
    });
    let conv = ConvTranspose { axes: axes.collect(), groups: Groups::of(parts, channels) };
    let sizes = [&[filters, channels / parts], &kernel[..]].concat();
    let mut parameters = vec![net.parameter("weight", &sizes, Role::Weight)];
    if rng.random_bool(0.5) {
        parameters.push(net.parameter("bias", &[filters], Role::Bias));
    }
    net.add(conv, &[input], &parameters)
}

/// One of the functions of a number, of numbers for which its slope is not large.
fn random_map(net: &mut Net, rng: &mut ChaCha8Rng, input: ValueId) -> Option<ValueId> {
    let small = Clip { low: -2.0, high: 2.0 };
    let positive = Clip { low: 0.5, high: 4.0 };
    let functions = [
        (Function::Absolute, None),
        (Function::Elu { alpha: 0.7 }, None),
        (Function::Erf, None),
        (Function::Exponential, Some(small)),
        (Function::Gelu, None),
        (Function::GeluTanh, None),
        (Function::HardSigmoid { slope: 0.3, offset: 0.4 }, None),
        (Function::HardSwish, None),
        (Function::Logarithm, Some(positive)),
        (Function::Power { exponent: 2.0 }, Some(small)),
        (Function::Power { exponent: -0.5 }, Some(positive)),
        (Function::Scale { factor: 0.7, offset: -0.3 }, None),
        (Function::Scale { factor: -1.5, offset: 0.0 }, None),
        (Function::Sigmoid, None),
        (Function::Silu, None),
        (Function::Softplus, None),
        (Function::SquareRoot, Some(positive)),
        (Function::Tanh, None),
    ];
    let (function, bounds) = functions[rng.random_range(0..functions.len())];
    let input = match bounds {
        Some(clip) => net.add(clip, &[input], &[])?,
        None => input,
    };
    net.add(Map { function }, &[input], &[])
}

/// One of the functions of two numbers.
fn random_binary(
    net: &mut Net,
    rng: &mut ChaCha8Rng,
    first: ValueId,
    second: ValueId,
) -> Option<ValueId> {
    let function = BINARY[rng.random_range(0..BINARY.len())];
    let bounded = matches!(function, BinaryFunction::Divide | BinaryFunction::Power);
    let mut inputs = [first, second];
    if bounded {
        for input in &mut inputs {
            *input = net.add(Clip { low: 0.5, high: 2.0 }, &[*input], &[])?;
        }
    }
    net.add(Binary { function }, &inputs, &[])
}

const BINARY: [BinaryFunction; 8] = [
    BinaryFunction::Divide,
    BinaryFunction::Equal,
    BinaryFunction::Less,
    BinaryFunction::LessOrEqual,
    BinaryFunction::Maximum,
    BinaryFunction::Minimum,
    BinaryFunction::Power,
    BinaryFunction::Subtract,
];

/// Some of the axes of a value with so many axes of positions.
fn random_axes(rng: &mut ChaCha8Rng, space: usize) -> Vec<u32> {
    let mut axes: Vec<u32> = (0..=space as u32).filter(|_| rng.random_bool(0.5)).collect();
    if axes.is_empty() {
        axes.push(space as u32);
    }
    axes
}

fn random_conv(
    net: &mut Net,
    rng: &mut ChaCha8Rng,
    input: ValueId,
    groups: Groups,
) -> Option<ValueId> {
    let shape = net.builder.shape(input).clone();
    let axes = shape.space().len();
    if !(1..=2).contains(&axes) {
        return None;
    }
    let axis = |rng: &mut ChaCha8Rng| WindowAxis {
        stride: rng.random_range(1..3),
        dilation: rng.random_range(1..3),
        before: rng.random_range(2..4),
        after: rng.random_range(2..5),
    };
    let conv = Conv { axes: (0..axes).map(|_| axis(rng)).collect(), groups };
    let parts = conv.parts(shape.channels());
    let filters = parts * rng.random_range(1..4);
    let mut sizes = vec![filters, shape.channels() / parts];
    sizes.extend((0..axes).map(|_| rng.random_range(1..4)));
    let weight = net.parameter("weight", &sizes, Role::Weight);
    let mut parameters = vec![weight];
    if rng.random_bool(0.5) {
        parameters.push(net.parameter("bias", &[filters], Role::Bias));
    }
    net.add(conv, &[input], &parameters)
}

/// A graph in the making.
#[derive(Default)]
struct Net {
    builder: GraphBuilder,
    count: usize,
}

impl Net {
    /// Adds a node, unless the operation does not fit its inputs.
    fn add(
        &mut self,
        op: impl Into<Op>,
        inputs: &[ValueId],
        parameters: &[ParameterId],
    ) -> Option<ValueId> {
        let name = format!("value{}", self.count);
        let value = self.builder.node(name, op, inputs, parameters, Place::default());
        self.count += 1;
        assert!(parameters.is_empty() || value.is_ok(), "its parameters would be left over");
        value.ok()
    }

    fn parameter(&mut self, part: &str, shape: &[u32], role: Role) -> ParameterId {
        let name = format!("value{}.{part}", self.count);
        self.builder.parameter(name, shape, role).unwrap()
    }

    fn linear(&mut self, input: ValueId, out: u32, with_bias: bool) -> Option<ValueId> {
        let channels = self.builder.shape(input).channels();
        let mut parameters = vec![self.parameter("weight", &[out, channels], Role::Weight)];
        if with_bias {
            parameters.push(self.parameter("bias", &[out], Role::Bias));
        }
        self.add(Linear, &[input], &parameters)
    }
}

/// Random bytes for a graph.
pub fn pictures(graph: &Graph, seed: u64) -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let size = graph.input().elements();
    (0..5).map(|_| (0..size).map(|_| rng.random()).collect()).collect()
}

/// Another one for each channel.
pub fn normalization(graph: &Graph) -> Normalization {
    let channels = || (0..graph.input().channels()).map(|channel| channel as f32);
    Normalization {
        mean: channels().map(|c| 0.4 + 0.02 * c).collect(),
        std: channels().map(|c| 0.5 + 0.1 * c).collect(),
    }
}

pub fn normalized(graph: &Graph, image: &[u8]) -> Vec<f32> {
    let Normalization { mean, std } = normalization(graph);
    let plane = graph.input().positions() as usize;
    let channel = |i: usize| i / plane;
    let pixels = image.iter().enumerate();
    pixels.map(|(i, &b)| (f32::from(b) / 255.0 - mean[channel(i)]) / std[channel(i)]).collect()
}

/// What a graph computes if every annotated value and weight is rounded to its levels.
pub fn in_levels(
    graph: &Graph,
    weights: &Weights,
    quantization: &Quantization,
    image: Vec<f32>,
) -> Vec<f32> {
    let mut rounded = weights.clone();
    for (_, node) in graph.nodes() {
        let Some(&weight) = node.parameters.first() else { continue };
        let Some(scales) = quantization.parameter(weight) else { continue };
        let mut round = |id: ParameterId, scale: &dyn Fn(usize) -> f64| {
            let data = &mut rounded.arrays.get_mut(&*graph.parameter(id).name).unwrap().data;
            let row = data.len() / scales.len();
            for (i, number) in data.iter_mut().enumerate() {
                let scale = scale(i / row);
                *number = ((f64::from(*number) / scale).round() * scale) as f32;
            }
        };
        round(weight, &|channel| scales[channel]);
        let input = f64::from(quantization.value(node.inputs[0]).unwrap().scale);
        if let Some(&bias) = node.parameters.get(1) {
            round(bias, &|channel| scales[channel] * input);
        }
    }
    let level = |id: ValueId, values: &mut Vec<f32>| {
        let Some(Affine { scale, zero_point }) = quantization.value(id) else { return };
        if graph.outputs().contains(&id) {
            return;
        }
        let zero = f32::from(zero_point);
        let byte = |real: f32| ((real / scale).round() + zero).clamp(0.0, 255.0);
        values.iter_mut().for_each(|value| *value = (byte(*value) - zero) * scale);
    };
    let evaluator = Evaluator::<f32>::new(graph, &rounded);
    let mut values = vec![image];
    level(graph.inputs().next().unwrap(), &mut values[0]);
    for (id, node) in graph.nodes() {
        let mut output = evaluator.node(id, &values);
        level(node.output, &mut output);
        values.push(output);
    }
    values.swap_remove(graph.outputs()[0].index())
}
