//! Finds the class folders of a directory and the image files in them.
//!
//! A class folder is read with all folders in it. Hidden files and folders, and those that systems
//! and programs make beside a user's files, are ignored; so are files whose names end as those of
//! texts. All other files have to be images, so that none is left out silently.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use image::ImageFormat;

use super::DataError;
use super::error::Faults;
use super::file::read_error;
use crate::files::{self, other_than_file};

/// Endings of files that are read as images, whatever is in them.
const IMAGES: [&str; 6] = ["png", "jpg", "jpeg", "jpe", "jfif", "jif"];
/// Endings of files that are ignored unless they contain an image.
const TEXTS: [&str; 13] = [
    "csv", "htm", "html", "ini", "json", "jsonl", "log", "md", "toml", "tsv", "txt", "xml", "yaml",
];
/// Names of files and folders that systems and programs make, in lower case.
const IGNORED: [&str; 8] = [
    "$recycle.bin",
    "@eadir",
    "__macosx",
    "desktop.ini",
    "ehthumbs.db",
    "lost+found",
    "system volume information",
    "thumbs.db",
];
/// Bytes that are enough to detect the format of an image.
const START: u64 = 32;

/// Names of the class folders of a directory, sorted.
pub(super) fn class_folders(directory: &Path) -> Result<Vec<OsString>, DataError> {
    let mut names = Vec::new();
    let mut faults = Faults::default();
    for path in entries(directory)? {
        match faults.take(kind(&path)) {
            Some(metadata) if metadata.is_dir() => {
                names.extend(path.file_name().map(OsStr::to_owned));
            }
            Some(metadata) if metadata.is_file() && contains_image(&path) => {
                faults.add(DataError::OutsideClasses { path });
            }
            // Other files beside the folders are not part of the data.
            Some(_) | None => {}
        }
    }
    faults.check()?;
    if names.is_empty() {
        return Err(DataError::NoClassFolders { path: directory.to_owned() });
    }
    Ok(names)
}

/// The images in a class folder and the folders in it, sorted by path. Files that may not be there
/// are added to `faults`.
pub(super) fn images_below(folder: &Path, faults: &mut Faults) -> Vec<PathBuf> {
    let mut images = Vec::new();
    let before = faults.len();
    let mut walk = Walk { inside: Vec::new(), images: &mut images, faults };
    walk.enter(folder);
    if images.is_empty() && faults.len() == before {
        faults.add(DataError::EmptyClass { path: folder.to_owned() });
    }
    images.sort_unstable();
    images
}

/// A way through a folder and the folders in it.
struct Walk<'a> {
    /// The folders that it is in, without links.
    inside: Vec<PathBuf>,
    images: &'a mut Vec<PathBuf>,
    faults: &'a mut Faults,
}

impl Walk<'_> {
    fn enter(&mut self, folder: &Path) {
        let real = fs::canonicalize(folder).map_err(|source| read_error(folder, source));
        let Some(real) = self.faults.take(real) else { return };
        // Only a link can lead back.
        if self.inside.contains(&real) {
            self.faults.add(DataError::Loop { path: folder.to_owned() });
            return;
        }
        let Some(paths) = self.faults.take(entries(folder)) else { return };
        self.inside.push(real);
        for path in paths {
            match self.faults.take(kind(&path)) {
                Some(metadata) if metadata.is_dir() => self.enter(&path),
                Some(metadata) => {
                    let found = check_file(&path, &metadata);
                    if self.faults.take(found) == Some(true) {
                        self.images.push(path);
                    }
                }
                None => {}
            }
        }
        self.inside.pop();
    }
}

/// Whether a file in a class folder is read; the others are ignored.
fn check_file(path: &Path, metadata: &Metadata) -> Result<bool, DataError> {
    if let Some(what) = other_than_file(metadata) {
        return Err(DataError::NotAFile { path: path.to_owned(), what });
    }
    let ending = ending(path);
    if IMAGES.contains(&ending.as_str()) {
        return Ok(true);
    }
    match format(path)? {
        Some(ImageFormat::Png | ImageFormat::Jpeg) => Ok(true),
        _ if TEXTS.contains(&ending.as_str()) => Ok(false),
        other => {
            let format = other.map(format_name);
            Err(DataError::Unsupported { path: path.to_owned(), format })
        }
    }
}

/// Whether a file is an image by its name or its content.
fn contains_image(path: &Path) -> bool {
    IMAGES.contains(&ending(path).as_str())
        || matches!(format(path), Ok(Some(ImageFormat::Png | ImageFormat::Jpeg)))
}

/// The format that the first bytes of a file show; `None` if they are not those of an image.
fn format(path: &Path) -> Result<Option<ImageFormat>, DataError> {
    let (file, _) = files::open(path)?;
    let mut start = Vec::new();
    file.take(START).read_to_end(&mut start).map_err(|source| read_error(path, source))?;
    Ok(image::guess_format(&start).ok())
}

