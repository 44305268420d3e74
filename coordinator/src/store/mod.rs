//! What survives: records in order, and artifacts by hash. Decides nothing.
//!
//! A coordinator's data directory holds
//!
//! - `lock`: held while a coordinator runs, with its process id;
//! - `address`: where that coordinator listens;
//! - `records/`: the sled database of [`SledStore`];
//! - `artifacts/`: the files of [`ArtifactStore`].

mod artifacts;
#[cfg(test)]
mod conformance;
mod directory;
mod format;
mod memory;
mod sled;

use std::io;
use std::path::PathBuf;

pub use self::artifacts::{ArtifactError, ArtifactReader, ArtifactStore, ArtifactWriter};
pub use self::directory::{DataDir, DataDirError, Holder};
pub use self::format::FormatError;
pub use self::memory::MemoryStore;
pub use self::sled::SledStore;
use crate::core::Record;

/// Keeps records in the order in which they were appended.
pub trait Store: Send {
    /// Appends `records`, all or none of them; they are durable when it returns. After an error the
    /// store must not be appended to again: open it anew.
    ///
    /// # Errors
    /// When they could not be written.
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError>;

    /// All records, oldest first.
    ///
    /// # Errors
    /// When they could not be read, or one of them is damaged.
    fn replay(&mut self) -> Result<Vec<Record>, StoreError>;
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database itself.
    #[error("the database in {path} does not work: {source}")]
    Database {
        /// Where it is.
        path: PathBuf,
        /// What it says.
        source: ::sled::Error,
    },
    /// Making written data durable.
    #[error("cannot sync {path} to disk: {source}")]
    Sync {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database was written by another version of the program.
    #[error(
        "the database in {path} has format {found}, this program reads up to format {expected}; \
         use the version of edgesmith that wrote it, or another data directory"
    )]
    Format {
        /// Where it is.
        path: PathBuf,
        /// As found.
        found: String,
        /// The newest that is read.
        expected: u32,
    },
    /// A record is not readable.
    #[error("record {sequence} of the database in {path} is damaged: {reason}")]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// The sequence number of the entry.
        sequence: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Records cannot be written down.
    #[error(transparent)]
    Encode(#[from] FormatError),
}
