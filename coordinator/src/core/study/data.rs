//! What is known about a study's data: whether a worker could read them, and which ones they are.
//!
//! The first worker that reads the data says their hash, and the study keeps it. Every later lease
//! of a task that reads them carries this hash. A worker whose data have another one refuses the
//! task, which counts against the worker. The core itself never sees the data.

use edgesmith_common::{ArtifactHash, DataReport, TaskId};

use super::task::Tasks;
use crate::core::record::Contradiction;

/// A study's data.
#[derive(Debug, Default)]
pub struct Data {
    check: Check,
    /// Hash of the data that the study began with, once a worker has said it.
    hash: Option<ArtifactHash>,
}

/// Whether the data have been checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Check {
    /// No check is needed: the data are built into the program, or the study was created before
    /// such checks existed.
    #[default]
    Trusted,
    /// The task that checks the data is not done. Until then no other task that reads the data may
    /// start; measuring a model may.
    Pending(TaskId),
    /// The data can be read.
    Checked(DataReport),
    /// A worker found them damaged. No task that reads them may start until the user has mended
    /// them.
    Damaged {
        /// What is wrong with them.
        reason: String,
    },
}

impl Data {
    pub fn check(&self) -> &Check {
        &self.check
    }

    /// Hash of the data that the study began with.
    pub fn hash(&self) -> Option<ArtifactHash> {
        self.hash
    }

    /// Whether the tasks that read the data have to wait: for the check, or until damaged data are
    /// mended.
    pub fn are_pending(&self) -> bool {
        match self.check {
            Check::Pending(_) | Check::Damaged { .. } => true,
            Check::Trusted | Check::Checked(_) => false,
        }
    }

    pub fn are_damaged(&self) -> bool {
        matches!(self.check, Check::Damaged { .. })
    }

    /// Whether the data are damaged, or their check was given up.
    pub(super) fn are_needed_again(&self, tasks: &Tasks) -> bool {
        match self.check {
            Check::Damaged { .. } => true,
            Check::Pending(task) => tasks.get(task).is_none(),
            Check::Trusted | Check::Checked(_) => false,
        }
    }

    /// Whether the data are in use, and nothing was asked about their hash.
    pub(super) fn lack_hash(&self) -> bool {
        match self.check {
            Check::Trusted | Check::Checked(_) => self.hash.is_none(),
            Check::Pending(_) | Check::Damaged { .. } => false,
        }
    }

    /// This task checks them.
    pub(super) fn want_check(&mut self, task: TaskId) {
        self.check = Check::Pending(task);
    }

    /// A worker could read them. Returns the task that is done.
    pub(super) fn checked(&mut self, report: &DataReport) -> Result<TaskId, Contradiction> {
        let Check::Pending(task) = self.check else {
            return Err("no data check is pending".to_owned());
        };
        self.check = Check::Checked(*report);
        self.hash = report.hash.or(self.hash);
        Ok(task)
    }

    /// A worker found them damaged. Returns the task of their check, which is not needed any more.
    pub(super) fn damaged(&mut self, reason: &str) -> Option<TaskId> {
        let check = Check::Damaged { reason: reason.to_owned() };
        match std::mem::replace(&mut self.check, check) {
            Check::Pending(task) => Some(task),
            Check::Trusted | Check::Checked(_) | Check::Damaged { .. } => None,
        }
    }

    /// They are used without a check.
    pub(super) fn trusted(&mut self) {
        self.check = Check::Trusted;
    }
}
