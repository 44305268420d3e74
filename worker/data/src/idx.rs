//! Reads the IDX format of MNIST and similar data sets: a big-endian magic number, sizes, bytes.
//! Files may be gzipped.
//!
//! Image files have three dimensions (magic 2051: images, rows, columns) or four (magic 2052, with
//! channels second or last). Label files have one (magic 2049). Files of other kinds are refused by
//! what they are.

use std::path::Path;

use edgesmith_search_space::DataShape;

use super::error::Faults;
use super::file::{GZIP, Input, MAX_BYTES, check_labels};
use super::{DataError, ImageSet};

/// The code of unsigned bytes, the third byte of the magic number.
const UNSIGNED_BYTES: u8 = 0x08;

/// Reads the images of one file with the labels of another. The sizes in both headers are checked
/// before anything else is read.
pub(super) fn read(images: &Path, labels: &Path, data: DataShape) -> Result<ImageSet, DataError> {
    let mut faults = Faults::default();
    let image_file = faults.take(ImageFile::open(images, data));
    let label_file = faults.take(LabelFile::open(labels));
    faults.check()?;
    let (image_file, label_file) =
        image_file.zip(label_file).expect("without an error both were opened");
    if image_file.count != label_file.count {
        return Err(DataError::CountMismatch {
            images: images.to_owned(),
            image_count: image_file.count as usize,
            labels: labels.to_owned(),
            label_count: label_file.count as usize,
        });
    }
    let mut faults = Faults::default();
    let set = faults.take(image_file.read());
    let read = faults.take(label_file.read().and_then(|read| {
        check_labels(labels, &read, data.classes)?;
        Ok(read)
    }));
    faults.check()?;
    let (set, labels) = set.zip(read).expect("without an error both were read");
    Ok(ImageSet { labels, ..set })
}

/// A file of images whose header has been read.
struct ImageFile {
    input: Input,
    count: u32,
    /// Size of the images, bytes.
    bytes: u64,
    layout: Layout,
}

impl ImageFile {
    fn open(path: &Path, data: DataShape) -> Result<Self, DataError> {
        let mut input = Input::open(path)?;
        let sizes = sizes(&mut input, path, Kind::Images)?;
        let bytes = bytes_of(path, &sizes)?;
        let layout = Layout::of(path, &sizes[1..], data.channels)?;
        input.expect(bytes)?;
        Ok(Self { input, count: sizes[0], bytes, layout })
    }

    /// The images, without labels.
    fn read(mut self) -> Result<ImageSet, DataError> {
        let mut pixels = self.input.take(self.bytes)?;
        self.input.end()?;
        if self.layout.channels_last {
            pixels = self.layout.channels_first(&pixels);
        }
        let Layout { channels, height, width, .. } = self.layout;
        Ok(ImageSet { channels, height, width, pixels, labels: Vec::new() })
    }
}

/// A file of labels whose header has been read.
struct LabelFile {
    input: Input,
    count: u32,
}

impl LabelFile {
    fn open(path: &Path) -> Result<Self, DataError> {
        let mut input = Input::open(path)?;
        let count = sizes(&mut input, path, Kind::Labels)?[0];
        input.expect(u64::from(count))?;
        Ok(Self { input, count })
    }

    fn read(mut self) -> Result<Vec<u16>, DataError> {
        let labels = self.input.take(u64::from(self.count))?;
        self.input.end()?;
        Ok(labels.into_iter().map(u16::from).collect())
    }
}

/// What an IDX file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Images,
    Labels,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Images => "images",
            Kind::Labels => "labels",
        }
    }

    /// The kind of files with this number of dimensions.
    fn of(dimensions: u8) -> Option<Self> {
        match dimensions {
            1 => Some(Kind::Labels),
            3 | 4 => Some(Kind::Images),
            _ => None,
        }
    }

    /// The dimensions of such a file, in words.
    fn dimensions(self) -> &'static str {
        match self {
            Kind::Images => "3 (images, rows, columns) or 4 (with channels second or last)",
            Kind::Labels => "1 (of QMNIST's, which have 2, keep the first column)",
        }
    }
}

/// Reads the header of a file of one kind: the size of each dimension.
fn sizes(input: &mut Input, path: &Path, kind: Kind) -> Result<Vec<u32>, DataError> {
    let path = || path.to_owned();
    let expected = kind.name();
    let magic = input.take_u32()?.to_be_bytes();
    let (element, dimensions) = match magic {
        [0, 0, element, dimensions] if holds(element).is_some() => (element, dimensions),
        [_, element, 0, 0] if holds(element).is_some() => {
            return Err(DataError::ByteOrder { path: path() });
        }
        other => {
            let begins = begins(other);
            return Err(DataError::NotIdx { path: path(), expected, begins });
        }
    };
    let mut faults = Faults::default();
    match Kind::of(dimensions) {
        Some(found) if found == kind => {}
        Some(found) => {
            faults.add(DataError::Swapped { path: path(), expected, found: found.name() });
        }
        None => {
            let wanted = kind.dimensions();
            faults.add(DataError::Dimensions { path: path(), expected, dimensions, wanted });
        }
    }
    if element != UNSIGNED_BYTES {
        let holds = holds(element).expect("the type is known");
        faults.add(DataError::ElementType { path: path(), expected, holds });
    }
    faults.check()?;
    (0..dimensions).map(|_| input.take_u32()).collect()
}

