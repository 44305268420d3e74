//! One task from lease to outcome: train, compress, evaluate what would ship, time it.
//!
//! Follow `Pipeline::train_trial` to see a candidate's whole way. Figures of a network come from
//! running its model file in the edge runtime, never from the training framework. This module does
//! not talk to the coordinator: the session hands it tasks and takes outcomes.

mod evaluate;
mod gate;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use edgesmith_common::spec::{DataSpec, StudySpec, TeacherSource, TrainWork, Workload};
use edgesmith_common::{
    ArtifactHash, DeviceInfo, Figures, NetworkReport, Purpose, RungReport, Seed, StudyName,
    TrainedTrial, TrialNumber,
};
use edgesmith_edge_runtime::Model;
use edgesmith_search_space::{Candidate, DataShape, Genotype, Plan, Precision, Space};

pub use self::gate::{Busy, Quiet, QuietGate};
use crate::compress::{prune, quantize};
use crate::data::{Dataset, ImageSet, Views};
use crate::export::{float_model, safetensors};
use crate::network::Weights;
use crate::probe;
use crate::session::{AttemptContext, AttemptError, Outcome, TaskExecutor, TaskKind, TaskWork};
use crate::table::Tables;
use crate::train::{
    self, Checkpoint, Moments, SoftTargets, TrainDevice, TrainError, TrainRequest, Trained,
};

/// Images that activations are calibrated on.
const CALIBRATION_IMAGES: usize = 256;

/// The real executor.
pub struct Pipeline {
    /// `None` on workers that only measure.
    device: Option<TrainDevice>,
    info: DeviceInfo,
    data_root: PathBuf,
    gate: QuietGate,
    /// Data sets are decoded once per process. The last one stays: studies come one at a time.
    dataset: Mutex<Option<(DatasetKey, Arc<Dataset>)>>,
    tables: Tables,
    soft_targets: Mutex<HashMap<ArtifactHash, Arc<SoftTargets>>>,
}

/// What a decoded data set depends on.
type DatasetKey = (DataSpec, DataShape, Seed);

impl Pipeline {
    /// A pipeline that trains on `device` (`None`: only measures) and measures as `info`. Relative
    /// data paths of studies start from `data_root`.
    pub fn new(device: Option<TrainDevice>, info: DeviceInfo, data_root: PathBuf) -> Self {
        Self {
            device,
            info,
            tables: Tables::new(data_root.clone()),
            data_root,
            gate: QuietGate::default(),
            dataset: Mutex::new(None),
            soft_targets: Mutex::default(),
        }
    }

