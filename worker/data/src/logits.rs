//! A teacher's logits from a file: a matrix with a row for each training image of the source, as
//! NumPy writes it. What is wrong with such a file is said here; training uses the rows.

use super::arrays::{ArrayError, NumberArray, read_npy, read_npz, write_npy};
use super::{Dataset, Origin};

/// The first bytes of a zip, which a `.npz` file is.
const ZIP: &[u8] = b"PK";

/// Logits of all training images of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    classes: usize,
    /// `[images][classes]`, finite.
    numbers: Vec<f32>,
}

/// Why a file is not the logits that a study needs. Each message is written to follow "failed to
/// use the logits in FILE: ".
#[derive(Debug, thiserror::Error)]
pub enum LogitsError {
    /// Not a file of arrays of numbers.
    #[error(transparent)]
    Array(#[from] ArrayError),
    /// A `.npz` file of another number of arrays.
    #[error("it has {arrays} arrays; save only the logits in it, or use a .npy file")]
    Arrays {
        /// How many it has.
        arrays: usize,
    },
    /// Not a matrix with a column for each class.
    #[error(
        "its shape is {shape:?}, but it needs a row for each training image and {classes} columns, \
         one for each class"
    )]
    Shape {
        /// The array's.
        shape: Vec<usize>,
        /// Of the study.
        classes: usize,
    },
    /// A number is infinite or NaN.
    #[error("row {row}, column {column} (from 0) is {number}; all logits have to be finite")]
    NonFinite {
        /// From 0.
        row: usize,
        /// From 0.
        column: usize,
        /// The first such number.
        number: f32,
    },
    /// Another number of rows than the file beside it.
    #[error("it has {rows} rows, but the first file has {first}; both are of the same images")]
    OtherRows {
        /// Of the file.
        rows: usize,
        /// Of the first one.
        first: usize,
    },
    /// Too few or too many rows.
    #[error(
        "it has {rows} rows, but the data have {images} training images before any are set aside; \
         compute the logits of exactly these, in the order of the files"
    )]
    Rows {
        /// Of the file.
        rows: usize,
        /// Of the source.
        images: usize,
    },
}

impl Logits {
    /// Reads a `.npy` file, or a `.npz` file with one array, for data of so many classes.
    ///
    /// # Errors
    /// If the file is anything else than one finite number for each image and class.
    pub fn read(bytes: &[u8], classes: usize) -> Result<Self, LogitsError> {
        let NumberArray { shape, numbers } = if bytes.starts_with(ZIP) {
            let mut arrays = read_npz(bytes)?;
            match (arrays.pop(), arrays.len()) {
                (Some((_, array)), 0) => array,
                (last, others) => {
                    let arrays = others + usize::from(last.is_some());
                    return Err(LogitsError::Arrays { arrays });
                }
            }
        } else {
            read_npy(bytes)?
        };
        if shape.len() != 2 || shape[1] != classes {
            return Err(LogitsError::Shape { shape, classes });
        }
        if let Some(place) = numbers.iter().position(|number| !number.is_finite()) {
            let (row, column, number) = (place / classes, place % classes, numbers[place]);
            return Err(LogitsError::NonFinite { row, column, number });
        }
        Ok(Self { classes, numbers })
    }

    /// Adds another file's logits to a weighted mean of logits: this one stands for `before` of the
    /// weight so far, and the other for `weight`.
    ///
    /// # Errors
    /// If the files have other numbers of rows.
    pub fn average(&mut self, before: f64, other: &Self, weight: f64) -> Result<(), LogitsError> {
        if self.numbers.len() != other.numbers.len() {
            let rows = |all: &Self| all.numbers.len() / all.classes;
            return Err(LogitsError::OtherRows { rows: rows(other), first: rows(self) });
        }
        let share = weight / (before + weight);
        for (mean, logit) in self.numbers.iter_mut().zip(&other.numbers) {
            *mean = ((1.0 - share) * f64::from(*mean) + share * f64::from(*logit)) as f32;
        }
        Ok(())
    }

    /// The bytes of a `.npy` file of them.
    pub fn to_npy(&self) -> Vec<u8> {
        let shape = vec![self.numbers.len() / self.classes, self.classes];
        write_npy(&NumberArray { shape, numbers: self.numbers.clone() })
    }

