//! Whether the data directory has room, as the whole service knows it. Below a mark of free space
//! the coordinator hands out no tasks and takes no artifacts, and when nothing can be written at
//! all, it answers nothing that would have to be stored. It goes on by itself.
//!
//! Two sources say it: [`Space::watch`] looks at the file system, and the core's thread says when a
//! write had no room and when it succeeded. So do those that write artifacts, for which a quota may
//! leave no room although the file system has some. Each state is logged once when it begins and
//! once when it ends.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edgesmith_common::quoted;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::refusals::Refusals;
use crate::store::{Room, room};

/// How often the file system is asked.
const PERIOD: Duration = Duration::from_secs(1);
/// The mark where the user chose none: this, or a share of a small file system.
const USUAL_MARK: u64 = 256 << 20;
const USUAL_SHARE: u64 = 20;
/// It goes on when this part of the mark is free above it, so that it does not stop and go on at
/// every file that comes and goes.
const ABOVE: u64 = 8;

/// The room of one data directory. Clones share it.
#[derive(Debug, Clone)]
pub struct Space(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Free bytes below which it waits; `None` for the usual ones.
    mark: Option<u64>,
    state: watch::Sender<State>,
    refusals: Mutex<Refusals>,
}

/// What is known of the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    /// Set while there is too little.
    low: Option<Low>,
    /// How often a write was tried that has no room; 0 if the last one had some.
    tries: u64,
}

impl State {
    fn is_full(self) -> bool {
        self.tries > 0
    }

    fn is_short(self) -> bool {
        self.low.is_some() || self.is_full()
    }
}

/// Too little room, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Low {
    free: u64,
    /// It goes on when as much is free.
    wanted: u64,
}

impl Space {
    /// The room of the directory `path`, with the mark `mark`, bytes; `None` for the usual one:
    /// 256 MiB, or a twentieth of a smaller file system.
    pub fn new(path: &Path, mark: Option<u64>) -> Self {
        let state = watch::Sender::new(State::default());
        let refusals = Mutex::default();
        Self(Arc::new(Shared { path: path.to_owned(), mark, state, refusals }))
    }

    /// Looks at the file system now. If it cannot be asked, nothing changes: then it fails
    /// elsewhere, with more to say.
    pub fn look(&self) {
        match room(&self.0.path) {
            Ok(found) => self.see(found),
            Err(error) => {
                tracing::debug!("cannot see the room of {}: {error}", self.0.path.display());
            }
        }
    }

