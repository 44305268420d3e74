//! The study file: what a user wants searched, on which data, for which devices, at which cost.
//!
//! [`StudySpec::parse`] and the readers of accepted and resolved studies are the only ways to make
//! a spec. A parsed spec is valid: names resolve, numbers are in range, objectives are on metrics
//! that exist. Defaults are applied here and nowhere else.

use edgesmith_search_space::{CellIdentity, Design, NetworkSpace, Space};

use crate::{
    ArtifactHash, Bound, Constraint, DeviceClass, Metric, Objective, ScopedMetric, Seed, Split,
    StudyName, Target,
};

mod algorithm;
mod check;
mod data_file;
mod difference;
mod error;
mod fidelity;
mod model;
mod parse;
mod reader;
mod recipe;
mod resolved;
mod screening;
mod space;
mod table;
mod teachers;

pub use algorithm::{AlgorithmSpec, PolicySpec, RewardSpec};
pub use data_file::{DataFile, line_of};
pub use difference::Difference;
pub use error::{SpecError, SpecErrors};
pub use fidelity::{FidelityRule, FidelitySpec};
pub use model::{
    ImageSize, MAX_MODEL_BYTES, ModelFile, ModelFiles, ModelSpec, NamedModel, NamedModels,
    NamedOther, OtherFile, Pixels, PortName, TeacherModel,
};
pub use parse::{MAX_STUDY_BYTES, MAX_TRIALS};
pub use resolved::ResolvedError;
pub use screening::{Proxy, ScreeningSpec};

/// A valid study.
#[derive(Debug, Clone, PartialEq)]
pub struct StudySpec {
    /// Its name, unique within a coordinator.
    pub name: StudyName,
    /// Source of all randomness.
    pub seed: Seed,
    /// The space that is searched.
    pub space: Space,
    /// What the search optimizes; at least one.
    pub objectives: Vec<Objective>,
    /// What must hold for a trial.
    pub constraints: Vec<Constraint>,
    /// Earlier studies of the coordinator whose results it starts from.
    pub start_from: Vec<StudyName>,
    /// The algorithm that proposes candidates.
    pub algorithm: AlgorithmSpec,
    /// When it ends.
    pub budget: Budget,
    /// Where candidates' figures come from.
    pub work: Workload,
    /// Which trials stop early; `None` if every trial trains to the end.
    pub fidelity: Option<FidelitySpec>,
    /// The text that this was parsed from.
    source: String,
}

impl StudySpec {
    /// The text that this was parsed from; parsing it again gives an equal spec.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Replaces the budget, and the text of the study file if there is a new one with that budget.
    pub fn set_budget(&mut self, budget: Budget, source: Option<String>) {
        self.budget = budget;
        if let Some(source) = source {
            self.source = source;
        }
    }

    /// What training needs to know; `None` if trials are looked up in a table.
    pub fn training(&self) -> Option<&TrainWork> {
        match &self.work {
            Workload::Train(work) => Some(work),
            Workload::Table(_) => None,
        }
    }

    /// The user's network; `None` if the study is not about one.
    pub fn model(&self) -> Option<&ModelSpec> {
        self.training()?.model.as_deref()
    }

    /// The network that teaches, if it was read from a file of its own.
    pub fn teacher_model(&self) -> Option<&TeacherModel> {
        match &self.training()?.teacher.as_ref()?.source {
            TeacherSource::Network(model) => Some(model),
            TeacherSource::Train { .. } | TeacherSource::Itself | TeacherSource::File { .. } => {
                None
            }
        }
    }

    /// What teaches beside the teacher.
    pub fn other_teachers(&self) -> &[OtherTeacher] {
        let teacher = self.training().and_then(|work| work.teacher.as_ref());
        teacher.map_or(&[], |teacher| &teacher.others)
    }

    /// The figures that objectives and constraints are on, each once, in order of mention.
    pub fn metrics(&self) -> Vec<&ScopedMetric> {
        let named = self.objectives.iter().map(|o| &o.of);
        let mut metrics = Vec::new();
        for of in named.chain(self.constraints.iter().map(|c| &c.of)) {
            if !metrics.contains(&of) {
                metrics.push(of);
            }
        }
        metrics
    }

