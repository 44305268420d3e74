//! Numbers in ascending order, each with a mark whether its trial waits. A [`Ranking`] answers
//! which number has a given rank and which waiting trial ranks first, each in O(log n).
//!
//! It is a treap (Seidel & Aragon 1996, *Randomized Search Trees*) whose nodes count those below
//! them. The priorities are a hash of the order of arrival, so nothing is random, and the shape of
//! the tree does not depend on when the questions are asked. Numbers are never removed.

use std::cmp::Ordering;

use super::tally;

/// Numbers that are not NaN, in ascending order; the earlier of two equal numbers comes first.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Ranking {
    /// In order of arrival.
    nodes: Vec<Node>,
    root: Link,
}

/// A node's place in [`Ranking::nodes`]; `None` where a subtree is empty.
type Link = Option<u32>;

#[derive(Debug, Clone, PartialEq)]
struct Node {
    value: f64,
    waits: bool,
    left: Link,
    right: Link,
    /// Number of nodes in the subtree that begins here.
    size: u32,
    /// Number of waiting ones among them.
    waiting: u32,
}

impl Ranking {
    /// Number of all numbers.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Adds a number, whose trial waits or does not. Returns its place in the order of arrival.
    /// O(log n).
    pub(super) fn insert(&mut self, value: f64, waits: bool) -> usize {
        let place = self.nodes.len();
        let waiting = u32::from(waits);
        self.nodes.push(Node { value, waits, left: None, right: None, size: 1, waiting });
        self.root = Some(self.inserted(self.root, place as u32));
        place
    }

    /// Whether the trial at this place waits.
    pub(super) fn waits(&self, place: usize) -> bool {
        self.nodes[place].waits
    }

    /// Marks whether the trial at this place waits. O(log n).
    pub(super) fn set_waiting(&mut self, place: usize, waits: bool) {
        if self.nodes[place].waits == waits {
            return;
        }
        self.nodes[place].waits = waits;
        let mut at = self.root;
        while let Some(node) = at {
            let order = self.order(place as u32, node);
            let node = &mut self.nodes[node as usize];
            node.waiting = if waits { node.waiting + 1 } else { node.waiting - 1 };
            at = match order {
                Ordering::Less => node.left,
                Ordering::Equal => return,
                Ordering::Greater => node.right,
            };
        }
    }

    /// The number with this rank, from 0. O(log n).
    pub(super) fn get(&self, mut rank: usize) -> Option<f64> {
        let mut at = self.root;
        loop {
            let node = &self.nodes[at? as usize];
            let left = self.size(node.left);
            match rank.cmp(&left) {
                Ordering::Less => at = node.left,
                Ordering::Equal => return Some(node.value),
                Ordering::Greater => {
                    rank -= left + 1;
                    at = node.right;
                }
            }
        }
    }

    /// The place and the rank of the first waiting trial among those with a rank of `from` and
    /// above. O(log n).
    pub(super) fn first_waiting(&self, from: usize) -> Option<(usize, usize)> {
        self.first_waiting_below(self.root, from, 0)
    }

    /// `before` is the number of nodes that come before the subtree at `at`.
    fn first_waiting_below(&self, at: Link, from: usize, before: usize) -> Option<(usize, usize)> {
        let place = at? as usize;
        tally::count(1);
        let node = &self.nodes[place];
        if node.waiting == 0 || before + node.size as usize <= from {
            return None;
        }
        let rank = before + self.size(node.left);
        self.first_waiting_below(node.left, from, before)
            .or_else(|| (node.waits && rank >= from).then_some((place, rank)))
            .or_else(|| self.first_waiting_below(node.right, from, rank + 1))
    }

    /// The root of the subtree at `at` after the node `new` was inserted.
    fn inserted(&mut self, at: Link, new: u32) -> u32 {
        tally::count(1);
        let Some(node) = at else { return new };
        if priority(new) > priority(node) {
            let (left, right) = self.split(at, new);
            self.nodes[new as usize].left = left;
            self.nodes[new as usize].right = right;
            self.count(new);
            return new;
        }
        if self.order(new, node).is_lt() {
            self.nodes[node as usize].left =
                Some(self.inserted(self.nodes[node as usize].left, new));
        } else {
            self.nodes[node as usize].right =
                Some(self.inserted(self.nodes[node as usize].right, new));
        }
        self.count(node);
        node
    }

