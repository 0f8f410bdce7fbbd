//! The allocator against a model that knows every byte.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::pool::{GRANULE_BYTES, Place, Pool};
use super::{Arena, ArenaOptions, Extent};

#[derive(Clone, Debug)]
enum Deed {
    Allocate(u64),
    Free(usize),
    Add(u64),
    Retire(usize),
    RemoveFree,
}

fn deed() -> impl Strategy<Value = Deed> {
    let size = prop_oneof![0_u64..300, 0_u64..5000, 0_u64..200_000];
    prop_oneof![
        8 => size.prop_map(Deed::Allocate),
        7 => any::<usize>().prop_map(Deed::Free),
        1 => (1_u64..100).prop_map(|pages| Deed::Add(pages * 4096)),
        1 => any::<usize>().prop_map(Deed::Retire),
        1 => Just(Deed::RemoveFree),
    ]
}

/// What is used and what is not, byte by byte.
#[derive(Default)]
struct Model {
    regions: BTreeMap<u32, u64>,
    retired: BTreeSet<u32>,
    used: Vec<(Place, u64)>,
}

impl Model {
    fn used_in(&self, region: u32) -> BTreeMap<u64, u64> {
        let of = self.used.iter().filter(|(place, _)| place.region == region);
        of.map(|(place, bytes)| (place.offset_bytes, *bytes))
            .collect()
    }

    /// The largest hole in which something may be allocated.
    fn largest_hole(&self) -> u64 {
        let open = self
            .regions
            .iter()
            .filter(|(id, _)| !self.retired.contains(id));
        let holes = open.map(|(id, size)| {
            let (mut at, mut largest) = (0, 0);
            for (offset, bytes) in self.used_in(*id) {
                largest = largest.max(offset - at);
                at = offset + bytes;
            }
            largest.max(size - at)
        });
        holes.max().unwrap_or(0)
    }

    fn allocated(&mut self, asked: u64, place: Option<Place>) {
        let rounded = Pool::rounded_bytes(asked);
        let Some(place) = place else {
            assert!(self.largest_hole() < rounded, "{asked} would fit");
            return;
        };
        assert!(rounded >= asked && rounded <= asked + asked / 64 + GRANULE_BYTES);
        assert!(!self.retired.contains(&place.region));
        assert_eq!(place.offset_bytes % GRANULE_BYTES, 0);
        assert!(place.offset_bytes + rounded <= self.regions[&place.region]);
        for (offset, bytes) in self.used_in(place.region) {
            let apart =
                place.offset_bytes >= offset + bytes || place.offset_bytes + rounded <= offset;
            assert!(apart, "{place:?} lies over {bytes} at {offset}");
        }
        self.used.push((place, rounded));
    }

    fn free_regions(&self) -> BTreeSet<u32> {
        let used: BTreeSet<u32> = self.used.iter().map(|(place, _)| place.region).collect();
        let all = self.regions.keys().copied();
        all.filter(|region| !used.contains(region)).collect()
    }
}

fn play(deeds: Vec<Deed>) {
    let (mut pool, mut model) = (Pool::new(), Model::default());
    let mut next = 0;
    for deed in deeds {
        match deed {
            Deed::Allocate(bytes) => {
                let place = pool.allocate(bytes);
                model.allocated(bytes, place);
            }
            Deed::Free(any) if !model.used.is_empty() => {
                let at = any % model.used.len();
                let (place, _) = model.used.swap_remove(at);
                let gone = pool.free(place.block);
                let is_free = model.free_regions().contains(&place.region);
                let expected = is_free && model.retired.contains(&place.region);
                assert_eq!(gone, expected.then_some(place.region));
                if expected {
                    pool.remove(place.region);
                    model.regions.remove(&place.region);
                }
            }
            Deed::Add(bytes) => {
                pool.add(next, bytes);
                model.regions.insert(next, bytes);
                next += 1;
            }
            Deed::Retire(any) if !model.regions.is_empty() => {
                let at = any % model.regions.len();
                let region = *model.regions.keys().nth(at).unwrap();
                model.retired.insert(region);
                let is_free = model.free_regions().contains(&region);
                assert_eq!(pool.retire(region), is_free);
                if is_free {
                    pool.remove(region);
                    model.regions.remove(&region);
                }
            }
            Deed::RemoveFree => {
                let free: BTreeSet<u32> = pool.free_regions().collect();
                assert_eq!(free, model.free_regions());
                if let Some(region) = free.first() {
                    pool.remove(*region);
                    model.regions.remove(region);
                }
            }
            Deed::Free(_) | Deed::Retire(_) => {}
        }
    }
    for (place, _) in std::mem::take(&mut model.used) {
        if let Some(region) = pool.free(place.block) {
            pool.remove(region);
            model.regions.remove(&region);
        }
    }
    // All is whole again: each region gives itself in one piece.
    let free: BTreeSet<u32> = pool.free_regions().collect();
    assert_eq!(free, model.regions.keys().copied().collect());
}

proptest! {
    #[test]
    fn nothing_overlaps_what_fits_is_found_and_all_comes_back(
        deeds in prop::collection::vec(deed(), 1..300)
    ) {
        play(deeds);
    }

    #[test]
    fn what_is_written_in_an_extent_stays_until_it_is_given_back(
        sizes in prop::collection::vec((0_usize..300_000, any::<usize>()), 1..60),
        large in 0_usize..6_000_000,
    ) {
        let limit_bytes = 24 << 20;
        let arena = Arena::new(ArenaOptions { limit_bytes, shared: true });
        let mut kept: Vec<(Extent, u8)> = Vec::new();
        let give_back = |(extent, mark): (Extent, u8)| {
            assert!(extent.as_slice().iter().all(|byte| *byte == mark));
        };
        for (number, (size, which)) in sizes.into_iter().enumerate() {
            let bytes = if number % 7 == 3 { large } else { size };
            if let Ok(mut extent) = arena.allocate(bytes) {
                assert_eq!(extent.as_ptr().as_ptr() as usize % 64, 0);
                assert_eq!(extent.bytes(), bytes);
                extent.as_mut_slice().fill(number as u8);
                kept.push((extent, number as u8));
            }
            assert!(arena.held_bytes() <= limit_bytes);
            if which % 3 == 0 && !kept.is_empty() {
                give_back(kept.swap_remove(which % kept.len()));
            }
            if which % 11 == 0 && let Some((extent, _)) = kept.first() {
                arena.retire(extent.region());
            }
            let used: usize = kept.iter().map(|(extent, _)| extent.bytes()).sum();
            assert_eq!(arena.used_bytes(), used as u64);
        }
        kept.into_iter().for_each(give_back);
        assert_eq!(arena.used_bytes(), 0);
        let held: u64 = arena.regions().iter().map(|region| region.bytes()).sum();
        assert_eq!(arena.held_bytes(), held);
    }
}
