//! Images and labels for training: the embedded digits and readers for the files that users have,
//! the seeded split into train, validation and test parts, augmented views, and resizing.
//!
//! All of it is bytes: normalised floats and batches are made by training. Nothing here knows burn,
//! and nothing here downloads. A file that lies about its size costs an error, not the memory that
//! it claims.

use std::path::Path;

use edgesmith_common::Seed;
use edgesmith_common::spec::{DataSource, DataSpec};
use edgesmith_search_space::DataShape;

mod cifar10;
mod digits;
mod error;
mod file;
mod folder;
mod idx;
mod image_set;
mod split;
mod views;

pub use error::DataError;
pub use image_set::{ImageSet, Normalization};
pub use views::Views;

/// The images of a study: train, validation and test parts at native resolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// What networks are trained on.
    pub train: ImageSet,
    /// What the search is scored on: a stratified, seeded part of the source's training images.
    pub validation: ImageSet,
    /// Held out; the search never sees it.
    pub test: ImageSet,
    /// Number of classes; every label is below it.
    pub classes: usize,
    /// Of the train part, after the split and all limits.
    pub normalization: Normalization,
}

impl Dataset {
    /// Reads the files of `spec`, checks them against `data` and each other, and splits them.
    ///
    /// Relative paths are resolved against `base_directory`. The same files, spec and seed give the
    /// same parts, image by image. Order within a part is the source's.
    ///
    /// # Errors
    /// When a file is missing, damaged or not what it should be, when files disagree with each
    /// other or with `data`, and when a class would have no image in a part.
    pub fn load(
        spec: &DataSpec,
        data: DataShape,
        seed: Seed,
        base_directory: &Path,
    ) -> Result<Self, DataError> {
        let at = |path: &str| base_directory.join(path);
        let (train, test) = match &spec.source {
            DataSource::Digits => digits::read(data)?,
            DataSource::Idx { train_images, train_labels, test_images, test_labels } => (
                idx::read(&at(train_images), &at(train_labels), data)?,
                idx::read(&at(test_images), &at(test_labels), data)?,
            ),
            DataSource::Cifar10 { directory } => cifar10::read(&at(directory), data)?,
            DataSource::ImageFolder { train, test, side } => {
                let (train, test) = (at(train), test.as_deref().map(at));
                folder::read(&train, test.as_deref(), *side, data, seed)?
            }
        };
        Self::assemble(train, test, spec, data.classes as usize, seed)
    }

    /// Applies the limits and the validation split to what a reader gave.
    fn assemble(
        mut all: ImageSet,
        mut test: ImageSet,
        spec: &DataSpec,
        classes: usize,
        seed: Seed,
    ) -> Result<Self, DataError> {
        if (all.height, all.width) != (test.height, test.width) {
            return Err(DataError::SizeMismatch {
                train: (all.height, all.width),
                test: (test.height, test.width),
            });
        }
        // A class in the middle may be without images (EMNIST's letters start at 1); the last one
        // without images is a wrong number of classes.
        let highest = all.labels.iter().copied().max().map(usize::from);
        match highest {
            None => return Err(DataError::EmptyPart { part: "training" }),
            Some(highest) if highest + 1 != classes => {
                return Err(DataError::UnusedClasses { highest, classes });
            }
            Some(_) => {}
        }
        let present = split::count(&all.labels, classes);
        if let Some(limit) = spec.test_limit {
            test.truncate(limit);
        }
        if test.is_empty() {
            return Err(DataError::EmptyPart { part: "test" });
        }
        if let Some(limit) = spec.train_limit
            && limit < all.len()
        {
            let mut rng = split::generator(seed, split::Use::TrainLimit);
            all = all.subset(&split::choose(&all.labels, classes, limit, &mut rng));
        }

        let count = (all.len() as f64 * spec.validation_fraction).round() as usize;
        let mut rng = split::generator(seed, split::Use::Validation);
        let chosen = split::choose(&all.labels, classes, count, &mut rng);
        let validation = all.subset(&chosen);
        let train = all.subset(&split::complement(&chosen, all.len()));
        for (part, set) in [("training", &train), ("validation", &validation)] {
            let counts = split::count(&set.labels, classes);
            if let Some(class) = (0..classes).find(|&c| present[c] > 0 && counts[c] == 0) {
                return Err(DataError::ClassNotInPart { part, class, images: set.len() });
            }
        }
        let normalization = Normalization::of(&train);
        Ok(Self { train, validation, test, classes, normalization })
    }
}
