//! The range that loses the least information (Migacz 2017, "8-bit inference with TensorRT").
//!
//! There, a histogram of magnitudes is cut off at many places. What is cut off counts in the last
//! bin that is left, the bins are merged into levels and spread out again, and the place is chosen
//! whose distribution diverges least from the one before merging. Here are four differences. A
//! range has two ends, so pairs of ends are tried, what lies beyond an end counts in the last bin
//! before it, and the levels are the 256 of the affine quantization of that range, each around its
//! real number. Zeros do not count: zero is a level of every range, so it loses nothing. And a
//! level with nothing in it but what is cut off counts as half a number, because the divergence
//! from nothing is infinite.
//!
//! The fourth: a divergence knows nothing of distances. If a background is the same in all images,
//! a few bins hold most numbers, and the least divergence cuts off all others, however far away
//! they are. So only a small share of the numbers may be cut off.

use std::ops::Range;

use super::{Observer, candidates};

/// Levels of a quantized value. Ranges of fewer bins are not tried: nothing would be merged.
const LEVELS: usize = 256;
/// Largest share of the numbers that a range may cut off.
const MOST_CUT: f64 = 0.001;
/// What a level counts that has nothing in it but what is cut off.
const EMPTY: f64 = 0.5;

impl Observer {
    /// The range of the least divergence; the widest one if several have it.
    pub(super) fn least_divergence(&self) -> (f32, f32) {
        let counts = Counts::of(self);
        let mut best = ((self.low, self.high), f64::INFINITY);
        // Few bounds are tried, so they are collected.
        let highs: Vec<f32> = candidates(self.high).rev().collect();
        for low in candidates(self.low).rev() {
            for &high in &highs {
                if counts.cut(low, high) > MOST_CUT {
                    continue;
                }
                let divergence = counts.divergence(low, high);
                if divergence < best.1 {
                    best = ((low, high), divergence);
                }
            }
        }
        best.0
    }
}

/// A histogram from the lowest bin to the highest, summed up so that each sum over neighbouring
/// bins is one subtraction.
struct Counts {
    width: f64,
    /// The bin that begins at zero.
    zero: usize,
    counts: Vec<u64>,
    /// By bin: sum of the counts of the bins before.
    sums: Vec<u64>,
    /// The number of bins before with a count.
    filled: Vec<u32>,
    /// Sum over the bins before of `count * ln(count)`.
    terms: Vec<f64>,
}

impl Counts {
    fn of(observer: &Observer) -> Self {
        let (negative, positive) = (&observer.negative, &observer.positive);
        let counts: Vec<u64> = negative.iter().rev().chain(positive).copied().collect();
        let (mut sums, mut filled, mut terms) = (vec![0], vec![0], vec![0.0]);
        for (bin, &count) in counts.iter().enumerate() {
            sums.push(sums[bin] + count);
            filled.push(filled[bin] + u32::from(count > 0));
            terms.push(terms[bin] + term(count));
        }
        let width = observer.bin_width();
        Self { width, zero: negative.len(), counts, sums, filled, terms }
    }

    /// The bins of a range.
    fn bins(&self, low: f32, high: f32) -> Range<usize> {
        let end = |bound: f32| (f64::from(bound) / self.width).abs().ceil() as usize;
        let first = self.zero - end(low).min(self.zero);
        let last = self.zero + end(high).min(self.counts.len() - self.zero);
        first..last
    }

    /// Share of the numbers that a range cuts off.
    fn cut(&self, low: f32, high: f32) -> f64 {
        let Range { start, end } = self.bins(low, high);
        let all = *self.sums.last().expect("a sum before each bin and after all");
        (all - (self.sums[end] - self.sums[start])) as f64 / all.max(1) as f64
    }

    /// The Kullback–Leibler divergence of the histogram merged into the levels of a range from the
    /// histogram cut off at its ends; infinite for a range that is not tried.
    fn divergence(&self, low: f32, high: f32) -> f64 {
        let Range { start: first, end: last } = self.bins(low, high);
        let inside = self.sums[last] - self.sums[first];
        if last - first < LEVELS || inside == 0 {
            return f64::INFINITY;
        }
        let all = *self.sums.last().expect("a sum before each bin and after all");
        let (below, above) = (self.sums[first], all - self.sums[last]);
        // With what is cut off: `P` of the paper is `count / all`.
        let ends = [(first, below), (last - 1, above)];
        let more = |bin: usize| -> u64 {
            ends.iter().filter(|(end, _)| *end == bin).map(|(_, count)| count).sum()
        };
        // Sum of `p ln p`, but for the division by the number of all.
        let mut own = self.terms[last] - self.terms[first];
        for bin in [first, last - 1] {
            own += term(self.counts[bin] + more(bin)) - term(self.counts[bin]);
        }
        let scale = f64::from(high - low) / (LEVELS - 1) as f64;
        // The bin whose middle is the first one above a number.
        let bin = |real: f64| {
            let place = (real / self.width - 0.5).ceil() + self.zero as f64;
            (place.max(first as f64) as usize).min(last)
        };
        let lowest = (f64::from(low) / scale).round();
        let (mut merged, mut start) = (0.0, first);
        for level in 0..LEVELS {
            let end = if level + 1 == LEVELS {
                last
            } else {
                bin((lowest + level as f64 + 0.5) * scale).max(start)
            };
            if start == end {
                continue;
            }
            let range = start..end;
            let beyond: u64 =
                ends.iter().filter(|(bin, _)| range.contains(bin)).map(|(_, count)| count).sum();
            let count = self.sums[end] - self.sums[start];
            // A bin that has only what was cut off is filled, too.
            let extra = |bin: usize| u32::from(self.counts[bin] == 0 && more(bin) > 0);
            let mut filled = self.filled[end] - self.filled[start];
            filled += if range.contains(&first) { extra(first) } else { 0 };
            filled += if range.contains(&(last - 1)) { extra(last - 1) } else { 0 };
            start = end;
            if count + beyond == 0 {
                continue;
            }
            // Each filled bin of the level has the same share `q`.
            let share = (count as f64).max(EMPTY) / f64::from(filled) / inside as f64;
            merged += (count + beyond) as f64 * share.ln();
        }
        let all = all as f64;
        own / all - all.ln() - merged / all
    }
}

