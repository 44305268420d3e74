//! Recipes of steps in a space of staged networks.

mod budgets;

use std::collections::HashSet;

use super::*;
use crate::{
    Activation, CanonicalHash, DataShape, Genotype, Operation, Skip, Space, SpaceDefinition,
    SpaceError, StageSpace, StagedSpace,
};

const DATA: DataShape = DataShape { channels: 1, classes: 4 };

fn prune(of: Scope, share: &[f64]) -> PruneSpace {
    PruneSpace {
        unit: PruneUnit::Channels,
        of,
        share: share.to_vec(),
        at_most: Vec::new(),
        importance: vec![Importance::L1],
        rounds: vec![1],
        epochs: vec![1],
        multiple_of: vec![Multiple::ONE],
        rewind: vec![Rewind::None],
    }
}

fn tune(epochs: &[u32]) -> FineTuneSpace {
    FineTuneSpace::plain(epochs.to_vec(), Vec::new())
}

fn distil(alpha: &[f64]) -> StepSpace {
    let alpha = alpha.iter().map(|alpha| Scheduled::from(*alpha)).collect();
    StepSpace::Distil(DistilSpace {
        temperature: vec![2.0.into(), 4.0.into()],
        answers: vec![Answers::Classes],
        features: vec![Features::None],
        feature_weight: vec![1.0.into()],
        alpha,
    })
}

fn definition(recipe: RecipeSpace) -> SpaceDefinition {
    let stage = || StageSpace {
        depth: vec![1],
        width: vec![16],
        kernel: vec![3],
        operation: vec![Operation::NAMES[0].to_owned()],
        expansion: vec![1],
        stride: vec![1],
        activation: vec![Activation::Relu],
        squeeze: vec![0],
        skip: vec![Skip::Add],
    };
    let stages = vec![stage(), stage()];
    SpaceDefinition { resolution: vec![8], stem_width: vec![16], stages, recipe }
}

fn space(steps: Vec<StepSpace>) -> StagedSpace {
    StagedSpace::new(definition(RecipeSpace::Steps(steps)), DATA).unwrap()
}

/// The names of the choices with several options.
fn searched(space: &StagedSpace) -> Vec<&str> {
    let several = space.choices().iter().filter(|choice| choice.options.len() > 1);
    several.map(|choice| &*choice.name).collect()
}

/// The first genotype, with other options of some choices.
fn genotype(space: &StagedSpace, picks: &[(&str, u16)]) -> Genotype {
    let mut indices = vec![0; space.choices().len()];
    for (name, option) in picks {
        let place = space.choices().iter().position(|choice| choice.name == *name);
        indices[place.unwrap_or_else(|| panic!("no choice {name}"))] = *option;
    }
    Space::from(space.clone()).genotype(indices).unwrap()
}

fn recipe(space: &StagedSpace, picks: &[(&str, u16)]) -> Recipe {
    space.decode(&genotype(space, picks)).recipe
}

fn hash(space: &StagedSpace, picks: &[(&str, u16)]) -> CanonicalHash {
    Space::from(space.clone()).canonical_hash(&genotype(space, picks)).unwrap()
}

/// Parameters of the pruned network, which is exact or an estimate.
fn parameters(space: &StagedSpace, picks: &[(&str, u16)]) -> u64 {
    space.decode(&genotype(space, picks)).pruned_graph(DATA).unwrap().cost().parameters
}

#[test]
fn the_settings_with_several_values_are_choices() {
    let all = QuantizeSpace {
        precision: vec![Precision::Fp32, Precision::Int8],
        calibration: RangeRule::ALL.to_vec(),
        ..QuantizeSpace::default()
    };
    let space = space(vec![
        distil(&[0.0, 0.5]),
        StepSpace::Prune(prune(Scope::Stage, &[0.0, 0.5])),
        StepSpace::FineTune(tune(&[2, 4])),
        StepSpace::Prune(prune(Scope::Layer, &[0.25, 0.5])),
        StepSpace::FineTune(tune(&[])),
        StepSpace::Quantize(all),
        StepSpace::QuantizeAwareTrain(tune(&[0, 1])),
    ]);
    let names = [
        "stage1.prune",
        "stage2.prune",
        "distil.alpha",
        "distil.temperature",
        "fine-tune.epochs",
        "prune2.share",
        "quantize.precision",
        "quantize.calibration",
        "quantize-aware-train.epochs",
    ];
    assert_eq!(searched(&space), names);
    let picks = [
        ("stage2.prune", 1),
        ("distil.alpha", 1),
        ("distil.temperature", 1),
        ("fine-tune.epochs", 1),
        ("prune2.share", 1),
        ("quantize.precision", 1),
        ("quantize.calibration", 3),
        ("quantize-aware-train.epochs", 1),
    ];
    let usual = FineTuning::of;
    let int8 = Quantizing {
        calibration: RangeRule::Entropy,
        clip_ranges: true,
        correct_biases: true,
        ..Quantizing::default()
    };
    let pruning = |amount| Step::Prune(Pruning { epochs: 1, ..Pruning::by_norm(amount) });
    let steps = vec![
        Step::Distil(Distillation::of_answers(0.5, 4.0)),
        pruning(Amount::Stage { shares: vec![0.0, 0.5] }),
        Step::FineTune(usual(Some(4))),
        pruning(Amount::Layer { share: 0.5 }),
        Step::FineTune(usual(None)),
        Step::Quantize(int8),
        Step::QuantizeAwareTrain(usual(Some(1))),
    ];
    let all = recipe(&space, &picks);
    assert_eq!(all, Recipe { steps });
    let text =
        "int8 prune 0/50% tune 4 prune 50% of each layer entropy clipped biases qat 1 kd a0.5 T4";
    assert_eq!(all.to_string(), text);
    assert_eq!((all.precision(), all.learns()), (Precision::Int8, true));
    assert_eq!(all.distillation(), Some(Distillation::of_answers(0.5, 4.0)));
    // Without a teacher, without integers.
    let little = recipe(&space, &[("prune2.share", 1), ("quantize-aware-train.epochs", 1)]);
    let passes: Vec<_> = little.steps.iter().map(std::mem::discriminant).collect();
    let kinds = [&all.steps[1], &all.steps[2], &all.steps[3], &all.steps[4]];
    assert_eq!(passes, kinds.map(std::mem::discriminant));
}

