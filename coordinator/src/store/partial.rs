//! Artifacts that have arrived in part. What an upload that broke off has brought is kept, so that
//! the next one goes on there, also after a restart of the coordinator.
//!
//! They are files `partial/HASH.part` beside the artifacts. They are not synced: whatever a crash
//! makes of one, the hash of the whole artifact is checked before it counts, and if it is wrong,
//! everything is dropped.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use edgesmith_common::ArtifactHash;

use super::artifacts::{ArtifactError, ArtifactStore, Collected, at, entries};
use super::is_out_of_space;

/// The folder in that of the artifacts.
pub const FOLDER: &str = "partial";
/// The most that are kept. Beyond that, the oldest one goes.
const MOST: usize = 256;

/// What an upload finds that would go on.
#[derive(Debug)]
pub enum Resumed {
    /// This has arrived so far.
    Going(PartialArtifact),
    /// Another upload is writing it.
    Taken,
    /// Another upload has brought all bytes, and is checking them and making them durable.
    Ending,
}

/// An artifact that is arriving. Only one at a time is written for a hash.
#[derive(Debug)]
pub struct PartialArtifact {
    store: ArtifactStore,
    file: File,
    path: PathBuf,
    hash: ArtifactHash,
    size: u64,
    stored: u64,
    /// Large, and moved with every chunk.
    hasher: Box<blake3::Hasher>,
    /// Whether what has arrived is kept if the upload breaks off; then this holds the hash's place.
    kept: bool,
    /// Whether the file is still at `path`.
    exists: bool,
}

