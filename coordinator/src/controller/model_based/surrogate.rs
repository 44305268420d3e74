//! The surrogate of a study: a Gaussian process for each objective and one for the constraints,
//! fitted to the observations. It ranks candidates.

use std::cell::OnceCell;

use edgesmith_search_space::Genotype;
use rand::Rng;

use super::acquisition::{Acquisition, Value};
use super::arithmetic::{Arithmetic, Known};
use super::constraint::{Constraint, Verdict};
use super::gaussian_process::{GaussianProcess, Hyper, Prediction, pairwise};
use super::kernel::{Features, Groups};
use super::merit::Merit;
use super::observations::Observations;
use super::warp::Warp;
use crate::controller::Proposal;

/// Largest number of trials that the parameters of a process are fitted to.
const MAX_REFINED: usize = 100;
/// Number of candidates whose uncertainty is computed in full.
const JUDGED: usize = 120;

/// Models that are fitted to the observations at one moment.
#[derive(Debug)]
pub struct Surrogate<'a> {
    groups: &'a Groups,
    arithmetic: Option<&'a Arithmetic>,
    /// The points that the models of the objectives are fitted to.
    points: Vec<Features>,
    /// One for each objective.
    models: Vec<Model>,
    /// `None` while nothing broke a constraint.
    constraint: Option<Constraint>,
    acquisition: Acquisition,
    /// Exponent of the cost by which gains are divided.
    cost_exponent: f64,
}

/// A model of one objective.
#[derive(Debug)]
struct Model {
    warp: Warp,
    process: GaussianProcess,
}

/// A candidate after the first, cheap evaluation.
struct Glanced<'a> {
    codes: Vec<u32>,
    known: Lazy<'a>,
    verdict: Option<Verdict>,
    merit: Merit,
}

/// What is known about a candidate, computed when it is first asked for. Lowering a network takes
/// longer than a rough prediction, and without a gain to divide its cost does not matter.
struct Lazy<'a> {
    /// `None` if nothing can be computed.
    arithmetic: Option<&'a Arithmetic>,
    genotype: &'a Genotype,
    known: OnceCell<Option<Known>>,
}

impl Lazy<'_> {
    /// The value of the objective at this place; `None` if it cannot be computed.
    fn objective(&self, place: usize) -> Option<f64> {
        self.arithmetic.filter(|arithmetic| arithmetic.computes(place))?;
        self.known()?.objectives[place]
    }

    fn known(&self) -> Option<&Known> {
        let arithmetic = self.arithmetic?;
        self.known.get_or_init(|| arithmetic.of(self.genotype)).as_ref()
    }
}

impl<'a> Surrogate<'a> {
    /// Fits models to `observations`, of which at least one is complete. `hypers` has one item for
    /// each objective, or fewer if none were fitted yet.
    pub fn fit(
        groups: &'a Groups,
        arithmetic: Option<&'a Arithmetic>,
        observations: &Observations,
        hypers: &[Hyper],
        rng: &mut dyn Rng,
    ) -> Self {
        let fitted = observations.fitted();
        let objectives = fitted[0].1.len();
        let points: Vec<Features> = fitted.iter().map(|(o, _)| o.features.clone()).collect();
        let codes = pairwise(groups, &points);
        let model = |axis: usize| {
            let values: Vec<f64> = fitted.iter().map(|(_, values)| values[axis]).collect();
            let (warp, targets) = Warp::fit_all(&values);
            let process = GaussianProcess::fit(groups, &codes, &targets, hyper(hypers, axis));
            Model { warp, process }
        };
        let models: Vec<Model> = (0..objectives).map(model).collect();
        let warps: Vec<Warp> = models.iter().map(|model| model.warp).collect();
        let all: Vec<&[f64]> = fitted.iter().map(|(_, values)| *values).collect();
        let feasible: Vec<&[f64]> =
            fitted.iter().filter(|(o, _)| o.violation == 0.0).map(|(_, values)| *values).collect();
        let acquisition = Acquisition::new(warps, &all, &feasible, arithmetic.is_some(), rng);
        Self {
            groups,
            arithmetic,
            points,
            models,
            constraint: observations.of_constraints().map(|all| Constraint::fit(groups, all)),
            acquisition,
            cost_exponent: arithmetic.map_or(0.0, |a| a.cost_exponent(observations.count())),
        }
    }

