//! The connected workers. None of this outlives the process: after a restart workers join again.

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_common::{AttemptId, Needs, StudyName, TaskId, WorkerId, WorkerInfo};

use super::task::Task;
use super::{Core, Time};

/// A connected worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) info: WorkerInfo,
    /// When its last message came.
    pub(super) seen: Time,
    /// The attempts that it holds; never more than its slots.
    pub(super) attempts: BTreeSet<AttemptId>,
    /// Unfinished tasks of which it reported a failed attempt.
    pub(super) failed: BTreeSet<TaskId>,
    /// Those of them for which it said that it has too little memory, which stays so.
    pub(super) too_large: BTreeSet<TaskId>,
    /// The tasks of studies that it cannot do, and why. It gets none of them until it joins again
    /// or the user retries the study; see [`Workers::can_do`] for the exception.
    pub(super) excluded: BTreeMap<(StudyName, Needs), Excluded>,
    /// How its last attempts at the tasks of studies ended.
    pub(super) streaks: BTreeMap<(StudyName, Needs), Streak>,
}

/// Why a worker is excluded from tasks.
#[derive(Debug)]
pub(super) struct Excluded {
    /// In words.
    pub(super) reason: String,
    /// Whether it failed several of them in a row; otherwise it said itself that it cannot do them.
    pub(super) failing: bool,
}

/// How a worker's last attempts at tasks of a study with the same needs ended.
#[derive(Debug, Default)]
pub(super) struct Streak {
    /// The tasks that it failed since its last success.
    failed: BTreeSet<TaskId>,
    /// The core's version at the first of these failures.
    began: u64,
    /// The core's version at its last success.
    succeeded: Option<u64>,
}

impl Worker {
    pub(super) fn has_free_slot(&self) -> bool {
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
pub(super) struct Workers(pub(super) BTreeMap<WorkerId, Worker>);

impl Workers {
    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.0.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.0.get_mut(&id)
    }

    /// Whether a worker gets tasks of this study with these needs. One that only failed them gets
    /// them as long as no other connected worker is good for them.
    pub(super) fn can_do(&self, worker: WorkerId, study: &StudyName, needs: &Needs) -> bool {
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
    pub(super) fn avoids(
        &self,
        worker: WorkerId,
        study: &StudyName,
        id: TaskId,
        task: &Task,
    ) -> bool {
        let needs = task.kind.needs();
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
    pub(super) fn are_alike(&self, a: WorkerId, b: WorkerId) -> bool {
        let (Some(one), Some(other)) = (self.get(a), self.get(b)) else { return false };
        let plain =
            |of: &Worker| of.failed.is_empty() && of.too_large.is_empty() && of.excluded.is_empty();
        let same = |a: &WorkerInfo, b: &WorkerInfo| {
            a.roles == b.roles && a.class == b.class && a.engines == b.engines
        };
        a == b || (plain(one) && plain(other) && same(&one.info, &other.info))
    }

    /// Whether any connected worker can do such tasks of the study.
    pub(super) fn any_can_do(&self, study: &StudyName, needs: &Needs) -> bool {
        self.0.keys().any(|worker| self.can_do(*worker, study, needs))
    }

    /// A study has another name now.
    pub(super) fn rename(&mut self, old: &StudyName, new: &StudyName) {
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

    /// Whether a connected worker is excluded from tasks of the study.
    pub(super) fn excludes(&self, study: &StudyName) -> bool {
        self.0.values().any(|worker| worker.excluded.keys().any(|(of, _)| of == study))
    }

    /// Forgets which tasks of a study workers cannot do, so that they are asked again.
    pub(super) fn readmit(&mut self, study: &StudyName) {
        for worker in self.0.values_mut() {
            worker.excluded.retain(|(of, _), _| of != study);
            worker.streaks.retain(|(of, _), _| of != study);
        }
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

impl Core {
    /// Notes that `worker` cannot do tasks of the study with these needs.
    pub(super) fn exclude(
        &mut self,
        worker: WorkerId,
        study: &StudyName,
        needs: Needs,
        why: Excluded,
    ) {
        if let Some(known) = self.workers.get_mut(worker) {
            known.excluded.insert((study.clone(), needs), why);
            self.version += 1;
        }
    }

    /// Notes that `worker` succeeded at a task of the study with these needs. If it is excluded
    /// because it failed them, it no longer is.
    pub(super) fn note_success(&mut self, worker: WorkerId, study: &StudyName, needs: Needs) {
        let succeeded = Some(self.version);
        if let Some(known) = self.workers.get_mut(worker) {
            let streak = Streak { succeeded, ..Streak::default() };
            let key = (study.clone(), needs);
            known.excluded.retain(|of, why| *of != key || !why.failing);
            known.streaks.insert(key, streak);
        }
    }

    /// Notes that `worker` failed `task` of the study with these needs. Returns the number of tasks
    /// that it failed in a row if it should not be asked any more: they are several, and another
    /// worker did such tasks meanwhile.
    pub(super) fn fails_all(
        &mut self,
        worker: WorkerId,
        study: &StudyName,
        needs: Needs,
        task: TaskId,
    ) -> Option<usize> {
        let (version, key) = (self.version, (study.clone(), needs));
        let streak = self.workers.get_mut(worker)?.streaks.entry(key.clone()).or_default();
        if streak.failed.is_empty() {
            streak.began = version;
        }
        streak.failed.insert(task);
        let (failed, began) = (streak.failed.len(), streak.began);
        let fails = failed >= self.config.max_failing as usize
            && self.workers.another_succeeds(worker, &key, began);
        fails.then_some(failed)
    }

    /// Notes that `worker` failed `task`, and forgets tasks that are done.
    pub(super) fn note_failure(&mut self, worker: WorkerId, task: TaskId) {
        let Some(known) = self.workers.get_mut(worker) else { return };
        known.failed.insert(task);
        let unfinished =
            |id: &TaskId| self.studies.values().any(|study| study.tasks.get(*id).is_some());
        known.failed.retain(unfinished);
        known.too_large.retain(unfinished);
    }

    /// Notes that `worker` has too little memory for `task`.
    pub(super) fn note_too_large(&mut self, worker: WorkerId, task: TaskId) {
        self.note_failure(worker, task);
        if let Some(known) = self.workers.get_mut(worker) {
            known.too_large.insert(task);
        }
    }
}
