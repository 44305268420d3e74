//! `edgesmith coordinator`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgesmith_client::{DEFAULT_DATA_DIR, MemorySize, TokenOptions};
use edgesmith_common::TokenRole;
use edgesmith_console::{invalid, number, print_text, start};
use edgesmith_coordinator::service::{self, Ready, ServeConfig, Tls};
use tokio::net::TcpListener;

/// A chosen token with fewer characters gets a warning.
const SHORT_TOKEN: usize = 16;

/// Arguments: the address, the data directory, and who may connect.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on. Beyond this machine, clients need TLS and a token; the first start
    /// makes both
    #[arg(long, default_value = "127.0.0.1:7447", value_name = "HOST:PORT")]
    pub listen: String,
    /// Directory for studies and artifacts
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub token: TokenOptions,
    /// Listen beyond this machine without TLS, and without a token if there is none: everybody on
    /// the way can read and change everything
    #[arg(long, conflicts_with = "tls_cert")]
    pub insecure: bool,
    /// PEM file with the server's certificate chain, instead of a certificate of its own. It is
    /// read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the server's private key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Seconds without a heartbeat after which a worker's tasks go to other workers
    #[arg(long, value_name = "SECONDS", default_value_t = 30, allow_negative_numbers = true,
          value_parser = number::whole(1..=3600_u64))]
    pub lease_seconds: u64,
    /// Hand out no tasks, and take no artifacts, while less than this is free in the file system of
    /// the data directory, such as 1GiB. Workers keep their results and wait, and it goes on by
    /// itself when there is room. Default: 256MiB, or 5 % of a file system of less than 5 GiB
    #[arg(long, value_name = "SIZE")]
    pub min_free_space: Option<MemorySize>,
}

/// Serves until Ctrl-C.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = start::shutdown_on_signal()?;
    let listener = listen(&args.listen).await?;
    let address = listener.local_addr()?;
    let beyond = !address.ip().is_loopback();
    let mut config = ServeConfig::new(args.data_dir.clone());
    config.lease = Duration::from_secs(args.lease_seconds);
    config.heartbeat = config.lease / 6;
    config.min_free = args.min_free_space.map(|MemorySize(bytes)| bytes);
    config.token = args.token.read()?;
    if config.token.as_ref().is_some_and(|token| token.secret().len() < SHORT_TOKEN) {
        eprintln!(
            "warning: the token in {} is short and can be guessed; use a random one with at least \
             {SHORT_TOKEN} characters",
            args.token.place()
        );
    }
    config.tls = match (args.tls_cert, args.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::Files { certificate, key }),
        _ => (beyond && !args.insecure).then_some(Tls::Own),
    };
    config.first_tokens = beyond && !args.insecure;
    config.pinned = !args.insecure && !matches!(config.tls, Some(Tls::Files { .. }));
    let (tls, place) = (config.tls.clone(), args.token.place());
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let config = config.with_ready(ready);
    let mut server = Box::pin(service::serve(config, listener, shutdown.clone().cancelled_owned()));
    let ready = tokio::select! {
        // A server that cannot start drops its end of the channel; its own error says why.
        Ok(ready) = is_ready => ready,
        ended = &mut server => {
            ended?;
            return Ok(());
        }
    };
    print_text(&introduction(&ready, address, tls.as_ref(), &place, &args.data_dir))?;
    if beyond && !ready.token_required {
        eprintln!("warning: anyone who can reach {address} can use this coordinator");
    }
    server.await?;
    eprintln!(
        "the coordinator has stopped; its studies are kept in {} and go on when it starts again",
        args.data_dir.display()
    );
    Ok(())
}

/// Opens the port. A host name may have several addresses; the first one that works is used.
async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    let found = tokio::net::lookup_host(address).await.map_err(|error| {
        invalid(format!(
            "cannot find the address of --listen {address}: {error}; write HOST:PORT, for example \
             0.0.0.0:7447"
        ))
    })?;
    let found: Vec<SocketAddr> = found.collect();
    TcpListener::bind(found.as_slice()).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow::anyhow!(
            "{address} is in use, perhaps by another coordinator; choose another address with \
             --listen"
        ),
        _ => anyhow::anyhow!("failed to listen on {address}: {error}"),
    })
}

