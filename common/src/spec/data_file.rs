//! What commands read of a study file that need only its data, and what says how networks are
//! trained and measured on them. A file with nothing else is enough for these commands.

use edgesmith_search_space::DataShape;
use toml::de::{DeTable, DeValue};

use super::parse::{is_too_long, no_toml, read_data, read_measurement, read_training};
use super::reader::{Mistakes, Table};
use super::{DataSpec, MeasurementSpec, SpecErrors, StudySpec, TrainingSpec};
use crate::Seed;

/// Tables of a study file that are not read. Of `teacher`, only those know what it may say who know
/// the network.
const NOT_READ: [&str; 9] = [
    "teacher",
    "space",
    "recipe",
    "objectives",
    "constraints",
    "algorithm",
    "budget",
    "fidelity",
    "screening",
];

/// Data, and how networks are trained and measured on them.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// Source of all randomness.
    pub seed: Seed,
    /// The images.
    pub data: DataSpec,
    /// Their channels and classes.
    pub shape: DataShape,
    /// How networks are trained.
    pub training: TrainingSpec,
    /// How latency is measured.
    pub measurement: MeasurementSpec,
}

impl DataFile {
    /// Parses and checks these parts of a study file. What only a study needs may be left out, and
    /// is not checked.
    ///
    /// # Errors
    /// See [`StudySpec::parse`].
    pub fn parse(text: &str) -> Result<Self, SpecErrors> {
        is_too_long(text)?;
        let mut mistakes = Mistakes::new(text);
        let (root, syntax) = DeTable::parse_recoverable(text);
        if !syntax.is_empty() {
            return Err(no_toml(&syntax, mistakes));
        }
        let m = &mut mistakes;
        let mut root = Table::root(root);
        let mut study = root.table_or_empty("study", m);
        let seed = Seed(study.or("seed", 0, m));
        study.pass_over(&["name", "start_from"]);
        study.finish(m);
        let data = if root.knew("table") {
            let text = "its trials are looked up, so there are no images; name a file that has a \
                        [data] table";
            m.add(&root.span_of("table"), "table", text);
            root.pass_over(&["table", "data"]);
            None
        } else {
            read_data(&mut root, m)
        };
        let training = read_training(&mut root, m);
        let measurement = read_measurement(&mut root, m);
        root.pass_over(&NOT_READ);
        root.finish(m);
        match data {
            Some((data, shape)) if m.count() == 0 => {
                Ok(Self { seed, data, shape, training, measurement })
            }
            _ => Err(mistakes.into_errors()),
        }
    }

    /// Those of a study; `None` if it is one over a table.
    pub fn of(spec: &StudySpec) -> Option<Self> {
        let work = spec.training()?;
        Some(Self {
            seed: spec.seed,
            data: work.data.clone(),
            shape: work.space.data(),
            training: work.training.clone(),
            measurement: work.measurement.clone(),
        })
    }
}

