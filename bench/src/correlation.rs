//! Rank correlation: how far two figures agree on an order.

/// Kendall's tau-b (Kendall 1945), `-1..=1`; 0 if one of the two has only ties.
pub fn kendall(x: &[f64], y: &[f64]) -> f64 {
    let (mut agree, mut of_x, mut of_y) = (0i64, 0i64, 0i64);
    for i in 0..x.len() {
        for j in 0..i {
            let (a, b) = (sign(x[i], x[j]), sign(y[i], y[j]));
            agree += a * b;
            of_x += a.abs();
            of_y += b.abs();
        }
    }
    ratio(agree as f64, ((of_x as f64) * (of_y as f64)).sqrt())
}

/// Spearman's rho (Spearman 1904): the correlation of ranks, where ties share a rank. `-1..=1`; 0
/// if one of the two has only ties.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    let (x, y) = (ranks(x), ranks(y));
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len().max(1) as f64;
    let (mean_x, mean_y) = (mean(&x), mean(&y));
    let sum = |of: &dyn Fn(f64, f64) -> f64| {
        x.iter().zip(&y).map(|(a, b)| of(a - mean_x, b - mean_y)).sum::<f64>()
    };
    ratio(sum(&|a, b| a * b), (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt())
}

/// Spearman's correlation of `x` and `y` with `z` held fixed: the first-order partial correlation.
/// `None` if `z` alone determines the order of `x` or `y`.
pub fn partial_spearman(x: &[f64], y: &[f64], z: &[f64]) -> Option<f64> {
    let (xy, xz, yz) = (spearman(x, y), spearman(x, z), spearman(y, z));
    let rest = (1.0 - xz * xz) * (1.0 - yz * yz);
    (rest > 1e-9).then(|| (xy - xz * yz) / rest.sqrt())
}

fn sign(a: f64, b: f64) -> i64 {
    match a.total_cmp(&b) {
        _ if a == b => 0,
        std::cmp::Ordering::Less => -1,
        _ => 1,
    }
}

/// Ranks from 1. Equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn correlations_match_hand_computed_values() {
        let x = [1.0, 2.0, 3.0, 4.0];
        assert!(close(kendall(&x, &x), 1.0) && close(spearman(&x, &x), 1.0));
        let turned = [9.0, 7.0, 5.0, 3.0];
        assert!(close(kendall(&x, &turned), -1.0) && close(spearman(&x, &turned), -1.0));
        // One of six pairs has the opposite order.
        let swapped = [1.0, 3.0, 2.0, 4.0];
        assert!(close(kendall(&x, &swapped), 4.0 / 6.0));
        // 1 - 6 · 2 / (4 · 15).
        assert!(close(spearman(&x, &swapped), 0.8));
    }

    #[test]
    fn ties_count_for_neither_side() {
        let (x, y) = ([1.0, 1.0, 2.0], [1.0, 2.0, 3.0]);
        assert!(close(kendall(&x, &y), 2.0 / 6f64.sqrt()));
        // Ranks 1.5, 1.5, 3 and 1, 2, 3.
        assert!(close(spearman(&x, &y), 1.5 / (1.5f64 * 2.0).sqrt()));
        assert_eq!((kendall(&[1.0; 3], &y), spearman(&[1.0; 3], &y)), (0.0, 0.0));
    }

    #[test]
    fn partial_correlation_removes_what_a_third_figure_explains() {
        let z = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let x = [2.0, 1.0, 3.0, 4.0, 6.0, 5.0];
        let y = [1.0, 2.0, 4.0, 3.0, 5.0, 6.0];
        let (xy, xz, yz) = (spearman(&x, &y), spearman(&x, &z), spearman(&y, &z));
        let by_hand = (xy - xz * yz) / ((1.0 - xz * xz) * (1.0 - yz * yz)).sqrt();
        assert!(close(partial_spearman(&x, &y, &z).unwrap(), by_hand));
        assert!(by_hand < 0.0 && xy > 0.8);
        assert_eq!(partial_spearman(&z, &y, &z), None);
    }
}
