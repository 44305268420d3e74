//! Converts frozen records to the core's: upcasts each to the newest version of its kind, then
//! converts that.

use edgesmith_common::spec::Budget;
use edgesmith_common::{
    ArtifactHash, AttemptId, ClassCount, DataReport, DeviceInfo, EngineName, Figures, Fp32Timing,
    LayerTimes, Measurement, Metric, Noise, RungReport, Scope, ScopedMetric, Split, StageReport,
    StudySpec, Target, TaskId, TrainedTrial, TrialNumber, Waiting, WorkerId,
};
use edgesmith_search_space::Choice;

use super::choices::RecordedChoices;
use super::{FormatError, Frame, v1, v2, v3, v4};
use crate::core::{AttemptEnding, Record, StagesKey, StudyState, TrialEnding};

/// What is wrong with a record that can be decoded, in words.
type Problem = String;

/// Converts a record of layout 1.
pub fn thaw_v1(record: v1::Record, choices: &mut RecordedChoices) -> Result<Record, Problem> {
    match record {
        v1::Record::StudyCreated(record) => thaw_study(record.upcast()?, choices),
        v1::Record::DataCheckWanted(v1::DataCheckWanted { study, task }) => {
            Ok(Record::DataCheckWanted { study: name(&study)?, task: TaskId(task) })
        }
        v1::Record::DataChecked(record) => thaw_data_checked(record.upcast()),
        v1::Record::DataDamaged(v1::DataDamaged { study, reason }) => {
            Ok(Record::DataDamaged { study: name(&study)?, reason })
        }
        v1::Record::DataTrusted(v1::DataTrusted { study }) => {
            Ok(Record::DataTrusted { study: name(&study)? })
        }
        v1::Record::TeacherRetried(v1::TeacherRetried { study, task }) => {
            Ok(Record::TeacherRetried { study: name(&study)?, task: TaskId(task) })
        }
        v1::Record::TrialRetried(v1::TrialRetried { study, number, task, measure }) => {
            Ok(Record::TrialRetried {
                study: name(&study)?,
                number: TrialNumber(number),
                task: task.map(TaskId),
                measure: flat_measure_tasks(measure)?,
            })
        }
        v1::Record::TeacherMeasuredAgain(v1::TeacherMeasuredAgain { study, measure }) => {
            let (study, measure) = (name(&study)?, flat_measure_tasks(measure)?);
            Ok(Record::TeacherMeasuredAgain { study, measure })
        }
        v1::Record::BudgetExtended(record) => {
            let v1::BudgetExtended { study, trials, simulated_seconds, max_attempts, .. } = record;
            let budget = Budget { trials, simulated_seconds, max_attempts, hours: record.hours };
            Ok(Record::BudgetExtended { study: name(&study)?, budget, source: record.source })
        }
        v1::Record::StudyRenamed(v1::StudyRenamed { study, name: new }) => {
            choices.rename(&study, &new);
            Ok(Record::StudyRenamed { study: name(&study)?, name: name(&new)? })
        }
        v1::Record::StudyStateChanged(v1::StudyStateChanged { study, state, elapsed_ms }) => {
            let (study, state) = (name(&study)?, study_state(state));
            Ok(Record::StudyStateChanged { study, state, elapsed_ms })
        }
        v1::Record::StudyDeleted(v1::StudyDeleted { study }) => {
            Ok(Record::StudyDeleted { study: name(&study)? })
        }
        v1::Record::ProposalsEnded(v1::ProposalsEnded { study, reason }) => {
            Ok(Record::ProposalsEnded { study: name(&study)?, reason })
        }
        v1::Record::TrialProposed(record) => Ok(Record::TrialProposed {
            genotype: choices.read(&record.study, record.genotype)?,
            study: name(&record.study)?,
            number: TrialNumber(record.number),
            task: TaskId(record.task),
            parents: numbers(record.parents),
        }),
        v1::Record::TrialInfeasible(record) => Ok(Record::TrialInfeasible {
            genotype: choices.read(&record.study, record.genotype)?,
            study: name(&record.study)?,
            number: TrialNumber(record.number),
            parents: numbers(record.parents),
            reason: record.reason,
        }),
        v1::Record::AttemptStarted(record) => Ok(Record::AttemptStarted {
            study: name(&record.study)?,
            task: TaskId(record.task),
            attempt: AttemptId(record.attempt),
            worker: WorkerId(record.worker),
            elapsed_ms: record.elapsed_ms,
        }),
        v1::Record::AttemptEnded(record) => thaw_attempt_ended(record.upcast()),
        v1::Record::TeacherTrained(record) => thaw_teacher(record.upcast()?.upcast()),
        v1::Record::TrialTrained(record) => thaw_trained(record.upcast()?.upcast()),
        v1::Record::Measured(record) => thaw_measured(record.upcast().upcast().upcast()),
        v1::Record::TrialFinished(v1::TrialFinished { study, number, ending }) => {
            let (study, number) = (name(&study)?, TrialNumber(number));
            Ok(Record::TrialFinished { study, number, ending: trial_ending(ending) })
        }
        v1::Record::TaskGivenUp(v1::TaskGivenUp { study, task, reason }) => {
            Ok(Record::TaskGivenUp { study: name(&study)?, task: TaskId(task), reason })
        }
        v1::Record::IdsReserved(v1::IdsReserved { tasks_below, attempts_below }) => {
            Ok(Record::IdsReserved { tasks_below, attempts_below })
        }
        v1::Record::WorkerIdsReserved(v1::WorkerIdsReserved { below }) => {
            Ok(Record::WorkerIdsReserved { below })
        }
        v1::Record::TrialLookedUp(record) => thaw_looked_up(record.upcast()),
        v1::Record::RungReached(record) => thaw_rung(record.upcast()?),
        v1::Record::TrialPromoted(v1::TrialPromoted { study, number, task }) => {
            let (study, number, task) = (name(&study)?, TrialNumber(number), TaskId(task));
            Ok(Record::TrialPromoted { study, number, task })
        }
        v1::Record::TrialImported(record) => thaw_imported(record.upcast(), choices),
        v1::Record::TrialInherits(v1::TrialInherits { study, number, donor }) => {
            let (number, donor) = (TrialNumber(number), TrialNumber(donor));
            Ok(Record::TrialInherits { study: name(&study)?, number, donor })
        }
        v1::Record::TrialTooSlow(record) => thaw_too_slow(record.upcast(), choices),
        v1::Record::TrialScored(v1::TrialScored { study, number, score }) => {
            Ok(Record::TrialScored { study: name(&study)?, number: TrialNumber(number), score })
        }
    }
}

