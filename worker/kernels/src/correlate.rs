//! Sums of products of the pixels of two feature maps: the gradient of a convolution with respect
//! to its filters.

use std::ops::Range;

use crate::lanes::{Lanes, WIDTH, dispatch};
use crate::taps::Sweep;

/// The feature maps that the gradients of a convolution's filters are computed from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Correlation<'a> {
    pub sweep: &'a Sweep,
    pub lanes: usize,
    /// Has the size of the output, `[rows][pixels][lanes]`.
    pub left: &'a [f32],
    /// Has the size of the input, `[columns][pixels][lanes]`.
    pub right: &'a [f32],
}

/// `out[row][column][tap] = Σ left[row][pixel][lane] · right[column][place][lane]` over the lanes
/// and the output pixels for which the tap reads a place inside the input.
///
/// # Panics
/// If sizes do not agree.
pub(crate) fn correlate(correlation: &Correlation<'_>, out: &mut [f32]) {
    let task = &Correlate::new(correlation);
    dispatch!(run(task: &Correlate<'_>, out: &mut [f32]));
}

/// [`Correlate::all`] as a function.
#[inline(always)]
fn run<L: Lanes>(token: L, task: &Correlate<'_>, out: &mut [f32]) {
    task.all(token, out);
}

/// A checked [`Correlation`].
struct Correlate<'a> {
    of: &'a Correlation<'a>,
    rows: usize,
    columns: usize,
    /// Values of a row of `left`; no more than `left` has if there are rows.
    left_size: usize,
    /// Values of a column of `right`; no more than `right` has if there are columns.
    right_size: usize,
}

/// Approximate number of values of a row and a column that are used at a time, so that they stay in
/// the caches while all taps use them.
const CHUNK: usize = 1024;

/// A rectangle of output pixels.
#[derive(Clone, Copy)]
struct Rectangle<'a> {
    y: &'a Range<usize>,
    x: &'a Range<usize>,
}

impl<'a> Correlate<'a> {
    /// # Panics
    /// If sizes do not agree.
    fn new(of: &'a Correlation<'a>) -> Self {
        let Correlation { sweep, lanes, left, right } = *of;
        assert!(lanes.is_multiple_of(WIDTH) && lanes > 0, "whole vectors");
        let area = |[height, width]: [usize; 2]| height * width * lanes;
        let (left_size, right_size) = (area(sweep.output()), area(sweep.input));
        let (rows, columns) = (left.len() / left_size, right.len() / right_size);
        let whole = (rows * left_size, columns * right_size);
        assert_eq!(whole, (left.len(), right.len()), "sizes agree");
        Self { of, rows, columns, left_size, right_size }
    }

