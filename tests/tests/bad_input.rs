//! Bad input gives one clear sentence and the right exit code: 2 if the input is wrong, 1 if
//! something failed.

use std::process::Stdio;

use edgesmith_tests::{Coordinator, PATIENCE, Process, Ran, TinyStudy, command, run};

#[test]
fn all_mistakes_of_a_study_file_are_reported_with_line_and_field() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let text = TinyStudy::new("broken")
        .text()
        .replace("epochs = 1\nfine", "epochz = 1\nfine")
        .replace("kernel = [3]", "kernel = []")
        .replace("metric = \"latency_ms\"", "metric = \"speed\"")
        .replace("trials = 4", "trials = -4")
        .replace("prune = [0.0, 0.5]", "prune = [nan]")
        .replace("batch_size = 32", "batch_size = \"many\"");
    std::fs::write(at.join("broken.toml"), &text).unwrap();
    for args in [["validate", "broken.toml"], ["search", "broken.toml"], ["submit", "broken.toml"]]
    {
        let ran = run(at, &args);
        ran.fails(2, &["6 mistakes"]);
        for part in ["epochz", "kernel = []", "speed", "trials = -4", "nan", "many"] {
            let line = text.lines().position(|l| l.contains(part)).unwrap() + 1;
            ran.fails(2, &[&format!("line {line}: ")]);
        }
    }
    std::fs::write(at.join("syntax.toml"), "[study]\nname = \n").unwrap();
    run(at, &["validate", "syntax.toml"]).fails(2, &["line 2"]);
    run(at, &["validate", "nowhere.toml"]).fails(2, &["nowhere.toml"]);
    run(at, &["validate"]).fails(2, &["STUDY"]);
}

#[test]
fn a_constraint_that_nothing_satisfies_is_reported_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let more = "[[constraints]]\nmetric = \"parameters\"\nmax = 3\n".to_owned();
    TinyStudy { more, ..TinyStudy::new("impossible") }.write(directory.path());
    let ran = run(directory.path(), &["validate", "impossible.toml"]);
    ran.fails(2, &["constraints", "parameters"]);
}

#[test]
fn validate_shows_what_would_run() {
    let directory = tempfile::tempdir().unwrap();
    TinyStudy::new("fine").write(directory.path());
    let text = run(directory.path(), &["validate", "fine.toml"]).ok();
    // Stem widths; depth, width, operation, stride, activation and pruning of the stage; precision
    // and alpha.
    let size = 2 * (2 * 2 * 3 * 2 * 2 * 2) * (2 * 2);
    assert!(text.contains(&size.to_string()), "{text}");
    assert!(text.contains("4 trials"), "{text}");
}

#[test]
fn errors_name_missing_and_broken_data_files() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("short"), [0, 0, 8, 3, 0, 0, 0, 9]).unwrap();
    for (name, images) in [("absent", "no-such-file"), ("truncated", "short")] {
        let data = format!(
            "source = \"idx\"\nclasses = 10\ntrain_images = \"{images}\"\n\
             train_labels = \"labels\"\ntest_images = \"{images}\"\ntest_labels = \"labels\""
        );
        let text = TinyStudy::new(name).text().replace("source = \"digits\"", &data);
        let file = format!("{name}.toml");
        std::fs::write(at.join(&file), text).unwrap();
        run(at, &["search", &file]).fails(1, &["data", images]);
        // No trial was spoiled by it.
        let trials = run(at, &["trials", name, "--format", "json"]).json();
        assert_eq!(trials["trials"], serde_json::json!([]), "{trials}");
        // Without being mended it fails again, and says so.
        run(at, &["search", &file]).fails(1, &[images, "edgesmith"]);
    }
}

#[test]
fn all_damaged_images_are_named_in_one_message() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for class in ["ape", "bee"] {
        std::fs::create_dir_all(at.join("photos").join(class)).unwrap();
    }
    for name in ["ape/1.png", "ape/2.jfif", "bee/1.jpg"] {
        std::fs::write(at.join("photos").join(name), "damaged").unwrap();
    }
    let data = "source = \"image-folder\"\nclasses = 2\ntrain = \"photos\"";
    let text = TinyStudy::new("photos").text().replace("source = \"digits\"", data);
    // Some editors begin a file with a byte-order mark.
    std::fs::write(at.join("photos.toml"), format!("\u{feff}{text}")).unwrap();
    let said = ["3 things are wrong", "ape/1.png", "ape/2.jfif", "bee/1.jpg"];
    let ran = run(at, &["search", "photos.toml"]);
    ran.fails(1, &said);
    assert_eq!(ran.stderr().matches(said[0]).count(), 1, "{}", ran.stderr());
    let studies = run(at, &["studies"]).ok();
    assert!(studies.contains("blocked") && studies.contains(said[0]), "{studies}");
}

