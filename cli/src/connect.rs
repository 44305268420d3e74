//! Which coordinator answers a command: the one that was named, the one that listens at the default
//! address, the one that holds the data directory, or one started in this process on that directory
//! just for the answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use edgesmith_common::StudySpec;
use edgesmith_coordinator::service::{self, ServeConfig};
use edgesmith_proto::v1;
use edgesmith_proto::v1::artifact_service_client::ArtifactServiceClient;
use edgesmith_proto::v1::study_service_client::StudyServiceClient;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::args::Connection;
use crate::failure::{from_status, invalid};

/// Where commands look when nothing is said.
pub const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7447";
/// Where `search` and `coordinator` keep results when nothing is said.
pub const DEFAULT_DATA_DIR: &str = "edgesmith-data";
/// The file in a data directory that says where its coordinator listens.
const ADDRESS_FILE: &str = "address";
/// Largest answer: a study of 100,000 trials fits.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// A connection to a coordinator.
pub struct Coordinator {
    channel: Channel,
    token: Token,
    /// A coordinator in this process that lives as long as this.
    _local: Option<LocalCoordinator>,
}

/// Client of the study service.
pub type Studies = StudyServiceClient<InterceptedService<Channel, Token>>;
/// Client of the artifact service.
pub type Artifacts = ArtifactServiceClient<InterceptedService<Channel, Token>>;

impl Coordinator {
    /// Connects as the options say.
    pub async fn connect(options: &Connection) -> anyhow::Result<Self> {
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
        // A running search or coordinator holds the directory and says where it listens.
        if let Ok(address) = std::fs::read_to_string(directory.join(ADDRESS_FILE))
            && let Ok(channel) = channel(address.trim(), tls_ca_of(address.trim(), options)).await
        {
            return Ok(Self { channel, token, _local: None });
        }
        Self::start(&directory).await
    }

    /// Starts a coordinator in this process on `directory` and connects to it.
    pub async fn start(directory: &Path) -> anyhow::Result<Self> {
        let local = LocalCoordinator::start(directory).await?;
        let channel = channel(&local.url, None).await?;
        Ok(Self { channel, token: Token(None), _local: Some(local) })
    }

    /// Where workers of this process find a coordinator started by [`Coordinator::start`].
    pub fn local_url(&self) -> Option<&str> {
        self._local.as_ref().map(|l| l.url.as_str())
    }

    /// Stops a coordinator started by [`Coordinator::start`] after it has written everything.
    pub async fn shut_down(self) -> anyhow::Result<()> {
        match self._local {
            Some(local) => local.shut_down().await,
            None => Ok(()),
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
        let spec = StudySpec::parse(&status.spec_toml).with_context(|| {
            format!(
                "failed to read study {name} as the coordinator holds it; is it of another version?"
            )
        })?;
        Ok((status, Arc::new(spec)))
    }
}

/// A coordinator in this process, on a free loopback port.
struct LocalCoordinator {
    url: String,
    address_file: PathBuf,
    stop: CancellationToken,
    task: JoinHandle<Result<(), service::ServeError>>,
}

impl LocalCoordinator {
    async fn start(directory: &Path) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("failed to open a loopback port for the coordinator")?;
        let url = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let config = ServeConfig::new(directory.to_owned()).with_ready(ready);
        let mut task =
            tokio::spawn(service::serve(config, listener, stop.clone().cancelled_owned()));
        tokio::select! {
            opened = is_ready => opened.context("failed to start the coordinator")?,
            ended = &mut task => {
                ended??;
                anyhow::bail!("the coordinator ended at once");
            }
        }
        let address_file = announce(directory, &url)?;
        Ok(Self { url, address_file, stop, task })
    }

    async fn shut_down(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        let ended = (&mut self.task).await?;
        Ok(ended?)
    }
}

impl Drop for LocalCoordinator {
    fn drop(&mut self) {
        self.stop.cancel();
        // A stale file does no harm: nobody answers there.
        let _ = std::fs::remove_file(&self.address_file);
    }
}

/// Writes down where the coordinator of `directory` listens, for commands given only the directory.
pub fn announce(directory: &Path, url: &str) -> anyhow::Result<PathBuf> {
    let file = directory.join(ADDRESS_FILE);
    std::fs::write(&file, url).with_context(|| format!("failed to write {}", file.display()))?;
    Ok(file)
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
