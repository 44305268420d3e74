//! Tests of the search space: lowering, cost, hash, variation and encoding.

use edgesmith_graph::{Clip, Function, Graph, Groups, Map, Op};
use edgesmith_search_space::{
    Activation, Architecture, ArchitectureError, CellIdentity, CellSpace, Cost, DataShape, Design,
    FlatRecipe, Genotype, Operation, Precision, Pruning, RecipeSpace, Skip, Space, SpaceDefinition,
    Stage, StageSpace, StagedSpace, Step, pruned, pruning,
};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

const DATA: DataShape = DataShape { channels: 1, classes: 10 };

fn stage(operation: Operation, depth: u32, width: u32, kernel: u32, stride: u32) -> Stage {
    Stage {
        depth,
        width,
        kernel,
        operation,
        stride,
        activation: Activation::Relu,
        squeeze: 0,
        skip: Skip::Add,
    }
}

fn architecture(resolution: u32, stem_width: u32, stages: Vec<Stage>) -> Architecture {
    Architecture { resolution, stem_width, stages }
}

fn lower(architecture: &Architecture) -> Graph {
    architecture.graph(DATA).unwrap()
}

/// The values that the engine computes one by one: those that are not merged into the layer before.
fn layers(graph: &Graph) -> Vec<(&str, &edgesmith_graph::Shape)> {
    graph
        .layers()
        .map(|(_, node)| (&*graph.value(node.output).name, graph.shape(node.output)))
        .collect()
}

/// How many channels each group has.
fn groups(graph: &Graph) -> Vec<usize> {
    graph.channels().groups().iter().map(|group| group.channels.len()).collect()
}

fn definition() -> SpaceDefinition {
    let stage = |stride: Vec<u32>, depth: Vec<u32>| StageSpace {
        depth,
        width: vec![4, 8],
        kernel: vec![3, 5],
        operation: Operation::NAMES.map(str::to_owned).to_vec(),
        expansion: vec![1, 2, 3],
        stride,
        activation: vec![Activation::Relu, Activation::Relu6],
        squeeze: vec![0],
        skip: vec![Skip::Add],
    };
    SpaceDefinition {
        resolution: vec![6, 8],
        stem_width: vec![4, 8],
        stages: vec![stage(vec![1], vec![1, 2]), stage(vec![1, 2], vec![0, 1, 2])],
        recipe: RecipeSpace::Flat(FlatRecipe {
            prune: vec![0.0, 0.05, 0.5],
            precision: Precision::ALL.to_vec(),
            alpha: vec![0.0, 0.5],
            temperature: vec![1.0, 4.0],
        }),
    }
}

fn staged() -> StagedSpace {
    StagedSpace::new(definition(), DATA).unwrap()
}

fn space() -> Space {
    staged().into()
}

fn sample(seed: u64) -> Genotype {
    space().sample(&mut ChaCha8Rng::seed_from_u64(seed))
}

/// The genotype with the first option of every choice, except for the named choices.
fn pick(changes: &[(&str, u16)]) -> Genotype {
    let space = space();
    let index = |name: &str| {
        let found = changes.iter().find(|(changed, _)| *changed == name);
        found.map_or(0, |(_, option)| *option)
    };
    for (name, _) in changes {
        assert!(space.choices().iter().any(|c| c.name == *name), "no choice {name}");
    }
    space.genotype(space.choices().iter().map(|c| index(&c.name)).collect()).unwrap()
}

#[test]
fn the_cost_of_a_plain_network_matches_a_calculation_by_hand() {
    let graph = lower(&architecture(8, 4, vec![stage(Operation::Conv, 1, 6, 5, 2)]));
    let cost = Cost::of(&graph, Precision::Fp32);
    // Stem 3x3 1->4 at 8x8, conv 5x5 4->6 at 4x4, classifier 6->10.
    assert_eq!(cost.macs, 9 * 4 * 64 + 25 * 4 * 6 * 16 + 60);
    assert_eq!(cost.parameters, (9 * 4 + 4) + (25 * 4 * 6 + 6) + (60 + 10));
    // The outputs of the stem and of the stage are the largest pair: 4*64 + 6*16 floats.
    assert_eq!(cost.peak_memory_bytes, (4 * 64 + 6 * 16) * 4);
    assert_eq!(Cost::of(&graph, Precision::Int8).peak_memory_bytes, 4 * 64 + 6 * 16);
}

