//! The records of a data directory: in a [`Journal`], or, until its first change, in the database
//! of an earlier version ([`OldLog`]).
//!
//! A log of which most belongs to deleted studies is written again without them
//! ([`compaction`](super::compaction)), when it is opened and when a study is deleted.
//!
//! A directory of an earlier version is read as it is. The first append writes its whole log to a
//! journal, in the present format, and makes that durable. From then on `records/` holds no log,
//! and a database of a format that earlier versions refuse takes its place. After a crash, the log
//! is therefore either the whole old one or the whole journal.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::compaction::{Lives, Usage};
use super::directory::sync_directory;
use super::journal::{self, Access, Entries, Journal, MarkProblem, NewLog, Presence};
use super::old::{NEWEST, OldLog};
use super::sled::{BESIDE_JOURNAL, format_of, open_database, write_format};
use super::{DataDir, Replay, StageStore, Store, StoreError, format};
use crate::core::{Record, StagesKey, UsedIds};

const DATABASE: &str = "records";
/// Names for the database while another one takes its place.
const NEW_DATABASE: &str = "records.new";
const OLD_DATABASE: &str = "records.old";

/// A log is written again in appends of this many records, so that few are held at once.
const WRITTEN_TOGETHER: usize = 256;
/// A larger log is not written again while a coordinator runs, which it would hold up for too long,
/// but when it is opened next. Bytes.
const COMPACTED_WHILE_RUNNING: u64 = 64 << 20;
/// How often to open a journal whose file is being replaced.
const REPLACED_TRIES: u32 = 20;

/// The records of one data directory.
#[derive(Debug)]
pub struct DiskStore {
    directory: DataDir,
    log: Log,
    /// Of the log as it was read and appended to; it counts nothing before it was read.
    usage: Usage,
    stages: StageStore,
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
        let usage = Usage::default();
        if directory.is_read_only() {
            let path = directory.path();
            if !has_journal(path)? && path.join(DATABASE).exists() {
                return Err(StoreError::OldReadOnly { path: path.to_owned() });
            }
            let journal = open_to_read(&directory.path().join(journal::FOLDER))?;
            let (log, stages) = (Log::Journal(journal), StageStore::in_memory());
            return Ok(Self { directory, log, usage, stages });
        }
        let folder = directory.path().join(journal::FOLDER);
        let database = directory.path().join(DATABASE);
        let presence = journal::presence(&folder)?;
        if presence == Presence::Present {
            let journal = Journal::open(&folder, Access::Write)?;
            let (log, stages) = (Log::Journal(journal), beside_journal(directory.path())?);
            return Ok(Self { directory, log, usage, stages });
        }
        let format = existing_database(&database)?.and_then(|(_, format)| format);
        if let Some(1..=NEWEST) = format {
            // If there are entries, they are a part of the old log, which a crash left.
            let (log, stages) = (Log::Old(OldLog::open(&database)?), StageStore::in_memory());
            return Ok(Self { directory, log, usage, stages });
        }
        if presence == Presence::WithoutMark || format == Some(BESIDE_JOURNAL) {
            let path = journal::mark_path(&folder);
            return Err(StoreError::Mark { path, problem: MarkProblem::Missing });
        }
        let journal = Journal::create(&folder, NewLog::create(&folder, 1)?.finish()?)?;
        let (log, stages) = (Log::Journal(journal), beside_journal(directory.path())?);
        Ok(Self { directory, log, usage, stages })
    }

    /// What each pass of a trial's recipe did, of all trials that were read or appended.
    pub fn stages(&self) -> StageStore {
        self.stages.clone()
    }

    /// Writes the journal again without the records of deleted studies, if most of it is theirs. It
    /// must have been read. If there is no room for it, that is logged, and the next opening tries
    /// again.
    ///
    /// # Errors
    /// If it is not known which of the two is the journal now.
    pub fn compact_if_useful(&mut self) -> Result<(), StoreError> {
        let Log::Journal(journal) = &mut self.log else { return Ok(()) };
        if !self.usage.is_mostly_unneeded() || self.directory.is_read_only() {
            return Ok(());
        }
        match compacted(journal) {
            Ok(Compacted { log, usage, stages }) => {
                journal.replace(log)?;
                self.stages.retain(&stages);
                self.usage = usage;
            }
            Err(error) => {
                tracing::warn!("failed to write the journal without deleted studies: {error}");
                // Not at every append.
                self.usage = Usage::default();
            }
        }
        Ok(())
    }

    /// The journal. Moves an old log to a new one first.
    fn journal(&mut self) -> Result<&mut Journal, StoreError> {
        if let Log::Old(old) = &self.log {
            let folder = self.directory.path().join(journal::FOLDER);
            let log = written_again(old, &folder)?;
            // From here on, the journal is the log.
            self.log = Log::Journal(Journal::create(&folder, log)?);
            // The service already holds the stages in memory. Those of this process stay there, and
            // the next start writes them to the database.
            beside_journal(self.directory.path())?;
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
        let bytes = format::encode(records)?;
        let journal = self.journal()?;
        journal.append(format::LAYOUT, records.len(), &bytes)?;
        let is_small = journal.end().offset <= COMPACTED_WHILE_RUNNING;
        for record in records {
            self.usage.note(record);
            self.stages.note(record);
        }
        if is_small { self.compact_if_useful() } else { Ok(()) }
    }

    fn is_read_only(&self) -> bool {
        self.directory.is_read_only()
    }

    fn replay(&mut self) -> Result<Replay<'_>, StoreError> {
        self.usage = Usage::default();
        let (usage, stages) = (&mut self.usage, &self.stages);
        let noted = |record: Result<Record, StoreError>| {
            record.inspect(|record| {
                usage.note(record);
                stages.note(record);
            })
        };
        Ok(match &self.log {
            Log::Journal(journal) => Box::new(Records::new(journal.entries()?).map(noted)),
            Log::Old(old) => Box::new(old.read()?.into_iter().map(Ok).map(noted)),
        })
    }
}

