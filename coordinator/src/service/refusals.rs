//! When artifacts are taken again after one found no room although the file system says that there
//! is some: because of a quota, or because it can have no more files. Then one is taken from time to
//! time, more and more rarely, and its outcome tells whether there is room for the others. Reads no
//! clock.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest and the longest time for which none are taken. It doubles with each that fails.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A failure so long after the last one is not taken for the same trouble.
const QUIET: Duration = Duration::from_secs(60);

/// What is known of artifacts that found no room.
#[derive(Debug, Default)]
pub struct Refusals {
    /// How many found none, since the last that did.
    failed: u64,
    /// When none were taken from on, and for how long.
    since: Option<(Instant, Duration)>,
    /// When the next one is taken.
    until: Option<Instant>,
}

impl Refusals {
    /// Notes that one found no room. Whether it is the first.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.failed += 1;
        let (since, pause) = match self.since {
            // It was on its way already.
            Some((since, pause)) if now < since + pause => (since, pause),
            Some((since, pause)) if now < since + pause + QUIET => (now, (pause * 2).min(LONGEST)),
            Some(_) | None => (now, SHORTEST),
        };
        self.since = Some((since, pause));
        self.until = Some(since + pause);
        self.failed == 1
    }

    /// Notes that one found room. How many had found none before, if any had.
    pub fn stored(&mut self) -> Option<u64> {
        self.until = None;
        let failed = std::mem::take(&mut self.failed);
        (failed > 0).then_some(failed)
    }

    /// Notes that room was made. The next ones tell whether that is enough.
    pub fn room_was_made(&mut self) {
        self.until = None;
    }

    /// Whether one more is taken, or else how long it has to wait. If it is taken, others wait for
    /// its outcome.
    ///
    /// # Errors
    /// If it has to wait.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let (Some(until), Some((_, pause))) = (self.until, self.since) else { return Ok(()) };
        if now < until {
            return Err(until.duration_since(now));
        }
        self.until = Some(now + pause);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_is_taken_from_time_to_time_and_more_and_more_rarely() {
        let (mut refusals, mut now) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.admit(now), Ok(()));
        assert!(refusals.failed(now));
        // Others that were on their way do not make it worse.
        (0..60).for_each(|_| assert!(!refusals.failed(now + SECOND / 2)));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let wait = refusals.admit(now).unwrap_err();
            pauses.push(wait.as_secs());
            now += wait;
            assert_eq!(refusals.admit(now), Ok(()));
            // Nobody else is taken meanwhile.
            assert!(refusals.admit(now).is_err());
            now += SECOND / 10;
            assert!(!refusals.failed(now));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(refusals.stored(), Some(69));
        assert_eq!((refusals.stored(), refusals.admit(now)), (None, Ok(())));
    }

    #[test]
    fn one_whose_outcome_is_never_known_does_not_keep_others_out() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        refusals.failed(now);
        assert_eq!(refusals.admit(now + SECOND), Ok(()));
        assert_eq!(refusals.admit(now + SECOND), Err(SECOND));
        assert_eq!(refusals.admit(now + 2 * SECOND), Ok(()));
        refusals.room_was_made();
        assert_eq!(refusals.admit(now + 2 * SECOND), Ok(()));
    }

    #[test]
    fn trouble_that_comes_back_soon_is_not_tried_more_often_than_before() {
        let (mut refusals, mut now) = (Refusals::default(), Instant::now());
        refusals.failed(now);
        for expected in [2, 4] {
            refusals.stored();
            now += 10 * SECOND;
            assert!(refusals.failed(now));
            assert_eq!(refusals.admit(now), Err(expected * SECOND));
        }
        refusals.stored();
        now += 4 * SECOND + QUIET;
        refusals.failed(now);
        assert_eq!(refusals.admit(now), Err(SECOND));
    }
}
