//! Artifacts as files named by their hash. A file is either complete or absent.
//!
//! Each file is written to a temporary place, hashed on the way, synced and then renamed. A crash
//! therefore leaves either nothing or the right bytes. Files are hashed again when they are read.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use edgesmith_common::ArtifactHash;

use super::directory::sync_directory;
use super::is_out_of_space;

/// The artifacts of one data directory. Clones share the same store, and it may be used from many
/// threads.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) root: PathBuf,
    /// Number for the name of the next temporary file.
    pub(super) next: AtomicU64,
    /// The artifacts whose partial files are being written, and whether all their bytes have come.
    pub(super) arriving: Mutex<HashMap<ArtifactHash, bool>>,
    /// Held while a file is put in its place, and while one is looked at and removed, so that one
    /// that is stored again just then stays.
    places: Mutex<()>,
}

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Artifacts that were removed.
    pub removed: u64,
    /// Their bytes together.
    pub removed_bytes: u64,
    /// Artifacts that are not needed, but too young.
    pub young: u64,
    /// Artifacts that are needed.
    pub kept: u64,
}

/// Why an artifact could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// There is no artifact with this hash.
    #[error("there is no artifact {0}")]
    Missing(ArtifactHash),
    /// Checksum mismatch: the uploaded bytes do not have the announced hash.
    #[error("checksum mismatch: the bytes of artifact {expected} hash to {found}; upload it again")]
    Mismatch {
        /// The announced hash.
        expected: ArtifactHash,
        /// The hash of the uploaded bytes.
        found: ArtifactHash,
    },
    /// The file was changed or damaged after it was written.
    #[error(
        "the file {path} of artifact {hash} is damaged; copy that file from a backup, if you have \
         one"
    )]
    Damaged {
        /// The requested artifact.
        hash: ArtifactHash,
        /// Path of the file.
        path: PathBuf,
    },
    /// More bytes were sent than announced.
    #[error("artifact {hash} was announced with {size} bytes, but more were sent")]
    Oversized {
        /// The announced hash.
        hash: ArtifactHash,
        /// The announced size, bytes.
        size: u64,
    },
    /// An error of the file system.
    #[error("cannot access {path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl ArtifactError {
    /// Whether there is no room for the artifact.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_out_of_space(source),
            Self::Missing(_)
            | Self::Mismatch { .. }
            | Self::Damaged { .. }
            | Self::Oversized { .. } => false,
        }
    }
}

