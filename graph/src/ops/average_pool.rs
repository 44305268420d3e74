//! The mean of each window.

use smallvec::SmallVec;

use super::window::{self, as_picture};
use super::{
    Effect, InferError, Memory, Multiplications, Operands, Operation, Slot, WindowAxis,
    channel_by_channel,
};
use crate::ties::Ties;
use crate::{Scalar, Shape};

/// Average pooling over one or two axes of positions. The mean is over the positions of the window
/// that are inside the input, and over the padding that counts as zeros.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AveragePool {
    /// Size of the window on each axis.
    pub kernel: SmallVec<[u32; 2]>,
    /// How it moves.
    pub axes: SmallVec<[WindowAxis; 2]>,
    /// By axis: how many positions of the padding next to the input count as zeros, before and
    /// after it. The others do not count.
    pub counted: SmallVec<[(u32, u32); 2]>,
}

impl AveragePool {
    /// By window along an axis with `size` positions of the input: how many of its taps count. The
    /// mean of a window is its sum divided by the product of these over all axes.
    ///
    /// # Panics
    /// If there is no such axis, or [`Operation::infer`] refuses it.
    pub fn counts(&self, axis: usize, size: u32) -> Vec<u32> {
        let (window, kernel, counted) = (self.axes[axis], self.kernel[axis], self.counted[axis]);
        let outputs = window.outputs(kernel, size).expect("windows that fit");
        (0..outputs).map(|output| window.taps(output, kernel, size, counted)).collect()
    }
}

impl Operation for AveragePool {
    fn kind(&self) -> &'static str {
        "average_pool"
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
        if self.counted.len() != axes {
            return Err(InferError::Entries {
                setting: "counted padding",
                given: self.counted.len(),
                expected: axes,
                shape: input.to_string(),
            });
        }
        let axes = self.axes.iter().zip(&self.kernel).zip(&self.counted).zip(input.space());
        for (((axis, &kernel), &counted), &size) in axes {
            if counted.0 > axis.before || counted.1 > axis.after {
                let (before, after) = (axis.before, axis.after);
                let value = format!("{counted:?}, where the padding is ({before}, {after})");
                return Err(InferError::Setting { setting: "counted padding", value });
            }
            axis.reaches(kernel, size, counted)?;
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
        let space = operands.inputs[0].space();
        let [height, width] = as_picture(1, space).map(|n| n as usize);
        let [tall, wide] = as_picture(1, &self.kernel).map(|n| n as usize);
        let [down, across] = as_picture(WindowAxis::valid(1), &self.axes);
        let counts: Vec<Vec<u32>> =
            space.iter().enumerate().map(|(axis, &size)| self.counts(axis, size)).collect();
        let counts: Vec<&[u32]> = counts.iter().map(Vec::as_slice).collect();
        let [rows, columns] = as_picture(&[1][..], &counts);
        let mut values = Vec::with_capacity(output.elements() as usize);
        for plane in inputs[0].chunks_exact(height * width) {
            for (row, &in_column) in rows.iter().enumerate() {
                for (column, &in_row) in columns.iter().enumerate() {
                    let ys = (0..tall).filter_map(|tap| down.position(row, tap, height));
                    let read = ys.flat_map(|y| {
                        let xs = (0..wide).filter_map(|tap| across.position(column, tap, width));
                        xs.map(move |x| plane[y * width + x])
                    });
                    let sum = read.fold(S::constant(0.0), |sum, value| sum + value);
                    let count = f64::from(in_column) * f64::from(in_row);
                    values.push(sum / S::constant(count));
                }
            }
        }
        values
    }
}