#[test]
fn an_inverted_residual_keeps_its_input_until_the_addition() {
    let op = Operation::InvertedResidual { expansion: 3 };
    let graph = lower(&architecture(4, 5, vec![stage(op, 1, 5, 3, 1)]));
    let names: Vec<&str> = layers(&graph).iter().map(|(name, _)| *name).collect();
    let block = ["expand", "depthwise", "project", "add"].map(|n| format!("stage1.block1.{n}"));
    assert_eq!(names[0], "stem");
    assert_eq!(names[1..5], block.each_ref().map(String::as_str));
    assert_eq!(names[5..], ["pool", "classifier"]);
    let cost = Cost::of(&graph, Precision::Int8);
    let (maps, hidden) = (16, 15);
    let macs = 9 * 5 * maps + 5 * hidden * maps + 9 * hidden * maps + hidden * 5 * maps + 50;
    assert_eq!(cost.macs, macs);
    // The block's input, its expansion and the depthwise output are alive at the same time.
    assert_eq!(cost.peak_memory_bytes, maps * (5 + hidden + hidden));
    // Both sides of the addition have the same channels, so that they are pruned together.
    let channels = graph.channels();
    let (_, add) = graph.nodes().find(|(_, node)| matches!(node.op, Op::Add(_))).unwrap();
    for side in &add.inputs {
        assert_eq!(channels.of_value(*side), channels.of_value(add.output));
    }
}

#[test]
fn squeeze_and_excitation_stands_before_the_projection_or_after_the_convolution() {
    let names = |operation| {
        let stage = Stage { squeeze: 4, ..stage(operation, 1, 16, 3, 1) };
        let graph = lower(&architecture(4, 8, vec![stage]));
        let names = layers(&graph).into_iter().map(|(name, shape)| {
            let part = name.strip_prefix("stage1.block1.").unwrap_or(name);
            format!("{part} {shape}")
        });
        names.collect::<Vec<_>>()
    };
    let squeeze = |channels: u32| {
        [
            format!("means {channels}"),
            format!("squeeze {}", channels / 4),
            format!("excite {channels}"),
            format!("excite_sigmoid {channels}"),
            format!("scale {channels}x4x4"),
        ]
    };
    let conv = names(Operation::Conv);
    assert_eq!(conv[1], "conv 16x4x4");
    assert_eq!(conv[2..7], squeeze(16));
    let separable = names(Operation::Separable);
    assert_eq!(separable[2..7], squeeze(8));
    assert_eq!(separable[7], "pointwise 16x4x4");
    let inverted = names(Operation::InvertedResidual { expansion: 3 });
    assert_eq!(inverted[3..8], squeeze(24));
    assert_eq!(inverted[8], "project 16x4x4");
    // Never fewer than one channel.
    let stage = Stage { squeeze: 64, ..stage(Operation::Conv, 1, 16, 3, 1) };
    let graph = lower(&architecture(4, 8, vec![stage]));
    let (_, shape) = layers(&graph)[3];
    assert_eq!(shape.channels(), 1);
}

#[test]
fn a_concatenating_skip_adds_channels_where_there_is_no_stride() {
    let strided = Stage { skip: Skip::Concat, ..stage(Operation::Conv, 3, 6, 3, 2) };
    let graph = lower(&architecture(8, 4, vec![strided]));
    let joined: Vec<String> = layers(&graph)
        .into_iter()
        .filter(|(name, _)| name.ends_with("concat"))
        .map(|(_, shape)| shape.to_string())
        .collect();
    assert_eq!(joined, ["12x4x4", "18x4x4"]);
    // Each block's channels are pruned wherever they are read.
    let whole = Cost::of(&graph, Precision::Fp32);
    let half = Cost::of(&pruned(graph, &Pruning::of_stages([0.5])), Precision::Fp32);
    assert!(half.parameters < whole.parameters / 2);
    // An inverted residual is not added as well.
    let op = Operation::InvertedResidual { expansion: 1 };
    let stage = Stage { skip: Skip::Concat, ..stage(op, 1, 4, 3, 1) };
    let graph = lower(&architecture(8, 4, vec![stage]));
    assert!(graph.nodes().all(|(_, node)| !matches!(node.op, Op::Add(_))));
    assert_eq!(graph.shape(graph.value_named("pool").unwrap()).channels(), 8);
}

