//! When a log is worth writing again, and which of its records no study needs any more. Deleting a
//! study leaves its records in the log; a log in which most are of deleted studies is written again
//! without them. What was appended little by little is written again as blocks of many records,
//! which are shorter and read more quickly. Reads and writes no files.

use std::collections::HashMap;

use edgesmith_common::StudyName;

use crate::core::{Record, UsedIds};

/// A log with fewer unneeded records is left as it is, bytes being cheaper than another file.
const LEAST: u64 = 16;

/// How many records of a log belong to studies that were deleted.
#[derive(Debug, Default)]
pub struct Usage {
    /// By study that exists: its records.
    needed: HashMap<StudyName, u64>,
    unneeded: u64,
    /// Records that belong to no study.
    others: u64,
}

impl Usage {
    /// Takes in the next record of the log.
    pub fn note(&mut self, record: &Record) {
        let Some(study) = record.study() else {
            self.others += 1;
            return;
        };
        match record {
            Record::StudyDeleted { .. } => {
                self.unneeded += self.needed.remove(study).unwrap_or(0) + 1;
            }
            Record::StudyRenamed { name, .. } => {
                let records = self.needed.remove(study).unwrap_or(0);
                self.needed.insert(name.clone(), records + 1);
            }
            _ => match self.needed.get_mut(study) {
                Some(records) => *records += 1,
                None => drop(self.needed.insert(study.clone(), 1)),
            },
        }
    }

    /// Whether most of the log is unneeded.
    pub fn is_mostly_unneeded(&self) -> bool {
        self.unneeded >= LEAST && self.unneeded > self.needed.values().sum::<u64>() + self.others
    }
}

/// How many bytes of a log are in which layouts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layouts {
    blocks: u64,
    others: u64,
}

impl Layouts {
    /// Takes in the next entry of the log.
    pub fn note(&mut self, is_block: bool, bytes: u64) {
        *(if is_block { &mut self.blocks } else { &mut self.others }) += bytes;
    }

    /// Whether most of the log, and at least so many bytes, are not in blocks. As the log has to
    /// double before that is so again, the work is in proportion to its growth.
    pub fn are_mostly_loose(&self, least: u64) -> bool {
        self.others >= least && self.others > self.blocks
    }
}

/// What is known of a log that could not be written again.
#[derive(Debug, Default)]
pub struct Failures {
    /// Bytes that the log must have before that is tried again.
    pub wait_for: u64,
    /// Why it failed last.
    cause: Option<String>,
}

impl Failures {
    /// Notes that a log of so many bytes could not be written again. The next try comes when it has
    /// doubled, so that the work stays in proportion to its growth. Whether this cause is new.
    pub fn note(&mut self, bytes: u64, cause: String) -> bool {
        self.wait_for = bytes.saturating_mul(2);
        let is_new = self.cause.as_ref() != Some(&cause);
        self.cause = Some(cause);
        is_new
    }

    /// Notes that it was written again. Whether it had failed before.
    pub fn end(&mut self) -> bool {
        std::mem::take(self).cause.is_some()
    }

    /// Whether a log of so many bytes is to be tried.
    pub fn allow(&self, bytes: u64) -> bool {
        bytes >= self.wait_for
    }
}

/// The lives of studies, from creation to deletion, in the order of their creation. A name can have
/// several lives.
#[derive(Debug, Default)]
pub struct Lives {
    /// The life that each name has now.
    by_name: HashMap<StudyName, usize>,
    deleted: Vec<bool>,
    ids: UsedIds,
}

impl Lives {
    /// Takes in the next record of the log.
    pub fn note(&mut self, record: &Record) {
        self.ids.note(record);
        if let Some(life) = step(&mut self.by_name, self.deleted.len(), record) {
            if life == self.deleted.len() {
                self.deleted.push(false);
            }
            if let Record::StudyDeleted { .. } = record {
                self.deleted[life] = true;
            }
        }
    }

    /// What tells which records of the log, from its first one on, are still needed, now that the
    /// whole log was taken in; and the records to put before them, so that the ids of the others
    /// are not used again.
    pub fn filter(self) -> (Filter, [Record; 2]) {
        let reserved = self.ids.reserved();
        (Filter { by_name: HashMap::new(), begun: 0, deleted: self.deleted }, reserved)
    }
}

/// Goes through a log and tells which of its records are needed.
#[derive(Debug)]
pub struct Filter {
    by_name: HashMap<StudyName, usize>,
    /// Lives that have begun so far.
    begun: usize,
    deleted: Vec<bool>,
}

impl Filter {
    /// Whether the next record of the log is needed.
    pub fn needs(&mut self, record: &Record) -> bool {
        // The records that are put before them say the same.
        if let Record::IdsReserved { .. } | Record::WorkerIdsReserved { .. } = record {
            return false;
        }
        let life = step(&mut self.by_name, self.begun, record);
        if let Some(life) = life {
            self.begun = self.begun.max(life + 1);
        }
        let deleted = life.and_then(|life| self.deleted.get(life));
        !deleted.copied().unwrap_or(false)
    }
}

/// The life that a record belongs to. `next` is the number of the next one that begins.
fn step(by_name: &mut HashMap<StudyName, usize>, next: usize, record: &Record) -> Option<usize> {
    let study = record.study()?;
    match record {
        Record::StudyCreated { .. } => {
            by_name.insert(study.clone(), next);
            Some(next)
        }
        Record::StudyDeleted { .. } => by_name.remove(study),
        Record::StudyRenamed { name, .. } => {
            let life = by_name.remove(study)?;
            by_name.insert(name.clone(), life);
            Some(life)
        }
        _ => by_name.get(study).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once_and_the_log_has_to_double() {
        let mut failures = Failures::default();
        assert!(failures.allow(0) && !failures.end());
        assert!(failures.note(100, "no room".to_owned()));
        assert!(!failures.allow(199) && failures.allow(200));
        assert!(!failures.note(200, "no room".to_owned()));
        assert!(!failures.allow(399) && failures.allow(400));
        assert!(failures.note(400, "too many files".to_owned()));
        assert!(failures.end() && failures.allow(1));
        assert!(failures.note(100, "too many files".to_owned()));
    }
}
