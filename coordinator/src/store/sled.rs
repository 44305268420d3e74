//! Records in a sled 0.34 database, durable when `append` returns.
//!
//! This module does what sled 0.34.7 does not do by itself:
//!
//! - sled's `flush` writes the log and starts writing back the pages (`sync_file_range`). That
//!   survives the end of the process but not of the machine, so the file `db` is synced after each
//!   flush.
//! - Values above an eighth of a segment and pages above a quarter go to side files that are never
//!   synced. Entries are therefore cut into parts of [`PART_BYTES`]; a leaf has at most 17 of them,
//!   which stays well below that size.
//! - A batch is recovered as a whole. In addition, the last part of each append is marked, so that
//!   a torn tail is detected and dropped.
//!
//! One append is one run of entries. The key is a sequence number (u64, big-endian). The value is a
//! byte with the layout of the append, a byte that is 1 in the last part and 0 before, and a piece
//! of the records as [`format`] encodes them.
//!
//! Opening and reading do not change a database of an older format. The first append raises it: the
//! whole log is written again in the current layout, to a new tree. Then one batch names that tree
//! as the log and sets the format, and the old tree is removed. After a crash, the log is therefore
//! either the whole old one or the whole new one. The next opening removes the other tree.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory::sync_directory;
use super::{DataDir, FormatError, Store, StoreError, format};
use crate::core::Record;

/// The format of the whole database, checked when it is opened. In a database of this format, every
/// append has the current layout. Programs that only read older formats refuse it.
const FORMAT: u32 = 2;
const FORMAT_KEY: &[u8] = b"format";

/// Holds the name of the tree that the log is in. Without it, that is [`FIRST_LOG`].
const LOG_KEY: &[u8] = b"log";

/// The name of a new database's log. The names of raised logs begin with it, too.
const FIRST_LOG: &[u8] = b"records";

const PART_BYTES: usize = 4096;

/// How often to retry opening a database that this process has just closed, and the pause between
/// the attempts.
const REOPEN_TRIES: u32 = 100;
const REOPEN_PAUSE: Duration = Duration::from_millis(50);

/// The records of one data directory.
#[derive(Debug)]
pub struct SledStore {
    path: PathBuf,
    db: ::sled::Db,
    /// The tree that the log is in.
    records: ::sled::Tree,
    /// sled's log file, kept open to sync it.
    log: File,
    next: u64,
    /// The format that is written in the database.
    format: u32,
    _directory: DataDir,
}

impl SledStore {
    /// Opens or creates the database of `directory`. Removes what a crash may have left there: the
    /// torn tail of an append that never returned, and a log that is not in use.
    ///
    /// # Errors
    /// If it cannot be opened, or has a format that this program does not read.
    pub fn open(directory: DataDir) -> Result<Self, StoreError> {
        let path = directory.path().join("records");
        let database = |source| StoreError::Database { path: path.clone(), source };
        let db = open_database(&path).map_err(database)?;
        let format = check_format(&db, &path)?;
        let records = open_log(&db, &path)?;
        let log_path = path.join("db");
        let log =
            File::open(&log_path).map_err(|source| StoreError::Sync { path: log_path, source })?;
        let mut store = Self { path, db, records, log, next: 0, format, _directory: directory };
        store.drop_other_logs()?;
        store.drop_torn_tail()?;
        store.sync()?;
        store.sync_new_files()?;
        Ok(store)
    }

    /// Raises a database of an older format to [`FORMAT`].
    fn raise(&mut self) -> Result<(), StoreError> {
        let log = self.write_raised_log()?;
        self.switch_to(log)?;
        self.drop_other_logs()?;
        self.sync()
    }

    /// Writes every record to a new tree in the current layout, durably. Studies are then stored
    /// with all defaults filled in, so a later change of a default does not change them. The
    /// database still names the old log.
    fn write_raised_log(&self) -> Result<RaisedLog, StoreError> {
        let name = [FIRST_LOG, format!("-{FORMAT}").as_bytes()].concat();
        let records = self.db.open_tree(&name).map_err(|source| self.database(source))?;
        let (mut old, mut new) = (format::Decoder::default(), format::Decoder::default());
        let mut next = 0;
        self.for_each_append(|first, layout, bytes| {
            let damaged = |e: FormatError| self.damaged(first, e.to_string());
            let raised = format::encode(&old.decode(layout, bytes).map_err(damaged)?)?;
            // The old log is removed later, so the new one must be readable.
            new.decode(format::LAYOUT, &raised).map_err(damaged)?;
            next += self.write(&records, next, &raised)?;
            Ok(())
        })?;
        self.sync()?;
        Ok(RaisedLog { name, records, next })
    }

