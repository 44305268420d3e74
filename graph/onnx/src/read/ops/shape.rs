//! Operators that only move numbers: most change the view of a tensor and add no node.

use super::super::MAX_RANK;
use super::super::call::{Call, Outputs, Tensor, axes, axis, count};
use super::super::constant::Size;
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::{Axis, View};
use super::slicing::picked;

/// `Identity`, and `Dropout` when it does not train.
pub(super) fn identity(call: &Call, _: &mut Network) -> Outputs {
    let trains = match call.given(2) {
        Some(Tensor::Constant(training)) => training.scalar() == Some(1.0),
        Some(Tensor::View(_) | Tensor::Unknown) => true,
        None => false,
    };
    if trains && call.node.op_type == "Dropout" {
        return Err(Fault::unsupported(
            "it drops numbers at random, as in training",
            "export the network in evaluation mode",
        ));
    }
    Ok(vec![call.input(0)?.clone()])
}

pub(super) fn transpose(call: &Call, network: &mut Network) -> Outputs {
    let view = call.view(0, network)?;
    let rank = view.rank();
    let order: Vec<usize> = match call.ints("perm")? {
        Some(listed) if axes(&listed, rank)?.len() == rank => {
            listed.iter().map(|&one| axis(one, rank)).collect::<Result<_, _>>()?
        }
        Some(listed) => {
            return Err(Fault::invalid(format!("its perm {listed:?} does not name all axes")));
        }
        None => (0..rank).rev().collect(),
    };
    Ok(vec![view.transposed(&order).into()])
}

pub(super) fn squeeze(call: &Call, network: &mut Network) -> Outputs {
    let mut view = call.view(0, network)?;
    let remove = match call.setting(1, "axes")? {
        Some(listed) => axes(&listed, view.rank())?,
        None => {
            let one = |axis: &usize| view.sizes()[*axis] == Size::ONE;
            (0..view.rank()).filter(one).collect()
        }
    };
    for axis in remove.into_iter().rev() {
        view = view.squeezed(axis)?;
    }
    Ok(vec![view.into()])
}

pub(super) fn unsqueeze(call: &Call, network: &mut Network) -> Outputs {
    let mut view = call.view(0, network)?;
    let listed = call.setting(1, "axes")?.unwrap_or_default();
    let rank = view.rank() + listed.len();
    if rank > MAX_RANK {
        return Err(Fault::invalid("it makes too many axes"));
    }
    for axis in axes(&listed, rank)? {
        view = view.unsqueezed(axis);
    }
    Ok(vec![view.into()])
}

pub(super) fn flatten(call: &Call, network: &mut Network) -> Outputs {
    let view = call.view(0, network)?;
    let rank = view.rank();
    let at = call.int("axis", 1)?;
    let at = if at == rank as i64 { rank } else { axis(at, rank)? };
    let sizes = view.sizes();
    let product = |sizes: &[Size]| Size {
        known: sizes.iter().map(|size| size.known).product(),
        batch: sizes.iter().any(|size| size.batch),
    };
    let target = [product(&sizes[..at]), product(&sizes[at..])];
    Ok(vec![reshaped(network, &view, &target)?.into()])
}

pub(super) fn reshape(call: &Call, network: &mut Network) -> Outputs {
    let view = call.view(0, network)?;
    let wanted = match call.given(1) {
        Some(_) => call.constant(1)?.to_sizes()?,
        None => {
            let listed = call.ints("shape")?.unwrap_or_default();
            listed.into_iter().map(Size::known).collect()
        }
    };
    if wanted.len() > MAX_RANK {
        return Err(Fault::invalid("it makes too many axes"));
    }
    let copies = call.int("allowzero", 0)? == 0;
    let target = target(network, &view, &wanted, copies)?;
    Ok(vec![reshaped(network, &view, &target)?.into()])
}

/// The same numbers in another shape of as many.
pub(super) fn reshaped(network: &mut Network, view: &View, target: &[Size]) -> Result<View, Fault> {
    if let Some(view) = view.regrouped(target)? {
        return Ok(view);
    }
    // First as the tensor lies in the file, then cut anew.
    let all: Vec<Option<usize>> = (0..view.rank()).map(Some).collect();
    let view = network.arrange(view, &all, false)?;
    let sizes: Result<Vec<u32>, Fault> =
        target.iter().map(|size| count(size.known, "shape")).collect();
    let sizes = sizes?;
    let id = network.reshape(view.id, &sizes)?;
    let of: Vec<Option<usize>> = (0..sizes.len()).map(Some).collect();
    // The same numbers are outside the batch as before.
    let mut outer = view.outside();
    let place = |size: &Size| {
        let own = size.batch.then_some(outer);
        outer /= if outer.is_multiple_of(size.known as u32) { size.known as u32 } else { 1 };
        own
    };
    let batch: Vec<Option<u32>> = target.iter().map(place).collect();
    Ok(View::new(id, &sizes, &of, &batch).with(view.element))
}

