//! Reads everything in a data directory and says what is whole; cuts a damaged log at the damage.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use edgesmith_common::{ArtifactHash, quoted};

use super::{MaintenanceError, hold_if_old, is_data_directory, unused_id};
use crate::core::{ArtifactUse, Core, CoreConfig, Time};
use crate::service::tls::Authority;
use crate::store::{
    AccessFiles, ArtifactError, ArtifactStore, DataDir, DiskStore, Repaired, Replay, StoreError,
    check_finished, half_damaged_mark, read_records, repair_journal,
};

/// What a data directory has.
#[derive(Debug, Default)]
pub struct Checked {
    /// The records and the studies that they make; `None` if not all records can be read.
    pub records: Option<(u64, usize)>,
    /// Artifacts whose bytes have their hash.
    pub artifacts: u64,
    /// Their bytes together.
    pub artifact_bytes: u64,
    /// Those of them that no study refers to.
    pub unneeded: u64,
    /// How many tokens there are; `None` if they cannot be read.
    pub tokens: Option<usize>,
    /// What is damaged in the journal and in `access/`, a sentence each.
    pub problems: Vec<String>,
    /// The artifacts that are damaged or missing, a sentence each.
    pub artifact_problems: Vec<String>,
}

/// Reads the journal, every artifact and every file of `access/` in `directory`. Changes nothing. A
/// coordinator may have the directory open, unless an earlier version wrote it last.
///
/// # Errors
/// If the directory cannot be read. Damage is not an error; the result lists it.
pub fn check(directory: &Path) -> Result<Checked, MaintenanceError> {
    if !is_data_directory(directory) {
        return Err(MaintenanceError::NoDirectory(directory.to_owned()));
    }
    check_finished(directory)?;
    let mut checked = Checked::default();
    let held = match hold_if_old(directory) {
        Err(error @ MaintenanceError::MarkRemoved { .. }) => Err(error),
        held => Ok(held?),
    };
    match held.and_then(|held| Ok((core_of(directory)?, held))) {
        Ok(((core, records), _held)) => {
            checked.records = Some((records, core.studies().len()));
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
        Err(error @ MaintenanceError::MarkRemoved { .. }) => {
            checked.problems.push(error.to_string());
            check_artifacts(directory, None, &mut checked)?;
        }
        Err(error) => {
            let saved = saved_before_a_repair(directory)?;
            checked.problems.push(format!("{error}{}", saved.unwrap_or_default()));
            check_artifacts(directory, None, &mut checked)?;
        }
    }
    let access = AccessFiles::new(directory);
    checked.tokens = access.tokens().ok().map(|tokens| tokens.len());
    let problems = access.check()?.into_iter().chain(Authority::problem(&access));
    checked.problems.extend(problems.map(|problem| problem.to_string()));
    Ok(checked)
}

/// How to save what a coordinator that has the directory open still knows, to end a sentence with.
fn saved_before_a_repair(directory: &Path) -> Result<Option<String>, MaintenanceError> {
    let Some(holder) = DataDir::holder(directory)? else { return Ok(None) };
    let process = holder.pid.map(|pid| format!(", process {pid},")).unwrap_or_default();
    let directory = quoted(directory);
    Ok(Some(format!(
        "; the coordinator{process} that has this directory open still has all of its studies: before \
         you stop it, save what `edgesmith trials STUDY --format json --data-dir {directory}` prints \
         of each; after the repair, `edgesmith import STUDY FILE` takes it in"
    )))
}

/// The core that the records make, and how many they are.
fn core_of(directory: &Path) -> Result<(Core, u64), MaintenanceError> {
    core_from(read_records(directory)?)
}

/// The core that these records make, and how many they are.
pub(super) fn core_from(records: Replay<'_>) -> Result<(Core, u64), MaintenanceError> {
    let (mut failed, mut count) = (None, 0);
    let read = records.map_while(|record| match record {
        Ok(record) => {
            count += 1;
            Some(record)
        }
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let core = Core::restore(CoreConfig::default(), read, Time(Duration::ZERO));
    match failed {
        Some(error) => Err(error.into()),
        None => Ok((core?, count)),
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
    let mut found = Vec::new();
    for hash in store.list()? {
        match store.verify(hash) {
            Ok(bytes) => {
                checked.artifacts += 1;
                checked.artifact_bytes += bytes;
                checked.unneeded += u64::from(needed.is_some() && of(hash).is_none());
            }
            // It was collected meanwhile, or is missing, which is said below.
            Err(ArtifactError::Missing(_)) => {}
            Err(error) => found.push((of(hash).cloned(), damaged(&error, of(hash), directory))),
        }
    }
    if let Some(needed) = &needed
        && needed.keys().any(|hash| !store.contains(*hash))
    {
        // A coordinator may have removed them, because they are not needed any more.
        let still = core_of(directory)?.0.artifacts();
        found.extend(missing(&store, needed, &still, directory));
    }
    checked.artifact_problems.extend(in_order_of_making(found));
    Ok(())
}

/// The sentences in the order in which their artifacts are made again: what a training needs comes
/// before what it makes.
pub(super) fn in_order_of_making(
    mut found: Vec<(Option<ArtifactUse>, String)>,
) -> impl Iterator<Item = String> {
    found.sort();
    found.into_iter().map(|(_, sentence)| sentence)
}

/// A sentence on a damaged artifact that is for `of`.
pub(super) fn damaged(error: &ArtifactError, of: Option<&ArtifactUse>, directory: &Path) -> String {
    let Some(of) = of else { return format!("{error}.") };
    format!("{error}. It is {of}{}.", made_again(of, directory))
}

/// What to do without a backup, to end a sentence with.
fn made_again(of: &ArtifactUse, directory: &Path) -> String {
    of.mend(directory).map(|mend| format!("; without a backup, {mend}")).unwrap_or_default()
}

/// A sentence for each artifact that is needed, and `still` is, but missing, with its use.
pub(super) fn missing(
    store: &ArtifactStore,
    needed: &BTreeMap<ArtifactHash, ArtifactUse>,
    still: &BTreeMap<ArtifactHash, ArtifactUse>,
    directory: &Path,
) -> Vec<(Option<ArtifactUse>, String)> {
    let gone = needed.iter().filter(|(hash, _)| still.contains_key(*hash));
    let gone = gone.filter(|(hash, _)| !store.contains(**hash));
    let sentence = |(hash, of): (&ArtifactHash, &ArtifactUse)| {
        let path = store.path(*hash);
        let (path, again) = (path.display(), made_again(of, directory));
        let sentence = format!(
            "artifact {hash} is missing: {of}; copy {path} from a backup, if you have one{again}"
        );
        (Some(of.clone()), sentence)
    };
    gone.map(sentence).collect()
}

/// What a repair did.
#[derive(Debug, Default)]
pub struct Repair {
    /// What it did to the journal; `None` if that was whole.
    pub journal: Option<Repaired>,
}

/// Cuts the journal of `directory` at the first damage, if it has any. The bytes after it are kept
/// in a file beside it. Ids that lost records may have given out before `now` are not used again.
///
/// # Errors
/// If a process holds the directory, or it cannot be written.
pub fn repair(directory: &Path, now: SystemTime) -> Result<Repair, MaintenanceError> {
    if !is_data_directory(directory) {
        return Err(MaintenanceError::NoDirectory(directory.to_owned()));
    }
    match DiskStore::open(DataDir::open(directory)?) {
        Ok(_) => Ok(Repair { journal: None }),
        Err(StoreError::Damaged { .. } | StoreError::Header { .. } | StoreError::Mark { .. }) => {
            let journal = repair_journal(&DataDir::open(directory)?, unused_id(now))?;
            Ok(Repair { journal: Some(journal) })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::UNIX_EPOCH;

    use edgesmith_common::StudySpec;

    use super::super::{backup, restore};
    use super::*;
    use crate::core::{Record, UsedIds};
    use crate::store::Store as _;

    const STUDY: &str = "study.name = \"s\"\nbudget.trials = 1\n\
        objectives = [{ metric = \"validation_accuracy\" }]\ndata.source = \"digits\"\n\
        space = { resolution = 8, stem_width = 8, stages = [{ width = 8 }] }\n\
        recipe.alpha = 0.5\n[teacher]\narchitecture = \"largest\"\nweights = \"w\"\n";

    /// A directory with a study whose teacher is an artifact.
    fn made() -> (tempfile::TempDir, ArtifactHash) {
        let dir = tempfile::tempdir().unwrap();
        let mut records = DiskStore::open(DataDir::open(dir.path()).unwrap()).unwrap();
        let store = ArtifactStore::open(dir.path().join("artifacts")).unwrap();
        let hash = store.put(b"the weights").unwrap();
        store.put(b"left over").unwrap();
        AccessFiles::new(dir.path()).key().unwrap();
        let spec = Box::new(StudySpec::parse(STUDY).unwrap());
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
        assert_eq!(whole.records, Some((2, 1)));
        assert_eq!((whole.artifacts, whole.artifact_bytes, whole.unneeded), (2, 20, 1));
        assert_eq!(whole.problems, [""; 0]);

        let problem = |said: &[&str]| {
            let Checked { problems, artifact_problems, .. } = check(path).unwrap();
            let problems = [problems, artifact_problems].concat();
            assert_eq!(problems.len(), 1, "{problems:?}");
            said.iter().for_each(|said| assert!(problems[0].contains(said), "{problems:?}"));
        };
        let file = artifact(path, hash);
        fs::write(&file, b"the weighty").unwrap();
        problem(&["is damaged", "the given teacher of study s"]);
        fs::remove_file(&file).unwrap();
        problem(&["is missing", "the given teacher of study s; copy"]);
        fs::write(&file, b"the weights").unwrap();
        let key = fs::read(path.join("access/key")).unwrap();
        fs::write(path.join("access/key"), [0; 32]).unwrap();
        problem(&["access/key is damaged"]);
        fs::write(path.join("access/key"), key).unwrap();
        // Without checksums, as an earlier version left them, files still have to make sense.
        let authority =
            ["authority.pem", "authority-key.pem"].map(|of| path.join("access").join(of));
        authority.iter().for_each(|file| fs::write(file, "nonsense").unwrap());
        problem(&["access/authority.pem is damaged", "make new tokens"]);
        authority.iter().for_each(|file| fs::remove_file(file).unwrap());
        let mark = path.join("journal/acknowledged");
        let mut bytes = fs::read(&mark).unwrap();
        bytes[30] ^= 1;
        fs::write(&mark, bytes).unwrap();
        problem(&["one of two places", "nothing is lost"]);
        drop(DiskStore::open(DataDir::open(path).unwrap()).unwrap());
        assert_eq!(check(path).unwrap().problems, [""; 0]);
    }

    #[test]
    fn a_mark_that_was_removed_under_a_coordinator_is_named() {
        let (dir, _) = made();
        let held = DataDir::open(dir.path()).unwrap();
        fs::remove_file(dir.path().join("journal/acknowledged")).unwrap();
        let Checked { problems, .. } = check(dir.path()).unwrap();
        let process = format!("the coordinator, process {},", std::process::id());
        assert!(matches!(&problems[..], [one] if one.contains(&process)), "{problems:?}");
        assert!(problems[0].contains("nothing is lost"), "{problems:?}");
        let to = dir.path().with_extension("backup");
        let refused = backup(dir.path(), &to).unwrap_err().to_string();
        assert!(refused.contains("writes the file again"), "{refused}");
        drop(held);
        // No other process has the directory open now.
        let Checked { problems, .. } = check(dir.path()).unwrap();
        assert!(matches!(&problems[..], [one] if one.contains("check --repair")), "{problems:?}");
        assert!(!problems[0].contains("still has all"), "{problems:?}");
    }

    #[test]
    fn a_repair_cuts_the_journal_and_leaves_ids_out() {
        let (made, _) = made();
        let dir = tempfile::tempdir().unwrap();
        let path = &dir.path().join("my data");
        fs::rename(made.path(), path).unwrap();
        let now = UNIX_EPOCH + Duration::from_millis(1_000_000);
        assert!(repair(path, now).unwrap().journal.is_none());
        let log = path.join("journal/1.log");
        let mut bytes = fs::read(&log).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&log, bytes).unwrap();
        let word = quoted(path);
        let command = format!("check --repair --data-dir {word}`");
        assert!(word.starts_with('\''), "{word}");
        assert!(check(path).unwrap().problems[0].contains(&command));
        let said = repair(path, now).unwrap().journal.unwrap();
        assert_eq!((said.kept, said.lost), (1, Some(1)));
        assert_eq!(check(path).unwrap().problems, [""; 0]);
        let last: Vec<Record> = read_records(path).unwrap().skip(1).map(Result::unwrap).collect();
        let (tasks_below, attempts_below, workers_below) = (16_000_000, 16_000_000, 16_000_000);
        let ids = UsedIds { tasks_below, attempts_below, workers_below };
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
        assert_eq!(check(&copy).unwrap().records, Some((2, 1)));
        let again = backup(dir.path(), &copy).unwrap_err().to_string();
        assert!(again.contains("not empty"), "{again}");

        restore(&copy, &restored, SystemTime::now()).unwrap();
        let checked = check(&restored).unwrap();
        assert_eq!((checked.records, checked.problems.len()), (Some((4, 1)), 0));
        let key = |of: &Path| fs::read(of.join("access/key")).unwrap();
        assert_eq!(key(&restored), key(dir.path()));
        // A damaged or missing artifact is said, and the rest is copied.
        for damage in [Some(b"x"), None] {
            match damage {
                Some(bytes) => fs::write(artifact(&copy, hash), bytes).unwrap(),
                None => fs::remove_file(artifact(&copy, hash)).unwrap(),
            }
            let said = restore(&copy, &elsewhere.path().join("other"), SystemTime::now()).unwrap();
            assert_eq!((said.artifacts, said.problems.is_empty()), (1, false), "{said:?}");
            assert!(said.problems[0].contains("the given teacher of study s"), "{said:?}");
            fs::remove_dir_all(elsewhere.path().join("other")).unwrap();
        }
        fs::write(copy.join("access/key"), b"x").unwrap();
        let other = elsewhere.path().join("other");
        let refused = restore(&copy, &other, SystemTime::now()).unwrap_err().to_string();
        assert!(refused.contains("is not whole") && refused.contains("damaged"), "{refused}");
    }

    /// The records are marked last, so that a coordinator does not take a part for the whole.
    #[test]
    fn a_copy_that_was_interrupted_is_no_data_directory() {
        let (dir, _) = made();
        let elsewhere = tempfile::tempdir().unwrap();
        crate::store::copy_records(dir.path(), elsewhere.path()).unwrap();
        assert!(!crate::store::has_journal(elsewhere.path()).unwrap());
        assert!(DiskStore::open(DataDir::open(elsewhere.path()).unwrap()).is_err());
    }

    /// What a backup leaves that fails is not taken for an empty directory, whatever is done next.
    #[test]
    fn a_backup_that_failed_stays_refused_until_it_is_removed() {
        let (dir, _) = made();
        let elsewhere = tempfile::tempdir().unwrap();
        let (log, to) = (dir.path().join("journal/1.log"), elsewhere.path().join("copy"));
        let whole = fs::read(&log).unwrap();
        let mut damaged = whole.clone();
        damaged[100] ^= 1;
        fs::write(&log, damaged).unwrap();
        let error = backup(dir.path(), &to).unwrap_err().to_string();
        assert!(error.contains("is damaged at byte") && error.contains("remove it"), "{error}");
        fs::write(&log, whole).unwrap();
        let now = SystemTime::now();
        let refused = [
            DataDir::open(&to).unwrap_err().to_string(),
            DataDir::open_read_only(&to).unwrap_err().to_string(),
            check(&to).err().unwrap().to_string(),
            repair(&to, now).err().unwrap().to_string(),
            backup(dir.path(), &to).unwrap_err().to_string(),
            restore(&to, &elsewhere.path().join("other"), now).unwrap_err().to_string(),
        ];
        for refused in refused {
            assert!(refused.contains("not finished; remove it"), "{refused}");
        }
        fs::remove_dir_all(&to).unwrap();
        backup(dir.path(), &to).unwrap();
        assert_eq!(check(&to).unwrap().problems, [""; 0]);
    }

    #[test]
    fn a_backup_does_not_go_into_what_is_copied() {
        let (dir, _) = made();
        let before = fs::read_dir(dir.path()).unwrap().count();
        for inside in ["copy", "", "artifacts/copy"] {
            let refused = backup(dir.path(), &dir.path().join(inside)).unwrap_err().to_string();
            assert!(refused.contains("which is copied"), "{refused}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before);
    }

    /// Artifacts without a journal are what is left of a directory, and no new one.
    #[test]
    fn a_directory_that_lost_its_journal_is_refused() {
        let (dir, _) = made();
        for gone in ["journal", "records"] {
            fs::remove_dir_all(dir.path().join(gone)).unwrap();
        }
        let refused = DiskStore::open(DataDir::open(dir.path()).unwrap()).unwrap_err().to_string();
        assert!(refused.contains("acknowledged is missing"), "{refused}");
        let problems = check(dir.path()).unwrap().problems;
        assert!(problems[0].contains("acknowledged is missing"), "{problems:?}");
        let said = repair(dir.path(), SystemTime::now()).unwrap().journal.unwrap();
        assert_eq!((said.kept, said.lost), (0, None));
        DiskStore::open(DataDir::open(dir.path()).unwrap()).unwrap();
    }

    #[test]
    fn other_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for refused in [
            check(dir.path()).err().unwrap(),
            repair(dir.path(), SystemTime::now()).err().unwrap(),
            backup(dir.path(), &dir.path().join("to")).unwrap_err(),
        ] {
            assert!(refused.to_string().contains("not a data directory"), "{refused}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
