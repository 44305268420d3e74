//! Workers behind slow connections and connections that break. A proxy in the test stands for them.

use std::path::Path;
use std::time::{Duration, Instant};

use edgesmith_tests::proxy::{Proxy, Slow};
use edgesmith_tests::{Coordinator, PATIENCE, Process, command, run};
use serde_json::Value;

/// One trial, whose weights and model have about 260 kB each.
fn study(directory: &Path, name: &str) -> String {
    let text = format!(
        r#"study.name = "{name}"
budget.trials = 1
objectives = [{{ metric = "validation_accuracy" }}]

[data]
source = "digits"
train_limit = 100
test_limit = 50

[space]
resolution = [8]
stem_width = [32]

[[space.stages]]
depth = [1]
width = [224]
kernel = [3]
operation = ["conv"]
stride = [2]

[recipe]
alpha = [0.0]
precision = ["fp32"]

[training]
epochs = 1
"#
    );
    let file = directory.join(format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

const ARTIFACTS: u64 = 2 * 260_000;

/// Runs the study with a worker that reaches the coordinator over a link of `rate` bytes per
/// second, and calls `meanwhile` again and again. Returns the bytes that the worker sent.
fn work(directory: &Path, name: &str, rate: u64, mut meanwhile: impl FnMut(&Proxy)) -> u64 {
    // A lease shorter than an upload at 60 kbit/s, but long enough for a loaded machine.
    let coordinator = Coordinator::start(directory, 20);
    let proxy = Proxy::start(&coordinator.url, Slow::Up, rate);
    coordinator.ask(&["submit", &study(directory, name)]).ok();
    let url = proxy.url();
    let _worker = Process::start(command(directory, &["worker", "--coordinator", &url]));
    let start = Instant::now();
    let status = loop {
        let status = coordinator.status(name);
        if status["state"] == "complete" {
            break status;
        }
        assert!(start.elapsed() < 2 * PATIENCE, "never complete: {status}");
        meanwhile(&proxy);
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(status["trials"]["complete"], 1, "{status}");
    let trial: Value = coordinator.trials(name)[0].clone();
    assert_eq!(trial["attempts"], 1, "an attempt was lost or failed: {trial}");
    let sent = proxy.sent();
    assert!(sent > ARTIFACTS * 9 / 10, "only {sent} bytes were sent");
    sent
}

/// At 60 kbit/s each artifact takes longer than the coordinator may be silent, and longer than a
/// lease. Heartbeats and signs of life get through.
#[test]
fn an_artifact_that_takes_longer_than_the_keep_alive_arrives() {
    let directory = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let sent = work(directory.path(), "slow", 7500, |_| {});
    eprintln!("{sent} bytes in {:.0?}", start.elapsed());
    assert!(sent < ARTIFACTS * 12 / 10, "{sent} bytes were sent");
}

#[test]
fn uploads_that_are_cut_go_on_where_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let mut cuts = vec![460_000, 200_000];
    let sent = work(directory.path(), "cut", 60_000, |proxy| {
        if cuts.last().is_some_and(|&at| proxy.sent() > at) {
            cuts.pop();
            proxy.cut();
        }
    });
    assert!(cuts.is_empty(), "not all cuts were made: {cuts:?}");
    // From the beginning, they would have been about 900,000.
    assert!(sent < ARTIFACTS * 12 / 10, "{sent} bytes were sent");
}

/// The same for what a client receives: a download does not hold up the answers to its signs of
/// life, and goes on when it is cut.
#[test]
fn a_download_that_takes_longer_than_the_keep_alive_arrives() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let coordinator = Coordinator::start(directory, 30);
    coordinator.ask(&["submit", &study(directory, "down")]).ok();
    let worker = coordinator.worker(&[]);
    coordinator.wait_until_complete("down");
    drop(worker);
    let proxy = Proxy::start(&coordinator.url, Slow::Down, 7500);
    let url = proxy.url();
    let mut cuts = vec![200_000];
    let export =
        ["export", "down/0", "--format", "edge", "-o", "slowly.edge", "--coordinator", &url];
    let mut exporting = Process::start(command(directory, &export));
    while exporting.is_running() {
        if cuts.last().is_some_and(|&at| proxy.sent() > at) {
            cuts.pop();
            proxy.cut();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(exporting.wait(), Some(0));
    assert!(cuts.is_empty(), "it was not cut");
    // The weights, for the names of the classes, and the model.
    assert!(proxy.sent() < ARTIFACTS * 12 / 10, "{} bytes were sent", proxy.sent());
    let fast = [
        "export",
        "down/0",
        "--format",
        "edge",
        "-o",
        "fast.edge",
        "--coordinator",
        &coordinator.url,
    ];
    run(directory, &fast).ok();
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    assert_eq!(read("slowly.edge"), read("fast.edge"));
}
