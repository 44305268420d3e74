//! The bytes of a journal file: a header, and then one entry an append, each with a checksum that
//! covers everything before it. [`Scanner`] reads them and stops at the first flaw. Opens no files.
//!
//! A file begins with a header of [`HEADER_BYTES`]: `edgejrnl`, the version of this layout (u32),
//! 4 bytes that are 0, the generation (u64), 24 bytes that are 0, and the first
//! [`CHECKSUM_BYTES`] of the BLAKE3 hash of all that. The chain begins with the BLAKE3 hash of the
//! whole header.
//!
//! An entry is the length of its payload (u32), the number of its records (u32), the layout of the
//! payload (u32; [`format`](super::super::format) describes it), the payload, and a checksum. With
//! an entry, the chain becomes the BLAKE3 hash of the chain before it and of the entry's bytes
//! without the checksum. The checksum is the first [`CHECKSUM_BYTES`] of the new chain. So a
//! changed, missing, repeated or moved entry makes its own checksum wrong and all later ones.
//!
//! Numbers are little-endian.

use std::io::{self, Read};

/// Size of a file's header, bytes.
pub const HEADER_BYTES: u64 = 64;
/// Size of a checksum, bytes.
pub const CHECKSUM_BYTES: usize = 16;
/// The version of the layout that this program writes.
pub const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"edgejrnl";
/// The part of the header that its checksum covers.
const HEADER_COVERED: usize = HEADER_BYTES as usize - CHECKSUM_BYTES;
/// Size of an entry before its payload, bytes.
pub const PREFIX_BYTES: usize = 12;
/// How much of a payload is read at once, so that a wrong length allocates no more than there is.
const READ_BYTES: u64 = 1 << 20;

/// The hash of a file's header and of all entries up to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    fn checksum(&self) -> &[u8] {
        &self.0[..CHECKSUM_BYTES]
    }

    fn followed_by(&self, prefix: &[u8; PREFIX_BYTES], payload: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(prefix).update(payload);
        Self(*hasher.finalize().as_bytes())
    }
}

/// A place between two entries of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the file. Compaction writes a new file with the next number.
    pub generation: u64,
    /// Bytes of the file before it.
    pub offset: u64,
    /// Appends before it.
    pub appends: u64,
    /// Records before it.
    pub records: u64,
    /// The chain up to it.
    pub chain: Chain,
}

/// The header of the file of `generation`.
pub fn header(generation: u64) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&generation.to_le_bytes());
    let checksum = blake3::hash(&header[..HEADER_COVERED]);
    header[HEADER_COVERED..].copy_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
    header
}

/// The place after the header of the file of `generation`.
pub fn beginning(generation: u64) -> Place {
    let chain = Chain(*blake3::hash(&header(generation)).as_bytes());
    Place { generation, offset: HEADER_BYTES, appends: 0, records: 0, chain }
}

/// Adds an entry at `place` to `bytes`, and moves `place` behind it. Returns `false` and changes
/// nothing if the entry is too long for its length field.
pub fn write(
    place: &mut Place,
    layout: u8,
    records: usize,
    payload: &[u8],
    bytes: &mut Vec<u8>,
) -> bool {
    let (Ok(length), Ok(count)) = (u32::try_from(payload.len()), u32::try_from(records)) else {
        return false;
    };
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..4].copy_from_slice(&length.to_le_bytes());
    prefix[4..8].copy_from_slice(&count.to_le_bytes());
    prefix[8..].copy_from_slice(&u32::from(layout).to_le_bytes());
    let chain = place.chain.followed_by(&prefix, payload);
    bytes.extend_from_slice(&prefix);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(chain.checksum());
    place.passed(&prefix, payload, chain);
    true
}

impl Place {
    fn passed(&mut self, prefix: &[u8; PREFIX_BYTES], payload: &[u8], chain: Chain) {
        self.offset += (PREFIX_BYTES + payload.len() + CHECKSUM_BYTES) as u64;
        self.appends += 1;
        self.records += u64::from(number(&prefix[4..8]));
        self.chain = chain;
    }
}

/// Why the bytes at a place are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The file does not begin with the header of its generation.
    #[error("its header is not that of a journal of edgesmith")]
    Header,
    /// The file has a layout that this program does not read.
    #[error("it has version {0}, but this program reads up to version {VERSION}")]
    Version(u32),
    /// The file ends within an entry, or before the last one that should be there.
    #[error("the file ends too early")]
    Cut,
    /// An entry, or something before it, is not what was written.
    #[error("the checksum of an entry does not match its bytes")]
    Checksum,
    /// The layout of the payload is unknown, although the checksum is right.
    #[error("an entry has layout {0}, which this program does not know")]
    Layout(u32),
}