/// The sizes that a Reshape to `wanted` gives a tensor, with the batch where it stays: there the
/// file has -1, 0, a size computed from the batch, or the number of examples that it fixes.
fn target(
    network: &Network,
    view: &View,
    wanted: &[Size],
    copies: bool,
) -> Result<Vec<Size>, Fault> {
    let sizes = view.sizes();
    let mut entries = vec![];
    for (place, &size) in wanted.iter().enumerate() {
        entries.push(if size == Size::known(0) && copies {
            let copied = sizes.get(place).copied();
            copied.ok_or_else(|| {
                Fault::invalid(format!("it copies axis {place}, which is missing"))
            })?
        } else {
            size
        });
    }
    let shape = || format!("from {} to {}", network.describe(&sizes), network.describe(wanted));
    let batch = sizes.iter().any(|size| size.batch);
    if !batch || entries.iter().any(|size| size.batch) {
        return resolved(&sizes, &entries).ok_or_else(|| {
            Fault::invalid(format!("its shape does not have as many numbers: {}", shape()))
        });
    }
    let before = i64::from(view.outside());
    let mut running = 1i64;
    let mut candidates = vec![];
    for (place, entry) in entries.iter().enumerate() {
        if running > 0 && before % running == 0 {
            let mut with = entries.clone();
            // The surest first.
            let doubt = match (entry.known, network.batch) {
                (-1, _) => {
                    with[place].batch = true;
                    let rest = resolved(&sizes, &with).map_or(0, |all| all[place].known);
                    if rest == 1 { 1 } else { 4 }
                }
                (known, None) => {
                    with[place].batch = true;
                    if known == 1 { 2 } else { i64::MAX }
                }
                (known, Some(batch)) => {
                    let batch = i64::from(batch);
                    with[place] = Size::batch(known / batch);
                    match known % batch {
                        0 if known == batch => 0,
                        0 => 3,
                        _ => i64::MAX,
                    }
                }
            };
            if doubt < i64::MAX {
                candidates.push((doubt, with));
            }
        }
        running = running.saturating_mul(entry.known.max(0));
    }
    candidates.sort_by_key(|(doubt, _)| *doubt);
    let fits = candidates.into_iter().find_map(|(_, with)| {
        resolved(&sizes, &with).filter(|target| view.regrouped(target).is_ok())
    });
    fits.ok_or_else(|| Fault::batch(format!("it reshapes {}", shape())))
}

/// With the size that -1 stands for; `None` if there is none that fits.
fn resolved(sizes: &[Size], entries: &[Size]) -> Option<Vec<Size>> {
    let product = |sizes: &[Size]| {
        sizes.iter().try_fold((1i64, 0), |(known, batches), size| {
            Some((known.checked_mul(size.known)?, batches + i32::from(size.batch)))
        })
    };
    let (all, batches) = product(sizes)?;
    let said: Vec<Size> = entries.iter().copied().filter(|size| size.known != -1).collect();
    let (known, own) = product(&said)?;
    let mut target = entries.to_vec();
    let mut open = target.iter_mut().filter(|size| size.known == -1);
    if let Some(size) = open.next() {
        if open.next().is_some() || known <= 0 || all % known != 0 {
            return None;
        }
        size.known = all / known;
        size.batch |= own < batches;
    }
    let fits = product(&target)? == (all, batches);
    (fits && target.iter().all(|size| size.known > 0)).then_some(target)
}

