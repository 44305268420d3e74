//! Decides what happens: a synchronous, deterministic state machine over studies, trials, tasks and
//! workers.
//!
//! It takes in [`Event`]s and returns [`Command`]s. It reads no clock, opens no socket and no file,
//! and starts no threads. Its only randomness is derived from a study's seed. It knows neither gRPC
//! nor the format of the store: the runtime around it passes the time in, writes the records and
//! sends the replies.
//!
//! Lasting state changes only by applying [`Record`]s: `handle` decides on a record, applies it at
//! once and asks the runtime to persist it. So applying the stored records again
//! ([`Core::restore`]) yields the same studies, trials, tasks, attempts and controllers. Four
//! things do not last: which workers are connected, which requests wait for work, the reported
//! progress of attempts, and when leases expire. Restored leases get a full new term, and workers
//! that join again keep the attempts that they hold.
//!
//! Timers are data: after every call, ask [`Core::next_deadline`] and send [`Event::Tick`] at that
//! time.

mod advice;
mod apply;
mod apply_study;
mod artifacts;
mod batches;
mod command;
mod constraints;
mod data;
mod ended;
mod event;
mod extend;
mod fronts;
mod ids;
mod import;
mod inheritance;
mod invariants;
mod kept;
mod latency;
mod learner;
mod lifecycle;
mod machines;
mod objectives;
mod outcome;
mod promotion;
mod proposal;
mod propose;
mod queries;
mod record;
mod report;
mod retry;
mod rungs;
mod scheduling;
mod screening;
mod stages;
mod study;
mod task;
#[cfg(test)]
mod tests;
mod time;
mod work;
mod workers;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use edgesmith_common::{AttemptId, StudyName, TaskId, WorkerId};

pub use apply::RestoreError;
pub use command::{Answer, Command, Lease, Refusal, Start};
pub use constraints::ConstraintView;
pub use event::{Action, AttemptProgress, Event, KnownTrial, RequestId};
pub use ids::UsedIds;
pub use latency::PredictionView;
pub use machines::UnlikeMachines;
pub use proposal::{ProposalAnswer, ProposalRequest};
pub use queries::{Exclusion, StudyView, TeacherView, TrialCounts, TrialView, WorkerView};
pub use record::{AttemptEnding, Record, StudyState, TrialEnding};
pub use stages::StagesKey;
pub use time::Time;

use crate::controller;
use ended::Ended;
use proposal::BuildController;
use study::Study;
use workers::Workers;

/// Terms and limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreConfig {
    /// How long a worker keeps an attempt without a heartbeat that names it, and how long a silent
    /// worker counts as connected.
    pub lease: Duration,
    /// How often workers are told to send heartbeats; well below `lease`.
    pub heartbeat: Duration,
    /// Number of lost attempts after which a task is given up. A candidate that kills its workers
    /// then ends, while the ordinary loss of a few workers fails no trial.
    pub max_lost: u32,
    /// Number of consecutive candidates that are ruled out before training after which a study
    /// stops proposing.
    pub max_infeasible: u32,
    /// Number of consecutive trials that workers find infeasible after which a study stops
    /// proposing. Its budget of trials counts instead where that is more. Infeasible trials use no
    /// budget, so without this limit a study in which no candidate works would never end.
    pub max_hopeless: u32,
    /// Number of consecutive tasks that a worker may fail before it is not asked any more, where
    /// another worker does such tasks of the study meanwhile.
    pub max_failing: u32,
    /// The most workers that may be connected at once.
    pub max_workers: usize,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            max_lost: 10,
            max_infeasible: 1000,
            max_hopeless: 20,
            max_failing: 3,
            max_workers: 1024,
        }
    }
}

/// The coordinator's state and rules.
pub struct Core {
    config: CoreConfig,
    build_controller: BuildController,
    studies: BTreeMap<StudyName, Study>,
    running: BTreeMap<AttemptId, Attempt>,
    ended: Ended,
    workers: Workers,
    /// Lease requests that wait for work, oldest first.
    parked: VecDeque<Parked>,
    next: NextIds,
    /// Counts changes of what queries show.
    version: u64,
}

/// The next free ids.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NextIds {
    study: u64,
    worker: u64,
    /// What the records have used or reserved.
    ids: UsedIds,
}

/// An attempt that is current.
#[derive(Debug)]
struct Attempt {
    study: StudyName,
    task: TaskId,
    /// The worker that holds it. It is not connected after a restart of the coordinator, until it
    /// joins again.
    worker: WorkerId,
    expires: Time,
    /// The request that it answered; `None` after a restart.
    answers: Option<RequestId>,
    /// What the worker reported last: share done, `0..=1`, and stage.
    progress: Option<(f64, String)>,
}

/// A lease request that waits for work.
#[derive(Debug)]
struct Parked {
    to: RequestId,
    worker: WorkerId,
    deadline: Time,
}

/// One call of `handle`: the core, the time, and what came out so far.
struct Turn<'a> {
    core: &'a mut Core,
    now: Time,
    commands: Vec<Command>,
    /// Whether something changed that may give work to a worker that waits.
    opens: bool,
    /// Whether a request for work has come that was not looked at yet; it is the last one.
    asked: bool,
}

