//! A residual network as the space.

use edgesmith_graph::{
    Add, BatchNormalization, Clip, Conv, Flatten, GlobalAveragePool, Graph, GraphBuilder, Linear,
    Op, Place, Role, Shape, ValueId,
};

use super::*;
use crate::{
    CanonicalHash, DistilSpace, FineTuneSpace, FlatRecipe, Genotype, Importance, PruneSpace,
    PruneUnit, QuantizeSpace, Rewind, Scope, Shrink, Space, Step, StepSpace,
};

const DATA: DataShape = DataShape { channels: 3, classes: 5 };

/// Adds layers after a value; nodes are called `a`, `b`, ….
struct Net(GraphBuilder, u8);

impl Net {
    fn node(&mut self, op: impl Into<Op>, inputs: &[ValueId], shape: &[u32]) -> ValueId {
        let name = char::from(b'a' + self.1).to_string();
        self.1 += 1;
        let weight = (!shape.is_empty())
            .then(|| self.0.parameter(format!("{name}.weight"), shape, Role::Weight).unwrap());
        let parameters: Vec<_> = weight.into_iter().collect();
        self.0.node(name, op, inputs, &parameters, Place::default()).unwrap()
    }

    fn conv(&mut self, input: ValueId, filters: u32, stride: u32) -> ValueId {
        let channels = self.0.shape(input).channels();
        self.node(Conv::dense(3, stride), &[input], &[filters, channels, 3, 3])
    }

    fn relu(&mut self, input: ValueId) -> ValueId {
        self.node(Clip::RELU, &[input], &[])
    }
}

/// A stem, a block with an identity, one with a projection and a stride, and one with an identity.
fn network() -> Graph {
    let mut net = Net(GraphBuilder::new(), 0);
    let image = net.0.input("image", Shape::new(3, &[8, 8]).unwrap()).unwrap();
    let mut x = net.conv(image, 8, 1);
    x = net.relu(x);
    for stride in [1, 2, 1] {
        let filters = if stride == 2 { 16 } else { net.0.shape(x).channels() };
        let first = net.conv(x, filters, stride);
        let first = net.relu(first);
        let second = net.conv(first, filters, 1);
        let skip = if stride == 2 { net.conv(x, filters, 2) } else { x };
        x = net.node(Add, &[second, skip], &[]);
        x = net.relu(x);
    }
    x = net.node(GlobalAveragePool, &[x], &[]);
    x = net.node(Linear, &[x], &[5, 16]);
    net.0.finish(&[x]).unwrap()
}

fn definition() -> ModelDefinition {
    ModelDefinition {
        network: network(),
        weights: [7; 32],
        head: Head::Kept,
        resolution: vec![],
        width: vec![1.0],
        blocks: vec![BlockOption::Kept],
        train: vec![Further::Trained],
        recipe: RecipeSpace::Flat(FlatRecipe {
            prune: vec![0.0, 0.5],
            precision: vec![Precision::Fp32, Precision::Int8],
            alpha: vec![0.0, 0.5],
            temperature: vec![4.0],
        }),
    }
}

