//! The command line.

mod bench;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub use bench::*;

/// Finds neural networks that nobody can beat on accuracy and on what they cost on your devices.
#[derive(Debug, Parser)]
#[command(name = "edgesmith", version, max_term_width = 100)]
pub struct Args {
    /// Log more; twice for debugging. RUST_LOG overrides it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a study on this machine, coordinator and workers in one process, to the Pareto front
    ///
    /// Running the same command again goes on with the study where it stopped.
    Search(SearchArgs),
    /// Serve studies to workers and to the other commands
    Coordinator(CoordinatorArgs),
    /// Join a coordinator and do its tasks
    Worker(WorkerArgs),
    /// Hand a study to the coordinator; prints its name
    Submit(SubmitArgs),
    /// List the coordinator's studies
    Studies(ListArgs),
    /// Say where a study stands
    Status(StatusArgs),
    /// Follow a study until it ends
    Watch(StudyArgs),
    /// List connected workers
    Workers(ListArgs),
    /// Show the trials that no other trial beats
    Pareto(ParetoArgs),
    /// List all trials of a study
    Trials(TrialsArgs),
    /// Show one trial with all that is known of it, or run it again
    Trial(TrialArgs),
    /// Write a trial's network to a file
    Export(ExportArgs),
    /// Bring finished trials of an earlier study into a study as known results
    ///
    /// They use no budget, algorithms learn from them, and none of their candidates is proposed again.
    Import(ImportArgs),
    /// Stop handing out a study's tasks; running ones go on
    Pause(StudyArgs),
    /// Go on with a paused study
    Resume(StudyArgs),
    /// End a study for good
    Cancel(StudyArgs),
    /// Remove a study with all its trials; asks nothing
    ///
    /// Running attempts are stopped, and the name is free again. Model files and weights stay in the
    /// data directory's artifacts.
    Delete(StudyArgs),
    /// Measure edgesmith itself on problems whose answers are known
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Check a study file and say what would run; shows every error at once
    Validate(ValidateArgs),
    /// Print a shell completion script
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// Which coordinator answers.
#[derive(Debug, Clone, ClapArgs)]
pub struct Connection {
    /// The coordinator's address [default: http://127.0.0.1:7447, else --data-dir]
    #[arg(long, env = "EDGESMITH_COORDINATOR", value_name = "URL", global = false)]
    pub coordinator: Option<String>,
    /// Without a coordinator running, answer from this directory [default: edgesmith-data]
    #[arg(long, value_name = "DIR", conflicts_with = "coordinator")]
    pub data_dir: Option<PathBuf>,
    /// Bearer token that the coordinator asks for
    #[arg(long, env = "EDGESMITH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// PEM file with the certificate authority of an https coordinator
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct SearchArgs {
    /// Study file
    pub study: PathBuf,
    /// Where results are kept
    #[arg(long, value_name = "DIR", default_value = "edgesmith-data")]
    pub data_dir: PathBuf,
    /// Forget earlier trials of this study and start anew
    #[arg(long)]
    pub fresh: bool,
    /// Trials trained at once, which share the cores, or `auto`: as many as there are cores or one on
    /// all of them, whichever is measured to be faster [default: number of cores]
    #[arg(long, value_name = "N|auto")]
    pub slots: Option<Slots>,
    /// What trains
    #[arg(long, default_value = "flex", value_enum)]
    pub backend: Backend,
    /// Directory that relative data paths of the study start from [default: this one]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct CoordinatorArgs {
    /// Address to serve on
    #[arg(long, default_value = "127.0.0.1:7447", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Where studies and artifacts are kept
    #[arg(long, value_name = "DIR", default_value = "edgesmith-data")]
    pub data_dir: PathBuf,
    /// Ask every client for this bearer token
    #[arg(long, env = "EDGESMITH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// PEM file with the server's certificate chain
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the server's private key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Seconds without a heartbeat after which a worker's tasks go to another
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub lease_seconds: u64,
}

#[derive(Debug, ClapArgs)]
pub struct WorkerArgs {
    /// The coordinator's address
    #[arg(
        long,
        env = "EDGESMITH_COORDINATOR",
        value_name = "URL",
        default_value = "http://127.0.0.1:7447"
    )]
    pub coordinator: String,
    /// Bearer token that the coordinator asks for
    #[arg(long, env = "EDGESMITH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// PEM file with the certificate authority of an https coordinator
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Device class that this machine is, as objectives name it
    #[arg(long, default_value = "local", value_name = "CLASS")]
    pub device: String,
    /// What this worker does
    #[arg(long, value_enum, value_delimiter = ',', default_value = "train,measure")]
    pub roles: Vec<Role>,
    /// What trains
    #[arg(long, default_value = "flex", value_enum)]
    pub backend: Backend,
    /// Tasks at once, which share the cores, or `auto`: as many as there are cores or one on all of
    /// them, whichever is measured to be faster [default: number of cores, or 1 where it only measures]
    #[arg(long, value_name = "N|auto")]
    pub slots: Option<Slots>,
    /// Name shown in `workers` [default: the machine's]
    #[arg(long)]
    pub name: Option<String>,
    /// Directory that relative data paths of studies start from [default: this one]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
}

