//! Checks `docs/study-file.md` against the parser. The test asks the parser itself what it knows:
//! an unknown field is answered with all known fields, and a wrong value with the right ones. No
//! list of fields is kept here.

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_common::spec::{ModelFile, ModelFiles, NamedOther, OtherFile, SpecError};
use edgesmith_common::{ArtifactHash, StudySpec};
use edgesmith_graph::{Add, Conv, GlobalAveragePool, GraphBuilder, Linear, Place, Role, Shape};
use toml::{Table, Value};

/// A study that trains, with every table that does not need another setting.
const TRAINS: &str = r#"
study.name = "s"
data.source = "digits"
space = { kind = "staged", resolution = 8, stem_width = 8, stages = [{ width = 8 }] }
recipe = {}
objectives = [{ metric = "validation_accuracy" }, { metric = "latency_ms" }]
constraints = [{ metric = "latency_ms", min = 1, max = 1e12 }]
algorithm.name = "random"
budget.trials = 3
training.augmentation = {}
teacher = {}
measurement = {}
fidelity.rule = "asha"
screening.proxy = "macs"
"#;

/// A study over a table with as few fields as possible.
const LOOKS_UP: &str = r#"
study.name = "s"
table.path = "t.csv"
objectives = [{ metric = "validation_accuracy" }]
budget.simulated_seconds = 5
"#;

/// A study over a table with the fields that only such a study can have.
const LOOKS_UP_AT_RUNGS: &str = r#"
study.name = "s"
table = { path = "t.csv", epochs = 200, rungs = [{ epochs = 12, validation_accuracy = "c" }] }
objectives = [{ metric = "validation_accuracy" }]
constraints = [{ metric = "macs", max = 1e12 }]
algorithm.name = "auto"
fidelity.rule = "median"
budget.trials = 3
"#;

/// Tables that replace those of [`TRAINS`], for fields and defaults that need more than one changed
/// name of a closed set.
const OTHER_TABLES: [(&str, &str); 22] = [
    ("space", "kind = \"model\"\nmodel = \"net.onnx\"\npixels = \"raw\""),
    ("space", "kind = \"model\"\nmodel = \"net.onnx\"\nmean = 0.5\nstd = 0.25"),
    ("teacher", "architecture = { resolution = 8, stem_width = 8, stages = [{ width = 8 }] }"),
    ("teacher", "model = \"big.onnx\"\npixels = \"raw\"\nresolution = 16"),
    ("teacher", "model = \"big.onnx\"\nmean = 0.5\nstd = 0.25"),
    ("teacher", "logits = \"logits.npy\""),
    ("teacher", "others = [{}]\nassistants = [{}]"),
    ("teacher", "others = [{ model = \"big.onnx\", pixels = \"raw\", resolution = 16 }]"),
    ("teacher", "others = [{ model = \"big.onnx\", mean = 0.5, std = 0.25 }]"),
    ("teacher", "others = [{ logits = \"logits.npy\" }]"),
    ("recipe", "steps = [{ pass = \"distil\" }]"),
    ("recipe", "steps = [{ pass = \"prune\", share = 0.5 }]"),
    ("recipe", "steps = [{ pass = \"prune\", granularity = \"blocks\", share = 0.5 }]"),
    (
        "recipe",
        "steps = [{ pass = \"prune\", granularity = \"weights\", of = \"parameters\", share = 0.5 }]",
    ),
    ("recipe", "steps = [{ pass = \"prune\", of = \"macs\", at_most = 9000 }]"),
    ("recipe", "steps = [{ pass = \"fine-tune\" }]"),
    ("recipe", "steps = [{ pass = \"cluster\" }]"),
    ("recipe", "steps = [{ pass = \"quantize\" }]"),
    ("recipe", "steps = [{ pass = \"quantize\" }, { pass = \"quantize-aware-train\" }]"),
    ("algorithm", "name = \"reinforce\"\npolicy = \"lstm\""),
    ("algorithm", "name = \"ppo\"\npolicy = \"lstm\""),
    ("fidelity", "rule = \"curve\""),
];

