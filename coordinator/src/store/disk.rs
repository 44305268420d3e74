//! The records of a data directory: in a [`Journal`], or, until its first change, in the database
//! of an earlier version ([`OldLog`]).
//!
//! A log of which most belongs to deleted studies is written again without them
//! ([`compaction`](super::compaction)), when it is opened and when a study is deleted. A log that
//! was mostly appended little by little is written again as blocks of many records, by another
//! thread, while appends go on; once that is done, what was appended meanwhile is added, and the
//! new file takes the place of the old one. If any of that fails, it goes on with the old one, which
//! is whole, and tries again when it has doubled.
//!
//! A directory of an earlier version is read as it is. The first append writes its whole log to a
//! journal, in the present format, and makes that durable. From then on `records/` holds no log,
//! and a database of a format that earlier versions refuse takes its place. After a crash, the log
//! is therefore either the whole old one or the whole journal.

use std::fs;
use std::path::Path;

use super::compaction::{Failures, Layouts, Usage};
use super::journal::{self, Access, Journal, MarkProblem, NewLog, Presence};
use super::offline::{has_journal, open_to_read};
use super::old::{NEWEST, OldLog};
use super::records::{Decoded, Records, RecordsAhead, begins_with, each};
use super::rewriting::{Rewriting, Rewritten, Whole};
use super::sled::{BESIDE_JOURNAL, DATABASE, beside_journal, existing_database};
use super::space::room;
use super::stages::Places;
use super::{
    DataDir, Replay, StageStore, Store, StoreError, format, has_artifacts, is_out_of_space,
};
use crate::core::Record;

/// An old log is written again in appends of this many records, so that few are held at once.
pub const WRITTEN_TOGETHER: usize = 256;
/// A larger log is written again by another thread while a coordinator runs, which it would hold up
/// for too long. Bytes.
const COMPACTED_AT_ONCE: u64 = 64 << 20;
/// So many bytes must have been appended before a log is written again as blocks.
const LEAST_LOOSE: u64 = 32 << 20;

/// The records of one data directory.
#[derive(Debug)]
pub struct DiskStore {
    directory: DataDir,
    log: Log,
    /// Of the log as it was read and appended to; it counts nothing before it was read.
    usage: Usage,
    layouts: Layouts,
    pub(super) least_loose: u64,
    stages: StageStore,
    /// Whether stages wait for the journal's file to be readable.
    stages_wait: bool,
    pub(super) rewriting: Option<Rewriting>,
    pub(super) rewriting_failures: Failures,
    /// What takes the place of the journal, if it is not known whether it has done so.
    replacing: Option<Replacing>,
    /// Whether the last append failed. It may be on the disk nevertheless.
    unfinished: bool,
}

/// A journal that was written again, and whose place could not be marked, or only in part.
#[derive(Debug)]
struct Replacing {
    generation: u64,
    usage: Usage,
    layouts: Layouts,
    places: Places,
}

/// Where the records are.
#[derive(Debug)]
enum Log {
    Journal(Box<Journal>),
    Old(OldLog),
}

impl DiskStore {
    /// Opens or creates the records of `directory`. If that can only be read, it changes nothing,
    /// and appends fail.
    ///
    /// # Errors
    /// If they cannot be opened, are damaged, or have a format that this program does not read.
    pub fn open(directory: DataDir) -> Result<Self, StoreError> {
        if directory.is_read_only() {
            let path = directory.path();
            if !has_journal(path)? && path.join(DATABASE).exists() {
                return Err(StoreError::OldReadOnly { path: path.to_owned() });
            }
            let journal = open_to_read(&directory.path().join(journal::FOLDER))?;
            return Self::with(directory, Log::Journal(Box::new(journal)));
        }
        let folder = directory.path().join(journal::FOLDER);
        let database = directory.path().join(DATABASE);
        let presence = journal::presence(&folder)?;
        if presence == Presence::Present {
            let journal = Journal::open(&folder, Access::Write)?;
            // A crash may have left the old log there, and a user another one.
            beside_journal(directory.path(), begins_with(&journal))?;
            return Self::with(directory, Log::Journal(Box::new(journal)));
        }
        let format = existing_database(&database)?.and_then(|(_, format)| format);
        if let Some(1..=NEWEST) = format {
            // If there are entries, they are a part of the old log, which a crash left.
            return Self::with(directory, Log::Old(OldLog::open(&database)?));
        }
        // A new directory has no artifacts before it has a journal.
        let lost = presence == Presence::WithoutMark || has_artifacts(directory.path());
        if lost || format == Some(BESIDE_JOURNAL) {
            let path = journal::mark_path(&folder);
            return Err(StoreError::Mark { path, problem: MarkProblem::Missing });
        }
        let journal = Journal::create(&folder, NewLog::create(&folder, 1)?.finish()?)?;
        beside_journal(directory.path(), begins_with(&journal))?;
        Self::with(directory, Log::Journal(Box::new(journal)))
    }

