//! One slot: leases a task, runs it, reports it, and starts again. The answer to a report may bring
//! the next task.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use edgesmith_common::{AttemptError, AttemptId, Outcome};
use edgesmith_proto::v1::report_request::Outcome as WireOutcome;
use edgesmith_proto::{outcome_message, v1};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempts::Attempt;
use super::backoff::Backoff;
use super::membership::{CALL_TIMEOUT, CallError, Member, Membership};
use super::remote::RemoteArtifacts;
use super::secret::Secret;
use super::task::{self, Specs};
use super::{AttemptContext, SessionError, TaskExecutor};

/// How long one request waits for work at the coordinator.
const WAIT: Duration = Duration::from_secs(10);
/// If a lease without a task returns sooner than this, the coordinator did not wait.
const AT_ONCE: Duration = Duration::from_millis(100);

/// One slot, with everything that it shares with the others.
pub struct Slot {
    pub membership: Arc<Membership>,
    pub executor: Arc<dyn TaskExecutor>,
    pub artifacts: Arc<RemoteArtifacts>,
    pub specs: Arc<Specs>,
    /// Cancelled when the session ends: lease no more tasks, and stop the running one.
    pub stop: CancellationToken,
}

impl Slot {
    /// Works until `stop` is cancelled.
    ///
    /// # Errors
    /// When the session cannot continue.
    pub async fn run(self) -> Result<(), SessionError> {
        let mut next = None;
        loop {
            let task = tokio::select! {
                biased;
                // A next task that is not begun is given back when the worker leaves.
                () = self.stop.cancelled() => return Ok(()),
                task = self.or_lease(next.take()) => task?,
            };
            next = self.work(task).await?;
        }
    }

    /// The task at hand, or else a leased one.
    async fn or_lease(&self, task: Option<v1::Task>) -> Result<v1::Task, SessionError> {
        match task {
            Some(task) => Ok(task),
            None => self.lease().await,
        }
    }

    async fn lease(&self) -> Result<v1::Task, SessionError> {
        let mut backoff = Backoff::new();
        loop {
            let asked = Instant::now();
            let request = |member: Member| v1::LeaseRequest {
                worker_id: member.worker_id,
                wait_ms: WAIT.as_millis() as u64,
                secret: member.secret.0,
            };
            let answer = self
                .membership
                .persistently(WAIT + CALL_TIMEOUT, |mut client, member| async move {
                    client.lease(request(member)).await
                })
                .await;
            match answer {
                Ok(v1::LeaseResponse { task, waits }) => {
                    self.membership.note_waits(&waits);
                    match task {
                        Some(task) => return Ok(task),
                        None if asked.elapsed() >= AT_ONCE => backoff.reset(),
                        // The coordinator did not wait, because it is shutting down.
                        None => backoff.wait().await,
                    }
                }
                Err(CallError::Final(error)) => return Err(error),
                Err(CallError::Invalid(message)) => return Err(SessionError::Broken(message)),
            }
        }
    }

    /// Runs a task and reports it. Returns the next one, if the report brings one.
    async fn work(&self, leased: v1::Task) -> Result<Option<v1::Task>, SessionError> {
        let (task_id, id) = (leased.task_id, AttemptId(leased.attempt_id));
        let secret = Secret(leased.secret.clone());
        let attempt = self.membership.attempts.start(id, secret, &self.stop);
        let ended = match task::read(&leased, &self.specs) {
            Ok(work) => {
                let executor = Arc::clone(&self.executor);
                let context =
                    AttemptContext::new(Arc::clone(&attempt), Arc::clone(&self.artifacts));
                let done = tokio::task::spawn_blocking(move || executor.execute(work, &context));
                done.await.unwrap_or_else(|died| Err(panicked(died)))
            }
            Err(error) => Err(error),
        };
        // A failure after a stop is caused by the stop. It is not reported, because the coordinator
        // decides who runs the task next.
        let silent = attempt.is_revoked() || (ended.is_err() && attempt.stop().is_cancelled());
        let reported =
            if silent { Ok(None) } else { self.report(task_id, &attempt, id, ended).await };
        self.membership.attempts.finish(id);
        reported
    }

    /// Reports until the coordinator has the outcome on disk or revokes the attempt. Returns the
    /// next task, if the answer brings one.
    async fn report(
        &self,
        task_id: u64,
        attempt: &Attempt,
        id: AttemptId,
        ended: Result<Outcome, AttemptError>,
    ) -> Result<Option<v1::Task>, SessionError> {
        attempt.set_progress(1.0, "reporting");
        if let Err(error) = &ended {
            tracing::warn!(attempt = id.0, "an attempt failed: {error}");
        }
        let mut outcome = outcome_message(&ended);
        loop {
            let answer = tokio::select! {
                biased;
                () = attempt.revocation() => return Ok(None),
                answer = self.send(task_id, id, attempt.secret(), &outcome) => answer,
            };
            match answer {
                Ok(v1::ReportResponse { accepted, next }) => {
                    if !accepted {
                        tracing::debug!(attempt = id.0, "reported an attempt that was not current");
                    }
                    return Ok(next);
                }
                Err(CallError::Final(error)) => return Err(error),
                // Report a failure instead. Otherwise the task would wait until its lease expires.
                Err(CallError::Invalid(message)) if !matches!(outcome, WireOutcome::Failed(_)) => {
                    let reason = format!("the coordinator rejected the outcome: {message}");
                    tracing::error!(attempt = id.0, "{reason}");
                    outcome = outcome_message(&Err(AttemptError::retryable(reason)));
                }
                Err(CallError::Invalid(message)) => {
                    tracing::error!(
                        attempt = id.0,
                        "the coordinator rejected the report of a failure: {message}"
                    );
                    return Ok(None);
                }
            }
        }
    }

    async fn send(
        &self,
        task_id: u64,
        id: AttemptId,
        secret: &Secret,
        outcome: &WireOutcome,
    ) -> Result<v1::ReportResponse, CallError> {
        self.membership
            .persistently(CALL_TIMEOUT, |mut client, member| {
                let request = v1::ReportRequest {
                    worker_id: member.worker_id,
                    secret: member.secret.0,
                    attempt_secret: secret.0.clone(),
                    task_id,
                    attempt_id: id.0,
                    wants_next: !self.stop.is_cancelled(),
                    outcome: Some(outcome.clone()),
                };
                async move { client.report(request).await }
            })
            .await
    }
}

fn panicked(died: tokio::task::JoinError) -> AttemptError {
    match died.try_into_panic() {
        Ok(payload) => AttemptError::retryable(format!("panicked: {}", panic_text(&*payload))),
        // The runtime ended before the task began.
        Err(_) => AttemptError::stopped(),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
