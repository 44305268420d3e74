//! The header of a `.npy` file: the type of its numbers, their order, and the shape.

use super::ArrayError;

const MAGIC: &[u8] = b"\x93NUMPY";
/// The numbers begin at a multiple of this.
const ALIGNMENT: usize = 64;

/// What a header says.
pub(super) struct Header {
    pub number: Number,
    pub order: Order,
    pub shape: Vec<usize>,
}

/// The order of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The last index is fastest.
    RowByRow,
    /// The first index is fastest.
    ColumnByColumn,
}

/// A type of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    kind: Kind,
    bytes: usize,
    big_endian: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    Signed,
    Unsigned,
}

impl Number {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// The number of these bytes, rounded to fp32.
    pub fn read(self, bytes: &[u8]) -> f32 {
        let mut wide = [0; 8];
        for (place, byte) in bytes.iter().enumerate() {
            wide[if self.big_endian { self.bytes - 1 - place } else { place }] = *byte;
        }
        let bits = u64::from_le_bytes(wide);
        let unused = 64 - 8 * self.bytes as u32;
        match self.kind {
            Kind::Float => match self.bytes {
                2 => half(bits as u16),
                4 => f32::from_bits(bits as u32),
                _ => f64::from_bits(bits) as f32,
            },
            // Shifting up and down repeats the sign.
            Kind::Signed => ((bits << unused).cast_signed() >> unused) as f32,
            Kind::Unsigned => bits as f32,
        }
    }

    fn named(descr: &str) -> Option<Self> {
        let (order, name) = descr.split_at_checked(1)?;
        let (big_endian, name) = match order {
            "<" | "|" | "=" => (false, name),
            ">" => (true, name),
            _ => (false, descr),
        };
        let (kind, bytes) = match name {
            "f2" => (Kind::Float, 2),
            "f4" => (Kind::Float, 4),
            "f8" => (Kind::Float, 8),
            "i1" => (Kind::Signed, 1),
            "i2" => (Kind::Signed, 2),
            "i4" => (Kind::Signed, 4),
            "i8" => (Kind::Signed, 8),
            "b1" | "u1" => (Kind::Unsigned, 1),
            "u2" => (Kind::Unsigned, 2),
            "u4" => (Kind::Unsigned, 4),
            "u8" => (Kind::Unsigned, 8),
            _ => return None,
        };
        Some(Self { kind, bytes, big_endian })
    }
}

/// A number of 16 bits (IEEE 754).
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * f32::powi(2.0, -24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * f32::powi(2.0, exponent - 15),
    }
}

/// The header, and the bytes after it.
pub(super) fn read(bytes: &[u8]) -> Result<(Header, &[u8]), ArrayError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(ArrayError::NotNpy)?;
    let cut = || ArrayError::Header("the file ends in it");
    let ([major, _], rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
    let (length, rest) = match major {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        _ => return Err(ArrayError::Header("its version is not 1, 2 or 3")),
    };
    let (text, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let text = std::str::from_utf8(text).map_err(|_| ArrayError::Header("it is not text"))?;
    Ok((parse(text)?, data))
}

/// The header of float32 numbers, row by row.
pub(super) fn write(shape: &[usize]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(|size| format!("{size},")).collect();
    let mut text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", sizes.join(" "));
    let before = MAGIC.len() + 4;
    let total = (before + text.len() + 1).next_multiple_of(ALIGNMENT);
    text.push_str(&" ".repeat(total - before - text.len() - 1));
    text.push('\n');
    let length = u16::try_from(text.len()).expect("arrays have few axes");
    [MAGIC, &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat()
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, the keys in any order.
fn parse(text: &str) -> Result<Header, ArrayError> {
    let value = |key: &'static str| {
        let after = text.split_once(&format!("'{key}'")).map(|(_, after)| after.trim_start());
        let after = after.and_then(|after| after.strip_prefix(':'));
        after.map(str::trim_start).ok_or(match key {
            "descr" => ArrayError::Header("it does not say 'descr'"),
            "shape" => ArrayError::Header("it does not say 'shape'"),
            _ => ArrayError::Header("it does not say 'fortran_order'"),
        })
    };
    let descr = value("descr")?;
    let quoted = descr.strip_prefix('\'').and_then(|descr| descr.split_once('\''));
    // A record is a list of fields.
    let descr = quoted.map_or_else(|| descr.split(", '").next().unwrap_or(descr), |(name, _)| name);
    let number = Number::named(descr);
    let number = number.ok_or_else(|| ArrayError::Type { descr: descr.to_owned() })?;
    let order = value("fortran_order")?;
    let order = if order.starts_with("True") {
        Order::ColumnByColumn
    } else if order.starts_with("False") {
        Order::RowByRow
    } else {
        return Err(ArrayError::Header("'fortran_order' is neither True nor False"));
    };
    let wrong = || ArrayError::Header("'shape' is not a list of sizes");
    let shape = value("shape")?.strip_prefix('(').and_then(|shape| shape.split_once(')'));
    let (shape, _) = shape.ok_or_else(wrong)?;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape = sizes.map(|size| size.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
    Ok(Header { number, order, shape })
}
