//! What the tasks of a study share: its decoded images and the teacher's soft targets, which are
//! cached.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use edgesmith_common::spec::{DataSource, DataSpec, Pixels};
use edgesmith_common::{ArtifactHash, AttemptError, Seed};
use edgesmith_data::{DataError, Dataset, Logits, Normalization};
use edgesmith_search_space::DataShape;
use edgesmith_train::{SoftTargets, SoftTargetsError};

use crate::lru::Lru;

/// What a decoded data set depends on: the study and the current state of its files.
#[derive(Debug, PartialEq)]
pub struct DataKey {
    spec: DataSpec,
    shape: DataShape,
    pixels: Option<Pixels>,
    seed: Seed,
    files: Vec<FileState>,
}

impl DataKey {
    /// About the number of bytes that the data set will have in memory.
    fn about(&self) -> u64 {
        let of_files = || self.files.iter().map(|(_, bytes, _)| bytes).sum();
        match &self.spec.source {
            DataSource::Digits => 0,
            DataSource::Idx { .. } | DataSource::Cifar10 { .. } => of_files(),
            DataSource::ImageFolder { side, .. } => {
                let image = u64::from(*side).pow(2) * u64::from(self.shape.channels);
                image.saturating_mul(self.files.len() as u64)
            }
        }
    }
}

/// A file's path, size in bytes and modification time.
type FileState = (PathBuf, u64, Option<SystemTime>);

/// A data set, and its hash as in [`DataReport`](edgesmith_common::DataReport).
#[derive(Debug)]
pub struct Data {
    pub set: Dataset,
    pub hash: ArtifactHash,
}

/// The data set that a study trains on. Networks read its pixels as `pixels` says, or else
/// normalised by its own mean and standard deviation.
///
/// # Errors
/// When its files cannot be read or do not fit the study.
pub fn dataset(
    cache: &Lru<DataKey, Data>,
    spec: &DataSpec,
    shape: DataShape,
    pixels: Option<&Pixels>,
    seed: Seed,
    root: &Path,
) -> Result<Arc<Data>, DataError> {
    let (mut files, mut visited) = (Vec::new(), HashSet::new());
    for path in spec.source.paths() {
        list(&root.join(path), &mut files, &mut visited);
    }
    let pixels = pixels.cloned();
    let key = DataKey { spec: spec.clone(), shape, pixels: pixels.clone(), seed, files };
    let about = key.about();
    cache.get(key, about, || {
        let (mut set, hash) = Dataset::load_with_hash(spec, shape, seed, root)?;
        if let Some(pixels) = pixels {
            set.normalization = normalization(&pixels);
        }
        let bytes = set.bytes();
        Ok((Data { set, hash }, bytes))
    })
}

/// How a network from a file reads pixels, as it is computed.
pub fn normalization(pixels: &Pixels) -> Normalization {
    let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
    Normalization { mean: single(&pixels.mean), std: single(&pixels.std) }
}

/// Lists the files at and below a path, sorted. A file whose metadata cannot be read is left out;
/// reading the data will report the reason. A directory that was visited before is left out, as
/// links may lead back to it.
fn list(path: &Path, files: &mut Vec<FileState>, visited: &mut HashSet<PathBuf>) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if !metadata.is_dir() {
        files.push((path.to_owned(), metadata.len(), metadata.modified().ok()));
        return;
    }
    let Ok(real) = std::fs::canonicalize(path) else { return };
    if !visited.insert(real) {
        return;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    for path in paths {
        list(&path, files, visited);
    }
}

/// The soft targets in an artifact, read once.
///
/// # Errors
/// When the artifact cannot be fetched or decoded.
pub fn soft_targets(
    cache: &Lru<ArtifactHash, SoftTargets>,
    hash: ArtifactHash,
    fetch: impl FnOnce() -> Result<Arc<Vec<u8>>, AttemptError>,
) -> Result<Arc<SoftTargets>, AttemptError> {
    cache.get(hash, 0, || {
        // A worker of another version may have written them, so another worker may be able to read
        // them.
        let unreadable = |error: SoftTargetsError| AttemptError::retryable(error.to_string());
        let targets = SoftTargets::from_bytes(&fetch()?).map_err(unreadable)?;
        let features = targets.features.as_ref().map_or(0, |features| features.numbers.len());
        let bytes = (size_of::<f32>() * (targets.logits.len() + features)) as u64;
        Ok((targets, bytes))
    })
}

