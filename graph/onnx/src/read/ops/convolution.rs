//! Convolutions and transposed convolutions.

use std::rc::Rc;

use edgesmith_graph::{Conv, ConvTranspose, Groups, Linear, Role, TransposedAxis, WindowAxis};

use super::super::call::{Call, Outputs, Tensor, count};
use super::super::constant::Constant;
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::View;
use super::pooling::padding;

pub(super) const FIXED: &str = "export the network with constant weights";

/// A tensor `[batch, channels, positions…]` in a value of channels and positions.
pub(super) fn picture(network: &mut Network, view: &View) -> Result<View, Fault> {
    if view.rank() < 3 {
        let shape = network.describe(&view.sizes());
        return Err(Fault::invalid(format!("its input {shape} has no axes of positions")));
    }
    if !view.wide(0).is_empty() {
        return Err(Fault::batch("its input has several examples, which are no batch any more"));
    }
    let order: Vec<Option<usize>> = (1..view.rank()).map(Some).collect();
    network.arrange(view, &order, true)
}

/// The result of a function of a picture.
pub(super) fn as_picture(network: &Network, like: &View, id: edgesmith_graph::ValueId) -> View {
    let of: Vec<Option<usize>> = (1..like.rank()).map(Some).collect();
    let batch = like.batches();
    View::new(id, &network.sizes(id), &of, &batch)
}

pub(super) fn conv(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let weight = weights(call, 1)?;
    let bias = bias(call, 2)?;
    let axes = positions(&view, &weight, network)?;
    let group = count(call.int("group", 1)?, "group")?;
    let kernel = kernel(call, &weight)?;
    let strides = settings(call, "strides", axes)?;
    let dilations = settings(call, "dilations", axes)?;
    let sizes: Vec<u32> = (0..axes).map(|axis| view.size(2 + axis)).collect();
    let pads = padding(call, &kernel, &strides, &dilations, &sizes)?;
    let window = |axis: usize| WindowAxis {
        stride: strides[axis],
        dilation: dilations[axis],
        before: pads[axis].0,
        after: pads[axis].1,
    };
    // A picture of a single position stays one, but for a mean over all of it.
    let pointwise = group == 1
        && network.sizes(view.id).len() == 1
        && kernel.iter().chain(&sizes).all(|&size| size == 1)
        && pads.iter().all(|&pads| pads == (0, 0));
    if pointwise {
        return per_channel(network, &view, &weight, bias.as_ref());
    }
    let view = picture(network, &view)?;
    let mut parameters = vec![network.parameter("weight", Role::Weight, &weight)?];
    if let Some(bias) = &bias {
        parameters.push(network.parameter("bias", Role::Bias, bias)?);
    }
    let groups = Groups::of(group, view.size(1));
    let conv = Conv { axes: (0..axes).map(window).collect(), groups };
    let id = network.emit(conv, &[view.id], &parameters)?;
    Ok(vec![as_picture(network, &view, id).into()])
}

/// A convolution of a vector is a fully connected layer: squeeze-and-excitation has two.
fn per_channel(
    network: &mut Network,
    view: &View,
    weight: &Constant,
    bias: Option<&Constant>,
) -> Outputs {
    if !view.wide(0).is_empty() {
        return Err(Fault::batch("its input has several examples, which are no batch any more"));
    }
    let view = network.arrange(view, &[Some(1)], true)?;
    let matrix =
        Constant { scales: weight.scales.clone(), ..weight.reshaped(weight.dims[..2].to_vec()) };
    let mut parameters = vec![network.parameter("weight", Role::Weight, &matrix)?];
    if let Some(bias) = bias {
        parameters.push(network.parameter("bias", Role::Bias, bias)?);
    }
    let id = network.emit(Linear, &[view.id], &parameters)?;
    let batch = view.batches();
    Ok(vec![View::new(id, &network.sizes(id), &[Some(1)], &batch).into()])
}

pub(super) fn conv_transpose(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let weight = weights(call, 1)?;
    let bias = bias(call, 2)?;
    let axes = positions(&view, &weight, network)?;
    let group = count(call.int("group", 1)?, "group")?.max(1);
    let kernel = kernel(call, &weight)?;
    let strides = settings(call, "strides", axes)?;
    let dilations = settings(call, "dilations", axes)?;
    let mut extra = match call.ints("output_padding")? {
        Some(listed) => {
            listed.iter().map(|&one| count(one, "output_padding")).collect::<Result<_, _>>()?
        }
        None => vec![0; axes],
    };
    if extra.len() != axes {
        return Err(Fault::invalid("its output_padding has not one number for each axis"));
    }
    // The size that nothing is cropped from.
    let whole = |axis: usize, extra: u32| -> i128 {
        let size = i128::from(view.size(2 + axis)) - 1;
        size * i128::from(strides[axis])
            + (i128::from(kernel[axis]) - 1) * i128::from(dilations[axis])
            + 1
            + i128::from(extra)
    };
    let auto = call.text("auto_pad", "NOTSET")?;
    let wanted = call.ints("output_shape")?;
    if let Some(wanted) = &wanted
        && wanted.len() != axes
    {
        return Err(Fault::invalid("its output_shape has not one number for each axis"));
    }
    let mut crops = vec![];
    if wanted.is_some() || matches!(auto, "SAME_UPPER" | "SAME_LOWER") {
        for axis in 0..axes {
            let size = match &wanted {
                Some(wanted) => i128::from(wanted[axis]),
                None => i128::from(view.size(2 + axis)) * i128::from(strides[axis]),
            };
            let crop = whole(axis, extra[axis]) - size;
            let number = |number: i128| {
                u32::try_from(number)
                    .map_err(|_| Fault::invalid(format!("its output_shape has a size of {size}")))
            };
            if crop < 0 {
                extra[axis] = number(i128::from(extra[axis]) - crop)?;
            }
            let crop = number(crop.max(0))?;
            let half = crop / 2;
            crops.push(if auto == "SAME_UPPER" {
                (half, crop - half)
            } else {
                (crop - half, half)
            });
        }
    } else {
        crops = padding(call, &kernel, &strides, &dilations, &vec![0; axes])?;
    }
    let axis = |axis: usize| TransposedAxis {
        stride: strides[axis],
        dilation: dilations[axis],
        before: crops[axis].0,
        after: crops[axis].1,
        extra: extra[axis],
    };
    let view = picture(network, &view)?;
    let weight = outputs_first(&weight, group)?;
    let mut parameters = vec![network.parameter("weight", Role::Weight, &weight)?];
    if let Some(bias) = &bias {
        parameters.push(network.parameter("bias", Role::Bias, bias)?);
    }
    let groups = Groups::of(group, view.size(1));
    let conv = ConvTranspose { axes: (0..axes).map(axis).collect(), groups };
    let id = network.emit(conv, &[view.id], &parameters)?;
    Ok(vec![as_picture(network, &view, id).into()])
}

