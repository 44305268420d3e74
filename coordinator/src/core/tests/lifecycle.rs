//! Studies: submitting, pausing, cancelling, deleting, ending.

use edgesmith_common::{ArtifactHash, AttemptId, Fault, TrialNumber, TrialState};

use super::super::*;
use super::builders::*;

#[test]
fn submitting_the_same_study_twice_creates_it_once() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s"));
    let again = bench.ask(|to| submission(to, StudyBuilder::new("s").build(), None));
    assert_eq!(again, Ok(submitted_again(&study)));
    // With its first trial, it is no longer replaced by another.
    let worker = bench.join(WorkerBuilder::trainer());
    bench.lease(worker);
    let records = bench.records.len();
    let other = StudyBuilder::new("s").attempts(9).build();
    let other = bench.ask(|to| submission(to, other, None)).unwrap_err();
    let said = "another study is already named s, and it differs from this one in \
                budget.max_attempts: 2 -> 9; give this one another study.name, and \
                study.start_from = [\"s\"] to start from the results of the other; or remove the \
                other with all its results: `edgesmith delete s`";
    assert_eq!(other.to_string(), said);
    assert_eq!(bench.records.len(), records);
    assert_eq!(bench.core.studies(), vec![study]);
    bench.assert_silent();
}

#[test]
fn a_study_of_which_nothing_was_begun_is_replaced_by_another_of_its_name() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").files().teacher().attempts(1);
    let study = bench.submit(builder.clone());
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Data);
    bench.steer(&study, Action::Pause).unwrap();
    let other = bench.ask(|to| submission(to, builder.clone().attempts(3).build(), None));
    let Ok(Answer::Submitted { created: true, replaced, extended: false, reread: false, .. }) =
        other
    else {
        panic!("{other:?}")
    };
    let differences: Vec<String> = replaced.iter().map(ToString::to_string).collect();
    assert_eq!(differences, ["budget.max_attempts: 1 -> 3"]);
    let status = bench.status(&study);
    assert_eq!((status.state, status.data_problem), (StudyState::Paused, None));
    bench.restart();
    bench.steer(&study, Action::Resume).unwrap();
    // Nothing else changes if it is refused.
    let refused =
        bench.ask(|to| submission(to, builder.clone().start_from("unknown").build(), None));
    assert!(matches!(refused, Err(Refusal::UnknownStudy { .. })), "{refused:?}");
    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..2 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    // A trained teacher would be lost.
    let other = bench.ask(|to| submission(to, builder.attempts(4).build(), None));
    assert!(matches!(other, Err(Refusal::Differs { .. })), "{other:?}");
}

#[test]
fn a_study_whose_teacher_trains_is_not_replaced_by_another_of_its_name() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").files().teacher();
    let study = bench.submit(builder.clone());
    let worker = bench.join(WorkerBuilder::trainer());
    let check = bench.lease(worker);
    bench.finish(worker, &check);
    let teacher = bench.lease(worker);
    assert!(matches!(teacher.work, Work::TrainTeacher { .. }));
    let refused = |bench: &mut Bench| {
        let other = builder.clone().attempts(9).build();
        let answer = bench.ask(|to| submission(to, other, None));
        assert!(matches!(answer, Err(Refusal::Differs { .. })), "{answer:?}");
        assert!(bench.core.study_status(&study, bench.now).is_ok());
    };
    refused(&mut bench);
    assert_eq!(bench.heartbeat(worker, &[teacher.attempt]), []);
    // The worker leaves for the night, and its training waits for the next one.
    bench.ask(|to| Event::Leave { to, worker }).unwrap();
    refused(&mut bench);
    bench.restart();
    refused(&mut bench);
}

#[test]
fn teacher_weights_are_required_exactly_for_a_teacher_file() {
    let mut bench = Bench::new();
    let weights = Some(ArtifactHash::of(b"weights"));
    let refused = |answer| matches!(answer, Err(Refusal::TeacherWeights(_)));
    assert!(refused(bench.ask(|to| submission(to, StudyBuilder::new("a").build(), weights))));
    let file = StudyBuilder::new("a").teacher_file().build();
    assert!(refused(bench.ask(|to| submission(to, file.clone(), None))));
    assert!(bench.records.is_empty());

    bench.ask(|to| submission(to, file.clone(), weights)).unwrap();
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    assert_eq!(lease.work, Work::TrainTeacher { weights });
    bench.finish(worker, &lease);
    let other = Some(ArtifactHash::of(b"other"));
    let taken = bench.ask(|to| submission(to, file, other));
    let taken = taken.unwrap_err().to_string();
    assert!(taken.contains("the bytes of teacher.weights"), "{taken}");
}