#[test]
fn schedules_are_options_like_numbers() {
    let falling = Scheduled::Changing { from: 0.9, to: 0.0, course: Course::Linear };
    let space = space(vec![StepSpace::Distil(DistilSpace {
        alpha: vec![0.0.into(), 0.5.into(), falling],
        temperature: vec![2.0.into(), 4.0.into()],
        answers: vec![Answers::Classes],
        features: vec![Features::None],
        feature_weight: vec![1.0.into()],
    })]);
    let options = &space.choices().iter().find(|c| c.name == "distil.alpha").unwrap().options;
    assert_eq!(options[..], ["0", "0.5", "0.9-to-0-linear"]);
    assert_eq!(recipe(&space, &[("distil.alpha", 2)]).to_string(), "fp32 kd a0.9-to-0-linear T2");
    let hashes: HashSet<_> = (0..3).map(|alpha| hash(&space, &[("distil.alpha", alpha)])).collect();
    assert_eq!(hashes.len(), 3);
    assert_ne!(
        hash(&space, &[("distil.alpha", 2)]),
        hash(&space, &[("distil.alpha", 2), ("distil.temperature", 1)])
    );
    let of = |from: f64, to: f64| {
        let alpha = vec![Scheduled::Changing { from, to, course: Course::Cosine }];
        let space = DistilSpace::of_answers(alpha, vec![4.0.into()]);
        definition(RecipeSpace::Steps(vec![StepSpace::Distil(space)]))
    };
    let said = |definition| StagedSpace::new(definition, DATA).unwrap_err()[0].message.clone();
    let beyond = "{ from = 0.9, to = 1.5, schedule = \"cosine\" } is not allowed; both ends have to \
                  be from 0 to 1";
    assert_eq!(said(of(0.9, 1.5)), beyond);
    // It would be another candidate than its constant, with the same training. Studies that have
    // such candidates stay as they are.
    let still = "{ from = 0.5, to = 0.5, schedule = \"cosine\" } does not change; write 0.5";
    assert_eq!(said(of(0.5, 0.5)), still);
    assert!(StagedSpace::recorded(of(0.5, 0.5), DATA).is_ok());
}

#[test]
fn the_texts_of_recipes_are_explained() {
    let page = include_str!("../../../docs/operating.md");
    let step = |amount: Amount| Step::Prune(Pruning::by_norm(amount));
    let weights = |among| step(Amount::Weights { among, share: 0.5 });
    let falling = Scheduled::Changing { from: 0.9, to: 0.3, course: Course::Linear };
    let copying = Distillation {
        features: Features::Relations,
        feature_weight: 10.0.into(),
        ..Distillation::of_answers(0.5, 4.0)
    };
    let halved = Amount::Blocks { counted: Counted::Macs, share: 0.5 };
    let (importance, rewind) = (Importance::Output, Rewind::Weights);
    let blocks = Pruning { importance, rewind, ..Pruning::by_norm(halved) };
    let faster = Amount::Network { counted: Counted::Latency, share: 0.3 };
    let fast = Pruning { multiple_of: Multiple::Auto, ..Pruning::by_norm(faster) };
    let (shrink, shrink_by) = (Shrink::Scales, 0.001);
    let shrinking = FineTuning { shrink, shrink_by, ..FineTuning::of(Some(5)) };
    let values = Distillation { answers: Answers::Values, ..Distillation::of_answers(0.5, 4.0) };
    let whole = |counted| step(Amount::Network { counted, share: 0.3 });
    let unit = PruneUnit::Channels;
    let to = |counted, most| step(Amount::AtMost { unit, counted, most });
    let tuning = FineTuning::of;
    for (step, text) in [
        (step(Amount::Stage { shares: vec![0.2, 0.4] }), "prune 20/40%"),
        (step(Amount::Layer { share: 0.3 }), "prune 30% of each layer"),
        (whole(Counted::Macs), "prune 30% of macs"),
        (weights(Among::Layer), "prune 50% of the weights of each layer"),
        (weights(Among::Network), "prune 50% of weights"),
        (step(Amount::TwoOfFour { share: 0.5 }), "prune 2:4"),
        (Step::Prune(blocks), "prune blocks with 50% of macs rewound"),
        (to(Counted::Macs, 6e6), "prune to 6000000 macs"),
        (to(Counted::Latency, 1.5), "prune to 1.5 ms"),
        (Step::Prune(fast), "prune 30% of latency to fast multiples"),
        (Step::FineTune(shrinking), "tune 5 shrink scales x0.001"),
        (Step::Cluster(Clustering { clusters: 32 }), "cluster 32"),
        (Step::FineTune(tuning(Some(5))), "tune 5"),
        (Step::QuantizeAwareTrain(tuning(None)), "qat"),
        (Step::QuantizeAwareTrain(tuning(Some(3))), "qat 3"),
        (Step::Distil(Distillation::of_answers(0.5, 4.0)), "kd a0.5 T4"),
        (Step::Distil(Distillation::of_answers(falling, 4.0)), "kd a0.9-to-0.3-linear T4"),
        (Step::Distil(copying), "kd a0.5 T4 relations x10"),
        (Step::Distil(values), "kd a0.5 values"),
    ] {
        assert_eq!(Recipe { steps: vec![step] }.to_string(), format!("fp32 {text}"));
        assert!(page.contains(&format!("`{text}`")), "{text}");
    }
}

