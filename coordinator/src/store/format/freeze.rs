//! Converts the core's records to frozen ones, each in the newest version of its kind.

use edgesmith_common::spec::Budget;
use edgesmith_common::{
    ArtifactHash, ClassCount, Figures, Fp32Timing, LayerTimes, Measurement, Noise, Scope,
    ScopedMetric, Split, StageReport, Target, TaskId, TrainedTrial, TrialNumber, Waiting,
};

use super::{FormatError, Frame, v1, v2, v3, v4};
use crate::core::{AttemptEnding, Record, StudyState, TrialEnding};

/// A record in the form in which it is written.
///
/// # Errors
/// If it cannot be encoded.
pub fn freeze(record: &Record) -> Result<Frame, FormatError> {
    match record {
        Record::StudyCreated { spec, teacher_weights, teacher_task, at_ms } => {
            let choices = spec.space.choices().iter();
            Frame::of(&v2::StudyCreated {
                study: spec.name.to_string(),
                resolved: spec.to_resolved(),
                choices: choices.map(|c| (c.name.clone(), c.options.clone())).collect(),
                teacher_weights: teacher_weights.as_ref().map(hash),
                teacher_task: teacher_task.map(|task| task.0),
                at_ms: *at_ms,
            })
        }
        Record::DataCheckWanted { study, task } => {
            Frame::of(&v1::DataCheckWanted { study: study.to_string(), task: task.0 })
        }
        Record::DataChecked { study, report } => Frame::of(&v2::DataChecked {
            study: study.to_string(),
            train: report.train,
            validation: report.validation,
            test: report.test,
            hash: report.hash.as_ref().map(hash),
        }),
        Record::DataDamaged { study, reason } => {
            Frame::of(&v1::DataDamaged { study: study.to_string(), reason: reason.clone() })
        }
        Record::DataTrusted { study } => Frame::of(&v1::DataTrusted { study: study.to_string() }),
        Record::TeacherRetried { study, task } => {
            Frame::of(&v1::TeacherRetried { study: study.to_string(), task: task.0 })
        }
        Record::TrialRetried { study, number, task, measure } => Frame::of(&v1::TrialRetried {
            study: study.to_string(),
            number: number.0,
            task: task.map(|task| task.0),
            measure: flat_measure_tasks(measure),
        }),
        Record::TeacherMeasuredAgain { study, measure } => Frame::of(&v1::TeacherMeasuredAgain {
            study: study.to_string(),
            measure: flat_measure_tasks(measure),
        }),
        Record::BudgetExtended { study, budget, source } => {
            let Budget { trials, simulated_seconds, max_attempts, hours } = *budget;
            let (study, source) = (study.to_string(), source.clone());
            Frame::of(&v1::BudgetExtended {
                study,
                trials,
                simulated_seconds,
                max_attempts,
                hours,
                source,
            })
        }
        Record::StudyRenamed { study, name } => {
            Frame::of(&v1::StudyRenamed { study: study.to_string(), name: name.to_string() })
        }
        Record::StudyStateChanged { study, state, elapsed_ms } => {
            Frame::of(&v1::StudyStateChanged {
                study: study.to_string(),
                state: study_state(state),
                elapsed_ms: *elapsed_ms,
            })
        }
        Record::StudyDeleted { study } => Frame::of(&v1::StudyDeleted { study: study.to_string() }),
        Record::ProposalsEnded { study, reason } => {
            Frame::of(&v1::ProposalsEnded { study: study.to_string(), reason: reason.clone() })
        }
        Record::TrialProposed { study, number, task, genotype, parents } => {
            Frame::of(&v1::TrialProposed {
                study: study.to_string(),
                number: number.0,
                task: task.0,
                genotype: genotype.clone(),
                parents: numbers(parents),
            })
        }
        Record::TrialInfeasible { study, number, genotype, parents, reason } => {
            Frame::of(&v1::TrialInfeasible {
                study: study.to_string(),
                number: number.0,
                genotype: genotype.clone(),
                parents: numbers(parents),
                reason: reason.clone(),
            })
        }
        Record::AttemptStarted { study, task, attempt, worker, elapsed_ms } => {
            Frame::of(&v1::AttemptStarted {
                study: study.to_string(),
                task: task.0,
                attempt: attempt.0,
                worker: worker.0,
                elapsed_ms: *elapsed_ms,
            })
        }
        Record::AttemptEnded { study, task, attempt, ending, elapsed_ms } => {
            Frame::of(&v2::AttemptEnded {
                study: study.to_string(),
                task: task.0,
                attempt: attempt.0,
                ending: attempt_ending(ending),
                elapsed_ms: *elapsed_ms,
            })
        }
        Record::TeacherTrained { study, trained, soft_targets, measure } => {
            Frame::of(&v3::TeacherTrained {
                study: study.to_string(),
                trained: trained_trial(trained),
                soft_targets: hash(soft_targets),
                measure: measure_tasks(measure),
            })
        }
        Record::TrialTrained { study, number, trained, stages: _, measure } => {
            Frame::of(&v3::TrialTrained {
                study: study.to_string(),
                number: number.0,
                trained: trained_trial(trained),
                measure: measure_tasks(measure),
            })
        }
        Record::Measured { study, task, measurement: of } => Frame::of(&v4::Measured {
            study: study.to_string(),
            task: task.0,
            measurement: measurement(of),
            noise: of.noise.as_ref().map(noise),
            energy_mj: of.energy_mj,
            original: of.original.as_ref().map(original),
            slower_layers: of.slower_layers.iter().map(layer_times).collect(),
            unquantized: of.unquantized.as_ref().map(original),
            slower_in_integers: of.slower_in_integers.iter().map(layer_times).collect(),
        }),
        Record::TrialFinished { study, number, ending } => Frame::of(&v1::TrialFinished {
            study: study.to_string(),
            number: number.0,
            ending: trial_ending(ending),
        }),
        Record::TaskGivenUp { study, task, reason } => Frame::of(&v1::TaskGivenUp {
            study: study.to_string(),
            task: task.0,
            reason: reason.clone(),
        }),
        Record::IdsReserved { tasks_below, attempts_below } => {
            let (tasks_below, attempts_below) = (*tasks_below, *attempts_below);
            Frame::of(&v1::IdsReserved { tasks_below, attempts_below })
        }
        Record::WorkerIdsReserved { below } => Frame::of(&v1::WorkerIdsReserved { below: *below }),
        Record::TrialLookedUp { study, number, figures: of } => Frame::of(&v2::TrialLookedUp {
            study: study.to_string(),
            number: number.0,
            figures: figures(of),
        }),
        Record::RungReached { study, number, report } => Frame::of(&v2::RungReached {
            study: study.to_string(),
            number: number.0,
            epochs: report.epochs,
            figures: figures(&report.figures),
            checkpoint: report.checkpoint.as_ref().map(hash),
        }),
        Record::TrialPromoted { study, number, task } => Frame::of(&v1::TrialPromoted {
            study: study.to_string(),
            number: number.0,
            task: task.0,
        }),
        Record::TrialImported { study, number, genotype, figures: of } => {
            Frame::of(&v2::TrialImported {
                study: study.to_string(),
                number: number.0,
                genotype: genotype.clone(),
                figures: figures(of),
            })
        }
        Record::TrialInherits { study, number, donor } => Frame::of(&v1::TrialInherits {
            study: study.to_string(),
            number: number.0,
            donor: donor.0,
        }),
        Record::TrialTooSlow { study, number, genotype, parents, target: on, reason } => {
            Frame::of(&v2::TrialTooSlow {
                study: study.to_string(),
                number: number.0,
                genotype: genotype.clone(),
                parents: numbers(parents),
                target: target(on),
                reason: reason.clone(),
            })
        }
        Record::TrialScored { study, number, score } => Frame::of(&v1::TrialScored {
            study: study.to_string(),
            number: number.0,
            score: *score,
        }),
    }
}

