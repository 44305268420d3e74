//! The mean of each window, in fp32 or in integers.

use std::collections::BTreeSet;

use super::conv::zero;
use super::prelude::*;
use super::window::{WindowAxis, check_pool_padding, read_windows, shape_of, slide, write_windows};
use crate::kernels::int8::Rescale;
use crate::kernels::window::Windows;

/// The mean of each window of each channel, in fp32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AveragePool {
    /// One per axis of positions.
    pub axes: Vec<WindowAxis>,
    /// For each axis, how many places of the padding before and after count as zeros. The others
    /// do not count at all.
    pub counted: Vec<(u32, u32)>,
}

/// The mean of each window of each channel, in integers: the sum of `q - zero point`, scaled by the
/// factor for the number of places that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntAveragePool {
    /// The windows.
    pub pool: AveragePool,
    /// For each number of places that a window has, ascending: `input scale / (places * output
    /// scale)`.
    pub factors: Vec<(u32, Requantization)>,
}

impl AveragePool {
    /// How many places count in a window. The numbers of all windows over a value of `shape`, each
    /// once, ascending.
    ///
    /// # Errors
    /// If the windows do not fit, or there are too many different numbers.
    pub fn counts(&self, shape: &Shape) -> Result<Vec<u32>, Problem> {
        let value = Value { id: crate::model::ValueId(0), shape: *shape, element: Element::Fp32 };
        let space = slide(&self.axes, &value)?;
        check_axes("axes of windows", self.axes.len(), self.counted.len())?;
        check_pool_padding(&self.axes)?;
        let mut all = BTreeSet::from([1u32]);
        for (axis, &windows) in space.iter().enumerate() {
            let (size, counted) = (shape.space()[axis], self.counted[axis]);
            let mut ours = BTreeSet::new();
            for window in self.axes[axis].telling_windows(windows, size, counted) {
                ours.insert(self.count(axis, window, size));
                check_counts(&ours)?;
            }
            all = all.iter().flat_map(|a| ours.iter().map(|b| a.saturating_mul(*b))).collect();
            check_counts(&all)?;
        }
        Ok(all.into_iter().collect())
    }

    /// How many places count in a window along an axis.
    fn count(&self, axis: usize, window: u32, size: u32) -> u32 {
        self.axes[axis].taps_inside(window, size, self.counted[axis])
    }

    /// Checks sizes and returns the shape of the output.
    fn shape(&self, input: &Value) -> Result<Shape, Problem> {
        let space = slide(&self.axes, input)?;
        check_axes("axes of windows", self.axes.len(), self.counted.len())?;
        for (axis, counted) in self.axes.iter().zip(&self.counted) {
            if counted.0 > axis.before || counted.1 > axis.after {
                let value = i64::from(counted.0.max(counted.1));
                let limit = i64::from(axis.before.max(axis.after));
                return Err(Problem::OutOfRange { what: "the counted padding", value, limit });
            }
        }
        if self.counts(&input.shape)?.contains(&0) {
            return Err(Problem::EmptyWindow);
        }
        shape_of(input.shape.channels(), &space)
    }

    /// For each axis, how many places count in each window.
    fn lines(&self, site: &Site) -> Vec<Vec<u32>> {
        let (input, output) = (site.inputs[0].shape.space(), site.output.shape.space());
        let line = |axis: usize| {
            (0..output[axis]).map(|window| self.count(axis, window, input[axis])).collect()
        };
        (0..self.axes.len()).map(line).collect()
    }

    fn tables(&self, site: &Site) -> Memory {
        let windows: u64 = site.output.shape.space().iter().map(|&size| u64::from(size)).sum();
        Memory { scratch: 0, tables: windows * 4 }
    }

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let axes = read_windows(file)?;
        Ok(Self { axes, counted: file.list(2, |file| Ok((file.size()?, file.size()?)))? })
    }

    fn write(&self, file: &mut Writer) {
        write_windows(&self.axes, file);
        file.list(&self.counted, |file, &(before, after)| {
            file.size(before);
            file.size(after);
        });
    }
}

impl Settings for AveragePool {
    const CODE: u8 = 27;
    const NAME: &'static str = "average pool";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        AveragePool::read(file)
    }

    fn write(&self, file: &mut Writer) {
        self.write(file);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        floats(inputs, element)?;
        self.shape(&input)
    }

    fn memory(&self, site: &Site) -> Memory {
        self.tables(site)
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        Box::new(PreparedFloat {
            windows: Windows::new(&self.axes, &site.inputs[0].shape, &site.output.shape),
            lines: self.lines(site),
            channels: site.output.shape.channels() as usize,
        })
    }
}

