//! Averages many runs of unequal length into one curve, and computes mean and deviation.

/// Mean and sample standard deviation (0 for a single value).
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

/// Mean and standard deviation of shares, as a text in percent.
pub fn percent(values: impl Iterator<Item = f64>) -> String {
    let (mean, deviation) = mean_and_deviation(&values.collect::<Vec<f64>>());
    format!("{:.2}±{:.2}", mean * 100.0, deviation * 100.0)
}

/// Mean and deviation over runs after each look-up. A run that ended earlier keeps its last value.
pub fn average(runs: &[Vec<f64>]) -> Vec<(f64, f64)> {
    let longest = runs.iter().map(Vec::len).max().unwrap_or(0);
    let at = |place: usize| {
        let values: Vec<f64> =
            runs.iter().filter_map(|run| run.get(place).or(run.last()).copied()).collect();
        mean_and_deviation(&values)
    };
    (0..longest).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_ended_keep_their_last_value() {
        let curve = average(&[vec![4.0, 2.0], vec![2.0], vec![]]);
        assert_eq!(curve.len(), 2);
        assert_eq!(curve[0].0, 3.0);
        assert_eq!(curve[1], (2.0, 0.0));
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, 2.0_f64.sqrt()));
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
    }
}
