//! Computes networks in plain loops, directly from the definitions of the model's types: integers
//! exactly, fp32 in f64.

use edgesmith_edge_runtime::{
    Activation, Conv, FloatAdd, FloatConv, FloatDepthwise, FloatGlobalAveragePool, FloatLayer,
    FloatLeakyRelu, InputSpec, IntAdd, IntConv, IntDepthwise, IntGlobalAveragePool, IntLayer,
    IntLeakyRelu, IntLinear, Model, Network, Requantization, Shape,
};

/// Values `[channels][height][width]` and their shape.
struct Map<T> {
    shape: Shape,
    values: Vec<T>,
}

impl<T: Copy> Map<T> {
    fn get(&self, c: u32, y: i64, x: i64) -> Option<T> {
        let Shape { height, width, .. } = self.shape;
        let inside = (0..i64::from(height)).contains(&y) && (0..i64::from(width)).contains(&x);
        inside.then(|| {
            self.values[((i64::from(c) * i64::from(height) + y) * i64::from(width) + x) as usize]
        })
    }
}

/// The logits of a network in fp32 or integers.
pub fn run(model: &Model, image: &[u8]) -> Vec<f64> {
    match &model.network {
        Network::Fp32(_) => run_float(model, image),
        Network::Int8 { .. } => run_int(model, image).into_iter().map(f64::from).collect(),
    }
}

/// The logits of an integer network, bit for bit.
pub fn run_int(model: &Model, image: &[u8]) -> Vec<f32> {
    let Network::Int8 { input, nodes } = &model.network else { panic!("not an integer network") };
    let mut values = vec![load(&model.input, image, |channel, byte| {
        let InputSpec { mean, std, .. } = &model.input;
        let real = (f32::from(byte) / 255.0 - mean[channel]) / std[channel];
        let q = (real / input.scale).round() as i64 + i64::from(input.zero_point);
        q.clamp(0, 255) as u8
    })];
    let mut zeros = vec![i32::from(input.zero_point)];
    for node in nodes {
        let id = node.inputs[0].0 as usize;
        let (map, zero) = (&values[id], zeros[id]);
        let output_zero = i32::from(node.output.zero_point);
        let byte = |accumulator: i32, factor: Requantization, clamp: (u8, u8)| {
            let scaled = i64::from(multiply(accumulator, factor)) + i64::from(output_zero);
            scaled.clamp(i64::from(clamp.0), i64::from(clamp.1)) as u8
        };
        let output = match &node.layer {
            IntLayer::Conv(IntConv { conv, requantize, clamp })
            | IntLayer::Depthwise(IntDepthwise { conv, requantize, clamp }) => {
                let depthwise = matches!(node.layer, IntLayer::Depthwise(_));
                convolve(map, conv, depthwise, |channel, products| {
                    let sum: i32 = products
                        .iter()
                        .map(|&(q, w)| q.map_or(0, |q| (i32::from(q) - zero) * i32::from(w)))
                        .sum();
                    let channel = channel as usize;
                    byte(sum + conv.bias[channel], requantize[channel], *clamp)
                })
            }
            IntLayer::Add(IntAdd { sides, output, clamp }) => {
                let other = node.inputs[1].0 as usize;
                let side = |q: u8, zero, factor| multiply((i32::from(q) - zero) << 20, factor);
                let sums = map.values.iter().zip(&values[other].values).map(|(&a, &b)| {
                    let sum = side(a, zero, sides[0]) + side(b, zeros[other], sides[1]);
                    byte(sum, *output, *clamp)
                });
                Map { shape: map.shape, values: sums.collect() }
            }
            IntLayer::GlobalAveragePool(IntGlobalAveragePool { requantize }) => {
                pool(map, |channel| {
                    let sum = channel.iter().map(|&q| i32::from(q) - zero).sum();
                    byte(sum, *requantize, (0, 255))
                })
            }
            IntLayer::LeakyRelu(IntLeakyRelu { table, .. }) => {
                let values = map.values.iter().map(|&q| table[usize::from(q)]).collect();
                Map { shape: map.shape, values }
            }
            IntLayer::Linear(IntLinear { linear, logit_scale }) => {
                return (0..linear.out_features as usize)
                    .map(|out| {
                        let row = &linear.weight[out * map.values.len()..];
                        let products = map.values.iter().zip(row);
                        let sum: i32 =
                            products.map(|(&q, &w)| (i32::from(q) - zero) * i32::from(w)).sum();
                        (sum + linear.bias[out]) as f32 * logit_scale[out]
                    })
                    .collect();
            }
        };
        values.push(output);
        zeros.push(output_zero);
    }
    panic!("no logits");
}

