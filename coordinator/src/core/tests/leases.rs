//! Workers and leases, and what happens when workers are lost or leases expire.

use edgesmith_common::{AttemptId, Fault, TaskId, TrialState, WorkerId};

use super::super::*;
use super::builders::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn unknown_workers_are_told_to_join_again() {
    let mut bench = Bench::new();
    let worker = WorkerId(77);
    let unknown = Err(Refusal::UnknownWorker(worker));
    let deadline = bench.now;
    assert_eq!(bench.ask(|to| Event::Lease { to, worker, deadline }), unknown);
    assert_eq!(bench.ask(|to| Event::Heartbeat { to, worker, running: vec![] }), unknown);
    assert_eq!(bench.ask(|to| Event::Leave { to, worker }), unknown);
    let outcome = Box::new(Err(AttemptError::retryable("")));
    let (task, attempt) = (TaskId(1), AttemptId(1));
    let report = |to| Event::Report { to, worker, task, attempt, outcome };
    assert_eq!(bench.ask(report), unknown);
    assert!(bench.records.is_empty());
}

#[test]
fn workers_need_roles_slots_and_a_free_place() {
    let mut bench = Bench::new();
    let held = Vec::new;
    let mut worker = WorkerBuilder::trainer().build();
    worker.roles.clear();
    let answer = bench.ask(|to| Event::Join { to, worker, held: held() });
    assert_eq!(answer, Err(Refusal::IdleWorker));
    let worker = WorkerBuilder::trainer().slots(0).build();
    let answer = bench.ask(|to| Event::Join { to, worker, held: held() });
    assert_eq!(answer, Err(Refusal::IdleWorker));
    let mut worker = WorkerBuilder::measurer("board").build();
    worker.engines.clear();
    let answer = bench.ask(|to| Event::Join { to, worker, held: held() });
    assert_eq!(answer, Err(Refusal::NoEngine));
    for _ in 0..CONFIG.max_workers {
        bench.join(WorkerBuilder::trainer());
    }
    let worker = WorkerBuilder::trainer().build();
    let answer = bench.ask(|to| Event::Join { to, worker, held: held() });
    assert_eq!(answer, Err(Refusal::TooManyWorkers(CONFIG.max_workers)));
}

#[test]
fn worker_ids_are_never_used_again() {
    let mut bench = Bench::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        for _ in 0..300 {
            let worker = bench.join(WorkerBuilder::trainer());
            assert!(seen.insert(worker), "{worker}");
            bench.ask(|to| Event::Leave { to, worker }).unwrap();
        }
        bench.restart();
    }
    // Ids are reserved in blocks, not with one record each.
    assert!(bench.records.len() < 10);
}

#[test]
fn a_request_waits_for_work_until_its_deadline() {
    let mut bench = Bench::new();
    let worker = bench.join(WorkerBuilder::trainer());
    let deadline = bench.now.after(10 * SECOND);
    let waits = bench.send(|to| Event::Lease { to, worker, deadline });
    assert_eq!(bench.core.next_deadline(), Some(deadline));
    bench.tick(9 * SECOND);
    assert_eq!(bench.take(waits), None);
    bench.tick(SECOND);
    assert_eq!(bench.take(waits), Some(Ok(Answer::NoTask)));

    let waits = bench.wait(worker);
    bench.submit(StudyBuilder::new("s"));
    bench.leased(waits);
    bench.assert_silent();
}

#[test]
fn an_abandoned_request_gets_no_task() {
    let mut bench = Bench::new();
    let worker = bench.join(WorkerBuilder::trainer());
    let waits = bench.wait(worker);
    bench.abandon(waits);
    bench.submit(StudyBuilder::new("s"));
    bench.assert_silent();
    assert_eq!(bench.status(&name("s")).counts, TrialCounts::default());
}

#[test]
fn a_worker_never_holds_more_than_its_slots() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("s").trials(9));
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    let (first, _second) = (bench.lease(worker), bench.lease(worker));
    let waits = bench.wait(worker);
    assert_eq!(bench.take(waits), None);
    bench.finish(worker, &first);
    bench.leased(waits);
    bench.assert_silent();
}

