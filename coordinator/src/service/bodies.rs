//! Bounds the bodies of all requests and answers: how long a request may take to arrive, and how
//! much of requests and answers is held. The books are in `held.rs`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http_body::Frame;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as _, Bytes, Service, http};
use tower_layer::Layer;

use super::held::{Call, Held, Next};
use super::listener::Peer;

/// How long a request may take to arrive. Uploads have a limit of their own.
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// Most bytes of an upload that are held at once: a chunk.
pub const UPLOAD_BYTES: usize = (1 << 20) + (1 << 10);
const RESUME: &str = "/edgesmith.v1.ArtifactService/ResumeUpload";
const UPLOADS: [&str; 2] = ["/edgesmith.v1.ArtifactService/UploadArtifact", RESUME];
/// The calls whose answers have many messages, besides those below.
const STREAMS: [&str; 2] = ["/edgesmith.v1.ArtifactService/DownloadArtifact", RESUME];
/// The calls that follow something, or answer one question after the other. They may stay open for
/// long: following a study until it ends, and following the health for as long as the client wants.
/// Reflection ends when the time for a request is over.
const WATCHES: [&str; 3] = [
    "/edgesmith.v1.StudyService/WatchStudy",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// Bounds the bodies of every call.
#[derive(Debug, Clone)]
pub struct Bounded {
    /// The books of what calls hold.
    pub held: Held,
    /// How long a request may take to arrive.
    pub request_time: Duration,
}

impl Default for Bounded {
    fn default() -> Self {
        Self { held: Held::default(), request_time: REQUEST_TIME }
    }
}

impl<S> Layer<S> for Bounded {
    type Service = BoundedService<S>;

    fn layer(&self, inner: S) -> BoundedService<S> {
        BoundedService { bounded: self.clone(), inner }
    }
}

/// A service whose bodies are bounded.
#[derive(Clone)]
pub struct BoundedService<S> {
    bounded: Bounded,
    inner: S,
}

impl<S> Service<http::Request<Body>> for BoundedService<S>
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
        let line = request.extensions().get::<Peer>().map_or(0, |peer| peer.line);
        let path = request.uri().path();
        let (watches, uploads) = (WATCHES.contains(&path), UPLOADS.contains(&path));
        let streams = watches || STREAMS.contains(&path);
        let call = match self.bounded.held.begin(line, watches, Instant::now()) {
            Ok(call) => call,
            Err(refused) => return Box::pin(std::future::ready(Ok(refused.into_http()))),
        };
        let arriving = Arc::clone(&call);
        let (most, time) = if uploads {
            (UPLOAD_BYTES, None)
        } else {
            (usize::MAX, Some(self.bounded.request_time))
        };
        let request = request.map(|body| {
            let until = time.map(|time| (Box::pin(tokio::time::sleep(time)), time));
            Body::new(Arriving {
                inner: body,
                call: arriving,
                held: 0,
                most,
                awaited: false,
                until,
            })
        });
        let answered = self.inner.call(request);
        Box::pin(async move {
            let response = answered.await?;
            let (head, body) = response.into_parts();
            Ok(match Leaving::begin(body, call, streams).await {
                Ok(body) => http::Response::from_parts(head, body),
                Err(refused) => refused.into_http(),
            })
        })
    }
}

/// The body of a request. What was received counts until the body is dropped, because a message is
/// collected until it is complete.
struct Arriving {
    inner: Body,
    call: Arc<Call>,
    /// Bytes that count.
    held: usize,
    /// Most bytes that count.
    most: usize,
    /// Whether the coordinator waits for the client to send more.
    awaited: bool,
    /// When all of it must have come, and how long that is after its beginning.
    until: Option<(Pin<Box<Sleep>>, Duration)>,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some((until, time)) = &mut this.until
            && until.as_mut().poll(cx).is_ready()
        {
            let seconds = time.as_secs();
            this.call.warn_late(*time);
            return Poll::Ready(Some(Err(Status::deadline_exceeded(format!(
                "the request did not arrive as a whole within {seconds} seconds; send it again"
            )))));
        }
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if this.awaited != polled.is_pending() {
            this.awaited = polled.is_pending();
            this.call.receives(this.awaited, Instant::now());
        }
        let frame = ready!(polled);
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let more = data.len().min(this.most - this.held);
            if let Err(refused) = this.call.received(more, Instant::now()) {
                return Poll::Ready(Some(Err(refused)));
            }
            this.held += more;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.call.read(self.held);
    }
}

