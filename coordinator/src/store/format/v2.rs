//! Version 2 of the kinds of record that have changed, frozen, with the upcasts from version 1.
//!
//! What changed: figures map a metric and a scope to a value; measurements are on a target (device,
//! engine, threads); a study is stored resolved, with its choices; hashes are 32 bytes; a
//! measurement says how quiet the machine was; attempts also end by a fault of the worker or of the
//! data; a data check has a hash of the data.

use edgesmith_common::{Metric, ScopedMetric, StudySpec};
use serde::{Deserialize, Serialize};

use super::{frozen, v1};

frozen! { 2:
    0 StudyCreated,
    7 AttemptEnded,
    8 TeacherTrained,
    9 TrialTrained,
    14 TrialLookedUp,
    15 RungReached,
    17 TrialImported,
    19 TrialTooSlow,
    10 Measured,
    22 DataChecked,
}

/// The bytes of a hash.
pub type Hash = [u8; 32];

/// Kind 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyCreated {
    pub study: String,
    /// The study as [`StudySpec::to_resolved`] writes it.
    pub resolved: String,
    /// Name and options of each choice, in genotype order.
    pub choices: Vec<(String, Vec<String>)>,
    pub teacher_weights: Option<Hash>,
    pub teacher_task: Option<u64>,
    pub at_ms: u64,
}

/// Kind 7.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptEnded {
    pub study: String,
    pub task: u64,
    pub attempt: u64,
    pub ending: AttemptEnding,
    pub elapsed_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AttemptEnding {
    Succeeded,
    Failed { reason: String },
    Lost,
    Left,
    FaultOfWorker { reason: String },
    FaultOfData { reason: String },
}

/// Kind 8.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherTrained {
    pub study: String,
    pub trained: TrainedTrial,
    pub soft_targets: Hash,
    pub measure: Vec<(u64, Target)>,
}

/// Kind 9.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialTrained {
    pub study: String,
    pub number: u32,
    pub trained: TrainedTrial,
    pub measure: Vec<(u64, Target)>,
}

/// Kind 14.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialLookedUp {
    pub study: String,
    pub number: u32,
    pub figures: Vec<Figure>,
}

/// Kind 15.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RungReached {
    pub study: String,
    pub number: u32,
    pub epochs: u32,
    pub figures: Vec<Figure>,
    pub checkpoint: Option<Hash>,
}

/// Kind 17.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialImported {
    pub study: String,
    pub number: u32,
    pub genotype: Vec<u16>,
    pub figures: Vec<Figure>,
}

/// Kind 19.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialTooSlow {
    pub study: String,
    pub number: u32,
    pub genotype: Vec<u16>,
    pub parents: Vec<u32>,
    pub target: Target,
    pub reason: String,
}

/// Kind 10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub study: String,
    pub task: u64,
    pub measurement: v1::Measurement,
    pub noise: Option<Noise>,
}

/// Kind 22.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataChecked {
    pub study: String,
    pub train: u32,
    pub validation: u32,
    pub test: u32,
    pub hash: Option<Hash>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    pub noisy: bool,
    pub spread: f64,
    pub waiting: Option<Waiting>,
    pub timings: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    pub share: f64,
    pub per_run: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedTrial {
    pub compressed: Vec<Figure>,
    pub uncompressed: Vec<Figure>,
    pub model: Hash,
    pub weights: Hash,
}

/// A metric's value in a scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The metric's name.
    pub metric: String,
    pub scope: Scope,
    pub value: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Scope {
    Whole,
    Validation,
    Test,
    HeldOut(String),
    Target(Target),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    pub device: String,
    pub engine: String,
    pub threads: u32,
}

impl v1::StudyCreated {
    /// Version 1 held the study file. Its rules are not applied again.
    pub fn upcast(self) -> Result<StudyCreated, String> {
        let spec = StudySpec::parse_accepted(&self.spec_toml)
            .map_err(|e| format!("the file of study {} cannot be read: {e}", self.study))?;
        if spec.name.as_str() != self.study {
            return Err(format!("study {} has a different name in its file", self.study));
        }
        let choices = spec.space.choices().iter().map(|c| (c.name.clone(), c.options.clone()));
        Ok(StudyCreated {
            resolved: spec.to_resolved(),
            choices: choices.collect(),
            teacher_weights: self.teacher_weights.as_deref().map(hash).transpose()?,
            teacher_task: self.teacher_task,
            at_ms: self.at_ms,
            study: self.study,
        })
    }
}

impl v1::AttemptEnded {
    pub fn upcast(self) -> AttemptEnded {
        let v1::AttemptEnded { study, task, attempt, ending, elapsed_ms } = self;
        let ending = match ending {
            v1::AttemptEnding::Succeeded => AttemptEnding::Succeeded,
            v1::AttemptEnding::Failed { reason } => AttemptEnding::Failed { reason },
            v1::AttemptEnding::Lost => AttemptEnding::Lost,
            v1::AttemptEnding::Left => AttemptEnding::Left,
        };
        AttemptEnded { study, task, attempt, ending, elapsed_ms }
    }
}

impl v1::TeacherTrained {
    pub fn upcast(self) -> Result<TeacherTrained, String> {
        Ok(TeacherTrained {
            study: self.study,
            trained: self.trained.upcast()?,
            soft_targets: hash(&self.soft_targets)?,
            measure: self.measure.into_iter().map(measure_task).collect(),
        })
    }
}

