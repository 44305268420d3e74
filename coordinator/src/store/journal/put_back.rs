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
    /// Writes files again that are not in their place any more, durably.
    ///
    /// # Errors
    /// [`StoreError::Full`] if there is no room; [`StoreError::Damaged`] if the file does not have
    /// what was acknowledged, because it was cut.
    pub(super) fn put_back(&mut self) -> Result<(), StoreError> {
        let (path, mark) = (self.path(), mark_path(&self.folder));
        match in_place(&path, self.log_identity).map_err(at(&path))? {
            Some(length) if length < self.end.offset => {
                check(&path, &self.log, self.end)?;
            }
            Some(_) => {}
            None => {
                tracing::error!("{} was removed or replaced; it is written again", path.display());
                let copy = self.copied(&path).map_err(in_want_of_room(&path))?;
                check(&path, &copy, self.end)?;
                self.log_identity = Identity::of(&copy).map_err(at(&path))?;
                (self.log, self.copied) = (copy, true);
            }
        }
        if in_place(&mark, self.mark_identity).map_err(at(&mark))?.is_none() {
            tracing::error!("{} was removed or replaced; it is written again", mark.display());
            let new = new_mark(&self.folder, self.end).map_err(in_want_of_room(&mark))?;
            self.mark_identity = Identity::of(&new.0).map_err(at(&mark))?;
            (self.mark, self.marks) = new;
        }
        Ok(())
    }

    /// A copy of the open file in its place.
    fn copied(&self, path: &Path) -> io::Result<File> {
        let fresh = path.with_extension("log.new");
        fs::create_dir_all(&self.folder)?;
        let mut options = OpenOptions::new();
        let mut copy = options.read(true).write(true).create(true).truncate(true).open(&fresh)?;
        let from = FromStart { file: self.log.try_clone()?, next: 0 };
        io::copy(&mut from.take(self.end.offset), &mut copy)?;
        copy.sync_all()?;
        fs::rename(&fresh, path)?;
        sync_directory(&self.folder)?;
        Ok(copy)
    }
}

/// The length of the file at this path; `None` if there is none, or another one.
fn in_place(path: &Path, file: Identity) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(found) => Ok((Identity::found(&found) == file).then_some(found.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
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
