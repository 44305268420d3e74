//! Training: the loop, its loss with distillation, its schedule and its soft targets, with or
//! without a simulated quantization.
//!
//! A training uses no global state, and results do not depend on the number of threads. So on a
//! processor the same request leads to the same weights bit for bit, even if the process trains
//! other networks at the same time, on any number of cores, and with any number of stops in
//! between. On a GPU the bits may differ, because kernels are chosen by timing. The pipeline stores
//! checkpoints and handles retries and panics. The edge runtime measures the reported accuracy.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::thread;

use burn::optim::GradientsAccumulator;
use burn::tensor::Tensor;
use edgesmith_common::DIVERGED;
use edgesmith_common::spec::TrainingSpec;
use edgesmith_data::{Dataset, Views};
use edgesmith_graph::{Array, Graph, Quantization, Weights, WeightsError};
use edgesmith_search_space::{Distillation, Features, Shrink};

use crate::network::{MOMENTUM, mean_share, momentum};

mod network;
pub mod safetensors;

mod backward;
mod batches;
mod checkpoint;
mod classifier;
mod cores;
mod device;
mod features;
mod hints;
mod logits;
mod loss;
mod memory;
mod optimizer;
mod padding;
mod prefetch;
mod schedule;
mod shaping;
mod soft_targets;
mod taylor;
#[cfg(test)]
mod tests;
mod throughput;

pub use checkpoint::{CHECKPOINT_VERSION, Checkpoint, CheckpointError};
pub use cores::{Cores, CoresError, Seat};
pub use device::{TrainDevice, TrainDeviceError};
pub use features::FeatureTargets;
pub use memory::{Memory, TooLarge, normalizes};
pub use network::{Network, fresh_weights};
pub use optimizer::Moments;
pub use soft_targets::{Lesson, SoftTargets, SoftTargetsError, soft_targets};
pub use taylor::{TaylorRequest, taylor, taylor_of_weights};
pub use throughput::Throughput;

use backward::{StepLoss, backward, of_features};
use batches::{Batch, Batches, Images, Normalizer};
use classifier::Classifier;
use device::Manner;
use features::Copied;
use hints::Regressor;
use loss::{Soft, Targets};
use optimizer::NetworkOptimizer;
use padding::Padding;
use prefetch::Prefetch;
use schedule::Schedule;
use shaping::Shaping;

/// One training.
#[derive(Debug, Clone)]
pub struct TrainRequest<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// The start: fresh weights, weights after pruning, or the checkpoint where the training
    /// stopped.
    pub start: Checkpoint,
    /// The data set; its training part is used.
    pub dataset: &'a Dataset,
    /// Epoch `e` uses view `e % views.count()`.
    pub views: &'a Views,
    /// Batch size, optimizer, warm-up, weight decay and label smoothing. Its epochs and learning
    /// rates are not used, because training and fine-tuning have different ones.
    pub spec: &'a TrainingSpec,
    /// Passes over the training images in the whole training; the learning rate schedule covers all
    /// of them.
    pub epochs: u32,
    /// Passes after which to stop, counted from the start of the whole training; at most `epochs`.
    pub until: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Epochs that the schedule of the learning rate has before the first one, as if they had
    /// been trained already (learning-rate rewinding, Renda et al. 2020).
    pub skipped: u32,
    /// What becomes small along with the loss, and the weight of its penalty.
    pub shrink: (Shrink, f64),
    /// Whether weights that are equal in a tensor at the start stay equal, as those of clusters.
    pub ties: bool,
    /// The parameters that learn alone in the first epochs, and in how many; `None` if all learn
    /// from the start.
    pub first: Option<(&'a [String], u32)>,
    /// Whether batch normalisation goes on from the statistics of the start. Otherwise these do not
    /// count.
    pub keeps_statistics: bool,
    /// Most images of a batch that are computed at once, at least 1. A larger batch is computed in
    /// parts, whose gradients are added: they are those of the batch up to rounding. See
    /// [`Memory::part`].
    pub at_once: u32,
    /// Seed for the order of the images.
    pub shuffle_seed: [u8; 32],
    /// The distillation settings and the teacher's logits of these views of these images.
    pub distillation: Option<(Distillation, &'a SoftTargets)>,
    /// The annotation of the network, which is folded, if quantization is simulated: values and
    /// weights are rounded to their levels, and the scales learn along with the weights. Those of
    /// inputs and the zero points stay. A start that is not fresh has scales of its own in its
    /// moments.
    pub quantization: Option<&'a Quantization>,
    /// For parameters, by name: which of their numbers may be other than 0. The others are 0 after
    /// every step. `None` if all may.
    pub kept: Option<&'a BTreeMap<String, Vec<bool>>>,
    /// The device that trains.
    pub device: TrainDevice,
    /// The cores that trainings on the processor share. The weights do not depend on them.
    pub cores: &'a Cores,
}

/// The progress of a training, after a step that is complete on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The epoch of the step, counted from 0.
    pub epoch: u32,
    /// Number of epochs of this training.
    pub epochs: u32,
    /// The step within the epoch, counted from 0.
    pub step: u32,
    /// Number of steps of each epoch.
    pub steps: u32,
}

