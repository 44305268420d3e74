//! The simulated quantization of trainings and the engine's integers: they are the same, except for
//! a few values that are one step apart, because one sums real numbers and the other integers.

use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_common::Seed;
use edgesmith_common::spec::{DataSource, DataSpec};
use edgesmith_compress::{Calibration, Scheme, Unfolded, Widths, fold, unfold};
use edgesmith_data::{Dataset, Normalization, Views};
use edgesmith_edge_runtime::{Element, Layer, Model, Output, Session, ValueId as EngineValue};
use edgesmith_graph::{
    Add, AveragePool, BatchNormalization, Clip, Concat, Constant, Conv, ConvTranspose, Coordinates,
    Flatten, Function, Gather, GlobalAveragePool, Graph, GraphBuilder, Groups, LayerNormalization,
    LeakyRelu, Linear, Map, MatrixProduct, MaxPool, Multiply, Op, Operation, Pad, Place, Prelu,
    Quantization, Reduce, ReduceFunction, Reshape, Resize, ResizeAxis, ResizeMode, Role, Rounding,
    Shape, Softmax, Transpose, TransposedAxis, ValueId, Weights, WindowAxis,
};
use edgesmith_testing::{
    DIGITS, conv_graph, normalization, random_bytes, random_weights, residual_graph,
};
use edgesmith_train::{
    Checkpoint, Cores, Network, Throughput, TrainDevice, TrainRequest, Trained, fresh_weights,
    settled,
};
use edgesmith_worker::export::{Interface, lower_partly};

/// How many values were compared, how many of them are integers in the engine, how many were
/// another integer, and how many of these more than one step away.
#[derive(Debug, Default)]
struct Compared {
    values: usize,
    integers: usize,
    other: usize,
    farther: usize,
}

/// The engine's values that hold those of the graph, in the order of the graph's nodes.
fn places(graph: &Graph, model: &Model) -> Vec<(ValueId, EngineValue)> {
    // Conversions between scales, and between integers and real numbers, stand before the layers
    // that need them.
    let converts = |at: usize| match &model.nodes[at].layer {
        Layer::Quantize(_) | Layer::Dequantize(_) => true,
        Layer::Table(table) => {
            let joins = |layer: &Layer| matches!(layer, Layer::Concat(_) | Layer::Pad(_));
            let next = model.nodes[at + 1..].iter().find(|n| !matches!(n.layer, Layer::Table(_)));
            table.function.is_none() && next.is_some_and(|next| joins(&next.layer))
        }
        _ => false,
    };
    let first = model.inputs.len();
    let layers = (0..model.nodes.len()).filter(|&at| !converts(at));
    let mut layers = layers.map(|at| EngineValue((first + at) as u32));
    let clips = graph.absorbed_clips();
    let absorbed = |id| clips.iter().flatten().any(|(clip, _)| *clip == id);
    let mut places: Vec<_> = graph.inputs().map(|input| (input, EngineValue(0))).collect();
    for (id, node) in graph.nodes().filter(|(id, _)| !absorbed(*id)) {
        let output = clips[id.index()].map_or(node.output, |(clip, _)| graph.node(clip).output);
        places.push((output, layers.next().expect("a layer for each node")));
    }
    assert!(layers.next().is_none(), "a node for each layer");
    places
}

/// Compares all values that a network computes with those of its model in the engine.
fn compare(
    network: (&Graph, &Weights),
    quantization: &Quantization,
    normalization: &Normalization,
    images: &[Vec<u8>],
) -> Compared {
    let (graph, weights) = network;
    let simulated = Network::quantized(graph, weights, quantization, &Device::flex());
    compare_with(&simulated, |value| value, network, quantization, normalization, images)
}

