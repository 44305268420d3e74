//! Uploads one artifact so that it goes on where an earlier try broke off.
//!
//! The coordinator says after every chunk how much it has. Only so much is on the way that it
//! arrives within about a second, because what is on the way delays the heartbeats and the signs of
//! life of the same connection. On a slow connection that is a few KiB.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgesmith_common::ArtifactHash;
use edgesmith_proto::v1::artifact_service_client::ArtifactServiceClient;
use edgesmith_proto::v1::resume_upload_request::Part;
use edgesmith_proto::v1::{ResumeUploadRequest, UploadStart};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tonic::{Code, Status};

use super::artifacts;

/// Fewest and most bytes on the way, and those at the beginning.
const LEAST: u64 = 1 << 13;
const MOST: u64 = 1 << 20;
const FIRST: u64 = 1 << 14;
/// A window is sent in about this many chunks, so that there is an answer before it is over.
const CHUNKS: u64 = 4;
const SMALLEST_CHUNK: u64 = 1 << 11;
/// How much longer than the fastest answer one may take before less is sent at once, and below
/// which time more is.
const SLOW: Duration = Duration::from_millis(1000);
const FAST: Duration = Duration::from_millis(250);

/// What one client sends of one artifact, over all its tries.
#[derive(Debug)]
pub struct Upload {
    hash: ArtifactHash,
    bytes: Arc<Vec<u8>>,
    /// Chosen by chance, so that another client's upload of the same is told from this one's.
    uploader: u64,
    /// Bytes that arrived in all tries together.
    arrived: AtomicU64,
    /// What the coordinator had at its last answer; more than there can be before the first.
    stored: AtomicU64,
}

impl Upload {
    /// An upload of `bytes`, whose hash is `hash`.
    pub fn new(hash: ArtifactHash, bytes: Arc<Vec<u8>>) -> Self {
        Self {
            hash,
            bytes,
            uploader: by_chance(),
            arrived: AtomicU64::new(0),
            stored: AtomicU64::new(u64::MAX),
        }
    }

    /// How many bytes have arrived in all tries together, as far as the coordinator said.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Sends what is missing. The artifact is on the coordinator's disk when this returns. After an
    /// error it can be called again, and goes on.
    ///
    /// # Errors
    /// The status of the coordinator or the connection; `DATA_LOSS` if the bytes were damaged on
    /// the way.
    pub async fn send<T>(&self, client: &mut ArtifactServiceClient<T>) -> Result<(), Status>
    where
        T: GrpcService<Body>,
        T::Error: Into<StdError>,
        T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
        <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
    {
        match self.send_rest(client).await {
            // A coordinator of an earlier version.
            Err(status) if status.code() == Code::Unimplemented => {
                artifacts::upload_whole(client, self.hash, Arc::clone(&self.bytes)).await
            }
            sent => sent,
        }
    }

    async fn send_rest<T>(&self, client: &mut ArtifactServiceClient<T>) -> Result<(), Status>
    where
        T: GrpcService<Body>,
        T::Error: Into<StdError>,
        T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
        <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
    {
        let size = self.bytes.len() as u64;
        // What is in it is bounded by the window.
        let (sender, messages) = mpsc::unbounded_channel();
        let send = |part| {
            // If nobody takes it, the next answer says why.
            let _ = sender.send(ResumeUploadRequest { part: Some(part) });
        };
        let (hash, uploader) = (self.hash.as_bytes().to_vec(), self.uploader);
        send(Part::Start(UploadStart { hash, size, uploader }));
        let messages = UnboundedReceiverStream::new(messages);
        let mut answers = client.resume_upload(messages).await?.into_inner();
        let (mut window, mut on_the_way) = (Window::new(), VecDeque::new());
        // Where the next chunk begins; not known before the first answer.
        let mut next = None;
        loop {
            let Some(answer) = answers.message().await? else {
                return Err(Status::unavailable("the upload was cut off"));
            };
            let stored = answer.stored.min(size);
            // Also what came in an earlier try whose answer was lost.
            let came = stored.saturating_sub(self.stored.swap(stored, Ordering::Relaxed));
            self.arrived.fetch_add(came, Ordering::Relaxed);
            if answer.complete {
                return Ok(());
            }
            let now = Instant::now();
            while let Some(&(end, length, sent)) = on_the_way.front()
                && end <= stored
            {
                on_the_way.pop_front();
                window.arrived(length, now.duration_since(sent));
            }
            let mut from = next.unwrap_or(stored);
            while from < size && from < stored + window.bytes() {
                let end = (from + window.chunk()).min(size);
                send(Part::Chunk(self.bytes[from as usize..end as usize].to_vec()));
                on_the_way.push_back((end, end - from, now));
                from = end;
            }
            next = Some(from);
        }
    }
}