/// What a scanner finds next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// An entry with this layout. Its payload is [`Scanner::payload`].
    Entry(u8),
    /// The end of the file, right after the last entry.
    End,
    /// Bytes that are not an entry. The scanner stays before them.
    Flaw(Flaw),
}

/// Reads a journal file from its beginning.
#[derive(Debug)]
pub struct Scanner<R> {
    reader: R,
    place: Place,
    payload: Vec<u8>,
}

impl<R: Read> Scanner<R> {
    /// Reads the header of the file of `generation`.
    ///
    /// # Errors
    /// If the file cannot be read, or the header is not right.
    pub fn new(mut reader: R, generation: u64) -> io::Result<Result<Self, Flaw>> {
        let mut found = Vec::new();
        reader.by_ref().take(HEADER_BYTES).read_to_end(&mut found)?;
        if found.len() < HEADER_BYTES as usize {
            return Ok(Err(Flaw::Cut));
        }
        if found != header(generation) {
            let version = found.get(8..12).map(number);
            let whole = found.starts_with(MAGIC)
                && blake3::hash(&found[..HEADER_COVERED]).as_bytes()[..CHECKSUM_BYTES]
                    == found[HEADER_COVERED..];
            return Ok(Err(match version {
                Some(version) if whole && version != VERSION => Flaw::Version(version),
                _ => Flaw::Header,
            }));
        }
        Ok(Ok(Self { reader, place: beginning(generation), payload: Vec::new() }))
    }

    /// Reads on from `place`, where the reader stands.
    pub fn from(reader: R, place: Place) -> Self {
        Self { reader, place, payload: Vec::new() }
    }

    /// The place after the last entry that was read.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The payload of the last entry.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Reads the next entry.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn advance(&mut self) -> io::Result<Next> {
        let mut prefix = [0; PREFIX_BYTES];
        match read_up_to(&mut self.reader, &mut prefix)? {
            0 => return Ok(Next::End),
            PREFIX_BYTES => {}
            _ => return Ok(Next::Flaw(Flaw::Cut)),
        }
        let length = u64::from(number(&prefix[..4]));
        self.payload.clear();
        while (self.payload.len() as u64) < length {
            let part = (length - self.payload.len() as u64).min(READ_BYTES);
            let read = self.reader.by_ref().take(part).read_to_end(&mut self.payload)?;
            if (read as u64) < part {
                return Ok(Next::Flaw(Flaw::Cut));
            }
        }
        let mut checksum = [0; CHECKSUM_BYTES];
        if read_up_to(&mut self.reader, &mut checksum)? < CHECKSUM_BYTES {
            return Ok(Next::Flaw(Flaw::Cut));
        }
        let chain = self.place.chain.followed_by(&prefix, &self.payload);
        if chain.checksum() != checksum {
            return Ok(Next::Flaw(Flaw::Checksum));
        }
        let layout = number(&prefix[8..]);
        let Ok(layout) = u8::try_from(layout) else {
            return Ok(Next::Flaw(Flaw::Layout(layout)));
        };
        self.place.passed(&prefix, &self.payload, chain);
        Ok(Next::Entry(layout))
    }
}

/// The smallest unit that a disk writes or loses as a whole, bytes.
const SECTOR_BYTES: u64 = 512;

/// Where an entry at `offset` that begins with `prefix` ends by its own length. `None` if the
/// length need not be what was written, because a part of it may not have reached the disk.
pub fn claimed_end(offset: u64, prefix: &[u8; PREFIX_BYTES]) -> Option<u64> {
    let crosses = offset % SECTOR_BYTES + PREFIX_BYTES as u64 > SECTOR_BYTES;
    if crosses || *prefix == [0; PREFIX_BYTES] {
        return None;
    }
    let length = u64::from(number(&prefix[..4]));
    Some(offset + (PREFIX_BYTES + CHECKSUM_BYTES) as u64 + length)
}

/// The layout and the payload of an entry, without its checksum, which depends on all before it.
///
/// # Errors
/// If there are too few bytes, or it has a layout that no entry has.
pub fn payload_of(mut reader: impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut prefix = [0; PREFIX_BYTES];
    reader.read_exact(&mut prefix)?;
    let length = u64::from(number(&prefix[..4]));
    let mut payload = Vec::new();
    let layout = u8::try_from(number(&prefix[8..])).map_err(|_| io::ErrorKind::InvalidData)?;
    if (reader.take(length).read_to_end(&mut payload)? as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((layout, payload))
}

fn number(bytes: &[u8]) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(bytes);
    u32::from_le_bytes(four)
}