/// The result of a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The weights; all are finite.
    pub weights: Weights,
    /// The optimizer's moments, and the scales of a simulated quantization, for continuing the
    /// training.
    pub moments: Moments,
    /// The annotation with the scales that were learned, if quantization was simulated. The engine
    /// rounds the weights to the levels that they had in training, and its sums cannot overflow.
    pub quantization: Option<Quantization>,
    /// Images seen over all epochs, including those before the start.
    pub images_seen: u64,
    /// Mean loss of each epoch since the start.
    pub losses: Vec<f64>,
}

/// Why a training failed or stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrainError {
    /// The caller stopped it.
    #[error("training was stopped")]
    Stopped,
    /// The loss, or a weight after the last step, is infinite or NaN.
    #[error(
        "{} in epoch {}, step {}; a lower learning rate may help",
        DIVERGED, epoch + 1, step + 1
    )]
    NonFinite {
        /// Counted from 0.
        epoch: u32,
        /// Counted from 0.
        step: u32,
    },
    /// Batch normalisation needs two images.
    #[error(
        "training needs at least 2 images and batches of at least 2; there are {images} images in \
         batches of {batch_size}"
    )]
    TooFewImages {
        /// Training images.
        images: usize,
        /// Batch size of the request.
        batch_size: u32,
    },
    /// Batch normalisation and relations need a batch as a whole.
    #[error(
        "a network with batch normalisation or relations needs its batches as a whole, but only \
         {at_once} of {batch_size} images should be computed at once"
    )]
    Parts {
        /// As asked for.
        at_once: u32,
        /// Images of a batch.
        batch_size: u32,
    },
    /// The starting weights do not fit the network.
    #[error("starting weights do not fit: {0}")]
    Weights(#[from] WeightsError),
    /// A mask is of another network.
    #[error("the mask of {name} does not fit the network")]
    Mask {
        /// The parameter's name.
        name: String,
    },
    /// The checkpoint to start from has another optimizer, another network, or too many epochs.
    #[error("checkpoint does not fit the training: {name}")]
    Checkpoint {
        /// What does not fit.
        name: String,
    },
    /// The network is not a classifier of images.
    #[error(
        "the network reads {inputs} and computes {outputs}, but training needs one square image \
         and one number per class"
    )]
    NoClassifier {
        /// Shapes of its inputs.
        inputs: String,
        /// Shapes of its outputs.
        outputs: String,
    },
    /// A value has more axes of positions than training works on.
    #[error(
        "{value:?} has shape {shape}, but training works on values of channels and at most two axes \
         of positions"
    )]
    Axes {
        /// The value's name, which is that of its node.
        value: String,
        /// Its shape.
        shape: String,
    },
    /// The data set has other numbers of channels or classes than the network.
    #[error(
        "the network has {channels} channels and {classes} classes, but the data set has \
         {data_channels} and {data_classes}"
    )]
    Data {
        /// Of the network.
        channels: usize,
        /// Of the network.
        classes: usize,
        /// Of the data set.
        data_channels: usize,
        /// Of the data set.
        data_classes: usize,
    },
    /// The soft targets have too few views, or the wrong number of images or classes.
    #[error(
        "soft targets are for {given:?} views, images and classes, but training needs {expected:?}"
    )]
    SoftTargets {
        /// Views, images and classes of the soft targets.
        given: [usize; 3],
        /// What this training needs; soft targets may have more views.
        expected: [usize; 3],
    },
    /// No layer with weights leaves rows and columns.
    #[error(
        "features = \"{features}\" compares values with rows and columns that layers with weights \
         make, but the {network} has none, and the picture that it reads does not count; use \
         features = \"relations\", or leave features out"
    )]
    NothingToCopy {
        /// As asked for.
        features: Features,
        /// The teacher or the student.
        network: &'static str,
    },
    /// No stage of the student ends in as many positions as one of the teacher.
    #[error(
        "features = \"attention\" compares the ends of stages that have equally many rows and \
         columns, but there are none: {student} in the student and {teacher} in the teacher; give \
         both the same resolution and strides, or copy relations"
    )]
    NoAttention {
        /// Sizes of the student's ends.
        student: String,
        /// Sizes of the teacher's ends.
        teacher: String,
    },
    /// No stage of the student ends in as many positions as the hint of the teacher.
    #[error(
        "features = \"hints\" compares the end of the teacher's stage in the middle with the end of \
         a stage that has as many rows and columns, but there is none: {student} in the student and \
         {teacher} in the teacher; give both the same resolution and strides, or copy relations"
    )]
    NoHint {
        /// Sizes of the student's ends.
        student: String,
        /// Size of the hint.
        teacher: String,
    },
    /// What should become small is not there.
    #[error(
        "shrink = \"{shrink}\" makes {} small, but the network has none that could be removed; \
         shrink something else, or nothing",
        match shrink {
            Shrink::None => "nothing",
            Shrink::Scales => "scales of batch normalisation",
            Shrink::Filters => "filters",
        }
    )]
    NothingToShrink {
        /// As asked for.
        shrink: Shrink,
    },
    /// No layer makes the classes.
    #[error(
        "features = \"relations\" compares what the last layer reads, but in this network no layer \
         makes the classes alone; copy attention, or learn from the answers only"
    )]
    NoRelations,
    /// A feature of the teacher is infinite or NaN.
    #[error("a feature of the teacher is not finite; it cannot teach")]
    NonFiniteTeacher,
    /// The soft targets have no features.
    #[error("the recipe copies features of the teacher, but its soft targets have none")]
    NoFeatures,
    /// There are too many features to keep.
    #[error(
        "the teacher's features of all views need {bytes} bytes, but at most {limit} are kept; \
         choose a teacher of lower resolution, fewer views, or learn from the answers only"
    )]
    ManyFeatures {
        /// That they need.
        bytes: u64,
        /// That are allowed.
        limit: u64,
    },
    /// The soft targets are of other images.
    #[error(
        "soft targets are of other training images than those on this machine; copy the files of \
         the data set from the worker that ran the teacher"
    )]
    OtherImages,
}

