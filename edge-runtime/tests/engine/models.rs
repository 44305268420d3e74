//! Random valid models, each from a seed, that cover all kinds of layers, and all kinds of shapes,
//! paddings, strides and zero points.

use edgesmith_edge_runtime::*;

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

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.int(0, items.len() as i64 - 1) as usize]
    }

    fn list<T>(&mut self, count: u32, item: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..count).map(|_| item(self)).collect()
    }

    /// Some of the axes, ascending, at least one if there is one.
    fn some_axes(&mut self, axes: std::ops::Range<u32>) -> Vec<u32> {
        let chosen: Vec<u32> = axes.clone().filter(|_| self.chance(2)).collect();
        if chosen.is_empty() { axes.take(1).collect() } else { chosen }
    }

    fn permutation(&mut self, axes: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..axes).collect();
        for last in (1..order.len()).rev() {
            let other = self.int(0, last as i64) as usize;
            order.swap(last, other);
        }
        order
    }

    fn quantization(&mut self) -> Quantization {
        let scale = self.real(0.005, 0.05);
        let zero_point = match self.int(0, 3) {
            0 => 0,
            1 => 255,
            2 => 128,
            _ => self.next() as u8,
        };
        Quantization { scale, zero_point }
    }
}

/// Arrays that fit the inputs of a model.
pub fn arrays(model: &Model, seed: u64) -> Vec<Numbers> {
    let random = &mut Random(seed);
    let array = |input: &Input| {
        let count = input.shape.elements();
        match input.array {
            Array::Bytes(_) => Numbers::Bytes(random.bytes(count)),
            Array::Fp32 => Numbers::Fp32(random.list(count as u32, |r| r.real(-2.0, 2.0))),
        }
    };
    model.inputs.iter().map(array).collect()
}

/// Arrays as a session takes them.
pub fn tensors(arrays: &[Numbers]) -> Vec<Tensor<'_>> {
    arrays.iter().map(Tensor::from).collect()
}

/// A model in fp32 with up to `most_nodes` nodes.
pub fn float_model(seed: u64, most_nodes: u32) -> Model {
    random_model(seed, most_nodes, false)
}

/// A model in integers with up to `most_nodes` nodes and its conversions.
pub fn int_model(seed: u64, most_nodes: u32) -> Model {
    random_model(seed, most_nodes, true)
}

fn random_model(seed: u64, most_nodes: u32, integers: bool) -> Model {
    let random = &mut Random(seed);
    let axes = random.pick(&[1, 2, 3, 3, 3, 3, 4]);
    let longest = if axes == 4 { 4 } else { 9 };
    let shape = Shape::new(&random.list(axes, |r| r.size(1, longest))).unwrap();
    let names = ["first", "second"];
    let count = random.int(1, 2) as usize;
    let mut inputs = Vec::new();
    for name in &names[..count] {
        let element = if integers { Element::Uint8(random.quantization()) } else { Element::Fp32 };
        let array = if random.chance(2) {
            let mean = random.list(shape.channels(), |r| r.real(0.0, 1.0));
            let std = random.list(shape.channels(), |r| r.real(0.1, 1.0));
            Array::Bytes(Normalization::new(mean, std, element))
        } else {
            Array::Fp32
        };
        let order = random.permutation(axes);
        inputs.push(Input { name: (*name).to_owned(), shape, order, array, element });
    }
    let mut model = Model {
        inputs,
        nodes: Vec::new(),
        outputs: Vec::new(),
        rounding: if random.chance(3) { Rounding::Twice } else { Rounding::Once },
        notes: Notes::default(),
    };
    let nodes = random.size(1, most_nodes);
    for _ in 0..nodes {
        push_node(random, &mut model);
    }
    // The last value, and sometimes another one.
    let last = last_value(&model);
    let mut outputs = vec![last];
    if random.chance(2) {
        outputs.push(ValueId(random.size(0, last.0)));
    }
    let values = with_output(&model, last).validate().unwrap();
    let mut output = |(index, value): (usize, ValueId)| {
        let order = random.permutation(values.of(value).axes() as u32);
        Output { name: format!("output{index}"), value, order }
    };
    model.outputs = outputs.into_iter().enumerate().map(&mut output).collect();
    model
}

