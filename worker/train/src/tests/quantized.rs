//! Trainings with simulated quantization.

use edgesmith_graph::{Affine, Evaluator, Operation as _, Quantization};

use super::*;

/// The quantization of a network from the ranges of its values on a few images, with integers of
/// its weights up to `largest`.
fn annotated(graph: &Graph, weights: &Weights, data: &Dataset, largest: u8) -> Quantization {
    let evaluator = Evaluator::<f32>::new(graph, weights);
    let normalizer = Normalizer::new(&data.normalization);
    let Classifier { side, .. } = Classifier::of(graph).unwrap();
    let mut images = Images::new(&data.train, side);
    let mut ranges = vec![(0.0f32, 0.0f32); graph.values().len()];
    for index in 0..50 {
        let image = normalizer.batch(&mut images, &[index], &Device::flex());
        let values = evaluator.run(vec![image.into_data().try_into_vec().unwrap()]);
        for ((low, high), values) in ranges.iter_mut().zip(&values) {
            *low = values.iter().fold(*low, |low, v| low.min(*v));
            *high = values.iter().fold(*high, |high, v| high.max(*v));
        }
    }
    let mut quantization = Quantization::none(graph);
    let clips = graph.absorbed_clips();
    for ((id, _), (low, high)) in graph.values().zip(ranges) {
        let hidden = graph.producer(id).is_some_and(|id| clips[id.index()].is_some());
        if !hidden {
            quantization.set_value(id, Affine::covering(low, high));
        }
    }
    for (_, node) in graph.nodes().filter(|(_, node)| node.op.absorbs_factors()) {
        let weight = node.parameters[0];
        let numbers = &weights.of(graph, weight).data;
        let rows = graph.parameter(weight).shape[0] as usize;
        let scale = |row: &[f32]| {
            let most = row.iter().fold(1e-6f32, |most, w| most.max(w.abs()));
            f64::from(most) / f64::from(largest)
        };
        let scales = numbers.chunks_exact(numbers.len() / rows).map(scale).collect();
        quantization.set_parameter(weight, scales);
        quantization.set_largest(weight, largest);
    }
    quantization
}

/// Convolutions with an addition, for images with so many channels and classes.
fn residual(channels: u32, side: u32, classes: u32) -> Graph {
    let (mut net, input) = Net::new(channels, &[side, side]);
    let conv = |net: &mut Net, x, filters| {
        let y = net.conv(Conv::dense(3, 1), x, filters, &[3, 3], true).unwrap();
        net.op(edgesmith_graph::Clip::RELU, &[y])
    };
    let stem = conv(&mut net, input, 6);
    let first = conv(&mut net, stem, 6);
    let second = net.conv(Conv::dense(3, 1), first, 6, &[3, 3], true).unwrap();
    let sum = net.op(edgesmith_graph::Add, &[stem, second]);
    let last = conv(&mut net, sum, 8);
    let pooled = net.op(GlobalAveragePool, &[last]);
    let output = net.linear(pooled, classes, true);
    net.finish(output)
}

/// Share of the images of `set` that a network with rounded values and weights gets right.
fn rounded_accuracy(
    graph: &Graph,
    weights: &Weights,
    quantization: &Quantization,
    set: &ImageSet,
    data: &Dataset,
) -> f64 {
    let network = Network::quantized(graph, weights, quantization, &Device::flex());
    let Classifier { side, classes, .. } = Classifier::of(graph).unwrap();
    let images = &mut Images::new(set, side);
    let go_on = &mut || ControlFlow::Continue(());
    let all =
        logits::logits(&network, images, &data.normalization, usize::MAX, TrainDevice::Flex, go_on);
    let all = all.unwrap();
    let highest = |row: &[f32]| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let rows = all.chunks_exact(classes).zip(&set.labels);
    let right = rows.filter(|(row, label)| highest(row) == usize::from(**label)).count();
    right as f64 / set.len() as f64
}

