//! Which coordinator answers a command: the one that was named, the one that listens at the default
//! address, the one that holds the data directory, or one started in this process on that directory
//! just for the answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use edgesmith_common::StudySpec;
use edgesmith_console::{Invalid, invalid};
use edgesmith_coordinator::service::{self, LocalCoordinator, Visibility};
use edgesmith_coordinator::store::{DataDirError, Holder};
use edgesmith_proto::v1;
use edgesmith_proto::v1::artifact_service_client::ArtifactServiceClient;
use edgesmith_proto::v1::study_service_client::StudyServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::from_status;

/// Where commands look when nothing is said.
pub const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7447";
/// Where `search` and `coordinator` keep results when nothing is said.
pub const DEFAULT_DATA_DIR: &str = "edgesmith-data";
/// For how long a directory may be another process's that does not answer, and how often that is
/// looked at.
const HELD_PATIENCE: Duration = Duration::from_secs(3);
const HELD_PAUSE: Duration = Duration::from_millis(100);
/// Largest answer: a study of 100,000 trials fits.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// Which coordinator answers.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// The coordinator's address [default: http://127.0.0.1:7447, else --data-dir]
    #[arg(long, env = "EDGESMITH_COORDINATOR", value_name = "URL", global = false)]
    pub coordinator: Option<String>,
    /// Without a coordinator running, answer from this directory [default: edgesmith-data]
    #[arg(long, value_name = "DIR", conflicts_with = "coordinator")]
    pub data_dir: Option<PathBuf>,
    /// Bearer token that the coordinator asks for
    #[arg(long, env = "EDGESMITH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// PEM file with the certificate authority of an https coordinator
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
}

/// A connection to a coordinator.
pub struct Coordinator {
    channel: Channel,
    token: Token,
    /// A coordinator in this process that lives as long as this.
    _local: Option<LocalCoordinator>,
}

/// What answers from a data directory that no process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fallback {
    /// A coordinator in this process, just for the answer.
    Private,
    /// Nobody: what is asked for takes workers, and none would ever find a private one.
    Nobody,
}

/// Client of the study service.
pub type Studies = StudyServiceClient<InterceptedService<Channel, Token>>;
/// Client of the artifact service.
pub type Artifacts = ArtifactServiceClient<InterceptedService<Channel, Token>>;

impl Coordinator {
    /// Connects as the options say; where nobody has the data directory, to a coordinator in this
    /// process.
    pub async fn connect(options: &Connection) -> anyhow::Result<Self> {
        Self::find(options, Fallback::Private).await
    }

    /// Connects as the options say to a coordinator that workers can find and that goes on when
    /// this process ends.
    pub async fn connect_to_running(options: &Connection) -> anyhow::Result<Self> {
        Self::find(options, Fallback::Nobody).await
    }

    /// Connects to a coordinator of this process.
    pub async fn connect_to_local(local: &LocalCoordinator) -> anyhow::Result<Self> {
        Ok(Self { channel: channel(local.url(), None).await?, token: Token(None), _local: None })
    }

    async fn find(options: &Connection, fallback: Fallback) -> anyhow::Result<Self> {
        let token = Token::new(options.token.as_deref())?;
        if let Some(url) = &options.coordinator {
            let channel = channel(url, options.tls_ca.as_deref()).await?;
            return Ok(Self { channel, token, _local: None });
        }
        if options.data_dir.is_none()
            && let Ok(channel) = channel(DEFAULT_COORDINATOR, None).await
        {
            return Ok(Self { channel, token, _local: None });
        }
        let directory = options.data_dir.clone().unwrap_or_else(|| DEFAULT_DATA_DIR.into());
        if !directory.is_dir() {
            let text = match options.data_dir {
                Some(_) => format!("there is no data directory {}", directory.display()),
                None => format!(
                    "no coordinator answers at {DEFAULT_COORDINATOR} and there is no directory \
                     {DEFAULT_DATA_DIR} here; start `edgesmith coordinator`, or name one with \
                     --coordinator or --data-dir"
                ),
            };
            return Err(anyhow::anyhow!(text));
        }
        Self::of_directory(&directory, options, token, fallback).await
    }

