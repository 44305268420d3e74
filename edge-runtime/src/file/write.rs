//! Writes the sections of a model file.

use super::{FP32_SECTION, INPUT_SECTION, INT8_SECTION};
use crate::layers::{AnyLayer, Node};
use crate::model::{InputSpec, Model, Network, Quantization, Requantization};

/// Appends all sections.
pub(super) fn sections(model: &Model, out: &mut Vec<u8>) {
    section(INPUT_SECTION, out, |section| input(&model.input, section));
    match &model.network {
        Network::Fp32(nodes) => section(FP32_SECTION, out, |section| section.list(nodes, node)),
        Network::Int8 { input, nodes } => section(INT8_SECTION, out, |section| {
            section.quantization(*input);
            section.list(nodes, |section, int_node| {
                node(section, int_node);
                section.quantization(int_node.output);
            });
        }),
    }
}

fn section(tag: [u8; 4], out: &mut Vec<u8>, write: impl FnOnce(&mut Writer)) {
    let mut body = Writer { bytes: Vec::new() };
    write(&mut body);
    let mut length = Writer { bytes: Vec::new() };
    length.number(body.bytes.len() as u64);
    out.extend_from_slice(&tag);
    out.append(&mut length.bytes);
    out.append(&mut body.bytes);
}

fn input(input: &InputSpec, section: &mut Writer) {
    for size in [input.channels, input.height, input.width] {
        section.size(size);
    }
    section.floats(&input.mean);
    section.floats(&input.std);
}

/// What nodes in fp32 and in integers have in common.
fn node<N: Node>(section: &mut Writer, node: &N) {
    section.byte(node.layer().kind().code);
    section.list(node.inputs(), |section, value| section.size(value.0));
    node.layer().write(section);
}

/// Appends fields as [`Reader`](super::Reader) reads them.
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn size(&mut self, size: u32) {
        self.number(u64::from(size));
    }

    pub fn floats(&mut self, values: &[f32]) {
        self.list(values, |writer, &value| writer.float(value));
    }

    pub fn int32s(&mut self, values: &[i32]) {
        self.list(values, |writer, value| writer.array(&value.to_le_bytes()));
    }

    pub fn int8s(&mut self, values: &[i8]) {
        self.list(values, |writer, value| writer.byte(value.cast_unsigned()));
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

    fn quantization(&mut self, quantization: Quantization) {
        self.float(quantization.scale);
        self.byte(quantization.zero_point);
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
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