#[test]
fn results_do_not_depend_on_the_number_of_cores_or_on_stops() {
    let (data, graph) = (colours(), residual(3, 6, 3));
    let start = fresh_weights(&graph, [1; 32]);
    let quantization = annotated(&graph, &start, &data, 127);
    let sgd = OptimizerSpec::Sgd { momentum: 0.9 };
    for optimizer in [OptimizerSpec::AdamW, sgd] {
        let spec = TrainingSpec { optimizer, ..spec() };
        let views = views(&spec);
        let whole = TrainRequest {
            quantization: Some(&quantization),
            epochs: 5,
            until: 5,
            ..request(&graph, &data, &views, &spec)
        };
        let through = run(whole.clone()).unwrap();
        let cores = &Cores::new(3.try_into().unwrap()).unwrap();
        assert_eq!(run(TrainRequest { cores, ..whole.clone() }).unwrap(), through);
        let mut at = whole.start.clone();
        let mut last = None;
        for until in [2, 3, 5] {
            let start = Checkpoint::from_bytes(&at.to_bytes()).unwrap();
            let part = run(TrainRequest { start, until, ..whole.clone() }).unwrap();
            last = part.quantization;
            let (weights, moments, images_seen) = (part.weights, part.moments, part.images_seen);
            at = Checkpoint { weights, moments, epochs: until, images_seen, seconds: 0.0 };
        }
        assert_eq!((at.weights, at.moments), (through.weights, through.moments));
        assert_eq!(last, through.quantization);
        let learned = through.quantization.unwrap();
        assert_ne!(learned, quantization, "the scales learn");
        // The input's scale and all zero points stay.
        for (id, _) in graph.values() {
            let [before, after] = [&quantization, &learned].map(|all| all.value(id));
            let stays = before.is_none_or(|b| after.is_some_and(|a| a.zero_point == b.zero_point));
            assert!(stays, "{before:?} {after:?}");
        }
        let input = graph.inputs().next().unwrap();
        assert_eq!(learned.value(input), quantization.value(input));
    }
}

#[test]
fn rows_that_share_a_scale_go_on_sharing_it() {
    let (data, graph, spec) = (colours(), residual(3, 6, 3), spec());
    let views = views(&spec);
    let start = fresh_weights(&graph, [1; 32]);
    let mut quantization = annotated(&graph, &start, &data, 127);
    let layers: Vec<_> = graph.nodes().filter(|(_, node)| node.op.absorbs_factors()).collect();
    let shared = layers[1].1.parameters[0];
    let scales = quantization.parameter(shared).unwrap();
    let widest = scales.iter().copied().fold(0.0, f64::max);
    let rows = scales.len();
    quantization.set_parameter(shared, vec![widest; rows]);
    let whole =
        TrainRequest { quantization: Some(&quantization), ..request(&graph, &data, &views, &spec) };
    let learned = run(whole).unwrap().quantization.unwrap();
    let scales = learned.parameter(shared).unwrap();
    assert!(scales.len() == rows && scales.iter().all(|scale| *scale == scales[0]), "{scales:?}");
    assert_ne!(scales[0], widest);
    let own = learned.parameter(layers[0].1.parameters[0]).unwrap();
    assert!(own.iter().any(|scale| *scale != own[0]), "{own:?}");
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let (data, graph, spec) = (colours(), residual(3, 6, 3), spec());
    let views = views(&spec);
    let start = fresh_weights(&graph, [1; 32]);
    let quantization = annotated(&graph, &start, &data, 127);
    let whole =
        TrainRequest { quantization: Some(&quantization), ..request(&graph, &data, &views, &spec) };
    // A checkpoint of a training without quantization has no scales.
    let plain = run(TrainRequest { quantization: None, until: 1, ..whole.clone() }).unwrap();
    let Trained { weights, moments, images_seen, .. } = plain;
    let start = Checkpoint { weights, moments, epochs: 1, images_seen, seconds: 0.0 };
    let error = run(TrainRequest { start, ..whole.clone() }).unwrap_err().to_string();
    assert!(error.starts_with("checkpoint does not fit the training: scale/"), "{error}");
    // And the other way round.
    let part = run(TrainRequest { until: 1, ..whole.clone() }).unwrap();
    let Trained { weights, moments, images_seen, .. } = part;
    let start = Checkpoint { weights, moments, epochs: 1, images_seen, seconds: 0.0 };
    let error = run(TrainRequest { quantization: None, start, ..whole }).unwrap_err().to_string();
    assert!(error.contains("@scale") || error.contains("scale/"), "{error}");
}