    /// Makes `log` the database's log, in one step and durably.
    fn switch_to(&mut self, log: RaisedLog) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        batch.insert(FORMAT_KEY, &FORMAT.to_be_bytes());
        batch.insert(LOG_KEY, log.name);
        self.db.apply_batch(batch).map_err(|source| self.database(source))?;
        self.sync()?;
        (self.records, self.next, self.format) = (log.records, log.next, FORMAT);
        Ok(())
    }

    /// Removes logs that are not in use: one that was replaced, or one that was not finished.
    fn drop_other_logs(&self) -> Result<(), StoreError> {
        let used = self.records.name();
        for name in self.db.tree_names() {
            if name.starts_with(FIRST_LOG) && name != used {
                self.db.drop_tree(name).map_err(|source| self.database(source))?;
            }
        }
        Ok(())
    }

    /// Sets `next` to the entry after the last complete append.
    fn drop_torn_tail(&mut self) -> Result<(), StoreError> {
        let mut torn = Vec::new();
        for entry in self.records.iter().rev() {
            let (key, value) = entry.map_err(|source| self.database(source))?;
            let Part { sequence, last, .. } = self.part(&key, &value)?;
            if last {
                self.next = sequence + 1;
                break;
            }
            torn.push(key);
        }
        for key in torn {
            self.records.remove(key).map_err(|source| self.database(source))?;
        }
        Ok(())
    }

    /// Writes the bytes of one append to `tree`, from entry `first` on. Returns how many entries it
    /// takes.
    fn write(&self, tree: &::sled::Tree, first: u64, bytes: &[u8]) -> Result<u64, StoreError> {
        let parts = bytes.chunks(PART_BYTES);
        let count = parts.len() as u64;
        let mut batch = ::sled::Batch::default();
        for (sequence, part) in (first..).zip(parts) {
            let last = u8::from(sequence + 1 == first + count);
            let mut value = Vec::with_capacity(part.len() + 2);
            value.extend_from_slice(&[format::LAYOUT, last]);
            value.extend_from_slice(part);
            batch.insert(&sequence.to_be_bytes(), value);
        }
        tree.apply_batch(batch).map_err(|source| self.database(source))?;
        Ok(count)
    }

    /// Calls `visit` with each append's first entry, layout and bytes, oldest first.
    fn for_each_append(
        &self,
        mut visit: impl FnMut(u64, u8, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (mut expected, mut first, mut bytes) = (0, 0, Vec::new());
        for entry in self.records.iter() {
            let (key, value) = entry.map_err(|source| self.database(source))?;
            let Part { sequence, layout, last, payload } = self.part(&key, &value)?;
            if sequence != expected {
                return Err(self.damaged(expected, "it is missing".to_owned()));
            }
            bytes.extend_from_slice(payload);
            expected += 1;
            if last {
                visit(first, layout, &bytes)?;
                bytes.clear();
                first = expected;
            }
        }
        if expected == self.next {
            Ok(())
        } else {
            Err(self.damaged(expected, "it is missing".to_owned()))
        }
    }

    /// Reads one entry.
    fn part<'a>(&self, key: &[u8], value: &'a [u8]) -> Result<Part<'a>, StoreError> {
        let sequence = <[u8; 8]>::try_from(key)
            .map(u64::from_be_bytes)
            .map_err(|_| self.damaged(0, format!("the key {key:?} is not a sequence number")))?;
        match value {
            [layout @ 1..=format::LAYOUT, last @ (0 | 1), payload @ ..] => {
                Ok(Part { sequence, layout: *layout, last: *last == 1, payload })
            }
            [layout, ..] if *layout > format::LAYOUT => {
                Err(self.damaged(sequence, FormatError::Layout(*layout).to_string()))
            }
            _ => Err(self
                .damaged(sequence, "it does not begin with a layout and a part mark".to_owned())),
        }
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|source| self.database(source))?;
        self.log
            .sync_all()
            .map_err(|source| StoreError::Sync { path: self.path.join("db"), source })
    }

    /// Makes files that opening may have created durable, and their directory entries.
    fn sync_new_files(&self) -> Result<(), StoreError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Sync { path, source }
        };
        let conf = self.path.join("conf");
        File::open(&conf).and_then(|file| file.sync_all()).map_err(failed(&conf))?;
        for directory in self.path.ancestors().take(3) {
            let directory =
                if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            sync_directory(directory).map_err(failed(directory))?;
        }
        Ok(())
    }

    fn database(&self, source: ::sled::Error) -> StoreError {
        StoreError::Database { path: self.path.clone(), source }
    }

    fn damaged(&self, sequence: u64, reason: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), sequence, reason }
    }
}

