//! Takes each number from one of two values.

use super::binary::broadcast;
use super::prelude::*;

/// The second input where the first is not 0, else the third, with broadcasting as in
/// [`Binary`](super::Binary).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Select;

impl Settings for Select {
    const CODE: u8 = 11;
    const NAME: &'static str = "select";

    fn read(_: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self)
    }

    fn write(&self, _: &mut Writer) {}

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let values: [Value; 3] = inputs_of(inputs)?;
        floats(inputs, element)?;
        broadcast(&values)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let output = &site.output.shape;
        let strides = [0, 1, 2].map(|input| site.inputs[input].shape.strides_repeated(output));
        Box::new(PreparedSelect { walk: Walk::new(output, strides) })
    }
}

struct PreparedSelect {
    walk: Walk<3>,
}

impl Prepared for PreparedSelect {
    fn run(&self, operands: Operands) {
        let [condition, yes, no] = [0, 1, 2].map(|input| operands.inputs.of::<f32>(input));
        let output = view_mut::<f32>(operands.output);
        self.walk.run(|at, [c, a, b]| {
            output[at] = if condition[c] != 0.0 { yes[a] } else { no[b] };
        });
    }
}
