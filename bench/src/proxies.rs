//! Measures how well zero-cost proxies predict the accuracy of a study's trials, compared with
//! arithmetic alone (MACs and parameters).
//!
//! Nothing is trained here. A finished study gives the accuracy of each candidate before
//! compression, and each candidate is scored with the weights that its training started from.
//! Trials that inherited weights are left out, because their accuracy is not that of a training
//! from scratch. The candidates should be a random sample (`algorithm.name = "random"`); otherwise
//! the search's choice biases the result.

use std::path::PathBuf;
use std::time::Instant;

use edgesmith_client::{Connection, Coordinator, TrialRow};
use edgesmith_common::spec::Proxy;
use edgesmith_common::{Purpose, TrialNumber, TrialValues};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, invalid, print};
use edgesmith_data::Dataset;
use edgesmith_graph::Graph;
use edgesmith_train::fresh_weights;
use edgesmith_worker::proxy;
use serde::Serialize;

use crate::correlation::{kendall, partial_spearman, spearman};

/// Number of candidates in a batch; the better half is kept.
const BATCH: usize = 8;

/// How well one proxy predicts.
#[derive(Debug, Serialize)]
struct Row {
    proxy: &'static str,
    kendall: f64,
    spearman: f64,
    /// With multiply-accumulates held fixed; `null` if the proxy orders by them.
    spearman_given_macs: Option<f64>,
    /// Share of batches whose most accurate candidate is kept. By chance it is 0.5, or more if
    /// several candidates share the first place.
    best_kept: f64,
    /// Mean accuracy of the kept candidates.
    accuracy_kept: f64,
    /// Time to score one candidate.
    milliseconds: f64,
}

#[derive(Debug, Serialize)]
struct Judged {
    version: u32,
    study: String,
    trials: usize,
    inherited: usize,
    mean_accuracy: f64,
    mean_training_seconds: f64,
    proxies: Vec<Row>,
}

/// Arguments: the study whose trials the proxies are compared with.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of a study with finished trials
    pub study: String,
    #[command(flatten)]
    pub connection: Connection,
    /// Base directory of relative data paths in the study [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
}

/// Scores the candidates and prints the comparison.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let (_, spec) = coordinator.study(&args.study).await?;
    let work = spec
        .training()
        .ok_or_else(|| invalid(format!("study {} does not train", args.study)))?
        .clone();
    let (mut candidates, mut inherited) = (Vec::new(), 0);
    for trial in coordinator.trials(&args.study).await? {
        let row = TrialRow::new(trial, &spec)?;
        let trained = row.values.as_ref().and_then(TrialValues::trained);
        let (Some(trained), Some(candidate)) = (trained, &row.candidate) else { continue };
        if row.inherits_from.is_some() {
            inherited += 1;
            continue;
        }
        let graph = candidate.graph(work.space.data())?;
        let seconds = trained.compressed.training_seconds();
        let Some(accuracy) = trained.uncompressed.validation_accuracy() else { continue };
        candidates.push(Candidate { number: TrialNumber(row.number), graph, accuracy, seconds });
    }
    if candidates.len() < BATCH {
        let (study, count) = (&args.study, candidates.len());
        return Err(invalid(format!(
            "study {study} has {count} trials that were trained from scratch; it needs at least {BATCH}"
        )));
    }
    let data_root = args.data_root.unwrap_or_else(|| PathBuf::from("."));
    let judged = tokio::task::spawn_blocking(move || -> anyhow::Result<Judged> {
        let dataset = Dataset::load(&work.data, work.space.data(), spec.seed, &data_root)
            .map_err(|error| invalid(error.to_string()))?;
        let seed = |number| spec.seed.derive(Purpose::Weights(number));
        let rows = Proxy::ALL.map(|proxy| row(proxy, &candidates, &dataset, &seed));
        let mean = |of: fn(&Candidate) -> f64| mean(candidates.iter().map(of));
        Ok(Judged {
            version: 1,
            study: spec.name.to_string(),
            trials: candidates.len(),
            inherited,
            mean_accuracy: mean(|candidate| candidate.accuracy),
            mean_training_seconds: mean(|candidate| candidate.seconds),
            proxies: rows.into(),
        })
    })
    .await??;
    print(&judged, args.format)
}

