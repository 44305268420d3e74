//! Copies a data directory to another one, also while a coordinator has it open, and back.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::check::{Checked, check, core_from, damaged, in_order_of_making, missing};
use super::{MaintenanceError, at, hold_if_old, is_data_directory, unused_id};
use crate::store::{
    AccessFiles, ArtifactError, ArtifactStore, begin_copy, check_finished, copy_records,
    finish_copy, read_records, sync_directory,
};

const ARTIFACTS: &str = "artifacts";

/// What a copy has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// Records.
    pub records: u64,
    /// Artifacts.
    pub artifacts: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// The artifacts that it lacks, because they are damaged or missing, a sentence each.
    pub problems: Vec<String>,
}

/// Copies `directory` to the new directory `to`: every record that was acknowledged when this
/// began, the artifacts, and the tokens and keys. A coordinator may have it open; it is not held
/// up. The copy is a data directory itself.
///
/// # Errors
/// If the records or `access/` are damaged, an earlier version wrote them last and they are open,
/// or `to` is not empty or cannot be written.
pub fn backup(directory: &Path, to: &Path) -> Result<BackedUp, MaintenanceError> {
    copy(directory, to, None, directory)
}

/// Copies the backup `from` to the new directory `to`, from which a coordinator then goes on. Ids
/// that were given out before `now` are not used again.
///
/// # Errors
/// If the records or `access/` of the backup are damaged, or `to` is not empty or cannot be
/// written.
pub fn restore(from: &Path, to: &Path, now: SystemTime) -> Result<BackedUp, MaintenanceError> {
    let Checked { problems, .. } = check(from)?;
    if !problems.is_empty() {
        return Err(MaintenanceError::BackupDamaged { path: from.to_owned(), problems });
    }
    copy(from, to, Some(unused_id(now)), to)
}

/// Until everything is copied, a file says that `to` is not whole, and nothing opens it. What is
/// missing can be made again in `studies`, the directory of a coordinator.
fn copy(
    from: &Path,
    to: &Path,
    leave_out: Option<u64>,
    studies: &Path,
) -> Result<BackedUp, MaintenanceError> {
    if !is_data_directory(from) {
        return Err(MaintenanceError::NoDirectory(from.to_owned()));
    }
    check_finished(from)?;
    if is_within(to, from) {
        return Err(MaintenanceError::Within { from: from.to_owned(), to: to.to_owned() });
    }
    let _held = hold_if_old(from)?;
    make_empty(to)?;
    begin_copy(to).map_err(at(to))?;
    let copied = copy_all(from, to, leave_out, studies).map_err(|error| {
        MaintenanceError::NotCopied { to: to.to_owned(), source: Box::new(error) }
    })?;
    finish_copy(to).map_err(at(to))?;
    Ok(copied)
}

fn copy_all(
    from: &Path,
    to: &Path,
    leave_out: Option<u64>,
    studies: &Path,
) -> Result<BackedUp, MaintenanceError> {
    // The records first: the artifacts that they refer to were stored before.
    let copied = copy_records(from, to)?;
    let (source, store) =
        (ArtifactStore::existing(from.join(ARTIFACTS)), ArtifactStore::open(to.join(ARTIFACTS))?);
    let needed = core_from(copied.read()?)?.0.artifacts();
    let (mut artifacts, mut bytes, mut problems) = (0, copied.bytes(), Vec::new());
    for hash in source.list()? {
        match copy_artifact(&source, &store, hash) {
            Ok(size) => {
                artifacts += 1;
                bytes += size;
            }
            // It was collected meanwhile, or is missing, which is said below.
            Err(ArtifactError::Missing(_)) => {}
            Err(error @ ArtifactError::Damaged { .. }) => {
                let of = needed.get(&hash);
                problems.push((of.cloned(), damaged(&error, of, studies)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let still = core_from(read_records(from)?)?.0.artifacts();
    problems.extend(missing(&source, &needed, &still, studies));
    bytes += AccessFiles::new(from).copy_to(&AccessFiles::new(to))?;
    sync_directory(to).map_err(at(to))?;
    let records = copied.records();
    let problems = in_order_of_making(problems).collect();
    copied.mark(leave_out)?;
    Ok(BackedUp { records, artifacts, bytes, problems })
}

/// Whether `to`, which need not exist, is `from` or lies in it.
fn is_within(to: &Path, from: &Path) -> bool {
    let absolute = std::path::absolute(to).unwrap_or_else(|_| to.to_owned());
    let known = absolute.ancestors().find_map(|path| path.canonicalize().ok());
    known.zip(from.canonicalize().ok()).is_some_and(|(to, from)| to.starts_with(from))
}

fn make_empty(directory: &Path) -> Result<(), MaintenanceError> {
    check_finished(directory)?;
    fs::create_dir_all(directory).map_err(at(directory))?;
    match fs::read_dir(directory).map_err(at(directory))?.next() {
        None => Ok(()),
        Some(_) => Err(MaintenanceError::NotEmpty(directory.to_owned())),
    }
}

/// Copies an artifact and checks its hash on the way.
fn copy_artifact(
    from: &ArtifactStore,
    to: &ArtifactStore,
    hash: edgesmith_common::ArtifactHash,
) -> Result<u64, ArtifactError> {
    let (mut reader, mut buffer) = (from.reader(hash)?, vec![0; 1 << 18]);
    let mut writer = to.begin()?;
    loop {
        match reader.read_chunk(&mut buffer)? {
            0 => return writer.finish(hash),
            read => writer.chunk(&buffer[..read])?,
        }
    }
}
