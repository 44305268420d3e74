//! `edgesmith rename`: gives a study another name.

use edgesmith_client::{Connection, Coordinator};
use edgesmith_console::print_text;
use edgesmith_proto::v1;

/// Arguments: the study and its new name.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study name
    pub study: String,
    /// New name
    pub new: String,
    #[command(flatten)]
    pub connection: Connection,
}

/// Renames the study.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { study, new, connection } = args;
    let coordinator = Coordinator::connect(&connection).await?;
    let request = v1::RenameStudyRequest { study: study.clone(), new_name: new };
    let answer = coordinator.change(coordinator.studies().rename_study(request)).await?;
    print_text(&format!("{study} is now {}\n", answer.name))
}