impl Output for Judged {
    fn table(&self) -> String {
        let columns = [
            ("proxy", Align::Left),
            ("Kendall", Align::Right),
            ("Spearman", Align::Right),
            ("given MACs", Align::Right),
            ("best kept", Align::Right),
            ("mean of kept", Align::Right),
            ("time", Align::Right),
        ];
        let line = |row: &Row| {
            let given =
                row.spearman_given_macs.map_or_else(|| "–".to_owned(), |r| format!("{r:.2}"));
            vec![
                row.proxy.to_owned(),
                format!("{:.2}", row.kendall),
                format!("{:.2}", row.spearman),
                given,
                table::percent(row.best_kept),
                table::percent(row.accuracy_kept),
                format!("{:.1} ms", row.milliseconds),
            ]
        };
        let lines: Vec<Vec<String>> = self.proxies.iter().map(line).collect();
        let (trials, seconds) = (self.trials, self.mean_training_seconds);
        let mut text = format!(
            "{trials} trials of {}, {} accurate on average, {seconds:.1} s of training each\n\n",
            self.study,
            table::percent(self.mean_accuracy)
        );
        if self.inherited > 0 {
            text.push_str(&format!(
                "{} trials that inherited weights are left out\n\n",
                self.inherited
            ));
        }
        text + &table::render(&columns, &lines)
    }

    fn json(&self) -> impl Serialize {
        self
    }
}

/// What is needed of a trained network here.
struct Candidate {
    number: TrialNumber,
    graph: Graph,
    accuracy: f64,
    seconds: f64,
}

fn row(
    proxy: Proxy,
    candidates: &[Candidate],
    dataset: &Dataset,
    seed: &dyn Fn(TrialNumber) -> [u8; 32],
) -> Row {
    let begun = Instant::now();
    let score = |candidate: &Candidate| {
        let weights = fresh_weights(&candidate.graph, seed(candidate.number));
        proxy::score(proxy, &candidate.graph, &weights, dataset)
    };
    let scores: Vec<f64> = candidates.iter().map(score).collect();
    let milliseconds = begun.elapsed().as_secs_f64() * 1e3 / candidates.len() as f64;
    let accuracies: Vec<f64> = candidates.iter().map(|candidate| candidate.accuracy).collect();
    let macs = |c: &Candidate| c.graph.total_macs() as f64;
    let macs: Vec<f64> = candidates.iter().map(macs).collect();
    let kept = kept(&scores, &accuracies);
    Row {
        proxy: proxy.name(),
        kendall: kendall(&scores, &accuracies),
        spearman: spearman(&scores, &accuracies),
        spearman_given_macs: partial_spearman(&scores, &accuracies, &macs),
        best_kept: kept.best,
        accuracy_kept: kept.accuracy,
        milliseconds,
    }
}

/// What is kept of all batches.
#[derive(Debug, PartialEq)]
struct Kept {
    best: f64,
    accuracy: f64,
}

/// Keeps the better half of each full batch, by score.
fn kept(scores: &[f64], accuracies: &[f64]) -> Kept {
    let (mut best, mut all) = (Vec::new(), Vec::new());
    for (scores, accuracies) in scores.chunks_exact(BATCH).zip(accuracies.chunks_exact(BATCH)) {
        let mut order: Vec<usize> = (0..BATCH).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let kept: Vec<f64> = order[..BATCH / 2].iter().map(|place| accuracies[*place]).collect();
        let most = accuracies.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        best.push(f64::from(u8::from(kept.contains(&most))));
        all.extend(kept);
    }
    Kept { best: mean(best.into_iter()), accuracy: mean(all.into_iter()) }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_half_of_each_full_batch_is_kept() {
        let accuracies: Vec<f64> = (0..17).map(|i| f64::from(i % 8) / 10.0).collect();
        // 0.4 to 0.7 are kept; the last candidate is not in a full batch.
        let by_accuracy = kept(&accuracies, &accuracies);
        assert_eq!(by_accuracy.best, 1.0);
        assert!((by_accuracy.accuracy - 0.55).abs() < 1e-12);
        let turned: Vec<f64> = accuracies.iter().map(|accuracy| -accuracy).collect();
        let worst = kept(&turned, &accuracies);
        assert_eq!(worst.best, 0.0);
        assert!((worst.accuracy - 0.15).abs() < 1e-12);
    }
}
