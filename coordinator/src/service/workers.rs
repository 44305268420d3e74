//! What workers say: the worker service.

use std::time::Duration;

use edgesmith_common::{
    ArtifactHash, AttemptId, Figures, Measurement, RungReport, TaskId, TrainedTrial, WorkerId,
};
use edgesmith_proto::v1::worker_service_server::WorkerService;
use edgesmith_proto::{PROTOCOL_VERSION, hash, optional_hash_bytes, v1};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::runtime::Handle;
use super::status;
use crate::core::{Answer, AttemptProgress, Event, Lease, Outcome, Role, Work, WorkerInfo};
use crate::store::ArtifactStore;

/// The longest that a lease request is kept waiting.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Answers workers.
pub struct Workers {
    /// The core.
    pub core: Handle,
    /// Where their artifacts are.
    pub artifacts: ArtifactStore,
    /// Ends waiting when the server stops.
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
        let held = request.held.iter().map(|&id| AttemptId(id)).collect();
        let worker = worker_info(request)?;
        match self.core.ask(|to| Event::Join { to, worker, held }).await? {
            Answer::Joined { worker, heartbeat, stop } => Ok(Response::new(v1::JoinResponse {
                worker_id: worker.0,
                heartbeat_ms: heartbeat.as_millis() as u64,
                stop: stop.iter().map(|id| id.0).collect(),
            })),
            other => Err(status::unexpected(&other)),
        }
    }

    async fn lease(
        &self,
        request: Request<v1::LeaseRequest>,
    ) -> Result<Response<v1::LeaseResponse>, Status> {
        let request = request.into_inner();
        let worker = WorkerId(request.worker_id);
        let wait = Duration::from_millis(request.wait_ms).min(LONGEST_WAIT);
        let deadline = self.core.now().after(wait);
        let asked = self.core.ask(|to| Event::Lease { to, worker, deadline });
        let answer = tokio::select! {
            answer = asked => answer?,
            () = self.stop.cancelled() => {
                return Err(Status::unavailable("the coordinator is shutting down"));
            }
        };
        match answer {
            Answer::Leased(lease) => {
                Ok(Response::new(v1::LeaseResponse { task: Some(task(*lease)) }))
            }
            Answer::NoTask => Ok(Response::new(v1::LeaseResponse { task: None })),
            other => Err(status::unexpected(&other)),
        }
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let worker = WorkerId(request.worker_id);
        let progress = |p: v1::AttemptProgress| AttemptProgress {
            attempt: AttemptId(p.attempt_id),
            fraction: if p.fraction.is_nan() { 0.0 } else { p.fraction.clamp(0.0, 1.0) },
            stage: p.stage,
        };
        let running = request.running.into_iter().map(progress).collect();
        match self.core.ask(|to| Event::Heartbeat { to, worker, running }).await? {
            Answer::Alive { stop } => Ok(Response::new(v1::HeartbeatResponse {
                stop: stop.iter().map(|id| id.0).collect(),
            })),
            other => Err(status::unexpected(&other)),
        }
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let request = request.into_inner();
        let worker = WorkerId(request.worker_id);
        let (task, attempt) = (TaskId(request.task_id), AttemptId(request.attempt_id));
        let outcome = match request.outcome {
            Some(outcome) => self.outcome(outcome)?,
            None => return Err(Status::invalid_argument("field outcome of a message is missing")),
        };
        match self.core.ask(|to| Event::Report { to, worker, task, attempt, outcome }).await? {
            Answer::Reported { accepted } => Ok(Response::new(v1::ReportResponse { accepted })),
            other => Err(status::unexpected(&other)),
        }
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::LeaveResponse>, Status> {
        let worker = WorkerId(request.get_ref().worker_id);
        self.core.ask(|to| Event::Leave { to, worker }).await?;
        Ok(Response::new(v1::LeaveResponse {}))
    }
}

