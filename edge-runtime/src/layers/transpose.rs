//! Axes in another order, in fp32 or bytes.

use super::prelude::*;

/// Axis `i` of the output is axis `order[i]` of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transpose {
    /// Each axis once.
    pub order: Vec<u32>,
}

impl Settings for Transpose {
    const CODE: u8 = 23;
    const NAME: &'static str = "transpose";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { order: file.list(1, Reader::size)? })
    }

    fn write(&self, file: &mut Writer) {
        file.list(&self.order, |file, &axis| file.size(axis));
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        moves(inputs, element)?;
        crate::validate::check_order(&self.order, &input.shape)?;
        let sizes: Vec<u32> =
            self.order.iter().map(|&axis| input.shape.sizes()[axis as usize]).collect();
        Shape::new(&sizes)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let from = site.inputs[0].shape.strides();
        let mut strides = [0; MAX_AXES];
        for (stride, &axis) in strides.iter_mut().zip(&self.order) {
            *stride = from[axis as usize];
        }
        let walk = Walk::new(&site.output.shape, [strides]);
        Box::new(PreparedTranspose { walk, element: site.output.element })
    }
}

struct PreparedTranspose {
    walk: Walk<1>,
    element: Element,
}

impl PreparedTranspose {
    fn copy<T: Plain>(&self, operands: Operands) {
        let input = operands.inputs.of::<T>(0);
        let output = view_mut::<T>(operands.output);
        self.walk.run(|at, [from]| output[at] = input[from]);
    }
}

impl Prepared for PreparedTranspose {
    fn run(&self, operands: Operands) {
        match self.element {
            Element::Fp32 => self.copy::<f32>(operands),
            Element::Uint8(_) => self.copy::<u8>(operands),
        }
    }
}