/// Compares all values that a simulation computes with those of a model in the engine. `value` says
/// which value of the simulated network stands for one of the model's.
fn compare_with(
    simulated: &Network,
    value: impl Fn(ValueId) -> ValueId,
    (graph, weights): (&Graph, &Weights),
    quantization: &Quantization,
    normalization: &Normalization,
    images: &[Vec<u8>],
) -> Compared {
    let simulated_value = value;
    let interface = Interface::of(graph, Some(normalization));
    let mut model = lower_partly(graph, weights, quantization, &interface).unwrap();
    let places = places(graph, &model);
    let real = model.image().unwrap();
    model.outputs = places
        .iter()
        .map(|(value, at)| {
            Output::new(&graph.value(*value).name, *at, graph.shape(*value).sizes().len())
        })
        .collect();
    let element = |at: EngineValue| match (at.0 as usize).checked_sub(1) {
        None => model.inputs[0].element,
        Some(node) => model.nodes[node].output,
    };
    let mut session = Session::new(&model).unwrap();
    let device = Device::flex();
    let mut compared = Compared::default();
    let [channels, height, width] = [real.channels, real.height, real.width].map(|n| n as usize);
    for image in images {
        session.run(image).unwrap();
        let plane = height * width;
        let pixels = image.iter().enumerate().map(|(i, &byte)| real.normalized(i / plane, byte));
        let pixels = TensorData::new(pixels.collect::<Vec<_>>(), [1, channels, height, width]);
        let values = simulated.values(Tensor::from_data(pixels, &device));
        for (output, (value, at)) in places.iter().enumerate() {
            let name = &graph.value(*value).name;
            let own = values[simulated_value(*value).index()].clone().unwrap();
            let own = own.into_data().try_into_vec::<f32>().unwrap();
            let engines = session.output(output);
            assert_eq!(own.len(), engines.len(), "{name}");
            let largest = engines.iter().fold(1e-3f32, |largest, v| largest.max(v.abs()));
            for (own, engines) in own.iter().zip(engines) {
                compared.values += 1;
                let steps = match element(*at) {
                    Element::Uint8(held) => {
                        compared.integers += 1;
                        let steps = own / held.scale;
                        assert!((steps - steps.round()).abs() < 1e-2, "{name}: no level: {own}");
                        ((own - engines) / held.scale).round().abs()
                    }
                    Element::Fp32 => f32::from(u8::from((own - engines).abs() > 1e-3 * largest)),
                };
                compared.other += usize::from(steps > 0.0);
                compared.farther += usize::from(steps > 1.0);
            }
        }
    }
    compared
}

fn digits() -> Dataset {
    let spec = DataSpec {
        source: DataSource::Digits,
        validation_fraction: 0.2,
        train_limit: None,
        test_limit: None,
    };
    Dataset::load(&spec, DIGITS, Seed(1), Path::new(".")).unwrap()
}

/// What a byte of an image is to a network.
fn pixel(Normalization { mean, std }: &Normalization, channel: usize, byte: u8) -> f32 {
    (f32::from(byte) / 255.0 - mean[channel]) / std[channel]
}

/// The same of all bytes of an image.
fn pixels(normalization: &Normalization, image: &[u8]) -> Vec<f32> {
    let plane = image.len() / normalization.mean.len();
    image.iter().enumerate().map(|(i, &byte)| pixel(normalization, i / plane, byte)).collect()
}

/// The quantization of a folded network from some images, with so many bits for a weight. These
/// layers stay real.
fn calibrated(
    graph: &Graph,
    weights: &Weights,
    normalization: &Normalization,
    images: &[Vec<u8>],
    layers: &[&str],
    bits: u32,
) -> Quantization {
    let mut calibration = Calibration::new(graph, weights);
    for image in images {
        calibration.observe(pixels(normalization, image)).unwrap();
    }
    let channels = 0..normalization.mean.len();
    let number = |channel, byte| pixel(normalization, channel, byte);
    let ends = channels.map(|channel| (number(channel, 0), number(channel, 255)));
    let range = ends.fold((0.0f32, 0.0f32), |range, end| (range.0.min(end.0), range.1.max(end.1)));
    let real = layers.iter().map(|name| (*name).to_owned()).collect();
    let widths = Widths { weights: bits, ..Widths::default() };
    calibration.finish(range, &Scheme { real, widths, ..Scheme::default() }).unwrap()
}

