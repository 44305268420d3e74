//! How much room a file system has. Decides nothing.

use std::io;
use std::path::Path;

/// The room of a file system, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What this process may still write.
    pub free: u64,
    /// The size of the whole file system.
    pub total: u64,
}

/// The room of the file system that holds `path`.
///
/// # Errors
/// If the system does not say it, for example because `path` does not exist.
pub fn room(path: &Path) -> io::Result<Room> {
    let found = rustix::fs::statvfs(path)?;
    // Root may use blocks that others may not; a coordinator need not be root later.
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    Ok(Room { free, total: found.f_blocks.saturating_mul(found.f_frsize) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_room_and_a_missing_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let found = room(dir.path()).unwrap();
        assert!(found.total > 0 && found.free <= found.total, "{found:?}");
        assert!(room(&dir.path().join("missing")).is_err());
    }
}
