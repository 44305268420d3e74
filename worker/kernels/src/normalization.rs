//! Batch normalisation with the activation after it, channel by channel.

use std::mem::MaybeUninit;

use crate::lanes::{Lanes, dispatch};
use crate::threads::Threads;

/// The range that the activation clamps to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Lowest output; minus infinity for a linear layer.
    pub low: f32,
    /// Highest output.
    pub high: f32,
}

/// The result of normalisation with the batch's own statistics.
#[derive(Debug)]
pub struct Normalized {
    /// The values after scale, shift and activation.
    pub output: Vec<f32>,
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Biased variance of each channel.
    pub variance: Vec<f32>,
    /// `1 / sqrt(variance + epsilon)`
    pub inverse: Vec<f32>,
    /// The shift of each channel: the given one, or the one in whole steps.
    pub shift: Vec<f32>,
}

/// Normalises `values`, `[channels][count]`, in place with the statistics of each channel, and
/// applies scale, shift and activation to a copy. If the values of a channel are whole multiples of
/// a step, as sums of integers are, what normalisation adds to them is rounded to whole steps, too:
/// a layer of integers that the normalisation is folded into can add nothing else.
pub fn normalize(
    values: &mut [f32],
    [gamma, beta]: [&[f32]; 2],
    steps: Option<&[f32]>,
    epsilon: f32,
    bounds: Bounds,
    threads: &Threads,
) -> Normalized {
    let channels = gamma.len();
    let count = values.len() / channels;
    let mut statistics = vec![[0.0; 4]; channels];
    let parts = threads.cut(values, count).into_iter().zip(threads.cut(&mut statistics, 1));
    let output = threads.build_with(channels, count, parts.collect(), |range, part, output| {
        let (values, statistics) = part;
        let rows = values.chunks_exact_mut(count).zip(statistics);
        for (channel, (row, statistics)) in range.zip(rows) {
            let mean = dispatch!(sum(row: &[f32]) -> f32) / count as f32;
            let squares = dispatch!(sum_of_squares(row: &[f32], mean: f32) -> f32);
            let variance = squares / count as f32;
            let inverse = 1.0 / (variance + epsilon).sqrt();
            let (gain, beta) = (gamma[channel] * inverse, beta[channel]);
            let shift = match steps {
                Some(steps) => in_steps(beta, mean, gain, steps[channel]),
                None => beta,
            };
            let affine = [gamma[channel], shift];
            let scale = |output: &mut [MaybeUninit<f32>]| {
                dispatch!(scale_row(
                    row: &mut [f32],
                    output: &mut [MaybeUninit<f32>],
                    mean: f32,
                    inverse: f32,
                    affine: [f32; 2],
                    bounds: Bounds,
                ));
            };
            // SAFETY: `scale_row` writes one value for each value of the row.
            unsafe { output.raw(count, scale) };
            *statistics = [mean, variance, inverse, shift];
        }
    });
    let column = |at: usize| statistics.iter().map(|statistics| statistics[at]).collect();
    let [mean, variance, inverse, shift] = [0, 1, 2, 3].map(column);
    Normalized { output, mean, variance, inverse, shift }
}

/// The shift nearest to the given one with which `gain * (value - mean) + shift` adds a whole
/// number of steps to the value. It is the given one where the gain is 0.
fn in_steps(shift: f32, mean: f32, gain: f32, step: f32) -> f32 {
    let (added, step) = (shift - mean * gain, step * gain.abs());
    if step >= f32::MIN_POSITIVE { shift + ((added / step).round() * step - added) } else { shift }
}

