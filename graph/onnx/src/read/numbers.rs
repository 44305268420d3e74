//! Tensors of the file as constants: their numbers, of any type, from the file or from one beside
//! it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::constant::{Constant, Data, extent, types};
use super::model::Tensor;

/// Gives the bytes of a file that holds tensors, by its relative path, or says why not. It is asked
/// once for each path.
pub type External<'a> = dyn Fn(&str) -> Result<Vec<u8>, String> + 'a;

/// The files beside the network that hold tensors. Each is asked for once.
pub(super) struct Beside<'a> {
    external: Option<&'a External<'a>>,
    files: RefCell<HashMap<String, Rc<Vec<u8>>>>,
}

impl<'a> Beside<'a> {
    pub(super) fn new(external: Option<&'a External<'a>>) -> Self {
        Self { external, files: RefCell::default() }
    }

    /// The size of all files that were asked for so far.
    pub(super) fn bytes(&self) -> usize {
        self.files.borrow().values().map(|bytes| bytes.len()).sum()
    }

    fn file(&self, path: &str) -> Result<Rc<Vec<u8>>, String> {
        if let Some(bytes) = self.files.borrow().get(path) {
            return Ok(Rc::clone(bytes));
        }
        let external = self.external.ok_or_else(|| {
            format!("its numbers are in the file {path:?} beside the network, which is not here")
        })?;
        let bytes = external(path).map_err(|error| {
            format!("its numbers are in the file {path:?} beside the network: {error}")
        })?;
        let bytes = Rc::new(bytes);
        self.files.borrow_mut().insert(path.to_owned(), Rc::clone(&bytes));
        Ok(bytes)
    }
}

/// The sizes of a tensor and its number of elements.
pub(super) fn dims(tensor: &Tensor) -> Result<(Vec<usize>, usize), String> {
    let size =
        |&dim: &i64| usize::try_from(dim).map_err(|_| format!("a size of {dim} is not possible"));
    let dims: Vec<usize> = tensor.dims.iter().map(size).collect::<Result<_, _>>()?;
    let empty = dims.contains(&0);
    // No number has to be there for the sizes of an empty tensor.
    let limit = if empty { 1 << 20 } else { 1 << 40 };
    match extent(&dims) {
        Some(elements) if elements <= limit && dims.len() <= super::MAX_RANK => {
            Ok((dims, if empty { 0 } else { elements }))
        }
        _ => Err(format!("its shape {dims:?} is too large")),
    }
}

/// The numbers of a tensor.
///
/// # Errors
/// What is wrong with it.
pub(super) fn constant(tensor: &Tensor, beside: &Beside<'_>) -> Result<Constant, String> {
    let (dims, elements) = dims(tensor)?;
    let outside;
    let raw = match (&tensor.external, tensor.raw) {
        (Some(entries), _) => {
            let place = Outside::of(entries)?;
            outside = beside.file(place.path)?;
            Some(place.part(&outside)?)
        }
        (None, raw) => raw,
    };
    let data = match raw {
        Some(raw) => raw_numbers(raw, tensor.data_type, elements)?,
        None => listed_numbers(tensor, elements)?,
    };
    let mut constant = Constant::new(dims, data).of_type(tensor.data_type);
    constant.origin = (!tensor.name.is_empty()).then(|| Rc::from(tensor.name));
    Ok(constant)
}

/// Where the numbers of a tensor are outside.
struct Outside<'a> {
    path: &'a str,
    offset: usize,
    length: Option<usize>,
}

impl<'a> Outside<'a> {
    fn of(entries: &[(&'a str, &'a str)]) -> Result<Self, String> {
        let entry = |key: &str| entries.iter().find(|(k, _)| *k == key).map(|(_, value)| *value);
        let number = |key: &str| {
            let parse = |value: &str| {
                value.parse().map_err(|_| format!("its {key} in another file is {value:?}"))
            };
            entry(key).map(parse).transpose()
        };
        let path = entry("location").unwrap_or_default();
        let parts = || path.split(['/', '\\']);
        let inside = !path.is_empty()
            && !path.starts_with(['/', '\\'])
            && !path.contains(':')
            && !path.contains('\0')
            && parts().all(|part| part != "..");
        if !inside {
            return Err(format!(
                "its numbers are said to be in {path:?}, which is not a path below the network's \
                 folder; keep the file beside the network"
            ));
        }
        Ok(Self { path, offset: number("offset")?.unwrap_or(0), length: number("length")? })
    }

