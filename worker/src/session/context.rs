//! The executor's access to the coordinator while it works.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use edgesmith_common::{ArtifactHash, AttemptId};
use tokio_util::sync::CancellationToken;

use super::attempts::{Attempt, lock};
use super::remote::{RemoteArtifacts, TransferError};
use super::secret::Secret;
use edgesmith_common::AttemptError;

/// What one attempt can use: progress, the stop signal and artifacts. Its calls block, so they must
/// be made on the thread that runs [`TaskExecutor::execute`](super::TaskExecutor::execute).
#[derive(Debug)]
pub struct AttemptContext {
    attempt: Arc<Attempt>,
    artifacts: Artifacts,
}

#[derive(Debug)]
enum Artifacts {
    Remote(Arc<RemoteArtifacts>),
    Local(Mutex<HashMap<ArtifactHash, Arc<Vec<u8>>>>),
}

impl AttemptContext {
    pub(super) fn new(attempt: Arc<Attempt>, artifacts: Arc<RemoteArtifacts>) -> Self {
        Self { attempt, artifacts: Artifacts::Remote(artifacts) }
    }

    /// A context without a coordinator. It fetches from `artifacts` and from what was put before,
    /// keeps what is put in memory, ignores progress and is never stopped.
    pub fn offline(artifacts: Vec<Vec<u8>>) -> Self {
        let by_hash = |bytes: Vec<u8>| (ArtifactHash::of(&bytes), Arc::new(bytes));
        let artifacts = artifacts.into_iter().map(by_hash).collect();
        Self {
            attempt: Arc::new(Attempt::new(
                AttemptId(0),
                Secret::default(),
                &CancellationToken::new(),
            )),
            artifacts: Artifacts::Local(Mutex::new(artifacts)),
        }
    }

    /// Sets the progress of the attempt: the finished share, `0..=1`, and the stage, for example
    /// `epoch 3/8`. The call is cheap; the next heartbeat sends it.
    pub fn progress(&self, fraction: f64, stage: &str) {
        self.attempt.set_progress(fraction, stage);
    }

    /// Whether to stop, because the coordinator has revoked the attempt or the worker ends. The
    /// call is cheap enough for every training step.
    pub fn is_stopped(&self) -> bool {
        self.attempt.stop().is_cancelled()
    }

    /// The artifact of `hash`, from the cache if it was transferred recently. Waits while the
    /// coordinator does not answer.
    ///
    /// # Errors
    /// When the artifact does not exist, or the attempt is stopped.
    pub fn fetch(&self, hash: ArtifactHash) -> Result<Arc<Vec<u8>>, AttemptError> {
        self.transferred(hash).map_err(TransferError::of_attempt)
    }

    /// As [`fetch`](Self::fetch), of an artifact that other tasks of the study need too. The error
    /// says `what` it is, and how the user may `mend` it without a backup.
    ///
    /// # Errors
    /// As `fetch`. That the coordinator has lost it is a fault of the study's data, so that the
    /// study waits until it is mended.
    pub fn fetch_of_study(
        &self,
        hash: ArtifactHash,
        what: &str,
        mend: &str,
    ) -> Result<Arc<Vec<u8>>, AttemptError> {
        self.transferred(hash).map_err(|error| match error {
            TransferError::Lost { reason, .. } => {
                AttemptError::of_data(format!("failed to fetch {what}: {reason}; {mend}"))
            }
            TransferError::Failed(error) => error,
        })
    }

    fn transferred(&self, hash: ArtifactHash) -> Result<Arc<Vec<u8>>, TransferError> {
        match &self.artifacts {
            Artifacts::Remote(remote) => remote.fetch(hash, self.attempt.stop()),
            Artifacts::Local(known) => lock(known).get(&hash).cloned().ok_or_else(|| {
                let reason = format!("there is no artifact {hash}");
                TransferError::Lost { what: "fetch an artifact".to_owned(), reason }
            }),
        }
    }

    /// Uploads an artifact. It is on the coordinator's disk when this returns. Waits while the
    /// coordinator does not answer.
    ///
    /// # Errors
    /// When the coordinator refuses it, or the attempt is stopped.
    pub fn put(&self, bytes: Vec<u8>) -> Result<ArtifactHash, AttemptError> {
        match &self.artifacts {
            Artifacts::Remote(remote) => {
                remote.put(bytes, self.attempt.stop()).map_err(TransferError::of_attempt)
            }
            Artifacts::Local(known) => {
                let hash = ArtifactHash::of(&bytes);
                lock(known).insert(hash, Arc::new(bytes));
                Ok(hash)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offline_context_serves_given_and_put_artifacts() {
        let context = AttemptContext::offline(vec![b"given".to_vec()]);
        let given = ArtifactHash::of(b"given");
        assert_eq!(context.fetch(given).unwrap().as_slice(), b"given");
        let absent = ArtifactHash::of(b"put");
        assert!(context.fetch(absent).unwrap_err().reason.contains(&absent.to_string()));
        assert_eq!(context.put(b"put".to_vec()).unwrap(), absent);
        assert_eq!(context.fetch(absent).unwrap().as_slice(), b"put");
        context.progress(0.5, "half");
        assert!(!context.is_stopped());
    }
}
