//! Candidates that are ruled out by latency predictions.

use edgesmith_common::{StudyName, TrialState};
use edgesmith_graph::Node;
use edgesmith_search_space::Space;

use super::super::*;
use super::builders::*;

/// A latency limit in milliseconds, between the fastest and the slowest networks of the builder's
/// space.
const LIMIT: f64 = 0.8;

/// The latency of a network on the simulated device, milliseconds, without the noise of timing.
fn on_the_device(bench: &Bench, study: &StudyName, number: u32) -> f64 {
    let space = bench.core.space(study).unwrap();
    let Space::Staged(staged) = &space else { panic!("a space of networks") };
    let candidate = staged.decode(&bench.trial(study, number).genotype);
    let network = candidate.pruned_graph(staged.data()).unwrap();
    let multiply = |node: &Node| {
        // It computes eight channels at a time.
        let channels = u64::from(network.shape(node.output).channels());
        4e-6 * (network.macs(node) / channels * channels.next_multiple_of(8)) as f64
    };
    let multiplications = network.nodes().map(|(_, node)| multiply(node)).sum::<f64>();
    0.1 + multiplications + 1e-5 * network.cost().parameters as f64
}

fn limited(bound: f64) -> StudyBuilder {
    let limit = format!("device = \"pi\"\nmax = {bound}");
    StudyBuilder::new("s").trials(60).device("pi").constraint("latency_ms", &limit)
}

/// Trains and measures `count` trials one after the other.
fn go_on(bench: &mut Bench, study: &StudyName, count: usize) {
    let trainer = bench.join(WorkerBuilder::trainer());
    let timer = bench.join(WorkerBuilder::measurer("pi"));
    for _ in 0..count {
        let lease = bench.lease(trainer);
        let Work::TrainTrial { number, .. } = lease.work else { panic!("{lease:?}") };
        bench.finish(trainer, &lease);
        let ms = on_the_device(bench, study, number.0);
        let noise = 1.0 + 0.02 * f64::from(number.0 * 7 % 5) - 0.04;
        let timing = bench.lease(timer);
        let measured = Outcome::Measured(measurement(&class("pi"), ms * noise));
        assert!(bench.report(timer, &timing, measured));
    }
    for worker in [trainer, timer] {
        bench.ask(|to| Event::Leave { to, worker }).unwrap();
    }
}

