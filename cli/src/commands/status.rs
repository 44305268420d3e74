//! `edgesmith status`.

use std::fmt::Write as _;

use edgesmith_client::{Connection, Coordinator, is_over};
use edgesmith_common::{ArtifactHash, Figures, Metric, ScopedMetric};
use edgesmith_console::{ListFormat, Output, print, table};
use edgesmith_proto::{ConvertError, v1};
use serde::Serialize;
use serde_json::json;

use crate::output::columns::cell;
use crate::output::progress::{failed, pruned, state_name, used};
use crate::output::{counted, json, machines};

/// Arguments: the study.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study name
    pub study: String,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub connection: Connection,
}

/// Prints the state of one study.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let request = v1::GetStudyRequest { study: args.study };
    let status = coordinator.query(coordinator.studies().get_study(request)).await?;
    print(&Status { status, running: !coordinator.is_private() }, args.format)
}

struct Status {
    status: v1::StudyStatus,
    /// Whether the answer is from a coordinator that workers can find. Otherwise only this command
    /// has the data directory open.
    running: bool,
}

impl Output for Status {
    fn table(&self) -> String {
        describe(&self.status, self.running)
    }

    fn json(&self) -> impl Serialize {
        let mut document = status_json(&self.status);
        document["version"] = json!(json::VERSION);
        document
    }
}

fn describe(s: &v1::StudyStatus, coordinator_runs: bool) -> String {
    // Without a coordinator, leases are of workers that may be gone.
    let (running, waiting) =
        if coordinator_runs { (s.running, s.waiting) } else { (0, s.running + s.waiting) };
    let mut lines = vec![
        format!("{} is {}", s.name, now(s, coordinator_runs)),
        format!(
            "trials     {} of {} finished: {} complete, {} running, {} waiting, {} infeasible, \
             {}{}{}",
            used(s),
            s.budget_trials,
            s.complete,
            running,
            waiting,
            s.infeasible,
            pruned(s).into_iter().map(|count| count + ", ").collect::<String>(),
            failed(s),
            if s.imported > 0 {
                format!("; {} imported beside them", s.imported)
            } else {
                String::new()
            }
        ),
        format!("algorithm  {}", s.algorithm),
        format!("elapsed    {}", table::duration(s.elapsed_ms as f64 / 1e3)),
    ];
    if !s.reason.is_empty() {
        lines.insert(1, format!("reason     {}", s.reason));
    }
    if let Some(best) = s.best_validation_accuracy {
        lines.push(format!("best       {} validation accuracy", table::percent(best)));
    }
    if let Some(hypervolume) = s.hypervolume {
        let front = counted(s.front_size, "trial");
        lines.push(format!("front      {front}, hypervolume {hypervolume:.4}"));
    }
    if let Some(v1::DataReport { train, validation, test, hash }) = &s.data {
        let hash = data_hash(hash).map(|hash| format!(" (hash {})", &hash[..8]));
        lines.push(format!(
            "data       {train} images to train on, {validation} to validate, {test} held out{}",
            hash.unwrap_or_default()
        ));
    }
    if let Some(teacher) = &s.teacher {
        let state = match figures_of(teacher) {
            Ok(Some(figures)) => format!(
                "validation {}, test {}, {}",
                cell(&ScopedMetric::VALIDATION_ACCURACY, &figures),
                cell(&ScopedMetric::TEST_ACCURACY, &figures),
                cell(&Metric::MODEL_BYTES.whole(), &figures)
            ),
            Ok(None) if !teacher.soft_targets.is_empty() => "given".to_owned(),
            Ok(None) => "not trained yet".to_owned(),
            Err(error) => format!("trained; {error}"),
        };
        lines.push(format!("teacher    {} ({state})", teacher.architecture));
    }
    lines.extend(s.constraints.iter().map(|c| format!("constraint {}", constraint(c))));
    lines.extend(s.latency_predictions.iter().map(|p| format!("predicted  {}", prediction(p))));
    lines.extend(s.problems.iter().map(|problem| format!("problem    {problem}")));
    lines.extend(s.advice.iter().map(|advice| format!("advice     {advice}")));
    if coordinator_runs {
        lines.extend(s.activity.iter().map(|a| format!("running    {a}")));
    }
    if !is_over(s.state()) {
        lines.extend(workers(s, coordinator_runs).map(|text| format!("workers    {text}")));
    }
    // Without a coordinator, workers are not what is missing first.
    if !coordinator_runs {
        return lines.join("\n") + "\n";
    }
    if !s.waits.is_empty() && !is_over(s.state()) {
        lines.push(format!("waiting    the coordinator hands out no tasks: {}", s.waits));
    }
    lines.extend(missing_workers(s).into_iter().map(|text| format!("waiting    {text}")));
    lines.extend(machines::sentences(&s.unlike_machines).map(|text| format!("unlike     {text}")));
    lines.join("\n") + "\n"
}

