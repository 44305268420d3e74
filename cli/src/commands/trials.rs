//! `edgesmith trials`, and `edgesmith trial`.

mod rerun;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use edgesmith_client::{Backend, Connection, Coordinator, MemorySize};
use edgesmith_common::metric::{Source, Unit};
use edgesmith_common::{
    Figures, Fp32Timing, LayerTimes, Measurement, Metric, Noise, ScopedMetric, Split, StudySpec,
    TrainedTrial, TrialState, TrialValues, Waiting,
};
use edgesmith_console::table::{self, Align};
use edgesmith_console::{Format, ListFormat, Output, number, print};
use edgesmith_proto::v1;
use edgesmith_search_space::Precision;
use edgesmith_train::safetensors;
use edgesmith_worker::probe::MOST_WAITS_PER_RUN;
use edgesmith_worker::session::artifacts;
use serde::Serialize;

use crate::output::columns::{self, Columns, cell, right};
use crate::output::{TrialRow, json, stages};

/// Where the notation of the tables is explained.
const NOTATION: &str = "The columns recipe and architecture are explained in docs/operating.md, \
                        \"Recipes and architectures\". In short: `prune 20/40%` is the share of \
                        channels removed per stage, `kd` distillation with alpha and temperature; \
                        `r` the resolution, `stem` the channels of the first convolution; then, \
                        for each stage after `|`, the operation, `e` expansion, `k` kernel, `w` \
                        channels, `x` blocks, `/` stride, and the activation.";

/// Arguments: the study.
#[derive(Debug, clap::Args)]
#[command(after_help = NOTATION)]
pub struct TrialsArgs {
    /// Study name
    pub study: String,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments: which trial, and whether to run it again.
#[derive(Debug, clap::Args)]
pub struct TrialArgs {
    /// Study name
    pub study: String,
    /// Trial number
    #[arg(allow_negative_numbers = true, value_parser = number::whole(0..=u32::MAX))]
    pub number: u32,
    /// Train and compress it again on this machine and compare the results bit for bit. Files of
    /// the trial that are damaged or missing are stored again, if the same bytes come out
    #[arg(long)]
    pub rerun: bool,
    /// Base directory of relative data paths in the study [default: the current one]
    #[arg(long, value_name = "DIR", requires = "rerun")]
    pub data_root: Option<PathBuf>,
    /// Device that trains the rerun; only the original's backend gives the same bits
    #[arg(long, default_value = "flex", value_enum, requires = "rerun")]
    pub backend: Backend,
    /// Memory that the rerun may use, such as 4GiB; only the limit of the worker that trained the
    /// original gives the same bits if it computed batches in parts [default: most of the
    /// machine's; on a GPU not limited]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, requires = "rerun")]
    pub memory: Option<MemorySize>,
    /// How to print
    #[arg(long, value_enum, default_value = "table", conflicts_with = "rerun")]
    pub format: ListFormat,
    #[command(flatten)]
    pub connection: Connection,
}

/// Prints all trials.
pub async fn list(args: TrialsArgs) -> anyhow::Result<()> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let (_, spec) = coordinator.study(&args.study).await?;
    let trials = coordinator.trials(&args.study).await?.into_iter();
    let rows: Vec<TrialRow> = trials.map(|t| TrialRow::new(t, &spec)).collect::<Result<_, _>>()?;
    print(&All { study: args.study, rows, spec }, args.format)
}

/// Prints one trial, or runs it again.
pub async fn one(args: TrialArgs) -> anyhow::Result<ExitCode> {
    let coordinator = Coordinator::connect(&args.connection).await?;
    let (status, spec) = coordinator.study(&args.study).await?;
    let row = fetch(&coordinator, &args.study, args.number, &spec).await?;
    if args.rerun {
        return rerun::rerun(&coordinator, &status, spec, &row, &args).await;
    }
    let class_names = class_names(&coordinator, &row).await;
    print(&One { study: args.study, row, spec, class_names }, args.format)?;
    Ok(ExitCode::SUCCESS)
}

