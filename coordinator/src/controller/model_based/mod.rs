//! Model-based search: a Gaussian process for each objective, and the candidate of a pool that it
//! expects most of.
//!
//! After BANANAS (White, Neiswanger, Savani, AAAI 2021) and "Mutation is all you need" (Schneider et
//! al., AutoML workshop at ICML 2021): the pool is mutations of the incumbents and some uniform
//! samples, judged by a surrogate. In place of their ensemble of neural networks the surrogate is a
//! Gaussian process over genotypes (see [`kernel`]), which needs no training loop, repeats to the bit,
//! and was ahead of per-candidate Thompson sampling on NAS-Bench-201. One objective takes the lower
//! confidence bound; two the expected hypervolume improvement (Emmerich et al. 2006), by quadrature
//! through the warp; more a random augmented Tchebycheff scalarisation (ParEGO, Knowles 2006).
//!
//! What arithmetic knows of a network ([`arithmetic`]) needs no model: costs that are objectives are
//! exact, and with several objectives a gain is weighed by the training that it takes; more than two then
//! take the expected improvement of the scalarisation.
//!
//! Cost does not grow with the study: at most [`MAX_POINTS`] trials are fitted, the best ones and an
//! even choice of the others.

mod acquisition;
mod arithmetic;
mod gaussian_process;
mod kernel;
#[cfg(test)]
mod tests;
mod warp;

use std::cmp::Ordering;

use edgesmith_common::{TrialNumber, pareto};
use edgesmith_search_space::{Genotype, Space};
use rand::{Rng, RngExt};

pub use self::arithmetic::Arithmetic;

use self::acquisition::{
    CONFIDENCE, CONFIDENCE_ALONE, Prediction, Staircase, expected_drop, tchebycheff,
};
use self::arithmetic::Known;
use self::gaussian_process::{GaussianProcess, Hyper, pairwise};
use self::kernel::{Features, Groups};
use self::warp::Warp;
use super::history::History;
use super::{Controller, FinishedTrial, Proposal};

/// Most trials that are fitted.
const MAX_POINTS: usize = 300;
/// Most trials that the parameters of a process are fitted to.
const MAX_REFINED: usize = 100;
/// Candidates of a pool: uniform samples, and children of incumbents.
const SAMPLES: usize = 400;
const CHILDREN: usize = 1200;
/// Candidates whose uncertainty is computed in full.
const JUDGED: usize = 120;
/// Random candidates of which one of the first trials is the cheapest.
const CHEAPEST_OF: usize = 4;
/// Incumbents of one objective.
const INCUMBENTS: usize = 10;

/// Model-based search at work on one study.
#[derive(Debug)]
pub struct ModelBased {
    history: History,
    groups: Groups,
    /// What needs no model; `None` where nothing is known without.
    arithmetic: Option<Arithmetic>,
    /// Random trials before the model is asked.
    initial: usize,
    /// Trials that say something of their candidate, in the order of completion.
    known: Vec<Observation>,
    /// Places in `known` of complete trials that are fitted: all while they are few.
    selected: Vec<usize>,
    /// Places in `known` of the incumbents.
    incumbents: Vec<usize>,
    /// Complete trials.
    completed: usize,
    /// Whether any trial was infeasible or broke a constraint.
    constrained: bool,
    /// The largest violation so far, at least 1.
    worst_violation: f64,
    /// The likeliest parameters, one per objective.
    hypers: Vec<Hyper>,
    /// Complete trials when they were fitted.
    fitted_at: usize,
}

#[derive(Debug)]
struct Observation {
    number: TrialNumber,
    genotype: Genotype,
    features: Features,
    /// Less is better; `None` where it was never measured.
    objectives: Option<Vec<f64>>,
    /// Sum of the violations of its constraints; 0 is feasible.
    violation: f64,
}

impl ModelBased {
    /// A controller of `space` that begins with `initial` random trials (at least 2), the cheapest of a few
    /// each where arithmetic tells what is cheap.
    pub fn new(space: Space, initial: usize, arithmetic: Option<Arithmetic>) -> Self {
        let groups = Groups::new(&space);
        Self {
            history: History::new(space),
            groups,
            arithmetic,
            initial: initial.max(2),
            known: Vec::new(),
            selected: Vec::new(),
            incumbents: Vec::new(),
            completed: 0,
            constrained: false,
            worst_violation: 1.0,
            hypers: Vec::new(),
            fitted_at: 0,
        }
    }

