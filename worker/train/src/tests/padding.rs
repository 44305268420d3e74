//! Tests of trainings with padded channels, as on a GPU; here on `flex`.

use burn::optim::GradientsParams;
use proptest::prelude::*;

use super::*;
use crate::network::{Net, fresh_weights, picture, random_graph};
use edgesmith_graph::{
    Add, Array, AveragePool, Binary, BinaryFunction, Clip, Conv, ConvTranspose, Coordinates,
    Function, Gather, GlobalAveragePool, Groups, LeakyRelu, MaxPool, Multiply, Pad, Reduce,
    ReduceFunction, Reshape, Resize, ResizeAxis, ResizeMode, Select, Softmax, Transpose,
    TransposedAxis, ValueId, WindowAxis,
};
use edgesmith_testing::{
    arbitrary_graph, assert_close, random_bytes, random_weights as any_weights,
};

fn train_padded(
    channel_multiple: u32,
    steps_ahead: usize,
    request: TrainRequest,
) -> Result<Trained, TrainError> {
    let manner = Manner { steps_ahead, channel_multiple };
    train_in(manner, request, &mut |_| ControlFlow::Continue(()))
}

/// A few images for a graph.
fn images(graph: &Graph) -> Dataset {
    let [channels, height, width] = picture(graph.input());
    let classes = graph.output().channels() as usize;
    let set = |count: usize| ImageSet {
        channels,
        height,
        width,
        pixels: (0..count).flat_map(|i| random_bytes(graph, i as u64)).collect(),
        labels: (0..count).map(|i| (i % classes) as u16).collect(),
    };
    let train = set(21);
    let normalization = Normalization::of(&train);
    let origin = Origin::whole(train.len());
    Dataset { train, validation: set(1), test: set(1), classes, normalization, origin }
}

