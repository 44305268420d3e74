//! Known numbers moved, repeated, chosen and made.

use std::rc::Rc;

use super::super::call::{Call, Outputs, Tensor, axes, axis};
use super::super::constant::{Constant, Data, Size, extent, places, strides};
use super::super::error::Fault;
use super::super::network::Network;
use super::super::ops::slicing::{Range, slices, split_sizes};
use super::{making, places};

type Folded = Result<Constant, Fault>;

/// `None` if the operator is not one of these.
pub(super) fn fold(call: &Call, network: &mut Network) -> Option<Outputs> {
    let folded = match call.node.op_type {
        "Identity" => call.constant(0).map(|constant| (*constant).clone()),
        "Gather" => gather(call, network),
        "Concat" => concat(call, network),
        "Slice" => slice(call),
        "Squeeze" => squeeze(call),
        "Unsqueeze" => unsqueeze(call),
        "Flatten" => flatten(call),
        "Reshape" => return reshape(call, network).transpose().map(one),
        "Transpose" => transpose(call),
        "Expand" => return making::expand(call, network),
        "Tile" => tile(call, network),
        "Range" => making::range(call, network),
        "ConstantOfShape" => return making::constant_of_shape(call, network),
        "Split" => return Some(split(call)),
        "Trilu" => making::trilu(call),
        "ScatterND" => places::scatter(call, network),
        "GatherND" => places::gather(call, network),
        _ => return None,
    };
    Some(one(folded))
}

fn one(folded: Folded) -> Outputs {
    folded.map(|constant| vec![Tensor::constant(constant)])
}

/// Accounts for a constant of this shape before it is made. Sizes beside a 0 count, too.
pub(super) fn spend(network: &mut Network, dims: &[usize]) -> Result<(), Fault> {
    network.spend(extent(dims).unwrap_or(usize::MAX))
}

fn gather(call: &Call, network: &mut Network) -> Folded {
    let (data, indices) = (call.constant(0)?, call.constant(1)?);
    let axis = axis(call.int("axis", 0)?, data.dims.len())?;
    let size = data.dims[axis];
    let index = |index: i64| {
        let from_start = if index < 0 { index.checked_add(size as i64) } else { Some(index) };
        let place = from_start.and_then(|i| usize::try_from(i).ok()).filter(|&i| i < size);
        place.ok_or_else(|| Fault::invalid(format!("it reads index {index} of {size}")))
    };
    let indices_dims = indices.dims.clone();
    let indices: Vec<usize> =
        indices.to_ints()?.into_iter().map(index).collect::<Result<_, _>>()?;
    let mut dims = data.dims[..axis].to_vec();
    dims.extend(&indices_dims);
    dims.extend(&data.dims[axis + 1..]);
    if dims.len() > super::super::MAX_RANK {
        return Err(Fault::invalid("it makes too many axes"));
    }
    spend(network, &dims)?;
    let steps = strides(&data.dims);
    let step = steps[axis];
    let outer = places(&data.dims[..axis], &steps[..axis], 0);
    let inner = places(&data.dims[axis + 1..], &steps[axis + 1..], 0);
    let picked: Vec<usize> = outer
        .iter()
        .flat_map(|o| indices.iter().map(move |i| o + i * step))
        .flat_map(|start| inner.iter().map(move |i| start + i))
        .collect();
    Ok(data.pick(dims, &picked))
}

fn concat(call: &Call, network: &mut Network) -> Folded {
    let inputs: Vec<Rc<Constant>> =
        (0..call.inputs.len()).map(|input| call.constant(input)).collect::<Result<_, _>>()?;
    let first = inputs.first().ok_or_else(|| Fault::invalid("it has no inputs"))?;
    let axis = axis(call.int("axis", 0)?, first.dims.len())?;
    let mut dims = first.dims.clone();
    dims[axis] = 0;
    for input in &inputs {
        let alike = input.dims.len() == dims.len()
            && (0..dims.len()).all(|other| other == axis || input.dims[other] == dims[other]);
        if !alike {
            let (a, b) = (&first.dims, &input.dims);
            return Err(Fault::invalid(format!("its inputs have the shapes {a:?} and {b:?}")));
        }
        dims[axis] += input.dims[axis];
    }
    spend(network, &dims)?;
    // All inputs one after the other, from which the rows are picked.
    let all = joined(&inputs)?;
    let outer: usize = dims[..axis].iter().product();
    let mut picked = Vec::with_capacity(all.elements());
    for row in 0..outer {
        let mut start = 0;
        for input in &inputs {
            let block: usize = input.dims[axis..].iter().product();
            picked.extend(start + row * block..start + (row + 1) * block);
            start += input.elements();
        }
    }
    Ok(all.pick(dims, &picked))
}

