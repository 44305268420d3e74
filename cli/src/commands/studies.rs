//! `edgesmith studies`.

use edgesmith_client::{Connection, Coordinator};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, print};
use edgesmith_proto::v1;
use serde::Serialize;
use serde_json::json;

use crate::commands::status::{missing_workers, now, status_json};
use crate::output::json;

/// Arguments: the coordinator.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub connection: Connection,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
}

/// Lists studies.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let request = v1::ListStudiesRequest {};
    let studies = coordinator.query(coordinator.studies().list_studies(request)).await?.studies;
    print(&Studies { studies, running: !coordinator.is_private() }, args.format)
}

struct Studies {
    studies: Vec<v1::StudyStatus>,
    /// Whether the answer is from a coordinator that workers can find.
    running: bool,
}

impl Output for Studies {
    fn table(&self) -> String {
        if self.studies.is_empty() {
            return format!("{NONE}\n");
        }
        let columns = [
            ("study", Align::Left),
            ("state", Align::Left),
            ("trials", Align::Right),
            ("front", Align::Right),
            ("best", Align::Right),
            ("algorithm", Align::Left),
        ];
        let rows: Vec<Vec<String>> = self
            .studies
            .iter()
            .map(|s| {
                vec![
                    s.name.clone(),
                    now(s, self.running).to_owned(),
                    format!("{}/{}", s.complete, s.budget_trials),
                    s.front_size.to_string(),
                    s.best_validation_accuracy.map_or_else(|| "–".to_owned(), table::percent),
                    s.algorithm.clone(),
                ]
            })
            .collect();
        let ways = self.studies.iter().flat_map(|s| in_the_way(s, self.running));
        let stopped = self.studies.iter().any(|s| now(s, self.running) == "stopped");
        let stopped = if stopped { format!("{STOPPED}\n") } else { String::new() };
        table::render(&columns, &rows) + &ways.collect::<String>() + &stopped
    }

    fn json(&self) -> impl Serialize {
        let all: Vec<_> = self.studies.iter().map(status_json).collect();
        json!({ "version": json::VERSION, "studies": all })
    }
}

/// Said instead of an empty table.
const NONE: &str = "there is no study yet; `edgesmith search STUDY.toml` runs one here, and \
    `edgesmith submit STUDY.toml` sends one to a coordinator";

/// Said once, whatever the number of stopped studies.
const STOPPED: &str = "no coordinator runs on this directory, so stopped studies do not continue; \
    run one here with `edgesmith search STUDY.toml`, or start `edgesmith coordinator` and workers";

/// What is in the way of a study, a line each.
fn in_the_way(s: &v1::StudyStatus, coordinator_runs: bool) -> Vec<String> {
    let mut all = s.problems.clone();
    // A paused study needs no worker, and without a coordinator no worker can come.
    if coordinator_runs && s.state() == v1::StudyState::Running {
        all.extend(missing_workers(s));
        if !s.waits.is_empty() {
            all.push(format!("the coordinator hands out no tasks: {}", s.waits));
        }
    }
    if !s.reason.is_empty() && s.state() == v1::StudyState::Failed {
        all.push(s.reason.clone());
    }
    all.iter().map(|text| format!("{}: {text}\n", s.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(name: &str) -> v1::StudyStatus {
        let mut study = v1::StudyStatus { name: name.to_owned(), ..Default::default() };
        study.set_state(v1::StudyState::Running);
        study
    }

    fn text(studies: Vec<v1::StudyStatus>, running: bool) -> String {
        Studies { studies, running }.table()
    }

    #[test]
    fn studies_that_cannot_go_on_are_told_with_the_reason() {
        let damaged = v1::StudyStatus {
            blocked: true,
            problems: vec!["its data are damaged: a is cut".to_owned()],
            ..study("photos")
        };
        let alone = v1::StudyStatus {
            missing_trainer: true,
            missing_devices: vec!["pi".to_owned()],
            ..study("alone")
        };
        let busy = v1::StudyStatus {
            missing_devices: vec!["pi".to_owned()],
            activity: vec!["teacher".to_owned()],
            ..study("busy")
        };
        let all = vec![damaged, alone, busy, study("fine")];
        let said = text(all.clone(), true);
        let lines: Vec<&str> = said.lines().collect();
        let begins =
            |line: usize, words: [&str; 2]| lines[line].split_whitespace().take(2).eq(words);
        assert!(begins(1, ["photos", "blocked"]) && begins(2, ["alone", "waiting"]), "{said}");
        assert!(begins(3, ["busy", "running"]) && begins(4, ["fine", "running"]), "{said}");
        assert_eq!(lines[5], "photos: its data are damaged: a is cut");
        assert!(lines[6].starts_with("alone: no worker measures on pi; start one"), "{said}");
        assert!(lines[7].starts_with("alone: no worker trains; start one"), "{said}");
        assert!(lines[8].starts_with("busy: no worker measures on pi"), "{said}");
        assert_eq!(lines.len(), 9);
        let document =
            serde_json::to_value(Studies { studies: all, running: true }.json()).unwrap();
        let of = &document["studies"][0];
        assert_eq!((&of["blocked"], &of["state"]), (&json!(true), &json!("running")));
        assert_eq!(of["problems"], json!(["its data are damaged: a is cut"]));
    }

    #[test]
    fn without_a_coordinator_running_studies_are_stopped() {
        let said = text(vec![study("a"), study("b")], false);
        assert_eq!(said.matches("stopped  ").count(), 2, "{said}");
        assert_eq!(said.matches("edgesmith search STUDY.toml").count(), 1, "{said}");
        let mut complete = study("c");
        complete.set_state(v1::StudyState::Complete);
        assert!(!text(vec![complete], false).contains("no coordinator"));
    }

    #[test]
    fn without_studies_the_first_command_is_named() {
        assert!(text(vec![], true).starts_with("there is no study yet; `edgesmith search"));
    }

    #[test]
    fn a_study_that_failed_says_why() {
        let mut failed = v1::StudyStatus { reason: "no teacher".to_owned(), ..study("f") };
        failed.set_state(v1::StudyState::Failed);
        assert!(text(vec![failed], true).ends_with("\nf: no teacher\n"));
    }
}
