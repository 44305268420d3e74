//! A proxy that makes the way to a coordinator slow in one direction, or cuts it. What waits for
//! its turn fills the buffers of the sockets, as it fills those of routers on the way.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that are passed on at once.
const PIECE: usize = 512;

/// A proxy on a loopback port. It ends with the process.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    link: Arc<Link>,
}

/// Which direction is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// What clients send.
    Up,
    /// What they receive.
    Down,
}

/// What all connections share.
#[derive(Debug)]
struct Link {
    target: String,
    slow: Slow,
    /// Bytes per second in the slow direction, of all connections together.
    rate: u64,
    /// When the next bytes may be sent.
    free: Mutex<Instant>,
    sent: AtomicU64,
    /// The connections that are open.
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Starts one before the coordinator at `url`, with `rate` bytes per second in one direction.
    pub fn start(url: &str, slow: Slow, rate: u64) -> Self {
        let (_, target) = url.split_once("://").expect("a URL");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let link = Arc::new(Link {
            target: target.to_owned(),
            slow,
            rate,
            free: Mutex::new(Instant::now()),
            sent: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let shared = Arc::clone(&link);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                shared.connect(client);
            }
        });
        Self { address, link }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes that have gone through it in the slow direction.
    pub fn sent(&self) -> u64 {
        self.link.sent.load(Ordering::Relaxed)
    }

    /// Cuts all connections. New ones can be made.
    pub fn cut(&self) {
        let mut open = self.link.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            // It may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Link {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(&self.target) else { return };
        let again = |stream: &TcpStream| stream.try_clone().expect("a socket can be shared");
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.extend([again(&client), again(&server)]);
        drop(open);
        let (from, to, link) = (again(&client), again(&server), Arc::clone(self));
        std::thread::spawn(move || link.pass(from, to, Slow::Up));
        let link = Arc::clone(self);
        std::thread::spawn(move || link.pass(server, client, Slow::Down));
    }

    /// Passes bytes on until one side ends.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, direction: Slow) {
        let mut piece = [0; PIECE];
        while let Ok(read @ 1..) = from.read(&mut piece) {
            if direction == self.slow {
                self.wait_for(read as u64);
                self.sent.fetch_add(read as u64, Ordering::Relaxed);
            }
            if to.write_all(&piece[..read]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    /// Waits until so many bytes have gone over the link.
    fn wait_for(&self, bytes: u64) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        *free = (*free).max(Instant::now()) + takes;
        let until = *free;
        drop(free);
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}
