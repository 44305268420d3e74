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
