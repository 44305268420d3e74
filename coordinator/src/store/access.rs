//! Files in `access/` of the data directory that decide who may do what. Only their owner can read
//! them.
//!
//! Beside a file `NAME`, `NAME.sum` has the BLAKE3 hashes of its bytes and of those before its last
//! change, a line each, so that damage to it is noticed, and its loss. It is written first, so a
//! crash between the two leaves a file whose hash is there. Before a file is written for the first
//! time, the line before its hash is `absent`, until the next start of a coordinator. Files of
//! earlier versions get their hashes then, too.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::directory::sync_directory;
use super::is_out_of_space;

const FOLDER: &str = "access";
const KEY_FILE: &str = "key";
pub(super) const TOKENS_FILE: &str = "tokens";
/// The certificate of the directory's own authority.
pub(crate) const AUTHORITY_FILE: &str = "authority.pem";
/// The authority's private key.
pub(crate) const AUTHORITY_KEY_FILE: &str = "authority-key.pem";
const SUM: &str = "sum";
/// In the place of the hash of a file that is not there.
const ABSENT: &str = "absent";
/// How often to read a file that may be changing.
const READ_TRIES: u32 = 20;

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
                format!("it has {} bytes and not 32; {}", bytes.len(), without(KEY_FILE)),
            )),
        }
    }

    /// The error for a file whose contents are wrong.
    pub(crate) fn damaged(&self, name: &str, problem: String) -> AccessError {
        AccessError::Damaged { path: self.folder.join(name), problem }
    }

    /// The bytes of a file; `None` if it does not exist.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, AccessError> {
        let bytes = self.read_unchecked(name)?;
        let sum_name = format!("{name}.{SUM}");
        let Some(sums) = self.read_unchecked(&sum_name)? else { return Ok(bytes) };
        let line = line_of(bytes.as_deref());
        if sums.split(|byte| *byte == b'\n').any(|sum| sum == line.as_bytes()) {
            return Ok(bytes);
        }
        let problem = match bytes {
            Some(_) => "its bytes do not have the checksum",
            None => "it is missing, but there is a checksum",
        };
        let (missing, follows) = (bytes.is_none(), without(name));
        let end = if missing {
            String::new()
        } else {
            format!("; if you have changed {name} yourself, remove only {sum_name}")
        };
        Err(self.damaged(
            name,
            format!(
                "{problem} in {sum_name}; restore both from a backup; without one, {follows}{end}"
            ),
        ))
    }

    /// Copies every file to `other`, which has none, with its hash. Returns their bytes together.
    ///
    /// # Errors
    /// If a file is damaged or cannot be read or written.
    pub fn copy_to(&self, other: &AccessFiles) -> Result<u64, AccessError> {
        let mut copied = 0;
        for name in self.names()? {
            let mut tries = 1;
            let bytes = loop {
                match self.read(&name) {
                    // It may be changing just now.
                    Err(AccessError::Damaged { .. }) if tries < READ_TRIES => tries += 1,
                    read => break read?,
                }
            };
            if let Some(bytes) = bytes {
                other
                    .replace(&format!("{name}.{SUM}"), (line_of(Some(&bytes)) + "\n").as_bytes())?;
                other.replace(&name, &bytes)?;
                copied += bytes.len() as u64;
            }
        }
        Ok(copied)
    }

    /// Checks every file: its bytes, and whether the key and the tokens can be read.
    ///
    /// # Errors
    /// If the folder cannot be read. The problem of each file that is damaged is in the list.
    pub fn check(&self) -> Result<Vec<AccessError>, AccessError> {
        Ok(self.names()?.iter().filter_map(|name| self.problem(name)).collect())
    }

    /// What is wrong with a file.
    fn problem(&self, name: &str) -> Option<AccessError> {
        match name {
            KEY_FILE => self.existing_key().err(),
            TOKENS_FILE => self.tokens().err(),
            name => self.read(name).err(),
        }
    }

    /// Adds the hashes of files that an earlier version wrote, and removes the line `absent` for
    /// files that are there. If there is no room for that, a later start does it.
    ///
    /// # Errors
    /// If the folder cannot be read or written, or a file is damaged.
    pub fn complete_sums(&self) -> Result<(), AccessError> {
        match self.complete_all_sums() {
            Err(AccessError::Io { source, .. }) if is_out_of_space(&source) => Ok(()),
            completed => completed,
        }
    }

    fn complete_all_sums(&self) -> Result<(), AccessError> {
        for name in self.names()? {
            let sum_name = format!("{name}.{SUM}");
            let sums = self.read_unchecked(&sum_name)?;
            // The next start would take it for damaged once it is mended by hand.
            if sums.is_none() && self.problem(&name).is_some() {
                continue;
            }
            let is_complete = sums.is_some_and(|sums| !sums.starts_with(ABSENT.as_bytes()));
            if !is_complete && let Some(bytes) = self.read(&name)? {
                self.replace(&sum_name, (line_of(Some(&bytes)) + "\n").as_bytes())?;
            }
        }
        Ok(())
    }

    /// The names of the files that are there, or that have hashes; without what a crash left.
    fn names(&self) -> Result<Vec<String>, AccessError> {
        let failed = |source| AccessError::Io { path: self.folder.clone(), source };
        let listing = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing.map_err(failed)?,
        };
        let mut names = Vec::new();
        for file in listing {
            let path = file.map_err(failed)?.path();
            let kind = path.extension().and_then(|kind| kind.to_str());
            if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && kind != Some("new")
            {
                names.push(name.strip_suffix(".sum").unwrap_or(name).to_owned());
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn read_unchecked(&self, name: &str) -> Result<Option<Vec<u8>>, AccessError> {
        let path = self.folder.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(AccessError::Io { path, source }),
        }
    }

    /// Replaces a file. After a crash, it has either the old bytes or the new ones.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), AccessError> {
        let before = self.read_unchecked(name)?;
        let sums = format!("{}\n{}\n", line_of(before.as_deref()), line_of(Some(bytes)));
        self.replace(&format!("{name}.{SUM}"), sums.as_bytes())?;
        self.replace(name, bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), AccessError> {
        let (path, fresh) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        let replace = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
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
        replace().map_err(|source| {
            // What was written of it, if there was no room for the rest. The file stays as it was.
            let _ = fs::remove_file(&fresh);
            AccessError::Io { path: path.clone(), source }
        })
    }
}

