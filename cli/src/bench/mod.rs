//! `edgesmith bench`: measures edgesmith itself on problems whose answers are known.
//!
//! `bench cost` times the coordinator's own work, `bench train` the training of networks; `bench search`
//! runs search algorithms on a table of trained networks, and `bench fidelity` does so with and without
//! successive halving. Each run of these two is a study of its own in a coordinator's core, with the same
//! proposals, records and rules as one behind gRPC and sled, in simulated time; only sockets and disk are
//! left out. `bench front` runs one real study and leaves nothing out;
//! `bench proxies` judges untrained networks by such a study's trials.

mod algorithm;
mod correlation;
mod cost;
mod curve;
mod fidelity;
mod front;
mod fronts;
mod proxies;
mod single;
mod study;
mod train;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use edgesmith_common::StudySpec;
use edgesmith_common::spec::Workload;
use edgesmith_worker::table::CellTable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::BenchSearchArgs;
use crate::commands::slots;
use crate::failure::invalid;

pub use cost::run as cost;
pub use fidelity::run as fidelity;
pub use front::run as front;
pub use proxies::run as proxies;
pub use train::{run as train, training_rate};

use algorithm::Algorithm;
use study::{LookUp, Run, Template};

/// Runs and prints `bench search`.
pub fn search(args: &BenchSearchArgs) -> anyhow::Result<()> {
    let algorithms = Algorithm::parse_list(&args.algorithms)?;
    let mut template = Template::new(args)?;
    let spec = template.spec(&algorithms[0], 0)?;
    let table = load(&spec)?;
    let devices = match args.devices.iter().any(|device| device == "all") {
        true => table.devices(),
        false => args.devices.clone(),
    };
    // Every study file is checked before the first run starts.
    let problems: Vec<Option<String>> = match devices.is_empty() {
        true => vec![None],
        false => devices.into_iter().map(Some).collect(),
    };
    for device in &problems {
        template.device.clone_from(device);
        for algorithm in &algorithms {
            template.spec(algorithm, args.seed)?;
        }
    }
    let runs = Runs { count: args.runs, seed: args.seed, jobs: args.jobs };
    let look_ups = |template: &Template, algorithm| -> anyhow::Result<Vec<Vec<LookUp>>> {
        let runs = runs.all(template, algorithm, &table)?;
        Ok(runs.into_iter().map(|run| run.look_ups).collect())
    };
    let mut text = String::new();
    let mut curves = String::new();
    if problems == [None] {
        let truth = single::Truth::of(&table, &template.spec(&algorithms[0], 0)?)?;
        let results = algorithms
            .iter()
            .map(|algorithm| Ok((algorithm, look_ups(&template, algorithm)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        text = single::table(&results, template.seconds());
        curves = single::curves(&results, &truth);
    } else {
        let mut rows = Vec::new();
        for device in problems.iter().flatten() {
            template.device = Some(device.clone());
            let truth = fronts::Truth::of(&table, &template.spec(&algorithms[0], 0)?)?;
            for algorithm in &algorithms {
                let runs = look_ups(&template, algorithm)?;
                rows.push(fronts::Row::new(device, algorithm, &runs, &truth));
            }
        }
        let _ = write!(text, "{}", fronts::table(&rows, &algorithms));
        curves.push_str(&fronts::curves(&rows));
    }
    if let Some(file) = &args.curve {
        std::fs::write(file, curves)
            .map_err(|e| anyhow::anyhow!("failed to write {}: {e}", file.display()))?;
    }
    crate::output::print(&text)
}

/// The table that a study names, by its path from here.
fn load(spec: &StudySpec) -> anyhow::Result<CellTable> {
    let Workload::Table(table) = &spec.work else { return Err(invalid("no table is named")) };
    CellTable::load(table, std::path::Path::new("")).map_err(|error| invalid(error.to_string()))
}

/// How often a study is run.
struct Runs {
    count: u32,
    /// Of the first; those of the others count up.
    seed: u64,
    /// At once; `None`: as many as there are cores.
    jobs: Option<u32>,
}

impl Runs {
    /// All runs of one algorithm on one problem, by seed. What comes out does not depend on how many
    /// run at once.
    fn all(
        &self,
        template: &Template,
        algorithm: &Algorithm,
        table: &CellTable,
    ) -> anyhow::Result<Vec<Run>> {
        let runs = self.count as usize;
        let bar = progress(runs as u64, &template.label(algorithm));
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<Option<anyhow::Result<Run>>>> =
            Mutex::new((0..runs).map(|_| None).collect());
        let jobs = self.jobs.map_or(slots::cores().get(), |jobs| jobs as usize);
        std::thread::scope(|scope| {
            for _ in 0..jobs.min(runs) {
                scope.spawn(|| {
                    loop {
                        let run = next.fetch_add(1, Ordering::Relaxed);
                        if run >= runs {
                            return;
                        }
                        let spec = template.spec(algorithm, self.seed + run as u64);
                        let result = spec.and_then(|spec| study::run(&spec, table));
                        results.lock().unwrap_or_else(PoisonError::into_inner)[run] = Some(result);
                        bar.inc(1);
                    }
                });
            }
        });
        bar.finish_and_clear();
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().flatten().collect()
    }
}

fn progress(runs: u64, label: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(runs), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{bar:24} {pos}/{len} runs of {msg}, {eta} left")
    {
        bar.set_style(style);
    }
    bar.set_message(label.to_owned());
    bar
}
