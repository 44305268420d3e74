//! How trials and teachers get from task to task, and how they fail.

use edgesmith_common::{
    ArtifactHash, Fault, Fp32Timing, LayerTimes, Noise, ScopedMetric, Split, TrialState, Waiting,
};

use super::super::*;
use super::builders::*;

#[test]
fn a_trial_is_complete_when_every_device_has_measured_it() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).device("pi").device("board"));
    let trainer = bench.join(WorkerBuilder::trainer());
    let train = bench.lease(trainer);
    bench.finish(trainer, &train);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
    bench.assert_no_work(trainer);
    for (on, measured) in [("board", 0), ("pi", 1)] {
        let worker = bench.join(WorkerBuilder::measurer(on));
        assert_eq!(bench.trial(&study, 0).measurements().len(), measured);
        let lease = bench.lease(worker);
        let model = ArtifactHash::of(format!("model {}", train.attempt).as_bytes());
        let number = Some(edgesmith_common::TrialNumber(0));
        assert_eq!(lease.work, Work::MeasureModel { model, number, target: target(on) });
        bench.assert_no_work(worker);
        bench.restart();
        let (worker, _) = bench.rejoin(WorkerBuilder::measurer(on), vec![lease.attempt]);
        assert_eq!(bench.trial(&study, 0).state, TrialState::Running);
        bench.finish(worker, &lease);
    }
    let trial = bench.trial(&study, 0);
    assert_eq!(
        (trial.state.clone(), trial.measurements().len(), trial.attempts),
        (TrialState::Complete, 2, 3)
    );
    assert_eq!(bench.status(&study).state, StudyState::Complete { reason: None });
}

#[test]
fn students_wait_for_the_teacher_and_get_its_soft_targets() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).teacher().device("local"));
    let a = bench.join(WorkerBuilder::both());
    let b = bench.join(WorkerBuilder::both());
    let teacher = bench.lease(a);
    assert_eq!(teacher.work, Work::TrainTeacher { weights: None });
    let waits = bench.wait(b);
    assert_eq!(bench.take(waits), None);
    assert_eq!(bench.status(&study).counts, TrialCounts::default());
    bench.finish(a, &teacher);
    let targets = ArtifactHash::of(format!("targets {}", teacher.attempt).as_bytes());
    let view = bench.status(&study).teacher.unwrap();
    assert_eq!((view.soft_targets, view.measurements.len()), (Some(targets), 0));
    // Measuring comes before training.
    let timing = bench.leased(waits);
    assert!(matches!(timing.work, Work::MeasureModel { number: None, .. }));
    let student = bench.lease(a);
    let Work::TrainTrial { soft_targets, .. } = student.work else { panic!("{student:?}") };
    assert_eq!(soft_targets, Some(targets));
    bench.finish(a, &student);
    let measure = bench.lease(a);
    bench.finish(a, &measure);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Complete);
    // The study ends only when the teacher has been measured, so that students can be compared with
    // it.
    assert_eq!(bench.status(&study).state, StudyState::Running);
    bench.restart();
    let b = bench.join(WorkerBuilder::both());
    bench.finish(b, &timing);
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!(status.teacher.unwrap().measurements.len(), 1);
}

#[test]
fn students_of_given_logits_wait_for_nobody_and_get_the_file() {
    let mut bench = Bench::new();
    let (study, file) = (StudyBuilder::new("s").trials(1).logits(), ArtifactHash::of(b"logits"));
    let (spec, name) = (study.build(), "s".parse::<StudyName>().unwrap());
    let missing = bench.ask(|to| submission(to, spec.clone(), None));
    assert!(matches!(missing, Err(Refusal::TeacherWeights(_))), "{missing:?}");
    bench.ask(|to| submission(to, spec.clone(), Some(file))).unwrap();
    let view = bench.status(&name).teacher.unwrap();
    assert_eq!(view.architecture, "the logits in logits.npy");
    assert_eq!((view.trained, view.soft_targets), (None, Some(file)));
    let worker = bench.join(WorkerBuilder::trainer());
    let student = bench.lease(worker);
    let Work::TrainTrial { soft_targets, .. } = student.work else { panic!("{student:?}") };
    assert_eq!(soft_targets, Some(file));
    let other = bench.ask(|to| submission(to, spec, Some(ArtifactHash::of(b"other"))));
    let other = other.unwrap_err().to_string();
    assert!(other.contains("the bytes of teacher.logits"), "{other}");
    bench.finish(worker, &student);
    assert_eq!(bench.status(&name).state, StudyState::Complete { reason: None });
    bench.restart();
}

