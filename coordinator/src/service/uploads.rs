//! Uploads that go on where an earlier one broke off.
//!
//! The coordinator says how many bytes it has, and after every chunk again. So the client knows
//! what is on the way, and need not fill a slow connection with more of it than is good for the
//! heartbeats that use it too.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use edgesmith_common::ArtifactHash;
use edgesmith_proto::v1::resume_upload_request::Part;
use edgesmith_proto::{hash, v1};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::artifacts::{Arriving, Artifacts, UPLOAD_CHUNK, blocking, idle, storing};
use super::listener::Occasional;
use super::runtime::stopping;
use super::space::Space;
use super::status;
use crate::store::{PartialArtifact, Resumed};

/// Bytes that must arrive within the time for which a transfer may be idle. They are few, because
/// several workers may share a slow connection.
const PROGRESS: usize = 1 << 13;
/// How long an upload waits for the end of an earlier one of the same client, and how often it
/// looks. It waits as long as it takes for one that has brought all bytes: nothing of the client is
/// needed any more for its end.
pub(super) const TAKE_OVER: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

type Answer = Result<v1::ResumeUploadResponse, Status>;

/// The uploads that go on now, by artifact: whose they are, and what ends them.
#[derive(Debug, Clone, Default)]
pub struct Ongoing(Arc<Mutex<HashMap<ArtifactHash, (u64, CancellationToken)>>>);

impl Ongoing {
    /// Ends the upload of an artifact if `uploader` is its client. False if it is another's that
    /// goes on.
    fn end_own(&self, hash: ArtifactHash, uploader: u64) -> bool {
        let ongoing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match ongoing.get(&hash) {
            Some((of, end)) if *of == uploader => end.cancel(),
            Some((_, end)) if !end.is_cancelled() => return false,
            Some(_) | None => {}
        }
        true
    }

    /// Notes an upload, and returns what ends it.
    fn begin(&self, hash: ArtifactHash, uploader: u64) -> CancellationToken {
        let end = CancellationToken::new();
        let mut ongoing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ongoing.retain(|_, (_, end)| !end.is_cancelled());
        ongoing.insert(hash, (uploader, end.clone()));
        end
    }
}

/// The answers to one upload.
pub struct Answers {
    answers: mpsc::Receiver<Answer>,
    /// Why there are no more. Not in the queue, which may be full just then.
    failed: Arc<OnceLock<Status>>,
    idle: Duration,
    /// Whether the last one was given.
    over: bool,
}

impl Stream for Answers {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        if self.over {
            return Poll::Ready(None);
        }
        let answer = ready!(self.answers.poll_recv(cx));
        self.over = !matches!(answer, Some(Ok(v1::ResumeUploadResponse { complete: false, .. })));
        let failed = || self.failed.get().cloned().unwrap_or_else(|| idle("read", self.idle));
        Poll::Ready(Some(answer.unwrap_or_else(|| Err(failed()))))
    }
}

/// Where an upload goes on.
enum Begun {
    /// With what has arrived, until it is ended.
    At(PartialArtifact, CancellationToken),
    /// Nowhere: the artifact is stored.
    Stored,
}

impl Artifacts {
    /// Takes an upload, from its first message on.
    pub(super) async fn resume(
        &self,
        request: Request<Streaming<v1::ResumeUploadRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let mut arriving =
            Arriving::new(request.into_inner(), self.idle, PROGRESS, self.stalled.clone());
        let first = arriving.next().await?.and_then(|message| message.part);
        let Some(Part::Start(v1::UploadStart { hash: bytes, size, uploader })) = first else {
            return Err(Status::invalid_argument("an upload begins with its artifact"));
        };
        let hash = hash(&bytes, "hash").map_err(|e| status::of_convert(&e))?;
        self.check_size(hash, size)?;
        let turn = self.uploads.take().await?;
        let (sender, answers) = mpsc::channel(4);
        let (stop, space, idle) = (self.stop.clone(), self.space.clone(), self.idle);
        let failed: Arc<OnceLock<Status>> = Arc::default();
        let answers = Answers { answers, failed: Arc::clone(&failed), idle, over: false };
        let store = self.store.clone();
        // One that is damaged is uploaded again.
        let begun = match blocking(move || Ok(store.has_whole(hash, size))).await? {
            true => Begun::Stored,
            false => {
                self.space.admit_artifact()?;
                self.begin(hash, size, uploader).await?
            }
        };
        let (partial, end) = match begun {
            Begun::At(partial, end) => (partial, end),
            Begun::Stored => {
                let stored = v1::ResumeUploadResponse { stored: size, complete: true };
                let _ = sender.send(Ok(stored)).await;
                return Ok(Response::new(answers));
            }
        };
        arriving.put_off(Instant::now());
        let stalled = self.stalled.clone();
        tokio::spawn(async move {
            let to_client = Sender { sender: &sender, idle, stalled: &stalled };
            let ended = tokio::select! {
                () = stop.cancelled() => Err(stopping()),
                () = end.cancelled() => Err(Status::unavailable(
                    "the same client has begun this upload again",
                )),
                // The client has gone.
                () = sender.closed() => Ok(()),
                received = receive(partial, &mut arriving, &to_client, &space) => received,
            };
            end.cancel();
            if let Err(status) = ended {
                // Before the queue ends with the sender.
                let _ = failed.set(status);
            }
            drop((sender, turn));
        });
        Ok(Response::new(answers))
    }

