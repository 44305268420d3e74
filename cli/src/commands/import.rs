//! `edgesmith import`: adds finished trials of an earlier study to a study as known results. It
//! reads what `trials --format json` or `--format csv` printed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use edgesmith_client::{Connection, Coordinator};
use edgesmith_common::{Figures, Metric, ScopedMetric, Split, StudySpec, Target};
use edgesmith_console::{invalid, print_text};
use edgesmith_data::files;
use edgesmith_proto::v1;
use edgesmith_search_space::Genotype;
use serde::Deserialize;

use crate::commands::submit::left_out_in_words;
use crate::output::counted;
use crate::output::json::{CHOICE_COLUMN, VERSION};

/// Arguments: the study and the file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study name
    pub study: String,
    /// File with the output of 'trials S --format json' or '--format csv'; `-` for standard input
    pub file: PathBuf,
    #[command(flatten)]
    pub connection: Connection,
}

/// Reads the file, maps its trials into the study's space, and sends them to the coordinator.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let found = read(&args.file)?;
    let coordinator = Coordinator::connect(&args.connection).await?;
    let (status, spec) = coordinator.study(&args.study).await?;
    if let Some(complete) = refusal(&status) {
        anyhow::bail!(complete);
    }
    let unknown: BTreeSet<String> =
        found.iter().flat_map(|found| found.unknown.iter().cloned()).collect();
    let (fit, left_out) = fitting(found, &spec);
    if fit.is_empty() {
        let file = name(&args.file);
        return Err(invalid(match left_out.first() {
            Some(LeftOut { place, reason }) => {
                format!("no trial of {file} fits study {}; {place}: {reason}", args.study)
            }
            None => format!("{file} has no complete trials"),
        }));
    }
    let v1::ImportTrialsResponse { imported, known } = coordinator.import(&args.study, fit).await?;
    let mut text = format!("imported {} into {}", counted(imported, "trial"), args.study);
    if known > 0 {
        let were = if known == 1 { "was" } else { "were" };
        text.push_str(&format!("; {known} {were} already in the study"));
    }
    let mut by_reason: BTreeMap<&str, u32> = BTreeMap::new();
    left_out.iter().for_each(|of| *by_reason.entry(&of.reason).or_default() += 1);
    text.push_str(&left_out_in_words(&by_reason.into_iter().collect::<Vec<_>>()));
    if !unknown.is_empty() {
        let names = unknown.into_iter().collect::<Vec<_>>().join(", ");
        text.push_str(&format!("; without the figures {names}, which this version does not know"));
    }
    print_text(&format!("{text}\n"))
}

/// Why a study that is complete takes no results, and what to do first; `None` for other studies.
/// The coordinator's own refusal does not know that the user wants to import.
fn refusal(status: &v1::StudyStatus) -> Option<String> {
    let name = &status.name;
    (status.state() == v1::StudyState::Complete).then(|| {
        format!(
            "study {name} is complete and takes no more results; extend it first (`edgesmith \
             extend {name} --trials N`), then import"
        )
    })
}

/// A complete trial in the file.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    /// Its place in the file, for messages.
    place: String,
    /// The option that it picks for each choice, by name.
    choices: Vec<(String, String)>,
    figures: Figures,
    /// Names of figures that this program does not know.
    unknown: BTreeSet<String>,
}

/// A complete trial in the file that does not fit the study.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LeftOut {
    /// Its place in the file.
    place: String,
    /// Why it does not fit.
    reason: String,
}

/// The trials that fit the study, and the others with the reason why they do not.
fn fitting(found: Vec<Found>, spec: &StudySpec) -> (Vec<v1::KnownTrial>, Vec<LeftOut>) {
    let (mut fit, mut left_out) = (Vec::new(), Vec::new());
    let needed = spec.needed_of_known();
    for Found { place, choices, figures, unknown: _ } in found {
        let genotype = spec.space.genotype_of_names(&choices).map_err(|e| e.to_string());
        let valid = |genotype: &Genotype| {
            spec.space.canonical_hash(genotype).map(drop).map_err(|e| e.to_string())
        };
        let genotype = match genotype.and_then(|genotype| valid(&genotype).map(|()| genotype)) {
            Ok(genotype) => genotype,
            Err(reason) => {
                left_out.push(LeftOut { place, reason });
                continue;
            }
        };
        if let Some(of) = needed.iter().find(|of| figures.get(of).is_none()) {
            left_out.push(LeftOut { place, reason: format!("it has no {of}") });
            continue;
        }
        let genotype = genotype.indices().iter().map(|&index| u32::from(index)).collect();
        fit.push(v1::KnownTrial { genotype, figures: Some((&figures).into()) });
    }
    (fit, left_out)
}