    /// The incumbents: the front of the feasible complete trials, or the best of one objective. Where
    /// nothing is feasible, of the least infeasible.
    pub(super) fn incumbents(&self) -> impl Iterator<Item = (TrialNumber, &Genotype)> {
        self.incumbents.iter().map(|&place| (self.known[place].number, &self.known[place].genotype))
    }

    /// What a complete trial measured.
    fn measured(&self, place: usize) -> &[f64] {
        self.known[place].objectives.as_deref().unwrap_or_default()
    }

    /// Notes the complete trial at `place`.
    fn note_complete(&mut self, place: usize) {
        self.completed += 1;
        self.selected.push(place);
        if self.selected.len() > MAX_POINTS + MAX_POINTS / 4 {
            self.selected = self.thinned();
        }
        let violation = self.known[place].violation;
        let least = self.incumbents.first().map_or(f64::INFINITY, |&i| self.known[i].violation);
        if violation > least {
            return;
        }
        let mut incumbents = std::mem::take(&mut self.incumbents);
        if violation < least {
            incumbents.clear();
        }
        let mine = self.measured(place);
        if mine.len() == 1 {
            let after = incumbents.partition_point(|&i| self.measured(i)[0] <= mine[0]);
            incumbents.insert(after, place);
            incumbents.truncate(INCUMBENTS);
        } else if !incumbents.iter().any(|&i| pareto::dominates(self.measured(i), mine)) {
            incumbents.retain(|&i| !pareto::dominates(mine, self.measured(i)));
            incumbents.push(place);
        }
        self.incumbents = incumbents;
    }

