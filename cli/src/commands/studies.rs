//! `edgesmith studies`.

use edgesmith_client::{Connection, Coordinator, from_status};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, print};
use edgesmith_proto::v1;
use serde::Serialize;
use serde_json::json;

use crate::commands::status::status_json;
use crate::output::json;
use crate::output::progress::state_name;

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
    let answer = coordinator.studies().list_studies(v1::ListStudiesRequest {}).await;
    print(&Studies(answer.map_err(from_status)?.into_inner().studies), args.format)
}

struct Studies(Vec<v1::StudyStatus>);

impl Output for Studies {
    fn table(&self) -> String {
        let columns = [
            ("study", Align::Left),
            ("state", Align::Left),
            ("trials", Align::Right),
            ("front", Align::Right),
            ("best", Align::Right),
            ("algorithm", Align::Left),
        ];
        let rows: Vec<Vec<String>> = self
            .0
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
        table::render(&columns, &rows)
    }

    fn json(&self) -> impl Serialize {
        let all: Vec<_> = self.0.iter().map(status_json).collect();
        json!({ "version": json::VERSION, "studies": all })
    }
}
