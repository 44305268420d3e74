//! One channel to the coordinator that reconnects by itself, with the token on every call. It also
//! decides what a failed call means for the session.

use std::error::Error as _;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edgesmith_common::{AccessToken, COORDINATOR_NAME, Fingerprint};
use edgesmith_proto::v1::artifact_service_client::ArtifactServiceClient;
use edgesmith_proto::v1::worker_service_client::WorkerServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Response, Status};

use super::trust::{PinnedAuthority, reason};
use super::{SessionError, WorkerConfig};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval and timeout of pings. They detect a coordinator whose machine has failed without
/// closing the connection. An answer may take some seconds, where others fill a slow connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Words for a connection that ended without a reason.
const CLOSED: &str = "the other side closed the connection";
/// The first line of every certificate in PEM.
const PEM_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Client of the worker service.
pub type WorkerClient = WorkerServiceClient<InterceptedService<Channel, BearerToken>>;
/// Client of the artifact service.
pub type ArtifactClient = ArtifactServiceClient<InterceptedService<Channel, BearerToken>>;

/// The connection to one coordinator. It is opened by the first call, and opened again by the next
/// call after it broke.
#[derive(Debug)]
pub struct Connection {
    address: String,
    channel: Channel,
    token: BearerToken,
    /// Whether the last call, of whatever loop, failed.
    waiting: AtomicBool,
    /// Whether any call has been answered.
    answered: AtomicBool,
    /// Whether the coordinator hands out no tasks for now.
    without_tasks: AtomicBool,
    /// Whether it refused the last artifact for now.
    without_artifacts: AtomicBool,
}

impl Connection {
    /// Checks the address and TLS.
    ///
    /// # Errors
    /// When no connection is possible with them.
    pub fn new(config: &WorkerConfig) -> Result<Self, SessionError> {
        let address = config.coordinator.clone();
        let fingerprint = config.token.as_ref().and_then(|token| token.fingerprint);
        let endpoint = endpoint(&address, config.tls_ca_pem.as_deref(), fingerprint)?;
        let token = BearerToken::new(config.token.as_ref());
        let channel = endpoint.connect_lazy();
        let [waiting, answered, without_tasks, without_artifacts] = [false; 4].map(AtomicBool::new);
        Ok(Self { address, channel, token, waiting, answered, without_tasks, without_artifacts })
    }

    /// A client of the worker service.
    pub fn worker(&self) -> WorkerClient {
        WorkerServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
    }

    /// A client of the artifact service.
    pub fn artifacts(&self) -> ArtifactClient {
        ArtifactServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
    }

    /// Records that a call was answered.
    pub fn note_answer(&self) {
        let again = if self.answered.swap(true, Ordering::Relaxed) { "again " } else { "" };
        if self.waiting.swap(false, Ordering::Relaxed) {
            // As loud as the message that it was lost.
            tracing::warn!("connected {again}to the coordinator at {}", self.address);
        }
    }

    /// Records a failure that the session waits out. It is logged once per outage.
    pub fn note_failure(&self, status: &Status) {
        if !self.waiting.swap(true, Ordering::Relaxed) {
            let (address, reason) = (&self.address, describe(status));
            // Before the first answer, there is nothing that could go on.
            let end = if self.answered.load(Ordering::Relaxed) {
                "; running tasks go on, and this worker connects again"
            } else {
                ""
            };
            tracing::warn!("waiting for the coordinator at {address}: {reason}{end}");
        }
    }

    /// Records why the coordinator hands out no tasks for now; empty if it does. It is logged when
    /// that begins and when it ends.
    pub fn note_waits(&self, waits: &str) {
        let (address, begins) = (&self.address, !waits.is_empty());
        if self.without_tasks.swap(begins, Ordering::Relaxed) == begins {
            return;
        }
        if begins {
            tracing::warn!("the coordinator at {address} hands out no tasks: {waits}");
        } else {
            tracing::warn!("the coordinator at {address} hands out tasks again");
        }
    }

