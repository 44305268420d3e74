//! Random valid models, each from a seed, that cover all kinds of shapes, paddings, strides and
//! zero points.

use edgesmith_edge_runtime::{
    Activation, Conv, FloatAdd, FloatConv, FloatDepthwise, FloatGlobalAveragePool, FloatLayer,
    FloatLeakyRelu, FloatNode, InputSpec, IntAdd, IntConv, IntDepthwise, IntGlobalAveragePool,
    IntLayer, IntLeakyRelu, IntLinear, IntNode, Linear, Model, Network, Quantization,
    Requantization, Shape, ValueId,
};

/// SplitMix64 (Steele et al. 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A random number in the range, both ends included.
    pub fn int(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    pub fn size(&mut self, low: u32, high: u32) -> u32 {
        self.int(i64::from(low), i64::from(high)) as u32
    }

    pub fn real(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    pub fn chance(&mut self, one_in: i64) -> bool {
        self.int(1, one_in) == 1
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    fn list<T>(&mut self, count: u32, item: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..count).map(|_| item(self)).collect()
    }
}

/// Kind and sizes of a layer, without weights.
enum Kind {
    Conv { conv: Conv<(), ()>, depthwise: bool },
    Add,
    Pool,
    LeakyRelu,
}

/// The kind and inputs of each node, and the shapes of all values.
struct Skeleton {
    input: InputSpec,
    nodes: Vec<(Vec<ValueId>, Kind)>,
    shapes: Vec<Shape>,
}

impl Skeleton {
    fn new(random: &mut Random, most_nodes: u32) -> Self {
        let channels = random.size(1, 4);
        let side = |random: &mut Random| match random.int(0, 5) {
            0 => 1,
            1 => 8,
            _ => random.size(1, 12),
        };
        let (height, width) = (side(random), side(random));
        let input = InputSpec {
            channels,
            height,
            width,
            mean: random.list(channels, |random| random.real(0.0, 1.0)),
            std: random.list(channels, |random| random.real(0.1, 1.0)),
        };
        let mut skeleton =
            Self { input, nodes: Vec::new(), shapes: vec![Shape { channels, height, width }] };
        for _ in 0..random.size(1, most_nodes) {
            skeleton.push(random);
        }
        skeleton
    }

    fn push(&mut self, random: &mut Random) {
        // Mostly reads the newest value.
        let newest = self.shapes.len() - 1;
        let value = if random.chance(4) { random.int(0, newest as i64) as usize } else { newest };
        let shape = self.shapes[value];
        let id = |value: usize| ValueId(value as u32);
        let (inputs, kind, output) = match random.int(0, 10) {
            0 => {
                let output = Shape { height: 1, width: 1, ..shape };
                (vec![id(value)], Kind::Pool, output)
            }
            1..=3 => {
                let equal = |other: &usize| self.shapes[*other] == shape;
                let others: Vec<usize> = (0..=newest).filter(equal).collect();
                let other = others[random.int(0, others.len() as i64 - 1) as usize];
                (vec![id(value), id(other)], Kind::Add, shape)
            }
            10 => (vec![id(value)], Kind::LeakyRelu, shape),
            kind => {
                let depthwise = kind >= 7;
                let conv = random_conv(random, shape, depthwise);
                let side = |side| (side + 2 * conv.padding - conv.kernel) / conv.stride + 1;
                let output = Shape {
                    channels: conv.out_channels,
                    height: side(shape.height),
                    width: side(shape.width),
                };
                (vec![id(value)], Kind::Conv { conv, depthwise }, output)
            }
        };
        self.nodes.push((inputs, kind));
        self.shapes.push(output);
    }

    fn last(&self) -> (ValueId, Shape) {
        (ValueId(self.nodes.len() as u32), self.shapes[self.nodes.len()])
    }
}

fn random_conv(random: &mut Random, shape: Shape, depthwise: bool) -> Conv<(), ()> {
    // Kernels may be larger than the map, as long as they fit the padded map.
    let side = shape.height.min(shape.width);
    let (kernel, padding) = loop {
        let kernel = random.size(1, 5);
        let padding = random.size(0, kernel - 1);
        if side + 2 * padding >= kernel {
            break (kernel, padding);
        }
    };
    let out_channels = match random.int(0, 6) {
        _ if depthwise => shape.channels,
        0 => 8,
        1 => 16,
        2 => 32,
        _ => random.size(1, 40),
    };
    Conv {
        in_channels: shape.channels,
        out_channels,
        kernel,
        stride: random.size(1, 3),
        padding,
        weight: Vec::new(),
        bias: Vec::new(),
    }
}

/// Number of products that are summed for one output.
fn depth(conv: &Conv<(), ()>, depthwise: bool) -> u32 {
    conv.kernel * conv.kernel * if depthwise { 1 } else { conv.in_channels }
}

fn with_weights<W, B>(conv: Conv<(), ()>, weight: Vec<W>, bias: Vec<B>) -> Conv<W, B> {
    let Conv { in_channels, out_channels, kernel, stride, padding, .. } = conv;
    Conv { in_channels, out_channels, kernel, stride, padding, weight, bias }
}

/// A model in fp32 with up to `most_nodes` nodes and one for the logits.
pub fn float_model(seed: u64, most_nodes: u32) -> Model {
    let random = &mut Random(seed);
    let Skeleton { input, nodes, shapes } = Skeleton::new(random, most_nodes);
    let (value, shape) = (ValueId(nodes.len() as u32), shapes[nodes.len()]);
    let mut float_nodes = Vec::new();
    for (inputs, kind) in nodes {
        let activation = match random.int(0, 2) {
            0 => Activation::Linear,
            1 => Activation::Relu,
            _ => Activation::Relu6,
        };
        let layer = match kind {
            Kind::Conv { conv, depthwise } => {
                let depth = depth(&conv, depthwise);
                let bound = 2.0 / (depth as f32).sqrt();
                let weight =
                    random.list(conv.out_channels * depth, |random| random.real(-bound, bound));
                let bias = random.list(conv.out_channels, |random| random.real(-1.0, 1.0));
                let conv = with_weights(conv, weight, bias);
                if depthwise {
                    FloatLayer::Depthwise(FloatDepthwise { conv, activation })
                } else {
                    FloatLayer::Conv(FloatConv { conv, activation })
                }
            }
            Kind::Add => FloatLayer::Add(FloatAdd),
            Kind::Pool => FloatLayer::GlobalAveragePool(FloatGlobalAveragePool),
            Kind::LeakyRelu => {
                FloatLayer::LeakyRelu(FloatLeakyRelu { slope: random.real(-0.5, 1.5) })
            }
        };
        float_nodes.push(FloatNode { inputs, layer });
    }
    let (in_features, out_features) = (shape.elements() as u32, random.size(1, 20));
    let bound = 2.0 / (in_features as f32).sqrt();
    let linear = Linear {
        in_features,
        out_features,
        weight: random.list(in_features * out_features, |random| random.real(-bound, bound)),
        bias: random.list(out_features, |random| random.real(-1.0, 1.0)),
    };
    float_nodes.push(FloatNode { inputs: vec![value], layer: FloatLayer::Linear(linear) });
    Model { input, network: Network::Fp32(float_nodes) }
}

/// A model in integers with up to `most_nodes` nodes and one for the logits. When there are few
/// features, the logits are these features one by one.
pub fn int_model(seed: u64, most_nodes: u32) -> Model {
    let random = &mut Random(seed);
    let skeleton = Skeleton::new(random, most_nodes);
    let (value, shape) = skeleton.last();
    let quantization = |random: &mut Random| Quantization {
        scale: random.real(0.005, 0.05),
        zero_point: match random.int(0, 3) {
            0 => 0,
            1 => 255,
            _ => random.next() as u8,
        },
    };
    let input_quantization = quantization(random);
    let mut nodes = Vec::new();
    for (inputs, kind) in skeleton.nodes {
        let output = quantization(random);
        let clamp = match random.int(0, 4) {
            0..=1 => (0, 255),
            2..=3 => (output.zero_point, 255),
            _ => {
                let (a, b) = (random.next() as u8, random.next() as u8);
                (a.min(b), a.max(b))
            }
        };
        let layer = match kind {
            Kind::Conv { conv, depthwise } => {
                let depth = depth(&conv, depthwise);
                let large = random.chance(4);
                let weight = random.list(conv.out_channels * depth, |random| {
                    if large {
                        if random.chance(2) { -128 } else { 127 }
                    } else {
                        random.int(-128, 127) as i8
                    }
                });
                let bias =
                    random.list(conv.out_channels, |random| random.int(-20_000, 20_000) as i32);
                let left = random.chance(8);
                let requantize =
                    random.list(conv.out_channels, |random| requantization(random, depth, left));
                let conv = with_weights(conv, weight, bias);
                if depthwise {
                    IntLayer::Depthwise(IntDepthwise { conv, requantize, clamp })
                } else {
                    IntLayer::Conv(IntConv { conv, requantize, clamp })
                }
            }
            Kind::Add => {
                let [left, right] = [0; 2].map(|_| random.real(0.001, 0.05));
                let twice_max = 2.0 * left.max(right);
                let sides =
                    [left, right].map(|s| Requantization::from_real((s / twice_max).into()));
                let scale = if random.chance(16) { 1e-8 } else { output.scale };
                let factor = f64::from(twice_max) / f64::from(1 << 20) / f64::from(scale);
                IntLayer::Add(IntAdd { sides, output: Requantization::from_real(factor), clamp })
            }
            Kind::Pool => IntLayer::GlobalAveragePool(IntGlobalAveragePool {
                requantize: Requantization::from_real(random.real(0.005, 1.5).into()),
            }),
            // Any table is valid, so this is not one of a leaky ReLU.
            Kind::LeakyRelu => IntLayer::LeakyRelu(IntLeakyRelu {
                slope: random.real(-0.5, 1.5),
                table: Box::new(std::array::from_fn(|_| random.next() as u8)),
            }),
        };
        nodes.push(IntNode { inputs, layer, output });
    }
    let in_features = shape.elements() as u32;
    let one_by_one = in_features <= 400;
    let out_features = if one_by_one { in_features } else { random.size(1, 20) };
    let weight = if one_by_one {
        let mut identity = vec![0; (in_features * in_features) as usize];
        identity.iter_mut().step_by(in_features as usize + 1).for_each(|weight| *weight = 1);
        identity
    } else {
        random.list(in_features * out_features, |random| random.int(-128, 127) as i8)
    };
    let linear = Linear {
        in_features,
        out_features,
        weight,
        bias: random.list(out_features, |random| random.int(-1000, 1000) as i32),
    };
    let logit_scale = random.list(out_features, |random| random.real(1e-4, 1e-2));
    nodes.push(IntNode {
        inputs: vec![value],
        layer: IntLayer::Linear(IntLinear { linear, logit_scale }),
        output: Quantization { scale: 1.0, zero_point: 0 },
    });
    Model { input: skeleton.input, network: Network::Int8 { input: input_quantization, nodes } }
}

/// A factor that scales most sums of `depth` products to the range of a byte, and sometimes an
/// extreme one.
fn requantization(random: &mut Random, depth: u32, left: bool) -> Requantization {
    match random.int(0, 40) {
        0 => Requantization::ZERO,
        1 => Requantization::from_real(0.999),
        2 => Requantization { multiplier: 1 << 30, shift: -31 },
        3 if left => Requantization::from_real(random.real(1.0, 1000.0).into()),
        _ => {
            let usual = 1.0 / (f64::from(depth).sqrt() * 64.0);
            Requantization::from_real(usual * f64::from(random.real(0.2, 2.0)))
        }
    }
}
