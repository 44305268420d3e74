//! Studies over a table: a thousand look-ups through the coordinator and its RPCs, and the benchmark
//! that runs the same studies without sockets.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use edgesmith_tests::{Coordinator, run};

const OPERATIONS: [&str; 5] =
    ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"];

/// Writes a table of every cell with made-up figures: a 3x3 convolution is accurate and slow, a 1x1
/// convolution half of both.
fn made_up_table(directory: &Path) -> (PathBuf, PathBuf) {
    let mut table = "index,arch,flops_m,valid,test,train_s\n".to_owned();
    let mut latency = "index,board_ms\n".to_owned();
    for index in 0..5_usize.pow(6) {
        let edge = |place: u32| OPERATIONS[index / 5_usize.pow(place) % 5];
        let worth = |name: &str| match name {
            "nor_conv_3x3" => 2.0,
            "nor_conv_1x1" => 1.0,
            _ => 0.0,
        };
        let total: f64 =
            (0..6).map(|place| worth(edge(place)) * (1.0 + 0.1 * f64::from(place))).sum();
        let e: Vec<&str> = (0..6).map(edge).collect();
        let arch =
            format!("|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|", e[0], e[1], e[2], e[3], e[4], e[5]);
        let accuracy = 10.0 + 80.0 * (1.0 - (-total / 4.0).exp());
        let _ = writeln!(
            table,
            "{index},{arch},{total},{accuracy},{},{}",
            accuracy - 1.0,
            60.0 + total
        );
        let _ = writeln!(latency, "{index},{}", 0.5 + total);
    }
    let paths = (directory.join("table.csv"), directory.join("latency.csv"));
    std::fs::write(&paths.0, table).unwrap();
    std::fs::write(&paths.1, latency).unwrap();
    paths
}

fn study(name: &str, algorithm: &str, trials: u32, more: &str) -> String {
    format!(
        r#"[study]
name = "{name}"
seed = 5
[table]
path = "table.csv"
latencies = "latency.csv"
validation_accuracy = "valid"
test_accuracies = ["test"]
seconds = "train_s"
[[objectives]]
metric = "validation_accuracy"
{more}
[algorithm]
name = "{algorithm}"
[budget]
trials = {trials}
"#
    )
}

const LATENCY: &str = "[[objectives]]\nmetric = \"latency_ms\"\ndevice = \"board\"";

#[test]
fn a_thousand_look_ups_go_through_a_coordinator_to_a_front() {
    let directory = tempfile::tempdir().unwrap();
    made_up_table(directory.path());
    let coordinator = Coordinator::start(directory.path(), 30);
    let file = directory.path().join("study.toml");
    std::fs::write(&file, study("looked-up", "nsga2", 1000, LATENCY)).unwrap();
    coordinator.ask(&["submit", "study.toml"]).ok();
    let _trainer = coordinator.worker(&["--slots", "1"]);
    let status = coordinator.wait_until("looked-up", "waiting for a reader", |s| {
        s["missing_table"] == true && s["trials"]["complete"] == 0
    });
    assert_eq!(status["missing_trainer"], false, "{status}");
    let _reader = coordinator.worker(&["--roles", "table", "--slots", "2"]);
    let status = coordinator.wait_until_complete("looked-up");
    assert_eq!(status["trials"]["complete"], 1000, "{status}");
    let front = coordinator.ask(&["pareto", "looked-up", "--format", "json"]).json();
    let first = &front["trials"][0];
    assert!(first["metrics"]["latency_ms"]["board"].is_number(), "{first}");
    assert!(first["metrics"]["test_accuracies"]["test"].is_number(), "{first}");
    assert!(first.get("recipe").is_none(), "nothing was compressed: {first}");
    let number = first["trial"].to_string();
    let args = ["export", "looked-up", &number, "--format", "edge", "-o", "model.edge"];
    coordinator.ask(&args).fails(2, &["not trained here"]);
    coordinator.ask(&["trial", "looked-up", &number, "--rerun"]).fails(2, &["no training"]);
}

#[test]
fn the_benchmark_runs_the_studies_that_search_runs_and_repeats_to_the_digit() {
    let directory = tempfile::tempdir().unwrap();
    made_up_table(directory.path());
    let bench = |more: &[&str]| {
        let fixed = [
            "bench",
            "search",
            "--table",
            "table.csv",
            "--validation",
            "valid",
            "--test",
            "test",
            "--seconds",
            "train_s",
            "--budget",
            "trials=60",
            "--algorithms",
            "random,regularized-evolution:population=10:sample=3",
        ];
        run(directory.path(), &[&fixed[..], more].concat()).ok()
    };
    let runs = ["--runs", "6", "--curve", "curve.csv"];
    let once = bench(&[&runs[..], &["--jobs", "1"]].concat());
    let curve = std::fs::read_to_string(directory.path().join("curve.csv")).unwrap();
    assert_eq!(once, bench(&[&runs[..], &["--jobs", "2"]].concat()), "by the number of cores");
    assert_eq!(curve, std::fs::read_to_string(directory.path().join("curve.csv")).unwrap());
    assert_eq!(curve.lines().count(), 1 + 2 * 60, "{curve}");

    // One run is the study of that seed, whatever carries it.
    let single = bench(&["--runs", "1", "--seed", "5"]);
    std::fs::write(directory.path().join("s.toml"), study("s", "random", 60, "")).unwrap();
    run(directory.path(), &["search", "s.toml", "--data-dir", "d", "--slots", "1"]).ok();
    let status =
        run(directory.path(), &["status", "s", "--data-dir", "d", "--format", "json"]).json();
    let best = status["best_validation_accuracy"].as_f64().unwrap();
    assert!(single.contains(&format!("{:.2}±0.00", best * 100.0)), "{best} is not in {single}");
}

#[test]
fn what_the_benchmark_cannot_do_is_said() {
    let directory = tempfile::tempdir().unwrap();
    made_up_table(directory.path());
    let fails = |args: &[&str], texts: &[&str]| {
        run(directory.path(), &[&["bench", "search", "--table"], args].concat()).fails(2, texts);
    };
    fails(&["absent.csv"], &["absent.csv"]);
    fails(&["table.csv"], &["c10_valid_12", "it has index, arch"]);
    fails(&["table.csv", "--budget", "200"], &["\"200\"", "trials=200"]);
    fails(&["table.csv", "--algorithms", "magic"], &["algorithm.name", "magic"]);
    fails(&["table.csv", "--algorithms", "nsga2:population"], &["KEY=VALUE"]);
    fails(&["table.csv", "--device", "board"], &["--latencies"]);
}
