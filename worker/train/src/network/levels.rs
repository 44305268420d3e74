//! Rounding to the levels of a quantization, on any device. The gradient goes straight through it,
//! and the scale, which is the step between two levels, has the gradient of learned step size
//! quantization (Esser et al. 2020).

use burn::tensor::Tensor;
use edgesmith_kernels::{Levels, Nearest, Threads};

use super::flex;

/// What the gradient by the scale of so many numbers is multiplied with, so that the scale learns
/// about as fast as the numbers do, for its size (section 2.2 of the paper). `largest` is the
/// highest of the whole numbers that are its levels.
pub(super) fn factor(numbers: u64, largest: f32) -> f32 {
    (1.0 / (numbers as f64 * f64::from(largest)).sqrt()) as f32
}

/// Each number rounded to the nearest level. The first axis has as many entries as there are
/// scales, each with its own; a single scale is for all. The gradient by the scales is multiplied
/// with `factor`.
pub(super) fn round(
    levels: Levels,
    factor: f32,
    threads: &Threads,
    value: Tensor<4>,
    scales: Tensor<1>,
) -> Tensor<4> {
    if flex::runs_on(&value.device()) {
        flex::round(levels, factor, threads, value, scales)
    } else {
        round_with_burn(levels, factor, value, scales)
    }
}

/// [`round`] through burn's operations.
fn round_with_burn(levels: Levels, factor: f32, value: Tensor<4>, scales: Tensor<1>) -> Tensor<4> {
    let scales: Tensor<4> = scales.reshape([-1, 1, 1, 1]);
    // The same scale with another gradient.
    let rest = constant(scales.clone(), |scales| scales.mul_scalar(1.0 - factor));
    let scales = scales.mul_scalar(factor) + rest;
    let nearest = |position: Tensor<4>| match levels.nearest {
        Nearest::Up => position.add_scalar(0.5).floor(),
        Nearest::Away => {
            let sign = position.clone().sign();
            position.abs().add_scalar(0.5).floor() * sign
        }
        Nearest::Sign => position.sign(),
    };
    if levels.nearest == Nearest::Sign {
        // It does not depend on the scale, and all of the gradient passes.
        let signs = constant(value.clone(), nearest);
        return value.clone() - constant(value, |value| value) + signs * scales;
    }
    let position = (value / scales.clone()).clamp(levels.low, levels.high);
    let moved = constant(position.clone(), |position| nearest(position.clone()) - position);
    (position + moved) * scales
}

/// A bias rounded to whole steps between sums. The gradient goes straight through. `steps` are on a
/// device without autodiff.
pub(super) fn round_bias(bias: Tensor<1>, steps: Tensor<1>) -> Tensor<1> {
    // The engine rounds halves away from zero here. They are rare.
    let rounded = |bias: Tensor<1>| (bias / steps.clone()).round() * steps;
    let moved = constant(bias.clone(), |bias| rounded(bias.clone()) - bias);
    bias + moved
}

/// What a normalisation with such a gain adds to sums in steps, rounded to the steps that they have
/// after it. It stays as it is where the gain is 0. No tensor has a gradient.
pub(super) fn in_whole_steps(added: Tensor<1>, gain: Tensor<1>, steps: Tensor<1>) -> Tensor<1> {
    let steps = gain.abs() * steps;
    let none = steps.clone().lower_elem(f32::MIN_POSITIVE);
    let rounded = (added.clone() / steps.clone().clamp_min(f32::MIN_POSITIVE)).round() * steps;
    rounded.mask_where(none, added)
}

/// A tensor without its gradient.
pub(super) fn untracked<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.device().is_autodiff() { tensor.inner() } else { tensor }
}

