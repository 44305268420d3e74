//! Imported results.

use std::collections::BTreeSet;

use edgesmith_common::{Figures, ScopedMetric, StudyName, StudySpec, TrialNumber, TrialState};
use edgesmith_search_space::Space;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::super::*;
use super::builders::*;

fn known_figures(accuracy: f64, latencies: &[(&str, f64)]) -> Figures {
    let target = |on: &str| Target::on(class(on));
    let timed = latencies.iter().map(|(on, ms)| (Metric::LATENCY_MS.at(target(on)), *ms));
    let figures = [
        (ScopedMetric::VALIDATION_ACCURACY, accuracy),
        (ScopedMetric::TEST_ACCURACY, accuracy),
        (Metric::MODEL_BYTES.whole(), 5000.0),
        (Metric::MACS.whole(), 1.0),
        (Metric::TRAINING_SECONDS.whole(), 3.0),
    ];
    figures.into_iter().chain(timed).collect()
}

fn known(bench: &Bench, study: &StudyName, seed: u64, accuracy: f64) -> KnownTrial {
    let space = bench.core.space(study).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    KnownTrial { genotype: space.sample(&mut rng), figures: known_figures(accuracy, &[]) }
}

#[test]
fn imported_trials_are_complete_use_no_budget_and_are_not_proposed_again() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(30).algorithm("name = \"nsga2\""));
    let trials: Vec<KnownTrial> =
        (0..40).map(|seed| known(&bench, &study, seed, 0.5 + seed as f64 / 100.0)).collect();
    let different: BTreeSet<_> = {
        let space = bench.core.space(&study).unwrap();
        trials.iter().map(|t| space.canonical_hash(&t.genotype).unwrap()).collect()
    };
    let count = different.len() as u32;
    let answer = bench.ask(|to| Event::Import { to, study: study.clone(), trials: trials.clone() });
    assert_eq!(answer, Ok(Answer::Imported { imported: count, known: 40 - count }));
    // Importing them again adds nothing.
    let again = bench.ask(|to| Event::Import { to, study: study.clone(), trials });
    assert_eq!(again, Ok(Answer::Imported { imported: 0, known: 40 }));
    let status = bench.status(&study);
    assert_eq!((status.counts.imported, status.counts.complete), (count, 0));
    assert_eq!(status.best_validation_accuracy, Some(0.89));
    let view = bench.trial(&study, 0);
    assert_eq!((view.state, view.proposed_by), (TrialState::Complete, Some("import")));
    // Costs that can be computed are not taken from the import.
    let space = bench.core.space(&study).unwrap();
    let Space::Staged(staged) = &space else { panic!("a space of networks") };
    let candidate = staged.decode(&view.genotype);
    let network = candidate.pruned_graph(staged.data()).unwrap();
    let macs = network.cost().macs as f64;
    assert_eq!(view.values.unwrap().get(&Metric::MACS.whole()), Some(macs));

    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..30 {
        let lease = bench.lease(worker);
        let Work::TrainTrial { genotype, .. } = &lease.work else { panic!() };
        assert!(!different.contains(&space.canonical_hash(genotype).unwrap()));
        bench.finish(worker, &lease);
    }
    let status = bench.status(&study);
    assert_eq!((status.counts.imported, status.counts.complete), (count, 30));
    // The algorithm learned from them: imported trials are parents of new ones.
    let bred = (count..count + 30).flat_map(|n| bench.trial(&study, n).parents);
    assert!(bred.into_iter().any(|parent| parent.0 < count));
    bench.restart();
    let ended = bench.ask(|to| Event::Import { to, study: study.clone(), trials: Vec::new() });
    assert!(matches!(ended, Err(Refusal::Ended { .. })));
}

#[test]
fn an_import_in_parts_skips_candidates_that_came_between_the_parts() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").trials(5));
    let worker = bench.join(WorkerBuilder::trainer());
    let import = |bench: &mut Bench, trial: &KnownTrial| {
        let trials = vec![trial.clone()];
        bench.ask(|to| Event::Import { to, study: name("s"), trials })
    };
    let first = known(&bench, &study, 1, 0.5);
    let answer = import(&mut bench, &first);
    assert_eq!(answer, Ok(Answer::Imported { imported: 1, known: 0 }));
    let lease = bench.lease(worker);
    let Work::TrainTrial { genotype, .. } = lease.work.clone() else { panic!() };
    let proposed = KnownTrial { genotype, ..first.clone() };
    for trial in [&proposed, &first] {
        assert_eq!(import(&mut bench, trial), Ok(Answer::Imported { imported: 0, known: 1 }));
    }
    bench.restart();
    let answer = import(&mut bench, &proposed);
    assert_eq!(answer, Ok(Answer::Imported { imported: 0, known: 1 }));
}

