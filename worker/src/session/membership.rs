//! The worker's membership at the coordinator: its id, joining again when the coordinator has
//! forgotten it, and calls that are repeated until they are answered.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use edgesmith_common::{EngineName, WorkerInfo};
use edgesmith_proto::{PROTOCOL_VERSION, v1};
use tokio::sync::Mutex;
use tonic::{Code, Response, Status};

use super::attempts::Attempts;
use super::backoff::Backoff;
use super::connection::{Connection, WorkerClient, within};
use super::secret::Secret;
use super::{SessionError, WorkerConfig};

/// How long a call that does not wait for work may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest interval between heartbeats. A shorter one would only add load.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(10);

/// This worker as the coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id at the coordinator.
    pub worker_id: u64,
    /// The proof that a call is from this worker.
    pub secret: Secret,
    /// Interval between heartbeats.
    pub heartbeat: Duration,
}

/// A call that failed and must not be repeated.
#[derive(Debug)]
pub enum CallError {
    /// The session cannot continue.
    Final(SessionError),
    /// The coordinator rejects this request, and repeating it does not help.
    Invalid(String),
}

impl From<SessionError> for CallError {
    fn from(error: SessionError) -> Self {
        CallError::Final(error)
    }
}

/// Shared by all loops of a session.
#[derive(Debug)]
pub struct Membership {
    config: WorkerConfig,
    connection: Arc<Connection>,
    /// The attempts that this worker holds.
    pub attempts: Attempts,
    /// Locked during a join, so that only one loop joins and the others wait for its result.
    member: Mutex<Option<Member>>,
}

impl Membership {
    /// A membership that has not joined yet.
    pub fn new(config: WorkerConfig, connection: Arc<Connection>) -> Self {
        Self { config, connection, attempts: Attempts::default(), member: Mutex::new(None) }
    }

    /// The current membership. Joins first if there is none.
    ///
    /// # Errors
    /// When the coordinator refuses the worker.
    pub async fn member(&self) -> Result<Member, SessionError> {
        let mut member = self.member.lock().await;
        match &*member {
            Some(member) => Ok(member.clone()),
            None => {
                let joined = self.join().await?;
                *member = Some(joined.clone());
                Ok(joined)
            }
        }
    }

    /// Forgets the membership `lost`, which the coordinator does not know any more. The next call
    /// of [`Membership::member`] joins again, unless another loop already has.
    async fn forget(&self, lost: &Member) {
        let mut member = self.member.lock().await;
        if member.as_ref() == Some(lost) {
            tracing::info!(
                worker = lost.worker_id,
                "the coordinator does not know this worker; joining again"
            );
            *member = None;
        }
    }

    /// Repeats a call until there is an answer. Waits while the coordinator does not answer, and
    /// joins again if it has forgotten this worker. `limit` is the longest time of one try.
    ///
    /// # Errors
    /// When repeating does not help.
    pub async fn persistently<T, F>(
        &self,
        limit: Duration,
        call: impl Fn(WorkerClient, Member) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut backoff = Backoff::new();
        let mut forgotten = false;
        loop {
            let member = self.member().await?;
            let call = call(self.connection.worker(), member.clone());
            let status = match within(limit, call).await {
                Ok(answer) => {
                    self.connection.note_answer();
                    return Ok(answer);
                }
                Err(status) => status,
            };
            match status.code() {
                // The secret is of another data directory. If instead the token is not enough,
                // joining says so.
                Code::NotFound | Code::PermissionDenied => {
                    self.forget(&member).await;
                    // Once means that the coordinator restarted, so try again at once. Twice in a
                    // row is a problem, so wait.
                    if !std::mem::replace(&mut forgotten, true) {
                        continue;
                    }
                }
                Code::InvalidArgument | Code::FailedPrecondition => {
                    return Err(CallError::Invalid(status.message().to_owned()));
                }
                _ => match self.connection.final_error(&status) {
                    Some(error) => return Err(error.into()),
                    None => self.connection.note_failure(&status),
                },
            }
            backoff.wait().await;
        }
    }

    /// Records why the coordinator hands out no tasks for now; empty if it does.
    pub fn note_waits(&self, waits: &str) {
        self.connection.note_waits(waits);
    }

    /// Tells the coordinator that this worker leaves, if it has joined. Makes one try within
    /// `limit`.
    pub async fn leave(&self, limit: Duration) {
        // A running join holds the lock. Then the worker has not joined, so there is nothing to
        // leave.
        let Some(member) = self.member.try_lock().ok().and_then(|mut member| member.take()) else {
            return;
        };
        let request = v1::LeaveRequest { worker_id: member.worker_id, secret: member.secret.0 };
        if let Err(status) = within(limit, self.connection.worker().leave(request)).await {
            tracing::debug!("left without an answer: {status}");
        }
    }

    async fn join(&self) -> Result<Member, SessionError> {
        let mut backoff = Backoff::new();
        loop {
            let request = self.join_request();
            let status = match within(CALL_TIMEOUT, self.connection.worker().join(request)).await {
                Ok(v1::JoinResponse { worker_id, heartbeat_ms, stop, secret }) => {
                    self.connection.note_answer();
                    tracing::info!(worker = worker_id, "joined as {}", self.config.info.name);
                    self.attempts.revoke(&stop);
                    let heartbeat = Duration::from_millis(heartbeat_ms).max(SHORTEST_HEARTBEAT);
                    return Ok(Member { worker_id, secret: Secret(secret), heartbeat });
                }
                Err(status) => status,
            };
            if let Some(error) = self.connection.final_error(&status) {
                return Err(error);
            }
            if matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition) {
                return Err(self.connection.refused(&status));
            }
            self.connection.note_failure(&status);
            backoff.wait().await;
        }
    }

    fn join_request(&self) -> v1::JoinRequest {
        let WorkerInfo { name, class, roles, engines, slots, backend } = &self.config.info;
        v1::JoinRequest {
            protocol_version: PROTOCOL_VERSION,
            name: name.clone(),
            device_class: class.to_string(),
            roles: roles.iter().map(|role| v1::Role::from(*role).into()).collect(),
            engines: engines.iter().map(EngineName::to_string).collect(),
            slots: *slots,
            backend: backend.clone(),
            held: self.attempts.held(),
        }
    }
}
