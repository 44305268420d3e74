//! Journals that are opened again after crashes and damage. The bytes of single entries and marks
//! are tested in their own files.

use std::fs;

use super::*;

/// A journal of appends that hold these numbers, in the folder `journal` of a directory.
pub fn made(appends: std::ops::Range<u8>) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    let mut journal =
        Journal::create(&folder, NewLog::create(&folder, 1).unwrap().finish().unwrap()).unwrap();
    appends.for_each(|number| journal.append(2, 1, &[number; 10]).unwrap());
    (dir, folder)
}

pub fn read(journal: &Journal) -> Vec<u8> {
    let (mut entries, mut all) = (journal.entries().unwrap(), Vec::new());
    while let Some((layout, payload)) = entries.next().unwrap() {
        assert_eq!((layout, payload.len()), (2, 10));
        all.push(payload[0]);
    }
    all
}

pub fn open(folder: &Path) -> Result<Journal, StoreError> {
    Journal::open(folder, Access::Write)
}

#[test]
fn appends_are_found_again_and_go_on() {
    let (_dir, folder) = made(0..3);
    let mut journal = open(&folder).unwrap();
    assert_eq!(read(&journal), [0, 1, 2]);
    journal.append(2, 1, &[3; 10]).unwrap();
    assert_eq!(read(&journal), [0, 1, 2, 3]);
    assert_eq!((journal.end().appends, journal.end().records), (4, 4));
    drop(journal);
    assert_eq!(read(&open(&folder).unwrap()), [0, 1, 2, 3]);
}

/// The bytes of an entry after `place` with `payload`.
fn bytes_of(mut place: Place, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(entry::write(&mut place, 2, 1, payload, &mut bytes));
    bytes
}

/// What a crash leaves of an append that never returned is dropped, however much of it there is.
#[test]
fn a_torn_tail_is_dropped_and_overwritten() {
    let (_dir, folder) = made(0..3);
    let path = log_path(&folder, 1);
    let (whole, mark) = (fs::read(&path).unwrap(), fs::read(mark_path(&folder)).unwrap());
    let is_dropped = |torn: &[u8]| {
        fs::write(&path, [&whole[..], torn].concat()).unwrap();
        fs::write(mark_path(&folder), &mark).unwrap();
        let mut journal = open(&folder).unwrap();
        assert_eq!(read(&journal), [0, 1, 2]);
        journal.append(2, 1, &[3; 10]).unwrap();
        drop(journal);
        assert_eq!(read(&open(&folder).unwrap()), [0, 1, 2, 3]);
    };
    let tail = bytes_of(open(&folder).unwrap().end(), &[9; 1_500]);
    // Cut short.
    (1..tail.len()).step_by(7).for_each(|length| is_dropped(&tail[..length]));
    // With sectors that never reached the disk, after entries of several lengths, so that the
    // beginning of the torn one lies at several places of a sector.
    for before in 440..=512 - 64 {
        let (_dir, folder) = made(0..0);
        let mut journal = open(&folder).unwrap();
        journal.append(2, 1, &vec![7; before - 28]).unwrap();
        let tail = bytes_of(journal.end(), &[9; 1_500]);
        drop(journal);
        let whole = fs::read(log_path(&folder, 1)).unwrap();
        for lost in 1..15_u32 {
            let written = [&whole[..], &tail].concat();
            let mut torn = written.clone();
            for (sector, bytes) in torn.chunks_mut(512).enumerate().skip(whole.len() / 512) {
                let from = whole.len().saturating_sub(sector * 512);
                if lost >> (sector - whole.len() / 512) & 1 == 1 {
                    bytes[from..].fill(0);
                }
            }
            fs::write(log_path(&folder, 1), &torn).unwrap();
            let journal = Journal::open(&folder, Access::Read).unwrap();
            let kept = if torn == written { 2 } else { 1 };
            assert_eq!(journal.end().appends, kept, "{before} {lost:b}");
        }
    }
}

