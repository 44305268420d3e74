//! One candidate of a study, from its proposal to its end. Only this file changes a trial, so each
//! stage follows only those that lead to it.

use std::collections::BTreeSet;

use edgesmith_common::{
    ArtifactHash, Figures, Measurement, RungReport, TaskId, TrialNumber, TrialValues,
};
use edgesmith_search_space::Genotype;

use super::kept::{Kept, Setups};
use crate::controller::Part;
use crate::core::record::{Contradiction, TrialEnding};
use crate::core::stages::StagesKey;

/// One candidate.
#[derive(Debug, PartialEq)]
pub struct Trial {
    genotype: Genotype,
    parents: Vec<TrialNumber>,
    /// Which part of a portfolio proposed it; `None` if the algorithm has no parts.
    part: Option<Part>,
    /// Whether it was imported with its results.
    imported: bool,
    /// Number of attempts, of all its tasks together.
    attempts: u32,
    /// Those of its training or look-up tasks.
    training_attempts: u32,
    /// The trial whose weights its training starts from.
    donor: Option<TrialNumber>,
    /// The score of its untrained network; `None` if it has not been scored.
    score: Option<f64>,
    /// The reports from the rungs that it has reached, in ascending order.
    rungs: Vec<RungReport>,
    /// What names the stages of its network, which its values do not have here; `None` before it is
    /// trained, and if they are not known.
    stages: Option<StagesKey>,
    stage: Stage,
}

/// The stage of a trial.
#[derive(Debug, PartialEq)]
pub enum Stage {
    /// Its scoring task is not done.
    Scoring(TaskId),
    /// Scored, and waits for the rest of its batch; it has no task.
    Scored,
    /// Its training or look-up task is not done.
    Training(TaskId),
    /// Reached a rung before the end of training and waits there for other trials; it has no task.
    OnRung,
    /// Trained; these measuring tasks are not done.
    Measuring { values: TrialValues, pending: BTreeSet<TaskId> },
    /// All values that the study asks for are known.
    Complete(Kept),
    /// Stopped early at a rung.
    Pruned,
    /// Not trained, because others of its batch were ranked higher.
    ScreenedOut,
    /// The candidate cannot work. `values` is what was known by then.
    Infeasible { reason: String, values: Option<TrialValues> },
    /// Given up. `values` is what was known by then. `waited` says that it had no task then,
    /// because it waited at a rung or for its batch.
    Failed { reason: String, values: Option<TrialValues>, waited: bool },
}

/// What can be asked of a trial.
impl Trial {
    pub fn genotype(&self) -> &Genotype {
        &self.genotype
    }

    pub fn parents(&self) -> &[TrialNumber] {
        &self.parents
    }

    /// Which part of a portfolio proposed it.
    pub fn part(&self) -> Option<Part> {
        self.part
    }

    pub fn is_imported(&self) -> bool {
        self.imported
    }

    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    pub fn training_attempts(&self) -> u32 {
        self.training_attempts
    }

    /// The trial whose weights its training starts from.
    pub fn donor(&self) -> Option<TrialNumber> {
        self.donor
    }

    pub fn score(&self) -> Option<f64> {
        self.score
    }

    /// The reports from the rungs that it has reached, in ascending order.
    pub fn rungs(&self) -> &[RungReport] {
        &self.rungs
    }

    /// What names the stages of its network.
    pub fn stages(&self) -> Option<StagesKey> {
        self.stages
    }

    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Training seconds up to the last rung that it has reached; 0 before the first.
    pub fn seconds(&self) -> f64 {
        self.rungs.last().map_or(0.0, |report| report.figures.training_seconds())
    }
}

/// What happens to a trial. Each method returns nothing, or an error, if the trial is in a stage in
/// which that cannot happen.
impl Trial {
    /// A new trial.
    pub(super) fn new(
        genotype: Genotype,
        parents: Vec<TrialNumber>,
        part: Option<Part>,
        stage: Stage,
    ) -> Self {
        Self {
            genotype,
            parents,
            part,
            imported: false,
            attempts: 0,
            training_attempts: 0,
            donor: None,
            score: None,
            rungs: Vec::new(),
            stages: None,
            stage,
        }
    }

    /// It was imported with its results.
    pub(super) fn imported(self) -> Self {
        Self { imported: true, ..self }
    }

    pub(super) fn inherit_from(&mut self, donor: TrialNumber) {
        self.donor = Some(donor);
    }

    /// An attempt at one of its tasks begins; `trains` says whether that trains it or looks it up.
    pub(super) fn begin_attempt(&mut self, trains: bool) {
        self.attempts += 1;
        self.training_attempts += u32::from(trains);
    }

    /// Its network was scored. Returns the task that is done.
    pub(super) fn scored(&mut self, score: f64) -> Option<TaskId> {
        let Stage::Scoring(task) = self.stage else { return None };
        self.score = Some(score);
        self.stage = Stage::Scored;
        Some(task)
    }

    /// It stopped at a rung. Returns the task that is done.
    pub(super) fn reached(&mut self, report: RungReport) -> Option<TaskId> {
        let Stage::Training(task) = self.stage else { return None };
        self.rungs.push(report);
        self.stage = Stage::OnRung;
        Some(task)
    }

