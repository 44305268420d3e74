//! The UCI optical digits, which are embedded in the program: 3,823 training images and 1,797 test
//! images by other writers, 8×8 grey, ten classes. `worker/data/README.md` has the licence (CC BY
//! 4.0), the citation and how the file was made.

use std::io::Read;

use edgesmith_search_space::DataShape;
use flate2::bufread::GzDecoder;

use super::{DataError, ImageSet};

/// Records of 64 values `0..=16`, row by row, and a label. Training records come first.
static DIGITS: &[u8] = include_bytes!("../digits.gz");

const TRAINING_IMAGES: usize = 3823;
const TEST_IMAGES: usize = 1797;
const SIDE: usize = 8;
const RECORD: usize = SIDE * SIDE + 1;
/// Highest value in the published file: each value counts the dark pixels of a 4×4 block.
const HIGHEST: u16 = 16;
const CLASSES: usize = 10;

/// Reads training and test images, with values scaled to bytes.
pub(super) fn read(data: DataShape) -> Result<(ImageSet, ImageSet), DataError> {
    let what = || "the embedded digits".to_owned();
    if data.channels != 1 {
        return Err(DataError::Channels { what: what(), found: 1, expected: data.channels });
    }
    if data.classes as usize != CLASSES {
        return Err(DataError::Classes { what: what(), found: CLASSES, expected: data.classes });
    }
    let records = records();
    let (train, test) = records.split_at(TRAINING_IMAGES * RECORD);
    Ok((images(train), images(test)))
}

fn records() -> Vec<u8> {
    let mut records = Vec::with_capacity((TRAINING_IMAGES + TEST_IMAGES) * RECORD);
    GzDecoder::new(DIGITS).read_to_end(&mut records).expect("the embedded file decompresses");
    records
}

fn images(records: &[u8]) -> ImageSet {
    let mut set = ImageSet {
        channels: 1,
        height: SIDE,
        width: SIDE,
        pixels: Vec::with_capacity(records.len() / RECORD * SIDE * SIDE),
        labels: Vec::with_capacity(records.len() / RECORD),
    };
    for record in records.chunks_exact(RECORD) {
        let (values, label) = record.split_at(RECORD - 1);
        set.labels.push(u16::from(label[0]));
        set.pixels.extend(values.iter().map(|&value| scaled(value)));
    }
    set
}

/// Scales `0..=16` to `0..=255`, rounded.
fn scaled(value: u8) -> u8 {
    ((u16::from(value) * 255 + HIGHEST / 2) / HIGHEST) as u8
}

#[cfg(test)]
mod tests {
    use super::super::split::count;
    use super::*;

    const SHAPE: DataShape = DataShape { channels: 1, classes: 10 };

    #[test]
    fn the_test_images_are_the_published_ones() {
        let records = records();
        assert_eq!(records.len(), (TRAINING_IMAGES + TEST_IMAGES) * RECORD);
        let test = &records[TRAINING_IMAGES * RECORD..];
        let values = test.chunks_exact(RECORD).flat_map(|record| &record[..RECORD - 1]);
        assert_eq!(values.map(|&v| u64::from(v)).sum::<u64>(), 561_718);
        // The first image, as printed in scikit-learn's documentation.
        assert_eq!(test[..16], [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]);
    }

    #[test]
    fn the_numbers_of_images_and_classes_are_as_published() {
        let (train, test) = read(SHAPE).unwrap();
        assert_eq!((train.len(), test.len()), (3823, 1797));
        assert_eq!((train.pixels.len(), test.pixels.len()), (3823 * 64, 1797 * 64));
        assert_eq!(count(&train.labels, 10), [376, 389, 380, 389, 387, 376, 377, 387, 380, 382]);
        assert_eq!(count(&test.labels, 10), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    }

    #[test]
    fn values_cover_all_bytes() {
        assert_eq!([0, 1, 8, 15, 16].map(scaled), [0, 16, 128, 239, 255]);
    }

    #[test]
    fn other_shapes_are_errors() {
        let error = read(DataShape { channels: 3, classes: 10 }).unwrap_err();
        assert!(matches!(error, DataError::Channels { found: 1, expected: 3, .. }), "{error}");
        let error = read(DataShape { channels: 1, classes: 9 }).unwrap_err();
        assert!(matches!(error, DataError::Classes { found: 10, expected: 9, .. }), "{error}");
    }
}