impl ArtifactStore {
    /// Opens or creates the store in `root`, and removes what interrupted uploads left behind. The
    /// caller ensures that no other process uses it; see [`DataDir`](super::DataDir).
    ///
    /// # Errors
    /// If the directory cannot be created or cleaned.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ArtifactError> {
        let root = root.into();
        let temporary = root.join("tmp");
        match fs::remove_dir_all(&temporary) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(ArtifactError::Io { path: temporary, source });
            }
            _ => {}
        }
        fs::create_dir_all(&temporary).map_err(at(&temporary))?;
        sync_directory(&root).map_err(at(&root))?;
        Ok(Self::existing(root))
    }

    /// The store in `root` for reading, whatever is there. Another process may use it.
    pub fn existing(root: impl Into<PathBuf>) -> Self {
        Self {
            shared: Arc::new(Shared {
                root: root.into(),
                next: AtomicU64::new(0),
                arriving: Mutex::default(),
                places: Mutex::new(()),
            }),
        }
    }

    /// The artifacts that have a file, in order. Their contents are not checked.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<Vec<ArtifactHash>, ArtifactError> {
        let mut all = Vec::new();
        for folder in entries(&self.shared.root)? {
            if folder.is_dir() && !folder.ends_with("tmp") {
                let names = entries(&folder)?;
                let names = names.iter().filter_map(|path| path.file_name()?.to_str());
                all.extend(names.filter_map(|name| name.parse::<ArtifactHash>().ok()));
            }
        }
        all.sort();
        Ok(all)
    }

    /// Reads an artifact to its end, which checks its hash. Returns its size, bytes.
    ///
    /// # Errors
    /// If it is missing, damaged or unreadable.
    pub fn verify(&self, hash: ArtifactHash) -> Result<u64, ArtifactError> {
        let mut reader = self.reader(hash)?;
        let mut buffer = vec![0; 1 << 18];
        while reader.read_chunk(&mut buffer)? > 0 {}
        Ok(reader.size())
    }

    /// Starts writing an artifact whose bytes arrive in pieces.
    ///
    /// # Errors
    /// If the temporary file cannot be created.
    pub fn begin(&self) -> Result<ArtifactWriter, ArtifactError> {
        let name = self.shared.next.fetch_add(1, Ordering::Relaxed).to_string();
        let path = self.shared.root.join("tmp").join(name);
        let open = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = open.map_err(at(&path))?;
        let store = self.clone();
        Ok(ArtifactWriter { store, file, path, hasher: blake3::Hasher::new(), size: 0 })
    }

    /// Stores `bytes`. Storing existing bytes again is harmless.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<ArtifactHash, ArtifactError> {
        let hash = ArtifactHash::of(bytes);
        let mut writer = self.begin()?;
        writer.chunk(bytes)?;
        writer.finish(hash)?;
        Ok(hash)
    }

    /// Whether the artifact is stored, is whole, and has `size` bytes. Then it counts as stored now,
    /// as with [`Self::claim`].
    pub fn has_whole(&self, hash: ArtifactHash, size: u64) -> bool {
        self.claim(hash) && self.verify(hash).is_ok_and(|stored| stored == size)
    }

    /// Reads the whole artifact and checks its hash.
    ///
    /// # Errors
    /// If it is missing, damaged or unreadable.
    pub fn get(&self, hash: ArtifactHash) -> Result<Vec<u8>, ArtifactError> {
        let mut reader = self.reader(hash)?;
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match reader.read_chunk(&mut buffer)? {
                0 => return Ok(bytes),
                n => bytes.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// Starts reading an artifact in pieces.
    ///
    /// # Errors
    /// If it is missing or cannot be opened.
    pub fn reader(&self, hash: ArtifactHash) -> Result<ArtifactReader, ArtifactError> {
        let path = self.path(hash);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(ArtifactError::Missing(hash));
            }
            Err(source) => return Err(ArtifactError::Io { path, source }),
        };
        let size = file.metadata().map_err(at(&path))?.len();
        Ok(ArtifactReader { hash, file, path, size, hasher: blake3::Hasher::new() })
    }

    /// Removes the artifacts that are not `needed` and were stored at least `min_age` before `now`,
    /// and what is left of uploads that broke off before that.
    ///
    /// # Errors
    /// If a file cannot be looked at or removed.
    pub fn collect(
        &self,
        needed: impl Fn(ArtifactHash) -> bool,
        min_age: Duration,
        now: SystemTime,
    ) -> Result<Collected, ArtifactError> {
        let mut collected = self.collect_partial(min_age, now)?;
        for hash in self.list()? {
            if needed(hash) {
                collected.kept += 1;
                continue;
            }
            let path = self.path(hash);
            let _held = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
            let metadata = match path.metadata() {
                // Another collection was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(at(&path))?,
            };
            // One from the future counts as young.
            let age = now.duration_since(metadata.modified().map_err(at(&path))?);
            if age.is_ok_and(|age| age >= min_age) {
                fs::remove_file(&path).map_err(at(&path))?;
                collected.removed += 1;
                collected.removed_bytes += metadata.len();
            } else {
                collected.young += 1;
            }
        }
        Ok(collected)
    }

    /// Whether a file for this hash exists, which then counts as stored now: one that a result or a
    /// study is about to refer to must not be collected. Its contents are not checked.
    pub fn claim(&self, hash: ArtifactHash) -> bool {
        let _held = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        let file = File::options().write(true).open(self.path(hash));
        file.and_then(|file| file.set_modified(SystemTime::now())).is_ok()
    }

    /// Whether a file for this hash exists. Its contents are not checked.
    pub fn contains(&self, hash: ArtifactHash) -> bool {
        self.path(hash).is_file()
    }

    /// Makes the file at `from` durable and moves it to the place of the artifact `hash`.
    pub(super) fn place(
        &self,
        file: &File,
        from: &Path,
        hash: ArtifactHash,
    ) -> Result<(), ArtifactError> {
        file.sync_all().map_err(at(from))?;
        let (target, root) = (self.path(hash), &self.shared.root);
        let directory = target.parent().unwrap_or(root);
        fs::create_dir_all(directory).map_err(at(directory))?;
        let held = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        fs::rename(from, &target).map_err(at(&target))?;
        drop(held);
        sync_directory(directory).map_err(at(directory))?;
        sync_directory(root).map_err(at(root))
    }

    /// Where the file of an artifact is, if there is one.
    pub fn path(&self, hash: ArtifactHash) -> PathBuf {
        let name = hash.to_string();
        self.shared.root.join(&name[..2]).join(name)
    }
}