/// The gradients with respect to scale and shift. Takes the normalised values that [`normalize`]
/// left in place, the scale, the shift and the inverse of each channel, and the gradient with
/// respect to its output, which is overwritten with the gradient with respect to its input. It goes
/// straight through the rounding to steps; the shift is that in steps.
pub fn denormalize(
    normalized: &[f32],
    gradient: &mut [f32],
    [gamma, shift, inverse]: [&[f32]; 3],
    bounds: Bounds,
    threads: &Threads,
) -> (Vec<f32>, Vec<f32>) {
    let channels = gamma.len();
    let count = gradient.len() / channels;
    let mut sums = vec![[0.0; 2]; channels];
    let parts = threads.cut(gradient, count).into_iter().zip(threads.cut(&mut sums, 1));
    let parts = threads.ranges(channels).into_iter().zip(parts).collect();
    threads.run(parts, |(range, (gradient, sums))| {
        let rows = gradient.chunks_exact_mut(count).zip(sums);
        for (channel, (gradient, sums)) in range.zip(rows) {
            let row = &normalized[channel * count..][..count];
            let affine = [gamma[channel], shift[channel]];
            let sides = dispatch!(mask_row(
                row: &[f32],
                gradient: &mut [f32],
                affine: [f32; 2],
                bounds: Bounds,
            ) -> [f32; 2]);
            let scale = gamma[channel] * inverse[channel];
            let [projection, mean] = sides.map(|sum| sum / count as f32);
            dispatch!(center_row(
                row: &[f32],
                gradient: &mut [f32],
                scale: f32,
                mean: f32,
                projection: f32,
            ));
            *sums = sides;
        }
    });
    (sums.iter().map(|sums| sums[0]).collect(), sums.iter().map(|sums| sums[1]).collect())
}

/// `values = clamp(values * scale + shift)` in place, for evaluation; `[channels][count]`.
pub fn affine(values: &mut [f32], scale: &[f32], shift: &[f32], bounds: Bounds, threads: &Threads) {
    let count = values.len() / scale.len();
    let parts = threads.ranges(scale.len()).into_iter().zip(threads.cut(values, count)).collect();
    threads.run(parts, |(range, values)| {
        for (channel, row) in range.zip(values.chunks_exact_mut(count)) {
            let (scale, shift) = (scale[channel], shift[channel]);
            dispatch!(affine_row(row: &mut [f32], scale: f32, shift: f32, bounds: Bounds));
        }
    });
}

/// Number of partial sums in a reduction, so that additions do not wait for each other.
const PARTS: usize = 32;

