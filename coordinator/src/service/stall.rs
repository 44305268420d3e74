//! A write of records that has no room: tried again until there is room. Nothing is acknowledged
//! meanwhile, so clients see a coordinator that does not answer, and not one that forgets.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::runtime::Message;
use super::space::Space;
use crate::core::Record;
use crate::store::{Store, StoreError};

/// How long to wait before a write is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// A write that succeeded after it had to wait for room.
pub(super) struct Stalled {
    /// What came meanwhile. New calls are refused, so these are few.
    pub(super) messages: Vec<Message>,
}

/// Appends `records` durably, as soon as there is room. `None` if there was room at once.
///
/// # Errors
/// If they cannot be written for another reason; and the lack of room, if the thread is told to
/// stop meanwhile. Then they are not stored.
pub(super) fn append(
    store: &mut impl Store,
    records: &[Record],
    receiver: &Receiver<Message>,
    space: &Space,
) -> Result<Option<Stalled>, StoreError> {
    let mut messages = None;
    loop {
        let error = match store.append(records) {
            Ok(()) => {
                // Calls are let in again before the first of them is answered.
                space.wrote();
                return Ok(messages.map(|messages| Stalled { messages }));
            }
            Err(error @ StoreError::Full { .. }) => error,
            Err(error) => return Err(error),
        };
        space.no_room(&error);
        let messages = messages.get_or_insert_default();
        let until = Instant::now() + PAUSE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Err(error),
                Ok(message) => messages.push(message),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/stall.rs"]
mod tests;
