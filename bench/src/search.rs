//! Measures what search algorithms find on a table of trained networks, over many runs of each.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use edgesmith_common::spec::AlgorithmSpec;
use edgesmith_console::{invalid, number, print_text};

use crate::algorithm::Algorithm;
use crate::runs::{Runs, load};
use crate::study::{Budget, LookUp, Template, toml_text};
use crate::{fronts, single};

/// Arguments: what is searched, by which algorithms, and how often.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// NAS-Bench-201 as CSV, see docs/data.md
    #[arg(long, value_name = "FILE")]
    pub table: PathBuf,
    /// File with the latencies of the table's rows, for --device
    #[arg(long, value_name = "FILE")]
    pub latencies: Option<PathBuf>,
    /// Search for accuracy and latency on these device classes, or on `all` [default: accuracy
    /// alone]
    #[arg(long = "device", value_name = "CLASS", value_delimiter = ',')]
    pub devices: Vec<String>,
    /// Algorithms, with settings as NAME:KEY=VALUE
    #[arg(long, value_name = "NAME", value_delimiter = ',',
          default_values = AlgorithmSpec::NAMES)]
    pub algorithms: Vec<String>,
    /// Number of runs of each algorithm, with consecutive seeds
    #[arg(long, default_value_t = 500,
          allow_negative_numbers = true, value_parser = number::whole(1..=1_000_000_u32))]
    pub runs: u32,
    /// Budget of each run: simulated seconds (12000s) or look-ups (trials=200)
    #[arg(long, default_value = "12000s")]
    pub budget: String,
    /// Seed of the first run
    #[arg(long, default_value_t = 0,
          allow_negative_numbers = true, value_parser = number::whole(0..=u64::MAX))]
    pub seed: u64,
    /// Number of runs at once [default: number of cores]
    #[arg(long, value_name = "N",
          allow_negative_numbers = true, value_parser = number::whole(1..=1024_u32))]
    pub jobs: Option<u32>,
    /// Column with the accuracy that the search sees, in percent
    #[arg(long, value_name = "COLUMN", default_value = "c10_valid_12")]
    pub validation: String,
    /// Columns with the accuracies that are reported, in percent
    #[arg(
        long,
        value_name = "COLUMN",
        value_delimiter = ',',
        default_value = "c10_test_200,c100_test_200,in16_test_200"
    )]
    pub test: Vec<String>,
    /// Column with the training seconds
    #[arg(long, value_name = "COLUMN", default_value = "c10_train_s_200")]
    pub seconds: String,
    /// Share of those seconds that a look-up costs
    #[arg(long, value_name = "SHARE", default_value_t = 0.06,
          allow_negative_numbers = true, value_parser = number::above_zero)]
    pub seconds_share: f64,
    /// What counts as one candidate: all cells that are the same network, or each row of the table
    #[arg(long, value_name = "network|row", default_value = "network")]
    pub identity: String,
    /// Write the curve over look-ups to this file: simple regret, or missing hypervolume
    #[arg(long, value_name = "FILE.csv")]
    pub curve: Option<PathBuf>,
}

impl Args {
    /// What all runs share; the device is set later.
    ///
    /// # Errors
    /// When the budget is invalid, or `--device` is given without `--latencies`.
    fn template(&self) -> anyhow::Result<Template> {
        let wrong = || {
            let given = &self.budget;
            invalid(format!(
                "--budget {given:?} is invalid; write seconds as 12000s, or look-ups as trials=200"
            ))
        };
        let budget = match (self.budget.strip_suffix('s'), self.budget.strip_prefix("trials=")) {
            (_, Some(trials)) => Budget::Trials(trials.parse().map_err(|_| wrong())?),
            (Some(seconds), None) => Budget::Seconds(seconds.parse().map_err(|_| wrong())?),
            (None, None) => return Err(wrong()),
        };
        let text = |path: &Path| toml_text(&path.to_string_lossy());
        let mut table = format!("path = {}\n", text(&self.table));
        if let Some(latencies) = &self.latencies {
            table.push_str(&format!("latencies = {}\n", text(latencies)));
        } else if !self.devices.is_empty() {
            return Err(invalid("--device needs the file of latencies; give --latencies"));
        }
        let tests: Vec<String> = self.test.iter().map(|name| toml_text(name)).collect();
        table.push_str(&format!(
            "validation_accuracy = {}\ntest_accuracies = [{}]\nseconds = {}\nseconds_share = {:?}\n\
             identity = {}\n",
            toml_text(&self.validation),
            tests.join(", "),
            toml_text(&self.seconds),
            self.seconds_share,
            toml_text(&self.identity)
        ));
        Ok(Template { table, fidelity: String::new(), device: None, budget })
    }
}

/// Runs everything and prints the result.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let algorithms = Algorithm::parse_list(&args.algorithms)?;
    let mut template = args.template()?;
    let spec = template.spec(&algorithms[0], 0)?;
    let table = load(&spec)?;
    let all = args.devices.iter().any(|device| device == "all");
    let devices = if all { table.devices() } else { args.devices.clone() };
    let problems: Vec<Option<String>> =
        if devices.is_empty() { vec![None] } else { devices.into_iter().map(Some).collect() };
    // Check every study file before the first run starts.
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
        text = single::table(&results, &spec, template.seconds());
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
    print_text(&text)
}
