//! What a study offers for the recipe: for each setting of each step the values that are tried.
//! Every setting with several values is a choice of the space.

use std::fmt;

use super::widths::LayerWidth;
use super::{
    Among, Amount, Answers, Arithmetic, Clustering, Counted, Distillation, Features, FineTuning,
    Granularity, Importance, Multiple, Precision, PruneUnit, Pruning, Quantizing, RangeRule,
    Recipe, Rewind, Rounding, Scheduled, Scope, Shrink, Step, Widths, WidthsSpace,
};
use crate::Choice;
use crate::active::{Anything, Outline, Reader};
use crate::space::choice;

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
    /// See [`Step::Distil`].
    Distil(DistilSpace),
    /// See [`Step::Prune`].
    Prune(PruneSpace),
    /// See [`Step::FineTune`].
    FineTune(FineTuneSpace),
    /// See [`Step::Cluster`].
    Cluster(ClusterSpace),
    /// See [`Step::Quantize`].
    Quantize(QuantizeSpace),
    /// See [`Step::QuantizeAwareTrain`].
    QuantizeAwareTrain(FineTuneSpace),
}

/// Options of [`Distillation`].
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
    pub feature_weight: Vec<f64>,
}

impl DistilSpace {
    /// The usual temperature.
    pub const TEMPERATURE: f64 = 4.0;

    /// The usual weight of features: near those of the papers on attention and relations.
    pub const FEATURE_WEIGHT: f64 = 10.0;

    /// From the teacher's answers alone.
    pub fn of_answers(alpha: Vec<Scheduled>, temperature: Vec<Scheduled>) -> Self {
        let (features, feature_weight) = (vec![Features::None], vec![Self::FEATURE_WEIGHT]);
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

/// Options of [`FineTuning`]. An empty list stands for what the study says for fine-tuning.
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

/// Options of [`Clustering`].
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

/// Takes a value of each setting of the recipe, in the order of the choices.
trait Ask {
    /// The value of a setting. `active` says whether the candidate depends on it, given the
    /// settings before it.
    fn ask<T: fmt::Display + Copy>(
        &mut self,
        name: impl FnOnce() -> String,
        options: &[T],
        active: bool,
    ) -> T;

    /// Names of layers as the recipe holds them.
    fn names<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<String> {
        names.cloned().collect()
    }
}

/// Writes down the choices, and takes the first value of each.
struct List(Vec<Choice>);

impl Ask for List {
    fn ask<T: fmt::Display + Copy>(
        &mut self,
        name: impl FnOnce() -> String,
        options: &[T],
        _: bool,
    ) -> T {
        self.0.push(choice(&name(), options));
        options[0]
    }
}

/// Takes the values that a genotype says.
impl Ask for Reader<'_> {
    fn ask<T: fmt::Display + Copy>(
        &mut self,
        _: impl FnOnce() -> String,
        options: &[T],
        active: bool,
    ) -> T {
        options[self.pick(active)]
    }

    fn names<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<String> {
        // Marks are taken of thousands of genotypes, and the recipe is not read then.
        if self.only_marks() { Vec::new() } else { names.cloned().collect() }
    }
}

impl RecipeSpace {
    /// Nothing is done.
    pub fn none() -> Self {
        RecipeSpace::Steps(Vec::new())
    }

    /// The lists of shares from which each stage of the network chooses.
    pub fn stage_shares(&self) -> Vec<&[f64]> {
        self.by_stage().map(|(_, shares)| shares).collect()
    }

    /// The choices of stage `stage`, counted from 1: one for each of [`RecipeSpace::stage_shares`].
    pub fn stage_choices(&self, stage: usize) -> Vec<Choice> {
        let choice =
            |(place, shares)| choice(&format!("stage{stage}.{}", self.name(place)), shares);
        self.by_stage().map(choice).collect()
    }

