//! The records of a data directory that this process does not serve: reading them, copying them,
//! and cutting them at damage.

use std::path::{Path, PathBuf};

use super::disk::WRITTEN_TOGETHER;
use super::journal::{self, Access, Journal, MarkProblem, NewLog, Presence};
use super::old::{NEWEST, OldLog};
use super::records::{Records, begins_with, each};
use super::sled::{DATABASE, beside_journal, existing_database};
use super::{DataDir, Replay, StoreError, format};
use crate::core::UsedIds;

/// How often to open a journal whose file is being replaced.
const REPLACED_TRIES: u32 = 20;

/// Whether the data directory `path` has a journal. If not, an earlier version wrote it last, or
/// nothing did.
///
/// # Errors
/// If it cannot be read.
pub fn has_journal(path: &Path) -> Result<bool, StoreError> {
    Ok(journal::presence(&path.join(journal::FOLDER))? == Presence::Present)
}

/// Whether the data directory `path` has entries of a journal without the mark of what was
/// acknowledged.
///
/// # Errors
/// If it cannot be read.
pub fn has_lost_mark(path: &Path) -> Result<bool, StoreError> {
    Ok(journal::presence(&path.join(journal::FOLDER))? == Presence::WithoutMark)
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
        return Ok(Box::new(each(Records::new(journal.entries()?))));
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
///
/// # Errors
/// If there is none, or it cannot be read or is damaged.
pub fn open_to_read(folder: &Path) -> Result<Journal, StoreError> {
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
        Ok(Box::new(each(Records::new(self.log.entries()?))))
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
        let journal = Journal::create(&self.to.join(journal::FOLDER), self.log)?;
        beside_journal(&self.to, begins_with(&journal))
    }
}

/// Copies the records of the data directory `from`, as far as they are acknowledged, to the new
/// data directory `to`.
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
    let journal = Journal::create(&folder, log)?;
    beside_journal(directory.path(), begins_with(&journal))?;
    Ok(Repaired { kept, lost, cut })
}

/// Adds records by which no id up to `id`, and none that is in the log, is used again.
fn reserve(log: &mut journal::FinishedLog, id: u64) -> Result<(), StoreError> {
    let mut ids = UsedIds::default();
    for record in each(Records::without_stages(log.entries()?)) {
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
