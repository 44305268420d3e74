//! Directories of earlier versions, crashes while they move to a journal, and deleted studies.

use super::super::format::appends_of_layout_1;
use super::super::sled::{NEW_DATABASE, OLD_DATABASE};
use super::super::{old, sled};
use super::*;

const RECORD: Record = Record::WorkerIdsReserved { below: 7 };

fn open(path: &Path) -> Result<DiskStore, StoreError> {
    DiskStore::open(DataDir::open(path).unwrap())
}

fn read(store: &mut DiskStore) -> Vec<Record> {
    store.replay().unwrap().map(Result::unwrap).collect()
}

/// A directory of format 1: each kind of record in an append of its own, and then a large
/// append of several parts.
fn of_format_1() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    old::tests::make(&dir.path().join(DATABASE), 1, 1, &appends_of_layout_1());
    dir
}

fn is_old(store: &DiskStore) -> bool {
    matches!(store.log, Log::Old(_))
}

/// Checks that the log was moved and holds `before` and one more record, also after another
/// opening.
fn is_moved(mut store: DiskStore, before: &[Record]) {
    let directory = store.directory.path().to_owned();
    for _ in 0..2 {
        assert!(!is_old(&store));
        let now = read(&mut store);
        assert_eq!((&now[..before.len()], &now[before.len()..]), (before, &[RECORD][..]));
        drop(store);
        let database = existing_database(&directory.join(DATABASE)).unwrap().unwrap();
        assert_eq!(database.1, Some(BESIDE_JOURNAL));
        drop(database);
        assert!(!directory.join(OLD_DATABASE).exists());
        store = open(&directory).unwrap();
    }
}

#[test]
fn the_first_append_moves_the_whole_log_to_a_journal() {
    let dir = of_format_1();
    let before = read(&mut open(dir.path()).unwrap());
    assert!(before.len() > 10_000);
    // Opening and reading have not changed the directory.
    let mut store = open(dir.path()).unwrap();
    store.append(&[]).unwrap();
    assert!(is_old(&store) && !dir.path().join(journal::FOLDER).exists());
    store.append(&[RECORD]).unwrap();
    is_moved(store, &before);
}

// The two tests of a crash stop between two steps, so all that was written is on disk.
#[test]
fn a_crash_before_the_mark_leaves_the_old_log() {
    let dir = of_format_1();
    let mut store = open(dir.path()).unwrap();
    let before = read(&mut store);
    let Log::Old(old) = &store.log else { unreachable!() };
    written_again(old, &dir.path().join(journal::FOLDER)).unwrap();
    drop(store);
    let mut store = open(dir.path()).unwrap();
    assert!(is_old(&store));
    assert_eq!(read(&mut store), before);
    store.append(&[RECORD]).unwrap();
    is_moved(store, &before);
}

#[test]
fn a_crash_after_the_mark_leaves_the_journal() {
    for step in 0..3 {
        let dir = of_format_1();
        let mut store = open(dir.path()).unwrap();
        let before = read(&mut store);
        let Log::Old(old) = &store.log else { unreachable!() };
        let folder = dir.path().join(journal::FOLDER);
        Journal::create(&folder, written_again(old, &folder).unwrap()).unwrap();
        drop(store);
        let [database, new, old] =
            [DATABASE, NEW_DATABASE, OLD_DATABASE].map(|name| dir.path().join(name));
        if step > 0 {
            sled::write_format(&new).unwrap();
            fs::rename(&database, &old).unwrap();
        }
        if step > 1 {
            fs::rename(&new, &database).unwrap();
        }
        let mut store = open(dir.path()).unwrap();
        assert!(!is_old(&store));
        store.append(&[RECORD]).unwrap();
        is_moved(store, &before);
    }
}

/// A log of an earlier version beside a journal is removed only if it was moved there.
#[test]
fn a_log_that_was_not_moved_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap().append(&[RECORD]).unwrap();
    let database = dir.path().join(DATABASE);
    fs::remove_dir_all(&database).unwrap();
    let other = Record::WorkerIdsReserved { below: 8 };
    let log = |records: &[Record]| vec![format::encode(records).unwrap()];
    old::tests::make(&database, 2, 2, &log(&[RECORD, other]));
    for _ in 0..2 {
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(refused, StoreError::NotMoved { .. }), "{refused}");
    }
    // Nothing of it is missing.
    fs::remove_dir_all(dir.path().join(journal::FOLDER)).unwrap();
    assert_eq!(read(&mut open(dir.path()).unwrap()).len(), 2);

    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap().append(&[RECORD]).unwrap();
    let database = dir.path().join(DATABASE);
    fs::remove_dir_all(&database).unwrap();
    old::tests::make(&database, 2, 2, &log(&[RECORD]));
    assert_eq!(read(&mut open(dir.path()).unwrap()), [RECORD]);
}

#[test]
fn a_log_that_cannot_be_read_is_not_moved() {
    let dir = of_format_1();
    let db = sled::open_database(&dir.path().join(DATABASE)).unwrap();
    let log = db.open_tree(old::FIRST_LOG).unwrap();
    log.insert(1u64.to_be_bytes(), &[1, 1, 0xff]).unwrap();
    db.flush().unwrap();
    drop((db, log));
    let mut store = open(dir.path()).unwrap();
    let error = store.append(&[RECORD]).unwrap_err().to_string();
    assert!(error.contains("entry 1") && error.contains("damaged"), "{error}");
    drop(store);
    assert!(is_old(&open(dir.path()).unwrap()));
}