    /// Its part of the file's bytes.
    fn part<'b>(&self, bytes: &'b [u8]) -> Result<&'b [u8], String> {
        let Self { path, offset, length } = *self;
        let end = match length {
            Some(length) => offset.checked_add(length),
            None => Some(bytes.len()),
        };
        let part = end.and_then(|end| bytes.get(offset..end));
        part.ok_or_else(|| format!("its numbers are beyond the end of the file {path:?}"))
    }
}

/// Little-endian numbers.
fn raw_numbers(raw: &[u8], data_type: i64, elements: usize) -> Result<Data, String> {
    let width = match data_type {
        types::UINT8 | types::INT8 | types::BOOL => 1,
        4 | 5 | types::FLOAT16 | types::BFLOAT16 => 2,
        types::FLOAT | types::INT32 | 12 => 4,
        types::INT64 | types::DOUBLE | 13 => 8,
        other => return Err(unreadable(other)),
    };
    if elements.checked_mul(width) != Some(raw.len()) {
        let there = raw.len();
        return Err(format!(
            "it has {elements} numbers of {width} bytes, but {there} bytes are there"
        ));
    }
    let two = || raw.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let four = || raw.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let eight = || {
        let eight = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("chunks of 8"));
        raw.chunks_exact(8).map(eight)
    };
    Ok(match data_type {
        types::UINT8 => Data::Int(Rc::new(raw.iter().map(|&b| b.into()).collect())),
        types::INT8 => Data::Int(Rc::new(raw.iter().map(|&b| b.cast_signed().into()).collect())),
        types::BOOL => Data::Bool(Rc::new(raw.iter().map(|&b| b != 0).collect())),
        4 => Data::Int(Rc::new(two().map(i64::from).collect())),
        5 => Data::Int(Rc::new(two().map(|b| b.cast_signed().into()).collect())),
        types::FLOAT16 => Data::Float(Rc::new(two().map(half).collect())),
        types::BFLOAT16 => Data::Float(Rc::new(two().map(brain).collect())),
        types::FLOAT => Data::Float(Rc::new(four().map(f32::from_bits).collect())),
        types::INT32 => Data::Int(Rc::new(four().map(|b| b.cast_signed().into()).collect())),
        12 => Data::Int(Rc::new(four().map(i64::from).collect())),
        types::DOUBLE => Data::Float(Rc::new(eight().map(|b| f64::from_bits(b) as f32).collect())),
        _ => Data::Int(Rc::new(eight().map(u64::cast_signed).collect())),
    })
}

/// Numbers in fields of their own type.
fn listed_numbers(tensor: &Tensor, elements: usize) -> Result<Data, String> {
    let Tensor { floats, doubles, ints, .. } = tensor;
    let (data, there) = match tensor.data_type {
        types::FLOAT => (Data::Float(Rc::new(floats.clone())), floats.len()),
        types::DOUBLE => {
            (Data::Float(Rc::new(doubles.iter().map(|&x| x as f32).collect())), doubles.len())
        }
        types::FLOAT16 => {
            (Data::Float(Rc::new(ints.iter().map(|&x| half(x as u16)).collect())), ints.len())
        }
        types::BFLOAT16 => {
            (Data::Float(Rc::new(ints.iter().map(|&x| brain(x as u16)).collect())), ints.len())
        }
        types::BOOL => (Data::Bool(Rc::new(ints.iter().map(|&x| x != 0).collect())), ints.len()),
        types::UINT8 | types::INT8 | 4 | 5 | types::INT32 | types::INT64 | 12 | 13 => {
            let range = match tensor.data_type {
                types::UINT8 => 0..=255,
                types::INT8 => -128..=127,
                4 => 0..=i64::from(u16::MAX),
                5 => i64::from(i16::MIN)..=i64::from(i16::MAX),
                types::INT32 => i64::from(i32::MIN)..=i64::from(i32::MAX),
                12 => 0..=i64::from(u32::MAX),
                _ => i64::MIN..=i64::MAX,
            };
            if let Some(number) = ints.iter().find(|number| !range.contains(number)) {
                let (low, high) = range.into_inner();
                return Err(format!("it lists {number}, but its type is from {low} to {high}"));
            }
            (Data::Int(Rc::new(ints.clone())), ints.len())
        }
        other => return Err(unreadable(other)),
    };
    if there == elements {
        Ok(data)
    } else {
        Err(format!("it has {elements} numbers, but {there} are there"))
    }
}