/// Trains. `progress` is called after every step, on a GPU after every 16th step and the last one
/// of an epoch. It may block, for example while a device measures. If it breaks, the training
/// stops.
///
/// # Errors
/// If the parts of the request do not fit together, the loss is not finite, or `progress` breaks.
pub fn train(
    request: TrainRequest,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    let manner = request.device.manner();
    train_in(manner, request, progress)
}

/// [`train`] with the settings of another device.
fn train_in(
    manner: Manner,
    request: TrainRequest,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    let Classifier { side, .. } = check(&request)?;
    let (images, batch_size) = (request.dataset.train.len(), request.spec.batch_size as usize);
    // A last batch of one image is left out, because it has no variance.
    let steps = images / batch_size + usize::from(images % batch_size >= 2);
    let batches = batches(&request, side, steps);
    thread::scope(|scope| {
        let batches = Prefetch::start(scope, batches);
        take_steps(manner, request, batches, steps, progress)
    })
}

/// The batches of a training, with `steps` per epoch and images of `side` × `side` pixels.
fn batches<'a>(
    request: &TrainRequest<'a>,
    side: usize,
    steps: usize,
) -> impl Iterator<Item = Batch> + Send + use<'a> {
    let TrainRequest { dataset, views, spec, .. } = *request;
    let batches = Batches {
        set: &dataset.train,
        images: Images::of_views(&dataset.train, views, side),
        normalizer: Normalizer::new(&dataset.normalization),
        views: views.count(),
        soft_targets: request.distillation.map(|(_, targets)| targets),
        copies: request.distillation.is_some_and(|(settings, _)| !settings.features.is_none()),
        batch_size: spec.batch_size as usize,
        steps,
        shuffle_seed: request.shuffle_seed,
    };
    batches.of(request.start.epochs..request.until)
}

