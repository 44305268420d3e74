//! Measures how a coordinator starts again with many finished trials: the time, the memory, and the
//! bytes on disk.
//!
//! The trials are made up and take no time. Their records go through a coordinator's core and store
//! as they do while workers report them. A new process then opens the directory, as a coordinator
//! does when it starts, and says how long it took and how much memory it used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use edgesmith_common::metric::Split;
use edgesmith_common::{
    ArtifactHash, ClassCount, DeviceInfo, EngineName, Figures, Measurement, Metric, Noise, Outcome,
    Role, ScopedMetric, StageReport, StudySpec, Target, TrainedTrial, Waiting, Work, WorkerId,
    WorkerInfo,
};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{number, print_text};
use edgesmith_coordinator::controller::{self, FinishedTrial, Proposal};
use edgesmith_coordinator::core::{
    Answer, Command, Core, CoreConfig, Event, Lease, Record, RequestId, Time, TrialEnding,
};
use edgesmith_coordinator::service;
use edgesmith_coordinator::store::{DataDir, DiskStore, Store as _};
use edgesmith_search_space::Cost;

use crate::cost::SPACE;

/// A study that trains, on [`SPACE`]: 23 open choices, four objectives, two boards.
const TRAINS: &str = r#"
study = { name = "trains", seed = 1 }
data.source = "digits"
algorithm.name = "random"
recipe = { prune = [0.0, 0.25, 0.5], precision = ["fp32", "int8"] }
[[objectives]]
metric = "validation_accuracy"
[[objectives]]
metric = "model_bytes"
[[objectives]]
metric = "latency_ms"
device = "board"
[[objectives]]
metric = "latency_ms"
device = "phone"
"#;

/// A study over a table, without its name and its number of trials.
const LOOKS_UP: &str = r#"
table = { path = "t.csv", latencies = "l.csv", identity = "row" }
algorithm.name = "random"
[[objectives]]
metric = "validation_accuracy"
[[objectives]]
metric = "latency_ms"
device = "pixel3"
"#;

/// The rows of the table, and so the most trials of one study over it.
const ROWS: u32 = 15_625;
/// The boards that the study that trains measures on.
const BOARDS: [&str; 2] = ["board", "phone"];
/// Trials that are trained at once.
const SLOTS: u32 = 8;
/// Records that are appended together, as when many workers report at once.
const TOGETHER: usize = 1024;
/// How often `/proc` counts in a second.
const TICKS: f64 = 100.0;

/// Arguments: how many trials.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of finished trials
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          allow_negative_numbers = true, value_parser = number::whole(1..=10_000_000u32))]
    pub trials: u32,
    /// Keep the directories here; those that are there already are only opened
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Only open this directory and print the figures
    #[arg(long, value_name = "DIR", hide = true)]
    pub open: Option<PathBuf>,
}

/// Writes the directories, opens each in a process of its own, and prints the figures.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(directory) = &args.open {
        return print_text(&format!("{}\n", open(directory)?.join(" ")));
    }
    let temporary = tempfile::tempdir().context("failed to make a directory for the studies")?;
    let within = args.keep.as_deref().unwrap_or(temporary.path());
    let mut rows = Vec::new();
    for (name, looks_up) in [("looked up in a table", true), ("trained and measured", false)] {
        let directory = within.join(if looks_up { "table" } else { "trained" });
        if !directory.exists() {
            eprintln!("{name}: writing {} trials", args.trials);
            write(&directory, args.trials, looks_up)?;
        }
        for start in ["first start", "next start"] {
            eprintln!("{name}: {start}");
            let mut row = vec![name.to_owned(), start.to_owned()];
            row.extend(opened_elsewhere(&directory)?);
            row.push(format!("{:.0}", bytes_of(&directory)? as f64 / 1e6));
            rows.push(row);
        }
    }
    let columns = [
        ("trials", Align::Left),
        ("", Align::Left),
        ("complete", Align::Right),
        ("seconds", Align::Right),
        ("CPU seconds", Align::Right),
        ("of which algorithm", Align::Right),
        ("peak MB", Align::Right),
        ("MB on disk", Align::Right),
    ];
    print_text(&table::render(&columns, &rows))
}

