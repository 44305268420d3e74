//! Transposed convolution over one or two axes of positions: what the gradient of a convolution
//! computes, used to make maps larger (Zeiler et al. 2010).

use smallvec::SmallVec;

use super::window::as_picture;
use super::{Effect, Groups, InferError, Memory, Multiplications, Operands, Operation, Role, Slot};
use crate::ties::Ties;
use crate::{MAX_ELEMENTS, Scalar, Shape};

/// Each number of the input adds the kernel, multiplied with it, to the output. The weight is
/// `[out, in / groups, kernel…]`, as that of a convolution is; ONNX and PyTorch have the input
/// channels first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConvTranspose {
    /// Where the kernels come to lie along each axis of positions.
    pub axes: SmallVec<[TransposedAxis; 2]>,
    /// Which input channels an output channel reads.
    pub groups: Groups,
}

/// Where the kernels of a transposed convolution come to lie along an axis of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransposedAxis {
    /// Positions of the output from one position of the input to the next, at least 1.
    pub stride: u32,
    /// Positions from one tap of the kernel to the next, at least 1.
    pub dilation: u32,
    /// Positions that are cropped from the start of the output.
    pub before: u32,
    /// Positions that are cropped from the end of the output, after `extra` ones are added there.
    pub after: u32,
    /// Positions without any tap at the end, which ONNX calls output padding.
    pub extra: u32,
}

impl TransposedAxis {
    /// Nothing is cropped or added.
    pub fn valid(stride: u32) -> Self {
        Self { stride, dilation: 1, before: 0, after: 0, extra: 0 }
    }

    /// Number of positions for `size` positions of the input and so many taps.
    fn outputs(&self, kernel: u32, size: u32) -> Result<u32, InferError> {
        for (setting, value) in
            [("stride", self.stride), ("dilation", self.dilation), ("kernel", kernel)]
        {
            if value == 0 {
                return Err(InferError::Zero { setting });
            }
        }
        let [stride, dilation, kernel, size, extra] =
            [self.stride, self.dilation, kernel, size, self.extra].map(u128::from);
        let whole = (size - 1) * stride + (kernel - 1) * dilation + 1 + extra;
        let cropped = u128::from(self.before) + u128::from(self.after);
        if whole > MAX_ELEMENTS.into() || cropped >= whole {
            let value = format!("{cropped} of {whole} positions");
            return Err(InferError::Setting { setting: "crop", value });
        }
        Ok((whole - cropped) as u32)
    }

    /// The position of the output that a tap of a position of the input adds to, if it is not
    /// cropped.
    fn position(&self, input: usize, tap: usize, outputs: usize) -> Option<usize> {
        let at = input * self.stride as usize + tap * self.dilation as usize;
        at.checked_sub(self.before as usize).filter(|&at| at < outputs)
    }
}

impl Operation for ConvTranspose {
    fn kind(&self) -> &'static str {
        "conv_transpose"
    }

    fn slots(&self) -> &'static [Slot] {
        const SLOTS: [Slot; 2] = [Slot::required(Role::Weight), Slot::optional(Role::Bias)];
        &SLOTS
    }

    fn infer(&self, operands: &Operands) -> Result<Shape, InferError> {
        let (out, kernel) = self.groups.check(self.axes.len(), operands)?;
        let mut space: SmallVec<[u32; 2]> = SmallVec::new();
        for ((axis, &kernel), &size) in self.axes.iter().zip(kernel).zip(operands.inputs[0].space())
        {
            space.push(axis.outputs(kernel, size)?);
        }
        Ok(Shape::new(out, &space)?)
    }

    fn macs(&self, operands: &Operands, _: &Shape) -> u64 {
        // Each weight is used once per position of the input, what is cropped included.
        let weights: u64 = operands.parameters[0].iter().map(|&size| u64::from(size)).product();
        weights.saturating_mul(operands.inputs[0].positions())
    }

    fn multiplications(&self, operands: &Operands) -> Option<Multiplications> {
        Some(self.groups.multiplications(&operands.parameters[0][2..]))
    }

    fn absorbs_factors(&self) -> bool {
        true
    }

    fn effect(&self) -> Effect {
        Effect::Combines
    }

    fn is_alike(&self, other: &Self) -> bool {
        (self.groups == Groups::PerChannel) == (other.groups == Groups::PerChannel)
    }

    fn memory(&self) -> Memory {
        Memory::Separate
    }

    fn ties(&self, operands: &Operands, output: &Shape) -> Ties {
        self.groups.ties(operands, output)
    }

    fn cut(&mut self, inputs: &[&[u32]], _: &[u32]) {
        self.groups.cut(inputs[0].len());
    }

    fn evaluate<S: Scalar>(
        &self,
        operands: &Operands,
        inputs: &[&[S]],
        parameters: &[&[S]],
        output: &Shape,
    ) -> Vec<S> {
        let [height, width] = as_picture(1, operands.inputs[0].space()).map(|n| n as usize);
        let [rows, columns] = as_picture(1, output.space()).map(|n| n as usize);
        let [tall, wide] = as_picture(1, &operands.parameters[0][2..]).map(|n| n as usize);
        let [down, across] = as_picture(TransposedAxis::valid(1), &self.axes);
        let channels = operands.inputs[0].channels() as usize;
        let groups = self.groups.parts(operands.inputs[0].channels()) as usize;
        let (reads, writes) = (channels / groups, output.channels() as usize / groups);
        let mut values = vec![S::constant(0.0); output.elements() as usize];
        for (out, plane) in values.chunks_exact_mut(rows * columns).enumerate() {
            if let Some(bias) = parameters.get(1) {
                plane.fill(bias[out]);
            }
            for i in 0..reads {
                let source = &inputs[0][(out / writes * reads + i) * height * width..];
                let filter = &parameters[0][(out * reads + i) * tall * wide..][..tall * wide];
                for (y, ky) in (0..height).flat_map(|y| (0..tall).map(move |ky| (y, ky))) {
                    let Some(row) = down.position(y, ky, rows) else { continue };
                    for (x, kx) in (0..width).flat_map(|x| (0..wide).map(move |kx| (x, kx))) {
                        let Some(column) = across.position(x, kx, columns) else { continue };
                        let sum = &mut plane[row * columns + column];
                        *sum = *sum + filter[ky * wide + kx] * source[y * width + x];
                    }
                }
            }
        }
        values
    }
}
