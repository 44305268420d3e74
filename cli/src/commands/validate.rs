//! `edgesmith validate`: checks a study file, and the data files that it names with the readers of
//! the worker.

use std::path::{Path, PathBuf};

use edgesmith_client::{MAX_WEIGHTS, read_study};
use edgesmith_common::spec::{
    Budget, FidelityRule, FidelitySpec, OtherSource, OtherTeacher, ScreeningSpec, TableSpec,
    TeacherSource, TeacherSpec, TrainWork, TrainingSpec, Workload,
};
use edgesmith_common::{Goal, StudySpec};
use edgesmith_console::{invalid, print_text, table};
use edgesmith_data::{Dataset, Logits, files};
use edgesmith_search_space::{
    Cost, Design, Head, NetworkSpace, Precision, residual_blocks, stage_count,
};
use edgesmith_train::safetensors;
use edgesmith_worker::table::{CellTable, TableError};

use crate::output::{counted, layers_in_words};

/// Arguments: the study file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Study file
    pub study: PathBuf,
    /// Base directory of relative data paths in the study [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
}

/// Checks a study file and prints what would run.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let spec = read_study(&args.study)?;
    let root = args.data_root.as_deref().unwrap_or(Path::new("."));
    let files = Files::check(&spec, &args.study, root);
    fits(&files, &args.study)?;
    let space = &spec.space;
    let choices: Vec<&edgesmith_search_space::Choice> =
        space.choices().iter().filter(|c| c.options.len() > 1).collect();
    let mut lines = vec![format!("{} {}", args.study.display(), files.verdict())];
    let mut say = |name: &str, text: String| lines.push(format!("{name:<12}{text}"));
    say("study", format!("{} (seed {})", spec.name, spec.seed.0));
    match &spec.work {
        Workload::Train(work) => say("data", work.data.source.to_string()),
        Workload::Table(table) => {
            say("table", format!("{}: trials are looked up, nothing is trained", table.path));
        }
    }
    say(
        "space",
        format!(
            "{} genotypes from {} choices with more than one option; distinct networks are fewer",
            space.size(),
            choices.len()
        ),
    );
    if let Some(work) = spec.training() {
        say_network(work, &mut say);
    }
    if let Some((architecture, cost)) = spec.training().and_then(|work| largest(&work.space)) {
        say(
            "largest",
            format!(
                "{architecture} ({} parameters, {} MACs)",
                table::count(cost.parameters),
                table::count(cost.macs)
            ),
        );
    }
    let objectives: Vec<String> = spec
        .objectives
        .iter()
        .map(|o| match o.goal {
            Goal::Maximize => format!("maximize {o}"),
            Goal::Minimize => format!("minimize {o}"),
        })
        .collect();
    say("objectives", objectives.join(", "));
    if !spec.constraints.is_empty() {
        let constraints: Vec<String> = spec.constraints.iter().map(ToString::to_string).collect();
        say("subject to", constraints.join(", "));
    }
    let limits: Vec<String> =
        spec.predicted_limits().iter().map(|(class, ms)| format!("{ms} ms on {class}")).collect();
    if !limits.is_empty() {
        say(
            "predicts",
            format!(
                "latency from earlier measurements; candidates surely above {} are not trained",
                limits.join(" or ")
            ),
        );
    }
    if !spec.start_from.is_empty() {
        let names: Vec<&str> = spec.start_from.iter().map(|name| name.as_str()).collect();
        say("starts from", names.join(", "));
    }
    say("algorithm", spec.algorithm.name().to_owned());
    match &spec.work {
        Workload::Train(work) => {
            say_budget(&work.training, spec.budget.trials, &mut say);
            if let Some(ScreeningSpec { proxy, batch, keep }) = work.screening {
                // A batch is never larger than the rest of the budget.
                let batch = batch.min(spec.budget.trials);
                let kept = format!("{:.0} %", 100.0 * keep);
                let of = format!("of each batch of {batch} (the last ones may be smaller),");
                say("screening", format!("{of} the best {kept} by {proxy} are trained"));
            }
            say_fidelity(spec.fidelity.as_ref(), work.training.epochs, &mut say);
            say_teacher(work, &mut say);
        }
        Workload::Table(table) => {
            say("budget", lookups(&spec.budget));
            let epochs = table.epochs.unwrap_or_default();
            say_fidelity(spec.fidelity.as_ref(), epochs, &mut say);
        }
    }
    let devices: Vec<String> = spec.devices().iter().map(ToString::to_string).collect();
    let devices = if devices.is_empty() { "none".to_owned() } else { devices.join(", ") };
    say("devices", devices);
    for (name, text) in files.found {
        say(name, text);
    }
    lines.push(String::new());
    print_text(&lines.join("\n"))
}