/// Fills `buffer` as far as the reader goes. Returns how many bytes it has.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of these payloads, and its end.
    fn file(payloads: &[&[u8]]) -> (Vec<u8>, Place) {
        let (mut bytes, mut place) = (header(3).to_vec(), beginning(3));
        for payload in payloads {
            assert!(write(&mut place, 2, payload.len(), payload, &mut bytes));
        }
        (bytes, place)
    }

    /// The payloads before the first flaw, the flaw, and the last place.
    fn scan(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<Flaw>, Option<Place>) {
        let mut scanner = match Scanner::new(bytes, 3).unwrap() {
            Ok(scanner) => scanner,
            Err(flaw) => return (Vec::new(), Some(flaw), None),
        };
        let mut payloads = Vec::new();
        loop {
            match scanner.advance().unwrap() {
                Next::Entry(layout) => {
                    assert_eq!(layout, 2);
                    payloads.push(scanner.payload().to_vec());
                }
                Next::End => return (payloads, None, Some(scanner.place())),
                Next::Flaw(flaw) => return (payloads, Some(flaw), Some(scanner.place())),
            }
        }
    }

    #[test]
    fn entries_are_read_back() {
        let long = vec![7; 3 << 20];
        let payloads: [&[u8]; 4] = [b"one", b"", &long, b"four"];
        let (bytes, end) = file(&payloads);
        let (read, flaw, place) = scan(&bytes);
        assert_eq!(read, payloads);
        assert_eq!((flaw, place), (None, Some(end)));
        assert_eq!(end.offset, bytes.len() as u64);
        assert_eq!((end.appends, end.records), (4, 3 + (3 << 20) + 4));
    }

    /// Whatever bit is changed, no entry with other bytes is read as if it were whole.
    #[test]
    fn every_changed_bit_is_a_flaw() {
        let payloads: [&[u8]; 3] = [b"one", b"two and more", b"three"];
        let (bytes, _) = file(&payloads);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let (read, flaw, _) = scan(&changed);
            assert!(flaw.is_some(), "bit {bit}");
            assert_eq!(read, payloads[..read.len()], "bit {bit}");
        }
    }

    #[test]
    fn every_cut_leaves_whole_entries() {
        let (bytes, _) = file(&[b"one", b"two and more", b"three"]);
        let ends = [64, 64 + 31, 64 + 31 + 40, bytes.len()];
        for length in 0..=bytes.len() {
            let (read, flaw, _) = scan(&bytes[..length]);
            assert_eq!(flaw.is_none(), ends.contains(&length), "{length}");
            let whole = ends[1..].iter().filter(|end| **end <= length).count();
            assert_eq!(read.len(), whole, "{length}");
        }
    }

    #[test]
    fn entries_that_are_left_out_repeated_or_exchanged_are_flaws() {
        let (bytes, _) = file(&[b"one", b"two", b"six"]);
        let (head, entries) = bytes.split_at(64);
        let entries: Vec<&[u8]> = entries.chunks(31).collect();
        for order in [&[0, 2][..], &[0, 0, 1, 2], &[1, 0, 2], &[0, 1, 1, 2]] {
            let mut bytes = head.to_vec();
            order.iter().for_each(|place| bytes.extend_from_slice(entries[*place]));
            assert_eq!(scan(&bytes).1, Some(Flaw::Checksum), "{order:?}");
        }
    }

    #[test]
    fn a_wrong_length_allocates_no_more_than_the_file_has() {
        let (mut bytes, _) = file(&[b"one"]);
        bytes[64..68].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut scanner = Scanner::new(&bytes[..], 3).unwrap().unwrap();
        assert_eq!(scanner.advance().unwrap(), Next::Flaw(Flaw::Cut));
        assert!(scanner.payload.capacity() < 1 << 12);
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let (mut bytes, _) = file(&[]);
        bytes[8] = 2;
        assert_eq!(scan(&bytes).1, Some(Flaw::Header));
        let checksum = blake3::hash(&bytes[..HEADER_COVERED]);
        bytes[HEADER_COVERED..].copy_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
        assert_eq!(scan(&bytes).1, Some(Flaw::Version(2)));
    }
}
