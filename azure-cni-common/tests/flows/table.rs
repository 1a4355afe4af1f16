//! A bounded map that refuses what is too much, as the kernel's hash does, or forgets its oldest entry, as its LRU does.

#[derive(Clone, Debug, PartialEq)]
pub struct Table<K, V> {
    entries: Vec<(K, V)>,
    capacity: usize,
    is_lru: bool,
    /// Entries that made room for others, until they are taken.
    evicted: Vec<(K, V)>,
}

impl<K: Copy + PartialEq, V: Copy> Table<K, V> {
    pub fn hash(capacity: usize) -> Self {
        Self { entries: Vec::new(), capacity, is_lru: false, evicted: Vec::new() }
    }

    pub fn lru(capacity: usize) -> Self {
        Self { is_lru: true, ..Self::hash(capacity) }
    }

    pub fn get(&self, key: &K) -> Option<V> {
        self.entries.iter().find(|entry| entry.0 == *key).map(|entry| entry.1)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.iter_mut().find(|entry| entry.0 == *key).map(|entry| &mut entry.1)
    }

    /// False if there is no room.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        self.remove(&key);
        if self.entries.len() == self.capacity {
            if !self.is_lru {
                return false;
            }
            let oldest = self.entries.remove(0);
            self.evicted.push(oldest);
        }
        self.entries.push((key, value));
        true
    }

    pub fn remove(&mut self, key: &K) {
        self.entries.retain(|entry| entry.0 != *key);
    }

    pub fn remove_nth(&mut self, n: usize) -> Option<(K, V)> {
        if self.entries.is_empty() { None } else { Some(self.entries.remove(n % self.entries.len())) }
    }

    pub fn take_evicted(&mut self) -> Vec<(K, V)> {
        core::mem::take(&mut self.evicted)
    }

    pub fn iter(&self) -> impl Iterator<Item = (K, V)> {
        self.entries.iter().copied()
    }
}
