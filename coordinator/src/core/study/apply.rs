//! What records change in a study, both live and in replay. Nothing here makes decisions.
//!
//! A record that contradicts the state is an error. The study may then be half changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use edgesmith_common::spec::Budget;
use edgesmith_common::{
    AttemptId, Figures, Measurement, RungReport, StudyName, Target, TaskId, TrialNumber,
    TrialValues,
};

use super::Study;
use super::point::point;
use super::task::TaskKind;
use super::teacher::Teacher;
use super::trial::{Stage, Trial};
use crate::core::record::{Contradiction, Record, StudyState, TrialEnding};
use crate::core::time::Time;

/// Attempts that end, because their tasks are not needed any more.
type Dropped = Vec<AttemptId>;

impl Study {
    /// Gives it another name.
    pub fn rename(&mut self, name: &StudyName) {
        Arc::make_mut(&mut self.spec).name = name.clone();
        self.resolved = self.spec.to_resolved().into();
    }

    /// Applies a record that is about what is in this study. Returns the attempts that end, because
    /// their tasks are not needed any more.
    pub fn apply(&mut self, record: &Record, now: Time) -> Result<Dropped, Contradiction> {
        match record {
            Record::DataCheckWanted { task, .. } => {
                self.data.want_check(*task);
                self.tasks.insert(*task, TaskKind::Data)?;
            }
            Record::DataChecked { report, .. } => {
                let done = self.data.checked(report)?;
                self.tasks.remove(done)?;
            }
            Record::DataDamaged { reason, .. } => {
                let check = self.data.damaged(reason);
                return self.drop_tasks(check);
            }
            Record::DataTrusted { .. } => self.data.trusted(),
            Record::BudgetExtended { budget, source, .. } => self.extend(budget, source.clone()),
            Record::StudyStateChanged { state, elapsed_ms, .. } => {
                self.set_clock(*elapsed_ms, now);
                return self.change_state(state);
            }
            Record::ProposalsEnded { reason, .. } => self.proposals_ended = Some(reason.clone()),
            Record::TeacherRetried { task, .. } => {
                if !self.lacks_teacher_task() && self.teacher.trained().is_none() {
                    return Err("the teacher is neither trained nor given up".to_owned());
                }
                self.teacher = Teacher::Pending(*task);
                self.tasks.insert(*task, TaskKind::Teacher)?;
                let measures = |kind: &TaskKind| matches!(kind, TaskKind::Measure(None, _));
                let old = self.tasks.iter().filter(|(_, task)| measures(task.kind()));
                let old: Vec<TaskId> = old.map(|(id, _)| id).collect();
                return self.drop_tasks(old);
            }
            Record::TeacherTrained { trained, soft_targets, measure, .. } => {
                let done = self.teacher.train(trained, *soft_targets)?;
                self.tasks.remove(done)?;
                self.add_measure_tasks(None, measure)?;
            }
            Record::TeacherMeasuredAgain { measure, .. } => {
                if self.teacher.trained().is_none() {
                    return Err("the teacher is not trained".to_owned());
                }
                self.add_measure_tasks(None, measure)?;
            }
            Record::TrialProposed { number, task, genotype, parents, .. } => {
                self.propose(*number, *task, genotype, parents)?;
            }
            Record::TrialInfeasible { number, genotype, parents, reason, .. } => {
                self.rule_out(*number, genotype, parents, reason)?;
            }
            Record::TrialTooSlow { number, genotype, parents, target, reason, .. } => {
                self.latency.saved(target);
                self.rule_out(*number, genotype, parents, reason)?;
            }
            Record::TrialImported { number, genotype, figures, .. } => {
                self.import(*number, genotype, figures)?;
            }
            Record::TrialInherits { number, donor, .. } => self.trials.inherit(*number, *donor)?,
            Record::TrialScored { number, score, .. } => self.score(*number, *score)?,
            Record::RungReached { number, report, .. } => self.reach(*number, report)?,
            Record::TrialPromoted { number, task, .. } => self.promote(*number, *task)?,
            Record::TrialTrained { number, trained, stages, measure, .. } => {
                let pending = measure.iter().map(|(id, _)| *id).collect();
                let done = self.trials.train(*number, trained, *stages, pending)?;
                self.tasks.remove(done)?;
                self.add_measure_tasks(Some(*number), measure)?;
            }
            Record::TrialLookedUp { number, figures, .. } => {
                let done = self.trials.look_up(*number, figures)?;
                self.tasks.remove(done)?;
            }
            Record::Measured { task, measurement, .. } => self.measure(*task, measurement)?,
            Record::TrialFinished { number, ending, .. } => return self.finish(*number, ending),
            Record::TrialRetried { number, task, measure, .. } => {
                self.retry(*number, *task, measure)?;
            }
            Record::TaskGivenUp { task, .. } => {
                self.tasks.remove(*task)?;
            }
            Record::AttemptStarted { task, attempt, elapsed_ms, .. } => {
                self.set_clock(*elapsed_ms, now);
                let kind = self.tasks.start(*task, *attempt)?;
                if let Some(number) = kind.trial() {
                    self.trials.begin_attempt(number, kind.trains())?;
                }
            }
            Record::AttemptEnded { task, ending, elapsed_ms, .. } => {
                self.set_clock(*elapsed_ms, now);
                self.tasks.requeue(*task, ending)?;
            }
            Record::StudyCreated { .. }
            | Record::StudyRenamed { .. }
            | Record::StudyDeleted { .. }
            | Record::WorkerIdsReserved { .. }
            | Record::IdsReserved { .. } => {
                return Err("the record is not about what is in a study".to_owned());
            }
        }
        Ok(Vec::new())
    }
}

