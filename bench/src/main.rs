//! `edgesmith-bench` measures edgesmith itself on problems whose answers are known.
//!
//! `cost` times the coordinator's own work, `train` the training of networks; `search` runs search
//! algorithms on a table of trained networks, and `fidelity` does so with and without successive
//! halving. Each run of these two is a study of its own in a coordinator's core, with the same
//! proposals, records and rules as one behind gRPC and sled, in simulated time; only sockets and
//! disk are left out. `front` runs one real study and leaves nothing out; `proxies` judges
//! untrained networks by such a study's trials.
//!
//! Nothing that `edgesmith` does needs this program.

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
mod runs;
mod search;
mod single;
mod study;
mod train;

/// Measures edgesmith itself on problems whose answers are known.
#[derive(Debug, Parser)]
#[command(name = "edgesmith-bench", version, max_term_width = 100)]
struct Args {
    /// Log more; twice for debugging. RUST_LOG overrides it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run search algorithms on a table of trained networks, many times each
    ///
    /// The defaults are the protocol of the NAS-Bench-201 paper on CIFAR-10. With --device the
    /// search has two objectives, and the missing hypervolume is reported.
    Search(Box<search::Args>),
    /// Run studies on a table of trained networks with and without successive halving, many times
    /// each
    ///
    /// With it, trials are compared by their accuracy after 12 epochs, and about one in --reduction
    /// goes on to 200, from the beginning, since the table's trainings of 12 epochs are trainings
    /// of their own. Accuracies and epochs are those of NAS-Bench-201 on CIFAR-10.
    Fidelity(fidelity::Args),
    /// Time what the coordinator itself does: proposals by algorithm and size of the study, and the
    /// front
    ///
    /// Trials are made up and take no time.
    Cost(cost::Args),
    /// Time training: images per second of seven networks, on random images
    Train(train::Args),
    /// Run a study from nothing and tell how its front's hypervolume grew over time
    ///
    /// The study runs as under `edgesmith search`, in a directory of its own that is removed at the
    /// end. The hypervolume is the product over the objectives of how far the front goes beyond the
    /// reference: accuracy in shares of 1, everything else in powers of ten. tests/compare_front.py
    /// sets it beside Optuna's.
    Front(front::Args),
    /// Tell how well zero-cost proxies foretell what a study's trials came to
    ///
    /// Run a study with `algorithm.name = "random"` first. Macs and parameters are the control.
    Proxies(proxies::Args),
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
        Command::Train(args) => spawn_blocking(move || train::run(&args)).await??,
        Command::Front(args) => return front::run(args).await,
        Command::Proxies(args) => proxies::run(args).await?,
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
}
