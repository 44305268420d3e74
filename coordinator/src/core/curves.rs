//! What a trial's accuracy at a rung leaves open: from how much of their error finished trials kept until the
//! end of training, the most that another can come to, with a stated confidence.
//!
//! Nothing is assumed of a curve's form. Of `n` finished trials with the same odds as the next one, the share
//! of its error that the next one keeps is below the `k`-th smallest of theirs with odds `k / (n + 1)`, so a
//! bound that holds with odds `c` is one of their values, or none while there are too few (split conformal
//! prediction, Vovk et al. 2005, *Algorithmic Learning in a Random World*).

use edgesmith_common::Metric;
use edgesmith_common::metric::Scale;

/// Error kept from a rung to the end, of finished trials. A trial's error is how far its metric is from
/// the best that there can be: of an accuracy, the share that is wrong.
#[derive(Debug)]
pub(super) struct ErrorLeft {
    metric: Metric,
    shares: Vec<f64>,
}

/// Errors count as no smaller than this share of the metric's scale, so that a share of them has a
/// meaning.
const LEAST_ERROR: f64 = 1e-4;

impl ErrorLeft {
    /// Of a metric, of which no trial has come to its end yet.
    pub(super) fn new(metric: Metric) -> Self {
        Self { metric, shares: Vec::new() }
    }

    /// A trial that had the first value at the rung and the second at its end.
    pub(super) fn add(&mut self, at_rung: f64, last: f64) {
        // Of a metric without a best value nothing can be said.
        let distance = |value| self.metric.distance_to_best(value);
        if let (Some(at_rung), Some(last)) = (distance(at_rung), distance(last)) {
            self.shares.push(last / at_rung.max(least_error(self.metric)));
        }
    }

    /// The share of its error that another trial keeps at least, with odds of `confidence`; `None` while
    /// there are too few trials to say.
    pub(super) fn least(mut self, confidence: f64) -> Option<f64> {
        // Rounding must not lose the trial that completes a place.
        let place = ((1.0 - confidence) * (self.shares.len() + 1) as f64 + 1e-9).floor() as usize;
        self.shares.sort_by(f64::total_cmp);
        self.shares.get(place.checked_sub(1)?).copied()
    }
}

/// The oriented value (less is better) that a trial with this oriented value and this value of its metric
/// at a rung comes to at best: its own, moved as far as its error can fall.
pub(super) fn best_value(metric: Metric, oriented: f64, value: f64, least: f64) -> f64 {
    let goal = metric.definition().goal;
    // Where someone wants the metric the other way round, nobody stops.
    let Some(distance) =
        metric.distance_to_best(value).filter(|_| oriented == goal.oriented(value))
    else {
        return f64::NEG_INFINITY;
    };
    let best = metric.at_distance(distance.max(least_error(metric)) * least);
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
    fn too_few_trials_say_nothing() {
        assert_eq!(left(&[0.5; 18]).least(0.95), None);
        assert_eq!(left(&[0.5; 19]).least(0.95), Some(0.5));
        assert_eq!(left(&[]).least(0.5), None);
    }

    #[test]
    fn the_bound_is_the_order_statistic_that_its_odds_ask_for() {
        let shares: Vec<f64> = (1..=39).map(|i| f64::from(i) / 64.0).collect();
        assert_eq!(left(&shares).least(0.95), Some(2.0 / 64.0));
        assert_eq!(left(&shares).least(0.5), Some(20.0 / 64.0));
    }

    #[test]
    fn the_best_is_never_below_what_is_there() {
        let best = |oriented, value, least| best_value(Metric::ACCURACY, oriented, value, least);
        assert_eq!(best(-0.75, 0.75, 0.5), -0.875);
        assert_eq!(best(-0.75, 0.75, 1.5), -0.75);
        assert_eq!(best(0.75, 0.75, 0.5), f64::NEG_INFINITY);
        assert!(best(-1.0, 1.0, 0.5) <= -1.0);
        // A metric of which less is better moves down, towards the least that there can be.
        assert_eq!(best_value(Metric::LATENCY_MS, 8.0, 8.0, 0.5).round(), 4.0);
    }

    /// Of many draws the bound fails for as many as it says.
    #[test]
    fn the_odds_are_those_that_are_stated() {
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
