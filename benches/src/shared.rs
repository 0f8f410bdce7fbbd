//! The bare movement of steps through memory that two processes share.
//!
//! ```text
//! page 0    head u64 (writer's) | tail u64 (reader's) | asleep u32 | word u32 | stamps
//! slot 0    values, then a checksum for each tile of them
//! slot 1 …  pages were touched before the measurement
//! ```
//! It does what must be done at least: values made in the slot or copied into it and
//! summed tile by tile while they are in cache; verified the same way on the way out,
//! or looked at in place; four slots in turn, so that both sides can work at once. A
//! side that waits spins, then sleeps on a futex. Nothing is checked that a peer wrote,
//! nobody may join or leave, and a death is not noticed: that is what makes it bare.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use panta_transports::copy::{TILE_BYTES, checksum};
use panta_transports::time::{Time, wall_clock_ns};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::thread::futex;

use crate::error::{BenchError, Doing};
use crate::link::{Receiver, Sender};
use crate::pattern::{self, Fields};
use crate::role::SIDE_DEADLINE;

/// Slots that are written in turn.
const SLOTS: u64 = 4;
const PAGE_BYTES: usize = 4096;
const HEAD: usize = 0;
const TAIL: usize = 128;
const ASLEEP: usize = 256;
const WORD: usize = 320;
const STAMPS: usize = 512;

/// Memory of a file that both sides have mapped; unmapped when dropped.
pub(crate) struct Mapping {
    first: *mut u8,
    bytes: usize,
}

impl Mapping {
    /// Maps `bytes` of the file at `path`, made where it is not there, and touches them.
    pub(crate) fn of(path: &Path, bytes: usize) -> Result<Self, BenchError> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .doing("open the bare memory")?;
        file.set_len(bytes as u64).doing("size the bare memory")?;
        // SAFETY: a new mapping, which nothing else in this process knows of.
        let first = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                &file,
                0,
            )
        }
        .doing("map the bare memory")?;
        Ok(Self {
            first: first.cast(),
            bytes,
        })
    }

    /// The counter at `offset` bytes.
    pub(crate) fn counter(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.bytes);
        // SAFETY: inside the mapping and aligned; both sides use it as an atomic only.
        unsafe { AtomicU64::from_ptr(self.first.add(offset).cast()) }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.bytes);
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.first.add(offset).cast()) }
    }

    /// Values in place. The caller's protocol must give it the range alone.
    #[expect(
        clippy::mut_from_ref,
        reason = "memory of two processes; head and tail say whose it is"
    )]
    pub(crate) fn values(&self, offset: usize, elements: usize) -> &mut [f64] {
        assert!(offset.is_multiple_of(8) && offset + elements * 8 <= self.bytes);
        // SAFETY: inside the mapping and aligned; every pattern of bits is a float, and
        // head and tail see to it that one side at a time uses a slot.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(offset).cast(), elements) }
    }

    /// Checksums in place, on the same terms.
    #[expect(
        clippy::mut_from_ref,
        reason = "memory of two processes; head and tail say whose it is"
    )]
    pub(crate) fn sums(&self, offset: usize, tiles: usize) -> &mut [u32] {
        assert!(offset.is_multiple_of(4) && offset + tiles * 4 <= self.bytes);
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(offset).cast(), tiles) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `of` with these bounds, and nothing borrowed outlives it.
        let _ = unsafe { munmap(self.first.cast(), self.bytes) };
    }
}

/// One side of the bare memory.
pub(crate) struct BareShared {
    memory: Mapping,
    elements: usize,
    slot_bytes: usize,
    fields: Fields,
    in_place: bool,
    verify: bool,
    spin: Duration,
}

impl BareShared {
    /// Opens a side. `in_place`: values are made in the slot, or looked at there; if
    /// not, and it writes, they are put from arrays made now.
    pub(crate) fn open(
        path: &Path,
        bytes: u64,
        (in_place, writes): (bool, bool),
        verify: bool,
        spin: Duration,
    ) -> Result<Self, BenchError> {
        let elements = bytes as usize / 8;
        let with_sums = elements * 8 + tiles_of(elements) * 4;
        let slot_bytes = with_sums.next_multiple_of(PAGE_BYTES);
        Ok(Self {
            memory: Mapping::of(path, PAGE_BYTES + slot_bytes * SLOTS as usize)?,
            elements,
            slot_bytes,
            fields: Fields::new(if writes && !in_place { elements } else { 0 }),
            in_place,
            verify,
            spin,
        })
    }

    fn slot(&self, step: u64) -> (&mut [f64], &mut [u32]) {
        let first = PAGE_BYTES + (step % SLOTS) as usize * self.slot_bytes;
        let values = self.memory.values(first, self.elements);
        let behind = first + self.elements * 8;
        (values, self.memory.sums(behind, tiles_of(self.elements)))
    }

    fn stamp(&self, step: u64) -> &AtomicU64 {
        self.memory.counter(STAMPS + (step % SLOTS) as usize * 8)
    }