/// Reads the files that a study names, as far as they are on this machine. `study` is where its
/// relative paths begin, and `named` is the file that people wrote.
///
/// # Errors
/// If one of them does not fit the study.
pub fn check_files(
    spec: &StudySpec,
    study: &Path,
    named: &Path,
    root: &Path,
) -> anyhow::Result<()> {
    fits(&Files::check(spec, study, root), named)
}

fn fits(files: &Files, study: &Path) -> anyhow::Result<()> {
    if files.faults.is_empty() {
        return Ok(());
    }
    let faults: Vec<String> = files.faults.iter().map(|fault| format!("\n  {fault}")).collect();
    Err(invalid(format!(
        "{} has no mistake, but a file that it names does not fit:{}",
        study.display(),
        faults.concat()
    )))
}

/// The heading of files that are not on this machine.
const NOT_CHECKED: &str = "not checked";

/// What is known of the files that a study names, on this machine.
#[derive(Debug, Default, PartialEq)]
struct Files {
    /// What they hold, and which are not here, by heading.
    found: Vec<(&'static str, String)>,
    /// Why files that are here cannot be used.
    faults: Vec<String>,
}

impl Files {
    /// Reads all files that are on this machine.
    fn check(spec: &StudySpec, study: &Path, root: &Path) -> Self {
        let mut files = Self::default();
        match &spec.work {
            Workload::Train(work) => {
                let data = files.images(work, spec, root);
                if let Some(teacher) = &work.teacher
                    && let TeacherSource::File { path } = &teacher.source
                {
                    let path = study.parent().unwrap_or(Path::new("")).join(path);
                    files.teacher(teacher, work, &path);
                }
                let others = spec.other_teachers().iter().filter_map(|other| match &other.source {
                    OtherSource::Logits(given) => Some(&given.path),
                    OtherSource::Train { .. } | OtherSource::Network { .. } => None,
                });
                let beside = work.logits_beside.iter().map(|beside| &beside.given.path);
                for path in work.logits.iter().chain(beside).chain(others) {
                    let path = study.parent().unwrap_or(Path::new("")).join(path);
                    files.logits(work, &path, data.as_ref());
                }
            }
            Workload::Table(table) => files.table(table, spec, root),
        }
        files
    }

    /// What the first line says of a study file without mistakes, after its name.
    fn verdict(&self) -> &'static str {
        if self.found.iter().any(|(heading, _)| *heading == NOT_CHECKED) {
            "is valid, but files that it names were not found here"
        } else {
            "is valid"
        }
    }

    /// The images, if they are all here.
    fn images(&mut self, work: &TrainWork, spec: &StudySpec, root: &Path) -> Option<Dataset> {
        let paths = work.data.source.paths().into_iter().map(|path| root.join(path)).collect();
        if self.are_missing(paths, "every worker that trains needs them", Some(root)) {
            return None;
        }
        match Dataset::load(&work.data, work.space.data(), spec.seed, root) {
            Ok(data) => {
                let [train, validation, test] =
                    [&data.train, &data.validation, &data.test].map(|part| part.len());
                let text =
                    format!("{train} to train on, {validation} to validate, {test} held out");
                self.found.push(("images", text));
                Some(data)
            }
            Err(error) => {
                self.faults.push(format!("failed to load the study's images: {error}"));
                None
            }
        }
    }

