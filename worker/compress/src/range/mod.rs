//! Chooses the range of values that a quantized tensor covers, from the values seen in calibration.
//! One file per rule says how. It does not know about layers.

mod entropy;
mod mean_squared_error;
mod percentile;

use edgesmith_graph::Affine;

use crate::RangeRule;

/// Number of histogram bins on each side of zero.
const BINS: usize = 4096;
/// Number of fractions of the observed range that are tried as clipping points.
const CANDIDATES: u32 = 64;
/// Initial limit of the histogram. All limits are powers of two, so that merged bins count exactly
/// what a wider histogram would have counted.
const FIRST_LIMIT: f32 = 1.0 / 1048576.0;

/// The counts of one side of zero, by bin, outwards.
type Side = [u64];

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
    /// How many values are 0. They are in no bin.
    zeros: u64,
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
            zeros: 0,
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
            // Zero is exact in every range.
            if value == 0.0 {
                self.zeros += 1;
            } else {
                let side = if value > 0.0 { &mut self.positive } else { &mut self.negative };
                side[((value.abs() * bins_per_unit) as usize).min(BINS - 1)] += 1;
            }
        }
    }

    /// The range that the rule chooses. It contains zero and is within the observed one.
    pub(crate) fn range(&self, rule: RangeRule) -> (f32, f32) {
        if self.high - self.low < Affine::NARROWEST {
            return (0.0, Affine::NARROWEST);
        }
        match rule {
            RangeRule::MeanSquaredError => self.least_squared_error(),
            RangeRule::MinMax => (self.low, self.high),
            RangeRule::Percentile(share) => self.percentile(share),
            RangeRule::Entropy => self.least_divergence(),
        }
    }

    /// Width of a bin.
    fn bin_width(&self) -> f64 {
        f64::from(self.limit) / BINS as f64
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

/// The ends of ranges that are tried on one side of zero, narrowest first: fractions of the
/// observed end. If that is zero, only zero is tried.
fn candidates(bound: f32) -> impl DoubleEndedIterator<Item = f32> {
    let steps = if bound == 0.0 { CANDIDATES..=CANDIDATES } else { 1..=CANDIDATES };
    steps.map(move |step| bound * (step as f32 / CANDIDATES as f32))
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

    const RULES: [RangeRule; 4] = [
        RangeRule::MeanSquaredError,
        RangeRule::MinMax,
        RangeRule::Percentile(0.99),
        RangeRule::Entropy,
    ];

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_values(
            values in prop::collection::vec(prop_oneof![Just(0.0f32), -3.0..10.0f32], 1..500),
            share in prop_oneof![Just(1.0), 0.01..1.0f64],
        ) {
            let mut observer = Observer::new();
            values.chunks(7).for_each(|chunk| observer.observe(chunk));
            let (low, high) = observer.range(RangeRule::Percentile(share));
            let mut sorted = values.clone();
            sorted.sort_by(f32::total_cmp);
            let cut = ((1.0 - share) / 2.0 * sorted.len() as f64).floor() as usize;
            let (least, most) = (sorted[cut].min(0.0), sorted[sorted.len() - 1 - cut].max(0.0));
            if most - least > 0.01 {
                let bin = observer.bin_width() as f32 * 1.001;
                prop_assert!(low <= least && least - low <= bin, "{low} for {least}");
                prop_assert!(high >= most && high - most <= bin, "{high} for {most}");
            }
        }

        #[test]
        fn the_widest_range_is_that_of_a_plain_loop(
            values in prop::collection::vec(-3.0..10.0f32, 1..100),
            (scale, up, chunk) in (0.01..3.0f32, -12.0..5.0f32, 1..9usize),
        ) {
            // All above zero, all below it, or on both sides.
            let values: Vec<f32> = values.iter().map(|value| (value + up) * scale).collect();
            let mut observer = Observer::new();
            values.chunks(chunk).for_each(|chunk| observer.observe(chunk));
            let (mut least, mut most) = (0.0, 0.0);
            for &value in &values {
                if value < least {
                    least = value;
                }
                if value > most {
                    most = value;
                }
            }
            prop_assume!(most - least > 1e-5);
            prop_assert_eq!(observer.range(RangeRule::MinMax), (least, most));
        }

        #[test]
        fn the_chosen_range_is_not_worse_than_the_observed_one(
            values in prop::collection::vec(-3.0..10.0f32, 1..500),
            outlier in 1.0..1000.0f32,
        ) {
            let mut values = values;
            values.push(outlier);
            let mut observer = Observer::new();
            values.chunks(7).for_each(|chunk| observer.observe(chunk));
            let chosen = squared_error(&values, observer.range(RangeRule::MeanSquaredError));
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
        assert_eq!(observer.range(RangeRule::MeanSquaredError), (0.0, 0.9999));
        // Clipping 8 to about 1 costs 49. Not clipping costs (8 / 255)^2 / 12 for every value.
        observer.observe(&[8.0]);
        assert!(observer.range(RangeRule::MeanSquaredError).1 > 7.0);
        (0..200).for_each(|_| observer.observe(&uniform));
        let (low, high) = observer.range(RangeRule::MeanSquaredError);
        assert!(low == 0.0 && (0.9..4.0).contains(&high), "{high}");
    }

    #[test]
    fn histograms_do_not_depend_on_the_order_of_values() {
        let values: Vec<f32> = (1..2000).map(|i| (i as f32 * 0.37).sin() * i as f32).collect();
        let mut at_once = Observer::new();
        at_once.observe(&values);
        let mut one_by_one = Observer::new();
        values.iter().for_each(|v| one_by_one.observe(&[*v]));
        for rule in RULES {
            assert_eq!(at_once.range(rule), one_by_one.range(rule));
        }
        assert_eq!(at_once.positive, one_by_one.positive);
    }

    #[test]
    fn a_tensor_of_zeros_has_a_scale() {
        let mut observer = Observer::new();
        observer.observe(&[0.0; 9]);
        for rule in RULES {
            let (low, high) = observer.range(rule);
            let q = Affine::covering(low, high);
            assert!(q.scale > 0.0 && q.zero_point == 0);
        }
        assert!(Affine::covering(0.0, 0.0).scale > 0.0);
    }
}
