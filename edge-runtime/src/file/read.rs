//! Reads a model from the sections of a model file. A list is allocated only after checking that
//! its bytes are present, so memory stays in proportion to the file.

use super::{FP32_SECTION, HEADER_BYTES, INPUT_SECTION, INT8_SECTION, code};
use crate::error::{FormatProblem, ModelError};
use crate::model::{
    Activation, Conv, FloatLayer, FloatNode, InputSpec, IntLayer, IntNode, Linear, Model, Network,
    Quantization, Requantization, ValueId,
};

/// Reads all sections. `content` is the file without its checksum, which has been checked.
pub(super) fn sections(content: &[u8]) -> Result<Model, ModelError> {
    let mut file = Reader { bytes: content, at: HEADER_BYTES };
    let mut section = file.section(&[INPUT_SECTION])?.1;
    let input = input(&mut section)?;
    section.end()?;
    let (tag, mut section) = file.section(&[FP32_SECTION, INT8_SECTION])?;
    let network = if tag == FP32_SECTION {
        Network::Fp32(section.list(MIN_NODE_BYTES, float_node)?)
    } else {
        let input = section.quantization()?;
        Network::Int8 { input, nodes: section.list(MIN_NODE_BYTES, int_node)? }
    };
    section.end()?;
    file.end()?;
    Ok(Model { input, network })
}

/// Kind and number of inputs.
const MIN_NODE_BYTES: usize = 2;

fn input(section: &mut Reader) -> Result<InputSpec, ModelError> {
    Ok(InputSpec {
        channels: section.size()?,
        height: section.size()?,
        width: section.size()?,
        mean: section.list(4, Reader::float)?,
        std: section.list(4, Reader::float)?,
    })
}

fn float_node(section: &mut Reader) -> Result<FloatNode, ModelError> {
    let at = section.at;
    let kind = section.byte()?;
    let inputs = section.list(1, |reader| reader.size().map(ValueId))?;
    let layer = match kind {
        code::CONV => FloatLayer::Conv(
            section.conv((4, Reader::float), (4, Reader::float))?,
            activation(section)?,
        ),
        code::DEPTHWISE => FloatLayer::Depthwise(
            section.conv((4, Reader::float), (4, Reader::float))?,
            activation(section)?,
        ),
        code::ADD => FloatLayer::Add,
        code::GLOBAL_AVERAGE_POOL => FloatLayer::GlobalAveragePool,
        code::LINEAR => FloatLayer::Linear(section.linear((4, Reader::float), (4, Reader::float))?),
        code => return Err(malformed(at, FormatProblem::UnknownCode { what: "layer", code })),
    };
    Ok(FloatNode { inputs, layer })
}

fn int_node(section: &mut Reader) -> Result<IntNode, ModelError> {
    let at = section.at;
    let kind = section.byte()?;
    let inputs = section.list(1, |reader| reader.size().map(ValueId))?;
    let layer = match kind {
        code::CONV => IntLayer::Conv {
            conv: section.conv((1, Reader::int8), (4, Reader::int32))?,
            requantize: section.list(MIN_FACTOR_BYTES, Reader::requantization)?,
            clamp: (section.byte()?, section.byte()?),
        },
        code::DEPTHWISE => IntLayer::Depthwise {
            conv: section.conv((1, Reader::int8), (4, Reader::int32))?,
            requantize: section.list(MIN_FACTOR_BYTES, Reader::requantization)?,
            clamp: (section.byte()?, section.byte()?),
        },
        code::ADD => IntLayer::Add {
            sides: [section.requantization()?, section.requantization()?],
            output: section.requantization()?,
            clamp: (section.byte()?, section.byte()?),
        },
        code::GLOBAL_AVERAGE_POOL => {
            IntLayer::GlobalAveragePool { requantize: section.requantization()? }
        }
        code::LINEAR => IntLayer::Linear {
            linear: section.linear((1, Reader::int8), (4, Reader::int32))?,
            logit_scale: section.list(4, Reader::float)?,
        },
        code => return Err(malformed(at, FormatProblem::UnknownCode { what: "layer", code })),
    };
    Ok(IntNode { inputs, layer, output: section.quantization()? })
}

/// Multiplier and a shift of one byte.
const MIN_FACTOR_BYTES: usize = 5;