/// What happens to the study as a whole.
impl Study {
    /// Sets a larger budget. The study may propose again, whatever kept it from that.
    fn extend(&mut self, budget: &Budget, source: Option<String>) {
        if source.is_some() {
            self.filed = budget.clone();
        }
        Arc::make_mut(&mut self.spec).set_budget(budget.clone(), source);
        self.resolved = self.spec.to_resolved().into();
        self.learner.renew(&self.spec);
        self.proposals_ended = None;
        self.trials.forget_rows();
    }

    /// Sets the clock to what a record says, before a new state is set.
    fn set_clock(&mut self, elapsed_ms: u64, now: Time) {
        self.clock.set(self.runs(), elapsed_ms, now);
    }

    fn change_state(&mut self, state: &StudyState) -> Result<Dropped, Contradiction> {
        if self.state.is_ended() && *state != StudyState::Running {
            return Err("it has already ended".to_owned());
        }
        self.state = state.clone();
        if !state.is_ended() {
            return Ok(Vec::new());
        }
        if self.trials.unfinished() > 0 {
            return Err("it ends with unfinished trials".to_owned());
        }
        self.learner.rest();
        let left: Vec<TaskId> = self.tasks.iter().map(|(id, _)| id).collect();
        self.drop_tasks(left)
    }

    fn drop_tasks(
        &mut self,
        tasks: impl IntoIterator<Item = TaskId>,
    ) -> Result<Dropped, Contradiction> {
        let mut dropped = Vec::new();
        for id in tasks {
            dropped.extend(self.tasks.remove(id)?.attempt());
        }
        Ok(dropped)
    }

    fn add_measure_tasks(
        &mut self,
        number: Option<TrialNumber>,
        tasks: &[(TaskId, Target)],
    ) -> Result<(), Contradiction> {
        tasks.iter().try_for_each(|(id, target)| {
            self.tasks.insert(*id, TaskKind::Measure(number, target.clone()))
        })
    }
}

/// What happens to its trials.
impl Study {
    /// A trial with the next number, as its algorithm comes to know it.
    fn new_trial(
        &mut self,
        number: TrialNumber,
        genotype: &[u16],
        parents: &[TrialNumber],
        stage: Stage,
    ) -> Result<Trial, Contradiction> {
        let next = self.trials.next_number();
        if number != next {
            return Err(format!("trial {number} is out of order; the next number is {next}"));
        }
        let genotype = self.spec.space.genotype(genotype.to_vec()).map_err(|e| e.to_string())?;
        let part = self.learner.propose(number);
        Ok(Trial::new(genotype, parents.to_vec(), part, stage))
    }

    fn propose(
        &mut self,
        number: TrialNumber,
        task: TaskId,
        genotype: &[u16],
        parents: &[TrialNumber],
    ) -> Result<(), Contradiction> {
        let (stage, kind) = match self.screening {
            Some(_) => (Stage::Scoring(task), TaskKind::Score(number)),
            None => (Stage::Training(task), self.task_of(number)),
        };
        let trial = self.new_trial(number, genotype, parents, stage)?;
        self.trials.propose(trial);
        if let Some(rungs) = &mut self.rungs {
            rungs.begin();
        }
        self.tasks.insert(task, kind)
    }

    /// Adds a candidate that is infeasible before training.
    fn rule_out(
        &mut self,
        number: TrialNumber,
        genotype: &[u16],
        parents: &[TrialNumber],
        reason: &str,
    ) -> Result<(), Contradiction> {
        let stage = Stage::Infeasible { reason: reason.to_owned(), values: None };
        let trial = self.new_trial(number, genotype, parents, stage)?;
        self.trials.rule_out(trial);
        self.learner.finish(number, &self.spec, &self.trials)
    }

    /// Adds an imported trial, which is complete from the start.
    fn import(
        &mut self,
        number: TrialNumber,
        genotype: &[u16],
        figures: &Figures,
    ) -> Result<(), Contradiction> {
        let kept = self.trials.pack(TrialValues::Known(figures.clone().into()));
        let trial = self.new_trial(number, genotype, &[], Stage::Complete(kept))?;
        self.trials.import(trial);
        self.fronts.note(number, figures, self.violation(figures) == 0.0);
        self.learner.finish(number, &self.spec, &self.trials)
    }

