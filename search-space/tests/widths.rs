//! Tests of the bits of weights and values in recipes: which of them are choices that matter, what
//! a candidate becomes, and what is refused.

use edgesmith_search_space::{
    Activation, Arithmetic, Candidate, DataShape, FineTuneSpace, Genotype, Operation, Precision,
    QuantizeSpace, RangeRule, RecipeSpace, Rounding, Skip, Space, SpaceDefinition, SpaceError,
    StageSpace, StagedSpace, Step, StepSpace, WidthsSpace,
};

fn definition(steps: Vec<StepSpace>) -> SpaceDefinition {
    let stage = StageSpace {
        depth: vec![1],
        width: vec![8],
        kernel: vec![3],
        operation: vec![Operation::NAMES[0].to_owned()],
        expansion: vec![1],
        stride: vec![1],
        activation: vec![Activation::Relu],
        squeeze: vec![0],
        skip: vec![Skip::Add],
    };
    let recipe = RecipeSpace::Steps(steps);
    SpaceDefinition { resolution: vec![6], stem_width: vec![4], stages: vec![stage], recipe }
}

const DATA: DataShape = DataShape { channels: 1, classes: 3 };

fn space(quantize: QuantizeSpace) -> StagedSpace {
    let tune = FineTuneSpace::plain(vec![1, 2], Vec::new());
    let steps = vec![StepSpace::Quantize(quantize), StepSpace::QuantizeAwareTrain(tune)];
    StagedSpace::new(definition(steps), DATA).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// Without a training, which not all bits can have.
fn space_alone(quantize: QuantizeSpace) -> StagedSpace {
    StagedSpace::new(definition(vec![StepSpace::Quantize(quantize)]), DATA)
        .unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// Every setting of the bits is searched, and what depends on them.
fn searched() -> StagedSpace {
    let widths = WidthsSpace {
        weights: vec![8, 4, 1, 16],
        affine: vec![false, true],
        activations: vec![8, 16, 32],
        layers: vec![4, 32, 1],
    };
    space(QuantizeSpace {
        calibration: vec![RangeRule::Mse, RangeRule::MinMax],
        clip_ranges: vec![false, true],
        rounding: vec![Rounding::Nearest, Rounding::Adaround],
        mixed: vec!["stem".to_owned(), "classifier".to_owned()],
        widths,
        ..QuantizeSpace::default()
    })
}

/// A genotype with these options, and the first of all other choices.
fn genotype(space: &StagedSpace, picks: &[(&str, u16)]) -> Genotype {
    let choices = space.choices();
    let mut indices = vec![0; choices.len()];
    for (name, option) in picks {
        let name = format!("quantize.{name}");
        let place = choices.iter().position(|choice| choice.name == name);
        indices[place.unwrap_or_else(|| panic!("no choice {name}"))] = *option;
    }
    Space::from(space.clone()).genotype(indices).unwrap()
}

fn inactive(picks: &[(&str, u16)]) -> Vec<String> {
    let space = searched();
    let genotype = genotype(&space, picks);
    let whole: Space = space.into();
    let off = whole.choices().iter().zip(whole.active(&genotype)).filter(|(_, active)| !active);
    off.map(|(choice, _)| choice.name.clone()).filter(|name| name.contains("quantize")).collect()
}

fn decoded(picks: &[(&str, u16)]) -> Candidate {
    let space = searched();
    space.decode(&genotype(&space, picks))
}

#[test]
fn choices_that_the_bits_do_not_need_are_inactive() {
    let (w1, w16) = (("weight_bits", 2), ("weight_bits", 3));
    let (a16, a32) = (("activation_bits", 1), ("activation_bits", 2));
    let mixed = [("layer.stem", 1), ("layer.classifier", 1)];
    let with = |more: &[(&'static str, u16)]| [&mixed[..], more].concat();
    let learned = ["quantize.rounding", "quantize-aware-train.epochs"];
    assert_eq!(inactive(&with(&[])), [""; 0]);
    assert_eq!(inactive(&with(&[w1])), ["quantize.affine_weights", "quantize.rounding"]);
    for picks in [&[w16][..], &[("affine_weights", 1)]] {
        assert_eq!(inactive(&with(picks)), learned, "{picks:?}");
    }
    // So many levels cover all numbers alike, whatever the rule.
    let expected = [&["quantize.calibration"][..], &learned].concat();
    assert_eq!(inactive(&with(&[a16])), expected);
    let expected = [&["quantize.calibration", "quantize.clip_ranges"][..], &learned].concat();
    assert_eq!(inactive(&with(&[a32])), expected);
    // A binary layer can be trained, but no rounding is learned beside it.
    assert_eq!(inactive(&[("layer.stem", 2)]), ["quantize.rounding"]);
}

/// Where the choice of a layer, or of what examples are for, comes later, one who draws the choices
/// in order does not know it yet.
#[test]
fn what_later_choices_leave_without_effect_is_open_in_order() {
    let by_place = |space: &Space, genotype: &Genotype, name: &str| {
        let name = format!("quantize.{name}");
        let place = space.choices().iter().position(|choice| choice.name == name).unwrap();
        (space.active(genotype)[place], space.active_in_order(genotype)[place])
    };
    let searched = searched();
    let binary = genotype(&searched, &[("layer.stem", 2)]);
    assert_eq!(by_place(&searched.into(), &binary, "rounding"), (false, true));

    let real = space(QuantizeSpace {
        examples: vec![16, 32],
        correct_biases: vec![false, true],
        widths: WidthsSpace { activations: vec![8, 32], ..WidthsSpace::default() },
        ..QuantizeSpace::default()
    });
    for (picks, examples) in [
        (&[][..], (true, true)),
        (&[("activation_bits", 1)], (false, true)),
        (&[("activation_bits", 1), ("correct_biases", 1)], (true, true)),
    ] {
        let genotype = genotype(&real, picks);
        assert_eq!(by_place(&real.clone().into(), &genotype, "examples"), examples, "{picks:?}");
    }
}

#[test]
fn a_rule_for_sixteen_bits_matters_where_one_cuts_off_numbers() {
    let of = |calibration: &[RangeRule]| {
        let space = space_alone(QuantizeSpace {
            calibration: calibration.to_vec(),
            widths: WidthsSpace { activations: vec![16], ..WidthsSpace::default() },
            ..QuantizeSpace::default()
        });
        let genotype = genotype(&space, &[]);
        let space: Space = space.into();
        let place = space.choices().iter().position(|c| c.name == "quantize.calibration");
        space.active(&genotype)[place.unwrap()]
    };
    assert!(!of(&[RangeRule::Mse, RangeRule::MinMax, RangeRule::Entropy]));
    assert!(!of(&[RangeRule::MinMax, RangeRule::Entropy]));
    assert!(of(&[RangeRule::Entropy, RangeRule::Percentile]));
}

#[test]
fn inactive_choices_change_nothing() {
    let a32 = ("activation_bits", 2);
    let space: Space = searched().into();
    let of = |picks: &[(&str, u16)]| {
        let genotype = genotype(&searched(), picks);
        space.canonical_hash(&genotype).unwrap()
    };
    let real = of(&[a32]);
    for other in [("calibration", 1), ("clip_ranges", 1), ("rounding", 1)] {
        assert_eq!(of(&[a32, other]), real, "{other:?}");
    }
    assert_eq!(of(&[("weight_bits", 2), ("affine_weights", 1)]), of(&[("weight_bits", 2)]));
    let unlike = [
        of(&[]),
        real,
        of(&[("weight_bits", 1)]),
        of(&[("affine_weights", 1)]),
        of(&[("activation_bits", 1)]),
        of(&[("layer.stem", 1)]),
        of(&[("layer.stem", 2)]),
    ];
    let kinds: std::collections::BTreeSet<_> = unlike.iter().collect();
    assert_eq!(kinds.len(), unlike.len());
}

#[test]
fn each_layer_has_bits_of_its_own() {
    let choices = searched();
    let of_stem = choices.choices().iter().find(|c| c.name == "quantize.layer.stem").unwrap();
    assert_eq!(of_stem.options, ["int4", "fp32", "binary"]);
    let Candidate { recipe, .. } = decoded(&[("layer.stem", 1), ("layer.classifier", 2)]);
    let Some(Step::Quantize(quantizing)) = recipe.steps.first() else { panic!("{recipe}") };
    assert_eq!(quantizing.fp32, ["stem"]);
    assert_eq!(quantizing.widths.layer_bits, [("classifier".to_owned(), 1)]);
    assert_eq!(recipe.arithmetic(), Some(Arithmetic::Integers));
    assert_eq!(recipe.to_string(), "int8 biases but stem classifier w1 qat 1");
    // Those that have the bits of all layers are not named.
    let picks = [("weight_bits", 1), ("layer.classifier", 1), ("activation_bits", 1)];
    let Candidate { recipe, .. } = decoded(&picks);
    let Some(Step::Quantize(quantizing)) = recipe.steps.first() else { panic!("{recipe}") };
    assert_eq!(
        (&quantizing.fp32[..], &quantizing.widths.layer_bits[..]),
        (&["classifier".to_owned()][..], &[][..])
    );
    assert_eq!(recipe.to_string(), "fp32 biases but classifier w4 a16 by reference");
    assert_eq!(recipe.precision(), Precision::Fp32);
}

/// Hashes of earlier candidates are made of this text.
#[test]
fn the_usual_bits_are_not_written() {
    let plain = space(QuantizeSpace::default());
    let recipe = plain.decode(&genotype(&plain, &[])).recipe;
    let text = "Quantize(Quantizing { calibration: Mse, examples: 256, clip_ranges: true, \
                granularity: Channel, equalize: false, correct_biases: true, rounding: Nearest, \
                fp32: [] })";
    assert_eq!(format!("{:?}", recipe.steps[0]), text);
}

#[test]
fn bits_that_there_are_not_and_that_do_not_fit_are_refused() {
    let widths = WidthsSpace {
        weights: vec![3, 1],
        affine: vec![true],
        activations: vec![4],
        layers: vec![7],
    };
    let said = |quantize: QuantizeSpace, trained: bool| {
        let tune = FineTuneSpace::plain(Vec::new(), Vec::new());
        let mut steps = vec![StepSpace::Quantize(quantize)];
        steps.extend(trained.then_some(StepSpace::QuantizeAwareTrain(tune)));
        let errors = StagedSpace::new(definition(steps), DATA).unwrap_err();
        errors.iter().map(SpaceError::to_string).collect::<Vec<_>>()
    };
    let usual = QuantizeSpace::default;
    assert_eq!(
        said(QuantizeSpace { widths, ..usual() }, false),
        [
            "recipe.steps[0].weight_bits: 3 is not allowed; use one of 1, 2, 4, 8, 16",
            "recipe.steps[0].activation_bits: 4 is not allowed; use one of 8, 16, 32",
            "recipe.steps[0].mixed_bits: 7 is not allowed; use one of 1, 2, 4, 8, 16, 32",
            "recipe.steps[0].mixed_bits: applies to the layers in `mixed`, but `mixed` is empty; \
             leave it out",
        ]
    );
    let binary = WidthsSpace { weights: vec![1], affine: vec![true], ..WidthsSpace::default() };
    let rounding = vec![Rounding::Adaround];
    let mixed = vec!["stem".to_owned()];
    assert_eq!(
        said(QuantizeSpace { widths: binary, rounding, mixed, ..usual() }, true),
        [
            "recipe.steps[0].affine_weights: weights of 1 bit are a sign and have no zero point; \
             use false",
            "recipe.steps[0].mixed_bits: is missing; say which bits the layers of mixed may have, \
             such as [4, 32]",
            "recipe.steps[0].rounding: \"adaround\" needs symmetric weights of 2 to 8 bits and \
             values of 8 bits; use \"nearest\"",
        ]
    );
}
