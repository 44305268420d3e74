//! The unfinished tasks of a study, in one queue for each kind of worker that could take them.

use std::collections::{BTreeMap, BTreeSet};

use edgesmith_common::{AttemptId, Needs, Target, TaskId, TrialNumber};

use crate::core::record::{AttemptEnding, Contradiction};

/// What a task is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskKind {
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
    pub fn needs(&self) -> Needs {
        match self {
            TaskKind::Data | TaskKind::Teacher | TaskKind::Score(_) | TaskKind::Train(_) => {
                Needs::training()
            }
            TaskKind::LookUp(_) => Needs::looking_up(),
            TaskKind::Measure(_, target) => Needs::measuring_on(target.clone()),
        }
    }

    /// The trial that depends on it.
    pub fn trial(&self) -> Option<TrialNumber> {
        match self {
            TaskKind::Data | TaskKind::Teacher | TaskKind::Measure(None, _) => None,
            TaskKind::Score(number)
            | TaskKind::Train(number)
            | TaskKind::LookUp(number)
            | TaskKind::Measure(Some(number), _) => Some(*number),
        }
    }

    /// Whether it trains a trial, or looks it up instead.
    pub fn trains(&self) -> bool {
        match self {
            TaskKind::Train(_) | TaskKind::LookUp(_) => true,
            TaskKind::Data | TaskKind::Teacher | TaskKind::Score(_) | TaskKind::Measure(..) => {
                false
            }
        }
    }

    /// The task in words, for example `trial 12 measure@board`.
    pub fn words(&self) -> String {
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
pub struct Task {
    kind: TaskKind,
    /// Number of attempts that a worker reported as failed.
    failed: u32,
    /// Number of attempts whose worker was lost.
    lost: u32,
    /// The running attempt; `None` while the task waits.
    attempt: Option<AttemptId>,
    /// Whether it has or had an attempt, however that ended.
    begun: bool,
}

/// All tasks of a study that are not done.
#[derive(Debug, Default, PartialEq)]
pub struct Tasks {
    all: BTreeMap<TaskId, Task>,
    waiting: BTreeSet<(Queue, TaskId)>,
    running: usize,
}

/// The queue in which a task waits. Within a queue the oldest task is first, so a task that was
/// given back comes before newer ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
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

impl Task {
    /// What it is for.
    pub fn kind(&self) -> &TaskKind {
        &self.kind
    }

    /// How many of its attempts a worker reported as failed.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// How many of its attempts were lost with their workers.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// The running attempt; `None` while it waits.
    pub fn attempt(&self) -> Option<AttemptId> {
        self.attempt
    }

    /// Whether it has or had an attempt, however that ended.
    pub fn has_begun(&self) -> bool {
        self.begun
    }
}

impl Tasks {
    pub fn get(&self, id: TaskId) -> Option<&Task> {
        self.all.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        self.all.iter().map(|(id, task)| (*id, task))
    }

    /// The unfinished tasks of this trial.
    pub fn of_trial(&self, number: TrialNumber) -> Vec<TaskId> {
        let mine = |(_, task): &(TaskId, &Task)| task.kind.trial() == Some(number);
        self.iter().filter(mine).map(|(id, _)| id).collect()
    }

    /// How many tasks are running.
    pub fn running(&self) -> usize {
        self.running
    }

    /// The tasks that wait in `queue`, oldest first.
    pub fn waiting(&self, queue: Queue) -> impl Iterator<Item = (TaskId, &Task)> {
        let (low, high) = ((queue.clone(), TaskId(0)), (queue, TaskId(u64::MAX)));
        let known = |(_, id): &(Queue, TaskId)| Some((*id, self.all.get(id)?));
        self.waiting.range(low..=high).filter_map(known)
    }

    /// The oldest task that waits in `queue`.
    pub fn first_waiting(&self, queue: Queue) -> Option<TaskId> {
        self.waiting(queue).next().map(|(id, _)| id)
    }

    /// Adds a waiting task.
    pub(super) fn insert(&mut self, id: TaskId, kind: TaskKind) -> Result<(), Contradiction> {
        if self.all.contains_key(&id) {
            return Err(format!("task {id} already exists"));
        }
        self.waiting.insert((Queue::of(&kind), id));
        self.all.insert(id, Task { kind, failed: 0, lost: 0, attempt: None, begun: false });
        Ok(())
    }

    /// Marks a waiting task as running.
    pub(super) fn start(
        &mut self,
        id: TaskId,
        attempt: AttemptId,
    ) -> Result<&TaskKind, Contradiction> {
        match self.all.get_mut(&id) {
            Some(task) if task.attempt.is_none() => {
                task.attempt = Some(attempt);
                task.begun = true;
                self.waiting.remove(&(Queue::of(&task.kind), id));
                self.running += 1;
                Ok(&task.kind)
            }
            _ => Err(format!("task {id} is not waiting")),
        }
    }

    /// Puts a running task back into its queue, after an attempt that ended in this way.
    pub(super) fn requeue(
        &mut self,
        id: TaskId,
        ending: &AttemptEnding,
    ) -> Result<(), Contradiction> {
        let running = self.all.get_mut(&id).filter(|task| task.attempt.is_some());
        let task = running.ok_or_else(|| format!("task {id} is not running"))?;
        task.attempt = None;
        match ending {
            AttemptEnding::Succeeded
            | AttemptEnding::TooLarge { .. }
            | AttemptEnding::FaultOfWorker { .. }
            | AttemptEnding::FaultOfData { .. }
            | AttemptEnding::Left => {}
            AttemptEnding::Failed { .. } => task.failed += 1,
            AttemptEnding::Lost => task.lost += 1,
        }
        self.waiting.insert((Queue::of(&task.kind), id));
        self.running -= 1;
        Ok(())
    }

    /// Removes a task that is done or dropped.
    pub(super) fn remove(&mut self, id: TaskId) -> Result<Task, Contradiction> {
        let task = self.all.remove(&id).ok_or_else(|| format!("there is no task {id}"))?;
        if task.attempt.is_some() {
            self.running -= 1;
        } else {
            self.waiting.remove(&(Queue::of(&task.kind), id));
        }
        Ok(task)
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
