//! Tests of clients that hold what they should not: answers that nobody reads, requests without an
//! end, and watches without number. The counts stay within the bounds, and others are answered.

use std::sync::Arc;

use tokio_stream::StreamExt as _;
use tonic::client::Grpc;
use tonic::{Request, Status, Streaming};

use super::super::bodies::Bounded;
use super::super::held::{Bounds, Held};
use super::*;

const GET_STUDY: &str = "/edgesmith.v1.StudyService/GetStudy";
const KIB: usize = 1024;

/// A server with these bounds and a study whose status has about 300 KiB.
async fn server(data_dir: &Path, bounds: Bounds, request_time: Duration) -> (Server, Held) {
    let mut config = ServeConfig::new(data_dir.to_owned());
    config.bounded = Bounded { held: Held::new(bounds), request_time };
    let held = config.bounded.held.clone();
    let server = Server::with(config).await;
    let mut studies = StudyServiceClient::new(server.channel().await);
    let spec_toml = format!("{STUDY}{}", "# long\n".repeat(300 * KIB / 7));
    let submit = v1::SubmitStudyRequest { spec_toml, ..Default::default() };
    studies.submit_study(submit).await.unwrap();
    (server, held)
}

/// A connection that takes next to nothing of an answer that nobody reads.
async fn narrow(server: &Server) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{}", server.address)).unwrap();
    endpoint.initial_stream_window_size(1024).connect().await.unwrap()
}

/// Asks for the study, and does not read the answer.
async fn ask(channel: &Channel) -> Result<Streaming<v1::StudyStatus>, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let request = Request::new(v1::GetStudyRequest { study: "served".to_owned() });
    let codec = tonic_prost::ProstCodec::default();
    client
        .server_streaming(request, GET_STUDY.parse().unwrap(), codec)
        .await
        .map(|a| a.into_inner())
}

async fn polite(server: &Server) {
    let mut studies = StudyServiceClient::new(server.channel().await);
    let get = v1::GetStudyRequest { study: "served".to_owned() };
    let status = studies.get_study(get).await.unwrap().into_inner();
    assert!(status.spec_toml.len() > 300 * KIB);
}

