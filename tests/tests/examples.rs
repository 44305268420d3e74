//! The study files in `examples/`: each one is valid as it is, and one that needs data says where
//! they come from.

use edgesmith_tests::{run, workspace};

/// An example that needs a network beside it.
const NEEDS_NETWORK: (&str, &str) = ("own-network.toml", "ic_resnet8.onnx");

/// Files that a study names under `data/`, by the example.
const NEED_DATA: [&str; 2] = ["fashion-mnist.toml", "nas-bench-201.toml"];

#[test]
fn every_example_is_valid_and_one_that_needs_data_says_where_to_put_them() {
    // A directory without any data.
    let directory = tempfile::tempdir().unwrap();
    let mut needing = Vec::new();
    for entry in std::fs::read_dir(workspace().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let head: String = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(
            head.contains(&format!("search examples/{name}")),
            "{name} does not say how to run"
        );
        let validated = run(directory.path(), &["validate", path.to_str().unwrap()]);
        if name == NEEDS_NETWORK.0 {
            validated.fails(2, &["failed to read the network", NEEDS_NETWORK.1]);
            assert!(head.contains("https://") && head.contains("--data-root"), "{name}: {head}");
            continue;
        }
        let shown = validated.ok();
        if shown.contains("not on this machine: ") {
            assert!(head.contains("https://"), "{name} does not say where its data come from");
            assert!(head.contains("data/") && head.contains("--data-root"), "{name}: {head}");
            needing.push(name);
        }
    }
    needing.sort();
    assert_eq!(needing, NEED_DATA);
}

#[test]
fn examples_name_files_that_the_search_reports_if_they_are_missing() {
    let directory = tempfile::tempdir().unwrap();
    for name in NEED_DATA {
        let example = workspace().join("examples").join(name);
        let ran = run(directory.path(), &["search", example.to_str().unwrap()]);
        ran.fails(1, &["data/", "does not exist", "--data-root"]);
    }
}
