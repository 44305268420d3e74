//! Studies whose data are in files: a worker reads them once before anything else.

use edgesmith_common::{ArtifactHash, DataReport, Fault};

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

/// What a worker finds in other files of the same names.
fn other() -> DataReport {
    DataReport { hash: Some(ArtifactHash::of(b"other files")), ..REPORT }
}

#[test]
fn every_task_that_reads_the_data_says_which_ones_the_study_began_with() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").files().trials(3).device("local"));
    let worker = bench.join(WorkerBuilder::both());
    let check = bench.lease(worker);
    assert_eq!(check.data, None);
    bench.finish(worker, &check);
    bench.restart();
    let worker = bench.join(WorkerBuilder::both());
    let train = bench.lease(worker);
    assert_eq!(train.data, REPORT.hash);
    bench.finish(worker, &train);
    let measure = bench.lease(worker);
    assert!(matches!(measure.work, Work::MeasureModel { .. }) && measure.data.is_none());
    bench.finish(worker, &measure);
    // The worker's files have changed. It says so, and the trial waits for another worker.
    let lease = bench.lease(worker);
    bench.report_failure(worker, &lease, AttemptError::of_worker("the data differ"));
    let status = bench.status(&study);
    assert!(status.blocked && status.problems[0].ends_with("the data differ"), "{status:?}");
    let number = 1;
    assert_eq!(bench.trial(&study, number).state, edgesmith_common::TrialState::Waiting);
    let with = bench.join(WorkerBuilder::trainer());
    assert_eq!(bench.lease(with).data, REPORT.hash);
}

#[test]
fn data_may_be_replaced_until_something_is_trained_on_them() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").files().trials(2).attempts(1));
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    let check = bench.lease(worker);
    bench.finish(worker, &check);
    // Nothing is trained, so the mended files may be others.
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Data);
    let mend = |bench: &Bench| bench.status(&study).problems[0].clone();
    assert!(mend(&bench).contains("; mend them, then run `edgesmith retry s`; or correct"));
    bench.retry(&study, None).unwrap();
    let check = bench.lease(worker);
    assert_eq!((&check.work, check.data), (&Work::CheckData, None));
    assert!(bench.report(worker, &check, Outcome::DataChecked(other())));
    assert_eq!(bench.status(&study).data, Some(other()));
    let first = bench.lease(worker);
    assert_eq!(first.data, other().hash);
    bench.finish(worker, &first);
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Data);
    let said = "; it has results, so restore the very files that it began with, then run";
    assert!(mend(&bench).contains(said), "{}", mend(&bench));
    bench.retry(&study, None).unwrap();
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer());
    let check = bench.lease(worker);
    assert_eq!((&check.work, check.data), (&Work::CheckData, other().hash));
    assert!(bench.report(worker, &check, Outcome::DataChecked(REPORT)));
    let status = bench.status(&study);
    assert!(status.blocked && status.problems[0].contains("began with"), "{:?}", status.problems);
    let worker = bench.join(WorkerBuilder::trainer());
    let check = bench.lease(worker);
    assert!(bench.report(worker, &check, Outcome::DataChecked(other())));
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    assert_eq!(bench.status(&study).counts.complete, 2);
    bench.restart();
}

#[test]
fn data_may_not_be_replaced_while_a_trial_trains_on_them() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").files().trials(2));
    let worker = bench.join(WorkerBuilder::trainer().slots(3));
    let check = bench.lease(worker);
    bench.finish(worker, &check);
    let (running, lease) = (bench.lease(worker), bench.lease(worker));
    bench.fail(worker, &lease, Fault::Data);
    bench.retry(&study, None).unwrap();
    let check = bench.lease(worker);
    assert_eq!((&check.work, check.data), (&Work::CheckData, REPORT.hash));
    bench.finish(worker, &running);
}

#[test]
fn a_study_of_an_earlier_version_asks_once_for_the_hash_of_its_data() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").files().trials(9));
    let worker = bench.join(WorkerBuilder::trainer());
    let check = bench.lease(worker);
    let without = DataReport { hash: None, ..REPORT };
    assert!(bench.report(worker, &check, Outcome::DataChecked(without)));
    let lease = bench.lease(worker);
    assert_eq!(lease.data, None);
    bench.restart();
    // The trial goes on while the data are read. A worker of an earlier version knows no hash.
    let (worker, _) = bench.rejoin(WorkerBuilder::trainer(), vec![lease.attempt]);
    bench.finish(worker, &lease);
    let check = bench.lease(worker);
    assert_eq!((&check.work, check.data), (&Work::CheckData, None));
    assert!(bench.report(worker, &check, Outcome::DataChecked(without)));
    let lease = bench.lease(worker);
    assert!(matches!(lease.work, Work::TrainTrial { .. }));
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer());
    let check = bench.lease(worker);
    bench.finish(worker, &check);
    assert_eq!(bench.lease(worker).data, REPORT.hash);
    bench.restart();
    assert_eq!(bench.status(&study).data, Some(REPORT));
    let worker = bench.join(WorkerBuilder::trainer());
    assert!(matches!(bench.lease(worker).work, Work::TrainTrial { .. }));
}

#[test]
fn a_study_says_if_the_trials_that_it_started_from_were_trained_on_other_data() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("old").files().trials(2));
    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..3 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    for (name, report, differs) in [("same", REPORT, false), ("other", other(), true)] {
        let study = bench.submit(StudyBuilder::new(name).files().start_from("old"));
        assert_eq!(bench.status(&study).counts.imported, 2);
        let worker = bench.join(WorkerBuilder::trainer());
        let check = bench.lease(worker);
        assert_eq!((&check.study, &check.work), (&study, &Work::CheckData));
        assert!(bench.report(worker, &check, Outcome::DataChecked(report)));
        bench.restart();
        let status = bench.status(&study);
        let said = "the data of study old, whose trials it imported, were others";
        assert_eq!(status.problems.iter().any(|of| of.starts_with(said)), differs, "{status:?}");
        assert!(!status.blocked);
        bench.steer(&study, Action::Pause).unwrap();
    }
}
