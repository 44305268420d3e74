//! The worker's standing with the coordinator: who it is there, how it joins again when it is
//! forgotten, and calls that are repeated until they are answered.

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
use super::{SessionError, WorkerConfig};

/// How long a call that does not wait for work may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Beating faster than this would only make load.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(10);

/// A connection as the coordinator knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its id there.
    pub worker_id: u64,
    /// How often to beat.
    pub heartbeat: Duration,
}

/// A call that failed for good.
#[derive(Debug)]
pub enum CallError {
    /// The session cannot go on.
    Final(SessionError),
    /// The coordinator will not take this request, however often it is repeated.
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
    /// What is in this worker's hands.
    pub attempts: Attempts,
    /// Held over a join, so that there is one at a time and the others wait for its result.
    member: Mutex<Option<Member>>,
}

impl Membership {
    /// Not joined yet.
    pub fn new(config: WorkerConfig, connection: Arc<Connection>) -> Self {
        Self { config, connection, attempts: Attempts::default(), member: Mutex::new(None) }
    }

    /// The current standing; joins where there is none.
    ///
    /// # Errors
    /// When the coordinator turns the worker away.
    pub async fn member(&self) -> Result<Member, SessionError> {
        let mut member = self.member.lock().await;
        match *member {
            Some(member) => Ok(member),
            None => {
                let joined = self.join().await?;
                *member = Some(joined);
                Ok(joined)
            }
        }
    }

    /// The coordinator does not know `lost` any more: the next call of [`Membership::member`] joins
    /// again, unless somebody already did.
    async fn forget(&self, lost: Member) {
        let mut member = self.member.lock().await;
        if *member == Some(lost) {
            tracing::info!(
                worker = lost.worker_id,
                "the coordinator does not know this worker; joining again"
            );
            *member = None;
        }
    }

    /// Calls until there is an answer: waits while the coordinator is away, and joins again where it
    /// has forgotten this worker. `limit` bounds one try.
    ///
    /// # Errors
    /// When repeating is of no use.
    pub async fn persistently<T, F>(
        &self,
        limit: Duration,
        call: impl Fn(WorkerClient, u64) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut backoff = Backoff::new();
        let mut forgotten = false;
        loop {
            let member = self.member().await?;
            let status = match within(limit, call(self.connection.worker(), member.worker_id)).await
            {
                Ok(answer) => {
                    self.connection.note_answer();
                    return Ok(answer);
                }
                Err(status) => status,
            };
            if let Some(error) = self.connection.final_error(&status) {
                return Err(error.into());
            }
            match status.code() {
                Code::NotFound => {
                    self.forget(member).await;
                    // Once is a restart and needs no patience; twice in a row is trouble.
                    if !std::mem::replace(&mut forgotten, true) {
                        continue;
                    }
                }
                Code::InvalidArgument | Code::FailedPrecondition => {
                    return Err(CallError::Invalid(status.message().to_owned()));
                }
                _ => self.connection.note_failure(&status),
            }
            backoff.wait().await;
        }
    }

    /// Says good-bye, once and quickly, if there is anybody to say it to.
    pub async fn leave(&self, limit: Duration) {
        // A join that is under way holds the lock; then there is nothing to leave.
        let Some(member) = self.member.try_lock().ok().and_then(|mut member| member.take()) else {
            return;
        };
        let request = v1::LeaveRequest { worker_id: member.worker_id };
        if let Err(status) = within(limit, self.connection.worker().leave(request)).await {
            tracing::debug!("left without an answer: {status}");
        }
    }

    async fn join(&self) -> Result<Member, SessionError> {
        let mut backoff = Backoff::new();
        loop {
            let request = self.join_request();
            let status = match within(CALL_TIMEOUT, self.connection.worker().join(request)).await {
                Ok(v1::JoinResponse { worker_id, heartbeat_ms, stop }) => {
                    self.connection.note_answer();
                    tracing::info!(worker = worker_id, "joined as {}", self.config.info.name);
                    self.attempts.revoke(&stop);
                    let heartbeat = Duration::from_millis(heartbeat_ms).max(SHORTEST_HEARTBEAT);
                    return Ok(Member { worker_id, heartbeat });
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
