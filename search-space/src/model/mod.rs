//! A user's network with its recipe as the space: how it is compressed, whether it is trained
//! further, and which variants of it are tried. It holds the structure of the network; the numbers
//! are an artifact that a worker reads.

mod head;
mod stages;
#[cfg(test)]
mod tests;
mod variant;

use std::sync::Arc;

use edgesmith_graph::{Effect, Graph, Operation as _, Role};
use serde::{Deserialize, Serialize};

use crate::active::Reader;
use crate::mistakes::Errors;
use crate::named::named;
use crate::recipe::{check_recipe, check_recorded_recipe};
use crate::space::choice;
use crate::{
    Candidate, Choice, DataShape, Design, Extent, Genotype, MAX_VALUE_ELEMENTS, Precision,
    RecipeSpace, SpaceError,
};

pub use self::head::last_layer;
pub use self::stages::{ResidualBlock, leave_out, residual_blocks, stage_count, with_stages};
pub use self::variant::{Base, Variant};

/// The options that a study offers around an imported network. No list has a value twice.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelDefinition {
    /// The network as imported: images in, and a number for each class out, before any softmax.
    pub network: Graph,
    /// Hash of its weights. Candidates of other weights are others.
    pub weights: [u8; 32],
    /// Whether its last layer is replaced.
    pub head: Head,
    /// Sides of the square input, in pixels; empty: the size that the network has.
    pub resolution: Vec<u32>,
    /// By stage: shares of channels that a candidate begins with, above 0 and at most 1.
    pub width: Vec<f64>,
    /// What is tried with each residual block.
    pub blocks: Vec<BlockOption>,
    /// Whether candidates are trained.
    pub train: Vec<Further>,
    /// Options of the recipe.
    pub recipe: RecipeSpace,
}

/// Whether the last layer of an import is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Head {
    /// It gives the classes of the data.
    Kept,
    /// It is replaced by a new layer for the classes of the data.
    New,
}

/// What becomes of a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockOption {
    /// It stays.
    Kept,
    /// Its input stands for its output.
    LeftOut,
}

/// Whether a candidate is trained further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Further {
    /// It is trained, from the weights of the import.
    Trained,
    /// It is compressed and measured with the weights of the import.
    AsItIs,
}

named!(Head, "head": Kept "kept", New "new");
named!(BlockOption, "option of a block": Kept "kept", LeftOut "left-out");
named!(Further, "option of training": Trained "further", AsItIs "as-it-is");

/// A space of variants of an imported network with recipes: every choice has at least one option.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpace {
    definition: Box<ModelDefinition>,
    data: DataShape,
    base: Arc<Base>,
    /// Options of `resolution`.
    sides: Vec<u32>,
    stages: usize,
    choices: Vec<Choice>,
}

/// Most nodes of a network. Search visits each of them for every candidate.
const MAX_NODES: usize = 4096;

/// How a study mends that its network gives other classes than the data have, at the end of the
/// sentence that says so. Who composes a study for a user has another mend.
pub const NEW_HEAD: &str = "write head = \"new\" in [space] to replace its last layer";

/// Largest side of an input for new studies.
const MAX_SIDE: u32 = 4096;

impl ModelSpace {
    /// Checks a definition.
    ///
    /// # Errors
    /// All mistakes of the definition at once; or what keeps the network from being trained on
    /// these data.
    pub fn new(definition: ModelDefinition, data: DataShape) -> Result<Self, Vec<SpaceError>> {
        let mut errors = Errors::default();
        let d = &definition;
        if !d.resolution.is_empty() {
            let side = |v: &u32| (1..=MAX_SIDE).contains(v);
            errors.check("space.resolution", &d.resolution, side, "a number from 1 to 4096");
        }
        let share = |v: &f64| *v > 0.0 && *v <= 1.0;
        errors.check("space.width", &d.width, share, "a number above 0 and at most 1");
        errors.check("space.blocks", &d.blocks, |_| true, "");
        errors.check("space.train", &d.train, |_| true, "");
        check_recipe(&mut errors, &d.recipe);
        if d.head == Head::New && d.train.contains(&Further::AsItIs) {
            let text = "a network with a new last layer has to be trained; take \"as-it-is\" out";
            errors.push("space.train", text);
        }
        errors.into_result()?;
        let space = Self::build(definition, data)?;
        space.check_recipe_of_network()?;
        Ok(space)
    }

