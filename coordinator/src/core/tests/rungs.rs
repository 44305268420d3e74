//! Trials that stop at rungs, and trials that go on from there on any worker.

use edgesmith_common::{ArtifactHash, Fault, ScopedMetric, TrialState};

use super::super::*;
use super::builders::*;

/// What a lease asks a worker to train: trial, rung and checkpoint.
fn training(lease: &Lease) -> (u32, Option<u32>, Option<ArtifactHash>) {
    match &lease.work {
        Work::TrainTrial { number, rung, checkpoint, .. } => (number.0, *rung, *checkpoint),
        other => panic!("{other:?}"),
    }
}

/// Reports that the leased rung is reached with this accuracy.
fn reach(bench: &mut Bench, worker: WorkerId, lease: &Lease, accuracy: f64) {
    let (_, epochs, _) = training(lease);
    let report = rung(lease.attempt, epochs.unwrap(), accuracy);
    assert!(bench.report(worker, lease, Outcome::RungReached(report)));
}

#[test]
fn the_best_go_on_where_they_stopped_and_the_others_end() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(9).fidelity("asha"));
    let mut worker = bench.join(WorkerBuilder::trainer());
    let mut work = Vec::new();
    let mut checkpoints = std::collections::BTreeMap::new();
    loop {
        let to = bench.wait(worker);
        let Some(Ok(Answer::Leased(lease))) = bench.take(to) else { break };
        let (number, rung, checkpoint) = training(&lease);
        assert_eq!(checkpoint, checkpoints.get(&number).copied());
        work.push((number, rung));
        match rung {
            // Every third trial is good, and later ones are better.
            Some(_) => {
                let good = if number % 3 == 2 { 0.5 } else { 0.0 };
                reach(&mut bench, worker, &lease, good + f64::from(number) / 100.0);
                let reports = bench.trial(&study, number).rungs;
                checkpoints.insert(number, reports.last().unwrap().checkpoint.unwrap());
            }
            None => bench.finish(worker, &lease),
        }
        bench.restart();
        worker = bench.join(WorkerBuilder::trainer());
    }
    let one = Some(1);
    let expected = [
        (0, one),
        (1, one),
        (2, one),
        (2, Some(3)),
        (3, one),
        (4, one),
        (5, one),
        (5, Some(3)),
        (6, one),
        (7, one),
        (8, one),
        (8, Some(3)),
        (8, None),
    ];
    assert_eq!(work, expected);
    let states = bench.trial_states(&study);
    for (number, state) in states.iter().enumerate() {
        let expected = if number == 8 { TrialState::Complete } else { TrialState::Pruned };
        assert_eq!(*state, expected, "trial {number}");
    }
    let rungs = |number| -> Vec<u32> {
        bench.trial(&study, number).rungs.iter().map(|report| report.epochs).collect()
    };
    assert_eq!((rungs(1), rungs(2), rungs(8)), (vec![1], vec![1, 3], vec![1, 3]));
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!((status.counts.complete, status.counts.pruned), (1, 8));
}

#[test]
fn a_trial_that_can_never_go_on_ends_while_others_still_come() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(6).fidelity("asha"));
    let worker = bench.join(WorkerBuilder::trainer());
    for (number, accuracy) in [(0, 0.9), (1, 0.8), (2, 0.7)] {
        assert_eq!(bench.status(&study).counts.pruned, 0);
        let lease = bench.lease(worker);
        assert_eq!(training(&lease), (number, Some(1), None));
        reach(&mut bench, worker, &lease, accuracy);
    }
    // Of six trials two go on, so far the best of three.
    assert_eq!(bench.status(&study).counts.pruned, 1);
    assert_eq!(bench.trial(&study, 2).state, TrialState::Pruned);
    assert_eq!(training(&bench.lease(worker)).0, 0);
    assert_eq!(bench.trial(&study, 1).state, TrialState::Waiting);
    bench.restart();
}

