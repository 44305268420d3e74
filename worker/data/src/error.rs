//! Errors of reading a study's images, where their cause lies, and how many are reported at once.

use std::io;
use std::path::{Path, PathBuf};

use edgesmith_common::{ArtifactHash, Fault};

use crate::files::FileError;

/// Most errors that are reported together; of the others, only the number is.
const MOST_NAMED: usize = 20;

/// Why a study's images cannot be loaded. Each message names the file and how to fix it, and is
/// written to follow "failed to load the study's images: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A path does not exist.
    #[error(
        "{} does not exist: put it there, correct its path in the study, or name the directory \
         where relative paths start with --data-root",
        absolute(path)
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
    /// A path does not lead to a regular file.
    #[error("{} is {what}, not a regular file: remove it, or put a file there", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// A folder of images contains itself, through a link.
    #[error("{} is a link to a folder that it is in: remove the link", path.display())]
    Loop {
        /// The link.
        path: PathBuf,
    },
    /// A file is larger than supported.
    #[error(
        "{} has more than {} MiB, the largest supported size of such a file: make it smaller",
        path.display(), limit >> 20
    )]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Largest supported size, bytes.
        limit: u64,
    },
    /// The memory for the images cannot be had.
    #[error(
        "the {bytes} bytes of images in {} do not fit into the memory of this worker: use a \
         machine with more of it, or fewer or smaller images",
        path.display()
    )]
    OutOfMemory {
        /// The file or directory.
        path: PathBuf,
        /// Size of its images, bytes.
        bytes: u64,
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
    /// The file is not an IDX file.
    #[error(
        "{} is not an IDX file of {expected}; it {begins}: unpack or convert it, or correct its \
         path in the study",
        path.display()
    )]
    NotIdx {
        /// The file.
        path: PathBuf,
        /// "images" or "labels".
        expected: &'static str,
        /// What the content looks like, as "begins like …".
        begins: String,
    },
    /// The numbers of an IDX file have another type.
    #[error(
        "{} holds {holds}, but edgesmith reads {expected} as unsigned bytes: convert its values \
         to unsigned bytes (IDX type 0x08)",
        path.display()
    )]
    ElementType {
        /// The file.
        path: PathBuf,
        /// "images" or "labels".
        expected: &'static str,
        /// The type of its numbers, for example "16-bit integers".
        holds: &'static str,
    },
    /// The numbers in an IDX header are in the other byte order.
    #[error(
        "{} has a header in little-endian byte order, but IDX files are big-endian: write it \
         again with the highest byte of each number first",
        path.display()
    )]
    ByteOrder {
        /// The file.
        path: PathBuf,
    },
    /// An IDX file has a number of dimensions that is neither that of images nor that of labels.
    #[error(
        "{} has {dimensions} dimension(s), but a file of {expected} has {wanted}: write it again \
         with these, or use another file",
        path.display()
    )]
    Dimensions {
        /// The file.
        path: PathBuf,
        /// "images" or "labels".
        expected: &'static str,
        /// Its dimensions.
        dimensions: u8,
        /// The dimensions of such a file, in words.
        wanted: &'static str,
    },
    /// An IDX file of labels is where images are expected, or the reverse.
    #[error(
        "{} is an IDX file of {found}, not of {expected}: check that images and labels are not \
         swapped in the study",
        path.display()
    )]
    Swapped {
        /// The file.
        path: PathBuf,
        /// "images" or "labels".
        expected: &'static str,
        /// The other of the two.
        found: &'static str,
    },
    /// A file has no images, or images without pixels.
    #[error("{} has no images: use another file", path.display())]
    NoImages {
        /// The file.
        path: PathBuf,
    },
    /// A directory of images has no class folders.
    #[error(
        "{} has no class folders: put the images into it as CLASS/IMAGE, or name another folder \
         in the study",
        path.display()
    )]
    NoClassFolders {
        /// The directory.
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
        "{}: image {index} has label {label}{}, but the study has {classes} classes (0 to {}): \
         correct data.classes, or use other files",
        path.display(), and_more(*more), i64::from(*classes) - 1
    )]
    Label {
        /// The file.
        path: PathBuf,
        /// Position of the image, from 0.
        index: usize,
        /// Its label.
        label: u16,
        /// Number of further images whose label is not a class.
        more: usize,
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
    /// A directory does not have as many class folders as the study has classes.
    #[error(
        "{} has {} class folders ({}), but the study says {expected}: set data.classes to {}, or \
         correct the folders",
        directory.display(), folders.len(), listed(folders), folders.len()
    )]
    ClassFolders {
        /// The directory.
        directory: PathBuf,
        /// Names of its class folders.
        folders: Vec<String>,
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
        "{} has no folder for class '{class}', but {} has one: both need the same class folders",
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
    /// A file is not an image in a supported format.
    #[error(
        "{} is neither a PNG nor a JPEG file{}: convert it, or remove it from its class folder",
        path.display(), format.as_ref().map(|name| format!(" but {name}")).unwrap_or_default()
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The format that its content looks like; `None` if unknown.
        format: Option<String>,
    },
    /// An image lies beside the class folders.
    #[error(
        "{} is an image outside of the class folders: move it to the folder of its class, or \
         remove it",
        path.display()
    )]
    OutsideClasses {
        /// The file.
        path: PathBuf,
    },
    /// An image has too many pixels.
    #[error(
        "{} is an image of {width}x{height} pixels, whose {} MiB are more than the supported {} \
         MiB: make it smaller",
        path.display(), bytes >> 20, limit >> 20
    )]
    TooManyPixels {
        /// The file.
        path: PathBuf,
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Size of the decoded image, bytes.
        bytes: u64,
        /// Largest supported size, bytes.
        limit: u64,
    },
    /// An image cannot be decoded.
    #[error("{} cannot be decoded as an image ({why}): replace or remove it", path.display())]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// Why, as "it is truncated".
        why: &'static str,
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
    /// The limit of the test part leaves no image of some class.
    #[error(
        "class {class} has no image among the {images} of the test part: raise data.test_limit, or \
         leave it out"
    )]
    ClassNotInTest {
        /// The class.
        class: usize,
        /// Images that are left.
        images: usize,
    },
    /// The data can be read, but they are not those that the study began with.
    #[error(
        "the data in {} differ from those that the study began with (hash {} instead of {}): put \
         the same files here, or leave the study to other workers; to train on other data, submit \
         another study",
        places(paths),
        short(is),
        short(begun_with)
    )]
    Differ {
        /// Where they are.
        paths: Vec<PathBuf>,
        /// Their hash.
        is: ArtifactHash,
        /// The hash of the data that the study began with.
        begun_with: ArtifactHash,
    },
    /// Several things are wrong.
    #[error("{} things are wrong with the data: {}", faults.len() + more, all_of(faults, *more))]
    Several {
        /// The first ones, at most 20, in the order in which the data are read.
        faults: Vec<DataError>,
        /// Number of the others.
        more: usize,
    },
}