impl ArtifactStore {
    /// Goes on with the artifact `hash` of `size` bytes where an earlier upload broke off, or at
    /// its beginning.
    ///
    /// # Errors
    /// If the file cannot be created or read.
    pub fn resume(&self, hash: ArtifactHash, size: u64) -> Result<Resumed, ArtifactError> {
        let mut taken = self.arriving();
        match taken.get(&hash) {
            Some(true) => return Ok(Resumed::Ending),
            Some(false) => return Ok(Resumed::Taken),
            None => drop(taken.insert(hash, false)),
        }
        drop(taken);
        let path = self.partial_path(hash);
        // From here on, dropping it gives the place back.
        let open = || {
            fs::create_dir_all(self.shared.root.join(FOLDER))?;
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)
        };
        let file = match open() {
            Ok(file) => file,
            Err(source) => {
                self.give_back(hash);
                return Err(ArtifactError::Io { path, source });
            }
        };
        let mut partial = PartialArtifact {
            store: self.clone(),
            file,
            path,
            hash,
            size,
            stored: 0,
            hasher: Box::default(),
            kept: true,
            exists: true,
        };
        partial.read_again().map_err(at(&partial.path))?;
        partial.note_whole();
        if partial.stored == 0 {
            self.drop_oldest_partial()?;
        }
        Ok(Resumed::Going(partial))
    }

    /// Begins an upload of the artifact `hash` of `size` bytes of which nothing is kept if it
    /// breaks off.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn arrive_beside(
        &self,
        hash: ArtifactHash,
        size: u64,
    ) -> Result<PartialArtifact, ArtifactError> {
        let name = self.shared.next.fetch_add(1, Ordering::Relaxed).to_string();
        let path = self.shared.root.join("tmp").join(name);
        let open = OpenOptions::new().write(true).create_new(true).open(&path);
        let (file, hasher) = (open.map_err(at(&path))?, Box::default());
        let store = self.clone();
        Ok(PartialArtifact {
            store,
            file,
            path,
            hash,
            size,
            stored: 0,
            hasher,
            kept: false,
            exists: true,
        })
    }

    /// Removes what is left of uploads that have not gone on for `min_age` before `now`.
    ///
    /// # Errors
    /// If a file cannot be looked at or removed.
    pub(super) fn collect_partial(
        &self,
        min_age: Duration,
        now: SystemTime,
    ) -> Result<Collected, ArtifactError> {
        let mut collected = Collected::default();
        for (modified, bytes, hash) in self.partial_files()? {
            // One from the future counts as young.
            let is_old = now.duration_since(modified).is_ok_and(|age| age >= min_age);
            if is_old && self.drop_partial(hash)? {
                collected.removed += 1;
                collected.removed_bytes += bytes;
            } else {
                collected.young += 1;
            }
        }
        Ok(collected)
    }

    fn drop_oldest_partial(&self) -> Result<(), ArtifactError> {
        let mut files = self.partial_files()?;
        files.sort();
        let excess = files.len().saturating_sub(MOST);
        for (_, _, hash) in files.into_iter().take(excess) {
            self.drop_partial(hash)?;
        }
        Ok(())
    }

    /// Removes what has arrived of `hash`, unless it is being written.
    fn drop_partial(&self, hash: ArtifactHash) -> Result<bool, ArtifactError> {
        let taken = self.arriving();
        if taken.contains_key(&hash) {
            return Ok(false);
        }
        let path = self.partial_path(hash);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true).map_err(at(&path)),
        }
    }

    /// When each was changed last, its size in bytes, and of which artifact it is.
    fn partial_files(&self) -> Result<Vec<(SystemTime, u64, ArtifactHash)>, ArtifactError> {
        let mut files = Vec::new();
        for path in entries(&self.shared.root.join(FOLDER))? {
            let hash = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".part"));
            let Some(hash) = hash.and_then(|hash| hash.parse().ok()) else { continue };
            match path.metadata() {
                // It is complete, or gone, since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => {
                    let found = found.map_err(at(&path))?;
                    files.push((found.modified().map_err(at(&path))?, found.len(), hash));
                }
            }
        }
        Ok(files)
    }

    fn partial_path(&self, hash: ArtifactHash) -> PathBuf {
        self.shared.root.join(FOLDER).join(format!("{hash}.part"))
    }

    fn give_back(&self, hash: ArtifactHash) {
        self.arriving().remove(&hash);
    }

    fn arriving(&self) -> MutexGuard<'_, HashMap<ArtifactHash, bool>> {
        self.shared.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialArtifact {
    /// How many bytes have arrived.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Whether all bytes have arrived.
    pub fn is_whole(&self) -> bool {
        self.stored == self.size
    }

    /// Appends the next piece.
    ///
    /// # Errors
    /// If it is more than the artifact has, or cannot be written. If there is no room, everything
    /// that has arrived is dropped, because records need the room more.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), ArtifactError> {
        let stored = self.stored + bytes.len() as u64;
        if stored > self.size {
            return Err(ArtifactError::Oversized { hash: self.hash, size: self.size });
        }
        if let Err(source) = self.file.write_all(bytes) {
            if is_out_of_space(&source) {
                self.remove();
            }
            return Err(ArtifactError::Io { path: self.path.clone(), source });
        }
        self.hasher.update(bytes);
        self.stored = stored;
        self.note_whole();
        Ok(())
    }

    /// Lets other uploads of the same artifact know that nothing of it is missing.
    fn note_whole(&self) {
        if self.kept && self.is_whole() {
            self.store.arriving().insert(self.hash, true);
        }
    }

    /// Drops what has arrived, because the artifact is stored.
    pub fn discard(mut self) {
        self.remove();
    }

    /// Moves the artifact to its final place durably.
    ///
    /// # Errors
    /// If the bytes do not hash to the name, or cannot be made durable. Bytes with a wrong hash are
    /// dropped.
    pub fn finish(mut self) -> Result<(), ArtifactError> {
        let (found, expected) = (self.hasher.finalize(), self.hash);
        let found = ArtifactHash::from_bytes(*found.as_bytes());
        if found != expected {
            self.remove();
            return Err(ArtifactError::Mismatch { expected, found });
        }
        // A second sync of the same bytes would succeed although they may not be on the disk.
        if let Err(source) = self.file.sync_all() {
            let path = self.path.clone();
            self.remove();
            return Err(ArtifactError::Io { path, source });
        }
        self.store.place(&self.file, &self.path, expected)?;
        self.exists = false;
        Ok(())
    }

    /// Reads what an earlier upload has left. More than the artifact has cannot be of it.
    fn read_again(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.size {
            return self.file.set_len(0);
        }
        let mut buffer = vec![0; 1 << 18];
        loop {
            match self.file.read(&mut buffer)? {
                0 => break,
                n => {
                    self.hasher.update(&buffer[..n]);
                    self.stored += n as u64;
                }
            }
        }
        self.file.seek(io::SeekFrom::Start(self.stored)).map(drop)
    }

    fn remove(&mut self) {
        // If it fails, the hash is checked at the end of the next upload, too.
        let _ = self.file.set_len(0);
        let _ = fs::remove_file(&self.path);
        self.exists = false;
    }
}