/// Converts a record of layout 2.
pub fn thaw(frame: &Frame, choices: &mut RecordedChoices) -> Result<Record, FormatError> {
    let record = match (frame.kind, frame.version) {
        (_, 1) => thaw_v1(v1::read(frame)?, choices),
        (0, 2) => thaw_study(frame.read()?, choices),
        (7, 2) => thaw_attempt_ended(frame.read()?),
        (8, 2) => thaw_teacher(frame.read::<v2::TeacherTrained>()?.upcast()),
        (8, 3) => thaw_teacher(frame.read()?),
        (9, 2) => thaw_trained(frame.read::<v2::TrialTrained>()?.upcast()),
        (9, 3) => thaw_trained(frame.read()?),
        (14, 2) => thaw_looked_up(frame.read()?),
        (15, 2) => thaw_rung(frame.read()?),
        (17, 2) => thaw_imported(frame.read()?, choices),
        (19, 2) => thaw_too_slow(frame.read()?, choices),
        (10, 2) => thaw_measured(frame.read::<v2::Measured>()?.upcast().upcast()),
        (10, 3) => thaw_measured(frame.read::<v3::Measured>()?.upcast()),
        (10, 4) => thaw_measured(frame.read()?),
        (22, 2) => thaw_data_checked(frame.read()?),
        (kind, version) => return Err(FormatError::Kind { kind, version }),
    };
    record.map_err(|problem| frame.damaged(problem))
}

fn thaw_study(record: v2::StudyCreated, choices: &mut RecordedChoices) -> Result<Record, Problem> {
    let spec = StudySpec::from_resolved(&record.resolved)
        .map_err(|e| format!("study {}: {e}", record.study))?;
    if spec.name.as_str() != record.study {
        return Err(format!("study {} has a different name in its resolved study", record.study));
    }
    let choice = |(name, options)| Choice { name, options };
    let recorded: Vec<Choice> = record.choices.into_iter().map(choice).collect();
    choices.note(&record.study, &recorded, &spec.space)?;
    Ok(Record::StudyCreated {
        spec: Box::new(spec),
        teacher_weights: record.teacher_weights.map(ArtifactHash::from_bytes),
        teacher_task: record.teacher_task.map(TaskId),
        at_ms: record.at_ms,
    })
}

fn thaw_attempt_ended(record: v2::AttemptEnded) -> Result<Record, Problem> {
    Ok(Record::AttemptEnded {
        study: name(&record.study)?,
        task: TaskId(record.task),
        attempt: AttemptId(record.attempt),
        ending: attempt_ending(record.ending),
        elapsed_ms: record.elapsed_ms,
    })
}

