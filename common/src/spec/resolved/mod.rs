//! The resolved study as a JSON document: every field with its value, defaults filled in.
//!
//! Records on disk, leases and statuses carry this document instead of the study file, so reading
//! one applies no rule of the file. A study that was accepted once therefore stays readable, even
//! if a rule becomes stricter later. The types here are the document's format; they are frozen and
//! separate from the domain's. An added field gets a serde default that keeps the old meaning. A
//! change of meaning raises [`VERSION`], and older documents are converted when they are read.

mod convert;
mod document;
#[cfg(test)]
pub(in crate::spec) mod golden;
mod recipe;
mod usable;

use serde::Deserialize;

use self::document::Document;
pub(super) use self::usable::check as check_usable;
use super::StudySpec;

/// The document version that this program writes.
const VERSION: u32 = 1;

/// Why a document is not a resolved study.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolvedError {
    /// A newer program wrote the document.
    #[error("it has version {0} of the resolved study, but this program reads up to {VERSION}")]
    Version(u32),
    /// The document's fields are missing or malformed.
    #[error("it is not a resolved study: {0}")]
    Form(String),
    /// A part has values, or describes networks, that this program cannot work with.
    #[error("its {part} cannot be used: {reason}")]
    Unusable {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A field has a value that this program does not know.
    #[error("{field} is {value:?}, which this program does not know")]
    Value {
        /// Which field.
        field: &'static str,
        /// As found.
        value: String,
    },
}

impl StudySpec {
    /// The document of this study.
    pub fn to_resolved(&self) -> String {
        let document = Document::of(self);
        serde_json::to_string(&document)
            .unwrap_or_else(|e| unreachable!("a document has text keys and finite numbers: {e}"))
    }

    /// The study that a document describes. No rule of the study file is applied; only spaces,
    /// networks and values that this program cannot work with are refused, such as a 0 that it
    /// divides by.
    ///
    /// # Errors
    /// If the text is not such a document.
    pub fn from_resolved(text: &str) -> Result<Self, ResolvedError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let form = |e: serde_json::Error| ResolvedError::Form(e.to_string());
        let Versioned { version } = serde_json::from_str(text).map_err(form)?;
        if !(1..=VERSION).contains(&version) {
            return Err(ResolvedError::Version(version));
        }
        let spec = serde_json::from_str::<Document>(text).map_err(form)?.into_spec()?;
        check_usable(&spec)?;
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_search_space::{Space, StagedSpace};

    use super::*;
    use crate::spec::{AlgorithmSpec, Workload};

    const STUDY: &str = r#"
study = { name = "s", seed = 18446744073709551615, start_from = ["a", "b"] }
objectives = [{ metric = "validation_accuracy" }, { metric = "latency_ms", device = "pi" }]
constraints = [{ metric = "latency_ms", device = "pi", max = 5.1, min = 0.1 }, { metric = "macs", max = 1e9 }]
algorithm = { name = "ppo", policy = "lstm", reward = "soft-target", target = 2.5 }
budget = { trials = 7, max_attempts = 2 }
training = { epochs = 9, optimizer = "sgd", momentum = 0.7, learning_rate = 0.1, augmentation = { shift = 1, flip = true, views = 3 } }
data = { source = "image-folder", train = "t", classes = 3, channels = 1, side = 8, train_limit = 5 }
recipe = { prune = [0.0, 0.3], precision = ["fp32", "int8"], alpha = [0.5], temperature = [2.0] }
fidelity = { rule = "curve", confidence = 0.9 }
screening = { proxy = "naswot", batch = 4, keep = 0.3 }
[space]
resolution = 8
stem_width = [4, 8]
stages = [{ width = [4, 8], operation = ["conv", "inverted-residual"], activation = ["relu6"] }]
[teacher.architecture]
resolution = 8
stem_width = 8
stages = [{ width = 8, operation = "inverted-residual", expansion = 3 }, { width = 4 }]
"#;

    const TABLE: &str = r#"
study.name = "t"
objectives = [{ metric = "validation_accuracy" }]
algorithm = { name = "reinforce" }
budget = { simulated_seconds = 100.5 }
fidelity = { rule = "asha", reduction = 2 }
[table]
path = "p"
latencies = "l"
epochs = 20
identity = "row"
rungs = [{ epochs = 2, validation_accuracy = "early" }]
"#;

