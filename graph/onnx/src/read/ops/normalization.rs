//! Normalisations and softmax.

use std::rc::Rc;

use edgesmith_graph::{
    Add, AveragePool, BatchNormalization, Binary, BinaryFunction, Clip, Function,
    LayerNormalization, Map, Multiply, ReduceFunction, Role, Softmax, WindowAxis,
};
use smallvec::SmallVec;

use super::super::call::{Call, Outputs, Tensor, axes, axis, count};
use super::super::constant::{Constant, Size};
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::View;
use super::elementwise::align;
use super::reduction;
use super::shape::reshaped;

pub(super) fn batch_normalization(call: &Call, network: &mut Network) -> Outputs {
    let trains = call.int("training_mode", 0)? != 0 || call.int("is_test", 1)? == 0;
    if trains || call.int("spatial", 1)? == 0 {
        return Err(Fault::unsupported(
            "it normalises with the statistics of the batch, as in training, or at each position",
            "export the network in evaluation mode",
        ));
    }
    let view = call.floats(0, network)?;
    if view.rank() < 2 {
        return Err(Fault::invalid("its input has no channels"));
    }
    let channels = view.size(1) as usize;
    let view = network.with_channels(&view, 1)?;
    let epsilon = call.float("epsilon", 1e-5)?;
    let mut parameters = vec![];
    let roles = [Role::Scale, Role::Shift, Role::Mean, Role::Variance];
    for (input, (role, part)) in
        roles.into_iter().zip(["scale", "shift", "mean", "variance"]).enumerate()
    {
        let constant = call.constant(input + 1)?;
        if constant.elements() != channels {
            let dims = &constant.dims;
            return Err(Fault::invalid(format!(
                "its {part} has the shape {dims:?} for {channels} channels"
            )));
        }
        parameters.push(network.parameter(part, role, &constant.reshaped(vec![channels]))?);
    }
    let id = network.emit(BatchNormalization { epsilon }, &[view.id], &parameters)?;
    Ok(vec![view.of(id).into()])
}

pub(super) fn layer_normalization(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let first = axis(call.int("axis", -1)?, view.rank())?;
    let over: Vec<usize> = (first..view.rank()).collect();
    let scale = call.optional(1)?;
    let shift = call.optional(2)?;
    let epsilon = call.float("epsilon", 1e-5)?;
    let mut outputs = normalized(network, &view, &over, epsilon, scale, shift)?;
    if call.node.outputs.iter().skip(1).any(|name| !name.is_empty()) {
        outputs.extend(statistics(network, &view, &over, epsilon)?);
    }
    Ok(outputs)
}

/// The mean, and the inverse of the deviation.
fn statistics(network: &mut Network, view: &View, over: &[usize], epsilon: f32) -> Outputs {
    let mean = reduction::reduced(network, view, ReduceFunction::Mean, over)?;
    let (ids, template) = align(network, &[view.clone().into(), mean.clone().into()])?;
    let subtract = Binary { function: BinaryFunction::Subtract };
    let difference = network.step("difference", subtract, &ids, &[])?;
    let square = network.step("square", Multiply, &[difference; 2], &[])?;
    let square = template.view(network, square);
    let variance = reduction::reduced(network, &square, ReduceFunction::Mean, over)?;
    let above = Map { function: Function::Scale { factor: 1.0, offset: epsilon } };
    let id = network.step("variance", above, &[variance.id], &[])?;
    let inverse = Map { function: Function::Power { exponent: -0.5 } };
    let id = network.step("inverse", inverse, &[id], &[])?;
    Ok(vec![mean.into(), variance.of(id).into()])
}

