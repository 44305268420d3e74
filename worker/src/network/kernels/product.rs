//! The two products that convolutions come down to, over rows of memory that may overlap.

use std::mem::MaybeUninit;

use super::lanes::Lanes;

/// Lengths of rows are multiples of this.
pub(super) const BLOCK: usize = 32;

/// `out[r][i] = Σ_k factors[r][k] · source[offsets[k] + i]`, for `i < length`; writes all of `out`.
///
/// `factors` is `[rows][offsets.len()]`, `out` is `[rows][length]`.
///
/// # Panics
/// When `length` is not a multiple of [`BLOCK`] or a slice is too short.
pub(super) fn combine(
    rows: usize,
    length: usize,
    factors: &[f32],
    offsets: &[usize],
    source: &[f32],
    out: &mut [MaybeUninit<f32>],
) {
    assert!(length.is_multiple_of(BLOCK), "whole blocks");
    assert_eq!(factors.len(), rows * offsets.len(), "sizes agree");
    assert_eq!(out.len(), rows * length, "sizes agree");
    assert!(offsets.iter().all(|offset| offset + length <= source.len()), "offsets stay inside");
    let task = Combine { rows, length, factors, offsets, source };
    #[cfg(target_arch = "x86_64")]
    if super::lanes::avx2::available() {
        // SAFETY: the features are there.
        unsafe { combine_avx2(&task, out) };
        return;
    }
    task.run::<[f32; 8]>(out);
}

/// [`combine`] in place of what `out` held, without clearing memory first.
pub(super) fn combine_into(
    rows: usize,
    length: usize,
    factors: &[f32],
    offsets: &[usize],
    source: &[f32],
    out: &mut Vec<f32>,
) {
    out.clear();
    out.reserve_exact(rows * length);
    combine(rows, length, factors, offsets, source, &mut out.spare_capacity_mut()[..rows * length]);
    // SAFETY: `combine` wrote all of it.
    unsafe { out.set_len(rows * length) };
}

