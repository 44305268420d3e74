//! A Cholesky factor that grows row by row, and solutions of many systems with it at once.
//!
//! Each number is computed by the same additions in the same order as in
//! [`cholesky`](super::cholesky) and [`solve_lower`](super::solve_lower), so its bits do not depend
//! on how the rows were added, on how many systems are solved at once, or on the processor. One
//! system alone waits for each addition before the next; [`LANES`] systems side by side do not.

/// Number of systems that are solved at once.
pub(crate) const LANES: usize = 16;

/// Rows that are added at once.
const ROWS: usize = 8;

/// A pivot up to this counts as 0.
const LEAST_PIVOT: f64 = 1e-12;

/// The lower triangle `L` of a matrix `L·Lᵀ`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Factor {
    n: usize,
    /// One after the other: one number of the first row, two of the second, and so on.
    rows: Vec<f64>,
}

impl Factor {
    /// Number of rows.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.n
    }

    /// Removes all rows.
    pub(crate) fn clear(&mut self) {
        self.n = 0;
        self.rows.clear();
    }

    /// Adds rows until there are `n`. `matrix` gives the entry of the whole matrix in a row and a
    /// column up to the diagonal. Returns false if the matrix is not positive definite; then some
    /// rows may be missing. O(n²) for each new row.
    pub(crate) fn extend(&mut self, n: usize, matrix: impl Fn(usize, usize) -> f64) -> bool {
        while self.n < n {
            let (old, added) = (self.n, ROWS.min(n - self.n));
            // A row solves the system of the rows above it.
            let mut solved: Vec<[f64; ROWS]> =
                (0..old)
                    .map(|column| {
                        std::array::from_fn(|row| {
                            if row < added { matrix(old + row, column) } else { 0.0 }
                        })
                    })
                    .collect();
            solve_lower(&self.rows, &mut solved);
            for row in 0..added {
                let mut values: Vec<f64> = solved.iter().map(|lanes| lanes[row]).collect();
                for column in old..old + row {
                    let above = self.row(column);
                    let dot: f64 = values.iter().zip(above).map(|(a, b)| a * b).sum();
                    values.push((matrix(old + row, column) - dot) / above[column]);
                }
                let squares: f64 = values.iter().map(|v| v * v).sum();
                let pivot = matrix(old + row, old + row) - squares;
                if pivot <= LEAST_PIVOT {
                    return false;
                }
                values.push(pivot.sqrt());
                self.rows.append(&mut values);
                self.n += 1;
            }
        }
        true
    }

    /// Solves `L·x = b` in place.
    pub(crate) fn solve_lower(&self, b: &mut [f64]) {
        for i in 0..self.n {
            let row = self.row(i);
            let dot: f64 = row[..i].iter().zip(&*b).map(|(l, x)| l * x).sum();
            b[i] = (b[i] - dot) / row[i];
        }
    }

    /// Solves `L·x = b` in place for [`LANES`] right sides; `b` has a row for each row of `L`.
    pub(crate) fn solve_lower_lanes(&self, b: &mut [[f64; LANES]]) {
        solve_lower(&self.rows, &mut b[..self.n]);
    }

    /// Solves `Lᵀ·x = b` in place.
    pub(crate) fn solve_upper(&self, b: &mut [f64]) {
        for i in (0..self.n).rev() {
            let row = self.row(i);
            let x = b[i] / row[i];
            b[i] = x;
            b[..i].iter_mut().zip(row).for_each(|(b, l)| *b -= l * x);
        }
    }

    /// The sum of the logarithms of the diagonal.
    pub(crate) fn log_diagonal(&self) -> f64 {
        (0..self.n).map(|i| self.row(i)[i].ln()).sum()
    }

    fn row(&self, i: usize) -> &[f64] {
        let start = i * (i + 1) / 2;
        &self.rows[start..=start + i]
    }
}

/// Solves `L·x = b` in place for `N` right sides, with the first rows of `L` as in [`Factor`].
fn solve_lower<const N: usize>(rows: &[f64], b: &mut [[f64; N]]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512, which is all that the function needs.
        return unsafe { solve_lower_avx512(rows, b) };
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that the function needs.
        return unsafe { solve_lower_avx2(rows, b) };
    }
    solve_lower_plain(rows, b);
}

/// [`solve_lower_plain`] with wide registers. Nothing is fused or reordered, so the bits are equal.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn solve_lower_avx512<const N: usize>(rows: &[f64], b: &mut [[f64; N]]) {
    solve_lower_plain(rows, b);
}

