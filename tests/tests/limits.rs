//! Floods from outside, on loopback and bounded in number: while they last, other clients are
//! answered, and the coordinator's threads and memory stay within bounds.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use edgesmith_proto::v1;
use edgesmith_proto::v1::artifact_service_client::ArtifactServiceClient;
use edgesmith_proto::v1::study_service_client::StudyServiceClient;
use edgesmith_proto::v1::upload_artifact_request::Part;
use edgesmith_tests::{Coordinator, Process, TinyStudy, edgesmith, run};
use tonic::Streaming;
use tonic::client::Grpc;
use tonic::transport::Channel;

/// A figure of the coordinator's process, from `/proc`; `None` where there is none.
fn figure(coordinator: &Coordinator, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", coordinator.id())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
}

async fn connect(url: &str) -> Channel {
    Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap()
}

#[test]
fn downloads_that_nobody_reads_take_neither_threads_nor_memory_nor_turns_of_other_calls() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(directory.path(), 20);
    coordinator.submit(&TinyStudy::new("calm"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bytes = vec![7; 4 << 20];
    // The BLAKE3 hash of these bytes is what the coordinator expects.
    let hash = blake3::hash(&bytes).as_bytes().to_vec();
    let threads = figure(&coordinator, "Threads");
    let memory = figure(&coordinator, "VmRSS");
    let unread = runtime.block_on(async {
        let mut client = ArtifactServiceClient::new(connect(&coordinator.url).await);
        let part = |part| v1::UploadArtifactRequest { part: Some(part) };
        let chunks = bytes.chunks(1 << 20).map(|chunk| part(Part::Chunk(chunk.to_vec())));
        let parts: Vec<_> = [part(Part::Hash(hash.clone()))].into_iter().chain(chunks).collect();
        client.upload_artifact(tokio_stream::iter(parts)).await.unwrap();
        let mut unread = Vec::new();
        for _ in 0..4 {
            let channel = connect(&coordinator.url).await;
            for _ in 0..300 {
                let (mut client, hash) =
                    (ArtifactServiceClient::new(channel.clone()), hash.clone());
                unread.push(tokio::spawn(async move {
                    let request = v1::DownloadArtifactRequest { hash, offset: 0 };
                    // Holds what it gets, and never reads it.
                    client.download_artifact(request).await
                }));
            }
        }
        // Time for them to arrive; those that wait for a turn stay unanswered.
        tokio::time::sleep(Duration::from_secs(1)).await;
        unread
    });
    assert_eq!(coordinator.status("calm")["state"], "running");
    let _worker = coordinator.worker(&["--slots", "1", "--roles", "measure"]);
    let joined = || {
        let workers = coordinator.ask(&["workers", "--format", "json"]).json();
        workers["workers"].as_array().unwrap().len()
    };
    while joined() == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    if let (Some(threads), Some(now)) = (threads, figure(&coordinator, "Threads")) {
        // There are at most 512 threads that may block, and one for each download would take them
        // all. Those that go on at once need some for a moment.
        assert!(now < threads + 300, "{threads} threads became {now}");
    }
    if let (Some(memory), Some(now)) = (memory, figure(&coordinator, "VmRSS")) {
        assert!(now < memory + 500_000, "{memory} kB became {now} kB");
    }
    drop(unread);
    runtime.shutdown_background();
}

/// Asks for a study and leaves the answer unread: next to nothing of it is taken.
async fn leave_unread(channel: &Channel, study: &str) -> Option<Streaming<v1::StudyStatus>> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.ok()?;
    let request = tonic::Request::new(v1::GetStudyRequest { study: study.to_owned() });
    let path = "/edgesmith.v1.StudyService/GetStudy".parse().unwrap();
    let codec = tonic_prost::ProstCodec::default();
    client.server_streaming(request, path, codec).await.ok().map(tonic::Response::into_inner)
}

#[test]
fn answers_that_nobody_reads_do_not_take_the_memory_or_the_place_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(directory.path(), 20);
    let file = TinyStudy::new("large").write(directory.path());
    let comments = "# a long line of nothing, again and again and again\n".repeat(18_000);
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + &comments).unwrap();
    coordinator.ask(&["submit", file.to_str().unwrap()]).ok();
    let memory = figure(&coordinator, "VmRSS");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let unread = runtime.block_on(async {
        let mut unread = Vec::new();
        // Together 1200 answers of about 1 MiB.
        for _ in 0..6 {
            let endpoint = Channel::from_shared(coordinator.url.clone()).unwrap();
            let channel = endpoint.initial_stream_window_size(1024).connect().await.unwrap();
            for _ in 0..200 {
                unread.push(leave_unread(&channel, "large").await);
            }
        }
        unread
    });
    let kept = unread.iter().flatten().count();
    // 64 MiB of each connection, and some of them are refused for it.
    assert!((64..700).contains(&kept), "{kept} answers were begun");
    assert_eq!(coordinator.status("large")["state"], "running");
    if let (Some(memory), Some(now)) = (memory, figure(&coordinator, "VmRSS")) {
        assert!(now < memory + 500_000, "{memory} kB became {now} kB");
    }
    drop(unread);
    runtime.shutdown_background();
}

#[test]
fn hostile_studies_and_silent_connections_do_not_hold_up_others() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(directory.path(), 20);
    coordinator.submit(&TinyStudy::new("calm"));
    let address = coordinator.url.strip_prefix("http://").unwrap();
    // Connections that say nothing, or only a part of what begins a connection.
    let silent: Vec<TcpStream> = (0..200)
        .map(|i| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..i % 24]).unwrap();
            stream
        })
        .collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hostile: String = (0..40_000).map(|i| format!("a{i} = 1\n")).collect();
    let submitted: Vec<_> = runtime.block_on(async {
        let channel = connect(&coordinator.url).await;
        let submit = |_| {
            let mut client = StudyServiceClient::new(channel.clone());
            let spec_toml = hostile.clone();
            tokio::spawn(async move {
                let request = v1::SubmitStudyRequest { spec_toml, ..Default::default() };
                client.submit_study(request).await
            })
        };
        (0..20).map(submit).collect()
    });
    assert_eq!(coordinator.status("calm")["state"], "running");
    for answer in submitted {
        let refused = runtime.block_on(answer).unwrap().unwrap_err();
        let text = refused.message();
        assert!(text.contains("a0") && text.len() < 16_000, "{text}");
    }
    assert_eq!(coordinator.status("calm")["state"], "running");
    drop(silent);
}

/// Processor time that a process has used, in clock ticks; `None` where `/proc` does not say.
fn ticks(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let mut used = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    Some(used.next()? + used.next()?)
}

#[test]
fn without_free_descriptors_the_coordinator_waits_and_answers_when_some_are_free_again() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let script = "ulimit -n 80 && exec \"$0\" coordinator --listen 127.0.0.1:0 --data-dir results";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(edgesmith())
        .current_dir(directory)
        .env_remove("EDGESMITH_TOKEN")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (id, mut line) = (child.id(), String::new());
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _coordinator = Process::from(child);
    let address = line.split_whitespace().find_map(|word| word.strip_prefix("http://")).unwrap();
    // The first ones are accepted, and the others wait in the operating system's queue.
    let many: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(500));
    let before = ticks(id);
    std::thread::sleep(Duration::from_secs(1));
    if let (Some(before), Some(after)) = (before, ticks(id)) {
        // A loop that tries again without a pause uses a whole processor, a hundred ticks.
        assert!(after < before + 50, "it used {} ticks in a second", after - before);
    }
    drop(many);
    let url = format!("http://{address}");
    run(directory, &["studies", "--coordinator", &url]).ok();
}
