//! The recipe that compresses a network: passes in order, each with its settings. It says what is
//! done, not how; workers do it.

mod check;
mod choosing;
mod display;
mod multiple;
mod names;
mod scheduled;
mod space;
#[cfg(test)]
mod tests;
mod widths;

use std::fmt;

use edgesmith_graph::Graph;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

pub(crate) use self::check::{check_recipe, check_recorded_recipe};
pub use self::multiple::Multiple;
pub use self::names::{
    Among, Answers, Counted, Course, Features, Granularity, Importance, Precision, PruneUnit,
    RangeRule, Rewind, Rounding, Scope, Shrink,
};
pub use self::scheduled::Scheduled;
pub use self::space::{
    ClusterSpace, DistilSpace, FineTuneSpace, FlatRecipe, PruneSpace, QuantizeSpace, RecipeSpace,
    StepSpace,
};
pub use self::widths::{Arithmetic, Widths, WidthsSpace};
use crate::pruning;

/// Passes that turn a network into the one that ships, in order. The training that the study
/// describes comes before the first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recipe {
    /// In order.
    pub steps: Vec<Step>,
}

/// One step of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "pass", rename_all = "kebab-case")]
pub enum Step {
    /// From here on, trainings also learn from the teacher. The training before the first pass
    /// does if the recipe begins with this.
    Distil(Distillation),
    /// Channels are removed, or single weights become 0 and stay so.
    Prune(Pruning),
    /// The network is trained further. It is not if all prunings since the last training removed
    /// nothing, and no clusters were made since then.
    FineTune(FineTuning),
    /// The weights of each layer become a few numbers.
    Cluster(Clustering),
    /// Values and weights become integers.
    Quantize(Quantizing),
    /// The quantized network is trained further, rounding as it will when it runs.
    QuantizeAwareTrain(FineTuning),
}

/// Weights of the distillation loss `(1-alpha)*CE + alpha*T^2*KL(teacher_T || student_T)`
/// (Hinton et al. 2015), or with values `(1-alpha)*CE + alpha*mean((student - teacher)^2)/2`
/// (Ba & Caruana 2014). Schedules cover each training as a whole.
#[derive(Clone, Copy, PartialEq, Serialize)]
pub struct Distillation {
    /// Weight of the teacher's term, in `0.0..=1.0`.
    pub alpha: Scheduled,
    /// Temperature, above 0. Values have none.
    pub temperature: Scheduled,
    /// In which form the answers are learned.
    #[serde(skip_serializing_if = "Answers::are_classes")]
    pub answers: Answers,
    /// What is copied of the teacher besides its answers.
    #[serde(skip_serializing_if = "Features::is_none")]
    pub features: Features,
    /// What the loss of the features is multiplied with before it is added; 0 without features.
    #[serde(skip_serializing_if = "is_never_positive")]
    pub feature_weight: Scheduled,
}

/// How channels or single weights are removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pruning {
    /// How many go.
    #[serde(flatten)]
    pub amount: Amount,
    /// Which go.
    pub importance: Importance,
    /// In how many rounds, at least 1. The shares after each follow the cubic schedule of
    /// Zhu & Gupta (2017).
    pub rounds: u32,
    /// Epochs of training after each round but the last, or with `rewind` after each. A round
    /// before anything is gone has none.
    pub epochs: u32,
    /// The numbers of channels that stay are rounded up to multiples of this. It does not matter
    /// for single weights and blocks.
    pub multiple_of: Multiple,
    /// What the trainings after each round go back to. If anything, one follows the last round,
    /// too.
    #[serde(skip_serializing_if = "Rewind::is_none")]
    pub rewind: Rewind,
}