impl v1::TrialTrained {
    pub fn upcast(self) -> Result<TrialTrained, String> {
        Ok(TrialTrained {
            study: self.study,
            number: self.number,
            trained: self.trained.upcast()?,
            measure: self.measure.into_iter().map(measure_task).collect(),
        })
    }
}

impl v1::TrialLookedUp {
    pub fn upcast(self) -> TrialLookedUp {
        let v1::TrialLookedUp { study, number, figures } = self;
        TrialLookedUp { study, number, figures: figures.upcast() }
    }
}

impl v1::RungReached {
    /// Version 1 held a hash of zeros if there was no checkpoint, and then also 0 images.
    pub fn upcast(self) -> Result<RungReached, String> {
        let v1::RungReport { epochs, validation_accuracy, checkpoint, images_seen, seconds } =
            self.report;
        let checkpoint = Some(hash(&checkpoint)?).filter(|hash| *hash != [0; 32]);
        let mut figures = vec![
            split(Scope::Validation, validation_accuracy),
            whole(Metric::TRAINING_SECONDS, seconds),
        ];
        figures.extend(checkpoint.map(|_| whole(Metric::IMAGES_SEEN, images_seen as f64)));
        Ok(RungReached { study: self.study, number: self.number, epochs, figures, checkpoint })
    }
}

impl v1::TrialImported {
    pub fn upcast(self) -> TrialImported {
        let v1::TrialImported { study, number, genotype, figures } = self;
        TrialImported { study, number, genotype, figures: figures.upcast() }
    }
}

impl v1::TrialTooSlow {
    pub fn upcast(self) -> TrialTooSlow {
        let v1::TrialTooSlow { study, number, genotype, parents, device, reason } = self;
        TrialTooSlow { study, number, genotype, parents, target: target(device), reason }
    }
}

impl v1::Measured {
    /// In version 1, it was not known how quiet the machine was.
    pub fn upcast(self) -> Measured {
        let v1::Measured { study, task, measurement } = self;
        Measured { study, task, measurement, noise: None }
    }
}

impl v1::DataChecked {
    /// In version 1, the data were not hashed.
    pub fn upcast(self) -> DataChecked {
        let v1::DataChecked { study, train, validation, test } = self;
        DataChecked { study, train, validation, test, hash: None }
    }
}

impl v1::TrainedTrial {
    fn upcast(self) -> Result<TrainedTrial, String> {
        let mut compressed = self.compressed.upcast();
        compressed.push(whole(Metric::TRAINING_SECONDS, self.seconds));
        compressed.push(whole(Metric::IMAGES_SEEN, self.images_seen as f64));
        Ok(TrainedTrial {
            compressed,
            uncompressed: self.uncompressed.upcast(),
            model: hash(&self.model)?,
            weights: hash(&self.weights)?,
        })
    }
}

impl v1::NetworkReport {
    fn upcast(self) -> Vec<Figure> {
        vec![
            split(Scope::Validation, self.validation_accuracy),
            split(Scope::Test, self.test_accuracy),
            whole(Metric::MODEL_BYTES, self.model_bytes as f64),
            whole(Metric::MACS, self.macs as f64),
            whole(Metric::PARAMETERS, self.parameters as f64),
            whole(Metric::PEAK_MEMORY_BYTES, self.peak_memory_bytes as f64),
        ]
    }
}

impl v1::Figures {
    fn upcast(self) -> Vec<Figure> {
        let mut figures = vec![split(Scope::Validation, self.validation_accuracy)];
        figures.extend(self.test_accuracies.first().map(|(_, share)| split(Scope::Test, *share)));
        let named = self.test_accuracies.into_iter();
        figures.extend(named.map(|(name, share)| split(Scope::HeldOut(name), share)));
        let counts = [
            (Metric::MODEL_BYTES, self.model_bytes),
            (Metric::MACS, self.macs),
            (Metric::PARAMETERS, self.parameters),
            (Metric::PEAK_MEMORY_BYTES, self.peak_memory_bytes),
        ];
        let known = counts.into_iter().filter_map(|(of, count)| Some(whole(of, count? as f64)));
        figures.extend(known);
        let latencies = self.latencies.into_iter();
        figures.extend(latencies.map(|(class, ms)| Figure {
            metric: Metric::LATENCY_MS.name().to_owned(),
            scope: Scope::Target(target(class)),
            value: ms,
        }));
        figures.push(whole(Metric::TRAINING_SECONDS, self.seconds));
        figures
    }
}

/// For sets of data, version 1 had only accuracies.
fn split(scope: Scope, share: f64) -> Figure {
    let metric = ScopedMetric::VALIDATION_ACCURACY.metric.name().to_owned();
    Figure { metric, scope, value: share }
}

fn whole(metric: Metric, value: f64) -> Figure {
    Figure { metric: metric.name().to_owned(), scope: Scope::Whole, value }
}

/// Version 1 had only one engine, on one thread.
fn target(device: String) -> Target {
    Target { device, engine: "edge-runtime".to_owned(), threads: 1 }
}

fn measure_task((task, class): (u64, String)) -> (u64, Target) {
    (task, target(class))
}

fn hash(text: &str) -> Result<Hash, String> {
    let hash: edgesmith_common::ArtifactHash =
        text.parse().map_err(|e: edgesmith_common::InvalidHash| e.to_string())?;
    Ok(*hash.as_bytes())
}