#[test]
fn features_are_copied_with_or_without_answers() {
    let space = space(vec![StepSpace::Distil(DistilSpace {
        alpha: vec![0.0.into(), 0.5.into()],
        temperature: vec![2.0.into()],
        answers: vec![Answers::Classes],
        features: Features::ALL.to_vec(),
        feature_weight: vec![1.0.into(), 9.0.into()],
    })]);
    let names = ["distil.alpha", "distil.features", "distil.feature_weight"];
    assert_eq!(searched(&space), names);
    let kinds = [Features::Attention, Features::Relations, Features::Hints];
    assert_eq!(space.definition().recipe.features(), kinds);
    // Nothing is copied.
    assert_eq!(recipe(&space, &[]).steps, []);
    let heavy = ("distil.feature_weight", 1);
    assert_eq!(hash(&space, &[heavy]), hash(&space, &[]));
    let both = recipe(&space, &[("distil.alpha", 1), ("distil.features", 2), heavy]);
    assert_eq!(both.to_string(), "fp32 kd a0.5 T2 relations x9");
    let alone = recipe(&space, &[("distil.features", 1)]);
    assert_eq!(alone.to_string(), "fp32 kd a0 T4 attention x1");
    assert!(alone.learns() && alone.distillation().is_some());
    // What was hashed before there were features is hashed as it was.
    let answers = Distillation::of_answers(0.5, 4.0);
    assert_eq!(format!("{answers:?}"), "Distillation { alpha: 0.5, temperature: 4.0 }");
}

#[test]
fn values_have_no_temperature() {
    let space = space(vec![StepSpace::Distil(DistilSpace {
        answers: Answers::ALL.to_vec(),
        ..DistilSpace::of_answers(vec![0.0.into(), 0.5.into()], vec![2.0.into(), 4.0.into()])
    })]);
    assert_eq!(searched(&space), ["distil.alpha", "distil.answers", "distil.temperature"]);
    let (on, values, warm) =
        (("distil.alpha", 1), ("distil.answers", 1), ("distil.temperature", 1));
    assert_eq!(recipe(&space, &[on, values]).to_string(), "fp32 kd a0.5 values");
    assert_eq!(hash(&space, &[on, values, warm]), hash(&space, &[on, values]));
    assert_ne!(hash(&space, &[on, warm]), hash(&space, &[on]));
    assert_ne!(hash(&space, &[on, values]), hash(&space, &[on]));
    // Without a teacher they say nothing.
    assert_eq!(hash(&space, &[values]), hash(&space, &[]));
}

#[test]
fn the_short_form_is_a_list_of_steps() {
    let flat = FlatRecipe {
        prune: vec![0.25],
        precision: vec![Precision::Int8],
        alpha: vec![0.5],
        temperature: vec![2.0],
    };
    let definition = definition(RecipeSpace::Flat(flat));
    let space = StagedSpace::new(definition, DATA).unwrap();
    let tuning = FineTuning::of(None);
    let steps = vec![
        Step::Distil(Distillation::of_answers(0.5, 2.0)),
        Step::Prune(Pruning::of_stages([0.25, 0.25])),
        Step::FineTune(tuning),
        Step::Quantize(Quantizing::default()),
    ];
    assert_eq!(recipe(&space, &[]), Recipe { steps });
}

#[test]
fn choices_without_effect_do_not_change_the_hash() {
    let quantize = QuantizeSpace {
        precision: vec![Precision::Fp32, Precision::Int8],
        calibration: RangeRule::ALL.to_vec(),
        ..QuantizeSpace::default()
    };
    let importance = vec![Importance::L1, Importance::Taylor];
    let pruned = PruneSpace { importance, ..prune(Scope::Layer, &[0.0, 0.01, 0.5]) };
    let space = space(vec![
        distil(&[0.0, 0.5]),
        StepSpace::Prune(pruned),
        StepSpace::FineTune(tune(&[1, 2])),
        StepSpace::Quantize(quantize),
    ]);
    let first = hash(&space, &[]);
    let without: [&[(&str, u16)]; 5] = [
        &[("distil.temperature", 1)],
        &[("quantize.calibration", 1)],
        // One channel in a hundred of sixteen is none, and then nothing is fine-tuned.
        &[("prune.share", 1)],
        &[("prune.share", 1), ("prune.importance", 1)],
        &[("fine-tune.epochs", 1)],
    ];
    for picks in without {
        assert_eq!(hash(&space, picks), first, "{picks:?}");
    }
    let half = ("prune.share", 2);
    let with: [&[(&str, u16)]; 6] = [
        &[],
        &[half],
        &[half, ("prune.importance", 1)],
        &[half, ("fine-tune.epochs", 1)],
        &[("quantize.precision", 1)],
        &[("quantize.precision", 1), ("quantize.calibration", 1)],
    ];
    let mut hashes: Vec<_> = with.iter().map(|picks| hash(&space, picks)).collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), with.len());
}