/// Takes one training step per batch, with `steps` per epoch.
fn take_steps(
    manner: Manner,
    request: TrainRequest,
    mut batches: Prefetch<Batch>,
    steps: usize,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    let copied = copied(&request)?;
    let mut regressor = regressor(&request, copied.as_ref());
    let TrainRequest { graph, spec, mut start, epochs, until, kept, .. } = request;
    mask(&mut start.weights, kept);
    let all_steps = u64::from(epochs) * steps as u64;
    let skipped = u64::from(request.skipped) * steps as u64;
    let scheduled = all_steps + skipped;
    let schedule = Schedule::new(request.learning_rate, spec.warmup_fraction, scheduled);
    let (shrink, ties) = (request.shrink, request.ties);
    let tied = ties.then(|| start.weights.clone());
    let device = request.device.device().autodiff();
    let mut moments = start.moments;
    if let Some(regressor) = regressor.as_mut().filter(|_| start.epochs > 0) {
        regressor.restore(&mut moments)?;
    }
    let (padding, mut network) = match request.quantization {
        None => {
            // What is padded would be tied to weights of 0.
            let multiple = if ties { 1 } else { manner.channel_multiple };
            let padding = Padding::new(graph, multiple);
            let network = Network::new(padding.graph(), &padding.pad(start.weights), &device);
            (padding, network)
        }
        Some(quantization) => {
            let mut network = Network::quantized(graph, &start.weights, quantization, &device);
            if start.epochs > 0 {
                let taken = network.set_scales(take_scales(&mut moments));
                taken.map_err(|name| TrainError::Checkpoint { name: format!("{SCALE}{name}") })?;
            }
            (Padding::with(graph, graph.clone()), network)
        }
    };
    let seat = request.cores.seat();
    let (decay, made) = (spec.weight_decay, start.epochs as usize * steps);
    let inner = request.device.device();
    let moments = padding.pad_moments(moments)?;
    let first = request.first.map(|(names, epochs)| (names, epochs as usize * steps));
    let mut optimizer =
        NetworkOptimizer::new(spec.optimizer, decay, &network, first, made, moments, &inner)?;
    if let Some(kept) = kept {
        let mut ones = Weights { arrays: network.weights().arrays };
        ones.arrays.values_mut().for_each(|array| array.data.fill(1.0));
        let mut ones = padding.crop(ones);
        mask(&mut ones, Some(kept));
        let mut padded = padding.pad(ones).arrays;
        padded.retain(|name, _| kept.contains_key(name));
        optimizer.keep_zeros(padded, &network, &inner);
    }
    let mut shaping = Shaping::default();
    shaping.shrink(graph, &network, shrink);
    if let Some(tied) = &tied {
        shaping.tie(graph, &network, tied);
    }
    optimizer.shape(shaping);
    let distillation = request.distillation.map(|(distillation, _)| distillation);
    let values = copied.as_ref().map(|copied| copied.within(graph, padding.graph()));
    let values = values.unwrap_or_default();
    let (mut images_seen, mut losses) = (start.images_seen, Vec::new());
    for epoch in start.epochs..until {
        let mut sum = 0.0;
        let mut seen = 0;
        let mut unread: Vec<(StepLoss, usize)> = Vec::new();
        for step in 0..steps {
            let batch = batches.take().expect("as many batches as steps");
            let at = u64::from(epoch) * steps as u64 + step as u64;
            network.set_momentum(if request.keeps_statistics { MOMENTUM } else { momentum(at) });
            network.set_threads(seat.threads());
            let images = batch.labels.len();
            let soft = distillation.as_ref().map(|settings| Soft::at(settings, at, all_steps));
            let weight =
                distillation.map_or(0.0, |settings| settings.feature_weight.at(at, all_steps));
            let (mut loss, mut together) = (None, GradientsAccumulator::new());
            for part in batch.parts(request.at_once as usize) {
                let share = part.labels.len() as f64 / images as f64;
                let targets = Targets {
                    labels: &part.labels,
                    label_smoothing: spec.label_smoothing,
                    teacher: soft.zip(part.teacher.as_deref()),
                };
                let images = Tensor::from_data(part.images, &device);
                let (logits, seen) = network.forward_with(images, &values);
                let besides = copied.as_ref().zip(part.features.as_deref());
                let besides = besides.and_then(|(copied, rows)| {
                    of_features(copied, seen, rows, weight * share, regressor.as_mut())
                });
                let (of_part, gradients) =
                    backward(&network, logits, &targets, (share, besides), manner.steps_ahead);
                together.accumulate(&network, gradients);
                loss = Some(of_part.after(loss));
            }
            if let Some(regressor) = &mut regressor {
                regressor.step();
            }
            network = optimizer.step(schedule.rate(at + skipped), network, together.grads());
            unread.push((loss.expect("a batch has images"), images));
            if unread.len() < manner.steps_ahead && step + 1 < steps {
                continue;
            }
            let first = step + 1 - unread.len();
            let (losses, counts): (Vec<_>, Vec<_>) = unread.drain(..).unzip();
            for (loss, (images, step)) in
                StepLoss::read(losses).iter().zip(counts.iter().zip(first..))
            {
                if !loss.is_finite() {
                    return Err(TrainError::NonFinite { epoch, step: step as u32 });
                }
                sum += loss * *images as f64;
                seen += images;
            }
            let stands = Progress { epoch, epochs, step: step as u32, steps: steps as u32 };
            // `progress` may wait for a measurement, which no other work may disturb.
            batches.rest();
            if progress(stands).is_break() {
                return Err(TrainError::Stopped);
            }
        }
        network.settle();
        losses.push(sum / seen as f64);
        images_seen += seen as u64;
    }
    let mut weights = padding.crop(network.weights());
    // A product with 0 may be the negative zero.
    mask(&mut weights, kept);
    let scales = network.scales();
    let all_scales = || scales.values().flatten();
    if weights.check(graph).is_err() || !all_scales().all(|s| s.is_finite() && *s > 0.0) {
        let (epoch, step) = (until.saturating_sub(1), steps.saturating_sub(1) as u32);
        return Err(TrainError::NonFinite { epoch, step });
    }
    let mut moments = padding.crop_moments(optimizer.moments(&network));
    moments.extend(scales.into_iter().map(|(name, scales)| {
        (format!("{SCALE}{name}"), Array { shape: vec![scales.len()], data: scales })
    }));
    moments.extend(regressor.iter().flat_map(Regressor::state));
    let quantization = network.quantization();
    Ok(Trained { moments, quantization, weights, images_seen, losses })
}

