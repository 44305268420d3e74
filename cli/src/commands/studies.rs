//! `studies`, `status`, `watch`, `workers`.

use std::process::ExitCode;
use std::time::Duration;

use edgesmith_proto::v1;
use serde_json::json;
use v1::StudyState;

use crate::args::{ListArgs, ListFormat, StatusArgs, StudyArgs};
use crate::connect::Coordinator;
use crate::failure::from_status;
use crate::output::progress::{Progress, pruned, state_name, used};
use crate::output::table::{self, Align};
use crate::output::{json, print, print_json};

/// Lists studies.
pub async fn list(args: ListArgs) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let answer = coordinator.studies().list_studies(v1::ListStudiesRequest {}).await;
    let studies = answer.map_err(from_status)?.into_inner().studies;
    if args.format == ListFormat::Json {
        let all: Vec<_> = studies.iter().map(status_json).collect();
        return print_json(&json!({ "version": json::VERSION, "studies": all }));
    }
    let columns = [
        ("study", Align::Left),
        ("state", Align::Left),
        ("trials", Align::Right),
        ("front", Align::Right),
        ("best", Align::Right),
        ("algorithm", Align::Left),
    ];
    let rows: Vec<Vec<String>> = studies
        .iter()
        .map(|s| {
            vec![
                s.name.clone(),
                state_name(s.state()).to_owned(),
                format!("{}/{}", s.complete, s.budget_trials),
                s.front_size.to_string(),
                s.best_validation_accuracy.map_or_else(|| "–".to_owned(), table::percent),
                s.algorithm.clone(),
            ]
        })
        .collect();
    print(&table::render(&columns, &rows))
}

/// Says where one study stands.
pub async fn status(args: StatusArgs) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let request = v1::GetStudyRequest { study: args.study };
    let status = coordinator.studies().get_study(request).await.map_err(from_status)?.into_inner();
    match args.format {
        ListFormat::Json => {
            let mut document = status_json(&status);
            document["version"] = json!(json::VERSION);
            print_json(&document)
        }
        ListFormat::Table => print(&describe(&status)),
    }
}

/// Follows until the end.
pub async fn watch(args: StudyArgs) -> anyhow::Result<ExitCode> {
    let coordinator = Coordinator::connect_to_running(&args.connection).await?;
    follow(&coordinator, &args.study).await
}