    /// Looks every second until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            let space = self.clone();
            // A file system that hangs must not hold up others.
            let _ = tokio::task::spawn_blocking(move || space.look()).await;
        }
    }

    /// Takes in what the file system says.
    pub(super) fn see(&self, Room { free, total }: Room) {
        let mark = self.0.mark.unwrap_or_else(|| USUAL_MARK.min(total / USUAL_SHARE));
        let wanted = mark.saturating_add(mark / ABOVE);
        let was = self.change(|state| {
            let limit = if state.low.is_some() { wanted } else { mark };
            state.low = (free < limit).then_some(Low { free, wanted });
        });
        match (was.low, self.state().low) {
            (None, Some(_)) => {
                let why = self.shortage().unwrap_or_default();
                tracing::warn!("no tasks are handed out and no artifacts are taken: {why}");
            }
            (Some(_), None) => {
                self.refusals().room_was_made();
                let (path, free) = (self.0.path.display(), size(free));
                tracing::warn!("tasks are handed out again: {free} are free in {path}");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    /// Notes that a write had no room. It is tried again until it succeeds.
    pub fn no_room(&self, error: &dyn std::error::Error) {
        if !self.change(|state| state.tries += 1).is_full() {
            tracing::error!(
                "the disk is full, so nothing is acknowledged until there is room: {error}"
            );
        }
    }

    /// Notes that a write succeeded.
    pub fn wrote(&self) {
        if self.state().is_full() {
            let tries = self.change(|state| state.tries = 0).tries;
            tracing::warn!("there is room again after {tries} tries, and what waited is stored");
        }
    }

    /// Notes that an artifact found no room. A few others are tried from time to time.
    pub fn artifact_without_room(&self, error: &dyn std::error::Error) {
        if self.refusals().failed(Instant::now()) {
            tracing::error!(
                "an artifact found no room, so only one is tried from time to time: {error}"
            );
        }
    }

    /// Notes that an artifact was stored.
    pub fn artifact_stored(&self) {
        let failed = self.refusals().stored();
        if let Some(failed) = failed {
            tracing::warn!("artifacts are stored again, after {failed} found no room");
        }
    }

    /// Checks that an artifact may come, which has not begun.
    ///
    /// # Errors
    /// `UNAVAILABLE` if there is too little room, or others have just found none.
    pub fn admit_artifact(&self) -> Result<(), Status> {
        self.check()?;
        self.refusals().admit(Instant::now()).map_err(|wait| {
            let (path, seconds) = (self.0.path.display(), wait.as_secs() + 1);
            waits(&format!(
                "artifacts found none in {path}, although the disk has some, perhaps because of a \
                 quota; the next one is tried in {seconds} s"
            ))
        })
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no tasks are to be handed out.
    pub fn is_short(&self) -> bool {
        self.state().is_short()
    }

    /// What is missing, and where, in a sentence; `None` if there is room.
    pub fn shortage(&self) -> Option<String> {
        let path = self.0.path.display();
        match self.state() {
            State { tries: 1.., .. } => Some(format!(
                "the disk of {path} is full; it goes on when there is room (if these files fill \
                 it: stop the coordinator, run `edgesmith gc --data-dir {}`, and start it again)",
                quoted(&self.0.path)
            )),
            State { low: Some(Low { free, wanted }), tries: 0 } => Some(format!(
                "only {} are free in {path}; it goes on when there are {}",
                size(free),
                size(wanted)
            )),
            State { low: None, tries: 0 } => None,
        }
    }

    /// Checks that what a call brings can be kept.
    ///
    /// # Errors
    /// `UNAVAILABLE` if there is too little room, so that clients wait and try again.
    pub fn check(&self) -> Result<(), Status> {
        self.shortage().map_or(Ok(()), |why| Err(waits(&why)))
    }

    /// Checks that something can be recorded at all.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the last write had no room.
    pub fn check_full(&self) -> Result<(), Status> {
        if self.state().is_full() { self.check() } else { Ok(()) }
    }

    /// Completes once there is room. Dropping the future earlier loses nothing.
    pub async fn enough(&self) {
        self.differs(true).await;
    }

    /// Completes once [`Space::is_short`] is not `short`.
    pub async fn differs(&self, short: bool) {
        let mut states = self.0.state.subscribe();
        // The sender lives as long as this.
        let _ = states.wait_for(|state| state.is_short() != short).await;
    }

    fn state(&self) -> State {
        *self.0.state.borrow()
    }

    /// Changes the state, and returns the one before.
    fn change(&self, change: impl FnOnce(&mut State)) -> State {
        let mut before = State::default();
        self.0.state.send_modify(|state| {
            before = *state;
            change(state);
        });
        before
    }
}

/// The error for what has to wait for room.
fn waits(why: &str) -> Status {
    Status::unavailable(format!("the coordinator waits for room: {why}"))
}

/// A size for people, such as `12 MiB`.
fn size(bytes: u64) -> String {
    for (bits, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let whole = bytes >> bits;
        if whole >= 10 {
            return format!("{whole} {unit}");
        }
        if whole > 0 {
            return format!("{:.1} {unit}", bytes as f64 / f64::from(1_u32 << bits));
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn space(mark: Option<u64>) -> Space {
        Space::new(Path::new("data"), mark)
    }

    #[tokio::test]
    async fn it_waits_below_the_mark_and_goes_on_somewhat_above_it() {
        let space = space(Some(80 * MIB));
        let see = |free| space.see(Room { free: free * MIB, total: 1000 * MIB });
        for (free, short) in [(80, false), (79, true), (80, true), (89, true), (90, false)] {
            see(free);
            assert_eq!(space.is_short(), short, "{free}");
            assert_eq!(space.shortage().is_some(), short, "{free}");
        }
        see(12);
        let text = "only 12 MiB are free in data; it goes on when there are 90 MiB";
        assert_eq!(space.shortage().as_deref(), Some(text));
        assert_eq!(space.check().unwrap_err().code(), tonic::Code::Unavailable);
        space.check_full().unwrap();
        let (waiting, other) = (space.clone(), space.clone());
        let waits = tokio::spawn(async move { waiting.enough().await });
        other.see(Room { free: 90 * MIB, total: 1000 * MIB });
        waits.await.unwrap();
        space.check().unwrap();
    }

    #[test]
    fn the_usual_mark_is_a_share_of_a_small_file_system() {
        let (small, large) = (space(None), space(None));
        for (free, short) in [(50, false), (49, true)] {
            small.see(Room { free: free * MIB, total: 1000 * MIB });
            assert_eq!(small.is_short(), short, "{free}");
        }
        for (free, short) in [(256, false), (255, true)] {
            large.see(Room { free: free * MIB, total: 1_000_000 * MIB });
            assert_eq!(large.is_short(), short, "{free}");
        }
    }

    #[test]
    fn a_write_without_room_counts_until_one_succeeds() {
        let space = space(Some(0));
        space.no_room(&std::io::Error::other("nothing is left"));
        assert!(space.is_short() && space.shortage().unwrap().contains("is full"));
        let refused = space.check_full().unwrap_err();
        assert!(refused.message().contains("waits for room"), "{}", refused.message());
        // The mark alone does not end it.
        space.see(Room { free: 7, total: 7 });
        assert!(space.is_short());
        space.wrote();
        assert!(!space.is_short());
    }

    #[test]
    fn sizes_are_short() {
        let said = [0, 1023, 1024, 1536 * 1024, 12 * MIB, 3 << 30, 300 << 30].map(size);
        let texts = ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 MiB", "12 MiB", "3.0 GiB", "300 GiB"];
        assert_eq!(said, texts);
    }

    #[test]
    fn a_directory_that_is_gone_changes_nothing() {
        let space = space(Some(u64::MAX / 2));
        space.look();
        assert!(!space.is_short());
        let here = tempfile::tempdir().unwrap();
        let space = Space::new(here.path(), Some(u64::MAX / 2));
        space.look();
        assert!(space.is_short());
    }
}