/// A log without the records of deleted studies.
struct Compacted {
    log: journal::FinishedLog,
    usage: Usage,
    /// The keys of the stages in it.
    stages: HashSet<StagesKey>,
}

/// Writes such a log beside the journal. After an error it leaves nothing behind.
fn compacted(journal: &Journal) -> Result<Compacted, StoreError> {
    let mut lives = Lives::default();
    for record in Records::new(journal.entries()?) {
        lives.note(&record?);
    }
    let (mut filter, reserved) = lives.filter();
    let mut log = journal.next_log()?;
    let path = log.path().to_owned();
    let (mut usage, mut stages) = (Usage::default(), HashSet::new());
    let write_all = || {
        let mut together = Vec::from(reserved);
        let mut write = |records: &mut Vec<Record>| {
            for record in &*records {
                usage.note(record);
                if let Record::TrialTrained { trained, .. } = record {
                    stages.extend(StagesKey::of(&trained.stages));
                }
            }
            let bytes = format::encode(records)?;
            log.append(format::LAYOUT, records.len(), &bytes)?;
            records.clear();
            Ok::<(), StoreError>(())
        };
        for record in Records::new(journal.entries()?) {
            let record = record?;
            if filter.needs(&record) {
                together.push(record);
            }
            if together.len() >= WRITTEN_TOGETHER {
                write(&mut together)?;
            }
        }
        if together.is_empty() { Ok(()) } else { write(&mut together) }
    };
    let written = write_all();
    let finished = written.and_then(|()| log.finish());
    if finished.is_err() {
        // It takes up room that is missing.
        let _ = fs::remove_file(path);
    }
    Ok(Compacted { log: finished?, usage, stages })
}

/// Whether the data directory `path` has a journal. If not, an earlier version wrote it last, or
/// nothing did.
///
/// # Errors
/// If it cannot be read.
pub fn has_journal(path: &Path) -> Result<bool, StoreError> {
    Ok(journal::presence(&path.join(journal::FOLDER))? == Presence::Present)
}

/// The records in the data directory `path`, without changing it. Another process may have it open,
/// unless an earlier version wrote it last.
///
/// # Errors
/// If they cannot be opened or are damaged.
pub fn read_records(path: &Path) -> Result<Replay<'static>, StoreError> {
    let folder = path.join(journal::FOLDER);
    if has_journal(path)? {
        let journal = open_to_read(&folder)?;
        return Ok(Box::new(Records::new(journal.entries()?)));
    }
    let database = path.join(DATABASE);
    match existing_database(&database)?.and_then(|(_, format)| format) {
        Some(1..=NEWEST) => Ok(Box::new(OldLog::open(&database)?.read()?.into_iter().map(Ok))),
        _ => {
            let path = journal::mark_path(&folder);
            Err(StoreError::Mark { path, problem: MarkProblem::Missing })
        }
    }
}