/// Shows progress until the study ends; survives a restart of the coordinator. The exit code is
/// failure where the study failed or was cancelled.
pub async fn follow(coordinator: &Coordinator, study: &str) -> anyhow::Result<ExitCode> {
    let mut progress = Progress::new();
    let mut silent_tries = 0;
    let last = loop {
        let request = v1::WatchStudyRequest { study: study.to_owned() };
        let mut last = None;
        let broken = match coordinator.studies().watch_study(request).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(status)) => {
                            silent_tries = 0;
                            progress.update(&status);
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
            (Some(status), _) if !is_passing(&status) => return Err(from_status(status)),
            (Some(status), _) if silent_tries >= 60 => return Err(from_status(status)),
            _ => {
                silent_tries += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    progress.finish();
    let text = format!(
        "{} is {}: {} complete, {}{}{} infeasible, {} failed in {}{}",
        last.name,
        state_name(last.state()),
        last.complete,
        if last.imported > 0 { format!("{} imported, ", last.imported) } else { String::new() },
        pruned(&last).into_iter().map(|count| count + ", ").collect::<String>(),
        last.infeasible,
        last.failed,
        table::duration(last.elapsed_ms as f64 / 1e3),
        if last.reason.is_empty() { String::new() } else { format!("; {}", last.reason) }
    );
    eprintln!("{text}");
    let good = last.state() == StudyState::Complete;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a study's state is its last.
pub fn is_over(state: StudyState) -> bool {
    matches!(state, StudyState::Complete | StudyState::Cancelled | StudyState::Failed)
}

/// Whether the coordinator may come back.
fn is_passing(status: &tonic::Status) -> bool {
    use tonic::Code::{Aborted, Cancelled, Internal, Unavailable, Unknown};
    matches!(status.code(), Aborted | Cancelled | Internal | Unavailable | Unknown)
}

/// Lists workers.
pub async fn workers(args: ListArgs) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let answer = coordinator.studies().list_workers(v1::ListWorkersRequest {}).await;
    let workers = answer.map_err(from_status)?.into_inner().workers;
    let roles = |w: &v1::WorkerStatus| -> Vec<&str> {
        w.roles()
            .map(|r| match r {
                v1::Role::Train => "train",
                v1::Role::Measure => "measure",
                v1::Role::Table => "table",
                v1::Role::Unspecified => "unknown",
            })
            .collect()
    };
    if args.format == ListFormat::Json {
        let all: Vec<_> = workers
            .iter()
            .map(|w| {
                json!({
                    "worker": w.worker_id, "name": w.name, "device_class": w.device_class,
                    "roles": roles(w), "slots": w.slots, "backend": w.backend,
                    "activity": w.activity, "silent_ms": w.silent_ms,
                })
            })
            .collect();
        return print_json(&json!({ "version": json::VERSION, "workers": all }));
    }
    let columns = [
        ("worker", Align::Right),
        ("name", Align::Left),
        ("class", Align::Left),
        ("roles", Align::Left),
        ("slots", Align::Right),
        ("heard from", Align::Right),
        ("at", Align::Left),
    ];
    let rows: Vec<Vec<String>> = workers
        .iter()
        .map(|w| {
            vec![
                w.worker_id.to_string(),
                w.name.clone(),
                w.device_class.clone(),
                roles(w).join(","),
                w.slots.to_string(),
                format!("{:.1} s ago", w.silent_ms as f64 / 1e3),
                if w.activity.is_empty() { "idle".to_owned() } else { w.activity.join("; ") },
            ]
        })
        .collect();
    print(&table::render(&columns, &rows))
}

fn describe(s: &v1::StudyStatus) -> String {
    let mut lines = vec![
        format!("{} is {}", s.name, state_name(s.state())),
        format!(
            "trials     {} of {} finished: {} complete, {} running, {} waiting, {} infeasible, \
             {}{} failed",
            used(s),
            s.budget_trials,
            s.complete,
            s.running,
            s.waiting,
            s.infeasible,
            pruned(s).into_iter().map(|count| count + ", ").collect::<String>(),
            s.failed
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
        lines.push(format!("front      {} trials, hypervolume {hypervolume:.4}", s.front_size));
    }
    if let Some(teacher) = &s.teacher {
        let state = match teacher.trained.as_ref().and_then(|t| t.compressed.as_ref()) {
            Some(report) => format!(
                "validation {}, test {}, {}",
                table::percent(report.validation_accuracy),
                table::percent(report.test_accuracy),
                table::bytes(report.model_bytes)
            ),
            None => "not trained yet".to_owned(),
        };
        lines.push(format!("teacher    {} ({state})", teacher.architecture));
    }
    lines.extend(s.latency_predictions.iter().map(|p| format!("predicted  {}", prediction(p))));
    lines.extend(s.activity.iter().map(|a| format!("running    {a}")));
    for device in &s.missing_devices {
        lines.push(format!(
            "waiting    no worker offers device class {device}; start one there with \
             `edgesmith worker --roles measure --device {device}`"
        ));
    }
    if s.missing_trainer {
        lines.push("waiting    no worker trains; start one with `edgesmith worker`".to_owned());
    }
    if s.missing_table {
        let text =
            "waiting    no worker reads tables; start one with `edgesmith worker --roles table`";
        lines.push(text.to_owned());
    }
    lines.join("\n") + "\n"
}

/// How well latencies on a device are predicted, and what that saved.
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

fn status_json(s: &v1::StudyStatus) -> serde_json::Value {
    let mut document = json!({
        "study": s.name,
        "state": state_name(s.state()),
        "algorithm": s.algorithm,
        "budget_trials": s.budget_trials,
        "trials": {
            "waiting": s.waiting, "running": s.running, "complete": s.complete, "imported": s.imported,
            "pruned": s.pruned, "screened_out": s.screened_out, "infeasible": s.infeasible,
            "failed": s.failed,
        },
        "front_size": s.front_size,
        "elapsed_ms": s.elapsed_ms,
        "missing_devices": s.missing_devices,
        "missing_trainer": s.missing_trainer,
        "missing_table": s.missing_table,
        "activity": s.activity,
    });
    if !s.reason.is_empty() {
        document["reason"] = json!(s.reason);
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
    if let Some(teacher) = &s.teacher {
        document["teacher"] = json!({ "architecture": teacher.architecture });
        if let Some(report) = teacher.trained.as_ref().and_then(|t| t.compressed.as_ref()) {
            document["teacher"]["validation_accuracy"] = json!(report.validation_accuracy);
            document["teacher"]["test_accuracy"] = json!(report.test_accuracy);
            document["teacher"]["model_bytes"] = json!(report.model_bytes);
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn predictions_are_told_with_how_often_they_were_right() {
        let text = describe(&status(16, 12));
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
    fn what_nobody_predicted_is_not_told() {
        assert!(describe(&status(0, 0)).contains("pi: nothing yet, from 34"));
        let document = status_json(&status(0, 0));
        assert!(document["latency_predictions"][0].get("within_10_percent").is_none());
        let none = v1::StudyStatus::default();
        assert!(!describe(&none).contains("predicted"));
        assert!(status_json(&none).get("latency_predictions").is_none());
    }
}