#[test]
fn sizes_follow_from_shares_but_not_from_a_competition() {
    let layers = space(vec![StepSpace::Prune(prune(Scope::Layer, &[0.0, 0.5]))]);
    let picks: [&[_]; 2] = [&[], &[("prune.share", 1)]];
    let [whole, half] = picks.map(|picks| parameters(&layers, picks));
    assert!(recipe(&layers, picks[1]).fixes_costs());
    assert_eq!(layers.least().unwrap().parameters, half);
    assert_eq!(layers.greatest().unwrap().parameters, whole);
    for of in [Scope::Channels, Scope::Macs, Scope::Parameters] {
        let network = space(vec![StepSpace::Prune(prune(of, &[0.0, 0.5]))]);
        assert!(recipe(&network, picks[0]).fixes_costs());
        assert!(!recipe(&network, picks[1]).fixes_costs());
        assert_eq!(network.least(), None);
        assert_eq!(network.greatest().unwrap().parameters, whole);
        let graph = |picks| network.decode(&genotype(&network, picks)).pruned_graph(DATA).unwrap();
        let [before, after] = picks.map(graph);
        let count = |graph: &Graph| match of {
            Scope::Macs => graph.cost().macs,
            _ => graph.cost().parameters,
        };
        if of != Scope::Channels {
            let left = count(&after) as f64 / count(&before) as f64;
            assert!((0.4..=0.5).contains(&left), "{of}: {left}");
        }
    }
}

#[test]
fn fine_tuning_is_left_out_only_if_nothing_was_removed_since_the_last_training() {
    let layer = |share: f64| StepSpace::Prune(prune(Scope::Layer, &[share]));
    let tuned = |steps: Vec<StepSpace>| {
        let space = space(steps);
        let candidate = space.decode(&genotype(&space, &[]));
        let graph = candidate.graph(DATA).unwrap();
        let passes = candidate.recipe.passes(&graph);
        passes.iter().filter(|step| matches!(step, Step::FineTune(_))).count()
    };
    let tune = || StepSpace::FineTune(tune(&[1]));
    assert_eq!(tuned(vec![layer(0.5), layer(0.0), tune()]), 1);
    assert_eq!(tuned(vec![layer(0.0), layer(0.5), tune()]), 1);
    assert_eq!(tuned(vec![layer(0.0), tune(), tune()]), 0);
    assert_eq!(tuned(vec![layer(0.5), tune(), layer(0.0), tune()]), 1);
    assert_eq!(tuned(vec![layer(0.0), tune()]), 0);
    assert_eq!(tuned(vec![tune()]), 1);
    assert_eq!(tuned(vec![layer(0.0), cluster(&[16]), tune()]), 1);
    // What is left after a competition is not known, so a small share may still remove channels.
    let macs = StepSpace::Prune(prune(Scope::Macs, &[0.5]));
    assert_eq!(tuned(vec![macs, tune(), layer(0.01), tune()]), 2);
}

#[test]
fn prunings_after_a_competition_are_told_apart_by_their_shares() {
    let steps = |rounds: &[u32]| {
        let macs = PruneSpace {
            rounds: rounds.to_vec(),
            epochs: vec![1, 2],
            ..prune(Scope::Macs, &[0.5])
        };
        let layer = prune(Scope::Layer, &[0.05, 0.07]);
        space(vec![StepSpace::Prune(macs), StepSpace::Prune(layer)])
    };
    let once = steps(&[1]);
    assert_ne!(hash(&once, &[]), hash(&once, &[("prune2.share", 1)]));
    // Between one round and none there is no training.
    assert_eq!(hash(&once, &[]), hash(&once, &[("prune.epochs", 1)]));
    let often = steps(&[4]);
    assert_ne!(hash(&often, &[]), hash(&often, &[("prune.epochs", 1)]));
}

#[test]
fn bounds_hold_for_every_multiple() {
    let pruned =
        PruneSpace { multiple_of: vec![3.into(), 4.into()], ..prune(Scope::Layer, &[0.5]) };
    let space = space(vec![StepSpace::Prune(pruned)]);
    let both = [0, 1].map(|option| parameters(&space, &[("prune.multiple_of", option)]));
    assert_eq!(space.least().unwrap().parameters, both.into_iter().min().unwrap());
    assert_eq!(space.greatest().unwrap().parameters, both.into_iter().max().unwrap());
}

#[test]
fn rounds_end_at_the_whole_share() {
    let amount = Amount::Layer { share: 0.8 };
    let share = |round| match amount.after(round, 4) {
        Amount::Layer { share } => share,
        other => panic!("{other:?}"),
    };
    let expected = [0.4625, 0.7, 0.7875, 0.8];
    for (round, expected) in (1..).zip(expected) {
        assert!((share(round) - expected).abs() < 1e-12, "{round}: {}", share(round));
    }
}

#[test]
fn channels_stay_in_multiples() {
    let of_eight = PruneSpace { multiple_of: vec![8.into()], ..prune(Scope::Layer, &[0.7]) };
    let space = space(vec![StepSpace::Prune(of_eight)]);
    let graph = space.decode(&genotype(&space, &[])).pruned_graph(DATA).unwrap();
    let free = graph.group_sizes().into_iter().filter(|group| !group.fixed);
    assert!(free.map(|group| group.channels).all(|channels| channels == 8));
}

#[test]
fn each_mixed_layer_is_a_choice() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let quantize = |fp32: &[&str], mixed: &[&str]| {
        let usual = QuantizeSpace::default();
        StepSpace::Quantize(QuantizeSpace { fp32: names(fp32), mixed: names(mixed), ..usual })
    };
    let space = space(vec![quantize(&["stem"], &["stage1.block1.conv", "classifier"])]);
    assert_eq!(
        searched(&space),
        ["quantize.layer.stage1.block1.conv", "quantize.layer.classifier"]
    );
    let fp32 = |picks| match &recipe(&space, picks).steps[..] {
        [Step::Quantize(quantizing)] => quantizing.fp32.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(fp32(&[]), ["stem"]);
    assert_eq!(fp32(&[("quantize.layer.classifier", 1)]), ["classifier", "stem"]);
    assert!(!recipe(&space, &[]).fixes_costs());
    assert_ne!(hash(&space, &[]), hash(&space, &[("quantize.layer.classifier", 1)]));
    let recipe = RecipeSpace::Steps(vec![quantize(&["stage3.block1.conv"], &["head"])]);
    let errors = StagedSpace::new(definition(recipe), DATA).unwrap_err();
    let fields: Vec<&str> = errors.iter().map(|error| &*error.field).collect();
    assert_eq!(fields, ["recipe.steps[0].fp32", "recipe.steps[0].mixed"]);
    assert!(errors[0].message.contains("no network of the space has a layer \"stage3"));
}