    /// `data` are the study's images, if they are here.
    fn logits(&mut self, work: &TrainWork, path: &Path, data: Option<&Dataset>) {
        if self.are_missing(vec![path.to_owned()], "`search` and `submit` read them", None) {
            return;
        }
        let read = || -> anyhow::Result<()> {
            let bytes = files::read(path, MAX_WEIGHTS)?;
            let logits = Logits::read(&bytes, work.space.data().classes as usize)?;
            if let Some(data) = data {
                logits.of_training(data)?;
            }
            Ok(())
        };
        if let Err(error) = read() {
            let path = path.display();
            self.faults.push(format!("failed to use the logits in {path}: {error}"));
        }
    }

    fn teacher(&mut self, teacher: &TeacherSpec, work: &TrainWork, path: &Path) {
        // Its path starts at the study file.
        if self.are_missing(vec![path.to_owned()], "`search` and `submit` read them", None) {
            return;
        }
        let read = || -> anyhow::Result<()> {
            let (weights, _) = safetensors::read(&files::read(path, MAX_WEIGHTS)?)?;
            Ok(weights.check(&teacher.architecture.graph(work.space.data())?)?)
        };
        if let Err(error) = read() {
            let path = path.display();
            self.faults.push(format!("failed to use the teacher's weights in {path}: {error}"));
        }
    }

    fn table(&mut self, table: &TableSpec, spec: &StudySpec, root: &Path) {
        let paths = std::iter::once(&table.path).chain(&table.latencies);
        let paths = paths.map(|path| root.join(path)).collect();
        if self.are_missing(paths, "every worker that looks trials up needs them", Some(root)) {
            return;
        }
        let read = || -> Result<usize, TableError> {
            let rows = CellTable::load(table, root)?;
            let mut cells: Vec<_> = rows.cells().collect();
            // In the same order each time, so that the same row is reported.
            cells.sort_by_key(|cell| cell.to_string());
            for cell in &cells {
                rows.look_up(table, cell, &spec.targets())?;
                for rung in &table.rungs {
                    rows.look_up_rung(table, cell, rung.epochs)?;
                }
            }
            Ok(cells.len())
        };
        match read() {
            Ok(rows) => self.found.push(("rows", format!("{rows} networks"))),
            Err(error) => self.faults.push(format!("failed to use the study's table: {error}")),
        }
    }

    /// Whether any of these files is not on this machine. This is not a mistake, because only
    /// workers need them. `root` is where relative paths start, if `--data-root` names it.
    fn are_missing(&mut self, mut paths: Vec<PathBuf>, who: &str, root: Option<&Path>) -> bool {
        paths.retain(|path| !path.exists());
        if paths.is_empty() {
            return false;
        }
        let names: Vec<String> = paths.iter().map(|path| absolute(path)).collect();
        let mut text = format!("not on this machine: {}; {who}", names.join(", "));
        if let Some(root) = root {
            let root = absolute(root);
            text.push_str(&format!("; relative paths start at {root}, or where --data-root says"));
        }
        self.found.push((NOT_CHECKED, text));
        true
    }
}

/// The path from the root of the file system.
fn absolute(path: &Path) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // Without the dots of `./photos`.
    whole.components().collect::<PathBuf>().display().to_string()
}

fn say_budget(training: &TrainingSpec, trials: u32, say: &mut impl FnMut(&str, String)) {
    let TrainingSpec { epochs, fine_tune_epochs, inherit_epochs, .. } = training;
    let heirs = match inherit_epochs {
        0 => String::new(),
        epochs => format!(", {epochs} where weights are inherited"),
    };
    let (trials, epochs) = (counted(trials, "trial"), counted(*epochs, "epoch"));
    say(
        "budget",
        format!(
            "{trials} of {epochs}{heirs} (+{fine_tune_epochs} of fine-tuning where channels are \
             pruned)"
        ),
    );
}

/// The rungs of trials with `epochs` epochs, if the study has rungs.
fn say_fidelity(fidelity: Option<&FidelitySpec>, epochs: u32, say: &mut impl FnMut(&str, String)) {
    if let Some(fidelity) = fidelity {
        let rungs = fidelity.rungs.iter().chain([&epochs]);
        let rungs: Vec<String> = rungs.map(u32::to_string).collect();
        let who = match fidelity.rule {
            FidelityRule::Asha => format!("about one in {} goes on", fidelity.reduction),
            FidelityRule::Median => "trials below the median stop".to_owned(),
            FidelityRule::Curve { confidence } => {
                format!("trials that cannot reach the front, at {:.0} %, stop", 100.0 * confidence)
            }
        };
        let (rule, rungs) = (fidelity.rule.name(), rungs.join(", "));
        say("fidelity", format!("{rule}: rungs at {rungs} epochs; {who} at each"));
    }
}

