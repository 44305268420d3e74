//! Tests of trainings that copy features of a teacher.

use edgesmith_graph::{
    Binary, BinaryFunction, Constant, Conv, Evaluator, Flatten, GlobalAveragePool, GraphBuilder,
    Linear, Place, Role, Shape,
};
use edgesmith_search_space::Features;

use super::*;
use crate::backward::of_features;
use crate::features::{Copied, Taught, attention, relations, stage_ends, taught};
use crate::hints::Regressor;

const KINDS: [Features; 3] = [Features::Attention, Features::Relations, Features::Hints];

fn settings(features: Features, weight: impl Into<Scheduled>) -> Distillation {
    let feature_weight = weight.into();
    Distillation { features, feature_weight, ..Distillation::of_answers(0.5, 2.0) }
}

/// What a teacher of random weights says about the colours.
fn lesson(graph: &Graph, data: &Dataset, views: &Views, seed: u64) -> SoftTargets {
    let weights = random_weights(graph, seed);
    let lesson = Lesson {
        graph,
        weights: &weights,
        normalization: &data.normalization,
        train: &data.train,
        views,
        features: &KINDS,
        epochs: 2,
        at_once: 16,
        device: TrainDevice::Flex,
        cores: one_core(),
    };
    soft_targets(lesson, &mut || ControlFlow::Continue(())).unwrap()
}

#[test]
fn a_teachers_features_are_those_of_the_plain_loops() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let soft = lesson(&graph, &data, &views, 5);
    let features = soft.features.as_ref().unwrap();
    // Resolution 6, and strides of 1, 2 and 2.
    assert_eq!(features.maps, [[6, 6], [3, 3], [2, 2]]);
    let weights = random_weights(&graph, 5);
    let image: Vec<f64> = {
        let side = 6 * 6;
        let Normalization { mean, std } = &data.normalization;
        let native = data.train.resized(6);
        let bytes = native.image(11).iter().enumerate();
        let normalized =
            bytes.map(|(at, byte)| (f32::from(*byte) / 255.0 - mean[at / side]) / std[at / side]);
        normalized.map(f64::from).collect()
    };
    let values = Evaluator::<f64>::new(&graph, &weights).run(vec![image]);
    let row = soft.features_of(0, 11).unwrap();
    let (mut start, mut expected) = (0, Vec::new());
    for end in stage_ends(&graph) {
        let positions = graph.shape(end).positions() as usize;
        let mut map = vec![0.0; positions];
        for channel in values[end.index()].chunks(positions) {
            map.iter_mut().zip(channel).for_each(|(sum, x)| *sum += x * x);
        }
        let length = map.iter().map(|q| q * q).sum::<f64>().sqrt();
        expected.extend(map.iter().map(|q| q / length));
        start += positions;
    }
    let read = graph.node(edgesmith_search_space::last_layer(&graph).unwrap()).inputs[0];
    expected.extend(&values[read.index()]);
    let before = expected.len();
    assert_eq!(features.width, before - start);
    // The stage in the middle, in units of the root mean square over all images.
    let hint = &values[stage_ends(&graph)[1].index()];
    assert_eq!(features.hint.unwrap()[1..], [3, 3]);
    let all: Vec<f64> = features
        .numbers
        .chunks(row.len())
        .flat_map(|row| row[before..].iter().map(|x| f64::from(*x)))
        .collect();
    let square = all.iter().map(|x| x * x).sum::<f64>() / all.len() as f64;
    assert!((square - 1.0).abs() < 1e-4, "{square}");
    let length = |all: &mut dyn Iterator<Item = f64>| all.map(|x| x * x).sum::<f64>().sqrt();
    let scale = length(&mut row[before..].iter().map(|x| f64::from(*x)))
        / length(&mut hint.iter().copied());
    expected.extend(hint.iter().map(|x| x * scale));
    assert_eq!(row.len(), expected.len());
    for (a, b) in row.iter().zip(&expected) {
        assert!((f64::from(*a) - b).abs() < 1e-3 * b.abs().max(1.0), "{a} {b}");
    }
}

