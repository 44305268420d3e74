//! The thread that owns the core and the store.
//!
//! It takes all queued messages, passes them to the core, appends all records in one durable write,
//! and only then releases the replies. So every answer that a client has seen is on disk. Queries
//! also wait for that write, because they see what it makes durable. If the write fails, no reply
//! is released and the thread ends with the error, which the callers get.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tonic::Status;

use super::leases::Leases;
use super::{log, status};
use crate::core::{Answer, Command, Core, Event, RequestId, Time};
use crate::store::{Store, StoreError};

/// Most messages handled before one write. It bounds the time until the first of them is answered.
const BATCH: usize = 1024;

/// A message to the thread.
enum Message {
    /// An event, and where to send its answer; `None` if the event has no request.
    Event(Box<Event>, Option<(RequestId, oneshot::Sender<Result<Answer, Status>>)>),
    /// A query. The function that it returns is run after the write.
    Query(Query),
    /// Stop. Messages sent earlier are still handled.
    Stop,
}

type Query = Box<dyn FnOnce(&Core, Time) -> Release + Send>;
type Release = Box<dyn FnOnce() + Send>;

/// A handle to the thread; clones share it. The thread ends when it is told to, or when all handles
/// are dropped.
#[derive(Clone)]
pub struct Handle {
    sender: Sender<Message>,
    next: Arc<AtomicU64>,
    start: Instant,
    version: watch::Receiver<u64>,
    /// Why the store failed, once it has.
    failure: Arc<OnceLock<String>>,
}

/// Starts the thread. `start` is the origin of the core's time.
pub fn spawn(
    core: Core,
    store: impl Store + 'static,
    start: Instant,
) -> std::io::Result<(Handle, JoinHandle<Result<(), StoreError>>)> {
    let (sender, receiver) = mpsc::channel();
    let (version, versions) = watch::channel(core.version());
    let (pending, leases) = Default::default();
    let failure: Arc<OnceLock<String>> = Arc::default();
    let failed = Arc::clone(&failure);
    let runtime = Runtime { core, store, start, version, pending, leases, failure: failed };
    let thread = std::thread::Builder::new().name("core".to_owned());
    let thread = thread.spawn(move || runtime.run(&receiver))?;
    let handle = Handle { sender, next: Arc::default(), start, version: versions, failure };
    Ok((handle, thread))
}

impl Handle {
    /// Sends an event to the core and waits for its answer. If the caller stops waiting, the core
    /// is told, so that it does not lease a task to a caller that is gone.
    pub async fn ask(&self, event: impl FnOnce(RequestId) -> Event) -> Result<Answer, Status> {
        let to = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        self.send(Message::Event(Box::new(event(to)), Some((to, reply))))?;
        let mut abandon = Abandon { handle: self, to: Some(to) };
        let answered = answer.await;
        abandon.to = None;
        answered.map_err(|_| self.gone())?
    }