fn last_value(model: &Model) -> ValueId {
    ValueId((model.inputs.len() + model.nodes.len()) as u32 - 1)
}

fn with_output(model: &Model, value: ValueId) -> Model {
    let mut model = model.clone();
    if model.nodes.is_empty() {
        // A model needs a node.
        let sizes = model.inputs[0].shape.sizes().to_vec();
        let output = model.inputs[0].element;
        model.nodes.push(Node {
            inputs: vec![ValueId(0)],
            layer: Reshape { sizes }.into(),
            output,
        });
    }
    let axes = (1..=MAX_AXES).map(|axes| {
        model.outputs = vec![Output::new("output", value, axes)];
        model.clone()
    });
    axes.into_iter().find(|model| model.validate().is_ok()).unwrap_or(model_of_error())
}

/// Never valid.
fn model_of_error() -> Model {
    Model {
        inputs: Vec::new(),
        nodes: Vec::new(),
        outputs: Vec::new(),
        rounding: Rounding::Once,
        notes: Notes::default(),
    }
}

/// Tries random layers until one fits.
fn push_node(random: &mut Random, model: &mut Model) {
    let values = with_output(model, ValueId(0)).validate().unwrap();
    let known = model.inputs.len() + model.nodes.len();
    let integers = matches!(model.inputs[0].element, Element::Uint8(_));
    for _ in 0..1000 {
        // Mostly reads the newest value.
        let value = |random: &mut Random| {
            let newest = known as i64 - 1;
            let id = if random.chance(3) { random.int(0, newest) } else { newest };
            values.all()[id as usize]
        };
        let read = [value(random), value(random), value(random)];
        let node = match read[0].element {
            Element::Uint8(quantization) => int_node(random, read, quantization),
            Element::Fp32 if integers => Node {
                inputs: vec![read[0].id],
                layer: Quantize.into(),
                output: Element::Uint8(random.quantization()),
            },
            Element::Fp32 => float_node(random, read),
        };
        model.nodes.push(node);
        let valid = with_output(model, last_value(model));
        if valid.validate().is_ok_and(|values| {
            values.all().last().is_some_and(|value| value.shape.elements() <= 4000)
        }) {
            return;
        }
        model.nodes.pop();
    }
    panic!("no layer fits");
}

fn windows(random: &mut Random, shape: &Shape) -> Vec<WindowAxis> {
    let side = if shape.space().len() > 2 { 2 } else { 4 };
    let one = |random: &mut Random| {
        let kernel = random.size(1, side);
        WindowAxis {
            kernel,
            stride: random.size(1, 3),
            dilation: if random.chance(4) { 2 } else { 1 },
            before: random.size(0, kernel - 1),
            after: random.size(0, kernel - 1),
        }
    };
    if random.chance(2) {
        return random.list(shape.space().len() as u32, one);
    }
    vec![one(random); shape.space().len()]
}

fn channels(random: &mut Random) -> u32 {
    match random.int(0, 6) {
        0 => 8,
        1 => 16,
        2 => 32,
        _ => random.size(1, 20),
    }
}

/// Weights, biases and sizes of a convolution over `shape`: dense, depthwise or in groups.
fn conv<W, B>(
    random: &mut Random,
    shape: &Shape,
    weight: impl Fn(&mut Random, f32) -> W,
    bias: impl Fn(&mut Random) -> B,
) -> Conv<W, B> {
    let in_channels = shape.channels();
    let (groups, out_channels) = match random.int(0, 3) {
        0 => (in_channels, in_channels),
        1 => (in_channels, in_channels * 2),
        2 if in_channels.is_multiple_of(2) => (2, 2 * random.size(1, 6)),
        _ => (1, channels(random)),
    };
    let axes = windows(random, shape);
    let kernel = axes.iter().map(|axis| axis.kernel).product::<u32>();
    let depth = in_channels / groups * kernel;
    let bound = 2.0 / (depth as f32).sqrt();
    Conv {
        in_channels,
        out_channels,
        groups,
        axes,
        weight: random.list(out_channels * depth, |r| weight(r, bound)),
        bias: random.list(out_channels, bias),
    }
}