/// The body of an answer. It is handed to the connection in small pieces. What the connection has
/// not written counts, even if this body has ended.
struct Leaving {
    inner: Body,
    call: Arc<Call>,
    /// Frames that follow after what was given to the books.
    next: VecDeque<Frame<Bytes>>,
    over: bool,
}

impl Leaving {
    /// Takes the first part of the answer at once if it is there. So it counts before its headers
    /// are sent, and the connection cannot leave it where nobody counts it. Unless the answer
    /// `streams`, that is all of it, and what made it is dropped with its buffers.
    async fn begin(inner: Body, call: Arc<Call>, streams: bool) -> Result<Body, Status> {
        if inner.is_end_stream() {
            return Ok(inner);
        }
        let mut leaving = Self { inner, call, next: VecDeque::new(), over: false };
        match leaving.poll_once().await {
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    leaving.call.answer(exact(&data), Instant::now())?;
                    if !streams && let Some(Some(Ok(frame))) = leaving.poll_once().await {
                        leaving.next.push_back(frame);
                        leaving.inner = Body::empty();
                    }
                }
                Err(frame) => leaving.next.push_back(frame),
            },
            Some(Some(Err(status))) => return Err(status),
            Some(None) => leaving.over = true,
            None => {}
        }
        Ok(Body::new(leaving))
    }

    /// The next frame of the answer if it is there; within, `None` is its end.
    async fn poll_once(&mut self) -> Option<Option<Result<Frame<Bytes>, Status>>> {
        let poll = std::future::poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(frame) => Some(frame),
                Poll::Pending => None,
            })
        });
        poll.await
    }

    /// Ends the answer with an error.
    fn fail(&mut self, status: &Status) -> Frame<Bytes> {
        self.over = true;
        // What follows is not wanted any more, and may hold memory.
        (self.inner, self.next) = (Body::empty(), VecDeque::new());
        let mut trailers = http::HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", http::HeaderValue::from_static("13"));
        }
        Frame::trailers(trailers)
    }
}

/// A copy that holds no more memory than it counts: a buffer that has grown may be twice as large.
fn exact(data: &[u8]) -> Bytes {
    Bytes::copy_from_slice(data)
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            if this.over {
                return Poll::Ready(None);
            }
            match this.call.next() {
                Next::Piece(piece) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Next::GivenUp(after) => {
                    let status = Status::deadline_exceeded(format!(
                        "the answer was given up, because nothing of it was read for {} seconds; \
                         ask again",
                        after.as_secs()
                    ));
                    return Poll::Ready(Some(Ok(this.fail(&status))));
                }
                Next::Nothing => {}
            }
            if let Some(frame) = this.next.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            let Some(frame) = ready!(Pin::new(&mut this.inner).poll_frame(cx)) else {
                this.over = true;
                continue;
            };
            match frame?.into_data() {
                Ok(data) => {
                    if let Err(refused) = this.call.answer(exact(&data), Instant::now()) {
                        return Poll::Ready(Some(Ok(this.fail(&refused))));
                    }
                }
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::Bounds;
    use super::*;

    const KIB: usize = 1024;

    /// A body with one frame, after which nothing comes.
    struct Withheld(Option<Bytes>);

    impl http_body::Body for Withheld {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.take().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::data(data)))))
        }
    }

    /// An upload that waits for its turn or for the disk does not lose its connection, because it
    /// is the coordinator that does not read. If the coordinator reads and nothing comes, it does.
    #[test]
    fn a_request_that_the_coordinator_does_not_read_keeps_it_not_waiting() {
        let bounds = Bounds { connection: 10 * KIB, total: 10 * KIB, ..Bounds::default() };
        let (held, start) = (Held::new(bounds), Instant::now());
        let uploading = held.connect(None, start);
        let call = held.begin(uploading.number, false, start).unwrap();
        let inner = Body::new(Withheld(Some(vec![7; 4 * KIB].into())));
        let mut body =
            Arriving { inner, call, held: 0, most: 9 * KIB, awaited: false, until: None };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_ready());

        let later = start + Duration::from_secs(60);
        let other = held.connect(None, later);
        let call = held.begin(other.number, false, later).unwrap();
        call.received(6 * KIB, later).unwrap_err();
        assert!(!uploading.cut.is_cancelled());
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
        call.received(6 * KIB, later).unwrap();
        assert!(uploading.cut.is_cancelled());
    }
}