/// Over some axes of each example, with factors and offsets in the shape of these axes.
fn normalized(
    network: &mut Network,
    view: &View,
    over: &[usize],
    epsilon: f32,
    scale: Option<Rc<Constant>>,
    shift: Option<Rc<Constant>>,
) -> Outputs {
    if over.iter().any(|&axis| view.axes[axis].batch.is_some()) {
        return Err(Fault::batch("it normalises along the batch"));
    }
    let mut view = network.tidy(view)?;
    if over.iter().all(|&axis| view.axes[axis].parts.is_empty()) {
        view = network.along(&view, over[0])?.0;
    }
    let layout = view.layout().expect("it is tidy");
    let dims: Vec<usize> = over.iter().map(|&axis| view.size(axis) as usize).collect();
    let mut along: SmallVec<[u32; 3]> = SmallVec::new();
    let mut order = vec![];
    for (place, of) in layout.iter().enumerate() {
        if let Some(at) = of.and_then(|of| over.iter().position(|&axis| axis == of)) {
            along.push(place as u32);
            order.push(at);
        }
    }
    let sizes: Vec<usize> = order.iter().map(|&at| dims[at]).collect();
    let rest = (0..dims.len()).filter(|at| !order.contains(at));
    let whole: Vec<usize> = order.iter().copied().chain(rest).collect();
    let in_order = |constant: &Constant| -> Result<Constant, Fault> {
        let constant = constant.broadcast(&dims);
        let constant =
            constant.ok_or_else(|| Fault::invalid("its scale or bias does not fit its axes"))?;
        Ok(constant.transposed(&whole).reshaped(sizes.clone()))
    };
    let mut parameters = vec![];
    if scale.is_some() || shift.is_some() {
        let ones = || Rc::new(Constant::floats(vec![], vec![1.0]));
        let scale = in_order(&scale.unwrap_or_else(ones))?;
        parameters.push(network.parameter("scale", Role::Scale, &scale)?);
    }
    if let Some(shift) = shift {
        parameters.push(network.parameter("shift", Role::Shift, &in_order(&shift)?)?);
    }
    let op = LayerNormalization { axes: along, epsilon };
    let id = network.emit(op, &[view.id], &parameters)?;
    Ok(vec![view.of(id).into()])
}

pub(super) fn instance_normalization(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let (scale, shift) = (call.constant(1)?, call.constant(2)?);
    if view.rank() < 3 {
        return Err(Fault::invalid("its input has no axes of positions"));
    }
    let over: Vec<usize> = (2..view.rank()).collect();
    let view = network.with_channels(&view, 1)?;
    let epsilon = call.float("epsilon", 1e-5)?;
    let normal = normalized(network, &view, &over, epsilon, None, None)?[0].to_view(network)?;
    scaled(network, &normal, &scale, &shift)
}

pub(super) fn group_normalization(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let (scale, shift) = (call.constant(1)?, call.constant(2)?);
    let groups = i64::from(count(call.int("num_groups", 0)?, "num_groups")?);
    let sizes = view.sizes();
    if sizes.len() < 2 || groups == 0 || sizes[1].known % groups != 0 {
        return Err(Fault::invalid(format!("its {groups} groups do not divide its channels")));
    }
    let channels = sizes[1].known as usize;
    let rest = sizes[1..].iter().map(|size| size.known).product::<i64>() / groups;
    let grouped = [sizes[0], Size::known(groups), Size::known(rest)];
    let grouped = reshaped(network, &view, &grouped)?;
    let epsilon = call.float("epsilon", 1e-5)?;
    let normal = normalized(network, &grouped, &[2], epsilon, None, None)?[0].to_view(network)?;
    let normal = reshaped(network, &normal, &sizes)?;
    // Before opset 21 there is a factor for each group.
    let spread = |constant: &Constant| -> Result<Constant, Fault> {
        let each = channels / constant.elements().max(1);
        if constant.elements() * each != channels {
            return Err(Fault::invalid("its scale or bias does not fit its channels"));
        }
        let places: Vec<usize> = (0..channels).map(|channel| channel / each).collect();
        Ok(constant.reshaped(vec![constant.elements()]).pick(vec![channels], &places))
    };
    scaled(network, &normal, &spread(&scale)?, &spread(&shift)?)
}

/// A factor and an offset for each channel.
fn scaled(network: &mut Network, view: &View, scale: &Constant, shift: &Constant) -> Outputs {
    let mut dims = vec![scale.elements()];
    dims.resize(view.rank() - 1, 1);
    if scale.elements() != view.size(1) as usize || shift.elements() != scale.elements() {
        return Err(Fault::invalid("its scale or bias does not fit its channels"));
    }
    let [scale, shift] = [scale, shift].map(|c| Tensor::constant(c.reshaped(dims.clone())));
    let (ids, template) = align(network, &[view.clone().into(), scale])?;
    let id = network.step("scaled", Multiply, &ids, &[])?;
    let view = template.view(network, id);
    let (ids, template) = align(network, &[view.into(), shift])?;
    let id = network.emit(Add, &ids, &[])?;
    Ok(vec![template.view(network, id).into()])
}

/// `(x - mean) / deviation` over axes, which are those of the batch and the positions by default.
pub(super) fn mean_variance_normalization(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let listed = call.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let over = axes(&listed, view.rank())?;
    normalized(network, &view, &over, 1e-9, None, None)
}

