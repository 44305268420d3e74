//! Accepts connections, with TLS or without. A slow or broken client stalls nobody: each handshake
//! runs in a task of its own, has a time limit, and the number of connections is bounded, in all and
//! for each address.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Sender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::held::{Held, Registered};
use super::throttle::network;

/// Most open connections. Further ones are closed at once.
const MOST_CONNECTIONS: usize = 4096;
/// Most unfinished TLS handshakes. Further connections are closed at once.
const MOST_HANDSHAKES: usize = 512;
/// Most of both from one address, so that one machine cannot take the place of all others.
const ADDRESS_CONNECTIONS: usize = 2048;
const ADDRESS_HANDSHAKES: usize = 128;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after a failure to accept, for example because there are no more file
/// descriptors. It doubles from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Least time between two log lines of one kind.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes with which every HTTP/2 connection begins. Before them, HTTP/2 asks for no sign of life.
const PREFACE: usize = 24;
/// The first byte of a TLS connection: a record with a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most open connections.
    pub connections: usize,
    /// Most unfinished TLS handshakes.
    pub handshakes: usize,
    /// Most open connections from one address.
    pub address_connections: usize,
    /// Most unfinished TLS handshakes from one address.
    pub address_handshakes: usize,
    /// How long a TLS handshake may take, and then the beginning of HTTP/2.
    pub handshake_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: MOST_CONNECTIONS,
            handshakes: MOST_HANDSHAKES,
            address_connections: ADDRESS_CONNECTIONS,
            address_handshakes: ADDRESS_HANDSHAKES,
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }
}

/// Who is at the other end of a connection. Handlers find it among a request's extensions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address, if known.
    pub address: Option<IpAddr>,
    /// Whether it speaks without TLS to a port with TLS. Such a connection is kept only to tell it
    /// so.
    pub plain_at_tls: bool,
    /// The number of the connection.
    pub line: u64,
}

/// The connections to `listener` that are ready for requests, each of them in the books of `held`.
/// It listens until the stream is dropped.
pub fn connections(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    bounds: Bounds,
    held: Held,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(64);
    tokio::spawn(accept(listener, tls.map(TlsAcceptor::from), bounds, held, ready));
    ReceiverStream::new(connections)
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    bounds: Bounds,
    held: Held,
    ready: Sender<io::Result<Connection>>,
) {
    let open = Places::new(bounds.connections, bounds.address_connections);
    let shaking = Places::new(bounds.handshakes, bounds.address_handshakes);
    let (full, failing) = (Occasional::default(), Occasional::default());
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            () = ready.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                failing.warn(|| format!("failed to accept a connection: {error}"));
                // Without a pause, this would spin until a file descriptor is free.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
                continue;
            }
        };
        pause = FIRST_PAUSE;
        let peer = Peer { address: Some(address.ip().to_canonical()), ..Peer::default() };
        let place = match open.take(address.ip()) {
            Ok(place) => place,
            Err(why) => {
                full.warn(|| format!("closing new connections: there are {why} already"));
                continue;
            }
        };
        // If it fails, answers are only slower.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls.clone() else {
            let connection = Connection::new(Io::Plain(stream), peer, place, bounds, &held);
            if ready.send(Ok(connection)).await.is_err() {
                return;
            }
            continue;
        };
        let handshake = match shaking.take(address.ip()) {
            Ok(handshake) => handshake,
            Err(why) => {
                full.warn(|| {
                    format!("closing new connections: {why} have not finished to connect")
                });
                continue;
            }
        };
        let (ready, held) = (ready.clone(), held.clone());
        tokio::spawn(async move {
            let _handshake = handshake;
            match tokio::time::timeout(bounds.handshake_timeout, shake_hands(stream, tls)).await {
                Ok(Ok(io)) => {
                    let peer = Peer { plain_at_tls: matches!(io, Io::Plain(_)), ..peer };
                    let connection = Connection::new(io, peer, place, bounds, &held);
                    // The receiver is gone if the server stops.
                    let _ = ready.send(Ok(connection)).await;
                }
                Ok(Err(error)) => tracing::debug!("no TLS connection to {address}: {error}"),
                Err(_) => tracing::debug!("no TLS connection to {address}: it took too long"),
            }
        });
    }
}

/// Begins TLS, unless the client does not.
async fn shake_hands(stream: TcpStream, tls: TlsAcceptor) -> io::Result<Io> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
        return Ok(Io::Plain(stream));
    }
    Ok(Io::Tls(Box::new(tls.accept(stream).await?)))
}

/// Places for connections, in all and for each address.
#[derive(Debug, Clone)]
struct Places {
    all: Arc<Semaphore>,
    most: usize,
    of_address: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place of a connection, until it is dropped.
#[derive(Debug)]
struct Place {
    places: Places,
    address: IpAddr,
    _all: OwnedSemaphorePermit,
}

impl Places {
    fn new(most: usize, of_address: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(most)), most, of_address, taken: Arc::default() }
    }

    /// A place for a connection from `address`. The error says who has all places.
    fn take(&self, address: IpAddr) -> Result<Place, String> {
        let address = network(address);
        let all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| self.most.to_string())?;
        let mut taken = self.taken();
        let count = taken.entry(address).or_default();
        if *count >= self.of_address {
            return Err(format!("{count} of {address}"));
        }
        *count += 1;
        drop(taken);
        Ok(Place { places: self.clone(), address, _all: all })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // A poisoned one is safe to use: every update leaves it whole.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        let count = taken.entry(self.address).or_default();
        *count = count.saturating_sub(1);
        if *count == 0 {
            taken.remove(&self.address);
        }
    }
}

