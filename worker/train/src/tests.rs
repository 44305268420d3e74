//! Whole trainings, on the digits and on a few random images.

use std::iter;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use burn::tensor::{Device, Tensor, TensorData};
use edgesmith_common::Seed;
use edgesmith_common::spec::{Augmentation, DataSource, DataSpec, OptimizerSpec};
use edgesmith_graph::{Conv, GlobalAveragePool, Graph, Parameter, Role};
use edgesmith_search_space::{Answers, Course, Operation, Scheduled};

use super::*;
use crate::network::{Net, fresh_weights, picture};
use edgesmith_data::{ImageSet, Normalization, Origin};
use edgesmith_testing::{
    DIGITS, conv_graph, noise, random_weights, residual_graph, stage, tiny_graph,
};

mod ahead;
mod features;
mod memory;
mod padding;
mod quantized;
mod shaping;
#[cfg(feature = "wgpu")]
mod wgpu;

#[cfg(feature = "wgpu")]
pub(crate) use wgpu::wgpu;

fn spec() -> TrainingSpec {
    TrainingSpec {
        epochs: 1,
        fine_tune_epochs: 1,
        inherit_epochs: 0,
        batch_size: 32,
        optimizer: OptimizerSpec::AdamW,
        learning_rate: 0.0,
        fine_tune_learning_rate: 0.0,
        warmup_fraction: 0.1,
        weight_decay: 0.01,
        label_smoothing: 0.1,
        augmentation: Augmentation { shift: 1, flip: false, views: 2 },
    }
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

/// 70 colour images of 6x6 in three classes.
fn colours() -> Dataset {
    let set = |seed: u8, count: usize| ImageSet {
        channels: 3,
        height: 6,
        width: 6,
        pixels: noise(count * 108, seed).iter().map(|v| (v * 127.0 + 128.0) as u8).collect(),
        labels: (0..count).map(|i| (i % 3) as u16).collect(),
    };
    let train = set(1, 70);
    let normalization = Normalization::of(&train);
    let origin = Origin::whole(train.len());
    Dataset { train, validation: set(2, 6), test: set(3, 6), classes: 3, normalization, origin }
}

fn request<'a>(
    graph: &'a Graph,
    dataset: &'a Dataset,
    views: &'a Views,
    spec: &'a TrainingSpec,
) -> TrainRequest<'a> {
    TrainRequest {
        graph,
        start: Checkpoint::fresh(fresh_weights(graph, [1; 32])),
        dataset,
        views,
        spec,
        epochs: 2,
        until: 2,
        learning_rate: 1e-2,
        skipped: 0,
        shrink: (Shrink::None, 0.0),
        ties: false,
        first: None,
        keeps_statistics: false,
        at_once: u32::MAX,
        shuffle_seed: [2; 32],
        distillation: None,
        quantization: None,
        kept: None,
        device: TrainDevice::Flex,
        cores: one_core(),
    }
}

/// Sizes of a batch of `count` inputs of a network.
pub(crate) fn sizes(graph: &Graph, count: usize) -> [usize; 4] {
    let [channels, rows, columns] = picture(graph.input());
    [count, channels, rows, columns]
}

fn one_core() -> &'static Cores {
    static ONE: LazyLock<Cores> = LazyLock::new(Cores::one);
    &ONE
}

fn views(spec: &TrainingSpec) -> Views {
    Views::new(&spec.augmentation, Seed(3))
}

fn run(request: TrainRequest) -> Result<Trained, TrainError> {
    train(request, &mut |_| ControlFlow::Continue(()))
}

/// Share of the images of `set` that get their label, `0..=1`.
fn accuracy(
    graph: &Graph,
    weights: &Weights,
    set: &ImageSet,
    normalization: &Normalization,
    device: TrainDevice,
) -> f64 {
    let network = Network::new(graph, weights, &device.device());
    let Classifier { side, classes, .. } = Classifier::of(graph).unwrap();
    let (images, go_on) = (&mut Images::new(set, side), &mut || ControlFlow::Continue(()));
    let logits =
        logits::logits(&network, images, normalization, usize::MAX, device, go_on).unwrap();
    let highest = |row: &[f32]| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let rows = logits.chunks_exact(classes).zip(&set.labels);
    let right = rows.filter(|(row, label)| highest(row) == usize::from(**label)).count();
    right as f64 / set.len() as f64
}

