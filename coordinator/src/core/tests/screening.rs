//! Candidates that are scored before any of them is trained.

use edgesmith_common::TrialState;

use super::super::*;
use super::builders::*;

/// What a lease asks for: the trial, and whether it is to be trained.
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
fn the_best_of_each_batch_are_trained_and_the_budget_is_theirs() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(4).screening("batch = 4"));
    let mut worker = bench.join(WorkerBuilder::trainer());
    let mut work = Vec::new();
    loop {
        let to = bench.wait(worker);
        let Some(Ok(Answer::Leased(lease))) = bench.take(to) else { break };
        let (number, trains) = asked(&lease);
        work.push((number, trains));
        match trains {
            false => score(&mut bench, worker, &lease, [0.5, -3.0, 2.0, 1.0][number as usize % 4]),
            true => bench.finish(worker, &lease),
        }
        // Whatever was decided is written down.
        bench.restart();
        worker = bench.join(WorkerBuilder::trainer());
    }
    // Four are scored and two of them trained; then there is room for two more: of these one is,
    // and the last place goes to the one that is left to be compared with nobody.
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
fn nobody_waits_for_a_batch_that_another_worker_holds_up() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(8).screening("batch = 2"));
    let slow = bench.join(WorkerBuilder::trainer());
    let quick = bench.join(WorkerBuilder::trainer());
    let held = bench.lease(slow);
    assert_eq!(asked(&held), (0, false));
    // Two others make a batch.
    for number in [1, 2] {
        let lease = bench.lease(quick);
        assert_eq!(asked(&lease), (number, false));
        score(&mut bench, quick, &lease, f64::from(number));
    }
    let lease = bench.lease(quick);
    assert_eq!(asked(&lease), (2, true));
    // The slow one is lost, and its trial comes first when somebody asks again.
    bench.ask(|to| Event::Leave { to, worker: slow }).unwrap();
    bench.finish(quick, &lease);
    let lease = bench.lease(quick);
    assert_eq!(asked(&lease), (0, false));
    score(&mut bench, quick, &lease, 0.0);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
}

#[test]
fn with_several_objectives_a_small_network_is_not_ruled_out_by_a_large_one_s_score() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").trials(40).screening("batch = 8").device("pi");
    let study = bench.submit(builder);
    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..8 {
        let lease = bench.lease(worker);
        let (number, _) = asked(&lease);
        // The larger the better: no two of different sizes beat one another.
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
    let plan = candidate.pruned_plan(staged.data()).unwrap();
    plan.cost(candidate.recipe.precision).macs as f64
}

#[test]
fn what_cannot_be_scored_ends_like_what_cannot_be_trained() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(2).attempts(2).screening("batch = 2"));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    assert!(bench.report(worker, &lease, Outcome::Scored(f64::NAN)));
    // It may try again, as that is no score.
    let again = bench.lease(worker);
    assert_eq!((asked(&again), again.task), ((0, false), lease.task));
    assert!(bench.report_failure(worker, &again, AttemptError::hopeless("no such image")));
    assert!(matches!(bench.trial(&study, 0).state, TrialState::Infeasible { .. }));
    // Nor is a training's result one.
    let lease = bench.lease(worker);
    assert_eq!(asked(&lease), (1, false));
    let result = Outcome::TrialTrained(trained(lease.attempt, 0.5));
    assert!(bench.report(worker, &lease, result));
    assert_eq!(bench.trial(&study, 1).state, TrialState::Waiting);
}

#[test]
fn a_cancelled_study_leaves_no_batch() {
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