#[test]
fn each_activation_has_its_operation() {
    let kinds = |activation| {
        let stage = Stage { activation, ..stage(Operation::Conv, 1, 4, 3, 1) };
        let graph = lower(&architecture(4, 4, vec![stage]));
        let named = graph.value_named("stage1.block1.conv.activated").unwrap();
        graph.node(graph.producer(named).unwrap()).op.clone()
    };
    let map = |function| Op::from(Map { function });
    assert_eq!(kinds(Activation::Relu), Clip::RELU.into());
    assert_eq!(kinds(Activation::Relu6), Clip::RELU6.into());
    assert_eq!(kinds(Activation::HardSwish), map(Function::HardSwish));
    assert_eq!(kinds(Activation::Silu), map(Function::Silu));
}

/// Genotypes of studies from before there were more choices stay what they were.
#[test]
fn squeeze_and_skip_are_choices_only_where_they_are_offered() {
    let plain = staged();
    let mut offered = definition();
    offered.stages[1].squeeze = vec![0, 4];
    offered.stages[0].skip = vec![Skip::Add, Skip::Concat];
    let offered = StagedSpace::new(offered, DATA).unwrap();
    let names = |space: &StagedSpace| -> Vec<String> {
        space.choices().iter().map(|choice| choice.name.clone()).collect()
    };
    let (before, after) = (names(&plain), names(&offered));
    assert_eq!(after[..before.len()], before);
    assert_eq!(after[before.len()..], ["stage1.skip", "stage2.squeeze"]);
    let (before, after) = (Space::from(plain.clone()), Space::from(offered.clone()));
    let translation = after.translation(before.choices()).unwrap();
    for seed in 0..20 {
        let old = sample(seed);
        let new = after.genotype(translation.translate(old.indices()).unwrap()).unwrap();
        assert_eq!(offered.decode(&new), plain.decode(&old));
    }
    // One value of its own is a choice without an alternative.
    let mut fixed = definition();
    fixed.stages[0].squeeze = vec![8];
    let fixed = StagedSpace::new(fixed, DATA).unwrap();
    let genotype = fixed.largest().unwrap();
    let Design::Staged(architecture) = fixed.decode(&genotype).architecture else { panic!() };
    assert_eq!(architecture.stages[0].squeeze, 8);
}

#[test]
fn strides_halve_and_a_stride_on_one_position_is_refused() {
    let strided = stage(Operation::Separable, 1, 4, 3, 2);
    let graph = lower(&architecture(5, 4, vec![strided.clone(), strided.clone()]));
    let sides: Vec<Option<u32>> =
        layers(&graph).iter().map(|(_, shape)| shape.space().first().copied()).collect();
    assert_eq!(sides, [Some(5), Some(3), Some(3), Some(2), Some(2), None, None]);
    let deep = architecture(2, 4, vec![strided.clone(), strided.clone()]);
    let error = deep.graph(DATA).unwrap_err();
    assert_eq!(error, ArchitectureError::NothingLeftToStride { stage: 2, stride: 2 });
    // The stride of an absent stage is not applied.
    let absent = Stage { depth: 0, ..strided.clone() };
    assert!(architecture(2, 4, vec![strided, absent]).graph(DATA).is_ok());
}

#[test]
fn pruning_removes_a_share_of_each_stage_and_keeps_at_least_one_channel() {
    let op = Operation::InvertedResidual { expansion: 2 };
    let stages = vec![stage(op, 2, 8, 3, 1), stage(Operation::Conv, 1, 10, 3, 2)];
    let graph = lower(&architecture(8, 8, stages));
    let slim = pruned(graph.clone(), &Pruning::of_stages([0.25, 0.99]));
    for (group, after) in graph.channels().groups().iter().zip(groups(&slim)) {
        let before = group.channels.len();
        let kept = match pruning::stage(&graph, group) {
            None => before,
            Some(0) => before * 3 / 4,
            Some(_) => 1,
        };
        assert_eq!(after, kept);
    }
    assert_eq!((slim.input(), slim.output()), (graph.input(), graph.output()));
    assert_eq!(pruned(graph.clone(), &Pruning::of_stages([])), graph);
}

