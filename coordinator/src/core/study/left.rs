//! What is left to do of a study, and what it waits for. Nothing here changes anything.

use edgesmith_common::spec::Workload;
use edgesmith_common::{ArtifactHash, Figures, Target, TrialNumber};

use super::Study;
use super::task::{Queue, Task, TaskKind};
use super::teacher::Teacher;
use super::trial::{Stage, Trial};
use crate::core::time::Time;

/// Trials that may still come.
impl Study {
    /// Whether another trial is wanted when a worker is free.
    pub fn wants_proposal(&self) -> bool {
        self.runs() && self.may_propose()
    }

    /// Whether to ask for another trial when a worker is free: it is wanted, and not under way.
    pub fn asks_for_proposal(&self) -> bool {
        self.wants_proposal() && !self.learner.is_away()
    }

    /// Whether more trials will be proposed, now or after the study is resumed.
    pub fn may_propose(&self) -> bool {
        !self.state.is_ended()
            && self.proposals_ended.is_none()
            && self.trials.budget_used() < self.spec.budget.trials
            && !self.seconds_are_used()
    }

    /// Whether the look-ups so far have used up the budget of simulated seconds.
    pub(super) fn seconds_are_used(&self) -> bool {
        let used = self.trials.simulated_seconds();
        self.spec.budget.simulated_seconds.is_some_and(|limit| used >= limit)
    }

    /// Whether its hours are used up, but it may still propose.
    pub fn is_out_of_hours(&self, now: Time) -> bool {
        let limit = self.spec.budget.milliseconds();
        self.wants_proposal() && limit.is_some_and(|limit| self.elapsed_ms(now) as f64 >= limit)
    }

    /// When its hours will be used up; `None` if it has no such limit, or does not propose now.
    pub fn out_of_hours_at(&self) -> Option<Time> {
        let limit = self.spec.budget.milliseconds().filter(|_| self.wants_proposal())?;
        Some(self.clock.shows(limit))
    }

    /// The most trials that may still be proposed.
    fn to_come(&self) -> u32 {
        if self.may_propose() { self.spec.budget.trials - self.trials.budget_used() } else { 0 }
    }
}

/// Trials that are there.
impl Study {
    /// The task that brings a trial to its next rung or to its end.
    pub(super) fn task_of(&self, number: TrialNumber) -> TaskKind {
        match self.spec.work {
            Workload::Train(_) => TaskKind::Train(number),
            Workload::Table(_) => TaskKind::LookUp(number),
        }
    }

    /// The number of epochs at which a trial stops next; `None` if it trains to the end.
    pub fn next_rung(&self, number: TrialNumber) -> Option<u32> {
        let reached = self.trials.get(number)?.rungs().len();
        self.rungs.as_ref()?.next(reached)
    }

    /// The trial that goes on from its rung when a worker is free.
    pub fn next_promotion(&self) -> Option<TrialNumber> {
        self.rungs.as_ref()?.next_promotion(self.to_come())
    }

    /// A trial that waits at its rung and will never go on.
    pub fn next_stopped(&self) -> Option<TrialNumber> {
        self.rungs.as_ref()?.next_stopped(self.to_come())
    }

    /// The next batch of scored candidates that can be decided: the candidates, best first, and how
    /// many of them to train.
    pub fn next_batch(&self) -> Option<(Vec<TrialNumber>, usize)> {
        let scores = |task: &Task| matches!(task.kind(), TaskKind::Score(_));
        let screening = self.screening.as_ref()?;
        let more = self.may_propose() || self.tasks.iter().any(|(_, task)| scores(task));
        screening.batch(more)
    }

    /// The targets on which a trained network is not measured yet.
    pub fn unmeasured(&self, figures: &Figures) -> Vec<Target> {
        let mut targets = self.spec.targets();
        targets.retain(|target| figures.latencies().all(|(of, _)| of != target));
        targets
    }

