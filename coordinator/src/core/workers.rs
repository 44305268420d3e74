//! The connected workers. None of this outlives the process: after a restart workers join again.

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_common::{AttemptId, Needs, TaskId, WorkerId, WorkerInfo};

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
}

impl Worker {
    pub(super) fn has_free_slot(&self) -> bool {
        self.attempts.len() < self.info.slots as usize
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
    pub(super) fn avoids(&self, worker: WorkerId, id: TaskId, task: &Task) -> bool {
        let needs = task.kind.needs();
        let failed = |worker: &Worker| worker.failed.contains(&id);
        let better = |(other, known): (&WorkerId, &Worker)| {
            *other != worker && known.info.can_do(&needs) && !failed(known)
        };
        self.get(worker).is_some_and(failed) && self.0.iter().any(better)
    }

    /// Whether any connected worker can do such tasks.
    pub(super) fn any_can_do(&self, needs: &Needs) -> bool {
        self.0.values().any(|worker| worker.info.can_do(needs))
    }
}

impl Core {
    /// Notes that `worker` failed `task`, and forgets tasks that are done.
    pub(super) fn note_failure(&mut self, worker: WorkerId, task: TaskId) {
        let Some(known) = self.workers.get_mut(worker) else { return };
        known.failed.insert(task);
        known.failed.retain(|id| self.studies.values().any(|s| s.tasks.get(*id).is_some()));
    }
}