/// The line of a field in a file, such as `teacher.others[0].logits`, or of the innermost table
/// that should have it; `None` if the file has neither.
pub fn line_of(text: &str, field: &str) -> Option<usize> {
    let (root, _) = DeTable::parse_recoverable(text);
    let (mut inside, mut place) = (DeValue::Table(root.into_inner()), None);
    for step in field.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        let found = match inside {
            DeValue::Table(mut table) => {
                table.remove_entry(step).map(|(key, value)| (key.span(), value))
            }
            DeValue::Array(items) => {
                let item = step.parse().ok().and_then(|at| items.into_iter().nth(at));
                item.map(|item| (item.span(), item))
            }
            _ => None,
        };
        let Some((span, value)) = found else { break };
        (inside, place) = (value.into_inner(), Some(span.start));
    }
    let breaks = |at| text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    place.map(|at| 1 + breaks(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = "[data]\nsource = \"digits\"\ntrain_limit = 100\n";

    /// What only a study has.
    const STUDY: &str = "[[objectives]]\nmetric = \"validation_accuracy\"\n[budget]\ntrials = 3\n\
                         [space]\nresolution = 8\nstem_width = 8\n\
                         [[space.stages]]\nwidth = 8\n";

    #[test]
    fn a_file_of_data_alone_is_enough() {
        let alone = DataFile::parse(DATA).unwrap();
        assert_eq!(alone.shape, DataShape { channels: 1, classes: 10 });
        let study = StudySpec::parse(&format!("[study]\nname = \"s\"\n{DATA}{STUDY}")).unwrap();
        assert_eq!(Some(&alone), DataFile::of(&study).as_ref());
        let more = "[study]\nseed = 7\n[training]\nepochs = 2\n[measurement]\nmin_runs = 60\n\
                    [teacher]\nmodel = \"t.onnx\"\n";
        let file = DataFile::parse(&format!("{DATA}{more}")).unwrap();
        assert_eq!((file.seed, file.training.epochs, file.measurement.min_runs), (Seed(7), 2, 60));
    }

    #[test]
    fn a_study_file_is_read_for_its_data() {
        let text =
            format!("[study]\nname = \"s\"\nseed = 7\n{DATA}{STUDY}[training]\nepochs = 2\n");
        let study = StudySpec::parse(&text).unwrap();
        assert_eq!(DataFile::of(&study), Some(DataFile::parse(&text).unwrap()));
        // What is not used may be wrong.
        let text = text.replace("trials = 3", "trials = -3").replace("stem_width", "stemwidth");
        assert_eq!(DataFile::of(&study), Some(DataFile::parse(&text).unwrap()));
    }

    #[test]
    fn mistakes_have_a_line_a_field_and_a_mend() {
        for (text, told) in [
            ("", "line 1: data: is missing; give a [data] table with a source"),
            (
                "\n[data]\nsource = \"digit\"\n",
                "line 3: data.source: unknown source \"digit\"; use one of digits, idx, cifar10, \
                 image-folder",
            ),
            (
                "data.source = \"digits\"\n[training]\nepochs = 0\n",
                "line 3: training.epochs: 0 is out of range; use 1 to 100000",
            ),
            (
                "data.source = \"digits\"\n[trainning]\nepochs = 1\n",
                "line 2: trainning: is unknown; did you mean training?",
            ),
            (
                "data.source = \"digits\"\nstudy.sead = 1\n",
                "line 2: study.sead: is unknown; did you mean seed?",
            ),
            ("data.source = \"digits\"\n[measurement]\nmin_runs = 1\n", "line 3: measurement."),
            (
                "table = { benchmark = \"nas-bench-201\", path = \"t.csv\" }\n",
                "line 1: table: its trials are looked up, so there are no images; name a file that \
                 has a [data] table",
            ),
            ("data = \n", "line 1: is not valid TOML: "),
        ] {
            let errors = DataFile::parse(text).unwrap_err();
            let said = errors.listed[0].to_string();
            assert!(errors.count() == 1 && said.starts_with(told), "{text}: {errors}");
        }
        let long = format!("{DATA}{}", "#".repeat(super::super::MAX_STUDY_BYTES));
        assert!(DataFile::parse(&long).unwrap_err().to_string().contains("has at most"));
    }

    #[test]
    fn the_line_of_a_field_is_found() {
        let text = "[data]\nsource = \"digits\"\n\n[teacher]\nlogits = \"a\"\n\
                    [[teacher.others]]\nlogits = \"b\"\n[[teacher.others]]\nweight = 2\n\
                    logits = \"c\"\nlist = [\n1,\n2]\n";
        for (field, line) in [
            ("data", Some(1)),
            ("data.source", Some(2)),
            ("teacher.logits", Some(5)),
            ("teacher.others[0].logits", Some(7)),
            ("teacher.others[1].logits", Some(10)),
            ("teacher.others[1].list[1]", Some(13)),
            // The nearest place that the file has.
            ("teacher.others[1].epochs", Some(8)),
            ("teacher.others[7].logits", Some(6)),
            ("teacher.epochs", Some(4)),
            ("training.epochs", None),
            ("", None),
        ] {
            assert_eq!(line_of(text, field), line, "{field}");
        }
        assert_eq!(line_of("teacher = 3\n", "teacher.logits"), Some(1));
    }
}
