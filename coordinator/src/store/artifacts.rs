//! Artifacts as files named by their hash, whole or not there at all.
//!
//! A file is written beside its place, hashed on the way, synced and then renamed, so that a crash
//! leaves either nothing or the right bytes; what is read is hashed again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use edgesmith_common::ArtifactHash;

use super::directory::sync_directory;

/// The artifacts of one data directory. Clones are the same store; it may be used from many threads.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// Names temporary files.
    next: AtomicU64,
}

/// Why an artifact could not be kept or given.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// There is none of that hash.
    #[error("there is no artifact {0}")]
    Missing(ArtifactHash),
    /// The bytes that came are not those that were announced.
    #[error("artifact {expected} came with bytes that hash to {found}; send it again")]
    Mismatch {
        /// As announced.
        expected: ArtifactHash,
        /// As came.
        found: ArtifactHash,
    },
    /// The file was changed or damaged since it was written.
    #[error(
        "the file {path} of artifact {hash} is damaged; remove it and upload the artifact again"
    )]
    Damaged {
        /// As asked.
        hash: ArtifactHash,
        /// Where it is.
        path: PathBuf,
    },
    /// The file system.
    #[error("cannot access {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl ArtifactStore {
    /// Opens or makes the store in `root`, and removes what interrupted uploads left. The caller
    /// makes sure that no other process uses it: see [`DataDir`](super::DataDir).
    ///
    /// # Errors
    /// When the directory cannot be made or cleaned.
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
        Ok(Self { shared: Arc::new(Shared { root, next: AtomicU64::new(0) }) })
    }

    /// Begins to write an artifact whose bytes come in pieces.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn begin(&self) -> Result<ArtifactWriter, ArtifactError> {
        let name = self.shared.next.fetch_add(1, Ordering::Relaxed).to_string();
        let path = self.shared.root.join("tmp").join(name);
        let open = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = open.map_err(at(&path))?;
        let store = self.clone();
        Ok(ArtifactWriter { store, file, path, hasher: blake3::Hasher::new(), size: 0 })
    }

    /// Keeps `bytes`; harmless where they are there already.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<ArtifactHash, ArtifactError> {
        let hash = ArtifactHash::of(bytes);
        let mut writer = self.begin()?;
        writer.chunk(bytes)?;
        writer.finish(hash)?;
        Ok(hash)
    }

    /// The whole artifact, checked.
    ///
    /// # Errors
    /// When it is missing, damaged or cannot be read.
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

    /// Begins to read an artifact in pieces.
    ///
    /// # Errors
    /// When it is missing or cannot be opened.
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

    /// Whether there is a file of that hash; it is not read.
    pub fn contains(&self, hash: ArtifactHash) -> bool {
        self.path(hash).is_file()
    }

    /// Where the artifact is, or would be.
    fn path(&self, hash: ArtifactHash) -> PathBuf {
        let name = hash.to_string();
        self.shared.root.join(&name[..2]).join(name)
    }
}

/// An artifact that is being written. Dropping it unfinished leaves nothing.
#[derive(Debug)]
pub struct ArtifactWriter {
    store: ArtifactStore,
    file: File,
    path: PathBuf,
    hasher: blake3::Hasher,
    size: u64,
}

impl ArtifactWriter {
    /// Adds the next piece.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), ArtifactError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).map_err(at(&self.path))
    }

    /// Puts the artifact in its place, durably. Where it is there already it is written anew, which
    /// mends a damaged file. Returns its size.
    ///
    /// # Errors
    /// When the bytes do not hash to `expected`, or cannot be made durable; nothing is kept then.
    pub fn finish(self, expected: ArtifactHash) -> Result<u64, ArtifactError> {
        let found = ArtifactHash::from_bytes(*self.hasher.finalize().as_bytes());
        if found != expected {
            return Err(ArtifactError::Mismatch { expected, found });
        }
        self.file.sync_all().map_err(at(&self.path))?;
        let target = self.store.path(expected);
        let root = &self.store.shared.root;
        let directory = target.parent().unwrap_or(root);
        fs::create_dir_all(directory).map_err(at(directory))?;
        fs::rename(&self.path, &target).map_err(at(&target))?;
        sync_directory(directory).map_err(at(directory))?;
        sync_directory(root).map_err(at(root))?;
        Ok(self.size)
    }
}

impl Drop for ArtifactWriter {
    fn drop(&mut self) {
        // After `finish` it is gone already; else a leftover is removed when the store is opened.
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
    /// Size of the whole, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the next piece into `buffer`, which must not be empty; 0 at the end.
    ///
    /// # Errors
    /// When it cannot be read, or at the end when the whole was not what its name says.
    pub fn read_chunk(&mut self, buffer: &mut [u8]) -> Result<usize, ArtifactError> {
        let n = self.file.read(buffer).map_err(at(&self.path))?;
        self.hasher.update(&buffer[..n]);
        if n == 0 && self.hasher.finalize().as_bytes() != self.hash.as_bytes() {
            return Err(ArtifactError::Damaged { hash: self.hash, path: self.path.clone() });
        }
        Ok(n)
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ArtifactError + use<> {
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
    fn bytes_come_back_whole_and_in_pieces() {
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
    fn wrong_bytes_are_refused_and_leave_nothing() {
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
    fn damage_is_noticed_and_mended_by_another_upload() {
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
    fn opening_again_removes_what_interrupted_uploads_left() {
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
