//! `edgesmith bench`: measures edgesmith itself on problems whose answers are known.
//!
//! `bench cost` times the coordinator's own work, `bench train` the training of networks; `bench search`
//! runs search algorithms on a table of trained networks. Each run is a study of its own in a
//! coordinator's core, with the same proposals, records and rules as one behind gRPC and sled, in
//! simulated time; only sockets and disk are left out.

mod algorithm;
mod cost;
mod curve;
mod fronts;
mod single;
mod study;
mod train;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use edgesmith_common::spec::Workload;
use edgesmith_worker::table::CellTable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::BenchSearchArgs;
use crate::commands::slots;
use crate::failure::invalid;

pub use cost::run as cost;
pub use train::{run as train, training_rate};

use algorithm::Algorithm;
use study::{LookUp, Template};

/// Runs and prints `bench search`.
pub fn search(args: &BenchSearchArgs) -> anyhow::Result<()> {
    let algorithms = Algorithm::parse_list(&args.algorithms)?;
    let mut template = Template::new(args)?;
    let spec = template.spec(&algorithms[0], 0)?;
    let Workload::Table(table_spec) = &spec.work else { return Err(invalid("no table is named")) };
    let table = CellTable::load(table_spec, std::path::Path::new(""))
        .map_err(|error| invalid(error.to_string()))?;
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
    let mut text = String::new();
    let mut curves = String::new();
    if problems == [None] {
        let truth = single::Truth::of(&table, &template.spec(&algorithms[0], 0)?)?;
        let results = algorithms
            .iter()
            .map(|algorithm| Ok((algorithm, run_all(args, &template, algorithm, &table)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        text = single::table(&results, template.seconds());
        curves = single::curves(&results, &truth);
    } else {
        let mut rows = Vec::new();
        for device in problems.iter().flatten() {
            template.device = Some(device.clone());
            let truth = fronts::Truth::of(&table, &template.spec(&algorithms[0], 0)?)?;
            for algorithm in &algorithms {
                let runs = run_all(args, &template, algorithm, &table)?;
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

/// All runs of one algorithm on one problem, by seed. What comes out does not depend on how many run
/// at once.
fn run_all(
    args: &BenchSearchArgs,
    template: &Template,
    algorithm: &Algorithm,
    table: &CellTable,
) -> anyhow::Result<Vec<Vec<LookUp>>> {
    let runs = args.runs as usize;
    let bar = progress(runs as u64, &template.label(algorithm));
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<anyhow::Result<Vec<LookUp>>>>> =
        Mutex::new((0..runs).map(|_| None).collect());
    let jobs = args.jobs.map_or(slots::cores().get(), |jobs| jobs as usize);
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(runs) {
            scope.spawn(|| {
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= runs {
                        return;
                    }
                    let spec = template.spec(algorithm, args.seed + run as u64);
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