    fn with(directory: DataDir, log: Log) -> Result<Self, StoreError> {
        let stages = StageStore::default();
        if let Log::Journal(journal) = &log {
            stages.read_from(journal.single_entries()?, Places::default());
        }
        let (usage, layouts, rewriting, rewriting_failures, replacing) = Default::default();
        let (stages_wait, unfinished) = Default::default();
        Ok(Self {
            directory,
            log,
            usage,
            layouts,
            least_loose: LEAST_LOOSE,
            stages,
            stages_wait,
            rewriting,
            rewriting_failures,
            replacing,
            unfinished,
        })
    }

    /// What each pass of a trial's recipe did, of all trials that were read or appended.
    pub fn stages(&self) -> StageStore {
        self.stages.clone()
    }

    /// Writes the journal again if most of it belongs to deleted studies, or begins to do so in
    /// another thread if most of it was appended little by little. It must have been read. If that
    /// fails, for example on a full disk, it is logged, and tried again when the journal has doubled,
    /// or by the next opening.
    pub fn compact_if_useful(&mut self) {
        let Log::Journal(journal) = &self.log else { return };
        if !self.usage.is_mostly_unneeded() {
            return self.begin_to_rewrite();
        }
        if self.may_rewrite(journal) {
            let rewritten = Rewritten::of(journal);
            self.adopt(rewritten);
        }
    }

    /// Begins to write the journal again in another thread, if that is worth while.
    fn begin_to_rewrite(&mut self) {
        let Log::Journal(journal) = &self.log else { return };
        let useful =
            self.usage.is_mostly_unneeded() || self.layouts.are_mostly_loose(self.least_loose);
        if !useful || !self.may_rewrite(journal) {
            return;
        }
        // The new file is at most about as long. What others need to go on must stay free.
        let free = room(self.directory.path()).map_or(0, |room| room.free);
        if free / 2 < journal.end().offset {
            return;
        }
        match Rewriting::begin(journal) {
            Ok(rewriting) => self.rewriting = Some(rewriting),
            Err(error) => self.not_rewritten(&error),
        }
    }

    fn may_rewrite(&self, journal: &Journal) -> bool {
        let idle = self.rewriting.is_none() && self.replacing.is_none();
        idle && !self.directory.is_read_only()
            && self.rewriting_failures.allow(journal.end().offset)
    }

    /// Puts what another thread has written in the journal's place, if it is done.
    fn adopt_rewritten(&mut self) {
        if let Some(rewriting) = self.rewriting.take_if(|rewriting| rewriting.is_done()) {
            self.adopt(rewriting.result());
        }
    }

    /// Puts a log that was written again in the journal's place. If that fails, it goes on with the
    /// journal, which is whole.
    fn adopt(&mut self, rewritten: Result<Rewritten, StoreError>) {
        let Log::Journal(journal) = &mut self.log else { return };
        let generation = journal.end().generation + 1;
        let whole = match rewritten.and_then(|rewritten| rewritten.with_rest_of(journal)) {
            Ok(whole) => whole,
            Err(error) => return self.not_rewritten(&error),
        };
        let Whole { log, path: new, usage, layouts, places } = whole;
        let replacing = Replacing { generation, usage, layouts, places };
        match journal.replace(log) {
            Ok(()) => self.replaced(replacing),
            Err(error) => {
                let folder = self.directory.path().join(journal::FOLDER);
                if matches!(&error, StoreError::Io { path, .. } if *path == folder) {
                    // Before the change, so the mark does not name it.
                    let _ = fs::remove_file(new);
                } else {
                    self.replacing = Some(replacing);
                }
                self.not_rewritten(&error);
            }
        }
    }

