//! Trying again what failed.

use edgesmith_common::{Fault, TrialNumber, TrialState};

use super::super::*;
use super::builders::*;

#[test]
fn failed_trials_are_tried_again_after_the_study_has_ended() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(3).attempts(1));
    let worker = bench.join(WorkerBuilder::trainer());
    for fault in [Some(Fault::Attempt), None, Some(Fault::Attempt)] {
        let lease = bench.lease(worker);
        match fault {
            Some(fault) => bench.fail(worker, &lease, fault),
            None => bench.finish(worker, &lease),
        }
    }
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
    let complete = bench.trial(&study, 1);
    let one = Some(TrialNumber(2));
    let retried = |trials| Ok(Answer::Retried { trials, data: false, teacher: false });
    assert_eq!(bench.retry(&study, one), retried(1));
    assert_eq!(bench.status(&study).state, StudyState::Running);
    assert_eq!(bench.trial(&study, 2).state, TrialState::Waiting);
    assert_eq!(bench.trial(&study, 0).state.name(), "failed");
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
    assert_eq!(bench.trial(&study, 2).attempts, 2);
    assert_eq!(bench.retry(&study, None), retried(1));
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    let status = bench.status(&study);
    assert_eq!((status.counts.complete, status.counts.failed), (3, 0));
    assert_eq!(bench.trial(&study, 1), complete);
    bench.restart();
}

#[test]
fn what_has_not_failed_cannot_be_retried() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1));
    assert_eq!(bench.retry(&study, None), Err(Refusal::NothingFailed(study.clone())));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    let state = "running";
    let number = TrialNumber(0);
    let running = Refusal::NotFailed { study: study.clone(), number, state };
    assert_eq!(bench.retry(&study, Some(number)), Err(running));
    let unknown = bench.retry(&study, Some(TrialNumber(9)));
    assert!(matches!(unknown, Err(Refusal::UnknownTrial { .. })));
    bench.finish(worker, &lease);
    let refused = bench.retry(&study, None).unwrap_err().to_string();
    assert!(refused.contains("edgesmith extend s --trials"), "{refused}");
    let study = bench.submit(StudyBuilder::new("cancelled"));
    bench.steer(&study, Action::Cancel).unwrap();
    let refused = bench.retry(&study, None).unwrap_err().to_string();
    assert!(refused.contains("start_from = [\"cancelled\"]"), "{refused}");
}

#[test]
fn a_study_that_ended_without_its_data_or_its_teacher_goes_on() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").files().teacher().trials(1).attempts(1));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Attempt);
    assert_eq!(bench.status(&study).state.name(), "failed");
    let retried = Answer::Retried { trials: 0, data: true, teacher: true };
    assert_eq!(bench.retry(&study, None), Ok(retried));
    let lease = bench.lease(worker);
    assert_eq!(lease.work, Work::CheckData);
    bench.finish(worker, &lease);
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Attempt);
    assert!(bench.status(&study).state.reason().contains("teacher"));
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer());
    let retried = Answer::Retried { trials: 0, data: false, teacher: true };
    assert_eq!(bench.retry(&study, None), Ok(retried));
    for _ in 0..2 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
}

#[test]
fn a_retried_trial_keeps_what_it_has() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").trials(1).attempts(1).device("local").device("board");
    let study = bench.submit(builder);
    let worker = bench.join(WorkerBuilder::both());
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    let board = bench.join(WorkerBuilder::measurer("board"));
    let lease = bench.lease(board);
    bench.fail(board, &lease, Fault::Attempt);
    assert_eq!(bench.status(&study).state.name(), "failed");
    bench.retry(&study, None).unwrap();
    bench.restart();
    // Only the missing measurement is repeated.
    let worker = bench.join(WorkerBuilder::both());
    bench.assert_no_work(worker);
    let board = bench.join(WorkerBuilder::measurer("board"));
    let lease = bench.lease(board);
    assert!(matches!(lease.work, Work::MeasureModel { .. }));
    bench.finish(board, &lease);
    assert_eq!(bench.trial(&study, 0).measurements().len(), 2);
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
}

#[test]
fn a_retried_trial_goes_on_from_its_last_rung_and_is_screened_again_if_it_has_no_score() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("r").trials(1).attempts(1).fidelity("asha"));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Attempt);
    bench.retry(&study, None).unwrap();
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    let Work::TrainTrial { checkpoint: Some(_), rung, .. } = lease.work else {
        panic!("{lease:?}")
    };
    assert_eq!(rung, Some(3));
    bench.steer(&study, Action::Delete).unwrap();

    // The last batch may be smaller than two.
    let builder = StudyBuilder::new("z").trials(1).attempts(1).screening("batch = 2\nkeep = 0.5");
    let study = bench.submit(builder);
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Attempt);
    bench.retry(&study, None).unwrap();
    let lease = bench.lease(worker);
    assert!(matches!(lease.work, Work::ScoreTrial { .. }));
    bench.finish(worker, &lease);
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Attempt);
    bench.retry(&study, None).unwrap();
    let lease = bench.lease(worker);
    assert!(matches!(lease.work, Work::TrainTrial { .. }));
}

#[test]
fn algorithms_learn_from_retried_trials() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(4).attempts(1).evolution());
    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..2 {
        let lease = bench.lease(worker);
        bench.fail(worker, &lease, Fault::Attempt);
    }
    bench.retry(&study, None).unwrap();
    for _ in 0..2 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    // The population of two is full, so the next candidate is a mutation.
    let lease = bench.lease(worker);
    assert!(matches!(lease.work, Work::TrainTrial { number: TrialNumber(2), .. }));
    assert_eq!(bench.trial(&study, 2).parents.len(), 1);
}

#[test]
fn a_retry_asks_excluded_workers_again() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Worker);
    bench.assert_no_work(worker);
    bench.retry(&study, None).unwrap();
    bench.lease(worker);
}
