//! Errors of reading a study's images.

use std::io;
use std::path::PathBuf;

/// Why a study's images cannot be loaded. Each message names the file and how to fix it, and is
/// written to follow "failed to load the study's images: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A path does not exist.
    #[error(
        "{} does not exist: put it there, or correct its path in the study (relative paths start \
         at the worker's --data-root)",
        path.display()
    )]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The operating system reported an error.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A gzipped file cannot be decompressed.
    #[error(
        "{} is damaged or truncated, its gzip data do not decompress ({source}): download it again",
        path.display()
    )]
    Gzip {
        /// The file.
        path: PathBuf,
        /// The error of the decompressor.
        source: io::Error,
    },
    /// A file ends too early.
    #[error(
        "{} is truncated, it ends before byte {expected} of its decompressed content: download it \
         again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Smallest valid size, bytes.
        expected: u64,
    },
    /// A file has bytes after the content that its header announces.
    #[error(
        "{} has more bytes than the {expected} that its header announces: download it again",
        path.display()
    )]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// Valid size, bytes.
        expected: u64,
    },
    /// The content of a file is larger than supported, or its header is wrong.
    #[error(
        "{} announces {announced} bytes of images, more than the supported {limit}: it is damaged, \
         or its images need to be smaller or fewer",
        path.display()
    )]
    TooLarge {
        /// The file or directory.
        path: PathBuf,
        /// Announced size, bytes; `u64::MAX` if it does not fit in 64 bits.
        announced: u64,
        /// Largest supported size, bytes.
        limit: u64,
    },
    /// The file is not an IDX file, or an IDX file of another kind.
    #[error(
        "{} is not an IDX file of {expected} (it starts with {magic:#010x}): check that images \
         and labels are not swapped in the study",
        path.display()
    )]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// "images" or "labels".
        expected: &'static str,
        /// The first four bytes.
        magic: u32,
    },
    /// A file has no images, or images without pixels.
    #[error("{} has no images: use another file", path.display())]
    NoImages {
        /// The file or directory.
        path: PathBuf,
    },
    /// The images and labels do not belong together.
    #[error(
        "{} has {image_count} images, but {} has {label_count} labels: use the two files of \
         one data set",
        images.display(), labels.display()
    )]
    CountMismatch {
        /// The image file.
        images: PathBuf,
        /// Number of them.
        image_count: usize,
        /// The label file.
        labels: PathBuf,
        /// Number of them.
        label_count: usize,
    },
    /// A label is not a class of the study.
    #[error(
        "{}: image {index} has label {label}, but the study has {classes} classes (0 to {}): \
         correct data.classes, or use other files",
        path.display(), i64::from(*classes) - 1
    )]
    Label {
        /// The file.
        path: PathBuf,
        /// Position of the image, from 0.
        index: usize,
        /// Its label.
        label: u16,
        /// Classes of the study.
        classes: u32,
    },
    /// The study has more classes than the training images.
    #[error(
        "the highest label of the training images is {highest}, but the study has {classes} \
         classes: set data.classes to {}",
        highest + 1
    )]
    UnusedClasses {
        /// The highest label.
        highest: usize,
        /// Classes of the study.
        classes: usize,
    },
    /// The images do not have the study's number of channels.
    #[error(
        "{what} has images of {found} channel(s), but the study says {expected}: set data.channels \
         to {found}, or use other files"
    )]
    Channels {
        /// The source or file.
        what: String,
        /// Channels of the images.
        found: usize,
        /// Channels of the study.
        expected: u32,
    },
    /// A source with a fixed number of classes does not fit the study.
    #[error(
        "{what} has {found} classes, but the study says {expected}: set data.classes to {found}"
    )]
    Classes {
        /// The source or directory.
        what: String,
        /// Its number of classes.
        found: usize,
        /// Classes of the study.
        expected: u32,
    },
    /// Training and test images have different sizes.
    #[error(
        "training images are {}x{} pixels, but test images {}x{}: use files of one data set",
        train.0, train.1, test.0, test.1
    )]
    SizeMismatch {
        /// Height and width.
        train: (usize, usize),
        /// Height and width.
        test: (usize, usize),
    },
    /// A class folder has no images.
    #[error(
        "{} has no PNG or JPEG image: put the class's images there, or remove the folder",
        path.display()
    )]
    EmptyClass {
        /// The class folder.
        path: PathBuf,
    },
    /// The test and the training folder have different classes.
    #[error(
        "{} has no folder for class {class:?}, but {} has one: both need the same class folders",
        directory.display(), other.display()
    )]
    ClassFolder {
        /// The directory without the class.
        directory: PathBuf,
        /// The directory with the class.
        other: PathBuf,
        /// The class's name.
        class: String,
    },
    /// An image has an unsupported format.
    #[error(
        "{} is neither PNG nor JPEG: convert it, or remove it from its class folder",
        path.display()
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
    },
    /// An image cannot be decoded.
    #[error("{} cannot be decoded as an image ({source}): replace or remove it", path.display())]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// The error of the decoder.
        source: image::ImageError,
    },
    /// Images cannot be resized to this side.
    #[error("images cannot be resized to a side of {side} pixels: set data.side to 1 to {limit}")]
    Side {
        /// The wanted side.
        side: u32,
        /// The largest.
        limit: u32,
    },
    /// A part has no images.
    #[error("the {part} part has no images: raise its limit, or add images")]
    EmptyPart {
        /// "training" or "test".
        part: &'static str,
    },
    /// A part has no image of some class.
    #[error(
        "class {class} has no image among the {images} of the {part} part: raise \
         data.train_limit, change data.validation_fraction, or add images of that class"
    )]
    ClassNotInPart {
        /// "training" or "validation".
        part: &'static str,
        /// The class.
        class: usize,
        /// Images of the part.
        images: usize,
    },
}
