//! `edgesmith coordinator`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use edgesmith_client::DEFAULT_DATA_DIR;
use edgesmith_console::{invalid, print_text, start};
use edgesmith_coordinator::service::{self, ServeConfig, TlsIdentity};
use tokio::net::TcpListener;

/// Arguments: the address, the data directory, and who may connect.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:7447", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Directory for studies and artifacts
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// Bearer token that every client must send
    #[arg(long, env = "EDGESMITH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// PEM file with the server's certificate chain
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the server's private key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Seconds without a heartbeat after which a worker's tasks go to other workers
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub lease_seconds: u64,
}

/// Serves until Ctrl-C.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = start::shutdown_on_signal()?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow::anyhow!(
            "{} is in use, perhaps by another coordinator; choose another address with --listen",
            args.listen
        ),
        _ => anyhow::anyhow!("failed to listen on {}: {error}", args.listen),
    })?;
    let address = listener.local_addr()?;
    let mut config = ServeConfig::new(args.data_dir.clone());
    config.lease = Duration::from_secs(args.lease_seconds);
    config.heartbeat = config.lease / 6;
    config.token = args.token;
    if let (Some(certificate), Some(key)) = (args.tls_cert, args.tls_key) {
        let read = |file: &std::path::Path| {
            std::fs::read(file)
                .map_err(|e| invalid(format!("failed to read {}: {e}", file.display())))
        };
        config.tls =
            Some(TlsIdentity { certificate_pem: read(&certificate)?, key_pem: read(&key)? });
    }
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let config = config.with_ready(ready);
    let mut server = Box::pin(service::serve(config, listener, shutdown.clone().cancelled_owned()));
    tokio::select! {
        // A server that cannot start drops its end of the channel; its own error says why.
        Ok(()) = is_ready => {}
        ended = &mut server => {
            ended?;
            return Ok(());
        }
    }
    print_text(&format!(
        "coordinator listens on {address} and keeps its studies in {}\n",
        args.data_dir.display()
    ))?;
    Ok(server.await?)
}
