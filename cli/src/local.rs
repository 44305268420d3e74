//! A coordinator in this process, on a free loopback port: all of `search`, and what answers a command
//! from a data directory that no other process has.

use std::path::Path;

use anyhow::Context as _;
use edgesmith_coordinator::service::{self, ServeConfig, ServeError};
use edgesmith_coordinator::store::DataDirError;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Whether other processes can reach a coordinator of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// The data directory says where it listens.
    Announced,
    /// It is there for one answer only: whoever relied on it would be left alone.
    Private,
}

/// A coordinator in this process; stops when it is dropped.
pub struct LocalCoordinator {
    url: String,
    stop: CancellationToken,
    /// `None` once its end was told.
    task: Option<JoinHandle<Result<(), ServeError>>>,
}

impl LocalCoordinator {
    /// Starts one on `directory` and waits until it answers.
    pub async fn start(directory: &Path, visibility: Visibility) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("failed to open a loopback port for the coordinator")?;
        let url = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let mut config = ServeConfig::new(directory.to_owned()).with_ready(ready);
        config.announce = visibility == Visibility::Announced;
        let mut task =
            tokio::spawn(service::serve(config, listener, stop.clone().cancelled_owned()));
        tokio::select! {
            // One that cannot start drops its end of the channel; its error says more.
            Ok(()) = is_ready => {}
            ended = &mut task => {
                ended??;
                anyhow::bail!("the coordinator ended at once");
            }
        }
        Ok(Self { url, stop, task: Some(task) })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Completes when it has ended, with the reason where it failed. Nothing is lost where this is
    /// dropped before.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let ended = task.await;
        self.task = None;
        Ok(ended??)
    }

    /// Stops it after it has written everything.
    pub async fn shut_down(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.ended().await
    }
}

impl Drop for LocalCoordinator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Whether a coordinator did not start because another process has its directory.
pub fn is_in_use(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<ServeError>(),
        Some(ServeError::DataDir(DataDirError::InUse { .. }))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_in_a_directory_is_told_of_the_first() {
        let directory =
            std::env::temp_dir().join(format!("edgesmith-local-{}", std::process::id()));
        let first = LocalCoordinator::start(&directory, Visibility::Announced).await.unwrap();
        let holder = service::holder(&directory).unwrap().unwrap();
        assert_eq!(holder.address.as_deref(), Some(first.url()));
        // Which of the two ends of a failed start is seen first is chance; neither may hide why.
        for _ in 0..20 {
            let second = LocalCoordinator::start(&directory, Visibility::Private).await;
            let error = second.err().unwrap();
            assert!(is_in_use(&error), "{error:#}");
            assert!(error.to_string().contains("in use"), "{error:#}");
        }
        first.shut_down().await.unwrap();

        let private = LocalCoordinator::start(&directory, Visibility::Private).await.unwrap();
        assert_eq!(service::holder(&directory).unwrap().unwrap().address, None);
        private.shut_down().await.unwrap();
        assert_eq!(service::holder(&directory).unwrap(), None);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
