//! Runs one task from lease to outcome: trains and compresses a network, evaluates the model file
//! that would ship, or times it.
//!
//! `Pipeline::train_trial` shows all steps of a candidate. Figures of a network come from running
//! its model file in the edge runtime, never from the training framework. This module does not talk
//! to the coordinator: the session gives it tasks and takes the outcomes.

mod compress;
mod gate;
mod inputs;
mod memory;
mod notes;
mod original;
mod run;
mod slower;
mod start;
mod teacher;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use edgesmith_common::spec::{StudySpec, TeacherSource, Workload};
use edgesmith_common::{
    ArtifactHash, AttemptError, DataReport, DeviceInfo, Donor, EngineName, Figures, Measurement,
    Metric, Outcome, Purpose, RungReport, Split, StageReport, Target, TrainedTrial, TrialNumber,
    Work,
};
use edgesmith_data::{DataError, ImageSet};
use edgesmith_edge_runtime::Model;
use edgesmith_graph::{Graph, Weights};
use edgesmith_search_space::{
    Candidate, Cost, Design, Genotype, Head, Precision, Recipe, Shrink, Space,
};
use edgesmith_train::{Checkpoint, Cores, Moments, SoftTargets, TrainDevice, Trained, safetensors};

pub use self::gate::{Busy, Quiet, QuietGate};

use self::compress::{Compressed, Epochs, First, Multiples, Passes};
use self::inputs::{Data, DataKey};
use self::memory::TrainingMemory;
use self::original::Originals;
use self::run::{Evaluated, Pass, Phase, Run, Study, Trial, given_weights, read_soft_targets};
use self::slower::{Timers, compare};
use self::start::Start;
use self::teacher::{Trainings, features_of_first, given_network};
use crate::export::float_model;
use crate::inherit::inherit;
use crate::lru::Lru;
use crate::probe::{self, ProbeError};
use crate::proxy;
use crate::session::{AttemptContext, TaskExecutor, TaskWork};
use crate::table::{TableError, Tables};

/// Default limit of the data sets that are kept between tasks, bytes.
pub const DATA_MEMORY: u64 = 4 << 30;

/// The executor that really trains and measures.
pub struct Pipeline {
    /// `None` on workers that do not train.
    device: Option<TrainDevice>,
    cores: Cores,
    info: DeviceInfo,
    data_root: PathBuf,
    gate: QuietGate,
    memory: TrainingMemory,
    data: Lru<DataKey, Data>,
    tables: Tables,
    soft_targets: Lru<ArtifactHash, SoftTargets>,
    originals: Originals,
    multiples: Multiples,
}

impl Pipeline {
    /// A pipeline that trains on `device` (`None` if it does not train) with all `cores`.
    /// Measurements name the machine `info`. Relative data paths of studies start from `data_root`.
    pub fn new(
        device: Option<TrainDevice>,
        cores: Cores,
        info: DeviceInfo,
        data_root: PathBuf,
    ) -> Self {
        Self {
            device,
            cores,
            info,
            tables: Tables::new(data_root.clone(), DATA_MEMORY),
            data_root,
            gate: QuietGate::default(),
            memory: TrainingMemory::default(),
            data: Lru::new(DATA_MEMORY),
            soft_targets: Lru::new(DATA_MEMORY),
            originals: Originals::default(),
            multiples: Multiples::default(),
        }
    }

    /// Lets trainings use at most so many bytes together, data sets and soft targets not counted.
    /// Without this they are not limited.
    pub fn with_memory(self, limit: Option<u64>) -> Self {
        Self { memory: TrainingMemory::limited(limit), ..self }
    }

    /// Keeps data sets of up to this many bytes between tasks, and as many bytes of soft targets
    /// and of tables. The default is [`DATA_MEMORY`].
    pub fn with_data_memory(self, bytes: u64) -> Self {
        Self {
            tables: Tables::new(self.data_root.clone(), bytes),
            data: Lru::new(bytes),
            soft_targets: Lru::new(bytes),
            ..self
        }
    }

