//! The connected workers. None of this outlives the process: after a restart workers join again.

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_common::{AttemptId, Needs, StudyName, TaskId, WorkerId, WorkerInfo};

use super::task::Task;
use super::{Core, Time};

/// A connected worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) info: WorkerInfo,
    /// When its last message came.
    pub(super) seen: Time,
    /// The attempts that it holds; never more than its slots.
    pub(super) attempts: BTreeSet<AttemptId>,
    /// Unfinished tasks of which it reported a failed attempt.
    pub(super) failed: BTreeSet<TaskId>,
    /// The tasks of studies that it said it cannot do, and why. It gets none of them until it joins
    /// again or the user retries the study.
    pub(super) excluded: BTreeMap<(StudyName, Needs), String>,
}

impl Worker {
    pub(super) fn has_free_slot(&self) -> bool {
        self.attempts.len() < self.info.slots as usize
    }

    /// Whether it can do tasks of this study with these needs, as far as is known.
    pub(super) fn can_do(&self, study: &StudyName, needs: &Needs) -> bool {
        let excludes = |(of, what): &(StudyName, Needs)| of == study && what == needs;
        self.info.can_do(needs) && !self.excluded.keys().any(excludes)
    }
}

/// All connected workers.
#[derive(Debug, Default)]
pub(super) struct Workers(pub(super) BTreeMap<WorkerId, Worker>);

impl Workers {
    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.0.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.0.get_mut(&id)
    }

    /// Whether `worker` should leave a task to others. It should if it failed the task and another
    /// worker, which has not failed it, can do such tasks.
    pub(super) fn avoids(
        &self,
        worker: WorkerId,
        study: &StudyName,
        id: TaskId,
        task: &Task,
    ) -> bool {
        let needs = task.kind.needs();
        let failed = |worker: &Worker| worker.failed.contains(&id);
        let better = |(other, known): (&WorkerId, &Worker)| {
            *other != worker && known.can_do(study, &needs) && !failed(known)
        };
        self.get(worker).is_some_and(failed) && self.0.iter().any(better)
    }

    /// Whether any connected worker can do such tasks of the study.
    pub(super) fn any_can_do(&self, study: &StudyName, needs: &Needs) -> bool {
        self.0.values().any(|worker| worker.can_do(study, needs))
    }

    /// A study has another name now.
    pub(super) fn rename(&mut self, old: &StudyName, new: &StudyName) {
        for worker in self.0.values_mut() {
            let renamed = |((of, needs), reason): ((StudyName, Needs), String)| {
                ((if of == *old { new.clone() } else { of }, needs), reason)
            };
            worker.excluded =
                std::mem::take(&mut worker.excluded).into_iter().map(renamed).collect();
        }
    }

    /// Whether a connected worker is excluded from tasks of the study.
    pub(super) fn excludes(&self, study: &StudyName) -> bool {
        self.0.values().any(|worker| worker.excluded.keys().any(|(of, _)| of == study))
    }

    /// Forgets which tasks of a study workers cannot do, so that they are asked again.
    pub(super) fn readmit(&mut self, study: &StudyName) {
        for worker in self.0.values_mut() {
            worker.excluded.retain(|(of, _), _| of != study);
        }
    }
}

impl Core {
    /// Notes that `worker` cannot do tasks of the study with these needs.
    pub(super) fn exclude(
        &mut self,
        worker: WorkerId,
        study: &StudyName,
        needs: Needs,
        reason: String,
    ) {
        if let Some(known) = self.workers.get_mut(worker) {
            known.excluded.insert((study.clone(), needs), reason);
            self.version += 1;
        }
    }

    /// Notes that `worker` failed `task`, and forgets tasks that are done.
    pub(super) fn note_failure(&mut self, worker: WorkerId, task: TaskId) {
        let Some(known) = self.workers.get_mut(worker) else { return };
        known.failed.insert(task);
        known.failed.retain(|id| self.studies.values().any(|s| s.tasks.get(*id).is_some()));
    }
}
