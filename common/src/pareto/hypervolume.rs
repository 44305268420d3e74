//! The hypervolume indicator: the volume of the space below a reference point that a set dominates.
//!
//! There is one exact algorithm per number of objectives: a sweep for two; a sweep for three with a
//! staircase of the other two; from four on, the exclusive volumes of WFG, which end in the sweep
//! for three. Nothing is sampled, and contributions of single points are not computed.
//!
//! All of them compute the same sum. Go through the points in ascending last objective. A point
//! adds (reference − its height) × (what it adds in the other objectives to the points before
//! it). No term is negative, and up to three objectives the only subtractions are between
//! coordinates. The order of adding depends only on the points, so a set gives the same bits in any
//! order and with any dominated points in it.

use super::staircase::{Staircase, compare, coordinates};

/// The volume that `points` dominate within the box below `reference`, in the product of the
/// objectives' units. Exact up to rounding for any number of objectives. Points that are not better
/// than the reference in every objective add nothing, and neither do dominated or repeated points,
/// so they need not be removed first. Infinite if the volume of a single point is infinite. Zero
/// for no objectives.
///
/// Up to three objectives O(n log n) (Beume, Fonseca, López-Ibáñez, Paquete and Vahrenhold 2009,
/// "On the Complexity of Computing the Hypervolume Indicator"). From four on, WFG (While,
/// Bradstreet and Barone 2012, "A Fast Way of Calculating Exact Hypervolumes"): O(n² log n) for
/// four, and at worst exponential in the number of objectives.
///
/// # Panics
///
/// If a point has fewer coordinates than the reference.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let inside = |p: &&[f64]| p.iter().zip(reference).all(|(x, r)| x < r);
    let points: Vec<&[f64]> = points.iter().map(Vec::as_slice).filter(inside).collect();
    // After this check every box and every difference of boxes is finite. No side is zero, but a
    // product of tiny sides may round to zero, and zero times an infinite side is NaN.
    if points.iter().any(|p| !box_volume(p, reference).is_finite()) {
        return f64::INFINITY;
    }
    match *reference {
        [] => 0.0,
        [x] => points.iter().map(|p| x - p[0]).fold(0.0, f64::max),
        [x, y] => planar(points.into_iter().map(corner).collect(), [x, y]),
        [x, y, z] => spatial(&mut points.into_iter().map(corner).collect::<Vec<_>>(), [x, y, z]),
        _ => wfg(points.into_iter().map(|p| p[..reference.len()].to_vec()).collect(), reference),
    }
}

/// Two objectives: in ascending first objective, each point adds a rectangle below the lowest
/// second objective so far.
fn planar(mut points: Vec<[f64; 2]>, [right, top]: [f64; 2]) -> f64 {
    points.sort_unstable_by(|a, b| compare(a[0], b[0]).then_with(|| compare(a[1], b[1])));
    let mut lowest = top;
    let mut area = 0.0;
    for [x, y] in points {
        if y < lowest {
            area += (right - x) * (lowest - y);
            lowest = y;
        }
    }
    area
}

/// Three objectives: in ascending third objective, each point adds the area that the staircase of
/// the other two gains. Every point enters and leaves the staircase at most once. Sorts the points
/// in place.
fn spatial(points: &mut [[f64; 3]], [right, top, ceiling]: [f64; 3]) -> f64 {
    points.sort_unstable_by(|a, b| {
        let in_plane = || compare(a[0], b[0]).then_with(|| compare(a[1], b[1]));
        compare(a[2], b[2]).then_with(in_plane)
    });
    let mut stairs = Staircase::new();
    let mut volume = 0.0;
    for &[x, y, z] in &*points {
        let mut height = stairs.until(x).map_or(top, |(_, step)| step.y);
        if height <= y {
            continue;
        }
        let mut area = 0.0;
        let mut left = x;
        while let Some((beaten, step)) = stairs.pop_covered(x, y) {
            area += (beaten - left) * (height - y);
            (left, height) = (beaten, step.y);
        }
        let end = stairs.from(x).map_or(right, |(next, _)| next);
        area += (end - left) * (height - y);
        stairs.put(x, y, ());
        volume += area * (ceiling - z);
    }
    volume
}

