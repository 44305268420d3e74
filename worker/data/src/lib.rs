//! Images and labels for training: the embedded digits, readers for users' files, the seeded split
//! into train, validation and test parts, augmented views, and resizing.
//!
//! All images are bytes; training makes normalised floats and batches. This crate does not use
//! burn and does not download. If a file's header announces a wrong size, that is an error, and the
//! announced memory is not allocated.

use std::path::Path;

use edgesmith_common::spec::{DataSource, DataSpec};
use edgesmith_common::{ArtifactHash, Seed};
use edgesmith_search_space::DataShape;

pub mod arrays;
pub mod files;

mod calibration;
mod cifar10;
mod digits;
mod error;
mod file;
mod folder;
mod idx;
mod image_set;
mod listing;
mod logits;
mod picture;
mod split;
mod views;

use error::Faults;

pub use error::DataError;
pub use file::read_decompressed;
pub use image_set::{ImageSet, Normalization, Resize};
pub use logits::{Logits, LogitsError};
pub use picture::read_image;
pub use views::Views;

/// The images of a study: train, validation and test parts at native resolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The images that networks are trained on.
    pub train: ImageSet,
    /// The images that the search uses for accuracy: a stratified, seeded part of the source's
    /// training images.
    pub validation: ImageSet,
    /// Held-out images that the search never uses.
    pub test: ImageSet,
    /// Number of classes; every label is below it.
    pub classes: usize,
    /// Normalisation constants of the train part, after the split and all limits.
    pub normalization: Normalization,
    /// Where the images of the train part stand in the source.
    pub origin: Origin,
}

/// Where the images of the train part stand among all training images of their source, in the order
/// of its files, before anything is held out, limited or split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Number of training images of the source.
    pub images: usize,
    /// For each image of the train part its place, from 0.
    pub places: Vec<usize>,
}

impl Origin {
    /// Of a train part that has all images of its source.
    pub fn whole(images: usize) -> Self {
        Self { images, places: (0..images).collect() }
    }

    /// Of the images of this part with these numbers.
    fn subset(self, chosen: &[usize]) -> Self {
        let places = chosen.iter().map(|&image| self.places[image]).collect();
        Self { places, ..self }
    }
}

impl Dataset {
    /// Reads the files of `spec`, checks them against `data` and each other, and splits them.
    ///
    /// Relative paths are resolved against `base_directory`. The same files, spec and seed result
    /// in the same parts, image by image. Each part keeps the order of the source.
    ///
    /// # Errors
    /// If a file is missing, damaged or of the wrong kind, if files disagree with each other or
    /// with `data`, or if a class has no image in a part. All files are read, so that one error
    /// names up to 20 faulty ones.
    pub fn load(
        spec: &DataSpec,
        data: DataShape,
        seed: Seed,
        base_directory: &Path,
    ) -> Result<Self, DataError> {
        Self::load_with_hash(spec, data, seed, base_directory).map(|(read, _)| read)
    }

    /// Like [`Dataset::load`], with a hash of what the data are: the content of the files, the
    /// labels, the order and the split. It is the same on every machine with the same files,
    /// wherever they are. Hashing takes little time beside reading.
    ///
    /// # Errors
    /// Those of [`Dataset::load`].
    pub fn load_with_hash(
        spec: &DataSpec,
        data: DataShape,
        seed: Seed,
        base_directory: &Path,
    ) -> Result<(Self, ArtifactHash), DataError> {
        let at = |path: &str| base_directory.join(path);
        // The pixels of these sources are the bytes of their files.
        let hashed = |(train, test): (ImageSet, ImageSet)| {
            let hash = ArtifactHash::of_parts(&[train.hash(), test.hash()]);
            let origin = Origin::whole(train.len());
            ((train, origin), test, hash)
        };
        let (train, test, files) = match &spec.source {
            DataSource::Digits => hashed(digits::read(data)?),
            DataSource::Idx { train_images, train_labels, test_images, test_labels } => {
                let mut faults = Faults::default();
                let train = faults.take(idx::read(&at(train_images), &at(train_labels), data));
                let test = faults.take(idx::read(&at(test_images), &at(test_labels), data));
                faults.check()?;
                hashed(train.zip(test).expect("without an error both were read"))
            }
            DataSource::Cifar10 { directory } => hashed(cifar10::read(&at(directory), data)?),
            DataSource::ImageFolder { train, test, side } => {
                let (train, test) = (at(train), test.as_deref().map(at));
                folder::read(&train, test.as_deref(), *side, data)?
            }
        };
        let (read, split) = Self::assemble(train, test, spec, data.classes as usize, seed)?;
        Ok((read, ArtifactHash::of_parts(&[files, split])))
    }

