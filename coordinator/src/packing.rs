//! Numbers and texts in few bytes: how the store writes many records together, and how the core
//! keeps what it seldom needs of a finished trial. Says nothing about what they mean.

/// The most bytes of a number in LEB128.
const MOST_BYTES: u32 = 10;
/// Whole numbers below this are exact as floating-point numbers.
const EXACT: f64 = (1u64 << 53) as f64;

/// Adds a number in LEB128: 7 bits a byte, the lowest first; all bytes but the last have bit 7 set.
pub fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Adds the difference of two numbers, so that one near 0 on either side is short. It wraps.
pub fn put_difference(bytes: &mut Vec<u8>, number: u64, before: u64) {
    let difference = number.wrapping_sub(before) as i64;
    put(bytes, (difference << 1 ^ difference >> 63) as u64);
}

/// Adds a floating-point number, every bit of it: a whole number `n` of 0 and more as `n + 1`,
/// others as 0 and their 8 bytes.
pub fn put_float(bytes: &mut Vec<u8>, value: f64) {
    let whole = value as u64;
    if value < EXACT && (whole as f64).to_bits() == value.to_bits() {
        put(bytes, whole + 1);
    } else {
        put(bytes, 0);
        bytes.extend(value.to_le_bytes());
    }
}

/// Adds bytes with their number.
pub fn put_bytes(bytes: &mut Vec<u8>, more: &[u8]) {
    put(bytes, more.len() as u64);
    bytes.extend(more);
}

/// Reads what was put. Every method returns `None` if the bytes end too early or cannot be that.
#[derive(Debug, Clone, Copy)]
pub struct Unpacker<'a>(&'a [u8]);

impl<'a> Unpacker<'a> {
    /// Reads these bytes from the first on.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all bytes were read.
    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// This many bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A fixed number of bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// See [`put`].
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for place in 0..MOST_BYTES {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << (7 * place) >> (7 * place) != part {
                return None;
            }
            number |= part << (7 * place);
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A number that fits a smaller type.
    pub fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.number()?.try_into().ok()
    }

    /// See [`put_difference`].
    pub fn after(&mut self, before: u64) -> Option<u64> {
        let folded = self.number()?;
        let difference = (folded >> 1) as i64 ^ -((folded & 1) as i64);
        Some(before.wrapping_add(difference as u64))
    }

    /// See [`put_float`].
    pub fn float(&mut self) -> Option<f64> {
        match self.number()? {
            0 => self.array().map(f64::from_le_bytes),
            more => Some((more - 1) as f64),
        }
    }

    /// See [`put_bytes`].
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.small()?;
        self.take(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_these() {
        let mut bytes = Vec::new();
        put(&mut bytes, 300);
        put_difference(&mut bytes, 7, 9);
        put_float(&mut bytes, 5.0);
        put_float(&mut bytes, 0.5);
        put_bytes(&mut bytes, b"ab");
        assert_eq!(bytes, [&[0xac, 2, 3, 6, 0][..], &0.5f64.to_le_bytes(), b"\x02ab"].concat());
    }

    #[test]
    fn what_cannot_be_is_not_read() {
        assert_eq!(Unpacker::new(&[0x80]).number(), None);
        assert_eq!(Unpacker::new(&[0xff; 11]).number(), None);
        assert_eq!(Unpacker::new(&[0, 1, 2]).float(), None);
        assert_eq!(Unpacker::new(&[3, 1, 2]).bytes(), None);
        assert_eq!(Unpacker::new(&[0x80, 2]).small::<u8>(), None);
    }

    proptest! {
        #[test]
        fn what_is_put_is_read(number: u64, before: u64, bits: u64, count in 0u64..1 << 60) {
            let mut bytes = Vec::new();
            let floats = [f64::from_bits(bits), count as f64, -(count as f64), f64::NAN, -0.0];
            put(&mut bytes, number);
            put_difference(&mut bytes, number, before);
            floats.iter().for_each(|value| put_float(&mut bytes, *value));
            put_bytes(&mut bytes, &bits.to_le_bytes());
            let mut reader = Unpacker::new(&bytes);
            prop_assert_eq!(reader.number(), Some(number));
            prop_assert_eq!(reader.after(before), Some(number));
            for value in floats {
                prop_assert_eq!(reader.float().map(f64::to_bits), Some(value.to_bits()));
            }
            prop_assert_eq!(reader.bytes(), Some(&bits.to_le_bytes()[..]));
            prop_assert!(reader.is_at_end());
        }
    }
}
