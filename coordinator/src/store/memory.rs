//! A store in memory, which is lost with its process: for `search` without a data directory, and
//! for tests.

use super::{Replay, Store, StoreError};
use crate::core::Record;

/// Records in memory. Clones are independent.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    records: Vec<Record>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.records.extend_from_slice(records);
        Ok(())
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn replay(&mut self) -> Result<Replay<'_>, StoreError> {
        Ok(Box::new(self.records.iter().cloned().map(Ok)))
    }
}