#[test]
fn padding_rounds_up_all_channels_except_image_and_classes() {
    let op = Operation::InvertedResidual { expansion: 3 };
    let stages = vec![stage(op, 1, 6, 3, 1), stage(op, 1, 8, 3, 1)];
    let graph = lower(&architecture(8, 5, stages));
    assert_eq!(groups(&graph), [1, 5, 15, 6, 18, 8, 10]);
    assert_eq!(groups(&graph.padded(4)), [1, 8, 16, 8, 20, 8, 10]);
    assert_eq!(graph.padded(1), graph);
}

#[test]
fn choices_without_effect_do_not_change_the_hash() {
    let space = space();
    let hash = |changes: &[(&str, u16)]| space.canonical_hash(&pick(changes)).unwrap();
    let base = hash(&[]);
    // A plain convolution has no expansion, an absent stage has no choices in effect, without
    // distillation there is no temperature, and 5 % of 4 channels round to none.
    for inert in ["stage1.expansion", "stage2.width", "stage2.prune", "temperature", "stage1.prune"]
    {
        assert_eq!(hash(&[(inert, 1)]), base, "{inert}");
    }
    for active in ["resolution", "stem_width", "stage1.depth", "stage1.width", "stage1.kernel"] {
        assert_ne!(hash(&[(active, 1)]), base, "{active}");
    }
    for active in ["stage1.operation", "stage1.activation", "precision", "alpha", "stage2.depth"] {
        assert_ne!(hash(&[(active, 1)]), base, "{active}");
    }
    let distilled = hash(&[("alpha", 1)]);
    assert_ne!(hash(&[("alpha", 1), ("temperature", 1)]), distilled);
    assert_ne!(hash(&[("stage1.prune", 2)]), base);
    assert_eq!(base.to_string().parse(), Ok(base));
}

#[test]
fn genotypes_are_found_by_name_in_spaces_with_the_same_options() {
    let mut wider = definition();
    wider.stem_width = vec![2, 8, 4];
    wider.stages[1].depth.push(5);
    let wider = Space::from(StagedSpace::new(wider, DATA).unwrap());
    for seed in 0..50 {
        let genotype = sample(seed);
        let mut named = space().named(&genotype);
        named.reverse();
        assert_eq!(space().genotype_of_names(&named), Ok(genotype.clone()));
        let there = wider.genotype_of_names(&named).unwrap();
        assert_eq!(wider.describe(&there), space().describe(&genotype));
    }
    let mut named = space().named(&sample(1));
    named[0].1 = "7".to_owned();
    let error = space().genotype_of_names(&named).unwrap_err().to_string();
    assert_eq!(error, "resolution is 7, which this study's space does not offer");
    named.remove(0);
    assert_eq!(space().genotype_of_names(&named).unwrap_err().to_string(), "resolution is missing");
    named.push(("colour".to_owned(), "red".to_owned()));
    let error = space().genotype_of_names(&named).unwrap_err().to_string();
    assert_eq!(error, "this study's space has no choice colour");
}

#[test]
fn feature_maps_above_the_limit_are_refused_with_the_layers_name() {
    let wide = |width: u32, kernel: u32| {
        let stage = stage(Operation::Conv, 1, width, kernel, 1);
        architecture(1024, 4, vec![stage]).graph(DATA)
    };
    assert!(wide(16, 1).is_ok());
    let error = wide(17, 1).unwrap_err();
    assert_eq!(
        error,
        ArchitectureError::TooLarge { layer: "stage1.block1.conv".to_owned(), elements: 17 << 20 }
    );
    // Padding is counted: 16 channels are at the limit, and the next layer pads them.
    let stages = vec![stage(Operation::Conv, 1, 16, 1, 1), stage(Operation::Conv, 1, 4, 3, 2)];
    let error = architecture(1024, 4, stages).graph(DATA).unwrap_err();
    assert!(
        matches!(error, ArchitectureError::TooLarge { layer, .. } if layer == "stage2.block1.conv")
    );
}

#[test]
fn the_largest_network_is_valid_in_a_space_with_too_large_ones() {
    let mut definition = definition();
    definition.resolution = vec![8, 4096];
    definition.stem_width = vec![4];
    let space = StagedSpace::new(definition, DATA).unwrap();
    let largest = space.largest().unwrap();
    assert!(space.decode(&largest).graph(DATA).is_ok());
}

