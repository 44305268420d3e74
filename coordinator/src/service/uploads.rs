//! Uploads that go on where an earlier one broke off.
//!
//! The coordinator says how many bytes it has, and after every chunk again. So the client knows
//! what is on the way, and need not fill a slow connection with more of it than is good for the
//! heartbeats that use it too.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use edgesmith_common::ArtifactHash;
use edgesmith_proto::v1::resume_upload_request::Part;
use edgesmith_proto::{hash, v1};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::artifacts::{Arriving, Artifacts, UPLOAD_CHUNK, blocking};
use super::runtime::stopping;
use super::space::Space;
use super::status;
use crate::store::PartialArtifact;

/// Bytes that must arrive within the time for which a transfer may be idle. They are few, because
/// several workers may share a slow connection.
const PROGRESS: usize = 1 << 13;
/// How long an upload waits for the end of an earlier one of the same client, and how often it
/// looks.
const TAKE_OVER: Duration = Duration::from_secs(10);
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
pub struct Answers(mpsc::Receiver<Answer>);

impl Stream for Answers {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        self.0.poll_recv(cx)
    }
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
        self.space.check()?;
        let turn = self.uploads.take().await?;
        let (sender, answers) = mpsc::channel(4);
        let store = self.store.clone();
        // One that is damaged is uploaded again.
        let is_stored =
            move || Ok(store.claim(hash) && store.verify(hash).is_ok_and(|stored| stored == size));
        if blocking(is_stored).await? {
            let _ =
                sender.send(Ok(v1::ResumeUploadResponse { stored: size, complete: true })).await;
            return Ok(Response::new(Answers(answers)));
        }
        let (partial, end) = self.begin(hash, size, uploader).await?;
        arriving.put_off(Instant::now());
        let (stop, space) = (self.stop.clone(), self.space.clone());
        tokio::spawn(async move {
            let ended = tokio::select! {
                () = stop.cancelled() => Err(stopping()),
                () = end.cancelled() => Err(Status::unavailable(
                    "the same client has begun this upload again",
                )),
                // The client has gone.
                () = sender.closed() => Ok(()),
                received = receive(partial, &mut arriving, &sender, &space) => received,
            };
            end.cancel();
            if let Err(status) = ended {
                // The client may be gone.
                let _ = sender.send(Err(status)).await;
            }
            drop(turn);
        });
        Ok(Response::new(Answers(answers)))
    }

    /// Begins or goes on, and gives what another call of the same client ends it with.
    async fn begin(
        &self,
        hash: ArtifactHash,
        size: u64,
        uploader: u64,
    ) -> Result<(PartialArtifact, CancellationToken), Status> {
        let until = Instant::now() + TAKE_OVER;
        while self.ongoing.end_own(hash, uploader) && Instant::now() < until {
            let store = self.store.clone();
            if let Some(partial) = blocking(move || store.resume(hash, size)).await? {
                return Ok((partial, self.ongoing.begin(hash, uploader)));
            }
            tokio::time::sleep(LOOK).await;
        }
        // Another client uploads the same, so this one begins from the start, beside it.
        let store = self.store.clone();
        let beside = blocking(move || store.arrive_beside(hash, size)).await?;
        Ok((beside, CancellationToken::new()))
    }
}

/// Receives the rest of an artifact, and says after every chunk how much there is.
async fn receive(
    mut partial: PartialArtifact,
    arriving: &mut Arriving<v1::ResumeUploadRequest>,
    sender: &mpsc::Sender<Answer>,
    space: &Space,
) -> Result<(), Status> {
    loop {
        let stored = partial.stored();
        if partial.is_whole() {
            blocking(move || partial.finish()).await?;
            tracing::debug!("stored an artifact of {stored} bytes");
            // The client may be gone; then it asks again.
            let _ = sender.send(Ok(v1::ResumeUploadResponse { stored, complete: true })).await;
            return Ok(());
        }
        let so_far = v1::ResumeUploadResponse { stored, complete: false };
        if sender.send(Ok(so_far)).await.is_err() {
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
        partial = blocking(move || {
            partial.chunk(&chunk)?;
            Ok(partial)
        })
        .await?;
    }
}

#[cfg(test)]
#[path = "tests/uploads.rs"]
mod tests;
