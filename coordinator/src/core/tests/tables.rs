//! Studies whose trials are looked up.

use edgesmith_common::{Figures, TrialState};

use super::super::*;
use super::builders::*;

#[test]
fn look_ups_go_to_workers_that_read_tables_and_complete_their_trials_at_once() {
    let mut bench = Bench::new();
    let study = bench.submit_table("nb", "trials = 3");
    let trainer = bench.join(WorkerBuilder::both());
    bench.assert_no_work(trainer);
    let status = bench.status(&study);
    assert!(status.missing_table && !status.missing_trainer, "{status:?}");
    assert!(status.missing_devices.is_empty(), "nobody has to measure what a table tells");
    let reader = bench.join(WorkerBuilder::reader());
    for number in 0..3 {
        let lease = bench.lease(reader);
        assert!(matches!(lease.work, Work::LookUpTrial { .. }), "{lease:?}");
        bench.finish(reader, &lease);
        let trial = bench.trial(&study, number);
        assert_eq!((&trial.state, trial.attempts), (&TrialState::Complete, 1));
        assert!((trial.values.unwrap().seconds() - 100.0).abs() < 1e-12);
    }
    let status = bench.status(&study);
    assert_eq!((status.state, status.front_size), (StudyState::Complete { reason: None }, 3));
    assert!(!status.missing_table);
    bench.restart();
    bench.assert_silent();
}

#[test]
fn a_table_reader_trains_nothing() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("s"));
    let reader = bench.join(WorkerBuilder::reader());
    bench.assert_no_work(reader);
}

#[test]
fn simulated_seconds_end_a_study_after_the_look_up_that_used_them_up() {
    let mut bench = Bench::new();
    let study = bench.submit_table("nb", "simulated_seconds = 250");
    let reader = bench.join(WorkerBuilder::reader());
    for _ in 0..3 {
        let lease = bench.lease(reader);
        bench.finish(reader, &lease);
    }
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!(status.counts.complete, 3);
    bench.restart();
}

#[test]
fn figures_that_say_nonsense_or_lack_an_objective_are_failed_attempts() {
    let mut bench = Bench::new();
    let study = bench.submit_table("nb", "trials = 1, max_attempts = 9");
    let reader = bench.join(WorkerBuilder::reader());
    let good = figures(edgesmith_common::TrialNumber(0));
    let wrong = [
        Figures { validation_accuracy: 98.0, ..good.clone() },
        Figures { test_accuracies: vec![("t".to_owned(), f64::NAN)], ..good.clone() },
        Figures { latencies: vec![], ..good.clone() },
        Figures { latencies: vec![("pixel3".parse().unwrap(), -1.0)], ..good.clone() },
        Figures { seconds: f64::INFINITY, ..good },
    ];
    for figures in wrong {
        let lease = bench.lease(reader);
        bench.report(reader, &lease, Outcome::LookedUp(figures));
        assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
    }
}