#[test]
fn a_teacher_that_cannot_be_trained_fails_the_study() {
    for fault in [Fault::Attempt, Fault::Candidate] {
        let mut bench = Bench::new();
        let study = bench.submit(StudyBuilder::new("s").teacher().attempts(2));
        let worker = bench.join(WorkerBuilder::trainer());
        let first = bench.lease(worker);
        bench.fail(worker, &first, fault);
        if fault == Fault::Attempt {
            assert_eq!(bench.status(&study).state, StudyState::Running);
            let second = bench.lease(worker);
            bench.fail(worker, &second, Fault::Attempt);
        }
        let StudyState::Failed { reason } = bench.status(&study).state else { panic!() };
        assert!(reason.contains("teacher") && reason.contains("it broke"), "{reason}");
        bench.restart();
    }
}

#[test]
fn a_teacher_that_cannot_be_timed_blocks_nothing() {
    let mut bench = Bench::new();
    let study =
        bench.submit(StudyBuilder::new("s").trials(1).attempts(1).teacher().device("local"));
    let worker = bench.join(WorkerBuilder::both());
    let teacher = bench.lease(worker);
    bench.finish(worker, &teacher);
    let timing = bench.lease(worker);
    bench.fail(worker, &timing, Fault::Attempt);
    for _ in 0..2 {
        let lease = bench.lease(worker);
        assert!(!matches!(lease.work, Work::MeasureModel { number: None, .. }));
        bench.finish(worker, &lease);
    }
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!(status.teacher.unwrap().measurements, vec![]);
    bench.restart();
}

#[test]
fn failed_attempts_are_tried_again_until_they_are_used_up() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(2).attempts(3));
    let worker = bench.join(WorkerBuilder::trainer());
    for attempt in 1..=3 {
        let lease = bench.lease(worker);
        bench.fail(worker, &lease, Fault::Attempt);
        let trial = bench.trial(&study, 0);
        assert_eq!(trial.attempts, attempt);
        match attempt {
            3 => assert_eq!(trial.state, TrialState::Failed { reason: "it broke".to_owned() }),
            _ => assert_eq!(trial.state, TrialState::Waiting),
        }
    }
    // A failed trial used its share of the budget.
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    let status = bench.status(&study);
    assert_eq!(status.state, StudyState::Complete { reason: None });
    assert_eq!((status.counts.complete, status.counts.failed), (1, 1));
    bench.restart();
}

#[test]
fn a_candidate_that_cannot_work_is_infeasible_at_once_and_replaced() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).attempts(3));
    let worker = bench.join(WorkerBuilder::trainer());
    let lease = bench.lease(worker);
    bench.fail(worker, &lease, Fault::Candidate);
    let state = bench.trial(&study, 0).state;
    assert_eq!(state, TrialState::Infeasible { reason: "it broke".to_owned() });
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    let status = bench.status(&study);
    assert_eq!((status.counts.complete, status.counts.infeasible), (1, 1));
    assert_eq!(status.state, StudyState::Complete { reason: None });
}

#[test]
fn a_study_in_which_no_candidate_works_ends() {
    // The limit is the greater of the budget and the configured number of trials in a row.
    for (trials, most) in [(1, CONFIG.max_hopeless), (5, 5)] {
        let mut bench = Bench::new();
        let study = bench.submit(StudyBuilder::new("s").trials(trials));
        let worker = bench.join(WorkerBuilder::trainer());
        for _ in 0..most {
            assert_eq!(bench.status(&study).state, StudyState::Running);
            let lease = bench.lease(worker);
            bench.fail(worker, &lease, Fault::Candidate);
        }
        let status = bench.status(&study);
        let StudyState::Failed { reason } = status.state else { panic!("{:?}", status.state) };
        assert!(reason.contains(&format!("{most} trials in a row")), "{reason}");
        assert!(reason.contains("it broke"), "{reason}");
        assert_eq!(status.counts.infeasible, most);
        bench.restart();
    }
}

