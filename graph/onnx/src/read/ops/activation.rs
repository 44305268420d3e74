//! Functions of each number by itself.

use edgesmith_graph::{
    Add, Binary, BinaryFunction, Clip, Function, LeakyRelu, Map, Multiply, Op, Prelu, Role,
};

use super::super::call::{Call, Outputs, Tensor, integers};
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::{Element, View};
use super::elementwise::align;

/// A function without settings.
pub(super) fn map(call: &Call, network: &mut Network, function: Function) -> Outputs {
    ops(call, network, [Map { function }.into()])
}

/// One function after the other.
fn ops(call: &Call, network: &mut Network, ops: impl IntoIterator<Item = Op>) -> Outputs {
    let view = call.floats(0, network)?;
    let mut ops: Vec<Op> = ops.into_iter().collect();
    let last = ops.pop().expect("at least one");
    let mut id = view.id;
    for op in ops {
        id = network.step("part", op, &[id], &[])?;
    }
    let id = network.emit(last, &[id], &[])?;
    Ok(vec![view.of(id).into()])
}

fn scale(factor: f32, offset: f32) -> Op {
    Map { function: Function::Scale { factor, offset } }.into()
}

pub(super) fn negate(call: &Call, network: &mut Network) -> Outputs {
    ops(call, network, [scale(-1.0, 0.0)])
}

pub(super) fn relu(call: &Call, network: &mut Network) -> Outputs {
    ops(call, network, [Clip::RELU.into()])
}

/// `Clip` with its bounds as attributes (before opset 11) or as inputs.
pub(super) fn clip(call: &Call, network: &mut Network) -> Outputs {
    let bound = |input: usize, name: &str, default: f32| match call.optional(input)? {
        Some(constant) => {
            let number = constant.scalar();
            number.ok_or_else(|| Fault::invalid("its bounds are not one number each"))
        }
        None => call.float(name, default),
    };
    let low = bound(1, "min", f32::NEG_INFINITY)?;
    let high = bound(2, "max", f32::INFINITY)?;
    // The bounds of files that know no infinity.
    let low = if low <= f32::MIN { f32::NEG_INFINITY } else { low };
    let high = if high >= f32::MAX { f32::INFINITY } else { high };
    if low == f32::NEG_INFINITY && high == f32::INFINITY {
        return Ok(vec![call.floats(0, network)?.into()]);
    }
    // Where they cross, the upper one holds.
    let low = low.min(high);
    ops(call, network, [Clip { low, high }.into()])
}

pub(super) fn leaky_relu(call: &Call, network: &mut Network) -> Outputs {
    let slope = call.float("alpha", 0.01)?;
    ops(call, network, [LeakyRelu { slope }.into()])
}

pub(super) fn elu(call: &Call, network: &mut Network) -> Outputs {
    let alpha = call.float("alpha", 1.0)?;
    map(call, network, Function::Elu { alpha })
}

pub(super) fn selu(call: &Call, network: &mut Network) -> Outputs {
    let alpha = call.float("alpha", 1.673_263_2)?;
    let gamma = call.float("gamma", 1.050_701)?;
    ops(call, network, [Map { function: Function::Elu { alpha } }.into(), scale(gamma, 0.0)])
}

pub(super) fn celu(call: &Call, network: &mut Network) -> Outputs {
    let alpha = call.float("alpha", 1.0)?;
    let elu = Map { function: Function::Elu { alpha: 1.0 } };
    ops(call, network, [scale(1.0 / alpha, 0.0), elu.into(), scale(alpha, 0.0)])
}

pub(super) fn hard_sigmoid(call: &Call, network: &mut Network) -> Outputs {
    let slope = call.float("alpha", 0.2)?;
    let offset = call.float("beta", 0.5)?;
    map(call, network, Function::HardSigmoid { slope, offset })
}

pub(super) fn gelu(call: &Call, network: &mut Network) -> Outputs {
    match call.text("approximate", "none")? {
        "tanh" => map(call, network, Function::GeluTanh),
        "none" => map(call, network, Function::Gelu),
        other => Err(Fault::unsupported(
            format!("its approximate is {other:?}"),
            "use approximate none or tanh",
        )),
    }
}

pub(super) fn reciprocal(call: &Call, network: &mut Network) -> Outputs {
    map(call, network, Function::Power { exponent: -1.0 })
}

/// `x / (1 + |x|)`
pub(super) fn softsign(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let absolute = Map { function: Function::Absolute };
    let divisor = network.step("absolute", absolute, &[view.id], &[])?;
    let divisor = network.step("divisor", scale(1.0, 1.0), &[divisor], &[])?;
    let divide = Binary { function: BinaryFunction::Divide };
    let id = network.emit(divide, &[view.id, divisor], &[])?;
    Ok(vec![view.of(id).into()])
}

