//! Killing workers and the coordinator loses nothing that was acknowledged, and no trial.

use std::time::Duration;

use edgesmith_tests::{Coordinator, TinyStudy, complete};

#[test]
fn a_worker_killed_in_mid_trial_loses_no_trial() {
    let directory = tempfile::tempdir().unwrap();
    // A short lease, so that the dead worker's task comes back soon.
    let coordinator = Coordinator::start(directory.path(), 2);
    let study = TinyStudy { trials: 6, epochs: 60, ..TinyStudy::new("killed-worker") };
    coordinator.submit(&study);
    let victim = coordinator.worker(&["--slots", "1", "--name", "victim"]);
    // In the middle of a trial's training, with nobody else that could finish it.
    coordinator.wait_until(&study.name, "training", |s| {
        s["trials"]["running"].as_u64() >= Some(1) && s["activity"].to_string().contains("epoch")
    });
    victim.kill();
    let _other = coordinator.worker(&["--slots", "2", "--name", "other"]);
    let status = coordinator.wait_until_complete(&study.name);
    assert_eq!(status["trials"]["complete"], 6, "{status}");
    assert_eq!(status["trials"]["failed"], 0, "{status}");
    let trials = coordinator.trials(&study.name);
    let attempts: u64 = trials.iter().map(|t| t["attempts"].as_u64().unwrap()).sum();
    // Training and measuring are one attempt each; the lost one comes on top.
    let tasks = 2 * complete(&trials).len() as u64;
    assert!(attempts > tasks, "no attempt was lost: {attempts} for {tasks} tasks");
}

#[test]
fn a_killed_coordinator_keeps_every_acknowledged_result_and_its_workers_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start(directory.path(), 20);
    let study = TinyStudy { trials: 8, epochs: 10, ..TinyStudy::new("killed-coordinator") };
    coordinator.submit(&study);
    let mut worker = coordinator.worker(&["--slots", "2"]);
    for done in [1, 4] {
        coordinator.wait_until(&study.name, "some trials complete", |s| {
            s["trials"]["complete"].as_u64() >= Some(done)
        });
        let before = complete(&coordinator.trials(&study.name));
        coordinator = coordinator.kill_and_restart();
        let after = complete(&coordinator.trials(&study.name));
        for trial in &before {
            assert!(after.contains(trial), "{trial:?} was seen and is gone or changed");
        }
    }
    let status = coordinator.wait_until_complete(&study.name);
    assert_eq!(status["trials"]["complete"], 8, "{status}");
    assert!(worker.is_running(), "the worker did not survive its coordinator");
    // The same process went on: nobody else ever joined.
    let workers = coordinator.ask(&["workers", "--format", "json"]).json();
    assert_eq!(workers["workers"].as_array().unwrap().len(), 1, "{workers}");
}

#[test]
fn a_worker_told_to_stop_gives_its_tasks_back_at_once() {
    let directory = tempfile::tempdir().unwrap();
    // A lease so long that only a goodbye can end it in time.
    let coordinator = Coordinator::start(directory.path(), 3600);
    let study = TinyStudy { trials: 3, epochs: 40, ..TinyStudy::new("goodbye") };
    coordinator.submit(&study);
    let leaving = coordinator.worker(&["--slots", "1"]);
    coordinator.wait_until(&study.name, "training", |s| s["trials"]["running"].as_u64() >= Some(1));
    leaving.interrupt();
    leaving.wait();
    let _other = coordinator.worker(&["--slots", "1"]);
    let status = coordinator.wait_until_complete(&study.name);
    assert_eq!(status["trials"]["complete"], 3, "{status}");
}

#[test]
fn pausing_holds_a_study_and_cancelling_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(directory.path(), 20);
    let study = TinyStudy { trials: 500, ..TinyStudy::new("held") };
    coordinator.submit(&study);
    let _worker = coordinator.worker(&["--slots", "2"]);
    coordinator
        .wait_until(&study.name, "one complete", |s| s["trials"]["complete"].as_u64() >= Some(1));
    coordinator.ask(&["pause", &study.name]).ok();
    // Running attempts go on; then nothing moves.
    let held = coordinator.wait_until(&study.name, "idle", |s| {
        s["trials"]["running"] == 0 && s["activity"].as_array().is_some_and(Vec::is_empty)
    });
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(coordinator.status(&study.name)["trials"], held["trials"]);
    coordinator.ask(&["resume", &study.name]).ok();
    let complete = held["trials"]["complete"].as_u64();
    coordinator
        .wait_until(&study.name, "going on", |s| s["trials"]["complete"].as_u64() > complete);
    coordinator.ask(&["cancel", &study.name]).ok();
    assert_eq!(coordinator.status(&study.name)["state"], "cancelled");
    coordinator.ask(&["resume", &study.name]).fails(1, &["cancelled"]);
}
