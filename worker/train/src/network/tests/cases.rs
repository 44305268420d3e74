//! Small graphs of single operations with their settings, and of chains that the fast path computes
//! as one.

use edgesmith_graph::{
    Add, Clip, Concat, Conv, Flatten, GatherChannels, GlobalAveragePool, Graph, Groups, HardSwish,
    LeakyRelu, MaxPool, Multiply, Op, Operation, Sigmoid, ValueId, WindowAxis,
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
    cases.extend(others());
    cases
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
        case("batch normalization", |net, x| net.normalize(x)),
        case("clip", |net, x| net.op(Clip { low: -0.25, high: 0.5 }, &[x])),
        case("concat", |net, x| {
            let [a, b] = [2, 4].map(|filters| net.pointwise(x, filters));
            net.op(Concat, &[a, x, b, a])
        }),
        case("convolution", |net, x| net.conv(uneven_conv(1), x, 4, &[2, 3], true).unwrap()),
        case("flatten", |net, x| net.op(Flatten, &[x])),
        case("gather channels", |net, x| {
            net.op(GatherChannels { indices: vec![2, 0, 2, 1] }, &[x])
        }),
        case("global average pool", |net, x| net.op(GlobalAveragePool, &[x])),
        case("hard swish", |net, x| {
            let wide = net.normalize(x);
            net.op(HardSwish, &[wide])
        }),
        case("leaky ReLU", |net, x| net.op(LeakyRelu { slope: 0.2 }, &[x])),
        case("linear", |net, x| net.linear(x, 4, true)),
        case("max pool", move |net, x| net.op(pool(), &[x])),
        case("multiply by a number per channel", |net, x| {
            let pooled = net.op(GlobalAveragePool, &[x]);
            let gate = net.linear(pooled, 3, true);
            net.op(Multiply, &[x, gate])
        }),
        case("sigmoid", |net, x| net.op(Sigmoid, &[x])),
    ]
}

/// Unequal steps and padding.
fn uneven() -> [WindowAxis; 2] {
    [
        WindowAxis { stride: 2, dilation: 1, before: 1, after: 0 },
        WindowAxis { stride: 1, dilation: 2, before: 0, after: 2 },
    ]
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
            let gate = net.op(Sigmoid, &[gate]);
            let y = net.op(Multiply, &[y, gate]);
            let y = net.op(GatherChannels::shuffle(4, 2), &[y]);
            let y = net.op(Concat, &[y, x]);
            let pool = MaxPool { kernel: [2, 2].into(), axes: [WindowAxis::valid(2); 2].into() };
            let y = net.op(pool, &[y]);
            let y = net.op(Flatten, &[y]);
            net.linear(y, 3, false)
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
        case_on("gather of a sequence", 3, &[4], |net, x| {
            net.op(GatherChannels::slice(1..3), &[x])
        }),
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