#[test]
fn a_lost_rung_is_trained_again_from_its_checkpoint_on_another_worker() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).attempts(2).fidelity("asha"));
    let first = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(first);
    let checkpoint = rung(lease.attempt, 1, 0.5).checkpoint;
    bench.finish(first, &lease);
    // No more trials will come, so it goes on.
    let lost = bench.lease(first);
    assert_eq!(training(&lost), (0, Some(3), checkpoint));
    bench.tick(LEASE);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
    bench.restart();
    let second = bench.join(WorkerBuilder::trainer());
    let again = bench.lease(second);
    assert_eq!((again.task, &again.work), (lost.task, &lost.work));
    bench.fail(second, &again, Fault::Attempt);
    let again = bench.lease(second);
    assert_eq!(again.work, lost.work);
    bench.finish(second, &again);
    // The late report changes nothing.
    let late = bench.join(WorkerBuilder::trainer());
    assert!(!bench.report(late, &lost, success(&lost, &class("local"))));
    let last = bench.lease(second);
    let checkpoint = rung(again.attempt, 3, 0.5).checkpoint;
    assert_eq!(training(&last), (0, None, checkpoint));
    // Each rung has its own count of attempts.
    bench.fail(second, &last, Fault::Attempt);
    let last = bench.lease(late);
    bench.finish(late, &last);
    let trial = bench.trial(&study, 0);
    assert_eq!((trial.state, trial.rungs.len(), trial.attempts), (TrialState::Complete, 2, 6));
}

#[test]
fn a_rung_whose_attempts_are_used_up_fails_the_trial_and_decides_the_others() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(2).attempts(1).fidelity("asha"));
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    let (first, second) = (bench.lease(worker), bench.lease(worker));
    reach(&mut bench, worker, &first, 0.5);
    // The other may still be better.
    assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
    bench.assert_no_work(worker);
    bench.fail(worker, &second, Fault::Attempt);
    assert_eq!(training(&bench.lease(worker)).0, 0);
    bench.restart();
}

#[test]
fn paused_studies_promote_no_trials_and_cancelled_ones_end_waiting_trials() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(3).fidelity("asha"));
    let worker = bench.join(WorkerBuilder::trainer());
    for accuracy in [0.5, 0.6, 0.7] {
        let lease = bench.lease(worker);
        if accuracy == 0.7 {
            bench.steer(&study, Action::Pause).unwrap();
        }
        reach(&mut bench, worker, &lease, accuracy);
    }
    bench.assert_no_work(worker);
    // Trials that can never go on are stopped all the same.
    let counts = bench.status(&study).counts;
    assert_eq!((counts.waiting, counts.pruned), (1, 2));
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer());
    bench.assert_no_work(worker);
    bench.steer(&study, Action::Resume).unwrap();
    let lease = bench.lease(worker);
    assert_eq!(training(&lease).0, 2);
    reach(&mut bench, worker, &lease, 0.7);
    bench.steer(&study, Action::Cancel).unwrap();
    assert!(matches!(bench.trial(&study, 2).state, TrialState::Failed { .. }));
    assert_eq!(bench.trial(&study, 2).rungs.len(), 2);
    bench.restart();
}

#[test]
fn a_trial_that_waits_at_a_rung_needs_a_trainer_and_its_devices() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).fidelity("asha").device("board"));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    bench.ask(|to| Event::Leave { to, worker }).unwrap();
    let status = bench.status(&study);
    assert_eq!(status.counts.waiting, 1);
    assert!(status.missing_trainer);
    assert_eq!(status.missing_targets, vec![target("board")]);
}

#[test]
fn median_stopping_ends_trials_worse_than_those_before() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(7).fidelity("median"));
    let worker = bench.join(WorkerBuilder::trainer());
    let mut trained = Vec::new();
    for _ in 0..19 {
        let lease = bench.lease(worker);
        match training(&lease) {
            (number, Some(epochs), _) => {
                trained.push((number, epochs));
                // The sixth trial is below the median of five, the seventh is not.
                let accuracy = [0.5, 0.6, 0.7, 0.8, 0.9, 0.69, 0.7][number as usize];
                reach(&mut bench, worker, &lease, accuracy);
            }
            (number, None, _) => {
                trained.push((number, 9));
                bench.finish(worker, &lease);
            }
        }
        bench.core.check_invariants().unwrap();
    }
    bench.assert_no_work(worker);
    // No trial waits for others: each goes on at once.
    assert_eq!(trained[..6], [(0, 1), (0, 3), (0, 9), (1, 1), (1, 3), (1, 9)]);
    assert_eq!(trained[15..], [(5, 1), (6, 1), (6, 3), (6, 9)]);
    let status = bench.status(&study);
    assert_eq!((status.counts.complete, status.counts.pruned), (6, 1));
    assert_eq!(bench.trial(&study, 5).state, TrialState::Pruned);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    bench.restart();
}

