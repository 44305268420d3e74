//! How much memory the calls of each connection hold, who watches, and what is given up when it is
//! too much. This only keeps the books: the bodies of requests and answers, in `bodies.rs`, ask it
//! before they keep bytes.
//!
//! A call counts from its beginning until its answer is written to the connection. If all calls
//! together hold too much, the connection that has kept the coordinator waiting for the longest
//! time is closed. So a client that sends or reads nothing never takes the place of one that does.
//! If none keeps it waiting, the connection that holds the most is closed, unless it is the one
//! that asks. So a client that sends a byte now and then does not keep out the others either.

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
    refusing: Occasional,
    late: Occasional,
    closing: Occasional,
}

/// A connection. The sums are kept, because they are needed for every part of every call.
#[derive(Debug)]
struct Line {
    address: Option<IpAddr>,
    calls: HashMap<u64, Entry>,
    /// Bytes of all calls.
    bytes: usize,
    /// Calls that follow something.
    watches: usize,
    /// Calls that keep the coordinator waiting.
    waiting: usize,
    /// When the client last sent or read a part, or began to keep the coordinator waiting.
    moved: Instant,
    cut: CancellationToken,
}

/// An open call.
#[derive(Debug)]
struct Entry {
    bytes: usize,
    watches: bool,
    /// Whether the coordinator waits for a part of the request.
    receiving: bool,
    /// Bytes of the answer that are not written to the connection.
    unsent: usize,
    /// The part of the answer that was not handed to the connection.
    rest: Bytes,
    /// When the rest of the answer was given up.
    given_up: Option<Instant>,
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
    line: u64,
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
    pub fn connect(&self, address: Option<IpAddr>, now: Instant) -> Registered {
        let mut books = self.books();
        books.next += 1;
        let (number, cut) = (books.next, CancellationToken::new());
        books.lines.insert(number, Line { cut: cut.clone(), ..Line::new(address, now) });
        Registered { held: self.clone(), number, cut }
    }

    /// Adds a call of a connection. `watches` says whether it follows something.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there are too many, `UNAVAILABLE` if all calls hold too much.
    pub fn begin(&self, line: u64, watches: bool, now: Instant) -> Result<Arc<Call>, Status> {
        let bounds = &self.0.bounds;
        let mut books = self.books();
        if watches {
            let own = books.lines.get(&line).map_or(0, |line| line.watches);
            if own >= bounds.connection_watches {
                return Err(books.refuse(Status::resource_exhausted(format!(
                    "{own} calls of this connection follow a study or the health already, the most \
                     that may; end one of them first"
                ))));
            }
            if books.watches >= bounds.watches {
                let all = books.watches;
                return Err(books.refuse(Status::resource_exhausted(format!(
                    "{all} calls follow a study or the health already, the most that this \
                     coordinator takes; ask for the status from time to time instead"
                ))));
            }
        }
        books.make_room(line, CALL, bounds, now)?;
        books.next += 1;
        let number = books.next;
        let entry = Entry {
            bytes: 0,
            watches,
            receiving: false,
            unsent: 0,
            rest: Bytes::new(),
            given_up: None,
            moved: now,
        };
        let of = books.lines.entry(line).or_insert_with(|| Line::new(None, now));
        of.calls.insert(number, entry);
        of.moved = now;
        of.watches += usize::from(watches);
        books.watches += usize::from(watches);
        books.change(line, number, |entry| entry.bytes += CALL);
        Ok(Arc::new(Call { held: self.clone(), line, number }))
    }