/// Largest size of a file, bytes.
const MAX_FILE: u64 = 4 << 30;

/// The complete trials of a file. The file is JSON if it begins with a brace, else CSV.
fn read(path: &Path) -> anyhow::Result<Vec<Found>> {
    let read = if is_stdin(path) {
        files::read_text_from(std::io::stdin().lock(), Path::new(STDIN), MAX_FILE)
    } else {
        files::read_text(path, MAX_FILE)
    };
    let text = read.map_err(|e| invalid(format!("failed to read the file to import: {e}")))?;
    let found = if text.trim_start().starts_with('{') { read_json(&text) } else { read_csv(&text) };
    found.map_err(|why| invalid(format!("{}: {why}", name(path))))
}

const STDIN: &str = "standard input";

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// The file as messages name it.
fn name(path: &Path) -> String {
    if is_stdin(path) { STDIN.to_owned() } else { path.display().to_string() }
}

/// What to do about a file that ends too early.
const CUT_SHORT: &str = "the file was cut short; write it again with 'edgesmith trials'";

/// An error of the JSON reader. It names the line and the column.
fn json_error(error: serde_json::Error) -> String {
    if error.is_eof() {
        let (line, column) = (error.line(), error.column());
        return format!(
            "its JSON ends in the middle, at line {line}, column {column}: {CUT_SHORT}"
        );
    }
    format!("it is not valid JSON of trials: {error}")
}

/// An error of the CSV reader. Only the last record can be too short because of a cut.
fn csv_error(error: &csv::Error, text: &str) -> String {
    let csv::ErrorKind::UnequalLengths { pos: Some(pos), expected_len, len } = error.kind() else {
        return error.to_string();
    };
    let line = pos.line();
    let rest = usize::try_from(pos.byte()).ok().and_then(|byte| text.get(byte..));
    let last = rest.is_some_and(|rest| rest.trim().lines().count() <= 1);
    if last && len < expected_len {
        return format!("line {line} ends after {len} of {expected_len} cells: {CUT_SHORT}");
    }
    format!("line {line} has {len} cells, but the heading has {expected_len}: correct the line")
}

/// The line of the last quotation mark, if marks do not come in pairs. Then the last cell is not
/// closed, which the CSV reader accepts.
fn open_quote(text: &str) -> Option<usize> {
    let marks = text.bytes().filter(|&byte| byte == b'"').count();
    let last = text.rfind('"').filter(|_| marks % 2 == 1)?;
    Some(1 + text[..last].matches('\n').count())
}

#[derive(Debug, Deserialize)]
struct Document {
    version: u32,
    trials: Vec<Trial>,
}

#[derive(Debug, Deserialize)]
struct Trial {
    trial: u32,
    state: String,
    #[serde(default)]
    choices: BTreeMap<String, String>,
    metrics: Option<Metrics>,
    /// Everything, by name. Absent in files that older versions wrote, which have only the fields.
    #[serde(default)]
    figures: BTreeMap<String, f64>,
    training: Option<Training>,
}

#[derive(Debug, Deserialize)]
struct Metrics {
    validation_accuracy: Option<f64>,
    test_accuracy: Option<f64>,
    model_bytes: Option<f64>,
    macs: Option<f64>,
    parameters: Option<f64>,
    peak_memory_bytes: Option<f64>,
    #[serde(default)]
    latency_ms: BTreeMap<String, f64>,
    #[serde(default)]
    test_accuracies: BTreeMap<String, f64>,
}

#[derive(Debug, Deserialize)]
struct Training {
    seconds: Option<f64>,
}

fn read_json(text: &str) -> Result<Vec<Found>, String> {
    // Check the version first: it decides whether the rest can be read.
    let version = serde_json::from_str::<serde_json::Value>(text).map_err(json_error)?;
    match version.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            return Err(format!(
                "its JSON has version {version}, but this program reads version {VERSION}"
            ));
        }
        None => return Err("it is not the output of 'trials --format json'".to_owned()),
    }
    let document: Document = serde_json::from_str(text).map_err(json_error)?;
    debug_assert_eq!(document.version, VERSION);
    let complete = document.trials.into_iter().filter(|trial| trial.state == "complete");
    complete.map(Found::of_json).collect()
}

