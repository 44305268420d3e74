//! What a study offers for the recipe: for each setting of each step the values that are tried, and
//! what follows for all recipes of it. How one is chosen is in `choosing`.

use super::{
    Amount, Answers, Arithmetic, Counted, Features, Granularity, Importance, Multiple, Precision,
    PruneUnit, Pruning, Quantizing, RangeRule, Rewind, Rounding, Scheduled, Scope, Shrink,
    WidthsSpace,
};

/// Options of the recipe. Every list must have at least one value, and no value twice.
#[derive(Debug, Clone, PartialEq)]
pub enum RecipeSpace {
    /// Four lists: distil, prune by the L1 norm, fine-tune if anything was pruned, quantize.
    Flat(FlatRecipe),
    /// Steps in order.
    Steps(Vec<StepSpace>),
}

/// The short form of a recipe. All its lists are choices, even of one value.
#[derive(Debug, Clone, PartialEq)]
pub struct FlatRecipe {
    /// Shares of channels removed, chosen for each stage, each in `0.0..1.0`.
    pub prune: Vec<f64>,
    /// Precisions.
    pub precision: Vec<Precision>,
    /// Weights of the distillation loss; 0 trains without a teacher.
    pub alpha: Vec<f64>,
    /// Distillation temperatures; used only when alpha is above 0.
    pub temperature: Vec<f64>,
}

/// Options of one step.
#[derive(Debug, Clone, PartialEq)]
pub enum StepSpace {
    /// See [`Step::Distil`](super::Step::Distil).
    Distil(DistilSpace),
    /// See [`Step::Prune`](super::Step::Prune).
    Prune(PruneSpace),
    /// See [`Step::FineTune`](super::Step::FineTune).
    FineTune(FineTuneSpace),
    /// See [`Step::Cluster`](super::Step::Cluster).
    Cluster(ClusterSpace),
    /// See [`Step::Quantize`](super::Step::Quantize).
    Quantize(QuantizeSpace),
    /// See [`Step::QuantizeAwareTrain`](super::Step::QuantizeAwareTrain).
    QuantizeAwareTrain(FineTuneSpace),
}

/// Options of [`Distillation`](super::Distillation).
#[derive(Debug, Clone, PartialEq)]
pub struct DistilSpace {
    /// 0 learns from labels alone.
    pub alpha: Vec<Scheduled>,
    /// Used only when alpha is above 0, and answers are classes.
    pub temperature: Vec<Scheduled>,
    /// Forms of answers; used only when alpha is above 0.
    pub answers: Vec<Answers>,
    /// What is copied besides the answers.
    pub features: Vec<Features>,
    /// Weights of its loss; used only with features.
    pub feature_weight: Vec<Scheduled>,
}

impl DistilSpace {
    /// The usual temperature.
    pub const TEMPERATURE: f64 = 4.0;

    /// The usual weight of features: near those of the papers on attention and relations.
    pub const FEATURE_WEIGHT: f64 = 10.0;

    /// From the teacher's answers alone.
    pub fn of_answers(alpha: Vec<Scheduled>, temperature: Vec<Scheduled>) -> Self {
        let (features, feature_weight) = (vec![Features::None], vec![Self::FEATURE_WEIGHT.into()]);
        let answers = vec![Answers::Classes];
        Self { alpha, temperature, answers, features, feature_weight }
    }
}

/// Options of [`Pruning`].
#[derive(Debug, Clone, PartialEq)]
pub struct PruneSpace {
    /// What goes. It is not searched.
    pub unit: PruneUnit,
    /// What the shares are of.
    pub of: Scope,
    /// Shares that go. By stage, there is one choice for each stage. Empty if it is said what
    /// stays at most.
    pub share: Vec<f64>,
    /// How much of the network stays at most; empty if shares go.
    pub at_most: Vec<f64>,
    /// Criteria.
    pub importance: Vec<Importance>,
    /// Numbers of rounds.
    pub rounds: Vec<u32>,
    /// Epochs between rounds.
    pub epochs: Vec<u32>,
    /// What channels are multiples of.
    pub multiple_of: Vec<Multiple>,
    /// What trainings go back to.
    pub rewind: Vec<Rewind>,
}

/// Options of [`FineTuning`](super::FineTuning). An empty list stands for what the study says for
/// fine-tuning.
#[derive(Debug, Clone, PartialEq)]
pub struct FineTuneSpace {
    /// Numbers of epochs; 0 leaves the training out.
    pub epochs: Vec<u32>,
    /// Learning rates.
    pub learning_rate: Vec<f64>,
    /// What becomes small.
    pub shrink: Vec<Shrink>,
    /// Weights of what becomes small; used only if anything does.
    pub shrink_by: Vec<f64>,
    /// Whether a training of integers normalises batches.
    pub normalize: Vec<bool>,
}