/// The path of the file that marks what was acknowledged, if one of its two places is damaged. The
/// other one is enough, and the next start of a coordinator mends it.
///
/// # Errors
/// If the journal cannot be opened or is damaged.
pub fn half_damaged_mark(path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let folder = path.join(journal::FOLDER);
    if !has_journal(path)? {
        return Ok(None);
    }
    // A second time, because a coordinator may be writing one of them just now.
    let whole = || Ok::<bool, StoreError>(open_to_read(&folder)?.has_whole_marks());
    let whole = whole()? || whole()?;
    Ok((!whole).then(|| journal::mark_path(&folder)))
}

/// Opens the journal of `folder` to read it. A coordinator may be putting another file in its place
/// just now.
fn open_to_read(folder: &Path) -> Result<Journal, StoreError> {
    if journal::presence(folder)? != Presence::Present {
        let (path, problem) = (journal::mark_path(folder), MarkProblem::Missing);
        return Err(StoreError::Mark { path, problem });
    }
    for _ in 0..REPLACED_TRIES {
        match Journal::open(folder, Access::Read) {
            Err(StoreError::Mark { problem: MarkProblem::NoLog { .. }, .. }) => {}
            opened => return opened,
        }
    }
    Journal::open(folder, Access::Read)
}

/// Records that were copied to a new data directory. It has none until they are marked.
#[derive(Debug)]
pub struct Copied {
    to: PathBuf,
    log: journal::FinishedLog,
}

impl Copied {
    /// How many they are.
    pub fn records(&self) -> u64 {
        self.log.end().records
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.log.end().offset
    }

    /// All of them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read(&self) -> Result<Replay<'static>, StoreError> {
        Ok(Box::new(Records::new(self.log.entries()?)))
    }

    /// Makes them the records of the directory. With `leave_out`, ids up to that one are not used
    /// again, whether the records have them or not.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn mark(mut self, leave_out: Option<u64>) -> Result<(), StoreError> {
        if let Some(id) = leave_out {
            reserve(&mut self.log, id)?;
        }
        Journal::create(&self.to.join(journal::FOLDER), self.log)?;
        beside_journal(&self.to).map(drop)
    }
}

/// Copies the records of the data directory `from`, as far as they are acknowledged, to the new data
/// directory `to`.
///
/// # Errors
/// If they are damaged or cannot be written.
pub fn copy_records(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    let mut log = NewLog::create(&to.join(journal::FOLDER), 1)?;
    if has_journal(from)? {
        let mut entries = open_to_read(&from.join(journal::FOLDER))?.entries()?;
        let mut before = entries.place().records;
        while let Some((layout, payload)) = entries.next()? {
            let payload = payload.to_vec();
            let records = entries.place().records;
            log.append(layout, (records - before) as usize, &payload)?;
            before = records;
        }
    } else {
        let all = read_records(from)?.collect::<Result<Vec<_>, _>>()?;
        for records in all.chunks(WRITTEN_TOGETHER) {
            log.append(format::LAYOUT, records.len(), &format::encode(records)?)?;
        }
    }
    Ok(Copied { to: to.to_owned(), log: log.finish()? })
}

/// What became of a journal.
#[derive(Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The records before the damage.
    pub kept: u64,
    /// The records that were acknowledged and are lost; `None` if it is not known how many were
    /// acknowledged.
    pub lost: Option<u64>,
    /// The file with the bytes that were cut off, and how many they are.
    pub cut: Option<(PathBuf, u64)>,
}

/// Cuts the journal of `directory` at the first damage. Ids up to `leave_out` are not used again,
/// because lost records may have given them out.
///
/// # Errors
/// If it cannot be read or written, or is of a later version.
pub fn repair_journal(directory: &DataDir, leave_out: u64) -> Result<Repaired, StoreError> {
    let folder = directory.path().join(journal::FOLDER);
    let journal::Cut { mut log, lost, cut } = journal::cut(&folder)?;
    let kept = log.end().records;
    reserve(&mut log, leave_out)?;
    Journal::create(&folder, log)?;
    beside_journal(directory.path())?;
    Ok(Repaired { kept, lost, cut })
}

