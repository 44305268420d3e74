//! The thread that owns the core and the store.
//!
//! It takes all queued messages, passes them to the core, appends all records in one durable write,
//! and only then releases the replies. So every answer that a client has seen is on disk. Queries
//! also wait for that write, because they see what it makes durable. Proposals are computed by
//! other threads ([`super::proposers`]) and come back as messages; those that take less time than
//! to wake up another thread are computed here. If the write fails, no reply is released and the
//! thread ends with the error, which the callers get. If there is no room for it, the thread tries
//! again until there is, and calls are refused meanwhile (`stall.rs`).

use std::any::Any;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tonic::Status;

use super::leases::Leases;
use super::proposers::Proposers;
use super::space::Space;
use super::stall::Stalled;
use super::{log, status};
use crate::core::{Answer, Command, Core, Event, ProposalRequest, RequestId, Time};
use crate::store::{Store, StoreError};

/// Most messages handled before one write. It bounds the time until the first of them is answered.
const BATCH: usize = 1024;

/// How long a batch stays open for proposals that it asked for. A cheap algorithm answers within
/// this time, which is about that of a write, so a worker that reports and asks again costs one
/// write. It also bounds what an expensive one adds to the time of everybody's answers.
const PROPOSAL_WAIT: Duration = Duration::from_micros(300);

/// How long after a write the store is settled ([`Store::settle`]). Not at once: the next request
/// of a fast worker would wait for it.
const SETTLED_WITHIN: Duration = Duration::from_millis(20);

/// How long until the next try if there was no room for it.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// A message to the thread.
pub(super) enum Message {
    /// Events that are handled in one batch.
    Events(Vec<Asked>),
    /// A query. The function that it returns is run after the write.
    Query(Query),
    /// The answer of an algorithm, or what a bug of it panicked with.
    Proposed(Result<Event, Box<dyn Any + Send>>),
    /// Stop. Messages sent earlier are still handled.
    Stop,
}

/// An event, and where to send its answer; `None` if the event has no request.
pub(super) struct Asked {
    pub(super) event: Box<Event>,
    pub(super) reply: Option<(RequestId, oneshot::Sender<Result<Answer, Status>>)>,
}

pub(super) type Query = Box<dyn FnOnce(&Core, Time) -> Release + Send>;
pub(super) type Release = Box<dyn FnOnce() + Send>;

/// A handle to the thread; clones share it. The thread ends when it is told to, or when all handles
/// are dropped.
#[derive(Clone)]
pub struct Handle {
    sender: Arc<Sender<Message>>,
    next: Arc<AtomicU64>,
    start: Instant,
    version: watch::Receiver<u64>,
    /// Why the store failed, once it has.
    failure: Arc<OnceLock<String>>,
    space: Space,
}

/// Starts the thread. `start` is the origin of the core's time.
pub fn spawn(
    core: Core,
    store: impl Store + 'static,
    start: Instant,
    space: Space,
) -> std::io::Result<(Handle, JoinHandle<Result<(), StoreError>>)> {
    let (sender, receiver) = mpsc::channel();
    let sender = Arc::new(sender);
    let proposers = Proposers::start()?;
    let answers = Arc::downgrade(&sender);
    let (version, versions) = watch::channel(core.version());
    let (pending, leases, backlog) = Default::default();
    let failure: Arc<OnceLock<String>> = Arc::default();
    let runtime = Runtime {
        core,
        store,
        start,
        version,
        pending,
        leases,
        backlog,
        failure: Arc::clone(&failure),
        space: space.clone(),
        proposers,
        answers,
        asked: 0,
        settle_at: None,
    };
    let thread = std::thread::Builder::new().name("core".to_owned());
    let thread = thread.spawn(move || runtime.run(&receiver))?;
    let next = Arc::default();
    let handle = Handle { sender, next, start, version: versions, failure, space };
    Ok((handle, thread))
}

impl Handle {
    /// Sends an event to the core and waits for its answer. If the caller stops waiting, the core
    /// is told, so that it does not lease a task to a caller that is gone.
    pub async fn ask(&self, event: impl FnOnce(RequestId) -> Event) -> Result<Answer, Status> {
        self.space.check_full()?;
        let (asked, waiting) = self.prepare(event);
        self.send(Message::Events(vec![asked]))?;
        waiting.answer().await
    }