#[test]
fn gradients_of_features_equal_the_slopes_of_their_losses() {
    let graph = tiny_graph();
    let weights = random_weights(&graph, 8);
    let device = Device::flex().autodiff();
    let batch = 6;
    let images = noise(batch * graph.input().elements() as usize, 5);
    let (maps, hint) = (vec![[3, 3], [2, 2]], Some([4, 3, 3]));
    let targets = FeatureTargets { maps, width: 5, hint, numbers: Vec::new() };
    let rows: Vec<f32> = noise(batch * targets.row(), 6).into_iter().map(f32::abs).collect();
    for kind in KINDS {
        let copied = Copied::of(&graph, kind, &targets).unwrap();
        let wanted: Vec<_> = copied.values.iter().map(|(id, _)| *id).collect();
        let channels = graph.shape(wanted[0]).channels() as usize;
        let regressor = Regressor::new(channels, 4, [3; 32]);
        let forward = |weights: &Weights| {
            let network = Network::new(&graph, weights, &device);
            let images =
                Tensor::from_data(TensorData::new(images.clone(), [batch, 3, 6, 6]), &device);
            let (_, values) = network.forward_with(images, &wanted);
            (network, values)
        };
        let value = |weights: &Weights| {
            let values = forward(weights).1.into_iter().zip(&copied.values);
            let of = |(value, (_, part)): (Tensor<4>, &(_, std::ops::Range<usize>))| {
                let wanted: Vec<f32> = rows
                    .chunks(targets.row())
                    .flat_map(|row| row[part.clone()].iter().copied())
                    .collect();
                let [_, channels, rows, columns] = value.dims();
                let numbers = value.into_data().try_into_vec::<f32>().unwrap();
                match kind {
                    Features::Relations => return relations(&numbers, &wanted, batch).0,
                    Features::Hints => {
                        let size = (batch, rows * columns);
                        return regressor.clone().loss(&numbers, &wanted, size, 1.0).0;
                    }
                    Features::Attention | Features::None => {}
                }
                let mut maps = vec![0.0; batch * rows * columns];
                for (place, x) in numbers.iter().enumerate() {
                    let image = place / (channels * rows * columns);
                    maps[image * rows * columns + place % (rows * columns)] += x * x;
                }
                attention(&maps, &wanted, rows * columns).0
            };
            3.0 * values.map(of).sum::<f64>()
        };
        let (network, values) = forward(&weights);
        let besides =
            of_features(&copied, values, &rows, 3.0, Some(&mut regressor.clone())).unwrap();
        assert!((besides.loss - value(&weights)).abs() < 1e-5 * besides.loss.max(1.0));
        let gradients = besides.gradient.backward();
        let gradients =
            network.gradients(&burn::optim::GradientsParams::from_grads(gradients, &network));
        let (mut error, mut size, mut compared, mut all) = (0.0, 0.0, 0, 0);
        for (name, array) in &gradients.arrays {
            for (i, gradient) in array.data.iter().enumerate() {
                let slope = |step: f32| {
                    let mut moved = weights.clone();
                    let at = moved.arrays[name].data[i];
                    moved.arrays.get_mut(name).unwrap().data[i] = at + step;
                    let high = value(&moved);
                    moved.arrays.get_mut(name).unwrap().data[i] = at - step;
                    (high - value(&moved)) / f64::from(2.0 * step)
                };
                all += 1;
                // If the kink of a ReLU lies within the step, the slopes differ.
                let (coarse, fine) = (slope(8e-4), slope(4e-4));
                if (coarse - fine).abs() < 1e-3 + 0.02 * fine.abs() {
                    error += (fine - f64::from(*gradient)).powi(2);
                    size += fine.powi(2);
                    compared += 1;
                }
            }
        }
        let (error, size) = (f64::sqrt(error), f64::sqrt(size));
        assert!(size > 0.01 && error < 0.03 * size + 3e-3, "{kind}: off by {error} of {size}");
        assert!(compared * 3 > all, "{kind}: {compared} of {all} compared");
    }
}

#[test]
fn a_student_comes_nearer_to_the_features_that_it_copies() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let soft = lesson(&graph, &data, &views, 5);
    let train = |distillation: Distillation, stop: Option<u32>, at: (usize, u32)| {
        let (steps_ahead, channel_multiple) = at;
        let run = |request| {
            let manner = Manner { steps_ahead, channel_multiple };
            train_in(manner, request, &mut |_| ControlFlow::Continue(())).unwrap()
        };
        let all = TrainRequest {
            distillation: Some((distillation, &soft)),
            epochs: 2,
            until: 2,
            ..request(&graph, &data, &views, &spec)
        };
        let Some(until) = stop else { return run(all) };
        let Trained { weights, moments, images_seen, .. } =
            run(TrainRequest { until, ..all.clone() });
        let start = Checkpoint { weights, moments, epochs: until, images_seen, seconds: 0.0 };
        run(TrainRequest { start, ..all })
    };
    let plain = (1, 1);
    let answers = train(Distillation::of_answers(0.5, 2.0), None, plain);
    for kind in KINDS {
        let copied = train(settings(kind, 5.0), None, plain);
        assert_ne!(copied.weights, answers.weights, "{kind}");
        assert_eq!(copied.losses.len(), 2);
        assert_eq!(train(settings(kind, 5.0), Some(1), plain).weights, copied.weights, "{kind}");
        // A weight that changes is that of each step, wherever the training stops and goes on.
        let weight = |to: f64| Scheduled::Changing { from: 5.0, to, course: Course::Linear };
        assert_eq!(train(settings(kind, weight(5.0)), None, plain).weights, copied.weights);
        let falling = train(settings(kind, weight(0.5)), None, plain).weights;
        assert_ne!(falling, copied.weights, "{kind}");
        assert_eq!(train(settings(kind, weight(0.5)), Some(1), plain).weights, falling, "{kind}");
        // On another device, with padded channels and losses that are read later.
        let padded = train(settings(kind, 5.0), None, (2, 4));
        for (a, b) in padded.losses.iter().zip(&copied.losses) {
            assert!((a - b).abs() < 0.02 * b.abs(), "{kind}: {a} {b}");
        }
    }
}

