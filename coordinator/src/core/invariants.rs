//! Invariants that hold between two events. Checking them is cheap enough for tests to do it after
//! every event.

use std::collections::BTreeSet;

use edgesmith_common::{AttemptId, TaskId, TrialNumber, pareto};

use super::study::{Data, Stage, Study, Teacher, Trial};
use super::task::TaskKind;
use super::{Core, StudyState};

impl Core {
    /// Cross-checks every index and rule of the state.
    ///
    /// # Errors
    /// The first violated invariant.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut tasks = BTreeSet::new();
        for (name, study) in &self.studies {
            let checked = study.check().and_then(|()| study.check_front());
            checked.map_err(|what| format!("study {name}: {what}"))?;
            for (id, task) in study.tasks.iter() {
                ensure(tasks.insert(id), || format!("task {id} belongs to two studies"))?;
                ensure(id.0 < self.next.ids.tasks_below, || {
                    format!("task id {id} would be given again")
                })?;
                let Some(attempt) = task.attempt else { continue };
                let runs = self.running.get(&attempt);
                ensure(runs.is_some_and(|a| a.study == *name && a.task == id), || {
                    format!("attempt {attempt} of task {id} is not current")
                })?;
            }
        }
        for (id, attempt) in &self.running {
            let task = self.studies.get(&attempt.study).and_then(|s| s.tasks.get(attempt.task));
            ensure(task.is_some_and(|task| task.attempt == Some(*id)), || {
                format!("attempt {id} is current, but its task does not name it")
            })?;
            ensure(!self.ended.has(*id), || format!("attempt {id} is both running and ended"))?;
            let worker = attempt.worker;
            let known = self.workers.get(worker).is_none_or(|w| w.attempts.contains(id));
            ensure(known, || format!("worker {worker} does not hold its attempt {id}"))?;
            ensure(worker.0 < self.next.worker, || {
                format!("worker id {worker} would be given again")
            })?;
        }
        let attempts = self.running.keys().copied().chain(self.ended.highest());
        let highest = attempts.max().unwrap_or(AttemptId(0));
        ensure(highest.0 < self.next.ids.attempts_below, || {
            format!("attempt id {highest} would be given again")
        })?;
        for study in self.ended.studies() {
            ensure(self.studies.contains_key(study), || {
                format!("an ended attempt is of study {study}, which does not exist")
            })?;
        }
        self.check_workers()
    }

    fn check_workers(&self) -> Result<(), String> {
        for (id, worker) in &self.workers.0 {
            let (holds, slots) = (worker.attempts.len(), worker.info.slots as usize);
            ensure(holds <= slots, || {
                format!("worker {id} holds {holds} attempts in {slots} slots")
            })?;
            for (study, needs) in worker.excluded.keys() {
                ensure(self.studies.contains_key(study), || {
                    format!("worker {id} is excluded from study {study}, which does not exist")
                })?;
                ensure(worker.info.can_do(needs), || {
                    format!("worker {id} is excluded from tasks that it could not do anyway")
                })?;
            }
            for attempt in &worker.attempts {
                let current = self.running.get(attempt);
                ensure(current.is_some_and(|a| a.worker == *id), || {
                    format!("worker {id} holds attempt {attempt}, which is not its own")
                })?;
            }
        }
        for parked in &self.parked {
            let worker = parked.worker;
            let known = self.workers.get(worker).is_some();
            ensure(known, || format!("worker {worker} waits for work and is not connected"))?;
        }
        let count = self.parked.iter().map(|p| p.to).collect::<BTreeSet<_>>().len();
        ensure(count == self.parked.len(), || "a request waits twice".to_owned())
    }
}

