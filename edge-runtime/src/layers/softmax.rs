//! Softmax along an axis, in fp32.

use super::concat::check_axis;
use super::prelude::*;

/// Shares that add up to 1, or their logarithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softmax {
    /// The axis; 0 is the channels.
    pub axis: u32,
    /// Whether the logarithms are computed.
    pub log: bool,
}

impl Settings for Softmax {
    const CODE: u8 = 22;
    const NAME: &'static str = "softmax";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let axis = file.size()?;
        Ok(Self { axis, log: file.code("flag", |code| (code <= 1).then_some(code == 1))? })
    }

    fn write(&self, file: &mut Writer) {
        file.size(self.axis);
        file.byte(u8::from(self.log));
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        floats(inputs, element)?;
        check_axis(self.axis, &input.shape)?;
        Ok(input.shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let shape = &site.output.shape;
        let (blocks, inner) = shape.around(self.axis as usize);
        let size = shape.size(self.axis as usize);
        Box::new(PreparedSoftmax { log: self.log, blocks, inner, size })
    }
}

struct PreparedSoftmax {
    log: bool,
    blocks: usize,
    inner: usize,
    size: usize,
}

impl Prepared for PreparedSoftmax {
    fn run(&self, operands: Operands) {
        let input = operands.inputs.of::<f32>(0);
        let output = view_mut::<f32>(operands.output);
        for block in 0..self.blocks {
            for first in 0..self.inner {
                let start = block * self.size * self.inner + first;
                let places = (0..self.size).map(|place| start + place * self.inner);
                let largest = places.clone().map(|at| input[at]).fold(f32::NEG_INFINITY, f32::max);
                let mut sum = 0.0;
                for at in places.clone() {
                    let difference = input[at] - largest;
                    let power = difference.exp();
                    sum += power;
                    output[at] = if self.log { difference } else { power };
                }
                let logarithm = sum.ln();
                for at in places {
                    if self.log {
                        output[at] -= logarithm;
                    } else {
                        output[at] /= sum;
                    }
                }
            }
        }
    }
}