/// Sets the numbers that may not be other than 0 to 0.
fn mask(weights: &mut Weights, kept: Option<&BTreeMap<String, Vec<bool>>>) {
    for (name, kept) in kept.into_iter().flatten() {
        let array = weights.arrays.get_mut(name).expect("its size was checked");
        let removed = array.data.iter_mut().zip(kept).filter(|(_, kept)| !**kept);
        removed.for_each(|(number, _)| *number = 0.0);
    }
}

/// Before the names of scales among the moments.
const SCALE: &str = "scale/";

/// Takes the scales out of the moments, by the name of what they belong to.
fn take_scales(moments: &mut Moments) -> BTreeMap<String, Vec<f32>> {
    let scales = moments.extract_if(.., |name, _| name.starts_with(SCALE));
    scales.map(|(name, array)| (name[SCALE.len()..].to_owned(), array.data)).collect()
}

/// The weights with batch normalisation's running statistics recomputed in one pass over the
/// training images. Nothing else changes, so a network without batch normalisation is returned at
/// once. It is used after pruning, which changes the statistics. If an annotation is given, the
/// network is computed as the engine computes it. For `pause` see [`soft_targets`].
///
/// # Errors
/// If the network is not a classifier of images, `pause` breaks, or the statistics are not finite.
pub fn renew_statistics(
    (graph, weights, quantization): (&Graph, &Weights, Option<&Quantization>),
    dataset: &Dataset,
    batch_size: u32,
    device: TrainDevice,
    pause: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Weights, TrainError> {
    let Classifier { side, .. } = Classifier::of(graph)?;
    if !normalizes(graph) {
        return Ok(weights.clone());
    }
    // With autodiff, a network normalises with the batch's statistics.
    let device = device.device().autodiff();
    let mut network = match quantization {
        Some(quantization) => Network::quantized(graph, weights, quantization, &device),
        None => Network::new(graph, weights, &device),
    };
    let normalizer = Normalizer::new(&dataset.normalization);
    let mut images = Images::new(&dataset.train, side);
    let order: Vec<usize> = (0..dataset.train.len()).collect();
    let batches = order.chunks(batch_size.max(2) as usize).filter(|batch| batch.len() >= 2);
    for (before, indices) in (0..).zip(batches) {
        if pause().is_break() {
            return Err(TrainError::Stopped);
        }
        network.set_momentum(mean_share(before));
        network.forward(normalizer.batch(&mut images, indices, &device));
    }
    let renewed = network.weights();
    renewed.check(graph)?;
    Ok(renewed)
}

/// The weights and the annotation of a network of integers, with weights and scales that the engine
/// can compute with, as after a training.
///
/// # Panics
/// If they do not fit the graph.
pub fn settled(
    graph: &Graph,
    weights: &Weights,
    quantization: &Quantization,
) -> (Weights, Quantization) {
    let mut network = Network::quantized(graph, weights, quantization, &TrainDevice::Flex.device());
    network.settle();
    let quantization = network.quantization().expect("it was given");
    (network.weights(), quantization)
}

/// What the student copies of its teacher; `None` if only answers.
fn copied(request: &TrainRequest) -> Result<Option<Copied>, TrainError> {
    let Some((settings, targets)) = request.distillation else { return Ok(None) };
    if settings.features.is_none() {
        return Ok(None);
    }
    let features = targets.features.as_ref().ok_or(TrainError::NoFeatures)?;
    Copied::of(request.graph, settings.features, features).map(Some)
}

/// The layer that makes the teacher's hints of a student's values, if it learns from hints.
fn regressor(request: &TrainRequest, copied: Option<&Copied>) -> Option<Regressor> {
    let (_, targets) = request.distillation?;
    let [to, ..] = targets.features.as_ref()?.hint?;
    let copied = copied.filter(|copied| copied.features == Features::Hints)?;
    let from = request.graph.shape(copied.values.first()?.0).channels() as usize;
    Some(Regressor::new(from, to, request.shuffle_seed))
}

/// Checks that the parts of a request fit together.
fn check(request: &TrainRequest) -> Result<Classifier, TrainError> {
    let TrainRequest { graph, dataset, views, spec, .. } = request;
    if request.start.epochs > request.until || request.until > request.epochs {
        let TrainRequest { start, until, epochs, .. } = request;
        let done = start.epochs;
        let name = format!("{done} of {epochs} epochs are done, but it should stop after {until}");
        return Err(TrainError::Checkpoint { name });
    }
    request.start.weights.check(graph)?;
    for (name, kept) in request.kept.into_iter().flatten() {
        let array = request.start.weights.arrays.get(name);
        if array.is_none_or(|array| array.data.len() != kept.len()) {
            return Err(TrainError::Mask { name: name.clone() });
        }
    }
    let sizes = Classifier::of(graph)?;
    let Classifier { channels, classes, .. } = sizes;
    if (channels, classes) != (dataset.train.channels, dataset.classes) {
        let (data_channels, data_classes) = (dataset.train.channels, dataset.classes);
        return Err(TrainError::Data { channels, classes, data_channels, data_classes });
    }
    let images = dataset.train.len();
    if images < 2 || spec.batch_size < 2 {
        return Err(TrainError::TooFewImages { images, batch_size: spec.batch_size });
    }
    // No batch has more images than there are.
    let batch_size = spec.batch_size.min(u32::try_from(images).unwrap_or(u32::MAX));
    let relations = |(settings, _): (Distillation, _)| settings.features == Features::Relations;
    let whole = normalizes(graph) || request.distillation.is_some_and(relations);
    if request.at_once < batch_size && whole {
        let at_once = request.at_once;
        return Err(TrainError::Parts { at_once, batch_size });
    }
    if let Some((_, targets)) = request.distillation {
        let expected = [views.used(request.epochs) as usize, images, classes];
        let given = [targets.views.unwrap_or(expected[0]), targets.images, targets.classes];
        if given[0] < expected[0] || given[1..] != expected[1..] {
            return Err(TrainError::SoftTargets { given, expected });
        }
        if targets.data != dataset.train.hash() {
            return Err(TrainError::OtherImages);
        }
    }
    copied(request)?;
    shaping::check(graph, request.shrink.0)?;
    Ok(sizes)
}
