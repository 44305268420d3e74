//! The data directory, which only one process at a time may use, and the address of that process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOCK_FILE: &str = "lock";
const ADDRESS_FILE: &str = "address";
/// There while something is copied to the directory.
const UNFINISHED_FILE: &str = "unfinished";

/// Number of attempts to take the lock, and the pause between them. Attempts repeat because a
/// process that only checks for a holder also takes the lock for a moment, and one that answers a
/// question for a little longer.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// The same while the holder has not said that it stays, by its address.
const SHORT_HOLDER_TRIES: u32 = 200;

/// A data directory that belongs to this process until the value is dropped or the process ends in
/// any way. The lock is the operating system's, so a dead process cannot leave one behind.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Whether this process wrote the address file.
    announced: bool,
    /// Whether it can only be read.
    read_only: bool,
    /// Holds the lock; `None` if there is none, in a directory that can only be read.
    lock: Option<File>,
}

/// The process that holds a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, if known.
    pub pid: Option<u32>,
    /// The address of its coordinator, if it has announced one.
    pub address: Option<String>,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process is using it.
    #[error(
        "the data directory {path} is in use by another edgesmith process{}; stop that one or use \
         another directory",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse {
        /// Path of the directory.
        path: PathBuf,
        /// The other process's id, if known.
        pid: Option<u32>,
    },
    /// A copy to it was not finished.
    #[error(
        "{path} is no data directory: it is what a backup or restore left that was not finished; \
         remove it, and copy to a new directory again"
    )]
    Unfinished {
        /// Path of the directory.
        path: PathBuf,
    },
    /// It cannot be created or locked.
    #[error("cannot use the data directory {path}: {source}")]
    Io {
        /// Path of the directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl DataDirError {
    /// Whether the directory is there, but this process may not write to it.
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::InUse { .. } | Self::Unfinished { .. } => false,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
            ),
        }
    }
}

