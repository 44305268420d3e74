//! Small graphs of single operations with their settings, and of chains that the fast path computes
//! as one.

use edgesmith_graph::{
    Add, AveragePool, Binary, BinaryFunction, Clip, Concat, Conv, ConvTranspose, Coordinates,
    Flatten, Function, Gather, GlobalAveragePool, Graph, Groups, LayerNormalization, LeakyRelu,
    Map, MatrixProduct, MaxPool, Multiply, Op, Operation, Pad, Reduce, ReduceFunction, Reshape,
    Resize, ResizeAxis, ResizeMode, Rounding, Select, Softmax, Transpose, TransposedAxis, ValueId,
    WindowAxis,
};

use super::net::Net;

/// A named graph.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) graph: Graph,
}

/// All cases. The first ones are enough to have every operation.
pub(super) fn all() -> Vec<Case> {
    let mut cases = every_operation();
    cases.extend(convolutions());
    cases.extend(chains());
    cases.extend(moves());
    cases.extend(functions());
    cases.extend(broadcasts());
    cases.extend(reductions());
    cases.extend(others());
    cases
}

/// All cases, by name.
pub(crate) fn named() -> Vec<(String, Graph)> {
    all().into_iter().map(|Case { name, graph }| (name, graph)).collect()
}

/// A graph of one operation, whose inputs are convolutions of a picture of 3 channels.
fn case(name: &str, build: impl FnOnce(&mut Net, ValueId) -> ValueId) -> Case {
    case_on(name, 3, &[5, 4], build)
}

fn case_on(
    name: &str,
    channels: u32,
    space: &[u32],
    build: impl FnOnce(&mut Net, ValueId) -> ValueId,
) -> Case {
    let (mut net, input) = Net::new(channels, space);
    let output = build(&mut net, input);
    Case { name: name.to_owned(), graph: net.finish(output) }
}

/// Each operation once.
pub(super) fn every_operation() -> Vec<Case> {
    let pool = || MaxPool { kernel: [2, 3].into(), axes: uneven().into() };
    vec![
        case("add", |net, x| {
            let [a, b] = [4, 4].map(|filters| net.pointwise(x, filters));
            net.op(Add, &[a, b])
        }),
        case("average pool", move |net, x| net.op(average_pool(), &[x])),
        case("batch normalization", |net, x| net.normalize(x)),
        case("binary", |net, x| {
            let y = other(net, x);
            net.op(Binary { function: BinaryFunction::Subtract }, &[x, y])
        }),
        case("clip", |net, x| net.op(Clip { low: -0.25, high: 0.5 }, &[x])),
        case("concat", |net, x| {
            let [a, b] = [2, 4].map(|filters| net.pointwise(x, filters));
            net.op(Concat::channels(), &[a, x, b, a])
        }),
        case("constant", |net, x| {
            let constant = net.constant(&[3, 5, 4]);
            net.op(Add, &[x, constant])
        }),
        case("convolution", |net, x| net.conv(uneven_conv(1), x, 4, &[2, 3], true).unwrap()),
        case("transposed convolution", |net, x| {
            net.conv_transpose(uneven_transpose(Groups::Equal(1)), x, 4, &[2, 3], true)
        }),
        case("flatten", |net, x| net.op(Flatten, &[x])),
        case("gather channels", |net, x| net.op(Gather::channels([2, 0, 2, 1]), &[x])),
        case("global average pool", |net, x| net.op(GlobalAveragePool, &[x])),
        case("layer normalization", |net, x| net.normalize_layer(&[1, 2], x)),
        case("leaky ReLU", |net, x| net.op(LeakyRelu { slope: 0.2 }, &[x])),
        case("linear", |net, x| net.linear(x, 4, true)),
        case("matrix product", |net, x| {
            let [a, b] = [3, 3].map(|filters| net.pointwise(x, filters));
            net.op(MatrixProduct { transposed: [false, true] }, &[a, b])
        }),
        case("map", |net, x| net.map(Function::Gelu, x)),
        case("max pool", move |net, x| net.op(pool(), &[x])),
        case("multiply by a number per channel", |net, x| {
            let pooled = net.op(GlobalAveragePool, &[x]);
            let gate = net.linear(pooled, 3, true);
            net.op(Multiply, &[x, gate])
        }),
        case("pad", |net, x| net.op(pad([1, 0, 2], [0, 1, 1], 0.5), &[x])),
        case("reshape", |net, x| net.op(Reshape { sizes: [6, 10][..].into() }, &[x])),
        case("resize", |net, x| {
            let axes = [(7, 1.5, Coordinates::HalfPixel), (3, 0.7, Coordinates::AlignCorners)];
            net.op(resize(ResizeMode::Linear, &axes), &[x])
        }),
        case("transpose", |net, x| net.op(Transpose { order: [2, 0, 1].into() }, &[x])),
        case("prelu", |net, x| net.prelu(x)),
        case("reduce", |net, x| {
            net.op(Reduce { function: ReduceFunction::Mean, axes: [0, 2][..].into() }, &[x])
        }),
        case("select", |net, x| {
            let y = other(net, x);
            let less = net.op(Binary { function: BinaryFunction::Less }, &[x, y]);
            net.op(Select, &[less, x, y])
        }),
        case("softmax", |net, x| net.op(Softmax { axis: 0, log: false }, &[x])),
    ]
}

