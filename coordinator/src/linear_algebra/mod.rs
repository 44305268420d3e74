//! Small dense systems of linear equations, in plain loops on row-major matrices. They have at most
//! a few hundred rows, so a library would cost more than it saves.

mod factor;

pub(crate) use self::factor::{Factor, LANES};

/// Cholesky factorization of a symmetric matrix, in place in its lower triangle. The upper triangle
/// is left as it was. Returns false if the matrix is not positive definite.
pub(crate) fn cholesky(matrix: &mut [f64], n: usize) -> bool {
    for i in 0..n {
        let (above, below) = matrix.split_at_mut(i * n);
        let row = &mut below[..n];
        for j in 0..i {
            let other = &above[j * n..j * n + j];
            let dot: f64 = row[..j].iter().zip(other).map(|(a, b)| a * b).sum();
            row[j] = (row[j] - dot) / above[j * n + j];
        }
        let squares: f64 = row[..i].iter().map(|v| v * v).sum();
        let pivot = row[i] - squares;
        if pivot <= 1e-12 {
            return false;
        }
        row[i] = pivot.sqrt();
    }
    true
}

/// Solves `L·x = b` in place.
pub(crate) fn solve_lower(factor: &[f64], n: usize, b: &mut [f64]) {
    for i in 0..n {
        let row = &factor[i * n..i * n + i];
        let dot: f64 = row.iter().zip(&*b).map(|(l, x)| l * x).sum();
        b[i] = (b[i] - dot) / factor[i * n + i];
    }
}

/// Solves `Lᵀ·x = b` in place.
pub(crate) fn solve_upper(factor: &[f64], n: usize, b: &mut [f64]) {
    for i in (0..n).rev() {
        b[i] /= factor[i * n + i];
        let x = b[i];
        for j in 0..i {
            b[j] -= factor[i * n + j] * x;
        }
    }
}

/// Solves `matrix·x = b` for any square matrix by Gaussian elimination with pivoting; `None` if it
/// is singular.
pub(crate) fn solve(mut matrix: Vec<f64>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for at in 0..n {
        let size = |row: usize| matrix[row * n + at].abs();
        let pivot = (at..n).max_by(|&p, &q| size(p).total_cmp(&size(q)))?;
        (0..n).for_each(|column| matrix.swap(at * n + column, pivot * n + column));
        b.swap(at, pivot);
        if matrix[at * n + at].abs() < 1e-12 {
            return None;
        }
        for row in at + 1..n {
            let factor = matrix[row * n + at] / matrix[at * n + at];
            (at..n).for_each(|column| {
                matrix[row * n + column] -= factor * matrix[at * n + column];
            });
            b[row] -= factor * b[at];
        }
    }
    for at in (0..n).rev() {
        let known: f64 = (at + 1..n).map(|i| matrix[at * n + i] * b[i]).sum();
        b[at] = (b[at] - known) / matrix[at * n + at];
    }
    Some(b)
}

/// The `x` without negative entries that minimises `xᵀ·gram·x / 2 - momentsᵀ·x`. That is
/// least squares with non-negative coefficients, given the normal equations `gram·x = moments`
/// (Lawson & Hanson, *Solving Least Squares Problems*, 1974, algorithm NNLS; on normal equations
/// Bro & De Jong 1997). `gram` must be positive definite, with a diagonal near 1.
pub(crate) fn nonnegative(gram: &[f64], moments: &[f64]) -> Vec<f64> {
    let n = moments.len();
    let mut x = vec![0.0; n];
    // Indices of the entries that may be above 0.
    let mut free: Vec<usize> = Vec::new();
    let tolerance = 1e-9 * moments.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    // Each round frees one entry, and rarely one becomes bound again. The number of rounds is
    // limited in case rounding errors make entries alternate.
    for _ in 0..3 * n {
        let slope = |j: usize| {
            let dot: f64 = gram[j * n..(j + 1) * n].iter().zip(&x).map(|(g, x)| g * x).sum();
            moments[j] - dot
        };
        let bound = (0..n).filter(|j| !free.contains(j)).map(|j| (j, slope(j)));
        let steepest = bound.max_by(|(_, a), (_, b)| a.total_cmp(b));
        let Some((entry, _)) = steepest.filter(|(_, slope)| *slope > tolerance) else { break };
        free.push(entry);
        while let Some(solution) = unbounded(gram, moments, &free) {
            // Moves towards the solution until the first entry reaches 0.
            let blocked = free.iter().zip(&solution).filter(|(_, to)| **to <= 0.0);
            let shares = blocked.map(|(&j, to)| (j, x[j] / (x[j] - to)));
            let Some((first, share)) = shares.min_by(|(_, a), (_, b)| a.total_cmp(b)) else {
                free.iter().zip(&solution).for_each(|(&j, to)| x[j] = *to);
                break;
            };
            // The entry is already 0 and would fall, so nothing moves and the entry is bound again.
            let share = if share.is_finite() { share } else { 0.0 };
            free.iter().zip(&solution).for_each(|(&j, to)| x[j] += share * (to - x[j]));
            x[first] = 0.0;
            free.retain(|&j| j != first);
        }
    }
    x
}

