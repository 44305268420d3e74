//! What records change in one study: its trials, tasks, budget, and what its algorithm is told.
//!
//! Contradictions between a record and the state are errors. The record itself comes from
//! `apply.rs`.

use std::collections::BTreeSet;

use edgesmith_common::spec::Workload;
use edgesmith_common::{
    AttemptId, Figures, Measurement, RungReport, Target, TaskId, TrainedTrial, TrialNumber,
    TrialValues, pareto,
};

use super::apply::Contradiction;
use super::kept::Kept;
use super::promotion::point;
use super::study::{Stage, Study, Teacher, Trial};
use super::task::{Task, TaskKind};
use super::{StagesKey, TrialEnding};
use crate::controller::FinishedTrial;

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
        let part = self.learner.propose(number);
        let (parents, rungs) = (parents.to_vec(), Vec::new());
        self.trials.push(Trial {
            genotype,
            parents,
            part,
            imported: false,
            attempts: 0,
            training_attempts: 0,
            donor: None,
            score: None,
            rungs,
            stages: None,
            stage,
        });
        Ok(())
    }

    /// Adds a candidate that is infeasible before training.
    pub(super) fn add_infeasible(
        &mut self,
        number: TrialNumber,
        genotype: &[u16],
        parents: &[TrialNumber],
        reason: &str,
    ) -> Result<(), Contradiction> {
        let stage = Stage::Infeasible { reason: reason.to_owned(), values: None };
        self.add_trial(number, genotype, parents, stage)?;
        self.ruled_out_in_a_row += 1;
        self.note_finished(number)
    }

    pub(super) fn add_task(&mut self, id: TaskId, kind: TaskKind) -> Result<(), Contradiction> {
        if self.tasks.insert(id, kind) { Ok(()) } else { Err(format!("task {id} already exists")) }
    }

    pub(super) fn remove_task(&mut self, id: TaskId) -> Result<Task, Contradiction> {
        self.tasks.remove(id).ok_or_else(|| format!("there is no task {id}"))
    }

    pub(super) fn add_measure_tasks(
        &mut self,
        number: Option<TrialNumber>,
        tasks: &[(TaskId, Target)],
    ) -> Result<(), Contradiction> {
        tasks.iter().try_for_each(|(id, target)| {
            self.add_task(*id, TaskKind::Measure(number, target.clone()))
        })
    }

    pub(super) fn apply_rung(
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
        let mut kept = report.clone();
        kept.figures.share_names(&mut self.rung_names);
        let trial = self.trial_mut(number)?;
        let Stage::Training(task) = trial.stage else {
            return Err(format!("trial {number} is not in training"));
        };
        let reached = trial.rungs.len();
        let genotype = trial.genotype.clone();
        let seconds = report.figures.training_seconds() - trial.seconds();
        trial.rungs.push(kept);
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

    pub(super) fn apply_scored(
        &mut self,
        number: TrialNumber,
        score: f64,
    ) -> Result<(), Contradiction> {
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

    pub(super) fn apply_promoted(
        &mut self,
        number: TrialNumber,
        task: TaskId,
    ) -> Result<(), Contradiction> {
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
    pub(super) fn task_of(&self, number: TrialNumber) -> TaskKind {
        match self.spec.work {
            Workload::Train(_) => TaskKind::Train(number),
            Workload::Table(_) => TaskKind::LookUp(number),
        }
    }

    pub(super) fn apply_trained(
        &mut self,
        number: TrialNumber,
        trained: &TrainedTrial,
        stages: Option<StagesKey>,
        measure: &[(TaskId, Target)],
    ) -> Result<(), Contradiction> {
        let trial = self.trial_mut(number)?;
        let Stage::Training(task) = trial.stage else {
            return Err(format!("trial {number} is not in training"));
        };
        let pending: BTreeSet<TaskId> = measure.iter().map(|(id, _)| *id).collect();
        trial.stages = stages;
        let TrainedTrial { compressed, uncompressed, model, weights, stages: _ } = trained.clone();
        let kept = TrainedTrial { compressed, uncompressed, model, weights, stages: Vec::new() };
        trial.stage = Stage::Measuring { values: TrialValues::unmeasured(kept), pending };
        self.remove_task(task)?;
        self.add_measure_tasks(Some(number), measure)
    }

    pub(super) fn apply_looked_up(
        &mut self,
        number: TrialNumber,
        figures: &Figures,
    ) -> Result<(), Contradiction> {
        let trial = self.trial_mut(number)?;
        let Stage::Training(task) = trial.stage else {
            return Err(format!("trial {number} is not being looked up"));
        };
        let seconds = figures.training_seconds() - trial.seconds();
        let values = TrialValues::Known(figures.clone().into());
        trial.stage = Stage::Measuring { values, pending: BTreeSet::new() };
        self.simulated_seconds += seconds;
        self.remove_task(task)?;
        Ok(())
    }

    pub(super) fn apply_measured(
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
        self.machines.note(&measurement.device);
        if let Some(number) = number {
            self.learn_latency(number, measurement);
        }
        Ok(())
    }

    /// Gives the predictors the measured latency of a trial's network.
    pub(super) fn learn_latency(&mut self, number: TrialNumber, measurement: &Measurement) {
        let target = measurement.target();
        // Most studies predict nothing, and building the network takes longer than all else.
        if !self.latency.predicts(&target) {
            return;
        }
        let (Some(work), Some(trial)) = (self.spec.training(), self.trials.get(number.0 as usize))
        else {
            return;
        };
        let candidate = work.space.decode(&trial.genotype);
        if !candidate.recipe.fixes_costs() {
            return;
        }
        // It was trained, so it is a valid network.
        if let Ok(network) = candidate.pruned_graph(work.space.data()) {
            let ms = measurement.p50_ms;
            self.latency.measured(&target, candidate.recipe.precision(), &network, ms);
        }
    }

    /// Finishes a trial. Returns the attempts that were running for it.
    pub(super) fn apply_finished(
        &mut self,
        number: TrialNumber,
        ending: &TrialEnding,
    ) -> Result<Vec<AttemptId>, Contradiction> {
        let mut attempts = Vec::new();
        for id in self.tasks.of_trial(number) {
            attempts.extend(self.remove_task(id)?.attempt);
        }
        let trial = self.trial_mut(number)?;
        if trial.stage.is_finished() {
            return Err(format!("trial {number} is already finished"));
        }
        let (on_rung, scored) = (trial.stage == Stage::OnRung, trial.stage == Stage::Scored);
        let values = match &mut trial.stage {
            Stage::Measuring { values, .. } => {
                Some(std::mem::replace(values, TrialValues::Known(Box::default())))
            }
            _ => None,
        };
        let reached = trial.rungs.len();
        let stage = match (ending, values) {
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
            (TrialEnding::Complete, Some(values)) => {
                Stage::Complete(Kept::new(values, &mut self.names, &mut self.setups))
            }
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
        self.trial_mut(number)?.stage = stage;
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
        if let Stage::Complete(kept) = &self.trials[number.0 as usize].stage {
            let figures = kept.figures();
            let feasible = self.violation(figures) == 0.0;
            self.fronts.note(number.0 as usize, figures, feasible);
        }
        self.note_finished(number)?;
        Ok(attempts)
    }

    /// A finished trial in the form that its controller gets.
    pub(super) fn finished_trial(
        &self,
        number: TrialNumber,
    ) -> Result<FinishedTrial, Contradiction> {
        Ok(match &self.trials[number.0 as usize].stage {
            Stage::Complete(kept) => FinishedTrial::Complete {
                number,
                objectives: pareto::oriented(&self.spec.objectives, kept.figures()).ok_or_else(
                    || format!("trial {number} is complete without all its objectives"),
                )?,
                violation: self.violation(kept.figures()),
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
