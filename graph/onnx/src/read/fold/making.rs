//! Known numbers that are made: given in the file, repeated, or counted.

use super::super::MAX_RANK;
use super::super::call::{Call, Outputs, Tensor};
use super::super::constant::{Constant, Data, Size};
use super::super::error::Fault;
use super::super::network::Network;
use super::moving::spend;

type Folded = Result<Constant, Fault>;

/// `Constant`, in all of its forms.
pub(super) fn constant(call: &Call, network: &mut Network) -> Folded {
    if let Some(tensor) = call.tensor("value")? {
        if call.is_beside("value") {
            network.credit(tensor.elements(), call.beside.bytes());
        }
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

/// A constant repeated for every example is a tensor of the network.
pub(super) fn expand(call: &Call, network: &mut Network) -> Option<Outputs> {
    let of = |network: &mut Network| {
        let (data, shape) = (call.constant(0)?, call.constant(1)?.to_sizes()?);
        repeated(&data, &shape, network)
    };
    Some(of(network))
}

pub(super) fn constant_of_shape(call: &Call, network: &mut Network) -> Option<Outputs> {
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
    if rank > MAX_RANK {
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

pub(super) fn range(call: &Call, network: &mut Network) -> Folded {
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

/// The upper or lower triangle of matrices; the rest is 0.
pub(super) fn trilu(call: &Call) -> Folded {
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