/// Four or more objectives: in ascending last objective, each point adds its exclusive volume in
/// the others.
fn wfg(points: Vec<Vec<f64>>, reference: &[f64]) -> f64 {
    let last = reference.len() - 1;
    let points = undominated(points);
    let mut volume = 0.0;
    for (i, point) in points.iter().enumerate() {
        let added = exclusive(&point[..last], &points[..i], &reference[..last]);
        volume += (reference[last] - point[last]) * added;
    }
    volume
}

/// The volume that a point dominates and `others` do not: its box minus the part of it that they
/// dominate. Within its box, each of the others counts as its worse coordinates (WFG's limit set),
/// so most of them dominate one another there and drop out.
fn exclusive(point: &[f64], others: &[Vec<f64>], reference: &[f64]) -> f64 {
    let limit = |other: &Vec<f64>| point.iter().zip(other).map(|(p, o)| p.max(*o)).collect();
    let shared = if let &[x, y, z] = reference {
        let limit = |other: &Vec<f64>| std::array::from_fn(|i| point[i].max(other[i]));
        spatial(&mut others.iter().map(limit).collect::<Vec<_>>(), [x, y, z])
    } else {
        wfg(others.iter().map(limit).collect(), reference)
    };
    // The difference of two rounded values may be slightly negative.
    (box_volume(point, reference) - shared).max(0.0)
}

/// Drops every point for which another one is at least as good, and keeps one copy of equal points.
/// Sorted by ascending last objective.
fn undominated(mut points: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    // Sorted from the last coordinate on, so that only earlier points can be at least as good as
    // later ones.
    points.sort_unstable_by(|a, b| coordinates(a).rev().cmp(coordinates(b).rev()));
    let mut kept: Vec<Vec<f64>> = Vec::new();
    for point in points {
        let covers = |other: &Vec<f64>| other.iter().zip(&point).all(|(x, y)| x <= y);
        if !kept.iter().any(covers) {
            kept.push(point);
        }
    }
    kept
}

/// The volume between a point and the reference.
fn box_volume(point: &[f64], reference: &[f64]) -> f64 {
    point.iter().zip(reference).map(|(x, r)| r - x).product()
}