fn run_float(model: &Model, image: &[u8]) -> Vec<f64> {
    let Network::Fp32(nodes) = &model.network else { panic!("not a network in fp32") };
    let InputSpec { mean, std, .. } = &model.input;
    let mut values = vec![load(&model.input, image, |channel, byte| {
        (f64::from(byte) / 255.0 - f64::from(mean[channel])) / f64::from(std[channel])
    })];
    for node in nodes {
        let map = &values[node.inputs[0].0 as usize];
        let output = match &node.layer {
            FloatLayer::Conv(FloatConv { conv, activation })
            | FloatLayer::Depthwise(FloatDepthwise { conv, activation }) => {
                let depthwise = matches!(node.layer, FloatLayer::Depthwise(_));
                convolve(map, conv, depthwise, |channel, products| {
                    let sum: f64 =
                        products.iter().map(|&(x, w)| x.unwrap_or(0.0) * f64::from(w)).sum();
                    let sum = sum + f64::from(conv.bias[channel as usize]);
                    match activation {
                        Activation::Linear => sum,
                        Activation::Relu => sum.max(0.0),
                        Activation::Relu6 => sum.clamp(0.0, 6.0),
                    }
                })
            }
            FloatLayer::Add(FloatAdd) => {
                let other = &values[node.inputs[1].0 as usize].values;
                let sums = map.values.iter().zip(other).map(|(a, b)| a + b);
                Map { shape: map.shape, values: sums.collect() }
            }
            FloatLayer::GlobalAveragePool(FloatGlobalAveragePool) => {
                pool(map, |channel| channel.iter().sum::<f64>() / channel.len() as f64)
            }
            FloatLayer::LeakyRelu(FloatLeakyRelu { slope }) => {
                let leaky = |&x: &f64| if x >= 0.0 { x } else { f64::from(*slope) * x };
                Map { shape: map.shape, values: map.values.iter().map(leaky).collect() }
            }
            FloatLayer::Linear(linear) => {
                return (0..linear.out_features as usize)
                    .map(|out| {
                        let row = &linear.weight[out * map.values.len()..];
                        let products = map.values.iter().zip(row);
                        products.map(|(x, &w)| x * f64::from(w)).sum::<f64>()
                            + f64::from(linear.bias[out])
                    })
                    .collect();
            }
        };
        values.push(output);
    }
    panic!("no logits");
}

fn load<T>(input: &InputSpec, image: &[u8], value: impl Fn(usize, u8) -> T) -> Map<T> {
    let &InputSpec { channels, height, width, .. } = input;
    let plane = (height * width) as usize;
    let values = image.iter().enumerate().map(|(at, &byte)| value(at / plane, byte)).collect();
    Map { shape: Shape { channels, height, width }, values }
}

/// `finish` is called with an output channel and all pairs of input (`None` in the padding) and
/// weight.
fn convolve<T: Copy, W: Copy, B>(
    map: &Map<T>,
    conv: &Conv<W, B>,
    depthwise: bool,
    finish: impl Fn(u32, &[(Option<T>, W)]) -> T,
) -> Map<T> {
    let &Conv { in_channels, out_channels, kernel, stride, padding, .. } = conv;
    let side = |side: u32| (side + 2 * padding - kernel) / stride + 1;
    let shape = Shape {
        channels: out_channels,
        height: side(map.shape.height),
        width: side(map.shape.width),
    };
    let mut values = Vec::new();
    for out in 0..out_channels {
        for y in 0..shape.height {
            for x in 0..shape.width {
                let mut products = Vec::new();
                let inputs = if depthwise { out..out + 1 } else { 0..in_channels };
                for (index, channel) in inputs.clone().enumerate() {
                    for ky in 0..kernel {
                        for kx in 0..kernel {
                            let at = |o: u32, k: u32| {
                                i64::from(o * stride) + i64::from(k) - i64::from(padding)
                            };
                            let per_output = if depthwise { 1 } else { in_channels };
                            let weight =
                                ((out * per_output + index as u32) * kernel + ky) * kernel + kx;
                            products.push((
                                map.get(channel, at(y, ky), at(x, kx)),
                                conv.weight[weight as usize],
                            ));
                        }
                    }
                }
                values.push(finish(out, &products));
            }
        }
    }
    Map { shape, values }
}

fn pool<T>(map: &Map<T>, finish: impl Fn(&[T]) -> T) -> Map<T> {
    let plane = (map.shape.height * map.shape.width) as usize;
    let values = map.values.chunks_exact(plane).map(finish).collect();
    Map { shape: Shape { height: 1, width: 1, ..map.shape }, values }
}

/// gemmlowp's definition in wide integers, as in the engine's documentation.
fn multiply(value: i32, factor: Requantization) -> i32 {
    let saturate = |x: i128| x.clamp(i128::from(i32::MIN), i128::from(i32::MAX));
    let shifted = saturate(i128::from(value) * (1i128 << factor.shift.max(0)));
    let high = (shifted * i128::from(factor.multiplier) + (1i128 << 30)).div_euclid(1i128 << 31);
    let divisor = 1i128 << (-factor.shift).max(0);
    let rounded = (2 * high.abs() + divisor) / (2 * divisor) * high.signum();
    saturate(rounded) as i32
}
