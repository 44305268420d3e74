//! The knee of a front: the point where giving up a little of one objective stops gaining much of
//! another.

/// The knee of points that do not dominate each other: the point farthest below the plane through
/// the front's ends, with each objective scaled by its range on the front (Das 1999, "On
/// Characterizing the 'Knee' of the Pareto Curve Based on Normal-Boundary Intersection"). The first
/// among equals. `None` if no point lies below that plane, for example with fewer than three
/// points, with one objective, or if the front bulges the other way. Less is better; NaN is not
/// allowed. O(n).
pub fn knee(points: &[Vec<f64>]) -> Option<usize> {
    let objectives = points.first()?.len();
    if points.len() < 3 || objectives < 2 {
        return None;
    }
    let ranges: Vec<(f64, f64)> = (0..objectives)
        .map(|axis| {
            let values = points.iter().map(|point| point[axis]);
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            })
        })
        .collect();
    let share = |(value, (low, high)): (&f64, &(f64, f64))| {
        if high > low { (value - low) / (high - low) } else { 0.0 }
    };
    // With two objectives, the scaled coordinates of each end sum to 1. With more, the plane
    // through the ends is the one where the sum is 1.
    let sums = points.iter().map(|point| point.iter().zip(&ranges).map(share).sum::<f64>());
    let (best, sum) = sums.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (sum < 1.0 - 1e-9).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_corner_whatever_the_units() {
        let front = [[0.0, 10.0], [1.0, 2.0], [3.0, 1.5], [10.0, 0.0]];
        for unit in [1.0, 1e6] {
            let points: Vec<Vec<f64>> = front.iter().map(|[x, y]| vec![x * unit, *y]).collect();
            assert_eq!(knee(&points), Some(1));
        }
        let three = [[0.0, 5.0, 5.0], [5.0, 0.0, 5.0], [5.0, 5.0, 0.0], [1.0, 1.0, 1.0]];
        assert_eq!(knee(&three.map(|p| p.to_vec())), Some(3));
    }

    #[test]
    fn straight_and_bulging_fronts_have_none() {
        let straight = [[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]];
        assert_eq!(knee(&straight.map(|p| p.to_vec())), None);
        let bulging = [[0.0, 2.0], [1.8, 1.8], [2.0, 0.0]];
        assert_eq!(knee(&bulging.map(|p| p.to_vec())), None);
        assert_eq!(knee(&[vec![0.0, 1.0], vec![1.0, 0.0]]), None);
        assert_eq!(knee(&[vec![0.0], vec![0.0], vec![0.0]]), None);
        assert_eq!(knee(&[]), None);
    }
}