#[test]
fn a_study_that_was_cancelled_is_not_submitted_again() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let file = TinyStudy::new("over").write(at);
    std::fs::create_dir(at.join("edgesmith-data")).unwrap();
    let submit = || run(at, &["submit", file.to_str().unwrap()]);
    // It is kept, but nothing runs it.
    let first = submit();
    assert!(first.stderr().contains("no coordinator runs on this directory"), "{first:?}");
    assert_eq!(first.ok(), "over\n");
    run(at, &["cancel", "over"]).ok();
    let again = submit();
    again
        .fails(1, &["it is cancelled, so nothing will run", "start_from", "edgesmith delete over"]);
    assert_eq!(again.stdout(), "");
}

#[test]
fn missing_coordinators_used_ports_and_locked_directories_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let nobody = ["studies", "--coordinator", "http://127.0.0.1:9"];
    run(at, &nobody).fails(1, &["127.0.0.1:9", "edgesmith coordinator"]);
    run(at, &["studies", "--coordinator", "not an address"]).fails(2, &["not an address"]);
    run(at, &["studies", "--data-dir", "no-such"]).fails(1, &["no-such"]);

    let coordinator = Coordinator::start(at, 20);
    let address = coordinator.url.trim_start_matches("http://");
    let other = tempfile::tempdir().unwrap();
    run(other.path(), &["coordinator", "--listen", address]).fails(1, &[address, "in use"]);
    run(at, &["coordinator", "--listen", "127.0.0.1:0"]).fails(1, &["edgesmith-data", "in use"]);
    for command in ["status", "watch", "pareto", "trials", "pause"] {
        coordinator.ask(&[command, "nothing"]).fails(2, &["nothing"]);
    }
    run(at, &["worker", "--device", "not a class"]).fails(2, &["not a class"]);
}

#[test]
fn without_a_coordinator_the_directory_answers_and_waiting_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let study = TinyStudy::new("alone");
    let file = study.write(at);
    std::fs::create_dir(at.join("edgesmith-data")).unwrap();
    run(at, &["submit", file.to_str().unwrap()]).ok();
    // The coordinator of another directory now listens at the address of the killed one.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Coordinator::start(elsewhere.path(), 20);
    std::fs::write(at.join("edgesmith-data/address"), &other.url).unwrap();
    let studies = run(at, &["studies"]).ok();
    assert!(studies.contains("alone"), "{studies}");
    // These commands start no coordinator of their own, because no worker would find it.
    for args in [&["watch", "alone"][..], &["submit", file.to_str().unwrap(), "--wait"]] {
        run(at, args).fails(1, &["no coordinator runs on edgesmith-data", "edgesmith search"]);
    }
    // Now there is a coordinator whose address is in the directory.
    let here = Coordinator::start(at, 20);
    let said = std::fs::read_to_string(at.join("edgesmith-data/address")).unwrap();
    assert_eq!(said, here.url);
    let studies = run(at, &["studies"]).ok();
    assert!(studies.contains("alone"), "{studies}");
}

#[test]
fn a_token_is_required() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let serve = ["coordinator", "--listen", "127.0.0.1:0", "--token", "secret", "--data-dir", "d"];
    let _process = Process::start(command(at, &serve));
    let start = std::time::Instant::now();
    let url = loop {
        match std::fs::read_to_string(at.join("d/address")) {
            Ok(url) if !url.is_empty() => break url,
            _ => assert!(start.elapsed() < PATIENCE, "the coordinator never writes its address"),
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let with = |extra: &[&str]| {
        let mut args = vec!["studies", "--coordinator", &url];
        args.extend(extra);
        run(at, &args)
    };
    with(&["--token", "secret"]).ok();
    with(&["--token", "wrong"]).fails(1, &["token"]);
    with(&[]).fails(1, &["token"]);
    let worker = ["worker", "--coordinator", &url, "--token", "wrong"];
    run(at, &worker).fails(1, &["token"]);
}

#[test]
fn completions_and_help_are_printed() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(directory.path(), &["completions", shell]).ok();
        assert!(script.contains("pareto"), "{shell}");
    }
    // It is not an error if the reader closes the pipe early.
    let mut child = command(directory.path(), &["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    Ran(child.wait_with_output().unwrap()).ok();
    let help = run(directory.path(), &["--help"]).ok();
    for name in ["search", "coordinator", "worker", "submit", "pareto", "export", "validate"] {
        assert!(help.contains(name), "{help}");
    }
}
