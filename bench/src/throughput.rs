//! Counts how many trials a coordinator makes durable in a second, and how long its heartbeats take
//! while it is busy.
//!
//! Coordinator and worker are in this process, with a real connection and a real store in a
//! temporary directory. Look-ups in a made-up table take no time, so only edgesmith itself is
//! timed.
//! `tests/compare_throughput.py` counts the trials of Optuna and Rustuna on the same disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use edgesmith_client::{Coordinator, Submission, is_over};
use edgesmith_common::spec::Workload;
use edgesmith_common::{
    AttemptError, DeviceClass, DeviceInfo, Figures, Metric, Outcome, ScopedMetric, Work,
};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{number, print_text};
use edgesmith_coordinator::service::{LocalCoordinator, Visibility};
use edgesmith_proto::v1;
use edgesmith_proto::v1::worker_service_client::WorkerServiceClient;
use edgesmith_worker::probe;
use edgesmith_worker::session::{self, AttemptContext, TaskExecutor, TaskWork, WorkerConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::algorithm::Algorithm;

/// Pause between two questions whether the study is over.
const GLANCE: Duration = Duration::from_millis(20);
/// Pause between two heartbeats.
const BEAT: Duration = Duration::from_millis(5);
/// The most slots that a worker may have.
const MOST_SLOTS: u32 = 256;
/// A study whose slots are not filled by then is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Trials that are complete before slots are free, so that a model is at work.
const FIRST: u32 = 200;

/// Arguments: what to count.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Algorithms, with settings as NAME:KEY=VALUE
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "random,auto")]
    pub algorithms: Vec<String>,
    /// Numbers of trials that are looked up at once
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,16",
          allow_negative_numbers = true, value_parser = number::whole(1..=1000_u32))]
    pub slots: Vec<u32>,
    /// Number of trials of each study; at most 10,000, of the table's 15,625
    #[arg(long, value_name = "N", default_value_t = 2000,
          allow_negative_numbers = true, value_parser = number::whole(1..=10_000_u32))]
    pub trials: u32,
    /// Number of free slots that `auto` proposes for while heartbeats are timed; 0 skips it
    #[arg(long, value_name = "N", default_value_t = 1000,
          allow_negative_numbers = true, value_parser = number::whole(0..=1000_u32))]
    pub waiting: u32,
}

/// Counts everything and prints the result.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for algorithm in Algorithm::parse_list(&args.algorithms)? {
        for &slots in &args.slots {
            eprintln!("{algorithm}, {slots} slots");
            let took = trials(&algorithm, slots, args.trials).await?;
            let rate = f64::from(args.trials) / took.as_secs_f64();
            eprintln!("  {rate:.0} trials a second");
            rows.push(vec![algorithm.to_string(), slots.to_string(), format!("{rate:.0}")]);
        }
    }
    let columns =
        [("algorithm", Align::Left), ("slots", Align::Right), ("trials a second", Align::Right)];
    let mut text = table::render(&columns, &rows);
    if args.waiting > 0 {
        eprintln!("heartbeats while auto proposes for {} slots", args.waiting);
        let beats = heartbeats(args.waiting).await?;
        let ms = |share: f64| 1000.0 * beats.quantile(share);
        text.push_str(&format!(
            "\n{} heartbeats while auto proposed for {} free slots, for {:.1} s: median {:.2} ms, \
             99 % within {:.2} ms, the longest {:.2} ms\n",
            beats.seconds.len(),
            args.waiting,
            beats.took.as_secs_f64(),
            ms(0.5),
            ms(0.99),
            ms(1.0)
        ));
    }
    print_text(&text)
}

/// The time from when a worker connects to the end of a study.
async fn trials(algorithm: &Algorithm, slots: u32, trials: u32) -> anyhow::Result<Duration> {
    let setup = Setup::start(algorithm, trials).await?;
    let start = Instant::now();
    let worker = setup.work(slots, Made);
    let over = async {
        while !is_over(setup.status().await?.state()) {
            tokio::time::sleep(GLANCE).await;
        }
        anyhow::Ok(())
    };
    over.await?;
    let took = start.elapsed();
    worker.stop().await?;
    setup.local.shut_down().await?;
    Ok(took)
}

/// How long heartbeats took.
struct Beats {
    /// Ascending.
    seconds: Vec<f64>,
    took: Duration,
}

