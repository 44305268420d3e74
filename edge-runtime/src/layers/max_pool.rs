//! The largest number of each window, in fp32 or bytes of one scale.

use super::prelude::*;
use super::window::{WindowAxis, check_pool_padding, read_windows, shape_of, slide, write_windows};
use crate::kernels::window::Windows;

/// The largest number of each window of each channel. Padding does not count; every window has at
/// least one position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPool {
    /// One per axis of positions.
    pub axes: Vec<WindowAxis>,
}

impl Settings for MaxPool {
    const CODE: u8 = 26;
    const NAME: &'static str = "max pool";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { axes: read_windows(file)? })
    }

    fn write(&self, file: &mut Writer) {
        write_windows(&self.axes, file);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        moves(inputs, element)?;
        let space = slide(&self.axes, &input)?;
        check_pool_padding(&self.axes)?;
        for ((axis, &size), &windows) in self.axes.iter().zip(input.shape.space()).zip(&space) {
            let mut telling = axis.telling_windows(windows, size, (0, 0));
            if telling.any(|window| axis.taps_inside(window, size, (0, 0)) == 0) {
                return Err(Problem::EmptyWindow);
            }
        }
        shape_of(input.shape.channels(), &space)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let windows = Windows::new(&self.axes, &site.inputs[0].shape, &site.output.shape);
        let channels = site.output.shape.channels() as usize;
        Box::new(PreparedPool { windows, channels, element: site.output.element })
    }
}

struct PreparedPool {
    windows: Windows,
    channels: usize,
    element: Element,
}

impl PreparedPool {
    fn pool<T: Plain>(&self, operands: Operands) {
        let input = operands.inputs.of::<T>(0);
        let output = view_mut::<T>(operands.output);
        let channels = self.channels;
        self.windows.each(|position, _, mut taps| {
            let output = &mut output[position * channels..][..channels];
            let pixel = |position: usize| &input[position * channels..][..channels];
            if let Some((_, first)) = taps.next() {
                output.copy_from_slice(pixel(first));
            }
            for (_, position) in taps {
                for (largest, &value) in output.iter_mut().zip(pixel(position)) {
                    if value > *largest {
                        *largest = value;
                    }
                }
            }
        });
    }
}

impl Prepared for PreparedPool {
    fn run(&self, operands: Operands) {
        match self.element {
            Element::Fp32 => self.pool::<f32>(operands),
            Element::Uint8(_) => self.pool::<u8>(operands),
        }
    }
}
