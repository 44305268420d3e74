//! Tests of what is best, of the words about it and of its JSON, on results made by hand.

use edgesmith_common::{Fp32Timing, LayerTimes};
use edgesmith_search_space::Quantizing;

use super::runs::InFp32;
use super::text::Energy;
use super::*;
use crate::model::{Computed, Why};
use crate::output::{marks, stages};

fn figures(accuracy: f64, bytes: f64, ms: f64) -> Figures {
    Figures::new()
        .with(ScopedMetric::VALIDATION_ACCURACY, accuracy)
        .with(ScopedMetric::TEST_ACCURACY, accuracy)
        .with(Metric::MODEL_BYTES.whole(), bytes)
        .with(Metric::LATENCY_MS.at(Target::on(DeviceClass::local())), ms)
}

fn layer(name: &str, conversions: bool, shipped_ms: f64, original_ms: f64) -> LayerTimes {
    LayerTimes { layer: name.to_owned(), conversions, shipped_ms, original_ms }
}

/// A timing here.
fn measurement(ms: f64) -> Measurement {
    let row = marks::tests::row(1, 0.5, (ms, ms), (ms, ms));
    row.values.unwrap().measurements()[0].clone()
}

#[test]
fn integers_that_are_slower_than_fp32_are_said() {
    let mut report = report(&[], &[figures(0.8, 900.0, 1.0)]);
    let layers = Computed { integers: 4, fp32: 0, conversions: 0 };
    let (arithmetic, memory, levels) = (Arithmetic::Integers, None, false);
    report.runs = Some(Runs { arithmetic, layers, memory, levels, fp32: vec![] });
    let measured = |fp32_ms: f64| Measurement {
        original: Some(measurement(2.0).timing()),
        unquantized: Some(measurement(fp32_ms).timing()),
        slower_in_integers: vec![layer("norm", true, 0.5, 0.0), layer("fc", false, 0.3, 0.1)],
        ..measurement(1.0)
    };
    report.tried[0].measured = Some(measured(0.5));
    let said = "\nIts integers are slower here than the same network in fp32 (1.00 ms instead \
                of 0.5000 ms), because of conversions for norm (0.5000 ms), fc (0.3000 ms \
                instead of 0.1000 ms): on this machine the engine may need more time";
    let text = report.text();
    assert!(text.contains(said) && !text.contains("It is slower here"), "{text}");
    let best = &serde_json::to_value(report.json()).unwrap()["best"];
    assert_eq!(best["slower_than"], json!(["unquantized"]));
    let layers = &best["measurement"]["slower_in_integers"];
    assert_eq!((&layers[0]["conversions"], &layers[1]["layer"]), (&true.into(), &"fc".into()));
    // Slower than as it came, too, but not because of the integers.
    report.original.set(latency_here(), 0.5);
    report.tried[0].measured = Some(measured(1.0));
    let text = report.text();
    assert!(text.contains("It is slower here than as it came\n"), "{text}");
    assert!(!text.contains("Its integers"), "{text}");
}

fn report(limits: &[&str], tried: &[Figures]) -> Report {
    let tried = (3..).zip(tried).map(|(number, figures)| Tried {
        number,
        recipe: "int8".to_owned(),
        steps: Vec::new(),
        figures: figures.clone(),
        measured: Some(Measurement {
            slower_layers: vec![layer("stem", false, 2.0, 1.0)],
            ..measurement(3.0)
        }),
        stages: vec![
            stages::tests::stage("original", false, 4000.0, &[9, 9]),
            stages::tests::stage("quantize", false, 1000.0, &[9, number]),
        ],
    });
    Report {
        study: "net-auto".parse().unwrap(),
        original: figures(0.9, 4000.0, 2.0),
        limits: limits.iter().map(|limit| limit.parse().unwrap()).collect(),
        tried: tried.collect(),
        without: vec![(9, "it diverged".to_owned())],
        class_names: vec!["ape".to_owned(), "bee".to_owned()],
        runs: None,
    }
}

