//! The files in `deploy/` agree with each other and with the program. Nothing here builds an image
//! or starts a service, so these are checks of their text only.

use edgesmith_tests::{run, workspace};

fn text(file: &str) -> String {
    std::fs::read_to_string(workspace().join(file)).unwrap()
}

#[test]
fn the_volume_of_the_container_belongs_to_its_user() {
    let file = text("deploy/Containerfile");
    let at = |part: &str| file.find(part).unwrap_or_else(|| panic!("no {part} in {file}"));
    let data = "/var/lib/edgesmith/data";
    let owned = at(&format!("install --directory --owner=edgesmith --group=edgesmith {data}"));
    let volume = at(&format!("\nVOLUME {data}\n"));
    // Changes to a directory after VOLUME are lost, and after USER they are not allowed.
    assert!(owned < volume && volume < at("\nUSER edgesmith"));
    assert!(file.contains(&format!("\"--data-dir\", \"{data}\"")));
    assert!(text("deploy/compose.yaml").contains(&format!("[\"results:{data}\"]")));
}

#[test]
fn builds_of_the_container_leave_results_and_outputs_out() {
    let ignored = text(".dockerignore");
    let lines: Vec<&str> = ignored.lines().collect();
    for name in ["target", "edgesmith-data", ".git"] {
        assert!(lines.contains(&name), "{name}");
    }
}

#[test]
fn services_use_options_that_exist_and_directories_that_are_theirs() {
    let directory = tempfile::tempdir().unwrap();
    for (file, command) in [("edgesmith-coordinator", "coordinator"), ("edgesmith-board", "worker")]
    {
        let unit = text(&format!("deploy/systemd/{file}.service"));
        let start = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert!(start.contains(&format!("/edgesmith {command} ")), "{start}");
        let help = run(directory.path(), &[command, "--help"]).ok();
        for option in start.split_whitespace().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{option} of {file}");
        }
        let kept = start.split_once("--data-dir %S/").map(|(_, name)| name);
        let state = unit.lines().find_map(|line| line.strip_prefix("StateDirectory="));
        assert_eq!(kept, state, "{file}");
    }
}
