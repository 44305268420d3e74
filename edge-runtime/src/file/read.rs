//! Reads fields of a model file. A list is allocated only after checking that its bytes are
//! present, so memory stays in proportion to the file.

use super::packed::{self, MOST_UNPACKED, PACKED};
use super::{HEADER_BYTES, Number, Tensor};
use crate::error::{FormatProblem, ModelError};
use crate::model::{Element, Quantization, Requantization};

/// Multiplier and a shift of one byte.
const MIN_FACTOR_BYTES: usize = 5;

pub(super) fn malformed(offset: usize, problem: FormatProblem) -> ModelError {
    ModelError::Malformed { offset, problem }
}

/// A cursor over the file up to the end of a section; `at` counts from the beginning of the file.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Bytes of packed numbers that may still be unpacked.
    unpacked: u64,
}

impl<'a> Reader<'a> {
    /// Reads what follows the header. `content` is the file without its checksum.
    pub(super) fn new(content: &'a [u8]) -> Self {
        Self { bytes: content, at: HEADER_BYTES, unpacked: MOST_UNPACKED }
    }

    /// Reads bytes from their beginning.
    #[cfg(test)]
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, unpacked: MOST_UNPACKED }
    }

    /// Where it is, from the beginning of the file.
    pub fn at(&self) -> usize {
        self.at
    }

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

    /// The error for a code at `at` that stands for nothing.
    pub fn unknown(&self, at: usize, what: &'static str, code: u8) -> ModelError {
        malformed(at, FormatProblem::UnknownCode { what, code })
    }

    /// The next byte, if there is one, without taking it.
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub fn size(&mut self) -> Result<u32, ModelError> {
        let offset = self.at;
        u32::try_from(self.number()?).map_err(|_| malformed(offset, FormatProblem::BadNumber))
    }

    pub fn floats(&mut self) -> Result<Vec<f32>, ModelError> {
        self.list(4, Self::float)
    }

    pub fn int32s(&mut self) -> Result<Vec<i32>, ModelError> {
        self.list(4, Self::int32)
    }

    pub fn int8s(&mut self) -> Result<Vec<i8>, ModelError> {
        self.list(1, |reader| reader.byte().map(u8::cast_signed))
    }

    /// Bytes with their count.
    pub fn bytes(&mut self) -> Result<Vec<u8>, ModelError> {
        let count = self.number()?;
        self.take(count).map(<[u8]>::to_vec)
    }

    /// UTF-8 with its count of bytes.
    pub fn text(&mut self) -> Result<String, ModelError> {
        let count = self.number()?;
        let offset = self.at;
        let text = std::str::from_utf8(self.take(count)?);
        text.map(str::to_owned).map_err(|_| malformed(offset, FormatProblem::NotText))
    }

    pub fn factors(&mut self) -> Result<Vec<Requantization>, ModelError> {
        self.list(MIN_FACTOR_BYTES, Self::factor)
    }

    pub fn factor(&mut self) -> Result<Requantization, ModelError> {
        let multiplier = self.int32()?;
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

    pub fn int32(&mut self) -> Result<i32, ModelError> {
        self.array().map(i32::from_le_bytes)
    }

    /// Exactly `N` bytes, without a count.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub fn byte(&mut self) -> Result<u8, ModelError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A tensor of numbers of this type, which is not quantized.
    pub fn tensor<T: Number>(&mut self) -> Result<Tensor<T>, ModelError> {
        self.any_tensor(false)
    }

    /// A tensor of numbers of this type, which may be quantized along its first axis.
    pub fn scaled_tensor<T: Number>(&mut self) -> Result<Tensor<T>, ModelError> {
        self.any_tensor(true)
    }

    /// The numbers of a tensor with one axis.
    pub fn vector<T: Number>(&mut self) -> Result<Vec<T>, ModelError> {
        let offset = self.at;
        let tensor = self.tensor()?;
        if tensor.sizes.len() != 1 {
            let problem = FormatProblem::TensorAxes { expected: 1, found: tensor.sizes.len() };
            return Err(malformed(offset, problem));
        }
        Ok(tensor.values)
    }

    fn any_tensor<T: Number>(&mut self, may_have_scales: bool) -> Result<Tensor<T>, ModelError> {
        let packed = self.code("tensor", |code| match code {
            code if code == T::CODE => Some(false),
            code if code == T::CODE | PACKED => Some(true),
            _ => None,
        })?;
        let sizes = self.list(1, Self::size)?;
        let most = u8::from(may_have_scales);
        let scaled = self.code("quantization", |code| (code <= most).then_some(code == 1))?;
        let scales = if scaled {
            // Along the first axis.
            self.code("quantized axis", |axis| (axis == 0).then_some(()))?;
            let (offset, scales) = (self.at, self.floats()?);
            if scales.is_empty() {
                // Written without scales, so that there is one encoding.
                return Err(malformed(offset, FormatProblem::BadNumber));
            }
            scales
        } else {
            Vec::new()
        };
        let count = sizes.iter().fold(1u64, |n, &size| n.saturating_mul(size.into()));
        let values = if packed {
            packed::read(self, count)?
        } else {
            let bytes = self.take(count.saturating_mul(T::BYTES as u64))?;
            bytes.chunks_exact(T::BYTES).map(T::read).collect()
        };
        Ok(Tensor { sizes, values, scales })
    }

    /// Output and input channels of a weight, and its kernel, which has `axes` sizes.
    pub fn sizes_of_weight<'s>(
        &self,
        sizes: &'s [u32],
        axes: usize,
    ) -> Result<([u32; 2], &'s [u32]), ModelError> {
        match sizes {
            [out, input, kernel @ ..] if kernel.len() == axes => Ok(([*out, *input], kernel)),
            _ => {
                let problem = FormatProblem::TensorAxes { expected: axes + 2, found: sizes.len() };
                Err(malformed(self.at, problem))
            }
        }
    }

    pub(super) fn quantization(&mut self) -> Result<Quantization, ModelError> {
        Ok(Quantization { scale: self.float()?, zero_point: self.byte()? })
    }

    pub(super) fn element(&mut self) -> Result<Element, ModelError> {
        let float = self.code("element", |code| (code <= 1).then_some(code == 0))?;
        Ok(if float { Element::Fp32 } else { Element::Uint8(self.quantization()?) })
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next section.
    pub(super) fn section(&mut self) -> Result<([u8; 4], Reader<'a>), ModelError> {
        let tag = self.array::<4>()?;
        Ok((tag, self.part()?))
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    pub(super) fn end(&self) -> Result<(), ModelError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            rest => Err(malformed(self.at, FormatProblem::LeftOver(rest))),
        }
    }

    /// So many bytes, without a count.
    pub(super) fn raw(&mut self, needed: usize) -> Result<&'a [u8], ModelError> {
        self.take(needed as u64)
    }

    /// A reader of bytes that come with their count.
    pub(super) fn part(&mut self) -> Result<Reader<'a>, ModelError> {
        let length = self.number()?;
        let start = self.at;
        self.take(length)?;
        Ok(Reader { bytes: &self.bytes[..self.at], at: start, unpacked: self.unpacked })
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The bytes that are left, without taking them.
    pub(super) fn rest_bytes(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Notes that so many bytes of packed numbers are unpacked; `false` if they are too many with
    /// those before them. All tensors of a file are in one section, so its reader counts them all.
    pub(super) fn may_unpack(&mut self, bytes: u64) -> bool {
        match self.unpacked.checked_sub(bytes) {
            Some(left) => {
                self.unpacked = left;
                true
            }
            None => false,
        }
    }

    /// So many bytes, without a count.
    pub(super) fn take(&mut self, needed: u64) -> Result<&'a [u8], ModelError> {
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

    /// A list of items of at least `item_bytes` each.
    pub fn list<T>(
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
