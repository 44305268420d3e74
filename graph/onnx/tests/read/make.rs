//! Small ONNX files, made from parts.

use crate::support::Numbers;
use crate::wire::field;

/// A file in the making.
#[derive(Default)]
pub struct File {
    graph: Vec<u8>,
    opset: u8,
    rest: Vec<u8>,
}

/// A setting of a node.
pub enum Setting<'a> {
    Int(i64),
    Float(f32),
    Text(&'a str),
    Ints(&'a [i64]),
}

fn integer(number: u8, value: i64) -> Vec<u8> {
    let mut bytes = vec![number << 3];
    let mut value = value.cast_unsigned();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

impl File {
    pub fn new(opset: u8) -> Self {
        Self { opset, ..Self::default() }
    }

    /// An input of real numbers; a size of 0 is a free one.
    #[must_use]
    pub fn input(self, name: &str, dims: &[i64]) -> Self {
        self.info(11, name, dims)
    }

    #[must_use]
    pub fn output(self, name: &str) -> Self {
        self.info(12, name, &[])
    }

    fn info(mut self, number: u64, name: &str, dims: &[i64]) -> Self {
        let size = |&dim: &i64| {
            let value = if dim == 0 { field(2, b"n") } else { integer(1, dim) };
            field(1, &value)
        };
        let shape: Vec<u8> = dims.iter().flat_map(size).collect();
        let tensor = [integer(1, 1), field(2, &shape)].concat();
        let info = [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat();
        self.graph.extend(field(number, &info));
        self
    }

    #[must_use]
    pub fn floats(self, name: &str, dims: &[i64], numbers: &[f32]) -> Self {
        let raw: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, dims, 1, &raw)
    }

    #[must_use]
    pub fn ints(self, name: &str, dims: &[i64], numbers: &[i64]) -> Self {
        let raw: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, dims, 7, &raw)
    }

    #[must_use]
    pub fn tensor(mut self, name: &str, dims: &[i64], data_type: i64, raw: &[u8]) -> Self {
        let dims = dims.iter().flat_map(|&dim| integer(1, dim));
        let mut tensor: Vec<u8> = dims.chain(integer(2, data_type)).collect();
        tensor.extend([field(8, name.as_bytes()), field(9, raw)].concat());
        self.graph.extend(field(5, &tensor));
        self
    }

    /// A constant with these fields.
    #[must_use]
    pub fn constant(mut self, tensor: &[u8]) -> Self {
        self.graph.extend(field(5, tensor));
        self
    }

    #[must_use]
    pub fn node(
        mut self,
        op_type: &str,
        inputs: &[&str],
        outputs: &[&str],
        settings: &[(&str, Setting<'_>)],
    ) -> Self {
        let mut node = vec![];
        inputs.iter().for_each(|input| node.extend(field(1, input.as_bytes())));
        outputs.iter().for_each(|output| node.extend(field(2, output.as_bytes())));
        node.extend(field(4, op_type.as_bytes()));
        for (name, setting) in settings {
            let value = match setting {
                Setting::Int(value) => [integer(3, *value), vec![0xa0, 1, 2]].concat(),
                Setting::Float(value) => {
                    [vec![0x15], value.to_le_bytes().to_vec(), vec![0xa0, 1, 1]].concat()
                }
                Setting::Text(text) => [field(4, text.as_bytes()), vec![0xa0, 1, 3]].concat(),
                Setting::Ints(ints) => {
                    let ints: Vec<u8> = ints.iter().flat_map(|&int| integer(8, int)).collect();
                    [ints, vec![0xa0, 1, 7]].concat()
                }
            };
            node.extend(field(5, &[field(1, name.as_bytes()), value].concat()));
        }
        self.graph.extend(field(1, &node));
        self
    }

    /// A call of a function of the model, whose domain is `own`.
    #[must_use]
    pub fn own_node(mut self, name: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        let mut node = vec![];
        inputs.iter().for_each(|input| node.extend(field(1, input.as_bytes())));
        outputs.iter().for_each(|output| node.extend(field(2, output.as_bytes())));
        node.extend([field(4, name.as_bytes()), field(7, b"own")].concat());
        self.graph.extend(field(1, &node));
        self
    }

    /// Any field of the model.
    #[must_use]
    pub fn model_field(mut self, bytes: &[u8]) -> Self {
        self.rest.extend(bytes);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let opset = field(8, &integer(2, self.opset.into()));
        [integer(1, 8), opset, field(7, &self.graph), self.rest.clone()].concat()
    }
}

/// Numbers that are all different and of either sign.
pub fn numbers(dims: &[usize], seed: u32) -> Numbers {
    let count = dims.iter().product::<usize>() as u32;
    let number = |i: u32| {
        let mixed = (i + 1).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503));
        f32::from((mixed >> 16) as u16) / 32_768.0 - 1.0
    };
    Numbers { dims: dims.to_vec(), data: (0..count).map(number).collect() }
}
