//! A table of what is known of names, bounded in bytes: facts of digests, and what tags named.
//!
//! A cache that keeps an order of use has several hundred bytes beside each entry. So there are
//! generations: what is new or used is in the youngest; when that has its part of the bound another
//! is begun, and the oldest are forgotten. What is used stays, however many others are asked for once.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use crate::oci::Digest;

/// So many parts the bound has: between three of them and all are kept.
const GENERATIONS: usize = 4;

/// A name in a table: the SHA-256 of its parts, each with its length before it. So no name can run
/// into another, and nobody can make two that meet. It takes 32 bytes, however long the names are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

/// What is known, by its name.
#[derive(Debug)]
pub(super) struct Table<V> {
    bytes_max: usize,
    /// The youngest first.
    generations: Mutex<VecDeque<Generation<V>>>,
}

#[derive(Debug)]
struct Generation<V> {
    entries: HashMap<Key, Entry<V>>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: u32,
}

impl Key {
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut text = Vec::with_capacity(256);
        for part in parts {
            text.extend((part.len() as u64).to_le_bytes());
            text.extend(*part);
        }
        let mut key = [0; 32];
        key.copy_from_slice(Digest::sha256(&text).as_bytes());
        Self(key)
    }

    pub(super) fn bytes(self) -> [u8; 32] {
        self.0
    }
}

impl<V> Default for Generation<V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            bytes: 0,
        }
    }
}

impl<V: Clone> Table<V> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            generations: Mutex::default(),
        }
    }

    /// What is known, which is young again.
    pub(super) fn get(&self, key: &Key) -> Option<V> {
        let mut generations = self.lock();
        let young = generations.front()?.entries.get(key);
        if let Some(entry) = young {
            return Some(entry.value.clone());
        }
        let entry = take(&mut generations, key)?;
        let value = entry.value.clone();
        self.put(&mut generations, *key, entry);
        Some(value)
    }

    /// Keeps `value`, which has so many bytes beside itself. What would take all of the table
    /// is not kept.
    pub(super) fn insert(&self, key: Key, value: V, bytes: usize) {
        // Tables have some room to grow, and the allocator rounds.
        let own = size_of::<(Key, Entry<V>)>() * 3 / 2;
        let bytes = own.saturating_add(bytes);
        let mut generations = self.lock();
        take(&mut generations, &key);
        let counted = u32::try_from(bytes);
        if let Some(bytes) = counted.ok().filter(|_| bytes <= self.bytes_max) {
            self.put(&mut generations, key, Entry { value, bytes });
        }
    }

    pub(super) fn remove(&self, key: &Key) {
        take(&mut self.lock(), key);
    }

    fn put(&self, generations: &mut VecDeque<Generation<V>>, key: Key, entry: Entry<V>) {
        let bytes = entry.bytes as usize;
        let part = self.bytes_max / GENERATIONS;
        let fits = generations
            .front()
            .is_some_and(|young| young.bytes + bytes <= part);
        if !fits {
            generations.push_front(Generation::default());
            generations.truncate(GENERATIONS);
        }
        if let Some(young) = generations.front_mut() {
            young.bytes += bytes;
            young.entries.insert(key, entry);
        }
        let held = |all: &VecDeque<Generation<V>>| -> usize {
            all.iter().map(|generation| generation.bytes).sum()
        };
        while held(generations) > self.bytes_max {
            generations.pop_back();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Generation<V>>> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known, out of the table.
fn take<V>(generations: &mut VecDeque<Generation<V>>, key: &Key) -> Option<Entry<V>> {
    generations.iter_mut().find_map(|generation| {
        let entry = generation.entries.remove(key)?;
        generation.bytes -= entry.bytes as usize;
        Some(entry)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Key {
        Key::of(&[&number.to_le_bytes()])
    }

    fn bytes(table: &Table<u32>) -> usize {
        let generations = table.lock();
        generations.iter().map(|generation| generation.bytes).sum()
    }

    #[test]
    fn what_is_used_outlives_a_scan_within_the_bound() {
        let table = Table::new(100_000);
        table.insert(key(0), 0, 0);
        table.insert(key(1), 1, 0);
        for number in 2..100_000 {
            table.insert(key(number), number, 0);
            if number % 100 == 0 {
                assert_eq!(table.get(&key(0)), Some(0), "after {number}");
            }
            assert!(bytes(&table) <= 100_000);
        }
        assert_eq!(table.get(&key(1)), None);
        assert_eq!(table.get(&key(99_999)), Some(99_999));
        assert!(bytes(&table) > 70_000);
    }

    #[test]
    fn what_is_put_anew_is_there_once() {
        let table = Table::new(10_000);
        for round in 0..1000 {
            table.insert(key(1), round, 1000);
            assert_eq!(table.get(&key(1)), Some(round));
            assert!(bytes(&table) < 1200);
        }
        table.remove(&key(1));
        assert_eq!((table.get(&key(1)), bytes(&table)), (None, 0));
    }

    #[test]
    fn what_is_large_has_room_from_others_and_what_is_too_large_has_none() {
        let table = Table::new(10_000);
        for number in 0..50 {
            table.insert(key(number), number, 0);
        }
        table.insert(key(100), 100, 9000);
        assert_eq!(table.get(&key(100)), Some(100));
        assert!(bytes(&table) <= 10_000);
        // An older value is not left in place of one that does not fit.
        table.insert(key(100), 101, 10_000);
        assert_eq!(table.get(&key(100)), None);
    }

    // THREATS C5.
    #[test]
    fn no_name_runs_into_another() {
        let names: [&[&[u8]]; 5] = [
            &[b"a", b"bc"],
            &[b"ab", b"c"],
            &[b"abc"],
            &[b"abc", b""],
            &[b"", b"abc"],
        ];
        let keys: std::collections::HashSet<Key> = names.into_iter().map(Key::of).collect();
        assert_eq!(keys.len(), names.len());
    }
}
