//! The matrix product of two values, in fp32.

use super::prelude::*;

/// The product of the last two axes of both, each transposed first where said. The axes before them
/// are equal, or 1 in one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixProduct {
    /// Whether the first and the second matrix are transposed first.
    pub transposed: [bool; 2],
}

impl Settings for MatrixProduct {
    const CODE: u8 = 21;
    const NAME: &'static str = "matrix product";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let mut flag = || file.code("flag", |code| (code <= 1).then_some(code == 1));
        Ok(Self { transposed: [flag()?, flag()?] })
    }

    fn write(&self, file: &mut Writer) {
        self.transposed.iter().for_each(|&transposed| file.byte(u8::from(transposed)));
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [left, right] = inputs_of(inputs)?;
        floats(inputs, element)?;
        let apart = || Problem::UnequalShapes(left.shape, right.shape);
        let axes = left.shape.axes();
        if axes < 2 || right.shape.axes() != axes {
            return Err(apart());
        }
        let mut sizes = Vec::with_capacity(axes);
        for (&a, &b) in left.shape.sizes()[..axes - 2].iter().zip(right.shape.sizes()) {
            if a != b && a != 1 && b != 1 {
                return Err(apart());
            }
            sizes.push(a.max(b));
        }
        let [rows, inner] = self.axes(0, axes).map(|axis| left.shape.size(axis) as u32);
        let [found, columns] = self.axes(1, axes).map(|axis| right.shape.size(axis) as u32);
        if found != inner {
            return Err(Problem::ShapeMismatch {
                what: "rows",
                value: right.id.0,
                expected: u64::from(inner),
                found: u64::from(found),
            });
        }
        sizes.extend([rows, columns]);
        Shape::new(&sizes)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let output = &site.output.shape;
        let axes = output.axes();
        let [left, right] = [0, 1].map(|side| {
            let shape = &site.inputs[side].shape;
            (shape.strides(), shape.strides_repeated(output), self.axes(side, axes))
        });
        // Along rows and columns of the output, each side steps along its own outer axis.
        let mut strides = [left.1, right.1];
        strides[0][axes - 2] = left.0[left.2[0]];
        strides[0][axes - 1] = 0;
        strides[1][axes - 2] = 0;
        strides[1][axes - 1] = right.0[right.2[1]];
        Box::new(PreparedProduct {
            walk: Walk::new(output, strides),
            inner: site.inputs[0].shape.size(left.2[1]),
            steps: [left.0[left.2[1]], right.0[right.2[0]]],
        })
    }
}

impl MatrixProduct {
    /// The axes of rows and columns of one side.
    fn axes(&self, side: usize, axes: usize) -> [usize; 2] {
        if self.transposed[side] { [axes - 1, axes - 2] } else { [axes - 2, axes - 1] }
    }
}

struct PreparedProduct {
    /// Over the output, with where the row and the column begin.
    walk: Walk<2>,
    inner: usize,
    /// Along the inner axis of each side.
    steps: [usize; 2],
}

impl Prepared for PreparedProduct {
    fn run(&self, operands: Operands) {
        let [left, right] = [0, 1].map(|input| operands.inputs.of::<f32>(input));
        let output = view_mut::<f32>(operands.output);
        let [down, across] = self.steps;
        self.walk.run(|at, [row, column]| {
            let products = (0..self.inner)
                .map(|place| left[row + place * down] * right[column + place * across]);
            output[at] = products.sum();
        });
    }
}
