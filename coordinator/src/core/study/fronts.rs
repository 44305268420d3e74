//! Pareto fronts that are updated as trials complete, so that queries need not go through all
//! trials, and by how much trials break constraints.

use edgesmith_common::pareto::Archive;
use edgesmith_common::{
    Constraint, DeviceClass, Figures, Filter, Objective, StudySpec, TrialNumber, pareto,
};

use super::trials::Trials;

/// The fronts of a study and other figures that are updated as its trials complete.
#[derive(Debug)]
pub struct Fronts {
    /// One archive over all objectives (`None`), and one for each device over the objectives that
    /// count for it.
    archives: Vec<(Option<DeviceClass>, Vec<Objective>, Archive<TrialNumber>)>,
    /// Whether any trial is complete, feasible or not.
    any: bool,
    /// Highest validation accuracy of a complete trial, feasible or not.
    best_accuracy: Option<f64>,
}

impl Fronts {
    /// For a new study.
    pub(super) fn new(spec: &StudySpec) -> Self {
        let devices = spec.objectives.iter().filter_map(|o| o.device().cloned());
        let mut of: Vec<Option<DeviceClass>> = vec![None];
        for device in devices.map(Some) {
            if !of.contains(&device) {
                of.push(device);
            }
        }
        let archive = |device: Option<DeviceClass>| {
            let objectives = on(&spec.objectives, device.as_ref());
            let archive = Archive::new(objectives.len());
            (device, objectives, archive)
        };
        Self { archives: of.into_iter().map(archive).collect(), any: false, best_accuracy: None }
    }

    /// Adds a complete trial.
    pub(super) fn note(&mut self, number: TrialNumber, figures: &Figures, feasible: bool) {
        self.any = true;
        let accuracy = figures.validation_accuracy();
        self.best_accuracy = self.best_accuracy.into_iter().chain(accuracy).reduce(f64::max);
        if !feasible {
            return;
        }
        for (_, objectives, archive) in &mut self.archives {
            if let Some(point) = point(objectives, figures) {
                archive.insert(point, number);
            }
        }
    }

    /// Whether any trial is complete, feasible or not.
    pub fn any_complete(&self) -> bool {
        self.any
    }

    /// Highest validation accuracy of a complete trial, feasible or not.
    pub fn best_accuracy(&self) -> Option<f64> {
        self.best_accuracy
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
        spec: &StudySpec,
        trials: &Trials,
        device: Option<&DeviceClass>,
        filters: &[Filter],
    ) -> Vec<(TrialNumber, Vec<f64>)> {
        let admits = |figures: &Figures| filters.iter().all(|filter| filter.admits(figures));
        let admitted = |number: TrialNumber| trials[number].stage().figures().is_some_and(admits);
        let known = self.of(device);
        let mut front: Vec<(TrialNumber, Vec<f64>)> = match known {
            Some((objectives, archive)) if filters.iter().all(|f| f.keeps_front(objectives)) => {
                let members = archive.iter().filter(|(_, number)| admitted(**number));
                members.map(|(point, number)| (*number, point.to_vec())).collect()
            }
            _ => {
                let objectives = on(&spec.objectives, device);
                let mut archive = Archive::new(objectives.len());
                for (number, figures) in trials.complete() {
                    if violation(spec, figures) == 0.0
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

    /// The objectives that count for a device, or all objectives if `device` is `None`, with their
    /// front.
    fn of(&self, device: Option<&DeviceClass>) -> Option<(&Vec<Objective>, &Archive<TrialNumber>)> {
        let found = self.archives.iter().find(|(of, ..)| of.as_ref() == device);
        found.map(|(_, objectives, archive)| (objectives, archive))
    }
}

/// The objectives on `device` and those on no device; all objectives if `device` is `None`.
fn on(objectives: &[Objective], device: Option<&DeviceClass>) -> Vec<Objective> {
    let counts = |o: &&Objective| match (o.device(), device) {
        (Some(of), Some(asked)) => of == asked,
        _ => true,
    };
    objectives.iter().filter(counts).cloned().collect()
}

/// A trial's objective values, less is better; `None` if one is missing or NaN, which cannot be
/// compared.
fn point(objectives: &[Objective], figures: &Figures) -> Option<Vec<f64>> {
    pareto::oriented(objectives, figures).filter(|point| point.iter().all(|v| !v.is_nan()))
}

/// By how much a trial breaks the study's constraints: the sum of how far it is beyond each; 0 if
/// all hold.
pub fn violation(spec: &StudySpec, figures: &Figures) -> f64 {
    let excess = |constraint: &Constraint| {
        figures.get(&constraint.of).map_or(0.0, |value| constraint.excess(value))
    };
    spec.constraints.iter().map(excess).sum()
}
