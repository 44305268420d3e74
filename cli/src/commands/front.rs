//! `edgesmith pareto`, and the summary that `search` and `submit --wait` end with: the front as a
//! table and a plot, next to the teacher and the best uncompressed network.

use std::fmt::Write as _;

use edgesmith_client::{Connection, Coordinator, from_status};
use edgesmith_common::spec::Workload;
use edgesmith_common::{DeviceClass, Measurement, Metric, StudySpec, TrainedTrial, TrialValues};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{Format, Output, invalid, print, print_text};
use edgesmith_proto::v1;
use serde::Serialize;

use crate::commands::cover;
use crate::output::TrialRow;
use crate::output::json;
use crate::output::marks::Marks;
use crate::output::scatter::{self, Point};

/// Which front, and which part of it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study name
    pub study: String,
    /// Only objectives on this device class, and those on none
    #[arg(long, value_name = "CLASS")]
    pub device: Option<String>,
    /// Only trials within this bound, such as 'latency_ms<=5'; may be repeated
    #[arg(long = "where", value_name = "BOUND")]
    pub filters: Vec<String>,
    /// At most K models that give every device named in --where one within its limits: the most accurate
    /// on average, and no more models than that takes
    #[arg(long, value_name = "K", conflicts_with = "device",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cover: Option<u32>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
    #[command(flatten)]
    pub connection: Connection,
}

/// Prints the front.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let (status, spec) = coordinator.study(&args.study).await?;
    if let Some(most) = args.cover {
        return cover::run(&coordinator, &spec, &args.filters, most, args.format).await;
    }
    let filtered = !args.filters.is_empty();
    let device = args.device.as_deref().map(str::parse::<DeviceClass>);
    let device = device.transpose().map_err(|e| invalid(format!("--device: {e}")))?;
    let request = v1::GetParetoFrontRequest {
        study: args.study.clone(),
        device: args.device.unwrap_or_default(),
        filters: args.filters,
    };
    let front = fetch_front(&coordinator, request, &spec).await?;
    let marks = Marks::new(&front, &spec, device.as_ref());
    let devices = devices(&spec, &front);
    let (study, complete) = (args.study, status.complete);
    print(&Front { study, front, marks, devices, complete, filtered }, args.format)
}

/// The trials that no other beats.
struct Front {
    study: String,
    front: Vec<TrialRow>,
    marks: Marks,
    /// Those with a column.
    devices: Vec<DeviceClass>,
    /// Complete trials of the study.
    complete: u32,
    /// Whether only a part was asked for.
    filtered: bool,
}

impl Output for Front {
    fn table(&self) -> String {
        match self.front.is_empty() {
            true => empty_front(self.complete, self.filtered),
            false => front_table(&self.front, &self.marks, &self.devices, &[]),
        }
    }

    fn json(&self) -> impl Serialize {
        json::Trials::front(&self.study, &self.front, &self.marks)
    }

    fn csv(&self) -> Option<String> {
        Some(json::csv(&self.front))
    }
}

/// Prints the front of a study with all that helps to judge it.
pub async fn print_summary(coordinator: &Coordinator, study: &str) -> anyhow::Result<()> {
    let (status, spec) = coordinator.study(study).await?;
    let request = v1::GetParetoFrontRequest { study: study.to_owned(), ..Default::default() };
    let front = fetch_front(coordinator, request, &spec).await?;
    if front.is_empty() {
        return print_text(&empty_front(status.complete, false));
    }
    let request = v1::ListTrialsRequest { study: study.to_owned() };
    let trials = coordinator.studies().list_trials(request).await.map_err(from_status)?;
    let all = rows(trials.into_inner().trials, &spec)?;

    let devices = devices(&spec, &front);
    let teacher = Reference::teacher(&status)?;
    let uncompressed = Reference::best_uncompressed(&all);
    let references: Vec<&Reference> = teacher.iter().chain(&uncompressed).collect();
    let complete = all.iter().filter(|t| t.values.is_some()).count();
    let mut text = format!(
        "\nPareto front of {study}: {} of {complete} candidates are beaten by no other\n\n",
        front.len()
    );
    let marks = Marks::new(&front, &spec, None);
    text.push_str(&front_table(&front, &marks, &devices, &references));
    text.push('\n');
    text.push_str(&plot(&front, &all, teacher.as_ref(), &devices));
    text.push_str(match spec.work {
        Workload::Train(_) => {
            "\nAccuracies and latencies are those of the model files in the edge runtime; a dash was \
             not measured.\n"
        }
        Workload::Table(_) => "\nAll figures are the table's; nothing was trained or timed here.\n",
    });
    print_text(&text)
}

