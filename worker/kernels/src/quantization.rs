//! Rounding to the levels of a quantization in training, with the straight-through gradient of the
//! numbers and the gradient of the step between two levels: learned step size quantization (Esser
//! et al. 2020, "Learned Step Size Quantization").

use std::mem::MaybeUninit;

use crate::lanes::{Lanes, dispatch};
use crate::normalization::Bounds;
use crate::threads::Threads;

/// Numbers that one thread computes in a row. It is fixed, so that sums do not depend on the number
/// of threads.
const BLOCK: usize = 4096;

/// Number of partial sums in a reduction, so that additions do not wait for each other.
const PARTS: usize = 32;

/// The levels of a quantization: a scale times a whole number from `low` to `high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// A whole number, at most 0.
    pub low: f32,
    /// A whole number, at least 0.
    pub high: f32,
    /// Which of them a number becomes.
    pub nearest: Nearest,
}

/// Which level a number becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearest {
    /// The nearest one; in the middle between two, the one farther from zero.
    Away,
    /// The nearest one; in the middle between two, the upper one.
    Up,
    /// Its sign, and 0 for 0. The levels are -1, 0 and 1.
    Sign,
}

impl Levels {
    /// The level of a number of scales. NaN stays NaN.
    #[inline(always)]
    fn level(self, position: f32) -> f32 {
        // This order of comparisons keeps NaN.
        let position = if position < self.low { self.low } else { position };
        let position = if position > self.high { self.high } else { position };
        match self.nearest {
            Nearest::Away => position.round(),
            Nearest::Up => (position + 0.5).floor(),
            // The product keeps NaN.
            Nearest::Sign => {
                let above = f32::from(u8::from(position > 0.0));
                above - f32::from(u8::from(position < 0.0)) + 0.0 * position
            }
        }
    }

    /// Whether the gradient passes: the number lies between the outermost levels, or only its sign
    /// counts, which may change wherever the number is.
    #[inline(always)]
    fn passes(self, position: f32) -> bool {
        match self.nearest {
            Nearest::Away | Nearest::Up => (position > self.low) & (position < self.high),
            Nearest::Sign => true,
        }
    }

    /// The slope of the result by the scale. `passes` is 1 if the gradient passes, and 0 if not.
    #[inline(always)]
    fn by_scale(self, position: f32, passes: f32) -> f32 {
        match self.nearest {
            Nearest::Away | Nearest::Up => self.level(position) - passes * position,
            // The sign does not depend on the scale.
            Nearest::Sign => self.level(position),
        }
    }
}

/// Each number rounded to the nearest level. `values` are as many rows of equal length as there are
/// `scales`, each with its own.
///
/// # Panics
/// If the rows do not have equal lengths.
pub fn round_to_levels(
    values: &[f32],
    scales: &[f32],
    levels: Levels,
    threads: &Threads,
) -> Vec<f32> {
    let mut output = vec![0.0; values.len()];
    let blocks = blocks(values, scales).zip(cut(&mut output, scales)).collect();
    share(threads, blocks, |((values, scale), output)| {
        dispatch!(round_block(values: &[f32], output: &mut [f32], scale: f32, levels: Levels));
    });
    output
}

/// The gradients by the scales, which are sums over their rows. Takes what [`round_to_levels`] took
/// and the gradient by its result, which is overwritten with the gradient by its numbers.
///
/// # Panics
/// If the rows do not have equal lengths.
pub fn round_to_levels_backward(
    values: &[f32],
    scales: &[f32],
    gradient: &mut [f32],
    levels: Levels,
    threads: &Threads,
) -> Vec<f32> {
    let of_row = (values.len() / scales.len()).div_ceil(BLOCK);
    let mut sums = vec![0.0f32; of_row * scales.len()];
    let blocks = blocks(values, scales).zip(cut(gradient, scales)).zip(&mut sums).collect();
    share(threads, blocks, |(((values, scale), gradient), sum)| {
        *sum = dispatch!(gradient_block(
            values: &[f32],
            gradient: &mut [f32],
            scale: f32,
            levels: Levels,
        ) -> f32);
    });
    let sum = |sums: &[f32]| sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() as f32;
    sums.chunks(of_row.max(1)).map(sum).collect()
}