/// A name that resembles no field.
const NO_FIELD: &str = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
/// A name that is in no closed set, but is valid wherever any name is.
const NO_NAME: &str = "qqqq";
/// Fits every number type and is above every range.
const TOO_MUCH: i64 = u32::MAX as i64;

#[test]
fn the_page_lists_the_fields_that_the_parser_knows() {
    let page = Page::read();
    let mut reached = BTreeSet::new();
    for study in studies(&page) {
        for (path, known) in known_fields(&study) {
            let mut listed = BTreeSet::new();
            for section in page.sections_of(&path, &study) {
                reached.insert(section.heading.clone());
                for row in &section.rows {
                    let new = listed.insert(row.field.clone());
                    assert!(new, "{}: {} stands there twice", section.heading, row.field);
                }
            }
            let missing: Vec<_> = known.difference(&listed).collect();
            assert!(missing.is_empty(), "the page lacks {missing:?} of [{path}] in\n{study}");
            let unknown: Vec<_> = listed.difference(&known).collect();
            assert!(unknown.is_empty(), "no field of [{path}] is {unknown:?} in\n{study}");
        }
    }
    for section in &page.sections {
        assert!(reached.contains(&section.heading), "no study has {}", section.heading);
    }
}

#[test]
fn types_and_ranges_are_the_parsers() {
    let page = Page::read();
    page.each_row(|study, section, row| {
        let at = format!("{}: {}", section.heading, row.field);
        let said = |value: Value| said_of(study, &section.path, &row.field, value);
        let date = Value::Datetime("2026-01-01".parse().unwrap());
        let kind = type_of(&said(date.clone()), &at);
        let list = said(Value::Array(vec![date]));
        let is_list = list.iter().any(|e| e.field.ends_with(&format!("{}[0]", row.field)));
        let kind = match (kind, is_list) {
            (kind @ ("table" | "list of tables"), _) | (kind, false) => kind.to_owned(),
            (kind @ "true or false", true) => format!("list of {kind}"),
            (kind, true) => format!("list of {kind}s"),
        };
        let or_this = format!(" or {kind}");
        assert!(row.kind == kind || row.kind.ends_with(&or_this), "{at}: it is a {kind}");

        let said = said(if kind.contains("number") {
            Value::Integer(TOO_MUCH)
        } else {
            Value::String(NO_NAME.to_owned())
        });
        for error in &said {
            if let Some((low, high)) = ends(&error.message) {
                let (least, most) = ends(&row.range).unwrap_or_else(|| panic!("{at}: no range"));
                assert_eq!(least, low, "{at}: the low end");
                // The page may give the name of another field as the high end.
                assert!(most.is_none_or(|most| Some(most) == high), "{at}: up to {high:?}");
            }
        }
        let names = said.iter().find_map(|error| names_in(&error.message));
        if let (Some(names), "text" | "list of texts") = (names, kind.as_str()) {
            let values = row.range.split('`').filter_map(|part| part.strip_prefix('"'));
            let stated: BTreeSet<_> = values.map(|value| value.replace('"', "")).collect();
            assert_eq!(stated, names, "{at}: the names");
        }
    });
}

