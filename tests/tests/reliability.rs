//! A data directory that is damaged, backed up, restored, read where nothing can be written, and
//! emptied. Nothing that was acknowledged is lost without being said.
//!
//! `EDGESMITH_DAMAGE=2000` flips that many bits of a study's files and cuts half as often, which
//! takes some minutes; without it, a few. `-- --nocapture` shows the figures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use edgesmith_tests::{Coordinator, Ran, TinyStudy, complete, edgesmith, run};

/// Bits changed if the environment does not say.
const FEW: usize = 40;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// The files of a directory and their bytes, in order.
fn files(of: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
}

fn bytes(of: &Path) -> usize {
    let mut all = Vec::new();
    files(of, &mut all);
    all.iter().map(|(_, bytes)| bytes.len()).sum()
}

/// A directory with a study that is half done, as a killed coordinator leaves it.
fn killed(at: &Path) -> TinyStudy {
    let study = TinyStudy { trials: 6, ..TinyStudy::new("digits") };
    let coordinator = Coordinator::start(at, 20);
    coordinator.submit(&study);
    let _worker = coordinator.worker(&["--slots", "1"]);
    coordinator
        .wait_until(&study.name, "half", |status| status["trials"]["complete"].as_u64() >= Some(3));
    // Dropping it kills it.
    study
}

fn ask(at: &Path, data: &str, args: &[&str]) -> Ran {
    run(at, &[args, &["--data-dir", data]].concat())
}

/// Small numbers from a seed, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// Whatever is damaged, the answer is the same as before, or the command fails and says why; and
/// `check` names every file whose bytes are not what was written and matter.
#[test]
fn damage_to_any_file_is_never_silent() {
    let at = tempfile::tempdir().unwrap();
    killed(at.path());
    let question = ["trials", "digits", "--format", "json"];
    let whole = at.path().join("edgesmith-data");
    // The question may finish what the kill left open, so it is asked before anything is compared.
    let answer = ask(at.path(), "edgesmith-data", &question).ok();
    assert!(answer.contains("\"complete\""), "{answer}");
    ask(at.path(), "edgesmith-data", &["check"]).ok();

    let mut all = Vec::new();
    files(&whole, &mut all);
    // Of processes that have ended.
    let leftovers = ["lock", "address"];
    all.retain(|(path, bytes)| {
        !bytes.is_empty() && !leftovers.iter().any(|name| path.ends_with(name))
    });
    let flips: usize = std::env::var("EDGESMITH_DAMAGE").map_or(FEW, |text| text.parse().unwrap());
    let mut numbers = Numbers(7);
    let (mut same, mut refused, mut found) = (0, 0, 0);
    let copied = at.path().join("copy");
    for round in 0..flips * 3 / 2 {
        let (path, original) = &all[numbers.below(all.len())];
        let name = path.strip_prefix(&whole).unwrap();
        let mut changed = original.clone();
        let said = if round < flips {
            let bit = numbers.below(changed.len() * 8);
            changed[bit / 8] ^= 1 << (bit % 8);
            format!("bit {bit} of {}", name.display())
        } else {
            changed.truncate(numbers.below(changed.len()));
            format!("{} cut to {} bytes", name.display(), changed.len())
        };
        copy(&whole, &copied);
        fs::write(copied.join(name), changed).unwrap();
        let checked = ask(at.path(), "copy", &["check"]);
        let asked = ask(at.path(), "copy", &question);
        for ran in [&checked, &asked] {
            assert!(!ran.stderr().contains("panicked"), "{said}: {}", ran.stderr());
            assert!([0, 1].contains(&ran.code()), "{said}: {}", ran.code());
        }
        if asked.code() == 0 {
            assert_eq!(asked.stdout(), answer, "{said}");
            same += 1;
        } else {
            assert!(asked.stderr().contains("damaged"), "{said}: {}", asked.stderr());
            refused += 1;
        }
        if checked.code() == 1 {
            found += 1;
        } else {
            // The database has nothing that is not in the journal, and is made again. Between the
            // two places of the mark are bytes that say nothing. The end of a hash's line may go.
            // What had arrived of an artifact was not acknowledged, and its hash is checked when
            // the rest is there.
            let line_end = name.extension().is_some_and(|kind| kind == "sum")
                && said.ends_with(&format!("cut to {} bytes", original.len() - 1));
            let says_nothing = name.starts_with("records")
                || name.ends_with("acknowledged")
                || line_end
                || name.starts_with("artifacts/partial");
            assert!(says_nothing, "{said}");
        }
        fs::remove_dir_all(&copied).unwrap();
    }
    println!(
        "{} files damaged {} times: {same} answers as before, {refused} refused, 0 silent; `check` \
         found {found}",
        all.len(),
        same + refused
    );
}

