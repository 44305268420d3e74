//! Reads the IDX format of MNIST and similar data sets: a big-endian magic number, sizes, bytes.
//! Files may be gzipped.
//!
//! Image files have three dimensions (magic 2051: images, rows, columns) or four (magic 2052, with
//! channels second or last). Label files have one (magic 2049).

use std::path::Path;

use edgesmith_search_space::DataShape;

use super::file::{Input, MAX_BYTES, check_labels};
use super::{DataError, ImageSet};

const LABELS: u32 = 0x801;
const GREY_IMAGES: u32 = 0x803;
const CHANNEL_IMAGES: u32 = 0x804;

/// Reads the images of one file with the labels of another.
pub(super) fn read(images: &Path, labels: &Path, data: DataShape) -> Result<ImageSet, DataError> {
    let mut set = read_images(images, data)?;
    let image_count = set.pixels.len() / set.image_bytes();
    set.labels = read_labels(labels)?;
    if set.len() != image_count {
        return Err(DataError::CountMismatch {
            images: images.to_owned(),
            image_count,
            labels: labels.to_owned(),
            label_count: set.len(),
        });
    }
    check_labels(labels, &set.labels, data.classes)?;
    Ok(set)
}

/// Reads the images of a file, without labels.
fn read_images(path: &Path, data: DataShape) -> Result<ImageSet, DataError> {
    let mut input = Input::open(path)?;
    let magic = input.take_u32()?;
    let dimensions = match magic {
        GREY_IMAGES => 3,
        CHANNEL_IMAGES => 4,
        _ => {
            return Err(DataError::WrongMagic { path: path.to_owned(), expected: "images", magic });
        }
    };
    let mut sizes = Vec::with_capacity(dimensions);
    for _ in 0..dimensions {
        sizes.push(input.take_u32()?);
    }
    let bytes = bytes_of(path, &sizes)?;
    let layout = Layout::of(path, &sizes[1..], data.channels)?;
    let mut pixels = input.take(bytes)?;
    input.end()?;
    if layout.channels_last {
        pixels = layout.channels_first(&pixels);
    }
    let Layout { channels, height, width, .. } = layout;
    Ok(ImageSet { channels, height, width, pixels, labels: Vec::new() })
}

fn read_labels(path: &Path) -> Result<Vec<u16>, DataError> {
    let mut input = Input::open(path)?;
    let magic = input.take_u32()?;
    if magic != LABELS {
        return Err(DataError::WrongMagic { path: path.to_owned(), expected: "labels", magic });
    }
    let count = input.take_u32()?;
    let labels = input.take(u64::from(count))?;
    input.end()?;
    Ok(labels.into_iter().map(u16::from).collect())
}

/// Size of the content, bytes. It must not be zero or above the limit.
fn bytes_of(path: &Path, sizes: &[u32]) -> Result<u64, DataError> {
    if sizes.contains(&0) {
        return Err(DataError::NoImages { path: path.to_owned() });
    }
    let bytes = sizes.iter().try_fold(1u64, |bytes, &size| bytes.checked_mul(u64::from(size)));
    match bytes {
        Some(bytes) if bytes <= MAX_BYTES => Ok(bytes),
        _ => Err(DataError::TooLarge {
            path: path.to_owned(),
            announced: bytes.unwrap_or(u64::MAX),
            limit: MAX_BYTES,
        }),
    }
}

/// The order of the bytes of an image.
struct Layout {
    channels: usize,
    height: usize,
    width: usize,
    channels_last: bool,
}

impl Layout {
    /// Takes the sizes after the number of images: two, or three with the channels first or last.
    fn of(path: &Path, sizes: &[u32], channels: u32) -> Result<Self, DataError> {
        let size = |i: usize| sizes[i] as usize;
        let layout = |channels, height, width, channels_last| {
            Ok(Self { channels, height, width, channels_last })
        };
        match sizes.len() {
            2 if channels == 1 => layout(1, size(0), size(1), false),
            3 if sizes[2] == channels => layout(size(2), size(0), size(1), true),
            3 if sizes[0] == channels => layout(size(0), size(1), size(2), false),
            dimensions => Err(DataError::Channels {
                what: path.display().to_string(),
                found: if dimensions == 2 { 1 } else { size(0).min(size(2)) },
                expected: channels,
            }),
        }
    }

