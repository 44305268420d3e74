//! Compares studies by what they mean: defaults filled in, and without regard to comments, order
//! and spelling. Does not judge whether a difference matters.

use std::fmt;

use serde_json::Value;

use super::{ModelFile, StudySpec};

/// A field in which two studies differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field as the study file names it, for example `training.epochs`.
    pub field: String,
    /// Its value in the one study, as text; long values are cut.
    pub before: String,
    /// Its value in the other study.
    pub after: String,
}

/// `training.epochs: 5 -> 9`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, before, after } = self;
        write!(f, "{field}: {before} -> {after}")
    }
}

impl StudySpec {
    /// The fields in which `other` differs from this study, in the order of the resolved study;
    /// empty if both mean the same.
    pub fn differences(&self, other: &StudySpec) -> Vec<Difference> {
        let document = |spec: &StudySpec| {
            let mut document: Value = serde_json::from_str(&spec.to_resolved())
                .unwrap_or_else(|e| unreachable!("a resolved study is JSON: {e}"));
            if let Some(fields) = document.as_object_mut() {
                // The text of the file has no meaning of its own.
                fields.retain(|name, _| name != "source" && name != "version");
            }
            document
        };
        let mut found = Vec::new();
        compare(&mut Vec::new(), &document(self), &document(other), &mut found);
        found
    }
}

/// Adds the differences between two values at `path`.
fn compare(path: &mut Vec<String>, a: &Value, b: &Value, found: &mut Vec<Difference>) {
    if a == b {
        return;
    }
    // The settings of different algorithms cannot be compared.
    if *path == ["algorithm"] && a.get("name") != b.get("name") {
        path.push("name".to_owned());
        let name = |algorithm: &Value| text(algorithm.get("name").unwrap_or(&Value::Null));
        found.push(Difference { field: field(path), before: name(a), after: name(b) });
        path.pop();
        return;
    }
    // A network is compared as a whole, wherever its file is.
    let is_path = path.last().is_some_and(|name| name == "path");
    if is_path && path.iter().any(|name| name == "model" || name == "network") {
        return;
    }
    let of_model = match &path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["work", "train", "model", "file"] => Some("space.model".to_owned()),
        ["work", "train", "teacher", "source", "network", "file"] => {
            Some("teacher.model".to_owned())
        }
        ["work", "train", "teacher", "others", place, "network", "file"] => {
            Some(format!("teacher.others{place}.model"))
        }
        // So is a file of logits beside it, of which the hash is known.
        ["work", "train", "teacher", "others", _, "logits", "path"]
        | ["work", "train", "logits_beside", _, "path"] => return,
        ["work", "train", "teacher", "others", place, "logits", "file"]
        | ["work", "train", "logits_beside", place, "file"] => {
            let field = format!("the file of teacher.others{place}.logits");
            return found.push(Difference { field, before: text(a), after: text(b) });
        }
        _ => None,
    };
    if let Some(name) = of_model {
        let read = |file: &Value| serde_json::from_value::<ModelFile>(file.clone()).ok();
        if read(a).zip(read(b)).is_some_and(|(a, b)| a.is_same(&b)) {
            return;
        }
        let hash = |file: &Value| text(file.get("weights").unwrap_or(&Value::Null));
        let field = format!("the network of {name}");
        let (before, after) = (hash(a), hash(b));
        let same = before == after;
        let other = if same { "another structure".to_owned() } else { after };
        return found.push(Difference { field, before, after: other });
    }
    match (a, b) {
        (Value::Object(x), Value::Object(y)) if has_same_form(a, b) => {
            let names = x.keys().chain(y.keys().filter(|name| !x.contains_key(*name)));
            for name in names {
                let (x, y) = (x.get(name), y.get(name));
                path.push(name.clone());
                compare(path, x.unwrap_or(&Value::Null), y.unwrap_or(&Value::Null), found);
                path.pop();
            }
        }
        (Value::Array(x), Value::Array(y))
            if x.len() == y.len() && x.iter().zip(y).all(|(x, y)| has_same_form(x, y)) =>
        {
            for (place, (x, y)) in x.iter().zip(y).enumerate() {
                path.push(format!("[{place}]"));
                compare(path, x, y, found);
                path.pop();
            }
        }
        _ => found.push(Difference { field: field(path), before: text(a), after: text(b) }),
    }
}

/// Whether two values are objects that can be compared field by field. Two variants of a closed set
/// cannot: a variant is an object with one field, which is its name.
fn has_same_form(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            !(a.len() == 1 && b.len() == 1 && a.keys().ne(b.keys()))
        }
        _ => false,
    }
}