impl Drop for PartialArtifact {
    fn drop(&mut self) {
        if self.exists && !(self.kept && self.stored > 0) {
            self.remove();
        }
        if self.kept {
            self.store.give_back(self.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn store() -> (tempfile::TempDir, ArtifactStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(dir.path().join("artifacts")).unwrap();
        (dir, store)
    }

    fn take(store: &ArtifactStore, bytes: &[u8]) -> PartialArtifact {
        match store.resume(ArtifactHash::of(bytes), bytes.len() as u64).unwrap() {
            Resumed::Going(partial) => partial,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// An upload that breaks off anywhere, several times, also with restarts in between, brings
        /// each byte once.
        #[test]
        fn an_upload_goes_on_where_it_was(
            bytes in proptest::collection::vec(any::<u8>(), 0..5000),
            breaks in proptest::collection::vec((0..5000usize, any::<bool>()), 0..5),
        ) {
            let (dir, mut store) = store();
            let mut breaks = breaks;
            breaks.sort_unstable();
            let mut sent = 0;
            for (end, restarts) in breaks {
                let end = end.min(bytes.len());
                let mut partial = take(&store, &bytes);
                prop_assert_eq!(partial.stored(), sent as u64);
                for piece in bytes[sent..end].chunks(700) {
                    partial.chunk(piece).unwrap();
                }
                sent = end;
                drop(partial);
                if restarts {
                    store = ArtifactStore::open(dir.path().join("artifacts")).unwrap();
                }
            }
            let mut partial = take(&store, &bytes);
            prop_assert_eq!(partial.stored(), sent as u64);
            partial.chunk(&bytes[sent..]).unwrap();
            prop_assert!(partial.is_whole());
            partial.finish().unwrap();
            prop_assert_eq!(store.get(ArtifactHash::of(&bytes)).unwrap(), bytes);
            prop_assert_eq!(store.partial_files().unwrap(), []);
        }
    }

    #[test]
    fn what_has_arrived_wrongly_is_dropped_whole() {
        let (_dir, store) = store();
        let (bytes, hash) = (b"right bytes", ArtifactHash::of(b"right bytes"));
        let mut partial = take(&store, bytes);
        partial.chunk(b"wrong").unwrap();
        drop(partial);
        let mut partial = take(&store, bytes);
        assert_eq!(partial.stored(), 5);
        assert!(matches!(partial.chunk(&[0; 7]), Err(ArtifactError::Oversized { size: 11, .. })));
        partial.chunk(&bytes[5..]).unwrap();
        assert!(matches!(partial.finish(), Err(ArtifactError::Mismatch { .. })));
        assert!(!store.contains(hash));
        assert_eq!(take(&store, bytes).stored(), 0);
        // One that is longer than the artifact is of no use either.
        fs::write(store.partial_path(hash), [7; 12]).unwrap();
        assert_eq!(take(&store, bytes).stored(), 0);
        assert_eq!(store.partial_files().unwrap(), []);
    }

    #[test]
    fn only_one_upload_of_an_artifact_keeps_what_arrives() {
        let (_dir, store) = store();
        let (bytes, hash) = (b"the same bytes", ArtifactHash::of(b"the same bytes"));
        let mut first = take(&store, bytes);
        first.chunk(&bytes[..6]).unwrap();
        assert!(matches!(store.resume(hash, 14).unwrap(), Resumed::Taken));
        let mut second = store.arrive_beside(hash, 14).unwrap();
        second.chunk(bytes).unwrap();
        second.finish().unwrap();
        assert_eq!(store.get(hash).unwrap(), bytes);
        first.chunk(&bytes[6..]).unwrap();
        assert!(matches!(store.resume(hash, 14).unwrap(), Resumed::Ending));
        first.finish().unwrap();
        assert_eq!(store.get(hash).unwrap(), bytes);
        drop(store.arrive_beside(hash, 14).unwrap());
        assert_eq!(fs::read_dir(store.shared.root.join("tmp")).unwrap().count(), 0);
        take(&store, bytes).discard();
    }

    #[test]
    fn old_ones_go_and_those_that_are_written_stay() {
        let (_dir, store) = store();
        let begin = |bytes: &[u8]| {
            let mut partial = take(&store, bytes);
            partial.chunk(&bytes[..1]).unwrap();
            partial
        };
        drop(begin(b"left"));
        let written = begin(b"written");
        let (hour, now) = (Duration::from_secs(3600), SystemTime::now());
        let collected = store.collect(|_| false, hour, now).unwrap();
        assert_eq!((collected.removed, collected.young), (0, 2));
        let collected = store.collect(|_| false, hour, now + 2 * hour).unwrap();
        assert_eq!((collected.removed, collected.removed_bytes, collected.young), (1, 1, 1));
        drop(written);
        assert_eq!(take(&store, b"written").stored(), 1);
        assert_eq!(store.list().unwrap(), []);
    }

    #[test]
    fn only_so_many_are_kept() {
        let (_dir, store) = store();
        let begin = |number: usize| {
            let bytes = number.to_le_bytes();
            let mut partial = take(&store, &bytes);
            partial.chunk(&bytes[..1]).unwrap();
            let past = SystemTime::now() - Duration::from_secs(10_000 - number as u64);
            partial.file.set_modified(past).unwrap();
        };
        (0..MOST + 2).for_each(begin);
        assert_eq!(take(&store, &0_usize.to_le_bytes()).stored(), 0);
        assert_eq!(take(&store, &(MOST + 1).to_le_bytes()).stored(), 1);
        assert!(store.partial_files().unwrap().len() <= MOST + 1);
    }
}
