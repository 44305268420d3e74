//! Faults of workers and of data: they end no study and no trial.

use edgesmith_common::{DataReport, Fault, TrialState};

use super::super::*;
use super::builders::*;

/// The reasons that [`Bench::fail`] gives.
const WHY: &str = "it broke";

#[test]
fn a_worker_without_the_data_is_asked_once_and_the_study_waits_for_another() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").files().trials(1).attempts(1));
    let without = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(without);
    bench.fail(without, &lease, Fault::Worker);
    bench.assert_no_work(without);
    let status = bench.status(&study);
    assert_eq!((status.state, status.blocked), (StudyState::Running, true));
    assert!(status.missing_trainer);
    let said = format!("worker {without} (machine) cannot read the data of this study: {WHY}");
    assert_eq!(status.problems[0], said);
    assert!(status.problems[1].contains("no connected worker can read its data"));
    let worker = bench.core.workers(bench.now).remove(0);
    assert_eq!(worker.exclusions, status.exclusions);
    assert_eq!((worker.exclusions[0].study.as_str(), &*worker.exclusions[0].reason), ("s", WHY));
    let ending = AttemptEnding::FaultOfWorker { reason: WHY.to_owned() };
    assert!(
        bench
            .records
            .iter()
            .any(|record| matches!(record, Record::AttemptEnded { ending: e, .. } if *e == ending))
    );
    // The repeated report gets the same answer.
    let error = AttemptError::of_worker(WHY);
    assert!(bench.report_failure(without, &lease, error));

    let with = bench.join(WorkerBuilder::trainer());
    let status = bench.status(&study);
    assert_eq!((status.blocked, status.missing_trainer, status.problems.len()), (false, false, 1));
    for _ in 0..2 {
        let lease = bench.lease(with);
        bench.finish(with, &lease);
    }
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
    assert_eq!(bench.status(&study).problems, Vec::<String>::new());
    bench.restart();
}

#[test]
fn a_fault_of_a_worker_counts_neither_against_the_trial_nor_against_other_tasks() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).attempts(1).device("local"));
    let other = bench.submit(StudyBuilder::new("other").trials(1));
    let broken = bench.join(WorkerBuilder::both());
    let lease = bench.lease(broken);
    assert_eq!(lease.study, study);
    bench.fail(broken, &lease, Fault::Worker);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
    // It is excluded from training for this study only.
    assert_eq!(bench.lease(broken).study, other);
    let good = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(good);
    assert_eq!(lease.study, study);
    bench.finish(good, &lease);
    // It still measures for the study, until it says that it cannot.
    let measuring = bench.join(WorkerBuilder::measurer("local"));
    let lease = bench.lease(measuring);
    bench.fail(measuring, &lease, Fault::Worker);
    let status = bench.status(&study);
    assert_eq!(status.exclusions[1].what(), "measure on local");
    assert!(!status.blocked, "the first worker can measure");
    bench.steer(&other, Action::Delete).unwrap();
    let lease = bench.lease(broken);
    assert!(matches!(lease.work, Work::MeasureModel { .. }));
    bench.fail(broken, &lease, Fault::Worker);
    let status = bench.status(&study);
    assert_eq!(status.missing_targets, [target("local")]);
    assert!(status.blocked && status.problems.last().unwrap().contains("measures on local"));
    // After it has joined again, it is asked again.
    assert_eq!(bench.ask(|to| Event::Leave { to, worker: broken }), Ok(Answer::Left));
    let again = bench.join(WorkerBuilder::both());
    let lease = bench.lease(again);
    bench.finish(again, &lease);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Complete);
}

#[test]
fn deleting_a_study_forgets_who_was_excluded_from_it() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s"));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Worker);
    bench.steer(&study, Action::Delete).unwrap();
    bench.submit(StudyBuilder::new("s"));
    bench.lease(worker);
}

#[test]
fn damaged_data_are_read_once_and_wait_for_the_user() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").files().trials(1).attempts(3);
    let study = bench.submit(builder.clone());
    let worker = bench.join(WorkerBuilder::trainer());
    let other = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Data);
    bench.assert_no_work(worker);
    bench.assert_no_work(other);
    bench.restart();
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Running);
    // Other workers may have good files, so the message names the one that found it.
    let why = format!("{WHY} (found by worker machine)");
    assert_eq!(status.data_problem, Some(why));
    assert!(status.blocked && !status.missing_trainer);
    let said = "its data are damaged or do not fit it: it broke (found by worker machine); mend \
                them, then run `edgesmith retry s`; or correct the study file, and submit it again";
    assert_eq!(status.problems, [said]);
    let worker = bench.join(WorkerBuilder::trainer());
    bench.assert_no_work(worker);

    let retried = Answer::Retried { trials: 0, data: true, teacher: false, measured: 0 };
    assert_eq!(bench.retry(&study, None), Ok(retried));
    let lease = bench.lease(worker);
    assert_eq!(lease.work, Work::CheckData);
    bench.fail(worker, &lease, Fault::Data);
    // Submitting the same study again retries too.
    let again = bench.ask(|to| submission(to, builder.build(), None));
    assert!(matches!(again, Ok(Answer::Submitted { created: false, reread: true, .. })));
    for _ in 0..2 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
    assert_eq!(bench.status(&study).data, Some(REPORT));
    bench.restart();
}

