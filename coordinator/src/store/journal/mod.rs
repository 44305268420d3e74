//! The journal: all records of a data directory in one append-only file, whose checksums chain each
//! append to all before it, and a mark, apart from it, of what was acknowledged.
//!
//! An append is durable, and marked, before [`Journal::append`] returns. So whatever is missing or
//! changed before the mark is damage, and is refused with its place. The mark survives the end of
//! the process at once, and a failure of power after [`Journal::sync_mark`]. What follows the mark
//! and is whole is kept. A last entry that follows it and is not whole is a write that was cut
//! short and that nobody has seen; it is dropped. If more follows, it is damage. The bytes are
//! described in [`entry`] and [`mark`].
//!
//! Knows nothing of what records mean; the records of an append are bytes to it.

pub mod entry;
mod mark;
mod new_log;
mod put_back;
mod reading;
mod repair;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

pub use self::entry::{Flaw, Next, Place, Scanner};
pub use self::mark::Marks;
pub use self::new_log::{FinishedLog, NewLog};
use self::put_back::Identity;
pub use self::reading::{Entries, SingleEntries};
use self::reading::{FromStart, READ_BYTES, entries_of, scanner};
pub use self::repair::{Cut, cut};
use super::directory::sync_directory;
use super::{StoreError, is_out_of_space};

/// The folder in the data directory.
pub const FOLDER: &str = "journal";
const MARK_FILE: &str = "acknowledged";

/// What a data directory has of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Nothing, or what a crash left of one that was being made, in which nothing was acknowledged.
    Absent,
    /// A journal.
    Present,
    /// Entries without the file that says how many were acknowledged.
    WithoutMark,
}

/// Whether a journal is opened to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It may be appended to. Only one process may have it open so.
    Write,
    /// It is only read, also while another process appends to it.
    Read,
}

/// An open journal whose entries up to the mark are whole.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    access: Access,
    log: File,
    mark: File,
    /// Which files have to be in the places of both.
    log_identity: Identity,
    mark_identity: Identity,
    /// Whether the entries are in another file since [`Journal::take_copied`] was asked.
    copied: bool,
    marks: Marks,
    /// The place after the last whole entry.
    end: Place,
    /// Whether the file goes on after `end`: with what was left of an append that never returned.
    has_torn_tail: bool,
    /// The place after an append that is durable, and that could not be marked for lack of room.
    unmarked: Option<Place>,
    /// Whether an append has failed. What is on disk is then not known.
    failed: bool,
}

/// Path of the file of a generation.
pub fn log_path(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("{generation}.log"))
}

/// Path of the mark's file.
pub fn mark_path(folder: &Path) -> PathBuf {
    folder.join(MARK_FILE)
}

/// What `folder` has.
///
/// # Errors
/// If it cannot be read.
pub fn presence(folder: &Path) -> Result<Presence, StoreError> {
    if mark_path(folder).exists() {
        return Ok(Presence::Present);
    }
    let mut entries = false;
    for (_, path) in generations(folder)? {
        entries |= path.metadata().map_err(at(&path))?.len() > entry::HEADER_BYTES;
    }
    Ok(if entries { Presence::WithoutMark } else { Presence::Absent })
}

