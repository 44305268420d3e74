//! What a trial's accuracy at a rung leaves open: from how much of their error finished trials kept until the
//! end of training, the most that another can come to, with a stated confidence.
//!
//! Nothing is assumed of a curve's form. Of `n` finished trials with the same odds as the next one, the share
//! of its error that the next one keeps is below the `k`-th smallest of theirs with odds `k / (n + 1)`, so a
//! bound that holds with odds `c` is one of their values, or none while there are too few (split conformal
//! prediction, Vovk et al. 2005, *Algorithmic Learning in a Random World*).

/// Error kept from a rung to the end, of finished trials.
#[derive(Debug, Default)]
pub(super) struct ErrorLeft(Vec<f64>);

/// Errors are taken for no smaller than this, so that a share of them has a meaning.
const LEAST_ERROR: f64 = 1e-4;

impl ErrorLeft {
    /// A trial that had the first accuracy at the rung and the second at its end.
    pub(super) fn add(&mut self, at_rung: f64, last: f64) {
        self.0.push((1.0 - last).max(0.0) / (1.0 - at_rung).max(LEAST_ERROR));
    }

    /// The share of its error that another trial keeps at least, with odds of `confidence`; `None` while
    /// there are too few trials to say.
    pub(super) fn least(mut self, confidence: f64) -> Option<f64> {
        // Rounding must not lose the trial that completes a place.
        let place = ((1.0 - confidence) * (self.0.len() + 1) as f64 + 1e-9).floor() as usize;
        self.0.sort_by(f64::total_cmp);
        self.0.get(place.checked_sub(1)?).copied()
    }
}

/// The value to minimise that a trial with this value and accuracy at a rung comes to at best: its own,
/// moved as far as its accuracy can rise.
pub(super) fn best_value(value: f64, accuracy: f64, least: f64) -> f64 {
    let best = 1.0 - (1.0 - accuracy).max(LEAST_ERROR) * least;
    // Accuracy is maximised: its value is its negative. Where someone minimises it, nobody stops.
    if value == -accuracy { -best.max(accuracy) } else { f64::NEG_INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(shares: &[f64]) -> ErrorLeft {
        let mut left = ErrorLeft::default();
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
        assert_eq!(best_value(-0.75, 0.75, 0.5), -0.875);
        assert_eq!(best_value(-0.75, 0.75, 1.5), -0.75);
        assert_eq!(best_value(0.75, 0.75, 0.5), f64::NEG_INFINITY);
        assert!(best_value(-1.0, 1.0, 0.5) <= -1.0);
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
