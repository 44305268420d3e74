//! Trials and fronts, as shown to users.

use edgesmith_common::{
    DeviceClass, Filter, Measurement, RungReport, StudyName, TrainedTrial, TrialNumber, TrialState,
    TrialValues,
};
use edgesmith_search_space::Genotype;

use crate::controller::Part;
use crate::core::command::Refusal;
use crate::core::stages::StagesKey;
use crate::core::state::Core;
use crate::core::study::{Study, Trial};

/// One trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialView {
    /// Its number.
    pub number: TrialNumber,
    /// Its state.
    pub state: TrialState,
    /// The candidate, as option indices.
    pub genotype: Genotype,
    /// The candidate, in words.
    pub architecture: String,
    /// Its values so far, without the stages of its network.
    pub values: Option<TrialValues>,
    /// What names these stages; `None` if they are not known.
    pub stages: Option<StagesKey>,
    /// The score of its untrained network; `None` if it has not been scored.
    pub score: Option<f64>,
    /// The reports from the rungs that it has reached, in ascending order.
    pub rungs: Vec<RungReport>,
    /// Number of attempts of all its tasks, lost ones included.
    pub attempts: u32,
    /// How many of them were of its training, or of its look-up; one per rung if none failed.
    pub training_attempts: u32,
    /// What it was derived from.
    pub parents: Vec<TrialNumber>,
    /// The trial whose weights it started from; `None` if it started from new weights.
    pub inherits_from: Option<TrialNumber>,
    /// Which part of a portfolio proposed it, or `import`; `None` if the algorithm has no parts.
    pub proposed_by: Option<&'static str>,
}

impl TrialView {
    /// The result of training, if it is trained.
    pub fn trained(&self) -> Option<&TrainedTrial> {
        self.values.as_ref()?.trained()
    }

    /// The measurements so far, one for each target.
    pub fn measurements(&self) -> &[Measurement] {
        self.values.as_ref().map(TrialValues::measurements).unwrap_or_default()
    }
}

impl Core {
    /// All trials of a study, ordered by number.
    ///
    /// # Errors
    /// [`Refusal::UnknownStudy`].
    pub fn trials(&self, name: &StudyName) -> Result<Vec<TrialView>, Refusal> {
        let study = self.study(name)?;
        Ok(study.trials().iter().map(|(number, trial)| view(study, number, trial)).collect())
    }

    /// One trial.
    ///
    /// # Errors
    /// [`Refusal::UnknownStudy`], [`Refusal::UnknownTrial`].
    pub fn trial(&self, name: &StudyName, number: TrialNumber) -> Result<TrialView, Refusal> {
        let study = self.study(name)?;
        let Some(trial) = study.trials().get(number) else {
            let trials = study.trials().count();
            return Err(Refusal::UnknownTrial { study: name.clone(), number, trials });
        };
        Ok(view(study, number, trial))
    }

    /// The front: complete trials that meet the study's constraints and all `filters`, and that no
    /// other such trial dominates. They are ordered by the first objective, best first. With a
    /// device, only the objectives on it and those on no device count.
    ///
    /// # Errors
    /// [`Refusal::UnknownStudy`]; [`Refusal::NoObjectives`] if no objective is on `device`.
    pub fn front(
        &self,
        name: &StudyName,
        device: Option<&DeviceClass>,
        filters: &[Filter],
    ) -> Result<Vec<TrialView>, Refusal> {
        let study = self.study(name)?;
        if let Some(device) = device
            && !study.spec().objectives.iter().any(|o| o.device() == Some(device))
        {
            let (study, device) = (name.clone(), device.clone());
            return Err(Refusal::NoObjectives { study, device });
        }
        let front = study.front(device, filters);
        let members = front.into_iter().map(|(number, _)| number);
        Ok(members.map(|number| view(study, number, &study.trials()[number])).collect())
    }
}

fn view(study: &Study, number: TrialNumber, trial: &Trial) -> TrialView {
    TrialView {
        number,
        state: study.trial_state(trial),
        genotype: trial.genotype().clone(),
        architecture: study.spec().space.describe(trial.genotype()),
        values: study.trials().values(trial),
        stages: trial.stages(),
        score: trial.score(),
        rungs: trial.rungs().to_vec(),
        attempts: trial.attempts(),
        training_attempts: trial.training_attempts(),
        parents: trial.parents().to_vec(),
        inherits_from: trial.donor(),
        proposed_by: if trial.is_imported() {
            Some("import")
        } else {
            trial.part().map(Part::name)
        },
    }
}