/// The files of `folder` by their generation, in order. None if there is no folder.
///
/// # Errors
/// If the folder cannot be read.
pub fn generations(folder: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        listing => listing.map_err(at(folder))?,
    };
    for file in listing {
        let path = file.map_err(at(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let generation = name.and_then(|name| name.strip_suffix(".log"));
        if let Some(generation) = generation.and_then(|text| text.parse().ok()) {
            found.push((generation, path));
        }
    }
    found.sort();
    Ok(found)
}

impl Journal {
    /// Opens the journal of `folder` and checks every entry up to the mark.
    ///
    /// # Errors
    /// If a file is missing, cut or damaged, with what is lost.
    pub fn open(folder: &Path, access: Access) -> Result<Self, StoreError> {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).write(access == Access::Write).open(path).map_err(at(path))
        };
        let mark_path = mark_path(folder);
        let mark = open(&mark_path)?;
        let mut marks = Marks::read(&mark).map_err(at(&mark_path))?;
        let Some(marked) = marks.newest else {
            return Err(StoreError::Mark { path: mark_path, problem: MarkProblem::Unreadable });
        };
        let path = log_path(folder, marked.generation);
        let log = match open(&path) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let problem = MarkProblem::NoLog { log: path, records: marked.records };
                return Err(StoreError::Mark { path: mark_path, problem });
            }
            opened => opened?,
        };
        let (end, has_torn_tail) = check(&path, &log, marked)?;
        if access == Access::Write {
            if has_torn_tail {
                drop_torn_tail(&path, &log, end.offset)?;
            }
            // An append that was cut off before it was marked is whole, and is kept. After a crash
            // in a change of generation, the older slot may name the file before.
            if end != marked {
                write_again(&log, marked.offset..end.offset).map_err(at(&path))?;
            }
            // Both, because what was marked last need not have been synced.
            marks.write_both(&mark, end).map_err(at(&mark_path))?;
            remove_others(folder, end.generation)?;
        }
        let folder = folder.to_owned();
        Ok(Self {
            folder,
            access,
            log_identity: Identity::of(&log).map_err(at(&path))?,
            mark_identity: Identity::of(&mark).map_err(at(&mark_path))?,
            copied: false,
            log,
            mark,
            marks,
            end,
            has_torn_tail: has_torn_tail && access == Access::Read,
            unmarked: None,
            failed: false,
        })
    }

    /// Makes the first journal of `folder` from a log of generation 1.
    ///
    /// # Errors
    /// If it cannot be made durable.
    pub fn create(folder: &Path, log: FinishedLog) -> Result<Self, StoreError> {
        let (mark, marks) = new_mark(folder, log.end).map_err(at(&mark_path(folder)))?;
        Ok(Self {
            folder: folder.to_owned(),
            access: Access::Write,
            log_identity: Identity::of(&log.file).map_err(at(&log.path))?,
            mark_identity: Identity::of(&mark).map_err(at(&mark_path(folder)))?,
            copied: false,
            log: log.file,
            mark,
            marks,
            end: log.end,
            has_torn_tail: false,
            unmarked: None,
            failed: false,
        })
    }

    /// Whether both places of the mark are whole. One is enough, and the next opening for writing
    /// mends the other.
    pub fn has_whole_marks(&self) -> bool {
        self.marks.whole
    }

    /// Appends the records of `payload`, durably, and marks them. The caller has seen to it that the
    /// files are in their places ([`Journal::put_back`]).
    ///
    /// # Errors
    /// [`StoreError::Full`] if there is no room: then the same payload can be appended again, and
    /// nothing else. After any other error nothing more can be appended. What was written of the
    /// records is dropped at the next opening, or kept if it is whole.
    pub fn append(&mut self, layout: u8, records: usize, payload: &[u8]) -> Result<(), StoreError> {
        let path = self.path();
        if self.access == Access::Read {
            return Err(StoreError::ReadOnly { path });
        }
        if std::mem::replace(&mut self.failed, true) {
            return Err(StoreError::AfterFailure { path });
        }
        self.check_length()?;
        let mut bytes = Vec::with_capacity(payload.len() + 64);
        let mut end = self.end;
        if !entry::write(&mut end, layout, records, payload, &mut bytes) {
            return Err(StoreError::TooLarge { bytes: payload.len() });
        }
        match self.unmarked {
            None => self.write(&bytes).map_err(|error| self.write_failed(path, error))?,
            // The log has these bytes already. It must keep them, because the mark may name them.
            Some(unmarked) if unmarked == end => {}
            Some(_) => return Err(StoreError::AfterFailure { path }),
        }
        self.has_torn_tail = false;
        self.unmarked = Some(end);
        if let Err(error) = self.marks.write(&self.mark, end) {
            return Err(self.write_failed(mark_path(&self.folder), error));
        }
        (self.end, self.unmarked, self.failed) = (end, None, false);
        Ok(())
    }

    /// Whether a file that was removed was written again since the last call, so that entries
    /// have to be read from the new one. They are in the same places.
    pub fn take_copied(&mut self) -> bool {
        std::mem::take(&mut self.copied)
    }

    /// Whether the mark of the last append is durable.
    pub fn is_mark_synced(&self) -> bool {
        self.marks.is_synced()
    }

    /// Makes the mark of the last append durable. Without it, damage to what was appended since the
    /// last one cannot be told from a write that was cut short, if the power fails.
    ///
    /// # Errors
    /// [`StoreError::Full`] if there is no room: then it can be tried again. After any other error
    /// nothing more can be appended.
    pub fn sync_mark(&mut self) -> Result<(), StoreError> {
        let path = mark_path(&self.folder);
        self.marks.sync(&self.mark).map_err(|source| {
            if is_out_of_space(&source) {
                return StoreError::Full { path, source };
            }
            self.failed = true;
            StoreError::Io { path, source }
        })
    }

    /// Writes the bytes of an append, durably.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.has_torn_tail {
            self.log.set_len(self.end.offset)?;
            // Apart from what follows: else a crash could leave the beginning of that before the
            // rest of this, which looks like damage.
            self.log.sync_all()?;
        }
        self.has_torn_tail = true;
        self.log.write_all_at(bytes, self.end.offset)?;
        self.log.sync_data()
    }

    /// The error of an append. If there was no room, it can be tried again: the next try cuts off
    /// what is left of this one, and writes all of it anew, or only the mark if that was missing.
    fn write_failed(&mut self, path: PathBuf, source: io::Error) -> StoreError {
        if !is_out_of_space(&source) {
            return StoreError::Io { path, source };
        }
        // The room that it took may be what others need.
        let cut = || self.log.set_len(self.end.offset).and_then(|()| self.log.sync_all());
        if self.unmarked.is_none() && cut().is_ok() {
            self.has_torn_tail = false;
        }
        self.failed = false;
        StoreError::Full { path, source }
    }

    /// Begins to write the file of the next generation, which takes this one's place with
    /// [`Journal::replace`].
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn next_log(&self) -> Result<NewLog, StoreError> {
        NewLog::create(&self.folder, self.end.generation + 1)
    }

    /// Goes on with `log` in place of the file so far, which is removed, at the latest by the next
    /// opening.
    ///
    /// # Errors
    /// If the change could not be made durable.
    pub fn replace(&mut self, log: FinishedLog) -> Result<(), StoreError> {
        let mark_path = mark_path(&self.folder);
        let identity = Identity::of(&log.file).map_err(at(&log.path))?;
        if put_back::in_place(&log.path, identity).is_none() || !self.is_in_place() {
            // The file so far goes on, and is put back.
            return Err(at(&self.folder)(io::ErrorKind::NotFound.into()));
        }
        sync_directory(&self.folder).map_err(at(&self.folder))?;
        self.marks.write_both(&self.mark, log.end).map_err(at(&mark_path))?;
        self.log_identity = identity;
        (self.log, self.end, self.has_torn_tail) = (log.file, log.end, false);
        // What the old file had beyond its mark is appended to the new one again.
        self.unmarked = None;
        // The change is done, so this is no failure of it.
        let _ = remove_others(&self.folder, self.end.generation);
        Ok(())
    }

    /// The place after the last entry.
    pub fn end(&self) -> Place {
        self.end
    }

    /// Path of the file.
    pub fn path(&self) -> PathBuf {
        log_path(&self.folder, self.end.generation)
    }

    /// Reads the entries from the first on. The file was checked when it was opened; should it have
    /// changed since, the scanner says so.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn entries(&self) -> Result<Entries, StoreError> {
        entries_of(self.path(), &self.log, self.end)
    }

    /// Reads the entries after `place`, which is one of this file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn entries_after(&self, place: Place) -> Result<Entries, StoreError> {
        let path = self.path();
        let file = self.log.try_clone().map_err(at(&path))?;
        let from = FromStart { file, next: place.offset };
        let scanner = Scanner::from(BufReader::with_capacity(READ_BYTES, from), place);
        Ok(Entries { path, scanner, until: self.end })
    }

    /// What reads single entries of the file.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn single_entries(&self) -> Result<SingleEntries, StoreError> {
        Ok(SingleEntries(self.log.try_clone().map_err(at(&self.path()))?))
    }
}

