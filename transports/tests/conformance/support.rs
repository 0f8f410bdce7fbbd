//! An endpoint, peers of it, and what its handler has heard.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use panta_transports::channel::Key;
use panta_transports::coupling::{
    Choice, Endpoint, EndpointOptions, Handler, Lost, Peer, PeerId, PeerInfo, PeerOptions, Piece,
    PieceRef, Ticket, TransportName,
};
use panta_transports::rdma::{Fabric, FabricOptions};
use panta_transports::region::{Arena, ArenaOptions, Extent};
use panta_transports::time::Wait;

/// Longer than anything here takes.
pub(crate) fn wait() -> Wait {
    Wait::for_at_most(Duration::from_secs(60))
}

pub(crate) fn key() -> Key {
    Key::from_bytes([7; 32])
}

/// A provider that needs no hardware.
const PROVIDER: &str = "tcp;ofi_rxm";

thread_local! {
    /// Whether endpoints of this test have a fabric.
    static HAS_FABRIC: Cell<bool> = const { Cell::new(false) };
}

/// Gives the endpoints of this test a fabric. Without the module
/// (`cargo build -p panta-fabric`) or without libfabric the test is skipped by
/// name; where `PANTA_CI` is set it fails.
pub(crate) fn use_fabric(test: &str) -> bool {
    if let Err(error) = Fabric::load() {
        assert!(std::env::var_os("PANTA_CI").is_none(), "{test}: {error}");
        eprintln!("skipped: {test}: {error}");
        return false;
    }
    HAS_FABRIC.set(true);
    true
}

/// What the handler was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    Joined(PeerId, Vec<u8>, PeerInfo),
    Message(PeerId, Vec<u8>),
    Subscribed(PeerId, Vec<u8>),
    Lost(PeerId, Lost),
}

type Answer = Box<dyn Fn(&Heard) -> Result<(), String> + Send + Sync>;

/// Writes down what it is told, and answers as the test likes.
pub(crate) struct Recorder {
    heard: Mutex<Vec<Heard>>,
    changed: Condvar,
    answer: Mutex<Option<Answer>>,
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            heard: Mutex::default(),
            changed: Condvar::new(),
            answer: Mutex::new(None),
        })
    }

    pub(crate) fn answer(
        &self,
        answer: impl Fn(&Heard) -> Result<(), String> + Send + Sync + 'static,
    ) {
        *self.answer.lock().unwrap() = Some(Box::new(answer));
    }

    fn note(&self, heard: Heard) -> Result<(), String> {
        let answer = self.answer.lock().unwrap();
        let result = answer.as_ref().map_or(Ok(()), |answer| answer(&heard));
        self.heard.lock().unwrap().push(heard);
        self.changed.notify_all();
        result
    }

    /// The first that fits, once it is heard; `drive` runs meanwhile.
    pub(crate) fn until<T>(&self, endpoint: &Endpoint, fits: impl Fn(&Heard) -> Option<T>) -> T {
        let wait = wait();
        loop {
            if let Some(found) = self.heard.lock().unwrap().iter().find_map(&fits) {
                return found;
            }
            endpoint.drive(&wait).expect("nothing of that is heard");
        }
    }

    /// As [`Recorder::until`], with nobody who drives.
    pub(crate) fn until_alone<T>(&self, fits: impl Fn(&Heard) -> Option<T>) -> T {
        let mut heard = self.heard.lock().unwrap();
        loop {
            if let Some(found) = heard.iter().find_map(&fits) {
                return found;
            }
            let woken = self.changed.wait_timeout(heard, Duration::from_secs(60));
            let (now, timeout) = woken.unwrap();
            assert!(!timeout.timed_out(), "nothing of that is heard");
            heard = now;
        }
    }

    /// Drives until so many messages are heard.
    pub(crate) fn until_messages(&self, endpoint: &Endpoint, count: usize) {
        let wait = wait();
        while self.messages().len() < count {
            endpoint.drive(&wait).expect("there are no more messages");
        }
    }

    pub(crate) fn joined(&self, endpoint: &Endpoint) -> PeerId {
        self.until(endpoint, |heard| match heard {
            Heard::Joined(peer, ..) => Some(*peer),
            _ => None,
        })
    }

    pub(crate) fn lost(&self, endpoint: &Endpoint) -> Lost {
        self.until(endpoint, |heard| match heard {
            Heard::Lost(_, lost) => Some(lost.clone()),
            _ => None,
        })
    }

    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        let heard = self.heard.lock().unwrap();
        let messages = heard.iter().filter_map(|heard| match heard {
            Heard::Message(_, message) => Some(message.clone()),
            _ => None,
        });
        messages.collect()
    }

    pub(crate) fn all(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

impl Handler for Recorder {
    fn joined(&self, peer: PeerId, hello: &[u8], how: &PeerInfo) -> Result<(), String> {
        self.note(Heard::Joined(peer, hello.to_vec(), how.clone()))
    }

    fn message(&self, peer: PeerId, message: &[u8]) {
        let _ = self.note(Heard::Message(peer, message.to_vec()));
    }

    fn subscribed(&self, peer: PeerId, what: &[u8]) {
        let _ = self.note(Heard::Subscribed(peer, what.to_vec()));
    }

    fn lost(&self, peer: PeerId, why: &Lost) {
        let _ = self.note(Heard::Lost(peer, why.clone()));
    }
}

/// An endpoint and all that belongs to it.
pub(crate) struct Side {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) arena: Arena,
    pub(crate) recorder: Arc<Recorder>,
}

