//! A value that comes with the model.

use super::concat::element_bytes;
use super::prelude::*;
use crate::file::Number;
use crate::model::Numbers;

/// Numbers that are the same for every example.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// All sizes, channels first.
    pub sizes: Vec<u32>,
    /// Listed row by row over all axes. Bytes have the quantization of the node's output.
    pub numbers: Numbers,
}

impl Settings for Constant {
    const CODE: u8 = 19;
    const NAME: &'static str = "constant";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(if file.peek() == Some(u8::CODE) {
            let tensor = file.tensor()?;
            Self { sizes: tensor.sizes, numbers: Numbers::Bytes(tensor.values) }
        } else {
            let tensor = file.tensor()?;
            Self { sizes: tensor.sizes, numbers: Numbers::Fp32(tensor.values) }
        })
    }

    fn write(&self, file: &mut Writer) {
        match &self.numbers {
            Numbers::Fp32(values) => file.tensor(&self.sizes, values, &[]),
            Numbers::Bytes(values) => file.tensor(&self.sizes, values, &[]),
        }
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [] = inputs_of(inputs)?;
        let shape = Shape::new(&self.sizes)?;
        let found = match &self.numbers {
            Numbers::Fp32(values) => {
                floats(&[], element)?;
                values.iter().try_for_each(|&value| check_number("a number", value, false))?;
                values.len()
            }
            Numbers::Bytes(values) => {
                bytes(&[], element)?;
                values.len()
            }
        };
        check_size("the constant", shape.elements() as u64, found)?;
        Ok(shape)
    }

    fn memory(&self, site: &Site) -> Memory {
        let bytes = site.output.shape.elements() * element_bytes(site.output.element);
        Memory { scratch: 0, tables: bytes as u64 }
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let shape = &site.output.shape;
        match &self.numbers {
            Numbers::Fp32(values) => Box::new(PreparedConstant(in_memory(shape, values))),
            Numbers::Bytes(values) => Box::new(PreparedConstant(in_memory(shape, values))),
        }
    }
}

/// In the order of memory.
struct PreparedConstant<T>(Vec<T>);

impl<T: Plain + Send + Sync> Prepared for PreparedConstant<T> {
    fn run(&self, operands: Operands) {
        view_mut(operands.output).copy_from_slice(&self.0);
    }
}

/// Listed numbers in the order of memory.
fn in_memory<T: Plain>(shape: &Shape, values: &[T]) -> Vec<T> {
    let order: Vec<u32> = (0..shape.axes() as u32).collect();
    let mut output = vec![T::default(); values.len()];
    let walk = Walk::new(shape, [shape.strides_of_array(&order)]);
    walk.run(|at, [listed]| output[at] = values[listed]);
    output
}