impl FineTuneSpace {
    /// The usual weight of what becomes small.
    pub const SHRINK_BY: f64 = 1e-4;

    /// Trainings in which nothing shrinks.
    pub fn plain(epochs: Vec<u32>, learning_rate: Vec<f64>) -> Self {
        let (shrink, shrink_by) = (vec![Shrink::None], vec![Self::SHRINK_BY]);
        Self { epochs, learning_rate, shrink, shrink_by, normalize: vec![false] }
    }
}

/// Options of [`Clustering`](super::Clustering).
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterSpace {
    /// Numbers of clusters; 0 for none.
    pub clusters: Vec<u32>,
}

/// Options of [`Quantizing`].
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizeSpace {
    /// Precisions; with fp32 the network stays as it is.
    pub precision: Vec<Precision>,
    /// Rules for ranges.
    pub calibration: Vec<RangeRule>,
    /// Numbers of training images.
    pub examples: Vec<u32>,
    /// Whether what a clip cuts off is outside of ranges.
    pub clip_ranges: Vec<bool>,
    /// What shares a scale.
    pub granularity: Vec<Granularity>,
    /// Whether ranges are made equal first.
    pub equalize: Vec<bool>,
    /// Whether biases are corrected.
    pub correct_biases: Vec<bool>,
    /// How weights are rounded.
    pub rounding: Vec<Rounding>,
    /// Names of layers that stay in fp32. They are not searched.
    pub fp32: Vec<String>,
    /// Names of layers of which each may stay in fp32, or have bits of its own.
    pub mixed: Vec<String>,
    /// Bits of weights and values.
    pub widths: WidthsSpace,
}

impl RecipeSpace {
    /// Nothing is done.
    pub fn none() -> Self {
        RecipeSpace::Steps(Vec::new())
    }

    /// Precisions that layers of networks that ship may have.
    pub fn precisions(&self) -> Vec<Precision> {
        match self {
            RecipeSpace::Flat(flat) => flat.precision.clone(),
            RecipeSpace::Steps(steps) => {
                let quantize = steps.iter().find_map(|step| match step {
                    StepSpace::Quantize(quantize) => Some(quantize.precision.clone()),
                    _ => None,
                });
                let mut precisions = quantize.unwrap_or_else(|| vec![Precision::Fp32]);
                let computes = |q: &QuantizeSpace, arithmetic| {
                    q.widths.may_be(arithmetic, !q.mixed.is_empty())
                };
                let real = self.quantizations().any(|q| {
                    !q.fp32.is_empty()
                        || !q.mixed.is_empty()
                        || computes(q, Arithmetic::Fp32)
                        || computes(q, Arithmetic::Reference)
                });
                if real && !precisions.contains(&Precision::Fp32) {
                    precisions.push(Precision::Fp32);
                }
                precisions
            }
        }
    }

    /// Whether any candidate learns from a teacher.
    pub fn learns(&self) -> bool {
        match self {
            RecipeSpace::Flat(flat) => flat.alpha.iter().any(|alpha| *alpha > 0.0),
            RecipeSpace::Steps(steps) => steps.iter().any(|step| match step {
                StepSpace::Distil(distil) => {
                    distil.alpha.iter().any(|alpha| alpha.is_ever_positive())
                        || distil.features.iter().any(|features| !features.is_none())
                }
                _ => false,
            }),
        }
    }

    /// What students may copy of their teacher besides its answers.
    pub fn features(&self) -> Vec<Features> {
        let RecipeSpace::Steps(steps) = self else { return Vec::new() };
        let offered = |features: Features| {
            steps.iter().any(|step| match step {
                StepSpace::Distil(distil) => distil.features.contains(&features),
                _ => false,
            })
        };
        let all = Features::ALL.iter().copied().filter(|features| !features.is_none());
        all.filter(|features| offered(*features)).collect()
    }

    /// The path of the step whose networks may run by reference, where no engine on a device
    /// computes what they are rounded to; `None` if all run as they are.
    pub fn by_reference(&self) -> Option<String> {
        let RecipeSpace::Steps(steps) = self else { return None };
        let place = steps.iter().position(|step| match step {
            StepSpace::Quantize(q) => {
                q.precision.contains(&Precision::Int8)
                    && q.widths.may_be(Arithmetic::Reference, !q.mixed.is_empty())
            }
            _ => false,
        });
        place.map(|place| format!("recipe.steps[{place}]"))
    }