/// One part of an append.
struct Part<'a> {
    sequence: u64,
    layout: u8,
    /// Whether this is the last part of the append.
    last: bool,
    payload: &'a [u8],
}

/// A log that is written again and not in use yet.
struct RaisedLog {
    name: Vec<u8>,
    records: ::sled::Tree,
    /// The entry after the last append.
    next: u64,
}

/// Opens sled. sled releases its file only some time after the last handle in this process is
/// dropped, so opening is retried. Another process cannot hold it, because this process holds the
/// directory's own lock.
fn open_database(path: &Path) -> ::sled::Result<::sled::Db> {
    let config = ::sled::Config::new().path(path).flush_every_ms(None);
    let held = |error: &::sled::Error| matches!(error, ::sled::Error::Io(error) if error.to_string().contains("acquire lock"));
    for _ in 0..REOPEN_TRIES {
        match config.open() {
            Err(error) if held(&error) => std::thread::sleep(REOPEN_PAUSE),
            opened => return opened,
        }
    }
    config.open()
}

impl Store for SledStore {
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        if self.format != FORMAT {
            self.raise()?;
        }
        let count = self.write(&self.records, self.next, &format::encode(records)?)?;
        self.sync()?;
        self.next += count;
        Ok(())
    }

    fn replay(&mut self) -> Result<Vec<Record>, StoreError> {
        let (mut all, mut decoder) = (Vec::new(), format::Decoder::default());
        self.for_each_append(|first, layout, bytes| {
            let records = decoder.decode(layout, bytes);
            all.extend(records.map_err(|e| self.damaged(first, e.to_string()))?);
            Ok(())
        })?;
        Ok(all)
    }
}

/// The database's format. A new database gets the current one. Refuses a newer one.
fn check_format(db: &::sled::Db, path: &Path) -> Result<u32, StoreError> {
    let database = |source| StoreError::Database { path: path.to_owned(), source };
    let other =
        |found: String| Err(StoreError::Format { path: path.to_owned(), found, expected: FORMAT });
    match db.get(FORMAT_KEY).map_err(database)? {
        Some(found) => match <[u8; 4]>::try_from(&*found).map(u32::from_be_bytes) {
            Ok(number @ 1..=FORMAT) => Ok(number),
            Ok(number) => other(number.to_string()),
            Err(_) => other(format!("{:?}", &*found)),
        },
        None if db.tree_names().iter().any(|name| name.starts_with(FIRST_LOG)) => {
            other("unknown".to_owned())
        }
        None => {
            db.insert(FORMAT_KEY, &FORMAT.to_be_bytes()).map_err(database)?;
            Ok(FORMAT)
        }
    }
}