#[test]
fn defaults_are_the_parsers() {
    let page = Page::read();
    // For each row: whether some study may leave the field out, and which of the page's values make
    // no difference in some study.
    let mut found: BTreeMap<(String, String), (bool, BTreeSet<String>)> = BTreeMap::new();
    page.each_row(|study, section, row| {
        let at = format!("{}: {}", section.heading, row.field);
        let key = (section.heading.clone(), row.field.clone());
        let (may_be_left_out, right) = found.entry(key).or_default();
        let mut without = study.clone();
        table_at(&mut without, &section.path).expect("it is there").remove(&row.field);
        let Ok(without_field) = parse(&without) else { return };
        assert_ne!(row.default, "needed", "{at}: it may be left out in\n{study}");
        *may_be_left_out = true;
        let (mut differs, mut fits) = (false, false);
        for (text, value) in row.default_values() {
            let mut with = without.clone();
            let table = table_at(&mut with, &section.path).expect("it is there");
            table.insert(row.field.clone(), value);
            match parse(&with) {
                Ok(spec) if same(&spec, &without_field) => {
                    fits = true;
                    right.insert(text);
                }
                Ok(_) => differs = true,
                // It may be the default of another study and a mistake in this one.
                Err(_) => {}
            }
        }
        assert!(fits || !differs, "{at}: {} is wrong in\n{study}", row.default);
    });
    for section in &page.sections {
        for row in &section.rows {
            let at = format!("{}: {}", section.heading, row.field);
            let (may_be_left_out, right) = &found[&(section.heading.clone(), row.field.clone())];
            assert!(*may_be_left_out || row.default == "needed", "{at}: it is needed");
            for (text, _) in row.default_values() {
                assert!(right.contains(&text), "{at}: {text} is the default nowhere");
            }
        }
    }
}

#[test]
fn the_example_is_valid() {
    let page = Page::text();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let spec = StudySpec::parse(example.expect("the page begins with an example")).unwrap();
    let devices: Vec<String> = spec.devices().iter().map(ToString::to_string).collect();
    assert_eq!(devices, ["local"], "as the page says of latency without a device");
}

/// The tables of the page.
struct Page {
    sections: Vec<Section>,
}

/// The fields of one table of study files, or the fields that a setting adds to it.
struct Section {
    heading: String,
    /// Path without brackets; empty for the whole file.
    path: String,
    /// If there are any, at least one must hold.
    conditions: Vec<Condition>,
    rows: Vec<Row>,
}

enum Condition {
    /// A field of the same table has this value.
    Value(String, String),
    /// The study has, or has not, a table of this name.
    Table(String, bool),
}

struct Row {
    field: String,
    kind: String,
    default: String,
    range: String,
}

impl Page {
    fn text() -> String {
        let file = format!("{}/../docs/study-file.md", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(file).expect("the page is there")
    }

    fn read() -> Self {
        let mut sections: Vec<Section> = Vec::new();
        let (mut heading, mut in_table) = (String::new(), false);
        for line in Self::text().lines() {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            if line.starts_with('#') {
                heading = line.to_owned();
            } else if !line.starts_with('|') {
                in_table = false;
            } else if cells[0] == "field" {
                assert_eq!(cells, ["field", "type", "default", "range", "meaning"], "{heading}");
                in_table = true;
                sections.push(Section::under(&heading));
            } else if cells[0] == "table" {
                in_table = true;
                for (kind, looks_up) in [("trains", false), ("looks up", true)] {
                    sections.push(Section {
                        heading: format!("{heading}, which {kind}"),
                        path: String::new(),
                        conditions: vec![Condition::Table("table".to_owned(), looks_up)],
                        rows: Vec::new(),
                    });
                }
            } else if in_table && !cells[0].starts_with('-') {
                let row = |default: &str, range: &str| Row {
                    field: cells[0].trim_matches('`').to_owned(),
                    kind: cells[1].to_owned(),
                    default: default.to_owned(),
                    range: range.to_owned(),
                };
                assert_eq!(cells.len(), 5, "{heading}: {line}");
                let last = sections.len() - 1;
                if !sections[last].path.is_empty() {
                    sections[last].rows.push(row(cells[2], cells[3]));
                    continue;
                }
                for (section, cell) in [(last - 1, cells[2]), (last, cells[3])] {
                    if cell != "not allowed" {
                        sections[section].rows.push(row(cell, ""));
                    }
                }
            }
        }
        Self { sections }
    }

    /// The sections that list what a table of this study may hold.
    fn sections_of(&self, path: &str, study: &Table) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(move |s| s.path == path && s.holds(study))
    }