#[test]
fn gradients_equal_the_slopes_of_the_loss() {
    let graph = tiny_graph();
    let weights = random_weights(&graph, 8);
    let device = Device::flex().autodiff();
    let batch = 8;
    let images = noise(batch * graph.input().elements() as usize, 5);
    let teacher = noise(batch * 3, 6);
    let soft = Soft { alpha: 0.4, temperature: 3.0, answers: Answers::Classes };
    let targets = Targets {
        labels: &[0, 2, 1, 1, 0, 0, 2, 1],
        label_smoothing: 0.1,
        teacher: Some((soft, &teacher)),
    };
    let forward = |weights: &Weights| {
        let network = Network::new(&graph, weights, &device);
        let images = TensorData::new(images.clone(), [batch, 3, 6, 6]);
        let logits = network.forward(Tensor::from_data(images, &device));
        (network, logits)
    };
    let value = |weights: &Weights| {
        let (_, logits) = forward(weights);
        let logits = logits.into_data().try_into_vec::<f32>().unwrap();
        loss::loss(&logits, &targets).0
    };
    let (network, logits) = forward(&weights);
    let (_, gradients) = backward(&network, logits, &targets, (1.0, None), 1);
    let gradients = network.gradients(&gradients);
    for (name, array) in &gradients.arrays {
        let (mut error, mut size, mut compared) = (0.0, 0.0, 0);
        for (i, gradient) in array.data.iter().enumerate() {
            let slope = |step: f32| {
                let mut moved = weights.clone();
                let at = moved.arrays[name].data[i];
                moved.arrays.get_mut(name).unwrap().data[i] = at + step;
                let high = value(&moved);
                moved.arrays.get_mut(name).unwrap().data[i] = at - step;
                (high - value(&moved)) / f64::from(2.0 * step)
            };
            // If the kink of a ReLU lies within the step, the slopes for two step sizes differ.
            let (coarse, fine) = (slope(8e-4), slope(4e-4));
            if (coarse - fine).abs() < 1e-3 + 0.02 * fine.abs() {
                error += (fine - f64::from(*gradient)).powi(2);
                size += fine.powi(2);
                compared += 1;
            }
        }
        let (error, size) = (error.sqrt(), size.sqrt());
        assert!(error < 0.03 * size + 3e-3, "{name}: off by {error} of {size}");
        assert!(compared * 3 > array.data.len(), "{name}: {compared} compared");
    }
}

#[test]
fn results_do_not_depend_on_other_trainings_or_the_number_of_cores() {
    let (spec, data) = (spec(), colours());
    let graph = tiny_graph();
    let views = views(&spec);
    let alone = run(request(&graph, &data, &views, &spec)).unwrap();
    let (again, other) = thread::scope(|scope| {
        let again = scope.spawn(|| run(request(&graph, &data, &views, &spec)).unwrap());
        let other = scope.spawn(|| {
            let shuffle_seed = [9; 32];
            run(TrainRequest { shuffle_seed, ..request(&graph, &data, &views, &spec) }).unwrap()
        });
        (again.join().unwrap(), other.join().unwrap())
    });
    assert_eq!(alone, again);
    let cores = &Cores::new(3.try_into().unwrap()).unwrap();
    let shared = run(TrainRequest { cores, ..request(&graph, &data, &views, &spec) }).unwrap();
    assert_eq!(alone, shared);
    assert_ne!(alone.weights, other.weights, "another order leads to other weights");
    // 70 images in batches of 32: the last batch has 6.
    assert_eq!(alone.images_seen, 140);
    assert_eq!(alone.losses.len(), 2);
}

#[test]
fn a_training_continued_from_files_equals_one_without_a_stop_bit_for_bit() {
    let data = colours();
    let graph = tiny_graph();
    let sgd = OptimizerSpec::Sgd { momentum: 0.9 };
    for optimizer in [OptimizerSpec::AdamW, sgd] {
        let spec = TrainingSpec { optimizer, ..spec() };
        let views = views(&spec);
        let whole = TrainRequest { epochs: 7, until: 7, ..request(&graph, &data, &views, &spec) };
        let through = run(whole.clone()).unwrap();
        let mut at = whole.start.clone();
        let mut losses = Vec::new();
        for until in [1, 3, 7] {
            let start = Checkpoint::from_bytes(&at.to_bytes()).unwrap();
            let part = run(TrainRequest { start, until, ..whole.clone() }).unwrap();
            losses.extend(part.losses);
            let (weights, moments, images_seen) = (part.weights, part.moments, part.images_seen);
            at = Checkpoint { weights, moments, epochs: until, images_seen, seconds: 0.0 };
        }
        assert_eq!(at.weights, through.weights);
        assert_eq!((at.moments, at.images_seen), (through.moments, through.images_seen));
        assert_eq!(losses, through.losses);
        // Without the optimizer's moments the result differs.
        let short = run(TrainRequest { until: 3, ..whole.clone() }).unwrap();
        let start = Checkpoint::fresh(short.weights);
        assert_ne!(run(TrainRequest { start, ..whole }).unwrap().weights, through.weights);
    }
}

