//! What can happen to the core. The runtime turns every request and every timer into one of these.

use edgesmith_common::{
    ArtifactHash, AttemptError, AttemptId, Figures, Outcome, StudyName, StudySpec, TaskId,
    TrialNumber, WorkerId, WorkerInfo,
};
use edgesmith_search_space::Genotype;

use super::study::ProposalAnswer;
use super::time::Time;

/// Identifies a pending request. The runtime chooses the numbers. Every event that carries one is
/// answered by exactly one [`Command::Reply`](super::Command::Reply) unless it is
/// [abandoned](Event::Abandoned) first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A user submits a study.
    Submit {
        /// Whom to answer.
        to: RequestId,
        /// The study.
        spec: Box<StudySpec>,
        /// Uploaded teacher weights, where the study names a teacher file.
        teacher_weights: Option<ArtifactHash>,
        /// Wall clock time now, milliseconds since 1970. It is only shown to people; no decision
        /// depends on it.
        at_ms: u64,
    },
    /// A user imports results that are known already.
    Import {
        /// Whom to answer.
        to: RequestId,
        /// Into which study.
        study: StudyName,
        /// The results.
        trials: Vec<KnownTrial>,
    },
    /// A user pauses, resumes, cancels or deletes a study.
    Steer {
        /// Whom to answer.
        to: RequestId,
        /// Which study.
        study: StudyName,
        /// What to do.
        action: Action,
    },
    /// A user gives a study a larger budget.
    Extend {
        /// Whom to answer.
        to: RequestId,
        /// Which study.
        study: StudyName,
        /// The new limit of trials, all earlier ones included; `None` leaves it.
        trials: Option<u32>,
        /// The new limit of running time in hours, from the beginning; `None` leaves it.
        hours: Option<f64>,
    },
    /// A user gives a study another name. Its attempts go on.
    Rename {
        /// Whom to answer.
        to: RequestId,
        /// Which study.
        study: StudyName,
        /// Its new name.
        name: StudyName,
    },
    /// A user has mended the cause of a failure and wants to try again.
    Retry {
        /// Whom to answer.
        to: RequestId,
        /// Which study.
        study: StudyName,
        /// Which failed trial; `None`: all of them.
        trial: Option<TrialNumber>,
        /// Whether the teacher is trained again although it has not failed.
        teacher: bool,
    },
    /// A worker registers.
    Join {
        /// Whom to answer.
        to: RequestId,
        /// Who it is.
        worker: WorkerInfo,
        /// Attempts that it still holds from an earlier connection. It keeps those that are
        /// current.
        held: Vec<AttemptId>,
    },
    /// A worker asks for a task for one of its slots and waits for it until `deadline`.
    Lease {
        /// Whom to answer.
        to: RequestId,
        /// Who asks.
        worker: WorkerId,
        /// When to answer that there is no task.
        deadline: Time,
    },
    /// The client of a request is gone and has not got the answer. If the request still waits, it
    /// is dropped. If a task was leased to it, the task is taken back.
    Abandoned {
        /// Which request.
        to: RequestId,
    },
    /// A worker reports that it is alive and which attempts it holds. This extends their leases.
    Heartbeat {
        /// Whom to answer.
        to: RequestId,
        /// Who.
        worker: WorkerId,
        /// The attempts that it runs.
        running: Vec<AttemptProgress>,
    },
    /// A worker reports the result of an attempt.
    Report {
        /// Whom to answer.
        to: RequestId,
        /// Who.
        worker: WorkerId,
        /// Which task.
        task: TaskId,
        /// Which lease of it.
        attempt: AttemptId,
        /// The result, or why it failed.
        outcome: Box<Result<Outcome, AttemptError>>,
    },
    /// A worker leaves; its attempts are given back at once.
    Leave {
        /// Whom to answer.
        to: RequestId,
        /// Who.
        worker: WorkerId,
    },
    /// The algorithm of a study answers a [request](super::Command::Propose).
    Proposed {
        /// Its answer.
        answer: Box<ProposalAnswer>,
    },
    /// The runtime could not answer for a while, because nothing could be stored. Every connected
    /// worker and every lease gets a full new term.
    Renew,
    /// Time has passed: acts on every deadline that `now` has reached. No other event acts on
    /// deadlines. So a heartbeat that waited in the runtime's queue while the process was suspended
    /// still counts if it is handled before the tick. A tick that comes too early changes nothing.
    Tick,
}

/// What a user does to a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Hands out no tasks until the study is resumed; running attempts go on.
    Pause,
    /// Hands out tasks again.
    Resume,
    /// Ends the study for good and stops its running attempts.
    Cancel,
    /// Removes the study with its trials.
    Delete,
}

/// The progress of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptProgress {
    /// Which.
    pub attempt: AttemptId,
    /// Share done, `0..=1`.
    pub fraction: f64,
    /// The current step, in words.
    pub stage: String,
}

/// A candidate with its known results.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownTrial {
    /// The candidate, in the space of the study that imports it.
    pub genotype: Genotype,
    /// Its figures. Those that can be computed from the network are computed again.
    pub figures: Figures,
}

impl From<ProposalAnswer> for Event {
    fn from(answer: ProposalAnswer) -> Self {
        Self::Proposed { answer: Box::new(answer) }
    }
}
