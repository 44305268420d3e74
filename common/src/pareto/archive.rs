//! A Pareto front that is kept up to date as points arrive.
//!
//! An [`Archive`] holds exactly the points that [`front`](super::front) would return for all points
//! inserted so far, each with a payload of the caller's, such as a trial's number. Dominated points
//! are dropped for good and members cannot be removed. For the ranks behind the first, use
//! [`fronts`](super::fronts).

use std::collections::VecDeque;

use super::dominates;
use super::staircase::{Staircase, compare};

/// Points that do not dominate each other, each with a payload. Less is better in every coordinate.
/// All copies of equal points are kept.
///
/// With up to two objectives, the members are a staircase in a balanced tree. It stays short: about
/// ln n members for n random points (Bentley, Kung, Schkolnick and Thompson 1978, "On the Average
/// Number of Maxima in a Set of Vectors"). With three or more, they are a list in ascending first
/// objective, which [`insert`](Self::insert) scans.
#[derive(Debug, Clone)]
pub struct Archive<T> {
    objectives: usize,
    len: usize,
    /// The members with up to two objectives. Equal points share one step, in order of insertion.
    stairs: Staircase<Vec<Member<T>>>,
    /// The members with three or more objectives, by ascending first objective, then by insertion.
    list: Vec<Member<T>>,
    /// Points with three or more objectives that dominated others, the last one first. They may
    /// have been dropped since, by a point that dominates all that they dominate.
    dominators: VecDeque<Vec<f64>>,
}

/// How many of the last dominators are kept.
const DOMINATORS: usize = 16;

#[derive(Debug, Clone)]
struct Member<T> {
    point: Vec<f64>,
    payload: T,
}

impl<T> Archive<T> {
    /// An empty archive of points with this number of objectives.
    pub fn new(objectives: usize) -> Self {
        Self {
            objectives,
            len: 0,
            stairs: Staircase::new(),
            list: Vec::new(),
            dominators: VecDeque::new(),
        }
    }

    /// Inserts a point and drops the members that it dominates. If a member dominates the point,
    /// drops the point instead and returns `false`.
    ///
    /// With up to two objectives: O(log k) amortised, where k is the number of members. With three
    /// or more: O(k) at worst. The scan stops at the first member that dominates the point, and
    /// only members that are no worse in the first objective are compared.
    ///
    /// # Panics
    ///
    /// If the point's number of coordinates differs from the archive's, or if a coordinate is NaN.
    /// A NaN neither dominates nor is dominated, so it would stay for ever.
    pub fn insert(&mut self, point: Vec<f64>, payload: T) -> bool {
        assert_eq!(point.len(), self.objectives, "a point of another number of objectives");
        assert!(!point.iter().any(|v| v.is_nan()), "a point with a NaN: {point:?}");
        let member = Member { point, payload };
        match self.objectives {
            0..=2 => self.insert_step(member),
            _ => self.insert_scanning(member),
        }
    }

    /// The members, by ascending first objective, then by insertion.
    pub fn iter(&self) -> impl Iterator<Item = (&[f64], &T)> {
        let steps = self.stairs.values().flatten();
        // At least one of the two is empty.
        steps.chain(&self.list).map(|member| (member.point.as_slice(), &member.payload))
    }

