//! How much memory the calls of each connection hold, who watches, and what is given up when it is
//! too much. This only keeps the books: the bodies of requests and answers, in `bodies.rs`, ask it
//! before they keep bytes.
//!
//! A call counts from its beginning until its answer is written to the connection. If all calls
//! together hold too much, the connection that has kept the coordinator waiting for the longest
//! time is closed. So a client that sends or reads nothing never takes the place of one that does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codegen::Bytes;

use super::listener::Occasional;

/// What every open call counts at least, bytes: what the HTTP/2 library keeps of it.
const CALL: usize = 1024;
/// Largest part of an answer that is handed to a connection at once, bytes.
pub const PIECE: usize = 1 << 15;
/// How often answers that nobody reads are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Bounds on what calls may hold.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most bytes of requests and answers of one connection.
    pub connection: usize,
    /// Most bytes of all connections together.
    pub total: usize,
    /// Most open calls of one connection that follow something.
    pub connection_watches: usize,
    /// Most of them of all connections together.
    pub watches: usize,
    /// How long an answer of which nothing is read is kept.
    pub unread: Duration,
    /// How long a client may keep the coordinator waiting when memory is short.
    pub short: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connection: 64 << 20,
            total: 256 << 20,
            connection_watches: 32,
            watches: 512,
            unread: Duration::from_secs(60),
            short: Duration::from_secs(1),
        }
    }
}

/// What all calls hold; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bounds: Bounds,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    bytes: usize,
    watches: usize,
    next: u64,
    lines: HashMap<u64, Line>,
    calls: HashMap<u64, Entry>,
    refusing: Occasional,
    closing: Occasional,
}

/// A connection.
#[derive(Debug, Default)]
struct Line {
    address: Option<IpAddr>,
    bytes: usize,
    watches: usize,
    cut: CancellationToken,
}

/// An open call.
#[derive(Debug)]
struct Entry {
    line: u64,
    bytes: usize,
    watches: bool,
    /// Whether a part of the request is missing.
    receiving: bool,
    /// Bytes of the answer that are not written to the connection.
    unsent: usize,
    /// The part of the answer that was not handed to the connection.
    rest: Bytes,
    /// Whether the rest of the answer was given up.
    given_up: bool,
    /// When the client last sent or read a part.
    moved: Instant,
}

/// A connection in the books, until it is dropped.
#[derive(Debug)]
pub struct Registered {
    held: Held,
    /// Its number, which its calls name.
    pub number: u64,
    /// Cancelled when it has to be closed.
    pub cut: CancellationToken,
}

/// A call in the books, until it is dropped.
#[derive(Debug)]
pub struct Call {
    held: Held,
    number: u64,
}

/// What comes next of an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// This part of it.
    Piece(Bytes),
    /// Nothing is left of what was given so far.
    Nothing,
    /// The rest was given up, because nobody read it for this long.
    GivenUp(Duration),
}

