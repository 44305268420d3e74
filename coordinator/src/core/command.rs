//! What the core asks of the runtime.

use std::sync::Arc;
use std::time::Duration;

use edgesmith_common::{AttemptId, StudyName, TaskId, TrialNumber, Work, WorkerId};

use super::{Record, RequestId};

/// Something the runtime has to do. Commands of one [`handle`](super::Core::handle) call, and of
/// several calls in a row, are one unit: the runtime first appends all their records in order in
/// one durable write, then sends the replies. If the write fails, no reply goes out and the process
/// ends, because the core is ahead of its store.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Append this to the store.
    Persist(Box<Record>),
    /// Answer a request.
    Reply {
        /// Which.
        to: RequestId,
        /// With what.
        answer: Result<Answer, Refusal>,
    },
}

/// The answer to a request that succeeded. Each kind of event has its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To `Submit`.
    Submitted {
        /// The study's name.
        study: StudyName,
        /// False if the same study existed already.
        created: bool,
    },
    /// To `Import`.
    Imported {
        /// Number of trials that were taken in.
        imported: u32,
        /// Number of trials that were skipped, because the study had the same candidate already or
        /// it came twice.
        known: u32,
    },
    /// To `Steer`: the action is done. Its effect is in the study's status.
    Steered,
    /// To `Join`.
    Joined {
        /// Id of this connection.
        worker: WorkerId,
        /// Send a heartbeat at least this often.
        heartbeat: Duration,
        /// Held attempts that are no longer the worker's.
        stop: Vec<AttemptId>,
    },
    /// To `Lease`: a task.
    Leased(Box<Lease>),
    /// To `Lease`: there was no task before the deadline.
    NoTask,
    /// To `Heartbeat`.
    Alive {
        /// Attempts that are no longer the worker's: it stops them and reports nothing.
        stop: Vec<AttemptId>,
    },
    /// To `Report`.
    Reported {
        /// False if the attempt was not current; then the report changed nothing.
        accepted: bool,
    },
    /// To `Leave`.
    Left,
}

/// One lease of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// This lease of it.
    pub attempt: AttemptId,
    /// The study.
    pub study: StudyName,
    /// The study with all defaults filled in, as [`StudySpec::to_resolved`] writes it.
    ///
    /// [`StudySpec::to_resolved`]: edgesmith_common::StudySpec::to_resolved
    pub resolved_study: Arc<str>,
    /// What to do.
    pub work: Work,
}

/// Why a request was refused. A refused request has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No study has that name.
    #[error("there is no study {name}; {}", known(.studies))]
    UnknownStudy {
        /// As asked.
        name: StudyName,
        /// The existing studies, oldest first.
        studies: Vec<StudyName>,
    },
    /// The study has no trial of that number.
    #[error("study {study} has no trial {number}; it has {trials} trials so far, numbered from 0")]
    UnknownTrial {
        /// Which study.
        study: StudyName,
        /// As asked.
        number: TrialNumber,
        /// How many trials the study has.
        trials: u32,
    },
    /// No objective of the study is on that device.
    #[error(
        "study {study} has no objective on device {device}; choose a device that an objective names"
    )]
    NoObjectives {
        /// Which study.
        study: StudyName,
        /// As asked.
        device: edgesmith_common::DeviceClass,
    },
    /// The worker never joined, has left, or was silent for too long. It has to join again.
    #[error("worker {0} is not registered; it has to join again")]
    UnknownWorker(WorkerId),
    /// Another study has this name.
    #[error(
        "another study is already named {0}; rename this one, or delete the other with `edgesmith \
         delete {0}`"
    )]
    NameTaken(StudyName),
    /// The study has ended, so the action is not possible any more.
    #[error("study {study} is already {state}; it can only be deleted")]
    Ended {
        /// Which.
        study: StudyName,
        /// The state's name.
        state: &'static str,
    },
    /// An imported trial does not fit the study.
    #[error("trial {place} of the import, counted from 0, does not fit the study: {reason}")]
    NotImportable {
        /// Counted from 0.
        place: usize,
        /// Why.
        reason: String,
    },
    /// The study starts from an earlier one on other data, so their accuracies are not comparable.
    #[error(
        "study {study} cannot start from {earlier}, which is on other data, so accuracies are not \
         comparable; remove it from study.start_from"
    )]
    OtherData {
        /// The new one.
        study: StudyName,
        /// The one that it starts from.
        earlier: StudyName,
    },
    /// Teacher weights are missing, or came with a study that needs none.
    #[error("{0}")]
    TeacherWeights(&'static str),
    /// The limit of connected workers is reached.
    #[error(
        "{0} workers are already connected, the most that this coordinator takes; stop one first"
    )]
    TooManyWorkers(usize),
    /// A worker without roles or slots.
    #[error("a worker needs at least one role and at least one slot")]
    IdleWorker,
    /// A worker that measures, but names no engine to measure with.
    #[error("a worker with the role measure needs at least one engine to run models with")]
    NoEngine,
}

fn known(studies: &[StudyName]) -> String {
    if studies.is_empty() {
        return "no study has been submitted yet".to_owned();
    }
    let names: Vec<&str> = studies.iter().map(StudyName::as_str).collect();
    format!("the studies are: {}", names.join(", "))
}