impl DataDir {
    /// Creates the directory if it does not exist, and locks it.
    ///
    /// # Errors
    /// If another process is using it, or it cannot be created.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DataDirError> {
        let path = path.into();
        let in_path = |source| DataDirError::Io { path: path.clone(), source };
        check_finished(&path)?;
        fs::create_dir_all(&path).map_err(in_path)?;
        let lock_path = path.join(LOCK_FILE);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(lock_path);
        let mut lock = open.map_err(in_path)?;
        let mut tries = 1;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    lock.rewind().map_err(in_path)?;
                    let Holder { pid, address } = read_holder(&mut lock);
                    let most = if address.is_some() { LOCK_TRIES } else { SHORT_HOLDER_TRIES };
                    if tries >= most {
                        return Err(DataDirError::InUse { path, pid });
                    }
                    tries += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::Error(source)) => return Err(in_path(source)),
            }
        }
        write_holder(&mut lock, "").map_err(in_path)?;
        // The address file of a killed process. If it stayed, it would be taken for this process's
        // file.
        match fs::remove_file(path.join(ADDRESS_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(in_path(error)),
            _ => Ok(Self { path, announced: false, read_only: false, lock: Some(lock) }),
        }
    }

    /// Opens a directory that cannot be written, for example on a file system that is mounted
    /// read-only. If it has a lock, no process that writes holds it meanwhile.
    ///
    /// # Errors
    /// If another process is using it, or it cannot be read.
    pub fn open_read_only(path: impl Into<PathBuf>) -> Result<Self, DataDirError> {
        let path = path.into();
        let in_path = |source| DataDirError::Io { path: path.clone(), source };
        fs::read_dir(&path).map_err(in_path)?;
        check_finished(&path)?;
        let lock = match File::open(path.join(LOCK_FILE)) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(in_path(error)),
        };
        if let Some(mut held) = lock.as_ref() {
            match held.try_lock_shared() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(DataDirError::InUse { path, pid: read_holder(&mut held).pid });
                }
                Err(TryLockError::Error(source)) => return Err(in_path(source)),
            }
        }
        Ok(Self { path, announced: false, read_only: true, lock })
    }

    /// Whether the directory at its path is still the one that this process has locked. It may have
    /// been removed or moved, and another process may have one of its own there.
    pub fn is_held(&self) -> bool {
        let of = |found: fs::Metadata| (found.dev(), found.ino());
        let own = self.lock.as_ref().and_then(|lock| lock.metadata().ok()).map(of);
        own.is_some() && own == fs::metadata(self.path.join(LOCK_FILE)).ok().map(of)
    }

    /// Whether it can only be read.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Writes the address of this directory's coordinator to a file, for callers of
    /// [`DataDir::holder`]. The file is removed before the lock is released. The lock has it too,
    /// which takes no more room on a full disk.
    ///
    /// # Errors
    /// If neither can be written.
    pub fn announce(&mut self, address: &str) -> Result<(), DataDirError> {
        // Set before writing, so that even a half-written file is removed. No other process's file
        // is there.
        self.announced = true;
        let in_lock = match &mut self.lock {
            Some(lock) => write_holder(lock, address),
            None => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        };
        match (in_lock, fs::write(self.path.join(ADDRESS_FILE), address)) {
            (Err(source), Err(_)) => Err(DataDirError::Io { path: self.path.clone(), source }),
            (Ok(()), _) | (_, Ok(())) => Ok(()),
        }
    }

    /// The process that holds the directory; `None` if there is none, whatever files a killed
    /// process left there.
    ///
    /// # Errors
    /// If the lock cannot be tested.
    pub fn holder(path: &Path) -> Result<Option<Holder>, DataDirError> {
        let io = |source| DataDirError::Io { path: path.to_owned(), source };
        let mut lock = match File::open(path.join(LOCK_FILE)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => {
                let Holder { pid, address: in_lock } = read_holder(&mut lock);
                let address = fs::read_to_string(path.join(ADDRESS_FILE)).ok();
                let address = address.map(|text| text.trim().to_owned());
                let address = address.filter(|address| !address.is_empty()).or(in_lock);
                Ok(Some(Holder { pid, address }))
            }
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Says durably that `directory` is not whole yet. Until [`finish_copy`], nothing opens it.
///
/// # Errors
/// If that cannot be written.
pub fn begin_copy(directory: &Path) -> io::Result<()> {
    File::create_new(directory.join(UNFINISHED_FILE))?.sync_all()?;
    sync_directory(directory)
}

/// Says durably that `directory` is whole.
///
/// # Errors
/// If that cannot be written.
pub fn finish_copy(directory: &Path) -> io::Result<()> {
    fs::remove_file(directory.join(UNFINISHED_FILE))?;
    sync_directory(directory)
}

/// Refuses what a copy left that was not finished.
///
/// # Errors
/// [`DataDirError::Unfinished`].
pub fn check_finished(directory: &Path) -> Result<(), DataDirError> {
    match directory.join(UNFINISHED_FILE).exists() {
        true => Err(DataDirError::Unfinished { path: directory.to_owned() }),
        false => Ok(()),
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // The lock is still held, so the file is not the next process's. If removing it fails,
        // [`DataDir::holder`] ignores it.
        if self.announced {
            let _ = fs::remove_file(self.path.join(ADDRESS_FILE));
            let _ = self.lock.as_mut().map(|lock| write_holder(lock, ""));
        }
    }
}

/// Writes this process and its address to the lock, in one go and without giving back the room
/// that the file has: on a full disk it would not get it again.
fn write_holder(lock: &mut File, address: &str) -> io::Result<()> {
    let text = format!("{}\n{address}\n", std::process::id());
    let blank = (lock.metadata()?.len() as usize).saturating_sub(text.len());
    lock.rewind()?;
    lock.write_all((text.clone() + &" ".repeat(blank)).as_bytes())?;
    lock.set_len(text.len() as u64)
}

fn read_holder(lock: &mut impl Read) -> Holder {
    let mut text = String::new();
    // What cannot be read is not known.
    let _ = lock.read_to_string(&mut text);
    let mut lines = text.lines().map(str::trim);
    let pid = lines.next().and_then(|line| line.parse().ok());
    Holder { pid, address: lines.next().filter(|line| !line.is_empty()).map(str::to_owned) }
}

/// Makes the entries of a directory durable: files created, renamed or removed in it.
///
/// # Errors
/// If the operating system reports one.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_user_gets_the_directory_and_the_process_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = DataDir::open(&path).unwrap();
        let refused = DataDir::open(&path).unwrap_err().to_string();
        assert!(refused.contains(&path.display().to_string()), "{refused}");
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        assert_eq!(DataDir::open(&path).unwrap().path(), path);
    }

    #[test]
    fn a_start_waits_for_a_process_that_holds_the_directory_for_a_moment() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        let holder = std::thread::spawn(move || {
            // Longer than a start waits for one that has said that it stays.
            std::thread::sleep(2 * LOCK_TRIES * LOCK_PAUSE);
            drop(held);
        });
        DataDir::open(dir.path()).unwrap();
        holder.join().unwrap();
    }

    #[test]
    fn the_holder_is_known_while_it_lives_and_leftover_files_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        assert_eq!(DataDir::holder(path).unwrap(), None);
        // A killed process leaves its files behind, and another program may answer at that address
        // by now.
        fs::write(path.join("lock"), "1\n").unwrap();
        fs::write(path.join("address"), "http://127.0.0.1:1").unwrap();
        assert_eq!(DataDir::holder(path).unwrap(), None);

        let mut held = DataDir::open(path).unwrap();
        let (pid, address) = (Some(std::process::id()), Some("http://127.0.0.1:2".to_owned()));
        held.announce("http://127.0.0.1:2").unwrap();
        let holder = Some(Holder { pid, address });
        assert_eq!(DataDir::holder(path).unwrap(), holder);
        // As on a full disk, which has no room for another file.
        fs::write(path.join("address"), "").unwrap();
        assert_eq!(DataDir::holder(path).unwrap(), holder);
        drop(held);
        assert_eq!(DataDir::holder(path).unwrap(), None);
        assert!(!path.join("address").exists());
    }

    #[test]
    fn a_holder_that_announces_no_address_has_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("address"), "http://127.0.0.1:1").unwrap();
        let _held = DataDir::open(dir.path()).unwrap();
        let pid = Some(std::process::id());
        assert_eq!(DataDir::holder(dir.path()).unwrap(), Some(Holder { pid, address: None }));
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        let refused = DataDir::open(&path).unwrap_err().to_string();
        assert!(refused.contains(&path.display().to_string()), "{refused}");
    }
}
