//! The wire format of protocol buffers: fields of a message, borrowed from the file. A length is
//! compared with the bytes that are there before anything is made of it.

use super::error::Malformed;

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    value: Value<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of a message, in the order of the file.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    message: &'static str,
}

impl<'a> Fields<'a> {
    /// `message` is what the bytes are, for what is said if they are not.
    pub(super) fn new(bytes: &'a [u8], message: &'static str) -> Self {
        Self { rest: bytes, message }
    }

    /// The next field; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let broken = Malformed::Message { message: self.message };
        let key = varint(&mut self.rest).ok_or(broken)?;
        let number = u32::try_from(key >> 3).ok().filter(|&number| number > 0).ok_or(broken)?;
        let value = match key & 7 {
            0 => varint(&mut self.rest).map(Value::Varint),
            1 => fixed(&mut self.rest).map(|bytes| Value::Fixed64(u64::from_le_bytes(bytes))),
            2 => {
                let length = varint(&mut self.rest).ok_or(broken)?;
                let there = self.rest.len();
                let fits = usize::try_from(length).ok().filter(|&length| length <= there);
                let message = self.message;
                let cut = Malformed::Cut { message, claimed: length, there: there as u64 };
                let (bytes, rest) = self.rest.split_at(fits.ok_or(cut)?);
                self.rest = rest;
                Some(Value::Bytes(bytes))
            }
            5 => fixed(&mut self.rest).map(|bytes| Value::Fixed32(u32::from_le_bytes(bytes))),
            _ => None,
        };
        Ok(Some(Field { number, value: value.ok_or(broken)? }))
    }
}

impl<'a> Field<'a> {
    /// A field of another type than the format says is as good as a broken one.
    fn mistyped(&self) -> Malformed {
        Malformed::Field { number: self.number }
    }

    pub(super) fn int(&self) -> Result<i64, Malformed> {
        match self.value {
            Value::Varint(value) => Ok(value.cast_signed()),
            _ => Err(self.mistyped()),
        }
    }

    pub(super) fn float(&self) -> Result<f32, Malformed> {
        match self.value {
            Value::Fixed32(bits) => Ok(f32::from_bits(bits)),
            _ => Err(self.mistyped()),
        }
    }

    pub(super) fn bytes(&self) -> Result<&'a [u8], Malformed> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.mistyped()),
        }
    }

    pub(super) fn text(&self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Text { number: self.number })
    }

    /// Adds the numbers of a repeated field, which may be packed.
    pub(super) fn ints(&self, into: &mut Vec<i64>) -> Result<(), Malformed> {
        match self.value {
            Value::Varint(value) => into.push(value.cast_signed()),
            Value::Bytes(mut bytes) => {
                while !bytes.is_empty() {
                    let value = varint(&mut bytes).ok_or_else(|| self.mistyped())?;
                    into.push(value.cast_signed());
                }
            }
            _ => return Err(self.mistyped()),
        }
        Ok(())
    }

    /// Adds the numbers of a repeated field of floats, which may be packed.
    pub(super) fn floats(&self, into: &mut Vec<f32>) -> Result<(), Malformed> {
        match self.value {
            Value::Fixed32(bits) => into.push(f32::from_bits(bits)),
            Value::Bytes(bytes) if bytes.len().is_multiple_of(4) => {
                into.extend(
                    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
                );
            }
            _ => return Err(self.mistyped()),
        }
        Ok(())
    }

    /// Adds the numbers of a repeated field of doubles, which may be packed.
    pub(super) fn doubles(&self, into: &mut Vec<f64>) -> Result<(), Malformed> {
        match self.value {
            Value::Fixed64(bits) => into.push(f64::from_bits(bits)),
            Value::Bytes(mut bytes) if bytes.len().is_multiple_of(8) => {
                while let Some(number) = fixed(&mut bytes) {
                    into.push(f64::from_le_bytes(number));
                }
            }
            _ => return Err(self.mistyped()),
        }
        Ok(())
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8]) -> Result<Field<'_>, Malformed> {
        Fields::new(bytes, "model").next().map(Option::unwrap)
    }

    #[test]
    fn fields_have_their_types() {
        assert_eq!(first(&[0x08, 0xac, 0x02]).unwrap().int().unwrap(), 300);
        assert_eq!(first(&[0x12, 2, b'h', b'i']).unwrap().text().unwrap(), "hi");
        assert_eq!(first(&[0x15, 0, 0, 0x80, 0x3f]).unwrap().float().unwrap(), 1.0);
        let mut ints = vec![];
        first(&[0x3a, 3, 1, 0x80, 1]).unwrap().ints(&mut ints).unwrap();
        assert_eq!(ints, [1, 128]);
        assert!(first(&[0x08, 1]).unwrap().bytes().is_err());
        assert!(Fields::new(&[], "model").next().unwrap().is_none());
    }

    #[test]
    fn claims_beyond_the_end_are_refused() {
        let error = first(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0x07, 1]).unwrap_err();
        assert_eq!(error, Malformed::Cut { message: "model", claimed: 0x7fff_ffff, there: 1 });
        for broken in [&[0x08][..], &[0x08, 0x80], &[0x0b], &[0x00, 1], &[0x09, 1], &[0xff; 12]] {
            assert!(first(broken).is_err(), "{broken:?}");
        }
    }
}