/// Whether the data directory `directory` has any artifact. What cannot be listed counts as none.
pub fn has_artifacts(directory: &Path) -> bool {
    let store = ArtifactStore::existing(directory.join("artifacts"));
    store.list().is_ok_and(|all| !all.is_empty())
}

/// An artifact that is being written. Dropping it before it is finished leaves nothing behind.
#[derive(Debug)]
pub struct ArtifactWriter {
    store: ArtifactStore,
    file: File,
    path: PathBuf,
    hasher: blake3::Hasher,
    size: u64,
}

impl ArtifactWriter {
    /// Appends the next piece.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), ArtifactError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).map_err(at(&self.path))
    }

    /// Moves the artifact to its final place durably, and returns its size in bytes. An existing
    /// file is replaced, which repairs a damaged one.
    ///
    /// # Errors
    /// If the bytes do not hash to `expected`, or cannot be made durable. Nothing is stored then.
    pub fn finish(self, expected: ArtifactHash) -> Result<u64, ArtifactError> {
        let found = ArtifactHash::from_bytes(*self.hasher.finalize().as_bytes());
        if found != expected {
            return Err(ArtifactError::Mismatch { expected, found });
        }
        self.store.place(&self.file, &self.path, expected)?;
        Ok(self.size)
    }
}

impl Drop for ArtifactWriter {
    fn drop(&mut self) {
        // After `finish` the file is already gone. If removing it fails, it is removed when the
        // store is opened next.
        let _ = fs::remove_file(&self.path);
    }
}

/// An artifact that is being read.
#[derive(Debug)]
pub struct ArtifactReader {
    hash: ArtifactHash,
    file: File,
    path: PathBuf,
    size: u64,
    hasher: blake3::Hasher,
}

impl ArtifactReader {
    /// Size of the whole artifact, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Goes on `offset` bytes from the beginning, which must not have been left yet. The bytes
    /// before are read, because the hash covers them. False if there are fewer.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn skip(&mut self, offset: u64) -> Result<bool, ArtifactError> {
        let mut buffer = vec![0; 1 << 16];
        let mut left = offset;
        while left > 0 {
            let most = left.min(buffer.len() as u64) as usize;
            let n = self.file.read(&mut buffer[..most]).map_err(at(&self.path))?;
            if n == 0 {
                return Ok(false);
            }
            self.hasher.update(&buffer[..n]);
            left -= n as u64;
        }
        Ok(true)
    }

    /// Reads the next piece into `buffer`, which must not be empty. Returns 0 at the end.
    ///
    /// # Errors
    /// If it cannot be read, or if at the end the hash of all bytes differs from the name.
    pub fn read_chunk(&mut self, buffer: &mut [u8]) -> Result<usize, ArtifactError> {
        let n = self.file.read(buffer).map_err(at(&self.path))?;
        self.hasher.update(&buffer[..n]);
        if n == 0 && self.hasher.finalize().as_bytes() != self.hash.as_bytes() {
            return Err(ArtifactError::Damaged { hash: self.hash, path: self.path.clone() });
        }
        Ok(n)
    }
}