/// How many channels or single weights go.
#[derive(Debug, Clone, PartialEq)]
pub enum Amount {
    /// In each group of channels the share of its stage, in `0.0..1.0`. Groups that belong to no
    /// stage lose none.
    Stage {
        /// By stage.
        shares: Vec<f64>,
    },
    /// The same share of each group of channels, in `0.0..1.0`.
    Layer {
        /// In each.
        share: f64,
    },
    /// All channels of the network compete, and the least important ones go until this share is
    /// gone, in `0.0..1.0`.
    Network {
        /// Of what.
        counted: Counted,
        /// How much of it.
        share: f64,
    },
    /// The smallest single weights of convolutions and linear layers become 0, and the network has
    /// the size that it had.
    Weights {
        /// Which compete.
        among: Among,
        /// The share of them that is gone, in `0.0..1.0`.
        share: f64,
    },
    /// The smaller two of each four weights along the inputs of a filter become 0.
    TwoOfFour {
        /// 0.5, or 0 for none.
        share: f64,
    },
    /// Residual blocks go, the least important ones first, until this share of the network is gone,
    /// in `0.0..1.0`, or none is left.
    Blocks {
        /// Of what; not of channels.
        counted: Counted,
        /// How much of it.
        share: f64,
    },
    /// Channels of the whole network or blocks go, as for a share of it, until no more than this is
    /// left, or nothing else can go. A network that has no more already stays as it is.
    AtMost {
        /// Channels or blocks.
        unit: PruneUnit,
        /// Of what; for blocks not of channels.
        counted: Counted,
        /// How much of it stays, above 0; bytes, or milliseconds.
        most: f64,
    },
}

/// A training after the first.
#[derive(Clone, Copy, PartialEq, Serialize)]
pub struct FineTuning {
    /// Passes over the training images; `None`: as many as the study says for fine-tuning.
    pub epochs: Option<u32>,
    /// `None`: the one that the study says for fine-tuning.
    pub learning_rate: Option<f64>,
    /// What becomes small along with the loss.
    #[serde(skip_serializing_if = "Shrink::is_none")]
    pub shrink: Shrink,
    /// What its norm is multiplied with before it is added to the loss; 0 if nothing shrinks.
    #[serde(skip_serializing_if = "is_zero")]
    pub shrink_by: f64,
    /// Whether a training of integers normalises batches, and folds that again at its end.
    #[serde(skip_serializing_if = "is_false")]
    pub normalize: bool,
}

/// How weights become a few numbers (Han et al. 2016).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Clustering {
    /// How many each layer has at most, `2..=256`.
    pub clusters: u32,
}

/// How a network becomes integers, or levels of other bits.
#[derive(Clone, PartialEq, Serialize)]
pub struct Quantizing {
    /// How ranges of values are found.
    pub calibration: RangeRule,
    /// Training images on which they are found, at most.
    pub examples: u32,
    /// Whether a value that only a clip reads covers no more than the clip lets through.
    pub clip_ranges: bool,
    /// What shares a scale of weights.
    pub granularity: Granularity,
    /// Whether the ranges of the channels of neighbouring layers are made equal first
    /// (Nagel et al. 2019).
    pub equalize: bool,
    /// Whether biases give back the means that rounding moved (Nagel et al. 2019).
    pub correct_biases: bool,
    /// How weights are rounded.
    pub rounding: Rounding,
    /// Layers that stay in fp32, by name, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fp32: Vec<String>,
    /// Bits of weights and values.
    #[serde(flatten)]
    pub widths: Widths,
}

impl Recipe {
    /// Arithmetic of the network that ships: fp32 where levels become fp32, or are rounded to in
    /// it.
    pub fn precision(&self) -> Precision {
        match self.arithmetic() {
            Some(Arithmetic::Integers) => Precision::Int8,
            Some(Arithmetic::Fp32 | Arithmetic::Reference) | None => Precision::Fp32,
        }
    }

    /// What computes the network that ships; `None` if nothing is quantized.
    pub fn arithmetic(&self) -> Option<Arithmetic> {
        self.steps.iter().find_map(|step| match step {
            Step::Quantize(quantizing) => Some(quantizing.widths.arithmetic()),
            Step::Distil(_)
            | Step::Prune(_)
            | Step::FineTune(_)
            | Step::Cluster(_)
            | Step::QuantizeAwareTrain(_) => None,
        })
    }

    /// What the training before the first pass learns from the teacher; `None` to train on labels
    /// alone.
    pub fn distillation(&self) -> Option<Distillation> {
        match self.steps.first() {
            Some(Step::Distil(distillation)) => Some(*distillation),
            _ => None,
        }
    }