/// `out[r][j] = Σ_i left[r · pitch + i] · source[offsets[j] + i]`, for `i < length`.
///
/// `out` is `[rows][offsets.len()]`.
///
/// # Panics
/// When `length` is not a multiple of [`BLOCK`] or a slice is too short.
pub(super) fn correlate(
    rows: usize,
    length: usize,
    left: &[f32],
    pitch: usize,
    offsets: &[usize],
    source: &[f32],
    out: &mut [f32],
) {
    assert!(length.is_multiple_of(BLOCK), "whole blocks");
    assert!(rows == 0 || (rows - 1) * pitch + length <= left.len(), "rows stay inside");
    assert!(offsets.iter().all(|offset| offset + length <= source.len()), "offsets stay inside");
    assert_eq!(out.len(), rows * offsets.len(), "sizes agree");
    let task = Correlate { rows, length, left, pitch, offsets, source };
    #[cfg(target_arch = "x86_64")]
    if super::lanes::avx2::available() {
        // SAFETY: the features are there.
        unsafe { correlate_avx2(&task, out) };
        return;
    }
    task.run::<[f32; 8]>(out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn combine_avx2(task: &Combine, out: &mut [MaybeUninit<f32>]) {
    task.run::<std::arch::x86_64::__m256>(out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn correlate_avx2(task: &Correlate, out: &mut [f32]) {
    task.run::<std::arch::x86_64::__m256>(out);
}

struct Combine<'a> {
    rows: usize,
    length: usize,
    factors: &'a [f32],
    offsets: &'a [usize],
    source: &'a [f32],
}

/// Most rows that share the loads of a block: with two vectors each, twelve accumulators.
const COMBINE_ROWS: usize = 6;

impl Combine<'_> {
    /// Writes all of `out`, `[rows][length]`.
    #[inline(always)]
    fn run<V: Lanes>(&self, out: &mut [MaybeUninit<f32>]) {
        if self.rows == 1 {
            return self.block::<V, 1, 4>(0, self.factors, 0, self.length, out);
        }
        // Rows in groups as equal as can be; the factors of a group lie together by offset.
        let groups = self.rows.div_ceil(COMBINE_ROWS);
        let bounds = |group: usize| group * self.rows / groups;
        let count = self.offsets.len();
        let mut packed = vec![0.0; self.rows * count];
        for group in 0..groups {
            let (from, to) = (bounds(group), bounds(group + 1));
            for (r, row) in (from..to).enumerate() {
                for k in 0..count {
                    packed[from * count + k * (to - from) + r] = self.factors[row * count + k];
                }
            }
        }
        // The source's columns stay in the first cache while all groups use them.
        for start in (0..self.length).step_by(BLOCK) {
            for group in 0..groups {
                let (from, to) = (bounds(group), bounds(group + 1));
                let factors = &packed[from * count..to * count];
                let end = start + BLOCK;
                match to - from {
                    6 => self.block::<V, 6, 2>(from, factors, start, end, out),
                    5 => self.block::<V, 5, 2>(from, factors, start, end, out),
                    4 => self.block::<V, 4, 2>(from, factors, start, end, out),
                    3 => self.block::<V, 3, 4>(from, factors, start, end, out),
                    2 => self.block::<V, 2, 4>(from, factors, start, end, out),
                    _ => self.block::<V, 1, 4>(from, factors, start, end, out),
                }
            }
        }
    }

    /// `ROWS` rows from `row` on, columns `start..end`, `8 · VECTORS` at a time.
    #[inline(always)]
    fn block<V: Lanes, const ROWS: usize, const VECTORS: usize>(
        &self,
        row: usize,
        factors: &[f32],
        start: usize,
        end: usize,
        out: &mut [MaybeUninit<f32>],
    ) {
        let source = self.source.as_ptr();
        for column in (start..end).step_by(8 * VECTORS) {
            let mut sums = [[V::zero(); VECTORS]; ROWS];
            for (&offset, factors) in self.offsets.iter().zip(factors.chunks_exact(ROWS)) {
                let mut values = [V::zero(); VECTORS];
                for (v, value) in values.iter_mut().enumerate() {
                    // SAFETY: `combine` checked that all offsets leave room for `length` values,
                    // and `length` is a multiple of `8 * VECTORS`.
                    *value = unsafe { V::load(source.add(offset + column + 8 * v)) };
                }
                for (sums, &factor) in sums.iter_mut().zip(factors) {
                    let factor = V::splat(factor);
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = value.mul_add(factor, *sum);
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let to = &mut out[(row + r) * self.length + column..][..8 * VECTORS];
                for (v, sum) in sums.iter().enumerate() {
                    // SAFETY: `to` holds `8 * VECTORS` values.
                    unsafe { sum.store(to.as_mut_ptr().cast::<f32>().add(8 * v)) };
                }
            }
        }
    }
}

struct Correlate<'a> {
    rows: usize,
    length: usize,
    left: &'a [f32],
    pitch: usize,
    offsets: &'a [usize],
    source: &'a [f32],
}

/// Columns whose left and right values share the first cache.
const CORRELATE_COLUMNS: usize = 512;

impl Correlate<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self, out: &mut [f32]) {
        out.fill(0.0);
        for start in (0..self.length).step_by(CORRELATE_COLUMNS) {
            let end = self.length.min(start + CORRELATE_COLUMNS);
            for row in (0..self.rows).step_by(3) {
                match self.rows - row {
                    1 => self.rows::<V, 1>(row, start, end, out),
                    2 => self.rows::<V, 2>(row, start, end, out),
                    _ => self.rows::<V, 3>(row, start, end, out),
                }
            }
        }
    }

    #[inline(always)]
    fn rows<V: Lanes, const ROWS: usize>(
        &self,
        row: usize,
        start: usize,
        end: usize,
        out: &mut [f32],
    ) {
        for column in (0..self.offsets.len()).step_by(4) {
            match self.offsets.len() - column {
                1 => self.block::<V, ROWS, 1>(row, column, start, end, out),
                2 => self.block::<V, ROWS, 2>(row, column, start, end, out),
                3 => self.block::<V, ROWS, 3>(row, column, start, end, out),
                _ => self.block::<V, ROWS, 4>(row, column, start, end, out),
            }
        }
    }

    /// Adds what positions `start..end` contribute to `ROWS` by `COLUMNS` sums.
    #[inline(always)]
    fn block<V: Lanes, const ROWS: usize, const COLUMNS: usize>(
        &self,
        row: usize,
        column: usize,
        start: usize,
        end: usize,
        out: &mut [f32],
    ) {
        let left = &self.left[row * self.pitch..];
        let offsets: [usize; COLUMNS] = std::array::from_fn(|c| self.offsets[column + c]);
        let mut sums = [[V::zero(); COLUMNS]; ROWS];
        for i in (start..end).step_by(8) {
            let mut rows = [V::zero(); ROWS];
            for (r, row) in rows.iter_mut().enumerate() {
                // SAFETY: `correlate` checked that rows and offsets leave room for `length` values,
                // and `length` is a multiple of 8.
                *row = unsafe { V::load(left.as_ptr().add(r * self.pitch + i)) };
            }
            for (c, offset) in offsets.iter().enumerate() {
                // SAFETY: as above.
                let value = unsafe { V::load(self.source.as_ptr().add(offset + i)) };
                for (sums, row) in sums.iter_mut().zip(rows) {
                    sums[c] = row.mul_add(value, sums[c]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let to = &mut out[(row + r) * self.offsets.len() + column..][..COLUMNS];
            for (to, sum) in to.iter_mut().zip(sums) {
                *to += sum.sum();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::testing::noise;
    use super::*;

    fn close(got: &[f32], expected: &[f64]) -> bool {
        got.iter().zip(expected).all(|(g, e)| (f64::from(*g) - e).abs() < 1e-3)
    }

    proptest! {
        #[test]
        fn products_are_the_sums_that_they_say(
            rows in 1usize..15,
            blocks in 1usize..20,
            offsets in prop::collection::vec(0usize..200, 1..12),
            seed in 0u8..255,
        ) {
            let length = blocks * BLOCK;
            let source = noise(length + 200, seed);
            let count = offsets.len();

            let factors = noise(rows * count, seed ^ 1);
            let expected: Vec<f64> = (0..rows * length)
                .map(|at| {
                    let (r, i) = (at / length, at % length);
                    let term = |k: usize| {
                        f64::from(factors[r * count + k]) * f64::from(source[offsets[k] + i])
                    };
                    (0..count).map(term).sum()
                })
                .collect();
            let task = Combine { rows, length, factors: &factors, offsets: &offsets, source: &source };
            let mut plain = vec![MaybeUninit::new(f32::NAN); rows * length];
            task.run::<[f32; 8]>(&mut plain);
            // SAFETY: they were written at the latest by this test.
            let plain: Vec<f32> = plain.iter().map(|v| unsafe { v.assume_init() }).collect();
            prop_assert!(close(&plain, &expected));
            let mut out = Vec::new();
            combine_into(rows, length, &factors, &offsets, &source, &mut out);
            prop_assert!(close(&out, &expected));

            let pitch = length + 3;
            let left = noise(rows * pitch, seed ^ 2);
            let expected: Vec<f64> = (0..rows * count)
                .map(|at| {
                    let (r, j) = (at / count, at % count);
                    let term = |i: usize| {
                        f64::from(left[r * pitch + i]) * f64::from(source[offsets[j] + i])
                    };
                    (0..length).map(term).sum()
                })
                .collect();
            let task =
                Correlate { rows, length, left: &left, pitch, offsets: &offsets, source: &source };
            let mut plain = vec![0.0; rows * count];
            task.run::<[f32; 8]>(&mut plain);
            prop_assert!(close(&plain, &expected));
            let mut out = vec![0.0; rows * count];
            correlate(rows, length, &left, pitch, &offsets, &source, &mut out);
            prop_assert!(close(&out, &expected));
        }
    }
}