#[test]
fn a_training_continues_although_the_output_does_not_need_every_parameter() {
    let (mut net, input) = Net::new(3, &[6, 6]);
    net.conv(Conv::dense(3, 1), input, 4, &[3, 3], true).unwrap();
    let pooled = net.op(GlobalAveragePool, &[input]);
    let output = net.linear(pooled, 3, true);
    let (graph, data, spec) = (net.finish(output), colours(), spec());
    let views = views(&spec);
    let whole = request(&graph, &data, &views, &spec);
    let through = run(whole.clone()).unwrap();
    let first = run(TrainRequest { until: 1, ..whole.clone() }).unwrap();
    let Trained { weights, moments, images_seen, .. } = first;
    let start = Checkpoint { weights, moments, epochs: 1, images_seen, seconds: 0.0 };
    let rest = run(TrainRequest { start, ..whole }).unwrap();
    assert_eq!((rest.weights, rest.moments), (through.weights, through.moments));
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let start = request(&graph, &data, &views, &spec);
    let late = Checkpoint { epochs: 3, ..start.start.clone() };
    let error = run(TrainRequest { start: late, ..start.clone() }).unwrap_err();
    assert!(error.to_string().contains("3 of 2 epochs"), "{error}");
    let forgetful = Checkpoint { epochs: 1, ..start.start.clone() };
    let error = run(TrainRequest { start: forgetful, ..start }).unwrap_err();
    assert!(error.to_string().contains("moment_1/stem.weight"), "{error}");
}

#[test]
fn a_small_network_learns_the_digits_with_both_optimizers() {
    let data = digits();
    let graph = conv_graph();
    let sgd = OptimizerSpec::Sgd { momentum: 0.9 };
    for (optimizer, learning_rate) in [(OptimizerSpec::AdamW, 4e-3), (sgd, 5e-2)] {
        let spec = TrainingSpec { optimizer, ..spec() };
        let views = views(&spec);
        let start = request(&graph, &data, &views, &spec);
        let trained = run(TrainRequest { epochs: 3, until: 3, learning_rate, ..start }).unwrap();
        let accuracy = accuracy(
            &graph,
            &trained.weights,
            &data.validation,
            &data.normalization,
            TrainDevice::Flex,
        );
        assert!(accuracy > 0.9, "{optimizer:?} reached {accuracy}, losses {:?}", trained.losses);
        assert!(trained.losses[2] < trained.losses[0]);
    }
}

#[test]
fn a_student_learns_from_its_teacher_alone() {
    let data = digits();
    let spec = spec();
    let views = views(&spec);
    let teacher_graph = conv_graph();
    let start = request(&teacher_graph, &data, &views, &spec);
    let teacher = run(TrainRequest { epochs: 3, until: 3, learning_rate: 4e-3, ..start }).unwrap();
    let lesson = Lesson {
        at_once: u32::MAX,
        graph: &teacher_graph,
        weights: &teacher.weights,
        normalization: &data.normalization,
        train: &data.train,
        views: &views,
        features: &[],
        epochs: 2,
        device: TrainDevice::Flex,
        cores: one_core(),
    };
    let soft = soft_targets(lesson, &mut || ControlFlow::Continue(())).unwrap();
    assert_eq!((soft.views, soft.images, soft.classes), (Some(2), data.train.len(), 10));

    // The labels are shuffled; with alpha 1 they do not count.
    let mut unlabelled = data.clone();
    unlabelled.train.labels.fill(0);
    let soft = SoftTargets { data: unlabelled.train.hash(), ..soft };
    let graph = residual_graph();
    let all = Distillation::of_answers(1.0, 2.0);
    let start = request(&graph, &unlabelled, &views, &spec);
    let student = run(TrainRequest {
        distillation: Some((all, &soft)),
        epochs: 3,
        until: 3,
        learning_rate: 1e-2,
        ..start
    })
    .unwrap();
    let weights = &student.weights;
    let accuracy =
        accuracy(&graph, weights, &data.validation, &data.normalization, TrainDevice::Flex);
    assert!(accuracy > 0.8, "{accuracy}, losses {:?}", student.losses);
}

