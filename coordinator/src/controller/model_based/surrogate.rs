//! The surrogate of a study: a Gaussian process for each objective and one for the constraints,
//! fitted to the observations. It ranks candidates.

use std::cell::OnceCell;

use edgesmith_search_space::Genotype;
use rand::Rng;

use super::acquisition::{Acquisition, Value};
use super::arithmetic::{Arithmetic, Known};
use super::columns::Columns;
use super::constraint::{Constraint, Verdict};
use super::gaussian_process::{Covariance, GaussianProcess, Hyper, Prediction};
use super::kernel::{Features, Groups};
use super::merit::Merit;
use super::observations::Observations;
use super::warp::Warp;
use crate::controller::Proposal;
use crate::linear_algebra::LANES;

/// Largest number of trials that the parameters of a process are fitted to.
const MAX_REFINED: usize = 100;
/// Number of candidates whose uncertainty is computed in full.
const JUDGED: usize = 120;
/// Number of candidates that are evaluated cheaply at once.
const GLANCED: usize = 4;

/// What models share from one proposal to the next.
#[derive(Debug)]
pub struct Fits {
    /// One for each objective.
    objectives: Vec<Covariance>,
    constraint: Covariance,
}

impl Fits {
    /// Of no observations.
    pub fn new(groups: &Groups) -> Self {
        Self { objectives: Vec::new(), constraint: Covariance::new(groups) }
    }
}

/// Models that are fitted to the observations at one moment.
#[derive(Debug)]
pub struct Surrogate<'a> {
    groups: &'a Groups,
    arithmetic: Option<&'a Arithmetic>,
    /// The points that the models of the objectives are fitted to.
    points: Columns,
    /// One for each objective.
    models: Vec<Model<'a>>,
    /// `None` while nothing broke a constraint.
    constraint: Option<Constraint<'a>>,
    acquisition: Acquisition,
    /// Exponent of the cost by which gains are divided.
    cost_exponent: f64,
}

/// A model of one objective.
#[derive(Debug)]
struct Model<'a> {
    warp: Warp,
    process: GaussianProcess<'a>,
}

