//! The worker service, which answers workers.

use std::time::Duration;

use edgesmith_common::{AttemptError, AttemptId, Outcome, TaskId, WorkerId};
use edgesmith_proto::v1::worker_service_server::WorkerService;
use edgesmith_proto::{
    PROTOCOL_VERSION, optional_hash_bytes, outcome, running, v1, work_message, worker_info,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::runtime::{self, Handle};
use super::secrets::Secrets;
use super::status;
use crate::core::{Answer, AttemptProgress, Event, Lease};
use crate::store::ArtifactStore;

/// The longest time that a lease request waits.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Answers workers.
pub struct Workers {
    /// The core.
    pub core: Handle,
    /// The artifacts that workers upload.
    pub artifacts: ArtifactStore,
    /// Makes and checks the secrets of workers and attempts.
    pub secrets: Secrets,
    /// Ends waiting calls when the server stops.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl WorkerService for Workers {
    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let request = request.into_inner();
        if request.protocol_version != PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "the worker speaks protocol version {}, this coordinator {PROTOCOL_VERSION}; run the \
                 same version of edgesmith on both",
                request.protocol_version
            )));
        }
        // Attempts without the right secret were leased to others. For the core they do not exist.
        let is_mine = |held: &v1::HeldAttempt| {
            self.secrets.is_of_attempt(&held.secret, AttemptId(held.attempt_id))
        };
        let held = request.held.clone();
        // Checks how many there are.
        let worker = worker_info(request).map_err(|e| status::of_convert(&e))?;
        let (mine, foreign): (Vec<_>, Vec<_>) = held.into_iter().partition(is_mine);
        let held = mine.iter().map(|held| AttemptId(held.attempt_id)).collect();
        let foreign: Vec<u64> = foreign.iter().map(|held| held.attempt_id).collect();
        match self.core.ask(|to| Event::Join { to, worker, held }).await? {
            Answer::Joined { worker, heartbeat, stop } => Ok(Response::new(v1::JoinResponse {
                worker_id: worker.0,
                heartbeat_ms: heartbeat.as_millis() as u64,
                stop: stop.iter().map(|id| id.0).chain(foreign).collect(),
                secret: self.secrets.of_worker(worker).to_vec(),
            })),
            other => Err(status::unexpected(&other)),
        }
    }

    async fn lease(
        &self,
        request: Request<v1::LeaseRequest>,
    ) -> Result<Response<v1::LeaseResponse>, Status> {
        let request = request.into_inner();
        let worker = self.caller(request.worker_id, &request.secret)?;
        let wait = Duration::from_millis(request.wait_ms).min(LONGEST_WAIT);
        let deadline = self.core.now().after(wait);
        let none = |waits: Option<String>| {
            let waits = waits.unwrap_or_default();
            Ok(Response::new(v1::LeaseResponse { task: None, waits }))
        };
        loop {
            if let Some(shortage) = self.core.space().shortage() {
                let left = deadline.since(self.core.now());
                let enough = tokio::time::timeout(left, self.core.space().enough());
                tokio::select! {
                    enough = enough => {
                        if enough.is_err() {
                            return none(self.core.space().shortage().or(Some(shortage)));
                        }
                    }
                    () = self.stop.cancelled() => return Err(runtime::stopping()),
                }
            }
            let asked = self.core.ask(|to| Event::Lease { to, worker, deadline });
            let answer = tokio::select! {
                answer = asked => answer?,
                () = self.stop.cancelled() => return Err(runtime::stopping()),
            };
            match answer {
                Answer::Leased(lease) => {
                    let task = Some(self.task(&lease));
                    return Ok(Response::new(v1::LeaseResponse { task, waits: String::new() }));
                }
                // Room became short meanwhile.
                Answer::NoTask if deadline > self.core.now() && self.core.space().is_short() => {}
                Answer::NoTask => return none(None),
                other => return Err(status::unexpected(&other)),
            }
        }
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let worker = self.caller(request.worker_id, &request.secret)?;
        // Checks how many there are.
        let all = running(&request.running).map_err(|e| status::of_convert(&e))?;
        let (mut running, mut foreign) = (Vec::new(), Vec::new());
        for (sent, (id, fraction, stage)) in request.running.iter().zip(all) {
            let attempt = AttemptId(id);
            if self.secrets.is_of_attempt(&sent.secret, attempt) {
                running.push(AttemptProgress { attempt, fraction, stage });
            } else {
                foreign.push(id);
            }
        }
        match self.core.ask(|to| Event::Heartbeat { to, worker, running }).await? {
            Answer::Alive { stop } => Ok(Response::new(v1::HeartbeatResponse {
                stop: stop.iter().map(|id| id.0).chain(foreign).collect(),
            })),
            other => Err(status::unexpected(&other)),
        }
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let request = request.into_inner();
        let worker = self.caller(request.worker_id, &request.secret)?;
        let (task, attempt) = (TaskId(request.task_id), AttemptId(request.attempt_id));
        if !self.secrets.is_of_attempt(&request.attempt_secret, attempt) {
            return Err(Status::permission_denied("the attempt's secret is wrong; join again"));
        }
        let Some(message) = request.outcome else {
            return Err(Status::invalid_argument("field outcome of a message is missing"));
        };
        let outcome = outcome(message).map_err(|e| status::of_convert(&e))?;
        let outcome = Box::new(match outcome {
            Ok(outcome) => self.if_uploaded(outcome).await?,
            Err(error) => Err(error),
        });
        let report = |to| Event::Report { to, worker, task, attempt, outcome };
        let (reported, next) = if request.wants_next {
            let deadline = self.core.now();
            let lease = |to| Event::Lease { to, worker, deadline };
            let (reported, leased) = self.core.ask_both(report, lease).await?;
            // The worker asks again by itself, and then learns what is wrong.
            (reported?, leased.unwrap_or(Answer::NoTask))
        } else {
            (self.core.ask(report).await?, Answer::NoTask)
        };
        let next = match next {
            Answer::Leased(lease) => Some(self.task(&lease)),
            Answer::NoTask => None,
            other => return Err(status::unexpected(&other)),
        };
        match reported {
            Answer::Reported { accepted } => {
                Ok(Response::new(v1::ReportResponse { accepted, next }))
            }
            other => Err(status::unexpected(&other)),
        }
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::LeaveResponse>, Status> {
        let v1::LeaveRequest { worker_id, secret } = request.get_ref();
        let worker = self.caller(*worker_id, secret)?;
        self.core.ask(|to| Event::Leave { to, worker }).await?;
        Ok(Response::new(v1::LeaveResponse {}))
    }
}

