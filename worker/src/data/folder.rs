//! A folder of images per class: PNG and JPEG, told apart by content, turned upright, made grey or
//! RGB, and resized to one square side.
//!
//! Classes are numbered by the names of their folders, in byte order. Images come in rounds, the
//! first of each class by file name, then the second of each, so that the first n of a test set are
//! of all classes. Transparency is ignored. Hidden files and files that are no images are skipped.

use std::fs;
use std::path::{Path, PathBuf};

use edgesmith_common::Seed;
use edgesmith_search_space::DataShape;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use super::file::{MAX_BYTES, read_error};
use super::image_set::Resize;
use super::{DataError, ImageSet, split};

/// What is read.
const READABLE: [&str; 3] = ["png", "jpg", "jpeg"];
/// What would be missed if it were skipped in silence.
const UNREADABLE: [&str; 14] = [
    "avif", "bmp", "gif", "heic", "heif", "jp2", "jxl", "pbm", "pgm", "ppm", "tga", "tif", "tiff",
    "webp",
];
/// Larger images than any camera's are taken for damaged ones.
const MAX_SIDE: u32 = 1 << 16;
const MAX_DECODED: u64 = 1 << 30;

/// Training and test images, `side` × `side`. Without a test folder a stratified, seeded tenth of
/// the training folder is held out.
pub(super) fn read(
    train: &Path,
    test: Option<&Path>,
    side: u32,
    data: DataShape,
    seed: Seed,
) -> Result<(ImageSet, ImageSet), DataError> {
    if side == 0 || side > MAX_SIDE {
        return Err(DataError::Side { side, limit: MAX_SIDE });
    }
    let train_classes = classes(train)?;
    if train_classes.len() != data.classes as usize {
        return Err(DataError::Classes {
            what: train.display().to_string(),
            found: train_classes.len(),
            expected: data.classes,
        });
    }
    let Some(test) = test else {
        let all = images(train, &train_classes, side, data)?;
        let mut rng = split::generator(seed, split::Use::HeldOutTest);
        let tenth = (all.len() + 5) / 10;
        let held_out = split::choose(&all.labels, train_classes.len(), tenth, &mut rng);
        let rest = split::complement(&held_out, all.len());
        return Ok((all.subset(&rest), all.subset(&held_out)));
    };
    let test_classes = classes(test)?;
    for (here, there, from, to) in
        [(&train_classes, &test_classes, train, test), (&test_classes, &train_classes, test, train)]
    {
        if let Some(class) = here.iter().find(|class| !there.contains(class)) {
            return Err(DataError::ClassFolder {
                directory: to.to_owned(),
                other: from.to_owned(),
                class: class.clone(),
            });
        }
    }
    Ok((images(train, &train_classes, side, data)?, images(test, &test_classes, side, data)?))
}

/// Names of the class folders, sorted.
fn classes(directory: &Path) -> Result<Vec<String>, DataError> {
    let paths = entries(directory)?;
    let folders = paths.iter().filter(|path| path.is_dir());
    let names: Vec<String> = folders.map(|path| file_name(path)).collect();
    if names.is_empty() {
        return Err(DataError::NoImages { path: directory.to_owned() });
    }
    Ok(names)
}

/// The image files of a class folder, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if READABLE.contains(&extension.as_str()) {
            files.push(path);
        } else if UNREADABLE.contains(&extension.as_str()) {
            return Err(DataError::Unsupported { path });
        }
    }
    if files.is_empty() {
        return Err(DataError::EmptyClass { path: folder.to_owned() });
    }
    Ok(files)
}

/// What is in a directory, but for hidden things, sorted by name.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |source| read_error(directory, source);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// All images of the named class folders of a directory.
fn images(
    directory: &Path,
    classes: &[String],
    side: u32,
    data: DataShape,
) -> Result<ImageSet, DataError> {
    let mut ordered = Vec::new();
    for (label, class) in (0..=u16::MAX).zip(classes) {
        let files = files(&directory.join(class))?;
        ordered.extend(files.into_iter().enumerate().map(|(round, path)| (round, label, path)));
    }
    // Stable, so classes keep their order within a round.
    ordered.sort_by_key(|(round, _, _)| *round);

    let side = side as usize;
    let mut set = ImageSet {
        channels: data.channels as usize,
        height: side,
        width: side,
        pixels: Vec::new(),
        labels: Vec::with_capacity(ordered.len()),
    };
    let bytes = set.image_bytes() as u64 * ordered.len() as u64;
    if bytes > MAX_BYTES {
        let path = directory.to_owned();
        return Err(DataError::TooLarge { path, announced: bytes, limit: MAX_BYTES });
    }
    for (_, label, path) in ordered {
        let image = decode(&path).map_err(|source| DataError::Undecodable { path, source })?;
        append(&image, &mut set);
        set.labels.push(label);
    }
    Ok(set)
}

fn decode(path: &Path) -> Result<DynamicImage, image::ImageError> {
    let mut reader = ImageReader::open(path)?.with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Appends the pixels of an image, in the set's channels and size.
fn append(image: &DynamicImage, set: &mut ImageSet) {
    let size = (image.height() as usize, image.width() as usize);
    let interleaved = match set.channels {
        1 => image.to_luma8().into_raw(),
        _ => image.to_rgb8().into_raw(),
    };
    let mut resize = Resize::new(size, (set.height, set.width));
    let mut resized = vec![0; set.height * set.width];
    for channel in 0..set.channels {
        let plane: Vec<u8> =
            interleaved.iter().copied().skip(channel).step_by(set.channels).collect();
        resize.plane(&plane, &mut resized);
        set.pixels.extend_from_slice(&resized);
    }
}
