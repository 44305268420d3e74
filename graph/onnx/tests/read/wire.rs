//! Just enough of the format to look into the files of ONNX's own tests and to change them.

use crate::support::Numbers;

/// Number and bytes of each field that has a length; others are skipped.
pub fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut fields = vec![];
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        match key & 7 {
            0 => drop(varint(&mut bytes)),
            1 => bytes = &bytes[8..],
            2 => {
                let (value, rest) = {
                    let length = varint(&mut bytes) as usize;
                    bytes.split_at(length)
                };
                fields.push((key >> 3, value));
                bytes = rest;
            }
            5 => bytes = &bytes[4..],
            other => panic!("wire type {other}"),
        }
    }
    fields
}

/// Number and value of each field that is an integer.
fn integers(mut bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut fields = vec![];
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        match key & 7 {
            0 => fields.push((key >> 3, varint(&mut bytes))),
            1 => bytes = &bytes[8..],
            2 => {
                let length = varint(&mut bytes) as usize;
                bytes = &bytes[length..];
            }
            _ => bytes = &bytes[4..],
        }
    }
    fields
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for place in 0.. {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// A field that has a length.
pub fn field(number: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    for mut part in [number << 3 | 2, value.len() as u64] {
        while part >= 0x80 {
            bytes.push(part as u8 | 0x80);
            part >>= 7;
        }
        bytes.push(part as u8);
    }
    bytes.extend(value);
    bytes
}

fn of<'a>(fields: &[(u64, &'a [u8])], number: u64) -> Vec<&'a [u8]> {
    fields.iter().filter(|(own, _)| *own == number).map(|(_, value)| *value).collect()
}

fn graph(model: &[u8]) -> &[u8] {
    of(&fields(model), 7)[0]
}

fn text(bytes: &[u8], number: u64) -> String {
    let name = of(&fields(bytes), number).first().copied().unwrap_or_default();
    String::from_utf8(name.to_vec()).unwrap()
}

/// The operators of a model's nodes, each once.
pub fn op_types(model: &[u8]) -> Vec<String> {
    let mut kinds: Vec<String> =
        of(&fields(graph(model)), 1).iter().map(|node| text(node, 4)).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// The names of a model's inputs.
pub fn graph_inputs(model: &[u8]) -> Vec<String> {
    of(&fields(graph(model)), 11).iter().map(|info| text(info, 1)).collect()
}

/// How many outputs a model has.
pub fn graph_outputs(model: &[u8]) -> usize {
    of(&fields(graph(model)), 12).len()
}

/// The model with this tensor as the constant of an input, if that is a tensor.
pub fn bind(model: &[u8], name: &str, tensor: &[u8]) -> Option<Vec<u8>> {
    // The last name and type of a message count. Some cases have the bits of another type.
    let input = of(&fields(graph(model)), 11).into_iter().find(|info| text(info, 1) == name);
    let r#type = of(&fields(input.unwrap()), 2)[0];
    let tensor_type = integers(of(&fields(r#type), 1).first()?);
    let element = tensor_type.iter().find(|(number, _)| *number == 1);
    let element = element.map_or(0, |(_, element)| *element as u8);
    let named = [tensor, &field(8, name.as_bytes()), &[0x10, element]].concat();
    let addition = field(5, &named);
    let grown = [graph(model), &addition].concat();
    // Messages of a field that is there twice would be merged; here the last one counts.
    let rest: Vec<u8> = fields(model)
        .into_iter()
        .filter(|(number, _)| *number != 7)
        .flat_map(|(number, value)| field(number, value))
        .collect();
    Some([rest, field(7, &grown)].concat())
}

/// The numbers of a tensor, if they are real numbers, truths or integers that are exact as such.
pub fn tensor(bytes: &[u8]) -> Option<Numbers> {
    let (fields, integers) = (fields(bytes), integers(bytes));
    let mut dims: Vec<usize> =
        integers.iter().filter(|(number, _)| *number == 1).map(|(_, dim)| *dim as usize).collect();
    for mut packed in of(&fields, 1) {
        while !packed.is_empty() {
            dims.push(varint(&mut packed) as usize);
        }
    }
    let data_type = integers.iter().find(|(number, _)| *number == 2)?.1;
    let raw = of(&fields, 9).first().copied().unwrap_or_default();
    let data: Vec<f32> = match data_type {
        1 => raw.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        2 => raw.iter().map(|&b| b.into()).collect(),
        3 => raw.iter().map(|&b| b.cast_signed().into()).collect(),
        6 => {
            raw.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()) as f32).collect()
        }
        7 => {
            raw.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32).collect()
        }
        9 => raw.iter().map(|&b| f32::from(b != 0)).collect(),
        11 => {
            raw.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()) as f32).collect()
        }
        _ => return None,
    };
    // Numbers in fields of their own type are not looked at.
    // What is no tensor may seem to have any sizes.
    let count = dims.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim));
    (count == Some(data.len())).then_some(Numbers { dims, data })
}