/// Another value of the size of `x`.
fn other(net: &mut Net, x: ValueId) -> ValueId {
    let channels = net.builder.shape(x).channels();
    net.linear(x, channels, true)
}

/// Each function of one number and of two.
fn functions() -> Vec<Case> {
    let positive = Clip { low: 0.25, high: f32::INFINITY };
    let of = |function: Function| {
        case(&format!("{function:?}"), move |net, x| {
            let wide = net.map(Function::Scale { factor: 3.0, offset: 0.0 }, x);
            net.map(function, wide)
        })
    };
    let of_positive = |function: Function| {
        case(&format!("{function:?}"), move |net, x| {
            let above = net.op(positive, &[x]);
            net.map(function, above)
        })
    };
    let pairs = |function: BinaryFunction| {
        case(&format!("{function:?}"), move |net, x| {
            let other = other(net, x);
            let [a, b] = [x, other].map(|value| net.op(positive, &[value]));
            let both = net.op(Binary { function }, &[a, b]);
            // A comparison has no slope, but the sum has one.
            let sum = net.op(Add, &[both, x]);
            net.op(Add, &[sum, other])
        })
    };
    let mut cases: Vec<Case> = [
        Function::Absolute,
        Function::Elu { alpha: 0.7 },
        Function::Erf,
        Function::Exponential,
        Function::Gelu,
        Function::GeluTanh,
        Function::HardSigmoid { slope: 0.3, offset: 0.4 },
        Function::HardSwish,
        Function::Power { exponent: 1.0 },
        Function::Power { exponent: 2.0 },
        Function::Power { exponent: 3.0 },
        Function::Scale { factor: -0.5, offset: 2.0 },
        Function::Sigmoid,
        Function::Silu,
        Function::Softplus,
        Function::Tanh,
    ]
    .into_iter()
    .map(of)
    .collect();
    let roots = [
        Function::Logarithm,
        Function::Power { exponent: 0.5 },
        Function::Power { exponent: -1.5 },
        Function::Power { exponent: -1.0 },
        Function::SquareRoot,
    ];
    cases.extend(roots.into_iter().map(of_positive));
    let of_two = [
        BinaryFunction::Divide,
        BinaryFunction::Equal,
        BinaryFunction::Less,
        BinaryFunction::LessOrEqual,
        BinaryFunction::Maximum,
        BinaryFunction::Minimum,
        BinaryFunction::Power,
        BinaryFunction::Subtract,
    ];
    cases.extend(of_two.into_iter().map(pairs));
    cases.push(case("power of 0", |net, x| {
        let one = net.map(Function::Power { exponent: 0.0 }, x);
        net.op(Add, &[one, x])
    }));
    cases
}

