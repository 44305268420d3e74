//! The ids that records have used up. An id is never used twice, not even after its study is
//! deleted.

use edgesmith_common::{Target, TaskId};

use super::record::Record;

/// By kind of id, the lowest one that no record has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedIds {
    /// Of tasks.
    pub tasks_below: u64,
    /// Of attempts.
    pub attempts_below: u64,
    /// Of workers. Lower ones may be given out without another record.
    pub workers_below: u64,
}

impl Default for UsedIds {
    fn default() -> Self {
        Self { tasks_below: 1, attempts_below: 1, workers_below: 1 }
    }
}

impl UsedIds {
    /// Takes in the ids of a record.
    pub fn note(&mut self, record: &Record) {
        match record {
            Record::StudyCreated { teacher_task: task, .. } => {
                task.iter().for_each(|task| self.task(*task));
            }
            Record::DataCheckWanted { task, .. }
            | Record::TeacherRetried { task, .. }
            | Record::TrialProposed { task, .. }
            | Record::TrialPromoted { task, .. } => self.task(*task),
            Record::TrialRetried { task, measure, .. } => {
                task.iter().for_each(|task| self.task(*task));
                self.measuring(measure);
            }
            Record::TeacherMeasuredAgain { measure, .. }
            | Record::TeacherTrained { measure, .. }
            | Record::TrialTrained { measure, .. } => self.measuring(measure),
            Record::AttemptStarted { attempt, .. } => {
                self.attempts_below = self.attempts_below.max(attempt.0 + 1);
            }
            Record::WorkerIdsReserved { below } => {
                self.workers_below = self.workers_below.max(*below);
            }
            Record::IdsReserved { tasks_below, attempts_below } => {
                self.tasks_below = self.tasks_below.max(*tasks_below);
                self.attempts_below = self.attempts_below.max(*attempts_below);
            }
            // They name ids that an earlier record has used, or none.
            Record::DataChecked { .. }
            | Record::DataDamaged { .. }
            | Record::DataTrusted { .. }
            | Record::BudgetExtended { .. }
            | Record::StudyRenamed { .. }
            | Record::StudyStateChanged { .. }
            | Record::StudyDeleted { .. }
            | Record::ProposalsEnded { .. }
            | Record::TrialInfeasible { .. }
            | Record::AttemptEnded { .. }
            | Record::Measured { .. }
            | Record::TrialFinished { .. }
            | Record::TaskGivenUp { .. }
            | Record::TrialLookedUp { .. }
            | Record::RungReached { .. }
            | Record::TrialImported { .. }
            | Record::TrialInherits { .. }
            | Record::TrialTooSlow { .. }
            | Record::TrialScored { .. } => {}
        }
    }

    /// The records that keep these ids from being used again, however the others are lost.
    pub fn reserved(&self) -> [Record; 2] {
        let Self { tasks_below, attempts_below, workers_below } = *self;
        [
            Record::IdsReserved { tasks_below, attempts_below },
            Record::WorkerIdsReserved { below: workers_below },
        ]
    }

    fn task(&mut self, task: TaskId) {
        self.tasks_below = self.tasks_below.max(task.0 + 1);
    }

    fn measuring(&mut self, tasks: &[(TaskId, Target)]) {
        tasks.iter().for_each(|(task, _)| self.task(*task));
    }
}
