//! Finds the coordinator that answers a command. In this order: the one that the options or the
//! environment name; that of the data directory, if there is one in the current directory; the one
//! that listens at the default address. A data directory's coordinator is the process that has it
//! open, or one that is started in this process for the time of the command.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use edgesmith_common::{AccessToken, StudySpec, quoted};
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

use crate::TokenOptions;

/// The address that commands try if the user names none and no data directory is here.
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
/// What comes before the fault of a certificate if it may be only for lack of a token.
const NO_TOKEN: &str = "no token was given (--token-file, EDGESMITH_TOKEN or --token)";
/// Size limit of an answer. A study of 100,000 trials fits.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// Options that say which coordinator answers.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// The coordinator's address
    // Not clap's `env`: for clap, a value of the environment is in conflict with `--data-dir`.
    #[arg(long, value_name = "URL", help = format!(
        "The coordinator's address [default: {ADDRESS_VARIABLE} of the environment, else the \
         directory {DEFAULT_DATA_DIR} if it exists here, else {DEFAULT_COORDINATOR}]"
    ))]
    pub coordinator: Option<String>,
    /// Answer from this directory, or from the coordinator that has it open [default:
    /// edgesmith-data, if it exists here and no address is named]
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
    /// Where to look, given the environment variable with the address and whether the current
    /// directory has a data directory.
    fn place(&self, variable: Option<String>, data_is_here: bool) -> Place {
        let variable = variable.filter(|url| !url.is_empty());
        match (&self.coordinator, &self.data_dir, variable) {
            (Some(url), _, _) => Place::Address(url.clone()),
            (None, Some(directory), _) => Place::Directory(directory.clone()),
            (None, None, Some(url)) => Place::Address(url),
            // Its studies are the ones meant here. Another coordinator may have some of the same
            // names, and a command could change or delete those.
            (None, None, None) if data_is_here => Place::Directory(DEFAULT_DATA_DIR.into()),
            (None, None, None) => Place::DefaultAddress,
        }
    }
}

/// Where to look for the coordinator.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// At this address, which the user named.
    Address(String),
    /// In this data directory.
    Directory(PathBuf),
    /// At the default address, because nothing was named and no data directory is here.
    DefaultAddress,
}

/// A connection to a coordinator.
pub struct Coordinator {
    channel: Channel,
    token: BearerToken,
    address: Address,
    /// A coordinator in this process. It ends when this connection is dropped.
    _local: Option<LocalCoordinator>,
}

