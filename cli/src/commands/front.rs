//! `edgesmith pareto`, and the summary at the end of `search` and `submit --wait`: the front as a
//! table and a plot, with the teacher and an uncompressed network for comparison.

use std::fmt::Write as _;

use edgesmith_client::{Connection, Coordinator};
use edgesmith_common::spec::Workload;
use edgesmith_common::{
    DeviceClass, Figures, Filter, Measurement, Metric, ScopedMetric, StudySpec, TrainedTrial,
    TrialState, TrialValues,
};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{Format, Output, invalid, number, print, print_text};
use edgesmith_proto::v1;
use serde::Serialize;

use crate::commands::cover;
use crate::commands::status::constraint;
use crate::output::columns::{Columns, noisy_legend, right};
use crate::output::marks::Marks;
use crate::output::scatter::{self, Point};
use crate::output::{TrialRow, counted, json};

/// Arguments: which front, and which part of it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study name
    pub study: String,
    /// Only objectives on this device class and objectives that are not tied to a device
    #[arg(long, value_name = "CLASS")]
    pub device: Option<String>,
    /// Only trials within this bound, for example 'latency_ms<=5'; may be repeated
    #[arg(long = "where", value_name = "BOUND")]
    pub filters: Vec<String>,
    /// At most K models such that every device named in --where has one within its limits. They are
    /// the most accurate on average, and as few as that accuracy needs
    #[arg(long, value_name = "K", conflicts_with = "device", allow_negative_numbers = true,
          value_parser = number::whole(1..=64_u32))]
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
    let filters = args.filters.clone();
    let device = args.device.as_deref().map(str::parse::<DeviceClass>);
    let device = device.transpose().map_err(|e| invalid(format!("--device: {e}")))?;
    let request = v1::GetParetoFrontRequest {
        study: args.study.clone(),
        device: args.device.unwrap_or_default(),
        filters: args.filters,
        ..Default::default()
    };
    let front = fetch_front(&coordinator, request, &spec).await?;
    let marks = Marks::new(&front, &spec, device.as_ref());
    let columns = columns(&spec, &front);
    let why = if front.is_empty() {
        let all = rows(coordinator.trials(&args.study).await?, &spec)?;
        why_empty(&all, &filters, &status.constraints)?
    } else {
        String::new()
    };
    if !why.is_empty() && args.format != Format::Table {
        // The answer is for programs; the reason is for people.
        eprint!("{why}");
    }
    print(&Front { study: args.study, front, marks, columns, why }, args.format)
}

/// The trials on the front: no other trial beats them.
struct Front {
    study: String,
    front: Vec<TrialRow>,
    marks: Marks,
    columns: Columns,
    /// Why it is empty, in words; empty if it is not.
    why: String,
}

impl Output for Front {
    fn table(&self) -> String {
        if self.front.is_empty() {
            self.why.clone()
        } else {
            front_table(&self.front, &self.marks, &self.columns, &References::default())
        }
    }

    fn json(&self) -> impl Serialize {
        json::Trials::front(&self.study, &self.front, &self.marks)
    }

    fn csv(&self) -> Option<String> {
        Some(json::csv(&self.front))
    }
}

/// Prints the front of a study with what helps to judge it: references and a plot.
pub async fn print_summary(coordinator: &Coordinator, study: &str) -> anyhow::Result<()> {
    let (status, spec) = coordinator.study(study).await?;
    let request = v1::GetParetoFrontRequest { study: study.to_owned(), ..Default::default() };
    let front = fetch_front(coordinator, request, &spec).await?;
    let all = rows(coordinator.trials(study).await?, &spec)?;
    if front.is_empty() {
        return print_text(&why_empty(&all, &[], &status.constraints)?);
    }

    let teacher = Reference::teacher(&status)?;
    let references = References {
        teacher: teacher.as_ref(),
        uncompressed: Reference::best_uncompressed(&front),
    };
    let complete = all.iter().filter(|t| t.values.is_some()).count();
    let mut text = format!(
        "\nPareto front of {study}: {} of {} {} beaten by no other\n\n",
        front.len(),
        counted(complete, "candidate"),
        if front.len() == 1 { "is" } else { "are" }
    );
    let marks = Marks::new(&front, &spec, None);
    text.push_str(&front_table(&front, &marks, &columns(&spec, &front), &references));
    text.push('\n');
    text.push_str(&plot(&front, &all, teacher.as_ref(), &spec));
    text.push_str(match spec.work {
        Workload::Train(_) => {
            "\nAccuracies and latencies are those of the model files in the edge runtime; a dash was \
             not measured.\n"
        }
        Workload::Table(_) => "\nAll figures are the table's; nothing was trained or timed here.\n",
    });
    print_text(&text)
}

