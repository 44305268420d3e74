//! Measures what successive halving saves and what it loses: runs the same studies with and without
//! it.

use std::path::PathBuf;

use edgesmith_common::spec::AlgorithmSpec;
use edgesmith_console::table::{self, Align};
use edgesmith_console::{number, print_text};

use crate::algorithm::Algorithm;
use crate::curve::percent;
use crate::runs::{Runs, load};
use crate::single;
use crate::study::{Budget, LookUp, Run, Template, toml_text};

/// Arguments: which studies are run both ways.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// NAS-Bench-201 as CSV, see docs/data.md
    #[arg(long, value_name = "FILE")]
    pub table: PathBuf,
    /// Algorithms, with settings as NAME:KEY=VALUE
    #[arg(long, value_name = "NAME", value_delimiter = ',',
          default_values = AlgorithmSpec::NAMES)]
    pub algorithms: Vec<String>,
    /// Number of trials of each study
    #[arg(long, value_name = "N", default_value_t = 200,
          allow_negative_numbers = true, value_parser = number::whole(1..=1_000_000_u32))]
    pub trials: u32,
    /// About one in N trials goes on at a rung
    #[arg(long, value_name = "N", default_value_t = 5,
          allow_negative_numbers = true, value_parser = number::whole(2..=1000_u32))]
    pub reduction: u32,
    /// Number of runs of each algorithm both ways, with consecutive seeds
    #[arg(long, default_value_t = 500,
          allow_negative_numbers = true, value_parser = number::whole(1..=1_000_000_u32))]
    pub runs: u32,
    /// Seed of the first run
    #[arg(long, default_value_t = 0,
          allow_negative_numbers = true, value_parser = number::whole(0..=u64::MAX))]
    pub seed: u64,
    /// Number of runs at once [default: number of cores]
    #[arg(long, value_name = "N",
          allow_negative_numbers = true, value_parser = number::whole(1..=1024_u32))]
    pub jobs: Option<u32>,
}

impl Args {
    /// What all runs share: trials of 200 epochs, and with `stop` a rung at 12 epochs.
    fn template(&self, stop: bool) -> Template {
        let mut table = format!(
            "path = {}\nvalidation_accuracy = \"c10_valid_200\"\nepochs = 200\n\
             test_accuracies = [\"c10_test_200\"]\nseconds = \"c10_train_s_200\"\n",
            toml_text(&self.table.to_string_lossy())
        );
        let mut fidelity = String::new();
        if stop {
            table
                .push_str("[[table.rungs]]\nepochs = 12\nvalidation_accuracy = \"c10_valid_12\"\n");
            fidelity = format!("[fidelity]\nrule = \"asha\"\nreduction = {}\n", self.reduction);
        }
        Template { table, fidelity, device: None, budget: Budget::Trials(self.trials) }
    }
}

/// Runs everything and prints the result.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let algorithms = Algorithm::parse_list(&args.algorithms)?;
    let (all, halved) = (args.template(false), args.template(true));
    // Check every study file before the first run starts.
    for algorithm in &algorithms {
        all.spec(algorithm, args.seed)?;
        halved.spec(algorithm, args.seed)?;
    }
    // The study with rungs names all columns.
    let table = load(&halved.spec(&algorithms[0], args.seed)?)?;
    let runs = Runs { count: args.runs, seed: args.seed, jobs: args.jobs };
    let mut rows = Vec::new();
    for algorithm in &algorithms {
        let all = runs.all(&all, algorithm, &table)?;
        let halved = runs.all(&halved, algorithm, &table)?;
        rows.push(row(algorithm, &all, &halved));
    }
    let columns = [
        ("algorithm", Align::Left),
        ("runs", Align::Right),
        ("validation, all", Align::Right),
        ("validation, halved", Align::Right),
        ("test, all", Align::Right),
        ("test, halved", Align::Right),
        ("test, cut", Align::Right),
        ("epochs", Align::Right),
        ("same test", Align::Right),
    ];
    let mut text = table::render(&columns, &rows);
    text.push_str(
        "percent, mean±standard deviation, of the complete trial with the best validation accuracy;\n\
         all: every trial is trained for 200 epochs;\n\
         halved: every trial is trained for 12 epochs; those that go on start again for 200;\n\
         cut: the first trials of all, as many as fit into the epochs of halved;\n\
         epochs: epochs of halved as a share of those of all;\n\
         same test: runs in which all and halved reach the same test accuracy\n",
    );
    print_text(&text)
}

/// The table row of one algorithm, from its runs both ways in the order of seeds.
fn row(algorithm: &Algorithm, all: &[Run], halved: &[Run]) -> Vec<String> {
    let chosen = |look_ups: &[LookUp]| {
        let figures = |look_up: &LookUp| {
            let test = look_up.figures.test_accuracy().unwrap_or(0.0);
            (single::accuracy(&look_up.figures), test)
        };
        single::chosen(look_ups).map(figures)
    };
    let each = |runs: &[Run]| -> Vec<_> { runs.iter().map(|run| chosen(&run.look_ups)).collect() };
    let (by_all, by_halved) = (each(all), each(halved));
    // The trials that the same number of epochs pays for without rungs.
    let cut: Vec<_> = all
        .iter()
        .zip(halved)
        .map(|(all, halved)| {
            let trials = halved.epochs * all.look_ups.len() as u64 / all.epochs.max(1);
            chosen(&all.look_ups[..all.look_ups.len().min(trials as usize)])
        })
        .collect();
    let pairs = by_all.iter().zip(&by_halved);
    let same = pairs.filter(|(a, b)| a.map(|(_, test)| test) == b.map(|(_, test)| test)).count();
    let epochs = |runs: &[Run]| runs.iter().map(|run| run.epochs).sum::<u64>() as f64;
    let validation =
        |of: &[Option<(f64, f64)>]| percent(of.iter().flatten().map(|(validation, _)| *validation));
    let test = |of: &[Option<(f64, f64)>]| percent(of.iter().flatten().map(|(_, test)| *test));
    vec![
        algorithm.to_string(),
        all.len().to_string(),
        validation(&by_all),
        validation(&by_halved),
        test(&by_all),
        test(&by_halved),
        test(&cut),
        format!("{:.1} %", 100.0 * epochs(halved) / epochs(all)),
        format!("{same} of {}", all.len()),
    ]
}