#[test]
fn schedules_of_distillation_follow_the_steps_of_the_whole_training() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let (images, classes) = (data.train.len(), 3);
    let logits = noise(2 * images * classes, 9);
    let (hash, views_of) = (data.train.hash(), Some(2));
    let soft = SoftTargets { data: hash, views: views_of, images, classes, logits, features: None };
    let weights = |alpha: Scheduled, temperature: Scheduled, stop: Option<u32>| {
        let distillation = Some((Distillation::of_answers(alpha, temperature), &soft));
        let all = TrainRequest {
            distillation,
            epochs: 4,
            until: 4,
            ..request(&graph, &data, &views, &spec)
        };
        let Some(until) = stop else { return run(all).unwrap().weights };
        let first = run(TrainRequest { until, ..all.clone() }).unwrap();
        let Trained { weights, moments, images_seen, .. } = first;
        let start = Checkpoint { weights, moments, epochs: until, images_seen, seconds: 0.0 };
        run(TrainRequest { start, ..all }).unwrap().weights
    };
    let changing = |from, to, course| Scheduled::Changing { from, to, course };
    let [linear, cosine] = [Course::Linear, Course::Cosine].map(|c| changing(0.9, 0.1, c));
    let cooling = changing(8.0, 1.0, Course::Linear);
    let plain = weights(0.9.into(), 4.0.into(), None);
    let falling = weights(linear, 4.0.into(), None);
    assert_ne!(falling, plain);
    assert_ne!(weights(cosine, 4.0.into(), None), falling);
    let cooled = weights(linear, cooling, None);
    assert_ne!(cooled, falling);
    // Where it stops and goes on makes no difference.
    assert_eq!(weights(linear, cooling, Some(1)), cooled);
    assert_eq!(weights(linear, cooling, Some(3)), cooled);
    // One that does not change is a number.
    let same = weights(changing(0.9, 0.9, Course::Cosine), 4.0.into(), None);
    assert_eq!(same, plain);
}

#[test]
fn a_teacher_of_another_data_set_is_refused() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let learn = |soft: &SoftTargets, epochs: u32| {
        let distillation = Some((Distillation::of_answers(0.5, 2.0), soft));
        let start = request(&graph, &data, &views, &spec);
        run(TrainRequest { distillation, epochs, until: epochs, ..start }).map(|_| ())
    };
    let soft = |views: usize, images: usize, data: &ImageSet| {
        let logits = vec![0.0; views * images * 3];
        let views = Some(views);
        SoftTargets { data: data.hash(), views, images, classes: 3, logits, features: None }
    };
    let expected = [2, 70, 3];
    for given in [[1, 2, 3], [1, 70, 3]] {
        let error = learn(&soft(given[0], given[1], &data.train), 2).unwrap_err();
        assert_eq!(error, TrainError::SoftTargets { given, expected });
    }
    // One epoch uses one view.
    learn(&soft(1, 70, &data.train), 1).unwrap();
    let mut other = data.train.clone();
    other.pixels[0] ^= 1;
    assert_eq!(learn(&soft(2, 70, &other), 2).unwrap_err(), TrainError::OtherImages);
}

