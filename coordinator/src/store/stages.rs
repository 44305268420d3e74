//! The stages of trials, by key: what each pass of a recipe made of a network, which is shown and
//! decides nothing. They are in the sled database beside the journal, which is made from the
//! journal: whatever is missing or damaged there is written again when the journal is read.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use edgesmith_common::{StageReport, TrialValues};

use super::format;
use crate::core::{Record, StagesKey, TrialView};

const TREE: &str = "stages";

/// Stages of trials. Clones share them, and may be used from many threads.
#[derive(Debug, Clone)]
pub struct StageStore(Place);

#[derive(Debug, Clone)]
enum Place {
    Database {
        stages: ::sled::Tree,
        /// Keeps the database open.
        _db: ::sled::Db,
    },
    /// For a directory that cannot be written.
    Memory(Arc<Mutex<HashMap<StagesKey, Vec<u8>>>>),
}

impl StageStore {
    /// Stages in memory.
    pub fn in_memory() -> Self {
        Self(Place::Memory(Arc::default()))
    }

    /// Stages in a database beside a journal.
    ///
    /// # Errors
    /// If the database cannot hold them.
    pub fn in_database(db: ::sled::Db) -> ::sled::Result<Self> {
        Ok(Self(Place::Database { stages: db.open_tree(TREE)?, _db: db }))
    }

    /// Keeps the stages of a record, if it has some and they are not there, whole, already.
    pub fn note(&self, record: &Record) {
        if let Record::TrialTrained { trained, .. } = record
            && let Some(key) = StagesKey::of(&trained.stages)
            && self.get(key).is_none()
        {
            self.put(key, &trained.stages);
        }
    }

    /// Forgets all but those of `kept`.
    pub fn retain(&self, kept: &HashSet<StagesKey>) {
        match &self.0 {
            Place::Database { stages, .. } => {
                let retain = || {
                    for key in stages.iter().keys() {
                        let key = key?;
                        let known = <[u8; 32]>::try_from(&*key).map(StagesKey::from);
                        if !known.is_ok_and(|key| kept.contains(&key)) {
                            stages.remove(key)?;
                        }
                    }
                    Ok::<(), ::sled::Error>(())
                };
                let done = catch_unwind(AssertUnwindSafe(retain));
                warn_unless(matches!(done, Ok(Ok(()))), "remove the stages of deleted trials");
            }
            Place::Memory(all) => {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.retain(|key, _| kept.contains(key));
            }
        }
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

    fn put(&self, key: StagesKey, stages: &[StageReport]) {
        let Ok(bytes) = format::encode_stages(stages) else { return };
        match &self.0 {
            Place::Database { stages, .. } => {
                let put = || stages.insert(key.as_bytes(), bytes);
                let put = catch_unwind(AssertUnwindSafe(put));
                warn_unless(matches!(put, Ok(Ok(_))), "keep the stages of a trial");
            }
            Place::Memory(all) => {
                all.lock().unwrap_or_else(PoisonError::into_inner).insert(key, bytes);
            }
        }
    }

    /// The stages of a key; `None` if they are not there, or are damaged.
    fn get(&self, key: StagesKey) -> Option<Vec<StageReport>> {
        let bytes = match &self.0 {
            Place::Database { stages, .. } => {
                // sled panics at some damage.
                let found = catch_unwind(AssertUnwindSafe(|| stages.get(key.as_bytes())));
                found.ok()?.ok()??.to_vec()
            }
            Place::Memory(all) => {
                all.lock().unwrap_or_else(PoisonError::into_inner).get(&key)?.clone()
            }
        };
        let stages = format::decode_stages(&bytes).ok()?;
        (StagesKey::of(&stages) == Some(key)).then_some(stages)
    }
}

/// They can be written again from the journal, so nothing that was asked for fails with them.
fn warn_unless(done: bool, what: &str) {
    if !done {
        tracing::warn!("failed to {what} in the database; the next start tries again");
    }
}

#[cfg(test)]
mod tests {
    use edgesmith_common::{ArtifactHash, ClassCount, Figures, TrainedTrial, TrialNumber};

    use super::*;

    fn stages(right: u32) -> Vec<StageReport> {
        let classes = vec![ClassCount { images: 9, right }];
        let (pass, figures) = ("prune".to_owned(), Figures::new());
        vec![StageReport { pass, distilled: false, figures, classes }]
    }

    fn record(stages: Vec<StageReport>) -> Record {
        let hash = ArtifactHash::of(b"");
        let (compressed, uncompressed) = Default::default();
        let trained = TrainedTrial { compressed, uncompressed, model: hash, weights: hash, stages };
        let (study, number) = ("s".parse().unwrap(), TrialNumber(3));
        Record::TrialTrained { study, number, trained, measure: Vec::new() }
    }

    fn database() -> ::sled::Db {
        ::sled::Config::new().temporary(true).open().unwrap()
    }

    #[test]
    fn stages_are_found_by_their_key() {
        for store in [StageStore::in_memory(), StageStore::in_database(database()).unwrap()] {
            let keys = [3, 4].map(|right| StagesKey::of(&stages(right)).unwrap());
            assert_ne!(keys[0], keys[1]);
            store.note(&record(stages(3)));
            store.note(&record(Vec::new()));
            assert_eq!(store.get(keys[0]), Some(stages(3)));
            assert_eq!(store.get(keys[1]), None);
            store.note(&record(stages(4)));
            store.retain(&HashSet::from([keys[1]]));
            assert_eq!((store.get(keys[0]), store.get(keys[1])), (None, Some(stages(4))));
        }
    }

    #[test]
    fn damaged_stages_are_written_again() {
        let db = database();
        let store = StageStore::in_database(db.clone()).unwrap();
        let key = StagesKey::of(&stages(3)).unwrap();
        store.note(&record(stages(3)));
        let tree = db.open_tree(TREE).unwrap();
        for damaged in [format::encode_stages(&stages(4)).unwrap(), vec![255; 9]] {
            tree.insert(key.as_bytes(), damaged).unwrap();
            assert_eq!(store.get(key), None);
            store.note(&record(stages(3)));
            assert_eq!(store.get(key), Some(stages(3)));
        }
    }
}
