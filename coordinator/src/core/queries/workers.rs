//! Workers, as shown to users: what they do, and what they cannot do.

use std::time::Duration;

use edgesmith_common::{DeviceClass, Needs, Role, StudyName, WorkerId, WorkerInfo};

use crate::core::state::Core;
use crate::core::study::{Machines, UnlikeMachines};
use crate::core::time::Time;
use crate::core::workers::{Attempt, Worker};

/// A connected worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// Id of this connection.
    pub id: WorkerId,
    /// What it reported about itself when it joined.
    pub info: WorkerInfo,
    /// The tasks that it is running, in words.
    pub activity: Vec<String>,
    /// The time since its last message.
    pub silent: Duration,
    /// What it cannot do.
    pub exclusions: Vec<Exclusion>,
}

/// Tasks of a study that a worker cannot do: it said so, or it failed several in a row while
/// another worker is there that does them. It gets none of them until it joins again or the study
/// is retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// Which study.
    pub study: StudyName,
    /// Which connection.
    pub worker: WorkerId,
    /// The name of the worker's machine.
    pub name: String,
    /// What such tasks need.
    pub needs: Needs,
    /// Whether it failed several of them in a row, while another worker did such tasks.
    pub failing: bool,
    /// Why the worker cannot do them.
    pub reason: String,
}

impl Exclusion {
    /// What the worker cannot do, to follow `cannot`.
    pub fn what(&self) -> String {
        match (&self.needs.target, self.failing) {
            (Some(target), false) => format!("measure on {target}"),
            (Some(target), true) => format!("do the measurements on {target}"),
            (None, false) => "read the data".to_owned(),
            (None, true) => match self.needs.role {
                Role::Train => "do the trainings".to_owned(),
                Role::Table => "do the look-ups".to_owned(),
                Role::Measure => "do the measurements".to_owned(),
            },
        }
    }
}

impl std::fmt::Display for Exclusion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (worker, name, what, reason) = (self.worker, &self.name, self.what(), &self.reason);
        write!(f, "worker {worker} ({name}) cannot {what} of this study: {reason}")
    }
}

impl Core {
    /// Whether a worker is connected.
    pub fn is_connected(&self, worker: WorkerId) -> bool {
        self.connected().has(worker)
    }

    /// Connected workers, ordered by id.
    pub fn workers(&self, now: Time) -> Vec<WorkerView> {
        let view = |(id, worker): (WorkerId, &Worker)| WorkerView {
            id,
            info: worker.info().clone(),
            activity: self.activity(|attempt| attempt.worker() == id),
            silent: now.since(worker.seen()),
            exclusions: self.exclusions(|_, of| of == id),
        };
        self.connected().iter().map(view).collect()
    }

    /// Classes of connected workers whose latencies were measured on machines that differ, in any
    /// study.
    pub fn unlike_machines(&self) -> Vec<UnlikeMachines> {
        let mut machines = Machines::default();
        let studies = self.by_name().flat_map(|(_, study)| study.machines());
        studies.for_each(|of| machines.note(of));
        let mut unlike = machines.unlike();
        let has =
            |(_, worker): (WorkerId, &Worker), class: &DeviceClass| worker.info().class == *class;
        unlike.retain(|of| self.connected().iter().any(|worker| has(worker, &of.class)));
        unlike
    }

    /// Number of connected workers that missed at least two heartbeats.
    pub(super) fn silent_workers(&self, now: Time) -> u32 {
        let late = 2 * self.config().heartbeat;
        self.connected().iter().filter(|(_, worker)| now.since(worker.seen()) > late).count() as u32
    }

    /// What workers cannot do, ordered by worker. Where a worker is asked nevertheless, because no
    /// other is good for such tasks, that is left out.
    pub(super) fn exclusions(
        &self,
        which: impl Fn(&StudyName, WorkerId) -> bool,
    ) -> Vec<Exclusion> {
        let mut all = Vec::new();
        for (id, worker) in self.connected().iter() {
            let holds = |study, needs| !self.connected().can_do(id, study, needs);
            let of_worker = worker.excluded();
            let of_worker =
                of_worker.filter(|(study, needs, _)| which(study, id) && holds(study, needs));
            all.extend(of_worker.map(|(study, needs, why)| Exclusion {
                study: study.clone(),
                worker: id,
                name: worker.info().name.clone(),
                needs: needs.clone(),
                failing: why.failing,
                reason: why.reason.clone(),
            }));
        }
        all
    }

    /// Current attempts in words, ordered by worker.
    pub(super) fn activity(&self, which: impl Fn(&Attempt) -> bool) -> Vec<String> {
        let current = self.attempts().iter().map(|(_, attempt)| attempt);
        let mut attempts: Vec<&Attempt> = current.filter(|attempt| which(attempt)).collect();
        attempts.sort_by_key(|attempt| attempt.worker());
        let words = |attempt: &Attempt| {
            let task = self.find(attempt.study())?.tasks().get(attempt.task())?;
            let (words, stage) = (task.kind().words(), attempt.stage());
            Some(if stage.is_empty() { words } else { format!("{words} ({stage})") })
        };
        attempts.into_iter().filter_map(words).collect()
    }
}