proptest! {
    /// The same search without knowing which options are larger: every option of every choice is
    /// tried.
    #[test]
    fn the_largest_network_is_that_of_a_search_through_all_options(
        resolution in prop::sample::subsequence(vec![1, 2, 5, 64, 2048, 4096], 1..4),
        depths in prop::collection::vec(
            prop::sample::subsequence(vec![0, 1, 3], 1..=3).prop_shuffle(), 1..4),
        width in prop::sample::subsequence(vec![1, 4, 40, 4096], 1..=3).prop_shuffle(),
        kernel in prop::sample::subsequence(vec![1, 5, 31], 1..=2).prop_shuffle(),
        expansion in prop::sample::subsequence(vec![1, 2, 16], 1..=2).prop_shuffle(),
        stride in prop::sample::subsequence(vec![1, 2], 1..=2),
    ) {
        let mut definition = definition();
        definition.resolution = resolution;
        definition.stem_width = width.clone();
        definition.stages = depths.into_iter().map(|depth| StageSpace {
            depth,
            width: width.clone(),
            kernel: kernel.clone(),
            operation: Operation::NAMES.map(str::to_owned).to_vec(),
            expansion: expansion.clone(),
            stride: stride.clone(),
            activation: vec![Activation::Relu],
            squeeze: vec![0],
            skip: vec![Skip::Add],
        }).collect();
        let space = StagedSpace::new(definition, DATA).unwrap();
        let size = |indices: &[u16]| {
            let genotype = Space::from(space.clone()).genotype(indices.to_vec()).unwrap();
            let graph = space.decode(&genotype).graph(DATA).ok()?;
            let cost = Cost::of(&graph, Precision::Fp32);
            Some((cost.parameters, cost.macs))
        };
        if let Ok(largest) = space.largest() {
            let best = size(largest.indices());
            for (i, choice) in space.choices().iter().enumerate() {
                for option in 0..choice.options.len() as u16 {
                    let mut other = largest.indices().to_vec();
                    other[i] = option;
                    prop_assert!(size(&other) <= best, "{} {option}", choice.name);
                }
            }
        }
    }
}

/// One narrow stage leaves the classifier less than it adds itself; two make up for it.
#[test]
fn the_largest_network_may_have_two_stages_of_which_neither_alone_makes_it_larger() {
    let mut definition = definition();
    (definition.resolution, definition.stem_width) = (vec![16], vec![16]);
    let stage = |stride: u32| StageSpace {
        depth: vec![0, 1],
        width: vec![1],
        kernel: vec![3],
        operation: vec!["conv".to_owned()],
        expansion: vec![1],
        stride: vec![stride],
        activation: vec![Activation::Relu],
        squeeze: vec![0],
        skip: vec![Skip::Add],
    };
    definition.stages = vec![stage(2), stage(1)];
    let space = StagedSpace::new(definition, DATA).unwrap();
    let largest = space.decode(&space.largest().unwrap());
    let words = largest.architecture.to_string();
    assert_eq!(words, "r16 stem16 | conv k3 w1 x1 /2 relu | conv k3 w1 x1 relu");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Stages that may be absent, and numbers that make a stage narrower than what is around it.
    #[test]
    fn no_network_of_the_space_is_larger_than_the_largest(
        resolution in prop::sample::subsequence(vec![16, 32], 1..=2),
        stem in prop::sample::subsequence(vec![2, 16, 64], 1..=2).prop_shuffle(),
        stages in prop::collection::vec((
            prop::sample::subsequence(vec![0, 1, 3], 1..=3).prop_shuffle(),
            prop::sample::subsequence(vec![1, 8, 64], 1..=2).prop_shuffle(),
            prop::sample::subsequence(vec![1, 2], 1..=2),
        ), 1..4),
        kernel in prop::sample::subsequence(vec![1, 3, 5], 1..=2).prop_shuffle(),
        operation in prop::sample::subsequence(Operation::NAMES.to_vec(), 1..=3),
        seeds in prop::collection::vec(any::<u64>(), 100),
    ) {
        let mut definition = definition();
        definition.resolution = resolution;
        definition.stem_width = stem;
        definition.stages = stages.into_iter().map(|(depth, width, stride)| StageSpace {
            depth,
            width,
            kernel: kernel.clone(),
            operation: operation.iter().map(|name| (*name).to_owned()).collect(),
            expansion: vec![1, 4],
            stride,
            activation: vec![Activation::Relu],
            squeeze: vec![0],
            skip: vec![Skip::Add],
        }).collect();
        let space = StagedSpace::new(definition, DATA).unwrap();
        let parameters = |genotype: &Genotype| {
            let graph = space.decode(genotype).graph(DATA).ok()?;
            Some(Cost::of(&graph, Precision::Fp32).parameters)
        };
        let largest = space.largest().ok().and_then(|largest| parameters(&largest));
        for seed in seeds {
            let other = Space::from(space.clone()).sample(&mut ChaCha8Rng::seed_from_u64(seed));
            let found = parameters(&other);
            prop_assert!(
                found <= largest,
                "{found:?} > {largest:?}: {} > {:?}",
                space.decode(&other).architecture,
                space.largest().map(|largest| space.decode(&largest).architecture.to_string())
            );
        }
    }
}

