//! Chooses the work for a worker: a pure function of the studies and of what the worker can do.
//!
//! Between studies, the one with the fewest running attempts comes first, then the oldest. So
//! workers are shared evenly, and new studies do not starve an old one. Within a study the order
//! is: the data check, for which all other tasks that read the data wait; the teacher, for which
//! all students wait; measuring, which finishes trials and does not need the data; training (or
//! looking up) trials that wait for it; promoting a trial from its rung; and proposing a new trial.
//! Trials are promoted or proposed only when a worker asks, so that all results so far are used.
//!
//! A worker that failed a task leaves it to others that can do it. While it leaves several tasks,
//! it gets no new proposals, so that a broken worker does not run ahead of working ones and fail
//! every trial once. A worker that cannot do such tasks of a study at all, for example because it
//! lacks the data, gets none of them.

use edgesmith_common::spec::Workload;
use edgesmith_common::{Needs, StudyName, TaskId, TrialNumber, WorkerId};

use crate::core::record::StudyState;
use crate::core::study::{Queue, Study, TaskKind};
use crate::core::workers::Workers;

/// The work that is chosen for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// This waiting task.
    Task(StudyName, TaskId),
    /// This trial of a study, which must be promoted from its rung first.
    Promote(StudyName, TrialNumber),
    /// The next trial of this study, which must be proposed first.
    Propose(StudyName),
}

/// The most tasks of a study that a worker may leave to others and still get a proposal. One failed
/// attempt does not mean that the worker is broken.
const MOST_AVOIDED: usize = 1;

/// The best work for one of `workers` with a free slot, without the tasks that it leaves to others;
/// `None` if there is none.
pub fn pick<'a>(
    worker: WorkerId,
    workers: &Workers,
    studies: impl Iterator<Item = (&'a StudyName, &'a Study)>,
) -> Option<Pick> {
    let offers = studies.filter_map(|(name, study)| {
        let pick = match next_of((name, study), worker, workers)? {
            Next::Task(task) => Pick::Task(name.clone(), task),
            Next::Promote(number) => Pick::Promote(name.clone(), number),
            Next::Propose => Pick::Propose(name.clone()),
        };
        Some(((study.tasks().running(), study.created()), pick))
    });
    offers.min_by_key(|(order, _)| *order).map(|(_, pick)| pick)
}

/// The work that one study has for a worker.
enum Next {
    Task(TaskId),
    Promote(TrialNumber),
    Propose,
}

/// Chooses the next work of one study for this worker.
fn next_of((name, study): (&StudyName, &Study), id: WorkerId, workers: &Workers) -> Option<Next> {
    if *study.state() != StudyState::Running {
        return None;
    }
    let first = |queue: Queue| {
        let mut waiting = study.tasks().waiting(queue);
        waiting.find(|(task, of)| !workers.avoids(id, name, *task, of)).map(|(task, _)| task)
    };
    // No other task that reads the data may start before the data check is done.
    let may = |needs: &Needs| {
        workers.can_do(id, name, needs) && !(needs.data && study.data().are_pending())
    };
    if workers.can_do(id, name, &TaskKind::Data.needs())
        && let Some(check) = first(Queue::Data)
    {
        return Some(Next::Task(check));
    }
    if may(&TaskKind::Teacher.needs())
        && let Some(teacher) = first(Queue::Teacher)
    {
        return Some(Next::Task(teacher));
    }
    let measured = study.spec().targets().into_iter();
    let own = measured.filter(|target| may(&Needs::measuring_on(target.clone())));
    if let Some(task) = own.filter_map(|target| first(Queue::Measure(target))).min() {
        return Some(Next::Task(task));
    }
    let (queue, needs) = match study.spec().work {
        Workload::Train(_) => (Queue::Train, Needs::training()),
        Workload::Table(_) => (Queue::LookUp, Needs::looking_up()),
    };
    if !may(&needs) || study.teacher().is_pending() {
        return None;
    }
    match first(queue.clone()) {
        Some(task) => Some(Next::Task(task)),
        // Every task that waits there is one that the worker avoids.
        None if study.tasks().waiting(queue).count() > MOST_AVOIDED => None,
        None => match study.next_promotion() {
            Some(number) => Some(Next::Promote(number)),
            None => study.asks_for_proposal().then_some(Next::Propose),
        },
    }
}
