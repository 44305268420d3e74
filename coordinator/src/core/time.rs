//! The core's time: a moment on the monotonic clock of the runtime, which passes it in. Nothing
//! here reads a clock.

use std::time::Duration;

/// A moment on the runtime's monotonic clock, counted from any fixed origin of this process. It
/// means nothing in another process, so it is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub Duration);

impl Time {
    /// The moment `duration` after `self`; saturates.
    pub fn after(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(duration))
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
