//! Tasks: what a worker is, what it can be asked to do, what a task needs, and how a task can end.
//! Coordinator, wire and worker all use these definitions.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use edgesmith_search_space::Genotype;

use crate::{
    ArtifactHash, DeviceClass, EngineName, Figures, Measurement, RungReport, Target, TrainedTrial,
    TrialNumber,
};

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Trains teachers, trains and compresses trials.
    Train,
    /// Times compressed models on its device.
    Measure,
    /// Looks candidates up in tables.
    Table,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 3] = [Role::Train, Role::Measure, Role::Table];

    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Role::Train => "train",
            Role::Measure => "measure",
            Role::Table => "table",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("unknown role {name:?}; use one of {known}")
        })
    }
}

/// What a worker says about itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// The machine's own name.
    pub name: String,
    /// Class of the device that it measures on.
    pub class: DeviceClass,
    /// The kinds of task that it does; at least one.
    pub roles: BTreeSet<Role>,
    /// Engines that it can run models with; empty if it does not measure.
    pub engines: BTreeSet<EngineName>,
    /// Number of tasks that it takes at once; at least 1.
    pub slots: u32,
    /// Training backend, for example `flex`; empty if it does not train.
    pub backend: String,
}

impl WorkerInfo {
    /// Whether the worker can do a task with these needs, provided that it has the data.
    pub fn can_do(&self, needs: &Needs) -> bool {
        let has_target =
            |target: &Target| self.class == target.device && self.engines.contains(&target.engine);
        self.roles.contains(&needs.role) && needs.target.as_ref().is_none_or(has_target)
    }
}

/// What a task needs of the worker that does it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needs {
    /// Role that the worker must have.
    pub role: Role,
    /// Whether the task reads the study's data: its images, or its table.
    pub data: bool,
    /// Device and engine that the worker must have; `None` if any device will do.
    pub target: Option<Target>,
}

impl Needs {
    /// A worker that trains on the study's images.
    pub fn training() -> Self {
        Self { role: Role::Train, data: true, target: None }
    }

    /// A worker that reads the study's table.
    pub fn looking_up() -> Self {
        Self { role: Role::Table, data: true, target: None }
    }

    /// A worker that measures on this target; a model file is all that it needs.
    pub fn measuring_on(target: Target) -> Self {
        Self { role: Role::Measure, data: false, target: Some(target) }
    }
}

/// What a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Read the study's data once, before anything is trained on them.
    CheckData,
    /// Train the teacher, or evaluate given weights.
    TrainTeacher {
        /// Given weights (safetensors); `None`: train them.
        weights: Option<ArtifactHash>,
    },
    /// Score one candidate's untrained network with the study's proxy.
    ScoreTrial {
        /// The trial's number, which seeds it.
        number: TrialNumber,
        /// The candidate.
        genotype: Genotype,
    },
    /// Train and compress one candidate.
    TrainTrial {
        /// The trial's number, which seeds it.
        number: TrialNumber,
        /// The candidate.
        genotype: Genotype,
        /// The teacher's soft targets; `None` if the study has no teacher.
        soft_targets: Option<ArtifactHash>,
        /// Epochs after which to stop and report; `None`: train to the end, and compress.
        rung: Option<u32>,
        /// Checkpoint of an earlier rung; `None`: start from fresh weights.
        checkpoint: Option<ArtifactHash>,
        /// The relative whose weights it starts from; `None`: start from fresh weights.
        donor: Option<Donor>,
    },
    /// Look one candidate up in the study's table.
    LookUpTrial {
        /// The trial's number.
        number: TrialNumber,
        /// The candidate.
        genotype: Genotype,
        /// Epochs of the rung to look up and report; `None`: the whole training.
        rung: Option<u32>,
    },
    /// Time one model.
    MeasureModel {
        /// The edge-runtime file.
        model: ArtifactHash,
        /// The trial that the model belongs to; `None` for the teacher.
        number: Option<TrialNumber>,
        /// What to time it on.
        target: Target,
    },
}

/// A finished trial whose weights another one starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Donor {
    /// Its candidate; the weights are those of its pruned network.
    pub genotype: Genotype,
    /// Its weights, safetensors.
    pub weights: ArtifactHash,
}