#[test]
fn data_that_are_damaged_while_trials_run_stop_new_work_but_not_running_work() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").files().trials(3).attempts(1));
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    let check = bench.lease(worker);
    bench.finish(worker, &check);
    let (bad, good) = (bench.lease(worker), bench.lease(worker));
    bench.fail(worker, &bad, Fault::Data);
    bench.assert_no_work(worker);
    assert!(!bench.status(&study).blocked, "a trial still runs");
    bench.finish(worker, &good);
    assert!(bench.status(&study).blocked);
    let states = bench.trial_states(&study);
    assert_eq!(states, [TrialState::Waiting, TrialState::Complete]);
    bench.retry(&study, None).unwrap();
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..3 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    assert_eq!(bench.status(&study).counts.complete, 3);
}

#[test]
fn damaged_tables_are_read_again_without_a_check() {
    let mut bench = Bench::new();
    let study = bench.submit_table("t", "trials = 1, max_attempts = 1");
    let worker = bench.join(WorkerBuilder::reader());
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Data);
    bench.assert_no_work(worker);
    assert!(!bench.status(&study).missing_table);
    bench.retry(&study, None).unwrap();
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
}

#[test]
fn data_without_training_or_validation_images_are_damaged() {
    for empty in [DataReport { train: 0, ..REPORT }, DataReport { validation: 0, ..REPORT }] {
        let mut bench = Bench::new();
        let study = bench.submit(StudyBuilder::new("s").files());
        let worker = bench.join(WorkerBuilder::trainer());
        let lease = bench.lease(worker);
        assert!(bench.report(worker, &lease, Outcome::DataChecked(empty)));
        let problem = bench.status(&study).data_problem.unwrap();
        assert!(problem.starts_with("a worker found no "), "{problem}");
    }
}

#[test]
fn a_worker_that_fails_all_its_tasks_is_not_asked_while_another_does_them() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(20).attempts(3));
    let (bad, good) = (bench.join(WorkerBuilder::trainer()), bench.join(WorkerBuilder::trainer()));
    for round in 0..3 {
        let lease = bench.lease(bad);
        bench.fail(bad, &lease, Fault::Attempt);
        if round < 2 {
            // The other takes over what failed.
            let lease = bench.lease(good);
            bench.finish(good, &lease);
        }
    }
    bench.assert_no_work(bad);
    let status = bench.status(&study);
    let said = format!(
        "worker {bad} (machine) cannot do the trainings of this study: 3 of them failed in a \
         row, while another worker did such tasks; the last failure: it broke"
    );
    assert_eq!((status.problems, status.blocked), (vec![said], false));
    // The last failure does not count against its trial.
    let failed = |record: &&Record| {
        matches!(record, Record::AttemptEnded { ending: AttemptEnding::Failed { .. }, .. })
    };
    assert_eq!(bench.records.iter().filter(failed).count(), 2);
    bench.retry(&study, None).unwrap();
    let lease = bench.lease(bad);
    bench.finish(bad, &lease);
}

#[test]
fn a_worker_that_failed_its_tasks_is_asked_again_when_no_other_is_left() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(20).attempts(3));
    let (bad, good) = (bench.join(WorkerBuilder::trainer()), bench.join(WorkerBuilder::trainer()));
    for _ in 0..3 {
        let lease = bench.lease(bad);
        bench.fail(bad, &lease, Fault::Attempt);
        let lease = bench.lease(good);
        bench.finish(good, &lease);
    }
    let waits = bench.wait(bad);
    assert_eq!(bench.take(waits), None);
    assert_eq!(bench.status(&study).exclusions.len(), 1);
    bench.ask(|to| Event::Leave { to, worker: good }).unwrap();
    let lease = bench.leased(waits);
    let status = bench.status(&study);
    let none = (Vec::<String>::new(), false, false);
    assert_eq!((status.problems, status.blocked, status.missing_trainer), none);
    // Its failures count against the trials now.
    bench.fail(bad, &lease, Fault::Attempt);
    // A worker without the data is no better.
    let without = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(without);
    bench.fail(without, &lease, Fault::Worker);
    let lease = bench.lease(bad);
    bench.fail(bad, &lease, Fault::Attempt);
    assert!(!bench.status(&study).blocked);
    // While a good one is there, the exclusion holds again, until a task succeeds.
    let good = bench.join(WorkerBuilder::trainer());
    bench.assert_no_work(bad);
    assert_eq!(bench.status(&study).exclusions.len(), 2);
    bench.ask(|to| Event::Leave { to, worker: good }).unwrap();
    let lease = bench.lease(bad);
    bench.finish(bad, &lease);
    bench.join(WorkerBuilder::trainer());
    assert_eq!(bench.status(&study).exclusions.len(), 1);
    bench.lease(bad);
}

