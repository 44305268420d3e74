//! Staged convolutional networks and their compression: which options each choice has, and which
//! candidate a genotype describes.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::plan::DataShape;
use crate::{
    Activation, Architecture, Candidate, Choice, CompressionRecipe, Distillation, Genotype,
    Operation, PlanError, Precision, Stage,
};

/// The options that a study offers. Every list must have at least one value, and no value twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpaceDefinition {
    /// Sides of the square input, pixels.
    pub resolution: Vec<u32>,
    /// Channels of the stem.
    pub stem_width: Vec<u32>,
    /// Options of each stage, in order.
    pub stages: Vec<StageSpace>,
    /// Options of the recipe.
    pub recipe: RecipeSpace,
}

/// Options of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageSpace {
    /// Numbers of blocks; 0 leaves the stage out.
    pub depth: Vec<u32>,
    /// Output channels.
    pub width: Vec<u32>,
    /// Sides of kernels, odd.
    pub kernel: Vec<u32>,
    /// Operation names; see [`Operation::NAMES`].
    pub operation: Vec<String>,
    /// Expansions; used by inverted residuals only.
    pub expansion: Vec<u32>,
    /// Strides, 1 or 2.
    pub stride: Vec<u32>,
    /// Activations.
    pub activation: Vec<Activation>,
}

/// Options of the compression recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecipeSpace {
    /// Shares of channels removed, chosen for each stage, each in `0.0..1.0`.
    pub prune: Vec<f64>,
    /// Precisions.
    pub precision: Vec<Precision>,
    /// Weights of the distillation loss; 0 trains without a teacher.
    pub alpha: Vec<f64>,
    /// Distillation temperatures; used only when alpha is above 0.
    pub temperature: Vec<f64>,
}

/// A space of staged networks: every choice has at least one option, and every option is in range.
#[derive(Debug, Clone, PartialEq)]
pub struct StagedSpace {
    definition: SpaceDefinition,
    data: DataShape,
    choices: Vec<Choice>,
}

/// One mistake in a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SpaceError {
    /// Path in the study file, for example `space.stages[1].kernel`.
    pub field: String,
    /// What is wrong and how to fix it.
    pub message: String,
}

const STAGE_CHOICES: [&str; 8] =
    ["depth", "width", "kernel", "operation", "expansion", "stride", "activation", "prune"];

/// The place of the operation among a stage's choices.
const OPERATION: usize = 3;

/// Upper limits for new studies. Larger values are certainly mistakes.
const MAX_SIZE: u32 = 4096;
const MAX_DEPTH: u32 = 64;
const MAX_STAGES: usize = 16;
const MAX_OPTIONS: usize = 256;

/// Limits for values that are read from disk or from the network. They are wider than the limits
/// for new studies, so that the latter may become stricter. Within them, arithmetic on a network
/// does not overflow, and a space fits into memory.
mod recorded {
    /// Sides and channels. A feature map with this side, this number of channels and the largest
    /// expansion has fewer than 2^64 values.
    pub const MAX_SIZE: u32 = 1 << 16;
    /// Sides of kernels: four times the limit for new studies.
    pub const MAX_KERNEL: u32 = 127;
    /// Expansions: four times the limit for new studies.
    pub const MAX_EXPANSION: u32 = 64;
    /// Strides: a larger one skips most of a feature map.
    pub const MAX_STRIDE: u32 = 16;
    /// Blocks of a stage: with the limit on stages, a network has fewer than 2^16 layers, so its
    /// multiply-accumulates fit into 64 bits.
    pub const MAX_DEPTH: u32 = 256;
    /// Stages: four times the limit for new studies.
    pub const MAX_STAGES: usize = 64;
    /// Options of a choice. Genotypes hold them as 16 bits; this is less, to bound the memory.
    pub const MAX_OPTIONS: usize = 4096;
    /// Image channels: a recorded image has 1 or 3, and a later program may allow a few more.
    pub const MAX_CHANNELS: u32 = 1 << 10;
    /// Classes: the classifier is a layer, so the limit is that of a layer's channels.
    pub const MAX_CLASSES: u32 = MAX_SIZE;
}

