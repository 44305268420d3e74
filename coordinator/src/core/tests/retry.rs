//! Trying again what failed.

use edgesmith_common::{DIVERGED, Fault, StudyName, TrialNumber, TrialState, WorkerId};

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
    let retried = |trials| Ok(Answer::Retried { trials, data: false, teacher: false, measured: 0 });
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
    let nothing = Refusal::NothingFailed { study: study.clone(), advice: Vec::new() };
    assert_eq!(bench.retry(&study, None), Err(nothing));
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
    let retried = Answer::Retried { trials: 0, data: true, teacher: true, measured: 0 };
    assert_eq!(bench.retry(&study, None), Ok(retried));
    let lease = bench.lease(worker);
    assert_eq!(lease.work, Work::CheckData);
    bench.finish(worker, &lease);
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Attempt);
    assert!(bench.status(&study).state.reason().contains("teacher"));
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer());
    let retried = Answer::Retried { trials: 0, data: false, teacher: true, measured: 0 };
    assert_eq!(bench.retry(&study, None), Ok(retried));
    for _ in 0..2 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
}

#[test]
fn a_study_whose_soft_targets_are_lost_waits_until_its_teacher_is_trained_again() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").teacher().trials(2).device("local"));
    let worker = bench.join(WorkerBuilder::both());
    let lease = bench.lease(worker);
    assert!(matches!(lease.work, Work::TrainTeacher { .. }));
    bench.finish(worker, &lease);
    let mut lease = bench.lease(worker);
    if matches!(lease.work, Work::MeasureModel { .. }) {
        bench.finish(worker, &lease);
        lease = bench.lease(worker);
    }
    assert!(matches!(lease.work, Work::TrainTrial { .. }));
    bench.fail(worker, &lease, Fault::Data);
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Running);
    assert!(status.data_problem.is_some(), "{status:?}");
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer());
    bench.assert_no_work(worker);
    let retried = Answer::Retried { trials: 0, data: true, teacher: true, measured: 0 };
    assert_eq!(bench.retry_teacher(&study), Ok(retried));
    bench.restart();
    let worker = bench.join(WorkerBuilder::both());
    let lease = bench.lease(worker);
    assert!(matches!(lease.work, Work::TrainTeacher { .. }));
    // The measurement that waited was of the other teacher.
    bench.assert_no_work(worker);
    bench.finish(worker, &lease);
    assert_eq!(bench.trial(&study, 0).attempts, 1);
    for _ in 0..5 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
    assert_eq!(bench.trial(&study, 0).attempts, 3);

    let study = bench.submit(StudyBuilder::new("alone").trials(1));
    assert_eq!(bench.retry_teacher(&study), Err(Refusal::NoTeacher(study)));
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

/// Ends a study at rungs or in batches: its data are damaged, and cannot be read after the retry.
fn lose_the_data(bench: &mut Bench, study: &StudyName, worker: WorkerId) {
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Data);
    bench.retry(study, None).unwrap();
    let check = bench.lease(worker);
    assert_eq!(check.work, Work::CheckData);
    bench.fail(worker, &check, Fault::Attempt);
    assert_eq!(bench.status(study).state.name(), "failed");
    bench.restart();
}

#[test]
fn trials_that_waited_when_their_study_ended_wait_again() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("r").files().trials(9).attempts(1).fidelity("asha"));
    let worker = bench.join(WorkerBuilder::trainer());
    // Of two trials at the first rung none goes on yet.
    for _ in 0..3 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    lose_the_data(&mut bench, &study, worker);
    bench.retry(&study, None).unwrap();
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer());
    let check = bench.lease(worker);
    bench.finish(worker, &check);
    // The third trial is the only one that was in training.
    let lease = bench.lease(worker);
    assert!(matches!(lease.work, Work::TrainTrial { number: TrialNumber(2), rung: Some(1), .. }));
    bench.finish(worker, &lease);
    // The best of three goes on, from its checkpoint.
    let lease = bench.lease(worker);
    let Work::TrainTrial { checkpoint: Some(_), rung: Some(3), .. } = lease.work else {
        panic!("{lease:?}")
    };
    bench.finish(worker, &lease);
    while !bench.status(&study).state.is_ended() {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    let counts = bench.status(&study).counts;
    assert_eq!((counts.complete + counts.pruned, counts.failed), (9, 0));
    bench.restart();
}

