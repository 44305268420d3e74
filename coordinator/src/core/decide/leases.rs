//! Workers and their leases: joining, waiting for work, heartbeats, leaving and expiry.

use edgesmith_common::{AttemptId, Role, StudyName, TaskId, WorkerId, WorkerInfo};

use super::scheduling::{Pick, pick};
use super::turn::Turn;
use super::work::described;
use crate::core::command::{Answer, Lease, Refusal};
use crate::core::event::{AttemptProgress, RequestId};
use crate::core::record::Record;
use crate::core::study::Task;
use crate::core::time::Time;
use crate::core::workers::{Attempt, Waiting, Worker};

/// How many worker ids one record reserves.
const WORKER_ID_BLOCK: u64 = 256;

impl Turn<'_> {
    pub(super) fn join(
        &mut self,
        info: WorkerInfo,
        held: Vec<AttemptId>,
    ) -> Result<Answer, Refusal> {
        if info.roles.is_empty() || info.slots == 0 {
            return Err(Refusal::IdleWorker);
        }
        if info.roles.contains(&Role::Measure) && info.engines.is_empty() {
            return Err(Refusal::NoEngine);
        }
        let connected = self.core.connected().count();
        if connected >= self.core.config().max_workers {
            return Err(Refusal::TooManyWorkers(connected));
        }
        if let Some(below) = self.core.lacks_worker_ids(WORKER_ID_BLOCK) {
            self.record(Record::WorkerIdsReserved { below });
        }
        let worker = self.core.connect(info, self.now);
        // Each attempt was given to only one process, so the worker that names it holds it.
        let stop = held.into_iter().filter(|attempt| !self.adopt(worker, *attempt)).collect();
        let heartbeat = self.core.config().heartbeat;
        Ok(Answer::Joined { worker, heartbeat, stop })
    }

    pub(super) fn heartbeat(
        &mut self,
        worker: WorkerId,
        running: Vec<AttemptProgress>,
    ) -> Result<Answer, Refusal> {
        self.core.heard_from(worker, self.now)?;
        let mut stop = Vec::new();
        for progress in running {
            let attempt = progress.attempt;
            let mine = match self.core.attempts().get(attempt).map(Attempt::worker) {
                Some(holder) if holder == worker => true,
                Some(holder) if !self.core.connected().has(holder) => self.adopt(worker, attempt),
                _ => false,
            };
            if !mine || !self.core.progress(progress, self.now) {
                stop.push(attempt);
            }
        }
        Ok(Answer::Alive { stop })
    }

    pub(super) fn leave(&mut self, worker: WorkerId) -> Result<Answer, Refusal> {
        self.core.heard_from(worker, self.now)?;
        let held = self.core.connected().get(worker).map(|known| known.attempts().clone());
        for attempt in held.unwrap_or_default() {
            self.leave_behind(attempt);
        }
        self.disconnect(worker);
        Ok(Answer::Left)
    }

    /// Queues a request for work. [`Turn::serve_parked`] answers it, in the same turn if there is
    /// work.
    pub(super) fn park(&mut self, to: RequestId, worker: WorkerId, deadline: Time) {
        match self.core.heard_from(worker, self.now) {
            Ok(()) => {
                self.core.line().add(Waiting { to, worker, deadline });
                self.note_asked();
            }
            Err(refusal) => self.reply(to, Err(refusal)),
        }
    }

    /// The client of a request is gone. What was leased to it goes to others at once: no worker
    /// knows of it, so none would report it.
    pub(super) fn abandon(&mut self, to: RequestId) {
        self.core.line().forget(to);
        if let Some(attempt) = self.core.attempts().answering(to) {
            self.leave_behind(attempt);
        }
    }

    /// Acts on every deadline that has been reached.
    pub(super) fn expire(&mut self) {
        let (now, term) = (self.now, self.core.config().lease);
        let connected = self.core.connected().iter();
        let silent = connected.filter(|(_, worker)| worker.seen().after(term) <= now);
        let silent: Vec<WorkerId> = silent.map(|(id, _)| id).collect();
        for worker in silent {
            self.disconnect(worker);
        }
        for attempt in self.core.attempts().expired(now) {
            self.lose(attempt);
        }
        let late = self.core.line().take(|request| request.deadline <= now);
        for Waiting { to, worker, .. } in late {
            // Try once more: work may have been given back in this turn.
            if !self.serve(to, worker) {
                self.reply(to, Ok(Answer::NoTask));
            }
        }
    }

    /// Answers waiting requests for work, oldest first, as long as there is work for them.
    pub(super) fn serve_parked(&mut self) {
        self.look_at_asked();
        // Workers for which there was nothing. There is nothing for others of their kind either.
        let mut idle: Vec<WorkerId> = Vec::new();
        for request in self.core.line().take_all() {
            let worker = request.worker;
            let alike = |other: &WorkerId| self.core.connected().are_alike(worker, *other);
            let hopeless = idle.iter().any(alike);
            if hopeless || !self.serve(request.to, worker) {
                if !hopeless && self.core.connected().get(worker).is_some_and(Worker::has_free_slot)
                {
                    idle.push(worker);
                }
                self.core.line().add(request);
            }
        }
    }

    /// Answers the request that has just come, if there is work for it.
    pub(super) fn serve_new(&mut self) {
        if !self.look_at_asked() {
            return;
        }
        if let Some(request) = self.core.line().take_newest()
            && !self.serve(request.to, request.worker)
        {
            self.core.line().add(request);
        }
    }

    /// Leases a task to `worker` as the answer to request `to`. Returns false if there is no task
    /// for it.
    fn serve(&mut self, to: RequestId, worker: WorkerId) -> bool {
        loop {
            let Some(known) = self.core.connected().get(worker) else { return false };
            if !known.has_free_slot() {
                return false;
            }
            match pick(worker, self.core.connected(), self.core.by_name()) {
                None => return false,
                // Its algorithm is away after this, so it is not picked again.
                Some(Pick::Propose(study)) => self.propose(&study),
                Some(Pick::Promote(study, number)) => self.promote(&study, number),
                Some(Pick::Task(study, task)) => {
                    let lease = self.lease(study, task, worker);
                    self.core.answered(lease.attempt, to);
                    self.reply(to, Ok(Answer::Leased(Box::new(lease))));
                    return true;
                }
            }
        }
    }

    fn lease(&mut self, study: StudyName, task: TaskId, worker: WorkerId) -> Lease {
        let attempt = self.core.next_attempt();
        let elapsed_ms = self.elapsed_ms(&study);
        self.record(Record::AttemptStarted {
            study: study.clone(),
            task,
            attempt,
            worker,
            elapsed_ms,
        });
        let of = self.core.known(&study);
        let (work, resolved_study) = (described(of, task), of.resolved());
        let data = of.tasks().get(task).and_then(|task| of.expected_data(task.kind()));
        Lease { task, attempt, study, resolved_study, work, data }
    }

    /// Gives an attempt to this worker for a full term. Returns false if the attempt is not current
    /// or the worker cannot do it; the worker then has to stop it. A current attempt that is
    /// stopped counts as lost.
    fn adopt(&mut self, worker: WorkerId, attempt: AttemptId) -> bool {
        let Some(current) = self.core.attempts().get(attempt) else { return false };
        let tasks = self.core.known(current.study()).tasks();
        let kind = tasks.get(current.task()).map(Task::kind);
        let fits = self.core.connected().get(worker).is_some_and(|w| {
            w.has_free_slot() && kind.is_some_and(|kind| w.info().can_do(&kind.needs()))
        });
        if !fits {
            self.lose(attempt);
            return false;
        }
        self.core.give(attempt, worker, self.now);
        true
    }

    /// Removes a worker. Its attempts are lost, and its waiting requests are refused.
    fn disconnect(&mut self, worker: WorkerId) {
        let Some(held) = self.core.disconnect(worker) else { return };
        // Another worker may now get what it was excluded from.
        self.open_work();
        for attempt in held {
            self.lose(attempt);
        }
        for request in self.core.line().take(|request| request.worker == worker) {
            self.reply(request.to, Err(Refusal::UnknownWorker(worker)));
        }
    }
}
