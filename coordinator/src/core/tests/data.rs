//! Studies whose data are in files: a worker reads them once before anything else.

use edgesmith_common::Fault;

use super::super::*;
use super::builders::*;

#[test]
fn no_other_task_starts_before_the_data_check_is_done() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").files().teacher().device("local"));
    assert_eq!(bench.status(&study).data, None);
    assert!(bench.status(&study).missing_trainer);
    let measurer = bench.join(WorkerBuilder::measurer("local"));
    bench.assert_no_work(measurer);
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    let check = bench.lease(worker);
    assert_eq!(check.work, Work::CheckData);
    assert_eq!(bench.status(&study).activity, ["data check"]);
    bench.assert_no_work(worker);
    bench.restart();
    let (worker, _) = bench.rejoin(WorkerBuilder::trainer().slots(2), vec![check.attempt]);
    bench.finish(worker, &check);
    bench.restart();
    assert_eq!(bench.status(&study).data, Some(REPORT));
    let worker = bench.join(WorkerBuilder::trainer());
    assert_eq!(bench.lease(worker).work, Work::TrainTeacher { weights: None });
}

#[test]
fn unreadable_data_fail_the_study_before_any_trial() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").files().attempts(2));
    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..2 {
        let lease = bench.lease(worker);
        assert_eq!(lease.work, Work::CheckData);
        bench.fail(worker, &lease, Fault::Attempt);
    }
    let reason = "the data could not be checked: it broke".to_owned();
    assert_eq!(bench.status(&study).state, StudyState::Failed { reason });
    assert_eq!(bench.trial_states(&study), []);
    bench.assert_no_work(worker);
    bench.restart();
}

#[test]
fn a_worker_with_the_data_takes_over_from_one_without() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").files().attempts(2));
    let (without, with) =
        (bench.join(WorkerBuilder::trainer()), bench.join(WorkerBuilder::trainer()));
    let lease = bench.lease(without);
    bench.fail(without, &lease, Fault::Attempt);
    // The worker that failed leaves the task to the other.
    bench.assert_no_work(without);
    let lease = bench.lease(with);
    bench.finish(with, &lease);
    assert_eq!(bench.status(&study).data, Some(REPORT));
}

#[test]
fn built_in_data_need_no_check_and_a_report_of_one_is_a_failed_attempt() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("digits").trials(1));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    assert!(matches!(lease.work, Work::TrainTrial { .. }));
    assert!(bench.report(worker, &lease, Outcome::DataChecked(REPORT)));
    assert_eq!(bench.trial(&name("digits"), 0).state, edgesmith_common::TrialState::Waiting);
}
