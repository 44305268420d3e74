//! Damage to the files of the records: whatever bit changes and wherever a file is cut, either all
//! records are found or the directory is refused.
//!
//! `EDGESMITH_DAMAGE=2000` flips that many bits and cuts half as often; without it, a few.

use std::fs;
use std::path::{Path, PathBuf};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{DataDir, DiskStore, Store as _, journal};
use crate::core::Record;

/// Bits changed if the environment does not say.
const FEW: usize = 150;

fn flips() -> usize {
    std::env::var("EDGESMITH_DAMAGE").map_or(FEW, |count| count.parse().expect("a number"))
}

fn records(number: u64) -> Vec<Record> {
    (0..1 + number % 3).map(|more| Record::WorkerIdsReserved { below: number + more }).collect()
}

/// The records of a directory, or why it is refused.
fn read(directory: &Path) -> Result<Vec<Record>, String> {
    let directory = DataDir::open(directory).map_err(|error| error.to_string())?;
    let mut store = DiskStore::open(directory).map_err(|error| error.to_string())?;
    let records = store.replay().map_err(|error| error.to_string())?;
    records.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

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

fn files(of: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.metadata().unwrap().len() > 0 && !path.ends_with("lock") {
            found.push(path);
        }
    }
    found.sort();
}

/// Damages a copy of `whole` many times and checks what is read then.
fn damage_is_never_silent(whole: &Path, acknowledged: &[Record], seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut all = Vec::new();
    files(whole, &mut all);
    let (mut recovered, mut refused) = (0, 0);
    for round in 0..flips() * 3 / 2 {
        let at = tempfile::tempdir().unwrap();
        copy(whole, at.path());
        // Every file in turn, so that the large database does not take nearly all of the damage.
        let file = at.path().join(all[round % all.len()].strip_prefix(whole).unwrap());
        let mut bytes = fs::read(&file).unwrap();
        let said = if round < flips() {
            let bit = rng.random_range(0..bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            format!("bit {bit} of {}", file.display())
        } else {
            bytes.truncate(rng.random_range(0..bytes.len()));
            format!("{} cut to {} bytes", file.display(), bytes.len())
        };
        fs::write(&file, bytes).unwrap();
        match read(at.path()) {
            Ok(found) => {
                assert_eq!(found, acknowledged, "{said}");
                recovered += 1;
            }
            Err(error) => {
                let is_journal = file.parent().unwrap().ends_with(journal::FOLDER);
                assert!(is_journal, "{said}: {error}");
                assert!(error.contains("damaged") || error.contains("missing"), "{said}: {error}");
                assert!(error.contains("check --repair"), "{said}: {error}");
                refused += 1;
            }
        }
    }
    println!("{} files: {recovered} recovered whole, {refused} refused, 0 silent", all.len());
}

/// A directory with these appends, closed, or as a killed process leaves it in an append.
fn made(killed: bool) -> (tempfile::TempDir, Vec<Record>) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = DiskStore::open(DataDir::open(dir.path()).unwrap()).unwrap();
    let mut all = Vec::new();
    for number in 0..60 {
        store.append(&records(number)).unwrap();
        all.extend(records(number));
    }
    drop(store);
    if killed {
        let log = journal::log_path(&dir.path().join(journal::FOLDER), 1);
        let torn = [fs::read(&log).unwrap(), vec![7, 0, 0, 0, 1]].concat();
        fs::write(log, torn).unwrap();
    }
    (dir, all)
}

#[test]
fn damage_after_a_clean_end_is_never_silent() {
    let (dir, all) = made(false);
    damage_is_never_silent(dir.path(), &all, 1);
}

#[test]
fn damage_after_a_kill_is_never_silent() {
    let (dir, all) = made(true);
    damage_is_never_silent(dir.path(), &all, 2);
}
