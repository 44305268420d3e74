//! gRPC handlers: decode the request, send an event, await the reply, encode it. All decisions are
//! made in [`core`](crate::core).
//!
//! [`serve`] opens the data directory, restores the core, starts its thread (`runtime.rs`), and
//! answers until it is told to stop.

mod access;
mod artifacts;
mod auth;
mod bodies;
mod collection;
mod held;
mod leases;
mod limits;
mod listener;
mod local;
mod log;
mod models;
mod progress;
mod proposers;
mod refusals;
mod runtime;
mod secrets;
mod space;
mod stall;
mod status;
mod studies;
#[cfg(test)]
mod tests;
mod throttle;
pub(crate) mod tls;
mod tokens;
mod uploads;
mod views;
mod workers;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edgesmith_common::{AccessToken, Fingerprint, TokenRole};
use edgesmith_proto::v1;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

pub use self::local::{LocalCoordinator, LocalError, Visibility};
pub use self::tls::{Tls, TlsError, host_name};
use self::tokens::Tokens;
pub use self::tokens::{TokenError, local_token};
use crate::core::{Core, CoreConfig, RestoreError, Time};
use crate::store::{
    AccessError, AccessFiles, ArtifactError, ArtifactStore, DataDir, DataDirError, DiskStore,
    Holder, Key, StageStore, Store as _, StoreError, random,
};

/// Largest message that is accepted. Study files and reports are small, and artifacts are sent in
/// chunks.
const MAX_REQUEST_BYTES: usize = 4 << 20;
/// How long open calls may continue after the server was told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// Settings of a server.
#[derive(Debug)]
pub struct ServeConfig {
    /// Directory for studies and artifacts.
    pub data_dir: PathBuf,
    /// Time without a heartbeat after which a worker's tasks go to other workers.
    pub lease: Duration,
    /// How often workers are asked to send heartbeats.
    pub heartbeat: Duration,
    /// Free bytes in the data directory's file system below which no tasks are handed out; `None`
    /// for 256 MiB, or a twentieth of a smaller file system.
    pub min_free: Option<u64>,
    /// A token with all rights, besides those that the directory has. One that the directory has
    /// made keeps its role.
    pub token: Option<AccessToken>,
    /// Whether to make a token for workers and one for an admin if there is none.
    pub first_tokens: bool,
    /// Whether calls need no token, even if there are some.
    pub open: bool,
    /// Where the certificate for TLS comes from; `None` for plain connections.
    pub tls: Option<Tls>,
    /// Whether new tokens carry the fingerprint of the directory's own authority.
    pub pinned: bool,
    /// Whether to write the address to the data directory, where [`holder`] finds it.
    pub announce: bool,
    /// Notified once calls are answered.
    ready: Option<oneshot::Sender<Ready>>,
    /// Bounds the bodies of calls, and keeps the books of what they hold.
    bounded: bodies::Bounded,
}

/// What a coordinator says when it is ready.
#[derive(Debug)]
pub struct Ready {
    /// The fingerprint of the directory's own authority, if it has one.
    pub fingerprint: Option<Fingerprint>,
    /// The tokens that it has made at this start. They cannot be asked for later.
    pub made: Vec<(TokenRole, AccessToken)>,
    /// Whether calls need a token.
    pub token_required: bool,
    /// What the token gives that the coordinator was started with, if there is one.
    pub chosen: Option<TokenRole>,
}

impl ServeConfig {
    /// Settings for a loopback address: without a chosen token and TLS, with the core's default
    /// times, announced in the directory.
    pub fn new(data_dir: PathBuf) -> Self {
        let CoreConfig { lease, heartbeat, .. } = CoreConfig::default();
        Self {
            data_dir,
            lease,
            heartbeat,
            min_free: None,
            token: None,
            first_tokens: false,
            open: false,
            tls: None,
            pinned: true,
            announce: true,
            ready: None,
            bounded: bodies::Bounded::default(),
        }
    }

    /// Notifies `ready` once the data directory is open and calls are answered.
    #[must_use]
    pub fn with_ready(self, ready: oneshot::Sender<Ready>) -> Self {
        Self { ready: Some(ready), ..self }
    }
}