#[test]
fn student_and_teacher_see_the_same_view_of_the_same_image() {
    let data = digits();
    let (graph, spec) = (conv_graph(), TrainingSpec { batch_size: 3058, ..spec() });
    let views = Views::new(&Augmentation { shift: 2, flip: true, views: 3 }, Seed(3));
    let side = graph.input().space()[0] as usize;
    let (mut teacher, student) = (random_weights(&graph, 5), random_weights(&graph, 6));
    // Makes the teacher's output differ from view to view.
    let opinion = teacher.arrays.get_mut("classifier.weight").unwrap();
    opinion.data.iter_mut().for_each(|value| *value *= 8.0);
    let device = TrainDevice::Flex;
    let go_on = || ControlFlow::Continue(());
    let (train, norm) = (&data.train, &data.normalization);
    let lesson = Lesson {
        at_once: u32::MAX,
        graph: &graph,
        weights: &teacher,
        normalization: norm,
        train,
        views: &views,
        features: &[],
        epochs: 9,
        device,
        cores: one_core(),
    };
    let soft = soft_targets(lesson, &mut { go_on }).unwrap();
    assert_eq!(soft.views, Some(3));
    let distillation = Distillation::of_answers(1.0, 2.0);
    // With a learning rate of zero, every epoch evaluates the initial student, in one batch
    // of all images.
    let trained = run(TrainRequest {
        start: Checkpoint::fresh(student.clone()),
        distillation: Some((distillation, &soft)),
        epochs: 4,
        until: 4,
        learning_rate: 0.0,
        ..request(&graph, &data, &views, &spec)
    })
    .unwrap();
    let normalizer = Normalizer::new(norm);
    let all: Vec<usize> = (0..train.len()).collect();
    let loss_of = |student_view: u32, teacher_view: u32| {
        let on = |view: u32, device: &Device, weights: &Weights| {
            let images = views.render_all(train, view).resized(side);
            let network = Network::new(&graph, weights, device);
            let mut images = Images::new(&images, side);
            let logits = network.forward(normalizer.batch(&mut images, &all, device));
            logits.into_data().try_into_vec::<f32>().unwrap()
        };
        let rows = on(teacher_view, &device.device(), &teacher);
        let targets = Targets {
            labels: &train.labels,
            label_smoothing: 0.0,
            teacher: Some((
                Soft { alpha: 1.0, temperature: 2.0, answers: Answers::Classes },
                &rows,
            )),
        };
        loss::loss(&on(student_view, &device.device().autodiff(), &student), &targets).0
    };
    for (epoch, loss) in trained.losses.iter().enumerate() {
        let view = epoch as u32 % 3;
        let same = loss_of(view, view);
        assert!((loss - same).abs() < 1e-5 * same, "epoch {epoch}: {loss} against {same}");
        let mixed = loss_of(view, (view + 1) % 3);
        assert!(
            (loss - mixed).abs() > 1e-4 * same,
            "{loss} and {mixed} do not differ between views"
        );
    }
}

#[test]
fn soft_targets_stop_when_the_pause_breaks() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let weights = random_weights(&graph, 5);
    let mut asked = 0;
    let mut pause = || {
        asked += 1;
        if asked == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let lesson = Lesson {
        at_once: u32::MAX,
        graph: &graph,
        weights: &weights,
        normalization: &data.normalization,
        train: &data.train,
        views: &views,
        features: &[],
        epochs: 9,
        device: TrainDevice::Flex,
        cores: one_core(),
    };
    assert_eq!(soft_targets(lesson, &mut pause), Err(TrainError::Stopped));
    assert_eq!(asked, 2);
}

/// Weights with running statistics that no data would have.
fn with_odd_statistics(weights: &Weights) -> Weights {
    let mut odd = weights.clone();
    for (name, array) in &mut odd.arrays {
        if name.ends_with(".mean") || name.ends_with(".variance") {
            array.data.fill(50.0);
        }
    }
    odd
}

#[test]
fn running_statistics_forget_their_initial_values() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let start = random_weights(&graph, 5);
    let trained = |weights: Weights, epochs: u32| {
        let start = Checkpoint::fresh(weights);
        let whole = request(&graph, &data, &views, &spec);
        run(TrainRequest { start, epochs, until: epochs, ..whole }).unwrap().weights
    };
    // Three batches are far too few for a plain moving average to forget.
    assert_eq!(trained(start.clone(), 1), trained(with_odd_statistics(&start), 1));
}

#[test]
fn renewed_statistics_depend_only_on_the_data() {
    let (data, graph) = (colours(), tiny_graph());
    let weights = random_weights(&graph, 5);
    let renew = |weights: &Weights, batch_size: u32| {
        let go_on = &mut || ControlFlow::Continue(());
        renew_statistics((&graph, weights, None), &data, batch_size, TrainDevice::Flex, go_on)
            .unwrap()
    };
    let renewed = renew(&weights, 70);
    assert_eq!(renewed, renew(&with_odd_statistics(&weights), 70));
    assert_ne!(renewed, weights);
    // With all images in one batch, evaluation equals training up to the bias of the variance.
    let all: Vec<usize> = (0..data.train.len()).collect();
    let logits = |device: &Device| {
        let mut images = Images::new(&data.train, graph.input().space()[0] as usize);
        let batch = Normalizer::new(&data.normalization).batch(&mut images, &all, device);
        let network = Network::new(&graph, &renewed, device);
        network.forward(batch).into_data().try_into_vec::<f32>().unwrap()
    };
    for (evaluated, trained) in
        logits(&Device::flex()).iter().zip(logits(&Device::flex().autodiff()))
    {
        let near = 0.01 * trained.abs().max(1.0);
        assert!((evaluated - trained).abs() < near, "{evaluated} against {trained}");
    }
    // Several batches count equally, and only the statistics change.
    let several = renew(&weights, 32);
    for (name, array) in &weights.arrays {
        let statistic = name.ends_with(".mean") || name.ends_with(".variance");
        assert_eq!(several.arrays[name] == *array, !statistic, "{name}");
    }
}

