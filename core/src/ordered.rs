//! Things by their keys, in a flat list: for what mostly comes at the back and leaves
//! at the front, as steps do.
//!
//! What leaves elsewhere stays in its place as a husk until [`Ordered::tidy`]; husks
//! never outnumber the things by more than a few. Coming and going takes no memory
//! once the list has had its greatest length.

use std::collections::VecDeque;

/// Husks that are not worth clearing away.
const FEW_HUSKS: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ordered<K, V> {
    places: VecDeque<(K, Option<V>)>,
    husks: usize,
}

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self {
            places: VecDeque::new(),
            husks: 0,
        }
    }
}

impl<K: Ord + Copy, V> Ordered<K, V> {
    /// The place of a key, or where it would be.
    fn place(&self, key: K) -> Result<usize, usize> {
        match (self.places.front(), self.places.back()) {
            (Some((first, _)), _) if *first == key => Ok(0),
            (_, Some((last, _))) if *last < key => Err(self.places.len()),
            _ => self.places.binary_search_by_key(&key, |(key, _)| *key),
        }
    }

    /// Takes a thing in, in place of the one that has its key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.place(key) {
            Ok(at) => {
                let before = self.places[at].1.replace(value);
                self.husks -= usize::from(before.is_none());
            }
            Err(at) => self.places.insert(at, (key, Some(value))),
        }
    }

    pub(crate) fn get(&self, key: K) -> Option<&V> {
        let at = self.place(key).ok()?;
        self.places[at].1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let at = self.place(key).ok()?;
        self.places[at].1.as_mut()
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let at = self.place(key).ok()?;
        let gone = self.places[at].1.take()?;
        self.husks += 1;
        self.tidy();
        Some(gone)
    }

    /// Lets the least of them go.
    pub(crate) fn pop_first(&mut self) -> Option<(K, V)> {
        let (key, _) = self.iter().next()?;
        self.remove(key).map(|value| (key, value))
    }

    fn tidy(&mut self) {
        while self.places.front().is_some_and(|(_, it)| it.is_none()) {
            self.places.pop_front();
            self.husks -= 1;
        }
        if self.husks > self.len() + FEW_HUSKS {
            self.places.retain(|(_, it)| it.is_some());
            self.husks = 0;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.husks
    }

    /// By ascending keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        let places = self.places.iter();
        places.filter_map(|(key, value)| Some((*key, value.as_ref()?)))
    }

    /// Ascending.
    pub(crate) fn keys(&self) -> impl Iterator<Item = K> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn clear(&mut self) {
        self.places.clear();
        self.husks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_holds_what_a_map_holds_whatever_comes_and_goes() {
        let (mut ordered, mut map) = (Ordered::default(), BTreeMap::new());
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for turn in 0..20_000 {
            // Mostly at the back and from the front, sometimes anywhere.
            match random(5) {
                0 | 1 => {
                    ordered.insert(turn, turn);
                    map.insert(turn, turn);
                }
                2 => assert_eq!(ordered.pop_first(), map.pop_first()),
                3 => {
                    let key = random(turn + 1);
                    assert_eq!(ordered.remove(key), map.remove(&key));
                }
                _ => {
                    let key = random(turn + 1);
                    ordered.insert(key, turn);
                    map.insert(key, turn);
                }
            }
            let key = random(turn + 1);
            assert_eq!(ordered.get(key), map.get(&key));
            assert_eq!(ordered.get_mut(key), map.get_mut(&key));
            assert_eq!(ordered.len(), map.len());
            assert!(ordered.places.len() <= 2 * map.len() + FEW_HUSKS + 1);
        }
        assert!(ordered.keys().eq(map.keys().copied()));
        ordered.clear();
        assert_eq!((ordered.len(), ordered.iter().next()), (0, None));
    }

    #[test]
    fn steps_that_come_and_go_take_no_more_memory() {
        let mut steps = Ordered::default();
        let mut step = |number: u64| {
            steps.insert(number, ());
            if number >= 3 {
                assert_eq!(steps.remove(number - 3), Some(()));
            }
            steps.places.capacity()
        };
        let at_first = (0..8).map(&mut step).max();
        assert_eq!((8..10_000).map(&mut step).max(), at_first);
    }
}