struct PreparedFloat {
    windows: Windows,
    lines: Vec<Vec<u32>>,
    channels: usize,
}

impl Prepared for PreparedFloat {
    fn run(&self, operands: Operands) {
        let input = operands.inputs.of::<f32>(0);
        let output = view_mut::<f32>(operands.output);
        let channels = self.channels;
        self.windows.each(|position, at, taps| {
            let output = &mut output[position * channels..][..channels];
            output.fill(0.0);
            for (_, position) in taps {
                let pixel = &input[position * channels..][..channels];
                output.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
            }
            let count = count(&self.lines, at) as f32;
            output.iter_mut().for_each(|sum| *sum /= count);
        });
    }
}

impl Settings for IntAveragePool {
    const CODE: u8 = 28;
    const NAME: &'static str = "average pool in integers";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        let pool = AveragePool::read(file)?;
        Ok(Self { pool, factors: file.list(6, |file| Ok((file.size()?, file.factor()?)))? })
    }

    fn write(&self, file: &mut Writer) {
        self.pool.write(file);
        file.list(&self.factors, |file, &(count, factor)| {
            file.size(count);
            file.factor(factor);
        });
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        bytes(inputs, element)?;
        let shape = self.pool.shape(&input)?;
        let counts = self.pool.counts(&input.shape)?;
        if !counts.iter().eq(self.factors.iter().map(|(count, _)| count)) {
            return Err(Problem::FactorsOfOtherCounts);
        }
        self.factors.iter().try_for_each(|&(_, factor)| check_factor(factor))?;
        let taps = self.pool.axes.iter().map(|axis| u64::from(axis.kernel));
        if taps.fold(255, u64::saturating_mul) > i32::MAX as u64 {
            return Err(Problem::AccumulatorOverflow { channel: 0 });
        }
        Ok(shape)
    }

    fn memory(&self, site: &Site) -> Memory {
        let tables = self.pool.tables(site).tables;
        Memory { scratch: u64::from(site.output.shape.channels()) * 4, tables }
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        let factors: Vec<Requantization> = self.factors.iter().map(|&(_, factor)| factor).collect();
        let whole = (u8::MIN, u8::MAX);
        Box::new(PreparedInt {
            windows: Windows::new(&self.pool.axes, &site.inputs[0].shape, &site.output.shape),
            lines: self.pool.lines(site),
            counts: self.factors.iter().map(|&(count, _)| count).collect(),
            zero: i32::from(zero(site.inputs[0].element)),
            rescale: Rescale::new(&factors, site.rounding, zero(site.output.element), whole),
        })
    }
}

struct PreparedInt {
    windows: Windows,
    lines: Vec<Vec<u32>>,
    /// Ascending; those of the factors of `rescale`.
    counts: Vec<u32>,
    zero: i32,
    rescale: Rescale,
}

impl Prepared for PreparedInt {
    fn run(&self, operands: Operands) {
        let input = operands.inputs.of::<u8>(0);
        let sums = view_mut::<i32>(operands.scratch);
        let channels = sums.len();
        self.windows.each(|position, at, taps| {
            sums.fill(0);
            for (_, position) in taps {
                let pixel = &input[position * channels..][..channels];
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) - self.zero;
                }
            }
            let count = count(&self.lines, at);
            let factor = self.counts.partition_point(|&other| other < count);
            let output = &mut operands.output[position * channels..][..channels];
            for (output, &sum) in output.iter_mut().zip(&*sums) {
                *output = self.rescale.byte(factor, sum);
            }
        });
    }
}

/// Most different numbers of places that windows may have. Only the windows at the ends have others
/// than those in the middle.
const MAX_COUNTS: usize = 256;

fn check_counts(counts: &BTreeSet<u32>) -> Result<(), Problem> {
    let (elements, limit) = (counts.len() as u64, MAX_COUNTS as u64);
    let what = "the list of numbers of places in its windows";
    if elements <= limit { Ok(()) } else { Err(Problem::TooLarge { what, elements, limit }) }
}

/// How many places count in the window at a place.
fn count(lines: &[Vec<u32>], at: &PerAxis) -> u32 {
    lines.iter().zip(at).map(|(line, &at)| line[at]).product()
}
