//! Random graphs of every operation, with random weights.

use edgesmith_graph::{
    Add, Array, AveragePool, Binary, BinaryFunction, Clip, Concat, Conv, ConvTranspose,
    Coordinates, Flatten, Function, Gather, GlobalAveragePool, Graph, Groups, LayerNormalization,
    LeakyRelu, Map, MatrixProduct, MaxPool, Multiply, Op, Operation, Pad, Prelu, Reduce,
    ReduceFunction, Reshape, Resize, ResizeAxis, ResizeMode, Role, Rounding, Select, Shape,
    Softmax, Transpose, TransposedAxis, ValueId, Weights, WindowAxis,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smallvec::SmallVec;

use crate::Net;

/// Values that a random graph may have at most, so that tests stay fast.
const MAX_ELEMENTS: u64 = 2_000;

/// A graph of up to `nodes` random nodes on a picture or a sequence, which ends in a linear layer.
pub fn graph(seed: u64, nodes: usize) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut net = Net::new();
    let axes = rng.random_range(1..=2);
    let space: Vec<u32> = (0..axes).map(|_| rng.random_range(1..6)).collect();
    let input = net.input(Shape::new(rng.random_range(1..4), &space).unwrap());
    let mut values = vec![input];
    for _ in 0..nodes {
        if let Some(value) = node(&mut net, &mut rng, &values)
            && net.builder.shape(value).elements() <= MAX_ELEMENTS
        {
            values.push(value);
        }
    }
    let last = *values.last().unwrap();
    let features = net.op(Flatten, &[last]);
    let output = net.linear(features, 3);
    net.builder.finish(&[output]).unwrap()
}

