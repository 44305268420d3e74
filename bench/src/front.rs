//! Measures how fast a study reaches a good front: its hypervolume over wall time, from scratch.
//!
//! The study runs as under `edgesmith search`: coordinator and workers are in this process, with a
//! real connection and a real store in a temporary directory. The clock starts before the
//! coordinator does. `tests/compare_front.py` does the same with Optuna and PyTorch.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgesmith_client::{Backend, Coordinator, Submission, TrialRow, is_over};
use edgesmith_common::metric::{Scale, Unit};
use edgesmith_common::{Objective, StudySpec, pareto};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{ListFormat, Output, invalid, number, print, start};
use edgesmith_coordinator::service::{LocalCoordinator, Visibility};
use edgesmith_proto::v1;
use edgesmith_worker::session::{self, WorkerConfig};
use edgesmith_worker::slots::Slots;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Pause between two queries of the trials.
const GLANCE: Duration = Duration::from_millis(250);
/// Number of rows in the table.
const ROWS: usize = 10;

/// Arguments: which study, and when to end it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study file
    pub study: PathBuf,
    /// Reference point: the worst value that counts for each objective, as METRIC=VALUE or
    /// METRIC@DEVICE=VALUE
    #[arg(long, value_name = "METRIC=VALUE", value_delimiter = ',', required = true)]
    pub reference: Vec<String>,
    /// End when the hypervolume reaches this value
    #[arg(long, value_name = "HYPERVOLUME",
          allow_negative_numbers = true, value_parser = number::above_zero)]
    pub until: Option<f64>,
    /// End after this many minutes
    #[arg(long, allow_negative_numbers = true, value_parser = number::above_zero)]
    pub minutes: Option<f64>,
    /// Number of trials that are trained at once, or `auto`, as for `search`
    #[arg(long, value_name = "N|auto", allow_negative_numbers = true)]
    pub slots: Option<Slots>,
    /// Device that trains
    #[arg(long, default_value = "flex", value_enum)]
    pub backend: Backend,
    /// Base directory of relative data paths in the study [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// How to print; json contains every trial
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
}

/// Runs the study and prints how its front grew.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let submission = Submission::read(&args.study)?;
    let spec = submission.spec.clone();
    let area = Area::new(&spec.objectives, &args.reference)?;
    let allowed = allowed(args.minutes)?;
    let executor =
        edgesmith_client::pipeline(Some(args.backend), "local", args.data_root.clone(), None)?;
    let directory = tempfile::tempdir()
        .map_err(|e| anyhow::anyhow!("failed to make a directory for the study: {e}"))?;
    let shutdown = start::shutdown_on_signal()?;

    let clock = Instant::now();
    let local = LocalCoordinator::start(directory.path(), Visibility::Private).await?;
    let coordinator = Coordinator::connect_to_local(&local).await?;
    submission.submit(&coordinator).await?;
    let trained_by = spec.training().is_some().then_some(args.backend);
    let slots = edgesmith_client::slots(args.slots, trained_by).await?;
    let backend = args.backend.name();
    let config = WorkerConfig::local(local.url(), executor.info(), &spec.work, slots, backend);
    let stop_workers = CancellationToken::new();
    let _stop_workers = stop_workers.clone().drop_guard();
    let mut workers = tokio::spawn(session::run(config, Arc::new(executor), stop_workers.clone()));
    let mut growth =
        Growth { area, spec, until: args.until, arrivals: Vec::new(), hypervolume: 0.0 };
    let seen = tokio::select! {
        seen = growth.watch(&coordinator, clock) => seen,
        // The workers' session ends by itself only if it cannot continue.
        failed = &mut workers => failed?.map_err(Into::into),
        () = tokio::time::sleep(allowed) => Ok(()),
        () = shutdown.cancelled() => Ok(()),
    };
    let took = clock.elapsed();
    stop_workers.cancel();
    if !workers.is_finished() {
        workers.await??;
    }
    local.shut_down().await?;
    seen?;
    print(&Grown { growth: &growth, took }, args.format)?;
    if shutdown.is_cancelled() {
        eprintln!("stopped before the study ended");
        return Ok(ExitCode::from(130));
    }
    Ok(ExitCode::SUCCESS)
}

fn allowed(minutes: Option<f64>) -> anyhow::Result<Duration> {
    let Some(minutes) = minutes else { return Ok(Duration::MAX) };
    let allowed = Duration::try_from_secs_f64(60.0 * minutes);
    let allowed = allowed.ok().filter(|allowed| !allowed.is_zero());
    allowed.ok_or_else(|| {
        invalid(format!("--minutes {minutes} is not a valid time; use 10, for example"))
    })
}

/// The region that counts for the hypervolume: everything better than a reference point.
#[derive(Debug, PartialEq)]
struct Area {
    objectives: Vec<Objective>,
    /// The worst value that counts, one per objective, in the metric's unit.
    worst: Vec<f64>,
}