/// The type of the numbers that a magic number's third byte means.
fn holds(element: u8) -> Option<&'static str> {
    match element {
        UNSIGNED_BYTES => Some("unsigned bytes"),
        0x09 => Some("signed bytes"),
        0x0b => Some("16-bit integers"),
        0x0c => Some("32-bit integers"),
        0x0d => Some("32-bit floating-point numbers"),
        0x0e => Some("64-bit floating-point numbers"),
        _ => None,
    }
}

/// What the first four bytes of a file look like.
fn begins(start: [u8; 4]) -> String {
    let like = match start {
        [b'P', b'K', 3 | 5, 4 | 6] => "a zip archive",
        [b'B', b'Z', b'h', _] => "a bzip2 file",
        [0xfd, b'7', b'z', b'X'] => "an xz file",
        [0x28, 0xb5, 0x2f, 0xfd] => "a Zstandard file",
        [a, b, ..] if [a, b] == GZIP => "a gzip file inside of others",
        [0x93, b'N', b'U', b'M'] => "a NumPy array",
        [0x89, b'P', b'N', b'G'] => "a PNG image",
        [0xff, 0xd8, 0xff, _] => "a JPEG image",
        [b'<', ..] => "a web page",
        text if text.iter().all(|byte| byte.is_ascii_graphic() || b" \t\r\n".contains(byte)) => {
            "text"
        }
        [a, b, c, d] => return format!("begins with the bytes {a:02x} {b:02x} {c:02x} {d:02x}"),
    };
    format!("begins like {like}")
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

    const LABELS: u32 = 0x801;
    const GREY_IMAGES: u32 = 0x803;
    const CHANNEL_IMAGES: u32 = 0x804;

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
        let error = read_bytes(&labels, &images, GREY).unwrap_err().to_string();
        assert_eq!(error.matches("images and labels are not swapped").count(), 2, "{error}");
        assert!(error.contains("images is an IDX file of labels, not of images"), "{error}");
        let refused = |bytes: &[u8], said: &str| {
            let error = read_bytes(&images, bytes, GREY).unwrap_err().to_string();
            assert!(error.contains("labels is not an IDX file of labels"), "{error}");
            assert!(error.contains(said) && !error.contains("swapped"), "{error}");
        };
        refused(b"label,pixel\n", "it begins like text: unpack or convert it");
        refused(b"PK\x03\x04..", "a zip archive");
        refused(b"\x93NUMPY", "a NumPy array");
        refused(&[1, 2, 3, 0xfe], "begins with the bytes 01 02 03 fe");
        refused(&idx(0x80a01, &[1], &[0]), "begins with the bytes 00 08 0a 01");
    }

    #[test]
    fn other_types_ranks_and_byte_orders_are_refused_by_name() {
        let images = idx(GREY_IMAGES, &[1, 1, 1], &[1]);
        let labels = idx(LABELS, &[1], &[0]);
        let of_images = |bytes: &[u8]| read_bytes(bytes, &labels, GREY).unwrap_err().to_string();
        let of_labels = |bytes: &[u8]| read_bytes(&images, bytes, GREY).unwrap_err().to_string();
        for (element, holds, bytes) in [
            (0x09, "signed bytes", 1),
            (0x0b, "16-bit integers", 2),
            (0x0c, "32-bit integers", 4),
            (0x0d, "32-bit floating-point numbers", 4),
            (0x0e, "64-bit floating-point numbers", 8),
        ] {
            let content = vec![0; bytes];
            for error in [
                of_images(&idx(element << 8 | 3, &[1, 1, 1], &content)),
                of_labels(&idx(element << 8 | 1, &[1], &content)),
            ] {
                assert!(error.contains(&format!("holds {holds}, but edgesmith reads")), "{error}");
                assert!(error.contains("convert its values to unsigned bytes"), "{error}");
            }
        }
        let other_order = [GREY_IMAGES, 1, 1, 1].map(u32::to_le_bytes).concat();
        let error = of_images(&[&other_order[..], &[1]].concat());
        assert!(error.contains("little-endian byte order"), "{error}");
        let error = of_images(&idx(0x802, &[1, 4], &[0; 4]));
        assert!(error.contains("has 2 dimension(s), but a file of images has 3 (im"), "{error}");
        let error = of_labels(&idx(0x802, &[1, 3], &[0; 3]));
        assert!(error.contains("has 2 dimension(s), but a file of labels has 1 (of"), "{error}");
        // QMNIST's labels: two reasons, and both are named.
        let error = of_labels(&idx(0xc02, &[1, 8], &[0; 32]));
        assert!(error.contains("2 dimension(s)") && error.contains("32-bit integers"), "{error}");
    }

    #[test]
    fn a_file_gzipped_twice_is_read() {
        let images = idx(GREY_IMAGES, &[1, 1, 2], &[5, 6]);
        let labels = gzip(&gzip(&idx(LABELS, &[1], &[0])));
        assert_eq!(read_bytes(&gzip(&gzip(&images)), &labels, GREY).unwrap().pixels, [5, 6]);
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
        // The size of a gzipped file is not known, but the number of its images is.
        let error = read_bytes(&images, &gzip(&claimed), GREY).unwrap_err();
        assert!(matches!(error, DataError::CountMismatch { .. }), "{error}");
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
            matches!(error, DataError::Label { index: 1, label: 3, classes: 3, more: 0, .. }),
            "{error}"
        );
        let error = read_bytes(&images, &idx(LABELS, &[2], &[9, 3]), GREY).unwrap_err();
        assert!(error.to_string().contains("label 9 and 1 more have such labels"), "{error}");
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