/// Operations that have a kink, or equal numbers to choose from, where the input is 0 everywhere.
pub(super) fn kinks() -> Vec<Case> {
    let of = |name: &str, shift: f32, op: Op| {
        case_on(name, 2, &[3, 2], move |net, x| {
            let shifted = net.map(Function::Scale { factor: 1.0, offset: shift }, x);
            net.op(op, &[if shift == 0.0 { x } else { shifted }])
        })
    };
    let functions = [
        (Function::Absolute, 0.0),
        (Function::Elu { alpha: 0.7 }, 0.0),
        (Function::Gelu, 0.0),
        (Function::HardSigmoid { slope: 0.3, offset: 0.0 }, 0.0),
        (Function::HardSigmoid { slope: 0.3, offset: 1.0 }, 0.0),
        (Function::HardSwish, 3.0),
        (Function::HardSwish, -3.0),
        (Function::Power { exponent: 2.0 }, 0.0),
        (Function::Silu, 0.0),
        (Function::Softplus, 0.0),
    ];
    let mut cases: Vec<Case> = functions
        .map(|(function, shift)| {
            of(&format!("{function:?} at {shift}"), shift, Map { function }.into())
        })
        .into();
    let clips = [(0.0, f32::INFINITY), (f32::NEG_INFINITY, 0.0), (0.0, 6.0), (-6.0, 0.0)];
    cases.extend(clips.map(|(low, high)| {
        let clip = Clip { low, high };
        of(&format!("{clip:?}"), 0.0, clip.into())
    }));
    cases.push(of("leaky ReLU", 0.0, LeakyRelu { slope: 0.2 }.into()));
    cases.push(case_on("prelu", 2, &[3, 2], Net::prelu));
    for function in [ReduceFunction::L2, ReduceFunction::Maximum, ReduceFunction::Minimum] {
        let axes = [0, 2][..].into();
        cases.push(of(&format!("{function:?}"), 0.0, Reduce { function, axes }.into()));
    }
    let windows = [WindowAxis::valid(1), WindowAxis::valid(1)];
    let pool = MaxPool { kernel: [2, 2].into(), axes: windows.into() };
    cases.push(of("max pool", 0.0, pool.into()));
    cases.extend([BinaryFunction::Maximum, BinaryFunction::Minimum].map(|function| {
        case_on(&format!("{function:?}"), 2, &[3, 2], move |net, x| {
            let double = net.map(Function::Scale { factor: 2.0, offset: 0.0 }, x);
            net.op(Binary { function }, &[x, double])
        })
    }));
    cases
}

/// Values of unlike shapes, behind a convolution that the fast path computes and without one.
fn broadcasts() -> Vec<Case> {
    let mut cases = Vec::new();
    for fast in [false, true] {
        let mut add = |name: &str, build: fn(&mut Net, ValueId) -> ValueId| {
            cases.push(case(name, move |net, x| {
                let x = if fast { fast_conv(net, x) } else { x };
                build(net, x)
            }));
        };
        add("sum with a constant per channel", |net, x| {
            let constant = net.constant(&[3]);
            net.op(Add, &[constant, x])
        });
        add("sum with a constant per row", |net, x| {
            let constant = net.constant(&[1, 5]);
            net.op(Add, &[x, constant])
        });
        add("product with a constant per channel and row", |net, x| {
            let constant = net.constant(&[3, 5]);
            net.op(Multiply, &[constant, x])
        });
        add("product with one picture for all channels", |net, x| {
            let one = net.linear(x, 1, true);
            net.op(Multiply, &[x, one])
        });
        add("maximum with a number per channel", |net, x| {
            let mean = net.op(GlobalAveragePool, &[x]);
            net.op(Binary { function: BinaryFunction::Maximum }, &[mean, x])
        });
        add("quotient of a sequence and a picture", |net, x| {
            let constant = net.constant(&[3, 5]);
            let above = net.map(Function::Exponential, x);
            net.op(Binary { function: BinaryFunction::Divide }, &[constant, above])
        });
        add("choice by a row of constants", |net, x| {
            let (condition, other) = (net.constant(&[1, 1, 4]), net.constant(&[1]));
            let condition = net.op(Clip::RELU, &[condition]);
            net.op(Select, &[condition, x, other])
        });
        add("constants of their own", |net, x| {
            let (a, b) = (net.constant(&[2, 5, 4]), net.constant(&[2, 5]));
            let sum = net.op(Add, &[a, b]);
            net.op(Concat::channels(), &[x, sum, a])
        });
    }
    cases
}