fn unreadable(data_type: i64) -> String {
    let name = match data_type {
        types::STRING => "text".to_owned(),
        14 | 15 => "complex numbers".to_owned(),
        17..=20 => "numbers of 8 bits with an exponent".to_owned(),
        21..=23 => "numbers of 4 bits".to_owned(),
        other => format!("type {other}, which is not one of ONNX's types of numbers"),
    };
    format!("it holds {name}; export the network with float32, float16 or integers")
}

/// A half-precision number.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

/// A number of bfloat16: the upper half of a single-precision one.
fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision() {
        for (bits, number) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65504.0),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half(bits), number);
        }
        assert!(half(0x7e00).is_nan());
        assert_eq!(brain(0x3f80), 1.0);
    }

    fn tensor(dims: &[i64], data_type: i64, raw: &'static [u8]) -> Tensor<'static> {
        Tensor { dims: dims.to_vec(), data_type, raw: Some(raw), ..Tensor::default() }
    }

    #[test]
    fn what_is_claimed_has_to_be_there() {
        let error = |tensor: &Tensor| constant(tensor, &Beside::new(None)).unwrap_err();
        let two = tensor(&[2], types::FLOAT, &[0; 4]);
        assert_eq!(error(&two), "it has 2 numbers of 4 bytes, but 4 bytes are there");
        assert!(error(&tensor(&[1 << 31, 1 << 31], types::FLOAT, &[])).contains("too large"));
        assert!(error(&tensor(&[1 << 40, 0], types::FLOAT, &[])).contains("too large"));
        assert!(error(&tensor(&[-1], types::FLOAT, &[])).contains("-1 is not possible"));
        assert!(error(&tensor(&[1], types::STRING, &[0])).contains("text"));
        assert!(error(&tensor(&[1], 99, &[0])).contains("type 99"));
    }

    #[test]
    fn listed_integers_fit_their_type() {
        let listed = |data_type: i64, number: i64| {
            let tensor = Tensor { ints: vec![number], data_type, ..Tensor::default() };
            constant(&tensor, &Beside::new(None))
        };
        assert!(listed(types::INT8, -128).is_ok());
        let error = listed(types::INT8, i64::MAX).unwrap_err();
        assert!(error.ends_with("its type is from -128 to 127"), "{error}");
        assert!(listed(types::INT64, i64::MIN).is_ok());
    }

    #[test]
    fn numbers_outside_are_asked_for_by_a_path_below_the_network() {
        let file = |path: &str| {
            assert_eq!(path, "net.data");
            Ok(vec![9, 1, 2, 3])
        };
        let mut outside = tensor(&[2], types::UINT8, &[]);
        let at = |entries: &[(&'static str, &'static str)]| Some(entries.to_vec());
        outside.external = at(&[("location", "net.data"), ("offset", "1"), ("length", "2")]);
        let read = |tensor: &Tensor| constant(tensor, &Beside::new(Some(&file)));
        assert_eq!(read(&outside).unwrap().to_ints().unwrap(), [1, 2]);
        outside.external = at(&[("location", "net.data"), ("offset", "3"), ("length", "2")]);
        assert!(read(&outside).unwrap_err().contains("beyond the end"));
        for path in ["../net.data", "/net.data", "a/../../b", "", "c:\\net", "..\\net"] {
            outside.external = at(&[("location", path)]);
            assert!(read(&outside).unwrap_err().contains("not a path below"), "{path}");
        }
    }
}
