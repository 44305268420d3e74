//! `Resize` and the older `Upsample`.

use edgesmith_graph::{Coordinates, Resize, ResizeAxis, ResizeMode, Rounding};
use smallvec::SmallVec;

use super::super::call::{Call, Outputs, axis, count};
use super::super::constant::Size;
use super::super::error::Fault;
use super::super::network::Network;
use super::super::view::View;
use super::interpolation::{Curve, Interpolation, interpolated};

pub(super) fn upsample(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    let scales = match call.optional(1)? {
        Some(scales) => scales.to_floats()?.to_vec(),
        None => call.floats_attribute("scales")?.unwrap_or_default(),
    };
    let mode = mode(call, "floor")?;
    resized(network, &view, &with_scales(&view, &scales)?, mode, Coordinates::Asymmetric)
}

pub(super) fn resize(call: &Call, network: &mut Network) -> Outputs {
    let view = call.floats(0, network)?;
    if call.opset < 11 {
        let scales = call.constant(1)?.to_floats()?;
        let mode = mode(call, "floor")?;
        return resized(
            network,
            &view,
            &with_scales(&view, &scales)?,
            mode,
            Coordinates::Asymmetric,
        );
    }
    let coordinates = match call.text("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => Coordinates::HalfPixel,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "asymmetric" => Coordinates::Asymmetric,
        "align_corners" => Coordinates::AlignCorners,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        other => {
            return Err(Fault::unsupported(
                format!("its coordinate_transformation_mode is {other}"),
                "use one of half_pixel, asymmetric or align_corners",
            ));
        }
    };
    let axes: Vec<usize> = match call.ints("axes")? {
        Some(listed) => {
            listed.iter().map(|&one| axis(one, view.rank())).collect::<Result<_, _>>()?
        }
        None => (0..view.rank()).collect(),
    };
    let given = |input: usize| -> Result<_, Fault> {
        Ok(call.optional(input)?.filter(|constant| constant.elements() > 0))
    };
    let wanted = match (given(3)?, given(2)?) {
        (Some(sizes), _) => {
            let policy = call.text("keep_aspect_ratio_policy", "stretch")?;
            with_sizes(network, &view, &axes, &sizes.to_sizes()?, policy)?
        }
        (None, Some(scales)) => {
            let numbers = scales.to_floats()?;
            if numbers.len() != axes.len() {
                return Err(Fault::invalid("its scales are not one for each axis"));
            }
            let mut all = vec![1.0; view.rank()];
            axes.iter().zip(numbers.iter()).for_each(|(&axis, &scale)| all[axis] = scale);
            // Whether the last positions lie on each other then is seen in two ways.
            let whole = |(size, scale): &(Size, f32)| size.known as f32 * scale % 1.0 == 0.0;
            let mut both = view.sizes().into_iter().zip(all.iter().copied());
            if coordinates == Coordinates::AlignCorners && !both.all(|pair| whole(&pair)) {
                return Err(Fault::unsupported(
                    "it aligns corners at a scale that gives no whole size",
                    "give sizes instead of scales",
                ));
            }
            with_scales(&view, &all)?
        }
        (None, None) => return Err(Fault::invalid("it has neither scales nor sizes")),
    };
    let curve = match call.text("mode", "nearest")? {
        "cubic" => Some(Curve::Cubic(call.float("cubic_coeff_a", -0.75)?.into())),
        "linear" => Some(Curve::Linear),
        _ => None,
    };
    let smooths = call.int("antialias", 0)? != 0;
    if let Some(curve) = curve
        && (smooths || matches!(curve, Curve::Cubic(_)))
    {
        let inside_only = call.int("exclude_outside", 0)? != 0;
        let interpolation = Interpolation { curve, smooths, inside_only, coordinates };
        return interpolated(network, &view, &wanted, interpolation);
    }
    if smooths {
        return Err(Fault::unsupported("it smooths before it resizes", "export without antialias"));
    }
    let mode = mode(call, "round_prefer_floor")?;
    resized(network, &view, &wanted, mode, coordinates)
}

fn mode(call: &Call, nearest: &'static str) -> Result<ResizeMode, Fault> {
    match call.text("mode", "nearest")? {
        "nearest" => {}
        "linear" | "bilinear" => return Ok(ResizeMode::Linear),
        other => {
            return Err(Fault::unsupported(
                format!("it interpolates by {other}"),
                "use mode nearest, linear (bilinear) or cubic",
            ));
        }
    }
    Ok(ResizeMode::Nearest(match call.text("nearest_mode", nearest)? {
        "round_prefer_floor" => Rounding::HalfDown,
        "round_prefer_ceil" => Rounding::HalfUp,
        "floor" => Rounding::Floor,
        "ceil" => Rounding::Ceil,
        other => return Err(Fault::invalid(format!("its nearest_mode is {other:?}"))),
    }))
}

