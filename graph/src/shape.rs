//! The size of a value: its channels, and the positions at which it has them.

use std::fmt;

use smallvec::SmallVec;

/// Largest number of numbers that a value may have. It keeps products of sizes far from overflow;
/// engines have lower limits of their own.
pub const MAX_ELEMENTS: u64 = 1 << 31;

/// Channels and positions of a value; the batch is implicit. A picture has two axes of positions,
/// a sequence has one, and a vector has none. Numbers are listed channel by channel, and within a
/// channel row by row.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    channels: u32,
    space: SmallVec<[u32; 2]>,
}

/// Why sizes are not those of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A size of 0.
    #[error("{shape} has a size of 0")]
    Empty {
        /// The sizes, such as `3x0x32`.
        shape: String,
    },
    /// More than [`MAX_ELEMENTS`].
    #[error("{shape} has more than {MAX_ELEMENTS} numbers")]
    TooLarge {
        /// The sizes.
        shape: String,
    },
}

impl Shape {
    /// A value with `channels` at each position of `space`, whose sizes come outermost first.
    ///
    /// # Errors
    /// If a size is 0, or the value is larger than [`MAX_ELEMENTS`].
    pub fn new(channels: u32, space: &[u32]) -> Result<Self, ShapeError> {
        let shape = Self { channels, space: SmallVec::from_slice(space) };
        let sizes = || std::iter::once(channels).chain(space.iter().copied());
        if sizes().any(|size| size == 0) {
            return Err(ShapeError::Empty { shape: shape.to_string() });
        }
        let elements = sizes().try_fold(1u64, |n, size| n.checked_mul(size.into()));
        match elements {
            Some(elements) if elements <= MAX_ELEMENTS => Ok(shape),
            _ => Err(ShapeError::TooLarge { shape: shape.to_string() }),
        }
    }

    /// A value with these sizes of all axes, channels first.
    ///
    /// # Errors
    /// See [`Shape::new`]; without sizes it has no numbers.
    pub fn of(sizes: &[u32]) -> Result<Self, ShapeError> {
        let (&channels, space) = sizes.split_first().unwrap_or((&0, &[]));
        Self::new(channels, space)
    }

    /// The sizes of all axes, channels first.
    pub fn sizes(&self) -> SmallVec<[u32; 3]> {
        let mut sizes = SmallVec::with_capacity(1 + self.space.len());
        sizes.push(self.channels);
        sizes.extend_from_slice(&self.space);
        sizes
    }

    /// Number of channels, at least 1.
    pub fn channels(&self) -> u32 {
        self.channels
    }

    /// Sizes of the axes of positions: rows and columns of a picture, nothing for a vector.
    pub fn space(&self) -> &[u32] {
        &self.space
    }

    /// Number of positions; 1 for a vector.
    pub fn positions(&self) -> u64 {
        self.space.iter().map(|&size| u64::from(size)).product()
    }

    /// Number of numbers.
    pub fn elements(&self) -> u64 {
        u64::from(self.channels) * self.positions()
    }

    /// The same positions with another number of channels.
    ///
    /// # Errors
    /// See [`Shape::new`].
    pub fn with_channels(&self, channels: u32) -> Result<Self, ShapeError> {
        Self::new(channels, &self.space)
    }
}

impl Clone for Shape {
    fn clone(&self) -> Self {
        Self { channels: self.channels, space: SmallVec::from_slice(&self.space) }
    }
}

/// `3x32x32`
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.channels)?;
        self.space.iter().try_for_each(|size| write!(f, "x{size}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_multiply() {
        let picture = Shape::new(3, &[4, 5]).unwrap();
        assert_eq!((picture.positions(), picture.elements()), (20, 60));
        assert_eq!(picture.to_string(), "3x4x5");
        assert_eq!(picture.sizes().as_slice(), [3, 4, 5]);
        assert_eq!(Shape::of(&[3, 4, 5]), Ok(picture));
        assert!(Shape::of(&[]).is_err());
        let vector = Shape::new(7, &[]).unwrap();
        assert_eq!((vector.positions(), vector.elements()), (1, 7));
    }

    #[test]
    fn empty_and_huge_values_are_refused() {
        let error = |channels, space: &[u32]| Shape::new(channels, space).unwrap_err().to_string();
        assert_eq!(error(3, &[0, 2]), "3x0x2 has a size of 0");
        assert_eq!(error(0, &[]), "0 has a size of 0");
        let huge = [u32::MAX; 5];
        assert!(error(2, &huge).ends_with("has more than 2147483648 numbers"));
        assert!(Shape::new(1 << 16, &[1 << 15]).is_ok());
        assert!(Shape::new(1 << 16, &[(1 << 15) + 1]).is_err());
    }
}