/// Adds records by which no id up to `id`, and none that is in the log, is used again.
fn reserve(log: &mut journal::FinishedLog, id: u64) -> Result<(), StoreError> {
    let mut ids = UsedIds::default();
    for record in Records::new(log.entries()?) {
        ids.note(&record?);
    }
    let UsedIds { tasks_below, attempts_below, workers_below } = ids;
    let ids = UsedIds {
        tasks_below: tasks_below.max(id),
        attempts_below: attempts_below.max(id),
        workers_below: workers_below.max(id),
    };
    let records = ids.reserved();
    log.append(format::LAYOUT, records.len(), &format::encode(&records)?)
}

/// Decodes the entries of a journal, one after the other.
#[derive(Debug)]
pub struct Records {
    entries: Entries,
    decoder: format::Decoder,
    /// The records of the last entry that were not taken yet.
    ready: std::vec::IntoIter<Record>,
    failed: bool,
}

impl Records {
    /// The records of `entries`.
    pub fn new(entries: Entries) -> Self {
        let (decoder, ready) = Default::default();
        Self { entries, decoder, ready, failed: false }
    }

    fn decode_next(&mut self) -> Result<bool, StoreError> {
        let offset = self.entries.place().offset;
        let path = self.entries.path().to_owned();
        let Some((layout, payload)) = self.entries.next()? else { return Ok(false) };
        let decoded = self.decoder.decode(layout, payload);
        self.ready =
            decoded.map_err(|source| StoreError::Unreadable { path, offset, source })?.into_iter();
        Ok(true)
    }
}

impl Iterator for Records {
    type Item = Result<Record, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            if let Some(record) = self.ready.next() {
                return Some(Ok(record));
            }
            match self.decode_next() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
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

/// The database in `path` and its format, if there is one.
fn existing_database(path: &Path) -> Result<Option<(::sled::Db, Option<u32>)>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let database = |source| StoreError::Database { path: path.to_owned(), source };
    let db = open_database(path).map_err(database)?;
    let format = format_of(&db, path)?;
    Ok(Some((db, format)))
}

/// Opens the database beside the journal, which earlier versions refuse. It holds nothing that
/// cannot be made from the journal, so one that cannot be read is replaced.
fn beside_journal(directory: &Path) -> Result<StageStore, StoreError> {
    let [path, new, old] = [DATABASE, NEW_DATABASE, OLD_DATABASE].map(|name| directory.join(name));
    // What a crash left: one that was not in use yet, and an old log that was moved.
    for leftover in [&new, &old] {
        remove(leftover)?;
    }
    let database = |source| StoreError::Database { path: path.clone(), source };
    // sled panics at some damage.
    let found = catch_unwind(AssertUnwindSafe(|| match existing_database(&path)? {
        Some((db, Some(BESIDE_JOURNAL))) => StageStore::in_database(db).map(Some).map_err(database),
        Some((_, Some(_) | None)) | None => Ok(None),
    }));
    match found {
        Ok(Ok(Some(stages))) => return Ok(stages),
        Ok(Err(StoreError::Format { path, found, expected }))
            if found.parse::<u32>().is_ok_and(|format| format > BESIDE_JOURNAL) =>
        {
            return Err(StoreError::Format { path, found, expected });
        }
        Ok(Ok(None) | Err(_)) | Err(_) => {}
    }
    write_format(&new)?;
    let replace = || {
        match fs::rename(&path, &old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&new, &path)?;
        sync_directory(directory)
    };
    replace().map_err(|source| StoreError::Io { path: path.clone(), source })?;
    remove(&old)?;
    StageStore::in_database(open_database(&path).map_err(database)?).map_err(database)
}

fn remove(path: &PathBuf) -> Result<(), StoreError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Io { path: path.clone(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::appends_of_layout_1;
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
        store.compact_if_useful().unwrap();
        assert_eq!(log_bytes(dir.path()), before);
        assert_eq!(read(&mut store).len(), 1002);
        store.compact_if_useful().unwrap();
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
        journal.append(format::LAYOUT + 1, 1, &[1]).unwrap();
        let error = store.replay().unwrap().last().unwrap().unwrap_err().to_string();
        assert!(error.contains(&format!("byte {begin} ")) && error.contains("version"), "{error}");
    }
}