/// All trials of a study.
struct All {
    study: String,
    rows: Vec<TrialRow>,
    spec: Arc<StudySpec>,
}

impl Output for All {
    fn table(&self) -> String {
        if self.rows.is_empty() {
            let study = &self.study;
            return format!("no trial is proposed yet; `edgesmith status {study}` says why\n");
        }
        list_table(&self.rows, &self.spec)
    }

    fn json(&self) -> impl Serialize {
        json::Trials::new(&self.study, &self.rows)
    }

    fn csv(&self) -> Option<String> {
        Some(json::csv(&self.rows))
    }
}

/// One trial with everything that is known about it.
struct One {
    study: String,
    row: TrialRow,
    spec: Arc<StudySpec>,
    /// Empty if they are not known.
    class_names: Vec<String>,
}

impl Output for One {
    fn table(&self) -> String {
        describe(&self.row, &self.spec, &self.class_names)
    }

    fn json(&self) -> impl Serialize {
        json::Trials::one(&self.study, &self.row, &self.class_names)
    }
}

/// Fetches one trial of a study.
pub async fn fetch(
    coordinator: &Coordinator,
    study: &str,
    number: u32,
    spec: &StudySpec,
) -> anyhow::Result<TrialRow> {
    let request = v1::GetTrialRequest { study: study.to_owned(), number };
    let answer = coordinator.query(coordinator.studies().get_trial(request)).await?;
    TrialRow::new(answer, spec)
}

/// The names of the classes, which are in the metadata of the trial's weights. Empty if the trial
/// has no weights or they cannot be read: everything else about it can still be shown.
pub async fn class_names(coordinator: &Coordinator, row: &TrialRow) -> Vec<String> {
    let Some(trained) = row.values.as_ref().and_then(TrialValues::trained) else {
        return Vec::new();
    };
    let file = artifacts::download(&mut coordinator.artifacts(), trained.weights).await;
    let read = file.ok().and_then(|file| safetensors::read(&file).ok());
    read.map(|(_, notes)| safetensors::class_names(&notes)).unwrap_or_default()
}

fn list_table(rows: &[TrialRow], spec: &StudySpec) -> String {
    let first = vec![spec.training_metric()];
    let columns = Columns::new(first, spec, rows, vec![Metric::MODEL_BYTES.whole()]);
    let headings = columns.headings();
    let mut all = vec![("trial", Align::Right), ("state", Align::Left)];
    all.extend(right(&headings));
    all.extend([("recipe", Align::Left), ("architecture", Align::Left)]);
    let line = |row: &TrialRow| {
        let mut cells = vec![row.number.to_string(), row.state_words()];
        cells.extend(match &row.values {
            Some(values) => columns.marked(values),
            None => columns.dashes(),
        });
        cells.extend([row.recipe(), row.architecture.clone()]);
        cells
    };
    let values = rows.iter().filter_map(|row| row.values.as_ref());
    table::render(&all, &rows.iter().map(line).collect::<Vec<_>>()) + columns::noisy_legend(values)
}

