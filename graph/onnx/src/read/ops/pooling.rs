//! Pooling over windows and over all positions.

use edgesmith_graph::{AveragePool, GlobalAveragePool, MaxPool, ReduceFunction, WindowAxis};
use smallvec::SmallVec;

use super::super::call::{Call, Outputs, count, integers};
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::{Element, View};
use super::convolution::{as_picture, picture, settings};

/// The padding before and after the positions of each axis, from `pads` or `auto_pad`.
pub(super) fn padding(
    call: &Call,
    kernel: &[u32],
    strides: &[u32],
    dilations: &[u32],
    sizes: &[u32],
) -> Result<Vec<(u32, u32)>, Fault> {
    let axes = kernel.len();
    match call.text("auto_pad", "NOTSET")? {
        "VALID" => Ok(vec![(0, 0); axes]),
        auto @ ("SAME_UPPER" | "SAME_LOWER") => Ok((0..axes)
            .map(|axis| {
                let [size, stride] = [sizes[axis], strides[axis]].map(u64::from);
                let window = u64::from(kernel[axis].max(1) - 1) * u64::from(dilations[axis]) + 1;
                let covered = (size.div_ceil(stride).max(1) - 1) * stride + window;
                let total = covered.saturating_sub(size).min(u32::MAX.into()) as u32;
                let half = total / 2;
                if auto == "SAME_UPPER" { (half, total - half) } else { (total - half, half) }
            })
            .collect()),
        "NOTSET" => {
            let Some(pads) = call.ints("pads")? else { return Ok(vec![(0, 0); axes]) };
            if pads.len() != 2 * axes {
                return Err(Fault::invalid(format!("its pads {pads:?} are not {}", 2 * axes)));
            }
            let pad = |&pad: &i64| {
                count(pad, "padding").map_err(|_| {
                    Fault::unsupported(
                        format!("it has a padding of {pad}"),
                        "remove the negative padding from the network",
                    )
                })
            };
            let pads: Vec<u32> = pads.iter().map(pad).collect::<Result<_, _>>()?;
            Ok((0..axes).map(|axis| (pads[axis], pads[axes + axis])).collect())
        }
        other => Err(Fault::invalid(format!("its auto_pad is {other:?}"))),
    }
}

/// What a pooling node says about its windows.
struct Windows {
    kernel: Vec<u32>,
    axes: Vec<WindowAxis>,
    /// Padding that the node names, which counts as zeros in means if it says so.
    named: Vec<(u32, u32)>,
}

fn windows(call: &Call, view: &View) -> Result<Windows, Fault> {
    let axes = view.rank().checked_sub(2).filter(|&axes| axes > 0);
    let axes = axes.ok_or_else(|| Fault::invalid("its input has no axes of positions"))?;
    if axes > 2 {
        return Err(Fault::unsupported(
            format!("it pools over {axes} axes of positions"),
            "use pooling over one or two axes",
        ));
    }
    let kernel = call.ints("kernel_shape")?.unwrap_or_default();
    if kernel.len() != axes {
        return Err(Fault::invalid(format!("its kernel_shape {kernel:?} is not of {axes} axes")));
    }
    let kernel: Vec<u32> = kernel.iter().map(|&k| count(k, "kernel")).collect::<Result<_, _>>()?;
    let strides = settings(call, "strides", axes)?;
    let dilations = settings(call, "dilations", axes)?;
    let sizes: Vec<u32> = (0..axes).map(|axis| view.size(2 + axis)).collect();
    let named = padding(call, &kernel, &strides, &dilations, &sizes)?;
    let ceil = call.int("ceil_mode", 0)? != 0 && call.text("auto_pad", "NOTSET")? == "NOTSET";
    let axis = |axis: usize| {
        let (before, after) = named[axis];
        let window = WindowAxis { stride: strides[axis], dilation: dilations[axis], before, after };
        if ceil { rounded_up(window, kernel[axis], sizes[axis]) } else { window }
    };
    Ok(Windows { axes: (0..axes).map(axis).collect(), kernel, named })
}

/// With so much padding after it that a last window, which begins inside, fits.
fn rounded_up(axis: WindowAxis, kernel: u32, size: u32) -> WindowAxis {
    let window = u64::from(kernel.max(1) - 1) * u64::from(axis.dilation) + 1;
    let [stride, before, after] = [axis.stride, axis.before, axis.after].map(u64::from);
    let padded = u64::from(size) + before + after;
    let Some(beyond) = padded.checked_sub(window) else { return axis };
    let last = beyond.div_ceil(stride) * stride;
    // A window on nothing but padding after the end is left out.
    let inside = last < u64::from(size) + before;
    if inside && last > beyond {
        let after = (after + last - beyond).min(u32::MAX.into()) as u32;
        WindowAxis { after, ..axis }
    } else {
        axis
    }
}

pub(super) fn max_pool(call: &Call, network: &mut Network) -> Outputs {
    if call.node.outputs.get(1).is_some_and(|name| !name.is_empty()) {
        return Err(Fault::unsupported(
            "it also computes at which places the largest numbers are",
            "export the network without unpooling",
        ));
    }
    // The largest integer stands for the largest number.
    let view = call.view(0, network)?;
    if !matches!(view.element, Element::Float | Element::Quantized) {
        return Err(integers());
    }
    let view = picture(network, &view)?;
    let Windows { kernel, axes, .. } = windows(call, &view)?;
    let pool = MaxPool { kernel: SmallVec::from_vec(kernel), axes: SmallVec::from_vec(axes) };
    let id = network.emit(pool, &[view.id], &[])?;
    Ok(vec![as_picture(network, &view, id).with(view.element).into()])
}

pub(super) fn average_pool(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let view = picture(network, &view)?;
    let Windows { kernel, axes, named } = windows(call, &view)?;
    let whole = axes.iter().zip(&kernel).enumerate().all(|(axis, (window, &kernel))| {
        kernel == view.size(2 + axis)
            && window.dilation == 1
            && (window.before, window.after) == (0, 0)
    });
    if whole {
        return global(network, &view);
    }
    let counts = call.int("count_include_pad", 0)? != 0;
    let counted = named.iter().map(|&pads| if counts { pads } else { (0, 0) }).collect();
    let pool =
        AveragePool { kernel: SmallVec::from_vec(kernel), axes: SmallVec::from_vec(axes), counted };
    let id = network.emit(pool, &[view.id], &[])?;
    Ok(vec![as_picture(network, &view, id).into()])
}

pub(super) fn global_average_pool(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    if view.rank() < 3 {
        return Ok(vec![view.into()]);
    }
    global(network, &view)
}

/// The mean over all positions.
pub(super) fn global(network: &mut Network, view: &View) -> Outputs {
    let view = network.with_channels(view, 1)?;
    let id = network.emit(GlobalAveragePool, &[view.id], &[])?;
    let batch = view.batches();
    Ok(vec![View::new(id, &network.sizes(id), &[Some(1)], &batch).into()])
}

pub(super) fn global_max_pool(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let over: Vec<usize> = (2..view.rank()).collect();
    super::reduction::reduced(network, &view, ReduceFunction::Maximum, &over)
        .map(|view| vec![view.into()])
}