/// Numbers of the trials that were ruled out, with the reasons.
fn ruled_out(bench: &Bench, study: &StudyName) -> Vec<(u32, String)> {
    let states = bench.trial_states(study).into_iter().zip(0..);
    let reasons = states.filter_map(|(state, number)| match state {
        TrialState::Infeasible { reason } => Some((number, reason)),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn too_slow_candidates_are_not_trained_once_enough_was_measured() {
    let mut bench = Bench::new();
    let study = bench.submit(limited(LIMIT));
    go_on(&mut bench, &study, 20);
    // Only from the next proposal on there are enough measurements for a prediction.
    assert_eq!(bench.trial_states(&study).len(), 20);
    assert_eq!(ruled_out(&bench, &study), []);
    let too_slow = (0..20).filter(|n| on_the_device(&bench, &study, *n) > LIMIT).count();
    assert!((3..18).contains(&too_slow), "{too_slow} of 20 are too slow");
    go_on(&mut bench, &study, 40);
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!(status.counts.complete, 60);

    let out = ruled_out(&bench, &study);
    assert!(out.len() >= 5, "{out:?}");
    for (number, reason) in &out {
        let begin = "predicted latency_ms on pi is ";
        let middle = ", above the limit of 0.8 (from ";
        assert!(reason.starts_with(begin) && reason.contains(middle), "{reason}");
        assert!(reason.ends_with(" measurements)"), "{reason}");
        let ms = on_the_device(&bench, &study, *number);
        assert!(ms > LIMIT, "trial {number} takes {ms}: {reason}");
        assert_eq!(bench.trial(&study, *number).attempts, 0);
    }
    // Of the trained trials only those that are trained whatever their prediction are far too slow.
    let trials = 20..bench.trial_states(&study).len() as u32;
    let trained = trials.filter(|n| out.iter().all(|(ruled_out, _)| ruled_out != n));
    let far: Vec<u32> =
        trained.filter(|n| on_the_device(&bench, &study, *n) > 1.3 * LIMIT).collect();
    assert!(!far.is_empty() && far.iter().all(|n| n % 10 == 9), "{far:?}");

    let [prediction] = status.predictions.as_slice() else { panic!("{:?}", status.predictions) };
    assert_eq!((&prediction.target, prediction.limit_ms), (&target("pi"), LIMIT));
    assert_eq!((prediction.measurements, prediction.predicted), (60, 40));
    assert!((36..=40).contains(&prediction.within_tenth), "{prediction:?}");
    assert_eq!(prediction.trainings_saved as usize, out.len());
    assert_eq!(status.counts.infeasible as usize, out.len());
}

#[test]
fn wrong_predictions_are_counted() {
    let mut bench = Bench::new();
    let study = bench.submit(limited(1e9));
    go_on(&mut bench, &study, 30);
    let [before] = &bench.status(&study).predictions[..] else { panic!() };
    assert_eq!((before.predicted, before.within_tenth), (10, 10));
    // The device is throttled: predictions are off until most measurements are from the throttled
    // device.
    let trainer = bench.join(WorkerBuilder::trainer());
    let timer = bench.join(WorkerBuilder::measurer("pi"));
    for _ in 0..5 {
        let lease = bench.lease(trainer);
        bench.finish(trainer, &lease);
        let number = bench.trial_states(&study).len() as u32 - 1;
        let ms = 3.0 * on_the_device(&bench, &study, number);
        let timing = bench.lease(timer);
        bench.report(timer, &timing, Outcome::Measured(measurement(&class("pi"), ms)));
    }
    let [after] = &bench.status(&study).predictions[..] else { panic!() };
    assert_eq!((after.measurements, after.predicted, after.within_tenth), (35, 15, 10));
    assert_eq!(after.trainings_saved, 0);
}

#[test]
fn a_restart_keeps_all_predictions() {
    let genotypes = |restarts: bool| {
        let mut bench = Bench::new();
        let study = bench.submit(limited(LIMIT));
        for _ in 0..6 {
            go_on(&mut bench, &study, 10);
            if restarts {
                let before = bench.status(&study).predictions;
                bench.restart();
                assert_eq!(bench.status(&study).predictions, before);
            }
        }
        assert!(bench.status(&study).predictions[0].trainings_saved > 0);
        let trials = bench.core.trials(&study).unwrap();
        trials.into_iter().map(|trial| (trial.genotype, trial.state)).collect::<Vec<_>>()
    };
    assert_eq!(genotypes(true), genotypes(false));
}

#[test]
fn predictions_can_be_turned_off() {
    let mut bench = Bench::new();
    let study = bench.submit(limited(LIMIT).measurement("predict = false"));
    go_on(&mut bench, &study, 60);
    let status = bench.status(&study);
    assert_eq!((status.counts.complete, status.counts.infeasible), (60, 0));
    assert_eq!(status.predictions, []);
    // Without an upper limit nothing is predicted either.
    for builder in [
        StudyBuilder::new("a").device("pi"),
        StudyBuilder::new("b").constraint("latency_ms", "device = \"pi\"\nmin = 1"),
    ] {
        let study = bench.submit(builder);
        assert_eq!(bench.status(&study).predictions, []);
    }
}

#[test]
fn a_limit_that_nothing_meets_does_not_starve_a_study() {
    let mut bench = Bench::new();
    let study = bench.submit(limited(0.01).trials(28));
    go_on(&mut bench, &study, 28);
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!(status.counts.complete, 28);
    // Of each ten trials only the last was trained.
    assert_eq!(status.counts.infeasible, 72);
    assert_eq!(status.predictions[0].trainings_saved, status.counts.infeasible);
}

#[test]
fn each_device_has_its_own_limit() {
    let mut bench = Bench::new();
    let builder = limited(5.0).constraint("latency_ms", "device = \"pi\"\nmax = 2");
    let builder = builder.constraint("latency_ms", "device = \"board\"\nmax = 3");
    let study = bench.submit(builder.device("phone"));
    let limits = |study: &StudyView| -> Vec<(Target, f64)> {
        study.predictions.iter().map(|p| (p.target.clone(), p.limit_ms)).collect()
    };
    let expected = vec![(target("board"), 3.0), (target("pi"), 2.0)];
    assert_eq!(limits(&bench.status(&study)), expected);
}