#[test]
fn what_runs_is_what_the_file_says() {
    let with = |arithmetic, levels, [integers, fp32, conversions]: [usize; 3]| {
        let mut report = report(&[], &[figures(0.8, 900.0, 3.0)]);
        report.tried[0].steps = vec![Step::Quantize(Quantizing::default())];
        let layers = Computed { integers, fp32, conversions };
        report.runs = Some(Runs { arithmetic, layers, memory: Some(5000), levels, fp32: vec![] });
        let document = serde_json::to_value(report.json()).unwrap();
        let best = &document["best"];
        assert_eq!(best["engine_layers"]["integers"], integers);
        (report.text(), best["arithmetic"].as_str().unwrap().to_owned())
    };
    let (text, name) = with(Arithmetic::Reference, true, [0, 4, 0]);
    assert!(text.contains("no engine on a device computes with these bits"), "{text}");
    assert_eq!(name, "reference");
    let (text, name) = with(Arithmetic::Fp32, true, [0, 4, 0]);
    assert!(text.contains("A latency is that of fp32 arithmetic"), "{text}");
    assert_eq!(name, "fp32");
    let (text, name) = with(Arithmetic::Integers, false, [4, 0, 0]);
    assert!(!text.contains("arithmetic") && !text.contains("in fp32, with"), "{text}");
    assert!(text.contains("more time for integers than for fp32"), "{text}");
    assert_eq!(name, "integers");
    let (text, name) = with(Arithmetic::Integers, false, [4, 1, 2]);
    let said = "4 of its layers compute in integers and 1 in fp32, with 2 conversions";
    assert!(text.contains(said), "{text}");
    let (text, _) = with(Arithmetic::Integers, false, [1, 2, 1]);
    let said = "1 of its layers computes in integers and 2 in fp32, with 1 conversion between";
    assert!(text.contains(said), "{text}");
    assert_eq!(name, "integers");
    // The recipe quantizes, but leaves all layers out.
    let (text, name) = with(Arithmetic::Fp32, false, [0, 5, 0]);
    assert!(text.contains("No weights are quantized: the recipe leaves"), "{text}");
    assert!(!text.contains("more time for integers"), "{text}");
    assert_eq!(name, "fp32");
    // A file that cannot be read says nothing.
    let document = serde_json::to_value(report(&[], &[figures(0.8, 900.0, 1.0)]).json());
    assert!(document.unwrap()["best"]["arithmetic"].is_null());
}

#[test]
fn layers_in_fp32_are_named_up_to_a_number() {
    let why = [Why::NoForm, Why::Weights, Why::Neighbours];
    let layer = |at: usize| InFp32 {
        layer: format!("l{at}"),
        operation: "relu".to_owned(),
        why: why[at % 3],
    };
    let runs = |count: usize| Runs {
        arithmetic: Arithmetic::Integers,
        layers: Computed { integers: 4, fp32: count, conversions: 2 },
        memory: None,
        levels: false,
        fp32: (0..count).map(layer).collect(),
    };
    let said = "conversions between them.\nIn fp32: l0 (relu: no form in integers), l1 (relu: \
                its weights stay in fp32), l2 (relu: between layers in fp32).\n";
    let text = runs(3).words(true);
    assert!(text.ends_with(said), "{text}");
    let text = runs(10).words(true);
    assert!(text.ends_with("l7 (relu: its weights stay in fp32), and 2 more.\n"), "{text}");
    let mut report = report(&[], &[figures(0.8, 900.0, 3.0)]);
    report.runs = Some(runs(10));
    let best = &serde_json::to_value(report.json()).unwrap()["best"];
    assert_eq!(best["fp32_layers"].as_array().unwrap().len(), 10);
    let expected = json!({ "layer": "l2", "operation": "relu", "fp32_because": "neighbours" });
    assert_eq!(best["fp32_layers"][2], expected);
}

