//! The study that `compress` runs: the data and the training of one file, the recipe of another,
//! and the network.

use std::path::Path;

use anyhow::Context as _;
use edgesmith_client::Submission;
use edgesmith_common::spec::{SpecError, line_of};
use edgesmith_common::{Metric, StudyName};
use edgesmith_console::invalid;
use edgesmith_data::files;
use edgesmith_search_space::NEW_HEAD;
use toml::{Table, Value};

use crate::limits::Limit;
use crate::model::{ModelName, Pixels, StoredName};

/// Largest size of the file of a recipe or of a study, bytes.
const MAX_FILE: u64 = 16 << 20;

/// Tables of a study file that say on what, and how, networks are trained and measured.
const TAKEN: [&str; 4] = ["data", "training", "measurement", "teacher"];

/// A recipe as TOML.
pub struct Recipe {
    text: String,
    /// Its file, or what made it.
    source: String,
}

impl Recipe {
    /// Reads a file.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = files::read_text(file, MAX_FILE)
            .map_err(|error| invalid(format!("failed to read the recipe: {error}")))?;
        let source = file.display().to_string();
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let mistake = no_toml(&text, &error);
            invalid(format!("failed to read the recipe {source}: {mistake}"))
        })?;
        let others: Vec<&str> =
            table.keys().map(String::as_str).filter(|key| *key != "recipe").collect();
        if !table.contains_key("recipe") {
            return Err(invalid(format!(
                "{source} has no recipe; write its steps as [[recipe.steps]], each with a pass"
            )));
        }
        if !others.is_empty() {
            return Err(invalid(format!(
                "{source} has {} beside [recipe]; the data and the training are those of --data",
                others.join(", ")
            )));
        }
        Ok(Self { text, source })
    }

    /// The recipe that `--auto` searches.
    pub fn automatic() -> Self {
        let text = include_str!("auto.toml").to_owned();
        Self { text, source: "the recipe of --auto".to_owned() }
    }

    /// Whether a step learns from a teacher.
    fn learns(&self) -> bool {
        self.text.contains("\"distil\"")
    }

    /// Whether a step may ask for other bits than integers have.
    fn names_bits(&self) -> bool {
        ["weight_bits", "affine_weights", "activation_bits", "mixed_bits"]
            .into_iter()
            .any(|setting| self.text.contains(setting))
    }

    /// Where it comes from, for messages.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// A syntax error of a text with its line, as the other mistakes of a recipe are shown.
fn no_toml(text: &str, error: &toml::de::Error) -> SpecError {
    let breaks = |before: &[u8]| before.iter().filter(|byte| **byte == b'\n').count();
    let before = error.span().and_then(|span| text.as_bytes().get(..span.start));
    let line = before.map_or(0, |before| breaks(before) + 1);
    let message = format!("is not valid TOML: {}", error.message());
    SpecError { line, field: String::new(), message }
}

/// Whether a teacher is a network of its own, or a file of logits.
fn teaches(teacher: &Value) -> bool {
    teacher.get("model").is_some()
        || teacher.get("logits").is_some()
        || teacher.get("architecture").is_some_and(Value::is_table)
}

/// What a study is made of.
pub struct Composed<'a> {
    pub name: &'a StudyName,
    /// The study file whose data are used.
    pub data: &'a Path,
    pub recipe: &'a Recipe,
    /// An ONNX file.
    pub network: &'a Path,
    pub pixels: &'a Pixels,
    /// What the result must keep.
    pub limits: &'a [Limit],
    /// Accuracy of the network as it came on the validation images, for limits on what is lost of
    /// it. It may be 0 if there are no limits.
    pub accuracy: f64,
}

