//! How a recipe is chosen from what a space offers: the choices in their order, and the recipe of
//! the values that were picked. Settings without effect on a candidate are passed over.

use std::fmt;
use std::ops::Range;

use super::space::{
    DistilSpace, FineTuneSpace, PruneSpace, QuantizeSpace, RecipeSpace, StepSpace, network_wide,
};
use super::widths::LayerWidth;
use super::{
    Among, Amount, Answers, Clustering, Counted, Distillation, FineTuning, Granularity, Precision,
    PruneUnit, Pruning, Quantizing, RangeRule, Recipe, Scope, Shrink, Step, Widths, left_out,
};
use crate::Choice;
use crate::active::{Anything, Outline, Reader};
use crate::space::choice;

impl RecipeSpace {
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
                let mut distillations = Vec::new();
                for (place, space) in spaces.iter().enumerate() {
                    let (asked, at) = (ask.asked(), steps.len());
                    let settings = Settings { steps: spaces, place, ask };
                    let step = space.take(&mut stages, &steps, network, settings);
                    if matches!(space, StepSpace::Distil(_)) && may_learn(spaces, place) {
                        let (on, choices) = (step.is_some(), asked..ask.asked());
                        distillations.push(Distilling { at, on, choices });
                    }
                    steps.extend(step);
                }
                // Only the steps after them show whether anything learns from the teacher.
                for Distilling { at, on, choices } in distillations.into_iter().rev() {
                    if !learns_from(at, &steps, at + usize::from(on), network) {
                        ask.without_effect(choices);
                        if on {
                            steps.remove(at);
                        }
                    }
                }
            }
        }
        Recipe { steps }
    }
}

/// A step `distil` of a space.
struct Distilling {
    /// How many steps of the recipe stand before it.
    at: usize,
    /// Whether the recipe has it.
    on: bool,
    /// The choices of its settings, counted from the first one that was asked for.
    choices: Range<usize>,
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

    /// How many settings were asked for.
    fn asked(&self) -> usize;

    /// Says of settings that were asked for that the candidate does not depend on them after all.
    fn without_effect(&mut self, asked: Range<usize>);

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

    fn asked(&self) -> usize {
        self.0.len()
    }

    fn without_effect(&mut self, _: Range<usize>) {}
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

    fn asked(&self) -> usize {
        self.picked()
    }

    fn without_effect(&mut self, asked: Range<usize>) {
        self.unmark(asked);
    }