    /// Records that the coordinator refuses an artifact for now. It answers other calls meanwhile,
    /// so this is no outage. Logged when it begins.
    pub fn note_refusal(&self, status: &Status) {
        if !self.without_artifacts.swap(true, Ordering::Relaxed) {
            let (address, reason) = (&self.address, describe(status));
            tracing::warn!(
                "the coordinator at {address} transfers no artifacts for now: {reason}; they are \
                 kept, and tried again"
            );
        }
    }

    /// Records that an artifact was transferred.
    pub fn note_transfer(&self) {
        self.note_answer();
        if self.without_artifacts.swap(false, Ordering::Relaxed) {
            tracing::warn!("the coordinator at {} transfers artifacts again", self.address);
        }
    }

    /// The session error that `status` means, for an answer to any call; `None` if waiting may
    /// help.
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

    /// The error for a coordinator that refuses this worker.
    pub fn refused(&self, status: &Status) -> SessionError {
        SessionError::Refused { address: self.address.clone(), message: describe(status) }
    }
}

/// The endpoint of the coordinator at `address`. The certificate of an `https` coordinator must be
/// signed by the authority in `tls_ca_pem` or, without one, by the one with `fingerprint` or,
/// without that too, by an authority that this machine trusts. Calls fail if the coordinator does
/// not answer pings for some seconds.
///
/// # Errors
/// When no connection is possible with them.
pub fn endpoint(
    address: &str,
    tls_ca_pem: Option<&[u8]>,
    fingerprint: Option<Fingerprint>,
) -> Result<Endpoint, SessionError> {
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
        // On one machine, the token stays there.
        (Some("http"), None) if fingerprint.is_some() && !is_loopback(uri.host()) => {
            return Err(wrong(
                "the token is of a coordinator that uses TLS; write it as https://HOST:PORT",
            ));
        }
        (Some("http"), None) => endpoint,
        (Some("http"), Some(_)) => {
            return Err(wrong(
                "a TLS certificate authority needs an address that begins with https://",
            ));
        }
        // The TLS library accepts a file without certificates as an authority that has signed
        // nothing.
        (Some("https"), Some(pem)) if !String::from_utf8_lossy(pem).contains(PEM_CERTIFICATE) => {
            return Err(wrong(
                "the TLS certificate authority is unusable: the file has no certificate in PEM format",
            ));
        }
        (Some("https"), Some(pem)) => {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint.tls_config(tls).map_err(|error| {
                wrong(&format!("the TLS certificate authority is unusable: {}", reason(&error)))
            })?
        }
        (Some("https"), None) if let Some(fingerprint) = fingerprint => {
            let tls = ClientTlsConfig::new().domain_name(COORDINATOR_NAME);
            let verifier = Arc::new(PinnedAuthority::new(fingerprint));
            endpoint
                .tls_config_with_verifier(tls, verifier)
                .map_err(|error| wrong(&format!("TLS is unusable: {}", reason(&error))))?
        }
        (Some("https"), None) => {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint.tls_config(tls).map_err(|error| {
                let cause = reason(&error);
                wrong(&format!(
                    "this machine's trusted certificates are unusable ({cause}); name the \
                     authority that signed the coordinator's certificate with --tls-ca"
                ))
            })?
        }
        _ => return Err(wrong("write it as http://HOST:PORT")),
    };
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        // A large window would fill a slow connection with a download, and hold up the answers to
        // everything else. This one grows with what the connection carries.
        .http2_adaptive_window(true))
}

/// Waits for a call for at most `limit`, including the time to connect.
///
/// # Errors
/// The error of the call, or `DEADLINE_EXCEEDED`.
pub async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => {
            Err(Status::deadline_exceeded(format!("no answer within {} s", limit.as_secs_f64())))
        }
    }
}

/// The text of a status for people: the innermost cause if there is one, such as "connection
/// refused", else the server's message.
pub fn describe(status: &Status) -> String {
    match status.source() {
        Some(source) => {
            let reason = reason(source);
            // The TLS library names a page of its manual. All that it means by that is an end of
            // the connection without a goodbye, as when a coordinator is killed.
            if reason.contains("://") { CLOSED.to_owned() } else { reason }
        }
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => status.message().to_owned(),
    }
}