/// The paths in a directory; none if it does not exist.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, ArtifactError> {
    let listing = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(at(directory))?,
    };
    listing.map(|entry| Ok(entry.map_err(at(directory))?.path())).collect()
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> ArtifactError + use<> {
    let path = path.to_owned();
    move |source| ArtifactError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ArtifactStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(dir.path().join("artifacts")).unwrap();
        (dir, store)
    }

    fn temporary_files(store: &ArtifactStore) -> usize {
        fs::read_dir(store.shared.root.join("tmp")).unwrap().count()
    }

    #[test]
    fn bytes_are_read_back_whole_and_in_pieces() {
        let (_dir, store) = store();
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        let hash = store.put(&bytes).unwrap();
        assert_eq!(hash, ArtifactHash::of(&bytes));
        assert!(store.contains(hash));
        assert_eq!(store.get(hash).unwrap(), bytes);
        let mut reader = store.reader(hash).unwrap();
        assert_eq!(reader.size(), bytes.len() as u64);
        let (mut read, mut buffer) = (Vec::new(), [0; 7919]);
        loop {
            match reader.read_chunk(&mut buffer).unwrap() {
                0 => break,
                n => read.extend_from_slice(&buffer[..n]),
            }
        }
        assert_eq!(read, bytes);
        assert_eq!(store.put(&bytes).unwrap(), hash);
        let empty = store.put(&[]).unwrap();
        assert_eq!(store.get(empty).unwrap(), Vec::<u8>::new());
        assert_eq!(temporary_files(&store), 0);
    }

    #[test]
    fn bytes_with_a_wrong_hash_are_rejected_and_leave_nothing() {
        let (_dir, store) = store();
        let expected = ArtifactHash::of(b"right");
        let mut writer = store.begin().unwrap();
        writer.chunk(b"wro").unwrap();
        writer.chunk(b"ng").unwrap();
        let refused = writer.finish(expected).unwrap_err();
        let found = ArtifactHash::of(b"wrong");
        assert!(
            matches!(refused, ArtifactError::Mismatch { expected: e, found: f } if e == expected && f == found)
        );
        assert!(!store.contains(expected) && !store.contains(found));
        drop(store.begin().unwrap());
        assert_eq!(temporary_files(&store), 0);
        assert!(matches!(store.get(expected), Err(ArtifactError::Missing(h)) if h == expected));
    }

    #[test]
    fn damage_is_detected_and_repaired_by_another_upload() {
        let (_dir, store) = store();
        let hash = store.put(b"some bytes").unwrap();
        fs::write(store.path(hash), b"some bites").unwrap();
        assert!(matches!(store.get(hash), Err(ArtifactError::Damaged { .. })));
        fs::write(store.path(hash), b"some").unwrap();
        assert!(matches!(store.get(hash), Err(ArtifactError::Damaged { .. })));
        store.put(b"some bytes").unwrap();
        assert_eq!(store.get(hash).unwrap(), b"some bytes");
    }

    #[test]
    fn artifacts_that_are_not_needed_go_when_they_are_old_enough() {
        let (_dir, store) = store();
        let hashes = [&b"kept"[..], b"gone", b"young"].map(|bytes| store.put(bytes).unwrap());
        let hour = Duration::from_secs(3600);
        let now = SystemTime::now() + 3 * hour;
        let young = File::options().write(true).open(store.path(hashes[2])).unwrap();
        young.set_modified(now).unwrap();
        let collected = store.collect(|hash| hash == hashes[0], hour, now).unwrap();
        assert_eq!(collected, Collected { removed: 1, removed_bytes: 4, young: 1, kept: 1 });
        assert_eq!(hashes.map(|hash| store.contains(hash)), [true, false, true]);
        assert_eq!(store.list().unwrap().len(), 2);
        // One that something is about to refer to is young again.
        young.set_modified(now - 2 * hour).unwrap();
        assert!(store.claim(hashes[2]) && !store.claim(hashes[1]));
        assert_eq!(store.collect(|_| false, hour, SystemTime::now()).unwrap().young, 2);
        // One that is stored again, too.
        young.set_modified(now - 2 * hour).unwrap();
        store.put(b"young").unwrap();
        let collected = store.collect(|_| false, hour, SystemTime::now()).unwrap();
        assert_eq!((collected.removed, collected.young), (0, 2));
    }

    #[test]
    fn reopening_removes_interrupted_uploads() {
        let (dir, store) = store();
        let kept = store.put(b"kept").unwrap();
        let mut writer = store.begin().unwrap();
        writer.chunk(b"half").unwrap();
        std::mem::forget(writer);
        assert_eq!(temporary_files(&store), 1);
        let again = ArtifactStore::open(dir.path().join("artifacts")).unwrap();
        assert_eq!(temporary_files(&again), 0);
        assert_eq!(again.get(kept).unwrap(), b"kept");
    }
}
