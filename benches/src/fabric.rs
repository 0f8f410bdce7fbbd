//! The bare movement of steps over a fabric: four slots that the reader reads from.
//!
//! ```text
//! writer   values copied to a slot and summed ── stamp ──>  reader   fi_read of the slot, verified
//!                        <── one byte: the slot is free ──
//! ```
//! The two words go over a socket. A thread of the writer moves along what the provider
//! does not by itself. Nothing is checked that a peer wrote, and a death is not noticed:
//! that is what makes it bare.

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use panta_transports::copy::{CopyCounter, TILE_BYTES, checksum, copy_bytes};
use panta_transports::rdma::{
    Fabric, FabricAddress, FabricOptions, FabricRemote, FabricServer, Piece, Progress,
    RemoteMemory, uses_sockets,
};
use panta_transports::region::{Arena, ArenaOptions, Extent};
use panta_transports::time::{Wait, wall_clock_ns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Doing};
use crate::link::{Buffer, Receiver, Sender, connect, sums_mut, tuned, values_mut};
use crate::pattern::{Fields, bytes};
use crate::role::SIDE_DEADLINE;

/// Slots that are written in turn.
const SLOTS: u64 = 4;
/// Used where there is no hardware.
const SOFTWARE: &str = "tcp;ofi_rxm";
/// How often the thread that moves reads along looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// What the writer leaves for its reader in a file.
#[derive(Serialize, Deserialize)]
struct Meeting {
    /// Where it listens.
    address: String,
    /// Its address in the fabric.
    target: Vec<u8>,
    /// What the slots are registered as.
    memory: [u8; RemoteMemory::BYTES],
    /// Where in it the first begins.
    begin: u64,
}

/// The provider to measure: the one asked for, else the first that is hardware, else
/// the one in software.
pub(crate) fn provider(asked: Option<&str>) -> Result<String, BenchError> {
    if let Some(asked) = asked {
        return Ok(asked.to_owned());
    }
    let fabric = Fabric::load().doing("find libfabric")?;
    let all = fabric.providers().doing("list libfabric's providers")?;
    let hardware = all.into_iter().find(|one| !one.software && one.usable);
    Ok(hardware.map_or_else(|| SOFTWARE.to_owned(), |one| one.provider))
}

/// Bytes of a slot: values, and a checksum for each tile of them.
fn slot_bytes(step_bytes: u64) -> usize {
    step_bytes as usize + (step_bytes as usize).div_ceil(TILE_BYTES) * 4
}

/// Writes steps to slots, and tells of them.
pub(crate) struct FabricSender {
    listener: TcpListener,
    stream: Option<TcpStream>,
    slots: Extent,
    slot_bytes: usize,
    fields: Fields,
    copies: CopyCounter,
    stop: Arc<AtomicBool>,
    mover: Option<JoinHandle<()>>,
    // Last: what it exposes is the arena's.
    _arena: Arena,
}

impl FabricSender {
    pub(crate) fn open(
        address: &Path,
        provider: &str,
        step_bytes: u64,
    ) -> Result<Self, BenchError> {
        let fabric = Fabric::load().doing("find libfabric")?;
        let mut options = FabricOptions::with_provider(provider);
        options.node = uses_sockets(provider).then(|| "127.0.0.1".to_owned());
        let server = FabricServer::open(&fabric, &options).doing("open a bare fabric")?;
        let slot_bytes = slot_bytes(step_bytes);
        let all_bytes = slot_bytes * SLOTS as usize;
        let arena = Arena::new(ArenaOptions {
            limit_bytes: 2 * all_bytes as u64 + (4 << 20),
            shared: false,
        });
        let mut slots = arena.allocate(all_bytes).doing("make the bare slots")?;
        slots.as_mut_slice().fill(1);
        let regions = arena.regions();
        let region = regions.iter().find(|one| one.id() == slots.region());
        let region = region.ok_or_else(|| BenchError::request("the bare slots have no region"))?;
        let memory = server.register(region).doing("register the bare slots")?;
        let listener = TcpListener::bind("127.0.0.1:0").doing("listen bare")?;
        let meeting = Meeting {
            address: listener.local_addr().doing("listen bare")?.to_string(),
            target: server.address().to_bytes(),
            memory: memory.to_bytes(),
            begin: slots.offset(),
        };
        let meeting = serde_json::to_vec(&meeting).doing("say where the bare writer is")?;
        std::fs::write(address, meeting).doing("say where the bare writer is")?;
        let stop = Arc::<AtomicBool>::default();
        let until = Arc::clone(&stop);
        Ok(Self {
            listener,
            stream: None,
            slots,
            slot_bytes,
            fields: Fields::new(step_bytes as usize / 8),
            copies: CopyCounter::new(),
            stop,
            mover: Some(std::thread::spawn(move || keep_going(&server, &until))),
            _arena: arena,
        })
    }
}

