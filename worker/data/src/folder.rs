//! Reads a directory with one folder of images per class; `picture` reads each image. They are
//! resized to a square.
//!
//! Classes are numbered by the names of their folders, in byte order. Images are ordered in rounds:
//! the first of each class by path, then the second of each, and so on. So the first images of a
//! test set are spread over all classes. Which files are read and which are ignored is in
//! `listing`.

use std::ffi::OsString;
use std::path::Path;

use edgesmith_common::{ArtifactHash, Seed};
use edgesmith_search_space::DataShape;

use super::error::Faults;
use super::file::MAX_BYTES;
use super::listing::{class_folders, images_below};
use super::picture::{decode, put, samples_of_16_bits};
use super::{DataError, ImageSet, Origin, split};

/// Largest side of the resized images, pixels.
const MAX_SIDE: u32 = 4096;
/// Seed for drawing the held-out tenth. It is the same in every study, so test accuracies of
/// different seeds are of the same images, and a teacher from another study has not seen them.
const HELD_OUT: Seed = Seed(0);

/// Reads training and test images, resized to `side` × `side` pixels. Without a test folder, a
/// stratified tenth of the training folder is held out, the same one in every study.
///
/// The third value is a hash of the files' content, in the order of the images. It is not that of
/// the pixels, because decoders on processors of different kinds may round differently.
pub(super) fn read(
    train: &Path,
    test: Option<&Path>,
    side: u32,
    data: DataShape,
) -> Result<((ImageSet, Origin), ImageSet, ArtifactHash), DataError> {
    if side == 0 || side > MAX_SIDE {
        return Err(DataError::Side { side, limit: MAX_SIDE });
    }
    let train_classes = class_folders(train)?;
    if train_classes.len() != data.classes as usize {
        return Err(DataError::ClassFolders {
            directory: train.to_owned(),
            folders: train_classes.iter().map(|name| name.to_string_lossy().into()).collect(),
            expected: data.classes,
        });
    }
    let Some(test) = test else {
        let mut faults = Faults::default();
        let all = images(train, &train_classes, side, data, Depth::Found, &mut faults)?;
        faults.check()?;
        let (all, hash) = (all.set, all.hash);
        let mut rng = split::generator(HELD_OUT, split::Use::HeldOutTest);
        let tenth = (all.len() + 5) / 10;
        let held_out = split::choose(&all.labels, train_classes.len(), tenth, &mut rng);
        let rest = split::complement(&held_out, all.len());
        let hash = ArtifactHash::of_parts(&[hash, split::hash(&held_out)]);
        let (train, origin) = (all.subset(&rest), Origin { images: all.len(), places: rest });
        return Ok(((train, origin), all.subset(&held_out), hash));
    };
    let test_classes = class_folders(test)?;
    for (here, there, from, to) in
        [(&train_classes, &test_classes, train, test), (&test_classes, &train_classes, test, train)]
    {
        if let Some(class) = here.iter().find(|class| !there.contains(class)) {
            return Err(DataError::ClassFolder {
                directory: to.to_owned(),
                other: from.to_owned(),
                class: class.to_string_lossy().into_owned(),
            });
        }
    }
    let mut faults = Faults::default();
    let train = images(train, &train_classes, side, data, Depth::Found, &mut faults)?;
    let depth = Depth::Given(train.brightest);
    let test = images(test, &test_classes, side, data, depth, &mut faults)?;
    faults.check()?;
    let origin = Origin::whole(train.set.len());
    Ok(((train.set, origin), test.set, ArtifactHash::of_parts(&[train.hash, test.hash])))
}

/// Which value of a 16-bit image is full brightness.
#[derive(Debug, Clone, Copy)]
enum Depth {
    /// The one that the images' own values show, see [`brightest`].
    Found,
    /// This one; larger values are as bright.
    Given(u16),
}

/// The images of a directory.
struct Images {
    set: ImageSet,
    /// The value of 16-bit images that is full brightness.
    brightest: u16,
    /// Of the files and their labels, in order.
    hash: ArtifactHash,
}