    fn names<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<String> {
        // Marks are taken of thousands of genotypes, and the recipe is not read then.
        if self.only_marks() { Vec::new() } else { names.cloned().collect() }
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

    /// As [`Ask::asked`].
    fn asked(&self) -> usize {
        self.ask.asked()
    }

    /// As [`Ask::without_effect`].
    fn without_effect(&mut self, asked: Range<usize>) {
        self.ask.without_effect(asked);
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
                let feature_weight = if copies { weight } else { 0.0.into() };
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
                // Only if a step before it quantizes, in a way that can be trained. Weights in
                // clusters are not trained, because they would leave them.
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
        let rule = |rule| if ranges { rule_for(rule, activations) } else { usual.calibration };
        let differ = self.calibration.iter().any(|&other| rule(other) != rule(self.calibration[0]));
        let calibration = rule(settings.ask("calibration", &self.calibration, on && differ));
        // Ranges are observed on them, and biases corrected by them.
        let observes = ranges || self.correct_biases.contains(&true);
        let asked = settings.asked();
        let examples = settings.ask("examples", &self.examples, on && observes);
        let of_examples = asked..settings.asked();
        let clip_ranges = settings.ask("clip_ranges", &self.clip_ranges, on && ranges);
        let granularity = settings.ask("granularity", &self.granularity, open);
        let equalize = settings.ask("equalize", &self.equalize, open);
        let correct_biases = settings.ask("correct_biases", &self.correct_biases, on);
        if !ranges && !correct_biases {
            settings.without_effect(of_examples);
        }
        let mut widths =
            Widths { weights, affine: affine && weights > 1, activations, layer_bits: Vec::new() };
        // Only the rounding of integers can be learned. A weight of one bit is its sign.
        let learns = widths.can_learn_rounding();
        let asked = settings.asked();
        let rounding = settings.ask("rounding", &self.rounding, open && learns);
        let of_rounding = asked..settings.asked();
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
        if !learns {
            settings.without_effect(of_rounding);
        }
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

/// The rule for ranges of values of so many bits that stands for all that find the same ranges.
fn rule_for(rule: RangeRule, activations: u32) -> RangeRule {
    match rule {
        // With so many levels, these cover all numbers alike.
        RangeRule::Mse | RangeRule::MinMax | RangeRule::Entropy if activations > 8 => {
            Quantizing::default().calibration
        }
        rule => rule,
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

/// Whether a fine-tuning after these steps is left out by [`Recipe::passes`] whatever the network.
fn follows_nothing(steps: &[Step], network: &impl Outline) -> bool {
    left_out(steps, |pruning| removes(&pruning.amount, network))
}

/// Whether any candidate learns from what the step `distil` at this place says, in a step after it.
fn may_learn(steps: &[StepSpace], distil: usize) -> bool {
    let lasts = |epochs: &[u32]| epochs.is_empty() || epochs.iter().any(|epochs| *epochs > 0);
    let mut after = (distil + 1..steps.len())
        .take_while(|place| !matches!(steps[*place], StepSpace::Distil(_)));
    after.any(|place| {
        let mut before = steps[..place].iter();
        match &steps[place] {
            StepSpace::FineTune(space) => {
                let mut prunings = before.filter_map(StepSpace::pruning).peekable();
                // Prunings of nothing leave it out.
                lasts(&space.epochs) && (prunings.peek().is_none() || prunings.any(may_remove))
            }
            StepSpace::QuantizeAwareTrain(space) => {
                let quantizes = |step: &StepSpace| match step {
                    StepSpace::Quantize(space) => space.precision.contains(&Precision::Int8),
                    StepSpace::Distil(_)
                    | StepSpace::Prune(_)
                    | StepSpace::FineTune(_)
                    | StepSpace::Cluster(_)
                    | StepSpace::QuantizeAwareTrain(_) => false,
                };
                lasts(&space.epochs) && before.any(quantizes)
            }
            StepSpace::Prune(space) => {
                let between = space.rounds.iter().any(|rounds| *rounds > 1)
                    || space.rewind.iter().any(|rewind| !rewind.is_none());
                between && lasts(&space.epochs) && may_remove(space)
            }
            StepSpace::Distil(_) | StepSpace::Cluster(_) | StepSpace::Quantize(_) => false,
        }
    })
}

fn may_remove(space: &PruneSpace) -> bool {
    !space.at_most.is_empty() || space.share.iter().any(|share| *share > 0.0)
}

/// Whether a training learns from what a step `distil` says that has so many steps before it: the
/// first training of the network, if there are none, or one of the steps from `after` on, up to the
/// next `distil`.
fn learns_from(at: usize, steps: &[Step], after: usize, network: &impl Outline) -> bool {
    let mut places =
        (after..steps.len()).take_while(|place| !matches!(steps[*place], Step::Distil(_)));
    let trains = |place: usize| match &steps[place] {
        Step::Prune(pruning) => {
            removes(&pruning.amount, network) && pruning.trainings() > 0 && pruning.epochs > 0
        }
        Step::FineTune(tuning) => {
            tuning.epochs != Some(0) && !follows_nothing(&steps[..place], network)
        }
        Step::QuantizeAwareTrain(tuning) => tuning.epochs != Some(0),
        Step::Distil(_) | Step::Cluster(_) | Step::Quantize(_) => false,
    };
    (at == 0 && network.is_trained()) || places.any(trains)
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

/// See [`RecipeSpace::name`].
fn name(steps: &[StepSpace], place: usize) -> String {
    let pass = steps[place].pass();
    match steps[..place].iter().filter(|other| other.pass() == pass).count() {
        0 => pass.to_owned(),
        before => format!("{pass}{}", before + 1),
    }
}
