//! An arena's regions over a fabric, by their numbers.
//!
//! Beside the regions the target exposes a *directory* of them, so that a reader
//! finds a new region with one read of that, and no message:
//!
//! ```text
//!   offer      u8 length | address | directory: RemoteMemory      told once, over the channel
//!   directory  4096 x [ region + 1 | base | bytes | key | check ] u64 each, little-endian
//! ```
//!
//! An entry whose check does not fit is empty, or was read while it changed.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::{
    Batch, Fabric, FabricAddress, FabricError, FabricOptions, FabricRemote, FabricServer, Piece,
    Progress, RemoteMemory, read_many,
};
use crate::copy::checksum;
use crate::region::{Arena, MAX_REGIONS, Region};
use crate::time::Wait;

/// Numbers of an entry, and its bytes.
const FIELDS: usize = 5;
const ENTRY_BYTES: usize = FIELDS * 8;

/// The number under which the directory itself is registered; arenas count up
/// from 0 and do not get there.
const DIRECTORY: u32 = u32::MAX;

/// How long the directory is tried to be read after a read that failed: a target
/// that died is not waited for.
const LOOK_AGAIN_LIMIT: Duration = Duration::from_millis(500);

/// How often the directory is read again because an entry was changing.
const DIRECTORY_TRIES: usize = 3;

/// The regions of an arena, exposed as they come and go.
pub struct FabricExposure {
    server: FabricServer,
    directory: Arc<Directory>,
    offer: Vec<u8>,
}

struct Directory {
    numbers: Vec<AtomicU64>,
    /// Which entry a region has.
    places: Mutex<BTreeMap<u32, usize>>,
}

/// One sum over what an entry says; never 0, which is what an empty one holds.
fn check(fields: [u64; FIELDS - 1]) -> u64 {
    let bytes: Vec<u8> = fields
        .iter()
        .flat_map(|field| field.to_le_bytes())
        .collect();
    u64::from(checksum(&bytes)) | 1 << 32
}

impl Directory {
    fn new() -> Self {
        Self {
            numbers: (0..MAX_REGIONS * FIELDS)
                .map(|_| AtomicU64::new(0))
                .collect(),
            places: Mutex::default(),
        }
    }

    fn set(&self, place: usize, fields: [u64; FIELDS]) {
        for (number, field) in self.numbers[place * FIELDS..].iter().zip(fields) {
            number.store(field.to_le(), Ordering::Release);
        }
    }

    /// Tells of a region; false where there is no room.
    fn add(&self, region: u32, memory: RemoteMemory) -> bool {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |place: &usize| self.numbers[place * FIELDS].load(Ordering::Relaxed) == 0;
        let kept = places.get(&region).copied();
        let Some(place) = kept.or_else(|| (0..MAX_REGIONS).find(is_free)) else {
            return false;
        };
        let fields = [u64::from(region) + 1, memory.base, memory.bytes, memory.key];
        let [region_number, base, bytes, key] = fields;
        self.set(place, [region_number, base, bytes, key, check(fields)]);
        places.insert(region, place);
        true
    }

    fn remove(&self, region: u32) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.remove(&region) {
            self.set(place, [0; FIELDS]);
        }
    }
}

/// The regions that a directory tells of, and whether some entry was changing.
fn parse(bytes: &[u8]) -> (BTreeMap<u32, RemoteMemory>, bool) {
    let mut regions = BTreeMap::new();
    let mut changing = false;
    for entry in bytes.as_chunks::<ENTRY_BYTES>().0 {
        let mut fields = [0; FIELDS];
        for (field, bytes) in fields.iter_mut().zip(entry.as_chunks::<8>().0) {
            *field = u64::from_le_bytes(*bytes);
        }
        let [region, base, bytes, key, sum] = fields;
        if fields == [0; FIELDS] {
            continue;
        }
        match u32::try_from(region.wrapping_sub(1)) {
            Ok(number) if sum == check([region, base, bytes, key]) => {
                regions.insert(number, RemoteMemory { base, bytes, key });
            }
            _ => changing = true,
        }
    }
    (regions, changing)
}

impl FabricExposure {
    /// Exposes the regions that `arena` has and will have. One that cannot be
    /// registered is logged, and readers are told that it is not exposed.
    ///
    /// # Errors
    /// [`FabricError::NoProvider`], [`FabricError::Open`],
    /// [`FabricError::Registration`] of the directory or of a region there is.
    pub fn open(
        fabric: &Fabric,
        options: &FabricOptions,
        arena: &Arena,
    ) -> Result<Arc<Self>, FabricError> {
        let server = FabricServer::open(fabric, options)?;
        let directory = Arc::new(Directory::new());
        let start = NonNull::from(&directory.numbers[0]).cast();
        let bytes = size_of_val(directory.numbers.as_slice());
        let keeper = Arc::clone(&directory);
        // SAFETY: the numbers never move and live as long as the keeper.
        let memory = unsafe { server.register_memory(DIRECTORY, start, bytes, keeper) }?;
        let address = server.address().to_bytes();
        let mut offer = vec![u8::try_from(address.len()).unwrap_or(u8::MAX)];
        offer.extend_from_slice(&address[..address.len().min(usize::from(u8::MAX))]);
        offer.extend_from_slice(&memory.to_bytes());
        let exposure = Arc::new(Self {
            server,
            directory,
            offer,
        });
        exposure.follow(arena)?;
        Ok(exposure)
    }