/// ONNX's `[in, out / groups, kernel…]` as `[out, in / groups, kernel…]`.
fn outputs_first(weight: &Constant, groups: u32) -> Result<Constant, Fault> {
    let (groups, dims) = (groups as usize, &weight.dims);
    if !dims[0].is_multiple_of(groups) {
        return Err(Fault::invalid(format!("{groups} groups do not divide {} channels", dims[0])));
    }
    let mut split = vec![groups, dims[0] / groups];
    split.extend(&dims[1..]);
    let order: Vec<usize> = [0, 2, 1].into_iter().chain(3..split.len()).collect();
    let mut merged = vec![groups * dims[1], dims[0] / groups];
    merged.extend(&dims[2..]);
    let scales = output_scales(weight, groups).map(Rc::new);
    Ok(Constant { scales, ..weight.reshaped(split).transposed(&order).reshaped(merged) })
}

/// The scales of ONNX's `[in, out / groups, kernel…]`, one per output channel or one for all.
/// `None` if there are none, or numbers of one output channel have different ones.
fn output_scales(weight: &Constant, groups: usize) -> Option<(Vec<f32>, Option<usize>)> {
    let (scales, axis) = weight.scales.as_deref()?;
    let (reads, writes) = (weight.dims[0] / groups, weight.dims[1]);
    let channels = (0..groups).flat_map(|group| (0..writes).map(move |write| (group, write)));
    match axis {
        None => Some((scales.clone(), None)),
        Some(1) => Some((channels.map(|(_, write)| scales[write]).collect(), Some(0))),
        // A group reads one channel.
        Some(0) if reads == 1 => {
            Some((channels.map(|(group, _)| scales[group]).collect(), Some(0)))
        }
        Some(_) => None,
    }
}

/// A weight of at least three axes.
fn weights(call: &Call, input: usize) -> Result<Constant, Fault> {
    let Tensor::Constant(weight) = call.input(input)? else {
        return Err(Fault::unsupported("its weights are computed when the network runs", FIXED));
    };
    if weight.dims.len() < 3 || weight.dims.contains(&0) {
        let dims = &weight.dims;
        return Err(Fault::invalid(format!("its weight has the shape {dims:?}")));
    }
    Ok((**weight).clone())
}

fn bias(call: &Call, input: usize) -> Result<Option<Constant>, Fault> {
    match call.given(input) {
        None => Ok(None),
        Some(Tensor::Constant(bias)) if bias.dims.len() == 1 => Ok(Some((**bias).clone())),
        Some(Tensor::Constant(bias)) => {
            let dims = &bias.dims;
            Err(Fault::invalid(format!("its bias has the shape {dims:?}")))
        }
        Some(_) => Err(Fault::unsupported("its bias is computed when the network runs", FIXED)),
    }
}

/// How many axes of positions there are.
fn positions(view: &View, weight: &Constant, network: &Network) -> Result<usize, Fault> {
    if view.rank() != weight.dims.len() {
        let (shape, dims) = (network.describe(&view.sizes()), &weight.dims);
        return Err(Fault::invalid(format!(
            "its input {shape} and its weight {dims:?} do not fit"
        )));
    }
    if view.rank() > 4 {
        return Err(Fault::unsupported(
            format!("it convolves over {} axes of positions", view.rank() - 2),
            "use convolutions over one or two axes",
        ));
    }
    Ok(view.rank() - 2)
}

/// The kernel's sizes, which the attribute may say again.
fn kernel(call: &Call, weight: &Constant) -> Result<Vec<u32>, Fault> {
    let sizes = weight.dims[2..].iter().map(|&size| count(size as i64, "kernel"));
    let sizes: Vec<u32> = sizes.collect::<Result<_, _>>()?;
    match call.ints("kernel_shape")? {
        Some(said) if !said.iter().copied().eq(sizes.iter().map(|&size| i64::from(size))) => Err(
            Fault::invalid(format!("its kernel_shape is {said:?}, but its weight has {sizes:?}")),
        ),
        _ => Ok(sizes),
    }
}

/// A setting of windows for each axis of positions, 1 if it is not given.
pub(super) fn settings(call: &Call, name: &str, axes: usize) -> Result<Vec<u32>, Fault> {
    let Some(listed) = call.ints(name)? else { return Ok(vec![1; axes]) };
    if listed.len() != axes {
        return Err(Fault::invalid(format!("its {name} {listed:?} are not {axes}")));
    }
    if listed.contains(&0) {
        return Err(Fault::invalid(format!("its {name} {listed:?} are not all above 0")));
    }
    listed.iter().map(|&one| count(one, name)).collect()
}
