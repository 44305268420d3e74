//! The artifact service: uploads and downloads artifacts in chunks.

use std::pin::Pin;

use edgesmith_proto::v1::artifact_service_server::ArtifactService;
use edgesmith_proto::v1::upload_artifact_request::Part;
use edgesmith_proto::{hash, v1};
use tokio::task::spawn_blocking;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::status;
use crate::store::ArtifactStore;

/// Size of a chunk, bytes.
const CHUNK: usize = 1 << 20;

/// Stores and serves artifacts.
pub struct Artifacts {
    /// The artifacts.
    pub store: ArtifactStore,
    /// Ends streams when the server stops.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl ArtifactService for Artifacts {
    async fn upload_artifact(
        &self,
        request: Request<Streaming<v1::UploadArtifactRequest>>,
    ) -> Result<Response<v1::UploadArtifactResponse>, Status> {
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|m| m.part);
        let Some(Part::Hash(bytes)) = first else {
            return Err(Status::invalid_argument("an upload begins with the artifact's hash"));
        };
        let expected = hash(&bytes, "hash").map_err(|e| status::of_convert(&e))?;
        let mut writer = self.store.begin().map_err(|e| status::of_artifact(&e))?;
        while let Some(message) = parts.message().await? {
            let chunk = match message.part {
                Some(Part::Chunk(chunk)) if chunk.len() <= CHUNK => chunk,
                Some(Part::Chunk(_)) => {
                    return Err(Status::invalid_argument("a chunk is larger than 1 MiB"));
                }
                _ => return Err(Status::invalid_argument("only chunks may follow the hash")),
            };
            writer = blocking(move || {
                writer.chunk(&chunk)?;
                Ok(writer)
            })
            .await?;
        }
        let size = blocking(move || writer.finish(expected)).await?;
        Ok(Response::new(v1::UploadArtifactResponse { size }))
    }

    type DownloadArtifactStream =
        Pin<Box<dyn Stream<Item = Result<v1::DownloadArtifactResponse, Status>> + Send>>;

    async fn download_artifact(
        &self,
        request: Request<v1::DownloadArtifactRequest>,
    ) -> Result<Response<Self::DownloadArtifactStream>, Status> {
        let hash = hash(&request.get_ref().hash, "hash").map_err(|e| status::of_convert(&e))?;
        let store = self.store.clone();
        let mut reader = blocking(move || store.reader(hash)).await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let stop = self.stop.clone();
        spawn_blocking(move || {
            loop {
                let mut chunk = vec![0; CHUNK];
                let item = match reader.read_chunk(&mut chunk) {
                    Ok(0) => return,
                    // Must be an error, because a stream that merely ends means that all bytes were
                    // sent.
                    Ok(_) if stop.is_cancelled() => Err(super::runtime::stopping()),
                    Ok(read) => {
                        chunk.truncate(read);
                        Ok(v1::DownloadArtifactResponse { chunk })
                    }
                    Err(error) => Err(status::of_artifact(&error)),
                };
                let failed = item.is_err();
                if sender.blocking_send(item).is_err() || failed {
                    return;
                }
            }
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Runs file work on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::store::ArtifactError> + Send + 'static,
) -> Result<T, Status> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(|e| status::of_artifact(&e)),
        Err(error) => {
            Err(Status::internal(format!("access to an artifact's file was interrupted: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt as _;

    #[tokio::test]
    async fn a_download_cut_off_by_shutdown_ends_with_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(directory.path()).unwrap();
        // More chunks than can be in flight before the first one is received.
        let hash = store.put(&vec![7; 8 * CHUNK]).unwrap();
        let stop = CancellationToken::new();
        let artifacts = Artifacts { store, stop: stop.clone() };
        let request = v1::DownloadArtifactRequest { hash: hash.as_bytes().to_vec() };
        let answer = artifacts.download_artifact(Request::new(request)).await.unwrap();
        stop.cancel();
        let items: Vec<_> = answer.into_inner().collect().await;
        let last = items.last().unwrap().as_ref().unwrap_err();
        assert_eq!(last.code(), tonic::Code::Unavailable);
        assert!(items.len() < 8, "{} chunks came", items.len());
    }
}