impl Composed<'_> {
    /// The study of so many trials. If candidates may run by reference, latency is not an
    /// objective.
    pub fn submission(&self, trials: u32) -> anyhow::Result<Submission> {
        if self.recipe.names_bits() {
            let untimed = self.of_objectives(trials, false)?;
            let recipe = untimed.spec.training().map(|work| work.space.recipe());
            if recipe.is_some_and(|recipe| recipe.by_reference().is_some()) {
                return Ok(untimed);
            }
        }
        self.of_objectives(trials, true)
    }

    fn of_objectives(&self, trials: u32, timed: bool) -> anyhow::Result<Submission> {
        // The recipe comes first, so that the lines of its mistakes are those of its file.
        let mut text = format!("{}\n{}\n", self.recipe.text, self.own(trials)?);
        text.push_str(&objectives(self.limits, timed));
        text.extend(self.limits.iter().map(|limit| limit.constraint(self.accuracy)));
        Submission::parse(&text, &|error| self.placed(error))
    }

    /// What has a mistake of the composed study, and how it is told there.
    fn placed(&self, error: &SpecError) -> (String, SpecError) {
        let SpecError { line, field, message } = error;
        let table = field.split(['.', '[']).next().unwrap_or_default();
        // Only the lines of the recipe are those of its file.
        if TAKEN.contains(&table) {
            let text = files::read_text(self.data, MAX_FILE).unwrap_or_default();
            let line = line_of(&text, field).unwrap_or(0);
            return (self.data.display().to_string(), SpecError { line, ..error.clone() });
        }
        let option = match field.split('[').next().unwrap_or_default() {
            "space.mean" => Some("--mean".to_owned()),
            "space.std" => Some("--std".to_owned()),
            "space.pixels" => Some("--raw-pixels".to_owned()),
            "constraints" => {
                Some(self.limit(field).map_or_else(|| "--auto".to_owned(), Limit::to_string))
            }
            _ => None,
        };
        if let Some(field) = option {
            let told = SpecError { line: 0, field, message: message.clone() };
            return ("the command line".to_owned(), told);
        }
        if table == "space" {
            // The user has no [space] that could have a new last layer.
            let message = match message.strip_suffix(NEW_HEAD) {
                Some(what) => format!("{what}name data of its classes with --data"),
                None => message.clone(),
            };
            let told = SpecError { line: 0, field: String::new(), message };
            return (self.network.display().to_string(), told);
        }
        let lines = self.recipe.text.lines().count();
        let line = if *line > lines { 0 } else { *line };
        (self.recipe.source.clone(), SpecError { line, ..error.clone() })
    }

    /// The limit whose constraint has a field, such as `constraints[0].max`.
    fn limit(&self, field: &str) -> Option<&Limit> {
        let (place, _) = field.strip_prefix("constraints[")?.split_once(']')?;
        self.limits.get(place.parse::<usize>().ok()?)
    }

    /// A hint if the recipe could learn from the teacher of the file of the data, but does not.
    pub fn unused_teacher(&self) -> anyhow::Result<Option<String>> {
        let given = self.given()?;
        let unused = given.get("teacher").is_some_and(|teacher| !teaches(teacher));
        Ok((unused && self.recipe.learns()).then(|| {
            format!(
                "[teacher] of {} is a network of its study's space, so it and the others and assistants \
                 beside it are not used: the network itself teaches. For another teacher give \
                 model, logits, or architecture as a table",
                self.data.display()
            )
        }))
    }

    /// The file of the data.
    fn given(&self) -> anyhow::Result<Table> {
        let failed = || format!("failed to read {}", self.data.display());
        let text = files::read_text(self.data, MAX_FILE).map_err(|e| invalid(e.to_string()))?;
        text.parse().with_context(failed)
    }

    fn own(&self, trials: u32) -> anyhow::Result<String> {
        let mut given = self.given()?;
        let mut study = Table::new();
        for name in TAKEN {
            if let Some(table) = given.remove(name) {
                study.insert(name.to_owned(), table);
            }
        }
        // Every trial starts from the network.
        if let Some(Value::Table(training)) = study.get_mut("training") {
            training.remove("inherit_epochs");
        }
        // A teacher of the study's own space is another network than one of this space. Without a
        // teacher the network itself teaches.
        if !self.recipe.learns() || !study.get("teacher").is_some_and(teaches) {
            study.remove("teacher");
        }
        // Its paths are relative to the study file.
        if let Some(Value::Table(teacher)) = study.get_mut("teacher") {
            let folder = self.data.parent().unwrap_or(Path::new(""));
            let placed = |teacher: &mut Table| {
                for name in ["weights", "model", "logits"] {
                    if let Some(Value::String(path)) = teacher.get_mut(name) {
                        *path = folder.join(&*path).display().to_string();
                    }
                }
            };
            placed(teacher);
            if let Some(Value::Array(others)) = teacher.get_mut("others") {
                others.iter_mut().filter_map(Value::as_table_mut).for_each(placed);
            }
        }
        let mut about = Table::new();
        about.insert("name".to_owned(), self.name.to_string().into());
        if let Some(seed) = given.get("study").and_then(|study| study.get("seed")) {
            about.insert("seed".to_owned(), seed.clone());
        }
        study.insert("study".to_owned(), about.into());
        let mut space = Table::new();
        space.insert("kind".to_owned(), "model".into());
        space.insert("model".to_owned(), self.network.display().to_string().into());
        space.insert("train".to_owned(), "as-it-is".into());
        let list = |numbers: &[f32]| -> Value {
            numbers.iter().map(|&number| f64::from(number)).collect::<Vec<f64>>().into()
        };
        match self.pixels {
            Pixels::Raw => drop(space.insert("pixels".to_owned(), "raw".into())),
            Pixels::Normalized { mean, std } => {
                space.insert("mean".to_owned(), list(mean));
                space.insert("std".to_owned(), list(std));
            }
        }
        study.insert("space".to_owned(), space.into());
        let mut budget = Table::new();
        budget.insert("trials".to_owned(), i64::from(trials).into());
        study.insert("budget".to_owned(), budget.into());
        Ok(study.to_string())
    }
}

