//! Finds the coordinator that answers a command. In this order: the one that the options name, the
//! one that listens at the default address, the one that has the data directory open, or one that
//! is started in this process on that directory for the time of the command.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use edgesmith_common::{AccessToken, StudySpec};
use edgesmith_console::{Invalid, invalid};
use edgesmith_coordinator::service::{self, LocalCoordinator, Visibility};
use edgesmith_coordinator::store::{DataDirError, Holder};
use edgesmith_proto::v1;
use edgesmith_proto::v1::artifact_service_client::ArtifactServiceClient;
use edgesmith_proto::v1::study_service_client::StudyServiceClient;
use edgesmith_proto::v1::token_service_client::TokenServiceClient;
use edgesmith_worker::session::BearerToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::{TokenOptions, from_status};

/// The address that commands try if the user names none.
pub const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7447";
/// The directory where `search` and `coordinator` keep results if the user names none.
pub const DEFAULT_DATA_DIR: &str = "edgesmith-data";
/// The environment variable with the address, for commands that get neither an address nor a
/// directory on the command line.
const ADDRESS_VARIABLE: &str = "EDGESMITH_COORDINATOR";
/// How long to wait for a process that has the directory open and does not answer, and how long to
/// pause between two tries.
const HELD_PATIENCE: Duration = Duration::from_secs(3);
const HELD_PAUSE: Duration = Duration::from_millis(100);
/// Size limit of an answer. A study of 100,000 trials fits.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// Options that say which coordinator answers.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// The coordinator's address
    // Not clap's `env`: for clap, a value of the environment is in conflict with `--data-dir`.
    #[arg(long, value_name = "URL", help = format!(
        "The coordinator's address [default: {ADDRESS_VARIABLE} of the environment, else \
         {DEFAULT_COORDINATOR}, else --data-dir]"
    ))]
    pub coordinator: Option<String>,
    /// Answer from this directory, or from the coordinator that has it open [default:
    /// edgesmith-data, if no coordinator is running]
    #[arg(long, value_name = "DIR", conflicts_with = "coordinator")]
    pub data_dir: Option<PathBuf>,
    /// The token for the coordinator
    #[command(flatten)]
    pub token: TokenOptions,
    /// PEM file with the certificate authority of an https coordinator
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
}

impl Connection {
    /// The address that the user chose, on the command line or else in the environment variable.
    /// `None` if a directory was chosen, or nothing.
    fn address(&self, variable: Option<String>) -> Option<String> {
        let variable = variable.filter(|url| !url.is_empty() && self.data_dir.is_none());
        self.coordinator.clone().or(variable)
    }
}

/// A connection to a coordinator.
pub struct Coordinator {
    channel: Channel,
    token: BearerToken,
    /// A coordinator in this process. It ends when this connection is dropped.
    _local: Option<LocalCoordinator>,
}

/// What to do if no process has the data directory open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fallback {
    /// Start a coordinator in this process for the time of the command.
    Private,
    /// Fail: the command needs workers, and workers cannot find a private coordinator.
    Fail,
}

/// Client of the study service.
pub type Studies = StudyServiceClient<InterceptedService<Channel, BearerToken>>;
/// Client of the artifact service.
pub type Artifacts = ArtifactServiceClient<InterceptedService<Channel, BearerToken>>;
/// Client of the token service.
pub type Tokens = TokenServiceClient<InterceptedService<Channel, BearerToken>>;

impl Coordinator {
    /// Connects as the options say. If no process has the data directory open, it starts a
    /// coordinator in this process.
    pub async fn connect(options: &Connection) -> anyhow::Result<Self> {
        Self::find(options, Fallback::Private).await
    }

    /// Connects as the options say, but only to a coordinator that workers can find and that keeps
    /// running when this process ends.
    pub async fn connect_to_running(options: &Connection) -> anyhow::Result<Self> {
        Self::find(options, Fallback::Fail).await
    }

    /// Connects to a coordinator in this process.
    pub async fn connect_to_local(local: &LocalCoordinator) -> anyhow::Result<Self> {
        let (channel, token) = (channel(local.url(), None, None).await?, BearerToken::new(None));
        Ok(Self { channel, token, _local: None })
    }