/// No sum of a channel can overflow the engine's accumulator, and the engine rounds each weight to
/// a level that it had in training.
#[test]
fn what_is_learned_can_be_computed_in_integers() {
    let (data, graph) = (colours(), residual(3, 6, 3));
    let spec = TrainingSpec { optimizer: OptimizerSpec::Sgd { momentum: 0.9 }, ..spec() };
    let views = views(&spec);
    let mut start = fresh_weights(&graph, [1; 32]);
    let mut quantization = annotated(&graph, &start, &data, 127);
    // A bias that is far larger than its weights, and weights far beyond their levels.
    let (_, node) = graph.nodes().next().unwrap();
    let name = |slot: usize| graph.parameter(node.parameters[slot]).name.to_string();
    start.arrays.get_mut(&name(1)).unwrap().data[0] = 100.0;
    start.arrays.get_mut(&name(0)).unwrap().data[..27].fill(1e-7);
    start.arrays.get_mut(&name(0)).unwrap().data[27..54].fill(-9.0);
    let mut scales = quantization.parameter(node.parameters[0]).unwrap().to_vec();
    (scales[0], scales[1]) = (1e-9, 0.01);
    quantization.set_parameter(node.parameters[0], scales);
    let whole = TrainRequest {
        start: Checkpoint::fresh(start),
        quantization: Some(&quantization),
        learning_rate: 1e-9,
        ..request(&graph, &data, &views, &spec)
    };
    let Trained { weights, quantization, .. } = run(whole).unwrap();
    let quantization = quantization.unwrap();
    for (_, node) in graph.nodes().filter(|(_, node)| node.op.absorbs_factors()) {
        let scales = quantization.parameter(node.parameters[0]).unwrap();
        let from = graph.producer(node.inputs[0]);
        let input = f64::from(quantization.value(node.inputs[0]).unwrap().scale);
        let numbers = &weights.of(&graph, node.parameters[0]).data;
        let bias = &weights.of(&graph, node.parameters[1]).data;
        let filters = numbers.chunks_exact(numbers.len() / scales.len());
        for ((filter, &scale), &bias) in filters.zip(scales).zip(bias) {
            let integers = filter.iter().map(|&w| (f64::from(w) / scale).round().abs());
            assert!(integers.clone().all(|w| w <= 127.0), "{from:?}");
            let sum = 255.0 * integers.sum::<f64>() + f64::from(bias).abs() / (input * scale);
            assert!(sum < (1u64 << 31) as f64, "{from:?} {sum}");
        }
    }
    let scales = quantization.parameter(node.parameters[0]).unwrap();
    assert!(scales[0] > 1e-7, "it was widened: {}", scales[0]);
}

/// What it is for. Weights have few levels, so that rounding them after the training costs much.
#[test]
fn training_with_rounding_is_better_than_rounding_after_it() {
    let data = digits();
    let graph = residual(1, 8, 10);
    let spec = spec();
    let views = views(&spec);
    for seed in [1, 2, 3] {
        let whole = TrainRequest {
            start: Checkpoint::fresh(fresh_weights(&graph, [seed; 32])),
            epochs: 6,
            until: 6,
            learning_rate: 5e-3,
            ..request(&graph, &data, &views, &spec)
        };
        let float = run(whole.clone()).unwrap().weights;
        let plain =
            accuracy(&graph, &float, &data.validation, &data.normalization, TrainDevice::Flex);
        // Integers from -2 to 2.
        let quantization = annotated(&graph, &float, &data, 2);
        let after = rounded_accuracy(&graph, &float, &quantization, &data.validation, &data);
        let learned = run(TrainRequest {
            start: Checkpoint::fresh(float),
            quantization: Some(&quantization),
            ..whole
        })
        .unwrap();
        let with = &learned.quantization.unwrap();
        let with = rounded_accuracy(&graph, &learned.weights, with, &data.validation, &data);
        println!("seed {seed}: {plain} without rounding, {after} rounded, {with} trained");
        assert!(with > after + 0.2 && with > plain - 0.1, "{plain} {after} {with}");
    }
}