fn thaw_teacher(record: v3::TeacherTrained) -> Result<Record, Problem> {
    Ok(Record::TeacherTrained {
        study: name(&record.study)?,
        trained: trained_trial(record.trained)?,
        soft_targets: ArtifactHash::from_bytes(record.soft_targets),
        measure: measure_tasks(record.measure)?,
    })
}

fn thaw_trained(record: v3::TrialTrained) -> Result<Record, Problem> {
    let trained = trained_trial(record.trained)?;
    Ok(Record::TrialTrained {
        study: name(&record.study)?,
        number: TrialNumber(record.number),
        stages: StagesKey::of(&trained.stages),
        trained,
        measure: measure_tasks(record.measure)?,
    })
}

fn thaw_looked_up(record: v2::TrialLookedUp) -> Result<Record, Problem> {
    let (study, number) = (name(&record.study)?, TrialNumber(record.number));
    Ok(Record::TrialLookedUp { study, number, figures: figures(record.figures)? })
}

fn thaw_rung(record: v2::RungReached) -> Result<Record, Problem> {
    let report = RungReport {
        epochs: record.epochs,
        figures: figures(record.figures)?,
        checkpoint: record.checkpoint.map(ArtifactHash::from_bytes),
    };
    let (study, number) = (name(&record.study)?, TrialNumber(record.number));
    Ok(Record::RungReached { study, number, report })
}

fn thaw_imported(record: v2::TrialImported, choices: &RecordedChoices) -> Result<Record, Problem> {
    Ok(Record::TrialImported {
        genotype: choices.read(&record.study, record.genotype)?,
        study: name(&record.study)?,
        number: TrialNumber(record.number),
        figures: figures(record.figures)?,
    })
}

fn thaw_too_slow(record: v2::TrialTooSlow, choices: &RecordedChoices) -> Result<Record, Problem> {
    Ok(Record::TrialTooSlow {
        genotype: choices.read(&record.study, record.genotype)?,
        study: name(&record.study)?,
        number: TrialNumber(record.number),
        parents: numbers(record.parents),
        target: target(record.target)?,
        reason: record.reason,
    })
}

fn thaw_data_checked(record: v2::DataChecked) -> Result<Record, Problem> {
    let v2::DataChecked { study, train, validation, test, hash } = record;
    let hash = hash.map(ArtifactHash::from_bytes);
    let report = DataReport { train, validation, test, hash };
    Ok(Record::DataChecked { study: name(&study)?, report })
}

fn thaw_measured(record: v4::Measured) -> Result<Record, Problem> {
    let (study, task) = (name(&record.study)?, TaskId(record.task));
    let original = |v3::OriginalTiming { p50_ms, p95_ms, min_ms, noisy, energy_mj }| Fp32Timing {
        p50_ms,
        p95_ms,
        min_ms,
        noisy,
        energy_mj,
    };
    let layer = |v4::LayerTimes { layer, conversions, shipped_ms, original_ms }| LayerTimes {
        layer,
        conversions,
        shipped_ms,
        original_ms,
    };
    let measurement = Measurement {
        slower_layers: record.slower_layers.into_iter().map(layer).collect(),
        energy_mj: record.energy_mj,
        original: record.original.map(original),
        unquantized: record.unquantized.map(original),
        slower_in_integers: record.slower_in_integers.into_iter().map(layer).collect(),
        ..measurement(record.measurement, record.noise)?
    };
    Ok(Record::Measured { study, task, measurement })
}

/// Parses the name of a study, a device class or an engine.
fn name<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|e: T::Err| e.to_string())
}

fn numbers(numbers: Vec<u32>) -> Vec<TrialNumber> {
    numbers.into_iter().map(TrialNumber).collect()
}

fn study_state(state: v1::StudyState) -> StudyState {
    match state {
        v1::StudyState::Running => StudyState::Running,
        v1::StudyState::Paused => StudyState::Paused,
        v1::StudyState::Complete { reason } => StudyState::Complete { reason },
        v1::StudyState::Cancelled => StudyState::Cancelled,
        v1::StudyState::Failed { reason } => StudyState::Failed { reason },
    }
}

fn attempt_ending(ending: v2::AttemptEnding) -> AttemptEnding {
    match ending {
        v2::AttemptEnding::Succeeded => AttemptEnding::Succeeded,
        v2::AttemptEnding::Failed { reason } => AttemptEnding::Failed { reason },
        v2::AttemptEnding::Lost => AttemptEnding::Lost,
        v2::AttemptEnding::Left => AttemptEnding::Left,
        v2::AttemptEnding::FaultOfWorker { reason } => AttemptEnding::FaultOfWorker { reason },
        v2::AttemptEnding::FaultOfData { reason } => AttemptEnding::FaultOfData { reason },
    }
}

