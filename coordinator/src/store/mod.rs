//! What survives a restart: records in order, and artifacts by hash. Makes no decisions.
//!
//! A coordinator's data directory holds
//!
//! - `lock`: held while a coordinator runs, with its process id;
//! - `address`: where that coordinator listens;
//! - `records/`: the sled database of [`SledStore`];
//! - `artifacts/`: the files of [`ArtifactStore`];
//! - `access/`: the files of [`AccessFiles`], which only their owner can read.

mod access;
mod artifacts;
#[cfg(test)]
mod conformance;
mod directory;
mod format;
mod memory;
mod sled;
mod tokens;

use std::io;
use std::path::PathBuf;

pub use self::access::{AccessError, AccessFiles, Key, random};
pub use self::artifacts::{ArtifactError, ArtifactReader, ArtifactStore, ArtifactWriter};
pub use self::directory::{DataDir, DataDirError, Holder};
pub use self::format::FormatError;
pub use self::memory::MemoryStore;
pub use self::sled::SledStore;
pub use self::tokens::TokenRecord;
use crate::core::Record;

/// Stores records in the order in which they were appended.
pub trait Store: Send {
    /// Appends `records`, either all of them or none. They are durable when it returns. After an
    /// error, nothing more may be appended to the store until it is opened again.
    ///
    /// # Errors
    /// If they could not be written.
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError>;

    /// All records, oldest first.
    ///
    /// # Errors
    /// If they could not be read, or one of them is damaged.
    fn replay(&mut self) -> Result<Vec<Record>, StoreError>;
}

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
    /// Written data could not be made durable.
    #[error("cannot sync {path} to disk: {source}")]
    Sync {
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
    /// A record is unreadable.
    #[error("entry {sequence} of the database in {path} is damaged: {reason}")]
    Damaged {
        /// Path of the database.
        path: PathBuf,
        /// The sequence number of the entry.
        sequence: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Records cannot be encoded.
    #[error(transparent)]
    Encode(#[from] FormatError),
}