/// The state in a word, with what keeps a running study from going on.
pub fn now(s: &v1::StudyStatus, coordinator_runs: bool) -> &'static str {
    match s.state() {
        v1::StudyState::Running if s.blocked => "blocked",
        v1::StudyState::Running if !coordinator_runs => "stopped",
        v1::StudyState::Running
            if s.activity.is_empty() && !(missing_workers(s).is_empty() && s.waits.is_empty()) =>
        {
            "waiting"
        }
        state @ (v1::StudyState::Unspecified
        | v1::StudyState::Running
        | v1::StudyState::Paused
        | v1::StudyState::Complete
        | v1::StudyState::Cancelled
        | v1::StudyState::Failed) => state_name(state),
    }
}

/// The workers that a study waits for, in sentences, and how to start them.
pub fn missing_workers(s: &v1::StudyStatus) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for target in &s.missing_devices {
        let device = target.split('/').next().unwrap_or(target);
        texts.push(format!(
            "no worker measures on {target}; start one there with \
             `edgesmith worker --roles measure --device {device}`"
        ));
    }
    // Where a connected worker cannot do it, `problems` says why and what to do.
    if s.missing_trainer && s.exclusions.is_empty() {
        texts.push("no worker trains; start one with `edgesmith worker`".to_owned());
    }
    if s.missing_table && s.exclusions.is_empty() {
        let text = "no worker reads tables; start one with `edgesmith worker --roles table`";
        texts.push(text.to_owned());
    }
    texts
}

/// Why a study that runs does not go on without a coordinator, and what to do.
const NO_COORDINATOR: &str = "no coordinator runs on this directory, so the study does not \
    continue; run it here with `edgesmith search STUDY.toml`, or start `edgesmith coordinator` and \
    workers";

/// Says on standard error that a study does not go on, if no coordinator runs that workers can
/// find.
pub fn warn_if_stopped(s: &v1::StudyStatus, coordinator: &Coordinator) {
    if coordinator.is_private() && s.state() == v1::StudyState::Running {
        eprintln!("{NO_COORDINATOR}");
    }
}

/// Who works, in words; `None` if there is nothing to say.
fn workers(s: &v1::StudyStatus, coordinator_runs: bool) -> Option<String> {
    Some(match (coordinator_runs, s.connected_workers, s.silent_workers) {
        (false, ..) => NO_COORDINATOR.to_owned(),
        // What is missing is named with its own command.
        (true, 0, _) if !missing_workers(s).is_empty() => "none is connected".to_owned(),
        (true, 0, _) => "no worker is connected; start one with `edgesmith worker`".to_owned(),
        (true, connected, 0) => format!("{connected} connected"),
        (true, connected, silent) => format!(
            "{silent} of {connected} missed their last heartbeats; if they stay silent, their \
             tasks go to other workers"
        ),
    })
}

/// What a constraint excluded, in words.
pub fn constraint(c: &v1::ConstraintStatus) -> String {
    let mut text = format!("{}: met by {} of {}", c.constraint, c.met, c.measured);
    if let (Some(value), Some(trial)) = (c.nearest, c.nearest_trial) {
        // Whole numbers are shown in full, as the limit is.
        let value = (value * 1e4).round() / 1e4;
        let _ = write!(text, ", the nearest has {value} (trial {trial})");
    }
    if c.excluded > 0 {
        let s = if c.excluded == 1 { "" } else { "s" };
        let _ = write!(text, "; {} candidate{s} ruled out before training", c.excluded);
    }
    text
}

fn constraint_json(c: &v1::ConstraintStatus) -> serde_json::Value {
    let mut document = json!({
        "constraint": c.constraint, "met": c.met, "measured": c.measured, "excluded": c.excluded,
    });
    if let (Some(value), Some(trial)) = (c.nearest, c.nearest_trial) {
        document["nearest"] = json!({ "value": value, "trial": trial });
    }
    document
}