#[test]
fn a_damaged_journal_is_cut_and_goes_on() {
    let at = tempfile::tempdir().unwrap();
    let study = killed(at.path());
    let log = at.path().join("edgesmith-data/journal/1.log");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 16;
    fs::write(&log, bytes).unwrap();
    for refused in [
        ask(at.path(), "edgesmith-data", &["studies"]),
        ask(at.path(), "edgesmith-data", &["check"]),
        run(at.path(), &["coordinator", "--listen", "127.0.0.1:0"]),
    ] {
        let mend = ["1.log is damaged at byte", "are lost, unless a backup", "check --repair"];
        refused.fails(1, &mend);
    }
    let said = ask(at.path(), "edgesmith-data", &["check", "--repair"]).ok();
    assert!(said.contains("records before the damage; ") && said.contains("are lost"), "{said}");
    assert!(said.contains("cut off are in"), "{said}");
    let said = ask(at.path(), "edgesmith-data", &["check", "--repair"]).ok();
    assert!(said.contains("nothing to cut"), "{said}");
    // What is left goes on to its end.
    let coordinator = Coordinator::start(at.path(), 2);
    let _worker = coordinator.worker(&["--slots", "1"]);
    let status = coordinator.wait_until_complete(&study.name);
    assert_eq!(status["trials"]["complete"], study.trials, "{status}");
}

#[test]
fn a_running_coordinator_is_backed_up_and_restored_elsewhere() {
    let at = tempfile::tempdir().unwrap();
    let study = TinyStudy { trials: 12, ..TinyStudy::new("digits") };
    let coordinator = Coordinator::start(at.path(), 20);
    coordinator.submit(&study);
    let worker = coordinator.worker(&["--slots", "2"]);
    coordinator.wait_until(&study.name, "begun", |status| {
        status["trials"]["complete"].as_u64() >= Some(3)
    });
    let before = complete(&coordinator.trials(&study.name));
    let said = ask(at.path(), "edgesmith-data", &["backup", "saved"]).ok();
    assert!(said.starts_with("backed up ") && said.contains(" records and "), "{said}");
    ask(at.path(), "saved", &["check"]).ok();
    ask(at.path(), "edgesmith-data", &["backup", "saved"]).fails(1, &["saved exists and is not"]);
    drop((worker, coordinator));

    let elsewhere = at.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    run(&elsewhere, &["restore", "../saved"]).ok();
    run(&elsewhere, &["restore", "../saved"]).fails(1, &["edgesmith-data exists and is not"]);
    let coordinator = Coordinator::start(&elsewhere, 2);
    let after = complete(&coordinator.trials(&study.name));
    for trial in &before {
        assert!(after.contains(trial), "{trial:?} is gone or has changed");
    }
    let _worker = coordinator.worker(&["--slots", "2"]);
    let status = coordinator.wait_until_complete(&study.name);
    assert_eq!(status["trials"]["complete"], 12, "{status}");
    let number = coordinator.trials(&study.name)[0]["trial"].to_string();
    coordinator.ask(&["export", &study.name, &number, "--format", "edge", "-o", "m.edge"]).ok();
}