fn trained(
    graph: &Graph,
    weights: Weights,
    quantization: Option<&Quantization>,
    digits: &Dataset,
) -> Trained {
    let spec = Throughput::usual_training(32);
    let request = TrainRequest {
        graph,
        start: Checkpoint::fresh(weights),
        dataset: digits,
        views: &Views::new(&spec.augmentation, Seed(1)),
        spec: &spec,
        epochs: 2,
        until: 2,
        learning_rate: 3e-3,
        skipped: 0,
        shrink: (edgesmith_search_space::Shrink::None, 0.0),
        ties: false,
        first: None,
        keeps_statistics: false,
        at_once: u32::MAX,
        shuffle_seed: [1; 32],
        distillation: None,
        quantization,
        kept: None,
        device: TrainDevice::Flex,
        cores: &Cores::one(),
    };
    edgesmith_train::train(request, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn hardly_any_value_differs_between_training_and_the_engine() {
    let digits = digits();
    let few = [4, 2, 1].map(|bits| (conv_graph(), bits));
    for (graph, bits) in [(residual_graph(), 8), (conv_graph(), 8)].into_iter().chain(few) {
        let float = trained(&graph, fresh_weights(&graph, [1; 32]), None, &digits).weights;
        let (graph, weights) = fold(&graph, &float);
        let images: Vec<Vec<u8>> = (0..200).map(|i| digits.train.image(i).to_vec()).collect();
        let start = calibrated(&graph, &weights, &digits.normalization, &images, &[], bits);
        let learned = trained(&graph, weights.clone(), Some(&start), &digits);
        let quantization = learned.quantization.unwrap();
        assert_ne!(quantization, start);
        let images: Vec<Vec<u8>> = (0..300).map(|i| digits.test.image(i).to_vec()).collect();
        for (weights, quantization) in [(&weights, &start), (&learned.weights, &quantization)] {
            let network = (&graph, weights);
            let compared = compare(network, quantization, &digits.normalization, &images);
            println!("{compared:?}");
            let Compared { values, integers, other, farther } = compared;
            assert!(integers > 300_000 && other * 1000 <= values, "{compared:?}");
            // One that is a step away may move those after it by more.
            assert!(farther * 10_000 <= values, "{compared:?}");
        }
    }
}

/// A training with batch normalisation behind the layers, whose gains folding puts into the scales.
#[test]
fn hardly_any_value_differs_between_a_normalised_training_and_the_engine() {
    let digits = digits();
    for (graph, bits) in [(residual_graph(), 8), (conv_graph(), 8), (conv_graph(), 2)] {
        let float = trained(&graph, fresh_weights(&graph, [1; 32]), None, &digits).weights;
        let (graph, weights) = fold(&graph, &float);
        let images: Vec<Vec<u8>> = (0..200).map(|i| digits.train.image(i).to_vec()).collect();
        let start = calibrated(&graph, &weights, &digits.normalization, &images, &[], bits);
        let examples = images[..50].iter().map(|image| pixels(&digits.normalization, image));
        let unfolded = unfold(&graph, &weights, &start, |observe| {
            examples.for_each(observe);
            Ok::<(), std::convert::Infallible>(())
        });
        let unfolded = unfolded.unwrap().unwrap();
        let (own, all) = unfolded.normalized();
        assert_eq!(own, all);
        let Unfolded { graph: network, weights: numbers, quantization: levels, .. } = &unfolded;
        let learned = trained(network, numbers.clone(), Some(levels), &digits);
        let levels = learned.quantization.unwrap();
        let (weights, quantization) = unfolded.fold(&graph, &start, &learned.weights, &levels);
        let (weights, quantization) = settled(&graph, &weights, &quantization);
        assert_ne!(quantization, start);
        let simulated = Network::quantized(network, &learned.weights, &levels, &Device::flex());
        // The output of a normalisation, where there is one behind the layer.
        let value = |id: ValueId| {
            let name = &graph.value(id).name;
            let normalized = network.value_named(&format!("{name}.normalized"));
            normalized.or_else(|| network.value_named(name)).unwrap()
        };
        let images: Vec<Vec<u8>> = (0..300).map(|i| digits.test.image(i).to_vec()).collect();
        let folded = (&graph, &weights);
        let normalization = &digits.normalization;
        let compared =
            compare_with(&simulated, value, folded, &quantization, normalization, &images);
        println!("{compared:?}");
        let Compared { values, integers, other, farther } = compared;
        assert!(integers > 300_000 && other * 1000 <= values, "{compared:?}");
        assert!(farther * 10_000 <= values, "{compared:?}");
        let compared = compare(folded, &quantization, normalization, &images);
        println!("{compared:?}");
        let Compared { values, other, farther, .. } = compared;
        assert!(other * 1000 <= values && farther * 10_000 <= values, "{compared:?}");
    }
}

/// Layers of every kind that a model of one image has, in the order of a network.
fn every_operation() -> Graph {
    let mut net = Net { builder: GraphBuilder::new(), added: 0 };
    let image = net.builder.input("image", Shape::new(3, &[8, 8]).unwrap()).unwrap();
    let weights = |shape: &'static [u32]| -> [(&str, &[u32], Role); 2] {
        [("weight", shape, Role::Weight), ("bias", &shape[..1], Role::Bias)]
    };
    let stem = net.with(Conv::dense(3, 1), &[image], &weights(&[6, 3, 3, 3]));
    let stem = net.op(Clip::RELU6, &[stem]);
    let leaky = net.op(LeakyRelu { slope: 0.1 }, &[stem]);
    let axes = [WindowAxis::valid(2); 2];
    let pool = net.op(MaxPool { kernel: [2, 2].into(), axes: axes.into() }, &[leaky]);
    let axes = [WindowAxis::same(3, 1); 2];
    let average =
        AveragePool { kernel: [3, 3].into(), axes: axes.into(), counted: [(0, 0); 2].into() };
    let average = net.op(average, &[pool]);
    let depthwise = net.with(Conv::depthwise(3, 1), &[average], &weights(&[6, 1, 3, 3]));
    let prelu = net.with(Prelu, &[depthwise], &[("slope", &[6], Role::Slope)]);
    let sum = net.op(Add, &[pool, prelu]);
    let clipped = net.op(Clip { low: -0.5, high: 2.0 }, &[sum]);
    let silu = net.op(Map { function: Function::Silu }, &[clipped]);
    let joined = net.op(Concat::channels(), &[silu, pool]);
    let parameters = [
        ("gamma", Role::Scale),
        ("beta", Role::Shift),
        ("mean", Role::Mean),
        ("variance", Role::Variance),
    ];
    let parameters = parameters.map(|(part, role)| (part, &[12][..], role));
    let normalized = net.with(BatchNormalization { epsilon: 1e-3 }, &[joined], &parameters);
    let shuffled = net.op(Gather::shuffle(12, 3), &[normalized]);
    let turned = net.op(Transpose { order: [0, 2, 1].into() }, &[shuffled]);
    let pad = Pad { before: [0, 1, 0].into(), after: [0, 0, 1].into(), value: 0.3 };
    let padded = net.op(pad, &[turned]);
    let axis = ResizeAxis { size: 7, scale: 1.4, coordinates: Coordinates::Asymmetric };
    let nearest = ResizeMode::Nearest(Rounding::Floor);
    let resized = net.op(Resize { mode: nearest, axes: [axis; 2].into() }, &[padded]);
    let axis = TransposedAxis { stride: 2, dilation: 1, before: 1, after: 1, extra: 0 };
    let transposed = ConvTranspose { axes: [axis; 2].into(), groups: Groups::Equal(1) };
    let grown = net.with(transposed, &[resized], &weights(&[4, 12, 3, 3]));
    let pooled = net.op(GlobalAveragePool, &[grown]);
    let gate = net.with(Linear, &[pooled], &weights(&[4, 4]));
    let gate = net.op(Map { function: Function::Sigmoid }, &[gate]);
    let gated = net.op(Multiply, &[grown, gate]);
    let constant = net.with(Constant, &[], &[("value", &[4], Role::Constant)]);
    let moved = net.op(Add, &[gated, constant]);
    let mean = Reduce { function: ReduceFunction::Mean, axes: [2][..].into() };
    let rows = net.op(mean, &[moved]);
    let most = Reduce { function: ReduceFunction::Maximum, axes: [2][..].into() };
    let most = net.op(most, &[moved]);
    let both = net.op(Add, &[rows, most]);
    let sequence = net.op(Reshape { sizes: [4, 13][..].into() }, &[both]);
    let square = net.op(MatrixProduct { transposed: [false, true] }, &[sequence, sequence]);
    let layers = net.op(LayerNormalization { axes: [0][..].into(), epsilon: 0.1 }, &[square]);
    let each = net.with(Linear, &[layers], &weights(&[5, 4]));
    let flat = net.op(Flatten, &[each]);
    let scores = net.with(Linear, &[flat], &weights(&[3, 20]));
    let shares = net.op(Softmax { axis: 0, log: false }, &[scores]);
    net.builder.finish(&[shares]).unwrap()
}

/// A graph that is being built. Parameters are named after their nodes.
struct Net {
    builder: GraphBuilder,
    added: usize,
}

impl Net {
    fn op(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.with(op, inputs, &[])
    }

    fn with(
        &mut self,
        op: impl Into<Op>,
        inputs: &[ValueId],
        parameters: &[(&str, &[u32], Role)],
    ) -> ValueId {
        self.added += 1;
        let name = format!("n{}", self.added);
        let mut declare = |(part, shape, role): &(&str, &[u32], Role)| {
            self.builder.parameter(format!("{name}.{part}"), shape, *role).unwrap()
        };
        let parameters: Vec<_> = parameters.iter().map(&mut declare).collect();
        self.builder.node(name, op, inputs, &parameters, Place::default()).unwrap()
    }
}

/// Which operations have a form in integers, and what they round, is the same in both.
#[test]
fn training_rounds_what_the_engine_rounds() {
    let graph = every_operation();
    let kinds: std::collections::BTreeSet<&str> =
        graph.nodes().map(|(_, node)| node.op.kind()).collect();
    let absent: Vec<&&str> = Op::KINDS.iter().filter(|kind| !kinds.contains(*kind)).collect();
    // Neither has a form in integers.
    assert_eq!(absent, [&"binary", &"select"]);
    let (graph, weights) = fold(&graph, &random_weights(&graph, 4));
    let normalization = normalization(&graph);
    let images: Vec<Vec<u8>> = (0..100).map(|seed| random_bytes(&graph, seed)).collect();
    // All layers in integers, or some of them.
    for real in [&[][..], &["n1", "n17"], &["n6", "n19", "n32"]] {
        let quantization = calibrated(&graph, &weights, &normalization, &images[..50], real, 8);
        let compared = compare((&graph, &weights), &quantization, &normalization, &images[50..]);
        println!("{real:?}: {compared:?}");
        let Compared { values, integers, other, .. } = compared;
        assert!(2 * integers > values && other * 1000 <= values, "{real:?}: {compared:?}");
    }
}
