//! The records of a journal, decoded one append after the other.

use super::journal::Entries;
use super::{StoreError, format};
use crate::core::Record;

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
