//! The sled 0.34 database in `records/`. Its format says what it is to the data directory: in
//! formats 1 and 2 it holds the log ([`old`](super::old)); in format 3 the journal does, and the
//! database only says so.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory::sync_directory;
use super::old::{FIRST_LOG, NEWEST, OldLog};
use super::{StoreError, is_out_of_space};
use crate::core::Record;

/// The format of a database beside a journal. Programs that do not know journals refuse it, so that
/// they do not take the directory for an empty one.
pub const BESIDE_JOURNAL: u32 = 3;

/// The name of the database in the data directory.
pub const DATABASE: &str = "records";
/// Names for the database while another one takes its place.
pub const NEW_DATABASE: &str = "records.new";
/// See [`NEW_DATABASE`].
pub const OLD_DATABASE: &str = "records.old";

const FORMAT_KEY: &[u8] = b"format";
/// The tree in which earlier versions kept the stages of trials, which are in the journal, too.
const STAGES: &[u8] = b"stages";

/// Bytes of the database that stay in memory.
const CACHE_BYTES: u64 = 32 << 20;

/// How often to retry opening a database that this process has just closed, and the pause between
/// the attempts.
const REOPEN_TRIES: u32 = 100;
const REOPEN_PAUSE: Duration = Duration::from_millis(50);

/// Opens sled. sled releases its file only some time after the last handle in this process is
/// dropped, so opening is retried. Another process cannot hold it, because this process holds the
/// directory's own lock.
pub fn open_database(path: &Path) -> ::sled::Result<::sled::Db> {
    let config = ::sled::Config::new().path(path).flush_every_ms(None).cache_capacity(CACHE_BYTES);
    let held = |error: &::sled::Error| matches!(error, ::sled::Error::Io(error) if error.to_string().contains("acquire lock"));
    for _ in 0..REOPEN_TRIES {
        match config.open() {
            Err(error) if held(&error) => std::thread::sleep(REOPEN_PAUSE),
            opened => return opened,
        }
    }
    config.open()
}

/// The database in `path` and its format, if there is one.
///
/// # Errors
/// If it cannot be opened, or has a format that this program does not read.
pub fn existing_database(path: &Path) -> Result<Option<(::sled::Db, Option<u32>)>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let database = |source| StoreError::Database { path: path.to_owned(), source };
    let db = open_database(path).map_err(database)?;
    let format = format_of(&db, path)?;
    Ok(Some((db, format)))
}

/// Sees to the database beside the journal, which earlier versions refuse. It holds nothing else,
/// so one that cannot be read, or in which an earlier version kept stages, is replaced. So is one
/// with a log that `is_moved` finds in the journal. On a full disk, on which sled cannot even open
/// one, that is left to a later start: the journal has all records.
///
/// # Errors
/// If it cannot be replaced, a later version wrote it, or it holds a log that was not moved.
pub fn beside_journal(
    directory: &Path,
    is_moved: impl FnOnce(Vec<Record>) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    match see_to_database(directory, is_moved) {
        Err(error) if lacks_room(&error) => {
            tracing::debug!("the database beside the journal is left as it is: {error}");
            // What was written of a new one.
            remove(&directory.join(NEW_DATABASE))
        }
        seen_to => seen_to,
    }
}

fn lacks_room(error: &StoreError) -> bool {
    match error {
        StoreError::Io { source, .. }
        | StoreError::Database { source: ::sled::Error::Io(source), .. } => is_out_of_space(source),
        _ => false,
    }
}

fn see_to_database(
    directory: &Path,
    is_moved: impl FnOnce(Vec<Record>) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let [path, new, old] = [DATABASE, NEW_DATABASE, OLD_DATABASE].map(|name| directory.join(name));
    // What a crash left: one that was not in use yet, and an old log that was moved.
    for leftover in [&new, &old] {
        remove(leftover)?;
    }
    // sled panics at some damage.
    let found = catch_unwind(AssertUnwindSafe(|| match existing_database(&path)? {
        Some((db, Some(BESIDE_JOURNAL))) => {
            Ok(!db.tree_names().iter().any(|name| **name == *STAGES))
        }
        Some((db, Some(1..=NEWEST))) => {
            let read = AssertUnwindSafe(|| OldLog::of(&path, db).and_then(|old| old.read()));
            // A panic of sled counts as records that cannot be read, too.
            let read = catch_unwind(read).ok().and_then(Result::ok);
            match read.map(is_moved) {
                Some(Ok(true)) => Ok(false),
                Some(Ok(false) | Err(_)) | None => Err(StoreError::NotMoved { path: path.clone() }),
            }
        }
        Some((_, Some(_) | None)) | None => Ok(false),
    }));
    match found {
        Ok(Err(error @ StoreError::NotMoved { .. })) => return Err(error),
        Ok(Ok(true)) => return Ok(()),
        Ok(Err(StoreError::Format { path, found, expected }))
            if found.parse::<u32>().is_ok_and(|format| format > BESIDE_JOURNAL) =>
        {
            return Err(StoreError::Format { path, found, expected });
        }
        // A new one would have no room, either.
        Ok(Err(error)) if lacks_room(&error) => return Err(error),
        Ok(Ok(false) | Err(_)) | Err(_) => {}
    }
    write_format(&new)?;
    let replace = || {
        match fs::rename(&path, &old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&new, &path)?;
        sync_directory(directory)
    };
    replace().map_err(|source| StoreError::Io { path: path.clone(), source })?;
    remove(&old)
}

fn remove(path: &PathBuf) -> Result<(), StoreError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Io { path: path.clone(), source })
        }
        _ => Ok(()),
    }
}

/// Makes a database of the format [`BESIDE_JOURNAL`] in `path`, durably.
///
/// # Errors
/// If it cannot be written.
pub fn write_format(path: &Path) -> Result<(), StoreError> {
    let database = |source| StoreError::Database { path: path.to_owned(), source };
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let db = open_database(path).map_err(database)?;
    db.insert(FORMAT_KEY, &BESIDE_JOURNAL.to_be_bytes()).map_err(database)?;
    db.flush().map_err(database)?;
    // sled's `flush` does not survive the end of the machine.
    for file in ["db", "conf"] {
        File::open(path.join(file)).and_then(|file| file.sync_all()).map_err(io)?;
    }
    sync_directory(path).map_err(io)
}

/// The format of the database in `path`; `None` if it is new.
///
/// # Errors
/// If it has a format that this program does not read.
fn format_of(db: &::sled::Db, path: &Path) -> Result<Option<u32>, StoreError> {
    let database = |source| StoreError::Database { path: path.to_owned(), source };
    let other = |found: String| {
        Err(StoreError::Format { path: path.to_owned(), found, expected: BESIDE_JOURNAL })
    };
    match db.get(FORMAT_KEY).map_err(database)? {
        Some(found) => match <[u8; 4]>::try_from(&*found).map(u32::from_be_bytes) {
            Ok(number @ (1..=NEWEST | BESIDE_JOURNAL)) => Ok(Some(number)),
            Ok(number) => other(number.to_string()),
            Err(_) => other(format!("{:?}", &*found)),
        },
        None if db.tree_names().iter().any(|name| name.starts_with(FIRST_LOG)) => {
            other("unknown".to_owned())
        }
        None => Ok(None),
    }
}