/// Reads all images of the given class folders of a directory. Files that cannot be read are added
/// to `faults`; their images are black in the result.
fn images(
    directory: &Path,
    classes: &[OsString],
    side: u32,
    data: DataShape,
    depth: Depth,
    faults: &mut Faults,
) -> Result<Images, DataError> {
    let mut ordered = Vec::new();
    for (label, class) in (0..=u16::MAX).zip(classes) {
        let files = images_below(&directory.join(class), faults);
        ordered.extend(files.into_iter().enumerate().map(|(round, path)| (round, label, path)));
    }
    // The sort is stable, so classes keep their order within a round.
    ordered.sort_by_key(|(round, _, _)| *round);

    let side = side as usize;
    let mut set = ImageSet {
        channels: data.channels as usize,
        height: side,
        width: side,
        pixels: Vec::new(),
        labels: ordered.iter().map(|(_, label, _)| *label).collect(),
    };
    let bytes = set.image_bytes() as u64 * ordered.len() as u64;
    if bytes > MAX_BYTES {
        let path = directory.to_owned();
        return Err(DataError::TooLarge { path, announced: bytes, limit: MAX_BYTES });
    }
    if set.pixels.try_reserve_exact(bytes as usize).is_err() {
        return Err(DataError::OutOfMemory { path: directory.to_owned(), bytes });
    }
    set.pixels.resize(bytes as usize, 0);

    let full = match depth {
        Depth::Found => u16::MAX,
        Depth::Given(full) => full,
    };
    let mut highest = 0;
    let mut deep = Vec::new();
    let mut hashed = Vec::new();
    for (i, (_, label, path)) in ordered.iter().enumerate() {
        let Some((mut image, hash)) = faults.take(decode(path)) else { continue };
        hashed.extend(label.to_le_bytes());
        hashed.extend(hash.as_bytes());
        if let Some(samples) = samples_of_16_bits(&mut image) {
            highest = highest.max(samples.iter().copied().max().unwrap_or(0));
            deep.push(i);
        }
        put(image, full, i, &mut set);
    }
    let hash = ArtifactHash::of(&hashed);
    let Depth::Found = depth else { return Ok(Images { set, brightest: full, hash }) };
    let brightest = if deep.is_empty() { u16::MAX } else { brightest(highest) };
    if brightest < full {
        for i in deep {
            if let Some((image, _)) = faults.take(decode(&ordered[i].2)) {
                put(image, brightest, i, &mut set);
            }
        }
    }
    Ok(Images { set, brightest, hash })
}

