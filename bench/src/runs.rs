//! Runs one study over a table many times, several runs at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use edgesmith_common::StudySpec;
use edgesmith_common::spec::Workload;
use edgesmith_console::invalid;
use edgesmith_worker::slots;
use edgesmith_worker::table::CellTable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::algorithm::Algorithm;
use crate::study::{self, Run, Template};

/// Loads the table that a study names. Relative paths start from the current directory.
pub fn load(spec: &StudySpec) -> anyhow::Result<CellTable> {
    let Workload::Table(table) = &spec.work else {
        return Err(invalid("the study names no table"));
    };
    CellTable::load(table, std::path::Path::new("")).map_err(|error| invalid(error.to_string()))
}

/// How often a study is run, and how.
pub struct Runs {
    /// Number of runs, at least 1.
    pub count: u32,
    /// Seed of the first run; the others have the next seeds.
    pub seed: u64,
    /// Number of runs at once; `None` for the number of cores.
    pub jobs: Option<u32>,
}

impl Runs {
    /// Runs one algorithm on one problem; the results are in the order of seeds. They do not depend
    /// on how many runs go on at once.
    pub fn all(
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
