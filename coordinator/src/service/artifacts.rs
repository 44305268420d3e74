//! The artifact service: uploads and downloads artifacts in chunks.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use edgesmith_common::ArtifactHash;
use edgesmith_proto::v1::artifact_service_server::ArtifactService;
use edgesmith_proto::v1::upload_artifact_request::Part;
use edgesmith_proto::{hash, v1};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::limits::{Turn, Turns};
use super::listener::Occasional;
use super::space::Space;
use super::status;
use super::uploads::{Answers, Ongoing, TAKE_OVER};
use crate::store::{ArtifactError, ArtifactReader, ArtifactStore, ArtifactWriter};

/// Largest chunk of an upload, bytes.
pub(super) const UPLOAD_CHUNK: usize = 1 << 20;
/// Size of a chunk of a download, bytes. One that nobody reads holds about two of them.
const DOWNLOAD_CHUNK: usize = 1 << 16;
/// Largest artifact, bytes.
const MAX_ARTIFACT: u64 = 2 << 30;
/// Transfers of each direction that go on at once, and that may wait for it.
const TRANSFERS: usize = 64;
const WAITING: usize = 1024;
/// How long a transfer may make no progress.
const IDLE: Duration = Duration::from_secs(60);

/// Stores and serves artifacts.
pub struct Artifacts {
    /// The artifacts.
    pub(super) store: ArtifactStore,
    /// Whether there is room for more.
    pub(super) space: Space,
    /// Ends streams when the server stops.
    pub(super) stop: CancellationToken,
    pub(super) uploads: Turns,
    pub(super) ongoing: Ongoing,
    downloads: Turns,
    /// Logs what makes no progress.
    pub(super) stalled: Occasional,
    /// Largest artifact, bytes.
    pub(super) max_bytes: u64,
    /// How long a transfer may make no progress.
    pub(super) idle: Duration,
    /// How long an upload waits for an earlier one of the same client.
    pub(super) take_over: Duration,
}

impl Artifacts {
    /// Serves the artifacts of `store`, and takes new ones while `space` has room, until `stop`.
    pub fn new(store: ArtifactStore, space: Space, stop: CancellationToken) -> Self {
        let uploads = Turns::new("uploads", TRANSFERS, WAITING);
        let downloads = Turns::new("downloads", TRANSFERS, WAITING);
        Self {
            store,
            space,
            stop,
            uploads,
            ongoing: Ongoing::default(),
            downloads,
            stalled: Occasional::default(),
            max_bytes: MAX_ARTIFACT,
            idle: IDLE,
            take_over: TAKE_OVER,
        }
    }

    /// Checks the size of an artifact that is uploaded.
    pub(super) fn check_size(&self, hash: ArtifactHash, size: u64) -> Result<(), Status> {
        if size <= self.max_bytes {
            return Ok(());
        }
        tracing::warn!("refused artifact {hash}, which is larger than allowed");
        Err(Status::invalid_argument(format!(
            "artifact {hash} is larger than {} MiB, the most that this coordinator stores",
            self.max_bytes >> 20
        )))
    }
}

/// The messages of an upload. So many bytes must come within the time for which a transfer may be
/// idle, or else a client could hold its turn with one byte now and then.
pub(super) struct Arriving<M> {
    messages: Streaming<M>,
    idle: Duration,
    progress: usize,
    stalled: Occasional,
    /// When the next bytes must have come.
    until: Instant,
    /// Bytes since this was last put off.
    bytes: usize,
}

impl<M> Arriving<M> {
    /// `progress` bytes must come within `idle`.
    pub(super) fn new(
        messages: Streaming<M>,
        idle: Duration,
        progress: usize,
        stalled: Occasional,
    ) -> Self {
        let until = Instant::now() + idle;
        Self { messages, idle, progress, stalled, until, bytes: 0 }
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// If it does not come in time.
    pub(super) async fn next(&mut self) -> Result<Option<M>, Status> {
        timeout_at(self.until, self.messages.message()).await.map_err(|_| {
            let seconds = self.idle.as_secs();
            self.stalled.warn(|| format!("ended an upload that made no progress for {seconds} s"));
            idle("sent", self.idle)
        })?
    }

    /// Counts bytes that came.
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= self.progress {
            self.put_off(Instant::now());
        }
    }

    /// Allows as much time again from `now` on.
    pub(super) fn put_off(&mut self, now: Instant) {
        (self.until, self.bytes) = (now + self.idle, 0);
    }
}

/// What a message of an upload holds; `None` at the end.
fn part(message: Option<v1::UploadArtifactRequest>) -> Result<Option<Part>, Status> {
    let Some(v1::UploadArtifactRequest { part }) = message else { return Ok(None) };
    part.map(Some).ok_or_else(|| Status::invalid_argument("a message of the upload is empty"))
}

