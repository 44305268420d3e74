//! What survives a restart: records in order, and artifacts by hash. Makes no decisions.
//!
//! A coordinator's data directory holds
//!
//! - `lock`: held while a coordinator runs, with its process id;
//! - `address`: where that coordinator listens;
//! - `journal/`: the records ([`DiskStore`]), in one file, and up to where they were acknowledged;
//! - `records/`: a sled database that only says that there is a journal. In earlier versions it
//!   held the records, or the stages of trials;
//! - `artifacts/`: the files of [`ArtifactStore`];
//! - `access/`: the files of [`AccessFiles`], which only their owner can read.

mod access;
mod artifacts;
mod compaction;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod damage_tests;
mod directory;
mod disk;
mod format;
mod journal;
mod memory;
mod offline;
mod old;
mod partial;
mod records;
mod rewriting;
mod sled;
mod space;
mod stages;
mod tokens;

use std::io;
use std::path::{Path, PathBuf};

use edgesmith_common::quoted;

pub(crate) use self::access::{AUTHORITY_FILE, AUTHORITY_KEY_FILE};
pub use self::access::{AccessError, AccessFiles, Key, random};
pub use self::artifacts::{
    ArtifactError, ArtifactReader, ArtifactStore, ArtifactWriter, Collected, has_artifacts,
};
pub use self::directory::{
    DataDir, DataDirError, Holder, begin_copy, check_finished, finish_copy, sync_directory,
};
pub use self::disk::DiskStore;
pub use self::format::FormatError;
pub use self::journal::{Flaw, MarkProblem};
pub use self::memory::MemoryStore;
pub use self::offline::{
    Copied, Repaired, copy_records, half_damaged_mark, has_journal, has_lost_mark, read_records,
    repair_journal,
};
pub use self::partial::{PartialArtifact, Resumed};
pub use self::space::{Room, room};
pub use self::stages::StageStore;
#[cfg(test)]
pub use self::stages::tests as slow_stages;
pub use self::tokens::TokenRecord;
use crate::core::Record;

/// Stores records in the order in which they were appended.
pub trait Store: Send {
    /// Appends `records`, either all of them or none. They are durable when it returns. After
    /// [`StoreError::Full`], the same records may be appended again, and nothing else. After any
    /// other error, nothing more may be appended until the store is opened again.
    ///
    /// # Errors
    /// If they could not be written.
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError>;

    /// Whether the mark of the last append is durable, by which damage is told from a write that was
    /// cut short, also after a failure of power. If not, [`Store::settle`] sees to it.
    fn is_settled(&self) -> bool {
        true
    }

    /// See [`Store::is_settled`]. What was appended is durable with or without it.
    ///
    /// # Errors
    /// [`StoreError::Full`] if there is no room: then it can be tried again. After any other error,
    /// nothing more may be appended until the store is opened again.
    fn settle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether nothing can be appended.
    fn is_read_only(&self) -> bool;

    /// All records, oldest first.
    ///
    /// # Errors
    /// If they could not be read. A record that is damaged is an error of the iterator, and its
    /// last item.
    fn replay(&mut self) -> Result<Replay<'_>, StoreError>;
}

/// Whether an error says that the disk, or what a user may have of it, is full.
pub fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Records as they are read.
pub type Replay<'a> = Box<dyn Iterator<Item = Result<Record, StoreError>> + 'a>;