#[test]
fn candidates_that_waited_for_their_batch_wait_again() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("z").files().trials(4).attempts(1);
    let study = bench.submit(builder.screening("batch = 3\nkeep = 0.3"));
    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..3 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    lose_the_data(&mut bench, &study, worker);
    bench.retry(&study, None).unwrap();
    let worker = bench.join(WorkerBuilder::trainer());
    let check = bench.lease(worker);
    bench.finish(worker, &check);
    let lease = bench.lease(worker);
    assert!(matches!(lease.work, Work::ScoreTrial { number: TrialNumber(2), .. }));
    bench.finish(worker, &lease);
    bench.restart();
    // The batch is full: one of three is trained.
    assert_eq!(bench.status(&study).counts.screened_out, 2);
}

#[test]
fn a_retry_measures_the_teacher_where_it_was_not_measured() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").files().teacher().trials(1).attempts(1);
    let study = bench.submit(builder.device("local").device("board"));
    let worker = bench.join(WorkerBuilder::both());
    for _ in 0..3 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    lose_the_data(&mut bench, &study, worker);
    let retried = Answer::Retried { trials: 1, data: true, teacher: false, measured: 1 };
    assert_eq!(bench.retry(&study, None), Ok(retried));
    bench.restart();
    let board = bench.join(WorkerBuilder::measurer("board"));
    let lease = bench.lease(board);
    assert!(matches!(lease.work, Work::MeasureModel { number: None, .. }));
    // It is given up, which ends no study. A retry tries it once more.
    bench.fail(board, &lease, Fault::Attempt);
    bench.assert_no_work(board);
    let retried = Answer::Retried { trials: 0, data: false, teacher: false, measured: 1 };
    assert_eq!(bench.retry(&study, None), Ok(retried));
    let lease = bench.lease(board);
    bench.finish(board, &lease);
    bench.restart();
    assert_eq!(bench.status(&study).teacher.unwrap().measurements.len(), 2);
}

#[test]
fn a_study_in_which_no_trial_can_work_says_what_to_change() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).constraint("macs", NO_NUMBER));
    let worker = bench.join(WorkerBuilder::trainer());
    bench.assert_no_work(worker);
    let status = bench.status(&study);
    // Both bounds of the constraint exclude some.
    assert_eq!(status.advice.len(), 3, "{:?}", status.advice);
    let advice = &status.advice[0];
    assert!(
        advice
            .contains(" candidates break macs <= 60000.6, the nearest has 65784: relax this limit"),
        "{advice}"
    );
    let refused = bench.retry(&study, None).unwrap_err().to_string();
    let said = "nothing of study s has failed; no trial was completed: ";
    assert!(refused.starts_with(said) && refused.contains(advice.as_str()), "{refused}");
    assert!(refused.ends_with("or after `edgesmith delete s`"), "{refused}");

    let study = bench.submit(StudyBuilder::new("d").trials(1).attempts(1));
    for round in 0..4 {
        let lease = bench.lease(worker);
        if round < 3 {
            // Only trainings diverge; a network that cannot be quantized is another matter.
            let error = if round < 2 {
                format!("{DIVERGED} in epoch 1, step 2; a lower learning rate may help")
            } else {
                "failed to quantize: layer stem computes values that are not finite".to_owned()
            };
            bench.report_failure(worker, &lease, AttemptError::hopeless(error));
        }
        if bench.status(&study).state.is_ended() {
            break;
        }
    }
    let said = "2 trainings diverged: lower training.learning_rate";
    assert_eq!(bench.status(&study).advice[0], said);
    let said = "1 candidate cannot work; one reason: failed to quantize: layer stem computes";
    assert!(bench.status(&study).advice[1].starts_with(said));

    let study = bench.submit(StudyBuilder::new("f").trials(1).attempts(1));
    let lease = bench.lease(worker);
    assert_eq!(bench.status(&study).advice, Vec::<String>::new());
    bench.fail(worker, &lease, Fault::Attempt);
    let said = "1 trial failed, the last one: it broke; mend that, then run `edgesmith retry f`";
    assert_eq!(bench.status(&study).advice, [said]);
}

#[test]
fn nothing_is_advised_about_a_study_that_was_cancelled() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(3));
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    let _running = [bench.lease(worker), bench.lease(worker)];
    bench.steer(&study, Action::Cancel).unwrap();
    let status = bench.status(&study);
    assert_eq!((status.counts.cancelled, status.advice), (2, Vec::new()));
    assert!(matches!(bench.retry(&study, None), Err(Refusal::Ended { .. })));
}