/// The numbers of all constants in one list.
pub(super) fn joined(inputs: &[Rc<Constant>]) -> Folded {
    let total: usize = inputs.iter().map(|input| input.elements()).sum();
    let joined = if inputs.iter().any(|input| matches!(input.data, Data::Float(_))) {
        let lists: Vec<_> = inputs.iter().map(|i| i.to_floats()).collect::<Result<_, _>>()?;
        Constant::floats(vec![total], lists.iter().flat_map(|list| list.iter().copied()).collect())
    } else if inputs.iter().all(|input| matches!(input.data, Data::Bool(_))) {
        let lists: Vec<_> = inputs.iter().map(|i| i.to_sizes()).collect::<Result<_, _>>()?;
        Constant::bools(vec![total], lists.concat().iter().map(|size| size.known != 0).collect())
    } else {
        let lists: Vec<_> = inputs.iter().map(|i| i.to_sizes()).collect::<Result<_, _>>()?;
        Constant::sizes(vec![total], lists.concat())
    };
    Ok(joined.of_type(inputs[0].data_type))
}

fn slice(call: &Call) -> Folded {
    let data = call.constant(0)?;
    let sizes: Vec<Size> = data.dims.iter().map(|&dim| Size::known(dim as i64)).collect();
    let ranges = slices(call, &sizes, None)?;
    Ok(sliced(&data, &ranges))
}

fn sliced(data: &Constant, ranges: &[Option<Range>]) -> Constant {
    let mut dims = data.dims.clone();
    let mut picked = vec![0];
    let steps = strides(&data.dims);
    for (axis, range) in ranges.iter().enumerate() {
        let indices: Vec<usize> = match range {
            Some(range) => range.indices().map(|index| index as usize).collect(),
            None => (0..dims[axis]).collect(),
        };
        dims[axis] = indices.len();
        let (indices, step) = (&indices, steps[axis]);
        let along = |place: usize| indices.iter().map(move |index| place + index * step);
        picked = picked.into_iter().flat_map(along).collect();
    }
    data.pick(dims, &picked)
}

fn squeeze(call: &Call) -> Folded {
    let data = call.constant(0)?;
    let remove = match call.setting(1, "axes")? {
        Some(listed) => axes(&listed, data.dims.len())?,
        None => (0..data.dims.len()).filter(|&axis| data.dims[axis] == 1).collect(),
    };
    if let Some(axis) = remove.iter().find(|&&axis| data.dims[axis] != 1) {
        let size = data.dims[*axis];
        return Err(Fault::invalid(format!("it removes axis {axis}, whose size is {size}")));
    }
    let kept = (0..data.dims.len()).filter(|axis| !remove.contains(axis));
    Ok(data.reshaped(kept.map(|axis| data.dims[axis]).collect()))
}

fn unsqueeze(call: &Call) -> Folded {
    let data = call.constant(0)?;
    let listed = call.setting(1, "axes")?.unwrap_or_default();
    let rank = data.dims.len() + listed.len();
    if rank > super::super::MAX_RANK {
        return Err(Fault::invalid("it makes too many axes"));
    }
    let mut dims = data.dims.clone();
    for axis in axes(&listed, rank)? {
        dims.insert(axis, 1);
    }
    Ok(data.reshaped(dims))
}

fn flatten(call: &Call) -> Folded {
    let data = call.constant(0)?;
    let rank = data.dims.len();
    let at = call.int("axis", 1)?;
    let at = if at == rank as i64 { rank } else { axis(at, rank)? };
    let [a, b] = [&data.dims[..at], &data.dims[at..]].map(|dims| dims.iter().product());
    Ok(data.reshaped(vec![a, b]))
}

