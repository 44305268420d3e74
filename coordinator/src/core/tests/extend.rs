//! Larger budgets, hours, and studies that are submitted again.

use std::time::Duration;

use edgesmith_common::{Fault, StudySpec};

use super::super::*;
use super::builders::*;

/// Runs one trial to its end.
fn run_one(bench: &mut Bench) {
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    assert_eq!(bench.ask(|to| Event::Leave { to, worker }), Ok(Answer::Left));
}

#[test]
fn a_complete_study_goes_on_with_a_larger_budget() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1));
    run_one(&mut bench);
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
    for trials in [0, 1] {
        let refused = bench.extend(&study, Some(trials), None).unwrap_err().to_string();
        assert!(refused.contains("budget.trials of study s is 1 already"), "{refused}");
    }
    assert_eq!(bench.extend(&study, Some(2), None), Ok(Answer::Extended));
    let status = bench.status(&study);
    assert_eq!((status.state, status.budget_trials), (StudyState::Running, 2));
    bench.restart();
    run_one(&mut bench);
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!(status.counts.complete, 2);
    // Workers and statuses get the study with its new budget.
    let resolved = StudySpec::from_resolved(&status.resolved_study).unwrap();
    assert_eq!(resolved.budget.trials, 2);
    bench.restart();
}

#[test]
fn an_extended_study_proposes_again_whatever_kept_it_from_that() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).constraint("macs", NO_NUMBER));
    let worker = bench.join(WorkerBuilder::trainer());
    bench.assert_no_work(worker);
    let status = bench.status(&study);
    assert_eq!(status.state.name(), "failed");
    let infeasible = status.counts.infeasible;
    bench.extend(&study, Some(2), None).unwrap();
    bench.assert_no_work(worker);
    let status = bench.status(&study);
    assert_eq!((status.state.name(), status.counts.infeasible), ("failed", 2 * infeasible));
    bench.restart();
}

#[test]
fn a_cancelled_study_cannot_be_extended() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1));
    bench.steer(&study, Action::Cancel).unwrap();
    let refused = bench.extend(&study, Some(2), None);
    assert_eq!(refused, Err(Refusal::Ended { study, state: "cancelled" }));
    let larger = StudyBuilder::new("s").trials(2).build();
    let refused = bench.ask(|to| submission(to, larger, None));
    assert!(matches!(refused, Err(Refusal::Ended { .. })), "{refused:?}");
}

#[test]
fn an_extended_study_that_ended_without_its_data_reads_them_again() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").files().teacher().trials(1).attempts(1));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Attempt);
    bench.extend(&study, Some(2), None).unwrap();
    for _ in 0..4 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    assert_eq!(bench.status(&study).counts.complete, 2);
}

#[test]
fn a_file_with_a_larger_budget_extends_the_study() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").trials(1);
    let study = bench.submit(builder.clone());
    run_one(&mut bench);
    let mut submit = |trials| {
        let spec = builder.clone().trials(trials).build();
        bench.ask(|to| submission(to, spec, None))
    };
    let answer = |now| match submitted_again(&study) {
        Answer::Submitted { study, created, replaced, reread, start, .. } => {
            Ok(Answer::Submitted { study, created, extended: now, replaced, reread, start })
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(submit(1), answer(false));
    assert_eq!(submit(3), answer(true));
    assert_eq!(submit(3), answer(false));
    let refused = submit(2).unwrap_err().to_string();
    let said = "another study is already named s, and it differs from this one in budget.trials: \
                3 -> 2; a budget can only become larger";
    assert_eq!(refused, said);
    assert_eq!(bench.status(&study).budget_trials, 3);
    bench.restart();
    // After an extension by command, the file still describes the same study.
    bench.extend(&study, Some(9), None).unwrap();
    let spec = builder.clone().trials(3).build();
    assert_eq!(bench.ask(|to| submission(to, spec, None)), answer(false));
    let spec = builder.trials(9).build();
    assert_eq!(bench.ask(|to| submission(to, spec, None)), answer(false));
    assert_eq!(bench.status(&study).budget_trials, 9);
}

#[test]
fn a_study_is_the_same_if_only_its_text_differs() {
    let mut bench = Bench::new();
    let text = StudyBuilder::new("s").build().source().to_owned();
    bench.submit(StudyBuilder::new("s"));
    let text = format!("# a comment\r\n{}", text.replace("resolution = [8]", "resolution = 8"));
    let spec = StudySpec::parse(&text).unwrap();
    let again = bench.ask(|to| submission(to, spec, None));
    assert!(matches!(again, Ok(Answer::Submitted { created: false, extended: false, .. })));
    assert_eq!(bench.records.len(), 1);
}

#[test]
fn a_study_on_other_data_is_not_offered_as_a_start() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("s"));
    run_one(&mut bench);
    let spec = StudyBuilder::new("s").files().build();
    let refused = bench.ask(|to| submission(to, spec, None)).unwrap_err().to_string();
    assert!(refused.contains("data.") && !refused.contains("start_from"), "{refused}");
}