    /// Of the selected trials the best by their best rank over the objectives, and an even choice of
    /// the others, in order.
    fn thinned(&self) -> Vec<usize> {
        let all = &self.selected;
        let mut rank = vec![usize::MAX; all.len()];
        for axis in 0..self.measured(all[0]).len() {
            let mut order: Vec<usize> = (0..all.len()).collect();
            let value = |i: usize| self.measured(all[i])[axis];
            order.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
            order.iter().enumerate().for_each(|(place, &i)| rank[i] = rank[i].min(place));
        }
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|&i| (rank[i], i));
        let (best, others) = order.split_at(MAX_POINTS / 2);
        let step = others.len() as f64 / (MAX_POINTS - best.len()) as f64;
        let even = (0..MAX_POINTS - best.len()).map(|k| others[(k as f64 * step) as usize]);
        let mut kept: Vec<usize> = best.iter().copied().chain(even).map(|i| all[i]).collect();
        kept.sort_unstable();
        kept
    }

    /// The trials that are fitted, with what they measured.
    fn fitted(&self) -> Vec<(&Observation, &[f64])> {
        self.selected.iter().map(|&place| (&self.known[place], self.measured(place))).collect()
    }

    /// What was proposed so far.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// Whether there is enough to fit a model to.
    pub(super) fn is_ready(&self) -> bool {
        self.known.len() + self.history.running() >= self.initial && self.completed > 1
    }

    /// A genotype of the first, random trials: those that pick one option everywhere, then any.
    fn first_sample(&self, rng: &mut dyn Rng) -> Genotype {
        let space = self.history.space();
        let open: Vec<usize> =
            space.choices().iter().map(|c| c.options.len()).filter(|n| *n > 1).collect();
        let options = open.first().copied().unwrap_or(1);
        if open.iter().all(|n| *n == options) {
            let alike = (0..options as u16).map(|option| {
                let index = |c: &edgesmith_search_space::Choice| {
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

    /// The cheapest of a few first genotypes where arithmetic tells and cost matters: a front's cheap
    /// end is reached for little, and the model judges the dear ones from there.
    fn first_cheap(&self, rng: &mut dyn Rng) -> Genotype {
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

    /// Genotypes worth judging, each with its parents.
    fn pool(&self, rng: &mut dyn Rng) -> Vec<(Genotype, Vec<TrialNumber>)> {
        let space = self.history.space();
        let incumbents: Vec<(TrialNumber, &Genotype)> = self.incumbents().collect();
        let mut pool: Vec<(Genotype, Vec<TrialNumber>)> =
            (0..SAMPLES).map(|_| (space.sample(rng), Vec::new())).collect();
        if incumbents.is_empty() {
            return pool;
        }
        let open = space.choices().iter().filter(|c| c.options.len() > 1).count().max(1);
        for _ in 0..CHILDREN {
            let (number, genotype) = incumbents[rng.random_range(0..incumbents.len())];
            let (mut child, mut parents) = (genotype.clone(), vec![number]);
            if rng.random_bool(0.3) {
                let (other, mate) = incumbents[rng.random_range(0..incumbents.len())];
                if other != number {
                    child = space.crossover(&child, mate, rng);
                    parents.push(other);
                }
            }
            // One change most often, now and then many.
            let mut changes = 1;
            while changes < open && rng.random_bool(0.5) {
                changes += 1;
            }
            pool.push((space.mutate(&child, changes, rng), parents));
        }
        pool
    }

    /// The pool's candidates, best first, as places in it.
    fn ranked(&self, pool: &[(Genotype, Vec<TrialNumber>)], rng: &mut dyn Rng) -> Vec<usize> {
        let fitted = self.fitted();
        let objectives = fitted[0].1.len();
        let points: Vec<Features> = fitted.iter().map(|(o, _)| o.features.clone()).collect();
        let codes = pairwise(&self.groups, &points);
        let models: Vec<(Warp, GaussianProcess)> = (0..objectives)
            .map(|axis| {
                let values: Vec<f64> = fitted.iter().map(|(_, values)| values[axis]).collect();
                let warp = Warp::fit(&values);
                let targets: Vec<f64> = values.iter().map(|value| warp.apply(*value)).collect();
                let hyper = self.hypers.get(axis).copied().unwrap_or_else(Hyper::start);
                (warp, GaussianProcess::fit(&self.groups, &codes, &targets, hyper))
            })
            .collect();
        let constraint = self.constraint();
        let feasible: Vec<&[f64]> =
            fitted.iter().filter(|(o, _)| o.violation == 0.0).map(|(_, values)| *values).collect();
        let stairs: Vec<[f64; 2]> = feasible.iter().filter_map(|v| (*v).try_into().ok()).collect();
        let stairs = Staircase::new(&stairs);
        let weights = random_weights(objectives, rng);
        let ideal: Vec<f64> = models
            .iter()
            .enumerate()
            .map(|(axis, (warp, _))| {
                let values = fitted.iter().map(|(_, values)| warp.apply(values[axis]));
                values.fold(f64::INFINITY, f64::min)
            })
            .collect();
        // Of more than two objectives, what is to be undercut where costs count.
        let best = (self.arithmetic.is_some() && objectives > 2).then(|| {
            let warped = |values: &&[f64]| -> Vec<f64> {
                models.iter().zip(*values).map(|((warp, _), value)| warp.apply(*value)).collect()
            };
            let values = feasible.iter().map(|v| tchebycheff(&warped(v), &weights, &ideal));
            values.fold(f64::INFINITY, f64::min)
        });
        let best = best.filter(|best| best.is_finite());
        let exponent = self.arithmetic.as_ref().map_or(0.0, |a| a.cost_exponent(self.known.len()));
        // A gain by the training that it takes; where nothing can be gained, hope decides.
        let merit = |gain: f64, known: &Option<Known>, hope: &[f64]| match known {
            _ if gain <= 0.0 => Merit::Hope(hope.iter().sum()),
            Some(known) => Merit::Gain(gain / known.cost.powf(exponent)),
            None => Merit::Gain(gain),
        };
        let judge = |predictions: &[Prediction], known: &Option<Known>| {
            let bounds: Vec<f64> = predictions.iter().map(|p| p.bound(CONFIDENCE)).collect();
            match *predictions {
                [one] => Merit::Hope(one.bound(CONFIDENCE_ALONE)),
                [a, b] if !feasible.is_empty() => {
                    let gain = stairs.expected([a, b], [&models[0].0, &models[1].0]);
                    merit(gain, known, &bounds)
                }
                _ => {
                    let gain =
                        best.map_or(0.0, |best| expected_drop(best, predictions, &weights, &ideal));
                    merit(gain, known, &[tchebycheff(&bounds, &weights, &ideal)])
                }
            }
        };
        // Each objective's own prediction where arithmetic does not know better.
        let predictions =
            |known: &Option<Known>, of: &mut dyn FnMut(&GaussianProcess) -> Prediction| {
                let predict = |(axis, (warp, model)): (usize, &(Warp, GaussianProcess))| match known
                    .as_ref()
                    .and_then(|known| known.objectives[axis])
                {
                    Some(value) => Prediction { mean: warp.apply(value), deviation: 0.0 },
                    None => of(model),
                };
                models.iter().enumerate().map(predict).collect::<Vec<_>>()
            };
        let prepared: Vec<Prepared> = pool
            .iter()
            .map(|(genotype, _)| {
                let features = self.groups.features(genotype);
                let codes: Vec<u32> =
                    points.iter().map(|point| self.groups.code(&features, point)).collect();
                let known = self.arithmetic.as_ref().and_then(|a| a.of(genotype));
                let rough = predictions(&known, &mut |model| Prediction {
                    mean: model.mean(&codes),
                    deviation: model.rough_deviation(&codes),
                });
                let hope: Vec<f64> = rough.iter().map(|p| p.bound(1.0)).collect();
                let rough = match *hope {
                    [a, b] if !feasible.is_empty() => {
                        let point = [models[0].0.invert(a), models[1].0.invert(b)];
                        merit(stairs.improvement(point), &known, &hope)
                    }
                    [a] => Merit::Hope(a),
                    _ => {
                        let value = tchebycheff(&hope, &weights, &ideal);
                        merit(best.map_or(0.0, |best| best - value), &known, &[value])
                    }
                };
                let verdict = constraint.as_ref().map(|c| c.judge(&self.groups, &features));
                Prepared { codes, known, rough: rough.in_the_light_of(verdict), verdict }
            })
            .collect();
        let mut order: Vec<usize> = (0..pool.len()).collect();
        order.sort_by(|&a, &b| prepared[a].rough.order(prepared[b].rough).then(a.cmp(&b)));
        let mut scratch = Vec::new();
        let mut judged: Vec<(Merit, usize)> = order
            .iter()
            .take(JUDGED)
            .map(|&place| {
                let Prepared { codes, known, verdict, .. } = &prepared[place];
                let predictions = predictions(known, &mut |model| Prediction {
                    mean: model.mean(codes),
                    deviation: model.deviation(codes, &mut scratch),
                });
                (judge(&predictions, known).in_the_light_of(*verdict), place)
            })
            .collect();
        judged.sort_by(|a, b| a.0.order(b.0).then(a.1.cmp(&b.1)));
        judged.into_iter().map(|(_, place)| place).chain(order.into_iter().skip(JUDGED)).collect()
    }

    /// What is learned of constraints; `None` while nothing broke any.
    fn constraint(&self) -> Option<Constraint> {
        if !self.constrained {
            return None;
        }
        let skip = self.known.len().saturating_sub(MAX_POINTS);
        let recent = &self.known[skip..];
        let points: Vec<Features> = recent.iter().map(|o| o.features.clone()).collect();
        let violations: Vec<f64> = recent.iter().map(|o| o.violation).collect();
        let warp = Warp::fit(&violations);
        let targets: Vec<f64> = violations.iter().map(|violation| warp.apply(*violation)).collect();
        let codes = pairwise(&self.groups, &points);
        let model = GaussianProcess::fit(&self.groups, &codes, &targets, Hyper::start());
        let least = violations.iter().copied().fold(f64::INFINITY, f64::min);
        let broken = violations.iter().copied().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
        // Half way between feasible and the least violation seen.
        let limit = (least == 0.0).then(|| (warp.apply(0.0) + warp.apply(broken)) / 2.0);
        Some(Constraint { points, model, limit })
    }

    /// Finds the likeliest parameters anew.
    fn refine(&mut self) {
        let (fitted, objectives) = {
            let fitted = self.fitted();
            let step = fitted.len().div_ceil(MAX_REFINED);
            let chosen: Vec<(Features, Vec<f64>)> = fitted
                .iter()
                .step_by(step.max(1))
                .map(|(o, values)| (o.features.clone(), values.to_vec()))
                .collect();
            let objectives = chosen.first().map_or(0, |(_, values)| values.len());
            (chosen, objectives)
        };
        let points: Vec<Features> = fitted.iter().map(|(features, _)| features.clone()).collect();
        let mut hypers = Vec::with_capacity(objectives);
        for axis in 0..objectives {
            let values: Vec<f64> = fitted.iter().map(|(_, values)| values[axis]).collect();
            let warp = Warp::fit(&values);
            let targets: Vec<f64> = values.iter().map(|value| warp.apply(*value)).collect();
            let from = self.hypers.get(axis).copied().unwrap_or_else(Hyper::start);
            hypers.push(from.refined(&self.groups, &points, &targets));
        }
        self.hypers = hypers;
    }
}

/// A candidate of the pool on its way to be judged.
struct Prepared {
    codes: Vec<u32>,
    /// `None` where arithmetic tells nothing.
    known: Option<Known>,
    /// At first glance.
    rough: Merit,
    verdict: Option<Verdict>,
}

/// What speaks for a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Merit {
    /// It is expected to gain so much, above 0: before all that have only hope, more before less.
    Gain(f64),
    /// Less before more.
    Hope(f64),
}

impl Merit {
    /// The better one first.
    fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Merit::Gain(own), Merit::Gain(other)) => other.total_cmp(&own),
            (Merit::Hope(own), Merit::Hope(other)) => own.total_cmp(&other),
            (Merit::Gain(_), Merit::Hope(_)) => Ordering::Less,
            (Merit::Hope(_), Merit::Gain(_)) => Ordering::Greater,
        }
    }

    /// The same where constraints have a say.
    fn in_the_light_of(self, verdict: Option<Verdict>) -> Self {
        match (verdict, self) {
            (None, merit) => merit,
            (Some(Verdict::Odds(odds)), Merit::Gain(gain)) => Merit::Gain(gain * odds),
            (Some(Verdict::Odds(odds)), Merit::Hope(hope)) => {
                Merit::Hope(if hope < 0.0 { hope * odds } else { hope / odds })
            }
            (Some(Verdict::Distance(distance)), _) => Merit::Hope(distance),
        }
    }
}

/// A model of how far candidates are from feasible.
struct Constraint {
    points: Vec<Features>,
    model: GaussianProcess,
    /// The warped violation below which a candidate counts as feasible; `None` while none is.
    limit: Option<f64>,
}

/// What constraints say of a candidate.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// Feasible with these odds, above 0.
    Odds(f64),
    /// Nothing feasible is known: less is nearer to it.
    Distance(f64),
}

