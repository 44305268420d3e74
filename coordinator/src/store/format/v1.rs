//! Version 1 of every kind of record, frozen. Many kinds have not changed since.
//!
//! Names are texts and hashes are hexadecimal, because the domain's types were written that way
//! when this was the only version.

use serde::{Deserialize, Serialize};

use super::{FormatError, Frame, frozen};

/// The kinds in the order of their numbers, as in layout 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    StudyCreated(StudyCreated),
    StudyStateChanged(StudyStateChanged),
    StudyDeleted(StudyDeleted),
    ProposalsEnded(ProposalsEnded),
    TrialProposed(TrialProposed),
    TrialInfeasible(TrialInfeasible),
    AttemptStarted(AttemptStarted),
    AttemptEnded(AttemptEnded),
    TeacherTrained(TeacherTrained),
    TrialTrained(TrialTrained),
    Measured(Measured),
    TrialFinished(TrialFinished),
    TaskGivenUp(TaskGivenUp),
    WorkerIdsReserved(WorkerIdsReserved),
    TrialLookedUp(TrialLookedUp),
    RungReached(RungReached),
    TrialPromoted(TrialPromoted),
    TrialImported(TrialImported),
    TrialInherits(TrialInherits),
    TrialTooSlow(TrialTooSlow),
    TrialScored(TrialScored),
    // Kinds below exist only in layout 2.
    DataCheckWanted(DataCheckWanted),
    DataChecked(DataChecked),
    DataDamaged(DataDamaged),
    DataTrusted(DataTrusted),
    TeacherRetried(TeacherRetried),
    TrialRetried(TrialRetried),
    BudgetExtended(BudgetExtended),
    StudyRenamed(StudyRenamed),
    TeacherMeasuredAgain(TeacherMeasuredAgain),
    IdsReserved(IdsReserved),
}

frozen! { 1:
    0 StudyCreated,
    1 StudyStateChanged,
    2 StudyDeleted,
    3 ProposalsEnded,
    4 TrialProposed,
    5 TrialInfeasible,
    6 AttemptStarted,
    7 AttemptEnded,
    8 TeacherTrained,
    9 TrialTrained,
    10 Measured,
    11 TrialFinished,
    12 TaskGivenUp,
    13 WorkerIdsReserved,
    14 TrialLookedUp,
    15 RungReached,
    16 TrialPromoted,
    17 TrialImported,
    18 TrialInherits,
    19 TrialTooSlow,
    20 TrialScored,
    21 DataCheckWanted,
    22 DataChecked,
    23 DataDamaged,
    24 DataTrusted,
    25 TeacherRetried,
    26 TrialRetried,
    27 BudgetExtended,
    28 StudyRenamed,
    29 TeacherMeasuredAgain,
    30 IdsReserved,
}

/// Reads a frame of version 1.
pub fn read(frame: &Frame) -> Result<Record, FormatError> {
    Ok(match frame.kind {
        0 => Record::StudyCreated(frame.read()?),
        1 => Record::StudyStateChanged(frame.read()?),
        2 => Record::StudyDeleted(frame.read()?),
        3 => Record::ProposalsEnded(frame.read()?),
        4 => Record::TrialProposed(frame.read()?),
        5 => Record::TrialInfeasible(frame.read()?),
        6 => Record::AttemptStarted(frame.read()?),
        7 => Record::AttemptEnded(frame.read()?),
        8 => Record::TeacherTrained(frame.read()?),
        9 => Record::TrialTrained(frame.read()?),
        10 => Record::Measured(frame.read()?),
        11 => Record::TrialFinished(frame.read()?),
        12 => Record::TaskGivenUp(frame.read()?),
        13 => Record::WorkerIdsReserved(frame.read()?),
        14 => Record::TrialLookedUp(frame.read()?),
        15 => Record::RungReached(frame.read()?),
        16 => Record::TrialPromoted(frame.read()?),
        17 => Record::TrialImported(frame.read()?),
        18 => Record::TrialInherits(frame.read()?),
        19 => Record::TrialTooSlow(frame.read()?),
        20 => Record::TrialScored(frame.read()?),
        21 => Record::DataCheckWanted(frame.read()?),
        22 => Record::DataChecked(frame.read()?),
        23 => Record::DataDamaged(frame.read()?),
        24 => Record::DataTrusted(frame.read()?),
        25 => Record::TeacherRetried(frame.read()?),
        26 => Record::TrialRetried(frame.read()?),
        27 => Record::BudgetExtended(frame.read()?),
        28 => Record::StudyRenamed(frame.read()?),
        29 => Record::TeacherMeasuredAgain(frame.read()?),
        30 => Record::IdsReserved(frame.read()?),
        kind => return Err(FormatError::Kind { kind, version: 1 }),
    })
}