fn describe(row: &TrialRow, spec: &StudySpec, class_names: &[String]) -> String {
    let mut lines: Vec<(String, String)> =
        vec![("trial".into(), row.number.to_string()), ("state".into(), row.state_words())];
    if let TrialState::Infeasible { reason } | TrialState::Failed { reason } = &row.state {
        lines.push(("reason".into(), reason.clone()));
    }
    lines.push(("architecture".into(), row.architecture.clone()));
    if row.candidate.is_some() {
        lines.push(("recipe".into(), row.recipe()));
    }
    if !class_names.is_empty() {
        lines.push(("classes".into(), class_names.join(", ")));
    }
    if !row.parents.is_empty() {
        let parents: Vec<String> = row.parents.iter().map(u32::to_string).collect();
        lines.push(("parents".into(), parents.join(", ")));
    }
    if let Some(donor) = row.inherits_from {
        lines.push(("started from".into(), format!("the weights of trial {donor}")));
    }
    if let Some(score) = row.score {
        let proxy = spec.training().and_then(|work| work.screening).map(|s| s.proxy.name());
        lines.push(("score".into(), format!("{score:.4} by {}", proxy.unwrap_or("a proxy"))));
    }
    if !row.proposed_by.is_empty() {
        lines.push(("proposed by".into(), row.proposed_by.clone()));
    }
    lines.push(("attempts".into(), attempts(row)));
    for rung in &row.rungs {
        let reached = cell(&spec.training_metric(), &rung.figures);
        let time = table::duration(rung.figures.training_seconds());
        let text = match rung.figures.images_seen() {
            Some(images) => {
                format!("validation {reached} as trained so far, {images} images in {time}")
            }
            None => format!("validation {reached} after {time}, according to the source"),
        };
        lines.push((format!("epoch {}", rung.epochs), text));
    }
    match &row.values {
        Some(TrialValues::Trained { trained, measurements }) => {
            let on_own_network = spec.model().is_some();
            let precision = row.candidate.as_ref().map(|candidate| candidate.recipe.precision());
            let integers = precision == Some(Precision::Int8);
            describe_trained(trained, measurements, (on_own_network, integers), &mut lines);
        }
        Some(TrialValues::Known(figures)) => describe_known(figures, &mut lines),
        None => {}
    }
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = lines.iter().map(|(name, text)| format!("{name:<width$}  {text}\n"));
    let trained = row.values.as_ref().and_then(TrialValues::trained);
    let stages = trained.map(|trained| stages::tables(&trained.stages, class_names));
    lines.collect::<String>() + &stages.unwrap_or_default()
}

/// How often its tasks were tried, in words.
fn attempts(row: &TrialRow) -> String {
    let what = if row.candidate.is_some() { "training" } else { "look-up" };
    let other = row.attempts.saturating_sub(row.training_attempts);
    let mut text = format!("{} of its {what}", row.training_attempts);
    if !row.rungs.is_empty() {
        text.push_str(", which has a task per rung");
    }
    if other > 0 {
        let _ = write!(text, "; {other} of other tasks, such as timing");
    }
    text
}

fn describe_known(figures: &Figures, lines: &mut Vec<(String, String)>) {
    for (of, value) in figures.iter() {
        match (of.metric.definition().source, of.split()) {
            // Printed at the end, with its source.
            (Source::Spent, _) => {}
            (_, Some(Split::HeldOut(name))) if of.metric == Metric::ACCURACY => {
                lines.push((name.to_string(), columns::words(of.metric, value)));
            }
            // One of the named sets is the test set.
            _ if *of == ScopedMetric::TEST_ACCURACY
                && figures.held_out_accuracies().next().is_some() => {}
            _ => lines.push((of.to_string(), exact(of.metric, value))),
        }
    }
    if let Some(seconds) = figures.get(&Metric::TRAINING_SECONDS.whole()) {
        let time = table::duration(seconds);
        lines.push(("training".to_owned(), format!("{time}, according to the source")));
    }
}

/// A value in words. Counts and bytes keep all their digits.
fn exact(metric: Metric, value: f64) -> String {
    match metric.definition().unit {
        Unit::Bytes | Unit::Count => value.to_string(),
        Unit::Share | Unit::Milliseconds | Unit::Seconds => columns::words(metric, value),
    }
}

