//! `edgesmith submit`.

use std::path::PathBuf;
use std::process::ExitCode;

use edgesmith_client::{Connection, Coordinator, Submission, is_over};
use edgesmith_common::StudySpec;
use edgesmith_console::print_text;
use edgesmith_proto::v1;

use crate::commands::status::{now, warn_if_stopped};
use crate::commands::watch::{self, WhenBlocked};
use crate::commands::{extend, front};
use crate::output::progress::Progress;

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
    let by_reference = by_reference_in_words(&submission.spec);
    let coordinator = if args.wait {
        Coordinator::connect_to_running(&args.connection).await?
    } else {
        Coordinator::connect(&args.connection).await?
    };
    let submitted = submission.submit(&coordinator).await?;
    if !submitted.created {
        let (status, _) = coordinator.study(&submitted.name).await?;
        let text = already_there(&status, &submitted, !coordinator.is_private());
        if nothing_runs(&status, args.wait) {
            anyhow::bail!(text);
        }
        eprintln!("{text}");
    }
    print_text(&format!("{}\n", submitted.name))?;
    if let Some(start) = start_in_words(&submitted) {
        eprintln!("{start}");
    }
    if let Some(text) = replaced_in_words(&submitted) {
        eprintln!("{text}");
    }
    if let Some(text) = by_reference {
        eprintln!("{text}");
    }
    if !args.wait {
        let (status, _) = coordinator.study(&submitted.name).await?;
        warn_if_stopped(&status, &coordinator);
        return Ok(ExitCode::SUCCESS);
    }
    let (progress, wait) = (Progress::new(), WhenBlocked::Wait);
    let code = watch::follow(&coordinator, &submitted.name, progress, wait, str::to_owned).await?;
    front::print_summary(&coordinator, &submitted.name).await?;
    Ok(code)
}

/// What a new study took in of the studies that it starts from; `None` if it names none.
pub fn start_in_words(submitted: &v1::SubmitStudyResponse) -> Option<String> {
    let v1::SubmitStudyResponse { start_imported, start_known, start_left_out, .. } = submitted;
    if *start_imported == 0 && *start_known == 0 && start_left_out.is_empty() {
        return None;
    }
    let mut text = format!("starts from {start_imported} earlier trials");
    if *start_known > 0 {
        text.push_str(&format!("; {start_known} more have the same candidates"));
    }
    let left_out: Vec<(&str, u32)> =
        start_left_out.iter().map(|of| (of.reason.as_str(), of.count)).collect();
    text.push_str(&left_out_in_words(&left_out));
    Some(text)
}

/// That candidates may run by reference, so that these have no latency; `None` if none may.
pub fn by_reference_in_words(spec: &StudySpec) -> Option<String> {
    let step = spec.training()?.space.recipe().by_reference()?;
    Some(format!(
        "no engine on a device computes affine weights with values of 8 bits, weights of 16 bits \
         with these, or values of 16 bits: candidates with any of them ({step}) run by reference, \
         and have an accuracy and a size but no latency"
    ))
}

/// Which study the new one replaced; `None` if none.
pub fn replaced_in_words(submitted: &v1::SubmitStudyResponse) -> Option<String> {
    let v1::SubmitStudyResponse { name, replaced, .. } = submitted;
    (!replaced.is_empty()).then(|| {
        let fields = replaced.join(", ");
        format!("replaces the study {name}, which had not begun; they differ in {fields}")
    })
}

/// How many trials were left out, by the reason; empty if there are none. Follows another part.
pub fn left_out_in_words(by_reason: &[(&str, u32)]) -> String {
    if by_reason.is_empty() {
        return String::new();
    }
    let all: u32 = by_reason.iter().map(|(_, count)| count).sum();
    let reasons: Vec<String> =
        by_reason.iter().map(|(reason, count)| format!("{count} because {reason}")).collect();
    format!("; left out {all}: {}", reasons.join(", "))
}

/// Whether this submission fails, because the study ended before and nothing of it will run. With
/// `--wait`, a complete study shows its front, as it would if it had just ended.
fn nothing_runs(status: &v1::StudyStatus, wait: bool) -> bool {
    let shows_front = wait && status.state() == v1::StudyState::Complete;
    is_over(status.state()) && !shows_front
}

