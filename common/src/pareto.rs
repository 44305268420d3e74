//! Pareto dominance, non-dominated sorting, crowding and hypervolume.
//!
//! Points are slices of objective values turned by [`oriented`] so that *less is better* in every
//! coordinate. Points of one call have equal length and no NaN.

use std::cmp::Ordering;

use crate::{Goal, Metric, Objective, TrialValues};

/// A trial's objective values, less is better; `None` where one was not measured.
pub fn oriented(objectives: &[Objective], values: &TrialValues) -> Option<Vec<f64>> {
    let turn = |objective: &Objective| {
        let value = values.value(objective.metric, objective.device.as_ref())?;
        Some(match objective.goal {
            Goal::Minimize => value,
            Goal::Maximize => -value,
        })
    };
    objectives.iter().map(turn).collect()
}

/// Whether `a` is at least as good as `b` everywhere and better somewhere.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(x, y)| x <= y) && a.iter().zip(b).any(|(x, y)| x < y)
}

/// Indices of the points that no other point dominates, in order. Equal points are all kept.
pub fn front(points: &[Vec<f64>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    // In lexicographic order only earlier points can dominate later ones.
    order.sort_by(|&a, &b| lexicographic(&points[a], &points[b]));
    let mut kept: Vec<usize> = Vec::new();
    for i in order {
        if !kept.iter().any(|&k| dominates(&points[k], &points[i])) {
            kept.push(i);
        }
    }
    kept.sort_unstable();
    kept
}

/// Non-dominated sorting (Deb et al. 2002): indices by rank, best first; every point is in exactly
/// one rank.
pub fn fronts(points: &[Vec<f64>]) -> Vec<Vec<usize>> {
    let n = points.len();
    let mut beaten_by = vec![0_usize; n];
    let mut beats = vec![Vec::new(); n];
    for a in 0..n {
        for b in 0..n {
            if dominates(&points[a], &points[b]) {
                beats[a].push(b);
                beaten_by[b] += 1;
            }
        }
    }
    let mut ranks = Vec::new();
    let mut current: Vec<usize> = (0..n).filter(|&i| beaten_by[i] == 0).collect();
    while !current.is_empty() {
        let mut next = Vec::new();
        for &a in &current {
            for &b in &beats[a] {
                beaten_by[b] -= 1;
                if beaten_by[b] == 0 {
                    next.push(b);
                }
            }
        }
        next.sort_unstable();
        ranks.push(std::mem::replace(&mut current, next));
    }
    ranks
}

/// Crowding distance of each point among `points` (Deb et al. 2002): the sum over objectives of the
/// gap between its neighbours, relative to the objective's range; infinite at the extremes.
pub fn crowding(points: &[Vec<f64>]) -> Vec<f64> {
    let mut distance = vec![0.0; points.len()];
    for objective in 0..points.first().map_or(0, Vec::len) {
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|&a, &b| points[a][objective].total_cmp(&points[b][objective]));
        let (first, last) = (order[0], order[order.len() - 1]);
        distance[first] = f64::INFINITY;
        distance[last] = f64::INFINITY;
        let range = points[last][objective] - points[first][objective];
        if range <= 0.0 {
            continue;
        }
        for w in order.windows(3) {
            distance[w[1]] += (points[w[2]][objective] - points[w[0]][objective]) / range;
        }
    }
    distance
}

/// Volume that `points` dominate within the box below `reference`, exact for any number of
/// objectives. A point that is not better than the reference everywhere adds nothing.
///
/// Slices along the last objective and recurses (Zitzler 1999, "HSO"); two objectives are a sweep.
/// Exponential in the number of objectives, fine for the few that studies have.
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
    // The best first coordinate so far is all that two objectives need.
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

/// The hypervolume that progress shows, between 0 and 1: every objective is mapped to `0..=1` by
/// fixed anchors (accuracy to its error; everything else to its logarithm between the metric's
/// [`anchors`]), and the reference is 1 everywhere. It depends on the set of points alone and never
/// falls when one is added.
pub fn study_hypervolume(objectives: &[Objective], points: &[Vec<f64>]) -> f64 {
    let map = |point: &Vec<f64>| -> Vec<f64> {
        let turned = objectives.iter().zip(point);
        turned.map(|(objective, value)| normalise(objective, *value)).collect()
    };
    let mapped: Vec<Vec<f64>> = points.iter().map(map).collect();
    let best: Vec<Vec<f64>> = front(&mapped).into_iter().map(|i| mapped[i].clone()).collect();
    hypervolume(&best, &vec![1.0; objectives.len()])
}

/// Values of a metric that count as ideal and as worthless in [`study_hypervolume`].
pub fn anchors(metric: Metric) -> (f64, f64) {
    match metric {
        Metric::ValidationAccuracy => (0.0, 1.0),
        Metric::LatencyMs => (1e-3, 1e4),
        Metric::ModelBytes => (1e2, 1e9),
        Metric::Macs => (1e2, 1e11),
        Metric::Parameters => (1e1, 1e9),
        Metric::PeakMemoryBytes => (1e1, 1e9),
    }
}