    /// Waits until the counter at `offset` is at least `least`.
    fn await_counter(&self, offset: usize, least: u64) -> Result<(), BenchError> {
        let (counter, begin) = (self.memory.counter(offset), Time::now());
        let (asleep, word) = (self.memory.word(ASLEEP), self.memory.word(WORD));
        let mut looks = 0_u32;
        while counter.load(Ordering::Acquire) < least {
            looks += 1;
            let sleeps_at_once = self.spin.is_zero() && offset != TAIL;
            if !sleeps_at_once && !looks.is_multiple_of(64) {
                std::hint::spin_loop();
                continue;
            }
            let waited = Time::now().since(begin);
            if waited > SIDE_DEADLINE {
                return Err(BenchError::Failed {
                    doing: "wait for the other bare side".into(),
                    why: format!("nothing within {SIDE_DEADLINE:?}"),
                });
            }
            if waited < self.spin || offset == TAIL {
                continue;
            }
            let seen = word.load(Ordering::SeqCst);
            asleep.store(1, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if counter.load(Ordering::SeqCst) < least {
                let at_most = futex::Timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                };
                // Ends early for many reasons; the loop looks again.
                let _ = futex::wait(word, futex::Flags::empty(), seen, Some(&at_most));
            }
            asleep.store(0, Ordering::SeqCst);
        }
        Ok(())
    }

    fn wake(&self) -> Result<(), BenchError> {
        fence(Ordering::SeqCst);
        if self.memory.word(ASLEEP).load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let word = self.memory.word(WORD);
        word.fetch_add(1, Ordering::SeqCst);
        futex::wake(word, futex::Flags::empty(), 1).doing("wake the bare reader")?;
        Ok(())
    }
}

/// Tiles of so many floats.
pub(crate) fn tiles_of(elements: usize) -> usize {
    (elements * 8).div_ceil(TILE_BYTES)
}

const TILE_ELEMENTS: usize = TILE_BYTES / 8;

/// Copies tile by tile and sums each while it is in cache.
pub(crate) fn copy_and_sum(to: &mut [f64], from: &[f64], sums: &mut [u32]) {
    let tiles = to.chunks_mut(TILE_ELEMENTS).zip(from.chunks(TILE_ELEMENTS));
    for ((to, from), sum) in tiles.zip(sums) {
        to.copy_from_slice(from);
        *sum = checksum(pattern::bytes(to));
    }
}

/// The same on the way out; whether all sums are as they were.
pub(crate) fn copy_and_verify(to: &mut [f64], from: &[f64], sums: &[u32]) -> bool {
    let tiles = to.chunks_mut(TILE_ELEMENTS).zip(from.chunks(TILE_ELEMENTS));
    tiles.zip(sums).fold(true, |good, ((to, from), sum)| {
        to.copy_from_slice(from);
        good & (checksum(pattern::bytes(to)) == *sum)
    })
}

impl Sender for BareShared {
    fn transport(&self) -> String {
        "bare shared memory".to_owned()
    }

    fn send(&mut self, step: u64, _channel: &mut UnixStream) -> Result<(), BenchError> {
        self.await_counter(TAIL, (step + 1).saturating_sub(SLOTS))?;
        let stamp_ns = wall_clock_ns();
        let (values, sums) = self.slot(step);
        if self.in_place {
            pattern::fill(values, step, 0);
            for (tile, sum) in values.chunks(TILE_ELEMENTS).zip(sums) {
                *sum = checksum(pattern::bytes(tile));
            }
        } else {
            copy_and_sum(values, self.fields.of(step), sums);
        }
        self.stamp(step).store(stamp_ns, Ordering::Relaxed);
        self.memory.counter(HEAD).store(step + 1, Ordering::SeqCst);
        self.wake()
    }

    fn copied_bytes(&self) -> u64 {
        0
    }

    fn fields_bytes(&self) -> u64 {
        self.fields.bytes()
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        Ok(())
    }
}

/// The reading side, with the array that steps are copied into.
pub(crate) struct BareSharedReader {
    pub(crate) shared: BareShared,
    pub(crate) field: Vec<f64>,
    /// Whether the values are those of [`Fields`].
    pub(crate) premade: bool,
}

impl Receiver for BareSharedReader {
    fn receive(&mut self, step: u64, _channel: &mut UnixStream) -> Result<u64, BenchError> {
        let shared = &self.shared;
        shared.await_counter(HEAD, step + 1)?;
        let (values, sums) = shared.slot(step);
        let looked_at: &[f64] = match (shared.in_place, shared.verify) {
            (true, _) => values,
            (false, false) => {
                self.field.copy_from_slice(values);
                &self.field
            }
            (false, true) => {
                if !copy_and_verify(&mut self.field, values, sums) {
                    return Err(BenchError::Failed {
                        doing: "verify a bare step".into(),
                        why: format!("a tile of step {step} is damaged"),
                    });
                }
                &self.field
            }
        };
        pattern::check_as(looked_at, step, self.premade, "the bare memory")?;
        let stamp_ns = shared.stamp(step).load(Ordering::Relaxed);
        let tail = shared.memory.counter(TAIL);
        tail.store(step + 1, Ordering::Release);
        Ok(stamp_ns)
    }

    fn copied_bytes(&self) -> u64 {
        0
    }

    fn fields_bytes(&self) -> u64 {
        size_of_val(self.field.as_slice()) as u64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Both sides, the reader asleep now and then; wrong values would be an error.
    fn carried(span: bool, view: bool) {
        const STEPS: u64 = 500;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bare");
        let open = |in_place, writes| {
            let spin = Duration::from_micros(20);
            BareShared::open(&path, 16 << 10, (in_place, writes), true, spin).unwrap()
        };
        let mut reader = BareSharedReader {
            shared: open(view, false),
            field: vec![0.0; 2 << 10],
            premade: !span,
        };
        let (mut one, mut other) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = open(span, true);
                for step in 0..STEPS {
                    writer.send(step, &mut one).unwrap();
                }
            });
            for step in 0..STEPS {
                reader.receive(step, &mut other).unwrap();
            }
        });
    }

    #[test]
    fn steps_arrive_whole_and_in_order_however_they_are_put_and_got() {
        carried(true, true);
        carried(false, true);
        carried(true, false);
        carried(false, false);
    }
}