impl Found {
    fn of_json(trial: Trial) -> Result<Self, String> {
        let place = format!("trial {}", trial.trial);
        if trial.choices.is_empty() {
            return Err(format!(
                "{place} has no choices; export the study again with this program"
            ));
        }
        let metrics =
            trial.metrics.ok_or_else(|| format!("{place} is complete but has no metrics"))?;
        let seconds = trial.training.and_then(|training| training.seconds);
        let (figures, unknown) = if trial.figures.is_empty() {
            of_fields(metrics, seconds)
        } else {
            of_map(trial.figures)
        };
        figures.check().map_err(|e| format!("{place}: {e}"))?;
        Ok(Self { place, choices: trial.choices.into_iter().collect(), figures, unknown })
    }
}

/// Figures by name, and the names that this program does not know. A later version may know more
/// metrics and devices.
fn of_map(map: BTreeMap<String, f64>) -> (Figures, BTreeSet<String>) {
    let (mut figures, mut unknown) = (Figures::new(), BTreeSet::new());
    for (name, value) in map {
        match name.parse::<ScopedMetric>() {
            Ok(of) => figures.set(of, value),
            Err(_) => drop(unknown.insert(name)),
        }
    }
    (figures, unknown)
}

/// Figures in a file from the time before figures were listed by name.
fn of_fields(metrics: Metrics, seconds: Option<f64>) -> (Figures, BTreeSet<String>) {
    let (mut figures, mut unknown) = (Figures::new(), BTreeSet::new());
    let counts = [
        (ScopedMetric::VALIDATION_ACCURACY, metrics.validation_accuracy),
        (ScopedMetric::TEST_ACCURACY, metrics.test_accuracy),
        (Metric::MODEL_BYTES.whole(), metrics.model_bytes),
        (Metric::MACS.whole(), metrics.macs),
        (Metric::PARAMETERS.whole(), metrics.parameters),
        (Metric::PEAK_MEMORY_BYTES.whole(), metrics.peak_memory_bytes),
        (Metric::TRAINING_SECONDS.whole(), seconds),
    ];
    for (of, value) in counts {
        value.into_iter().for_each(|value| figures.set(of.clone(), value));
    }
    for (name, ms) in metrics.latency_ms {
        match name.parse::<Target>() {
            Ok(target) => figures.set(Metric::LATENCY_MS.at(target), ms),
            Err(_) => drop(unknown.insert(format!("{}@{name}", Metric::LATENCY_MS))),
        }
    }
    for (name, accuracy) in metrics.test_accuracies {
        figures.set(Metric::ACCURACY.on(Split::HeldOut(name.into())), accuracy);
    }
    (figures, unknown)
}

/// Columns that do not hold figures.
const OTHER_COLUMNS: [&str; 5] = ["trial", "state", "precision", "architecture", "recipe"];

/// The figure in a column; `None` if the column does not hold a figure.
fn figure_column(name: &str) -> Result<Option<ScopedMetric>, String> {
    if name == "seconds" {
        return Ok(Some(Metric::TRAINING_SECONDS.whole()));
    }
    match name.parse() {
        Ok(of) => Ok(Some(of)),
        Err(error) if name.starts_with(&format!("{}@", Metric::LATENCY_MS)) => {
            Err(format!("column {name}: {error}"))
        }
        // The user may have added columns of any name.
        Err(_) => Ok(None),
    }
}

