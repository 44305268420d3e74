//! The thread with small stores and algorithms: what it writes together, who waits for what, and
//! how it ends.

use edgesmith_common::{
    DeviceClass, Figures, Metric, Outcome, Role, ScopedMetric, StudySpec, TrialNumber, WorkerId,
    WorkerInfo,
};

use super::*;
use crate::controller::{Controller, FinishedTrial, Proposal, Random};
use crate::core::CoreConfig;
use crate::core::Record;
use crate::store::MemoryStore;

fn roomy() -> Space {
    Space::new(std::path::Path::new("."), Some(0))
}

#[tokio::test]
async fn stop_ends_the_thread_even_if_other_handles_exist() {
    let core = Core::new(CoreConfig::default());
    let (handle, thread) = spawn(core, MemoryStore::default(), Instant::now(), roomy()).unwrap();
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
    fn append(&mut self, _: &[Record]) -> Result<(), StoreError> {
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
    let (handle, thread) = spawn(core, Full, Instant::now(), roomy()).unwrap();
    let worker = WorkerInfo {
        name: "box".to_owned(),
        class: DeviceClass::local(),
        roles: [Role::Train].into(),
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

/// Counts its writes.
struct Counting(Arc<AtomicU64>);

impl Store for Counting {
    fn append(&mut self, _: &[Record]) -> Result<(), StoreError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn replay(&mut self) -> Result<crate::store::Replay<'_>, StoreError> {
        Ok(Box::new(std::iter::empty()))
    }
}

/// Needs to be settled after each write; says each time how many writes that settled.
struct Unsettled {
    writes: u64,
    settled: u64,
    said: std::sync::mpsc::Sender<u64>,
    /// Whether the next attempts to settle meet a full disk, and then a broken one.
    full: u32,
    broken: bool,
}

impl Store for Unsettled {
    fn append(&mut self, _: &[Record]) -> Result<(), StoreError> {
        self.writes += 1;
        Ok(())
    }

    fn is_settled(&self) -> bool {
        self.settled == self.writes
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        let path = "disk".into();
        if self.is_settled() {
            return Ok(());
        }
        if self.full > 0 {
            self.full -= 1;
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(StoreError::Full { path, source });
        }
        if self.broken {
            return Err(StoreError::Io { path, source: std::io::ErrorKind::Other.into() });
        }
        self.settled = self.writes;
        self.said.send(self.settled).unwrap();
        Ok(())
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn replay(&mut self) -> Result<crate::store::Replay<'_>, StoreError> {
        Ok(Box::new(std::iter::empty()))
    }
}

#[tokio::test]
async fn the_store_is_settled_when_nothing_else_is_to_do() {
    for full in [0, 2] {
        let (said, settled) = mpsc::channel();
        let store = Unsettled { writes: 0, settled: 0, said, full, broken: false };
        let (handle, thread) =
            spawn(Core::new(CoreConfig::default()), store, Instant::now(), roomy()).unwrap();
        submit_and_join(&handle, 1).await;
        // No other message comes, and the answers did not wait for it.
        let last = tokio::task::spawn_blocking(move || {
            let mut last = 0;
            while last < 2 {
                last = settled.recv_timeout(Duration::from_secs(60)).unwrap();
            }
            last
        });
        assert_eq!(last.await.unwrap(), 2);
        handle.stop();
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_settled_ends_the_thread() {
    let (said, _settled) = mpsc::channel();
    let store = Unsettled { writes: 0, settled: 0, said, full: 0, broken: true };
    let (handle, thread) =
        spawn(Core::new(CoreConfig::default()), store, Instant::now(), roomy()).unwrap();
    let join = |to| Event::Join { to, worker: worker(1), held: Vec::new() };
    // It was written, so it is answered.
    handle.ask(join).await.unwrap();
    let ended = tokio::task::spawn_blocking(|| thread.join().unwrap());
    assert!(ended.await.unwrap().is_err());
    let later = handle.query(|_, _| ()).await.unwrap_err();
    assert!(later.message().contains("cannot use disk"), "{}", later.message());
}

fn worker(slots: u32) -> WorkerInfo {
    WorkerInfo {
        name: "box".to_owned(),
        class: DeviceClass::local(),
        roles: [Role::Table].into(),
        engines: Default::default(),
        slots,
        backend: String::new(),
    }
}

async fn submit_and_join(handle: &Handle, slots: u32) -> WorkerId {
    let text = "study.name = \"s\"\nbudget.trials = 100\n\
                objectives = [{ metric = \"validation_accuracy\" }]\n\
                algorithm.name = \"random\"\ntable.path = \"t.csv\"\n";
    let spec = Box::new(StudySpec::parse(text).unwrap());
    let submit = |to| Event::Submit { to, spec, teacher_weights: None, at_ms: 0 };
    handle.ask(submit).await.unwrap();
    let join = |to| Event::Join { to, worker: worker(slots), held: Vec::new() };
    let Answer::Joined { worker, .. } = handle.ask(join).await.unwrap() else { panic!() };
    worker
}

#[tokio::test]
async fn a_report_and_the_lease_after_it_cost_one_write() {
    let writes = Arc::new(AtomicU64::new(0));
    let core = Core::new(CoreConfig::default());
    let (handle, _) = spawn(core, Counting(Arc::clone(&writes)), Instant::now(), roomy()).unwrap();
    let worker = submit_and_join(&handle, 1).await;
    let deadline = handle.now().after(Duration::from_secs(60));
    let lease = |to| Event::Lease { to, worker, deadline };
    let Answer::Leased(mut held) = handle.ask(lease).await.unwrap() else { panic!() };
    let before = writes.load(Ordering::Relaxed);
    // A slow machine may not propose in time. Then the lease is answered by a write of its own.
    let mut together = 0;
    for _ in 0..50 {
        let figures = Figures::new()
            .with(ScopedMetric::VALIDATION_ACCURACY, 0.5)
            .with(Metric::TRAINING_SECONDS.whole(), 1.0);
        let outcome = Box::new(Ok(Outcome::LookedUp(figures)));
        let (task, attempt) = (held.task, held.attempt);
        let report = |to| Event::Report { to, worker, task, attempt, outcome };
        let now = handle.now();
        let next = |to| Event::Lease { to, worker, deadline: now };
        let (reported, leased) = handle.ask_both(report, next).await.unwrap();
        assert_eq!(reported.unwrap(), Answer::Reported { accepted: true });
        held = match leased.unwrap() {
            Answer::Leased(lease) => {
                together += 1;
                lease
            }
            Answer::NoTask => {
                let Answer::Leased(lease) = handle.ask(lease).await.unwrap() else { panic!() };
                lease
            }
            other => panic!("{other:?}"),
        };
    }
    assert!(together > 0, "a proposal by chance always takes longer than a batch is open");
    let written = writes.load(Ordering::Relaxed) - before;
    assert!(written <= 50 + 2 * (50 - together), "{written} writes, {together} together");
}

/// Opened when proposals may be computed.
static GATE: (std::sync::Mutex<bool>, std::sync::Condvar) =
    (std::sync::Mutex::new(false), std::sync::Condvar::new());

/// An algorithm that takes as long as [`GATE`] is closed.
struct Slow(Random);

impl Controller for Slow {
    fn suggest(&self, number: TrialNumber, rng: &mut dyn rand::Rng) -> Option<Proposal> {
        let mut open = GATE.0.lock().unwrap();
        while !*open {
            open = GATE.1.wait(open).unwrap();
        }
        self.0.suggest(number, rng)
    }

    fn proposed(&mut self, number: TrialNumber, proposal: &Proposal) {
        self.0.proposed(number, proposal);
    }

    fn update(&mut self, finished: &FinishedTrial) {
        self.0.update(finished);
    }
}

#[tokio::test]
async fn everybody_is_answered_while_proposals_are_computed() {
    let slow = |spec: &StudySpec| -> Box<dyn Controller> {
        Box::new(Slow(Random::new(spec.space.clone())))
    };
    let core = Core::with_controllers(CoreConfig::default(), slow);
    let (handle, _) = spawn(core, MemoryStore::default(), Instant::now(), roomy()).unwrap();
    let worker = submit_and_join(&handle, 8).await;
    let deadline = handle.now().after(Duration::from_secs(600));
    let lease = || Box::pin(handle.ask(|to| Event::Lease { to, worker, deadline }));
    let mut waiting: Vec<_> = (0..8).map(|_| lease()).collect();
    for asked in &mut waiting {
        assert!(poll_once(asked).await.is_none());
    }
    // The gate is closed, so no proposal can have been made when these are answered.
    for _ in 0..100 {
        let beat = |to| Event::Heartbeat { to, worker, running: Vec::new() };
        assert_eq!(handle.ask(beat).await.unwrap(), Answer::Alive { stop: Vec::new() });
    }
    assert_eq!(handle.query(|core, _| core.studies().len()).await.unwrap(), 1);
    *GATE.0.lock().unwrap() = true;
    GATE.1.notify_all();
    for asked in waiting {
        assert!(matches!(asked.await.unwrap(), Answer::Leased(_)));
    }
}

/// A store whose writes take long enough for a caller to go before it is answered.
struct Late;

impl Store for Late {
    fn append(&mut self, _: &[Record]) -> Result<(), StoreError> {
        std::thread::sleep(Duration::from_millis(20));
        Ok(())
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn replay(&mut self) -> Result<crate::store::Replay<'_>, StoreError> {
        Ok(Box::new(std::iter::empty()))
    }
}

#[tokio::test]
async fn a_lease_whose_asker_has_gone_is_given_to_another_at_once() {
    let lease = Duration::from_secs(3600);
    let core = Core::new(CoreConfig { lease, ..CoreConfig::default() });
    let (handle, _) = spawn(core, Late, Instant::now(), roomy()).unwrap();
    let worker = submit_and_join(&handle, 1).await;
    let deadline = handle.now().after(Duration::from_secs(600));
    for _ in 0..20 {
        let mut asked = Box::pin(handle.ask(|to| Event::Lease { to, worker, deadline }));
        assert!(poll_once(&mut asked).await.is_none());
        // The lease is on its way to the caller, who goes without taking it.
        let idle = |core: &Core, now| core.workers(now)[0].activity.is_empty();
        while handle.query(idle).await.unwrap() {}
        drop(asked);
    }
    let lease = handle.ask(|to| Event::Lease { to, worker, deadline });
    let leased = tokio::time::timeout(Duration::from_secs(60), lease).await;
    assert!(matches!(leased.unwrap().unwrap(), Answer::Leased(_)));
}

#[tokio::test]
async fn queries_whose_callers_are_gone_are_not_run() {
    let core = Core::new(CoreConfig::default());
    let (handle, thread) = spawn(core, MemoryStore::default(), Instant::now(), roomy()).unwrap();
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
    let (handle, thread) = spawn(core, MemoryStore::default(), Instant::now(), roomy()).unwrap();
    let mut joined = Vec::new();
    for slots in [1, 2] {
        let worker = WorkerInfo {
            name: "box".to_owned(),
            class: DeviceClass::local(),
            roles: [Role::Train].into(),
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