/// The figures of a network, without latencies and without the cost of its training.
fn describe_network(figures: &Figures) -> String {
    let all = figures.repeatable();
    let word = |(of, value): (&ScopedMetric, f64)| format!("{of} {}", exact(of.metric, value));
    all.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// Whether other work disturbed a measurement, and what shows it.
fn describe_noise(noise: Noise) -> String {
    let Noise { noisy, spread, waiting, timings } = noise;
    let verdict = match (noisy, timings) {
        (false, 1) => "other work did not disturb the median:".to_owned(),
        (false, timings) => format!(
            "timed {timings} times, because other work disturbed the earlier timings; it did not \
             disturb the last one, which counts:"
        ),
        (true, 1) => "other work disturbed it, so the latency may be too high:".to_owned(),
        (true, timings) => format!(
            "other work disturbed all {timings} timings, so the latency may be too high; in the \
             least disturbed one, which counts,"
        ),
    };
    // A median feels neither a few long waits nor many short ones. So a timing that is not
    // disturbed names only what is little of the two: the other figure would look like a
    // contradiction.
    let waiting = waiting.map(|Waiting { share, per_run }| {
        let of_time = table::percent(share);
        if noisy {
            format!(
                ", and it waited for a processor {per_run:.2} times per run, {of_time} of the time"
            )
        } else if per_run <= MOST_WAITS_PER_RUN {
            format!(", and at most {} of the runs waited for a processor", table::percent(per_run))
        } else {
            format!(", and waiting for a processor took {of_time} of the time")
        }
    });
    let spread = table::percent(spread);
    format!(
        "{verdict} the medians of its five parts differ by {spread}{}",
        waiting.unwrap_or_default()
    )
}

/// The layers that make a trial slower than another network, to follow a sentence that says so.
/// Empty if they are not known.
pub fn because_of(layers: &[LayerTimes]) -> String {
    let layer = |LayerTimes { layer, conversions, shipped_ms, original_ms }: &LayerTimes| {
        let [now, then] = [*shipped_ms, *original_ms].map(table::milliseconds);
        match conversions {
            true => format!("conversions for {layer} ({now})"),
            false => format!("{layer} ({now} instead of {then})"),
        }
    };
    let layers: Vec<String> = layers.iter().map(layer).collect();
    if layers.is_empty() { String::new() } else { format!(", because of {}", layers.join(", ")) }
}

/// The timing of `what` beside that of the trial that is made of it. `slower`: what is slower
/// there, if anything is, with its layers.
fn describe_fp32(
    what: &str,
    of: &Fp32Timing,
    m: &Measurement,
    slower: Option<(&str, &[LayerTimes])>,
) -> String {
    let Fp32Timing { p50_ms, p95_ms, min_ms, noisy, energy_mj } = *of;
    let mut text = format!(
        "{what}: median {}, p95 {}, fastest {}",
        table::milliseconds(p50_ms),
        table::milliseconds(p95_ms),
        table::milliseconds(min_ms)
    );
    if let Some(energy_mj) = energy_mj {
        let _ = write!(text, ", {energy_mj:.3} mJ per run");
    }
    if noisy {
        text.push_str(" (other work disturbed it)");
    }
    let times = m.p50_ms / p50_ms;
    let _ = write!(text, "; the shipped one takes {times:.2} times as long");
    if let Some((what, layers)) = slower {
        let _ = write!(text, ", so {what} SLOWER there{}", because_of(layers));
    }
    text
}

/// The timings in fp32 beside that of a trial. `integers`: whether the recipe quantizes.
fn describe_beside(
    m: &Measurement,
    (on_own_network, integers): (bool, bool),
    lines: &mut Vec<(String, String)>,
) {
    let mut say = |name: &str, text: String| lines.push((format!("{name}@{}", m.target()), text));
    match &m.original {
        Some(original) => {
            // That it is int8 which takes longer is known if nothing else was done to it.
            let only_int8 = integers && m.unquantized.is_none();
            let what = if only_int8 { "int8 is" } else { "it is" };
            let slower = m.is_slower_than_original().then_some((what, &*m.slower_layers));
            let of = "the network as it came, in fp32";
            say("original", describe_fp32(of, original, m, slower));
        }
        None if on_own_network => {
            say("original", "the network as it came was not measured there".to_owned());
        }
        None => {}
    }
    if let Some(unquantized) = &m.unquantized {
        let slower = m.is_slower_in_integers().then_some(("int8 is", &*m.slower_in_integers));
        let of = "the same network in fp32, before it was quantized";
        say("unquantized", describe_fp32(of, unquantized, m, slower));
    }
}

fn describe_trained(
    trained: &TrainedTrial,
    measurements: &[Measurement],
    own_and_integers: (bool, bool),
    lines: &mut Vec<(String, String)>,
) {
    for (name, figures) in
        [("shipped", &trained.compressed), ("uncompressed", &trained.uncompressed)]
    {
        lines.push((name.into(), describe_network(figures)));
    }
    let spent = |metric: Metric| {
        trained.compressed.get(&metric.whole()).map(|value| columns::words(metric, value))
    };
    if let Some(time) = spent(Metric::TRAINING_SECONDS) {
        let images = trained.compressed.images_seen();
        let images = images.map(|images| format!("{images} images in ")).unwrap_or_default();
        lines.push(("training".into(), format!("{images}{time}")));
    }
    for m in measurements {
        lines.push((
            format!("latency@{}", m.target()),
            format!(
                "median {}, p95 {}, fastest {} over {} runs of batch {} on {} thread(s); {} {}; \
                     {} ({}; {}; {} cores)",
                table::milliseconds(m.p50_ms),
                table::milliseconds(m.p95_ms),
                table::milliseconds(m.min_ms),
                m.samples,
                m.batch,
                m.threads,
                m.engine,
                m.engine_version,
                m.device.name,
                m.device.cpu,
                m.device.cpu_flags.join(" "),
                m.device.cores
            ),
        ));
        if let Some(noise) = m.noise {
            lines.push((format!("noise@{}", m.target()), describe_noise(noise)));
        }
        if let Some(energy_mj) = m.energy_mj {
            let text = format!(
                "{energy_mj:.3} mJ per run, by the machine's own sensors; what it uses when idle is \
                 not subtracted"
            );
            lines.push((format!("energy@{}", m.target()), text));
        }
        describe_beside(m, own_and_integers, lines);
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::output::marks::tests::{noisy_on_board, row, spec};

    #[test]
    fn a_trial_says_how_quiet_the_machine_was() {
        let unknown = row(1, 0.5, (1.0, 1.5), (2.0, 2.5));
        assert!(!describe(&unknown, &spec(), &[]).contains("noise@"));
        assert!(!list_table(slice::from_ref(&unknown), &spec()).contains('!'));
        let noisy = noisy_on_board(unknown);
        let text = describe(&noisy, &spec(), &[]);
        let line = |of: &str| text.lines().find(|line| line.starts_with(of)).unwrap().to_owned();
        assert!(
            line("noise@board").ends_with(
                "other work disturbed all 3 timings, so the latency may be too high; in the least \
                 disturbed one, which counts, the medians of its five parts differ by 50.00 %, and \
                 it waited for a processor 2.00 times per run, 25.00 % of the time"
            ),
            "{text}"
        );
        let end = "did not disturb the median: the medians of its five parts differ by 1.00 %";
        assert!(line("noise@phone").ends_with(end), "{text}");
        let table = list_table(slice::from_ref(&noisy), &spec());
        assert!(table.contains("! 1.00 ms") && table.contains("\n! timed while"), "{table}");
    }

    #[test]
    fn a_timing_that_is_not_disturbed_does_not_name_figures_that_sound_so() {
        let quiet = |share, per_run, timings| {
            let waiting = Some(Waiting { share, per_run });
            describe_noise(Noise { noisy: false, spread: 0.01, waiting, timings })
        };
        let few_long = "other work did not disturb the median: the medians of its five parts \
                        differ by 1.00 %, and at most 12.00 % of the runs waited for a processor";
        assert_eq!(quiet(0.6, 0.12, 1), few_long);
        let many_short = "timed 2 times, because other work disturbed the earlier timings; it did \
                          not disturb the last one, which counts: the medians of its five parts \
                          differ by 1.00 %, and waiting for a processor took 0.20 % of the time";
        assert_eq!(quiet(0.002, 12.0, 2), many_short);
    }

    fn layer(name: &str, conversions: bool, shipped_ms: f64, original_ms: f64) -> LayerTimes {
        LayerTimes { layer: name.to_owned(), conversions, shipped_ms, original_ms }
    }

    #[test]
    fn the_networks_in_fp32_are_beside_the_trial() {
        let mut row = row(1, 0.5, (1.0, 1.5), (2.0, 2.5));
        assert!(!describe(&row, &spec(), &[]).contains("original@"), "no network of a user");
        let Some(TrialValues::Trained { measurements, .. }) = &mut row.values else { panic!() };
        measurements[0].energy_mj = Some(0.25);
        let original = Fp32Timing {
            p50_ms: 0.5,
            p95_ms: 0.75,
            min_ms: 0.25,
            noisy: true,
            energy_mj: Some(0.125),
        };
        measurements[0].original = Some(original);
        measurements[0].slower_layers = vec![layer("stem", false, 0.4, 0.1)];
        measurements[1].original =
            Some(Fp32Timing { p50_ms: 4.0, noisy: false, energy_mj: None, ..original });
        let text = describe(&row, &spec(), &[]);
        let line = |of: &str| text.lines().find(|line| line.starts_with(of)).unwrap().to_owned();
        let slower = "median 0.5000 ms, p95 0.7500 ms, fastest 0.2500 ms, 0.125 mJ per run (other \
                      work disturbed it); the shipped one takes 2.00 times as long, so it is \
                      SLOWER there, because of stem (0.4000 ms instead of 0.1000 ms)";
        assert!(line("original@board").ends_with(slower), "{text}");
        assert!(line("original@phone").ends_with("takes 0.50 times as long"), "{text}");
        assert!(line("energy@board").contains("0.250 mJ per run"), "{text}");
        assert!(!text.contains("energy@phone"), "{text}");
        let measured = row.values.as_ref().unwrap().measurements();
        let said = |of: &Measurement| {
            let mut lines = Vec::new();
            describe_beside(of, (true, true), &mut lines);
            lines
        };
        let lines = said(&measured[0]);
        assert!(lines[0].1.contains("so int8 is SLOWER there, because of stem"), "{lines:?}");
        // With a timing of its own in fp32, it is known what integers do to it.
        let slower_in_integers = vec![layer("norm", true, 0.3, 0.0), layer("fc", false, 0.5, 0.4)];
        let unquantized = Some(Fp32Timing { p50_ms: 0.8, noisy: false, ..original });
        let both = Measurement { unquantized, slower_in_integers, ..measured[0].clone() };
        let lines = said(&both);
        assert!(lines[0].1.contains("so it is SLOWER there, because of stem"), "{lines:?}");
        assert_eq!(lines[1].0, "unquantized@board");
        let slower = "before it was quantized: median 0.8000 ms, p95 0.7500 ms, fastest 0.2500 ms, \
                      0.125 mJ per run; the shipped one takes 1.25 times as long, so int8 is \
                      SLOWER there, because of conversions for norm (0.3000 ms), fc (0.5000 ms \
                      instead of 0.4000 ms)";
        assert!(lines[1].1.ends_with(slower), "{lines:?}");
        let unquantized = Some(Fp32Timing { p50_ms: 2.0, ..original });
        let lines = said(&Measurement { unquantized, original: None, ..measured[0].clone() });
        assert!(lines[1].1.ends_with("takes 0.50 times as long"), "{lines:?}");
        // In a study on a user's network, it is said if it is missing.
        let trained = row.values.as_ref().and_then(TrialValues::trained).unwrap();
        let missing = Measurement { original: None, ..measured[0].clone() };
        let mut lines = Vec::new();
        describe_trained(trained, &[missing], (true, false), &mut lines);
        let said = "the network as it came was not measured there".to_owned();
        assert!(lines.contains(&("original@board".to_owned(), said)), "{lines:?}");
    }

    #[test]
    fn a_trial_shows_its_stages_below() {
        let mut row = row(1, 0.5, (1.0, 1.5), (2.0, 2.5));
        assert!(!describe(&row, &spec(), &[]).contains("\nstage "));
        let Some(TrialValues::Trained { trained, .. }) = &mut row.values else { panic!() };
        Arc::make_mut(trained).stages = vec![
            stages::tests::stage("trained", false, 4096.0, &[10, 9]),
            stages::tests::stage("quantize", false, 1024.0, &[10, 8]),
        ];
        let text = describe(&row, &spec(), &["ape".to_owned(), "bee".to_owned()]);
        assert!(text.contains("\n\nstage     validation"), "{text}");
        assert!(text.ends_with("bee        10  90.00 %   80.00 %  -10.00 points\n"), "{text}");
    }

    #[test]
    fn the_page_explains_the_notation_of_the_tables() {
        let spec = StudySpec::parse(
            "study.name = \"s\"\ndata.source = \"digits\"\nbudget.trials = 9\n\
             objectives = [{ metric = \"validation_accuracy\" }]\n\
             recipe = { prune = [0.2, 0.4], precision = \"int8\", alpha = 0.5, temperature = 4 }\n\
             teacher = { architecture = \"largest\", epochs = 1 }\n\
             space = { resolution = 8, stem_width = 16, stages = [\
             { operation = \"inverted-residual\", expansion = 2, kernel = 5, width = 12 }, \
             { width = 24, depth = 2, stride = 2, activation = \"relu6\" }] }",
        )
        .unwrap();
        let space = &spec.training().unwrap().space;
        let choices = spec.space.choices();
        let mut seen_prune = false;
        let genotype = choices.iter().map(|choice| {
            // The first stage is pruned by 20 %, the second by 40 %.
            let second = choice.options.len() > 1 && std::mem::replace(&mut seen_prune, true);
            u16::from(second)
        });
        let candidate = space.decode(&spec.space.genotype(genotype.collect()).unwrap());
        let page = include_str!("../../../docs/operating.md");
        let (_, section) = page.split_once("## Recipes and architectures").unwrap();
        let example = section.lines().find(|line| line.contains("kd")).unwrap();
        let parts = [candidate.recipe.to_string(), candidate.architecture.to_string()];
        assert_eq!(example.trim(), parts.join("   "));
        for (text, sign) in [("`prune 20/40%`", "prune"), ("`kd a0.5 T4`", "kd"), ("`e2`", " e2")] {
            assert!(section.contains(text) && example.contains(sign), "{text}");
        }
        let mut help = <crate::commands::Args as clap::CommandFactory>::command();
        let trials = help.find_subcommand_mut("trials").unwrap().render_long_help().to_string();
        assert!(trials.contains("docs/operating.md"), "{trials}");
    }

    #[test]
    fn attempts_of_the_training_are_told_apart() {
        let mut row = row(1, 0.5, (1.0, 1.5), (2.0, 2.5));
        (row.attempts, row.training_attempts) = (3, 1);
        let text = describe(&row, &spec(), &[]);
        let line = "attempts       1 of its training; 2 of other tasks, such as timing\n";
        assert!(text.contains(line), "{text}");
        let document = serde_json::to_value(json::Trials::one("s", &row, &[])).unwrap();
        let trial = &document["trials"][0];
        assert_eq!((&trial["attempts"], &trial["training_attempts"]), (&3.into(), &1.into()));
        row.attempts = 1;
        assert!(describe(&row, &spec(), &[]).contains("attempts       1 of its training\n"));
    }

    #[test]
    fn a_trial_that_was_cut_off_is_not_called_failed() {
        let mut row = row(1, 0.5, (1.0, 1.5), (2.0, 2.5));
        row.state = TrialState::Failed { reason: TrialState::CANCELLED.to_owned() };
        assert!(describe(&row, &spec(), &[]).contains("state          cancelled\n"));
        assert!(list_table(&[row.clone()], &spec()).contains("cancelled"));
        row.state = TrialState::Failed { reason: "it broke".to_owned() };
        assert!(list_table(&[row], &spec()).contains("failed"));
    }

    #[test]
    fn one_trial_shows_the_names_of_the_classes() {
        let row = row(1, 0.5, (1.0, 1.5), (2.0, 2.5));
        let names = ["ape", "bee"].map(str::to_owned);
        let text = describe(&row, &spec(), &names);
        assert!(text.contains("classes        ape, bee\n"), "{text}");
        assert!(!describe(&row, &spec(), &[]).contains("classes"));
        let document = |names| serde_json::to_value(json::Trials::one("s", &row, names)).unwrap();
        assert_eq!(document(&names)["classes"], serde_json::json!(["ape", "bee"]));
        assert!(document(&[]).get("classes").is_none());
    }
}
