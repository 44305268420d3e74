//! Bounds the final value of a trial from its value at a rung, with a stated confidence. The bound
//! comes from complete trials: which share of their error at that rung was left at the end of
//! training.
//!
//! Nothing is assumed about the shape of a curve. Let `n` complete trials and the next one be
//! exchangeable. Then the share of error that the next one keeps is below the `k`-th smallest share
//! of the others with probability `k / (n + 1)`. So a bound that holds with probability `c` is one
//! of their shares; while there are too few trials, there is no bound (split conformal prediction,
//! Vovk et al. 2005, *Algorithmic Learning in a Random World*).

use edgesmith_common::Metric;
use edgesmith_common::metric::Scale;

use super::ranking::Ranking;

/// The shares of their error at a rung that complete trials had left at the end. A trial's error is
/// the distance of its metric from the best possible value; for an accuracy, it is the share of
/// wrong predictions.
#[derive(Debug)]
pub(super) struct ErrorLeft {
    metric: Metric,
    shares: Ranking,
}

/// The smallest error that is used, as a share of the metric's scale. Without it, shares of tiny
/// errors would be meaningless.
const LEAST_ERROR: f64 = 1e-4;

impl ErrorLeft {
    /// For a metric, without any complete trial yet.
    pub(super) fn new(metric: Metric) -> Self {
        Self { metric, shares: Ranking::default() }
    }

    /// Adds a trial with these values at the rung and at the end of training. O(log n).
    pub(super) fn add(&mut self, at_rung: f64, last: f64) {
        let distance = |value| self.metric.distance_to_best(value);
        let share = distance(last) / distance(at_rung).max(least_error(self.metric));
        self.shares.insert(share, false);
    }

    /// The least share of its error that another trial keeps, with probability `confidence`; `None`
    /// while there are too few trials for a bound. O(log n).
    pub(super) fn least(&self, confidence: f64) -> Option<f64> {
        // The small term keeps rounding from lowering a place that is a whole number.
        let place = ((1.0 - confidence) * (self.shares.len() + 1) as f64 + 1e-9).floor() as usize;
        self.shares.get(place.checked_sub(1)?)
    }
}

/// The best final value, oriented so that less is better, that a trial can reach. `oriented` and
/// `value` are its oriented and plain value at the rung, and `least` is the least share of its
/// error that it keeps.
pub(super) fn best_value(metric: Metric, oriented: f64, value: f64, least: f64) -> f64 {
    let goal = metric.definition().goal;
    // If the study's goal is opposite to the metric's own, no bound is known and no trial stops.
    if oriented != goal.oriented(value) {
        return f64::NEG_INFINITY;
    }
    let distance = metric.distance_to_best(value).max(least_error(metric));
    let best = metric.at_distance(distance * least);
    goal.oriented(best).min(oriented)
}

/// [`LEAST_ERROR`] in the metric's unit.
fn least_error(metric: Metric) -> f64 {
    let (Scale::Linear { low, high } | Scale::Logarithmic { low, high }) =
        metric.definition().scale;
    LEAST_ERROR * (high - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(shares: &[f64]) -> ErrorLeft {
        let mut left = ErrorLeft::new(Metric::ACCURACY);
        shares.iter().for_each(|share| left.add(0.5, 1.0 - 0.5 * share));
        left
    }

    #[test]
    fn too_few_trials_give_no_bound() {
        assert_eq!(left(&[0.5; 18]).least(0.95), None);
        assert_eq!(left(&[0.5; 19]).least(0.95), Some(0.5));
        assert_eq!(left(&[]).least(0.5), None);
    }

    #[test]
    fn the_bound_is_the_order_statistic_for_its_confidence() {
        let shares: Vec<f64> = (1..=39).map(|i| f64::from(i) / 64.0).collect();
        assert_eq!(left(&shares).least(0.95), Some(2.0 / 64.0));
        assert_eq!(left(&shares).least(0.5), Some(20.0 / 64.0));
    }

    #[test]
    fn the_best_value_is_never_worse_than_the_present_one() {
        let best = |oriented, value, least| best_value(Metric::ACCURACY, oriented, value, least);
        assert_eq!(best(-0.75, 0.75, 0.5), -0.875);
        assert_eq!(best(-0.75, 0.75, 1.5), -0.75);
        assert_eq!(best(0.75, 0.75, 0.5), f64::NEG_INFINITY);
        assert!(best(-1.0, 1.0, 0.5) <= -1.0);
        // A metric of which less is better falls, towards its least possible value.
        assert_eq!(best_value(Metric::LATENCY_MS, 8.0, 8.0, 0.5).round(), 4.0);
    }

    /// Over many draws, the bound fails as often as its confidence allows.
    #[test]
    fn the_bound_holds_with_the_stated_confidence() {
        let mut state = 1u64;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / (1u64 << 24) as f64
        };
        let rounds = 4000;
        let failed = (0..rounds)
            .filter(|_| {
                let before: Vec<f64> = (0..29).map(|_| draw()).collect();
                left(&before).least(0.9).is_some_and(|least| draw() < least)
            })
            .count();
        let share = failed as f64 / f64::from(rounds);
        assert!((0.08..0.12).contains(&share), "{share}");
    }
}
