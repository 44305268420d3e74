//! A data directory whose disk fills. It is a small file system in memory, which only the
//! coordinator's process and its commands see. Where such a one cannot be mounted, the test says so
//! and ends.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use edgesmith_tests::{Coordinator, PATIENCE, Process, TinyStudy, command, edgesmith, run};

/// Mounts a file system at `$1` and becomes the rest of the arguments.
const IN_MEMORY: &str = "mount -t tmpfs -o size=\"$2\" tmpfs \"$1\" && shift 2 && exec \"$@\"";

/// A command that has a file system of this size at `at`; `None` where that is not possible.
fn with_disk(at: &Path, size: &str, program: &Path) -> Option<Command> {
    let make = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", IN_MEMORY, "sh"]);
        command.arg(at).arg(size).arg(program).stdin(Stdio::null());
        command
    };
    let works = make(Path::new("true")).stderr(Stdio::null()).status();
    works.is_ok_and(|status| status.success()).then(|| make(program))
}

/// Fills a file system, but for `left` bytes.
fn fill(directory: &Path, left: u64) -> PathBuf {
    let path = directory.join("filler");
    let mut file = fs::File::options().create(true).append(true).open(&path).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    let written = file.metadata().unwrap().len();
    file.set_len(written.saturating_sub(left)).unwrap();
    path
}

/// With the program as `$1` and a study file as `$2`: fills the disk of a directory with a study,
/// then asks about it, collects artifacts, and starts a coordinator on it.
const ON_A_FULL_DISK: &str = r#"
set -e
"$1" search "$2" --slots 1
cat /dev/zero > edgesmith-data/filler || true
"$1" status full
"$1" gc --older-than 0
"$1" check
"$1" coordinator --listen 127.0.0.1:0 &
pid=$!
until grep -q http edgesmith-data/lock; do kill -0 $pid; sleep 0.05; done
"$1" status full
"$1" status full --coordinator "$(sed -n 2p edgesmith-data/lock)"
kill -INT $pid
wait $pid
"#;

#[test]
fn a_directory_on_a_full_disk_is_read_and_served() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let data = directory.join("edgesmith-data");
    fs::create_dir(&data).unwrap();
    let Some(mut shell) = with_disk(&data, "8m", Path::new("sh")) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let study = TinyStudy::new("full").write(directory);
    let done = shell.args(["-c", ON_A_FULL_DISK, "sh"]).arg(edgesmith()).arg(study);
    let done = done.current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(said.matches("full is complete").count(), 3, "{said}");
    assert!(said.contains("are whole"), "{said}");
}

/// Waits until a log has this text.
fn wait_for(log: &Path, text: &str) {
    let start = Instant::now();
    loop {
        let said = fs::read_to_string(log).unwrap();
        if said.contains(text) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{text:?} is not in: {said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_study_waits_while_the_disk_is_full_and_goes_on_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let data = directory.join("edgesmith-data");
    fs::create_dir(&data).unwrap();
    let Some(mut starting) = with_disk(&data, "32m", edgesmith()) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let log = directory.join("coordinator.log");
    starting
        .args(["coordinator", "--listen", "127.0.0.1:0", "--lease-seconds", "3"])
        .args(["--min-free-space", "4MiB"])
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .stderr(fs::File::create(&log).unwrap());
    let coordinator = Coordinator::of(starting, directory, Vec::new());
    let inside = PathBuf::from(format!("/proc/{}/root", coordinator.id()));
    let inside = inside.join(data.strip_prefix("/").unwrap());
    let logged = |text: &str| fs::read_to_string(&log).unwrap().contains(text);

    // The disk fills while the first trials train: they have files to hand in afterwards.
    let study = TinyStudy { epochs: 150, ..TinyStudy::new("full") };
    coordinator.submit(&study);
    let worker_log = directory.join("worker.log");
    let args = ["worker", "--coordinator", &coordinator.url, "--slots", "2"];
    let _worker = Process::start_with_log(command(directory, &args), &worker_log);
    coordinator.wait_until("full", "going on", |s| s["trials"]["running"].as_u64() >= Some(1));

    // Little room: tasks that run end, their results are kept by the worker or recorded, and no
    // others are handed out.
    fill(&inside, 1 << 20);
    let status = coordinator.wait_until("full", "waiting", |status| {
        let waits = status["coordinator_waits"].as_str().unwrap_or_default();
        waits.contains("are free in") && waits.contains("goes on when there are 4.5 MiB")
    });
    assert_ne!(status["state"], "complete", "it ended before the disk was full");
    let said = coordinator.ask(&["status", "full"]).ok();
    assert!(said.contains("waiting    the coordinator hands out no tasks: only "), "{said}");
    wait_for(&worker_log, "transfers no artifacts for now: the coordinator waits for room: only ");

    // No room at all: nothing is acknowledged.
    let filler = fill(&inside, 0);
    let submitting: Vec<Process> = (0..4)
        .map(|number| {
            let file = TinyStudy::new(&format!("later-{number}")).write(directory);
            let args = ["submit", file.to_str().unwrap(), "--coordinator", &coordinator.url];
            Process::start(command(directory, &args))
        })
        .collect();
    wait_for(&log, "the disk is full, so nothing is acknowledged");
    let refused = coordinator.ask(&["status", "full"]);
    refused.fails(1, &["is full; it goes on when there is room"]);
    // Longer than the lease of what runs.
    std::thread::sleep(Duration::from_secs(4));
    let before = fs::metadata(inside.join("journal/1.log")).unwrap().len();
    coordinator.ask(&["pause", "full"]).fails(1, &["is full"]);
    assert_eq!(fs::metadata(inside.join("journal/1.log")).unwrap().len(), before);

    fs::remove_file(filler).unwrap();
    // Those whose requests were being stored get their answers; the others were refused.
    let accepted = submitting.into_iter().filter_map(Process::wait).filter(|code| *code == 0);
    assert!(accepted.count() > 0, "the request that waited was not answered");
    let status = coordinator.wait_until_complete("full");
    assert_eq!(status["trials"]["complete"], 4, "{status}");
    assert_eq!(status["trials"]["failed"], 0, "{status}");
    assert_eq!(status.get("coordinator_waits"), None);
    for trial in coordinator.trials("full") {
        // Training and measuring.
        assert_eq!(trial["attempts"], 2, "an attempt was lost or failed: {trial}");
    }
    assert!(logged("there is room again") && logged("tasks are handed out again"));
    assert!(!logged("failed:"), "{}", fs::read_to_string(&log).unwrap());
    let told = fs::read_to_string(&worker_log).unwrap();
    assert_eq!(told.matches("transfers artifacts again").count(), 1, "{told}");

    // What was stored is whole.
    let copy = directory.join("copy");
    let copied = Command::new("cp").args(["-r"]).arg(&inside).arg(&copy).status();
    assert!(copied.unwrap().success());
    drop(coordinator);
    fs::remove_file(copy.join("address")).unwrap();
    let copy = copy.to_str().unwrap();
    run(directory, &["check", "--data-dir", copy]).ok();
    let status = run(directory, &["status", "full", "--data-dir", copy, "--format", "json"]).json();
    assert_eq!(status["trials"]["complete"], 4, "{status}");
}
