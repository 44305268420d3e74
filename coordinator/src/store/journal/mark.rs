//! The file `acknowledged`: up to which place the journal was acknowledged to clients. It tells a
//! last write that was cut short, which nobody has seen, from damage.
//!
//! It has two slots, [`SLOT_DISTANCE`] apart. Writes go to one of them, until a sync has made it
//! durable; then to the other. So one slot is always whole on the disk. A slot has `edgemark`, a
//! number that grows with each write, the [`Place`] (generation, offset, appends, records, chain),
//! and the first [`CHECKSUM_BYTES`] of the BLAKE3 hash of all that. Numbers are u64, little-endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::entry::{CHECKSUM_BYTES, Chain, Place};

/// Bytes from one slot to the next: a write of one does not touch the block of the other.
const SLOT_DISTANCE: u64 = 4096;
const MAGIC: &[u8; 8] = b"edgemark";
const COVERED: usize = 8 + 5 * 8 + 32;
const SLOT_BYTES: usize = COVERED + CHECKSUM_BYTES;

/// What a file of marks says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// The newest place that can be read; `None` if neither slot can.
    pub newest: Option<Place>,
    /// Whether both slots can be read.
    pub whole: bool,
    /// The number of the newest slot.
    number: u64,
    /// The slot to write next.
    next: usize,
    /// Whether the newest write is durable.
    synced: bool,
}

impl Marks {
    /// Reads both slots.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(file: &File) -> io::Result<Self> {
        let slots = [read_slot(file, 0)?, read_slot(file, 1)?];
        let whole = slots.iter().all(Option::is_some);
        let number = |slot: usize| slots[slot].map_or(0, |(number, _)| number);
        let newest = usize::from(number(1) > number(0));
        Ok(Self {
            newest: slots[newest].map(|(_, place)| place),
            whole,
            number: number(newest),
            next: 1 - newest,
            synced: true,
        })
    }

    /// Writes `place`. It survives the end of this process, and is durable after [`Marks::sync`].
    ///
    /// # Errors
    /// If it cannot be written. Then the other slot still has the place of the last sync.
    pub fn write(&mut self, file: &File, place: Place) -> io::Result<()> {
        self.number += 1;
        file.write_all_at(&slot(self.number, place), self.next as u64 * SLOT_DISTANCE)?;
        self.newest = Some(place);
        self.synced = false;
        Ok(())
    }

    /// Whether the place that was written last is durable.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Makes the place that was written last durable.
    ///
    /// # Errors
    /// If that failed.
    pub fn sync(&mut self, file: &File) -> io::Result<()> {
        if let Some(place) = self.newest.filter(|_| !self.synced) {
            // Once more, because after a sync that failed the system takes it for written.
            file.write_all_at(&slot(self.number, place), self.next as u64 * SLOT_DISTANCE)?;
            file.sync_data()?;
            self.synced = true;
            self.next = 1 - self.next;
        }
        Ok(())
    }

    /// Writes `place` to both slots, durably.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_both(&mut self, file: &File, place: Place) -> io::Result<()> {
        for _ in 0..2 {
            self.write(file, place)?;
            self.sync(file)?;
        }
        self.whole = true;
        Ok(())
    }
}

fn slot(number: u64, place: Place) -> [u8; SLOT_BYTES] {
    let Place { generation, offset, appends, records, chain } = place;
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(MAGIC);
    for (at, value) in (8..).step_by(8).zip([number, generation, offset, appends, records]) {
        slot[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    slot[COVERED - 32..COVERED].copy_from_slice(&chain.0);
    let checksum = blake3::hash(&slot[..COVERED]);
    slot[COVERED..].copy_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
    slot
}

fn read_slot(file: &File, which: u64) -> io::Result<Option<(u64, Place)>> {
    let mut found = [0; SLOT_BYTES];
    match file.read_exact_at(&mut found, which * SLOT_DISTANCE) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let checksum = blake3::hash(&found[..COVERED]);
    if !found.starts_with(MAGIC) || checksum.as_bytes()[..CHECKSUM_BYTES] != found[COVERED..] {
        return Ok(None);
    }
    let value = |place: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&found[8 + place * 8..16 + place * 8]);
        u64::from_le_bytes(eight)
    };
    let mut chain = [0; 32];
    chain.copy_from_slice(&found[COVERED - 32..COVERED]);
    let (generation, offset, appends, records) = (value(1), value(2), value(3), value(4));
    let place = Place { generation, offset, appends, records, chain: Chain(chain) };
    Ok(Some((value(0), place)))
}

#[cfg(test)]
mod tests {
    use super::super::entry::beginning;
    use super::*;

    fn place(appends: u64) -> Place {
        Place { appends, ..beginning(1) }
    }

    fn file() -> File {
        tempfile::tempfile().unwrap()
    }

    #[test]
    fn the_newest_mark_counts_and_a_damaged_one_leaves_the_one_before() {
        let file = file();
        let mut marks = Marks::read(&file).unwrap();
        assert_eq!((marks.newest, marks.whole), (None, false));
        marks.write_both(&file, place(1)).unwrap();
        for appends in 2..6 {
            marks.write(&file, place(appends)).unwrap();
            marks.sync(&file).unwrap();
            let read = Marks::read(&file).unwrap();
            assert_eq!((read.newest, read.whole), (Some(place(appends)), true));
            assert_eq!(read, marks);

            let newest = (1 - marks.next) as u64 * SLOT_DISTANCE;
            let mut slot = [0; SLOT_BYTES];
            file.read_exact_at(&mut slot, newest).unwrap();
            for bit in 0..SLOT_BYTES * 8 {
                let mut changed = slot;
                changed[bit / 8] ^= 1 << (bit % 8);
                file.write_all_at(&changed, newest).unwrap();
                let read = Marks::read(&file).unwrap();
                assert_eq!((read.newest, read.whole), (Some(place(appends - 1)), false));
            }
            file.write_all_at(&slot, newest).unwrap();
        }
    }

    /// Otherwise a power failure could take both.
    #[test]
    fn the_slot_that_is_durable_is_not_written_before_the_other_is() {
        let file = file();
        let mut marks = Marks::read(&file).unwrap();
        marks.write_both(&file, place(1)).unwrap();
        for appends in 2..6 {
            for later in [0, 10, 20] {
                marks.write(&file, place(appends + later)).unwrap();
                assert!(!marks.is_synced());
                assert_eq!(Marks::read(&file).unwrap().newest, Some(place(appends + later)));
                file.write_all_at(&[0; SLOT_BYTES], marks.next as u64 * SLOT_DISTANCE).unwrap();
                let durable = if appends == 2 { 1 } else { appends - 1 + 20 };
                assert_eq!(Marks::read(&file).unwrap().newest, Some(place(durable)));
            }
            marks.write(&file, place(appends + 20)).unwrap();
            marks.sync(&file).unwrap();
            assert!(marks.is_synced());
        }
    }

    #[test]
    fn a_file_that_was_cut_has_what_is_left() {
        let file = file();
        let mut marks = Marks::read(&file).unwrap();
        marks.write_both(&file, place(1)).unwrap();
        file.set_len(SLOT_DISTANCE + 3).unwrap();
        let read = Marks::read(&file).unwrap();
        assert_eq!((read.newest, read.whole), (Some(place(1)), false));
        file.set_len(SLOT_BYTES as u64 - 1).unwrap();
        assert_eq!(Marks::read(&file).unwrap().newest, None);
    }
}