    /// Reads all of the study's data, and names every faulty file up to a number. They stay cached
    /// for the trainings that follow.
    fn check_data(
        &self,
        study: &Study<'_>,
        context: &AttemptContext,
    ) -> Result<DataReport, AttemptError> {
        let _busy = self.gate.busy();
        context.progress(0.0, "read");
        let data = self.data(study)?;
        let count = |set: &ImageSet| u32::try_from(set.len()).unwrap_or(u32::MAX);
        Ok(DataReport {
            train: count(&data.set.train),
            validation: count(&data.set.validation),
            test: count(&data.set.test),
            hash: Some(data.hash),
        })
    }

    /// Scores a candidate's network with the weights that its training would start from.
    fn score_trial(
        &self,
        study: &Study<'_>,
        number: TrialNumber,
        genotype: &Genotype,
        context: &AttemptContext,
    ) -> Result<f64, AttemptError> {
        let _busy = self.gate.busy();
        let screening = study.work.screening;
        let proxy = screening.map(|screening| screening.proxy).ok_or_else(|| {
            AttemptError::hopeless("the study names no proxy that scores candidates")
        })?;
        context.progress(0.0, "score");
        let data = self.data(study)?;
        let candidate = study.work.space.decode(genotype);
        let seed = study.seed.derive(Purpose::Weights(number));
        let Start { graph, weights } = self.start(study, &candidate.architecture, seed, context)?;
        Ok(proxy::score(proxy, &graph, &weights, &data.set))
    }

