//! A two-dimensional staircase: points of which none is at least as good as another, so the second
//! coordinate falls strictly as the first rises strictly.
//!
//! The two-objective archive, the three-objective front and the three-objective hypervolume share
//! it. It is a balanced tree ordered by the first coordinate, in which all points that a new point
//! beats are neighbours. It does not know the reference point; the caller computes volumes from the
//! steps that [`Staircase::pop_covered`] returns.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Steps in ascending first coordinate, each with a value of the caller's.
#[derive(Debug, Clone)]
pub(super) struct Staircase<V> {
    steps: BTreeMap<Coordinate, Step<V>>,
}

#[derive(Debug, Clone)]
pub(super) struct Step<V> {
    pub(super) y: f64,
    pub(super) value: V,
}

/// A number that is not NaN, ordered as numbers are; the two zeros are equal.
#[derive(Debug, Clone, Copy)]
struct Coordinate(f64);

impl<V> Staircase<V> {
    pub(super) fn new() -> Self {
        Self { steps: BTreeMap::new() }
    }

    /// The last step whose first coordinate is at most `x`. Its second coordinate is the lowest of
    /// all such steps, so it covers a point there if any step does. O(log n).
    pub(super) fn until(&self, x: f64) -> Option<(f64, &Step<V>)> {
        self.steps.range(..=Coordinate(x)).next_back().map(|(key, step)| (key.0, step))
    }

    /// The first step whose first coordinate is at least `x`. O(log n).
    pub(super) fn from(&self, x: f64) -> Option<(f64, &Step<V>)> {
        self.steps.range(Coordinate(x)..).next().map(|(key, step)| (key.0, step))
    }

    /// The step at exactly `x`. O(log n).
    pub(super) fn at_mut(&mut self, x: f64) -> Option<&mut Step<V>> {
        self.steps.get_mut(&Coordinate(x))
    }

    /// Whether some step is at most `(x, y)` in both coordinates. O(log n).
    pub(super) fn covers(&self, x: f64, y: f64) -> bool {
        self.until(x).is_some_and(|(_, step)| step.y <= y)
    }

    /// Removes the first step that is at least `(x, y)` in both coordinates, and returns it with
    /// its first coordinate; `None` if there is no such step. O(log n).
    pub(super) fn pop_covered(&mut self, x: f64, y: f64) -> Option<(f64, Step<V>)> {
        let (&key, step) = self.steps.range(Coordinate(x)..).next()?;
        if step.y < y {
            return None;
        }
        self.steps.remove(&key).map(|step| (key.0, step))
    }

    /// Inserts a step. The caller must have checked that no step covers it, and popped those it
    /// covers.
    pub(super) fn put(&mut self, x: f64, y: f64, value: V) {
        self.steps.insert(Coordinate(x), Step { y, value });
    }

    /// The values of the steps, in ascending first coordinate.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.steps.values().map(|step| &step.value)
    }
}

impl Ord for Coordinate {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.0, other.0)
    }
}

impl PartialOrd for Coordinate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Coordinate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Coordinate {}

/// A total order that agrees with `<` wherever `<` is defined. Adding zero makes the two zeros
/// equal; NaN sorts to the ends.
pub(super) fn compare(a: f64, b: f64) -> Ordering {
    (a + 0.0).total_cmp(&(b + 0.0))
}

/// A point's coordinates as values with a total order, for lexicographic sorting.
pub(super) fn coordinates(point: &[f64]) -> impl DoubleEndedIterator<Item: Ord> {
    point.iter().copied().map(Coordinate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_from_both_sides_and_covered_ones_are_popped_in_order() {
        let mut stairs = Staircase::new();
        for (x, y) in [(1.0, 9.0), (2.0, 6.0), (4.0, 5.0), (7.0, 1.0)] {
            stairs.put(x, y, x as i32);
        }
        assert_eq!(stairs.until(3.9).map(|(x, step)| (x, step.y)), Some((2.0, 6.0)));
        assert_eq!(stairs.from(4.1).map(|(x, step)| (x, step.y)), Some((7.0, 1.0)));
        assert!(stairs.until(0.9).is_none() && stairs.from(7.1).is_none());
        assert!(stairs.covers(2.0, 6.0) && !stairs.covers(2.0, 5.9) && !stairs.covers(0.5, 99.0));
        let mut beaten = Vec::new();
        while let Some((x, step)) = stairs.pop_covered(2.0, 5.0) {
            beaten.push((x, step.value));
        }
        assert_eq!(beaten, [(2.0, 2), (4.0, 4)]);
        assert_eq!(stairs.values().copied().collect::<Vec<_>>(), [1, 7]);
    }

    #[test]
    fn the_two_zeros_are_one_coordinate() {
        let mut stairs = Staircase::new();
        stairs.put(0.0, 1.0, ());
        assert!(stairs.at_mut(-0.0).is_some() && stairs.covers(-0.0, 1.0));
        assert!(compare(-0.0, 0.0).is_eq() && compare(f64::NEG_INFINITY, -1.0).is_lt());
    }
}
