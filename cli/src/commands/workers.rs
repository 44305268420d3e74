//! `edgesmith workers`.

use edgesmith_client::{Connection, Coordinator};
use edgesmith_common::Role;
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, print};
use edgesmith_proto::v1;
use serde::Serialize;
use serde_json::json;

use crate::commands::status::exclusions_json;
use crate::output::{json, machines};

/// Arguments: the coordinator.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub connection: Connection,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
}

/// Lists workers.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let request = v1::ListWorkersRequest {};
    let answer = coordinator.query(coordinator.studies().list_workers(request)).await?;
    print(&Workers(answer, !coordinator.is_private()), args.format)
}

/// The answer, and whether it is from a coordinator that workers can find.
struct Workers(v1::ListWorkersResponse, bool);

impl Output for Workers {
    fn table(&self) -> String {
        if self.0.workers.is_empty() {
            let text = if self.1 {
                "no worker is connected; start one with `edgesmith worker`"
            } else {
                "no coordinator runs on this directory, so no worker is connected; start \
                 `edgesmith coordinator` and workers, or run a study here with `edgesmith search \
                 STUDY.toml`"
            };
            return format!("{text}\n");
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
        let rows: Vec<Vec<String>> = self
            .0
            .workers
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
        let unlike = machines::sentences(&self.0.unlike_machines).map(|text| text + "\n");
        let excluded = self.0.workers.iter().flat_map(|w| &w.exclusions).map(|of| {
            let v1::Exclusion { study, worker, what, reason, .. } = of;
            format!("{worker} cannot {what} of {study}: {reason}\n")
        });
        table::render(&columns, &rows) + &excluded.chain(unlike).collect::<String>()
    }

    fn json(&self) -> impl Serialize {
        let worker = |w: &v1::WorkerStatus| {
            let mut document = json!({
                "worker": w.worker_id, "name": w.name, "device_class": w.device_class,
                "roles": roles(w), "engines": w.engines, "slots": w.slots, "backend": w.backend,
                "activity": w.activity, "silent_ms": w.silent_ms,
            });
            if !w.exclusions.is_empty() {
                document["exclusions"] = exclusions_json(&w.exclusions);
            }
            document
        };
        let all: Vec<_> = self.0.workers.iter().map(worker).collect();
        let mut document = json!({ "version": json::VERSION, "workers": all });
        if !self.0.unlike_machines.is_empty() {
            document["unlike_machines"] = machines::json(&self.0.unlike_machines);
        }
        document
    }
}

/// What a worker does, in words.
fn roles(worker: &v1::WorkerStatus) -> Vec<&'static str> {
    let name = |role| Role::try_from(role).map_or("unknown", Role::name);
    worker.roles().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::machines::tests::two_boards;

    #[test]
    fn what_a_worker_cannot_do_is_named_below_the_table() {
        let exclusion = v1::Exclusion {
            study: "s".to_owned(),
            worker_id: 3,
            worker: "a".to_owned(),
            what: "read the data".to_owned(),
            reason: "photos does not exist".to_owned(),
        };
        let worker = v1::WorkerStatus { exclusions: vec![exclusion], ..Default::default() };
        let workers =
            Workers(v1::ListWorkersResponse { workers: vec![worker], ..Default::default() }, true);
        let text = workers.table();
        assert!(text.ends_with("a cannot read the data of s: photos does not exist\n"), "{text}");
        let document = serde_json::to_value(workers.json()).unwrap();
        assert_eq!(document["workers"][0]["exclusions"][0]["study"], "s");
    }

    #[test]
    fn machines_that_differ_are_named_below_the_table() {
        let document = |workers: &Workers| serde_json::to_value(workers.json()).unwrap();
        let mut workers = Workers(v1::ListWorkersResponse::default(), true);
        assert!(workers.table().starts_with("no worker is connected; start one"));
        workers.1 = false;
        assert!(workers.table().starts_with("no coordinator runs"));
        workers.0.workers.push(v1::WorkerStatus::default());
        assert!(!workers.table().contains("unlike"));
        assert!(document(&workers).get("unlike_machines").is_none());
        workers.0.unlike_machines.push(two_boards());
        assert!(workers.table().contains("\ndevice class rpi4 was measured on unlike machines"));
        assert_eq!(document(&workers)["unlike_machines"][0]["device_class"], "rpi4");
    }
}