fn hash(hash: &ArtifactHash) -> v2::Hash {
    *hash.as_bytes()
}

fn numbers(numbers: &[TrialNumber]) -> Vec<u32> {
    numbers.iter().map(|number| number.0).collect()
}

fn study_state(state: &StudyState) -> v1::StudyState {
    match state.clone() {
        StudyState::Running => v1::StudyState::Running,
        StudyState::Paused => v1::StudyState::Paused,
        StudyState::Complete { reason } => v1::StudyState::Complete { reason },
        StudyState::Cancelled => v1::StudyState::Cancelled,
        StudyState::Failed { reason } => v1::StudyState::Failed { reason },
    }
}

fn attempt_ending(ending: &AttemptEnding) -> v2::AttemptEnding {
    match ending.clone() {
        AttemptEnding::Succeeded => v2::AttemptEnding::Succeeded,
        AttemptEnding::Failed { reason } => v2::AttemptEnding::Failed { reason },
        AttemptEnding::Lost => v2::AttemptEnding::Lost,
        AttemptEnding::Left => v2::AttemptEnding::Left,
        // After a restart they mean the same: the attempt does not count against the task.
        AttemptEnding::TooLarge { reason } | AttemptEnding::FaultOfWorker { reason } => {
            v2::AttemptEnding::FaultOfWorker { reason }
        }
        AttemptEnding::FaultOfData { reason } => v2::AttemptEnding::FaultOfData { reason },
    }
}