    /// Sends two events, the one right after the other, so that one write stores both. Otherwise as
    /// [`Handle::ask`].
    pub async fn ask_both(
        &self,
        first: impl FnOnce(RequestId) -> Event,
        second: impl FnOnce(RequestId) -> Event,
    ) -> Result<(Result<Answer, Status>, Result<Answer, Status>), Status> {
        self.space.check_full()?;
        let ((first, one), (second, other)) = (self.prepare(first), self.prepare(second));
        self.send(Message::Events(vec![first, second]))?;
        Ok(tokio::join!(one.answer(), other.answer()))
    }

    fn prepare(&self, event: impl FnOnce(RequestId) -> Event) -> (Asked, Waiting<'_>) {
        let to = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        let asked = Asked { event: Box::new(event(to)), reply: Some((to, reply)) };
        (asked, Waiting { handle: self, to: Some(to), answer })
    }

    /// Sends a query, which changes nothing, to the core. If the caller stops waiting before it
    /// begins, it is dropped. What `question` holds is held until then, even without the caller.
    pub async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Core, Time) -> T + Send + 'static,
    ) -> Result<T, Status> {
        // What it would see may not be stored yet.
        self.space.check_full()?;
        let (reply, answer) = oneshot::channel();
        let query = move |core: &Core, now: Time| -> Release {
            // Work for callers that are gone would hold up those that wait.
            if reply.is_closed() {
                return Box::new(|| ());
            }
            let found = question(core, now);
            // The caller may be gone; then the answer is not needed.
            Box::new(move || drop(reply.send(found)))
        };
        self.send(Message::Query(Box::new(query)))?;
        answer.await.map_err(|_| self.gone())
    }

    /// Ends the thread once everything sent earlier is handled and written. Later calls get the
    /// error that the coordinator is shutting down.
    pub fn stop(&self) {
        // If the thread has ended, there is nothing to stop.
        let _ = self.send(Message::Stop);
    }

    /// Changes whenever the results of queries may have changed.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }

    /// Whether there is room for what is stored.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The current time of the core.
    pub fn now(&self) -> Time {
        Time(self.start.elapsed())
    }

    /// Why the thread does not answer.
    fn gone(&self) -> Status {
        match self.failure.get() {
            // Unavailable, so that workers keep what they have and try again.
            Some(failure) => Status::unavailable(format!("it stops, because it {failure}")),
            None => stopping(),
        }
    }

    fn send(&self, message: Message) -> Result<(), Status> {
        self.sender.send(message).map_err(|_| self.gone())
    }
}

/// The error for calls that are cut off when the coordinator stops.
pub fn stopping() -> Status {
    Status::unavailable("the coordinator is shutting down")
}

/// Answers a request for work that there is none.
fn no_task(reply: oneshot::Sender<Result<Answer, Status>>) -> Release {
    Box::new(move || drop(reply.send(Ok(Answer::NoTask))))
}

fn too_many_leases() -> Status {
    let text = "this worker waits for more tasks than it has slots; end its earlier requests first";
    Status::resource_exhausted(text)
}

/// A caller that waits for its answer. The core is told if it is dropped before.
struct Waiting<'a> {
    handle: &'a Handle,
    /// `None` once it is answered.
    to: Option<RequestId>,
    answer: oneshot::Receiver<Result<Answer, Status>>,
}

impl Waiting<'_> {
    async fn answer(mut self) -> Result<Answer, Status> {
        let answered = (&mut self.answer).await;
        self.to = None;
        answered.map_err(|_| self.handle.gone())?
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(to) = self.to {
            let event = Box::new(Event::Abandoned { to });
            // If the thread has ended, it gives no leases.
            let _ = self.handle.send(Message::Events(vec![Asked { event, reply: None }]));
        }
    }
}

struct Runtime<S> {
    core: Core,
    store: S,
    start: Instant,
    version: watch::Sender<u64>,
    leases: Leases,
    pending: std::collections::HashMap<RequestId, oneshot::Sender<Result<Answer, Status>>>,
    /// Messages that came while a write was tried again.
    backlog: VecDeque<Message>,
    /// See [`Handle`].
    failure: Arc<OnceLock<String>>,
    space: Space,
    proposers: Proposers,
    /// Where proposers send their answers. It does not keep the thread alive.
    answers: Weak<Sender<Message>>,
    /// Number of proposals that the open batch asked for and that have not come back.
    asked: usize,
    /// When the store is to be settled; `None` if it is.
    settle_at: Option<Instant>,
}