/// A file of marks of this place, durably.
fn new_mark(folder: &Path, end: Place) -> io::Result<(File, Marks)> {
    let fresh = folder.join("acknowledged.new");
    let mut options = OpenOptions::new();
    let mark = options.read(true).write(true).create(true).truncate(true).open(&fresh)?;
    let mut marks = Marks::read(&mark)?;
    marks.write_both(&mark, end)?;
    mark.sync_all()?;
    fs::rename(&fresh, mark_path(folder))?;
    // Also the places of the data directory and of its parent, which may be new.
    for directory in folder.ancestors().take(4) {
        let here = Path::new(".");
        sync_directory(if directory.as_os_str().is_empty() { here } else { directory })?;
    }
    Ok((mark, marks))
}

/// Why the mark's file does not fit the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarkProblem {
    /// Neither slot can be read.
    #[error("is damaged, so it is not known how many records were acknowledged")]
    Unreadable,
    /// It does not exist, although there are entries.
    #[error("is missing, so it is not known how many records were acknowledged")]
    Missing,
    /// It names a place that the file does not have, although the file is whole.
    #[error("does not belong to {log}")]
    Foreign {
        /// The file.
        log: PathBuf,
    },
    /// The file that it names does not exist.
    #[error("names {log}, which is missing, with {records} records")]
    NoLog {
        /// The file.
        log: PathBuf,
        /// How many records it had.
        records: u64,
    },
}