#[test]
fn heartbeats_extend_the_leases_they_name() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("s").trials(9));
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    let (named, forgotten) = (bench.lease(worker), bench.lease(worker));
    for _ in 0..5 {
        bench.tick(LEASE / 5);
        let mine = bench.heartbeat(worker, &[named.attempt]);
        assert_eq!(mine, vec![]);
    }
    bench.tick(Duration::ZERO);
    // The attempt that the worker did not name was lost, and its task is leased again.
    assert_eq!(bench.heartbeat(worker, &[forgotten.attempt]), vec![forgotten.attempt]);
    let again = bench.lease(worker);
    assert_eq!(again.task, forgotten.task);
    assert!(again.attempt > forgotten.attempt);
    assert_eq!(bench.trial(&name("s"), 1).attempts, 2);
    bench.assert_silent();
}

#[test]
fn only_a_tick_acts_on_deadlines() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("s"));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    assert_eq!(bench.core.next_deadline(), Some(bench.now.after(LEASE)));
    // The process was suspended, and the heartbeat was in the queue when it resumed.
    bench.now = bench.now.after(10 * LEASE);
    assert_eq!(bench.heartbeat(worker, &[lease.attempt]), vec![]);
    bench.tick(Duration::ZERO);
    bench.finish(worker, &lease);
}

#[test]
fn a_silent_worker_loses_its_work_and_its_late_report_changes_nothing() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s"));
    let silent = bench.join(WorkerBuilder::trainer().slots(2));
    let lease = bench.lease(silent);
    let deadline = bench.now.after(9 * LEASE);
    bench.steer(&study, Action::Pause).unwrap();
    let waits = bench.send(|to| Event::Lease { to, worker: silent, deadline });
    bench.tick(LEASE - SECOND);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Running);
    bench.tick(SECOND);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
    assert_eq!(bench.take(waits), Some(Err(Refusal::UnknownWorker(silent))));
    assert_eq!(bench.core.workers(bench.now), vec![]);
    bench.steer(&study, Action::Resume).unwrap();

    let other = bench.join(WorkerBuilder::trainer());
    let again = bench.lease(other);
    assert_eq!(again.task, lease.task);
    let (back, stop) = bench.rejoin(WorkerBuilder::trainer(), vec![lease.attempt]);
    assert_eq!(stop, vec![lease.attempt]);
    let before = lasting(&bench.core);
    assert!(!bench.report(back, &lease, success(&lease, &class("local"))));
    assert!(!bench.report(back, &again, success(&again, &class("local"))));
    assert!(!bench.report(other, &lease, success(&lease, &class("local"))));
    assert!(!bench.report_on(
        other,
        TaskId(again.task.0 + 1),
        again.attempt,
        Ok(success(&again, &class("local")))
    ));
    assert_eq!(lasting(&bench.core), before);
    bench.finish(other, &again);
    assert!(has_kept(&bench.trial(&study, 0), &trained(again.attempt, 0.5)));
}

#[test]
fn a_repeated_report_gets_the_same_answer_and_changes_nothing() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("s").trials(3));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    let before = (lasting(&bench.core), bench.records.len());
    bench.finish(worker, &lease);
    assert!(bench.report_failure(worker, &lease, AttemptError::hopeless("never")));
    assert_eq!((lasting(&bench.core), bench.records.len()), before);
    // The answer was lost in a crash of the coordinator.
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer());
    bench.finish(worker, &lease);

    let failed = bench.lease(worker);
    bench.fail(worker, &failed, Fault::Attempt);
    bench.fail(worker, &failed, Fault::Attempt);
    assert_eq!(bench.trial(&name("s"), 1).state, TrialState::Waiting);
}

#[test]
fn leaving_gives_work_back_at_once() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("s"));
    let leaver = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(leaver);
    let stays = bench.join(WorkerBuilder::trainer());
    let done = bench.lease(stays);
    bench.finish(stays, &done);
    let waits = bench.wait(stays);
    assert_eq!(bench.take(waits), None);
    assert_eq!(bench.ask(|to| Event::Leave { to, worker: leaver }), Ok(Answer::Left));
    assert_eq!(bench.leased(waits).task, lease.task);
    bench.assert_silent();
}

