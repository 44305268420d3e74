//! Helpers shared by the tests of several modules.

use std::ops::Range;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::taps::Sweep;

/// Values in `-1.0..1.0`.
pub(crate) fn noise(count: usize, seed: u8) -> Vec<f32> {
    let mut rng = ChaCha8Rng::from_seed([seed; 32]);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Whether sums of such values agree, up to rounding.
pub(crate) fn close(got: &[f32], expected: &[f64]) -> bool {
    let near = |(got, expected): (&f32, &f64)| (f64::from(*got) - expected).abs() < 1e-3;
    got.len() == expected.len() && got.iter().zip(expected).all(near)
}

/// A dense convolution of some size.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub sweep: Sweep,
    pub rows: usize,
    pub channels: usize,
    pub lanes: usize,
    pub seed: u8,
}

impl Case {
    /// Number of pixels of the input.
    pub(crate) fn inputs(&self) -> usize {
        self.sweep.input[0] * self.sweep.input[1]
    }

    /// Number of pixels of the output.
    pub(crate) fn outputs(&self) -> usize {
        self.sweep.output()[0] * self.sweep.output()[1]
    }

    /// Number of weights of all filters.
    pub(crate) fn weights(&self) -> usize {
        self.rows * self.channels * self.sweep.taps()
    }

    /// Calls `visit(weight, input value, output value)` with the indices of every product.
    pub(crate) fn for_products(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (reads, taps) = (self.sweep.forward(), self.sweep.taps());
        let each =
            |of: Range<usize>, with: usize| of.flat_map(move |a| (0..with).map(move |b| (a, b)));
        for (row, channel) in each(0..self.rows, self.channels) {
            for (pixel, lane) in each(0..self.outputs(), self.lanes) {
                for read in reads.of(pixel) {
                    visit(
                        (row * self.channels + channel) * taps + read.tap,
                        (channel * self.inputs() + read.place) * self.lanes + lane,
                        (row * self.outputs() + pixel) * self.lanes + lane,
                    );
                }
            }
        }
    }
}

/// Convolutions with and without stride, with and without neighbours, and with and without whole
/// pairs of vectors.
pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let sweeps =
        (prop::sample::select(vec![1usize, 3, 5]), 1usize..3, 1usize..7, 1usize..7).prop_map(
            |(kernel, stride, height, width)| Sweep { kernel, stride, input: [height, width] },
        );
    let lanes = prop::sample::select(vec![8usize, 16, 24, 40, 64, 72]);
    (sweeps, 1usize..15, 1usize..10, lanes, 0u8..255).prop_map(
        |(sweep, rows, channels, lanes, seed)| Case { sweep, rows, channels, lanes, seed },
    )
}
