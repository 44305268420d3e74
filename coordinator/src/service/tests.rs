//! Tests of the services over a real loopback connection, with clients that act as workers and
//! users.

use std::net::SocketAddr;
use std::path::Path;

use edgesmith_common::{ArtifactHash, Figures, Metric, ScopedMetric, TrainedTrial};
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;
use v1::artifact_service_client::ArtifactServiceClient;
use v1::study_service_client::StudyServiceClient;
use v1::worker_service_client::WorkerServiceClient;

use super::*;

mod access;
mod hold;
mod reading;
mod room;

const STUDY: &str = r#"
[study]
name = "served"
[data]
source = "digits"
[space]
resolution = [8]
stem_width = [4, 8]
[[space.stages]]
width = [4, 8, 16]
kernel = [3, 5]
[[objectives]]
metric = "validation_accuracy"
[budget]
trials = 3
"#;

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    async fn start(data_dir: &Path, token: Option<&str>) -> Self {
        let mut config = ServeConfig::new(data_dir.to_owned());
        config.token = token.map(|token| token.parse().unwrap());
        Self::with(config).await
    }

    async fn with(config: ServeConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let config = config.with_ready(ready);
        let task = tokio::spawn(serve(config, listener, stop.clone().cancelled_owned()));
        is_ready.await.unwrap();
        Self { address, stop, task }
    }

    async fn channel(&self) -> Channel {
        let url = format!("http://{}", self.address);
        Channel::from_shared(url).unwrap().connect().await.unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn join(protocol_version: u32) -> v1::JoinRequest {
    v1::JoinRequest {
        protocol_version,
        name: "test".to_owned(),
        device_class: "local".to_owned(),
        roles: vec![v1::Role::Train.into()],
        slots: 1,
        backend: "flex".to_owned(),
        engines: vec!["edge-runtime".to_owned()],
        held: Vec::new(),
    }
}

async fn upload(channel: Channel, hash: ArtifactHash, bytes: &[u8]) -> Result<u64, Code> {
    use v1::upload_artifact_request::Part;
    let chunks = bytes.chunks(1000).map(|chunk| Part::Chunk(chunk.to_vec()));
    let parts = std::iter::once(Part::Hash(hash.as_bytes().to_vec())).chain(chunks);
    let messages: Vec<_> =
        parts.map(|part| v1::UploadArtifactRequest { part: Some(part) }).collect();
    let mut client = ArtifactServiceClient::new(channel);
    let answer = client.upload_artifact(tokio_stream::iter(messages)).await;
    answer.map(|a| a.into_inner().size).map_err(|status| status.code())
}

async fn download(channel: Channel, hash: ArtifactHash) -> Result<Vec<u8>, Code> {
    let request = v1::DownloadArtifactRequest { hash: hash.as_bytes().to_vec(), offset: 0 };
    let mut client = ArtifactServiceClient::new(channel);
    let mut stream = client.download_artifact(request).await.map_err(|s| s.code())?.into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await.map_err(|s| s.code())? {
        bytes.extend(message.chunk);
    }
    Ok(bytes)
}

fn trained(bytes: &[u8]) -> v1::TrainedTrial {
    let figures: Figures = [
        (ScopedMetric::VALIDATION_ACCURACY, 0.75),
        (ScopedMetric::TEST_ACCURACY, 0.5),
        (Metric::MODEL_BYTES.whole(), bytes.len() as f64),
        (Metric::MACS.whole(), 1.0),
        (Metric::PARAMETERS.whole(), 1.0),
        (Metric::PEAK_MEMORY_BYTES.whole(), 1.0),
        (Metric::TRAINING_SECONDS.whole(), 0.1),
        (Metric::IMAGES_SEEN.whole(), 1.0),
    ]
    .into_iter()
    .collect();
    let hash = ArtifactHash::of(bytes);
    let uncompressed = figures.clone();
    let (model, weights, stages) = (hash, hash, Vec::new());
    (&TrainedTrial { compressed: figures, uncompressed, model, weights, stages }).into()
}

#[tokio::test]
async fn artifacts_are_downloaded_again_and_wrong_hashes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), None).await;
    let channel = server.channel().await;
    let bytes: Vec<u8> = (0..2_500_000_u32).map(|i| (i % 251) as u8).collect();
    let hash = ArtifactHash::of(&bytes);
    assert_eq!(download(channel.clone(), hash).await, Err(Code::NotFound));
    assert_eq!(upload(channel.clone(), hash, &bytes[1..]).await, Err(Code::DataLoss));
    assert_eq!(download(channel.clone(), hash).await, Err(Code::NotFound));
    for _ in 0..2 {
        assert_eq!(upload(channel.clone(), hash, &bytes).await, Ok(bytes.len() as u64));
    }
    assert_eq!(download(channel, hash).await, Ok(bytes));
    server.stop().await;
}