    /// The space of a definition that was checked when its study was accepted. It refuses only
    /// definitions that no program could use.
    ///
    /// # Errors
    /// All such mistakes at once.
    pub fn recorded(definition: ModelDefinition, data: DataShape) -> Result<Self, Vec<SpaceError>> {
        let mut errors = Errors::default();
        let d = &definition;
        if !d.resolution.is_empty() {
            let side = |v: &u32| (1..=1 << 16).contains(v);
            errors.check_recorded("space.resolution", &d.resolution, side);
        }
        let share = |v: &f64| *v > 0.0 && *v <= 1.0;
        errors.check_recorded("space.width", &d.width, share);
        errors.check_recorded("space.blocks", &d.blocks, |_| true);
        errors.check_recorded("space.train", &d.train, |_| true);
        check_recorded_recipe(&mut errors, &d.recipe);
        errors.into_result()?;
        Self::build(definition, data)
    }

    /// What the recipe asks of the network that it does not have.
    fn check_recipe_of_network(&self) -> Result<(), Vec<SpaceError>> {
        let (graph, recipe) = (&self.base.graph, &self.definition.recipe);
        let named = recipe.named_layers().into_iter().filter(|(_, name)| !is_layer(graph, name));
        let mut errors: Vec<SpaceError> = named
            .map(|(field, name)| SpaceError { field, message: unknown_layer(graph, name) })
            .collect();
        let normalizes = graph.nodes().any(|(_, node)| node.op.effect() == Effect::Normalizes);
        if !normalizes && let Some(field) = recipe.scale_importance() {
            let text = "the network has no batch normalisation (it is folded in most exports), so \
                        no scale says how important channels are; use another importance";
            errors.push(SpaceError { field, message: text.to_owned() });
        }
        // Normalisations of other kinds have scales, too.
        if graph.parameters().all(|(_, parameter)| parameter.role != Role::Scale) {
            let text = "the network has no batch normalisation (it is folded in most exports), so \
                        it has no scales that could become small; use \"filters\", or leave the \
                        setting out";
            let shrinking = recipe.scale_shrinking().into_iter();
            errors.extend(shrinking.map(|field| SpaceError { field, message: text.to_owned() }));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(definition: ModelDefinition, data: DataShape) -> Result<Self, Vec<SpaceError>> {
        let wrong = |field: &str, message| vec![SpaceError { field: field.to_owned(), message }];
        fits(&definition.network, definition.head, data)
            .map_err(|text| wrong("space.model", text))?;
        let (graph, fresh) = match definition.head {
            Head::Kept => (definition.network.clone(), Vec::new()),
            Head::New => {
                let replaced = head::with_new_head(&definition.network, data.classes);
                let replaced = replaced.ok_or_else(|| wrong("space.head", no_last_layer()))?;
                replaced.map_err(|error| wrong("space.head", error.to_string()))?
            }
        };
        let graph = with_stages(graph);
        let stages = stage_count(&graph);
        let searched = definition.blocks.contains(&BlockOption::LeftOut);
        let blocks = if searched { residual_blocks(&graph) } else { Vec::new() };
        if searched && blocks.is_empty() {
            let text = "the network has no residual block that could be left out; leave this out";
            return Err(wrong("space.blocks", text.to_owned()));
        }
        let sides = match &definition.resolution[..] {
            [] => vec![definition.network.input().space()[0]],
            sides => sides.to_vec(),
        };
        let choices = choices(&definition, &sides, stages, blocks.len());
        let base = Arc::new(Base { graph, fresh, blocks, weights: definition.weights });
        let definition = Box::new(definition);
        let space = Self { definition, data, base, sides, stages, choices };
        for &resolution in &space.sides {
            let graph = Variant { resolution, ..space.whole() }.graph();
            let at = |text: String| format!("with images of {resolution}x{resolution}, {text}");
            let field = if space.definition.resolution.is_empty() {
                "space.model"
            } else {
                "space.resolution"
            };
            let graph = graph.map_err(|error| wrong(field, at(error.to_string())))?;
            let huge = graph.values().find(|(_, v)| v.shape.elements() > MAX_VALUE_ELEMENTS);
            if let Some((_, value)) = huge {
                let text = format!(
                    "{} has {} numbers; the limit is {MAX_VALUE_ELEMENTS}",
                    value.name,
                    value.shape.elements()
                );
                return Err(wrong(field, at(text)));
            }
        }
        Ok(space)
    }

    /// The definition.
    pub fn definition(&self) -> &ModelDefinition {
        &self.definition
    }

    /// What all candidates share.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// The whole network, trained further, at the largest size of its input that is offered.
    pub fn whole(&self) -> Variant {
        Variant {
            base: Arc::clone(&self.base),
            resolution: self.sides.iter().copied().max().expect("at least one"),
            left_out: Vec::new(),
            widths: vec![1.0; self.stages],
            trained: true,
        }
    }

    /// The whole network at the size that it was imported with.
    pub fn original(&self) -> Variant {
        Variant { resolution: self.base.graph.input().space()[0], ..self.whole() }
    }

    /// Image channels and classes of every network of the space.
    pub fn data(&self) -> DataShape {
        self.data
    }

    /// The decisions, in genotype order.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Whether every candidate is the network as it came, so that only recipes differ.
    pub(crate) fn searches_recipes_only(&self) -> bool {
        let ModelDefinition { width, blocks, train, .. } = &*self.definition;
        let alone = self.sides.len() == 1 && width.len() == 1 && blocks.len() == 1;
        alone && *train == [Further::AsItIs]
    }

    /// The candidate that a genotype of this space describes.
    ///
    /// # Panics
    /// If the genotype belongs to another space.
    pub fn decode(&self, genotype: &Genotype) -> Candidate {
        Reader::read(genotype, self.choices.len(), |reader| self.read(reader))
    }

    pub(crate) fn read(&self, reader: &mut Reader<'_>) -> Candidate {
        let d = &self.definition;
        let resolution = self.sides[reader.pick(true)];
        let offered = d.recipe.stage_shares();
        let (mut widths, mut shares) = (Vec::new(), vec![Vec::new(); offered.len()]);
        for _ in 0..self.stages {
            widths.push(d.width[reader.pick(true)]);
            for (shares, offered) in shares.iter_mut().zip(&offered) {
                shares.push(offered[reader.pick(true)]);
            }
        }
        let mut left_out = Vec::new();
        for block in 0..self.base.blocks.len() {
            if d.blocks[reader.pick(true)] == BlockOption::LeftOut {
                left_out.push(block);
            }
        }
        let trained = d.train[reader.pick(true)] == Further::Trained;
        let base = Arc::clone(&self.base);
        let variant = Variant { base, resolution, left_out, widths, trained };
        let recipe = d.recipe.decode(&shares, &variant, reader);
        Candidate { architecture: Design::Model(variant), recipe }
    }

    /// The least of each cost. `None` if the smallest variant is no network.
    pub fn least(&self) -> Option<Extent> {
        Some(self.extent_of(&self.smallest()?))
    }

    /// The greatest of each cost; see [`ModelSpace::least`].
    pub fn greatest(&self) -> Option<Extent> {
        Some(self.extent_of(&self.greatest_network()?))
    }

    /// A lower bound, in bytes, of the peak memory of every candidate: the smallest image.
    pub fn least_peak_memory(&self) -> u64 {
        let side = self.sides.iter().copied().min().unwrap_or(1);
        u64::from(self.data.channels) * u64::from(side).pow(2) * self.bytes(u64::min)
    }

    /// An upper bound, in bytes, of the peak memory of every candidate. `u64::MAX` if it is not
    /// known.
    pub fn greatest_peak_memory(&self) -> u64 {
        let network = self.greatest_network();
        let peak = network.map(|network| network.cost().peak_elements);
        peak.map_or(u64::MAX, |elements| elements * self.bytes(u64::max))
    }

    fn bytes(&self, pick: fn(u64, u64) -> u64) -> u64 {
        let bytes = self.definition.recipe.precisions().into_iter().map(Precision::weight_bytes);
        bytes.reduce(pick).unwrap_or(1)
    }

    fn extent_of(&self, network: &Graph) -> Extent {
        let cost = network.cost();
        Extent { macs: cost.macs, parameters: cost.parameters }
    }

    /// The smallest input, every block left out that may be, and as few channels as possible.
    fn smallest(&self) -> Option<Graph> {
        let d = &self.definition;
        let width = d.width.iter().copied().fold(1.0, f64::min);
        let all = d.blocks.iter().all(|option| *option == BlockOption::Kept);
        let left_out = if all { Vec::new() } else { (0..self.base.blocks.len()).collect() };
        let resolution = *self.sides.iter().min()?;
        let widths = vec![width; self.stages];
        let prunings = d.recipe.most_pruned(self.stages)?;
        let graph = Variant { resolution, left_out, widths, ..self.whole() }.graph().ok()?;
        Some(prunings.iter().fold(graph, crate::pruned))
    }

    /// The largest input, and as many blocks and channels as possible.
    fn greatest_network(&self) -> Option<Graph> {
        let d = &self.definition;
        let width = d.width.iter().copied().fold(0.0, f64::max);
        let prunings = d.recipe.least_pruned(self.stages);
        let widths = vec![width; self.stages];
        let graph = Variant { widths, ..self.whole() }.graph().ok()?;
        Some(prunings.iter().fold(graph, crate::pruned))
    }
}

impl Variant {
    /// A network by itself, as it is, for images of `side` × `side` pixels; with `None`, of the
    /// size that it has.
    ///
    /// # Errors
    /// What keeps it from classifying such images. The field is `model` or `resolution`.
    pub fn alone(
        network: Graph,
        weights: [u8; 32],
        side: Option<u32>,
        data: DataShape,
    ) -> Result<Self, SpaceError> {
        let unusable = |side: &u32| !(1..=1 << 16).contains(side);
        if let Some(side) = side.filter(unusable) {
            let message = format!("{side} cannot be the side of an image");
            return Err(SpaceError { field: "resolution".to_owned(), message });
        }
        let recipe = RecipeSpace::none();
        let definition = ModelDefinition {
            network,
            weights,
            head: Head::Kept,
            resolution: side.into_iter().collect(),
            width: vec![1.0],
            blocks: vec![BlockOption::Kept],
            train: vec![Further::AsItIs],
            recipe,
        };
        let space = ModelSpace::build(definition, data).map_err(|mut errors| {
            let SpaceError { field, message } = errors.swap_remove(0);
            SpaceError { field: field.trim_start_matches("space.").to_owned(), message }
        })?;
        Ok(Self { trained: false, ..space.whole() })
    }
}

/// What keeps a network from classifying images of these data.
fn fits(network: &Graph, head: Head, data: DataShape) -> Result<(), String> {
    let names = |ids: &mut dyn Iterator<Item = edgesmith_graph::ValueId>| {
        let names: Vec<&str> = ids.map(|id| &*network.value(id).name).collect();
        names.join(", ")
    };
    if network.inputs().len() != 1 {
        let names = names(&mut network.inputs());
        return Err(format!(
            "it has {} inputs ({names}); a study trains networks of one",
            network.inputs().len()
        ));
    }
    if network.outputs().len() != 1 {
        let names = names(&mut network.outputs().iter().copied());
        let count = network.outputs().len();
        return Err(format!("it has {count} outputs ({names}); a study trains networks of one"));
    }
    let nodes = network.nodes().len();
    if nodes > MAX_NODES {
        return Err(format!("it has {nodes} layers; at most {MAX_NODES} are allowed"));
    }
    let input = network.input();
    if input.space().len() != 2 {
        return Err(format!("its input is {input}; a study trains networks that read images"));
    }
    if input.space()[0] != input.space()[1] {
        return Err(format!(
            "its input is {input}; a study trains networks that read square images"
        ));
    }
    if input.channels() != data.channels {
        let (takes, have) = (input.channels(), data.channels);
        return Err(format!("it reads images of {takes} channels, but the data have {have}"));
    }
    let output = network.output();
    if output.positions() != 1 {
        return Err(format!(
            "its output is {output}; a study trains classifiers, whose output is one number for each class"
        ));
    }
    if !output.space().is_empty() {
        return Err(format!(
            "its output is {output}; let it end in a flatten, so that it is {}",
            output.channels()
        ));
    }
    let (gives, classes) = (output.channels(), data.classes);
    if head == Head::Kept && gives != classes {
        let mend = match last_layer(network) {
            Some(_) => NEW_HEAD,
            None => "its last layer cannot be replaced, so it needs other data",
        };
        return Err(format!("it gives {gives} classes, but the data have {classes}; {mend}"));
    }
    Ok(())
}

/// Whether a network has a layer with a weight that computes a value of this name.
fn is_layer(graph: &Graph, name: &str) -> bool {
    layer_names(graph).any(|layer| layer == name)
}

/// The names of the layers of a network that have a weight, in order.
pub fn layer_names(graph: &Graph) -> impl Iterator<Item = &str> {
    let weighted = graph.nodes().filter(|(_, node)| graph.has_weight(node));
    weighted.map(|(_, node)| &*graph.value(node.output).name)
}

/// The names are whole, so that they can be copied; those that begin with what was given come
/// first.
fn unknown_layer(graph: &Graph, name: &str) -> String {
    const MANY: usize = 12;
    const LETTERS: usize = 1000;
    let mut known: Vec<&str> = layer_names(graph).collect();
    let begun = name.trim_end_matches('…');
    known.sort_by_key(|layer| begun.is_empty() || !layer.starts_with(begun));
    let mut letters = 0;
    let fits = |layer: &&&str| {
        letters += layer.chars().count();
        letters <= LETTERS
    };
    let fitting = known.iter().take(MANY).take_while(fits).count().max(1).min(known.len());
    let more = match known.len() - fitting {
        0 => String::new(),
        more => format!(", and {more} more; `edgesmith inspect` shows all"),
    };
    let some = known[..fitting].join(", ");
    format!("the network has no layer {name:?} with weights; it has {some}{more}")
}

fn no_last_layer() -> String {
    "the network does not end in a linear layer or convolution that could be replaced; leave head \
     out"
    .to_owned()
}

fn choices(d: &ModelDefinition, sides: &[u32], stages: usize, blocks: usize) -> Vec<Choice> {
    let mut all = vec![choice("resolution", sides)];
    for stage in 1..=stages {
        all.push(choice(&format!("stage{stage}.width"), &d.width));
        all.extend(d.recipe.stage_choices(stage));
    }
    let options: Vec<&str> = d.blocks.iter().map(|option| option.name()).collect();
    all.extend((1..=blocks).map(|block| choice(&format!("block{block}"), &options)));
    let options: Vec<&str> = d.train.iter().map(|option| option.name()).collect();
    all.push(choice("train", &options));
    all.extend(d.recipe.choices());
    all
}
