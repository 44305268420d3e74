//! Pareto fronts that are updated as trials complete, so that queries need not go through all
//! trials.

use edgesmith_common::pareto::Archive;
use edgesmith_common::{DeviceClass, Figures, Objective, StudySpec, pareto};

/// The fronts of a study and other figures that are updated as its trials complete.
#[derive(Debug)]
pub(super) struct Fronts {
    /// One archive over all objectives (`None`), and one for each device over the objectives that
    /// count for it.
    archives: Vec<(Option<DeviceClass>, Vec<Objective>, Archive<usize>)>,
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
    pub(super) fn note(&mut self, number: usize, figures: &Figures, feasible: bool) {
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
    pub(super) fn any_complete(&self) -> bool {
        self.any
    }

    /// Highest validation accuracy of a complete trial, feasible or not.
    pub(super) fn best_accuracy(&self) -> Option<f64> {
        self.best_accuracy
    }

    /// The objectives that count for a device, or all objectives if `device` is `None`, with their
    /// front.
    pub(super) fn of(
        &self,
        device: Option<&DeviceClass>,
    ) -> Option<(&Vec<Objective>, &Archive<usize>)> {
        let found = self.archives.iter().find(|(of, ..)| of.as_ref() == device);
        found.map(|(_, objectives, archive)| (objectives, archive))
    }
}

/// The objectives on `device` and those on no device; all objectives if `device` is `None`.
pub(super) fn on(objectives: &[Objective], device: Option<&DeviceClass>) -> Vec<Objective> {
    let counts = |o: &&Objective| match (o.device(), device) {
        (Some(of), Some(asked)) => of == asked,
        _ => true,
    };
    objectives.iter().filter(counts).cloned().collect()
}

/// A trial's objective values, less is better; `None` if one is missing or NaN, which cannot be
/// compared.
pub(super) fn point(objectives: &[Objective], figures: &Figures) -> Option<Vec<f64>> {
    pareto::oriented(objectives, figures).filter(|point| point.iter().all(|v| !v.is_nan()))
}
