//! The worker's session with the coordinator. It joins, leases tasks, sends heartbeats, transfers
//! artifacts and reports outcomes, and survives lost connections and restarts of the coordinator.
//!
//! It does not know what a task means. A [`TaskExecutor`] does the work, on a thread where it may
//! block and panic, and reaches the coordinator only through its [`AttemptContext`].

use std::sync::Arc;

use edgesmith_common::spec::Workload;
use edgesmith_common::{
    AccessToken, ArtifactHash, AttemptError, DeviceInfo, EngineName, Outcome, Role, StudyName,
    StudySpec, Work, WorkerInfo,
};

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
mod secret;
pub mod synthetic;
mod task;
mod trust;
mod upload;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use connection::{BearerToken, describe, endpoint};
pub use context::AttemptContext;
pub use run::{run, run_telling};
pub use trust::{is_of_tls, reason};

/// Who a worker is and where its coordinator listens.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Address as `http://HOST:PORT` or `https://HOST:PORT`.
    pub coordinator: String,
    /// The coordinator's bearer token, if it requires one.
    pub token: Option<AccessToken>,
    /// The certificate authority, as PEM, that signed the coordinator's certificate. Without it, an
    /// `https` coordinator needs a certificate of the authority that the token names, or one that
    /// this machine trusts.
    pub tls_ca_pem: Option<Vec<u8>>,
    /// What the worker tells the coordinator about itself.
    pub info: WorkerInfo,
}

impl WorkerConfig {
    /// A worker in the coordinator's process, on the machine `device`, with all roles that `work`
    /// needs. `backend` is the name of what trains.
    pub fn local(
        coordinator: &str,
        device: &DeviceInfo,
        work: &Workload,
        slots: u32,
        backend: &str,
    ) -> Self {
        Self {
            coordinator: coordinator.to_owned(),
            token: None,
            tls_ca_pem: None,
            info: WorkerInfo {
                name: device.name.clone(),
                class: device.class.clone(),
                roles: match work {
                    Workload::Train(_) => [Role::Train, Role::Measure].into(),
                    Workload::Table(_) => [Role::Table].into(),
                },
                engines: [EngineName::edge_runtime()].into(),
                slots,
                backend: backend.to_owned(),
            },
        }
    }
}

/// Why a session cannot continue. A lost connection is not a reason: the session waits for the
/// coordinator to come back.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The address, or its TLS options, cannot be used.
    #[error("cannot use '{address}' as the coordinator's address: {problem}")]
    Address {
        /// As configured.
        address: String,
        /// What is wrong, and how to correct it.
        problem: String,
    },
    /// The coordinator does not accept the token, or requires one.
    #[error("the coordinator at {address} rejected the token: {message}")]
    Unauthorized {
        /// As configured.
        address: String,
        /// The coordinator's message.
        message: String,
    },
    /// The coordinator refuses this worker, for example because of its protocol version.
    #[error("the coordinator at {address} refused this worker: {message}")]
    Refused {
        /// As configured.
        address: String,
        /// The coordinator's message.
        message: String,
    },
    /// A part of the session failed unexpectedly.
    #[error("the session ended unexpectedly: {0}")]
    Broken(String),
}

/// Runs tasks.
pub trait TaskExecutor: Send + Sync + 'static {
    /// Runs one task. It is called on a thread that may block, and several calls run at once if the
    /// worker has more than one slot. It should check [`AttemptContext::is_stopped`] often and stop
    /// when it is set. A panic counts as a failed attempt that may be repeated.
    ///
    /// # Errors
    /// When there is no outcome. The coordinator is told the reason.
    fn execute(&self, task: TaskWork, context: &AttemptContext) -> Result<Outcome, AttemptError>;
}

/// One checked task: its study is parsed, and its genotype fits the study's space.
#[derive(Debug, Clone)]
pub struct TaskWork {
    /// The study.
    pub study: StudyName,
    /// The study's specification.
    pub spec: Arc<StudySpec>,
    /// What to do.
    pub work: Work,
    /// Hash of the data that the study began with, as in
    /// [`DataReport`](edgesmith_common::DataReport); `None` if any data will do.
    pub data: Option<ArtifactHash>,
}