    fn by_stage(&self) -> impl Iterator<Item = (usize, &[f64])> {
        let (flat, steps) = match self {
            RecipeSpace::Flat(flat) => (Some((0, &flat.prune[..])), &[][..]),
            RecipeSpace::Steps(steps) => (None, &steps[..]),
        };
        let steps = steps.iter().enumerate().filter_map(|(place, step)| match step {
            StepSpace::Prune(prune)
                if prune.of == Scope::Stage && prune.unit == PruneUnit::Channels =>
            {
                Some((place, &prune.share[..]))
            }
            _ => None,
        });
        flat.into_iter().chain(steps)
    }

    /// The name of a step in choices: its pass, with a number from the second of the same pass on.
    fn name(&self, place: usize) -> String {
        match self {
            RecipeSpace::Flat(_) => "prune".to_owned(),
            RecipeSpace::Steps(steps) => name(steps, place),
        }
    }

    /// The choices that do not belong to a stage, in genotype order.
    pub fn choices(&self) -> Vec<Choice> {
        let mut list = List(Vec::new());
        self.take(&vec![Vec::new(); self.stage_shares().len()], &Anything, &mut list);
        list.0
    }

    /// The recipe of a genotype for its network. `shares` has for each of
    /// [`RecipeSpace::stage_shares`] what the stages chose, and `reader` stands before the recipe's
    /// own choices. A network that is not trained has no teacher and is not fine-tuned, unless a
    /// step says so.
    pub(crate) fn decode(
        &self,
        shares: &[Vec<f64>],
        network: &impl Outline,
        reader: &mut Reader<'_>,
    ) -> Recipe {
        self.take(shares, network, reader)
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

    /// Whether the costs of every candidate follow from its recipe; see [`Recipe::fixes_costs`].
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

    fn take(&self, shares: &[Vec<f64>], network: &impl Outline, ask: &mut impl Ask) -> Recipe {
        let mut stages = shares.iter().cloned();
        let mut steps = Vec::new();
        match self {
            RecipeSpace::Flat(flat) => {
                let trained = network.is_trained();
                let precision = ask.ask(|| "precision".to_owned(), &flat.precision, true);
                let alpha = ask.ask(|| "alpha".to_owned(), &flat.alpha, trained);
                let learns = trained && alpha > 0.0;
                let temperature = ask.ask(|| "temperature".to_owned(), &flat.temperature, learns);
                if learns {
                    steps.push(Step::Distil(Distillation::of_answers(alpha, temperature)));
                }
                let shares = stages.next().expect("one list of shares");
                steps.push(Step::Prune(Pruning::of_stages(shares)));
                if trained {
                    steps.push(Step::FineTune(FineTuning::of(None)));
                }
                if precision == Precision::Int8 {
                    steps.push(Step::Quantize(Quantizing::default()));
                }
            }
            RecipeSpace::Steps(spaces) => {
                for (place, space) in spaces.iter().enumerate() {
                    let settings = Settings { steps: spaces, place, ask };
                    let step = space.take(&mut stages, &steps, network, settings);
                    steps.extend(step);
                }
            }
        }
        Recipe { steps }
    }
}

/// Asks for the settings of one step. Those of one value are not choices.
struct Settings<'a, A> {
    steps: &'a [StepSpace],
    /// Which step.
    place: usize,
    ask: &'a mut A,
}

impl<A: Ask> Settings<'_, A> {
    /// `active` as in [`Ask::ask`].
    fn ask<T: fmt::Display + Copy>(&mut self, setting: &str, options: &[T], active: bool) -> T {
        match options {
            [only] => *only,
            _ => {
                let name = || format!("{}.{setting}", name(self.steps, self.place));
                self.ask.ask(name, options, active)
            }
        }
    }

    /// `None` without options.
    fn if_any<T: fmt::Display + Copy>(
        &mut self,
        setting: &str,
        options: &[T],
        active: bool,
    ) -> Option<T> {
        (!options.is_empty()).then(|| self.ask(setting, options, active))
    }
}

impl StepSpace {
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