/// The study file's name of a field of the resolved study.
fn field(path: &[String]) -> String {
    let mut parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match &parts[..] {
        ["work", "train" | "table"] => return "table".to_owned(),
        ["work", "train", "channels" | "classes"] => parts[1] = "data",
        // The name of the pass is not a part of the field.
        ["work", "train", "model" | "space", "steps", _, _, ..] => {
            parts[2] = "recipe";
            parts.remove(5);
        }
        [
            "work",
            "train",
            "model" | "space",
            "steps" | "prune" | "precision" | "alpha" | "temperature",
            ..,
        ] => {
            parts[2] = "recipe";
        }
        ["work", "train", "model", "path"] => parts = vec!["work", "train", "space", "model"],
        ["work", "train", "model", ..] => parts[2] = "space",
        ["work", "train", "training", "shift" | "flip" | "views"] => {
            parts.insert(3, "augmentation");
        }
        ["work", "train", "teacher", "source", "file", "path"] => {
            parts.truncate(3);
            parts.push("weights");
        }
        ["work", "train", "logits_beside", rest @ ..] => {
            parts = ["work", "train", "teacher", "others"]
                .into_iter()
                .chain(rest.iter().copied())
                .collect();
        }
        ["work", "train", "logits"] => parts = vec!["work", "train", "teacher", "logits"],
        ["work", "train", "teacher", "source", "network", "path"] => {
            parts.truncate(3);
            parts.push("model");
        }
        ["work", "train", "teacher", "others", _, "network", ..] => drop(parts.remove(5)),
        // The name of a variant is not a part of the field.
        ["work", "train", "teacher" | "data", "source", _, _, ..] => drop(parts.drain(3..5)),
        ["fidelity", "rule", _, ..] => drop(parts.drain(1..3)),
        ["constraints", _, "bound", ..] => drop(parts.remove(2)),
        ["name" | "seed" | "start_from", ..] => parts.insert(0, "study"),
        _ => {}
    }
    let parts = match &parts[..] {
        ["work", "data", rest] => &["data", rest][..],
        ["work", "train", rest @ ..] => rest,
        ["work", rest @ ..] => rest,
        all => all,
    };
    parts.join(".").replace(".[", "[")
}

/// Characters of a value that are shown.
const SHOWN: usize = 60;

fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        value => {
            let text = value.to_string();
            if text.chars().count() <= SHOWN {
                return text;
            }
            text.chars().take(SHOWN).chain(['…']).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUDY: &str = r#"
study = { name = "s", seed = 3 }
objectives = [{ metric = "validation_accuracy" }, { metric = "latency_ms", device = "pi" }]
constraints = [{ metric = "macs", max = 1e9 }]
algorithm = { name = "nsga2", population = 7 }
budget = { trials = 7 }
training = { epochs = 9, augmentation = { shift = 1 } }
data = { source = "image-folder", train = "t", classes = 3, channels = 1 }
fidelity = { rule = "curve", confidence = 0.9 }
teacher = { epochs = 4 }
[recipe]
alpha = [0.5]
[space]
resolution = 8
stem_width = [4, 8]
stages = [{ width = [4, 8] }]
"#;

    fn differences(from: &str, to: &str) -> Vec<String> {
        assert!(STUDY.contains(from), "{from}");
        let parse = |text: &str| StudySpec::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let other = parse(&STUDY.replacen(from, to, 1));
        parse(STUDY).differences(&other).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn spelling_order_and_given_defaults_make_no_difference() {
        for (from, to) in [
            ("budget = { trials = 7 }", "# more\r\nbudget.max_attempts = 3\r\nbudget.trials = 7"),
            ("name = \"s\", seed = 3", "seed = 0x3, name = 's'"),
            ("max = 1e9", "max = 1_000_000_000"),
            ("resolution = 8\n", "resolution = [8]\n"),
            (
                "metric = \"validation_accuracy\"",
                "goal = \"maximize\", metric = \"validation_accuracy\"",
            ),
        ] {
            assert_eq!(differences(from, to), [""; 0], "{to}");
        }
    }

    #[test]
    fn differences_are_named_as_in_the_study_file() {
        for (from, to, said) in [
            ("seed = 3", "seed = 4", "study.seed: 3 -> 4"),
            ("name = \"s\"", "name = \"r\"", "study.name: s -> r"),
            ("trials = 7", "trials = 8", "budget.trials: 7 -> 8"),
            ("trials = 7", "trials = 7, hours = 1.5", "budget.hours: none -> 1.5"),
            (
                "device = \"pi\"",
                "device = \"b\"",
                "objectives[1].metric: latency_ms@pi -> latency_ms@b",
            ),
            ("max = 1e9", "max = 1e8", "constraints[0].max: 1000000000.0 -> 100000000.0"),
            ("population = 7", "population = 8", "algorithm.population: 7 -> 8"),
            ("shift = 1", "shift = 2", "training.augmentation.shift: 1 -> 2"),
            ("train = \"t\"", "train = \"u\"", "data.train: t -> u"),
            ("classes = 3", "classes = 4", "data.classes: 3 -> 4"),
            ("0.9", "0.95", "fidelity.confidence: 0.9 -> 0.95"),
            ("teacher = { epochs = 4 }", "teacher = { epochs = 5 }", "teacher.epochs: 4 -> 5"),
            ("alpha = [0.5]", "alpha = [0.25]", "recipe.alpha: [0.5] -> [0.25]"),
            (
                "[{ width = [4, 8] }]",
                "[{ width = [2, 8] }]",
                "space.stages[0].width: [4,8] -> [2,8]",
            ),
        ] {
            assert_eq!(differences(from, to), [said]);
        }
    }

    #[test]
    fn other_variants_of_a_closed_set_are_one_difference() {
        let curve = "fidelity = { rule = \"curve\", confidence = 0.9 }";
        let said = "fidelity.rule: {\"curve\":{\"confidence\":0.9}} -> asha";
        let [rule, ..] = &differences(curve, "fidelity.rule = \"asha\"")[..] else { panic!() };
        assert_eq!(rule, said);
        let folder = "source = \"image-folder\", train = \"t\", classes = 3, channels = 1";
        let other = differences(folder, "source = \"digits\"");
        assert!(other.iter().any(|said| said.starts_with("data.source: {\"image-folder\"")));
        let other = differences("name = \"nsga2\", population = 7", "name = \"random\"");
        assert_eq!(other, ["algorithm.name: nsga2 -> random"]);
    }
}
