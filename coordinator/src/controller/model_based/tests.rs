//! Tests of the first trials, and of the benefit of costs that are computed before training.

use edgesmith_common::{StudySpec, pareto};
use edgesmith_search_space::{Precision, QuantizeSpace, RangeRule, StepSpace};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::super::conformance::recipes_of;
use super::*;

fn spec() -> StudySpec {
    let text = "study.name = \"s\"\ndata.source = \"digits\"\nbudget.trials = 1000\n\
                objectives = [{ metric = \"validation_accuracy\" }, { metric = \"macs\" }]\n\
                [space]\nresolution = [8, 16, 32]\nstem_width = [8, 16]\n\
                [[space.stages]]\nwidth = [8, 16, 32]\ndepth = [1, 2]\nkernel = [3, 5]\n\
                operation = [\"conv\", \"separable\"]\n\
                [[space.stages]]\nwidth = [16, 32, 64]\ndepth = [1, 2]\nstride = 2\n\
                operation = [\"conv\", \"separable\"]\n";
    StudySpec::parse(text).unwrap()
}

/// A study of networks whose accuracy grows with their size, with a little random error.
struct Bench {
    model: ModelBased,
    arithmetic: Arithmetic,
    rng: ChaCha8Rng,
    points: Vec<Vec<f64>>,
    cost: f64,
}

impl Bench {
    fn new(seed: u64, knows: bool) -> Self {
        let spec = spec();
        let arithmetic = Arithmetic::new(&spec).unwrap();
        let model = ModelBased::new(spec.space.clone(), 12, knows.then(|| arithmetic.clone()));
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { model, arithmetic, rng, points: Vec::new(), cost: 0.0 }
    }

    /// Proposes a trial and finishes it; returns the logarithm of its MACs.
    fn step(&mut self) -> f64 {
        let number = TrialNumber(self.points.len() as u32);
        let proposal = self.model.suggest(number, &mut self.rng).unwrap();
        self.model.proposed(number, &proposal);
        let known = self.arithmetic.of(&proposal.genotype).unwrap();
        let macs = known.objectives[1].unwrap();
        let luck: f64 =
            proposal.genotype.indices().iter().map(|i| f64::from(*i * 7 % 5)).sum::<f64>() / 400.0;
        let error = 0.5 * (-(macs - 8.0) / 4.0).exp() + luck;
        let objectives = vec![error - 1.0, macs.exp()];
        self.model.update(&FinishedTrial::Complete { number, objectives, violation: 0.0 });
        self.points.push(vec![error - 1.0, macs]);
        self.cost += known.cost;
        macs
    }

    /// The amount of training that is needed to reach a front with this hypervolume.
    fn cost_of(mut self, worth: f64) -> f64 {
        while pareto::hypervolume(&self.points, &[-0.4, 18.0]) < worth {
            assert!(self.points.len() < 500, "the front stays below {worth}");
            self.step();
        }
        self.cost
    }
}

#[test]
fn a_front_takes_less_training_if_costs_are_known() {
    let cost = |knows| (0..6).map(|seed| Bench::new(seed, knows).cost_of(2.6)).sum::<f64>();
    let (with, without) = (cost(true), cost(false));
    assert!(with < 0.5 * without, "{with} with, {without} without");
}

#[test]
fn the_first_trials_are_cheap_ones() {
    let macs = |knows| {
        let first = |seed| {
            let mut bench = Bench::new(seed, knows);
            (0..12).map(|_| bench.step()).sum::<f64>()
        };
        (0..6).map(first).sum::<f64>() / 72.0
    };
    // The difference of the logarithms means at most half as many MACs.
    assert!(macs(true) < macs(false) - 2f64.ln());
}

#[test]
fn the_first_recipes_are_near_the_authors_first() {
    let quantize = QuantizeSpace {
        precision: vec![Precision::Int8, Precision::Fp32],
        calibration: RangeRule::ALL.to_vec(),
        examples: vec![16, 32, 64],
        clip_ranges: vec![false, true],
        ..QuantizeSpace::default()
    };
    let space = recipes_of(vec![StepSpace::Quantize(quantize)]);
    let open = space.choices().iter().filter(|choice| choice.options.len() > 1);
    assert_eq!(open.count(), 4);
    let mut orders = std::collections::BTreeSet::new();
    for (initial, seed) in [6, 12].into_iter().flat_map(|initial| (0..8).map(move |s| (initial, s)))
    {
        let mut model = ModelBased::new(space.clone(), initial, None);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut next = |number| {
            let proposal = model.suggest(TrialNumber(number), &mut rng).unwrap();
            model.proposed(TrialNumber(number), &proposal);
            proposal.genotype.indices().to_vec()
        };
        assert!(next(0).iter().all(|option| *option == 0));
        // Half of the trials, and one for each choice, have a single change.
        let singles = 4.min(initial as u32 / 2);
        let changed: Vec<usize> = (1..=singles)
            .map(|number| {
                let indices = next(number);
                let (place, option) =
                    indices.iter().enumerate().max_by_key(|(_, option)| **option).unwrap();
                assert_eq!((*option, indices.iter().sum::<u16>()), (1, 1), "{indices:?}");
                place
            })
            .collect();
        let places = std::collections::BTreeSet::from_iter(&changed).len();
        assert_eq!(places, singles as usize, "{changed:?}");
        // A third of four, rounded up.
        let changes = next(singles + 1).iter().filter(|option| **option > 0).count();
        assert_eq!(changes, 2);
        orders.insert(changed);
    }
    assert!(orders.len() > 6, "{orders:?}");
}