impl Core {
    /// A core without studies and workers.
    pub fn new(config: CoreConfig) -> Self {
        Self::with_controllers(config, controller::build)
    }

    pub(crate) fn with_controllers(config: CoreConfig, build_controller: BuildController) -> Self {
        Self {
            config,
            build_controller,
            studies: BTreeMap::new(),
            running: BTreeMap::new(),
            ended: Ended::default(),
            workers: Workers::default(),
            parked: VecDeque::new(),
            next: NextIds { study: 0, worker: 1, ids: UsedIds::default() },
            version: 0,
        }
    }

    /// The state after `records`, as a coordinator that starts again finds it.
    ///
    /// # Errors
    /// When a record contradicts those before it.
    pub fn restore(
        config: CoreConfig,
        records: impl IntoIterator<Item = Record>,
        now: Time,
    ) -> Result<Self, RestoreError> {
        let mut core = Self::new(config);
        core.replay(records, now)?;
        Ok(core)
    }

    /// Takes in one event. Call [`Core::next_deadline`] again afterwards.
    ///
    /// See [`Command`] for what the runtime has to do with the result.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Command> {
        let mut turn = Turn { core: self, now, commands: Vec::new(), opens: false, asked: false };
        turn.decide(event);
        turn.settle();
        turn.commands
    }

    /// When to send the next [`Event::Tick`]; `None` if nothing is pending. It may be in the past.
    pub fn next_deadline(&self) -> Option<Time> {
        let leases = self.running.values().map(|attempt| attempt.expires);
        let workers = self.workers.0.values().map(|worker| worker.seen.after(self.config.lease));
        let parked = self.parked.iter().map(|parked| parked.deadline);
        let hours = self.studies.values().filter_map(Study::out_of_hours_at);
        leases.chain(workers).chain(parked).chain(hours).min()
    }

    /// Grows whenever something that a query shows may have changed, other than by time alone.
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl Turn<'_> {
    fn decide(&mut self, event: Event) {
        match event {
            Event::Submit { to, spec, teacher_weights, at_ms } => {
                let answer = self.submit(&spec, teacher_weights, at_ms);
                self.reply(to, answer);
            }
            Event::Import { to, study, trials } => {
                let answer = self.import(&study, trials);
                self.reply(to, answer);
            }
            Event::Extend { to, study, trials, hours } => {
                let answer = self.extend(&study, trials, hours);
                self.reply(to, answer);
            }
            Event::Rename { to, study, name } => {
                let answer = self.rename(&study, name);
                self.reply(to, answer);
            }
            Event::Retry { to, study, trial } => {
                let answer = self.retry(&study, trial);
                self.reply(to, answer);
            }
            Event::Steer { to, study, action } => {
                let answer = self.steer(&study, action);
                self.reply(to, answer);
            }
            Event::Join { to, worker, held } => {
                let answer = self.join(worker, held);
                self.reply(to, answer);
            }
            Event::Lease { to, worker, deadline } => self.park(to, worker, deadline),
            Event::Abandoned { to } => self.abandon(to),
            Event::Heartbeat { to, worker, running } => {
                let answer = self.heartbeat(worker, running);
                self.reply(to, answer);
            }
            Event::Report { to, worker, task, attempt, outcome } => {
                let answer = self.report(worker, task, attempt, *outcome);
                self.reply(to, answer);
            }
            Event::Leave { to, worker } => {
                let answer = self.leave(worker);
                self.reply(to, answer);
            }
            Event::Proposed { answer } => self.proposed(*answer),
            Event::Renew => self.renew(),
            Event::Tick => self.expire(),
        }
    }

    /// Hands out all work that can be handed out, and ends studies that are done. Requests that
    /// wait are looked at only if something changed that may have work for them.
    fn settle(&mut self) {
        self.end_hours();
        self.ask_for_data_hashes();
        if !self.opens {
            // Nothing has changed for those that wait already.
            self.serve_new();
        }
        if !self.opens {
            return;
        }
        self.stop_at_rungs();
        self.screen();
        self.serve_parked();
        // When no more trials will be proposed, rungs and batches can be decided, and that may
        // create new work.
        while self.stop_at_rungs() || self.screen() {
            self.serve_parked();
        }
        self.complete_studies();
    }

    /// Applies `record` and asks the runtime to persist it.
    fn record(&mut self, record: Record) {
        self.core
            .apply(&record, self.now)
            .unwrap_or_else(|why| unreachable!("the core decided on {record:?}, but {why}"));
        self.opens |= record.opens_work();
        self.commands.push(Command::Persist(Box::new(record)));
    }

    fn reply(&mut self, to: RequestId, answer: Result<Answer, Refusal>) {
        self.commands.push(Command::Reply { to, answer });
    }

    fn elapsed_ms(&self, study: &StudyName) -> u64 {
        self.core.studies.get(study).map_or(0, |s| s.elapsed_ms(self.now))
    }
}
