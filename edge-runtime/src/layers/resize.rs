//! Other numbers of positions, each made of two old ones per axis, in fp32 or in integers. Where
//! they lie comes with the model, so that no target divides.

use super::prelude::*;
use super::window::shape_of;

/// Resizes the axes of positions, in fp32.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// For each axis of positions, the taps of each new position. The weights are finite.
    pub axes: Vec<Vec<Taps<f32>>>,
}

/// Resizes the axes of positions, in bytes of one scale: the exact sum of `q * weights`, rounded
/// once, halves up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntResize {
    /// For each axis of positions, the taps of each new position. Its two weights are parts of
    /// [`IntResize::WHOLE`], which they add up to.
    pub axes: Vec<Vec<Taps<u32>>>,
}

impl IntResize {
    /// Bits of a whole weight. With five axes of positions, sums fit in 64 bits.
    const BITS: u32 = 11;

    /// What the weights of a position add up to.
    pub const WHOLE: u32 = 1 << Self::BITS;
}

/// The two old positions that make a new one, and how much each counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taps<W> {
    /// The old positions.
    pub indices: [u32; 2],
    /// How much each counts.
    pub weights: [W; 2],
}

impl Eq for Taps<u32> {}

impl Settings for Resize {
    const CODE: u8 = 31;
    const NAME: &'static str = "resize";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { axes: read(file, Reader::float)? })
    }

    fn write(&self, file: &mut Writer) {
        write(&self.axes, file, Writer::float);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        floats(inputs, element)?;
        let weights = self.axes.iter().flatten().flat_map(|taps| taps.weights);
        for weight in weights {
            check_number("a weight", weight, false)?;
        }
        resized(&self.axes, &input.shape)
    }

    fn memory(&self, _: &Site) -> Memory {
        Memory::default()
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        Box::new(PreparedFloat(Grid::new(&self.axes, &site.inputs[0].shape)))
    }
}

struct PreparedFloat(Grid<f32>);

impl Prepared for PreparedFloat {
    fn run(&self, operands: Operands) {
        let input = operands.inputs.of::<f32>(0);
        let channels = self.0.channels;
        let output = view_mut::<f32>(operands.output);
        self.0.each(1.0, |position, corner, weight, first| {
            let output = &mut output[position * channels..][..channels];
            let pixel = &input[corner * channels..][..channels];
            for (output, value) in output.iter_mut().zip(pixel) {
                let part = weight * value;
                *output = if first { part } else { *output + part };
            }
        });
    }
}

impl Settings for IntResize {
    const CODE: u8 = 32;
    const NAME: &'static str = "resize in integers";

    fn read(file: &mut Reader) -> Result<Self, ModelError> {
        Ok(Self { axes: read(file, Reader::size)? })
    }

    fn write(&self, file: &mut Writer) {
        write(&self.axes, file, Writer::size);
    }

    fn output(&self, inputs: &[Value], element: Element) -> Result<Shape, Problem> {
        let [input] = inputs_of(inputs)?;
        bytes(inputs, element)?;
        moves(inputs, element)?;
        for [a, b] in self.axes.iter().flatten().map(|taps| taps.weights) {
            if a.checked_add(b) != Some(Self::WHOLE) {
                let (value, limit) = (i64::from(a) + i64::from(b), i64::from(Self::WHOLE));
                return Err(Problem::OutOfRange { what: "a sum of weights", value, limit });
            }
        }
        resized(&self.axes, &input.shape)
    }

    fn memory(&self, site: &Site) -> Memory {
        // One sum in 64 bits per channel.
        Memory { scratch: u64::from(site.output.shape.channels()) * 8, tables: 0 }
    }

    fn prepare(&self, site: &Site) -> Box<dyn Prepared> {
        Box::new(PreparedInt(Grid::new(&self.axes, &site.inputs[0].shape)))
    }
}

struct PreparedInt(Grid<u32>);