#[tonic::async_trait]
impl ArtifactService for Artifacts {
    async fn upload_artifact(
        &self,
        request: Request<Streaming<v1::UploadArtifactRequest>>,
    ) -> Result<Response<v1::UploadArtifactResponse>, Status> {
        let messages = request.into_inner();
        let mut parts = Arriving::new(messages, self.idle, DOWNLOAD_CHUNK, self.stalled.clone());
        let Some(Part::Hash(bytes)) = part(parts.next().await?)? else {
            return Err(Status::invalid_argument("an upload begins with the artifact's hash"));
        };
        let expected = hash(&bytes, "hash").map_err(|e| status::of_convert(&e))?;
        self.space.admit_artifact()?;
        let _turn = self.uploads.take().await?;
        parts.put_off(Instant::now());
        let store = self.store.clone();
        let mut writer = storing(&self.space, move || store.begin()).await?;
        let mut size = 0;
        while let Some(part) = part(parts.next().await?)? {
            let chunk = match part {
                Part::Chunk(chunk) if chunk.len() <= UPLOAD_CHUNK => chunk,
                Part::Chunk(_) => {
                    return Err(Status::invalid_argument("a chunk is larger than 1 MiB"));
                }
                Part::Hash(_) => {
                    return Err(Status::invalid_argument("only chunks may follow the hash"));
                }
            };
            self.space.check()?;
            parts.count(chunk.len());
            size += chunk.len() as u64;
            self.check_size(expected, size)?;
            writer = storing(&self.space, move || {
                writer.chunk(&chunk)?;
                Ok::<ArtifactWriter, _>(writer)
            })
            .await?;
        }
        let size = storing(&self.space, move || writer.finish(expected)).await?;
        self.space.artifact_stored();
        tracing::debug!("stored artifact {expected} of {size} bytes");
        Ok(Response::new(v1::UploadArtifactResponse { size }))
    }

    type ResumeUploadStream = Answers;

    async fn resume_upload(
        &self,
        request: Request<Streaming<v1::ResumeUploadRequest>>,
    ) -> Result<Response<Answers>, Status> {
        self.resume(request).await
    }

    type DownloadArtifactStream = Download;

    async fn download_artifact(
        &self,
        request: Request<v1::DownloadArtifactRequest>,
    ) -> Result<Response<Download>, Status> {
        let hash = hash(&request.get_ref().hash, "hash").map_err(|e| status::of_convert(&e))?;
        let turn = self.downloads.take().await?;
        let store = self.store.clone();
        let offset = request.get_ref().offset;
        let open = move || {
            let mut reader = store.reader(hash)?;
            Ok(reader.skip(offset)?.then_some(reader))
        };
        let Some(reader) = blocking(open).await? else {
            let text = format!("artifact {hash} has fewer than {offset} bytes");
            return Err(Status::out_of_range(text));
        };
        let (sender, chunks) = mpsc::channel(1);
        let (stop, idle, stalled) = (self.stop.clone(), self.idle, self.stalled.clone());
        tokio::spawn(async move {
            // Dropping the sender without an end tells the receiving side that this stopped.
            tokio::select! {
                () = stop.cancelled() => {}
                () = send(reader, (hash, offset), &sender, idle, &stalled) => {}
            }
            drop::<Turn>(turn);
        });
        Ok(Response::new(Download { chunks, stop: self.stop.clone(), idle, over: false }))
    }
}

/// Sends the artifact chunk by chunk, from where the reader is, and `None` at its end. A chunk is
/// read only when there is room for it, so an artifact that nobody takes costs no thread and next
/// to no memory.
async fn send(
    mut reader: ArtifactReader,
    (hash, mut offset): (ArtifactHash, u64),
    sender: &mpsc::Sender<Option<Result<v1::DownloadArtifactResponse, Status>>>,
    idle: Duration,
    stalled: &Occasional,
) {
    loop {
        let room = match tokio::time::timeout(idle, sender.reserve()).await {
            Ok(Ok(room)) => room,
            // The client has gone.
            Ok(Err(_)) => return,
            Err(_) => {
                let seconds = idle.as_secs();
                stalled.warn(|| {
                    format!("ended a download of {hash} that nobody read for {seconds} s")
                });
                return;
            }
        };
        let read = blocking(move || {
            let mut chunk = vec![0; DOWNLOAD_CHUNK];
            let read = reader.read_chunk(&mut chunk)?;
            chunk.truncate(read);
            Ok((reader, chunk))
        });
        match read.await {
            Ok((_, chunk)) if chunk.is_empty() => return room.send(None),
            Ok((same, chunk)) => {
                reader = same;
                let next = offset + chunk.len() as u64;
                room.send(Some(Ok(v1::DownloadArtifactResponse { chunk, offset })));
                offset = next;
            }
            Err(error) => return room.send(Some(Err(error))),
        }
    }
}