#[test]
fn a_batch_has_no_more_images_than_there_are() {
    let (data, graph) = (colours(), tiny_graph());
    let spec = TrainingSpec { batch_size: 1024, ..spec() };
    let views = views(&spec);
    let trained = |at_once: u32| {
        let request = request(&graph, &data, &views, &spec);
        run(TrainRequest { epochs: 1, until: 1, at_once, ..request })
    };
    let images = data.train.len() as u32;
    assert!(trained(images).is_ok());
    let error = trained(images - 1).unwrap_err();
    assert_eq!(error, TrainError::Parts { at_once: images - 1, batch_size: images });
}

#[test]
fn requests_that_do_not_fit_together_are_refused() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let start = Checkpoint::default();
    let error = run(TrainRequest { start, ..request(&graph, &data, &views, &spec) }).unwrap_err();
    assert!(matches!(error, TrainError::Weights(WeightsError::Missing { .. })));

    let grey = conv_graph();
    let error = run(request(&grey, &data, &views, &spec)).unwrap_err();
    assert!(matches!(error, TrainError::Data { .. }));

    let single = TrainingSpec { batch_size: 1, ..spec.clone() };
    let error = run(request(&graph, &data, &views, &single)).unwrap_err();
    assert_eq!(error, TrainError::TooFewImages { images: 70, batch_size: 1 });
}

#[test]
fn a_last_batch_of_one_image_is_left_out() {
    let (data, graph) = (colours(), tiny_graph());
    let spec = TrainingSpec { batch_size: 23, ..spec() };
    let views = views(&spec);
    let trained = run(request(&graph, &data, &views, &spec)).unwrap();
    assert_eq!(trained.images_seen, 2 * 69);
}

#[test]
fn a_loss_that_is_not_finite_is_an_error() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    for learning_rate in [1e30, f64::INFINITY] {
        let start = request(&graph, &data, &views, &spec);
        let error =
            run(TrainRequest { learning_rate, epochs: 20, until: 20, ..start }).unwrap_err();
        assert!(matches!(error, TrainError::NonFinite { .. }), "{error}");
    }
}

#[test]
fn the_caller_sees_every_step_and_can_stop() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let mut seen = Vec::new();
    let error = train(request(&graph, &data, &views, &spec), &mut |progress| {
        seen.push((progress.epoch, progress.step));
        assert_eq!((progress.epochs, progress.steps), (2, 3));
        if seen.len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(error, Err(TrainError::Stopped));
    assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 0)]);
}

/// A measurement may run while `progress` is called.
#[test]
fn no_batch_is_made_while_progress_is_called() {
    let (spec, data, graph) = (spec(), colours(), tiny_graph());
    let views = views(&spec);
    let request = request(&graph, &data, &views, &spec);
    let making = AtomicBool::new(false);
    let mut batches = batches(&request, 6, 3);
    let slow = iter::from_fn(|| {
        making.store(true, Ordering::SeqCst);
        // Longer than a step of this small network.
        thread::sleep(Duration::from_millis(50));
        let batch = batches.next();
        making.store(false, Ordering::SeqCst);
        batch
    });
    let mut asked = 0;
    thread::scope(|scope| {
        let batches = Prefetch::start(scope, slow);
        let manner = TrainDevice::Flex.manner();
        let trained = take_steps(manner, request, batches, 3, &mut |_| {
            assert!(!making.load(Ordering::SeqCst));
            asked += 1;
            ControlFlow::Continue(())
        });
        trained.unwrap();
    });
    assert_eq!(asked, 6);
}

#[test]
fn images_are_resized_to_the_network() {
    let (spec, data) = (spec(), colours());
    let views = views(&spec);
    let architecture = edgesmith_search_space::Architecture {
        resolution: 4,
        stem_width: 2,
        stages: vec![stage(Operation::Conv, 3, 1, 1)],
    };
    let shape = edgesmith_search_space::DataShape { channels: 3, classes: 3 };
    let graph = architecture.graph(shape).unwrap();
    assert!(run(request(&graph, &data, &views, &spec)).is_ok());
}