fn transposed<W, B>(conv: Conv<W, B>, random: &mut Random) -> ConvTranspose<W, B> {
    let Conv { in_channels, out_channels, groups, axes, weight, bias } = conv;
    let axes = axes
        .into_iter()
        .map(|WindowAxis { kernel, stride, dilation, before, after }| TransposedAxis {
            kernel,
            stride,
            dilation,
            before,
            after,
            extra: random.size(0, 1),
        })
        .collect();
    ConvTranspose { in_channels, out_channels, groups, axes, weight, bias }
}

fn activation(random: &mut Random) -> Activation {
    match random.int(0, 3) {
        0 => Activation::Linear,
        1 => Activation::Relu,
        2 => Activation::Relu6,
        _ => Activation::Clip { low: random.real(-1.0, 0.0), high: f32::INFINITY },
    }
}

fn function(random: &mut Random) -> Function {
    let (a, b) = (random.real(-0.5, 1.5), random.real(-1.0, 1.0));
    match random.int(0, 17) {
        0 => Function::Absolute,
        1 => Function::Clip { low: -1.0, high: a.abs() },
        2 => Function::Elu { alpha: a },
        3 => Function::Erf,
        4 => Function::Exponential,
        5 => Function::Gelu,
        6 => Function::GeluTanh,
        7 => Function::HardSigmoid { slope: a, offset: b },
        8 => Function::HardSwish,
        9 => Function::LeakyRelu { slope: a },
        10 => Function::Scale { factor: a, offset: b },
        11 => Function::Sigmoid,
        12 => Function::Silu,
        13 => Function::Softplus,
        14 => Function::Tanh,
        15 => Function::Power { exponent: 2.0 },
        16 => Function::Logarithm,
        _ => Function::SquareRoot,
    }
}

fn pool(random: &mut Random, shape: &Shape) -> AveragePool {
    let axes = windows(random, shape);
    let counted =
        axes.iter().map(|axis| (random.size(0, axis.before), random.size(0, axis.after))).collect();
    AveragePool { axes, counted }
}

fn reduce(random: &mut Random, shape: &Shape) -> Reduce {
    use ReduceFunction::*;
    let function = random.pick(&[Mean, Mean, Sum, Maximum, Minimum, L2]);
    let axes = shape.axes() as u32;
    let keep = random.chance(2);
    let first = if keep { 0 } else { 1 };
    Reduce { function, axes: random.some_axes(first..axes), keep }
}

fn taps<W>(
    random: &mut Random,
    shape: &Shape,
    weights: impl Fn(&mut Random) -> [W; 2],
) -> Vec<Vec<Taps<W>>> {
    let axis = |random: &mut Random, size: u32| {
        let count = random.size(1, 6);
        random.list(count, |random| {
            let indices = [random.size(0, size - 1), random.size(0, size - 1)];
            Taps { indices, weights: weights(random) }
        })
    };
    shape.space().iter().map(|&size| axis(random, size)).collect()
}

/// A layer that moves numbers as they are, with its number of inputs.
fn moving(random: &mut Random, shape: &Shape, fill: Fill) -> (usize, Layer) {
    let axes = shape.axes() as u32;
    let axis = random.size(0, axes - 1);
    match random.int(0, 5) {
        0 => {
            let count = random.size(1, 8);
            let limit = shape.sizes()[axis as usize] - 1;
            let indices = random.list(count, |random| random.size(0, limit));
            (1, Gather { axis, indices }.into())
        }
        1 => (1, Transpose { order: random.permutation(axes) }.into()),
        2 => {
            let mut sizes = shape.sizes().to_vec();
            match random.int(0, 2) {
                0 => sizes = vec![shape.elements() as u32],
                1 => sizes.reverse(),
                _ => sizes.push(1),
            }
            (1, Reshape { sizes }.into())
        }
        3 => {
            let mut side = || random.list(axes, |random| random.size(0, 2));
            (1, Pad { before: side(), after: side(), fill }.into())
        }
        4 => (1, MaxPool { axes: windows(random, shape) }.into()),
        _ => (random.size(1, 3) as usize, Concat { axis }.into()),
    }
}

