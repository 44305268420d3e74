//! Reads data files, gzipped or plain, which is detected from the content. Memory use depends on
//! the data that are present, not on the size that a header announces.

use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::DataError;
use crate::files;

/// Largest size of the images of one file or folder, bytes.
pub(super) const MAX_BYTES: u64 = 4 << 30;
/// Most times that a file may be gzipped. Twice happens when a browser keeps the compression of a
/// transfer.
const MAX_LAYERS: usize = 3;
/// The first bytes of a gzipped file.
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// An open data file, decompressed if it is gzipped, also if it is gzipped more than once.
pub(super) struct Input {
    path: PathBuf,
    gzipped: bool,
    reader: Box<dyn Read>,
    /// Bytes read so far.
    position: u64,
    /// Size of the content, bytes; `None` if it is gzipped.
    size: Option<u64>,
}

impl Input {
    /// Opens the file at `path`, which must be a regular file.
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let (file, metadata) = files::open(path)?;
        let (reader, gzipped) = (Box::new(BufReader::new(file)), false);
        let mut input = Self { path: path.to_owned(), gzipped, reader, position: 0, size: None };
        for layer in 0.. {
            let start = input.up_to(2)?;
            input.position = 0;
            let compressed = start == GZIP && layer < MAX_LAYERS;
            let whole = io::Cursor::new(start).chain(input.reader);
            input.gzipped |= compressed;
            if !compressed {
                input.reader = Box::new(whole);
                break;
            }
            input.reader = Box::new(MultiGzDecoder::new(BufReader::new(whole)));
        }
        // Files that the system makes up say that they are empty.
        input.size = Some(metadata.len()).filter(|&size| size > 0 && !input.gzipped);
        Ok(input)
    }

    /// Checks that a file whose size is known has `count` bytes left, before they are read.
    pub(super) fn expect(&self, count: u64) -> Result<(), DataError> {
        let (expected, path) = (self.position.saturating_add(count), || self.path.clone());
        match self.size {
            Some(size) if size < expected => Err(DataError::Truncated { path: path(), expected }),
            Some(size) if size > expected => {
                Err(DataError::TrailingBytes { path: path(), expected })
            }
            _ => Ok(()),
        }
    }

    /// Reads the next `count` bytes. Memory grows with the bytes that are present, not with
    /// `count`.
    pub(super) fn take(&mut self, count: u64) -> Result<Vec<u8>, DataError> {
        let bytes = self.up_to(count)?;
        if (bytes.len() as u64) < count {
            let expected = (self.position - bytes.len() as u64).saturating_add(count);
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
    let mut wrong = labels.iter().enumerate().filter(|(_, label)| u32::from(**label) >= classes);
    match wrong.next() {
        None => Ok(()),
        Some((index, &label)) => {
            let (path, more) = (path.to_owned(), wrong.count());
            Err(DataError::Label { path, index, label, more, classes })
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
    use crate::files::tests::written;

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
    fn a_file_may_be_gzipped_more_than_once() {
        let content = [7; 5000];
        let twice = gzip(&gzip(&content));
        let (_directory, path) = written(&twice);
        let mut input = Input::open(&path).unwrap();
        assert_eq!(input.take(5000).unwrap(), content);
        input.end().unwrap();
        let (_directory, cut) = written(&twice[..twice.len() - 9]);
        let error = Input::open(&cut).and_then(|mut input| input.take_rest()).unwrap_err();
        assert!(matches!(error, DataError::Gzip { .. }), "{error}");
        // A file that unpacks to itself must not be unpacked for ever.
        let often = (0..9).fold(content.to_vec(), |bytes, _| gzip(&bytes));
        let (_directory, path) = written(&often);
        assert_eq!(Input::open(&path).unwrap().take(2).unwrap(), GZIP);
    }

    #[test]
    fn the_size_of_a_plain_file_is_known_before_it_is_read() {
        let (_directory, path) = written(&[1, 2, 3]);
        let input = Input::open(&path).unwrap();
        input.expect(3).unwrap();
        let error = input.expect(u64::MAX).unwrap_err();
        assert!(matches!(error, DataError::Truncated { expected: u64::MAX, .. }), "{error}");
        let error = input.expect(2).unwrap_err();
        assert!(matches!(error, DataError::TrailingBytes { expected: 2, .. }), "{error}");
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
        let error = Input::open(&cut).and_then(|mut input| input.take_rest()).unwrap_err();
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
        assert!(matches!(error, DataError::NotAFile { what: "a directory", .. }), "{error}");
    }
}