/// The name of a format, for users.
pub(super) fn format_name(format: ImageFormat) -> String {
    format.extensions_str().first().copied().unwrap_or("another format").to_uppercase()
}

/// What a path in a directory leads to.
fn kind(path: &Path) -> Result<Metadata, DataError> {
    fs::metadata(path).map_err(|source| match source.kind() {
        // The directory lists it, so it is a link.
        ErrorKind::NotFound => {
            DataError::NotAFile { path: path.to_owned(), what: "a link that leads nowhere" }
        }
        _ => read_error(path, source),
    })
}

/// The entries of a directory that are not ignored, sorted by name.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |source| read_error(directory, source);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if !name.starts_with('.') && !IGNORED.contains(&name.as_str()) {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// The ending of a file's name, in lower case, without the dot.
fn ending(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
    const JPEG: &[u8] = b"\xff\xd8\xff\xe0";

    fn written(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        directory
    }

    fn listed(directory: &Path) -> Result<Vec<String>, String> {
        let mut faults = Faults::default();
        let images = images_below(directory, &mut faults);
        faults.check().map_err(|error| error.to_string())?;
        let name = |path: &PathBuf| path.strip_prefix(directory).unwrap().display().to_string();
        Ok(images.iter().map(name).collect())
    }

    #[test]
    fn images_are_found_by_name_or_content_also_in_folders() {
        let directory = written(&[
            ("b.JPG", b""),
            ("c.jfif", JPEG),
            ("d.jpe", JPEG),
            ("plain", JPEG),
            ("shot.txt", PNG),
            ("2023/may/a.png", PNG),
            ("2023/b", PNG),
        ]);
        let found = listed(directory.path()).unwrap();
        let all = ["2023/b", "2023/may/a.png", "b.JPG", "c.jfif", "d.jpe", "plain", "shot.txt"];
        assert_eq!(found, all);
    }

    #[test]
    fn what_systems_make_and_texts_are_ignored_and_anything_else_is_named() {
        let directory = written(&[
            ("a.png", PNG),
            ("notes.TXT", b"BM is not a bitmap here"),
            (".DS_Store", b"x"),
            ("Thumbs.db", b"x"),
            ("@eaDir/a.png", PNG),
            ("__MACOSX/._a.png", b"x"),
            (".ipynb_checkpoints/a-checkpoint.png", PNG),
        ]);
        assert_eq!(listed(directory.path()).unwrap(), ["a.png"]);
        for (name, bytes, said) in [
            ("anim.gif", &b"GIF89a"[..], "anim.gif is neither a PNG nor a JPEG file but GIF:"),
            ("page", b"RIFF0000WEBPVP8 ", "page is neither a PNG nor a JPEG file but WEBP:"),
            ("net.bin", b"1234", "net.bin is neither a PNG nor a JPEG file:"),
        ] {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            let error = listed(directory.path()).unwrap_err();
            assert!(error.contains(said), "{error}");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn folders_that_systems_make_are_no_classes_and_images_beside_classes_are_named() {
        let directory = written(&[
            ("ape/a.png", PNG),
            ("bee/a.png", PNG),
            ("__MACOSX/ape/a.png", PNG),
            ("@eaDir/a.png", PNG),
            (".ipynb_checkpoints/a.png", PNG),
            ("README", b"about"),
        ]);
        assert_eq!(class_folders(directory.path()).unwrap(), ["ape", "bee"]);
        fs::write(directory.path().join("photo"), JPEG).unwrap();
        let error = class_folders(directory.path()).unwrap_err();
        assert!(
            matches!(&error, DataError::OutsideClasses { path } if path.ends_with("photo")),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn loops_devices_pipes_and_broken_links_are_named() {
        use std::os::unix::fs::symlink;

        let directory = written(&[("ape/a.png", PNG), ("more/b.png", PNG)]);
        let ape = directory.path().join("ape");
        symlink(directory.path().join("more"), ape.join("linked")).unwrap();
        assert_eq!(listed(&ape).unwrap(), ["a.png", "linked/b.png"]);
        let refused = |said: &str| {
            let error = listed(&ape).unwrap_err();
            assert!(error.contains(said), "{error}");
        };
        let link = |target: &str, name: &str| symlink(target, ape.join(name)).unwrap();
        link("..", "up");
        refused("ape/up/ape is a link to a folder that it is in");
        fs::remove_file(ape.join("up")).unwrap();
        link("self.png", "self.png");
        refused("ape/self.png");
        fs::remove_file(ape.join("self.png")).unwrap();
        link("nowhere", "b.png");
        refused("b.png is a link that leads nowhere");
        fs::remove_file(ape.join("b.png")).unwrap();
        link("/dev/zero", "c.png");
        refused("c.png is a device");
        fs::remove_file(ape.join("c.png")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(ape.join("d.png")).status().unwrap();
        assert!(made.success());
        refused("d.png is a pipe");
    }
}