/// `count * ln(count)`, which is 0 for 0.
fn term(count: u64) -> f64 {
    if count == 0 { 0.0 } else { count as f64 * (count as f64).ln() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{BINS, RangeRule};
    use super::*;

    /// The divergence, bin by bin, as a program with arrays computes it.
    fn naive(observer: &Observer, low: f32, high: f32) -> f64 {
        let width = observer.bin_width();
        let middle = |bin: usize| (bin as f64 - BINS as f64 + 0.5) * width;
        let histogram: Vec<f64> = (0..2 * BINS)
            .map(|bin| match bin.checked_sub(BINS) {
                Some(bin) => observer.positive[bin] as f64,
                None => observer.negative[BINS - 1 - bin] as f64,
            })
            .collect();
        let first = BINS - (f64::from(-low) / width).ceil() as usize;
        let last = BINS + (f64::from(high) / width).ceil() as usize;
        if last - first < 256 {
            return f64::INFINITY;
        }
        let inside = &histogram[first..last];
        let mut p = inside.to_vec();
        p[0] += histogram[..first].iter().sum::<f64>();
        *p.last_mut().unwrap() += histogram[last..].iter().sum::<f64>();
        let scale = f64::from(high - low) / 255.0;
        let lowest = (f64::from(low) / scale).round();
        let level = |bin: usize| {
            // Halves go up, as the next level begins at its lower end.
            let level = (middle(first + bin) / scale + 0.5).floor() - lowest;
            level.clamp(0.0, 255.0) as usize
        };
        let (mut sums, mut filled) = ([0.0; 256], [0.0; 256]);
        for bin in 0..p.len() {
            sums[level(bin)] += inside[bin];
            filled[level(bin)] += f64::from(u8::from(p[bin] > 0.0));
        }
        let (p_all, q_all): (f64, f64) = (p.iter().sum(), inside.iter().sum());
        if q_all == 0.0 {
            return f64::INFINITY;
        }
        let divergence = |bin: usize| {
            if p[bin] == 0.0 {
                return 0.0;
            }
            let q = f64::max(sums[level(bin)], 0.5) / filled[level(bin)] / q_all;
            let p = p[bin] / p_all;
            p * (p / q).ln()
        };
        (0..p.len()).map(divergence).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn sums_of_bins_give_the_divergence_bin_by_bin(
            values in prop::collection::vec(-3.0..10.0f32, 1..400),
            spread in 0.01..3.0f32,
            (low, high) in (0.05..=1.0f32, 0.05..=1.0f32),
        ) {
            let mut observer = Observer::new();
            observer.observe(&values);
            // Most values are near zero, as in networks.
            let near: Vec<f32> = values.iter().map(|v| (v * 0.2).powi(3) * spread).collect();
            observer.observe(&near);
            let (low, high) = (observer.low * low, observer.high * high);
            let expected = naive(&observer, low, high);
            let counts = Counts::of(&observer);
            let found = counts.divergence(low, high);
            prop_assert!(
                found == expected || (found - expected).abs() < 1e-9, "{found} for {expected}"
            );
            // The range that is chosen is the best one of all that are tried.
            let (low, high) = observer.range(RangeRule::Entropy);
            let chosen = naive(&observer, low, high);
            for low in candidates(observer.low).step_by(9) {
                for high in candidates(observer.high).step_by(9) {
                    let tried = counts.cut(low, high) <= MOST_CUT;
                    prop_assert!(!tried || chosen <= naive(&observer, low, high) + 1e-9);
                }
            }
        }
    }

    #[test]
    fn few_numbers_far_away_are_cut_off() {
        let mut observer = Observer::new();
        let bell: Vec<f32> =
            (0..20_000).map(|i| (i as f32 * 0.7).sin() * (i as f32 * 1.3).sin()).collect();
        observer.observe(&bell);
        observer.observe(&[40.0, -40.0]);
        let (low, high) = observer.range(RangeRule::Entropy);
        assert!(low > -8.0 && high < 8.0, "{low} {high}");
    }

    #[test]
    fn one_number_that_is_there_often_does_not_cut_off_the_others() {
        let mut observer = Observer::new();
        // A background of a few numbers near zero, and a third of others far from it.
        let near: Vec<f32> = (0..20_000).map(|i| -0.3 + 0.02 * (i % 7) as f32).collect();
        let far: Vec<f32> = (0..10_000).map(|i| 5.0 * (i as f32 * 0.7).sin().abs()).collect();
        observer.observe(&near);
        observer.observe(&far);
        let (low, high) = observer.range(RangeRule::Entropy);
        assert!(low < -0.1 && high > 4.0, "{low} {high}");
    }
}
