//! Tests that choices without effect are found, and that nothing is made of them.

use edgesmith_search_space::{
    Activation, CellIdentity, CellSpace, DataShape, DistilSpace, FineTuneSpace, FlatRecipe,
    Genotype, Importance, Operation, Precision, PruneSpace, PruneUnit, QuantizeSpace, RangeRule,
    RecipeSpace, Rewind, Scope, Skip, Space, SpaceDefinition, StageSpace, StagedSpace, StepSpace,
};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

const BOTH: [bool; 2] = [false, true];

fn stage() -> StageSpace {
    StageSpace {
        depth: vec![2, 0, 1],
        width: vec![4, 8],
        kernel: vec![3, 5],
        operation: Operation::NAMES.map(str::to_owned).to_vec(),
        expansion: vec![2, 3],
        stride: vec![1, 2],
        activation: vec![Activation::Relu, Activation::Relu6],
        squeeze: vec![0, 4],
        skip: vec![Skip::Add, Skip::Concat],
    }
}

fn space(stages: Vec<StageSpace>, recipe: RecipeSpace) -> Space {
    let definition =
        SpaceDefinition { resolution: vec![6, 4], stem_width: vec![4, 8], stages, recipe };
    let data = DataShape { channels: 1, classes: 3 };
    StagedSpace::new(definition, data).unwrap_or_else(|errors| panic!("{errors:?}")).into()
}

fn flat() -> Space {
    let recipe = FlatRecipe {
        prune: vec![0.0, 0.5],
        precision: Precision::ALL.to_vec(),
        alpha: vec![0.0, 0.5],
        temperature: vec![1.0, 4.0],
    };
    space(vec![stage(), stage()], RecipeSpace::Flat(recipe))
}

fn prune(of: Scope, share: &[f64]) -> StepSpace {
    StepSpace::Prune(PruneSpace {
        unit: PruneUnit::Channels,
        of,
        share: share.to_vec(),
        at_most: Vec::new(),
        importance: vec![Importance::L1, Importance::L2],
        rounds: vec![1, 2],
        epochs: vec![1, 2],
        multiple_of: vec![1.into(), 4.into()],
        rewind: vec![Rewind::None],
    })
}

fn tune() -> FineTuneSpace {
    FineTuneSpace::plain(vec![0, 1, 2], vec![0.1, 0.2])
}