    /// Gives up the rest of every answer of which nothing was read for too long. Closes the
    /// connection if it takes not even the end of such an answer: only then everything is freed
    /// that was kept for the answer.
    pub fn give_up_unread(&self, now: Instant) {
        let unread = self.0.bounds.unread;
        let mut books = self.books();
        let late = |entry: &Entry| {
            let waited = now.saturating_duration_since(entry.moved);
            entry.unsent > 0 && entry.given_up.is_none() && waited >= unread
        };
        let stuck = |entry: &Entry| {
            entry.given_up.is_some_and(|at| now.saturating_duration_since(at) >= unread)
        };
        let stuck: Vec<u64> = books
            .lines
            .iter()
            .filter(|(_, line)| line.calls.values().any(stuck))
            .map(|(number, _)| *number)
            .collect();
        for line in stuck {
            books.close(line, "did not read that an answer was given up");
        }
        let late: Vec<(u64, u64)> = books
            .lines
            .iter()
            .flat_map(|(line, of)| of.calls.iter().map(move |(call, entry)| (*line, *call, entry)))
            .filter(|(.., entry)| late(entry))
            .map(|(line, call, _)| (line, call))
            .collect();
        if let Some((first, _)) = late.first() {
            tracing::warn!(
                "gave up {} answer(s) of which nothing was read for {} s, to {}",
                late.len(),
                unread.as_secs(),
                books.who(*first)
            );
        }
        for (line, call) in late {
            books.change(line, call, |entry| {
                entry.given_up = Some(now);
                let rest = std::mem::take(&mut entry.rest).len();
                entry.unsent -= rest;
                entry.bytes -= rest;
            });
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
    /// Notes that the coordinator begins to wait for a part of the request, or does not any more. A
    /// request that nobody reads keeps nobody waiting: the client may have sent all of it.
    pub fn receives(&self, receiving: bool, now: Instant) {
        let mut books = self.held.books();
        books.moved(self.line, self.number, now);
        books.change(self.line, self.number, |entry| entry.receiving = receiving);
    }

    /// Logs now and then that the request did not arrive within `time`.
    pub fn warn_late(&self, time: Duration) {
        let books = self.held.books();
        let (who, seconds) = (books.who(self.line), time.as_secs());
        books
            .late
            .warn(|| format!("gave up a request of {who} that did not arrive within {seconds} s"));
    }

    /// Counts `bytes` more of the request.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if the connection has no room for them, `UNAVAILABLE` if all calls
    /// together hold too much.
    pub fn received(&self, bytes: usize, now: Instant) -> Result<(), Status> {
        let mut books = self.held.books();
        books.moved(self.line, self.number, now);
        books.make_room(self.line, bytes, &self.held.0.bounds, now)?;
        books.change(self.line, self.number, |entry| entry.bytes += bytes);
        Ok(())
    }

    /// Forgets the request, of which `bytes` were counted: it was read, or it is not wanted.
    pub fn read(&self, bytes: usize) {
        self.held.books().change(self.line, self.number, |entry| {
            entry.receiving = false;
            entry.bytes -= bytes;
        });
    }

    /// Takes a part of the answer. The one before must have been fetched with [`Self::next`].
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if the connection has no room for it, `UNAVAILABLE` if all calls
    /// together hold too much.
    pub fn answer(&self, part: Bytes, now: Instant) -> Result<(), Status> {
        let mut books = self.held.books();
        let bytes = part.len();
        books.make_room(self.line, bytes, &self.held.0.bounds, now)?;
        let unsent = books.entry(self.line, self.number).map_or(0, |entry| entry.unsent);
        if unsent == 0 {
            books.moved(self.line, self.number, now);
        }
        books.change(self.line, self.number, |entry| {
            entry.unsent += bytes;
            entry.rest = part;
            entry.bytes += bytes;
        });
        Ok(())
    }

    /// The next part of the answer to hand to the connection. It counts until it is dropped.
    pub fn next(self: &Arc<Self>) -> Next {
        let mut books = self.held.books();
        // The connection is gone.
        let Some(entry) = books.entry(self.line, self.number) else { return Next::Nothing };
        if entry.given_up.is_some() {
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
        let Call { held, line, number } = &*self.call;
        let mut books = held.books();
        books.moved(*line, *number, Instant::now());
        books.change(*line, *number, |entry| {
            entry.unsent -= self.bytes.len();
            entry.bytes -= self.bytes.len();
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut books = self.held.books();
        let books = &mut *books;
        books.change(self.line, self.number, |entry| {
            (entry.bytes, entry.unsent, entry.receiving) = (0, 0, false);
        });
        let Some(line) = books.lines.get_mut(&self.line) else { return };
        if line.calls.remove(&self.number).is_some_and(|entry| entry.watches) {
            line.watches -= 1;
            books.watches -= 1;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.held.books().forget(self.number);
    }
}

impl Books {
    /// Makes room for `bytes` of a connection, if need be by closing another one. A client can mend
    /// what its own calls hold. What all calls hold passes, so clients wait as they do for a
    /// coordinator that restarts.
    fn make_room(
        &mut self,
        line: u64,
        bytes: usize,
        bounds: &Bounds,
        now: Instant,
    ) -> Result<(), Status> {
        let own = self.lines.get(&line).map_or(0, |line| line.bytes);
        if own + bytes > bounds.connection {
            return Err(self.refuse(Status::resource_exhausted(format!(
                "the calls of this connection hold {} KiB, and at most {} KiB are allowed; read \
                 their answers or end them first",
                own.div_ceil(1024),
                bounds.connection >> 10
            ))));
        }
        while self.bytes + bytes > bounds.total {
            let others = self.lines.iter().filter(|(number, _)| **number != line);
            let slow = |line: &Line| {
                line.waiting > 0 && now.saturating_duration_since(line.moved) >= bounds.short
            };
            let slowest =
                others.clone().filter(|(_, line)| slow(line)).min_by_key(|(_, l)| l.moved);
            let larger = others.filter(|(_, line)| line.bytes > own + bytes);
            if let Some((&slowest, _)) = slowest {
                self.close(slowest, "kept the coordinator waiting when memory was short");
            } else if let Some((&largest, _)) = larger.max_by_key(|(_, line)| line.bytes) {
                self.close(largest, "held the most when memory was short");
            } else {
                return Err(self.refuse(Status::unavailable(format!(
                    "all calls together hold {} MiB, the most that this coordinator gives them; \
                     try again later",
                    bounds.total >> 20
                ))));
            }
        }
        Ok(())
    }

    /// Logs a refusal now and then, and returns it.
    fn refuse(&mut self, refused: Status) -> Status {
        self.refusing.warn(|| format!("refused a call: {}", refused.message()));
        refused
    }

    /// Closes a connection, which did what `why` says.
    fn close(&mut self, number: u64, why: &str) {
        let who = self.who(number);
        self.closing.warn(|| format!("closed a connection of {who}, which {why}"));
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
    }

    fn entry(&mut self, line: u64, call: u64) -> Option<&mut Entry> {
        self.lines.get_mut(&line)?.calls.get_mut(&call)
    }

    /// Notes that the client sent or read a part of a call.
    fn moved(&mut self, line: u64, call: u64, now: Instant) {
        let Some(line) = self.lines.get_mut(&line) else { return };
        line.moved = now;
        if let Some(entry) = line.calls.get_mut(&call) {
            entry.moved = now;
        }
    }

    /// Changes a call, and the sums with it.
    fn change(&mut self, line: u64, call: u64, change: impl FnOnce(&mut Entry)) {
        let Some(line) = self.lines.get_mut(&line) else { return };
        let Some(entry) = line.calls.get_mut(&call) else { return };
        let (bytes, waits) = (entry.bytes, entry.waits());
        change(entry);
        line.bytes = line.bytes - bytes + entry.bytes;
        line.waiting = line.waiting - usize::from(waits) + usize::from(entry.waits());
        self.bytes = self.bytes - bytes + entry.bytes;
    }
}

impl Line {
    fn new(address: Option<IpAddr>, now: Instant) -> Self {
        Self {
            address,
            calls: HashMap::new(),
            bytes: 0,
            watches: 0,
            waiting: 0,
            moved: now,
            cut: CancellationToken::new(),
        }
    }
}

impl Entry {
    /// Whether the client keeps the coordinator waiting.
    fn waits(&self) -> bool {
        self.receiving || self.unsent > 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::tests::logged;
    use super::*;

    const KIB: usize = 1024;

    fn held() -> Held {
        let short = Duration::from_secs(1);
        Held::new(Bounds { connection: 50 * KIB, total: 100 * KIB, short, ..Bounds::default() })
    }

    /// A connection with a call whose answer is this large.
    fn answering(held: &Held, size: usize, now: Instant) -> (Registered, Arc<Call>) {
        let line = held.connect(None, now);
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
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
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
        let working = held.connect(None, start);
        let call = held.begin(working.number, false, start).unwrap();
        call.received(30 * KIB, start).unwrap();
        call.read(0);
        let (first, _first) = answering(&held, 30 * KIB, after(100));
        let (second, _second) = answering(&held, 30 * KIB, after(200));
        let third = held.connect(None, start);
        let call = held.begin(third.number, false, after(300)).unwrap();
        let refused = call.answer(vec![7; 31 * KIB].into(), after(1000)).unwrap_err();
        assert!(refused.message().contains("try again later"), "{refused}");
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        call.answer(vec![7; 20 * KIB].into(), after(1150)).unwrap();
        let cut = [&working, &first, &second, &third].map(|line| line.cut.is_cancelled());
        assert_eq!(cut, [false, true, false, false]);
        drop((working, first, second, third));
        assert_eq!(held.sums(), (0, 0));
    }

    #[test]
    fn a_watch_that_was_given_up_counts_until_its_end_is_read_or_the_connection_is_closed() {
        let (held, now) = (held(), Instant::now());
        let line = held.connect(None, now);
        let call = held.begin(line.number, true, now).unwrap();
        call.read(0);
        call.answer(vec![7; 40 * KIB].into(), now).unwrap();
        let Next::Piece(_piece) = call.next() else { panic!("no piece") };
        let look = |seconds| {
            held.give_up_unread(now + Duration::from_secs(seconds));
            (held.sums(), line.cut.is_cancelled())
        };
        assert_eq!(look(59), ((41 * KIB, 1), false));
        assert_eq!(look(60), ((33 * KIB, 1), false));
        assert_eq!(call.next(), Next::GivenUp(Duration::from_secs(60)));
        assert_eq!(look(119), ((33 * KIB, 1), false));
        assert_eq!(look(120), ((0, 0), true));
    }

    #[test]
    fn requests_that_do_not_arrive_are_logged_now_and_then() {
        let (held, now) = (held(), Instant::now());
        let line = held.connect(Some([10, 0, 0, 1].into()), now);
        let call = held.begin(line.number, false, now).unwrap();
        let lines = logged(|| (0..10).for_each(|_| call.warn_late(Duration::from_secs(60))));
        assert_eq!(lines, ["WARN gave up a request of 10.0.0.1 that did not arrive within 60 s"]);
    }

    /// Clients that send a byte of every withheld request just before they would count as slow.
    #[test]
    fn clients_that_trickle_do_not_keep_others_out() {
        let (held, now) = (held(), Instant::now());
        let trickle = |size| {
            let line = held.connect(None, now);
            let call = held.begin(line.number, false, now).unwrap();
            call.received(size, now).unwrap();
            call.receives(true, now);
            (line, call)
        };
        let trickling = [20, 38, 39].map(|kib| trickle(kib * KIB));
        assert_eq!(held.sums().0, 100 * KIB);
        let polite = held.connect(None, now);
        let call = held.begin(polite.number, false, now).unwrap();
        let cut = || [0, 1, 2].map(|at: usize| trickling[at].0.cut.is_cancelled());
        assert_eq!(cut(), [false, false, true]);
        call.received(39 * KIB, now).unwrap();
        // There is room, and the largest one does not take the place of smaller ones.
        call.received(KIB, now).unwrap_err();
        assert_eq!(cut(), [false, false, true]);
    }
}
