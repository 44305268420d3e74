//! Workers and their leases: joining, waiting for work, heartbeats, leaving and expiry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use edgesmith_common::{AttemptId, Role, StudyName, TaskId, Work, WorkerId, WorkerInfo};

use super::scheduling::{Pick, pick};
use super::study::Teacher;
use super::task::TaskKind;
use super::workers::Worker;
use super::{Answer, AttemptProgress, Core, Lease, Parked, Record, Refusal, RequestId, Time, Turn};

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
        let connected = self.core.workers.0.len();
        if connected >= self.core.config.max_workers {
            return Err(Refusal::TooManyWorkers(connected));
        }
        if self.core.next.worker >= self.core.next.ids.workers_below {
            let below = self.core.next.worker + WORKER_ID_BLOCK;
            self.record(Record::WorkerIdsReserved { below });
        }
        let worker = WorkerId(self.core.next.worker);
        self.core.next.worker += 1;
        self.core.version += 1;
        let joined = Worker {
            info,
            seen: self.now,
            attempts: BTreeSet::new(),
            failed: BTreeSet::new(),
            too_large: BTreeSet::new(),
            excluded: BTreeMap::new(),
            streaks: BTreeMap::new(),
        };
        self.core.workers.0.insert(worker, joined);
        // Each attempt was given to only one process, so the worker that names it holds it.
        let stop = held.into_iter().filter(|attempt| !self.adopt(worker, *attempt)).collect();
        let heartbeat = self.core.config.heartbeat;
        Ok(Answer::Joined { worker, heartbeat, stop })
    }

    pub(super) fn heartbeat(
        &mut self,
        worker: WorkerId,
        running: Vec<AttemptProgress>,
    ) -> Result<Answer, Refusal> {
        self.heard_from(worker)?;
        let expires = self.now.after(self.core.config.lease);
        let mut stop = Vec::new();
        for AttemptProgress { attempt, fraction, stage } in running {
            let holder = self.core.running.get(&attempt).map(|a| a.worker);
            let mine = match holder {
                Some(holder) if holder == worker => true,
                Some(holder) if self.core.workers.get(holder).is_none() => {
                    self.adopt(worker, attempt)
                }
                _ => false,
            };
            match self.core.running.get_mut(&attempt) {
                Some(current) if mine => {
                    current.expires = expires;
                    current.progress = Some((fraction, stage));
                    self.core.version += 1;
                }
                _ => stop.push(attempt),
            }
        }
        Ok(Answer::Alive { stop })
    }

    pub(super) fn leave(&mut self, worker: WorkerId) -> Result<Answer, Refusal> {
        self.heard_from(worker)?;
        let held = self.core.workers.get(worker).map(|known| known.attempts.clone());
        for attempt in held.unwrap_or_default() {
            self.leave_behind(attempt);
        }
        self.disconnect(worker);
        Ok(Answer::Left)
    }

    /// Queues a request for work. [`Turn::serve_parked`] answers it, in the same turn if there is
    /// work.
    pub(super) fn park(&mut self, to: RequestId, worker: WorkerId, deadline: Time) {
        match self.heard_from(worker) {
            Ok(()) => {
                self.core.parked.push_back(Parked { to, worker, deadline });
                self.asked = true;
            }
            Err(refusal) => self.reply(to, Err(refusal)),
        }
    }

    /// The client of a request is gone. What was leased to it goes to others at once: no worker
    /// knows of it, so none would report it.
    pub(super) fn abandon(&mut self, to: RequestId) {
        self.core.parked.retain(|parked| parked.to != to);
        let mut running = self.core.running.iter();
        let leased = running.find(|(_, attempt)| attempt.answers == Some(to));
        if let Some((&attempt, _)) = leased {
            self.leave_behind(attempt);
        }
    }

    /// Gives every connected worker and every lease a full new term.
    pub(super) fn renew(&mut self) {
        let (now, expires) = (self.now, self.now.after(self.core.config.lease));
        self.core.workers.0.values_mut().for_each(|worker| worker.seen = now);
        self.core.running.values_mut().for_each(|attempt| attempt.expires = expires);
    }

    /// Acts on every deadline that has been reached.
    pub(super) fn expire(&mut self) {
        let (now, term) = (self.now, self.core.config.lease);
        let silent = self.core.workers.0.iter().filter(|(_, w)| w.seen.after(term) <= now);
        let silent: Vec<WorkerId> = silent.map(|(id, _)| *id).collect();
        for worker in silent {
            self.disconnect(worker);
        }
        let over = self.core.running.iter().filter(|(_, attempt)| attempt.expires <= now);
        let over: Vec<AttemptId> = over.map(|(id, _)| *id).collect();
        for attempt in over {
            self.lose(attempt);
        }
        let parked = self.core.parked.drain(..);
        let (late, waiting): (VecDeque<_>, _) = parked.partition(|p| p.deadline <= now);
        self.core.parked = waiting;
        for Parked { to, worker, .. } in late {
            // Try once more: work may have been given back in this turn.
            if !self.serve(to, worker) {
                self.reply(to, Ok(Answer::NoTask));
            }
        }
    }

    /// Answers waiting requests for work, oldest first, as long as there is work for them.
    pub(super) fn serve_parked(&mut self) {
        self.asked = false;
        // Workers for which there was nothing. There is nothing for others of their kind either.
        let mut idle: Vec<WorkerId> = Vec::new();
        for parked in std::mem::take(&mut self.core.parked) {
            let alike = |other: &WorkerId| self.core.workers.are_alike(parked.worker, *other);
            let hopeless = idle.iter().any(alike);
            if hopeless || !self.serve(parked.to, parked.worker) {
                let free = |known: &Worker| known.has_free_slot();
                if !hopeless && self.core.workers.get(parked.worker).is_some_and(free) {
                    idle.push(parked.worker);
                }
                self.core.parked.push_back(parked);
            }
        }
    }

    /// Answers the request that has just come, if there is work for it.
    pub(super) fn serve_new(&mut self) {
        if !std::mem::take(&mut self.asked) {
            return;
        }
        if let Some(parked) = self.core.parked.pop_back()
            && !self.serve(parked.to, parked.worker)
        {
            self.core.parked.push_back(parked);
        }
    }

    /// Notes that a worker is alive.
    pub(super) fn heard_from(&mut self, worker: WorkerId) -> Result<(), Refusal> {
        let known = self.core.workers.get_mut(worker).ok_or(Refusal::UnknownWorker(worker))?;
        known.seen = self.now;
        Ok(())
    }

    /// Leases a task to `worker` as the answer to request `to`. Returns false if there is no task
    /// for it.
    fn serve(&mut self, to: RequestId, worker: WorkerId) -> bool {
        loop {
            let Some(known) = self.core.workers.get(worker) else { return false };
            if !known.has_free_slot() {
                return false;
            }
            match pick(worker, &self.core.workers, self.core.studies.iter()) {
                None => return false,
                // Its algorithm is away after this, so it is not picked again.
                Some(Pick::Propose(study)) => self.propose(&study),
                Some(Pick::Promote(study, number)) => self.promote(&study, number),
                Some(Pick::Task(study, task)) => {
                    let lease = self.lease(study, task, worker);
                    if let Some(started) = self.core.running.get_mut(&lease.attempt) {
                        started.answers = Some(to);
                    }
                    self.reply(to, Ok(Answer::Leased(Box::new(lease))));
                    return true;
                }
            }
        }
    }

    fn lease(&mut self, study: StudyName, task: TaskId, worker: WorkerId) -> Lease {
        let attempt = AttemptId(self.core.next.ids.attempts_below);
        let elapsed_ms = self.elapsed_ms(&study);
        self.record(Record::AttemptStarted {
            study: study.clone(),
            task,
            attempt,
            worker,
            elapsed_ms,
        });
        let work = self.core.work(&study, task);
        let of = &self.core.studies[&study];
        let resolved_study = Arc::clone(&of.resolved);
        let data = of.tasks.get(task).and_then(|task| of.expected_data(&task.kind));
        Lease { task, attempt, study, resolved_study, work, data }
    }

    /// Gives an attempt to this worker for a full term. Returns false if the attempt is not current
    /// or the worker cannot do it; the worker then has to stop it. A current attempt that is
    /// stopped counts as lost.
    fn adopt(&mut self, worker: WorkerId, attempt: AttemptId) -> bool {
        let Some(current) = self.core.running.get(&attempt) else { return false };
        let (before, task) = (current.worker, current.task);
        let kind = self.core.studies[&current.study].tasks.get(task).map(|task| &task.kind);
        let fits = self.core.workers.get(worker).is_some_and(|w| {
            w.has_free_slot() && kind.is_some_and(|kind| w.info.can_do(&kind.needs()))
        });
        if !fits {
            self.lose(attempt);
            return false;
        }
        if let Some(before) = self.core.workers.get_mut(before) {
            before.attempts.remove(&attempt);
        }
        if let Some(worker) = self.core.workers.get_mut(worker) {
            worker.attempts.insert(attempt);
        }
        let expires = self.now.after(self.core.config.lease);
        if let Some(current) = self.core.running.get_mut(&attempt) {
            current.worker = worker;
            current.expires = expires;
        }
        self.core.version += 1;
        true
    }

    /// Removes a worker. Its attempts are lost, and its waiting requests are refused.
    fn disconnect(&mut self, worker: WorkerId) {
        let Some(gone) = self.core.workers.0.remove(&worker) else { return };
        self.core.version += 1;
        // Another worker may now get what it was excluded from.
        self.opens = true;
        for attempt in gone.attempts {
            self.lose(attempt);
        }
        let parked = self.core.parked.drain(..);
        let (waits, others): (VecDeque<_>, _) = parked.partition(|p| p.worker == worker);
        self.core.parked = others;
        for parked in waits {
            self.reply(parked.to, Err(Refusal::UnknownWorker(worker)));
        }
    }
}