/// What workers cannot do for studies.
pub fn exclusions_json(exclusions: &[v1::Exclusion]) -> serde_json::Value {
    let one = |of: &v1::Exclusion| {
        json!({
            "study": of.study, "worker": of.worker_id, "name": of.worker, "cannot": of.what,
            "reason": of.reason,
        })
    };
    exclusions.iter().map(one).collect()
}

/// How well latencies on a device are predicted, and how many trainings that saved.
fn prediction(p: &v1::LatencyPrediction) -> String {
    let share = match p.predicted {
        0 => "nothing yet".to_owned(),
        predicted => format!("{} of {predicted} within 10 %", p.within_tenth),
    };
    format!(
        "latency on {}: {share}, from {} measurements; {} trainings saved",
        p.device_class, p.measurements, p.trainings_saved
    )
}

fn prediction_json(p: &v1::LatencyPrediction) -> serde_json::Value {
    let mut document = json!({
        "device": p.device_class,
        "limit_ms": p.limit_ms,
        "measurements": p.measurements,
        "predicted": p.predicted,
        "trainings_saved": p.trainings_saved,
    });
    if p.predicted > 0 {
        document["within_10_percent"] = json!(f64::from(p.within_tenth) / f64::from(p.predicted));
    }
    document
}

/// A study's status as `status` and `studies` print it in JSON.
pub fn status_json(s: &v1::StudyStatus) -> serde_json::Value {
    let mut document = json!({
        "study": s.name,
        "state": state_name(s.state()),
        "algorithm": s.algorithm,
        "budget_trials": s.budget_trials,
        "trials": {
            "waiting": s.waiting, "running": s.running, "complete": s.complete, "imported": s.imported,
            "pruned": s.pruned, "screened_out": s.screened_out, "infeasible": s.infeasible,
            "failed": s.failed, "cancelled": s.cancelled,
        },
        "front_size": s.front_size,
        "elapsed_ms": s.elapsed_ms,
        "missing_devices": s.missing_devices,
        "missing_trainer": s.missing_trainer,
        "missing_table": s.missing_table,
        "activity": s.activity,
        "problems": s.problems,
        "blocked": s.blocked,
    });
    if let Some(hours) = s.budget_hours {
        document["budget_hours"] = json!(hours);
    }
    if !s.exclusions.is_empty() {
        document["exclusions"] = exclusions_json(&s.exclusions);
    }
    if !s.reason.is_empty() {
        document["reason"] = json!(s.reason);
    }
    if !s.waits.is_empty() {
        document["coordinator_waits"] = json!(s.waits);
    }
    if !s.advice.is_empty() {
        document["advice"] = json!(s.advice);
    }
    document["workers"] = json!({ "connected": s.connected_workers, "silent": s.silent_workers });
    if !s.constraints.is_empty() {
        let all: Vec<_> = s.constraints.iter().map(constraint_json).collect();
        document["constraints"] = json!(all);
    }
    if !s.latency_predictions.is_empty() {
        let all: Vec<_> = s.latency_predictions.iter().map(prediction_json).collect();
        document["latency_predictions"] = json!(all);
    }
    if let Some(best) = s.best_validation_accuracy {
        document["best_validation_accuracy"] = json!(best);
    }
    if let Some(hypervolume) = s.hypervolume {
        document["hypervolume"] = json!(hypervolume);
    }
    if let Some(v1::DataReport { train, validation, test, hash }) = &s.data {
        document["data"] = json!({
            "train_images": train, "validation_images": validation, "test_images": test,
        });
        if let Some(hash) = data_hash(hash) {
            document["data"]["hash"] = json!(hash);
        }
    }
    if let Some(teacher) = &s.teacher {
        document["teacher"] = json!({ "architecture": teacher.architecture });
        if let Ok(Some(figures)) = figures_of(teacher) {
            let all = json::map(&figures);
            // These three have fields of their own, because programs may read them there.
            for name in ["validation_accuracy", "test_accuracy", "model_bytes"] {
                if let Some(value) = all.get(name) {
                    document["teacher"][name] = json!(value);
                }
            }
            document["teacher"]["figures"] = json!(all);
        }
    }
    if !s.unlike_machines.is_empty() {
        document["unlike_machines"] = machines::json(&s.unlike_machines);
    }
    document
}