impl Held {
    /// Empty books with these bounds.
    #[cfg(test)]
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Shared { bounds, books: Mutex::default() }))
    }

    /// Adds a connection.
    pub fn connect(&self, address: Option<IpAddr>) -> Registered {
        let mut books = self.books();
        books.next += 1;
        let (number, cut) = (books.next, CancellationToken::new());
        let line = Line { address, cut: cut.clone(), ..Line::default() };
        books.lines.insert(number, line);
        Registered { held: self.clone(), number, cut }
    }

    /// Adds a call of a connection. `watches` says whether it follows something.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there are too many.
    pub fn begin(&self, line: u64, watches: bool, now: Instant) -> Result<Arc<Call>, Status> {
        let bounds = &self.0.bounds;
        let mut books = self.books();
        if watches {
            let own = books.lines.get(&line).map_or(0, |line| line.watches);
            if own >= bounds.connection_watches {
                return Err(books.refuse(format!(
                    "{own} calls of this connection follow a study or the health already, the most \
                     that may; end one of them first"
                )));
            }
            if books.watches >= bounds.watches {
                let all = books.watches;
                return Err(books.refuse(format!(
                    "{all} calls follow a study or the health already, the most that this \
                     coordinator takes; ask for the status from time to time instead"
                )));
            }
        }
        books.make_room(line, CALL, bounds, now)?;
        books.next += 1;
        let number = books.next;
        let entry = Entry {
            line,
            bytes: 0,
            watches,
            receiving: true,
            unsent: 0,
            rest: Bytes::new(),
            given_up: false,
            moved: now,
        };
        books.calls.insert(number, entry);
        books.count(number, CALL);
        if watches {
            books.watches += 1;
            books.lines.entry(line).or_default().watches += 1;
        }
        Ok(Arc::new(Call { held: self.clone(), number }))
    }

    /// Gives up the rest of every answer of which nothing was read for too long.
    pub fn give_up_unread(&self, now: Instant) {
        let unread = self.0.bounds.unread;
        let mut books = self.books();
        let late = |entry: &Entry| {
            let waited = now.saturating_duration_since(entry.moved);
            entry.unsent > 0 && !entry.given_up && waited >= unread
        };
        let late: Vec<u64> = books
            .calls
            .iter()
            .filter(|(_, entry)| late(entry))
            .map(|(number, _)| *number)
            .collect();
        if let Some(first) = late.first().and_then(|number| books.calls.get(number)) {
            tracing::warn!(
                "gave up {} answer(s) of which nothing was read for {} s, to {}",
                late.len(),
                unread.as_secs(),
                books.who(first.line)
            );
        }
        for number in late {
            let Some(entry) = books.calls.get_mut(&number) else { continue };
            entry.given_up = true;
            let rest = std::mem::take(&mut entry.rest).len();
            entry.unsent -= rest;
            books.discount(number, rest);
            books.end_watch(number);
        }
    }

    /// Gives up unread answers from time to time, until `stop`.
    pub async fn look_after(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => self.give_up_unread(Instant::now()),
            }
        }
    }

    /// The bytes that are held, and the number of calls that follow something.
    #[cfg(test)]
    pub fn sums(&self) -> (usize, usize) {
        let books = self.books();
        (books.bytes, books.watches)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Poisoned ones are safe to use: at worst, a few bytes too many count.
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// Counts `bytes` more of the request.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there is no room for them.
    pub fn received(&self, bytes: usize, now: Instant) -> Result<(), Status> {
        let mut books = self.held.books();
        let Some(entry) = books.calls.get_mut(&self.number) else { return Ok(()) };
        entry.moved = now;
        let line = entry.line;
        books.make_room(line, bytes, &self.held.0.bounds, now)?;
        books.count(self.number, bytes);
        Ok(())
    }

    /// Forgets the request, of which `bytes` were counted: it was read, or it is not wanted.
    pub fn read(&self, bytes: usize) {
        let mut books = self.held.books();
        if let Some(entry) = books.calls.get_mut(&self.number) {
            entry.receiving = false;
        }
        books.discount(self.number, bytes);
    }

    /// Takes a part of the answer. The one before must have been fetched with [`Self::next`].
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there is no room for it.
    pub fn answer(&self, part: Bytes, now: Instant) -> Result<(), Status> {
        let mut books = self.held.books();
        let bytes = part.len();
        let Some(entry) = books.calls.get_mut(&self.number) else { return Ok(()) };
        let line = entry.line;
        books.make_room(line, bytes, &self.held.0.bounds, now)?;
        if let Some(entry) = books.calls.get_mut(&self.number) {
            if entry.unsent == 0 {
                entry.moved = now;
            }
            entry.unsent += bytes;
            entry.rest = part;
        }
        books.count(self.number, bytes);
        Ok(())
    }

    /// The next part of the answer to hand to the connection. It counts until it is dropped.
    pub fn next(self: &Arc<Self>) -> Next {
        let mut books = self.held.books();
        // The connection is gone.
        let Some(entry) = books.calls.get_mut(&self.number) else { return Next::Nothing };
        if entry.given_up {
            return Next::GivenUp(self.held.0.bounds.unread);
        }
        if entry.rest.is_empty() {
            return Next::Nothing;
        }
        let piece = entry.rest.split_to(entry.rest.len().min(PIECE));
        // A copy, because a slice would keep the whole answer in memory.
        let bytes = piece.to_vec();
        drop(books);
        Next::Piece(Bytes::from_owner(Piece { bytes, call: Arc::clone(self) }))
    }
}

/// A part of an answer that the connection has not written yet.
struct Piece {
    bytes: Vec<u8>,
    call: Arc<Call>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut books = self.call.held.books();
        if let Some(entry) = books.calls.get_mut(&self.call.number) {
            entry.unsent -= self.bytes.len();
            entry.moved = Instant::now();
        }
        books.discount(self.call.number, self.bytes.len());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut books = self.held.books();
        books.end_watch(self.number);
        let bytes = books.calls.get(&self.number).map_or(0, |entry| entry.bytes);
        books.discount(self.number, bytes);
        books.calls.remove(&self.number);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.held.books().forget(self.number);
    }
}

impl Books {
    /// Makes room for `bytes` of a connection, if need be by closing another one.
    fn make_room(
        &mut self,
        line: u64,
        bytes: usize,
        bounds: &Bounds,
        now: Instant,
    ) -> Result<(), Status> {
        let own = self.lines.get(&line).map_or(0, |line| line.bytes);
        if own + bytes > bounds.connection {
            return Err(self.refuse(format!(
                "the calls of this connection hold {} KiB, and at most {} KiB are allowed; read \
                 their answers or end them first",
                own.div_ceil(1024),
                bounds.connection >> 10
            )));
        }
        while self.bytes + bytes > bounds.total {
            let waited = |entry: &Entry| now.saturating_duration_since(entry.moved);
            let keeps_waiting = |entry: &&Entry| {
                (entry.receiving || entry.unsent > 0)
                    && entry.line != line
                    && waited(entry) >= bounds.short
            };
            let slowest = self.calls.values().filter(keeps_waiting).min_by_key(|entry| entry.moved);
            let Some(slowest) = slowest.map(|entry| entry.line) else {
                return Err(self.refuse(format!(
                    "all calls together hold {} MiB, the most that this coordinator gives them; \
                     try again later",
                    bounds.total >> 20
                )));
            };
            self.close(slowest);
        }
        Ok(())
    }

