//! Reads a model from the sections of a model file. A list is allocated only after checking that
//! its bytes are present, so memory stays in proportion to the file.

use super::{FP32_SECTION, HEADER_BYTES, INPUT_SECTION, INT8_SECTION};
use crate::error::{FormatProblem, ModelError};
use crate::layers::AnyLayer;
use crate::model::{
    FloatNode, InputSpec, IntNode, Model, Network, Quantization, Requantization, ValueId,
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
        mean: section.floats()?,
        std: section.floats()?,
    })
}

fn float_node(section: &mut Reader) -> Result<FloatNode, ModelError> {
    let (inputs, layer) = node(section)?;
    Ok(FloatNode { inputs, layer })
}

fn int_node(section: &mut Reader) -> Result<IntNode, ModelError> {
    let (inputs, layer) = node(section)?;
    Ok(IntNode { inputs, layer, output: section.quantization()? })
}

/// What nodes in fp32 and in integers have in common.
fn node<L: AnyLayer>(section: &mut Reader) -> Result<(Vec<ValueId>, L), ModelError> {
    let at = section.at;
    let code = section.byte()?;
    let inputs = section.list(1, |reader| reader.size().map(ValueId))?;
    let unknown = || malformed(at, FormatProblem::UnknownCode { what: "layer", code });
    Ok((inputs, L::read(code, section)?.ok_or_else(unknown)?))
}

/// Multiplier and a shift of one byte.
const MIN_FACTOR_BYTES: usize = 5;

fn malformed(offset: usize, problem: FormatProblem) -> ModelError {
    ModelError::Malformed { offset, problem }
}

/// A cursor over the file up to the end of a section; `at` counts from the beginning of the file.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A code of one byte, which `decode` knows; `what` is its name in the error.
    pub fn code<T>(
        &mut self,
        what: &'static str,
        decode: impl Fn(u8) -> Option<T>,
    ) -> Result<T, ModelError> {
        let at = self.at;
        let code = self.byte()?;
        decode(code).ok_or_else(|| malformed(at, FormatProblem::UnknownCode { what, code }))
    }

    pub fn size(&mut self) -> Result<u32, ModelError> {
        let offset = self.at;
        u32::try_from(self.number()?).map_err(|_| malformed(offset, FormatProblem::BadNumber))
    }

    pub fn floats(&mut self) -> Result<Vec<f32>, ModelError> {
        self.list(4, Self::float)
    }

    pub fn int32s(&mut self) -> Result<Vec<i32>, ModelError> {
        self.list(4, |reader| reader.array().map(i32::from_le_bytes))
    }

    pub fn int8s(&mut self) -> Result<Vec<i8>, ModelError> {
        self.list(1, |reader| reader.byte().map(u8::cast_signed))
    }

    pub fn factors(&mut self) -> Result<Vec<Requantization>, ModelError> {
        self.list(MIN_FACTOR_BYTES, Self::factor)
    }

    pub fn factor(&mut self) -> Result<Requantization, ModelError> {
        let multiplier = self.array().map(i32::from_le_bytes)?;
        let zigzag = self.size()?;
        let shift = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        Ok(Requantization { multiplier, shift })
    }

    /// Lowest and highest output byte.
    pub fn clamp(&mut self) -> Result<(u8, u8), ModelError> {
        Ok((self.byte()?, self.byte()?))
    }

    pub fn float(&mut self) -> Result<f32, ModelError> {
        self.array().map(f32::from_le_bytes)
    }

    /// Exactly `N` bytes, without a count.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, ModelError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn quantization(&mut self) -> Result<Quantization, ModelError> {
        Ok(Quantization { scale: self.float()?, zero_point: self.byte()? })
    }

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
}
