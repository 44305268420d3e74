//! Known numbers at places that a tensor of indices names.

use std::rc::Rc;

use super::super::call::Call;
use super::super::constant::{Constant, strides};
use super::super::error::Fault;
use super::super::network::Network;
use super::moving::{joined, spend};

type Folded = Result<Constant, Fault>;

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
pub(super) fn scatter(call: &Call, network: &mut Network) -> Folded {
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
pub(super) fn gather(call: &Call, network: &mut Network) -> Folded {
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
