//! Products of matrices: fully connected layers where one of them is constant.

use edgesmith_graph::{Function, Linear, Map, MatrixProduct, Role};

use super::super::call::{Call, Outputs, Tensor};
use super::super::constant::{Constant, Size};
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::{Axis, View};
use super::elementwise::align;
use super::slicing::resized;

pub(super) fn mat_mul(call: &Call, network: &mut Network) -> Outputs {
    let (a, b) = (call.input(0)?.clone(), call.input(1)?.clone());
    let (vector_a, vector_b) = (a.sizes().len() == 1, b.sizes().len() == 1);
    if a.sizes().is_empty() || b.sizes().is_empty() {
        return Err(Fault::invalid("it multiplies a single number"));
    }
    let a = if vector_a { with_axis(a, 0) } else { a };
    let b = if vector_b { with_axis(b, 1) } else { b };
    let mut product = product(network, &a, &b)?;
    let rank = product.rank();
    if vector_b {
        product = product.squeezed(rank - 1)?;
    }
    if vector_a {
        product = product.squeezed(rank - 2)?;
    }
    Ok(vec![product.into()])
}

fn with_axis(tensor: Tensor, axis: usize) -> Tensor {
    match tensor {
        Tensor::View(view) => view.unsqueezed(axis).into(),
        Tensor::Constant(constant) => {
            let mut dims = constant.dims.clone();
            dims.insert(axis, 1);
            Tensor::constant(constant.reshaped(dims))
        }
        Tensor::Unknown => Tensor::Unknown,
    }
}

/// The product of the last two axes; those before are repeated to fit each other.
pub(super) fn product(network: &mut Network, a: &Tensor, b: &Tensor) -> Result<View, Fault> {
    let (a_sizes, b_sizes) = (a.sizes(), b.sizes());
    let inner = (a_sizes[a_sizes.len() - 1], b_sizes[b_sizes.len() - 2]);
    if inner.0 != inner.1 || inner.0.batch {
        let shapes = [&a_sizes, &b_sizes].map(|sizes| network.describe(sizes)).join(" and ");
        return Err(if inner.0.batch || inner.1.batch {
            Fault::batch(format!("its inputs have the shapes {shapes}"))
        } else {
            Fault::invalid(format!(
                "its inputs have the shapes {shapes}, which do not fit together"
            ))
        });
    }
    let matrix = |constant: &Constant| {
        let rank = constant.dims.len();
        constant.dims[..rank - 2].iter().all(|&dim| dim == 1)
    };
    match (a, b) {
        (Tensor::View(view), Tensor::Constant(weight)) if matrix(weight) => {
            let rank = weight.dims.len();
            let mut view = view.clone();
            (view.rank()..rank).for_each(|_| view.axes.insert(0, Axis::one()));
            let weight = as_matrix(weight).transposed(&[1, 0]);
            let last = view.rank() - 1;
            linear(network, &view, last, &weight, None)
        }
        (Tensor::Constant(weight), Tensor::View(view)) if matrix(weight) => {
            let rank = weight.dims.len();
            let mut view = view.clone();
            (view.rank()..rank).for_each(|_| view.axes.insert(0, Axis::one()));
            let rows = view.rank() - 2;
            linear(network, &view, rows, &as_matrix(weight), None)
        }
        _ => {
            let (a, b) = (a.to_view(network)?, b.to_view(network)?);
            of_values(network, &a, &b)
        }
    }
}

/// The last two axes.
fn as_matrix(constant: &Constant) -> Constant {
    let rank = constant.dims.len();
    if rank == 2 {
        return constant.clone();
    }
    constant.reshaped(constant.dims[rank - 2..].to_vec())
}

/// A fully connected layer along an axis. The weight is `[out, in]`.
pub(super) fn linear(
    network: &mut Network,
    view: &View,
    axis: usize,
    weight: &Constant,
    bias: Option<&Constant>,
) -> Result<View, Fault> {
    if !view.is_float() {
        return Err(super::super::call::integers());
    }
    let view = network.with_channels(view, axis)?;
    let mut parameters = vec![network.parameter("weight", Role::Weight, weight)?];
    if let Some(bias) = bias {
        parameters.push(network.parameter("bias", Role::Bias, bias)?);
    }
    let id = network.emit(Linear, &[view.id], &parameters)?;
    Ok(resized(network, &view, id))
}