/// Euclidean distance of two arrays.
fn distance(one: &Array, other: &Array) -> f64 {
    let squares = one.data.iter().zip(&other.data).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

/// The same weights, each changed by about one rounding up or down.
fn nudged(weights: &Weights, salt: u64) -> Weights {
    let mut weights = weights.clone();
    for (place, value) in weights.arrays.values_mut().flat_map(|a| &mut a.data).enumerate() {
        let up = (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ salt) >> 63 == 0;
        *value *= if up { 1.0 + f32::EPSILON } else { 1.0 - f32::EPSILON };
    }
    weights
}

/// Trains a graph plain and padded, and compares losses, weights and moments.
///
/// Padding changes the order of sums, and so their rounding. Some networks amplify that, for
/// example by normalizing a channel whose values hardly differ in a batch of eight. How much a
/// network does so is seen from the same training with its start changed by a rounding. The factors
/// below are a number of roundings, as padding changes those of every step.
fn trains_alike(graph: &Graph, seed: u64, multiple: u32) -> Result<(), TestCaseError> {
    let data = images(graph);
    // SGD, because AdamW's first steps amplify a rounding error to the size of a gradient.
    let optimizer = OptimizerSpec::Sgd { momentum: 0.9 };
    let spec = TrainingSpec { optimizer, batch_size: 8, ..spec() };
    let views = views(&spec);
    let start = any_weights(graph, seed);
    let request = TrainRequest {
        start: Checkpoint::fresh(start.clone()),
        learning_rate: 1e-3,
        ..request(graph, &data, &views, &spec)
    };
    let plain = run(request.clone()).unwrap();
    let nudged = [1, 2].map(|salt| {
        let start = Checkpoint::fresh(nudged(&start, salt));
        run(TrainRequest { start, ..request.clone() }).unwrap()
    });
    let padded = train_padded(multiple, 16, request).unwrap();
    for (epoch, (padded, plain)) in padded.losses.iter().zip(&plain.losses).enumerate() {
        let apart = nudged.iter().map(|other| (other.losses[epoch] - plain).abs());
        let near = 1e-4 * plain.abs().max(1.0) + 100.0 * apart.fold(0.0, f64::max);
        prop_assert!((padded - plain).abs() < near, "{padded} {plain} {near}");
    }
    let weights: fn(&Trained) -> &Moments = |trained| &trained.weights.arrays;
    let moments: fn(&Trained) -> &Moments = |trained| &trained.moments;
    for of in [weights, moments] {
        let (padded, plain) = (of(&padded), of(&plain));
        prop_assert_eq!(padded.len(), plain.len());
        for (name, plain) in plain {
            prop_assert_eq!(&padded[name].shape, &plain.shape);
            // The difference is much smaller than the change in training; moments start at zero.
            let moved = match start.arrays.get(name) {
                Some(start) => distance(plain, start),
                None => plain.data.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt(),
            };
            let apart = distance(&padded[name], plain);
            let amplified = nudged.iter().map(|other| distance(&of(other)[name], plain));
            let near = 0.03 * moved + 1e-5 + 100.0 * amplified.fold(0.0, f64::max);
            prop_assert!(apart <= near, "{name}: {apart} of {moved}, more than {near}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A rounding may also put a value on the other side of a ReLU's kink, which changes a gradient
    /// by more than any rounding. That is rare and goes with the weights, while a fault of padding
    /// goes with the graph. So where a graph trains differently, it must do so from other weights
    /// too.
    #[test]
    fn a_padded_network_trains_as_the_plain_one(graph in arbitrary_graph(), seed: u64, multiple in 2u32..9) {
        if trains_alike(&graph, seed, multiple).is_err() {
            trains_alike(&graph, seed.wrapping_add(1), multiple)?;
            trains_alike(&graph, seed.wrapping_add(2), multiple)?;
        }
    }

    #[test]
    fn padded_channels_stay_zero(graph in arbitrary_graph(), seed: u64, multiple in 2u32..9, sgd: bool) {
        let data = images(&graph);
        let optimizer =
            if sgd { OptimizerSpec::Sgd { momentum: 0.9 } } else { OptimizerSpec::AdamW };
        let spec = TrainingSpec { optimizer, batch_size: 8, weight_decay: 0.1, ..spec() };
        let views = views(&spec);
        // Trains the padded network as a network without padding.
        let padding = Padding::new(&graph, multiple);
        let start = Checkpoint::fresh(padding.pad(any_weights(&graph, seed)));
        let trained = run(TrainRequest { start, ..request(padding.graph(), &data, &views, &spec) });
        let Trained { weights, moments, .. } = trained.unwrap();
        // Cropping gives the sizes of the plain network, and padding puts zeros back.
        let cropped = padding.crop(weights.clone());
        prop_assert_eq!(cropped.check(&graph), Ok(()));
        prop_assert_eq!(padding.pad(cropped), weights);
        let cropped = padding.crop_moments(moments.clone());
        prop_assert_eq!(padding.pad_moments(cropped), Ok(moments));
    }

    /// On the path through burn's operations, which other devices use.
    #[test]
    fn padded_channels_have_no_gradients_in_burns_operations(
        graph in arbitrary_graph(),
        seed: u64,
        multiple in 2u32..9,
    ) {
        let padding = Padding::new(&graph, multiple);
        let device = Device::flex().autodiff();
        let network = Network::new(padding.graph(), &padding.pad(any_weights(&graph, seed)), &device);
        let shape = sizes(&graph, 3);
        let pixels = noise(shape.iter().product(), 7);
        let logits = network.forward_on(Tensor::from_data(TensorData::new(pixels, shape), &device), false);
        let labels = [0, 1, 0];
        let targets = Targets { labels: &labels, label_smoothing: 0.1, teacher: None };
        let (_, gradients) = backward(&network, logits, &targets, (1.0, None), 16);
        let gradients = network.gradients(&gradients);
        prop_assert_eq!(padding.pad(padding.crop(gradients.clone())), gradients);
    }
}

/// Added channels change no output, and get no gradients, in networks of every operation.
#[test]
fn padding_does_not_show_in_networks_of_every_operation() {
    let device = Device::flex().autodiff();
    let mut grown = 0;
    // Among many operations, some let nothing stay zero.
    for seed in 0..2000 {
        let graph = random_graph(seed, 3 + seed as usize % 6);
        let padding = Padding::new(&graph, 4);
        if *padding.graph() == graph {
            continue;
        }
        grown += 1;
        let weights = any_weights(&graph, seed);
        let shape = sizes(&graph, 3);
        let batch = TensorData::new(noise(shape.iter().product(), 7), shape);
        for fast in [false, true] {
            let output = |graph: &Graph, weights: &Weights| {
                let network = Network::new(graph, weights, &device);
                let batch = Tensor::from_data(batch.clone(), &device);
                let output = network.forward_on(batch, fast);
                (network, output)
            };
            let numbers = |output: &Tensor<2>| {
                output.clone().inner().into_data().try_into_vec::<f32>().unwrap()
            };
            let (_, plain) = output(&graph, &weights);
            let (network, padded) = output(padding.graph(), &padding.pad(weights.clone()));
            assert_close(&numbers(&padded), &numbers(&plain), 1e-3);
            let gradients = GradientsParams::from_grads(padded.sum().backward(), &network);
            let gradients = network.gradients(&gradients);
            assert_eq!(padding.pad(padding.crop(gradients.clone())), gradients, "{seed}");
        }
    }
    assert!(grown > 10, "{grown}");
}

/// Two convolutions with something between them. The channels of both would be padded.
fn between(middle: impl FnOnce(&mut Net, ValueId) -> ValueId) -> Graph {
    let (mut net, input) = Net::new(2, &[4, 4]);
    let value = net.conv(Conv::dense(3, 1), input, 3, &[3, 3], true).unwrap();
    let value = middle(&mut net, value);
    let value = net.conv(Conv::dense(3, 1), value, 5, &[3, 3], true).unwrap();
    let value = net.op(GlobalAveragePool, &[value]);
    let output = net.linear(value, 2, true);
    net.finish(output)
}

#[test]
fn networks_are_padded_where_the_added_channels_stay_zero() {
    let clip = |low, high| between(|net, x| net.op(Clip { low, high }, &[x]));
    let pool = MaxPool { kernel: [2; 2].into(), axes: [WindowAxis::valid(1); 2].into() };
    let map = |function| between(|net, x| net.map(function, x));
    let pair = |function| between(|net, x| net.op(Binary { function }, &[x, x]));
    let rows = || [1][..].into();
    let with_constant = |shape: &[u32]| {
        between(|net, x| {
            let constant = net.constant(shape);
            net.op(Add, &[x, constant])
        })
    };
    let gated = |squares: bool| {
        between(|net, x| {
            let gate = net.map(Function::Sigmoid, x);
            net.op(Multiply, &[if squares { gate } else { x }, gate])
        })
    };
    let border = |value| {
        let (before, after) = ([0, 1, 0].into(), [0, 0, 1].into());
        between(|net, x| net.op(Pad { before, after, value }, &[x]))
    };
    let mean = AveragePool {
        kernel: [2; 2].into(),
        axes: [WindowAxis::valid(1); 2].into(),
        counted: [(0, 0); 2].into(),
    };
    let axis = ResizeAxis { size: 6, scale: 1.5, coordinates: Coordinates::HalfPixel };
    let larger = Resize { mode: ResizeMode::Linear, axes: [axis; 2].into() };
    let cases = [
        (true, border(0.0)),
        (false, border(0.5)),
        (true, between(|net, x| net.op(mean, &[x]))),
        (true, between(|net, x| net.op(larger, &[x]))),
        (true, between(|net, x| net.op(Gather::slice(2, 1..3), &[x]))),
        (true, between(|net, x| net.op(Transpose { order: [0, 2, 1].into() }, &[x]))),
        (true, between(|net, x| net.op(Reshape { sizes: [3, 2, 8].into() }, &[x]))),
        (
            true,
            between(|net, x| {
                let axes = [TransposedAxis::valid(2); 2];
                let conv = ConvTranspose { axes: axes.into(), groups: Groups::Equal(1) };
                net.conv_transpose(conv, x, 3, &[2, 2], true)
            }),
        ),
        (true, between(|net, x| net.normalize(x))),
        (true, map(Function::HardSwish)),
        (true, map(Function::Gelu)),
        (true, map(Function::Silu)),
        (true, map(Function::Power { exponent: 2.0 })),
        (true, map(Function::Scale { factor: 2.0, offset: 0.0 })),
        (false, map(Function::Scale { factor: 2.0, offset: 0.5 })),
        (false, map(Function::HardSigmoid { slope: 0.2, offset: 0.5 })),
        (false, map(Function::Exponential)),
        (false, map(Function::Softplus)),
        (true, between(|net, x| net.prelu(x))),
        (
            true,
            between(|net, x| net.op(Reduce { function: ReduceFunction::L2, axes: rows() }, &[x])),
        ),
        (false, between(|net, x| net.op(Softmax { axis: 2, log: false }, &[x]))),
        (false, between(|net, x| net.normalize_layer(&[1, 2], x))),
        (true, pair(BinaryFunction::Maximum)),
        (true, pair(BinaryFunction::Less)),
        (false, pair(BinaryFunction::LessOrEqual)),
        (true, between(|net, x| net.op(Select, &[x, x, x]))),
        (true, with_constant(&[3])),
        // One picture is added to all channels, also to those that are not there.
        (false, with_constant(&[1, 4, 4])),
        (true, between(|net, x| net.op(LeakyRelu { slope: 0.1 }, &[x]))),
        (true, between(|net, x| net.op(pool, &[x]))),
        (true, clip(0.0, 6.0)),
        (true, clip(-1.0, 0.0)),
        (false, clip(0.5, 1.0)),
        (false, clip(-2.0, -1.0)),
        (false, between(|net, x| net.map(Function::Sigmoid, x))),
        (true, gated(false)),
        (false, gated(true)),
        (
            false,
            between(|net, x| {
                let gate = net.map(Function::Sigmoid, x);
                net.normalize(gate)
            }),
        ),
    ];
    let device = Device::flex().autodiff();
    for (place, (stays_zero, graph)) in cases.into_iter().enumerate() {
        let padded = Padding::with(&graph, graph.padded(4));
        assert_ne!(*padded.graph(), graph);
        let weights = padded.pad(any_weights(&graph, 3));
        let network = Network::new(padded.graph(), &weights, &device);
        let shape = sizes(&graph, 3);
        let batch = TensorData::new(noise(shape.iter().product(), 7), shape);
        let output = network.forward(Tensor::from_data(batch, &device));
        let gradients = GradientsParams::from_grads(output.sum().backward(), &network);
        let zero = [network.gradients(&gradients), network.weights()]
            .into_iter()
            .all(|arrays| padded.pad(padded.crop(arrays.clone())) == arrays);
        assert_eq!(zero, stays_zero, "case {place}");
        let is_padded = *Padding::new(&graph, 4).graph() != graph;
        assert_eq!(is_padded, stays_zero, "case {place}");
    }
}

#[test]
fn padded_trainings_continue_from_their_checkpoints() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let request = request(&graph, &data, &views, &spec);
    let padding = Padding::new(&graph, 4);
    let cropped = padding.crop(fresh_weights(padding.graph(), [1; 32]));
    assert!(cropped.arrays["stem.weight"].data.len() < padding.padded_size("stem.weight"));
    let whole = train_padded(4, 1, request.clone()).unwrap();
    let first = train_padded(4, 1, TrainRequest { until: 1, ..request.clone() }).unwrap();
    let Trained { weights, moments, images_seen, .. } = first;
    let start = Checkpoint { weights, moments, epochs: 1, images_seen, seconds: 0.0 };
    let second = train_padded(4, 1, TrainRequest { start: start.clone(), ..request.clone() });
    let second = second.unwrap();
    assert_eq!(second.weights, whole.weights);
    assert_eq!(second.moments, whole.moments);
    // A checkpoint belongs to a network, not to a device.
    assert!(run(TrainRequest { start: start.clone(), ..request.clone() }).is_ok());

    // Moments with the padded sizes belong to another network.
    let mut larger = start;
    let values = padding.padded_size("stem.weight");
    let moment = Array { shape: vec![values], data: vec![0.0; values] };
    larger.moments.insert("moment_1/stem.weight".to_owned(), moment);
    let error = train_padded(4, 1, TrainRequest { start: larger, ..request }).unwrap_err();
    assert!(error.to_string().contains("moment_1/stem.weight"), "{error}");
}