impl Workers {
    fn outcome(&self, outcome: v1::report_request::Outcome) -> Result<Outcome, Status> {
        use v1::report_request::Outcome as Wire;
        let trained = |trained: v1::TrainedTrial| {
            TrainedTrial::try_from(trained).map_err(|e| status::of_convert(&e))
        };
        Ok(match outcome {
            Wire::TeacherTrained(teacher) => {
                let message = teacher.trained.unwrap_or_default();
                let trained = trained(message)?;
                let soft_targets = hash(&teacher.soft_targets, "soft_targets")
                    .map_err(|e| status::of_convert(&e))?;
                let needed = [trained.model, trained.weights, soft_targets];
                self.if_uploaded(&needed, Outcome::TeacherTrained { trained, soft_targets })
            }
            Wire::TrialTrained(message) => {
                let trained = trained(message)?;
                let needed = [trained.model, trained.weights];
                self.if_uploaded(&needed, Outcome::TrialTrained(trained))
            }
            Wire::Scored(v1::TrialScored { score }) => Outcome::Scored(score),
            Wire::RungReached(message) => {
                let report = RungReport::try_from(message).map_err(|e| status::of_convert(&e))?;
                let needed = report.checkpoint;
                self.if_uploaded(needed.as_slice(), Outcome::RungReached(report))
            }
            Wire::LookedUp(message) => {
                Outcome::LookedUp(Figures::try_from(message).map_err(|e| status::of_convert(&e))?)
            }
            Wire::Measured(message) => Outcome::Measured(
                Measurement::try_from(message).map_err(|e| status::of_convert(&e))?,
            ),
            Wire::Failed(failed) => {
                Outcome::Failed { reason: failed.reason, retryable: failed.retryable }
            }
        })
    }

    /// A result whose artifacts are not here is no result: another attempt has to bring them.
    fn if_uploaded(&self, needed: &[ArtifactHash], outcome: Outcome) -> Outcome {
        match needed.iter().find(|hash| !self.artifacts.contains(**hash)) {
            None => outcome,
            Some(hash) => Outcome::Failed {
                reason: format!("the worker did not upload its artifact {hash}"),
                retryable: true,
            },
        }
    }
}

fn worker_info(request: v1::JoinRequest) -> Result<WorkerInfo, Status> {
    let class = request.device_class.parse().map_err(|e| status::of_name(&e))?;
    let role = |role: v1::Role| match role {
        v1::Role::Train => Ok(Role::Train),
        v1::Role::Measure => Ok(Role::Measure),
        v1::Role::Table => Ok(Role::Table),
        v1::Role::Unspecified => Err(Status::invalid_argument("a worker's role is unknown here")),
    };
    let roles = request.roles().map(role).collect::<Result<_, _>>()?;
    let v1::JoinRequest { name, slots, backend, .. } = request;
    Ok(WorkerInfo { name, class, roles, slots, backend })
}

fn task(lease: Lease) -> v1::Task {
    use v1::task::Work as Wire;
    let work = match lease.work {
        Work::TrainTeacher { weights } => {
            Wire::TrainTeacher(v1::TrainTeacher { weights: optional_hash_bytes(weights) })
        }
        Work::ScoreTrial { number, genotype } => Wire::ScoreTrial(v1::ScoreTrial {
            number: number.0,
            genotype: genotype.indices().iter().map(|&i| u32::from(i)).collect(),
        }),
        Work::TrainTrial { number, genotype, soft_targets, rung, checkpoint, donor } => {
            Wire::TrainTrial(v1::TrainTrial {
                number: number.0,
                genotype: genotype.indices().iter().map(|&i| u32::from(i)).collect(),
                soft_targets: optional_hash_bytes(soft_targets),
                rung: rung.unwrap_or_default(),
                checkpoint: optional_hash_bytes(checkpoint),
                donor: donor.map(|donor| v1::Donor {
                    genotype: donor.genotype.indices().iter().map(|&i| u32::from(i)).collect(),
                    weights: donor.weights.as_bytes().to_vec(),
                }),
            })
        }
        Work::LookUpTrial { number, genotype, rung } => Wire::LookUpTrial(v1::LookUpTrial {
            number: number.0,
            genotype: genotype.indices().iter().map(|&i| u32::from(i)).collect(),
            rung: rung.unwrap_or_default(),
        }),
        Work::MeasureModel { model, number } => Wire::MeasureModel(v1::MeasureModel {
            model: model.as_bytes().to_vec(),
            number: number.map(|n| n.0),
        }),
    };
    v1::Task {
        task_id: lease.task.0,
        attempt_id: lease.attempt.0,
        study: lease.study.to_string(),
        spec_toml: lease.spec_toml,
        work: Some(work),
    }
}
