//! The log of an earlier version: records in a sled 0.34 database, in `records/`. It is only read;
//! [`DiskStore`](super::DiskStore) moves it to a journal with the first change.
//!
//! Why it is no longer written: sled takes a bad checksum for the end of its log, so one changed
//! bit loses everything after it, without a word.
//!
//! One append is one run of entries. The key is a sequence number (u64, big-endian). The value is a
//! byte with the layout of the append, a byte that is 1 in the last part of the append and 0
//! before, and a piece of the records as [`format`] encodes them. What follows the last part that
//! is marked so is an append that never returned; it is left out.

use std::path::{Path, PathBuf};

use super::sled::open_database;
use super::{FormatError, StoreError, format};
use crate::core::Record;

/// The newest format of a database that holds a log.
pub const NEWEST: u32 = 2;
/// Holds the name of the tree that the log is in. Without it, that is [`FIRST_LOG`].
const LOG_KEY: &[u8] = b"log";
/// The name of the first log's tree. The names of logs that took its place begin with it, too.
pub const FIRST_LOG: &[u8] = b"records";

/// The log of a database.
#[derive(Debug)]
pub struct OldLog {
    path: PathBuf,
    records: ::sled::Tree,
    /// Keeps the database open.
    _db: ::sled::Db,
}

impl OldLog {
    /// Opens the log in the database of `path`.
    ///
    /// # Errors
    /// If it cannot be opened or has no log.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = |source| StoreError::Database { path: path.to_owned(), source };
        Self::of(path, open_database(path).map_err(database)?)
    }

    /// The log in `db`, the database of `path`.
    ///
    /// # Errors
    /// If it has no log.
    pub fn of(path: &Path, db: ::sled::Db) -> Result<Self, StoreError> {
        let database = |source| StoreError::Database { path: path.to_owned(), source };
        let named = db.get(LOG_KEY).map_err(database)?;
        if let Some(name) = &named
            && !db.tree_names().contains(name)
        {
            let problem = "the tree that holds the log is missing".to_owned();
            return Err(StoreError::OldDamaged { path: path.to_owned(), sequence: 0, problem });
        }
        let records = db.open_tree(named.as_deref().unwrap_or(FIRST_LOG)).map_err(database)?;
        Ok(Self { path: path.to_owned(), records, _db: db })
    }

    /// All records, oldest first.
    ///
    /// # Errors
    /// If an entry is missing, or not what was written.
    pub fn read(&self) -> Result<Vec<Record>, StoreError> {
        let (mut all, mut decoder) = (Vec::new(), format::Decoder::default());
        let (mut expected, mut first, mut bytes) = (0, 0, Vec::new());
        for entry in self.records.iter() {
            let database = |source| StoreError::Database { path: self.path.clone(), source };
            let (key, value) = entry.map_err(database)?;
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
        Ok(all)
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

    fn damaged(&self, sequence: u64, problem: String) -> StoreError {
        StoreError::OldDamaged { path: self.path.clone(), sequence, problem }
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

#[cfg(test)]
pub mod tests {
    use super::*;

    const PART_BYTES: usize = 4096;

    /// Makes a database of an earlier version in `path`, with these appends.
    pub fn make(path: &Path, format: u32, layout: u8, appends: &[Vec<u8>]) {
        let db = open_database(path).unwrap();
        db.insert(b"format", &format.to_be_bytes()).unwrap();
        let name = if format == 1 { FIRST_LOG.to_vec() } else { b"records-2".to_vec() };
        if format > 1 {
            db.insert(LOG_KEY, name.clone()).unwrap();
        }
        let (tree, mut next) = (db.open_tree(name).unwrap(), 0u64);
        for bytes in appends {
            let parts = bytes.chunks(PART_BYTES);
            let last = parts.len() - 1;
            for (place, part) in parts.enumerate() {
                let value = [&[layout, u8::from(place == last)], part].concat();
                tree.insert(next.to_be_bytes(), value).unwrap();
                next += 1;
            }
        }
        db.flush().unwrap();
    }

    /// A database of three appends, the middle one in several parts, after `change`.
    fn changed(change: impl FnOnce(&::sled::Db, &::sled::Tree)) -> (tempfile::TempDir, OldLog) {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::WorkerIdsReserved { below: 7 };
        let append = |count| format::encode(&vec![record.clone(); count]).unwrap();
        make(dir.path(), 2, 2, &[append(1), append(3 * PART_BYTES), append(1)]);
        let db = open_database(dir.path()).unwrap();
        let log = db.open_tree("records-2").unwrap();
        change(&db, &log);
        db.flush().unwrap();
        drop((db, log));
        let log = OldLog::open(dir.path()).unwrap();
        (dir, log)
    }

    fn key(sequence: u64) -> [u8; 8] {
        sequence.to_be_bytes()
    }

    #[test]
    fn damaged_and_missing_entries_are_reported_by_number() {
        for (value, said) in
            [(&[2, 1, 0xff, 0xff][..], "damaged"), (&[], "part mark"), (&[9, 1], "layout 9")]
        {
            let (_dir, log) = changed(|_, log| drop(log.insert(key(0), value).unwrap()));
            let error = log.read().unwrap_err().to_string();
            assert!(error.contains("entry 0") && error.contains(said), "{error}");
        }
        let (_dir, log) = changed(|_, log| drop(log.remove(key(1)).unwrap()));
        let error = log.read().unwrap_err().to_string();
        assert!(error.contains("entry 1") && error.contains("missing"), "{error}");
    }

    #[test]
    fn an_append_that_never_returned_is_left_out() {
        let (_dir, whole) = changed(|_, _| {});
        let whole = whole.read().unwrap();
        let (_dir, torn) = changed(|_, log| {
            let next = log.last().unwrap().unwrap().0;
            let next = u64::from_be_bytes((*next).try_into().unwrap()) + 1;
            log.insert(key(next), &[2, 0, 1]).unwrap();
        });
        assert_eq!(torn.read().unwrap(), whole);
    }

    #[test]
    fn a_missing_log_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), 2, 2, &[]);
        open_database(dir.path()).unwrap().insert(LOG_KEY, "records-3").unwrap();
        let error = OldLog::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}
