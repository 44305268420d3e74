//! Files of a journal that somebody removes or replaces while it is open. Their bytes are still
//! there, because they are open, so they are written again. What was changed within a file is not
//! noticed here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::reading::FromStart;
use super::{Journal, StoreError, at, check, mark_path, new_mark};
use crate::store::directory::sync_directory;
use crate::store::is_out_of_space;

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Of an open file.
    ///
    /// # Errors
    /// If the system does not say.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|found| Self::found(&found))
    }

    fn found(found: &fs::Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }
}

impl Journal {
    /// Whether both files are still in their places.
    pub fn is_in_place(&self) -> bool {
        let at = |path: &Path, file| in_place(path, file).is_some();
        at(&self.path(), self.log_identity) && at(&mark_path(&self.folder), self.mark_identity)
    }

    /// Writes files again that are not in their place any more, durably. Nobody else may have the
    /// directory by now.
    ///
    /// # Errors
    /// [`StoreError::Full`] if there is no room; [`StoreError::Damaged`] if the open file does not
    /// have what was acknowledged.
    pub fn put_back(&mut self) -> Result<(), StoreError> {
        let (path, mark) = (self.path(), mark_path(&self.folder));
        if in_place(&path, self.log_identity).is_none() {
            tracing::error!("{} was removed or replaced; it is written again", path.display());
            let copy = self.copy_to(&path)?;
            self.log_identity = Identity::of(&copy).map_err(at(&path))?;
            (self.log, self.copied) = (copy, true);
        }
        if in_place(&mark, self.mark_identity).is_none() {
            tracing::error!("{} was removed or replaced; it is written again", mark.display());
            let new = new_mark(&self.folder, self.end).map_err(in_want_of_room(&mark))?;
            self.mark_identity = Identity::of(&new.0).map_err(at(&mark))?;
            (self.mark, self.marks) = new;
        }
        Ok(())
    }

    /// A copy of the open file at `path`, with an append that could not be marked yet.
    fn copy_to(&self, path: &Path) -> Result<File, StoreError> {
        let fresh = path.with_extension("log.new");
        let until = self.unmarked.unwrap_or(self.end);
        let copy = || {
            fs::create_dir_all(&self.folder)?;
            let mut options = OpenOptions::new();
            let mut copy =
                options.read(true).write(true).create(true).truncate(true).open(&fresh)?;
            let from = FromStart { file: self.log.try_clone()?, next: 0 };
            io::copy(&mut from.take(until.offset), &mut copy)?;
            copy.sync_all()?;
            Ok(copy)
        };
        let copied = copy().map_err(in_want_of_room(path)).and_then(|copy| {
            // Before it takes the place of what may be there.
            check(path, &copy, until)?;
            fs::rename(&fresh, path).map_err(at(path))?;
            sync_directory(&self.folder).map_err(at(path))?;
            Ok(copy)
        });
        if copied.is_err() {
            // It would take the room that others need.
            let _ = fs::remove_file(&fresh);
        }
        copied
    }

    /// Refuses a file that was cut while it is open.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub(super) fn check_length(&self) -> Result<(), StoreError> {
        let path = self.path();
        match in_place(&path, self.log_identity) {
            Some(length) if length < self.end.offset => check(&path, &self.log, self.end).map(drop),
            Some(_) | None => Ok(()),
        }
    }
}

/// The length of the file at this path; `None` if there is none, or another one. A file that cannot
/// be looked at for now counts as the one.
pub(super) fn in_place(path: &Path, file: Identity) -> Option<u64> {
    match fs::metadata(path) {
        Ok(found) => (Identity::found(&found) == file).then_some(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(u64::MAX),
    }
}

/// The error of a file that has to be written, which can wait for room.
fn in_want_of_room(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    |source| match is_out_of_space(&source) {
        true => StoreError::Full { path, source },
        false => StoreError::Io { path, source },
    }
}
