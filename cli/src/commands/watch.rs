//! `edgesmith watch`, and the loop with which `search` and `submit --wait` follow a study.

use std::process::ExitCode;
use std::time::Duration;

use edgesmith_client::{Connection, Coordinator, is_over};
use edgesmith_console::table;
use edgesmith_proto::v1;
use v1::StudyState;

use crate::output::progress::{Progress, failed, pruned, state_name};

/// Arguments: the study.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study name
    pub study: String,
    #[command(flatten)]
    pub connection: Connection,
}

/// Follows the study until it ends.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let coordinator = Coordinator::connect_to_running(&args.connection).await?;
    follow(&coordinator, &args.study, Progress::new(), WhenBlocked::Wait, str::to_owned).await
}

/// What to do if a study cannot go on until a user mends something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBlocked {
    /// Say so, and wait.
    Wait,
    /// Return an error.
    GiveUp,
}

/// Shows the study's progress on `progress` until the study ends, even if the coordinator restarts.
/// The exit code is a failure if the study failed or was cancelled. `tell` says advice for a study
/// file in terms of what the study is made of.
pub async fn follow(
    coordinator: &Coordinator,
    study: &str,
    mut progress: Progress,
    when_blocked: WhenBlocked,
    tell: fn(&str) -> String,
) -> anyhow::Result<ExitCode> {
    let mut said: Vec<String> = Vec::new();
    let (mut silence, mut seen) = (Silence::default(), false);
    let last = loop {
        let request = v1::WatchStudyRequest { study: study.to_owned() };
        let mut last = None;
        let broken = match coordinator.studies().watch_study(request).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(status)) => {
                            if let Some(line) = silence.end() {
                                progress.note(line);
                            }
                            seen = true;
                            progress.update(&status);
                            match when_blocked {
                                WhenBlocked::GiveUp if status.blocked => {
                                    return Err(anyhow::anyhow!(blocked(&status)));
                                }
                                WhenBlocked::GiveUp => {}
                                WhenBlocked::Wait => {
                                    for problem in &status.problems {
                                        if !said.contains(problem) {
                                            progress.note(problem);
                                        }
                                    }
                                    said.clone_from(&status.problems);
                                }
                            }
                            last = Some(status);
                        }
                        Ok(None) => break None,
                        Err(status) => break Some(status),
                    }
                }
            }
            Err(status) => Some(status),
        };
        match (broken, last) {
            (None, Some(last)) if is_over(last.state()) => break last,
            (Some(status), _) if status.code() == tonic::Code::NotFound && seen => {
                return Err(anyhow::anyhow!(
                    "study {study} does not exist any more; it was renamed or deleted; `edgesmith \
                     studies` lists all"
                ));
            }
            (Some(status), _) if !is_passing(&status) => return Err(coordinator.failed(status)),
            (Some(status), _) if silence.tries >= 60 => return Err(coordinator.failed(status)),
            _ => {
                if let Some(line) = silence.go_on() {
                    progress.note(line);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    progress.finish();
    eprintln!("{}", ending(&last, tell));
    let good = last.state() == StudyState::Complete;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tries, a second apart, for which the coordinator has not answered.
#[derive(Debug, Default)]
struct Silence {
    tries: u32,
}

impl Silence {
    /// Tries before the user is told. A coordinator that restarts is back before.
    const TOLD_AFTER: u32 = 5;

    /// Takes in a try without an answer. Returns what to say, once in each silence.
    fn go_on(&mut self) -> Option<&'static str> {
        self.tries += 1;
        (self.tries == Self::TOLD_AFTER)
            .then_some("the coordinator does not answer; waiting for it")
    }

    /// Takes in an answer. Returns what to say if the silence was told.
    fn end(&mut self) -> Option<&'static str> {
        let tries = std::mem::take(&mut self.tries);
        (tries >= Self::TOLD_AFTER).then_some("it answers again")
    }
}

/// How a study ended, and what to change if none of its trials was completed. `tell` as in
/// [`follow`].
fn ending(last: &v1::StudyStatus, tell: fn(&str) -> String) -> String {
    let text = format!(
        "{} is {}: {} complete, {}{}{} infeasible, {} in {}{}",
        last.name,
        state_name(last.state()),
        last.complete,
        if last.imported > 0 { format!("{} imported, ", last.imported) } else { String::new() },
        pruned(last).into_iter().map(|count| count + ", ").collect::<String>(),
        last.infeasible,
        failed(last),
        table::duration(last.elapsed_ms as f64 / 1e3),
        if last.reason.is_empty() { String::new() } else { format!("; {}", last.reason) }
    );
    last.advice.iter().fold(text, |text, advice| format!("{text}\n- {}", tell(advice)))
}

/// Why a study cannot go on.
fn blocked(status: &v1::StudyStatus) -> String {
    let mut why: Vec<String> = Vec::new();
    if !status.data_problem.is_empty() {
        why.push(format!("its data are damaged or do not fit it: {}", status.data_problem));
    }
    let excluded = |of: &v1::Exclusion| format!("{} cannot {}: {}", of.worker, of.what, of.reason);
    why.extend(status.exclusions.iter().map(excluded));
    format!("study {} cannot go on: {}", status.name, why.join("; "))
}

/// Whether the error may pass, because the coordinator may come back, or because this process slept
/// and read nothing for so long that the coordinator gave its answer up.
fn is_passing(status: &tonic::Status) -> bool {
    use tonic::Code::{Aborted, Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
    matches!(
        status.code(),
        Aborted | Cancelled | DeadlineExceeded | Internal | Unavailable | Unknown
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_silence_and_its_end_are_told_once_each() {
        let mut silence = Silence::default();
        for _ in 0..2 {
            assert_eq!([(); 4].map(|()| silence.go_on()), [None; 4]);
            let told = Some("the coordinator does not answer; waiting for it");
            assert_eq!([(); 3].map(|()| silence.go_on()), [told, None, None]);
            assert_eq!(silence.end(), Some("it answers again"));
            assert_eq!(silence.end(), None);
            // A short silence is not told.
            assert_eq!((silence.go_on(), silence.end()), (None, None));
        }
    }

    #[test]
    fn the_end_of_a_study_without_complete_trials_says_what_to_change() {
        let mut status = v1::StudyStatus {
            name: "s".to_owned(),
            state: StudyState::Failed.into(),
            infeasible: 3,
            reason: "no trial was completed".to_owned(),
            ..Default::default()
        };
        let text = ending(&status, str::to_owned);
        assert!(text.ends_with("; no trial was completed"), "{text}");
        status.advice = vec!["lower training.learning_rate".to_owned()];
        let text = ending(&status, str::to_owned);
        assert!(text.ends_with("completed\n- lower training.learning_rate"), "{text}");
        let text = ending(&status, str::to_uppercase);
        assert!(text.ends_with("completed\n- LOWER TRAINING.LEARNING_RATE"), "{text}");
    }

    #[test]
    fn a_blocked_study_says_why() {
        let exclusion = v1::Exclusion {
            worker: "box".to_owned(),
            what: "read the data".to_owned(),
            reason: "the file t does not exist".to_owned(),
            ..Default::default()
        };
        let mut status = v1::StudyStatus {
            name: "s".to_owned(),
            exclusions: vec![exclusion],
            ..Default::default()
        };
        let text = "study s cannot go on: box cannot read the data: the file t does not exist";
        assert_eq!(blocked(&status), text);
        status.exclusions.clear();
        status.data_problem = "t is cut".to_owned();
        assert_eq!(
            blocked(&status),
            "study s cannot go on: its data are damaged or do not fit it: t is cut"
        );
    }
}
