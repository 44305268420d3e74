//! Windows that slide over positions, for convolutions and pooling.

use std::ops::Range;

use smallvec::SmallVec;

use super::InferError;
use crate::MAX_ELEMENTS;

/// How a window moves along one axis of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowAxis {
    /// Positions from one window to the next, at least 1.
    pub stride: u32,
    /// Positions from one tap of the window to the next, at least 1.
    pub dilation: u32,
    /// Positions added before the first one.
    pub before: u32,
    /// Positions added after the last one.
    pub after: u32,
}

impl WindowAxis {
    /// An odd kernel with equal padding at both sides, such that stride 1 keeps the size.
    pub fn same(kernel: u32, stride: u32) -> Self {
        let padding = kernel.saturating_sub(1) / 2;
        Self { stride, dilation: 1, before: padding, after: padding }
    }

    /// No padding and no dilation.
    pub fn valid(stride: u32) -> Self {
        Self { stride, dilation: 1, before: 0, after: 0 }
    }

    /// Number of positions that a window with `kernel` taps covers.
    pub(super) fn window(&self, kernel: u32) -> u64 {
        u64::from(kernel.saturating_sub(1)) * u64::from(self.dilation) + 1
    }

    /// Number of windows with `kernel` taps on `size` positions.
    pub(super) fn outputs(&self, kernel: u32, size: u32) -> Result<u32, InferError> {
        for (setting, value) in
            [("stride", self.stride), ("dilation", self.dilation), ("kernel", kernel)]
        {
            if value == 0 {
                return Err(InferError::Zero { setting });
            }
        }
        let window = self.window(kernel);
        let size = u64::from(size) + u64::from(self.before) + u64::from(self.after);
        if size > MAX_ELEMENTS {
            let value = self.before.max(self.after).to_string();
            return Err(InferError::Setting { setting: "padding", value });
        }
        if window > size {
            return Err(InferError::Window { window, size });
        }
        let outputs = (size - window) / u64::from(self.stride) + 1;
        Ok(outputs as u32)
    }

    /// Checks that no window with `kernel` taps on `size` positions lies on padding alone, where
    /// `counted` positions of the padding before and after count as if they were the input's. It
    /// also refuses some windows with such wide steps that one could step over the whole input.
    pub(super) fn reaches(
        &self,
        kernel: u32,
        size: u32,
        counted: (u32, u32),
    ) -> Result<(), InferError> {
        let outputs = self.outputs(kernel, size)?;
        let (before, after) = (self.before - counted.0, self.after - counted.1);
        let reached = u64::from(size) + u64::from(counted.0) + u64::from(counted.1);
        let (window, padding) = (self.window(kernel), before.max(after));
        let last = u64::from(outputs - 1) * u64::from(self.stride);
        let steps_over = u64::from(self.dilation) > reached && kernel > 1 && padding > 0;
        if u64::from(before) >= window || last >= u64::from(before) + reached || steps_over {
            return Err(InferError::Padding { padding, window });
        }
        Ok(())
    }

    /// How many of the `kernel` taps of window `output` are on the `size` positions of the input or
    /// on the `counted` positions before and after them.
    pub(super) fn taps(&self, output: u32, kernel: u32, size: u32, counted: (u32, u32)) -> u32 {
        let at = u64::from(output) * u64::from(self.stride);
        let start = u64::from(self.before - counted.0);
        let end = u64::from(self.before) + u64::from(size) + u64::from(counted.1);
        // The first tap that is not before a position.
        let first = |position: u64| {
            let tap = position.saturating_sub(at).div_ceil(self.dilation.into());
            tap.min(kernel.into()) as u32
        };
        first(end) - first(start)
    }

    /// The position that tap `tap` of window `output` reads, if it is not padding.
    pub(super) fn position(&self, output: usize, tap: usize, size: usize) -> Option<usize> {
        let at = output * self.stride as usize + tap * self.dilation as usize;
        at.checked_sub(self.before as usize).filter(|&at| at < size)
    }

