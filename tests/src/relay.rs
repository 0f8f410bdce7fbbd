//! A relay between two sides that holds everything back, and says who spoke: round
//! trips counted from outside, without Panta's own counting.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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
fn carry(mut from: TcpStream, mut to: TcpStream, talk: &Talk, speaks: impl Fn(usize)) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        speaks(count);
        if talk.is_cut() {
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
            thread::spawn(move || carry(client, server_to, &up, |bytes| up.client_speaks(bytes)));
            thread::spawn(move || {
                carry(server, client_to, &down, |bytes| down.server_speaks(bytes));
            });
        }
    });
    talk
}