/// Why a front has no points.
fn empty_front(complete: u32, filtered: bool) -> String {
    match (complete, filtered) {
        (0, _) => "no trial is complete yet\n".to_owned(),
        (1, false) => "the only complete trial does not meet the study's constraints\n".to_owned(),
        (n, false) => format!("none of {n} complete trials meets the study's constraints\n"),
        (n, true) => {
            format!("no complete trial of {n} is within these bounds and the study's constraints\n")
        }
    }
}

async fn fetch_front(
    coordinator: &Coordinator,
    request: v1::GetParetoFrontRequest,
    spec: &StudySpec,
) -> anyhow::Result<Vec<TrialRow>> {
    let answer = coordinator.studies().get_pareto_front(request).await.map_err(from_status)?;
    rows(answer.into_inner().trials, spec)
}

fn rows(trials: Vec<v1::Trial>, spec: &StudySpec) -> anyhow::Result<Vec<TrialRow>> {
    trials.into_iter().map(|t| TrialRow::new(t, spec)).collect()
}

/// The device classes that the study names; else those that anything was measured on.
fn devices(spec: &StudySpec, rows: &[TrialRow]) -> Vec<DeviceClass> {
    let mut devices = spec.devices();
    for (class, _) in rows.iter().filter_map(|r| r.values.as_ref()).flat_map(TrialValues::latencies)
    {
        if !devices.contains(class) {
            devices.push(class.clone());
        }
    }
    devices
}

/// A network that stands beside the front for comparison, as it was trained.
struct Reference {
    name: String,
    values: TrialValues,
    what: String,
}

impl Reference {
    fn teacher(status: &v1::StudyStatus) -> anyhow::Result<Option<Self>> {
        let Some(teacher) = &status.teacher else { return Ok(None) };
        let Some(trained) = &teacher.trained else { return Ok(None) };
        let trained = edgesmith_common::TrainedTrial::try_from(trained.clone())?;
        let measurements = teacher.measurements.iter().cloned().map(Measurement::try_from);
        Ok(Some(Self {
            name: "teacher".to_owned(),
            values: TrialValues::Trained {
                trained: Box::new(trained),
                measurements: measurements.collect::<Result<_, _>>()?,
            },
            what: teacher.architecture.clone(),
        }))
    }

    /// The most accurate network before compression; ties go to the smaller.
    fn best_uncompressed(all: &[TrialRow]) -> Option<Self> {
        let trained = all.iter().filter_map(|t| Some((t, t.values.as_ref()?.trained()?)));
        let (trial, trained) = trained.max_by(|(_, a), (_, b)| {
            let (a, b) = (&a.uncompressed, &b.uncompressed);
            let accuracy = a.validation_accuracy.total_cmp(&b.validation_accuracy);
            accuracy.then(b.model_bytes.cmp(&a.model_bytes))
        })?;
        let uncompressed = trained.uncompressed.clone();
        let as_trained = TrainedTrial { compressed: uncompressed, ..trained.clone() };
        Some(Self {
            name: format!("{} uncompressed", trial.number),
            values: TrialValues::Trained {
                trained: Box::new(as_trained),
                measurements: Vec::new(),
            },
            what: trial.architecture.clone(),
        })
    }
}