/// How much may be on the way at once. It grows while answers come about as fast as the fastest
/// one, and shrinks when they take much longer, because then bytes wait in front of the connection.
/// This is the idea of LEDBAT (RFC 6817), with coarse steps.
#[derive(Debug)]
struct Window {
    bytes: u64,
    fastest: Duration,
    /// Bytes that have to arrive before it may shrink again: those that were on the way then.
    settling: u64,
}

impl Window {
    fn new() -> Self {
        Self { bytes: FIRST, fastest: Duration::MAX, settling: 0 }
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn chunk(&self) -> u64 {
        (self.bytes / CHUNKS).max(SMALLEST_CHUNK)
    }

    /// Notes that a chunk of `length` bytes has arrived `after` this time.
    fn arrived(&mut self, length: u64, after: Duration) {
        self.fastest = self.fastest.min(after);
        self.settling = self.settling.saturating_sub(length);
        let waited = after.saturating_sub(self.fastest);
        if waited < FAST {
            self.bytes = (self.bytes + length).min(MOST);
        } else if waited > SLOW && self.settling == 0 {
            self.settling = self.bytes;
            self.bytes = (self.bytes / 2).max(LEAST);
        }
    }
}

/// A number that other processes are unlikely to choose.
fn by_chance() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest time that a chunk waits, and the bytes per second, over a connection with this
    /// rate and delay, after it has settled.
    fn through(rate: u64, delay: Duration) -> (Duration, u64) {
        let (mut window, mut on_the_way) = (Window::new(), VecDeque::new());
        let (mut now, mut free_at, mut flying) = (Duration::ZERO, Duration::ZERO, 0);
        let (mut longest, mut moved, mut settled) = (Duration::ZERO, 0, None);
        for step in 0..4000 {
            while flying < window.bytes() {
                let length = window.chunk();
                free_at = free_at.max(now) + Duration::from_secs_f64(length as f64 / rate as f64);
                on_the_way.push_back((free_at + delay, length, now));
                flying += length;
            }
            let (there, length, sent) = on_the_way.pop_front().unwrap();
            now = there;
            flying -= length;
            window.arrived(length, now - sent);
            if step >= 2000 {
                settled.get_or_insert(now);
                longest = longest.max(now - sent);
                moved += length;
            }
        }
        (longest, (moved as f64 / (now - settled.unwrap()).as_secs_f64()) as u64)
    }

    #[test]
    fn little_is_on_the_way_where_that_takes_long_and_much_where_it_does_not() {
        let ms = Duration::from_millis;
        // 60 kbit/s: what was sent arrives soon, so signs of life do too, and nothing is idle.
        let (longest, rate) = through(7500, ms(50));
        assert!(longest < ms(2500), "{longest:?}");
        assert!(rate > 7300, "{rate}");
        // A satellite.
        let (longest, rate) = through(1_000_000, ms(600));
        assert!(longest < ms(2000), "{longest:?}");
        assert!(rate > 700_000, "{rate}");
        // A local network.
        let (longest, rate) = through(100_000_000, ms(1));
        assert!(longest < ms(100), "{longest:?}");
        assert!(rate > 90_000_000, "{rate}");
    }
}