#[test]
fn a_study_without_device_runs_to_its_end() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(2));
    let worker = bench.join(WorkerBuilder::trainer());
    for number in 0..2 {
        let lease = bench.lease(worker);
        assert_eq!((lease.study.clone(), lease.resolved_study.is_empty()), (study.clone(), false));
        let Work::TrainTrial { number: n, ref genotype, soft_targets: None, .. } = lease.work
        else {
            panic!("{lease:?}")
        };
        assert_eq!((n.0, genotype), (number, &bench.trial(&study, number).genotype));
        assert_eq!(bench.trial(&study, number).state, TrialState::Running);
        bench.finish(worker, &lease);
        let trial = bench.trial(&study, number);
        assert_eq!((&trial.state, trial.attempts), (&TrialState::Complete, 1));
        assert!(has_kept(&trial, &trained(lease.attempt, 0.5 + f64::from(number) / 100.0)));
    }
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!(status.counts, TrialCounts { complete: 2, ..TrialCounts::default() });
    bench.assert_no_work(worker);
    bench.assert_silent();
    bench.restart();
}

#[test]
fn a_paused_study_hands_out_no_tasks_but_accepts_results() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s"));
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    let lease = bench.lease(worker);
    assert_eq!(bench.steer(&study, Action::Pause), Ok(Answer::Steered));
    let records = bench.records.len();
    assert_eq!(bench.steer(&study, Action::Pause), Ok(Answer::Steered));
    assert_eq!(bench.records.len(), records);
    let waits = bench.wait(worker);
    assert_eq!(bench.take(waits), None);
    assert_eq!(bench.heartbeat(worker, &[lease.attempt]), vec![]);
    bench.finish(worker, &lease);
    assert_eq!(bench.status(&study).state, StudyState::Paused);
    bench.restart();
    assert_eq!(bench.status(&study).state, StudyState::Paused);
    let worker = bench.join(WorkerBuilder::trainer());
    let waits = bench.wait(worker);
    assert_eq!(bench.steer(&study, Action::Resume), Ok(Answer::Steered));
    assert_eq!(bench.steer(&study, Action::Resume), Ok(Answer::Steered));
    let lease = bench.leased(waits);
    bench.steer(&study, Action::Pause).unwrap();
    bench.finish(worker, &lease);
    // No work is left, so the paused study completes.
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
    bench.assert_silent();
}

#[test]
fn cancelling_ends_trials_and_stops_attempts() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(3));
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    let (done, cut) = (bench.lease(worker), bench.lease(worker));
    bench.finish(worker, &done);
    bench.steer(&study, Action::Cancel).unwrap();
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Cancelled);
    assert_eq!((status.counts.complete, status.counts.failed), (1, 1));
    assert_eq!(status.counts.cancelled, 1);
    let TrialState::Failed { reason } = bench.trial(&study, 1).state else { panic!() };
    assert!(reason.contains("cancelled"), "{reason}");
    assert_eq!(bench.heartbeat(worker, &[cut.attempt]), vec![cut.attempt]);
    let late = success(&cut, &class("local"));
    assert!(!bench.report(worker, &cut, late));
    bench.assert_no_work(worker);
    assert_eq!(bench.steer(&study, Action::Cancel), Ok(Answer::Steered));
    for action in [Action::Pause, Action::Resume] {
        let refused = bench.steer(&study, action);
        assert_eq!(refused, Err(Refusal::Ended { study: study.clone(), state: "cancelled" }));
    }
    bench.assert_silent();
    bench.restart();
}

#[test]
fn a_complete_study_cannot_be_cancelled() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    let refused = bench.steer(&study, Action::Cancel);
    assert_eq!(refused, Err(Refusal::Ended { study, state: "complete" }));
}