/// After a failure of power, the mark may be older than what was acknowledged. What is whole is
/// kept, and damage is refused if something follows it, because only the last append can have
/// been cut short.
#[test]
fn damage_after_the_mark_is_refused_if_more_follows() {
    let (_dir, folder) = made(0..3);
    let path = log_path(&folder, 1);
    let old = fs::read(mark_path(&folder)).unwrap();
    let mut journal = open(&folder).unwrap();
    (3..6).for_each(|number| journal.append(2, 1, &[number; 10]).unwrap());
    drop(journal);
    let older = || fs::write(mark_path(&folder), &old).unwrap();
    let whole = fs::read(&path).unwrap();
    older();
    assert_eq!(read(&open(&folder).unwrap()), [0, 1, 2, 3, 4, 5]);

    let at = |number: usize| 64 + number * 38;
    // The length of an entry is left out: a longer one looks as if the file ended in it.
    for byte in (at(3) + 4..at(5)).filter(|byte| (byte - at(3)) % 38 >= 4) {
        let mut bytes = whole.clone();
        bytes[byte] ^= 1;
        fs::write(&path, &bytes).unwrap();
        older();
        let error = open(&folder).unwrap_err();
        let kept = 3 + (byte - at(3)) / 38;
        let StoreError::Damaged { kept: said, acknowledged: 3, .. } = error else { panic!() };
        assert_eq!(said, kept as u64, "{byte}");
        let text = error.to_string();
        assert!(text.contains("not known how many of the records after it"), "{text}");
    }
    let cut = cut(&folder).unwrap();
    assert_eq!((cut.lost, cut.log.end().records), (None, 4));
    // The last one may have been cut short.
    let mut bytes = whole.clone();
    bytes[at(5) + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    older();
    assert_eq!(read(&open(&folder).unwrap()), [0, 1, 2, 3, 4]);
}

/// The mark is written with each append, so it survives the end of the process, and is synced when
/// that is asked for.
#[test]
fn an_append_is_marked_at_once_and_the_mark_is_synced_later() {
    let (_dir, folder) = made(0..1);
    let mut journal = open(&folder).unwrap();
    assert!(journal.is_mark_synced());
    for number in 1..4 {
        journal.append(2, 1, &[number; 10]).unwrap();
        assert!(!journal.is_mark_synced());
        let marks = Marks::read(&File::open(mark_path(&folder)).unwrap()).unwrap();
        assert_eq!(marks.newest, Some(journal.end()));
    }
    journal.sync_mark().unwrap();
    assert!(journal.is_mark_synced());
}

/// A whole entry of a later version is not taken for one that was cut short.
#[test]
fn an_unknown_layout_after_the_mark_is_refused() {
    let (_dir, folder) = made(0..2);
    let before = fs::read(mark_path(&folder)).unwrap();
    let mut journal = open(&folder).unwrap();
    let mut bytes = fs::read(log_path(&folder, 1)).unwrap();
    let mut entry = bytes_of(journal.end(), &[2; 10]);
    entry[10] = 1;
    entry.truncate(entry.len() - entry::CHECKSUM_BYTES);
    let hash = blake3::Hasher::new().update(&journal.end().chain.0).update(&entry).finalize();
    entry.extend(&hash.as_bytes()[..entry::CHECKSUM_BYTES]);
    bytes.extend(entry);
    journal.append(2, 1, &[2; 10]).unwrap();
    drop(journal);
    fs::write(log_path(&folder, 1), bytes).unwrap();
    fs::write(mark_path(&folder), before).unwrap();
    assert!(matches!(open(&folder), Err(StoreError::Newer { .. })));
}

/// An append that reached the disk but was not marked was not acknowledged. It is kept, and marked.
#[test]
fn a_whole_append_after_the_mark_is_kept_and_marked() {
    let (_dir, folder) = made(0..3);
    let before = fs::read(mark_path(&folder)).unwrap();
    open(&folder).unwrap().append(2, 1, &[3; 10]).unwrap();
    fs::write(mark_path(&folder), before).unwrap();
    assert_eq!(read(&open(&folder).unwrap()), [0, 1, 2, 3]);
    // From now on it counts as acknowledged.
    let file = OpenOptions::new().write(true).open(log_path(&folder, 1)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    assert!(matches!(open(&folder), Err(StoreError::Damaged { kept: 3, acknowledged: 4, .. })));
}

#[test]
fn damage_is_refused_with_its_place_and_what_is_lost() {
    let (_dir, folder) = made(0..5);
    let path = log_path(&folder, 1);
    let mut bytes = fs::read(&path).unwrap();
    let entry = (bytes.len() - 64) / 5;
    bytes[64 + 2 * entry + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = open(&folder).unwrap_err().to_string();
    for said in [
        "1.log is damaged at byte 140",
        "of 5 records that were acknowledged, 3 come after",
        "keeps the 2 before",
        "edgesmith restore",
        "check --repair",
    ] {
        assert!(error.contains(said), "{said}: {error}");
    }
    // A cut at the end of an entry is one, too.
    bytes[64 + 2 * entry + 20] ^= 1;
    fs::write(&path, &bytes[..64 + 3 * entry]).unwrap();
    let error = open(&folder).unwrap_err().to_string();
    assert!(error.contains("ends too early") && error.contains("2 come after"), "{error}");
    fs::write(&path, []).unwrap();
    assert!(open(&folder).unwrap_err().to_string().contains("damaged at byte 0"));
    fs::remove_file(&path).unwrap();
    let error = open(&folder).unwrap_err().to_string();
    assert!(error.contains("1.log, which is missing, with 5 records"), "{error}");
}

#[test]
fn a_mark_that_is_damaged_in_both_slots_or_missing_is_refused() {
    let (_dir, folder) = made(0..2);
    fs::write(mark_path(&folder), [0; 5000]).unwrap();
    let error = open(&folder).unwrap_err().to_string();
    assert!(error.contains("acknowledged is damaged") && error.contains("check"), "{error}");
    fs::remove_file(mark_path(&folder)).unwrap();
    assert_eq!(presence(&folder).unwrap(), Presence::WithoutMark);
}

#[test]
fn a_mark_of_another_journal_is_refused() {
    let (_dir, folder) = made(0..2);
    let (_other, foreign) = made(1..3);
    fs::copy(mark_path(&foreign), mark_path(&folder)).unwrap();
    let error = open(&folder).unwrap_err().to_string();
    assert!(error.contains("does not belong to"), "{error}");
}

#[test]
fn another_generation_takes_the_place_of_the_first_in_one_step() {
    let (_dir, folder) = made(0..4);
    let begun = |journal: &Journal| {
        let mut log = journal.next_log().unwrap();
        log.append(2, 1, &[7; 10]).unwrap();
        log.finish().unwrap()
    };
    // A crash before the step leaves the first one.
    let journal = open(&folder).unwrap();
    begun(&journal);
    drop(journal);
    let mut journal = open(&folder).unwrap();
    assert_eq!((read(&journal), generations(&folder).unwrap().len()), (vec![0, 1, 2, 3], 1));

    let first = fs::read(log_path(&folder, 1)).unwrap();
    let log = begun(&journal);
    journal.replace(log).unwrap();
    journal.append(2, 1, &[8; 10]).unwrap();
    drop(journal);
    // A crash right after it leaves both files.
    fs::write(log_path(&folder, 1), first).unwrap();
    let journal = open(&folder).unwrap();
    assert_eq!((read(&journal), generations(&folder).unwrap().len()), (vec![7, 8], 1));
}

#[test]
fn reading_changes_nothing() {
    let (_dir, folder) = made(0..3);
    let path = log_path(&folder, 1);
    let torn = [fs::read(&path).unwrap(), vec![1, 2, 3]].concat();
    fs::write(&path, &torn).unwrap();
    fs::write(log_path(&folder, 2), [1]).unwrap();
    let mut journal = Journal::open(&folder, Access::Read).unwrap();
    assert_eq!(read(&journal), [0, 1, 2]);
    assert!(matches!(journal.append(2, 1, &[3; 10]), Err(StoreError::ReadOnly { .. })));
    assert_eq!(fs::read(&path).unwrap(), torn);
    assert!(log_path(&folder, 2).exists());
}

/// A file that has no room, whatever is written.
fn full() -> File {
    OpenOptions::new().read(true).write(true).open("/dev/full").unwrap()
}

fn is_full(appended: Result<(), StoreError>) -> bool {
    matches!(appended, Err(StoreError::Full { .. }))
}

#[test]
fn an_append_without_room_can_be_tried_again() {
    let (_dir, folder) = made(0..2);
    let mut journal = open(&folder).unwrap();
    let log = std::mem::replace(&mut journal.log, full());
    assert!(is_full(journal.append(2, 1, &[2; 10])));
    // What a disk took of it before it was full, and could not be cut off.
    log.write_all_at(&[7; 5], journal.end().offset).unwrap();
    assert!(journal.has_torn_tail);
    journal.log = log;
    // What is left of it is dropped at an opening, as after a crash.
    assert_eq!(read(&Journal::open(&folder, Access::Read).unwrap()), [0, 1]);
    journal.append(2, 1, &[2; 10]).unwrap();
    journal.append(2, 1, &[3; 10]).unwrap();
    assert_eq!(read(&journal), [0, 1, 2, 3]);
    drop(journal);
    assert_eq!(read(&open(&folder).unwrap()), [0, 1, 2, 3]);
}

/// The log has the append already when there is no room for the mark, so it must not be cut: the
/// mark may name it.
#[test]
fn a_mark_without_room_is_written_later() {
    for crash in [false, true] {
        let (_dir, folder) = made(0..2);
        let mut journal = open(&folder).unwrap();
        let mark = std::mem::replace(&mut journal.mark, full());
        for _ in 0..3 {
            assert!(is_full(journal.append(2, 1, &[2; 10])));
        }
        if crash {
            drop(journal);
            assert_eq!(read(&open(&folder).unwrap()), [0, 1, 2]);
            continue;
        }
        journal.mark = mark;
        journal.append(2, 1, &[2; 10]).unwrap();
        journal.append(2, 1, &[3; 10]).unwrap();
        drop(journal);
        assert_eq!(read(&open(&folder).unwrap()), [0, 1, 2, 3]);
    }
}

#[test]
fn only_the_same_append_can_be_tried_again() {
    let (_dir, folder) = made(0..2);
    let mut journal = open(&folder).unwrap();
    let mark = std::mem::replace(&mut journal.mark, full());
    assert!(is_full(journal.append(2, 1, &[2; 10])));
    journal.mark = mark;
    let other = journal.append(2, 1, &[3; 10]);
    assert!(matches!(other, Err(StoreError::AfterFailure { .. })), "{other:?}");
}

/// What is removed while it is open is still there, for the one that has it open.
#[test]
fn files_that_are_removed_while_they_are_open_are_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("journal");
    let log = NewLog::create(&folder, 1).unwrap().finish().unwrap();
    let mut journal = Journal::create(&folder, log).unwrap();
    journal.append(2, 1, b"first").unwrap();
    for (round, lost) in ["1.log", "acknowledged", ""].into_iter().enumerate() {
        assert!(journal.is_in_place());
        match lost {
            "" => fs::remove_dir_all(&folder).unwrap(),
            name => fs::remove_file(folder.join(name)).unwrap(),
        }
        if round == 1 {
            // Something else in its place.
            fs::write(folder.join(lost), "other").unwrap();
        }
        assert!(!journal.is_in_place());
        journal.put_back().unwrap();
        assert_eq!(journal.take_copied(), lost != "acknowledged");
        journal.append(2, 1, b"next").unwrap();
        let mut entries = Journal::open(&folder, Access::Read).unwrap().entries().unwrap();
        let mut count = 0;
        while entries.next().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 2 + round, "{lost}");
    }
    // An append that could not be marked is put back, too.
    let mark = std::mem::replace(&mut journal.mark, full());
    assert!(is_full(journal.append(2, 1, b"more")));
    journal.mark = mark;
    fs::remove_file(folder.join("1.log")).unwrap();
    journal.put_back().unwrap();
    journal.append(2, 1, b"more").unwrap();
    assert_eq!(Journal::open(&folder, Access::Read).unwrap().end().appends, 5);
    // A new file that is not in its place takes nobody's.
    let mut new = journal.next_log().unwrap();
    new.append(2, 1, b"all").unwrap();
    let new = new.finish().unwrap();
    fs::remove_file(folder.join("2.log")).unwrap();
    assert!(journal.replace(new).is_err() && folder.join("1.log").exists());
    // What was cut is gone, so nothing more is acknowledged.
    let end = journal.end().offset;
    File::options().write(true).open(folder.join("1.log")).unwrap().set_len(end - 3).unwrap();
    let refused = journal.append(2, 1, b"last").unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    assert!(matches!(journal.append(2, 1, b"last"), Err(StoreError::AfterFailure { .. })));
}
