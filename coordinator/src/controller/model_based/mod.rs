//! Model-based search: it fits a Gaussian process to each objective and proposes the candidate with
//! the greatest merit in a pool.
//!
//! It follows BANANAS (White, Neiswanger, Savani, AAAI 2021) and "Mutation is all you need"
//! (Schneider et al., AutoML workshop at ICML 2021): the pool holds mutations of the incumbents and
//! some uniform samples, and a surrogate judges them. They use an ensemble of neural networks. Here
//! the surrogate is a Gaussian process over genotypes (see [`kernel`]), which needs no training
//! loop and is reproducible to the bit. On NAS-Bench-201 it was ahead of per-candidate Thompson
//! sampling.
//!
//! With one objective candidates are compared by the lower confidence bound, with two by the
//! expected hypervolume improvement (Emmerich et al. 2006), computed by quadrature through the
//! warp, and with more by a random augmented Tchebycheff scalarisation (ParEGO, Knowles 2006).
//!
//! What can be computed about a network ([`arithmetic`]) needs no model. Costs that are objectives
//! are exact. With several objectives a gain is divided by the training that it takes; with more
//! than two the gain is then the expected improvement of the scalarisation.
//!
//! How the parts work together: [`observations`] selects the trials to fit. [`surrogate`] fits
//! models to them and ranks the pool by [`acquisition`], the expected gain of a candidate, and
//! [`constraint`], the prediction for its constraints; [`merit`] combines the two. The work for a
//! proposal does not grow with the study. Candidates are compared with the fitted trials by
//! [`columns`] and evaluated several at once, and the factors of the processes are kept from one
//! proposal to the next. None of this changes a bit of a proposal.

mod acquisition;
mod arithmetic;
mod columns;
mod constraint;
mod gaussian_process;
mod kernel;
mod merit;
mod observations;
mod surrogate;
#[cfg(test)]
mod tests;
mod warp;

use std::cell::RefCell;

use edgesmith_common::TrialNumber;
use edgesmith_search_space::{Choice, Genotype, Space};
use rand::{Rng, RngExt};

pub use self::arithmetic::Arithmetic;

use self::gaussian_process::Hyper;
use self::kernel::Groups;
use self::observations::{Observation, Observations};
use self::surrogate::{Fits, Surrogate, refined};
use super::breeding::{Parent, open_choices, recombined};
use super::fitness::Fitness;
use super::history::History;
use super::{Controller, FinishedTrial, Proposal};

/// Numbers of candidates in a pool: uniform samples, and children of incumbents.
const SAMPLES: usize = 400;
const CHILDREN: usize = 1200;
/// Probability that a child of the pool has two parents.
const CROSSOVER: f64 = 0.3;
/// Each of the first trials is the cheapest of this many random candidates.
const CHEAPEST_OF: usize = 4;
/// Number of complete trials before the parameters of the processes are fitted, and the least
/// number between later fits.
const FIT_EVERY: usize = 6;

/// Model-based search, running on one study.
#[derive(Debug)]
pub struct ModelBased {
    history: History,
    groups: Groups,
    /// What can be computed without a model; `None` if nothing can.
    arithmetic: Option<Arithmetic>,
    /// Number of random trials before the model is used.
    initial: usize,
    observations: Observations,
    /// The likeliest parameters, one per objective.
    hypers: Vec<Hyper>,
    /// Number of complete trials when they were fitted.
    fitted_at: usize,
    /// What proposals share. No proposal depends on what it holds before, so it is not state.
    fits: RefCell<Fits>,
}

impl ModelBased {
    /// A controller of `space` that begins with `initial` random trials (at least 2). If costs can
    /// be computed, each of them is the cheapest of a few.
    pub fn new(space: Space, initial: usize, arithmetic: Option<Arithmetic>) -> Self {
        let groups = Groups::new(&space);
        Self {
            fits: RefCell::new(Fits::new(&groups)),
            groups,
            history: History::new(space),
            arithmetic,
            initial: initial.max(2),
            observations: Observations::default(),
            hypers: Vec::new(),
            fitted_at: 0,
        }
    }