impl DataError {
    /// Where the cause lies: in this worker, which lacks a file or memory, or in the data.
    pub fn fault(&self) -> Fault {
        match self {
            DataError::Missing { .. }
            | DataError::Read { .. }
            | DataError::NotAFile { .. }
            | DataError::Loop { .. }
            | DataError::OutOfMemory { .. }
            | DataError::Differ { .. } => Fault::Worker,
            DataError::FileTooLarge { .. }
            | DataError::Gzip { .. }
            | DataError::Truncated { .. }
            | DataError::TrailingBytes { .. }
            | DataError::TooLarge { .. }
            | DataError::NotIdx { .. }
            | DataError::ElementType { .. }
            | DataError::ByteOrder { .. }
            | DataError::Dimensions { .. }
            | DataError::Swapped { .. }
            | DataError::NoImages { .. }
            | DataError::NoClassFolders { .. }
            | DataError::CountMismatch { .. }
            | DataError::Label { .. }
            | DataError::UnusedClasses { .. }
            | DataError::Channels { .. }
            | DataError::Classes { .. }
            | DataError::ClassFolders { .. }
            | DataError::SizeMismatch { .. }
            | DataError::EmptyClass { .. }
            | DataError::ClassFolder { .. }
            | DataError::Unsupported { .. }
            | DataError::OutsideClasses { .. }
            | DataError::TooManyPixels { .. }
            | DataError::Undecodable { .. }
            | DataError::Side { .. }
            | DataError::EmptyPart { .. }
            | DataError::ClassNotInPart { .. }
            | DataError::ClassNotInTest { .. } => Fault::Data,
            // Another worker may have all files, but nobody can train on damaged ones.
            DataError::Several { faults, .. } => {
                let of_data = faults.iter().any(|error| error.fault() == Fault::Data);
                if of_data { Fault::Data } else { Fault::Worker }
            }
        }
    }
}