impl Area {
    /// Reads `METRIC=VALUE` or `METRIC@DEVICE=VALUE`, one for each objective.
    ///
    /// # Errors
    /// All mistakes in the references, in one message.
    fn new(objectives: &[Objective], references: &[String]) -> anyhow::Result<Self> {
        let mut worst = vec![None; objectives.len()];
        let mut named = vec![false; objectives.len()];
        let mut mistakes = Vec::new();
        let known: Vec<String> = objectives.iter().map(ToString::to_string).collect();
        for text in references {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            let place = known.iter().position(|known| known == name);
            place.into_iter().for_each(|place| named[place] = true);
            let value = value.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0);
            match (place, value) {
                (Some(place), Some(value))
                    if value >= 1.0
                        && objectives[place].of.metric.definition().unit == Unit::Share =>
                {
                    mistakes.push(format!(
                        "{text:?} is not a share below 1; write 70 % as {name}=0.7, for example"
                    ));
                }
                (Some(place), Some(value)) => {
                    if worst[place].replace(value).is_some() {
                        mistakes.push(format!("{name} is given twice"));
                    }
                }
                (None, _) => mistakes.push(format!(
                    "{name:?} is not an objective of the study; it has {}",
                    known.join(" and ")
                )),
                (_, None) => mistakes.push(format!(
                    "{text:?} has no positive number; write {name}=0.5, for example"
                )),
            }
        }
        for (name, _) in known.iter().zip(&named).filter(|(_, named)| !**named) {
            mistakes.push(format!("{name} has no reference; add {name}=VALUE"));
        }
        if mistakes.is_empty() {
            let worst = worst.into_iter().flatten().collect();
            return Ok(Self { objectives: objectives.to_vec(), worst });
        }
        Err(invalid(format!("--reference: {}", mistakes.join("; "))))
    }

    /// The hypervolume of points in the objectives' units.
    fn hypervolume(&self, points: &[Vec<f64>]) -> f64 {
        let beyond = |point: &Vec<f64>| -> Vec<f64> {
            let parts = self.objectives.iter().zip(point).zip(&self.worst);
            parts.map(|((objective, value), worst)| -gain(objective, *value, *worst)).collect()
        };
        let turned: Vec<Vec<f64>> = points.iter().map(beyond).collect();
        pareto::hypervolume(&turned, &vec![0.0; self.objectives.len()])
    }
}

/// How much better a value is than the worst one that counts: in shares for accuracy, in powers of
/// ten for other metrics. Negative if it is worse.
fn gain(objective: &Objective, value: f64, worst: f64) -> f64 {
    let more = match objective.of.metric.definition().scale {
        Scale::Linear { .. } => value - worst,
        Scale::Logarithmic { .. } => (value.max(f64::MIN_POSITIVE) / worst).log10(),
    };
    -objective.goal.oriented(more)
}

/// A complete trial, as it arrived.
#[derive(Debug, Serialize)]
struct Arrival {
    trial: u32,
    /// Seconds since the clock started.
    at: f64,
    /// One value per objective, in its unit.
    values: Vec<f64>,
    /// Number of images that its training used.
    images: u64,
    /// Hypervolume of the front including this trial.
    hypervolume: f64,
}

/// A study's complete trials in the order of arrival.
struct Growth {
    area: Area,
    spec: StudySpec,
    /// The hypervolume at which to stop.
    until: Option<f64>,
    arrivals: Vec<Arrival>,
    hypervolume: f64,
}

