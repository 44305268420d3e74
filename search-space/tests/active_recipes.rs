//! Tests of random recipes that a choice which counts as active has an effect, and that one which
//! does not has none.

use edgesmith_search_space::{
    Activation, Answers, ClusterSpace, Course, DataShape, DistilSpace, Features, FineTuneSpace,
    Genotype, Granularity, Importance, Multiple, Operation, Precision, PruneSpace, PruneUnit,
    QuantizeSpace, RangeRule, Recipe, RecipeSpace, Rewind, Rounding, Scheduled, Scope, Shrink,
    Skip, Space, SpaceDefinition, StageSpace, StagedSpace, Step, StepSpace, WidthsSpace,
};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;

const DATA: DataShape = DataShape { channels: 1, classes: 3 };

/// One to three of these, in any order.
fn some<T: Clone>(all: &[T], rng: &mut ChaCha8Rng) -> Vec<T> {
    let number = rng.random_range(1..=3);
    all.sample(rng, number).cloned().collect()
}

fn one<T: Copy>(all: &[T], rng: &mut ChaCha8Rng) -> T {
    *all.choose(rng).unwrap()
}

/// A number that falls to half of it over each training.
fn falling(from: f64) -> Scheduled {
    Scheduled::Changing { from, to: from / 2.0, course: Course::Linear }
}

fn tune(rng: &mut ChaCha8Rng) -> FineTuneSpace {
    FineTuneSpace {
        epochs: some(&[0, 1, 2], rng),
        learning_rate: some(&[0.1, 0.2], rng),
        shrink: some(&[Shrink::None, Shrink::Filters], rng),
        shrink_by: some(&[1e-4, 1e-3], rng),
        normalize: some(&[false, true], rng),
    }
}

fn step(rng: &mut ChaCha8Rng) -> StepSpace {
    let both = [false, true];
    match rng.random_range(0..6) {
        0 => StepSpace::Distil(DistilSpace {
            alpha: some(&[0.0.into(), 0.5.into(), falling(0.9)], rng),
            temperature: some(&[2.0.into(), 4.0.into(), falling(8.0)], rng),
            answers: some(&[Answers::Classes, Answers::Values], rng),
            features: some(Features::ALL, rng),
            feature_weight: some(&[1.0.into(), 10.0.into(), falling(10.0)], rng),
        }),
        1 => {
            let units = [PruneUnit::Channels, PruneUnit::Weights, PruneUnit::TwoOfFour];
            StepSpace::Prune(PruneSpace {
                unit: one(&units, rng),
                of: one(&[Scope::Stage, Scope::Layer, Scope::Macs, Scope::Parameters], rng),
                share: some(&[0.0, 0.25, 0.5], rng),
                at_most: Vec::new(),
                importance: some(&[Importance::L1, Importance::L2, Importance::Taylor], rng),
                rounds: some(&[1, 2], rng),
                epochs: some(&[0, 1, 2], rng),
                multiple_of: some(&[1.into(), 4.into(), Multiple::Auto], rng),
                rewind: some(&[Rewind::None, Rewind::Rate, Rewind::Weights], rng),
            })
        }
        2 => StepSpace::FineTune(tune(rng)),
        3 => StepSpace::Cluster(ClusterSpace { clusters: some(&[0, 4, 16], rng) }),
        4 => {
            let layers = ["stem", "stage2.block1.depthwise", "classifier"].map(str::to_owned);
            let mixed = if rng.random() { some(&layers, rng) } else { Vec::new() };
            let fp32 = if rng.random() { some(&layers, rng) } else { Vec::new() };
            StepSpace::Quantize(QuantizeSpace {
                precision: some(&[Precision::Fp32, Precision::Int8], rng),
                calibration: some(RangeRule::ALL, rng),
                examples: some(&[16, 32], rng),
                clip_ranges: some(&both, rng),
                granularity: some(&[Granularity::Channel, Granularity::Layer], rng),
                equalize: some(&both, rng),
                correct_biases: some(&both, rng),
                rounding: some(&[Rounding::Nearest, Rounding::Adaround], rng),
                fp32,
                widths: WidthsSpace {
                    weights: some(&[1, 2, 4, 8, 16], rng),
                    affine: some(&both, rng),
                    activations: some(&[8, 16, 32], rng),
                    layers: match mixed[..] {
                        [] => Vec::new(),
                        _ => some(&[1, 2, 4, 8, 16, 32], rng),
                    },
                },
                mixed,
            })
        }
        _ => StepSpace::QuantizeAwareTrain(tune(rng)),
    }
}