#[test]
fn the_most_accurate_result_within_the_limits_is_the_best() {
    let tried = [figures(0.8, 900.0, 1.0), figures(0.89, 1200.0, 1.0), figures(0.7, 500.0, 1.0)];
    assert_eq!(report(&[], &tried).best(), Some(4));
    let small = report(&["model_bytes<=1000"], &tried);
    assert_eq!(small.best(), Some(3));
    let text = small.text();
    assert!(text.contains("trial 3 of net-auto: int8"), "{text}");
    assert!(text.contains("-10.00 points"), "{text}");
    assert!(text.contains("model_bytes<=1000: met: 900"), "{text}");
    let way = "model_bytes<=1000 was in the way: without it, trial 4 has a validation accuracy \
               of 89.00 %";
    assert!(text.contains(way), "{text}");
    let document = serde_json::to_value(small.json()).unwrap();
    let expected = json!({ "trial": 4, "validation_accuracy": 0.89 });
    assert_eq!(document["limits"][0]["in_the_way"], expected);
    assert!(text.contains("trial 9 has no result: it diverged"), "{text}");
    assert_eq!(report(&[], &[]).best(), None);
    // The stages are those of the best trial, whose number its second class got right.
    assert!(text.contains("bee        10   90.00 %   30.00 %  -60.00 points"), "{text}");
    let document = serde_json::to_value(small.json()).unwrap();
    assert_eq!(document["best"]["stages"][1]["classes"][1]["right"], 3);
    assert_eq!(document["classes"][1], "bee");
}

#[test]
fn the_network_as_it_came_is_as_its_trial_measured_it() {
    let mut report = report(&["peak_memory_bytes<=2000"], &[figures(0.9, 900.0, 2.1)]);
    let memory = Metric::PEAK_MEMORY_BYTES.whole();
    report.tried[0].figures.set(memory, 1500.0);
    report.original.set(Metric::MODEL_BYTES.whole(), 3990.0);
    report.original.set(latency_here(), 1.5);
    report.tried[0].measured.as_mut().unwrap().original = Some(measurement(2.2).timing());
    let layers = Computed { integers: 4, fp32: 0, conversions: 0 };
    let (arithmetic, memory, levels) = (Arithmetic::Integers, Some(5000), false);
    report.runs = Some(Runs { arithmetic, layers, memory, levels, fp32: vec![] });
    assert!(report.text().contains("It is slower here"));
    report.take_originals();
    let text = report.text();
    assert!(!text.contains("It is slower here"), "{text}");
    assert_eq!(report.original.get(&Metric::MODEL_BYTES.whole()), Some(4000.0));
    let said = "peak_memory_bytes<=2000: met: 1500 for feature maps alone; the engine \
                allocates 5000 bytes";
    assert!(text.contains(said), "{text}");
}

#[test]
fn energy_is_shown_where_it_was_measured() {
    let shown = |original: Option<f64>, trial: Option<f64>| {
        let row = marks::tests::row(3, 0.9, (2.0, 2.0), (2.0, 2.0));
        let mut measured = row.values.unwrap().measurements()[0].clone();
        measured.energy_mj = trial;
        measured.original = Some(Fp32Timing {
            p50_ms: 2.0,
            p95_ms: 2.0,
            min_ms: 2.0,
            noisy: false,
            energy_mj: original,
        });
        let mut report = report(&[], &[figures(0.9, 900.0, 2.0), figures(0.8, 900.0, 2.0)]);
        // That of the best result counts, which is the first one.
        report.tried[1].measured = Some(Measurement { energy_mj: Some(80.0), ..measured.clone() });
        report.tried[0].measured = Some(measured);
        let document = serde_json::to_value(report.json()).unwrap();
        let measured = &document["best"]["measurement"];
        let of = |timing: &Value| timing.get("energy_mj").cloned();
        let text = report.text();
        let row = text.lines().find(|line| line.starts_with("energy_mj@local"));
        let row = row.map(|row| row.split_whitespace().skip(1).collect::<Vec<_>>().join(" "));
        (row, of(&measured["original"]), of(measured))
    };
    let (row, original, best) = shown(Some(4.0), Some(1.0));
    assert_eq!(row.as_deref(), Some("4.000 mJ 1.000 mJ 0.25x"));
    assert_eq!((original, best), (Some(4.0.into()), Some(1.0.into())));
    let (row, original, best) = shown(None, Some(1.5));
    assert_eq!(row.as_deref(), Some("- 1.500 mJ -"));
    assert_eq!((original, best), (None, Some(1.5.into())));
    let (row, ..) = shown(Some(4.0), None);
    assert_eq!(row.as_deref(), Some("4.000 mJ - -"));
    assert_eq!(shown(None, None), (None, None, None));
    assert_eq!(Energy::of(None).row(), None);
}