    /// The candidates of `pool`, best first, as places in it. All are evaluated cheaply, and the
    /// best of them are then evaluated in full.
    pub fn ranked(&self, pool: &[Proposal]) -> Vec<usize> {
        let glanced: Vec<Glanced<'_>> = pool.iter().map(|p| self.glance(&p.genotype)).collect();
        let mut order: Vec<usize> = (0..pool.len()).collect();
        order.sort_by(|&a, &b| glanced[a].merit.order(glanced[b].merit).then(a.cmp(&b)));
        let mut scratch = Vec::new();
        let mut judged: Vec<(Merit, usize)> = order
            .iter()
            .take(JUDGED)
            .map(|&place| (self.judge(&glanced[place], &mut scratch), place))
            .collect();
        judged.sort_by(|a, b| a.0.order(b.0).then(a.1.cmp(&b.1)));
        judged.into_iter().map(|(_, place)| place).chain(order.into_iter().skip(JUDGED)).collect()
    }

    fn glance<'c>(&'c self, genotype: &'c Genotype) -> Glanced<'c> {
        let features = self.groups.features(genotype);
        let codes = self.groups.codes(&features, &self.points);
        let known = Lazy { arithmetic: self.arithmetic, genotype, known: OnceCell::new() };
        let predictions = self.predictions(&known, |model| model.rough_prediction(&codes));
        let verdict = self.constraint.as_ref().map(|c| c.judge(self.groups, &features));
        let merit = self.merit(self.acquisition.rough(&predictions), &known).under(verdict);
        Glanced { codes, known, verdict, merit }
    }

    fn judge(&self, candidate: &Glanced<'_>, scratch: &mut Vec<f64>) -> Merit {
        let Glanced { codes, known, verdict, .. } = candidate;
        let predictions = self.predictions(known, |model| model.prediction(codes, scratch));
        self.merit(self.acquisition.value(&predictions), known).under(*verdict)
    }

    /// The prediction for each objective: the exact value if it can be computed, else that of
    /// `predict`.
    fn predictions(
        &self,
        known: &Lazy<'_>,
        mut predict: impl FnMut(&GaussianProcess) -> Prediction,
    ) -> Vec<Prediction> {
        let prediction = |(axis, model): (usize, &Model)| match known.objective(axis) {
            Some(value) => Prediction { mean: model.warp.apply(value), deviation: 0.0 },
            None => predict(&model.process),
        };
        self.models.iter().enumerate().map(prediction).collect()
    }

    /// A gain is divided by the training that it takes. If there is no gain, the bound decides.
    fn merit(&self, value: Value, known: &Lazy<'_>) -> Merit {
        if value.gain <= 0.0 {
            return Merit::Hope(value.hope);
        }
        let cost = known.known().map_or(1.0, |known| known.cost.powf(self.cost_exponent));
        Merit::Gain(value.gain / cost)
    }
}

/// The likeliest parameters for each objective of `observations`, searched for from `hypers`.
pub fn refined(groups: &Groups, observations: &Observations, hypers: &[Hyper]) -> Vec<Hyper> {
    let mut fitted = observations.fitted();
    let step = fitted.len().div_ceil(MAX_REFINED).max(1);
    fitted = fitted.into_iter().step_by(step).collect();
    let points: Vec<Features> = fitted.iter().map(|(o, _)| o.features.clone()).collect();
    let objectives = fitted.first().map_or(0, |(_, values)| values.len());
    let refined = |axis: usize| {
        let values: Vec<f64> = fitted.iter().map(|(_, values)| values[axis]).collect();
        let (_, targets) = Warp::fit_all(&values);
        hyper(hypers, axis).refined(groups, &points, &targets)
    };
    (0..objectives).map(refined).collect()
}

fn hyper(hypers: &[Hyper], axis: usize) -> Hyper {
    hypers.get(axis).copied().unwrap_or_else(Hyper::start)
}