fn is_loopback(host: Option<&str>) -> bool {
    let host = host.unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Adds the token to every call.
#[derive(Debug, Clone)]
pub struct BearerToken(Option<MetadataValue<Ascii>>);

impl BearerToken {
    /// Sends `token`, or none.
    pub fn new(token: Option<&AccessToken>) -> Self {
        // A token has only characters that a header may have.
        let value = token.and_then(|t| format!("Bearer {t}").parse::<MetadataValue<Ascii>>().ok());
        Self(value.map(|mut value| {
            // Keeps the token out of debug output and header tables.
            value.set_sensitive(true);
            value
        }))
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

#[cfg(test)]
mod tests {
    use std::fmt::{self, Write as _};
    use std::sync::Mutex;

    use tracing::field::{Field, Visit};
    use tracing::span;

    use super::*;
    use crate::session::fake::config;

    /// Keeps the messages that are logged at the level of warnings, which a worker shows.
    #[derive(Default)]
    struct Warnings(Arc<Mutex<String>>);

    struct Text<'a>(&'a mut String);

    impl Visit for Text<'_> {
        fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
            writeln!(self.0, "{value:?}").unwrap();
        }
    }

    impl tracing::Subscriber for Warnings {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() == tracing::Level::WARN
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut Text(&mut self.0.lock().unwrap()));
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn a_lost_connection_is_told_without_the_librarys_manual() {
        // What the TLS library says of a coordinator that was killed.
        let text =
            "peer closed connection without sending TLS close_notify: https://docs.rs/rustls";
        let lost = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, text);
        assert_eq!(describe(&Status::from_error(Box::new(lost))), CLOSED);
        let refused = std::io::Error::other("connection refused");
        assert_eq!(describe(&Status::from_error(Box::new(refused))), "connection refused");
    }

    #[tokio::test]
    async fn an_outage_and_its_end_are_told_once_each() {
        let warnings = Warnings::default();
        let said = Arc::clone(&warnings.0);
        let connection = Connection::new(&config("http://127.0.0.1:9".to_owned())).unwrap();
        tracing::subscriber::with_default(warnings, || {
            for _ in 0..2 {
                (0..2).for_each(|_| connection.note_failure(&Status::unavailable("gone")));
                (0..2).for_each(|_| connection.note_answer());
            }
        });
        let text = "waiting for the coordinator at http://127.0.0.1:9: gone\n\
                    connected to the coordinator at http://127.0.0.1:9\n\
                    waiting for the coordinator at http://127.0.0.1:9: gone; running tasks go on, \
                    and this worker connects again\n\
                    connected again to the coordinator at http://127.0.0.1:9\n";
        assert_eq!(*said.lock().unwrap(), text);
    }

    #[tokio::test]
    async fn a_coordinator_without_room_and_the_end_of_that_are_told_once_each() {
        let warnings = Warnings::default();
        let said = Arc::clone(&warnings.0);
        let connection = Connection::new(&config("http://127.0.0.1:9".to_owned())).unwrap();
        tracing::subscriber::with_default(warnings, || {
            for waits in ["", "only 12 MiB are free", "only 11 MiB are free", "", ""] {
                connection.note_waits(waits);
            }
            for _ in 0..2 {
                connection.note_refusal(&Status::unavailable("no room"));
                // Such as a heartbeat.
                connection.note_answer();
            }
            (0..2).for_each(|_| connection.note_transfer());
        });
        let text = "the coordinator at http://127.0.0.1:9 hands out no tasks: only 12 MiB are \
                    free\nthe coordinator at http://127.0.0.1:9 hands out tasks again\n\
                    the coordinator at http://127.0.0.1:9 transfers no artifacts for now: no \
                    room; they are kept, and tried again\n\
                    the coordinator at http://127.0.0.1:9 transfers artifacts again\n";
        assert_eq!(*said.lock().unwrap(), text);
    }
}