    /// The step with a value for each setting, for this network and after the steps `before`;
    /// `None` if it does nothing.
    fn take(
        &self,
        stages: &mut impl Iterator<Item = Vec<f64>>,
        before: &[Step],
        network: &impl Outline,
        mut settings: Settings<'_, impl Ask>,
    ) -> Option<Step> {
        match self {
            StepSpace::Distil(space) => {
                let alpha = settings.ask("alpha", &space.alpha, true);
                let learns = alpha.is_ever_positive();
                let answers = settings.ask("answers", &space.answers, learns);
                let warm = learns && answers.are_classes();
                let temperature = settings.ask("temperature", &space.temperature, warm);
                let features = settings.ask("features", &space.features, true);
                let copies = !features.is_none();
                let weight = settings.ask("feature_weight", &space.feature_weight, copies);
                let feature_weight = if copies { weight } else { 0.0 };
                // What has no effect has its usual value, so that it makes no other candidate.
                let answers = if learns { answers } else { Answers::Classes };
                let temperature = if warm { temperature } else { DistilSpace::TEMPERATURE.into() };
                let all = Distillation { alpha, temperature, answers, features, feature_weight };
                (learns || copies).then_some(Step::Distil(all))
            }
            StepSpace::Prune(space) => {
                let amount = match settings.if_any("at_most", &space.at_most, true) {
                    Some(most) => {
                        let counted = network_wide(space.of).unwrap_or(Counted::Macs);
                        Amount::AtMost { unit: space.unit, counted, most }
                    }
                    None => space.of_share(stages, || settings.ask("share", &space.share, true)),
                };
                let on = removes(&amount, network);
                let importance = settings.ask("importance", &space.importance, on);
                let rounds = settings.ask("rounds", &space.rounds, on);
                let rewind = settings.ask("rewind", &space.rewind, on);
                // Without it, there is none after the last round.
                let trains = on && (rounds > 1 || !rewind.is_none());
                let epochs = settings.ask("epochs", &space.epochs, trains);
                let multiple_of = settings.ask("multiple_of", &space.multiple_of, on);
                Some(Step::Prune(Pruning {
                    amount,
                    importance,
                    rounds,
                    epochs,
                    multiple_of,
                    rewind,
                }))
            }
            StepSpace::FineTune(space) => {
                let active = !follows_nothing(before, network);
                space.take(settings, active, has_clusters(before), false).map(Step::FineTune)
            }
            StepSpace::QuantizeAwareTrain(space) => {
                // If nothing is quantized, or not as it is in training, there is no rounding to
                // train with. Weights would leave their clusters.
                let quantized = !has_clusters(before)
                    && before.iter().any(|step| match step {
                        Step::Quantize(quantizing) => quantizing.widths.can_be_trained(),
                        _ => false,
                    });
                let clustered = has_clusters(before);
                // What shares its scale with other channels cannot take in a factor of its own.
                let own_scales = before.iter().any(|step| match step {
                    Step::Quantize(quantizing) => quantizing.granularity == Granularity::Channel,
                    _ => false,
                });
                let tuning = space.take(settings, quantized, clustered, own_scales);
                tuning.filter(|_| quantized).map(Step::QuantizeAwareTrain)
            }
            StepSpace::Cluster(space) => {
                let clusters = settings.ask("clusters", &space.clusters, true);
                (clusters > 0).then_some(Step::Cluster(Clustering { clusters }))
            }
            StepSpace::Quantize(space) => {
                let on = settings.ask("precision", &space.precision, true) == Precision::Int8;
                let quantizing = space.take(on, has_clusters(before), network, settings);
                on.then_some(Step::Quantize(quantizing))
            }
        }
    }
}