#[test]
fn databases_of_later_and_unknown_formats_are_refused() {
    for format in [&0u32.to_be_bytes()[..], &4u32.to_be_bytes(), b"x"] {
        for with_journal in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            if with_journal {
                open(dir.path()).unwrap();
            }
            let db = sled::open_database(&dir.path().join(DATABASE)).unwrap();
            db.insert("format", format).unwrap();
            db.flush().unwrap();
            drop(db);
            // Beside a journal, only a later version's database is not replaced.
            let later = format == 4u32.to_be_bytes();
            let opened = open(dir.path());
            assert_eq!(opened.is_err(), later || !with_journal, "{format:?}");
            if let Err(error) = opened {
                assert!(matches!(error, StoreError::Format { .. }), "{error}");
            }
        }
    }
}

#[test]
fn a_directory_whose_journal_is_gone_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap().append(&[RECORD]).unwrap();
    let folder = dir.path().join(journal::FOLDER);
    fs::remove_file(journal::mark_path(&folder)).unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("acknowledged is missing"), "{error}");
    fs::remove_dir_all(&folder).unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("acknowledged is missing"), "{error}");
}

#[test]
fn a_crash_while_the_first_journal_is_made_leaves_an_empty_directory() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(journal::FOLDER);
    NewLog::create(&folder, 1).unwrap().finish().unwrap();
    let mut store = open(dir.path()).unwrap();
    assert_eq!(read(&mut store), []);
    store.append(&[RECORD]).unwrap();
    drop(store);
    assert_eq!(read(&mut open(dir.path()).unwrap()), [RECORD]);
}

fn created(name: &str) -> Record {
    let text = format!(
        "study.name = \"{name}\"\nbudget.trials = 1\n\
         objectives = [{{ metric = \"validation_accuracy\" }}]\n[table]\npath = \"p\"\n"
    );
    let spec = Box::new(edgesmith_common::StudySpec::parse(&text).unwrap());
    Record::StudyCreated { spec, teacher_weights: None, teacher_task: None, at_ms: 1 }
}

fn name(name: &str) -> edgesmith_common::StudyName {
    name.parse().unwrap()
}

fn started(study: &str, number: u64) -> Record {
    Record::AttemptStarted {
        study: name(study),
        task: edgesmith_common::TaskId(number),
        attempt: edgesmith_common::AttemptId(number + 100),
        worker: edgesmith_common::WorkerId(1),
        elapsed_ms: 0,
    }
}

fn log_bytes(dir: &Path) -> u64 {
    let files = journal::generations(&dir.join(journal::FOLDER)).unwrap();
    assert_eq!(files.len(), 1);
    files[0].1.metadata().unwrap().len()
}

/// Studies that take each other's names, some of which are deleted.
#[test]
fn deleted_studies_leave_the_log_and_their_ids_stay_used() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let empty = log_bytes(dir.path());
    let mut kept = vec![created("b"), started("b", 1)];
    let rename =
        |study: &str, new: &str| Record::StudyRenamed { study: name(study), name: name(new) };
    store.append(&[created("a"), RECORD]).unwrap();
    store.append(&kept).unwrap();
    for number in 0..2000 {
        store.append(&[started("a", number)]).unwrap();
    }
    // `a` becomes `c`, and `b` becomes `a` and lives on.
    store.append(&[rename("a", "c"), rename("b", "a")]).unwrap();
    kept.push(rename("b", "a"));
    let before = log_bytes(dir.path());
    store.append(&[Record::StudyDeleted { study: name("c") }]).unwrap();
    assert!(log_bytes(dir.path()) < before / 50);
    store.append(&[created("c"), started("a", 7)]).unwrap();
    kept.extend([created("c"), started("a", 7)]);

    let reserved = [
        Record::IdsReserved { tasks_below: 1, attempts_below: 2100 },
        Record::WorkerIdsReserved { below: 7 },
    ];
    for _ in 0..2 {
        let all = read(&mut store);
        let (ids, rest) = all.split_at(2);
        assert_eq!((ids, rest), (&reserved[..], &kept[..]));
        drop(store);
        store = open(dir.path()).unwrap();
    }

    // When everything is deleted, an empty log is left, but for the ids.
    for number in 0..100 {
        store.append(&[started("a", number)]).unwrap();
    }
    read(&mut store);
    store.append(&["a", "c"].map(|of| Record::StudyDeleted { study: name(of) })).unwrap();
    assert_eq!(read(&mut store), reserved);
    assert!(log_bytes(dir.path()) < empty + 200);
}

#[test]
fn a_log_of_deleted_studies_is_written_again_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    // Not read yet, so it is not known that they are deleted.
    store.append(&vec![created("a"); 1]).unwrap();
    store.append(&vec![started("a", 5); 1000]).unwrap();
    drop(store);
    let mut store = open(dir.path()).unwrap();
    store.append(&[Record::StudyDeleted { study: name("a") }]).unwrap();
    drop(store);
    let before = log_bytes(dir.path());
    let mut store = open(dir.path()).unwrap();
    store.compact_if_useful();
    assert_eq!(log_bytes(dir.path()), before);
    assert_eq!(read(&mut store).len(), 1002);
    store.compact_if_useful();
    assert_eq!(read(&mut store).len(), 2);
    assert!(log_bytes(dir.path()) < before / 10);
}

#[test]
fn records_of_a_later_version_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    store.append(&[RECORD]).unwrap();
    let Log::Journal(journal) = &mut store.log else { unreachable!() };
    let begin = journal.end().offset;
    journal.append(format::BLOCK + 1, 1, &[1]).unwrap();
    let error = store.replay().unwrap().last().unwrap().unwrap_err().to_string();
    assert!(error.contains(&format!("byte {begin} ")) && error.contains("version"), "{error}");
}
