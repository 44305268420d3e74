//! What is written down: every change of the core's lasting state, in order.
//!
//! The core's state is what applying all records in order yields, so replay needs nothing else. How
//! records look on disk is the store's to say ([`crate::store`]): the types here may change freely.

use edgesmith_common::{
    ArtifactHash, AttemptId, DataReport, Figures, Measurement, RungReport, StudyName, StudySpec,
    Target, TaskId, TrainedTrial, TrialNumber, WorkerId,
};

/// One change. `elapsed_ms` is the time that the study has been running, pauses and time without a
/// coordinator left out, as of the record.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A study came in; it is Running. Its teacher, if it has one, waits for a worker.
    StudyCreated {
        /// The study, resolved: replay applies no rule of the study file.
        spec: Box<StudySpec>,
        /// Given teacher weights.
        teacher_weights: Option<ArtifactHash>,
        /// The teacher's task, where the study has a teacher.
        teacher_task: Option<TaskId>,
        /// Wall clock, milliseconds since 1970.
        at_ms: u64,
    },
    /// A study that came in just now trains on files, which a worker is to read once first.
    DataCheckWanted {
        /// Which study.
        study: StudyName,
        /// The task.
        task: TaskId,
    },
    /// The study's data can be read. Follows its attempt's success; its task is done.
    DataChecked {
        /// Which study.
        study: StudyName,
        /// What was found.
        report: DataReport,
    },
    /// A study was paused, resumed or ended. Ending drops the tasks that are left.
    StudyStateChanged {
        /// Which.
        study: StudyName,
        /// What it is now.
        state: StudyState,
        /// See [`Record`].
        elapsed_ms: u64,
    },
    /// A study is gone with all that was known of it.
    StudyDeleted {
        /// Which.
        study: StudyName,
    },
    /// The study will propose no more trials though its budget is not used.
    ProposalsEnded {
        /// Which.
        study: StudyName,
        /// Why.
        reason: String,
    },
    /// A candidate was proposed and waits for training or to be looked up.
    TrialProposed {
        /// Which study.
        study: StudyName,
        /// The next number.
        number: TrialNumber,
        /// Its training or look-up task.
        task: TaskId,
        /// Option indices.
        genotype: Vec<u16>,
        /// What it was derived from.
        parents: Vec<TrialNumber>,
    },
    /// A candidate was proposed that cannot work or breaks a constraint known before training.
    TrialInfeasible {
        /// Which study.
        study: StudyName,
        /// The next number.
        number: TrialNumber,
        /// Option indices.
        genotype: Vec<u16>,
        /// What it was derived from.
        parents: Vec<TrialNumber>,
        /// What it breaks.
        reason: String,
    },
    /// A worker leased a task.
    AttemptStarted {
        /// Which study.
        study: StudyName,
        /// Which task.
        task: TaskId,
        /// The lease.
        attempt: AttemptId,
        /// Who has it.
        worker: WorkerId,
        /// See [`Record`].
        elapsed_ms: u64,
    },
    /// An attempt ended. Unless it succeeded, its task waits again.
    AttemptEnded {
        /// Which study.
        study: StudyName,
        /// Which task.
        task: TaskId,
        /// The lease.
        attempt: AttemptId,
        /// How.
        ending: AttemptEnding,
        /// See [`Record`].
        elapsed_ms: u64,
    },
    /// The teacher is there. Follows its attempt's success.
    TeacherTrained {
        /// Which study.
        study: StudyName,
        /// Its figures and artifacts.
        trained: TrainedTrial,
        /// Its soft targets.
        soft_targets: ArtifactHash,
        /// The tasks that measure it, one a target of the study.
        measure: Vec<(TaskId, Target)>,
    },
    /// A trial is trained. Follows its attempt's success.
    TrialTrained {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// Its figures and artifacts.
        trained: TrainedTrial,
        /// The tasks that measure it, one a target of the study.
        measure: Vec<(TaskId, Target)>,
    },
    /// A model was timed. Follows its attempt's success.
    Measured {
        /// Which study.
        study: StudyName,
        /// The measuring task.
        task: TaskId,
        /// The figures.
        measurement: Measurement,
    },
    /// A trial ended; it never changes again. Drops the tasks that it has left.
    TrialFinished {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// How.
        ending: TrialEnding,
    },
    /// A task that no trial depends on (timing the teacher) will not be tried again.
    TaskGivenUp {
        /// Which study.
        study: StudyName,
        /// Which task.
        task: TaskId,
        /// What the last attempt said.
        reason: String,
    },
    /// Ids below this one may have been given to workers.
    WorkerIdsReserved {
        /// The lowest id that was certainly never given.
        below: u64,
    },
    /// A trial is looked up. Follows its attempt's success.
    TrialLookedUp {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// What the table says.
        figures: Figures,
    },
    /// A trial has come to a rung below its last and waits there. Follows its attempt's success; its
    /// task is done.
    RungReached {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// How it stands.
        report: RungReport,
    },
    /// A trial goes on: from its rung to the next one or to the end, or from its batch to its training.
    TrialPromoted {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// Its training or look-up task.
        task: TaskId,
    },
    /// A trial came in whose results are known.
    TrialImported {
        /// Which study.
        study: StudyName,
        /// The next number.
        number: TrialNumber,
        /// Option indices.
        genotype: Vec<u16>,
        /// What is known.
        figures: Figures,
    },
    /// A trial that was proposed just now starts from another's weights.
    TrialInherits {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// Whose weights.
        donor: TrialNumber,
    },
    /// A candidate was proposed that surely breaks a limit of latency, as earlier measurements of the
    /// study tell.
    TrialTooSlow {
        /// Which study.
        study: StudyName,
        /// The next number.
        number: TrialNumber,
        /// Option indices.
        genotype: Vec<u16>,
        /// What it was derived from.
        parents: Vec<TrialNumber>,
        /// Where.
        target: Target,
        /// What is predicted, and from what.
        reason: String,
    },
    /// A trial's untrained network is scored, and it waits for its batch. Follows its attempt's success;
    /// its task is done.
    TrialScored {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// Higher is better.
        score: f64,
    },
}

