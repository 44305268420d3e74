//! Tests of who may do what.

use super::*;

type Workers = WorkerServiceClient<Channel>;

async fn joined(workers: &mut Workers, held: Vec<v1::HeldAttempt>) -> v1::JoinResponse {
    let request = v1::JoinRequest { held, ..join(edgesmith_proto::PROTOCOL_VERSION) };
    workers.join(request).await.unwrap().into_inner()
}

async fn leased(workers: &mut Workers, worker: &v1::JoinResponse) -> v1::Task {
    let (worker_id, secret) = (worker.worker_id, worker.secret.clone());
    let request = v1::LeaseRequest { worker_id, wait_ms: 5000, secret };
    workers.lease(request).await.unwrap().into_inner().task.unwrap()
}

fn failed(worker: &v1::JoinResponse, task: &v1::Task) -> v1::ReportRequest {
    let failed = v1::AttemptFailed { reason: "no".to_owned(), fault: v1::Fault::Candidate.into() };
    v1::ReportRequest {
        worker_id: worker.worker_id,
        task_id: task.task_id,
        attempt_id: task.attempt_id,
        secret: worker.secret.clone(),
        attempt_secret: task.secret.clone(),
        outcome: Some(v1::report_request::Outcome::Failed(failed)),
    }
}

async fn submit(channel: Channel) {
    let submit =
        v1::SubmitStudyRequest { spec_toml: STUDY.to_owned(), teacher_weights: Vec::new() };
    StudyServiceClient::new(channel).submit_study(submit).await.unwrap();
}

#[tokio::test]
async fn a_client_cannot_act_for_another_worker() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), None).await;
    let channel = server.channel().await;
    submit(channel.clone()).await;
    let mut workers = WorkerServiceClient::new(channel);
    let victim = joined(&mut workers, Vec::new()).await;
    let task = leased(&mut workers, &victim).await;
    let thief = joined(&mut workers, Vec::new()).await;

    // The answer is the same for a worker that exists, one that does not, and one's own secret.
    let mut said = Vec::new();
    for worker_id in [victim.worker_id, 1 << 40] {
        for secret in [Vec::new(), thief.secret.clone(), vec![0; 32]] {
            let lease = v1::LeaseRequest { worker_id, wait_ms: 0, secret: secret.clone() };
            said.push(workers.lease(lease).await.unwrap_err());
            let running = Vec::new();
            let beat = v1::HeartbeatRequest { worker_id, running, secret: secret.clone() };
            said.push(workers.heartbeat(beat).await.unwrap_err());
            let leave = v1::LeaveRequest { worker_id, secret: secret.clone() };
            said.push(workers.leave(leave).await.unwrap_err());
            let report = v1::ReportRequest { worker_id, secret, ..failed(&victim, &task) };
            said.push(workers.report(report).await.unwrap_err());
        }
    }
    for status in &said {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert_eq!(status.message(), said[0].message());
    }

    // A worker that is known cannot report for the attempt of another one either.
    let report =
        v1::ReportRequest { attempt_secret: thief.secret.clone(), ..failed(&thief, &task) };
    assert_eq!(workers.report(report).await.unwrap_err().code(), Code::PermissionDenied);
    // The work is still the victim's.
    let answer = workers.report(failed(&victim, &task)).await.unwrap().into_inner();
    assert!(answer.accepted);
    server.stop().await;
}

#[tokio::test]
async fn after_a_restart_workers_keep_only_what_is_theirs() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), None).await;
    let channel = server.channel().await;
    submit(channel.clone()).await;
    let mut workers = WorkerServiceClient::new(channel);
    let before = joined(&mut workers, Vec::new()).await;
    let task = leased(&mut workers, &before).await;
    server.stop().await;

    let server = Server::start(directory.path(), None).await;
    let mut workers = WorkerServiceClient::new(server.channel().await);
    // The secret is right, but the worker is forgotten: it has to join again.
    let lease =
        v1::LeaseRequest { worker_id: before.worker_id, wait_ms: 0, secret: before.secret.clone() };
    assert_eq!(workers.lease(lease).await.unwrap_err().code(), Code::NotFound);

    // Somebody else names the attempt, in a join and in a heartbeat.
    let guess =
        |secret: &[u8]| v1::HeldAttempt { attempt_id: task.attempt_id, secret: secret.to_vec() };
    let thief = joined(&mut workers, vec![guess(&before.secret)]).await;
    assert_eq!(thief.stop, [task.attempt_id]);
    let running = vec![v1::AttemptProgress { attempt_id: task.attempt_id, ..Default::default() }];
    let (worker_id, secret) = (thief.worker_id, thief.secret.clone());
    let beat = v1::HeartbeatRequest { worker_id, running, secret };
    let answer = workers.heartbeat(beat).await.unwrap().into_inner();
    assert_eq!(answer.stop, [task.attempt_id]);

    let again = joined(&mut workers, vec![guess(&task.secret)]).await;
    assert_eq!(again.stop, [] as [u64; 0]);
    let answer = workers.report(failed(&again, &task)).await.unwrap().into_inner();
    assert!(answer.accepted);
    server.stop().await;
}