/// The end of a layer: what its sums become.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    /// Added to each channel.
    pub bias: &'a [f32],
    /// The activation after it.
    pub bounds: Bounds,
    /// One for all channels.
    pub scale: f32,
    /// What the result is rounded to.
    pub levels: Levels,
}

impl Finish<'_> {
    /// The result for sums `[channels][count]`.
    pub fn forward(&self, sums: &[f32], threads: &Threads) -> Vec<f32> {
        let Self { bias, bounds, scale, levels } = *self;
        let count = sums.len() / bias.len();
        threads.build(bias.len(), count, |range, output| {
            for channel in range {
                let (row, bias) = (&sums[channel * count..][..count], bias[channel]);
                let write = |output: &mut [MaybeUninit<f32>]| {
                    dispatch!(finish_row(
                        row: &[f32],
                        output: &mut [MaybeUninit<f32>],
                        bias: f32,
                        bounds: Bounds,
                        scale: f32,
                        levels: Levels,
                    ));
                };
                // SAFETY: `finish_row` writes one number for each of the row.
                unsafe { output.raw(count, write) };
            }
        })
    }

    /// The gradients by the bias and by the scale. Takes what [`Finish::forward`] took and the
    /// gradient by its result, which is overwritten with the gradient by the sums.
    pub fn backward(
        &self,
        sums: &[f32],
        gradient: &mut [f32],
        threads: &Threads,
    ) -> (Vec<f32>, f32) {
        let Self { bias, bounds, scale, levels } = *self;
        let count = sums.len() / bias.len();
        let mut slopes = vec![[0.0; 2]; bias.len()];
        let parts = threads.cut(gradient, count).into_iter().zip(threads.cut(&mut slopes, 1));
        let parts = threads.ranges(bias.len()).into_iter().zip(parts).collect();
        threads.run(parts, |(range, (gradient, slopes))| {
            let rows = gradient.chunks_exact_mut(count).zip(slopes);
            for (channel, (gradient, slopes)) in range.zip(rows) {
                let (row, bias) = (&sums[channel * count..][..count], bias[channel]);
                *slopes = dispatch!(unfinish_row(
                    row: &[f32],
                    gradient: &mut [f32],
                    bias: f32,
                    bounds: Bounds,
                    scale: f32,
                    levels: Levels,
                ) -> [f32; 2]);
            }
        });
        let by_bias = slopes.iter().map(|slopes| slopes[0]).collect();
        let by_scale = slopes.iter().map(|slopes| f64::from(slopes[1])).sum::<f64>() as f32;
        (by_bias, by_scale)
    }
}

/// The parts of all rows, each with its scale.
fn blocks<'a>(
    values: &'a [f32],
    scales: &'a [f32],
) -> impl Iterator<Item = (&'a [f32], f32)> + use<'a> {
    let rows = values.chunks_exact(row(values, scales)).zip(scales);
    rows.flat_map(|(row, &scale)| row.chunks(BLOCK).map(move |block| (block, scale)))
}

/// The same parts, to write them.
fn cut<'a>(values: &'a mut [f32], scales: &[f32]) -> impl Iterator<Item = &'a mut [f32]> + use<'a> {
    let row = row(values, scales);
    values.chunks_exact_mut(row).flat_map(|row| row.chunks_mut(BLOCK))
}

/// The length of a row, at least 1.
fn row(values: &[f32], scales: &[f32]) -> usize {
    assert!(values.len().is_multiple_of(scales.len()), "rows of equal length");
    (values.len() / scales.len()).max(1)
}

/// Runs a job for each block, on all threads.
fn share<P: Send>(threads: &Threads, blocks: Vec<P>, job: impl Fn(P) + Sync) {
    let ranges = threads.ranges(blocks.len());
    let mut blocks = blocks.into_iter();
    let parts = ranges.into_iter().map(|range| blocks.by_ref().take(range.len()).collect());
    threads.run(parts.collect(), |part: Vec<P>| part.into_iter().for_each(&job));
}

