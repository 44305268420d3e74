//! The range of least squared error.

use super::{Observer, Side, candidates};

impl Observer {
    /// The range around zero with the least squared error after quantization to 256 levels: the
    /// rounding error of values inside (`scale^2 / 12` each, as of uniform noise) plus the clipping
    /// error of those outside. For a tensor without outliers that is the observed range.
    pub(super) fn least_squared_error(&self) -> (f32, f32) {
        let positive = self.clipping_errors(self.high, &self.positive);
        let negative = self.clipping_errors(self.low, &self.negative);
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

    /// For each bound that is tried on one side of zero, narrowest first: the sum of squared
    /// distances to it of the values beyond.
    fn clipping_errors(&self, bound: f32, side: &Side) -> Vec<(f32, f64)> {
        let width = self.bin_width();
        let error = |clip: f32| {
            side.iter()
                .enumerate()
                .map(|(bin, &count)| {
                    let beyond = (bin as f64 + 0.5) * width - f64::from(clip.abs());
                    if beyond > 0.0 { count as f64 * beyond * beyond } else { 0.0 }
                })
                .sum()
        };
        candidates(bound).map(|clip| (clip, error(clip))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::RangeRule;
    use super::*;

    /// All ranges whose ends are 64ths of the outermost numbers.
    fn all_ranges(values: &[f32]) -> Vec<(f32, f32)> {
        let ends = |bound: f32| -> Vec<f32> {
            (1..=64).map(|part| bound * (part as f32 / 64.0)).collect()
        };
        let low = values.iter().copied().fold(0.0, f32::min);
        let high = values.iter().copied().fold(0.0, f32::max);
        let mut all = Vec::new();
        for low in if low < 0.0 { ends(low) } else { vec![0.0] } {
            for high in if high > 0.0 { ends(high) } else { vec![0.0] } {
                all.push((low, high));
            }
        }
        all
    }

    /// How far a number is beyond the nearer end of a range; 0 within.
    fn beyond(value: f32, (low, high): (f32, f32)) -> f64 {
        f64::from((value - high).max(low - value).max(0.0))
    }

    /// The error that the rule makes least, from numbers and how often each is there, and not from
    /// a histogram of them.
    fn estimated(values: &[(f32, u32)], range: (f32, f32)) -> f64 {
        let step = f64::from(range.1 - range.0) / 255.0;
        let mut sum = 0.0;
        for &(value, times) in values {
            // The variance of what is anywhere within a step. Zero is a level.
            let rounding = if value == 0.0 { 0.0 } else { step.powi(2) / 12.0 };
            sum += f64::from(times) * (rounding + beyond(value, range).powi(2));
        }
        sum
    }

    /// The squared error of numbers rounded to the nearest of the 256 levels, each number beside
    /// its level. One of the levels is zero.
    fn measured(values: &[f32], (low, high): (f32, f32)) -> f64 {
        let step = f64::from(high - low) / 255.0;
        let below = (f64::from(-low) / step).round();
        let (lowest, highest) = (-below, 255.0 - below);
        let mut sum = 0.0;
        for &value in values {
            let nearest = (f64::from(value) / step).round().max(lowest).min(highest);
            sum += (f64::from(value) - nearest * step).powi(2);
        }
        sum
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// A histogram takes each number for the middle of its bin. Here they are there, so that it
        /// loses nothing, and no range that is tried may be better than the chosen one.
        #[test]
        fn no_range_has_a_smaller_estimate_than_the_chosen_one(
            near in prop::collection::vec((0.0..1.0f32, any::<bool>()), 1..20),
            far in prop::collection::vec((0.0..1.0f32, any::<bool>()), 0..20),
            (often, reach) in (1..4000u32, 2.0..1000.0f32),
            (positive, signed) in (any::<bool>(), any::<bool>()),
        ) {
            // Of 64 for each unit. The last one decides how wide they are.
            let in_bin = |bin: f32, above: bool| {
                let above = if signed { above } else { positive };
                (bin.floor() + 0.5) / 64.0 * if above { 1.0 } else { -1.0 }
            };
            let mut values = vec![(0.0, 9), (in_bin(4095.0, positive), 1)];
            values.extend(near.iter().map(|&(at, above)| (in_bin(at * reach, above), often)));
            values.extend(far.iter().map(|&(at, above)| (in_bin(at * 4095.0, above), 1)));
            let mut observer = Observer::new();
            for &(value, times) in &values {
                observer.observe(&vec![value; times as usize]);
            }
            prop_assert_eq!(observer.bin_width(), 1.0 / 64.0);
            let chosen = observer.range(RangeRule::MeanSquaredError);
            let error = estimated(&values, chosen);
            let numbers: Vec<f32> = values.iter().map(|(value, _)| *value).collect();
            for range in all_ranges(&numbers) {
                let other = estimated(&values, range);
                prop_assert!(
                    error <= other * (1.0 + 1e-9), "{chosen:?}: {error}, {range:?}: {other}"
                );
            }
        }
    }

    /// Of as many numbers as a network has, the estimate is nearly the error itself. A bin moves a
    /// number by half of its width, which is a 4096th of the outermost number at most.
    #[test]
    fn the_chosen_range_has_nearly_the_least_measured_error_of_all() {
        // Sums of some, so that few are far from the middle.
        let bell = |seed: u8, terms: usize| -> Vec<f32> {
            let all = edgesmith_testing::noise(3000 * terms, seed);
            all.chunks(terms).map(|few| few.iter().sum()).collect()
        };
        let steep: Vec<f32> = bell(1, 3).iter().map(|value| value.powi(5)).collect();
        let positive: Vec<f32> = bell(2, 2).iter().map(|value| value.powi(4)).collect();
        let negative: Vec<f32> = bell(3, 4).iter().map(|value| -value.abs().powi(7)).collect();
        let mut outliers = bell(4, 6);
        outliers.extend([6.0, -9.0]);
        for values in [bell(5, 1), bell(6, 12), steep, positive, negative, outliers] {
            let mut observer = Observer::new();
            values.chunks(50).for_each(|chunk| observer.observe(chunk));
            let chosen = observer.range(RangeRule::MeanSquaredError);
            let error = measured(&values, chosen);
            let all = all_ranges(&values).into_iter().map(|range| measured(&values, range));
            let least = all.fold(f64::MAX, f64::min);
            assert!(error <= 1.02 * least, "{chosen:?}: {error} for {least}");
        }
    }
}
