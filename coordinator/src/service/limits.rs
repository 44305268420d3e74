//! How much one client, or all of them together, may make the coordinator do at once, so that
//! nobody can stall it for the others. docs/limits.md lists all limits.
//!
//! Work that grows with a message's size waits for its [turn](Turns) and runs on a thread that may
//! block, never on one that serves connections and never on the core's. The memory that requests
//! and answers hold is bounded in `bodies.rs` and `held.rs`, and the connections in `listener.rs`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::transport::Server;

use super::listener::Occasional;

/// Calls that one connection may have open. A worker has a few for each slot.
const MAX_STREAMS: u32 = 512;
/// Largest HTTP/2 frame, and largest list of headers of a request, bytes.
const MAX_FRAME: u32 = 1 << 17;
const MAX_HEADERS: u32 = 1 << 14;
/// Most bytes of requests that a connection takes before a call reads them. They are not in the
/// books of `held.rs`: uploads that wait for their turn have sent as much.
const WINDOW: u32 = 1 << 18;
/// How often a silent connection is asked for a sign of life, and how long to wait for it.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Most bytes of the text of an error. An error is sent in the headers of an answer, where clients
/// accept 16 KiB, and each byte may take three.
const MAX_STATUS_TEXT: usize = 4096;

/// How long a call waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30);

/// Settings that bound what a connection may hold.
pub fn server(server: Server) -> Server {
    server
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(MAX_FRAME)
        .http2_max_header_list_size(MAX_HEADERS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
}

/// An error whose text fits into an answer. Text that is too long loses whole lines at its end, or
/// the end of its first line.
pub fn fitting(status: Status) -> Status {
    let text = status.message();
    if text.len() <= MAX_STATUS_TEXT {
        return status;
    }
    let mut end = MAX_STATUS_TEXT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = match text[..end].rfind('\n') {
        Some(line) => format!("{}\n…", &text[..line]),
        None => format!("{}…", &text[..end]),
    };
    Status::new(status.code(), kept)
}

/// Lets a few calls of a kind work at once. The others wait for their turn in the order in which
/// they came, and only so many may wait.
#[derive(Debug, Clone)]
pub struct Turns {
    /// The kind of work, for the answer to those that may not wait.
    what: &'static str,
    working: Arc<Semaphore>,
    /// Both those that work and those that wait.
    present: Arc<Semaphore>,
    patience: Duration,
    refusing: Occasional,
}

/// Permission to work, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _working: OwnedSemaphorePermit,
    _present: OwnedSemaphorePermit,
}

impl Turns {
    /// `at_once` calls work, and `waiting` more wait. `what` names the work, in the plural.
    pub fn new(what: &'static str, at_once: usize, waiting: usize) -> Self {
        Self {
            what,
            working: Arc::new(Semaphore::new(at_once)),
            present: Arc::new(Semaphore::new(at_once + waiting)),
            patience: PATIENCE,
            refusing: Occasional::default(),
        }
    }

    /// The same with another longest wait.
    #[cfg(test)]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if too many calls wait already, or if the turn did not come in time.
    pub async fn take(&self) -> Result<Turn, Status> {
        let full = || {
            self.refusing
                .warn(|| format!("refused a call, because too many {} are open", self.what));
            Status::resource_exhausted(format!(
                "the coordinator has too many {} at once; try again later",
                self.what
            ))
        };
        let present = Arc::clone(&self.present).try_acquire_owned().map_err(|_| full())?;
        let working =
            tokio::time::timeout(self.patience, Arc::clone(&self.working).acquire_owned());
        match working.await {
            Ok(Ok(working)) => Ok(Turn { _working: working, _present: present }),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(full()),
        }
    }

    /// Waits for a turn, and works on a thread that may block.
    ///
    /// # Errors
    /// Those of [`Turns::take`] and of the work.
    pub async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let turn = self.take().await?;
        let done = tokio::task::spawn_blocking(move || {
            // Held until the work ends, even if the caller has gone.
            let _turn = turn;
            work()
        });
        done.await
            .map_err(|error| Status::internal(format!("failed to handle the request: {error}")))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_that_find_no_turn_are_refused() {
        let turns = Turns::new("tests", 1, 1).with_patience(Duration::from_millis(1));
        let first = turns.take().await.unwrap();
        let late = turns.take().await.unwrap_err();
        assert_eq!(late.code(), tonic::Code::ResourceExhausted);
        assert!(late.message().contains("too many tests at once"), "{}", late.message());

        let patient = turns.clone().with_patience(Duration::from_secs(60));
        let waits = tokio::spawn(async move { patient.take().await });
        while turns.present.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        // No room even to wait.
        assert!(turns.clone().with_patience(Duration::from_secs(60)).take().await.is_err());
        drop(first);
        waits.await.unwrap().unwrap();
        assert_eq!(turns.work(|| Ok(7)).await.unwrap(), 7);
    }

    #[test]
    fn long_errors_are_cut_at_the_end_of_a_line() {
        let line = "a mistake\n";
        let status = fitting(Status::not_found(line.repeat(1000)));
        assert_eq!(status.code(), tonic::Code::NotFound);
        assert!(status.message().len() <= MAX_STATUS_TEXT + 4);
        assert!(status.message().ends_with("a mistake\n…"));
        let status = fitting(Status::not_found("ä".repeat(5000)));
        assert!(status.message().ends_with("ä…"));
        assert_eq!(fitting(Status::not_found("short")).message(), "short");
    }
}
