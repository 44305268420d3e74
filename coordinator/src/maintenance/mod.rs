//! Work on a data directory without serving it: checking it, repairing it, and backing it up.

mod backup;
mod check;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use self::backup::{BackedUp, backup, restore};
pub use self::check::{Checked, Repair, check, repair};
use crate::core::RestoreError;
use crate::store::{
    AccessError, ArtifactError, DataDir, DataDirError, StoreError, has_artifacts, has_journal,
    has_lost_mark,
};

/// Why work on a data directory failed.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// It is not a data directory.
    #[error("{0} is not a data directory of edgesmith: it has neither journal/ nor records/")]
    NoDirectory(PathBuf),
    /// The place to write to is in use.
    #[error("{0} exists and is not empty; name a new directory")]
    NotEmpty(PathBuf),
    /// The place to write to lies in what is copied.
    #[error("{to} lies in {from}, which is copied; name a directory elsewhere")]
    Within {
        /// What is copied.
        from: PathBuf,
        /// Where to.
        to: PathBuf,
    },
    /// A copy was not finished.
    #[error("{source}\n{to} has only a part of the copy; remove it before you try again")]
    NotCopied {
        /// Where to.
        to: PathBuf,
        /// Why.
        source: Box<MaintenanceError>,
    },
    /// Another process holds it.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The mark of the journal was removed under a coordinator, which writes it again.
    #[error(
        "{directory}/journal/acknowledged is missing, but nothing is lost: the coordinator{} that has \
         the directory open has all studies, and writes the file again before the next record, at the \
         latest when it stops; stop it, but not with `kill -9`, and run this command again",
        pid.map(|pid| format!(", process {pid},")).unwrap_or_default()
    )]
    MarkRemoved {
        /// The data directory.
        directory: PathBuf,
        /// The coordinator's process, if known.
        pid: Option<u32>,
    },
    /// Its records cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its records contradict each other.
    #[error("the records contradict each other: {0}")]
    Contradiction(#[from] RestoreError),
    /// An artifact cannot be read.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The files that decide who may do what cannot be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A backup is not whole.
    #[error("the backup {path} is not whole:\n{}", problems.join("\n"))]
    BackupDamaged {
        /// Path of the backup.
        path: PathBuf,
        /// What is wrong with it.
        problems: Vec<String>,
    },
    /// An error of the file system.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MaintenanceError + use<> {
    let path = path.to_owned();
    move |source| MaintenanceError::Io { path, source }
}

/// Whether `path` has records, in whatever format, or what belonged to some.
fn is_data_directory(path: &Path) -> bool {
    path.join("journal").is_dir() || path.join("records").is_dir() || has_artifacts(path)
}

/// Holds a directory that an earlier version wrote last: only one process can read that.
fn hold_if_old(path: &Path) -> Result<Option<DataDir>, MaintenanceError> {
    if has_journal(path)? {
        return Ok(None);
    }
    match DataDir::open(path) {
        // The process that has it open has a journal, so no earlier version wrote it last.
        Err(DataDirError::InUse { path: directory, pid }) if has_lost_mark(path)? => {
            Err(MaintenanceError::MarkRemoved { directory, pid })
        }
        opened => Ok(Some(opened?)),
    }
}

/// An id above all that were given out before `now`, also after earlier repairs: 16 for each
/// millisecond since 1970.
fn unused_id(now: SystemTime) -> u64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX / 16).saturating_mul(16)
}
