//! The command line. Each file holds one command, or a few that belong together, with its
//! arguments.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use edgesmith_console::print_text;

mod check;
mod compress;
mod control;
mod cover;
mod evaluate;
mod export;
mod extend;
mod front;
mod gc;
mod import;
mod inspect;
mod measure;
mod metrics;
mod recommend;
mod rename;
mod retry;
mod run;
mod search;
mod sensitivity;
mod serve;
mod status;
mod studies;
mod submit;
mod token;
pub mod trials;
mod validate;
mod watch;
mod work;
mod workers;

/// Finds the neural networks with the best trade-offs between accuracy and cost on your devices.
#[derive(Debug, Parser)]
#[command(name = "edgesmith", version, max_term_width = 100)]
pub struct Args {
    /// Log more; give it twice for debugging. RUST_LOG overrides it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a study on this machine and show its Pareto front
    ///
    /// The coordinator and the workers run in this process. The same command continues a study that
    /// was stopped.
    Search(search::Args),
    /// Serve studies to workers and to the other commands
    Coordinator(serve::Args),
    /// Connect to a coordinator and run its tasks
    Worker(work::Args),
    /// Make, list and revoke the tokens of a coordinator
    Token(token::Args),
    /// Submit a study to the coordinator; prints its name
    Submit(submit::Args),
    /// List the coordinator's studies
    Studies(studies::Args),
    /// Show the state of a study
    Status(status::Args),
    /// Follow a study until it ends
    Watch(watch::Args),
    /// List connected workers
    Workers(workers::Args),
    /// Show the Pareto front: the trials that no other trial beats
    Pareto(front::Args),
    /// Say which trial serves a need best, and why
    ///
    /// Ends with exit code 3 if none does.
    Recommend(recommend::Args),
    /// List all trials of a study
    Trials(trials::TrialsArgs),
    /// Show everything about one trial, or run it again
    Trial(trials::TrialArgs),
    /// Compress a network by a recipe, or search the recipe that keeps given limits
    ///
    /// This is a study on the network, in this process: the same command continues one that was
    /// stopped, and the other commands show its trials. Ends with exit code 3 if no recipe keeps
    /// all limits of --auto; the nearest result is shown, and written to the file of --output.
    Compress(compress::Args),
    /// Show what a network is made of and what it costs
    Inspect(inspect::Args),
    /// Run a network on an image or on arrays of numbers
    Run(run::Args),
    /// Show the figures of a network on the data of a study
    Evaluate(evaluate::Args),
    /// Show what quantizing or pruning each layer alone would cost a network
    Sensitivity(sensitivity::Args),
    /// Time a network on this machine, as a study does
    Measure(measure::Args),
    /// Write a network to a file: one of a study, or that of another file
    Export(export::Args),
    /// Add finished trials of an earlier study to a study as known results
    ///
    /// They use no budget. Algorithms learn from them and do not propose their candidates again.
    Import(import::Args),
    /// Stop handing out a study's tasks; running tasks continue
    Pause(control::Args),
    /// Resume a paused study
    Resume(control::Args),
    /// Try again what failed in a study, after you have mended the cause
    ///
    /// That is: failed trials, the teacher, damaged data, and workers that could not do its tasks.
    /// A study that has ended goes on.
    Retry(retry::Args),
    /// Give a study another name
    ///
    /// Its running tasks continue. A `watch` or `search` that follows it ends. To go on with a
    /// study file, change its study.name too.
    Rename(rename::Args),
    /// Give a study a larger budget, also one that is complete
    Extend(extend::Args),
    /// End a study for good
    Cancel(control::Args),
    /// Remove a study with all its trials, without asking
    ///
    /// Running attempts are stopped, and the name can be used again. Model files and weights are
    /// removed once they are a day old, or by `edgesmith gc`.
    Delete(control::Args),
    /// Remove files that no study needs: of deleted studies, and checkpoints of finished trials
    ///
    /// A running coordinator does this by itself every hour.
    Gc(gc::Args),
    /// Read everything in a data directory and say what is whole
    ///
    /// A coordinator may be running on it. Fails if something is damaged or missing, and says what.
    Check(check::CheckArgs),
    /// Copy a data directory to a new one, also while a coordinator runs on it
    ///
    /// The copy has all that was acknowledged when the command began: studies, model files, tokens
    /// and keys.
    Backup(check::BackupArgs),
    /// Make a data directory of a backup
    Restore(check::RestoreArgs),
    /// List all metrics with their unit, direction and meaning
    Metrics(metrics::Args),
    /// Check a study file and show what would run; reports every error at once
    Validate(validate::Args),
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// How much it logs at least, in numbers of `-v`. A coordinator says who joins and leaves, what
    /// is leased and lost, and what it refuses, because its operator has no other way to see it.
    pub fn least_verbose(&self) -> u8 {
        if matches!(self, Command::Coordinator(_)) { 1 } else { 0 }
    }