impl Constraint {
    fn judge(&self, groups: &Groups, features: &Features) -> Verdict {
        let codes: Vec<u32> =
            self.points.iter().map(|point| groups.code(features, point)).collect();
        let (mean, deviation) = (self.model.mean(&codes), self.model.rough_deviation(&codes));
        match self.limit {
            Some(limit) => Verdict::Odds(odds_below((limit - mean) / deviation.max(0.1))),
            None => Verdict::Distance(mean - deviation),
        }
    }
}

/// Odds that a standard normal value is below `z`, by the logistic approximation (Bowling et al.
/// 2009); never 0.
fn odds_below(z: f64) -> f64 {
    (1.0 / (1.0 + (-1.702 * z).exp())).max(1e-6)
}

/// Weights that sum to 1, uniform over the simplex.
fn random_weights(objectives: usize, rng: &mut dyn Rng) -> Vec<f64> {
    let draws: Vec<f64> =
        (0..objectives).map(|_| -rng.random::<f64>().max(f64::MIN_POSITIVE).ln()).collect();
    let sum: f64 = draws.iter().sum();
    draws.iter().map(|draw| draw / sum.max(f64::MIN_POSITIVE)).collect()
}

impl Controller for ModelBased {
    fn suggest(&self, _number: TrialNumber, rng: &mut dyn Rng) -> Option<Proposal> {
        if !self.is_ready() {
            return self.history.first_fresh(rng, |rng| (self.first_cheap(rng), Vec::new()));
        }
        let pool = self.pool(rng);
        let ranked = self.ranked(&pool, rng);
        let best = ranked.into_iter().find(|&place| self.history.is_fresh(&pool[place].0));
        if let Some(place) = best {
            let (genotype, parents) = pool[place].clone();
            return Some(Proposal { genotype, parents });
        }
        self.history.fresh_sample(rng)
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.history.propose(number, proposal);
    }