/// Explains why a front has no points: a bound may be on a figure that no trial has. Constraints
/// are explained as `status` does.
fn why_empty(
    all: &[TrialRow],
    filters: &[String],
    constraints: &[v1::ConstraintStatus],
) -> anyhow::Result<String> {
    let complete = all.iter().filter(|row| row.state == TrialState::Complete);
    let complete: Vec<&TrialValues> = complete.filter_map(|row| row.values.as_ref()).collect();
    let unknown = if complete.is_empty() { Vec::new() } else { unknown(&complete, filters)? };
    if unknown.is_empty() {
        let constraints = constraints.iter().map(|of| format!("constraint {}\n", constraint(of)));
        let why = empty_front(complete.len(), !filters.is_empty());
        return Ok(why + &constraints.collect::<String>());
    }
    Ok(unknown.iter().map(|bound| no_figure(bound, &complete) + "\n").collect())
}

/// The bounds on figures that none of these trials has.
fn unknown<'a>(trials: &[&TrialValues], bounds: &'a [String]) -> anyhow::Result<Vec<&'a str>> {
    let mut unknown = Vec::new();
    for bound in bounds {
        let filter: Filter = bound.parse().map_err(|e| invalid(format!("{e}")))?;
        if !trials.iter().any(|values| filter.concerns(values.figures())) {
            unknown.push(bound.as_str());
        }
    }
    Ok(unknown)
}

/// Says that no trial has the figure of a bound, and where latencies are known.
pub fn no_figure(bound: &str, complete: &[&TrialValues]) -> String {
    let mut targets: Vec<String> = complete
        .iter()
        .flat_map(|values| values.latencies())
        .map(|(target, _)| target.to_string())
        .collect();
    targets.sort();
    targets.dedup();
    let known = if targets.is_empty() {
        "no latencies are known".to_owned()
    } else {
        format!("latencies are known on {}", targets.join(", "))
    };
    format!("no complete trial has the figure of the bound '{bound}' ({known})")
}

/// Explains why a front has no points, where all bounds are on figures that trials have.
fn empty_front(complete: usize, filtered: bool) -> String {
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
    rows(coordinator.front(request).await?, spec)
}

fn rows(trials: Vec<v1::Trial>, spec: &StudySpec) -> anyhow::Result<Vec<TrialRow>> {
    trials.into_iter().map(|t| TrialRow::new(t, spec)).collect()
}

/// The columns of a front: accuracies, latencies, model size and MACs, and the other metrics of the
/// study.
fn columns(spec: &StudySpec, rows: &[TrialRow]) -> Columns {
    let first = vec![ScopedMetric::VALIDATION_ACCURACY, ScopedMetric::TEST_ACCURACY];
    Columns::new(first, spec, rows, [Metric::MODEL_BYTES, Metric::MACS].map(Metric::whole).to_vec())
}

/// A network that is shown beside the front for comparison.
struct Reference {
    name: String,
    values: TrialValues,
    what: String,
}

/// The networks that are shown for comparison.
#[derive(Default)]
struct References<'a> {
    teacher: Option<&'a Reference>,
    /// A network before compression, shown below the trial that it became.
    uncompressed: Option<(u32, Reference)>,
}

impl Reference {
    fn teacher(status: &v1::StudyStatus) -> anyhow::Result<Option<Self>> {
        let Some(teacher) = &status.teacher else { return Ok(None) };
        let Some(trained) = &teacher.trained else { return Ok(None) };
        let trained = edgesmith_common::TrainedTrial::try_from(trained.clone())?;
        let measurements = teacher.measurements.iter().cloned().map(Measurement::try_from);
        Ok(Some(Self {
            name: "teacher".to_owned(),
            values: TrialValues::measured(trained, measurements.collect::<Result<_, _>>()?),
            what: teacher.architecture.clone(),
        }))
    }

