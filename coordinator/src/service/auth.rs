//! Checks for every call whether its token allows it. The table of who may do what is in
//! `access.rs`.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use edgesmith_common::{AccessToken, Fingerprint, TokenRole};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tower_layer::Layer;

use super::access::{self, Allowed, Entry};
use super::listener::{Occasional, Peer};
use super::throttle::Throttle;
use super::tokens::Tokens;

/// Most characters of an unknown path in its error.
const PATH_CHARS: usize = 100;

/// How long the answer to a wrong token is delayed if its address sent too many of them, and how
/// many answers may be delayed at once. Further ones are not, or else they would take memory.
const DELAY: Duration = Duration::from_secs(1);
const MOST_DELAYED: usize = 256;

/// Checks calls; clones share what they know.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

struct Inner {
    tokens: Tokens,
    /// Whether calls need a token.
    required: bool,
    /// The fingerprint that this coordinator's tokens carry.
    fingerprint: Option<Fingerprint>,
    throttle: Mutex<Throttle>,
    /// Logs calls that a role may not make.
    forbidden: Occasional,
    /// Answers to wrong tokens that are delayed.
    delayed: Arc<Semaphore>,
}

/// Why a call is not answered.
#[derive(Debug)]
struct Refused {
    status: Status,
    /// Whether to answer only after a while.
    delayed: bool,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self { status, delayed: false }
    }
}

/// What is known about a call before it is answered.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    /// Such as `/edgesmith.v1.StudyService/GetStudy`.
    path: &'a str,
    /// The header `authorization`.
    authorization: Option<&'a str>,
    peer: Peer,
}

impl Auth {
    /// Accepts `tokens`. If they are not required, all calls pass except those that manage tokens.
    pub fn new(tokens: Tokens, required: bool, fingerprint: Option<Fingerprint>) -> Self {
        Self(Arc::new(Inner {
            tokens,
            required,
            fingerprint,
            throttle: Mutex::default(),
            forbidden: Occasional::default(),
            delayed: Arc::new(Semaphore::new(MOST_DELAYED)),
        }))
    }

    fn check(&self, call: Call<'_>, now: Instant) -> Result<(), Refused> {
        if call.peer.plain_at_tls {
            return Err(Status::failed_precondition(
                "this coordinator uses TLS; write its address as https://HOST:PORT",
            )
            .into());
        }
        let entry = access::of(call.path);
        match entry.map(|entry| entry.allowed) {
            Some(Allowed::Anyone) => return Ok(()),
            Some(Allowed::Roles(_)) if !self.0.required => return Ok(()),
            None if !self.0.required => return Err(unknown(call.path).into()),
            // Which calls there are is told only to those with a token.
            Some(Allowed::Roles(_) | Allowed::Proven(_)) | None => {}
        }
        let Some(header) = call.authorization else {
            return Err(Status::unauthenticated(
                "this coordinator requires a token; give it with --token-file, EDGESMITH_TOKEN or \
                 --token",
            )
            .into());
        };
        let token = header.strip_prefix("Bearer ").map(str::parse::<AccessToken>);
        let role = match &token {
            Some(Ok(token)) => self.0.tokens.role(token),
            Some(Err(_)) | None => None,
        };
        match (role, entry) {
            (Some(_), None) => Err(unknown(call.path).into()),
            // Whoever sends wrong tokens from the same address does not lock this one out.
            (Some(role), Some(entry)) if entry.allowed.includes(role) => Ok(()),
            (Some(role), Some(entry)) => {
                let text = not_enough(role, entry);
                self.0.forbidden.info(|| match call.peer.address {
                    Some(address) => format!("refused a call from {address}: {text}"),
                    None => format!("refused a call: {text}"),
                });
                Err(Status::permission_denied(text).into())
            }
            (None, _) => {
                self.note_wrong(call.peer.address, now)?;
                let other = token.and_then(Result::ok).and_then(|token| token.fingerprint);
                Err(Status::unauthenticated(match (other, self.0.fingerprint) {
                    (Some(theirs), Some(ours)) if theirs != ours => {
                        "the token is of another coordinator; use one of this coordinator, or check \
                         the address"
                    }
                    _ => {
                        "the token is wrong or was revoked; use one that `edgesmith token new` of \
                         this coordinator printed, or the one it was started with"
                    }
                })
                .into())
            }
        }
    }

