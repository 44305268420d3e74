//! Staged convolutional networks and their compression: which options each choice has, and which
//! candidate a genotype describes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::DataShape;
use crate::{
    Activation, Architecture, Candidate, Choice, CompressionRecipe, Design, Distillation, Genotype,
    Operation, Precision, Skip, Stage,
};

mod largest;

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
    /// Squeeze-and-excitation: into one of how many channels; 0 for none.
    #[serde(default = "no_squeeze")]
    pub squeeze: Vec<u32>,
    /// How a block's input goes past it.
    #[serde(default = "added")]
    pub skip: Vec<Skip>,
}

fn no_squeeze() -> Vec<u32> {
    vec![0]
}

fn added() -> Vec<Skip> {
    vec![Skip::Add]
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

/// The choices before those of the stages, in genotype order.
const FIRST_CHOICES: [&str; 2] = ["resolution", "stem_width"];

/// The choices of each stage, in genotype order.
const STAGE_CHOICES: [&str; 8] =
    ["depth", "width", "kernel", "operation", "expansion", "stride", "activation", "prune"];

/// The choices of a stage that are there only if the study offers something else than the first
/// value that it could have: genotypes of studies without them stay as they were. They come last.
const OPTIONAL_CHOICES: [&str; 2] = ["squeeze", "skip"];

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
        let mut errors = Errors::default();
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
            errors.check(&at("squeeze"), &stage.squeeze, sizes(0, 64), "a number from 0 to 64");
            errors.check(&at("skip"), &stage.skip, |_| true, "");
        }
        check_recipe(&mut errors, &definition.recipe);
        errors.into_result()?;
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
        let (architecture, recipe) = self.parts(genotype);
        Candidate { architecture: Design::Staged(architecture), recipe }
    }

    /// The network that a genotype of this space describes.
    ///
    /// # Panics
    /// If the genotype belongs to another space.
    pub fn architecture(&self, genotype: &Genotype) -> Architecture {
        self.parts(genotype).0
    }

    fn parts(&self, genotype: &Genotype) -> (Architecture, CompressionRecipe) {
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
            let (squeeze, skip) = (s.squeeze[0], s.skip[0]);
            stages.push(Stage {
                depth,
                width,
                kernel,
                operation,
                stride,
                activation,
                squeeze,
                skip,
            });
        }
        let precision = d.recipe.precision[pick()];
        let (alpha, temperature) = (d.recipe.alpha[pick()], d.recipe.temperature[pick()]);
        let distillation = (alpha > 0.0).then_some(Distillation { alpha, temperature });
        for (stage, s) in stages.iter_mut().zip(&d.stages) {
            if offers_squeeze(s) {
                stage.squeeze = s.squeeze[pick()];
            }
            if offers_skip(s) {
                stage.skip = s.skip[pick()];
            }
        }
        let recipe = CompressionRecipe { prune, precision, distillation };
        (Architecture { resolution, stem_width, stages }, recipe)
    }
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
            squeeze: vec![s.squeeze],
            skip: vec![s.skip],
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
    let mut errors = Errors::default();
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
        errors.check_recorded(&at("squeeze"), &stage.squeeze, |v| *v <= recorded::MAX_SIZE);
        errors.check_recorded(&at("skip"), &stage.skip, |_| true);
    }
    check_recorded_recipe(&mut errors, &d.recipe);
    errors.check_recorded("data.channels", &[data.channels], sizes(1, recorded::MAX_CHANNELS));
    errors.check_recorded("data.classes", &[data.classes], sizes(1, recorded::MAX_CLASSES));
    errors.into_result()
}

pub fn check_recorded_recipe(errors: &mut Errors, recipe: &RecipeSpace) {
    let finite = |v: &f64| v.is_finite();
    errors.check_recorded("recipe.prune", &recipe.prune, finite);
    errors.check_recorded("recipe.precision", &recipe.precision, |_| true);
    errors.check_recorded("recipe.alpha", &recipe.alpha, finite);
    errors.check_recorded("recipe.temperature", &recipe.temperature, finite);
}

/// Checks the options of a recipe by the rules for new studies.
pub fn check_recipe(errors: &mut Errors, recipe: &RecipeSpace) {
    let share = |v: &f64| (0.0..1.0).contains(v);
    errors.check("recipe.prune", &recipe.prune, share, "a number of at least 0 and below 1");
    errors.check("recipe.precision", &recipe.precision, |_| true, "");
    let alpha = |v: &f64| (0.0..=1.0).contains(v);
    errors.check("recipe.alpha", &recipe.alpha, alpha, "a number from 0 to 1");
    let warm = |v: &f64| *v > 0.0 && *v <= 100.0;
    let range = "a number above 0 and at most 100";
    errors.check("recipe.temperature", &recipe.temperature, warm, range);
}

fn choices(d: &SpaceDefinition) -> Vec<Choice> {
    let first = [texts(&d.resolution), texts(&d.stem_width)];
    let first = FIRST_CHOICES.iter().zip(first);
    let mut all: Vec<Choice> =
        first.map(|(name, options)| Choice { name: (*name).to_owned(), options }).collect();
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
    for (i, s) in d.stages.iter().enumerate() {
        let name = |field: &str| format!("stage{}.{field}", i + 1);
        if offers_squeeze(s) {
            all.push(choice(&name(OPTIONAL_CHOICES[0]), &s.squeeze));
        }
        if offers_skip(s) {
            let skips: Vec<&str> = s.skip.iter().map(|skip| skip.name()).collect();
            all.push(choice(&name(OPTIONAL_CHOICES[1]), &skips));
        }
    }
    all
}

/// Whether squeeze-and-excitation is a choice of the stage.
fn offers_squeeze(stage: &StageSpace) -> bool {
    stage.squeeze != no_squeeze()
}

/// Whether the way past a block is a choice of the stage.
fn offers_skip(stage: &StageSpace) -> bool {
    stage.skip != added()
}

pub fn choice<T: fmt::Display>(name: &str, values: &[T]) -> Choice {
    Choice { name: name.to_owned(), options: texts(values) }
}

pub fn texts<T: fmt::Display>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

/// Collects all mistakes, so that the user sees them at once.
#[derive(Default)]
pub struct Errors(Vec<SpaceError>);

impl Errors {
    pub fn into_result(self) -> Result<(), Vec<SpaceError>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }

    pub fn push(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(SpaceError { field: field.to_owned(), message: message.into() });
    }

    pub fn check_recorded<T: fmt::Debug>(
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

    pub fn check<T: PartialEq + fmt::Debug>(
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
