//! The secrets of workers and attempts. Each is derived from the data directory's key and an id, so
//! nothing has to be stored, and a secret is still right after a restart.

use edgesmith_common::{AttemptId, WorkerId};

use crate::store::Key;

/// Makes and checks secrets. Comparisons take the same time wherever the first difference is.
#[derive(Clone)]
pub struct Secrets(Key);

impl Secrets {
    /// Secrets that only holders of `key` can make.
    pub fn new(key: Key) -> Self {
        Self(key)
    }

    /// The secret of a worker.
    pub fn of_worker(&self, worker: WorkerId) -> [u8; 32] {
        *self.derive("worker", worker.0).as_bytes()
    }

    /// Whether `secret` is the one of `worker`, whether or not the worker exists.
    pub fn is_of_worker(&self, secret: &[u8], worker: WorkerId) -> bool {
        is(secret, self.derive("worker", worker.0))
    }

    /// The secret of an attempt.
    pub fn of_attempt(&self, attempt: AttemptId) -> [u8; 32] {
        *self.derive("attempt", attempt.0).as_bytes()
    }

    /// Whether `secret` is the one of `attempt`, whether or not the attempt exists.
    pub fn is_of_attempt(&self, secret: &[u8], attempt: AttemptId) -> bool {
        is(secret, self.derive("attempt", attempt.0))
    }

    fn derive(&self, kind: &str, id: u64) -> blake3::Hash {
        self.0.derive(&[kind.as_bytes(), b" ", &id.to_le_bytes()].concat())
    }
}

fn is(secret: &[u8], expected: blake3::Hash) -> bool {
    // Comparing with a `Hash` takes constant time.
    blake3::Hash::from_slice(secret).is_ok_and(|secret| secret == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_right_for_one_kind_one_id_and_one_key() {
        let secrets = Secrets::new(Key::from([1; 32]));
        let worker = secrets.of_worker(WorkerId(7));
        assert!(secrets.is_of_worker(&worker, WorkerId(7)));
        assert!(!secrets.is_of_worker(&worker, WorkerId(8)));
        assert!(!secrets.is_of_attempt(&worker, AttemptId(7)));
        assert!(!secrets.is_of_worker(&worker[1..], WorkerId(7)));
        assert!(!secrets.is_of_worker(&[], WorkerId(7)));
        let attempt = secrets.of_attempt(AttemptId(7));
        assert!(secrets.is_of_attempt(&attempt, AttemptId(7)));
        assert!(!Secrets::new(Key::from([2; 32])).is_of_attempt(&attempt, AttemptId(7)));
    }
}