/// Adds a random node, unless the operation that was drawn fits none of the values.
fn node(net: &mut Net, rng: &mut ChaCha8Rng, values: &[ValueId]) -> Option<ValueId> {
    // Recent values are likelier, so that graphs become deep.
    let mut pick = || {
        let back = rng.random_range(0..values.len()).min(rng.random_range(0..values.len()));
        values[values.len() - 1 - back]
    };
    let (first, second) = (pick(), pick());
    let shape = net.builder.shape(first).clone();
    let axes = shape.space().len();
    let same_space = net.builder.shape(second).space() == shape.space();
    let alike = *net.builder.shape(second) == shape;
    let fits = net.fits(&[first, second]);
    match rng.random_range(0..33) {
        0 => {
            let filters = rng.random_range(1..6);
            convolution(net, rng, first, Groups::Equal(1), filters)
        }
        1 => {
            let filters = shape.channels() * rng.random_range(1..3);
            convolution(net, rng, first, Groups::PerChannel, filters)
        }
        2 => {
            let groups = (2..=4).find(|groups| shape.channels().is_multiple_of(*groups))?;
            let filters = groups * rng.random_range(1..4);
            let groups = Groups::of(groups, shape.channels());
            convolution(net, rng, first, groups, filters)
        }
        3 if axes > 0 => {
            let kernel = rng.random_range(1..4);
            let axis = WindowAxis::same(kernel, rng.random_range(1..3));
            let pool = MaxPool {
                kernel: SmallVec::from_elem(kernel, axes),
                axes: SmallVec::from_elem(axis, axes),
            };
            // An even kernel does not fit on one position.
            net.try_op(pool, &[first]).ok()
        }
        4 => Some(net.normalize(first)),
        5 => Some(net.op([Clip::RELU, Clip::RELU6][rng.random_range(0..2)], &[first])),
        6 | 7 => Some(map(net, rng, first)),
        8 if fits => Some(net.op(Add, &[first, second])),
        9 if same_space => Some(net.op(Concat::channels(), &[first, second, first])),
        10 => {
            // Squeeze-and-excitation.
            let squeezed = net.op(GlobalAveragePool, &[first]);
            let hidden = net.linear(squeezed, rng.random_range(1..4));
            let hidden = net.op(Clip::RELU, &[hidden]);
            let gate = net.linear(hidden, shape.channels());
            let gate = net.op(Map { function: Function::Sigmoid }, &[gate]);
            Some(net.op(Multiply, &[first, gate]))
        }
        11 => {
            let axis = rng.random_range(0..=axes);
            let size = shape.sizes()[axis];
            let count = rng.random_range(1..=size + 1);
            let indices = (0..count).map(|_| rng.random_range(0..size)).collect();
            Some(net.op(Gather { axis: axis as u32, indices }, &[first]))
        }
        12 if shape.elements() < 200 => Some(net.op(Flatten, &[first])),
        13 => Some(net.linear(first, rng.random_range(1..6))),
        14 if fits => Some(net.op(Multiply, &[first, second])),
        15 => Some(net.op(LeakyRelu { slope: rng.random_range(-0.5..1.5) }, &[first])),
        16 if axes > 0 => {
            Some(net.op(Concat { axis: rng.random_range(1..=axes) as u32 }, &[first, first]))
        }
        17 if axes > 0 => {
            let transposed = [[false, true], [true, false]][rng.random_range(0..2)];
            Some(net.op(MatrixProduct { transposed }, &[first, first]))
        }
        18 => {
            let mut order: Vec<u32> = (0..=axes as u32).collect();
            // The channels stay in place more often than not, so that they can be pruned.
            let start = rng.random_range(0..3_usize).min(1).min(axes);
            order[start..].reverse();
            Some(net.op(Transpose { order: order.into() }, &[first]))
        }
        19 => Some(net.op(reshape(rng, &shape), &[first])),
        20 => {
            let channels = rng.random_bool(0.2);
            let mut some = || -> SmallVec<[u32; 3]> {
                let sizes = (0..=axes).map(|axis| match axis {
                    0 => u32::from(channels),
                    _ => rng.random_range(0..3),
                });
                sizes.collect()
            };
            let (before, after) = (some(), some());
            Some(net.op(Pad { before, after, value: rng.random_range(-1.0..1.0) }, &[first]))
        }
        21 if axes > 0 => {
            let kernel = (0..axes).map(|_| rng.random_range(1..4)).collect();
            let axes = (0..axes).map(|_| WindowAxis {
                stride: rng.random_range(1..3),
                dilation: rng.random_range(1..3),
                before: rng.random_range(0..4),
                after: rng.random_range(0..4),
            });
            let axes: SmallVec<[WindowAxis; 2]> = axes.collect();
            let counted = axes
                .iter()
                .map(|axis| (rng.random_range(0..=axis.before), rng.random_range(0..=axis.after)));
            let counted = counted.collect();
            net.try_op(AveragePool { kernel, axes, counted }, &[first]).ok()
        }
        22 if axes > 0 => Some(net.op(resize(rng, axes), &[first])),
        23 | 24 => transposed_convolution(net, rng, first),
        25 if alike => Some(net.op(Add, &[first, second])),
        26 if fits => Some(binary(net, rng, first, second)),
        27 => Some(net.with(Prelu, &[first], &[("slope", &[shape.channels()], Role::Slope)])),
        28 => {
            // Something that is repeated to fit, on either side.
            let sizes = part(rng, &shape);
            let constant = net.constant(&sizes);
            let operands = [[first, constant], [constant, first]];
            let op = [Op::from(Add), Op::from(Multiply)][rng.random_range(0..2)].clone();
            Some(net.op(op, &operands[rng.random_range(0..2)]))
        }
        29 if fits => {
            let less = net.op(Binary { function: BinaryFunction::Less }, &[first, second]);
            let condition = [less, first][rng.random_range(0..2)];
            Some(net.op(Select, &[condition, second, first]))
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
            Some(net.op(Reduce { function, axes: some_axes(rng, axes) }, &[first]))
        }
        31 => {
            let softmax = Softmax { axis: rng.random_range(0..=axes as u32), log: rng.random() };
            Some(net.op(softmax, &[first]))
        }
        32 => {
            let axes = some_axes(rng, axes);
            let sizes: Vec<u32> = axes.iter().map(|&axis| shape.sizes()[axis as usize]).collect();
            let parameters = [("scale", &*sizes, Role::Scale), ("shift", &*sizes, Role::Shift)];
            let norm = LayerNormalization { axes, epsilon: 0.1 };
            Some(net.with(norm, &[first], &parameters[..rng.random_range(0..=2)]))
        }
        _ => None,
    }
}

