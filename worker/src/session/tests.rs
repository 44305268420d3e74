//! Tests sessions against a small coordinator that stops, forgets workers and refuses them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use edgesmith_common::{
    ArtifactHash, AttemptError, DeviceInfo, Fault, Metric, Outcome, StudySpec, TrialNumber, Work,
};
use edgesmith_proto::v1;
use edgesmith_proto::v1::artifact_service_client::ArtifactServiceClient;
use edgesmith_proto::v1::report_request::Outcome as WireOutcome;
use edgesmith_proto::v1::task::Work as WireWork;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::fake::{self, Fake, PATIENCE, STUDY, config, train_trial};
use super::synthetic::SyntheticExecutor;
use super::task::{self, Specs};
use super::{
    AttemptContext, SessionError, TaskExecutor, TaskWork, WorkerConfig, artifacts, run, run_telling,
};

/// A session in the background.
struct Session {
    running: JoinHandle<Result<(), SessionError>>,
    shutdown: CancellationToken,
}

impl Session {
    fn start(config: WorkerConfig, executor: impl TaskExecutor) -> Self {
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(config, Arc::new(executor), shutdown.clone()));
        Self { running, shutdown }
    }

    async fn ended(self) -> Result<(), SessionError> {
        tokio::time::timeout(PATIENCE, self.running).await.unwrap().unwrap()
    }

    async fn shut_down(self) {
        self.shutdown.cancel();
        self.ended().await.unwrap();
    }
}

struct Does<F>(F);

impl<F> TaskExecutor for Does<F>
where
    F: Fn(TaskWork, &AttemptContext) -> Result<Outcome, AttemptError> + Send + Sync + 'static,
{
    fn execute(&self, task: TaskWork, context: &AttemptContext) -> Result<Outcome, AttemptError> {
        (self.0)(task, context)
    }
}

fn synthetic() -> SyntheticExecutor {
    SyntheticExecutor::new(DeviceInfo {
        class: "board".parse().unwrap(),
        name: "here".to_owned(),
        cpu: String::new(),
        cpu_flags: Vec::new(),
        cores: 1,
    })
}

/// Blocks an executor's thread until it is stopped.
fn until_stopped(context: &AttemptContext) -> AttemptError {
    while !context.is_stopped() {
        std::thread::sleep(Duration::from_millis(5));
    }
    AttemptError::stopped()
}

fn held(attempt_id: u64) -> v1::HeldAttempt {
    v1::HeldAttempt { attempt_id, secret: fake::secret_of_attempt(attempt_id) }
}