#[test]
fn the_largest_network_is_no_smaller_than_any_sample() {
    let parameters = |g: &Genotype| {
        let graph = staged().decode(g).graph(DATA);
        graph.map(|graph| Cost::of(&graph, Precision::Fp32).parameters)
    };
    let largest = parameters(&staged().largest().unwrap()).unwrap();
    for seed in 0..1000 {
        if let Ok(sampled) = parameters(&sample(seed)) {
            assert!(sampled <= largest, "{sampled} > {largest}");
        }
    }
}

#[test]
fn every_cost_lies_within_the_bounds_and_the_bounds_are_reached() {
    // Small enough to enumerate. It has invalid strides, stages that may be absent and a width at
    // which a residual connection appears.
    for (resolution, depths) in [(vec![2, 4], vec![0, 1, 2]), (vec![3], vec![1, 2])] {
        let stage = |operation: &[&str], stride: Vec<u32>| StageSpace {
            depth: depths.clone(),
            width: vec![4, 5],
            kernel: vec![1, 3],
            operation: operation.iter().map(|name| (*name).to_owned()).collect(),
            expansion: vec![1, 3],
            stride,
            activation: vec![Activation::Relu],
            squeeze: vec![0],
            skip: vec![Skip::Add],
        };
        let definition = SpaceDefinition {
            resolution,
            stem_width: vec![4],
            stages: vec![
                stage(&["separable", "conv"], vec![2]),
                stage(&["inverted-residual"], vec![1, 2]),
            ],
            recipe: RecipeSpace::Flat(FlatRecipe {
                prune: vec![0.0, 0.4],
                precision: Precision::ALL.to_vec(),
                alpha: vec![0.0],
                temperature: vec![1.0],
            }),
        };
        let space = StagedSpace::new(definition, DATA).unwrap();
        let (least, greatest) = (space.least().unwrap(), space.greatest().unwrap());
        let memory = space.least_peak_memory()..=space.greatest_peak_memory();
        let (mut macs, mut parameters) = (Vec::new(), Vec::new());
        let sizes: Vec<u16> = space.choices().iter().map(|c| c.options.len() as u16).collect();
        let mut at = vec![0; sizes.len()];
        let whole = Space::from(space.clone());
        loop {
            let candidate = space.decode(&whole.genotype(at.clone()).unwrap());
            if let Ok(graph) = candidate.pruned_graph(DATA) {
                let cost = Cost::of(&graph, candidate.recipe.precision());
                macs.push(cost.macs);
                parameters.push(cost.parameters);
                assert!(memory.contains(&cost.peak_memory_bytes), "{cost:?} in {memory:?}");
            }
            let Some(next) = (0..at.len()).find(|&i| at[i] + 1 < sizes[i]) else { break };
            at[next] += 1;
            at[..next].fill(0);
        }
        let ends = |values: &[u64]| (*values.iter().min().unwrap(), *values.iter().max().unwrap());
        assert_eq!((least.macs, greatest.macs), ends(&macs));
        assert_eq!((least.parameters, greatest.parameters), ends(&parameters));
    }
}

#[test]
fn equal_networks_are_one_candidate_by_network_and_two_by_row() {
    // Because of the skip connection from node 0 to 1, both are the same network.
    let texts = [
        "|skip_connect~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|",
        "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|",
    ];
    for (identity, same) in [(CellIdentity::Network, true), (CellIdentity::Row, false)] {
        let cells = CellSpace::nas_bench_201(identity);
        let genotypes = texts.map(|text| cells.encode(&text.parse().unwrap()));
        let space = Space::Cell(cells);
        let [a, b] = genotypes.map(|genotype| space.canonical_hash(&genotype).unwrap());
        assert_eq!(a == b, same, "{identity:?}");
    }
}

