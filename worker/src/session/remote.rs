//! The coordinator's artifacts, with blocking calls that wait while it does not answer.

use std::sync::{Arc, Mutex};

use edgesmith_common::ArtifactHash;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::attempts::lock;
use super::backoff::Backoff;
use super::cache::Cache;
use super::connection::{Connection, describe};
use edgesmith_common::AttemptError;

use super::artifacts::{self, DAMAGED_TRIES};
use super::upload::Upload;

/// Why an artifact could not be transferred.
#[derive(Debug)]
pub enum TransferError {
    /// The coordinator has lost it, or its file there is damaged. No worker can have it until that
    /// file is mended.
    Lost {
        /// What was tried with which artifact, for example `fetch artifact 1234`.
        what: String,
        /// The coordinator's sentence.
        reason: String,
    },
    /// For another reason.
    Failed(AttemptError),
}

impl TransferError {
    /// Why the attempt failed that needed it.
    pub fn of_attempt(self) -> AttemptError {
        match self {
            Self::Lost { what, reason } => {
                AttemptError::retryable(format!("failed to {what}: {reason}"))
            }
            Self::Failed(error) => error,
        }
    }
}

const CACHE_BYTES: usize = 64 << 20;
/// Number of tries of a transfer that the coordinator answers with an error of its own. A full disk
/// and too many transfers at once do not count, because they pass.
const FAILED_TRIES: u32 = 6;

/// The coordinator's artifacts, for all attempts of a session.
#[derive(Debug)]
pub struct RemoteArtifacts {
    runtime: Handle,
    connection: Arc<Connection>,
    cache: Mutex<Cache>,
    /// Held while something is sent. Uploads share the connection anyway, and each of them bounds
    /// what is on the way, which all of them together must not exceed.
    uploading: tokio::sync::Mutex<()>,
}

impl RemoteArtifacts {
    /// Artifacts over `connection`; `runtime` runs the calls.
    pub fn new(runtime: Handle, connection: Arc<Connection>) -> Self {
        Self {
            runtime,
            connection,
            cache: Mutex::new(Cache::new(CACHE_BYTES)),
            uploading: Default::default(),
        }
    }

    /// Fetches an artifact. Do not call it on a thread of the runtime, because it blocks. Gives up
    /// when `stop` is cancelled.
    pub fn fetch(
        &self,
        hash: ArtifactHash,
        stop: &CancellationToken,
    ) -> Result<Arc<Vec<u8>>, TransferError> {
        if let Some(bytes) = lock(&self.cache).get(hash) {
            return Ok(bytes);
        }
        // What has come when a connection breaks is not fetched again.
        let so_far = tokio::sync::Mutex::new(Vec::new());
        self.persistently(stop, "fetch", hash, async || {
            let client = &mut self.connection.artifacts();
            artifacts::download_rest(client, hash, &mut *so_far.lock().await).await
        })?;
        let bytes = Arc::new(so_far.into_inner());
        lock(&self.cache).insert(hash, Arc::clone(&bytes));
        Ok(bytes)
    }

    /// Uploads an artifact. Do not call it on a thread of the runtime, because it blocks. What has
    /// arrived when a connection breaks is not sent again. While the coordinator has no room, it
    /// waits. Gives up when `stop` is cancelled.
    pub fn put(
        &self,
        bytes: Vec<u8>,
        stop: &CancellationToken,
    ) -> Result<ArtifactHash, TransferError> {
        let hash = ArtifactHash::of(&bytes);
        let bytes = Arc::new(bytes);
        let upload = Upload::new(hash, Arc::clone(&bytes));
        self.persistently(stop, "put", hash, async || {
            let _turn = self.uploading.lock().await;
            upload.send(&mut self.connection.artifacts()).await
        })?;
        lock(&self.cache).insert(hash, bytes);
        Ok(hash)
    }

    fn persistently<T>(
        &self,
        stop: &CancellationToken,
        what: &str,
        hash: ArtifactHash,
        transfer: impl AsyncFn() -> Result<T, Status>,
    ) -> Result<T, TransferError> {
        let failed = |status: &Status| {
            let (what, reason) = (format!("{what} artifact {hash}"), describe(status));
            let lost = TransferError::Lost { what, reason };
            match status.code() {
                Code::NotFound | Code::DataLoss => lost,
                _ => TransferError::Failed(lost.of_attempt()),
            }
        };
        let tries = async {
            let mut backoff = Backoff::new();
            let (mut damaged, mut broken) = (0, 0);
            loop {
                let status = match transfer().await {
                    Ok(done) => {
                        self.connection.note_transfer();
                        return Ok(done);
                    }
                    Err(status) => status,
                };
                match status.code() {
                    _ if artifacts::is_broken(&status) => self.connection.note_failure(&status),
                    Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition => {
                        return Err(failed(&status));
                    }
                    Code::DataLoss | artifacts::DAMAGED_ON_THE_WAY => {
                        damaged += 1;
                        if damaged == DAMAGED_TRIES {
                            return Err(failed(&status));
                        }
                    }
                    Code::Internal => {
                        broken += 1;
                        if broken == FAILED_TRIES {
                            return Err(failed(&status));
                        }
                    }
                    _ if self.connection.final_error(&status).is_some() => {
                        return Err(failed(&status));
                    }
                    _ => self.connection.note_refusal(&status),
                }
                backoff.wait().await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = stop.cancelled() => Err(TransferError::Failed(AttemptError::stopped())),
                done = tries => done,
            }
        })
    }
}