/// The value of full brightness in 16-bit images whose highest value is this one: the highest value
/// of as many bits as it takes, at least 8. Cameras write values of 10, 12 or 14 bits to 16-bit
/// files.
fn brightest(highest: u16) -> u16 {
    u16::MAX >> highest.leading_zeros().min(8)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{DynamicImage, GrayImage, Rgb, RgbImage, Rgba, RgbaImage};
    use tempfile::TempDir;

    use super::*;
    use crate::picture::tests::jpeg;

    const GREY: DataShape = DataShape { channels: 1, classes: 2 };
    const COLOUR: DataShape = DataShape { channels: 3, classes: 2 };

    /// [`super::read`] without the origin of the images.
    fn read(
        train: &Path,
        test: Option<&Path>,
        side: u32,
        data: DataShape,
    ) -> Result<(ImageSet, ImageSet, ArtifactHash), DataError> {
        super::read(train, test, side, data).map(|((train, _), test, hash)| (train, test, hash))
    }

    /// Writes a grey PNG whose pixels all have one value.
    fn png(directory: &Path, name: &str, value: u8) {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        GrayImage::from_pixel(4, 4, image::Luma([value])).save(path).unwrap();
    }

    /// Two classes: ape with values 1, 2 and 3, and bee with 101 and 102.
    fn zoo() -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, value) in [("a", 1), ("b", 2), ("c", 3)] {
            png(directory.path(), &format!("ape/{name}.png"), value);
        }
        for (name, value) in [("x", 101), ("y", 102)] {
            png(directory.path(), &format!("bee/{name}.PNG"), value);
        }
        directory
    }

    fn read_both(
        train: &TempDir,
        test: &TempDir,
    ) -> Result<(ImageSet, ImageSet, ArtifactHash), DataError> {
        read(train.path(), Some(test.path()), 2, GREY)
    }

    #[test]
    fn images_are_ordered_in_rounds_by_class_and_file_name() {
        let (train, test) = (zoo(), zoo());
        png(test.path(), "ape/d.png", 4);
        fs::write(train.path().join("README.txt"), "no class").unwrap();
        fs::write(train.path().join("ape/notes.txt"), "no image").unwrap();
        fs::create_dir(train.path().join(".git")).unwrap();
        let (train, test, _) = read_both(&train, &test).unwrap();
        assert_eq!((train.channels, train.height, train.width), (1, 2, 2));
        assert_eq!(train.labels, [0, 1, 0, 1, 0]);
        assert_eq!((0..5).map(|i| train.image(i)[0]).collect::<Vec<_>>(), [1, 101, 2, 102, 3]);
        assert_eq!(test.labels, [0, 1, 0, 1, 0, 0]);
    }

    #[test]
    fn a_tenth_is_held_out_without_a_test_folder() {
        let directory = tempfile::tempdir().unwrap();
        for i in 0..20 {
            png(directory.path(), &format!("ape/{i:02}.png"), i);
            png(directory.path(), &format!("bee/{i:02}.png"), 100 + i);
        }
        let parts = || read(directory.path(), None, 1, GREY).unwrap();
        let (train, test, hash) = parts();
        assert_eq!(
            (split::count(&train.labels, 2), split::count(&test.labels, 2)),
            (vec![18, 18], vec![2, 2])
        );
        let mut all = [train.pixels.clone(), test.pixels.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..20).chain(100..120).collect::<Vec<_>>());
        assert_eq!(parts(), (train, test, hash));
    }

    #[test]
    fn colours_become_planes_or_grey() {
        let directory = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            let folder = directory.path().join(class);
            fs::create_dir(&folder).unwrap();
            RgbImage::from_pixel(3, 5, Rgb([250, 100, 7])).save(folder.join("1.png")).unwrap();
            RgbaImage::from_pixel(2, 2, Rgba([9, 8, 7, 0])).save(folder.join("2.png")).unwrap();
        }
        let (colour, ..) = read(directory.path(), Some(directory.path()), 2, COLOUR).unwrap();
        assert_eq!(colour.image(0), [250, 250, 250, 250, 100, 100, 100, 100, 7, 7, 7, 7]);
        assert_eq!(colour.image(2)[..5], [9, 9, 9, 9, 8]);
        let (grey, ..) = read(directory.path(), Some(directory.path()), 1, GREY).unwrap();
        // 0.2126 R + 0.7152 G + 0.0722 B.
        assert_eq!(grey.image(0), [125]);
    }

    #[test]
    fn jpeg_files_are_read_upright() {
        let directory = tempfile::tempdir().unwrap();
        for (class, orientation) in [("a", None), ("b", Some(6))] {
            let folder = directory.path().join(class);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("1.jpg"), jpeg(orientation)).unwrap();
        }
        let (set, ..) = read(directory.path(), Some(directory.path()), 2, GREY).unwrap();
        let bright: Vec<bool> = set.pixels.iter().map(|&v| v > 128).collect();
        // Orientation 6 is turned clockwise: the left side becomes the top.
        assert_eq!(bright, [false, true, false, true, false, false, true, true]);
    }

    #[test]
    fn errors_name_images_that_cannot_be_decoded() {
        let directory = zoo();
        let failure = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            let error = read(directory.path(), None, 2, GREY).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            fs::remove_file(path).unwrap();
            error
        };
        let whole = fs::read(directory.path().join("ape/a.png")).unwrap();
        let photo = jpeg(None);
        for (name, bytes) in [
            ("ape/empty.png", &[][..]),
            ("ape/text.png", b"not an image"),
            ("bee/cut.png", &whole[..whole.len() - 20]),
            ("bee/cut.jpg", &photo[..photo.len() - 2]),
            ("bee/half.jpg", &photo[..photo.len() / 2]),
            ("bee/head.jpeg", &photo[..30]),
        ] {
            let error = failure(name, bytes);
            assert!(matches!(error, DataError::Undecodable { .. }), "{error}");
            let why = match name {
                "ape/empty.png" => "it is empty",
                "ape/text.png" => "its content is no image",
                _ => "it is truncated",
            };
            let text =
                format!("{name} cannot be decoded as an image ({why}): replace or remove it");
            assert!(error.to_string().ends_with(&text), "{error}");
        }
        // Each byte wrong, one at a time: no message has the decoder's words.
        for (file, good) in [("ape/bad.png", &whole), ("bee/bad.jpg", &photo)] {
            for at in 8..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0xff;
                fs::write(directory.path().join(file), bad).unwrap();
                // Some damage cannot be noticed, such as another pixel in a JPEG file.
                let Err(error) = read(directory.path(), None, 2, GREY) else { continue };
                let text = error.to_string();
                assert!(!text.contains(['{', '"', '\n']) && text.contains(file), "{text}");
            }
            fs::remove_file(directory.path().join(file)).unwrap();
        }
        // A header that announces 60,000 × 60,000 pixels, with a correct checksum.
        let mut huge = whole;
        huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let mut checksum = flate2::Crc::new();
        checksum.update(&huge[12..29]);
        huge[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
        let error = failure("ape/huge.png", &huge);
        assert!(
            matches!(error, DataError::TooManyPixels { width: 60_000, height: 60_000, .. }),
            "{error}"
        );

        let error = failure("ape/anim.gif", b"GIF89a");
        assert!(matches!(error, DataError::Unsupported { .. }), "{error}");
        read_both(&directory, &directory).unwrap();
    }

    #[test]
    fn every_damaged_image_is_named() {
        let (train, test) = (zoo(), zoo());
        let photo = jpeg(None);
        for (directory, name) in
            [(&train, "ape/1.jpg"), (&train, "bee/2.jpg"), (&test, "ape/3.jpg")]
        {
            fs::write(directory.path().join(name), &photo[..photo.len() / 2]).unwrap();
        }
        fs::write(test.path().join("bee/4.gif"), b"GIF89a").unwrap();
        let error = read_both(&train, &test).unwrap_err().to_string();
        assert!(error.starts_with("4 things are wrong with the data: "), "{error}");
        for name in ["ape/1.jpg", "bee/2.jpg", "ape/3.jpg", "bee/4.gif"] {
            assert!(error.contains(name), "{error}");
        }
        assert!(error.contains("(it is truncated): replace or remove it"), "{error}");
    }

    #[test]
    fn images_below_folders_of_a_class_are_read_by_content() {
        let directory = zoo();
        png(directory.path(), "ape/2023/may/d.png", 4);
        let other = directory.path().join("ape/2023/e");
        fs::rename(directory.path().join("ape/c.png"), &other).unwrap();
        let (set, ..) = read_both(&directory, &directory).unwrap();
        let apes: Vec<u8> =
            (0..set.len()).filter(|&i| set.labels[i] == 0).map(|i| set.image(i)[0]).collect();
        assert_eq!(apes, [3, 4, 1, 2]);
    }

    /// Writes a grey PNG of 16 bits with these two pixels.
    fn deep_png(directory: &Path, name: &str, values: [u16; 2]) {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let image = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(2, 1, values.to_vec());
        DynamicImage::from(image.unwrap()).save(path).unwrap();
    }

    #[test]
    fn values_of_few_bits_in_16_bit_images_use_their_own_range() {
        let (train, test) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        deep_png(train.path(), "a/1.png", [0, 4000]);
        deep_png(train.path(), "b/1.png", [2048, 1024]);
        deep_png(test.path(), "a/1.png", [4095, 65535]);
        deep_png(test.path(), "b/1.png", [0, 16]);
        let read = || {
            let (train, test, _) = read(train.path(), Some(test.path()), 2, GREY).unwrap();
            let pair = |set: &ImageSet, i| [set.image(i)[0], set.image(i)[1]];
            [pair(&train, 0), pair(&train, 1), pair(&test, 0), pair(&test, 1)]
        };
        // The training images show 12 bits; brighter test images are as bright as possible.
        assert_eq!(read(), [[0, 249], [128, 64], [255, 255], [0, 1]]);
        deep_png(train.path(), "a/1.png", [0, 65535]);
        assert_eq!(read(), [[0, 255], [8, 4], [16, 255], [0, 0]]);
        assert_eq!(
            [0, 255, 256, 1023, 4095, 4096].map(brightest),
            [255, 255, 511, 1023, 4095, 8191]
        );
    }

    #[test]
    fn folders_must_match_the_studys_classes() {
        let directory = zoo();
        let three = DataShape { channels: 1, classes: 3 };
        let error = read(directory.path(), None, 2, three).unwrap_err();
        assert!(error.to_string().contains("has 2 class folders (ape, bee), but"), "{error}");

        let other = zoo();
        png(other.path(), "cat/a.png", 1);
        for (train, test) in [(&directory, &other), (&other, &directory)] {
            let classes = if train.path() == other.path() { three } else { GREY };
            let error = read(train.path(), Some(test.path()), 2, classes).unwrap_err();
            assert!(
                matches!(&error, DataError::ClassFolder { class, directory: missing, .. }
                    if class == "cat" && missing == directory.path()),
                "{error}"
            );
        }

        fs::create_dir(directory.path().join("cat")).unwrap();
        let error = read(directory.path(), None, 2, three).unwrap_err();
        assert!(
            matches!(&error, DataError::EmptyClass { path } if path.ends_with("cat")),
            "{error}"
        );
    }

    #[test]
    fn missing_empty_and_oversized_sets_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let error = read(&directory.path().join("no"), None, 2, GREY).unwrap_err();
        assert!(matches!(error, DataError::Missing { .. }), "{error}");
        let error = read(directory.path(), None, 2, GREY).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("into it as CLASS/IMAGE, or name another folder in the study")
        );
        let many = zoo();
        for i in 0..255 {
            png(many.path(), &format!("ape/{i}.png"), 0);
        }
        let error = read(many.path(), None, MAX_SIDE, GREY).unwrap_err();
        assert!(matches!(error, DataError::TooLarge { .. }), "{error}");
        for side in [0, MAX_SIDE + 1] {
            let error = read(zoo().path(), None, side, GREY).unwrap_err();
            assert!(matches!(error, DataError::Side { .. }), "{error}");
        }
    }
}