/// The hash of a study's data, hexadecimal; `None` if it is not known.
fn data_hash(bytes: &[u8]) -> Option<String> {
    <[u8; 32]>::try_from(bytes).ok().map(|bytes| ArtifactHash::from_bytes(bytes).to_string())
}

/// The teacher's figures; `None` until it is trained.
///
/// # Errors
/// If this version does not know one of them.
fn figures_of(teacher: &v1::Teacher) -> Result<Option<Figures>, ConvertError> {
    let trained = teacher.trained.as_ref();
    trained.and_then(|trained| trained.compressed.clone()).map(Figures::try_from).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::machines::tests::two_boards;

    fn named(name: &str) -> v1::StudyStatus {
        v1::StudyStatus { name: name.to_owned(), ..Default::default() }
    }

    fn status(predicted: u32, within_tenth: u32) -> v1::StudyStatus {
        let latency_predictions = vec![v1::LatencyPrediction {
            device_class: "pi".to_owned(),
            limit_ms: 5.0,
            measurements: 34,
            predicted,
            within_tenth,
            trainings_saved: 7,
        }];
        v1::StudyStatus { latency_predictions, ..Default::default() }
    }

    #[test]
    fn predictions_are_shown_with_their_success_rate() {
        let text = describe(&status(16, 12), true);
        let line = "predicted  latency on pi: 12 of 16 within 10 %, from 34 measurements; 7 \
                    trainings saved\n";
        assert!(text.contains(line), "{text}");
        let document = status_json(&status(16, 12));
        let expected = json!([{
            "device": "pi", "limit_ms": 5.0, "measurements": 34, "predicted": 16,
            "within_10_percent": 0.75, "trainings_saved": 7,
        }]);
        assert_eq!(document["latency_predictions"], expected);
    }

    #[test]
    fn trials_that_were_cancelled_are_not_called_failed() {
        let status = v1::StudyStatus { failed: 5, cancelled: 3, ..Default::default() };
        assert!(describe(&status, true).contains(" 2 failed, 3 cancelled\n"));
        let counts = &status_json(&status)["trials"];
        assert_eq!((&counts["failed"], &counts["cancelled"]), (&json!(5), &json!(3)));
    }

    #[test]
    fn what_is_in_the_way_of_a_study_is_shown() {
        let none = v1::StudyStatus::default();
        assert_eq!(status_json(&none)["blocked"], false);
        assert!(!describe(&none, true).contains("problem"));
        let exclusion = v1::Exclusion {
            study: "s".to_owned(),
            worker_id: 3,
            worker: "a".to_owned(),
            what: "read the data".to_owned(),
            reason: "photos does not exist".to_owned(),
        };
        let status = v1::StudyStatus {
            problems: vec!["a cannot read the data".to_owned()],
            exclusions: vec![exclusion],
            blocked: true,
            missing_trainer: true,
            budget_hours: Some(1.5),
            ..Default::default()
        };
        assert!(describe(&status, true).contains("\nproblem    a cannot read the data\n"));
        let advised = v1::StudyStatus { advice: vec!["do it".to_owned()], ..Default::default() };
        assert!(describe(&advised, true).contains("\nadvice     do it\n"));
        assert_eq!(status_json(&advised)["advice"], json!(["do it"]));
        assert!(status_json(&status).get("advice").is_none());
        assert!(!describe(&status, true).contains("no worker trains"));
        let document = status_json(&status);
        assert_eq!((&document["blocked"], &document["budget_hours"]), (&json!(true), &json!(1.5)));
        let expected = json!([{
            "study": "s", "worker": 3, "name": "a", "cannot": "read the data",
            "reason": "photos does not exist",
        }]);
        assert_eq!(document["exclusions"], expected);
    }

    #[test]
    fn the_data_are_shown_with_their_hash_if_it_is_known() {
        let report = v1::DataReport { train: 30, validation: 20, test: 10, hash: Vec::new() };
        let mut status = v1::StudyStatus { data: Some(report), ..Default::default() };
        assert!(describe(&status, true).contains(" 20 to validate, 10 held out\n"));
        assert!(status_json(&status)["data"].get("hash").is_none());
        status.data.as_mut().unwrap().hash = vec![0xab; 32];
        assert!(describe(&status, true).contains(" 10 held out (hash abababab)\n"));
        assert_eq!(status_json(&status)["data"]["hash"], "ab".repeat(32));
    }

    #[test]
    fn machines_that_differ_are_named() {
        let mut status = v1::StudyStatus::default();
        assert!(!describe(&status, true).contains("unlike"));
        assert!(status_json(&status).get("unlike_machines").is_none());
        status.unlike_machines = vec![two_boards()];
        let text = describe(&status, true);
        assert!(text.contains("\nunlike     device class rpi4 was measured on unlike"), "{text}");
        assert_eq!(status_json(&status)["unlike_machines"][0]["machines"][1]["name"], "B");
    }

    #[test]
    fn missing_predictions_are_not_shown() {
        assert!(describe(&status(0, 0), true).contains("pi: nothing yet, from 34"));
        let document = status_json(&status(0, 0));
        assert!(document["latency_predictions"][0].get("within_10_percent").is_none());
        let none = v1::StudyStatus::default();
        assert!(!describe(&none, true).contains("predicted"));
        assert!(status_json(&none).get("latency_predictions").is_none());
    }

    #[test]
    fn constraints_that_no_trial_meets_say_how_near_the_nearest_came() {
        let constraint = v1::ConstraintStatus {
            constraint: "model_bytes <= 5000".to_owned(),
            measured: 40,
            excluded: 1,
            nearest: Some(5312.0),
            nearest_trial: Some(12),
            ..Default::default()
        };
        let status = v1::StudyStatus { constraints: vec![constraint], ..Default::default() };
        let line = "constraint model_bytes <= 5000: met by 0 of 40, the nearest has 5312 (trial 12); \
                    1 candidate ruled out before training\n";
        let text = describe(&status, true);
        assert!(text.contains(line), "{text}");
        let expected = json!([{
            "constraint": "model_bytes <= 5000", "met": 0, "measured": 40, "excluded": 1,
            "nearest": { "value": 5312.0, "trial": 12 },
        }]);
        assert_eq!(status_json(&status)["constraints"], expected);
    }

    #[test]
    fn a_coordinator_that_waits_for_room_says_so() {
        let mut status = named("s");
        status.set_state(v1::StudyState::Running);
        assert!(status_json(&status).get("coordinator_waits").is_none());
        status.waits = "only 12 MiB are free in data".to_owned();
        let text = describe(&status, true);
        let line = "waiting    the coordinator hands out no tasks: only 12 MiB are free in data\n";
        assert!(text.starts_with("s is waiting\n") && text.contains(line), "{text}");
        assert_eq!(status_json(&status)["coordinator_waits"], status.waits);
        // A study that has ended waits for nothing.
        status.set_state(v1::StudyState::Complete);
        assert!(!describe(&status, true).contains("no tasks"));
    }

    #[test]
    fn missing_and_silent_workers_are_shown_while_the_study_is_not_over() {
        let mut status = v1::StudyStatus { imported: 12, missing_trainer: true, ..named("s") };
        status.set_state(v1::StudyState::Running);
        let text = describe(&status, true);
        assert!(text.contains("; 12 imported beside them\n"), "{text}");
        assert!(
            text.contains("workers    none is connected\nwaiting    no worker trains;"),
            "{text}"
        );
        assert!(text.starts_with("s is waiting\n"), "{text}");
        (status.connected_workers, status.silent_workers) = (3, 2);
        let text = describe(&status, true);
        assert!(text.contains("workers    2 of 3 missed their last heartbeats;"), "{text}");
        (status.running, status.waiting) = (2, 1);
        let text = describe(&status, false);
        assert!(text.contains(" 0 running, 3 waiting,"), "{text}");
        assert!(text.contains("workers    no coordinator runs on this directory"), "{text}");
        assert!(text.starts_with("s is stopped\n"), "{text}");
        assert!(!text.contains("no worker trains"), "{text}");
        assert_eq!(status_json(&status)["workers"], json!({ "connected": 3, "silent": 2 }));
        (status.missing_trainer, status.connected_workers) = (false, 0);
        let text = describe(&status, true);
        assert!(text.contains("workers    no worker is connected; start one"), "{text}");
        status.set_state(v1::StudyState::Complete);
        assert!(!describe(&status, false).contains("workers"));
    }
}