    /// Whether any training learns from the teacher.
    pub fn learns(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Distil(_)))
    }

    /// The prunings, in order.
    pub fn prunings(&self) -> impl Iterator<Item = &Pruning> {
        self.steps.iter().filter_map(|step| match step {
            Step::Prune(pruning) => Some(pruning),
            _ => None,
        })
    }

    /// Whether what the shipped network costs follows from the recipe. It does not if channels
    /// compete over the whole network, because then the weights decide how many stay, nor if some
    /// layers stay in fp32, because then the engine decides what is held in bytes.
    pub fn fixes_costs(&self) -> bool {
        self.steps.iter().all(|step| match step {
            Step::Prune(pruning) => match pruning.amount {
                Amount::Stage { .. } | Amount::Layer { .. } => true,
                Amount::Network { share, .. } => share == 0.0,
                Amount::Blocks { share, .. } => share == 0.0,
                Amount::AtMost { .. } => false,
                // They change no size.
                Amount::Weights { .. } | Amount::TwoOfFour { .. } => true,
            },
            Step::Quantize(quantizing) => quantizing.fp32.is_empty(),
            Step::Distil(_)
            | Step::FineTune(_)
            | Step::Cluster(_)
            | Step::QuantizeAwareTrain(_) => true,
        })
    }

    /// Whether the fine-tuning at this place is left out of any network, because the prunings since
    /// the last training remove nothing.
    pub(crate) fn leaves_out(&self, place: usize) -> bool {
        left_out(&self.steps[..place], |pruning| !pruning.amount.is_nothing())
    }

    /// The steps that do something to this network, unpruned; see [`Recipe::steps_on`].
    pub fn passes(&self, graph: &Graph) -> Vec<&Step> {
        self.steps_on(graph).into_iter().filter(|(_, acts)| *acts).map(|(step, _)| step).collect()
    }

    /// All steps, and whether each does something to this network, unpruned. With few channels,
    /// small shares round to none. What a pruning does after channels of the whole network have
    /// competed is not known, so it counts as something. A pruning to a budget that the network
    /// keeps already counts, because it says so.
    pub fn steps_on(&self, graph: &Graph) -> Vec<(&Step, bool)> {
        let (mut steps, mut graph) = (Vec::with_capacity(self.steps.len()), graph.clone());
        let mut estimated = false;
        // Whether the prunings since the last training removed anything; `None` if there are none.
        let mut removed = None;
        for step in &self.steps {
            let acts = match step {
                Step::Prune(pruning) => {
                    let removes = if estimated {
                        pruning::may_remove(&graph, pruning)
                    } else {
                        pruning::removes(&graph, pruning)
                    };
                    if removes && !estimated {
                        estimated = pruning.amount.leaves_sizes_open();
                        graph = pruning::pruned(graph, pruning);
                    }
                    removed = Some(removed == Some(true) || removes);
                    removes || matches!(pruning.amount, Amount::AtMost { .. })
                }
                // One that is left out does not count as the last training.
                Step::FineTune(_) if removed == Some(false) => false,
                Step::FineTune(_) | Step::Cluster(_) => {
                    removed = None;
                    true
                }
                Step::Distil(_) | Step::Quantize(_) | Step::QuantizeAwareTrain(_) => true,
            };
            steps.push((step, acts));
        }
        steps
    }
}

impl Pruning {
    /// Of these shares of the channels of each stage, in one round, by the L1 norm.
    pub fn of_stages(shares: impl Into<Vec<f64>>) -> Self {
        Self::by_norm(Amount::Stage { shares: shares.into() })
    }

    /// In one round, by the L1 norm.
    pub fn by_norm(amount: Amount) -> Self {
        let (importance, multiple_of, rewind) = (Importance::L1, Multiple::ONE, Rewind::None);
        Self { amount, importance, rounds: 1, epochs: 0, multiple_of, rewind }
    }

    /// How many trainings it has.
    pub fn trainings(&self) -> u32 {
        if self.rewind.is_none() { self.rounds - 1 } else { self.rounds }
    }
}

impl FineTuning {
    /// Of so many epochs, or as many as the study says, at the rate that the study says.
    pub fn of(epochs: Option<u32>) -> Self {
        let (shrink, shrink_by, normalize) = (Shrink::None, 0.0, false);
        Self { epochs, learning_rate: None, shrink, shrink_by, normalize }
    }
}

impl Rewind {
    /// Whether trainings are fine-tunings.
    pub fn is_none(&self) -> bool {
        *self == Rewind::None
    }
}

impl Shrink {
    /// Whether nothing shrinks.
    pub fn is_none(&self) -> bool {
        *self == Shrink::None
    }
}

