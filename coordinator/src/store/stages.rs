//! The stages of trials, by key: what each pass of a recipe made of a network, which is shown and
//! decides nothing. They stay in the journal. This knows in which of its entries they are, and
//! reads them there when they are asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use edgesmith_common::{StageReport, TrialValues};

use super::format;
use super::journal::SingleEntries;
use crate::core::{Record, StagesKey, TrialView};

/// Where the stages of trials are in a journal.
#[derive(Debug, Default)]
pub struct Places(HashMap<u64, u64>);

impl Places {
    /// Takes in the records of the entry that begins at `offset`.
    pub fn note(&mut self, offset: u64, records: &[Record]) {
        for record in records {
            if let Record::TrialTrained { stages: Some(key), .. } = record {
                self.0.insert(short(*key), offset);
            }
        }
    }
}

/// The beginning of a key. Should two have the same one, only the later stages are found.
fn short(key: StagesKey) -> u64 {
    key.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Stages of trials. Clones share them, and may be used from many threads. What is read from the
/// disk holds up only those who ask for it: neither other readers nor the core's thread.
#[derive(Debug, Clone, Default)]
pub struct StageStore(Arc<Mutex<Known>>);

/// The stages of an entry.
type Stages = HashMap<StagesKey, Vec<StageReport>>;

/// Reads entries of a file.
trait ReadEntry: std::fmt::Debug + Send + Sync {
    /// The records of the entry that begins at `offset`; `None` if it is damaged or unreadable.
    fn records(&self, offset: u64) -> Option<Vec<Record>>;
}

impl ReadEntry for SingleEntries {
    fn records(&self, offset: u64) -> Option<Vec<Record>> {
        let (layout, payload) = self.read(offset).ok()?;
        format::Decoder::default().decode(layout, &payload).ok()
    }
}

#[derive(Debug, Default)]
struct Known {
    /// The file that `places` are in; `None` if there is no journal.
    entries: Option<Arc<dyn ReadEntry>>,
    places: Places,
    /// Those that are in no journal.
    in_memory: Stages,
    /// The entry that was read last, and all that it has: the next question is often about the next
    /// trial.
    last: Option<(u64, Arc<Stages>)>,
}

impl StageStore {
    /// Keeps the stages of records that are in no journal in memory.
    pub fn keep(&self, record: &Record) {
        if let Record::TrialTrained { trained, stages: Some(key), .. } = record {
            self.known().in_memory.insert(*key, trained.stages.clone());
        }
    }

    /// Takes in the records of the entry that begins at `offset`.
    pub fn note(&self, offset: u64, records: &[Record]) {
        self.known().places.note(offset, records);
    }

    /// Reads from this file from now on, in which they have these places.
    pub fn read_from(&self, entries: SingleEntries, places: Places) {
        self.read_with(Arc::new(entries), places);
    }

    /// They have these places from now on, in a file that cannot be read yet.
    pub fn wait_for(&self, places: Places) {
        let mut known = self.known();
        (known.entries, known.places, known.last) = (None, places, None);
    }

    /// Reads from this file from now on, for which it waited.
    pub fn go_on(&self, entries: SingleEntries) {
        self.known().entries = Some(Arc::new(entries));
    }

    fn read_with(&self, entries: Arc<dyn ReadEntry>, places: Places) {
        let mut known = self.known();
        (known.entries, known.places, known.last) = (Some(entries), places, None);
    }

    /// Fills in the stages of a trial, which the core does not have. May read the disk.
    pub fn fill(&self, trial: &mut TrialView) {
        if let Some(key) = trial.stages
            && let Some(TrialValues::Trained { trained, .. }) = &mut trial.values
            && let Some(stages) = self.get(key)
        {
            Arc::make_mut(trained).stages = stages;
        }
    }

    /// The stages of a key; `None` if they are not known, or are damaged. May read the disk.
    pub fn get(&self, key: StagesKey) -> Option<Vec<StageReport>> {
        let known = self.known();
        if let Some(stages) = known.in_memory.get(&key) {
            return Some(stages.clone());
        }
        let offset = *known.places.0.get(&short(key))?;
        let last = known.last.as_ref().filter(|(last, _)| *last == offset);
        let stages = match last {
            Some((_, stages)) => Arc::clone(stages),
            None => {
                let entries = Arc::clone(known.entries.as_ref()?);
                // The core's thread needs it for every append.
                drop(known);
                let stages = Arc::new(stages_of(entries.records(offset)?));
                let mut known = self.known();
                // Another file may have taken its place meanwhile, with other places.
                if known.entries.as_ref().is_some_and(|now| Arc::ptr_eq(now, &entries)) {
                    known.last = Some((offset, Arc::clone(&stages)));
                }
                stages
            }
        };
        let found = stages.get(&key)?.clone();
        (StagesKey::of(&found) == Some(key)).then_some(found)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stages_of(records: Vec<Record>) -> Stages {
    let stages = records.into_iter().filter_map(|record| match record {
        Record::TrialTrained { stages: Some(key), trained, .. } => Some((key, trained.stages)),
        _ => None,
    });
    stages.collect()
}

#[cfg(test)]
pub mod tests {
    //! Readers of a disk that is slow, for other tests as well.

    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::ThreadId;
    use std::time::Duration;

    use edgesmith_common::{ArtifactHash, Figures, TrainedTrial, TrialNumber};

    use super::*;

    /// Long enough for a busy machine, and short enough for a test that fails.
    const LONG: Duration = Duration::from_secs(10);

    /// A file with one entry, whose reads end when the test wants.
    #[derive(Debug)]
    pub struct Slow {
        record: Record,
        begun: Sender<ThreadId>,
        go_on: Mutex<Receiver<()>>,
    }

    impl ReadEntry for Slow {
        fn records(&self, _: u64) -> Option<Vec<Record>> {
            self.begun.send(std::thread::current().id()).unwrap();
            let go_on = self.go_on.lock().unwrap();
            go_on.recv_timeout(2 * LONG).ok().map(|()| vec![self.record.clone()])
        }
    }

    /// Stages that are read from a slow file, in which `record` is; which threads begin to read it,
    /// and what lets them go on.
    pub fn slow(record: Record) -> (StageStore, Receiver<ThreadId>, Sender<()>) {
        let stages = StageStore::default();
        let (begun, go_on) = read_slowly(&stages, record);
        (stages, begun, go_on)
    }

    fn read_slowly(stages: &StageStore, record: Record) -> (Receiver<ThreadId>, Sender<()>) {
        let ((begun, begins), (goes_on, go_on)) = (channel(), channel());
        let mut places = Places::default();
        places.note(7, std::slice::from_ref(&record));
        let go_on = Mutex::new(go_on);
        stages.read_with(Arc::new(Slow { record, begun, go_on }), places);
        (begins, goes_on)
    }

    /// A record of a training, and the key of its stages.
    pub fn record(pass: &str) -> (Record, StagesKey) {
        let (pass, figures) = (pass.to_owned(), Figures::new());
        let stage = StageReport { pass, distilled: false, figures, classes: Vec::new() };
        let (model, weights) = (ArtifactHash::of(b"model"), ArtifactHash::of(b"weights"));
        let (compressed, uncompressed, stages) = (Figures::new(), Figures::new(), vec![stage]);
        let key = StagesKey::of(&stages).unwrap();
        let trained = TrainedTrial { compressed, uncompressed, model, weights, stages };
        let (study, number) = ("s".parse().unwrap(), TrialNumber(0));
        let (stages, measure) = (Some(key), Vec::new());
        (Record::TrialTrained { study, number, trained, stages, measure }, key)
    }

    /// Does `work` in a thread of its own, and says when it is over.
    fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (done, is_done) = channel();
        std::thread::spawn(move || done.send(work()));
        is_done
    }

    #[test]
    fn a_slow_disk_holds_up_only_those_who_ask_for_what_is_on_it() {
        let ((on_disk, key), (in_memory, other)) = (record("prune"), record("fold"));
        let (stages, begun, go_on) = slow(on_disk);
        stages.keep(&in_memory);
        let reader = stages.clone();
        let read = aside(move || reader.get(key));
        begun.recv_timeout(LONG).unwrap();
        let (others, record) = (stages.clone(), record("quantize").0);
        let not_held_up = aside(move || {
            others.note(9, &[record]);
            others.get(other)
        });
        let found = not_held_up.recv_timeout(LONG).expect("an answer while another one reads");
        assert_eq!(found.unwrap()[0].pass, "fold");
        go_on.send(()).unwrap();
        assert_eq!(read.recv_timeout(LONG).unwrap().unwrap()[0].pass, "prune");
        // It is remembered, so it is not read again.
        assert_eq!(stages.get(key).unwrap()[0].pass, "prune");
        assert!(begun.try_recv().is_err());
    }

    #[test]
    fn what_is_read_while_another_file_takes_its_place_is_not_taken_for_that_of_the_new_one() {
        let ((old, key), (new, other)) = (record("prune"), record("fold"));
        let (stages, begun, go_on) = slow(old);
        let reader = stages.clone();
        let read = aside(move || reader.get(key));
        begun.recv_timeout(LONG).unwrap();
        let (_begun, go_on_there) = read_slowly(&stages, new);
        go_on.send(()).unwrap();
        assert_eq!(read.recv_timeout(LONG).unwrap().unwrap()[0].pass, "prune");
        go_on_there.send(()).unwrap();
        assert_eq!(stages.get(other).unwrap()[0].pass, "fold");
    }
}