/// The solution over the `free` entries alone, in their order; `None` if there is none.
fn unbounded(gram: &[f64], moments: &[f64], free: &[usize]) -> Option<Vec<f64>> {
    let n = moments.len();
    let mut factor: Vec<f64> =
        free.iter().flat_map(|i| free.iter().map(move |j| gram[i * n + j])).collect();
    if !cholesky(&mut factor, free.len()) {
        return None;
    }
    let mut solution: Vec<f64> = free.iter().map(|&j| moments[j]).collect();
    solve_lower(&factor, free.len(), &mut solution);
    solve_upper(&factor, free.len(), &mut solution);
    Some(solution)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_matrix_that_is_not_positive_definite_is_reported() {
        assert!(!cholesky(&mut [1.0, 2.0, 2.0, 1.0], 2));
        let mut matrix = [4.0, 2.0, 2.0, 3.0];
        assert!(cholesky(&mut matrix, 2));
        assert_eq!(matrix[0], 2.0);
        assert_eq!(matrix[2], 1.0);
        assert!((matrix[3] - 2.0_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn dense_systems_are_solved_unless_they_are_singular() {
        // The first pivot is 0, so rows have to change places.
        let solution =
            solve(vec![0.0, 2.0, 1.0, 3.0, 0.0, 1.0, 1.0, 1.0, 1.0], vec![7.0, 6.0, 6.0]);
        for (found, expected) in solution.unwrap().iter().zip([1.0, 2.0, 3.0]) {
            assert!((found - expected).abs() < 1e-12);
        }
        assert_eq!(solve(vec![1.0, 1.0, 2.0, 2.0], vec![1.0, 1.0]), None);
    }

    #[test]
    fn a_coefficient_that_would_be_negative_is_0_and_the_others_are_fitted_again() {
        // Without the bound the solution is (2, -1); with it the first alone fits best at 1.5.
        let (gram, moments) = ([1.0, 0.5, 0.5, 1.0], [1.5, 0.0]);
        let near = |found: &[f64], expected: [f64; 2]| {
            let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-12, "{found:?} against {expected:?}");
        };
        near(&unbounded(&gram, &moments, &[0, 1]).unwrap(), [2.0, -1.0]);
        near(&nonnegative(&gram, &moments), [1.5, 0.0]);
        near(&nonnegative(&gram, &[-1.0, -1.0]), [0.0, 0.0]);
        near(&nonnegative(&gram, &[2.0, 2.5]), [1.0, 2.0]);
    }

    proptest! {
        /// The solution meets the Karush-Kuhn-Tucker conditions, which only the best one does.
        #[test]
        fn the_nonnegative_solution_is_the_best(
            rows in proptest::collection::vec(proptest::array::uniform5(-1.0..1.0f64), 5..30),
            targets in proptest::collection::vec(-1.0..1.0f64, 30),
        ) {
            let n = 5;
            let mut gram = vec![0.0; n * n];
            let mut moments = vec![0.0; n];
            for (row, target) in rows.iter().zip(&targets) {
                for i in 0..n {
                    moments[i] += row[i] * target;
                    (0..n).for_each(|j| gram[i * n + j] += row[i] * row[j]);
                }
            }
            (0..n).for_each(|i| gram[i * n + i] += 1e-3);
            let x = nonnegative(&gram, &moments);
            for i in 0..n {
                let dot: f64 = (0..n).map(|j| gram[i * n + j] * x[j]).sum();
                let slope = moments[i] - dot;
                prop_assert!(x[i] >= 0.0);
                prop_assert!(slope <= 1e-7, "{x:?}: more of {i} would be better, {slope}");
                prop_assert!(x[i] == 0.0 || slope.abs() <= 1e-7, "{x:?}: {i} is off, {slope}");
            }
        }
    }
}