/// Along each list of axes, in both layouts and with each number of axes.
fn reductions() -> Vec<Case> {
    let shapes: [(u32, &[u32]); 3] = [(3, &[5, 4]), (3, &[4]), (5, &[])];
    let mut cases = Vec::new();
    for (channels, space) in shapes {
        let all: Vec<u32> = (0..=space.len() as u32).collect();
        let lists: Vec<Vec<u32>> =
            [all.iter().map(|&axis| vec![axis]).collect(), vec![all[1..].to_vec(), all.clone()]]
                .concat();
        for axes in lists.into_iter().filter(|axes| !axes.is_empty()) {
            for fast in [false, true] {
                let mut add = |name: String, op: Op| {
                    cases.push(case_on(&name, channels, space, move |net, x| {
                        let x = if fast { fast_conv(net, x) } else { x };
                        net.op(op, &[x])
                    }));
                };
                if fast && space.len() < 2 {
                    continue;
                }
                for function in [
                    ReduceFunction::L2,
                    ReduceFunction::Maximum,
                    ReduceFunction::Mean,
                    ReduceFunction::Minimum,
                    ReduceFunction::Sum,
                ] {
                    let name = format!("{function:?} along {axes:?} of {channels}x{space:?}");
                    add(name, Reduce { function, axes: axes[..].into() }.into());
                }
                for log in [false, true] {
                    let name = format!("softmax along {axes:?} of {channels}x{space:?}");
                    add(name, Softmax { axis: axes[0], log }.into());
                }
                let name = format!("layers along {axes:?} of {channels}x{space:?}");
                add(name, LayerNormalization { axes: axes[..].into(), epsilon: 0.2 }.into());
                let name = format!("layers with a scale along {axes:?} of {channels}x{space:?}");
                let axes = axes.clone();
                cases.push(case_on(&name, channels, space, move |net, x| {
                    let x = if fast { fast_conv(net, x) } else { x };
                    net.normalize_layer(&axes, x)
                }));
            }
        }
    }
    cases.push(case("length of a vector of zeros", |net, x| {
        let zero = net.op(Clip { low: -9.0, high: -8.0 }, &[x]);
        let zero = net.op(Clip::RELU, &[zero]);
        let squares = Reduce { function: ReduceFunction::L2, axes: [1, 2][..].into() };
        let lengths = net.op(squares, &[zero]);
        net.op(Add, &[x, lengths])
    }));
    cases
}

/// A convolution that the fast path computes, with the same number of channels.
fn fast_conv(net: &mut Net, x: ValueId) -> ValueId {
    let channels = net.builder.shape(x).channels();
    net.conv(Conv::dense(3, 1), x, channels, &[3, 3], true).unwrap()
}

/// Unequal steps and padding.
fn uneven() -> [WindowAxis; 2] {
    [
        WindowAxis { stride: 2, dilation: 1, before: 1, after: 0 },
        WindowAxis { stride: 1, dilation: 2, before: 0, after: 2 },
    ]
}

fn uneven_transpose(groups: Groups) -> ConvTranspose {
    let axes = [
        TransposedAxis { stride: 2, dilation: 1, before: 1, after: 0, extra: 1 },
        TransposedAxis { stride: 1, dilation: 2, before: 0, after: 2, extra: 0 },
    ];
    ConvTranspose { axes: axes.into(), groups }
}

fn average_pool() -> AveragePool {
    AveragePool { kernel: [2, 3].into(), axes: uneven().into(), counted: [(1, 0), (0, 1)].into() }
}

fn pad<const N: usize>(before: [u32; N], after: [u32; N], value: f32) -> Pad {
    Pad { before: before[..].into(), after: after[..].into(), value }
}

fn resize(mode: ResizeMode, axes: &[(u32, f32, Coordinates)]) -> Resize {
    let axis = |&(size, scale, coordinates): &_| ResizeAxis { size, scale, coordinates };
    Resize { mode, axes: axes.iter().map(axis).collect() }
}

fn uneven_conv(groups: u32) -> Conv {
    Conv { axes: uneven().into(), groups: Groups::Equal(groups) }
}

