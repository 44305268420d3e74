//! Compares the time of one inference in fp32 and int8 for a few fixed networks with random
//! weights: `cargo run --release -p edgesmith-edge-runtime --example bench [PART OF A NAME]`. Each
//! figure is the median of many rounds. The last column has int8 with each smaller set of
//! instructions of this processor, down to the kernels without AVX2, and fp32 without AVX2.

use std::time::{Duration, Instant};

use edgesmith_edge_runtime::{
    Activation, Binary, BinaryFunction, Conv, Element, FloatConv, Input, InputSpec, IntConv,
    IntLinear, IntReduce, IntSum, Layer, Linear, Model, Node, Notes, Output, Quantization, Reduce,
    Requantization, Rounding, Session, ValueId, WindowAxis,
};

fn main() {
    println!(
        "{:<34} {:>9} {:>9} {:>6}  less",
        "network (ns per inference)", "fp32", "int8", "ratio"
    );
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for (name, network) in networks().into_iter().filter(|(name, _)| name.contains(&wanted)) {
        let [fp32, int8] = [network.float(), network.int()];
        let times = |model: &Model| -> Vec<f64> {
            Session::each(model).expect("a valid model").into_iter().map(nanoseconds).collect()
        };
        let (fp32_each, int8_each) = (times(&fp32), times(&int8));
        let (fp32, int8) = (fp32_each[0], int8_each[0]);
        let less: Vec<String> = int8_each[1..].iter().map(|time| format!("{time:.0}")).collect();
        println!(
            "{name:<34} {fp32:>9.0} {int8:>9.0} {:>6.2}  int8 {}; fp32 {:.0}",
            fp32 / int8,
            less.join(", "),
            fp32_each[fp32_each.len() - 1],
        );
    }
}

fn networks() -> Vec<(&'static str, Builder)> {
    vec![
        ("8x8x1 plain 8-16-16", {
            let mut net = Builder::new(1, 8);
            net.conv(8, 3, 1).conv(16, 3, 2).conv(16, 3, 1).pool();
            net
        }),
        ("8x8x1 plain 16-32-32", {
            let mut net = Builder::new(1, 8);
            net.conv(16, 3, 1).conv(32, 3, 2).conv(32, 3, 1).pool();
            net
        }),
        ("8x8x1 pruned plain 11-23-29", {
            let mut net = Builder::new(1, 8);
            net.conv(11, 3, 1).conv(23, 3, 2).conv(29, 3, 1).pool();
            net
        }),
        ("8x8x1 separable 16-32-64", {
            let mut net = Builder::new(1, 8);
            net.conv(16, 3, 1).separable(32, 3, 2).separable(64, 3, 1).pool();
            net
        }),
        ("8x8x1 inverted residual 16, x3", {
            let mut net = Builder::new(1, 8);
            net.conv(16, 3, 1).inverted(16, 3, 1, 3).inverted(24, 3, 2, 3).inverted(24, 5, 1, 3);
            net.pool();
            net
        }),
        ("28x28x1 plain 16-32-64", {
            let mut net = Builder::new(1, 28);
            net.conv(16, 3, 1).conv(32, 3, 2).conv(32, 3, 1).conv(64, 3, 2).conv(64, 3, 1).pool();
            net
        }),
        ("32x32x3 plain 32-64-64", {
            let mut net = Builder::new(3, 32);
            net.conv(32, 3, 1).conv(64, 3, 2).conv(64, 3, 1).conv(64, 3, 2).conv(64, 3, 1).pool();
            net
        }),
        ("32x32x3 inverted residual 16-64, x4", {
            let mut net = Builder::new(3, 32);
            net.conv(16, 3, 1).inverted(16, 3, 1, 4).inverted(32, 3, 2, 4).inverted(32, 3, 1, 4);
            net.inverted(64, 5, 2, 4).inverted(64, 5, 1, 4).pool();
            net
        }),
        ("32x32x16 depthwise 3x3, 64 channels", {
            let mut net = Builder::new(16, 32);
            net.conv(64, 1, 1).depthwise(3, 1).depthwise(3, 1).depthwise(3, 1).pool();
            net
        }),
    ]
}

/// Median over rounds of about a millisecond, per inference.
fn nanoseconds(mut session: Session) -> f64 {
    let image: Vec<u8> = (0..session.image_bytes()).map(|i| (i * 37) as u8).collect();
    let mut round = |runs: u32| {
        let start = Instant::now();
        for _ in 0..runs {
            std::hint::black_box(session.run(std::hint::black_box(&image)).expect("right size"));
        }
        start.elapsed()
    };
    let warm_up = round(20);
    let runs = (Duration::from_millis(1).as_nanos() * 20 / warm_up.as_nanos().max(1)).max(1) as u32;
    let mut times: Vec<Duration> = (0..200).map(|_| round(runs)).collect();
    times.sort();
    times[times.len() / 2].as_nanos() as f64 / f64::from(runs)
}

