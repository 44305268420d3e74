//! The program `edgesmith-bench`: measures edgesmith itself on problems whose answers are known.
//!
//! `cost` times the coordinator's own work, and `train` times the training of networks. `search`
//! runs search algorithms on a table of trained networks, and `fidelity` does so with and without
//! successive halving. Each run of these two is a study in a coordinator's core, in simulated time:
//! it has the same proposals, records and rules as a study behind gRPC and sled, only without
//! sockets and disk. `throughput` counts durable trials a second with both, and times heartbeats.
//! `front` runs one real, complete study. `proxies` compares the scores of untrained networks with
//! the trials of such a study. `restart` opens directories with many trials.
//!
//! The program `edgesmith` does not need this one.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use edgesmith_console::start;
use tokio::task::spawn_blocking;

mod algorithm;
mod correlation;
mod cost;
mod curve;
mod fidelity;
mod front;
mod fronts;
mod proxies;
mod restart;
mod runs;
mod search;
mod single;
mod study;
mod throughput;
mod train;

/// Measures edgesmith itself on problems whose answers are known.
#[derive(Debug, Parser)]
#[command(name = "edgesmith-bench", version, max_term_width = 100)]
struct Args {
    /// Log more; give it twice for debugging. RUST_LOG overrides it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run search algorithms on a table of trained networks, many times each
    ///
    /// The defaults follow the protocol of the NAS-Bench-201 paper on CIFAR-10. With --device the
    /// search has two objectives, and the missing hypervolume is reported.
    Search(Box<search::Args>),
    /// Run studies on a table of trained networks with and without successive halving, many times
    /// each
    ///
    /// With successive halving, trials are compared by their accuracy after 12 epochs, and about
    /// one in --reduction goes on to 200 epochs. It starts again from the beginning, because the
    /// 12-epoch trainings in the table are separate ones. Accuracies and epochs are those of
    /// NAS-Bench-201 on CIFAR-10.
    Fidelity(fidelity::Args),
    /// Time the coordinator's own work: proposals by algorithm and size of the study, and the front
    ///
    /// The trials are made up and take no time.
    Cost(cost::Args),
    /// Count durable trials a second through gRPC, and time heartbeats while a model proposes
    ///
    /// The figures of the trials are made up and take no time.
    /// tests/compare_throughput.py counts those of Optuna and Rustuna.
    Throughput(throughput::Args),
    /// Time training: images per second of seven networks, on random images
    Train(train::Args),
    /// Run a study from scratch and show how the hypervolume of its front grew over time
    ///
    /// The study runs as under `edgesmith search`, in a temporary directory. The hypervolume is
    /// measured from the reference point: accuracy in shares of 1, everything else in powers of
    /// ten. tests/compare_front.py compares it with Optuna's.
    Front(front::Args),
    /// Measure how well zero-cost proxies predict the accuracy of a study's trials
    ///
    /// Run a study with `algorithm.name = "random"` first. MACs and parameters are the control.
    Proxies(proxies::Args),
    /// Measure how a coordinator starts again with many finished trials: time, memory and disk
    ///
    /// The trials are made up: once looked up in a table, and once trained and measured on two
    /// boards. A directory of 1,000,000 trained trials takes a few minutes to write.
    Restart(restart::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    start::run(args.verbose, run(args.command))
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Search(args) => spawn_blocking(move || search::run(&args)).await??,
        Command::Fidelity(args) => spawn_blocking(move || fidelity::run(&args)).await??,
        Command::Cost(args) => spawn_blocking(move || cost::run(&args)).await??,
        Command::Throughput(args) => throughput::run(&args).await?,
        Command::Train(args) => spawn_blocking(move || train::run(&args)).await??,
        Command::Front(args) => return front::run(args).await,
        Command::Proxies(args) => proxies::run(args).await?,
        Command::Restart(args) => spawn_blocking(move || restart::run(&args)).await??,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_wrong_number_is_told_what_to_write() {
        for (line, wanted) in [
            ("train --threads 0", "write a whole number from 1 to 1024"),
            ("train --seconds -1", "write a number above 0"),
            ("front s.toml --reference macs=9 --until abc", "write a number above 0"),
            ("front s.toml --reference macs=9 --minutes 0", "write a number above 0"),
            ("search --table t.csv --seed -1", "write a whole number, 0 or more"),
            ("fidelity --table t.csv --reduction 1", "write a whole number from 2 to 1000"),
            ("cost --trials abc", "write a whole number, 0 or more"),
            ("restart --trials 0", "write a whole number from 1 to 10000000"),
            ("throughput --slots 0", "write a whole number from 1 to 1000"),
        ] {
            let words = ["edgesmith-bench"].into_iter().chain(line.split(' '));
            let said = Args::try_parse_from(words).unwrap_err().to_string();
            assert!(said.contains("invalid value") && said.contains(wanted), "{line}: {said}");
        }
    }
}