    /// Size of all images and labels, bytes.
    pub fn bytes(&self) -> u64 {
        let of = |set: &ImageSet| set.pixels.len() + size_of_val(set.labels.as_slice());
        [&self.train, &self.validation, &self.test].map(of).iter().sum::<usize>() as u64
    }

    /// Applies the limits and the validation split to the images of a reader. The hash is that of
    /// the choices.
    fn assemble(
        (mut all, mut origin): (ImageSet, Origin),
        mut test: ImageSet,
        spec: &DataSpec,
        classes: usize,
        seed: Seed,
    ) -> Result<(Self, ArtifactHash), DataError> {
        if (all.height, all.width) != (test.height, test.width) {
            return Err(DataError::SizeMismatch {
                train: (all.height, all.width),
                test: (test.height, test.width),
            });
        }
        // A class may have no images (EMNIST's letters start at 1). But if the last class has none,
        // the number of classes is wrong.
        let highest = all.labels.iter().copied().max().map(usize::from);
        match highest {
            None => return Err(DataError::EmptyPart { part: "training" }),
            Some(highest) if highest + 1 != classes => {
                return Err(DataError::UnusedClasses { highest, classes });
            }
            Some(_) => {}
        }
        let present = split::count(&all.labels, classes);
        let tested = split::count(&test.labels, classes);
        if let Some(limit) = spec.test_limit {
            test.truncate(limit);
        }
        if test.is_empty() {
            return Err(DataError::EmptyPart { part: "test" });
        }
        let left = split::count(&test.labels, classes);
        if let Some(class) = (0..classes).find(|&c| tested[c] > 0 && left[c] == 0) {
            return Err(DataError::ClassNotInTest { class, images: test.len() });
        }
        let mut kept = Vec::new();
        if let Some(limit) = spec.train_limit
            && limit < all.len()
        {
            let mut rng = split::generator(seed, split::Use::TrainLimit);
            kept = split::choose(&all.labels, classes, limit, &mut rng);
            all = all.subset(&kept);
            origin = origin.subset(&kept);
        }

        let count = (all.len() as f64 * spec.validation_fraction).round() as usize;
        let mut rng = split::generator(seed, split::Use::Validation);
        let chosen = split::choose(&all.labels, classes, count, &mut rng);
        let validation = all.subset(&chosen);
        let rest = split::complement(&chosen, all.len());
        let (train, origin) = (all.subset(&rest), origin.subset(&rest));
        for (part, set) in [("training", &train), ("validation", &validation)] {
            let counts = split::count(&set.labels, classes);
            if let Some(class) = (0..classes).find(|&c| present[c] > 0 && counts[c] == 0) {
                return Err(DataError::ClassNotInPart { part, class, images: set.len() });
            }
        }
        let hash = ArtifactHash::of_parts(&[split::hash(&kept), split::hash(&chosen)]);
        let normalization = Normalization::of(&train);
        Ok((Self { train, validation, test, classes, normalization, origin }, hash))
    }
}