    /// Counts a wrong token. An error if its address has to wait.
    fn note_wrong(&self, address: Option<IpAddr>, now: Instant) -> Result<(), Refused> {
        let Some(address) = address else { return Ok(()) };
        let mut throttle = self.throttle();
        let wait = throttle.wait(address, now);
        let count = throttle.wrong(address, now);
        drop(throttle);
        if let Some(count) = count {
            tracing::warn!("{count} wrong token(s) came from {address}");
        }
        match wait {
            None => Ok(()),
            Some(wait) => {
                let status = Status::resource_exhausted(format!(
                    "the token is wrong or was revoked, and too many wrong ones came from \
                     {address}; use another token, or wait {:.0} s",
                    wait.as_secs_f64().ceil()
                ));
                Err(Refused { status, delayed: true })
            }
        }
    }

    fn throttle(&self) -> std::sync::MutexGuard<'_, Throttle> {
        // A poisoned one is safe to use: every update leaves it whole.
        self.0.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error for a call that does not exist. It has only the beginning of a long path.
fn unknown(path: &str) -> Status {
    let mut rest = path.chars();
    let mut shown: String = rest.by_ref().take(PATH_CHARS).collect();
    if rest.next().is_some() {
        shown.push('…');
    }
    Status::unimplemented(format!(
        "this coordinator has no call {shown}; does it run another version of edgesmith?"
    ))
}

/// The sentence for a token that is right but not enough.
fn not_enough(role: TokenRole, entry: &Entry) -> String {
    let enough = TokenRole::ALL.into_iter().filter(|role| entry.allowed.includes(*role));
    let enough: Vec<&str> = enough.map(TokenRole::name).collect();
    let what = entry.what;
    format!("a token of role {role} may not {what}; use one of role {}", enough.join(" or "))
}

impl<S> Layer<S> for Auth {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { auth: self.clone(), inner, clock: Instant::now }
    }
}