/// How to go on without a file, and what that costs.
fn without(name: &str) -> &'static str {
    match name {
        KEY_FILE => {
            "remove key and key.sum there: a new key is made, and workers join again and start \
             their tasks over"
        }
        TOKENS_FILE => {
            "remove tokens and tokens.sum there, and make new tokens before the coordinator starts: \
             without any, whoever reaches it may do everything"
        }
        AUTHORITY_FILE | AUTHORITY_KEY_FILE => {
            "remove authority.pem, authority-key.pem and their checksums there: a new authority is \
             made, and tokens have to be made again, because they name the old one"
        }
        _ => "remove both",
    }
}

/// The line of a file with these bytes among its hashes.
fn line_of(bytes: Option<&[u8]>) -> String {
    bytes.map_or(ABSENT.to_owned(), |bytes| blake3::hash(bytes).to_hex().to_string())
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
    fn changed_bytes_are_noticed_and_a_crash_in_a_change_is_not_taken_for_damage() {
        let dir = tempfile::tempdir().unwrap();
        let files = AccessFiles::new(dir.path());
        files.write("list", b"one").unwrap();
        files.write("list", b"two").unwrap();
        assert_eq!(files.read("list").unwrap().unwrap(), b"two");
        // As if the last change had stopped after the hashes.
        fs::write(dir.path().join("access/list"), b"one").unwrap();
        assert_eq!(files.read("list").unwrap().unwrap(), b"one");
        for (name, bytes) in [("list", "oni"), ("list", ""), ("list.sum", "0"), ("list.sum", "")] {
            files.write("list", b"one").unwrap();
            fs::write(dir.path().join("access").join(name), bytes).unwrap();
            let refused = files.read("list").unwrap_err().to_string();
            assert!(refused.contains("access/list is damaged: its bytes"), "{refused}");
            assert_eq!(files.check().unwrap().len(), 1);
        }
        files.write("list", b"one").unwrap();

        // Without its checksum, as an earlier version left it, a file still has to make sense.
        for name in [KEY_FILE, TOKENS_FILE] {
            fs::write(dir.path().join("access").join(name), "nonsense").unwrap();
            let [problem] = &files.check().unwrap()[..] else { panic!("{name}") };
            assert!(problem.to_string().contains(&format!("access/{name}")), "{problem}");
            fs::remove_file(dir.path().join("access").join(name)).unwrap();
        }
    }

    #[test]
    fn a_lost_file_is_noticed_and_a_crash_before_the_first_write_is_not_taken_for_a_loss() {
        let dir = tempfile::tempdir().unwrap();
        let files = AccessFiles::new(dir.path());
        files.write("list", b"one").unwrap();
        // As if the first write had stopped after the hashes.
        let path = dir.path().join("access/list");
        fs::remove_file(&path).unwrap();
        assert_eq!(files.read("list").unwrap(), None);
        files.write("list", b"one").unwrap();
        files.complete_sums().unwrap();
        fs::remove_file(&path).unwrap();
        let refused = files.read("list").unwrap_err().to_string();
        assert!(refused.contains("it is missing, but there is a checksum"), "{refused}");
        assert_eq!(files.check().unwrap().len(), 1);
    }

    #[test]
    fn files_of_earlier_versions_get_hashes() {
        let dir = tempfile::tempdir().unwrap();
        let files = AccessFiles::new(dir.path());
        files.complete_sums().unwrap();
        assert!(!dir.path().join("access").exists());
        fs::create_dir(dir.path().join("access")).unwrap();
        fs::write(dir.path().join("access/list"), b"one").unwrap();
        files.complete_sums().unwrap();
        assert!(files.check().unwrap().is_empty());
        fs::write(dir.path().join("access/list"), b"onf").unwrap();
        files.complete_sums().unwrap();
        assert!(files.read("list").is_err());
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = AccessFiles::new(dir.path());
        fs::create_dir(dir.path().join("access")).unwrap();
        fs::write(dir.path().join("access/key"), "short").unwrap();
        let refused = files.key().err().unwrap().to_string();
        assert!(refused.contains("access/key") && refused.contains("5 bytes"), "{refused}");
    }
}
