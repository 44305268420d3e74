//! The trials of a study, and what is counted of them: how much of the budget they use, how many
//! are not finished, and how many in a row were of no use.

use std::collections::BTreeSet;
use std::ops::Index;

use edgesmith_common::{
    FigureNames, Figures, Measurement, RungReport, TaskId, TrainedTrial, TrialNumber, TrialValues,
};

use super::kept::{Kept, Setups};
use super::trial::{Stage, Trial};
use crate::core::record::{Contradiction, TrialEnding};
use crate::core::stages::StagesKey;

/// All trials of a study.
#[derive(Debug, Default)]
pub struct Trials {
    /// Indexed by trial number.
    all: Vec<Trial>,
    /// Trials that count against the budget: all except imported, infeasible and screened-out ones.
    budget_used: u32,
    /// Trials that are not finished.
    unfinished: u32,
    /// Consecutive trials that a worker found infeasible, since the last trial that ended
    /// otherwise.
    hopeless_in_a_row: u32,
    /// Consecutive candidates that were ruled out before training, since the last one that was
    /// not.
    ruled_out_in_a_row: u32,
    /// Simulated seconds of all look-ups so far, including those at rungs, as given in the table; 0
    /// in a study that trains.
    simulated_seconds: f64,
    /// The names of the figures of the last complete trial, shared with the next ones.
    names: [FigureNames; 3],
    /// The same of the last report from a rung.
    rung_names: FigureNames,
    /// What their measurements have in common.
    setups: Setups,
}

impl Index<TrialNumber> for Trials {
    type Output = Trial;

    /// A trial that is there.
    fn index(&self, number: TrialNumber) -> &Trial {
        &self.all[number.0 as usize]
    }
}

/// What can be asked of them.
impl Trials {
    pub fn get(&self, number: TrialNumber) -> Option<&Trial> {
        self.all.get(number.0 as usize)
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.all.len() as u32
    }

    /// The number of the next trial.
    pub fn next_number(&self) -> TrialNumber {
        TrialNumber(self.count())
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (TrialNumber, &Trial)> + Clone {
        let numbered = self.all.iter().enumerate();
        numbered.map(|(number, trial)| (TrialNumber(number as u32), trial))
    }

    /// Those after the first `count`.
    pub(super) fn after(&self, count: u32) -> &[Trial] {
        &self.all[count as usize..]
    }

    /// Complete trials, ordered by number.
    pub fn complete(&self) -> impl Iterator<Item = (TrialNumber, &Figures)> {
        self.iter().filter_map(|(number, trial)| match trial.stage() {
            Stage::Complete(kept) => Some((number, kept.figures())),
            _ => None,
        })
    }

    /// The failed ones.
    pub fn failed(&self) -> Vec<TrialNumber> {
        let failed = self.iter().filter(|(_, trial)| matches!(trial.stage(), Stage::Failed { .. }));
        failed.map(|(number, _)| number).collect()
    }

    /// Everything that is known of one of them.
    pub fn values(&self, trial: &Trial) -> Option<TrialValues> {
        trial.stage().values(&self.setups)
    }

    pub fn budget_used(&self) -> u32 {
        self.budget_used
    }

    pub fn unfinished(&self) -> u32 {
        self.unfinished
    }

    /// How many trials in a row a worker found infeasible.
    pub fn hopeless_in_a_row(&self) -> u32 {
        self.hopeless_in_a_row
    }

    /// How many candidates in a row were ruled out before training.
    pub fn ruled_out_in_a_row(&self) -> u32 {
        self.ruled_out_in_a_row
    }

    /// Simulated seconds of all look-ups so far.
    pub fn simulated_seconds(&self) -> f64 {
        self.simulated_seconds
    }
}

/// What happens to them.
impl Trials {
    /// Adds a trial that was proposed.
    pub(super) fn propose(&mut self, trial: Trial) {
        self.all.push(trial);
        self.budget_used += 1;
        self.unfinished += 1;
        self.ruled_out_in_a_row = 0;
    }

    /// Adds a candidate that is infeasible before training.
    pub(super) fn rule_out(&mut self, trial: Trial) {
        self.all.push(trial);
        self.ruled_out_in_a_row += 1;
    }

    /// Adds an imported trial.
    pub(super) fn import(&mut self, trial: Trial) {
        self.all.push(trial.imported());
    }

    /// Packs what is known of a complete trial.
    pub(super) fn pack(&mut self, values: TrialValues) -> Kept {
        Kept::new(values, &mut self.names, &mut self.setups)
    }

    pub(super) fn inherit(
        &mut self,
        number: TrialNumber,
        donor: TrialNumber,
    ) -> Result<(), Contradiction> {
        self.at(number)?.inherit_from(donor);
        Ok(())
    }