impl Prepared for PreparedInt {
    fn run(&self, operands: Operands) {
        let input = operands.inputs.of::<u8>(0);
        let channels = self.0.channels;
        let sums = view_mut::<i64>(operands.scratch);
        let bits = IntResize::BITS * self.0.axes.len() as u32;
        let corners = 1 << self.0.axes.len();
        let (mut seen, output) = (0, operands.output);
        self.0.each(1u64, |position, corner, weight, first| {
            if first {
                sums.fill(0);
                seen = 0;
            }
            let pixel = &input[corner * channels..][..channels];
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += i64::from(value) * weight as i64;
            }
            seen += 1;
            if seen == corners {
                let output = &mut output[position * channels..][..channels];
                for (output, &sum) in output.iter_mut().zip(&*sums) {
                    // A mean of bytes is a byte.
                    *output = ((sum + (1i64 << bits >> 1)) >> bits) as u8;
                }
            }
        });
    }
}

/// The taps along every axis, and the sizes of the input.
struct Grid<W> {
    axes: Vec<Vec<Taps<W>>>,
    input: Vec<usize>,
    channels: usize,
}

impl<W: Copy> Grid<W> {
    fn new(axes: &[Vec<Taps<W>>], input: &Shape) -> Self {
        Self {
            axes: axes.to_vec(),
            input: input.space().iter().map(|&size| size as usize).collect(),
            channels: input.channels() as usize,
        }
    }

    /// Calls `visit` with each new position and each old one that makes it, the product of their
    /// weights, and whether it is the first.
    fn each<P: Copy + std::ops::Mul<Output = P> + From<W>>(
        &self,
        one: P,
        mut visit: impl FnMut(usize, usize, P, bool),
    ) {
        let positions = self.axes.iter().map(Vec::len).product::<usize>();
        let mut at = [0; MAX_AXES];
        for position in 0..positions {
            for corner in 0..1usize << self.axes.len() {
                let (mut from, mut weight) = (0, one);
                for (axis, taps) in self.axes.iter().enumerate() {
                    let Taps { indices, weights } = taps[at[axis]];
                    let side = corner >> axis & 1;
                    from = from * self.input[axis] + indices[side] as usize;
                    weight = weight * P::from(weights[side]);
                }
                visit(position, from, weight, corner == 0);
            }
            for axis in (0..self.axes.len()).rev() {
                at[axis] += 1;
                if at[axis] < self.axes[axis].len() {
                    break;
                }
                at[axis] = 0;
            }
        }
    }
}

/// Checks the positions and returns the shape of the output.
fn resized<W>(axes: &[Vec<Taps<W>>], input: &Shape) -> Result<Shape, Problem> {
    check_axes("axes of positions", input.space().len(), axes.len())?;
    for (taps, &size) in axes.iter().zip(input.space()) {
        let mut indices = taps.iter().flat_map(|taps| taps.indices);
        if let Some(index) = indices.find(|&index| index >= size) {
            let (value, limit) = (i64::from(index), i64::from(size) - 1);
            return Err(Problem::OutOfRange { what: "a position", value, limit });
        }
    }
    let size = |taps: &Vec<Taps<W>>| u32::try_from(taps.len()).unwrap_or(u32::MAX);
    shape_of(input.channels(), &axes.iter().map(size).collect::<Vec<_>>())
}

fn read<'a, W: Copy>(
    file: &mut Reader<'a>,
    weight: fn(&mut Reader<'a>) -> Result<W, ModelError>,
) -> Result<Vec<Vec<Taps<W>>>, ModelError> {
    file.list(1, |file| {
        file.list(4, |file| {
            let indices = [file.size()?, file.size()?];
            Ok(Taps { indices, weights: [weight(file)?, weight(file)?] })
        })
    })
}

fn write<W: Copy>(axes: &[Vec<Taps<W>>], file: &mut Writer, weight: fn(&mut Writer, W)) {
    file.list(axes, |file, taps| {
        file.list(taps, |file, taps| {
            taps.indices.iter().for_each(|&index| file.size(index));
            taps.weights.iter().for_each(|&part| weight(file, part));
        });
    });
}