#[test]
fn a_directory_is_read_where_nothing_can_be_written() {
    let at = tempfile::tempdir().unwrap();
    killed(at.path());
    let question = ["trials", "digits", "--format", "json", "--data-dir", "edgesmith-data"];
    let answer = run(at.path(), &question).ok();
    // A mount of its own, which ends with the process.
    let mounted = |args: &[&str]| {
        let script = "mount --bind edgesmith-data edgesmith-data && \
                      mount -o remount,bind,ro edgesmith-data && exec \"$@\"";
        let mut run = Command::new("unshare");
        run.args(["-rm", "sh", "-c", script, "sh"]).arg(edgesmith()).args(args);
        Ran(run.current_dir(at.path()).output().expect("unshare starts"))
    };
    let mut mount = Command::new("unshare");
    mount.args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]);
    if !mount.output().is_ok_and(|ran| ran.status.success()) {
        println!("skipped: this machine does not let a test mount a directory read-only");
        return;
    }
    assert_eq!(mounted(&question).ok(), answer);
    mounted(&["check", "--data-dir", "edgesmith-data"]).ok();
    let delete = ["delete", "digits", "--data-dir", "edgesmith-data"];
    mounted(&delete).fails(1, &["cannot be written"]);
    assert_eq!(run(at.path(), &question).ok(), answer);
}

/// Makes the artifacts of a directory an hour old.
fn age(data: &Path) {
    let (mut all, then) = (Vec::new(), SystemTime::now() - Duration::from_secs(3600));
    files(&data.join("artifacts"), &mut all);
    for (path, _) in all {
        fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }
}

#[test]
fn a_directory_without_its_studies_is_nearly_as_small_as_an_empty_one() {
    let at = tempfile::tempdir().unwrap();
    let (full, empty) = (at.path().join("full"), at.path().join("empty"));
    for directory in [&full, &empty] {
        fs::create_dir(directory).unwrap();
        drop(Coordinator::start(directory, 20));
        // A database has its least size from its second opening on.
        run(directory, &["studies"]).ok();
    }
    killed(&full);
    let data = |of: &Path| bytes(&of.join("edgesmith-data"));
    let before = data(&full);
    assert!(before > data(&empty) + 20_000, "{before}");
    let young = run(&full, &["gc"]).ok();
    assert!(young.starts_with("removed 0 artifacts"), "{young}");
    run(&full, &["delete", "digits"]).ok();
    let said = run(&full, &["gc"]).ok();
    assert!(said.contains("; 0 are needed; ") && said.contains("younger than 24 h"), "{said}");
    let said = run(&full, &["gc", "--older-than", "0"]).ok();
    assert!(said.starts_with("removed 0") && said.contains("younger than a minute"), "{said}");
    age(&full.join("edgesmith-data"));
    let said = run(&full, &["gc", "--older-than", "0"]).ok();
    assert!(said.contains("; 0 are needed") && !said.starts_with("removed 0"), "{said}");
    let (after, empty) = (data(&full), data(&empty));
    assert!(after * 10 <= empty * 11, "{after} bytes, and {empty} in an empty directory");
    run(&full, &["check"]).ok();
}

/// A trial that is finished needs no checkpoint any more; its model file stays.
#[test]
fn checkpoints_of_finished_trials_are_collected() {
    let at = tempfile::tempdir().unwrap();
    let more = "[fidelity]\nrule = \"asha\"\n".to_owned();
    let study = TinyStudy { trials: 5, epochs: 9, more, ..TinyStudy::new("rungs") };
    let file = study.write(at.path());
    run(at.path(), &["search", file.to_str().unwrap()]).ok();
    age(&at.path().join("edgesmith-data"));
    let said = run(at.path(), &["gc", "--older-than", "0"]).ok();
    assert!(!said.starts_with("removed 0 artifacts"), "{said}");
    run(at.path(), &["check"]).ok();
    let trials = run(at.path(), &["trials", "rungs", "--format", "json"]).json();
    for (number, _) in complete(trials["trials"].as_array().unwrap()) {
        let number = number.to_string();
        run(at.path(), &["export", "rungs", &number, "--format", "edge", "-o", "m.edge"]).ok();
    }
}