    #[test]
    fn studies_are_read_back_from_their_documents() {
        let more = |algorithm: &str| {
            let text = format!("algorithm = {{ name = \"{algorithm}\" }}");
            let other = "algorithm = { name = \"reinforce\" }";
            TABLE.replace(other, &text)
        };
        let mut studies = vec![STUDY.to_owned(), TABLE.to_owned()];
        studies.extend(AlgorithmSpec::NAMES.map(more));
        let data = STUDY.lines().find(|line| line.starts_with("data")).unwrap();
        for source in [
            "{ source = \"digits\" }",
            "{ source = \"cifar10\", directory = \"d\" }",
            "{ source = \"idx\", classes = 10, train_images = \"a\", train_labels = \"b\", \
             test_images = \"c\", test_labels = \"d\" }",
        ] {
            studies.push(STUDY.replace(data, &format!("data = {source}")));
        }
        for text in studies {
            let spec = StudySpec::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(StudySpec::from_resolved(&spec.to_resolved()).unwrap(), spec, "{text}");
        }
    }

    #[test]
    fn no_rule_of_the_study_file_is_applied() {
        let spec = StudySpec::parse(STUDY).unwrap();
        // The text is no longer a study file, and the values break the file's rules.
        let StudySpec { mut budget, work, .. } = spec.clone();
        budget.trials = 4_000_000_000;
        let Workload::Train(mut work) = work else { panic!("it trains") };
        work.training.batch_size = 1;
        let mut definition = work.space.staged().unwrap().definition().clone();
        definition.resolution = vec![60_000];
        work.space = StagedSpace::recorded(definition, work.space.data()).unwrap().into();
        let space = Space::from(work.space.clone());
        let (work, source) = (Workload::Train(work), "not TOML [".to_owned());
        let spec = StudySpec { budget, work, source, space, ..spec };
        assert!(StudySpec::parse(spec.source()).is_err());
        assert_eq!(StudySpec::from_resolved(&spec.to_resolved()).unwrap(), spec);
    }

    #[test]
    fn goals_are_stored_by_name() {
        let text = StudySpec::parse(STUDY).unwrap().to_resolved();
        let objectives = "\"objectives\":[{\"metric\":\"validation_accuracy\",\"goal\":\"maximize\"},\
                          {\"metric\":\"latency_ms@pi\",\"goal\":\"minimize\"}],";
        assert!(text.contains(objectives), "{text}");
    }

    #[test]
    fn spaces_and_networks_that_cannot_be_used_are_refused() {
        let text = StudySpec::parse(STUDY).unwrap().to_resolved();
        for (from, to, field) in [
            ("\"resolution\":[8]", "\"resolution\":[]", "space.resolution"),
            ("\"resolution\":[8]", "\"resolution\":[0]", "space.resolution"),
            ("\"resolution\":[8]", "\"resolution\":[4000000000]", "space.resolution"),
            ("\"kernel\":[3]", "\"kernel\":[2]", "space.stages[0].kernel"),
            ("\"kernel\":[3]", "\"kernel\":[0]", "space.stages[0].kernel"),
            ("\"stride\":[1]", "\"stride\":[0]", "space.stages[0].stride"),
            ("\"operation\":[\"conv\",", "\"operation\":[\"attention\",", "operation"),
            ("\"prune\":[0.0,0.3]", "\"prune\":[]", "recipe.prune"),
            ("\"classes\":3", "\"classes\":0", "data.classes"),
            ("\"resolution\":8,", "\"resolution\":0,", "teacher.architecture"),
            ("\"expansion\":3,", "\"expansion\":0,", "teacher.architecture"),
        ] {
            assert!(text.contains(from), "{from} is not in {text}");
            let error = StudySpec::from_resolved(&text.replacen(from, to, 1)).unwrap_err();
            assert!(error.to_string().contains(field), "{to}: {error}");
        }
    }

    #[test]
    fn accepted_files_with_such_spaces_are_refused() {
        for (from, to) in [
            ("resolution = 8", "resolution = []"),
            ("resolution = 8", "resolution = 0"),
            ("stem_width = [4, 8]", "stem_width = 4000000000"),
            ("operation = [\"conv\",", "operation = [\"attention\","),
            ("expansion = 3", "expansion = 0"),
            ("{ width = 4 }]", "{ width = 4, stride = 0 }]"),
            ("alpha = [0.5]", "alpha = [inf]"),
        ] {
            assert!(STUDY.contains(from), "{from}");
            let text = STUDY.replacen(from, to, 1);
            assert!(StudySpec::parse_accepted(&text).is_err(), "{to}");
        }
        // Values that only break today's rules are kept.
        let text = STUDY.replacen("resolution = 8", "resolution = 9999", 1);
        assert!(StudySpec::parse(&text).is_err());
        let spec = StudySpec::parse_accepted(&text).unwrap();
        let space = spec.training().unwrap().space.staged().unwrap();
        assert_eq!(space.definition().resolution, [9999]);
    }