/// `None` if the shape depends on the batch.
fn reshape(call: &Call, network: &mut Network) -> Result<Option<Constant>, Fault> {
    let data = call.constant(0)?;
    let sizes = match call.given(1) {
        Some(_) => call.constant(1)?.to_sizes()?,
        None => {
            let listed = call.ints("shape")?.unwrap_or_default();
            listed.into_iter().map(Size::known).collect()
        }
    };
    let batch = network.batch.map(i64::from);
    let mut dims = vec![];
    for (axis, size) in sizes.iter().enumerate() {
        let number = match (size.batch, batch) {
            (false, _) => size.known,
            (true, Some(batch)) => size.known.saturating_mul(batch),
            (true, None) => return Ok(None),
        };
        dims.push(match number {
            0 if call.int("allowzero", 0)? == 0 => {
                let dim = data.dims.get(axis).copied();
                dim.ok_or_else(|| {
                    Fault::invalid(format!("it copies axis {axis}, which is missing"))
                })? as i64
            }
            number => number,
        });
    }
    let known = dims.iter().filter(|&&dim| dim != -1).try_fold(1i64, |n, &d| n.checked_mul(d));
    let elements = data.elements() as i64;
    for dim in &mut dims {
        if *dim == -1 {
            *dim = known.filter(|&k| k > 0).map_or(0, |known| elements / known);
        }
    }
    let dims: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let fits = |dims: &Vec<usize>| {
        dims.len() <= super::super::MAX_RANK
            && extent(dims).is_some()
            && dims.iter().product::<usize>() == data.elements()
    };
    match dims.filter(fits) {
        Some(dims) => {
            if data.elements() == 0 {
                spend(network, &dims)?;
            }
            Ok(Some(data.reshaped(dims)))
        }
        None => Err(Fault::invalid("its shape has another number of elements")),
    }
}

fn transpose(call: &Call) -> Folded {
    let data = call.constant(0)?;
    let rank = data.dims.len();
    let order: Vec<usize> = match call.ints("perm")? {
        Some(listed) => {
            let order = listed.iter().map(|&one| axis(one, rank)).collect::<Result<Vec<_>, _>>()?;
            if axes(&listed, rank)?.len() != rank {
                return Err(Fault::invalid("its perm names not all axes"));
            }
            order
        }
        None => (0..rank).rev().collect(),
    };
    Ok(data.transposed(&order))
}

fn tile(call: &Call, network: &mut Network) -> Folded {
    let (data, repeats) = (call.constant(0)?, call.constant(1)?.to_ints()?);
    if repeats.len() != data.dims.len() {
        return Err(Fault::invalid("it has not one number of repeats for each axis"));
    }
    let mut dims = vec![];
    for (&dim, &repeat) in data.dims.iter().zip(&repeats) {
        let repeat = usize::try_from(repeat)
            .map_err(|_| Fault::invalid(format!("it repeats {repeat} times")))?;
        dims.push(dim.saturating_mul(repeat));
    }
    spend(network, &dims)?;
    let steps = strides(&data.dims);
    let mut picked = vec![0];
    for (axis, &size) in dims.iter().enumerate() {
        let (own, step) = (data.dims[axis], steps[axis]);
        let along = |place: usize| (0..size).map(move |i| place + i % own * step);
        picked = picked.into_iter().flat_map(along).collect();
    }
    if dims.contains(&0) {
        picked.clear();
    }
    Ok(data.pick(dims, &picked))
}

fn split(call: &Call) -> Outputs {
    let data = call.constant(0)?;
    let axis = axis(call.int("axis", 0)?, data.dims.len())?;
    let mut start = 0;
    let mut outputs = vec![];
    for size in split_sizes(call, data.dims[axis] as u32)? {
        let mut ranges = vec![None; data.dims.len()];
        ranges[axis] = Some(Range { start, step: 1, count: size });
        start += i64::from(size);
        outputs.push(Tensor::constant(sliced(&data, &ranges)));
    }
    Ok(outputs)
}