/// Two recipes that differ in what has no effect are one candidate.
#[test]
fn settings_without_effect_make_no_other_candidate() {
    let quantize = |of: QuantizeSpace| hash(&space(vec![StepSpace::Quantize(of)]), &[]);
    let wide = |activations, calibration, examples, corrects| {
        let widths = WidthsSpace { activations: vec![activations], ..WidthsSpace::default() };
        let (calibration, examples) = (vec![calibration], vec![examples]);
        let correct_biases = vec![corrects];
        let usual = QuantizeSpace::default();
        quantize(QuantizeSpace { widths, calibration, examples, correct_biases, ..usual })
    };
    // Values in fp32 have no ranges, and nothing else looks at images.
    let real = wide(32, RangeRule::Mse, 512, false);
    assert_eq!(wide(32, RangeRule::Percentile, 64, false), real);
    assert_ne!(wide(32, RangeRule::Mse, 64, true), wide(32, RangeRule::Mse, 512, true));
    assert_eq!(wide(16, RangeRule::Entropy, 512, true), wide(16, RangeRule::Mse, 512, true));
    assert_ne!(wide(16, RangeRule::Percentile, 512, true), wide(16, RangeRule::Mse, 512, true));
    assert_ne!(wide(8, RangeRule::Entropy, 512, true), wide(8, RangeRule::Mse, 512, true));

    let distil = |alpha: f64, answers, temperature: f64| {
        let usual = DistilSpace::of_answers(vec![alpha.into()], vec![temperature.into()]);
        let features = vec![Features::Attention];
        let step = DistilSpace { answers: vec![answers], features, ..usual };
        hash(&space(vec![StepSpace::Distil(step)]), &[])
    };
    assert_eq!(distil(0.0, Answers::Values, 2.0), distil(0.0, Answers::Classes, 4.0));
    assert_eq!(distil(0.5, Answers::Values, 2.0), distil(0.5, Answers::Values, 4.0));
    assert_ne!(distil(0.5, Answers::Classes, 2.0), distil(0.5, Answers::Classes, 4.0));
}

#[test]
fn all_mistakes_of_a_recipe_are_reported_at_once() {
    let step = |share: &[f64]| StepSpace::Prune(prune(Scope::Layer, share));
    let quantize = || StepSpace::Quantize(QuantizeSpace::default());
    let wrong = RecipeSpace::Steps(vec![
        StepSpace::QuantizeAwareTrain(tune(&[1])),
        step(&[0.5, 0.5, 1.0]),
        quantize(),
        step(&[0.5]),
        StepSpace::FineTune(tune(&[1])),
        quantize(),
    ]);
    let errors = StagedSpace::new(definition(wrong), DATA).unwrap_err();
    let said: Vec<String> = errors.iter().map(SpaceError::to_string).collect();
    let expected = [
        "recipe.steps[1].share: 0.5 is listed twice; keep one",
        "recipe.steps[1].share: 1.0 is not allowed; use a number of at least 0 and below 1",
        "recipe.steps[0].pass: there is nothing quantized yet; put a step with pass = \"quantize\" \
         before it",
        "recipe.steps[3].pass: steps[2] has quantized the network; put prune before it, or train \
         with pass = \"quantize-aware-train\"",
        "recipe.steps[4].pass: steps[2] has quantized the network; put fine-tune before it, or \
         train with pass = \"quantize-aware-train\"",
        "recipe.steps[5].pass: steps[2] quantizes already; keep one of the two",
    ];
    assert_eq!(said, expected);
}

/// A pruning of single weights.
fn prune_weights(unit: PruneUnit, of: Scope, share: &[f64]) -> StepSpace {
    StepSpace::Prune(PruneSpace { unit, importance: vec![Importance::L1], ..prune(of, share) })
}

#[test]
fn single_weights_go_without_changing_a_size() {
    let cases = [
        (PruneUnit::Weights, Scope::Layer, "fp32 prune 50% of the weights of each layer"),
        (PruneUnit::Weights, Scope::Parameters, "fp32 prune 50% of weights"),
        (PruneUnit::TwoOfFour, Scope::Layer, "fp32 prune 2:4"),
    ];
    let mut hashes = Vec::new();
    for (unit, of, text) in cases {
        let steps = vec![prune_weights(unit, of, &[0.0, 0.5]), StepSpace::FineTune(tune(&[1]))];
        let space = space(steps);
        assert_eq!(searched(&space), ["prune.share"], "{text}");
        let picks: [&[_]; 2] = [&[], &[("prune.share", 1)]];
        let half = recipe(&space, picks[1]);
        assert_eq!(half.to_string(), format!("{text} tune 1"));
        assert!(half.fixes_costs());
        let sizes = picks.map(|picks| parameters(&space, picks));
        assert_eq!(sizes[0], sizes[1], "{text}");
        assert_eq!(space.least().unwrap().parameters, sizes[0]);
        // Without weights that went, nothing is trained.
        let graph = space.decode(&genotype(&space, &[])).graph(DATA).unwrap();
        assert_eq!(recipe(&space, &[]).passes(&graph).len(), 0);
        assert_eq!(half.passes(&graph).len(), 2);
        hashes.extend([hash(&space, picks[0]), hash(&space, picks[1])]);
    }
    // No pruning is the same everywhere; all others differ.
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 4);
}

