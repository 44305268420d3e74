//! The records that are stored: every change of the core's lasting state, in order.
//!
//! Applying all records in order yields the core's state, so replay needs nothing else. The store
//! ([`crate::store`]) has its own types for the format on disk, so the types here may change
//! freely.

use edgesmith_common::spec::Budget;
use edgesmith_common::{
    ArtifactHash, AttemptId, DataReport, Figures, Measurement, RungReport, StudyName, StudySpec,
    Target, TaskId, TrainedTrial, TrialNumber, WorkerId,
};

use super::stages::StagesKey;

/// One change. `elapsed_ms` is how long the study had been running at the time of the record, in
/// milliseconds, without pauses and without the time when no coordinator ran.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A study was submitted; it is Running. Its teacher, if it has one, waits for a worker.
    StudyCreated {
        /// The study with all defaults filled in, so replay does not parse its file again.
        spec: Box<StudySpec>,
        /// The uploaded teacher weights, if any.
        teacher_weights: Option<ArtifactHash>,
        /// The teacher's task, where the study has a teacher.
        teacher_task: Option<TaskId>,
        /// Wall clock, milliseconds since 1970.
        at_ms: u64,
    },
    /// The study trains on files, and was just created or had damaged data that were mended. A
    /// worker has to read them once before any other task that reads them starts.
    DataCheckWanted {
        /// Which study.
        study: StudyName,
        /// The task.
        task: TaskId,
    },
    /// The study's data can be read. Comes after the end of the successful attempt; its task is
    /// done.
    DataChecked {
        /// Which study.
        study: StudyName,
        /// What the worker found in them.
        report: DataReport,
    },
    /// A worker found the study's data damaged. Until they are mended, nothing that reads them
    /// starts. The end of the data check, if it was not done yet.
    DataDamaged {
        /// Which study.
        study: StudyName,
        /// What is wrong with them.
        reason: String,
    },
    /// A user has mended damaged data, and the study has no data check. Its tasks that read them
    /// may start again.
    DataTrusted {
        /// Which study.
        study: StudyName,
    },
    /// The budget of a study became larger. More trials may be proposed, even if there was a reason
    /// not to.
    BudgetExtended {
        /// Which study.
        study: StudyName,
        /// The new budget.
        budget: Budget,
        /// The study file that has this budget; `None` if no file was submitted.
        source: Option<String>,
    },
    /// A study got another name. Later records call it by that.
    StudyRenamed {
        /// Its name so far.
        study: StudyName,
        /// Its new name.
        name: StudyName,
    },
    /// The teacher was given up, or what it left is lost, and it is trained again.
    TeacherRetried {
        /// Which study.
        study: StudyName,
        /// Its task.
        task: TaskId,
    },
    /// The teacher is measured where it is not measured yet, because its tasks were dropped or
    /// given up.
    TeacherMeasuredAgain {
        /// Which study.
        study: StudyName,
        /// The tasks, one a target.
        measure: Vec<(TaskId, Target)>,
    },
    /// A failed trial is tried again, from the last result that it has. It is not finished any
    /// more.
    TrialRetried {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// Its scoring, training or look-up task; `None` if it is trained, or waits again at a
        /// rung or for its batch.
        task: Option<TaskId>,
        /// If it is trained, the tasks that measure it where it is not measured yet.
        measure: Vec<(TaskId, Target)>,
    },
    /// A study was paused, resumed or ended, or goes on after its end. The end drops all remaining
    /// tasks.
    StudyStateChanged {
        /// Which.
        study: StudyName,
        /// Its new state.
        state: StudyState,
        /// See [`Record`].
        elapsed_ms: u64,
    },
    /// A study was deleted, with everything that was known about it.
    StudyDeleted {
        /// Which.
        study: StudyName,
    },
    /// The study will propose no more trials, although its budget is not used up.
    ProposalsEnded {
        /// Which.
        study: StudyName,
        /// Why.
        reason: String,
    },
    /// A candidate was proposed and waits to be scored, trained or looked up.
    TrialProposed {
        /// Which study.
        study: StudyName,
        /// The next number.
        number: TrialNumber,
        /// Its scoring, training or look-up task.
        task: TaskId,
        /// Option indices.
        genotype: Vec<u16>,
        /// What it was derived from.
        parents: Vec<TrialNumber>,
    },
    /// A candidate was proposed that cannot work, or that breaks a constraint which can be computed
    /// before training.
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
    /// The teacher is trained. Comes after the end of the successful attempt.
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
    /// A trial is trained. Comes after the end of the successful attempt.
    TrialTrained {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// Its figures and artifacts. The stages may be left out where records are read again.
        trained: TrainedTrial,
        /// What names its stages, also if they are left out.
        stages: Option<StagesKey>,
        /// The tasks that measure it, one a target of the study.
        measure: Vec<(TaskId, Target)>,
    },
    /// The latency of a model was measured. Comes after the end of the successful attempt.
    Measured {
        /// Which study.
        study: StudyName,
        /// The measuring task.
        task: TaskId,
        /// The figures.
        measurement: Measurement,
    },
    /// A trial ended. It never changes again, unless it failed and is retried. Drops its remaining
    /// tasks.
    TrialFinished {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// How.
        ending: TrialEnding,
    },
    /// A task that no trial depends on (measuring the teacher) will not be tried again.
    TaskGivenUp {
        /// Which study.
        study: StudyName,
        /// Which task.
        task: TaskId,
        /// What the last attempt said.
        reason: String,
    },
    /// Worker ids below this one may be in use.
    WorkerIdsReserved {
        /// The lowest worker id that has certainly never been given out.
        below: u64,
    },
    /// Task and attempt ids below these may be in use, although no record that is left has them:
    /// those of deleted studies, and those that were given out after a backup or before damage.
    IdsReserved {
        /// The lowest task id that has certainly never been given out.
        tasks_below: u64,
        /// The lowest attempt id that has certainly never been given out.
        attempts_below: u64,
    },
    /// A trial was looked up. Comes after the end of the successful attempt.
    TrialLookedUp {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// The figures in the table.
        figures: Figures,
    },
    /// A trial reached a rung before the end of training and waits there. Comes after the end of
    /// the successful attempt; its task is done.
    RungReached {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// Its figures and checkpoint at the rung.
        report: RungReport,
    },
    /// A trial goes on: from its rung to the next one or to the end of training, or from its batch
    /// to training.
    TrialPromoted {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// Its training or look-up task.
        task: TaskId,
    },
    /// A trial was imported with results that were known already.
    TrialImported {
        /// Which study.
        study: StudyName,
        /// The next number.
        number: TrialNumber,
        /// Option indices.
        genotype: Vec<u16>,
        /// The known figures.
        figures: Figures,
    },
    /// The trial that was just proposed starts from the weights of another trial.
    TrialInherits {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// The trial whose weights it starts from.
        donor: TrialNumber,
    },
    /// A candidate was proposed whose latency, as predicted from earlier measurements of the study,
    /// is above a limit.
    TrialTooSlow {
        /// Which study.
        study: StudyName,
        /// The next number.
        number: TrialNumber,
        /// Option indices.
        genotype: Vec<u16>,
        /// What it was derived from.
        parents: Vec<TrialNumber>,
        /// The target whose limit it breaks.
        target: Target,
        /// The prediction, and from how many measurements.
        reason: String,
    },
    /// A trial's untrained network was scored, and the trial waits for its batch. Comes after the
    /// end of the successful attempt; its task is done.
    TrialScored {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// Higher is better.
        score: f64,
    },
}