    fn follow(self: &Arc<Self>, arena: &Arena) -> Result<(), FabricError> {
        let weak = Arc::downgrade(self);
        arena.on_new_region(Box::new(move |region| {
            if let Some(Err(error)) = Weak::upgrade(&weak).map(|one| one.add(region)) {
                tracing::warn!(region = region.id(), %error, "fabric: a region is not exposed");
            }
        }));
        let weak = Arc::downgrade(self);
        arena.on_region_gone(Box::new(move |region| {
            if let Some(Err(error)) = Weak::upgrade(&weak).map(|one| one.remove(region)) {
                tracing::warn!(region, %error, "fabric: a region stays exposed");
            }
        }));
        // One made meanwhile is added twice, which does no harm.
        arena
            .regions()
            .iter()
            .try_for_each(|region| self.add(region))
    }

    fn add(&self, region: &Arc<Region>) -> Result<(), FabricError> {
        let memory = self.server.register(region)?;
        if !self.directory.add(region.id(), memory) {
            self.server.deregister(region.id())?;
        }
        Ok(())
    }

    fn remove(&self, region: u32) -> Result<(), FabricError> {
        self.directory.remove(region);
        self.server.deregister(region)
    }

    /// What [`FabricReader::new`] needs; to be told over an authenticated channel.
    #[must_use]
    pub fn offer(&self) -> &[u8] {
        &self.offer
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.server.address().provider
    }

    /// See [`FabricServer::wait_fd`].
    #[must_use]
    pub fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        self.server.wait_fd()
    }

    /// See [`FabricServer::poll_interval`].
    #[must_use]
    pub fn poll_interval(&self) -> Option<Duration> {
        self.server.poll_interval()
    }

    /// See [`FabricServer::progress`].
    ///
    /// # Errors
    /// As there.
    pub fn progress(&self) -> Result<Progress, FabricError> {
        self.server.progress()
    }
}

/// A range of a region, and where it goes.
#[derive(Debug)]
pub struct RegionPiece<'a> {
    /// The region's number.
    pub region: u32,
    /// Where the range begins in it.
    pub offset: u64,
    /// Where it goes; all of it is filled.
    pub into: &'a mut [MaybeUninit<u8>],
}

/// Reads regions of one target by their numbers. After a failure that tore its
/// endpoint down the next read makes another.
#[derive(Debug)]
pub struct FabricReader {
    fabric: Fabric,
    options: FabricOptions,
    address: FabricAddress,
    directory: RemoteMemory,
    remote: Option<FabricRemote>,
    known: BTreeMap<u32, RemoteMemory>,
    reads_before: u64,
}

impl FabricReader {
    /// A reader of the target that made `offer`.
    ///
    /// # Errors
    /// [`FabricError::BadAddress`] for bytes that are none, and the errors of
    /// [`FabricRemote::connect`].
    pub fn new(
        fabric: &Fabric,
        offer: &[u8],
        options: &FabricOptions,
    ) -> Result<Self, FabricError> {
        let bad = || FabricError::BadAddress {
            why: "the offer is cut short or too long".to_owned(),
        };
        let (&length, rest) = offer.split_first().ok_or_else(bad)?;
        let (address, directory) = rest.split_at_checked(usize::from(length)).ok_or_else(bad)?;
        let directory = <[u8; RemoteMemory::BYTES]>::try_from(directory).map_err(|_| bad())?;
        let mut reader = Self {
            fabric: *fabric,
            options: options.clone(),
            address: FabricAddress::from_bytes(address)?,
            directory: RemoteMemory::from_bytes(directory),
            remote: None,
            known: BTreeMap::new(),
            reads_before: 0,
        };
        if reader.directory.bytes != (MAX_REGIONS * ENTRY_BYTES) as u64 {
            return Err(bad());
        }
        reader.connected()?;
        Ok(reader)
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.address.provider
    }