#[test]
fn hours_end_proposals_and_let_running_trials_finish() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(9).hours("0.5"));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    let half = Duration::from_secs(1800);
    assert_eq!(bench.status(&study).budget_hours, Some(0.5));
    // A pause does not count.
    bench.steer(&study, Action::Pause).unwrap();
    bench.tick(Duration::from_secs(1));
    bench.steer(&study, Action::Resume).unwrap();
    for _ in 0..(1800 / 20 - 1) {
        bench.tick(Duration::from_secs(20));
        assert_eq!(bench.heartbeat(worker, &[lease.attempt]), vec![]);
    }
    let more = bench.join(WorkerBuilder::trainer());
    let other = bench.lease(more);
    assert!(bench.core.next_deadline() <= Some(bench.now.after(Duration::from_secs(20))));
    bench.tick(Duration::from_secs(20));
    assert_eq!(bench.status(&study).elapsed, half);
    bench.finish(worker, &lease);
    bench.assert_no_work(worker);
    bench.finish(more, &other);
    let status = bench.status(&study);
    let reason = Some("its budget of 0.5 hours is used up".to_owned());
    assert_eq!(status.state, StudyState::Complete { reason });
    assert_eq!(status.counts.complete, 2);
    bench.restart();

    for (hours, is) in [(0.5, "0.5"), (0.25, "0.5"), (f64::NAN, "0.5"), (f64::INFINITY, "0.5")] {
        let refused = bench.extend(&study, None, Some(hours)).unwrap_err().to_string();
        assert!(refused.contains(&format!("budget.hours of study s is {is} already")), "{refused}");
    }
    bench.extend(&study, None, Some(1.0)).unwrap();
    run_one(&mut bench);
    assert_eq!(bench.status(&study).state, StudyState::Running);
    // It ends on time, although nobody asks for work.
    bench.tick(half);
    assert_eq!(bench.status(&study).state.name(), "complete");
    let study = bench.submit(StudyBuilder::new("unlimited"));
    let refused = bench.extend(&study, None, Some(1.0)).unwrap_err().to_string();
    assert!(refused.contains("is unlimited already"), "{refused}");
}

#[test]
fn a_start_says_how_many_trials_fit_and_why_others_do_not() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("first").trials(2));
    run_one(&mut bench);
    run_one(&mut bench);
    let start = |bench: &mut Bench, builder: StudyBuilder| {
        let spec = builder.start_from("first").build();
        match bench.ask(|to| submission(to, spec, None)) {
            Ok(Answer::Submitted { start, .. }) => start,
            other => panic!("{other:?}"),
        }
    };
    let fits = start(&mut bench, StudyBuilder::new("a"));
    assert_eq!(fits, Start { imported: 2, ..Start::default() });
    let timed = start(&mut bench, StudyBuilder::new("b").device("local"));
    let left_out = [("it has no latency_ms@local".to_owned(), 2)].into();
    assert_eq!(timed, Start { left_out, ..Start::default() });
    let narrow = start(&mut bench, StudyBuilder::new("c").tiny_space());
    assert_eq!(narrow.imported + narrow.left_out.values().sum::<u32>(), 2);
}