impl StagedSpace {
    /// Checks a definition.
    ///
    /// # Errors
    /// All mistakes of the definition at once.
    pub fn new(definition: SpaceDefinition, data: DataShape) -> Result<Self, Vec<SpaceError>> {
        let mut errors = Errors(Vec::new());
        let sizes = |low: u32, high: u32| move |v: &u32| (low..=high).contains(v);
        errors.check(
            "space.resolution",
            &definition.resolution,
            sizes(1, MAX_SIZE),
            "a number from 1 to 4096",
        );
        errors.check(
            "space.stem_width",
            &definition.stem_width,
            sizes(1, MAX_SIZE),
            "a number from 1 to 4096",
        );
        if definition.stages.is_empty() {
            errors.push("space.stages", "no stage given; add at least one [[space.stages]]");
        }
        if definition.stages.len() > MAX_STAGES {
            errors.push("space.stages", "too many stages; at most 16 are allowed");
        }
        for (i, stage) in definition.stages.iter().take(MAX_STAGES).enumerate() {
            let at = |field: &str| format!("space.stages[{i}].{field}");
            errors.check(&at("depth"), &stage.depth, sizes(0, MAX_DEPTH), "a number from 0 to 64");
            errors.check(&at("width"), &stage.width, sizes(1, MAX_SIZE), "a number from 1 to 4096");
            let odd = |v: &u32| v % 2 == 1 && *v <= 31;
            errors.check(&at("kernel"), &stage.kernel, odd, "an odd number from 1 to 31");
            let known = |v: &String| Operation::NAMES.contains(&v.as_str());
            let names = format!("one of {}", Operation::NAMES.join(", "));
            errors.check(&at("operation"), &stage.operation, known, &names);
            errors.check(&at("expansion"), &stage.expansion, sizes(1, 16), "a number from 1 to 16");
            errors.check(&at("stride"), &stage.stride, sizes(1, 2), "1 or 2");
            errors.check(&at("activation"), &stage.activation, |_| true, "");
        }
        let recipe = &definition.recipe;
        errors.check(
            "recipe.prune",
            &recipe.prune,
            |v| (0.0..1.0).contains(v),
            "a number of at least 0 and below 1",
        );
        errors.check("recipe.precision", &recipe.precision, |_| true, "");
        errors.check(
            "recipe.alpha",
            &recipe.alpha,
            |v| (0.0..=1.0).contains(v),
            "a number from 0 to 1",
        );
        let warm = |v: &f64| *v > 0.0 && *v <= 100.0;
        errors.check(
            "recipe.temperature",
            &recipe.temperature,
            warm,
            "a number above 0 and at most 100",
        );
        if !errors.0.is_empty() {
            return Err(errors.0);
        }
        let choices = choices(&definition);
        Ok(Self { definition, data, choices })
    }

    /// The space of a definition that was checked, by the rules of that time, when its study was
    /// accepted. It refuses only definitions that no program could use: empty lists, unknown
    /// operations, and numbers that are invalid for any network or absurdly large.
    ///
    /// # Errors
    /// All such mistakes at once.
    pub fn recorded(definition: SpaceDefinition, data: DataShape) -> Result<Self, Vec<SpaceError>> {
        check_recorded(&definition, data)?;
        let choices = choices(&definition);
        Ok(Self { definition, data, choices })
    }

    /// The definition.
    pub fn definition(&self) -> &SpaceDefinition {
        &self.definition
    }

    /// Image channels and classes of every network of the space.
    pub fn data(&self) -> DataShape {
        self.data
    }

    /// The decisions, in genotype order.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// The candidate that a genotype of this space describes.
    ///
    /// # Panics
    /// If the genotype belongs to another space.
    pub fn decode(&self, genotype: &Genotype) -> Candidate {
        assert_eq!(genotype.0.len(), self.choices.len(), "a genotype of another space");
        let d = &self.definition;
        let mut next = genotype.0.iter().map(|&i| usize::from(i));
        let mut pick = || next.next().expect("one index per choice");
        let resolution = d.resolution[pick()];
        let stem_width = d.stem_width[pick()];
        let mut stages = Vec::with_capacity(d.stages.len());
        let mut prune = Vec::with_capacity(d.stages.len());
        for s in &d.stages {
            let (depth, width, kernel) = (s.depth[pick()], s.width[pick()], s.kernel[pick()]);
            let (name, expansion) = (s.operation[pick()].as_str(), s.expansion[pick()]);
            let operation = Operation::from_name(name, expansion)
                .expect("the space's check refuses unknown names");
            let (stride, activation) = (s.stride[pick()], s.activation[pick()]);
            prune.push(d.recipe.prune[pick()]);
            stages.push(Stage { depth, width, kernel, operation, stride, activation });
        }
        let precision = d.recipe.precision[pick()];
        let (alpha, temperature) = (d.recipe.alpha[pick()], d.recipe.temperature[pick()]);
        let distillation = (alpha > 0.0).then_some(Distillation { alpha, temperature });
        Candidate {
            architecture: Architecture { resolution, stem_width, stages },
            recipe: CompressionRecipe { prune, precision, distillation },
        }
    }

