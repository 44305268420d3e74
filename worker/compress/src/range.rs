//! Chooses the range of values that a quantized tensor covers, from the values seen in calibration.
//! It does not know about layers.

use edgesmith_graph::Affine;

/// Number of histogram bins on each side of zero.
const BINS: usize = 4096;
/// Number of fractions of the observed range that are tried as clipping points.
const CANDIDATES: u32 = 64;
/// Initial limit of the histogram. All limits are powers of two, so that merged bins count exactly
/// what a wider histogram would have counted.
const FIRST_LIMIT: f32 = 1.0 / 1048576.0;

/// The calibration values of one tensor: a histogram that grows with the values, so that one pass
/// over the images is enough.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    low: f32,
    high: f32,
    /// Every value is within `-limit..=limit`.
    limit: f32,
    negative: Vec<u64>,
    positive: Vec<u64>,
}

impl Observer {
    /// An empty histogram.
    pub(crate) fn new() -> Self {
        Self {
            low: 0.0,
            high: 0.0,
            limit: FIRST_LIMIT,
            negative: vec![0; BINS],
            positive: vec![0; BINS],
        }
    }

    /// Counts the values of one image, which must be finite.
    pub(crate) fn observe(&mut self, values: &[f32]) {
        let (low, high) = extremes(values);
        (self.low, self.high) = (self.low.min(low), self.high.max(high));
        while self.limit < self.high.max(-self.low) {
            self.grow();
        }
        let bins_per_unit = BINS as f32 / self.limit;
        for &value in values {
            // Zero is exact in every range, so it does not count.
            if value != 0.0 {
                let side = if value > 0.0 { &mut self.positive } else { &mut self.negative };
                side[((value.abs() * bins_per_unit) as usize).min(BINS - 1)] += 1;
            }
        }
    }

    /// The range around zero with the least squared error after quantization to 256 levels: the
    /// rounding error of values inside (`scale^2 / 12` each, as of uniform noise) plus the clipping
    /// error of those outside. For a tensor without outliers that is the observed range. It
    /// contains zero and is not empty.
    pub(crate) fn range(&self) -> (f32, f32) {
        if self.high - self.low < Affine::NARROWEST {
            return (0.0, Affine::NARROWEST);
        }
        let fraction = |step: u32| step as f32 / CANDIDATES as f32;
        let steps =
            |bound: f32| if bound == 0.0 { CANDIDATES..=CANDIDATES } else { 1..=CANDIDATES };
        let positive: Vec<(f32, f64)> = steps(self.high)
            .map(|s| self.high * fraction(s))
            .map(|clip| (clip, self.clipping_error(&self.positive, clip)))
            .collect();
        let negative: Vec<(f32, f64)> = steps(self.low)
            .map(|s| self.low * fraction(s))
            .map(|clip| (clip, self.clipping_error(&self.negative, -clip)))
            .collect();
        let count: u64 = self.positive.iter().chain(&self.negative).sum();
        let mut best = ((self.low, self.high), f64::INFINITY);
        // Widest first, so that of two equal errors the one with less clipping is chosen.
        for &(low, low_error) in negative.iter().rev() {
            for &(high, high_error) in positive.iter().rev() {
                let scale = f64::from(high - low) / 255.0;
                let error = count as f64 * scale * scale / 12.0 + low_error + high_error;
                if error < best.1 {
                    best = ((low, high), error);
                }
            }
        }
        best.0
    }

    /// Sum of squared distances to `clip` of the values beyond it, on one side of zero.
    fn clipping_error(&self, side: &[u64], clip: f32) -> f64 {
        let width = f64::from(self.limit) / BINS as f64;
        side.iter()
            .enumerate()
            .map(|(bin, &count)| {
                let beyond = (bin as f64 + 0.5) * width - f64::from(clip);
                if beyond > 0.0 { count as f64 * beyond * beyond } else { 0.0 }
            })
            .sum()
    }

    /// Doubles the histogram's limit, merging bins in pairs.
    fn grow(&mut self) {
        self.limit *= 2.0;
        for side in [&mut self.negative, &mut self.positive] {
            for bin in 0..BINS / 2 {
                side[bin] = side[2 * bin] + side[2 * bin + 1];
            }
            side[BINS / 2..].fill(0);
        }
    }
}

/// Least and greatest value, extended to include zero.
fn extremes(values: &[f32]) -> (f32, f32) {
    values.iter().fold((0.0, 0.0), |(low, high), &v| (v.min(low), v.max(high)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn squared_error(values: &[f32], (low, high): (f32, f32)) -> f64 {
        let q = Affine::covering(low, high);
        let zero = f32::from(q.zero_point);
        values
            .iter()
            .map(|v| {
                let level = ((v / q.scale).round() + zero).clamp(0.0, 255.0);
                f64::from((level - zero) * q.scale - v).powi(2)
            })
            .sum()
    }

    proptest! {
        #[test]
        fn the_chosen_range_is_not_worse_than_the_observed_one(
            values in prop::collection::vec(-3.0..10.0f32, 1..500),
            outlier in 1.0..1000.0f32,
        ) {
            let mut values = values;
            values.push(outlier);
            let mut observer = Observer::new();
            values.chunks(7).for_each(|chunk| observer.observe(chunk));
            let chosen = squared_error(&values, observer.range());
            let seen = squared_error(&values, extremes(&values));
            // The tolerance is for the rounding error, which is estimated and not measured.
            prop_assert!(chosen <= seen * 1.5 + 1e-9, "{chosen} > {seen}");
        }
    }

    #[test]
    fn an_outlier_is_clipped_when_that_lowers_the_total_error() {
        let uniform: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
        let mut observer = Observer::new();
        observer.observe(&uniform);
        assert_eq!(observer.range(), (0.0, 0.9999));
        // Clipping 8 to about 1 costs 49. Not clipping costs (8 / 255)^2 / 12 for every value.
        observer.observe(&[8.0]);
        assert!(observer.range().1 > 7.0);
        (0..200).for_each(|_| observer.observe(&uniform));
        let (low, high) = observer.range();
        assert!(low == 0.0 && (0.9..4.0).contains(&high), "{high}");
    }

    #[test]
    fn histograms_do_not_depend_on_the_order_of_values() {
        let values: Vec<f32> = (1..2000).map(|i| (i as f32 * 0.37).sin() * i as f32).collect();
        let mut at_once = Observer::new();
        at_once.observe(&values);
        let mut one_by_one = Observer::new();
        values.iter().for_each(|v| one_by_one.observe(&[*v]));
        assert_eq!(at_once.range(), one_by_one.range());
        assert_eq!(at_once.positive, one_by_one.positive);
    }

    #[test]
    fn a_tensor_of_zeros_has_a_scale() {
        let mut observer = Observer::new();
        observer.observe(&[0.0; 9]);
        let (low, high) = observer.range();
        let q = Affine::covering(low, high);
        assert!(q.scale > 0.0 && q.zero_point == 0);
        assert!(Affine::covering(0.0, 0.0).scale > 0.0);
    }
}