/// The tables of what the front is of. What is limited need not be as little as possible.
fn objectives(limits: &[Limit], timed: bool) -> String {
    let open = |metric: Metric| !limits.iter().any(|limit| limit.caps(metric));
    let mut text = ACCURACY.to_owned();
    if timed && open(Metric::LATENCY_MS) {
        text.push_str(LATENCY);
    }
    if open(Metric::MODEL_BYTES) {
        text.push_str(BYTES);
    }
    text
}

/// What the front is of, in this order.
const ACCURACY: &str = "[[objectives]]\nmetric = \"validation_accuracy\"\n";
/// Only where candidates have one.
const LATENCY: &str = "[[objectives]]\nmetric = \"latency_ms\"\n";
const BYTES: &str = "[[objectives]]\nmetric = \"model_bytes\"\n";

/// The name of a study of this network and this recipe.
pub fn name(model: &ModelName, recipe: Option<&Path>) -> anyhow::Result<StudyName> {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let network = match model {
        ModelName::File(path, _) => stem(path),
        ModelName::Stored { study, network: StoredName::Trial(number) } => {
            format!("{study}-{number}")
        }
        ModelName::Stored { study, network: StoredName::Teacher } => format!("{study}-teacher"),
    };
    let recipe = recipe.map_or_else(|| "auto".to_owned(), stem);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '-' };
    let text: String = format!("{network}-{recipe}").chars().map(plain).collect();
    text.parse().map_err(|error| invalid(format!("{error}; give --name")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_in_a_recipe_has_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("r.toml");
        let said = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Recipe::read(&file).err().unwrap().to_string()
        };
        for (text, line) in [
            ("[[recipe.steps]]\npass = prune\nshare = 0.5\n", "r.toml: line 2: is not valid TOML"),
            ("\n\nshare = 1\nshare = 2\n", "r.toml: line 4: is not valid TOML"),
            ("pass = \"é\"\r\nshare =\n", "r.toml: line 2: is not valid TOML"),
        ] {
            let said = said(text);
            assert!(said.contains(line) && said.starts_with("failed to read the recipe"), "{said}");
        }
    }

    #[test]
    fn what_has_a_limit_is_no_objective() {
        let of = |limits: &[&str], timed: bool| {
            let limits: Vec<Limit> = limits.iter().map(|limit| limit.parse().unwrap()).collect();
            objectives(&limits, timed)
        };
        assert_eq!(of(&[], true), format!("{ACCURACY}{LATENCY}{BYTES}"));
        assert_eq!(of(&["accuracy_drop<=0.1"], false), format!("{ACCURACY}{BYTES}"));
        let small = of(&["accuracy_drop<=0.1", "model_bytes<=9"], true);
        assert_eq!(small, format!("{ACCURACY}{LATENCY}"));
        assert_eq!(of(&["latency_ms<=1", "model_bytes<=9"], true), ACCURACY);
        // A lower limit does not say how little is enough.
        assert_eq!(of(&["model_bytes>=9"], true), format!("{ACCURACY}{LATENCY}{BYTES}"));
    }

    #[test]
    fn mistakes_in_the_file_of_the_data_have_its_lines() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data.toml");
        std::fs::write(&data, "data.source = \"digits\"\n\n[teacher]\nepochs = 0\n").unwrap();
        let composed = Composed {
            name: &"s".parse().unwrap(),
            data: &data,
            recipe: &Recipe { text: String::new(), source: "r.toml".to_owned() },
            network: Path::new("net.onnx"),
            pixels: &Pixels::Raw,
            limits: &[],
            accuracy: 0.5,
        };
        let line = |field: &str| {
            let (field, message) = (field.to_owned(), "wrong".to_owned());
            composed.placed(&SpecError { line: 99, field, message }).1.line
        };
        assert_eq!((line("teacher.epochs"), line("teacher.model")), (4, 3));
        assert_eq!(line("training.epochs"), 0);
    }

    #[test]
    fn mistakes_are_told_of_what_the_user_wrote() {
        let text = "\n[[recipe.steps]]\npass = \"prune\"\n".to_owned();
        let composed = Composed {
            name: &"s".parse().unwrap(),
            data: Path::new("data.toml"),
            recipe: &Recipe { text, source: "r.toml".to_owned() },
            network: Path::new("net.onnx"),
            pixels: &Pixels::Raw,
            limits: &["latency_ms<=3", "model_bytes <= -5"]
                .map(|limit| limit.parse::<Limit>().unwrap()),
            accuracy: 0.5,
        };
        let said = |line: usize, field: &str, message: &str| {
            let (field, message) = (field.to_owned(), message.to_owned());
            let (source, told) = composed.placed(&SpecError { line, field, message });
            format!("{source}: {told}")
        };
        for (line, field, told) in [
            (3, "recipe.steps[0].share", "r.toml: line 3: recipe.steps[0].share: wrong"),
            (3, "", "r.toml: line 3: wrong"),
            (9, "recipe", "r.toml: recipe: wrong"),
            (9, "space.mean", "the command line: --mean: wrong"),
            (9, "space.std", "the command line: --std: wrong"),
            (9, "space.pixels", "the command line: --raw-pixels: wrong"),
            (9, "space.model", "net.onnx: wrong"),
            (9, "constraints[1].max", "the command line: model_bytes <= -5: wrong"),
            (9, "constraints", "the command line: --auto: wrong"),
            (9, "constraints[7].max", "the command line: --auto: wrong"),
            (9, "data.classes", "data.toml: data.classes: wrong"),
            (1, "training.epochs", "data.toml: training.epochs: wrong"),
            (9, "teacher.others[0].logits", "data.toml: teacher.others[0].logits: wrong"),
        ] {
            assert_eq!(said(line, field, "wrong"), told);
        }
        let classes = format!("it gives 5 classes, but the data have 7; {NEW_HEAD}");
        let told = "net.onnx: it gives 5 classes, but the data have 7; name data of its classes \
                    with --data";
        assert_eq!(said(9, "space.model", &classes), told);
    }
}