    /// The targets that objectives and constraints name, each once, in order of mention. Each model
    /// of the study is measured on all of them.
    pub fn targets(&self) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        for target in self.metrics().into_iter().filter_map(ScopedMetric::target) {
            if !targets.contains(target) {
                targets.push(target.clone());
            }
        }
        targets
    }

    /// The figures that a result must have to be imported as a known one: those of the objectives
    /// and the latency on every target. In a study that trains, those that follow from the network
    /// are not needed, because they are computed; unless only the weights of a network say how many
    /// of its channels a pruning leaves.
    pub fn needed_of_known(&self) -> Vec<ScopedMetric> {
        let trained = self.training().is_some_and(|work| work.space.recipe().fixes_costs());
        let computed = |of: &ScopedMetric| trained && of.metric.is_analytic();
        let of_objectives = self.objectives.iter().map(|objective| objective.of.clone());
        let mut needed: Vec<ScopedMetric> = of_objectives.filter(|of| !computed(of)).collect();
        let latencies = self.targets().into_iter().map(|target| Metric::LATENCY_MS.at(target));
        needed.extend(latencies);
        needed
    }

    /// The device classes of [`StudySpec::targets`], each once.
    pub fn devices(&self) -> Vec<DeviceClass> {
        let mut devices = Vec::new();
        for Target { device, .. } in self.targets() {
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
        devices
    }

    /// The metric that compares trials while they train, at rungs and by their learning curves: the
    /// first objective that is evaluated on validation images, or else validation accuracy.
    pub fn training_metric(&self) -> ScopedMetric {
        let evaluated = self.objectives.iter().map(|objective| &objective.of);
        let mut evaluated = evaluated.filter(|of| of.split() == Some(&Split::Validation));
        evaluated.next().unwrap_or(&ScopedMetric::VALIDATION_ACCURACY).clone()
    }

    /// The targets on which candidates may be ruled out by their predicted latency, each with the
    /// lowest limit that constraints set there, in milliseconds.
    pub fn predicted_limits(&self) -> Vec<(Target, f64)> {
        let mut limits: Vec<(Target, f64)> = Vec::new();
        if !self.training().is_some_and(|work| work.measurement.predict) {
            return limits;
        }
        for constraint in &self.constraints {
            let (Metric::LATENCY_MS, Bound::Max(limit), Some(target)) =
                (constraint.of.metric, constraint.bound, constraint.of.target())
            else {
                continue;
            };
            match limits.iter_mut().find(|(known, _)| known == target) {
                Some((_, least)) => *least = least.min(limit),
                None => limits.push((target.clone(), limit)),
            }
        }
        limits
    }
}

/// Where candidates' figures come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Workload {
    /// Candidates are trained, compressed and measured.
    Train(Box<TrainWork>),
    /// Candidates are looked up in a table.
    Table(TableSpec),
}

/// How candidates are trained, compressed and measured.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainWork {
    /// The space that is searched. It includes the data's channels and classes.
    pub space: NetworkSpace,
    /// The user's network, if the space is around one.
    pub model: Option<Box<ModelSpec>>,
    /// The data that candidates learn.
    pub data: DataSpec,
    /// How candidates are trained.
    pub training: TrainingSpec,
    /// The network that teaches; `None` if no candidate distills, or a file of logits teaches.
    pub teacher: Option<TeacherSpec>,
    /// A file of the teacher's logits instead of its network: a NumPy array with a row for each
    /// training image of the source. It is on the submitter's machine and uploaded with the study;
    /// the path is as the user wrote it, relative to the study file.
    pub logits: Option<String>,
    /// Files of logits beside that one. What is uploaded is the mean of all.
    pub logits_beside: Vec<LogitsBeside>,
    /// How latency is measured.
    pub measurement: MeasurementSpec,
    /// Which candidates are not trained; `None` if all are.
    pub screening: Option<ScreeningSpec>,
}

/// A table of networks that others trained: a CSV file, gzipped or plain, with a header and one row
/// per network. Paths are as the user wrote them; a worker resolves relative ones against its own
/// data directory.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSpec {
    /// The table; its column `arch` names the network.
    pub path: String,
    /// The file of latencies, with columns `CLASS_ms` and rows in the table's order. Required if an
    /// objective or constraint is on latency.
    pub latencies: Option<String>,
    /// Column of the accuracy that the search sees, percent.
    pub validation_accuracy: String,
    /// Columns of held-out accuracies, percent. The first one is displayed.
    pub test_accuracies: Vec<String>,
    /// Epochs after which the network has `validation_accuracy`. Always present if there are rungs.
    pub epochs: Option<u32>,
    /// What the table holds about shorter trainings, ascending, all below `epochs`; empty if every
    /// trial trains to the end.
    pub rungs: Vec<TableRung>,
    /// Column of training seconds.
    pub seconds: String,
    /// Share of those seconds that one look-up costs, above 0. A rung costs a fraction of it: its
    /// epochs divided by `epochs`.
    pub seconds_share: f64,
    /// Which cells count as the same candidate.
    pub identity: CellIdentity,
}