    /// Whether nothing is left to do or to propose.
    pub fn is_done(&self) -> bool {
        !self.state.is_ended()
            && !self.may_propose()
            && self.trials.unfinished() == 0
            && self.tasks.iter().next().is_none()
    }

    /// Whether nothing would be lost with it: it has no trial and no trained teacher, and at most
    /// its data were read. Trials wait for the teacher, so a study has none while that trains for
    /// hours.
    pub fn is_untouched(&self) -> bool {
        let begun = |task: &Task| task.has_begun() && *task.kind() != TaskKind::Data;
        self.trials.count() == 0
            && self.teacher.trained().is_none()
            && !self.tasks.iter().any(|(_, task)| begun(task))
    }
}

/// Workers that it needs.
impl Study {
    /// Whether it needs a worker that reads tables.
    pub fn awaits_table(&self) -> bool {
        self.spec.training().is_none()
            && !self.state.is_ended()
            && !self.data.are_damaged()
            && (self.tasks.first_waiting(Queue::LookUp).is_some()
                || self.next_promotion().is_some()
                || self.may_propose())
    }

    /// Whether it needs a worker that trains.
    pub fn awaits_trainer(&self) -> bool {
        self.spec.training().is_some()
            && !self.state.is_ended()
            && !self.data.are_damaged()
            && (self.tasks.first_waiting(Queue::Data).is_some()
                || self.tasks.first_waiting(Queue::Teacher).is_some()
                || self.tasks.first_waiting(Queue::Train).is_some()
                || self.next_promotion().is_some()
                || self.may_propose())
    }
}

/// Its teacher and its data.
impl Study {
    /// Whether the teacher was given up.
    pub fn lacks_teacher_task(&self) -> bool {
        self.teacher.lacks_task(&self.tasks)
    }

    /// The targets on which the trained teacher is neither measured nor waits to be.
    pub fn lacks_teacher_measurements(&self) -> Vec<Target> {
        let Some((values, _)) = self.teacher.trained() else { return Vec::new() };
        let mut targets = self.unmeasured(values.figures());
        targets.retain(|target| !Teacher::waits_for(target, &self.tasks));
        targets
    }

    /// Whether the data are damaged, or their check was given up.
    pub fn needs_data_again(&self) -> bool {
        self.data.are_needed_again(&self.tasks)
    }

    /// The hash that a worker's data must have to do this task; `None` if any data will do. While
    /// the study has no results and none are on the way, its data may still be replaced by others.
    pub fn expected_data(&self, kind: &TaskKind) -> Option<ArtifactHash> {
        let replaceable = *kind == TaskKind::Data && !self.keeps_data();
        self.data.hash().filter(|_| kind.needs().data && !replaceable)
    }

    /// Whether its data may not be replaced by others: it has results, or some are on the way.
    pub fn keeps_data(&self) -> bool {
        self.has_results() || self.uses_data_now()
    }

    /// Whether a running task, other than the data check, has read its data.
    fn uses_data_now(&self) -> bool {
        self.tasks.iter().any(|(_, task)| {
            let kind = task.kind();
            task.attempt().is_some() && *kind != TaskKind::Data && kind.needs().data
        })
    }

    /// Whether anything was trained on its data.
    fn has_results(&self) -> bool {
        let own = |trial: &Trial| {
            !trial.is_imported()
                && match trial.stage() {
                    Stage::Complete(_) | Stage::Measuring { .. } => true,
                    Stage::Failed { values, .. } | Stage::Infeasible { values, .. } => {
                        values.is_some()
                    }
                    Stage::Scoring(_)
                    | Stage::Scored
                    | Stage::Training(_)
                    | Stage::OnRung
                    | Stage::Pruned
                    | Stage::ScreenedOut => false,
                }
        };
        let begun = |trial: &Trial| trial.score().is_some() || !trial.rungs().is_empty();
        self.teacher.trained().is_some()
            || self.trials.iter().any(|(_, trial)| own(trial) || begun(trial))
    }
}