fn activation(section: &mut Reader) -> Result<Activation, ModelError> {
    let at = section.at;
    match section.byte()? {
        code::ACTIVATION_LINEAR => Ok(Activation::Linear),
        code::ACTIVATION_RELU => Ok(Activation::Relu),
        code::ACTIVATION_RELU6 => Ok(Activation::Relu6),
        code => Err(malformed(at, FormatProblem::UnknownCode { what: "activation", code })),
    }
}

fn malformed(offset: usize, problem: FormatProblem) -> ModelError {
    ModelError::Malformed { offset, problem }
}

/// A cursor over the file up to the end of a section; `at` counts from the beginning of the file.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// How to read a list: the smallest size of an item in bytes, and the function that reads one.
type Item<'a, T> = (usize, fn(&mut Reader<'a>) -> Result<T, ModelError>);

impl<'a> Reader<'a> {
    /// The next section, which must have one of `tags`.
    fn section(&mut self, tags: &[[u8; 4]]) -> Result<([u8; 4], Reader<'a>), ModelError> {
        let offset = self.at;
        let found = self.array::<4>()?;
        if !tags.contains(&found) {
            let problem = FormatProblem::WrongSection { expected: tags[0], found };
            return Err(malformed(offset, problem));
        }
        let length = self.number()?;
        let start = self.at;
        self.take(length)?;
        Ok((found, Reader { bytes: &self.bytes[..self.at], at: start }))
    }

    fn end(&self) -> Result<(), ModelError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            rest => Err(malformed(self.at, FormatProblem::LeftOver(rest))),
        }
    }

    fn take(&mut self, needed: u64) -> Result<&'a [u8], ModelError> {
        let available = (self.bytes.len() - self.at) as u64;
        if needed > available {
            return Err(malformed(self.at, FormatProblem::TooShort { needed, available }));
        }
        // `needed` is at most what is left, so it fits.
        let end = self.at + needed as usize;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, ModelError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u64, ModelError> {
        let offset = self.at;
        let bad = || malformed(offset, FormatProblem::BadNumber);
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(bad());
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // A last byte of 0 is redundant.
                return if byte == 0 && shift > 0 { Err(bad()) } else { Ok(value) };
            }
        }
        Err(bad())
    }

    fn size(&mut self) -> Result<u32, ModelError> {
        let offset = self.at;
        u32::try_from(self.number()?).map_err(|_| malformed(offset, FormatProblem::BadNumber))
    }

    fn list<T>(
        &mut self,
        item_bytes: usize,
        read: impl Fn(&mut Self) -> Result<T, ModelError>,
    ) -> Result<Vec<T>, ModelError> {
        let count = self.number()?;
        let needed = count.saturating_mul(item_bytes as u64);
        let available = (self.bytes.len() - self.at) as u64;
        if needed > available {
            return Err(malformed(self.at, FormatProblem::TooShort { needed, available }));
        }
        (0..count).map(|_| read(self)).collect()
    }

    fn conv<W, B>(
        &mut self,
        weight: Item<'a, W>,
        bias: Item<'a, B>,
    ) -> Result<Conv<W, B>, ModelError> {
        Ok(Conv {
            in_channels: self.size()?,
            out_channels: self.size()?,
            kernel: self.size()?,
            stride: self.size()?,
            padding: self.size()?,
            weight: self.list(weight.0, weight.1)?,
            bias: self.list(bias.0, bias.1)?,
        })
    }

    fn linear<W, B>(
        &mut self,
        weight: Item<'a, W>,
        bias: Item<'a, B>,
    ) -> Result<Linear<W, B>, ModelError> {
        Ok(Linear {
            in_features: self.size()?,
            out_features: self.size()?,
            weight: self.list(weight.0, weight.1)?,
            bias: self.list(bias.0, bias.1)?,
        })
    }

    fn quantization(&mut self) -> Result<Quantization, ModelError> {
        Ok(Quantization { scale: self.float()?, zero_point: self.byte()? })
    }

    fn requantization(&mut self) -> Result<Requantization, ModelError> {
        let multiplier = self.int32()?;
        let zigzag = self.size()?;
        let shift = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        Ok(Requantization { multiplier, shift })
    }

    fn float(&mut self) -> Result<f32, ModelError> {
        self.array().map(f32::from_le_bytes)
    }

    fn int32(&mut self) -> Result<i32, ModelError> {
        self.array().map(i32::from_le_bytes)
    }

    fn int8(&mut self) -> Result<i8, ModelError> {
        self.byte().map(u8::cast_signed)
    }
}
