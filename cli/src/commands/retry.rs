//! `edgesmith retry`: tries again what failed in a study, after the user has mended the cause.

use edgesmith_client::{Connection, Coordinator};
use edgesmith_console::{number, print_text};
use edgesmith_proto::v1;

use crate::commands::status::{now, warn_if_stopped};
use crate::output::progress::state_name;

/// Arguments: the study and the trial.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study name
    pub study: String,
    /// Try only this failed trial again
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = number::whole(0..=u32::MAX))]
    pub trial: Option<u32>,
    /// Train the teacher again although it has not failed, because its soft targets are lost
    #[arg(long)]
    pub teacher: bool,
    #[command(flatten)]
    pub connection: Connection,
}

/// Tries again, and says what.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { study, trial, teacher, connection } = args;
    let coordinator = Coordinator::connect(&connection).await?;
    let request = v1::RetryStudyRequest { study, trial, teacher };
    let answer = coordinator.change(coordinator.studies().retry_study(request)).await?;
    print_text(&format!("{}\n", describe(&answer, !coordinator.is_private())))?;
    if let Some(status) = &answer.status {
        warn_if_stopped(status, &coordinator);
    }
    Ok(())
}

fn describe(answer: &v1::RetryStudyResponse, coordinator_runs: bool) -> String {
    let v1::RetryStudyResponse { trials, data, teacher, status, teacher_measured } = answer;
    let mut what = Vec::new();
    if *data {
        what.push("its data are read again".to_owned());
    }
    if *teacher {
        what.push("its teacher is tried again".to_owned());
    }
    match teacher_measured {
        0 => {}
        1 => what.push("its teacher is measured again on 1 device".to_owned()),
        more => what.push(format!("its teacher is measured again on {more} devices")),
    }
    match trials {
        0 => {}
        1 => what.push("1 failed trial is tried again".to_owned()),
        more => what.push(format!("{more} failed trials are tried again")),
    }
    if what.is_empty() {
        what.push("workers that could not do its tasks are asked again".to_owned());
    }
    let (name, state) = match status {
        Some(status) => (status.name.as_str(), now(status, coordinator_runs)),
        None => ("the study", state_name(v1::StudyState::Unspecified)),
    };
    format!("{name} is {state}: {}", what.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_what_is_tried_again() {
        let status = v1::StudyStatus { name: "s".to_owned(), state: 1, ..Default::default() };
        let mut answer = v1::RetryStudyResponse {
            trials: 2,
            data: true,
            teacher: true,
            teacher_measured: 0,
            status: Some(status),
        };
        let text = "s is running: its data are read again, its teacher is tried again, 2 failed \
                    trials are tried again";
        assert_eq!(describe(&answer, true), text);
        (answer.trials, answer.data, answer.teacher, answer.teacher_measured) =
            (0, false, false, 1);
        let text = "s is running: its teacher is measured again on 1 device";
        assert_eq!(describe(&answer, true), text);
        answer.teacher_measured = 0;
        let text = "s is running: workers that could not do its tasks are asked again";
        assert_eq!(describe(&answer, true), text);
    }
}