fn convolutions() -> Vec<Case> {
    let sequence = |groups| Conv {
        axes: [WindowAxis { stride: 2, dilation: 2, before: 3, after: 1 }][..].into(),
        groups,
    };
    let per_channel = || Conv { groups: Groups::PerChannel, ..uneven_conv(1) };
    vec![
        case("dense", |net, x| net.conv(Conv::dense(3, 1), x, 4, &[3, 3], false).unwrap()),
        case("dense with a stride", |net, x| {
            net.conv(Conv::dense(3, 2), x, 4, &[3, 3], true).unwrap()
        }),
        case_on("grouped", 4, &[4, 3], |net, x| {
            net.conv(uneven_conv(2), x, 6, &[2, 2], true).unwrap()
        }),
        case("depthwise", |net, x| net.conv(Conv::depthwise(3, 1), x, 3, &[3, 3], true).unwrap()),
        case("depthwise with two filters per channel", move |net, x| {
            net.conv(per_channel(), x, 6, &[3, 2], false).unwrap()
        }),
        case_on("on a sequence", 3, &[7], move |net, x| {
            net.conv(sequence(Groups::Equal(1)), x, 4, &[3], true).unwrap()
        }),
        case_on("depthwise on a sequence", 3, &[7], move |net, x| {
            net.conv(sequence(Groups::PerChannel), x, 3, &[3], false).unwrap()
        }),
    ]
}

/// Convolution, normalisation and clipping, on the fast path and just beside it.
fn chains() -> Vec<Case> {
    let chain = |name: &str, conv: Conv, kernel: u32, clip: Option<Clip>| {
        case_on(name, 4, &[5, 4], move |net, x| {
            let y = net.conv(conv, x, 4, &[kernel, kernel], false).unwrap();
            let y = net.normalize(y);
            clip.map_or(y, |clip| net.op(clip, &[y]))
        })
    };
    let grouped = Conv { groups: Groups::Equal(2), ..Conv::dense(3, 1) };
    let unpadded = Conv { axes: [WindowAxis::valid(1); 2].into(), ..Conv::dense(3, 1) };
    let unequal =
        Conv { axes: [WindowAxis::same(3, 1), WindowAxis::same(3, 2)].into(), ..Conv::dense(3, 1) };
    vec![
        chain("dense chain", Conv::dense(3, 1), 3, Some(Clip::RELU)),
        chain("pointwise chain", Conv::dense(1, 1), 1, None),
        chain("strided chain", Conv::dense(3, 2), 3, Some(Clip { low: -0.5, high: 1.0 })),
        chain("depthwise chain", Conv::depthwise(5, 1), 5, Some(Clip::RELU6)),
        chain("chain of two groups", grouped, 3, Some(Clip::RELU)),
        chain("chain without padding", unpadded, 3, Some(Clip::RELU)),
        chain("chain with unequal strides", unequal, 3, Some(Clip::RELU)),
        case("chain with a bias", |net, x| {
            let y = net.conv(Conv::dense(3, 1), x, 2, &[3, 3], true).unwrap();
            net.normalize(y)
        }),
        case("convolution that two nodes read", |net, x| {
            let y = net.conv(Conv::dense(3, 1), x, 3, &[3, 3], false).unwrap();
            let normalized = net.normalize(y);
            net.op(Add, &[y, normalized])
        }),
        case("normalisation that two nodes read", |net, x| {
            let y = net.conv(Conv::dense(3, 1), x, 3, &[3, 3], false).unwrap();
            let normalized = net.normalize(y);
            let clipped = net.op(Clip::RELU, &[normalized]);
            net.op(Add, &[normalized, clipped])
        }),
        // Everything that has to do with the layout, behind a chain.
        case("squeeze and excitation", |net, x| {
            let y = net.conv(Conv::dense(3, 1), x, 4, &[3, 3], false).unwrap();
            let y = net.normalize(y);
            let y = net.op(Clip::RELU6, &[y]);
            let squeezed = net.op(GlobalAveragePool, &[y]);
            let gate = net.linear(squeezed, 4, true);
            let gate = net.map(Function::Sigmoid, gate);
            let y = net.op(Multiply, &[y, gate]);
            let y = net.op(Gather::shuffle(4, 2), &[y]);
            let y = net.op(Concat::channels(), &[y, x]);
            let pool = MaxPool { kernel: [2, 2].into(), axes: [WindowAxis::valid(2); 2].into() };
            let y = net.op(pool, &[y]);
            let y = net.op(Flatten, &[y]);
            net.linear(y, 3, false)
        }),
    ]
}