    /// # Panics
    /// If the size of `out` does not agree.
    #[inline(always)]
    fn all<L: Lanes>(&self, token: L, out: &mut [f32]) {
        assert_eq!(out.len(), self.rows * self.columns * self.of.sweep.taps(), "sizes agree");
        out.fill(0.0);
        let [height, width] = self.of.sweep.output();
        let pixels = (CHUNK / self.of.lanes).max(1);
        let across = width.div_ceil(width.div_ceil(pixels));
        let down = (pixels / across).max(1);
        for y in pieces(height, down) {
            for x in pieces(width, across) {
                let within = Rectangle { y: &y, x: &x };
                for row in (0..self.rows).step_by(3) {
                    match self.rows - row {
                        1 => self.rows::<L, 1>(token, row, within, out),
                        2 => self.rows::<L, 2>(token, row, within, out),
                        _ => self.rows::<L, 3>(token, row, within, out),
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn rows<L: Lanes, const ROWS: usize>(
        &self,
        token: L,
        row: usize,
        within: Rectangle<'_>,
        out: &mut [f32],
    ) {
        for column in (0..self.columns).step_by(4) {
            // A single column uses several partial sums, because each addition waits for the one
            // before it. This depends on the columns only, so that the sums of a row do not depend
            // on the rows next to it.
            match self.columns - column {
                1 => self.taps::<L, ROWS, 1, 4>(token, row, column, within, out),
                2 => self.taps::<L, ROWS, 2, 2>(token, row, column, within, out),
                3 => self.taps::<L, ROWS, 3, 1>(token, row, column, within, out),
                _ => self.taps::<L, ROWS, 4, 1>(token, row, column, within, out),
            }
        }
    }

    #[inline(always)]
    fn taps<L: Lanes, const ROWS: usize, const COLUMNS: usize, const UNROLL: usize>(
        &self,
        token: L,
        row: usize,
        column: usize,
        within: Rectangle<'_>,
        out: &mut [f32],
    ) {
        let sweep = self.of.sweep;
        for ky in 0..sweep.kernel {
            let y = common(within.y, &sweep.outputs(0, ky));
            for kx in 0..sweep.kernel {
                let x = common(within.x, &sweep.outputs(1, kx));
                if y.is_empty() || x.is_empty() {
                    continue;
                }
                let pixels = Rectangle { y: &y, x: &x };
                let sums =
                    self.block::<L, ROWS, COLUMNS, UNROLL>(token, row, column, [ky, kx], pixels);
                for (r, sums) in sums.iter().enumerate() {
                    for (c, sum) in sums.iter().enumerate() {
                        let filter = (row + r) * self.columns + column + c;
                        out[filter * sweep.taps() + ky * sweep.kernel + kx] += sum;
                    }
                }
            }
        }
    }

    /// Adds what some pixels contribute to `ROWS` by `COLUMNS` sums of one tap. The tap must read
    /// inside the input for all of these pixels.
    #[inline(always)]
    fn block<L: Lanes, const ROWS: usize, const COLUMNS: usize, const UNROLL: usize>(
        &self,
        token: L,
        row: usize,
        column: usize,
        tap: [usize; 2],
        pixels: Rectangle<'_>,
    ) -> [[f32; COLUMNS]; ROWS] {
        let sweep = self.of.sweep;
        let mut sums = [[[token.splat(0.0); COLUMNS]; ROWS]; UNROLL];
        let Rectangle { y: rows, x: columns } = pixels;
        let width = sweep.output()[1];
        // Pixels that are adjacent in both maps are processed together.
        let (across, down) = if sweep.stride > 1 {
            (1, 1)
        } else if columns.len() == width {
            (width, rows.len())
        } else {
            (columns.len(), 1)
        };
        for y in rows.clone().step_by(down) {
            for x in columns.clone().step_by(across) {
                let (left, right) = self.sides::<ROWS, COLUMNS>([row, column], tap, [y, x]);
                self.run(token, left, right, across * down * self.of.lanes, &mut sums);
            }
        }
        let mut out = [[0.0; COLUMNS]; ROWS];
        for sums in sums {
            for (out, sums) in out.iter_mut().zip(sums) {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out += token.sum(sum);
                }
            }
        }
        out
    }

    /// The rows from an output pixel on, and the columns from the pixel on that its tap reads.
    #[inline(always)]
    fn sides<const ROWS: usize, const COLUMNS: usize>(
        &self,
        [row, column]: [usize; 2],
        [ky, kx]: [usize; 2],
        [y, x]: [usize; 2],
    ) -> (&[f32], &[f32]) {
        let Correlation { sweep, lanes, left, right } = *self.of;
        let left_pixel = y * sweep.output()[1] + x;
        let right_pixel = sweep.source(y, ky) * sweep.input[1] + sweep.source(x, kx);
        let left = &left[row * self.left_size..(row + ROWS) * self.left_size];
        let right = &right[column * self.right_size..(column + COLUMNS) * self.right_size];
        (&left[left_pixel * lanes..], &right[right_pixel * lanes..])
    }

    /// Adds the products of `length` values of each row and column.
    #[inline(always)]
    fn run<L: Lanes, const ROWS: usize, const COLUMNS: usize, const UNROLL: usize>(
        &self,
        token: L,
        left: &[f32],
        right: &[f32],
        length: usize,
        sums: &mut [[[L::Vector; COLUMNS]; ROWS]; UNROLL],
    ) {
        let left_room = left.len().saturating_sub((ROWS - 1) * self.left_size);
        let right_room = right.len().saturating_sub((COLUMNS - 1) * self.right_size);
        assert!(length <= left_room, "reads stay inside the last row");
        assert!(length <= right_room, "reads stay inside the last column");
        let mut i = 0;
        while i + UNROLL * WIDTH <= length {
            for (u, sums) in sums.iter_mut().enumerate() {
                // SAFETY: checked above for `length` values.
                unsafe { self.step(token, left, right, i + u * WIDTH, sums) };
            }
            i += UNROLL * WIDTH;
        }
        while i + WIDTH <= length {
            // SAFETY: checked above.
            unsafe { self.step(token, left, right, i, &mut sums[0]) };
            i += WIDTH;
        }
    }

    /// Adds the products of one vector of each row and column.
    ///
    /// # Safety
    /// The last row and the last column have a vector from `i` on.
    #[inline(always)]
    unsafe fn step<L: Lanes, const ROWS: usize, const COLUMNS: usize>(
        &self,
        token: L,
        left: &[f32],
        right: &[f32],
        i: usize,
        sums: &mut [[L::Vector; COLUMNS]; ROWS],
    ) {
        let mut rows = [token.splat(0.0); ROWS];
        for (r, row) in rows.iter_mut().enumerate() {
            let from = left.as_ptr().wrapping_add(r * self.left_size + i);
            // SAFETY: the caller guarantees the last row; the others lie before it. Arrays of f32
            // have the alignment of f32.
            *row = token.load(unsafe { &*from.cast::<[f32; WIDTH]>() });
        }
        for column in 0..COLUMNS {
            let from = right.as_ptr().wrapping_add(column * self.right_size + i);
            // SAFETY: see the rows.
            let value = token.load(unsafe { &*from.cast::<[f32; WIDTH]>() });
            for (sums, row) in sums.iter_mut().zip(rows) {
                sums[column] = token.mul_add(row, value, sums[column]);
            }
        }
    }
}

/// Splits `0..side` into pieces of at most `size`.
fn pieces(side: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..side).step_by(size).map(move |start| start..side.min(start + size))
}

/// The intersection of two ranges.
fn common(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::Portable;
    use crate::testing::{cases, close, noise};

    proptest! {
        #[test]
        fn filters_equal_the_sums_of_the_definition(case in cases()) {
            let lanes = case.lanes;
            let left = noise(case.rows * case.outputs() * lanes, case.seed);
            let right = noise(case.channels * case.inputs() * lanes, case.seed ^ 1);
            let mut expected = vec![0.0f64; case.weights()];
            case.for_products(|weight, from, to| {
                expected[weight] += f64::from(left[to]) * f64::from(right[from]);
            });
            let sweep = &case.sweep;
            let correlation = Correlation { sweep, lanes, left: &left, right: &right };
            let mut out = vec![f32::NAN; expected.len()];
            correlate(&correlation, &mut out);
            prop_assert!(close(&out, &expected));
            out.fill(f32::NAN);
            Correlate::new(&correlation).all(Portable, &mut out);
            prop_assert!(close(&out, &expected));
        }
    }
}
