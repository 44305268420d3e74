//! Applies records to the state, both live and in replay. Nothing here makes decisions.

use std::collections::BTreeSet;

use edgesmith_common::spec::Workload;
use edgesmith_common::{
    AttemptId, Figures, Measurement, RungReport, StudyName, Target, TaskId, TrainedTrial,
    TrialNumber, TrialValues, pareto,
};

use super::fronts::Fronts;
use super::latency::Predictors;
use super::promotion::point;
use super::rungs::Rungs;
use super::screening::Screening;
use super::study::{Data, Stage, Study, StudyClock, Teacher, Trial};
use super::task::{TaskKind, Tasks};
use super::{Attempt, AttemptEnding, Core, EndedAttempt, Record, StudyState, Time, TrialEnding};
use crate::controller::{FinishedTrial, Proposal};

/// Why the stored records could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {index} of the store cannot be applied: {reason}")]
pub struct RestoreError {
    /// Which record, counted from 0.
    pub index: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// How a record contradicts the state.
pub(super) type Contradiction = String;

impl Core {
    /// Applies all records to an empty core.
    pub(super) fn replay(
        &mut self,
        records: impl IntoIterator<Item = Record>,
        now: Time,
    ) -> Result<(), RestoreError> {
        for (index, record) in records.into_iter().enumerate() {
            self.apply(&record, now).map_err(|reason| RestoreError { index, reason })?;
        }
        // Workers of the previous process may have ids below the reservation.
        self.next.worker = self.next.worker_reserved;
        Ok(())
    }

