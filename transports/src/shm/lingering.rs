//! Regions that were given up here, and that others still have mapped: whose
//! they are, and how many bytes.

use std::collections::BTreeSet;

use super::server::{Joined, ShmServer};

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