/// Why an operation of a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database reported an error.
    #[error("the database in {path} failed: {source}")]
    Database {
        /// Path of the database.
        path: PathBuf,
        /// The database's error.
        source: ::sled::Error,
    },
    /// A file could not be read, written or made durable.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The directory is not this process's any more.
    #[error(
        "the data directory {path} was removed or replaced while it was in use, so nothing more is \
         stored there"
    )]
    Gone {
        /// Path of the directory.
        path: PathBuf,
    },
    /// There is no room left, and what was written of an append does no harm: it can be tried
    /// again when there is room.
    #[error("there is no room to write {path}: {source}")]
    Full {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The database has a format that this program does not read.
    #[error(
        "the database in {path} has format {found}, but this program reads up to format \
         {expected}; use the version of edgesmith that wrote it, or another data directory"
    )]
    Format {
        /// Path of the database.
        path: PathBuf,
        /// The format found.
        found: String,
        /// The newest format that this program reads.
        expected: u32,
    },
    /// The journal was written by a later version.
    #[error(
        "cannot read {path}: {problem}; use the version of edgesmith that wrote it, or another \
         data directory"
    )]
    Newer {
        /// Path of the file.
        path: PathBuf,
        /// What is not known.
        problem: String,
    },
    /// The journal is not what was written.
    #[error(
        "{path} is damaged at byte {offset}: {flaw}; {}, unless a backup has them (`edgesmith \
         restore BACKUP --data-dir NEW`); `{}` keeps the {kept} before it",
        lost(*kept, *acknowledged),
        repair(path)
    )]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Where the damage begins, bytes from the beginning of the file.
        offset: u64,
        /// What is wrong there.
        flaw: Flaw,
        /// The number of records before the damage.
        kept: u64,
        /// The number of records that are known to have been acknowledged.
        acknowledged: u64,
    },
    /// The header of the journal is not what was written. What it should be is known.
    #[error(
        "the header of {path} is damaged; nothing else need be: `{}` writes it again and says \
         whether something is lost",
        repair(path)
    )]
    Header {
        /// Path of the file.
        path: PathBuf,
    },
    /// It is not known, or not possible, what was acknowledged.
    #[error(
        "{path} {problem}; restore a backup (`edgesmith restore BACKUP --data-dir \
         NEW`), or run `{}`, which says what is \
         still there and goes on with that",
        repair(path)
    )]
    Mark {
        /// Path of the mark's file.
        path: PathBuf,
        /// What is wrong with it.
        problem: MarkProblem,
    },
    /// An append is whole, but cannot be read as records.
    #[error(
        "cannot read the records at byte {offset} of {path}: {source}; use the version of \
         edgesmith that wrote them, or another data directory"
    )]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Where the append begins, bytes from the beginning of the file.
        offset: u64,
        /// Why it cannot be read.
        source: FormatError,
    },
    /// There are records of an earlier version beside a journal that does not have them.
    #[error(
        "the database in {path} holds records of an earlier version that the journal beside it \
         does not have, or that cannot be read; move {path} out of this directory, to one of its \
         own, or the journal"
    )]
    NotMoved {
        /// Path of the database.
        path: PathBuf,
    },
    /// A record of an earlier version is unreadable.
    #[error("entry {sequence} of the database in {path} is damaged: {problem}")]
    OldDamaged {
        /// Path of the database.
        path: PathBuf,
        /// The sequence number of the entry.
        sequence: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The records were opened only to be read.
    #[error("cannot change {path}: the data directory cannot be written")]
    ReadOnly {
        /// Path of the file.
        path: PathBuf,
    },
    /// An earlier append failed, so it is not known what is on disk.
    #[error("nothing more can be added to {path}, because an earlier write failed; start again")]
    AfterFailure {
        /// Path of the file.
        path: PathBuf,
    },
    /// The directory cannot be written, and an earlier version wrote it last.
    #[error(
        "an earlier version of edgesmith wrote {path} last, which can only be read where it can be \
         written, too; copy it to such a place"
    )]
    OldReadOnly {
        /// Path of the directory.
        path: PathBuf,
    },
    /// More was appended at once than an entry can hold.
    #[error("{bytes} bytes are too much for one append")]
    TooLarge {
        /// Size of the append, bytes.
        bytes: usize,
    },
    /// Records cannot be encoded.
    #[error(transparent)]
    Encode(#[from] FormatError),
}

/// The command that repairs the journal of which `path` is a file.
fn repair(path: &Path) -> String {
    let directory = path.parent().and_then(Path::parent).filter(|of| !of.as_os_str().is_empty());
    let directory = quoted(directory.unwrap_or(Path::new(".")));
    format!("edgesmith check --repair --data-dir {directory}")
}

/// What damage costs that `kept` records come before.
fn lost(kept: u64, acknowledged: u64) -> String {
    match acknowledged.saturating_sub(kept) {
        0 => "it is not known how many of the records after it were acknowledged, and they are \
              lost"
            .to_owned(),
        lost => format!(
            "of {acknowledged} records that were acknowledged, {lost} come after the damage and \
             are lost"
        ),
    }
}
