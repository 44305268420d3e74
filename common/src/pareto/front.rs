//! The non-dominated points of a set, its ranks by non-dominated sorting, and crowding.
//!
//! These functions take all points at once and return indices into them. For a set that grows, use
//! [`Archive`](super::Archive).

use super::dominates;
use super::staircase::{Staircase, compare, coordinates};

/// Indices of the points that no other point dominates, ascending. All copies of equal points are
/// kept.
///
/// O(n log n) for up to three objectives (Kung, Luccio and Preparata 1975, "On Finding the Maxima
/// of a Set of Vectors"), O(n log n + n·k) for more, where k is the size of the front.
pub fn front(points: &[Vec<f64>]) -> Vec<usize> {
    let order = lexicographic(points);
    let mut kept = match points.first().map_or(0, Vec::len) {
        0..=2 => planar(points, &order),
        3 => spatial(points, &order),
        _ => scanned(points, &order),
    };
    kept.sort_unstable();
    kept
}

/// Non-dominated sorting (Deb et al. 2002): indices by rank, best first; every point is in exactly
/// one rank. O(n²) in time and, at worst, in memory.
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

/// Indices in lexicographic order. In this order only earlier points can dominate later ones. Equal
/// points keep the order given.
fn lexicographic(points: &[Vec<f64>]) -> Vec<usize> {
    // The first coordinate is stored beside the index. It decides nearly every comparison, and
    // looking up the point would take most of the time in large sets.
    let first = |point: &Vec<f64>| point.first().copied().unwrap_or(0.0);
    let mut order: Vec<(f64, usize)> =
        points.iter().enumerate().map(|(i, point)| (first(point), i)).collect();
    order.sort_by(|&(x, a), &(y, b)| {
        compare(x, y).then_with(|| coordinates(&points[a]).cmp(coordinates(&points[b])))
    });
    order.into_iter().map(|(_, i)| i).collect()
}

/// Up to two objectives, in lexicographic order. The last point kept has the lowest second
/// coordinate so far, so it dominates everything that an earlier point dominates.
fn planar(points: &[Vec<f64>], order: &[usize]) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for &i in order {
        if !kept.last().is_some_and(|&k| dominates(&points[k], &points[i])) {
            kept.push(i);
        }
    }
    kept
}

/// Three objectives, in lexicographic order. The first coordinate is never better than an earlier
/// point's, so the other two decide. They are compared with the staircase of the points kept.
fn spatial(points: &[Vec<f64>], order: &[usize]) -> Vec<usize> {
    let mut stairs = Staircase::new();
    let mut kept: Vec<usize> = Vec::new();
    for &i in order {
        let (y, z) = (points[i][1], points[i][2]);
        // Equal points follow one another.
        if kept.last().is_some_and(|&k| points[k] == points[i]) {
            kept.push(i);
        } else if !stairs.covers(y, z) {
            while stairs.pop_covered(y, z).is_some() {}
            stairs.put(y, z, ());
            kept.push(i);
        }
    }
    kept
}

/// Any number of objectives, in lexicographic order.
fn scanned(points: &[Vec<f64>], order: &[usize]) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for &i in order {
        if !kept.iter().any(|&k| dominates(&points[k], &points[i])) {
            kept.push(i);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::grid;
    use super::*;

    fn naive(set: &[Vec<f64>]) -> Vec<usize> {
        (0..set.len()).filter(|&i| !set.iter().any(|other| dominates(other, &set[i]))).collect()
    }

    proptest! {
        #[test]
        fn the_front_is_what_nothing_dominates(
            sets in (grid(1, 8, 14), grid(2, 8, 14), grid(3, 8, 14), grid(3, 3, 40), grid(4, 4, 30))
        ) {
            for set in [sets.0, sets.1, sets.2, sets.3, sets.4] {
                prop_assert_eq!(front(&set), naive(&set));
            }
        }

        #[test]
        fn every_point_is_in_exactly_one_rank(set in grid(3, 8, 14)) {
            let ranks = fronts(&set);
            prop_assert_eq!(ranks.first().cloned().unwrap_or_default(), naive(&set));
            prop_assert_eq!(ranks.iter().map(Vec::len).sum::<usize>(), set.len());
            for pair in ranks.windows(2) {
                for &worse in &pair[1] {
                    prop_assert!(pair[0].iter().any(|&b| dominates(&set[b], &set[worse])));
                }
            }
        }
    }

    #[test]
    fn the_two_zeros_are_equal_on_a_front() {
        // Orienting an accuracy of zero gives negative zero.
        for tail in [vec![], vec![5.0], vec![5.0, 5.0]] {
            let with = |head: [f64; 2]| [head.as_slice(), &tail].concat();
            let set = [with([0.0, 1.0]), with([-0.0, 2.0]), with([-0.0, 1.0])];
            assert_eq!(front(&set), [0, 2]);
        }
    }

    #[test]
    fn points_without_objectives_are_all_equal() {
        assert_eq!(front(&[vec![], vec![]]), [0, 1]);
        assert!(front(&[]).is_empty());
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
}
