//! Uploads or downloads one artifact over any client, in chunks. The hash is checked at this end
//! too.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use edgesmith_common::ArtifactHash;
use edgesmith_proto::v1::artifact_service_client::ArtifactServiceClient;
use edgesmith_proto::v1::{
    DownloadArtifactRequest, UploadArtifactRequest, upload_artifact_request,
};
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tonic::{Code, Status};

use super::upload::Upload;

/// Largest chunk that the protocol allows.
const CHUNK_BYTES: usize = 1 << 20;
/// Number of tries of a transfer whose bytes arrive damaged.
pub(super) const DAMAGED_TRIES: u32 = 3;
/// The status of a download whose bytes arrive damaged. `DATA_LOSS` is the coordinator's, and says
/// that they are damaged there.
pub(super) const DAMAGED_ON_THE_WAY: Code = Code::Aborted;
/// How long to wait before a transfer goes on after its connection broke.
const PAUSE: Duration = Duration::from_secs(1);

/// Uploads `bytes`. They are on the coordinator's disk when this returns. If the connection breaks
/// or the coordinator is restarted, it goes on as long as each try brings something. Bytes that were
/// damaged on the way are sent again, a few times.
///
/// # Errors
/// The status of the coordinator or the connection; `DATA_LOSS` if the bytes were damaged on the
/// way each time.
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
    let upload = Upload::new(hash, Arc::new(bytes));
    let (mut tries, mut before) = (Tries::default(), 0);
    while let Err(status) = upload.send(client).await {
        let arrived = upload.arrived();
        tries.after(status, arrived > before)?;
        before = arrived;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(hash)
}

/// The tries of one transfer.
#[derive(Debug, Default)]
struct Tries {
    damaged: u32,
}

impl Tries {
    /// Decides after a try, which may have brought something, whether there is another.
    ///
    /// # Errors
    /// The status, if there is none.
    fn after(&mut self, status: Status, brought: bool) -> Result<(), Status> {
        match status.code() {
            _ if is_broken(&status) && brought => Ok(()),
            _ if is_broken(&status) => Err(status),
            // It ended the transfer, as it does when it is restarted.
            Code::Unavailable if brought => Ok(()),
            code @ (Code::DataLoss | DAMAGED_ON_THE_WAY) => {
                self.damaged += 1;
                if self.damaged < DAMAGED_TRIES {
                    return Ok(());
                }
                let text = format!("{}; tried {DAMAGED_TRIES} times", status.message());
                Err(Status::new(code, text))
            }
            _ => Err(status),
        }
    }
}

/// Whether a status is of the connection, and not the coordinator's answer.
pub fn is_broken(status: &Status) -> bool {
    status.source().is_some()
}

/// Uploads all bytes, as coordinators of earlier versions take them.
pub(super) async fn upload_whole<T>(
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

/// Downloads the artifact of `hash`. If the connection breaks or the coordinator is restarted, it
/// goes on as long as each try brings something. Bytes that arrive damaged are fetched again, a few
/// times.
///
/// # Errors
/// The status of the coordinator or the connection: `NOT_FOUND` if the artifact does not exist,
/// `DATA_LOSS` if its file is damaged, `ABORTED` if its bytes arrive damaged.
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
    let mut bytes = Vec::new();
    let (mut tries, mut before) = (Tries::default(), 0);
    while let Err(status) = download_rest(client, hash, &mut bytes).await {
        tries.after(status, bytes.len() > before)?;
        before = bytes.len();
        tokio::time::sleep(PAUSE).await;
    }
    Ok(bytes)
}

/// Downloads what `bytes` lack of the artifact of `hash`. After an error they have what came, and
/// it can be called again. If what came is wrong, they are empty.
///
/// # Errors
/// As [`download`].
pub(super) async fn download_rest<T>(
    client: &mut ArtifactServiceClient<T>,
    hash: ArtifactHash,
    bytes: &mut Vec<u8>,
) -> Result<(), Status>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let offset = bytes.len() as u64;
    let request = DownloadArtifactRequest { hash: hash.as_bytes().to_vec(), offset };
    let mut chunks = client.download_artifact(request).await?.into_inner();
    let mut is_first = true;
    while let Some(message) = chunks.message().await? {
        if std::mem::take(&mut is_first) && message.offset != offset {
            // A coordinator of an earlier version sends all of it.
            bytes.clear();
        }
        bytes.extend_from_slice(&message.chunk);
    }
    let actual = ArtifactHash::of(bytes);
    if actual != hash {
        bytes.clear();
        let text = format!("artifact {hash} arrived damaged: its bytes hash to {actual}");
        return Err(Status::new(DAMAGED_ON_THE_WAY, text));
    }
    Ok(())
}
