//! What can be wrong with a study's images.

use std::io;
use std::path::PathBuf;

/// Why a study's images could not be loaded: each message names the file and what would mend it,
/// and reads after "failed to load the study's images: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Nothing is at a path.
    #[error(
        "{} does not exist: put it there, or correct its path in the study (relative paths start \
         at the worker's --data-root)",
        path.display()
    )]
    Missing {
        /// What was looked for.
        path: PathBuf,
    },
    /// The operating system gave an error.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A gzipped file that does not decompress.
    #[error(
        "{} is damaged or cut short, its gzip data do not decompress ({source}): fetch it again",
        path.display()
    )]
    Gzip {
        /// The file.
        path: PathBuf,
        /// What the decompressor said.
        source: io::Error,
    },
    /// A file that ends too early.
    #[error(
        "{} is cut short, it ends before byte {expected} of its decompressed content: fetch it \
         again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that it should have at least.
        expected: u64,
    },
    /// A file that goes on after its announced content.
    #[error(
        "{} has more bytes than the {expected} that its header announces: fetch it again",
        path.display()
    )]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// Bytes that it should have.
        expected: u64,
    },
    /// A file whose content would not fit in memory, or whose header lies.
    #[error(
        "{} announces {announced} bytes of images, more than the supported {limit}: it is damaged, \
         or its images need to be smaller or fewer",
        path.display()
    )]
    TooLarge {
        /// The file or directory.
        path: PathBuf,
        /// Bytes announced; `u64::MAX` where they cannot be counted.
        announced: u64,
        /// Bytes supported.
        limit: u64,
    },
    /// An IDX file of another kind, or no IDX file.
    #[error(
        "{} does not start as an IDX file of {expected} does ({magic:#010x}): check that images \
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
    /// A file without any image or with images without pixels.
    #[error("{} holds no images: name another file", path.display())]
    NoImages {
        /// The file or directory.
        path: PathBuf,
    },
    /// Images and labels that do not belong together.
    #[error(
        "{} holds {image_count} images but {} holds {label_count} labels: name the two files of \
         one set",
        images.display(), labels.display()
    )]
    CountMismatch {
        /// The images.
        images: PathBuf,
        /// How many.
        image_count: usize,
        /// The labels.
        labels: PathBuf,
        /// How many.
        label_count: usize,
    },
    /// A label that is no class.
    #[error(
        "{}: image {index} has label {label}, but the study has {classes} classes (0 to {}): \
         correct data.classes, or name other files",
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
    /// A study of more classes than the training images have.
    #[error(
        "the training images' labels end at {highest}, but the study has {classes} classes: set \
         data.classes to {}",
        highest + 1
    )]
    UnusedClasses {
        /// The highest label.
        highest: usize,
        /// Classes of the study.
        classes: usize,
    },
    /// Images of other channels than the study says.
    #[error(
        "{what} has images of {found} channel(s), but the study says {expected}: set data.channels \
         to {found}, or name other files"
    )]
    Channels {
        /// The source or file.
        what: String,
        /// Channels of the images.
        found: usize,
        /// Channels of the study.
        expected: u32,
    },
    /// A source of fixed classes in a study of others.
    #[error(
        "{what} has {found} classes, but the study says {expected}: set data.classes to {found}"
    )]
    Classes {
        /// The source or directory.
        what: String,
        /// Its classes.
        found: usize,
        /// Classes of the study.
        expected: u32,
    },
    /// Train and test images of different sizes.
    #[error(
        "training images are {}x{} pixels but test images {}x{}: name files of one set",
        train.0, train.1, test.0, test.1
    )]
    SizeMismatch {
        /// Height and width.
        train: (usize, usize),
        /// Height and width.
        test: (usize, usize),
    },
    /// A class folder without images.
    #[error(
        "{} holds no PNG or JPEG image: put the class's images there, or remove the folder",
        path.display()
    )]
    EmptyClass {
        /// The class folder.
        path: PathBuf,
    },
    /// A test folder of other classes than the training folder.
    #[error(
        "{} holds no folder for class {class:?}, which {} has: both need the same class folders",
        directory.display(), other.display()
    )]
    ClassFolder {
        /// Where the class is missing.
        directory: PathBuf,
        /// Where it is.
        other: PathBuf,
        /// The class's name.
        class: String,
    },
    /// An image in a format without a reader.
    #[error(
        "{} is neither PNG nor JPEG: convert it, or remove it from its class folder",
        path.display()
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
    },
    /// An image that does not decode.
    #[error("{} does not decode as an image ({source}): replace or remove it", path.display())]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: image::ImageError,
    },
    /// Images are to be resized to nothing.
    #[error("images cannot be resized to a side of {side} pixels: set data.side to 1 to {limit}")]
    Side {
        /// The wanted side.
        side: u32,
        /// The largest.
        limit: u32,
    },
    /// A part without images.
    #[error("the {part} part has no images: raise its limit, or give more images")]
    EmptyPart {
        /// "training" or "test".
        part: &'static str,
    },
    /// A split that leaves a class out.
    #[error(
        "class {class} has no image among the {images} of the {part} part: raise \
         data.train_limit, change data.validation_fraction, or give more images of that class"
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