/// Every step with every setting searched.
fn steps() -> Space {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let quantize = QuantizeSpace {
        precision: vec![Precision::Fp32, Precision::Int8],
        calibration: RangeRule::ALL.to_vec(),
        examples: vec![16, 32],
        clip_ranges: BOTH.to_vec(),
        equalize: BOTH.to_vec(),
        correct_biases: BOTH.to_vec(),
        fp32: names(&["stem"]),
        mixed: names(&["stem", "stage1.block2.depthwise", "stage2.block1.squeeze", "classifier"]),
        ..QuantizeSpace::default()
    };
    let alpha = vec![0.0.into(), 0.5.into()];
    let distil = DistilSpace::of_answers(alpha, vec![2.0.into(), 4.0.into()]);
    let recipe = vec![
        StepSpace::Distil(distil),
        prune(Scope::Stage, &[0.0, 0.5]),
        StepSpace::FineTune(tune()),
        prune(Scope::Layer, &[0.0, 0.25]),
        StepSpace::FineTune(tune()),
        prune(Scope::Macs, &[0.0, 0.25]),
        StepSpace::FineTune(tune()),
        StepSpace::FineTune(tune()),
        StepSpace::Quantize(quantize),
        StepSpace::QuantizeAwareTrain(tune()),
    ];
    space(vec![stage(), stage()], RecipeSpace::Steps(recipe))
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// The names of the inactive choices of the genotype with these options, and the first of all
/// others.
fn inactive(space: &Space, picks: &[(&str, u16)]) -> Vec<String> {
    let mut indices = vec![0; space.choices().len()];
    for (name, option) in picks {
        let place = space.choices().iter().position(|choice| choice.name == *name);
        indices[place.unwrap_or_else(|| panic!("no choice {name}"))] = *option;
    }
    let active = space.active(&space.genotype(indices).unwrap());
    let off = space.choices().iter().zip(active).filter(|(_, active)| !active);
    off.map(|(choice, _)| choice.name.clone()).collect()
}

/// Those of `space` that begin with one of these texts.
fn named(space: &Space, starts: &[&str]) -> Vec<String> {
    let begins = |name: &&String| starts.iter().any(|start| name.starts_with(start));
    space.choices().iter().map(|choice| &choice.name).filter(begins).cloned().collect()
}

/// Sorted names of both, each once.
fn with(mut names: Vec<String>, more: &[&str]) -> Vec<String> {
    names.extend(more.iter().map(|name| (*name).to_owned()));
    names.sort();
    names.dedup();
    names
}

fn sorted(names: Vec<String>) -> Vec<String> {
    with(names, &[])
}

#[test]
fn an_absent_stage_has_a_depth_and_nothing_else() {
    let space = flat();
    let usual = ["stage1.expansion", "stage2.expansion", "temperature"];
    assert_eq!(inactive(&space, &[]), usual);
    let mut second = named(&space, &["stage2."]);
    second.retain(|name| name != "stage2.depth");
    assert_eq!(second.len(), 9);
    assert_eq!(sorted(inactive(&space, &[("stage2.depth", 1)])), with(second, &usual));
    // The stem has the activation and the share of the first stage.
    let mut first = named(&space, &["stage1."]);
    first.retain(|name| !["depth", "activation", "prune"].iter().any(|end| name.ends_with(end)));
    assert_eq!(sorted(inactive(&space, &[("stage1.depth", 1)])), with(first, &usual));
}

#[test]
fn settings_of_an_operation_that_is_another_have_no_effect() {
    let space = flat();
    let off = |picks: &[(&str, u16)]| inactive(&space, picks);
    assert!(off(&[("stage1.operation", 1)]).contains(&"stage1.expansion".to_owned()));
    assert!(!off(&[("stage1.operation", 2)]).contains(&"stage1.expansion".to_owned()));
    // One block with a stride has no way past it; a second block has.
    let skip = "stage1.skip".to_owned();
    assert!(off(&[("stage1.stride", 1), ("stage1.depth", 2)]).contains(&skip));
    assert!(!off(&[("stage1.stride", 1)]).contains(&skip));
    assert!(!off(&[("stage1.depth", 2)]).contains(&skip));
    assert!(!off(&[("alpha", 1)]).contains(&"temperature".to_owned()));
}

#[test]
fn settings_of_passes_that_are_off_have_no_effect() {
    let space = steps();
    let expansions = ["stage1.expansion", "stage2.expansion"];
    let recipe = |picks: &[(&str, u16)]| -> Vec<String> {
        let mut off = inactive(&space, picks);
        off.retain(|name| !expansions.contains(&name.as_str()));
        sorted(off)
    };
    let settings = |step: &str| named(&space, &[&format!("{step}.")]);
    let but = |mut names: Vec<String>, name: &str| {
        let before = names.len();
        names.retain(|other| other != name);
        assert_eq!(names.len(), before - 1, "{name}");
        names
    };
    let off: Vec<String> = [
        vec!["distil.temperature".to_owned()],
        settings("prune"),
        settings("fine-tune"),
        but(settings("prune2"), "prune2.share"),
        settings("fine-tune2"),
        but(settings("prune3"), "prune3.share"),
        settings("fine-tune3"),
        settings("fine-tune4"),
        but(settings("quantize"), "quantize.precision"),
        settings("quantize-aware-train"),
    ]
    .concat();
    assert_eq!(recipe(&[]), sorted(off.clone()));
    let on = |picks: &[(&str, u16)]| -> Vec<String> {
        let now = recipe(picks);
        assert!(now.iter().all(|name| off.contains(name)));
        off.iter().filter(|name| !now.contains(name)).cloned().collect()
    };
    assert_eq!(on(&[("distil.alpha", 1)]), ["distil.temperature"]);

    // A share of any stage turns its pruning on. The rate of no epochs is none, and no epochs are
    // trained after the only round.
    let pruned =
        |step: &str| [".importance", ".rounds", ".multiple_of"].map(|s| format!("{step}{s}"));
    let later = ["fine-tune2.epochs", "fine-tune3.epochs", "fine-tune4.epochs"];
    let expected = with(pruned("prune").to_vec(), &["fine-tune.epochs"]);
    // As long as no fine-tuning follows, a later one does.
    assert_eq!(sorted(on(&[("stage2.prune", 1)])), with(expected.clone(), &later));
    assert_eq!(sorted(on(&[("stage1.prune", 1)])), with(expected.clone(), &later));
    let picks = [("stage1.prune", 1), ("fine-tune.epochs", 1), ("prune.rounds", 1)];
    let expected = with(expected, &["fine-tune.learning_rate", "prune.epochs"]);
    assert_eq!(sorted(on(&picks)), expected);
    // But not of an absent one.
    let absent = inactive(&space, &[("stage2.depth", 1), ("stage2.prune", 1)]);
    assert!(settings("prune").iter().all(|name| absent.contains(name)));
    assert!(absent.contains(&"fine-tune.epochs".to_owned()));
    let expected = with(pruned("prune2").to_vec(), &later);
    assert_eq!(sorted(on(&[("prune2.share", 1)])), expected);
    let expected = with(pruned("prune3").to_vec(), &["fine-tune3.epochs", "fine-tune4.epochs"]);
    assert_eq!(sorted(on(&[("prune3.share", 1)])), expected);

    // What stays in fp32 anyway, and what this network does not have, is no choice of a precision.
    let layers = ["stem", "stage1.block2.depthwise", "stage2.block1.squeeze", "classifier"];
    let mixed = layers.map(|layer| format!("quantize.layer.{layer}"));
    let mut plain = but(settings("quantize"), "quantize.precision");
    plain.retain(|name| !mixed.contains(name));
    let training = "quantize-aware-train.epochs";
    let expected = with(plain, &[&mixed[2], &mixed[3], training]);
    let int8 = ("quantize.precision", 1);
    assert_eq!(sorted(on(&[int8])), expected);
    let expected = with(expected, &[&mixed[1]]);
    assert_eq!(sorted(on(&[int8, ("stage1.operation", 1)])), expected);
    let shallow = [int8, ("stage1.operation", 1), ("stage1.depth", 2)];
    assert!(!on(&shallow).contains(&mixed[1]));
    let expected = with(expected, &["quantize-aware-train.learning_rate"]);
    assert_eq!(sorted(on(&[int8, ("stage1.operation", 1), (training, 2)])), expected);
}

#[test]
fn every_choice_of_a_cell_has_an_effect() {
    let space = Space::Cell(CellSpace::nas_bench_201(CellIdentity::Network));
    for seed in 0..20 {
        let cell = space.sample(&mut rng(seed));
        assert_eq!(space.active(&cell), [true; 6]);
        assert_eq!(space.encode(&cell).iter().sum::<f32>(), 6.0);
    }
}

/// Each inactive choice with each option, and all of them at once.
fn variants(space: &Space, genotype: &Genotype) -> Vec<Genotype> {
    let active = space.active(genotype);
    let mut last = genotype.indices().to_vec();
    let mut found = Vec::new();
    for (place, choice) in space.choices().iter().enumerate().filter(|(i, _)| !active[*i]) {
        for option in 0..choice.options.len() as u16 {
            let mut indices = genotype.indices().to_vec();
            indices[place] = option;
            last[place] = option;
            found.push(indices);
        }
    }
    found.push(last);
    found.into_iter().map(|indices| space.genotype(indices).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_option_of_an_inactive_choice_changes_the_candidate(seed: u64) {
        for space in [flat(), steps()] {
            let genotype = space.sample(&mut rng(seed));
            let hash = space.canonical_hash(&genotype);
            for other in variants(&space, &genotype) {
                prop_assert_eq!(space.canonical_hash(&other), hash.clone());
                prop_assert_eq!(space.active(&other), space.active(&genotype));
                prop_assert_eq!(space.encode(&other), space.encode(&genotype));
            }
        }
    }

    #[test]
    fn mutation_changes_what_has_an_effect(seed: u64, changes in 1_usize..4) {
        for space in [flat(), steps()] {
            let parent = space.sample(&mut rng(seed));
            let child = space.mutate(&parent, changes, &mut rng(seed));
            let active = space.active(&parent);
            let pairs = parent.indices().iter().zip(child.indices());
            let changed: Vec<bool> = pairs.map(|(a, b)| a != b).collect();
            prop_assert!(changed.iter().zip(&active).all(|(changed, active)| !changed || *active));
            prop_assert_eq!(changed.iter().filter(|changed| **changed).count(), changes);
        }
        // Here every active choice changes the candidate. Two of them may make up for each other: a
        // block less in one stage, and a first one of the same settings in the next.
        let space = flat();
        let parent = space.sample(&mut rng(seed));
        let child = space.mutate(&parent, 1, &mut rng(seed));
        let hashes = [parent, child].map(|genotype| space.canonical_hash(&genotype));
        prop_assert!(hashes[0].is_err() || hashes[0] != hashes[1]);
    }
}