/// The user's network, its stages, and what may be left out.
fn say_network(work: &TrainWork, say: &mut impl FnMut(&str, String)) {
    let (Some(space), Some(model)) = (work.space.model(), &work.model) else { return };
    let graph = &space.base().graph;
    let head = match space.definition().head {
        Head::Kept => "",
        Head::New => " and a new last layer",
    };
    say("network", format!("{}, {}{head}", model.path, layers_in_words(graph)));
    for stage in 0..stage_count(graph) {
        let nodes = || {
            let nodes = graph.layers().map(|(_, node)| node);
            nodes.filter(|node| node.place.stage == Some(stage as u32))
        };
        let largest = nodes().map(|node| graph.shape(node.output));
        let shape = largest.max_by_key(|shape| shape.positions()).map(ToString::to_string);
        let shape = shape.unwrap_or_default();
        let text = format!("{} at {shape}", counted(nodes().count(), "layer"));
        say(&format!("  stage {}", stage + 1), text);
    }
    for (block, number) in residual_blocks(graph).iter().zip(1..) {
        let first = &graph.value(graph.node(block.nodes[0]).output).name;
        let last = block.nodes.last().map(|id| &graph.value(graph.node(*id).output).name);
        let last = last.map(ToString::to_string).unwrap_or_default();
        say(&format!("  block {number}"), format!("from {first} to {last}"));
    }
}

fn say_teacher(work: &TrainWork, say: &mut impl FnMut(&str, String)) {
    let teacher = match &work.teacher {
        Some(teacher) => match &teacher.source {
            TeacherSource::Train { epochs } => {
                format!("{}, trained for {epochs} epochs", teacher.architecture)
            }
            TeacherSource::Itself => "the network itself, as it is".to_owned(),
            TeacherSource::Network(model) => {
                let layers = layers_in_words(&model.file.network);
                format!("{}, {layers}, as it is, {}", model.path, teacher.architecture)
            }
            TeacherSource::File { path } => format!("{}, from {path}", teacher.architecture),
        },
        None => match &work.logits {
            Some(path) => format!("the logits in {path}"),
            None => "none".to_owned(),
        },
    };
    say("teacher", teacher);
    for beside in &work.logits_beside {
        let (path, weight) = (&beside.given.path, beside.weight);
        say("  beside it", format!("the logits in {path}, weight {weight}"));
    }
    for OtherTeacher { source, weight } in work.teacher.iter().flat_map(|teacher| &teacher.others) {
        let what = match source {
            OtherSource::Train { architecture, epochs } => {
                format!("{architecture}, trained for {epochs} epochs")
            }
            OtherSource::Network { architecture, model } => {
                format!("{}, as it is, {architecture}", model.path)
            }
            OtherSource::Logits(given) => format!("the logits in {}", given.path),
        };
        say("  beside it", format!("{what}, weight {weight}"));
    }
}

fn lookups(budget: &Budget) -> String {
    match budget.simulated_seconds {
        Some(seconds) => format!("{seconds} seconds of training according to the table"),
        None => counted(budget.trials, "trial"),
    }
}