impl PruneSpace {
    /// With a share that goes.
    fn of_share(
        &self,
        stages: &mut impl Iterator<Item = Vec<f64>>,
        mut share: impl FnMut() -> f64,
    ) -> Amount {
        match (self.unit, network_wide(self.of), self.of) {
            (PruneUnit::TwoOfFour, ..) => Amount::TwoOfFour { share: share() },
            (PruneUnit::Weights, whole, _) => Amount::Weights {
                among: if whole.is_some() { Among::Network } else { Among::Layer },
                share: share(),
            },
            (PruneUnit::Blocks, whole, _) => {
                Amount::Blocks { counted: whole.unwrap_or(Counted::Macs), share: share() }
            }
            (PruneUnit::Channels, Some(counted), _) => Amount::Network { counted, share: share() },
            (PruneUnit::Channels, None, Scope::Stage) => {
                Amount::Stage { shares: stages.next().expect("a list for each") }
            }
            (PruneUnit::Channels, None, _) => Amount::Layer { share: share() },
        }
    }
}

impl QuantizeSpace {
    /// With a value for each setting. A setting that these bits do not need has its usual value.
    fn take(
        &self,
        on: bool,
        clustered: bool,
        network: &impl Outline,
        mut settings: Settings<'_, impl Ask>,
    ) -> Quantizing {
        let usual = Quantizing::default();
        // Clusters stay only with one scale for a layer, and with weights that are rounded alike.
        let open = on && !clustered;
        let weights = settings.ask("weight_bits", &self.widths.weights, on);
        // A sign has no zero point.
        let affine = settings.ask("affine_weights", &self.widths.affine, on && weights > 1);
        let activations = settings.ask("activation_bits", &self.widths.activations, on);
        // Values in fp32 have no ranges.
        let ranges = activations != 32;
        let calibration = settings.ask("calibration", &self.calibration, on && ranges);
        // Ranges are observed on them, and biases corrected by them.
        let observes = ranges || self.correct_biases.contains(&true);
        let examples = settings.ask("examples", &self.examples, on && observes);
        let clip_ranges = settings.ask("clip_ranges", &self.clip_ranges, on && ranges);
        let granularity = settings.ask("granularity", &self.granularity, open);
        let equalize = settings.ask("equalize", &self.equalize, open);
        let correct_biases = settings.ask("correct_biases", &self.correct_biases, on);
        let mut widths =
            Widths { weights, affine: affine && weights > 1, activations, layer_bits: Vec::new() };
        // It is learned for integers only, and there is no choice of a sign.
        let learns = widths.can_learn_rounding();
        let rounding = settings.ask("rounding", &self.rounding, open && learns);
        let of_layers = self.widths.of_layers();
        let (mut fp32, mut others): (Vec<&String>, Vec<(&String, u32)>) =
            (self.fp32.iter().collect(), Vec::new());
        for layer in &self.mixed {
            let open = !self.fp32.contains(layer) && network.has_layer(layer);
            let LayerWidth(bits) = settings.ask(&format!("layer.{layer}"), &of_layers, on && open);
            match bits {
                32 => fp32.push(layer),
                bits if open && bits != weights => others.push((layer, bits)),
                _ => {}
            }
        }
        fp32.sort();
        fp32.dedup();
        others.sort();
        // Where names are left out, the bits still say what can be learned.
        let mut names = settings.ask.names(others.iter().map(|(layer, _)| *layer)).into_iter();
        let named = others.iter().map(|(_, bits)| (names.next().unwrap_or_default(), *bits));
        widths.layer_bits = named.collect();
        let learns = widths.can_learn_rounding();
        let calibration = match calibration {
            _ if !ranges => usual.calibration,
            // With so many levels, these cover all numbers alike.
            RangeRule::Mse | RangeRule::MinMax | RangeRule::Entropy if activations > 8 => {
                usual.calibration
            }
            rule => rule,
        };
        Quantizing {
            calibration,
            examples: if ranges || correct_biases { examples } else { usual.examples },
            clip_ranges: clip_ranges && ranges,
            granularity: if clustered && on { Granularity::Layer } else { granularity },
            equalize: equalize && !(clustered && on),
            correct_biases,
            rounding: if learns && !(clustered && on) { rounding } else { usual.rounding },
            fp32: settings.ask.names(fp32.into_iter()),
            widths,
        }
    }
}