impl Record {
    /// Whether there may be work afterwards that a waiting worker could not get before.
    pub(super) fn opens_work(&self) -> bool {
        match self {
            // They take work, or change nothing that workers wait for.
            Record::AttemptStarted { .. }
            | Record::TrialInherits { .. }
            | Record::StudyRenamed { .. }
            | Record::WorkerIdsReserved { .. }
            | Record::IdsReserved { .. } => false,
            Record::StudyCreated { .. }
            | Record::DataCheckWanted { .. }
            | Record::DataChecked { .. }
            | Record::DataDamaged { .. }
            | Record::DataTrusted { .. }
            | Record::BudgetExtended { .. }
            | Record::TeacherRetried { .. }
            | Record::TeacherMeasuredAgain { .. }
            | Record::TrialRetried { .. }
            | Record::StudyStateChanged { .. }
            | Record::StudyDeleted { .. }
            | Record::ProposalsEnded { .. }
            | Record::TrialProposed { .. }
            | Record::TrialInfeasible { .. }
            | Record::TrialTooSlow { .. }
            | Record::TrialScored { .. }
            | Record::TrialImported { .. }
            | Record::AttemptEnded { .. }
            | Record::TeacherTrained { .. }
            | Record::TrialTrained { .. }
            | Record::TrialLookedUp { .. }
            | Record::Measured { .. }
            | Record::TrialFinished { .. }
            | Record::TaskGivenUp { .. }
            | Record::RungReached { .. }
            | Record::TrialPromoted { .. } => true,
        }
    }

