//! The state of the core: the studies, the workers with their attempts, and which ids are used.
//!
//! The fields are private to this room. Everybody may ask through `&Core`. What lasts is changed
//! only by applying records ([`Core::apply`]), and what does not last by the methods of
//! `passing.rs`. This room does not decide what to change.

mod apply;
mod check;
mod passing;

use std::collections::BTreeMap;
use std::time::Duration;

use edgesmith_common::{AttemptId, StudyName, TaskId};

pub use apply::RestoreError;

use super::command::Refusal;
use super::ids::UsedIds;
use super::study::{BuildController, Study};
use super::time::Time;
use super::workers::{Attempts, Line, Workers};
use crate::controller;

/// Terms and limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreConfig {
    /// How long a worker keeps an attempt without a heartbeat that names it, and how long a silent
    /// worker counts as connected.
    pub lease: Duration,
    /// How often workers are told to send heartbeats; well below `lease`.
    pub heartbeat: Duration,
    /// Number of lost attempts after which a task is given up. A candidate that kills its workers
    /// then ends, while the ordinary loss of a few workers fails no trial.
    pub max_lost: u32,
    /// Number of consecutive candidates that are ruled out before training after which a study
    /// stops proposing.
    pub max_infeasible: u32,
    /// Number of consecutive trials that workers find infeasible after which a study stops
    /// proposing. Its budget of trials counts instead where that is more. Infeasible trials use no
    /// budget, so without this limit a study in which no candidate works would never end.
    pub max_hopeless: u32,
    /// Number of consecutive tasks that a worker may fail before it is not asked any more, where
    /// another worker does such tasks of the study meanwhile.
    pub max_failing: u32,
    /// The most workers that may be connected at once.
    pub max_workers: usize,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            max_lost: 10,
            max_infeasible: 1000,
            max_hopeless: 20,
            max_failing: 3,
            max_workers: 1024,
        }
    }
}

/// The coordinator's state and rules.
pub struct Core {
    config: CoreConfig,
    build_controller: BuildController,
    studies: BTreeMap<StudyName, Study>,
    attempts: Attempts,
    workers: Workers,
    /// Requests for work that wait.
    line: Line,
    next: NextIds,
    /// Counts changes of what queries show.
    version: u64,
}

/// The next free ids.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NextIds {
    study: u64,
    worker: u64,
    /// What the records have used or reserved.
    ids: UsedIds,
}

impl Core {
    /// A core without studies and workers.
    pub fn new(config: CoreConfig) -> Self {
        Self::with_controllers(config, controller::build)
    }

    pub(crate) fn with_controllers(config: CoreConfig, build_controller: BuildController) -> Self {
        Self {
            config,
            build_controller,
            studies: BTreeMap::new(),
            attempts: Attempts::default(),
            workers: Workers::default(),
            line: Line::default(),
            next: NextIds { study: 0, worker: 1, ids: UsedIds::default() },
            version: 0,
        }
    }

    /// When to send the next [`Event::Tick`](super::Event::Tick); `None` if nothing is pending. It
    /// may be in the past.
    pub fn next_deadline(&self) -> Option<Time> {
        let term = self.config.lease;
        let workers = self.workers.iter().map(|(_, worker)| worker.seen().after(term));
        let hours = self.studies.values().filter_map(Study::out_of_hours_at);
        let others = self.attempts.next_deadline().into_iter().chain(self.line.next_deadline());
        others.chain(workers).chain(hours).min()
    }

    /// Grows whenever something that a query shows may have changed, other than by time alone.
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// What the other rooms of the core may ask.
impl Core {
    pub(super) fn config(&self) -> &CoreConfig {
        &self.config
    }

    /// The study of this name, or a refusal that names the existing ones.
    pub(super) fn study(&self, name: &StudyName) -> Result<&Study, Refusal> {
        self.studies.get(name).ok_or_else(|| {
            let (name, studies) = (name.clone(), self.studies());
            Refusal::UnknownStudy { name, studies }
        })
    }

    /// The study of this name, if there is one.
    pub(super) fn find(&self, name: &StudyName) -> Option<&Study> {
        self.studies.get(name)
    }

    /// A study that exists.
    pub(super) fn known(&self, name: &StudyName) -> &Study {
        &self.studies[name]
    }

    /// All studies, by name.
    pub(super) fn by_name(&self) -> impl Iterator<Item = (&StudyName, &Study)> {
        self.studies.iter()
    }

    /// Names of all studies, oldest first.
    pub fn studies(&self) -> Vec<StudyName> {
        let mut all: Vec<_> = self.studies.iter().collect();
        all.sort_by_key(|(_, study)| study.created());
        all.into_iter().map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// The workers that are connected.
    pub(super) fn connected(&self) -> &Workers {
        &self.workers
    }

    /// An id for the next task.
    pub(super) fn next_task(&self) -> TaskId {
        TaskId(self.next.ids.tasks_below)
    }

    /// Ids for the next tasks.
    pub(super) fn next_tasks(&self) -> impl Iterator<Item = TaskId> + use<> {
        (self.next.ids.tasks_below..).map(TaskId)
    }

    /// An id for the next attempt.
    pub(super) fn next_attempt(&self) -> AttemptId {
        AttemptId(self.next.ids.attempts_below)
    }

    /// All that a restart has to restore, as text.
    #[cfg(test)]
    pub(super) fn lasting(&self) -> String {
        let mut text = String::new();
        for (name, study) in &self.studies {
            text.push_str(&format!("{name}: {}\n", study.lasting()));
        }
        let NextIds { study, ids, worker: _ } = self.next;
        text.push_str(&format!("{}\n{study} {ids:?}\n", self.attempts.lasting()));
        text
    }
}
