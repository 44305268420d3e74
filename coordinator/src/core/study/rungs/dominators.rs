//! How many of the points so far dominate a given one, without a comparison with each of them.
//!
//! The points are kept in k-d trees (Bentley 1975, *Multidimensional Binary Search Trees Used for
//! Associative Searching*) of doubling sizes, which are merged as points arrive (Bentley & Saxe
//! 1980, *Decomposable Searching Problems*). A subtree whose box lies on one side of the given
//! point is counted at once. An arrival takes O(log² n), amortised. A count takes O(n^(1-1/d)) for
//! `d` objectives, and less where few boxes touch the border.

use super::tally;

/// Points below this number are compared one by one.
const LEAF: usize = 16;

/// The points of a rung. Less is better in every coordinate.
#[derive(Debug)]
pub(super) struct Dominators {
    objectives: usize,
    /// The latest points, fewer than [`LEAF`], one after the other.
    latest: Vec<f64>,
    /// Every tree is less than half as large as the one before it.
    trees: Vec<Tree>,
}

/// A k-d tree that does not change. The points of a subtree are neighbours, and the left half of
/// them is the left subtree.
#[derive(Debug)]
struct Tree {
    points: Vec<f64>,
    /// The least and the greatest coordinates of each subtree. The children of subtree `i` are
    /// `2·i + 1` and `2·i + 2`.
    boxes: Vec<f64>,
}

impl Dominators {
    /// Without points yet.
    pub(super) fn new(objectives: usize) -> Self {
        Self { objectives, latest: Vec::new(), trees: Vec::new() }
    }

    /// Adds a point.
    pub(super) fn add(&mut self, point: &[f64]) {
        self.latest.extend_from_slice(point);
        if self.latest.len() < LEAF * self.objectives {
            return;
        }
        let mut points = std::mem::take(&mut self.latest);
        while let Some(tree) = self.trees.pop_if(|tree| tree.points.len() <= points.len()) {
            points.extend(tree.points);
        }
        self.trees.push(Tree::new(points, self.objectives));
    }

    /// The number of points that dominate this one.
    pub(super) fn count(&self, point: &[f64]) -> usize {
        let trees = self.trees.iter().map(|tree| {
            tree.count(0, 0..tree.points.len() / self.objectives, point, self.objectives)
        });
        trees.sum::<usize>() + dominating(&self.latest, point)
    }
}

impl Tree {
    fn new(mut points: Vec<f64>, objectives: usize) -> Self {
        let mut boxes = Vec::new();
        let mut rows: Vec<&[f64]> = points.chunks_exact(objectives).collect();
        arrange(&mut rows, 0, 0, objectives, &mut boxes);
        points = rows.concat();
        Self { points, boxes }
    }

    /// The number of points that dominate `point` in the subtree `node`, which holds the points
    /// `range`.
    fn count(
        &self,
        node: usize,
        range: std::ops::Range<usize>,
        point: &[f64],
        objectives: usize,
    ) -> usize {
        tally::count(1);
        let (least, greatest) =
            self.boxes[2 * node * objectives..][..2 * objectives].split_at(objectives);
        if least.iter().zip(point).any(|(least, own)| least > own) {
            return 0;
        }
        if greatest.iter().zip(point).all(|(greatest, own)| greatest <= own) {
            // If it is less somewhere, then all points are less there. Points that equal the given
            // one do not dominate it.
            if greatest.iter().zip(point).any(|(greatest, own)| greatest < own) {
                return range.len();
            }
            if least == point {
                return 0;
            }
        }
        if range.len() <= LEAF {
            let points = &self.points[range.start * objectives..range.end * objectives];
            return dominating(points, point);
        }
        let middle = range.start.midpoint(range.end);
        self.count(2 * node + 1, range.start..middle, point, objectives)
            + self.count(2 * node + 2, middle..range.end, point, objectives)
    }
}

/// Puts points into the order of a tree, and notes the boxes of its subtrees.
fn arrange(rows: &mut [&[f64]], node: usize, axis: usize, objectives: usize, boxes: &mut Vec<f64>) {
    tally::count(rows.len());
    let end = 2 * (node + 1) * objectives;
    if boxes.len() < end {
        boxes.resize(end, 0.0);
    }
    for axis in 0..objectives {
        let values = rows.iter().map(|row| row[axis]);
        let (least, greatest) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, g), v| (l.min(v), g.max(v)));
        boxes[2 * node * objectives + axis] = least;
        boxes[(2 * node + 1) * objectives + axis] = greatest;
    }
    if rows.len() <= LEAF {
        return;
    }
    let middle = rows.len() / 2;
    rows.select_nth_unstable_by(middle, |a, b| a[axis].total_cmp(&b[axis]));
    let (left, right) = rows.split_at_mut(middle);
    let next = (axis + 1) % objectives;
    arrange(left, 2 * node + 1, next, objectives, boxes);
    arrange(right, 2 * node + 2, next, objectives, boxes);
}

/// The number of these points that dominate `point`.
fn dominating(points: &[f64], point: &[f64]) -> usize {
    let points = points.chunks_exact(point.len());
    tally::count(points.len());
    points.filter(|other| edgesmith_common::pareto::dominates(other, point)).count()
}

#[cfg(test)]
mod tests {
    use edgesmith_common::pareto;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_counts_as_a_comparison_with_every_point_does(
            points in prop::collection::vec([0_u8..9, 0_u8..9, 0_u8..9], 1..300),
            objectives in 1_usize..4,
        ) {
            // The two zeros are equal.
            let value = |v: &u8| if *v == 8 { -0.0 } else { f64::from(*v) };
            let points: Vec<Vec<f64>> = points
                .iter()
                .map(|point| point[..objectives].iter().map(value).collect())
                .collect();
            let mut dominators = Dominators::new(objectives);
            for (n, point) in points.iter().enumerate() {
                dominators.add(point);
                let probe = &points[n / 2];
                for probe in [point, probe] {
                    let naive = points[..=n].iter().filter(|p| pareto::dominates(p, probe)).count();
                    prop_assert_eq!(dominators.count(probe), naive);
                }
            }
        }
    }
}
