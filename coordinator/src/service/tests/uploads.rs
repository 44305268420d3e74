//! Uploads over real connections that break off, meet another upload of the same artifact, or
//! bring the wrong bytes.

use edgesmith_proto::v1::artifact_service_client::ArtifactServiceClient;
use prost::Message as _;
use tokio::sync::mpsc::UnboundedSender;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;
use tonic::codegen::Bytes;
use tonic::transport::Channel;

use super::super::artifacts::tests::{artifacts, client};
use super::super::limits::Turns;
use super::*;
use crate::store::Room;

/// A client's side of one upload.
struct Sending {
    messages: UnboundedSender<v1::ResumeUploadRequest>,
    answers: Streaming<v1::ResumeUploadResponse>,
}

impl Sending {
    fn chunk(&self, bytes: &[u8]) {
        let part = Some(Part::Chunk(bytes.to_vec()));
        self.messages.send(v1::ResumeUploadRequest { part }).unwrap();
    }

    /// The next answer: how much is stored, and whether it is complete.
    async fn answer(&mut self) -> Result<(u64, bool), Status> {
        let answer = self.answers.message().await?.expect("an answer");
        Ok((answer.stored, answer.complete))
    }
}

async fn begin(
    client: &mut ArtifactServiceClient<Channel>,
    hash: ArtifactHash,
    size: usize,
    uploader: u64,
) -> Result<Sending, Status> {
    let (messages, receiver) = tokio::sync::mpsc::unbounded_channel();
    let start = v1::UploadStart { hash: hash.as_bytes().to_vec(), size: size as u64, uploader };
    messages.send(v1::ResumeUploadRequest { part: Some(Part::Start(start)) }).unwrap();
    let receiver = UnboundedReceiverStream::new(receiver);
    let answers = client.resume_upload(receiver).await?.into_inner();
    Ok(Sending { messages, answers })
}

