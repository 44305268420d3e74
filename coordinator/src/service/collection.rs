//! Removes artifacts that no study needs, when asked and by itself.

use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::runtime::Handle;
use super::status;
use crate::store::{ArtifactStore, Collected};

/// How often a coordinator collects by itself.
const PERIOD: Duration = Duration::from_secs(3600);
/// Nothing younger is removed, even if asked for: a result or a study that refers to it may be on
/// its way to the core.
const LEAST_AGE: Duration = Duration::from_secs(60);
/// What a coordinator removes by itself is at least this old. A worker may report an artifact that
/// it has uploaded long after that, for example when the connection was lost.
const MIN_AGE: Duration = Duration::from_secs(24 * 3600);

/// Removes the artifacts that no study needs and that are at least `min_age` old, and a minute.
///
/// # Errors
/// If the coordinator stops, or a file cannot be removed.
pub async fn collect(
    core: &Handle,
    artifacts: &ArtifactStore,
    min_age: Duration,
) -> Result<Collected, Status> {
    // One that is uploaded or referred to after this counts as younger than that.
    let now = SystemTime::now();
    let needed = core.query(|core, _| core.artifacts()).await?;
    let artifacts = artifacts.clone();
    let collect =
        move || artifacts.collect(|hash| needed.contains_key(&hash), min_age.max(LEAST_AGE), now);
    match spawn_blocking(collect).await {
        Ok(collected) => collected.map_err(|error| status::of_artifact(&error)),
        Err(_) => Err(Status::internal("the collection of artifacts panicked")),
    }
}

/// Collects every [`PERIOD`] until `stop`. Not at the start, when workers come back with what they
/// have uploaded before.
pub async fn collect_regularly(core: Handle, artifacts: ArtifactStore, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        match collect(&core, &artifacts, MIN_AGE).await {
            Ok(Collected { removed: 0, .. }) => {}
            Ok(Collected { removed, removed_bytes, .. }) => tracing::info!(
                "removed {removed} artifacts of {removed_bytes} bytes that no study needs"
            ),
            Err(_) if stop.is_cancelled() => return,
            Err(error) => tracing::warn!("failed to collect artifacts: {}", error.message()),
        }
    }
}
