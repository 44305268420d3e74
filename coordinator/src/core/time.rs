//! The core's time: whatever monotonic clock the runtime passes in. Nothing here reads one.

use std::time::Duration;

/// A moment on the runtime's monotonic clock, counted from any fixed origin of this process. It
/// means nothing in another process, so it is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub Duration);

impl Time {
    /// `self` and `duration` later; saturates.
    pub fn after(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(duration))
    }

    /// How long before `self` the moment `earlier` was; zero where it was not.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