/// The tree that the log is in. Creates it in a new database.
fn open_log(db: &::sled::Db, path: &Path) -> Result<::sled::Tree, StoreError> {
    let database = |source| StoreError::Database { path: path.to_owned(), source };
    let named = db.get(LOG_KEY).map_err(database)?;
    if let Some(name) = &named
        && !db.tree_names().contains(name)
    {
        let reason = "the tree that holds it is missing".to_owned();
        return Err(StoreError::Damaged { path: path.to_owned(), sequence: 0, reason });
    }
    db.open_tree(named.as_deref().unwrap_or(FIRST_LOG)).map_err(database)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const RECORD: Record = Record::WorkerIdsReserved { below: 7 };

    fn open(path: &Path) -> Result<SledStore, StoreError> {
        SledStore::open(DataDir::open(path).unwrap())
    }

    /// A closed store of three appends, the middle one in several parts, after `change`.
    fn changed(change: impl FnOnce(&::sled::Db, &::sled::Tree)) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        store.append(&[RECORD]).unwrap();
        store.append(&vec![RECORD; 3 * PART_BYTES]).unwrap();
        store.append(&[RECORD]).unwrap();
        change(&store.db, &store.records);
        store.db.flush().unwrap();
        dir
    }

    fn key(sequence: u64) -> [u8; 8] {
        sequence.to_be_bytes()
    }

    #[test]
    fn damaged_entries_are_reported_by_number() {
        let dir = changed(|_, records| {
            records.insert(key(0), vec![format::LAYOUT, 1, 0xff, 0xff]).unwrap();
        });
        let error = open(dir.path()).unwrap().replay().unwrap_err().to_string();
        assert!(error.contains("entry 0") && error.contains("damaged"), "{error}");

        let dir = changed(|_, records| {
            records.insert(key(2), vec![9, 1, 0]).unwrap();
        });
        let error = open(dir.path()).unwrap().replay().unwrap_err().to_string();
        assert!(error.contains("entry 2") && error.contains("layout 9"), "{error}");

        let dir = changed(|_, records| {
            records.remove(key(1)).unwrap();
        });
        let error = open(dir.path()).unwrap().replay().unwrap_err().to_string();
        assert!(error.contains("entry 1") && error.contains("missing"), "{error}");
    }

    #[test]
    fn the_torn_tail_of_an_append_is_dropped() {
        let dir = changed(|_, records| {
            let (last, _) = records.last().unwrap().unwrap();
            let next = u64::from_be_bytes((&*last).try_into().unwrap()) + 1;
            records.insert(key(next), vec![format::LAYOUT, 0, 1]).unwrap();
            records.insert(key(next + 1), vec![format::LAYOUT, 0, 1]).unwrap();
        });
        let mut store = open(dir.path()).unwrap();
        let before = store.replay().unwrap();
        assert_eq!(before.len(), 3 * PART_BYTES + 2);
        store.append(&[RECORD]).unwrap();
        assert_eq!(store.replay().unwrap().len(), before.len() + 1);
    }

    #[test]
    fn opening_waits_for_a_database_that_is_still_being_closed() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        let held = first.db.clone();
        drop(first);
        let letting_go = std::thread::spawn(move || {
            std::thread::sleep(4 * REOPEN_PAUSE);
            drop(held);
        });
        open(dir.path()).unwrap();
        letting_go.join().unwrap();
    }

    #[test]
    fn newer_and_unknown_formats_are_refused() {
        let dir = changed(|db, _| {
            db.insert(FORMAT_KEY, &3u32.to_be_bytes()).unwrap();
        });
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("format 3") && error.contains("format 2"), "{error}");

        let dir = changed(|db, _| {
            db.remove(FORMAT_KEY).unwrap();
        });
        assert!(matches!(open(dir.path()), Err(StoreError::Format { .. })));
    }

    /// A closed store of format 1: each kind of record in an append of its own, and then a large
    /// append of several parts.
    fn of_format_1() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        store.db.insert(FORMAT_KEY, &1u32.to_be_bytes()).unwrap();
        let mut next = 0;
        for bytes in format::appends_of_layout_1() {
            let parts = bytes.chunks(PART_BYTES);
            let last = parts.len() - 1;
            for (place, part) in parts.enumerate() {
                let value = [&[1, u8::from(place == last)], part].concat();
                store.records.insert(key(next), value).unwrap();
                next += 1;
            }
        }
        store.db.flush().unwrap();
        dir
    }

    fn logs(store: &SledStore) -> Vec<String> {
        let names = store.db.tree_names().into_iter();
        let names = names.map(|name| String::from_utf8(name.to_vec()).unwrap());
        names.filter(|name| !name.starts_with("__sled")).collect()
    }

    /// The layouts in the log, each once.
    fn layouts(store: &SledStore) -> BTreeSet<u8> {
        store.records.iter().map(|entry| entry.unwrap().1[0]).collect()
    }

    /// Checks that the store was raised, and holds `before` and one more record.
    fn is_raised(store: &mut SledStore, before: &[Record]) {
        assert_eq!((store.format, logs(store)), (2, vec!["records-2".to_owned()]));
        assert_eq!(layouts(store), BTreeSet::from([2]));
        let now = store.replay().unwrap();
        assert_eq!((&now[..before.len()], &now[before.len()..]), (before, &[RECORD][..]));
    }

    #[test]
    fn the_first_append_raises_the_whole_log() {
        let dir = of_format_1();
        let before = open(dir.path()).unwrap().replay().unwrap();
        assert!(before.len() > 3 * PART_BYTES);
        // Opening and reading have not changed the database.
        let mut store = open(dir.path()).unwrap();
        assert_eq!((store.format, logs(&store)), (1, vec!["records".to_owned()]));
        assert_eq!(layouts(&store), BTreeSet::from([1]));
        store.append(&[]).unwrap();
        assert_eq!(store.format, 1);

        store.append(&[RECORD]).unwrap();
        is_raised(&mut store, &before);
        drop(store);
        let mut store = open(dir.path()).unwrap();
        is_raised(&mut store, &before);
        store.append(&[RECORD]).unwrap();
        assert_eq!(store.replay().unwrap().len(), before.len() + 2);
    }

    // The two tests of a crash close the database between two steps, so all that was written is on
    // disk. They do not cut a write short.
    #[test]
    fn a_crash_before_the_switch_leaves_the_old_log() {
        for whole in [true, false] {
            let dir = of_format_1();
            let mut store = open(dir.path()).unwrap();
            let before = store.replay().unwrap();
            let RaisedLog { records, .. } = store.write_raised_log().unwrap();
            if !whole {
                records.pop_max().unwrap();
                store.sync().unwrap();
            }
            drop((records, store));
            let mut store = open(dir.path()).unwrap();
            assert_eq!((store.format, logs(&store)), (1, vec!["records".to_owned()]));
            assert_eq!(store.replay().unwrap(), before);
            store.append(&[RECORD]).unwrap();
            is_raised(&mut store, &before);
        }
    }

    #[test]
    fn a_crash_after_the_switch_leaves_the_new_log() {
        let dir = of_format_1();
        let mut store = open(dir.path()).unwrap();
        let before = store.replay().unwrap();
        let log = store.write_raised_log().unwrap();
        store.switch_to(log).unwrap();
        assert_eq!(logs(&store).len(), 2);
        drop(store);
        let mut store = open(dir.path()).unwrap();
        assert_eq!(store.replay().unwrap(), before);
        store.append(&[RECORD]).unwrap();
        is_raised(&mut store, &before);
    }

    #[test]
    fn a_log_that_cannot_be_read_is_not_raised() {
        let dir = of_format_1();
        let mut store = open(dir.path()).unwrap();
        store.records.insert(key(1), &[1, 1, 0xff]).unwrap();
        let error = store.append(&[RECORD]).unwrap_err().to_string();
        assert!(error.contains("entry 1") && error.contains("damaged"), "{error}");
        drop(store);
        let store = open(dir.path()).unwrap();
        assert_eq!((store.format, logs(&store)), (1, vec!["records".to_owned()]));
    }

    #[test]
    fn a_missing_log_is_reported() {
        let dir = changed(|db, _| {
            db.insert(LOG_KEY, "records-2").unwrap();
        });
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }

    #[test]
    fn no_part_goes_to_side_files() {
        // The second one is raised first, which writes many records without a flush.
        for dir in [changed(|_, _| {}), of_format_1()] {
            let mut store = open(dir.path()).unwrap();
            let text = "y".repeat(100_000);
            for _ in 0..20 {
                let (study, reason) = ("s".parse().unwrap(), text.clone());
                store.append(&[Record::ProposalsEnded { study, reason }]).unwrap();
            }
            let side_files = std::fs::read_dir(store.path.join("blobs")).unwrap();
            assert_eq!(side_files.count(), 0);
        }
    }
}
