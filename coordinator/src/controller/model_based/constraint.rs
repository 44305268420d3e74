//! A model of constraints: it predicts how likely a candidate is to meet them.

use super::columns::Columns;
use super::gaussian_process::{Covariance, GaussianProcess, Hyper, Prediction};
use super::kernel::{Features, Groups};
use super::observations::Observation;
use super::warp::Warp;

/// A model of how far candidates are from being feasible.
#[derive(Debug)]
pub struct Constraint<'a> {
    points: Columns,
    process: GaussianProcess<'a>,
    /// The warped violation below which a candidate counts as feasible; `None` while no feasible
    /// candidate is known.
    limit: Option<f64>,
}

/// What the model of the constraints predicts for a candidate.
#[derive(Debug, Clone, Copy)]
pub enum Verdict {
    /// Feasible with this probability, above 0.
    Probability(f64),
    /// No feasible candidate is known; a smaller value is nearer to feasible.
    Distance(f64),
}

impl<'a> Constraint<'a> {
    /// Fits to trials, of which at least one is infeasible. `first` is the number of the first of
    /// them among all trials, and `covariance` is brought up to them.
    pub fn fit(
        groups: &Groups,
        trials: &[Observation],
        first: usize,
        covariance: &'a mut Covariance,
    ) -> Self {
        let points: Vec<&Features> = trials.iter().map(|o| &o.features).collect();
        let violations: Vec<f64> = trials.iter().map(|o| o.violation).collect();
        let (warp, targets) = Warp::fit_all(&violations);
        let numbered: Vec<(usize, &Features)> = (first..).zip(points.iter().copied()).collect();
        covariance.update(groups, Hyper::start(), &numbered);
        let process = GaussianProcess::fit(covariance, &targets);
        let least = violations.iter().copied().fold(f64::INFINITY, f64::min);
        let broken = violations.iter().copied().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
        // Halfway between feasible and the least violation seen.
        let limit = (least == 0.0).then(|| (warp.apply(0.0) + warp.apply(broken)) / 2.0);
        Self { points: Columns::new(groups, &points), process, limit }
    }

    /// The predictions for candidates with these features.
    pub fn judge<const N: usize>(
        &self,
        groups: &Groups,
        candidates: [&Features; N],
    ) -> [Verdict; N] {
        let codes = candidates.map(|candidate| self.points.codes(groups, candidate));
        let rough = self.process.rough_predictions(codes.each_ref().map(Vec::as_slice));
        rough.map(|Prediction { mean, deviation }| match self.limit {
            Some(limit) => {
                Verdict::Probability(probability_below((limit - mean) / deviation.max(0.1)))
            }
            None => Verdict::Distance(mean - deviation),
        })
    }
}

/// Probability that a standard normal value is below `z`, by the logistic approximation (Bowling et
/// al. 2009); never 0.
fn probability_below(z: f64) -> f64 {
    (1.0 / (1.0 + (-1.702 * z).exp())).max(1e-6)
}
