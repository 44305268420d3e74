//! The sizes of a value, and where each of its numbers lies in memory.
//!
//! A value has axes: axis 0 is its channels, the others are positions. Numbers are *listed* row by
//! row over the axes in this order. In *memory* the channels come last: most layers sum over the
//! channels of one position or run along them.

use std::fmt;

use crate::error::Problem;

/// Most axes of a value, the channels included.
pub const MAX_AXES: usize = 6;

/// Largest number of elements of one value, padding included: 16 times a 1024 x 1024 grey image. It
/// keeps a small file from using unbounded memory.
pub const MAX_VALUE_ELEMENTS: u64 = 1 << 24;

/// A number for each axis, such as a size or a stride. Those beyond the last axis are 0.
pub(crate) type PerAxis = [usize; MAX_AXES];

/// Sizes of a value. None is 0, and their product is at most [`MAX_VALUE_ELEMENTS`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// 0 beyond the last axis.
    sizes: [u32; MAX_AXES],
    axes: usize,
}

impl Shape {
    /// A value with these sizes, channels first.
    ///
    /// # Errors
    /// If there are no axes, more than [`MAX_AXES`], a size of 0, or too many elements.
    pub fn new(sizes: &[u32]) -> Result<Self, Problem> {
        if sizes.is_empty() || sizes.len() > MAX_AXES {
            return Err(Problem::AxisCount { found: sizes.len() });
        }
        if sizes.contains(&0) {
            return Err(Problem::Zero("a size"));
        }
        let elements = sizes.iter().fold(1u64, |n, &size| n.saturating_mul(size.into()));
        if elements > MAX_VALUE_ELEMENTS {
            let limit = MAX_VALUE_ELEMENTS;
            return Err(Problem::TooLarge { what: "a value", elements, limit });
        }
        let mut all = [0; MAX_AXES];
        all[..sizes.len()].copy_from_slice(sizes);
        Ok(Self { sizes: all, axes: sizes.len() })
    }

    /// All sizes, channels first.
    #[must_use]
    pub fn sizes(&self) -> &[u32] {
        &self.sizes[..self.axes]
    }

    /// Size of axis 0: channels of a picture, features of a vector.
    #[must_use]
    pub fn channels(&self) -> u32 {
        self.sizes[0]
    }

    /// Sizes of the axes of positions: rows and columns of a picture, nothing for a vector.
    #[must_use]
    pub fn space(&self) -> &[u32] {
        &self.sizes()[1..]
    }

    /// Number of axes.
    #[must_use]
    pub fn axes(&self) -> usize {
        self.axes
    }

    /// Elements of a value of this shape.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.sizes().iter().map(|&size| size as usize).product()
    }

    /// Elements of one channel.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.space().iter().map(|&size| size as usize).product()
    }

    /// Size of an axis; 1 beyond the last one.
    pub(crate) fn size(&self, axis: usize) -> usize {
        self.sizes().get(axis).map_or(1, |&size| size as usize)
    }

    /// The axes as they lie in memory, outermost first: positions, then channels.
    pub(crate) fn in_memory(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        (1..self.axes).chain([0])
    }

    /// Step in memory along each axis.
    pub(crate) fn strides(&self) -> PerAxis {
        let mut strides = [0; MAX_AXES];
        let mut step = 1;
        for axis in self.in_memory().rev() {
            strides[axis] = step;
            step *= self.size(axis);
        }
        strides
    }

    /// Step along each axis in an array from outside, whose axis `i` is axis `order[i]`.
    pub(crate) fn strides_of_array(&self, order: &[u32]) -> PerAxis {
        let mut strides = [0; MAX_AXES];
        let mut step = 1;
        for &axis in order.iter().rev() {
            strides[axis as usize] = step;
            step *= self.size(axis as usize);
        }
        strides
    }

    /// Step in memory along each axis of `output`, into which a value of this shape is repeated:
    /// axes of size 1 are added at the end, and one of size 1 is read again and again.
    pub(crate) fn strides_repeated(&self, output: &Shape) -> PerAxis {
        let mut strides = self.strides();
        for (axis, stride) in strides.iter_mut().enumerate() {
            if self.size(axis) == 1 && output.size(axis) != 1 {
                *stride = 0;
            }
        }
        strides
    }

    /// In memory: how many blocks lie before the axis, and how many elements one step along it
    /// takes.
    pub(crate) fn around(&self, axis: usize) -> (usize, usize) {
        let inner = self.strides()[axis];
        (self.elements() / (inner * self.size(axis)), inner)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (axis, size) in self.sizes().iter().enumerate() {
            let times = if axis == 0 { "" } else { "x" };
            write!(f, "{times}{size}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shape({self})")
    }
}

