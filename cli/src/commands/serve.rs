//! `edgesmith coordinator`.

use std::io::ErrorKind;
use std::time::Duration;

use edgesmith_coordinator::service::{self, ServeConfig, TlsIdentity};
use tokio::net::TcpListener;

use crate::args::CoordinatorArgs;
use crate::failure::invalid;
use crate::setup;

/// Serves until Ctrl-C.
pub async fn run(args: CoordinatorArgs) -> anyhow::Result<()> {
    let shutdown = setup::shutdown_on_signal();
    let listener = TcpListener::bind(args.listen).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow::anyhow!(
            "{} is in use; another coordinator may run there, or choose another address with --listen",
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
        // One that cannot start drops its end of the channel; its error says more.
        Ok(()) = is_ready => {}
        ended = &mut server => {
            ended?;
            return Ok(());
        }
    }
    crate::output::print(&format!(
        "coordinator listens on {address}, keeps its studies in {}\n",
        args.data_dir.display()
    ))?;
    Ok(server.await?)
}