    /// Trains and compresses one candidate: initialise, train with the teacher's soft targets,
    /// prune, fine-tune, quantize, write the model file, and run that very file on validation and
    /// test images. Or only trains it on, from one rung to the next.
    fn train_trial(
        &self,
        study: &Study<'_>,
        trial: &Trial<'_>,
        context: &AttemptContext,
    ) -> Result<Outcome, AttemptError> {
        let Trial { number, genotype, .. } = *trial;
        let dataset = self.dataset(study)?;
        let candidate = study.work.space.decode(genotype);
        let plan = candidate.plan(study.work.space.data()).map_err(hopeless)?;
        let soft_targets = match candidate.recipe.distillation {
            Some(_) => Some(self.soft_targets(trial.soft_targets, context)?),
            None => None,
        };
        let start = match trial.checkpoint {
            // Written by a worker of another version, perhaps; others may read it.
            Some(hash) => Checkpoint::from_bytes(&context.fetch(hash)?)
                .map_err(|error| AttemptError::retryable(error.to_string()))?,
            None => {
                Checkpoint::fresh(Weights::init(&plan, study.seed.derive(Purpose::Weights(number))))
            }
        };
        let seconds_before = start.seconds;
        let busy = self.gate.busy();
        let started = Instant::now();
        let run = Run { pipeline: self, study, dataset: &dataset, context, busy: &busy };

        let epochs = study.work.training.epochs;
        let trained = run.train(Phase {
            name: "epoch",
            span: (0.0, if candidate.prunes(&plan) && trial.rung.is_none() { 0.65 } else { 0.9 }),
            plan: &plan,
            start,
            epochs,
            until: trial.rung.unwrap_or(epochs),
            learning_rate: study.work.training.learning_rate,
            shuffle: Purpose::Shuffle(number),
            teacher: candidate.recipe.distillation.zip(soft_targets.as_deref()),
        })?;
        let seconds = || seconds_before + started.elapsed().as_secs_f64();
        if let Some(epochs) = trial.rung {
            context.progress(0.95, "evaluate");
            let model = float_model(&plan, &trained.weights, &dataset.normalization);
            let model = Model::from_bytes(&model.to_bytes()).map_err(hopeless)?;
            let validation_accuracy = run.accuracy(&model, &dataset.validation)?;
            let seconds = seconds();
            drop(busy);
            let Trained { weights, moments, images_seen, .. } = trained;
            let checkpoint = Checkpoint { weights, moments, epochs, images_seen, seconds };
            return Ok(Outcome::RungReached(RungReport {
                epochs,
                validation_accuracy,
                checkpoint: context.put(checkpoint.to_bytes())?,
                images_seen,
                seconds,
            }));
        }
        let uncompressed_model = float_model(&plan, &trained.weights, &dataset.normalization);
        let uncompressed = run.report(&plan, Precision::Fp32, &uncompressed_model)?.0;

        let (plan, compressed) =
            self.compress(&run, &candidate, plan, trained, number, soft_targets.as_deref())?;
        let weights = compressed.weights;
        let model = match candidate.recipe.precision {
            Precision::Fp32 => float_model(&plan, &weights, &dataset.normalization),
            Precision::Int8 => {
                context.progress(0.92, "quantize");
                run.quantized_model(&plan, &weights)?
            }
        };
        context.progress(0.95, "evaluate");
        let (report, bytes) = run.report(&plan, candidate.recipe.precision, &model)?;
        let seconds = seconds();
        drop(busy);
        let metadata = [("study", study.name.to_string()), ("trial", number.to_string())];
        let weights = safetensors::to_bytes(&weights, &metadata);
        Ok(Outcome::TrialTrained(TrainedTrial {
            compressed: report,
            uncompressed,
            model: context.put(bytes)?,
            weights: context.put(weights)?,
            images_seen: compressed.images_seen,
            seconds,
        }))
    }

    /// Prunes and fine-tunes; gives back what came in where the recipe removes nothing.
    fn compress(
        &self,
        run: &Run<'_>,
        candidate: &Candidate,
        plan: Plan,
        trained: Trained,
        number: TrialNumber,
        soft_targets: Option<&SoftTargets>,
    ) -> Result<(Plan, Trained), AttemptError> {
        if !candidate.prunes(&plan) {
            return Ok((plan, trained));
        }
        let (plan, weights) = prune(&plan, &trained.weights, &candidate.recipe.prune);
        if run.study.work.training.fine_tune_epochs == 0 {
            return Ok((plan, Trained { weights, ..trained }));
        }
        let mut tuned = run.train(Phase {
            name: "fine-tune epoch",
            span: (0.65, 0.9),
            plan: &plan,
            start: Checkpoint::fresh(weights),
            epochs: run.study.work.training.fine_tune_epochs,
            until: run.study.work.training.fine_tune_epochs,
            learning_rate: run.study.work.training.fine_tune_learning_rate,
            shuffle: Purpose::FineTune(number),
            teacher: candidate.recipe.distillation.zip(soft_targets),
        })?;
        tuned.images_seen += trained.images_seen;
        Ok((plan, tuned))
    }