/// Where a study stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StudyState {
    /// Proposing and handing out tasks.
    Running,
    /// Handing out nothing until resumed; running attempts go on.
    Paused,
    /// Budget used, or nothing left to propose.
    Complete {
        /// Why it ended before its budget; `None` where the budget was used.
        reason: Option<String>,
    },
    /// Stopped by a user.
    Cancelled,
    /// Cannot go on.
    Failed {
        /// Why.
        reason: String,
    },
}

impl StudyState {
    /// Whether it will never run again.
    pub fn is_ended(&self) -> bool {
        !matches!(self, StudyState::Running | StudyState::Paused)
    }

    /// The state's name in JSON and on the terminal.
    pub fn name(&self) -> &'static str {
        match self {
            StudyState::Running => "running",
            StudyState::Paused => "paused",
            StudyState::Complete { .. } => "complete",
            StudyState::Cancelled => "cancelled",
            StudyState::Failed { .. } => "failed",
        }
    }

    /// Why it failed or ended before its budget; empty otherwise.
    pub fn reason(&self) -> &str {
        match self {
            StudyState::Complete { reason: Some(reason) } | StudyState::Failed { reason } => reason,
            _ => "",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnding {
    /// It yielded what was asked.
    Succeeded,
    /// The worker said that it did not work.
    Failed {
        /// What it said.
        reason: String,
    },
    /// The worker fell silent or let go of it.
    Lost,
    /// The worker said goodbye.
    Left,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrialEnding {
    /// Trained and measured on every device that the study asks for.
    Complete,
    /// The candidate itself cannot work.
    Infeasible {
        /// Why.
        reason: String,
    },
    /// Attempts used up, or the study was ended.
    Failed {
        /// Why.
        reason: String,
    },
    /// Stopped at a rung.
    Pruned,
    /// Not trained, as others of its batch were scored higher.
    ScreenedOut,
}