/// Operations that move positions about, on sequences and on pictures behind a chain, where the
/// layout is that of the kernels.
fn moves() -> Vec<Case> {
    let behind_a_chain = |name: &str, then: &dyn Fn(&mut Net, ValueId) -> ValueId| {
        case(name, |net, x| {
            let y = net.conv(Conv::dense(3, 1), x, 4, &[3, 3], false).unwrap();
            let y = net.normalize(y);
            then(net, y)
        })
    };
    let product = |transposed| MatrixProduct { transposed };
    let nearest = |rounding| ResizeMode::Nearest(rounding);
    let sequence_pool = || AveragePool {
        kernel: [3][..].into(),
        axes: [WindowAxis { stride: 2, dilation: 1, before: 2, after: 1 }][..].into(),
        counted: [(0, 1)][..].into(),
    };
    vec![
        case_on("average pool of a sequence", 3, &[5], move |net, x| net.op(sequence_pool(), &[x])),
        behind_a_chain("average pool behind a chain", &|net, x| net.op(average_pool(), &[x])),
        behind_a_chain("rows of a concatenation", &|net, x| net.op(Concat { axis: 1 }, &[x, x])),
        case_on("concatenation of sequences", 2, &[3], |net, x| {
            net.op(Concat { axis: 1 }, &[x, x])
        }),
        case_on("grouped transposed convolution", 4, &[3, 4], |net, x| {
            net.conv_transpose(uneven_transpose(Groups::Equal(2)), x, 6, &[3, 2], true)
        }),
        case("depthwise transposed convolution", |net, x| {
            net.conv_transpose(uneven_transpose(Groups::PerChannel), x, 6, &[2, 3], false)
        }),
        behind_a_chain("transposed convolution behind a chain", &|net, x| {
            net.conv_transpose(uneven_transpose(Groups::Equal(1)), x, 2, &[2, 2], true)
        }),
        case_on("transposed convolution of a sequence", 3, &[4], |net, x| {
            let axis = TransposedAxis { stride: 3, dilation: 2, before: 2, after: 1, extra: 2 };
            let op = ConvTranspose { axes: [axis][..].into(), groups: Groups::Equal(1) };
            net.conv_transpose(op, x, 2, &[2], true)
        }),
        case("rows of a gather", |net, x| net.op(Gather { axis: 1, indices: vec![4, 0, 4] }, &[x])),
        behind_a_chain("columns of a gather", &|net, x| {
            net.op(Gather { axis: 2, indices: vec![3, 1] }, &[x])
        }),
        case_on("products of sequences", 3, &[4], move |net, x| {
            let y = net.normalize(x);
            let square = net.op(product([false, true]), &[x, y]);
            net.op(product([true, false]), &[x, square])
        }),
        behind_a_chain("products of pictures", &|net, x| {
            net.op(MatrixProduct { transposed: [true, false] }, &[x, x])
        }),
        case("one matrix for all channels", move |net, x| {
            let one = net.pointwise(x, 1);
            let square = net.op(product([false, true]), &[one, x]);
            net.op(product([false, false]), &[square, one])
        }),
        case("a matrix of one row", move |net, x| {
            let row = net.op(Gather::slice(1, 2..3), &[x]);
            net.op(product([false, true]), &[row, x])
        }),
        behind_a_chain("pad behind a chain", &|net, x| {
            net.op(pad([0, 1, 0], [2, 0, 3], -1.0), &[x])
        }),
        case_on("pad of a vector", 4, &[], |net, x| net.op(pad([1], [2], 0.0), &[x])),
        behind_a_chain("reshape behind a chain", &|net, x| {
            net.op(Reshape { sizes: [2, 8, 5][..].into() }, &[x])
        }),
        behind_a_chain("resize behind a chain", &|net, x| {
            let axes = [(3, 0.6, Coordinates::HalfPixel), (8, 2.0, Coordinates::Asymmetric)];
            net.op(resize(ResizeMode::Nearest(Rounding::HalfDown), &axes), &[x])
        }),
        case("resize to the nearest", move |net, x| {
            let axes = [(3, 0.6, Coordinates::HalfPixel), (8, 2.0, Coordinates::Asymmetric)];
            net.op(resize(nearest(Rounding::HalfDown), &axes), &[x])
        }),
        case_on("resize of a sequence", 3, &[4], move |net, x| {
            let wide = [(9, 2.2, Coordinates::HalfPixelSymmetric)];
            let y = net.op(resize(ResizeMode::Linear, &wide), &[x]);
            let narrow = [(5, 0.5, Coordinates::PytorchHalfPixel)];
            net.op(resize(nearest(Rounding::Ceil), &narrow), &[y])
        }),
        behind_a_chain("transpose behind a chain", &|net, x| {
            net.op(Transpose { order: [1, 2, 0].into() }, &[x])
        }),
        case_on("transpose of a sequence", 3, &[4], |net, x| {
            net.op(Transpose { order: [1, 0][..].into() }, &[x])
        }),
        case_on("windows far on the padding", 2, &[5, 6], |net, x| {
            let axes = [
                WindowAxis { stride: 4, dilation: 1, before: 0, after: 4 },
                WindowAxis { stride: 1, dilation: 3, before: 3, after: 3 },
            ];
            net.op(MaxPool { kernel: [2, 2].into(), axes: axes.into() }, &[x])
        }),
    ]
}