    /// Visits every row with each study that it applies to. Of several studies with the same
    /// content in the row's table, only one is visited.
    fn each_row(&self, mut visit: impl FnMut(&Table, &Section, &Row)) {
        let mut seen = BTreeSet::new();
        for study in studies(self) {
            for path in known_fields(&study).keys() {
                for section in self.sections_of(path, &study) {
                    if seen.insert((section.heading.clone(), content(&study, path))) {
                        section.rows.iter().for_each(|row| visit(&study, section, row));
                    }
                }
            }
        }
    }

    /// What distinguishes a study from others: its fields, and the sections of the page that apply.
    fn signature(&self, study: &Table) -> (BTreeMap<String, BTreeSet<String>>, BTreeSet<&str>) {
        let known = known_fields(study);
        let sections = known.keys().flat_map(|path| self.sections_of(path, study));
        let headings = sections.map(|section| section.heading.as_str()).collect();
        (known, headings)
    }
}

impl Section {
    /// An empty section for a heading such as ``### `[data]` with `source = "idx"` ``.
    fn under(heading: &str) -> Self {
        let mut codes = heading.split('`').skip(1).step_by(2);
        let name = |code: &str| code.trim_matches(['[', ']']).to_owned();
        let path = codes.next().map(name);
        let conditions = codes.map(|code| match code.split_once(" = ") {
            Some((field, value)) => Condition::Value(field.to_owned(), value.replace('"', "")),
            None => Condition::Table(name(code), true),
        });
        let conditions = conditions.collect();
        let path = path.unwrap_or_else(|| panic!("{heading}: it names no table"));
        Self { heading: heading.to_owned(), path, conditions, rows: Vec::new() }
    }

    fn holds(&self, study: &Table) -> bool {
        let holds = |condition: &Condition| match condition {
            Condition::Table(name, there) => study.contains_key(name) == *there,
            Condition::Value(field, value) => {
                let mut study = study.clone();
                let table = table_at(&mut study, &self.path);
                let given = table.and_then(|table| table.get(field)?.as_str().map(str::to_owned));
                given.as_ref() == Some(value)
            }
        };
        self.conditions.is_empty() || self.conditions.iter().any(holds)
    }
}

impl Row {
    /// The values that the default column names.
    fn default_values(&self) -> Vec<(String, Value)> {
        let codes = self.default.split('`').skip(1).step_by(2);
        codes.filter_map(|code| Some((code.to_owned(), code.parse().ok()?))).collect()
    }
}

