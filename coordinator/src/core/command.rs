//! What the core asks of the runtime.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edgesmith_common::spec::Difference;
use edgesmith_common::{ArtifactHash, AttemptId, StudyName, TaskId, TrialNumber, Work, WorkerId};

use super::event::RequestId;
use super::record::{Record, StudyState};
use super::study::ProposalRequest;

/// Something the runtime has to do. Commands of one [`handle`](super::Core::handle) call, and of
/// several calls in a row, are one unit: the runtime first appends all their records in order in
/// one durable write, then sends the replies. If the write fails, no reply goes out and the process
/// ends, because the core is ahead of its store.
#[derive(Debug)]
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
    /// Compute this beside the core, and send the [answer](ProposalRequest::answer) back as an
    /// event. Only this process waits for it, so it is not stored.
    Propose(Box<ProposalRequest>),
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
        /// Whether the study existed and its budget was extended.
        extended: bool,
        /// In what the study differs from the one of its name that it replaced, because nothing of
        /// that was begun; empty if it replaced none.
        replaced: Vec<Difference>,
        /// Whether the study existed and its damaged data are read again.
        reread: bool,
        /// The trials of earlier studies that it starts from.
        start: Start,
    },
    /// To `Extend`.
    Extended,
    /// To `Rename`.
    Renamed,
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
    /// To `Retry`: what is tried again.
    Retried {
        /// Number of failed trials.
        trials: u32,
        /// Whether the data are read again.
        data: bool,
        /// Whether the teacher is trained again.
        teacher: bool,
        /// Number of targets on which the teacher is measured again.
        measured: u32,
    },
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

/// What a new study took in of the earlier studies that it starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Start {
    /// Number of trials that were taken in.
    pub imported: u32,
    /// Number of trials that were skipped, because an earlier one has the same candidate.
    pub known: u32,
    /// Number of complete trials that do not fit, by the reason.
    pub left_out: BTreeMap<String, u32>,
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
    /// Hash of the data that the study began with, which the worker compares with its own; `None`
    /// if any data will do.
    pub data: Option<ArtifactHash>,
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
    /// A different study has this name.
    #[error(
        "another study is already named {study}, and it differs from this one in {}; {}",
        listed(.differences),
        instead(.study, *.only_limits, *.same_data)
    )]
    Differs {
        /// The name.
        study: StudyName,
        /// The fields, with the values of the existing study first.
        differences: Vec<Difference>,
        /// Whether only limits of the budget differ, and one of them is smaller.
        only_limits: bool,
        /// Whether both are on the same data, so that one can start from the other.
        same_data: bool,
    },
    /// The new name of a study is that of another one.
    #[error("another study is already named {0}; choose another name")]
    NameTaken(StudyName),
    /// A limit can only become larger.
    #[error("the {field} of study {study} is {is} already; a budget can only become larger")]
    NotLarger {
        /// Which study.
        study: StudyName,
        /// Which limit.
        field: &'static str,
        /// Its present value.
        is: String,
    },
    /// The study has ended, so the action is not possible any more.
    #[error("study {study} is {state}; {}", how_to_go_on(.study, .state))]
    Ended {
        /// Which.
        study: StudyName,
        /// The state's name.
        state: &'static str,
    },
    /// The trial to try again has not failed.
    #[error("trial {number} of study {study} is {state}; only failed trials can be tried again")]
    NotFailed {
        /// Which study.
        study: StudyName,
        /// Which trial.
        number: TrialNumber,
        /// The state's name.
        state: &'static str,
    },
    /// Nothing of the study can be tried again.
    #[error("nothing of study {study} has failed; {}", without_failures(.study, .advice))]
    NothingFailed {
        /// The study.
        study: StudyName,
        /// What to change, if none of its trials was completed.
        advice: Vec<String>,
    },
    /// The study has no teacher that could be trained again.
    #[error("study {0} trains no teacher")]
    NoTeacher(StudyName),
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
    /// The study starts from an earlier one around another network.
    #[error(
        "study {study} cannot start from {earlier}, which is around another network, so its trials \
         are of other candidates; remove it from study.start_from"
    )]
    OtherNetwork {
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

/// The most differences that a sentence lists.
const LISTED: usize = 8;

fn listed(differences: &[Difference]) -> String {
    let mut all: Vec<String> = differences.iter().take(LISTED).map(ToString::to_string).collect();
    if differences.len() > LISTED {
        all.push(format!("{} more fields", differences.len() - LISTED));
    }
    all.join(", ")
}

/// What to do about a name that a different study has.
fn instead(study: &StudyName, only_limits: bool, same_data: bool) -> String {
    match (only_limits, same_data) {
        (true, _) => "a budget can only become larger".to_owned(),
        (false, true) => format!(
            "give this one another study.name, and study.start_from = [\"{study}\"] to start from \
             the results of the other; or remove the other with all its results: `edgesmith delete \
             {study}`"
        ),
        (false, false) => format!(
            "give this one another study.name, or remove the other with all its results: \
             `edgesmith delete {study}`"
        ),
    }
}

/// How to go on with a study that has ended.
fn how_to_go_on(study: &StudyName, state: &str) -> String {
    if state == StudyState::Cancelled.name() {
        return format!(
            "to use its results, submit another study with study.start_from = [\"{study}\"]"
        );
    }
    format!(
        "to run more trials: `edgesmith extend {study} --trials N`; to try again what failed, if \
         anything did: `edgesmith retry {study}`"
    )
}

/// What to do about a study in which nothing has failed.
fn without_failures(study: &StudyName, advice: &[String]) -> String {
    if advice.is_empty() {
        return format!("to run more trials: `edgesmith extend {study} --trials N`");
    }
    format!("no trial was completed: {}", advice.join("; "))
}

fn known(studies: &[StudyName]) -> String {
    if studies.is_empty() {
        return "no study has been submitted yet".to_owned();
    }
    let names: Vec<&str> = studies.iter().map(StudyName::as_str).collect();
    format!("the studies are: {}", names.join(", "))
}