#[test]
fn a_rounded_student_learns_from_its_teacher_alone() {
    let data = digits();
    let graph = residual(1, 8, 10);
    let spec = spec();
    let views = views(&spec);
    let whole = TrainRequest {
        start: Checkpoint::fresh(fresh_weights(&graph, [1; 32])),
        epochs: 6,
        until: 6,
        learning_rate: 5e-3,
        ..request(&graph, &data, &views, &spec)
    };
    let teacher = run(whole.clone()).unwrap().weights;
    let lesson = Lesson {
        features: &[],
        at_once: u32::MAX,
        graph: &graph,
        weights: &teacher,
        normalization: &data.normalization,
        train: &data.train,
        views: &views,
        epochs: 2,
        device: TrainDevice::Flex,
        cores: one_core(),
    };
    let soft = soft_targets(lesson, &mut || ControlFlow::Continue(())).unwrap();
    // With alpha 1, labels do not count.
    let mut unlabelled = data.clone();
    unlabelled.train.labels.fill(0);
    let soft = SoftTargets { data: unlabelled.train.hash(), ..soft };
    let quantization = annotated(&graph, &teacher, &data, 2);
    let student = run(TrainRequest {
        start: Checkpoint::fresh(teacher.clone()),
        dataset: &unlabelled,
        distillation: Some((Distillation::of_answers(1.0, 2.0), &soft)),
        quantization: Some(&quantization),
        ..whole
    })
    .unwrap();
    let right = |weights: &Weights, quantization: &Quantization| {
        rounded_accuracy(&graph, weights, quantization, &data.validation, &data)
    };
    let (before, after) = (
        right(&teacher, &quantization),
        right(&student.weights, student.quantization.as_ref().unwrap()),
    );
    assert!(after > before + 0.2 && after > 0.75, "{before} {after}");
}

#[test]
fn parts_of_a_batch_have_its_gradients_together() {
    let (data, graph) = (colours(), residual(3, 6, 3));
    let spec = TrainingSpec { optimizer: OptimizerSpec::Sgd { momentum: 0.0 }, ..spec() };
    let views = views(&spec);
    let start = fresh_weights(&graph, [1; 32]);
    let quantization = annotated(&graph, &start, &data, 127);
    // One step, because a rounding may decide about a level, and so about the steps that follow.
    let spec = TrainingSpec { batch_size: 70, ..spec };
    let trained = |at_once: u32| {
        let whole = request(&graph, &data, &views, &spec);
        let quantization = Some(&quantization);
        run(TrainRequest { at_once, quantization, epochs: 1, until: 1, ..whole }).unwrap()
    };
    let whole = trained(70);
    for at_once in [1, 9] {
        let parts = trained(at_once);
        assert_near(&parts, &whole, 1e-4, 0.1);
        let scales = |trained: &Trained| -> Vec<f32> {
            let scales = trained.moments.iter().filter(|(name, _)| name.starts_with("scale/"));
            scales.flat_map(|(_, array)| array.data.clone()).collect()
        };
        for (parts, whole) in scales(&parts).iter().zip(&scales(&whole)) {
            assert!((parts / whole - 1.0).abs() < 1e-3, "{parts} {whole}");
        }
    }
}

#[test]
fn weights_that_went_stay_zero_with_rounding() {
    let (data, graph) = (colours(), residual(3, 6, 3));
    let masks = masks(&graph);
    let mut start = fresh_weights(&graph, [1; 32]);
    mask(&mut start, Some(&masks));
    let quantization = annotated(&graph, &start, &data, 127);
    for optimizer in [OptimizerSpec::AdamW, OptimizerSpec::Sgd { momentum: 0.9 }] {
        let spec = TrainingSpec { optimizer, weight_decay: 0.1, ..spec() };
        let views = views(&spec);
        let trained = run(TrainRequest {
            start: Checkpoint::fresh(start.clone()),
            quantization: Some(&quantization),
            kept: Some(&masks),
            ..request(&graph, &data, &views, &spec)
        })
        .unwrap();
        assert_masked(&trained.weights, &masks);
        assert_ne!(trained.weights, start);
    }
}
