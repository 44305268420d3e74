//! Taking up again what failed: trials, the teacher, damaged data, and workers that were excluded.
//! A user asks for it after mending the cause. What succeeded is kept.

use edgesmith_common::{Figures, StudyName, Target, TaskId, TrialNumber};

use super::apply::Contradiction;
use super::promotion::point;
use super::study::{Stage, Study, Teacher};
use super::task::TaskKind;
use super::{Answer, Record, Refusal, StudyState, TrialEnding, Turn};

impl Turn<'_> {
    /// Tries again what failed in a study: all failed trials or one, the teacher, the data check.
    /// Workers that were excluded are asked again. A study that ended goes on.
    ///
    /// # Errors
    /// If the study is unknown or was cancelled, if the trial has not failed, or if nothing has.
    pub(super) fn retry(
        &mut self,
        name: &StudyName,
        number: Option<TrialNumber>,
    ) -> Result<Answer, Refusal> {
        let Some(study) = self.core.studies.get(name) else {
            return Err(self.core.unknown_study(name));
        };
        if study.state == StudyState::Cancelled {
            return Err(Refusal::Ended { study: name.clone(), state: study.state.name() });
        }
        let failed = match number {
            Some(number) => {
                let Some(trial) = study.trials.get(number.0 as usize) else {
                    let (study, trials) = (name.clone(), study.trials.len() as u32);
                    return Err(Refusal::UnknownTrial { study, number, trials });
                };
                if !matches!(trial.stage, Stage::Failed { .. }) {
                    let state = study.trial_state(trial).name();
                    return Err(Refusal::NotFailed { study: name.clone(), number, state });
                }
                vec![number]
            }
            None => study.failed(),
        };
        let (data, teacher) = (study.needs_data_again(), study.lacks_teacher_task());
        let measured = study.lacks_teacher_measurements().len() as u32;
        let excluded = !study.state.is_ended() && self.core.workers.excludes(name);
        if failed.is_empty() && !data && !teacher && measured == 0 && !excluded {
            let (study, advice) = (name.clone(), study.advice());
            return Err(Refusal::NothingFailed { study, advice });
        }
        self.take_up(name);
        for number in &failed {
            self.retry_trial(name, *number);
        }
        self.core.workers.readmit(name);
        self.core.version += 1;
        self.opens = true;
        Ok(Answer::Retried { trials: failed.len() as u32, data, teacher, measured })
    }

    fn retry_trial(&mut self, name: &StudyName, number: TrialNumber) {
        let study = &self.core.studies[name];
        let ids = (self.core.next.ids.tasks_below..).map(TaskId);
        let stage = &study.trials[number.0 as usize].stage;
        let (task, measure) = match (stage, stage.figures()) {
            (_, Some(figures)) => (None, ids.zip(study.unmeasured(figures)).collect()),
            (Stage::Failed { waited: true, .. }, None) => (None, Vec::new()),
            (_, None) => (Some(TaskId(self.core.next.ids.tasks_below)), Vec::new()),
        };
        let measured = stage.figures().is_some() && measure.is_empty();
        self.record(Record::TrialRetried { study: name.clone(), number, task, measure });
        if measured {
            self.finish_trial(name, number, TrialEnding::Complete);
        }
    }
}

impl Study {
    /// The numbers of the failed trials.
    pub(super) fn failed(&self) -> Vec<TrialNumber> {
        let numbers = (0..).map(TrialNumber).zip(&self.trials);
        let failed = numbers.filter(|(_, trial)| matches!(trial.stage, Stage::Failed { .. }));
        failed.map(|(number, _)| number).collect()
    }

    /// Whether the teacher was given up.
    pub(super) fn lacks_teacher_task(&self) -> bool {
        match self.teacher {
            Teacher::Pending(task) => self.tasks.get(task).is_none(),
            Teacher::None | Teacher::Trained { .. } => false,
        }
    }

    /// The targets on which the trained teacher is neither measured nor waits to be.
    pub(super) fn lacks_teacher_measurements(&self) -> Vec<Target> {
        let Teacher::Trained { values, .. } = &self.teacher else { return Vec::new() };
        let waits = |target: &Target| {
            let mut tasks = self.tasks.iter();
            tasks.any(|(_, task)| matches!(&task.kind, TaskKind::Measure(None, of) if of == target))
        };
        let mut targets = self.unmeasured(values.figures());
        targets.retain(|target| !waits(target));
        targets
    }

    /// The targets on which a trained network is not measured yet.
    fn unmeasured(&self, figures: &Figures) -> Vec<Target> {
        let mut targets = self.spec.targets();
        targets.retain(|target| figures.latencies().all(|(of, _)| of != target));
        targets
    }

    pub(super) fn apply_teacher_retried(&mut self, task: TaskId) -> Result<(), Contradiction> {
        if !self.lacks_teacher_task() {
            return Err("the teacher was not given up".to_owned());
        }
        self.teacher = Teacher::Pending(task);
        self.add_task(task, TaskKind::Teacher)
    }

    /// Takes a failed trial up again, from the last result that it has.
    pub(super) fn apply_trial_retried(
        &mut self,
        number: TrialNumber,
        task: Option<TaskId>,
        measure: &[(TaskId, Target)],
    ) -> Result<(), Contradiction> {
        let screened = self.screening.is_some();
        let next = self.task_of(number);
        let trial = self.trial_mut(number)?;
        let Stage::Failed { values, waited, .. } = &mut trial.stage else {
            return Err(format!("trial {number} has not failed"));
        };
        let (waited, reached) = (*waited, trial.rungs.len());
        let (stage, kind) = match (values.take(), task) {
            (None, None) if waited && reached > 0 => (Stage::OnRung, None),
            (None, None) if waited => (Stage::Scored, None),
            (Some(values), None) => {
                let pending = measure.iter().map(|(id, _)| *id).collect();
                (Stage::Measuring { values, pending }, None)
            }
            (None, Some(task)) if screened && trial.score.is_none() => {
                (Stage::Scoring(task), Some((task, TaskKind::Score(number))))
            }
            (None, Some(task)) => (Stage::Training(task), Some((task, next))),
            (Some(_), Some(_)) | (None, None) => {
                return Err(format!("trial {number} does not go on with such a task"));
            }
        };
        let (on_rung, in_batch) = (stage == Stage::OnRung, stage == Stage::Scored);
        trial.stage = stage;
        let (score, genotype) = (trial.score, trial.genotype.clone());
        self.unfinished += 1;
        if let Some(rungs) = &mut self.rungs {
            rungs.resume(reached);
            if on_rung {
                rungs.wait_again(number, reached);
            }
        }
        if in_batch && let (Some(screening), Some(score)) = (&mut self.screening, score) {
            screening.add(number, point(&self.spec, &genotype, score));
        }
        // It is running again, and its result is still to come.
        self.learner.propose(number);
        match kind {
            Some((task, kind)) => self.add_task(task, kind),
            None => self.add_measure_tasks(Some(number), measure),
        }
    }
}