/// What a task yielded.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The study's data exist and can be read.
    DataChecked(DataReport),
    /// The teacher is ready.
    TeacherTrained {
        /// Its figures and artifacts; `compressed` and `uncompressed` are of the same fp32 network.
        trained: TrainedTrial,
        /// Its soft targets.
        soft_targets: ArtifactHash,
    },
    /// A candidate's untrained network is scored; higher is better.
    Scored(f64),
    /// A candidate has reached a rung below its last.
    RungReached(RungReport),
    /// A candidate is trained and compressed.
    TrialTrained(TrainedTrial),
    /// A candidate is looked up.
    LookedUp(Figures),
    /// A model is timed.
    Measured(Measurement),
}

impl Outcome {
    /// The artifacts that the outcome names. All of them must be stored before it counts.
    pub fn artifacts(&self) -> Vec<ArtifactHash> {
        match self {
            Outcome::TeacherTrained { trained, soft_targets } => {
                vec![trained.model, trained.weights, *soft_targets]
            }
            Outcome::TrialTrained(trained) => vec![trained.model, trained.weights],
            Outcome::RungReached(report) => report.checkpoint.into_iter().collect(),
            Outcome::DataChecked(_)
            | Outcome::Scored(_)
            | Outcome::LookedUp(_)
            | Outcome::Measured(_) => Vec::new(),
        }
    }
}

/// A study's data as a worker read them: the number of images in each part, and a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataReport {
    /// Training images.
    pub train: u32,
    /// Validation images.
    pub validation: u32,
    /// Held-out images.
    pub test: u32,
    /// Hash of the content of the files, the labels, their order and the split. Workers with the
    /// same one train on the same data. `None` if the worker is of a version that computes none.
    pub hash: Option<ArtifactHash>,
}

/// Why an attempt ended without an outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct AttemptError {
    /// One sentence.
    pub reason: String,
    /// Where the cause lies, which decides what is tried next.
    pub fault: Fault,
}

/// Where the cause of a failed attempt lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// In the candidate: it cannot work on any worker.
    Candidate,
    /// In this attempt, or unknown: another attempt may succeed, perhaps on another worker.
    Attempt,
    /// In the worker: it lacks files or a device that the study needs. It would fail every task of
    /// this kind.
    Worker,
    /// The task needs more memory than the worker may use. Another worker may have it; where none
    /// has, the candidate cannot be trained.
    Memory,
    /// In the study's data: they are damaged, or do not fit the study. Trying again helps only
    /// after they are mended.
    Data,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 5] =
        [Fault::Candidate, Fault::Attempt, Fault::Worker, Fault::Memory, Fault::Data];
}

/// How the reason of a training begins whose loss became infinite or NaN, so that the coordinator
/// can tell it from other failures. Records hold it, so it never changes.
pub const DIVERGED: &str = "loss is not finite";

impl AttemptError {
    /// No attempt can succeed: the candidate itself does not work.
    pub fn hopeless(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), fault: Fault::Candidate }
    }

    /// Another attempt, perhaps on another worker, may succeed.
    pub fn retryable(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), fault: Fault::Attempt }
    }

    /// This worker cannot do such tasks of the study; others may.
    pub fn of_worker(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), fault: Fault::Worker }
    }

    /// The task needs more memory than this worker may use; others may have it.
    pub fn of_memory(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), fault: Fault::Memory }
    }

    /// The study's data have to be mended first.
    pub fn of_data(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), fault: Fault::Data }
    }

    /// The attempt was told to stop. This is not reported to the coordinator, because the attempt
    /// no longer belongs to the worker.
    pub fn stopped() -> Self {
        Self::retryable("the attempt was stopped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_can_do_what_its_roles_device_and_engines_allow() {
        let board = Target::on("board".parse().unwrap());
        let worker = |roles: &[Role], class: &str| WorkerInfo {
            name: "w".to_owned(),
            class: class.parse().unwrap(),
            roles: roles.iter().copied().collect(),
            engines: [EngineName::edge_runtime()].into(),
            slots: 1,
            backend: String::new(),
        };
        let measuring = Needs::measuring_on(board.clone());
        assert!(worker(&[Role::Measure], "board").can_do(&measuring));
        assert!(!worker(&[Role::Measure], "phone").can_do(&measuring));
        assert!(!worker(&[Role::Train], "board").can_do(&measuring));
        let other = Target { engine: "onnxruntime".parse().unwrap(), ..board };
        assert!(!worker(&[Role::Measure], "board").can_do(&Needs::measuring_on(other)));
        assert!(worker(&[Role::Train, Role::Table], "x").can_do(&Needs::looking_up()));
        assert!(Role::ALL.iter().all(|role| role.name().parse() == Ok(*role)));
        assert!("fly".parse::<Role>().unwrap_err().contains("measure"));
    }
}
