//! Uploads or downloads one artifact over any client, in chunks. The hash is checked at this end
//! too.

use std::sync::Arc;

use edgesmith_common::ArtifactHash;
use edgesmith_proto::v1::artifact_service_client::ArtifactServiceClient;
use edgesmith_proto::v1::{
    DownloadArtifactRequest, UploadArtifactRequest, upload_artifact_request,
};
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};

/// Largest chunk that the protocol allows.
const CHUNK_BYTES: usize = 1 << 20;

/// Uploads `bytes`. They are on the coordinator's disk when this returns. It may be repeated.
///
/// # Errors
/// The status of the coordinator or the connection; `DATA_LOSS` if the bytes were damaged on the
/// way.
pub async fn upload<T>(
    client: &mut ArtifactServiceClient<T>,
    bytes: Vec<u8>,
) -> Result<ArtifactHash, Status>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let hash = ArtifactHash::of(&bytes);
    upload_shared(client, hash, Arc::new(bytes)).await?;
    Ok(hash)
}

/// Like [`upload`], for bytes that the caller keeps for another try.
pub(super) async fn upload_shared<T>(
    client: &mut ArtifactServiceClient<T>,
    hash: ArtifactHash,
    bytes: Arc<Vec<u8>>,
) -> Result<(), Status>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    use upload_artifact_request::Part;
    let size = bytes.len();
    let chunks = (0..size).step_by(CHUNK_BYTES).map(move |start| {
        let end = (start + CHUNK_BYTES).min(size);
        Part::Chunk(bytes[start..end].to_vec())
    });
    let parts = std::iter::once(Part::Hash(hash.as_bytes().to_vec())).chain(chunks);
    let messages = parts.map(|part| UploadArtifactRequest { part: Some(part) });
    let answer = client.upload_artifact(tokio_stream::iter(messages)).await?.into_inner();
    if answer.size != size as u64 {
        let text = format!("artifact {hash} has {size} bytes, but {} arrived", answer.size);
        return Err(Status::data_loss(text));
    }
    Ok(())
}

/// Downloads the artifact of `hash`.
///
/// # Errors
/// The status of the coordinator or the connection: `NOT_FOUND` if the artifact does not exist,
/// `DATA_LOSS` on a checksum mismatch.
pub async fn download<T>(
    client: &mut ArtifactServiceClient<T>,
    hash: ArtifactHash,
) -> Result<Vec<u8>, Status>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let request = DownloadArtifactRequest { hash: hash.as_bytes().to_vec() };
    let mut chunks = client.download_artifact(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = chunks.message().await? {
        bytes.extend_from_slice(&message.chunk);
    }
    let actual = ArtifactHash::of(&bytes);
    if actual != hash {
        let text = format!("artifact {hash} arrived damaged: its bytes hash to {actual}");
        return Err(Status::data_loss(text));
    }
    Ok(bytes)
}