fn float_node(random: &mut Random, read: [Value; 3]) -> Node {
    use BinaryFunction::*;
    let shape = &read[0].shape;
    let axes = shape.axes() as u32;
    let (count, layer): (usize, Layer) = match random.int(0, 17) {
        0..=3 => {
            let conv = conv(random, shape, |r, bound| r.real(-bound, bound), |r| r.real(-1.0, 1.0));
            (1, FloatConv { conv, activation: activation(random) }.into())
        }
        4 => {
            let conv = conv(random, shape, |r, bound| r.real(-bound, bound), |r| r.real(-1.0, 1.0));
            let conv = transposed(conv, random);
            (1, FloatConvTranspose { conv, activation: activation(random) }.into())
        }
        5 => {
            let (in_features, out_features) = (shape.elements() as u32, random.size(1, 20));
            let bound = 2.0 / (in_features as f32).sqrt();
            let weight = random.list(in_features * out_features, |r| r.real(-bound, bound));
            let bias = random.list(out_features, |r| r.real(-1.0, 1.0));
            (1, FloatLinear { in_features, out_features, weight, bias }.into())
        }
        6 => (1, Map { function: function(random) }.into()),
        7 => {
            let function = random.pick(&[
                Add,
                Divide,
                Equal,
                Less,
                LessOrEqual,
                Maximum,
                Minimum,
                Multiply,
                Power,
                Subtract,
            ]);
            (2, Binary { function }.into())
        }
        8 => (3, Select.into()),
        9 => (1, reduce(random, shape).into()),
        10 => {
            let transposed = [random.chance(2), random.chance(2)];
            (2, MatrixProduct { transposed }.into())
        }
        11 => (1, Softmax { axis: random.size(0, axes - 1), log: random.chance(2) }.into()),
        12 => {
            let axes = random.some_axes(0..axes);
            let count = axes.iter().map(|&axis| shape.sizes()[axis as usize]).product();
            let scale = random.list(count, |r| r.real(0.5, 1.5));
            let shift = random.list(count, |r| r.real(-1.0, 1.0));
            let (scale, shift) =
                if random.chance(3) { (Vec::new(), Vec::new()) } else { (scale, shift) };
            (1, LayerNormalization { axes, epsilon: 0.1, scale, shift }.into())
        }
        13 => {
            let slope = random.list(shape.channels(), |r| r.real(-0.5, 1.5));
            (1, Prelu { slope }.into())
        }
        14 => {
            // Often what broadcasts with the value that is read.
            let sizes: Vec<u32> =
                shape.sizes().iter().map(|&s| if random.chance(3) { 1 } else { s }).collect();
            let count = sizes.iter().product();
            let numbers = random.list(count, |r| r.real(-2.0, 2.0));
            (0, Constant { sizes, numbers: Numbers::Fp32(numbers) }.into())
        }
        15 => (1, pool(random, shape).into()),
        16 => {
            let axes = taps(random, shape, |random| {
                let weight = random.real(0.0, 1.0);
                [weight, 1.0 - weight]
            });
            (1, Resize { axes }.into())
        }
        _ => moving(random, shape, Fill::Fp32(random_number(shape))),
    };
    let inputs = read[..count].iter().map(|value| value.id).collect();
    Node { inputs, layer, output: Element::Fp32 }
}

fn random_number(shape: &Shape) -> f32 {
    shape.elements() as f32 / 100.0
}