/// Visits every element of a value in the order of memory, and tells at which element of other
/// values it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk<const N: usize> {
    /// In the order of memory, outermost first.
    sizes: PerAxis,
    /// Of each other value, along the same axes.
    strides: [PerAxis; N],
    axes: usize,
}

impl<const N: usize> Walk<N> {
    /// A walk over a value of `shape`. `strides` are those of the other values along its axes.
    pub fn new(shape: &Shape, strides: [PerAxis; N]) -> Self {
        let mut walk = Self { sizes: [0; MAX_AXES], strides: [[0; MAX_AXES]; N], axes: shape.axes };
        for (place, axis) in shape.in_memory().enumerate() {
            walk.sizes[place] = shape.size(axis);
            for (ours, theirs) in walk.strides.iter_mut().zip(&strides) {
                ours[place] = theirs[axis];
            }
        }
        walk
    }

    /// Calls `visit` with the number of each element, and that of the elements of the others.
    #[inline(always)]
    pub fn run(&self, mut visit: impl FnMut(usize, [usize; N])) {
        let last = self.axes - 1;
        let (mut at, mut from, mut index) = ([0; MAX_AXES], [0; N], 0);
        loop {
            let mut others = from;
            for _ in 0..self.sizes[last] {
                visit(index, others);
                index += 1;
                for (other, strides) in others.iter_mut().zip(&self.strides) {
                    *other += strides[last];
                }
            }
            // To the next line: the innermost axis that is not at its end goes one step on.
            let mut axis = last;
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                at[axis] += 1;
                let turns = at[axis] == self.sizes[axis];
                for (from, strides) in from.iter_mut().zip(&self.strides) {
                    if turns {
                        *from -= strides[axis] * (self.sizes[axis] - 1);
                    } else {
                        *from += strides[axis];
                    }
                }
                if !turns {
                    break;
                }
                at[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_last_in_memory() {
        let shape = Shape::new(&[2, 3, 5]).unwrap();
        assert_eq!(shape.strides()[..3], [1, 10, 2]);
        assert_eq!(shape.strides_of_array(&[0, 1, 2])[..3], [15, 5, 1]);
        assert_eq!(shape.strides_of_array(&[1, 2, 0])[..3], [1, 10, 2]);
        assert_eq!((shape.around(0), shape.around(1), shape.around(2)), ((15, 1), (1, 10), (3, 2)));
        assert_eq!(
            (shape.elements(), shape.positions(), shape.to_string()),
            (30, 15, "2x3x5".into())
        );
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Shape::new(&[]).is_err() && Shape::new(&[1; 7]).is_err());
        assert!(Shape::new(&[1, 0]).is_err() && Shape::new(&[u32::MAX; 6]).is_err());
        assert!(Shape::new(&[1 << 24]).is_ok() && Shape::new(&[1 << 12, 1 << 12, 2]).is_err());
    }

    #[test]
    fn a_walk_visits_every_element_once() {
        let shape = Shape::new(&[2, 3, 4]).unwrap();
        let small = Shape::new(&[2, 1, 4]).unwrap();
        let strides = [shape.strides_of_array(&[0, 1, 2]), small.strides_repeated(&shape)];
        let mut seen = Vec::new();
        Walk::new(&shape, strides).run(|index, [listed, repeated]| {
            let (channel, position) = (index % 2, index / 2);
            assert_eq!(listed, channel * 12 + position);
            assert_eq!(repeated, position % 4 * 2 + channel);
            seen.push(index);
        });
        assert_eq!(seen, (0..24).collect::<Vec<_>>());
    }
}