    /// One-sided reads posted so far, those of the directory too.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads_before + self.remote.as_ref().map_or(0, FabricRemote::reads)
    }

    /// Fills all pieces.
    ///
    /// # Errors
    /// [`FabricError::NotExposed`] where a region is not there, or not any more;
    /// those of [`FabricRemote::read`], after which a read can be tried again.
    pub fn read(&mut self, pieces: &mut [RegionPiece<'_>], wait: &Wait) -> Result<(), FabricError> {
        let reader = self;
        let mut batches = [RegionBatch { reader, pieces }];
        read_regions(&mut batches, wait, &mut |_| true).map_err(|(_, error)| error)
    }

    /// Where the regions of these pieces lie.
    fn locate(
        &mut self,
        pieces: &[RegionPiece<'_>],
        wait: &Wait,
        lives: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<RemoteMemory>, FabricError> {
        let is_known = |piece: &RegionPiece<'_>| self.known.contains_key(&piece.region);
        if !pieces.iter().all(is_known) {
            self.look(wait, lives)?;
        }
        let memory = |piece: &RegionPiece<'_>| {
            let region = piece.region;
            let known = self.known.get(&region).copied();
            known.ok_or(FabricError::NotExposed { region })
        };
        let memories = pieces.iter().map(memory).collect::<Result<_, _>>()?;
        self.connected()?;
        Ok(memories)
    }

    /// The region that explains a read that failed, if one was withdrawn.
    fn withdrawn(
        &mut self,
        pieces: &[RegionPiece<'_>],
        memories: &[RemoteMemory],
        wait: &Wait,
    ) -> Option<u32> {
        // Where the directory cannot be read either, the first failure says what
        // there is to say.
        let wait = wait.at_most(LOOK_AGAIN_LIMIT);
        self.look(&wait, &mut |_| true).ok()?;
        let mut used = pieces.iter().map(|piece| piece.region).zip(memories);
        let gone = used.find(|(region, memory)| self.known.get(region) != Some(memory));
        gone.map(|(region, _)| region)
    }

    fn connected(&mut self) -> Result<&mut FabricRemote, FabricError> {
        if let Some(remote) = self.remote.take_if(|remote| !remote.is_open()) {
            self.reads_before += remote.reads();
        }
        match &mut self.remote {
            Some(remote) => Ok(remote),
            none => Ok(none.insert(FabricRemote::connect(
                &self.fabric,
                &self.address,
                &self.options,
            )?)),
        }
    }

    /// Reads the directory.
    fn look(
        &mut self,
        wait: &Wait,
        lives: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), FabricError> {
        let mut bytes = vec![0; MAX_REGIONS * ENTRY_BYTES];
        for _ in 0..DIRECTORY_TRIES {
            // SAFETY: what is initialized may be seen as what may not be; it is
            // only written with bytes.
            let into = unsafe {
                std::slice::from_raw_parts_mut(
                    bytes.as_mut_ptr().cast::<MaybeUninit<u8>>(),
                    bytes.len(),
                )
            };
            let memory = self.directory;
            let mut pieces = [Piece {
                memory,
                offset: 0,
                into,
            }];
            let (remote, pieces) = (self.connected()?, &mut pieces[..]);
            let read = read_many(&mut [Batch { remote, pieces }], wait, lives);
            read.map_err(|(_, error)| error)?;
            let (known, changing) = parse(&bytes);
            self.known = known;
            if !changing {
                break;
            }
        }
        Ok(())
    }
}

/// What is to be read from one target.
#[derive(Debug)]
pub struct RegionBatch<'r, 'p, 'm> {
    /// The target.
    pub reader: &'r mut FabricReader,
    /// The ranges.
    pub pieces: &'p mut [RegionPiece<'m>],
}

/// Reads from several targets at once: as many reads as the providers take are under
/// way together.
///
/// # Errors
/// As [`FabricReader::read`], the first there is, and the place of its batch. `lives` is
/// asked now and then whether the target of a batch is still there.
pub fn read_regions(
    batches: &mut [RegionBatch<'_, '_, '_>],
    wait: &Wait,
    lives: &mut dyn FnMut(usize) -> bool,
) -> Result<(), (usize, FabricError)> {
    let mut memories = Vec::with_capacity(batches.len());
    for (at, batch) in batches.iter_mut().enumerate() {
        let found = batch.reader.locate(batch.pieces, wait, &mut |_| lives(at));
        memories.push(found.map_err(|error| (at, error))?);
    }
    let result = read_located(batches, &memories, wait, lives);
    let Err((at, FabricError::Read { .. })) = &result else {
        return result;
    };
    let at = *at;
    let RegionBatch { reader, pieces } = &mut batches[at];
    match reader.withdrawn(pieces, &memories[at], wait) {
        Some(region) => Err((at, FabricError::NotExposed { region })),
        None => result,
    }
}

/// The same with the regions' memories, one for each piece.
fn read_located(
    batches: &mut [RegionBatch<'_, '_, '_>],
    memories: &[Vec<RemoteMemory>],
    wait: &Wait,
    lives: &mut dyn FnMut(usize) -> bool,
) -> Result<(), (usize, FabricError)> {
    let mut located: Vec<Vec<Piece<'_>>> = Vec::with_capacity(batches.len());
    let mut remotes = Vec::with_capacity(batches.len());
    for (at, (batch, memories)) in batches.iter_mut().zip(memories).enumerate() {
        let mut pieces = Vec::with_capacity(memories.len());
        for (piece, memory) in batch.pieces.iter_mut().zip(memories) {
            pieces.push(Piece {
                memory: *memory,
                offset: piece.offset,
                into: &mut *piece.into,
            });
        }
        located.push(pieces);
        remotes.push(batch.reader.connected().map_err(|error| (at, error))?);
    }
    let reads = remotes.into_iter().zip(&mut located);
    let mut reads: Vec<Batch<'_, '_, '_>> = reads
        .map(|(remote, pieces)| Batch { remote, pieces })
        .collect();
    read_many(&mut reads, wait, lives)
}