impl DataError {
    /// What is wrong, for a study that began with data of this hash. Other files would not be the
    /// study's data any more, so where the data are at fault it does not say to change them.
    pub fn in_begun_study(&self, begun_with: &ArtifactHash) -> String {
        match self.fault() {
            Fault::Data => format!(
                "{}: restore the very files that the study began with (hash {})",
                self.without_mend(),
                short(begun_with)
            ),
            Fault::Candidate | Fault::Attempt | Fault::Worker | Fault::Memory => self.to_string(),
        }
    }

    /// The message without how to mend it, which follows the last colon of those about data.
    fn without_mend(&self) -> String {
        let text = self.to_string();
        match (self, self.fault()) {
            (DataError::Several { faults, more }, _) => {
                let texts = faults.iter().map(DataError::without_mend).collect();
                let all = joined(texts, *more);
                format!("{} things are wrong with the data: {all}", faults.len() + more)
            }
            (_, Fault::Data) => {
                text.rsplit_once(": ").map_or(text.as_str(), |(what, _)| what).to_owned()
            }
            (_, Fault::Candidate | Fault::Attempt | Fault::Worker | Fault::Memory) => text,
        }
    }
}

impl From<FileError> for DataError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Missing { path } => DataError::Missing { path },
            FileError::Read { path, source } => DataError::Read { path, source },
            FileError::NotAFile { path, what } => DataError::NotAFile { path, what },
            FileError::TooLarge { path, limit } => DataError::FileTooLarge { path, limit },
            FileError::Encoding { .. }
            | FileError::Compressed { .. }
            | FileError::NotText { .. } => unreachable!("data are read as bytes, not as text"),
        }
    }
}

/// Collects errors, so that users learn of all of them at once.
#[derive(Debug, Default)]
pub(super) struct Faults {
    named: Vec<DataError>,
    more: usize,
}

