//! Tasks and outcomes between the wire and the executor's types. What does not fit is a failed
//! attempt with the reason, never a broken session; and one that another worker may repeat, because
//! the coordinator made sense of it: it is this worker that is of another version.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use edgesmith_common::{StudyName, StudySpec, TrialNumber};
use edgesmith_proto::v1::report_request::Outcome as WireOutcome;
use edgesmith_proto::v1::task::Work;
use edgesmith_proto::{hash, optional_hash, v1};
use edgesmith_search_space::Genotype;

use super::attempts::lock;
use super::{AttemptError, Donor, Outcome, TaskKind, TaskWork};

/// Studies whose specs are kept; a coordinator rarely runs more at once.
const KEPT_SPECS: usize = 16;

/// Study files that were parsed before, by their text; least recently used first.
#[derive(Debug, Default)]
pub struct Specs(Mutex<VecDeque<Arc<StudySpec>>>);

impl Specs {
    /// The spec that `text` says, parsed once.
    ///
    /// # Errors
    /// When it is no study file.
    pub fn parse(&self, text: &str) -> Result<Arc<StudySpec>, AttemptError> {
        let mut specs = lock(&self.0);
        let known = specs.iter().position(|spec| spec.source() == text);
        let spec = match known.and_then(|at| specs.remove(at)) {
            Some(spec) => spec,
            None => Arc::new(StudySpec::parse(text).map_err(|errors| {
                AttemptError::retryable(format!("this worker cannot read the study: {errors}"))
            })?),
        };
        specs.push_back(Arc::clone(&spec));
        if specs.len() > KEPT_SPECS {
            specs.pop_front();
        }
        Ok(spec)
    }
}

/// Reads a leased task.
///
/// # Errors
/// When it does not fit its own study, or this worker does not know its kind.
pub fn read(task: &v1::Task, specs: &Specs) -> Result<TaskWork, AttemptError> {
    let study: StudyName = task.study.parse().map_err(AttemptError::retryable)?;
    let spec = specs.parse(&task.spec_toml)?;
    let kind = match &task.work {
        Some(Work::TrainTeacher(v1::TrainTeacher { weights })) => TaskKind::TrainTeacher {
            weights: optional_hash(weights, "weights").map_err(AttemptError::retryable)?,
        },
        Some(Work::TrainTrial(trial)) => TaskKind::TrainTrial {
            number: TrialNumber(trial.number),
            genotype: read_genotype(&trial.genotype, &spec)?,
            soft_targets: optional_hash(&trial.soft_targets, "soft_targets")
                .map_err(AttemptError::retryable)?,
            rung: (trial.rung > 0).then_some(trial.rung),
            checkpoint: optional_hash(&trial.checkpoint, "checkpoint")
                .map_err(AttemptError::retryable)?,
            donor: match &trial.donor {
                Some(donor) => Some(Donor {
                    genotype: read_genotype(&donor.genotype, &spec)?,
                    weights: hash(&donor.weights, "weights").map_err(AttemptError::retryable)?,
                }),
                None => None,
            },
        },
        Some(Work::ScoreTrial(trial)) => TaskKind::ScoreTrial {
            number: TrialNumber(trial.number),
            genotype: read_genotype(&trial.genotype, &spec)?,
        },
        Some(Work::MeasureModel(v1::MeasureModel { model, number })) => TaskKind::MeasureModel {
            model: hash(model, "model").map_err(AttemptError::retryable)?,
            number: number.map(TrialNumber),
        },
        Some(Work::LookUpTrial(trial)) => TaskKind::LookUpTrial {
            number: TrialNumber(trial.number),
            genotype: read_genotype(&trial.genotype, &spec)?,
            rung: (trial.rung > 0).then_some(trial.rung),
        },
        None => return Err(AttemptError::retryable("this worker does not know this kind of task")),
    };
    Ok(TaskWork { study, spec, kind })
}

fn read_genotype(indices: &[u32], spec: &StudySpec) -> Result<Genotype, AttemptError> {
    let indices = indices.iter().map(|&index| u16::try_from(index)).collect::<Result<_, _>>();
    let indices =
        indices.map_err(|_| AttemptError::retryable("genotype picks option over 65535"))?;
    spec.space.genotype(indices).map_err(AttemptError::retryable)
}

/// What is reported of how an attempt ended.
pub fn outcome(ended: Result<Outcome, AttemptError>) -> WireOutcome {
    match ended {
        Ok(Outcome::TeacherTrained { trained, soft_targets }) => {
            WireOutcome::TeacherTrained(v1::TeacherTrained {
                trained: Some((&trained).into()),
                soft_targets: soft_targets.as_bytes().to_vec(),
            })
        }
        Ok(Outcome::Scored(score)) => WireOutcome::Scored(v1::TrialScored { score }),
        Ok(Outcome::RungReached(report)) => WireOutcome::RungReached((&report).into()),
        Ok(Outcome::TrialTrained(trained)) => WireOutcome::TrialTrained((&trained).into()),
        Ok(Outcome::LookedUp(figures)) => WireOutcome::LookedUp((&figures).into()),
        Ok(Outcome::Measured(measurement)) => WireOutcome::Measured((&measurement).into()),
        Err(AttemptError { reason, retryable }) => {
            WireOutcome::Failed(v1::AttemptFailed { reason, retryable })
        }
    }
}