#[test]
fn an_invalid_rung_report_is_a_failed_attempt() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).attempts(99).fidelity("asha"));
    let worker = bench.join(WorkerBuilder::trainer());
    let report = |epochs, accuracy| {
        move |lease: &Lease| Outcome::RungReached(rung(lease.attempt, epochs, accuracy))
    };
    let wrong: [&dyn Fn(&Lease) -> Outcome; 8] = [
        &report(3, 0.5),
        &report(1, f64::NAN),
        &report(1, 1.1),
        &|lease| Outcome::TrialTrained(trained(lease.attempt, 0.5)),
        &|lease| {
            let mut rung = rung(lease.attempt, 1, 0.5);
            rung.figures.set(Metric::TRAINING_SECONDS.whole(), -1.0);
            Outcome::RungReached(rung)
        },
        &|lease| {
            let mut rung = rung(lease.attempt, 1, 0.5);
            rung.figures.remove(&Metric::TRAINING_SECONDS.whole());
            Outcome::RungReached(rung)
        },
        &|lease| {
            let mut rung = rung(lease.attempt, 1, 0.5);
            rung.figures.set(ScopedMetric::TEST_ACCURACY, 0.5);
            Outcome::RungReached(rung)
        },
        // There is no checkpoint to continue from.
        &|_| Outcome::RungReached(looked_up_rung(1, 0.5)),
    ];
    for wrong in wrong {
        let lease = bench.lease(worker);
        assert!(bench.report(worker, &lease, wrong(&lease)));
        let trial = bench.trial(&study, 0);
        assert_eq!((trial.state, trial.rungs), (TrialState::Waiting, vec![]));
    }
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    // Seconds of training add up from rung to rung.
    let lease = bench.lease(worker);
    let mut faster = rung(lease.attempt, training(&lease).1.unwrap(), 0.5);
    faster.figures.set(Metric::TRAINING_SECONDS.whole(), 0.05);
    assert!(bench.report(worker, &lease, Outcome::RungReached(faster)));
    assert_eq!(bench.trial(&study, 0).rungs.len(), 1);
    // After the last rung there is no further rung to report.
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    let lease = bench.lease(worker);
    assert_eq!(training(&lease).1, None);
    assert!(bench.report(worker, &lease, report(9, 0.5)(&lease)));
    assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Complete);
    // A study without rungs has no rung to report either.
    let plain = bench.submit(StudyBuilder::new("plain").trials(1).attempts(9));
    let lease = bench.lease(worker);
    assert!(bench.report(worker, &lease, report(1, 0.5)(&lease)));
    assert_eq!(bench.trial(&plain, 0).state, TrialState::Waiting);
}

#[test]
fn every_algorithm_runs_a_study_with_rungs_to_its_end() {
    let algorithms = [
        "name = \"random\"",
        "name = \"regularized-evolution\"\npopulation = 3",
        "name = \"nsga2\"\npopulation = 3",
        "name = \"nsga3\"\npopulation = 3",
        "name = \"local-search\"",
        "name = \"reinforce\"",
        "name = \"ppo\"\nbatch = 3",
        "name = \"model-based\"\ninitial = 3",
        "name = \"auto\"",
    ];
    assert_eq!(algorithms.len(), edgesmith_common::spec::AlgorithmSpec::NAMES.len());
    for algorithm in algorithms {
        for rule in ["asha", "median", "curve"] {
            let mut bench = Bench::new();
            let builder = StudyBuilder::new("s").trials(30).algorithm(algorithm).fidelity(rule);
            let study = bench.submit(builder);
            let worker = bench.join(WorkerBuilder::trainer().slots(3));
            while !bench.status(&study).state.is_ended() {
                let mut leases = Vec::new();
                for _ in 0..3 {
                    let to = bench.wait(worker);
                    match bench.take(to) {
                        Some(Ok(Answer::Leased(lease))) => leases.push(*lease),
                        _ => bench.abandon(to),
                    }
                }
                assert!(
                    !leases.is_empty(),
                    "{algorithm} with {rule} has no work left but has not ended"
                );
                // Finish the latest leases first.
                for lease in leases.iter().rev() {
                    bench.finish(worker, lease);
                }
            }
            let counts = bench.status(&study).counts;
            assert_eq!(counts.complete + counts.pruned, 30, "{algorithm}");
            // Of 30 trials the first 19 have to be complete before any can be stopped by its curve.
            let least = if rule == "curve" { 1 } else { 5 };
            assert!(counts.complete >= 1 && counts.pruned >= least, "{algorithm}: {counts:?}");
            bench.restart();
        }
    }
}
