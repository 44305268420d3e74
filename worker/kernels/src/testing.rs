//! What tests of several modules share.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Values in `-1.0..1.0`.
pub(crate) fn noise(count: usize, seed: u8) -> Vec<f32> {
    let mut rng = ChaCha8Rng::from_seed([seed; 32]);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Whether sums of such values agree.
pub(crate) fn close(got: &[f32], expected: &[f64]) -> bool {
    let near = |(got, expected): (&f32, &f64)| (f64::from(*got) - expected).abs() < 1e-3;
    got.len() == expected.len() && got.iter().zip(expected).all(near)
}
