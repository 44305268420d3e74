//! One file a command, or a few that belong together.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::{Args, BenchCommand, Command};
use crate::bench;

mod control;
mod cover;
mod export;
mod front;
mod import;
mod search;
mod serve;
pub mod slots;
pub mod studies;
pub mod submit;
mod trials;
mod validate;
pub mod work;

/// Runs the command; an error has not been printed yet.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Search(args) => return search::run(args).await,
        Command::Coordinator(args) => serve::run(args).await?,
        Command::Worker(args) => work::run(args).await?,
        Command::Submit(args) => return submit::run(args).await,
        Command::Studies(args) => studies::list(args).await?,
        Command::Status(args) => studies::status(args).await?,
        Command::Watch(args) => return studies::watch(args).await,
        Command::Workers(args) => studies::workers(args).await?,
        Command::Pareto(args) => front::run(args).await?,
        Command::Trials(args) => trials::list(args).await?,
        Command::Trial(args) => return trials::one(args).await,
        Command::Export(args) => export::run(args).await?,
        Command::Import(args) => import::run(args).await?,
        Command::Pause(args) => control::pause(args).await?,
        Command::Resume(args) => control::resume(args).await?,
        Command::Cancel(args) => control::cancel(args).await?,
        Command::Delete(args) => control::delete(args).await?,
        Command::Bench(BenchCommand::Search(args)) => {
            tokio::task::spawn_blocking(move || bench::search(&args)).await??;
        }
        Command::Bench(BenchCommand::Fidelity(args)) => {
            tokio::task::spawn_blocking(move || bench::fidelity(&args)).await??;
        }
        Command::Bench(BenchCommand::Cost(args)) => {
            tokio::task::spawn_blocking(move || bench::cost(&args)).await??;
        }
        Command::Bench(BenchCommand::Front(args)) => return bench::front(args).await,
        Command::Bench(BenchCommand::Proxies(args)) => bench::proxies(args).await?,
        Command::Bench(BenchCommand::Train(args)) => {
            tokio::task::spawn_blocking(move || bench::train(&args)).await??;
        }
        Command::Validate(args) => validate::run(&args)?,
        Command::Completions { shell } => {
            let mut command = Args::command();
            // Into memory first: the generator panics where the pipe that it writes to is closed.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "edgesmith", &mut script);
            crate::output::print(&String::from_utf8_lossy(&script))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
