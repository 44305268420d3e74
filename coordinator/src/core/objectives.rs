//! Values of trials as points, their front, and what constraints say of them.

use edgesmith_common::{Bound, Filter, Objective, TrialValues, pareto};

use super::study::{Stage, Study};

impl Study {
    /// Complete trials, by number.
    pub(super) fn complete(&self) -> impl Iterator<Item = (usize, &TrialValues)> {
        self.trials.iter().enumerate().filter_map(|(number, trial)| match &trial.stage {
            Stage::Complete(values) => Some((number, values)),
            _ => None,
        })
    }

    /// By how much a trial breaks the study's constraints: the sum over them, each as a share of its
    /// limit so that units do not matter; 0 where all hold.
    pub(super) fn violation(&self, values: &TrialValues) -> f64 {
        let broken = self.spec.constraints.iter().map(|constraint| {
            let value = values.value(constraint.metric, constraint.device.as_ref());
            value.map_or(0.0, |value| relative_violation(constraint.bound, value))
        });
        broken.sum()
    }

    /// The complete trials that meet the study's constraints and `filters`, and that no other such
    /// trial dominates, by the first objective, best first: number and point, less is better.
    pub(super) fn front(
        &self,
        objectives: &[Objective],
        filters: &[Filter],
    ) -> Vec<(usize, Vec<f64>)> {
        let eligible = self.complete().filter(|(_, values)| {
            self.violation(values) == 0.0 && filters.iter().all(|filter| filter.admits(values))
        });
        let points = eligible
            .filter_map(|(number, values)| Some((number, pareto::oriented(objectives, values)?)));
        let (numbers, points): (Vec<usize>, Vec<Vec<f64>>) = points.unzip();
        let on_front = pareto::front(&points);
        let mut front: Vec<_> =
            on_front.into_iter().map(|i| (numbers[i], points[i].clone())).collect();
        front.sort_by(|(number, a), (other, b)| {
            let mut pairs = a.iter().zip(b).map(|(x, y)| x.total_cmp(y));
            pairs.find(|order| order.is_ne()).unwrap_or_else(|| number.cmp(other))
        });
        front
    }
}

/// A bound's violation as a share of its limit.
fn relative_violation(bound: Bound, value: f64) -> f64 {
    let (Bound::Max(limit) | Bound::Min(limit)) = bound;
    let scale = if limit == 0.0 { 1.0 } else { limit.abs() };
    bound.violation(value) / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_shares_of_their_limits() {
        assert_eq!(relative_violation(Bound::Max(200.0), 300.0), 0.5);
        assert_eq!(relative_violation(Bound::Max(200.0), 200.0), 0.0);
        assert_eq!(relative_violation(Bound::Min(0.5), 0.25), 0.5);
        assert_eq!(relative_violation(Bound::Min(0.0), -2.0), 2.0);
    }
}
