//! `Pad`: with a constant, or with numbers of the tensor itself, which then are chosen by index.

use edgesmith_graph::Pad;
use smallvec::smallvec;

use super::super::call::{Call, Outputs, axis, count};
use super::super::error::Fault;
use super::super::network::Network;
use super::slicing::{picked, resized};

pub(super) fn pad(call: &Call, network: &mut Network) -> Outputs {
    let mut view = call.floats(0, network)?;
    let rank = view.rank();
    let listed = match call.setting(1, "pads")? {
        Some(listed) => listed,
        None => call.ints("paddings")?.unwrap_or_default(),
    };
    let axes: Vec<usize> = match call.optional(3)? {
        Some(axes) => {
            axes.to_ints()?.iter().map(|&one| axis(one, rank)).collect::<Result<_, _>>()?
        }
        None => (0..rank).collect(),
    };
    if listed.len() != 2 * axes.len() {
        return Err(Fault::invalid(format!("its pads {listed:?} are not two for each axis")));
    }
    if listed.iter().any(|pad| pad.unsigned_abs() > 1 << 31) {
        return Err(Fault::invalid("its pads are too large"));
    }
    let value = match call.optional(2)? {
        Some(value) => {
            value.scalar().ok_or_else(|| Fault::invalid("its value is not one number"))?
        }
        None => call.float("value", 0.0)?,
    };
    let mode = call.text("mode", "constant")?;
    // All axes with a constant at once.
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (place, &axis) in axes.iter().enumerate() {
        let (low, high) = (listed[place], listed[axes.len() + place]);
        if (low, high) == (0, 0) {
            continue;
        }
        if view.axes[axis].batch.is_some() {
            return Err(Fault::batch("it pads the batch"));
        }
        let size = i64::from(view.size(axis));
        if mode == "constant" {
            let kept = (-low).clamp(0, size)..(size + high.min(0)).clamp(0, size);
            if kept != (0..size) {
                view = picked(network, &view, axis, kept.map(|index| index as u32).collect())?;
            }
            before[axis] = count(low.max(0), "padding")?;
            after[axis] = count(high.max(0), "padding")?;
        } else {
            let total = size.checked_add(low).and_then(|sum| sum.checked_add(high));
            let total = total.filter(|&total| (1..=1 << 24).contains(&total));
            let total = total.ok_or_else(|| Fault::invalid("its pads are too large"))?;
            let indices = (0..total).map(|place| source(mode, place - low, size));
            view = picked(network, &view, axis, indices.collect::<Result<_, _>>()?)?;
        }
    }
    let padded: Vec<usize> =
        (0..rank).filter(|&axis| before[axis] > 0 || after[axis] > 0).collect();
    if padded.is_empty() {
        return Ok(vec![view.into()]);
    }
    for &axis in &padded {
        view = network.along(&view, axis)?.0;
    }
    let layout = view.layout().expect("it is tidy");
    let mut pad = Pad { before: smallvec![], after: smallvec![], value };
    for of in &layout {
        pad.before.push(of.map_or(0, |axis| before[axis]));
        pad.after.push(of.map_or(0, |axis| after[axis]));
    }
    let id = network.emit(pad, &[view.id], &[])?;
    Ok(vec![resized(network, &view, id).into()])
}

/// The index whose number stands at a place, which is counted from the first one and may be before
/// 0 or beyond the end.
fn source(mode: &str, place: i64, size: i64) -> Result<u32, Fault> {
    let index = match mode {
        "edge" => place.clamp(0, size - 1),
        "wrap" => place.rem_euclid(size),
        "reflect" if size == 1 => 0,
        "reflect" => {
            let period = 2 * (size - 1);
            let at = place.rem_euclid(period);
            at.min(period - at)
        }
        other => {
            return Err(Fault::unsupported(
                format!("its mode is {other}"),
                "use mode constant, reflect, edge or wrap",
            ));
        }
    };
    Ok(index as u32)
}
