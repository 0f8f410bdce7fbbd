//! Which parts of shared regions are free: two-level segregated fit (Masmano,
//! Ripoll, Crespo and Real, 2004), with its records beside the memory instead
//! of in it, since others read the memory.
//!
//! Sizes are counted in granules of 64 bytes. A request is rounded up to the
//! size of its class, at most 1/64 more, so that a hole left by a request is
//! found by the next one like it. Both `allocate` and `free` cost the same
//! however many blocks there are.
//!
//! ```text
//!   class 0: 0, 1, 2 … 63 granules      one list each
//!   class k: 64·2^(k-1) … 128·2^(k-1)   64 lists, evenly
//! ```

use std::collections::BTreeMap;

/// The unit of sizes and alignment.
pub(super) const GRANULE_BYTES: u64 = 64;

const LISTS_PER_CLASS: usize = 64;
const CLASSES: usize = 40;
const NONE: u32 = u32::MAX;

/// A part of a region: in use, or free and in a list, or free and never to be
/// used again, as its region is retired.
#[derive(Clone, Copy, Debug)]
struct Block {
    region: u32,
    start: u64,
    granules: u64,
    state: State,
    /// Neighbours in memory.
    before: u32,
    after: u32,
    /// Neighbours in the list of free blocks.
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Used,
    Listed,
    Withdrawn,
}

/// What a region of the pool is.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// Its block at 0. A block that grows or is split keeps its number, so that
    /// this never changes.
    first: u32,
    retired: bool,
}

/// A part of a region that was allocated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) block: u32,
    pub(super) region: u32,
    pub(super) offset_bytes: u64,
}