    /// Applies one record.
    pub(super) fn apply(&mut self, record: &Record, now: Time) -> Result<(), Contradiction> {
        self.version += 1;
        match record {
            Record::StudyCreated { .. } => self.apply_created(record, now),
            Record::DataCheckWanted { study, task } => {
                self.next.task = self.next.task.max(task.0 + 1);
                let study = self.study_mut(study)?;
                study.data = Data::Pending(*task);
                study.add_task(*task, TaskKind::Data)
            }
            Record::DataChecked { study, report } => {
                let study = self.study_mut(study)?;
                let Data::Pending(task) = study.data else {
                    return Err("no data check is pending".to_owned());
                };
                study.remove_task(task)?;
                study.data = Data::Checked(*report);
                Ok(())
            }
            Record::StudyStateChanged { study, state, elapsed_ms } => {
                self.apply_state(study, state, *elapsed_ms, now)
            }
            Record::StudyDeleted { study } => self.apply_deleted(study),
            Record::ProposalsEnded { study, reason } => {
                self.study_mut(study)?.proposals_ended = Some(reason.clone());
                Ok(())
            }
            Record::TrialProposed { study, number, task, genotype, parents } => {
                self.next.task = self.next.task.max(task.0 + 1);
                let study = self.study_mut(study)?;
                let (stage, kind) = match study.screening {
                    Some(_) => (Stage::Scoring(*task), TaskKind::Score(*number)),
                    None => (Stage::Training(*task), study.task_of(*number)),
                };
                study.add_trial(*number, genotype, parents, stage)?;
                study.add_task(*task, kind)?;
                study.budget_used += 1;
                study.unfinished += 1;
                if let Some(rungs) = &mut study.rungs {
                    rungs.begin();
                }
                Ok(())
            }
            Record::TrialInfeasible { study, number, genotype, parents, reason } => {
                self.study_mut(study)?.add_infeasible(*number, genotype, parents, reason)
            }
            Record::TrialTooSlow { study, number, genotype, parents, target, reason } => {
                let study = self.study_mut(study)?;
                study.latency.saved(target);
                study.add_infeasible(*number, genotype, parents, reason)
            }
            Record::TrialScored { study, number, score } => {
                self.study_mut(study)?.apply_scored(*number, *score)
            }
            Record::TrialImported { study, number, genotype, figures } => {
                self.study_mut(study)?.apply_imported(*number, genotype, figures)
            }
            Record::TrialInherits { study, number, donor } => {
                self.study_mut(study)?.trial_mut(*number)?.donor = Some(*donor);
                Ok(())
            }
            Record::AttemptStarted { study, task, attempt, worker, elapsed_ms } => {
                self.next.attempt = self.next.attempt.max(attempt.0 + 1);
                let expires = now.after(self.config.lease);
                let of = self.study_mut(study)?;
                of.clock = StudyClock::at(*elapsed_ms, now);
                if !of.tasks.start(*task, *attempt) {
                    return Err(format!("task {task} is not waiting"));
                }
                if let Some(number) = of.tasks.get(*task).and_then(|t| t.kind.trial()) {
                    of.trial_mut(number)?.attempts += 1;
                }
                let (study, task, worker) = (study.clone(), *task, *worker);
                let started = Attempt { study, task, worker, expires, progress: None };
                if self.running.insert(*attempt, started).is_some() {
                    return Err(format!("attempt {attempt} is already running"));
                }
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.attempts.insert(*attempt);
                }
                Ok(())
            }
            Record::AttemptEnded { study, task, attempt, ending, elapsed_ms } => {
                let accepted =
                    matches!(ending, AttemptEnding::Succeeded | AttemptEnding::Failed { .. });
                let ended = self.end_attempt(*attempt, accepted)?;
                if (&ended.study, ended.task) != (study, *task) {
                    return Err(format!("attempt {attempt} does not belong to task {task}"));
                }
                let study = self.study_mut(study)?;
                study.clock = StudyClock::at(*elapsed_ms, now);
                let back = study.tasks.requeue(*task);
                let task = back.ok_or_else(|| format!("task {task} is not running"))?;
                match ending {
                    AttemptEnding::Succeeded | AttemptEnding::Left => {}
                    AttemptEnding::Failed { .. } => task.failed += 1,
                    AttemptEnding::Lost => task.lost += 1,
                }
                Ok(())
            }
            Record::TeacherTrained { study, trained, soft_targets, measure } => {
                self.note_tasks(measure);
                let study = self.study_mut(study)?;
                let Teacher::Pending(task) = study.teacher else {
                    return Err("the teacher is not pending".to_owned());
                };
                study.remove_task(task)?;
                let (values, soft_targets) =
                    (Box::new(TrialValues::unmeasured(trained.clone())), *soft_targets);
                study.teacher = Teacher::Trained { values, soft_targets };
                study.add_measure_tasks(None, measure)
            }
            Record::TrialTrained { study, number, trained, measure } => {
                self.note_tasks(measure);
                self.study_mut(study)?.apply_trained(*number, trained, measure)
            }
            Record::TrialLookedUp { study, number, figures } => {
                self.study_mut(study)?.apply_looked_up(*number, figures)
            }
            Record::Measured { study, task, measurement } => {
                self.study_mut(study)?.apply_measured(*task, measurement)
            }
            Record::TrialFinished { study, number, ending } => {
                let dropped = self.study_mut(study)?.apply_finished(*number, ending)?;
                self.drop_attempts(dropped)
            }
            Record::TaskGivenUp { study, task, .. } => {
                self.study_mut(study)?.remove_task(*task)?;
                Ok(())
            }
            Record::RungReached { study, number, report } => {
                self.study_mut(study)?.apply_rung(*number, report)
            }
            Record::TrialPromoted { study, number, task } => {
                self.next.task = self.next.task.max(task.0 + 1);
                self.study_mut(study)?.apply_promoted(*number, *task)
            }
            Record::WorkerIdsReserved { below } => {
                self.next.worker_reserved = self.next.worker_reserved.max(*below);
                Ok(())
            }
        }
    }

