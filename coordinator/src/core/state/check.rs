//! Invariants that hold between two events. Checking them is cheap enough for tests to do it after
//! every event.

use std::collections::BTreeSet;

use edgesmith_common::AttemptId;

use super::Core;
use crate::core::study::ensure;

impl Core {
    /// Cross-checks every index and rule of the state.
    ///
    /// # Errors
    /// The first violated invariant.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut tasks = BTreeSet::new();
        for (name, study) in &self.studies {
            study.check_invariants().map_err(|what| format!("study {name}: {what}"))?;
            for (id, task) in study.tasks().iter() {
                ensure(tasks.insert(id), || format!("task {id} belongs to two studies"))?;
                ensure(id.0 < self.next.ids.tasks_below, || {
                    format!("task id {id} would be given again")
                })?;
                let Some(attempt) = task.attempt() else { continue };
                let runs = self.attempts.get(attempt);
                ensure(runs.is_some_and(|a| a.study() == name && a.task() == id), || {
                    format!("attempt {attempt} of task {id} is not current")
                })?;
            }
        }
        for (id, attempt) in self.attempts.iter() {
            let study = self.studies.get(attempt.study());
            let task = study.and_then(|study| study.tasks().get(attempt.task()));
            ensure(task.is_some_and(|task| task.attempt() == Some(id)), || {
                format!("attempt {id} is current, but its task does not name it")
            })?;
            let worker = attempt.worker();
            let known = self.workers.get(worker).is_none_or(|w| w.attempts().contains(&id));
            ensure(known, || format!("worker {worker} does not hold its attempt {id}"))?;
            ensure(worker.0 < self.next.worker, || {
                format!("worker id {worker} would be given again")
            })?;
        }
        let highest = self.attempts.highest().unwrap_or(AttemptId(0));
        ensure(highest.0 < self.next.ids.attempts_below, || {
            format!("attempt id {highest} would be given again")
        })?;
        self.attempts.check(|study| self.studies.contains_key(study))?;
        self.check_workers()
    }

    fn check_workers(&self) -> Result<(), String> {
        for (id, worker) in self.workers.iter() {
            let (holds, slots) = (worker.attempts().len(), worker.info().slots as usize);
            ensure(holds <= slots, || {
                format!("worker {id} holds {holds} attempts in {slots} slots")
            })?;
            for (study, needs, _) in worker.excluded() {
                ensure(self.studies.contains_key(study), || {
                    format!("worker {id} is excluded from study {study}, which does not exist")
                })?;
                ensure(worker.info().can_do(needs), || {
                    format!("worker {id} is excluded from tasks that it could not do anyway")
                })?;
            }
            for attempt in worker.attempts() {
                let current = self.attempts.get(*attempt);
                ensure(current.is_some_and(|a| a.worker() == id), || {
                    format!("worker {id} holds attempt {attempt}, which is not its own")
                })?;
            }
        }
        self.line.check(|worker| self.workers.has(worker))
    }
}