fn read_csv(text: &str) -> Result<Vec<Found>, String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header: Vec<String> =
        reader.headers().map_err(|e| e.to_string())?.iter().map(str::to_owned).collect();
    let (mut choices, mut columns) = (Vec::new(), Vec::new());
    for (at, name) in header.iter().enumerate() {
        if let Some(choice) = name.strip_prefix(CHOICE_COLUMN) {
            choices.push((at, choice));
        } else if !OTHER_COLUMNS.contains(&name.as_str()) {
            columns.extend(figure_column(name)?.map(|of| (at, of)));
        }
    }
    if choices.is_empty() || !columns.iter().any(|(_, of)| of.metric.is_evaluated()) {
        return Err(format!(
            "it is neither JSON nor CSV of trials; a CSV needs a column of figures on images, for \
             example validation_accuracy, and a column {CHOICE_COLUMN}NAME for each choice of the \
             space"
        ));
    }
    if let Some(line) = open_quote(text) {
        return Err(format!("the quotation mark in line {line} is never closed: {CUT_SHORT}"));
    }
    let state = header.iter().position(|name| name == "state");
    let mut found = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| csv_error(&e, text))?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |at: usize| record.get(at).map(str::trim).filter(|text| !text.is_empty());
        if state.and_then(cell).is_some_and(|state| state != "complete") {
            continue;
        }
        let mut figures = Figures::new();
        for (at, of) in &columns {
            if let Some(text) = cell(*at) {
                let wrong = || format!("line {line}: {} is '{text}', not a number", header[*at]);
                figures.set(of.clone(), text.parse().map_err(|_| wrong())?);
            }
        }
        figures.check().map_err(|e| format!("line {line}: {e}"))?;
        let picked = choices
            .iter()
            .filter_map(|(at, name)| Some(((*name).to_owned(), cell(*at)?.to_owned())));
        found.push(Found {
            place: format!("line {line}"),
            choices: picked.collect(),
            figures,
            unknown: BTreeSet::new(),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use edgesmith_common::TrialValues;

    use super::*;
    use crate::output::marks::tests::{row, spec};
    use crate::output::{TrialRow, json};

    fn rows() -> Vec<TrialRow> {
        vec![row(3, 0.9, (1.0, 1.5), (5.0, 5.5)), row(4, 0.8, (0.5, 0.7), (4.0, 4.5))]
    }

    #[test]
    fn a_complete_study_is_to_be_extended_first() {
        let mut status = v1::StudyStatus { name: "s".to_owned(), ..Default::default() };
        status.set_state(v1::StudyState::Running);
        assert_eq!(refusal(&status), None);
        status.set_state(v1::StudyState::Complete);
        let said = refusal(&status).unwrap();
        assert!(said.contains("`edgesmith extend s --trials N`), then import"), "{said}");
    }

    #[test]
    fn json_and_csv_keep_choices_and_figures() {
        let rows = rows();
        let json = serde_json::to_string(&json::Trials::new("s", &rows)).unwrap();
        let expected: Vec<(Vec<(String, String)>, Figures)> = rows
            .iter()
            .map(|row| {
                let mut choices = row.choices.clone();
                choices.sort();
                (choices, row.values.as_ref().unwrap().figures().clone())
            })
            .collect();
        for found in [read_json(&json).unwrap(), read_csv(&json::csv(&rows)).unwrap()] {
            let sorted: Vec<(Vec<(String, String)>, Figures)> = found
                .iter()
                .map(|found| {
                    let mut choices = found.choices.clone();
                    choices.sort();
                    (choices, found.figures.clone())
                })
                .collect();
            assert_eq!(sorted, expected);
            let (fit, left_out) = fitting(found, &spec());
            assert_eq!((fit.len(), left_out.len()), (2, 0));
        }
    }

    #[test]
    fn trials_that_do_not_fit_are_left_out_with_a_reason() {
        let found = read_csv(
            "state,validation_accuracy,latency_ms@board,choice.colour\n\
             complete,0.9,1.0,red\nfailed,,,\n",
        )
        .unwrap();
        let (fit, left_out) = fitting(found, &spec());
        assert!(fit.is_empty());
        assert_eq!(left_out[0].place, "line 2");
        assert_eq!(left_out[0].reason, "this study's space has no choice colour");
        let rows = rows();
        let text = json::csv(&rows).replace("latency_ms@phone", "other");
        let (fit, left_out) = fitting(read_csv(&text).unwrap(), &spec());
        assert!(fit.is_empty());
        assert!(left_out[0].reason.starts_with("it has no latency_ms"), "{left_out:?}");
    }

    #[test]
    fn figures_and_columns_that_are_not_known_are_left_out() {
        let json = serde_json::to_string(&json::Trials::new("s", &rows())).unwrap();
        let later =
            json.replace("\"macs\":10,", "\"macs\":10,\"energy_mj\":3.5,\"latency_ms@-\":1,");
        assert_ne!(later, json);
        let (now, then) = (read_json(&json).unwrap(), read_json(&later).unwrap());
        assert_eq!(then[0].figures, now[0].figures);
        assert_eq!(
            then[0].unknown,
            BTreeSet::from(["energy_mj", "latency_ms@-"].map(str::to_owned))
        );
        let head =
            "validation_accuracy,choice.resolution,macs@x,note@home,latency_ms\n0.5,8,a,b,c\n";
        assert_eq!(read_csv(head).unwrap()[0].figures.to_string(), "validation_accuracy 0.5");
        let bad = head.replace("latency_ms", "latency_ms@-");
        assert!(read_csv(&bad).unwrap_err().starts_with("column latency_ms@-: "));
    }

    #[test]
    fn names_that_need_quotes_come_back_from_csv() {
        let mut rows = rows();
        for row in &mut rows {
            let Some(TrialValues::Trained { trained, .. }) = &mut row.values else { panic!() };
            let of = Metric::ACCURACY.on(Split::HeldOut("night, \"rain\"".into()));
            std::sync::Arc::make_mut(trained).compressed.set(of, 0.25);
        }
        let found = read_csv(&json::csv(&rows)).unwrap();
        let accuracies: Vec<(&str, f64)> = found[0].figures.held_out_accuracies().collect();
        assert_eq!(accuracies, [("night, \"rain\"", 0.25)]);
    }

    #[test]
    fn files_without_trials_are_reported() {
        assert!(read_json("{\"trials\": []}").unwrap_err().contains("trials --format json"));
        assert!(read_json("{\"version\": 9}").unwrap_err().contains("version 9"));
        assert!(read_json("{\"version\": 1, \"trials\": 3}").unwrap_err().contains("line 1"));
        assert!(read_csv("a,b\n1,2\n").unwrap_err().contains("validation_accuracy"));
        let text = "validation_accuracy,choice.resolution\nhigh,8\n";
        assert_eq!(
            read_csv(text).unwrap_err(),
            "line 2: validation_accuracy is 'high', not a number"
        );
        let old = "{\"version\": 1, \"trials\": [{\"trial\": 7, \"state\": \"complete\"}]}";
        assert!(read_json(old).unwrap_err().contains("trial 7 has no choices"));
    }

    /// Reads a file with these bytes.
    fn read_bytes(bytes: &[u8]) -> Result<Vec<Found>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trials");
        std::fs::write(&path, bytes).unwrap();
        read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_other_encodings_are_named() {
        let rows = rows();
        let json = serde_json::to_string(&json::Trials::new("s", &rows)).unwrap();
        for text in [json.clone(), json::csv(&rows)] {
            let plain = read_bytes(text.as_bytes()).unwrap();
            assert_eq!(plain.len(), 2);
            assert_eq!(read_bytes(format!("\u{feff}{text}").as_bytes()).unwrap(), plain);
        }
        let utf16: Vec<u8> = json.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [utf16.clone(), [&[0xff, 0xfe], utf16.as_slice()].concat()] {
            let error = read_bytes(&bytes).unwrap_err();
            assert!(error.contains("trials is UTF-16 text: save it as UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_cut_short_is_named_with_the_place() {
        let rows = rows();
        let json = serde_json::to_string_pretty(&json::Trials::new("s", &rows)).unwrap();
        let cut = &json[..json.find("\"state\"").unwrap() + 3];
        let error = read_bytes(cut.as_bytes()).unwrap_err();
        let line = cut.lines().count();
        let said = format!("its JSON ends in the middle, at line {line}, column ");
        assert!(error.contains(&said) && error.ends_with(CUT_SHORT), "{error}");

        let csv = json::csv(&rows);
        let error = read_bytes(&csv.as_bytes()[..csv.rfind(',').unwrap()]).unwrap_err();
        let cells = csv.lines().next().unwrap().split(',').count();
        let said = format!("line 3 ends after {} of {cells} cells: {CUT_SHORT}", cells - 1);
        assert!(error.contains(&said), "{error}");
        let head = "validation_accuracy,choice.resolution\n";
        let error = read_csv(&format!("{head}0.5\n0.5,8\n")).unwrap_err();
        assert_eq!(error, "line 2 has 1 cells, but the heading has 2: correct the line");
        let error = read_csv(&format!("{head}0.5,8\n0.5,\"8")).unwrap_err();
        assert!(error.starts_with("the quotation mark in line 3 is never closed"), "{error}");
    }
}