impl Growth {
    /// Watches until the study has ended, or its front is good enough.
    async fn watch(&mut self, coordinator: &Coordinator, clock: Instant) -> anyhow::Result<()> {
        let study = self.spec.name.to_string();
        loop {
            let request = v1::GetStudyRequest { study: study.clone() };
            let status = coordinator.query(coordinator.studies().get_study(request)).await?;
            if status.complete as usize > self.arrivals.len() {
                let trials = coordinator.trials(&study).await?;
                self.arrive(trials, clock.elapsed())?;
                eprintln!(
                    "{:>8}  {:>5} trials  hypervolume {:.4}",
                    table::duration(clock.elapsed().as_secs_f64()),
                    self.arrivals.len(),
                    self.hypervolume
                );
            }
            let enough = self.until.is_some_and(|until| self.hypervolume >= until);
            if enough || is_over(status.state()) {
                return Ok(());
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    fn arrive(&mut self, trials: Vec<v1::Trial>, at: Duration) -> anyhow::Result<()> {
        for trial in trials {
            let (complete, number) = (trial.state() == v1::TrialState::Complete, trial.number);
            if !complete || self.arrivals.iter().any(|known| known.trial == number) {
                continue;
            }
            let row = TrialRow::new(trial, &self.spec)?;
            let Some(values) = &row.values else { continue };
            let of = |objective: &Objective| {
                values.get(&objective.of).ok_or_else(|| {
                    anyhow::anyhow!("trial {number} is complete but has no {objective}")
                })
            };
            let values_of: Vec<f64> =
                self.spec.objectives.iter().map(of).collect::<anyhow::Result<_>>()?;
            let images = values.figures().images_seen().unwrap_or(0);
            let mut points: Vec<Vec<f64>> =
                self.arrivals.iter().map(|a| a.values.clone()).collect();
            points.push(values_of.clone());
            self.hypervolume = self.area.hypervolume(&points);
            let hypervolume = self.hypervolume;
            let at = at.as_secs_f64();
            self.arrivals.push(Arrival {
                trial: number,
                at,
                values: values_of,
                images,
                hypervolume,
            });
        }
        Ok(())
    }

    /// Seconds until the hypervolume reached `goal`; `None` if it did not.
    fn reached(&self, goal: f64) -> Option<f64> {
        self.arrivals.iter().find(|arrival| arrival.hypervolume >= goal).map(|arrival| arrival.at)
    }
}

/// How a front grew over the whole run.
struct Grown<'a> {
    growth: &'a Growth,
    took: Duration,
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    objectives: Vec<String>,
    reference: &'a [f64],
    seconds: f64,
    hypervolume: f64,
    /// Seconds until `--until` was reached; `null` if it was not reached or not given.
    reached_after: Option<f64>,
    trials: &'a [Arrival],
}

impl Output for Grown<'_> {
    fn table(&self) -> String {
        let took = self.took.as_secs_f64();
        let columns = ["time", "trials", "images", "hypervolume"].map(|name| (name, Align::Right));
        let row = |i: usize| {
            let at = took * i as f64 / ROWS as f64;
            let there = self.growth.arrivals.iter().filter(|arrival| arrival.at <= at);
            let images: u64 = there.clone().map(|arrival| arrival.images).sum();
            let volume = there.clone().next_back().map_or(0.0, |arrival| arrival.hypervolume);
            vec![
                table::duration(at),
                there.count().to_string(),
                table::count(images),
                format!("{volume:.4}"),
            ]
        };
        let rows: Vec<Vec<String>> = (1..=ROWS).map(row).collect();
        let mut text = table::render(&columns, &rows);
        if let Some(goal) = self.growth.until {
            text.push_str(&match self.growth.reached(goal) {
                Some(at) => format!("\nreached {goal} after {at:.1} s\n"),
                None => format!("\ndid not reach {goal}\n"),
            });
        }
        text
    }

    fn json(&self) -> impl Serialize {
        let growth = self.growth;
        Document {
            version: 1,
            objectives: growth.spec.objectives.iter().map(ToString::to_string).collect(),
            reference: &growth.area.worst,
            seconds: self.took.as_secs_f64(),
            hypervolume: growth.hypervolume,
            reached_after: growth.until.and_then(|goal| growth.reached(goal)),
            trials: &growth.arrivals,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(references: &[&str]) -> anyhow::Result<Area> {
        let text = "study.name = \"s\"\ndata.source = \"digits\"\nbudget.trials = 1\n\
                    objectives = [{ metric = \"validation_accuracy\" }, { metric = \"macs\" }, \
                    { metric = \"latency_ms\", device = \"pi\" }]\n\
                    space = { resolution = 8, stem_width = 8, stages = [{ width = 16 }] }\n";
        let references: Vec<String> = references.iter().map(|text| (*text).to_owned()).collect();
        Area::new(&StudySpec::parse(text).unwrap().objectives, &references)
    }

    #[test]
    fn gains_over_the_reference_count_in_shares_and_powers_of_ten() {
        let area = area(&["macs=1e6", "validation_accuracy=0.7", "latency_ms@pi=10"]).unwrap();
        assert_eq!(area.worst, [0.7, 1e6, 10.0]);
        let one = vec![0.8, 1e4, 1.0];
        assert!((area.hypervolume(std::slice::from_ref(&one)) - 0.1 * 2.0 * 1.0).abs() < 1e-12);
        let two = vec![0.9, 1e5, 1.0];
        let both = 0.1 * 2.0 + 0.1 * 1.0;
        assert!((area.hypervolume(&[one, two]) - both).abs() < 1e-12);
        for nothing in [[0.7, 1e4, 1.0], [0.8, 1e6, 1.0], [0.8, 1e4, 11.0]] {
            assert_eq!(area.hypervolume(&[nothing.to_vec()]), 0.0);
        }
    }

    #[test]
    fn all_mistakes_in_references_are_reported() {
        let given = ["macs=1e6", "macs=2", "size=3", "latency_ms@pi=often"];
        assert_eq!(
            area(&given).unwrap_err().to_string(),
            "--reference: macs is given twice; \"size\" is not an objective of the study; it has \
             validation_accuracy and macs and latency_ms@pi; \"latency_ms@pi=often\" has no positive \
             number; write latency_ms@pi=0.5, for example; validation_accuracy has no reference; add \
             validation_accuracy=VALUE"
        );
        let lacking = area(&["macs=1e6"]).unwrap_err().to_string();
        assert!(lacking.contains("latency_ms@pi has no reference; add latency_ms@pi=VALUE"));
        let given = ["macs=1e6", "validation_accuracy=70", "latency_ms@pi=1"];
        assert_eq!(
            area(&given).unwrap_err().to_string(),
            "--reference: \"validation_accuracy=70\" is not a share below 1; write 70 % as \
             validation_accuracy=0.7, for example"
        );
        for minutes in [-1.0, 0.0, f64::NAN] {
            assert!(allowed(Some(minutes)).is_err(), "{minutes}");
        }
    }
}
