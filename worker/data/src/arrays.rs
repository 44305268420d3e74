//! NumPy's files: `.npy` with one array, `.npz` with several by name. Numbers become fp32, row by
//! row. The layout of a `.npy` file is the one of NumPy Enhancement Proposal 1, versions 1 to 3;
//! a `.npz` file is a zip of them.
//!
//! Objects, records, strings and complex numbers are refused. A header that announces more numbers
//! than the file has is an error, and the announced memory is not allocated.

mod header;

use std::io::{Cursor, Read as _, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use header::{Header, Order};

/// Largest size of an array in a `.npz` file once it is decompressed, bytes.
const MAX_BYTES: u64 = 2 << 30;

/// An array of numbers, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberArray {
    /// Sizes, outermost first; none for a single number.
    pub shape: Vec<usize>,
    /// As many as the product of the sizes.
    pub numbers: Vec<f32>,
}

/// Why a file is not arrays of numbers. Each message is written to follow "failed to read FILE: ".
#[derive(Debug, thiserror::Error)]
pub enum ArrayError {
    /// The file does not begin as NumPy's files do.
    #[error("it is not a .npy file of NumPy")]
    NotNpy,
    /// The header cannot be read.
    #[error("its header is damaged: {0}")]
    Header(&'static str),
    /// Another type than numbers.
    #[error(
        "its numbers have the type {descr:?}; save it as one of float16, float32, float64, bool, \
         or integers of 8 to 64 bits"
    )]
    Type {
        /// As the header says.
        descr: String,
    },
    /// Fewer or more bytes than the shape needs.
    #[error("it has {found} bytes of numbers, but its shape {shape:?} needs {expected}")]
    Length {
        /// As the header says.
        shape: Vec<usize>,
        /// Bytes that it needs.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// Not a zip, or one that is damaged.
    #[error("it is not a .npz file of NumPy: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// An array is too large.
    #[error("the array {name:?} has more than {MAX_BYTES} bytes")]
    TooLarge {
        /// Its name.
        name: String,
    },
    /// Reading or writing a zip failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// An array in a `.npz` file.
    #[error("the array {name:?}: {error}")]
    Member {
        /// Its name.
        name: String,
        /// What is wrong with it.
        error: Box<ArrayError>,
    },
}

/// The array of a `.npy` file.
///
/// # Errors
/// If the bytes are not one array of numbers.
pub fn read_npy(bytes: &[u8]) -> Result<NumberArray, ArrayError> {
    let (Header { number, order, shape }, data) = header::read(bytes)?;
    let count = shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size as u64));
    let expected = count.and_then(|count| count.checked_mul(number.bytes() as u64));
    let (expected, found) = (expected.unwrap_or(u64::MAX), data.len() as u64);
    if expected != found {
        return Err(ArrayError::Length { shape, expected, found });
    }
    let numbers: Vec<f32> = data.chunks_exact(number.bytes()).map(|n| number.read(n)).collect();
    Ok(match order {
        Order::RowByRow => NumberArray { numbers, shape },
        Order::ColumnByColumn => row_by_row(&numbers, shape),
    })
}

/// The arrays of a `.npz` file with their names, in the order of the file.
///
/// # Errors
/// If the bytes are not a zip of arrays of numbers.
pub fn read_npz(bytes: &[u8]) -> Result<Vec<(String, NumberArray)>, ArrayError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let mut arrays = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index(index)?;
        let Some(name) = file.name()?.strip_suffix(".npy").map(str::to_owned) else { continue };
        let mut content = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_BYTES {
            return Err(ArrayError::TooLarge { name });
        }
        match read_npy(&content) {
            Ok(array) => arrays.push((name, array)),
            Err(error) => return Err(ArrayError::Member { name, error: error.into() }),
        }
    }
    Ok(arrays)
}

/// A `.npy` file of an array, in float32.
pub fn write_npy(array: &NumberArray) -> Vec<u8> {
    let mut file = header::write(&array.shape);
    array.numbers.iter().for_each(|number| file.extend_from_slice(&number.to_le_bytes()));
    file
}

/// A `.npz` file of arrays by name, in float32 and not compressed. The same arrays give the same
/// bytes.
///
/// # Errors
/// If two arrays have the same name.
pub fn write_npz(arrays: &[(String, NumberArray)]) -> Result<Vec<u8>, ArrayError> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    // A fixed time, so that the bytes do not depend on when it is written.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    for (name, array) in arrays {
        archive.start_file(format!("{name}.npy"), options)?;
        archive.write_all(&write_npy(array))?;
    }
    Ok(archive.finish()?.into_inner())
}

/// The array whose numbers are listed with the first index fastest.
fn row_by_row(numbers: &[f32], shape: Vec<usize>) -> NumberArray {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1;
    for &size in &shape {
        strides.push(stride);
        stride *= size;
    }
    let mut index = vec![0; shape.len()];
    let mut ordered = Vec::with_capacity(numbers.len());
    for _ in 0..numbers.len() {
        let at: usize = index.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
        ordered.push(numbers[at]);
        for (i, &size) in index.iter_mut().zip(&shape).rev() {
            *i += 1;
            if *i < size {
                break;
            }
            *i = 0;
        }
    }
    NumberArray { shape, numbers: ordered }
}

#[cfg(test)]
mod tests;
