//! Files in `access/` of the data directory that decide who may do what. Only their owner can read
//! them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::directory::sync_directory;

const FOLDER: &str = "access";
const KEY_FILE: &str = "key";

/// A secret key of the data directory.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// The key's code of `message`, which cannot be made without the key.
    pub fn derive(&self, message: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, message)
    }
}

impl From<[u8; 32]> for Key {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Why a file in `access/` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// It cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Its contents are not what this program wrote.
    #[error("{path} is damaged: {problem}")]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong, and how to mend it.
        problem: String,
    },
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    Random,
}

/// The folder `access/` of a data directory.
#[derive(Debug, Clone)]
pub struct AccessFiles {
    folder: PathBuf,
}

impl AccessFiles {
    /// The folder in `data_dir`. It is created with the first file.
    pub fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join(FOLDER) }
    }

    /// The directory's key. It is made at the first call.
    ///
    /// # Errors
    /// If the key cannot be read or stored.
    pub fn key(&self) -> Result<Key, AccessError> {
        if let Some(key) = self.existing_key()? {
            return Ok(key);
        }
        let bytes = random()?;
        self.write(KEY_FILE, &bytes)?;
        Ok(Key(bytes))
    }

    /// The directory's key; `None` if it has none.
    ///
    /// # Errors
    /// If the key cannot be read.
    pub fn existing_key(&self) -> Result<Option<Key>, AccessError> {
        let Some(bytes) = self.read(KEY_FILE)? else { return Ok(None) };
        match bytes.try_into() {
            Ok(key) => Ok(Some(Key(key))),
            Err(bytes) => Err(self.damaged(
                KEY_FILE,
                format!(
                    "it has {} bytes and not 32; remove it: workers then join again and start \
                     their tasks over",
                    bytes.len()
                ),
            )),
        }
    }

    /// The error for a file whose contents are wrong.
    pub(crate) fn damaged(&self, name: &str, problem: String) -> AccessError {
        AccessError::Damaged { path: self.folder.join(name), problem }
    }

    /// The bytes of a file; `None` if it does not exist.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, AccessError> {
        let path = self.folder.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(AccessError::Io { path, source }),
        }
    }

    /// Replaces a file. After a crash, it has either the old bytes or the new ones.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), AccessError> {
        let path = self.folder.join(name);
        let replace = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            let fresh = self.folder.join(format!("{name}.new"));
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            sync_directory(&self.folder)
        };
        replace().map_err(|source| AccessError::Io { path: path.clone(), source })
    }
}

/// Random bytes that nobody can guess.
///
/// # Errors
/// If the operating system gives none.
pub fn random<const N: usize>() -> Result<[u8; N], AccessError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AccessError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_keeps_its_key_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = AccessFiles::new(dir.path());
        let key = files.key().unwrap();
        assert_eq!(key.0, AccessFiles::new(dir.path()).key().unwrap().0);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(key.0, AccessFiles::new(other.path()).key().unwrap().0);
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("access") & 0o777, 0o700);
        assert_eq!(mode("access/key") & 0o777, 0o600);
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = AccessFiles::new(dir.path());
        files.key().unwrap();
        fs::write(dir.path().join("access/key"), "short").unwrap();
        let refused = files.key().err().unwrap().to_string();
        assert!(refused.contains("access/key") && refused.contains("5 bytes"), "{refused}");
    }
}
