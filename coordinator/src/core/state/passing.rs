//! The state that does not last: which workers are connected and what is known against them, which
//! requests wait, how long leases run, and where algorithms are.

use std::collections::BTreeSet;

use edgesmith_common::{AttemptId, Needs, StudyName, TaskId, WorkerId, WorkerInfo};
use edgesmith_search_space::Genotype;

use super::Core;
use crate::core::command::Refusal;
use crate::core::event::{AttemptProgress, RequestId};
use crate::core::study::{Found, ProposalAnswer, ProposalRequest, Study};
use crate::core::time::Time;
use crate::core::workers::{Excluded, Line};

/// Workers.
impl Core {
    /// The id below which to reserve ids of workers before another one connects, `block` at once;
    /// `None` while some are left.
    pub(in crate::core) fn lacks_worker_ids(&self, block: u64) -> Option<u64> {
        let next = self.next.worker;
        (next >= self.next.ids.workers_below).then_some(next + block)
    }

    /// A worker joins. Its id must have been reserved.
    pub(in crate::core) fn connect(&mut self, info: WorkerInfo, now: Time) -> WorkerId {
        let worker = WorkerId(self.next.worker);
        self.next.worker += 1;
        self.version += 1;
        self.workers.connect(worker, info, now);
        worker
    }

    /// Takes a worker out. Returns the attempts that it held, which stay current; `None` if it is
    /// not connected.
    pub(in crate::core) fn disconnect(&mut self, worker: WorkerId) -> Option<BTreeSet<AttemptId>> {
        let gone = self.workers.disconnect(worker)?;
        self.version += 1;
        Some(gone)
    }

    /// Notes that a worker is alive.
    pub(in crate::core) fn heard_from(
        &mut self,
        worker: WorkerId,
        now: Time,
    ) -> Result<(), Refusal> {
        if self.workers.heard_from(worker, now) {
            Ok(())
        } else {
            Err(Refusal::UnknownWorker(worker))
        }
    }

    /// Notes that `worker` cannot do tasks of the study with these needs.
    pub(in crate::core) fn exclude(
        &mut self,
        worker: WorkerId,
        study: &StudyName,
        needs: Needs,
        why: Excluded,
    ) {
        if self.workers.has(worker) {
            self.workers.exclude(worker, study, needs, why);
            self.version += 1;
        }
    }

    /// Forgets which tasks of a study workers cannot do, so that they are asked again.
    pub(in crate::core) fn readmit(&mut self, study: &StudyName) {
        self.workers.readmit(study);
        self.version += 1;
    }

    /// Notes that `worker` succeeded at a task of the study with these needs.
    pub(in crate::core) fn note_success(
        &mut self,
        worker: WorkerId,
        study: &StudyName,
        needs: Needs,
    ) {
        self.workers.note_success(worker, study, needs, self.version);
    }

    /// Notes that `worker` failed `task`, and forgets tasks that are done.
    pub(in crate::core) fn note_failure(&mut self, worker: WorkerId, task: TaskId) {
        let studies = &self.studies;
        self.workers.note_failure(worker, task, |id| {
            studies.values().any(|study| study.tasks().get(id).is_some())
        });
    }

    /// Notes that `worker` has too little memory for `task`.
    pub(in crate::core) fn note_too_large(&mut self, worker: WorkerId, task: TaskId) {
        self.note_failure(worker, task);
        self.workers.note_too_large(worker, task);
    }

    /// Notes that `worker` failed `task` of the study with these needs. Returns the number of tasks
    /// that it failed in a row if it should not be asked any more.
    pub(in crate::core) fn fails_all(
        &mut self,
        worker: WorkerId,
        study: &StudyName,
        needs: Needs,
        task: TaskId,
    ) -> Option<usize> {
        let several = self.config.max_failing;
        self.workers.fails_all(worker, study, needs, task, several, self.version)
    }
}

/// Leases, and requests for them.
impl Core {
    /// The requests that wait.
    pub(in crate::core) fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    /// A current attempt was the answer to this request.
    pub(in crate::core) fn answered(&mut self, attempt: AttemptId, to: RequestId) {
        self.attempts.answered(attempt, to);
    }

    /// Gives a current attempt to this worker for a full term.
    pub(in crate::core) fn give(&mut self, attempt: AttemptId, worker: WorkerId, now: Time) {
        let expires = now.after(self.config.lease);
        if let Some(before) = self.attempts.give(attempt, worker, expires) {
            self.workers.take(before, attempt);
            self.workers.hand(worker, attempt);
            self.version += 1;
        }
    }

    /// The worker of an attempt says how far it is, which gives it a full term. Returns false if
    /// the attempt is not current.
    pub(in crate::core) fn progress(&mut self, of: AttemptProgress, now: Time) -> bool {
        let AttemptProgress { attempt, fraction, stage } = of;
        let expires = now.after(self.config.lease);
        let current = self.attempts.progress(attempt, fraction, stage, expires);
        self.version += u64::from(current);
        current
    }

    /// Gives every connected worker and every lease a full new term.
    pub(in crate::core) fn renew(&mut self, now: Time) {
        self.workers.renew(now);
        self.attempts.renew(now.after(self.config.lease));
    }
}

/// What studies have to ask or to look up.
impl Core {
    /// Sends the algorithm of a study away with a question; `None` if it is away already.
    pub(in crate::core) fn ask_algorithm(&mut self, name: &StudyName) -> Option<ProposalRequest> {
        self.studies.get_mut(name)?.ask_algorithm(self.build_controller)
    }

    /// The algorithm of a study comes back. Returns its study and what it found; `None` if the
    /// study was deleted.
    pub(in crate::core) fn take_algorithm_back(
        &mut self,
        answer: ProposalAnswer,
    ) -> Option<(StudyName, Found)> {
        let (creation, controller, found) = answer.into_parts();
        let mut studies = self.studies.iter_mut();
        let (name, study) = studies.find(|(_, of)| of.created() == creation)?;
        study.take_algorithm_back(controller);
        Some((name.clone(), found))
    }

    /// The studies of which to ask for the hash of their data now. Each is named once.
    pub(in crate::core) fn take_up_data_hashes(&mut self) -> Vec<StudyName> {
        let asks = |(name, study): (&StudyName, &mut Study)| {
            study.takes_up_data_hash().then(|| name.clone())
        };
        self.studies.iter_mut().filter_map(asks).collect()
    }

    /// Whether a study exists and none of its trials has this candidate.
    pub(in crate::core) fn lacks_candidate(
        &mut self,
        name: &StudyName,
        genotype: &Genotype,
    ) -> bool {
        self.studies.get_mut(name).is_some_and(|study| study.lacks_candidate(genotype))
    }
}
