//! Writes the sections of a model file.

use super::{FP32_SECTION, INPUT_SECTION, INT8_SECTION, code};
use crate::model::{
    Activation, Conv, FloatLayer, FloatNode, InputSpec, IntLayer, IntNode, Linear, Model, Network,
    Quantization, Requantization, ValueId,
};

pub(super) fn sections(model: &Model, out: &mut Vec<u8>) {
    section(INPUT_SECTION, out, |out| input(&model.input, out));
    match &model.network {
        Network::Fp32(nodes) => section(FP32_SECTION, out, |out| {
            list(nodes, out, float_node);
        }),
        Network::Int8 { input, nodes } => section(INT8_SECTION, out, |out| {
            quantization(*input, out);
            list(nodes, out, int_node);
        }),
    }
}

fn section(tag: [u8; 4], out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write(&mut body);
    out.extend_from_slice(&tag);
    number(body.len() as u64, out);
    out.append(&mut body);
}

fn input(input: &InputSpec, out: &mut Vec<u8>) {
    for size in [input.channels, input.height, input.width] {
        number(u64::from(size), out);
    }
    list(&input.mean, out, float);
    list(&input.std, out, float);
}

fn float_node(node: &FloatNode, out: &mut Vec<u8>) {
    match &node.layer {
        FloatLayer::Conv(layer, activation) => {
            head(code::CONV, &node.inputs, out);
            conv(layer, out, float, float);
            out.push(activation_code(*activation));
        }
        FloatLayer::Depthwise(layer, activation) => {
            head(code::DEPTHWISE, &node.inputs, out);
            conv(layer, out, float, float);
            out.push(activation_code(*activation));
        }
        FloatLayer::Add => head(code::ADD, &node.inputs, out),
        FloatLayer::GlobalAveragePool => head(code::GLOBAL_AVERAGE_POOL, &node.inputs, out),
        FloatLayer::Linear(layer) => {
            head(code::LINEAR, &node.inputs, out);
            linear(layer, out, float, float);
        }
    }
}

fn int_node(node: &IntNode, out: &mut Vec<u8>) {
    match &node.layer {
        IntLayer::Conv { conv: layer, requantize, clamp } => {
            head(code::CONV, &node.inputs, out);
            conv(layer, out, int8, int32);
            list(requantize, out, requantization);
            out.extend_from_slice(&[clamp.0, clamp.1]);
        }
        IntLayer::Depthwise { conv: layer, requantize, clamp } => {
            head(code::DEPTHWISE, &node.inputs, out);
            conv(layer, out, int8, int32);
            list(requantize, out, requantization);
            out.extend_from_slice(&[clamp.0, clamp.1]);
        }
        IntLayer::Add { sides, output, clamp } => {
            head(code::ADD, &node.inputs, out);
            for factor in sides.iter().chain([output]) {
                requantization(factor, out);
            }
            out.extend_from_slice(&[clamp.0, clamp.1]);
        }
        IntLayer::GlobalAveragePool { requantize } => {
            head(code::GLOBAL_AVERAGE_POOL, &node.inputs, out);
            requantization(requantize, out);
        }
        IntLayer::Linear { linear: layer, logit_scale } => {
            head(code::LINEAR, &node.inputs, out);
            linear(layer, out, int8, int32);
            list(logit_scale, out, float);
        }
    }
    quantization(node.output, out);
}

fn head(kind: u8, inputs: &[ValueId], out: &mut Vec<u8>) {
    out.push(kind);
    list(inputs, out, |value, out| number(u64::from(value.0), out));
}

fn conv<W, B>(
    conv: &Conv<W, B>,
    out: &mut Vec<u8>,
    weight: impl Fn(&W, &mut Vec<u8>),
    bias: impl Fn(&B, &mut Vec<u8>),
) {
    let Conv { in_channels, out_channels, kernel, stride, padding, .. } = *conv;
    for size in [in_channels, out_channels, kernel, stride, padding] {
        number(u64::from(size), out);
    }
    list(&conv.weight, out, weight);
    list(&conv.bias, out, bias);
}

fn linear<W, B>(
    linear: &Linear<W, B>,
    out: &mut Vec<u8>,
    weight: impl Fn(&W, &mut Vec<u8>),
    bias: impl Fn(&B, &mut Vec<u8>),
) {
    number(u64::from(linear.in_features), out);
    number(u64::from(linear.out_features), out);
    list(&linear.weight, out, weight);
    list(&linear.bias, out, bias);
}

fn activation_code(activation: Activation) -> u8 {
    match activation {
        Activation::Linear => code::ACTIVATION_LINEAR,
        Activation::Relu => code::ACTIVATION_RELU,
        Activation::Relu6 => code::ACTIVATION_RELU6,
    }
}

fn quantization(quantization: Quantization, out: &mut Vec<u8>) {
    float(&quantization.scale, out);
    out.push(quantization.zero_point);
}

fn requantization(factor: &Requantization, out: &mut Vec<u8>) {
    int32(&factor.multiplier, out);
    // Zigzag encoding: small shifts of either sign take one byte.
    let zigzag = (factor.shift << 1) ^ (factor.shift >> 31);
    number(u64::from(zigzag.cast_unsigned()), out);
}

fn list<T>(items: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    number(items.len() as u64, out);
    for item in items {
        write(item, out);
    }
}

/// LEB128: seven bits per byte, lowest first; the top bit says that more bytes follow.
fn number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn float(value: &f32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn int8(value: &i8, out: &mut Vec<u8>) {
    out.push(value.cast_unsigned());
}

fn int32(value: &i32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}