    /// Trains and compresses one candidate: initialises it, trains it with the teacher's soft
    /// targets, prunes, fine-tunes and quantizes it, writes the model file, and runs this file on
    /// the validation and test images. With a rung, it only trains from the checkpoint to that
    /// rung.
    fn train_trial(
        &self,
        study: &Study<'_>,
        trial: &Trial<'_>,
        context: &AttemptContext,
    ) -> Result<Outcome, AttemptError> {
        let Trial { number, genotype, .. } = *trial;
        let busy = self.gate.busy();
        let data = self.data(study)?;
        let dataset = &data.set;
        let candidate = study.work.space.decode(genotype);
        let seed = study.seed.derive(Purpose::Weights(number));
        let Start { graph, weights } = self.start(study, &candidate.architecture, seed, context)?;
        let recipe = &candidate.recipe;
        let soft_targets = if recipe.learns() {
            let (cache, given) = (&self.soft_targets, trial.soft_targets);
            Some(read_soft_targets(cache, study, dataset, given, context)?)
        } else {
            None
        };
        let start = match trial.checkpoint {
            // A worker of another version may have written the checkpoint, so another worker may be
            // able to read it.
            Some(hash) => Checkpoint::from_bytes(&context.fetch(hash)?)
                .map_err(|error| AttemptError::retryable(error.to_string()))?,
            None => Checkpoint::fresh(match trial.donor {
                Some(donor) => inherited(study, donor, &graph, seed, context)?,
                None => weights,
            }),
        };
        let seconds_before = start.seconds;
        let started = Instant::now();
        let device = self.training_device()?;
        let class_names = self.class_names(study)?;
        let (cores, memory, busy) = (&self.cores, &self.memory, &busy);
        let (info, multiples) = (&self.info, &self.multiples);
        let run = Run {
            device,
            cores,
            study,
            dataset,
            class_names,
            memory,
            context,
            busy,
            info,
            multiples,
        };

        let epochs = match trial.donor {
            Some(_) => study.work.training.inherit_epochs,
            None => study.work.training.epochs,
        };
        let first = if is_trained(&candidate) { trial.rung.unwrap_or(epochs) } else { 0 };
        let fine_tune = study.work.training.fine_tune_epochs;
        let mut spans = match trial.rung {
            Some(_) => Epochs::of(first, &Recipe::default(), &graph, fine_tune),
            None => Epochs::of(first, recipe, &graph, fine_tune),
        };
        let phase = Phase {
            name: "epoch",
            span: spans.next(first),
            graph: &graph,
            start,
            epochs,
            until: trial.rung.unwrap_or(epochs),
            learning_rate: study.work.training.learning_rate,
            skipped: 0,
            shrink: (Shrink::None, 0.0),
            ties: false,
            first: head_alone(study),
            keeps_statistics: study.work.model.is_some(),
            shuffle: Purpose::Shuffle(number),
            teacher: recipe.distillation().zip(soft_targets.as_deref()),
            quantization: None,
            masks: None,
        };
        let (trained, early) = if is_trained(&candidate) {
            let points = if trial.rung.is_none() { First::points(recipe) } else { Vec::new() };
            run.train_with_early(phase, &points)?
        } else {
            (untrained(phase.start.weights), First::default())
        };
        let seconds = || seconds_before + started.elapsed().as_secs_f64();
        if let Some(epochs) = trial.rung {
            context.progress(0.95, "evaluate");
            let model = run.model(&graph, &trained.weights)?;
            let model = Model::from_bytes(&model.to_bytes()).map_err(hopeless)?;
            let mut figures = run.evaluate(&model, &dataset.validation, Split::Validation)?;
            let seconds = seconds();
            let Trained { weights, moments, images_seen, .. } = trained;
            note_spent(&mut figures, images_seen, seconds);
            let checkpoint = Checkpoint { weights, moments, epochs, images_seen, seconds };
            let checkpoint = Some(context.put(checkpoint.to_bytes())?);
            return Ok(Outcome::RungReached(RungReport { epochs, figures, checkpoint }));
        }
        let uncompressed_model = run.model(&graph, &trained.weights)?;
        let uncompressed = run.report(&Cost::of(&graph, Precision::Fp32), &uncompressed_model)?;

        let first = Pass {
            name: if is_trained(&candidate) { StageReport::TRAINED } else { StageReport::ORIGINAL }
                .to_owned(),
            distilled: is_trained(&candidate) && recipe.distillation().is_some(),
        };
        let soft_targets = soft_targets.as_deref();
        let passes = Passes::new(&run, number, graph, trained, soft_targets, spans, early);
        let compressed = passes.carry_out(recipe, uncompressed.stage(first))?;
        let Compressed { graph, weights, images_seen, model, cost, stages } = compressed;
        context.progress(0.95, "evaluate");
        let what = ("trial", number.to_string());
        let hash = study.space.canonical_hash(genotype).ok();
        // If the recipe changed nothing, this network has already been run.
        let same = model.to_bytes() == uncompressed.bytes;
        let model = run.noted(model, what.clone(), hash, [None, source_of(study)])?;
        let evaluated = if same {
            let (figures, classes) = (uncompressed.figures.clone(), uncompressed.classes);
            Evaluated { figures, classes, bytes: model.to_bytes() }
        } else {
            run.report(&cost, &model)?
        };
        let stages = stages.shipped(&evaluated);
        let Evaluated { mut figures, bytes, .. } = evaluated;
        note_spent(&mut figures, images_seen, seconds());
        // The structure is in the file if it does not follow from the candidate alone.
        let follows = study.work.model.is_none()
            && candidate.pruned_graph(study.work.space.data()).is_ok_and(|pruned| pruned == graph);
        let structure = (!follows).then_some(&graph);
        let weights = run.weights_file(structure, &weights, &dataset.normalization, what);
        Ok(Outcome::TrialTrained(TrainedTrial {
            compressed: figures,
            uncompressed: uncompressed.figures,
            model: context.put(bytes)?,
            weights: context.put(weights)?,
            stages,
        }))
    }

