//! The blocks and records read last, up to a number of bytes.

use std::{collections::BTreeMap, rc::Rc};

/// What is kept: code blocks by cluster, records by cluster and row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Block(usize),
    Record(usize, usize),
}

/// Least recently used goes first.
#[derive(Debug)]
pub(super) struct Cache<T> {
    limit: usize,
    bytes: usize,
    clock: u64,
    entries: BTreeMap<Key, Entry<T>>,
    /// By last use.
    uses: BTreeMap<u64, Key>,
}

#[derive(Debug)]
struct Entry<T> {
    value: Rc<T>,
    bytes: usize,
    used: u64,
}

impl<T> Cache<T> {
    /// Keeps at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, clock: 0, entries: BTreeMap::new(), uses: BTreeMap::new() }
    }

    /// A value that is there, which is now the last used.
    pub(super) fn get(&mut self, key: Key) -> Option<Rc<T>> {
        let entry = self.entries.get_mut(&key)?;
        self.uses.remove(&entry.used);
        self.clock += 1;
        entry.used = self.clock;
        self.uses.insert(self.clock, key);
        Some(entry.value.clone())
    }

    /// A value that is there, which stays as long unused as it was.
    pub(super) fn peek(&self, key: Key) -> Option<Rc<T>> {
        self.entries.get(&key).map(|entry| entry.value.clone())
    }

    /// All code blocks that are there, which stay as long unused as they were.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, Rc<T>)> {
        self.entries.iter().filter_map(|(key, entry)| match key {
            Key::Block(cluster) => Some((*cluster, entry.value.clone())),
            Key::Record(..) => None,
        })
    }

    /// Keeps a value of so many bytes; others go.
    pub(super) fn put(&mut self, key: Key, value: Rc<T>, bytes: usize) {
        self.remove(key);
        if bytes > self.limit {
            return;
        }
        self.clock += 1;
        self.uses.insert(self.clock, key);
        self.entries.insert(key, Entry { value, bytes, used: self.clock });
        self.bytes += bytes;
        while self.bytes > self.limit {
            let (_, oldest) = self.uses.first_key_value().expect("what takes bytes was used once");
            self.remove(*oldest);
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.uses.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Equals a list that is searched and shifted.
        #[test]
        fn the_least_recently_used_goes_first(steps in prop::collection::vec((0usize..9, 1usize..50, any::<bool>()), 0..80)) {
            let mut cache = Cache::new(100);
            let mut list: Vec<(usize, usize)> = Vec::new();
            for (key, bytes, put) in steps {
                let known = list.iter().position(|(k, _)| *k == key);
                if put {
                    cache.put(Key::Block(key), Rc::new(bytes), bytes);
                    known.map(|at| list.remove(at));
                    list.push((key, bytes));
                    while list.iter().map(|(_, bytes)| bytes).sum::<usize>() > 100 {
                        list.remove(0);
                    }
                } else {
                    let found = cache.get(Key::Block(key)).map(|value| *value);
                    prop_assert_eq!(found, known.map(|at| list[at].1));
                    if let Some(at) = known {
                        let entry = list.remove(at);
                        list.push(entry);
                    }
                }
                prop_assert_eq!(cache.bytes, list.iter().map(|(_, bytes)| bytes).sum::<usize>());
            }
        }
    }
}