/// Logs at most one line per interval.
#[derive(Debug, Clone, Default)]
pub struct Occasional(Arc<Mutex<Option<Instant>>>);

impl Occasional {
    /// Logs a warning, if it is time for one.
    pub fn warn(&self, text: impl FnOnce() -> String) {
        if self.is_due() {
            tracing::warn!("{}", text());
        }
    }

    /// Logs at level info, if it is time for a line.
    pub fn info(&self, text: impl FnOnce() -> String) {
        if self.is_due() {
            tracing::info!("{}", text());
        }
    }

    fn is_due(&self) -> bool {
        // A poisoned one is safe to use: it is only the time of the last line.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= LOG_INTERVAL);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// A connection that is ready for requests. It counts until it is dropped.
pub struct Connection {
    io: Io,
    peer: Peer,
    /// When the beginning of HTTP/2 must have come, and how many bytes of it are missing; `None`
    /// once it is there.
    beginning: Option<(Pin<Box<Sleep>>, usize)>,
    /// Completes when the connection has to be closed.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _registered: Registered,
    _place: Place,
}

impl Connection {
    fn new(io: Io, peer: Peer, place: Place, bounds: Bounds, held: &Held) -> Self {
        let until = Box::pin(tokio::time::sleep(bounds.handshake_timeout));
        let registered = held.connect(peer.address, Instant::now());
        Self {
            io,
            peer: Peer { line: registered.number, ..peer },
            beginning: Some((until, PREFACE)),
            cut: Box::pin(registered.cut.clone().cancelled_owned()),
            _registered: registered,
            _place: place,
        }
    }

    /// An error if the connection has to be closed; otherwise the task is woken when it has to be.
    fn check_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_cut(cx)?;
        let before = buffer.filled().len();
        let read = match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buffer),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buffer),
        };
        if let Some((until, missing)) = &mut this.beginning {
            *missing = missing.saturating_sub(buffer.filled().len() - before);
            if *missing == 0 {
                this.beginning = None;
            } else if until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // Also here: a connection to which nothing can be written is not read.
        this.check_cut(cx)?;
        match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Io::Tls(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_cut(cx)?;
        match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Io::Tls(io) => Pin::new(io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_cut(cx)?;
        match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::service::tls::{Tls, server_config};
    use crate::store::AccessFiles;

    #[tokio::test]
    async fn connections_above_the_bound_are_closed_until_one_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds { connections: 1, ..Bounds::default() };
        let mut accepted = connections(listener, None, bounds, Held::default());
        let _first = TcpStream::connect(address).await.unwrap();
        let held = accepted.next().await.unwrap().unwrap();
        assert_eq!(held.connect_info().address, Some([127, 0, 0, 1].into()));
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(second.read(&mut [0]).await.unwrap(), 0, "it was not closed");
        drop(held);
        let _third = TcpStream::connect(address).await.unwrap();
        accepted.next().await.unwrap().unwrap();
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let places = Places::new(5, 2);
        let [here, there]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
        let first = places.take(here).unwrap();
        let _second = places.take(here).unwrap();
        assert_eq!(places.take(here).unwrap_err(), "2 of 10.0.0.1");
        let others = [places.take(there).unwrap(), places.take(there).unwrap()];
        // IPv6 networks count as one address.
        let network = ["2001:db8::1", "2001:db8::2"].map(|a| a.parse().unwrap());
        let _one = places.take(network[0]).unwrap();
        assert_eq!(places.take(network[1]).unwrap_err(), "5");
        drop((first, others));
        places.take(here).unwrap();
        assert_eq!(places.taken().len(), 2);
    }

    #[tokio::test]
    async fn silent_clients_do_not_hold_up_others_and_are_closed_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let files = AccessFiles::new(directory.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = server_config(&Tls::Own, &files, address).unwrap();
        let handshake_timeout = Duration::from_millis(300);
        let bounds = Bounds { handshake_timeout, ..Bounds::default() };
        let mut accepted = connections(listener, Some(tls), bounds, Held::default());
        let mut silent = TcpStream::connect(address).await.unwrap();
        // Without TLS, a client is let in to be told so.
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut connection = accepted.next().await.unwrap().unwrap();
        assert!(connection.connect_info().plain_at_tls);
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        // One that has begun may be silent for longer.
        let mut bytes = [0; PREFACE];
        connection.read_exact(&mut bytes).await.unwrap();
        let longer = tokio::time::timeout(3 * handshake_timeout, connection.read(&mut bytes));
        assert!(longer.await.is_err(), "it was closed");
    }

    #[tokio::test]
    async fn a_connection_that_does_not_begin_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds { handshake_timeout: Duration::from_millis(100), ..Bounds::default() };
        let mut accepted = connections(listener, None, bounds, Held::default());
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"PRI * HTTP").await.unwrap();
        let mut connection = accepted.next().await.unwrap().unwrap();
        let mut bytes = [0; PREFACE];
        let error = connection.read_exact(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
