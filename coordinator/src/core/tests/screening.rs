//! Candidates that are scored before any of them is trained.

use edgesmith_common::TrialState;

use super::super::*;
use super::builders::*;

/// The trial of a lease, and whether it asks for training.
fn asked(lease: &Lease) -> (u32, bool) {
    match &lease.work {
        Work::ScoreTrial { number, .. } => (number.0, false),
        Work::TrainTrial { number, .. } => (number.0, true),
        other => panic!("{other:?}"),
    }
}

fn score(bench: &mut Bench, worker: WorkerId, lease: &Lease, score: f64) {
    assert!(matches!(lease.work, Work::ScoreTrial { .. }), "{lease:?}");
    assert!(bench.report(worker, lease, Outcome::Scored(score)));
}

#[test]
fn the_best_of_each_batch_are_trained_and_only_they_use_budget() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(4).screening("batch = 4"));
    let mut worker = bench.join(WorkerBuilder::trainer());
    let mut work = Vec::new();
    loop {
        let to = bench.wait(worker);
        let Some(Ok(Answer::Leased(lease))) = bench.take(to) else { break };
        let (number, trains) = asked(&lease);
        work.push((number, trains));
        if trains {
            bench.finish(worker, &lease);
        } else {
            score(&mut bench, worker, &lease, [0.5, -3.0, 2.0, 1.0][number as usize % 4]);
        }
        // A restart keeps all decisions.
        bench.restart();
        worker = bench.join(WorkerBuilder::trainer());
    }
    // Four trials are scored and two of them trained, which leaves a budget of two. Of the next
    // two, one is trained. The last place goes to the next trial, which is a batch by itself.
    let expected = [
        (0, false),
        (1, false),
        (2, false),
        (3, false),
        (2, true),
        (3, true),
        (4, false),
        (5, false),
        (4, true),
        (6, false),
        (6, true),
    ];
    assert_eq!(work, expected);
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!((status.counts.complete, status.counts.pruned), (4, 3));
    assert_eq!(status.counts.screened_out, 3);
    assert_eq!(bench.trial(&study, 1).state, TrialState::Pruned);
    assert_eq!(
        (bench.trial(&study, 1).score, bench.trial(&study, 2).score),
        (Some(-3.0), Some(2.0))
    );
    assert_eq!(bench.trial(&study, 1).attempts, 1);
}

#[test]
fn a_slow_worker_does_not_hold_up_the_batch_of_others() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(8).screening("batch = 2"));
    let slow = bench.join(WorkerBuilder::trainer());
    let quick = bench.join(WorkerBuilder::trainer());
    let held = bench.lease(slow);
    assert_eq!(asked(&held), (0, false));
    // Two other trials form a batch.
    for number in [1, 2] {
        let lease = bench.lease(quick);
        assert_eq!(asked(&lease), (number, false));
        score(&mut bench, quick, &lease, f64::from(number));
    }
    let lease = bench.lease(quick);
    assert_eq!(asked(&lease), (2, true));
    // The slow worker is lost, and its trial is the first to be handed out again.
    bench.ask(|to| Event::Leave { to, worker: slow }).unwrap();
    bench.finish(quick, &lease);
    let lease = bench.lease(quick);
    assert_eq!(asked(&lease), (0, false));
    score(&mut bench, quick, &lease, 0.0);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
}

#[test]
fn with_several_objectives_large_networks_do_not_rule_out_small_ones() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").trials(40).screening("batch = 8").device("pi");
    let study = bench.submit(builder);
    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..8 {
        let lease = bench.lease(worker);
        let (number, _) = asked(&lease);
        // Larger networks score higher, so none of two different sizes dominates the other.
        let macs = macs_of(&bench, &study, number);
        score(&mut bench, worker, &lease, macs);
    }
    let kept = |number: &u32| bench.trial(&study, *number).state == TrialState::Waiting;
    let (trained, left): (Vec<u32>, Vec<u32>) = (0..8).partition(kept);
    assert_eq!((trained.len(), left.len()), (4, 4));
    let macs = |number: &u32| macs_of(&bench, &study, *number);
    let extremes = |of: &[u32]| {
        let all = of.iter().map(macs);
        (all.clone().fold(f64::INFINITY, f64::min), all.fold(0.0, f64::max))
    };
    let all: Vec<u32> = (0..8).collect();
    assert_eq!(extremes(&trained), extremes(&all), "the smallest and the largest are kept");
}

fn macs_of(bench: &Bench, study: &edgesmith_common::StudyName, number: u32) -> f64 {
    let space = bench.core.space(study).unwrap();
    let edgesmith_search_space::Space::Staged(staged) = &space else { panic!("networks") };
    let candidate = staged.decode(&bench.trial(study, number).genotype);
    candidate.pruned_graph(staged.data()).unwrap().cost().macs as f64
}

#[test]
fn trials_that_cannot_be_scored_end_like_those_that_cannot_be_trained() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(2).attempts(2).screening("batch = 2"));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    assert!(bench.report(worker, &lease, Outcome::Scored(f64::NAN)));
    // NaN is not a valid score, so the task is tried again.
    let again = bench.lease(worker);
    assert_eq!((asked(&again), again.task), ((0, false), lease.task));
    assert!(bench.report_failure(worker, &again, AttemptError::hopeless("no such image")));
    assert!(matches!(bench.trial(&study, 0).state, TrialState::Infeasible { .. }));
    // The result of a training is not a score either.
    let lease = bench.lease(worker);
    assert_eq!(asked(&lease), (1, false));
    let result = Outcome::TrialTrained(trained(lease.attempt, 0.5));
    assert!(bench.report(worker, &lease, result));
    assert_eq!(bench.trial(&study, 1).state, TrialState::Waiting);
}

#[test]
fn a_cancelled_study_has_no_waiting_batch() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(9).screening("batch = 4"));
    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..2 {
        let lease = bench.lease(worker);
        score(&mut bench, worker, &lease, 1.0);
    }
    let (name, action) = (study.clone(), Action::Cancel);
    bench.ask(|to| Event::Steer { to, study: name, action }).unwrap();
    assert_eq!(bench.status(&study).state, StudyState::Cancelled);
    assert!(bench.trial_states(&study).iter().all(|s| matches!(s, TrialState::Failed { .. })));
}