    /// Splits the subtree at `at` into the nodes before and behind the node `by`.
    fn split(&mut self, at: Link, by: u32) -> (Link, Link) {
        tally::count(1);
        let Some(node) = at else { return (None, None) };
        if self.order(by, node).is_lt() {
            let (before, behind) = self.split(self.nodes[node as usize].left, by);
            self.nodes[node as usize].left = behind;
            self.count(node);
            (before, Some(node))
        } else {
            let (before, behind) = self.split(self.nodes[node as usize].right, by);
            self.nodes[node as usize].right = before;
            self.count(node);
            (Some(node), behind)
        }
    }

    /// Counts the nodes below `node` again from its children's counts.
    fn count(&mut self, node: u32) {
        let Node { left, right, waits, .. } = self.nodes[node as usize];
        let waiting = |link: Link| link.map_or(0, |node| self.nodes[node as usize].waiting);
        let waiting = waiting(left) + waiting(right) + u32::from(waits);
        let size = self.size(left) + self.size(right) + 1;
        let node = &mut self.nodes[node as usize];
        (node.size, node.waiting) = (size as u32, waiting);
    }

    fn size(&self, link: Link) -> usize {
        link.map_or(0, |node| self.nodes[node as usize].size as usize)
    }

    /// The order of two nodes. Adding 0 makes the two zeros equal.
    fn order(&self, a: u32, b: u32) -> Ordering {
        let value = |node: u32| self.nodes[node as usize].value + 0.0;
        value(a).total_cmp(&value(b)).then(a.cmp(&b))
    }
}

/// A node with a higher priority is nearer to the root. The hash is that of SplitMix64 (Steele, Lea
/// & Flood 2014, *Fast Splittable Pseudorandom Number Generators*).
fn priority(node: u32) -> u64 {
    let mut z = (u64::from(node) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_list(
            steps in prop::collection::vec((0_u8..9, any::<bool>(), 0_usize..60), 1..60),
        ) {
            let mut ranking = Ranking::default();
            // Value, place and mark, sorted.
            let mut list: Vec<(f64, usize, bool)> = Vec::new();
            for (value, waits, other) in steps {
                // The two zeros are equal.
                let value = if value == 8 { -0.0 } else { f64::from(value) };
                let place = ranking.insert(value, waits);
                prop_assert_eq!(place, list.len());
                let rank = list.partition_point(|(earlier, ..)| *earlier <= value);
                list.insert(rank, (value, place, waits));
                let other = other % list.len();
                let (_, place, mark) = &mut list[other];
                *mark = !*mark;
                ranking.set_waiting(*place, *mark);
                prop_assert_eq!(ranking.waits(*place), *mark);
                prop_assert_eq!(ranking.len(), list.len());
                for (rank, (value, ..)) in list.iter().enumerate() {
                    prop_assert_eq!(ranking.get(rank), Some(*value));
                    let mut behind = list.iter().enumerate().skip(rank);
                    let first = behind.find(|(_, (.., waits))| *waits);
                    let first = first.map(|(rank, (_, place, _))| (*place, rank));
                    prop_assert_eq!(ranking.first_waiting(rank), first);
                }
                prop_assert_eq!(ranking.get(list.len()), None);
                prop_assert_eq!(ranking.first_waiting(list.len()), None);
            }
        }
    }

    #[test]
    fn it_stays_shallow_when_numbers_arrive_in_order() {
        let mut ranking = Ranking::default();
        (0..100_000).for_each(|value| {
            ranking.insert(f64::from(value), false);
        });
        let depth = |mut place: u32| {
            let mut depth = 0;
            let mut at = ranking.root;
            while let Some(node) = at.filter(|node| *node != place) {
                depth += 1;
                let node = &ranking.nodes[node as usize];
                at = if f64::from(place) < node.value { node.left } else { node.right };
            }
            place = at.unwrap();
            (place, depth)
        };
        let deepest = (0..100_000).map(|place| depth(place).1).max().unwrap();
        // A random tree of this many nodes is about 40 deep.
        assert!(deepest < 60, "{deepest}");
    }
}