impl Record {
    /// The kind's number.
    pub fn kind(&self) -> u32 {
        match self {
            Record::StudyCreated(_) => 0,
            Record::StudyStateChanged(_) => 1,
            Record::StudyDeleted(_) => 2,
            Record::ProposalsEnded(_) => 3,
            Record::TrialProposed(_) => 4,
            Record::TrialInfeasible(_) => 5,
            Record::AttemptStarted(_) => 6,
            Record::AttemptEnded(_) => 7,
            Record::TeacherTrained(_) => 8,
            Record::TrialTrained(_) => 9,
            Record::Measured(_) => 10,
            Record::TrialFinished(_) => 11,
            Record::TaskGivenUp(_) => 12,
            Record::WorkerIdsReserved(_) => 13,
            Record::TrialLookedUp(_) => 14,
            Record::RungReached(_) => 15,
            Record::TrialPromoted(_) => 16,
            Record::TrialImported(_) => 17,
            Record::TrialInherits(_) => 18,
            Record::TrialTooSlow(_) => 19,
            Record::TrialScored(_) => 20,
            Record::DataCheckWanted(_) => 21,
            Record::DataChecked(_) => 22,
            Record::DataDamaged(_) => 23,
            Record::DataTrusted(_) => 24,
            Record::TeacherRetried(_) => 25,
            Record::TrialRetried(_) => 26,
            Record::BudgetExtended(_) => 27,
            Record::StudyRenamed(_) => 28,
            Record::TeacherMeasuredAgain(_) => 29,
            Record::IdsReserved(_) => 30,
        }
    }
}

/// Kind 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyCreated {
    pub study: String,
    pub spec_toml: String,
    pub teacher_weights: Option<String>,
    pub teacher_task: Option<u64>,
    pub at_ms: u64,
}

/// Kind 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyStateChanged {
    pub study: String,
    pub state: StudyState,
    pub elapsed_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum StudyState {
    Running,
    Paused,
    Complete { reason: Option<String> },
    Cancelled,
    Failed { reason: String },
}

/// Kind 2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyDeleted {
    pub study: String,
}

/// Kind 3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProposalsEnded {
    pub study: String,
    pub reason: String,
}

/// Kind 4.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialProposed {
    pub study: String,
    pub number: u32,
    pub task: u64,
    pub genotype: Vec<u16>,
    pub parents: Vec<u32>,
}

/// Kind 5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialInfeasible {
    pub study: String,
    pub number: u32,
    pub genotype: Vec<u16>,
    pub parents: Vec<u32>,
    pub reason: String,
}

/// Kind 6.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptStarted {
    pub study: String,
    pub task: u64,
    pub attempt: u64,
    pub worker: u64,
    pub elapsed_ms: u64,
}

/// Kind 7.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptEnded {
    pub study: String,
    pub task: u64,
    pub attempt: u64,
    pub ending: AttemptEnding,
    pub elapsed_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AttemptEnding {
    Succeeded,
    Failed { reason: String },
    Lost,
    Left,
}

/// Kind 8.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherTrained {
    pub study: String,
    pub trained: TrainedTrial,
    pub soft_targets: String,
    /// Task and device class.
    pub measure: Vec<(u64, String)>,
}

/// Kind 9.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialTrained {
    pub study: String,
    pub number: u32,
    pub trained: TrainedTrial,
    /// Task and device class.
    pub measure: Vec<(u64, String)>,
}