    /// Reorders `[images][height][width][channels]` to `[images][channels][height][width]`.
    fn channels_first(&self, pixels: &[u8]) -> Vec<u8> {
        let mut planes = Vec::with_capacity(pixels.len());
        for image in pixels.chunks_exact(self.channels * self.height * self.width) {
            for channel in 0..self.channels {
                planes.extend(image.iter().skip(channel).step_by(self.channels));
            }
        }
        planes
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::file::gzip;
    use super::*;

    const GREY: DataShape = DataShape { channels: 1, classes: 3 };
    const COLOUR: DataShape = DataShape { channels: 3, classes: 3 };

    /// The bytes of an IDX file.
    fn idx(magic: u32, sizes: &[u32], content: &[u8]) -> Vec<u8> {
        let mut bytes = magic.to_be_bytes().to_vec();
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(content);
        bytes
    }

    fn read_bytes(images: &[u8], labels: &[u8], data: DataShape) -> Result<ImageSet, DataError> {
        let directory = tempfile::tempdir().unwrap();
        let (x, y) = (directory.path().join("images"), directory.path().join("labels"));
        fs::write(&x, images).unwrap();
        fs::write(&y, labels).unwrap();
        read(&x, &y, data)
    }

    #[test]
    fn images_of_plain_and_gzipped_files_are_read() {
        let images = idx(GREY_IMAGES, &[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let labels = idx(LABELS, &[2], &[2, 0]);
        let plain = read_bytes(&images, &labels, GREY).unwrap();
        assert_eq!((plain.channels, plain.height, plain.width), (1, 2, 3));
        assert_eq!(plain.image(1), [7, 8, 9, 10, 11, 12]);
        assert_eq!(plain.labels, [2, 0]);
        assert_eq!(read_bytes(&gzip(&images), &labels, GREY).unwrap(), plain);
        assert_eq!(read_bytes(&gzip(&images), &gzip(&labels), GREY).unwrap(), plain);
    }

    #[test]
    fn channels_may_be_first_or_last() {
        let labels = idx(LABELS, &[1], &[1]);
        let first = idx(CHANNEL_IMAGES, &[1, 3, 1, 2], &[1, 2, 3, 4, 5, 6]);
        let last = idx(CHANNEL_IMAGES, &[1, 1, 2, 3], &[1, 3, 5, 2, 4, 6]);
        let set = read_bytes(&first, &labels, COLOUR).unwrap();
        assert_eq!((set.channels, set.height, set.width), (3, 1, 2));
        assert_eq!(set.pixels, [1, 2, 3, 4, 5, 6]);
        assert_eq!(read_bytes(&last, &labels, COLOUR).unwrap(), set);
    }

    #[test]
    fn swapped_and_foreign_files_are_errors() {
        let images = idx(GREY_IMAGES, &[1, 1, 1], &[1]);
        let labels = idx(LABELS, &[1], &[0]);
        let error = read_bytes(&labels, &images, GREY).unwrap_err();
        assert!(
            matches!(error, DataError::WrongMagic { expected: "images", magic: LABELS, .. }),
            "{error}"
        );
        let error = read_bytes(&images, b"label,pixel\n", GREY).unwrap_err();
        assert!(matches!(error, DataError::WrongMagic { expected: "labels", .. }), "{error}");
        assert!(error.to_string().contains("labels"), "{error}");
    }

    #[test]
    fn truncated_and_overlong_files_are_errors() {
        let images = idx(GREY_IMAGES, &[2, 1, 2], &[1, 2, 3, 4]);
        let labels = idx(LABELS, &[2], &[0, 1]);
        read_bytes(&images, &labels, GREY).unwrap();
        for length in 0..images.len() {
            let error = read_bytes(&images[..length], &labels, GREY).unwrap_err();
            assert!(matches!(error, DataError::Truncated { .. }), "{length}: {error}");
        }
        for length in 0..labels.len() {
            let error = read_bytes(&images, &labels[..length], GREY).unwrap_err();
            assert!(matches!(error, DataError::Truncated { .. }), "{length}: {error}");
        }
        let long = [images, vec![0]].concat();
        let error = read_bytes(&long, &labels, GREY).unwrap_err();
        assert!(matches!(error, DataError::TrailingBytes { expected: 20, .. }), "{error}");
    }

    #[test]
    fn wrong_sizes_in_headers_are_errors_without_allocation() {
        let labels = idx(LABELS, &[1], &[0]);
        for sizes in [[u32::MAX; 3], [u32::MAX, 28, 28]] {
            let error = read_bytes(&idx(GREY_IMAGES, &sizes, &[1]), &labels, GREY).unwrap_err();
            assert!(matches!(error, DataError::TooLarge { .. }), "{error}");
        }
        let claimed = idx(GREY_IMAGES, &[4_000_000, 32, 32], &[1]);
        let error = read_bytes(&claimed, &labels, GREY).unwrap_err();
        assert!(matches!(error, DataError::Truncated { .. }), "{error}");
        let claimed = idx(LABELS, &[u32::MAX], &[0]);
        let images = idx(GREY_IMAGES, &[1, 1, 1], &[1]);
        let error = read_bytes(&images, &claimed, GREY).unwrap_err();
        assert!(matches!(error, DataError::Truncated { .. }), "{error}");
        for sizes in [[0, 2, 2], [2, 0, 2], [2, 2, 0]] {
            let error = read_bytes(&idx(GREY_IMAGES, &sizes, &[]), &labels, GREY).unwrap_err();
            assert!(matches!(error, DataError::NoImages { .. }), "{error}");
        }
    }

    #[test]
    fn images_labels_and_study_must_agree() {
        let images = idx(GREY_IMAGES, &[2, 1, 1], &[1, 2]);
        let error = read_bytes(&images, &idx(LABELS, &[3], &[0, 1, 2]), GREY).unwrap_err();
        assert!(
            matches!(error, DataError::CountMismatch { image_count: 2, label_count: 3, .. }),
            "{error}"
        );
        let error = read_bytes(&images, &idx(LABELS, &[2], &[0, 3]), GREY).unwrap_err();
        assert!(
            matches!(error, DataError::Label { index: 1, label: 3, classes: 3, .. }),
            "{error}"
        );
        let labels = idx(LABELS, &[2], &[0, 1]);
        let error = read_bytes(&images, &labels, COLOUR).unwrap_err();
        assert!(matches!(error, DataError::Channels { found: 1, expected: 3, .. }), "{error}");
        let colour = idx(CHANNEL_IMAGES, &[2, 1, 1, 3], &[0; 6]);
        read_bytes(&colour, &labels, COLOUR).unwrap();
        let two = idx(CHANNEL_IMAGES, &[2, 4, 4, 2], &[0; 64]);
        let error = read_bytes(&two, &labels, COLOUR).unwrap_err();
        assert!(matches!(error, DataError::Channels { found: 2, expected: 3, .. }), "{error}");
    }
}