    #[test]
    fn an_accepted_file_keeps_values_that_a_later_rule_forbids() {
        let keeps = |text: &str, from: &str, to: &str| {
            let text = text.replacen(from, to, 1);
            assert!(StudySpec::parse(&text).is_err(), "{to}");
            StudySpec::parse_accepted(&text).unwrap()
        };
        let spec = keeps(STUDY, "keep = 0.3", "keep = 1.5");
        assert_eq!(spec.training().unwrap().screening.unwrap().keep, 1.5);
        let spec = keeps(STUDY, "channels = 1", "channels = 2");
        assert_eq!(spec.training().unwrap().space.data().channels, 2);
        let spec = keeps(STUDY, "train_limit = 5", "train_limit = 0");
        assert_eq!(spec.training().unwrap().data.train_limit, Some(0));
        let spec = keeps(TABLE, "= 100.5", "= -1");
        assert_eq!(spec.budget.simulated_seconds, Some(-1.0));
    }

    #[test]
    fn an_accepted_file_is_refused_where_a_value_cannot_be_kept() {
        let halving = "[fidelity]\nrule = \"asha\"\nmin_epochs = 2\nreduction = 2\n";
        let curve = "fidelity = { rule = \"curve\", confidence = 0.9 }\n";
        let halved = STUDY.replacen(curve, "", 1) + halving;
        assert!(StudySpec::parse(&halved).is_ok());
        for (text, from, to, field) in [
            // Names outside a closed set, and values that the program cannot work with.
            (STUDY, "\"naswot\"", "\"other\"", "screening.proxy"),
            (STUDY, "\"curve\"", "\"other\"", "fidelity.rule"),
            (STUDY, "\"ppo\"", "\"other\"", "algorithm.name"),
            (STUDY, "\"lstm\"", "\"other\"", "algorithm.policy"),
            (STUDY, "\"soft-target\"", "\"other\"", "algorithm.reward"),
            (STUDY, "target = 2.5", "target = -1", "algorithm.target"),
            (STUDY, "\"sgd\"", "\"other\"", "training.optimizer"),
            (STUDY, "metric = \"macs\"", "metric = \"other\"", "constraints[1].metric"),
            (STUDY, "\"relu6\"", "\"other\"", "space.stages[0].activation"),
            (STUDY, "[\"a\", \"b\"]", "[\"a\", \"\"]", "study.start_from"),
            (TABLE, "\"row\"", "\"other\"", "table.identity"),
            (&halved, "min_epochs = 2", "min_epochs = 9", "fidelity.min_epochs"),
            (&halved, "min_epochs = 2", "min_epochs = 0", "fidelity.min_epochs"),
            // Rungs that would not grow.
            (&halved, "reduction = 2", "reduction = 1", "fidelity.reduction"),
            (&halved, "reduction = 2", "reduction = 0", "fidelity.reduction"),
            // Values of another type, and missing ones.
            (STUDY, "momentum = 0.7", "momentum = \"high\"", "training.momentum"),
            (STUDY, "width = [4, 8]", "width = [4, \"8\"]", "space.stem_width[1]"),
            (STUDY, "proxy = \"naswot\", ", "", "screening.proxy"),
            (STUDY, ", target = 2.5", "", "algorithm.target"),
            // Values that the program cannot work with.
            (STUDY, "epochs = 9", "epochs = 0", "training.epochs"),
            (STUDY, "batch = 4", "batch = 0", "screening.batch"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = StudySpec::parse_accepted(&text.replacen(from, to, 1)).unwrap_err();
            assert!(error.to_string().contains(field), "{to}: {error}");
        }
    }

    #[test]
    fn invalid_documents_are_explained() {
        let text = StudySpec::parse(TABLE).unwrap().to_resolved();
        let error = |from: &str, to: &str| {
            assert!(text.contains(from), "{text}");
            StudySpec::from_resolved(&text.replace(from, to)).unwrap_err().to_string()
        };
        let newer = error("{\"version\":1", "{\"version\":9");
        assert_eq!(newer, "it has version 9 of the resolved study, but this program reads up to 1");
        assert!(error("\"seed\":0", "\"seed\":-1").starts_with("it is not a resolved study: "));
        let unknown = error("validation_accuracy\",\"goal", "speed\",\"goal");
        assert_eq!(unknown, "objectives.metric is \"speed\", which this program does not know");
    }
}
