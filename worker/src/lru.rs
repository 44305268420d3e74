//! A cache of large values that several tasks share: data sets, soft targets, tables.
//!
//! Up to a limit in bytes, the values of several studies are kept, so that a worker that alternates
//! between studies reads each one's files once. It knows nothing about where values come from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A cache by key. The least recently used values are dropped first. A value that a task holds is
/// never dropped, because that would free no memory and the next task would make it again.
#[derive(Debug)]
pub struct Lru<K, V> {
    limit: u64,
    /// Most recently used last. There are only a few, so a lookup scans all of them.
    entries: Mutex<Vec<Entry<K, V>>>,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: Arc<K>,
    /// The value, which the first task that asks for it makes while the others wait.
    slot: Arc<Mutex<Option<Made<V>>>>,
}

#[derive(Debug)]
struct Made<V> {
    value: Arc<V>,
    /// Its size, bytes.
    bytes: u64,
}

impl<K: PartialEq, V> Lru<K, V> {
    /// An empty cache that keeps values of up to `limit` bytes together, and always the one used
    /// last.
    pub fn new(limit: u64) -> Self {
        Self { limit, entries: Mutex::new(Vec::new()) }
    }

    /// The value of `key`. `make` makes it with its size in bytes unless it is cached. `about` is
    /// the size that the value is expected to have, bytes; values that would not fit beside it are
    /// dropped before it is made.
    ///
    /// # Errors
    /// That of `make`; then nothing is kept for this key.
    pub fn get<E>(
        &self,
        key: K,
        about: u64,
        make: impl FnOnce() -> Result<(V, u64), E>,
    ) -> Result<Arc<V>, E> {
        let (key, slot) = self.slot(key);
        let mut made = lock(&slot);
        if let Some(made) = &*made {
            return Ok(Arc::clone(&made.value));
        }
        self.trim(&key, self.limit.saturating_sub(about));
        match make() {
            Ok((value, bytes)) => {
                let value = Arc::new(value);
                *made = Some(Made { value: Arc::clone(&value), bytes });
                drop(made);
                self.trim(&key, self.limit);
                Ok(value)
            }
            Err(error) => {
                drop(made);
                lock(&self.entries).retain(|entry| !Arc::ptr_eq(&entry.slot, &slot));
                Err(error)
            }
        }
    }

    /// The entry of a key, now the one that was used last.
    #[expect(clippy::type_complexity, reason = "the two fields of a private entry")]
    fn slot(&self, key: K) -> (Arc<K>, Arc<Mutex<Option<Made<V>>>>) {
        let mut entries = lock(&self.entries);
        let entry = match entries.iter().position(|entry| *entry.key == key) {
            Some(at) => entries.remove(at),
            None => Entry { key: Arc::new(key), slot: Arc::default() },
        };
        let found = (Arc::clone(&entry.key), Arc::clone(&entry.slot));
        entries.push(entry);
        found
    }

    /// Drops values that nobody holds until the others have at most `limit` bytes, the least
    /// recently used first. The value of `keep` stays.
    fn trim(&self, keep: &Arc<K>, limit: u64) {
        let mut entries = lock(&self.entries);
        // A value that is being made has no size yet.
        let state = |entry: &Entry<K, V>| {
            let slot = entry.slot.try_lock().ok()?;
            slot.as_ref().map(|made| (made.bytes, Arc::strong_count(&made.value) > 1))
        };
        let mut used: u64 = entries.iter().filter_map(state).map(|(bytes, _)| bytes).sum();
        entries.retain(|entry| {
            let unused = match state(entry) {
                Some((bytes, false)) if !Arc::ptr_eq(&entry.key, keep) => Some(bytes),
                Some(_) | None => None,
            };
            match unused {
                Some(bytes) if used > limit => {
                    used = used.saturating_sub(bytes);
                    false
                }
                Some(_) | None => true,
            }
        });
    }
}

/// A task that panicked while it made a value has left the slot empty, so the lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Gets the value of a key, which has 10 bytes, and says whether it was made for that.
    fn get(cache: &Lru<u8, u8>, key: u8) -> (Arc<u8>, bool) {
        let mut made = false;
        let value = cache.get(key, 10, || {
            made = true;
            Ok::<_, ()>((key, 10))
        });
        (value.unwrap(), made)
    }

    #[test]
    fn values_are_kept_up_to_the_limit_and_the_least_recently_used_goes_first() {
        let cache = Lru::new(30);
        let made = |key| get(&cache, key).1;
        assert!(made(1) && made(2) && made(3));
        assert!(!made(1) && !made(2) && !made(3) && !made(1));
        assert!(made(4), "this drops 2");
        assert!(!made(1) && !made(3) && !made(4) && made(2));
    }

    #[test]
    fn a_value_in_use_is_never_dropped() {
        let cache = Lru::new(10);
        let (held, _) = get(&cache, 1);
        assert!(get(&cache, 2).1);
        assert!(!get(&cache, 1).1, "1 is held");
        drop(held);
        assert!(get(&cache, 3).1);
        assert!(get(&cache, 1).1);
    }

    #[test]
    fn a_value_above_the_limit_is_kept_until_another_is_made() {
        let cache = Lru::new(5);
        assert!(get(&cache, 1).1 && !get(&cache, 1).1);
        assert!(get(&cache, 2).1 && get(&cache, 1).1);
    }

    #[test]
    fn room_is_made_before_a_value_is() {
        let cache = Lru::new(20);
        let (_, watched) = (get(&cache, 1), get(&cache, 2).0);
        let first = Arc::downgrade(&watched);
        drop(watched);
        let other = cache.get(3, 20, || {
            assert!(first.upgrade().is_none(), "dropped before");
            Ok::<_, ()>((3, 20))
        });
        other.unwrap();
    }

    #[test]
    fn a_failure_keeps_nothing() {
        let cache = Lru::new(10);
        assert_eq!(cache.get(1, 0, || Err::<(u8, u64), _>("no")), Err("no"));
        assert!(get(&cache, 1).1);
    }

    #[test]
    fn tasks_that_want_the_same_value_wait_for_one_and_others_do_not() {
        let cache = Lru::new(100);
        let (count, start) = (AtomicUsize::new(0), Barrier::new(3));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    let value = cache.get(1, 0, || {
                        count.fetch_add(1, Ordering::SeqCst);
                        // A value of another key is made meanwhile.
                        assert!(get(&cache, 2).1);
                        Ok::<_, ()>((1, 1))
                    });
                    assert_eq!(value.map(|value| *value), Ok(1));
                });
            }
            start.wait();
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}