/// What a table holds about a shorter training. This was a separate training with its own learning
/// rate schedule, so no training can continue from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRung {
    /// Epochs of the training; at least 1.
    pub epochs: u32,
    /// Column of the accuracy after the training, percent.
    pub validation_accuracy: String,
}

/// Where images come from and how they are split. Paths are as the user wrote them; a worker
/// resolves relative ones against its own data directory.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSpec {
    /// The reader and its files.
    pub source: DataSource,
    /// Share of the training images used for validation, stratified by class; above 0 and below 1.
    pub validation_fraction: f64,
    /// Use at most this many training images, chosen before the split, stratified and seeded.
    pub train_limit: Option<usize>,
    /// Use at most this many test images: the first ones.
    pub test_limit: Option<usize>,
}

/// A reader of images and its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    /// The UCI optical digits inside the program.
    Digits,
    /// IDX files as used for MNIST, gzipped or plain.
    Idx {
        /// Images to train and validate on.
        train_images: String,
        /// Their labels.
        train_labels: String,
        /// Held-out images.
        test_images: String,
        /// Their labels.
        test_labels: String,
    },
    /// A directory with CIFAR-10's binary batches.
    Cifar10 {
        /// With `data_batch_1.bin` … and `test_batch.bin`.
        directory: String,
    },
    /// A folder of images per class.
    ImageFolder {
        /// One subfolder per class, in name order.
        train: String,
        /// The same for held-out images. Without it, a stratified tenth of `train` is held out.
        test: Option<String>,
        /// Images are resized to squares with this side when they are read.
        side: u32,
    },
}

impl DataSource {
    /// The side of its images in pixels, if they are squares of a side that is known without
    /// reading them.
    pub fn side(&self) -> Option<u32> {
        match self {
            DataSource::Digits => Some(8),
            DataSource::Cifar10 { .. } => Some(32),
            DataSource::ImageFolder { side, .. } => Some(*side),
            DataSource::Idx { .. } => None,
        }
    }

    /// The files and directories that it names, as written in the study file.
    pub fn paths(&self) -> Vec<&str> {
        match self {
            DataSource::Digits => Vec::new(),
            DataSource::Idx { train_images, train_labels, test_images, test_labels } => {
                vec![train_images, train_labels, test_images, test_labels]
            }
            DataSource::Cifar10 { directory } => vec![directory],
            DataSource::ImageFolder { train, test, .. } => {
                std::iter::once(train.as_str()).chain(test.as_deref()).collect()
            }
        }
    }
}

/// The source in words.
impl std::fmt::Display for DataSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DataSource::Digits => f.write_str("the UCI optical digits inside the program"),
            DataSource::Idx { train_images, test_images, .. } => {
                write!(f, "IDX files {train_images} and {test_images} with their labels")
            }
            DataSource::Cifar10 { directory } => write!(f, "CIFAR-10's batches in {directory}"),
            DataSource::ImageFolder { train, test: Some(test), side } => {
                write!(f, "image folders {train} and {test}, resized to {side}x{side}")
            }
            DataSource::ImageFolder { train, test: None, side } => {
                write!(f, "image folder {train}, resized to {side}x{side}, a tenth held out")
            }
        }
    }
}

/// When a study ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Trials that are trained or looked up; infeasible ones do not count. At least 1.
    pub trials: u32,
    /// Seconds of training, as given by the table, after which no more trials are proposed.
    pub simulated_seconds: Option<f64>,
    /// Attempts at a task before its trial fails. At least 1.
    pub max_attempts: u32,
    /// Hours after which no more trials are proposed; those that run are finished. Pauses, and
    /// times in which no coordinator runs, do not count. Above 0.
    pub hours: Option<f64>,
}

impl Budget {
    /// Whether it allows at least as much as `other`.
    pub fn covers(&self, other: &Budget) -> bool {
        let covers = |mine: Option<f64>, others: Option<f64>| match (mine, others) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(others)) => mine >= others,
        };
        self.trials >= other.trials
            && covers(self.simulated_seconds, other.simulated_seconds)
            && covers(self.hours, other.hours)
    }

    /// [`Budget::hours`] in milliseconds.
    pub fn milliseconds(&self) -> Option<f64> {
        self.hours.map(|hours| hours * 3.6e6)
    }
}

/// How networks are trained.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSpec {
    /// Passes over the training images. At least 1.
    pub epochs: u32,
    /// Passes after pruning, if anything was pruned.
    pub fine_tune_epochs: u32,
    /// Passes of a trial that starts from a finished relative's weights; 0 means that every trial
    /// starts from fresh weights.
    pub inherit_epochs: u32,
    /// Images per step. At least 2, because batch normalisation needs more than one.
    pub batch_size: u32,
    /// Optimizer.
    pub optimizer: OptimizerSpec,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Peak learning rate of fine-tuning.
    pub fine_tune_learning_rate: f64,
    /// Share of the steps that warm up linearly, `0..1`. A cosine schedule follows.
    pub warmup_fraction: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Label smoothing, `0..1`.
    pub label_smoothing: f64,
    /// Augmentation.
    pub augmentation: Augmentation,
}

/// Optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerSpec {
    /// AdamW, Loshchilov & Hutter 2019.
    AdamW,
    /// Stochastic gradient descent with classical (not Nesterov) momentum.
    Sgd {
        /// `0..1`
        momentum: f64,
    },
}

/// Light augmentation with a fixed number of views per image. The teacher's soft targets of every
/// view are therefore computed only once, and students see the same views (Beyer et al. 2022).
#[derive(Debug, Clone, PartialEq)]
pub struct Augmentation {
    /// Largest shift in pixels of the native image, in each direction; 0 disables shifting.
    pub shift: u32,
    /// Whether images are mirrored left to right with probability one half.
    pub flip: bool,
    /// Distinct views of each image; epoch `e` sees view `e % views`. View 0 is the image itself.
    /// 1 means no augmentation.
    pub views: u32,
}

/// The teacher of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct TeacherSpec {
    /// Its network: the largest of the space, a given one, the user's network, or another one from
    /// a file. Resolved by the parser.
    pub architecture: Design,
    /// Where its weights come from.
    pub source: TeacherSource,
    /// What teaches beside it. The logits of all are averaged.
    pub others: Vec<OtherTeacher>,
    /// Networks between the teachers and the students, in order: each learns from the one before
    /// it, and students from the last (Mirzadeh et al. 2020).
    pub assistants: Vec<Assistant>,
}

/// What teaches beside a teacher.
#[derive(Debug, Clone, PartialEq)]
pub struct OtherTeacher {
    /// Where its logits come from.
    pub source: OtherSource,
    /// Weight of its logits in the mean, above 0; that of the first teacher is 1.
    pub weight: f64,
}

/// Where the logits of another teacher come from.
#[derive(Debug, Clone, PartialEq)]
pub enum OtherSource {
    /// A network that is trained on the labels.
    Train {
        /// The network.
        architecture: Design,
        /// Passes over the training images.
        epochs: u32,
    },
    /// A network of a file of its own, with its own weights, not trained further.
    Network {
        /// The network as it is.
        architecture: Design,
        /// Its file.
        model: Box<TeacherModel>,
    },
    /// A file of logits: a NumPy array with a row for each training image of the source.
    Logits(GivenLogits),
}

/// A file of logits that teaches beside the first teacher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenLogits {
    /// The path as the user wrote it, relative to the study file.
    pub path: String,
    /// The file. Beside a network it is uploaded with the study.
    pub file: ArtifactHash,
}

/// A file of logits beside another.
#[derive(Debug, Clone, PartialEq)]
pub struct LogitsBeside {
    /// The file.
    pub given: GivenLogits,
    /// Weight of its logits in the mean, above 0; that of the first file is 1.
    pub weight: f64,
}

/// A network that learns from a teacher, and teaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Assistant {
    /// Its network.
    pub architecture: Design,
    /// Passes over the training images.
    pub epochs: u32,
    /// Weight of the teacher's term in its loss, above 0 and at most 1.
    pub alpha: f64,
    /// Divides the logits, above 0.
    pub temperature: f64,
}

/// Where a teacher's weights come from.
#[derive(Debug, Clone, PartialEq)]
pub enum TeacherSource {
    /// Trained by a worker first, for this many epochs.
    Train {
        /// Passes over the training images.
        epochs: u32,
    },
    /// The user's network with its own weights, not trained further.
    Itself,
    /// Another network with its own weights, not trained further.
    Network(Box<TeacherModel>),
    /// A safetensors file on the submitter's machine, uploaded with the study.
    File {
        /// The path as the user wrote it, relative to the study file.
        path: String,
    },
}

/// How latency is measured, and whether it is predicted.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasurementSpec {
    /// Untimed runs before the timed ones.
    pub warmup_runs: u32,
    /// Minimum number of timed runs; at least 50.
    pub min_runs: u32,
    /// Minimum total time of the timed runs, seconds; at least 0.2.
    pub min_seconds: f64,
    /// Threads that the engine uses.
    pub threads: u32,
    /// Whether candidates are skipped without training if measurements of other networks show that
    /// they would certainly break a latency limit.
    pub predict: bool,
}

impl Default for MeasurementSpec {
    /// What a study measures if its file says nothing.
    fn default() -> Self {
        Self { warmup_runs: 10, min_runs: 50, min_seconds: 0.2, threads: 1, predict: true }
    }
}
