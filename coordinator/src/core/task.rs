//! The tasks that a study still has to get done, indexed by who could take them.

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
    /// Look a trial up in the study's table.
    LookUp(TrialNumber),
    /// Time a model: a trial's, or the teacher's where there is no number.
    Measure(Option<TrialNumber>, Target),
}

impl TaskKind {
    /// What it needs of the worker that does it.
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

    /// For people, for example `trial 12 measure@board`.
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
    /// Attempts that a worker reported as failed.
    pub(super) failed: u32,
    /// Attempts whose worker was lost.
    pub(super) lost: u32,
    /// The attempt that runs; without one it waits.
    pub(super) attempt: Option<AttemptId>,
}

/// All tasks of a study that are not done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tasks {
    all: BTreeMap<TaskId, Task>,
    waiting: BTreeSet<(Queue, TaskId)>,
    running: usize,
}

/// Where a waiting task waits. Oldest first within a queue, so a task that came back goes first.
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

    /// Tasks of this trial, not done.
    pub(super) fn of_trial(&self, number: TrialNumber) -> Vec<TaskId> {
        let mine = |(_, task): &(TaskId, &Task)| task.kind.trial() == Some(number);
        self.iter().filter(mine).map(|(id, _)| id).collect()
    }

    /// How many run.
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

    /// Adds a waiting task. False where the id is taken.
    #[must_use]
    pub(super) fn insert(&mut self, id: TaskId, kind: TaskKind) -> bool {
        if self.all.contains_key(&id) {
            return false;
        }
        self.waiting.insert((Queue::of(&kind), id));
        self.all.insert(id, Task { kind, failed: 0, lost: 0, attempt: None });
        true
    }

    /// A waiting task runs now. False where it does not wait.
    #[must_use]
    pub(super) fn start(&mut self, id: TaskId, attempt: AttemptId) -> bool {
        match self.all.get_mut(&id) {
            Some(task) if task.attempt.is_none() => {
                task.attempt = Some(attempt);
                self.waiting.remove(&(Queue::of(&task.kind), id));
                self.running += 1;
                true
            }
            _ => false,
        }
    }

    /// A running task waits again; the counts are the caller's to change. `None` where it does not
    /// run.
    #[must_use]
    pub(super) fn requeue(&mut self, id: TaskId) -> Option<&mut Task> {
        let task = self.all.get_mut(&id)?;
        task.attempt.take()?;
        self.waiting.insert((Queue::of(&task.kind), id));
        self.running -= 1;
        Some(task)
    }

    /// The task is done or dropped.
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
            return Err(format!("waiting tasks are {waiting:?}, indexed {:?}", self.waiting));
        }
        let running = self.all.len() - waiting.len();
        if running != self.running {
            return Err(format!("{running} tasks run, counted {}", self.running));
        }
        Ok(())
    }
}