    fn apply_created(&mut self, record: &Record, now: Time) -> Result<(), Contradiction> {
        let Record::StudyCreated { spec, teacher_weights, teacher_task, at_ms } = record else {
            return Err("the record creates no study".to_owned());
        };
        let (spec, name) = (spec.as_ref().clone(), spec.name.clone());
        if self.studies.contains_key(&name) {
            return Err(format!("study {name} already exists"));
        }
        let controller = (self.build_controller)(&spec);
        let metric = spec.training_metric().metric;
        let rungs = spec.fidelity.clone().map(|fidelity| Rungs::new(fidelity, metric));
        let screening = spec.training().and_then(|work| work.screening).map(Screening::new);
        let mut study = Study {
            fronts: Fronts::new(&spec),
            latency: Predictors::new(&spec),
            resolved: spec.to_resolved().into(),
            spec,
            created: self.next.study,
            created_at_ms: *at_ms,
            teacher_weights: *teacher_weights,
            state: StudyState::Running,
            proposals_ended: None,
            data: Data::Trusted,
            teacher: Teacher::None,
            trials: Vec::new(),
            rungs,
            screening,
            tasks: Tasks::default(),
            controller,
            clock: StudyClock::at(0, now),
            budget_used: 0,
            unfinished: 0,
            hopeless_in_a_row: 0,
            simulated_seconds: 0.0,
            names: Default::default(),
        };
        if let Some(task) = *teacher_task {
            self.next.task = self.next.task.max(task.0 + 1);
            study.teacher = Teacher::Pending(task);
            study.add_task(task, TaskKind::Teacher)?;
        }
        self.next.study += 1;
        self.studies.insert(name, study);
        Ok(())
    }

    fn apply_state(
        &mut self,
        name: &StudyName,
        state: &StudyState,
        elapsed_ms: u64,
        now: Time,
    ) -> Result<(), Contradiction> {
        let study = self.study_mut(name)?;
        if study.state.is_ended() {
            return Err(format!("study {name} has already ended"));
        }
        study.state = state.clone();
        study.clock = StudyClock::at(elapsed_ms, now);
        if !state.is_ended() {
            return Ok(());
        }
        if study.unfinished > 0 {
            return Err(format!("study {name} ends with unfinished trials"));
        }
        let left: Vec<TaskId> = study.tasks.iter().map(|(id, _)| id).collect();
        let mut dropped = Vec::new();
        for id in left {
            dropped.extend(study.remove_task(id)?.attempt);
        }
        self.drop_attempts(dropped)
    }

    fn apply_deleted(&mut self, name: &StudyName) -> Result<(), Contradiction> {
        self.studies.remove(name).ok_or_else(|| format!("there is no study {name}"))?;
        let mine = |(id, attempt): (&AttemptId, &Attempt)| (attempt.study == *name).then_some(*id);
        let dropped: Vec<AttemptId> = self.running.iter().filter_map(mine).collect();
        self.drop_attempts(dropped)?;
        self.ended.retain(|_, attempt| attempt.study != *name);
        Ok(())
    }

    /// Moves a current attempt to the ended attempts.
    fn end_attempt(
        &mut self,
        id: AttemptId,
        accepted: bool,
    ) -> Result<&EndedAttempt, Contradiction> {
        let attempt =
            self.running.remove(&id).ok_or_else(|| format!("attempt {id} is not running"))?;
        if let Some(worker) = self.workers.get_mut(attempt.worker) {
            worker.attempts.remove(&id);
        }
        let ended = EndedAttempt { study: attempt.study, task: attempt.task, accepted };
        Ok(self.ended.entry(id).insert_entry(ended).into_mut())
    }

    /// Ends attempts whose task is no longer needed.
    fn drop_attempts(&mut self, attempts: Vec<AttemptId>) -> Result<(), Contradiction> {
        attempts.into_iter().try_for_each(|id| self.end_attempt(id, false).map(|_| ()))
    }

    fn note_tasks(&mut self, tasks: &[(TaskId, Target)]) {
        for (id, _) in tasks {
            self.next.task = self.next.task.max(id.0 + 1);
        }
    }