    /// The genotype with the largest network of the space, by parameters and then by MACs, before
    /// any compression. It is found greedily, choice by choice, until no change makes the network
    /// larger, also not adding an absent stage and then changing that, or leaving out several
    /// neighbouring stages. The result is exact when the largest option of each choice does not
    /// depend on the others. It may be smaller than the largest if strides leave too few positions
    /// for all stages, and another choice of stages has more parameters.
    ///
    /// # Errors
    /// If no genotype of the space is a valid network.
    pub fn largest(&self) -> Result<Genotype, PlanError> {
        let mut best = self.climbed(self.gentlest()?, 0..self.choices.len());
        loop {
            let before = self.size_of(&best);
            for stage in 0..self.definition.stages.len() {
                // A stage that is narrower than its neighbours makes the network smaller at first.
                let Some(added) = self.with_stage(&best, stage) else { continue };
                let all = choices_of(stage);
                // All others first, because its depth would at once be 0 again.
                let added = self.climbed(added, all.start + 1..all.end);
                let added = self.climbed(added, all);
                if self.size_of(&added) > self.size_of(&best) {
                    best = added;
                }
            }
            // Narrow stages between two wide ones.
            for first in 0..self.definition.stages.len() {
                let mut without = best.clone();
                for stage in first..self.definition.stages.len() {
                    let place = choices_of(stage).start;
                    let depths = &self.definition.stages[stage].depth;
                    let Some(absent) = depths.iter().position(|depth| *depth == 0) else { break };
                    without.0[place] = absent as u16;
                    if self.size_of(&without).is_none() {
                        continue;
                    }
                    // The next stage gets more channels, so another operation may be larger there.
                    let next = choices_of(stage + 1).start + OPERATION;
                    let end = (next + 1).min(self.choices.len());
                    let adapted = self.climbed(without.clone(), next.min(end)..end);
                    if self.size_of(&adapted) > self.size_of(&best) {
                        best = adapted;
                    }
                }
            }
            if self.size_of(&best) == before {
                return Ok(best);
            }
            best = self.climbed(best, 0..self.choices.len());
        }
    }

    /// Parameters and MACs of a genotype's network; `None` if it is not valid.
    fn size_of(&self, genotype: &Genotype) -> Option<(u64, u64)> {
        let cost = self.decode(genotype).plan(self.data).ok()?.cost(Precision::Fp32);
        Some((cost.parameters, cost.macs))
    }

    /// Changes one choice of a valid genotype after the other, among these, until no change makes
    /// the network larger.
    fn climbed(&self, from: Genotype, choices: Range<usize>) -> Genotype {
        let (mut best_size, mut best) = (self.size_of(&from), from);
        loop {
            let before = best_size;
            for choice in choices.clone() {
                for other in self.larger(&best, choice, &|other| self.size_of(other).is_some()) {
                    let other_size = self.size_of(&other);
                    if other_size > best_size {
                        (best, best_size) = (other, other_size);
                    }
                }
            }
            if best_size == before {
                return best;
            }
        }
    }

    /// The genotype with this stage, which is absent in `from`, in its smallest form; `None` if it
    /// is not absent, must be, or is not valid in its smallest form.
    fn with_stage(&self, from: &Genotype, stage: usize) -> Option<Genotype> {
        let depths = &self.definition.stages[stage].depth;
        let place = choices_of(stage).start;
        if depths[usize::from(from.0[place])] > 0 {
            return None;
        }
        let mut added = from.clone();
        for choice in choices_of(stage) {
            added.0[choice] = least(&self.choices[choice]);
        }
        let present = (0..depths.len()).filter(|option| depths[*option] > 0);
        added.0[place] = present.min_by_key(|option| depths[*option])? as u16;
        self.size_of(&added).map(|_| added)
    }