fn failure(report: &v1::ReportRequest) -> &v1::AttemptFailed {
    match &report.outcome {
        Some(WireOutcome::Failed(failed)) => failed,
        other => panic!("{other:?} is not a failure"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_done_and_reported_and_the_worker_leaves() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let config = WorkerConfig { token: Some("secret".parse().unwrap()), ..config(life.url()) };
    let session = Session::start(config, synthetic());
    fake.offer(1, train_trial());
    fake.until("reported", |book| book.reports.len() == 1).await;
    let report = fake.book().reports[0].clone();
    assert_eq!((report.worker_id, report.task_id, report.attempt_id), (1, 101, 1));
    let Some(WireOutcome::TrialTrained(trained)) = report.outcome else { panic!("{report:?}") };
    assert!(fake.book().artifacts.contains_key(&trained.model));

    fake.offer(2, fake::measure_model(trained.model, Some(3)));
    fake.until("measured", |book| book.reports.len() == 2).await;
    let report = fake.book().reports[1].clone();
    let Some(WireOutcome::Measured(measured)) = report.outcome else { panic!("{report:?}") };
    assert_eq!(measured.engine_version, "synthetic");
    // The worker had uploaded the model itself, so it was cached.
    assert_eq!(fake.book().downloads, 0);

    session.shut_down().await;
    let book = fake.book();
    assert_eq!(book.left, [1]);
    assert_eq!(book.tokens, [Some("Bearer secret".to_owned())]);
    let join = &book.joins[0];
    assert_eq!((join.name.as_str(), join.device_class.as_str()), ("here", "board"));
    assert_eq!(join.roles, [v1::Role::Train as i32, v1::Role::Measure as i32]);
    assert_eq!(join.engines, ["edge-runtime"]);
    assert_eq!(join.protocol_version, edgesmith_proto::PROTOCOL_VERSION);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_report_brings_the_next_task() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    for attempt in 1..=3 {
        fake.offer(attempt, train_trial());
    }
    let session = Session::start(config(life.url()), synthetic());
    fake.until("reported", |book| book.reports.len() == 3).await;
    session.shut_down().await;
    let book = fake.book();
    let attempts: Vec<u64> = book.reports.iter().map(|report| report.attempt_id).collect();
    assert_eq!((attempts, book.leases), (vec![1, 2, 3], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_ready_only_once_it_has_joined() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let (address, url) = (life.address, life.url());
    drop(life);
    let (told, shutdown) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let tell = Arc::clone(&told);
    let joined = move || tell.store(true, Ordering::Relaxed);
    let session = run_telling(config(url), Arc::new(synthetic()), shutdown.clone(), joined);
    let session = tokio::spawn(session);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!told.load(Ordering::Relaxed), "there is no coordinator yet");
    let _life = fake.listen(Some(address)).await;
    // Heartbeats begin after the joining.
    fake.until("joined", |book| !book.beats.is_empty()).await;
    assert!(told.load(Ordering::Relaxed));
    shutdown.cancel();
    session.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_outlives_the_coordinator_that_leased_it() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let (go_on, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let session = Session::start(
        config(life.url()),
        Does(move |work, context: &AttemptContext| {
            context.progress(0.25, "epoch 1/4");
            gate.lock().unwrap().recv().unwrap();
            synthetic().execute(work, context)
        }),
    );
    fake.offer(7, train_trial());
    fake.until("told of progress", |book| {
        let said = |beat: &v1::HeartbeatRequest| {
            beat.running.iter().any(|r| r.attempt_id == 7 && r.stage == "epoch 1/4")
        };
        book.beats.iter().any(said)
    })
    .await;
    let address = life.address;
    drop(life);
    // The uploads and the report find no coordinator and wait.
    fake.book().members.clear();
    go_on.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fake.book().reports.len(), 0);

    let _life = fake.listen(Some(address)).await;
    fake.until("reported", |book| !book.reports.is_empty()).await;
    session.shut_down().await;
    let book = fake.book();
    assert_eq!(book.joins[0].held, []);
    assert_eq!(book.joins[1].held, [held(7)]);
    assert_eq!(book.joins.len(), 2, "one join for all loops");
    assert_eq!((book.reports[0].worker_id, book.reports[0].attempt_id), (2, 7));
    assert_eq!(book.left, [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_repeated_until_it_is_acknowledged() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    fake.book().report_errors =
        VecDeque::from([Status::unavailable("busy"), Status::internal("the disk is full")]);
    let session = Session::start(config(life.url()), synthetic());
    fake.offer(1, train_trial());
    fake.until("reported three times", |book| book.reports.len() == 3).await;
    // "Not current" is a valid answer too.
    fake.book().not_current = true;
    fake.offer(2, train_trial());
    fake.offer(3, train_trial());
    fake.until("went on", |book| book.reports.iter().any(|r| r.attempt_id == 3)).await;
    session.shut_down().await;
    let attempts: Vec<u64> = fake.book().reports.iter().map(|r| r.attempt_id).collect();
    assert_eq!(attempts, [1, 1, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_the_coordinator_rejects_is_reported_as_a_failure() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    fake.book().report_errors = VecDeque::from([
        Status::invalid_argument("accuracy is NaN"),
        Status::failed_precondition("nor a failure"),
    ]);
    let session = Session::start(config(life.url()), synthetic());
    fake.offer(1, train_trial());
    fake.offer(2, train_trial());
    fake.until("went on", |book| book.reports.len() == 3).await;
    session.shut_down().await;
    let book = fake.book();
    let failed = failure(&book.reports[1]);
    assert!(
        failed.reason.contains("accuracy is NaN") && failed.fault() == v1::Fault::Attempt,
        "{failed:?}"
    );
    assert_eq!(book.reports[2].attempt_id, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_stops_an_attempt_which_reports_nothing() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let session = Session::start(
        config(life.url()),
        Does(|work: TaskWork, context: &AttemptContext| match work.work {
            Work::MeasureModel { .. } => Err(until_stopped(context)),
            _ => synthetic().execute(work, context),
        }),
    );
    let model = ArtifactHash::of(b"model").as_bytes().to_vec();
    fake.offer(5, fake::measure_model(model, None));
    fake.until("running", |book| book.beats.iter().any(|b| !b.running.is_empty())).await;
    fake.book().stop = vec![5];
    // The slot is free again.
    fake.offer(6, train_trial());
    fake.until("went on", |book| !book.reports.is_empty()).await;
    session.shut_down().await;
    let book = fake.book();
    assert_eq!(book.reports.len(), 1);
    assert_eq!(book.reports[0].attempt_id, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_stops_held_attempts_that_were_revoked() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let (stopped, was_stopped) = mpsc::channel();
    let session = Session::start(
        config(life.url()),
        Does(move |_, context: &AttemptContext| {
            let error = until_stopped(context);
            stopped.send(()).unwrap();
            Err(error)
        }),
    );
    fake.offer(9, train_trial());
    fake.until("running", |book| book.beats.iter().any(|b| !b.running.is_empty())).await;
    {
        let mut book = fake.book();
        book.members.clear();
        book.stop = vec![9];
    }
    fake.until("joined again", |book| book.joins.len() == 2).await;
    let stopped = tokio::task::spawn_blocking(move || was_stopped.recv_timeout(PATIENCE));
    stopped.await.unwrap().unwrap();
    session.shut_down().await;
    assert_eq!(fake.book().joins[1].held, [held(9)]);
    assert!(fake.book().reports.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_secret_is_no_longer_right_joins_again() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let session = Session::start(config(life.url()), synthetic());
    fake.until("heard from", |book| !book.beats.is_empty()).await;
    // The coordinator has another data directory now.
    fake.book().key = 1;
    fake.until("joined again", |book| book.joins.len() == 2).await;
    fake.offer(1, train_trial());
    fake.until("reported", |book| book.reports.len() == 1).await;
    session.shut_down().await;
    assert_eq!(fake.book().left, [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_failure_that_may_be_repeated() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let calls = AtomicUsize::new(0);
    let session = Session::start(
        config(life.url()),
        Does(move |work, context: &AttemptContext| {
            assert!(calls.fetch_add(1, Ordering::Relaxed) > 0, "boom {}", 1);
            synthetic().execute(work, context)
        }),
    );
    fake.offer(1, train_trial());
    fake.offer(2, train_trial());
    fake.until("went on", |book| book.reports.len() == 2).await;
    session.shut_down().await;
    let book = fake.book();
    let failed = failure(&book.reports[0]);
    assert_eq!((failed.reason.as_str(), failed.fault()), ("panicked: boom 1", v1::Fault::Attempt));
    assert!(matches!(book.reports[1].outcome, Some(WireOutcome::TrialTrained(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_cannot_be_decoded_may_be_repeated_by_other_workers() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let session = Session::start(config(life.url()), synthetic());
    fake.offer(
        1,
        WireWork::TrainTrial(v1::TrainTrial { genotype: vec![70_000], ..Default::default() }),
    );
    fake.offer(2, WireWork::TrainTrial(v1::TrainTrial { genotype: vec![0], ..Default::default() }));
    fake.offer(3, fake::measure_model(vec![1, 2], None));
    let resolved_study = "{\"version\": 99}".to_owned();
    fake.offer_task(v1::Task { resolved_study, ..fake::task(4, train_trial()) });
    fake.offer_task(v1::Task { work: None, ..fake::task(5, train_trial()) });
    fake.until("all reported", |book| book.reports.len() == 5).await;
    session.shut_down().await;
    let book = fake.book();
    let failed: Vec<_> = book.reports.iter().map(failure).collect();
    assert!(failed.iter().all(|f| f.fault() == v1::Fault::Attempt), "{failed:?}");
    assert!(failed[1].reason.contains("1 indices"), "{}", failed[1].reason);
    assert!(failed[3].reason.contains("version 99"), "{}", failed[3].reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_its_coordinator_until_it_is_told_to_end() {
    let fake = Fake::new();
    let address = fake.listen(None).await.address;
    let url = format!("http://{address}");
    let session = Session::start(config(url.clone()), synthetic());
    tokio::time::sleep(Duration::from_millis(250)).await;
    session.shut_down().await;
    assert!(fake.book().joins.is_empty());

    let session = Session::start(config(url), synthetic());
    tokio::time::sleep(Duration::from_millis(250)).await;
    let _life = fake.listen(Some(address)).await;
    fake.until("joined", |book| book.joins.len() == 1).await;
    session.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_does_not_wait_for_a_coordinator_that_refuses() {
    let cases = [
        (Status::failed_precondition("it speaks protocol 2"), "it speaks protocol 2"),
        (Status::unauthenticated("a bearer is needed"), "a bearer is needed"),
        (Status::permission_denied("unknown secret"), "unknown secret"),
        (Status::invalid_argument("no roles"), "no roles"),
    ];
    for (status, said) in cases {
        let fake = Fake::new();
        let life = fake.listen(None).await;
        let about_token = matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied);
        fake.book().turn_away = Some(status);
        let error = Session::start(config(life.url()), synthetic()).ended().await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(error.to_string().contains("token"), about_token, "{error}");
        assert_eq!(matches!(error, SessionError::Unauthorized { .. }), about_token);
        assert_eq!(fake.book().joins.len(), 1);
    }
}

#[tokio::test]
async fn unusable_addresses_are_reported_at_once() {
    let ended = async |address: &str, tls_ca_pem: Option<&[u8]>, token: Option<&str>| {
        let config = WorkerConfig {
            tls_ca_pem: tls_ca_pem.map(<[u8]>::to_vec),
            token: token.map(|token| token.parse().unwrap()),
            ..config(address.to_owned())
        };
        Session::start(config, synthetic()).ended().await.unwrap_err().to_string()
    };
    for address in ["", "no where", "127.0.0.1:7447", "ftp://host:1", "http://"] {
        let error = ended(address, None, None).await;
        assert!(error.contains("http://HOST:PORT"), "{address}: {error}");
    }
    assert!(ended("https://host:1", Some(b"pem"), None).await.contains("authority is unusable"));
    assert!(ended("http://host:1", Some(b"pem"), None).await.contains("https://"));
    let pinned = format!("es1.{}.secret", "0".repeat(64));
    let error = ended("http://host:1", None, Some(&pinned)).await;
    assert!(error.contains("https://"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_interrupts_attempts_and_reports_none_of_them() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let mut config = config(life.url());
    config.info.slots = 2;
    let session =
        Session::start(config, Does(|_, context: &AttemptContext| Err(until_stopped(context))));
    fake.offer(1, train_trial());
    fake.offer(2, train_trial());
    // Two slots, two at once.
    fake.until("running", |book| book.beats.iter().any(|b| b.running.len() == 2)).await;
    session.shut_down().await;
    assert!(fake.book().reports.is_empty());
    assert_eq!(fake.book().left, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_are_fetched_once_and_absent_ones_fail_the_attempt() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let there = b"soft targets".to_vec();
    let (there, absent) = (ArtifactHash::of(&there), {
        fake.book().artifacts.insert(ArtifactHash::of(&there).as_bytes().to_vec(), there);
        ArtifactHash::of(b"absent")
    });
    let session = Session::start(
        config(life.url()),
        Does(move |_, context: &AttemptContext| {
            assert_eq!(context.fetch(there)?.as_slice(), b"soft targets");
            assert_eq!(context.fetch(there)?.as_slice(), b"soft targets");
            context.fetch(absent)?;
            unreachable!("it is absent");
        }),
    );
    fake.offer(1, train_trial());
    fake.until("reported", |book| book.reports.len() == 1).await;
    session.shut_down().await;
    let book = fake.book();
    let failed = failure(&book.reports[0]);
    assert!(
        failed.reason.contains(&absent.to_string()) && failed.fault() == v1::Fault::Attempt,
        "{failed:?}"
    );
    assert_eq!(book.downloads, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_coordinator_cannot_store_fails_the_attempt() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let broken = || Status::internal("the disk cannot be read");
    fake.book().upload_errors = (0..6).map(|_| broken()).collect();
    let session = Session::start(
        config(life.url()),
        Does(|_, context: &AttemptContext| {
            context.put(b"weights".to_vec())?;
            unreachable!("it cannot be stored");
        }),
    );
    fake.offer(1, train_trial());
    fake.until("reported", |book| book.reports.len() == 1).await;
    session.shut_down().await;
    let book = fake.book();
    let failed = failure(&book.reports[0]);
    assert!(
        failed.reason.contains("cannot be read") && failed.fault() == v1::Fault::Attempt,
        "{failed:?}"
    );
    assert_eq!(book.uploads, 6);
}

/// A coordinator that has no room, or too much to do, is no failure of the attempt, however long it
/// lasts. Its heartbeats go on.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_waits_while_the_coordinator_has_no_room() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    fake.book().upload_errors = (0..8)
        .map(|try_| match try_ % 2 {
            0 => Status::unavailable("the coordinator waits for room"),
            _ => Status::resource_exhausted("too many uploads at once"),
        })
        .collect();
    let session = Session::start(config(life.url()), synthetic());
    fake.offer(1, train_trial());
    fake.until("refused some times", |book| book.uploads >= 3).await;
    let beats = fake.book().beats.len();
    fake.until("alive", |book| {
        book.beats.len() > beats && book.beats.last().is_some_and(|beat| beat.running.len() == 1)
    })
    .await;
    fake.until("reported", |book| book.reports.len() == 1).await;
    session.shut_down().await;
    let book = fake.book();
    assert!(matches!(book.reports[0].outcome, Some(WireOutcome::TrialTrained(_))));
    assert!(book.uploads > 8, "{}", book.uploads);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_goes_on_and_sends_each_byte_once() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    fake.book().breaks = [50_000, 0, 100_000].into();
    let bytes: Arc<Vec<u8>> = Arc::new((0..300_000_u32).map(|i| (i % 251) as u8).collect());
    let given = Arc::clone(&bytes);
    let session = Session::start(
        config(life.url()),
        Does(move |_, context: &AttemptContext| {
            context.put(given.to_vec())?;
            Err(AttemptError::retryable("it was put"))
        }),
    );
    fake.offer(1, train_trial());
    fake.until("reported", |book| book.reports.len() == 1).await;
    session.shut_down().await;
    let book = fake.book();
    assert_eq!(failure(&book.reports[0]).reason, "it was put");
    let hash = ArtifactHash::of(&bytes);
    assert_eq!(book.artifacts[hash.as_bytes().as_slice()], *bytes);
    assert_eq!(book.chunks.iter().sum::<usize>(), bytes.len());
    assert_eq!(book.uploads, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_goes_on_and_begins_again_with_old_coordinators() {
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let hash = ArtifactHash::of(&bytes);
    for (is_old, fetched) in [(false, 300_000), (true, 300_000 + 3 * (1 << 16))] {
        let fake = Fake::new();
        let life = fake.listen(None).await;
        fake.book().artifacts.insert(hash.as_bytes().to_vec(), bytes.clone());
        fake.book().breaks = [2, 0, 1].into();
        fake.book().is_old = is_old;
        let expected = bytes.clone();
        let session = Session::start(
            config(life.url()),
            Does(move |_, context: &AttemptContext| {
                assert!(*context.fetch(hash)? == expected);
                Err(AttemptError::retryable("it was fetched"))
            }),
        );
        fake.offer(1, train_trial());
        fake.until("reported", |book| book.reports.len() == 1).await;
        session.shut_down().await;
        assert_eq!(failure(&fake.book().reports[0]).reason, "it was fetched");
        assert_eq!(fake.book().chunks.iter().sum::<usize>(), fetched);
        assert_eq!(fake.book().downloads, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_are_checked_and_old_coordinators_get_them_whole() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    fake.book().is_old = true;
    let mut client = ArtifactServiceClient::connect(life.url()).await.unwrap();
    for (size, chunks) in
        [(0, vec![]), (1 << 20, vec![1 << 20]), (2_100_000, vec![1 << 20, 1 << 20, 2848])]
    {
        fake.book().chunks.clear();
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let hash = artifacts::upload(&mut client, bytes.clone()).await.unwrap();
        assert_eq!(fake.book().chunks, chunks);
        assert_eq!(hash, ArtifactHash::of(&bytes));
        assert!(artifacts::download(&mut client, hash).await.unwrap() == bytes);
    }
    let hash = ArtifactHash::of(b"right");
    let missing = artifacts::download(&mut client, hash).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    fake.book().artifacts.insert(hash.as_bytes().to_vec(), b"wrong".to_vec());
    let damaged = artifacts::download(&mut client, hash).await.unwrap_err();
    assert_eq!(damaged.code(), Code::Aborted);
}

/// No other worker can fetch what the coordinator has lost, so trying again would only use up the
/// attempts of all trials.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_whole_study_needs_and_is_lost_is_a_fault_of_its_data() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let (absent, wrong) = (ArtifactHash::of(b"absent"), ArtifactHash::of(b"right"));
    fake.book().artifacts.insert(wrong.as_bytes().to_vec(), b"wrong".to_vec());
    let session = Session::start(
        config(life.url()),
        Does(move |_, context: &AttemptContext| {
            let damaged = context.fetch_of_study(wrong, "the soft targets", "train again");
            assert_eq!(damaged.unwrap_err().fault, Fault::Attempt, "it was damaged on the way");
            context.fetch_of_study(absent, "the soft targets", "train again")?;
            unreachable!("it is absent");
        }),
    );
    fake.offer(1, train_trial());
    fake.until("reported", |book| book.reports.len() == 1).await;
    session.shut_down().await;
    let book = fake.book();
    let failed = failure(&book.reports[0]);
    let reason = "failed to fetch the soft targets: there is no such artifact; train again";
    assert_eq!((failed.reason.as_str(), failed.fault()), (reason, v1::Fault::Data));
}

/// Commands upload and download over one connection, without a session that tries again.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_sends_again_what_was_damaged_or_broken_off() {
    let fake = Fake::new();
    let life = fake.listen(None).await;
    let mut client = ArtifactServiceClient::connect(life.url()).await.unwrap();
    let bytes: Vec<u8> = (0..200_000).map(|i| (i % 251) as u8).collect();
    let hash = ArtifactHash::of(&bytes);
    // What was damaged is sent again from its beginning, and what broke off goes on.
    fake.book().damaged = 1;
    fake.book().breaks = [usize::MAX, 50_000].into();
    assert_eq!(artifacts::upload(&mut client, bytes.clone()).await.unwrap(), hash);
    assert!(fake.book().artifacts[hash.as_bytes().as_slice()] == bytes);
    assert_eq!(fake.book().chunks.iter().sum::<usize>(), 2 * bytes.len());

    fake.book().partial.clear();
    fake.book().damaged = u32::MAX;
    let damaged = artifacts::upload(&mut client, bytes.clone()).await.unwrap_err();
    assert_eq!(damaged.code(), Code::DataLoss);
    assert!(damaged.message().contains("tried 3 times"), "{}", damaged.message());
    // One that brings nothing is not tried again.
    fake.book().breaks = [0].into();
    let broken = artifacts::upload(&mut client, bytes.clone()).await.unwrap_err();
    assert_eq!(broken.code(), Code::Unavailable);

    fake.book().artifacts.insert(hash.as_bytes().to_vec(), b"wrong".to_vec());
    let mending = fake.clone();
    let right = bytes.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        mending.book().artifacts.insert(hash.as_bytes().to_vec(), right);
    });
    assert!(artifacts::download(&mut client, hash).await.unwrap() == bytes);
}

#[test]
fn a_study_is_parsed_once() {
    let resolved = |text: &str| StudySpec::parse(text).unwrap().to_resolved();
    let specs = Specs::default();
    let first = specs.read(&resolved(STUDY)).unwrap();
    assert!(Arc::ptr_eq(&first, &specs.read(&resolved(STUDY)).unwrap()));
    let other = specs.read(&resolved(&STUDY.replace("seed = 7", "seed = 8"))).unwrap();
    assert_eq!(other.seed.0, 8);
    let error = specs.read("no study").unwrap_err();
    assert!(
        error.fault == edgesmith_common::Fault::Attempt
            && error.reason.contains("cannot read the study"),
        "{error}"
    );
}

#[test]
fn synthetic_figures_follow_from_the_genotype() {
    let task = |last: u32| {
        let WireWork::TrainTrial(mut trial) = train_trial() else { panic!("another task") };
        trial.genotype[1] = last;
        fake::task(1, WireWork::TrainTrial(trial))
    };
    let done = |last| {
        let work = task::read(&task(last), &Specs::default()).unwrap();
        assert!(matches!(work.work, Work::TrainTrial { number: TrialNumber(3), .. }));
        let slow = synthetic().with_delay(Duration::from_millis(10));
        match slow.execute(work, &AttemptContext::offline(Vec::new())).unwrap() {
            Outcome::TrialTrained(trained) => trained,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(done(0), done(0));
    let (narrow, wide) = (done(0), done(1));
    let figures = [&narrow, &wide].map(|trained| &trained.compressed);
    let [narrow, wide] = figures.map(|f| f.validation_accuracy());
    assert_ne!(narrow, wide);
    let [narrow, wide] = figures.map(|f| f.get(&Metric::MODEL_BYTES.whole()));
    assert!(narrow < wide);
    assert!(figures.iter().all(|figures| figures.check().is_ok()));
}
