//! Killing workers and the coordinator loses no trial and no acknowledged result.

use std::time::{Duration, Instant};

use edgesmith_tests::{Coordinator, PATIENCE, Process, TinyStudy, command, complete};

#[test]
fn killing_a_worker_during_a_trial_loses_no_trial() {
    let directory = tempfile::tempdir().unwrap();
    // A short lease, so that the killed worker's task is free again soon.
    let coordinator = Coordinator::start(directory.path(), 2);
    let study = TinyStudy { trials: 6, epochs: 60, ..TinyStudy::new("killed-worker") };
    coordinator.submit(&study);
    let victim = coordinator.worker(&["--slots", "1", "--name", "victim"]);
    // Kills the worker during training, when no other worker could finish the trial.
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
    // Training and measuring are one attempt each; the lost attempt is an extra one.
    let tasks = 2 * complete(&trials).len() as u64;
    assert!(attempts > tasks, "no attempt was lost: {attempts} for {tasks} tasks");
}

#[test]
fn a_killed_coordinator_keeps_acknowledged_results_and_its_workers_rejoin() {
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
            assert!(after.contains(trial), "{trial:?} is gone or has changed");
        }
    }
    let status = coordinator.wait_until_complete(&study.name);
    assert_eq!(status["trials"]["complete"], 8, "{status}");
    assert!(worker.is_running(), "the worker did not survive its coordinator");
    // The same process continued: no other worker ever joined.
    let workers = coordinator.ask(&["workers", "--format", "json"]).json();
    assert_eq!(workers["workers"].as_array().unwrap().len(), 1, "{workers}");
}

#[test]
fn an_interrupted_worker_returns_its_tasks_at_once() {
    let directory = tempfile::tempdir().unwrap();
    // A lease so long that only a proper leave can end it in time.
    let coordinator = Coordinator::start(directory.path(), 3600);
    let study = TinyStudy { trials: 3, epochs: 40, ..TinyStudy::new("goodbye") };
    coordinator.submit(&study);
    let log = directory.path().join("log");
    let worker = ["worker", "--coordinator", &coordinator.url, "--slots", "1", "--name", "w"];
    let leaving = Process::start_with_log(command(directory.path(), &worker), &log);
    coordinator.wait_until(&study.name, "training", |s| s["trials"]["running"].as_u64() >= Some(1));
    leaving.interrupt();
    leaving.wait();
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("worker w has stopped; its unfinished tasks go to others"), "{said}");
    let _other = coordinator.worker(&["--slots", "1"]);
    let status = coordinator.wait_until_complete(&study.name);
    assert_eq!(status["trials"]["complete"], 3, "{status}");
}

#[test]
fn an_interrupted_coordinator_says_that_it_has_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let args = ["coordinator", "--listen", "127.0.0.1:0"];
    let stopping = Process::start_with_log(command(directory.path(), &args), &log);
    let start = Instant::now();
    while !directory.path().join("edgesmith-data/address").exists() {
        assert!(start.elapsed() < PATIENCE, "it does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    stopping.interrupt();
    assert_eq!(stopping.wait(), Some(0));
    let said = std::fs::read_to_string(&log).unwrap();
    let text = "the coordinator has stopped; its studies are kept in edgesmith-data";
    assert!(said.contains(text), "{said}");
}

#[test]
fn a_paused_study_waits_and_a_cancelled_study_ends() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(directory.path(), 20);
    let study = TinyStudy { trials: 500, ..TinyStudy::new("held") };
    coordinator.submit(&study);
    let _worker = coordinator.worker(&["--slots", "2"]);
    coordinator
        .wait_until(&study.name, "one complete", |s| s["trials"]["complete"].as_u64() >= Some(1));
    coordinator.ask(&["pause", &study.name]).ok();
    // Running attempts finish; then nothing changes.
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