    /// Notes that the journal has another file.
    fn replaced(&mut self, now: Replacing) {
        let Replacing { generation: _, usage, layouts, places } = now;
        (self.usage, self.layouts) = (usage, layouts);
        self.stages_are_at(places);
        if self.rewriting_failures.end() {
            tracing::warn!("the journal is written again, which had failed before");
        }
    }

    /// Finds out which file the journal is, if a change of it failed half-way: the one that the mark
    /// names. Both have all that was acknowledged.
    ///
    /// # Errors
    /// [`StoreError::Full`] if there is no room: then it can be tried again.
    fn end_replacing(&mut self) -> Result<(), StoreError> {
        let Some(replacing) = self.replacing.take() else { return Ok(()) };
        let folder = self.directory.path().join(journal::FOLDER);
        match Journal::open(&folder, Access::Write) {
            Ok(journal) => {
                let is_new = journal.end().generation == replacing.generation;
                self.log = Log::Journal(Box::new(journal));
                if is_new {
                    self.replaced(replacing);
                }
                Ok(())
            }
            Err(error) => {
                self.replacing = Some(replacing);
                Err(can_wait_for_room(error))
            }
        }
    }

    /// The journal's file, in which stages have these places, may have changed.
    fn stages_are_at(&mut self, places: Places) {
        let Log::Journal(journal) = &self.log else { return };
        match journal.single_entries() {
            Ok(entries) => self.stages.read_from(entries, places),
            Err(error) => {
                tracing::warn!("trials are shown without their stages for now: {error}");
                self.stages.wait_for(places);
                self.stages_wait = true;
            }
        }
    }

    /// Lets stages be read as soon as the file can be.
    fn read_stages_again(&mut self) {
        if self.stages_wait
            && let Log::Journal(journal) = &self.log
            && let Ok(entries) = journal.single_entries()
        {
            self.stages.go_on(entries);
            self.stages_wait = false;
        }
    }

    /// Says it once for each cause.
    fn not_rewritten(&mut self, error: &StoreError) {
        let Log::Journal(journal) = &self.log else { return };
        if self.rewriting_failures.note(journal.end().offset, error.to_string()) {
            let path = journal.path();
            tracing::warn!(
                "failed to write the journal again, so it goes on as it is: {error}; this is tried \
                 again when {} has doubled",
                path.display()
            );
        }
    }

    /// Writes files of the journal again that somebody has removed, while the directory is this
    /// process's.
    fn put_back(&mut self) -> Result<(), StoreError> {
        let Log::Journal(journal) = &mut self.log else { return Ok(()) };
        if journal.is_in_place() {
            return Ok(());
        }
        if !self.directory.is_held() {
            return Err(StoreError::Gone { path: self.directory.path().to_owned() });
        }
        journal.put_back()?;
        if journal.take_copied() {
            let entries = journal.single_entries();
            self.stages_wait = entries.is_err();
            entries.into_iter().for_each(|entries| self.stages.go_on(entries));
        }
        Ok(())
    }

    /// The journal. Moves an old log to a new one first.
    fn journal(&mut self) -> Result<&mut Journal, StoreError> {
        if let Log::Old(old) = &self.log {
            let folder = self.directory.path().join(journal::FOLDER);
            // The old log is still the log, and the next try begins a new file.
            let log = written_again(old, &folder).map_err(can_wait_for_room)?;
            // From here on, the journal is the log. The stages so far stay in memory.
            self.log = Log::Journal(Box::new(Journal::create(&folder, log)?));
            self.stages_are_at(Places::default());
            beside_journal(self.directory.path(), |_| Ok(true))?;
        }
        match &mut self.log {
            Log::Journal(journal) => Ok(journal),
            Log::Old(_) => unreachable!("it was moved"),
        }
    }
}

