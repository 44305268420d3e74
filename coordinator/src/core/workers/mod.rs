//! The connected workers, the attempts that they hold, and the requests that wait for work. Who is
//! connected and who waits does not outlive the process: after a restart workers join again.
//!
//! The fields of each type here are private, and only [`Core`](super::Core) holds one of each. It
//! keeps them in step: a worker that is connected holds exactly the attempts that name it.

mod attempts;
mod ended;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_common::{AttemptId, Needs, StudyName, TaskId, WorkerId, WorkerInfo};

pub use attempts::{Attempt, Attempts};
pub use waiting::{Line, Waiting};

use super::study::Task;
use super::time::Time;

/// A connected worker.
#[derive(Debug)]
pub struct Worker {
    info: WorkerInfo,
    /// When its last message came.
    seen: Time,
    /// The attempts that it holds; never more than its slots.
    attempts: BTreeSet<AttemptId>,
    /// Unfinished tasks of which it reported a failed attempt.
    failed: BTreeSet<TaskId>,
    /// Those of them for which it said that it has too little memory, which stays so.
    too_large: BTreeSet<TaskId>,
    /// The tasks of studies that it cannot do, and why. It gets none of them until it joins again
    /// or the user retries the study; see [`Workers::can_do`] for the exception.
    excluded: BTreeMap<(StudyName, Needs), Excluded>,
    /// How its last attempts at the tasks of studies ended.
    streaks: BTreeMap<(StudyName, Needs), Streak>,
}

/// Why a worker is excluded from tasks.
#[derive(Debug)]
pub struct Excluded {
    /// In words.
    pub reason: String,
    /// Whether it failed several of them in a row; otherwise it said itself that it cannot do them.
    pub failing: bool,
}

/// How a worker's last attempts at tasks of a study with the same needs ended.
#[derive(Debug, Default)]
struct Streak {
    /// The tasks that it failed since its last success.
    failed: BTreeSet<TaskId>,
    /// The core's version at the first of these failures.
    began: u64,
    /// The core's version at its last success.
    succeeded: Option<u64>,
}

impl Worker {
    /// What it reported about itself when it joined.
    pub fn info(&self) -> &WorkerInfo {
        &self.info
    }

    /// When its last message came.
    pub fn seen(&self) -> Time {
        self.seen
    }

    /// The attempts that it holds; never more than its slots.
    pub fn attempts(&self) -> &BTreeSet<AttemptId> {
        &self.attempts
    }

    /// The tasks of studies that it cannot do, and why.
    pub fn excluded(&self) -> impl Iterator<Item = (&StudyName, &Needs, &Excluded)> {
        self.excluded.iter().map(|((study, needs), why)| (study, needs, why))
    }

    pub fn has_free_slot(&self) -> bool {
        self.attempts.len() < self.info.slots as usize
    }

    /// Whether it can do tasks of this study with these needs, and nothing is known against it.
    fn is_good_for(&self, study: &StudyName, needs: &Needs) -> bool {
        self.info.can_do(needs) && self.exclusion(study, needs).is_none()
    }

    fn exclusion(&self, study: &StudyName, needs: &Needs) -> Option<&Excluded> {
        let of = self.excluded.iter().find(|((of, what), _)| of == study && what == needs);
        of.map(|(_, why)| why)
    }
}

/// All connected workers.
#[derive(Debug, Default)]
pub struct Workers(BTreeMap<WorkerId, Worker>);

/// What can be asked of them.
impl Workers {
    pub fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.0.get(&id)
    }

    pub fn has(&self, id: WorkerId) -> bool {
        self.0.contains_key(&id)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.0.iter().map(|(id, worker)| (*id, worker))
    }

    /// Whether a worker gets tasks of this study with these needs. One that only failed them gets
    /// them as long as no other connected worker is good for them.
    pub fn can_do(&self, worker: WorkerId, study: &StudyName, needs: &Needs) -> bool {
        let Some(known) = self.get(worker) else { return false };
        known.info.can_do(needs)
            && match known.exclusion(study, needs) {
                None => true,
                Some(why) => {
                    why.failing && !self.0.values().any(|other| other.is_good_for(study, needs))
                }
            }
    }

    /// Whether `worker` should leave a task to others. It should if it failed the task and another
    /// worker, which has not failed it, can do such tasks. If the task needs more memory than it
    /// has, another that has not said this is better even if it failed once for another reason.
    pub fn avoids(&self, worker: WorkerId, study: &StudyName, id: TaskId, task: &Task) -> bool {
        let needs = task.kind().needs();
        let leaves_if = |failed: fn(&Worker) -> &BTreeSet<TaskId>| {
            let better = |(other, known): (&WorkerId, &Worker)| {
                *other != worker
                    && !failed(known).contains(&id)
                    && self.can_do(*other, study, &needs)
            };
            self.get(worker).is_some_and(|known| failed(known).contains(&id))
                && self.0.iter().any(better)
        };
        leaves_if(|known| &known.failed) || leaves_if(|known| &known.too_large)
    }

    /// Whether two workers get the same tasks: it is the same one, or they say the same about
    /// themselves and nothing is known against either.
    pub fn are_alike(&self, a: WorkerId, b: WorkerId) -> bool {
        let (Some(one), Some(other)) = (self.get(a), self.get(b)) else { return false };
        let plain =
            |of: &Worker| of.failed.is_empty() && of.too_large.is_empty() && of.excluded.is_empty();
        let same = |a: &WorkerInfo, b: &WorkerInfo| {
            a.roles == b.roles && a.class == b.class && a.engines == b.engines
        };
        a == b || (plain(one) && plain(other) && same(&one.info, &other.info))
    }

    /// Whether any connected worker can do such tasks of the study.
    pub fn any_can_do(&self, study: &StudyName, needs: &Needs) -> bool {
        self.0.keys().any(|worker| self.can_do(*worker, study, needs))
    }

    /// Whether a connected worker is excluded from tasks of the study.
    pub fn excludes(&self, study: &StudyName) -> bool {
        self.0.values().any(|worker| worker.excluded.keys().any(|(of, _)| of == study))
    }

    /// Whether another worker than `worker` has succeeded at such tasks since `began`.
    fn another_succeeds(&self, worker: WorkerId, key: &(StudyName, Needs), began: u64) -> bool {
        self.0.iter().any(|(other, known)| {
            let succeeded = known.streaks.get(key).and_then(|streak| streak.succeeded);
            *other != worker
                && known.is_good_for(&key.0, &key.1)
                && succeeded.is_some_and(|version| version > began)
        })
    }
}

