//! A relay between two sides that holds everything back, and says who spoke: round
//! trips counted from outside, without Panta's own counting.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use panta_transports::copy::checksum;

/// How long everything is held back, each way.
pub const DELAY: Duration = Duration::from_millis(10);
/// The longest that something to be said is waited for.
const DEADLINE: Duration = Duration::from_secs(20);

/// How often either side spoke, over all connections.
#[derive(Default)]
pub struct Talk {
    turns: AtomicU64,
    client_spoke_last: AtomicBool,
    client: Words,
    server: Words,
    /// Beyond so many bytes of the server's nothing is carried; zero: no limit.
    cut_at_bytes: AtomicU64,
    /// Beyond so many it is held back until the connections are cut; zero: no limit.
    hold_at_bytes: AtomicU64,
    held: AtomicBool,
    cut: AtomicBool,
}

/// What one side said.
#[derive(Default)]
struct Words {
    count: AtomicU64,
    bytes: AtomicU64,
}

impl Words {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

impl Talk {
    fn client_speaks(&self, bytes: usize) {
        self.client.add(bytes);
        if !self.client_spoke_last.swap(true, Ordering::SeqCst) {
            self.turns.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn server_speaks(&self, bytes: usize) {
        self.server.add(bytes);
        self.client_spoke_last.store(false, Ordering::SeqCst);
    }

    /// How often the client spoke after the server.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    /// Once the server has said so many bytes more, all connections end.
    pub fn cut_after(&self, bytes: u64) {
        let at = self.server_bytes() + bytes;
        self.cut_at_bytes.store(at, Ordering::SeqCst);
    }

    /// Once the server has said so many bytes more, nothing of it is carried until
    /// [`cut`](Self::cut).
    pub fn hold_after(&self, bytes: u64) {
        let at = self.server_bytes() + bytes;
        self.hold_at_bytes.store(at, Ordering::SeqCst);
    }

    /// Waits until something is held back.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn wait_held(&self) {
        wait_beyond(0, || u64::from(self.held.load(Ordering::SeqCst)));
    }

    /// Ends all connections that something of is held back, and carries what is said over
    /// others.
    pub fn cut(&self) {
        self.hold_at_bytes.store(0, Ordering::SeqCst);
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Holds back what is to be held; whether the connection ends then.
    fn holds(&self) -> bool {
        let at = self.hold_at_bytes.load(Ordering::SeqCst);
        if at == 0 || self.server_bytes() < at {
            return false;
        }
        self.held.store(true, Ordering::SeqCst);
        let began = Instant::now();
        while !self.cut.load(Ordering::SeqCst) && began.elapsed() < DEADLINE {
            thread::yield_now();
        }
        true
    }

    fn is_cut(&self) -> bool {
        let at = self.cut_at_bytes.load(Ordering::SeqCst);
        at > 0 && self.server_bytes() >= at
    }

    /// How often the client spoke.
    #[must_use]
    pub fn client_words(&self) -> u64 {
        self.client.count.load(Ordering::SeqCst)
    }

    /// How often the server spoke.
    #[must_use]
    pub fn server_words(&self) -> u64 {
        self.server.count.load(Ordering::SeqCst)
    }

    /// How many bytes the server said.
    #[must_use]
    pub fn server_bytes(&self) -> u64 {
        self.server.bytes.load(Ordering::SeqCst)
    }
}

/// Waits until a count is above what it was.
///
/// # Panics
/// If that does not happen.
pub fn wait_beyond(before: u64, count: impl Fn() -> u64) {
    let began = Instant::now();
    while count() <= before {
        assert!(began.elapsed() < DEADLINE, "nothing is said");
        thread::yield_now();
    }
}

/// Carries bytes one way, late. Each read is held back as a whole.
fn carry(mut from: TcpStream, mut to: TcpStream, talk: &Talk, is_server: bool) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        match is_server {
            true => talk.server_speaks(count),
            false => talk.client_speaks(count),
        }
        if talk.is_cut() || (is_server && talk.holds()) {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        thread::sleep(DELAY);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // The other side may have closed first.
    let _ = to.shutdown(Shutdown::Write);
}

/// Where a writer's contact file says that it is, and where in the file that stands.
fn address(bytes: &[u8]) -> (usize, SocketAddr) {
    let at = bytes.windows(4).rposition(|it| it == b"PNTK").unwrap();
    let at = at + 16;
    assert_eq!(bytes[at..at + 5], [4, 127, 0, 0, 1]);
    let port = u16::from_le_bytes([bytes[at + 5], bytes[at + 6]]);
    (at + 5, ([127, 0, 0, 1], port).into())
}

/// Has readers that find the contact file `reader` find a relay in place of the writer
/// whose contact file is `writer`.
pub fn put_between(writer: &Path, reader: &Path) -> Arc<Talk> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bytes = fs::read(writer).unwrap();
    let (at, there) = address(&bytes);
    let port = listener.local_addr().unwrap().port();
    bytes[at..at + 2].copy_from_slice(&port.to_le_bytes());
    let crc = checksum(&bytes[40..]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    // It holds the key: a copy is as private as the file.
    fs::copy(writer, reader).unwrap();
    fs::write(reader, bytes).unwrap();
    relay(listener, there)
}

/// Carries what comes to `listener` to `server` and back.
pub fn relay(listener: TcpListener, server: SocketAddr) -> Arc<Talk> {
    let talk = Arc::new(Talk::default());
    let shared = Arc::clone(&talk);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(server) else {
                break;
            };
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let (client_to, server_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (up, down) = (Arc::clone(&shared), Arc::clone(&shared));
            thread::spawn(move || carry(client, server_to, &up, false));
            thread::spawn(move || carry(server, client_to, &down, true));
        }
    });
    talk
}