/// New size and scale of each axis.
type Wanted = Vec<(Size, f32)>;

fn with_scales(view: &View, scales: &[f32]) -> Result<Wanted, Fault> {
    if scales.len() != view.rank() {
        return Err(Fault::invalid("its scales are not one for each axis"));
    }
    let one = |(size, &scale): (Size, &f32)| {
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(Fault::invalid(format!("it has a scale of {scale}")));
        }
        let known = (size.known as f32 * scale).floor();
        Ok((Size { known: known as i64, ..size }, scale))
    };
    view.sizes().into_iter().zip(scales).map(one).collect()
}

fn with_sizes(
    network: &Network,
    view: &View,
    axes: &[usize],
    sizes: &[Size],
    policy: &str,
) -> Result<Wanted, Fault> {
    if sizes.len() != axes.len() {
        return Err(Fault::invalid("its sizes are not one for each axis"));
    }
    let own = view.sizes();
    let mut wanted: Wanted = own.iter().map(|&size| (size, 1.0)).collect();
    let scale = |axis: usize, size: Size| size.known as f32 / own[axis].known as f32;
    // The batch stays as it is.
    let pairs = || axes.iter().copied().zip(sizes.iter().copied());
    let scales = || pairs().filter(|&(axis, _)| !own[axis].batch).map(|(a, size)| scale(a, size));
    let common = match policy {
        "stretch" => None,
        "not_larger" => scales().reduce(f32::min),
        "not_smaller" => scales().reduce(f32::max),
        other => return Err(Fault::invalid(format!("its keep_aspect_ratio_policy is {other:?}"))),
    };
    for (axis, size) in pairs() {
        if own[axis].batch {
            // The file may say the number of examples that it fixes, or the one of its export.
            let examples = own[axis].known.saturating_mul(network.batch.unwrap_or(1).into());
            if size != own[axis] && size != Size::known(examples) {
                return Err(Fault::batch("it resizes the batch"));
            }
            continue;
        }
        if size.batch {
            return Err(Fault::batch("its sizes depend on the number of examples"));
        }
        wanted[axis] = match common {
            None => (size, scale(axis, size)),
            Some(scale) => {
                let known = (own[axis].known as f32 * scale).round();
                (Size::known(known as i64), scale)
            }
        };
    }
    Ok(wanted)
}

fn resized(
    network: &mut Network,
    view: &View,
    wanted: &[(Size, f32)],
    mode: ResizeMode,
    coordinates: Coordinates,
) -> Outputs {
    let own = view.sizes();
    let changes = |axis: usize| wanted[axis].0 != own[axis] || wanted[axis].1 != 1.0;
    if !(0..view.rank()).any(changes) {
        return Ok(vec![view.clone().into()]);
    }
    if (0..view.rank()).any(|axis| changes(axis) && own[axis].batch) {
        return Err(Fault::batch("it resizes the batch"));
    }
    // The channels are an axis that stays as it is.
    let still = |axis: &usize| !changes(*axis) && !own[*axis].batch;
    let channels = (1..view.rank()).find(still).or_else(|| Some(0).filter(still));
    let positions: Vec<usize> = (0..view.rank())
        .filter(|&axis| {
            Some(axis) != channels && (changes(axis) || !view.wide(axis).is_empty() || axis > 1)
        })
        .filter(|&axis| !own[axis].batch || !view.wide(axis).is_empty())
        .collect();
    let order: Vec<Option<usize>> =
        std::iter::once(channels).chain(positions.iter().copied().map(Some)).collect();
    let view = network.arrange(view, &order, true)?;
    let axis = |&axis: &usize| -> Result<ResizeAxis, Fault> {
        if changes(axis) {
            let size = count(wanted[axis].0.known, "size")?;
            Ok(ResizeAxis { size, scale: wanted[axis].1, coordinates })
        } else {
            let coordinates = Coordinates::Asymmetric;
            Ok(ResizeAxis { size: view.size(axis), scale: 1.0, coordinates })
        }
    };
    let axes: SmallVec<[ResizeAxis; 2]> = positions.iter().map(axis).collect::<Result<_, _>>()?;
    let id = network.emit(Resize { mode, axes }, &[view.id], &[])?;
    let batch = view.batches();
    Ok(vec![View::new(id, &network.sizes(id), &order, &batch).into()])
}