impl Study {
    fn check(&self) -> Result<(), String> {
        self.tasks.check()?;
        let given_back =
            |t: &Trial| matches!(t.stage, Stage::Infeasible { .. } | Stage::ScreenedOut);
        let uses = |t: &&Trial| !t.imported && !given_back(t);
        let used = self.trials.iter().filter(uses).count();
        let counted = self.budget_used as usize;
        ensure(used == counted, || format!("{used} trials use the budget, counted {counted}"))?;
        let budget = self.spec.budget.trials;
        ensure(self.budget_used <= budget, || format!("{used} trials use a budget of {budget}"))?;
        let unfinished = self.trials.iter().filter(|t| !t.stage.is_finished()).count();
        ensure(unfinished == self.unfinished as usize, || {
            format!("{unfinished} trials are unfinished, counted {}", self.unfinished)
        })?;
        let ended = self.state.is_ended();
        let empty = self.tasks.iter().next().is_none();
        ensure(!ended || (empty && unfinished == 0), || {
            "it has ended, but work is left".to_owned()
        })?;
        ensure(!self.is_done(), || "it is done, but has not ended".to_owned())?;
        if matches!(self.state, StudyState::Complete { reason: None }) {
            ensure(self.budget_used == budget || self.seconds_are_used(), || {
                format!("it is complete after {used} trials of {budget}")
            })?;
        }
        let infeasible = |t: &&Trial| matches!(t.stage, Stage::Infeasible { .. });
        let infeasible = self.trials.iter().filter(infeasible).count();
        let saved: u32 = self.latency.view().iter().map(|of| of.trainings_saved).sum();
        ensure(saved as usize <= infeasible, || {
            format!("{saved} trials are too slow, but only {infeasible} are infeasible")
        })?;
        for (id, task) in self.tasks.iter() {
            ensure(self.expects(id, &task.kind), || format!("nothing waits for task {id}"))?;
            let (failed, most) = (task.failed, self.spec.budget.max_attempts);
            ensure(failed < most, || {
                format!("task {id} failed {failed} times, of at most {most}")
            })?;
        }
        for (number, trial) in self.trials.iter().enumerate() {
            self.check_trial(TrialNumber(number as u32), &trial.stage)?;
            self.check_rungs(TrialNumber(number as u32), trial)?;
        }
        let stopped = self.next_stopped();
        ensure(stopped.is_none(), || {
            format!("trial {stopped:?} waits at a rung, but will never go on")
        })?;
        ensure(!self.has_batch(), || "a batch is full, but not decided".to_owned())?;
        let trains = |trial: &Trial| {
            matches!(trial.stage, Stage::Scoring(_) | Stage::Scored | Stage::Training(_))
        };
        let waits = |trial: &Trial| trial.stage == Stage::OnRung;
        let stuck = !self.may_propose()
            && self.next_promotion().is_none()
            && !self.trials.iter().any(trains)
            && self.trials.iter().any(waits);
        ensure(!stuck, || "trials wait at rungs that no other trial will reach".to_owned())?;
        match &self.rungs {
            Some(rungs) => {
                let counted = |trial: &Trial| (trial.rungs.len(), trial.stage.is_finished());
                rungs.check(self.trials.iter().map(counted))
            }
            None => Ok(()),
        }
    }

    /// Checks that a trial has reached the study's rungs in order.
    fn check_rungs(&self, number: TrialNumber, trial: &Trial) -> Result<(), String> {
        let below = self.spec.fidelity.as_ref().map_or(&[][..], |fidelity| &fidelity.rungs);
        let epochs: Vec<u32> = trial.rungs.iter().map(|report| report.epochs).collect();
        ensure(below.starts_with(&epochs), || {
            format!("trial {number} reached wrong rungs, at {epochs:?} epochs")
        })?;
        let waits = self.rungs.as_ref().is_some_and(|rungs| rungs.waits(number, epochs.len()));
        ensure(waits == (trial.stage == Stage::OnRung), || {
            format!("trial {number} is {:?}, but waiting at its rung: {waits}", trial.stage)
        })?;
        match &trial.stage {
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
        let stage = kind.trial().and_then(|n| self.trials.get(n.0 as usize)).map(|t| &t.stage);
        match (kind, stage) {
            (TaskKind::Data, _) => matches!(self.data, Data::Pending(task) if task == id),
            (TaskKind::Teacher, _) => self.teacher == Teacher::Pending(id),
            (TaskKind::Measure(None, _), _) => matches!(self.teacher, Teacher::Trained { .. }),
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
}

impl Study {
    /// Checks that the maintained front equals the front of all complete trials.
    fn check_front(&self) -> Result<(), String> {
        let feasible = self.complete().filter(|(_, values)| self.violation(values) == 0.0);
        let points = feasible.filter_map(|(number, figures)| {
            Some((number, pareto::oriented(&self.spec.objectives, figures)?))
        });
        let (numbers, points): (Vec<usize>, Vec<Vec<f64>>) = points.unzip();
        let expected: Vec<usize> = pareto::front(&points).into_iter().map(|i| numbers[i]).collect();
        let mut kept: Vec<usize> =
            self.front(None, &[]).into_iter().map(|(number, _)| number).collect();
        kept.sort_unstable();
        ensure(kept == expected, || {
            format!("its front is {expected:?}, but {kept:?} was maintained")
        })
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