/// A network in both arithmetics, layer by layer.
struct Builder {
    input: InputSpec,
    float: Vec<Node>,
    int: Vec<Node>,
    channels: u32,
    random: u64,
}

const BYTES: Element = Element::Uint8(Quantization { scale: 0.02, zero_point: 0 });

impl Builder {
    fn new(channels: u32, side: u32) -> Self {
        let input = InputSpec {
            channels,
            height: side,
            width: side,
            mean: vec![0.5; channels as usize],
            std: vec![0.25; channels as usize],
        };
        Self { input, float: Vec::new(), int: Vec::new(), channels, random: 1 }
    }

    fn conv(&mut self, channels: u32, kernel: u32, stride: u32) -> &mut Self {
        self.convolve(channels, kernel, stride, false)
    }

    fn depthwise(&mut self, kernel: u32, stride: u32) -> &mut Self {
        self.convolve(self.channels, kernel, stride, true)
    }

    fn separable(&mut self, channels: u32, kernel: u32, stride: u32) -> &mut Self {
        self.depthwise(kernel, stride).conv(channels, 1, 1)
    }

    fn inverted(&mut self, channels: u32, kernel: u32, stride: u32, expansion: u32) -> &mut Self {
        let (before, from) = (self.channels, self.last());
        self.conv(self.channels * expansion, 1, 1).depthwise(kernel, stride).conv(channels, 1, 1);
        if before == channels && stride == 1 {
            let inputs = vec![from, self.last()];
            let add = Binary { function: BinaryFunction::Add };
            self.push(inputs, add.into(), IntSum::from_real([1.0; 2], (0, 255)).into());
        }
        self
    }

    fn pool(&mut self) -> &mut Self {
        let reduce = Reduce::global_mean(3, true);
        let requantize = Requantization::from_real(0.02);
        let int = IntReduce { reduce: reduce.clone(), requantize };
        self.push(vec![self.last()], reduce.into(), int.into());
        self
    }

    /// Adds a node in both arithmetics.
    fn push(&mut self, inputs: Vec<ValueId>, float: Layer, int: Layer) {
        let node = |layer, output| Node { inputs: inputs.clone(), layer, output };
        self.float.push(node(float, Element::Fp32));
        self.int.push(node(int, BYTES));
    }

    fn convolve(&mut self, channels: u32, kernel: u32, stride: u32, depthwise: bool) -> &mut Self {
        let groups = if depthwise { self.channels } else { 1 };
        let per_output = self.channels / groups * kernel * kernel;
        let weight: Vec<i8> = (0..channels * per_output).map(|_| self.weight()).collect();
        let factor = 1.0 / (64.0 * f64::from(per_output).sqrt());
        let axes = vec![WindowAxis::new(kernel, stride, kernel / 2); 2];
        let conv = Conv {
            in_channels: self.channels,
            out_channels: channels,
            groups,
            axes: axes.clone(),
            weight: weight.iter().map(|&weight| f32::from(weight) * factor as f32).collect(),
            bias: vec![0.1; channels as usize],
        };
        let int = IntConv {
            conv: Conv {
                in_channels: self.channels,
                out_channels: channels,
                groups,
                axes,
                weight,
                bias: vec![100; channels as usize],
            },
            weight_scale: Vec::new(),
            requantize: vec![Requantization::from_real(factor); channels as usize],
            clamp: (0, 255),
        };
        let float = FloatConv { conv, activation: Activation::Relu6 };
        self.push(vec![self.last()], float.into(), int.into());
        self.channels = channels;
        self
    }

    fn last(&self) -> ValueId {
        ValueId(self.float.len() as u32)
    }

    fn weight(&mut self) -> i8 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 56) as i8
    }

    fn float(&self) -> Model {
        let linear = Linear {
            in_features: self.channels,
            out_features: 10,
            weight: vec![0.1; 10 * self.channels as usize],
            bias: vec![0.0; 10],
        };
        self.model(&self.float, linear.into(), Element::Fp32)
    }

    fn int(&self) -> Model {
        let linear = Linear {
            in_features: self.channels,
            out_features: 10,
            weight: vec![5; 10 * self.channels as usize],
            bias: vec![0; 10],
        };
        let linear = IntLinear { linear, logit_scale: vec![0.01; 10] };
        let input = Element::Uint8(Quantization { scale: 0.02, zero_point: 128 });
        self.model(&self.int, linear.into(), input)
    }

    /// With a last layer that reads the last value.
    fn model(&self, nodes: &[Node], last: Layer, input: Element) -> Model {
        let mut nodes = nodes.to_vec();
        nodes.push(Node { inputs: vec![self.last()], layer: last, output: Element::Fp32 });
        Model {
            inputs: vec![Input::image(&self.input, input).expect("sizes of an image")],
            outputs: vec![Output::new("logits", ValueId(nodes.len() as u32), 1)],
            nodes,
            rounding: Rounding::Once,
            notes: Notes::default(),
        }
    }
}
