//! Known numbers moved, repeated, chosen and made.

use std::rc::Rc;

use super::super::call::{Call, Outputs, Tensor, axes, axis};
use super::super::constant::{Constant, Data, Size, places, strides};
use super::super::error::Fault;
use super::super::network::Network;
use super::super::ops::shape::{Range, slices, split_sizes};

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
        "Expand" => return expand(call, network),
        "Tile" => tile(call, network),
        "Range" => range(call, network),
        "ConstantOfShape" => return constant_of_shape(call, network),
        "Split" => return Some(split(call)),
        "Trilu" => trilu(call),
        "ScatterND" => scatter(call, network),
        "GatherND" => gather_places(call, network),
        _ => return None,
    };
    Some(one(folded))
}

fn one(folded: Folded) -> Outputs {
    folded.map(|constant| vec![Tensor::constant(constant)])
}

/// `Constant`, in all of its forms.
pub(super) fn constant(call: &Call) -> Folded {
    if let Some(tensor) = call.tensor("value")? {
        return Ok(tensor);
    }
    if call.has("value_float") {
        return Ok(Constant::floats(vec![], vec![call.float("value_float", 0.0)?]));
    }
    if call.has("value_int") {
        return Ok(Constant::ints(vec![], vec![call.int("value_int", 0)?]));
    }
    if let Some(floats) = call.floats_attribute("value_floats")? {
        return Ok(Constant::floats(vec![floats.len()], floats));
    }
    if let Some(ints) = call.ints("value_ints")? {
        return Ok(Constant::ints(vec![ints.len()], ints));
    }
    Err(Fault::unsupported(
        "its value is text or a sparse tensor",
        "remove it from the network, or export dense numbers",
    ))
}

