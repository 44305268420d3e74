//! Studies whose trials are looked up in a table.

use edgesmith_common::TrialState;

use super::super::*;
use super::builders::*;

/// What a lease asks a worker to look up: trial and rung.
fn look_up(lease: &Lease) -> (u32, Option<u32>) {
    match &lease.work {
        Work::LookUpTrial { number, rung, .. } => (number.0, *rung),
        other => panic!("{other:?}"),
    }
}

#[test]
fn look_ups_go_to_workers_that_read_tables_and_complete_their_trials_at_once() {
    let mut bench = Bench::new();
    let study = bench.submit_table("nb", "trials = 3");
    let trainer = bench.join(WorkerBuilder::both());
    bench.assert_no_work(trainer);
    let status = bench.status(&study);
    assert!(status.missing_table && !status.missing_trainer, "{status:?}");
    assert!(status.missing_targets.is_empty(), "latencies come from the table");
    let reader = bench.join(WorkerBuilder::reader());
    for number in 0..3 {
        let lease = bench.lease(reader);
        assert!(matches!(lease.work, Work::LookUpTrial { .. }), "{lease:?}");
        bench.finish(reader, &lease);
        let trial = bench.trial(&study, number);
        assert_eq!((&trial.state, trial.attempts), (&TrialState::Complete, 1));
        assert!((trial.values.unwrap().figures().training_seconds() - 100.0).abs() < 1e-12);
    }
    let status = bench.status(&study);
    assert_eq!((status.state, status.front_size), (StudyState::Complete { reason: None }, 3));
    assert!(!status.missing_table);
    bench.restart();
    bench.assert_silent();
}

#[test]
fn a_table_reader_trains_nothing() {
    let mut bench = Bench::new();
    bench.submit(StudyBuilder::new("s"));
    let reader = bench.join(WorkerBuilder::reader());
    bench.assert_no_work(reader);
}

#[test]
fn simulated_seconds_end_a_study_after_the_look_up_that_used_them_up() {
    let mut bench = Bench::new();
    let study = bench.submit_table("nb", "simulated_seconds = 250");
    let reader = bench.join(WorkerBuilder::reader());
    for _ in 0..3 {
        let lease = bench.lease(reader);
        bench.finish(reader, &lease);
    }
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!(status.counts.complete, 3);
    bench.restart();
}

#[test]
fn invalid_figures_or_a_missing_objective_are_failed_attempts() {
    let mut bench = Bench::new();
    let study = bench.submit_table("nb", "trials = 1, max_attempts = 9");
    let reader = bench.join(WorkerBuilder::reader());
    let good = figures(edgesmith_common::TrialNumber(0));
    let with = |of: &str, value: f64| good.clone().with(of.parse().unwrap(), value);
    let without = |of: &str| {
        let mut figures = good.clone();
        figures.remove(&of.parse().unwrap());
        figures
    };
    let wrong = [
        with("validation_accuracy", 98.0),
        with("accuracy@t", f64::NAN),
        with("latency_ms@pixel3", -1.0),
        with("latency_ms@pixel3", 0.0),
        with("latency_ms@pixel3", 1e308),
        with("training_seconds", f64::INFINITY),
        without("latency_ms@pixel3"),
        without("training_seconds"),
    ];
    for figures in wrong {
        let lease = bench.lease(reader);
        bench.report(reader, &lease, Outcome::LookedUp(figures));
        assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
    }
}

#[test]
fn look_ups_stop_at_the_tables_rungs_and_the_best_are_looked_up_to_the_end() {
    let mut bench = Bench::new();
    let random = "name = \"random\"";
    let study = bench.submit_table_with_rungs("nb", "trials = 9", "asha", random);
    let mut reader = bench.join(WorkerBuilder::reader());
    let mut work = Vec::new();
    loop {
        let to = bench.wait(reader);
        let Some(Ok(Answer::Leased(lease))) = bench.take(to) else { break };
        let (number, rung) = look_up(&lease);
        work.push((number, rung));
        match rung {
            // Every third trial is good, and later ones are better.
            Some(epochs) => {
                let good = if number % 3 == 2 { 0.5 } else { 0.0 };
                let report = looked_up_rung(epochs, good + f64::from(number) / 100.0);
                assert!(bench.report(reader, &lease, Outcome::RungReached(report)));
            }
            None => bench.finish(reader, &lease),
        }
        // A promoted trial waits for any worker that reads tables, and a restart keeps it.
        bench.restart();
        reader = bench.join(WorkerBuilder::reader());
    }
    let first: Vec<(u32, Option<u32>)> = work.iter().copied().filter(|w| w.1 == Some(3)).collect();
    assert_eq!(first, (0..9).map(|number| (number, Some(3))).collect::<Vec<_>>());
    let further: Vec<_> = work.into_iter().filter(|w| w.1 != Some(3)).collect();
    assert_eq!(further, [(2, Some(9)), (5, Some(9)), (8, Some(9)), (8, None)]);
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!((status.counts.complete, status.counts.pruned), (1, 8));
    assert_eq!(bench.trial(&study, 8).state, TrialState::Complete);
    let trial = bench.trial(&study, 5);
    assert_eq!(trial.state, TrialState::Pruned);
    let rungs: Vec<u32> = trial.rungs.iter().map(|report| report.epochs).collect();
    assert_eq!((rungs, trial.values), (vec![3, 9], None));
}