/// Moves reads of the peer along.
fn keep_going(server: &FabricServer, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match server.progress() {
            Ok(Progress::More) => continue,
            Ok(Progress::Idle) => {}
            // The other side sees reads that fail.
            Err(_) => return,
        }
        let fd = server.wait_fd();
        let mut fds: Vec<PollFd<'_>> = fd.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let most = server.poll_interval().unwrap_or(LOOK);
        let timeout = Timespec {
            tv_sec: 0,
            // Both are shorter than a second.
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        // Whatever ends it, the next round looks again.
        let _ = poll(&mut fds, Some(&timeout));
    }
}

impl Drop for FabricSender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(mover) = self.mover.take() {
            // One that panicked has said so.
            let _ = mover.join();
        }
    }
}

impl Sender for FabricSender {
    fn transport(&self) -> String {
        "bare fabric".to_owned()
    }

    fn send(&mut self, step: u64, _channel: &mut UnixStream) -> Result<(), BenchError> {
        let stamp_ns = wall_clock_ns();
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let (stream, _) = self.listener.accept().doing("meet the bare reader")?;
                none.insert(tuned(stream)?)
            }
        };
        if step >= SLOTS {
            stream.read_exact(&mut [0]).doing("wait for a bare slot")?;
        }
        let values = bytes(self.fields.of(step));
        let at = (step % SLOTS) as usize * self.slot_bytes;
        let slot = &mut self.slots.as_mut_slice()[at..at + self.slot_bytes];
        let (data, crcs) = slot.split_at_mut(values.len());
        // Summed while they are in cache, as a put does.
        let tiles = values.chunks(TILE_BYTES).zip(data.chunks_mut(TILE_BYTES));
        for ((from, into), crc) in tiles.zip(crcs.as_chunks_mut::<4>().0) {
            copy_bytes(into, from, &self.copies);
            *crc = checksum(from).to_le_bytes();
        }
        stream
            .write_all(&stamp_ns.to_le_bytes())
            .doing("tell of a bare step")
    }

    fn copied_bytes(&self) -> u64 {
        self.copies.bytes()
    }

    fn fields_bytes(&self) -> u64 {
        self.fields.bytes()
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        Ok(())
    }
}

/// Reads the slots that it is told of.
pub(crate) struct FabricReceiver {
    stream: TcpStream,
    remote: FabricRemote,
    memory: RemoteMemory,
    begin: u64,
    slot_bytes: usize,
    buffer: Buffer,
}

impl FabricReceiver {
    pub(crate) fn open(address: &Path, step_bytes: u64, verify: bool) -> Result<Self, BenchError> {
        let meeting = std::fs::read(address).doing("find the bare writer")?;
        let meeting: Meeting = serde_json::from_slice(&meeting).doing("find the bare writer")?;
        let stream = connect(&meeting.address)?;
        let fabric = Fabric::load().doing("find libfabric")?;
        let target = FabricAddress::from_bytes(&meeting.target).doing("find the bare writer")?;
        let remote = FabricRemote::connect(&fabric, &target, &FabricOptions::default());
        Ok(Self {
            stream,
            remote: remote.doing("reach the bare fabric")?,
            memory: RemoteMemory::from_bytes(meeting.memory),
            begin: meeting.begin,
            slot_bytes: slot_bytes(step_bytes),
            buffer: Buffer::new(step_bytes, verify),
        })
    }
}

fn as_uninit(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the same bytes; a read only writes whole, initialised bytes to them.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

impl Receiver for FabricReceiver {
    fn receive(&mut self, step: u64, _channel: &mut UnixStream) -> Result<u64, BenchError> {
        let mut stamp_ns = [0; 8];
        let read = self.stream.read_exact(&mut stamp_ns);
        read.doing("hear of a bare step")?;
        let at = self.begin + step % SLOTS * self.slot_bytes as u64;
        let Buffer { values, crcs, .. } = &mut self.buffer;
        let values = as_uninit(values_mut(values));
        let behind = at + values.len() as u64;
        let piece = |offset, into| Piece {
            memory: self.memory,
            offset,
            into,
        };
        let mut pieces = [piece(at, values), piece(behind, as_uninit(sums_mut(crcs)))];
        let wait = Wait::for_at_most(SIDE_DEADLINE);
        self.remote.read(&mut pieces, &wait).doing("read bare")?;
        // One that has all its steps may be gone.
        let _ = self.stream.write_all(b".");
        self.buffer.verify()?;
        self.buffer.check_premade(step)?;
        Ok(u64::from_le_bytes(stamp_ns))
    }

    fn copied_bytes(&self) -> u64 {
        self.remote.copies().bytes()
    }

    fn fields_bytes(&self) -> u64 {
        size_of_val(self.buffer.values.as_slice()) as u64
    }
}
