//! How the numbers of a batch of values lie in a tensor.
//!
//! Every value is a tensor of four axes: batch, channels, rows and columns. A sequence has one row,
//! a vector has one row and one column. Only the order of the axes differs.

use burn::tensor::Tensor;
use edgesmith_graph::Shape;

/// The order of the axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[batch, channels, rows, columns]`, which burn's operations need.
    BatchFirst,
    /// `[channels, rows, columns, batch]`, which the kernels of the fast path need.
    BatchLast,
}

impl Layout {
    /// The axis of the channels.
    pub(super) fn channels(self) -> usize {
        match self {
            Layout::BatchFirst => 1,
            Layout::BatchLast => 0,
        }
    }

    /// The axis of the columns.
    pub(super) fn columns(self) -> usize {
        match self {
            Layout::BatchFirst => 3,
            Layout::BatchLast => 2,
        }
    }

    /// Channels, rows and columns of a tensor.
    pub(super) fn picture(self, value: &Tensor<4>) -> [usize; 3] {
        let start = self.channels();
        std::array::from_fn(|axis| value.dims()[start + axis])
    }

    /// The axis of the batch.
    fn batch(self) -> usize {
        match self {
            Layout::BatchFirst => 0,
            Layout::BatchLast => 3,
        }
    }

    /// The same numbers with other channels, rows and columns. They lie in this order in either
    /// layout, so no number moves.
    pub(super) fn reshape(self, value: Tensor<4>, picture: [usize; 3]) -> Tensor<4> {
        let batch = value.dims()[self.batch()];
        value.reshape(self.sizes(batch, picture))
    }

    /// The sizes of a tensor with so many examples, and these channels, rows and columns.
    pub(super) fn sizes(self, batch: usize, [channels, rows, columns]: [usize; 3]) -> [usize; 4] {
        match self {
            Layout::BatchFirst => [batch, channels, rows, columns],
            Layout::BatchLast => [channels, rows, columns, batch],
        }
    }

    /// Puts the axes of a tensor with the batch first into this order.
    pub(super) fn arrange(self, value: Tensor<4>) -> Tensor<4> {
        match self {
            Layout::BatchFirst => value,
            Layout::BatchLast => value.permute([1, 2, 3, 0]),
        }
    }

    /// The reverse of [`Layout::arrange`].
    pub(super) fn to_batch_first(self, value: Tensor<4>) -> Tensor<4> {
        match self {
            Layout::BatchFirst => value,
            Layout::BatchLast => value.permute([3, 0, 1, 2]),
        }
    }
}

/// Channels, rows and columns of a value.
pub(crate) fn picture(shape: &Shape) -> [usize; 3] {
    let channels = shape.channels() as usize;
    match *shape.space() {
        [] => [channels, 1, 1],
        [columns] => [channels, 1, columns as usize],
        [rows, columns] => [channels, rows as usize, columns as usize],
        _ => panic!("{shape} has more than two axes of positions"),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn both_layouts_have_the_same_numbers_in_the_same_places() {
        let sizes = [2, 3, 4, 5];
        let numbers: Vec<f32> = (0..120).map(|i| i as f32).collect();
        let plain =
            || Tensor::<4>::from_data(TensorData::new(numbers.clone(), sizes), &Device::flex());
        for layout in [Layout::BatchFirst, Layout::BatchLast] {
            let value = layout.arrange(plain());
            let dims = value.dims();
            let axes = [layout.batch(), layout.channels(), layout.columns()];
            assert_eq!(axes.map(|axis| dims[axis]), [2, 3, 5]);
            let flat = layout.to_batch_first(layout.reshape(value, [60, 1, 1]));
            let expected = plain().reshape([2, 60, 1, 1]);
            assert_eq!(
                flat.into_data().try_to_vec::<f32>().unwrap(),
                expected.into_data().try_to_vec::<f32>().unwrap()
            );
        }
    }
}