    /// Trains the teacher or reads its weights from an artifact. Then computes its soft targets,
    /// once for every view of every training image.
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
        let busy = self.gate.busy();
        let data = self.data(study)?;
        let dataset = &data.set;
        let seed = study.seed.derive(Purpose::TeacherWeights);
        let class_names = self.class_names(study)?;
        // The files of its weights and of its network.
        let (Start { graph, weights }, files) = match &teacher.source {
            TeacherSource::Network(model) => {
                let start =
                    given_network(model, &teacher.architecture, &class_names, (study, context));
                (start?, [None, Some(model.file.file)])
            }
            TeacherSource::Train { .. } | TeacherSource::Itself | TeacherSource::File { .. } => (
                self.start(study, &teacher.architecture, seed, context)?,
                [given, source_of(study)],
            ),
        };
        let given = match given {
            Some(hash) => {
                let weights = study.given(hash, "the teacher's weights", context)?;
                Some(given_weights(&weights, &graph)?)
            }
            None => None,
        };
        let started = Instant::now();
        let device = self.training_device()?;
        let (cores, memory, busy) = (&self.cores, &self.memory, &busy);
        let (info, multiples) = (&self.info, &self.multiples);
        let run = Run {
            device,
            cores,
            study,
            dataset,
            class_names,
            memory,
            context,
            busy,
            info,
            multiples,
        };
        let mut trainings = Trainings::of(teacher);
        // A teacher from elsewhere expects images that are normalised as there.
        let normalization = match (&given, &teacher.source) {
            (_, TeacherSource::Network(model)) => inputs::normalization(&model.read_pixels()),
            (Some((_, Some(normalization))), _) => normalization.clone(),
            // Weights from a file that does not say what they read for a pixel read what the
            // study's own network does.
            (Some((_, None)), _) => match &study.work.model {
                Some(model) => inputs::normalization(&model.pixels),
                None => dataset.normalization.clone(),
            },
            (None, _) => dataset.normalization.clone(),
        };
        let trained = match (given, &teacher.source) {
            (Some((weights, _)), _) => untrained(weights),
            (None, TeacherSource::Itself | TeacherSource::Network(_)) => untrained(weights),
            (None, TeacherSource::Train { epochs }) => run.train(Phase {
                name: "epoch",
                span: trainings.next(),
                graph: &graph,
                start: Checkpoint::fresh(weights),
                epochs: *epochs,
                until: *epochs,
                learning_rate: study.work.training.learning_rate,
                skipped: 0,
                shrink: (Shrink::None, 0.0),
                ties: false,
                first: head_alone(study),
                keeps_statistics: study.work.model.is_some(),
                shuffle: Purpose::TeacherShuffle,
                teacher: None,
                quantization: None,
                masks: None,
            })?,
            (None, TeacherSource::File { path }) => {
                let text = format!("the teacher's weights {path} were not uploaded with the study");
                return Err(AttemptError::hopeless(text));
            }
        };
        context.progress(trainings.progress(), "soft targets");
        let features = features_of_first(study, teacher);
        let targets = run.soft_targets(&graph, &trained.weights, &normalization, &features)?;
        let targets = self.passed_on(&run, teacher, targets, &mut trainings)?;
        context.progress(0.95, "evaluate");
        let mut model = float_model(&graph, &trained.weights, &normalization).map_err(hopeless)?;
        model.notes.classes.clone_from(&run.class_names);
        let what = ("network", "teacher".to_owned());
        let model = run.noted(model, what, None, files)?;
        let report = run.report(&Cost::of(&graph, Precision::Fp32), &model)?;
        let Evaluated { figures: uncompressed, bytes, .. } = report;
        let mut compressed = uncompressed.clone();
        note_spent(&mut compressed, trained.images_seen, started.elapsed().as_secs_f64());
        let what = ("role", "teacher".to_owned());
        let own = study.work.model.is_some() || matches!(teacher.source, TeacherSource::Network(_));
        let structure = own.then_some(&graph);
        let weights = run.weights_file(structure, &trained.weights, &normalization, what);
        let soft_targets = context.put(targets.to_bytes())?;
        let trained = TrainedTrial {
            compressed,
            uncompressed,
            model: context.put(bytes)?,
            weights: context.put(weights)?,
            stages: Vec::new(),
        };
        Ok((trained, soft_targets))
    }

    /// Times a model file on this machine while nothing else in this process computes. For a trial
    /// of a study on a user's network, that network is timed, too; for one with layers in integers,
    /// the same network in fp32.
    fn measure(
        &self,
        study: &Study<'_>,
        model: ArtifactHash,
        number: Option<TrialNumber>,
        target: &Target,
        context: &AttemptContext,
    ) -> Result<Measurement, AttemptError> {
        if target.engine != EngineName::edge_runtime() {
            let text = format!("this worker does not run models with {}", target.engine);
            return Err(AttemptError::retryable(text));
        }
        let busy = self.gate.busy();
        // Another worker's engine may read a model that this one cannot.
        let model = Model::from_bytes(&context.fetch(model)?).map_err(AttemptError::retryable)?;
        drop(busy);
        let stopped = || context.is_stopped();
        // Other tasks compute between two timings of a model.
        let quiet = || {
            context.progress(0.0, "wait for quiet");
            let quiet = self.gate.quiet(stopped)?;
            context.progress(0.1, "measure");
            Some(quiet)
        };
        let spec = &study.work.measurement;
        let time = Timers {
            whole: |model: &Model| {
                probe::measure(model, spec, target.threads, &self.info, quiet, stopped)
            },
            nodes: |model: &Model| probe::node_times(model, quiet, stopped),
        };
        let failed = |error: ProbeError| match error {
            ProbeError::Stopped => AttemptError::stopped(),
            other => AttemptError::retryable(other),
        };
        if number.is_none() {
            return (time.whole)(&model).map_err(failed);
        }
        let around = (&self.gate, context);
        let original = self.originals.timing(study, target.threads, around, time.whole);
        let original = original.map_err(failed)?;
        let measured = Measurement { original, ..(time.whole)(&model).map_err(failed)? };
        compare(study, &model, measured, around, &time).map_err(failed)
    }

    /// The study's data, if they are those that it began with.
    fn data(&self, study: &Study<'_>) -> Result<Arc<Data>, AttemptError> {
        let (spec, shape) = (&study.work.data, study.work.space.data());
        let failed = |error: DataError| {
            let reason = match &study.data {
                Some(begun_with) => error.in_begun_study(begun_with),
                None => error.to_string(),
            };
            AttemptError { fault: error.fault(), reason }
        };
        let pixels = study.work.model.as_ref().map(|model| model.read_pixels());
        let read =
            inputs::dataset(&self.data, spec, shape, pixels.as_ref(), study.seed, &self.data_root);
        let data = read.map_err(failed)?;
        match study.data {
            Some(begun_with) if begun_with != data.hash => {
                let paths = spec.source.paths().into_iter();
                let paths = paths.map(|path| self.data_root.join(path)).collect();
                let is = data.hash;
                Err(failed(DataError::Differ { paths, is, begun_with }))
            }
            Some(_) | None => Ok(data),
        }
    }

    /// What the training of a network starts from.
    fn start(
        &self,
        study: &Study<'_>,
        design: &Design,
        seed: [u8; 32],
        context: &AttemptContext,
    ) -> Result<Start, AttemptError> {
        let named = study.work.model.as_ref().is_some_and(|model| !model.file.classes.is_empty());
        let classes = if named { self.class_names(study)? } else { Vec::new() };
        Start::of(study, design, &classes, seed, context)
    }

    /// The names of the study's classes, as the data on this machine give them; else those of the
    /// user's network, if its last layer stays.
    fn class_names(&self, study: &Study<'_>) -> Result<Vec<String>, AttemptError> {
        let names = edgesmith_data::class_names(&study.work.data.source, &self.data_root)
            .map_err(AttemptError::retryable)?;
        let (Some(space), Some(model)) = (study.work.space.model(), &study.work.model) else {
            return Ok(names);
        };
        let own = &model.file.classes;
        let kept = space.definition().head == Head::Kept
            && own.len() == study.work.space.data().classes as usize;
        Ok(if names.is_empty() && kept { own.clone() } else { names })
    }

    /// Looks a candidate up in the study's table, or the shorter training of a rung.
    fn look_up(
        &self,
        spec: &StudySpec,
        genotype: &Genotype,
        rung: Option<u32>,
    ) -> Result<Outcome, AttemptError> {
        let (Workload::Table(table), Space::Cell(space)) = (&spec.work, &spec.space) else {
            return Err(AttemptError::hopeless("this study names no table"));
        };
        let failed =
            |error: TableError| AttemptError { fault: error.fault(), reason: error.to_string() };
        let rows = self.tables.get(table).map_err(failed)?;
        let cell = space.decode(genotype);
        let Some(epochs) = rung else {
            let figures = rows.look_up(table, &cell, &spec.targets());
            return figures.map(Outcome::LookedUp).map_err(failed);
        };
        rows.look_up_rung(table, &cell, epochs).map(Outcome::RungReached).map_err(failed)
    }

    /// The engines that it runs models with.
    pub fn engines(&self) -> BTreeSet<EngineName> {
        [EngineName::edge_runtime()].into()
    }

    /// The machine that this pipeline measures as.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn training_device(&self) -> Result<TrainDevice, AttemptError> {
        self.device.ok_or_else(|| AttemptError::of_worker("this worker has no device to train on"))
    }
}