/// Where it listens, who may connect, and how. `place` says where the chosen token is from, if
/// there is one.
fn introduction(
    ready: &Ready,
    listen: SocketAddr,
    tls: Option<&Tls>,
    place: &str,
    data_dir: &Path,
) -> String {
    let host = if listen.ip().is_unspecified() {
        service::host_name().unwrap_or_else(|| "HOST".to_owned())
    } else if listen.is_ipv6() {
        format!("[{}]", listen.ip())
    } else {
        listen.ip().to_string()
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{host}:{}", listen.port());
    let all = if listen.ip().is_unspecified() { " (all addresses of this machine)" } else { "" };
    let mut text = format!(
        "coordinator listens on {url}{all} {} TLS, asks for {}, and keeps its studies in {}\n",
        if tls.is_some() { "with" } else { "without" },
        if ready.token_required { "tokens" } else { "no tokens" },
        data_dir.display()
    );
    match ready.chosen {
        None => {}
        Some(TokenRole::Admin) => {
            text.push_str(&format!("anyone with the token in {place} is an admin here\n"));
        }
        Some(role) => {
            text.push_str(&format!(
                "the token in {place} was made here and keeps its role {role}\n"
            ));
        }
    }
    if let (Some(Tls::Own), Some(fingerprint), Some(_)) = (tls, ready.fingerprint, ready.chosen) {
        text.push_str(&format!(
            "clients need the address {url} and the chosen token as es1.{fingerprint}.TOKEN\n"
        ));
    }
    for (role, token) in &ready.made {
        let (who, command) = match role {
            TokenRole::Worker => ("workers", "worker"),
            TokenRole::Viewer | TokenRole::User | TokenRole::Admin => {
                ("you", "submit STUDY.toml --wait")
            }
        };
        text.push_str(&format!(
            "for {who}:\n    edgesmith {command} --coordinator {url} --token {token}\n"
        ));
    }
    if !ready.made.is_empty() {
        text.push_str("these tokens are not shown again; `edgesmith token new` makes others\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use edgesmith_common::AccessToken;

    use super::*;

    #[tokio::test]
    async fn a_host_name_is_resolved_and_an_unknown_one_is_explained() {
        let listener = listen("localhost:0").await.unwrap();
        assert!(listener.local_addr().unwrap().ip().is_loopback());
        for wrong in ["localhost", "host.invalid:7447", "127.0.0.1:99999"] {
            let refused = listen(wrong).await.unwrap_err().to_string();
            assert!(refused.contains(wrong) && refused.contains("HOST:PORT"), "{refused}");
        }
    }

    #[test]
    fn the_introduction_shows_each_token_in_a_command() {
        let token = AccessToken::made(None, "abc".to_owned());
        let made = vec![(TokenRole::Worker, token)];
        let mut ready = Ready { fingerprint: None, made, token_required: true, chosen: None };
        let listen = ([10, 0, 0, 7], 7447).into();
        let said = |ready: &Ready, tls| {
            introduction(ready, listen, tls, "EDGESMITH_TOKEN", "studies".as_ref())
        };
        let text = said(&ready, Some(&Tls::Own));
        let line = "coordinator listens on https://10.0.0.7:7447 with TLS, asks for tokens, and \
                    keeps its studies in studies\n";
        assert!(text.starts_with(line), "{text}");
        let command = "edgesmith worker --coordinator https://10.0.0.7:7447 --token es1.-.abc";
        assert!(text.contains(command), "{text}");

        (ready.token_required, ready.chosen) = (false, Some(TokenRole::Admin));
        let text = said(&ready, None);
        assert!(text.contains("http://10.0.0.7:7447 without TLS, asks for no tokens"), "{text}");
        assert!(text.contains("the token in EDGESMITH_TOKEN is an admin here\n"), "{text}");
    }
}