fn trial_ending(ending: &TrialEnding) -> v1::TrialEnding {
    match ending.clone() {
        TrialEnding::Complete => v1::TrialEnding::Complete,
        TrialEnding::Infeasible { reason } => v1::TrialEnding::Infeasible { reason },
        TrialEnding::Failed { reason } => v1::TrialEnding::Failed { reason },
        TrialEnding::Pruned => v1::TrialEnding::Pruned,
        TrialEnding::ScreenedOut => v1::TrialEnding::ScreenedOut,
    }
}

fn trained_trial(trained: &TrainedTrial) -> v3::TrainedTrial {
    v3::TrainedTrial {
        compressed: figures(&trained.compressed),
        uncompressed: figures(&trained.uncompressed),
        model: hash(&trained.model),
        weights: hash(&trained.weights),
        stages: trained.stages.iter().map(stage).collect(),
    }
}

pub fn stage(stage: &StageReport) -> v3::Stage {
    let StageReport { pass, distilled, figures: of, classes } = stage;
    let count = |&ClassCount { images, right }: &ClassCount| v3::ClassCount { images, right };
    v3::Stage {
        pass: pass.clone(),
        distilled: *distilled,
        figures: figures(of),
        classes: classes.iter().map(count).collect(),
    }
}

pub fn figures(figures: &Figures) -> Vec<v2::Figure> {
    let figure = |(of, value): (&ScopedMetric, f64)| v2::Figure {
        metric: of.metric.name().to_owned(),
        scope: match &of.scope {
            Scope::Whole => v2::Scope::Whole,
            Scope::Split(Split::Validation) => v2::Scope::Validation,
            Scope::Split(Split::Test) => v2::Scope::Test,
            Scope::Split(Split::HeldOut(name)) => v2::Scope::HeldOut(name.to_string()),
            Scope::Target(on) => v2::Scope::Target(target(on)),
        },
        value,
    };
    figures.iter().map(figure).collect()
}

pub fn target(target: &Target) -> v2::Target {
    let Target { device, engine, threads } = target;
    v2::Target { device: device.to_string(), engine: engine.to_string(), threads: *threads }
}

fn measure_tasks(tasks: &[(TaskId, Target)]) -> Vec<(u64, v2::Target)> {
    tasks.iter().map(|(task, on)| (task.0, target(on))).collect()
}

/// Tasks with the parts of their targets.
fn flat_measure_tasks(tasks: &[(TaskId, Target)]) -> Vec<(u64, String, String, u32)> {
    let on = |(task, Target { device, engine, threads }): &(TaskId, Target)| {
        (task.0, device.to_string(), engine.to_string(), *threads)
    };
    tasks.iter().map(on).collect()
}

fn noise(noise: &Noise) -> v2::Noise {
    let Noise { noisy, spread, waiting, timings } = *noise;
    let waiting = waiting.map(|Waiting { share, per_run }| v2::Waiting { share, per_run });
    v2::Noise { noisy, spread, waiting, timings }
}

fn original(timing: &Fp32Timing) -> v3::OriginalTiming {
    let Fp32Timing { p50_ms, p95_ms, min_ms, noisy, energy_mj } = *timing;
    v3::OriginalTiming { p50_ms, p95_ms, min_ms, noisy, energy_mj }
}

fn layer_times(times: &LayerTimes) -> v4::LayerTimes {
    let LayerTimes { layer, conversions, shipped_ms, original_ms } = times.clone();
    v4::LayerTimes { layer, conversions, shipped_ms, original_ms }
}

/// Everything except what the record holds beside it.
pub fn measurement(m: &Measurement) -> v1::Measurement {
    v1::Measurement {
        device: v1::DeviceInfo {
            class: m.device.class.to_string(),
            name: m.device.name.clone(),
            cpu: m.device.cpu.clone(),
            cpu_flags: m.device.cpu_flags.clone(),
            cores: m.device.cores,
        },
        engine: m.engine.to_string(),
        engine_version: m.engine_version.clone(),
        threads: m.threads,
        batch: m.batch,
        warmup_runs: m.warmup_runs,
        samples: m.samples,
        p50_ms: m.p50_ms,
        p95_ms: m.p95_ms,
        min_ms: m.min_ms,
    }
}
