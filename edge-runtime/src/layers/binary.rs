//! Functions of two numbers each, in fp32, with broadcasting.

use super::prelude::*;

/// A function of two values, number by number. A value with fewer axes gets axes of size 1 at the
/// end; then an axis of size 1 is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binary {
    /// Which.
    pub function: BinaryFunction,
}

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryFunction {
    /// The sum.
    Add,
    /// The first divided by the second.
    Divide,
    /// 1 if they are equal, else 0.
    Equal,
    /// 1 if the first is less, else 0.
    Less,
    /// 1 if the first is not greater, else 0.
    LessOrEqual,
    /// The greater one.
    Maximum,
    /// The lesser one.
    Minimum,
    /// The product.
    Multiply,
    /// The first to the power of the second.
    Power,
    /// The first without the second.
    Subtract,
}

use BinaryFunction::*;

/// In the order of their codes, which begin at 0.
const FUNCTIONS: [BinaryFunction; 10] =
    [Add, Divide, Equal, Less, LessOrEqual, Maximum, Minimum, Multiply, Power, Subtract];

impl Settings for Binary {
    const CODE: u8 = 10;
    const NAME: &'static str = "function of two numbers";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let function = file.code("function", |code| FUNCTIONS.get(usize::from(code)).copied())?;
        Ok(Self { function })
    }

    fn write(&self, file: &mut Writer) {
        file.byte(self.function as u8);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [left, right] = inputs_of(inputs)?;
        floats(inputs, element)?;
        broadcast(&[left, right])
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        Box::new(PreparedBinary { function: self.function, sides: Sides::new(site) })
    }
}

struct PreparedBinary {
    function: BinaryFunction,
    sides: Sides,
}

impl Prepared for PreparedBinary {
    fn run(&self, operands: Operands) {
        let [left, right] = [0, 1].map(|input| operands.inputs.of::<f32>(input));
        let output = view_mut::<f32>(operands.output);
        let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
        let sides = &self.sides;
        match self.function {
            Add => sides.each(left, right, output, |a, b| a + b),
            Divide => sides.each(left, right, output, |a, b| a / b),
            Equal => sides.each(left, right, output, |a, b| truth(a == b)),
            Less => sides.each(left, right, output, |a, b| truth(a < b)),
            LessOrEqual => sides.each(left, right, output, |a, b| truth(a <= b)),
            Maximum => {
                sides.each(left, right, output, |a, b| if a < b || b.is_nan() { b } else { a })
            }
            Minimum => {
                sides.each(left, right, output, |a, b| if a > b || b.is_nan() { b } else { a })
            }
            Multiply => sides.each(left, right, output, |a, b| a * b),
            Power => sides.each(left, right, output, |a, b| a.powf(b)),
            Subtract => sides.each(left, right, output, |a, b| a - b),
        }
    }
}

/// The shape of what broadcasting these values gives.
pub(super) fn broadcast(values: &[Value]) -> Result<Shape, Problem> {
    let axes = values.iter().map(|value| value.shape.axes()).max().unwrap_or(0);
    let mut sizes = vec![1; axes];
    for value in values {
        for (axis, size) in sizes.iter_mut().enumerate() {
            let ours = value.shape.size(axis) as u32;
            if *size == 1 {
                *size = ours;
            } else if ours != 1 && ours != *size {
                return Err(Problem::UnequalShapes(values[0].shape, value.shape));
            }
        }
    }
    Shape::new(&sizes)
}

/// How two values lie under their output.
pub(super) enum Sides {
    /// All three have one shape.
    Equal,
    /// The right one has one number for each channel, or for all.
    Channels(usize),
    /// Anything else.
    Repeated(Walk<2>),
}

impl Sides {
    pub fn new(site: &Site) -> Self {
        let output = &site.output.shape;
        let [left, right] = [0, 1].map(|input| &site.inputs[input].shape);
        if left.elements() == output.elements() && right.elements() == output.elements() {
            return Self::Equal;
        }
        if left.elements() == output.elements() && right.positions() == 1 {
            return Self::Channels(right.elements());
        }
        Self::Repeated(Walk::new(output, [left, right].map(|side| side.strides_repeated(output))))
    }

    /// Calls `f` with each pair of numbers.
    #[inline(always)]
    pub fn each<T: Plain, U>(
        &self,
        left: &[T],
        right: &[T],
        output: &mut [U],
        f: impl Fn(T, T) -> U,
    ) {
        match self {
            Self::Equal => {
                for ((output, &left), &right) in output.iter_mut().zip(left).zip(right) {
                    *output = f(left, right);
                }
            }
            Self::Channels(1) => {
                for (output, &left) in output.iter_mut().zip(left) {
                    *output = f(left, right[0]);
                }
            }
            Self::Channels(channels) => {
                let pixels = output.chunks_exact_mut(*channels).zip(left.chunks_exact(*channels));
                for (output, left) in pixels {
                    for ((output, &left), &right) in output.iter_mut().zip(left).zip(right) {
                        *output = f(left, right);
                    }
                }
            }
            Self::Repeated(walk) => {
                walk.run(|at, [a, b]| output[at] = f(left[a], right[b]));
            }
        }
    }
}
