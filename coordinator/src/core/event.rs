//! What can happen to the core. The runtime turns every request and every timer into one of these.

use edgesmith_common::{
    ArtifactHash, AttemptError, AttemptId, Outcome, StudyName, StudySpec, TaskId, WorkerId,
    WorkerInfo,
};

use super::{KnownTrial, Time};

/// Names a pending request of the runtime, which chooses the numbers. Every event that carries one is
/// answered by exactly one [`Command::Reply`](super::Command::Reply) unless it is
/// [abandoned](Event::Abandoned) first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A user submits a study.
    Submit {
        /// Whom to answer.
        to: RequestId,
        /// The study.
        spec: Box<StudySpec>,
        /// Uploaded teacher weights, where the study names a teacher file.
        teacher_weights: Option<ArtifactHash>,
        /// Wall clock now, milliseconds since 1970; kept for people, decides nothing.
        at_ms: u64,
    },
    /// A user brings results that are known already.
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
    /// A worker registers.
    Join {
        /// Whom to answer.
        to: RequestId,
        /// Who it is.
        worker: WorkerInfo,
        /// Attempts that it still holds from an earlier connection; taken over where current.
        held: Vec<AttemptId>,
    },
    /// A worker asks for a task for one of its slots and waits for it until `deadline`.
    Lease {
        /// Whom to answer.
        to: RequestId,
        /// Who asks.
        worker: WorkerId,
        /// When to answer that there is none.
        deadline: Time,
    },
    /// The asker of a pending request is gone; it gets no answer, so that no task is lost on it.
    Abandoned {
        /// Which request; harmless where it was answered already.
        to: RequestId,
    },
    /// A worker lives and says what it holds, which extends those leases.
    Heartbeat {
        /// Whom to answer.
        to: RequestId,
        /// Who.
        worker: WorkerId,
        /// Attempts that run there.
        running: Vec<AttemptProgress>,
    },
    /// A worker ends an attempt.
    Report {
        /// Whom to answer.
        to: RequestId,
        /// Who.
        worker: WorkerId,
        /// Which task.
        task: TaskId,
        /// Which lease of it.
        attempt: AttemptId,
        /// What came of it.
        outcome: Result<Outcome, AttemptError>,
    },
    /// A worker leaves; its attempts go back at once.
    Leave {
        /// Whom to answer.
        to: RequestId,
        /// Who.
        worker: WorkerId,
    },
    /// Time has passed: acts on every deadline that `now` has reached. Only this event does, so a
    /// heartbeat that waited in the runtime's queue while the process slept still counts if it is
    /// handled before the tick. A tick too early changes nothing.
    Tick,
}

/// What a user does to a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Hands out nothing until resumed; running attempts go on.
    Pause,
    /// Goes on.
    Resume,
    /// Ends it for good; running attempts are stopped.
    Cancel,
    /// Removes it with its trials.
    Delete,
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptProgress {
    /// Which.
    pub attempt: AttemptId,
    /// Share done, `0..=1`.
    pub fraction: f64,
    /// What it is at, in words.
    pub stage: String,
}