/// Reads the whole file. Returns the place after its last entry, and whether bytes follow it that
/// are not an entry.
fn check(path: &Path, log: &File, marked: Place) -> Result<(Place, bool), StoreError> {
    // What another process appends meanwhile says nothing of what was there before.
    let length = log.metadata().map_err(at(path))?.len();
    let mut scanner = scanner(path, log, marked)?;
    let mut is_marked = scanner.place() == marked;
    loop {
        let before = scanner.place();
        let (flaw, torn) = match scanner.advance().map_err(at(path))? {
            Next::Entry(_) => {
                is_marked |= scanner.place() == marked;
                if !is_marked && scanner.place().appends >= marked.appends {
                    let problem = MarkProblem::Foreign { log: path.to_owned() };
                    let path = path.with_file_name(MARK_FILE);
                    return Err(StoreError::Mark { path, problem });
                }
                continue;
            }
            Next::End => (Flaw::Cut, false),
            Next::Flaw(flaw) => (flaw, true),
        };
        let is_cut_short = match flaw {
            Flaw::Cut | Flaw::Checksum => {
                !more_follows(log, before.offset, length).map_err(at(path))?
            }
            // Whole, and written by a later version.
            Flaw::Layout(_) | Flaw::Header | Flaw::Version(_) => false,
        };
        if is_marked && is_cut_short {
            return Ok((before, torn));
        }
        return Err(damaged(path, before, flaw, marked));
    }
}

/// Whether more follows the entry at `offset`, which is not whole, in a file of this length. A
/// write begins only when all before it is durable, so an entry that something follows was not cut
/// short.
fn more_follows(log: &File, offset: u64, length: u64) -> io::Result<bool> {
    let mut prefix = [0; entry::PREFIX_BYTES];
    let end = match log.read_exact_at(&mut prefix, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
        read => read.map(|()| entry::claimed_end(offset, &prefix))?,
    };
    Ok(end.is_some_and(|end| end < length))
}

/// Cuts off what is left of a write that was cut short, durably.
fn drop_torn_tail(path: &Path, log: &File, from: u64) -> Result<(), StoreError> {
    let bytes = log.metadata().map_err(at(path))?.len().saturating_sub(from);
    tracing::warn!(
        "{} ends with {bytes} bytes that are no whole entry: a write that was cut short before it \
         was acknowledged; they are dropped",
        path.display()
    );
    log.set_len(from).and_then(|()| log.sync_all()).map_err(at(path))
}

fn damaged(path: &Path, after: Place, flaw: Flaw, marked: Place) -> StoreError {
    if let Flaw::Version(_) | Flaw::Layout(_) = flaw {
        return StoreError::Newer { path: path.to_owned(), problem: flaw.to_string() };
    }
    if flaw == Flaw::Header {
        return StoreError::Header { path: path.to_owned() };
    }
    StoreError::Damaged {
        path: path.to_owned(),
        offset: after.offset,
        flaw,
        kept: after.records,
        acknowledged: marked.records,
    }
}

/// Removes the files of other generations, durably.
fn remove_others(folder: &Path, generation: u64) -> Result<(), StoreError> {
    let mut removed = false;
    for (other, path) in generations(folder)? {
        if other != generation {
            fs::remove_file(&path).map_err(at(&path))?;
            removed = true;
        }
    }
    if removed { sync_directory(folder).map_err(at(folder)) } else { Ok(()) }
}

/// Writes bytes of a file again, durably. Syncing them may have failed, and the system may since
/// take them for written.
fn write_again(file: &File, range: std::ops::Range<u64>) -> io::Result<()> {
    let mut bytes = vec![0; READ_BYTES];
    let mut from = range.start;
    while from < range.end {
        let part = (range.end - from).min(READ_BYTES as u64) as usize;
        file.read_exact_at(&mut bytes[..part], from)?;
        file.write_all_at(&bytes[..part], from)?;
        from += part as u64;
    }
    file.sync_data()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

#[cfg(test)]
mod tests;
