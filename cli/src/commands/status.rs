//! `edgesmith status`.

use edgesmith_client::{Connection, Coordinator, from_status};
use edgesmith_common::{Figures, Metric, ScopedMetric};
use edgesmith_console::{ListFormat, Output, print, table};
use edgesmith_proto::{ConvertError, v1};
use serde::Serialize;
use serde_json::json;

use crate::output::columns::cell;
use crate::output::json;
use crate::output::progress::{pruned, state_name, used};

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
    let status = coordinator.studies().get_study(request).await.map_err(from_status)?.into_inner();
    print(&Status(status), args.format)
}

struct Status(v1::StudyStatus);

impl Output for Status {
    fn table(&self) -> String {
        describe(&self.0)
    }

    fn json(&self) -> impl Serialize {
        let mut document = status_json(&self.0);
        document["version"] = json!(json::VERSION);
        document
    }
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
    if let Some(v1::DataReport { train, validation, test }) = s.data {
        lines.push(format!(
            "data       {train} images to train on, {validation} to validate, {test} held out"
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
            Ok(None) => "not trained yet".to_owned(),
            Err(error) => format!("trained; {error}"),
        };
        lines.push(format!("teacher    {} ({state})", teacher.architecture));
    }
    lines.extend(s.latency_predictions.iter().map(|p| format!("predicted  {}", prediction(p))));
    lines.extend(s.activity.iter().map(|a| format!("running    {a}")));
    for target in &s.missing_devices {
        let device = target.split('/').next().unwrap_or(target);
        lines.push(format!(
            "waiting    no worker measures on {target}; start one there with \
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
    if let Some(v1::DataReport { train, validation, test }) = s.data {
        document["data"] = json!({
            "train_images": train, "validation_images": validation, "test_images": test,
        });
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
    document
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
    fn missing_predictions_are_not_shown() {
        assert!(describe(&status(0, 0)).contains("pi: nothing yet, from 34"));
        let document = status_json(&status(0, 0));
        assert!(document["latency_predictions"][0].get("within_10_percent").is_none());
        let none = v1::StudyStatus::default();
        assert!(!describe(&none).contains("predicted"));
        assert!(status_json(&none).get("latency_predictions").is_none());
    }
}
