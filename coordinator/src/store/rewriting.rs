//! Writes a journal again as blocks of many records, without those of deleted studies: at once, or
//! in a thread of its own while appends go on. Puts nothing in the journal's place.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::compaction::{Layouts, Lives, Usage};
use super::journal::{Entries, FinishedLog, Journal, NewLog, Place};
use super::records::{Records, each};
use super::stages::Places;
use super::{StoreError, format};
use crate::core::Record;

/// The records of a block, so that few are held at once, and the stages of a trial are found
/// quickly.
const TOGETHER: usize = 1024;

/// A thread that writes a journal again.
#[derive(Debug)]
pub struct Rewriting {
    thread: JoinHandle<Result<Rewritten, StoreError>>,
    /// Tells it to end early.
    stop: Arc<AtomicBool>,
}

/// A log that has the records of a journal up to a place, as blocks, without those of deleted
/// studies.
#[derive(Debug)]
pub struct Rewritten {
    log: NewLog,
    until: Place,
    usage: Usage,
    places: Places,
}

/// The same with all records of the journal.
#[derive(Debug)]
pub struct Whole {
    pub log: FinishedLog,
    pub path: PathBuf,
    pub usage: Usage,
    pub layouts: Layouts,
    pub places: Places,
}

impl Rewriting {
    /// Begins with what is in the journal now.
    ///
    /// # Errors
    /// If it cannot be read, or there can be no more files or threads.
    pub fn begin(journal: &Journal) -> Result<Self, StoreError> {
        let (entries, log) = (Self::entries(journal)?, journal.next_log()?);
        let path = log.path().to_owned();
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("compaction".to_owned());
        let thread = thread.spawn(move || rewritten(entries, log, &stopped));
        match thread {
            Ok(thread) => Ok(Self { thread, stop }),
            Err(source) => {
                let _ = fs::remove_file(&path);
                Err(StoreError::Io { path, source })
            }
        }
    }

    /// The entries, for each of the two times that they are read.
    fn entries(journal: &Journal) -> Result<[Entries; 2], StoreError> {
        Ok([journal.entries()?, journal.entries()?])
    }

    /// Whether the thread has ended.
    pub fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// What it has written, once it is done.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn result(self) -> Result<Rewritten, StoreError> {
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Ends it. Nothing is left of what it has written.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Ok(rewritten) = self.result() {
            let _ = fs::remove_file(rewritten.log.path());
        }
    }
}