/// A product of two tensors that are computed when the network runs.
pub(super) fn of_values(network: &mut Network, a: &View, b: &View) -> Result<View, Fault> {
    if !a.is_float() || !b.is_float() {
        return Err(super::super::call::integers());
    }
    let rank = a.rank().max(b.rank());
    let at_rank = |view: &View| {
        let mut view = view.clone();
        (view.rank()..rank).for_each(|_| view.axes.insert(0, Axis::one()));
        view
    };
    let (a, b) = (at_rank(a), at_rank(b));
    let (a_sizes, b_sizes) = (a.sizes(), b.sizes());
    let mut batch = vec![];
    let mut lead = vec![];
    for axis in 0..rank - 2 {
        let (x, y) = (a_sizes[axis], b_sizes[axis]);
        if x != y && x != Size::ONE && y != Size::ONE {
            let shapes = [&a_sizes, &b_sizes].map(|sizes| network.describe(sizes)).join(" and ");
            return Err(Fault::batch(format!("its inputs have the shapes {shapes}")));
        }
        let places = (a.axes[axis].batch, b.axes[axis].batch);
        if matches!(places, (Some(x), Some(y)) if x != y) {
            return Err(Fault::batch("its inputs have the examples in different orders"));
        }
        batch.push(places.0.or(places.1));
        if x.known > 1 || y.known > 1 {
            lead.push(Some(axis));
        }
    }
    // Rows of one example must not meet columns of another.
    let any = |view: &View| view.axes.iter().any(|axis| axis.batch.is_some());
    let (rows, columns) = (a.axes[rank - 2].batch, b.axes[rank - 1].batch);
    if (rows.is_some() && any(&b)) || (columns.is_some() && any(&a)) {
        return Err(Fault::batch("it multiplies examples with each other"));
    }
    batch.extend([rows, columns]);
    let arranged = |network: &mut Network, view: &View| -> Result<(View, bool), Fault> {
        let with = |last: [usize; 2]| -> Vec<Option<usize>> {
            lead.iter().copied().chain(last.map(Some)).collect()
        };
        let sorted = |order: &[Option<usize>]| {
            order.iter().flatten().flat_map(|&axis| view.wide(axis)).is_sorted()
        };
        let (plain, swapped) = (with([rank - 2, rank - 1]), with([rank - 1, rank - 2]));
        let swap = !sorted(&plain) && sorted(&swapped);
        let order = if swap { swapped } else { plain };
        Ok((network.arrange(view, &order, true)?, swap))
    };
    let (a, swap_a) = arranged(network, &a)?;
    let (b, swap_b) = arranged(network, &b)?;
    // Where columns come before rows, as channels come before positions, the result has them so,
    // too.
    let (ids, transposed, last) = if swap_b {
        ([b.id, a.id], [false, !swap_a], [rank - 1, rank - 2])
    } else {
        ([a.id, b.id], [swap_a, false], [rank - 2, rank - 1])
    };
    let id = network.emit(MatrixProduct { transposed }, &ids, &[])?;
    let of: Vec<Option<usize>> = lead.into_iter().chain(last.map(Some)).collect();
    Ok(View::new(id, &network.sizes(id), &of, &batch))
}

/// `alpha * A * B + beta * C`
pub(super) fn gemm(call: &Call, network: &mut Network) -> Outputs {
    let alpha = call.float("alpha", 1.0)?;
    let beta = call.float("beta", 1.0)?;
    let turned = |input: usize, name: &str| -> Result<Tensor, Fault> {
        let tensor = call.input(input)?.clone();
        if tensor.sizes().len() != 2 {
            return Err(Fault::invalid(format!("its input {input} is no matrix")));
        }
        if call.int(name, 0)? == 0 {
            return Ok(tensor);
        }
        Ok(match tensor {
            Tensor::View(view) => view.transposed(&[1, 0]).into(),
            Tensor::Constant(constant) => Tensor::constant(constant.transposed(&[1, 0])),
            Tensor::Unknown => Tensor::Unknown,
        })
    };
    let (a, b) = (turned(0, "transA")?, turned(1, "transB")?);
    let c = call.given(2).filter(|_| beta != 0.0).cloned();
    // A bias for each column becomes part of the layer.
    if let (Tensor::View(view), Tensor::Constant(weight)) = (&a, &b) {
        let columns = weight.dims[1];
        let bias = match &c {
            None => Some(None),
            Some(Tensor::Constant(c)) => {
                let rank = c.dims.len();
                let each = c.dims.iter().take(rank.saturating_sub(1)).all(|&dim| dim == 1);
                let flat = c.reshaped(vec![c.elements()]);
                (each && rank <= 2).then(|| flat.broadcast(&[columns])).flatten().map(Some)
            }
            Some(_) => None,
        };
        if let Some(bias) = bias {
            if view.sizes()[1] != Size::known(weight.dims[0] as i64) {
                let (shape, dims) = (network.describe(&view.sizes()), &weight.dims);
                return Err(Fault::invalid(format!(
                    "its inputs {shape} and {dims:?} do not fit together"
                )));
            }
            let weight = times(&weight.transposed(&[1, 0]), alpha)?;
            let bias = bias.map(|bias| times(&bias, beta)).transpose()?;
            return Ok(vec![linear(network, view, 1, &weight, bias.as_ref())?.into()]);
        }
    }
    let name = std::mem::take(&mut network.current);
    network.current = format!("{name}.product");
    let mut product = product(network, &a, &b)?;
    if alpha != 1.0 {
        let scale = Map { function: Function::Scale { factor: alpha, offset: 0.0 } };
        product = product.of(network.step("scaled", scale, &[product.id], &[])?);
    }
    network.current = name;
    let Some(mut c) = c else { return Ok(vec![product.into()]) };
    if beta != 1.0 {
        c = match c {
            Tensor::Constant(c) => Tensor::constant(times(&c, beta)?),
            Tensor::View(view) => {
                let scale = Map { function: Function::Scale { factor: beta, offset: 0.0 } };
                view.of(network.step("scaled", scale, &[view.id], &[])?).into()
            }
            Tensor::Unknown => Tensor::Unknown,
        };
    }
    let (ids, template) = align(network, &[product.into(), c])?;
    let id = network.emit(edgesmith_graph::Add, &ids, &[])?;
    Ok(vec![template.view(network, id).into()])
}

fn times(constant: &Constant, factor: f32) -> Result<Constant, Fault> {
    if factor == 1.0 {
        return Ok(constant.clone());
    }
    let numbers = constant.to_floats()?.iter().map(|&x| x * factor).collect();
    let origin = constant.origin.clone();
    Ok(Constant { origin, ..Constant::floats(constant.dims.clone(), numbers) })
}
