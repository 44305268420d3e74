//! Cuts a damaged journal at the damage, so that it can be opened and goes on from there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::entry::{self, Flaw, Next, Scanner};
use super::mark::Marks;
use super::{
    FinishedLog, NewLog, Place, at, generations, log_path, mark_path, more_follows, sync_directory,
};
use crate::store::StoreError;

/// A journal that was cut and is not marked yet.
#[derive(Debug)]
pub struct Cut {
    /// The log, up to the damage.
    pub log: FinishedLog,
    /// The records that were acknowledged and are lost; `None` if it is not known how many were
    /// acknowledged.
    pub lost: Option<u64>,
    /// The file with the bytes that were cut off, and how many they are.
    pub cut: Option<(PathBuf, u64)>,
}

/// Cuts the journal of `folder` at the first damage. The bytes after it, and files of other
/// generations, are kept under other names. The caller creates a journal of the log.
///
/// # Errors
/// If the files cannot be read or written, or are of a later version.
pub fn cut(folder: &Path) -> Result<Cut, StoreError> {
    let mark_path = mark_path(folder);
    let marked = match File::open(&mark_path) {
        Ok(mark) => Marks::read(&mark).map_err(at(&mark_path))?.newest,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(at(&mark_path)(error)),
    };
    let found = generations(folder)?;
    let named = marked.filter(|place| found.iter().any(|(number, _)| *number == place.generation));
    // If no mark says which, the first: it is removed only when a later one is whole and marked.
    let generation =
        named.map(|place| place.generation).or(found.first().map(|(generation, _)| *generation));
    let WholePart { log, cut, more } = match generation {
        Some(generation) => whole_part(folder, generation)?,
        None => WholePart { log: NewLog::create(folder, 1)?.finish()?, cut: None, more: false },
    };
    for (other, path) in found {
        if other != log.end.generation {
            fs::rename(&path, path.with_extension("log.left")).map_err(at(&path))?;
        }
    }
    let lost = marked.map(|marked| marked.records.saturating_sub(log.end.records));
    // Damage after the mark: what follows it may have been acknowledged, too.
    let lost = lost.filter(|lost| *lost > 0 || !more);
    Ok(Cut { log, lost, cut })
}

/// A file that was cut at its first flaw.
struct WholePart {
    log: FinishedLog,
    /// The file with the bytes that were cut off, and how many they are.
    cut: Option<(PathBuf, u64)>,
    /// Whether they are more than one entry.
    more: bool,
}

/// Cuts the file of `generation` at its first flaw.
fn whole_part(folder: &Path, generation: u64) -> Result<WholePart, StoreError> {
    let path = log_path(folder, generation);
    let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
    let copy = |file: &File| file.try_clone().map(BufReader::new);
    match Scanner::new(copy(&file).map_err(at(&path))?, generation).map_err(at(&path))? {
        Err(Flaw::Version(version)) => {
            let problem = Flaw::Version(version).to_string();
            return Err(StoreError::Newer { path, problem });
        }
        // What it should be is known, so nothing after it is lost.
        Err(_) => file.write_all_at(&entry::header(generation), 0).map_err(at(&path))?,
        Ok(_) => {}
    }
    file.rewind().map_err(at(&path))?;
    let scanner = Scanner::new(copy(&file).map_err(at(&path))?, generation).map_err(at(&path))?;
    let end = last_whole(scanner.map_err(|_| at(&path)(io::ErrorKind::InvalidData.into()))?)
        .map_err(at(&path))?;
    let length = file.metadata().map_err(at(&path))?.len();
    let more = more_follows(&file, end.offset, length).map_err(at(&path))?;
    let mut cut = None;
    if length > end.offset {
        let name = |number: u32| format!("{generation}.log.cut-at-{}.{number}", end.offset);
        let free = (1..).map(|number| folder.join(name(number))).find(|path| !path.exists());
        let place = free.expect("some number is free");
        keep_rest(&mut file, end.offset, &place).map_err(at(&place))?;
        sync_directory(folder).map_err(at(folder))?;
        file.set_len(end.offset).map_err(at(&path))?;
        cut = Some((place, length - end.offset));
    }
    file.sync_all().map_err(at(&path))?;
    Ok(WholePart { log: FinishedLog { path, file, end }, cut, more })
}

fn last_whole(mut scanner: Scanner<BufReader<File>>) -> io::Result<Place> {
    loop {
        match scanner.advance()? {
            Next::Entry(_) => {}
            Next::End | Next::Flaw(_) => return Ok(scanner.place()),
        }
    }
}

fn keep_rest(file: &mut File, from: u64, place: &Path) -> io::Result<()> {
    file.seek(io::SeekFrom::Start(from))?;
    let mut rest = File::create_new(place)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => rest.write_all(&buffer[..read])?,
        }
    }
    rest.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::Journal;
    use super::super::tests::{made, open, read};
    use super::*;

    /// What is lost, and what was cut off.
    type Said = (Option<u64>, Option<(PathBuf, u64)>);

    /// The journal after a repair, and what the repair said.
    fn repaired(folder: &Path) -> (Vec<u8>, Said) {
        let Cut { log, lost, cut } = cut(folder).unwrap();
        let said = (lost, cut);
        Journal::create(folder, log).unwrap();
        let mut journal = open(folder).unwrap();
        let all = read(&journal);
        journal.append(2, 1, &[99; 10]).unwrap();
        drop(journal);
        assert_eq!(read(&open(folder).unwrap()), [&all[..], &[99]].concat());
        (all, said)
    }

    #[test]
    fn damage_is_cut_off_and_kept_beside() {
        let (_dir, folder) = made(0..5);
        let path = log_path(&folder, 1);
        let mut bytes = fs::read(&path).unwrap();
        let (length, entry) = (bytes.len(), (bytes.len() - 64) / 5);
        bytes[64 + 3 * entry + 1] ^= 4;
        fs::write(&path, &bytes).unwrap();
        let place = folder.join(format!("1.log.cut-at-{}.1", 64 + 3 * entry));
        let (all, said) = repaired(&folder);
        assert_eq!(all, [0, 1, 2]);
        assert_eq!(fs::read(&place).unwrap(), bytes[64 + 3 * entry..]);
        let cut = Some((place, (length - 64 - 3 * entry) as u64));
        assert_eq!(said, (Some(2), cut));
    }

    #[test]
    fn a_damaged_header_loses_nothing() {
        let (_dir, folder) = made(0..3);
        let path = log_path(&folder, 1);
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(open(&folder).is_err());
        let error = open(&folder).unwrap_err().to_string();
        assert!(error.contains("header of") && error.contains("nothing"), "{error}");
        assert_eq!(repaired(&folder), (vec![0, 1, 2], (Some(0), None)));
    }

    #[test]
    fn without_a_mark_everything_whole_is_kept() {
        for missing in [true, false] {
            let (_dir, folder) = made(0..3);
            if missing {
                fs::remove_file(mark_path(&folder)).unwrap();
            } else {
                fs::write(mark_path(&folder), [0; 99]).unwrap();
            }
            assert_eq!(repaired(&folder), (vec![0, 1, 2], (None, None)));
        }
    }

    #[test]
    fn a_missing_file_leaves_an_empty_journal() {
        let (_dir, folder) = made(0..3);
        fs::remove_file(log_path(&folder, 1)).unwrap();
        assert_eq!(repaired(&folder), (vec![], (Some(3), None)));
    }
}