/// Tasks that a worker takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    /// Measured when the worker starts.
    Auto,
    /// So many.
    Count(u32),
}

impl FromStr for Slots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(count @ 1..=1024) => Ok(Slots::Count(count)),
            _ if text == "auto" => Ok(Slots::Auto),
            _ => Err("use a number from 1 to 1024, or auto".to_owned()),
        }
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slots::Auto => f.write_str("auto"),
            Slots::Count(count) => count.fmt(f),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Train teachers and candidates.
    Train,
    /// Time compressed models.
    Measure,
    /// Look candidates up in tables.
    Table,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// burn's CPU device.
    Flex,
    /// A GPU through wgpu; needs a build with `--features wgpu`.
    Wgpu,
}

impl Backend {
    pub fn name(self) -> &'static str {
        match self {
            Backend::Flex => "flex",
            Backend::Wgpu => "wgpu",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// The stable interface; see docs/json.md.
    Json,
    /// One row a trial.
    Csv,
}

#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    Table,
    /// The stable interface; see docs/json.md.
    Json,
}

#[derive(Debug, ClapArgs)]
pub struct SubmitArgs {
    /// Study file
    pub study: PathBuf,
    /// Follow it until it ends, then show the front
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, ClapArgs)]
pub struct StudyArgs {
    /// Study name
    pub study: String,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, ClapArgs)]
pub struct StatusArgs {
    /// Study name
    pub study: String,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, ClapArgs)]
pub struct ParetoArgs {
    /// Study name
    pub study: String,
    /// Only objectives on this device class, and those on none
    #[arg(long, value_name = "CLASS")]
    pub device: Option<String>,
    /// Only trials within this bound, such as 'latency_ms<=5'; may be repeated
    #[arg(long = "where", value_name = "BOUND")]
    pub filters: Vec<String>,
    /// At most K models that give every device named in --where one within its limits: the most accurate
    /// on average, and no more models than that takes
    #[arg(long, value_name = "K", conflicts_with = "device",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cover: Option<u32>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, ClapArgs)]
pub struct ImportArgs {
    /// Study name
    pub study: String,
    /// What 'trials S --format json' or '--format csv' printed
    pub file: PathBuf,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, ClapArgs)]
pub struct TrialsArgs {
    /// Study name
    pub study: String,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, ClapArgs)]
pub struct TrialArgs {
    /// Study name
    pub study: String,
    /// Trial number
    pub number: u32,
    /// Train and compress it again here and compare the accuracies bit for bit
    #[arg(long)]
    pub rerun: bool,
    /// Directory that relative data paths of the study start from [default: this one]
    #[arg(long, value_name = "DIR", requires = "rerun")]
    pub data_root: Option<PathBuf>,
    /// What trains the rerun; the original's backend gives the original's bits
    #[arg(long, default_value = "flex", value_enum, requires = "rerun")]
    pub backend: Backend,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, ClapArgs)]
pub struct ExportArgs {
    /// Study name
    pub study: String,
    /// Trial number
    pub number: u32,
    /// What to write
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// Where to
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// ONNX in fp32, batch normalisation folded.
    Onnx,
    /// ONNX with QuantizeLinear and DequantizeLinear; for int8 trials.
    OnnxInt8,
    /// Float weights after pruning, batch normalisation not folded.
    Safetensors,
    /// The edge-runtime file that was measured.
    Edge,
}

#[derive(Debug, ClapArgs)]
pub struct ValidateArgs {
    /// Study file
    pub study: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