    /// Trains the teacher, or takes its weights from a file, and computes its soft targets once for
    /// every view of every training image.
    fn train_teacher(
        &self,
        study: &Study<'_>,
        given: Option<ArtifactHash>,
        context: &AttemptContext,
    ) -> Result<(TrainedTrial, ArtifactHash), AttemptError> {
        let teacher = study
            .work
            .teacher
            .as_ref()
            .ok_or_else(|| AttemptError::hopeless("the study has no teacher to train"))?;
        let dataset = self.dataset(study)?;
        let plan = Plan::lower(&teacher.architecture, study.work.space.data()).map_err(hopeless)?;
        let given = match given {
            Some(hash) => {
                let weights = safetensors::from_bytes(&context.fetch(hash)?).map_err(hopeless)?;
                weights.check(&plan).map_err(hopeless)?;
                Some(weights)
            }
            None => None,
        };
        let busy = self.gate.busy();
        let started = Instant::now();
        let run = Run { pipeline: self, study, dataset: &dataset, context, busy: &busy };
        let trained = match (given, &teacher.source) {
            (Some(weights), _) => {
                Trained { weights, moments: Moments::new(), images_seen: 0, losses: Vec::new() }
            }
            (None, TeacherSource::Train { epochs }) => run.train(Phase {
                name: "epoch",
                span: (0.0, 0.8),
                plan: &plan,
                start: Checkpoint::fresh(Weights::init(
                    &plan,
                    study.seed.derive(Purpose::TeacherWeights),
                )),
                epochs: *epochs,
                until: *epochs,
                learning_rate: study.work.training.learning_rate,
                shuffle: Purpose::TeacherShuffle,
                teacher: None,
            })?,
            (None, TeacherSource::File { path }) => {
                let text = format!("the teacher's weights {path} were not uploaded with the study");
                return Err(AttemptError::hopeless(text));
            }
        };
        context.progress(0.8, "soft targets");
        let views = Views::new(&study.work.training.augmentation, study.seed);
        let targets = train::soft_targets(
            &plan,
            &trained.weights,
            &dataset.train,
            &views,
            &dataset.normalization,
            self.training_device()?,
        );
        context.progress(0.95, "evaluate");
        let model = float_model(&plan, &trained.weights, &dataset.normalization);
        let (report, bytes) = run.report(&plan, Precision::Fp32, &model)?;
        let seconds = started.elapsed().as_secs_f64();
        drop(busy);
        let metadata = [("study", study.name.to_string()), ("role", "teacher".to_owned())];
        let weights = safetensors::to_bytes(&trained.weights, &metadata);
        let soft_targets = context.put(targets.to_bytes())?;
        let trained = TrainedTrial {
            compressed: report.clone(),
            uncompressed: report,
            model: context.put(bytes)?,
            weights: context.put(weights)?,
            images_seen: trained.images_seen,
            seconds,
        };
        Ok((trained, soft_targets))
    }

    /// Times a model file on this machine while nothing else of this process computes.
    fn measure(
        &self,
        study: &Study<'_>,
        model: ArtifactHash,
        context: &AttemptContext,
    ) -> Result<edgesmith_common::Measurement, AttemptError> {
        let model = Model::from_bytes(&context.fetch(model)?).map_err(hopeless)?;
        context.progress(0.0, "wait for quiet");
        let _quiet = self.gate.quiet();
        context.progress(0.1, "measure");
        probe::measure(&model, &study.work.measurement, &self.info).map_err(AttemptError::retryable)
    }

