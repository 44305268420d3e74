//! Which work goes to which worker: a pure function of the studies and of what the worker can do.
//!
//! Between studies: the one with the fewest running attempts, then the oldest, so that workers are
//! shared evenly and an old study is not starved by new ones. Within a study: reading its data, on
//! which everything waits; the teacher, on which
//! all students wait; then measuring, which finishes trials; then training (or looking up) what
//! is proposed; then what goes on from a rung; then proposing more. Nothing is promoted or
//! proposed before a worker asks, so both know all results so far.
//!
//! A worker that failed a task leaves it to others that can do it, and while it leaves several it
//! gets no new proposals: a worker that can do nothing does not run ahead of those that can and
//! spoil each trial once.

use edgesmith_common::spec::Workload;
use edgesmith_common::{Needs, StudyName, TaskId, TrialNumber, WorkerInfo};

use super::StudyState;
use super::study::Study;
use super::task::{Queue, Task, TaskKind};

/// What a worker gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pick {
    /// This waiting task.
    Task(StudyName, TaskId),
    /// This trial of a study, which has to be promoted from its rung first.
    Promote(StudyName, TrialNumber),
    /// The next trial of this study, which has to be proposed first.
    Propose(StudyName),
}

/// Tasks of a study that a worker may leave to others and still be given a proposal: one bad attempt
/// does not make a bad worker.
const MOST_AVOIDED: usize = 1;

/// The best work for a worker with a free slot, without the tasks that it `avoids`; `None` where
/// there is none.
pub(super) fn pick<'a>(
    worker: &WorkerInfo,
    studies: impl Iterator<Item = (&'a StudyName, &'a Study)>,
    avoids: &dyn Fn(TaskId, &Task) -> bool,
) -> Option<Pick> {
    let offers = studies.filter_map(|(name, study)| {
        let pick = match next_of(study, worker, avoids)? {
            Next::Task(task) => Pick::Task(name.clone(), task),
            Next::Promote(number) => Pick::Promote(name.clone(), number),
            Next::Propose => Pick::Propose(name.clone()),
        };
        Some(((study.tasks.running(), study.created), pick))
    });
    offers.min_by_key(|(order, _)| *order).map(|(_, pick)| pick)
}

/// What one study has for a worker.
enum Next {
    Task(TaskId),
    Promote(TrialNumber),
    Propose,
}

/// What one study has for this worker.
fn next_of(
    study: &Study,
    worker: &WorkerInfo,
    avoids: &dyn Fn(TaskId, &Task) -> bool,
) -> Option<Next> {
    if study.state != StudyState::Running {
        return None;
    }
    let first = |queue: Queue| {
        study.tasks.waiting(queue).find(|(id, task)| !avoids(*id, task)).map(|(id, _)| id)
    };
    // Nothing that reads the data begins before somebody has checked them.
    let may = |needs: &Needs| worker.can_do(needs) && !(needs.data && study.data_pending());
    if worker.can_do(&TaskKind::Data.needs())
        && let Some(check) = first(Queue::Data)
    {
        return Some(Next::Task(check));
    }
    if may(&TaskKind::Teacher.needs())
        && let Some(teacher) = first(Queue::Teacher)
    {
        return Some(Next::Task(teacher));
    }
    let measured = study.spec.targets().into_iter();
    let own = measured.filter(|target| may(&Needs::measuring_on(target.clone())));
    if let Some(task) = own.filter_map(|target| first(Queue::Measure(target))).min() {
        return Some(Next::Task(task));
    }
    let (queue, needs) = match study.spec.work {
        Workload::Train(_) => (Queue::Train, Needs::training()),
        Workload::Table(_) => (Queue::LookUp, Needs::looking_up()),
    };
    if !may(&needs) || study.teacher_pending() {
        return None;
    }
    match first(queue.clone()) {
        Some(task) => Some(Next::Task(task)),
        // Whatever waits there it avoids.
        None if study.tasks.waiting(queue).count() > MOST_AVOIDED => None,
        None => match study.next_promotion() {
            Some(number) => Some(Next::Promote(number)),
            None => study.wants_proposal().then_some(Next::Propose),
        },
    }
}