    /// The most accurate network before compression of the trials on the front, with the number of
    /// its trial; of equally accurate ones, the smaller. Trials that were not compressed do not
    /// count: their own row says the same.
    fn best_uncompressed(front: &[TrialRow]) -> Option<(u32, Self)> {
        let trained = front.iter().filter_map(|t| Some((t, t.values.as_ref()?.trained()?)));
        let bytes = |figures: &Figures| figures.get(&Metric::MODEL_BYTES.whole());
        let compressed = trained.filter(|(_, t)| bytes(&t.compressed) != bytes(&t.uncompressed));
        let (trial, trained) = compressed.max_by(|(_, a), (_, b)| {
            let accuracy = |trained: &TrainedTrial| {
                trained.uncompressed.validation_accuracy().unwrap_or(f64::NEG_INFINITY)
            };
            let size =
                |trained: &TrainedTrial| bytes(&trained.uncompressed).unwrap_or(f64::INFINITY);
            accuracy(a).total_cmp(&accuracy(b)).then(size(b).total_cmp(&size(a)))
        })?;
        let reference = Self {
            name: format!("{} uncompressed", trial.number),
            values: TrialValues::Known(trained.uncompressed.clone().into()),
            what: trial.architecture.clone(),
        };
        Some((trial.number, reference))
    }
}

fn front_table(
    front: &[TrialRow],
    marks: &Marks,
    columns: &Columns,
    references: &References<'_>,
) -> String {
    let headings = columns.headings();
    let mut all = vec![("trial", Align::Right)];
    all.extend(right(&headings));
    all.extend(["mark", "recipe", "architecture"].map(|name| (name, Align::Left)));
    let row = |name: String, figures: Vec<String>, mark: String, recipe: String, what: &str| {
        let mut cells = vec![name];
        cells.extend(figures);
        cells.extend([mark, recipe, what.to_owned()]);
        cells
    };
    let reference = |r: &Reference| {
        let figures = columns.marked(&r.values);
        row(r.name.clone(), figures, String::new(), "fp32".to_owned(), &r.what)
    };
    let mut lines = Vec::new();
    for (place, t) in front.iter().enumerate() {
        let Some(values) = &t.values else { continue };
        let (name, mark) = (t.number.to_string(), marks.words(place));
        lines.push(row(name, columns.marked(values), mark, t.recipe(), &t.architecture));
        let before = references.uncompressed.as_ref().filter(|(of, _)| *of == t.number);
        lines.extend(before.map(|(_, before)| reference(before)));
    }
    lines.extend(references.teacher.map(reference));
    let mut text = table::render(&all, &lines);
    if (0..front.len()).any(|place| !marks.tied_with(place).is_empty()) {
        text.push_str(
            "≈ timing cannot tell it from these trials: they differ by less than the spread of either\n",
        );
    }
    let values = front.iter().filter_map(|row| row.values.as_ref());
    text + noisy_legend(values.chain(references.teacher.map(|teacher| &teacher.values)))
}

/// Plots the study's validation metric against the latency on the first target, or against the
/// model size if nothing is timed.
fn plot(
    front: &[TrialRow],
    all: &[TrialRow],
    teacher: Option<&Reference>,
    spec: &StudySpec,
) -> String {
    let measured = all.iter().filter_map(|row| row.values.as_ref());
    let measured = measured.flat_map(TrialValues::latencies).map(|(target, _)| target.clone());
    let (across, label) = match spec.targets().into_iter().chain(measured).next() {
        Some(target) => (Metric::LATENCY_MS.at(target.clone()), format!("latency on {target}, ms")),
        None => (Metric::MODEL_BYTES.whole(), "model size, bytes".to_owned()),
    };
    let up = spec.training_metric();
    let point = |figures: &Figures, symbol| {
        Some(Point { x: figures.get(&across)?, y: figures.get(&up)?, symbol })
    };
    let at = |row: &TrialRow, symbol| point(row.values.as_ref()?.figures(), symbol);
    let mut points: Vec<Point> = all.iter().filter_map(|t| at(t, '.')).collect();
    let teacher = teacher.and_then(|teacher| point(teacher.values.figures(), 'T'));
    let legend = if teacher.is_some() { ", T the teacher" } else { "" };
    points.extend(teacher);
    points.extend(front.iter().filter_map(|t| at(t, 'o')));
    let up = up.to_string().replace('_', " ");
    let mut text = scatter::render(&points, &label, &up, 64, 14);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  o on the front, . beaten{legend}");
    text
}

#[cfg(test)]
mod tests {
    use std::slice;
    use std::sync::Arc;

    use super::*;
    use crate::output::marks::tests::{noisy_on_board, row, spec};

