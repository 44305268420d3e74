//! The decisions: a synchronous, deterministic state machine over studies, trials, tasks and workers.
//!
//! It is fed [`Event`]s and answers with [`Command`]s. It reads no clock, draws no randomness but what
//! it derives from a study's seed, opens no socket and no file, spawns nothing, and knows neither gRPC
//! nor sled: the runtime around it passes the time in, writes the records and sends the replies.
//!
//! Lasting state changes only by applying [`Record`]s: `handle` decides on one, asks for it to be
//! persisted and applies it at once. So applying the stored records again ([`Core::restore`]) yields
//! the same studies, trials, tasks, attempts and controllers. What does not last is who is connected,
//! who waits for work, how far attempts say they are, and when leases run out: restored leases get a
//! full fresh term, and workers that join again keep the attempts they hold.
//!
//! Timers are data: after every call ask [`Core::next_deadline`] and send [`Event::Tick`] when it has
//! come.

mod apply;
mod batches;
mod command;
mod curves;
mod event;
mod fronts;
mod import;
mod inheritance;
mod invariants;
mod latency;
mod lifecycle;
mod objectives;
mod promotion;
mod propose;
mod queries;
mod record;
mod report;
mod rungs;
mod scheduling;
mod screening;
mod study;
mod task;
#[cfg(test)]
mod tests;
mod time;
mod work;
mod workers;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use edgesmith_common::{AttemptId, StudyName, StudySpec, TaskId, WorkerId};

pub use apply::RestoreError;
pub use command::{Answer, Command, Lease, Refusal};
pub use event::{Action, AttemptProgress, Event, RequestId};
pub use import::KnownTrial;
pub use latency::PredictionView;
pub use queries::{StudyView, TeacherView, TrialCounts, TrialView, WorkerView};
pub use record::{AttemptEnding, Record, StudyState, TrialEnding};
pub use time::Time;

use crate::controller::{self, Controller};
use study::Study;
use workers::Workers;

/// Terms and limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreConfig {
    /// For how long an attempt is its worker's without a heartbeat that names it, and for how long a
    /// silent worker counts as connected.
    pub lease: Duration,
    /// How often workers are told to beat; well below `lease`.
    pub heartbeat: Duration,
    /// Lost attempts after which a task is given up: a candidate that kills its workers ends, while
    /// the ordinary loss of workers fails no trial.
    pub max_lost: u32,
    /// Candidates in a row that arithmetic rules out after which a study stops proposing.
    pub max_infeasible: u32,
    /// Trials in a row that workers find infeasible after which a study stops proposing, or its
    /// budget of trials where that is more: such trials give the budget back, so nothing else would
    /// end a study of which no candidate works.
    pub max_hopeless: u32,
    /// Most workers connected at once.
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
            max_workers: 1024,
        }
    }
}

/// Makes the controller of a study; [`controller::build`] but in tests.
pub(crate) type BuildController = fn(&StudySpec) -> Box<dyn Controller>;

/// The coordinator's state and rules.
pub struct Core {
    config: CoreConfig,
    build_controller: BuildController,
    studies: BTreeMap<StudyName, Study>,
    running: BTreeMap<AttemptId, Attempt>,
    ended: BTreeMap<AttemptId, EndedAttempt>,
    workers: Workers,
    /// Lease requests that wait for work, oldest first.
    parked: VecDeque<Parked>,
    next: NextIds,
    /// Counts changes of what queries show.
    version: u64,
}

/// The next free ids; none is ever used twice, not even after its study is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NextIds {
    study: u64,
    task: u64,
    attempt: u64,
    worker: u64,
    /// Worker ids below this one may be given without a record.
    worker_reserved: u64,
}

/// An attempt that is current.
#[derive(Debug)]
struct Attempt {
    study: StudyName,
    task: TaskId,
    /// Who has it; not connected where the coordinator started anew or the worker is about to be
    /// missed.
    worker: WorkerId,
    expires: Time,
    /// What the worker said last: share done and stage.
    progress: Option<(f64, String)>,
}

/// An attempt that is not current any more, kept so that a repeated report gets the same answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EndedAttempt {
    study: StudyName,
    task: TaskId,
    /// Whether its report was accepted.
    accepted: bool,
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
}

impl Core {
    /// An empty one.
    pub fn new(config: CoreConfig) -> Self {
        Self::with_controllers(config, controller::build)
    }

    pub(crate) fn with_controllers(config: CoreConfig, build_controller: BuildController) -> Self {
        Self {
            config,
            build_controller,
            studies: BTreeMap::new(),
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            workers: Workers::default(),
            parked: VecDeque::new(),
            next: NextIds { study: 0, task: 1, attempt: 1, worker: 1, worker_reserved: 1 },
            version: 0,
        }
    }

    /// The state after `records`, as a coordinator that starts again finds it.
    ///
    /// # Errors
    /// When a record does not follow from those before it, or a study file is not understood any
    /// more.
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
    /// See [`Command`] for what the runtime owes in return.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Command> {
        let mut turn = Turn { core: self, now, commands: Vec::new() };
        turn.decide(event);
        turn.settle();
        turn.commands
    }

    /// When to send the next [`Event::Tick`]; `None` while nothing is pending. It may lie in the past.
    pub fn next_deadline(&self) -> Option<Time> {
        let leases = self.running.values().map(|attempt| attempt.expires);
        let workers = self.workers.0.values().map(|worker| worker.seen.after(self.config.lease));
        let parked = self.parked.iter().map(|parked| parked.deadline);
        leases.chain(workers).chain(parked).min()
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
            Event::Steer { to, study, action } => {
                let answer = self.steer(&study, action);
                self.reply(to, answer);
            }
            Event::Join { to, worker, held } => {
                let answer = self.join(worker, held);
                self.reply(to, answer);
            }
            Event::Lease { to, worker, deadline } => self.park(to, worker, deadline),
            Event::Abandoned { to } => self.core.parked.retain(|parked| parked.to != to),
            Event::Heartbeat { to, worker, running } => {
                let answer = self.heartbeat(worker, running);
                self.reply(to, answer);
            }
            Event::Report { to, worker, task, attempt, outcome } => {
                let answer = self.report(worker, task, attempt, outcome);
                self.reply(to, answer);
            }
            Event::Leave { to, worker } => {
                let answer = self.leave(worker);
                self.reply(to, answer);
            }
            Event::Tick => self.expire(),
        }
    }

    /// Hands out what can be handed out and ends what is done.
    fn settle(&mut self) {
        self.stop_at_rungs();
        self.screen();
        self.serve_parked();
        // Proposals that end decide rungs and batches, and what is decided may have work.
        while self.stop_at_rungs() || self.screen() {
            self.serve_parked();
        }
        self.complete_studies();
    }

    /// Writes `record` down and makes it so.
    fn record(&mut self, record: Record) {
        self.core
            .apply(&record, self.now)
            .unwrap_or_else(|why| unreachable!("the core decided on {record:?}, but {why}"));
        self.commands.push(Command::Persist(record));
    }

    fn reply(&mut self, to: RequestId, answer: Result<Answer, Refusal>) {
        self.commands.push(Command::Reply { to, answer });
    }

    fn elapsed_ms(&self, study: &StudyName) -> u64 {
        self.core.studies.get(study).map_or(0, |s| s.elapsed_ms(self.now))
    }
}