    async fn find(options: &Connection, fallback: Fallback) -> anyhow::Result<Self> {
        if let Some(url) = options.address(std::env::var(ADDRESS_VARIABLE).ok()) {
            let token = options.token.read()?;
            let channel = channel(&url, options.tls_ca.as_deref(), token.as_ref()).await?;
            let token = BearerToken::new(token.as_ref());
            return Ok(Self { channel, token, _local: None });
        }
        // The directory knows whether the coordinator at that address uses TLS, and its token.
        let default_directory = Path::new(DEFAULT_DATA_DIR);
        if options.data_dir.is_none() && !is_at_default_address(default_directory) {
            let token = options.token.read()?;
            if let Ok(channel) = channel(DEFAULT_COORDINATOR, None, token.as_ref()).await {
                let token = BearerToken::new(token.as_ref());
                return Ok(Self { channel, token, _local: None });
            }
        }
        let directory = options.data_dir.clone().unwrap_or_else(|| DEFAULT_DATA_DIR.into());
        if !directory.is_dir() {
            let text = match options.data_dir {
                Some(_) => format!("the data directory {} does not exist", directory.display()),
                None => format!(
                    "no coordinator answers at {DEFAULT_COORDINATOR} and the directory \
                     {DEFAULT_DATA_DIR} does not exist here; start `edgesmith coordinator`, or \
                     name one with --coordinator or --data-dir"
                ),
            };
            return Err(anyhow::anyhow!(text));
        }
        Self::of_directory(&directory, options, fallback).await
    }

    /// Connects to the process that has the directory open. Its address file counts only while a
    /// process has it open, because it may be left over from one that was killed.
    async fn of_directory(
        directory: &Path,
        options: &Connection,
        fallback: Fallback,
    ) -> anyhow::Result<Self> {
        let given = options.token.given()?;
        let begin = Instant::now();
        loop {
            let trouble = match (service::holder(directory)?, fallback) {
                (None, Fallback::Fail) => {
                    let directory = directory.display();
                    anyhow::bail!(
                        "no coordinator runs on {directory}, so its studies do not continue; start \
                         `edgesmith coordinator --data-dir {directory}` and workers, or run the \
                         study here with `edgesmith search`; `edgesmith status` shows its state"
                    )
                }
                (None, Fallback::Private) => {
                    match LocalCoordinator::start(directory, Visibility::Private).await {
                        Ok(local) => {
                            let connected = Self::connect_to_local(&local).await?;
                            // Tokens can be managed only with the directory's own token.
                            let token =
                                BearerToken::new(service::local_token(directory, true).as_ref());
                            return Ok(Self { token, _local: Some(local), ..connected });
                        }
                        // Another process has opened the directory in the meantime.
                        Err(error) if error.is_in_use() => error.into(),
                        Err(error) => return Err(error.into()),
                    }
                }
                (Some(Holder { pid, address: Some(address) }), _) => {
                    // A user who can read the directory has all rights there without another token.
                    // The one in the environment may be for another coordinator.
                    let tls_ca = tls_ca_of(&address, options);
                    // The directory's authority counts only if the coordinator uses it.
                    let pinned = address.starts_with("https://") && tls_ca.is_none();
                    let local = || service::local_token(directory, pinned);
                    let token = match given.clone().or_else(local) {
                        Some(token) => Some(token),
                        None => options.token.read()?,
                    };
                    match channel(&address, tls_ca, token.as_ref()).await {
                        Ok(channel) => {
                            let token = BearerToken::new(token.as_ref());
                            return Ok(Self { channel, token, _local: None });
                        }
                        Err(error) if error.is::<Invalid>() || error.is::<NotTrusted>() => {
                            return Err(error);
                        }
                        Err(error) => in_use(directory, pid, &error.to_string()),
                    }
                }
                (Some(Holder { pid, address: None }), _) => {
                    in_use(directory, pid, "it has not written its address")
                }
            };
            // The other process is starting, ending or answering another command.
            if begin.elapsed() >= HELD_PATIENCE {
                return Err(trouble);
            }
            tokio::time::sleep(HELD_PAUSE).await;
        }
    }