    /// Most epochs of a training that a step asks for; 0 if none does.
    pub fn most_epochs(&self) -> u32 {
        let RecipeSpace::Steps(steps) = self else { return 0 };
        let epochs = steps.iter().flat_map(|step| match step {
            StepSpace::Prune(prune) => &prune.epochs[..],
            StepSpace::FineTune(tune) | StepSpace::QuantizeAwareTrain(tune) => &tune.epochs,
            StepSpace::Distil(_) | StepSpace::Cluster(_) | StepSpace::Quantize(_) => &[],
        });
        epochs.copied().max().unwrap_or(0)
    }

    /// Whether the costs of every candidate follow from its recipe; see
    /// [`Recipe::fixes_costs`](super::Recipe::fixes_costs).
    pub fn fixes_costs(&self) -> bool {
        let mut quantizations = self.quantizations();
        self.most_pruned(0).is_some()
            && quantizations.all(|q| q.fp32.is_empty() && q.mixed.is_empty())
    }

    /// The names of layers that may stay in fp32, with the path of the setting that has them.
    pub fn named_layers(&self) -> Vec<(String, &str)> {
        let RecipeSpace::Steps(steps) = self else { return Vec::new() };
        let names = steps.iter().enumerate().flat_map(|(place, step)| {
            let lists = match step {
                StepSpace::Quantize(q) => [("fp32", &q.fp32[..]), ("mixed", &q.mixed[..])],
                _ => [("", &[][..]), ("", &[][..])],
            };
            let path = move |setting| format!("recipe.steps[{place}].{setting}");
            lists.into_iter().flat_map(move |(setting, names)| {
                names.iter().map(move |name| (path(setting), &**name))
            })
        });
        names.collect()
    }

    /// The path of the setting that offers the scale of batch normalisation as importance; `None`
    /// if none does.
    pub fn scale_importance(&self) -> Option<String> {
        let RecipeSpace::Steps(steps) = self else { return None };
        let place = steps.iter().position(|step| match step {
            StepSpace::Prune(prune) => prune.importance.contains(&Importance::Scale),
            _ => false,
        });
        place.map(|place| format!("recipe.steps[{place}].importance"))
    }

    /// The paths of the settings that may let the scales of batch normalisation become small.
    pub fn scale_shrinking(&self) -> Vec<String> {
        let RecipeSpace::Steps(steps) = self else { return Vec::new() };
        let paths = steps.iter().enumerate().filter_map(|(place, step)| match step {
            StepSpace::FineTune(tune) | StepSpace::QuantizeAwareTrain(tune) => {
                let shrinks = tune.shrink.contains(&Shrink::Scales);
                shrinks.then(|| format!("recipe.steps[{place}].shrink"))
            }
            StepSpace::Distil(_)
            | StepSpace::Prune(_)
            | StepSpace::Cluster(_)
            | StepSpace::Quantize(_) => None,
        });
        paths.collect()
    }

    /// The path of the setting that lets trainings go back to weights of the first one; `None` if
    /// none does.
    pub fn goes_back_to_weights(&self) -> Option<String> {
        let RecipeSpace::Steps(steps) = self else { return None };
        let place = steps.iter().position(|step| match step {
            StepSpace::Prune(prune) => prune.rewind.contains(&Rewind::Weights),
            _ => false,
        });
        place.map(|place| format!("recipe.steps[{place}].rewind"))
    }

    fn quantizations(&self) -> impl Iterator<Item = &QuantizeSpace> {
        let steps = match self {
            RecipeSpace::Flat(_) => &[][..],
            RecipeSpace::Steps(steps) => steps,
        };
        steps.iter().filter_map(|step| match step {
            StepSpace::Quantize(quantize) => Some(quantize),
            _ => None,
        })
    }

    /// The prunings that remove most, for a network of so many stages. `None` if what stays does
    /// not follow from the recipe.
    pub fn most_pruned(&self, stages: usize) -> Option<Vec<Pruning>> {
        self.prunings(stages, |shares| shares.iter().copied().fold(0.0, f64::max))
            .into_iter()
            .map(|pruning| {
                let known = pruning.amount.is_nothing() || !pruning.amount.leaves_sizes_open();
                known.then_some(Pruning { multiple_of: Multiple::ONE, ..pruning })
            })
            .collect()
    }

    /// The prunings that remove least, for a network of so many stages. Those of which it does not
    /// follow how much stays count as none.
    pub fn least_pruned(&self, stages: usize) -> Vec<Pruning> {
        let all = self.prunings(stages, |shares| shares.iter().copied().fold(1.0, f64::min));
        let known = |pruning: &Pruning| {
            !pruning.amount.leaves_sizes_open() && pruning.multiple_of == Multiple::ONE
        };
        all.into_iter().filter(known).collect()
    }

