//! The range that holds a share of the numbers.

use super::{BINS, Observer};

impl Observer {
    /// The range with this share of the numbers in it. Of the others, half are below it and half
    /// above. Zeros count. An end is exact to the width of a bin, and never beyond the numbers.
    pub(super) fn percentile(&self, share: f64) -> (f32, f32) {
        let [negative, positive] =
            [&self.negative, &self.positive].map(|side| side.iter().sum::<u64>());
        let count = negative + self.zeros + positive;
        // How many numbers are cut off at each end.
        let cut = ((1.0 - share) / 2.0 * count as f64).floor() as u64;
        let low = self.beyond(&self.negative, cut).map_or(0.0, |end| (-end).max(self.low));
        let high = self.beyond(&self.positive, cut).map_or(0.0, |end| end.min(self.high));
        (low, high)
    }

    /// The outer end of the bin of one side with the number that so many are further from zero
    /// than; `None` if the side has no more than these.
    fn beyond(&self, side: &[u64], cut: u64) -> Option<f32> {
        let mut further = 0;
        let bin = (0..BINS).rev().find(|&bin| {
            further += side[bin];
            further > cut
        });
        bin.map(|bin| ((bin + 1) as f64 * self.bin_width()) as f32)
    }
}