    /// The genotypes among which the largest one is that differs from the valid genotype `from` in
    /// one choice. Networks grow with the numbers of a choice until they are too large, so for most
    /// choices this is only the largest valid number. It is searched for by bisection, because a
    /// choice may have many options and a network many layers.
    fn larger(
        &self,
        from: &Genotype,
        choice: usize,
        valid: &dyn Fn(&Genotype) -> bool,
    ) -> Vec<Genotype> {
        let Choice { name, options } = &self.choices[choice];
        let with = |option: u16| {
            let mut other = from.clone();
            other.0[choice] = option;
            other
        };
        let all = 0..options.len() as u16;
        let number = |option: &u16| options[usize::from(*option)].parse::<u32>().unwrap_or(0);
        let field = name.rsplit('.').next().unwrap_or(name);
        match field {
            "stride" => all.map(with).collect(),
            "operation" => {
                // Some operations are larger only with a large expansion, which the others ignore.
                let expansion = choice + 1;
                let expanded = |other: &Genotype| {
                    if valid(other) { self.larger(other, expansion, valid) } else { Vec::new() }
                };
                let others = all.map(with);
                others.flat_map(|other| expanded(&other).into_iter().chain([other])).collect()
            }
            "resolution" | "stem_width" | "width" | "kernel" | "expansion" | "depth" => {
                let now = number(&from.0[choice]);
                let mut above: Vec<u16> = all.clone().filter(|o| number(o) > now).collect();
                above.sort_by_key(number);
                let end = above.partition_point(|option| valid(&with(*option)));
                // Without the stage, the next one reads a feature map that may be larger.
                let absent = all.filter(|option| field == "depth" && number(option) == 0);
                above[..end].last().copied().into_iter().chain(absent).map(with).collect()
            }
            // The others change neither parameters nor MACs.
            _ => Vec::new(),
        }
    }

    /// The genotype that is most likely to be valid: fewest blocks, smallest sizes and strides, and
    /// the largest resolution at which the network is valid.
    fn gentlest(&self) -> Result<Genotype, PlanError> {
        let mut genotype = Genotype(self.choices.iter().map(least).collect());
        let resolution = &self.choices[0];
        let mut resolutions: Vec<u16> = (0..resolution.options.len() as u16).collect();
        resolutions.sort_by_key(|i| std::cmp::Reverse(number(resolution, usize::from(*i))));
        let mut refused = None;
        for option in resolutions {
            genotype.0[0] = option;
            match self.decode(&genotype).plan(self.data) {
                Ok(_) => return Ok(genotype),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.expect("at least one resolution"))
    }
}

/// The number that an option of a choice is; 0 if it is none.
fn number(choice: &Choice, option: usize) -> u32 {
    choice.options[option].parse().unwrap_or(0)
}

/// The option of a choice with the smallest number.
fn least(choice: &Choice) -> u16 {
    (0..choice.options.len()).min_by_key(|option| number(choice, *option)).unwrap_or(0) as u16
}

/// The places of a stage's choices in a genotype; the first is its depth.
fn choices_of(stage: usize) -> Range<usize> {
    const BEFORE: usize = 2;
    let first = BEFORE + stage * STAGE_CHOICES.len();
    first..first + STAGE_CHOICES.len()
}

impl Architecture {
    /// Checks a network that was recorded outside a space, as [`StagedSpace::recorded`] does.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn check_recorded(&self, data: DataShape) -> Result<(), Vec<SpaceError>> {
        let stage = |s: &Stage| StageSpace {
            depth: vec![s.depth],
            width: vec![s.width],
            kernel: vec![s.kernel],
            operation: vec![s.operation.name().to_owned()],
            expansion: vec![match s.operation {
                Operation::InvertedResidual { expansion } => expansion,
                Operation::Conv | Operation::Separable => 1,
            }],
            stride: vec![s.stride],
            activation: vec![s.activation],
        };
        let definition = SpaceDefinition {
            resolution: vec![self.resolution],
            stem_width: vec![self.stem_width],
            stages: self.stages.iter().map(stage).collect(),
            recipe: RecipeSpace {
                prune: vec![0.0],
                precision: vec![Precision::Fp32],
                alpha: vec![0.0],
                temperature: vec![1.0],
            },
        };
        check_recorded(&definition, data)
    }
}