/// What a function makes of a tensor, without a gradient.
fn constant<const D: usize>(
    tensor: Tensor<D>,
    f: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let tracked = tensor.device().is_autodiff();
    let made = f(untracked(tensor));
    if tracked { Tensor::from_inner(made) } else { made }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use edgesmith_testing::noise;

    use super::*;

    /// The output, and the gradients by the numbers and the scales of a weighted sum of it.
    fn run(
        round: impl Fn(Tensor<4>, Tensor<1>) -> Tensor<4>,
        shape: [usize; 4],
        scales: &[f32],
    ) -> [Vec<f32>; 3] {
        let device = Device::flex().autodiff();
        let count = shape.iter().product();
        let of = |numbers: Vec<f32>| -> Tensor<4> {
            Tensor::from_data(TensorData::new(numbers, shape), &device)
        };
        let value = of(noise(count, 1)).require_grad();
        let scales = TensorData::new(scales.to_vec(), [scales.len()]);
        let scales = Tensor::<1>::from_data(scales, &device).require_grad();
        let output = round(value.clone(), scales.clone());
        let mut gradients = (output.clone() * of(noise(count, 2))).sum().backward();
        let by_value = value.grad_remove(&mut gradients).unwrap();
        let by_scales = scales.grad_remove(&mut gradients).unwrap();
        let read = |data: TensorData| data.try_into_vec::<f32>().unwrap();
        [read(output.inner().into_data()), read(by_value.into_data()), read(by_scales.into_data())]
    }

    /// Section 2.2 of the paper: one over the root of how many numbers there are times the highest
    /// level.
    #[test]
    fn the_factor_is_that_of_the_paper() {
        assert_eq!(factor(25, 4.0), 0.1);
        assert_eq!(factor(4, 1.0), 0.5);
        assert!((factor(100, 127.0) - 0.008_873_565).abs() < 1e-8, "{}", factor(100, 127.0));
        assert!((factor(1000, 255.0) - 0.001_980_295).abs() < 1e-8, "{}", factor(1000, 255.0));
    }

    /// The kernel is compared with the formulas in f64 beside it.
    #[test]
    fn burns_operations_and_the_kernel_agree() {
        let signed = Levels { low: -3.0, high: 3.0, nearest: Nearest::Away };
        let bytes = Levels { low: -100.0, high: 155.0, nearest: Nearest::Up };
        let signs = Levels { low: -1.0, high: 1.0, nearest: Nearest::Sign };
        for (levels, shape, scales) in [
            (signs, [3, 4, 5, 2], &[0.3, 0.21, 0.1][..]),
            (signed, [3, 4, 5, 2], &[0.3, 0.21, 0.1][..]),
            (bytes, [2, 3, 7, 8], &[0.0041]),
            (bytes, [3, 1, 1, 1], &[0.01, 0.007, 0.02]),
        ] {
            let factor = factor(24, levels.high);
            let threads = Threads::one();
            let kernel =
                run(|value, scales| round(levels, factor, &threads, value, scales), shape, scales);
            let burns =
                run(|value, scales| round_with_burn(levels, factor, value, scales), shape, scales);
            for (kernel, burns) in kernel.iter().zip(&burns) {
                for (kernel, burns) in kernel.iter().zip(burns) {
                    assert!((kernel - burns).abs() < 1e-4, "{levels:?}: {kernel} {burns}");
                }
            }
        }
    }

    #[test]
    fn without_autodiff_numbers_are_rounded_the_same() {
        let levels = Levels { low: -7.0, high: 7.0, nearest: Nearest::Away };
        let (shape, scales) = ([2, 3, 2, 2], [0.11, 0.2]);
        let [with, ..] =
            run(|value, scales| round(levels, 1.0, &Threads::one(), value, scales), shape, &scales);
        let plain = |numbers: Vec<f32>, shape| {
            Tensor::<4>::from_data(TensorData::new(numbers, shape), &Device::flex())
        };
        let value = plain(noise(24, 1), shape);
        let scales = Tensor::<1>::from_data(scales, &Device::flex());
        let output = round(levels, 1.0, &Threads::one(), value, scales);
        assert_eq!(output.into_data().try_into_vec::<f32>().unwrap(), with);
    }

    #[test]
    fn what_is_added_is_whole_steps_unless_nothing_is_multiplied() {
        let of = |numbers: [f32; 3]| Tensor::<1>::from_data(numbers, &Device::flex());
        let (added, gain) = (of([0.26, -4.6, 4.5]), of([-0.5, 2.0, 0.0]));
        let whole = in_whole_steps(added, gain, of([0.2, 0.5, 0.1]));
        let whole = whole.into_data().try_into_vec::<f32>().unwrap();
        assert!((whole[0] - 0.3).abs() < 1e-6 && (whole[1] + 5.0).abs() < 1e-6, "{whole:?}");
        assert_eq!(whole[2], 4.5);
    }

    #[test]
    fn biases_are_rounded_and_their_gradient_goes_straight_through() {
        let device = Device::flex().autodiff();
        let of = |numbers: &[f32]| {
            let data = TensorData::new(numbers.to_vec(), [numbers.len()]);
            Tensor::<1>::from_data(data, &device).require_grad()
        };
        let (bias, steps) = (of(&[0.26, -0.9]), of(&[0.1, 0.2]).inner());
        let rounded = round_bias(bias.clone(), steps.clone());
        let mut gradients = rounded.clone().sum().backward();
        let read = |tensor: Tensor<1>| tensor.into_data().try_into_vec::<f32>().unwrap();
        let rounded = read(rounded.inner());
        assert!((rounded[0] - 0.3).abs() < 1e-6 && (rounded[1] + 0.8).abs() < 1e-6, "{rounded:?}");
        assert_eq!(read(bias.grad_remove(&mut gradients).unwrap()), [1.0; 2]);
        // Without autodiff, they are rounded as well.
        assert_eq!(read(round_bias(bias.inner(), steps)), rounded);
    }
}
