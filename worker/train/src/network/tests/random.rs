//! Random graphs of every operation.

use edgesmith_graph::{
    Add, AveragePool, Binary, BinaryFunction, Clip, Concat, Conv, ConvTranspose, Coordinates,
    Flatten, Function, Gather, GlobalAveragePool, Graph, Groups, LeakyRelu, MatrixProduct, MaxPool,
    Multiply, Op, Operands, Operation, Pad, Reduce, ReduceFunction, Reshape, Resize, ResizeAxis,
    ResizeMode, Rounding, Select, Shape, Softmax, Transpose, TransposedAxis, ValueId, WindowAxis,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::net::Net;

/// Numbers that a value may have at most, so that tests stay fast.
const MAX_ELEMENTS: u64 = 400;

/// A graph of some random nodes on a picture or a sequence, which ends in a linear layer that reads
/// all values which nothing else reads.
pub(crate) fn graph(seed: u64, nodes: usize) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let axes = rng.random_range(1..=2);
    let space: Vec<u32> = (0..axes).map(|_| rng.random_range(2..6)).collect();
    let (mut net, input) = Net::new(rng.random_range(1..4), &space);
    let mut values = vec![input];
    let mut unread: Vec<ValueId> = Vec::new();
    while values.len() <= nodes {
        let [first, second] = [0, 1].map(|_| {
            // Recent values are likelier, so that graphs become deep.
            let back = rng.random_range(0..values.len()).min(rng.random_range(0..values.len()));
            values[values.len() - 1 - back]
        });
        let Some((read, value)) = node(&mut net, &mut rng, first, second) else { continue };
        unread.retain(|value| !read.contains(value));
        unread.push(value);
        values.push(value);
    }
    let vectors: Vec<ValueId> = unread.into_iter().map(|value| net.op(Flatten, &[value])).collect();
    let features = net.op(Concat::channels(), &vectors);
    let output = net.linear(features, 3, true);
    net.finish(output)
}

