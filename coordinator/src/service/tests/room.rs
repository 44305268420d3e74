//! What clients see of a coordinator whose disk has little room.

use super::*;

#[tokio::test]
async fn without_room_no_task_is_leased_and_everyone_is_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = ServeConfig::new(directory.path().to_owned());
    // No disk has as much.
    config.min_free = Some(u64::MAX / 2);
    let server = Server::with(config).await;
    let channel = server.channel().await;
    let mut studies = StudyServiceClient::new(channel.clone());
    let submit = v1::SubmitStudyRequest { spec_toml: STUDY.to_owned(), ..Default::default() };
    studies.submit_study(submit).await.unwrap();
    let mut workers = WorkerServiceClient::new(channel.clone());
    let v1::JoinResponse { worker_id, secret, .. } =
        workers.join(join(edgesmith_proto::PROTOCOL_VERSION)).await.unwrap().into_inner();
    let lease = v1::LeaseRequest { worker_id, wait_ms: 100, secret: secret.clone() };
    let answer = workers.lease(lease).await.unwrap().into_inner();
    assert_eq!(answer.task, None);
    assert!(answer.waits.contains("are free in"), "{}", answer.waits);
    // Its heartbeats are taken, so that it stays connected.
    let beat = v1::HeartbeatRequest { worker_id, secret, running: Vec::new() };
    workers.heartbeat(beat).await.unwrap();
    assert_eq!(upload(channel, ArtifactHash::of(b"x"), b"x").await, Err(Code::Unavailable));

    let get = v1::GetStudyRequest { study: "served".to_owned() };
    assert_eq!(studies.get_study(get).await.unwrap().into_inner().waits, answer.waits);
    let list = studies.list_studies(v1::ListStudiesRequest {}).await.unwrap().into_inner();
    assert_eq!(list.studies[0].waits, answer.waits);
    let watch = v1::WatchStudyRequest { study: "served".to_owned() };
    let mut stream = studies.watch_study(watch).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().waits, answer.waits);
    server.stop().await;
}
