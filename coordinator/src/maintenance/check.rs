//! Reads everything in a data directory and says what is whole; cuts a damaged log at the damage.

use std::path::Path;
use std::time::Duration;

use edgesmith_common::ArtifactHash;

use super::{MaintenanceError, hold_if_old, is_data_directory};
use crate::core::{Core, CoreConfig, Time, UsedIds};
use crate::store::{
    AccessFiles, ArtifactStore, DataDir, DiskStore, Repaired, Store as _, StoreError,
    half_damaged_mark, read_records, repair_journal,
};

/// How many ids of each kind are left out after a loss of records. Some of them may have been given
/// out by lost records, and workers may still hold them.
const IDS_LEFT_OUT: u64 = 1_000_000;

/// What a data directory has.
#[derive(Debug, Default)]
pub struct Checked {
    /// Records that can be read.
    pub records: u64,
    /// Studies that they make.
    pub studies: usize,
    /// Artifacts whose bytes have their hash.
    pub artifacts: u64,
    /// Their bytes together.
    pub artifact_bytes: u64,
    /// Those of them that no study refers to.
    pub unneeded: u64,
    /// What is damaged or missing, a sentence each.
    pub problems: Vec<String>,
}

/// Reads the journal, every artifact and every file of `access/` in `directory`. Changes nothing. A
/// coordinator may have the directory open, unless an earlier version wrote it last.
///
/// # Errors
/// If the directory cannot be read. Damage is no error, but in the result.
pub fn check(directory: &Path) -> Result<Checked, MaintenanceError> {
    if !is_data_directory(directory) {
        return Err(MaintenanceError::NoDirectory(directory.to_owned()));
    }
    let _held = hold_if_old(directory)?;
    let mut checked = Checked::default();
    match core_of(directory, &mut checked) {
        Ok(core) => {
            checked.studies = core.studies().len();
            if let Some(path) = half_damaged_mark(directory)? {
                checked.problems.push(format!(
                    "{} is damaged in one of two places; nothing is lost, and the next start of a \
                     coordinator mends it",
                    path.display()
                ));
            }
            check_artifacts(directory, Some(&core), &mut checked)?;
        }
        Err(error @ (MaintenanceError::DataDir(_) | MaintenanceError::Io { .. })) => {
            return Err(error);
        }
        Err(error) => {
            checked.problems.push(error.to_string());
            check_artifacts(directory, None, &mut checked)?;
        }
    }
    let access = AccessFiles::new(directory).check()?;
    checked.problems.extend(access.iter().map(ToString::to_string));
    Ok(checked)
}