#[test]
fn an_import_with_an_unfit_trial_is_refused_as_a_whole() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("s").device("board"));
    let good = KnownTrial {
        figures: known_figures(0.5, &[("board", 1.0)]),
        ..known(&bench, &study, 1, 0.5)
    };
    let wrong = [
        (known_figures(0.5, &[]), "latency_ms"),
        (known_figures(0.5, &[("phone", 1.0)]), "latency_ms"),
        (known_figures(0.5, &[("board", f64::NAN)]), "latency_ms@board is wrong: NaN"),
        (known_figures(1.5, &[("board", 1.0)]), "accuracy"),
    ];
    for (figures, reason) in wrong {
        let bad = KnownTrial { figures, ..known(&bench, &study, 2, 0.5) };
        let trials = vec![good.clone(), bad];
        let refused = bench.ask(|to| Event::Import { to, study: study.clone(), trials });
        let Err(error @ Refusal::NotImportable { place: 1, .. }) = refused else { panic!() };
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(bench.status(&study).counts.imported, 0);
    }
    let trials = vec![good];
    let answer = bench.ask(|to| Event::Import { to, study: study.clone(), trials });
    assert_eq!(answer, Ok(Answer::Imported { imported: 1, known: 0 }));
}

#[test]
fn a_study_starts_from_recorded_values_that_would_not_be_imported_today() {
    let mut bench = Bench::new();
    let study = bench.submit(StudyBuilder::new("old"));
    let KnownTrial { genotype, figures } = known(&bench, &study, 1, 1.5);
    let refused = bench.ask(|to| Event::Import {
        to,
        study: study.clone(),
        trials: vec![KnownTrial { genotype: genotype.clone(), figures: figures.clone() }],
    });
    assert!(matches!(refused, Err(Refusal::NotImportable { .. })));
    // A version without this check has recorded such a trial.
    let (number, genotype) = (TrialNumber(0), genotype.indices().to_vec());
    bench.records.push(Record::TrialImported { study, number, genotype, figures });
    bench.core = Core::restore(CONFIG, bench.records.clone(), bench.now).unwrap();
    let new = bench.submit(StudyBuilder::new("new").start_from("old"));
    let values = bench.trial(&new, 0).values.unwrap();
    assert_eq!(values.get(&ScopedMetric::VALIDATION_ACCURACY), Some(1.5));
}

#[test]
fn a_study_starts_from_the_earlier_ones_that_it_names() {
    let mut bench = Bench::new();
    let first = bench.submit(StudyBuilder::new("first").trials(5));
    let worker = bench.join(WorkerBuilder::trainer());
    for _ in 0..5 {
        let lease = bench.lease(worker);
        bench.finish(worker, &lease);
    }
    let second = bench.submit(StudyBuilder::new("second").trials(3).start_from("first"));
    assert_eq!(bench.status(&second).counts.imported, 5);
    for n in 0..5 {
        let (old, new) = (bench.trial(&first, n), bench.trial(&second, n));
        assert_eq!(old.genotype, new.genotype);
        let [old, new] = [old, new].map(|trial| trial.values.unwrap());
        for of in ["validation_accuracy", "test_accuracy", "model_bytes", "training_seconds"] {
            let of = of.parse().unwrap();
            assert!(old.get(&of).is_some() && old.get(&of) == new.get(&of), "{of}");
        }
    }
    // Replay works without the first study.
    bench.steer(&first, Action::Delete).unwrap();
    bench.restart();
    assert_eq!(bench.status(&second).counts.imported, 5);
    let spec = StudyBuilder::new("third").start_from("first").build();
    let refused =
        bench.ask(|to| Event::Submit { to, spec: Box::new(spec), teacher_weights: None, at_ms: 0 });
    assert!(matches!(refused, Err(Refusal::UnknownStudy { .. })));
    let limited = StudyBuilder::new("fourth").start_from("second").build();
    let text =
        limited.source().replace("source = \"digits\"", "source = \"digits\"\ntrain_limit = 500");
    let spec = Box::new(StudySpec::parse(&text).unwrap());
    let refused = bench.ask(|to| Event::Submit { to, spec, teacher_weights: None, at_ms: 0 });
    assert!(matches!(refused, Err(Refusal::OtherData { .. })));
    // Grey and coloured versions of the same images are different data, too.
    let grey = StudyBuilder::new("grey").files().build();
    let coloured = grey.source().replace("channels = 1", "channels = 3");
    let coloured = coloured.replace("\"grey\"", "\"coloured\"\nstart_from = [\"grey\"]");
    bench.submit(StudyBuilder::new("grey").files());
    let spec = Box::new(StudySpec::parse(&coloured).unwrap());
    let refused = bench.ask(|to| Event::Submit { to, spec, teacher_weights: None, at_ms: 0 });
    assert!(matches!(refused, Err(Refusal::OtherData { .. })), "{refused:?}");
}
