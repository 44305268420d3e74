//! A coordinator and its clients in one process, on a free loopback port. It is started by a
//! command that runs a study to its end, and by a command that reads a data directory that no
//! process holds.

use std::path::Path;

use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{ServeConfig, ServeError, serve};
use crate::store::DataDirError;

/// Whether other processes can find a coordinator of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// The data directory holds its address.
    Announced,
    /// It exists for one answer only, so no other process should rely on it.
    Private,
}

/// Why a coordinator in this process did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// No port could be opened for it.
    #[error("failed to open a loopback port for the coordinator: {0}")]
    Listen(std::io::Error),
    /// The coordinator cannot serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// It was told to stop before it started to serve.
    #[error("the coordinator ended at once")]
    EndedAtOnce,
    /// A bug: the coordinator panicked.
    #[error("the coordinator panicked: {0}")]
    Panicked(#[from] JoinError),
}

impl LocalError {
    /// Whether another process is using the data directory.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Serve(ServeError::DataDir(DataDirError::InUse { .. })))
    }
}

/// A coordinator in this process. It stops when the value is dropped.
#[derive(Debug)]
pub struct LocalCoordinator {
    url: String,
    stop: CancellationToken,
    /// `None` once its end was reported.
    task: Option<JoinHandle<Result<(), ServeError>>>,
}

impl LocalCoordinator {
    /// Starts a coordinator on `directory` and waits until it answers.
    ///
    /// # Errors
    /// If it cannot serve, for example because another process is using the directory.
    pub async fn start(directory: &Path, visibility: Visibility) -> Result<Self, LocalError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(LocalError::Listen)?;
        let url = format!("http://{}", listener.local_addr().map_err(LocalError::Listen)?);
        let stop = CancellationToken::new();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let mut config = ServeConfig::new(directory.to_owned()).with_ready(ready);
        // Everybody on this machine, as long as the process lives.
        config.open = true;
        config.announce = visibility == Visibility::Announced;
        let mut task = tokio::spawn(serve(config, listener, stop.clone().cancelled_owned()));
        tokio::select! {
            // A coordinator that cannot start drops its end of the channel. Its own error says
            // more.
            Ok(_) = is_ready => {}
            ended = &mut task => {
                ended??;
                return Err(LocalError::EndedAtOnce);
            }
        }
        Ok(Self { url, stop, task: Some(task) })
    }

    /// The coordinator's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Completes when it has ended. Dropping the future earlier loses nothing.
    ///
    /// # Errors
    /// The reason, if the coordinator failed.
    pub async fn ended(&mut self) -> Result<(), LocalError> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let ended = task.await;
        self.task = None;
        Ok(ended??)
    }

    /// Stops the coordinator after everything is written.
    ///
    /// # Errors
    /// The reason, if the coordinator failed.
    pub async fn shut_down(mut self) -> Result<(), LocalError> {
        self.stop.cancel();
        self.ended().await
    }
}

impl Drop for LocalCoordinator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::super::holder;
    use super::*;

    #[tokio::test]
    async fn a_second_coordinator_in_a_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let first = LocalCoordinator::start(directory, Visibility::Announced).await.unwrap();
        let held = holder(directory).unwrap().unwrap();
        assert_eq!(held.address.as_deref(), Some(first.url()));
        // Either end of a failed start may be seen first, by chance. Both must report the reason.
        for _ in 0..20 {
            let second = LocalCoordinator::start(directory, Visibility::Private).await;
            let error = second.err().unwrap();
            assert!(error.is_in_use(), "{error}");
            assert!(error.to_string().contains("in use"), "{error}");
        }
        first.shut_down().await.unwrap();

        let private = LocalCoordinator::start(directory, Visibility::Private).await.unwrap();
        assert_eq!(holder(directory).unwrap().unwrap().address, None);
        private.shut_down().await.unwrap();
        assert_eq!(holder(directory).unwrap(), None);
    }
}
