//! Copies a data directory to another one, also while a coordinator has it open, and back.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use super::check::{check, leave_ids_out};
use super::{MaintenanceError, at, hold_if_old, is_data_directory};
use crate::store::{ArtifactStore, copy_records, sync_directory};

/// The folders whose files are copied as they are.
const ACCESS: &str = "access";
const ARTIFACTS: &str = "artifacts";

/// What a copy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackedUp {
    /// Records.
    pub records: u64,
    /// Artifacts.
    pub artifacts: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

/// Copies `directory` to the new directory `to`: every record that was acknowledged when this
/// began, the artifacts, and the tokens and keys. A coordinator may have it open; it is not held
/// up. The copy is a data directory itself.
///
/// # Errors
/// If `directory` is damaged, was last written by an earlier version and is open, or `to` is not
/// empty or cannot be written.
pub fn backup(directory: &Path, to: &Path) -> Result<BackedUp, MaintenanceError> {
    if !is_data_directory(directory) {
        return Err(MaintenanceError::NoDirectory(directory.to_owned()));
    }
    let _held = hold_if_old(directory)?;
    make_empty(to)?;
    // The records first: the artifacts that they refer to were stored before.
    let (records, bytes) = copy_records(directory, to)?;
    let mut copied = BackedUp { records, artifacts: 0, bytes };
    let from = ArtifactStore::existing(directory.join(ARTIFACTS));
    let store = ArtifactStore::open(to.join(ARTIFACTS))?;
    for hash in from.list()? {
        copied.bytes += copy_artifact(&from, &store, hash)?;
        copied.artifacts += 1;
    }
    copied.bytes += copy_access(&directory.join(ACCESS), &to.join(ACCESS))?;
    sync_directory(to).map_err(at(to))?;
    Ok(copied)
}

/// Copies the backup `from` to the new directory `to`, from which a coordinator then goes on. Ids
/// that were given out after the backup are not used again.
///
/// # Errors
/// If the backup is damaged, or `to` is not empty or cannot be written.
pub fn restore(from: &Path, to: &Path) -> Result<BackedUp, MaintenanceError> {
    let checked = check(from)?;
    if !checked.problems.is_empty() {
        let path = from.to_owned();
        return Err(MaintenanceError::BackupDamaged { path, problems: checked.problems });
    }
    let restored = backup(from, to)?;
    leave_ids_out(to)?;
    Ok(restored)
}

fn make_empty(directory: &Path) -> Result<(), MaintenanceError> {
    fs::create_dir_all(directory).map_err(at(directory))?;
    match fs::read_dir(directory).map_err(at(directory))?.next() {
        None => Ok(()),
        Some(_) => Err(MaintenanceError::NotEmpty(directory.to_owned())),
    }
}

/// Copies an artifact and checks its hash on the way. One that is collected meanwhile, because no
/// study needs it any more, is left out.
fn copy_artifact(
    from: &ArtifactStore,
    to: &ArtifactStore,
    hash: edgesmith_common::ArtifactHash,
) -> Result<u64, MaintenanceError> {
    let mut reader = match from.reader(hash) {
        Err(crate::store::ArtifactError::Missing(_)) => return Ok(0),
        reader => reader?,
    };
    let (mut writer, mut buffer) = (to.begin()?, vec![0; 1 << 18]);
    loop {
        match reader.read_chunk(&mut buffer)? {
            0 => return Ok(writer.finish(hash)?),
            read => writer.chunk(&buffer[..read])?,
        }
    }
}

/// Copies the files of `access/`, which only their owner may read.
fn copy_access(from: &Path, to: &Path) -> Result<u64, MaintenanceError> {
    if !from.is_dir() {
        return Ok(0);
    }
    fs::DirBuilder::new().mode(0o700).create(to).map_err(at(to))?;
    let mut bytes = 0;
    for file in fs::read_dir(from).map_err(at(from))? {
        let path = file.map_err(at(from))?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else { continue };
        let target = to.join(name);
        let mut contents = Vec::new();
        File::open(&path)
            .and_then(|mut file| file.read_to_end(&mut contents))
            .map_err(at(&path))?;
        let write = || {
            let mut file = File::create(&target)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(&contents)?;
            file.sync_all()
        };
        write().map_err(at(&target))?;
        bytes += contents.len() as u64;
    }
    sync_directory(to).map_err(at(to))?;
    Ok(bytes)
}
