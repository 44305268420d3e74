//! `edgesmith submit`.

use std::path::PathBuf;
use std::process::ExitCode;

use edgesmith_client::{Connection, Coordinator, Submission};
use edgesmith_console::print_text;

use crate::commands::{front, watch};
use crate::output::progress::{Progress, state_name};

/// Arguments: the study and the coordinator.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study file
    pub study: PathBuf,
    /// Follow it until it ends, then show the front
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub connection: Connection,
}

/// Submits the study. With `--wait`, follows it to the end and prints the front.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let submission = Submission::read(&args.study)?;
    let coordinator = if args.wait {
        Coordinator::connect_to_running(&args.connection).await?
    } else {
        Coordinator::connect(&args.connection).await?
    };
    let submitted = submission.submit(&coordinator).await?;
    print_text(&format!("{}\n", submitted.name))?;
    if !submitted.created {
        let (status, _) = coordinator.study(&submitted.name).await?;
        let state = state_name(status.state());
        eprintln!("the coordinator already has this study; it is {state}");
    }
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let code = watch::follow(&coordinator, &submitted.name, Progress::new()).await?;
    front::print_summary(&coordinator, &submitted.name).await?;
    Ok(code)
}