/// The names of the classes, in the order of their numbers; empty if `source` has no names.
/// Relative paths are resolved against `base_directory`.
///
/// # Errors
/// If the folder whose entries are the names cannot be read.
pub fn class_names(source: &DataSource, base_directory: &Path) -> Result<Vec<String>, DataError> {
    match source {
        DataSource::Digits | DataSource::Idx { .. } => Ok(Vec::new()),
        DataSource::Cifar10 { .. } => Ok(cifar10::NAMES.map(str::to_owned).to_vec()),
        DataSource::ImageFolder { train, .. } => {
            let names = listing::class_folders(&base_directory.join(train))?.into_iter();
            Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use edgesmith_common::spec::Augmentation;

    use super::*;

    const DIGITS: DataShape = DataShape { channels: 1, classes: 10 };

    fn digits_spec() -> DataSpec {
        DataSpec {
            source: DataSource::Digits,
            validation_fraction: 0.2,
            train_limit: None,
            test_limit: None,
        }
    }

    fn digits(spec: &DataSpec, seed: u64) -> Dataset {
        Dataset::load(spec, DIGITS, Seed(seed), Path::new("/nowhere")).unwrap()
    }

    /// Images of one pixel, all different, with these labels.
    fn set(labels: &[u16]) -> ImageSet {
        ImageSet {
            channels: 1,
            height: 1,
            width: 1,
            pixels: (0..labels.len()).map(|i| i as u8).collect(),
            labels: labels.to_vec(),
        }
    }

    fn assemble(train: ImageSet, test: ImageSet, spec: &DataSpec) -> Result<Dataset, DataError> {
        let origin = Origin::whole(train.len());
        Dataset::assemble((train, origin), test, spec, 3, Seed(1)).map(|(read, _)| read)
    }

    #[test]
    fn the_split_is_stratified_disjoint_and_complete() {
        let whole = digits::read(DIGITS).unwrap().0;
        let data = digits(&digits_spec(), 3);
        assert_eq!((data.train.len(), data.validation.len(), data.test.len()), (3058, 765, 1797));
        assert_eq!(data.classes, 10);
        for (all, part) in split::count(&whole.labels, 10)
            .into_iter()
            .zip(split::count(&data.validation.labels, 10))
        {
            assert!((all as f64 / 5.0 - part as f64).abs() < 1.0);
        }
        let sorted = |sets: &[&ImageSet]| {
            let mut images: Vec<(Vec<u8>, u16)> = sets
                .iter()
                .flat_map(|set| (0..set.len()).map(|i| (set.image(i).to_vec(), set.labels[i])))
                .collect();
            images.sort_unstable();
            images
        };
        assert_eq!(sorted(&[&data.train, &data.validation]), sorted(&[&whole]));
    }

    #[test]
    fn only_the_seed_decides_the_split() {
        let data = digits(&digits_spec(), 3);
        assert_eq!(digits(&digits_spec(), 3), data);
        let other = digits(&digits_spec(), 4);
        assert_ne!(other.validation, data.validation);
        assert_eq!(other.test, data.test);
    }

    /// These values never change: studies keep them.
    #[test]
    fn the_hash_depends_on_the_images_the_labels_the_order_and_the_choices() {
        let hash = |spec: &DataSpec, seed| {
            Dataset::load_with_hash(spec, DIGITS, Seed(seed), Path::new("/nowhere")).unwrap().1
        };
        let first = hash(&digits_spec(), 3);
        assert!(first.to_string().starts_with("531904eb"), "{first}");
        assert_eq!(hash(&digits_spec(), 3), first);
        assert_ne!(hash(&digits_spec(), 4), first);
        let limited = DataSpec { train_limit: Some(500), ..digits_spec() };
        assert_ne!(hash(&limited, 3), first);

        let directory = tempfile::tempdir().unwrap();
        let folder_hash = |side| {
            let source = DataSource::ImageFolder { train: "t".into(), test: None, side };
            let spec = DataSpec { source, validation_fraction: 0.5, ..digits_spec() };
            let shape = DataShape { channels: 1, classes: 2 };
            Dataset::load_with_hash(&spec, shape, Seed(1), directory.path()).unwrap().1
        };
        let path = |name: &str| directory.path().join("t").join(name);
        for class in ["a", "b"] {
            fs::create_dir_all(path(class)).unwrap();
            for i in 0..10 {
                let image = image::GrayImage::from_pixel(2, 2, image::Luma([i]));
                image.save(path(&format!("{class}/{i}.png"))).unwrap();
            }
        }
        let first = folder_hash(2);
        // Another name in the same place changes nothing.
        fs::rename(path("a/9.png"), path("a/9-new.png")).unwrap();
        assert_eq!(folder_hash(2), first);
        fs::rename(path("a/0.png"), path("a/x.png")).unwrap();
        let reordered = folder_hash(2);
        assert_ne!(reordered, first);
        // The image is the same in another class.
        fs::rename(path("a/x.png"), path("b/x.png")).unwrap();
        assert!(![first, reordered].contains(&folder_hash(2)));
    }

    #[test]
    fn normalization_uses_the_train_part() {
        let data = digits(&digits_spec(), 3);
        assert_eq!(data.normalization, Normalization::of(&data.train));
        assert_ne!(data.normalization, Normalization::of(&digits::read(DIGITS).unwrap().0));
    }

    #[test]
    fn limits_keep_a_stratified_part_and_the_first_test_images() {
        let spec = DataSpec { train_limit: Some(500), test_limit: Some(50), ..digits_spec() };
        let data = digits(&spec, 3);
        assert_eq!((data.train.len(), data.validation.len()), (400, 100));
        let counts = split::count(&data.train.labels, 10);
        assert!(counts.iter().all(|n| (38..=42).contains(n)), "{counts:?}");
        let first: Vec<usize> = (0..50).collect();
        assert_eq!(data.test, digits::read(DIGITS).unwrap().1.subset(&first));
        let generous = DataSpec {
            train_limit: Some(usize::MAX),
            test_limit: Some(usize::MAX),
            ..digits_spec()
        };
        assert_eq!(digits(&generous, 3), digits(&digits_spec(), 3));
    }

    #[test]
    fn the_origin_says_which_images_of_the_source_are_trained_on() {
        let whole = digits::read(DIGITS).unwrap().0;
        for spec in [digits_spec(), DataSpec { train_limit: Some(500), ..digits_spec() }] {
            let data = digits(&spec, 3);
            assert_eq!(data.origin.images, whole.len());
            assert_eq!(data.train, whole.subset(&data.origin.places));
        }
        // Nobody else knows which images of a folder without a test part are held out.
        let directory = tempfile::tempdir().unwrap();
        for i in 0..20 {
            let path = directory.path().join(format!("{}/{i:02}.png", i % 2));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::GrayImage::from_pixel(1, 1, image::Luma([i])).save(path).unwrap();
        }
        let train = directory.path().display().to_string();
        let source = DataSource::ImageFolder { train, test: None, side: 1 };
        let spec = DataSpec { source, ..digits_spec() };
        let shape = DataShape { channels: 1, classes: 2 };
        let data = Dataset::load(&spec, shape, Seed(1), Path::new("")).unwrap();
        let places: Vec<usize> = data.train.pixels.iter().map(|&i| usize::from(i)).collect();
        assert_eq!(data.origin, Origin { images: 20, places });
    }

    #[test]
    fn views_fit_the_digits() {
        let train = digits(&digits_spec(), 3).train;
        let views = Views::new(&Augmentation { shift: 1, flip: false, views: 4 }, Seed(3));
        let moved = views.render_all(&train, 1).resized(16);
        assert_eq!((moved.len(), moved.height, moved.labels), (train.len(), 16, train.labels));
    }

    #[test]
    fn parts_without_a_class_are_errors() {
        let test = set(&[0]);
        let spec = digits_spec();
        let two_of_each = set(&[0, 0, 1, 1, 2, 2]);
        let error = assemble(two_of_each.clone(), test.clone(), &spec).unwrap_err();
        assert!(
            matches!(error, DataError::ClassNotInPart { part: "validation", images: 1, .. }),
            "{error}"
        );
        let half = DataSpec { validation_fraction: 0.5, ..spec.clone() };
        let data = assemble(two_of_each, test.clone(), &half).unwrap();
        assert_eq!(split::count(&data.validation.labels, 3), [1, 1, 1]);

        let most = DataSpec { validation_fraction: 0.99, ..spec.clone() };
        let error = assemble(set(&[0, 1, 2, 0, 1, 2]), test.clone(), &most).unwrap_err();
        assert!(matches!(error, DataError::ClassNotInPart { part: "training", .. }), "{error}");
        let few = DataSpec { train_limit: Some(2), ..half.clone() };
        let error = assemble(set(&[0, 1, 2, 0, 1, 2]), test.clone(), &few).unwrap_err();
        assert!(matches!(error, DataError::ClassNotInPart { .. }), "{error}");

        let cut = DataSpec { test_limit: Some(2), ..half.clone() };
        let all = set(&[0, 1, 2, 0, 1, 2]);
        let error = assemble(all, set(&[0, 1, 1, 2]), &cut).unwrap_err();
        let said = "class 2 has no image among the 2 of the test part: raise data.test_limit, or \
                    leave it out";
        assert_eq!(error.to_string(), said);

        // A class that the source does not have is not required in the split.
        assemble(set(&[0, 2, 0, 2]), test, &half).unwrap();
    }

    #[test]
    fn empty_parts_different_sizes_and_too_many_classes_are_errors() {
        let (train, test) = (set(&[0, 1, 2, 0, 1, 2]), set(&[0]));
        let spec = DataSpec { validation_fraction: 0.5, ..digits_spec() };
        assemble(train.clone(), test.clone(), &spec).unwrap();

        let error = assemble(set(&[]), test.clone(), &spec).unwrap_err();
        assert!(matches!(error, DataError::EmptyPart { part: "training" }), "{error}");
        let none = DataSpec { test_limit: Some(0), ..spec.clone() };
        let error = assemble(train.clone(), test.clone(), &none).unwrap_err();
        assert!(matches!(error, DataError::EmptyPart { part: "test" }), "{error}");
        let error = assemble(set(&[0, 1]), test.clone(), &spec).unwrap_err();
        assert!(matches!(error, DataError::UnusedClasses { highest: 1, classes: 3 }), "{error}");
        let wide = ImageSet { width: 2, pixels: vec![0; 2], ..test };
        let error = assemble(train, wide, &spec).unwrap_err();
        assert!(
            matches!(error, DataError::SizeMismatch { train: (1, 1), test: (1, 2) }),
            "{error}"
        );
    }

    #[test]
    fn relative_paths_start_at_the_base_directory() {
        let directory = tempfile::tempdir().unwrap();
        let write =
            |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
        write("images", &[0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 1, 5, 6, 7, 8]);
        write("labels", &[0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1]);
        let absolute = directory.path().join("labels").display().to_string();
        let spec = |test_labels: &str| DataSpec {
            source: DataSource::Idx {
                train_images: "images".into(),
                train_labels: "labels".into(),
                test_images: "images".into(),
                test_labels: test_labels.into(),
            },
            validation_fraction: 0.5,
            train_limit: None,
            test_limit: None,
        };
        let shape = DataShape { channels: 1, classes: 2 };
        let load = |spec: &DataSpec| Dataset::load(spec, shape, Seed(1), directory.path());
        let data = load(&spec("labels")).unwrap();
        assert_eq!((data.train.len(), data.validation.len()), (2, 2));
        assert_eq!(data.test.pixels, [5, 6, 7, 8]);
        assert_eq!(load(&spec(&absolute)).unwrap(), data);
        let error = load(&spec("absent")).unwrap_err();
        assert!(
            matches!(&error, DataError::Missing { path } if path.ends_with("absent")),
            "{error}"
        );
    }

    #[test]
    fn cifar10_and_folders_are_selected_by_name() {
        let load = |source, channels, classes| {
            let spec = DataSpec { source, ..digits_spec() };
            let shape = DataShape { channels, classes };
            Dataset::load(&spec, shape, Seed(1), Path::new("/nowhere")).unwrap_err().to_string()
        };
        let cifar10 = load(DataSource::Cifar10 { directory: "cifar".into() }, 3, 10);
        assert!(cifar10.starts_with("/nowhere/cifar does not exist"), "{cifar10}");
        let source = DataSource::ImageFolder { train: "photos".into(), test: None, side: 8 };
        let folder = load(source, 3, 2);
        assert!(folder.starts_with("/nowhere/photos does not exist"), "{folder}");
    }

    #[test]
    fn classes_have_names_if_the_source_has_them() {
        let directory = tempfile::tempdir().unwrap();
        for class in ["bee", "ape", "10"] {
            fs::create_dir_all(directory.path().join("photos").join(class)).unwrap();
        }
        let names = |source| class_names(&source, directory.path());
        let folder =
            |train: &str| DataSource::ImageFolder { train: train.into(), test: None, side: 8 };
        assert_eq!(names(folder("photos")).unwrap(), ["10", "ape", "bee"]);
        assert!(matches!(names(folder("absent")), Err(DataError::Missing { .. })));
        let cifar10 = names(DataSource::Cifar10 { directory: "absent".into() }).unwrap();
        assert_eq!((cifar10.len(), cifar10[9].as_str()), (10, "truck"));
        assert_eq!(names(DataSource::Digits).unwrap(), [""; 0]);
    }

    #[test]
    fn fashion_mnist_is_as_published() {
        let files =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/fashion-mnist");
        if !files.is_dir() {
            eprintln!("skipped: {} does not exist", files.display());
            return;
        }
        let read = |part: &str| {
            let file = |kind: &str| files.join(format!("{part}-{kind}-ubyte.gz"));
            idx::read(&file("images-idx3"), &file("labels-idx1"), DIGITS).unwrap()
        };
        let (train, test) = (read("train"), read("t10k"));
        assert_eq!((train.len(), test.len()), (60_000, 10_000));
        assert_eq!((train.height, train.width), (28, 28));
        assert_eq!(split::count(&test.labels, 10), [1000; 10]);
        let Normalization { mean, std } = Normalization::of(&train);
        assert!((mean[0] - 0.2860).abs() < 5e-5, "{mean:?}");
        assert!((std[0] - 0.3530).abs() < 5e-5, "{std:?}");
    }
}
