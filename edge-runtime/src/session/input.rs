//! Turns arrays from outside into the values of inputs, and values of outputs into arrays.

use super::Tensor;
use crate::error::InputError;
use crate::layers::{view, view_mut};
use crate::model::{Array, Element, Input, Output, Quantization};
use crate::shape::{Shape, Walk};

/// An input that is ready to take arrays.
pub(super) struct Loader {
    name: String,
    conversion: Conversion,
    shape: Shape,
    /// Over the value, with the places in the array. `None` if the array lists the value channel by
    /// channel.
    walk: Option<Walk<1>>,
}

/// What becomes of each number, for a table in its channel.
enum Conversion {
    FloatTables(Vec<[f32; 256]>),
    ByteTables(Vec<[u8; 256]>),
    Float,
    Quantize(Quantization),
}

impl Loader {
    /// `input` is valid.
    pub fn new(input: &Input) -> Self {
        let conversion = match (&input.array, input.element) {
            (Array::Bytes(bytes), Element::Fp32) => {
                let table = |channel| std::array::from_fn(|byte| bytes.real(channel, byte as u8));
                let channels = input.shape.channels() as usize;
                Conversion::FloatTables((0..channels).map(table).collect())
            }
            (Array::Bytes(bytes), Element::Uint8(_)) => {
                Conversion::ByteTables(bytes.tables.as_chunks().0.to_vec())
            }
            (Array::Fp32, Element::Fp32) => Conversion::Float,
            (Array::Fp32, Element::Uint8(quantization)) => Conversion::Quantize(quantization),
        };
        let listed = input.order.iter().copied().eq(0..input.shape.axes() as u32);
        let walk = (!listed)
            .then(|| Walk::new(&input.shape, [input.shape.strides_of_array(&input.order)]));
        Self { name: input.name.clone(), conversion, shape: input.shape, walk }
    }

    /// Numbers of its arrays.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// Whether it takes bytes.
    pub fn takes_bytes(&self) -> bool {
        matches!(self.conversion, Conversion::FloatTables(_) | Conversion::ByteTables(_))
    }

    /// Checks that an array fits.
    pub fn check(&self, array: &Tensor) -> Result<(), InputError> {
        let (bytes, found) = match array {
            Tensor::Bytes(bytes) => (true, bytes.len()),
            Tensor::Fp32(numbers) => (false, numbers.len()),
        };
        if bytes != self.takes_bytes() {
            let expected = if self.takes_bytes() { "bytes" } else { "fp32" };
            return Err(InputError::WrongType { name: self.name.clone(), expected });
        }
        let expected = self.elements();
        if found != expected {
            return Err(InputError::WrongSize { name: self.name.clone(), expected, found });
        }
        Ok(())
    }

    /// Writes the value of an array, which fits.
    pub fn load(&self, array: &Tensor, value: &mut [u8]) {
        match (array, &self.conversion) {
            (Tensor::Bytes(array), Conversion::FloatTables(tables)) => {
                self.each(array, view_mut(value), |channel, byte| {
                    tables[channel][usize::from(byte)]
                });
            }
            (Tensor::Bytes(array), Conversion::ByteTables(tables)) => {
                self.each(array, value, |channel, byte| tables[channel][usize::from(byte)]);
            }
            (Tensor::Fp32(array), Conversion::Float) => {
                self.each(array, view_mut(value), |_, number| number);
            }
            (Tensor::Fp32(array), Conversion::Quantize(quantization)) => {
                self.each(array, value, |_, number| quantization.quantize(number));
            }
            (Tensor::Bytes(_), Conversion::Float | Conversion::Quantize(_))
            | (Tensor::Fp32(_), Conversion::FloatTables(_) | Conversion::ByteTables(_)) => {
                unreachable!("the array was checked")
            }
        }
    }

    #[inline(always)]
    fn each<S: Copy, T>(&self, array: &[S], value: &mut [T], convert: impl Fn(usize, S) -> T) {
        let channels = self.shape.channels() as usize;
        match &self.walk {
            None => {
                let planes = array.chunks_exact(self.shape.positions());
                for (channel, plane) in planes.enumerate() {
                    let numbers = value[channel..].iter_mut().step_by(channels);
                    for (number, &item) in numbers.zip(plane) {
                        *number = convert(channel, item);
                    }
                }
            }
            Some(walk) => {
                walk.run(|at, [from]| value[at] = convert(at % channels, array[from]));
            }
        }
    }
}

/// An output that is ready to be handed out.
pub(super) struct Unloader {
    element: Element,
    /// Over the value, with the places in the array.
    walk: Walk<1>,
}

impl Unloader {
    pub fn new(output: &Output, shape: &Shape, element: Element) -> Self {
        Self { element, walk: Walk::new(shape, [shape.strides_of_array(&output.order)]) }
    }

    /// Writes the array of a value.
    pub fn unload(&self, value: &[u8], array: &mut [f32]) {
        match self.element {
            Element::Fp32 => {
                let value = view::<f32>(value);
                self.walk.run(|at, [to]| array[to] = value[at]);
            }
            Element::Uint8(quantization) => {
                self.walk.run(|at, [to]| array[to] = quantization.dequantize(value[at]));
            }
        }
    }
}