impl<S: Store> Runtime<S> {
    fn run(mut self, receiver: &Receiver<Message>) -> Result<(), StoreError> {
        loop {
            let mut batch: Vec<_> = self.backlog.drain(..).collect();
            if self.settle_at.is_some_and(|due| due <= Instant::now()) {
                self.settle()?;
            }
            if batch.is_empty() {
                let mut wait = match self.core.next_deadline() {
                    Some(deadline) if !self.store.is_read_only() => deadline.since(self.now()),
                    _ => Duration::from_secs(3600),
                };
                if let Some(due) = self.settle_at {
                    wait = wait.min(due.saturating_duration_since(Instant::now()));
                }
                match receiver.recv_timeout(wait) {
                    Ok(message) => batch.push(message),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return self.settle(),
                }
            }
            while batch.len() < BATCH
                && let Ok(message) = receiver.try_recv()
            {
                batch.push(message);
            }
            if self.turn(batch, receiver)?.is_break() {
                return self.settle();
            }
        }
    }

    /// Settles the store, or leaves it for later if there is no room.
    fn settle(&mut self) -> Result<(), StoreError> {
        match self.store.settle() {
            Ok(()) => self.settle_at = None,
            Err(StoreError::Full { .. }) => self.settle_at = Some(Instant::now() + SETTLE_PAUSE),
            Err(error) => return Err(self.failed(error)),
        }
        Ok(())
    }

    /// Notes a write, if it is not settled by itself.
    fn note_unsettled(&mut self) {
        if !self.store.is_settled() {
            self.settle_at.get_or_insert_with(|| Instant::now() + SETTLED_WITHIN);
        }
    }

    /// Keeps why the store failed, for callers that ask for it.
    fn failed(&self, error: StoreError) -> StoreError {
        let _ = self.failure.set(format!("failed to store: {error}"));
        error
    }

    /// Handles a batch, makes it durable, and releases the answers. Breaks if it was told to stop.
    fn turn(
        &mut self,
        batch: Vec<Message>,
        receiver: &Receiver<Message>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let mut records = Vec::new();
        let mut releases: Vec<Release> = Vec::new();
        if self.space.is_short() {
            self.withdraw_leases(&mut records, &mut releases);
        }
        let mut flow = ControlFlow::Continue(());
        let now = self.now();
        let mut left = BATCH.saturating_sub(batch.len());
        let mut batch = batch.into_iter();
        let mut open_until = None;
        self.asked = 0;
        loop {
            let message = match batch.next() {
                Some(message) => message,
                None if self.asked > 0 && left > 0 => {
                    let until = *open_until.get_or_insert_with(|| Instant::now() + PROPOSAL_WAIT);
                    let wait = until.saturating_duration_since(Instant::now());
                    left -= 1;
                    match receiver.recv_timeout(wait) {
                        Ok(message) => message,
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                    }
                }
                None => break,
            };
            match message {
                Message::Events(all) => {
                    for asked in all {
                        self.handle(now, asked, &mut records, &mut releases);
                    }
                }
                Message::Proposed(Ok(event)) => {
                    self.asked = self.asked.saturating_sub(1);
                    let asked = Asked { event: Box::new(event), reply: None };
                    self.handle(now, asked, &mut records, &mut releases);
                }
                Message::Proposed(Err(panic)) => std::panic::resume_unwind(panic),
                Message::Query(query) => releases.push(query(&self.core, now)),
                Message::Stop => {
                    flow = ControlFlow::Break(());
                    break;
                }
            }
        }
        // Uses the time at which the batch was taken. More heartbeats may have queued up while it
        // was handled, and a deadline that passed meanwhile must wait until they are handled.
        let is_due = self.core.next_deadline().is_some_and(|deadline| deadline <= now);
        if is_due && !self.store.is_read_only() {
            let commands = self.core.handle(now, Event::Tick);
            log::decided(&log::Subject::Ticks, &commands);
            self.note_workers(&log::Subject::Ticks, &commands);
            self.take(now, commands, &mut records, &mut releases);
        }
        if !records.is_empty() {
            let start = Instant::now();
            match super::stall::append(&mut self.store, &records, receiver, &self.space) {
                Ok(None) => {
                    log::wrote(records.len(), start.elapsed());
                    self.note_unsettled();
                }
                Ok(Some(Stalled { messages })) => {
                    self.note_unsettled();
                    let renew = Asked { event: Box::new(Event::Renew), reply: None };
                    self.backlog.push_back(Message::Events(vec![renew]));
                    self.backlog.extend(messages);
                }
                // Kept before the replies are dropped, whose callers ask for it.
                Err(error) => return Err(self.failed(error)),
            }
        }
        releases.into_iter().for_each(|release| release());
        let version = self.core.version();
        self.version.send_if_modified(|seen| std::mem::replace(seen, version) != version);
        Ok(flow)
    }