impl Workers {
    /// The worker that a call is from, if it proves that with the secret. The error is the same
    /// for workers that do not exist, so that it tells nothing about them.
    fn caller(&self, worker_id: u64, secret: &[u8]) -> Result<WorkerId, Status> {
        let worker = WorkerId(worker_id);
        if self.secrets.is_of_worker(secret, worker) {
            Ok(worker)
        } else {
            Err(Status::permission_denied("the worker's secret is wrong; join again"))
        }
    }

    /// Turns a result whose artifacts are not stored here into a failure, so that another attempt
    /// uploads them.
    async fn if_uploaded(&self, outcome: Outcome) -> Result<Result<Outcome, AttemptError>, Status> {
        let named = outcome.artifacts();
        if named.is_empty() {
            return Ok(Ok(outcome));
        }
        // A disk that hangs must not hold up others.
        let artifacts = self.artifacts.clone();
        let absent = move || named.into_iter().find(|hash| !artifacts.claim(*hash));
        let absent = tokio::task::spawn_blocking(absent).await;
        let absent = absent
            .map_err(|e| Status::internal(format!("failed to look for the artifacts: {e}")))?;
        Ok(match absent {
            None => Ok(outcome),
            Some(hash) => Err(AttemptError::retryable(format!(
                "the worker did not upload its artifact {hash}"
            ))),
        })
    }

    fn task(&self, lease: &Lease) -> v1::Task {
        v1::Task {
            task_id: lease.task.0,
            attempt_id: lease.attempt.0,
            study: lease.study.to_string(),
            resolved_study: lease.resolved_study.to_string(),
            data_hash: optional_hash_bytes(lease.data),
            secret: self.secrets.of_attempt(lease.attempt).to_vec(),
            work: Some(work_message(&lease.work)),
        }
    }
}