    /// The rows of the images that are trained on, in their order: `[images][classes]`.
    ///
    /// # Errors
    /// If the file has another number of rows than the source has training images.
    pub fn of_training(&self, dataset: &Dataset) -> Result<Vec<f32>, LogitsError> {
        let Origin { images, places } = &dataset.origin;
        let rows = self.numbers.len() / self.classes;
        if rows != *images {
            return Err(LogitsError::Rows { rows, images: *images });
        }
        let row = |&place: &usize| &self.numbers[place * self.classes..][..self.classes];
        Ok(places.iter().flat_map(row).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use edgesmith_common::Seed;
    use edgesmith_common::spec::{DataSource, DataSpec};
    use edgesmith_search_space::DataShape;

    use super::*;
    use crate::arrays::write_npz;

    #[test]
    fn the_mean_of_files_is_a_file() {
        let file = |numbers: &[f32]| {
            let array =
                NumberArray { shape: vec![numbers.len() / 2, 2], numbers: numbers.to_vec() };
            Logits::read(&write_npy(&array), 2).unwrap()
        };
        let mut mean = file(&[1.0, 2.0, 3.0, 4.0]);
        mean.average(1.0, &file(&[5.0, 2.0, -1.0, 0.0]), 1.0).unwrap();
        mean.average(2.0, &file(&[9.0, 8.0, 7.0, 6.0]), 2.0).unwrap();
        assert_eq!(mean, file(&[6.0, 5.0, 4.0, 4.0]));
        assert_eq!(Logits::read(&mean.to_npy(), 2).unwrap(), mean);
        let error = mean.average(4.0, &file(&[1.0, 1.0]), 1.0).unwrap_err().to_string();
        assert!(error.starts_with("it has 1 rows, but the first file has 2"), "{error}");
    }

    fn digits() -> Dataset {
        let spec = DataSpec {
            source: DataSource::Digits,
            validation_fraction: 0.2,
            train_limit: Some(50),
            test_limit: None,
        };
        let shape = DataShape { channels: 1, classes: 10 };
        Dataset::load(&spec, shape, Seed(1), Path::new("")).unwrap()
    }

    /// Every number says its row.
    fn array(rows: usize, classes: usize) -> NumberArray {
        let numbers = (0..rows * classes).map(|place| (place / classes) as f32).collect();
        NumberArray { shape: vec![rows, classes], numbers }
    }

    #[test]
    fn each_training_image_gets_the_row_of_its_place_in_the_source() {
        let data = digits();
        let all = array(data.origin.images, 10);
        let npz = write_npz(&[("logits".to_owned(), all.clone())]).unwrap();
        for file in [write_npy(&all), npz] {
            let rows = Logits::read(&file, 10).unwrap().of_training(&data).unwrap();
            let places = data.origin.places.iter().flat_map(|&place| [place as f32; 10]);
            assert_eq!(rows, places.collect::<Vec<f32>>());
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_in_a_sentence() {
        let read = |file: &[u8]| Logits::read(file, 3).unwrap_err().to_string();
        assert!(read(b"else").contains("not a .npy file"));
        assert!(read(b"PK").contains("not a .npz file"));
        let wide = read(&write_npy(&array(4, 5)));
        assert!(wide.contains("[4, 5]") && wide.contains("3 columns"), "{wide}");
        let flat = NumberArray { shape: vec![3], numbers: vec![0.0; 3] };
        assert!(read(&write_npy(&flat)).contains("its shape is [3]"));
        let mut nan = array(4, 3);
        nan.numbers[7] = f32::NAN;
        assert!(read(&write_npy(&nan)).starts_with("row 2, column 1 (from 0) is NaN"));
        let two = ["a", "b"].map(|name| (name.to_owned(), array(4, 3)));
        assert!(read(&write_npz(&two).unwrap()).starts_with("it has 2 arrays"));
        assert!(read(&write_npz(&[]).unwrap()).starts_with("it has 0 arrays"));
        // A type without numbers.
        let mut strings = write_npy(&array(4, 3));
        let place = strings.windows(3).position(|bytes| bytes == b"<f4").unwrap();
        strings[place..place + 3].copy_from_slice(b"<U4");
        assert!(read(&strings).contains("<U4"));
        let few = Logits::read(&write_npy(&array(4, 10)), 10).unwrap().of_training(&digits());
        let few = few.unwrap_err().to_string();
        assert!(few.starts_with("it has 4 rows, but the data have 3823 training images"), "{few}");
    }
}