#[test]
fn the_size_is_the_product_of_the_option_counts() {
    let options = [2, 2, 2, 2, 2, 3, 3, 1, 2, 3, 3, 2, 2, 3, 3, 2, 2, 3, 2, 2, 2];
    assert_eq!(space().size(), options.iter().product::<u128>());
}

/// The lists of a recipe in short form.
fn flat(definition: &mut SpaceDefinition) -> &mut FlatRecipe {
    match &mut definition.recipe {
        RecipeSpace::Flat(flat) => flat,
        RecipeSpace::Steps(_) => panic!("a recipe in short form"),
    }
}

#[test]
fn all_mistakes_of_a_definition_are_reported_at_once() {
    let mut broken = definition();
    broken.resolution = vec![];
    broken.stages[0].kernel = vec![4];
    broken.stages[1].operation = vec!["attention".to_owned()];
    flat(&mut broken).prune = vec![0.5, 0.5, 1.0, f64::NAN];
    let errors = StagedSpace::new(broken, DATA).unwrap_err();
    let fields: Vec<&str> = errors.iter().map(|e| e.field.as_str()).collect();
    let expected = [
        "space.resolution",
        "space.stages[0].kernel",
        "space.stages[1].operation",
        "recipe.prune",
        "recipe.prune",
        "recipe.prune",
    ];
    assert_eq!(fields, expected);
    let nothing = SpaceDefinition { stages: vec![], ..definition() };
    assert_eq!(StagedSpace::new(nothing, DATA).unwrap_err()[0].field, "space.stages");
}

#[test]
fn recorded_spaces_are_refused_only_if_no_program_can_work_with_them() {
    type Change = fn(&mut SpaceDefinition);
    // Beyond the limits for new studies.
    let kept: [Change; 4] = [
        |d| d.resolution = vec![60_000],
        |d| d.stages[0].kernel = vec![63],
        |d| d.stages[0].depth = vec![200],
        |d| flat(d).prune = vec![0.5, 0.5, 1.0],
    ];
    for change in kept {
        let mut definition = definition();
        change(&mut definition);
        assert!(StagedSpace::new(definition.clone(), DATA).is_err());
        let space = StagedSpace::recorded(definition, DATA).unwrap();
        let first = vec![0; space.choices().len()];
        let whole = Space::from(space.clone());
        // The first network may be too large, but nothing panics.
        let _ = space.decode(&whole.genotype(first).unwrap()).graph(DATA);
        let _ = (space.least(), space.greatest());
        assert!(space.greatest_peak_memory() > 0);
    }
    let refused: [(Change, &str); 14] = [
        (|d| d.resolution.clear(), "space.resolution"),
        (|d| d.resolution = vec![0], "space.resolution"),
        (|d| d.stem_width = vec![8, u32::MAX], "space.stem_width"),
        (|d| d.stages[1].activation.clear(), "space.stages[1].activation"),
        (|d| d.stages[1].operation = vec!["attention".to_owned()], "space.stages[1].operation"),
        (|d| d.stages[0].kernel = vec![2], "space.stages[0].kernel"),
        (|d| d.stages[0].stride = vec![0], "space.stages[0].stride"),
        (|d| d.stages[0].expansion = vec![u32::MAX], "space.stages[0].expansion"),
        (|d| d.stages[0].depth = vec![1_000_000], "space.stages[0].depth"),
        (|d| d.stages = vec![d.stages[0].clone(); 65], "space.stages"),
        (|d| d.stages.clear(), "space.stages"),
        (|d| flat(d).precision.clear(), "recipe.precision"),
        (|d| flat(d).prune = vec![f64::NAN], "recipe.prune"),
        (|d| flat(d).alpha = vec![0.5; 5000], "recipe.alpha"),
    ];
    for (change, field) in refused {
        let mut definition = definition();
        change(&mut definition);
        let errors = StagedSpace::recorded(definition, DATA).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].field, field);
    }
    let shape = DataShape { channels: 0, classes: 0 };
    assert_eq!(StagedSpace::recorded(definition(), shape).unwrap_err().len(), 2);
}

