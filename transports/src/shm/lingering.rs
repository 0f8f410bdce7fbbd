//! Regions that were given up here, and that others still have mapped: whose
//! they are, and how many bytes.

use std::collections::BTreeSet;

use rustix::event::epoll;

use super::error::ShmError;
use super::server::{Inner, Joined, ShmEvent, ShmServer, State};

impl ShmServer {
    /// Takes an offer back, and ends the connection of whoever took it. What
    /// he has mapped stays mapped there, and is charged until it is not.
    pub fn forget(&self, number: u64) {
        let mut state = self.0.lock();
        let state = &mut *state;
        state.offers.retain(|_, offer| offer.number != number);
        let of_number = |_: &u64, joined: &mut Joined| joined.number == number;
        let forgotten: Vec<_> = state.joined.extract_if(.., of_number).collect();
        for (key, joined) in forgotten {
            self.0.forget(state, key, joined);
        }
    }

    /// Bytes of regions that are given up here and still mapped by others, as
    /// far as those connections tell.
    #[must_use]
    pub fn lingering_bytes(&self) -> u64 {
        let state = self.0.lock();
        let all = state.joined.values().chain(state.forgotten.values());
        let passed = all.flat_map(|one| one.passed.iter());
        let gone: BTreeSet<(u32, u64)> = passed
            .filter(|(_, passed)| passed.gone && passed.charge.is_some())
            .map(|(region, passed)| (*region, passed.bytes))
            .collect();
        gone.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Inner {
    /// Has `handle` forget one that was cut off.
    pub(super) fn tell_if_cut_off(&self, joined: &Joined) {
        if joined.is_cut_off {
            // It fails only where the count is full, and then it is told.
            let _ = rustix::io::write(&self.cut_off, &1_u64.to_ne_bytes());
        }
    }

    /// Those that were cut off: they count as lost, and are heard until nothing of what
    /// they were sent is mapped.
    pub(super) fn forget_cut_off(&self, state: &mut State) -> Vec<ShmEvent> {
        let mut count = [0; 8];
        // It fails only where nothing was told.
        let _ = rustix::io::read(&self.cut_off, &mut count);
        let is_cut_off = |_: &u64, joined: &mut Joined| joined.is_cut_off;
        let cut_off: Vec<_> = state.joined.extract_if(.., is_cut_off).collect();
        let mut events = Vec::with_capacity(cut_off.len());
        for (key, joined) in cut_off {
            let what = "it takes nothing of what it is sent";
            events.push(ShmEvent::Lost {
                number: joined.number,
                why: ShmError::Misbehaved { what },
            });
            self.forget(state, key, joined);
        }
        events
    }

    /// Says no more to one, and hears from now on only what it unmaps.
    pub(super) fn forget(&self, state: &mut State, key: u64, mut joined: Joined) {
        joined.connection.end_sending();
        joined.outbox.clear();
        let data = epoll::EventData::new_u64(key);
        let watched = epoll::modify(
            &self.epoll,
            &*joined.connection,
            data,
            epoll::EventFlags::IN,
        );
        if watched.is_ok() && joined.has_memory() {
            state.forgotten.insert(key, joined);
        }
    }
}

impl Joined {
    /// Whether memory was sent that it has not said to have unmapped.
    fn has_memory(&self) -> bool {
        self.passed.values().any(|passed| passed.charge.is_some())
    }

    /// Hears one that was forgotten. What else it says is no matter any more.
    pub(super) fn has_ended(&mut self) -> bool {
        loop {
            match self.hear() {
                Ok(()) => return false,
                Err(ShmError::Misbehaved { .. }) => {}
                Err(_) => return true,
            }
        }
    }
}