/// Valid studies that together have every field. Starts from the studies above, tries each name of
/// each closed set, and keeps a study if it adds fields or sections that no other study had.
fn studies(page: &Page) -> Vec<Table> {
    let study = |text: &str| text.parse::<Table>().unwrap();
    let mut studies = [TRAINS, LOOKS_UP, LOOKS_UP_AT_RUNGS].map(study).to_vec();
    studies.extend(OTHER_TABLES.map(|(name, table)| {
        let mut other = study(TRAINS);
        other.insert(name.to_owned(), Value::Table(study(table)));
        if name == "recipe" {
            // A pruning cannot go back to the weights of a first training that stops at rungs.
            other.remove("fidelity");
        }
        other
    }));
    let mut seen: BTreeSet<_> = studies.iter().map(|study| page.signature(study)).collect();
    let (mut tried, mut right, mut asked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut next = 0;
    while next < studies.len() {
        let study = studies[next].clone();
        next += 1;
        for (path, fields) in known_fields(&study) {
            if !asked.insert((path.clone(), content(&study, &path))) {
                continue;
            }
            for field in fields {
                let said = said_of(&study, &path, &field, Value::String(NO_NAME.to_owned()));
                let names = said.iter().find_map(|error| names_in(&error.message));
                for name in names.unwrap_or_default() {
                    let mut other = study.clone();
                    let table = table_at(&mut other, &path).expect("it is there");
                    table.insert(field.clone(), Value::String(name.clone()));
                    add_what_is_missing(&mut other);
                    let option = (path.clone(), field.clone(), name);
                    if parse(&other).is_ok() {
                        right.insert(option.clone());
                        if seen.insert(page.signature(&other)) {
                            studies.push(other);
                        }
                    }
                    tried.insert(option);
                }
            }
        }
    }
    let never: Vec<_> = tried.difference(&right).collect();
    assert!(never.is_empty(), "add a study that may have {never:?}");
    studies
}

/// Adds values for fields that the parser reports as missing.
fn add_what_is_missing(study: &mut Table) {
    let Err(errors) = parse(study) else { return };
    for error in errors.iter().filter(|error| error.message.starts_with("is missing")) {
        let field = without_indices(&error.field);
        let (path, name) = field.rsplit_once('.').unwrap_or(("", &field));
        for value in [Value::Integer(2), Value::String("x".to_owned())] {
            if said_of(study, path, name, value.clone()).is_empty() {
                if let Some(table) = table_at(study, path) {
                    table.insert(name.to_owned(), value);
                }
                break;
            }
        }
    }
}

/// The fields that the parser knows in each table of a study, by the table's path.
fn known_fields(study: &Table) -> BTreeMap<String, BTreeSet<String>> {
    let mut asking = study.clone();
    let mut asked = BTreeSet::new();
    ask(&mut asking, "", &mut asked);
    let mut known = BTreeMap::new();
    for error in parse(&asking).expect_err("it has unknown fields") {
        let field = without_indices(&error.field);
        let Some(path) = field.strip_suffix(NO_FIELD) else { continue };
        let names = error.message.strip_prefix("is unknown; known here: ");
        let names = names.expect("the parser lists what it knows").split(", ").map(str::to_owned);
        known.insert(path.trim_end_matches('.').to_owned(), names.collect());
    }
    assert_eq!(known.keys().cloned().collect::<BTreeSet<_>>(), asked, "of\n{study}");
    known
}

/// Adds an unknown field to every table, and records the tables' paths.
fn ask(table: &mut Table, path: &str, asked: &mut BTreeSet<String>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    for (name, value) in table.iter_mut() {
        match value {
            Value::Table(inner) => ask(inner, &below(name), asked),
            Value::Array(items) => {
                for inner in items.iter_mut().filter_map(Value::as_table_mut) {
                    ask(inner, &below(name), asked);
                }
            }
            _ => {}
        }
    }
    table.insert(NO_FIELD.to_owned(), Value::Integer(1));
    asked.insert(path.to_owned());
}

/// The parser's mistakes about one field of a valid study after giving it another value.
fn said_of(study: &Table, path: &str, field: &str, value: Value) -> Vec<SpecError> {
    let mut study = study.clone();
    table_at(&mut study, path).expect("it is there").insert(field.to_owned(), value);
    let whole = format!("{path}.{field}");
    let about = |error: &SpecError| without_indices(&error.field) == whole.trim_start_matches('.');
    parse(&study).err().unwrap_or_default().into_iter().filter(about).collect()
}

/// A table of a study; for a list of tables, the last one.
fn table_at<'s>(study: &'s mut Table, path: &str) -> Option<&'s mut Table> {
    path.split('.').filter(|name| !name.is_empty()).try_fold(study, |table, name| {
        match table.get_mut(name)? {
            Value::Array(items) => items.last_mut()?.as_table_mut(),
            value => value.as_table_mut(),
        }
    })
}

/// Identifies the content of a table, to compare it with that of other studies; for the whole file,
/// only its tables' names.
fn content(study: &Table, path: &str) -> String {
    if path.is_empty() {
        return study.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
    }
    table_at(&mut study.clone(), path).expect("it is there").to_string()
}

fn parse(study: &Table) -> Result<StudySpec, Vec<SpecError>> {
    let text = study.to_string();
    let network = network();
    let others: Vec<_> = StudySpec::named_models(&text)
        .others
        .into_iter()
        .map(|named| match named? {
            NamedOther::Network(_) => Some(OtherFile::Network(Box::new(network.clone()))),
            NamedOther::Logits(_) => Some(OtherFile::Logits(ArtifactHash::of(b"logits"))),
        })
        .collect();
    let files = ModelFiles { space: Some(&network), teacher: Some(&network), others: &others };
    StudySpec::parse_with_models(&text, files).map_err(|errors| errors.listed)
}

