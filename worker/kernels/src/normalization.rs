//! Batch normalisation with the activation after it, channel by channel.

use std::mem::MaybeUninit;

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
}

/// Defines a function that uses AVX2 and FMA if the processor has them. The body is compiled twice;
/// its constant `FUSED` says whether [`madd`] may fuse.
macro_rules! with_simd {
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$attribute])*
        fn $name($($argument: $type),*) $(-> $out)? {
            #[inline(always)]
            fn body<const FUSED: bool>($($argument: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn fast($($argument: $type),*) $(-> $out)? {
                    body::<true>($($argument),*)
                }
                if crate::lanes::avx2::available() {
                    // SAFETY: the processor has the features.
                    return unsafe { fast($($argument),*) };
                }
            }
            body::<{ cfg!(target_arch = "aarch64") }>($($argument),*)
        }
    };
}

/// Normalises `values`, `[channels][count]`, in place with the statistics of each channel, and
/// applies scale, shift and activation to a copy.
pub fn normalize(
    values: &mut [f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
    bounds: Bounds,
    threads: &Threads,
) -> Normalized {
    let channels = gamma.len();
    let count = values.len() / channels;
    let mut statistics = vec![[0.0; 3]; channels];
    let parts = threads.cut(values, count).into_iter().zip(threads.cut(&mut statistics, 1));
    let output = threads.build_with(channels, count, parts.collect(), |range, part, output| {
        let (values, statistics) = part;
        let rows = values.chunks_exact_mut(count).zip(statistics);
        for (channel, (row, statistics)) in range.zip(rows) {
            let mean = sum(row) / count as f32;
            let variance = sum_of_squares(row, mean) / count as f32;
            let inverse = 1.0 / (variance + epsilon).sqrt();
            let affine = [gamma[channel], beta[channel]];
            // SAFETY: `scale_row` writes one value for each value of the row.
            unsafe {
                output.raw(count, |output| scale_row(row, output, mean, inverse, affine, bounds));
            }
            *statistics = [mean, variance, inverse];
        }
    });
    let column = |at: usize| statistics.iter().map(|statistics| statistics[at]).collect();
    Normalized { output, mean: column(0), variance: column(1), inverse: column(2) }
}

/// The gradients with respect to scale and shift. Takes the normalised values that [`normalize`]
/// left in place and the gradient with respect to its output, which is overwritten with the
/// gradient with respect to its input.
pub fn denormalize(
    normalized: &[f32],
    gradient: &mut [f32],
    [gamma, beta, inverse]: [&[f32]; 3],
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
            let affine = [gamma[channel], beta[channel]];
            let [product, plain] = mask_row(row, gradient, affine, bounds);
            let scale = gamma[channel] * inverse[channel];
            center_row(row, gradient, scale, plain / count as f32, product / count as f32);
            *sums = [product, plain];
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
            affine_row(row, scale[channel], shift[channel], bounds);
        }
    });
}

/// Number of partial sums in a reduction, so that additions do not wait for each other.
const PARTS: usize = 32;

with_simd! {
    fn sum(row: &[f32]) -> f32 {
        let _ = FUSED;
        let mut parts = [0.0f32; PARTS];
        let (blocks, rest) = row.as_chunks::<PARTS>();
        for block in blocks {
            for (part, value) in parts.iter_mut().zip(block) {
                *part += value;
            }
        }
        parts.iter().sum::<f32>() + rest.iter().sum::<f32>()
    }
}

with_simd! {
    /// `Σ (row - mean)²`
    fn sum_of_squares(row: &[f32], mean: f32) -> f32 {
        let mut parts = [0.0f32; PARTS];
        let (blocks, rest) = row.as_chunks::<PARTS>();
        for block in blocks {
            for (part, value) in parts.iter_mut().zip(block) {
                let centred = value - mean;
                *part = madd::<FUSED>(centred, centred, *part);
            }
        }
        let rest: f32 = rest.iter().map(|v| (v - mean) * (v - mean)).sum();
        parts.iter().sum::<f32>() + rest
    }
}

with_simd! {
    /// Normalises a row in place, applies scale, shift and activation, and writes all of `output`.
    fn scale_row(
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
            output.write(activate::<FUSED>(*value, affine, bounds));
        }
    }
}

with_simd! {
    fn affine_row(row: &mut [f32], scale: f32, shift: f32, bounds: Bounds) {
        for value in row {
            *value = activate::<FUSED>(*value, [scale, shift], bounds);
        }
    }
}

with_simd! {
    /// Sets the gradient to zero where the activation clamped, and returns the sums of its products
    /// with the normalised values and of itself.
    fn mask_row(
        row: &[f32],
        gradient: &mut [f32],
        affine: [f32; 2],
        bounds: Bounds,
    ) -> [f32; 2] {
        let mut products = [0.0f32; PARTS];
        let mut plains = [0.0f32; PARTS];
        let pass = |value: f32, gradient: f32| {
            let output = madd::<FUSED>(value, affine[0], affine[1]);
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
                *product = madd::<FUSED>(*gradient, *value, *product);
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
}

with_simd! {
    /// Subtracts the gradient's mean and its projection on the normalised values, because the
    /// batch's own mean and variance depend on the input too.
    fn center_row(row: &[f32], gradient: &mut [f32], scale: f32, mean: f32, projection: f32) {
        for (value, gradient) in row.iter().zip(gradient) {
            *gradient = scale * madd::<FUSED>(-projection, *value, *gradient - mean);
        }
    }
}

/// Scale, shift and activation of one value.
#[inline(always)]
fn activate<const FUSED: bool>(value: f32, [scale, shift]: [f32; 2], bounds: Bounds) -> f32 {
    let value = madd::<FUSED>(value, scale, shift);
    // This order of comparisons keeps NaN.
    let value = if value < bounds.low { bounds.low } else { value };
    if value > bounds.high { bounds.high } else { value }
}

/// `a * b + c`, with a single rounding where that costs nothing extra.
#[inline(always)]
fn madd<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
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
            let result = normalize(&mut normalized, &gamma, &beta, 1e-5, bounds, &Threads::one());
            let weights = noise(2 * count, seed ^ 3);
            let mut gradient = weights.clone();
            let factors = [&gamma[..], &beta, &result.inverse];
            let (by_gamma, by_beta) =
                denormalize(&normalized, &mut gradient, factors, bounds, &Threads::one());
            let two = Threads::new(2);
            let mut again = values.clone();
            let shared = normalize(&mut again, &gamma, &beta, 1e-5, bounds, &two);
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