/// The free and used parts of all shared regions of an arena.
#[derive(Debug)]
pub(super) struct Pool {
    blocks: Vec<Block>,
    /// Numbers of blocks that mean nothing at present.
    vacant: Vec<u32>,
    /// The first block of each list.
    lists: Box<[[u32; LISTS_PER_CLASS]]>,
    /// Which classes, and which lists of a class, have blocks.
    classes: u64,
    filled: [u64; CLASSES],
    chunks: BTreeMap<u32, Chunk>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            blocks: Vec::new(),
            vacant: Vec::new(),
            lists: vec![[NONE; LISTS_PER_CLASS]; CLASSES].into_boxed_slice(),
            classes: 0,
            filled: [0; CLASSES],
            chunks: BTreeMap::new(),
        }
    }

    /// What a request of `bytes` takes.
    pub(super) fn rounded_bytes(bytes: u64) -> u64 {
        round_up(bytes.div_ceil(GRANULE_BYTES).max(1)).saturating_mul(GRANULE_BYTES)
    }

    /// Adds a region, all of it free.
    pub(super) fn add(&mut self, region: u32, bytes: u64) {
        let block = self.make(Block {
            region,
            start: 0,
            granules: bytes / GRANULE_BYTES,
            state: State::Withdrawn,
            before: NONE,
            after: NONE,
            previous: NONE,
            next: NONE,
        });
        let chunk = Chunk {
            first: block,
            retired: false,
        };
        self.chunks.insert(region, chunk);
        self.list(block);
    }

    /// A free part of at least `bytes`.
    pub(super) fn allocate(&mut self, bytes: u64) -> Option<Place> {
        let granules = round_up(bytes.div_ceil(GRANULE_BYTES).max(1));
        let block = self.find(granules)?;
        self.unlist(block);
        self.split(block, granules);
        let found = self.block_mut(block);
        found.state = State::Used;
        Some(Place {
            block,
            region: found.region,
            offset_bytes: found.start * GRANULE_BYTES,
        })
    }

    /// Gives a part back, and joins it with the free ones beside it. Returns
    /// its region where that is retired and now all free.
    pub(super) fn free(&mut self, block: u32) -> Option<u32> {
        debug_assert_eq!(self.block(block).state, State::Used);
        self.block_mut(block).state = State::Withdrawn;
        let after = self.block(block).after;
        if after != NONE && self.block(after).state != State::Used {
            self.unlist(after);
            self.absorb_after(block);
        }
        let before = self.block(block).before;
        let mut joined = block;
        if before != NONE && self.block(before).state != State::Used {
            self.unlist(before);
            self.absorb_after(before);
            joined = before;
        }
        let region = self.block(joined).region;
        let is_retired = self.chunks.get(&region).is_some_and(|chunk| chunk.retired);
        if is_retired {
            return self.is_free(region).then_some(region);
        }
        self.list(joined);
        None
    }

    /// Allocates nothing in a region any more. True where it is all free.
    pub(super) fn retire(&mut self, region: u32) -> bool {
        let Some(chunk) = self.chunks.get_mut(&region) else {
            return false;
        };
        chunk.retired = true;
        let mut at = chunk.first;
        while at != NONE {
            self.unlist(at);
            at = self.block(at).after;
        }
        self.is_free(region)
    }

    /// Whether nothing of a region is used.
    pub(super) fn is_free(&self, region: u32) -> bool {
        self.chunks.get(&region).is_some_and(|chunk| {
            let first = self.block(chunk.first);
            first.after == NONE && first.state != State::Used
        })
    }

    /// Forgets a region that is free.
    pub(super) fn remove(&mut self, region: u32) {
        debug_assert!(self.is_free(region));
        if let Some(chunk) = self.chunks.remove(&region) {
            self.unlist(chunk.first);
            self.vacant.push(chunk.first);
        }
    }

    /// The regions of which nothing is used.
    pub(super) fn free_regions(&self) -> impl Iterator<Item = u32> {
        let all = self.chunks.keys().copied();
        all.filter(|region| self.is_free(*region))
    }

    fn block(&self, block: u32) -> &Block {
        &self.blocks[block as usize]
    }

    fn block_mut(&mut self, block: u32) -> &mut Block {
        &mut self.blocks[block as usize]
    }

    fn make(&mut self, block: Block) -> u32 {
        if let Some(vacant) = self.vacant.pop() {
            *self.block_mut(vacant) = block;
            return vacant;
        }
        self.blocks.push(block);
        (self.blocks.len() - 1) as u32
    }

    /// The first block of the first list whose blocks all have `granules`,
    /// which is of the size of a class.
    fn find(&self, granules: u64) -> Option<u32> {
        let (class, list) = class_of(granules)?;
        let here = self.filled[class] & (u64::MAX << list);
        let (class, lists) = if here != 0 {
            (class, here)
        } else {
            let above = u64::MAX.checked_shl(class as u32 + 1).unwrap_or(0) & self.classes;
            if above == 0 {
                return None;
            }
            let class = above.trailing_zeros() as usize;
            (class, self.filled[class])
        };
        Some(self.lists[class][lists.trailing_zeros() as usize])
    }

    /// Cuts what is beyond `granules` off a block that is in no list.
    fn split(&mut self, block: u32, granules: u64) {
        let whole = *self.block(block);
        if whole.granules == granules {
            return;
        }
        let rest = self.make(Block {
            start: whole.start + granules,
            granules: whole.granules - granules,
            state: State::Withdrawn,
            before: block,
            ..whole
        });
        if whole.after != NONE {
            self.block_mut(whole.after).before = rest;
        }
        let first = self.block_mut(block);
        first.granules = granules;
        first.after = rest;
        self.list(rest);
    }

    /// Joins a block with the one after it; neither is in a list.
    fn absorb_after(&mut self, block: u32) {
        let gone = self.block(block).after;
        let Block {
            granules, after, ..
        } = *self.block(gone);
        let grown = self.block_mut(block);
        grown.granules += granules;
        grown.after = after;
        if after != NONE {
            self.block_mut(after).before = block;
        }
        self.vacant.push(gone);
    }

    fn list(&mut self, block: u32) {
        // One that is larger than any class would lie in none; regions are
        // bounded far below that.
        let Some((class, list)) = class_of(self.block(block).granules) else {
            return;
        };
        let head = std::mem::replace(&mut self.lists[class][list], block);
        if head != NONE {
            self.block_mut(head).previous = block;
        }
        let listed = self.block_mut(block);
        listed.state = State::Listed;
        listed.previous = NONE;
        listed.next = head;
        self.filled[class] |= 1 << list;
        self.classes |= 1 << class;
    }

    /// Takes a block out of its list, if it is in one.
    fn unlist(&mut self, block: u32) {
        let Block {
            state,
            granules,
            previous,
            next,
            ..
        } = *self.block(block);
        if state != State::Listed {
            return;
        }
        self.block_mut(block).state = State::Withdrawn;
        if next != NONE {
            self.block_mut(next).previous = previous;
        }
        if previous != NONE {
            self.block_mut(previous).next = next;
            return;
        }
        let Some((class, list)) = class_of(granules) else {
            return;
        };
        self.lists[class][list] = next;
        if next == NONE {
            self.filled[class] &= !(1 << list);
            if self.filled[class] == 0 {
                self.classes &= !(1 << class);
            }
        }
    }
}

/// How far the size of a class exceeds that of class 1, as a power of two.
fn scale_of(granules: u64) -> u32 {
    granules.max(64).ilog2() - 6
}

/// The class and list that blocks of this size are in.
fn class_of(granules: u64) -> Option<(usize, usize)> {
    if granules < 64 {
        return Some((0, granules as usize));
    }
    let scale = scale_of(granules);
    let list = (granules >> scale) - 64;
    let class = scale as usize + 1;
    (class < CLASSES).then_some((class, list as usize))
}

/// The least size of a list that is at least this.
fn round_up(granules: u64) -> u64 {
    let step = 1 << scale_of(granules);
    granules.div_ceil(step).saturating_mul(step)
}