#[test]
fn a_worker_that_fails_tasks_goes_on_while_no_other_does_them() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(20).attempts(1));
    let (one, two) = (bench.join(WorkerBuilder::trainer()), bench.join(WorkerBuilder::trainer()));
    // The other worker succeeded before, and perhaps what it needs is gone now.
    let lease = bench.lease(two);
    bench.finish(two, &lease);
    for _ in 0..5 {
        let lease = bench.lease(one);
        bench.fail(one, &lease, Fault::Attempt);
    }
    assert_eq!(bench.status(&study).problems, Vec::<String>::new());
    // One success in between ends the row.
    let lease = bench.lease(two);
    bench.finish(two, &lease);
    for worked in [true, false, false, true] {
        let lease = bench.lease(one);
        if worked {
            bench.finish(one, &lease);
        } else {
            bench.fail(one, &lease, Fault::Attempt);
        }
    }
    assert_eq!(bench.status(&study).problems, Vec::<String>::new());
}

#[test]
fn exclusions_from_a_study_are_gone_when_it_has_ended() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1));
    let (bad, good) = (bench.join(WorkerBuilder::trainer()), bench.join(WorkerBuilder::trainer()));
    let lease = bench.lease(bad);
    bench.fail(bad, &lease, Fault::Worker);
    assert_eq!(bench.core.workers(bench.now)[0].exclusions.len(), 1);
    let lease = bench.lease(good);
    bench.finish(good, &lease);
    assert!(bench.status(&study).state.is_ended());
    assert_eq!(bench.core.workers(bench.now)[0].exclusions, []);
}

#[test]
fn a_trial_that_needs_more_memory_is_left_to_others_and_infeasible_without_them() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(2).attempts(1));
    let small = bench.join(WorkerBuilder::trainer());
    let large = bench.join(WorkerBuilder::trainer());
    let first = bench.lease(small);
    bench.fail(small, &first, Fault::Memory);
    // It counts neither against the trial nor against the worker, which gets the next one.
    assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
    assert_eq!(bench.status(&study).exclusions.len(), 0);
    let second = bench.lease(small);
    assert_eq!(bench.trial(&study, 1).state, TrialState::Running);
    let again = bench.lease(large);
    assert_eq!(again.task, first.task);
    bench.finish(large, &again);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Complete);
    // No worker has the memory for the other one.
    bench.fail(small, &second, Fault::Memory);
    let again = bench.lease(large);
    assert_eq!(again.task, second.task);
    bench.fail(large, &again, Fault::Memory);
    let infeasible = TrialState::Infeasible { reason: WHY.to_owned() };
    assert_eq!(bench.trial(&study, 1).state, infeasible);
    // Another one takes its place, and a worker that is alone decides at once.
    let third = bench.lease(large);
    bench.ask(|to| Event::Leave { to, worker: large }).unwrap();
    let third_again = bench.lease(small);
    assert_eq!(third.task, third_again.task);
    bench.fail(small, &third_again, Fault::Memory);
    assert_eq!(bench.trial(&study, 2).state, infeasible);
    bench.restart();
}

#[test]
fn a_worker_that_failed_for_another_reason_may_still_have_the_memory() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).attempts(3));
    let large = bench.join(WorkerBuilder::trainer());
    let small = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(large);
    bench.fail(large, &lease, Fault::Attempt);
    let again = bench.lease(small);
    assert_eq!(again.task, lease.task);
    bench.fail(small, &again, Fault::Memory);
    let ending = AttemptEnding::TooLarge { reason: WHY.to_owned() };
    let says = |record: &Record| matches!(record, Record::AttemptEnded { ending: of, .. } if *of == ending);
    assert!(bench.records.iter().any(says), "the log tells it from a worker that is excluded");
    // Both have failed it now, but more memory than the small one's is still there.
    assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
    let waits = bench.wait(small);
    assert_eq!(bench.take(waits), None);
    let last = bench.lease(large);
    assert_eq!(last.task, lease.task);
    bench.finish(large, &last);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Complete);
}

#[test]
fn a_teacher_for_which_nobody_has_the_memory_fails_its_study_with_the_figure() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(2).teacher());
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Memory);
    let reason = format!("the teacher could not be trained: {WHY}");
    assert_eq!(bench.status(&study).state, StudyState::Failed { reason });
}
