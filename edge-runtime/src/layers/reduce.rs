//! One number for all along some axes, in fp32 or in integers.

use super::conv::zero;
use super::layer_normalization::check_ascending;
use super::prelude::*;
use crate::kernels::fp32::float_pool;
use crate::kernels::int8::{PreparedPool, Rescale, int_pool};

/// Reduces axes, in fp32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduce {
    /// How.
    pub function: ReduceFunction,
    /// The axes, ascending, at least one.
    pub axes: Vec<u32>,
    /// Whether they stay, with size 1. Only axes of positions may go.
    pub keep: bool,
}

/// Reduces axes, in integers. A mean or sum is the sum of `q - zero point`, scaled by `requantize`;
/// the largest or smallest byte is taken as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntReduce {
    /// How. There is no L2 norm in integers.
    pub reduce: Reduce,
    /// `input scale / (count * output scale)` for a mean, without the count for a sum; else 0.
    pub requantize: Requantization,
}

/// How numbers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReduceFunction {
    /// Their mean.
    Mean,
    /// Their sum.
    Sum,
    /// The largest.
    Maximum,
    /// The smallest.
    Minimum,
    /// The square root of the sum of their squares.
    L2,
}

use ReduceFunction::*;

/// In the order of their codes, which begin at 0.
const FUNCTIONS: [ReduceFunction; 5] = [Mean, Sum, Maximum, Minimum, L2];

impl Reduce {
    /// The mean over the axes of positions of a value with `axes` axes.
    #[must_use]
    pub fn global_mean(axes: usize, keep: bool) -> Self {
        Self { function: Mean, axes: (1..axes as u32).collect(), keep }
    }

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let function = file.code("function", |code| FUNCTIONS.get(usize::from(code)).copied())?;
        let axes = file.list(1, Reader::size)?;
        let keep = file.code("flag", |code| (code <= 1).then_some(code == 1))?;
        Ok(Self { function, axes, keep })
    }

    fn write(&self, file: &mut Writer) {
        file.byte(self.function as u8);
        file.list(&self.axes, |file, &axis| file.size(axis));
        file.byte(u8::from(self.keep));
    }

    fn shape(&self, input: &Shape) -> Result<Shape, Problem> {
        check_ascending(&self.axes, input)?;
        if !self.keep && self.axes.contains(&0) {
            return Err(Problem::ChannelsReduced);
        }
        let reduced = |axis: &usize| self.axes.contains(&(*axis as u32));
        let sizes: Vec<u32> = (0..input.axes())
            .filter(|axis| self.keep || !reduced(axis))
            .map(|axis| if reduced(&axis) { 1 } else { input.sizes()[axis] })
            .collect();
        Shape::new(&sizes)
    }

    /// Whether all positions become one, and nothing else.
    fn is_global(&self, input: &Shape) -> bool {
        self.axes.iter().copied().eq(1..input.axes() as u32)
    }

    /// Over the input, with the place in the output. Axes that go have size 1, so they change no
    /// place.
    fn walk(&self, input: &Shape) -> Walk<1> {
        let kept = Self { keep: true, ..self.clone() };
        let mut strides = kept.shape(input).map_or([0; MAX_AXES], |shape| shape.strides());
        self.axes.iter().for_each(|&axis| strides[axis as usize] = 0);
        Walk::new(input, [strides])
    }

    /// How many numbers become one.
    fn count(&self, input: &Shape) -> usize {
        self.axes.iter().map(|&axis| input.size(axis as usize)).product()
    }
}

impl Settings for Reduce {
    const CODE: u8 = 29;
    const NAME: &'static str = "reduction";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Reduce::read(file)
    }

    fn write(&self, file: &mut Writer) {
        self.write(file);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        floats(inputs, element)?;
        self.shape(&input.shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let shape = &site.inputs[0].shape;
        if self.function == Mean && self.is_global(shape) {
            return Box::new(GlobalMean);
        }
        let (walk, count) = (self.walk(shape), self.count(shape) as f32);
        Box::new(PreparedReduce { function: self.function, walk, count })
    }
}

/// The mean over all positions.
struct GlobalMean;

impl Prepared for GlobalMean {
    fn run(&self, operands: Operands) {
        float_pool(operands.isa, operands.inputs.of(0), view_mut(operands.output));
    }
}