/// What happens to them.
impl Workers {
    /// A worker joins. Its id has never been used.
    pub fn connect(&mut self, id: WorkerId, info: WorkerInfo, now: Time) {
        let joined = Worker {
            info,
            seen: now,
            attempts: BTreeSet::new(),
            failed: BTreeSet::new(),
            too_large: BTreeSet::new(),
            excluded: BTreeMap::new(),
            streaks: BTreeMap::new(),
        };
        self.0.insert(id, joined);
    }

    /// Takes a worker out. Returns the attempts that it held; `None` if it is not connected.
    pub fn disconnect(&mut self, id: WorkerId) -> Option<BTreeSet<AttemptId>> {
        self.0.remove(&id).map(|worker| worker.attempts)
    }

    /// Notes that a worker is alive. Returns whether it is connected.
    pub fn heard_from(&mut self, id: WorkerId, now: Time) -> bool {
        let known = self.0.get_mut(&id);
        known.map(|worker| worker.seen = now).is_some()
    }

    /// Gives every worker a full new term.
    pub fn renew(&mut self, now: Time) {
        self.0.values_mut().for_each(|worker| worker.seen = now);
    }

    /// A worker that is connected holds this attempt now.
    pub fn hand(&mut self, id: WorkerId, attempt: AttemptId) {
        if let Some(worker) = self.0.get_mut(&id) {
            worker.attempts.insert(attempt);
        }
    }

    /// A worker, if it is connected, does not hold this attempt any more.
    pub fn take(&mut self, id: WorkerId, attempt: AttemptId) {
        if let Some(worker) = self.0.get_mut(&id) {
            worker.attempts.remove(&attempt);
        }
    }

    /// Notes that a worker cannot do tasks of the study with these needs.
    pub fn exclude(&mut self, id: WorkerId, study: &StudyName, needs: Needs, why: Excluded) {
        if let Some(worker) = self.0.get_mut(&id) {
            worker.excluded.insert((study.clone(), needs), why);
        }
    }

    /// Notes that a worker succeeded at a task of the study with these needs. If it is excluded
    /// because it failed them, it no longer is.
    pub fn note_success(&mut self, id: WorkerId, study: &StudyName, needs: Needs, version: u64) {
        if let Some(worker) = self.0.get_mut(&id) {
            let streak = Streak { succeeded: Some(version), ..Streak::default() };
            let key = (study.clone(), needs);
            worker.excluded.retain(|of, why| *of != key || !why.failing);
            worker.streaks.insert(key, streak);
        }
    }

    /// Notes that a worker failed `task`, and forgets tasks that are done.
    pub fn note_failure(
        &mut self,
        id: WorkerId,
        task: TaskId,
        is_unfinished: impl Fn(TaskId) -> bool,
    ) {
        let Some(worker) = self.0.get_mut(&id) else { return };
        worker.failed.insert(task);
        worker.failed.retain(|id| is_unfinished(*id));
        worker.too_large.retain(|id| is_unfinished(*id));
    }

    /// Notes that a worker has too little memory for `task`.
    pub fn note_too_large(&mut self, id: WorkerId, task: TaskId) {
        if let Some(worker) = self.0.get_mut(&id) {
            worker.too_large.insert(task);
        }
    }

    /// Notes that a worker failed `task` of the study with these needs. Returns the number of tasks
    /// that it failed in a row if it should not be asked any more: they are at least `several`, and
    /// another worker did such tasks meanwhile.
    pub fn fails_all(
        &mut self,
        id: WorkerId,
        study: &StudyName,
        needs: Needs,
        task: TaskId,
        several: u32,
        version: u64,
    ) -> Option<usize> {
        let key = (study.clone(), needs);
        let streak = self.0.get_mut(&id)?.streaks.entry(key.clone()).or_default();
        if streak.failed.is_empty() {
            streak.began = version;
        }
        streak.failed.insert(task);
        let (failed, began) = (streak.failed.len(), streak.began);
        let fails = failed >= several as usize && self.another_succeeds(id, &key, began);
        fails.then_some(failed)
    }

    /// A study has another name now.
    pub fn rename(&mut self, old: &StudyName, new: &StudyName) {
        fn renamed<T>(all: &mut BTreeMap<(StudyName, Needs), T>, old: &StudyName, new: &StudyName) {
            let name = |of| if of == *old { new.clone() } else { of };
            let of_all = std::mem::take(all).into_iter();
            *all = of_all.map(|((of, needs), value)| ((name(of), needs), value)).collect();
        }
        for worker in self.0.values_mut() {
            renamed(&mut worker.excluded, old, new);
            renamed(&mut worker.streaks, old, new);
        }
    }

    /// Forgets which tasks of a study workers cannot do, so that they are asked again.
    pub fn readmit(&mut self, study: &StudyName) {
        for worker in self.0.values_mut() {
            worker.excluded.retain(|(of, _), _| of != study);
            worker.streaks.retain(|(of, _), _| of != study);
        }
    }
}
