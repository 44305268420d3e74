//! The records of a journal, decoded one append after the other.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::journal::{Entries, Journal};
use super::{StoreError, format};
use crate::core::Record;

/// Records are handed over when they are at least this many, or the journal ends.
const TOGETHER: usize = 1024;
/// How often they may be handed over before they are taken.
const AHEAD: usize = 4;

/// Decodes the entries of a journal, one after the other.
#[derive(Debug)]
pub struct Records {
    entries: Entries,
    decoder: format::Decoder,
    failed: bool,
}

/// The records of one entry.
#[derive(Debug)]
pub struct Decoded {
    /// Where the entry begins, bytes from the beginning of the file.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The layout of its payload.
    pub layout: u8,
    /// Its records.
    pub records: Vec<Record>,
}

impl Records {
    /// The records of `entries`.
    pub fn new(entries: Entries) -> Self {
        Self { entries, decoder: format::Decoder::default(), failed: false }
    }

    /// The records of `entries` without the stages of trials, which is quicker.
    pub fn without_stages(entries: Entries) -> Self {
        Self { entries, decoder: format::Decoder::without_stages(), failed: false }
    }

    /// The next entry; `None` at the end.
    fn decode_next(&mut self) -> Result<Option<Decoded>, StoreError> {
        let offset = self.entries.place().offset;
        let path = self.entries.path().to_owned();
        let Some((layout, payload)) = self.entries.next()? else { return Ok(None) };
        let records = self.decoder.decode(layout, payload);
        let records = records.map_err(|source| StoreError::Unreadable { path, offset, source })?;
        let bytes = self.entries.place().offset - offset;
        Ok(Some(Decoded { offset, bytes, layout, records }))
    }
}

impl Iterator for Records {
    type Item = Result<Decoded, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.decode_next();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// Tells of other records whether a journal begins with them.
pub fn begins_with(journal: &Journal) -> impl FnOnce(Vec<Record>) -> Result<bool, StoreError> {
    |others| {
        let mut records = each(Records::new(journal.entries()?));
        for other in others {
            match records.next().transpose()? {
                Some(record) if record == other => {}
                Some(_) | None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// The records of entries, one after the other.
pub fn each(
    entries: impl Iterator<Item = Result<Decoded, StoreError>>,
) -> impl Iterator<Item = Result<Record, StoreError>> {
    entries.flat_map(|decoded| {
        let (records, error) = match decoded {
            Ok(decoded) => (decoded.records, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        records.into_iter().map(Ok).chain(error.map(Err))
    })
}

/// Records that another thread decodes while those before them are used.
#[derive(Debug)]
pub struct RecordsAhead {
    /// `None` once it is dropped, which ends the thread.
    receiver: Option<Receiver<Result<Vec<Decoded>, StoreError>>>,
    thread: Option<JoinHandle<()>>,
    ready: std::vec::IntoIter<Decoded>,
}

impl RecordsAhead {
    /// Decodes `records` in a thread of its own.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn new(records: Records) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(AHEAD);
        let decode = move || {
            let (mut together, mut count) = (Vec::new(), 0);
            for decoded in records {
                match decoded {
                    Ok(decoded) => {
                        count += decoded.records.len();
                        together.push(decoded);
                    }
                    Err(error) => {
                        let sent = sender.send(Ok(together));
                        // If nothing takes them any more, that is no error.
                        let _ = sent.and_then(|()| sender.send(Err(error)));
                        return;
                    }
                }
                if count >= TOGETHER {
                    count = 0;
                    if sender.send(Ok(std::mem::take(&mut together))).is_err() {
                        return;
                    }
                }
            }
            let _ = sender.send(Ok(together));
        };
        let thread = std::thread::Builder::new().name("decode".to_owned()).spawn(decode)?;
        let ready = Vec::new().into_iter();
        Ok(Self { receiver: Some(receiver), thread: Some(thread), ready })
    }
}

impl Iterator for RecordsAhead {
    type Item = Result<Decoded, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(decoded) = self.ready.next() {
                return Some(Ok(decoded));
            }
            match self.receiver.as_ref()?.recv() {
                Ok(Ok(together)) => self.ready = together.into_iter(),
                Ok(Err(error)) => return Some(Err(error)),
                Err(_) => {
                    self.receiver = None;
                    if let Some(thread) = self.thread.take()
                        && let Err(panic) = thread.join()
                    {
                        std::panic::resume_unwind(panic);
                    }
                    return None;
                }
            }
        }
    }
}

impl Drop for RecordsAhead {
    fn drop(&mut self) {
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // It decodes no more than what fits the channel.
            let _ = thread.join();
        }
    }
}