impl TaskExecutor for Pipeline {
    fn execute(&self, task: TaskWork, context: &AttemptContext) -> Result<Outcome, AttemptError> {
        if let Work::LookUpTrial { genotype, rung, .. } = &task.work {
            return self.look_up(&task.spec, genotype, *rung);
        }
        let study = &Study::of(&task.spec, task.data)?;
        match &task.work {
            Work::LookUpTrial { .. } => unreachable!("answered above"),
            Work::CheckData => self.check_data(study, context).map(Outcome::DataChecked),
            Work::TrainTeacher { weights } => {
                let (trained, soft_targets) = self.train_teacher(study, *weights, context)?;
                Ok(Outcome::TeacherTrained { trained, soft_targets })
            }
            Work::ScoreTrial { number, genotype } => {
                self.score_trial(study, *number, genotype, context).map(Outcome::Scored)
            }
            Work::TrainTrial { number, genotype, soft_targets, rung, checkpoint, donor } => {
                let trial = Trial {
                    donor: donor.as_ref(),
                    number: *number,
                    genotype,
                    soft_targets: *soft_targets,
                    rung: *rung,
                    checkpoint: *checkpoint,
                };
                self.train_trial(study, &trial, context)
            }
            Work::MeasureModel { model, number, target } => {
                self.measure(study, *model, *number, target, context).map(Outcome::Measured)
            }
        }
    }
}