#[test]
fn a_renamed_study_keeps_its_trials_and_its_running_attempts() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(3));
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    let (done, held) = (bench.lease(worker), bench.lease(worker));
    let rename = |bench: &mut Bench, from: &StudyName, new: &str| {
        let (study, name) = (from.clone(), name(new));
        bench.ask(|to| Event::Rename { to, study, name })
    };
    let unknown = rename(&mut bench, &name("nothing"), "t");
    assert!(matches!(unknown, Err(Refusal::UnknownStudy { .. })));
    assert_eq!(rename(&mut bench, &study, "s"), Ok(Answer::Renamed));
    bench.finish(worker, &done);
    bench.fail(worker, &held, Fault::Worker);
    let more = bench.join(WorkerBuilder::trainer());
    let held = bench.lease(more);
    let other = bench.submit(StudyBuilder::new("other"));
    assert_eq!(rename(&mut bench, &study, "other"), Err(Refusal::NameTaken(other.clone())));
    assert_eq!(rename(&mut bench, &study, "t"), Ok(Answer::Renamed));
    let renamed = name("t");
    assert_eq!(bench.core.studies(), [renamed.clone(), other]);
    let said = bench.status(&renamed);
    assert_eq!((said.counts.complete, said.counts.running), (1, 1));
    assert_eq!(said.exclusions.len(), 1);
    let resolved = edgesmith_common::StudySpec::from_resolved(&said.resolved_study).unwrap();
    assert_eq!(resolved.name, renamed);
    bench.finish(more, &held);
    bench.restart();
    let said = bench.status(&renamed);
    assert_eq!(said.counts.complete, 2);
    // The old name is free, and a file with the new name is the same study.
    let spec = StudyBuilder::new("t").trials(3).build();
    let again = bench.ask(|to| submission(to, spec, None));
    assert!(matches!(again, Ok(Answer::Submitted { created: false, .. })), "{again:?}");
    bench.submit(StudyBuilder::new("s").trials(3));
}

#[test]
fn a_deleted_study_is_gone_and_its_name_is_free() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s"));
    let other = bench.submit(StudyBuilder::new("other"));
    let worker = bench.join(WorkerBuilder::trainer());
    let old = bench.lease(worker);
    assert_eq!(old.study, study);
    bench.steer(&study, Action::Delete).unwrap();
    let unknown = Refusal::UnknownStudy { name: study.clone(), studies: vec![other.clone()] };
    assert_eq!(bench.core.study_status(&study, bench.now), Err(unknown.clone()));
    assert_eq!(bench.steer(&study, Action::Delete), Err(unknown));
    assert_eq!(bench.heartbeat(worker, &[old.attempt]), vec![old.attempt]);
    let late = success(&old, &class("local"));
    assert!(!bench.report(worker, &old, late));
    bench.restart();
    let worker = bench.join(WorkerBuilder::trainer().slots(9));
    bench.steer(&other, Action::Pause).unwrap();
    bench.submit(StudyBuilder::new("s").trials(7));
    assert_eq!(bench.core.studies(), vec![other, study.clone()]);
    let new = bench.lease(worker);
    assert_eq!(new.study, study);
    assert!(new.task > old.task && new.attempt > old.attempt);
    bench.assert_silent();
}

#[test]
fn an_exhausted_space_ends_the_study_with_a_reason() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").tiny_space().trials(5));
    let worker = bench.join(WorkerBuilder::trainer().slots(2));
    let lease = bench.lease(worker);
    bench.assert_no_work(worker);
    assert_eq!(bench.status(&study).state, StudyState::Running);
    bench.finish(worker, &lease);
    let StudyState::Complete { reason: Some(reason) } = bench.status(&study).state else {
        panic!("{:?}", bench.status(&study).state)
    };
    assert!(reason.contains("exhausted"), "{reason}");
    bench.restart();
}

#[test]
fn constraints_that_nothing_meets_fail_the_study() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").trials(5).constraint("macs", NO_NUMBER);
    let study = bench.submit(builder);
    let worker = bench.join(WorkerBuilder::trainer());
    let waits = bench.wait(worker);
    assert_eq!(bench.take(waits), None);
    let status = bench.status(&study);
    let StudyState::Failed { reason } = status.state else { panic!("{:?}", status.state) };
    assert!(reason.contains("macs") && reason.contains("60000."), "{reason}");
    assert!(status.counts.infeasible > 0);
    assert!(status.counts.infeasible <= CONFIG.max_infeasible);
    let TrialState::Infeasible { reason } = bench.trial(&study, 0).state else { panic!() };
    assert!(reason.contains("macs"), "{reason}");
    bench.restart();
}