impl Store for DiskStore {
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        self.end_replacing()?;
        // An append that is tried again may be in this file already.
        if !self.unfinished {
            self.adopt_rewritten();
            self.end_replacing()?;
        }
        self.put_back()?;
        self.read_stages_again();
        let bytes = format::encode(records)?;
        let journal = self.journal()?;
        let begin = journal.end().offset;
        let appended = journal.append(format::LAYOUT, records.len(), &bytes);
        let end = journal.end().offset;
        self.unfinished = appended.is_err();
        if let Err(error) = appended {
            // Records need the room more.
            if let Some(rewriting) = self.rewriting.take() {
                rewriting.stop();
                self.not_rewritten(&error);
            }
            return Err(error);
        }
        records.iter().for_each(|record| self.usage.note(record));
        self.layouts.note(false, end - begin);
        self.stages.note(begin, records);
        if end <= COMPACTED_AT_ONCE {
            self.compact_if_useful();
        } else {
            self.begin_to_rewrite();
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        match &self.log {
            Log::Journal(journal) => journal.is_mark_synced() && self.replacing.is_none(),
            Log::Old(_) => true,
        }
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.end_replacing()?;
        self.read_stages_again();
        match &mut self.log {
            Log::Journal(journal) => journal.sync_mark(),
            Log::Old(_) => Ok(()),
        }
    }

    fn is_read_only(&self) -> bool {
        self.directory.is_read_only()
    }

    fn replay(&mut self) -> Result<Replay<'_>, StoreError> {
        (self.usage, self.layouts) = Default::default();
        let (usage, layouts, stages) = (&mut self.usage, &mut self.layouts, &self.stages);
        Ok(match &self.log {
            Log::Journal(journal) => {
                let path = journal.path();
                let records = RecordsAhead::new(Records::without_stages(journal.entries()?));
                let records = records.map_err(|source| StoreError::Io { path, source })?;
                let noted = records.inspect(move |decoded| {
                    if let Ok(Decoded { offset, bytes, layout, records }) = decoded {
                        records.iter().for_each(|record| usage.note(record));
                        layouts.note(*layout == format::BLOCK, *bytes);
                        stages.note(*offset, records);
                    }
                });
                Box::new(each(noted))
            }
            Log::Old(old) => {
                let records = old.read()?;
                records.iter().for_each(|record| {
                    usage.note(record);
                    stages.keep(record);
                });
                Box::new(records.into_iter().map(Ok))
            }
        })
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        // Before the directory is given up, which another process may then write to.
        if !self.unfinished && self.replacing.is_none() {
            self.adopt_rewritten();
        }
        if let Some(rewriting) = self.rewriting.take() {
            rewriting.stop();
        }
        if !self.directory.is_read_only()
            && let Err(error) = self.put_back()
        {
            tracing::error!("the journal is not whole: {error}");
        }
    }
}

/// The error as one that ends by itself, if the disk is full.
fn can_wait_for_room(error: StoreError) -> StoreError {
    match error {
        StoreError::Io { path, source } if is_out_of_space(&source) => {
            StoreError::Full { path, source }
        }
        other => other,
    }
}

/// Writes every record of `old` to a journal file in the current layout, durably. Studies are then
/// stored with all defaults filled in, so a later change of a default does not change them. The
/// file is not in use yet.
fn written_again(old: &OldLog, folder: &Path) -> Result<journal::FinishedLog, StoreError> {
    let mut log = NewLog::create(folder, 1)?;
    let mut check = format::Decoder::default();
    for records in old.read()?.chunks(WRITTEN_TOGETHER) {
        let bytes = format::encode(records)?;
        // The old log is removed later, so the new one must be readable.
        check.decode(format::LAYOUT, &bytes)?;
        log.append(format::LAYOUT, records.len(), &bytes)?;
    }
    log.finish()
}

#[cfg(test)]
mod tests;
