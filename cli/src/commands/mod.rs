//! The command line, and one file a command or a few that belong together, each with its arguments.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use edgesmith_console::print_text;

mod control;
mod cover;
mod export;
mod front;
mod import;
mod metrics;
mod search;
mod serve;
mod status;
mod studies;
mod submit;
mod trials;
mod validate;
mod watch;
mod work;
mod workers;

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
    Search(search::Args),
    /// Serve studies to workers and to the other commands
    Coordinator(serve::Args),
    /// Join a coordinator and do its tasks
    Worker(work::Args),
    /// Hand a study to the coordinator; prints its name
    Submit(submit::Args),
    /// List the coordinator's studies
    Studies(studies::Args),
    /// Say where a study stands
    Status(status::Args),
    /// Follow a study until it ends
    Watch(watch::Args),
    /// List connected workers
    Workers(workers::Args),
    /// Show the trials that no other trial beats
    Pareto(front::Args),
    /// List all trials of a study
    Trials(trials::TrialsArgs),
    /// Show one trial with all that is known of it, or run it again
    Trial(trials::TrialArgs),
    /// Write a trial's network to a file
    Export(export::Args),
    /// Bring finished trials of an earlier study into a study as known results
    ///
    /// They use no budget, algorithms learn from them, and none of their candidates is proposed again.
    Import(import::Args),
    /// Stop handing out a study's tasks; running ones go on
    Pause(control::Args),
    /// Go on with a paused study
    Resume(control::Args),
    /// End a study for good
    Cancel(control::Args),
    /// Remove a study with all its trials; asks nothing
    ///
    /// Running attempts are stopped, and the name is free again. Model files and weights stay in the
    /// data directory's artifacts.
    Delete(control::Args),
    /// List what can be measured, with unit, direction and meaning
    Metrics(metrics::Args),
    /// Check a study file and say what would run; shows every error at once
    Validate(validate::Args),
    /// Print a shell completion script
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the command; an error has not been printed yet.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Search(args) => return search::run(args).await,
        Command::Coordinator(args) => serve::run(args).await?,
        Command::Worker(args) => work::run(args).await?,
        Command::Submit(args) => return submit::run(args).await,
        Command::Studies(args) => studies::run(args).await?,
        Command::Status(args) => status::run(args).await?,
        Command::Watch(args) => return watch::run(args).await,
        Command::Workers(args) => workers::run(args).await?,
        Command::Pareto(args) => front::run(args).await?,
        Command::Trials(args) => trials::list(args).await?,
        Command::Trial(args) => return trials::one(args).await,
        Command::Export(args) => export::run(args).await?,
        Command::Import(args) => import::run(args).await?,
        Command::Pause(args) => control::pause(args).await?,
        Command::Resume(args) => control::resume(args).await?,
        Command::Cancel(args) => control::cancel(args).await?,
        Command::Delete(args) => control::delete(args).await?,
        Command::Metrics(args) => metrics::run(&args)?,
        Command::Validate(args) => validate::run(&args)?,
        Command::Completions { shell } => {
            let mut command = Args::command();
            // Into memory first: the generator panics where the pipe that it writes to is closed.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "edgesmith", &mut script);
            print_text(&String::from_utf8_lossy(&script))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
