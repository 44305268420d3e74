//! Studies with an objective on another device: workers that only measure, devices that no worker
//! offers, and filters of the front.

use edgesmith_tests::{Coordinator, TinyStudy};

#[test]
fn the_worker_on_the_device_times_compressed_models() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(directory.path(), 20);
    let study = TinyStudy { device: "board".to_owned(), ..TinyStudy::new("boards") };
    coordinator.submit(&study);
    let _trainer = coordinator.worker(&["--roles", "train", "--device", "server", "--slots", "2"]);
    // Everything is trained, but nothing can be timed: this is reported, and the trials wait.
    let status = coordinator.wait_until(&study.name, "all trained", |s| {
        s["trials"]["waiting"] == 4 && s["trials"]["running"] == 0
    });
    assert_eq!(status["missing_devices"], serde_json::json!(["board"]), "{status}");
    let text = coordinator.ask(&["status", &study.name]).ok();
    assert!(text.contains("no worker measures on board"), "{text}");

    let _board =
        coordinator.worker(&["--roles", "measure", "--device", "board", "--name", "drawer-7"]);
    let status = coordinator.wait_until_complete(&study.name);
    assert_eq!(status["missing_devices"], serde_json::json!([]), "{status}");
    let mut in_integers = 0;
    for trial in coordinator.trials(&study.name) {
        assert_eq!(trial["state"], "complete");
        let measurement = &trial["measurements"][0];
        assert_eq!(measurement["device"]["class"], "board");
        assert!(measurement["samples"].as_u64() >= Some(50), "{measurement}");
        assert!(measurement["p50_ms"].as_f64() > Some(0.0), "{measurement}");
        assert_eq!(measurement["engine"], "edge-runtime");
        assert_eq!(trial["metrics"]["latency_ms"]["board"], measurement["p50_ms"]);
        // The worker makes the network in fp32 of the trial's file.
        let in_fp32 = measurement["unquantized"]["p50_ms"].as_f64();
        assert_eq!(in_fp32.is_some(), trial["recipe"]["precision"] == "int8", "{trial}");
        in_integers += usize::from(in_fp32.is_some());
    }
    assert!(in_integers > 0, "no trial was quantized");
    let front = coordinator.ask(&["pareto", &study.name, "--device", "board"]).ok();
    assert!(front.contains("latency@board"), "{front}");
}

#[test]
fn the_front_can_be_filtered() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(directory.path(), 20);
    let file = TinyStudy::new("filtered").write(directory.path());
    let _worker = coordinator.worker(&["--slots", "2"]);
    let shown = coordinator.ask(&["submit", file.to_str().unwrap(), "--wait"]).ok();
    assert!(shown.starts_with("filtered\n"), "the name comes first: {shown}");
    assert!(shown.contains("teacher"), "the teacher is shown with the front: {shown}");

    let front = coordinator.ask(&["pareto", "filtered", "--format", "json"]).json();
    let bytes = |t: &serde_json::Value| t["metrics"]["model_bytes"].as_u64().unwrap();
    let limit = front["trials"].as_array().unwrap().iter().map(bytes).min().unwrap();
    let bound = format!("model_bytes<={limit}");
    let small =
        coordinator.ask(&["pareto", "filtered", "--where", &bound, "--format", "json"]).json();
    let small = small["trials"].as_array().unwrap();
    assert!(!small.is_empty() && small.iter().all(|t| bytes(t) <= limit), "{small:?}");
    let none = coordinator.ask(&["pareto", "filtered", "--where", "model_bytes<=1"]).ok();
    assert!(none.contains("no complete trial"), "{none}");
    let ask = |limit: &str, rest: &[&str]| {
        let bound = format!("latency_ms@local<={limit}");
        coordinator
            .ask(&[&["pareto", "filtered", "--where", &bound, "--cover", "2"], rest].concat())
    };
    let cover = ask("10000", &["--format", "json"]).json();
    let [model] = cover["cover"].as_array().unwrap().as_slice() else { panic!("{cover}") };
    assert_eq!(model["devices"], serde_json::json!(["local"]));
    let accuracy = |t: &serde_json::Value| t["metrics"]["validation_accuracy"].as_f64().unwrap();
    let all = coordinator.trials("filtered");
    let best = all.iter().map(accuracy).fold(0.0, f64::max);
    assert_eq!(accuracy(&model["trial"]), best);
    assert!(ask("10000", &[]).ok().contains("local"));
    ask("0.0000001", &[]).fails(1, &["no complete trial of 4", "latency_ms@local<=0.0000001"]);
    let unknown = coordinator.ask(&["pareto", "filtered", "--where", "speed<=1"]);
    unknown.fails(2, &["speed", "latency_ms"]);
}
