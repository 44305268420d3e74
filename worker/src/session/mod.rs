//! The worker's conversation with the coordinator: it joins, leases tasks, beats, moves artifacts and
//! reports outcomes, through connection losses and restarts of the coordinator.
//!
//! What a task means is not known here: a [`TaskExecutor`] does the work, on a thread where it may
//! block and panic, and learns of the coordinator only through its [`AttemptContext`].

use std::sync::Arc;

use edgesmith_common::spec::Workload;
use edgesmith_common::{
    ArtifactHash, DeviceClass, DeviceInfo, Figures, Measurement, RungReport, StudyName, StudySpec,
    TrainedTrial, TrialNumber,
};
use edgesmith_search_space::Genotype;

pub mod artifacts;
mod attempts;
mod backoff;
mod cache;
mod connection;
mod context;
mod lease;
mod membership;
mod remote;
mod run;
pub mod synthetic;
mod task;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use connection::endpoint;
pub use context::AttemptContext;
pub use run::run;

/// Who a worker is and where its coordinator listens.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Address as `http://HOST:PORT` or `https://HOST:PORT`.
    pub coordinator: String,
    /// The coordinator's bearer token, where it asks for one.
    pub token: Option<String>,
    /// The certificate authority, as PEM, that signed the coordinator's certificate; without it an
    /// `https` coordinator's must be one that the machine trusts.
    pub tls_ca_pem: Option<Vec<u8>>,
    /// The machine's own name.
    pub name: String,
    /// Class of the device that it measures on.
    pub device_class: DeviceClass,
    /// What it does; at least one.
    pub roles: Vec<WorkerRole>,
    /// Tasks it takes at once, at least 1.
    pub slots: u32,
    /// Training backend; empty where it does not train.
    pub backend: String,
}

impl WorkerConfig {
    /// A worker in the coordinator's own process, at `info`'s machine, which does all that `work`
    /// needs. `backend` is what trains, by name.
    pub fn local(
        coordinator: &str,
        info: &DeviceInfo,
        work: &Workload,
        slots: u32,
        backend: &str,
    ) -> Self {
        Self {
            coordinator: coordinator.to_owned(),
            token: None,
            tls_ca_pem: None,
            name: info.name.clone(),
            device_class: info.class.clone(),
            roles: match work {
                Workload::Train(_) => vec![WorkerRole::Train, WorkerRole::Measure],
                Workload::Table(_) => vec![WorkerRole::Table],
            },
            slots,
            backend: backend.to_owned(),
        }
    }
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerRole {
    /// Trains teachers, trains and compresses trials.
    Train,
    /// Times compressed models on its device.
    Measure,
    /// Looks candidates up in tables.
    Table,
}

/// Why a session cannot go on. Connection losses are no reason: those are waited out.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The address, or the TLS options that go with it.
    #[error("cannot use {address:?} as the coordinator's address: {problem}")]
    Address {
        /// As configured.
        address: String,
        /// What is wrong and the mend.
        problem: String,
    },
    /// A token that no header can carry.
    #[error("the token holds characters that no header can carry")]
    UnusableToken,
    /// The coordinator does not know the token, or asks for one.
    #[error("the coordinator at {address} turned the token away: {message}")]
    Unauthorized {
        /// As configured.
        address: String,
        /// What it said.
        message: String,
    },
    /// The coordinator will not have this worker, for example because of its protocol version.
    #[error("the coordinator at {address} turned this worker away: {message}")]
    Refused {
        /// As configured.
        address: String,
        /// What it said.
        message: String,
    },
    /// A part of the session itself broke.
    #[error("the session broke off: {0}")]
    Broken(String),
}

/// Does tasks.
pub trait TaskExecutor: Send + Sync + 'static {
    /// Does one task. Called on a thread that may block, several at once where the worker has more
    /// than one slot. It should look at [`AttemptContext::is_stopped`] often and give up when it is
    /// set. A panic counts as a failed attempt that may be repeated.
    ///
    /// # Errors
    /// When there is no outcome; the coordinator is told.
    fn execute(&self, task: TaskWork, context: &AttemptContext) -> Result<Outcome, AttemptError>;
}

/// One task, checked: its study parsed, and its genotype fits the study's space.
#[derive(Debug, Clone)]
pub struct TaskWork {
    /// The study.
    pub study: StudyName,
    /// What it says.
    pub spec: Arc<StudySpec>,
    /// What to do.
    pub kind: TaskKind,
}

/// A finished trial that hands down its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Donor {
    /// Its candidate; the weights are those of its pruned network.
    pub genotype: Genotype,
    /// Its weights, safetensors.
    pub weights: ArtifactHash,
}

/// What a task asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskKind {
    /// Make the teacher.
    TrainTeacher {
        /// Given weights (safetensors); `None`: train them.
        weights: Option<ArtifactHash>,
    },
    /// Score one candidate's untrained network by the study's proxy.
    ScoreTrial {
        /// Its number, which seeds it.
        number: TrialNumber,
        /// The candidate.
        genotype: Genotype,
    },
    /// Train and compress one candidate.
    TrainTrial {
        /// Its number, which seeds it.
        number: TrialNumber,
        /// The candidate.
        genotype: Genotype,
        /// The teacher's soft targets; `None` where the study has no teacher.
        soft_targets: Option<ArtifactHash>,
        /// Epochs after which to stop and report; `None`: train to the end, and compress.
        rung: Option<u32>,
        /// What an earlier rung left; `None`: start from fresh weights.
        checkpoint: Option<ArtifactHash>,
        /// The relative to start from, for a few epochs; `None`: from fresh weights.
        donor: Option<Donor>,
    },
    /// Look one candidate up in the study's table.
    LookUpTrial {
        /// Its number.
        number: TrialNumber,
        /// The candidate.
        genotype: Genotype,
        /// Epochs of the rung to look up and report; `None`: those of the whole training.
        rung: Option<u32>,
    },
    /// Time one model on this device.
    MeasureModel {
        /// The edge-runtime file.
        model: ArtifactHash,
        /// Whose model; `None` for the teacher.
        number: Option<TrialNumber>,
    },
}

/// What a task yielded.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The teacher is there.
    TeacherTrained {
        /// Its figures; `compressed` and `uncompressed` are the same fp32 network.
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

/// Why an attempt has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct AttemptError {
    /// One sentence.
    pub reason: String,
    /// Whether another attempt could go differently.
    pub retryable: bool,
}

impl AttemptError {
    /// No attempt can go differently: the candidate itself does not work.
    pub fn hopeless(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string(), retryable: false }
    }

    /// Another attempt, or another worker, may do better.
    pub fn retryable(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string(), retryable: true }
    }

    /// The attempt was told to stop. Nobody is told: it is not the worker's any more.
    pub fn stopped() -> Self {
        Self::retryable("the attempt was stopped")
    }
}