fn bytes(size: usize) -> (Vec<u8>, ArtifactHash) {
    let bytes: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
    let hash = ArtifactHash::of(&bytes);
    (bytes, hash)
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on_and_what_is_stored_is_not_sent_again() {
    let (_directory, artifacts) = artifacts();
    let (store, ongoing) = (artifacts.store.clone(), artifacts.ongoing.clone());
    let mut client = client(artifacts).await;
    let (bytes, hash) = bytes(100_000);
    let mut first = begin(&mut client, hash, bytes.len(), 1).await.unwrap();
    assert_eq!(first.answer().await.unwrap(), (0, false));
    for (end, piece) in (1..).zip(bytes.chunks(10_000).take(3)) {
        first.chunk(piece);
        assert_eq!(first.answer().await.unwrap(), (end * 10_000, false));
    }
    drop(first);
    // Also another client goes on there, once the first one is known to be gone.
    while !ongoing.0.lock().unwrap()[&hash].1.is_cancelled() {
        tokio::time::sleep(LOOK).await;
    }
    let mut again = begin(&mut client, hash, bytes.len(), 2).await.unwrap();
    assert_eq!(again.answer().await.unwrap(), (30_000, false));
    again.chunk(&bytes[30_000..]);
    assert_eq!(again.answer().await.unwrap(), (100_000, true));
    assert_eq!(store.get(hash).unwrap(), bytes);
    let mut stored = begin(&mut client, hash, bytes.len(), 2).await.unwrap();
    assert_eq!(stored.answer().await.unwrap(), (100_000, true));
    // Nothing has to be sent of an empty one.
    let empty = ArtifactHash::of(b"");
    let mut nothing = begin(&mut client, empty, 0, 1).await.unwrap();
    assert_eq!(nothing.answer().await.unwrap(), (0, true));
    assert!(store.contains(empty));
}

#[tokio::test]
async fn the_same_client_takes_over_and_another_one_uploads_beside_it() {
    let (_directory, artifacts) = artifacts();
    let store = artifacts.store.clone();
    let mut client = client(artifacts).await;
    let (bytes, hash) = bytes(60_000);
    let mut first = begin(&mut client, hash, bytes.len(), 1).await.unwrap();
    first.chunk(&bytes[..20_000]);
    assert_eq!(first.answer().await.unwrap(), (0, false));
    assert_eq!(first.answer().await.unwrap(), (20_000, false));

    // The first one is still open, as one whose connection was lost without a word.
    let mut again = begin(&mut client, hash, bytes.len(), 1).await.unwrap();
    assert_eq!(again.answer().await.unwrap(), (20_000, false));
    assert_eq!(first.answer().await.unwrap_err().code(), Code::Unavailable);

    let mut other = begin(&mut client, hash, bytes.len(), 2).await.unwrap();
    assert_eq!(other.answer().await.unwrap(), (0, false));
    other.chunk(&bytes);
    assert_eq!(other.answer().await.unwrap(), (60_000, true));
    again.chunk(&bytes[20_000..]);
    assert_eq!(again.answer().await.unwrap(), (60_000, true));
    assert_eq!(store.get(hash).unwrap(), bytes);
}

#[tokio::test]
async fn wrong_uploads_are_refused_and_damaged_artifacts_are_uploaded_again() {
    let (directory, mut artifacts) = artifacts();
    artifacts.max_bytes = 1 << 20;
    artifacts.idle = Duration::from_millis(200);
    let store = artifacts.store.clone();
    let mut client = client(artifacts).await;
    let (bytes, hash) = bytes(3000);
    let refused = begin(&mut client, hash, (1 << 20) + 1, 1).await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("larger than 1 MiB"), "{}", refused.message());

    // Wrong bytes are dropped whole, so the next upload begins again.
    for wrong in [vec![1; 3000], vec![1; 3001]] {
        let mut sending = begin(&mut client, hash, bytes.len(), 1).await.unwrap();
        assert_eq!(sending.answer().await.unwrap(), (0, false));
        sending.chunk(&wrong);
        let refused = sending.answer().await.unwrap_err();
        let code = if wrong.len() == 3000 { Code::DataLoss } else { Code::InvalidArgument };
        assert_eq!(refused.code(), code, "{}", refused.message());
    }

    // One that stops keeps what has come.
    let mut silent = begin(&mut client, hash, bytes.len(), 1).await.unwrap();
    silent.chunk(&bytes[..1000]);
    assert_eq!(silent.answer().await.unwrap(), (0, false));
    assert_eq!(silent.answer().await.unwrap(), (1000, false));
    assert_eq!(silent.answer().await.unwrap_err().code(), Code::DeadlineExceeded);
    let mut sending = begin(&mut client, hash, bytes.len(), 1).await.unwrap();
    assert_eq!(sending.answer().await.unwrap(), (1000, false));
    sending.chunk(&bytes[1000..]);
    assert_eq!(sending.answer().await.unwrap(), (3000, true));

    let name = hash.to_string();
    let path = directory.path().join(&name[..2]).join(name);
    std::fs::write(path, vec![0; 3000]).unwrap();
    let mut mending = begin(&mut client, hash, bytes.len(), 1).await.unwrap();
    assert_eq!(mending.answer().await.unwrap(), (0, false));
    mending.chunk(&bytes);
    assert_eq!(mending.answer().await.unwrap(), (3000, true));
    assert_eq!(store.get(hash).unwrap(), bytes);
}

