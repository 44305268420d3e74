//! Sums, means and the like along axes.

use edgesmith_graph::{
    Add, Binary, BinaryFunction, Function, GlobalAveragePool, Map, Multiply, Op, Reduce,
    ReduceFunction,
};
use smallvec::SmallVec;

use super::super::call::{Call, Outputs, axes};
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::View;
use super::elementwise::align;

pub(super) fn mean(call: &Call, network: &mut Network) -> Outputs {
    plain(call, network, ReduceFunction::Mean)
}

pub(super) fn sum(call: &Call, network: &mut Network) -> Outputs {
    plain(call, network, ReduceFunction::Sum)
}

pub(super) fn maximum(call: &Call, network: &mut Network) -> Outputs {
    plain(call, network, ReduceFunction::Maximum)
}

pub(super) fn minimum(call: &Call, network: &mut Network) -> Outputs {
    plain(call, network, ReduceFunction::Minimum)
}

pub(super) fn l2(call: &Call, network: &mut Network) -> Outputs {
    plain(call, network, ReduceFunction::L2)
}

pub(super) fn l1(call: &Call, network: &mut Network) -> Outputs {
    parts(call, network, &[function(Function::Absolute)], &[])
}

pub(super) fn log_sum(call: &Call, network: &mut Network) -> Outputs {
    parts(call, network, &[], &[function(Function::Logarithm)])
}

pub(super) fn sum_square(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let square = network.step("square", Multiply, &[view.id, view.id], &[])?;
    let over = over(call, &view)?;
    let Some(over) = over else { return Ok(vec![view.of(square).into()]) };
    let view = reduced(network, &view.of(square), ReduceFunction::Sum, &over)?;
    Ok(vec![kept(call, view, &over)?.into()])
}

/// The logarithm of the sum of exponentials; the largest number is taken out before, so that no
/// exponential overflows.
pub(super) fn log_sum_exp(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let Some(over) = over(call, &view)? else { return Ok(vec![view.into()]) };
    let largest = reduced(network, &view, ReduceFunction::Maximum, &over)?;
    let (ids, template) = align(network, &[view.into(), largest.clone().into()])?;
    let subtract = Binary { function: BinaryFunction::Subtract };
    let below = network.step("below", subtract, &ids, &[])?;
    let below = template.view(network, below);
    let exponential = network.step("exp", function(Function::Exponential), &[below.id], &[])?;
    let sum = reduced(network, &below.of(exponential), ReduceFunction::Sum, &over)?;
    let log = network.step("log", function(Function::Logarithm), &[sum.id], &[])?;
    let (ids, template) = align(network, &[sum.of(log).into(), largest.into()])?;
    let id = network.emit(Add, &ids, &[])?;
    let view = template.view(network, id);
    Ok(vec![kept(call, view, &over)?.into()])
}

fn function(function: Function) -> Op {
    Map { function }.into()
}

fn plain(call: &Call, network: &mut Network, function: ReduceFunction) -> Outputs {
    let view = call.floats(0, network)?;
    let Some(over) = over(call, &view)? else { return Ok(vec![view.into()]) };
    let view = reduced(network, &view, function, &over)?;
    Ok(vec![kept(call, view, &over)?.into()])
}

/// A sum, with functions of each number before and after it.
fn parts(call: &Call, network: &mut Network, before: &[Op], after: &[Op]) -> Outputs {
    let mut view = call.floats(0, network)?;
    for op in before {
        view = view.of(network.step("part", op.clone(), &[view.id], &[])?);
    }
    let over = over(call, &view)?;
    if let Some(over) = &over {
        view = reduced(network, &view, ReduceFunction::Sum, over)?;
    }
    for op in after {
        view = view.of(network.step("part", op.clone(), &[view.id], &[])?);
    }
    Ok(vec![kept(call, view, &over.unwrap_or_default())?.into()])
}

/// The axes to reduce; `None` if it reduces nothing.
fn over(call: &Call, view: &View) -> Result<Option<Vec<usize>>, Fault> {
    let listed = call.setting(1, "axes")?.unwrap_or_default();
    if !listed.is_empty() {
        return axes(&listed, view.rank()).map(Some);
    }
    let nothing = call.int("noop_with_empty_axes", 0)? != 0;
    Ok((!nothing).then(|| (0..view.rank()).collect()))
}

/// Without the reduced axes, if the node does not keep them.
fn kept(call: &Call, mut view: View, over: &[usize]) -> Result<View, Fault> {
    if call.int("keepdims", 1)? == 0 {
        for &axis in over.iter().rev() {
            view = view.squeezed(axis)?;
        }
    }
    Ok(view)
}

/// Axes reduced to a size of 1.
pub(super) fn reduced(
    network: &mut Network,
    view: &View,
    function: ReduceFunction,
    over: &[usize],
) -> Result<View, Fault> {
    if over.iter().any(|&axis| view.axes[axis].batch.is_some()) {
        return Err(Fault::batch("it reduces the batch"));
    }
    let view = network.tidy(view)?;
    let mut layout = view.layout().expect("it is tidy");
    let mut along: SmallVec<[u32; 3]> = (0..layout.len() as u32)
        .filter(|&axis| layout[axis as usize].is_some_and(|of| over.contains(&of)))
        .collect();
    let id = if along.is_empty() {
        match function {
            ReduceFunction::L2 => {
                network.emit(Map { function: Function::Absolute }, &[view.id], &[])?
            }
            _ => view.id,
        }
    } else if function == ReduceFunction::Mean
        && layout.len() > 1
        && (1..layout.len())
            .all(|axis| along.contains(&(axis as u32)) || network.sizes(view.id)[axis] == 1)
        && !along.contains(&0)
    {
        layout.truncate(1);
        network.emit(GlobalAveragePool, &[view.id], &[])?
    } else {
        // What else has a size of 1 does not change.
        along.retain(|axis| network.sizes(view.id)[*axis as usize] > 1);
        if along.is_empty() {
            along.push(
                layout.iter().position(|of| of.is_some_and(|of| over.contains(&of))).unwrap_or(0)
                    as u32,
            );
        }
        network.emit(Reduce { function, axes: along }, &[view.id], &[])?
    };
    // A reduced axis of the value is the same axis of the tensor, of size 1.
    let batch = view.batches();
    Ok(View::new(id, &network.sizes(id), &layout, &batch))
}
