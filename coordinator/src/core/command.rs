//! What the core asks of the runtime.

use std::sync::Arc;
use std::time::Duration;

use edgesmith_common::{AttemptId, StudyName, TaskId, TrialNumber, Work, WorkerId};

use super::{Record, RequestId};

/// Something the runtime has to do. Commands of one [`handle`](super::Core::handle) call, and of
/// several calls in a row, are one unit: the runtime first appends all their records in order in one
/// durable write, then sends the replies. Where the write fails, no reply goes out and the process
/// ends: the core is ahead of its store.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Append this to the store.
    Persist(Record),
    /// Answer a request.
    Reply {
        /// Which.
        to: RequestId,
        /// With what.
        answer: Result<Answer, Refusal>,
    },
}

/// A request that was understood. Each event has its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To `Submit`.
    Submitted {
        /// The study's name.
        study: StudyName,
        /// False where the same study was there already.
        created: bool,
    },
    /// To `Import`.
    Imported {
        /// Taken in.
        imported: u32,
        /// The study had a trial of the same candidate already, or they came twice.
        known: u32,
    },
    /// To `Steer`: it is done; ask for the study's status.
    Steered,
    /// To `Join`.
    Joined {
        /// Id of this connection.
        worker: WorkerId,
        /// Beat at least this often.
        heartbeat: Duration,
        /// Held attempts that are not the worker's any more.
        stop: Vec<AttemptId>,
    },
    /// To `Lease`: a task.
    Leased(Box<Lease>),
    /// To `Lease`: none came up in time.
    NoTask,
    /// To `Heartbeat`.
    Alive {
        /// Attempts that are not the worker's any more: it stops them and reports nothing.
        stop: Vec<AttemptId>,
    },
    /// To `Report`.
    Reported {
        /// False where the attempt was not current; the report changed nothing.
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

/// A request that cannot be met. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No study has that name.
    #[error("there is no study {name}; {}", known(.studies))]
    UnknownStudy {
        /// As asked.
        name: StudyName,
        /// The studies there are, oldest first.
        studies: Vec<StudyName>,
    },
    /// The study has no trial of that number.
    #[error("study {study} has no trial {number}; it has {trials} so far, numbered from 0")]
    UnknownTrial {
        /// Which study.
        study: StudyName,
        /// As asked.
        number: TrialNumber,
        /// How many there are.
        trials: u32,
    },
    /// No objective of the study is on that device.
    #[error("study {study} has no objective on device {device}")]
    NoObjectives {
        /// Which study.
        study: StudyName,
        /// As asked.
        device: edgesmith_common::DeviceClass,
    },
    /// The worker never joined, left, or was silent for too long: it has to join again.
    #[error("worker {0} is not known here (any more); it has to join again")]
    UnknownWorker(WorkerId),
    /// Another study has the name.
    #[error(
        "there is another study {0} already; rename this one, or delete the other with `edgesmith \
         delete {0}`"
    )]
    NameTaken(StudyName),
    /// The study has ended, so it cannot be paused or resumed.
    #[error("study {study} is {state} already")]
    Ended {
        /// Which.
        study: StudyName,
        /// The state's name.
        state: &'static str,
    },
    /// A result that a study cannot take in.
    #[error("trial {place} of the import does not fit the study: {reason}")]
    NotImportable {
        /// Counted from 0.
        place: usize,
        /// Why.
        reason: String,
    },
    /// A study starts from one whose accuracies are on other images.
    #[error(
        "study {study} starts from {earlier}, which is on other data; its accuracies do not compare"
    )]
    OtherData {
        /// The new one.
        study: StudyName,
        /// The one that it names.
        earlier: StudyName,
    },
    /// Teacher weights and the study's teacher do not fit together.
    #[error("{0}")]
    TeacherWeights(&'static str),
    /// More workers than the coordinator takes.
    #[error("{0} workers are connected already, which is all that this coordinator takes")]
    TooManyWorkers(usize),
    /// A worker without roles or slots.
    #[error("a worker needs at least one role and one slot")]
    IdleWorker,
}

fn known(studies: &[StudyName]) -> String {
    if studies.is_empty() {
        return "there are none yet".to_owned();
    }
    let names: Vec<&str> = studies.iter().map(StudyName::as_str).collect();
    format!("there are {}", names.join(", "))
}
