//! What users are shown.

use edgesmith_common::{Fault, Filter, TrialNumber, TrialState, pareto};

use super::super::*;
use super::builders::*;

#[test]
fn missing_workers_are_reported() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).device("board").device("pi"));
    let status = bench.status(&study);
    assert!(status.missing_trainer);
    assert_eq!(status.missing_targets, vec![target("board"), target("pi")]);
    let trainer = bench.join(WorkerBuilder::trainer());
    bench.join(WorkerBuilder::measurer("pi"));
    let status = bench.status(&study);
    assert!(!status.missing_trainer);
    assert_eq!(status.missing_targets, vec![target("board")]);

    // A worker that trains on that class does not measure on it.
    let mut board_trainer = WorkerBuilder::trainer().build();
    board_trainer.class = class("board");
    bench.ask(|to| Event::Join { to, worker: board_trainer, held: vec![] }).unwrap();
    assert_eq!(bench.status(&study).missing_targets, vec![target("board")]);

    let lease = bench.lease(trainer);
    bench.finish(trainer, &lease);
    bench.tick(LEASE);
    let status = bench.status(&study);
    // No worker is left, but nothing waits for training either.
    assert!(!status.missing_trainer);
    assert_eq!(status.missing_targets, vec![target("board"), target("pi")]);
    let board = bench.join(WorkerBuilder::measurer("board"));
    let lease = bench.lease(board);
    bench.finish(board, &lease);
    bench.tick(LEASE);
    assert_eq!(bench.status(&study).missing_targets, vec![target("pi")]);
    bench.steer(&study, Action::Cancel).unwrap();
    assert_eq!(bench.status(&study).missing_targets, vec![]);
}

#[test]
fn activity_is_shown_in_words() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(3).teacher().device("board"));
    let worker = bench.join(WorkerBuilder::trainer());
    let board = bench.join(WorkerBuilder::measurer("board"));
    let teacher = bench.lease(worker);
    assert_eq!(bench.status(&study).activity, ["teacher"]);
    bench.heartbeat(worker, &[teacher.attempt]);
    assert_eq!(bench.status(&study).activity, ["teacher (epoch 1/2)"]);
    bench.finish(worker, &teacher);
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    bench.lease(worker);
    let timing = bench.lease(board);
    assert_eq!(bench.status(&study).activity, ["trial 1", "teacher measure@board"]);
    bench.finish(board, &timing);
    bench.lease(board);
    assert_eq!(bench.status(&study).activity, ["trial 1", "trial 0 measure@board"]);
    let before = bench.core.version();
    bench.now = bench.now.after(Duration::from_secs(2));
    assert_eq!(bench.core.version(), before);
    let workers = bench.core.workers(bench.now);
    assert_eq!((workers[0].id, workers[1].id), (worker, board));
    assert_eq!(workers[0].silent, Duration::from_secs(2));
    assert_eq!(workers[1].activity, ["trial 0 measure@board"]);
    bench.heartbeat(worker, &[]);
    assert_eq!(bench.core.version(), before);
}