    /// Sends a query, which changes nothing, to the core. If the caller stops waiting before it
    /// begins, it is dropped. What `question` holds is held until then, even without the caller.
    pub async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Core, Time) -> T + Send + 'static,
    ) -> Result<T, Status> {
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

fn too_many_leases() -> Status {
    let text = "this worker waits for more tasks than it has slots; end its earlier requests first";
    Status::resource_exhausted(text)
}

/// Tells the core that the caller no longer waits, unless disarmed.
struct Abandon<'a> {
    handle: &'a Handle,
    to: Option<RequestId>,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(to) = self.to {
            // If the thread has ended, it gives no leases.
            let _ = self.handle.send(Message::Event(Box::new(Event::Abandoned { to }), None));
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
    /// See [`Handle`].
    failure: Arc<OnceLock<String>>,
}

impl<S: Store> Runtime<S> {
    fn run(mut self, receiver: &Receiver<Message>) -> Result<(), StoreError> {
        loop {
            let wait = match self.core.next_deadline().filter(|_| !self.store.is_read_only()) {
                Some(deadline) => deadline.since(self.now()),
                None => Duration::from_secs(3600),
            };
            let mut batch = Vec::new();
            match receiver.recv_timeout(wait) {
                Ok(message) => batch.push(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            while batch.len() < BATCH
                && let Ok(message) = receiver.try_recv()
            {
                batch.push(message);
            }
            if self.turn(batch)?.is_break() {
                return Ok(());
            }
        }
    }

    /// Handles a batch, makes it durable, and releases the answers. Breaks if it was told to stop.
    fn turn(&mut self, batch: Vec<Message>) -> Result<ControlFlow<()>, StoreError> {
        let mut records = Vec::new();
        let mut releases: Vec<Release> = Vec::new();
        let mut flow = ControlFlow::Continue(());
        let now = self.now();
        for message in batch {
            match message {
                Message::Event(event, reply) => {
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
                        continue;
                    }
                    self.pending.extend(reply);
                    let subject = log::Subject::of(&event);
                    let commands = self.core.handle(now, *event);
                    log::decided(&subject, &commands);
                    self.note_workers(&subject, &commands);
                    self.take(commands, &mut records, &mut releases);
                }
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
            self.take(commands, &mut records, &mut releases);
        }
        if !records.is_empty() {
            let start = Instant::now();
            if let Err(error) = self.store.append(&records) {
                // Before the replies are dropped, whose callers ask for it.
                let _ = self.failure.set(format!("failed to store: {error}"));
                return Err(error);
            }
            log::wrote(records.len(), start.elapsed());
        }
        releases.into_iter().for_each(|release| release());
        let version = self.core.version();
        self.version.send_if_modified(|seen| std::mem::replace(seen, version) != version);
        Ok(flow)
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
        commands: Vec<Command>,
        records: &mut Vec<crate::core::Record>,
        releases: &mut Vec<Release>,
    ) {
        for command in commands {
            match command {
                Command::Persist(record) => records.push(*record),
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

    fn now(&self) -> Time {
        Time(self.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::CoreConfig;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn stop_ends_the_thread_even_if_other_handles_exist() {
        let core = Core::new(CoreConfig::default());
        let (handle, thread) = spawn(core, MemoryStore::default(), Instant::now()).unwrap();
        let other = handle.clone();
        assert_eq!(other.query(|core, _| core.studies().len()).await.unwrap(), 0);
        handle.stop();
        let ended = tokio::task::spawn_blocking(|| thread.join().unwrap());
        ended.await.unwrap().unwrap();
        let refused = other.query(|core, _| core.studies().len()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
    }

    /// A store that cannot be written.
    struct Full;

    impl Store for Full {
        fn append(&mut self, _: &[crate::core::Record]) -> Result<(), StoreError> {
            let source = std::io::ErrorKind::StorageFull.into();
            Err(StoreError::Io { path: "disk".into(), source })
        }

        fn is_read_only(&self) -> bool {
            false
        }

        fn replay(&mut self) -> Result<crate::store::Replay<'_>, StoreError> {
            Ok(Box::new(std::iter::empty()))
        }
    }

    #[tokio::test]
    async fn callers_learn_why_the_store_failed() {
        let core = Core::new(CoreConfig::default());
        let (handle, thread) = spawn(core, Full, Instant::now()).unwrap();
        let worker = edgesmith_common::WorkerInfo {
            name: "box".to_owned(),
            class: edgesmith_common::DeviceClass::local(),
            roles: [edgesmith_common::Role::Train].into(),
            engines: Default::default(),
            slots: 1,
            backend: String::new(),
        };
        let join = |to| Event::Join { to, worker, held: Vec::new() };
        let refused = handle.ask(join).await.unwrap_err();
        assert!(refused.message().contains("cannot use disk"), "{}", refused.message());
        let ended = tokio::task::spawn_blocking(|| thread.join().unwrap());
        assert!(ended.await.unwrap().is_err());
        let later = handle.query(|_, _| ()).await.unwrap_err();
        assert!(later.message().contains("cannot use disk"), "{}", later.message());
    }

    #[tokio::test]
    async fn queries_whose_callers_are_gone_are_not_run() {
        let core = Core::new(CoreConfig::default());
        let (handle, thread) = spawn(core, MemoryStore::default(), Instant::now()).unwrap();
        let (go_on, wait) = mpsc::channel();
        let mut busy = Box::pin(handle.query(move |_, _| wait.recv().is_ok()));
        assert!(poll_once(&mut busy).await.is_none());
        let ran = Arc::new(AtomicU64::new(0));
        let query = || {
            let ran = Arc::clone(&ran);
            Box::pin(handle.query(move |_, _| ran.fetch_add(1, Ordering::Relaxed)))
        };
        for _ in 0..100 {
            assert!(poll_once(&mut query()).await.is_none());
        }
        let mut kept = query();
        assert!(poll_once(&mut kept).await.is_none());
        go_on.send(()).unwrap();
        assert!(busy.await.unwrap());
        assert_eq!(kept.await.unwrap(), 0);
        handle.stop();
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap().unwrap();
    }

    /// Polls a future once.
    async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn a_worker_that_asks_for_many_leases_is_refused_and_others_are_not() {
        let core = Core::new(CoreConfig::default());
        let (handle, thread) = spawn(core, MemoryStore::default(), Instant::now()).unwrap();
        let mut joined = Vec::new();
        for slots in [1, 2] {
            let worker = edgesmith_common::WorkerInfo {
                name: "box".to_owned(),
                class: edgesmith_common::DeviceClass::local(),
                roles: [edgesmith_common::Role::Train].into(),
                engines: Default::default(),
                slots,
                backend: String::new(),
            };
            let held = Vec::new();
            match handle.ask(|to| Event::Join { to, worker, held }).await.unwrap() {
                Answer::Joined { worker, .. } => joined.push(worker),
                other => panic!("{other:?}"),
            }
        }
        let deadline = handle.now().after(Duration::from_secs(3600));
        let lease = |worker| {
            let handle = handle.clone();
            tokio::spawn(async move {
                handle.ask(|to| Event::Lease { to, worker, deadline }).await.map(drop)
            })
        };
        let mut waiting: Vec<_> = (0..4).map(|_| lease(joined[0])).collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let refused = lease(joined[0]).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("slots"), "{}", refused.message());
        waiting.push(lease(joined[1]));

        // One that is given up makes room.
        waiting.remove(0).abort();
        tokio::time::sleep(Duration::from_millis(50)).await;
        waiting.push(lease(joined[0]));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(waiting.iter().all(|lease| !lease.is_finished()));
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        handle.stop();
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap().unwrap();
    }
}
