//! `pause`, `resume`, `cancel`.

use edgesmith_proto::v1;

use crate::args::StudyArgs;
use crate::connect::Coordinator;
use crate::failure::from_status;
use crate::output::progress::state_name;

/// Stops handing out tasks.
pub async fn pause(args: StudyArgs) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let request = v1::PauseStudyRequest { study: args.study };
    let status = coordinator.studies().pause_study(request).await.map_err(from_status)?;
    say(&status.into_inner())
}

/// Goes on.
pub async fn resume(args: StudyArgs) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let request = v1::ResumeStudyRequest { study: args.study };
    let status = coordinator.studies().resume_study(request).await.map_err(from_status)?;
    say(&status.into_inner())
}

/// Ends for good.
pub async fn cancel(args: StudyArgs) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let request = v1::CancelStudyRequest { study: args.study };
    let status = coordinator.studies().cancel_study(request).await.map_err(from_status)?;
    say(&status.into_inner())
}

fn say(status: &v1::StudyStatus) -> anyhow::Result<()> {
    crate::output::print(&format!("{} is {}\n", status.name, state_name(status.state())))
}