/// Kind 10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub study: String,
    pub task: u64,
    pub measurement: Measurement,
}

/// Kind 11.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialFinished {
    pub study: String,
    pub number: u32,
    pub ending: TrialEnding,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TrialEnding {
    Complete,
    Infeasible { reason: String },
    Failed { reason: String },
    Pruned,
    ScreenedOut,
}

/// Kind 12.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskGivenUp {
    pub study: String,
    pub task: u64,
    pub reason: String,
}

/// Kind 13.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerIdsReserved {
    pub below: u64,
}

/// Kind 14.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialLookedUp {
    pub study: String,
    pub number: u32,
    pub figures: Figures,
}

/// Kind 15.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RungReached {
    pub study: String,
    pub number: u32,
    pub report: RungReport,
}

/// Kind 16.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialPromoted {
    pub study: String,
    pub number: u32,
    pub task: u64,
}

/// Kind 17.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialImported {
    pub study: String,
    pub number: u32,
    pub genotype: Vec<u16>,
    pub figures: Figures,
}

/// Kind 18.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialInherits {
    pub study: String,
    pub number: u32,
    pub donor: u32,
}

/// Kind 19.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialTooSlow {
    pub study: String,
    pub number: u32,
    pub genotype: Vec<u16>,
    pub parents: Vec<u32>,
    pub device: String,
    pub reason: String,
}

/// Kind 20.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialScored {
    pub study: String,
    pub number: u32,
    pub score: f64,
}

/// Kind 21.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataCheckWanted {
    pub study: String,
    pub task: u64,
}

/// Kind 22.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataChecked {
    pub study: String,
    pub train: u32,
    pub validation: u32,
    pub test: u32,
}

/// Kind 23.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataDamaged {
    pub study: String,
    pub reason: String,
}

/// Kind 24.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataTrusted {
    pub study: String,
}

/// Kind 25.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherRetried {
    pub study: String,
    pub task: u64,
}

/// Kind 26.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialRetried {
    pub study: String,
    pub number: u32,
    pub task: Option<u64>,
    /// Task, device class, engine and threads.
    pub measure: Vec<(u64, String, String, u32)>,
}

/// Kind 28.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyRenamed {
    pub study: String,
    pub name: String,
}

/// Kind 29.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherMeasuredAgain {
    pub study: String,
    /// Task, device class, engine and threads.
    pub measure: Vec<(u64, String, String, u32)>,
}

/// Kind 30.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdsReserved {
    pub tasks_below: u64,
    pub attempts_below: u64,
}

/// Kind 27.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetExtended {
    pub study: String,
    pub trials: u32,
    pub simulated_seconds: Option<f64>,
    pub max_attempts: u32,
    pub hours: Option<f64>,
    /// The text of the study file, if one was submitted.
    pub source: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedTrial {
    pub compressed: NetworkReport,
    pub uncompressed: NetworkReport,
    pub model: String,
    pub weights: String,
    pub images_seen: u64,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkReport {
    pub validation_accuracy: f64,
    pub test_accuracy: f64,
    pub model_bytes: u64,
    pub macs: u64,
    pub parameters: u64,
    pub peak_memory_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RungReport {
    pub epochs: u32,
    pub validation_accuracy: f64,
    /// A hash of zeros if there is no checkpoint.
    pub checkpoint: String,
    pub images_seen: u64,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub validation_accuracy: f64,
    /// By name. The first one is the study's own.
    pub test_accuracies: Vec<(String, f64)>,
    pub model_bytes: Option<u64>,
    pub macs: Option<u64>,
    pub parameters: Option<u64>,
    pub peak_memory_bytes: Option<u64>,
    /// By device class.
    pub latencies: Vec<(String, f64)>,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    pub device: DeviceInfo,
    pub engine: String,
    pub engine_version: String,
    pub threads: u32,
    pub batch: u32,
    pub warmup_runs: u32,
    pub samples: u32,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub min_ms: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceInfo {
    pub class: String,
    pub name: String,
    pub cpu: String,
    pub cpu_flags: Vec<String>,
    pub cores: u32,
}
