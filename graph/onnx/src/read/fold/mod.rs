//! Nodes of which everything is known when the file is read: mostly chains that compute shapes.

mod arithmetic;
mod making;
mod moving;
mod places;

use super::call::{Call, Outputs, Tensor};
use super::constant::{Constant, Size};
use super::error::Fault;
use super::network::Network;

/// What a node computes, if that is known: because its inputs are, or because it asks for a shape.
/// `None` if it has to be computed when the network runs.
pub(super) fn fold(call: &Call, network: &mut Network) -> Option<Outputs> {
    let one = |constant: Result<Constant, Fault>| Some(constant.map(|c| vec![Tensor::constant(c)]));
    match call.node.op_type {
        "Shape" => return one(shape(call)),
        "Size" => return one(size(call)),
        "Constant" => return one(making::constant(call, network)),
        _ => {}
    }
    let known = |input: &Option<Tensor>| !matches!(input, Some(Tensor::View(_)));
    if !call.inputs.iter().all(known) {
        return None;
    }
    // A tensor without numbers also takes time: its other sizes are still counted through.
    for input in call.inputs.iter().flatten() {
        if let Tensor::Constant(constant) = input
            && constant.elements() == 0
            && let Err(fault) = moving::spend(network, &constant.dims)
        {
            return Some(Err(fault));
        }
    }
    moving::fold(call, network).or_else(|| arithmetic::fold(call, network).and_then(one))
}

fn shape(call: &Call) -> Result<Constant, Fault> {
    let sizes = call.input(0)?.sizes();
    let rank = sizes.len() as i64;
    let bound =
        |place: i64| (if place < 0 { place.saturating_add(rank) } else { place }).clamp(0, rank);
    let (start, end) = (bound(call.int("start", 0)?), bound(call.int("end", rank)?));
    let sizes = sizes.get(start as usize..end as usize).unwrap_or_default().to_vec();
    Ok(Constant::sizes(vec![sizes.len()], sizes))
}

fn size(call: &Call) -> Result<Constant, Fault> {
    let sizes = call.input(0)?.sizes();
    let batches = sizes.iter().filter(|size| size.batch).count();
    let known = sizes.iter().try_fold(1i64, |n, size| n.checked_mul(size.known));
    match (known, batches) {
        (Some(known), 0..=1) => {
            Ok(Constant::sizes(vec![], vec![Size { known, batch: batches == 1 }]))
        }
        _ => Err(Fault::invalid("its input is too large")),
    }
}

/// Whether an operator is only read where its result is known.
pub(super) fn is_only_folded(op_type: &str) -> bool {
    matches!(
        op_type,
        "Shape"
            | "Size"
            | "Constant"
            | "ConstantOfShape"
            | "Range"
            | "Trilu"
            | "ScatterND"
            | "GatherND"
            | "Mod"
            | "Floor"
            | "Ceil"
            | "Round"
            | "Sin"
            | "Cos"
            | "ReduceProd"
    )
}
