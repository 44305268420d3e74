//! Reads data files, gzipped or plain, which is detected from the content. Memory use depends on
//! the data that are present, not on the size that a header announces.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::DataError;

/// Largest size of the images of one file or folder, bytes.
pub(super) const MAX_BYTES: u64 = 4 << 30;

/// An open data file, decompressed if it is gzipped.
pub(super) struct Input {
    path: PathBuf,
    gzipped: bool,
    reader: Box<dyn Read>,
    /// Bytes read so far.
    position: u64,
}

impl Input {
    /// Opens the file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |source| read_error(path, source);
        let mut file = File::open(path).map_err(failed)?;
        let mut start = Vec::new();
        file.by_ref().take(2).read_to_end(&mut start).map_err(failed)?;
        let gzipped = start == [0x1f, 0x8b];
        let whole = BufReader::new(io::Cursor::new(start).chain(file));
        let reader: Box<dyn Read> =
            if gzipped { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
        Ok(Self { path: path.to_owned(), gzipped, reader, position: 0 })
    }

    /// Reads the next `count` bytes. Memory grows with the bytes that are present, not with
    /// `count`.
    pub(super) fn take(&mut self, count: u64) -> Result<Vec<u8>, DataError> {
        let bytes = self.up_to(count)?;
        if (bytes.len() as u64) < count {
            let expected = self.position - bytes.len() as u64 + count;
            return Err(DataError::Truncated { path: self.path.clone(), expected });
        }
        Ok(bytes)
    }

    /// Reads the next four bytes as a big-endian number.
    pub(super) fn take_u32(&mut self) -> Result<u32, DataError> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    /// Reads all remaining bytes; at most [`MAX_BYTES`].
    pub(super) fn take_rest(&mut self) -> Result<Vec<u8>, DataError> {
        let bytes = self.up_to(MAX_BYTES + 1)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(DataError::TooLarge {
                path: self.path.clone(),
                announced: bytes.len() as u64,
                limit: MAX_BYTES,
            });
        }
        Ok(bytes)
    }

    /// Checks that nothing is left, and for a gzipped file that its checksum is right.
    pub(super) fn end(mut self) -> Result<(), DataError> {
        let expected = self.position;
        if self.up_to(1)?.is_empty() {
            Ok(())
        } else {
            Err(DataError::TrailingBytes { path: self.path, expected })
        }
    }

    fn up_to(&mut self, count: u64) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        match self.reader.by_ref().take(count).read_to_end(&mut bytes) {
            Ok(_) => {
                self.position += bytes.len() as u64;
                Ok(bytes)
            }
            Err(source) if self.gzipped => Err(DataError::Gzip { path: self.path.clone(), source }),
            Err(source) => Err(read_error(&self.path, source)),
        }
    }
}

/// Reads all bytes of a file, decompressed if it is gzipped.
///
/// # Errors
/// If the file cannot be read, is damaged, or is too large.
pub fn read_decompressed(path: &Path) -> Result<Vec<u8>, DataError> {
    Input::open(path)?.take_rest()
}

/// The error for a path that the operating system cannot open or read.
pub(super) fn read_error(path: &Path, source: io::Error) -> DataError {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::NotFound => DataError::Missing { path },
        _ => DataError::Read { path, source },
    }
}

/// Checks that every label is a class.
pub(super) fn check_labels(path: &Path, labels: &[u16], classes: u32) -> Result<(), DataError> {
    match labels.iter().position(|&label| u32::from(label) >= classes) {
        None => Ok(()),
        Some(index) => {
            let path = path.to_owned();
            Err(DataError::Label { path, index, label: labels[index], classes })
        }
    }
}

/// Gzips bytes, for tests of the readers.
#[cfg(test)]
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        (directory, path)
    }

    #[test]
    fn plain_and_gzipped_files_read_the_same() {
        let content = [0, 0, 1, 2, 7, 8, 9];
        for bytes in [content.to_vec(), gzip(&content)] {
            let (_directory, path) = written(&bytes);
            let mut input = Input::open(&path).unwrap();
            assert_eq!(input.take_u32().unwrap(), 258);
            assert_eq!(input.take(3).unwrap(), [7, 8, 9]);
            input.end().unwrap();
        }
    }

    #[test]
    fn concatenated_gzip_members_are_one_file() {
        let (_directory, path) = written(&[gzip(&[1, 2]), gzip(&[3])].concat());
        assert_eq!(Input::open(&path).unwrap().take_rest().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn short_long_and_empty_files_are_errors() {
        let (_directory, path) = written(&[1, 2, 3]);
        let error = Input::open(&path).unwrap().take(u64::MAX).unwrap_err();
        assert!(matches!(error, DataError::Truncated { expected: u64::MAX, .. }), "{error}");
        let mut input = Input::open(&path).unwrap();
        input.take(2).unwrap();
        let error = input.end().unwrap_err();
        assert!(matches!(error, DataError::TrailingBytes { expected: 2, .. }), "{error}");

        let (_directory, path) = written(&[]);
        let error = Input::open(&path).unwrap().take_u32().unwrap_err();
        assert!(matches!(error, DataError::Truncated { expected: 4, .. }), "{error}");
    }

    #[test]
    fn damaged_gzip_files_are_errors() {
        let whole = gzip(&[5; 1000]);
        let (_directory, cut) = written(&whole[..whole.len() / 2]);
        let error = Input::open(&cut).unwrap().take_rest().unwrap_err();
        assert!(matches!(error, DataError::Gzip { .. }), "{error}");

        let mut wrong_checksum = whole.clone();
        let at = whole.len() - 8;
        wrong_checksum[at] ^= 1;
        let (_directory, path) = written(&wrong_checksum);
        let mut input = Input::open(&path).unwrap();
        input.take(1000).unwrap();
        let error = input.end().unwrap_err();
        assert!(matches!(error, DataError::Gzip { .. }), "{error}");
    }

    #[test]
    fn a_missing_file_and_a_directory_are_different_errors() {
        let directory = tempfile::tempdir().unwrap();
        let error = Input::open(&directory.path().join("absent")).err().unwrap();
        assert!(matches!(error, DataError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("absent"), "{error}");
        let error = Input::open(directory.path()).err().unwrap();
        assert!(matches!(error, DataError::Read { .. }), "{error}");
    }
}