#[inline(always)]
fn round_block<L: Lanes>(_: L, values: &[f32], output: &mut [f32], scale: f32, levels: Levels) {
    for (value, output) in values.iter().zip(output) {
        *output = levels.level(value / scale) * scale;
    }
}

/// Sets the gradient to zero where the number lies outside of the levels, and returns the gradient
/// by the scale.
#[inline(always)]
fn gradient_block<L: Lanes>(
    _: L,
    values: &[f32],
    gradient: &mut [f32],
    scale: f32,
    levels: Levels,
) -> f32 {
    let mut sums = [0.0f32; PARTS];
    let each = |value: f32, gradient: &mut f32, sum: &mut f32| {
        let position = value / scale;
        // Products, because a choice becomes a masked store, which takes 20 cycles on some
        // processors.
        let passes = f32::from(u8::from(levels.passes(position)));
        *sum += *gradient * levels.by_scale(position, passes);
        *gradient *= passes;
    };
    let (blocks, rest) = values.as_chunks::<PARTS>();
    let (of_blocks, of_rest) = gradient.as_chunks_mut::<PARTS>();
    for (values, gradient) in blocks.iter().zip(of_blocks) {
        for ((value, gradient), sum) in values.iter().zip(gradient).zip(&mut sums) {
            each(*value, gradient, sum);
        }
    }
    for ((value, gradient), sum) in rest.iter().zip(of_rest).zip(&mut sums) {
        each(*value, gradient, sum);
    }
    sums.iter().sum()
}

/// This order of comparisons keeps NaN.
#[inline(always)]
fn clamp(value: f32, bounds: Bounds) -> f32 {
    let value = if value < bounds.low { bounds.low } else { value };
    if value > bounds.high { bounds.high } else { value }
}

#[inline(always)]
fn finish_row<L: Lanes>(
    _: L,
    row: &[f32],
    output: &mut [MaybeUninit<f32>],
    bias: f32,
    bounds: Bounds,
    scale: f32,
    levels: Levels,
) {
    assert_eq!(row.len(), output.len(), "one output per value");
    for (value, output) in row.iter().zip(output) {
        output.write(levels.level(clamp(value + bias, bounds) / scale) * scale);
    }
}