    fn dataset(&self, study: &Study<'_>) -> Result<Arc<Dataset>, AttemptError> {
        let key = (study.work.data.clone(), study.work.space.data(), study.seed);
        let mut slot = self.dataset.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cached, dataset)) = &*slot
            && *cached == key
        {
            return Ok(Arc::clone(dataset));
        }
        // Another worker may have the files that are missing here.
        let dataset =
            Dataset::load(&study.work.data, study.work.space.data(), study.seed, &self.data_root)
                .map_err(AttemptError::retryable)?;
        let dataset = Arc::new(dataset);
        *slot = Some((key, Arc::clone(&dataset)));
        Ok(dataset)
    }

    fn soft_targets(
        &self,
        hash: Option<ArtifactHash>,
        context: &AttemptContext,
    ) -> Result<Arc<SoftTargets>, AttemptError> {
        let hash = hash.ok_or_else(|| {
            AttemptError::hopeless("the candidate distills, but there are no soft targets")
        })?;
        let mut cache = self.soft_targets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(targets) = cache.get(&hash) {
            return Ok(Arc::clone(targets));
        }
        let targets = SoftTargets::from_bytes(&context.fetch(hash)?).map_err(hopeless)?;
        let targets = Arc::new(targets);
        // One study's at a time: they are as large as the data.
        cache.clear();
        cache.insert(hash, Arc::clone(&targets));
        Ok(targets)
    }

    /// What the study's table says of a candidate.
    fn look_up(&self, spec: &StudySpec, genotype: &Genotype) -> Result<Figures, AttemptError> {
        let (Workload::Table(table), Space::Cell(space)) = (&spec.work, &spec.space) else {
            return Err(AttemptError::hopeless("this study names no table"));
        };
        // Another worker may have the file that is missing here.
        let rows = self.tables.get(table).map_err(AttemptError::retryable)?;
        rows.look_up(table, &space.decode(genotype), &spec.devices()).map_err(hopeless)
    }

    /// The machine that this pipeline measures as.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn training_device(&self) -> Result<TrainDevice, AttemptError> {
        self.device
            .ok_or_else(|| AttemptError::retryable("this worker only measures, it cannot train"))
    }
}

impl TaskExecutor for Pipeline {
    fn execute(&self, task: TaskWork, context: &AttemptContext) -> Result<Outcome, AttemptError> {
        if let TaskKind::LookUpTrial { genotype, .. } = &task.kind {
            return self.look_up(&task.spec, genotype).map(Outcome::LookedUp);
        }
        let study = &Study::of(&task.spec)?;
        match &task.kind {
            TaskKind::LookUpTrial { .. } => unreachable!("answered above"),
            TaskKind::TrainTeacher { weights } => {
                let (trained, soft_targets) = self.train_teacher(study, *weights, context)?;
                Ok(Outcome::TeacherTrained { trained, soft_targets })
            }
            TaskKind::TrainTrial { number, genotype, soft_targets, rung, checkpoint } => {
                let trial = Trial {
                    number: *number,
                    genotype,
                    soft_targets: *soft_targets,
                    rung: *rung,
                    checkpoint: *checkpoint,
                };
                self.train_trial(study, &trial, context)
            }
            TaskKind::MeasureModel { model, .. } => {
                self.measure(study, *model, context).map(Outcome::Measured)
            }
        }
    }
}

/// What a training task needs to know of its study.
struct Study<'a> {
    name: &'a StudyName,
    seed: Seed,
    work: &'a TrainWork,
}

impl<'a> Study<'a> {
    fn of(spec: &'a StudySpec) -> Result<Self, AttemptError> {
        let work =
            spec.training().ok_or_else(|| AttemptError::hopeless("this study trains nothing"))?;
        Ok(Self { name: &spec.name, seed: spec.seed, work })
    }
}

/// A candidate to train, from where, and how far.
struct Trial<'a> {
    number: TrialNumber,
    genotype: &'a Genotype,
    soft_targets: Option<ArtifactHash>,
    /// `None`: to the end.
    rung: Option<u32>,
    checkpoint: Option<ArtifactHash>,
}

