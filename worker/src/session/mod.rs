//! The worker's conversation with the coordinator: it joins, leases tasks, beats, moves artifacts
//! and reports outcomes, through connection losses and restarts of the coordinator.
//!
//! What a task means is not known here: a [`TaskExecutor`] does the work, on a thread where it may
//! block and panic, and learns of the coordinator only through its [`AttemptContext`].

use std::sync::Arc;

use edgesmith_common::spec::Workload;
use edgesmith_common::{
    AttemptError, DeviceInfo, EngineName, Outcome, Role, StudyName, StudySpec, Work, WorkerInfo,
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
    /// What it says of itself.
    pub info: WorkerInfo,
}

impl WorkerConfig {
    /// A worker in the coordinator's own process, at `device`'s machine, which does all that `work`
    /// needs. `backend` is what trains, by name.
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
    #[error("the token has characters that are not allowed in an HTTP header")]
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

/// One task, checked: its study read, and its genotype fits the study's space.
#[derive(Debug, Clone)]
pub struct TaskWork {
    /// The study.
    pub study: StudyName,
    /// What it says.
    pub spec: Arc<StudySpec>,
    /// What to do.
    pub work: Work,
}