#[test]
fn the_front_holds_the_trials_that_no_other_dominates() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").trials(4).device("local").device("board");
    let study = bench.submit(builder.constraint("model_bytes", "max = 5000"));
    let trainer = bench.join(WorkerBuilder::trainer());
    let local = bench.join(WorkerBuilder::measurer("local"));
    let board = bench.join(WorkerBuilder::measurer("board"));
    assert_eq!(bench.status(&study).hypervolume, None);
    // Accuracy, milliseconds on both devices, bytes.
    let values = [
        (0.8, 1.0, 4.0, 1000),
        (0.9, 2.0, 3.0, 1000),
        (0.7, 3.0, 3.5, 1000),
        (0.99, 0.5, 0.5, 6000),
    ];
    let mut volume = 0.0;
    for (accuracy, ms, board_ms, bytes) in values {
        let lease = bench.lease(trainer);
        let mut result = trained(lease.attempt, accuracy);
        result.compressed.set(Metric::MODEL_BYTES.whole(), f64::from(bytes));
        assert!(bench.report(trainer, &lease, Outcome::TrialTrained(result)));
        for (worker, on, ms) in [(local, "local", ms), (board, "board", board_ms)] {
            let lease = bench.lease(worker);
            assert!(bench.report(worker, &lease, Outcome::Measured(measurement(&class(on), ms))));
        }
        let now = bench.status(&study).hypervolume.unwrap();
        assert!(now >= volume, "{now} after {volume}");
        volume = now;
    }
    let front = |device: Option<&str>, filters: &[&str]| {
        let device = device.map(class);
        let filters: Vec<Filter> = filters.iter().map(|f| f.parse().unwrap()).collect();
        let front = bench.core.front(&study, device.as_ref(), &filters).unwrap();
        front.into_iter().map(|trial| trial.number.0).collect::<Vec<_>>()
    };
    // Trial 3 breaks the constraint; 2 is worse than 1 on everything.
    assert_eq!(front(None, &[]), [1, 0]);
    assert_eq!(front(Some("local"), &[]), [1, 0]);
    assert_eq!(front(Some("board"), &[]), [1]);
    assert_eq!(front(None, &["latency_ms@local<=1.5"]), [0]);
    assert_eq!(front(None, &["validation_accuracy<0.75", "model_bytes<=1000"]), [2]);
    assert_eq!(front(None, &["latency_ms@pi<=9"]), [0; 0]);
    let refused = bench.core.front(&study, Some(&class("pi")), &[]);
    let device = class("pi");
    assert_eq!(refused, Err(Refusal::NoObjectives { study: study.clone(), device }));
    let status = bench.status(&study);
    assert_eq!((status.front_size, status.best_validation_accuracy), (2, Some(0.99)));
    let objectives = StudyBuilder::new("s").device("local").device("board").build().objectives;
    let points = [vec![-0.8, 1.0, 4.0], vec![-0.9, 2.0, 3.0]];
    assert_eq!(status.hypervolume, Some(pareto::study_hypervolume(&objectives, &points)));
}

#[test]
fn unknown_trials_and_studies_are_named_in_the_refusal() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s"));
    let (number, trials) = (TrialNumber(3), 0);
    let unknown = bench.core.trial(&study, number).unwrap_err();
    assert_eq!(unknown, Refusal::UnknownTrial { study, number, trials });
    let unknown = bench.core.trials(&name("t")).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no study t; the studies are: s");
}

#[test]
fn constraints_say_what_they_excluded_and_how_near_the_nearest_came() {
    let mut bench = Bench::new();
    let study =
        bench.submit(StudyBuilder::new("s").trials(2).constraint("model_bytes", "max = 5000"));
    let trainer = bench.join(WorkerBuilder::trainer());
    let mut finish = |bytes: f64| {
        let lease = bench.lease(trainer);
        let mut result = trained(lease.attempt, 0.5);
        result.compressed.set(Metric::MODEL_BYTES.whole(), bytes);
        assert!(bench.report(trainer, &lease, Outcome::TrialTrained(result)));
        let view = bench.status(&study).constraints[0].clone();
        (view.met, view.measured, view.nearest.map(|(value, number)| (value, number.0)))
    };
    assert_eq!(finish(9000.0), (0, 1, Some((9000.0, 0))));
    assert_eq!(finish(5312.0), (0, 2, Some((5312.0, 1))));

    // One that holds has no nearest.
    let study =
        bench.submit(StudyBuilder::new("t").trials(1).constraint("model_bytes", "max = 5000"));
    let lease = bench.lease(trainer);
    let mut result = trained(lease.attempt, 0.5);
    result.compressed.set(Metric::MODEL_BYTES.whole(), 5000.0);
    assert!(bench.report(trainer, &lease, Outcome::TrialTrained(result)));
    let view = bench.status(&study).constraints[0].clone();
    assert_eq!((view.met, view.measured, view.nearest), (1, 1, None));
}