/// Waits until the books say so.
async fn until(held: &Held, what: impl Fn((usize, usize)) -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !what(held.sums()) {
        assert!(Instant::now() < patience, "{:?}", held.sums());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded_and_take_nobodys_place() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = Bounds {
        connection: 2000 * KIB,
        total: 5000 * KIB,
        short: Duration::ZERO,
        ..Bounds::default()
    };
    let (server, held) = server(directory.path(), bounds, Duration::from_secs(60)).await;
    let mut connections = Vec::new();
    for round in 0..5 {
        let channel = narrow(&server).await;
        let mut unread = Vec::new();
        let mut refused = 0;
        for _ in 0..20 {
            match ask(&channel).await {
                Ok(answer) => unread.push(answer),
                Err(status) => {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                    assert!(status.message().contains("read their answers"), "{status}");
                    refused += 1;
                }
            }
            assert!(held.sums().0 <= 5000 * KIB, "{:?}", held.sums());
        }
        assert!((2..=6).contains(&unread.len()), "{} of round {round}", unread.len());
        assert_eq!(refused, 20 - unread.len());
        connections.push((channel, unread));
        polite(&server).await;
    }
    // Two connections fit. The first one was closed for the others, and the last one is whole.
    let (_, mut first) = connections.remove(0);
    assert!(first.remove(0).message().await.is_err());
    let (_, mut last) = connections.pop().unwrap();
    let whole = last.remove(0).message().await.unwrap().unwrap();
    assert!(whole.spec_toml.len() > 300 * KIB);
    drop((first, last, connections));
    until(&held, |(bytes, _)| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = Bounds { unread: Duration::from_millis(1500), ..Bounds::default() };
    let (server, held) = server(directory.path(), bounds, Duration::from_secs(60)).await;
    let channel = narrow(&server).await;
    let mut unread = ask(&channel).await.unwrap();
    // All but what the connection was handed already.
    until(&held, |(bytes, _)| bytes < 100 * KIB).await;
    let refused = unread.message().await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
    assert!(refused.message().contains("given up"), "{refused}");
    until(&held, |(bytes, _)| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn requests_whose_end_is_withheld_are_bounded_and_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = Bounds { connection: 1000 * KIB, ..Bounds::default() };
    let (server, held) = server(directory.path(), bounds, Duration::from_millis(500)).await;
    let channel = server.channel().await;
    let withheld = |size: usize| {
        let channel = channel.clone();
        async move {
            let mut client = Grpc::new(channel);
            client.ready().await.unwrap();
            let submit =
                v1::SubmitStudyRequest { spec_toml: "#".repeat(size), ..Default::default() };
            let endless = tokio_stream::iter([submit]).chain(tokio_stream::pending());
            let path = "/edgesmith.v1.StudyService/SubmitStudy".parse().unwrap();
            let codec = tonic_prost::ProstCodec::<_, v1::SubmitStudyResponse>::default();
            client.client_streaming(Request::new(endless), path, codec).await.unwrap_err()
        }
    };
    let mut sent = tokio::task::JoinSet::new();
    for _ in 0..10 {
        sent.spawn(withheld(300 * KIB));
    }
    let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut codes = Vec::new();
    while let Some(status) = sent.join_next().await {
        most.fetch_max(held.sums().0, std::sync::atomic::Ordering::Relaxed);
        codes.push(status.unwrap().code());
        polite(&server).await;
    }
    let count = |code| codes.iter().filter(|c| **c == code).count();
    let (late, refused) = (count(Code::DeadlineExceeded), count(Code::ResourceExhausted));
    assert!((1..=3).contains(&late) && late + refused == 10, "{codes:?}");
    until(&held, |(bytes, _)| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn watches_are_bounded_and_send_nothing_that_does_not_change() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = Bounds { connection_watches: 3, watches: 5, ..Bounds::default() };
    let (server, held) = server(directory.path(), bounds, Duration::from_secs(60)).await;
    let watch = |channel: &Channel| {
        let mut studies = StudyServiceClient::new(channel.clone());
        let request = v1::WatchStudyRequest { study: "served".to_owned() };
        async move { studies.watch_study(request).await.map(|answer| answer.into_inner()) }
    };
    let (one, two) = (server.channel().await, server.channel().await);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(watch(&one).await.unwrap());
    }
    let refused = watch(&one).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("of this connection"), "{refused}");
    // Following the health counts too.
    let mut health = tonic_health::pb::health_client::HealthClient::new(two.clone());
    let request = tonic_health::pb::HealthCheckRequest::default();
    let _followed = health.watch(request.clone()).await.unwrap();
    open.push(watch(&two).await.unwrap());
    let refused = watch(&two).await.unwrap_err();
    assert!(refused.message().contains("this coordinator takes"), "{refused}");
    health.check(request).await.unwrap();
    assert_eq!(held.sums().1, 5);

    let mut first = open.remove(0);
    drop(open);
    until(&held, |(_, watches)| watches == 2).await;
    let status = first.message().await.unwrap().unwrap();
    assert_eq!(status.name, "served");
    assert_eq!((status.spec_toml.as_str(), status.resolved_study.as_str()), ("", ""));
    let mut studies = StudyServiceClient::new(two);
    let study = || "served".to_owned();
    studies.pause_study(v1::PauseStudyRequest { study: study() }).await.unwrap();
    let status = first.message().await.unwrap().unwrap();
    assert_eq!(status.state(), v1::StudyState::Paused);
    assert_eq!((status.spec_toml.as_str(), status.resolved_study.as_str()), ("", ""));
    server.stop().await;
}