/// A service that answers only allowed calls.
#[derive(Clone)]
pub struct Guarded<S> {
    auth: Auth,
    inner: S,
    clock: fn() -> Instant,
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let header = request.headers().get(http::header::AUTHORIZATION);
        let call = Call {
            path: request.uri().path(),
            authorization: header.map(|header| header.to_str().unwrap_or_default()),
            peer: request.extensions().get::<Peer>().copied().unwrap_or_default(),
        };
        match self.auth.check(call, (self.clock)()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(Refused { status, delayed }) => {
                let waiting = Arc::clone(&self.auth.0.delayed).try_acquire_owned().ok();
                let waiting = waiting.filter(|_| delayed);
                Box::pin(async move {
                    if waiting.is_some() {
                        tokio::time::sleep(DELAY).await;
                    }
                    Ok(status.into_http())
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::super::log::tests::logged;
    use super::*;

    const VIEW: &str = "/edgesmith.v1.StudyService/ListStudies";
    const TOKENS: &str = "/edgesmith.v1.TokenService/ListTokens";

    fn code(auth: &Auth, path: &str, authorization: Option<&str>) -> Option<tonic::Code> {
        let peer = Peer { address: Some([10, 0, 0, 1].into()), ..Peer::default() };
        let call = Call { path, authorization, peer };
        auth.check(call, Instant::now()).err().map(|refused| refused.status.code())
    }

    fn auth(required: bool) -> Auth {
        let chosen = "secret".parse().unwrap();
        Auth::new(Tokens::in_memory(Some(&chosen)), required, None)
    }

    #[test]
    fn only_the_token_passes() {
        let auth = auth(true);
        assert_eq!(code(&auth, VIEW, Some("Bearer secret")), None);
        assert_eq!(code(&auth, TOKENS, Some("Bearer secret")), None);
        for header in [None, Some("Bearer wrong"), Some("secret"), Some("Bearer ")] {
            assert_eq!(code(&auth, VIEW, header), Some(tonic::Code::Unauthenticated), "{header:?}");
        }
        assert_eq!(code(&auth, "/grpc.health.v1.Health/Check", None), None);
        let unknown = code(&auth, "/edgesmith.v1.StudyService/Nothing", Some("Bearer secret"));
        assert_eq!(unknown, Some(tonic::Code::Unimplemented));
        for header in [None, Some("Bearer wrong")] {
            let unknown = code(&auth, "/edgesmith.v1.StudyService/Nothing", header);
            assert_eq!(unknown, Some(tonic::Code::Unauthenticated), "{header:?}");
        }
    }

    #[test]
    fn without_required_tokens_only_managing_them_needs_one() {
        let auth = auth(false);
        assert_eq!(code(&auth, VIEW, None), None);
        assert_eq!(code(&auth, VIEW, Some("Bearer wrong")), None);
        assert_eq!(code(&auth, TOKENS, None), Some(tonic::Code::Unauthenticated));
        assert_eq!(code(&auth, TOKENS, Some("Bearer secret")), None);
    }

    #[test]
    fn wrong_tokens_have_to_wait_and_the_right_one_never_does() {
        let auth = auth(true);
        for _ in 0..20 {
            let wrong = code(&auth, VIEW, Some("Bearer wrong"));
            assert_eq!(wrong, Some(tonic::Code::Unauthenticated));
        }
        for _ in 0..100 {
            let wrong = code(&auth, VIEW, Some("Bearer wrong"));
            assert_eq!(wrong, Some(tonic::Code::ResourceExhausted));
            assert_eq!(code(&auth, VIEW, Some("Bearer secret")), None);
        }
    }

    /// A service that answers everything.
    #[derive(Clone)]
    struct Answers;

    impl Service<http::Request<Body>> for Answers {
        type Response = http::Response<Body>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            std::future::ready(Ok(http::Response::new(Body::empty())))
        }
    }

    #[tokio::test]
    async fn after_a_burst_answers_to_wrong_tokens_are_delayed_and_those_to_right_ones_are_not() {
        /// No time passes, however slow the machine is.
        fn stopped() -> Instant {
            static START: OnceLock<Instant> = OnceLock::new();
            *START.get_or_init(Instant::now)
        }
        let mut guarded = Guarded { clock: stopped, ..auth(true).layer(Answers) };
        let mut answer = |token: &str| {
            let mut request = http::Request::new(Body::empty());
            *request.uri_mut() = VIEW.parse().unwrap();
            let header = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert(http::header::AUTHORIZATION, header);
            let address = Some([10, 0, 0, 1].into());
            request.extensions_mut().insert(Peer { address, ..Peer::default() });
            guarded.call(request)
        };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..20 {
            assert!(answer("wrong").as_mut().poll(&mut cx).is_ready());
        }
        let mut delayed = Vec::new();
        for _ in 0..MOST_DELAYED {
            delayed.push(answer("wrong"));
            assert!(delayed.last_mut().unwrap().as_mut().poll(&mut cx).is_pending());
        }
        assert!(answer("secret").as_mut().poll(&mut cx).is_ready());
        assert!(answer("wrong").as_mut().poll(&mut cx).is_ready());
        let Ok(refused) = delayed.remove(0).await;
        assert_eq!(refused.headers()["grpc-status"], "8");
        assert!(answer("wrong").as_mut().poll(&mut cx).is_pending());
    }

    #[test]
    fn calls_that_a_role_may_not_make_are_logged_now_and_then() {
        let directory = tempfile::tempdir().unwrap();
        let files = crate::store::AccessFiles::new(directory.path());
        let tokens = Tokens::open(files, None, false).unwrap();
        let (token, _) = tokens.create(TokenRole::Viewer, "", 0).unwrap();
        let auth = Auth::new(tokens, true, None);
        let header = format!("Bearer {token}");
        let lines = logged(|| {
            for _ in 0..10 {
                let refused = code(&auth, TOKENS, Some(&header));
                assert_eq!(refused, Some(tonic::Code::PermissionDenied));
            }
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("INFO refused a call from 10.0.0.1"), "{lines:?}");
    }

    #[test]
    fn a_role_that_is_not_enough_is_told_what_it_may_not_do() {
        let entry = access::of("/edgesmith.v1.StudyService/SubmitStudy").unwrap();
        let text = not_enough(TokenRole::Viewer, entry);
        let expected =
            "a token of role viewer may not submit studies; use one of role user or admin";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_error_for_an_unknown_call_has_only_the_beginning_of_its_path() {
        let path = format!("/{}", "ä".repeat(5000));
        let call = Call { path: &path, authorization: None, peer: Peer::default() };
        let refused = auth(false).check(call, Instant::now()).unwrap_err().status;
        assert_eq!(refused.code(), tonic::Code::Unimplemented);
        assert!(refused.message().contains("ä…;"), "{refused}");
        assert!(refused.message().chars().count() < 200, "{refused}");
    }

    #[test]
    fn plain_connections_to_a_tls_port_are_told_to_use_https() {
        let peer = Peer { plain_at_tls: true, ..Peer::default() };
        let call = Call { path: VIEW, authorization: Some("Bearer secret"), peer };
        let refused = auth(true).check(call, Instant::now()).unwrap_err().status;
        assert!(refused.message().contains("https://"), "{refused}");
    }
}