    /// Targets of the log whose warnings the command tells in its own words. `search` and
    /// `compress` end with an error if a study cannot go on, and its worker's failed attempts are
    /// logged as failed trials.
    pub fn told_otherwise(&self) -> &'static [&'static str] {
        if matches!(self, Command::Search(_) | Command::Compress(_)) {
            &["edgesmith_worker::session::lease", "edgesmith_coordinator::blocked"]
        } else {
            &[]
        }
    }
}

/// Runs the command. The caller prints the error.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Search(args) => return search::run(args).await,
        Command::Recommend(args) => return recommend::run(args).await,
        Command::Sensitivity(args) => sensitivity::run(args).await?,
        Command::Compress(args) => return compress::run(args).await,
        Command::Coordinator(args) => serve::run(args).await?,
        Command::Worker(args) => work::run(args).await?,
        Command::Token(args) => token::run(args).await?,
        Command::Submit(args) => return submit::run(args).await,
        Command::Studies(args) => studies::run(args).await?,
        Command::Status(args) => status::run(args).await?,
        Command::Watch(args) => return watch::run(args).await,
        Command::Workers(args) => workers::run(args).await?,
        Command::Pareto(args) => front::run(args).await?,
        Command::Trials(args) => trials::list(args).await?,
        Command::Trial(args) => return trials::one(args).await,
        Command::Inspect(args) => inspect::run(args).await?,
        Command::Run(args) => run::run(args).await?,
        Command::Evaluate(args) => evaluate::run(args).await?,
        Command::Measure(args) => measure::run(args).await?,
        Command::Export(args) => export::run(args).await?,
        Command::Import(args) => import::run(args).await?,
        Command::Gc(args) => gc::run(args).await?,
        Command::Check(args) => check::check(&args)?,
        Command::Backup(args) => check::backup(&args)?,
        Command::Restore(args) => check::restore(&args)?,
        Command::Pause(args) => control::pause(args).await?,
        Command::Resume(args) => control::resume(args).await?,
        Command::Retry(args) => retry::run(args).await?,
        Command::Rename(args) => rename::run(args).await?,
        Command::Extend(args) => extend::run(args).await?,
        Command::Cancel(args) => control::cancel(args).await?,
        Command::Delete(args) => control::delete(args).await?,
        Command::Metrics(args) => metrics::run(&args)?,
        Command::Validate(args) => validate::run(&args)?,
        Command::Completions { shell } => {
            let mut command = Args::command();
            // Into memory first, because the generator panics if it writes to a closed pipe.
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

    #[test]
    fn a_wrong_number_is_told_what_to_write() {
        for (line, wanted) in [
            ("trial s abc", "write a whole number, 0 or more"),
            ("trial s -1", "write a whole number, 0 or more"),
            ("trial s 4294967296", "write a whole number, 4294967295 or less"),
            ("export s -2 --format edge -o f", "write a whole number, 0 or more"),
            ("retry s --trial x", "write a whole number, 0 or more"),
            ("extend s --trials -3", "write a whole number, 1 or more"),
            ("extend s --hours 0", "write a number above 0"),
            ("extend s --hours -1.5", "write a number above 0"),
            ("pareto s --cover 0", "write a whole number from 1 to 64"),
            ("coordinator --lease-seconds -3", "write a whole number from 1 to 3600"),
            ("worker --data-memory -1", "write a whole number, 0 or more"),
            ("worker --memory 4", "write a number above 0 with KiB, MiB or GiB"),
            ("search s.toml --memory -1GiB", "such as 4GiB"),
            ("trial s 1 --rerun --memory 4", "such as 4GiB"),
            ("worker --slots 0", "use a number from 1 to 1024, or auto"),
            ("search s.toml --slots -1", "use a number from 1 to 1024, or auto"),
        ] {
            let words = ["edgesmith"].into_iter().chain(line.split(' '));
            let said = Args::try_parse_from(words).unwrap_err().to_string();
            assert!(said.contains("invalid value") && said.contains(wanted), "{line}: {said}");
        }
    }
}