impl Faults {
    /// The value of a result. Its error is kept.
    pub(super) fn take<T>(&mut self, result: Result<T, DataError>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    /// Keeps an error, once if the same file is read for several parts.
    pub(super) fn add(&mut self, error: DataError) {
        let text = error.to_string();
        match error {
            _ if self.named.iter().any(|named| named.to_string() == text) => {}
            DataError::Several { faults, more } => {
                self.more += more;
                faults.into_iter().for_each(|error| self.add(error));
            }
            error if self.named.len() < MOST_NAMED => self.named.push(error),
            _ => self.more += 1,
        }
    }

    /// Number of errors.
    pub(super) fn len(&self) -> usize {
        self.named.len() + self.more
    }

    /// # Errors
    /// If there are any.
    pub(super) fn check(mut self) -> Result<(), DataError> {
        match self.named.len() {
            0 => Ok(()),
            1 if self.more == 0 => Err(self.named.remove(0)),
            _ => Err(DataError::Several { faults: self.named, more: self.more }),
        }
    }
}

/// The path from the root of the file system, so that a reader on another machine sees where a
/// relative path began.
fn absolute(path: &Path) -> String {
    let whole = std::path::absolute(path);
    // Without the dots of `./photos`.
    whole
        .unwrap_or_else(|_| path.to_owned())
        .components()
        .collect::<PathBuf>()
        .display()
        .to_string()
}

fn all_of(faults: &[DataError], more: usize) -> String {
    joined(faults.iter().map(ToString::to_string).collect(), more)
}

fn joined(texts: Vec<String>, more: usize) -> String {
    let rest = if more == 0 { String::new() } else { format!("; and {more} more") };
    texts.join("; ") + &rest
}

fn places(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The beginning of a hash, which is enough to see that it differs.
fn short(hash: &ArtifactHash) -> String {
    hash.to_string()[..8].to_owned()
}

fn and_more(images: usize) -> String {
    if images == 0 { String::new() } else { format!(" and {images} more have such labels") }
}

/// Names, or the first of them.
fn listed(names: &[String]) -> String {
    let rest = if names.len() > MOST_NAMED { ", …" } else { "" };
    names[..names.len().min(MOST_NAMED)].join(", ") + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(path: &str) -> DataError {
        DataError::NoImages { path: path.into() }
    }

    #[test]
    fn errors_are_reported_together_up_to_a_number() {
        let mut faults = Faults::default();
        assert_eq!(faults.take(Ok(3)), Some(3));
        assert_eq!(faults.take::<u8>(Err(empty("0"))), None);
        let one = std::mem::take(&mut faults).check().unwrap_err();
        assert_eq!(one.to_string(), "0 has no images: use another file");
        Faults::default().check().unwrap();
        let mut twice = Faults::default();
        (0..2).for_each(|_| twice.add(empty("f0")));
        assert_eq!(twice.check().unwrap_err().to_string(), "f0 has no images: use another file");

        let mut inner = Faults::default();
        (1..26).for_each(|i| inner.add(empty(&format!("f{i}"))));
        faults.add(empty("f0"));
        faults.add(inner.check().unwrap_err());
        let text = faults.check().unwrap_err().to_string();
        assert!(text.starts_with("26 things are wrong with the data: f0 has no"), "{text}");
        assert!(text.contains("; f19 has") && !text.contains("f20"), "{text}");
        assert!(text.ends_with("; and 6 more"), "{text}");
    }

    #[test]
    fn a_study_that_has_begun_is_not_told_to_change_its_data() {
        let begun_with = ArtifactHash::of(b"the first files");
        let restore = format!(
            ": restore the very files that the study began with (hash {})",
            &begun_with.to_string()[..8]
        );
        let photo =
            |name: &str| DataError::Undecodable { path: name.into(), why: "it is truncated" };
        let what = |name| format!("{name} cannot be decoded as an image (it is truncated)");
        assert_eq!(photo("a").in_begun_study(&begun_with), what("a") + &restore);
        let several = DataError::Several { faults: vec![photo("a"), photo("b")], more: 1 };
        let all = format!("3 things are wrong with the data: {}; {}", what("a"), what("b"));
        assert_eq!(several.in_begun_study(&begun_with), all + "; and 1 more" + &restore);
        // A file that is not here at all is put here, as before.
        let missing = DataError::Missing { path: "/photos".into() };
        assert_eq!(missing.in_begun_study(&begun_with), missing.to_string());
    }

    #[test]
    fn the_page_shows_the_messages_as_they_are() {
        let page = include_str!("../../../docs/data.md");
        let (_, section) = page.split_once("names the file and the fix, for example:").unwrap();
        let (examples, _) = section.split_once("\nThe data check").unwrap();
        let errors = [
            DataError::CountMismatch {
                images: "/data/train-images.gz".into(),
                image_count: 60_000,
                labels: "/data/t10k-labels.gz".into(),
                label_count: 10_000,
            },
            DataError::Label {
                path: "/data/labels".into(),
                index: 17,
                label: 10,
                more: 0,
                classes: 10,
            },
            DataError::Undecodable {
                path: "photos/train/dog/17.jpg".into(),
                why: "it is truncated",
            },
            DataError::ElementType {
                path: "/data/images".into(),
                expected: "images",
                holds: "16-bit integers",
            },
            DataError::Missing { path: "/data/photos/./train".into() },
            DataError::NoClassFolders { path: "photos/train".into() },
        ];
        let lines = errors.map(|error| format!("    {error}"));
        assert_eq!(examples.trim_matches('\n').lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn a_missing_file_is_the_workers_fault_unless_others_are_damaged() {
        let missing = || DataError::Missing { path: "a".into() };
        let several = |faults| DataError::Several { faults, more: 0 }.fault();
        assert_eq!(missing().fault(), Fault::Worker);
        assert_eq!(several(vec![missing(), missing()]), Fault::Worker);
        assert_eq!(several(vec![missing(), empty("b")]), Fault::Data);
    }
}