/// A space of two stages, of which one may be absent, with random steps that are allowed, and
/// whether several of these distil.
fn space(rng: &mut ChaCha8Rng) -> (StagedSpace, bool) {
    let stage = |depth: &[u32]| StageSpace {
        depth: depth.to_vec(),
        width: vec![16],
        kernel: vec![3],
        operation: vec![Operation::NAMES[0].to_owned()],
        expansion: vec![1],
        stride: vec![1],
        activation: vec![Activation::Relu],
        squeeze: vec![0],
        skip: vec![Skip::Add],
    };
    loop {
        let steps: Vec<StepSpace> = (0..rng.random_range(1..=5)).map(|_| step(rng)).collect();
        let distils = steps.iter().filter(|step| matches!(step, StepSpace::Distil(_))).count();
        let definition = SpaceDefinition {
            resolution: vec![6],
            stem_width: vec![16],
            stages: vec![stage(&[1]), stage(&[1, 0])],
            recipe: RecipeSpace::Steps(steps),
        };
        if let Ok(space) = StagedSpace::new(definition, DATA) {
            return (space, distils > 1);
        }
    }
}

/// The same genotype with another option of one choice, for each.
fn neighbours(space: &Space, genotype: &Genotype, place: usize) -> Vec<Genotype> {
    let options = 0..space.choices()[place].options.len() as u16;
    let others = options.filter(|option| *option != genotype.indices()[place]);
    let other = |option| {
        let mut indices = genotype.indices().to_vec();
        indices[place] = option;
        space.genotype(indices).unwrap()
    };
    others.map(other).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Two genotypes that differ in one active choice have different recipes, with two exceptions.
    /// Rules that find the same ranges in 16 bits are one rule; the choice is active only if some
    /// option is another. And a step `distil` that is off leaves an earlier one in force, which may
    /// say the same.
    #[test]
    fn an_active_choice_changes_the_recipe(seed: u64) {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let (staged, distils_again) = space(rng);
        let whole = Space::from(staged.clone());
        let genotype = whole.sample(rng);
        let recipe = |genotype: &Genotype| staged.decode(genotype).recipe;
        let here = recipe(&genotype);
        let choices = whole.choices().iter().zip(whole.active(&genotype)).enumerate();
        for (place, (choice, active)) in choices {
            if choice.name == "stage2.depth" {
                continue;
            }
            let others = neighbours(&whole, &genotype, place);
            let mut differ = others.iter().map(|other| recipe(other) != here);
            let why = || format!("{} of {here}: {:?}", choice.name, choice.options);
            if !active {
                let hash = whole.canonical_hash(&genotype);
                for other in &others {
                    prop_assert_eq!(&whole.canonical_hash(other), &hash, "{}", why());
                    prop_assert_eq!(whole.active(other), whole.active(&genotype), "{}", why());
                }
            } else if choice.name.ends_with(".calibration") && has_wide_values(&here) {
                prop_assert!(differ.any(|differs| differs), "{}", why());
            } else if !(choice.name.starts_with("distil") && distils_again) {
                prop_assert!(differ.all(|differs| differs), "{}", why());
            }
        }
    }
}

fn has_wide_values(recipe: &Recipe) -> bool {
    recipe.steps.iter().any(|step| match step {
        Step::Quantize(quantizing) => quantizing.widths.activations == 16,
        Step::Distil(_)
        | Step::Prune(_)
        | Step::FineTune(_)
        | Step::Cluster(_)
        | Step::QuantizeAwareTrain(_) => false,
    })
}
