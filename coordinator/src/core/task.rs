//! The unfinished tasks of a study, in one queue for each kind of worker that could take them.

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_common::{AttemptId, Needs, Target, TaskId, TrialNumber};

/// What a task is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TaskKind {
    /// Read the study's data.
    Data,
    /// Train the teacher.
    Teacher,
    /// Score a trial's untrained network.
    Score(TrialNumber),
    /// Train and compress a trial.
    Train(TrialNumber),
    /// Look up a trial in the study's table.
    LookUp(TrialNumber),
    /// Measure the latency of a model: a trial's, or the teacher's if there is no number.
    Measure(Option<TrialNumber>, Target),
}

impl TaskKind {
    /// What a worker needs to do this task.
    pub(super) fn needs(&self) -> Needs {
        match self {
            TaskKind::Data | TaskKind::Teacher | TaskKind::Score(_) | TaskKind::Train(_) => {
                Needs::training()
            }
            TaskKind::LookUp(_) => Needs::looking_up(),
            TaskKind::Measure(_, target) => Needs::measuring_on(target.clone()),
        }
    }

    /// The trial that depends on it.
    pub(super) fn trial(&self) -> Option<TrialNumber> {
        match self {
            TaskKind::Data | TaskKind::Teacher | TaskKind::Measure(None, _) => None,
            TaskKind::Score(number)
            | TaskKind::Train(number)
            | TaskKind::LookUp(number)
            | TaskKind::Measure(Some(number), _) => Some(*number),
        }
    }

    /// Whether it trains a trial, or looks it up instead.
    pub(super) fn trains(&self) -> bool {
        match self {
            TaskKind::Train(_) | TaskKind::LookUp(_) => true,
            TaskKind::Data | TaskKind::Teacher | TaskKind::Score(_) | TaskKind::Measure(..) => {
                false
            }
        }
    }

    /// The task in words, for example `trial 12 measure@board`.
    pub(super) fn words(&self) -> String {
        match self {
            TaskKind::Data => "data check".to_owned(),
            TaskKind::Teacher => "teacher".to_owned(),
            TaskKind::Score(number) => format!("trial {number} score"),
            TaskKind::Train(number) => format!("trial {number}"),
            TaskKind::LookUp(number) => format!("trial {number} look-up"),
            TaskKind::Measure(None, target) => format!("teacher measure@{target}"),
            TaskKind::Measure(Some(number), target) => format!("trial {number} measure@{target}"),
        }
    }
}

/// One task that is not done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    pub(super) kind: TaskKind,
    /// Number of attempts that a worker reported as failed.
    pub(super) failed: u32,
    /// Number of attempts whose worker was lost.
    pub(super) lost: u32,
    /// The running attempt; `None` while the task waits.
    pub(super) attempt: Option<AttemptId>,
    /// Whether it has or had an attempt, however that ended.
    pub(super) begun: bool,
}

/// All tasks of a study that are not done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tasks {
    all: BTreeMap<TaskId, Task>,
    waiting: BTreeSet<(Queue, TaskId)>,
    running: usize,
}

/// The queue in which a task waits. Within a queue the oldest task is first, so a task that was
/// given back comes before newer ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Queue {
    Data,
    Teacher,
    Train,
    LookUp,
    Measure(Target),
}

impl Queue {
    fn of(kind: &TaskKind) -> Self {
        match kind {
            TaskKind::Data => Queue::Data,
            TaskKind::Teacher => Queue::Teacher,
            TaskKind::Score(_) | TaskKind::Train(_) => Queue::Train,
            TaskKind::LookUp(_) => Queue::LookUp,
            TaskKind::Measure(_, target) => Queue::Measure(target.clone()),
        }
    }
}

impl Tasks {
    pub(super) fn get(&self, id: TaskId) -> Option<&Task> {
        self.all.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        self.all.iter().map(|(id, task)| (*id, task))
    }

    /// The unfinished tasks of this trial.
    pub(super) fn of_trial(&self, number: TrialNumber) -> Vec<TaskId> {
        let mine = |(_, task): &(TaskId, &Task)| task.kind.trial() == Some(number);
        self.iter().filter(mine).map(|(id, _)| id).collect()
    }

    /// How many tasks are running.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// The tasks that wait in `queue`, oldest first.
    pub(super) fn waiting(&self, queue: Queue) -> impl Iterator<Item = (TaskId, &Task)> {
        let (low, high) = ((queue.clone(), TaskId(0)), (queue, TaskId(u64::MAX)));
        let known = |(_, id): &(Queue, TaskId)| Some((*id, self.all.get(id)?));
        self.waiting.range(low..=high).filter_map(known)
    }

    /// The oldest task that waits in `queue`.
    pub(super) fn first_waiting(&self, queue: Queue) -> Option<TaskId> {
        self.waiting(queue).next().map(|(id, _)| id)
    }

    /// Adds a waiting task. Returns false if the id is taken.
    #[must_use]
    pub(super) fn insert(&mut self, id: TaskId, kind: TaskKind) -> bool {
        if self.all.contains_key(&id) {
            return false;
        }
        self.waiting.insert((Queue::of(&kind), id));
        self.all.insert(id, Task { kind, failed: 0, lost: 0, attempt: None, begun: false });
        true
    }

    /// Marks a waiting task as running. Returns false if it was not waiting.
    #[must_use]
    pub(super) fn start(&mut self, id: TaskId, attempt: AttemptId) -> bool {
        match self.all.get_mut(&id) {
            Some(task) if task.attempt.is_none() => {
                task.attempt = Some(attempt);
                task.begun = true;
                self.waiting.remove(&(Queue::of(&task.kind), id));
                self.running += 1;
                true
            }
            _ => false,
        }
    }

    /// Puts a running task back into its queue; the caller changes its counts. Returns `None` if it
    /// was not running.
    #[must_use]
    pub(super) fn requeue(&mut self, id: TaskId) -> Option<&mut Task> {
        let task = self.all.get_mut(&id)?;
        task.attempt.take()?;
        self.waiting.insert((Queue::of(&task.kind), id));
        self.running -= 1;
        Some(task)
    }

    /// Removes a task that is done or dropped.
    #[must_use]
    pub(super) fn remove(&mut self, id: TaskId) -> Option<Task> {
        let task = self.all.remove(&id)?;
        if task.attempt.is_some() {
            self.running -= 1;
        } else {
            self.waiting.remove(&(Queue::of(&task.kind), id));
        }
        Some(task)
    }

    /// Whether the indices agree with the tasks.
    pub(super) fn check(&self) -> Result<(), String> {
        let waits = |(id, task): (&TaskId, &Task)| {
            task.attempt.is_none().then(|| (Queue::of(&task.kind), *id))
        };
        let waiting: BTreeSet<_> = self.all.iter().filter_map(waits).collect();
        if waiting != self.waiting {
            return Err(format!(
                "waiting tasks are {waiting:?}, but {:?} are indexed",
                self.waiting
            ));
        }
        let running = self.all.len() - waiting.len();
        if running != self.running {
            return Err(format!("{running} tasks run, but {} are counted", self.running));
        }
        Ok(())
    }
}