impl Core {
    /// The full description of a task, as a worker gets it.
    fn work(&self, name: &StudyName, task: TaskId) -> Work {
        let study = &self.studies[name];
        let kind = study.tasks.get(task).map(|task| &task.kind);
        let teacher = match &study.teacher {
            Teacher::Trained { values, soft_targets } => Some((values.as_ref(), *soft_targets)),
            Teacher::None | Teacher::Pending(_) => None,
        };
        let work = match kind {
            Some(TaskKind::Data) => Some(Work::CheckData),
            Some(TaskKind::Teacher) => Some(Work::TrainTeacher { weights: study.teacher_weights }),
            Some(TaskKind::Score(number)) => Some(Work::ScoreTrial {
                number: *number,
                genotype: study.trials[number.0 as usize].genotype.clone(),
            }),
            Some(TaskKind::Train(number)) => Some(Work::TrainTrial {
                number: *number,
                genotype: study.trials[number.0 as usize].genotype.clone(),
                soft_targets: teacher
                    .map(|(_, soft_targets)| soft_targets)
                    .or(study.given_logits()),
                rung: study.next_rung(*number),
                checkpoint: study.trials[number.0 as usize].rungs.last().and_then(|r| r.checkpoint),
                donor: study.donor_of(*number),
            }),
            Some(TaskKind::LookUp(number)) => Some(Work::LookUpTrial {
                number: *number,
                genotype: study.trials[number.0 as usize].genotype.clone(),
                rung: study.next_rung(*number),
            }),
            Some(TaskKind::Measure(number, target)) => {
                let model = match number {
                    None => teacher.and_then(|(values, _)| Some(values.trained()?.model)),
                    Some(number) => {
                        let artifacts = study.trials[number.0 as usize].stage.artifacts();
                        artifacts.map(|[model, _]| model)
                    }
                };
                let (number, target) = (*number, target.clone());
                model.map(|model| Work::MeasureModel { model, number, target })
            }
            None => None,
        };
        work.unwrap_or_else(|| unreachable!("task {task} of study {name} has no model to work on"))
    }
}
