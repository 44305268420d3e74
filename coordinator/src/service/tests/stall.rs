//! The core's thread with a store that has no room for a while, and with little room on the disk.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use edgesmith_common::{AttemptId, DeviceClass, Role, StudySpec, WorkerId, WorkerInfo};
use tonic::Code;

use super::super::runtime::{Handle, spawn};
use super::*;
use crate::core::{Action, Answer, AttemptProgress, Core, CoreConfig, Event};
use crate::store::{Replay, Room};

const STUDY: &str = "study.name = \"s\"\nbudget.trials = 4\n\
    objectives = [{ metric = \"validation_accuracy\" }]\n[data]\nsource = \"digits\"\n\
    [space]\nresolution = [8]\nstem_width = [4, 8]\n[[space.stages]]\nwidth = [4, 8]\n";

/// A store whose disk is full now and then. What it has stored is seen by the test.
#[derive(Clone, Default)]
struct Filling {
    full: Arc<AtomicBool>,
    tries: Arc<AtomicU32>,
    stored: Arc<Mutex<Vec<Record>>>,
}

impl Store for Filling {
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        if self.full.load(Ordering::SeqCst) {
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(StoreError::Full { path: "1.log".into(), source });
        }
        self.stored.lock().unwrap().extend_from_slice(records);
        Ok(())
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn replay(&mut self) -> Result<Replay<'_>, StoreError> {
        Ok(Box::new(std::iter::empty()))
    }
}

impl Filling {
    fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    fn count(&self) -> usize {
        self.stored.lock().unwrap().len()
    }
}

type Thread = std::thread::JoinHandle<Result<(), StoreError>>;

fn started(store: &Filling, lease: Duration) -> (Handle, Thread) {
    let core = Core::new(CoreConfig { lease, ..CoreConfig::default() });
    let space = Space::new(Path::new("data"), Some(1000));
    spawn(core, store.clone(), Instant::now(), space).unwrap()
}

async fn join(handle: &Handle) -> Result<WorkerId, tonic::Status> {
    let worker = WorkerInfo {
        name: "box".to_owned(),
        class: DeviceClass::local(),
        roles: [Role::Train].into(),
        engines: Default::default(),
        slots: 2,
        backend: "flex".to_owned(),
    };
    match handle.ask(|to| Event::Join { to, worker, held: Vec::new() }).await? {
        Answer::Joined { worker, .. } => Ok(worker),
        other => panic!("{other:?}"),
    }
}

async fn submit(handle: &Handle) {
    let spec = Box::new(StudySpec::parse(STUDY).unwrap());
    let event = |to| Event::Submit { to, spec, teacher_weights: None, at_ms: 0 };
    handle.ask(event).await.unwrap();
}

async fn lease(handle: &Handle, worker: WorkerId) -> Option<AttemptId> {
    let deadline = handle.now().after(Duration::from_secs(3600));
    match handle.ask(|to| Event::Lease { to, worker, deadline }).await.unwrap() {
        Answer::Leased(lease) => Some(lease.attempt),
        Answer::NoTask => None,
        other => panic!("{other:?}"),
    }
}

async fn heartbeat(handle: &Handle, worker: WorkerId, attempt: AttemptId) -> Vec<AttemptId> {
    let running = vec![AttemptProgress { attempt, fraction: 0.5, stage: "epoch 1/2".to_owned() }];
    match handle.ask(|to| Event::Heartbeat { to, worker, running }).await.unwrap() {
        Answer::Alive { stop } => stop,
        other => panic!("{other:?}"),
    }
}

async fn ended(thread: Thread) -> Result<(), StoreError> {
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_without_room_and_everything_when_there_is_some() {
    let store = Filling::default();
    let (handle, thread) = started(&store, Duration::from_secs(3600));
    store.set_full(true);
    let joining = tokio::spawn({
        let handle = handle.clone();
        async move { join(&handle).await }
    });
    until("full", || handle.space().is_short()).await;
    for refused in [join(&handle).await.map(drop), handle.query(|_, _| ()).await] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(refused.message().contains("the disk of data is full"), "{}", refused.message());
    }
    let tries = store.tries.load(Ordering::SeqCst);
    until("tried again", || store.tries.load(Ordering::SeqCst) > tries + 1).await;
    assert!(!joining.is_finished());
    assert_eq!(store.count(), 0);
    store.set_full(false);
    joining.await.unwrap().unwrap();
    assert_eq!(store.count(), 1);
    assert_eq!(handle.query(|core, _| core.workers(handle_time()).len()).await.unwrap(), 1);
    handle.stop();
    ended(thread).await.unwrap();
}

fn handle_time() -> crate::core::Time {
    crate::core::Time(Duration::ZERO)
}

#[tokio::test]
async fn attempts_are_not_lost_while_there_is_no_room() {
    let store = Filling::default();
    let term = Duration::from_secs(3);
    let (handle, thread) = started(&store, term);
    let worker = join(&handle).await.unwrap();
    submit(&handle).await;
    let attempt = lease(&handle, worker).await.unwrap();
    store.set_full(true);
    let pausing = tokio::spawn({
        let (handle, study) = (handle.clone(), "s".parse().unwrap());
        async move { handle.ask(|to| Event::Steer { to, study, action: Action::Pause }).await }
    });
    until("full", || handle.space().is_short()).await;
    // Longer than the lease, which no heartbeat could extend.
    tokio::time::sleep(term + Duration::from_millis(500)).await;
    store.set_full(false);
    pausing.await.unwrap().unwrap();
    assert_eq!(heartbeat(&handle, worker, attempt).await, []);
    handle.stop();
    ended(thread).await.unwrap();
}

#[tokio::test]
async fn a_coordinator_that_is_told_to_stop_without_room_says_what_it_could_not_store() {
    let store = Filling::default();
    let (handle, thread) = started(&store, Duration::from_secs(3600));
    store.set_full(true);
    let joining = tokio::spawn({
        let handle = handle.clone();
        async move { join(&handle).await }
    });
    until("full", || handle.space().is_short()).await;
    handle.stop();
    assert!(matches!(ended(thread).await, Err(StoreError::Full { .. })));
    let refused = joining.await.unwrap().unwrap_err();
    assert!(refused.message().contains("no room to write 1.log"), "{}", refused.message());
    assert_eq!(store.count(), 0);
}

#[tokio::test]
async fn requests_for_work_get_none_while_room_is_short() {
    let store = Filling::default();
    let (handle, thread) = started(&store, Duration::from_secs(3600));
    let worker = join(&handle).await.unwrap();
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { lease(&handle, worker).await }
    });
    // It waits once the study is known to have come after it.
    tokio::time::sleep(Duration::from_millis(50)).await;
    handle.space().see(Room { free: 999, total: 10_000 });
    submit(&handle).await;
    assert_eq!(waiting.await.unwrap(), None);
    assert_eq!(lease(&handle, worker).await, None);
    handle.space().see(Room { free: 5000, total: 10_000 });
    assert!(lease(&handle, worker).await.is_some());
    handle.stop();
    ended(thread).await.unwrap();
}