/// The network of studies on a network of one's own: a residual block for digits.
fn network() -> ModelFile {
    let mut b = GraphBuilder::new();
    let image = b.input("image", Shape::new(1, &[8, 8]).unwrap()).unwrap();
    let weight = b.parameter("conv.weight", &[1, 1, 3, 3], Role::Weight).unwrap();
    let place = Place::default;
    let conv = b.node("conv", Conv::dense(3, 1), &[image], &[weight], place()).unwrap();
    let sum = b.node("sum", Add, &[conv, image], &[], place()).unwrap();
    let pool = b.node("pool", GlobalAveragePool, &[sum], &[], place()).unwrap();
    let weight = b.parameter("fc.weight", &[10, 1], Role::Weight).unwrap();
    let classes = b.node("fc", Linear, &[pool], &[weight], place()).unwrap();
    ModelFile {
        network: b.finish(&[classes]).unwrap(),
        weights: ArtifactHash::of(b"weights"),
        file: ArtifactHash::of(b"file"),
        inputs: vec![],
        outputs: vec![],
        classes: vec![],
        input_scale: 1.0,
    }
}

/// Whether two specs mean the same, ignoring how they were written.
fn same(a: &StudySpec, b: &StudySpec) -> bool {
    let StudySpec { name, seed, space, objectives, constraints, start_from, algorithm, .. } = a;
    let StudySpec { budget, work, fidelity, .. } = a;
    (name, seed, space, objectives) == (&b.name, &b.seed, &b.space, &b.objectives)
        && (constraints, start_from, algorithm) == (&b.constraints, &b.start_from, &b.algorithm)
        && (budget, work, fidelity) == (&b.budget, &b.work, &b.fidelity)
}

/// `space.stages[0].width` as `space.stages.width`.
fn without_indices(field: &str) -> String {
    field.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

/// The page's word for the type of a field, found from the parser's message about a date there.
fn type_of(said: &[SpecError], at: &str) -> &'static str {
    const TYPES: [(&str, &str); 6] = [
        ("give a text in quotes", "text"),
        ("give true or false", "true or false"),
        ("give a whole number", "whole number"),
        ("give a finite number", "number"),
        ("write it as a table", "table"),
        ("write [[", "list of tables"),
    ];
    let said = said.iter().map(|error| error.message.as_str()).find(|m| m.starts_with("is a date"));
    let said = said.unwrap_or_else(|| panic!("{at}: it may be a date"));
    let found = TYPES.into_iter().find(|(mend, _)| said.contains(mend));
    found.unwrap_or_else(|| panic!("{at}: {said:?} is of no type")).1
}

/// The numbers of `LOW to HIGH` in a text. The high one may be a word.
fn ends(text: &str) -> Option<(f64, Option<f64>)> {
    let number = |word: &str| word.replace(',', "").trim_end_matches(';').parse::<f64>().ok();
    let words: Vec<&str> = text.split_whitespace().collect();
    let to = (1..words.len().saturating_sub(1)).find(|&i| words[i] == "to")?;
    Some((number(words[to - 1])?, number(words[to + 1])))
}

/// The names of a closed set that a message says to use.
fn names_in(text: &str) -> Option<BTreeSet<String>> {
    let after = |mark: &str| text.split_once(mark).map(|(_, rest)| rest);
    let rest = after("use one of ").or(after("is not one of ")).or(after("; use "))?;
    let words = rest.split(", ").flat_map(|part| part.split(" or ")).map(|w| w.trim_matches('"'));
    let is_name = |word: &&str| {
        // A pattern such as 2:4 is a name; a number is not.
        (word.starts_with(|c: char| c.is_ascii_lowercase()) || word.contains(':'))
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':'))
    };
    Some(words.filter(is_name).map(str::to_owned).collect())
}