/// Sets the gradient to zero where the activation or the levels clamp, and returns the gradients by
/// the bias and by the scale.
#[inline(always)]
fn unfinish_row<L: Lanes>(
    _: L,
    row: &[f32],
    gradient: &mut [f32],
    bias: f32,
    bounds: Bounds,
    scale: f32,
    levels: Levels,
) -> [f32; 2] {
    let (mut by_bias, mut by_scale) = ([0.0f32; PARTS], [0.0f32; PARTS]);
    let each = |value: f32, gradient: &mut f32, by_bias: &mut f32, by_scale: &mut f32| {
        let value = value + bias;
        let position = clamp(value, bounds) / scale;
        // Products, because a choice becomes a masked store, which takes 20 cycles on some
        // processors.
        let between = f32::from(u8::from(levels.passes(position)));
        let passes = f32::from(u8::from((value > bounds.low) & (value < bounds.high)));
        *by_scale += *gradient * levels.by_scale(position, between);
        *gradient *= between * passes;
        *by_bias += *gradient;
    };
    let (blocks, rest) = row.as_chunks::<PARTS>();
    let (of_blocks, of_rest) = gradient.as_chunks_mut::<PARTS>();
    for (values, gradient) in blocks.iter().zip(of_blocks) {
        let sums = by_bias.iter_mut().zip(&mut by_scale);
        for ((value, gradient), (by_bias, by_scale)) in values.iter().zip(gradient).zip(sums) {
            each(*value, gradient, by_bias, by_scale);
        }
    }
    let sums = by_bias.iter_mut().zip(&mut by_scale);
    for ((value, gradient), (by_bias, by_scale)) in rest.iter().zip(of_rest).zip(sums) {
        each(*value, gradient, by_bias, by_scale);
    }
    [by_bias, by_scale].map(|sums| sums.iter().sum())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::Portable;
    use crate::testing::noise;

    const BYTES: Levels = Levels { low: -100.0, high: 155.0, nearest: Nearest::Up };
    const FEW: Levels = Levels { low: -3.0, high: 3.0, nearest: Nearest::Away };
    const SIGNS: Levels = Levels { low: -1.0, high: 1.0, nearest: Nearest::Sign };

    /// Result, and gradients by number and by scale, from the formulas in f64.
    fn plain(value: f64, scale: f64, levels: Levels) -> [f64; 3] {
        let (low, high) = (f64::from(levels.low), f64::from(levels.high));
        let position = value / scale;
        let nearest = match levels.nearest {
            Nearest::Away => position.abs().round() * position.signum(),
            Nearest::Up => (position + 0.5).floor(),
            Nearest::Sign if value == 0.0 => return [0.0, 1.0, 0.0],
            Nearest::Sign => return [value.signum() * scale, 1.0, value.signum()],
        };
        if position <= low {
            [low * scale, 0.0, low]
        } else if position >= high {
            [high * scale, 0.0, high]
        } else {
            [nearest * scale, 1.0, nearest - position]
        }
    }

    proptest! {
        #[test]
        fn result_and_gradients_equal_the_formulas(
            row in 1usize..9000,
            rows in 1usize..4,
            seed: u8,
            levels in prop_oneof![Just(BYTES), Just(FEW), Just(SIGNS)],
        ) {
            let values: Vec<f32> = noise(rows * row, seed).iter().map(|v| 5.0 * v).collect();
            let scales = &[0.9, 0.021, 0.4][..rows];
            let weights = noise(rows * row, seed ^ 1);
            let one = Threads::one();
            let output = round_to_levels(&values, scales, levels, &one);
            let mut gradient = weights.clone();
            let by_scale =
                round_to_levels_backward(&values, scales, &mut gradient, levels, &one);
            for (at, &scale) in scales.iter().enumerate() {
                let (mut sum, mut size, mut unclear) = (0.0, 1.0, 0.0);
                for i in at * row..(at + 1) * row {
                    let [value, scale, weight] = [values[i], scale, weights[i]].map(f64::from);
                    let [result, pass, slope] = plain(value, scale, levels);
                    let position = value / scale;
                    // Rounding to f32 may decide what is in the middle.
                    let middle = (position - position.floor() - 0.5).abs() < 1e-4;
                    let edge = [levels.low, levels.high]
                        .iter()
                        .any(|bound| (position - f64::from(*bound)).abs() < 1e-4);
                    sum += weight * slope;
                    size += (weight * slope).abs();
                    if middle || edge {
                        unclear += 2.0 * weight.abs();
                        continue;
                    }
                    prop_assert!((f64::from(output[i]) - result).abs() < 1e-5);
                    prop_assert_eq!(f64::from(gradient[i]), weight * pass);
                }
                let error = (f64::from(by_scale[at]) - sum).abs();
                prop_assert!(error < 1e-4 * size + unclear, "{} of {}", error, size);
            }
            let three = Threads::new(3);
            prop_assert_eq!(round_to_levels(&values, scales, levels, &three), output);
            let mut shared = weights.clone();
            let sums = round_to_levels_backward(&values, scales, &mut shared, levels, &three);
            prop_assert_eq!((sums, shared), (by_scale, gradient));
        }

        #[test]
        fn results_without_the_processors_vectors_are_the_same(count in 1usize..150, seed: u8) {
            let (values, weights) = (&noise(count, seed)[..], noise(count, seed ^ 1));
            let (scale, levels) = (0.011, BYTES);
            let run = |portable: bool| {
                let (mut output, mut slopes) = (vec![0.0; count], weights.clone());
                let (to, gradient) = (&mut output[..], &mut slopes[..]);
                let sum = if portable {
                    round_block(Portable, values, to, scale, levels);
                    gradient_block(Portable, values, gradient, scale, levels)
                } else {
                    dispatch!(round_block(
                        values: &[f32], to: &mut [f32], scale: f32, levels: Levels,
                    ));
                    dispatch!(gradient_block(
                        values: &[f32], gradient: &mut [f32], scale: f32, levels: Levels,
                    ) -> f32)
                };
                (output, slopes, sum)
            };
            prop_assert_eq!(run(true), run(false));
        }
    }

    proptest! {
        #[test]
        fn the_end_of_a_layer_is_its_steps_one_after_another(count in 1usize..100, seed: u8) {
            let sums: Vec<f32> = noise(3 * count, seed).iter().map(|v| 5.0 * v).collect();
            let weights = noise(3 * count, seed ^ 1);
            let bias = [0.5, -0.3, 0.0];
            let bounds = Bounds { low: 0.0, high: 2.5 };
            let levels = Levels { low: -10.0, high: 30.0, nearest: Nearest::Up };
            let finish = Finish { bias: &bias, bounds, scale: 0.11, levels };
            let one = Threads::one();
            let output = finish.forward(&sums, &one);
            let mut gradient = weights.clone();
            let (by_bias, by_scale) = finish.backward(&sums, &mut gradient, &one);

            let biased = sums.iter().enumerate().map(|(at, sum)| sum + bias[at / count]);
            let biased: Vec<f32> = biased.collect();
            let active: Vec<f32> = biased.iter().map(|&v| clamp(v, bounds)).collect();
            prop_assert_eq!(&output, &round_to_levels(&active, &[0.11], levels, &one));
            let mut steps = weights.clone();
            let by_scales = round_to_levels_backward(&active, &[0.11], &mut steps, levels, &one);
            for (slope, value) in steps.iter_mut().zip(&biased) {
                *slope *= f32::from(u8::from(*value > bounds.low && *value < bounds.high));
            }
            prop_assert_eq!(&gradient, &steps);
            prop_assert!((by_scale - by_scales[0]).abs() < 1e-3 * by_scale.abs().max(1.0));
            for (by_bias, steps) in by_bias.iter().zip(steps.chunks_exact(count)) {
                prop_assert!((by_bias - steps.iter().sum::<f32>()).abs() < 1e-4);
            }

            let three = Threads::new(3);
            prop_assert_eq!(finish.forward(&sums, &three), output);
            let mut shared = weights.clone();
            let slopes = finish.backward(&sums, &mut shared, &three);
            prop_assert_eq!((slopes, shared), ((by_bias, by_scale), gradient));
        }
    }

    #[test]
    fn halves_round_as_said_and_everything_else_to_the_nearest_level() {
        let values = [-9.0, -1.5, -1.25, -0.5, 0.0, 0.49, 0.5, 1.5, 2.75, 9.0];
        let rounded = |nearest| {
            let levels = Levels { low: -3.0, high: 3.0, nearest };
            round_to_levels(&values.map(|v| v * 0.5), &[0.5], levels, &Threads::one())
        };
        let away = [-3.0, -2.0, -1.0, -1.0, 0.0, 0.0, 1.0, 2.0, 3.0, 3.0];
        let up = [-3.0, -1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 3.0];
        assert_eq!(rounded(Nearest::Away), away.map(|v| v * 0.5));
        assert_eq!(rounded(Nearest::Up), up.map(|v| v * 0.5));
    }

    #[test]
    fn signs_keep_zero_and_pass_all_of_the_gradient() {
        let values = [-9.0, -0.001, 0.0, 0.2, 40.0];
        let signs = round_to_levels(&values, &[0.5], SIGNS, &Threads::one());
        assert_eq!(signs, [-0.5, -0.5, 0.0, 0.5, 0.5]);
        let mut gradient = [1.0, 2.0, 3.0, 4.0, 5.0];
        let one = Threads::one();
        assert_eq!(round_to_levels_backward(&values, &[0.5], &mut gradient, SIGNS, &one), [6.0]);
        assert_eq!(gradient, [1.0, 2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn nan_values_are_kept() {
        for levels in [BYTES, FEW, SIGNS] {
            assert!(round_to_levels(&[f32::NAN], &[0.5], levels, &Threads::one())[0].is_nan());
        }
    }
}