#[test]
fn a_limit_is_in_the_way_only_of_a_more_accurate_result() {
    // No trial is as fast as that. The first is nearest to it, and as accurate as the others.
    let tried = [figures(0.89, 900.0, 2.0), figures(0.89, 900.0, 3.0)];
    let report = report(&["latency_ms<=1"], &tried);
    assert_eq!(report.best(), Some(3));
    let text = report.text();
    assert!(text.contains("no recipe keeps all limits"), "{text}");
    assert!(!text.contains("in the way") && !text.contains("the other limit"), "{text}");
    let document = serde_json::to_value(report.json()).unwrap();
    assert!(document["limits"][0]["in_the_way"].is_null(), "{document}");
}

#[test]
fn a_result_that_the_study_did_not_time_can_be_timed() {
    let untimed = |accuracy: f64| {
        Figures::new()
            .with(ScopedMetric::VALIDATION_ACCURACY, accuracy)
            .with(Metric::MODEL_BYTES.whole(), 900.0)
    };
    let mut report = report(&[], &[untimed(0.8), untimed(0.89)]);
    assert_eq!(report.untimed(), None, "nothing is known of its file");
    let layers = Computed { integers: 3, fp32: 0, conversions: 0 };
    let runs =
        |arithmetic| Some(Runs { arithmetic, layers, memory: None, levels: true, fp32: vec![] });
    report.runs = runs(Arithmetic::Reference);
    assert_eq!(report.untimed(), None);
    report.runs = runs(Arithmetic::Integers);
    assert_eq!(report.untimed(), Some(4));
    report.set_latency(1.5);
    assert_eq!(report.untimed(), None);
    let document = serde_json::to_value(report.json()).unwrap();
    assert_eq!(document["best"]["metrics"]["latency_ms@local"], 1.5);
}

#[test]
fn whether_the_limits_are_kept_is_known_of_the_best_result() {
    let tried = [figures(0.8, 900.0, 3.0), figures(0.89, 1200.0, 3.0)];
    let keeps = |limits: &[&str]| report(limits, &tried).keeps_limits();
    assert!(keeps(&[]) && keeps(&["model_bytes<=1000"]) && keeps(&["accuracy_drop<=0.05"]));
    assert!(!keeps(&["accuracy_drop<=0.05", "model_bytes<=1000"]));
    // What was not measured is not known to be kept.
    assert!(!keeps(&["peak_memory_bytes<=1000"]));
    assert!(!report(&[], &[]).keeps_limits());
}

#[test]
fn a_result_beyond_the_limits_says_so() {
    let tried = [figures(0.8, 900.0, 3.0), figures(0.89, 1200.0, 3.0)];
    let mut report = report(&["accuracy_drop<=0.05", "model_bytes<=1000"], &tried);
    let layers = Computed { integers: 3, ..Computed::default() };
    report.runs = Some(Runs {
        arithmetic: Arithmetic::Integers,
        layers,
        memory: None,
        levels: false,
        fp32: vec![],
    });
    // A drop of 0.1 is twice what is allowed; 1200 bytes are a fifth too many.
    assert_eq!(report.best(), Some(4));
    let text = report.text();
    assert!(text.contains("model_bytes<=1000: not met: 1200"), "{text}");
    assert!(text.contains("accuracy_drop<=0.05: met: 0.010000"), "{text}");
    assert!(text.contains("no recipe keeps all limits"), "{text}");
    // The other trial is less accurate, so no limit was in the way of a better one.
    let other = "without accuracy_drop<=0.05, trial 3 keeps the other limit, with a validation \
                 accuracy of 80.00 %";
    assert!(text.contains(other) && !text.contains("in the way"), "{text}");
    assert!(
        text.contains("as it came, because of stem (2.00 ms instead of 1.00 ms): on this machine"),
        "{text}"
    );
}
