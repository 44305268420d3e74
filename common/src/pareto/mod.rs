//! Pareto dominance, non-dominated sorting, crowding and hypervolume.
//!
//! Points are slices of objective values turned by [`oriented`] so that *less is better* in every
//! coordinate. Points of one call have equal length and no NaN. Use [`front`] if all points are
//! known, and an [`Archive`] to follow a run point by point. Nothing here draws random numbers. No
//! result depends on the order of the points, except for the order in which an archive lists
//! members with equal first objectives.

mod archive;
mod front;
mod hypervolume;
mod knee;
#[cfg(test)]
mod slicing;
mod staircase;

pub use archive::Archive;
pub use front::{crowding, front, fronts};
pub use hypervolume::hypervolume;
pub use knee::knee;

use crate::metric::Scale;
use crate::{Figures, Goal, Objective};

/// A trial's objective values, turned so that less is better; `None` if one was not measured.
pub fn oriented(objectives: &[Objective], figures: &Figures) -> Option<Vec<f64>> {
    let turn = |objective: &Objective| Some(objective.goal.oriented(figures.get(&objective.of)?));
    objectives.iter().map(turn).collect()
}

/// Whether `a` is at least as good as `b` in every coordinate and better in at least one.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(x, y)| x <= y) && a.iter().zip(b).any(|(x, y)| x < y)
}

/// The hypervolume shown as progress, between 0 and 1. Every objective is mapped to `0..=1` on its
/// metric's [`Scale`] (accuracy by its error; latencies, sizes and counts by their logarithm), and
/// the reference is 1 everywhere. It depends only on the set of points and never falls when a point
/// is added.
pub fn study_hypervolume(objectives: &[Objective], points: &[Vec<f64>]) -> f64 {
    let map = |point: &Vec<f64>| -> Vec<f64> {
        let turned = objectives.iter().zip(point);
        turned.map(|(objective, value)| normalise(objective, *value)).collect()
    };
    let mapped: Vec<Vec<f64>> = points.iter().map(map).collect();
    hypervolume(&mapped, &vec![1.0; objectives.len()])
}

/// An oriented value as a share of the way from ideal to worthless.
fn normalise(objective: &Objective, oriented: f64) -> f64 {
    let value = objective.goal.oriented(oriented);
    let share = match objective.of.metric.definition().scale {
        Scale::Linear { low, high } => (value - low) / (high - low),
        Scale::Logarithmic { low, high } => {
            (value.max(f64::MIN_POSITIVE) / low).ln() / (high / low).ln()
        }
    };
    let cost = match objective.goal {
        Goal::Minimize => share,
        Goal::Maximize => 1.0 - share,
    };
    cost.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sets on a coarse grid, so that ties and equal points are common.
    pub(super) fn grid(
        dimensions: usize,
        cells: u8,
        most: usize,
    ) -> impl Strategy<Value = Vec<Vec<f64>>> {
        let value = (0..cells).prop_map(move |v| f64::from(v) / f64::from(cells));
        prop::collection::vec(prop::collection::vec(value, dimensions), 0..most)
    }

    proptest! {
        #[test]
        fn dominance_is_a_strict_partial_order(set in grid(3, 8, 14)) {
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
    fn the_studys_hypervolume_is_between_its_anchors_and_never_falls() {
        let objectives = ["validation_accuracy", "model_bytes"]
            .map(|of| Objective::natural(of.parse().unwrap()));
        let ideal = study_hypervolume(&objectives, &[vec![-1.0, 1.0]]);
        assert!((ideal - 1.0).abs() < 1e-12);
        assert_eq!(study_hypervolume(&objectives, &[vec![-0.0, 1e12]]), 0.0);
        let one = study_hypervolume(&objectives, &[vec![-0.9, 1e4]]);
        let two = study_hypervolume(&objectives, &[vec![-0.9, 1e4], vec![-0.95, 1e5]]);
        assert!(0.0 < one && one < two && two < 1.0);
    }
}
