//! A worker and a coordinator with different protocol versions: a real worker process connects to a
//! server that answers like a coordinator of another version.

use edgesmith_proto::v1;
use edgesmith_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use edgesmith_tests::run;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A coordinator with a later protocol version than the worker's.
struct Later;

fn nothing_else<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("a refused worker sends no further requests"))
}

#[tonic::async_trait]
impl WorkerService for Later {
    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let spoken = request.into_inner().protocol_version;
        Err(Status::failed_precondition(format!(
            "the worker speaks protocol version {spoken}, this coordinator {}; run the same version \
             of edgesmith on both",
            spoken + 1
        )))
    }

    async fn lease(
        &self,
        _: Request<v1::LeaseRequest>,
    ) -> Result<Response<v1::LeaseResponse>, Status> {
        nothing_else()
    }

    async fn heartbeat(
        &self,
        _: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        nothing_else()
    }

    async fn report(
        &self,
        _: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        nothing_else()
    }

    async fn leave(
        &self,
        _: Request<v1::LeaveRequest>,
    ) -> Result<Response<v1::LeaveResponse>, Status> {
        nothing_else()
    }
}

#[test]
fn a_worker_with_another_version_ends_with_one_sentence() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)))
        .unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(
        tonic::transport::Server::builder()
            .add_service(WorkerServiceServer::new(Later))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let directory = tempfile::tempdir().unwrap();
    let ran = run(directory.path(), &["worker", "--coordinator", &url, "--roles", "measure"]);
    let mine = edgesmith_proto::PROTOCOL_VERSION;
    let said = format!("the worker speaks protocol version {mine}, this coordinator {}", mine + 1);
    ran.fails(1, &[&said, "run the same version"]);
    assert_eq!(ran.stderr().matches("speaks protocol version").count(), 1, "{}", ran.stderr());
}
