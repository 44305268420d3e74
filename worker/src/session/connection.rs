//! One channel to the coordinator that mends itself, with the token on every call, and what a failed
//! call means.

use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edgesmith_proto::v1::artifact_service_client::ArtifactServiceClient;
use edgesmith_proto::v1::worker_service_client::WorkerServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Response, Status};

use super::{SessionError, WorkerConfig};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A coordinator whose machine died says nothing; pings without an answer find out.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What every certificate in PEM begins with.
const PEM_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Client of the worker service.
pub type WorkerClient = WorkerServiceClient<InterceptedService<Channel, BearerToken>>;
/// Client of the artifact service.
pub type ArtifactClient = ArtifactServiceClient<InterceptedService<Channel, BearerToken>>;

/// The way to one coordinator. Nothing is sent before the first call; a broken connection is made
/// anew by the next one.
#[derive(Debug)]
pub struct Connection {
    address: String,
    channel: Channel,
    token: BearerToken,
    /// Whether the last try of anybody failed to reach it.
    waiting: AtomicBool,
}

impl Connection {
    /// Checks address, TLS and token.
    ///
    /// # Errors
    /// When no connection could ever come of them.
    pub fn new(config: &WorkerConfig) -> Result<Self, SessionError> {
        let address = config.coordinator.clone();
        let endpoint = endpoint(&address, config.tls_ca_pem.as_deref())?;
        let token = BearerToken::new(config.token.as_deref())?;
        let channel = endpoint.connect_lazy();
        Ok(Self { address, channel, token, waiting: AtomicBool::new(false) })
    }

    /// A client of the worker service.
    pub fn worker(&self) -> WorkerClient {
        WorkerServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
    }

    /// A client of the artifact service.
    pub fn artifacts(&self) -> ArtifactClient {
        ArtifactServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
    }

    /// Notes that a call was answered.
    pub fn note_answer(&self) {
        if self.waiting.swap(false, Ordering::Relaxed) {
            tracing::info!("the coordinator at {} answers again", self.address);
        }
    }

    /// Notes a failure that is waited out. Says so once an outage.
    pub fn note_failure(&self, status: &Status) {
        if !self.waiting.swap(true, Ordering::Relaxed) {
            let reason = describe(status);
            tracing::warn!("waiting for the coordinator at {}: {reason}", self.address);
        }
    }

    /// What `status`, the answer to any call, means for the session; `None` where waiting may help.
    pub fn final_error(&self, status: &Status) -> Option<SessionError> {
        let (address, message) = (self.address.clone(), describe(status));
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                Some(SessionError::Unauthorized { address, message })
            }
            Code::Unimplemented => Some(SessionError::Refused { address, message }),
            _ => None,
        }
    }

    /// The coordinator's refusal of this worker.
    pub fn refused(&self, status: &Status) -> SessionError {
        SessionError::Refused { address: self.address.clone(), message: describe(status) }
    }
}

/// How to reach the coordinator at `address`: an `https` one must be certified by the authority in
/// `tls_ca_pem`, or without that by one that this machine trusts. Calls on it fail when the coordinator
/// answers no ping for some seconds.
///
/// # Errors
/// When no connection could ever come of them.
pub fn endpoint(address: &str, tls_ca_pem: Option<&[u8]>) -> Result<Endpoint, SessionError> {
    let wrong = |problem: &str| SessionError::Address {
        address: address.to_owned(),
        problem: problem.to_owned(),
    };
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|_| wrong("write it as http://HOST:PORT"))?;
    let uri = endpoint.uri();
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("write it as http://HOST:PORT"));
    }
    let endpoint = match (uri.scheme_str(), tls_ca_pem) {
        (Some("http"), None) => endpoint,
        (Some("http"), Some(_)) => {
            return Err(wrong("a TLS certificate authority is given; begin it with https://"));
        }
        // The TLS library takes a file without certificates for an authority that signed nothing.
        (Some("https"), Some(pem)) if !String::from_utf8_lossy(pem).contains(PEM_CERTIFICATE) => {
            return Err(wrong(
                "the TLS certificate authority is unusable: it holds no certificate in PEM",
            ));
        }
        (Some("https"), Some(pem)) => {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint.tls_config(tls).map_err(|error| {
                wrong(&format!("the TLS certificate authority is unusable: {}", cause(&error)))
            })?
        }
        (Some("https"), None) => {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint.tls_config(tls).map_err(|error| {
                let cause = cause(&error);
                wrong(&format!(
                    "this machine's trusted certificates are unusable ({cause}); give the \
                     authority that signed the coordinator's with --tls-ca"
                ))
            })?
        }
        _ => return Err(wrong("write it as http://HOST:PORT")),
    };
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

/// A call that takes no longer than `limit`, connecting included.
///
/// # Errors
/// The call's, or `DEADLINE_EXCEEDED`.
pub async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))),
    }
}

/// What a status says to people: the innermost cause where there is one, such as "connection
/// refused", else the server's own message.
pub fn describe(status: &Status) -> String {
    match status.source() {
        Some(source) => cause(source),
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => status.message().to_owned(),
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Puts the token on every call.
#[derive(Debug, Clone)]
pub struct BearerToken(Option<MetadataValue<Ascii>>);

impl BearerToken {
    fn new(token: Option<&str>) -> Result<Self, SessionError> {
        let value = token.map(|t| format!("Bearer {t}").parse::<MetadataValue<Ascii>>());
        let mut value = value.transpose().map_err(|_| SessionError::UnusableToken)?;
        if let Some(value) = &mut value {
            // Kept out of debug output and header tables.
            value.set_sensitive(true);
        }
        Ok(Self(value))
    }
}

impl Interceptor for BearerToken {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}