fn others() -> Vec<Case> {
    let pool = |axis: WindowAxis| MaxPool { kernel: [3][..].into(), axes: [axis][..].into() };
    vec![
        case("add of a value to itself", |net, x| net.op(Add, &[x, x])),
        case("square", |net, x| net.op(Multiply, &[x, x])),
        case("multiply values of one shape", |net, x| {
            let [a, b] = [2, 2].map(|filters| net.pointwise(x, filters));
            net.op(Multiply, &[a, b])
        }),
        case("clipped convolution", |net, x| {
            let y = net.conv(Conv::dense(3, 2), x, 4, &[3, 3], true).unwrap();
            let y = net.op(Clip { low: -0.4, high: 1.5 }, &[y]);
            net.linear(y, 2, true)
        }),
        case("clipped convolutions without a bias", |net, x| {
            let y = net.conv(Conv::depthwise(3, 1), x, 3, &[3, 3], false).unwrap();
            let y = net.op(Clip { low: -1.0, high: f32::INFINITY }, &[y]);
            let z = net.conv(Conv::dense(1, 1), y, 3, &[1, 1], false).unwrap();
            net.op(Add, &[y, z])
        }),
        case("relu", |net, x| net.op(Clip::RELU, &[x])),
        case("relu6", |net, x| net.op(Clip::RELU6, &[x])),
        case("upper bound only", |net, x| {
            net.op(Clip { low: f32::NEG_INFINITY, high: 0.25 }, &[x])
        }),
        case("lower bound only", |net, x| net.op(Clip { low: 0.25, high: f32::INFINITY }, &[x])),
        case_on("normalised sequence", 3, &[5], |net, x| net.normalize(x)),
        case_on("normalised vector", 6, &[], |net, x| net.normalize(x)),
        case_on("linear on a vector", 6, &[], |net, x| net.linear(x, 4, false)),
        case_on("linear on a sequence", 3, &[5], |net, x| net.linear(x, 4, true)),
        case_on("max pool on a sequence", 3, &[7], move |net, x| {
            net.op(pool(WindowAxis::same(3, 2)), &[x])
        }),
        case_on("gather of a sequence", 3, &[4], |net, x| net.op(Gather::slice(0, 1..3), &[x])),
    ]
}

#[test]
fn the_cases_have_every_operation() {
    let mut kinds: Vec<&str> = every_operation()
        .iter()
        .flat_map(|case| case.graph.nodes().map(|(_, node)| node.op.kind()).collect::<Vec<_>>())
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, Op::KINDS);
}
