//! A coordinator beside its clients in one process, on a free loopback port. A command that runs a
//! study to its end starts one, and so does one that asks a data directory that no process has.

use std::path::Path;

use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{ServeConfig, ServeError, serve};
use crate::store::DataDirError;

/// Whether other processes can reach a coordinator of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// The data directory says where it listens.
    Announced,
    /// It is there for one answer only: whoever relied on it would be left alone.
    Private,
}

/// Why a coordinator in this process does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is no port for it.
    #[error("failed to open a loopback port for the coordinator: {0}")]
    Listen(std::io::Error),
    /// It cannot serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// It was told to stop before it served.
    #[error("the coordinator ended at once")]
    EndedAtOnce,
    /// A bug: it panicked.
    #[error("the coordinator panicked: {0}")]
    Panicked(#[from] JoinError),
}

impl LocalError {
    /// Whether another process has the directory.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Serve(ServeError::DataDir(DataDirError::InUse { .. })))
    }
}

/// A coordinator in this process; stops when it is dropped.
#[derive(Debug)]
pub struct LocalCoordinator {
    url: String,
    stop: CancellationToken,
    /// `None` once its end was told.
    task: Option<JoinHandle<Result<(), ServeError>>>,
}

impl LocalCoordinator {
    /// Starts one on `directory` and waits until it answers.
    ///
    /// # Errors
    /// When it cannot serve, for example because another process has the directory.
    pub async fn start(directory: &Path, visibility: Visibility) -> Result<Self, LocalError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(LocalError::Listen)?;
        let url = format!("http://{}", listener.local_addr().map_err(LocalError::Listen)?);
        let stop = CancellationToken::new();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let mut config = ServeConfig::new(directory.to_owned()).with_ready(ready);
        config.announce = visibility == Visibility::Announced;
        let mut task = tokio::spawn(serve(config, listener, stop.clone().cancelled_owned()));
        tokio::select! {
            // One that cannot start drops its end of the channel; its error says more.
            Ok(()) = is_ready => {}
            ended = &mut task => {
                ended??;
                return Err(LocalError::EndedAtOnce);
            }
        }
        Ok(Self { url, stop, task: Some(task) })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Completes when it has ended. Nothing is lost where this is dropped before.
    ///
    /// # Errors
    /// With the reason where it failed.
    pub async fn ended(&mut self) -> Result<(), LocalError> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let ended = task.await;
        self.task = None;
        Ok(ended??)
    }

    /// Stops it after it has written everything.
    ///
    /// # Errors
    /// With the reason where it failed.
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
    async fn the_second_in_a_directory_is_told_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let first = LocalCoordinator::start(directory, Visibility::Announced).await.unwrap();
        let held = holder(directory).unwrap().unwrap();
        assert_eq!(held.address.as_deref(), Some(first.url()));
        // Which of the two ends of a failed start is seen first is chance; neither may hide why.
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