    /// It goes on from its rung or its batch. Returns whether it waited there.
    pub(super) fn promoted(&mut self, task: TaskId) -> bool {
        let waits = matches!(self.stage, Stage::OnRung | Stage::Scored);
        if waits {
            self.stage = Stage::Training(task);
        }
        waits
    }

    /// It was trained or looked up, and the tasks in `pending` measure it. Returns the task that is
    /// done.
    pub(super) fn trained(
        &mut self,
        values: TrialValues,
        stages: Option<StagesKey>,
        pending: BTreeSet<TaskId>,
    ) -> Option<TaskId> {
        let Stage::Training(task) = self.stage else { return None };
        self.stages = stages;
        self.stage = Stage::Measuring { values, pending };
        Some(task)
    }

    /// One of its tasks has measured it. Returns whether it was being measured.
    pub(super) fn measured(&mut self, task: TaskId, measurement: Measurement) -> bool {
        let Stage::Measuring { values, pending } = &mut self.stage else { return false };
        pending.remove(&task);
        values.add_measurement(measurement);
        true
    }

    /// It ends; `keep` packs the values of a complete trial.
    pub(super) fn finished(
        &mut self,
        number: TrialNumber,
        ending: &TrialEnding,
        keep: impl FnOnce(TrialValues) -> Kept,
    ) -> Result<(), Contradiction> {
        if self.stage.is_finished() {
            return Err(format!("trial {number} is already finished"));
        }
        let (on_rung, scored) = (self.stage == Stage::OnRung, self.stage == Stage::Scored);
        let values = match &mut self.stage {
            Stage::Measuring { values, .. } => {
                Some(std::mem::replace(values, TrialValues::Known(Box::default())))
            }
            _ => None,
        };
        self.stage = match (ending, values) {
            (TrialEnding::Pruned, _) if !on_rung => {
                return Err(format!("trial {number} is pruned, but was not waiting at a rung"));
            }
            (TrialEnding::Pruned, _) => Stage::Pruned,
            (TrialEnding::ScreenedOut, _) if !scored => {
                return Err(format!(
                    "trial {number} is screened out, but was not waiting in a batch"
                ));
            }
            (TrialEnding::ScreenedOut, _) => Stage::ScreenedOut,
            (TrialEnding::Complete, Some(values)) => Stage::Complete(keep(values)),
            (TrialEnding::Complete, None) => {
                return Err(format!("trial {number} is complete without being trained"));
            }
            (TrialEnding::Infeasible { reason }, values) => {
                Stage::Infeasible { reason: reason.clone(), values }
            }
            (TrialEnding::Failed { reason }, values) => {
                Stage::Failed { reason: reason.clone(), values, waited: on_rung || scored }
            }
        };
        Ok(())
    }

    /// It has failed and goes on from the last result that it has: with this task, or measured by
    /// those in `pending`, or waiting as before. `screened` says whether its study scores networks.
    pub(super) fn retried(
        &mut self,
        number: TrialNumber,
        task: Option<TaskId>,
        pending: BTreeSet<TaskId>,
        screened: bool,
    ) -> Result<(), Contradiction> {
        let Stage::Failed { values, waited, .. } = &mut self.stage else {
            return Err(format!("trial {number} has not failed"));
        };
        self.stage = match (values.take(), task) {
            (None, None) if *waited && !self.rungs.is_empty() => Stage::OnRung,
            (None, None) if *waited => Stage::Scored,
            (Some(values), None) => Stage::Measuring { values, pending },
            (None, Some(task)) if screened && self.score.is_none() => Stage::Scoring(task),
            (None, Some(task)) => Stage::Training(task),
            (Some(_), Some(_)) | (None, None) => {
                return Err(format!("trial {number} does not go on with such a task"));
            }
        };
        Ok(())
    }
}

impl Stage {
    pub fn is_finished(&self) -> bool {
        !matches!(
            self,
            Stage::Scoring(_)
                | Stage::Scored
                | Stage::Training(_)
                | Stage::OnRung
                | Stage::Measuring { .. }
        )
    }

    /// Figures of the network that ships, if they are known.
    pub fn figures(&self) -> Option<&Figures> {
        match self {
            Stage::Complete(kept) => Some(kept.figures()),
            _ => self.unpacked().map(TrialValues::figures),
        }
    }

    /// The model file and the weights, if it was trained here.
    pub fn artifacts(&self) -> Option<[ArtifactHash; 2]> {
        match self {
            Stage::Complete(kept) => kept.artifacts(),
            _ => {
                let trained = self.unpacked()?.trained()?;
                Some([trained.model, trained.weights])
            }
        }
    }

    /// Everything that is known, with the study's setups.
    pub(super) fn values(&self, setups: &Setups) -> Option<TrialValues> {
        match self {
            Stage::Complete(kept) => Some(kept.values(setups)),
            _ => self.unpacked().cloned(),
        }
    }

    /// What is known about a trial that is not complete.
    fn unpacked(&self) -> Option<&TrialValues> {
        match self {
            Stage::Scoring(_) | Stage::Scored | Stage::ScreenedOut => None,
            Stage::Training(_) | Stage::OnRung | Stage::Pruned | Stage::Complete(_) => None,
            Stage::Measuring { values, .. } => Some(values),
            Stage::Infeasible { values, .. } | Stage::Failed { values, .. } => values.as_ref(),
        }
    }
}