fn corner<const N: usize>(point: &[f64]) -> [f64; N] {
    std::array::from_fn(|i| point[i])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::slicing;
    use super::super::tests::grid;
    use super::*;

    /// The volume by counting grid cells. Exact for points on the grid.
    fn counted(points: &[Vec<f64>], dimensions: usize, per_side: usize) -> f64 {
        let cells = per_side.pow(dimensions as u32);
        let dominated = |cell: &usize| {
            let mut rest = *cell;
            let corner: Vec<f64> = (0..dimensions)
                .map(|_| {
                    let digit = rest % per_side;
                    rest /= per_side;
                    digit as f64 / per_side as f64
                })
                .collect();
            points.iter().any(|p| p.iter().zip(&corner).all(|(x, c)| x <= c))
        };
        (0..cells).filter(dominated).count() as f64 / cells as f64
    }

    /// Real-valued sets, partly outside the unit box.
    fn real(dimensions: usize, most: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
        prop::collection::vec(prop::collection::vec(-0.5..1.1_f64, dimensions), 0..most)
    }

    /// Sets in which few points dominate another: on the unit sphere, seen from outside.
    fn spherical(dimensions: usize, most: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
        let point = prop::collection::vec(0.01..1.0_f64, dimensions).prop_map(|v| {
            let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
            v.into_iter().map(|x| 1.0 - x / norm).collect()
        });
        prop::collection::vec(point, 0..most)
    }

    proptest! {
        #[test]
        fn hypervolume_equals_counted_cells(
            sets in (grid(1, 8, 14), grid(2, 8, 14), grid(3, 8, 14), grid(4, 8, 14), grid(5, 4, 20))
        ) {
            let (one, two, three, four, five) = sets;
            for (set, d, cells) in
                [(one, 1, 8), (two, 2, 8), (three, 3, 8), (four, 4, 8), (five, 5, 4)]
            {
                let volume = hypervolume(&set, &vec![1.0; d]);
                prop_assert!((volume - counted(&set, d, cells)).abs() < 1e-12);
            }
        }

        #[test]
        fn hypervolume_equals_slicing(
            loose in (real(1, 20), real(2, 40), real(3, 40), real(4, 24), real(5, 14), real(6, 8)),
            tight in (spherical(2, 40), spherical(3, 40), spherical(4, 24), spherical(5, 12)),
        ) {
            let (a, b, c, d, e, f) = loose;
            for set in [a, b, c, d, e, f, tight.0, tight.1, tight.2, tight.3] {
                let reference = vec![1.0; set.first().map_or(3, Vec::len)];
                let slow = slicing::hypervolume(&set, &reference);
                prop_assert!((hypervolume(&set, &reference) - slow).abs() <= 1e-12 * (1.0 + slow));
            }
        }

        #[test]
        fn hypervolume_never_falls_and_ignores_order(
            sets in (grid(3, 8, 14), real(3, 20), grid(4, 8, 14), real(4, 14)),
            more in (grid(3, 8, 14), real(3, 20), grid(4, 8, 14), real(4, 14)),
        ) {
            let sets = [(sets.0, more.0), (sets.1, more.1), (sets.2, more.2), (sets.3, more.3)];
            for ((set, more), d) in sets.into_iter().zip([3, 3, 4, 4]) {
                let reference = vec![1.0; d];
                let mut all = [set.clone(), more].concat();
                let whole = hypervolume(&all, &reference);
                prop_assert!(whole >= hypervolume(&set, &reference) - 1e-12);
                all.reverse();
                prop_assert_eq!(hypervolume(&all, &reference), whole);
                // Neither the order nor dominated points change a single bit.
                let best = super::super::front(&all);
                let best: Vec<Vec<f64>> = best.into_iter().map(|i| all[i].clone()).collect();
                prop_assert_eq!(hypervolume(&best, &reference), whole);
            }
        }
    }

    #[test]
    fn a_larger_front_of_each_kind_agrees_with_slicing() {
        // A spiral over the sphere has many steps at once, unlike a few random points.
        for (d, n) in [(2, 300), (3, 300), (4, 60), (5, 24)] {
            let point = |i: usize| -> Vec<f64> {
                let raw: Vec<f64> =
                    (0..d).map(|j| 0.05 + ((i * (2 * j + 3)) as f64 * 0.618).sin().abs()).collect();
                let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
                raw.into_iter().map(|x| 1.0 - x / norm).collect()
            };
            let set: Vec<Vec<f64>> = (0..n).map(point).collect();
            let reference = vec![1.0; d];
            let slow = slicing::hypervolume(&set, &reference);
            assert!((hypervolume(&set, &reference) - slow).abs() < 1e-12);
        }
    }

    #[test]
    fn empty_infinite_and_huge_inputs_are_handled() {
        assert_eq!(hypervolume(&[], &[1.0, 1.0, 1.0, 1.0]), 0.0);
        assert_eq!(hypervolume(&[vec![]], &[]), 0.0);
        for d in 1..6 {
            let reference = vec![1.0; d];
            // On the reference, beyond it, or NaN: adds nothing.
            for outside in [1.0, 2.0, f64::INFINITY, f64::NAN] {
                let mut point = vec![0.0; d];
                point[d - 1] = outside;
                assert_eq!(hypervolume(&[point], &reference), 0.0);
            }
            assert_eq!(
                hypervolume(&[vec![0.5; d], vec![0.5; d]], &reference),
                0.5_f64.powi(d as i32)
            );
            let endless = vec![f64::NEG_INFINITY; d];
            assert_eq!(hypervolume(&[endless.clone(), endless], &reference), f64::INFINITY);
            assert_eq!(hypervolume(&[vec![0.0; d]], &vec![f64::INFINITY; d]), f64::INFINITY);
            // Infinite even if the product of the other sides rounds to zero.
            let mut needle = vec![-1e-300; d];
            needle[d - 1] = f64::NEG_INFINITY;
            assert_eq!(hypervolume(&[needle], &vec![0.0; d]), f64::INFINITY);
            // Boxes too large for an `f64`, alone or summed, are infinite and never NaN.
            let large = [vec![-1e300; d], vec![-1.7e308; d]];
            let finite = d == 1;
            assert_eq!(hypervolume(&large, &reference).is_finite(), finite);
            assert!(!hypervolume(&large, &reference).is_nan());
        }
    }
}
