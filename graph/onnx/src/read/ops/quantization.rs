//! QuantizeLinear and DequantizeLinear. A network with such pairs is read as the network of real
//! numbers that it stands for; the scales are kept beside it.

use std::rc::Rc;

use edgesmith_graph::Clip;

use super::super::call::{Call, Outputs, Tensor, axis, integers};
use super::super::constant::{Constant, Size, types};
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::{Element, View};

/// `real = (integer - zero) * scale`, along an axis or as a whole.
struct Levels {
    scales: Rc<Vec<f32>>,
    zeros: Vec<i64>,
    axis: Option<usize>,
    /// Whether integers are bytes without a sign; `None` if that is not known.
    unsigned: Option<bool>,
}

impl Levels {
    fn of(call: &Call, sizes: &[Size]) -> Result<Self, Fault> {
        let scales = call.constant(1)?;
        let zero = call.optional(2)?;
        // Without a zero point, a QuantizeLinear names the type, and a DequantizeLinear takes any.
        let quantizes = call.node.op_type == "QuantizeLinear";
        let data_type = match &zero {
            Some(zero) => Some(zero.data_type),
            None if quantizes => Some(match call.int("output_dtype", 0)? {
                0 => types::UINT8,
                named => named,
            }),
            None => None,
        };
        let wide = data_type
            .is_some_and(|t| ![types::UINT8, types::INT8, types::INT32, 4, 5].contains(&t));
        if wide || call.int("block_size", 0)? != 0 {
            return Err(Fault::unsupported(
                "its integers are not whole tensors of 8, 16 or 32 bits",
                "quantize the network with int8 or uint8",
            ));
        }
        let zeros = match zero {
            Some(zero) => zero.to_ints()?,
            None => vec![0; scales.elements()],
        };
        let axis = match scales.elements() {
            0 => return Err(Fault::invalid("it has no scale")),
            1 => None,
            each => {
                let axis = axis(call.int("axis", 1)?, sizes.len())?;
                if sizes[axis] != Size::known(each as i64) {
                    let size = sizes[axis];
                    let problem = format!("it has {each} scales for an axis of size {size}");
                    return Err(Fault::invalid(problem));
                }
                Some(axis)
            }
        };
        let unsigned = match data_type {
            Some(types::UINT8) => Some(true),
            Some(types::INT8) => Some(false),
            Some(_) | None => None,
        };
        let scales = scales.to_floats()?;
        if zeros.len() != scales.len() {
            return Err(Fault::invalid("its scales and zero points are not as many"));
        }
        Ok(Self { scales, zeros, axis, unsigned })
    }

    /// Which entry belongs to each number of a tensor.
    fn entry(&self, dims: &[usize]) -> impl Fn(usize) -> usize + use<> {
        let (size, inner) = match self.axis {
            Some(axis) => (dims[axis], dims[axis + 1..].iter().product::<usize>()),
            None => (1, 1),
        };
        move |place: usize| place / inner % size
    }
}

pub(super) fn quantize(call: &Call, network: &mut Network) -> Outputs {
    let input = call.input(0)?.clone();
    let levels = Levels::of(call, &input.sizes())?;
    match input {
        Tensor::View(view) => {
            if view.element != Element::Float {
                return Err(integers());
            }
            let view = rectified(&levels, view, network)?;
            note(&levels, &view, network);
            Ok(vec![view.with(Element::Quantized).into()])
        }
        Tensor::Constant(constant) => {
            let entry = levels.entry(&constant.dims);
            let (low, high) = match levels.unsigned {
                Some(true) => (0.0, 255.0),
                Some(false) => (-128.0, 127.0),
                None => (f32::MIN, f32::MAX),
            };
            let integer = |(place, &x): (usize, &f32)| {
                let entry = entry(place);
                let level = (x / levels.scales[entry]).round_ties_even();
                (level + levels.zeros[entry] as f32).clamp(low, high) as i64
            };
            let integers = constant.to_floats()?.iter().enumerate().map(integer).collect();
            let integers = Constant::ints(constant.dims.clone(), integers);
            Ok(vec![Tensor::constant(Constant { origin: constant.origin.clone(), ..integers })])
        }
        Tensor::Unknown => Ok(vec![Tensor::Unknown]),
    }
}

pub(super) fn dequantize(call: &Call, network: &mut Network) -> Outputs {
    let input = call.input(0)?.clone();
    let levels = Levels::of(call, &input.sizes())?;
    match input {
        Tensor::View(view) if view.element != Element::Quantized => Err(Fault::unsupported(
            "it reads integers that no QuantizeLinear made",
            "export the network with an input of real numbers",
        )),
        Tensor::View(view) => {
            note(&levels, &view, network);
            Ok(vec![view.with(Element::Float).into()])
        }
        Tensor::Constant(constant) => {
            let entry = levels.entry(&constant.dims);
            let real = |(place, &x): (usize, &i64)| {
                let entry = entry(place);
                x.saturating_sub(levels.zeros[entry]) as f32 * levels.scales[entry]
            };
            let numbers = constant.to_ints()?.iter().enumerate().map(real).collect();
            let mut real = Constant::floats(constant.dims.clone(), numbers);
            real.origin = constant.origin.clone();
            // They are kept for signed bytes; biases, which are wider, follow from the others.
            let signed = constant.data_type == types::INT8;
            if signed && levels.zeros.iter().all(|&zero| zero == 0) {
                real.scales = Some(Rc::new((levels.scales.to_vec(), levels.axis)));
            }
            Ok(vec![Tensor::constant(real)])
        }
        Tensor::Unknown => Ok(vec![Tensor::Unknown]),
    }
}

/// Quantizers leave out a rectifier whose result has no level below 0 anyway. The network of real
/// numbers needs it.
fn rectified(levels: &Levels, view: View, network: &mut Network) -> Result<View, Fault> {
    let lowest = match levels.unsigned {
        Some(true) => 0,
        Some(false) => -128,
        None => return Ok(view),
    };
    let from_zero = levels.zeros.iter().all(|&zero| zero == lowest);
    if !from_zero || network.is_input(view.id) || network.is_above_zero(view.id) {
        return Ok(view);
    }
    // Levels that end at 6 are those after a ReLU6.
    let six = levels.scales.iter().all(|&scale| (scale * 255.0 - 6.0).abs() < 1e-3);
    let clip = if six { Clip::RELU6 } else { Clip::RELU };
    let id = network.emit(clip, &[view.id], &[])?;
    Ok(view.of(id))
}

/// Keeps the scale of a value. It has none if its readers quantize it with different ones.
fn note(levels: &Levels, view: &View, network: &mut Network) {
    let ([scale], [zero], Some(unsigned)) =
        (&levels.scales[..], &levels.zeros[..], levels.unsigned)
    else {
        return;
    };
    // A signed byte has the same meaning 128 levels further up.
    let zero = if unsigned { *zero } else { zero.saturating_add(128) };
    if let (Ok(zero), true) = (u8::try_from(zero), *scale > 0.0 && scale.is_finite()) {
        let name = network.name(view.id).to_owned();
        let own = Some((*scale, zero));
        let kept = network.value_scales.entry(name).or_insert(own);
        if *kept != own {
            *kept = None;
        }
    }
}