#[test]
fn chosen_parameters_learn_alone_in_the_first_epochs() {
    let (graph, data) = (tiny_graph(), colours());
    let spec = spec();
    let views = views(&spec);
    let head = ["classifier.weight", "classifier.bias"].map(str::to_owned);
    let whole = TrainRequest { first: Some((&head, 1)), ..request(&graph, &data, &views, &spec) };
    let learned = |weights: &Weights| -> Vec<String> {
        let start = &whole.start.weights.arrays;
        let observed = [Role::Mean, Role::Variance];
        let trained = graph.parameters().filter(|(_, parameter)| {
            let name = &*parameter.name;
            !observed.contains(&parameter.role) && weights.arrays[name] != start[name]
        });
        trained.map(|(_, parameter)| parameter.name.to_string()).collect()
    };
    let first = run(TrainRequest { until: 1, ..whole.clone() }).unwrap();
    assert_eq!(learned(&first.weights), head);
    let through = run(whole.clone()).unwrap();
    assert!(learned(&through.weights).len() > 10);
    // It may stop and continue in between.
    let Trained { weights, moments, images_seen, .. } = first;
    let start = Checkpoint { weights, moments, epochs: 1, images_seen, seconds: 0.0 };
    let rest = run(TrainRequest { start, ..whole }).unwrap();
    assert_eq!(rest.weights, through.weights);
}

#[test]
fn statistics_of_the_start_count_if_they_are_kept() {
    let (graph, data) = (tiny_graph(), colours());
    // Without learning, only the statistics change.
    let spec = TrainingSpec { optimizer: OptimizerSpec::Sgd { momentum: 0.0 }, ..spec() };
    let views = views(&spec);
    let mut start = fresh_weights(&graph, [1; 32]);
    let mean = "stem.mean".to_owned();
    start.arrays.get_mut(&mean).unwrap().data.fill(100.0);
    let trained = |keeps_statistics| {
        let request = TrainRequest {
            start: Checkpoint::fresh(start.clone()),
            learning_rate: 1e-9,
            keeps_statistics,
            ..request(&graph, &data, &views, &spec)
        };
        run(request).unwrap().weights.arrays[&mean].data[0]
    };
    assert!(trained(true) > 10.0 && trained(false) < 10.0);
}

/// Two convolutions without normalisation, for 6x6 colour images in three classes.
fn without_normalization() -> Graph {
    let (mut net, mut value) = Net::new(3, &[6, 6]);
    for filters in [5, 4] {
        let reads = net.builder.shape(value).channels();
        let weight: &[u32] = &[filters, reads, 3, 3];
        value = net.with(Conv::dense(3, 1), &[value], &[("weight", weight, Role::Weight)]);
        value = net.op(edgesmith_graph::Clip::RELU, &[value]);
    }
    let pooled = net.op(GlobalAveragePool, &[value]);
    let output = net.linear(pooled, 3, true);
    net.finish(output)
}

#[test]
fn parts_of_a_batch_have_its_gradients_together() {
    // SGD, because AdamW amplifies differences in rounding.
    let spec = TrainingSpec { optimizer: OptimizerSpec::Sgd { momentum: 0.9 }, ..spec() };
    let (data, graph, views) = (colours(), without_normalization(), views(&spec));
    let soft = SoftTargets {
        data: data.train.hash(),
        views: Some(2),
        images: 70,
        classes: 3,
        logits: noise(2 * 70 * 3, 9),
        features: None,
    };
    let taught = Some((Distillation::of_answers(0.5, 2.0), &soft));
    for (distillation, steps_ahead) in [(None, 1), (taught, 1), (taught, 2)] {
        let trained = |at_once: u32| {
            let whole = request(&graph, &data, &views, &spec);
            let manner = Manner { steps_ahead, channel_multiple: 1 };
            let request = TrainRequest { at_once, distillation, ..whole };
            train_in(manner, request, &mut |_| ControlFlow::Continue(())).unwrap()
        };
        let whole = trained(32);
        assert_eq!(whole, trained(u32::MAX), "a batch that fits is computed as a whole");
        for at_once in [1, 5, 31] {
            let parts = trained(at_once);
            assert_near(&parts, &whole, 1e-4, 0.1);
        }
    }
}