/// Whether a pruning may remove anything. If not, it removes nothing of any network of this
/// outline.
fn removes(amount: &Amount, network: &impl Outline) -> bool {
    match amount {
        Amount::Stage { shares } => {
            let mut stages = shares.iter().enumerate();
            stages.any(|(stage, share)| *share > 0.0 && network.has_stage(stage))
        }
        Amount::Layer { .. }
        | Amount::Network { .. }
        | Amount::Weights { .. }
        | Amount::TwoOfFour { .. }
        | Amount::Blocks { .. }
        | Amount::AtMost { .. } => !amount.is_nothing(),
    }
}

fn has_clusters(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Cluster(_)))
}

/// The largest multiple; 1 if one of them is not known.
fn largest(multiples: &[Multiple]) -> Multiple {
    let known: Option<Vec<u32>> =
        multiples.iter().map(|multiple| Some(multiple.known()?.get())).collect();
    Multiple::Of(known.and_then(|known| known.into_iter().max()).unwrap_or(1))
}

/// Whether a fine-tuning after these steps is left out by [`Recipe::passes`] whatever the network:
/// there are prunings since the last training, and none of them removes anything, and no clusters
/// since then either.
fn follows_nothing(steps: &[Step], network: &impl Outline) -> bool {
    let mut removed = None;
    for step in steps {
        match step {
            Step::Prune(pruning) => {
                removed = Some(removed == Some(true) || removes(&pruning.amount, network));
            }
            // It is a training only if it is not left out itself.
            Step::FineTune(_) if removed == Some(false) => {}
            Step::FineTune(_) | Step::Cluster(_) => removed = None,
            Step::Distil(_) | Step::Quantize(_) | Step::QuantizeAwareTrain(_) => {}
        }
    }
    removed == Some(false)
}

impl FineTuneSpace {
    /// `None` if it lasts no epoch. `active`: whether the training is done at all. `clustered`:
    /// whether weights are in clusters, which nothing may shrink them out of. `own_scales`: whether
    /// it trains integers with a scale for each channel.
    fn take(
        &self,
        mut settings: Settings<'_, impl Ask>,
        active: bool,
        clustered: bool,
        own_scales: bool,
    ) -> Option<FineTuning> {
        let epochs = settings.if_any("epochs", &self.epochs, active);
        let active = active && epochs != Some(0);
        let learning_rate = settings.if_any("learning_rate", &self.learning_rate, active);
        let shrink = settings.ask("shrink", &self.shrink, active && !clustered);
        let shrink = if clustered { Shrink::None } else { shrink };
        let shrinks = active && !shrink.is_none();
        let weight = settings.ask("shrink_by", &self.shrink_by, shrinks);
        let shrink_by = if shrink.is_none() { 0.0 } else { weight };
        let normalizes = active && own_scales;
        let normalize = settings.ask("normalize", &self.normalize, normalizes) && normalizes;
        let tuning = FineTuning { epochs, learning_rate, shrink, shrink_by, normalize };
        (epochs != Some(0)).then_some(tuning)
    }
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
fn network_wide(of: Scope) -> Option<Counted> {
    match of {
        Scope::Stage | Scope::Layer => None,
        Scope::Channels => Some(Counted::Channels),
        Scope::Macs => Some(Counted::Macs),
        Scope::Parameters => Some(Counted::Parameters),
        Scope::Bytes => Some(Counted::Bytes),
        Scope::Latency => Some(Counted::Latency),
    }
}

/// See [`RecipeSpace::name`].
fn name(steps: &[StepSpace], place: usize) -> String {
    let pass = steps[place].pass();
    match steps[..place].iter().filter(|other| other.pass() == pass).count() {
        0 => pass.to_owned(),
        before => format!("{pass}{}", before + 1),
    }
}