#[tokio::test]
async fn a_trial_goes_from_lease_to_report_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), None).await;
    let channel = server.channel().await;
    let mut studies = StudyServiceClient::new(channel.clone());
    let submit = v1::SubmitStudyRequest { spec_toml: STUDY.to_owned(), ..Default::default() };
    let created = studies.submit_study(submit.clone()).await.unwrap().into_inner();
    assert!(created.created && created.name == "served");
    assert!(!studies.submit_study(submit).await.unwrap().into_inner().created);

    let mut workers = WorkerServiceClient::new(channel.clone());
    let version = edgesmith_proto::PROTOCOL_VERSION;
    let v1::JoinResponse { worker_id, secret, .. } =
        workers.join(join(version)).await.unwrap().into_inner();
    let lease = v1::LeaseRequest { worker_id, wait_ms: 5000, secret: secret.clone() };
    let task = workers.lease(lease).await.unwrap().into_inner().task.unwrap();
    assert!(matches!(task.work, Some(v1::task::Work::TrainTrial(_))));
    let model = b"a model";
    let report = || v1::ReportRequest {
        worker_id,
        task_id: task.task_id,
        attempt_id: task.attempt_id,
        secret: secret.clone(),
        attempt_secret: task.secret.clone(),
        wants_next: false,
        outcome: Some(v1::report_request::Outcome::TrialTrained(trained(model))),
    };
    upload(channel, ArtifactHash::of(model), model).await.unwrap();
    // The current attempt counts, and repeating its report is harmless.
    for _ in 0..2 {
        let answer = workers.report(report()).await.unwrap().into_inner();
        assert!(answer.accepted);
    }
    server.stop().await;

    let server = Server::start(directory.path(), None).await;
    let mut studies = StudyServiceClient::new(server.channel().await);
    let request = v1::GetTrialRequest { study: "served".to_owned(), number: 0 };
    let trial = studies.get_trial(request).await.unwrap().into_inner();
    assert_eq!(trial.state(), v1::TrialState::Complete);
    assert_eq!(trial.trained.unwrap(), trained(model));
    server.stop().await;
}

#[tokio::test]
async fn a_result_without_its_artifacts_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), None).await;
    let channel = server.channel().await;
    let spec_toml = STUDY.replace("trials = 3", "trials = 3\nmax_attempts = 1");
    let submit = v1::SubmitStudyRequest { spec_toml, ..Default::default() };
    let mut studies = StudyServiceClient::new(channel.clone());
    studies.submit_study(submit).await.unwrap();
    let mut workers = WorkerServiceClient::new(channel);
    let version = edgesmith_proto::PROTOCOL_VERSION;
    let v1::JoinResponse { worker_id, secret, .. } =
        workers.join(join(version)).await.unwrap().into_inner();
    let lease = v1::LeaseRequest { worker_id, wait_ms: 5000, secret: secret.clone() };
    let task = workers.lease(lease).await.unwrap().into_inner().task.unwrap();
    let report = v1::ReportRequest {
        worker_id,
        task_id: task.task_id,
        attempt_id: task.attempt_id,
        secret,
        attempt_secret: task.secret,
        wants_next: false,
        outcome: Some(v1::report_request::Outcome::TrialTrained(trained(b"never uploaded"))),
    };
    workers.report(report).await.unwrap();
    let request = v1::GetTrialRequest { study: "served".to_owned(), number: 0 };
    let trial = studies.get_trial(request).await.unwrap().into_inner();
    assert_eq!(trial.state(), v1::TrialState::Failed);
    assert!(trial.reason.contains("did not upload"), "{}", trial.reason);
    server.stop().await;
}

#[tokio::test]
async fn wrong_versions_unknown_names_and_invalid_studies_are_refused_with_reasons() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), None).await;
    let channel = server.channel().await;
    let mut workers = WorkerServiceClient::new(channel.clone());
    let old = workers.join(join(0)).await.unwrap_err();
    assert_eq!(old.code(), Code::FailedPrecondition);
    assert!(old.message().contains("version 0"), "{}", old.message());

    let mut studies = StudyServiceClient::new(channel);
    let request = v1::GetStudyRequest { study: "nothing".to_owned() };
    let unknown = studies.get_study(request).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("nothing"), "{}", unknown.message());
    let watch = v1::WatchStudyRequest { study: "nothing".to_owned() };
    assert_eq!(studies.watch_study(watch).await.unwrap_err().code(), Code::NotFound);
    let spec_toml = STUDY.replace("trials = 3", "trials = 0").replace("[3, 5]", "[4]");
    let submit = v1::SubmitStudyRequest { spec_toml, ..Default::default() };
    let broken = studies.submit_study(submit).await.unwrap_err();
    assert_eq!(broken.code(), Code::InvalidArgument);
    assert_eq!(broken.message().lines().count(), 2, "{}", broken.message());
    server.stop().await;
}

#[tokio::test]
async fn watching_sees_changes_and_ends_with_the_study() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), None).await;
    let mut studies = StudyServiceClient::new(server.channel().await);
    let submit = v1::SubmitStudyRequest { spec_toml: STUDY.to_owned(), ..Default::default() };
    studies.submit_study(submit).await.unwrap();
    let watch = v1::WatchStudyRequest { study: "served".to_owned() };
    let mut stream = studies.watch_study(watch).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.state(), v1::StudyState::Running);
    let cancel = v1::CancelStudyRequest { study: "served".to_owned() };
    studies.cancel_study(cancel).await.unwrap();
    let mut last = first;
    while let Some(next) = stream.message().await.unwrap() {
        last = next;
    }
    assert_eq!(last.state(), v1::StudyState::Cancelled);
    server.stop().await;
}