#[test]
fn infeasible_trials_count_only_in_a_row_and_across_restarts() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(3));
    let mut worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..2 {
        for _ in 1..CONFIG.max_hopeless {
            let lease = bench.lease(worker);
            bench.fail(worker, &lease, Fault::Candidate);
        }
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    let spoiled = bench.lease(worker);
    bench.fail(worker, &spoiled, Fault::Candidate);
    bench.restart();
    for _ in 1..CONFIG.max_hopeless {
        assert_eq!(bench.status(&study).state, StudyState::Running);
        worker = bench.join(WorkerBuilder::trainer());
        let lease = bench.lease(worker);
        bench.fail(worker, &lease, Fault::Candidate);
    }
    let StudyState::Complete { reason: Some(reason) } = bench.status(&study).state else {
        panic!("{:?}", bench.status(&study).state)
    };
    assert!(reason.contains("it broke"), "{reason}");
    assert_eq!(bench.status(&study).counts.complete, 2);
    bench.restart();
}

#[test]
fn lost_workers_fail_no_trial_but_a_candidate_that_kills_them_ends() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).attempts(1));
    for lost in 1..=CONFIG.max_lost {
        assert!(!bench.trial_states(&study).iter().any(TrialState::is_finished));
        let worker = bench.join(WorkerBuilder::trainer());
        bench.lease(worker);
        bench.tick(LEASE);
        assert_eq!(bench.trial(&study, 0).attempts, lost);
        if lost < CONFIG.max_lost {
            bench.restart();
        }
    }
    let TrialState::Failed { reason } = bench.trial(&study, 0).state else { panic!() };
    assert!(reason.contains("lost"), "{reason}");
}

#[test]
fn a_trial_that_fails_on_one_device_stops_on_the_others() {
    let mut bench = Bench::new();
    let builder = StudyBuilder::new("s").trials(2).attempts(1).device("pi").device("board");
    let study = bench.submit(builder);
    let trainer = bench.join(WorkerBuilder::trainer());
    let train = bench.lease(trainer);
    bench.finish(trainer, &train);
    let pi = bench.join(WorkerBuilder::measurer("pi"));
    let board = bench.join(WorkerBuilder::measurer("board"));
    let (on_pi, on_board) = (bench.lease(pi), bench.lease(board));
    bench.fail(pi, &on_pi, Fault::Attempt);
    let trial = bench.trial(&study, 0);
    assert!(matches!(trial.state, TrialState::Failed { .. }));
    // The values that are known of it are kept.
    assert!(trial.trained().is_some());
    assert_eq!(bench.heartbeat(board, &[on_board.attempt]), vec![on_board.attempt]);
    assert!(!bench.report(board, &on_board, success(&on_board, &class("board"))));
    assert_eq!(bench.trial(&study, 0).measurements(), []);
    bench.assert_no_work(board);
    bench.restart();
}

/// A result of training that lacks a figure.
fn without(lease: &Lease, of: ScopedMetric) -> Outcome {
    let mut trained = trained(lease.attempt, 0.5);
    trained.compressed.remove(&of);
    Outcome::TrialTrained(trained)
}

/// A result of training that counts more right images of a class than there are.
fn with_impossible_class(lease: &Lease) -> Outcome {
    let mut trained = trained(lease.attempt, 0.5);
    trained.stages[1].classes[0].right = 5;
    Outcome::TrialTrained(trained)
}

/// A result of training with a figure that no training yields.
fn with(lease: &Lease, of: ScopedMetric) -> Outcome {
    let mut trained = trained(lease.attempt, 0.5);
    trained.uncompressed.set(of, 0.5);
    Outcome::TrialTrained(trained)
}