impl Beats {
    fn quantile(&self, share: f64) -> f64 {
        let last = self.seconds.len().saturating_sub(1);
        self.seconds.get((share * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
    }
}

/// Times heartbeats of one worker until others, which ask for work for many slots at once, have a
/// task in each of them.
async fn heartbeats(waiting: u32) -> anyhow::Result<Beats> {
    let auto = &Algorithm::parse_list(&["auto".to_owned()])?[0];
    let setup = Setup::start(auto, 10_000).await?;
    let channel = session::endpoint(setup.local.url(), None, None)?.connect().await?;
    let mut client = WorkerServiceClient::new(channel);
    let join = v1::JoinRequest {
        protocol_version: edgesmith_proto::PROTOCOL_VERSION,
        name: "beats".to_owned(),
        device_class: "local".to_owned(),
        roles: vec![v1::Role::Table.into()],
        slots: 1,
        ..Default::default()
    };
    let member = client.join(join.clone()).await?.into_inner();
    // Trials to learn from.
    let worker = setup.work(16, Made);
    while setup.status().await?.complete < FIRST {
        tokio::time::sleep(GLANCE).await;
    }
    worker.stop().await?;
    let filled = Arc::new(AtomicU32::new(0));
    let mut slots = JoinSet::new();
    let mut left = waiting;
    while left > 0 {
        let join = v1::JoinRequest { slots: left.min(MOST_SLOTS), ..join.clone() };
        left -= join.slots;
        let channel = session::endpoint(setup.local.url(), None, None)?.connect().await?;
        let mut client = WorkerServiceClient::new(channel);
        let asks = client.join(join.clone()).await?.into_inner();
        for _ in 0..join.slots {
            let (mut client, filled) = (client.clone(), Arc::clone(&filled));
            let (worker_id, secret) = (asks.worker_id, asks.secret.clone());
            slots.spawn(async move {
                let request = v1::LeaseRequest { worker_id, wait_ms: 60_000, secret };
                while client.lease(request.clone()).await?.into_inner().task.is_none() {}
                filled.fetch_add(1, Ordering::Relaxed);
                anyhow::Ok(())
            });
        }
    }
    let start = Instant::now();
    let mut beats = Beats { seconds: Vec::new(), took: Duration::ZERO };
    while filled.load(Ordering::Relaxed) < waiting {
        anyhow::ensure!(start.elapsed() < PATIENCE, "the slots are not filled after {PATIENCE:?}");
        let request = v1::HeartbeatRequest {
            worker_id: member.worker_id,
            secret: member.secret.clone(),
            running: Vec::new(),
        };
        let sent = Instant::now();
        client.heartbeat(request).await?;
        beats.seconds.push(sent.elapsed().as_secs_f64());
        tokio::time::sleep(BEAT).await;
    }
    beats.took = start.elapsed();
    beats.seconds.sort_by(f64::total_cmp);
    while let Some(asked) = slots.join_next().await {
        asked??;
    }
    setup.local.shut_down().await?;
    Ok(beats)
}

/// A coordinator with a study over a made-up table.
struct Setup {
    local: LocalCoordinator,
    coordinator: Coordinator,
    study: String,
    work: Workload,
    device: DeviceInfo,
    /// Removed when this is dropped.
    _directory: tempfile::TempDir,
}

impl Setup {
    async fn start(algorithm: &Algorithm, trials: u32) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()
            .map_err(|e| anyhow::anyhow!("failed to make a directory for the study: {e}"))?;
        let file = write_study(directory.path(), algorithm, trials)?;
        let submission = Submission::read(&file)?;
        let data = directory.path().join("data");
        let local = LocalCoordinator::start(&data, Visibility::Private).await?;
        let coordinator = Coordinator::connect_to_local(&local).await?;
        let study = submission.spec.name.to_string();
        let work = submission.spec.work.clone();
        submission.submit(&coordinator).await?;
        // What is known of a machine is found out before its worker starts, and takes a while.
        let device = probe::device_info(DeviceClass::local());
        Ok(Self { local, coordinator, study, work, device, _directory: directory })
    }

    async fn status(&self) -> anyhow::Result<v1::StudyStatus> {
        let request = v1::GetStudyRequest { study: self.study.clone() };
        self.coordinator.query(self.coordinator.studies().get_study(request)).await
    }

    /// Starts a worker with this many slots.
    fn work(&self, slots: u32, made: Made) -> Worker {
        let (url, device) = (self.local.url(), &self.device);
        let config = WorkerConfig::local(url, device, &self.work, slots, "flex");
        let stop = CancellationToken::new();
        let session = session::run(config, Arc::new(made), stop.clone());
        Worker { stop, session: tokio::spawn(session) }
    }
}

/// A worker in this process.
struct Worker {
    stop: CancellationToken,
    session: tokio::task::JoinHandle<Result<(), session::SessionError>>,
}

impl Worker {
    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        Ok(self.session.await??)
    }
}

/// Makes up the figures of candidates.
struct Made;

impl TaskExecutor for Made {
    fn execute(&self, task: TaskWork, _: &AttemptContext) -> Result<Outcome, AttemptError> {
        let Work::LookUpTrial { genotype, .. } = &task.work else {
            return Err(AttemptError::hopeless("a study over a table has only look-ups"));
        };
        let sum: u32 = genotype.indices().iter().map(|index| u32::from(*index)).sum();
        let figures = Figures::new()
            .with(ScopedMetric::VALIDATION_ACCURACY, f64::from(sum) / 100.0)
            .with(Metric::TRAINING_SECONDS.whole(), 1.0);
        Ok(Outcome::LookedUp(figures))
    }
}

fn write_study(
    directory: &Path,
    algorithm: &Algorithm,
    trials: u32,
) -> anyhow::Result<std::path::PathBuf> {
    let text = format!(
        "[study]\nname = \"throughput\"\n[table]\npath = \"made-up.csv\"\n[algorithm]\n{}[budget]\n\
         trials = {trials}\n[[objectives]]\nmetric = \"validation_accuracy\"\n",
        algorithm.toml()
    );
    let path = directory.join("study.toml");
    std::fs::write(&path, text)
        .map_err(|e| anyhow::anyhow!("failed to write {}: {e}", path.display()))?;
    Ok(path)
}
