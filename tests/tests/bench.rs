//! The benchmark commands on studies that train, as a user runs them.

use edgesmith_tests::{TinyStudy, bench, run};

#[test]
fn a_studys_front_is_timed_until_it_is_good_enough() {
    let directory = tempfile::tempdir().unwrap();
    let study = TinyStudy { trials: 50, ..TinyStudy::new("front") }.write(directory.path());
    let study = study.to_str().unwrap();
    let front = |more: &[&str]| {
        let mut args = vec!["front", study, "--format", "json", "--slots", "1"];
        args.extend(more);
        bench(directory.path(), &args)
    };
    let reference = "validation_accuracy=0.0001,latency_ms@local=1000";
    let grown = front(&["--reference", reference, "--until", "0.000001"]).json();
    let trials = grown["trials"].as_array().unwrap();
    assert!((1..50).contains(&trials.len()), "{grown}");
    assert!(trials.iter().all(|trial| trial["images"].as_u64() > Some(0)));
    let last = trials.last().unwrap();
    assert_eq!(last["hypervolume"], grown["hypervolume"]);
    assert!(grown["hypervolume"].as_f64() >= Some(0.000001));
    assert!(grown["reached_after"].as_f64() <= grown["seconds"].as_f64());
    // It leaves no files besides those that the test wrote.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);

    front(&["--reference", "macs=3"]).fails(2, &["\"macs\" is not an objective", "no reference"]);
}

#[test]
fn candidates_are_screened_and_proxies_are_compared_with_trained_results() {
    let directory = tempfile::tempdir().unwrap();
    let more = "[screening]\nproxy = \"naswot\"\nbatch = 4\n".to_owned();
    let study = TinyStudy { trials: 8, more, ..TinyStudy::new("screened") };
    let study = study.write(directory.path());
    run(directory.path(), &["search", study.to_str().unwrap(), "--data-dir", "data"]).ok();
    let asked = ["trials", "screened", "--data-dir", "data", "--format", "json"];
    let trials = run(directory.path(), &asked).json();
    let trials = trials["trials"].as_array().unwrap();
    let of = |state: &str| trials.iter().filter(|trial| trial["state"] == state).count();
    assert_eq!(of("complete"), 8);
    assert!(of("pruned") >= 4, "{trials:?}");
    assert!(trials.iter().all(|trial| trial["score"].is_number()));
    // Trials that were not trained use no budget, and say why.
    let asked = ["status", "screened", "--data-dir", "data", "--format", "json"];
    let status = run(directory.path(), &asked).json();
    assert_eq!(status["trials"]["screened_out"], status["trials"]["pruned"], "{status}");
    let said = run(directory.path(), &asked[..4]).ok();
    assert!(said.contains("8 of 8 finished") && said.contains(" screened out"), "{said}");
    let pruned = trials.iter().find(|trial| trial["state"] == "pruned").unwrap();
    let asked = ["trial", "screened", &pruned["trial"].to_string(), "--data-dir", "data"];
    let said = run(directory.path(), &asked).ok();
    assert!(said.contains("pruned by its score"), "{said}");

    let asked = ["proxies", "screened", "--data-dir", "data", "--format", "json"];
    let judged = bench(directory.path(), &asked).json();
    assert_eq!(judged["trials"], 8);
    let proxies = judged["proxies"].as_array().unwrap();
    let names: Vec<&str> = proxies.iter().filter_map(|row| row["proxy"].as_str()).collect();
    assert_eq!(names, ["synflow", "naswot", "macs", "parameters"]);
    let range = -1.0..=1.0;
    assert!(proxies.iter().all(|row| range.contains(&row["kendall"].as_f64().unwrap())));
}

#[test]
fn training_is_timed_with_all_given_batch_sizes() {
    let directory = tempfile::tempdir().unwrap();
    let timed = |sizes: &str| {
        let more = ["--seconds", "0.001", "--batch-size", sizes, "--format", "json"];
        let args = [&["train", "--networks", "plain-8"], &more[..]].concat();
        bench(directory.path(), &args)
    };
    let output = timed("2,5").json();
    let rows = output["rows"].as_array().unwrap();
    let sizes: Vec<u64> = rows.iter().filter_map(|row| row["batch_size"].as_u64()).collect();
    assert_eq!(sizes, [2, 5]);
    for row in rows {
        let [steps, size, seconds, rate] =
            ["steps", "batch_size", "seconds", "images_per_second"].map(|name| row[name].as_f64());
        let images = steps.unwrap() * size.unwrap();
        assert!(images > 0.0 && seconds >= Some(0.001), "{row}");
        assert!((images / seconds.unwrap() / rate.unwrap() - 1.0).abs() < 1e-9, "{row}");
    }
    timed("64,1").fails(2, &["--batch-size", "from 2 to 4096"]);
}