fn check_recorded(d: &SpaceDefinition, data: DataShape) -> Result<(), Vec<SpaceError>> {
    let mut errors = Errors(Vec::new());
    let sizes = |low: u32, high: u32| move |v: &u32| (low..=high).contains(v);
    let size = sizes(1, recorded::MAX_SIZE);
    errors.check_recorded("space.resolution", &d.resolution, size);
    errors.check_recorded("space.stem_width", &d.stem_width, size);
    if d.stages.is_empty() {
        errors.push("space.stages", "the list is empty");
    }
    if d.stages.len() > recorded::MAX_STAGES {
        errors.push("space.stages", format!("{} are too many", d.stages.len()));
    }
    for (i, stage) in d.stages.iter().enumerate() {
        let at = |field: &str| format!("space.stages[{i}].{field}");
        errors.check_recorded(&at("depth"), &stage.depth, sizes(0, recorded::MAX_DEPTH));
        errors.check_recorded(&at("width"), &stage.width, size);
        let odd = |v: &u32| v % 2 == 1 && *v <= recorded::MAX_KERNEL;
        errors.check_recorded(&at("kernel"), &stage.kernel, odd);
        let known = |v: &String| Operation::NAMES.contains(&v.as_str());
        errors.check_recorded(&at("operation"), &stage.operation, known);
        let expansion = sizes(1, recorded::MAX_EXPANSION);
        errors.check_recorded(&at("expansion"), &stage.expansion, expansion);
        errors.check_recorded(&at("stride"), &stage.stride, sizes(1, recorded::MAX_STRIDE));
        errors.check_recorded(&at("activation"), &stage.activation, |_| true);
    }
    let recipe = &d.recipe;
    let finite = |v: &f64| v.is_finite();
    errors.check_recorded("recipe.prune", &recipe.prune, finite);
    errors.check_recorded("recipe.precision", &recipe.precision, |_| true);
    errors.check_recorded("recipe.alpha", &recipe.alpha, finite);
    errors.check_recorded("recipe.temperature", &recipe.temperature, finite);
    errors.check_recorded("data.channels", &[data.channels], sizes(1, recorded::MAX_CHANNELS));
    errors.check_recorded("data.classes", &[data.classes], sizes(1, recorded::MAX_CLASSES));
    if errors.0.is_empty() { Ok(()) } else { Err(errors.0) }
}

fn choices(d: &SpaceDefinition) -> Vec<Choice> {
    let mut all = vec![choice("resolution", &d.resolution), choice("stem_width", &d.stem_width)];
    for (i, s) in d.stages.iter().enumerate() {
        let activation: Vec<&str> = s.activation.iter().map(|a| a.name()).collect();
        let options: [Vec<String>; 8] = [
            texts(&s.depth),
            texts(&s.width),
            texts(&s.kernel),
            texts(&s.operation),
            texts(&s.expansion),
            texts(&s.stride),
            texts(&activation),
            texts(&d.recipe.prune),
        ];
        all.extend(
            STAGE_CHOICES.iter().zip(options).map(|(field, options)| Choice {
                name: format!("stage{}.{field}", i + 1),
                options,
            }),
        );
    }
    let precision: Vec<&str> = d.recipe.precision.iter().map(|p| p.name()).collect();
    all.push(choice("precision", &precision));
    all.push(choice("alpha", &d.recipe.alpha));
    all.push(choice("temperature", &d.recipe.temperature));
    all
}

fn choice<T: fmt::Display>(name: &str, values: &[T]) -> Choice {
    Choice { name: name.to_owned(), options: texts(values) }
}

fn texts<T: fmt::Display>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

/// Collects all mistakes, so that the user sees them at once.
struct Errors(Vec<SpaceError>);

impl Errors {
    fn push(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(SpaceError { field: field.to_owned(), message: message.into() });
    }

    fn check_recorded<T: fmt::Debug>(
        &mut self,
        field: &str,
        values: &[T],
        valid: impl Fn(&T) -> bool,
    ) {
        if values.is_empty() {
            self.push(field, "the list is empty");
        }
        if values.len() > recorded::MAX_OPTIONS {
            self.push(field, format!("{} values are too many", values.len()));
        }
        if let Some(value) = values.iter().find(|value| !valid(value)) {
            self.push(field, format!("{value:?} is not a value that this program can work with"));
        }
    }

    fn check<T: PartialEq + fmt::Debug>(
        &mut self,
        field: &str,
        values: &[T],
        valid: impl Fn(&T) -> bool,
        range: &str,
    ) {
        if values.is_empty() {
            self.push(field, "the list is empty; give at least one value");
        }
        if values.len() > MAX_OPTIONS {
            let text =
                format!("{} values are too many; at most {MAX_OPTIONS} are allowed", values.len());
            // They are not looked at, because each is compared with those before it.
            return self.push(field, text);
        }
        for (i, value) in values.iter().enumerate() {
            if !valid(value) {
                self.push(field, format!("{value:?} is not allowed; use {range}"));
            } else if values[..i].contains(value) {
                self.push(field, format!("{value:?} is listed twice; keep one"));
            }
        }
    }
}