    /// The windows, of `outputs`, whose tap `tap` reads none of the padding.
    pub(super) fn inside(&self, tap: usize, size: usize, outputs: usize) -> Range<usize> {
        let (stride, offset) = (self.stride as usize, tap * self.dilation as usize);
        let before = self.before as usize;
        let start = before.saturating_sub(offset).div_ceil(stride);
        let end = (size + before).saturating_sub(offset).div_ceil(stride).min(outputs);
        start.min(end)..end
    }
}

/// The output's sizes for these kernel sizes, one per axis of `space`.
pub(super) fn outputs(
    axes: &[WindowAxis],
    kernel: &[u32],
    space: &[u32],
) -> Result<SmallVec<[u32; 2]>, InferError> {
    let mut sizes = SmallVec::new();
    for ((axis, &kernel), &size) in axes.iter().zip(kernel).zip(space) {
        sizes.push(axis.outputs(kernel, size)?);
    }
    Ok(sizes)
}

/// Two axes, where there may be one: a sequence is a picture of one row.
pub(super) fn as_picture<T: Copy>(one_row: T, axes: &[T]) -> [T; 2] {
    match *axes {
        [columns] => [one_row, columns],
        [rows, columns] => [rows, columns],
        _ => unreachable!("windows move along one or two axes"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_kernels_with_equal_padding_keep_the_size() {
        for (kernel, size) in [(1, 7), (3, 7), (5, 2), (7, 1)] {
            assert_eq!(WindowAxis::same(kernel, 1).outputs(kernel, size), Ok(size));
            assert_eq!(WindowAxis::same(kernel, 2).outputs(kernel, size), Ok(size.div_ceil(2)));
        }
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        let axis = WindowAxis { dilation: 2, ..WindowAxis::valid(1) };
        assert_eq!(axis.outputs(3, 5), Ok(1));
        assert_eq!(axis.outputs(3, 4), Err(InferError::Window { window: 5, size: 4 }));
        assert_eq!(WindowAxis::valid(0).outputs(3, 4), Err(InferError::Zero { setting: "stride" }));
        assert_eq!(WindowAxis::valid(1).outputs(0, 4), Err(InferError::Zero { setting: "kernel" }));
        let huge = WindowAxis { dilation: u32::MAX, ..WindowAxis::valid(1) };
        assert!(huge.outputs(u32::MAX, u32::MAX).is_err());
    }

    proptest! {
        #[test]
        fn the_windows_inside_are_those_with_a_position(
            stride in 1u32..4,
            dilation in 1u32..4,
            before in 0u32..5,
            after in 0u32..5,
            kernel in 1u32..5,
            size in 1u32..9,
        ) {
            let axis = WindowAxis { stride, dilation, before, after };
            if let Ok(outputs) = axis.outputs(kernel, size) {
                for tap in 0..kernel as usize {
                    let inside = axis.inside(tap, size as usize, outputs as usize);
                    for output in 0..outputs as usize {
                        let position = axis.position(output, tap, size as usize);
                        prop_assert_eq!(inside.contains(&output), position.is_some());
                    }
                }
            }
        }

        #[test]
        fn taps_on_padding_that_counts_are_those_of_a_larger_input(
            (stride, dilation, before, after) in (1u32..4, 1u32..4, 0u32..5, 0u32..5),
            counted in (0u32..5, 0u32..5),
            kernel in 1u32..5,
            size in 1u32..9,
        ) {
            let counted = (counted.0.min(before), counted.1.min(after));
            let axis = WindowAxis { stride, dilation, before, after };
            let (before, after) = (before - counted.0, after - counted.1);
            let larger = WindowAxis { before, after, ..axis };
            let larger_size = size + counted.0 + counted.1;
            if let Ok(outputs) = axis.outputs(kernel, size) {
                let mut least = kernel;
                for output in 0..outputs {
                    let read = |tap| {
                        larger.position(output as usize, tap as usize, larger_size as usize)
                    };
                    let expected = (0..kernel).filter(|&tap| read(tap).is_some()).count();
                    let taps = axis.taps(output, kernel, size, counted);
                    prop_assert_eq!(taps, expected as u32);
                    least = least.min(taps);
                }
                let accepted = axis.reaches(kernel, size, counted).is_ok();
                let steps_over = kernel > 1 && dilation > larger_size && before.max(after) > 0;
                prop_assert_eq!(accepted, least > 0 && !steps_over);
            }
        }
    }
}