fn space(definition: ModelDefinition) -> ModelSpace {
    ModelSpace::new(definition, DATA).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn refused(definition: ModelDefinition, data: DataShape) -> String {
    let errors = ModelSpace::new(definition, data).unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The candidate with these options, and the first one of every other choice.
fn candidate(space: &ModelSpace, options: &[(&str, u16)]) -> (Candidate, CanonicalHash) {
    let genotype = genotype(space, options);
    let hash = Space::Model(space.clone()).canonical_hash(&genotype).unwrap();
    (space.decode(&genotype), hash)
}

fn genotype(space: &ModelSpace, options: &[(&str, u16)]) -> Genotype {
    let index = |choice: &Choice| {
        options.iter().find(|(name, _)| *name == choice.name).map_or(0, |(_, index)| *index)
    };
    for (name, _) in options {
        assert!(space.choices().iter().any(|choice| choice.name == *name), "{name}");
    }
    Genotype(space.choices().iter().map(index).collect())
}

#[test]
fn stages_are_the_runs_between_changes_of_resolution() {
    let graph = with_stages(network());
    let stages: Vec<Option<u32>> = graph.nodes().map(|(_, node)| node.place.stage).collect();
    let expected = [[Some(0); 7].as_slice(), &[Some(1); 11], &[None; 2]].concat();
    assert_eq!((stages, stage_count(&graph)), (expected, 2));
    let part = |index: usize| graph.nodes().nth(index).unwrap().1.place.part.to_string();
    assert_eq!((part(0), part(1)), ("a".to_owned(), "b".to_owned()));
}

#[test]
fn values_of_one_position_within_a_stage_belong_to_it() {
    let mut net = Net(GraphBuilder::new(), 0);
    let image = net.0.input("image", Shape::new(3, &[8, 8]).unwrap()).unwrap();
    let x = net.conv(image, 8, 2);
    let gate = net.node(GlobalAveragePool, &[x], &[]);
    let gate = net.node(Linear, &[gate], &[8, 8]);
    let x = net.node(edgesmith_graph::Multiply, &[x, gate], &[]);
    let x = net.node(Flatten, &[x], &[]);
    let graph = with_stages(net.0.finish(&[x]).unwrap());
    let stages: Vec<Option<u32>> = graph.nodes().map(|(_, node)| node.place.stage).collect();
    assert_eq!(stages, [Some(0), Some(0), Some(0), Some(0), None]);
}

#[test]
fn blocks_that_add_to_their_own_input_can_be_left_out() {
    let graph = network();
    let blocks = residual_blocks(&graph);
    let names = |block: &ResidualBlock| -> String {
        block.nodes.iter().map(|id| &*graph.value(graph.node(*id).output).name).collect()
    };
    assert_eq!(blocks.iter().map(names).collect::<Vec<_>>(), ["cdef", "nopq"]);
    assert_eq!(&*graph.value(blocks[0].input).name, "b");

    // What is computed inside must not be read outside.
    let mut net = Net(GraphBuilder::new(), 0);
    let image = net.0.input("image", Shape::new(3, &[8, 8]).unwrap()).unwrap();
    let inside = net.conv(image, 3, 1);
    let sum = net.node(Add, &[inside, image], &[]);
    let twice = net.node(Add, &[sum, inside], &[]);
    let graph = net.0.finish(&[twice]).unwrap();
    assert_eq!(residual_blocks(&graph), []);
}

#[test]
fn only_recipes_have_a_first_one() {
    let fixed = || ModelDefinition { train: vec![Further::AsItIs], ..definition() };
    let first = |definition| Space::Model(space(definition)).first_recipe();
    let all = vec![0; space(fixed()).choices().len()];
    assert_eq!(first(fixed()).unwrap().indices(), all);
    assert_eq!(first(definition()), None);
    assert_eq!(first(ModelDefinition { width: vec![1.0, 0.5], ..fixed() }), None);
}

#[test]
fn a_genotype_decodes_to_a_variant_and_a_recipe() {
    let definition = ModelDefinition {
        resolution: vec![8, 4],
        width: vec![1.0, 0.5],
        blocks: vec![BlockOption::Kept, BlockOption::LeftOut],
        train: vec![Further::Trained, Further::AsItIs],
        ..definition()
    };
    let space = space(definition);
    let names: Vec<&str> = space.choices().iter().map(|choice| &*choice.name).collect();
    let expected = [
        "resolution",
        "stage1.width",
        "stage1.prune",
        "stage2.width",
        "stage2.prune",
        "block1",
        "block2",
        "train",
        "precision",
        "alpha",
        "temperature",
    ];
    assert_eq!(names, expected);
    let (whole, first) = candidate(&space, &[]);
    assert_eq!(whole.architecture.to_string(), "r8");
    assert_eq!(whole.graph(DATA).unwrap(), with_stages(network()));

    let options = [("resolution", 1), ("block2", 1), ("stage2.width", 1), ("stage1.prune", 1)];
    let (small, _) = candidate(&space, &options);
    assert_eq!(small.architecture.to_string(), "r4 | width 100/50% | without block 2");
    let graph = small.graph(DATA).unwrap();
    assert_eq!(graph.input().to_string(), "3x4x4");
    assert!(graph.value_named("p").is_none() && graph.value_named("j").is_some());
    assert_eq!(graph.shape(graph.value_named("j").unwrap()).to_string(), "8x2x2");
    assert_eq!(
        small.pruned_graph(DATA).unwrap().shape(graph.value_named("c").unwrap()).channels(),
        4
    );

    // What is left as it is learns from no teacher.
    let (as_it_is, hash) = candidate(&space, &[("train", 1), ("alpha", 1)]);
    assert_eq!(as_it_is.recipe.distillation(), None);
    assert_eq!(hash, candidate(&space, &[("train", 1)]).1);
    assert_ne!(hash, first);
    // Blocks of one shape are different candidates, and so are other weights.
    let one = ModelDefinition { width: vec![0.5, 1.0], ..space.definition().clone() };
    let others = self::space(ModelDefinition { weights: [8; 32], ..one });
    let hashes = [
        first,
        candidate(&space, &[("block1", 1)]).1,
        candidate(&space, &[("block2", 1)]).1,
        candidate(&others, &[("stage1.width", 1), ("stage2.width", 1)]).1,
    ];
    let distinct: std::collections::HashSet<_> = hashes.into_iter().collect();
    assert_eq!(distinct.len(), 4);
}

#[test]
fn choices_of_what_is_not_there_have_no_effect() {
    let variants = ModelDefinition {
        width: vec![1.0, 0.5],
        blocks: vec![BlockOption::Kept, BlockOption::LeftOut],
        train: vec![Further::Trained, Further::AsItIs],
        ..definition()
    };
    let quantize = QuantizeSpace {
        mixed: ["a", "e", "h"].map(str::to_owned).to_vec(),
        ..QuantizeSpace::default()
    };
    let steps = RecipeSpace::Steps(vec![StepSpace::Quantize(quantize)]);
    let flat = space(variants.clone());
    let steps = space(ModelDefinition { recipe: steps, ..variants });
    let inactive = |space: &ModelSpace, options: &[(&str, u16)]| -> Vec<String> {
        let genotype = genotype(space, options);
        let whole = Space::Model(space.clone());
        let hash = whole.canonical_hash(&genotype);
        let active = whole.active(&genotype);
        let off = space.choices().iter().enumerate().filter(|(place, _)| !active[*place]);
        let names = off.map(|(place, choice)| {
            for option in 0..choice.options.len() as u16 {
                let mut other = genotype.clone();
                other.0[place] = option;
                assert_eq!(whole.canonical_hash(&other), hash, "{}", choice.name);
            }
            choice.name.clone()
        });
        names.collect()
    };
    assert_eq!(inactive(&flat, &[]), ["temperature"]);
    assert!(inactive(&flat, &[("alpha", 1)]).is_empty());
    // What is left as it is learns from no teacher.
    assert_eq!(inactive(&flat, &[("train", 1), ("alpha", 1)]), ["alpha", "temperature"]);
    // The first block is c, d, e and f.
    assert!(inactive(&steps, &[]).is_empty());
    assert!(inactive(&steps, &[("block2", 1)]).is_empty());
    assert_eq!(inactive(&steps, &[("block1", 1), ("quantize.layer.e", 1)]), ["quantize.layer.e"]);
}

fn tune(epochs: &[u32]) -> FineTuneSpace {
    FineTuneSpace::plain(epochs.to_vec(), Vec::new())
}

fn distil(alpha: &[f64]) -> StepSpace {
    let alpha = alpha.iter().map(|alpha| (*alpha).into()).collect();
    StepSpace::Distil(DistilSpace::of_answers(alpha, vec![2.0.into(), 4.0.into()]))
}

fn prune(share: &[f64], rounds: u32, epochs: u32) -> StepSpace {
    StepSpace::Prune(PruneSpace {
        unit: PruneUnit::Channels,
        of: Scope::Macs,
        share: share.to_vec(),
        at_most: Vec::new(),
        importance: vec![Importance::L1],
        rounds: vec![rounds],
        epochs: vec![epochs],
        multiple_of: vec![1.into()],
        rewind: vec![Rewind::None],
    })
}

/// A space of these recipes for the network as it is, or trained further.
fn recipes(steps: &[StepSpace], train: Further) -> ModelSpace {
    let recipe = RecipeSpace::Steps(steps.to_vec());
    space(ModelDefinition { recipe, train: vec![train], ..definition() })
}

fn learned(space: &ModelSpace, options: &[(&str, u16)]) -> usize {
    let steps = space.decode(&genotype(space, options)).recipe.steps;
    steps.iter().filter(|step| matches!(step, Step::Distil(_))).count()
}

/// Nothing learns from a teacher in a recipe that removes nothing and trains no integers.
#[test]
fn what_is_learned_from_a_teacher_has_no_effect_without_a_training() {
    let steps = [
        distil(&[0.5, 0.0]),
        prune(&[0.0, 0.5], 1, 1),
        StepSpace::FineTune(tune(&[])),
        distil(&[0.0, 0.9]),
        StepSpace::Quantize(QuantizeSpace::default()),
        StepSpace::QuantizeAwareTrain(tune(&[0, 1])),
    ];
    let with = recipes(&steps, Further::AsItIs);
    let off = |options: &[(&str, u16)]| -> Vec<String> {
        let genotype = genotype(&with, options);
        let active = Space::Model(with.clone()).active(&genotype);
        let names = with.choices().iter().zip(active).filter(|(_, active)| !active);
        names.map(|(choice, _)| choice.name.clone()).filter(|name| name.contains("dist")).collect()
    };
    let distillations = |options: &[(&str, u16)]| learned(&with, options);
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let first = ["distil.alpha", "distil.temperature"];
    let second = ["distil2.alpha", "distil2.temperature"];
    assert_eq!((off(&[]), distillations(&[])), (owned(&[first, second].concat()), 0));
    let pruned = ("prune.share", 1);
    assert_eq!((off(&[pruned]), distillations(&[pruned])), (owned(&second), 1));
    let trained = ("quantize-aware-train.epochs", 1);
    // What the first one says counts as long as the second one is off.
    let off_yet = vec!["distil2.temperature".to_owned()];
    assert_eq!((off(&[trained]), distillations(&[trained])), (off_yet, 1));
    let both = [trained, ("distil2.alpha", 1)];
    assert_eq!((off(&both), distillations(&both)), (owned(&first), 1));
    let all = [trained, ("distil2.alpha", 1), pruned];
    assert_eq!((off(&all), distillations(&all)), (Vec::new(), 2));
}

/// No choice switches the training off in these, so the user is to be told that there is none.
#[test]
fn a_distillation_that_no_training_can_follow_stays() {
    let fp32 = QuantizeSpace { precision: vec![Precision::Fp32], ..QuantizeSpace::default() };
    for rest in [
        vec![],
        vec![StepSpace::FineTune(tune(&[0]))],
        vec![prune(&[0.0], 1, 1), StepSpace::FineTune(tune(&[1]))],
        vec![prune(&[0.0], 2, 1)],
        vec![prune(&[0.5], 2, 0)],
        vec![StepSpace::Quantize(fp32), StepSpace::QuantizeAwareTrain(tune(&[1]))],
        vec![distil(&[0.9]), StepSpace::FineTune(tune(&[1]))],
    ] {
        let steps = [vec![distil(&[0.5])], rest].concat();
        let space = recipes(&steps, Further::AsItIs);
        let all = steps.iter().filter(|step| matches!(step, StepSpace::Distil(_))).count();
        assert_eq!(learned(&space, &[]), all, "{steps:?}");
    }
}

/// All genotypes of a space with distillations that are on or off, before trainings that are.
#[test]
fn no_inactive_choice_says_what_is_learned() {
    let steps = [
        distil(&[0.5, 0.0]),
        StepSpace::FineTune(tune(&[0, 1])),
        distil(&[0.9]),
        distil(&[0.25, 0.0]),
        prune(&[0.0, 0.5], 2, 1),
        StepSpace::Quantize(QuantizeSpace::default()),
        StepSpace::QuantizeAwareTrain(tune(&[0, 1])),
        distil(&[0.75, 0.0]),
    ];
    for train in [Further::AsItIs, Further::Trained] {
        for first in [&steps[..], &[&[prune(&[0.0], 1, 1)], &steps[..]].concat()] {
            let own = recipes(first, train);
            let choices: Vec<usize> = own.choices().iter().map(|c| c.options.len()).collect();
            let space = Space::Model(own);
            let all: usize = choices.iter().product();
            assert!(all < 5000, "{all}");
            let mut off = 0;
            for mut rest in 0..all {
                let option = |options: &usize| {
                    let option = rest % options;
                    rest /= options;
                    option as u16
                };
                let genotype = Genotype(choices.iter().map(option).collect());
                let hash = space.canonical_hash(&genotype).unwrap();
                let (active, ordered) = (space.active(&genotype), space.active_in_order(&genotype));
                for (place, options) in choices.iter().enumerate() {
                    let mut other = genotype.clone();
                    other.0[place] = (other.0[place] + 1) % *options as u16;
                    // A policy does not know yet what comes after a choice.
                    let (before, after) = (&ordered[..=place], space.active_in_order(&other));
                    assert_eq!(before, &after[..=place], "{genotype:?} {place}");
                    if !active[place] {
                        off += 1;
                        assert_eq!(space.canonical_hash(&other), Ok(hash), "{genotype:?} {place}");
                        assert_eq!(space.active(&other), active, "{genotype:?} {place}");
                    }
                }
            }
            assert!(off > all, "{off} of {all}");
        }
    }
}

#[test]
fn costs_of_all_candidates_are_within_the_bounds() {
    let definition = ModelDefinition {
        resolution: vec![4, 8, 6],
        width: vec![1.0, 0.5],
        blocks: vec![BlockOption::LeftOut, BlockOption::Kept],
        ..definition()
    };
    let space = space(definition);
    let (least, greatest) = (space.least().unwrap(), space.greatest().unwrap());
    let memory = space.least_peak_memory()..=space.greatest_peak_memory();
    let counts: Vec<u16> = space.choices().iter().map(|c| c.options.len() as u16).collect();
    let (mut met_least, mut met_greatest) = (false, false);
    for code in 0..counts.iter().map(|&n| u32::from(n)).product::<u32>() {
        let mut rest = code;
        let digit = |n: &u16| {
            let digit = rest % u32::from(*n);
            rest /= u32::from(*n);
            digit as u16
        };
        let candidate = space.decode(&Genotype(counts.iter().map(digit).collect()));
        let graph = candidate.pruned_graph(DATA).unwrap();
        let cost = crate::Cost::of(&graph, candidate.recipe.precision());
        assert!((least.macs..=greatest.macs).contains(&cost.macs));
        assert!((least.parameters..=greatest.parameters).contains(&cost.parameters));
        assert!(memory.contains(&cost.peak_memory_bytes), "{cost:?}");
        met_least |= cost.macs == least.macs;
        met_greatest |= cost.macs == greatest.macs;
    }
    assert!(met_least && met_greatest);
}

#[test]
fn a_new_last_layer_gives_the_classes_of_the_data() {
    let data = DataShape { classes: 7, ..DATA };
    let said = refused(definition(), data);
    assert_eq!(
        said,
        "space.model: it gives 5 classes, but the data have 7; write head = \"new\" in [space] to \
         replace its last layer"
    );
    assert!(said.ends_with(NEW_HEAD), "{said}");
    let definition = ModelDefinition { head: Head::New, ..definition() };
    let space = ModelSpace::new(definition, data).unwrap();
    let graph = space.whole().graph().unwrap();
    assert_eq!(graph.output().channels(), 7);
    assert_eq!(space.base().fresh, ["new_head.weight", "new_head.bias"]);
    assert!(graph.parameter_named("t.weight").is_none());
    for name in &space.base().fresh {
        assert!(graph.parameter_named(name).is_some(), "{name}");
    }
}

#[test]
fn a_convolution_before_pooling_is_a_last_layer_too() {
    let mut net = Net(GraphBuilder::new(), 0);
    let image = net.0.input("image", Shape::new(3, &[8, 8]).unwrap()).unwrap();
    let x = net.conv(image, 5, 2);
    let x = net.node(GlobalAveragePool, &[x], &[]);
    let graph = net.0.finish(&[x]).unwrap();
    let definition = ModelDefinition { network: graph, head: Head::New, ..definition() };
    let space = ModelSpace::new(definition, DataShape { classes: 2, ..DATA }).unwrap();
    assert_eq!(space.whole().graph().unwrap().output().channels(), 2);
}

#[test]
fn networks_that_do_not_fit_are_told_with_the_mend() {
    let gray = DataShape { channels: 1, ..DATA };
    let said = refused(definition(), gray);
    assert_eq!(said, "space.model: it reads images of 3 channels, but the data have 1");
    // The classifier after a flatten fits one size only.
    let mut net = Net(GraphBuilder::new(), 0);
    let image = net.0.input("image", Shape::new(3, &[4, 4]).unwrap()).unwrap();
    let x = net.node(Flatten, &[image], &[]);
    let x = net.node(Linear, &[x], &[5, 48]);
    let flat = net.0.finish(&[x]).unwrap();
    let sized = ModelDefinition { network: flat.clone(), resolution: vec![4, 8], ..definition() };
    let said = refused(sized, DATA);
    assert!(said.starts_with("space.resolution: with images of 8x8, node \"b\""), "{said}");
    let blocks = vec![BlockOption::Kept, BlockOption::LeftOut];
    let said = refused(ModelDefinition { network: flat, blocks, ..definition() }, DATA);
    assert!(said.contains("space.blocks: the network has no residual block"), "{said}");
    let mut bad = definition();
    bad.width = vec![0.0];
    let RecipeSpace::Flat(flat) = &mut bad.recipe else { panic!("a recipe in short form") };
    flat.prune = vec![1.0];
    let said = refused(bad, DATA);
    assert!(said.contains("space.width: 0.0") && said.contains("recipe.prune: 1.0"), "{said}");
    let train = vec![Further::Trained, Further::AsItIs];
    let said = refused(ModelDefinition { head: Head::New, train, ..definition() }, DATA);
    assert!(said.contains("space.train: a network with a new last layer"), "{said}");
}

#[test]
fn layers_that_there_are_are_named_in_full() {
    let named = |number: usize, name: &dyn Fn(usize) -> String, given: &str| {
        let mut net = GraphBuilder::new();
        let mut x = net.input("image", Shape::new(3, &[8, 8]).unwrap()).unwrap();
        for place in 0..number {
            let weight = net.parameter(format!("{place}"), &[3, 3, 1, 1], Role::Weight).unwrap();
            x = net
                .node(name(place), Conv::dense(1, 1), &[x], &[weight], Place::default())
                .unwrap();
        }
        unknown_layer(&net.finish(&[x]).unwrap(), given)
    };
    // As exporters join the names of what became one layer.
    let long = |place: usize| format!("model/relu_{place};{}", "model/batch;".repeat(20));
    let text = named(2, &long, "c");
    let expected =
        format!("the network has no layer \"c\" with weights; it has {}, {}", long(0), long(1));
    assert_eq!(text, expected);
    // The beginning of a name is enough to find it.
    let text = named(9, &long, "model/relu_7;mod…");
    assert!(text.contains(&format!("; it has {}, {}, ", long(7), long(0))), "{text}");
    assert!(text.ends_with(", and 6 more; `edgesmith inspect` shows all"), "{text}");
    let text = named(14, &|place| format!("conv{place}"), "c");
    assert!(text.ends_with(" conv10, conv11, and 2 more; `edgesmith inspect` shows all"), "{text}");
}

#[test]
fn scales_of_normalisation_become_small_only_where_there_are_some() {
    let of = |network: &Graph, shrinks: &[&[Shrink]]| {
        let step = |shrink: &&[Shrink]| {
            let usual = FineTuneSpace::plain(vec![1], vec![]);
            StepSpace::FineTune(FineTuneSpace { shrink: shrink.to_vec(), ..usual })
        };
        let recipe = RecipeSpace::Steps(shrinks.iter().map(step).collect());
        ModelDefinition { network: network.clone(), recipe, ..definition() }
    };
    let folded = network();
    let shrinks: [&[_]; 3] =
        [&[Shrink::Scales], &[Shrink::Filters], &[Shrink::None, Shrink::Scales]];
    let text = "the network has no batch normalisation (it is folded in most exports), so it has \
                no scales that could become small; use \"filters\", or leave the setting out";
    let said = [0, 2].map(|step| format!("recipe.steps[{step}].shrink: {text}")).join("; ");
    assert_eq!(refused(of(&folded, &shrinks), DATA), said);
    ModelSpace::recorded(of(&folded, &shrinks), DATA).unwrap();
    space(of(&folded, &[&[Shrink::None, Shrink::Filters]]));
    // With a batch normalisation behind its convolution.
    let mut net = Net(GraphBuilder::new(), 0);
    let image = net.0.input("image", Shape::new(3, &[8, 8]).unwrap()).unwrap();
    let x = net.conv(image, 6, 2);
    let roles = [Role::Scale, Role::Shift, Role::Mean, Role::Variance];
    let four = roles.map(|role| net.0.parameter(format!("{role:?}"), &[6], role).unwrap());
    let op = BatchNormalization { epsilon: 1e-5 };
    let x = net.0.node("normalized", op, &[x], &four, Place::default()).unwrap();
    let x = net.node(GlobalAveragePool, &[x], &[]);
    let x = net.node(Linear, &[x], &[5, 6]);
    let normalized = net.0.finish(&[x]).unwrap();
    space(of(&normalized, &shrinks));
}
