//! The steps that all training tasks share: training a network, evaluating the result, and pausing
//! for measurements.

mod observe;

use std::ops::ControlFlow;
use std::sync::Arc;

use edgesmith_common::spec::{StudySpec, TeacherSpec, TrainWork};
use edgesmith_common::{
    ArtifactHash, AttemptError, ClassCount, DeviceInfo, Donor, Figures, Metric, Purpose, Seed,
    Split, StageReport, StudyName, TrialNumber,
};
use edgesmith_compress::{self as compress, Coarse, Masks, Scheme, fold};
use edgesmith_data::{Dataset, ImageSet, Normalization, Views};
use edgesmith_edge_runtime::Model;
use edgesmith_graph::{Graph, Quantization, ValueId, Weights};
use edgesmith_search_space::{
    CanonicalHash, Cost, Distillation, Features, Genotype, Granularity, Precision, Quantizing,
    RangeRule, Rounding, Shrink, Space,
};
use edgesmith_train::{
    Checkpoint, Cores, Lesson, Memory, SoftTargets, TrainDevice, TrainError, TrainRequest, Trained,
    normalizes, safetensors,
};

use super::compress::Multiples;
use super::memory::{Share, TrainingMemory};
use super::notes::{Origin, add_notes};
use super::{Busy, hopeless, inputs};
use crate::evaluate::{RunError, evaluate, evaluate_by_class, quantize, quantize_coarsely};
use crate::export::{
    Held, Interface, Lowered, float_model, input_spec, lower_coarse, lower_integers,
};
use crate::lru::Lru;
use crate::session::AttemptContext;

/// The share of numbers that a range by percentiles covers.
const PERCENTILE: f64 = 0.9999;

/// What a training task needs of its study.
pub struct Study<'a> {
    pub name: &'a StudyName,
    pub seed: Seed,
    /// The space of `work`.
    pub space: &'a Space,
    pub work: &'a TrainWork,
    /// Hash of the data that it began with; `None` if any data will do.
    pub data: Option<ArtifactHash>,
}

impl<'a> Study<'a> {
    pub fn of(spec: &'a StudySpec, data: Option<ArtifactHash>) -> Result<Self, AttemptError> {
        let work =
            spec.training().ok_or_else(|| AttemptError::hopeless("this study does not train"))?;
        Ok(Self { name: &spec.name, seed: spec.seed, space: &spec.space, work, data })
    }

    /// The artifact of a file that the user gave with the study.
    ///
    /// # Errors
    /// As [`AttemptContext::fetch_of_study`].
    pub fn given(
        &self,
        hash: ArtifactHash,
        what: &str,
        context: &AttemptContext,
    ) -> Result<Arc<Vec<u8>>, AttemptError> {
        let mend = "without a backup, run the command again that began the study, which stores its files again";
        context.fetch_of_study(hash, what, mend)
    }
}

/// A candidate to train: where it starts and where it stops.
pub struct Trial<'a> {
    pub number: TrialNumber,
    pub genotype: &'a Genotype,
    pub soft_targets: Option<ArtifactHash>,
    /// Epochs at which to stop; `None` to train to the end.
    pub rung: Option<u32>,
    pub checkpoint: Option<ArtifactHash>,
    pub donor: Option<&'a Donor>,
}

