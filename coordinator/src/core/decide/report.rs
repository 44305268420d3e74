//! Handles the end of an attempt: results, failures and lost workers.

use edgesmith_common::{
    AttemptError, AttemptId, Fault, Outcome, StudyName, Target, TaskId, WorkerId,
};

use super::outcome::checked;
use super::turn::Turn;
use crate::core::command::{Answer, Refusal};
use crate::core::record::{AttemptEnding, Record, StudyState, TrialEnding};
use crate::core::stages::StagesKey;
use crate::core::study::{Stage, TaskKind};
use crate::core::workers::Excluded;

/// Why a task is given up.
enum Spent {
    /// It cannot work, so another attempt is useless.
    Hopeless(String),
    /// Its attempts are used up.
    UsedUp(String),
}

impl Turn<'_> {
    pub(super) fn report(
        &mut self,
        worker: WorkerId,
        task: TaskId,
        attempt: AttemptId,
        outcome: Result<Outcome, AttemptError>,
    ) -> Result<Answer, Refusal> {
        self.core.heard_from(worker, self.now)?;
        let Some(current) = self.core.attempts().get(attempt) else {
            let accepted = self.core.attempts().was_accepted(attempt, task);
            return Ok(Answer::Reported { accepted });
        };
        // If its worker is not connected, which happens after a restart of the coordinator, no
        // other worker holds it.
        let held = current.worker() == worker || !self.core.connected().has(current.worker());
        if current.task() != task || !held {
            return Ok(Answer::Reported { accepted: false });
        }
        let study = current.study().clone();
        let kind = self.core.known(&study).tasks().get(task).map(|task| task.kind().clone());
        let kind = kind.unwrap_or_else(|| unreachable!("attempt {attempt} runs without its task"));
        match outcome.and_then(|outcome| checked(&kind, outcome, self.core.known(&study))) {
            Err(AttemptError { reason, fault }) => match (fault, kind.needs()) {
                (Fault::Worker, needs) => {
                    let ending = AttemptEnding::FaultOfWorker { reason: reason.clone() };
                    self.end_attempt(&study, task, attempt, ending);
                    self.core.exclude(worker, &study, needs, Excluded { reason, failing: false });
                }
                (Fault::Data, needs) if needs.data => {
                    // Others may have good files.
                    let named = self.core.connected().get(worker).map(|of| of.info().name.clone());
                    let reason = match named {
                        Some(name) => format!("{reason} (found by worker {name})"),
                        None => reason,
                    };
                    let ending = AttemptEnding::FaultOfData { reason: reason.clone() };
                    self.end_attempt(&study, task, attempt, ending);
                    if !self.core.known(&study).data().are_damaged() {
                        self.record(Record::DataDamaged { study, reason });
                    }
                }
                (Fault::Memory, _) => {
                    self.core.note_too_large(worker, task);
                    // Others that have not said so yet may have more memory.
                    let waits =
                        self.core.known(&study).tasks().get(task).is_some_and(|of| {
                            self.core.connected().avoids(worker, &study, task, of)
                        });
                    let ending = AttemptEnding::TooLarge { reason: reason.clone() };
                    self.end_attempt(&study, task, attempt, ending);
                    if !waits {
                        self.give_up(&study, task, Spent::Hopeless(reason));
                    }
                }
                (Fault::Candidate, _) => {
                    self.core.note_failure(worker, task);
                    let ending = AttemptEnding::Failed { reason: reason.clone() };
                    self.end_attempt(&study, task, attempt, ending);
                    self.give_up(&study, task, Spent::Hopeless(reason));
                }
                // A task that does not read the data knows nothing about them.
                (Fault::Attempt | Fault::Data, needs) => {
                    self.core.note_failure(worker, task);
                    if let Some(failed) = self.core.fails_all(worker, &study, needs.clone(), task) {
                        let reason = format!(
                            "{failed} of them failed in a row, while another worker did such \
                             tasks; the last failure: {reason}"
                        );
                        let ending = AttemptEnding::FaultOfWorker { reason: reason.clone() };
                        self.end_attempt(&study, task, attempt, ending);
                        let why = Excluded { reason, failing: true };
                        self.core.exclude(worker, &study, needs, why);
                        return Ok(Answer::Reported { accepted: true });
                    }
                    let ending = AttemptEnding::Failed { reason: reason.clone() };
                    self.end_attempt(&study, task, attempt, ending);
                    let of = self.core.known(&study);
                    let failed = of.tasks().get(task).map_or(0, |task| task.failed());
                    if failed >= of.spec().budget.max_attempts {
                        self.give_up(&study, task, Spent::UsedUp(reason));
                    }
                }
            },
            Ok(outcome) => {
                self.end_attempt(&study, task, attempt, AttemptEnding::Succeeded);
                self.core.note_success(worker, &study, kind.needs());
                self.succeed(&study, task, kind, outcome);
            }
        }
        Ok(Answer::Reported { accepted: true })
    }

    /// The worker of this current attempt left in an orderly way. This does not count against the
    /// task.
    pub(super) fn leave_behind(&mut self, attempt: AttemptId) {
        let Some(current) = self.core.attempts().get(attempt) else { return };
        let (study, task) = (current.study().clone(), current.task());
        self.end_attempt(&study, task, attempt, AttemptEnding::Left);
    }

    /// The worker of this current attempt is gone or has given it up.
    pub(super) fn lose(&mut self, attempt: AttemptId) {
        let Some(current) = self.core.attempts().get(attempt) else { return };
        let (study, task) = (current.study().clone(), current.task());
        self.end_attempt(&study, task, attempt, AttemptEnding::Lost);
        let lost = self.core.known(&study).tasks().get(task).map_or(0, |task| task.lost());
        if lost >= self.core.config().max_lost {
            let reason = format!("the worker running it was lost {lost} times");
            self.give_up(&study, task, Spent::UsedUp(reason));
        }
    }

    fn give_up(&mut self, name: &StudyName, task: TaskId, spent: Spent) {
        let kind = self.core.known(name).tasks().get(task).map(|task| task.kind().clone());
        let (Spent::Hopeless(why) | Spent::UsedUp(why)) = &spent;
        match kind {
            None => {}
            Some(TaskKind::Data) => {
                let reason = format!("the data could not be checked: {why}");
                self.end_study(name, StudyState::Failed { reason: reason.clone() }, &reason);
            }
            Some(TaskKind::Teacher) => {
                let reason = format!("the teacher could not be trained: {why}");
                self.end_study(name, StudyState::Failed { reason: reason.clone() }, &reason);
            }
            Some(TaskKind::Measure(None, _)) => {
                let (study, reason) = (name.clone(), why.clone());
                self.record(Record::TaskGivenUp { study, task, reason });
            }
            Some(
                TaskKind::Score(number)
                | TaskKind::Train(number)
                | TaskKind::LookUp(number)
                | TaskKind::Measure(Some(number), _),
            ) => {
                let ending = match spent {
                    Spent::Hopeless(reason) => TrialEnding::Infeasible { reason },
                    Spent::UsedUp(reason) => TrialEnding::Failed { reason },
                };
                self.finish_trial(name, number, ending.clone());
                if let TrialEnding::Infeasible { reason } = ending {
                    self.stop_if_hopeless(name, &reason);
                }
            }
        }
    }

    /// Stops the proposals of a study if too many trials in a row were infeasible; `reason` is that
    /// of the last one.
    fn stop_if_hopeless(&mut self, name: &StudyName, reason: &str) {
        let study = self.core.known(name);
        let (count, trials) = (study.trials().hopeless_in_a_row(), study.spec().budget.trials);
        if count < trials.max(self.core.config().max_hopeless) || study.proposals_ended().is_some()
        {
            return;
        }
        let reason = format!(
            "{count} trials in a row were infeasible; the reason for the last one: {reason}"
        );
        self.record(Record::ProposalsEnded { study: name.clone(), reason });
    }

    /// Records a result. [`checked`] has made sure that `outcome` fits `kind`.
    fn succeed(&mut self, name: &StudyName, task: TaskId, kind: TaskKind, outcome: Outcome) {
        let study = name.clone();
        match (kind, outcome) {
            (_, Outcome::DataChecked(report)) => {
                self.record(Record::DataChecked { study, report });
            }
            (_, Outcome::TeacherTrained { trained, soft_targets }) => {
                let measure = self.measure_tasks(name);
                self.record(Record::TeacherTrained { study, trained, soft_targets, measure });
            }
            (TaskKind::Score(number), Outcome::Scored(score)) => {
                self.record(Record::TrialScored { study, number, score });
            }
            (TaskKind::Train(number) | TaskKind::LookUp(number), Outcome::RungReached(report)) => {
                self.record(Record::RungReached { study, number, report });
            }
            (TaskKind::Train(number), Outcome::TrialTrained(trained)) => {
                let measure = self.measure_tasks(name);
                let unmeasured = measure.is_empty();
                let stages = StagesKey::of(&trained.stages);
                self.record(Record::TrialTrained { study, number, trained, stages, measure });
                if unmeasured {
                    self.finish_trial(name, number, TrialEnding::Complete);
                }
            }
            (TaskKind::LookUp(number), Outcome::LookedUp(figures)) => {
                self.record(Record::TrialLookedUp { study, number, figures });
                self.finish_trial(name, number, TrialEnding::Complete);
            }
            (TaskKind::Measure(number, _), Outcome::Measured(measurement)) => {
                self.record(Record::Measured { study, task, measurement });
                let Some(number) = number else { return };
                let trial = &self.core.known(name).trials()[number];
                if matches!(trial.stage(), Stage::Measuring { pending, .. } if pending.is_empty()) {
                    self.finish_trial(name, number, TrialEnding::Complete);
                }
            }
            (kind, _) => unreachable!("{} has the outcome of another kind of task", kind.words()),
        }
    }

    /// New tasks that measure one model, one for each target of the study.
    fn measure_tasks(&self, name: &StudyName) -> Vec<(TaskId, Target)> {
        let ids = self.core.next_tasks();
        ids.zip(self.core.known(name).spec().targets()).collect()
    }

    fn end_attempt(
        &mut self,
        name: &StudyName,
        task: TaskId,
        attempt: AttemptId,
        ending: AttemptEnding,
    ) {
        let (study, elapsed_ms) = (name.clone(), self.elapsed_ms(name));
        self.record(Record::AttemptEnded { study, task, attempt, ending, elapsed_ms });
    }
}