    fn study_mut(&mut self, name: &StudyName) -> Result<&mut Study, Contradiction> {
        self.studies.get_mut(name).ok_or_else(|| format!("there is no study {name}"))
    }
}

impl Study {
    pub(super) fn trial_mut(&mut self, number: TrialNumber) -> Result<&mut Trial, Contradiction> {
        self.trials
            .get_mut(number.0 as usize)
            .ok_or_else(|| format!("there is no trial {number} in study {}", self.spec.name))
    }

    pub(super) fn add_trial(
        &mut self,
        number: TrialNumber,
        genotype: &[u16],
        parents: &[TrialNumber],
        stage: Stage,
    ) -> Result<(), Contradiction> {
        if number.0 as usize != self.trials.len() {
            return Err(format!(
                "trial {number} is out of order; the next number is {}",
                self.trials.len()
            ));
        }
        let genotype = self.spec.space.genotype(genotype.to_vec()).map_err(|e| e.to_string())?;
        let proposal = Proposal { genotype: genotype.clone(), parents: parents.to_vec() };
        self.controller.proposed(number, &proposal);
        let (parents, rungs) = (parents.to_vec(), Vec::new());
        let (imported, attempts, donor, score) = (false, 0, None, None);
        let trial = Trial { genotype, parents, imported, attempts, donor, score, rungs, stage };
        self.trials.push(trial);
        Ok(())
    }

    /// Adds a candidate that is infeasible before training.
    fn add_infeasible(
        &mut self,
        number: TrialNumber,
        genotype: &[u16],
        parents: &[TrialNumber],
        reason: &str,
    ) -> Result<(), Contradiction> {
        let stage = Stage::Infeasible { reason: reason.to_owned(), values: None };
        self.add_trial(number, genotype, parents, stage)?;
        self.controller.update(&FinishedTrial::Infeasible { number });
        Ok(())
    }

    fn add_task(&mut self, id: TaskId, kind: TaskKind) -> Result<(), Contradiction> {
        if self.tasks.insert(id, kind) { Ok(()) } else { Err(format!("task {id} already exists")) }
    }

    fn remove_task(&mut self, id: TaskId) -> Result<super::task::Task, Contradiction> {
        self.tasks.remove(id).ok_or_else(|| format!("there is no task {id}"))
    }

    fn add_measure_tasks(
        &mut self,
        number: Option<TrialNumber>,
        tasks: &[(TaskId, Target)],
    ) -> Result<(), Contradiction> {
        tasks.iter().try_for_each(|(id, target)| {
            self.add_task(*id, TaskKind::Measure(number, target.clone()))
        })
    }

    fn apply_rung(
        &mut self,
        number: TrialNumber,
        report: &RungReport,
    ) -> Result<(), Contradiction> {
        if self.next_rung(number) != Some(report.epochs) {
            return Err(format!(
                "the next rung of trial {number} is not at {} epochs",
                report.epochs
            ));
        }
        let trial = self.trial_mut(number)?;
        let Stage::Training(task) = trial.stage else {
            return Err(format!("trial {number} is not in training"));
        };
        let reached = trial.rungs.len();
        let genotype = trial.genotype.clone();
        let seconds = report.figures.training_seconds() - trial.seconds();
        trial.rungs.push(report.clone());
        trial.stage = Stage::OnRung;
        if self.spec.training().is_none() {
            self.simulated_seconds += seconds;
        }
        self.remove_task(task)?;
        self.hopeless_in_a_row = 0;
        let metric = self.spec.training_metric();
        let value = report.figures.get(&metric);
        let value =
            value.ok_or_else(|| format!("a rung report of trial {number} has no {metric}"))?;
        let point = point(&self.spec, &genotype, value);
        if let Some(rungs) = &mut self.rungs {
            rungs.reach(number, reached, value, point);
        }
        Ok(())
    }

