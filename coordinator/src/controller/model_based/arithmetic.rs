//! What can be computed about a network before it is trained: some objectives exactly, and the cost
//! of its training relative to that of other networks. It also decides how objectives are compared.
//!
//! It is not used in studies over a table. There all look-ups cost the same, and objectives are
//! compared as they are.

use std::cell::RefCell;

use edgesmith_common::metric::Scale;
use edgesmith_common::{Objective, StudySpec};
use edgesmith_search_space::{
    Cost, Design, Genotype, NetworkSpace, TrainingWork, pruned, training_work,
};

/// The arithmetic of one study that trains.
#[derive(Debug, Clone)]
pub struct Arithmetic {
    space: NetworkSpace,
    objectives: Vec<Objective>,
    /// Trials that the study may train.
    budget: u32,
    /// What the parts of networks cost. It holds nothing but what can be computed again.
    works: RefCell<TrainingWork>,
}

/// What is known about a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// One value for each objective, less is better; `None` if it must be measured after training.
    pub objectives: Vec<Option<f64>>,
    /// Cost of its training relative to that of other candidates, above 0.
    pub cost: f64,
}

impl Arithmetic {
    /// The arithmetic of a study; `None` if the study trains nothing.
    pub fn new(spec: &StudySpec) -> Option<Self> {
        let space = spec.training()?.space.clone();
        let (objectives, budget) = (spec.objectives.clone(), spec.budget.trials);
        let works = RefCell::new(TrainingWork::new(space.data()));
        Some(Self { space, objectives, budget, works })
    }

    /// Whether cheap candidates are worth more than expensive ones that gain as much. They are with
    /// several objectives, because a front has a cheap end.
    pub fn weighs_costs(&self) -> bool {
        self.objectives.len() > 1
    }

    /// What is known about a candidate; `None` if it is not a valid network.
    pub fn of(&self, genotype: &Genotype) -> Option<Known> {
        let candidate = self.space.decode(genotype);
        let computes = (0..self.objectives.len()).any(|place| self.computes(place));
        if let Design::Staged(network) = &candidate.architecture
            && !computes
        {
            let cost = self.works.borrow_mut().of(network)?.max(1) as f64;
            return Some(Known { objectives: vec![None; self.objectives.len()], cost });
        }
        let network = candidate.graph(self.space.data()).ok()?;
        // Pruning comes after training, so the whole network is trained.
        let cost = training_work(&network).max(1) as f64;
        if !computes {
            return Some(Known { objectives: vec![None; self.objectives.len()], cost });
        }
        let network = candidate.recipe.prunings().fold(network, pruned);
        let shipped = Cost::of(&network, candidate.recipe.precision());
        let known = |objective: &Objective| {
            let value = objective.of.metric.of_cost(&shipped)?;
            Some(compared(objective, objective.goal.oriented(value)))
        };
        Some(Known { objectives: self.objectives.iter().map(known).collect(), cost })
    }

    /// Whether the objective at this place is known before training, for every valid network.
    pub fn computes(&self, place: usize) -> bool {
        self.objectives[place].of.metric.is_analytic() && self.space.recipe().fixes_costs()
    }

    /// Measured objectives, less is better, in the units in which they are compared.
    pub fn compared(&self, values: &[f64]) -> Vec<f64> {
        let pairs = self.objectives.iter().zip(values);
        pairs.map(|(objective, value)| compared(objective, *value)).collect()
    }

    /// The exponent of the cost by which gains are divided, after this many trials. The cost counts
    /// in full at first and not at all at the end (Lee, Perrone, Archambeau & Seeger 2020,
    /// *Cost-aware Bayesian Optimization*), so that good but expensive candidates are found within
    /// the budget too.
    pub fn cost_exponent(&self, trials: usize) -> f64 {
        (1.0 - trials as f64 / f64::from(self.budget.max(1))).clamp(0.0, 1.0)
    }
}

/// Costs span powers of ten and matter by their ratios, as in the hypervolume that progress shows
/// ([`edgesmith_common::pareto::study_hypervolume`]); accuracies are compared as they are. The
/// metric's scale decides.
fn compared(objective: &Objective, value: f64) -> f64 {
    match objective.of.metric.definition().scale {
        Scale::Linear { .. } => value,
        Scale::Logarithmic { .. } => {
            let logarithm = value.abs().max(f64::MIN_POSITIVE).ln();
            objective.goal.oriented(logarithm)
        }
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_search_space::Space;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn spec() -> StudySpec {
        let text = "study.name = \"s\"\ndata.source = \"digits\"\nbudget.trials = 40\n\
                    objectives = [{ metric = \"validation_accuracy\" }, { metric = \"macs\" }, \
                    { metric = \"latency_ms\", device = \"pi\" }, \
                    { metric = \"parameters\", goal = \"maximize\" }]\n\
                    recipe = { prune = [0.0, 0.5] }\n\
                    space = { resolution = 8, stem_width = [8, 16], \
                    stages = [{ width = [16, 32] }] }\n";
        StudySpec::parse(text).unwrap()
    }

    #[test]
    fn known_costs_equal_the_measured_ones() {
        let spec = spec();
        let arithmetic = Arithmetic::new(&spec).unwrap();
        let Space::Staged(space) = &spec.space else { panic!("a space of networks") };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..20 {
            let genotype = spec.space.sample(&mut rng);
            let candidate = space.decode(&genotype);
            let cost = candidate.pruned_graph(space.data()).unwrap().cost();
            let known = arithmetic.of(&genotype).unwrap();
            let (macs, parameters) = (cost.macs as f64, cost.parameters as f64);
            let compared = arithmetic.compared(&[-0.5, macs, 3.0, -parameters]);
            assert_eq!(compared, [-0.5, macs.ln(), 3f64.ln(), -parameters.ln()]);
            let expected = [None, Some(compared[1]), None, Some(compared[3])];
            assert_eq!(known.objectives, expected);
            let computed = expected.map(|value| value.is_some());
            assert_eq!([0, 1, 2, 3].map(|place| arithmetic.computes(place)), computed);
        }
    }

    #[test]
    fn training_cost_is_that_of_the_network_before_pruning() {
        let spec = spec();
        let arithmetic = Arithmetic::new(&spec).unwrap();
        let choices = spec.space.choices();
        let genotype = |prune: u16, stem: u16| {
            let pick = |name: &str, options: usize| match name {
                _ if name.contains("prune") && options > 1 => prune,
                _ if name.contains("stem") => stem,
                _ => 0,
            };
            let indices = choices.iter().map(|c| pick(&c.name, c.options.len())).collect();
            spec.space.genotype(indices).unwrap()
        };
        let of = |prune, stem| arithmetic.of(&genotype(prune, stem)).unwrap();
        assert_eq!(of(0, 0).cost, of(1, 0).cost);
        assert_ne!(of(0, 0).objectives, of(1, 0).objectives);
        assert!(of(0, 0).cost < of(0, 1).cost);
    }

    #[test]
    fn cost_counts_in_full_at_first_and_not_at_the_end() {
        let arithmetic = Arithmetic::new(&spec()).unwrap();
        let exponents = [0, 10, 40, 50].map(|trials| arithmetic.cost_exponent(trials));
        assert_eq!(exponents, [1.0, 0.75, 0.0, 0.0]);
    }
}