/// The chunks of a download.
pub struct Download {
    chunks: mpsc::Receiver<Option<Result<v1::DownloadArtifactResponse, Status>>>,
    stop: CancellationToken,
    idle: Duration,
    over: bool,
}

impl Stream for Download {
    type Item = Result<v1::DownloadArtifactResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(self.chunks.poll_recv(context));
        self.over = !matches!(item, Some(Some(Ok(_))));
        Poll::Ready(match item {
            Some(chunk @ Some(_)) => chunk,
            Some(None) => None,
            // Must be an error, because a stream that merely ends means that all bytes were sent.
            None if self.stop.is_cancelled() => Some(Err(super::runtime::stopping())),
            None => Some(Err(idle("read", self.idle))),
        })
    }
}

pub(super) fn idle(what: &str, for_long: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "the transfer was ended, because nothing of it was {what} for {} seconds; start it again",
        for_long.as_secs()
    ))
}

/// Runs file work on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, Status> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(|e| status::of_artifact(&e)),
        Err(error) => {
            Err(Status::internal(format!("access to an artifact's file was interrupted: {error}")))
        }
    }
}

/// The same for work that writes an artifact, for which there may be no room.
pub(super) async fn storing<T: Send + 'static>(
    space: &Space,
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, Status> {
    let space = space.clone();
    let work = move || {
        work().inspect_err(|error| {
            if error.is_out_of_space() {
                space.artifact_without_room(error);
            }
        })
    };
    blocking(work).await
}

#[cfg(test)]
pub(super) mod tests {
    use edgesmith_proto::v1::artifact_service_client::ArtifactServiceClient;
    use edgesmith_proto::v1::artifact_service_server::ArtifactServiceServer;
    use tokio::net::TcpListener;
    use tokio_stream::StreamExt as _;
    use tonic::Code;
    use tonic::transport::server::TcpIncoming;
    use tonic::transport::{Channel, Server};

    use super::*;

    pub fn artifacts() -> (tempfile::TempDir, Artifacts) {
        let directory = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(directory.path()).unwrap();
        let space = Space::new(directory.path(), Some(0));
        (directory, Artifacts::new(store, space, CancellationToken::new()))
    }

    fn request(hash: ArtifactHash) -> Request<v1::DownloadArtifactRequest> {
        Request::new(v1::DownloadArtifactRequest { hash: hash.as_bytes().to_vec(), offset: 0 })
    }

