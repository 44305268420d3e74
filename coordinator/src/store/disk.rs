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
    Journal(Journal),
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
            return Self::with(directory, Log::Journal(journal));
        }
        let folder = directory.path().join(journal::FOLDER);
        let database = directory.path().join(DATABASE);
        let presence = journal::presence(&folder)?;
        if presence == Presence::Present {
            let journal = Journal::open(&folder, Access::Write)?;
            // A crash may have left the old log there, and a user another one.
            beside_journal(directory.path(), begins_with(&journal))?;
            return Self::with(directory, Log::Journal(journal));
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
        Self::with(directory, Log::Journal(journal))
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
                self.log = Log::Journal(journal);
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

    /// The journal. Moves an old log to a new one first.
    fn journal(&mut self) -> Result<&mut Journal, StoreError> {
        if let Log::Old(old) = &self.log {
            let folder = self.directory.path().join(journal::FOLDER);
            // The old log is still the log, and the next try begins a new file.
            let log = written_again(old, &folder).map_err(can_wait_for_room)?;
            // From here on, the journal is the log. The stages so far stay in memory.
            self.log = Log::Journal(Journal::create(&folder, log)?);
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
mod tests {
    use super::super::format::appends_of_layout_1;
    use super::super::sled::{NEW_DATABASE, OLD_DATABASE};
    use super::super::{old, sled};
    use super::*;

    const RECORD: Record = Record::WorkerIdsReserved { below: 7 };

    fn open(path: &Path) -> Result<DiskStore, StoreError> {
        DiskStore::open(DataDir::open(path).unwrap())
    }

    fn read(store: &mut DiskStore) -> Vec<Record> {
        store.replay().unwrap().map(Result::unwrap).collect()
    }

    /// A directory of format 1: each kind of record in an append of its own, and then a large
    /// append of several parts.
    fn of_format_1() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        old::tests::make(&dir.path().join(DATABASE), 1, 1, &appends_of_layout_1());
        dir
    }

    fn is_old(store: &DiskStore) -> bool {
        matches!(store.log, Log::Old(_))
    }

    /// Checks that the log was moved and holds `before` and one more record, also after another
    /// opening.
    fn is_moved(mut store: DiskStore, before: &[Record]) {
        let directory = store.directory.path().to_owned();
        for _ in 0..2 {
            assert!(!is_old(&store));
            let now = read(&mut store);
            assert_eq!((&now[..before.len()], &now[before.len()..]), (before, &[RECORD][..]));
            drop(store);
            let database = existing_database(&directory.join(DATABASE)).unwrap().unwrap();
            assert_eq!(database.1, Some(BESIDE_JOURNAL));
            drop(database);
            assert!(!directory.join(OLD_DATABASE).exists());
            store = open(&directory).unwrap();
        }
    }

    #[test]
    fn the_first_append_moves_the_whole_log_to_a_journal() {
        let dir = of_format_1();
        let before = read(&mut open(dir.path()).unwrap());
        assert!(before.len() > 10_000);
        // Opening and reading have not changed the directory.
        let mut store = open(dir.path()).unwrap();
        store.append(&[]).unwrap();
        assert!(is_old(&store) && !dir.path().join(journal::FOLDER).exists());
        store.append(&[RECORD]).unwrap();
        is_moved(store, &before);
    }

    // The two tests of a crash stop between two steps, so all that was written is on disk.
    #[test]
    fn a_crash_before_the_mark_leaves_the_old_log() {
        let dir = of_format_1();
        let mut store = open(dir.path()).unwrap();
        let before = read(&mut store);
        let Log::Old(old) = &store.log else { unreachable!() };
        written_again(old, &dir.path().join(journal::FOLDER)).unwrap();
        drop(store);
        let mut store = open(dir.path()).unwrap();
        assert!(is_old(&store));
        assert_eq!(read(&mut store), before);
        store.append(&[RECORD]).unwrap();
        is_moved(store, &before);
    }

    #[test]
    fn a_crash_after_the_mark_leaves_the_journal() {
        for step in 0..3 {
            let dir = of_format_1();
            let mut store = open(dir.path()).unwrap();
            let before = read(&mut store);
            let Log::Old(old) = &store.log else { unreachable!() };
            let folder = dir.path().join(journal::FOLDER);
            Journal::create(&folder, written_again(old, &folder).unwrap()).unwrap();
            drop(store);
            let [database, new, old] =
                [DATABASE, NEW_DATABASE, OLD_DATABASE].map(|name| dir.path().join(name));
            if step > 0 {
                sled::write_format(&new).unwrap();
                fs::rename(&database, &old).unwrap();
            }
            if step > 1 {
                fs::rename(&new, &database).unwrap();
            }
            let mut store = open(dir.path()).unwrap();
            assert!(!is_old(&store));
            store.append(&[RECORD]).unwrap();
            is_moved(store, &before);
        }
    }

    /// A log of an earlier version beside a journal is removed only if it was moved there.
    #[test]
    fn a_log_that_was_not_moved_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap().append(&[RECORD]).unwrap();
        let database = dir.path().join(DATABASE);
        fs::remove_dir_all(&database).unwrap();
        let other = Record::WorkerIdsReserved { below: 8 };
        let log = |records: &[Record]| vec![format::encode(records).unwrap()];
        old::tests::make(&database, 2, 2, &log(&[RECORD, other]));
        for _ in 0..2 {
            let refused = open(dir.path()).unwrap_err();
            assert!(matches!(refused, StoreError::NotMoved { .. }), "{refused}");
        }
        // Nothing of it is missing.
        fs::remove_dir_all(dir.path().join(journal::FOLDER)).unwrap();
        assert_eq!(read(&mut open(dir.path()).unwrap()).len(), 2);

        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap().append(&[RECORD]).unwrap();
        let database = dir.path().join(DATABASE);
        fs::remove_dir_all(&database).unwrap();
        old::tests::make(&database, 2, 2, &log(&[RECORD]));
        assert_eq!(read(&mut open(dir.path()).unwrap()), [RECORD]);
    }

    #[test]
    fn a_log_that_cannot_be_read_is_not_moved() {
        let dir = of_format_1();
        let db = sled::open_database(&dir.path().join(DATABASE)).unwrap();
        let log = db.open_tree(old::FIRST_LOG).unwrap();
        log.insert(1u64.to_be_bytes(), &[1, 1, 0xff]).unwrap();
        db.flush().unwrap();
        drop((db, log));
        let mut store = open(dir.path()).unwrap();
        let error = store.append(&[RECORD]).unwrap_err().to_string();
        assert!(error.contains("entry 1") && error.contains("damaged"), "{error}");
        drop(store);
        assert!(is_old(&open(dir.path()).unwrap()));
    }

    #[test]
    fn databases_of_later_and_unknown_formats_are_refused() {
        for format in [&0u32.to_be_bytes()[..], &4u32.to_be_bytes(), b"x"] {
            for with_journal in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                if with_journal {
                    open(dir.path()).unwrap();
                }
                let db = sled::open_database(&dir.path().join(DATABASE)).unwrap();
                db.insert("format", format).unwrap();
                db.flush().unwrap();
                drop(db);
                // Beside a journal, only a later version's database is not replaced.
                let later = format == 4u32.to_be_bytes();
                let opened = open(dir.path());
                assert_eq!(opened.is_err(), later || !with_journal, "{format:?}");
                if let Err(error) = opened {
                    assert!(matches!(error, StoreError::Format { .. }), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_directory_whose_journal_is_gone_is_not_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap().append(&[RECORD]).unwrap();
        let folder = dir.path().join(journal::FOLDER);
        fs::remove_file(journal::mark_path(&folder)).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("acknowledged is missing"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("acknowledged is missing"), "{error}");
    }

    #[test]
    fn a_crash_while_the_first_journal_is_made_leaves_an_empty_directory() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(journal::FOLDER);
        NewLog::create(&folder, 1).unwrap().finish().unwrap();
        let mut store = open(dir.path()).unwrap();
        assert_eq!(read(&mut store), []);
        store.append(&[RECORD]).unwrap();
        drop(store);
        assert_eq!(read(&mut open(dir.path()).unwrap()), [RECORD]);
    }

    fn created(name: &str) -> Record {
        let text = format!(
            "study.name = \"{name}\"\nbudget.trials = 1\n\
             objectives = [{{ metric = \"validation_accuracy\" }}]\n[table]\npath = \"p\"\n"
        );
        let spec = Box::new(edgesmith_common::StudySpec::parse(&text).unwrap());
        Record::StudyCreated { spec, teacher_weights: None, teacher_task: None, at_ms: 1 }
    }

    fn name(name: &str) -> edgesmith_common::StudyName {
        name.parse().unwrap()
    }

    fn started(study: &str, number: u64) -> Record {
        Record::AttemptStarted {
            study: name(study),
            task: edgesmith_common::TaskId(number),
            attempt: edgesmith_common::AttemptId(number + 100),
            worker: edgesmith_common::WorkerId(1),
            elapsed_ms: 0,
        }
    }

    fn log_bytes(dir: &Path) -> u64 {
        let files = journal::generations(&dir.join(journal::FOLDER)).unwrap();
        assert_eq!(files.len(), 1);
        files[0].1.metadata().unwrap().len()
    }

    /// Studies that take each other's names, some of which are deleted.
    #[test]
    fn deleted_studies_leave_the_log_and_their_ids_stay_used() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        let empty = log_bytes(dir.path());
        let mut kept = vec![created("b"), started("b", 1)];
        let rename =
            |study: &str, new: &str| Record::StudyRenamed { study: name(study), name: name(new) };
        store.append(&[created("a"), RECORD]).unwrap();
        store.append(&kept).unwrap();
        for number in 0..2000 {
            store.append(&[started("a", number)]).unwrap();
        }
        // `a` becomes `c`, and `b` becomes `a` and lives on.
        store.append(&[rename("a", "c"), rename("b", "a")]).unwrap();
        kept.push(rename("b", "a"));
        let before = log_bytes(dir.path());
        store.append(&[Record::StudyDeleted { study: name("c") }]).unwrap();
        assert!(log_bytes(dir.path()) < before / 50);
        store.append(&[created("c"), started("a", 7)]).unwrap();
        kept.extend([created("c"), started("a", 7)]);

        let reserved = [
            Record::IdsReserved { tasks_below: 1, attempts_below: 2100 },
            Record::WorkerIdsReserved { below: 7 },
        ];
        for _ in 0..2 {
            let all = read(&mut store);
            let (ids, rest) = all.split_at(2);
            assert_eq!((ids, rest), (&reserved[..], &kept[..]));
            drop(store);
            store = open(dir.path()).unwrap();
        }

        // When everything is deleted, an empty log is left, but for the ids.
        for number in 0..100 {
            store.append(&[started("a", number)]).unwrap();
        }
        read(&mut store);
        store.append(&["a", "c"].map(|of| Record::StudyDeleted { study: name(of) })).unwrap();
        assert_eq!(read(&mut store), reserved);
        assert!(log_bytes(dir.path()) < empty + 200);
    }

    #[test]
    fn a_log_of_deleted_studies_is_written_again_when_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        // Not read yet, so it is not known that they are deleted.
        store.append(&vec![created("a"); 1]).unwrap();
        store.append(&vec![started("a", 5); 1000]).unwrap();
        drop(store);
        let mut store = open(dir.path()).unwrap();
        store.append(&[Record::StudyDeleted { study: name("a") }]).unwrap();
        drop(store);
        let before = log_bytes(dir.path());
        let mut store = open(dir.path()).unwrap();
        store.compact_if_useful();
        assert_eq!(log_bytes(dir.path()), before);
        assert_eq!(read(&mut store).len(), 1002);
        store.compact_if_useful();
        assert_eq!(read(&mut store).len(), 2);
        assert!(log_bytes(dir.path()) < before / 10);
    }

    #[test]
    fn records_of_a_later_version_are_refused_with_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        store.append(&[RECORD]).unwrap();
        let Log::Journal(journal) = &mut store.log else { unreachable!() };
        let begin = journal.end().offset;
        journal.append(format::BLOCK + 1, 1, &[1]).unwrap();
        let error = store.replay().unwrap().last().unwrap().unwrap_err().to_string();
        assert!(error.contains(&format!("byte {begin} ")) && error.contains("version"), "{error}");
    }
}
