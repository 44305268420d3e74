//! Staged convolutional networks and their compression: which options each choice has, and which
//! candidate a genotype describes.

use crate::active::{Outline, Reader};
use crate::mistakes::Errors;
use crate::recipe::{check_recipe, check_recorded_recipe};
use crate::space::choice;
use crate::{
    Activation, Architecture, Candidate, Choice, DataShape, Design, Genotype, Operation, Recipe,
    RecipeSpace, Skip, SpaceError, Stage,
};

mod largest;

/// The options that a study offers. Every list must have at least one value, and no value twice.
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Clone, PartialEq)]
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
    pub squeeze: Vec<u32>,
    /// How a block's input goes past it.
    pub skip: Vec<Skip>,
}

fn no_squeeze() -> Vec<u32> {
    vec![0]
}

fn added() -> Vec<Skip> {
    vec![Skip::Add]
}

/// A space of staged networks: every choice has at least one option, and every option is in range.
#[derive(Debug, Clone, PartialEq)]
pub struct StagedSpace {
    definition: SpaceDefinition,
    data: DataShape,
    choices: Vec<Choice>,
}

/// Upper limits for new studies. Larger values are certainly mistakes.
const MAX_SIZE: u32 = 4096;
const MAX_DEPTH: u32 = 64;
const MAX_STAGES: usize = 16;

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
        for (field, name) in definition.recipe.named_layers() {
            let stage = name.strip_prefix("stage").and_then(|rest| rest.split_once('.'));
            let stage = stage.and_then(|(number, _)| number.parse::<usize>().ok());
            let known = ["stem", "classifier"].contains(&name)
                || stage.is_some_and(|stage| (1..=definition.stages.len()).contains(&stage));
            if !known {
                let text = format!(
                    "no network of the space has a layer {name:?}; write \"stem\", \"classifier\" or \
                     one of a block, such as \"stage1.block1.conv\""
                );
                errors.push(&field, text);
            }
        }
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

    fn parts(&self, genotype: &Genotype) -> (Architecture, Recipe) {
        Reader::read(genotype, self.choices.len(), |reader| self.read(reader))
    }

    pub(crate) fn read(&self, reader: &mut Reader<'_>) -> (Architecture, Recipe) {
        let d = &self.definition;
        let resolution = d.resolution[reader.pick(true)];
        let stem_width = d.stem_width[reader.pick(true)];
        let mut stages = Vec::with_capacity(d.stages.len());
        let offered = d.recipe.stage_shares();
        let mut shares = vec![Vec::with_capacity(d.stages.len()); offered.len()];
        for (index, s) in d.stages.iter().enumerate() {
            let depth = s.depth[reader.pick(true)];
            let present = depth > 0;
            // The stem has the activation of the first stage and counts to it, present or not.
            let with_stem = present || index == 0;
            let (width, kernel) = (s.width[reader.pick(present)], s.kernel[reader.pick(present)]);
            let operation = |name: &str, expansion| {
                Operation::from_name(name, expansion)
                    .expect("the space's check refuses unknown names")
            };
            let name = s.operation[reader.pick(present)].as_str();
            let expands = match operation(name, 1) {
                Operation::InvertedResidual { .. } => true,
                Operation::Conv | Operation::Separable => false,
            };
            let operation = operation(name, s.expansion[reader.pick(present && expands)]);
            let stride = s.stride[reader.pick(present)];
            let activation = s.activation[reader.pick(with_stem)];
            for (shares, offered) in shares.iter_mut().zip(&offered) {
                shares.push(offered[reader.pick(with_stem)]);
            }
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
        let recipe = d.recipe.decode(&shares, &Stages(&stages), reader);
        for (stage, s) in stages.iter_mut().zip(&d.stages) {
            if offers_squeeze(s) {
                stage.squeeze = s.squeeze[reader.pick(stage.depth > 0)];
            }
            if offers_skip(s) {
                // There is no way past a block with a stride, which only the first can have.
                let passed = stage.depth > u32::from(stage.stride > 1);
                stage.skip = s.skip[reader.pick(passed)];
            }
        }
        (Architecture { resolution, stem_width, stages }, recipe)
    }
}

/// A network of these stages. Their squeeze-and-excitation and ways past a block are not known yet.
struct Stages<'a>(&'a [Stage]);

impl Outline for Stages<'_> {
    fn is_trained(&self) -> bool {
        true
    }

    fn has_stage(&self, stage: usize) -> bool {
        // The stem counts to the first.
        stage == 0 || self.0.get(stage).is_some_and(|stage| stage.depth > 0)
    }

    fn has_layer(&self, name: &str) -> bool {
        let Some((stage, block, part)) = place_of(name) else { return true };
        let stage = stage.checked_sub(1).and_then(|stage| self.0.get(stage));
        let has_part = |operation: Operation| match (part, operation) {
            ("conv", Operation::Separable | Operation::InvertedResidual { .. }) => false,
            ("depthwise", Operation::Conv) => false,
            ("pointwise", Operation::Conv | Operation::InvertedResidual { .. }) => false,
            ("expand" | "project", Operation::Conv | Operation::Separable) => false,
            ("expand", Operation::InvertedResidual { expansion }) => expansion > 1,
            (_, _) => true,
        };
        stage.is_some_and(|stage| (1..=stage.depth).contains(&block) && has_part(stage.operation))
    }
}

/// Of `stage2.block1.expand` the stage and the block, both counted from 1, and the part. `None` for
/// what stands in no block.
fn place_of(layer: &str) -> Option<(usize, u32, &str)> {
    let (stage, rest) = layer.strip_prefix("stage")?.split_once(".block")?;
    let (block, part) = rest.split_once('.')?;
    Some((stage.parse().ok()?, block.parse().ok()?, part))
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
            recipe: RecipeSpace::none(),
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

/// How many choices come before those of the stages.
const FIRST_CHOICES: usize = 2;

/// The choices of each stage, in genotype order. The shares of channels that it loses follow.
const STAGE_CHOICES: [&str; 7] =
    ["depth", "width", "kernel", "operation", "expansion", "stride", "activation"];

fn choices(d: &SpaceDefinition) -> Vec<Choice> {
    let mut all = vec![choice("resolution", &d.resolution), choice("stem_width", &d.stem_width)];
    for (i, s) in d.stages.iter().enumerate() {
        let name = |field: &str| format!("stage{}.{field}", i + 1);
        let activation: Vec<&str> = s.activation.iter().map(|a| a.name()).collect();
        let [depth, width, kernel, operation, expansion, stride, acts] = STAGE_CHOICES.map(name);
        all.extend([
            choice(&depth, &s.depth),
            choice(&width, &s.width),
            choice(&kernel, &s.kernel),
            choice(&operation, &s.operation),
            choice(&expansion, &s.expansion),
            choice(&stride, &s.stride),
            choice(&acts, &activation),
        ]);
        all.extend(d.recipe.stage_choices(i + 1));
    }
    all.extend(d.recipe.choices());
    // These are there only if the study offers something else than the first value that they could
    // have: genotypes of studies without them stay as they were. They come last.
    for (i, s) in d.stages.iter().enumerate() {
        let name = |field: &str| format!("stage{}.{field}", i + 1);
        if offers_squeeze(s) {
            all.push(choice(&name("squeeze"), &s.squeeze));
        }
        if offers_skip(s) {
            let skips: Vec<&str> = s.skip.iter().map(|skip| skip.name()).collect();
            all.push(choice(&name("skip"), &skips));
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