    /// A client of a server that serves these artifacts.
    pub async fn client(artifacts: Artifacts) -> ArtifactServiceClient<Channel> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = artifacts.stop.clone().cancelled_owned();
        let router = super::super::limits::server(Server::builder())
            .add_service(ArtifactServiceServer::new(artifacts));
        let incoming = TcpIncoming::from(listener);
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, stop));
        ArtifactServiceClient::connect(url).await.unwrap()
    }

    #[tokio::test]
    async fn a_download_cut_off_by_shutdown_ends_with_an_error() {
        let (_directory, artifacts) = artifacts();
        // More chunks than can be in flight before the first one is received.
        let hash = artifacts.store.put(&vec![7; 8 * DOWNLOAD_CHUNK]).unwrap();
        let answer = artifacts.download_artifact(request(hash)).await.unwrap();
        artifacts.stop.cancel();
        let items: Vec<_> = answer.into_inner().collect().await;
        let last = items.last().unwrap().as_ref().unwrap_err();
        assert_eq!(last.code(), Code::Unavailable);
        assert!(items.len() < 8, "{} chunks came", items.len());
    }

    #[tokio::test]
    async fn a_download_goes_on_at_any_byte() {
        let (_directory, artifacts) = artifacts();
        let bytes: Vec<u8> = (0..150_000_u32).map(|i| (i % 251) as u8).collect();
        let hash = artifacts.store.put(&bytes).unwrap();
        for offset in [0, 1, 65_535, 65_536, 65_537, 149_999, 150_000] {
            let mut request = request(hash);
            request.get_mut().offset = offset;
            let mut answers = artifacts.download_artifact(request).await.unwrap().into_inner();
            let mut at = offset as usize;
            while let Some(answer) = answers.next().await {
                let v1::DownloadArtifactResponse { chunk, offset } = answer.unwrap();
                assert_eq!(offset, at as u64);
                assert_eq!(chunk, bytes[at..at + chunk.len()]);
                at += chunk.len();
            }
            assert_eq!(at, bytes.len());
        }
        let mut request = request(hash);
        request.get_mut().offset = 150_001;
        let refused = artifacts.download_artifact(request).await.err().unwrap();
        assert_eq!(refused.code(), Code::OutOfRange);
    }

    /// Downloads that nobody reads hold no thread that may block: with only one such thread, other
    /// work is still done. Afterwards they end by themselves, and make room for others.
    #[test]
    fn downloads_that_nobody_reads_hold_no_thread_and_end() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (_directory, mut artifacts) = artifacts();
            artifacts.idle = Duration::from_millis(200);
            artifacts.downloads = Turns::new("downloads", 50, 0);
            let hash = artifacts.store.put(&vec![7; 8 * DOWNLOAD_CHUNK]).unwrap();
            let mut unread = Vec::new();
            for _ in 0..50 {
                unread.push(artifacts.download_artifact(request(hash)).await.unwrap().into_inner());
            }
            let Err(refused) = artifacts.download_artifact(request(hash)).await else {
                panic!("one download too many");
            };
            assert_eq!(refused.code(), Code::ResourceExhausted);
            assert!(refused.message().contains("too many downloads"), "{}", refused.message());
            spawn_blocking(|| ()).await.unwrap();

            artifacts.downloads = artifacts.downloads.with_patience(Duration::from_secs(60));
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let Ok(answer) = artifacts.download_artifact(request(hash)).await else { continue };
                let items: Vec<_> = answer.into_inner().collect().await;
                assert_eq!(items.len(), 8);
                break;
            }
            let items: Vec<_> = unread.remove(0).collect().await;
            let last = items.last().unwrap().as_ref().unwrap_err();
            assert_eq!(last.code(), Code::DeadlineExceeded);
            assert!(items.len() < 8, "{} chunks came", items.len());
        });
    }

    /// What a waiting upload sends is bounded by the window, which is a quarter of what the HTTP/2
    /// library allows by itself.
    #[tokio::test]
    async fn uploads_that_wait_for_their_turn_send_little() {
        let (_directory, mut artifacts) = artifacts();
        artifacts.uploads = Turns::new("uploads", 1, 10);
        let turn = artifacts.uploads.take().await.unwrap();
        let mut client = client(artifacts).await;
        let bytes = vec![1; 4 << 20];
        let hash = ArtifactHash::of(&bytes);
        let part = |part| v1::UploadArtifactRequest { part: Some(part) };
        let chunks = bytes.chunks(1 << 14).map(|chunk| part(Part::Chunk(chunk.to_vec())));
        let first = part(Part::Hash(hash.as_bytes().to_vec()));
        let parts: Vec<_> = [first].into_iter().chain(chunks).collect();
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&sent);
        let parts = tokio_stream::iter(parts).map(move |part| {
            count.fetch_add(1 << 14, std::sync::atomic::Ordering::Relaxed);
            part
        });
        let upload = tokio::spawn(async move { client.upload_artifact(parts).await });
        let sent = || sent.load(std::sync::atomic::Ordering::Relaxed);
        while sent() < 200_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Time to send more, if it may.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(sent() < 600_000, "{}", sent());
        drop(turn);
        let size = upload.await.unwrap().unwrap().into_inner().size;
        assert_eq!(size, 4 << 20);
    }

    #[tokio::test]
    async fn uploads_that_are_too_large_or_stop_are_ended_and_leave_nothing() {
        let (directory, mut artifacts) = artifacts();
        artifacts.max_bytes = 3 << 20;
        artifacts.idle = Duration::from_millis(100);
        let left = || std::fs::read_dir(directory.path().join("tmp")).unwrap().count();
        let mut client = client(artifacts).await;
        let bytes = vec![1; 4 << 20];
        let hash = ArtifactHash::of(&bytes);
        let part = |part| v1::UploadArtifactRequest { part: Some(part) };
        let first = part(Part::Hash(hash.as_bytes().to_vec()));
        let chunks: Vec<_> =
            bytes.chunks(1 << 20).map(|chunk| part(Part::Chunk(chunk.to_vec()))).collect();

        let all = tokio_stream::iter([first.clone()].into_iter().chain(chunks.clone()));
        let refused = client.upload_artifact(all).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("larger than 3 MiB"), "{}", refused.message());
        assert_eq!(left(), 0);

        let some = tokio_stream::iter([first, chunks[0].clone()]);
        let ended = client.upload_artifact(some.chain(tokio_stream::pending())).await.unwrap_err();
        assert_eq!(ended.code(), Code::DeadlineExceeded);
        assert_eq!(left(), 0);
    }
}