fn spend(network: &mut Network, dims: &[usize]) -> Result<(), Fault> {
    let elements = dims.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    network.spend(elements.unwrap_or(usize::MAX))
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
    let mut flat = data.dims.clone();
    flat[axis] = indices.len();
    spend(network, &flat)?;
    let mut dims = data.dims[..axis].to_vec();
    dims.extend(&indices_dims);
    dims.extend(&data.dims[axis + 1..]);
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
fn joined(inputs: &[Rc<Constant>]) -> Folded {
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
    let ranges = slices(call, &sizes)?;
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
fn reshape(call: &Call, network: &Network) -> Result<Option<Constant>, Fault> {
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
        dims.iter().try_fold(1usize, |n, &size| n.checked_mul(size)) == Some(data.elements())
            && dims.len() <= super::super::MAX_RANK
    };
    match dims.filter(fits) {
        Some(dims) => Ok(Some(data.reshaped(dims))),
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

/// A constant repeated for every example is a tensor of the network.
fn expand(call: &Call, network: &mut Network) -> Option<Outputs> {
    let of = |network: &mut Network| {
        let (data, shape) = (call.constant(0)?, call.constant(1)?.to_sizes()?);
        repeated(&data, &shape, network)
    };
    Some(of(network))
}

fn constant_of_shape(call: &Call, network: &mut Network) -> Option<Outputs> {
    let of = |network: &mut Network| {
        let shape = call.constant(0)?.to_sizes()?;
        let value = match call.tensor("value")? {
            Some(value) if value.elements() == 1 => value.reshaped(vec![]),
            Some(_) => return Err(Fault::invalid("its value is more than one number")),
            None => Constant::floats(vec![], vec![0.0]),
        };
        repeated(&value, &shape, network)
    };
    Some(of(network))
}

fn repeated(data: &Constant, shape: &[Size], network: &mut Network) -> Outputs {
    let rank = shape.len().max(data.dims.len());
    if rank > super::super::MAX_RANK {
        return Err(Fault::invalid("it makes too many axes"));
    }
    let mut batch = vec![None; rank];
    let mut dims = vec![1; rank];
    for (axis, size) in shape.iter().enumerate() {
        let axis = rank - shape.len() + axis;
        batch[axis] = size.batch.then_some(1);
        dims[axis] = usize::try_from(size.known)
            .map_err(|_| Fault::invalid(format!("its shape has a size of {size}")))?;
    }
    for (axis, &dim) in data.dims.iter().enumerate() {
        let axis = rank - data.dims.len() + axis;
        if dims[axis] == 1 && batch[axis].is_none() {
            dims[axis] = dim;
        } else if batch[axis].is_some() && dim != 1 {
            return Err(Fault::batch("it repeats numbers along the batch"));
        }
    }
    spend(network, &dims)?;
    let repeated = data.broadcast(&dims);
    let repeated = repeated.ok_or_else(|| Fault::invalid("its shape does not fit its input"))?;
    if batch.iter().any(Option::is_some) {
        return Ok(vec![network.constant_with(&repeated, &batch)?.into()]);
    }
    Ok(vec![Tensor::constant(repeated)])
}

fn tile(call: &Call, network: &mut Network) -> Folded {
    let (data, repeats) = (call.constant(0)?, call.constant(1)?.to_ints()?);
    if repeats.len() != data.dims.len() {
        return Err(Fault::invalid("it has not one number of repeats for each axis"));
    }
    let mut dims = vec![];
    for (&dim, &repeat) in data.dims.iter().zip(&repeats) {
        let repeat = usize::try_from(repeat).map_err(|_| Fault::invalid("it repeats -1 times"))?;
        dims.push(dim.checked_mul(repeat).unwrap_or(usize::MAX));
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

fn range(call: &Call, network: &mut Network) -> Folded {
    let [start, limit, step] = [call.constant(0)?, call.constant(1)?, call.constant(2)?];
    if let Data::Float(_) = start.data {
        let number =
            |c: &Constant| c.scalar().ok_or_else(|| Fault::invalid("it needs three numbers"));
        let [start, limit, step] = [number(&start)?, number(&limit)?, number(&step)?];
        let count = ((limit - start) / step).ceil().max(0.0);
        if !count.is_finite() {
            return Err(Fault::invalid("it never ends"));
        }
        network.spend(count as usize)?;
        let numbers = (0..count as usize).map(|i| start + i as f32 * step).collect();
        return Ok(Constant::floats(vec![count as usize], numbers));
    }
    let number = |c: &Constant| {
        let numbers = c.to_ints()?;
        numbers.first().copied().ok_or_else(|| Fault::invalid("it needs three numbers"))
    };
    let data_type = start.data_type;
    let [start, limit, step] = [number(&start)?, number(&limit)?, number(&step)?].map(i128::from);
    if step == 0 {
        return Err(Fault::invalid("its step is 0"));
    }
    let count = ((limit - start + step - step.signum()) / step).max(0);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    network.spend(count)?;
    let numbers = (0..count as i128).map(|i| (start + i * step) as i64).collect();
    Ok(Constant::ints(vec![count], numbers).of_type(data_type))
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

/// The start of the block that each row of indices names, and the size of these blocks.
fn blocks(data: &Constant, indices: &Constant) -> Result<(Vec<usize>, usize), Fault> {
    let wrong = || Fault::invalid("its indices do not fit its input");
    let depth = *indices.dims.last().ok_or_else(wrong)?;
    if depth == 0 || depth > data.dims.len() {
        return Err(wrong());
    }
    let steps = strides(&data.dims);
    let start = |row: &[i64]| {
        let mut start = 0;
        for (axis, &index) in row.iter().enumerate() {
            let size = data.dims[axis] as i64;
            let index = if index < 0 { index.checked_add(size) } else { Some(index) };
            let index = index.filter(|index| (0..size).contains(index)).ok_or_else(wrong)?;
            start += index as usize * steps[axis];
        }
        Ok(start)
    };
    let starts = indices.to_ints()?.chunks_exact(depth).map(start).collect::<Result<_, Fault>>()?;
    Ok((starts, data.dims[depth..].iter().product()))
}

/// The data with blocks replaced by updates.
fn scatter(call: &Call, network: &mut Network) -> Folded {
    let [data, indices, updates] = [call.constant(0)?, call.constant(1)?, call.constant(2)?];
    if !matches!(call.text("reduction", "none")?, "none" | "") {
        return Err(Fault::unsupported("it combines numbers", "simplify the network with onnxsim"));
    }
    let (starts, size) = blocks(&data, &indices)?;
    if starts.len() * size != updates.elements() {
        return Err(Fault::invalid("its updates are not as many as its indices name"));
    }
    spend(network, &data.dims)?;
    // Picked from the data, and behind them the updates.
    let all = joined(&[Rc::clone(&data), updates])?;
    let mut places: Vec<usize> = (0..data.elements()).collect();
    for (row, start) in starts.into_iter().enumerate() {
        let first = data.elements() + row * size;
        (0..size).for_each(|place| places[start + place] = first + place);
    }
    Ok(all.pick(data.dims.clone(), &places))
}

/// `GatherND`
fn gather_places(call: &Call, network: &mut Network) -> Folded {
    let (data, indices) = (call.constant(0)?, call.constant(1)?);
    if call.int("batch_dims", 0)? != 0 {
        return Err(Fault::unsupported("it has batch_dims", "simplify the network with onnxsim"));
    }
    let (starts, size) = blocks(&data, &indices)?;
    let depth = indices.dims.len() - 1;
    let mut dims = indices.dims[..depth].to_vec();
    dims.extend(&data.dims[indices.dims[depth]..]);
    spend(network, &dims)?;
    let places: Vec<usize> = starts.iter().flat_map(|&start| start..start + size).collect();
    Ok(data.pick(dims, &places))
}

/// The upper or lower triangle of matrices; the rest is 0.
fn trilu(call: &Call) -> Folded {
    let data = call.constant(0)?;
    let k = match call.optional(1)? {
        Some(k) => k.to_ints()?.first().copied().unwrap_or(0),
        None => 0,
    };
    let upper = call.int("upper", 1)? != 0;
    let [.., rows, columns] = data.dims[..] else {
        return Err(Fault::invalid("its input is no matrix"));
    };
    let kept = |place: usize| {
        let (row, column) = (place / columns % rows, place % columns);
        let beyond = (column as i64).saturating_sub(row as i64);
        if upper { beyond >= k } else { beyond <= k }
    };
    let dims = data.dims.clone();
    Ok(match &data.data {
        Data::Float(numbers) => {
            let number = |(place, &x): (usize, &f32)| if kept(place) { x } else { 0.0 };
            Constant::floats(dims, numbers.iter().enumerate().map(number).collect())
        }
        Data::Bool(truths) => {
            let truth = |(place, &x): (usize, &bool)| kept(place) && x;
            Constant::bools(dims, truths.iter().enumerate().map(truth).collect())
        }
        Data::Int(_) | Data::Sizes(_) => {
            let numbers = data.to_ints()?;
            let number = |(place, &x): (usize, &i64)| if kept(place) { x } else { 0 };
            Constant::ints(dims, numbers.iter().enumerate().map(number).collect())
                .of_type(data.data_type)
        }
    })
}