    /// What was proposed so far.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// Numbers of trials that show something about their candidate, and of those that were
    /// measured.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.observations.count(), self.observations.completed())
    }

    /// Whether there are enough trials to fit a model.
    fn is_ready(&self) -> bool {
        let started = self.observations.count() + self.history.running();
        started >= self.initial && self.observations.completed() > 1
    }

    /// The incumbents, as parents: see [`Observations::incumbents`].
    pub(super) fn incumbents(&self) -> impl Iterator<Item = Parent<'_>> {
        self.observations.incumbents().map(|o| (o.number, &o.genotype))
    }

    /// A genotype for one of the first trials: first one that picks the same option everywhere, and
    /// then a random one.
    fn first_sample(&self, rng: &mut dyn Rng) -> Genotype {
        let space = self.history.space();
        let open: Vec<usize> =
            space.choices().iter().map(|c| c.options.len()).filter(|n| *n > 1).collect();
        let options = open.first().copied().unwrap_or(1);
        if open.iter().all(|n| *n == options) {
            let alike = (0..options as u16).map(|option| {
                let index = |c: &Choice| {
                    if c.options.len() > 1 { option } else { 0 }
                };
                let indices = space.choices().iter().map(index).collect();
                space.genotype(indices).expect("every open choice has this option")
            });
            let fresh: Vec<Genotype> = alike.filter(|g| self.history.is_fresh(g)).collect();
            if !fresh.is_empty() {
                return fresh[rng.random_range(0..fresh.len())].clone();
            }
        }
        space.sample(rng)
    }

    /// A genotype for one of the first trials where only recipes are searched. Most random recipes
    /// ruin a network, so it is near the one that its author would try first. That one comes first.
    /// Then come recipes that differ from it in one choice, which has its second option, in random
    /// order, up to half of the first trials; and then recipes with changes in a third of the
    /// choices that count in it. Settings of steps that it leaves out keep their first option.
    fn near_first(&self, first: Genotype, rng: &mut dyn Rng) -> Genotype {
        if self.history.is_fresh(&first) {
            return first;
        }
        let space = self.history.space();
        let active = space.active(&first).into_iter().zip(space.choices()).enumerate();
        let open = active.filter(|(_, (active, choice))| *active && choice.options.len() > 1);
        let second = |place: usize| {
            let mut indices = first.indices().to_vec();
            indices[place] = 1;
            space.genotype(indices).expect("every open choice has a second option")
        };
        let seconds: Vec<Genotype> = open.map(|(place, _)| second(place)).collect();
        let fresh: Vec<&Genotype> = seconds.iter().filter(|g| self.history.is_fresh(g)).collect();
        let tried = seconds.len() - fresh.len();
        if fresh.is_empty() || tried >= self.initial / 2 {
            return space.mutate(&first, seconds.len().div_ceil(3), rng);
        }
        fresh[rng.random_range(0..fresh.len())].clone()
    }

    /// The cheapest of a few first genotypes, if costs can be computed and matter. So the cheap end
    /// of a front is reached with little training, and the model judges expensive candidates from
    /// there.
    fn first_cheap(&self, rng: &mut dyn Rng) -> Genotype {
        // All recipes begin with the same network.
        if let Some(first) = self.history.space().first_recipe() {
            return self.near_first(first, rng);
        }
        let arithmetic = self.arithmetic.as_ref().filter(|a| a.weighs_costs());
        let first = self.first_sample(rng);
        let Some(arithmetic) = arithmetic else { return first };
        let cost = |genotype: &Genotype| arithmetic.of(genotype).map_or(f64::INFINITY, |k| k.cost);
        let mut cheapest = (cost(&first), first);
        for _ in 1..CHEAPEST_OF {
            let other = self.first_sample(rng);
            let cost = cost(&other);
            if cost < cheapest.0 {
                cheapest = (cost, other);
            }
        }
        cheapest.1
    }

    /// Candidates worth judging.
    fn pool(&self, rng: &mut dyn Rng) -> Vec<Proposal> {
        let space = self.history.space();
        let sample = |_| Proposal { genotype: space.sample(rng), parents: Vec::new() };
        let mut pool: Vec<Proposal> = (0..SAMPLES).map(sample).collect();
        let incumbents: Vec<Parent<'_>> = self.incumbents().collect();
        if incumbents.is_empty() {
            return pool;
        }
        let open = open_choices(space);
        for _ in 0..CHILDREN {
            let pick = |rng: &mut dyn Rng| incumbents[rng.random_range(0..incumbents.len())];
            let (child, parents) = recombined(space, CROSSOVER, pick, rng);
            // Most often one change, sometimes many.
            let mut changes = 1;
            while changes < open && rng.random_bool(0.5) {
                changes += 1;
            }
            pool.push(Proposal { genotype: space.mutate(&child, changes, rng), parents });
        }
        pool
    }

    /// Fits the parameters of the processes again when a fifth more trials are complete.
    fn refit(&mut self) {
        let completed = self.observations.completed();
        if completed >= self.fitted_at + (self.fitted_at / 5).max(FIT_EVERY) {
            self.fitted_at = completed;
            self.hypers = refined(&self.groups, &self.observations, &self.hypers);
        }
    }
}

impl Controller for ModelBased {
    fn suggest(&self, _number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        if !self.is_ready() {
            return self.history.first_fresh(rng, |rng| (self.first_cheap(rng), Vec::new()));
        }
        let mut pool = self.pool(rng);
        let arithmetic = self.arithmetic.as_ref();
        let mut fits = self.fits.borrow_mut();
        let (groups, observations) = (&self.groups, &self.observations);
        let surrogate =
            Surrogate::fit(groups, arithmetic, observations, &self.hypers, &mut fits, rng);
        let ranked = surrogate.ranked(&pool);
        let best = ranked.into_iter().find(|&i| self.history.is_fresh(&pool[i].genotype));
        match best {
            Some(best) => Some(pool.swap_remove(best)),
            None => self.history.fresh_sample(rng),
        }
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.history.propose(number, proposal);
    }

    fn update(&mut self, finished: &FinishedTrial) {
        let number = finished.number();
        let Some(genotype) = self.history.finish(number) else { return };
        let (objectives, violation) = match finished {
            FinishedTrial::Complete { .. } => {
                let Some(fitness) = Fitness::of(finished) else { return };
                let objectives = match &self.arithmetic {
                    Some(arithmetic) => arithmetic.compared(fitness.objectives()),
                    None => fitness.objectives().to_vec(),
                };
                (Some(objectives), fitness.violation())
            }
            // Counted as being as far from feasible as the worst known trial.
            FinishedTrial::Infeasible { .. } | FinishedTrial::Pruned { .. } => {
                (None, self.observations.worst_violation())
            }
            // This shows nothing about the candidate.
            FinishedTrial::Failed { .. } => return,
        };
        let features = self.groups.features(&genotype);
        self.observations.add(Observation { number, genotype, features, objectives, violation });
        self.refit();
    }
}