/// A candidate after the first, cheap evaluation.
struct Glanced<'a> {
    features: Features,
    known: Lazy<'a>,
    /// One for each objective.
    predictions: Vec<Prediction>,
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
    /// each objective, or fewer if none were fitted yet. `fits` is brought up to the observations.
    pub fn fit(
        groups: &'a Groups,
        arithmetic: Option<&'a Arithmetic>,
        observations: &Observations,
        hypers: &[Hyper],
        fits: &'a mut Fits,
        rng: &mut dyn Rng,
    ) -> Self {
        let fitted = observations.fitted();
        let objectives = fitted[0].1.len();
        let points: Vec<&Features> = fitted.iter().map(|(o, _)| &o.features).collect();
        let places = observations.fitted_places().iter().copied();
        let numbered: Vec<(usize, &Features)> = places.zip(points.iter().copied()).collect();
        fits.objectives.resize_with(objectives, || Covariance::new(groups));
        for (axis, covariance) in fits.objectives.iter_mut().enumerate() {
            covariance.update(groups, hyper(hypers, axis), &numbered);
        }
        let model = |(axis, covariance): (usize, &'a Covariance)| {
            let values: Vec<f64> = fitted.iter().map(|(_, values)| values[axis]).collect();
            let (warp, targets) = Warp::fit_all(&values);
            Model { warp, process: GaussianProcess::fit(covariance, &targets) }
        };
        let models: Vec<Model<'a>> = fits.objectives.iter().enumerate().map(model).collect();
        let warps: Vec<Warp> = models.iter().map(|model| model.warp).collect();
        let all: Vec<&[f64]> = fitted.iter().map(|(_, values)| *values).collect();
        let feasible: Vec<&[f64]> =
            fitted.iter().filter(|(o, _)| o.violation == 0.0).map(|(_, values)| *values).collect();
        let acquisition = Acquisition::new(warps, &all, &feasible, arithmetic.is_some(), rng);
        let of_constraints = observations.of_constraints();
        let constraint = of_constraints.map(|latest| {
            let first = observations.count() - latest.len();
            Constraint::fit(groups, latest, first, &mut fits.constraint)
        });
        Self {
            groups,
            arithmetic,
            points: Columns::new(groups, &points),
            models,
            constraint,
            acquisition,
            cost_exponent: arithmetic.map_or(0.0, |a| a.cost_exponent(observations.count())),
        }
    }

    /// The candidates of `pool`, best first, as places in it. All are evaluated cheaply, and the
    /// best of them are then evaluated in full.
    pub fn ranked(&self, pool: &[Proposal]) -> Vec<usize> {
        let glanced: Vec<Glanced<'_>> =
            pool.chunks(GLANCED).flat_map(|chunk| self.glance(chunk)).collect();
        let mut order: Vec<usize> = (0..pool.len()).collect();
        order.sort_by(|&a, &b| glanced[a].merit.order(glanced[b].merit).then(a.cmp(&b)));
        let best: Vec<usize> = order.iter().take(JUDGED).copied().collect();
        let mut scratch = Vec::new();
        let mut judged: Vec<(Merit, usize)> = Vec::new();
        for places in best.chunks(LANES) {
            let candidates: Vec<&Glanced<'_>> =
                places.iter().map(|place| &glanced[*place]).collect();
            judged.extend(
                self.judge(&candidates, &mut scratch).into_iter().zip(places.iter().copied()),
            );
        }
        judged.sort_by(|a, b| a.0.order(b.0).then(a.1.cmp(&b.1)));
        judged.into_iter().map(|(_, place)| place).chain(order.into_iter().skip(JUDGED)).collect()
    }

    /// Evaluates up to [`GLANCED`] candidates cheaply.
    fn glance<'c>(&'c self, candidates: &'c [Proposal]) -> Vec<Glanced<'c>> {
        let features: Vec<Features> =
            candidates.iter().map(|c| self.groups.features(&c.genotype)).collect();
        // The last lanes may be the last candidate again.
        let lanes: [&Features; GLANCED] =
            std::array::from_fn(|lane| &features[lane.min(features.len() - 1)]);
        let codes = lanes.map(|features| self.points.codes(self.groups, features));
        let codes = codes.each_ref().map(Vec::as_slice);
        let verdicts = self.constraint.as_ref().map(|c| c.judge(self.groups, lanes));
        let rough: Vec<[Prediction; GLANCED]> =
            self.models.iter().map(|model| model.process.rough_predictions(codes)).collect();
        let glanced = |(lane, (candidate, features)): (usize, (&'c Proposal, Features))| {
            let genotype = &candidate.genotype;
            let known = Lazy { arithmetic: self.arithmetic, genotype, known: OnceCell::new() };
            let predictions = self.predictions(&known, |axis| rough[axis][lane]);
            let verdict = verdicts.map(|verdicts| verdicts[lane]);
            let merit = self.merit(self.acquisition.rough(&predictions), &known).under(verdict);
            Glanced { features, known, predictions, verdict, merit }
        };
        candidates.iter().zip(features).enumerate().map(glanced).collect()
    }

    /// The merits of up to [`LANES`] candidates, evaluated in full.
    fn judge(&self, candidates: &[&Glanced<'_>], scratch: &mut Vec<[f64; LANES]>) -> Vec<Merit> {
        let codes: Vec<Vec<u32>> =
            candidates.iter().map(|c| self.points.codes(self.groups, &c.features)).collect();
        let models = self.models.iter().enumerate();
        let full: Vec<Vec<Prediction>> = models
            .map(|(axis, model)| {
                let mean = |candidate: &&Glanced<'_>| candidate.predictions[axis].mean;
                let means: Vec<f64> = candidates.iter().map(mean).collect();
                model.process.predictions(&codes, &means, scratch)
            })
            .collect();
        let merit = |(lane, candidate): (usize, &&Glanced<'_>)| {
            let Glanced { known, verdict, .. } = candidate;
            let predictions = self.predictions(known, |axis| full[axis][lane]);
            self.merit(self.acquisition.value(&predictions), known).under(*verdict)
        };
        candidates.iter().enumerate().map(merit).collect()
    }

    /// The prediction for each objective: the exact value if it can be computed, else that of
    /// `predict` for the objective at a place.
    fn predictions(
        &self,
        known: &Lazy<'_>,
        predict: impl Fn(usize) -> Prediction,
    ) -> Vec<Prediction> {
        let prediction = |(axis, model): (usize, &Model<'_>)| match known.objective(axis) {
            Some(value) => Prediction { mean: model.warp.apply(value), deviation: 0.0 },
            None => predict(axis),
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