impl Amount {
    /// What is gone after this round of so many, the first is 1: `1 - (1 - round/rounds)^3` of it
    /// (Zhu & Gupta 2017, "To prune, or not to prune").
    pub fn after(&self, round: u32, rounds: u32) -> Self {
        let part = 1.0 - (1.0 - f64::from(round) / f64::from(rounds)).powi(3);
        match self {
            Amount::Stage { shares } => {
                Amount::Stage { shares: shares.iter().map(|share| share * part).collect() }
            }
            Amount::Layer { share } => Amount::Layer { share: share * part },
            Amount::Network { counted, share } => {
                Amount::Network { counted: *counted, share: share * part }
            }
            Amount::Weights { among, share } => {
                Amount::Weights { among: *among, share: share * part }
            }
            Amount::Blocks { counted, share } => {
                Amount::Blocks { counted: *counted, share: share * part }
            }
            // It has one round.
            Amount::TwoOfFour { share } => Amount::TwoOfFour { share: *share },
            // The rounds are those of the share that it is of the network.
            Amount::AtMost { .. } => self.clone(),
        }
    }

    /// The same for a network that has `all` of what is counted: an amount that stays as the share
    /// that goes, at least 0.
    pub fn of_whole(&self, all: f64) -> Self {
        let Amount::AtMost { unit, counted, most } = *self else { return self.clone() };
        let share = if most < all { 1.0 - most / all } else { 0.0 };
        match unit {
            PruneUnit::Blocks => Amount::Blocks { counted, share },
            PruneUnit::Channels | PruneUnit::Weights | PruneUnit::TwoOfFour => {
                Amount::Network { counted, share }
            }
        }
    }

    /// Whether every share is zero. What stays at most says nothing about that.
    pub fn is_nothing(&self) -> bool {
        match self {
            Amount::Stage { shares } => shares.iter().all(|share| *share == 0.0),
            Amount::Layer { share }
            | Amount::Network { share, .. }
            | Amount::Weights { share, .. }
            | Amount::Blocks { share, .. }
            | Amount::TwoOfFour { share } => *share == 0.0,
            Amount::AtMost { .. } => false,
        }
    }

    /// What is counted of the whole network, and the share of it that goes, where channels of all
    /// layers compete.
    pub fn of_network(&self) -> Option<(Counted, f64)> {
        match self {
            Amount::Network { counted, share } => Some((*counted, *share)),
            Amount::Stage { .. }
            | Amount::Layer { .. }
            | Amount::Weights { .. }
            | Amount::TwoOfFour { .. }
            | Amount::Blocks { .. }
            | Amount::AtMost { .. } => None,
        }
    }

    /// Whether only the weights decide what stays of each layer.
    pub fn leaves_sizes_open(&self) -> bool {
        match self {
            Amount::Network { .. } | Amount::Blocks { .. } | Amount::AtMost { .. } => true,
            Amount::Stage { .. }
            | Amount::Layer { .. }
            | Amount::Weights { .. }
            | Amount::TwoOfFour { .. } => false,
        }
    }

    /// What goes.
    pub fn unit(&self) -> PruneUnit {
        match self {
            Amount::Stage { .. } | Amount::Layer { .. } | Amount::Network { .. } => {
                PruneUnit::Channels
            }
            Amount::Weights { .. } => PruneUnit::Weights,
            Amount::TwoOfFour { .. } => PruneUnit::TwoOfFour,
            Amount::Blocks { .. } => PruneUnit::Blocks,
            Amount::AtMost { unit, .. } => *unit,
        }
    }
}

impl Distillation {
    /// From the teacher's answers alone.
    pub fn of_answers(alpha: impl Into<Scheduled>, temperature: impl Into<Scheduled>) -> Self {
        let (alpha, temperature) = (alpha.into(), temperature.into());
        let (answers, features) = (Answers::Classes, Features::None);
        Self { alpha, temperature, answers, features, feature_weight: 0.0.into() }
    }
}

impl Answers {
    /// Whether they are probabilities.
    pub fn are_classes(&self) -> bool {
        *self == Answers::Classes
    }
}

impl Features {
    /// Whether nothing is copied.
    pub fn is_none(&self) -> bool {
        *self == Features::None
    }
}

