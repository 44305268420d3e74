//! The data directory, which one process at a time may use, and where that process is to be reached.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOCK_FILE: &str = "lock";
const ADDRESS_FILE: &str = "address";

/// Tries to get the lock, and the pause between them: whoever only asks after the holder has it for
/// a moment.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A data directory that is this process's until the value is dropped, or the process ends however it
/// may: the lock is the operating system's, so no stale one can stay behind.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Whether the address file is this process's.
    announced: bool,
    /// Holds the lock.
    _lock: File,
}

/// Who has a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process, where it can be told.
    pub pid: Option<u32>,
    /// Where its coordinator listens, where it says so.
    pub address: Option<String>,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error(
        "the data directory {path} is in use by another edgesmith process{}; stop that one or use \
         another directory",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse {
        /// Which directory.
        path: PathBuf,
        /// The other process, where it can be told.
        pid: Option<u32>,
    },
    /// It cannot be made or locked.
    #[error("cannot use the data directory {path}: {source}")]
    Io {
        /// Which directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl DataDir {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    /// When another process has it, or it cannot be made.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DataDirError> {
        let path = path.into();
        let in_path = |source| DataDirError::Io { path: path.clone(), source };
        fs::create_dir_all(&path).map_err(in_path)?;
        let lock_path = path.join(LOCK_FILE);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(lock_path);
        let mut lock = open.map_err(in_path)?;
        let mut tries = 1;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                    tries += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(DataDirError::InUse { path, pid: read_pid(&mut lock) });
                }
                Err(TryLockError::Error(source)) => return Err(in_path(source)),
            }
        }
        let write_pid = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        write_pid(&mut lock).map_err(in_path)?;
        // Of a process that was killed: from here on it would pass for this one's.
        match fs::remove_file(path.join(ADDRESS_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(in_path(error)),
            _ => Ok(Self { path, announced: false, _lock: lock }),
        }
    }

    /// Writes down where the coordinator of this directory listens, for whoever asks
    /// [`DataDir::holder`]. It is taken back before the lock is given up.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn announce(&mut self, address: &str) -> Result<(), DataDirError> {
        // Even of a file half written: nobody else's is there.
        self.announced = true;
        fs::write(self.path.join(ADDRESS_FILE), address)
            .map_err(|source| DataDirError::Io { path: self.path.clone(), source })
    }

    /// Who has the directory; `None` where nobody has, whatever a process that was killed left there.
    ///
    /// # Errors
    /// When the lock cannot be tried.
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
                let address = fs::read_to_string(path.join(ADDRESS_FILE)).ok();
                let address = address.map(|text| text.trim().to_owned());
                let address = address.filter(|address| !address.is_empty());
                Ok(Some(Holder { pid: read_pid(&mut lock), address }))
            }
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // The lock is still held, so it is not the next process's. Left behind, it is not believed.
        if self.announced {
            let _ = fs::remove_file(self.path.join(ADDRESS_FILE));
        }
    }
}

fn read_pid(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Makes the entries of a directory (files made, renamed or removed in it) durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    // Windows cannot open directories as files and makes renames durable by itself.
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_user_is_told_the_directory_and_the_process() {
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
    fn the_holder_is_known_while_it_holds_and_what_it_left_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        assert_eq!(DataDir::holder(path).unwrap(), None);
        // A process that was killed leaves its files, and another program may answer there by now.
        fs::write(path.join("lock"), "1\n").unwrap();
        fs::write(path.join("address"), "http://127.0.0.1:1").unwrap();
        assert_eq!(DataDir::holder(path).unwrap(), None);

        let mut held = DataDir::open(path).unwrap();
        let (pid, address) = (Some(std::process::id()), Some("http://127.0.0.1:2".to_owned()));
        held.announce("http://127.0.0.1:2").unwrap();
        assert_eq!(DataDir::holder(path).unwrap(), Some(Holder { pid, address }));
        drop(held);
        assert_eq!(DataDir::holder(path).unwrap(), None);
        assert!(!path.join("address").exists());
    }

    #[test]
    fn a_holder_that_does_not_say_where_it_listens_has_no_address() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("address"), "http://127.0.0.1:1").unwrap();
        let _held = DataDir::open(dir.path()).unwrap();
        let pid = Some(std::process::id());
        assert_eq!(DataDir::holder(dir.path()).unwrap(), Some(Holder { pid, address: None }));
    }

    #[test]
    fn a_file_in_the_way_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        let refused = DataDir::open(&path).unwrap_err().to_string();
        assert!(refused.contains(&path.display().to_string()), "{refused}");
    }
}
