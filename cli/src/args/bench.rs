//! The command line of `edgesmith bench`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use edgesmith_common::spec::AlgorithmSpec;

use super::{Backend, Connection, ListFormat, Slots};

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Run search algorithms on a table of trained networks, many times each
    ///
    /// The defaults are the protocol of the NAS-Bench-201 paper on CIFAR-10. With --device the search
    /// has two objectives, and the missing hypervolume is reported.
    Search(Box<BenchSearchArgs>),
    /// Run studies on a table of trained networks with and without successive halving, many times each
    ///
    /// With it, trials are compared by their accuracy after 12 epochs, and about one in --reduction goes
    /// on to 200, from the beginning, since the table's trainings of 12 epochs are trainings of their
    /// own. Accuracies and epochs are those of NAS-Bench-201 on CIFAR-10.
    Fidelity(BenchFidelityArgs),
    /// Time what the coordinator itself does: proposals by algorithm and size of the study, and the front
    ///
    /// Trials are made up and take no time.
    Cost(BenchCostArgs),
    /// Time training: images per second of seven networks, on random images
    Train(BenchTrainArgs),
    /// Run a study from nothing and tell how its front's hypervolume grew over time
    ///
    /// The study runs as under `search`, in a directory of its own that is removed at the end. The
    /// hypervolume is the product over the objectives of how far the front goes beyond the reference:
    /// accuracy in shares of 1, everything else in powers of ten. tests/compare_front.py sets it beside
    /// Optuna's.
    Front(BenchFrontArgs),
    /// Tell how well zero-cost proxies foretell what a study's trials came to
    ///
    /// Run a study with `algorithm.name = "random"` first. Macs and parameters are the control.
    Proxies(BenchProxiesArgs),
}

#[derive(Debug, ClapArgs)]
pub struct BenchProxiesArgs {
    /// Name of a study with finished trials
    pub study: String,
    #[command(flatten)]
    pub connection: Connection,
    /// Directory that relative data paths of the study start from [default: this one]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
}

#[derive(Debug, ClapArgs)]
pub struct BenchFrontArgs {
    /// Study file
    pub study: PathBuf,
    /// The worst that counts of each objective, as METRIC=VALUE or METRIC@DEVICE=VALUE
    #[arg(long, value_name = "METRIC=VALUE", value_delimiter = ',', required = true)]
    pub reference: Vec<String>,
    /// End when the hypervolume has reached this
    #[arg(long, value_name = "HYPERVOLUME")]
    pub until: Option<f64>,
    /// End after so many minutes
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Trials trained at once, or `auto`, as for `search`
    #[arg(long, value_name = "N|auto")]
    pub slots: Option<Slots>,
    /// What trains
    #[arg(long, default_value = "flex", value_enum)]
    pub backend: Backend,
    /// Directory that relative data paths of the study start from [default: this one]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// How to print; json has every trial
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
}

#[derive(Debug, ClapArgs)]
pub struct BenchTrainArgs {
    /// Networks, separated by commas: plain-8, inverted-8, plain-28, inverted-28, separable-28, plain-32,
    /// inverted-32 [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub networks: Vec<String>,
    /// Threads that compute one training, each number in turn; one more makes its batches
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1")]
    pub threads: Vec<NonZeroUsize>,
    /// Images of a step, each number in turn: a GPU needs many before it is busy
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "64",
          value_parser = clap::value_parser!(u32).range(2..=4096))]
    pub batch_size: Vec<u32>,
    /// Seconds that are timed of each
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub seconds: f64,
    /// What trains: flex, or wgpu where the program is built with it
    #[arg(long, default_value = "flex")]
    pub backend: String,
    /// How to print; json has the layers of each network
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
}

#[derive(Debug, ClapArgs)]
pub struct BenchCostArgs {
    /// Algorithms, with settings as NAME:KEY=VALUE
    #[arg(long, value_name = "NAME", value_delimiter = ',',
          default_values = AlgorithmSpec::NAMES)]
    pub algorithms: Vec<String>,
    /// Finished trials before the timed proposals
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "100,10000,100000")]
    pub trials: Vec<u32>,
    /// Trials of the study whose front is timed; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub front_trials: u32,
}

#[derive(Debug, ClapArgs)]
pub struct BenchSearchArgs {
    /// NAS-Bench-201 as CSV, see docs/data.md
    #[arg(long, value_name = "FILE")]
    pub table: PathBuf,
    /// Latencies of the table's rows, for --device
    #[arg(long, value_name = "FILE")]
    pub latencies: Option<PathBuf>,
    /// Search accuracy against latency on these device classes, or on `all` [default: accuracy alone]
    #[arg(long = "device", value_name = "CLASS", value_delimiter = ',')]
    pub devices: Vec<String>,
    /// Algorithms, with settings as NAME:KEY=VALUE
    #[arg(long, value_name = "NAME", value_delimiter = ',',
          default_values = AlgorithmSpec::NAMES)]
    pub algorithms: Vec<String>,
    /// Runs of each algorithm, with seeds that count up
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub runs: u32,
    /// Simulated seconds (12000s) or look-ups (trials=200) of each run
    #[arg(long, default_value = "12000s")]
    pub budget: String,
    /// Seed of the first run
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Runs at once [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub jobs: Option<u32>,
    /// Column that the search sees, percent
    #[arg(long, value_name = "COLUMN", default_value = "c10_valid_12")]
    pub validation: String,
    /// Columns that are reported, percent
    #[arg(
        long,
        value_name = "COLUMN",
        value_delimiter = ',',
        default_value = "c10_test_200,c100_test_200,in16_test_200"
    )]
    pub test: Vec<String>,
    /// Column of training seconds
    #[arg(long, value_name = "COLUMN", default_value = "c10_train_s_200")]
    pub seconds: String,
    /// Share of those seconds that a look-up costs
    #[arg(long, value_name = "SHARE", default_value_t = 0.06)]
    pub seconds_share: f64,
    /// Whether cells that are the same network are one candidate, or each row of the table is
    #[arg(long, value_name = "network|row", default_value = "network")]
    pub identity: String,
    /// Write the curve over look-ups here: simple regret, or missing hypervolume
    #[arg(long, value_name = "FILE.csv")]
    pub curve: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct BenchFidelityArgs {
    /// NAS-Bench-201 as CSV, see docs/data.md
    #[arg(long, value_name = "FILE")]
    pub table: PathBuf,
    /// Algorithms, with settings as NAME:KEY=VALUE
    #[arg(long, value_name = "NAME", value_delimiter = ',',
          default_values = AlgorithmSpec::NAMES)]
    pub algorithms: Vec<String>,
    /// Trials of each study
    #[arg(long, value_name = "N", default_value_t = 200,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub trials: u32,
    /// Of so many trials about one goes on
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub reduction: u32,
    /// Runs of each algorithm both ways, with seeds that count up
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub runs: u32,
    /// Seed of the first run
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Runs at once [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub jobs: Option<u32>,
}
