//! Reads a file of version 1: one picture, one network in fp32 or in integers, and one output. It
//! becomes a model that computes the same. Such files are not written any more.

use super::read::{Reader, malformed};
use crate::error::{FormatProblem, ModelError, Problem};
use crate::layers::{
    Activation, Conv, FloatConv, Function, IntAddTwice, IntConv, IntLinear, IntReduce, Layer,
    Linear, Map, Reduce, Table, WindowAxis,
};
use crate::layers::{Binary, BinaryFunction};
use crate::model::{
    Element, Input, InputSpec, Model, Node, Notes, Output, Quantization, Rounding, ValueId,
};

const INPUT: [u8; 4] = *b"INPT";
const FP32: [u8; 4] = *b"FP32";
const INT8: [u8; 4] = *b"INT8";

/// The kind of linear layers, whose output is the logits.
const LOGITS: u8 = 5;

/// Kind and number of inputs.
const MIN_NODE_BYTES: usize = 2;

/// Every value is a picture, or a vector as a picture of one position.
const AXES: usize = 3;

/// Reads all sections.
pub(super) fn read(mut file: Reader) -> Result<Model, ModelError> {
    let mut section = tagged(&mut file, &[INPUT])?.1;
    let image = InputSpec {
        channels: section.size()?,
        height: section.size()?,
        width: section.size()?,
        mean: section.floats()?,
        std: section.floats()?,
    };
    section.end()?;
    let (tag, mut section) = tagged(&mut file, &[FP32, INT8])?;
    let (element, nodes) = if tag == FP32 {
        (Element::Fp32, section.list(MIN_NODE_BYTES, float_node)?)
    } else {
        let input = Element::Uint8(section.quantization()?);
        (input, section.list(MIN_NODE_BYTES, int_node)?)
    };
    section.end()?;
    file.end()?;
    check_order(&nodes)?;
    let refused = |problem| ModelError::Input { name: "image".to_owned(), problem };
    let inputs = vec![Input::image(&image, element).map_err(refused)?];
    let logits = ValueId(nodes.len() as u32);
    let outputs = vec![Output::new("logits", logits, 1)];
    Ok(Model { inputs, nodes, outputs, rounding: Rounding::Twice, notes: Notes::default() })
}

/// The next section, which must have one of `tags`.
fn tagged<'a>(
    file: &mut Reader<'a>,
    tags: &[[u8; 4]],
) -> Result<([u8; 4], Reader<'a>), ModelError> {
    let offset = file.at();
    let (found, section) = file.section()?;
    if tags.contains(&found) {
        return Ok((found, section));
    }
    Err(malformed(offset, FormatProblem::WrongSection { expected: tags[0], found }))
}

/// Checks that the last layer is linear, and no other is.
fn check_order(nodes: &[Node]) -> Result<(), ModelError> {
    if nodes.is_empty() {
        return Err(ModelError::NoNodes);
    }
    for (index, Node { layer, .. }) in nodes.iter().enumerate() {
        let linear = matches!(layer, Layer::FloatLinear(_) | Layer::IntLinear(_));
        if linear != (index + 1 == nodes.len()) {
            let (kind, problem) = (layer.name(), Problem::LinearNotLast);
            return Err(ModelError::Node { node: index, kind, problem });
        }
    }
    Ok(())
}

/// Kind and inputs.
fn start(section: &mut Reader) -> Result<(usize, u8, Vec<ValueId>), ModelError> {
    let at = section.at();
    let code = section.byte()?;
    Ok((at, code, section.list(1, |reader| reader.size().map(ValueId))?))
}

fn unknown(at: usize, code: u8) -> ModelError {
    malformed(at, FormatProblem::UnknownCode { what: "layer", code })
}

fn float_node(section: &mut Reader) -> Result<Node, ModelError> {
    let (at, code, inputs) = start(section)?;
    let layer = match code {
        1 | 2 => {
            let conv = conv(section, code == 2, Reader::floats, Reader::floats)?;
            let activation = section.code("activation", |code| match code {
                0 => Some(Activation::Linear),
                1 => Some(Activation::Relu),
                2 => Some(Activation::Relu6),
                _ => None,
            })?;
            FloatConv { conv, activation }.into()
        }
        3 => Binary { function: BinaryFunction::Add }.into(),
        4 => Reduce::global_mean(AXES, true).into(),
        LOGITS => linear(section, Reader::floats, Reader::floats)?.into(),
        6 => Map { function: Function::LeakyRelu { slope: section.float()? } }.into(),
        _ => return Err(unknown(at, code)),
    };
    Ok(Node { inputs, layer, output: Element::Fp32 })
}

fn int_node(section: &mut Reader) -> Result<Node, ModelError> {
    let (at, code, inputs) = start(section)?;
    let layer = match code {
        1 | 2 => Layer::IntConv(IntConv {
            conv: conv(section, code == 2, Reader::int8s, Reader::int32s)?,
            weight_scale: Vec::new(),
            requantize: section.factors()?,
            clamp: section.clamp()?,
        }),
        3 => {
            let [left, right, output] = [section.factor()?, section.factor()?, section.factor()?];
            IntAddTwice { sides: [left, right], output, clamp: section.clamp()? }.into()
        }
        4 => {
            let requantize = section.factor()?;
            IntReduce { reduce: Reduce::global_mean(AXES, true), requantize }.into()
        }
        LOGITS => {
            let linear = linear(section, Reader::int8s, Reader::int32s)?;
            IntLinear { linear, logit_scale: section.floats()? }.into()
        }
        6 => {
            let function = Some(Function::LeakyRelu { slope: section.float()? });
            Table { function, tables: section.array::<256>()?.to_vec() }.into()
        }
        _ => return Err(unknown(at, code)),
    };
    let Quantization { scale, zero_point } = section.quantization()?;
    // The quantization of the logits means nothing.
    let output = if code == LOGITS {
        Element::Fp32
    } else {
        Element::Uint8(Quantization { scale, zero_point })
    };
    Ok(Node { inputs, layer, output })
}

/// A square convolution with the same padding on all sides. `weight` and `bias` read a list.
fn conv<'a, W, B>(
    file: &mut Reader<'a>,
    depthwise: bool,
    weight: fn(&mut Reader<'a>) -> Result<Vec<W>, ModelError>,
    bias: fn(&mut Reader<'a>) -> Result<Vec<B>, ModelError>,
) -> Result<Conv<W, B>, ModelError> {
    let at = file.at();
    let (in_channels, out_channels) = (file.size()?, file.size()?);
    let [kernel, stride, padding] = [file.size()?, file.size()?, file.size()?];
    if depthwise && in_channels != out_channels {
        return Err(malformed(at, FormatProblem::NotDepthwise { in_channels, out_channels }));
    }
    let groups = if depthwise { in_channels } else { 1 };
    let axes = vec![WindowAxis::new(kernel, stride, padding); 2];
    let (weight, bias) = (weight(file)?, bias(file)?);
    Ok(Conv { in_channels, out_channels, groups, axes, weight, bias })
}

/// `weight` and `bias` read a list.
fn linear<'a, W, B>(
    file: &mut Reader<'a>,
    weight: fn(&mut Reader<'a>) -> Result<Vec<W>, ModelError>,
    bias: fn(&mut Reader<'a>) -> Result<Vec<B>, ModelError>,
) -> Result<Linear<W, B>, ModelError> {
    let (in_features, out_features) = (file.size()?, file.size()?);
    Ok(Linear { in_features, out_features, weight: weight(file)?, bias: bias(file)? })
}