#[test]
fn constraints_count_candidates_that_arithmetic_ruled_out() {
    let mut bench = Bench::new();
    let study =
        bench.submit(StudyBuilder::new("s").trials(1).constraint("parameters", "max = 386"));
    let trainer = bench.join(WorkerBuilder::trainer());
    // Only the smallest network is within the limit.
    bench.wait(trainer);
    let status = bench.status(&study);
    let view = &status.constraints[0];
    assert!(status.counts.infeasible > 0);
    assert_eq!((view.excluded, view.met, view.measured), (status.counts.infeasible, 0, 0));
    let trials = bench.core.trials(&study).unwrap();
    let (nearest, number) = view.nearest.unwrap();
    let TrialState::Infeasible { reason } = &trials[number.0 as usize].state else { panic!() };
    assert_eq!(*reason, format!("parameters is {nearest}, which breaks parameters <= 386"));
}

#[test]
fn silent_workers_are_counted() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s"));
    let first = bench.join(WorkerBuilder::trainer());
    bench.join(WorkerBuilder::trainer());
    let workers = |bench: &Bench| {
        let status = bench.status(&study);
        (status.connected_workers, status.silent_workers)
    };
    assert_eq!(workers(&bench), (2, 0));
    bench.now = bench.now.after(LEASE / 2);
    bench.heartbeat(first, &[]);
    assert_eq!(workers(&bench), (2, 1));
    bench.tick(LEASE);
    assert_eq!(workers(&bench), (0, 0));
}

#[test]
fn attempts_of_the_training_are_counted_apart_from_timing() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).device("board"));
    let trainer = bench.join(WorkerBuilder::trainer());
    let board = bench.join(WorkerBuilder::measurer("board"));
    let lease = bench.lease(trainer);
    bench.fail(trainer, &lease, Fault::Attempt);
    let lease = bench.lease(trainer);
    bench.finish(trainer, &lease);
    let lease = bench.lease(board);
    bench.finish(board, &lease);
    let counts = |bench: &Bench| {
        let trial = bench.trial(&study, 0);
        (trial.attempts, trial.training_attempts)
    };
    assert_eq!(counts(&bench), (3, 2));
    bench.restart();
    assert_eq!(counts(&bench), (3, 2));
}

#[test]
fn device_classes_of_machines_that_differ_are_reported() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").trials(4).device("board").device("pi");
    let study = bench.submit(builder);
    let trainer = bench.join(WorkerBuilder::trainer());
    let board = bench.join(WorkerBuilder::measurer("board"));
    let pi = bench.join(WorkerBuilder::measurer("pi"));
    // The name of a machine does not matter, and another class may be another machine.
    let machines = [("a", "fast", 4), ("b", "fast", 4), ("c", "slow", 4), ("d", "fast", 2)];
    for (done, (name, cpu, cores)) in machines.into_iter().enumerate() {
        let lease = bench.lease(trainer);
        bench.finish(trainer, &lease);
        let lease = bench.lease(pi);
        bench.finish(pi, &lease);
        let mut measured = measurement(&class("board"), 1.0);
        let device = &mut measured.device;
        (device.name, device.cpu, device.cores) = (name.to_owned(), cpu.to_owned(), cores);
        let lease = bench.lease(board);
        assert!(bench.report(board, &lease, Outcome::Measured(measured)));
        let unlike = bench.status(&study).unlike_machines;
        assert_eq!(unlike, bench.core.unlike_machines());
        assert_eq!(unlike.is_empty(), done < 2, "{unlike:?}");
    }
    let unlike = bench.status(&study).unlike_machines;
    assert_eq!((unlike.len(), &unlike[0].class), (1, &class("board")));
    let names: Vec<&str> = unlike[0].machines.iter().map(|machine| &*machine.name).collect();
    assert_eq!(names, ["a", "c", "d"]);
    // The study keeps saying so when the workers have gone.
    bench.tick(LEASE);
    assert_eq!(bench.core.unlike_machines(), []);
    assert_eq!(bench.status(&study).unlike_machines, unlike);
}