/// The logits that the user gave, of the images that `data` trains on, read once.
///
/// # Errors
/// When the artifact cannot be fetched, or the file does not fit the data.
pub fn given_logits(
    cache: &Lru<ArtifactHash, SoftTargets>,
    hash: ArtifactHash,
    path: &str,
    data: &Dataset,
    fetch: impl FnOnce() -> Result<Arc<Vec<u8>>, AttemptError>,
) -> Result<Arc<SoftTargets>, AttemptError> {
    let images = data.train.hash();
    // Another study may train on other images of the same source.
    cache.get(ArtifactHash::of_parts(&[hash, images]), 0, || {
        let read = |bytes: &[u8]| Logits::read(bytes, data.classes)?.of_training(data);
        let logits = read(&fetch()?).map_err(|error| {
            AttemptError::of_data(format!("failed to use the logits in {path}: {error}"))
        })?;
        let bytes = size_of_val(logits.as_slice()) as u64;
        let (images, of) = (data.train.len(), images);
        let classes = data.classes;
        let given = SoftTargets { data: of, views: None, images, classes, logits, features: None };
        Ok((given, bytes))
    })
}

#[cfg(test)]
mod tests {
    use edgesmith_common::spec::DataSource;

    use super::*;

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
        let cache = Lru::new(1 << 20);
        let shape = DataShape { channels: 1, classes: 2 };
        let read = || dataset(&cache, &spec, shape, None, Seed(1), directory.path()).unwrap();
        let first = read();
        assert!(Arc::ptr_eq(&first, &read()), "read once");
        write("data/bee/20.png", 200);
        let second = read();
        assert!(!Arc::ptr_eq(&first, &second) && first.hash != second.hash);
        let images =
            |Data { set, .. }: &Data| set.train.len() + set.validation.len() + set.test.len();
        assert_eq!(images(&second), images(&first) + 1);
    }

    #[test]
    fn studies_that_alternate_read_their_data_once() {
        let cache = Lru::new(1 << 30);
        let spec = |limit| DataSpec {
            source: DataSource::Digits,
            validation_fraction: 0.2,
            train_limit: Some(limit),
            test_limit: None,
        };
        let shape = DataShape { channels: 1, classes: 10 };
        let read =
            |limit| dataset(&cache, &spec(limit), shape, None, Seed(1), Path::new("")).unwrap();
        let [first, second] = [read(100), read(200)];
        for _ in 0..3 {
            assert!(Arc::ptr_eq(&first, &read(100)) && Arc::ptr_eq(&second, &read(200)));
        }
        // Nobody holds them any more, but they are still there.
        let [first, second] = [first, second].map(|data| Arc::downgrade(&data));
        assert!(first.upgrade().is_some() && second.upgrade().is_some());

        let soft = Lru::new(1 << 20);
        let targets = |class: f32| SoftTargets {
            data: ArtifactHash::of(b"images"),
            views: Some(1),
            images: 1,
            classes: 2,
            logits: vec![class; 2],
            features: None,
        };
        let files = [1.0, 2.0].map(|class| Arc::new(targets(class).to_bytes()));
        let mut fetched = 0;
        for file in [&files[0], &files[1], &files[0], &files[1]] {
            let fetch = || {
                fetched += 1;
                Ok(Arc::clone(file))
            };
            soft_targets(&soft, ArtifactHash::of(file), fetch).unwrap();
        }
        assert_eq!(fetched, 2);
    }

    #[cfg(unix)]
    #[test]
    fn a_loop_of_links_is_listed_once() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d"] {
            std::os::unix::fs::symlink(directory.path(), directory.path().join(name)).unwrap();
        }
        std::fs::write(directory.path().join("file"), "x").unwrap();
        let mut files = Vec::new();
        list(directory.path(), &mut files, &mut HashSet::new());
        assert_eq!(files.len(), 1);
    }
}