    fn update(&mut self, finished: &FinishedTrial) {
        let number = finished.number();
        let Some(genotype) = self.history.finish(number) else { return };
        let (objectives, violation) = match finished {
            FinishedTrial::Complete { objectives, violation, .. } => {
                let finite = violation.is_finite() && objectives.iter().all(|v| v.is_finite());
                let first = self.selected.first();
                let same = first.is_none_or(|&i| self.measured(i).len() == objectives.len());
                if !finite || !same || objectives.is_empty() {
                    return;
                }
                let compared = self.arithmetic.as_ref().map(|a| a.compared(objectives));
                (Some(compared.unwrap_or_else(|| objectives.clone())), violation.max(0.0))
            }
            // As far from feasible as anything known.
            FinishedTrial::Infeasible { .. } | FinishedTrial::Pruned { .. } => {
                (None, self.worst_violation)
            }
            // Says nothing of the candidate.
            FinishedTrial::Failed { .. } => return,
        };
        self.worst_violation = self.worst_violation.max(violation);
        let features = self.groups.features(&genotype);
        let place = self.known.len();
        let complete = objectives.is_some();
        self.constrained |= violation > 0.0;
        self.known.push(Observation { number, genotype, features, objectives, violation });
        if complete {
            self.note_complete(place);
        }
        if self.completed >= 6 && self.completed >= self.fitted_at + (self.fitted_at / 5).max(6) {
            self.fitted_at = self.completed;
            self.refine();
        }
    }
}
