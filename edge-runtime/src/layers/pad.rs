//! A border of one number around a value, in fp32 or bytes.

use super::prelude::*;

/// A border around a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    /// Before the first place of each axis, channels first.
    pub before: Vec<u32>,
    /// After the last place of each axis.
    pub after: Vec<u32>,
    /// What the border is made of.
    pub fill: Fill,
}

/// What a border is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// A number, for a value in fp32. It may be infinite.
    Fp32(f32),
    /// A byte, for a value of bytes.
    Byte(u8),
}

impl Settings for Pad {
    const CODE: u8 = 25;
    const NAME: &'static str = "pad";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let [before, after] = [file.list(1, Reader::size)?, file.list(1, Reader::size)?];
        let float = file.code("fill", |code| (code <= 1).then_some(code == 0))?;
        let fill = if float { Fill::Fp32(file.float()?) } else { Fill::Byte(file.byte()?) };
        Ok(Self { before, after, fill })
    }

    fn write(&self, file: &mut Writer) {
        for sizes in [&self.before, &self.after] {
            file.list(sizes, |file, &size| file.size(size));
        }
        match self.fill {
            Fill::Fp32(number) => {
                file.byte(0);
                file.float(number);
            }
            Fill::Byte(byte) => file.array(&[1, byte]),
        }
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        moves(inputs, element)?;
        match self.fill {
            Fill::Fp32(number) => {
                floats(&[], element)?;
                if number.is_nan() {
                    let what = "the border";
                    return Err(Problem::BadNumber { what, value: number, positive: false });
                }
            }
            Fill::Byte(_) => bytes(&[], element).map(|_| ())?,
        }
        for sides in [&self.before, &self.after] {
            check_axes("axes of padding", input.shape.axes(), sides.len())?;
        }
        let sizes: Vec<u32> = (input.shape.sizes().iter().zip(&self.before).zip(&self.after))
            .map(|((&size, &before), &after)| size.saturating_add(before).saturating_add(after))
            .collect();
        Shape::new(&sizes)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let strides = site.output.shape.strides();
        let start = self.before.iter().zip(strides).map(|(&before, step)| before as usize * step);
        Box::new(PreparedPad {
            walk: Walk::new(&site.inputs[0].shape, [strides]),
            start: start.sum(),
            fill: self.fill,
        })
    }
}

struct PreparedPad {
    /// Over the input, with its places in the output.
    walk: Walk<1>,
    /// The first place of the input in the output.
    start: usize,
    fill: Fill,
}

impl PreparedPad {
    fn copy<T: Plain>(&self, fill: T, operands: Operands) {
        let input = operands.inputs.of::<T>(0);
        let output = view_mut::<T>(operands.output);
        output.fill(fill);
        self.walk.run(|at, [to]| output[self.start + to] = input[at]);
    }
}

impl Prepared for PreparedPad {
    fn run(&self, operands: Operands) {
        match self.fill {
            Fill::Fp32(number) => self.copy(number, operands),
            Fill::Byte(byte) => self.copy(byte, operands),
        }
    }
}