/// `x * tanh(softplus(x))`
pub(super) fn mish(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let softplus = Map { function: Function::Softplus };
    let gate = network.step("softplus", softplus, &[view.id], &[])?;
    let gate = network.step("tanh", Map { function: Function::Tanh }, &[gate], &[])?;
    let id = network.emit(Multiply, &[view.id, gate], &[])?;
    Ok(vec![view.of(id).into()])
}

/// `x * sigmoid(alpha * x)`
pub(super) fn swish(call: &Call, network: &mut Network) -> Outputs {
    let alpha = call.float("alpha", 1.0)?;
    if alpha == 1.0 {
        return map(call, network, Function::Silu);
    }
    let view = call.floats(0, network)?;
    let gate = network.step("scaled", scale(alpha, 0.0), &[view.id], &[])?;
    let gate = network.step("gate", Map { function: Function::Sigmoid }, &[gate], &[])?;
    let id = network.emit(Multiply, &[view.id, gate], &[])?;
    Ok(vec![view.of(id).into()])
}

/// `x` where it is above a threshold, else 0.
pub(super) fn thresholded_relu(call: &Call, network: &mut Network) -> Outputs {
    let alpha = call.float("alpha", 1.0)?;
    let view = call.floats(0, network)?;
    let threshold = Tensor::constant(super::super::constant::Constant::floats(vec![], vec![alpha]));
    let (ids, _) = align(network, &[threshold, view.clone().into()])?;
    let less = Binary { function: BinaryFunction::Less };
    let above = network.step("above", less, &ids, &[])?;
    let id = network.emit(Multiply, &[view.id, above], &[])?;
    Ok(vec![view.of(id).into()])
}

/// 1, 0 or -1
pub(super) fn sign(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let zero = Tensor::constant(super::super::constant::Constant::floats(vec![], vec![0.0]));
    let (ids, _) = align(network, &[zero, view.clone().into()])?;
    let less = Binary { function: BinaryFunction::Less };
    let above = network.step("above", less, &ids, &[])?;
    let below = network.step("below", less, &[ids[1], ids[0]], &[])?;
    let subtract = Binary { function: BinaryFunction::Subtract };
    let id = network.emit(subtract, &[above, below], &[])?;
    Ok(vec![view.of(id).into()])
}

/// `PRelu`, with a slope for each channel or in another arrangement.
pub(super) fn prelu(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let slope = call.constant(1)?;
    if let Some(slope) = slope.uniform() {
        let id = network.emit(LeakyRelu { slope }, &[view.id], &[])?;
        return Ok(vec![view.of(id).into()]);
    }
    let wide: Vec<usize> = (0..slope.dims.len()).filter(|&axis| slope.dims[axis] > 1).collect();
    let new = view.rank().checked_sub(slope.dims.len());
    if let ([axis], Some(new)) = (&wide[..], new)
        && axis + new == 1
        && slope.dims[*axis] == view.size(1) as usize
    {
        let view = network.with_channels(&view, 1)?;
        let slope =
            network.parameter("slope", Role::Slope, &slope.reshaped(vec![slope.elements()]))?;
        let id = network.emit(Prelu, &[view.id], &[slope])?;
        return Ok(vec![view.of(id).into()]);
    }
    let below =
        network.step("below", Clip { low: f32::NEG_INFINITY, high: 0.0 }, &[view.id], &[])?;
    let above = network.step("above", Clip::RELU, &[view.id], &[])?;
    let (ids, template) = align(network, &[view.of(below).into(), Tensor::Constant(slope)])?;
    let sloped = network.step("sloped", Multiply, &ids, &[])?;
    let sloped = template.view(network, sloped);
    let (ids, template) = align(network, &[view.of(above).into(), sloped.into()])?;
    let id = network.emit(Add, &ids, &[])?;
    Ok(vec![template.view(network, id).into()])
}

pub(super) fn cast(call: &Call, network: &mut Network) -> Outputs {
    let view = call.view(0, network)?;
    let to = super::super::call::element(call.cast_to()?);
    let to = to.ok_or_else(|| Fault::unsupported("it makes text", "remove it from the network"))?;
    match (view.element, to) {
        (Element::Quantized, _) | (_, Element::Quantized) => Err(integers()),
        (_, Element::Float) | (Element::Bool | Element::Integer, Element::Integer) => {
            Ok(vec![view.with(to).into()])
        }
        (Element::Bool, Element::Bool) => Ok(vec![view.into()]),
        (Element::Float | Element::Integer, Element::Bool) => truth(&view, network),
        (Element::Float, Element::Integer) => Err(integers()),
    }
}

/// Whether each number is not 0.
fn truth(view: &View, network: &mut Network) -> Outputs {
    let zero = Tensor::constant(super::super::constant::Constant::floats(vec![], vec![0.0]));
    let (ids, _) = align(network, &[zero, view.clone().into()])?;
    let equal = Binary { function: BinaryFunction::Equal };
    let equal = network.step("zero", equal, &ids, &[])?;
    let id = network.emit(scale(-1.0, 1.0), &[equal], &[])?;
    Ok(vec![view.of(id).with(Element::Bool).into()])
}
