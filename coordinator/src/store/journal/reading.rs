//! Reads a journal's file: all entries, those after a place, or single ones. Whether they are what
//! was acknowledged is checked when the journal is opened.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{Flaw, Next, Place, Scanner, at, damaged, entry};
use crate::store::StoreError;

/// How much of a file is read at once.
pub(super) const READ_BYTES: usize = 1 << 20;
/// The same for a single entry.
const ENTRY_BYTES: usize = 1 << 16;

/// Reads single entries of a file, also after another one took its place.
#[derive(Debug)]
pub struct SingleEntries(pub(super) File);

impl SingleEntries {
    /// The layout and the payload of the entry that begins at `offset`, which may be damaged.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, offset: u64) -> io::Result<(u8, Vec<u8>)> {
        let file = self.0.try_clone()?;
        let from = FromStart { file, next: offset };
        entry::payload_of(BufReader::with_capacity(ENTRY_BYTES, from))
    }
}

/// All entries of a file.
///
/// # Errors
/// If it cannot be read.
pub fn entries_of(path: PathBuf, log: &File, until: Place) -> Result<Entries, StoreError> {
    let scanner = scanner(&path, log, until)?;
    Ok(Entries { path, scanner, until })
}

/// A file read from its beginning, whatever its cursor, and whatever its name is by now.
#[derive(Debug)]
pub struct FromStart {
    pub(super) file: File,
    pub(super) next: u64,
}

impl io::Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.next)?;
        self.next += read as u64;
        Ok(read)
    }
}

/// The entries of a journal, one after the other.
#[derive(Debug)]
pub struct Entries {
    pub(super) path: PathBuf,
    pub(super) scanner: Scanner<BufReader<FromStart>>,
    pub(super) until: Place,
}

impl Entries {
    /// The layout and the payload of the next entry; `None` at the end.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn next(&mut self) -> Result<Option<(u8, &[u8])>, StoreError> {
        if self.scanner.place() == self.until {
            return Ok(None);
        }
        match self.scanner.advance().map_err(at(&self.path))? {
            Next::Entry(layout) => Ok(Some((layout, self.scanner.payload()))),
            Next::End => Err(damaged(&self.path, self.scanner.place(), Flaw::Cut, self.until)),
            Next::Flaw(flaw) => Err(damaged(&self.path, self.scanner.place(), flaw, self.until)),
        }
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place after the last entry that was read.
    pub fn place(&self) -> Place {
        self.scanner.place()
    }

    /// The place after the last entry that is read.
    pub fn until(&self) -> Place {
        self.until
    }
}

/// What reads a file from its first entry on; `of` is the place where it is known to end.
pub(super) fn scanner(
    path: &Path,
    log: &File,
    of: Place,
) -> Result<Scanner<BufReader<FromStart>>, StoreError> {
    let file = log.try_clone().map_err(at(path))?;
    let reader = BufReader::with_capacity(READ_BYTES, FromStart { file, next: 0 });
    let scanner = Scanner::new(reader, of.generation).map_err(at(path))?;
    scanner.map_err(|flaw| {
        let nothing = Place { offset: 0, ..entry::beginning(of.generation) };
        damaged(path, nothing, flaw, of)
    })
}