/// One training within a task.
#[derive(Clone)]
pub struct Phase<'a> {
    /// The name of an epoch in the progress.
    pub name: &'static str,
    /// The part of the attempt's progress that it covers, from and to, `0..=1`.
    pub span: (f64, f64),
    pub graph: &'a Graph,
    pub start: Checkpoint,
    /// Epochs of the whole training; the learning rate schedule depends on it.
    pub epochs: u32,
    /// Epochs at which this run stops.
    pub until: u32,
    pub learning_rate: f64,
    /// Epochs that the schedule has before the first one.
    pub skipped: u32,
    /// What becomes small, and the weight of its penalty.
    pub shrink: (Shrink, f64),
    /// Whether equal weights stay equal.
    pub ties: bool,
    /// Parameters that learn alone in the first epochs, and in how many.
    pub first: Option<(&'a [String], u32)>,
    /// Whether batch normalisation goes on from the statistics of the start.
    pub keeps_statistics: bool,
    pub shuffle: Purpose,
    pub teacher: Option<(Distillation, &'a SoftTargets)>,
    /// Simulated on a folded network.
    pub quantization: Option<&'a Quantization>,
    /// The single weights that stay.
    pub masks: Option<&'a Masks>,
}

/// A network that is computed in integers, or whose weights and values are levels.
pub struct Quantized {
    /// Folded.
    pub graph: Graph,
    /// Real numbers; the engine rounds them by the annotation.
    pub weights: Weights,
    pub quantization: Quantization,
    /// Whether some of its layers stay in fp32.
    pub partly: bool,
    /// The levels, if it is not computed in integers. Then `weights` are what they stand for, and
    /// `quantization` says nothing.
    pub coarse: Option<Coarse>,
}

/// The cost of one inference with a model of integers. What is held in bytes counts as such, and
/// what is held in fp32, because an operation has no form in integers or stays in fp32, as four
/// bytes for each number; both as long as the value is needed: an upper bound.
fn cost(graph: &Graph, lowered: &Lowered) -> Cost {
    let cost = Cost::of(graph, Precision::Int8);
    if !lowered.has_real_nodes {
        return cost;
    }
    let clips = graph.absorbed_clips();
    let size = |value: ValueId| {
        // What is computed along with a clip is held as the clip's output.
        let clip = graph.producer(value).and_then(|id| clips[id.index()].as_ref());
        let held = clip.map_or(value, |(clip, _)| graph.node(*clip).output);
        let Held { fp32, bytes } = lowered.held[held.index()];
        graph.shape(value).elements() * (4 * u64::from(fp32) + u64::from(bytes))
    };
    Cost { peak_memory_bytes: graph.peak_memory(size), ..cost }
}

/// A network that was evaluated.
pub struct Evaluated {
    /// Of its model file.
    pub figures: Figures,
    /// By class, on the validation images; empty if there are too many classes.
    pub classes: Vec<ClassCount>,
    /// The bytes of its model file.
    pub bytes: Vec<u8>,
}

impl Evaluated {
    /// The same as a stage of a trial. Stages are not evaluated on the test images.
    pub fn stage(&self, pass: Pass) -> StageReport {
        let all = self.figures.iter().filter(|(of, _)| !of.is_held_out());
        StageReport {
            figures: all.map(|(of, value)| (of.clone(), value)).collect(),
            classes: self.classes.clone(),
            ..pass.unmeasured()
        }
    }
}

/// What made a stage of a trial.
#[derive(Debug, Clone)]
pub struct Pass {
    /// As study files name it, and what it measured, such as `prune to 0.651 of 1.302 ms`.
    pub name: String,
    /// Whether its training learned from the teacher.
    pub distilled: bool,
}

impl Pass {
    /// A stage of which nothing else is known.
    pub fn unmeasured(self) -> StageReport {
        let Self { name, distilled } = self;
        let (figures, classes) = (Figures::new(), Vec::new());
        StageReport { pass: name, distilled, figures, classes }
    }
}

/// What all steps of one attempt need.
pub struct Run<'a> {
    /// The device that trains.
    pub device: TrainDevice,
    pub cores: &'a Cores,
    pub study: &'a Study<'a>,
    pub dataset: &'a Dataset,
    /// Empty if the classes have no names.
    pub class_names: Vec<String>,
    /// What all trainings of the process share.
    pub memory: &'a TrainingMemory,
    pub context: &'a AttemptContext,
    pub busy: &'a Busy<'a>,
    /// The machine, for measurements.
    pub info: &'a DeviceInfo,
    /// The fast multiples of channels, once they are known.
    pub multiples: &'a Multiples,
}