/// Adds a random operation, if the one that was drawn fits. Returns what it reads, and its output.
fn node(
    net: &mut Net,
    rng: &mut ChaCha8Rng,
    first: ValueId,
    second: ValueId,
) -> Option<(Vec<ValueId>, ValueId)> {
    let shape = net.builder.shape(first).clone();
    let (channels, axes) = (shape.channels(), shape.space().len());
    let other = net.builder.shape(second);
    // Whether both are repeated to one shape of a few numbers.
    let repeated = Add.infer(&Operands { inputs: &[&shape, other], parameters: &[] });
    let fits = repeated.is_ok_and(|shape: Shape| shape.elements() <= MAX_ELEMENTS);
    let alike = *other == shape;
    let same_space = net.builder.shape(second).space() == shape.space();
    let small = |shape: u64| shape <= MAX_ELEMENTS;
    let window = |rng: &mut ChaCha8Rng, padding: u32| WindowAxis {
        stride: rng.random_range(1..3),
        dilation: rng.random_range(1..3),
        before: rng.random_range(0..=padding),
        after: rng.random_range(0..=padding),
    };
    let one = |value| Some((vec![first], value));
    match rng.random_range(0..33) {
        0 if fits => Some((vec![first, second], net.op(Add, &[first, second]))),
        1 => one(net.normalize(first)),
        2 => one(net.op([Clip::RELU, Clip::RELU6][rng.random_range(0..2)], &[first])),
        3 if same_space && small(2 * shape.elements()) => {
            Some((vec![first, second], net.op(Concat::channels(), &[first, second])))
        }
        17 if alike && axes > 0 && small(2 * shape.elements()) => {
            let axis = rng.random_range(1..=axes) as u32;
            Some((vec![first, second], net.op(Concat { axis }, &[first, second])))
        }
        4 if axes > 0 => {
            let filters = rng.random_range(1..5);
            let (conv, filters) = match rng.random_range(0..3) {
                0 => (Groups::Equal(1), filters),
                1 => (Groups::PerChannel, channels * rng.random_range(1..3)),
                _ => {
                    let groups = (2..4).find(|groups| channels.is_multiple_of(*groups))?;
                    (Groups::of(groups, channels), filters * groups)
                }
            };
            let kernel: Vec<u32> = (0..axes).map(|_| rng.random_range(1..4)).collect();
            let axes = (0..axes).map(|_| window(rng, 2)).collect();
            // One that does not fit its input has declared parameters that nothing reads.
            let fits =
                shape.space().iter().zip(&kernel).all(|(size, kernel)| *size >= 2 * kernel - 1);
            let fits = fits && small(u64::from(filters) * shape.positions());
            fits.then(|| net.conv(Conv { axes, groups: conv }, first, filters, &kernel, true))
                .and_then(|value| one(value.unwrap()))
        }
        5 | 14 | 15 if axes == 2 => {
            // One for the fast path.
            let (kernel, stride) = (rng.random_range(0..2) * 2 + 1, rng.random_range(1..3));
            let (conv, filters) = match rng.random_range(0..2) {
                0 => (Conv::dense(kernel, stride), rng.random_range(1..5)),
                _ => (Conv::depthwise(kernel, stride), channels),
            };
            let value = net.conv(conv, first, filters, &[kernel; 2], false).unwrap();
            let value = net.normalize(value);
            match rng.random_range(0..2) {
                0 => one(value),
                _ => one(net.op(Clip::RELU6, &[value])),
            }
        }
        6 if small(shape.elements() / 4) => one(net.op(Flatten, &[first])),
        7 => {
            let axis = rng.random_range(0..=axes);
            let size = shape.sizes()[axis];
            let count = rng.random_range(1..=size + 1);
            let indices = (0..count).map(|_| rng.random_range(0..size)).collect();
            one(net.op(Gather { axis: axis as u32, indices }, &[first]))
        }
        8 | 11 => {
            let functions = [
                Function::Absolute,
                Function::Elu { alpha: 0.5 },
                Function::Erf,
                Function::Gelu,
                Function::GeluTanh,
                Function::HardSigmoid { slope: 0.2, offset: 0.5 },
                Function::HardSwish,
                Function::Scale { factor: -0.7, offset: 0.3 },
                Function::Sigmoid,
                Function::Silu,
                Function::Softplus,
                Function::Tanh,
            ];
            one(net.map(functions[rng.random_range(0..functions.len())], first))
        }
        9 => one(net.linear(first, rng.random_range(1..5), rng.random_range(0..2) == 0)),
        10 if axes > 0 => {
            let kernel: Vec<u32> = (0..axes).map(|_| rng.random_range(2..4)).collect();
            let axes = (0..axes).map(|_| window(rng, 1)).collect();
            let pool = MaxPool { kernel: kernel.into(), axes };
            net.try_op(pool, &[first]).ok().and_then(one)
        }
        12 => {
            let pooled = net.op(GlobalAveragePool, &[first]);
            let gate = net.linear(pooled, channels, true);
            one(net.op(Multiply, &[first, gate]))
        }
        13 if fits => Some((vec![first, second], net.op(Multiply, &[first, second]))),
        16 => one(net.op(LeakyRelu { slope: 0.3 }, &[first])),
        18 if alike && axes > 0 => {
            let transposed = [[false, true], [true, false]][rng.random_range(0..2)];
            let product = net.op(MatrixProduct { transposed }, &[first, second]);
            Some((vec![first, second], product))
        }
        19 => {
            let mut order: Vec<u32> = (0..=axes as u32).collect();
            order.rotate_left(rng.random_range(0..=axes));
            one(net.op(Transpose { order: order.into() }, &[first]))
        }
        20 => {
            let positions = shape.positions() as u32;
            let sizes = match rng.random_range(0..3) {
                0 => vec![channels, positions],
                1 if channels.is_multiple_of(2) => vec![channels / 2, 2, positions],
                _ => vec![positions, 1, channels],
            };
            one(net.op(Reshape { sizes: sizes.into() }, &[first]))
        }
        21 if small(4 * shape.elements()) => {
            let mut some = || (0..=axes).map(|_| rng.random_range(0..2)).collect();
            let (before, after) = (some(), some());
            one(net.op(Pad { before, after, value: 0.5 }, &[first]))
        }
        22 if axes > 0 => {
            let kernel: Vec<u32> = (0..axes).map(|_| rng.random_range(1..4)).collect();
            let axes: Vec<WindowAxis> = (0..axes).map(|_| window(rng, 2)).collect();
            let counted = axes
                .iter()
                .map(|axis| (rng.random_range(0..=axis.before), rng.random_range(0..=axis.after)));
            let counted = counted.collect();
            let pool = AveragePool { kernel: kernel.into(), axes: axes.into(), counted };
            net.try_op(pool, &[first]).ok().and_then(one)
        }
        23 if axes > 0 && small(4 * shape.elements()) => {
            let modes = [ResizeMode::Linear, ResizeMode::Nearest(Rounding::HalfUp)];
            let coordinates = [Coordinates::HalfPixel, Coordinates::AlignCorners];
            let axis = |&size: &u32| ResizeAxis {
                size: rng.random_range(1..=2 * size),
                scale: rng.random_range(0.4..2.0),
                coordinates: coordinates[rng.random_range(0..2)],
            };
            let axes = shape.space().iter().map(axis).collect();
            one(net.op(Resize { mode: modes[rng.random_range(0..2)], axes }, &[first]))
        }
        24 | 25 if axes > 0 && small(4 * shape.elements()) => {
            let groups = [1, channels][rng.random_range(0..2)];
            let kernel: Vec<u32> = (0..axes).map(|_| rng.random_range(1..4)).collect();
            let axes = kernel.iter().map(|&kernel| TransposedAxis {
                stride: rng.random_range(1..3),
                dilation: rng.random_range(1..3),
                before: rng.random_range(0..kernel),
                after: 0,
                extra: rng.random_range(0..2),
            });
            let conv = ConvTranspose { axes: axes.collect(), groups: Groups::of(groups, channels) };
            let filters = groups * rng.random_range(1..3);
            one(net.conv_transpose(conv, first, filters, &kernel, true))
        }
        26 if fits => {
            let functions = [
                BinaryFunction::Divide,
                BinaryFunction::Maximum,
                BinaryFunction::Minimum,
                BinaryFunction::Subtract,
            ];
            let function = functions[rng.random_range(0..functions.len())];
            // Far from 0.
            let divisor = net.op(Clip { low: 0.5, high: 2.0 }, &[second]);
            let other = if function == BinaryFunction::Divide { divisor } else { second };
            let value = net.op(Binary { function }, &[first, other]);
            Some((vec![first, second, divisor], value))
        }
        27 if alike => {
            let less = net.op(Binary { function: BinaryFunction::Less }, &[first, second]);
            Some((vec![first, second, less], net.op(Select, &[less, second, first])))
        }
        28 => one(net.prelu(first)),
        29 => {
            let sizes = shape.sizes();
            let part = &sizes[..rng.random_range(1..=sizes.len())];
            let constant = net.constant(part);
            one(net.op(Add, &[constant, first]))
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
            let axis = rng.random_range(0..=axes as u32);
            one(net.op(Reduce { function, axes: [axis][..].into() }, &[first]))
        }
        31 => {
            let softmax =
                Softmax { axis: rng.random_range(0..=axes as u32), log: rng.random_bool(0.5) };
            one(net.op(softmax, &[first]))
        }
        32 => one(net.normalize_layer(&[rng.random_range(0..=axes as u32)], first)),
        _ => None,
    }
}

#[test]
fn random_graphs_have_every_operation_and_chains() {
    use crate::network::chain::{Part, parts};

    let mut kinds = std::collections::BTreeSet::new();
    let mut chains = 0;
    for seed in 0..60 {
        let graph = graph(seed, 8);
        kinds.extend(graph.nodes().map(|(_, node)| node.op.kind()));
        chains += parts(&graph).iter().filter(|part| matches!(part, Part::First(_))).count();
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), Op::KINDS);
    assert!(chains > 10, "{chains}");
}
