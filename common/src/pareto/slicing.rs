//! Hypervolume by slicing along the last objective (Zitzler 1999, "HSO"): short, slow and easy to
//! check. Tests and `examples/front_speed.rs` compare the fast algorithms with it. It is not part
//! of the library.

/// Volume that `points` dominate within the box below `reference`. O(n^(d-1) log n).
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let inside = |p: &&Vec<f64>| p.iter().zip(reference).all(|(x, r)| x < r);
    let points: Vec<&[f64]> = points.iter().filter(inside).map(Vec::as_slice).collect();
    slice(points, reference)
}

fn slice(mut points: Vec<&[f64]>, reference: &[f64]) -> f64 {
    let Some(last) = reference.len().checked_sub(1) else { return 0.0 };
    points.sort_by(|a, b| a[last].total_cmp(&b[last]));
    if last == 0 {
        return points.first().map_or(0.0, |best| reference[0] - best[0]);
    }
    let mut volume = 0.0;
    // Two objectives need only the best first coordinate so far.
    let mut widest = 0.0_f64;
    for i in 0..points.len() {
        let until = points.get(i + 1).map_or(reference[last], |next| next[last]);
        let height = until - points[i][last];
        widest = widest.max(reference[0] - points[i][0]);
        if height <= 0.0 {
            continue;
        }
        volume += height
            * if last == 1 {
                widest
            } else {
                let below = points[..=i].iter().map(|p| &p[..last]).collect();
                slice(below, &reference[..last])
            };
    }
    volume
}
