//! Invariants of one study that hold between two events.

use edgesmith_common::{TaskId, TrialNumber, pareto};

use super::Study;
use super::data::Check;
use super::task::TaskKind;
use super::teacher::Teacher;
use super::trial::{Stage, Trial};
use crate::core::record::StudyState;

impl Study {
    /// Cross-checks what is counted, and what waits for what.
    ///
    /// # Errors
    /// The first violated invariant.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_front()?;
        self.tasks.check()?;
        let given_back =
            |t: &Trial| matches!(t.stage(), Stage::Infeasible { .. } | Stage::ScreenedOut);
        let uses = |t: &Trial| !t.is_imported() && !given_back(t);
        let used = self.count(uses);
        let counted = self.trials.budget_used();
        ensure(used == counted, || format!("{used} trials use the budget, counted {counted}"))?;
        let budget = self.spec.budget.trials;
        ensure(used <= budget, || format!("{used} trials use a budget of {budget}"))?;
        let (unfinished, counted) =
            (self.count(|t| !t.stage().is_finished()), self.trials.unfinished());
        ensure(unfinished == counted, || {
            format!("{unfinished} trials are unfinished, counted {counted}")
        })?;
        let ended = self.state.is_ended();
        let empty = self.tasks.iter().next().is_none();
        ensure(!ended || (empty && unfinished == 0), || {
            "it has ended, but work is left".to_owned()
        })?;
        ensure(!self.is_done(), || "it is done, but has not ended".to_owned())?;
        if matches!(self.state, StudyState::Complete { reason: None }) {
            ensure(used == budget || self.seconds_are_used(), || {
                format!("it is complete after {used} trials of {budget}")
            })?;
        }
        let infeasible = self.count(|t| matches!(t.stage(), Stage::Infeasible { .. }));
        let saved: u32 = self.latency.view().iter().map(|of| of.trainings_saved).sum();
        ensure(saved <= infeasible, || {
            format!("{saved} trials are too slow, but only {infeasible} are infeasible")
        })?;
        for (id, task) in self.tasks.iter() {
            ensure(self.expects(id, task.kind()), || format!("nothing waits for task {id}"))?;
            let (failed, most) = (task.failed(), self.spec.budget.max_attempts);
            ensure(failed < most, || {
                format!("task {id} failed {failed} times, of at most {most}")
            })?;
        }
        for (number, trial) in self.trials.iter() {
            self.check_trial(number, trial.stage())?;
            self.check_rungs(number, trial)?;
        }
        let stopped = self.next_stopped();
        ensure(stopped.is_none(), || {
            format!("trial {stopped:?} waits at a rung, but will never go on")
        })?;
        ensure(self.next_batch().is_none(), || "a batch is full, but not decided".to_owned())?;
        let trains = |trial: &Trial| {
            matches!(trial.stage(), Stage::Scoring(_) | Stage::Scored | Stage::Training(_))
        };
        let waits = |trial: &Trial| *trial.stage() == Stage::OnRung;
        let stuck = !self.may_propose()
            && self.next_promotion().is_none()
            && self.count(trains) == 0
            && self.count(waits) > 0;
        ensure(!stuck, || "trials wait at rungs that no other trial will reach".to_owned())?;
        match &self.rungs {
            Some(rungs) => {
                let counted =
                    |(_, trial): (_, &Trial)| (trial.rungs().len(), trial.stage().is_finished());
                rungs.check(self.trials.iter().map(counted))
            }
            None => Ok(()),
        }
    }

    /// Checks that a trial has reached the study's rungs in order.
    fn check_rungs(&self, number: TrialNumber, trial: &Trial) -> Result<(), String> {
        let below = self.spec.fidelity.as_ref().map_or(&[][..], |fidelity| &fidelity.rungs);
        let epochs: Vec<u32> = trial.rungs().iter().map(|report| report.epochs).collect();
        ensure(below.starts_with(&epochs), || {
            format!("trial {number} reached wrong rungs, at {epochs:?} epochs")
        })?;
        let waits = self.rungs.as_ref().is_some_and(|rungs| rungs.waits(number, epochs.len()));
        ensure(waits == (*trial.stage() == Stage::OnRung), || {
            format!("trial {number} is {:?}, but waiting at its rung: {waits}", trial.stage())
        })?;
        match trial.stage() {
            Stage::Measuring { .. } | Stage::Complete(_) => {
                let passed = epochs.len() == below.len();
                ensure(passed, || {
                    format!("trial {number} is trained, but only reached rungs {epochs:?}")
                })
            }
            Stage::OnRung | Stage::Pruned => ensure(!epochs.is_empty(), || {
                format!("trial {number} stopped, but has reached no rung")
            }),
            Stage::Scoring(_) | Stage::Scored | Stage::ScreenedOut => {
                ensure(epochs.is_empty(), || {
                    format!("trial {number} was trained before it was screened")
                })
            }
            Stage::Training(_) | Stage::Infeasible { .. } | Stage::Failed { .. } => Ok(()),
        }
    }

    /// Whether the data check, the teacher or a trial waits for this task.
    fn expects(&self, id: TaskId, kind: &TaskKind) -> bool {
        let stage = kind.trial().and_then(|number| self.trials.get(number)).map(Trial::stage);
        match (kind, stage) {
            (TaskKind::Data, _) => *self.data.check() == Check::Pending(id),
            (TaskKind::Teacher, _) => self.teacher == Teacher::Pending(id),
            (TaskKind::Measure(None, _), _) => self.teacher.trained().is_some(),
            (TaskKind::Score(_), Some(Stage::Scoring(task)))
            | (TaskKind::Train(_) | TaskKind::LookUp(_), Some(Stage::Training(task))) => {
                *task == id
            }
            (TaskKind::Measure(_, _), Some(Stage::Measuring { pending, .. })) => {
                pending.contains(&id)
            }
            _ => false,
        }
    }

    fn check_trial(&self, number: TrialNumber, stage: &Stage) -> Result<(), String> {
        match stage {
            Stage::Scoring(task) | Stage::Training(task) => {
                let there = self.tasks.get(*task).is_some();
                ensure(there, || format!("trial {number} waits for task {task}, which is gone"))
            }
            Stage::Measuring { pending, .. } => {
                let there = pending.iter().all(|task| self.tasks.get(*task).is_some());
                ensure(there && !pending.is_empty(), || {
                    format!("trial {number} waits for tasks {pending:?}, which are gone")
                })
            }
            Stage::Complete(kept) => {
                let measured = |target| kept.figures().latencies().any(|(of, _)| *of == target);
                let all = self.spec.targets().into_iter().all(measured);
                ensure(all, || {
                    format!("trial {number} is complete, but some targets were not measured")
                })
            }
            Stage::OnRung | Stage::Scored => {
                let left = self.tasks.of_trial(number);
                ensure(left.is_empty(), || {
                    format!("trial {number} waits without a task, but has tasks {left:?}")
                })?;
                let waits = self.screening.as_ref().is_some_and(|s| s.waits(number));
                ensure(waits == (*stage == Stage::Scored), || {
                    format!("trial {number} is {stage:?}, but waiting in a batch: {waits}")
                })
            }
            Stage::ScreenedOut
            | Stage::Pruned
            | Stage::Infeasible { .. }
            | Stage::Failed { .. } => Ok(()),
        }
    }

    /// Checks that the maintained front equals the front of all complete trials.
    fn check_front(&self) -> Result<(), String> {
        let complete = self.trials.complete();
        let feasible = complete.filter(|(_, figures)| self.violation(figures) == 0.0);
        let points = feasible.filter_map(|(number, figures)| {
            Some((number, pareto::oriented(&self.spec.objectives, figures)?))
        });
        let (numbers, points): (Vec<TrialNumber>, Vec<Vec<f64>>) = points.unzip();
        let expected: Vec<TrialNumber> =
            pareto::front(&points).into_iter().map(|i| numbers[i]).collect();
        let mut kept: Vec<TrialNumber> =
            self.front(None, &[]).into_iter().map(|(number, _)| number).collect();
        kept.sort_unstable();
        ensure(kept == expected, || {
            format!("its front is {expected:?}, but {kept:?} was maintained")
        })
    }

    fn count(&self, which: impl Fn(&Trial) -> bool) -> u32 {
        self.trials.iter().filter(|(_, trial)| which(trial)).count() as u32
    }
}

/// An error that says `what`, unless a rule holds.
pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