/// Runs [`open`] in a new process, whose memory holds nothing else.
fn opened_elsewhere(directory: &Path) -> anyhow::Result<Vec<String>> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let output = Process::new(program).arg("restart").arg("--open").arg(directory).output();
    let output = output.context("failed to start a process")?;
    if !output.status.success() {
        bail!("failed to open {}: {}", directory.display(), text(&output.stderr));
    }
    Ok(text(&output.stdout).split_whitespace().map(str::to_owned).collect())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Opens a directory as a coordinator does when it starts. Returns the number of complete trials,
/// the seconds, the seconds of processors, how many of these the search algorithms took, and the
/// most memory in MB.
fn open(directory: &Path) -> anyhow::Result<Vec<String>> {
    let start = Instant::now();
    let mut store = DiskStore::open(DataDir::open(directory)?)?;
    let core = service::restore(CoreConfig::default(), &mut store)?;
    store.compact_if_useful();
    let (seconds, cpu, peak) = (start.elapsed(), cpu_seconds()?, peak_megabytes()?);
    let complete = |name| Ok(core.study_status(name, Time::default())?.counts.complete);
    let complete: Vec<u32> = core.studies().iter().map(complete).collect::<anyhow::Result<_>>()?;
    let algorithm = algorithms(&mut store)?;
    Ok(vec![
        complete.iter().sum::<u32>().to_string(),
        format!("{:.1}", seconds.as_secs_f64()),
        format!("{cpu:.1}"),
        format!("{:.1}", algorithm.as_secs_f64()),
        format!("{peak:.0}"),
    ])
}

/// The time that the algorithm of every study takes to learn of all its trials again.
fn algorithms(store: &mut DiskStore) -> anyhow::Result<Duration> {
    let (mut told, mut spec) = (None, None);
    let mut taken = Duration::ZERO;
    for record in store.replay()? {
        let record = record?;
        let start = Instant::now();
        match record {
            Record::StudyCreated { spec: of, .. } => {
                told = Some(controller::build(&of));
                spec = Some(of);
            }
            Record::TrialProposed { number, genotype, parents, .. } => {
                let (Some(told), Some(spec)) = (&mut told, &spec) else { continue };
                let genotype = spec.space.genotype(genotype)?;
                told.proposed(number, &Proposal { genotype, parents });
            }
            // Which objectives a trial has makes no difference to `random`.
            Record::TrialFinished { number, ending: TrialEnding::Complete, .. } => {
                let finished =
                    FinishedTrial::Complete { number, objectives: Vec::new(), violation: 0.0 };
                if let Some(told) = &mut told {
                    told.update(&finished);
                }
            }
            _ => {}
        }
        taken += start.elapsed();
    }
    Ok(taken)
}

/// Seconds of processors that this process used so far.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").context("failed to read /proc/self/stat")?;
    // The name of the program, in brackets, may have spaces.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>().context("failed to read /proc/self/stat")?;
    Ok(ticks as f64 / TICKS)
}

/// The most memory that this process had at a time, MB of 1,000,000 bytes.
fn peak_megabytes() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status");
    let status = status.context("failed to read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kibibytes.context("failed to find VmHWM in /proc/self/status")? * 1024.0 / 1e6)
}