fn int_node(random: &mut Random, read: [Value; 3], quantization: Quantization) -> Node {
    let shape = &read[0].shape;
    let (same, other) = (Element::Uint8(quantization), Element::Uint8(random.quantization()));
    let (count, layer, output): (usize, Layer, Element) = match random.int(0, 15) {
        0..=3 => {
            let conv =
                conv(random, shape, |r, _| r.int(-128, 127) as i8, |r| r.int(-1000, 1000) as i32);
            let (weight_scale, requantize, clamp) =
                ends(random, conv.out_channels, conv.weight.len());
            (1, IntConv { conv, weight_scale, requantize, clamp }.into(), other)
        }
        4 => {
            let conv =
                conv(random, shape, |r, _| r.int(-128, 127) as i8, |r| r.int(-1000, 1000) as i32);
            let (weight_scale, requantize, clamp) =
                ends(random, conv.out_channels, conv.weight.len());
            let conv = transposed(conv, random);
            (1, IntConvTranspose { conv, weight_scale, requantize, clamp }.into(), other)
        }
        5 => {
            let (in_features, out_features) = (shape.elements() as u32, random.size(1, 20));
            let weight = random.list(in_features * out_features, |r| r.int(-128, 127) as i8);
            let bias = random.list(out_features, |r| r.int(-1000, 1000) as i32);
            let linear = Linear { in_features, out_features, weight, bias };
            let logit_scale = random.list(out_features, |r| r.real(1e-4, 1e-2));
            (1, IntLinear { linear, logit_scale }.into(), Element::Fp32)
        }
        6 => {
            let count = if random.chance(2) { 256 } else { 256 * shape.channels() };
            let tables = random.bytes(count as usize);
            let function = if random.chance(2) { Some(function(random)) } else { None };
            (1, Table { function, tables }.into(), other)
        }
        7 => {
            let mut factor = || f64::from(random.real(-2.0, 2.0));
            (2, IntSum::from_real([factor(), factor()], (0, 255)).into(), other)
        }
        8 => {
            let requantize = Requantization::from_real(random.real(0.001, 0.1).into());
            (2, IntProduct { requantize, clamp: (3, 250) }.into(), other)
        }
        9 => {
            let [left, right] = [0; 2].map(|_| random.real(0.001, 0.05));
            let twice_max = 2.0 * left.max(right);
            let sides = [left, right].map(|s| Requantization::from_real((s / twice_max).into()));
            let factor = f64::from(twice_max) / f64::from(1 << 20) / 0.03;
            let output = Requantization::from_real(factor);
            (2, IntAddTwice { sides, output, clamp: (0, 200) }.into(), other)
        }
        10 => {
            let reduce = reduce(random, shape);
            let whole = matches!(reduce.function, ReduceFunction::Mean | ReduceFunction::Sum);
            let requantize = Requantization::from_real(random.real(0.005, 1.5).into());
            (1, IntReduce { reduce, requantize }.into(), if whole { other } else { same })
        }
        11 => {
            let pool = pool(random, shape);
            let counts = pool.counts(shape).unwrap_or_default();
            let factor = |count: u32| Requantization::from_real(1.3 / f64::from(count));
            let factors = counts.iter().map(|&count| (count, factor(count))).collect();
            (1, IntAveragePool { pool, factors }.into(), other)
        }
        12 => {
            let axes = taps(random, shape, |random| {
                let weight = random.size(0, IntResize::WHOLE);
                [weight, IntResize::WHOLE - weight]
            });
            (1, IntResize { axes }.into(), same)
        }
        13 => (1, Dequantize.into(), Element::Fp32),
        14 => {
            let sizes = shape.sizes().to_vec();
            let numbers = Numbers::Bytes(random.bytes(shape.elements()));
            (0, Constant { sizes, numbers }.into(), same)
        }
        _ => {
            let (count, layer) = moving(random, shape, Fill::Byte(random_number(shape) as u8));
            (count, layer, same)
        }
    };
    let inputs = read[..count].iter().map(|value| value.id).collect();
    Node { inputs, layer, output }
}

/// What turns the accumulators of a convolution into bytes.
fn ends(
    random: &mut Random,
    out_channels: u32,
    weights: usize,
) -> (Vec<f32>, Vec<Requantization>, (u8, u8)) {
    let depth = weights as f64 / f64::from(out_channels);
    let left = random.chance(6);
    let requantize = random.list(out_channels, |random| requantization(random, depth, left));
    let scales = random.list(out_channels, |random| random.real(0.001, 0.1));
    let clamp = if random.chance(2) { (0, 255) } else { (random.next() as u8 / 2, 200) };
    (if random.chance(2) { scales } else { Vec::new() }, requantize, clamp)
}

/// A factor that scales most sums of `depth` products to the range of a byte, and sometimes an
/// extreme one.
fn requantization(random: &mut Random, depth: f64, left: bool) -> Requantization {
    match random.int(0, 40) {
        0 => Requantization::ZERO,
        1 => Requantization::from_real(0.999),
        2 => Requantization { multiplier: 1 << 30, shift: -31 },
        3 if left => Requantization::from_real(random.real(1.0, 1000.0).into()),
        _ => {
            let usual = 1.0 / (depth.sqrt() * 64.0);
            Requantization::from_real(usual * f64::from(random.real(0.2, 2.0)))
        }
    }
}
