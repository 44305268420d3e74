//! Which work goes to which worker.

use edgesmith_common::Fault;

use super::super::*;
use super::builders::*;

fn trains(lease: &Lease) -> bool {
    matches!(lease.work, Work::TrainTrial { .. })
}

#[test]
fn work_goes_to_workers_that_can_do_it() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("s").trials(2).device("board"));
    let board = bench.join(WorkerBuilder::measurer("board"));
    let pi = bench.join(WorkerBuilder::measurer("pi"));
    let trainer = bench.join(WorkerBuilder::trainer());
    bench.assert_no_work(board);
    let lease = bench.lease(trainer);
    assert!(trains(&lease));
    bench.finish(trainer, &lease);
    bench.assert_no_work(pi);
    assert!(!trains(&bench.lease(board)));
    assert!(trains(&bench.lease(trainer)));
    bench.assert_silent();
}

#[test]
fn finishing_trials_comes_before_starting_new_ones() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("s").trials(9).attempts(9).device("local"));
    let worker = bench.join(WorkerBuilder::both());
    let train = bench.lease(worker);
    bench.finish(worker, &train);
    let measure = bench.lease(worker);
    assert!(!trains(&measure));
    bench.finish(worker, &measure);
    // A task that was given back comes before a new proposal.
    let second = bench.lease(worker);
    bench.fail(worker, &second, Fault::Attempt);
    assert_eq!(bench.lease(worker).task, second.task);
    assert_eq!(bench.status(&name("s")).counts.running, 1);
}

#[test]
fn studies_share_workers_evenly_oldest_first() {
    let mut bench = Bench::new();
    for study in ["b", "a", "c"] {
        bench.submit(StudyBuilder::new(study).trials(20));
    }
    let worker = bench.join(WorkerBuilder::trainer().slots(8));
    let order: Vec<String> =
        (0..8).map(|_| bench.lease(worker).study.as_str().to_owned()).collect();
    assert_eq!(order, ["b", "a", "c", "b", "a", "c", "b", "a"]);
    bench.steer(&name("c"), Action::Pause).unwrap();
    let other = bench.join(WorkerBuilder::trainer().slots(2));
    let order: Vec<String> = (0..2).map(|_| bench.lease(other).study.as_str().to_owned()).collect();
    assert_eq!(order, ["b", "a"]);
}

#[test]
fn a_study_without_work_for_a_worker_does_not_block_other_studies() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("first").trials(9).constraint("macs", NO_NUMBER));
    bench.submit(StudyBuilder::new("second").trials(9));
    let worker = bench.join(WorkerBuilder::trainer());
    assert_eq!(bench.lease(worker).study, name("second"));
    assert!(matches!(bench.status(&name("first")).state, StudyState::Failed { .. }));
}

#[test]
fn waiting_workers_are_served_in_order() {
    let mut bench = Bench::new();
    let a = bench.join(WorkerBuilder::trainer());
    let b = bench.join(WorkerBuilder::trainer());
    let (first, second) = (bench.wait(b), bench.wait(a));
    bench.submit(StudyBuilder::new("s").trials(1));
    bench.leased(first);
    assert_eq!(bench.take(second), None);
    bench.assert_silent();
}

#[test]
fn trials_are_proposed_only_on_request_and_within_the_budget() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(3));
    let worker = bench.join(WorkerBuilder::trainer().slots(9));
    assert_eq!(bench.core.trials(&study).unwrap(), vec![]);
    for proposed in 1..=3 {
        bench.lease(worker);
        assert_eq!(bench.core.trials(&study).unwrap().len(), proposed);
    }
    bench.assert_no_work(worker);
    assert_eq!(bench.core.trials(&study).unwrap().len(), 3);
}

#[test]
fn a_failed_task_goes_to_another_worker_that_can_do_it() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).attempts(2));
    let broken = bench.join(WorkerBuilder::trainer());
    let board = bench.join(WorkerBuilder::measurer("board"));
    let good = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(broken);
    bench.fail(broken, &lease, Fault::Attempt);
    let waits = bench.wait(broken);
    assert_eq!(bench.take(waits), None);
    let again = bench.lease(good);
    assert_eq!(again.task, lease.task);
    bench.finish(good, &again);
    assert_eq!(bench.status(&study).counts.complete, 1);
    bench.assert_no_work(board);
    bench.assert_silent();
}

#[test]
fn a_failed_task_comes_back_if_no_better_worker_is_connected() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("s").trials(1).attempts(9));
    let a = bench.join(WorkerBuilder::trainer());
    let b = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(a);
    bench.fail(a, &lease, Fault::Attempt);
    let waits = bench.wait(a);
    // Both have failed it, so the first to ask gets it.
    let lease = bench.lease(b);
    assert_eq!(bench.take(waits), None);
    bench.fail(b, &lease, Fault::Attempt);
    let again = bench.leased(waits);
    assert_eq!(again.task, lease.task);
    bench.fail(a, &again, Fault::Attempt);
    // A new worker, which has not failed it, is preferred as long as it is connected.
    let newcomer = bench.join(WorkerBuilder::trainer());
    let waits = bench.wait(a);
    assert_eq!(bench.take(waits), None);
    bench.ask(|to| Event::Leave { to, worker: newcomer }).unwrap();
    assert_eq!(bench.leased(waits).task, lease.task);
    bench.assert_silent();
}

#[test]
fn a_worker_that_fails_everything_does_not_use_up_the_budget() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(6).attempts(2));
    let broken = bench.join(WorkerBuilder::trainer());
    let good = bench.join(WorkerBuilder::trainer());
    for done in 0..6 {
        for _ in 0..9 {
            let to = bench.wait(broken);
            match bench.take(to) {
                Some(Ok(Answer::Leased(lease))) => bench.fail(broken, &lease, Fault::Attempt),
                _ => bench.abandon(to),
            }
        }
        // It did not get proposals that were made without any results.
        assert!(bench.core.trials(&study).unwrap().len() <= done + 2);
        let lease = bench.lease(good);
        bench.finish(good, &lease);
    }
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!((status.counts.complete, status.counts.failed), (6, 0));
}