/// Why the coordinator does not serve, or stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Its records cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its artifacts cannot be accessed.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    /// The files that decide who may do what cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// There is no usable certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The first tokens cannot be made.
    #[error("failed to make the first tokens: {0}")]
    Tokens(#[from] TokenError),
    /// Its records contradict each other.
    #[error("failed to restore the studies: {0}")]
    Restore(#[from] RestoreError),
    /// The network failed.
    #[error("failed to serve: {}", causes(.0))]
    Transport(#[from] tonic::transport::Error),
    /// The description of the protos for reflection failed.
    #[error("failed to describe the services: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The core's thread could not be started.
    #[error("failed to start the core's thread: {0}")]
    Thread(std::io::Error),
    /// The listener has no address.
    #[error("failed to read the listener's address: {0}")]
    Address(std::io::Error),
    /// A bug: the core's thread panicked.
    #[error("the core's thread panicked; please report this bug")]
    Panicked,
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// The process that serves `data_dir` now, and its address; `None` if there is none.
///
/// # Errors
/// If the directory cannot be checked.
pub fn holder(data_dir: &Path) -> Result<Option<Holder>, DataDirError> {
    DataDir::holder(data_dir)
}

/// Serves on `listener` until `shutdown` completes. Then ends open calls and returns when
/// everything is written.
///
/// # Errors
/// If the data directory cannot be opened, or if the store fails. After a failure, nothing more is
/// acknowledged.
pub async fn serve(
    config: ServeConfig,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let mut config = config;
    let (ready, open_calls, bounded) = (config.ready.take(), config.open, config.bounded.clone());
    // A coordinator for one answer only leaves the directory as it is.
    let collects = config.announce;
    let address = listener.local_addr().map_err(ServeError::Address)?;
    let opened = tokio::task::spawn_blocking(move || open(&config, address));
    let Opened {
        core,
        mut thread,
        artifacts,
        stages,
        secrets,
        tls,
        tokens,
        made,
        chosen,
        fingerprint,
    } = opened.await.map_err(|_| ServeError::Panicked)??;
    let token_required = tokens.exist() && !open_calls;

    let stop = CancellationToken::new();
    let studies = studies::Studies::new(core.clone(), artifacts.clone(), stages, stop.clone());
    let workers = workers::Workers {
        core: core.clone(),
        artifacts: artifacts.clone(),
        secrets,
        stop: stop.clone(),
    };
    if collects {
        tokio::spawn(core.space().clone().watch(stop.clone()));
        let (core, artifacts) = (core.clone(), artifacts.clone());
        tokio::spawn(collection::collect_regularly(core, artifacts, stop.clone()));
    }
    let artifacts = artifacts::Artifacts::new(artifacts, core.space().clone(), stop.clone());
    let admin = tokens::TokenAdmin { tokens: tokens.clone(), required: token_required };
    let (health, health_service) = tonic_health::server::health_reporter();
    let studies = v1::study_service_server::StudyServiceServer::new(studies)
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    let workers = v1::worker_service_server::WorkerServiceServer::new(workers)
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    let artifacts = v1::artifact_service_server::ArtifactServiceServer::new(artifacts)
        .max_decoding_message_size(bodies::UPLOAD_BYTES);
    let admin = v1::token_service_server::TokenServiceServer::new(admin)
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    mark_serving(&health, &studies, &workers, &artifacts).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let server = limits::server(Server::builder());
    // The first layer is the outermost one: calls that it refuses do not count. Each holds only its
    // short error until that is sent, and a connection has only so many open calls.
    let auth = auth::Auth::new(tokens, token_required, fingerprint);
    let mut server = server.layer(auth).layer(bounded.clone());
    tokio::spawn(bounded.held.clone().look_after(stop.clone()));
    let router = server
        .add_service(health_service)
        .add_service(reflection)
        .add_service(studies)
        .add_service(workers)
        .add_service(artifacts)
        .add_service(admin);
    let incoming = listener::connections(listener, tls, listener::Bounds::default(), bounded.held);
    let mut serving =
        Box::pin(router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
    if let Some(ready) = ready {
        // The receiver may be gone already.
        let _ = ready.send(Ready { fingerprint, made, token_required, chosen });
    }
    let mut has_ended = false;
    tokio::select! {
        served = &mut serving => {
            served?;
            has_ended = true;
        }
        () = shutdown => {}
        // The store failed, so nothing more can be acknowledged.
        () = finished(&mut thread) => {}
    }
    stop.cancel();
    // Open calls end by themselves. Connections that clients keep open are cut.
    if !has_ended && let Ok(served) = tokio::time::timeout(GRACE, &mut serving).await {
        served?;
    }
    drop(serving);
    // Stop with a message instead of dropping the handle, because a call that is still open after
    // the grace period holds another handle.
    core.stop();
    finish(thread).await
}

type CoreThread = JoinHandle<Result<(), StoreError>>;

/// The URL by which clients on this machine reach `address`.
fn url(mut address: SocketAddr, tls: bool) -> String {
    // The unspecified address includes loopback, but cannot be connected to.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{address}")
}

/// Everything that comes from the data directory.
struct Opened {
    core: runtime::Handle,
    thread: CoreThread,
    artifacts: ArtifactStore,
    stages: StageStore,
    secrets: secrets::Secrets,
    tls: Option<Arc<ServerConfig>>,
    tokens: Tokens,
    /// The tokens that were made just now.
    made: Vec<(TokenRole, AccessToken)>,
    /// What the chosen token gives.
    chosen: Option<TokenRole>,
    fingerprint: Option<Fingerprint>,
}

/// Opens the data directory, announces `listen` in it, and starts the core's thread with the stored
/// studies.
fn open(config: &ServeConfig, listen: SocketAddr) -> Result<Opened, ServeError> {
    let mut directory = match DataDir::open(&config.data_dir) {
        // Enough to answer questions.
        Err(error) if error.is_read_only() && !config.announce => {
            DataDir::open_read_only(&config.data_dir)?
        }
        opened => opened?,
    };
    let read_only = directory.is_read_only();
    let files = AccessFiles::new(directory.path());
    if !read_only {
        files.complete_sums()?;
    }
    let tls = config.tls.as_ref().map(|tls| tls::server_config(tls, &files, listen)).transpose()?;
    let key = if read_only { Key::from(random()?) } else { files.key()? };
    let secrets = secrets::Secrets::new(key);
    let tokens = if read_only {
        Tokens::in_memory(config.token.as_ref())
    } else {
        Tokens::open(files.clone(), config.token.as_ref(), config.pinned)?
    };
    let chosen = config.token.as_ref().and_then(|token| tokens.role(token));
    let mut made = Vec::new();
    if config.first_tokens && !tokens.exist() {
        for role in [TokenRole::Worker, TokenRole::Admin] {
            made.push((role, tokens.create(role, "", tokens::now_ms())?.0));
        }
    }
    let fingerprint = if read_only {
        None
    } else {
        tls::Authority::existing_fingerprint(&files)?.filter(|_| config.pinned)
    };
    if config.announce {
        directory.announce(&url(listen, tls.is_some()))?;
    }
    let artifacts = directory.path().join("artifacts");
    let artifacts = if read_only {
        ArtifactStore::existing(artifacts)
    } else {
        ArtifactStore::open(artifacts)?
    };
    let space = space::Space::new(directory.path(), config.min_free);
    if config.announce {
        space.look();
    }
    let mut store = DiskStore::open(directory)?;
    let start = Instant::now();
    let core_config =
        CoreConfig { lease: config.lease, heartbeat: config.heartbeat, ..CoreConfig::default() };
    let core = restore(core_config, &mut store)?;
    // A coordinator for one question does not live long enough to write a journal again.
    if config.announce {
        store.compact_if_useful();
    }
    let stages = store.stages();
    let (core, thread) = runtime::spawn(core, store, start, space).map_err(ServeError::Thread)?;
    Ok(Opened { core, thread, artifacts, stages, secrets, tls, tokens, made, chosen, fingerprint })
}

/// The core with everything that `store` holds, as a coordinator finds it when it starts.
///
/// # Errors
/// If the records cannot be read, or one contradicts those before it.
pub fn restore(config: CoreConfig, store: &mut DiskStore) -> Result<Core, ServeError> {
    let mut failed = None;
    let records = store.replay()?.map_while(|record| match record {
        Ok(record) => Some(record),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let restored = Core::restore(config, records, Time(Duration::ZERO));
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(restored?),
    }
}

/// Completes when the thread has ended.
async fn finished(thread: &mut CoreThread) {
    while !thread.is_finished() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits for the end of a thread that was told to stop, and returns its result.
async fn finish(thread: CoreThread) -> Result<(), ServeError> {
    match tokio::task::spawn_blocking(move || thread.join()).await {
        Ok(Ok(ended)) => Ok(ended?),
        Ok(Err(_)) | Err(_) => Err(ServeError::Panicked),
    }
}

/// Tells health checks that the services answer.
async fn mark_serving<A, B, C>(health: &tonic_health::server::HealthReporter, _: &A, _: &B, _: &C)
where
    A: tonic::server::NamedService,
    B: tonic::server::NamedService,
    C: tonic::server::NamedService,
{
    health.set_serving::<A>().await;
    health.set_serving::<B>().await;
    health.set_serving::<C>().await;
}