#[test]
fn features_that_do_not_fit_are_refused_before_the_training() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let soft = lesson(&graph, &data, &views, 5);
    let learn = |kind: Features, soft: &SoftTargets, at_once: u32| {
        let distillation = Some((settings(kind, 1.0), soft));
        run(TrainRequest { distillation, at_once, ..request(&graph, &data, &views, &spec) })
            .map(|_| ())
    };
    let without = SoftTargets { features: None, ..soft.clone() };
    assert_eq!(learn(Features::Relations, &without, u32::MAX), Err(TrainError::NoFeatures));
    let mut other = soft.clone();
    other.features.as_mut().unwrap().maps = vec![[7, 7], [1, 1]];
    other.features.as_mut().unwrap().numbers.clear();
    other.features.as_mut().unwrap().hint = Some([2, 7, 7]);
    let error = learn(Features::Hints, &other, u32::MAX).unwrap_err().to_string();
    assert!(error.contains("6x6, 3x3, 2x2 in the student and 7x7 in the teacher"), "{error}");
    other.features.as_mut().unwrap().hint = None;
    assert_eq!(learn(Features::Hints, &other, u32::MAX), Err(TrainError::NoFeatures));
    let error = learn(Features::Attention, &other, u32::MAX).unwrap_err().to_string();
    assert!(error.contains("6x6, 3x3, 2x2 in the student and 7x7, 1x1 in the teacher"), "{error}");
    let small = without_normalization();
    let unnormalized = TrainRequest {
        distillation: Some((settings(Features::Relations, 1.0), &soft)),
        at_once: 5,
        ..request(&small, &data, &views, &spec)
    };
    assert!(matches!(run(unnormalized).unwrap_err(), TrainError::Parts { at_once: 5, .. }));
    // It answers for the memory.
    let memory = Memory::of(&small, &spec, &data, TrainDevice::Flex);
    let tight = memory.bytes(32, 8);
    assert!(memory.part(32, tight).is_ok());
    let copying = memory.copying(&small, &[Features::Relations]);
    let error = copying.part(32, tight).unwrap_err().to_string();
    assert!(error.contains("batch normalisation or relations need as a whole"), "{error}");
}

/// A network that divides its picture by a constant, and then reads it as a whole or by a
/// convolution. The division stands in a stage of its own size, as in files that normalise.
fn dividing(convolves: bool) -> Graph {
    let mut b = GraphBuilder::new();
    let place = |stage| Place { stage, ..Place::default() };
    let image = b.input("image", Shape::new(3, &[6, 6]).unwrap()).unwrap();
    let by = b.parameter("by", &[1, 1, 1], Role::Constant).unwrap();
    let by = b.node("by.value", Constant, &[], &[by], place(Some(0))).unwrap();
    let divide = Binary { function: BinaryFunction::Divide };
    let picture = b.node("divided", divide, &[image, by], &[], place(Some(0))).unwrap();
    let (read, width) = if convolves {
        let weight = b.parameter("conv.weight", &[4, 3, 3, 3], Role::Weight).unwrap();
        let conv = Conv::dense(3, 2);
        let conv = b.node("conv", conv, &[picture], &[weight], place(Some(1))).unwrap();
        (b.node("pool", GlobalAveragePool, &[conv], &[], place(None)).unwrap(), 4)
    } else {
        (b.node("flat", Flatten, &[picture], &[], place(None)).unwrap(), 3 * 36)
    };
    let weight = b.parameter("fc.weight", &[3, width], Role::Weight).unwrap();
    let classes = b.node("fc", Linear, &[read], &[weight], place(None)).unwrap();
    b.finish(&[classes]).unwrap()
}

#[test]
fn the_picture_itself_is_nothing_to_copy() {
    let (flat, convolution) = (dividing(false), dividing(true));
    for kind in [Features::Attention, Features::Hints] {
        let error = taught(&flat, &[kind]).unwrap_err();
        assert_eq!(error, TrainError::NothingToCopy { features: kind, network: "teacher" });
        let targets =
            FeatureTargets { maps: vec![[6, 6]], width: 0, hint: Some([3, 6, 6]), numbers: vec![] };
        let error = Copied::of(&flat, kind, &targets).unwrap_err();
        assert_eq!(error, TrainError::NothingToCopy { features: kind, network: "student" });
        let said = error.to_string();
        assert!(said.contains(&format!("features = \"{kind}\" compares")), "{said}");
        assert!(said.ends_with("use features = \"relations\", or leave features out"), "{said}");
    }
    assert!(taught(&flat, &[Features::Relations]).unwrap().read.is_some());
    // Where a layer leaves rows and columns, only these count.
    let made = convolution.value_named("conv").unwrap();
    let Taught { ends, hint, .. } =
        taught(&convolution, &[Features::Attention, Features::Hints]).unwrap();
    assert_eq!((ends, hint), (vec![made], Some(made)));
}
