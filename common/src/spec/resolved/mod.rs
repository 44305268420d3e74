//! The resolved study as a document: every field with the value that it has, defaults filled in, as JSON.
//!
//! Records on disk, leases and statuses carry this document and not the study file, so no rule of the
//! file is applied when one is read: a study that was accepted once stays readable, whatever rule is
//! tightened later. The types here are the document's format and frozen apart from the domain's. A field
//! that is added gets a serde default that means what was meant before; a change of meaning raises
//! [`VERSION`], and older documents are turned into the present ones as they are read.

mod convert;
mod document;

use serde::Deserialize;

use self::document::Document;
use super::StudySpec;

/// The version of the document that is written.
const VERSION: u32 = 1;

/// Why a document is not a resolved study.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolvedError {
    /// A newer program wrote it.
    #[error("it has version {0} of the resolved study, this program reads up to {VERSION}")]
    Version(u32),
    /// It does not have the document's fields.
    #[error("it is not a resolved study: {0}")]
    Form(String),
    /// A field has a value that is not known here.
    #[error("{field} is {value:?}, which is not known here")]
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

    /// The study that a document says. No rule of the study file is applied.
    ///
    /// # Errors
    /// When it is not such a document.
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
        serde_json::from_str::<Document>(text).map_err(form)?.into_spec()
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
    fn studies_come_back_from_their_documents() {
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
        // A file that is not one any more, and values that the file may not have.
        let StudySpec { mut budget, work, .. } = spec.clone();
        budget.trials = 4_000_000_000;
        let Workload::Train(mut work) = work else { panic!("it trains") };
        work.training.batch_size = 1;
        let mut definition = work.space.definition().clone();
        definition.resolution = vec![70_000];
        work.space = StagedSpace::recorded(definition, work.space.data());
        let space = Space::Staged(work.space.clone());
        let (work, source) = (Workload::Train(work), "no TOML [".to_owned());
        let spec = StudySpec { budget, work, source, space, ..spec };
        assert!(StudySpec::parse(spec.source()).is_err());
        assert_eq!(StudySpec::from_resolved(&spec.to_resolved()).unwrap(), spec);
    }

    #[test]
    fn a_document_that_is_not_understood_gets_the_reason() {
        let text = StudySpec::parse(TABLE).unwrap().to_resolved();
        let error = |from: &str, to: &str| {
            assert!(text.contains(from), "{text}");
            StudySpec::from_resolved(&text.replace(from, to)).unwrap_err().to_string()
        };
        let newer = error("{\"version\":1", "{\"version\":9");
        assert_eq!(newer, "it has version 9 of the resolved study, this program reads up to 1");
        assert!(error("\"seed\":0", "\"seed\":-1").starts_with("it is not a resolved study: "));
        let unknown = error("validation_accuracy\",\"goal", "speed\",\"goal");
        assert_eq!(unknown, "objectives.metric is \"speed\", which is not known here");
    }
}
