//! Windows that slide over positions: what convolutions and pools have in common.

use super::prelude::*;
use crate::validate::check_limit;

/// A window along one axis. It may have gaps (`dilation`) and reach into the padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowAxis {
    /// Taps, at least 1.
    pub kernel: u32,
    /// Steps from one window to the next, at least 1.
    pub stride: u32,
    /// Steps from one tap to the next, at least 1.
    pub dilation: u32,
    /// Padding before the first position.
    pub before: u32,
    /// Padding after the last position.
    pub after: u32,
}

impl WindowAxis {
    /// A window of `kernel` taps without gaps, with the same padding on both sides.
    #[must_use]
    pub fn new(kernel: u32, stride: u32, padding: u32) -> Self {
        Self { kernel, stride, dilation: 1, before: padding, after: padding }
    }

    /// All but the kernel.
    pub(super) fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self {
            kernel: 0,
            stride: file.size()?,
            dilation: file.size()?,
            before: file.size()?,
            after: file.size()?,
        })
    }

    /// All but the kernel.
    pub(super) fn write(&self, file: &mut Writer) {
        for size in [self.stride, self.dilation, self.before, self.after] {
            file.size(size);
        }
    }
}

/// Reads windows with their kernels.
pub(super) fn read_windows(file: &mut Reader) -> Result<Vec<WindowAxis>, ModelError> {
    file.list(5, |file| {
        let kernel = file.size()?;
        Ok(WindowAxis { kernel, ..WindowAxis::read(file)? })
    })
}

/// Writes windows with their kernels.
pub(super) fn write_windows(axes: &[WindowAxis], file: &mut Writer) {
    file.list(axes, |file, axis| {
        file.size(axis.kernel);
        axis.write(file);
    });
}

/// Checks windows over the positions of `input`, and returns the sizes of the output's axes of
/// positions.
pub(super) fn slide(axes: &[WindowAxis], input: &Value) -> Result<Vec<u32>, Problem> {
    check_axes("axes of windows", input.shape.space().len(), axes.len())?;
    let mut padded_elements = u64::from(input.shape.channels());
    let mut sizes = Vec::with_capacity(axes.len());
    for (axis, &size) in axes.iter().zip(input.shape.space()) {
        check_not_zero("kernel", axis.kernel)?;
        check_not_zero("stride", axis.stride)?;
        check_not_zero("dilation", axis.dilation)?;
        let padded = u64::from(size) + u64::from(axis.before) + u64::from(axis.after);
        let extent = u64::from(axis.kernel - 1) * u64::from(axis.dilation) + 1;
        if extent > padded {
            return Err(Problem::KernelTooLarge { kernel: extent, padded });
        }
        padded_elements = padded_elements.saturating_mul(padded);
        check_limit("its padded input", padded_elements)?;
        // Fits: `padded` is below the limit.
        sizes.push(((padded - extent) / u64::from(axis.stride) + 1) as u32);
    }
    Ok(sizes)
}

/// A shape with these channels and positions.
pub(super) fn shape_of(channels: u32, space: &[u32]) -> Result<Shape, Problem> {
    let mut sizes = vec![channels];
    sizes.extend_from_slice(space);
    Shape::new(&sizes)
}

impl WindowAxis {
    /// Taps of a window that are inside an axis of `size`, or up to `counted` places before and
    /// after it.
    pub(super) fn taps_inside(&self, window: u32, size: u32, counted: (u32, u32)) -> u32 {
        let first = i64::from(window) * i64::from(self.stride) - i64::from(self.before);
        let (low, high) = (-i64::from(counted.0), i64::from(size) + i64::from(counted.1));
        let (kernel, step) = (i64::from(self.kernel), i64::from(self.dilation));
        // The taps are at `first + tap * step`.
        let begin = (low - first).max(0).div_ceil_by(step);
        let end = (high - first).max(0).div_ceil_by(step).min(kernel);
        // Fits: between 0 and the kernel.
        (end - begin).max(0) as u32
    }
}

/// Most positions of padding before or after the input of a pool. No network has as many, and a
/// file cannot keep its reader busy with windows on padding.
const MAX_POOL_PADDING: u32 = 1 << 12;

/// Checks the padding of a pool.
pub(super) fn check_pool_padding(axes: &[WindowAxis]) -> Result<(), Problem> {
    let most = axes.iter().map(|axis| axis.before.max(axis.after)).max().unwrap_or(0);
    if most <= MAX_POOL_PADDING {
        return Ok(());
    }
    let (value, limit) = (i64::from(most), i64::from(MAX_POOL_PADDING));
    Err(Problem::OutOfRange { what: "the padding of a pool", value, limit })
}

impl WindowAxis {
    /// Of `windows` windows, those that reach beyond an axis of `size` and `counted` places before
    /// and after it, and one that does not, if there is one. All others have as many taps inside as
    /// that one.
    pub(super) fn telling_windows(
        &self,
        windows: u32,
        size: u32,
        counted: (u32, u32),
    ) -> impl Iterator<Item = u32> + use<> {
        let stride = u64::from(self.stride);
        let outside = u64::from(self.before.saturating_sub(counted.0));
        let inside_from = outside.div_ceil(stride);
        let extent = u64::from(self.kernel - 1) * u64::from(self.dilation) + 1;
        let room = u64::from(size) + u64::from(counted.1) + u64::from(self.before);
        let inside_to = room.checked_sub(extent).map_or(0, |last| last / stride + 1);
        let windows = u64::from(windows);
        let first = (inside_from + 1).min(windows);
        let last = inside_to.clamp(first, windows);
        // Fits: they are below `windows`.
        (0..first).chain(last..windows).map(|window| window as u32)
    }
}

/// Division of numbers that are not negative, rounded up.
trait DivCeil {
    fn div_ceil_by(self, divisor: i64) -> i64;
}

impl DivCeil for i64 {
    fn div_ceil_by(self, divisor: i64) -> i64 {
        (self + divisor - 1) / divisor
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn other_windows_have_as_many_taps_as_one_of_the_telling_ones(
            (kernel, stride, dilation) in (1u32..5, 1u32..4, 1u32..4),
            (before, after) in (0u32..6, 0u32..6),
            size in 1u32..12,
            (counted_before, counted_after) in (0u32..6, 0u32..6),
        ) {
            let axis = WindowAxis { kernel, stride, dilation, before, after };
            let extent = (kernel - 1) * dilation + 1;
            prop_assume!(extent <= size + before + after);
            let windows = (size + before + after - extent) / stride + 1;
            let counted = (counted_before.min(before), counted_after.min(after));
            let taps = |window| axis.taps_inside(window, size, counted);
            let telling: Vec<u32> = axis.telling_windows(windows, size, counted).collect();
            let all: std::collections::BTreeSet<u32> = (0..windows).map(taps).collect();
            let told: std::collections::BTreeSet<u32> =
                telling.iter().map(|&window| taps(window)).collect();
            prop_assert_eq!(all, told);
            prop_assert!(telling.iter().all(|&window| window < windows));
        }
    }
}