    fn apply_scored(&mut self, number: TrialNumber, score: f64) -> Result<(), Contradiction> {
        let trial = self.trial_mut(number)?;
        let Stage::Scoring(task) = trial.stage else {
            return Err(format!("trial {number} is not being scored"));
        };
        trial.score = Some(score);
        trial.stage = Stage::Scored;
        let genotype = trial.genotype.clone();
        self.remove_task(task)?;
        let point = point(&self.spec, &genotype, score);
        if let Some(screening) = &mut self.screening {
            screening.add(number, point);
        }
        Ok(())
    }

    fn apply_promoted(&mut self, number: TrialNumber, task: TaskId) -> Result<(), Contradiction> {
        let trial = self.trial_mut(number)?;
        if !matches!(trial.stage, Stage::OnRung | Stage::Scored) {
            return Err(format!("trial {number} is waiting neither at a rung nor in a batch"));
        }
        trial.stage = Stage::Training(task);
        let reached = trial.rungs.len();
        if let Some(rungs) = &mut self.rungs {
            rungs.promote(number, reached);
        }
        if let Some(screening) = &mut self.screening {
            screening.leave(number);
        }
        self.add_task(task, self.task_of(number))
    }

    /// The task that brings a trial to its next rung or to its end.
    fn task_of(&self, number: TrialNumber) -> TaskKind {
        match self.spec.work {
            Workload::Train(_) => TaskKind::Train(number),
            Workload::Table(_) => TaskKind::LookUp(number),
        }
    }

    fn apply_trained(
        &mut self,
        number: TrialNumber,
        trained: &TrainedTrial,
        measure: &[(TaskId, Target)],
    ) -> Result<(), Contradiction> {
        let trial = self.trial_mut(number)?;
        let Stage::Training(task) = trial.stage else {
            return Err(format!("trial {number} is not in training"));
        };
        let pending: BTreeSet<TaskId> = measure.iter().map(|(id, _)| *id).collect();
        trial.stage =
            Stage::Measuring { values: TrialValues::unmeasured(trained.clone()), pending };
        self.remove_task(task)?;
        self.add_measure_tasks(Some(number), measure)
    }

    fn apply_looked_up(
        &mut self,
        number: TrialNumber,
        figures: &Figures,
    ) -> Result<(), Contradiction> {
        let trial = self.trial_mut(number)?;
        let Stage::Training(task) = trial.stage else {
            return Err(format!("trial {number} is not being looked up"));
        };
        let seconds = figures.training_seconds() - trial.seconds();
        let values = TrialValues::Known(figures.clone());
        trial.stage = Stage::Measuring { values, pending: BTreeSet::new() };
        self.simulated_seconds += seconds;
        self.remove_task(task)?;
        Ok(())
    }

    fn apply_measured(
        &mut self,
        id: TaskId,
        measurement: &Measurement,
    ) -> Result<(), Contradiction> {
        let number = match self.remove_task(id)?.kind {
            TaskKind::Measure(number, _) => number,
            kind => return Err(format!("task {id} ({}) is not a measurement", kind.words())),
        };
        let values = match number {
            None => match &mut self.teacher {
                Teacher::Trained { values, .. } => values.as_mut(),
                _ => return Err("the teacher is not trained".to_owned()),
            },
            Some(number) => {
                let Stage::Measuring { values, pending } = &mut self.trial_mut(number)?.stage
                else {
                    return Err(format!("trial {number} is not being measured"));
                };
                pending.remove(&id);
                values
            }
        };
        values.add_measurement(measurement.clone());
        if let Some(number) = number {
            self.learn_latency(number, measurement);
        }
        Ok(())
    }