/// Whether a candidate is trained, or only compressed and measured.
fn is_trained(candidate: &Candidate) -> bool {
    match &candidate.architecture {
        Design::Staged(_) => true,
        Design::Model(variant) => variant.trained,
    }
}

/// The parameters of a new last layer, if they learn alone in the first epochs.
fn head_alone<'a>(study: &Study<'a>) -> Option<(&'a [String], u32)> {
    let (space, model) = (study.work.space.model()?, study.work.model.as_ref()?);
    (model.head_epochs > 0).then_some((&space.base().fresh[..], model.head_epochs))
}

/// Weights that are used as they are.
fn untrained(weights: Weights) -> Trained {
    Trained {
        weights,
        moments: Moments::new(),
        quantization: None,
        images_seen: 0,
        losses: Vec::new(),
    }
}

/// Adds the cost of the training.
fn note_spent(figures: &mut Figures, images_seen: u64, seconds: f64) {
    figures.set(Metric::IMAGES_SEEN.whole(), images_seen as f64);
    figures.set(Metric::TRAINING_SECONDS.whole(), seconds);
}

/// Weights to start from, inherited from a related trial.
fn inherited(
    study: &Study<'_>,
    donor: &Donor,
    graph: &Graph,
    seed: [u8; 32],
    context: &AttemptContext,
) -> Result<Weights, AttemptError> {
    let space = &study.work.space;
    let (weights, notes) = safetensors::read(&context.fetch(donor.weights)?).map_err(hopeless)?;
    let donor_graph = match safetensors::network(&notes) {
        Some(graph) => graph.map_err(hopeless)?,
        None => space.decode(&donor.genotype).pruned_graph(space.data()).map_err(hopeless)?,
    };
    weights.check(&donor_graph).map_err(hopeless)?;
    Ok(inherit(graph, &donor_graph, &weights, seed))
}

/// The file that the study's network was read from.
fn source_of(study: &Study<'_>) -> Option<ArtifactHash> {
    study.work.model.as_ref().map(|own| own.file.file)
}

/// An error that another attempt would repeat.
fn hopeless(error: impl std::fmt::Display) -> AttemptError {
    AttemptError::hopeless(error)
}