    #[test]
    fn the_uncompressed_network_stands_below_its_trial() {
        let mut front = [0.9, 0.8, 0.7].map(|accuracy| {
            let number = (accuracy * 10.0) as u32;
            row(number, accuracy, (accuracy, accuracy), (accuracy, accuracy))
        });
        // Trial 9 was not compressed, and trial 8 was more accurate before than trial 7.
        for (trial, accuracy) in front[1..].iter_mut().zip([0.85, 0.75]) {
            let Some(TrialValues::Trained { trained, .. }) = &mut trial.values else { panic!() };
            let trained = Arc::make_mut(trained);
            trained.uncompressed.set(ScopedMetric::VALIDATION_ACCURACY, accuracy);
            trained.uncompressed.set(Metric::MODEL_BYTES.whole(), 4000.0);
        }
        let names = |front: &[TrialRow]| -> Vec<String> {
            let (marks, columns) = (Marks::new(front, &spec(), None), columns(&spec(), front));
            let uncompressed = Reference::best_uncompressed(front);
            let text =
                front_table(front, &marks, &columns, &References { teacher: None, uncompressed });
            let name =
                |line: &str| line.split("  ").find(|cell| !cell.is_empty()).map(str::to_owned);
            text.lines().skip(1).filter_map(|line| name(line.trim_start())).collect()
        };
        assert_eq!(names(&front)[..4], ["9", "8", "8 uncompressed", "7"]);
        // A trial that is not on the front is not shown, and neither is its network.
        assert_eq!(names(&front[..1])[..1], ["9"]);
        assert!(!names(&front[..1]).iter().any(|name| name.contains("uncompressed")));
    }

    #[test]
    fn a_bound_on_a_figure_that_no_trial_has_is_named() {
        let all = [row(1, 0.9, (1.0, 1.0), (1.0, 1.0)), row(2, 0.8, (2.0, 2.0), (2.0, 2.0))];
        let why = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|f| (*f).to_owned()).collect();
            why_empty(&all, &filters, &[]).unwrap()
        };
        let text = "no complete trial has the figure of the bound 'latency_ms@pi<=9' (latencies \
                    are known on board, phone)\n";
        assert_eq!(why(&["model_bytes<=5000", "latency_ms@pi<=9"]), text);
        assert!(why(&["latency_ms@board<=0.1"]).contains("of 2 is within these bounds"));
        let filters = ["latency_ms@pi<=9".to_owned()];
        assert_eq!(why_empty(&[], &filters, &[]).unwrap(), empty_front(0, true));
    }

    #[test]
    fn noisy_latencies_on_the_front_are_marked() {
        let quiet = row(1, 0.5, (1.0, 1.5), (2.0, 2.5));
        let table = |front: &[TrialRow]| {
            let marks = Marks::new(front, &spec(), None);
            let none = References { teacher: None, uncompressed: None };
            front_table(front, &marks, &columns(&spec(), front), &none)
        };
        assert!(!table(slice::from_ref(&quiet)).contains('!'));
        let text = table(&[noisy_on_board(quiet)]);
        assert!(text.contains("! 1.00 ms") && text.contains("\n! timed while"), "{text}");

        // The teacher's row is marked, too.
        let quiet = row(1, 0.5, (1.0, 1.5), (2.0, 2.5));
        let teacher = |row: TrialRow| Reference {
            name: "teacher".to_owned(),
            values: row.values.unwrap(),
            what: "r8".to_owned(),
        };
        let table = |teacher: &Reference| {
            let front = slice::from_ref(&quiet);
            let references = References { teacher: Some(teacher), uncompressed: None };
            let marks = Marks::new(front, &spec(), None);
            front_table(front, &marks, &columns(&spec(), front), &references)
        };
        assert!(!table(&teacher(quiet.clone())).contains('!'));
        let text = table(&teacher(noisy_on_board(quiet.clone())));
        assert!(text.contains("! 1.00 ms") && text.contains("\n! timed while"), "{text}");
    }

    #[test]
    fn an_empty_front_says_how_near_the_nearest_trial_came() {
        let constraint = v1::ConstraintStatus {
            constraint: "model_bytes <= 100".to_owned(),
            measured: 2,
            nearest: Some(1000.0),
            nearest_trial: Some(1),
            ..Default::default()
        };
        let all = [row(1, 0.9, (1.0, 1.0), (1.0, 1.0)), row(2, 0.8, (2.0, 2.0), (2.0, 2.0))];
        let text = "none of 2 complete trials meets the study's constraints\nconstraint \
                    model_bytes <= 100: met by 0 of 2, the nearest has 1000 (trial 1)\n";
        assert_eq!(why_empty(&all, &[], &[constraint]).unwrap(), text);
    }

    #[test]
    fn an_empty_front_is_explained() {
        assert_eq!(empty_front(0, false), "no trial is complete yet\n");
        assert_eq!(empty_front(0, true), "no trial is complete yet\n");
        let text = "none of 12 complete trials meets the study's constraints\n";
        assert_eq!(empty_front(12, false), text);
        assert!(empty_front(12, true).contains("within these bounds"));
    }
}