    /// Number of members. Each of several equal points counts.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the archive has no members.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn insert_step(&mut self, member: Member<T>) -> bool {
        // Missing coordinates are equal in all points.
        let coordinate = |i: usize| member.point.get(i).copied().unwrap_or(0.0);
        let (x, y) = (coordinate(0), coordinate(1));
        if self.stairs.covers(x, y) {
            // The point is covered. It is still not dominated if it equals the step at its own
            // place.
            match self.stairs.at_mut(x) {
                Some(step) if step.y == y => step.value.push(member),
                _ => return false,
            }
        } else {
            while let Some((_, step)) = self.stairs.pop_covered(x, y) {
                self.len -= step.value.len();
            }
            self.stairs.put(x, y, vec![member]);
        }
        self.len += 1;
        true
    }

    fn insert_scanning(&mut self, member: Member<T>) -> bool {
        if let Some(at) = self.dominators.iter().position(|d| dominates(d, &member.point)) {
            self.dominators.swap(0, at);
            return false;
        }
        let x = member.point[0];
        // Members that dominate it are no worse in the first objective; members that it dominates
        // are no better.
        let no_worse = self.list.partition_point(|m| compare(m.point[0], x).is_le());
        if let Some(by) = self.list[..no_worse].iter().find(|m| dominates(&m.point, &member.point))
        {
            self.dominators.truncate(DOMINATORS - 1);
            self.dominators.push_front(by.point.clone());
            return false;
        }
        let better = self.list.partition_point(|m| compare(m.point[0], x).is_lt());
        let mut index = 0;
        self.list.retain(|m| {
            index += 1;
            index <= better || !dominates(&member.point, &m.point)
        });
        let place = self.list.partition_point(|m| compare(m.point[0], x).is_le());
        self.list.insert(place, member);
        self.len = self.list.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::front;
    use super::super::tests::grid;
    use super::*;

    /// The members' payloads after inserting the points in this order. Checks each return value.
    fn kept(set: &[Vec<f64>], order: &[usize], objectives: usize) -> Vec<usize> {
        let mut archive = Archive::new(objectives);
        for (done, &i) in order.iter().enumerate() {
            let dominated = order[..done].iter().any(|&k| dominates(&set[k], &set[i]));
            assert_eq!(archive.insert(set[i].clone(), i), !dominated);
            assert_eq!(archive.len(), archive.iter().count());
        }
        assert_eq!(archive.is_empty(), set.is_empty());
        for (point, &i) in archive.iter() {
            assert_eq!(point, set[i]);
        }
        archive.iter().map(|(_, &i)| i).collect()
    }

    /// A set on a grid and an order to insert it in.
    fn shuffled(
        objectives: usize,
        cells: u8,
        most: usize,
    ) -> impl Strategy<Value = (Vec<Vec<f64>>, Vec<usize>)> {
        grid(objectives, cells, most).prop_flat_map(|set| {
            let order: Vec<usize> = (0..set.len()).collect();
            (Just(set), Just(order).prop_shuffle())
        })
    }

    proptest! {
        #[test]
        fn the_archive_equals_the_front_in_any_order_of_insertion(
            sets in (shuffled(0, 1, 4), shuffled(1, 6, 12), shuffled(2, 6, 30), shuffled(2, 30, 60),
                shuffled(3, 5, 40), shuffled(4, 4, 40))
        ) {
            let (none, one, two, more, three, four) = sets;
            for (objectives, (set, order)) in
                [(0, none), (1, one), (2, two), (2, more), (3, three), (4, four)]
            {
                let members = kept(&set, &order, objectives);
                let mut sorted = members.clone();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, front(&set));
                // Sorted by ascending first objective, then by insertion.
                let place = |i: &usize| order.iter().position(|k| k == i);
                let first = |i: usize| set[i].first().copied().unwrap_or(0.0);
                for pair in members.windows(2) {
                    let by_first = first(pair[0]).total_cmp(&first(pair[1]));
                    prop_assert!(by_first.then(place(&pair[0]).cmp(&place(&pair[1]))).is_lt());
                }
            }
        }
    }

    #[test]
    fn one_point_may_remove_many_and_infinities_are_allowed() {
        let mut archive = Archive::new(2);
        for i in 0..100 {
            assert!(archive.insert(vec![f64::from(i), f64::from(100 - i)], i));
        }
        assert!(archive.insert(vec![10.0, 5.0], 100));
        assert_eq!(archive.len(), 15);
        assert!(archive.insert(vec![f64::INFINITY, f64::NEG_INFINITY], 101));
        assert!(!archive.insert(vec![f64::INFINITY, 0.0], 102));
        assert!(archive.insert(vec![f64::NEG_INFINITY; 2], 103));
        assert_eq!(archive.iter().map(|(_, i)| *i).collect::<Vec<_>>(), [103]);
    }

    #[test]
    fn the_two_zeros_are_equal_in_an_archive() {
        for tail in [vec![], vec![5.0]] {
            let with = |head: [f64; 2]| [head.as_slice(), &tail].concat();
            let mut archive = Archive::new(2 + tail.len());
            assert!(archive.insert(with([-0.0, 1.0]), 0));
            assert!(archive.insert(with([0.0, 1.0]), 1));
            assert!(!archive.insert(with([-0.0, 2.0]), 2));
            assert!(archive.insert(with([0.0, 0.5]), 3));
            assert_eq!(archive.len(), 1);
        }
    }

    #[test]
    #[should_panic(expected = "NaN")]
    fn a_nan_is_rejected() {
        Archive::new(2).insert(vec![0.0, f64::NAN], ());
    }
}
