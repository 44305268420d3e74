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
        wants_next: false,
        outcome: Some(v1::report_request::Outcome::Failed(failed)),
    }
}

async fn submit(channel: Channel) {
    let submit = v1::SubmitStudyRequest { spec_toml: STUDY.to_owned(), ..Default::default() };
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

/// Every call of every service that the server offers, as a path.
fn described() -> std::collections::BTreeSet<String> {
    use prost::Message as _;
    let sets = [
        v1::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let mut paths = std::collections::BTreeSet::new();
    for set in sets {
        for file in prost_types::FileDescriptorSet::decode(set).unwrap().file {
            let package = file.package().to_owned();
            for service in &file.service {
                for method in &service.method {
                    paths.insert(format!("/{package}.{}/{}", service.name(), method.name()));
                }
            }
        }
    }
    paths
}

/// Makes a call with an empty message, and returns the error that it ends or begins with.
async fn call(channel: Channel, path: &str, token: Option<&str>) -> Option<tonic::Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(tokio_stream::iter([()]));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let path = path.parse().unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    match client.streaming(request, path, codec).await {
        Ok(answer) => answer.into_inner().message().await.err(),
        Err(status) => Some(status),
    }
}

#[tokio::test]
async fn every_call_has_an_entry_and_every_role_may_do_what_its_entry_says() {
    let described = described();
    let listed = super::super::access::paths().map(str::to_owned).collect();
    assert_eq!(described, listed, "the table and the services differ");

    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), Some("chosen")).await;
    let channel = server.channel().await;
    let mut admin = v1::token_service_client::TokenServiceClient::new(channel.clone());
    let mut tokens = vec![(TokenRole::Admin, "chosen".to_owned())];
    for (role, wire) in [
        (TokenRole::Worker, v1::TokenRole::Worker),
        (TokenRole::Viewer, v1::TokenRole::Viewer),
        (TokenRole::User, v1::TokenRole::User),
        (TokenRole::Admin, v1::TokenRole::Admin),
    ] {
        let name = String::new();
        let create = v1::CreateTokenRequest { role: wire.into(), name };
        let mut request = tonic::Request::new(create);
        request.metadata_mut().insert("authorization", "Bearer chosen".parse().unwrap());
        let made = admin.create_token(request).await.unwrap().into_inner();
        assert!(made.required && made.name == format!("{role}-1"), "{made:?}");
        tokens.push((role, made.token));
    }
    let of_directory = local_token(directory.path(), true).unwrap();
    tokens.push((TokenRole::Admin, of_directory.to_string()));
    for path in &described {
        let allowed = super::super::access::of(path).unwrap().allowed;
        let open = allowed == super::super::access::Allowed::Anyone;
        for (role, token) in &tokens {
            let said = call(channel.clone(), path, Some(token)).await;
            let refused = said.as_ref().is_some_and(|status| {
                status.code() == Code::Unauthenticated
                    || status.message().starts_with("a token of role ")
            });
            let expected = allowed.includes(*role);
            assert_eq!(!refused, expected, "{path} with {role:?}: {said:?}");
        }
        let said = call(channel.clone(), path, None).await;
        let refused = said.as_ref().is_some_and(|s| s.code() == Code::Unauthenticated);
        assert_eq!(!refused, open, "{path} without a token: {said:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), Some("chosen")).await;
    let with = |token: &str| {
        let value: tonic::metadata::MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
        move |mut request: tonic::Request<()>| {
            request.metadata_mut().insert("authorization", value.clone());
            Ok(request)
        }
    };
    let channel = server.channel().await;
    let mut admin = v1::token_service_client::TokenServiceClient::with_interceptor(
        channel.clone(),
        with("chosen"),
    );
    let (role, name) = (v1::TokenRole::Viewer.into(), "screen".to_owned());
    let made = admin.create_token(v1::CreateTokenRequest { role, name }).await.unwrap();
    let mut studies = StudyServiceClient::with_interceptor(channel, with(&made.get_ref().token));
    studies.list_studies(v1::ListStudiesRequest {}).await.unwrap();
    let name = "screen".to_owned();
    admin.revoke_token(v1::RevokeTokenRequest { name }).await.unwrap();
    let refused = studies.list_studies(v1::ListStudiesRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    server.stop().await;
}