/// Checks that two trainings of the same steps differ by rounding alone: losses by 1e-4 of
/// themselves, and weights by `tolerance` of the largest one of their parameter, or of `least`.
fn assert_near(got: &Trained, expected: &Trained, tolerance: f32, least: f32) {
    assert_eq!(got.images_seen, expected.images_seen);
    for (got, expected) in got.losses.iter().zip(&expected.losses) {
        assert!((got - expected).abs() < 1e-4 * expected.abs(), "{got} {expected}");
    }
    for (name, array) in &expected.weights.arrays {
        let size = array.data.iter().fold(least, |size, v| size.max(v.abs()));
        for (got, expected) in got.weights.arrays[name].data.iter().zip(&array.data) {
            assert!((got - expected).abs() < tolerance * size, "{name}: {got} {expected}");
        }
    }
}

#[test]
fn a_network_with_batch_normalization_needs_its_batches_as_a_whole() {
    let (data, graph, spec) = (colours(), tiny_graph(), spec());
    let views = views(&spec);
    let request = TrainRequest { at_once: 31, ..request(&graph, &data, &views, &spec) };
    let error = TrainError::Parts { at_once: 31, batch_size: 32 };
    assert_eq!(run(request).unwrap_err(), error);
}

/// A mask of every weight of a network, which keeps about two thirds.
fn masks(graph: &Graph) -> BTreeMap<String, Vec<bool>> {
    let weights = graph.parameters().map(|(_, p)| p).filter(|p| p.role == Role::Weight);
    let mask = |p: &Parameter| (0..p.elements()).map(|i| i * 7 % 11 % 3 != 1).collect();
    weights.map(|p| (p.name.to_string(), mask(p))).collect()
}

/// Checks that exactly the numbers of the mask are not 0, and that no 0 is negative.
fn assert_masked(weights: &Weights, masks: &BTreeMap<String, Vec<bool>>) {
    for (name, kept) in masks {
        let data = &weights.arrays[name].data;
        let left: Vec<bool> = data.iter().map(|w| w.to_bits() != 0).collect();
        assert_eq!(&left, kept, "{name}");
    }
}

#[test]
fn weights_that_went_stay_exactly_zero_and_remember_nothing() {
    let (data, graph) = (colours(), tiny_graph());
    let masks = masks(&graph);
    let sgd = OptimizerSpec::Sgd { momentum: 0.9 };
    for optimizer in [OptimizerSpec::AdamW, sgd] {
        let spec = TrainingSpec { optimizer, weight_decay: 0.1, ..spec() };
        let views = views(&spec);
        let masked = TrainRequest { kept: Some(&masks), ..request(&graph, &data, &views, &spec) };
        for channel_multiple in [1, 4] {
            let manner = Manner { steps_ahead: 1, channel_multiple };
            let go_on = &mut |_| ControlFlow::Continue(());
            let trained = train_in(manner, masked.clone(), go_on).unwrap();
            assert_masked(&trained.weights, &masks);
            for (name, moment) in &trained.moments {
                if let Some(kept) = masks.get(name.split_once('/').unwrap().1) {
                    let of_gone = moment.data.iter().zip(kept).filter(|(_, kept)| !**kept);
                    assert!(of_gone.clone().count() > 0);
                    assert!(of_gone.into_iter().all(|(moment, _)| *moment == 0.0), "{name}");
                }
            }
        }
        // The same in two parts.
        let whole = run(masked.clone()).unwrap();
        let first = run(TrainRequest { until: 1, ..masked.clone() }).unwrap();
        let Trained { weights, moments, images_seen, .. } = first;
        let start = Checkpoint { weights, moments, epochs: 1, images_seen, seconds: 0.0 };
        assert_eq!(run(TrainRequest { start, ..masked.clone() }).unwrap().weights, whole.weights);
        // Without a mask, they move.
        let dense = run(TrainRequest { kept: None, ..masked }).unwrap();
        assert!(
            dense.weights.arrays.iter().any(|(n, a)| masks.contains_key(n) && a.data[3] != 0.0)
        );
    }
}

#[test]
fn a_mask_of_another_network_is_refused() {
    let (data, graph, spec) = (colours(), tiny_graph(), spec());
    let views = views(&spec);
    let mut masks = masks(&graph);
    masks.values_mut().next().unwrap().pop();
    let name = masks.keys().next().unwrap().clone();
    let masked = TrainRequest { kept: Some(&masks), ..request(&graph, &data, &views, &spec) };
    assert_eq!(run(masked).unwrap_err(), TrainError::Mask { name });
}