    fn score(&mut self, number: TrialNumber, score: f64) -> Result<(), Contradiction> {
        let done = self.trials.score(number, score)?;
        self.tasks.remove(done)?;
        self.wait_in_batch(number);
        Ok(())
    }

    /// A scored trial waits for the rest of its batch.
    fn wait_in_batch(&mut self, number: TrialNumber) {
        let trial = &self.trials[number];
        if let (Some(screening), Some(score)) = (&mut self.screening, trial.score()) {
            screening.add(number, point(&self.spec, trial.genotype(), score));
        }
    }

    fn reach(&mut self, number: TrialNumber, report: &RungReport) -> Result<(), Contradiction> {
        if self.next_rung(number) != Some(report.epochs) {
            let epochs = report.epochs;
            return Err(format!("the next rung of trial {number} is not at {epochs} epochs"));
        }
        let simulated = self.spec.training().is_none();
        let done = self.trials.reach(number, report, simulated)?;
        self.tasks.remove(done)?;
        let metric = self.spec.training_metric();
        let value = report.figures.get(&metric);
        let value =
            value.ok_or_else(|| format!("a rung report of trial {number} has no {metric}"))?;
        let trial = &self.trials[number];
        if let Some(rungs) = &mut self.rungs {
            let point = point(&self.spec, trial.genotype(), value);
            rungs.reach(number, trial.rungs().len() - 1, value, point);
        }
        Ok(())
    }

    fn promote(&mut self, number: TrialNumber, task: TaskId) -> Result<(), Contradiction> {
        self.trials.promote(number, task)?;
        if let Some(rungs) = &mut self.rungs {
            rungs.promote(number, self.trials[number].rungs().len());
        }
        if let Some(screening) = &mut self.screening {
            screening.leave(number);
        }
        self.tasks.insert(task, self.task_of(number))
    }

    fn measure(&mut self, id: TaskId, measurement: &Measurement) -> Result<(), Contradiction> {
        match self.tasks.remove(id)?.kind() {
            TaskKind::Measure(None, _) => self.teacher.measure(measurement)?,
            TaskKind::Measure(Some(number), _) => {
                self.trials.measure(*number, id, measurement)?;
                self.latency.learn(&self.spec, self.trials[*number].genotype(), measurement);
            }
            kind => return Err(format!("task {id} ({}) is not a measurement", kind.words())),
        }
        self.machines.note(&measurement.device);
        Ok(())
    }

    /// Finishes a trial.
    fn finish(
        &mut self,
        number: TrialNumber,
        ending: &TrialEnding,
    ) -> Result<Dropped, Contradiction> {
        let dropped = self.drop_tasks(self.tasks.of_trial(number))?;
        self.trials.finish(number, ending)?;
        let trial = &self.trials[number];
        if let Some(rungs) = &mut self.rungs {
            rungs.end(number, trial.rungs().len());
        }
        if let Some(screening) = &mut self.screening {
            screening.leave(number);
        }
        if let Stage::Complete(kept) = trial.stage() {
            let figures = kept.figures();
            if let Some(rungs) = &mut self.rungs
                && let Some(value) = figures.get(&self.spec.training_metric())
            {
                rungs.complete(number, value, point(&self.spec, trial.genotype(), value));
            }
            let feasible = self.violation(figures) == 0.0;
            self.fronts.note(number, figures, feasible);
        }
        self.learner.finish(number, &self.spec, &self.trials)?;
        Ok(dropped)
    }

    /// Takes a failed trial up again, from the last result that it has.
    fn retry(
        &mut self,
        number: TrialNumber,
        task: Option<TaskId>,
        measure: &[(TaskId, Target)],
    ) -> Result<(), Contradiction> {
        let pending: BTreeSet<TaskId> = measure.iter().map(|(id, _)| *id).collect();
        self.trials.retry(number, task, pending, self.screening.is_some())?;
        let trial = &self.trials[number];
        let reached = trial.rungs().len();
        let (on_rung, in_batch) =
            (*trial.stage() == Stage::OnRung, *trial.stage() == Stage::Scored);
        let kind = match trial.stage() {
            Stage::Scoring(_) => TaskKind::Score(number),
            _ => self.task_of(number),
        };
        if let Some(rungs) = &mut self.rungs {
            rungs.resume(reached);
            if on_rung {
                rungs.wait_again(number, reached);
            }
        }
        if in_batch {
            self.wait_in_batch(number);
        }
        // It is running again, and its result is still to come.
        self.learner.propose(number);
        match task {
            Some(task) => self.tasks.insert(task, kind),
            None => self.add_measure_tasks(Some(number), measure),
        }
    }
}
