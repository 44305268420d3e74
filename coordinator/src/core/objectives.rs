//! A study's complete trials: which are on its fronts, and by how much they break constraints.

use edgesmith_common::pareto::Archive;
use edgesmith_common::{Bound, DeviceClass, Figures, Filter};

use super::fronts::{on, point};
use super::study::{Stage, Study};

impl Study {
    /// Complete trials, ordered by number.
    pub(super) fn complete(&self) -> impl Iterator<Item = (usize, &Figures)> {
        self.trials.iter().enumerate().filter_map(|(number, trial)| match &trial.stage {
            Stage::Complete(kept) => Some((number, kept.figures())),
            _ => None,
        })
    }

    /// By how much a trial breaks the study's constraints; 0 if all hold. It is the sum over the
    /// constraints, each as a share of its limit, so that units do not matter.
    pub(super) fn violation(&self, figures: &Figures) -> f64 {
        let broken = self.spec.constraints.iter().map(|constraint| {
            let value = figures.get(&constraint.of);
            value.map_or(0.0, |value| relative_violation(constraint.bound, value))
        });
        broken.sum()
    }

    /// The front: complete trials that meet the study's constraints and all `filters`, and that no
    /// other such trial dominates. Gives number and point (less is better), ordered by the first
    /// objective, best first. With a device, only the objectives on it and those on no device
    /// count.
    ///
    /// Uses the maintained front if it can. Filters that are not upper bounds on the oriented
    /// objectives need a pass over all trials, because they may remove trials that dominate others.
    pub(super) fn front(
        &self,
        device: Option<&DeviceClass>,
        filters: &[Filter],
    ) -> Vec<(usize, Vec<f64>)> {
        let admits = |figures: &Figures| filters.iter().all(|filter| filter.admits(figures));
        let admitted = |number: usize| self.trials[number].stage.figures().is_some_and(admits);
        let known = self.fronts.of(device);
        let mut front: Vec<(usize, Vec<f64>)> = match known {
            Some((objectives, archive)) if filters.iter().all(|f| f.keeps_front(objectives)) => {
                let members = archive.iter().filter(|(_, number)| admitted(**number));
                members.map(|(point, number)| (*number, point.to_vec())).collect()
            }
            _ => {
                let objectives = on(&self.spec.objectives, device);
                let mut archive = Archive::new(objectives.len());
                for (number, figures) in self.complete() {
                    if self.violation(figures) == 0.0
                        && admits(figures)
                        && let Some(point) = point(&objectives, figures)
                    {
                        archive.insert(point, number);
                    }
                }
                archive.iter().map(|(point, number)| (*number, point.to_vec())).collect()
            }
        };
        // The archive's order depends on the order of completion, so ties are broken by the other
        // objectives and then by number.
        front.sort_by(|(number, a), (other, b)| {
            let mut pairs = a.iter().zip(b).map(|(x, y)| x.total_cmp(y));
            pairs.find(|order| order.is_ne()).unwrap_or_else(|| number.cmp(other))
        });
        front
    }
}

/// The violation of a bound as a share of its limit; absolute if the limit is 0.
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