    /// Whether the coordinator runs in this process only for the time of a command. Then no worker
    /// can be connected to it.
    pub fn is_private(&self) -> bool {
        self._local.is_some()
    }

    /// The study service.
    pub fn studies(&self) -> Studies {
        StudyServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The artifact service.
    pub fn artifacts(&self) -> Artifacts {
        ArtifactServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
    }

    /// The token service.
    pub fn tokens(&self) -> Tokens {
        TokenServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
    }

    /// A study's status and its spec.
    pub async fn study(&self, name: &str) -> anyhow::Result<(v1::StudyStatus, Arc<StudySpec>)> {
        let request = v1::GetStudyRequest { study: name.to_owned() };
        let status = self.studies().get_study(request).await.map_err(from_status)?.into_inner();
        let spec = StudySpec::from_resolved(&status.resolved_study).with_context(|| {
            format!(
                "failed to read study {name} from the coordinator; does it run another version?"
            )
        })?;
        Ok((status, Arc::new(spec)))
    }
}

/// The error for a directory that another process has open without answering; `why` is the reason.
fn in_use(directory: &Path, pid: Option<u32>, why: &str) -> anyhow::Error {
    let held = DataDirError::InUse { path: directory.to_owned(), pid };
    anyhow::anyhow!("{held} ({why})")
}

/// The certificate authority to use at `address`, which comes from the data directory and not from
/// the user. It applies only to https: the user may have named it for another coordinator.
fn tls_ca_of<'a>(address: &str, options: &'a Connection) -> Option<&'a Path> {
    options.tls_ca.as_deref().filter(|_| address.starts_with("https://"))
}

/// Whether a process that has `directory` open listens at the default address.
fn is_at_default_address(directory: &Path) -> bool {
    let (_, default) = DEFAULT_COORDINATOR.split_once("://").unwrap_or_default();
    let holder = service::holder(directory).ok().flatten();
    holder.and_then(|holder| holder.address).is_some_and(|address| address.ends_with(default))
}

async fn channel(
    url: &str,
    tls_ca: Option<&Path>,
    token: Option<&AccessToken>,
) -> anyhow::Result<Channel> {
    let pem = tls_ca
        .map(|file| {
            std::fs::read(file)
                .map_err(|e| invalid(format!("failed to read {}: {e}", file.display())))
        })
        .transpose()?;
    let fingerprint = token.and_then(|token| token.fingerprint);
    let endpoint = edgesmith_worker::session::endpoint(url, pem.as_deref(), fingerprint)
        .map_err(|error| invalid(error.to_string()))?;
    let connected = endpoint.connect().await;
    connected.map_err(|error| {
        let cause = edgesmith_worker::session::reason(&error);
        if edgesmith_worker::session::is_of_tls(&error) {
            return NotTrusted { url: url.to_owned(), cause }.into();
        }
        anyhow::anyhow!(
            "no coordinator answers at {url} ({cause}); start one with `edgesmith coordinator` or \
             name another with --coordinator"
        )
    })
}

/// Something answers, but no connection to it can be trusted or understood.
#[derive(Debug, thiserror::Error)]
#[error("failed to connect to the coordinator at {url}: {cause}")]
struct NotTrusted {
    url: String,
    cause: String,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        connection: Connection,
    }

    fn address(options: &[&str], variable: &str) -> Option<String> {
        let all = ["command"].iter().chain(options);
        Command::parse_from(all).connection.address(Some(variable.to_owned()))
    }

    #[test]
    fn the_command_line_comes_before_the_environment() {
        let named = ["--coordinator", "http://a:1"];
        assert_eq!(address(&named, "http://b:2").as_deref(), Some("http://a:1"));
        assert_eq!(address(&[], "http://b:2").as_deref(), Some("http://b:2"));
        assert_eq!(address(&["--data-dir", "d"], "http://b:2"), None);
        assert_eq!(address(&[], ""), None);
    }

    #[test]
    fn an_address_and_a_directory_on_the_command_line_are_refused() {
        let both = ["command", "--coordinator", "http://a:1", "--data-dir", "d"];
        assert!(Command::try_parse_from(both).is_err());
    }
}