/// Bytes of all files in a directory.
fn bytes_of(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_of(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Writes a directory with this many complete trials.
fn write(directory: &Path, trials: u32, looks_up: bool) -> anyhow::Result<()> {
    let mut coordinator = Coordinator::new(directory)?;
    if looks_up {
        let worker = coordinator.join("table", Role::Table, 1)?;
        let studies = trials.div_ceil(ROWS);
        for study in 0..studies {
            let trials = ROWS.min(trials - study * ROWS);
            let text =
                format!("study.name = \"table-{study}\"\nbudget.trials = {trials}\n{LOOKS_UP}");
            coordinator.submit(&text)?;
            for _ in 0..trials {
                let lease = coordinator.lease(worker)?;
                coordinator.report(worker, &lease, Outcome::LookedUp(looked_up(&lease)))?;
            }
        }
    } else {
        coordinator.submit(&format!("budget.trials = {trials}\n{TRAINS}{SPACE}"))?;
        let trainer = coordinator.join("trainer", Role::Train, SLOTS)?;
        let boards = [
            coordinator.join(BOARDS[0], Role::Measure, SLOTS)?,
            coordinator.join(BOARDS[1], Role::Measure, SLOTS)?,
        ];
        let mut left = trials;
        while left > 0 {
            let at_once = left.min(SLOTS);
            left -= at_once;
            coordinator.work(trainer, at_once)?;
            for board in boards {
                coordinator.work(board, at_once)?;
            }
        }
    }
    coordinator.finish()
}

/// A core and its store, without the services around them.
struct Coordinator {
    core: Core,
    store: DiskStore,
    records: Vec<Record>,
    requests: u64,
    spec: Option<StudySpec>,
}

impl Coordinator {
    fn new(directory: &Path) -> anyhow::Result<Self> {
        let mut store = DiskStore::open(DataDir::open(directory)?)?;
        let core = service::restore(CoreConfig::default(), &mut store)?;
        Ok(Self { core, store, records: Vec::new(), requests: 0, spec: None })
    }

    /// The answer to an event.
    fn ask(&mut self, event: impl FnOnce(RequestId) -> Event) -> anyhow::Result<Answer> {
        self.requests += 1;
        let asked = RequestId(self.requests);
        let mut answered = None;
        let mut events = vec![event(asked)];
        while let Some(event) = events.pop() {
            for command in self.core.handle(Time::default(), event) {
                match command {
                    Command::Persist(record) => self.records.push(*record),
                    Command::Reply { to, answer } if to == asked => answered = Some(answer?),
                    Command::Reply { .. } => {}
                    Command::Propose(request) => events.push(request.answer().into()),
                }
            }
        }
        if self.records.len() >= TOGETHER {
            self.store.append(&self.records)?;
            self.records.clear();
        }
        answered.context("the core did not answer")
    }

    fn submit(&mut self, text: &str) -> anyhow::Result<()> {
        let spec = StudySpec::parse(text).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        self.spec = Some(spec.clone());
        let (spec, teacher_weights) = (Box::new(spec), None);
        self.ask(|to| Event::Submit { to, spec, teacher_weights, at_ms: 0 }).map(drop)
    }

    fn join(&mut self, class: &str, role: Role, slots: u32) -> anyhow::Result<WorkerId> {
        let worker = WorkerInfo {
            name: format!("{class}.example"),
            class: class.parse()?,
            roles: [role].into(),
            engines: [EngineName::edge_runtime()].into(),
            slots,
            backend: "flex".to_owned(),
        };
        match self.ask(|to| Event::Join { to, worker, held: Vec::new() })? {
            Answer::Joined { worker, .. } => Ok(worker),
            _ => bail!("the core did not let the worker join"),
        }
    }

    fn lease(&mut self, worker: WorkerId) -> anyhow::Result<Box<Lease>> {
        match self.ask(|to| Event::Lease { to, worker, deadline: Time::default() })? {
            Answer::Leased(lease) => Ok(lease),
            _ => bail!("the core leased no task"),
        }
    }

    fn report(&mut self, worker: WorkerId, lease: &Lease, outcome: Outcome) -> anyhow::Result<()> {
        let (task, attempt, outcome) = (lease.task, lease.attempt, Box::new(Ok(outcome)));
        match self.ask(|to| Event::Report { to, worker, task, attempt, outcome })? {
            Answer::Reported { accepted: true } => Ok(()),
            _ => bail!("the core did not accept a report"),
        }
    }

    /// Does this many tasks, which all run at once and end in another order than they began.
    fn work(&mut self, worker: WorkerId, tasks: u32) -> anyhow::Result<()> {
        let mut leases = Vec::new();
        for _ in 0..tasks {
            leases.push(self.lease(worker)?);
        }
        let from = leases.len() / 3;
        leases.rotate_left(from);
        for lease in leases {
            let spec = self.spec.as_ref().context("no study was submitted")?;
            let outcome = match &lease.work {
                Work::TrainTrial { .. } => Outcome::TrialTrained(trained(spec, &lease)?),
                Work::MeasureModel { target, .. } => Outcome::Measured(measured(target, &lease)),
                _ => bail!("the core leased a task that is neither training nor measuring"),
            };
            self.report(worker, &lease, outcome)?;
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.store.append(&self.records)?;
        Ok(())
    }
}

/// Made-up figures of a table.
fn looked_up(lease: &Lease) -> Figures {
    let draw = |of: u64| luck(lease.task.0, of);
    let pixel = Target::on("pixel3".parse().expect("a device class"));
    Figures::new()
        .with(ScopedMetric::VALIDATION_ACCURACY, 0.5 + 0.4 * draw(0))
        .with(ScopedMetric::TEST_ACCURACY, 0.5 + 0.4 * draw(1))
        .with(Metric::ACCURACY.on(Split::HeldOut("c10_test_200".into())), 0.5 + 0.4 * draw(1))
        .with(Metric::TRAINING_SECONDS.whole(), 100.0 + draw(2))
        .with(Metric::LATENCY_MS.at(pixel), 1.0 + 9.0 * draw(3))
}

/// A made-up result of training. More parameters give more accuracy, apart from luck.
fn trained(spec: &StudySpec, lease: &Lease) -> anyhow::Result<TrainedTrial> {
    let work = spec.training().context("the study does not train")?;
    let Work::TrainTrial { genotype, .. } = &lease.work else { bail!("the task does not train") };
    let candidate = work.space.decode(genotype);
    let cost = Cost::of(&candidate.pruned_graph(work.space.data())?, candidate.recipe.precision());
    let draw = |of: u64| luck(lease.task.0, of);
    let accuracy = (0.5 + 0.03 * (cost.parameters as f64).ln() + 0.05 * draw(0)).min(1.0);
    let evaluated = |accuracy: f64| {
        Figures::of_cost(&cost)
            .with(ScopedMetric::VALIDATION_ACCURACY, accuracy)
            .with(Metric::MODEL_BYTES.whole(), (4 * cost.parameters) as f64)
    };
    let stage = |pass: &str, of: u64| StageReport {
        pass: pass.to_owned(),
        distilled: false,
        figures: evaluated(accuracy - 0.01 * draw(of)),
        classes: (0..10)
            .map(|class| ClassCount { images: 36, right: 30 + (6.0 * draw(of + class)) as u32 })
            .collect(),
    };
    let uncompressed = evaluated(accuracy).with(ScopedMetric::TEST_ACCURACY, accuracy);
    let compressed = uncompressed
        .clone()
        .with(Metric::TRAINING_SECONDS.whole(), 10.0 + draw(1))
        .with(Metric::IMAGES_SEEN.whole(), 10_780.0);
    Ok(TrainedTrial {
        compressed,
        uncompressed,
        model: ArtifactHash::of(&lease.task.0.to_le_bytes()),
        weights: ArtifactHash::of(&lease.attempt.0.to_be_bytes()),
        stages: vec![stage(StageReport::TRAINED, 10), stage("prune", 30), stage("quantize", 50)],
    })
}

/// A made-up measurement.
fn measured(target: &Target, lease: &Lease) -> Measurement {
    let ms = 1.0 + luck(lease.task.0, 0);
    Measurement {
        device: DeviceInfo {
            class: target.device.clone(),
            name: format!("{}.example", target.device),
            cpu: "Cortex-A72 r0p3".to_owned(),
            cpu_flags: ["neon", "asimd", "crc32"].map(str::to_owned).to_vec(),
            cores: 4,
        },
        engine: target.engine.clone(),
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        threads: target.threads,
        batch: 1,
        warmup_runs: 10,
        samples: 50,
        p50_ms: ms,
        p95_ms: ms * 1.1,
        min_ms: ms * 0.9,
        noise: Some(Noise {
            noisy: false,
            spread: 0.01 * luck(lease.task.0, 1),
            waiting: Some(Waiting { share: 0.001 * luck(lease.task.0, 2), per_run: 0.02 }),
            timings: 1,
        }),
        energy_mj: None,
        original: None,
        slower_layers: Vec::new(),
        unquantized: None,
        slower_in_integers: Vec::new(),
    }
}

/// A number from 0 to 1 that looks random.
fn luck(seed: u64, of: u64) -> f64 {
    let mixed = (seed ^ of << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 32) as u32 as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_trials_are_complete_when_the_directory_is_opened() {
        for looks_up in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            write(directory.path(), 20, looks_up).unwrap();
            let figures = open(directory.path()).unwrap();
            assert_eq!((figures[0].as_str(), figures.len()), ("20", 5));
            assert!(figures[4].parse::<f64>().unwrap() > 1.0, "{figures:?}");
            assert!(bytes_of(directory.path()).unwrap() > 1000);
        }
    }
}