/// `x / (bias + alpha * mean)^beta`, with the mean of the squares of the channels around each one;
/// those that are not there count as zeros.
pub(super) fn local_response_normalization(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let size = count(call.int("size", 0)?, "size")?;
    if view.rank() < 3 || size == 0 {
        return Err(Fault::invalid("it has no axes of positions, or a size of 0"));
    }
    let [alpha, beta] = [call.float("alpha", 1e-4)?, call.float("beta", 0.75)?];
    let bias = call.float("bias", 1.0)?;
    let view = network.tidy(&view)?;
    let square = view.of(network.step("square", Multiply, &[view.id; 2], &[])?);
    // A mean of windows goes along positions, so channels and positions change places.
    let sizes = view.sizes();
    let rest = sizes[2..].iter().map(|size| size.known).product();
    let square = reshaped(network, &square, &[sizes[0], sizes[1], Size::known(rest)])?;
    let order = [Some(2), Some(1)];
    let square = network.arrange(&square, &order, true)?;
    let (before, after) = ((size - 1) / 2, size / 2);
    let window = WindowAxis { stride: 1, dilation: 1, before, after };
    let pool = AveragePool {
        kernel: SmallVec::from_slice(&[size]),
        axes: SmallVec::from_slice(&[window]),
        counted: SmallVec::from_slice(&[(before, after)]),
    };
    let mean = network.step("mean", pool, &[square.id], &[])?;
    let divisor = Map { function: Function::Scale { factor: alpha, offset: bias } };
    let divisor = network.step("divisor", divisor, &[mean], &[])?;
    let inverse = Map { function: Function::Power { exponent: -beta } };
    let inverse = network.step("inverse", inverse, &[divisor], &[])?;
    let inverse = View::new(inverse, &network.sizes(inverse), &order, &square.batches());
    let inverse = reshaped(network, &inverse, &sizes)?;
    let (ids, template) = align(network, &[view.into(), inverse.into()])?;
    let id = network.emit(Multiply, &ids, &[])?;
    Ok(vec![template.view(network, id).into()])
}

/// `x / norm(x)` along an axis.
pub(super) fn lp_normalization(call: &Call, network: &mut Network) -> Outputs {
    if call.int("p", 2)? != 2 {
        return Err(Fault::unsupported("its norm is not that of squares", "use p = 2"));
    }
    let view = call.floats(0, network)?;
    let axis = axis(call.int("axis", -1)?, view.rank())?;
    let norm = reduction::reduced(network, &view, ReduceFunction::L2, &[axis])?;
    // The norm of zeros is 0, and the result is 0.
    let clip = Clip { low: f32::MIN_POSITIVE, high: f32::INFINITY };
    let norm = norm.of(network.step("norm", clip, &[norm.id], &[])?);
    let (ids, template) = align(network, &[view.into(), norm.into()])?;
    let divide = Binary { function: BinaryFunction::Divide };
    let id = network.emit(divide, &ids, &[])?;
    Ok(vec![template.view(network, id).into()])
}

pub(super) fn softmax(call: &Call, network: &mut Network) -> Outputs {
    shares(call, network, false)
}

pub(super) fn log_softmax(call: &Call, network: &mut Network) -> Outputs {
    shares(call, network, true)
}

fn shares(call: &Call, network: &mut Network, log: bool) -> Outputs {
    let view = call.floats(0, network)?;
    let along = axis(call.int("axis", if call.opset < 13 { 1 } else { -1 })?, view.rank())?;
    if call.opset >= 13 {
        return Ok(vec![softmax_along(network, &view, along, log)?.into()]);
    }
    // Over all axes from this one on, as if they were one.
    let sizes = view.sizes();
    let wide: Vec<usize> = (along..view.rank()).filter(|&axis| sizes[axis] != Size::ONE).collect();
    match wide[..] {
        [] => Ok(vec![softmax_along(network, &view, along, log)?.into()]),
        [along] => Ok(vec![softmax_along(network, &view, along, log)?.into()]),
        _ => {
            let mut flat = sizes[..along].to_vec();
            flat.push(Size {
                known: sizes[along..].iter().map(|size| size.known).product(),
                batch: sizes[along..].iter().any(|size| size.batch),
            });
            let view = reshaped(network, &view, &flat)?;
            let view = softmax_along(network, &view, along, log)?;
            Ok(vec![reshaped(network, &view, &sizes)?.into()])
        }
    }
}

fn softmax_along(
    network: &mut Network,
    view: &View,
    axis: usize,
    log: bool,
) -> Result<View, Fault> {
    let (view, axis) = network.along(view, axis)?;
    let id = network.emit(Softmax { axis, log }, &[view.id], &[])?;
    Ok(view.of(id))
}