fn trial_ending(ending: v1::TrialEnding) -> TrialEnding {
    match ending {
        v1::TrialEnding::Complete => TrialEnding::Complete,
        v1::TrialEnding::Infeasible { reason } => TrialEnding::Infeasible { reason },
        v1::TrialEnding::Failed { reason } => TrialEnding::Failed { reason },
        v1::TrialEnding::Pruned => TrialEnding::Pruned,
        v1::TrialEnding::ScreenedOut => TrialEnding::ScreenedOut,
    }
}

fn trained_trial(trained: v3::TrainedTrial) -> Result<TrainedTrial, Problem> {
    Ok(TrainedTrial {
        compressed: figures(trained.compressed)?,
        uncompressed: figures(trained.uncompressed)?,
        model: ArtifactHash::from_bytes(trained.model),
        weights: ArtifactHash::from_bytes(trained.weights),
        stages: trained.stages.into_iter().map(stage).collect::<Result<_, _>>()?,
    })
}

pub fn stage(stage: v3::Stage) -> Result<StageReport, Problem> {
    let v3::Stage { pass, distilled, figures: of, classes } = stage;
    let count = |v3::ClassCount { images, right }| ClassCount { images, right };
    let classes = classes.into_iter().map(count).collect();
    Ok(StageReport { pass, distilled, figures: figures(of)?, classes })
}

/// Values are kept as they were accepted, even if they are outside a definition's range today.
pub fn figures(figures: Vec<v2::Figure>) -> Result<Figures, Problem> {
    let figure = |v2::Figure { metric, scope, value }| {
        let known = Metric::named(&metric);
        let metric =
            known.ok_or_else(|| format!("metric {metric:?} is unknown to this program"))?;
        let scope = match scope {
            v2::Scope::Whole => Scope::Whole,
            v2::Scope::Validation => Scope::Split(Split::Validation),
            v2::Scope::Test => Scope::Split(Split::Test),
            v2::Scope::HeldOut(name) => Scope::Split(Split::HeldOut(name.into())),
            v2::Scope::Target(on) => Scope::Target(target(on)?.into()),
        };
        Ok((ScopedMetric { metric, scope }, value))
    };
    figures.into_iter().map(figure).collect()
}

pub fn target(target: v2::Target) -> Result<Target, Problem> {
    let v2::Target { device, engine, threads } = target;
    Ok(Target { device: name(&device)?, engine: name(&engine)?, threads })
}

fn measure_tasks(tasks: Vec<(u64, v2::Target)>) -> Result<Vec<(TaskId, Target)>, Problem> {
    tasks.into_iter().map(|(task, on)| Ok((TaskId(task), target(on)?))).collect()
}

/// Tasks with the parts of their targets.
fn flat_measure_tasks(
    tasks: Vec<(u64, String, String, u32)>,
) -> Result<Vec<(TaskId, Target)>, Problem> {
    let on = |(task, device, engine, threads)| (task, v2::Target { device, engine, threads });
    measure_tasks(tasks.into_iter().map(on).collect())
}

fn noise(noise: v2::Noise) -> Noise {
    let v2::Noise { noisy, spread, waiting, timings } = noise;
    let waiting = waiting.map(|v2::Waiting { share, per_run }| Waiting { share, per_run });
    Noise { noisy, spread, waiting, timings }
}

/// In layout 1, the engine was any text that a worker sent. There was only one engine then, so a
/// text that is not a name means that one.
pub fn measurement(
    m: v1::Measurement,
    of_noise: Option<v2::Noise>,
) -> Result<Measurement, Problem> {
    Ok(Measurement {
        device: DeviceInfo {
            class: name(&m.device.class)?,
            name: m.device.name,
            cpu: m.device.cpu,
            cpu_flags: m.device.cpu_flags,
            cores: m.device.cores,
        },
        engine: m.engine.parse().unwrap_or_else(|_| EngineName::edge_runtime()),
        engine_version: m.engine_version,
        threads: m.threads,
        batch: m.batch,
        warmup_runs: m.warmup_runs,
        samples: m.samples,
        p50_ms: m.p50_ms,
        p95_ms: m.p95_ms,
        min_ms: m.min_ms,
        noise: of_noise.map(noise),
        energy_mj: None,
        original: None,
        slower_layers: Vec::new(),
        unquantized: None,
        slower_in_integers: Vec::new(),
    })
}
