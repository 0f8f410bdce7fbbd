//! What was said lately and need not be said again: a few things by their digests.
//!
//! Two sides that do the same to their memories in the same order remember the
//! same, so either knows without asking what the other can be referred to. The
//! least recently named goes first; the newest always stays, whatever its size.

use std::collections::VecDeque;

/// How many things are remembered: a run that goes back and forth between a few
/// decompositions describes each of them once.
pub(crate) const RECENT: usize = 8;

/// A few things by their digests, the one named last in front.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    limit_bytes: usize,
    held_bytes: usize,
    things: VecDeque<Thing<T>>,
}

#[derive(Debug)]
struct Thing<T> {
    digest: u64,
    bytes: usize,
    value: T,
}

impl<T> Recent<T> {
    /// Remembers [`RECENT`] things of `limit_bytes` together, or one of any size.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            held_bytes: 0,
            things: VecDeque::new(),
        }
    }

    /// The one named last.
    pub(crate) fn newest(&self) -> Option<(u64, &T)> {
        self.things
            .front()
            .map(|thing| (thing.digest, &thing.value))
    }

    /// Names a thing: it is now the newest. `None` if it is not remembered.
    pub(crate) fn name(&mut self, digest: u64) -> Option<&mut T> {
        let at = self.things.iter().position(|it| it.digest == digest)?;
        if at > 0
            && let Some(thing) = self.things.remove(at)
        {
            self.things.push_front(thing);
        }
        self.things.front_mut().map(|thing| &mut thing.value)
    }

    /// Takes in a thing that is not remembered, of `bytes` for what is held together.
    pub(crate) fn take_in(&mut self, digest: u64, bytes: usize, value: T) -> &mut T {
        self.things.retain(|thing| thing.digest != digest);
        self.things.push_front(Thing {
            digest,
            bytes,
            value,
        });
        self.held_bytes = self.things.iter().map(|thing| thing.bytes).sum();
        while self.things.len() > 1
            && (self.things.len() > RECENT || self.held_bytes > self.limit_bytes)
        {
            let gone = self.things.pop_back();
            self.held_bytes -= gone.map_or(0, |gone| gone.bytes);
        }
        &mut self.things[0].value
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.things.clear();
        self.held_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_named_goes_first_and_the_newest_stays_whatever_its_size() {
        let mut recent = Recent::new(100);
        for digest in 0..RECENT as u64 {
            recent.take_in(digest, 1, digest);
        }
        assert_eq!(recent.name(0).copied(), Some(0));
        recent.take_in(99, 1, 99);
        assert_eq!(recent.name(1), None);
        assert_eq!(recent.name(0).copied(), Some(0));
        recent.take_in(7000, 1000, 7000);
        assert_eq!(recent.newest(), Some((7000, &7000)));
        assert_eq!(recent.name(0), None);
        recent.take_in(7001, 10, 7001);
        assert_eq!(recent.name(7000), None);
        assert_eq!(recent.things.len(), 1);
    }
}