/// When room is short, uploads are told to wait, also those that have begun, and go on afterwards.
#[tokio::test]
async fn without_room_uploads_wait_and_go_on() {
    let (_directory, mut artifacts) = artifacts();
    let space = Space::new(std::path::Path::new("data"), Some(1000));
    artifacts.space = space.clone();
    artifacts.uploads = Turns::new("uploads", 1, 0);
    let mut client = client(artifacts).await;
    let (bytes, hash) = bytes(3000);
    let mut sending = begin(&mut client, hash, bytes.len(), 1).await.unwrap();
    sending.chunk(&bytes[..1000]);
    assert_eq!(sending.answer().await.unwrap(), (0, false));
    assert_eq!(sending.answer().await.unwrap(), (1000, false));
    space.see(Room { free: 999, total: 10_000 });
    sending.chunk(&bytes[1000..2000]);
    let ended = sending.answer().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    let text = "only 999 bytes are free in data";
    assert!(ended.message().contains(text), "{}", ended.message());
    let refused = begin(&mut client, hash, bytes.len(), 1).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    let part = |part| v1::UploadArtifactRequest { part: Some(part) };
    let whole = [
        part(v1::upload_artifact_request::Part::Hash(hash.as_bytes().to_vec())),
        part(v1::upload_artifact_request::Part::Chunk(bytes.clone())),
    ];
    let refused = client.upload_artifact(tokio_stream::iter(whole)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);

    space.see(Room { free: 5000, total: 10_000 });
    let mut again = begin(&mut client, hash, bytes.len(), 1).await.unwrap();
    assert_eq!(again.answer().await.unwrap(), (1000, false));
    again.chunk(&bytes[1000..]);
    assert_eq!(again.answer().await.unwrap(), (3000, true));
    assert!(again.answers.next().await.is_none());
}

/// An upload that has all its bytes may lose its connection while they are made durable. Its client
/// need not send them again, however long that takes.
#[tokio::test]
async fn what_arrived_whole_before_the_connection_broke_is_not_sent_again() {
    let (_directory, mut artifacts) = artifacts();
    artifacts.take_over = Duration::from_millis(50);
    let store = artifacts.store.clone();
    let client = client(artifacts).await;
    for (size, others) in [(3000, 1), (4000, 2)] {
        let (bytes, hash) = bytes(size);
        // What the coordinator still does for a client that is gone.
        let Ok(Resumed::Going(mut partial)) = store.resume(hash, size as u64) else { panic!() };
        partial.chunk(&bytes).unwrap();
        let again = (0..others).map(|uploader| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let mut again = begin(&mut client, hash, size, uploader).await.unwrap();
                again.answer().await.unwrap()
            })
        });
        let again: Vec<_> = again.collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(again.iter().all(|again| !again.is_finished()));
        partial.finish().unwrap();
        for again in again {
            assert_eq!(again.await.unwrap(), (size as u64, true));
        }
        assert_eq!(store.get(hash).unwrap(), bytes);
    }
    // If it cannot be stored, it is sent again.
    let (right, hash) = bytes(5000);
    let Ok(Resumed::Going(mut partial)) = store.resume(hash, 5000) else { panic!() };
    partial.chunk(&vec![1; 5000]).unwrap();
    let mut client = client.clone();
    let again = tokio::spawn(async move {
        let mut again = begin(&mut client, hash, 5000, 1).await.unwrap();
        assert_eq!(again.answer().await.unwrap(), (0, false));
        again.chunk(&right);
        again.answer().await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    partial.finish().unwrap_err();
    assert_eq!(again.await.unwrap(), (5000, true));
}

/// The messages of an upload, without a connection, whose library would give up a client that
/// reads nothing.
struct Messages(std::vec::IntoIter<Part>);

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        // There may be more to come.
        let Some(part) = self.0.next() else { return Poll::Pending };
        let message = v1::ResumeUploadRequest { part: Some(part) }.encode_to_vec();
        let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
        Poll::Ready(Some(Ok(http_body::Frame::data(framed.into()))))
    }
}

