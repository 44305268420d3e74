//! A model of constraints: it predicts how likely a candidate is to meet them.

use super::gaussian_process::{GaussianProcess, Hyper, Prediction, pairwise};
use super::kernel::{Features, Groups};
use super::observations::Observation;
use super::warp::Warp;

/// A model of how far candidates are from being feasible.
#[derive(Debug)]
pub struct Constraint {
    points: Vec<Features>,
    process: GaussianProcess,
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

impl Constraint {
    /// Fits to trials, of which at least one is infeasible.
    pub fn fit(groups: &Groups, trials: &[Observation]) -> Self {
        let points: Vec<Features> = trials.iter().map(|o| o.features.clone()).collect();
        let violations: Vec<f64> = trials.iter().map(|o| o.violation).collect();
        let (warp, targets) = Warp::fit_all(&violations);
        let codes = pairwise(groups, &points);
        let process = GaussianProcess::fit(groups, &codes, &targets, Hyper::start());
        let least = violations.iter().copied().fold(f64::INFINITY, f64::min);
        let broken = violations.iter().copied().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
        // Halfway between feasible and the least violation seen.
        let limit = (least == 0.0).then(|| (warp.apply(0.0) + warp.apply(broken)) / 2.0);
        Self { points, process, limit }
    }

    /// The prediction for a candidate with these features.
    pub fn judge(&self, groups: &Groups, features: &Features) -> Verdict {
        let codes = groups.codes(features, &self.points);
        let Prediction { mean, deviation } = self.process.rough_prediction(&codes);
        match self.limit {
            Some(limit) => {
                Verdict::Probability(probability_below((limit - mean) / deviation.max(0.1)))
            }
            None => Verdict::Distance(mean - deviation),
        }
    }
}

/// Probability that a standard normal value is below `z`, by the logistic approximation (Bowling et
/// al. 2009); never 0.
fn probability_below(z: f64) -> f64 {
    (1.0 / (1.0 + (-1.702 * z).exp())).max(1e-6)
}