/// One training run within a task.
struct Phase<'a> {
    /// What one epoch is called in progress.
    name: &'static str,
    /// Which part of the attempt's progress it is.
    span: (f64, f64),
    plan: &'a Plan,
    start: Checkpoint,
    /// Of the whole training.
    epochs: u32,
    /// Where this run stops.
    until: u32,
    learning_rate: f64,
    shuffle: Purpose,
    teacher: Option<(edgesmith_search_space::Distillation, &'a SoftTargets)>,
}

/// What every step of one attempt needs.
struct Run<'a> {
    pipeline: &'a Pipeline,
    study: &'a Study<'a>,
    dataset: &'a Dataset,
    context: &'a AttemptContext,
    busy: &'a Busy<'a>,
}

impl Run<'_> {
    fn train(&self, phase: Phase<'_>) -> Result<Trained, AttemptError> {
        let views = Views::new(&self.study.work.training.augmentation, self.study.seed);
        let begun = phase.start.epochs;
        let request = TrainRequest {
            plan: phase.plan,
            start: phase.start,
            dataset: self.dataset,
            views: &views,
            spec: &self.study.work.training,
            epochs: phase.epochs,
            until: phase.until,
            learning_rate: phase.learning_rate,
            shuffle_seed: self.study.seed.derive(phase.shuffle),
            distillation: phase.teacher,
            device: self.pipeline.training_device()?,
        };
        let (from, to) = phase.span;
        train::train(request, &mut |progress| {
            let stage = format!("{} {}/{}", phase.name, progress.epoch + 1, phase.epochs);
            let all = f64::from(phase.until - begun) * f64::from(progress.steps);
            let done = f64::from(progress.epoch - begun) * f64::from(progress.steps)
                + f64::from(progress.step);
            self.context.progress(from + (to - from) * (done + 1.0) / all, &stage);
            self.pause_or_stop()
        })
        .map_err(training_failed)
    }

    /// Figures of a model as its file runs in the edge runtime, and that file.
    fn report(
        &self,
        plan: &Plan,
        precision: Precision,
        model: &Model,
    ) -> Result<(NetworkReport, Vec<u8>), AttemptError> {
        let bytes = model.to_bytes();
        // Read back: what is evaluated is what the file says, not what is in memory.
        let model = Model::from_bytes(&bytes).map_err(hopeless)?;
        let report = NetworkReport {
            validation_accuracy: self.accuracy(&model, &self.dataset.validation)?,
            test_accuracy: self.accuracy(&model, &self.dataset.test)?,
            model_bytes: bytes.len() as u64,
            cost: plan.cost(precision),
        };
        Ok((report, bytes))
    }

    /// Share of images that a model classifies right in the edge runtime.
    fn accuracy(&self, model: &Model, set: &ImageSet) -> Result<f64, AttemptError> {
        evaluate::accuracy(model, set, &mut || self.pause_or_stop())
            .map_err(|error| error.map_or_else(AttemptError::stopped, hopeless))
    }

    fn quantized_model(&self, plan: &Plan, weights: &Weights) -> Result<Model, AttemptError> {
        let images = self.dataset.train.resized(plan.input().height as usize);
        let step = images.len().div_ceil(CALIBRATION_IMAGES).max(1);
        let sample = (0..images.len()).step_by(step).map(|i| images.image(i));
        quantize(plan, weights, &self.dataset.normalization, sample).map_err(hopeless)
    }

    /// Stands aside for measurements; breaks where the attempt was stopped.
    fn pause_or_stop(&self) -> ControlFlow<()> {
        self.busy.pause_point();
        if self.context.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Another attempt would go the same way.
fn hopeless(error: impl std::fmt::Display) -> AttemptError {
    AttemptError::hopeless(error)
}

/// A training with the same seed fails the same way, unless it was told to stop.
fn training_failed(error: TrainError) -> AttemptError {
    match error {
        TrainError::Stopped => AttemptError::stopped(),
        // A worker of another version left it; one of that version can go on.
        error @ TrainError::Checkpoint { .. } => AttemptError::retryable(error.to_string()),
        other => hopeless(other),
    }
}