    /// Begins or goes on, and gives what another call of the same client ends it with.
    async fn begin(&self, hash: ArtifactHash, size: u64, uploader: u64) -> Result<Begun, Status> {
        let until = Instant::now() + self.take_over;
        loop {
            let store = self.store.clone();
            let resume = move || match store.resume(hash, size)? {
                // An earlier upload may have ended since the last look.
                Resumed::Going(partial) if store.has_whole(hash, size) => {
                    partial.discard();
                    Ok(None)
                }
                resumed => Ok(Some(resumed)),
            };
            match storing(&self.space, resume).await? {
                None => return Ok(Begun::Stored),
                Some(Resumed::Going(partial)) => {
                    return Ok(Begun::At(partial, self.ongoing.begin(hash, uploader)));
                }
                Some(Resumed::Ending) => {}
                Some(Resumed::Taken) => {
                    if !self.ongoing.end_own(hash, uploader) || Instant::now() >= until {
                        break;
                    }
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(stopping()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        // Another client uploads the same, so this one begins from the start, beside it.
        let store = self.store.clone();
        let beside = move || match store.has_whole(hash, size) {
            true => Ok(None),
            false => store.arrive_beside(hash, size).map(Some),
        };
        Ok(match storing(&self.space, beside).await? {
            None => Begun::Stored,
            Some(beside) => Begun::At(beside, CancellationToken::new()),
        })
    }
}

/// Sends answers to a client that may not read them.
struct Sender<'a> {
    sender: &'a mpsc::Sender<Answer>,
    idle: Duration,
    stalled: &'a Occasional,
}

impl Sender<'_> {
    /// Sends how much there is. False if the client is gone.
    ///
    /// # Errors
    /// If it does not read its answers for too long: it would keep its turn from others.
    async fn send(&self, stored: u64, complete: bool) -> Result<bool, Status> {
        let answer = Ok(v1::ResumeUploadResponse { stored, complete });
        match tokio::time::timeout(self.idle, self.sender.send(answer)).await {
            Ok(sent) => Ok(sent.is_ok()),
            Err(_) => {
                let seconds = self.idle.as_secs();
                self.stalled
                    .warn(|| format!("ended an upload whose answers nobody read for {seconds} s"));
                Err(idle("read", self.idle))
            }
        }
    }
}

/// Receives the rest of an artifact, and says after every chunk how much there is.
async fn receive(
    mut partial: PartialArtifact,
    arriving: &mut Arriving<v1::ResumeUploadRequest>,
    sender: &Sender<'_>,
    space: &Space,
) -> Result<(), Status> {
    loop {
        let stored = partial.stored();
        if partial.is_whole() {
            storing(space, move || partial.finish()).await?;
            space.artifact_stored();
            tracing::debug!("stored an artifact of {stored} bytes");
            // The client may be gone; then it asks again.
            sender.send(stored, true).await?;
            return Ok(());
        }
        if !sender.send(stored, false).await? {
            return Ok(());
        }
        let chunk = match arriving.next().await?.map(|message| message.part) {
            Some(Some(Part::Chunk(chunk))) if chunk.len() <= UPLOAD_CHUNK => chunk,
            Some(Some(Part::Chunk(_))) => {
                return Err(Status::invalid_argument("a chunk is larger than 1 MiB"));
            }
            Some(Some(Part::Start(_)) | None) => {
                return Err(Status::invalid_argument("only chunks may follow the first message"));
            }
            None => return Err(Status::invalid_argument("the upload ended before the artifact")),
        };
        space.check()?;
        arriving.count(chunk.len());
        partial = storing(space, move || {
            partial.chunk(&chunk)?;
            Ok(partial)
        })
        .await?;
    }
}

#[cfg(test)]
#[path = "tests/uploads.rs"]
mod tests;