impl Run<'_> {
    pub fn train(&self, phase: Phase<'_>) -> Result<Trained, AttemptError> {
        let spec = &self.study.work.training;
        let views = Views::new(&spec.augmentation, self.study.seed);
        let begun = phase.start.epochs;
        let mut memory = Memory::of(phase.graph, spec, self.dataset, self.device);
        if let Some(quantization) = phase.quantization {
            memory = memory.quantized(phase.graph, quantization);
        }
        if let Some((distillation, _)) = &phase.teacher {
            memory = memory.copying(phase.graph, &[distillation.features]);
        }
        if let Some(masks) = phase.masks {
            memory = memory.masked(phase.graph, &masks.kept, self.device);
        }
        let (at_once, _share) = self.memory_for(&memory, self.batch_size())?;
        let request = TrainRequest {
            graph: phase.graph,
            start: phase.start,
            dataset: self.dataset,
            views: &views,
            spec,
            epochs: phase.epochs,
            until: phase.until,
            learning_rate: phase.learning_rate,
            skipped: phase.skipped,
            shrink: phase.shrink,
            ties: phase.ties,
            first: phase.first,
            keeps_statistics: phase.keeps_statistics,
            at_once,
            shuffle_seed: self.study.seed.derive(phase.shuffle),
            distillation: phase.teacher,
            quantization: phase.quantization,
            kept: phase.masks.map(|masks| &masks.kept),
            device: self.device,
            cores: self.cores,
        };
        let (from, to) = phase.span;
        edgesmith_train::train(request, &mut |progress| {
            let stage = format!("{} {}/{}", phase.name, progress.epoch + 1, phase.epochs);
            let all = f64::from(phase.until - begun) * f64::from(progress.steps);
            let done = f64::from(progress.epoch - begun) * f64::from(progress.steps)
                + f64::from(progress.step);
            self.context.progress(from + (to - from) * (done + 1.0) / all, &stage);
            self.pause_or_stop()
        })
        .map_err(training_failed)
    }

    /// Recomputes the batch normalisation statistics of a network that is not trained any further.
    pub fn renew_statistics(
        &self,
        graph: &Graph,
        weights: &Weights,
    ) -> Result<Weights, AttemptError> {
        self.renew_statistics_of(graph, weights, None)
    }

    /// As [`Run::renew_statistics`], of a network of integers if there is an annotation.
    pub fn renew_statistics_of(
        &self,
        graph: &Graph,
        weights: &Weights,
        quantization: Option<&Quantization>,
    ) -> Result<Weights, AttemptError> {
        // It needs no memory if there is nothing to renew.
        if !normalizes(graph) {
            return Ok(weights.clone());
        }
        let batch_size = self.batch_size();
        let memory = Memory::renewing(graph, &self.dataset.train);
        let (_whole, _share) = self.memory_for(&memory, batch_size)?;
        let pause = &mut || self.pause_or_stop();
        let network = (graph, weights, quantization);
        let (dataset, device) = (self.dataset, self.device);
        edgesmith_train::renew_statistics(network, dataset, batch_size, device, pause)
            .map_err(training_failed)
    }

    /// The teacher's logits for every view of every training image that a training of the study may
    /// use, and these features of it.
    pub fn soft_targets(
        &self,
        graph: &Graph,
        weights: &Weights,
        normalization: &Normalization,
        features: &[Features],
    ) -> Result<SoftTargets, AttemptError> {
        let training = &self.study.work.training;
        let views = Views::new(&training.augmentation, self.study.seed);
        let memory = Memory::answering(graph, &self.dataset.train, &views);
        let memory = memory.copying(graph, features);
        let (at_once, _share) = self.memory_for(&memory, Memory::ANSWERED_AT_ONCE)?;
        let lesson = Lesson {
            at_once,
            graph,
            weights,
            normalization,
            train: &self.dataset.train,
            views: &views,
            features,
            epochs: training
                .epochs
                .max(training.fine_tune_epochs)
                .max(self.study.work.space.recipe().most_epochs())
                .max(self.study.work.teacher.iter().flat_map(longest_assistant).max().unwrap_or(0)),
            device: self.device,
            cores: self.cores,
        };
        edgesmith_train::soft_targets(lesson, &mut || self.pause_or_stop()).map_err(training_failed)
    }

    /// Images of a batch, at least 1; not more than there are.
    fn batch_size(&self) -> u32 {
        let images = u32::try_from(self.dataset.train.len()).unwrap_or(u32::MAX);
        self.study.work.training.batch_size.min(images.max(1))
    }

    /// Waits for the memory of a training with batches of so many images. Returns how many of them
    /// are computed at once.
    fn memory_for(&self, memory: &Memory, batch: u32) -> Result<(u32, Share<'_>), AttemptError> {
        let at_once = match self.memory.limit() {
            Some(limit) => memory.part(batch, limit).map_err(AttemptError::of_memory)?,
            None => batch,
        };
        let bytes = memory.bytes(batch, at_once);
        let share = self.memory.take(bytes, &mut || self.pause_or_stop());
        Ok((at_once, share.ok_or_else(AttemptError::stopped)?))
    }

    /// The weights as a file. Its metadata has their origin, the normalisation that they expect,
    /// the names of the classes if they have names, and the structure if it is given.
    pub fn weights_file(
        &self,
        structure: Option<&Graph>,
        weights: &Weights,
        normalization: &Normalization,
        what: (&str, String),
    ) -> Vec<u8> {
        let mut metadata = vec![
            ("study", self.study.name.to_string()),
            what,
            ("training_data", self.dataset.train.hash().to_string()),
        ];
        metadata.extend(safetensors::normalization_entries(normalization));
        metadata.extend(safetensors::class_names_entry(&self.class_names));
        metadata.extend(structure.map(safetensors::network_entry));
        safetensors::to_bytes(weights, &metadata)
    }

    /// Figures of a model from running its file in the edge runtime, and the bytes of that file.
    /// Its size is that of the network: origin and test vectors do not count.
    pub fn report(&self, cost: &Cost, model: &Model) -> Result<Evaluated, AttemptError> {
        let (mut evaluated, model) = self.validate(cost, model)?;
        evaluated.figures.extend(&self.evaluate(&model, &self.dataset.test, Split::Test)?);
        Ok(evaluated)
    }

    /// A stage of a trial: figures of the model file that its network would be, without those on
    /// the test images.
    pub fn stage(
        &self,
        pass: Pass,
        cost: &Cost,
        model: &Model,
    ) -> Result<StageReport, AttemptError> {
        Ok(self.validate(cost, model)?.0.stage(pass))
    }

    /// Figures of a model's file on the validation images, and the model read from it.
    fn validate(&self, cost: &Cost, model: &Model) -> Result<(Evaluated, Model), AttemptError> {
        let bytes = model.to_bytes();
        // Read it back, so that the file is evaluated and not the model in memory.
        let model = Model::from_bytes(&bytes).map_err(hopeless)?;
        let (set, pause) = (&self.dataset.validation, &mut || self.pause_or_stop());
        let evaluated = evaluate_by_class(&model, set, Split::Validation, pause);
        let (mut figures, mut classes) = evaluated.map_err(run_failed)?;
        figures.set(Metric::MODEL_BYTES.whole(), model.counted_bytes() as f64);
        figures.set_cost(cost);
        if classes.len() > StageReport::MAX_CLASSES {
            classes = Vec::new();
        }
        Ok((Evaluated { figures, classes, bytes }, model))
    }

    /// Figures of a model on a set of images, from running it in the edge runtime.
    pub fn evaluate(
        &self,
        model: &Model,
        set: &ImageSet,
        split: Split,
    ) -> Result<Figures, AttemptError> {
        evaluate(model, set, split, &mut || self.pause_or_stop()).map_err(run_failed)
    }

    /// The fp32 model of a trained network: folded, and with the names of the classes.
    pub fn model(&self, graph: &Graph, weights: &Weights) -> Result<Model, AttemptError> {
        let normalization = &self.dataset.normalization;
        let mut model = float_model(graph, weights, normalization).map_err(hopeless)?;
        model.notes.classes.clone_from(&self.class_names);
        Ok(model)
    }

    /// A trained network as one of integers, or of levels.
    pub fn quantized(
        &self,
        graph: &Graph,
        weights: &Weights,
        quantizing: &Quantizing,
    ) -> Result<Quantized, AttemptError> {
        let images = self.some_images(quantizing.examples as usize);
        let (graph, weights) = fold(graph, weights);
        let input = input_spec(&graph, &self.dataset.normalization).map_err(hopeless)?;
        let pause = &mut || self.pause_or_stop();
        let mut scheme = scheme(quantizing);
        // A candidate need not have all layers of its space.
        scheme.real.retain(|name| graph.value_named(name).is_some());
        scheme.widths.layers.retain(|name, _| graph.value_named(name).is_some());
        let partly = !scheme.real.is_empty();
        if !scheme.widths.are_integers() {
            let quantized = quantize_coarsely(&graph, &weights, &input, &images, &scheme, pause);
            let (weights, coarse) = quantized.map_err(run_failed)?;
            let (quantization, coarse) = (Quantization::none(&graph), Some(coarse));
            return Ok(Quantized { graph, weights, quantization, partly, coarse });
        }
        let quantized = quantize(&graph, &weights, &input, &images, &scheme, pause);
        let (weights, quantization) = quantized.map_err(run_failed)?;
        Ok(Quantized { graph, weights, quantization, partly, coarse: None })
    }

    /// The model of a network of integers or of levels, with the names of the classes, and what it
    /// costs.
    pub fn integer_model(&self, quantized: &Quantized) -> Result<(Model, Cost), AttemptError> {
        let Quantized { graph, weights, quantization, partly, coarse } = quantized;
        let normalization = &self.dataset.normalization;
        let (mut model, cost) = if let Some(coarse) = coarse {
            // What is not computed in integers is held in fp32.
            let model = lower_coarse(graph, weights, coarse, normalization).map_err(hopeless)?;
            (model, Cost::of(graph, Precision::Fp32))
        } else {
            let interface = Interface::of(graph, Some(normalization));
            let lowered = lower_integers(graph, weights, quantization, *partly, &interface);
            let lowered = lowered.map_err(hopeless)?;
            let cost = cost(graph, &lowered);
            (lowered.model, cost)
        };
        model.notes.classes.clone_from(&self.class_names);
        Ok((model, cost))
    }

    /// The model with its origin and test vectors.
    pub fn noted(
        &self,
        mut model: Model,
        what: (&'static str, String),
        candidate: Option<CanonicalHash>,
        [weights, source]: [Option<ArtifactHash>; 2],
    ) -> Result<Model, AttemptError> {
        let (study, training_data) = (self.study, self.dataset.train.hash());
        let origin = Origin { study, what, candidate, weights, source, training_data };
        add_notes(&mut model, origin).map_err(hopeless)?;
        Ok(model)
    }

    /// Pauses for measurements. Breaks if the attempt was stopped.
    pub fn pause_or_stop(&self) -> ControlFlow<()> {
        self.busy.pause_point();
        if self.context.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Epochs of the assistants of a teacher, which learn from soft targets, too.
fn longest_assistant(teacher: &TeacherSpec) -> Option<u32> {
    teacher.assistants.iter().map(|assistant| assistant.epochs).max()
}

/// Reads weights that a user supplied, and the normalisation that they expect if the file has it.
pub fn given_weights(
    bytes: &[u8],
    graph: &Graph,
) -> Result<(Weights, Option<Normalization>), AttemptError> {
    let (weights, notes) = safetensors::read(bytes).map_err(hopeless)?;
    weights.check(graph).map_err(hopeless)?;
    let channels = graph.input().channels() as usize;
    let normalization = safetensors::normalization(&notes, channels)
        .map_err(|error| hopeless(format!("the metadata of the teacher's weights {error}")))?;
    Ok((weights, normalization))
}

/// The scheme of a quantization.
fn scheme(quantizing: &Quantizing) -> Scheme {
    Scheme {
        calibration: match quantizing.calibration {
            RangeRule::Mse => compress::RangeRule::MeanSquaredError,
            RangeRule::MinMax => compress::RangeRule::MinMax,
            RangeRule::Percentile => compress::RangeRule::Percentile(PERCENTILE),
            RangeRule::Entropy => compress::RangeRule::Entropy,
        },
        granularity: match quantizing.granularity {
            Granularity::Channel => compress::Granularity::Channel,
            Granularity::Layer => compress::Granularity::Layer,
        },
        clip_ranges: quantizing.clip_ranges,
        equalize: quantizing.equalize,
        correct_biases: quantizing.correct_biases,
        rounding: match quantizing.rounding {
            Rounding::Nearest => compress::Rounding::Nearest,
            Rounding::Adaround => compress::Rounding::Learned,
        },
        real: quantizing.fp32.iter().cloned().collect(),
        widths: compress::Widths {
            weights: quantizing.widths.weights,
            affine: quantizing.widths.affine,
            activations: quantizing.widths.activations,
            layers: quantizing.widths.layer_bits.iter().cloned().collect(),
        },
    }
}

/// Running the same network on the same images fails in the same way.
pub fn run_failed(error: RunError) -> AttemptError {
    match error {
        RunError::Stopped => AttemptError::stopped(),
        RunError::Model(_) | RunError::Image(_) | RunError::Lower(_) | RunError::Quantize(_) => {
            hopeless(error)
        }
    }
}

/// A training with the same seed fails in the same way, so most failures are not repeated.
fn training_failed(error: TrainError) -> AttemptError {
    match error {
        TrainError::Stopped => AttemptError::stopped(),
        // The cause is this worker's version or its files. Another worker may succeed.
        error @ (TrainError::Checkpoint { .. }
        | TrainError::Data { .. }
        | TrainError::SoftTargets { .. }
        | TrainError::NoFeatures
        | TrainError::OtherImages) => AttemptError::retryable(error.to_string()),
        other => hopeless(other),
    }
}

/// Reads the teacher's logits from an artifact.
pub fn read_soft_targets(
    cache: &Lru<ArtifactHash, SoftTargets>,
    study: &Study<'_>,
    dataset: &Dataset,
    hash: Option<ArtifactHash>,
    context: &AttemptContext,
) -> Result<Arc<SoftTargets>, AttemptError> {
    let hash = hash.ok_or_else(|| {
        AttemptError::hopeless("the candidate uses distillation, but the task has no soft targets")
    })?;
    match &study.work.logits {
        Some(path) => {
            let fetch = || study.given(hash, "the file of logits", context);
            inputs::given_logits(cache, hash, path, dataset, fetch)
        }
        None => {
            let mend = format!(
                "without a backup, `edgesmith retry {} --teacher` trains the teacher again",
                study.name
            );
            let fetch = || context.fetch_of_study(hash, "the teacher's soft targets", &mend);
            inputs::soft_targets(cache, hash, fetch)
        }
    }
}