/// An oriented value as a share of the way from ideal to worthless.
fn normalise(objective: &Objective, oriented: f64) -> f64 {
    let value = match objective.goal {
        Goal::Minimize => oriented,
        Goal::Maximize => -oriented,
    };
    let (low, high) = anchors(objective.metric);
    let share = if objective.metric == Metric::ValidationAccuracy {
        value
    } else {
        (value.max(f64::MIN_POSITIVE) / low).ln() / (high / low).ln()
    };
    let cost = match objective.goal {
        Goal::Minimize => share,
        Goal::Maximize => 1.0 - share,
    };
    cost.clamp(0.0, 1.0)
}

fn lexicographic(a: &[f64], b: &[f64]) -> Ordering {
    let differs = |(x, y): (&f64, &f64)| x.total_cmp(y);
    a.iter().zip(b).map(differs).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(dimensions: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
        // A coarse grid, so that ties and equal points are common.
        let point = prop::collection::vec((0_u8..8).prop_map(|v| f64::from(v) / 8.0), dimensions);
        prop::collection::vec(point, 0..14)
    }

    /// Volume by counting grid cells: exact for points on the grid.
    fn counted(points: &[Vec<f64>], dimensions: usize) -> f64 {
        let cells = 8_usize.pow(dimensions as u32);
        let dominated = |cell: &usize| {
            let mut rest = *cell;
            let corner: Vec<f64> = (0..dimensions)
                .map(|_| {
                    let digit = rest % 8;
                    rest /= 8;
                    digit as f64 / 8.0
                })
                .collect();
            points.iter().any(|p| p.iter().zip(&corner).all(|(x, c)| x <= c))
        };
        (0..cells).filter(dominated).count() as f64 / cells as f64
    }

    proptest! {
        #[test]
        fn hypervolume_equals_counted_cells(two in points(2), three in points(3), four in points(4)) {
            for (set, d) in [(two, 2), (three, 3), (four, 4)] {
                let volume = hypervolume(&set, &vec![1.0; d]);
                prop_assert!((volume - counted(&set, d)).abs() < 1e-12);
            }
        }

        #[test]
        fn hypervolume_never_falls_and_ignores_order(set in points(3), more in points(3)) {
            let mut all = set.clone();
            all.extend(more);
            let reference = [1.0; 3];
            let whole = hypervolume(&all, &reference);
            prop_assert!(whole >= hypervolume(&set, &reference) - 1e-12);
            all.reverse();
            prop_assert!((hypervolume(&all, &reference) - whole).abs() < 1e-12);
        }

        #[test]
        fn the_front_is_what_nothing_dominates(set in points(3)) {
            let naive: Vec<usize> = (0..set.len())
                .filter(|&i| !set.iter().any(|other| dominates(other, &set[i])))
                .collect();
            prop_assert_eq!(front(&set), naive.clone());
            let ranks = fronts(&set);
            prop_assert_eq!(ranks.first().cloned().unwrap_or_default(), naive);
            prop_assert_eq!(ranks.iter().map(Vec::len).sum::<usize>(), set.len());
            for pair in ranks.windows(2) {
                for &worse in &pair[1] {
                    prop_assert!(pair[0].iter().any(|&b| dominates(&set[b], &set[worse])));
                }
            }
        }

        #[test]
        fn dominance_is_a_strict_partial_order(set in points(3)) {
            for a in &set {
                prop_assert!(!dominates(a, a));
                for b in &set {
                    prop_assert!(!(dominates(a, b) && dominates(b, a)));
                    for c in &set {
                        prop_assert!(!(dominates(a, b) && dominates(b, c)) || dominates(a, c));
                    }
                }
            }
        }
    }

    #[test]
    fn crowding_favours_extremes_and_gaps() {
        let set = vec![vec![0.0, 4.0], vec![1.0, 3.0], vec![2.0, 2.0], vec![4.0, 0.0]];
        let distance = crowding(&set);
        assert_eq!((distance[0], distance[3]), (f64::INFINITY, f64::INFINITY));
        assert_eq!(distance[1], 2.0 / 4.0 + 2.0 / 4.0);
        assert_eq!(distance[2], 3.0 / 4.0 + 3.0 / 4.0);
        assert!(crowding(&[]).is_empty());
        assert_eq!(crowding(&[vec![1.0]]), [f64::INFINITY]);
    }

    #[test]
    fn the_studys_hypervolume_is_between_its_anchors_and_never_falls() {
        let objectives =
            [(Metric::ValidationAccuracy, Goal::Maximize), (Metric::ModelBytes, Goal::Minimize)]
                .map(|(metric, goal)| Objective { metric, goal, device: None });
        let ideal = study_hypervolume(&objectives, &[vec![-1.0, 1.0]]);
        assert!((ideal - 1.0).abs() < 1e-12);
        assert_eq!(study_hypervolume(&objectives, &[vec![-0.0, 1e12]]), 0.0);
        let one = study_hypervolume(&objectives, &[vec![-0.9, 1e4]]);
        let two = study_hypervolume(&objectives, &[vec![-0.9, 1e4], vec![-0.95, 1e5]]);
        assert!(0.0 < one && one < two && two < 1.0);
    }
}
