//! The attempts at tasks: those that are current, with the worker that holds each, and those that
//! have ended.

use std::collections::BTreeMap;

use edgesmith_common::{AttemptId, StudyName, TaskId, WorkerId};

use super::ended::Ended;
use crate::core::event::RequestId;
use crate::core::record::Contradiction;
use crate::core::time::Time;

/// An attempt that is current.
#[derive(Debug)]
pub struct Attempt {
    study: StudyName,
    task: TaskId,
    /// The worker that holds it. It is not connected after a restart of the coordinator, until it
    /// joins again.
    worker: WorkerId,
    expires: Time,
    /// The request that it answered; `None` after a restart.
    answers: Option<RequestId>,
    /// What the worker reported last: share done, `0..=1`, and stage.
    progress: Option<(f64, String)>,
}

/// All attempts.
#[derive(Debug, Default)]
pub struct Attempts {
    running: BTreeMap<AttemptId, Attempt>,
    ended: Ended,
}

impl Attempt {
    pub fn study(&self) -> &StudyName {
        &self.study
    }

    pub fn task(&self) -> TaskId {
        self.task
    }

    /// The worker that holds it.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// What the worker said last that it is doing; empty if nothing.
    pub fn stage(&self) -> &str {
        self.progress.as_ref().map_or("", |(_, stage)| stage)
    }
}

/// What can be asked of them.
impl Attempts {
    /// An attempt that is current.
    pub fn get(&self, id: AttemptId) -> Option<&Attempt> {
        self.running.get(&id)
    }

    /// Those that are current, by id.
    pub fn iter(&self) -> impl Iterator<Item = (AttemptId, &Attempt)> {
        self.running.iter().map(|(id, attempt)| (*id, attempt))
    }

    /// Whether this attempt of this task ended with a report that was accepted.
    pub fn was_accepted(&self, id: AttemptId, task: TaskId) -> bool {
        self.ended.was_accepted(id, task)
    }

    /// The current attempt that was the answer to this request.
    pub fn answering(&self, to: RequestId) -> Option<AttemptId> {
        self.iter().find(|(_, attempt)| attempt.answers == Some(to)).map(|(id, _)| id)
    }

    /// When the next one expires.
    pub fn next_deadline(&self) -> Option<Time> {
        self.running.values().map(|attempt| attempt.expires).min()
    }

    /// Those that have expired.
    pub fn expired(&self, now: Time) -> Vec<AttemptId> {
        let over = self.iter().filter(|(_, attempt)| attempt.expires <= now);
        over.map(|(id, _)| id).collect()
    }

    /// Those of a study that are current.
    pub fn of_study(&self, name: &StudyName) -> Vec<AttemptId> {
        let mine = self.iter().filter(|(_, attempt)| attempt.study == *name);
        mine.map(|(id, _)| id).collect()
    }

    /// The highest id.
    pub fn highest(&self) -> Option<AttemptId> {
        self.running.keys().copied().chain(self.ended.highest()).max()
    }

    /// Checks that none is both current and ended, and that `exists` holds for the studies of ended
    /// ones.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, exists: impl Fn(&StudyName) -> bool) -> Result<(), String> {
        if let Some(id) = self.running.keys().find(|id| self.ended.has(**id)) {
            return Err(format!("attempt {id} is both running and ended"));
        }
        match self.ended.studies().find(|study| !exists(study)) {
            Some(study) => {
                Err(format!("an ended attempt is of study {study}, which does not exist"))
            }
            None => Ok(()),
        }
    }

    /// What of them a restart has to restore, as text.
    #[cfg(test)]
    pub fn lasting(&self) -> String {
        let current = self.iter().map(|(id, attempt)| (id, &attempt.study, attempt.task));
        format!("{:?} {:?}", current.collect::<Vec<_>>(), self.ended)
    }
}

/// What records say about them.
impl Attempts {
    /// A worker holds this attempt now.
    pub fn start(
        &mut self,
        id: AttemptId,
        study: &StudyName,
        task: TaskId,
        worker: WorkerId,
        expires: Time,
    ) -> Result<(), Contradiction> {
        let study = study.clone();
        let started = Attempt { study, task, worker, expires, answers: None, progress: None };
        match self.running.insert(id, started) {
            None => Ok(()),
            Some(_) => Err(format!("attempt {id} is already running")),
        }
    }

    /// A current attempt has ended. Returns it.
    pub fn end(&mut self, id: AttemptId, accepted: bool) -> Result<Attempt, Contradiction> {
        let attempt =
            self.running.remove(&id).ok_or_else(|| format!("attempt {id} is not running"))?;
        self.ended.add(&attempt.study, id, attempt.task, accepted);
        Ok(attempt)
    }

    /// Forgets the ended attempts of a study that was deleted.
    pub fn forget(&mut self, study: &StudyName) {
        self.ended.forget(study);
    }

    /// A study has another name.
    pub fn rename(&mut self, old: &StudyName, new: &StudyName) {
        let running = self.running.values_mut().map(|attempt| &mut attempt.study);
        for of in running.filter(|of| *of == old) {
            *of = new.clone();
        }
        self.ended.rename(old, new);
    }
}

/// What does not last of them.
impl Attempts {
    /// A current attempt was the answer to this request.
    pub fn answered(&mut self, id: AttemptId, to: RequestId) {
        if let Some(attempt) = self.running.get_mut(&id) {
            attempt.answers = Some(to);
        }
    }

    /// Gives a current attempt to another worker. Returns the one that had it.
    pub fn give(&mut self, id: AttemptId, worker: WorkerId, expires: Time) -> Option<WorkerId> {
        let attempt = self.running.get_mut(&id)?;
        attempt.expires = expires;
        Some(std::mem::replace(&mut attempt.worker, worker))
    }

    /// The worker of a current attempt says how far it is. Returns false if it is not current.
    pub fn progress(&mut self, id: AttemptId, fraction: f64, stage: String, expires: Time) -> bool {
        let Some(attempt) = self.running.get_mut(&id) else { return false };
        attempt.expires = expires;
        attempt.progress = Some((fraction, stage));
        true
    }

    /// All expire at this time.
    pub fn renew(&mut self, expires: Time) {
        self.running.values_mut().for_each(|attempt| attempt.expires = expires);
    }
}
