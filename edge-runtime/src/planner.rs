//! Places all values in one arena, so that values which are never needed at the same time share
//! memory. The method is greedy by size (Pisarchyk and Lee 2020, "Efficient Memory Management for
//! Deep Neural Net Inference"). It only knows sizes and times.

use std::ops::Range;

/// A value's size, and the first and last step at which it is in use, both inclusive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetime {
    pub size: usize,
    pub first: usize,
    pub last: usize,
}

/// The place of each value and the length of the arena. Values that are in use at the same step do
/// not overlap.
#[derive(Debug)]
pub(crate) struct Plan {
    pub places: Vec<Range<usize>>,
    pub total: usize,
}

/// Places the largest values first, each in the lowest gap that is free during its lifetime.
pub(crate) fn plan(values: &[Lifetime]) -> Plan {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&value| std::cmp::Reverse(values[value].size));
    let mut places = vec![0..0; values.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(values.len());
    for value in order {
        let Lifetime { size, first, last } = values[value];
        let mut start = 0;
        // `placed` is sorted by position, so the first gap that is wide enough is the lowest.
        for &other in &placed {
            let place: &Range<usize> = &places[other];
            if values[other].first > last || values[other].last < first {
                continue;
            }
            if start + size <= place.start {
                break;
            }
            start = start.max(place.end);
        }
        places[value] = start..start + size;
        let at = placed.partition_point(|&other| places[other].start <= start);
        placed.insert(at, value);
    }
    let total = places.iter().map(|place| place.end).max().unwrap_or(0);
    Plan { places, total }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lifetime(size: usize, first: usize, last: usize) -> Lifetime {
        Lifetime { size, first, last }
    }

    #[test]
    fn a_chain_needs_memory_for_two_neighbours() {
        let chain: Vec<_> = (0..10).map(|i| lifetime(100, i, i + 1)).collect();
        assert_eq!(plan(&chain).total, 200);
    }

    #[test]
    fn a_shortcut_keeps_its_memory_until_it_is_read() {
        // Value 0 is read again at step 3.
        let values =
            [lifetime(10, 0, 3), lifetime(20, 1, 2), lifetime(20, 2, 3), lifetime(10, 3, 4)];
        let plan = plan(&values);
        assert_eq!(plan.total, 50);
        assert_eq!(plan.places[3].len(), 10);
    }

    proptest! {
        #[test]
        fn values_in_use_together_never_overlap(
            values in prop::collection::vec((1usize..50, 0usize..20, 0usize..5), 1..40)
        ) {
            let values: Vec<_> =
                values.into_iter().map(|(size, first, more)| lifetime(size, first, first + more)).collect();
            let plan = plan(&values);
            let peak = (0..25)
                .map(|step| values.iter().filter(|v| v.first <= step && step <= v.last).map(|v| v.size).sum())
                .max();
            prop_assert!(Some(plan.total) >= peak);
            prop_assert!(plan.total <= values.iter().map(|v| v.size).sum());
            for (i, a) in values.iter().enumerate() {
                prop_assert_eq!(plan.places[i].len(), a.size);
                for (j, b) in values.iter().enumerate().skip(i + 1) {
                    let (p, q) = (&plan.places[i], &plan.places[j]);
                    let together = a.first <= b.last && b.first <= a.last;
                    prop_assert!(!together || p.end <= q.start || q.end <= p.start);
                }
            }
        }
    }
}
