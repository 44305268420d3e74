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

/// Stages of trials. Clones share them, and may be used from many threads.
#[derive(Debug, Clone, Default)]
pub struct StageStore(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The file that `places` are in; `None` if there is no journal.
    entries: Option<SingleEntries>,
    places: Places,
    /// Those that are in no journal.
    in_memory: HashMap<StagesKey, Vec<StageReport>>,
    /// The entry that was read last, and all that it has: the next question is often about the next
    /// trial.
    last: Option<(u64, HashMap<StagesKey, Vec<StageReport>>)>,
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
        let mut known = self.known();
        (known.entries, known.places, known.last) = (Some(entries), places, None);
    }

    /// Fills in the stages of a trial, which the core does not have.
    pub fn fill(&self, trial: &mut TrialView) {
        if let Some(key) = trial.stages
            && let Some(TrialValues::Trained { trained, .. }) = &mut trial.values
            && let Some(stages) = self.get(key)
        {
            Arc::make_mut(trained).stages = stages;
        }
    }

    /// The stages of a key; `None` if they are not known, or are damaged.
    pub fn get(&self, key: StagesKey) -> Option<Vec<StageReport>> {
        let mut known = self.known();
        if let Some(stages) = known.in_memory.get(&key) {
            return Some(stages.clone());
        }
        let offset = *known.places.0.get(&short(key))?;
        if known.last.as_ref().is_none_or(|(last, _)| *last != offset) {
            let (layout, payload) = known.entries.as_ref()?.read(offset).ok()?;
            let records = format::Decoder::default().decode(layout, &payload).ok()?;
            let stages = records.into_iter().filter_map(|record| match record {
                Record::TrialTrained { stages: Some(key), trained, .. } => {
                    Some((key, trained.stages))
                }
                _ => None,
            });
            known.last = Some((offset, stages.collect()));
        }
        let (_, stages) = known.last.as_ref()?;
        let found = stages.get(&key)?.clone();
        (StagesKey::of(&found) == Some(key)).then_some(found)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