/// The core that the records make.
fn core_of(directory: &Path, checked: &mut Checked) -> Result<Core, MaintenanceError> {
    let (mut failed, mut records) = (None, 0);
    let read = read_records(directory)?.map_while(|record| match record {
        Ok(record) => {
            records += 1;
            Some(record)
        }
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let core = Core::restore(CoreConfig::default(), read, Time(Duration::ZERO));
    checked.records = records;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(core?),
    }
}

fn check_artifacts(
    directory: &Path,
    core: Option<&Core>,
    checked: &mut Checked,
) -> Result<(), MaintenanceError> {
    let store = ArtifactStore::existing(directory.join("artifacts"));
    let needed = core.map(Core::artifacts);
    let of = |hash: ArtifactHash| needed.as_ref().and_then(|needed| needed.get(&hash));
    for hash in store.list()? {
        match store.verify(hash) {
            Ok(bytes) => {
                checked.artifacts += 1;
                checked.artifact_bytes += bytes;
                checked.unneeded += u64::from(needed.is_some() && of(hash).is_none());
            }
            Err(error) => {
                let whose = of(hash).map(|of| format!(" It is {of}.")).unwrap_or_default();
                checked.problems.push(format!("{error}.{whose}"));
            }
        }
    }
    for (hash, of) in needed.iter().flatten() {
        if !store.contains(*hash) {
            checked.problems.push(format!("artifact {hash} is missing: {of}"));
        }
    }
    Ok(())
}

/// What a repair did.
#[derive(Debug, Default)]
pub struct Repair {
    /// What it did to the journal; `None` if that was whole.
    pub journal: Option<Repaired>,
}

/// Cuts the journal of `directory` at the first damage, if it has any. The bytes after it are kept
/// in a file beside it. Ids that lost records may have given out are not used again.
///
/// # Errors
/// If a process holds the directory, or it cannot be written.
pub fn repair(directory: &Path) -> Result<Repair, MaintenanceError> {
    if !is_data_directory(directory) {
        return Err(MaintenanceError::NoDirectory(directory.to_owned()));
    }
    match DiskStore::open(DataDir::open(directory)?) {
        Ok(_) => Ok(Repair { journal: None }),
        Err(StoreError::Damaged { .. } | StoreError::Mark { .. }) => {
            let journal = repair_journal(&DataDir::open(directory)?)?;
            leave_ids_out(directory)?;
            Ok(Repair { journal: Some(journal) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Adds records to the journal by which ids that may have been given out are not used again.
pub(super) fn leave_ids_out(directory: &Path) -> Result<(), MaintenanceError> {
    let mut store = DiskStore::open(DataDir::open(directory)?)?;
    let mut ids = UsedIds::default();
    for record in store.replay()? {
        ids.note(&record?);
    }
    let UsedIds { tasks_below, attempts_below, workers_below } = ids;
    let ids = UsedIds {
        tasks_below: tasks_below + IDS_LEFT_OUT,
        attempts_below: attempts_below + IDS_LEFT_OUT,
        workers_below: workers_below + IDS_LEFT_OUT,
    };
    Ok(store.append(&ids.reserved())?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use edgesmith_common::StudySpec;

    use super::super::{backup, restore};
    use super::*;
    use crate::core::Record;

    const STUDY: &str = "study.name = \"s\"\nbudget.trials = 1\n\
        objectives = [{ metric = \"validation_accuracy\" }]\ndata.source = \"digits\"\n\
        space = { resolution = 8, stem_width = 8, stages = [{ width = 8 }] }\n\
        recipe.alpha = 0.5\n[teacher]\narchitecture = \"largest\"\nweights = \"w\"\n";

    /// A directory with a study whose teacher is an artifact.
    fn made() -> (tempfile::TempDir, ArtifactHash) {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(dir.path().join("artifacts")).unwrap();
        let hash = store.put(b"the weights").unwrap();
        store.put(b"left over").unwrap();
        AccessFiles::new(dir.path()).key().unwrap();
        let spec = Box::new(StudySpec::parse(STUDY).unwrap());
        let mut records = DiskStore::open(DataDir::open(dir.path()).unwrap()).unwrap();
        let teacher_task = Some(edgesmith_common::TaskId(41));
        let created =
            Record::StudyCreated { spec, teacher_weights: Some(hash), teacher_task, at_ms: 1 };
        records.append(&[created]).unwrap();
        records.append(&[Record::WorkerIdsReserved { below: 7 }]).unwrap();
        (dir, hash)
    }

    fn artifact(of: &Path, hash: ArtifactHash) -> std::path::PathBuf {
        let name = hash.to_string();
        of.join("artifacts").join(&name[..2]).join(name)
    }

    #[test]
    fn a_whole_directory_has_no_problems_and_damage_is_named() {
        let (dir, hash) = made();
        let path = dir.path();
        let whole = check(path).unwrap();
        assert_eq!((whole.records, whole.studies), (2, 1));
        assert_eq!((whole.artifacts, whole.artifact_bytes, whole.unneeded), (2, 20, 1));
        assert_eq!(whole.problems, [""; 0]);

        let problem = |said: &[&str]| {
            let problems = check(path).unwrap().problems;
            assert_eq!(problems.len(), 1, "{problems:?}");
            said.iter().for_each(|said| assert!(problems[0].contains(said), "{problems:?}"));
        };
        let file = artifact(path, hash);
        fs::write(&file, b"the weighty").unwrap();
        problem(&["is damaged", "the given teacher of study s"]);
        fs::remove_file(&file).unwrap();
        problem(&["is missing", "the given teacher of study s"]);
        fs::write(&file, b"the weights").unwrap();
        let key = fs::read(path.join("access/key")).unwrap();
        fs::write(path.join("access/key"), [0; 32]).unwrap();
        problem(&["access/key is damaged"]);
        fs::write(path.join("access/key"), key).unwrap();
        let mark = path.join("journal/acknowledged");
        let mut bytes = fs::read(&mark).unwrap();
        bytes[30] ^= 1;
        fs::write(&mark, bytes).unwrap();
        problem(&["one of two places", "nothing is lost"]);
        drop(DiskStore::open(DataDir::open(path).unwrap()).unwrap());
        assert_eq!(check(path).unwrap().problems, [""; 0]);
    }

    #[test]
    fn a_repair_cuts_the_journal_and_leaves_ids_out() {
        let (dir, _) = made();
        let path = dir.path();
        assert!(repair(path).unwrap().journal.is_none());
        let log = path.join("journal/1.log");
        let mut bytes = fs::read(&log).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&log, bytes).unwrap();
        assert!(check(path).unwrap().problems[0].contains("check --repair"));
        let said = repair(path).unwrap().journal.unwrap();
        assert_eq!((said.kept, said.lost), (1, Some(1)));
        assert_eq!(check(path).unwrap().problems, [""; 0]);
        let last: Vec<Record> = read_records(path).unwrap().skip(1).map(Result::unwrap).collect();
        let ids =
            UsedIds { tasks_below: 1_000_042, attempts_below: 1_000_001, workers_below: 1_000_001 };
        assert_eq!(last, ids.reserved());
    }

    #[test]
    fn a_backup_of_an_open_directory_is_whole_and_is_restored() {
        let (dir, hash) = made();
        let elsewhere = tempfile::tempdir().unwrap();
        let (copy, restored) = (elsewhere.path().join("copy"), elsewhere.path().join("restored"));
        let mut open = DiskStore::open(DataDir::open(dir.path()).unwrap()).unwrap();
        let said = backup(dir.path(), &copy).unwrap();
        assert_eq!((said.records, said.artifacts), (2, 2));
        // What comes later is not in it.
        open.append(&[Record::WorkerIdsReserved { below: 70 }]).unwrap();
        assert_eq!(check(&copy).unwrap().problems, [""; 0]);
        assert_eq!(check(&copy).unwrap().records, 2);
        let again = backup(dir.path(), &copy).unwrap_err().to_string();
        assert!(again.contains("not empty"), "{again}");

        restore(&copy, &restored).unwrap();
        let checked = check(&restored).unwrap();
        assert_eq!((checked.records, checked.problems.len()), (4, 0));
        for file in ["access/key", "access/key.sum"] {
            let read = |of: &Path| fs::read(of.join(file)).unwrap();
            assert_eq!(read(&restored), read(dir.path()));
        }
        fs::write(artifact(&copy, hash), b"x").unwrap();
        let refused = restore(&copy, &elsewhere.path().join("other")).unwrap_err().to_string();
        assert!(refused.contains("is not whole") && refused.contains("damaged"), "{refused}");
    }

    #[test]
    fn other_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for refused in [
            check(dir.path()).err().unwrap(),
            repair(dir.path()).err().unwrap(),
            backup(dir.path(), &dir.path().join("to")).unwrap_err(),
        ] {
            assert!(refused.to_string().contains("no data directory"), "{refused}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
