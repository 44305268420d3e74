//! A cache of recently transferred artifacts by hash, with a limit in bytes. With it, soft targets
//! are fetched once and not for every trial, and a model that was just trained here is measured
//! without a download.

use std::collections::VecDeque;
use std::sync::Arc;

use edgesmith_common::ArtifactHash;

/// The least recently used artifacts are removed first. There are only a few, so a lookup scans all
/// of them.
#[derive(Debug)]
pub struct Cache {
    limit: usize,
    used: usize,
    /// Most recently used last.
    entries: VecDeque<(ArtifactHash, Arc<Vec<u8>>)>,
}

impl Cache {
    /// An empty cache for at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: 0, entries: VecDeque::new() }
    }

    /// The bytes of `hash`, if they are cached.
    pub fn get(&mut self, hash: ArtifactHash) -> Option<Arc<Vec<u8>>> {
        let at = self.entries.iter().position(|(known, _)| *known == hash)?;
        let entry = self.entries.remove(at)?;
        let bytes = Arc::clone(&entry.1);
        self.entries.push_back(entry);
        Some(bytes)
    }

    /// Keeps `bytes`, whose hash is `hash`. Bytes that exceed the limit on their own are not kept.
    pub fn insert(&mut self, hash: ArtifactHash, bytes: Arc<Vec<u8>>) {
        if bytes.len() > self.limit || self.get(hash).is_some() {
            return;
        }
        self.used += bytes.len();
        self.entries.push_back((hash, bytes));
        while self.used > self.limit {
            let Some((_, oldest)) = self.entries.pop_front() else { break };
            self.used -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(cache: &mut Cache, bytes: &[u8]) -> ArtifactHash {
        let hash = ArtifactHash::of(bytes);
        cache.insert(hash, Arc::new(bytes.to_vec()));
        hash
    }

    #[test]
    fn the_least_recently_used_artifact_is_removed_first() {
        let mut cache = Cache::new(10);
        let a = insert(&mut cache, b"aaaa");
        let b = insert(&mut cache, b"bbbb");
        assert!(cache.get(a).is_some());
        let c = insert(&mut cache, b"cccc");
        assert!(cache.get(b).is_none());
        assert_eq!(cache.get(a).unwrap().as_slice(), b"aaaa");
        assert_eq!(cache.get(c).unwrap().as_slice(), b"cccc");
    }

    #[test]
    fn inserting_again_does_not_count_twice() {
        let mut cache = Cache::new(10);
        let a = insert(&mut cache, b"aaaaa");
        insert(&mut cache, b"aaaaa");
        let b = insert(&mut cache, b"bbbbb");
        assert!(cache.get(a).is_some() && cache.get(b).is_some());
    }

    #[test]
    fn an_artifact_over_the_limit_removes_no_others() {
        let mut cache = Cache::new(4);
        let a = insert(&mut cache, b"aaaa");
        let big = insert(&mut cache, b"bbbbb");
        assert!(cache.get(big).is_none());
        assert!(cache.get(a).is_some());
    }
}
