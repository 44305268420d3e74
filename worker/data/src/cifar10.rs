//! Reads CIFAR-10's binary format: records of a label and 32×32 red, green and blue values, in
//! five training batches and a test batch. Batches may be gzipped.

use std::path::Path;

use edgesmith_search_space::DataShape;

use super::error::Faults;
use super::file::{Input, check_labels};
use super::{DataError, ImageSet};

const TRAINING: [&str; 5] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
];
const TEST: &str = "test_batch.bin";
const CHANNELS: usize = 3;
const SIDE: usize = 32;
const RECORD: usize = 1 + CHANNELS * SIDE * SIDE;
const CLASSES: usize = 10;
/// The names of the classes, in the order of their labels.
pub(super) const NAMES: [&str; CLASSES] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Reads training and test images from a directory with the six batches.
pub(super) fn read(directory: &Path, data: DataShape) -> Result<(ImageSet, ImageSet), DataError> {
    let what = || "CIFAR-10".to_owned();
    if data.channels as usize != CHANNELS {
        return Err(DataError::Channels { what: what(), found: CHANNELS, expected: data.channels });
    }
    if data.classes as usize != CLASSES {
        return Err(DataError::Classes { what: what(), found: CLASSES, expected: data.classes });
    }
    if !directory.exists() {
        return Err(DataError::Missing { path: directory.to_owned() });
    }
    let mut train = ImageSet {
        channels: CHANNELS,
        height: SIDE,
        width: SIDE,
        pixels: Vec::new(),
        labels: Vec::new(),
    };
    let mut test = train.clone();
    let mut faults = Faults::default();
    for name in TRAINING {
        faults.take(append(&directory.join(name), &mut train));
    }
    faults.take(append(&directory.join(TEST), &mut test));
    faults.check()?;
    Ok((train, test))
}

fn append(path: &Path, set: &mut ImageSet) -> Result<(), DataError> {
    let bytes = Input::open(path)?.take_rest()?;
    if bytes.is_empty() {
        return Err(DataError::NoImages { path: path.to_owned() });
    }
    if bytes.len() % RECORD != 0 {
        let expected = bytes.len().next_multiple_of(RECORD) as u64;
        return Err(DataError::Truncated { path: path.to_owned(), expected });
    }
    let first = set.len();
    for record in bytes.chunks_exact(RECORD) {
        set.labels.push(u16::from(record[0]));
        set.pixels.extend_from_slice(&record[1..]);
    }
    check_labels(path, &set.labels[first..], CLASSES as u32)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::file::gzip;
    use super::*;

    const SHAPE: DataShape = DataShape { channels: 3, classes: 10 };

    fn record(label: u8) -> Vec<u8> {
        let mut record = vec![label];
        for colour in [10, 20, 30] {
            record.extend([colour + label; SIDE * SIDE]);
        }
        record
    }

    /// Batches of two images each: 0 1, 2 3, …; the test batch has label 7.
    fn written() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (i, name) in TRAINING.iter().enumerate() {
            let i = i as u8;
            let bytes = [record(2 * i), record(2 * i + 1)].concat();
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        fs::write(directory.path().join(TEST), record(7)).unwrap();
        directory
    }

    #[test]
    fn batches_are_read_in_order() {
        let directory = written();
        let (train, test) = read(directory.path(), SHAPE).unwrap();
        assert_eq!(train.labels, (0..10).collect::<Vec<_>>());
        assert_eq!((train.channels, train.height, train.width), (3, 32, 32));
        assert_eq!(train.image(4), &record(4)[1..]);
        assert_eq!((test.labels.as_slice(), test.pixels.as_slice()), (&[7][..], &record(7)[1..]));

        fs::write(directory.path().join(TEST), gzip(&record(7))).unwrap();
        assert_eq!(read(directory.path(), SHAPE).unwrap().1, test);
    }

    #[test]
    fn a_missing_truncated_or_foreign_batch_is_an_error() {
        let directory = written();
        let batch = directory.path().join("data_batch_3.bin");
        let failure = || read(directory.path(), SHAPE).unwrap_err();

        fs::write(&batch, &record(1)[..3000]).unwrap();
        assert!(matches!(failure(), DataError::Truncated { expected: 3073, .. }));
        fs::write(&batch, []).unwrap();
        assert!(matches!(failure(), DataError::NoImages { .. }));
        fs::write(&batch, [record(0), record(10)].concat()).unwrap();
        assert!(matches!(failure(), DataError::Label { index: 1, label: 10, .. }));
        fs::write(directory.path().join(TEST), record(11)).unwrap();
        assert!(matches!(failure(), DataError::Several { faults, more: 0 } if faults.len() == 2));
        fs::write(directory.path().join(TEST), record(1)).unwrap();
        fs::remove_file(&batch).unwrap();
        let error = failure();
        assert!(matches!(error, DataError::Missing { .. }));
        assert!(error.to_string().contains("data_batch_3.bin"), "{error}");
    }

    #[test]
    fn other_shapes_are_errors() {
        let directory = written();
        let error = read(directory.path(), DataShape { channels: 1, classes: 10 }).unwrap_err();
        assert!(matches!(error, DataError::Channels { found: 3, expected: 1, .. }), "{error}");
        let error = read(directory.path(), DataShape { channels: 3, classes: 100 }).unwrap_err();
        assert!(matches!(error, DataError::Classes { found: 10, expected: 100, .. }), "{error}");
    }
}