/// Where a coordinator is.
enum Address {
    /// There, as the user or the data directory said.
    Named(String),
    /// There, because nothing was named.
    Default(String),
    /// In this process.
    Here,
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
        let address = Address::Named(local.url().to_owned());
        Ok(Self { channel, token, address, _local: None })
    }

    async fn find(options: &Connection, fallback: Fallback) -> anyhow::Result<Self> {
        let variable = std::env::var(ADDRESS_VARIABLE).ok();
        match options.place(variable, Path::new(DEFAULT_DATA_DIR).is_dir()) {
            Place::Address(url) => {
                let token = options.token.read()?;
                let channel = channel(&url, options.tls_ca.as_deref(), token.as_ref()).await?;
                let token = BearerToken::new(token.as_ref());
                Ok(Self { channel, token, address: Address::Named(url), _local: None })
            }
            Place::Directory(directory) if !directory.is_dir() => {
                let directory = directory.display();
                Err(anyhow::anyhow!("the data directory {directory} does not exist"))
            }
            Place::Directory(directory) => Self::of_directory(&directory, options, fallback).await,
            Place::DefaultAddress => Self::at_default(DEFAULT_COORDINATOR, options).await,
        }
    }

    /// Connects to `url`, the address that the user did not choose.
    async fn at_default(url: &str, options: &Connection) -> anyhow::Result<Self> {
        let token = options.token.read()?;
        let Ok(channel) = channel(url, None, token.as_ref()).await else {
            anyhow::bail!(
                "no coordinator answers at {url} and the directory {DEFAULT_DATA_DIR} does not \
                 exist here; start `edgesmith coordinator`, or name one with --coordinator or \
                 --data-dir"
            );
        };
        let token = BearerToken::new(token.as_ref());
        let address = Address::Default(url.to_owned());
        let found = Self { channel, token, address, _local: None };
        // A coordinator with TLS says so to a plain call, but without its address, and it does not
        // know that the user has named none.
        let nothing = v1::GetStudyRequest { study: String::new() };
        match found.studies().get_study(nothing).await {
            Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                let https = url.replace("http://", "https://");
                Err(anyhow::anyhow!(
                    "the coordinator at {url}, the default address, uses TLS; name it with \
                     --coordinator {https} and a token of it, or name its directory with --data-dir"
                ))
            }
            Err(status) if status.code() == tonic::Code::Unauthenticated => {
                Err(found.refused(status))
            }
            Ok(_) | Err(_) => Ok(found),
        }
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
                    let elsewhere = match options.data_dir {
                        Some(_) => "",
                        None => "; to use a coordinator elsewhere, name it with --coordinator",
                    };
                    anyhow::bail!(
                        "no coordinator runs on {}, so its studies do not continue; start \
                         `edgesmith coordinator --data-dir {}` and workers, or run the \
                         study here with `edgesmith search`; `edgesmith status` shows its \
                         state{elsewhere}",
                        directory.display(),
                        quoted(directory)
                    )
                }
                (None, Fallback::Private) => {
                    match LocalCoordinator::start(directory, Visibility::Private).await {
                        Ok(local) => {
                            let connected = Self::connect_to_local(&local).await?;
                            // Tokens can be managed only with the directory's own token.
                            let token =
                                BearerToken::new(service::local_token(directory, true).as_ref());
                            let (address, _local) = (Address::Here, Some(local));
                            return Ok(Self { token, address, _local, ..connected });
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
                            let address = Address::Named(address);
                            return Ok(Self { channel, token, address, _local: None });
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

    /// The error message of an answer. It names the address if that was not chosen, because the
    /// user may have meant another coordinator.
    pub fn refused(&self, status: tonic::Status) -> anyhow::Error {
        let error = self.failed(status);
        match &self.address {
            Address::Default(_) => error.context(format!("the coordinator {}", self.place())),
            Address::Named(_) | Address::Here => error,
        }
    }

    /// Where it is, in words that follow "the coordinator".
    pub(crate) fn place(&self) -> String {
        match &self.address {
            Address::Named(url) => format!("at {url}"),
            Address::Default(url) => format!("at {url}, the default address"),
            Address::Here => "in this process".to_owned(),
        }
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
        let status = self.query(self.studies().get_study(request)).await?;
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
        let mut cause = edgesmith_worker::session::reason(&error);
        if edgesmith_worker::session::is_of_tls(&error) {
            // Most certificates are of the coordinator's own authority, which only a token names.
            if token.is_none() && tls_ca.is_none() && cause.contains("token") {
                cause = format!("{NO_TOKEN}; {cause}");
            }
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

    fn options(options: &[&str]) -> Connection {
        Command::parse_from(["command"].iter().chain(options)).connection
    }

    #[test]
    fn what_is_named_comes_before_the_data_here_and_these_before_the_default_address() {
        let place = |given: &[&str], variable: &str, data_is_here| {
            options(given).place(Some(variable.to_owned()), data_is_here)
        };
        let (a, b) = ("http://a:1".to_owned(), "http://b:2");
        for here in [false, true] {
            assert_eq!(place(&["--coordinator", &a], b, here), Place::Address(a.clone()));
            assert_eq!(place(&[], b, here), Place::Address(b.to_owned()));
            assert_eq!(place(&["--data-dir", "d"], b, here), Place::Directory("d".into()));
        }
        assert_eq!(place(&[], "", true), Place::Directory(DEFAULT_DATA_DIR.into()));
        assert_eq!(place(&[], "", false), Place::DefaultAddress);
    }

    #[tokio::test]
    async fn a_default_address_with_tls_is_told_with_the_ways_on() {
        let (port, _server) = serve(|config| config.tls = Some(service::Tls::Own)).await;
        let url = format!("http://127.0.0.1:{port}");
        let Err(refused) = Coordinator::at_default(&url, &options(&[])).await else {
            panic!("it was taken")
        };
        let said = refused.to_string();
        assert!(said.contains(&format!("at {url}, the default address, uses TLS")), "{said}");
        let ways = format!("--coordinator https://127.0.0.1:{port} and");
        assert!(said.contains(&ways) && said.contains("--data-dir"), "{said}");

        // With its address and without a token, the lack of one comes before the certificate.
        let https = format!("https://127.0.0.1:{port}");
        let said = channel(&https, None, None).await.unwrap_err().to_string();
        assert!(said.contains(&format!("{https}: {NO_TOKEN}; its certificate")), "{said}");
        let other = "es1.".to_owned() + &"0".repeat(64) + ".secret";
        let said = channel(&https, None, Some(&other.parse().unwrap())).await.unwrap_err();
        assert!(!said.to_string().contains(NO_TOKEN), "{said}");
    }

    #[tokio::test]
    async fn a_refusal_at_the_default_address_names_it() {
        let (port, _server) = serve(|_| {}).await;
        let url = format!("http://127.0.0.1:{port}");
        let open = Coordinator::at_default(&url, &options(&[])).await.unwrap();
        // Tokens are never managed without one.
        let refused = open.tokens().list_tokens(v1::ListTokensRequest {}).await.unwrap_err();
        let said = format!("{:#}", open.refused(refused));
        assert!(said.starts_with(&format!("the coordinator at {url}, the default address: ")));
    }

    /// Starts a coordinator, and returns its port. It ends with the test.
    async fn serve(change: impl FnOnce(&mut service::ServeConfig)) -> (u16, impl Sized) {
        let directory = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let mut config = service::ServeConfig::new(directory.path().to_owned()).with_ready(ready);
        change(&mut config);
        let server = tokio::spawn(service::serve(config, listener, std::future::pending()));
        is_ready.await.unwrap();
        (port, (server, directory))
    }

    #[test]
    fn an_address_and_a_directory_on_the_command_line_are_refused() {
        let both = ["command", "--coordinator", "http://a:1", "--data-dir", "d"];
        assert!(Command::try_parse_from(both).is_err());
    }
}
