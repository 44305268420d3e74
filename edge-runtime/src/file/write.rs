//! Writes fields of a model file.

use super::packed::{self, PACKED, Packing};
use super::{Number, StoredTensor};
use crate::model::{Element, Quantization, Requantization};

/// Appends a section.
pub(super) fn section(tag: [u8; 4], out: &mut Vec<u8>, write: impl FnOnce(&mut Writer)) {
    let mut body = Writer::new();
    write(&mut body);
    let mut length = Writer::new();
    length.number(body.bytes.len() as u64);
    out.extend_from_slice(&tag);
    out.append(&mut length.bytes);
    out.append(&mut body.bytes);
}

/// Appends fields as [`Reader`](super::Reader) reads them.
pub(crate) struct Writer {
    bytes: Vec<u8>,
    /// The weights among the tensors so far.
    weights: Vec<StoredTensor>,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), weights: Vec::new() }
    }

    /// What was written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How the weights that were written are stored.
    pub(super) fn into_weights(self) -> Vec<StoredTensor> {
        self.weights
    }

    pub fn size(&mut self, size: u32) {
        self.number(u64::from(size));
    }

    pub fn floats(&mut self, values: &[f32]) {
        self.list(values, |writer, &value| writer.float(value));
    }

    /// Bytes with their count.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// UTF-8 with its count of bytes.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub fn factors(&mut self, factors: &[Requantization]) {
        self.list(factors, |writer, &factor| writer.factor(factor));
    }

    pub fn factor(&mut self, factor: Requantization) {
        self.array(&factor.multiplier.to_le_bytes());
        // Zigzag encoding: small shifts of either sign take one byte.
        let zigzag = (factor.shift << 1) ^ (factor.shift >> 31);
        self.size(zigzag.cast_unsigned());
    }

    pub fn clamp(&mut self, (low, high): (u8, u8)) {
        self.array(&[low, high]);
    }

    pub fn float(&mut self, value: f32) {
        self.array(&value.to_le_bytes());
    }

    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// The bytes without a count.
    pub fn array<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes of a whole section.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A tensor; `scales` are those of the places along the first axis, or empty. Numbers with more
    /// than one axis are packed if that takes fewer bytes.
    pub fn tensor<T: Number>(&mut self, sizes: &[u32], values: &[T], scales: &[f32]) {
        let begin = self.bytes.len();
        let packed = if sizes.len() > 1 { packed::pack(values) } else { None };
        self.byte(if packed.is_some() { T::CODE | PACKED } else { T::CODE });
        self.list(sizes, |writer, &size| writer.size(size));
        if scales.is_empty() {
            self.byte(0);
        } else {
            self.array(&[1, 0]);
            self.floats(scales);
        }
        match &packed {
            Some((packing, bytes)) => packed::write(*packing, bytes, self),
            None => values.iter().for_each(|&value| value.write(&mut self.bytes)),
        }
        if sizes.len() > 1 {
            let packing = packed.map(|(packing, _): (Packing, _)| packing);
            self.weights.push(StoredTensor {
                numbers: values.len() as u64,
                zeros: values.iter().filter(|value| value.pattern() == 0).count() as u64,
                bytes: (self.bytes.len() - begin) as u64,
                packing,
            });
        }
    }

    pub(super) fn element(&mut self, element: Element) {
        match element {
            Element::Fp32 => self.byte(0),
            Element::Uint8(Quantization { scale, zero_point }) => {
                self.byte(1);
                self.float(scale);
                self.byte(zero_point);
            }
        }
    }

    pub fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }

    /// LEB128: seven bits per byte, lowest first; the top bit says that more bytes follow.
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }
}
