//! Applies records to the state, both live and in replay. Nothing here makes decisions.

use std::sync::Arc;

use edgesmith_common::{AttemptId, StudyName, TaskId, TrialValues};

use super::fronts::Fronts;
use super::import::Candidates;
use super::latency::Predictors;
use super::learner::Learner;
use super::machines::Machines;
use super::rungs::Rungs;
use super::screening::Screening;
use super::study::{Data, Stage, Study, StudyClock, Teacher};
use super::task::{TaskKind, Tasks};
use super::{Attempt, AttemptEnding, Core, Record, StudyState, Time};

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
        for study in self.studies.values_mut() {
            study.asks_data_hash = study.lacks_data_hash();
        }
        // Workers of the previous process may have ids below the reservation.
        self.next.worker = self.next.ids.workers_below;
        Ok(())
    }

    /// Applies one record.
    pub(super) fn apply(&mut self, record: &Record, now: Time) -> Result<(), Contradiction> {
        self.version += 1;
        self.next.ids.note(record);
        match record {
            Record::StudyCreated { .. } => self.apply_created(record, now),
            Record::DataCheckWanted { study, task } => {
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
                study.data_hash = report.hash.or(study.data_hash);
                Ok(())
            }
            Record::DataDamaged { study, reason } => {
                let study = self.study_mut(study)?;
                let dropped = match study.data {
                    Data::Pending(task) => study.remove_task(task)?.attempt,
                    Data::Trusted | Data::Checked(_) | Data::Damaged { .. } => None,
                };
                study.data = Data::Damaged { reason: reason.clone() };
                self.drop_attempts(dropped.into_iter().collect())
            }
            Record::DataTrusted { study } => {
                self.study_mut(study)?.data = Data::Trusted;
                Ok(())
            }
            Record::BudgetExtended { study, budget, source } => {
                self.study_mut(study)?.apply_extended(budget, source.clone());
                Ok(())
            }
            Record::StudyRenamed { study, name } => self.apply_renamed(study, name),
            Record::TeacherRetried { study, task } => {
                self.study_mut(study)?.apply_teacher_retried(*task)
            }
            Record::TeacherMeasuredAgain { study, measure } => {
                let study = self.study_mut(study)?;
                if !matches!(study.teacher, Teacher::Trained { .. }) {
                    return Err("the teacher is not trained".to_owned());
                }
                study.add_measure_tasks(None, measure)
            }
            Record::TrialRetried { study, number, task, measure } => {
                self.study_mut(study)?.apply_trial_retried(*number, *task, measure)
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
                let study = self.study_mut(study)?;
                let (stage, kind) = match study.screening {
                    Some(_) => (Stage::Scoring(*task), TaskKind::Score(*number)),
                    None => (Stage::Training(*task), study.task_of(*number)),
                };
                study.add_trial(*number, genotype, parents, stage)?;
                study.add_task(*task, kind)?;
                study.budget_used += 1;
                study.unfinished += 1;
                study.ruled_out_in_a_row = 0;
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
                let expires = now.after(self.config.lease);
                let of = self.study_mut(study)?;
                of.set_clock(*elapsed_ms, now);
                if !of.tasks.start(*task, *attempt) {
                    return Err(format!("task {task} is not waiting"));
                }
                let kind = of.tasks.get(*task).map(|task| &task.kind);
                if let Some((number, trains)) = kind.and_then(|k| Some((k.trial()?, k.trains()))) {
                    let trial = of.trial_mut(number)?;
                    trial.attempts += 1;
                    trial.training_attempts += u32::from(trains);
                }
                let (study, task, worker) = (study.clone(), *task, *worker);
                let started =
                    Attempt { study, task, worker, expires, answers: None, progress: None };
                if self.running.insert(*attempt, started).is_some() {
                    return Err(format!("attempt {attempt} is already running"));
                }
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.attempts.insert(*attempt);
                }
                Ok(())
            }
            Record::AttemptEnded { study, task, attempt, ending, elapsed_ms } => {
                let accepted = match ending {
                    AttemptEnding::Succeeded
                    | AttemptEnding::Failed { .. }
                    | AttemptEnding::TooLarge { .. }
                    | AttemptEnding::FaultOfWorker { .. }
                    | AttemptEnding::FaultOfData { .. } => true,
                    AttemptEnding::Lost | AttemptEnding::Left => false,
                };
                let ended = self.end_attempt(*attempt, accepted)?;
                if (&ended.study, ended.task) != (study, *task) {
                    return Err(format!("attempt {attempt} does not belong to task {task}"));
                }
                let study = self.study_mut(study)?;
                study.set_clock(*elapsed_ms, now);
                let back = study.tasks.requeue(*task);
                let task = back.ok_or_else(|| format!("task {task} is not running"))?;
                match ending {
                    AttemptEnding::Succeeded
                    | AttemptEnding::TooLarge { .. }
                    | AttemptEnding::FaultOfWorker { .. }
                    | AttemptEnding::FaultOfData { .. }
                    | AttemptEnding::Left => {}
                    AttemptEnding::Failed { .. } => task.failed += 1,
                    AttemptEnding::Lost => task.lost += 1,
                }
                Ok(())
            }
            Record::TeacherTrained { study, trained, soft_targets, measure } => {
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
            Record::TrialTrained { study, number, trained, stages, measure } => {
                self.study_mut(study)?.apply_trained(*number, trained, *stages, measure)
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
                self.study_mut(study)?.apply_promoted(*number, *task)
            }
            Record::WorkerIdsReserved { .. } | Record::IdsReserved { .. } => Ok(()),
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
        let metric = spec.training_metric().metric;
        let rungs = spec.fidelity.clone().map(|fidelity| Rungs::new(fidelity, metric));
        let screening = spec.training().and_then(|work| work.screening).map(Screening::new);
        let mut study = Study {
            learner: Learner::new(&spec),
            fronts: Fronts::new(&spec),
            latency: Predictors::new(&spec),
            resolved: spec.to_resolved().into(),
            filed: spec.budget.clone(),
            spec: Arc::new(spec),
            created: self.next.study,
            created_at_ms: *at_ms,
            teacher_weights: *teacher_weights,
            state: StudyState::Running,
            proposals_ended: None,
            data: Data::Trusted,
            data_hash: None,
            asks_data_hash: false,
            teacher: Teacher::None,
            trials: Vec::new(),
            rungs,
            screening,
            tasks: Tasks::default(),
            clock: StudyClock::at(0, now),
            budget_used: 0,
            unfinished: 0,
            hopeless_in_a_row: 0,
            ruled_out_in_a_row: 0,
            simulated_seconds: 0.0,
            names: Default::default(),
            rung_names: Default::default(),
            setups: Default::default(),
            machines: Machines::default(),
            candidates: Candidates::default(),
        };
        if let Some(task) = *teacher_task {
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
        if study.state.is_ended() && *state != StudyState::Running {
            return Err(format!("study {name} has already ended"));
        }
        study.set_clock(elapsed_ms, now);
        study.state = state.clone();
        if !state.is_ended() {
            return Ok(());
        }
        study.learner.rest();
        if study.unfinished > 0 {
            return Err(format!("study {name} ends with unfinished trials"));
        }
        let left: Vec<TaskId> = study.tasks.iter().map(|(id, _)| id).collect();
        let mut dropped = Vec::new();
        for id in left {
            dropped.extend(study.remove_task(id)?.attempt);
        }
        // What workers cannot do for it is in nobody's way any more.
        self.workers.readmit(name);
        self.drop_attempts(dropped)
    }

    fn apply_deleted(&mut self, name: &StudyName) -> Result<(), Contradiction> {
        self.studies.remove(name).ok_or_else(|| format!("there is no study {name}"))?;
        let mine = |(id, attempt): (&AttemptId, &Attempt)| (attempt.study == *name).then_some(*id);
        let dropped: Vec<AttemptId> = self.running.iter().filter_map(mine).collect();
        self.drop_attempts(dropped)?;
        self.ended.forget(name);
        self.workers.readmit(name);
        Ok(())
    }

    fn apply_renamed(&mut self, old: &StudyName, new: &StudyName) -> Result<(), Contradiction> {
        if self.studies.contains_key(new) {
            return Err(format!("study {new} already exists"));
        }
        let mut study =
            self.studies.remove(old).ok_or_else(|| format!("there is no study {old}"))?;
        Arc::make_mut(&mut study.spec).name = new.clone();
        study.resolved = study.spec.to_resolved().into();
        self.studies.insert(new.clone(), study);
        let running = self.running.values_mut().map(|attempt| &mut attempt.study);
        for of in running.filter(|of| *of == old) {
            *of = new.clone();
        }
        self.ended.rename(old, new);
        self.workers.rename(old, new);
        Ok(())
    }

    /// Moves a current attempt to the ended attempts.
    fn end_attempt(&mut self, id: AttemptId, accepted: bool) -> Result<Attempt, Contradiction> {
        let attempt =
            self.running.remove(&id).ok_or_else(|| format!("attempt {id} is not running"))?;
        if let Some(worker) = self.workers.get_mut(attempt.worker) {
            worker.attempts.remove(&id);
        }
        self.ended.add(&attempt.study, id, attempt.task, accepted);
        Ok(attempt)
    }

    /// Ends attempts whose task is no longer needed.
    fn drop_attempts(&mut self, attempts: Vec<AttemptId>) -> Result<(), Contradiction> {
        attempts.into_iter().try_for_each(|id| self.end_attempt(id, false).map(|_| ()))
    }

    fn study_mut(&mut self, name: &StudyName) -> Result<&mut Study, Contradiction> {
        self.studies.get_mut(name).ok_or_else(|| format!("there is no study {name}"))
    }
}