#[test]
fn leaving_does_not_count_as_a_lost_attempt() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).attempts(1));
    for _ in 0..2 * CONFIG.max_lost {
        let worker = bench.join(WorkerBuilder::trainer());
        let lease = bench.lease(worker);
        bench.ask(|to| Event::Leave { to, worker }).unwrap();
        assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
        // A report after leaving changes nothing.
        let back = bench.join(WorkerBuilder::trainer());
        assert!(!bench.report(back, &lease, success(&lease, &class("local"))));
        bench.ask(|to| Event::Leave { to, worker: back }).unwrap();
    }
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Complete);
}

#[test]
fn restored_leases_have_a_full_term_and_workers_keep_their_work() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(3));
    let a = bench.join(WorkerBuilder::trainer());
    let b = bench.join(WorkerBuilder::trainer());
    let (kept, lost) = (bench.lease(a), bench.lease(b));
    bench.tick(LEASE - SECOND);
    bench.restart();
    assert_eq!(bench.core.next_deadline(), Some(bench.now.after(LEASE)));
    assert_eq!(bench.status(&study).counts.running, 2);
    let unknown = bench.ask(|to| Event::Heartbeat { to, worker: a, running: vec![] });
    assert_eq!(unknown, Err(Refusal::UnknownWorker(a)));
    bench.tick(LEASE - SECOND);
    let (a, stop) = bench.rejoin(WorkerBuilder::trainer(), vec![kept.attempt, AttemptId(99)]);
    assert_eq!(stop, vec![AttemptId(99)]);
    bench.tick(SECOND);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Running);
    assert_eq!(bench.trial(&study, 1).state, TrialState::Waiting);
    bench.finish(a, &kept);
    assert_eq!(bench.lease(a).task, lost.task);
    bench.assert_silent();
}

#[test]
fn an_attempt_without_a_connected_worker_goes_to_the_worker_that_names_it() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(4));
    let a = bench.join(WorkerBuilder::trainer().slots(3));
    let (beaten, reported) = (bench.lease(a), bench.lease(a));
    bench.restart();
    let a = bench.join(WorkerBuilder::trainer());
    assert_eq!(bench.heartbeat(a, &[beaten.attempt]), vec![]);
    bench.finish(a, &reported);
    // An attempt of a connected worker stays with that worker.
    let b = bench.join(WorkerBuilder::trainer());
    assert_eq!(bench.heartbeat(b, &[beaten.attempt]), vec![beaten.attempt]);
    bench.finish(a, &beaten);
    assert_eq!(bench.status(&study).counts.complete, 2);
}

#[test]
fn a_worker_that_joins_again_keeps_its_work() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("s").trials(4));
    let before = bench.join(WorkerBuilder::trainer().slots(2));
    let (first, second) = (bench.lease(before), bench.lease(before));
    let held = vec![first.attempt, second.attempt];
    // It has fewer slots than before, so one attempt is given back.
    let (after, stop) = bench.rejoin(WorkerBuilder::trainer(), held);
    assert_eq!(stop, vec![second.attempt]);
    assert!(!bench.report(before, &first, success(&first, &class("local"))));
    bench.finish(after, &first);
    assert_eq!(bench.lease(after).task, second.task);
    // A worker that cannot do the work does not get it.
    let device = bench.rejoin(WorkerBuilder::measurer("board"), vec![AttemptId(3)]);
    assert_eq!(device.1, vec![AttemptId(3)]);
    bench.assert_silent();
}

#[test]
fn next_deadline_is_none_without_workers() {
    let mut bench = Bench::new();
    assert_eq!(bench.core.next_deadline(), None);
    bench.submit(StudyBuilder::new("s"));
    assert_eq!(bench.core.next_deadline(), None);
    let worker = bench.join(WorkerBuilder::trainer());
    assert_eq!(bench.core.next_deadline(), Some(bench.now.after(LEASE)));
    bench.ask(|to| Event::Leave { to, worker }).unwrap();
    assert_eq!(bench.core.next_deadline(), None);
    let before = lasting(&bench.core);
    bench.tick(Duration::ZERO);
    assert_eq!(lasting(&bench.core), before);
}
