//! `edgesmith workers`.

use edgesmith_client::{Connection, Coordinator, from_status};
use edgesmith_common::Role;
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, print};
use edgesmith_proto::v1;
use serde::Serialize;
use serde_json::json;

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

/// Lists workers.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let answer = coordinator.studies().list_workers(v1::ListWorkersRequest {}).await;
    print(&Workers(answer.map_err(from_status)?.into_inner().workers), args.format)
}

struct Workers(Vec<v1::WorkerStatus>);

impl Output for Workers {
    fn table(&self) -> String {
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
        table::render(&columns, &rows)
    }

    fn json(&self) -> impl Serialize {
        let worker = |w: &v1::WorkerStatus| {
            json!({
                "worker": w.worker_id, "name": w.name, "device_class": w.device_class,
                "roles": roles(w), "engines": w.engines, "slots": w.slots, "backend": w.backend,
                "activity": w.activity, "silent_ms": w.silent_ms,
            })
        };
        let all: Vec<_> = self.0.iter().map(worker).collect();
        json!({ "version": json::VERSION, "workers": all })
    }
}

/// What a worker does, in words.
fn roles(worker: &v1::WorkerStatus) -> Vec<&'static str> {
    let name = |role| Role::try_from(role).map_or("unknown", Role::name);
    worker.roles().map(name).collect()
}