#[test]
fn what_has_no_meaning_for_single_weights_is_refused() {
    let macs = PruneSpace {
        unit: PruneUnit::Weights,
        importance: vec![Importance::L1, Importance::Influence],
        multiple_of: vec![1.into(), 8.into()],
        ..prune(Scope::Macs, &[0.5])
    };
    let two_of_four = PruneSpace {
        unit: PruneUnit::TwoOfFour,
        importance: vec![Importance::Taylor, Importance::Lamp],
        rounds: vec![1, 4],
        ..prune(Scope::Parameters, &[0.0, 0.5, 0.25])
    };
    let steps = [macs, two_of_four].map(StepSpace::Prune).to_vec();
    let wrong = RecipeSpace::Steps(steps);
    let errors = StagedSpace::new(definition(wrong), DATA).unwrap_err();
    let said: Vec<String> = errors.iter().map(SpaceError::to_string).collect();
    let expected = [
        "recipe.steps[0].of: \"macs\" counts channels; with granularity = \"weights\" use \
         \"layer\" (weights of each layer) or \"parameters\" (weights of the whole network)",
        "recipe.steps[0].importance: \"influence\" does not rank single weights; with granularity = \
         \"weights\" use \"l1\", \"lamp\", \"taylor\" or \"random\"",
        "recipe.steps[0].multiple_of: multiples are of channels; leave the setting out with \
         granularity = \"weights\"",
        "recipe.steps[1].of: \"parameters\" has no meaning with granularity = \"2:4\"; use \
         \"layer\"",
        "recipe.steps[1].importance: \"lamp\" compares layers with each other; without of = \
         \"parameters\" use \"l1\", which ranks the weights of a layer in the same order",
        "recipe.steps[1].share: 0.25 is not allowed; granularity = \"2:4\" removes two weights of \
         four, so use 0.5 (or 0 for no pruning)",
        "recipe.steps[1].rounds: two weights of four go in one round; leave the setting out with \
         granularity = \"2:4\"",
    ];
    assert_eq!(said, expected);
}

#[test]
fn channels_do_not_go_after_two_of_four() {
    let four = |share| prune_weights(PruneUnit::TwoOfFour, Scope::Layer, &[share]);
    let channels = |shares: &[f64]| StepSpace::Prune(prune(Scope::Layer, shares));
    let steps = |steps: &[StepSpace]| definition(RecipeSpace::Steps(steps.to_vec()));
    let wrong = steps(&[four(0.5), StepSpace::FineTune(tune(&[1])), channels(&[0.0, 0.5])]);
    let errors = StagedSpace::new(wrong.clone(), DATA).unwrap_err();
    let text = "recipe.steps[2].pass: steps[0] keeps two of four inputs, and removing channels \
                would regroup them; put this step before it";
    assert_eq!(errors.iter().map(SpaceError::to_string).collect::<Vec<_>>(), [text]);
    // A study that has it already can still be read.
    StagedSpace::recorded(wrong, DATA).unwrap();
    // Channels first, or nothing that goes.
    StagedSpace::new(steps(&[channels(&[0.5]), four(0.5)]), DATA).unwrap();
    StagedSpace::new(steps(&[four(0.0), channels(&[0.5])]), DATA).unwrap();
    StagedSpace::new(steps(&[four(0.5), channels(&[0.0])]), DATA).unwrap();
}

fn cluster(clusters: &[u32]) -> StepSpace {
    StepSpace::Cluster(ClusterSpace { clusters: clusters.to_vec() })
}

#[test]
fn clusters_are_a_choice_that_changes_no_size() {
    let layer = QuantizeSpace { granularity: vec![Granularity::Layer], ..QuantizeSpace::default() };
    let space = space(vec![cluster(&[16, 32]), StepSpace::Quantize(layer)]);
    assert_eq!(searched(&space), ["cluster.clusters"]);
    let picks: [&[_]; 2] = [&[], &[("cluster.clusters", 1)]];
    let text = "int8 cluster 32 clipped per layer biases";
    let many = recipe(&space, picks[1]);
    assert_eq!(many.to_string(), text);
    assert!(many.fixes_costs());
    assert_eq!(parameters(&space, picks[0]), parameters(&space, picks[1]));
    assert_ne!(hash(&space, picks[0]), hash(&space, picks[1]));
}

#[test]
fn what_does_not_fit_clusters_is_left_out_where_there_are_some() {
    let quantize = QuantizeSpace {
        rounding: vec![Rounding::Nearest, Rounding::Adaround],
        ..QuantizeSpace::default()
    };
    let space = space(vec![
        cluster(&[0, 32]),
        StepSpace::FineTune(tune(&[1])),
        StepSpace::Quantize(quantize),
        StepSpace::QuantizeAwareTrain(tune(&[0, 2])),
    ]);
    let (clusters, learned) = (("cluster.clusters", 1), ("quantize.rounding", 1));
    let longer = ("quantize-aware-train.epochs", 1);
    let text = |picks: &[(&str, u16)]| recipe(&space, picks).to_string();
    assert_eq!(text(&[learned, longer]), "int8 tune 1 clipped biases adaround qat 2");
    let clustered = "int8 cluster 32 tune 1 clipped per layer biases";
    assert_eq!(text(&[clusters, learned, longer]), clustered);
    assert_eq!(hash(&space, &[clusters, learned, longer]), hash(&space, &[clusters]));
}

