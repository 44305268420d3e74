//! The teacher of a study: whether it has one, and whether that is trained and measured.

use edgesmith_common::{ArtifactHash, Measurement, Target, TaskId, TrainedTrial, TrialValues};

use super::task::{TaskKind, Tasks};
use crate::core::record::Contradiction;

/// The state of a study's teacher.
#[derive(Debug, PartialEq)]
pub enum Teacher {
    /// The study has no teacher.
    None,
    /// The teacher's task is not done.
    Pending(TaskId),
    /// Trained, and measured on those devices that have reported.
    Trained { values: Box<TrialValues>, soft_targets: ArtifactHash },
}

impl Teacher {
    /// What is known of a trained teacher, and its soft targets.
    pub fn trained(&self) -> Option<(&TrialValues, ArtifactHash)> {
        match self {
            Teacher::Trained { values, soft_targets } => Some((values, *soft_targets)),
            Teacher::None | Teacher::Pending(_) => None,
        }
    }

    /// Whether students have to wait for it.
    pub fn is_pending(&self) -> bool {
        matches!(self, Teacher::Pending(_))
    }

    /// Whether it was given up.
    pub(super) fn lacks_task(&self, tasks: &Tasks) -> bool {
        match self {
            Teacher::Pending(task) => tasks.get(*task).is_none(),
            Teacher::None | Teacher::Trained { .. } => false,
        }
    }

    /// Whether a task waits that measures it on this target.
    pub(super) fn waits_for(target: &Target, tasks: &Tasks) -> bool {
        let measures =
            |kind: &TaskKind| matches!(kind, TaskKind::Measure(None, of) if of == target);
        tasks.iter().any(|(_, task)| measures(task.kind()))
    }

    /// It was trained. Returns the task that is done.
    pub(super) fn train(
        &mut self,
        trained: &TrainedTrial,
        soft_targets: ArtifactHash,
    ) -> Result<TaskId, Contradiction> {
        let Teacher::Pending(task) = *self else {
            return Err("the teacher is not pending".to_owned());
        };
        let values = Box::new(TrialValues::unmeasured(trained.clone()));
        *self = Teacher::Trained { values, soft_targets };
        Ok(task)
    }

    pub(super) fn measure(&mut self, measurement: &Measurement) -> Result<(), Contradiction> {
        let Teacher::Trained { values, .. } = self else {
            return Err("the teacher is not trained".to_owned());
        };
        values.add_measurement(measurement.clone());
        Ok(())
    }
}