    /// Passes an event to the core.
    fn handle(
        &mut self,
        now: Time,
        asked: Asked,
        records: &mut Vec<crate::core::Record>,
        releases: &mut Vec<Release>,
    ) {
        let Asked { event, reply } = asked;
        if let Event::Abandoned { to } = *event {
            self.pending.remove(&to);
            self.leases.answered(to);
        }
        if let Event::Lease { to, worker, .. } = *event
            && !self.leases.asked(worker, to)
        {
            log::refused_lease(worker);
            let reply = reply.map(|(_, reply)| reply);
            releases.push(Box::new(move || {
                drop(reply.map(|reply| reply.send(Err(too_many_leases()))));
            }));
            return;
        }
        if matches!(*event, Event::Lease { .. }) && self.space.is_short() {
            releases.extend(reply.map(|(to, reply)| {
                self.leases.answered(to);
                no_task(reply)
            }));
            return;
        }
        self.pending.extend(reply);
        let subject = log::Subject::of(&event);
        let commands = self.core.handle(now, *event);
        log::decided(&subject, &commands);
        self.note_workers(&subject, &commands);
        self.take(now, commands, records, releases);
    }

    /// Answers all requests for work that wait: there is none as long as room is short.
    fn withdraw_leases(
        &mut self,
        records: &mut Vec<crate::core::Record>,
        releases: &mut Vec<Release>,
    ) {
        let now = self.now();
        for to in self.leases.waiting() {
            let Some(reply) = self.pending.remove(&to) else { continue };
            self.leases.answered(to);
            releases.push(no_task(reply));
            let commands = self.core.handle(now, Event::Abandoned { to });
            self.take(now, commands, records, releases);
        }
    }

    /// Keeps the number of slots of every worker that is connected.
    fn note_workers(&mut self, subject: &log::Subject, commands: &[Command]) {
        match subject {
            log::Subject::Joins(info) => {
                for command in commands {
                    if let Command::Reply { answer: Ok(Answer::Joined { worker, .. }), .. } =
                        command
                    {
                        self.leases.joined(*worker, info.slots);
                    }
                }
            }
            log::Subject::Leaves(worker) => self.leases.left(*worker),
            log::Subject::Ticks => {
                let core = &self.core;
                self.leases
                    .keep(|worker| core.is_connected(worker))
                    .into_iter()
                    .for_each(log::lost_worker);
            }
            log::Subject::Asks(_) => {}
        }
    }

    fn take(
        &mut self,
        now: Time,
        commands: Vec<Command>,
        records: &mut Vec<crate::core::Record>,
        releases: &mut Vec<Release>,
    ) {
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            match command {
                Command::Persist(record) => records.push(*record),
                // Another thread would take longer to wake up than to compute it.
                Command::Propose(request) if request.is_quick() => {
                    let event = request.answer().into();
                    let subject = log::Subject::of(&event);
                    let more = self.core.handle(now, event);
                    log::decided(&subject, &more);
                    commands.extend(more);
                }
                Command::Propose(request) => self.compute(request),
                Command::Reply { to, answer } => {
                    self.leases.answered(to);
                    let answer = answer.map_err(|refusal| status::of_refusal(&refusal));
                    if let Some(reply) = self.pending.remove(&to) {
                        // The caller may be gone; the core is told of that separately.
                        releases.push(Box::new(move || drop(reply.send(answer))));
                    }
                }
            }
        }
    }

    /// Has a proposal computed by another thread.
    fn compute(&mut self, request: Box<ProposalRequest>) {
        self.asked += 1;
        let answers = Weak::clone(&self.answers);
        let deliver = move |answer| {
            // Without handles, the thread ends.
            if let Some(answers) = answers.upgrade() {
                let _ = answers.send(Message::Proposed(answer));
            }
        };
        self.proposers.compute(request, Box::new(deliver));
    }

    fn now(&self) -> Time {
        Time(self.start.elapsed())
    }
}

#[cfg(test)]
mod tests;
