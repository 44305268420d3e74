//! NumPy's files: `.npy` with one array, `.npz` with several by name. Numbers become fp32, row by
//! row. The layout of a `.npy` file is the one of NumPy Enhancement Proposal 1, versions 1 to 3;
//! a `.npz` file is a zip of them.
//!
//! Objects, records, strings and complex numbers are refused. A header that announces more numbers
//! than the file has is an error, and the announced memory is not allocated.

mod header;

use std::io::{self, Cursor, Read, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use header::{Header, Order};

/// Most memory for the arrays of a `.npz` file together, bytes: numbers in float32, and shapes.
const MAX_BYTES: u64 = 2 << 30;

/// Largest header of an array in a `.npz` file, bytes. Those of NumPy have about a hundred.
const MAX_HEADER: u64 = 128 << 10;

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
    /// The arrays are too large together.
    #[error(
        "its arrays up to {name:?} need more than {MAX_BYTES} bytes in float32; split it into \
         several files"
    )]
    TooLarge {
        /// The first array for which there is no more room.
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
    let (expected, found) = (size(&shape, number.bytes()), data.len() as u64);
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
/// If the bytes are not a zip of arrays of numbers, or the arrays need more than 2 GiB of memory.
/// The headers are checked for it before the numbers are decompressed.
pub fn read_npz(bytes: &[u8]) -> Result<Vec<(String, NumberArray)>, ArrayError> {
    read_within(bytes, MAX_BYTES)
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

/// [`read_npz`], with room for this many bytes.
fn read_within(bytes: &[u8], mut room: u64) -> Result<Vec<(String, NumberArray)>, ArrayError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let mut arrays = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index(index)?;
        let Some(name) = file.name()?.strip_suffix(".npy").map(str::to_owned) else { continue };
        match read_member(file, &mut room) {
            Ok(Some(array)) => arrays.push((name, array)),
            Ok(None) => return Err(ArrayError::TooLarge { name }),
            Err(error) => return Err(ArrayError::Member { name, error: error.into() }),
        }
    }
    Ok(arrays)
}

/// The array of a file, for which it takes some of the room; `None` if there is too little.
fn read_member(mut file: impl Read, room: &mut u64) -> Result<Option<NumberArray>, ArrayError> {
    let mut content = Vec::new();
    file.by_ref().take(MAX_HEADER).read_to_end(&mut content)?;
    let (Header { number, shape, .. }, data) = header::read(&content)?;
    let (expected, begun) = (size(&shape, number.bytes()), data.len() as u64);
    // Shapes count too: a short file may have many axes, one of which is 0.
    let kept = size(&shape, size_of::<f32>()).saturating_add(size_of_val(&*shape) as u64);
    let Some(left) = room.checked_sub(kept).filter(|_| expected <= MAX_BYTES) else {
        return Ok(None);
    };
    *room = left;
    file.by_ref().take(expected.saturating_sub(begun)).read_to_end(&mut content)?;
    let found = begun.max(expected) + io::copy(&mut file, &mut io::sink())?;
    if found > expected {
        return Err(ArrayError::Length { shape, expected, found });
    }
    read_npy(&content).map(Some)
}

/// Bytes of an array with numbers of some bytes each; the largest number if it is too large.
fn size(shape: &[usize], bytes: usize) -> u64 {
    let count = shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size as u64));
    count.and_then(|count| count.checked_mul(bytes as u64)).unwrap_or(u64::MAX)
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