/// The space's largest network and its cost before compression.
fn largest(space: &NetworkSpace) -> Option<(Design, Cost)> {
    let architecture = match space {
        NetworkSpace::Staged(space) => space.decode(&space.largest().ok()?).architecture,
        NetworkSpace::Model(space) => Design::Model(space.whole()),
    };
    let network = architecture.graph(space.data()).ok()?;
    Some((architecture, Cost::of(&network, Precision::Fp32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A study of these data, and of this text at the end of its file.
    fn study(data: &str, more: &str) -> StudySpec {
        let text = format!(
            "study.name = \"s\"\n{data}\nbudget.trials = 9\n\
             objectives = [{{ metric = \"validation_accuracy\" }}]\n\
             space = {{ resolution = 8, stem_width = 8, stages = [{{ width = 8 }}] }}\n{more}"
        );
        StudySpec::parse(&text).unwrap()
    }

    fn idx(more: &str) -> StudySpec {
        let data = "data = { source = \"idx\", classes = 2, train_images = \"x\", \
                    train_labels = \"y\", test_images = \"x\", test_labels = \"y\", \
                    validation_fraction = 0.5 }";
        study(data, more)
    }

    #[test]
    fn files_that_are_here_are_read_and_others_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let check = || Files::check(&idx(""), &at.join("s.toml"), at);
        let write = |name: &str, bytes: &[u8]| std::fs::write(at.join(name), bytes).unwrap();
        write("y", &[0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1]);
        let files = check();
        assert_eq!(files.faults, [""; 0]);
        assert_eq!(files.verdict(), "is valid, but files that it names were not found here");
        let (name, text) = &files.found[0];
        let x = at.join("x").display().to_string();
        assert_eq!(
            (*name, text.starts_with(&format!("not on this machine: {x}"))),
            ("not checked", true)
        );
        let root = at.display();
        let end = format!("relative paths start at {root}, or where --data-root says");
        assert!(text.ends_with(&end), "{text}");
        // A relative path is told in full.
        let here = Files::check(&idx(""), Path::new("s.toml"), Path::new("."));
        let whole = std::env::current_dir().unwrap().join("x").display().to_string();
        assert!(here.found[0].1.contains(&format!("machine: {whole}, ")), "{here:?}");

        write("x", &[0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 1, 5, 6, 7, 8]);
        let said = "2 to train on, 2 to validate, 4 held out".to_owned();
        assert_eq!(check(), Files { found: vec![("images", said)], faults: vec![] });
        assert_eq!(check().verdict(), "is valid");
        write("x", &[0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 1, 5, 6]);
        let faults = check().faults;
        assert!(faults[0].contains(&format!("images: {x} is truncated")), "{faults:?}");
    }

    #[test]
    fn weights_of_the_teacher_must_fit_its_architecture() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let given = "teacher = { weights = \"t.safetensors\", architecture = { resolution = 8, \
                     stem_width = 8, stages = [{ width = 8 }] } }";
        let spec = study("data.source = \"digits\"", given);
        let check = || Files::check(&spec, &at.join("s.toml"), Path::new("/nowhere"));
        let files = check();
        assert!(files.found[1].1.contains("t.safetensors; `search` and `submit`"), "{files:?}");
        std::fs::write(at.join("t.safetensors"), safetensors::to_bytes(&Default::default(), &[]))
            .unwrap();
        let faults = check().faults;
        assert!(faults[0].contains("t.safetensors: ") && faults[0].contains("stem"), "{faults:?}");
    }

    #[test]
    fn rows_of_a_table_are_read_with_the_columns_of_the_study() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let spec = StudySpec::parse(
            "study.name = \"s\"\nbudget.trials = 9\n\
             objectives = [{ metric = \"validation_accuracy\" }, \
             { metric = \"latency_ms\", device = \"pi\" }]\n\
             table = { benchmark = \"nas-bench-201\", path = \"t.csv\", latencies = \"l.csv\" }",
        )
        .unwrap();
        let check = || Files::check(&spec, &at.join("s.toml"), at);
        assert!(check().found[0].1.contains("t.csv, "), "{:?}", check());
        let cell = "|none~0|+|skip_connect~0|none~1|+|none~0|none~1|nor_conv_3x3~2|";
        let table = format!("arch,c10_valid_12,c10_test_200,c10_train_s_200\n{cell},90,80,100\n");
        std::fs::write(at.join("t.csv"), table).unwrap();
        let latencies = |text: &str| std::fs::write(at.join("l.csv"), text).unwrap();
        latencies("pi_ms\n1.5\n");
        assert_eq!(check().found, [("rows", "1 networks".to_owned())]);
        latencies("phone_ms\n1.5\n");
        assert!(check().faults[0].contains("has no column \"pi_ms\""), "{:?}", check());
        latencies("pi_ms\nslow\n");
        assert!(check().faults[0].contains("slow"), "{:?}", check());
    }
}
