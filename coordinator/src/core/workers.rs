//! Who is connected. Nothing of it outlives the process: workers join again.

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_common::{AttemptId, DeviceClass, TaskId, WorkerId};

use super::task::{Task, TaskKind};
use super::{Core, Role, Time, WorkerInfo};

/// A connected worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) info: WorkerInfo,
    /// When it was last heard from.
    pub(super) seen: Time,
    /// What it holds; never more than its slots.
    pub(super) attempts: BTreeSet<AttemptId>,
    /// Tasks that are not done and of which it reported a failed attempt.
    pub(super) failed: BTreeSet<TaskId>,
}

impl Worker {
    pub(super) fn has_free_slot(&self) -> bool {
        self.attempts.len() < self.info.slots as usize
    }
}

impl WorkerInfo {
    pub(super) fn trains(&self) -> bool {
        self.roles.contains(&Role::Train)
    }

    pub(super) fn looks_up(&self) -> bool {
        self.roles.contains(&Role::Table)
    }

    pub(super) fn measures_on(&self, class: &DeviceClass) -> bool {
        self.roles.contains(&Role::Measure) && self.class == *class
    }

    /// Whether it can do such a task at all.
    pub(super) fn can_do(&self, kind: &TaskKind) -> bool {
        match kind {
            TaskKind::Teacher | TaskKind::Score(_) | TaskKind::Train(_) => self.trains(),
            TaskKind::LookUp(_) => self.looks_up(),
            TaskKind::Measure(_, class) => self.measures_on(class),
        }
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

    /// Whether `worker` should leave a task to others: it failed it, and another that did not can do
    /// such tasks.
    pub(super) fn avoids(&self, worker: WorkerId, id: TaskId, task: &Task) -> bool {
        let failed = |worker: &Worker| worker.failed.contains(&id);
        let better = |(other, known): (&WorkerId, &Worker)| {
            *other != worker && known.info.can_do(&task.kind) && !failed(known)
        };
        self.get(worker).is_some_and(failed) && self.0.iter().any(better)
    }

    pub(super) fn any(&self, mut like: impl FnMut(&WorkerInfo) -> bool) -> bool {
        self.0.values().any(|worker| like(&worker.info))
    }
}

impl Core {
    /// Notes that `worker` could not do `task`, and forgets the tasks that are done.
    pub(super) fn note_failure(&mut self, worker: WorkerId, task: TaskId) {
        let Some(known) = self.workers.get_mut(worker) else { return };
        known.failed.insert(task);
        known.failed.retain(|id| self.studies.values().any(|s| s.tasks.get(*id).is_some()));
    }
}