    /// Gives the predictors the measured latency of a trial's network.
    fn learn_latency(&mut self, number: TrialNumber, measurement: &Measurement) {
        let (Some(work), Some(trial)) = (self.spec.training(), self.trials.get(number.0 as usize))
        else {
            return;
        };
        let candidate = work.space.decode(&trial.genotype);
        // It was trained, so it has a plan.
        if let Ok(plan) = candidate.pruned_plan(work.space.data()) {
            let (target, ms) = (measurement.target(), measurement.p50_ms);
            self.latency.measured(&target, candidate.recipe.precision, &plan, ms);
        }
    }

    /// Finishes a trial. Returns the attempts that were running for it.
    fn apply_finished(
        &mut self,
        number: TrialNumber,
        ending: &TrialEnding,
    ) -> Result<Vec<AttemptId>, Contradiction> {
        let mut attempts = Vec::new();
        for id in self.tasks.of_trial(number) {
            attempts.extend(self.remove_task(id)?.attempt);
        }
        let mut names = self.names.clone();
        let trial = self.trial_mut(number)?;
        if trial.stage.is_finished() {
            return Err(format!("trial {number} is already finished"));
        }
        let values = trial.stage.values().cloned();
        let reached = trial.rungs.len();
        trial.stage = match (ending, values) {
            (TrialEnding::Pruned, _) if trial.stage != Stage::OnRung => {
                return Err(format!("trial {number} is pruned, but was not waiting at a rung"));
            }
            (TrialEnding::Pruned, _) => Stage::Pruned,
            (TrialEnding::ScreenedOut, _) if trial.stage != Stage::Scored => {
                return Err(format!(
                    "trial {number} is screened out, but was not waiting in a batch"
                ));
            }
            (TrialEnding::ScreenedOut, _) => Stage::ScreenedOut,
            (TrialEnding::Complete, Some(mut values)) => {
                values.share_names(&mut names);
                Stage::Complete(values)
            }
            (TrialEnding::Complete, None) => {
                return Err(format!("trial {number} is complete without being trained"));
            }
            (TrialEnding::Infeasible { reason }, values) => {
                Stage::Infeasible { reason: reason.clone(), values }
            }
            (TrialEnding::Failed { reason }, values) => {
                Stage::Failed { reason: reason.clone(), values }
            }
        };
        self.names = names;
        self.unfinished -= 1;
        if let Some(rungs) = &mut self.rungs {
            rungs.end(number, reached);
        }
        if let Some(screening) = &mut self.screening {
            screening.leave(number);
        }
        match ending {
            TrialEnding::Infeasible { .. } => {
                self.budget_used -= 1;
                self.hopeless_in_a_row += 1;
            }
            // The budget counts trainings, and this trial was not trained.
            TrialEnding::ScreenedOut => self.budget_used -= 1,
            _ => self.hopeless_in_a_row = 0,
        }
        self.note_curve(number);
        if let Stage::Complete(values) = &self.trials[number.0 as usize].stage {
            let feasible = self.violation(values) == 0.0;
            self.fronts.note(number.0 as usize, values, feasible);
        }
        let finished = self.finished_trial(number)?;
        self.controller.update(&finished);
        Ok(attempts)
    }

    /// A finished trial in the form that its controller gets.
    pub(super) fn finished_trial(
        &self,
        number: TrialNumber,
    ) -> Result<FinishedTrial, Contradiction> {
        Ok(match &self.trials[number.0 as usize].stage {
            Stage::Complete(values) => FinishedTrial::Complete {
                number,
                objectives: pareto::oriented(&self.spec.objectives, values).ok_or_else(|| {
                    format!("trial {number} is complete without all its objectives")
                })?,
                violation: self.violation(values),
            },
            Stage::Pruned => FinishedTrial::Pruned { number },
            Stage::Infeasible { .. } => FinishedTrial::Infeasible { number },
            Stage::Failed { .. } | Stage::ScreenedOut => FinishedTrial::Failed { number },
            Stage::Scoring(_)
            | Stage::Scored
            | Stage::Training(_)
            | Stage::OnRung
            | Stage::Measuring { .. } => {
                return Err(format!("trial {number} is not finished"));
            }
        })
    }
}
