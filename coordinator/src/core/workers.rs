//! Who is connected. Nothing of it outlives the process: workers join again.

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_common::{AttemptId, DeviceClass, WorkerId};

use super::task::TaskKind;
use super::{Role, Time, WorkerInfo};

/// A connected worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) info: WorkerInfo,
    /// When it was last heard from.
    pub(super) seen: Time,
    /// What it holds; never more than its slots.
    pub(super) attempts: BTreeSet<AttemptId>,
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
            TaskKind::Teacher | TaskKind::Train(_) => self.trains(),
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

    pub(super) fn any(&self, mut like: impl FnMut(&WorkerInfo) -> bool) -> bool {
        self.0.values().any(|worker| like(&worker.info))
    }
}