#[test]
fn what_would_break_clusters_is_refused() {
    let quantize = QuantizeSpace {
        equalize: vec![false, true],
        rounding: vec![Rounding::Adaround],
        ..QuantizeSpace::default()
    };
    let wrong = RecipeSpace::Steps(vec![
        cluster(&[16, 1, 257]),
        StepSpace::Prune(prune(Scope::Layer, &[0.5])),
        cluster(&[16]),
        StepSpace::Quantize(quantize),
        StepSpace::QuantizeAwareTrain(tune(&[1])),
    ]);
    let errors = StagedSpace::new(definition(wrong), DATA).unwrap_err();
    let said: Vec<String> = errors.iter().map(SpaceError::to_string).collect();
    let expected = [
        "recipe.steps[0].clusters: 1 is not allowed; use a number from 2 to 256, or 0 for none",
        "recipe.steps[0].clusters: 257 is not allowed; use a number from 2 to 256, or 0 for none",
        "recipe.steps[1].pass: it would take the weights out of the clusters of steps[0]; put \
         prune before it",
        "recipe.steps[2].pass: steps[0] clusters already; keep one of the two",
        "recipe.steps[3].granularity: the clusters of steps[0] belong to a whole layer; use \
         granularity = \"layer\"",
        "recipe.steps[3].equalize: the clusters of steps[0] belong to a whole layer, and this \
         scales its channels; use false",
        "recipe.steps[3].rounding: the clusters of steps[0] belong to a whole layer, and this \
         rounds each weight; use \"nearest\"",
        "recipe.steps[4].pass: it would take the weights out of the clusters of steps[0]; leave \
         one of the two out",
    ];
    assert_eq!(said, expected);
    let late = vec![StepSpace::Quantize(QuantizeSpace::default()), cluster(&[16])];
    let errors = StagedSpace::new(definition(RecipeSpace::Steps(late)), DATA).unwrap_err();
    let text = "recipe.steps[1].pass: steps[0] has quantized the network; put cluster before it";
    assert_eq!(errors.iter().map(SpaceError::to_string).collect::<Vec<_>>(), [text]);
    // Nothing may be removed even if there are clusters only in some candidates.
    let shrinking = |shrink: &[Shrink]| {
        StepSpace::FineTune(FineTuneSpace { shrink: shrink.to_vec(), ..tune(&[1]) })
    };
    let half = || StepSpace::Prune(prune(Scope::Layer, &[0.5]));
    let text = "it would take the weights out of the clusters of steps[0]";
    for (steps, said) in [
        (
            vec![cluster(&[0, 32]), half()],
            format!("recipe.steps[1].pass: {text}; put prune before it"),
        ),
        (
            vec![cluster(&[32]), shrinking(&[Shrink::None, Shrink::Scales])],
            format!("recipe.steps[1].shrink: {text}; leave the setting out"),
        ),
    ] {
        let wrong = definition(RecipeSpace::Steps(steps));
        let errors = StagedSpace::new(wrong.clone(), DATA).unwrap_err();
        assert_eq!(errors.iter().map(SpaceError::to_string).collect::<Vec<_>>(), [said]);
        StagedSpace::recorded(wrong, DATA).unwrap();
    }
}

#[test]
fn nothing_shrinks_where_there_are_clusters() {
    let space = space(vec![
        cluster(&[0, 32]),
        StepSpace::FineTune(FineTuneSpace {
            shrink: vec![Shrink::Scales, Shrink::Filters],
            shrink_by: vec![0.001, 0.01],
            ..tune(&[1])
        }),
    ]);
    let picks = [("fine-tune.shrink", 1), ("fine-tune.shrink_by", 1)];
    assert_eq!(recipe(&space, &picks).to_string(), "fp32 tune 1 shrink filters x0.01");
    let clusters = ("cluster.clusters", 1);
    let clustered = [clusters, picks[0], picks[1]];
    assert_eq!(recipe(&space, &clustered).to_string(), "fp32 cluster 32 tune 1");
    assert_eq!(hash(&space, &clustered), hash(&space, &[clusters]));
}

#[test]
fn blocks_go_with_a_share_of_the_network() {
    let blocks = |of, share: &[f64], importance| {
        let (unit, importance) = (PruneUnit::Blocks, vec![importance]);
        PruneSpace { unit, importance, ..prune(of, share) }
    };
    let of = |prune| definition(RecipeSpace::Steps(vec![StepSpace::Prune(prune)]));
    let fits = blocks(Scope::Macs, &[0.0, 0.5], Importance::Output);
    let space = StagedSpace::new(of(fits), DATA).unwrap();
    let recipe = &space.definition().recipe;
    // What stays is not known before.
    assert!(!recipe.fixes_costs() && recipe.most_pruned(2).is_none());
    for (wrong, said) in [
        (
            blocks(Scope::Layer, &[0.5], Importance::Output),
            "\"layer\" counts channels; with granularity = \"blocks\" use \"macs\", \"parameters\", \
             \"bytes\" or \"latency\"",
        ),
        (
            blocks(Scope::Macs, &[0.5], Importance::Taylor),
            "\"taylor\" does not rank blocks; with granularity = \"blocks\" use \"output\" or \
             \"random\"",
        ),
        (
            PruneSpace {
                multiple_of: vec![Multiple::Auto],
                ..blocks(Scope::Bytes, &[0.5], Importance::Random)
            },
            "multiples are of channels; leave the setting out with granularity = \"blocks\"",
        ),
        (
            PruneSpace { importance: vec![Importance::Output], ..prune(Scope::Macs, &[0.5]) },
            "\"output\" ranks blocks only; use it with granularity = \"blocks\"",
        ),
        (
            PruneSpace { multiple_of: vec![Multiple::Auto], ..prune(Scope::Layer, &[0.5]) },
            "\"auto\" is measured, but with of = \"layer\" sizes have to follow from the recipe; use \
             a number, or a share of the whole network such as of = \"macs\"",
        ),
        (
            PruneSpace { multiple_of: vec![0.into()], ..prune(Scope::Macs, &[0.5]) },
            "0 is not allowed; use a number from 1 to 256, or \"auto\"",
        ),
    ] {
        let errors = StagedSpace::new(of(wrong), DATA).unwrap_err();
        assert_eq!(errors[0].message, said);
    }
}