#[test]
fn an_invalid_report_is_a_failed_attempt() {
    let nan = f64::NAN;
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(1).attempts(99).device("board"));
    let trainer = bench.join(WorkerBuilder::trainer());
    let board = class("board");
    for wrong in [
        |lease: &Lease| Outcome::TrialTrained(trained(lease.attempt, f64::NAN)),
        |lease: &Lease| Outcome::TrialTrained(trained(lease.attempt, 1.5)),
        |lease: &Lease| without(lease, Metric::TRAINING_SECONDS.whole()),
        |lease: &Lease| without(lease, Metric::IMAGES_SEEN.whole()),
        |lease: &Lease| without(lease, Metric::MODEL_BYTES.whole()),
        |lease: &Lease| without(lease, Metric::PEAK_MEMORY_BYTES.whole()),
        |lease: &Lease| without(lease, ScopedMetric::TEST_ACCURACY),
        |lease: &Lease| with(lease, Metric::LATENCY_MS.at(Target::on(class("board")))),
        |lease: &Lease| with(lease, Metric::ACCURACY.on(Split::HeldOut("x".into()))),
        with_impossible_class,
        |_: &Lease| Outcome::Measured(measurement(&class("board"), 1.0)),
    ] {
        let lease = bench.lease(trainer);
        assert!(bench.report(trainer, &lease, wrong(&lease)));
        assert_eq!(bench.trial(&study, 0).state, TrialState::Waiting);
    }
    let lease = bench.lease(trainer);
    bench.finish(trainer, &lease);
    let worker = bench.join(WorkerBuilder::measurer("board"));
    let other = "onnxruntime".parse().unwrap();
    const QUIET: Noise = Noise { noisy: false, spread: 0.0, waiting: None, timings: 1 };
    assert_eq!(QUIET.check(), Ok(()));
    let noisy =
        |noise| Outcome::Measured(Measurement { noise: Some(noise), ..measurement(&board, 1.0) });
    const ORIGINAL: Fp32Timing =
        Fp32Timing { p50_ms: 1.0, p95_ms: 1.0, min_ms: 1.0, noisy: false, energy_mj: None };
    let beside =
        |of| Outcome::Measured(Measurement { original: Some(of), ..measurement(&board, 1.0) });
    for wrong in [
        Outcome::Measured(measurement(&board, nan)),
        Outcome::Measured(measurement(&board, -1.0)),
        Outcome::Measured(measurement(&board, 0.0)),
        Outcome::Measured(measurement(&board, 1e308)),
        Outcome::Measured(Measurement { threads: 4, ..measurement(&board, 1.0) }),
        Outcome::Measured(Measurement { engine: other, ..measurement(&board, 1.0) }),
        Outcome::Measured(measurement(&class("pi"), 1.0)),
        noisy(Noise { spread: nan, ..QUIET }),
        noisy(Noise { spread: -0.1, ..QUIET }),
        noisy(Noise { waiting: Some(Waiting { share: 1.5, per_run: 0.0 }), ..QUIET }),
        noisy(Noise { waiting: Some(Waiting { share: 0.5, per_run: nan }), ..QUIET }),
        noisy(Noise { timings: 0, ..QUIET }),
        Outcome::Measured(Measurement { energy_mj: Some(-1.0), ..measurement(&board, 1.0) }),
        Outcome::Measured(Measurement { energy_mj: Some(nan), ..measurement(&board, 1.0) }),
        beside(Fp32Timing { p50_ms: 0.0, ..ORIGINAL }),
        Outcome::Measured(Measurement {
            slower_layers: vec![LayerTimes {
                layer: "stem".to_owned(),
                conversions: false,
                shipped_ms: nan,
                original_ms: 1.0,
            }],
            ..measurement(&board, 1.0)
        }),
        beside(Fp32Timing { energy_mj: Some(nan), ..ORIGINAL }),
        Outcome::Measured(Measurement {
            unquantized: Some(Fp32Timing { min_ms: 0.0, ..ORIGINAL }),
            ..measurement(&board, 1.0)
        }),
        Outcome::Measured(Measurement {
            slower_in_integers: vec![LayerTimes {
                layer: "stem".to_owned(),
                conversions: true,
                shipped_ms: -1.0,
                original_ms: 0.0,
            }],
            ..measurement(&board, 1.0)
        }),
        Outcome::TrialTrained(trained(lease.attempt, 0.5)),
    ] {
        let lease = bench.lease(worker);
        assert!(bench.report(worker, &lease, wrong));
        assert_eq!(bench.trial(&study, 0).measurements(), []);
    }
    let lease = bench.lease(worker);
    bench.finish(worker, &lease);
    assert_eq!(bench.trial(&study, 0).state, TrialState::Complete);
    bench.restart();
}

#[test]
fn proposals_are_the_same_with_and_without_restarts() {
    let run = |restarts: bool| {
        let mut bench = Bench::new();
        let study = bench.submit(StudyBuilder::new("s").trials(6));
        for _ in 0..6 {
            let worker = bench.join(WorkerBuilder::trainer());
            let lease = bench.lease(worker);
            bench.finish(worker, &lease);
            if restarts {
                bench.restart();
            }
        }
        let trials = bench.core.trials(&study).unwrap();
        trials.into_iter().map(|trial| trial.genotype).collect::<Vec<_>>()
    };
    let genotypes = run(false);
    assert_eq!(genotypes.len(), 6);
    assert_eq!(run(true), genotypes);
}
