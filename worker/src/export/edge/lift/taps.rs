//! The resize whose positions a model lists. A model says which old positions make a new one and
//! how much each counts, and no longer why.

use edgesmith_edge_runtime::Taps;
use edgesmith_graph::{Coordinates, Resize, ResizeAxis, ResizeMode, Rounding};

/// Every mode. Nearest neighbours come first: they are the plainer one of two with the same taps.
const MODES: [ResizeMode; 5] = [
    ResizeMode::Nearest(Rounding::HalfDown),
    ResizeMode::Nearest(Rounding::HalfUp),
    ResizeMode::Nearest(Rounding::Floor),
    ResizeMode::Nearest(Rounding::Ceil),
    ResizeMode::Linear,
];

/// All ways in which coordinates are meant; the usual ones first.
const COORDINATES: [Coordinates; 5] = [
    Coordinates::HalfPixel,
    Coordinates::Asymmetric,
    Coordinates::AlignCorners,
    Coordinates::PytorchHalfPixel,
    Coordinates::HalfPixelSymmetric,
];

/// A resize of a value with `space` positions that has these taps; `None` if there is none.
/// `weights` makes a model's weights of the shares of both old positions, and `whole` is the weight
/// of all.
pub(super) fn resize<W: Copy + PartialEq + Into<f64>>(
    axes: &[Vec<Taps<W>>],
    space: &[u32],
    weights: &dyn Fn([f64; 2]) -> [W; 2],
    whole: W,
) -> Option<Resize> {
    let scales: Vec<Vec<f32>> =
        axes.iter().zip(space).map(|(taps, &size)| scales(taps, size, whole)).collect();
    MODES.into_iter().find_map(|mode| {
        let axis = |place: usize| {
            let (taps, input) = (&axes[place], space[place]);
            let candidates = scales[place]
                .iter()
                .flat_map(|&scale| COORDINATES.map(|coordinates| (scale, coordinates)));
            let size = taps.len() as u32;
            let mut candidates =
                candidates.map(|(scale, coordinates)| ResizeAxis { size, scale, coordinates });
            candidates.find(|axis| has(axis, mode, input, taps, weights))
        };
        let axes: Option<_> = (0..axes.len()).map(axis).collect();
        Some(Resize { mode, axes: axes? })
    })
}

/// For each new position, the only old one that makes it; `None` if two make one.
pub(super) fn indices<W: Copy + PartialEq>(taps: &[Taps<W>], whole: W) -> Option<Vec<u32>> {
    let index = |taps: &Taps<W>| match taps.weights {
        [first, _] if first == whole => Some(taps.indices[0]),
        [_, second] if second == whole => Some(taps.indices[1]),
        _ => None,
    };
    taps.iter().map(index).collect()
}

/// Whether an axis has these taps.
fn has<W: Copy + PartialEq>(
    axis: &ResizeAxis,
    mode: ResizeMode,
    input: u32,
    taps: &[Taps<W>],
    weights: &dyn Fn([f64; 2]) -> [W; 2],
) -> bool {
    axis.taps(mode, input)
        .iter()
        .zip(taps)
        .all(|([a, b], taps)| taps.indices == [a.0, b.0] && taps.weights == weights([a.1, b.1]))
}

/// Scales that an axis may have been made with: the quotient of the sizes, and near the one that
/// its positions tell, since a scale need not be the quotient.
fn scales<W: Copy + PartialEq + Into<f64>>(taps: &[Taps<W>], input: u32, whole: W) -> Vec<f32> {
    let mut scales = vec![taps.len() as f32 / input as f32];
    let whole: f64 = whole.into();
    let at = |place: usize| {
        let Taps { indices: [a, b], weights: [first, second] } = taps[place];
        (f64::from(a) * first.into() + f64::from(b) * second.into()) / whole
    };
    // Positions at the border may stand for any that are outside.
    let last = f64::from(input - 1);
    let inside: Vec<usize> =
        (0..taps.len()).filter(|&place| at(place) > 0.0 && at(place) < last).collect();
    let (Some(&first), Some(&second)) = (inside.first(), inside.last()) else { return scales };
    let step = (at(second) - at(first)) / (second as f64 - first as f64);
    if !(step.is_finite() && step > 0.0) {
        return scales;
    }
    let told = 1.0 / step;
    for digits in 0..6 {
        let tenths = 10f64.powi(digits);
        scales.push(((told * tenths).round() / tenths) as f32);
    }
    let (mut below, mut above) = (told as f32, told as f32);
    for _ in 0..8 {
        scales.extend([below, above]);
        (below, above) = (below.next_down(), above.next_up());
    }
    scales.retain(|scale| *scale > 0.0 && scale.is_finite());
    scales
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also where the scale is not the quotient of the sizes.
    #[test]
    fn a_resize_is_found_by_its_taps() {
        let mut found = [0, 0];
        for mode in MODES {
            for coordinates in COORDINATES {
                for (input, scale) in [(6, 2.0), (7, 1.3), (9, 0.6), (5, 2.75), (8, 0.5), (1, 3.0)]
                {
                    let size = (input as f32 * scale) as u32;
                    let axis = ResizeAxis { size, scale, coordinates };
                    let taps = axis.taps(mode, input).into_iter();
                    let shares = |[a, b]: [f64; 2]| [a as f32, b as f32];
                    let taps: Vec<Taps<f32>> = taps
                        .map(|[a, b]| Taps { indices: [a.0, b.0], weights: shares([a.1, b.1]) })
                        .collect();
                    let made = resize(std::slice::from_ref(&taps), &[input], &shares, 1.0);
                    let linear = usize::from(mode == ResizeMode::Linear);
                    found[linear] += 1;
                    let Some(made) = made else {
                        // Nearest neighbours are at least a choice of positions.
                        assert!(linear == 0 && indices(&taps, 1.0).is_some(), "{axis:?}");
                        found[linear] -= 1;
                        continue;
                    };
                    assert!(has(&made.axes[0], made.mode, input, &taps, &shares), "{axis:?}");
                }
            }
        }
        assert!(found[0] > 80 && found[1] == 30, "{found:?}");
    }

    #[test]
    fn what_no_resize_has_is_not_found() {
        let taps = |shares: [f32; 3]| -> Vec<Taps<f32>> {
            shares.map(|share| Taps { indices: [0, 1], weights: [1.0 - share, share] }).into()
        };
        let shares = |[a, b]: [f64; 2]| [a as f32, b as f32];
        let uneven = taps([0.1, 0.5, 0.6]);
        assert_eq!(resize(std::slice::from_ref(&uneven), &[2], &shares, 1.0), None);
        assert_eq!(indices(&uneven, 1.0), None);
        assert_eq!(indices(&taps([1.0, 0.0, 1.0]), 1.0), Some(vec![1, 0, 1]));
    }
}