    pub(super) fn begin_attempt(
        &mut self,
        number: TrialNumber,
        trains: bool,
    ) -> Result<(), Contradiction> {
        self.at(number)?.begin_attempt(trains);
        Ok(())
    }

    /// Returns the task that is done.
    pub(super) fn score(
        &mut self,
        number: TrialNumber,
        score: f64,
    ) -> Result<TaskId, Contradiction> {
        let done = self.at(number)?.scored(score);
        done.ok_or_else(|| format!("trial {number} is not being scored"))
    }

    /// A trial stops at a rung. `simulated` says whether its seconds are those of a table. Returns
    /// the task that is done.
    pub(super) fn reach(
        &mut self,
        number: TrialNumber,
        report: &RungReport,
        simulated: bool,
    ) -> Result<TaskId, Contradiction> {
        let mut kept = report.clone();
        kept.figures.share_names(&mut self.rung_names);
        let trial = self.at(number)?;
        let seconds = report.figures.training_seconds() - trial.seconds();
        let done = trial.reached(kept);
        let done = done.ok_or_else(|| format!("trial {number} is not in training"))?;
        if simulated {
            self.simulated_seconds += seconds;
        }
        self.hopeless_in_a_row = 0;
        Ok(done)
    }

    pub(super) fn promote(
        &mut self,
        number: TrialNumber,
        task: TaskId,
    ) -> Result<(), Contradiction> {
        if self.at(number)?.promoted(task) {
            Ok(())
        } else {
            Err(format!("trial {number} is waiting neither at a rung nor in a batch"))
        }
    }

    /// Returns the task that is done.
    pub(super) fn train(
        &mut self,
        number: TrialNumber,
        trained: &TrainedTrial,
        stages: Option<StagesKey>,
        pending: BTreeSet<TaskId>,
    ) -> Result<TaskId, Contradiction> {
        let TrainedTrial { compressed, uncompressed, model, weights, stages: _ } = trained;
        let kept = TrainedTrial {
            compressed: compressed.clone(),
            uncompressed: uncompressed.clone(),
            model: *model,
            weights: *weights,
            stages: Vec::new(),
        };
        let done = self.at(number)?.trained(TrialValues::unmeasured(kept), stages, pending);
        done.ok_or_else(|| format!("trial {number} is not in training"))
    }

    /// Returns the task that is done.
    pub(super) fn look_up(
        &mut self,
        number: TrialNumber,
        figures: &Figures,
    ) -> Result<TaskId, Contradiction> {
        let trial = self.at(number)?;
        let seconds = figures.training_seconds() - trial.seconds();
        let values = TrialValues::Known(figures.clone().into());
        let done = trial.trained(values, None, BTreeSet::new());
        let done = done.ok_or_else(|| format!("trial {number} is not being looked up"))?;
        self.simulated_seconds += seconds;
        Ok(done)
    }

    pub(super) fn measure(
        &mut self,
        number: TrialNumber,
        task: TaskId,
        measurement: &Measurement,
    ) -> Result<(), Contradiction> {
        if self.at(number)?.measured(task, measurement.clone()) {
            Ok(())
        } else {
            Err(format!("trial {number} is not being measured"))
        }
    }

    pub(super) fn finish(
        &mut self,
        number: TrialNumber,
        ending: &TrialEnding,
    ) -> Result<(), Contradiction> {
        let Self { all, names, setups, .. } = self;
        let trial = all.get_mut(number.0 as usize).ok_or_else(|| unknown(number))?;
        trial.finished(number, ending, |values| Kept::new(values, names, setups))?;
        self.unfinished -= 1;
        match ending {
            TrialEnding::Infeasible { .. } => {
                self.budget_used -= 1;
                self.hopeless_in_a_row += 1;
            }
            // The budget counts trainings, and this trial was not trained.
            TrialEnding::ScreenedOut => self.budget_used -= 1,
            TrialEnding::Complete | TrialEnding::Failed { .. } | TrialEnding::Pruned => {
                self.hopeless_in_a_row = 0;
            }
        }
        Ok(())
    }

    pub(super) fn retry(
        &mut self,
        number: TrialNumber,
        task: Option<TaskId>,
        pending: BTreeSet<TaskId>,
        screened: bool,
    ) -> Result<(), Contradiction> {
        self.at(number)?.retried(number, task, pending, screened)?;
        self.unfinished += 1;
        Ok(())
    }

    /// Whatever kept the study from proposing is forgotten.
    pub(super) fn forget_rows(&mut self) {
        self.hopeless_in_a_row = 0;
        self.ruled_out_in_a_row = 0;
    }

    fn at(&mut self, number: TrialNumber) -> Result<&mut Trial, Contradiction> {
        self.all.get_mut(number.0 as usize).ok_or_else(|| unknown(number))
    }
}

fn unknown(number: TrialNumber) -> Contradiction {
    format!("there is no trial {number}")
}
