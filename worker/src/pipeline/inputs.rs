//! Caches what the tasks of one study share: its decoded images and the teacher's soft targets.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use edgesmith_common::spec::DataSpec;
use edgesmith_common::{ArtifactHash, Seed};
use edgesmith_search_space::DataShape;

use crate::data::{DataError, Dataset};
use crate::train::{SoftTargets, SoftTargetsError};

/// A cache of one value, which is kept until another key is requested. One is enough because
/// studies usually run one at a time, and data sets and soft targets are large.
#[derive(Debug)]
pub struct Latest<K, V>(Mutex<Option<(K, Arc<V>)>>);

impl<K: PartialEq, V> Latest<K, V> {
    /// The value of `key`. `make` computes it unless it is the cached one.
    pub fn get<E>(&self, key: K, make: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, value)) = &*slot
            && *known == key
        {
            return Ok(Arc::clone(value));
        }
        // Drop the old value first, because both may not fit into memory.
        *slot = None;
        let value = Arc::new(make()?);
        *slot = Some((key, Arc::clone(&value)));
        Ok(value)
    }
}

impl<K, V> Default for Latest<K, V> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

/// What a decoded data set depends on: the study and the current state of its files.
#[derive(Debug, PartialEq)]
pub struct DataKey {
    spec: DataSpec,
    shape: DataShape,
    seed: Seed,
    files: Vec<FileState>,
}

/// A file's path, size in bytes and modification time.
type FileState = (PathBuf, u64, Option<SystemTime>);

/// The data set that a study trains on.
///
/// # Errors
/// When its files cannot be read. Another worker may have them.
pub fn dataset(
    cache: &Latest<DataKey, Dataset>,
    spec: &DataSpec,
    shape: DataShape,
    seed: Seed,
    root: &Path,
) -> Result<Arc<Dataset>, DataError> {
    let mut files = Vec::new();
    for path in spec.source.paths() {
        list(&root.join(path), &mut files);
    }
    let key = DataKey { spec: spec.clone(), shape, seed, files };
    cache.get(key, || Dataset::load(spec, shape, seed, root))
}

/// Lists the files at and below a path, sorted. A file whose metadata cannot be read is left out;
/// reading the data will report the reason.
fn list(path: &Path, files: &mut Vec<FileState>) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if !metadata.is_dir() {
        files.push((path.to_owned(), metadata.len(), metadata.modified().ok()));
        return;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    for path in paths {
        list(&path, files);
    }
}

/// The soft targets in an artifact, read once.
///
/// # Errors
/// When the artifact cannot be fetched or decoded.
pub fn soft_targets<E: From<SoftTargetsError>>(
    cache: &Latest<ArtifactHash, SoftTargets>,
    hash: ArtifactHash,
    fetch: impl FnOnce() -> Result<Arc<Vec<u8>>, E>,
) -> Result<Arc<SoftTargets>, E> {
    cache.get(hash, || Ok(SoftTargets::from_bytes(&fetch()?)?))
}

#[cfg(test)]
mod tests {
    use edgesmith_common::spec::DataSource;

    use super::*;

    #[test]
    fn the_latest_value_is_kept_and_a_failure_clears_it() {
        let latest = Latest::default();
        let get = |key: u8, value: Result<u8, ()>| latest.get(key, || value).map(|v| *v);
        assert_eq!(get(1, Ok(10)), Ok(10));
        assert_eq!(get(1, Err(())), Ok(10));
        assert_eq!(get(2, Err(())), Err(()));
        assert_eq!(get(1, Ok(11)), Ok(11));
    }

    #[test]
    fn changed_images_are_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, value: u8| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::GrayImage::from_pixel(2, 2, image::Luma([value])).save(path).unwrap();
        };
        for i in 0..20 {
            write(&format!("data/ape/{i:02}.png"), i);
            write(&format!("data/bee/{i:02}.png"), 100 + i);
        }
        let spec = DataSpec {
            source: DataSource::ImageFolder { train: "data".to_owned(), test: None, side: 2 },
            validation_fraction: 0.2,
            train_limit: None,
            test_limit: None,
        };
        let cache = Latest::default();
        let shape = DataShape { channels: 1, classes: 2 };
        let read = || dataset(&cache, &spec, shape, Seed(1), directory.path()).unwrap();
        let first = read();
        assert!(Arc::ptr_eq(&first, &read()), "read once");
        write("data/bee/20.png", 200);
        let second = read();
        assert!(!Arc::ptr_eq(&first, &second));
        let images = |data: &Dataset| data.train.len() + data.validation.len() + data.test.len();
        assert_eq!(images(&second), images(&first) + 1);
    }
}
