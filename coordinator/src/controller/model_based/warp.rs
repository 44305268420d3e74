//! Targets transformed for a Gaussian process: the better half is unchanged, the worse half is
//! replaced by logarithms. Otherwise a few networks that learned nothing would hide all differences
//! that matter.

/// A warp fitted to some values; less is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warp {
    best: f64,
    /// Distance from the best value to the median.
    half: f64,
    mean: f64,
    deviation: f64,
}

impl Warp {
    /// Fits a warp to finite values. There must be at least one.
    pub fn fit(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let best = sorted[0];
        let median = sorted[sorted.len() / 2];
        let spread = sorted[sorted.len() - 1] - best;
        let half = [median - best, spread, 1.0].into_iter().find(|h| *h > 0.0).unwrap_or(1.0);
        let plain = Self { best, half, mean: 0.0, deviation: 1.0 };
        let warped: Vec<f64> = values.iter().map(|value| plain.apply(*value)).collect();
        let n = warped.len() as f64;
        let mean = warped.iter().sum::<f64>() / n;
        let variance = warped.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n;
        let deviation = if variance > 1e-24 { variance.sqrt() } else { 1.0 };
        Self { mean, deviation, ..plain }
    }

    /// Like [`Warp::fit`], but returns the warped values too.
    pub fn fit_all(values: &[f64]) -> (Self, Vec<f64>) {
        let warp = Self::fit(values);
        (warp, values.iter().map(|value| warp.apply(*value)).collect())
    }

    /// The warped value: mean 0 and deviation 1 over the values that it was fitted to.
    pub fn apply(&self, value: f64) -> f64 {
        let u = (value - self.best) / self.half;
        let z = if u <= 1.0 { u } else { 1.0 + u.ln() };
        (z - self.mean) / self.deviation
    }

    /// The inverse of [`Warp::apply`].
    pub fn invert(&self, z: f64) -> f64 {
        let z = z * self.deviation + self.mean;
        // Predictions far from all values must stay finite.
        let u = if z <= 1.0 { z } else { (z - 1.0).min(60.0).exp() };
        self.best + self.half * u
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_warped_comes_back_in_order(
            values in prop::collection::vec(-1e3..1e3f64, 1..40), probe in -1e3..1e3f64,
        ) {
            let warp = Warp::fit(&values);
            let scale = values.iter().fold(1.0, |a: f64, v| a.max(v.abs())).max(probe.abs());
            prop_assert!((warp.invert(warp.apply(probe)) - probe).abs() < 1e-6 * scale.max(1.0));
            prop_assert!(warp.apply(probe) < warp.apply(probe + 1.0));
        }
    }

    #[test]
    fn outliers_do_not_hide_other_differences() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 1000.0];
        let warp = Warp::fit(&values);
        let step = warp.apply(2.0) - warp.apply(1.0);
        assert!(warp.apply(1000.0) - warp.apply(5.0) < 20.0 * step);
        // Equal values cause no division by 0.
        assert_eq!(Warp::fit(&[3.0, 3.0]).apply(3.0), 0.0);
    }
}