impl Side {
    pub(crate) fn open(change: impl FnOnce(&mut EndpointOptions)) -> Self {
        let mut options = EndpointOptions::new(key());
        if HAS_FABRIC.get() {
            options.fabric = FabricOptions::with_provider(PROVIDER);
        }
        change(&mut options);
        let arena = Arena::new(ArenaOptions {
            limit_bytes: 1 << 30,
            shared: true,
        });
        let recorder = Recorder::new();
        let handler: Arc<dyn Handler> = Arc::clone(&recorder) as _;
        let endpoint = Endpoint::open(options, arena.clone(), handler).unwrap();
        Self {
            endpoint: Arc::new(endpoint),
            arena,
            recorder,
        }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        self.endpoint.ticket()
    }

    /// An extent with bytes that tell where they are.
    pub(crate) fn extent(&self, bytes: usize, seed: u64) -> Extent {
        let mut extent = self.arena.allocate(bytes).unwrap();
        fill(extent.as_mut_slice(), seed);
        extent
    }
}

pub(crate) fn fill(bytes: &mut [u8], seed: u64) {
    for (index, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = (index as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}

pub(crate) fn pattern(bytes: usize, seed: u64) -> Vec<u8> {
    let mut pattern = vec![0; bytes];
    fill(&mut pattern, seed);
    pattern
}

pub(crate) fn options(transport: TransportName) -> PeerOptions {
    PeerOptions {
        choice: Choice::Only(transport),
        ..PeerOptions::new(key())
    }
}

pub(crate) fn connect(side: &Side, transport: TransportName) -> Peer {
    connect_with(side, transport, |_| {})
}

pub(crate) fn connect_with(
    side: &Side,
    transport: TransportName,
    change: impl FnOnce(&mut PeerOptions),
) -> Peer {
    let mut options = options(transport);
    change(&mut options);
    Peer::connect(&side.ticket(), &options, &wait()).unwrap()
}

/// The bytes of an extent from `offset` on.
pub(crate) fn piece_of(extent: &Extent, offset: u64, bytes: u64) -> PieceRef {
    PieceRef {
        region: extent.region(),
        offset: extent.offset() + offset,
        bytes,
    }
}

/// Memory to read pieces into.
pub(crate) fn memory_for(pieces: &[PieceRef]) -> Vec<Vec<MaybeUninit<u8>>> {
    let memory = pieces.iter().map(|piece| {
        let bytes = usize::try_from(piece.bytes).unwrap();
        vec![MaybeUninit::new(0xee); bytes]
    });
    memory.collect()
}

pub(crate) fn to_fill<'m>(
    pieces: &[PieceRef],
    memory: &'m mut [Vec<MaybeUninit<u8>>],
) -> Vec<Piece<'m>> {
    let pairs = pieces.iter().zip(memory);
    let pieces = pairs.map(|(piece, into)| Piece {
        region: piece.region,
        offset: piece.offset,
        into,
    });
    pieces.collect()
}

pub(crate) fn bytes_of(memory: &[MaybeUninit<u8>]) -> Vec<u8> {
    // SAFETY: made with every byte initialized.
    memory
        .iter()
        .map(|byte| unsafe { byte.assume_init() })
        .collect()
}

/// Reads pieces of one extent, given as (offset, bytes).
pub(crate) fn read(peer: &Peer, extent: &Extent, pieces: &[(u64, u64)]) -> Vec<Vec<u8>> {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|&(offset, bytes)| piece_of(extent, offset, bytes))
        .collect();
    let mut memory = memory_for(&pieces);
    peer.read(&mut to_fill(&pieces, &mut memory), &wait())
        .unwrap();
    memory.iter().map(|memory| bytes_of(memory)).collect()
}