pub(super) fn expand(call: &Call, network: &mut Network) -> Outputs {
    let mut view = call.view(0, network)?;
    let shape = call.constant(1)?.to_sizes()?;
    let rank = shape.len().max(view.rank());
    if rank > MAX_RANK {
        return Err(Fault::invalid("it makes too many axes"));
    }
    (view.rank()..rank).for_each(|_| view.axes.insert(0, Axis::one()));
    for (place, &size) in shape.iter().enumerate() {
        let axis = rank - shape.len() + place;
        let own = view.sizes()[axis];
        if size == Size::ONE || size == own || (own.batch && network.is_batch(size.known)) {
            continue;
        }
        if own != Size::ONE {
            let (a, b) = (network.describe(&view.sizes()), network.describe(&shape));
            return Err(Fault::invalid(format!("it repeats {a} to {b}, which does not fit")));
        }
        if size.batch || (axis == 0 && network.is_batch(size.known) && !has_batch(&view)) {
            if has_batch(&view) {
                return Err(Fault::batch("it repeats numbers along the batch"));
            }
            view.axes[axis].batch = Some(1);
        }
        let times = if size.batch {
            count(size.known, "shape")?
        } else if view.axes[axis].batch.is_some() {
            1
        } else {
            count(size.known, "shape")?
        };
        if times > 1 {
            let batch = std::mem::take(&mut view.axes[axis].batch);
            network.spend(times as usize)?;
            view = picked(network, &view, axis, vec![0; times as usize])?;
            view.axes[axis].batch = batch;
        }
    }
    Ok(vec![view.into()])
}

fn has_batch(view: &View) -> bool {
    view.axes.iter().any(|axis| axis.batch.is_some())
}

pub(super) fn tile(call: &Call, network: &mut Network) -> Outputs {
    let mut view = call.view(0, network)?;
    let repeats = call.constant(1)?.to_ints()?;
    if repeats.len() != view.rank() {
        return Err(Fault::invalid("it has not one number of repeats for each axis"));
    }
    for (axis, &times) in repeats.iter().enumerate() {
        let times = count(times, "number of repeats")?;
        if times == 1 {
            continue;
        }
        if view.axes[axis].batch.is_some() {
            return Err(Fault::batch("it repeats the examples"));
        }
        let size = view.size(axis);
        network.spend((size as usize).saturating_mul(times as usize))?;
        let indices = (0..times).flat_map(|_| 0..size).collect();
        view = picked(network, &view, axis, indices)?;
    }
    Ok(vec![view.into()])
}

/// `DepthToSpace` and `SpaceToDepth`
pub(super) fn depth_to_space(call: &Call, network: &mut Network) -> Outputs {
    let view = call.view(0, network)?;
    let [batch, c, h, w] = four(&view)?;
    let b = block_size(call)?;
    let blocks = b.checked_mul(b).filter(|blocks| c.known % blocks == 0);
    let Some(blocks) = blocks else {
        return Err(Fault::invalid(format!("its blocks of {b}x{b} do not divide {c} channels")));
    };
    let [block, rest] = [b, c.known / blocks].map(Size::known);
    let (split, order) = match call.text("mode", "DCR")? {
        "CRD" => ([batch, rest, block, block, h, w], [0, 1, 4, 2, 5, 3]),
        "DCR" => ([batch, block, block, rest, h, w], [0, 3, 4, 1, 5, 2]),
        other => {
            return Err(Fault::unsupported(
                format!("its mode is {other:?}"),
                "use mode DCR or CRD",
            ));
        }
    };
    let view = reshaped(network, &view, &split)?.transposed(&order);
    let target = [batch, rest, Size::known(h.known * b), Size::known(w.known * b)];
    Ok(vec![reshaped(network, &view, &target)?.into()])
}

pub(super) fn space_to_depth(call: &Call, network: &mut Network) -> Outputs {
    let view = call.view(0, network)?;
    let [batch, c, h, w] = four(&view)?;
    let b = block_size(call)?;
    if h.known % b != 0 || w.known % b != 0 {
        return Err(Fault::invalid(format!("its blocks of {b}x{b} do not divide {h}x{w}")));
    }
    let [block, rows, columns] = [b, h.known / b, w.known / b].map(Size::known);
    let split = [batch, c, rows, block, columns, block];
    let view = reshaped(network, &view, &split)?.transposed(&[0, 3, 5, 1, 2, 4]);
    let target = [batch, Size::known(c.known * b * b), rows, columns];
    Ok(vec![reshaped(network, &view, &target)?.into()])
}

/// Rows and columns of a block, at least 1.
fn block_size(call: &Call) -> Result<i64, Fault> {
    match count(call.int("blocksize", 0)?, "blocksize")? {
        0 => Err(Fault::invalid("its blocksize is 0; a block has at least one row and column")),
        size => Ok(size.into()),
    }
}

fn four(view: &View) -> Result<[Size; 4], Fault> {
    view.sizes().try_into().map_err(|_| Fault::invalid("its input has not four axes"))
}
