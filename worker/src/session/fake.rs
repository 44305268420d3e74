//! A coordinator for the session's tests. It follows the protocol, records what it was told, and
//! can stop and come back on the same port.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use edgesmith_common::{ArtifactHash, EngineName, Role, StudySpec, WorkerInfo};
use edgesmith_proto::v1;
use edgesmith_proto::v1::artifact_service_server::{ArtifactService, ArtifactServiceServer};
use edgesmith_proto::v1::task::Work;
use edgesmith_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use edgesmith_proto::v1::{
    DownloadArtifactRequest, DownloadArtifactResponse, ResumeUploadRequest, ResumeUploadResponse,
    UploadArtifactRequest, UploadArtifactResponse, resume_upload_request, upload_artifact_request,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::WorkerConfig;
use super::attempts::lock;

/// Longer than anything here takes, so that a failing test does not hang.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The study of all tasks.
pub const STUDY: &str = r#"
[study]
name = "digits"
seed = 7

[data]
source = "digits"

[space]
resolution = [8]
stem_width = [4, 8]

[[space.stages]]
depth = [1, 2]
width = [4, 8]

[recipe]
alpha = [0.0]

[[objectives]]
metric = "validation_accuracy"

[budget]
trials = 4
"#;

/// What the coordinator was told, and how it must answer.
#[derive(Debug, Default)]
pub struct Book {
    pub joins: Vec<v1::JoinRequest>,
    pub tokens: Vec<Option<String>>,
    pub beats: Vec<v1::HeartbeatRequest>,
    pub reports: Vec<v1::ReportRequest>,
    pub left: Vec<u64>,
    pub downloads: usize,
    pub chunks: Vec<usize>,
    pub artifacts: HashMap<Vec<u8>, Vec<u8>>,
    pub tasks: VecDeque<v1::Task>,
    /// Number of tasks that were leased on request, and did not come with the answer to a report.
    pub leases: usize,
    /// Ids of known workers.
    pub members: BTreeSet<u64>,
    /// The answer to every join, if set.
    pub turn_away: Option<Status>,
    /// The answers to the next uploads.
    pub upload_errors: VecDeque<Status>,
    /// Whether uploads cannot go on where they broke off, as with earlier versions.
    pub is_old: bool,
    /// What has arrived of artifacts.
    pub partial: HashMap<Vec<u8>, Vec<u8>>,
    /// Bytes after which the next uploads, and chunks after which the next downloads, break off.
    pub breaks: VecDeque<usize>,
    /// How many of the next uploads bring other bytes than they should.
    pub damaged: u32,
    /// Why no tasks are handed out.
    pub waits: String,
    pub uploads: usize,
    /// The answers to the next reports. The reports are recorded first.
    pub report_errors: VecDeque<Status>,
    /// Reports are answered as not current.
    pub not_current: bool,
    /// Attempts that the next heartbeat or join is told to stop.
    pub stop: Vec<u64>,
    /// Part of every worker's secret. A change of it makes all secrets wrong.
    pub key: u64,
    next_worker: u64,
}

/// One coordinator; its state survives when it stops and comes back.
#[derive(Debug, Clone)]
pub struct Fake {
    book: Arc<Mutex<Book>>,
    changed: watch::Sender<()>,
}

/// A coordinator while it listens. It stops without notice when dropped.
pub struct Life {
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Life {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Fake {
    pub fn new() -> Self {
        Self { book: Arc::default(), changed: watch::channel(()).0 }
    }

    /// Starts to listen on a free port, or on a given one.
    pub async fn listen(&self, address: Option<SocketAddr>) -> Life {
        // A separate runtime, so that ending it closes the connections too.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let wanted = address.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        let service = self.clone();
        let serving = runtime.spawn(async move {
            // The previous server may take a moment to release the port.
            let listener = loop {
                match TcpListener::bind(wanted).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            let address = listener.local_addr().unwrap();
            let server = Server::builder()
                .add_service(WorkerServiceServer::new(service.clone()))
                .add_service(ArtifactServiceServer::new(service));
            tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
            address
        });
        let address = tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
        Life { address, runtime: Some(runtime) }
    }

    /// Gives access to the book.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// Offers a task of [`STUDY`].
    pub fn offer(&self, attempt_id: u64, work: Work) {
        self.offer_task(task(attempt_id, work));
    }

    /// Offers any task.
    pub fn offer_task(&self, task: v1::Task) {
        self.note(|book| book.tasks.push_back(task));
    }

    /// Waits until `wish` is true of the book.
    pub async fn until(&self, what: &str, wish: impl Fn(&Book) -> bool) {
        let mut changes = self.changed.subscribe();
        let waiting = async {
            while !wish(&self.book()) {
                changes.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("it did not happen: {what}: {:?}", self.book());
        }
    }

    fn count_upload(&self) -> Result<(), Status> {
        let refused = self.note(|book| {
            book.uploads += 1;
            book.upload_errors.pop_front()
        });
        refused.map_or(Ok(()), Err)
    }

    fn note<T>(&self, entry: impl FnOnce(&mut Book) -> T) -> T {
        let noted = entry(&mut self.book());
        self.changed.send_replace(());
        noted
    }
}

impl Book {
    /// The secret of a worker; an attempt's is [`secret_of_attempt`].
    fn secret_of(&self, worker_id: u64) -> Vec<u8> {
        format!("{} worker {worker_id}", self.key).into_bytes()
    }

    fn know(&self, worker_id: u64, secret: &[u8]) -> Result<(), Status> {
        if secret != self.secret_of(worker_id) {
            return Err(Status::permission_denied("the worker's secret is wrong"));
        }
        if self.members.contains(&worker_id) {
            Ok(())
        } else {
            Err(Status::not_found(format!("there is no worker {worker_id}")))
        }
    }
}

#[tonic::async_trait]
impl WorkerService for Fake {
    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let token = request.metadata().get("authorization");
        let token = token.map(|value| value.to_str().unwrap().to_owned());
        self.note(|book| {
            book.tokens.push(token);
            book.joins.push(request.into_inner());
            if let Some(status) = &book.turn_away {
                return Err(status.clone());
            }
            book.next_worker += 1;
            book.members.insert(book.next_worker);
            Ok(Response::new(v1::JoinResponse {
                worker_id: book.next_worker,
                heartbeat_ms: 30,
                stop: std::mem::take(&mut book.stop),
                secret: book.secret_of(book.next_worker),
            }))
        })
    }

    async fn lease(
        &self,
        request: Request<v1::LeaseRequest>,
    ) -> Result<Response<v1::LeaseResponse>, Status> {
        let v1::LeaseRequest { worker_id, wait_ms, secret } = request.into_inner();
        let deadline = tokio::time::Instant::now() + Duration::from_millis(wait_ms);
        let mut changes = self.changed.subscribe();
        loop {
            let task = {
                let mut book = self.book();
                book.know(worker_id, &secret)?;
                let task = book.tasks.pop_front();
                book.leases += usize::from(task.is_some());
                task
            };
            if task.is_some() || tokio::time::timeout_at(deadline, changes.changed()).await.is_err()
            {
                let waits = self.book().waits.clone();
                return Ok(Response::new(v1::LeaseResponse { task, waits }));
            }
        }
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        self.note(|book| {
            book.know(request.worker_id, &request.secret)?;
            book.beats.push(request);
            Ok(Response::new(v1::HeartbeatResponse { stop: std::mem::take(&mut book.stop) }))
        })
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let request = request.into_inner();
        self.note(|book| {
            book.know(request.worker_id, &request.secret)?;
            if request.attempt_secret != secret_of_attempt(request.attempt_id) {
                return Err(Status::permission_denied("the attempt's secret is wrong"));
            }
            let wants_next = request.wants_next;
            book.reports.push(request);
            match book.report_errors.pop_front() {
                Some(status) => Err(status),
                None => {
                    let next = if wants_next { book.tasks.pop_front() } else { None };
                    let accepted = !book.not_current;
                    Ok(Response::new(v1::ReportResponse { accepted, next }))
                }
            }
        })
    }

    async fn leave(
        &self,
        request: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::LeaveResponse>, Status> {
        let v1::LeaveRequest { worker_id, secret } = request.into_inner();
        self.note(|book| {
            book.know(worker_id, &secret)?;
            book.left.push(worker_id);
            Ok::<_, Status>(())
        })?;
        Ok(Response::new(v1::LeaveResponse {}))
    }
}

#[tonic::async_trait]
impl ArtifactService for Fake {
    type ResumeUploadStream =
        Pin<Box<dyn Stream<Item = Result<ResumeUploadResponse, Status>> + Send>>;

    async fn resume_upload(
        &self,
        request: Request<tonic::Streaming<ResumeUploadRequest>>,
    ) -> Result<Response<Self::ResumeUploadStream>, Status> {
        use resume_upload_request::Part;
        if self.book().is_old {
            return Err(Status::unimplemented("there is no call ResumeUpload"));
        }
        self.count_upload()?;
        let mut parts = request.into_inner();
        let Some(ResumeUploadRequest { part: Some(Part::Start(start)) }) = parts.message().await?
        else {
            return Err(Status::invalid_argument("no artifact first"));
        };
        let (sender, answers) = tokio::sync::mpsc::unbounded_channel();
        let fake = self.clone();
        tokio::spawn(async move {
            let breaks = fake.book().breaks.pop_front();
            let mut come = 0;
            loop {
                let bytes = fake.book().partial.get(&start.hash).cloned().unwrap_or_default();
                let complete = bytes.len() as u64 == start.size;
                let stored = bytes.len() as u64;
                let damaged = complete && fake.book().damaged > 0;
                if damaged {
                    fake.book().damaged -= 1;
                    fake.book().partial.remove(&start.hash);
                    let _ = sender.send(Err(Status::data_loss("other bytes")));
                    return;
                }
                if complete {
                    fake.note(|book| book.artifacts.insert(start.hash.clone(), bytes));
                }
                let _ = sender.send(Ok(ResumeUploadResponse { stored, complete }));
                let Ok(Some(ResumeUploadRequest { part: Some(Part::Chunk(chunk)) })) =
                    parts.message().await
                else {
                    return;
                };
                come += chunk.len();
                if breaks.is_some_and(|most| come > most) {
                    let _ = sender.send(Err(Status::unavailable("broken off")));
                    return;
                }
                let mut book = fake.book();
                book.chunks.push(chunk.len());
                book.partial.entry(start.hash.clone()).or_default().extend(chunk);
            }
        });
        let answers = tokio_stream::wrappers::UnboundedReceiverStream::new(answers);
        Ok(Response::new(Box::pin(answers)))
    }

    type DownloadArtifactStream =
        Pin<Box<dyn Stream<Item = Result<DownloadArtifactResponse, Status>> + Send>>;

    async fn upload_artifact(
        &self,
        request: Request<tonic::Streaming<UploadArtifactRequest>>,
    ) -> Result<Response<UploadArtifactResponse>, Status> {
        use upload_artifact_request::Part;
        self.count_upload()?;
        let mut parts = request.into_inner();
        let Some(UploadArtifactRequest { part: Some(Part::Hash(hash)) }) = parts.message().await?
        else {
            return Err(Status::invalid_argument("no hash first"));
        };
        let mut bytes = Vec::new();
        while let Some(message) = parts.message().await? {
            let Some(Part::Chunk(chunk)) = message.part else {
                return Err(Status::invalid_argument("no chunk"));
            };
            self.book().chunks.push(chunk.len());
            bytes.extend(chunk);
        }
        if ArtifactHash::of(&bytes).as_bytes().as_slice() != hash {
            return Err(Status::data_loss("other bytes"));
        }
        let size = bytes.len() as u64;
        self.note(|book| book.artifacts.insert(hash, bytes));
        Ok(Response::new(UploadArtifactResponse { size }))
    }

    async fn download_artifact(
        &self,
        request: Request<DownloadArtifactRequest>,
    ) -> Result<Response<Self::DownloadArtifactStream>, Status> {
        let DownloadArtifactRequest { hash, offset } = request.into_inner();
        let (bytes, breaks, is_old) = self.note(|book| {
            book.downloads += 1;
            (book.artifacts.get(&hash).cloned(), book.breaks.pop_front(), book.is_old)
        });
        let bytes = bytes.ok_or_else(|| Status::not_found("there is no such artifact"))?;
        let (from, known) = if is_old { (0, 0) } else { (offset as usize, offset) };
        let mut at = known;
        let mut chunks = Vec::new();
        for chunk in bytes[from..].chunks(1 << 16).take(breaks.unwrap_or(usize::MAX)) {
            chunks.push(Ok(DownloadArtifactResponse { chunk: chunk.to_vec(), offset: at }));
            at += if is_old { 0 } else { chunk.len() as u64 };
            self.book().chunks.push(chunk.len());
        }
        if breaks.is_some() {
            chunks.push(Err(Status::unavailable("broken off")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}

/// The configuration of a worker with one slot for the coordinator at `url`.
pub fn config(url: String) -> WorkerConfig {
    WorkerConfig {
        coordinator: url,
        token: None,
        tls_ca_pem: None,
        info: WorkerInfo {
            name: "here".to_owned(),
            class: "board".parse().unwrap(),
            roles: [Role::Measure, Role::Train].into(),
            engines: [EngineName::edge_runtime()].into(),
            slots: 1,
            backend: "flex".to_owned(),
        },
    }
}

/// A leased task of [`STUDY`].
pub fn task(attempt_id: u64, work: Work) -> v1::Task {
    v1::Task {
        task_id: 100 + attempt_id,
        attempt_id,
        study: "digits".to_owned(),
        resolved_study: StudySpec::parse(STUDY).unwrap().to_resolved(),
        secret: secret_of_attempt(attempt_id),
        data_hash: Vec::new(),
        work: Some(work),
    }
}

/// The secret of an attempt.
pub fn secret_of_attempt(attempt_id: u64) -> Vec<u8> {
    format!("attempt {attempt_id}").into_bytes()
}

/// The work of training the first candidate of [`STUDY`].
pub fn train_trial() -> Work {
    let choices = StudySpec::parse(STUDY).unwrap().space.choices().len();
    Work::TrainTrial(v1::TrainTrial { number: 3, genotype: vec![0; choices], ..Default::default() })
}

/// The work of timing a model on the device of [`config`].
pub fn measure_model(model: Vec<u8>, number: Option<u32>) -> Work {
    let device_class = "board".to_owned();
    let target = Some(v1::Target { device_class, ..Default::default() });
    Work::MeasureModel(v1::MeasureModel { model, number, target })
}