/// The text about a study that was submitted before.
fn already_there(
    status: &v1::StudyStatus,
    submitted: &v1::SubmitStudyResponse,
    coordinator_runs: bool,
) -> String {
    let reread = if submitted.reread { "; its data are read again" } else { "" };
    if submitted.extended {
        return extend::describe(status, coordinator_runs) + reread;
    }
    let (name, state) = (&status.name, now(status, coordinator_runs));
    let who = if coordinator_runs { "coordinator" } else { "data directory" };
    let mut text = format!("the {who} already has this study; it is {state}{reread}");
    match status.state() {
        v1::StudyState::Complete | v1::StudyState::Failed => text.push_str(&format!(
            ", so nothing will run. To run more trials, submit it with a larger budget.trials; to \
             try again what failed: edgesmith retry {name}"
        )),
        v1::StudyState::Cancelled => text.push_str(&format!(
            ", so nothing will run. To use its results, submit another study with \
             study.start_from = [\"{name}\"]; to run it again from the beginning, remove it first: \
             edgesmith delete {name}"
        )),
        v1::StudyState::Unspecified | v1::StudyState::Running | v1::StudyState::Paused => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_told_with_the_reasons_of_what_is_left_out() {
        let mut submitted = v1::SubmitStudyResponse::default();
        assert_eq!(start_in_words(&submitted), None);
        let left_out = |reason: &str, count| v1::LeftOut { reason: reason.to_owned(), count };
        submitted.start_imported = 5;
        assert_eq!(start_in_words(&submitted).unwrap(), "starts from 5 earlier trials");
        submitted.start_known = 1;
        submitted.start_left_out = vec![left_out("it has no a", 3), left_out("it has no b", 1)];
        let text = "starts from 5 earlier trials; 1 more have the same candidates; left out 4: 3 \
                    because it has no a, 1 because it has no b";
        assert_eq!(start_in_words(&submitted).unwrap(), text);
    }

    #[test]
    fn candidates_that_run_by_reference_are_told_of() {
        let of = |affine: &str| {
            let text = format!(
                "study.name = \"s\"\ndata.source = \"digits\"\nbudget.trials = 9\n\
                 objectives = [{{ metric = \"validation_accuracy\" }}]\n\
                 space = {{ resolution = 8, stem_width = 8, stages = [{{ width = 8 }}] }}\n\
                 [[recipe.steps]]\npass = \"quantize\"\naffine_weights = {affine}\n"
            );
            by_reference_in_words(&StudySpec::parse(&text).unwrap())
        };
        assert_eq!(of("false"), None);
        for affine in ["true", "[true, false]"] {
            let text = of(affine).unwrap();
            assert!(text.contains("(recipe.steps[0]) run by reference"), "{text}");
        }
    }

    #[test]
    fn a_replaced_study_is_told_with_what_differs() {
        let mut submitted = v1::SubmitStudyResponse { name: "s".to_owned(), ..Default::default() };
        assert_eq!(replaced_in_words(&submitted), None);
        submitted.replaced = vec!["data.classes: 9 -> 10".to_owned()];
        let text = "replaces the study s, which had not begun; they differ in data.classes: \
                    9 -> 10";
        assert_eq!(replaced_in_words(&submitted).unwrap(), text);
    }

    #[test]
    fn a_study_that_was_submitted_before_says_how_to_go_on() {
        let mut status = v1::StudyStatus {
            name: "s".to_owned(),
            state: v1::StudyState::Running.into(),
            budget_trials: 9,
            ..Default::default()
        };
        let same = v1::SubmitStudyResponse::default();
        let text = already_there(&status, &same, false);
        assert_eq!(text, "the data directory already has this study; it is stopped");
        let text = already_there(&status, &same, true);
        assert_eq!(text, "the coordinator already has this study; it is running");
        let read = v1::SubmitStudyResponse { reread: true, ..same.clone() };
        assert!(already_there(&status, &read, true).ends_with("running; its data are read again"));
        let extended = v1::SubmitStudyResponse { extended: true, ..same.clone() };
        let text = already_there(&status, &extended, true);
        assert_eq!(text, "s is running with a budget of 9 trials");
        status.set_state(v1::StudyState::Complete);
        let text = already_there(&status, &same, true);
        assert!(text.contains("larger budget.trials") && text.contains("edgesmith retry s"));
        status.set_state(v1::StudyState::Cancelled);
        let text = already_there(&status, &same, true);
        assert!(text.contains("start_from = [\"s\"]") && text.contains("edgesmith delete s"));
    }

    #[test]
    fn a_submission_fails_if_nothing_will_run() {
        use v1::StudyState::{Cancelled, Complete, Failed, Paused, Running};
        let of = |state: v1::StudyState, wait| {
            nothing_runs(&v1::StudyStatus { state: state.into(), ..Default::default() }, wait)
        };
        assert_eq!([Complete, Cancelled, Failed].map(|state| of(state, false)), [true; 3]);
        assert_eq!([Complete, Cancelled, Failed].map(|state| of(state, true)), [false, true, true]);
        assert_eq!([Running, Paused].map(|state| of(state, false)), [false; 2]);
    }
}