/// Writes `entries` to `log`, which is removed after an error.
fn rewritten(
    entries: [Entries; 2],
    mut log: NewLog,
    stop: &AtomicBool,
) -> Result<Rewritten, StoreError> {
    let path = log.path().to_owned();
    let (mut usage, mut places) = (Usage::default(), Places::default());
    let [first, second] = entries;
    let until = first.until();
    let write_all = || {
        let mut lives = Lives::default();
        for record in each(Records::without_stages(first)) {
            lives.note(&record?);
        }
        let (mut filter, reserved) = lives.filter();
        let mut together = Vec::from(reserved);
        let mut write = |records: &mut Vec<Record>| {
            if stop.load(Ordering::Relaxed) {
                let (path, source) = (path.clone(), std::io::ErrorKind::Interrupted.into());
                return Err(StoreError::Io { path, source });
            }
            records.iter().for_each(|record| usage.note(record));
            places.note(log.end().offset, records);
            log.append(format::BLOCK, records.len(), &format::encode_block(records)?)?;
            records.clear();
            Ok::<(), StoreError>(())
        };
        for record in each(Records::new(second)) {
            let record = record?;
            if filter.needs(&record) {
                together.push(record);
            }
            if together.len() >= TOGETHER {
                write(&mut together)?;
            }
        }
        if !together.is_empty() {
            write(&mut together)?;
        }
        log.sync()
    };
    if let Err(error) = write_all() {
        // It takes up room that is missing.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(Rewritten { log, until, usage, places })
}

impl Rewritten {
    /// The records of a journal, written at once.
    ///
    /// # Errors
    /// If they cannot be read or written.
    pub fn of(journal: &Journal) -> Result<Self, StoreError> {
        rewritten(Rewriting::entries(journal)?, journal.next_log()?, &AtomicBool::default())
    }

    /// Adds what was appended to the journal since. The log is removed after an error.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn with_rest_of(self, journal: &Journal) -> Result<Whole, StoreError> {
        let Self { mut log, until, mut usage, mut places } = self;
        let path = log.path().to_owned();
        let mut layouts = Layouts::default();
        layouts.note(true, log.end().offset);
        let add_rest = || {
            let mut entries = journal.entries_after(until)?;
            let mut decoder = format::Decoder::without_stages();
            let mut before = entries.place();
            while let Some((layout, payload)) = entries.next()? {
                let offset = log.end().offset;
                let records = decoder.decode(layout, payload);
                let unreadable = |source| StoreError::Unreadable {
                    path: path.clone(),
                    offset: before.offset,
                    source,
                };
                let records = records.map_err(unreadable)?;
                records.iter().for_each(|record| usage.note(record));
                places.note(offset, &records);
                log.append(layout, records.len(), payload)?;
                layouts.note(layout == format::BLOCK, log.end().offset - offset);
                before = entries.place();
            }
            log.finish()
        };
        match add_rest() {
            Ok(log) => Ok(Whole { log, path, usage, layouts, places }),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use edgesmith_common::{
        ArtifactHash, AttemptId, ClassCount, Figures, Metric, StageReport, StudyName, TaskId,
        TrainedTrial, TrialNumber, WorkerId,
    };

    use super::super::journal::{FOLDER, generations, mark_path};
    use super::super::{DataDir, DiskStore, Store as _};
    use super::*;
    use crate::core::StagesKey;

    fn open(path: &Path) -> DiskStore {
        let mut store = DiskStore::open(DataDir::open(path).unwrap()).unwrap();
        store.least_loose = 4000;
        store
    }

    /// A training that has the stages of its network, and the start of another.
    fn records(number: u32) -> Vec<Record> {
        let study: StudyName = "s".parse().unwrap();
        let figures = Figures::new().with(Metric::MACS.whole(), f64::from(number));
        let classes = vec![ClassCount { images: 9, right: number % 10 }];
        let stage = StageReport {
            pass: "prune".to_owned(),
            distilled: false,
            figures: figures.clone(),
            classes,
        };
        let hash = ArtifactHash::of(&number.to_le_bytes());
        let trained = TrainedTrial {
            compressed: figures.clone(),
            uncompressed: figures,
            model: hash,
            weights: hash,
            stages: vec![stage],
        };
        let stages = StagesKey::of(&trained.stages);
        let (number, measure) = (TrialNumber(number), Vec::new());
        let (task, attempt) = (TaskId(u64::from(number.0)), AttemptId(u64::from(number.0)));
        let (worker, elapsed_ms) = (WorkerId(1), u64::from(number.0));
        vec![
            Record::TrialTrained { study: study.clone(), number, trained, stages, measure },
            Record::AttemptStarted { study, task, attempt, worker, elapsed_ms },
        ]
    }

    /// The records as they are read: after those that reserve ids, and without stages.
    fn read(store: &mut DiskStore) -> Vec<Record> {
        let reserves = |record: &Record| {
            matches!(record, Record::IdsReserved { .. } | Record::WorkerIdsReserved { .. })
        };
        let mut all: Vec<Record> = store.replay().unwrap().map(Result::unwrap).collect();
        all.retain(|record| !reserves(record));
        all
    }

    fn without_stages(mut record: Record) -> Record {
        if let Record::TrialTrained { trained, .. } = &mut record {
            trained.stages.clear();
        }
        record
    }

    fn has_all(store: &mut DiskStore, trials: u32) {
        let written = || (0..trials).flat_map(records);
        assert!(read(store).into_iter().eq(written().map(without_stages)));
        for record in written() {
            if let Record::TrialTrained { trained, stages: Some(key), .. } = record {
                assert_eq!(store.stages().get(key), Some(trained.stages));
            }
        }
    }

    fn generation(path: &Path) -> Vec<u64> {
        generations(&path.join(FOLDER)).unwrap().into_iter().map(|(number, _)| number).collect()
    }

    /// The journal is written again while appends go on, and nothing is lost or changes its place.
    #[test]
    fn a_journal_is_written_again_while_it_grows() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut trials = 0;
        let mut times = 0;
        while times < 3 {
            assert!(trials < 100_000, "it was never written again");
            store.append(&records(trials)).unwrap();
            trials += 1;
            if let Some(rewriting) = &store.rewriting {
                // The next append may come before it is done, or after.
                let wait = trials % 2 == 0;
                while wait && !rewriting.is_done() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            times = generation(dir.path()).into_iter().min().unwrap() - 1;
        }
        has_all(&mut store, trials);
        store.append(&records(trials)).unwrap();
        has_all(&mut store, trials + 1);
        drop(store);
        has_all(&mut open(dir.path()), trials + 1);
        assert_eq!(generation(dir.path()), [4]);
    }

    #[test]
    fn a_store_that_is_closed_meanwhile_leaves_the_journal_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut trials = 0;
        while store.rewriting.is_none() {
            store.append(&records(trials)).unwrap();
            trials += 1;
        }
        // It may be done by chance.
        drop(store);
        let generations = generation(dir.path());
        assert!([[1], [2]].iter().any(|one| generations == one), "{generations:?}");
        has_all(&mut open(dir.path()), trials);
    }

    /// Appends until the journal is being written again, and waits for the end of that.
    fn until_rewritten(store: &mut DiskStore, trials: &mut u32) {
        while store.rewriting.as_ref().is_none_or(|rewriting| !rewriting.is_done()) {
            assert!(*trials < 100_000, "it was never written again");
            if store.rewriting.is_none() {
                store.append(&records(*trials)).unwrap();
                *trials += 1;
            }
        }
    }

    #[test]
    fn a_journal_that_was_written_again_when_the_store_is_closed_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, mut trials) = (open(dir.path()), 0);
        until_rewritten(&mut store, &mut trials);
        drop(store);
        assert_eq!(generation(dir.path()), [2]);
        has_all(&mut open(dir.path()), trials);
    }

    fn log_bytes(path: &Path) -> u64 {
        fs::metadata(path.join(FOLDER).join("1.log")).unwrap().len()
    }

    #[test]
    fn after_a_failure_it_waits_until_the_journal_has_doubled() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        // The new file cannot be made.
        let in_its_way = dir.path().join(FOLDER).join("2.log");
        fs::create_dir(&in_its_way).unwrap();
        let (mut trials, mut failed_at, mut waits_for) = (0, Vec::new(), 0);
        while failed_at.len() < 3 {
            assert!(trials < 10_000, "it was tried {} times", failed_at.len());
            store.append(&records(trials)).unwrap();
            trials += 1;
            if std::mem::replace(&mut waits_for, store.rewriting_failures.wait_for) != waits_for {
                failed_at.push(log_bytes(dir.path()));
            }
        }
        for pair in failed_at.windows(2) {
            assert!(pair[1] >= 2 * pair[0], "{failed_at:?}");
        }
        fs::remove_dir(&in_its_way).unwrap();
        until_rewritten(&mut store, &mut trials);
        has_all(&mut store, trials);
        drop(store);
        assert_eq!(generation(dir.path()), [2]);
        has_all(&mut open(dir.path()), trials);
    }

    /// It is written again where it was, with what is rewritten just then.
    #[test]
    fn a_journal_whose_folder_is_moved_away_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, mut trials) = (open(dir.path()), 0);
        until_rewritten(&mut store, &mut trials);
        let (folder, away) = (dir.path().join(FOLDER), dir.path().join("away"));
        fs::rename(&folder, &away).unwrap();
        for _ in 0..3 {
            store.append(&records(trials)).unwrap();
            trials += 1;
        }
        has_all(&mut store, trials);
        drop(store);
        has_all(&mut open(dir.path()), trials);
        assert_eq!(generation(dir.path()).len(), 1);
        assert!(away.exists() && folder.exists());
    }

    /// The mark's file in memory, where writes to it can be forbidden for good.
    #[cfg(target_os = "linux")]
    struct MarkInMemory {
        file: fs::File,
        path: std::path::PathBuf,
    }

    #[cfg(target_os = "linux")]
    impl MarkInMemory {
        fn instead_of(path: std::path::PathBuf) -> Self {
            use std::os::fd::AsRawFd as _;
            let flags = rustix::fs::MemfdFlags::ALLOW_SEALING;
            let file = fs::File::from(rustix::fs::memfd_create("acknowledged", flags).unwrap());
            let here = format!("/proc/self/fd/{}", file.as_raw_fd());
            fs::copy(&path, &here).unwrap();
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(here, &path).unwrap();
            Self { file, path }
        }

        fn forbid_writes(&self) {
            rustix::fs::fcntl_add_seals(&self.file, rustix::fs::SealFlags::WRITE).unwrap();
        }

        /// Puts what was written to it in its place on the disk.
        fn to_disk(&self) {
            let bytes = fs::read(&self.path).unwrap();
            fs::remove_file(&self.path).unwrap();
            fs::write(&self.path, bytes).unwrap();
        }
    }

    /// Then it is not known which file the journal is, and it finds out as at a start.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_journal_whose_place_could_not_be_marked_goes_on_with_the_file_that_the_mark_names() {
        for later in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            drop(open(dir.path()));
            let mark = MarkInMemory::instead_of(mark_path(&dir.path().join(FOLDER)));
            let (mut store, mut trials) = (open(dir.path()), 0);
            until_rewritten(&mut store, &mut trials);
            mark.forbid_writes();
            if later {
                // Nothing is acknowledged as long as that cannot be found out.
                let refused = store.append(&records(trials)).unwrap_err();
                assert!(matches!(refused, StoreError::Io { .. }), "{refused}");
                assert_eq!(generation(dir.path()), [1, 2]);
                mark.to_disk();
                drop(store);
                has_all(&mut open(dir.path()), trials);
                continue;
            }
            mark.to_disk();
            for _ in 0..3 {
                store.append(&records(trials)).unwrap();
                trials += 1;
            }
            has_all(&mut store, trials);
            assert_eq!(generation(dir.path()), [1]);
            store.settle().unwrap();
            drop(store);
            has_all(&mut open(dir.path()), trials);
        }
    }

    #[test]
    fn a_journal_of_blocks_is_not_written_again_at_each_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let all: Vec<Record> = (0..2000).flat_map(records).collect();
        store.append(&all).unwrap();
        drop(store);
        for expected in [2, 2] {
            let mut store = open(dir.path());
            has_all(&mut store, 2000);
            store.compact_if_useful();
            while store.rewriting.as_ref().is_some_and(|rewriting| !rewriting.is_done()) {
                std::thread::sleep(Duration::from_millis(1));
            }
            store.append(&[]).unwrap();
            store.append(&[Record::WorkerIdsReserved { below: 1 }]).unwrap();
            assert_eq!(generation(dir.path()), [expected]);
        }
    }

    #[test]
    fn damaged_stages_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        store.append(&records(3)).unwrap();
        let Record::TrialTrained { trained, stages: Some(key), .. } = records(3).remove(0) else {
            unreachable!()
        };
        assert_eq!(store.stages().get(key), Some(trained.stages));
        assert_eq!(store.stages().get(StagesKey::from([7; 32])), None);
        let (_, path) = generations(&dir.path().join(FOLDER)).unwrap().remove(0);
        let mut bytes = fs::read(&path).unwrap();
        let place = bytes.windows(5).position(|of| of == b"prune").unwrap();
        bytes[place] = b'g';
        fs::write(&path, bytes).unwrap();
        // Another place is read meanwhile, so that nothing is remembered.
        store.append(&records(4)).unwrap();
        let Record::TrialTrained { stages: Some(other), .. } = records(4).remove(0) else {
            unreachable!()
        };
        assert!(store.stages().get(other).is_some());
        assert_eq!(store.stages().get(key), None);
    }
}