#[test]
fn what_is_rewound_is_trained_after_every_round() {
    let space = space(vec![StepSpace::Prune(PruneSpace {
        epochs: vec![2, 3],
        rewind: Rewind::ALL.to_vec(),
        ..prune(Scope::Macs, &[0.0, 0.5])
    })]);
    let (on, back, longer) = (("prune.share", 1), ("prune.rewind", 2), ("prune.epochs", 1));
    let of = |picks: &[(&str, u16)]| match &recipe(&space, picks).steps[0] {
        Step::Prune(pruning) => pruning.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((of(&[on]).trainings(), of(&[on, back]).trainings()), (0, 1));
    assert_eq!(of(&[on, back]).rewind, Rewind::Weights);
    // The epochs matter only if it trains.
    assert_eq!(hash(&space, &[on, longer]), hash(&space, &[on]));
    assert_ne!(hash(&space, &[on, back, longer]), hash(&space, &[on, back]));
    assert_ne!(hash(&space, &[on, back]), hash(&space, &[on, ("prune.rewind", 1)]));
    assert_eq!(hash(&space, &[back, longer]), hash(&space, &[]));
}

#[test]
fn what_shrinks_is_a_choice_with_a_weight() {
    let space = space(vec![StepSpace::FineTune(FineTuneSpace {
        shrink: Shrink::ALL.to_vec(),
        shrink_by: vec![0.001, 0.01],
        ..tune(&[0, 1])
    })]);
    assert_eq!(searched(&space), ["fine-tune.epochs", "fine-tune.shrink", "fine-tune.shrink_by"]);
    let (on, scales, strong) =
        (("fine-tune.epochs", 1), ("fine-tune.shrink", 1), ("fine-tune.shrink_by", 1));
    assert_eq!(
        recipe(&space, &[on, scales, strong]).to_string(),
        "fp32 tune 1 shrink scales x0.01"
    );
    assert_eq!(hash(&space, &[on, strong]), hash(&space, &[on]));
    assert_ne!(hash(&space, &[on, scales, strong]), hash(&space, &[on, scales]));
    assert_eq!(hash(&space, &[scales]), hash(&space, &[]));
    // What was hashed before anything shrank is hashed as it was.
    let plain = FineTuning::of(Some(2));
    assert_eq!(format!("{plain:?}"), "FineTuning { epochs: Some(2), learning_rate: None }");
}

/// Where channels share a scale, it cannot take in a factor of each channel.
#[test]
fn trainings_of_integers_normalise_where_channels_have_scales_of_their_own() {
    let learn =
        StepSpace::QuantizeAwareTrain(FineTuneSpace { normalize: vec![false, true], ..tune(&[1]) });
    let granularity = vec![Granularity::Channel, Granularity::Layer];
    let quantize = QuantizeSpace { granularity, ..QuantizeSpace::default() };
    let space = space(vec![StepSpace::Quantize(quantize), learn]);
    let normalize = ("quantize-aware-train.normalize", 1);
    let layer = ("quantize.granularity", 1);
    assert!(recipe(&space, &[normalize]).to_string().ends_with(" qat 1 normalized"));
    assert!(recipe(&space, &[normalize, layer]).to_string().ends_with(" qat 1"));
    assert_ne!(hash(&space, &[normalize]), hash(&space, &[]));
    assert_eq!(hash(&space, &[normalize, layer]), hash(&space, &[layer]));
    // Where it is chosen, or clusters keep only some candidates from it, it may have no effect.
    let layer =
        || QuantizeSpace { granularity: vec![Granularity::Layer], ..QuantizeSpace::default() };
    let layer = || StepSpace::Quantize(layer());
    let learn = |normalize: &[bool]| {
        let normalize = normalize.to_vec();
        StepSpace::QuantizeAwareTrain(FineTuneSpace { normalize, ..tune(&[1]) })
    };
    let own = || StepSpace::Quantize(QuantizeSpace::default());
    for steps in [
        vec![layer(), learn(&[false, true])],
        vec![own(), learn(&[true])],
        vec![cluster(&[0, 16]), own(), learn(&[true])],
    ] {
        StagedSpace::new(definition(RecipeSpace::Steps(steps)), DATA).unwrap();
    }
    // Where no candidate could have it, it is refused.
    let wrong = vec![layer(), learn(&[true]), learn(&[false]), learn(&[true])];
    let wrong = definition(RecipeSpace::Steps(wrong));
    let said: Vec<String> = StagedSpace::new(wrong.clone(), DATA)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    let text = "only layers with a scale for each channel are normalised, and those of steps[0] \
                have one for the whole layer; use granularity = \"channel\" there, or leave \
                normalize out";
    assert_eq!(said, [1, 3].map(|step| format!("recipe.steps[{step}].normalize: {text}")));
    StagedSpace::recorded(wrong, DATA).unwrap();
    // Behind clusters, another scale would be no mend.
    let clustered = vec![cluster(&[16]), layer(), learn(&[true])];
    let errors = StagedSpace::new(definition(RecipeSpace::Steps(clustered)), DATA).unwrap_err();
    assert_eq!(errors.iter().map(|e| &*e.field).collect::<Vec<_>>(), ["recipe.steps[2].pass"]);
    // What was hashed before anything normalised is hashed as it was.
    let plain = FineTuning::of(None);
    assert_eq!(format!("{plain:?}"), "FineTuning { epochs: None, learning_rate: None }");
}
