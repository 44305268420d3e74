//! A file of entries that is to become the journal's, which is written before it is put to use.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::reading::{Entries, entries_of};
use super::{Place, at, entry, log_path};
use crate::store::StoreError;

/// A file of entries that is being written and is not in use yet.
#[derive(Debug)]
pub struct NewLog {
    path: PathBuf,
    file: BufWriter<File>,
    end: Place,
    bytes: Vec<u8>,
}

/// A file of entries that is durable and can be put to use.
#[derive(Debug)]
pub struct FinishedLog {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) end: Place,
}

impl NewLog {
    /// Begins the file of `generation`. One of that name, which was not in use either, is replaced.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(folder: &Path, generation: u64) -> Result<Self, StoreError> {
        let path = log_path(folder, generation);
        let create = || {
            fs::create_dir_all(folder)?;
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(true).open(&path)?;
            let mut file = BufWriter::new(file);
            file.write_all(&entry::header(generation))?;
            Ok(file)
        };
        let file = create().map_err(at(&path))?;
        Ok(Self { path, file, end: entry::beginning(generation), bytes: Vec::new() })
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, layout: u8, records: usize, payload: &[u8]) -> Result<(), StoreError> {
        self.bytes.clear();
        if !entry::write(&mut self.end, layout, records, payload, &mut self.bytes) {
            return Err(StoreError::TooLarge { bytes: payload.len() });
        }
        self.file.write_all(&self.bytes).map_err(at(&self.path))
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place after the last entry.
    pub fn end(&self) -> Place {
        self.end
    }

    /// Makes what there is of it durable, so that [`NewLog::finish`] takes less time.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        let mut sync = || {
            self.file.flush()?;
            self.file.get_ref().sync_data()
        };
        sync().map_err(at(&self.path))
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> Result<FinishedLog, StoreError> {
        let Self { path, file, end, .. } = self;
        let file = file.into_inner().map_err(|error| at(&path)(error.into_error()))?;
        file.sync_all().map_err(at(&path))?;
        Ok(FinishedLog { path, file, end })
    }
}

impl FinishedLog {
    /// The place after the last entry.
    pub fn end(&self) -> Place {
        self.end
    }

    /// Its entries.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn entries(&self) -> Result<Entries, StoreError> {
        entries_of(self.path.clone(), &self.file, self.end)
    }

    /// Adds an entry, durably.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, layout: u8, records: usize, payload: &[u8]) -> Result<(), StoreError> {
        let (mut bytes, from) = (Vec::new(), self.end.offset);
        if !entry::write(&mut self.end, layout, records, payload, &mut bytes) {
            return Err(StoreError::TooLarge { bytes: payload.len() });
        }
        let write = || {
            self.file.write_all_at(&bytes, from)?;
            self.file.sync_all()
        };
        write().map_err(at(&self.path))
    }
}
