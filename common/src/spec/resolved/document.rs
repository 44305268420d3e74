//! The format of the resolved study. These types are frozen and separate from the domain's; see
//! [`super`] for how they may change.

use serde::{Deserialize, Serialize};

use crate::ArtifactHash;
use crate::spec::ModelFile;

#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) version: u32,
    pub(super) name: String,
    pub(super) seed: u64,
    pub(super) start_from: Vec<String>,
    /// Metric names with device and engine: `latency_ms@rpi4`.
    pub(super) objectives: Vec<ObjectiveDocument>,
    pub(super) constraints: Vec<ConstraintDocument>,
    pub(super) algorithm: AlgorithmDocument,
    pub(super) budget: BudgetDocument,
    pub(super) work: WorkDocument,
    pub(super) fidelity: Option<FidelityDocument>,
    /// The text of the study file, for users to read.
    pub(super) source: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ObjectiveDocument {
    pub(super) metric: String,
    pub(super) goal: GoalDocument,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum GoalDocument {
    Maximize,
    Minimize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BoundDocument {
    Max(f64),
    Min(f64),
}

#[derive(Serialize, Deserialize)]
pub(super) struct ConstraintDocument {
    pub(super) metric: String,
    pub(super) bound: BoundDocument,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scale: Option<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub(super) enum AlgorithmDocument {
    Random,
    RegularizedEvolution {
        population: usize,
        sample: usize,
        mutations: usize,
    },
    Auto,
    ModelBased {
        initial: usize,
    },
    Nsga2 {
        population: usize,
        crossover: f64,
        mutations: usize,
    },
    Nsga3 {
        population: usize,
        crossover: f64,
        mutations: usize,
    },
    LocalSearch,
    Reinforce {
        learning_rate: f64,
        entropy: f64,
        baseline_decay: f64,
        policy: PolicyDocument,
        reward: RewardDocument,
    },
    Ppo {
        learning_rate: f64,
        entropy: f64,
        batch: usize,
        epochs: usize,
        clip: f64,
        policy: PolicyDocument,
        reward: RewardDocument,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PolicyDocument {
    Categorical,
    Lstm,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RewardDocument {
    Rank,
    Target { target: f64, within: f64, beyond: f64 },
}

#[derive(Serialize, Deserialize)]
pub(super) struct BudgetDocument {
    pub(super) trials: u32,
    pub(super) simulated_seconds: Option<f64>,
    pub(super) max_attempts: u32,
    /// Absent in documents from before this limit existed, and if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hours: Option<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WorkDocument {
    Train(Box<TrainDocument>),
    Table(TableDocument),
}

#[derive(Serialize, Deserialize)]
pub(super) struct TrainDocument {
    /// Absent where the space is around a user's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) space: Option<SpaceDocument>,
    /// The space around a user's network; absent in other studies, and in documents from before
    /// there were such spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<ModelDocument>,
    pub(super) channels: u32,
    pub(super) classes: u32,
    pub(super) data: DataDocument,
    pub(super) training: TrainingDocument,
    pub(super) teacher: Option<TeacherDocument>,
    /// Absent if a network teaches, or nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) logits: Option<String>,
    /// Absent if there are none, as before there could be any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) logits_beside: Vec<LogitsBesideDocument>,
    pub(super) measurement: MeasurementDocument,
    pub(super) screening: Option<ScreeningDocument>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SpaceDocument {
    pub(super) resolution: Vec<u32>,
    pub(super) stem_width: Vec<u32>,
    pub(super) stages: Vec<StageSpaceDocument>,
    #[serde(flatten)]
    pub(super) recipe: RecipeDocument,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ModelDocument {
    pub(super) path: String,
    /// The network without its numbers.
    pub(super) file: ModelFile,
    pub(super) mean: Vec<f64>,
    pub(super) std: Vec<f64>,
    pub(super) head: String,
    pub(super) head_epochs: u32,
    /// Empty: the size that the network has.
    pub(super) resolution: Vec<u32>,
    pub(super) width: Vec<f64>,
    pub(super) blocks: Vec<String>,
    pub(super) train: Vec<String>,
    #[serde(flatten)]
    pub(super) recipe: RecipeDocument,
}

/// The recipe: four lists, or steps.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct RecipeDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prune: Option<Vec<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) precision: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) alpha: Option<Vec<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<Vec<f64>>,
    /// Absent in documents from before there were steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) steps: Option<Vec<StepDocument>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StepDocument {
    Distil {
        alpha: Vec<ScheduledDocument>,
        temperature: Vec<ScheduledDocument>,
        /// Absent if answers are classes, as before they could be anything else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answers: Option<Vec<String>>,
        /// Both are absent if no candidate copies features, as before there were any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        features: Option<Vec<String>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        feature_weight: Option<Vec<ScheduledDocument>>,
    },
    Prune {
        /// Absent in documents from before single weights could go, and for channels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        granularity: Option<String>,
        of: String,
        /// Absent where it is said what stays.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        share: Vec<f64>,
        /// Absent where shares go, as before anything else could be said.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        at_most: Vec<f64>,
        importance: Vec<String>,
        rounds: Vec<u32>,
        epochs: Vec<u32>,
        multiple_of: Vec<MultipleDocument>,
        /// Absent if trainings go back to nothing, as before they could.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rewind: Option<Vec<String>>,
    },
    FineTune {
        epochs: Vec<u32>,
        learning_rate: Vec<f64>,
        /// Both are absent if nothing shrinks, as before anything could.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shrink: Option<Vec<String>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shrink_by: Option<Vec<f64>>,
    },
    Cluster {
        clusters: Vec<u32>,
    },
    Quantize {
        precision: Vec<String>,
        calibration: Vec<String>,
        examples: Vec<u32>,
        clip_ranges: Vec<bool>,
        granularity: Vec<String>,
        equalize: Vec<bool>,
        correct_biases: Vec<bool>,
        rounding: Vec<String>,
        fp32: Vec<String>,
        mixed: Vec<String>,
        /// These four are absent in documents from before there were other bits than 8, and where
        /// all are usual.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight_bits: Option<Vec<u32>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        affine_weights: Option<Vec<bool>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        activation_bits: Option<Vec<u32>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mixed_bits: Option<Vec<u32>>,
    },
    QuantizeAwareTrain {
        epochs: Vec<u32>,
        learning_rate: Vec<f64>,
        /// Absent where batches are not normalised.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        normalize: Option<Vec<bool>>,
    },
}

/// As in study files: a number, or `auto`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum MultipleDocument {
    Number(u32),
    Name(String),
}

/// As in study files.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum ScheduledDocument {
    Constant(f64),
    Changing { from: f64, to: f64, schedule: String },
}

#[derive(Serialize, Deserialize)]
pub(super) struct StageSpaceDocument {
    pub(super) depth: Vec<u32>,
    pub(super) width: Vec<u32>,
    pub(super) kernel: Vec<u32>,
    pub(super) operation: Vec<String>,
    pub(super) expansion: Vec<u32>,
    pub(super) stride: Vec<u32>,
    pub(super) activation: Vec<String>,
    /// Absent if none is offered, as before there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) squeeze: Option<Vec<u32>>,
    /// Absent if only `add` is offered, as before there was another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) skip: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DataDocument {
    pub(super) source: SourceDocument,
    pub(super) validation_fraction: f64,
    pub(super) train_limit: Option<usize>,
    pub(super) test_limit: Option<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SourceDocument {
    Digits,
    Idx { train_images: String, train_labels: String, test_images: String, test_labels: String },
    Cifar10 { directory: String },
    ImageFolder { train: String, test: Option<String>, side: u32 },
}

#[derive(Serialize, Deserialize)]
pub(super) struct TrainingDocument {
    pub(super) epochs: u32,
    pub(super) fine_tune_epochs: u32,
    pub(super) inherit_epochs: u32,
    pub(super) batch_size: u32,
    pub(super) optimizer: OptimizerDocument,
    pub(super) learning_rate: f64,
    pub(super) fine_tune_learning_rate: f64,
    pub(super) warmup_fraction: f64,
    pub(super) weight_decay: f64,
    pub(super) label_smoothing: f64,
    pub(super) shift: u32,
    pub(super) flip: bool,
    pub(super) views: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OptimizerDocument {
    Adamw,
    Sgd { momentum: f64 },
}

#[derive(Serialize, Deserialize)]
pub(super) struct TeacherDocument {
    /// Absent if it is the user's network, or one from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) architecture: Option<ArchitectureDocument>,
    pub(super) source: TeacherSourceDocument,
    /// Absent if there are none, as before there could be any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) others: Vec<OtherTeacherDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) assistants: Vec<AssistantDocument>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct OtherTeacherDocument {
    /// Absent if it is the user's network, or is not trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) architecture: Option<ArchitectureDocument>,
    /// Absent if it is from a file. Earlier programs need it, so they refuse those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) epochs: Option<u32>,
    pub(super) weight: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) network: Option<Box<TeacherModelDocument>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) logits: Option<GivenLogitsDocument>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct GivenLogitsDocument {
    pub(super) path: String,
    pub(super) file: ArtifactHash,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LogitsBesideDocument {
    pub(super) path: String,
    pub(super) file: ArtifactHash,
    pub(super) weight: f64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AssistantDocument {
    /// Absent if it is the user's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) architecture: Option<ArchitectureDocument>,
    pub(super) epochs: u32,
    pub(super) alpha: f64,
    pub(super) temperature: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TeacherSourceDocument {
    Train { epochs: u32 },
    Itself,
    File { path: String },
    Network(Box<TeacherModelDocument>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct TeacherModelDocument {
    pub(super) path: String,
    /// The network without its numbers.
    pub(super) file: ModelFile,
    pub(super) mean: Vec<f64>,
    pub(super) std: Vec<f64>,
    /// Absent: the size that the network has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resolution: Option<u32>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ArchitectureDocument {
    pub(super) resolution: u32,
    pub(super) stem_width: u32,
    pub(super) stages: Vec<StageDocument>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StageDocument {
    pub(super) depth: u32,
    pub(super) width: u32,
    pub(super) kernel: u32,
    pub(super) operation: String,
    /// Only for inverted residuals; absent for other operations.
    pub(super) expansion: Option<u32>,
    pub(super) stride: u32,
    pub(super) activation: String,
    /// 0 as before there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) squeeze: Option<u32>,
    /// `add` as before there was another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) skip: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct MeasurementDocument {
    pub(super) warmup_runs: u32,
    pub(super) min_runs: u32,
    pub(super) min_seconds: f64,
    pub(super) threads: u32,
    pub(super) predict: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ScreeningDocument {
    pub(super) proxy: String,
    pub(super) batch: u32,
    pub(super) keep: f64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct FidelityDocument {
    pub(super) rule: RuleDocument,
    pub(super) rungs: Vec<u32>,
    pub(super) reduction: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RuleDocument {
    Asha,
    Median,
    Curve { confidence: f64 },
}

#[derive(Serialize, Deserialize)]
pub(super) struct TableDocument {
    pub(super) path: String,
    pub(super) latencies: Option<String>,
    pub(super) validation_accuracy: String,
    pub(super) test_accuracies: Vec<String>,
    pub(super) epochs: Option<u32>,
    pub(super) rungs: Vec<TableRungDocument>,
    pub(super) seconds: String,
    pub(super) seconds_share: f64,
    pub(super) identity: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct TableRungDocument {
    pub(super) epochs: u32,
    pub(super) validation_accuracy: String,
}