struct PreparedReduce {
    function: ReduceFunction,
    walk: Walk<1>,
    count: f32,
}

impl Prepared for PreparedReduce {
    fn run(&self, operands: Operands) {
        let input = operands.inputs.of::<f32>(0);
        let output = view_mut::<f32>(operands.output);
        let walk = &self.walk;
        match self.function {
            Mean | Sum => {
                output.fill(0.0);
                walk.run(|at, [to]| output[to] += input[at]);
            }
            L2 => {
                output.fill(0.0);
                walk.run(|at, [to]| output[to] += input[at] * input[at]);
            }
            Maximum => {
                output.fill(f32::NEG_INFINITY);
                walk.run(|at, [to]| output[to] = output[to].max(input[at]));
            }
            Minimum => {
                output.fill(f32::INFINITY);
                walk.run(|at, [to]| output[to] = output[to].min(input[at]));
            }
        }
        match self.function {
            Mean => output.iter_mut().for_each(|sum| *sum /= self.count),
            L2 => output.iter_mut().for_each(|sum| *sum = sum.sqrt()),
            Sum | Maximum | Minimum => {}
        }
    }
}

impl Settings for IntReduce {
    const CODE: u8 = 30;
    const NAME: &'static str = "reduction in integers";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { reduce: Reduce::read(file)?, requantize: file.factor()? })
    }

    fn write(&self, file: &mut Writer) {
        self.reduce.write(file);
        file.factor(self.requantize);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        check_factor(self.requantize)?;
        match self.reduce.function {
            Mean | Sum => bytes(inputs, element).map(|_| ())?,
            Maximum | Minimum => {
                bytes(inputs, element)?;
                moves(inputs, element)?;
            }
            L2 => return Err(Problem::NotInIntegers),
        }
        let shape = self.reduce.shape(&input.shape)?;
        if self.reduce.count(&input.shape) as u64 * 255 > i32::MAX as u64 {
            return Err(Problem::AccumulatorOverflow { channel: 0 });
        }
        Ok(shape)
    }

    fn memory(&self, site: &Site) -> Memory {
        match self.reduce.function {
            Mean | Sum if self.reduce.is_global(&site.inputs[0].shape) => Memory::default(),
            Mean | Sum => Memory { scratch: site.output.shape.elements() as u64 * 4, tables: 0 },
            Maximum | Minimum | L2 => Memory::default(),
        }
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let shape = &site.inputs[0].shape;
        let [input_zero, output_zero] = [site.inputs[0].element, site.output.element].map(zero);
        let whole = (u8::MIN, u8::MAX);
        let rescale = Rescale::new(&[self.requantize], site.rounding, output_zero, whole);
        let function = self.reduce.function;
        if matches!(function, Mean | Sum) && self.reduce.is_global(shape) {
            return Box::new(PreparedPool::new(input_zero, rescale));
        }
        let (walk, zero) = (self.reduce.walk(shape), i32::from(input_zero));
        Box::new(PreparedIntReduce { function, walk, zero, rescale })
    }
}

impl Prepared for PreparedPool {
    fn run(&self, operands: Operands) {
        int_pool(operands.isa, self, operands.inputs.of(0), operands.output);
    }
}

struct PreparedIntReduce {
    function: ReduceFunction,
    walk: Walk<1>,
    zero: i32,
    rescale: Rescale,
}

impl Prepared for PreparedIntReduce {
    fn run(&self, operands: Operands) {
        let input = operands.inputs.of::<u8>(0);
        let (output, walk) = (operands.output, &self.walk);
        match self.function {
            Maximum => {
                output.fill(u8::MIN);
                walk.run(|at, [to]| output[to] = output[to].max(input[at]));
            }
            Minimum => {
                output.fill(u8::MAX);
                walk.run(|at, [to]| output[to] = output[to].min(input[at]));
            }
            Mean | Sum | L2 => {
                let sums = view_mut::<i32>(operands.scratch);
                sums.fill(0);
                walk.run(|at, [to]| sums[to] += i32::from(input[at]) - self.zero);
                for (output, &sum) in output.iter_mut().zip(&*sums) {
                    *output = self.rescale.byte(0, sum);
                }
            }
        }
    }
}
