//! Walks over the axes of values, for operations that work on any of them. Axis 0 has the channels.

use smallvec::SmallVec;

use super::InferError;
use crate::Shape;

/// A value as a list of blocks: the numbers of each are `size` runs of `inner` numbers, one for each
/// index of an axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Along {
    /// Size of the axis.
    pub(super) size: usize,
    /// Numbers with the same index of the axes up to this one.
    pub(super) inner: usize,
}

impl Along {
    /// A value along one of its axes.
    pub(super) fn of(axis: usize, sizes: &[u32]) -> Self {
        let inner = sizes[axis + 1..].iter().map(|&size| size as usize).product();
        Self { size: sizes[axis] as usize, inner }
    }

    /// The numbers of one block.
    pub(super) fn block(self) -> usize {
        self.size * self.inner
    }
}

/// An axis of a value, if there is one.
pub(super) fn axis(axis: u32, shape: &Shape) -> Result<usize, InferError> {
    let exists = (axis as usize) <= shape.space().len();
    exists
        .then_some(axis as usize)
        .ok_or_else(|| InferError::NoAxis { axis, shape: shape.to_string() })
}

/// By axis: how far apart numbers are whose index there differs by 1.
pub(super) fn strides(sizes: &[u32]) -> SmallVec<[usize; 3]> {
    (0..sizes.len()).map(|axis| Along::of(axis, sizes).inner).collect()
}

/// Where the numbers of a value of these sizes are, in their order, if they are `strides` apart.
pub(super) fn offsets(sizes: &[u32], strides: &[usize]) -> Vec<usize> {
    let mut offsets = vec![0];
    for (&size, &stride) in sizes.iter().zip(strides) {
        let along = |start: usize| (0..size as usize).map(move |index| start + index * stride);
        offsets = offsets.into_iter().flat_map(along).collect();
    }
    offsets
}