    /// Whoever has the directory; what its address file says is believed only while somebody does.
    async fn of_directory(
        directory: &Path,
        options: &Connection,
        token: Token,
        fallback: Fallback,
    ) -> anyhow::Result<Self> {
        let begin = Instant::now();
        loop {
            let trouble = match (service::holder(directory)?, fallback) {
                (None, Fallback::Nobody) => {
                    let directory = directory.display();
                    anyhow::bail!(
                        "no coordinator runs on {directory}, so nothing goes on there; start \
                         `edgesmith coordinator --data-dir {directory}` and workers, or run the \
                         study here with `edgesmith search`; `edgesmith status` says where it stands"
                    )
                }
                (None, Fallback::Private) => {
                    match LocalCoordinator::start(directory, Visibility::Private).await {
                        Ok(local) => {
                            let connected = Self::connect_to_local(&local).await?;
                            return Ok(Self { _local: Some(local), ..connected });
                        }
                        // Somebody was faster.
                        Err(error) if error.is_in_use() => error.into(),
                        Err(error) => return Err(error.into()),
                    }
                }
                (Some(Holder { pid, address: Some(address) }), _) => {
                    match channel(&address, tls_ca_of(&address, options)).await {
                        Ok(channel) => return Ok(Self { channel, token, _local: None }),
                        Err(error) if error.is::<Invalid>() => return Err(error),
                        Err(error) => in_use(directory, pid, &error.to_string()),
                    }
                }
                (Some(Holder { pid, address: None }), _) => {
                    in_use(directory, pid, "it does not say where it listens")
                }
            };
            // It is starting, or ending, or gives another command its answer.
            if begin.elapsed() >= HELD_PATIENCE {
                return Err(trouble);
            }
            tokio::time::sleep(HELD_PAUSE).await;
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

    /// A study's status and its spec.
    pub async fn study(&self, name: &str) -> anyhow::Result<(v1::StudyStatus, Arc<StudySpec>)> {
        let request = v1::GetStudyRequest { study: name.to_owned() };
        let status = self.studies().get_study(request).await.map_err(from_status)?.into_inner();
        let spec = StudySpec::from_resolved(&status.resolved_study).with_context(|| {
            format!(
                "failed to read study {name} as the coordinator holds it; is it of another version?"
            )
        })?;
        Ok((status, Arc::new(spec)))
    }
}

/// That a directory is another process's, which does not answer, and why not.
fn in_use(directory: &Path, pid: Option<u32>, why: &str) -> anyhow::Error {
    let held = DataDirError::InUse { path: directory.to_owned(), pid };
    anyhow::anyhow!("{held} ({why})")
}

/// The authority to ask for at `address`, which the data directory named and not the user: one that
/// is given may be for a coordinator that speaks TLS.
fn tls_ca_of<'a>(address: &str, options: &'a Connection) -> Option<&'a Path> {
    options.tls_ca.as_deref().filter(|_| address.starts_with("https://"))
}

async fn channel(url: &str, tls_ca: Option<&Path>) -> anyhow::Result<Channel> {
    let pem = tls_ca
        .map(|file| {
            std::fs::read(file)
                .map_err(|e| invalid(format!("failed to read {}: {e}", file.display())))
        })
        .transpose()?;
    let endpoint = edgesmith_worker::session::endpoint(url, pem.as_deref())
        .map_err(|error| invalid(error.to_string()))?;
    let connected = endpoint.connect().await;
    connected.map_err(|error| {
        let cause = root_cause(&error);
        anyhow::anyhow!(
            "no coordinator answers at {url} ({cause}); start one with `edgesmith coordinator` or \
             name another with --coordinator"
        )
    })
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Puts the bearer token on every call.
#[derive(Debug, Clone)]
pub struct Token(Option<MetadataValue<Ascii>>);

impl Token {
    fn new(token: Option<&str>) -> anyhow::Result<Self> {
        let value = token.map(|t| format!("Bearer {t}").parse()).transpose();
        Ok(Self(value.map_err(|_| invalid("the token holds characters that no header can carry"))?))
    }
}

impl Interceptor for Token {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}