/// A client that sends and reads nothing would otherwise keep its turn from others.
#[tokio::test]
async fn an_upload_whose_answers_nobody_reads_is_ended_and_keeps_what_has_come() {
    let (_directory, mut artifacts) = artifacts();
    artifacts.idle = Duration::from_millis(300);
    artifacts.uploads = Turns::new("uploads", 1, 0).with_patience(Duration::from_secs(30));
    let (bytes, hash) = bytes(3000);
    let start = v1::UploadStart { hash: hash.as_bytes().to_vec(), size: 3000, uploader: 1 };
    let chunks = bytes[..2000].chunks(100).map(|bytes| Part::Chunk(bytes.to_vec()));
    let parts: Vec<_> = std::iter::once(Part::Start(start)).chain(chunks).collect();
    let mut codec = tonic_prost::ProstCodec::<(), v1::ResumeUploadRequest>::default();
    let decoder = tonic::codec::Codec::decoder(&mut codec);
    let messages = Streaming::new_request(decoder, Messages(parts.into_iter()), None, None);
    let unread = artifacts.resume(Request::new(messages)).await.unwrap().into_inner();

    // Completes when it has given back its turn.
    let turns = artifacts.uploads.clone();
    let begun = Instant::now();
    while turns.take().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "its turn was never given back");
        tokio::time::sleep(LOOK).await;
    }
    let answers: Vec<_> = unread.collect().await;
    let (last, before) = answers.split_last().unwrap();
    let ended = last.as_ref().unwrap_err();
    assert_eq!(ended.code(), Code::DeadlineExceeded, "{ended}");
    assert!(ended.message().contains("nothing of it was read"), "{ended}");
    let stored = |answer: &Answer| answer.as_ref().unwrap().stored;
    assert_eq!(before.iter().map(stored).collect::<Vec<_>>(), [0, 100, 200, 300]);
    let mut client = client(artifacts).await;
    let mut again = begin(&mut client, hash, bytes.len(), 1).await.unwrap();
    assert_eq!(again.answer().await.unwrap(), (400, false));
}

/// A quota leaves no room although the file system has some.
#[tokio::test]
async fn after_an_artifact_found_no_room_others_wait_and_one_is_tried() {
    let (_directory, artifacts) = artifacts();
    let space = artifacts.space.clone();
    let mut client = client(artifacts).await;
    let full = || {
        let source = std::io::ErrorKind::QuotaExceeded.into();
        Err::<(), _>(crate::store::ArtifactError::Io { path: "1.part".into(), source })
    };
    let refused = storing(&space, full).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(!space.is_short());
    let (bytes, hash) = bytes(3000);
    for uploader in [1, 2] {
        let refused = begin(&mut client, hash, bytes.len(), uploader).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(refused.message().contains("perhaps because of a quota"), "{refused}");
    }
    tokio::time::sleep(Duration::from_millis(1050)).await;
    let mut tried = begin(&mut client, hash, bytes.len(), 1).await.unwrap();
    assert_eq!(tried.answer().await.unwrap(), (0, false));
    let (other, other_hash) = self::bytes(2000);
    assert!(begin(&mut client, other_hash, other.len(), 2).await.is_err());
    tried.chunk(&bytes);
    assert_eq!(tried.answer().await.unwrap(), (3000, true));
    let mut next = begin(&mut client, other_hash, other.len(), 2).await.unwrap();
    assert_eq!(next.answer().await.unwrap(), (0, false));
}

#[tokio::test]
async fn the_reason_of_an_end_arrives_after_the_answers_that_wait() {
    let (sender, answers) = mpsc::channel(1);
    let failed: Arc<OnceLock<Status>> = Arc::default();
    let idle = Duration::from_secs(60);
    let mut answers = Answers { answers, failed: Arc::clone(&failed), idle, over: false };
    sender.send(Ok(v1::ResumeUploadResponse { stored: 7, complete: false })).await.unwrap();
    // The queue is full.
    failed.set(Status::data_loss("the hash is wrong")).unwrap();
    drop(sender);
    assert_eq!(answers.next().await.unwrap().unwrap().stored, 7);
    let reason = answers.next().await.unwrap().unwrap_err();
    assert_eq!(reason.code(), tonic::Code::DataLoss);
    assert!(answers.next().await.is_none());
}