    fn refuse(&mut self, text: String) -> Status {
        self.refusing.warn(|| format!("refused a call: {text}"));
        Status::resource_exhausted(text)
    }

    fn close(&mut self, number: u64) {
        let who = self.who(number);
        self.closing.warn(|| {
            format!(
                "closed a connection of {who}, which kept the coordinator waiting while the memory \
                 for calls was used up"
            )
        });
        if let Some(line) = self.lines.get(&number) {
            line.cut.cancel();
        }
        self.forget(number);
    }

    /// Whose connection it is, for the log.
    fn who(&self, number: u64) -> String {
        let address = self.lines.get(&number).and_then(|line| line.address);
        address.map_or_else(|| "a client".to_owned(), |address| address.to_string())
    }

    /// Removes a connection with all its calls.
    fn forget(&mut self, number: u64) {
        if let Some(line) = self.lines.remove(&number) {
            self.bytes -= line.bytes;
            self.watches -= line.watches;
        }
        self.calls.retain(|_, entry| entry.line != number);
    }

    fn count(&mut self, call: u64, bytes: usize) {
        let Some(entry) = self.calls.get_mut(&call) else { return };
        entry.bytes += bytes;
        self.lines.entry(entry.line).or_default().bytes += bytes;
        self.bytes += bytes;
    }

    fn discount(&mut self, call: u64, bytes: usize) {
        let Some(entry) = self.calls.get_mut(&call) else { return };
        entry.bytes -= bytes;
        if let Some(line) = self.lines.get_mut(&entry.line) {
            line.bytes -= bytes;
        }
        self.bytes -= bytes;
    }

    fn end_watch(&mut self, call: u64) {
        let Some(entry) = self.calls.get_mut(&call) else { return };
        if std::mem::take(&mut entry.watches) {
            self.watches -= 1;
            if let Some(line) = self.lines.get_mut(&entry.line) {
                line.watches -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn held() -> Held {
        let short = Duration::from_secs(1);
        Held::new(Bounds { connection: 50 * KIB, total: 100 * KIB, short, ..Bounds::default() })
    }

    /// A connection with a call whose answer is this large.
    fn answering(held: &Held, size: usize, now: Instant) -> (Registered, Arc<Call>) {
        let line = held.connect(None);
        let call = held.begin(line.number, false, now).unwrap();
        call.read(0);
        call.answer(vec![7; size].into(), now).unwrap();
        (line, call)
    }

    #[test]
    fn what_is_not_written_counts_even_if_the_call_is_over() {
        let (held, now) = (held(), Instant::now());
        let (_line, call) = answering(&held, 40 * KIB, now);
        assert_eq!(held.sums().0, 41 * KIB);
        let refused = call.received(10 * KIB, now).unwrap_err();
        assert!(refused.message().contains("hold 41 KiB"), "{refused}");
        let Next::Piece(first) = call.next() else { panic!("no piece") };
        let Next::Piece(second) = call.next() else { panic!("no second piece") };
        assert_eq!((first.len(), second.len()), (PIECE, 8 * KIB));
        assert_eq!(call.next(), Next::Nothing);
        drop(call);
        assert_eq!(held.sums().0, 41 * KIB);
        drop(first);
        assert_eq!(held.sums().0, 9 * KIB);
        drop(second);
        assert_eq!(held.sums().0, 0);
    }

    #[test]
    fn when_memory_is_short_the_connection_that_waits_for_the_longest_time_is_closed() {
        let (held, start) = (held(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        // One whose request is being worked on keeps nobody waiting.
        let working = held.connect(None);
        let call = held.begin(working.number, false, start).unwrap();
        call.received(30 * KIB, start).unwrap();
        call.read(0);
        let (first, _first) = answering(&held, 30 * KIB, after(100));
        let (second, _second) = answering(&held, 30 * KIB, after(200));
        let third = held.connect(None);
        let call = held.begin(third.number, false, after(300)).unwrap();
        let refused = call.answer(vec![7; 20 * KIB].into(), after(1000)).unwrap_err();
        assert!(refused.message().contains("try again later"), "{refused}");
        call.answer(vec![7; 20 * KIB].into(), after(1150)).unwrap();
        let cut = [&working, &first, &second, &third].map(|line| line.cut.is_cancelled());
        assert_eq!(cut, [false, true, false, false]);
        drop((working, first, second, third));
        assert_eq!(held.sums(), (0, 0));
    }
}