/// Whether a fine-tuning after these steps has nothing to make good: since the last training there
/// are prunings but no clusters, and no pruning `removes` anything.
fn left_out(steps: &[Step], removes: impl Fn(&Pruning) -> bool) -> bool {
    let mut removed = None;
    for step in steps {
        match step {
            Step::Prune(pruning) => removed = Some(removed == Some(true) || removes(pruning)),
            // It is a training only if it is not left out itself.
            Step::FineTune(_) if removed == Some(false) => {}
            Step::FineTune(_) | Step::Cluster(_) => removed = None,
            Step::Distil(_) | Step::Quantize(_) | Step::QuantizeAwareTrain(_) => {}
        }
    }
    removed == Some(false)
}

fn is_never_positive(number: &Scheduled) -> bool {
    !number.is_ever_positive()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Without features, and of classes, as before there was anything else, because hashes of
/// candidates are made of it.
impl fmt::Debug for Distillation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Distillation");
        all.field("alpha", &self.alpha);
        match self.answers {
            Answers::Classes => all.field("temperature", &self.temperature),
            Answers::Values => all.field("answers", &self.answers),
        };
        if !self.features.is_none() {
            all.field("features", &self.features).field("feature_weight", &self.feature_weight);
        }
        all.finish()
    }
}

/// Without what shrinks and normalises, as before anything did, because hashes of candidates are
/// made of it.
impl fmt::Debug for FineTuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("FineTuning");
        all.field("epochs", &self.epochs).field("learning_rate", &self.learning_rate);
        if !self.shrink.is_none() {
            all.field("shrink", &self.shrink).field("shrink_by", &self.shrink_by);
        }
        if self.normalize {
            all.field("normalize", &true);
        }
        all.finish()
    }
}

/// What the short form of a recipe does.
impl Default for Quantizing {
    fn default() -> Self {
        Self {
            calibration: RangeRule::Mse,
            examples: 256,
            clip_ranges: false,
            granularity: Granularity::Channel,
            equalize: false,
            correct_biases: false,
            rounding: Rounding::Nearest,
            fp32: Vec::new(),
            widths: Widths::default(),
        }
    }
}

/// With the usual bits as before there were others, because hashes of candidates are made of it.
impl fmt::Debug for Quantizing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Quantizing");
        all.field("calibration", &self.calibration)
            .field("examples", &self.examples)
            .field("clip_ranges", &self.clip_ranges)
            .field("granularity", &self.granularity)
            .field("equalize", &self.equalize)
            .field("correct_biases", &self.correct_biases)
            .field("rounding", &self.rounding)
            .field("fp32", &self.fp32);
        if self.widths != Widths::default() {
            all.field("widths", &self.widths);
        }
        all.finish()
    }
}

/// As in study files: `of`, and its `share`, or its `shares` by stage, or what is left `at_most`;
/// and the `granularity` of single weights and blocks.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Amount::Stage { shares } => {
                map.serialize_entry("of", Scope::Stage.name())?;
                map.serialize_entry("shares", shares)?;
            }
            Amount::Layer { share } => {
                map.serialize_entry("of", Scope::Layer.name())?;
                map.serialize_entry("share", share)?;
            }
            Amount::Network { counted, share } => {
                map.serialize_entry("of", counted.name())?;
                map.serialize_entry("share", share)?;
            }
            Amount::Weights { among, share } => {
                let of = match among {
                    Among::Layer => Scope::Layer,
                    Among::Network => Scope::Parameters,
                };
                map.serialize_entry("granularity", self.unit().name())?;
                map.serialize_entry("of", of.name())?;
                map.serialize_entry("share", share)?;
            }
            Amount::TwoOfFour { share } => {
                map.serialize_entry("granularity", self.unit().name())?;
                map.serialize_entry("of", Scope::Layer.name())?;
                map.serialize_entry("share", share)?;
            }
            Amount::Blocks { counted, share } => {
                map.serialize_entry("granularity", self.unit().name())?;
                map.serialize_entry("of", counted.name())?;
                map.serialize_entry("share", share)?;
            }
            Amount::AtMost { unit, counted, most } => {
                if *unit != PruneUnit::Channels {
                    map.serialize_entry("granularity", unit.name())?;
                }
                map.serialize_entry("of", counted.name())?;
                map.serialize_entry("at_most", most)?;
            }
        }
        map.end()
    }
}