    /// The study that it is about, by its name at the time; `None` if it is about none.
    pub fn study(&self) -> Option<&StudyName> {
        match self {
            Record::StudyCreated { spec, .. } => Some(&spec.name),
            Record::DataCheckWanted { study, .. }
            | Record::DataChecked { study, .. }
            | Record::DataDamaged { study, .. }
            | Record::DataTrusted { study }
            | Record::BudgetExtended { study, .. }
            | Record::StudyRenamed { study, .. }
            | Record::TeacherRetried { study, .. }
            | Record::TeacherMeasuredAgain { study, .. }
            | Record::TrialRetried { study, .. }
            | Record::StudyStateChanged { study, .. }
            | Record::StudyDeleted { study }
            | Record::ProposalsEnded { study, .. }
            | Record::TrialProposed { study, .. }
            | Record::TrialInfeasible { study, .. }
            | Record::AttemptStarted { study, .. }
            | Record::AttemptEnded { study, .. }
            | Record::TeacherTrained { study, .. }
            | Record::TrialTrained { study, .. }
            | Record::Measured { study, .. }
            | Record::TrialFinished { study, .. }
            | Record::TaskGivenUp { study, .. }
            | Record::TrialLookedUp { study, .. }
            | Record::RungReached { study, .. }
            | Record::TrialPromoted { study, .. }
            | Record::TrialImported { study, .. }
            | Record::TrialInherits { study, .. }
            | Record::TrialTooSlow { study, .. }
            | Record::TrialScored { study, .. } => Some(study),
            Record::WorkerIdsReserved { .. } | Record::IdsReserved { .. } => None,
        }
    }
}

/// The state of a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StudyState {
    /// Proposes trials and hands out tasks.
    Running,
    /// Hands out no tasks until it is resumed; running attempts go on.
    Paused,
    /// The budget is used up, or no more trials will be proposed.
    Complete {
        /// Why it ended before its budget was used up; `None` if the budget was used up.
        reason: Option<String>,
    },
    /// Stopped by a user.
    Cancelled,
    /// It cannot go on, or no trial was completed.
    Failed {
        /// Why.
        reason: String,
    },
}

impl StudyState {
    /// Whether it has ended. It runs again only if a user extends or retries it.
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

    /// Why it failed or ended before its budget was used up; empty otherwise.
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
    /// The worker reported a valid result.
    Succeeded,
    /// The worker reported a failure or an invalid result.
    Failed {
        /// What failed.
        reason: String,
    },
    /// The task needs more memory than the worker has. This counts against neither of them. Stored
    /// as [`AttemptEnding::FaultOfWorker`].
    TooLarge {
        /// How much it needs.
        reason: String,
    },
    /// The worker cannot do such tasks of the study, and gets no more of them. This does not count
    /// against the task.
    FaultOfWorker {
        /// What it lacks.
        reason: String,
    },
    /// The study's data are damaged. This does not count against the task.
    FaultOfData {
        /// What is wrong with them.
        reason: String,
    },
    /// The worker was silent for too long or gave the attempt up.
    Lost,
    /// The worker left in an orderly way.
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
    /// Its attempts are used up, or the study was ended.
    Failed {
        /// Why.
        reason: String,
    },
    /// Stopped early at a rung.
    Pruned,
    /// Not trained, because others of its batch were ranked higher.
    ScreenedOut,
}

/// How a record contradicts the state.
pub type Contradiction = String;