#[tokio::test]
async fn every_service_requires_the_token_and_a_directory_in_use_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), Some("secret")).await;
    let channel = server.channel().await;
    let mut studies = StudyServiceClient::new(channel.clone());
    let refused = studies.list_studies(v1::ListStudiesRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("token"));
    let mut workers = WorkerServiceClient::new(channel.clone());
    let version = edgesmith_proto::PROTOCOL_VERSION;
    let refused = workers.join(join(version)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut request = tonic::Request::new(v1::ListStudiesRequest {});
    request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
    assert!(studies.list_studies(request).await.is_ok());

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = ServeConfig::new(directory.path().to_owned());
    let second = serve(config, listener, std::future::pending()).await.unwrap_err().to_string();
    assert!(second.contains("in use"), "{second}");
    server.stop().await;
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), None).await;
    let channel = server.channel().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    for service in ["edgesmith.v1.StudyService", "edgesmith.v1.WorkerService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let status = health.check(request).await.unwrap().into_inner().status;
        assert_eq!(
            status,
            i32::from(tonic_health::pb::health_check_response::ServingStatus::Serving)
        );
    }

    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let list = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let asked = reflection.server_reflection_info(tokio_stream::iter([list])).await;
    let answer = asked.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!("no list of services: {answer:?}");
    };
    let names: Vec<String> = services.service.into_iter().map(|s| s.name).collect();
    for service in ["StudyService", "WorkerService", "ArtifactService"] {
        assert!(names.contains(&format!("edgesmith.v1.{service}")), "{names:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_study_is_extended_renamed_and_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), None).await;
    let channel = server.channel().await;
    let mut studies = StudyServiceClient::new(channel.clone());
    let mut workers = WorkerServiceClient::new(channel);
    let request = v1::SubmitStudyRequest { spec_toml: STUDY.to_owned(), ..Default::default() };
    studies.submit_study(request).await.unwrap();
    let v1::JoinResponse { worker_id, secret, .. } =
        workers.join(join(edgesmith_proto::PROTOCOL_VERSION)).await.unwrap().into_inner();
    let lease = v1::LeaseRequest { worker_id, wait_ms: 5000, secret: secret.clone() };
    let lease = workers.lease(lease).await.unwrap();
    let task = lease.into_inner().task.unwrap();
    let failed = v1::AttemptFailed {
        reason: "there is no memory".to_owned(),
        fault: v1::Fault::Worker.into(),
    };
    let report = v1::ReportRequest {
        worker_id,
        task_id: task.task_id,
        attempt_id: task.attempt_id,
        secret,
        attempt_secret: task.secret,
        wants_next: false,
        outcome: Some(v1::report_request::Outcome::Failed(failed)),
    };
    assert!(workers.report(report).await.unwrap().into_inner().accepted);
    let study = "served".to_owned();
    let get = v1::GetStudyRequest { study: study.clone() };
    let status = studies.get_study(get).await.unwrap().into_inner();
    assert!(status.blocked && status.problems.len() == 2, "{:?}", status.problems);
    let all = studies.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner();
    assert_eq!(all.workers[0].exclusions, status.exclusions);
    assert_eq!(status.exclusions[0].reason, "there is no memory");

    let extend = |trials| v1::ExtendStudyRequest { study: study.clone(), trials, hours: None };
    let small = studies.extend_study(extend(Some(3))).await.unwrap_err();
    assert_eq!(small.code(), Code::InvalidArgument);
    let status = studies.extend_study(extend(Some(4))).await.unwrap().into_inner();
    assert_eq!((status.budget_trials, status.budget_hours), (4, None));
    let rename = v1::RenameStudyRequest { study: study.clone(), new_name: "other".to_owned() };
    let status = studies.rename_study(rename).await.unwrap().into_inner();
    assert_eq!((status.name.as_str(), status.blocked), ("other", true));
    let study = "other".to_owned();
    let retry = |trial| v1::RetryStudyRequest { study: study.clone(), trial, teacher: false };
    let waiting = studies.retry_study(retry(Some(0))).await.unwrap_err();
    assert_eq!(waiting.code(), Code::FailedPrecondition);
    let answer = studies.retry_study(retry(None)).await.unwrap().into_inner();
    assert!(!answer.status.unwrap().blocked);
    let refused = studies.retry_study(retry(None)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let changed = STUDY.replace("\"served\"", "\"other\"").replace("[3, 5]", "[3]");
    let request = v1::SubmitStudyRequest { spec_toml: changed, ..Default::default() };
    let differs = studies.submit_study(request).await.unwrap_err();
    assert_eq!(differs.code(), Code::AlreadyExists);
    assert!(differs.message().contains("space.stages[0].kernel: [3,5] -> [3]"), "{differs}");
    server.stop().await;
}