#[test]
fn indices_from_outside_are_checked() {
    let space = space();
    assert!(space.genotype(vec![0; 3]).is_err());
    let mut indices = vec![0; space.choices().len()];
    assert!(space.genotype(indices.clone()).is_ok());
    indices[0] = 2;
    assert!(space.genotype(indices).unwrap_err().to_string().contains("resolution"));
}

proptest! {
    #[test]
    fn mutation_changes_exactly_the_given_number_of_choices(seed: u64, changes in 0_usize..40) {
        let (space, parent) = (space(), sample(seed));
        let child = space.mutate(&parent, changes, &mut ChaCha8Rng::seed_from_u64(seed));
        let changed = parent.indices().iter().zip(child.indices()).filter(|(a, b)| a != b).count();
        let choices = space.choices().iter().zip(space.active(&parent));
        let open = choices.filter(|(choice, active)| *active && choice.options.len() > 1).count();
        prop_assert_eq!(changed, changes.min(open));
        prop_assert!(space.genotype(child.indices().to_vec()).is_ok());
    }

    #[test]
    fn crossover_takes_every_choice_from_a_parent(seeds: [u64; 3]) {
        let (space, a, b) = (space(), sample(seeds[0]), sample(seeds[1]));
        let child = space.crossover(&a, &b, &mut ChaCha8Rng::seed_from_u64(seeds[2]));
        for ((x, y), c) in a.indices().iter().zip(b.indices()).zip(child.indices()) {
            prop_assert!(c == x || c == y);
        }
        prop_assert_eq!(space.crossover(&a, &a, &mut ChaCha8Rng::seed_from_u64(1)), a);
    }

    #[test]
    fn encodings_are_one_hot_and_decode_to_the_same_candidate(seed: u64) {
        let (space, genotype) = (space(), sample(seed));
        let vector = space.encode(&genotype);
        prop_assert_eq!(vector.len(), space.encoding_len());
        let active = space.active(&genotype);
        let count = active.iter().filter(|active| **active).count();
        prop_assert_eq!(vector.iter().sum::<f32>(), count as f32);
        let decoded = space.decode_vector(&vector).unwrap();
        prop_assert_eq!(space.canonical_hash(&decoded), space.canonical_hash(&genotype));
        let pairs = genotype.indices().iter().zip(decoded.indices()).zip(active);
        for ((given, decoded), active) in pairs {
            prop_assert_eq!(*decoded, if active { *given } else { 0 });
        }
        prop_assert_eq!(space.decode_vector(&vector[1..]), None);
    }

    #[test]
    fn equal_hashes_mean_equal_networks_and_pruning_only_shrinks(seeds: [u64; 2]) {
        let space = space();
        let [a, b] = seeds.map(sample);
        let candidates = [&a, &b].map(|g| staged().decode(g));
        if let (Ok(x), Ok(y)) = (space.canonical_hash(&a), space.canonical_hash(&b)) {
            let graphs = candidates.each_ref().map(|c| c.pruned_graph(DATA).unwrap());
            if x == y {
                let costs = graphs.each_ref().map(|graph| Cost::of(graph, Precision::Int8));
                prop_assert_eq!(costs[0], costs[1]);
                prop_assert_eq!(candidates[0].recipe.precision(), candidates[1].recipe.precision());
            }
            let whole = candidates[0].graph(DATA).unwrap();
            prop_assert!(graphs[0].total_macs() <= whole.total_macs());
            let prunes = |step: &&Step| matches!(step, Step::Prune(_));
            let passes = candidates[0].recipe.passes(&whole);
            prop_assert_eq!(passes.iter().any(prunes), graphs[0] != whole);
        }
    }

    #[test]
    fn lowered_networks_fit_their_data(seed: u64) {
        if let Ok(graph) = staged().decode(&sample(seed)).graph(DATA) {
            for (_, node) in graph.nodes() {
                if let Op::Conv(conv) = &node.op && conv.groups == Groups::PerChannel {
                    let [input, output] = [node.inputs[0], node.output].map(|v| graph.shape(v));
                    prop_assert_eq!(input.channels(), output.channels());
                }
            }
            prop_assert_eq!(graph.input().channels(), 1);
            prop_assert_eq!(graph.output().channels(), 10);
            let last = graph.nodes().next_back().unwrap().1;
            prop_assert_eq!(graph.outputs(), [last.output]);
        }
    }
}
