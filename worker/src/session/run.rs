//! Runs a session from beginning to end.

use std::sync::Arc;
use std::time::Duration;

use edgesmith_proto::v1;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::lease::Slot;
use super::membership::{CALL_TIMEOUT, CallError, Membership};
use super::remote::RemoteArtifacts;
use super::task::Specs;
use super::{SessionError, TaskExecutor, WorkerConfig};

/// How long running attempts have to stop.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How long telling the coordinator that the worker leaves may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Works for the coordinator until `shutdown`: joins, runs as many tasks at once as `config.info`
/// has slots with `executor`, and sends heartbeats. It waits for a coordinator that does not
/// answer, without a limit. On `shutdown` it stops the running attempts, waits a few seconds for
/// them to end, and leaves. An executor that does not stop keeps running in its thread, and its
/// outcome is dropped.
///
/// # Errors
/// When waiting does not help: the address cannot be used, or the coordinator refuses the worker.
pub async fn run(
    config: WorkerConfig,
    executor: Arc<dyn TaskExecutor>,
    shutdown: CancellationToken,
) -> Result<(), SessionError> {
    run_telling(config, executor, shutdown, || {}).await
}

/// As [`run`], and calls `joined` once the coordinator has taken the worker in for the first time.
///
/// # Errors
/// As [`run`].
pub async fn run_telling(
    config: WorkerConfig,
    executor: Arc<dyn TaskExecutor>,
    shutdown: CancellationToken,
    joined: impl FnOnce(),
) -> Result<(), SessionError> {
    let slots = config.info.slots;
    let connection = Arc::new(Connection::new(&config)?);
    let membership = Arc::new(Membership::new(config, Arc::clone(&connection)));
    let artifacts = Arc::new(RemoteArtifacts::new(Handle::current(), connection));
    let specs = Arc::new(Specs::default());
    let stop = shutdown.child_token();

    tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        member = membership.member() => member?,
    };
    joined();
    let mut working = JoinSet::new();
    for _ in 0..slots {
        let slot = Slot {
            membership: Arc::clone(&membership),
            executor: Arc::clone(&executor),
            artifacts: Arc::clone(&artifacts),
            specs: Arc::clone(&specs),
            stop: stop.clone(),
        };
        working.spawn(slot.run());
    }
    let mut beating = JoinSet::new();
    beating.spawn(beat(Arc::clone(&membership)));

    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = working.join_next() => flatten(ended),
        Some(ended) = beating.join_next() => flatten(ended),
    };
    stop.cancel();
    let all = async { while working.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, all).await.is_err() {
        tracing::warn!("{} attempts did not stop in time and keep running", working.len());
    }
    // Abort all loops first, so that none of them joins again after the worker has left.
    working.shutdown().await;
    beating.shutdown().await;
    if ended.is_ok() {
        membership.leave(LEAVE_TIMEOUT).await;
    }
    ended
}

/// Sends heartbeats with the progress of the held attempts, and stops the attempts that the
/// coordinator has revoked.
async fn beat(membership: Arc<Membership>) -> Result<(), SessionError> {
    loop {
        let heartbeat = membership.member().await?.heartbeat;
        tokio::time::sleep(heartbeat).await;
        let answer = membership
            .persistently(CALL_TIMEOUT, |mut client, member| {
                let running = membership.attempts.progress();
                let request = v1::HeartbeatRequest {
                    worker_id: member.worker_id,
                    secret: member.secret.0,
                    running,
                };
                async move { client.heartbeat(request).await }
            })
            .await;
        match answer {
            Ok(v1::HeartbeatResponse { stop }) => membership.attempts.revoke(&stop),
            Err(CallError::Final(error)) => return Err(error),
            Err(CallError::Invalid(message)) => return Err(SessionError::Broken(message)),
        }
    }
}

fn flatten(
    ended: Result<Result<(), SessionError>, tokio::task::JoinError>,
) -> Result<(), SessionError> {
    ended.unwrap_or_else(|died| Err(SessionError::Broken(died.to_string())))
}