#[test]
fn a_trial_that_goes_on_from_a_rung_waits_for_a_table_reader() {
    let mut bench = Bench::new();
    let random = "name = \"random\"";
    let study = bench.submit_table_with_rungs("nb", "trials = 1", "asha", random);
    let reader = bench.join(WorkerBuilder::reader());
    let lease = bench.lease(reader);
    bench.finish(reader, &lease);
    bench.ask(|to| Event::Leave { to, worker: reader }).unwrap();
    let trainer = bench.join(WorkerBuilder::both());
    bench.assert_no_work(trainer);
    let status = bench.status(&study);
    assert!(status.missing_table && !status.missing_trainer, "{status:?}");
    let reader = bench.join(WorkerBuilder::reader());
    assert_eq!(look_up(&bench.lease(reader)), (0, Some(9)));
}

#[test]
fn simulated_seconds_at_rungs_are_counted_once_per_trial() {
    // The first trial takes 3 seconds to its first rung, 9 to its second and 100 to its end. So a
    // budget of 101 seconds has one left, and a budget of 100 has none.
    for (budget, proposed) in [(100, 1), (101, 2)] {
        let mut bench = Bench::new();
        let budget = format!("simulated_seconds = {budget}");
        let random = "name = \"random\"";
        let study = bench.submit_table_with_rungs("nb", &budget, "median", random);
        let reader = bench.join(WorkerBuilder::reader());
        for expected in [(0, Some(3)), (0, Some(9)), (0, None)] {
            let lease = bench.lease(reader);
            assert_eq!(look_up(&lease), expected);
            bench.finish(reader, &lease);
        }
        if proposed == 2 {
            assert_eq!(look_up(&bench.lease(reader)), (1, Some(3)));
        } else {
            bench.assert_no_work(reader);
            assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
        }
        assert_eq!(bench.trial_states(&study).len(), proposed);
        bench.restart();
    }
    // The seconds of a rung can also end proposals; trials at that rung then still go on.
    let mut bench = Bench::new();
    let random = "name = \"random\"";
    let study = bench.submit_table_with_rungs("nb", "simulated_seconds = 5", "asha", random);
    let reader = bench.join(WorkerBuilder::reader());
    for expected in [(0, Some(3)), (1, Some(3))] {
        let lease = bench.lease(reader);
        assert_eq!(look_up(&lease), expected);
        bench.finish(reader, &lease);
    }
    for rung in [Some(9), None] {
        let lease = bench.lease(reader);
        assert_eq!(look_up(&lease).1, rung);
        bench.finish(reader, &lease);
    }
    let counts = bench.status(&study).counts;
    assert_eq!((counts.complete, counts.pruned), (1, 1));
}

#[test]
fn figures_of_another_rung_are_a_failed_attempt() {
    let mut bench = Bench::new();
    let random = "name = \"random\"";
    let budget = "trials = 1, max_attempts = 9";
    let study = bench.submit_table_with_rungs("nb", budget, "asha", random);
    let reader = bench.join(WorkerBuilder::reader());
    let wrong = [
        Outcome::LookedUp(figures(edgesmith_common::TrialNumber(0))),
        Outcome::RungReached(looked_up_rung(9, 0.5)),
        Outcome::RungReached(looked_up_rung(3, 50.0)),
    ];
    for outcome in wrong {
        let lease = bench.lease(reader);
        bench.report(reader, &lease, outcome);
        let trial = bench.trial(&study, 0);
        assert_eq!((trial.state, trial.rungs.len()), (TrialState::Waiting, 0));
    }
}

#[test]
fn every_algorithm_runs_a_table_study_with_rungs_to_its_end() {
    for name in edgesmith_common::spec::AlgorithmSpec::NAMES {
        for rule in ["asha", "median", "curve"] {
            let mut bench = Bench::new();
            let algorithm = format!("name = \"{name}\"");
            let study = bench.submit_table_with_rungs("nb", "trials = 30", rule, &algorithm);
            let reader = bench.join(WorkerBuilder::reader().slots(3));
            while !bench.status(&study).state.is_ended() {
                let to = [0; 3].map(|_| bench.wait(reader));
                let mut leases = Vec::new();
                for to in to {
                    match bench.take(to) {
                        Some(Ok(Answer::Leased(lease))) => leases.push(*lease),
                        _ => bench.abandon(to),
                    }
                }
                assert!(
                    !leases.is_empty(),
                    "{name} with {rule} has no work left but has not ended"
                );
                // Finish the latest leases first.
                for lease in leases.iter().rev() {
                    bench.finish(reader, lease);
                }
            }
            let counts = bench.status(&study).counts;
            assert_eq!(counts.complete + counts.pruned, 30, "{name}");
            assert!(counts.complete >= 1 && counts.pruned >= 5, "{name}: {counts:?}");
            bench.restart();
        }
    }
}