    /// The prunings with one of their shares each, and the largest multiple of channels.
    fn prunings(&self, stages: usize, pick: impl Fn(&[f64]) -> f64) -> Vec<Pruning> {
        let stage = |shares: &[f64]| Amount::Stage { shares: vec![pick(shares); stages] };
        match self {
            RecipeSpace::Flat(flat) => vec![Pruning::by_norm(stage(&flat.prune))],
            RecipeSpace::Steps(steps) => {
                let prunings = steps.iter().filter_map(|step| match step {
                    // Zeros make no network smaller.
                    StepSpace::Prune(PruneSpace {
                        unit: PruneUnit::Weights | PruneUnit::TwoOfFour,
                        ..
                    }) => None,
                    // How much goes depends on the network, so one stands for all.
                    StepSpace::Prune(prune) if !prune.at_most.is_empty() => {
                        let counted = network_wide(prune.of).unwrap_or(Counted::Macs);
                        let (unit, most) = (prune.unit, prune.at_most[0]);
                        Some(Pruning::by_norm(Amount::AtMost { unit, counted, most }))
                    }
                    StepSpace::Prune(prune) if prune.unit == PruneUnit::Blocks => {
                        let counted = network_wide(prune.of).unwrap_or(Counted::Macs);
                        let share = pick(&prune.share);
                        Some(Pruning::by_norm(Amount::Blocks { counted, share }))
                    }
                    StepSpace::Prune(prune) => Some(Pruning {
                        multiple_of: largest(&prune.multiple_of),
                        ..Pruning::by_norm(match network_wide(prune.of) {
                            Some(counted) => Amount::Network { counted, share: pick(&prune.share) },
                            None if prune.of == Scope::Stage => stage(&prune.share),
                            None => Amount::Layer { share: pick(&prune.share) },
                        })
                    }),
                    _ => None,
                });
                prunings.collect()
            }
        }
    }
}

impl StepSpace {
    /// Its settings if it prunes.
    pub(super) fn pruning(&self) -> Option<&PruneSpace> {
        match self {
            StepSpace::Prune(space) => Some(space),
            StepSpace::Distil(_)
            | StepSpace::FineTune(_)
            | StepSpace::Cluster(_)
            | StepSpace::Quantize(_)
            | StepSpace::QuantizeAwareTrain(_) => None,
        }
    }

    /// The name of the step in study files.
    pub fn pass(&self) -> &'static str {
        match self {
            StepSpace::Distil(_) => "distil",
            StepSpace::Prune(_) => "prune",
            StepSpace::FineTune(_) => "fine-tune",
            StepSpace::Cluster(_) => "cluster",
            StepSpace::Quantize(_) => "quantize",
            StepSpace::QuantizeAwareTrain(_) => "quantize-aware-train",
        }
    }

    /// The names of all steps.
    pub const PASSES: [&'static str; 6] =
        ["distil", "prune", "fine-tune", "cluster", "quantize", "quantize-aware-train"];
}

/// The largest multiple; 1 if one of them is not known.
fn largest(multiples: &[Multiple]) -> Multiple {
    let known: Option<Vec<u32>> =
        multiples.iter().map(|multiple| Some(multiple.known()?.get())).collect();
    Multiple::Of(known.and_then(|known| known.into_iter().max()).unwrap_or(1))
}

/// What keeps the answers near to those of the fp32 network and does not take long. The short form
/// of a recipe does less: it stays as it was.
impl Default for QuantizeSpace {
    fn default() -> Self {
        let usual = Quantizing { clip_ranges: true, correct_biases: true, ..Quantizing::default() };
        Self {
            precision: vec![Precision::Int8],
            calibration: vec![usual.calibration],
            examples: vec![usual.examples],
            clip_ranges: vec![usual.clip_ranges],
            granularity: vec![usual.granularity],
            equalize: vec![usual.equalize],
            correct_biases: vec![usual.correct_biases],
            rounding: vec![usual.rounding],
            fp32: Vec::new(),
            mixed: Vec::new(),
            widths: WidthsSpace::default(),
        }
    }
}

/// What is counted, if channels of the whole network compete.
pub(super) fn network_wide(of: Scope) -> Option<Counted> {
    match of {
        Scope::Stage | Scope::Layer => None,
        Scope::Channels => Some(Counted::Channels),
        Scope::Macs => Some(Counted::Macs),
        Scope::Parameters => Some(Counted::Parameters),
        Scope::Bytes => Some(Counted::Bytes),
        Scope::Latency => Some(Counted::Latency),
    }
}
