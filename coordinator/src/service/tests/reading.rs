//! What is on the disk is read by threads that may block, and not by those that serve connections.

use edgesmith_common::{DeviceClass, Outcome, Role, StudySpec, WorkerInfo};
use edgesmith_proto::v1::study_service_server::StudyService as _;
use tonic::Request;

use super::super::studies::Studies;
use super::*;
use crate::core::{Answer, Event, Record};
use crate::store::{MemoryStore, slow_stages};

/// Makes a study and trains its first trial, which has the stages of `record`.
async fn train(core: &runtime::Handle, record: &Record) {
    let spec = Box::new(StudySpec::parse(STUDY).unwrap());
    core.ask(|to| Event::Submit { to, spec, teacher_weights: None, at_ms: 0 }).await.unwrap();
    let info = WorkerInfo {
        name: "box".to_owned(),
        class: DeviceClass::local(),
        roles: [Role::Train].into(),
        engines: Default::default(),
        slots: 1,
        backend: "flex".to_owned(),
    };
    let joined = core.ask(|to| Event::Join { to, worker: info, held: Vec::new() }).await;
    let Ok(Answer::Joined { worker, .. }) = joined else { panic!("{joined:?}") };
    let deadline = core.now().after(Duration::from_secs(60));
    let leased = core.ask(|to| Event::Lease { to, worker, deadline }).await;
    let Ok(Answer::Leased(lease)) = leased else { panic!("{leased:?}") };
    let reported = v1::report_request::Outcome::TrialTrained(trained(b"a model"));
    let Ok(Ok(Outcome::TrialTrained(mut outcome))) = edgesmith_proto::outcome(reported) else {
        panic!("no outcome of a trial");
    };
    let Record::TrialTrained { trained, .. } = record else { panic!("{record:?}") };
    outcome.stages = trained.stages.clone();
    let outcome = Box::new(Ok(Outcome::TrialTrained(outcome)));
    let (task, attempt) = (lease.task, lease.attempt);
    let reported = core.ask(|to| Event::Report { to, worker, task, attempt, outcome }).await;
    assert!(matches!(reported, Ok(Answer::Reported { accepted: true })), "{reported:?}");
}

#[tokio::test]
async fn the_stages_of_a_trial_are_not_read_by_a_thread_that_serves_connections() {
    let directory = tempfile::tempdir().unwrap();
    let artifacts = ArtifactStore::open(directory.path()).unwrap();
    let space = space::Space::new(directory.path(), Some(0));
    let core = Core::new(CoreConfig::default());
    let store = MemoryStore::default();
    let (core, thread) = runtime::spawn(core, store, Instant::now(), space).unwrap();
    let (record, _) = slow_stages::record("prune");
    train(&core, &record).await;
    let (stages, begun, go_on) = slow_stages::slow(record);
    let studies = Studies::new(core.clone(), artifacts, stages, CancellationToken::new());
    let asking = tokio::spawn(async move {
        let request = v1::GetTrialRequest { study: "served".to_owned(), number: 0 };
        studies.get_trial(Request::new(request)).await.unwrap().into_inner()
    });
    let reader = tokio::task::spawn_blocking(move || begun.recv()).await.unwrap().unwrap();
    assert_ne!(reader, std::thread::current().id());
    go_on.send(()).unwrap();
    let stages = asking.await.unwrap().trained.unwrap().stages;
    assert_eq!(stages.iter().map(|stage| stage.pass.as_str()).collect::<Vec<_>>(), ["prune"]);
    core.stop();
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap().unwrap();
}
