//! Which work goes to which worker: a pure function of the studies and of what the worker can do.
//!
//! Between studies: the one with the fewest running attempts, then the oldest, so that workers are
//! shared evenly and an old study is not starved by new ones. Within a study: the teacher, on which
//! all students wait; then measuring, which finishes trials; then training (or looking up) what
//! is proposed; then proposing more. Nothing is proposed before a worker asks, so a proposal knows all results so far.

use edgesmith_common::spec::Workload;
use edgesmith_common::{StudyName, TaskId};

use super::study::Study;
use super::task::Queue;
use super::{StudyState, WorkerInfo};

/// What a worker gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pick {
    /// This waiting task.
    Task(StudyName, TaskId),
    /// The next trial of this study, which has to be proposed first.
    Propose(StudyName),
}

/// The best work for a worker with a free slot; `None` where there is none.
pub(super) fn pick<'a>(
    worker: &WorkerInfo,
    studies: impl Iterator<Item = (&'a StudyName, &'a Study)>,
) -> Option<Pick> {
    let offers = studies.filter_map(|(name, study)| {
        let pick = match next_of(study, worker)? {
            Some(task) => Pick::Task(name.clone(), task),
            None => Pick::Propose(name.clone()),
        };
        Some(((study.tasks.running(), study.created), pick))
    });
    offers.min_by_key(|(order, _)| *order).map(|(_, pick)| pick)
}

/// The next task of one study for this worker, `Some(None)` for a new proposal.
fn next_of(study: &Study, worker: &WorkerInfo) -> Option<Option<TaskId>> {
    if study.state != StudyState::Running {
        return None;
    }
    let trains = worker.trains();
    if trains && let Some(teacher) = study.tasks.first_waiting(Queue::Teacher) {
        return Some(Some(teacher));
    }
    if worker.measures_on(&worker.class)
        && let Some(task) = study.tasks.first_waiting(Queue::Measure(worker.class.clone()))
    {
        return Some(Some(task));
    }
    let (queue, fits) = match study.spec.work {
        Workload::Train(_) => (Queue::Train, trains),
        Workload::Table(_) => (Queue::LookUp, worker.looks_up()),
    };
    if !fits || study.teacher_pending() {
        return None;
    }
    match study.tasks.first_waiting(queue) {
        Some(task) => Some(Some(task)),
        None => study.wants_proposal().then_some(None),
    }
}