fn front_table(
    front: &[TrialRow],
    marks: &Marks,
    devices: &[DeviceClass],
    references: &[&Reference],
) -> String {
    let latency: Vec<String> = devices.iter().map(|d| format!("latency@{d}")).collect();
    let mut columns =
        vec![("trial", Align::Right), ("validation", Align::Right), ("test", Align::Right)];
    columns.extend(latency.iter().map(|name| (name.as_str(), Align::Right)));
    columns.extend([("size", Align::Right), ("MACs", Align::Right)]);
    columns.extend([("mark", Align::Left), ("recipe", Align::Left)]);
    columns.push(("architecture", Align::Left));
    let dash = || "–".to_owned();
    let row = |name: String, values: &TrialValues, mark: String, recipe: String, what: &str| {
        let value = |metric, device| values.value(metric, device);
        let mut cells = vec![
            name,
            table::percent(values.validation_accuracy()),
            values.test_accuracy().map_or_else(dash, table::percent),
        ];
        cells.extend(devices.iter().map(|device| {
            value(Metric::LatencyMs, Some(device)).map_or_else(dash, table::milliseconds)
        }));
        let bytes = value(Metric::ModelBytes, None);
        cells.push(bytes.map_or_else(dash, |bytes| table::bytes(bytes as u64)));
        let macs = value(Metric::Macs, None);
        cells.push(macs.map_or_else(dash, |macs| table::count(macs as u64)));
        cells.extend([mark, recipe, what.to_owned()]);
        cells
    };
    let trials = front.iter().enumerate().filter_map(|(place, t)| {
        let (values, mark) = (t.values.as_ref()?, marks.words(place));
        Some(row(t.number.to_string(), values, mark, t.recipe(), &t.architecture))
    });
    let beside = references
        .iter()
        .map(|r| row(r.name.clone(), &r.values, String::new(), "fp32".to_owned(), &r.what));
    let mut text = table::render(&columns, &trials.chain(beside).collect::<Vec<_>>());
    if (0..front.len()).any(|place| !marks.tied_with(place).is_empty()) {
        text.push_str(
            "≈ timing does not tell it from these: they differ by less than the spread of either\n",
        );
    }
    text
}

/// Validation accuracy against the first device's latency, or against size where nothing is timed.
fn plot(
    front: &[TrialRow],
    all: &[TrialRow],
    teacher: Option<&Reference>,
    devices: &[DeviceClass],
) -> String {
    let device = devices.first();
    let (metric, label) = match device {
        Some(device) => (Metric::LatencyMs, format!("latency on {device}, ms")),
        None => (Metric::ModelBytes, "model size, bytes".to_owned()),
    };
    let at = |row: &TrialRow, symbol| {
        let values = row.values.as_ref()?;
        let y = values.value(Metric::ValidationAccuracy, None)?;
        Some(Point { x: values.value(metric, device)?, y, symbol })
    };
    let mut points: Vec<Point> = all.iter().filter_map(|t| at(t, '.')).collect();
    let teacher_x = teacher.and_then(|t| match device {
        Some(device) => t.values.value(Metric::LatencyMs, Some(device)),
        None => t.values.value(Metric::ModelBytes, None),
    });
    if let (Some(teacher), Some(x)) = (teacher, teacher_x) {
        points.push(Point { x, y: teacher.values.validation_accuracy(), symbol: 'T' });
    }
    points.extend(front.iter().filter_map(|t| at(t, 'o')));
    let mut text = scatter::render(&points, &label, "validation accuracy", 64, 14);
    let legend = if teacher_x.is_some() { ", T the teacher" } else { "" };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  o on the front, . beaten{legend}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_front_is_explained() {
        assert_eq!(empty_front(0, false), "no trial is complete yet\n");
        assert_eq!(empty_front(0, true), "no trial is complete yet\n");
        let text = "none of 12 complete trials meets the study's constraints\n";
        assert_eq!(empty_front(12, false), text);
        assert!(empty_front(12, true).contains("within these bounds"));
    }
}
