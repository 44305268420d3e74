//! The attempts that this worker holds: those that run, and those that ended but are not reported
//! yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgesmith_common::AttemptId;
use edgesmith_proto::v1;
use tokio_util::sync::CancellationToken;

use super::secret::Secret;

/// One attempt that this worker holds.
#[derive(Debug)]
pub struct Attempt {
    id: AttemptId,
    /// From the lease.
    secret: Secret,
    /// Stops its executor, because the coordinator wants it stopped or the session ends.
    stop: CancellationToken,
    /// Set when the coordinator has revoked the attempt. Then nothing is reported.
    revoked: CancellationToken,
    progress: Mutex<(f64, String)>,
}

impl Attempt {
    /// A new attempt. Cancelling `parent` stops it.
    pub fn new(id: AttemptId, secret: Secret, parent: &CancellationToken) -> Self {
        Self {
            id,
            secret,
            stop: parent.child_token(),
            revoked: CancellationToken::new(),
            progress: Mutex::new((0.0, String::new())),
        }
    }

    /// The proof that it was leased to this worker.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    pub fn is_revoked(&self) -> bool {
        self.revoked.is_cancelled()
    }

    /// Waits until the coordinator revokes it.
    pub async fn revocation(&self) {
        self.revoked.cancelled().await;
    }

    /// Sets the progress. A fraction that is not finite is ignored.
    pub fn set_progress(&self, fraction: f64, stage: &str) {
        let mut progress = lock(&self.progress);
        if fraction.is_finite() {
            progress.0 = fraction.clamp(0.0, 1.0);
        }
        if progress.1 != stage {
            stage.clone_into(&mut progress.1);
        }
    }

    fn progress(&self) -> v1::AttemptProgress {
        let (fraction, stage) = lock(&self.progress).clone();
        let secret = self.secret.0.clone();
        v1::AttemptProgress { attempt_id: self.id.0, fraction, stage, secret }
    }
}

/// All attempts that this worker holds.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<BTreeMap<AttemptId, Arc<Attempt>>>);

impl Attempts {
    /// Adds a new attempt.
    pub fn start(&self, id: AttemptId, secret: Secret, parent: &CancellationToken) -> Arc<Attempt> {
        let attempt = Arc::new(Attempt::new(id, secret, parent));
        lock(&self.0).insert(id, Arc::clone(&attempt));
        attempt
    }

    /// Removes an attempt that was reported or stopped.
    pub fn finish(&self, id: AttemptId) {
        lock(&self.0).remove(&id);
    }

    /// Stops the attempts that the coordinator has revoked, and removes them.
    pub fn revoke(&self, ids: &[u64]) {
        let mut attempts = lock(&self.0);
        for id in ids {
            if let Some(attempt) = attempts.remove(&AttemptId(*id)) {
                tracing::debug!(attempt = id, "the coordinator stops an attempt");
                attempt.revoked.cancel();
                attempt.stop.cancel();
            }
        }
    }

    /// The held attempts, by ascending id.
    pub fn held(&self) -> Vec<v1::HeldAttempt> {
        let held = |attempt: &Arc<Attempt>| v1::HeldAttempt {
            attempt_id: attempt.id.0,
            secret: attempt.secret.0.clone(),
        };
        lock(&self.0).values().map(held).collect()
    }

    /// Progress of each attempt, by ascending id.
    pub fn progress(&self) -> Vec<v1::AttemptProgress> {
        lock(&self.0).values().map(|attempt| attempt.progress()).collect()
    }
}

/// Locks a mutex. A poisoned one is safe to use, because no update here leaves a half-finished
/// state.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_held_until_finished_or_revoked() {
        let session = CancellationToken::new();
        let attempts = Attempts::default();
        let secret = |id| Secret(vec![id as u8]);
        let [a, b, c] = [3, 1, 2].map(|id| attempts.start(AttemptId(id), secret(id), &session));
        let held = || attempts.held().iter().map(|held| held.attempt_id).collect::<Vec<_>>();
        assert_eq!(held(), [1, 2, 3]);
        assert_eq!(attempts.held()[2].secret, [3]);
        attempts.finish(AttemptId(1));
        attempts.revoke(&[2, 99]);
        assert_eq!(held(), [3]);
        assert!(c.is_revoked() && c.stop().is_cancelled());
        assert!(!a.is_revoked() && !a.stop().is_cancelled());
        assert!(!b.is_revoked());
        session.cancel();
        assert!(a.stop().is_cancelled() && !a.is_revoked());
    }

    #[test]
    fn invalid_progress_is_ignored() {
        let attempt = Attempt::new(AttemptId(7), Secret::default(), &CancellationToken::new());
        attempt.set_progress(0.5, "epoch 1/2");
        attempt.set_progress(f64::NAN, "epoch 2/2");
        let progress = attempt.progress();
        assert_eq!((progress.fraction, progress.stage.as_str()), (0.5, "epoch 2/2"));
        attempt.set_progress(7.0, "done");
        assert_eq!(attempt.progress().fraction, 1.0);
    }
}