#[inline(always)]
fn sum<L: Lanes>(_: L, row: &[f32]) -> f32 {
    let mut parts = [0.0f32; PARTS];
    let (blocks, rest) = row.as_chunks::<PARTS>();
    for block in blocks {
        for (part, value) in parts.iter_mut().zip(block) {
            *part += value;
        }
    }
    parts.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// `Σ (row - mean)²`
#[inline(always)]
fn sum_of_squares<L: Lanes>(token: L, row: &[f32], mean: f32) -> f32 {
    let mut parts = [0.0f32; PARTS];
    let (blocks, rest) = row.as_chunks::<PARTS>();
    for block in blocks {
        for (part, value) in parts.iter_mut().zip(block) {
            let centred = value - mean;
            *part = token.mul_add_single(centred, centred, *part);
        }
    }
    let rest: f32 = rest.iter().map(|v| (v - mean) * (v - mean)).sum();
    parts.iter().sum::<f32>() + rest
}

/// Normalises a row in place, applies scale, shift and activation, and writes all of `output`.
#[inline(always)]
fn scale_row<L: Lanes>(
    token: L,
    row: &mut [f32],
    output: &mut [MaybeUninit<f32>],
    mean: f32,
    inverse: f32,
    affine: [f32; 2],
    bounds: Bounds,
) {
    assert_eq!(row.len(), output.len(), "one output per value");
    for (value, output) in row.iter_mut().zip(output) {
        *value = (*value - mean) * inverse;
        output.write(activate(token, *value, affine, bounds));
    }
}

#[inline(always)]
fn affine_row<L: Lanes>(token: L, row: &mut [f32], scale: f32, shift: f32, bounds: Bounds) {
    for value in row {
        *value = activate(token, *value, [scale, shift], bounds);
    }
}

/// Sets the gradient to zero where the activation clamped, and returns the sums of its products
/// with the normalised values and of itself.
#[inline(always)]
fn mask_row<L: Lanes>(
    token: L,
    row: &[f32],
    gradient: &mut [f32],
    [scale, shift]: [f32; 2],
    bounds: Bounds,
) -> [f32; 2] {
    let mut products = [0.0f32; PARTS];
    let mut plains = [0.0f32; PARTS];
    let pass = |value: f32, gradient: f32| {
        let output = token.mul_add_single(value, scale, shift);
        let passes = (output > bounds.low) & (output < bounds.high);
        // A product, because a choice becomes a masked store, which takes 20 cycles on some
        // processors.
        gradient * f32::from(u8::from(passes))
    };
    let (row_blocks, row_rest) = row.as_chunks::<PARTS>();
    let (gradient_blocks, gradient_rest) = gradient.as_chunks_mut::<PARTS>();
    for (row, gradient) in row_blocks.iter().zip(gradient_blocks) {
        let sums = products.iter_mut().zip(&mut plains);
        for ((value, gradient), (product, plain)) in row.iter().zip(gradient).zip(sums) {
            *gradient = pass(*value, *gradient);
            *product = token.mul_add_single(*gradient, *value, *product);
            *plain += *gradient;
        }
    }
    let (mut product, mut plain) = (products.iter().sum::<f32>(), plains.iter().sum::<f32>());
    for (value, gradient) in row_rest.iter().zip(gradient_rest) {
        *gradient = pass(*value, *gradient);
        product += *gradient * value;
        plain += *gradient;
    }
    [product, plain]
}

/// Subtracts the gradient's mean and its projection on the normalised values, because the batch's
/// own mean and variance depend on the input too.
#[inline(always)]
fn center_row<L: Lanes>(
    token: L,
    row: &[f32],
    gradient: &mut [f32],
    scale: f32,
    mean: f32,
    projection: f32,
) {
    for (value, gradient) in row.iter().zip(gradient) {
        *gradient = scale * token.mul_add_single(-projection, *value, *gradient - mean);
    }
}

/// Scale, shift and activation of one value.
#[inline(always)]
fn activate<L: Lanes>(token: L, value: f32, [scale, shift]: [f32; 2], bounds: Bounds) -> f32 {
    let value = token.mul_add_single(value, scale, shift);
    // This order of comparisons keeps NaN.
    let value = if value < bounds.low { bounds.low } else { value };
    if value > bounds.high { bounds.high } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::Portable;
    use crate::testing::noise;

    /// Output, mean and variance in f64, computed from the definition.
    fn plain(values: &[f64], gamma: f64, beta: f64, bounds: Bounds) -> (Vec<f64>, f64, f64) {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        let scale = gamma / (variance + 1e-5).sqrt();
        let clamp = |v: f64| v.clamp(f64::from(bounds.low), f64::from(bounds.high));
        (values.iter().map(|v| clamp((v - mean) * scale + beta)).collect(), mean, variance)
    }

    proptest! {
        #[test]
        fn forward_and_backward_equal_the_definition(
            count in 2usize..150,
            seed in 0u8..255,
            bounds in prop::sample::select(vec![
                Bounds { low: f32::NEG_INFINITY, high: f32::INFINITY },
                Bounds { low: 0.0, high: f32::INFINITY },
                Bounds { low: 0.0, high: 0.7 },
            ]),
        ) {
            let values = noise(2 * count, seed);
            let (gamma, beta) = ([1.3f32, -0.6], [0.2f32, 0.4]);
            let mut normalized = values.clone();
            let (affine, one) = ([&gamma[..], &beta], Threads::one());
            let result = normalize(&mut normalized, affine, None, 1e-5, bounds, &one);
            let weights = noise(2 * count, seed ^ 3);
            let mut gradient = weights.clone();
            let factors = [&gamma[..], &beta, &result.inverse];
            let (by_gamma, by_beta) =
                denormalize(&normalized, &mut gradient, factors, bounds, &Threads::one());
            let two = Threads::new(2);
            let mut again = values.clone();
            let shared = normalize(&mut again, [&gamma, &beta], None, 1e-5, bounds, &two);
            prop_assert_eq!((&shared.output, &again), (&result.output, &normalized));
            let mut by_input = weights.clone();
            let sums = denormalize(&normalized, &mut by_input, factors, bounds, &two);
            prop_assert_eq!((&sums.0, &sums.1, &by_input), (&by_gamma, &by_beta, &gradient));
            for channel in 0..2 {
                let own = channel * count..(channel + 1) * count;
                let wide: Vec<f64> = values[own.clone()].iter().map(|v| f64::from(*v)).collect();
                let loss = |values: &[f64], gamma: f64, beta: f64| -> f64 {
                    let (output, _, _) = plain(values, gamma, beta, bounds);
                    let weights = &weights[own.clone()];
                    output.iter().zip(weights).map(|(o, w)| o * f64::from(*w)).sum()
                };
                let (g, b) = (f64::from(gamma[channel]), f64::from(beta[channel]));
                let (output, mean, variance) = plain(&wide, g, b, bounds);
                prop_assert!((f64::from(result.mean[channel]) - mean).abs() < 1e-5);
                prop_assert!((f64::from(result.variance[channel]) - variance).abs() < 1e-5);
                for (got, expected) in result.output[own.clone()].iter().zip(&output) {
                    prop_assert!((f64::from(*got) - expected).abs() < 1e-4);
                }
                // Compares with numerical slopes, unless a value is so close to a kink of the
                // clamp that the step, or the rounding to f32, crosses it.
                let no_bounds = Bounds { low: f32::NEG_INFINITY, high: f32::INFINITY };
                let (free, _, _) = plain(&wide, g, b, no_bounds);
                let at_a_kink = free.iter().any(|v| {
                    [bounds.low, bounds.high].iter().any(|b| (v - f64::from(*b)).abs() < 1e-4)
                });
                if at_a_kink || variance < 1e-3 {
                    continue;
                }
                let h = 1e-6;
                for i in 0..count.min(5) {
                    let (mut up, mut down) = (wide.clone(), wide.clone());
                    up[i] += h;
                    down[i] -= h;
                    let slope = (loss(&up, g, b) - loss(&down, g, b)) / (2.0 * h);
                    let got = f64::from(gradient[own.start + i]);
                    prop_assert!((slope - got).abs() < 1e-3 * (1.0 + slope.abs()), "{slope} {got}");
                }
                let slope = (loss(&wide, g + h, b) - loss(&wide, g - h, b)) / (2.0 * h);
                prop_assert!((slope - f64::from(by_gamma[channel])).abs() < 2e-3 * (1.0 + slope.abs()));
                let slope = (loss(&wide, g, b + h) - loss(&wide, g, b - h)) / (2.0 * h);
                prop_assert!((slope - f64::from(by_beta[channel])).abs() < 2e-3 * (1.0 + slope.abs()));
            }
        }
    }

    const AFFINE: [f32; 2] = [1.3, 0.2];
    const BOUNDS: Bounds = Bounds { low: -0.4, high: 0.7 };

    /// The results of all functions that take a token.
    #[inline(always)]
    fn everything<L: Lanes>(token: L, row: &[f32], weights: &[f32]) -> Vec<f32> {
        let squares = sum_of_squares(token, row, 0.1);
        let mut normalized = row.to_vec();
        let mut output = vec![MaybeUninit::new(f32::NAN); row.len()];
        scale_row(token, &mut normalized, &mut output, 0.1, 1.7, AFFINE, BOUNDS);
        // SAFETY: all values were set to NaN above.
        let output: Vec<f32> = output.iter().map(|v| unsafe { v.assume_init() }).collect();
        let mut evaluated = row.to_vec();
        affine_row(token, &mut evaluated, AFFINE[0], AFFINE[1], BOUNDS);
        let mut masked = weights.to_vec();
        let sums = mask_row(token, row, &mut masked, AFFINE, BOUNDS);
        let mut centered = masked.clone();
        center_row(token, row, &mut centered, 0.8, -0.3, 0.6);
        let sums = [sum(token, row), squares, sums[0], sums[1]];
        [&sums[..], &normalized, &output, &evaluated, &masked, &centered].concat()
    }

    proptest! {
        #[test]
        fn results_without_the_processors_vectors_differ_by_rounding_only(
            count in 1usize..150,
            seed in 0u8..255,
        ) {
            let (row, weights) = (&noise(count, seed)[..], &noise(count, seed ^ 1)[..]);
            // Rounding may decide whether the gradient passes a value at a bound.
            prop_assume!(row.iter().all(|v| {
                let output = v * AFFINE[0] + AFFINE[1];
                (output - BOUNDS.low).abs() > 1e-5 && (output - BOUNDS.high).abs() > 1e-5
            }));
            let portable = everything(Portable, row, weights);
            let with = dispatch!(everything(row: &[f32], weights: &[f32]) -> Vec<f32>);
            prop_assert_eq!(with.len(), portable.len());
            for (a, b) in with.iter().zip(&portable) {
                prop_assert!((a - b).abs() < 1e-4, "{} {}", a, b);
            }
        }
    }

    proptest! {
        /// The values are whole steps, and so is what folding would make the bias of their layer.
        #[test]
        fn sums_of_integers_get_whole_steps_added(
            count in 2usize..50,
            seed in 0u8..255,
            steps in prop::array::uniform2(0.01f32..0.5),
        ) {
            let rows = noise(2 * count, seed);
            let sums = rows.iter().enumerate().map(|(i, v)| {
                let step = steps[i / count];
                (v / step).round() * step
            });
            let sums: Vec<f32> = sums.collect();
            let (gamma, beta) = ([1.3f32, -0.6], [0.2f32, 0.4]);
            let bounds = Bounds { low: f32::NEG_INFINITY, high: f32::INFINITY };
            let run = |steps: Option<&[f32]>| {
                let one = Threads::one();
                normalize(&mut sums.clone(), [&gamma, &beta], steps, 1e-5, bounds, &one)
            };
            let (free, stepped) = (run(None), run(Some(&steps)));
            prop_assert_eq!((&free.inverse, &free.shift[..]), (&stepped.inverse, &beta[..]));
            for (at, (free, output)) in free.output.iter().zip(&stepped.output).enumerate() {
                let channel = at / count;
                let gain = gamma[channel] * stepped.inverse[channel];
                let step = gain.abs() * steps[channel];
                let whole = (output - gain * sums[at]) / step;
                prop_assert!((whole - whole.round()).abs() < 0.01, "{whole} steps");
                prop_assert!((output - free).abs() <= 0.51 * step, "{output} {free} {step}");
                let moved = stepped.shift[channel] - beta[channel];
                prop_assert!((free + moved - output).abs() < 1e-5, "{output} {free} {moved}");
            }
        }
    }

    #[test]
    fn evaluation_scales_shifts_and_clamps() {
        let mut values = [1.0, -2.0, 0.5, 9.0];
        let bounds = Bounds { low: 0.0, high: 6.0 };
        affine(&mut values, &[2.0, 1.0], &[0.5, -1.0], bounds, &Threads::one());
        assert_eq!(values, [2.5, 0.0, 0.0, 6.0]);
    }

    #[test]
    fn nan_values_are_kept() {
        let mut values = [f32::NAN];
        let bounds = Bounds { low: 0.0, high: 6.0 };
        affine(&mut values, &[1.0], &[0.0], bounds, &Threads::one());
        assert!(values[0].is_nan());
    }
}
