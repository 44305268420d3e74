//! Opens and reads the files that users name: data, tables, weights, study files, imports.
//!
//! Only regular files are opened, and only up to a limit of the caller, so that a pipe or a device
//! neither blocks the program nor fills its memory. What the bytes mean is up to the caller.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Why a file cannot be read. Each message names the file, and is written to follow "failed to read
/// …: ".
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The path does not exist.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The operating system reported an error.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The path leads to something that is not a regular file.
    #[error("{} is {what}, not a regular file: name a file, or copy the content to one",
        path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// The file is larger than the caller reads.
    #[error("{} has more than {} MiB, the most that is read of such a file", path.display(),
        limit >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Largest size that is read, bytes.
        limit: u64,
    },
    /// The file is text in another encoding.
    #[error("{} is {encoding} text: save it as UTF-8", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The encoding's name.
        encoding: &'static str,
    },
    /// The file is compressed.
    #[error("{} is gzipped: unpack it first", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
    },
    /// The file is not text, or text in an unknown encoding.
    #[error("{} is not UTF-8 text (byte {byte}, in line {line}, does not belong in it): save it as \
         UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Position of the first wrong byte, from 0.
        byte: usize,
        /// Its line, from 1.
        line: usize,
    },
}

/// Opens a regular file. Links are followed.
///
/// # Errors
/// If it does not exist, is not a regular file, or may not be read.
pub fn open(path: &Path) -> Result<(File, Metadata), FileError> {
    let failed = |source: io::Error| {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::NotFound => FileError::Missing { path },
            _ => FileError::Read { path, source },
        }
    };
    // Opening a pipe blocks, so look first.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if let Some(what) = other_than_file(&metadata) {
        return Err(FileError::NotAFile { path: path.to_owned(), what });
    }
    Ok((File::open(path).map_err(failed)?, metadata))
}

/// Reads all bytes of a regular file that has at most `limit` of them.
///
/// # Errors
/// As [`open`], or if the file is larger than `limit`.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let (file, metadata) = open(path)?;
    let too_large = || FileError::TooLarge { path: path.to_owned(), limit };
    if metadata.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // The file may grow while it is read, and files that the system makes up say that they are
    // empty.
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

/// Reads a regular file of UTF-8 text that has at most `limit` bytes. A byte-order mark is left
/// out.
///
/// # Errors
/// As [`read`], or if the content is not UTF-8 text.
pub fn read_text(path: &Path, limit: u64) -> Result<String, FileError> {
    text_of(read(path, limit)?, path)
}

/// Reads text as [`read_text`] does, but from a stream, such as standard input. `name` is what
/// errors call it.
///
/// # Errors
/// If it cannot be read, has more than `limit` bytes, or is not UTF-8 text.
pub fn read_text_from(stream: impl Read, name: &Path, limit: u64) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    let read = stream.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| FileError::Read { path: name.to_owned(), source })?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: name.to_owned(), limit });
    }
    text_of(bytes, name)
}

/// The text of a file's bytes.
fn text_of(mut bytes: Vec<u8>, path: &Path) -> Result<String, FileError> {
    let encoding = match *bytes.as_slice() {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        // Text of the programs that read this begins with a plain letter or sign.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [1..=255, 0, ..] | [0, 1..=255, ..] => Some("UTF-16"),
        _ => None,
    };
    if let Some(encoding) = encoding {
        return Err(FileError::Encoding { path: path.to_owned(), encoding });
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(FileError::Compressed { path: path.to_owned() });
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..byte];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        FileError::NotText { path: path.to_owned(), byte, line }
    })
}

/// The mark that some programs put before UTF-8 text.
pub const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// What a path leads to if it is not a regular file, with its article.
pub fn other_than_file(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return None;
    }
    if kind.is_dir() {
        return Some("a directory");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
    }
    Some("a device")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file with these bytes, and the directory that it is removed with.
    pub(crate) fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        (directory, path)
    }

    #[test]
    fn a_file_is_read_up_to_the_limit() {
        let (_directory, path) = written(&[1, 2, 3]);
        assert_eq!(read(&path, 3).unwrap(), [1, 2, 3]);
        let error = read(&path, 2).unwrap_err();
        assert!(matches!(error, FileError::TooLarge { limit: 2, .. }), "{error}");
        let error = read(&path.with_file_name("absent"), 2).unwrap_err();
        assert!(matches!(error, FileError::Missing { .. }), "{error}");
    }

    #[test]
    fn text_of_a_stream_is_checked_like_a_file() {
        let read = |bytes: &[u8]| {
            let text = read_text_from(bytes, Path::new("standard input"), 5);
            text.map_err(|error| error.to_string())
        };
        assert_eq!(read(b"\xef\xbb\xbfab").unwrap(), "ab");
        assert!(read(b"abcdef").unwrap_err().starts_with("standard input has more than"));
        let wrong = read(b"a\xff").unwrap_err();
        assert!(wrong.starts_with("standard input is not UTF-8 text"), "{wrong}");
    }

    #[cfg(unix)]
    #[test]
    fn devices_pipes_sockets_and_directories_are_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (path, said) in [
            (at("zero"), "zero is a device"),
            (at("pipe"), "pipe is a pipe"),
            (at("socket"), "socket is a socket"),
            (directory.path().to_owned(), "is a directory"),
        ] {
            let error = read(&path, 9).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn text_is_utf8_with_or_without_a_byte_order_mark() {
        let read = |bytes: &[u8]| {
            let (_directory, path) = written(bytes);
            read_text(&path, 100).map_err(|error| error.to_string())
        };
        assert_eq!(read("ä\n".as_bytes()).unwrap(), "ä\n");
        assert_eq!(read("\u{feff}ä".as_bytes()).unwrap(), "ä");
        assert_eq!(read(b"").unwrap(), "");
        for (bytes, said) in [
            (&b"\xff\xfea\0"[..], "UTF-16 text: save it as UTF-8"),
            (b"\xfe\xff\0a", "UTF-16"),
            (b"a\0b\0", "UTF-16"),
            (b"\xff\xfe\0\0a\0\0\0", "UTF-32"),
            (b"\x1f\x8b\x08", "gzipped: unpack it"),
            (b"a\nb\xe4", "byte 3, in line 2"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