/// The numbers of a value with other sizes, such that its channels stay, are split, are merged or
/// mix.
fn reshape(rng: &mut ChaCha8Rng, shape: &Shape) -> Reshape {
    let (channels, positions) = (shape.channels(), shape.positions() as u32);
    let sizes = match rng.random_range(0..4) {
        0 => vec![channels, positions],
        1 => vec![channels, 1, positions],
        2 if channels.is_multiple_of(2) => vec![channels / 2, 2, positions],
        3 if positions.is_multiple_of(2) => vec![channels * 2, positions / 2],
        _ => vec![positions, channels],
    };
    Reshape { sizes: sizes.into() }
}

fn resize(rng: &mut ChaCha8Rng, axes: usize) -> Resize {
    let modes = [
        ResizeMode::Linear,
        ResizeMode::Nearest(Rounding::HalfDown),
        ResizeMode::Nearest(Rounding::Ceil),
    ];
    let coordinates = [Coordinates::HalfPixel, Coordinates::Asymmetric, Coordinates::AlignCorners];
    let mode = modes[rng.random_range(0..modes.len())];
    let axes = (0..axes).map(|_| ResizeAxis {
        size: rng.random_range(1..6),
        scale: rng.random_range(0.3..3.0),
        coordinates: coordinates[rng.random_range(0..coordinates.len())],
    });
    Resize { mode, axes: axes.collect() }
}

fn transposed_convolution(net: &mut Net, rng: &mut ChaCha8Rng, input: ValueId) -> Option<ValueId> {
    let shape = net.builder.shape(input).clone();
    let (channels, axes) = (shape.channels(), shape.space().len());
    if !(1..=2).contains(&axes) {
        return None;
    }
    let groups = (2..=4).find(|groups| channels.is_multiple_of(*groups)).unwrap_or(1);
    let parts = [1, channels, groups][rng.random_range(0..3)];
    let filters = parts * rng.random_range(1..4);
    let kernel: Vec<u32> = (0..axes).map(|_| rng.random_range(1..4)).collect();
    let axes = kernel.iter().map(|&kernel| TransposedAxis {
        stride: rng.random_range(1..3),
        dilation: rng.random_range(1..3),
        // One position is left at least.
        before: rng.random_range(0..kernel),
        after: 0,
        extra: rng.random_range(0..2),
    });
    let op = ConvTranspose { axes: axes.collect(), groups: Groups::of(parts, channels) };
    Some(net.conv_transpose(input, op, filters, &kernel))
}

/// One of the functions of a number, of numbers for which it has a value that is not huge.
fn map(net: &mut Net, rng: &mut ChaCha8Rng, input: ValueId) -> ValueId {
    let (exponent, factor) = (3.0, rng.random_range(-1.0..1.0));
    let functions = [
        Function::Absolute,
        Function::Elu { alpha: 0.7 },
        Function::Erf,
        Function::Gelu,
        Function::GeluTanh,
        Function::HardSigmoid { slope: 0.2, offset: 0.5 },
        Function::HardSwish,
        Function::Scale { factor, offset: 0.5 },
        Function::Sigmoid,
        Function::Silu,
        Function::Softplus,
        Function::Tanh,
        // Of numbers that are bounded.
        Function::Exponential,
        Function::Power { exponent },
        // Of numbers that are not negative.
        Function::SquareRoot,
        Function::Power { exponent: 0.5 },
        // Of numbers above 0.
        Function::Logarithm,
        Function::Power { exponent: -1.0 },
    ];
    let place = rng.random_range(0..functions.len());
    let input = match place {
        12 | 13 => net.op(Clip { low: -2.0, high: 2.0 }, &[input]),
        14 | 15 => net.op(Clip { low: 0.0, high: 4.0 }, &[input]),
        16 | 17 => net.op(Clip { low: 0.5, high: 4.0 }, &[input]),
        _ => input,
    };
    net.op(Map { function: functions[place] }, &[input])
}

