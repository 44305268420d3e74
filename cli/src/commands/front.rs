//! `edgesmith pareto`, and the summary that `search` and `submit --wait` end with: the front as a
//! table and a plot, next to the teacher and the best uncompressed network.

use std::fmt::Write as _;

use edgesmith_common::{DeviceClass, Measurement, Metric, NetworkReport, StudySpec};
use edgesmith_proto::v1;

use crate::args::{Format, ParetoArgs};
use crate::connect::Coordinator;
use crate::failure::from_status;
use crate::output::json;
use crate::output::scatter::{self, Point};
use crate::output::table::{self, Align};
use crate::output::{TrialRow, print, print_json};

/// Prints the front.
pub async fn run(args: ParetoArgs) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let (_, spec) = coordinator.study(&args.study).await?;
    let request = v1::GetParetoFrontRequest {
        study: args.study.clone(),
        device: args.device.unwrap_or_default(),
        filters: args.filters,
    };
    let front = fetch_front(&coordinator, request, &spec).await?;
    match args.format {
        Format::Table if front.is_empty() => {
            print("no complete trial is within these bounds yet\n")?;
        }
        Format::Table => print(&front_table(&front, &devices(&spec, &front), &[]))?,
        Format::Json => print_json(&json::Trials::new(&args.study, &front))?,
        Format::Csv => print(&json::csv(&front))?,
    }
    Ok(())
}

/// Prints the front of a study with all that helps to judge it.
pub async fn print_summary(coordinator: &Coordinator, study: &str) -> anyhow::Result<()> {
    let (status, spec) = coordinator.study(study).await?;
    let request = v1::GetParetoFrontRequest { study: study.to_owned(), ..Default::default() };
    let front = fetch_front(coordinator, request, &spec).await?;
    if front.is_empty() {
        return print("no trial is complete yet\n");
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
        "\nPareto front of {study}: {} of {complete} trained candidates are beaten by no other\n\n",
        front.len()
    );
    text.push_str(&front_table(&front, &devices, &references));
    text.push('\n');
    text.push_str(&plot(&front, &all, teacher.as_ref(), &devices));
    text.push_str(
        "\nAccuracies and latencies are those of the model files in the edge runtime; a dash was not \
         measured.\n",
    );
    print(&text)
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
    for m in rows.iter().filter_map(|r| r.values.as_ref()).flat_map(|v| &v.measurements) {
        if !devices.contains(&m.device.class) {
            devices.push(m.device.class.clone());
        }
    }
    devices
}

/// A network that stands beside the front for comparison.
struct Reference {
    name: String,
    report: NetworkReport,
    measurements: Vec<Measurement>,
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
            report: trained.compressed,
            measurements: measurements.collect::<Result<_, _>>()?,
            what: teacher.architecture.clone(),
        }))
    }

    /// The most accurate network before compression; ties go to the smaller.
    fn best_uncompressed(all: &[TrialRow]) -> Option<Self> {
        let trained =
            all.iter().filter_map(|t| Some((t, &t.values.as_ref()?.trained.uncompressed)));
        let (trial, report) = trained.max_by(|(_, a), (_, b)| {
            let accuracy = a.validation_accuracy.total_cmp(&b.validation_accuracy);
            accuracy.then(b.model_bytes.cmp(&a.model_bytes))
        })?;
        Some(Self {
            name: format!("{} uncompressed", trial.number),
            report: report.clone(),
            measurements: Vec::new(),
            what: trial.candidate.architecture.to_string(),
        })
    }
}

fn front_table(front: &[TrialRow], devices: &[DeviceClass], references: &[&Reference]) -> String {
    let latency: Vec<String> = devices.iter().map(|d| format!("latency@{d}")).collect();
    let mut columns =
        vec![("trial", Align::Right), ("validation", Align::Right), ("test", Align::Right)];
    columns.extend(latency.iter().map(|name| (name.as_str(), Align::Right)));
    columns.extend([("size", Align::Right), ("MACs", Align::Right)]);
    columns.extend([("recipe", Align::Left), ("architecture", Align::Left)]);
    let row = |name: String, report: &NetworkReport, measured: &[Measurement], recipe, what| {
        let mut cells = vec![
            name,
            table::percent(report.validation_accuracy),
            table::percent(report.test_accuracy),
        ];
        cells.extend(devices.iter().map(|device| {
            let on = measured.iter().find(|m| m.device.class == *device);
            on.map_or_else(|| "–".to_owned(), |m| table::milliseconds(m.p50_ms))
        }));
        cells.extend([table::bytes(report.model_bytes), table::count(report.cost.macs)]);
        cells.extend([recipe, what]);
        cells
    };
    let trials = front.iter().filter_map(|t| {
        let values = t.values.as_ref()?;
        Some(row(
            t.number.to_string(),
            &values.trained.compressed,
            &values.measurements,
            t.candidate.recipe.to_string(),
            t.candidate.architecture.to_string(),
        ))
    });
    let beside = references.iter().map(|r| {
        row(r.name.clone(), &r.report, &r.measurements, "fp32".to_owned(), r.what.clone())
    });
    table::render(&columns, &trials.chain(beside).collect::<Vec<_>>())
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
        Some(device) => t.measurements.iter().find(|m| m.device.class == *device).map(|m| m.p50_ms),
        None => Some(t.report.model_bytes as f64),
    });
    if let (Some(teacher), Some(x)) = (teacher, teacher_x) {
        points.push(Point { x, y: teacher.report.validation_accuracy, symbol: 'T' });
    }
    points.extend(front.iter().filter_map(|t| at(t, 'o')));
    let mut text = scatter::render(&points, &label, "validation accuracy", 64, 14);
    let legend = if teacher_x.is_some() { ", T the teacher" } else { "" };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  o on the front, . beaten{legend}");
    text
}