/// The same with registers half as wide.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn solve_lower_avx2<const N: usize>(rows: &[f64], b: &mut [[f64; N]]) {
    solve_lower_plain(rows, b);
}

/// Two rows at a time, so that each number of `b` that is known is read half as often.
#[inline(always)]
fn solve_lower_plain<const N: usize>(rows: &[f64], b: &mut [[f64; N]]) {
    let mut start = 0;
    for i in (0..b.len()).step_by(2) {
        let (known, rest) = b.split_at_mut(i);
        let row = &rows[start..=start + i];
        start += i + 1;
        // An empty sum of floating point numbers is -0.
        let mut dots = [-0.0; N];
        let [current, next, ..] = rest else {
            for (l, x) in row.iter().zip(known.iter()) {
                add(&mut dots, *l, x);
            }
            return finish(&mut rest[0], &dots, row[i]);
        };
        let next_row = &rows[start..=start + i + 1];
        start += i + 2;
        let mut next_dots = [-0.0; N];
        for ((l, next_l), x) in row.iter().zip(next_row).zip(known.iter()) {
            add(&mut dots, *l, x);
            add(&mut next_dots, *next_l, x);
        }
        finish(current, &dots, row[i]);
        add(&mut next_dots, next_row[i], current);
        finish(next, &next_dots, next_row[i + 1]);
    }
}

#[inline(always)]
fn add<const N: usize>(dots: &mut [f64; N], l: f64, x: &[f64; N]) {
    for (dot, x) in dots.iter_mut().zip(x) {
        *dot += l * x;
    }
}

#[inline(always)]
fn finish<const N: usize>(b: &mut [f64; N], dots: &[f64; N], pivot: f64) {
    for (b, dot) in b.iter_mut().zip(dots) {
        *b = (*b - dot) / pivot;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{cholesky, solve_lower, solve_upper};
    use super::*;

    /// A positive definite matrix from any numbers.
    fn definite(numbers: &[f64], n: usize) -> Vec<f64> {
        let entry = |i: usize, j: usize| {
            let dot: f64 = (0..n).map(|k| numbers[i * n + k] * numbers[j * n + k]).sum();
            dot + if i == j { 0.1 } else { 0.0 }
        };
        (0..n * n).map(|at| entry(at / n, at % n)).collect()
    }

    proptest! {
        #[test]
        fn it_is_the_plain_factor_bit_by_bit_however_it_grew(
            numbers in prop::collection::vec(-1.0..1.0_f64, 900),
            n in 1_usize..30,
            stops in prop::collection::vec(0_usize..30, 0..4),
            right in prop::collection::vec(-1.0..1.0_f64, 30 * LANES),
        ) {
            let matrix = definite(&numbers, n);
            let mut plain = matrix.clone();
            prop_assert!(cholesky(&mut plain, n));
            let mut factor = Factor::default();
            for stop in stops.into_iter().filter(|stop| *stop < n).chain([n]) {
                prop_assert!(factor.extend(stop, |i, j| matrix[i * n + j]));
            }
            prop_assert_eq!(factor.len(), n);
            for i in 0..n {
                prop_assert_eq!(factor.row(i), &plain[i * n..=i * n + i]);
            }
            let mut lanes: Vec<[f64; LANES]> =
                (0..n).map(|i| std::array::from_fn(|lane| right[i * LANES + lane])).collect();
            let mut wide = lanes.clone();
            factor.solve_lower_lanes(&mut wide);
            solve_lower_plain(&factor.rows, &mut lanes);
            prop_assert_eq!(&wide, &lanes);
            for lane in 0..LANES {
                let mut expected: Vec<f64> = (0..n).map(|i| right[i * LANES + lane]).collect();
                let mut alone = expected.clone();
                solve_lower(&plain, n, &mut expected);
                factor.solve_lower(&mut alone);
                prop_assert_eq!(&alone, &expected);
                prop_assert!(wide.iter().zip(&expected).all(|(wide, one)| wide[lane] == *one));
                solve_upper(&plain, n, &mut expected);
                factor.solve_upper(&mut alone);
                prop_assert_eq!(&alone, &expected);
            }
            let logarithms: f64 = (0..n).map(|i| plain[i * n + i].ln()).sum();
            prop_assert_eq!(factor.log_diagonal(), logarithms);
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_is_reported() {
        let mut factor = Factor::default();
        let matrix = [[1.0, 0.0], [2.0, 1.0]];
        assert!(factor.extend(1, |i, j| matrix[i][j]));
        assert!(!factor.extend(2, |i, j| matrix[i][j]));
        factor.clear();
        assert_eq!(factor.len(), 0);
    }
}