/// One of the functions of two numbers.
fn binary(net: &mut Net, rng: &mut ChaCha8Rng, first: ValueId, second: ValueId) -> ValueId {
    let functions = [
        BinaryFunction::Equal,
        BinaryFunction::Less,
        BinaryFunction::LessOrEqual,
        BinaryFunction::Maximum,
        BinaryFunction::Minimum,
        BinaryFunction::Subtract,
        BinaryFunction::Subtract,
        // Of numbers above 0.
        BinaryFunction::Divide,
        BinaryFunction::Power,
    ];
    let place = rng.random_range(0..functions.len());
    let inputs = if place >= 7 {
        [first, second].map(|value| net.op(Clip { low: 0.5, high: 2.0 }, &[value]))
    } else {
        [first, second]
    };
    net.op(Binary { function: functions[place] }, &inputs)
}

/// Sizes that are repeated to fit a value: some are 1, and some at the end are absent.
fn part(rng: &mut ChaCha8Rng, shape: &Shape) -> Vec<u32> {
    let mut sizes = shape.sizes();
    sizes.truncate(rng.random_range(1..=sizes.len()));
    sizes.into_iter().map(|size| if rng.random_bool(0.3) { 1 } else { size }).collect()
}

/// Some of the axes of a value with so many axes of positions.
fn some_axes(rng: &mut ChaCha8Rng, space: usize) -> SmallVec<[u32; 3]> {
    let mut axes: SmallVec<[u32; 3]> =
        (0..=space as u32).filter(|_| rng.random_bool(0.5)).collect();
    if axes.is_empty() {
        axes.push(space as u32);
    }
    axes
}

fn convolution(
    net: &mut Net,
    rng: &mut ChaCha8Rng,
    input: ValueId,
    groups: Groups,
    filters: u32,
) -> Option<ValueId> {
    let axes = net.builder.shape(input).space().len();
    if !(1..=2).contains(&axes) {
        return None;
    }
    let kernel = rng.random_range(1..4);
    let axis = |rng: &mut ChaCha8Rng| WindowAxis {
        stride: rng.random_range(1..3),
        dilation: rng.random_range(1..3),
        before: kernel,
        after: rng.random_range(0..2) + kernel,
    };
    let axes = (0..axes).map(|_| axis(rng)).collect();
    net.try_conv(input, Conv { axes, groups }, filters, kernel).ok()
}

/// Numbers for all parameters of a graph.
pub fn weights(graph: &Graph, seed: u64) -> Weights {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let arrays = graph.parameters().map(|(_, parameter)| {
        let range = match parameter.role {
            Role::Variance => 0.5..1.5,
            Role::Weight
            | Role::Bias
            | Role::Scale
            | Role::Shift
            | Role::Mean
            | Role::Slope
            | Role::Constant => -1.0..1.0,
        };
        let data = (0..parameter.elements()).map(|_| rng.random_range(range.clone())).collect();
        (parameter.name.to_string(), Array { shape: parameter.sizes(), data })
    });
    Weights { arrays: arrays.collect() }
}

/// An input for a graph.
pub fn input(graph: &Graph, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let input = graph.inputs().next().unwrap();
    (0..graph.shape(input).elements()).map(|_| rng.random_range(-1.0..1.0)).collect()
}

#[test]
fn random_graphs_have_every_operation() {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..200 {
        kinds.extend(graph(seed, 12).nodes().map(|(_, node)| node.op.kind()));
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), Op::KINDS);
}