#[test]
fn infeasible_candidates_do_not_use_the_budget() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").trials(2).constraint("macs", "max = 60000");
    let study = bench.submit(builder);
    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..2 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!(status.counts.complete, 2);
    assert!(status.counts.infeasible > 0, "pick a tighter bound for this test");
    for trial in bench.core.trials(&study).unwrap() {
        let space = &StudyBuilder::new("s").build().training().unwrap().space.clone();
        let candidate = space.decode(&trial.genotype);
        let macs = candidate.pruned_graph(space.data()).unwrap().cost().macs;
        let infeasible = matches!(trial.state, TrialState::Infeasible { .. });
        assert_eq!(infeasible, macs > 60_000, "{trial:?}");
        assert_eq!(trial.attempts, u32::from(!infeasible));
    }
    bench.restart();
}

#[test]
fn a_study_in_which_every_trial_failed_fails() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).attempts(1));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Attempt);
    let StudyState::Failed { reason } = bench.status(&study).state else { panic!() };
    assert!(reason.contains("it broke"), "{reason}");
}

#[test]
fn elapsed_time_leaves_out_pauses_and_restarts() {
    let second = Duration::from_secs(1);
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1));
    bench.tick(10 * second);
    assert_eq!(bench.status(&study).elapsed, 10 * second);
    bench.steer(&study, Action::Pause).unwrap();
    bench.tick(100 * second);
    assert_eq!(bench.status(&study).elapsed, 10 * second);
    bench.steer(&study, Action::Resume).unwrap();
    bench.tick(5 * second);
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.restart();
    assert_eq!(bench.status(&study).elapsed, 15 * second);
    let (worker, _) = bench.rejoin(WorkerBuilder::trainer(), vec![lease.attempt]);
    bench.tick(2 * second);
    bench.finish(worker, &lease);
    bench.tick(50 * second);
    assert_eq!(bench.status(&study).elapsed, 17 * second);
    bench.restart();
    bench.tick(50 * second);
    assert_eq!(bench.status(&study).elapsed, 17 * second);
}

/// Records have whole milliseconds, but the time between two of them is often less.
#[test]
fn elapsed_time_runs_with_the_clock_however_many_records_there_are() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(400));
    let worker = bench.join(WorkerBuilder::trainer());
    let begin = bench.now;
    for _ in 0..100 {
        bench.now = bench.now.after(Duration::from_micros(700));
        let lease = bench.lease(worker);
        bench.now = bench.now.after(Duration::from_micros(700));
        bench.finish(worker, &lease);
    }
    let elapsed = bench.status(&study).elapsed;
    assert_eq!(elapsed.as_millis(), bench.now.since(begin).as_millis());
    // A restart may lose the part of a millisecond.
    bench.restart();
    assert!(elapsed.saturating_sub(bench.status(&study).elapsed) <= Duration::from_millis(1));
}

#[test]
fn records_with_a_gap_are_refused() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s"));
    let worker = bench.join(WorkerBuilder::trainer());
    bench.lease(worker);
    let restore = |records: &[Record]| Core::restore(CONFIG, records.to_vec(), Time::default());
    let all = bench.records.clone();
    for skipped in 0..all.len() {
        if matches!(all[skipped], Record::WorkerIdsReserved { .. }) {
            continue;
        }
        let mut records = all.clone();
        records.remove(skipped);
        if skipped + 1 < all.len() {
            let error = restore(&records).err().expect("a record that contradicts the state");
            assert!(error.index >= skipped, "{error}");
        }
    }
    let mut twice = all.clone();
    twice.push(all[0].clone());
    assert_eq!(restore(&twice).err().unwrap().index, all.len());
    let (task, attempt) = (TaskId(99), AttemptId(99));
    let ending = AttemptEnding::Lost;
    let mut foreign = all.clone();
    let of = study.clone();
    foreign.push(Record::AttemptEnded { study: of, task, attempt, ending, elapsed_ms: 0 });
    assert!(restore(&foreign).is_err());
    // What is wrong is said with the study.
    let mut unknown = all;
    unknown.push(Record::TrialPromoted { study, number: TrialNumber(7), task });
    let reason = restore(&unknown).err().unwrap().reason;
    assert_eq!(reason, "study s: there is no trial 7");
}
