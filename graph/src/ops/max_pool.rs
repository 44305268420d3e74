//! The largest value in each window.

use smallvec::SmallVec;

use super::window::{self, as_picture};
use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, WindowAxis,
    channel_by_channel,
};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// Max pooling over one or two axes of positions. Padding is never the largest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MaxPool {
    /// Size of the window on each axis.
    pub kernel: SmallVec<[u32; 2]>,
    /// How it moves.
    pub axes: SmallVec<[WindowAxis; 2]>,
}

impl Operation for MaxPool {
    fn kind(&self) -> &'static str {
        "max_pool"
    }

    fn slots(&self) -> &'static [Slot] {
        &[]
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let input = operands.one()?;
        let axes = self.axes.len();
        if !(1..=2).contains(&axes) || self.kernel.len() != axes || input.space().len() != axes {
            return Err(InferError::Axes { expected: axes, shape: input.to_string() });
        }
        for ((axis, &kernel), &size) in self.axes.iter().zip(&self.kernel).zip(input.space()) {
            axis.reaches(kernel, size, (0, 0))?;
        }
        let space = window::outputs(&self.axes, &self.kernel, input.space())?;
        Ok(Shape::new(input.channels(), &space)?)
    }

    fn macs(&self, _: &Operands, _: &Shape) -> u64 {
        0
    }

    fn multiplications(&self, _: &Operands) -> Option<Multiplications> {
        None
    }

    fn absorbs_factors(&self) -> bool {
        false
    }

    fn effect(&self) -> Effect {
        Effect::Combines
    }

    fn is_alike(&self, _: &Self) -> bool {
        true
    }

    fn memory(&self) -> Memory {
        Memory::Separate
    }

    fn ties(&self, _: &Operands, _: &Shape) -> Ties {
        channel_by_channel()
    }

    fn cut(&mut self, _: &[&[u32]], _: &[u32]) {}

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        _: &[&[S]],
        output: &Shape,
    ) -> Vec<S> {
        let [height, width] = as_picture(1, operands.inputs[0].space()).map(|n| n as usize);
        let [rows, columns] = as_picture(1, output.space()).map(|n| n as usize);
        let [tall, wide] = as_picture(1, &self.kernel).map(|n| n as usize);
        let [down, across] = as_picture(WindowAxis::valid(1), &self.axes);
        let mut values = Vec::with_capacity(output.elements() as usize);
        for plane in inputs[0].chunks_exact(height * width) {
            for (row, column) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                let ys = (0..tall).filter_map(|tap| down.position(row, tap, height));
                let read = ys.flat_map(|y| {
                    let xs = (0..wide).filter_map(|tap| across.position(column, tap, width));
                    xs.map(move |x| plane[y * width + x])
                });
                let largest = read.reduce(|a, b| if b > a { b } else { a });
                values.push(largest.expect("no window lies on padding alone"));
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    fn pool(pool: &MaxPool, shape: &Shape, values: &[f64]) -> Result<Vec<f64>, InferError> {
        let operands = Operands { inputs: &[shape], parameters: &[] };
        let output = pool.infer(&operands)?;
        Ok(pool.evaluate(&operands, &[values], &[], &output))
    }

    #[test]
    fn padding_is_never_the_largest() {
        let shape = Shape::new(1, &[2, 3]).unwrap();
        let three = MaxPool {
            kernel: smallvec![3, 3],
            axes: smallvec![WindowAxis::same(3, 1), WindowAxis::same(3, 2)],
        };
        let values = [-6.0, -5.0, -4.0, -3.0, -2.0, -7.0];
        assert_eq!(pool(&three, &shape, &values), Ok(vec![-2.0, -2.0, -2.0, -2.0]));
        let sequence = Shape::new(2, &[3]).unwrap();
        let two = MaxPool { kernel: smallvec![2], axes: smallvec![WindowAxis::valid(1)] };
        assert_eq!(pool(&two, &sequence, &values), Ok(vec![-5.0, -4.0, -2.0, -2.0]));
    }

    #[test]
    fn windows_on_padding_alone_are_refused() {
        let shape = Shape::new(1, &[3]).unwrap();
        let axis = WindowAxis { before: 2, ..WindowAxis::valid(1) };
        let small = MaxPool { kernel: smallvec![2], axes: smallvec![axis] };
        let error = pool(&small, &shape, &[1.0; 3]).unwrap_err();
        assert_eq!(error, InferError::Padding { padding: 2, window: 2 });
        // Taps at -2 and 3, around the only three positions.
        let dilated = MaxPool {
            kernel: smallvec![2],
            axes: smallvec![WindowAxis { dilation: 5, before: 2, after: 2, stride: 1 }],
        };
        assert!(pool(&dilated, &shape, &[1.0; 3]).is_err());
    }
}
