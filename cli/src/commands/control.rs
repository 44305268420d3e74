//! `edgesmith pause`, `resume`, `cancel` and `delete`.

use edgesmith_client::{Connection, Coordinator};
use edgesmith_console::print_text;
use edgesmith_proto::v1;

use crate::commands::status::{now, warn_if_stopped};
use crate::output::progress::{finished, state_name};

/// Arguments: the study.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study name
    pub study: String,
    #[command(flatten)]
    pub connection: Connection,
}

/// Pauses: no new tasks are handed out.
pub async fn pause(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let request = v1::PauseStudyRequest { study: args.study };
    say(&coordinator.change(coordinator.studies().pause_study(request)).await?)
}

/// Resumes a paused study.
pub async fn resume(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let request = v1::ResumeStudyRequest { study: args.study };
    let status = coordinator.change(coordinator.studies().resume_study(request)).await?;
    print_text(&format!("{} is {}\n", status.name, now(&status, !coordinator.is_private())))?;
    warn_if_stopped(&status, &coordinator);
    Ok(())
}

/// Ends a study for good.
pub async fn cancel(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let request = v1::CancelStudyRequest { study: args.study };
    let status = coordinator.change(coordinator.studies().cancel_study(request)).await?;
    print_text(&format!("{}\n", cancelled(&status)))
}

/// The text about a study that was cancelled just now.
fn cancelled(status: &v1::StudyStatus) -> String {
    let cut_off = match status.cancelled {
        0 => String::new(),
        1 => "; 1 unfinished trial was cut off".to_owned(),
        more => format!("; {more} unfinished trials were cut off"),
    };
    format!(
        "{} is {}{cut_off}; this cannot be undone, pause would have kept it",
        status.name,
        state_name(status.state())
    )
}

/// Removes a study with all its trials.
pub async fn delete(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let removed = remove(&coordinator, &args.study).await;
    let removed = removed.map_err(|status| coordinator.failed_to_change(status))?;
    print_text(&format!("{removed}\n"))
}

/// Removes a study. The answer says in words what was removed.
///
/// # Errors
/// The coordinator's answer, for example if there is no such study.
pub async fn remove(coordinator: &Coordinator, study: &str) -> Result<String, tonic::Status> {
    let request = v1::GetStudyRequest { study: study.to_owned() };
    let status = coordinator.studies().get_study(request).await?.into_inner();
    let request = v1::DeleteStudyRequest { study: study.to_owned() };
    coordinator.studies().delete_study(request).await?;
    Ok(removed(&status))
}

/// The text about a removed study that had this status.
fn removed(status: &v1::StudyStatus) -> String {
    let trials = finished(status) + status.running + status.waiting;
    let trials = match (trials, status.complete) {
        (1, 0) => "its 1 trial, which was not complete".to_owned(),
        (1, _) => "its 1 trial, which was complete".to_owned(),
        (trials, complete) => format!("its {trials} trials, {complete} of them complete"),
    };
    let imported = match status.imported {
        0 => String::new(),
        1 => ", and 1 imported one".to_owned(),
        imported => format!(", and {imported} imported ones"),
    };
    format!(
        "removed study {}, which was {}, with {trials}{imported}",
        status.name,
        state_name(status.state())
    )
}

fn say(status: &v1::StudyStatus) -> anyhow::Result<()> {
    print_text(&format!("{} is {}\n", status.name, state_name(status.state())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_study_says_what_is_lost_and_what_would_have_kept_it() {
        let mut status = v1::StudyStatus {
            name: "s".to_owned(),
            state: v1::StudyState::Cancelled.into(),
            ..Default::default()
        };
        let end = "; this cannot be undone, pause would have kept it";
        assert_eq!(cancelled(&status), format!("s is cancelled{end}"));
        status.cancelled = 2;
        let text = format!("s is cancelled; 2 unfinished trials were cut off{end}");
        assert_eq!(cancelled(&status), text);
    }

    #[test]
    fn the_removal_message_counts_the_trials() {
        let status = v1::StudyStatus {
            name: "s".to_owned(),
            state: v1::StudyState::Paused.into(),
            complete: 3,
            infeasible: 2,
            failed: 1,
            waiting: 1,
            ..Default::default()
        };
        let text = "removed study s, which was paused, with its 7 trials, 3 of them complete";
        assert_eq!(removed(&status), text);
        let status = v1::StudyStatus { imported: 8, ..status };
        assert!(removed(&status).ends_with("complete, and 8 imported ones"));
        let mut one = v1::StudyStatus { waiting: 1, imported: 1, ..Default::default() };
        let said = removed(&one);
        let end = "with its 1 trial, which was not complete, and 1 imported one";
        assert!(said.ends_with(end), "{said}");
        (one.waiting, one.complete, one.imported) = (0, 1, 0);
        assert!(removed(&one).ends_with("with its 1 trial, which was complete"));
    }
}
