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

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory::sync_directory;
use super::{DataDir, FormatError, Store, StoreError, format};
use crate::core::Record;

/// The format of the whole database, checked when it is opened: the newest layout that any append
/// in it may have. An older database is raised to this format before anything is appended, so that
/// older programs refuse it.
const FORMAT: u32 = 2;
const FORMAT_KEY: &[u8] = b"format";
const RECORDS_TREE: &[u8] = b"records";

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
    records: ::sled::Tree,
    /// sled's log file, kept open to sync it.
    log: File,
    next: u64,
    /// The format that is written in the database.
    format: u32,
    _directory: DataDir,
}

impl SledStore {
    /// Opens or creates the database of `directory`, and drops the torn tail of an append that
    /// never returned, if there is one.
    ///
    /// # Errors
    /// If it cannot be opened, or has a format that this program does not read.
    pub fn open(directory: DataDir) -> Result<Self, StoreError> {
        let path = directory.path().join("records");
        let database = |source| StoreError::Database { path: path.clone(), source };
        let db = open_database(&path).map_err(database)?;
        let format = check_format(&db, &path)?;
        let records = db.open_tree(RECORDS_TREE).map_err(database)?;
        let log_path = path.join("db");
        let log =
            File::open(&log_path).map_err(|source| StoreError::Sync { path: log_path, source })?;
        let mut store = Self { path, db, records, log, next: 0, format, _directory: directory };
        store.drop_torn_tail()?;
        store.sync()?;
        store.sync_new_files()?;
        Ok(store)
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
            let raised = self.db.insert(FORMAT_KEY, &FORMAT.to_be_bytes());
            raised.map_err(|source| self.database(source))?;
            self.format = FORMAT;
        }
        let bytes = format::encode(records)?;
        let parts = bytes.chunks(PART_BYTES);
        let count = parts.len() as u64;
        let mut batch = ::sled::Batch::default();
        for (sequence, part) in (self.next..).zip(parts) {
            let last = u8::from(sequence + 1 == self.next + count);
            let mut value = Vec::with_capacity(part.len() + 2);
            value.extend_from_slice(&[format::LAYOUT, last]);
            value.extend_from_slice(part);
            batch.insert(&sequence.to_be_bytes(), value);
        }
        self.records.apply_batch(batch).map_err(|source| self.database(source))?;
        self.sync()?;
        self.next += count;
        Ok(())
    }

    fn replay(&mut self) -> Result<Vec<Record>, StoreError> {
        let (mut all, mut decoder) = (Vec::new(), format::Decoder::default());
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
                let records = decoder.decode(layout, &bytes);
                all.extend(records.map_err(|e| self.damaged(first, e.to_string()))?);
                bytes.clear();
                first = expected;
            }
        }
        if expected != self.next {
            return Err(self.damaged(expected, "it is missing".to_owned()));
        }
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
        None if db.tree_names().iter().any(|name| name == RECORDS_TREE) => {
            other("unknown".to_owned())
        }
        None => {
            db.insert(FORMAT_KEY, &FORMAT.to_be_bytes()).map_err(database)?;
            Ok(FORMAT)
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert!(error.contains("record 0") && error.contains("damaged"), "{error}");

        let dir = changed(|_, records| {
            records.insert(key(2), vec![9, 1, 0]).unwrap();
        });
        let error = open(dir.path()).unwrap().replay().unwrap_err().to_string();
        assert!(error.contains("record 2") && error.contains("layout 9"), "{error}");

        let dir = changed(|_, records| {
            records.remove(key(1)).unwrap();
        });
        let error = open(dir.path()).unwrap().replay().unwrap_err().to_string();
        assert!(error.contains("record 1") && error.contains("missing"), "{error}");
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

    #[test]
    fn no_part_goes_to_side_files() {
        let dir = changed(|_, _| {});
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
